"""Put a gate's report on its pull request, as one comment: ``nox -s comment -- DIRECTORY``.

It runs in a job that may write to pull requests, on a report that a stranger's code has written.
So nothing in the report is believed: its size and schema are checked, the headline is put together
again, every text is escaped, and which pull request it is for comes from the event that GitHub sent,
never from the report. Its figures can still be lies: the comment informs, the gate's job decides.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..command import exit_code
from ..github import gh
from ..repository import MeasurementError
from .exact import Finding
from .report import markdown
from .result import CaseTime, Result
from .verdict import Plan, Verdict

LARGEST = 1_000_000  # bytes; a report of the default cases has 20,000
LONGEST = 60_000  # characters; GitHub refuses a comment of 65,536
MARKER = "<!-- benchmarks.gate.comment {name} -->"
DEVICES = ("cpu", "cuda")
SCHEMA = Path(__file__).with_name("report.schema.json")


def read_report(path: Path) -> Result:
    """The result that a ``report.json`` of unknown origin describes.

    Raises:
        MeasurementError: it is too large, no JSON, or not of the schema.
    """
    import jsonschema  # asv imports every module here, in an environment that lacks it

    if path.is_symlink() or not path.is_file():
        raise MeasurementError(f"{path.name} is no file")
    size = path.stat().st_size
    if size > LARGEST:
        raise MeasurementError(f"{path.name} has {size:,} bytes; a report has less than {LARGEST:,}")
    try:
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_no_constant)
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    except jsonschema.ValidationError as error:
        raise MeasurementError(f"{path.name} is not of the schema: {error.json_path}") from None
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"{path.name} is no JSON: {type(error).__name__}") from None
    return _result(document)


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _result(document: Mapping[str, Any]) -> Result:
    plan = {**document["plan"], "looks": tuple(document["plan"]["looks"])}
    try:
        return Result(
            base=document["base"],
            head=document["head"],
            distance=document["distance"],
            plan=Plan(**plan),
            findings=[Finding(**finding) for finding in document["findings"]],
            times=[_case_time(time) for time in document["times"]],
            accepted=document["accepted"],
            about=document["about"],
            same_subject=document["same_subject"],
            untimed=document.get("untimed", False),
        )
    except ValueError as error:
        raise MeasurementError(f"the report contradicts itself: {error}") from None


def _case_time(fields: Mapping[str, Any]) -> CaseTime:
    parsed = {"verdict": _verdict(fields["verdict"]), "counters": tuple(fields["counters"])}
    return CaseTime(**{**fields, **parsed})


def _verdict(fields: Mapping[str, Any]) -> Verdict:
    """JSON has null where a figure is not finite."""
    unknown = {"ratio": math.nan, "low": 0.0, "high": math.inf, "p": 1.0, "noise": math.nan, "level": 0.0}
    filled: dict[str, Any] = {k: unknown[k] if value is None else value for k, value in fields.items()}
    return Verdict(**filled)


def comment_text(directory: Path, run_url: str) -> str:
    """What the comment says of all reports in ``directory``: ``gate-cpu/report.json`` and so on."""
    parts = []
    for device in DEVICES:
        path = directory / f"gate-{device}" / "report.json"
        if not path.exists():
            continue
        try:
            parts.append(markdown(read_report(path)).strip())
        except MeasurementError as error:
            parts.append(f"**Could not measure**: the report for {device} was not accepted ({error}).")
    if not parts:
        parts.append("**Could not measure**: the gate ended without a report.")
    text = "\n\n".join(parts)
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit("\n", 1)[0] + "\n\n</details>\n\nThe rest is in the run's artifact."
    return f"{text}\n\n[The run and its artifacts]({run_url})\n\n{MARKER.format(name='gate')}\n"


def pull_request(event: Mapping[str, Any]) -> int | None:
    """Number of the open pull request whose head is the commit that was measured; None: there is none."""
    run, repository = event["workflow_run"], event["repository"]["full_name"]
    # The event lists no pull requests of forks; the branch of the head repository leads to them.
    head = f"{run['head_repository']['owner']['login']}:{run['head_branch']}"
    found = gh("--method", "GET", "-f", f"head={head}", "-f", "state=open", f"repos/{repository}/pulls")
    numbers = [int(pull["number"]) for pull in found if pull["head"]["sha"] == run["head_sha"]]
    return numbers[0] if numbers else None


def publish(text: str, number: int, repository: str) -> str:
    """Write the comment, or bring the one that is there up to date; its address."""
    marker = MARKER.format(name="gate")
    pages = gh("--paginate", "--slurp", f"repos/{repository}/issues/{number}/comments?per_page=100")
    for comment in (comment for page in pages for comment in page):
        if comment["user"]["login"] == "github-actions[bot]" and marker in comment["body"]:
            path = f"repos/{repository}/issues/comments/{comment['id']}"
            return str(gh("--method", "PATCH", path, body={"body": text})["html_url"])
    path = f"repos/{repository}/issues/{number}/comments"
    return str(gh("--method", "POST", path, body={"body": text})["html_url"])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: published, or there is nothing to publish on; 2: could not."""
    parser = argparse.ArgumentParser(prog="nox -s comment --", description=__doc__)
    parser.add_argument("directory", type=Path, help="holds the artifacts: gate-cpu/report.json")
    parser.add_argument("--print", action="store_true", help="show the comment and send nothing")
    args = parser.parse_args(argv)
    if args.print:
        print(comment_text(args.directory, "https://github.com"))
        return 0
    return exit_code("comment", lambda: print(_published(args.directory)))


def _published(directory: Path) -> str:
    """Put the reports in ``directory`` on the pull request of the event that this job was started by."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if path is None:
        raise ValueError("GITHUB_EVENT_PATH is not set; outside of GitHub use --print")
    event = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        number = pull_request(event)
        if number is None:
            return "comment: no open pull request has this commit as its head any more; nothing to do"
        text = comment_text(directory, event["workflow_run"]["html_url"])
        return publish(text, number, event["repository"]["full_name"])
    except KeyError as error:
        raise MeasurementError(f"the event, or what GitHub answered, has no {error}") from None


if __name__ == "__main__":
    sys.exit(main())

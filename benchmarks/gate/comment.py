"""Put a gate's report on its pull request, as one comment: ``nox -s comment -- DIRECTORY``.

It runs in a job that may write to pull requests, on a report that a stranger's code has written.
So nothing in the report is believed: its size and schema are checked, the headline is put together
again, every text is escaped, and which pull request it is for comes from the event that GitHub sent,
never from the report. How the job ended comes from there too, and GitHub lists what the pull request changes
of the ruler. The report's figures can still be lies: the comment informs, the gate's job decides.
Each device has a comment of its own.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema

from ..command import exit_code, say
from ..files import DamagedFileError, read_bytes
from ..github import gh
from ..repository import MeasurementError
from ..suite.workloads import DEVICES
from . import caveats
from .comparison import Finding
from .report import markdown
from .result import NO_REGRESSION, REGRESSION, CaseTime, Result
from .verdict import Plan, Verdict

LARGEST = 1_000_000  # bytes; a report of the default cases has 20,000
LONGEST = 60_000  # characters; GitHub refuses a comment of 65,536
MARKER = "<!-- benchmarks.gate.comment {device} -->"
CHECK = "gate-{device}"  # the status of a commit whose measurement somebody started
MOST_FILES = 3000  # of a pull request, that GitHub lists
# The exit code that such a job has not had; an undecided gate may end in either way.
NEVER = {"success": REGRESSION, "failure": NO_REGRESSION}
SCHEMA = Path(__file__).with_name("report.schema.json")


def read_report(path: Path, ended: str | None = None) -> Result:
    """The result that a ``report.json`` of unknown origin describes.

    Args:
        ended: how GitHub says that the gate's job did.

    Raises:
        MeasurementError: it is no file, too large, no JSON, not of the schema, or contradicts ``ended``.
    """
    try:
        content = read_bytes(path, LARGEST)
    except DamagedFileError as error:  # whoever reads the comment needs no path of the runner
        raise MeasurementError(f"{path.name} {error.why}") from None
    try:
        document = json.loads(content.decode(), parse_constant=_no_constant)
        jsonschema.validate(document, json.loads(SCHEMA.read_text(encoding="utf-8")))
    except jsonschema.ValidationError as error:
        raise MeasurementError(f"{path.name} is not of the schema: {error.json_path}") from None
    except (ValueError, RecursionError) as error:
        raise MeasurementError(f"{path.name} is no JSON: {type(error).__name__}") from None
    result = _result(document)
    if ended and result.exit_code == NEVER.get(ended):
        raise MeasurementError(f"it contradicts the check, which is a {ended}")
    return result


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
    parsed = {
        "verdict": _verdict(fields["verdict"]),
        "counters": tuple(fields["counters"]),
        "grown": tuple(fields.get("grown", ())),
    }
    return CaseTime(**{**fields, **parsed})


def _verdict(fields: Mapping[str, Any]) -> Verdict:
    """JSON has null where a figure is not finite."""
    unknown = {"ratio": math.nan, "low": 0.0, "high": math.inf, "p": 1.0, "noise": math.nan, "level": 0.0}
    filled: dict[str, Any] = {k: unknown[k] if value is None else value for k, value in fields.items()}
    return Verdict(**filled)


def comment_text(
    directory: Path, device: str, run_url: str, *, ended: str | None = None, changed: str | None = None
) -> str:
    """What the comment says of ``directory/gate-DEVICE/report.json``.

    Args:
        ended: see ``read_report``.
        changed: what GitHub says of the ruler, empty where it is base's; None: what the report says of it.
    """
    path = directory / f"gate-{device}" / "report.json"
    try:
        if os.path.lexists(path):
            result = read_report(path, ended)
            if changed is not None:
                about = {name: said for name, said in result.about.items() if name != "ruler"}
                result = replace(result, about={**about, **({"ruler": changed} if changed else {})})
            text = markdown(result).strip()
        else:
            text = "**Could not measure**: the gate ended without a report."
    except MeasurementError as error:
        text = f"**Could not measure**: the report for {device} was not accepted ({error})."
    if len(text) > LONGEST:
        text = text[:LONGEST].rsplit("\n", 1)[0] + "\n\n</details>\n\nThe rest is in the run's artifact."
    return f"{text}\n\n[The run and its artifacts]({run_url})\n\n{MARKER.format(device=device)}\n"


def measured(event: Mapping[str, Any]) -> tuple[str, str]:
    """The commit that was measured, and the page of the run that did.

    Raises:
        ValueError: a run that was started by hand names no commit.
    """
    if "workflow_run" in event:
        return event["workflow_run"]["head_sha"], event["workflow_run"]["html_url"]
    commit = event["inputs"]["commit"]
    if not re.fullmatch("[0-9a-f]{40}", commit):
        raise ValueError(f"{commit!r} is no commit: write all 40 digits of its SHA")
    return commit, f"{event['repository']['html_url']}/actions/runs/{os.environ['GITHUB_RUN_ID']}"


def pull_requests(commit: str, repository: str) -> list[int]:
    """Numbers of the open pull requests whose head is ``commit``.

    GitHub's event lists no pull request of a fork, and its ``head_repository`` is null where the fork
    is deleted. So the commit is looked for among all that are open.
    """
    pages = gh("--paginate", "--slurp", f"repos/{repository}/pulls?state=open&per_page=100")
    return [int(pull["number"]) for page in pages for pull in page if pull["head"]["sha"] == commit]


def ruler_of(number: int, repository: str) -> str:
    """What differs from base in the ruler that a pull request brings; empty where nothing does."""
    pages = gh("--paginate", "--slurp", f"repos/{repository}/pulls/{number}/files?per_page=100")
    files = [file for page in pages for file in page]
    if len(files) >= MOST_FILES:
        return f"may differ from base: GitHub lists only {MOST_FILES} of the files that are changed"
    names = {file.get(name) or "" for file in files for name in ("filename", "previous_filename")}
    found = sorted(name for name in names if name.partition("/")[0] in caveats.RULER)
    return caveats.in_words(found) if found else ""


def publish(text: str, device: str, number: int, repository: str) -> str:
    """Write the comment, or bring the one that is there up to date; its address."""
    marker = MARKER.format(device=device)
    pages = gh("--paginate", "--slurp", f"repos/{repository}/issues/{number}/comments?per_page=100")
    for comment in (comment for page in pages for comment in page):
        author = (comment["user"] or {}).get("login")  # who deleted their account is null
        if author == "github-actions[bot]" and marker in (comment["body"] or ""):
            path = f"repos/{repository}/issues/comments/{comment['id']}"
            return str(gh("--method", "PATCH", path, body={"body": text})["html_url"])
    path = f"repos/{repository}/issues/{number}/comments"
    return str(gh("--method", "POST", path, body={"body": text})["html_url"])


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: published, or there is nothing to publish on; 2: could not."""
    parser = argparse.ArgumentParser(prog="nox -s comment --", description=__doc__)
    parser.add_argument("directory", type=Path, help="holds the artifact: gate-cpu/report.json")
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="whose report it is (cpu)")
    parser.add_argument(
        "--status", choices=("success", "failure"), help="also make this the commit's status gate-DEVICE"
    )
    parser.add_argument("--print", action="store_true", help="show the comment and send nothing")
    args = parser.parse_args(argv)

    def text() -> str:
        if args.print:
            return comment_text(args.directory, args.device, "https://github.com")
        return _published(args.directory, args.device, args.status)

    return exit_code("comment", lambda: say(text()))


def _published(directory: Path, device: str, status: str | None) -> str:
    """Put the report in ``directory`` on the pull request of the event that this job was started by."""
    path = os.environ.get("GITHUB_EVENT_PATH")
    if path is None:
        raise ValueError("GITHUB_EVENT_PATH is not set; outside of GitHub use --print")
    event = json.loads(Path(path).read_text(encoding="utf-8"))
    try:
        (commit, run_url), repository = measured(event), event["repository"]["full_name"]
        if status:
            body = {"state": status, "context": CHECK.format(device=device), "target_url": run_url}
            gh("--method", "POST", f"repos/{repository}/statuses/{commit}", body=body)
        ended, written = status or event["workflow_run"]["conclusion"], []
        for number in pull_requests(commit, repository):
            changed = ruler_of(number, repository)
            text = comment_text(directory, device, run_url, ended=ended, changed=changed)
            written.append(publish(text, device, number, repository))
        return "\n".join(written) or "comment: no open pull request has this commit as its head any more"
    except KeyError as error:
        raise MeasurementError(f"the event, or what GitHub answered, has no {error}") from None


if __name__ == "__main__":
    sys.exit(main())

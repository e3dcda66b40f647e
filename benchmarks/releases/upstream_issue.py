"""Make an issue of what ``upstream`` found: ``nox -s upstream_issue -- DIRECTORY``.

It runs in a job that may write issues, apart from the one that runs LeRobot's newest code: that one's
reports are read as data, and every text in them is escaped. DIRECTORY holds them as NAME/upstream.json.
Exit codes (through nox 0 or 1): 0 the issue says it or all is well, 2 could not.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..command import exit_code, say
from ..files import DamagedFileError, read_object
from ..github import close_issue, open_or_update_issue
from ..markdown import render
from ..repository import MeasurementError

NAME = "upstream.json"
LABEL = "upstream"
LARGEST = 1_000_000  # bytes
MOST = 50  # tests or figures that the issue names
TEMPLATE = Path(__file__).parent / "templates" / "upstream.md.jinja"

Report = dict[str, Any]


def read_report(path: Path) -> Report:
    """A report that ``upstream`` wrote; in place of one that cannot be read, one with that error."""
    try:
        found = read_object(path, LARGEST)
        findings = [
            {"what": str(each["what"]), "asked": int(each["asked"]), "wrong": list(map(str, each["wrong"]))}
            for each in found["findings"]
        ]
        report = {"lerobot": str(found["lerobot"]), "torch": str(found["torch"]), "findings": findings}
        return {**report, "error": str(found["error"])} if "error" in found else report
    except (DamagedFileError, ValueError, KeyError, TypeError, OverflowError) as error:
        why = f"{path.parent.name} left no report that can be read ({type(error).__name__})"
        return {"lerobot": "?", "torch": "?", "findings": [], "error": why}


def is_well(report: Report) -> bool:
    return "error" not in report and not any(finding["wrong"] for finding in report["findings"])


def title(reports: Sequence[Report]) -> str:
    """What is not well, in one line."""
    parts = []
    for report in reports:
        said = [f"{len(f['wrong'])} of {f['asked']} {f['what']}" for f in report["findings"] if f["wrong"]]
        said += ["not everything could be checked"] if "error" in report else []
        if said:
            parts.append(f"LeRobot {report['lerobot']} with torch {report['torch']}: {', '.join(said)}")
    return " ".join("; ".join(parts).split())[:200].encode(errors="replace").decode()


def body(reports: Sequence[Report]) -> str:
    """Markdown of the issue."""
    return render(TEMPLATE, reports=reports, most=MOST)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s upstream_issue --", description=__doc__.split("\n\n")[0])
    parser.add_argument("directory", type=Path, help=f"holds the reports: NAME/{NAME}")
    parser.add_argument("--expect", nargs="+", default=[], help="names of reports that must be there")
    parser.add_argument(
        "--result", default="success", help="how GitHub says that the jobs ended which left the reports"
    )
    args = parser.parse_args(argv)
    return exit_code("upstream_issue", lambda: _run(args.directory, args.expect, args.result))


def _run(directory: Path, expected: Sequence[str], result: str) -> None:
    names = sorted({path.parent.name for path in directory.glob(f"*/{NAME}")} | set(expected))
    reports = [read_report(directory / name / NAME) for name in names]
    if not reports:
        raise MeasurementError(f"there is no report in {directory}")
    if result != "success" and all(map(is_well, reports)):  # of an earlier attempt: the newest left none
        why = f"the jobs ended with {result}, and their reports say that all is well"
        reports.append({"lerobot": "?", "torch": "?", "findings": [], "error": why})
    repository, done = os.environ.get("GITHUB_REPOSITORY"), "no issue: this is no job of GitHub's"
    if repository and all(map(is_well, reports)):
        done = close_issue(repository, LABEL, "all is well again") or "all is well"
    elif repository:
        done = open_or_update_issue(repository, LABEL, title(reports), body(reports))
    say(f"{body(reports)}\n{done}")  # last: an output that takes nothing keeps no issue back


if __name__ == "__main__":
    sys.exit(main())

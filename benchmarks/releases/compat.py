"""Is all well with the LeRobot and torch that are installed: ``nox -s compat``, once for each environment.

Runs every test of the policy and of the counters, and writes what came out of it as that environment's
row into docs/compatibility.md. Exit codes: 0 all passed, 1 a test failed, 2 could not tell.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from ..markdown import write_between_markers
from ..repository import ROOT, MeasurementError
from .upstream import run_tests

PAGE = ROOT / "docs" / "compatibility.md"
BEGIN, END = "<!-- compat: written by nox -s compat -->", "<!-- /compat -->"
HEAD = (
    "| environment | Python | LeRobot | torch | torchvision | passed | failed | skipped | minutes |",
    "|---|---|---|---|---|---|---|---|---|",
)
# What a user of the policy has of this project, and the canaries of the counters.
TESTS = ("tests/policies", "tests/suite/test_counters.py", "tests/suite/test_workloads.py")


def paths() -> list[str]:
    """The tests that depend on LeRobot or torch, relative to the repository."""
    own = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/subject/test_*.py"))
    return [*own, *TESTS]


def row(name: str, outcomes: Mapping[str, str], seconds: float) -> str:
    """One environment's line of the table."""
    found = Counter(outcomes.values())
    installed = [platform.python_version(), *(version(each) for each in ("lerobot", "torch", "torchvision"))]
    counts = [found["passed"], found["failed"] + found["error"], found["skipped"]]
    return f"| {' | '.join(map(str, [name, *installed, *counts]))} | {seconds / 60:.0f} |"


def with_row(table: str, line: str) -> str:
    """``table`` with ``line`` in place of its environment's old one, ordered by LeRobot, torch and Python."""
    name = line.split("|")[1]
    kept = [each for each in table.splitlines() if each.startswith("| py") and each.split("|")[1] != name]
    return "\n".join([*HEAD, *sorted([*kept, line], key=_order)])


def _order(line: str) -> list[list[int]]:
    python, lerobot, torch = (cell.strip() for cell in line.split("|")[2:5])
    return [[int(part) for part in each.split("+")[0].split(".")] for each in (lerobot, torch, python)]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="nox -s compat --",
        description=__doc__.split("\n\n")[0],
        epilog="Other arguments go to pytest; with any of them nothing is written.",
    )
    parser.add_argument("name", help="of the environment, as `nox -l` has it")
    args, extra = parser.parse_known_args(argv)
    started = time.monotonic()
    try:
        outcomes = run_tests(paths(), ROOT, *extra)
    except MeasurementError as error:
        print(f"compat: {error}", file=sys.stderr)
        return 2
    line = row(args.name, outcomes, time.monotonic() - started)
    print(line)
    if not extra:
        there = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
        write_between_markers(with_row(there, line), PAGE, BEGIN, END)
    return int(any(outcome in ("failed", "error") for outcome in outcomes.values()))


if __name__ == "__main__":
    sys.exit(main())

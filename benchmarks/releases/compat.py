"""Is all well with the LeRobot and torch that are installed: ``nox -s compat``, once for each environment.

Runs every test of the policy and of the counters, and records what came out of it: that environment's
row of docs/compatibility.md. Exit codes (through nox 0 or 1): 0 all passed, 1 a test failed, 2 could not
tell.
"""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from ..command import exit_code, say
from ..markdown import markers, write_between_markers
from ..pages.compatibility import DOCUMENT, NAME, cells, tables
from ..pages.records import keep, read
from ..records import Record, today
from ..repository import ROOT
from .upstream import run_tests

# What a user of the policy has of this project, and the canaries of the counters.
TESTS = ("tests/policies", "tests/suite/test_counters.py", "tests/suite/test_workloads.py")


def paths() -> list[str]:
    """The tests that depend on LeRobot or torch, relative to the repository."""
    own = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/subject/**/test_*.py"))
    return [*own, *TESTS]


def record_of(name: str, outcomes: Mapping[str, str], seconds: float) -> Record:
    """One environment's row."""
    found = Counter(outcomes.values())
    installed = {each: version(each) for each in ("lerobot", "torch", "torchvision")}
    return {
        "row": name,
        "about": {"python": platform.python_version(), **installed, "date": today()},
        "passed": found["passed"],
        "failed": found["failed"] + found["error"],
        "skipped": found["skipped"],
        "minutes": seconds / 60,
    }


def asked(name: str, options: Sequence[str]) -> int:
    """Run the tests and keep what they say, unless pytest has options: then it may be a part of them."""
    started = time.monotonic()
    record = record_of(name, run_tests(paths(), ROOT, *options), time.monotonic() - started)
    say(", ".join(cells(record)))
    if not options:
        keep(NAME, [record])
        write_between_markers(tables(read(NAME))[NAME], ROOT / DOCUMENT, *markers(NAME))
    return int(record["failed"] > 0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="nox -s compat --",
        description=__doc__.split("\n\n")[0],
        epilog="Other arguments go to pytest; with any of them nothing is written.",
    )
    parser.add_argument("name", help="of the environment, as `nox -l` has it")
    args, extra = parser.parse_known_args(argv)
    return exit_code("compat", lambda: asked(args.name, extra))


if __name__ == "__main__":
    sys.exit(main())

"""The gate's own proof: ``nox -s campaign -- record|mutants|runs|pace|write``; the first three resume.

What it records lies in ``recorded/``, one JSON object a line, and is part of the repository: the
figures in docs/gate.md are drawn from it and from nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from ...command import exit_code
from ...markdown import write_between_markers
from ...one_run import sigterm_interrupts
from ...repository import ROOT, MeasurementError, git
from ...suite.workloads import DEVICES
from ..cases import named
from ..result import Result
from ..run import gate
from ..run import parser as gate_parser
from ..timing import Budget
from ..verdict import SLOWER
from . import evidence
from .mutants import HARMLESS, MUTANTS
from .pace import BEFORE, record_pace
from .recording import SLOWDOWN, record
from .records import KINDS, append, lines
from .slowdown import inject, key
from .tables import newest


@contextmanager
def _clone(root: Path) -> Iterator[Path]:
    """A clone of the checkout's HEAD, of which nothing stays."""
    with tempfile.TemporaryDirectory(prefix="gate-campaign-") as directory:
        clone = Path(directory) / "clone"
        git("clone", "-q", "--shared", str(root), str(clone), root=root)
        yield clone


def _gated(
    clone: Path, edit: Callable[[Path], None], console: Console, *options: str
) -> tuple[Result, dict[str, Any]]:
    """The gate's result on HEAD with ``edit`` against HEAD, and what is recorded of any run."""
    git("checkout", "-q", "-f", "HEAD", root=clone)
    git("clean", "-q", "-f", "-d", "src", root=clone)
    edit(clone)
    result = gate(gate_parser().parse_args(["--base", "HEAD", *options]), console, clone)
    commit = git("rev-parse", "HEAD", root=clone)
    return result, {"exit_code": result.exit_code, "headline": result.headline, "commit": commit}


def try_mutants(minutes: float, console: Console, root: Path = ROOT) -> None:
    """Run the gate on every mutant that has no result yet, in a clone of its own.

    One that the exact tiers name is red whatever the times say, so they are not taken.

    Raises:
        MeasurementError: the clone could not be made.
    """
    budget = Budget(minutes)
    done = {line["name"] for line in lines("mutants")}
    with _clone(root) as clone:
        for mutant in MUTANTS:
            if mutant.name in done or budget.left < 0:
                continue
            began = budget.used
            short = () if mutant.cause == SLOWER else ("--no-times",)
            result, line = _gated(clone, mutant.edit.apply, console, *short)
            found: dict[str, set[str]] = {}
            for finding in result.red_findings:
                found.setdefault(finding.case, set()).add(finding.what)
            for time in result.red_times:
                found.setdefault(time.name, set()).add(time.verdict.kind)
            seconds = round(budget.used - began)
            line |= {
                "name": mutant.name,
                "cause": mutant.cause,
                "named": {case: sorted(what) for case, what in sorted(found.items())},
                "seconds": seconds,
            }
            append("mutants", line)


def run_gates(minutes: float, console: Console, root: Path = ROOT, again: str | None = None) -> None:
    """Real gate runs of the shipped budget, by turns: head with a harmless edit, and slower by SLOWDOWN.

    Args:
        again: a harmless edit to run once more, and nothing else.

    Raises:
        MeasurementError: the clone could not be made, or nothing is calibrated yet.
    """
    budget = Budget(minutes)
    have = Counter(line["kind"] for line in newest(lines("runs")))
    with _clone(root) as clone:
        while budget.left > 0:
            kind = min(KINDS, key=lambda kind: have[kind] / evidence.RUNS[kind])
            if again is None and have[kind] >= evidence.RUNS[kind]:
                break
            number = have[kind] if again is None else [edit.name for edit in HARMLESS].index(again)
            name, edit = _slowdown() if kind == "slower" and again is None else _harmless(number)
            result, line = _gated(clone, edit, console, "--seed", str(number))
            verdicts = {
                t.name: [t.verdict.kind, round(t.verdict.ratio, 4), t.verdict.launches] for t in result.times
            }
            about = {"minutes": result.about.get("minutes", "0"), BEFORE: result.about.get(BEFORE, "0 s")}
            append(
                "runs",
                {**line, "kind": "same" if again else kind, "edit": name, "verdicts": verdicts, **about},
            )
            if again:
                break
            have[kind] += 1


def measure_pace(console: Console, root: Path = ROOT) -> None:
    """Record how long the parts of a gate run take here, on a quiet machine.

    Raises:
        MeasurementError: a side could not be run.
    """
    with _clone(root) as clone:
        record_pace(lambda number, options: _gated(clone, _harmless(number)[1], console, *options)[0], clone)


def _harmless(number: int) -> tuple[str, Callable[[Path], None]]:
    return HARMLESS[number].name, HARMLESS[number].edit.apply


def _slowdown() -> tuple[str, Callable[[Path], None]]:
    units = {key(named(line["case"]).case): line["units"] for line in lines("launches") if line["units"]}
    if not units:
        raise MeasurementError("nothing is calibrated yet; run nox -s campaign -- record first")
    return f"{SLOWDOWN:.0%} injected", partial(inject, units=units)


def write_page(replays: int, console: Console, root: Path = ROOT) -> None:
    """Draw every figure of docs/gate.md from what is recorded.

    Raises:
        ValueError: nothing is recorded.
    """
    text = evidence.page(replays, console.print)
    write_between_markers(text, root / "docs" / "gate.md", evidence.BEGIN, evidence.END)


def _do(args: argparse.Namespace, console: Console) -> None:
    if args.part == "record":
        record(args.launches, args.minutes, args.device, console)
    elif args.part == "mutants":
        try_mutants(args.minutes, console)
    elif args.part == "runs":
        run_gates(args.minutes, console, again=args.again)
    elif args.part == "pace":
        measure_pace(console)
    else:
        write_page(args.replays, console)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: done, or out of time; 2: could not measure, or stopped."""
    parser = argparse.ArgumentParser(prog="nox -s campaign --", description=__doc__)
    parser.add_argument("part", choices=("record", "mutants", "runs", "pace", "write"))
    parser.add_argument("--launches", type=int, default=evidence.LAUNCHES, help="of each case and kind (40)")
    parser.add_argument(
        "--minutes",
        type=float,
        default=240,
        help="stop after so many minutes; the same command goes on later (240)",
    )
    parser.add_argument(
        "--again", choices=[edit.name for edit in HARMLESS], help="in runs: this harmless edit once more"
    )
    parser.add_argument("--replays", type=int, default=10_000, help="gate runs to replay (10000)")
    parser.add_argument("--device", default="cpu", choices=DEVICES)
    args = parser.parse_args(argv)
    console = Console(stderr=True, soft_wrap=True)
    with sigterm_interrupts():
        stopped = "stopped; the same command goes on where it was"
        return exit_code("campaign", lambda: _do(args, console), interrupted=stopped)


if __name__ == "__main__":
    sys.exit(main())

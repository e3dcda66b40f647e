"""The gate's own proof: ``nox -s campaign -- record|mutants|runs|write``; each part resumes.

What it records lies in ``recorded/``, one JSON object a line, and is part of the repository: the
figures in docs/gate.md are drawn from it and from nothing else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from ...markdown import write_between_markers
from ...repository import PACKAGE, ROOT, MeasurementError, git
from ..cases import named
from ..run import gate, parser
from ..timing import Budget
from ..verdict import SLOWER
from ..workplace import sigterm_interrupts
from . import evidence
from .mutants import HARMLESS, MUTANTS
from .recording import SLOWDOWN, record
from .records import KINDS, append, lines
from .slowdown import inject, key

MUTANT_CASES = ("pusht-inference", "pusht-training")


def try_mutants(minutes: float, console: Console, root: Path = ROOT) -> None:
    """Run the gate on every mutant that has no result yet, in a clone of its own.

    One that the exact tiers name is red whatever the times say, so they are not taken.

    Raises:
        MeasurementError: the clone could not be made.
    """
    budget = Budget(minutes)
    done = {line["name"] for line in lines("mutants")}
    with tempfile.TemporaryDirectory(prefix="gate-mutants-") as directory:
        clone = Path(directory) / "clone"
        git("clone", "-q", "--shared", str(root), str(clone), root=root)
        for edit in MUTANTS:
            if edit.name in done or budget.left < 0:
                continue
            git("checkout", "-q", "-f", "HEAD", root=clone)
            edit.apply(clone)
            began = time.monotonic()
            short = () if edit.cause == SLOWER else ("--no-times",)
            args = parser().parse_args(["--base", "HEAD", "--workloads", *MUTANT_CASES, *short])
            result = gate(args, console, clone)
            append(
                "mutants",
                {
                    "name": edit.name,
                    "cause": edit.cause,
                    "exit_code": result.exit_code,
                    "headline": result.headline,
                    "named": sorted(
                        {f.what for f in result.red_findings} | {t.verdict.kind for t in result.red_times}
                    ),
                    "seconds": round(time.monotonic() - began),
                    "commit": git("rev-parse", "HEAD", root=clone),
                },
            )


def run_gates(minutes: float, console: Console, root: Path = ROOT) -> None:
    """Real gate runs of the shipped budget, by turns: head with a harmless edit, and slower by SLOWDOWN.

    Raises:
        MeasurementError: the clone could not be made.
    """
    budget = Budget(minutes)
    have = Counter(line["kind"] for line in lines("runs"))
    with tempfile.TemporaryDirectory(prefix="gate-runs-") as directory:
        clone = Path(directory) / "clone"
        git("clone", "-q", "--shared", str(root), str(clone), root=root)
        while budget.left > 0:
            kind = min(KINDS, key=lambda kind: have[kind] / evidence.RUNS[kind])
            if have[kind] >= evidence.RUNS[kind]:
                break
            edit = HARMLESS[have[kind]] if kind == "same" else None
            git("checkout", "-q", "-f", "HEAD", root=clone)
            git("clean", "-q", "-f", "-d", "src", root=clone)
            if edit is not None:
                edit.apply(clone)
            else:
                slowed_lines = [line for line in lines("launches") if line["units"]]
                units = {key(named(line["case"]).case): line["units"] for line in slowed_lines}
                if not units:
                    raise MeasurementError("nothing is calibrated yet; run nox -s campaign -- record first")
                inject(clone / PACKAGE, units)
            args = parser().parse_args(["--base", "HEAD", "--seed", str(have[kind])])
            result = gate(args, console, clone)
            append(
                "runs",
                {
                    "kind": kind,
                    "edit": edit.name if edit is not None else f"{SLOWDOWN:.0%} injected",
                    "exit_code": result.exit_code,
                    "headline": result.headline,
                    "verdicts": {
                        t.name: [t.verdict.kind, round(t.verdict.ratio, 4), t.verdict.launches]
                        for t in result.times
                    },
                    "minutes": result.about.get("minutes", "0"),
                    "commit": git("rev-parse", "HEAD", root=clone),
                },
            )
            have[kind] += 1


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
        run_gates(args.minutes, console)
    else:
        write_page(args.replays, console)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(prog="nox -s campaign --", description=__doc__)
    arguments.add_argument("part", choices=("record", "mutants", "runs", "write"))
    arguments.add_argument(
        "--launches", type=int, default=evidence.LAUNCHES, help="of each case and kind (40)"
    )
    arguments.add_argument("--minutes", type=float, default=240, help="at most, then it can go on (240)")
    arguments.add_argument("--replays", type=int, default=10_000, help="gate runs to replay (10000)")
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = arguments.parse_args(argv)
    console = Console(stderr=True, soft_wrap=True)
    try:
        with sigterm_interrupts():
            _do(args, console)
    except (MeasurementError, ValueError, OSError) as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("campaign: stopped; the same command goes on where it was", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

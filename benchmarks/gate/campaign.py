"""The gate's own proof: ``nox -s campaign -- pairing|record|mutants|runs|write``; each part resumes.

What it records lies in ``recorded/``, one JSON object a line, and is part of the repository: the
figures in docs/gate.md are drawn from it and from nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import os
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from ..ratios import write_between_markers
from ..repository import PACKAGE, ROOT, MeasurementError, git
from ..workloads import Case
from . import pairing, proof
from .__main__ import gate, parser
from .cases import CompileTime, StepTime, choose, named, timed
from .channel import Worker
from .mutants import HARMLESS, MUTANTS
from .records import KINDS, append, lines, log_ratios
from .sides import check_out, resolve
from .slowdown import inject, key, slowed
from .timing import STEP_TIMEOUT, Budget, StartWorker, measure_launch, pair
from .verdict import launch_ratio
from .workplace import workplace

SLOWDOWN = 0.05
PAIRING_CASES = ("pusht-inference", "aloha-inference")
MUTANT_CASES = ("pusht-inference", "narrow-training")
MUTANT_MINUTES = "4"  # the exact tiers name most; what is harmless or only slow gets a whole run


def calibrate(start: StartWorker, cases: Sequence[Case], rng: random.Random) -> dict[str, int]:
    """Units of extra work that make each case's step SLOWDOWN slower, measured here and now."""
    units = {}
    with pair(start, rng) as (workers, _):
        worker = workers["head"]
        unit = worker.ask("ballast", timeout=STEP_TIMEOUT)["seconds"]
        for case in cases:
            request = StepTime(case).request
            worker.ask("warm", timeout=STEP_TIMEOUT, **request)
            seconds = worker.ask("sample", timeout=STEP_TIMEOUT, samples=7, **request)["seconds"]
            units[key(case)] = round(SLOWDOWN * median(seconds) / unit)
    return units


def record(launches: int, minutes: float, device: str, console: Console, root: Path = ROOT) -> None:
    """Record until there are ``launches`` of each kind and case, or the time is up.

    Raises:
        MeasurementError: a side could not be run.
    """
    budget, cases = Budget(minutes), choose(None, device)
    rng = random.Random()  # noqa: S311  # another order each time it goes on
    source, _ = resolve("HEAD", "HEAD", root)
    with workplace(root) as place:
        base = check_out(source, place / "base", root)
        unloaded = slowed(base, place / "unloaded", {})
        sides = {"base": base, "head": unloaded}

        def start(name: str) -> Worker:
            return Worker(sides[name], root / ".gate" / "inductor")

        units = calibrate(start, cases, rng)
        with pair(start, rng) as (_, hello):
            about = described(hello["base"])
        heads = {"same": base, "slower": slowed(base, place / "slowed", units)}
        while (missing := _missing(launches, cases)) and budget.left > 0:
            kind = rng.choice(sorted(missing))
            sides["head"] = heads[kind]
            todo = missing[kind]
            console.print(f"{kind}: {len(todo)} cases to go, {budget.left / 60:.0f} min left")
            for case, samples in measure_launch(todo, start, rng):
                append(
                    "launches",
                    {
                        "kind": kind,
                        "case": str(case),
                        "log_ratio": launch_ratio(samples.base, samples.head),
                        "base_seconds": median(samples.base),
                        "samples": len(samples.base),
                        "units": units.get(key(case.case), 0) if kind == "slower" else 0,
                        "about": about,
                        "commit": source.commit,
                        "date": today(),
                    },
                )


def today() -> str:
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def described(hello: dict[str, Any]) -> str:
    """What belongs beside every figure."""
    found = hello["environment"]
    return (
        f"{os.cpu_count()} cores, {found['cpu']}, {found['threads']} threads, torch {found['torch']}, "
        f"LeRobot {found['lerobot']}, Python {found['python']}"
    )


def _missing(launches: int, cases: Sequence[Case]) -> dict[str, list[StepTime]]:
    """What is timed and has fewer launches of a kind than asked for; no work is injected into compiling."""
    found = {}
    for kind in KINDS:
        have = log_ratios(kind)
        todo = [
            case
            for case in timed(cases)
            if len(have.get(case, ())) < launches and not (kind == "slower" and isinstance(case, CompileTime))
        ]
        if todo:
            found[kind] = todo
    return found


def compare_designs(launches: int, minutes: float, console: Console, root: Path = ROOT) -> None:
    """Record A/A launches of every way to pair, by turns.

    Raises:
        MeasurementError: a side could not be run.
    """
    budget, rng = Budget(minutes), random.Random()  # noqa: S311
    cases = [StepTime(case) for case in choose(PAIRING_CASES, "cpu") if case.variant == "eager"]
    with workplace(root) as place:
        side = check_out(resolve("HEAD", "HEAD", root)[0], place / "base", root)
        head = replace(side, source=replace(side.source, side="head"))
        sides = {"base": side, "head": head}

        def start(name: str) -> Worker:
            return Worker(sides[name], root / ".gate" / "inductor")

        with pair(start, rng) as (_, hello):
            about = described(hello["base"])
        have = Counter(line["design"] for line in lines("pairing"))
        while budget.left > 0:
            design = min(pairing.DESIGNS, key=lambda name: have[name])
            if have[design] >= launches * len(cases):
                break
            console.print(f"pairing: {design}, {budget.left / 60:.0f} min left")
            for case, samples, seconds in pairing.measure(design, cases, start, rng):
                line = {
                    "design": design,
                    "case": str(case),
                    "log_ratio": launch_ratio(samples.base, samples.head),
                    "seconds": seconds,
                    "about": about,
                    "date": today(),
                }
                append("pairing", line)
                have[design] += 1


def try_mutants(minutes: float, console: Console, root: Path = ROOT) -> None:
    """Run the gate on every mutant and harmless edit that has no result yet, in a clone of its own.

    Raises:
        MeasurementError: the clone could not be made.
    """
    budget = Budget(minutes)
    done = {line["name"] for line in lines("mutants")}
    with tempfile.TemporaryDirectory(prefix="gate-mutants-") as directory:
        clone = Path(directory) / "clone"
        git("clone", "-q", "--shared", str(root), str(clone), root=root)
        for edit in (*MUTANTS, *HARMLESS):
            if edit.name in done or budget.left < 0:
                continue
            git("checkout", "-q", "-f", "HEAD", root=clone)
            edit.apply(clone)
            began = time.monotonic()
            quick = edit.cause not in ("", "slower")
            time_limit = ["--minutes", MUTANT_MINUTES] if quick else []
            args = parser().parse_args(["--base", "HEAD", "--workloads", *MUTANT_CASES, *time_limit])
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


def run_gates(count: int, minutes: float, console: Console, root: Path = ROOT) -> None:
    """Real gate runs of the shipped budget: head is base, and head slower by SLOWDOWN, by turns.

    A head that is base has one comment more, as the gate runs nothing where the files are the same.

    Raises:
        MeasurementError: the clone could not be made.
    """
    budget = Budget(minutes)
    have = Counter(line["kind"] for line in lines("runs"))
    with tempfile.TemporaryDirectory(prefix="gate-runs-") as directory:
        clone = Path(directory) / "clone"
        git("clone", "-q", "--shared", str(root), str(clone), root=root)
        while budget.left > 0:
            kind = min(KINDS, key=lambda kind: have[kind])
            if have[kind] >= count:
                break
            git("checkout", "-q", "-f", "HEAD", root=clone)
            git("clean", "-q", "-f", "-d", "src", root=clone)
            if kind == "same":
                with (clone / PACKAGE / "__init__.py").open("a", encoding="utf-8") as file:
                    file.write("# the same\n")
            if kind == "slower":
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
                    "exit_code": result.exit_code,
                    "headline": result.headline,
                    "verdicts": {
                        t.name: [t.verdict.kind, round(t.verdict.ratio, 4), t.verdict.launches]
                        for t in result.times
                    },
                    "minutes": result.about["minutes"],
                    "commit": git("rev-parse", "HEAD", root=clone),
                },
            )
            have[kind] += 1


def write_page(replays: int, console: Console, root: Path = ROOT) -> None:
    """Draw every figure of docs/gate.md from what is recorded.

    Raises:
        ValueError: nothing is recorded.
    """
    text = proof.page(replays, console.print)
    write_between_markers(text, root / "docs" / "gate.md", proof.BEGIN, proof.END)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = argparse.ArgumentParser(prog="nox -s campaign --", description=__doc__)
    arguments.add_argument("part", choices=("pairing", "record", "mutants", "runs", "write"))
    arguments.add_argument("--launches", type=int, default=proof.LAUNCHES, help="of each case and kind (40)")
    arguments.add_argument("--minutes", type=float, default=240, help="at most, then it can go on (240)")
    arguments.add_argument("--runs", type=int, default=proof.RUNS, help="real gate runs of each kind (5)")
    arguments.add_argument("--replays", type=int, default=10_000, help="gate runs to replay (10000)")
    arguments.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = arguments.parse_args(argv)
    console = Console(stderr=True, soft_wrap=True)
    try:
        if args.part == "record":
            record(args.launches, args.minutes, args.device, console)
        elif args.part == "pairing":
            compare_designs(args.launches, args.minutes, console)
        elif args.part == "mutants":
            try_mutants(args.minutes, console)
        elif args.part == "runs":
            run_gates(args.runs, args.minutes, console)
        else:
            write_page(args.replays, console)
    except (MeasurementError, ValueError, OSError) as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("campaign: stopped; the same command goes on where it was", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The gate's own proof: ``nox -s campaign -- record|mutants|runs|write``. It goes on where it was stopped.

What it records lies in ``recorded/``, one JSON object a line, and is part of the repository: the
figures in docs/gate.md are drawn from it and from nothing else.
"""

from __future__ import annotations

import argparse
import datetime
import json
import random
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from ..workloads import Case
from .cases import choose
from .channel import ROOT, Worker
from .sides import GateError, check_out, resolve
from .slowdown import key, slowed
from .timing import STEP_TIMEOUT, Budget, StartWorker, measure_launch, pair
from .verdict import launch_ratio
from .workplace import workplace

RECORDED = Path(__file__).with_name("recorded")
SLOWDOWN = 0.05
KINDS = ("same", "slower")  # A/A, and head slowed by SLOWDOWN


def lines(name: str) -> list[dict[str, Any]]:
    """Everything recorded under ``name``; a half-written last line is left out."""
    path = RECORDED / f"{name}.jsonl"
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


def append(name: str, line: dict[str, Any]) -> None:
    RECORDED.mkdir(exist_ok=True)
    with (RECORDED / f"{name}.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(line, sort_keys=True) + "\n")


def log_ratios(kind: str) -> dict[Case, list[float]]:
    """Recorded launches of a kind, by case."""
    found: dict[Case, list[float]] = {}
    for line in lines("launches"):
        if line["kind"] == kind:
            found.setdefault(Case(**line["case"]), []).append(line["log_ratio"])
    return found


def calibrate(start: StartWorker, cases: Sequence[Case], rng: random.Random) -> dict[str, int]:
    """Units of extra work that make each case's step SLOWDOWN slower, measured here and now."""
    units = {}
    with pair(start, rng) as (workers, _):
        worker = workers["head"]
        unit = worker.ask("ballast", timeout=STEP_TIMEOUT)["seconds"]
        for case in cases:
            request = {"case": {"workload": case.workload, "phase": case.phase, "variant": case.variant}}
            worker.ask("warm", timeout=STEP_TIMEOUT, **request)
            seconds = worker.ask("sample", timeout=STEP_TIMEOUT, samples=7, **request)["seconds"]
            units[key(case)] = round(SLOWDOWN * median(seconds) / unit)
    return units


def record(launches: int, minutes: float, device: str, console: Console, root: Path = ROOT) -> None:
    """Record until there are ``launches`` of each kind and case, or the time is up.

    Raises:
        GateError: a side could not be run.
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
                        "case": {"workload": case.workload, "phase": case.phase, "variant": case.variant},
                        "log_ratio": launch_ratio(samples.base, samples.head),
                        "base_seconds": median(samples.base),
                        "samples": len(samples.base),
                        "units": units[key(case)] if kind == "slower" else 0,
                        "commit": source.commit,
                        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
                    },
                )


def _missing(launches: int, cases: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of each kind that have fewer launches than asked for."""
    found = {}
    for kind in KINDS:
        have = log_ratios(kind)
        todo = [case for case in cases if len(have.get(case, ())) < launches]
        if todo:
            found[kind] = todo
    return found


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="nox -s campaign --", description=__doc__)
    parser.add_argument("part", choices=("record",))
    parser.add_argument("--launches", type=int, default=40, help="of each case and kind (40)")
    parser.add_argument("--minutes", type=float, default=240, help="at most, then it can go on (240)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args(argv)
    console = Console(stderr=True)
    try:
        record(args.launches, args.minutes, args.device, console)
    except (GateError, ValueError, OSError) as error:
        print(f"campaign: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("campaign: stopped; the same command goes on where it was", file=sys.stderr)
        return 2
    return 0


def recorded_about() -> Iterator[str]:
    """Dates and commits of what is recorded."""
    for line in lines("launches"):
        yield f"{line['date']} {line['commit'][:10]}"


if __name__ == "__main__":
    sys.exit(main())

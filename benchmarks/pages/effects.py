"""What each optimisation of the subject is worth by itself: ``nox -s effects``.

Base is the subject as it is; head is the subject with one optimisation taken back and everything else
in place. Counts are exact, compiling is what one thread of torch takes for it, and steps are timed as the
gate times them: both sides share the time of a launch in slices. Rows are recorded one by one, so that
what was measured before an interruption stays; the table is in TORCH_COMPILE_ACT.md.
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from rich.console import Console

from ..gate.cases import StepTime
from ..gate.channel import STEP_TIMEOUT, StartWorker, starter
from ..gate.decision import launch_ratio
from ..gate.pairing import pairing_of
from ..gate.sides import Side, check_out, edited, resolve
from ..gate.timing import pair
from ..gate.workplace import workplace
from ..markdown import between_markers, markers, table
from ..records import Record
from ..repository import ROOT
from ..suite.workloads import Case
from . import limits
from .asking import at_least
from .optimisations import OPTIMISATIONS, Optimisation
from .records import about, is_same, keep, measured_on, read, spread, summary

NAME, DOCUMENT = "effects", limits.DOCUMENT
SIDES = {"base": "with", "head": "without"}  # the optimisation
HEADER = ("optimisation", "measured on", "operations", "compiling", "speed-up of a step")


def without(side: Side, optimisation: Optimisation, into: Path) -> Side:
    """A copy of ``side`` with the optimisation taken back, as head.

    Raises:
        ValueError: the subject has moved on; see ``Edit``.
    """
    return edited(side, into, optimisation.taken_back.apply)


def measured_launch(case: Case, start: StartWorker, rng: random.Random, *, first: bool) -> Record:
    """One launch, with fresh workers of both sides.

    Args:
        first: of this case: count operations, and compile with no graph in the cache.

    Returns:
        ``times_as_fast``: the time of its step without the optimisation over that with it. Of the first also
        what is exact or taken once, by SIDES: of an eager step the operations that it dispatches, of a
        compiled one Inductor's kernels and ``compile_seconds``.

    Raises:
        MeasurementError: a side failed, or compiled nothing.
    """
    step, pairing = StepTime(case), pairing_of(case.device)
    once: Record = {}
    with pair(start, rng, pairing.environment) as (workers, _):
        if first:
            for worker in workers.values():
                worker.send("compile" if case.compiles else "graph", case=asdict(case))
            found = {side: worker.receive(STEP_TIMEOUT) for side, worker in workers.items()}
            compiled = {"kernels": "kernels", "compile_seconds": "seconds"}
            for name, answer in (compiled if case.compiles else {"dispatched": "dispatched_ops"}).items():
                once[name] = {with_or_without: found[side][answer] for side, with_or_without in SIDES.items()}
        pairing.warm(workers, step)
        samples = pairing.steps(workers, step, step.seconds)
    return {"times_as_fast": math.exp(launch_ratio(samples.base, samples.head)), **once}


def record_of(optimisation: Optimisation, case: Case, launches: Sequence[Record]) -> Record:
    """A row of the table."""
    times = summary([launch["times_as_fast"] for launch in launches])
    return {**launches[0], "row": optimisation.name, "case": f"{case}", "times_as_fast": times}


def cells(record: Record) -> list[str]:
    """A line of the table; left of an arrow is what there is without the optimisation."""
    workload, phase, variant, precision, _ = record["case"].split("-")
    what = "kernels" if "kernels" in record else "dispatched"
    with_it, without_it = record[what]["with"], record[what]["without"]
    operations = f"{without_it} → {with_it} {what}" if with_it != without_it else f"{with_it} {what}"
    compiling = record.get("compile_seconds")
    seconds = f"{compiling['without']:.1f} → {compiling['with']:.1f} s" if compiling else ""
    place = f"{workload} {phase}, {variant}, {precision}"
    return [record["row"], place, operations, seconds, f"{spread(record['times_as_fast'])}x"]


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The table, in the order of the list, by its place in the document; all are of one machine."""
    order = [optimisation.name for optimisation in OPTIMISATIONS]
    known = sorted((r for r in records if r["row"] in order), key=lambda r: order.index(r["row"]))
    if not known:
        return {}
    how = known[0]["about"]
    said = (
        f"{measured_on(how)} Speed-ups are medians over {how['launches']} fresh launches, in brackets the "
        "least and the most; all else is of one."
    )
    return {NAME: f"{said}\n\n{table(HEADER, map(cells, known))}"}


def measure_each(chosen: Sequence[Optimisation], launches: int, console: Console, root: Path) -> None:
    """Measure and record, case by case. Rows of another subject or machine do not stay.

    Raises:
        MeasurementError: a side could not be run.
        ValueError: an optimisation's edit does not apply, or the document has no place for the table.
    """
    between_markers(root / DOCUMENT, *markers(NAME))
    rng = random.Random(0)  # noqa: S311  # the order of the sides
    with workplace(root) as place:
        source = replace(resolve("HEAD", None, root)[1], side="base")
        base = check_out(source, place / "base", root)
        heads = [without(base, each, place / f"without-{i}") for i, each in enumerate(chosen)]
        sides = {"base": base, "head": heads[0]}
        start = starter(sides, root)
        with pair(start, rng) as (_, hello):
            environment = {"cores": os.cpu_count(), **hello["base"]["environment"]}
            made = about(environment, "cpu", root, launches=launches)
        for optimisation, sides["head"] in zip(chosen, heads, strict=True):
            for case in optimisation.measured():
                console.print(f"{case}, without: {optimisation.name}")
                found = [measured_launch(case, start, rng, first=turn == 0) for turn in range(launches)]
                new = {**record_of(optimisation, case, found), "about": made}
                console.print(", ".join(cells(new)), markup=False)
                keep(NAME, [new], lambda record: is_same(record["about"], made))


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--launches", type=at_least(1), default=3, help="fresh pairs of processes per time (3)"
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="WORDS",
        help="optimisations with these in their name; rows of the same machine, subject and --launches stay",
    )


def measure(args: argparse.Namespace) -> list[Record]:
    """The optimisations asked for, measured and recorded; every row that there is now.

    Raises:
        ValueError: there is no such optimisation; and as ``measure_each``.
    """
    chosen = [each for each in OPTIMISATIONS if any(words in each.name for words in args.only)]
    if not chosen:
        raise ValueError(f"no optimisation's name holds {' or '.join(args.only)}; {DOCUMENT} lists them")
    measure_each(chosen, args.launches, Console(stderr=True, soft_wrap=True), ROOT)
    return read(NAME)

"""What each optimisation of the subject is worth by itself: ``nox -s effects``.

Base is the subject as it is; head is the subject with one optimisation taken back and everything else
in place. Counts are exact, compiling is what one thread of torch takes for it, and steps are timed as the
gate times them: both sides share the time of a launch in slices. The table is written into
TORCH_COMPILE_ACT.md row by row, so that what was measured before an interruption stays.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from ..gate.cases import StepTime
from ..gate.channel import STEP_TIMEOUT, StartWorker, starter
from ..gate.decision import launch_ratio
from ..gate.identity import described
from ..gate.pairing import pairing_of
from ..gate.sides import Side, check_out, edited, resolve
from ..gate.timing import pair
from ..gate.workplace import workplace
from ..markdown import write_between_markers
from ..one_run import sigterm_interrupts
from ..repository import ROOT, MeasurementError
from ..suite.workloads import Case
from .limits import PAGE
from .optimisations import OPTIMISATIONS, Optimisation
from .ratios import spread, subject_as_of

BEGIN, END = "<!-- effects: written by nox -s effects -->", "<!-- /effects -->"
HEADER = "| without this: | measured on | operations | compiling | a step takes |\n|---|---|---|---|---|"


@dataclass(frozen=True)
class Launch:
    """One launch of a case: the time of its step without the optimisation over that with it.

    Attributes:
        counts: of operations, with and without; of an eager step those it dispatches, of a compiled one
            Inductor's kernels. In the first launch only, as they are exact.
        compiling: s, with and without; None in eager mode, and after the first launch.
    """

    ratio: float
    counts: tuple[int, int] | None = None
    compiling: tuple[float, float] | None = None


def without(side: Side, optimisation: Optimisation, into: Path) -> Side:
    """A copy of ``side`` with the optimisation taken back, as head.

    Raises:
        ValueError: the subject has moved on; see ``Edit``.
    """
    return edited(side, into, optimisation.taken_back.apply)


def measured_launch(case: Case, start: StartWorker, rng: random.Random, *, first: bool) -> Launch:
    """Fresh workers of both sides.

    Args:
        first: of this case: count operations, and compile with no graph in the cache.

    Raises:
        MeasurementError: a side failed, or compiled nothing.
    """
    step, pairing = StepTime(case), pairing_of(case.device)
    counts = compiling = None
    with pair(start, rng, pairing.environment) as (workers, _):
        if first:
            for worker in workers.values():
                worker.send("compile" if case.compiles else "graph", case=asdict(case))
            found = {side: worker.receive(STEP_TIMEOUT) for side, worker in workers.items()}
            base, head = found["base"], found["head"]
            count = "kernels" if case.compiles else "dispatched_ops"
            counts = base[count], head[count]
            compiling = (base["seconds"], head["seconds"]) if case.compiles else None
        pairing.warm(workers, step)
        samples = pairing.steps(workers, step, step.seconds)
    return Launch(math.exp(launch_ratio(samples.base, samples.head)), counts, compiling)


def row(optimisation: Optimisation, case: Case, launches: Sequence[Launch]) -> str:
    """A line of the table; the first launch has the counts."""
    counts, compiling = launches[0].counts, launches[0].compiling
    assert counts is not None
    what = "kernels" if case.compiles else "dispatched"
    operations = f"{what} {counts[0]} → {counts[1]}" if counts[0] != counts[1] else f"{what} {counts[0]}"
    seconds = f"{compiling[0]:.1f} → {compiling[1]:.1f} s" if compiling is not None else ""
    place = f"{case.workload} {case.phase}, {case.variant}, {case.precision}"
    times = f"{spread([launch.ratio for launch in launches])}x"
    return f"| {optimisation.name} | {place} | {operations} | {seconds} | {times} |"


def merged(old: str, about: str, new: Sequence[str]) -> str:
    """The table with these rows in place of those of the same optimisation and case, in the list's order.

    Rows of another subject or machine do not stay: ``about`` has to be what it was.
    """
    kept = [line for line in old.splitlines() if line.startswith("| ")] if about in old.splitlines() else []
    rows = {_key(line): line for line in [*kept[1:], *new]}
    order = [optimisation.name for optimisation in OPTIMISATIONS]
    known = sorted((key for key in rows if key[0] in order), key=lambda key: order.index(key[0]))
    return "\n".join([about, "", HEADER, *(rows[key] for key in known)])


def _key(line: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in line.split("|")[1:3])


def on_page(page: Path) -> str:
    """The table that stands in ``page``."""
    return page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].strip()


def measure(chosen: Sequence[Optimisation], launches: int, console: Console, root: Path = ROOT) -> None:
    """Measure and write, case by case.

    Raises:
        MeasurementError: a side could not be run.
        ValueError: an optimisation's edit does not apply, or the page has no place for the table.
    """
    rng = random.Random(0)  # noqa: S311  # the order of the sides
    page = root / PAGE
    with workplace(root) as place:
        source = replace(resolve("HEAD", None, root)[1], side="base")
        base = check_out(source, place / "base", root)
        heads = [without(base, each, place / f"without-{i}") for i, each in enumerate(chosen)]
        sides = {"base": base, "head": heads[0]}
        start = starter(sides, root)
        with pair(start, rng) as (_, hello):
            about = about_them(hello["base"], launches, root)
        for optimisation, sides["head"] in zip(chosen, heads, strict=True):
            for case in optimisation.measured():
                console.print(f"{case}, without: {optimisation.name}")
                found = [measured_launch(case, start, rng, first=turn == 0) for turn in range(launches)]
                line = row(optimisation, case, found)
                console.print(line, markup=False)
                write_between_markers(merged(on_page(page), about, [line]), page, BEGIN, END)


def about_them(hello: dict[str, Any], launches: int, root: Path) -> str:
    """What belongs beside every figure."""
    return (
        f"{described(hello)}; inference batch 1, training batch 8; {subject_as_of(root)}. Times of steps are "
        f"medians over {launches} fresh launches, in brackets the least and the most; all else is of one."
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 2: could not."""
    parser = argparse.ArgumentParser(prog="nox -s effects --", description=__doc__.split("\n\n")[0])
    parser.add_argument("--launches", type=int, default=3, help="fresh pairs of processes per time (3)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=[""],
        metavar="WORDS",
        help="optimisations whose name holds these; rows of the same machine and subject stay",
    )
    args = parser.parse_args(argv)
    chosen = [each for each in OPTIMISATIONS if any(words in each.name for words in args.only)]
    if args.launches < 1:
        parser.error("--launches takes at least 1")
    if not chosen:
        parser.error(f"no optimisation's name holds {' or '.join(args.only)}; {PAGE} lists them")
    try:
        with sigterm_interrupts():
            measure(chosen, args.launches, Console(stderr=True, soft_wrap=True))
    except (MeasurementError, ValueError, OSError) as error:
        print(f"effects: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "effects: stopped; rows that were measured stand in the table, --only measures others",
            file=sys.stderr,
        )
        return 2
    print(on_page(ROOT / PAGE))
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is gained over stock LeRobot, as ratios taken in one run: ``nox -s ratios``, into README.md.

Cold compiles: every launch has an empty cache and compiles one case; the fixed cost of a
process's first compile is measured apart and left out. Step times: within a launch the
variants take turns; a launch gives one ratio, the median over its rounds. Counts and memory are exact.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from .. import records as files
from ..records import Record
from ..repository import ROOT
from ..suite.workloads import Case
from .asking import Ask, asking, at_least
from .records import about, is_same, keep, measured_on, read, subject, summary
from .rows import (
    HOW_OFTEN,
    SECONDS,
    Line,
    Row,
    beside_targets,
    peak_memory,
    speed_up,
    step_seconds,
    with_records,
)

NAME, DOCUMENT = "ratios", "README.md"
MOST_OPS = {"aloha": 275, "aloha_3cam": 300}
COLD_COMPILE = {"aloha": 1 / 2, "aloha_3cam": 1 / 4}  # at most, as a share of what stock takes
COLD = ("share of a cold compile", "kernels")
COMPILED_SPEED_UP = {("aloha", "inference"): 1.25}
EAGER_SPEED_UP = 0.98
STEPS = (
    ("aloha", "inference"),
    ("aloha_3cam", "inference"),
    ("pusht", "inference"),
    ("libero", "inference"),
    ("aloha", "rollout_ensemble"),
    ("pusht", "training"),
)


def rows(device: str) -> list[Row]:
    """The table's, in their order."""

    def row(kind: str, workload: str, phase: str, variant: str, target: float | None) -> Row:
        return Row(kind, Case(workload, phase, variant, device=device), target)

    found = [row("operations", workload, "inference", "eager", most) for workload, most in MOST_OPS.items()]
    for workload, share in COLD_COMPILE.items():
        found.append(row("share of a cold compile", workload, "inference", "compiled", share))
        found.append(row("kernels", workload, "inference", "compiled", 1 / 3))
    for step in STEPS:
        found.append(row("speed-up", *step, "eager", EAGER_SPEED_UP))
        found.append(row("speed-up", *step, "compiled", COMPILED_SPEED_UP.get(step)))
        found.append(row("peak memory", *step, "eager", 1))
    return found + [row("difference", "aloha", "inference", name, 1e-5) for name in ("eager", "compiled")]


def lines(records: Sequence[Record]) -> list[Line]:
    """Each figure beside its target."""
    device = records[0]["about"]["device"]
    return [row.line(record) for row, record in with_records(rows(device), records)]


def tables(records: Sequence[Record]) -> dict[str, str]:
    """The table of these records, by its place in the document; all are of one machine."""
    if not records:
        return {}
    how = records[0]["about"]
    return {NAME: beside_targets(f"{measured_on(how)} {HOW_OFTEN.format(**how)}", lines(records))}


def measured(launches: int, device: str, *, keep_cold: bool = False) -> list[Record]:
    """Every record, measured.

    Args:
        keep_cold: leave out cold compiles; they are most of the time.

    Raises:
        ValueError: cold compiles are to be kept, and those recorded are another subject's or machine's.
    """
    by_kind: dict[str, list[Row]] = {}
    for row in rows(device):
        by_kind.setdefault(row.kind, []).append(row)
    total = (0 if keep_cold else 4 * launches) + len(MOST_OPS) + len(STEPS) * (launches + 1) + 1
    found: list[Record] = []
    with asking(total) as (ask, _):
        for row in by_kind["operations"]:
            answer = ask("traced", [row.stock, row.case])
            stock, ours = (answer["traces"][str(case)]["ops"] for case in (row.stock, row.case))
            found.append(row.record(ours=ours, stock=stock))
        how = {"launches": launches, "seconds": SECONDS, "precision": "fp32"}
        made = about(answer["environment"], device, ROOT, **how)
        if keep_cold:
            check_cold(made)
        else:
            for share, kernels in zip(*(by_kind[kind] for kind in COLD), strict=True):
                cold = cold_compile(ask, share.case, launches)
                found += [share.record(**cold[0]), kernels.record(**cold[1])]
        speed_ups = by_kind["speed-up"]
        for eager, compiled, memory in zip(
            speed_ups[::2], speed_ups[1::2], by_kind["peak memory"], strict=True
        ):
            seconds = step_seconds(ask, [eager.stock, eager.case, compiled.case], launches)
            for row in (eager, compiled):
                found.append(row.record(times_as_fast=speed_up(seconds, row.case.variant)))
            found.append(memory.record(**peak_memory(ask, [memory.stock, memory.case])))
        differing = by_kind["difference"]
        answer = ask("difference", [differing[0].stock, *(row.case for row in differing)])
        found += [row.record(difference=answer["difference"][str(row.case)]) for row in differing]
    return [{**record, "about": made} for record in found]


def cold_compile(ask: Ask, case: Case, launches: int) -> tuple[Record, Record]:
    """What it takes beside stock's, and its kernels; by turns, each with a process and a cache of its own."""
    pair = [case.as_variant("stock-compiled"), case]
    answers: dict[Case, list[Record]] = {each: [] for each in pair}
    for turn in range(launches):
        for each in pair:
            answers[each].append(ask("first_call", [each], f"{each}-{turn}")["cases"][str(each)])
    return beside_stock(*answers.values())


def beside_stock(stock: Sequence[Record], ours: Sequence[Record]) -> tuple[Record, Record]:
    """Figures of a cold compile and of its kernels; each list holds one answer a launch."""
    stock_seconds, our_seconds = ([launched["seconds"] for launched in side] for side in (stock, ours))
    shares = [our / theirs for theirs, our in zip(stock_seconds, our_seconds, strict=True)]
    seconds = {"ours": median(our_seconds), "stock": median(stock_seconds), "share": summary(shares)}
    return seconds, {"ours": ours[0]["kernels"], "stock": stock[0]["kernels"]}


def check_cold(made: Record) -> None:
    """That there are cold compiles of the same subject and machine, measured as often.

    Raises:
        ValueError: there are not.
    """
    kept = [record for record in read(NAME) if record["row"] in COLD]
    if not kept or not all(is_same(record["about"], made) for record in kept):
        raise ValueError("the cold compiles there are of another subject or machine; run without --keep-cold")


def made_before(file: Path) -> list[Record]:
    """The records in ``file``.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no such records, or some of another subject than the working tree's.
    """
    file.stat()
    here = subject(ROOT)
    try:
        found = files.read(file)
        if all(record["about"]["subject"] == here for record in found) and len(lines(found)) == len(found):
            return found
    except (KeyError, IndexError, TypeError, AttributeError, ValueError):
        pass
    raise ValueError(f"{file} holds no ratios of the subject as of {here}; measure them again")


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--launches", type=at_least(1), default=3, help="fresh processes per figure (default 3)")
    add("--device", default="cpu", choices=("cpu", "cuda"))
    add("--keep-cold", action="store_true", help="leave the cold compiles as they stand")
    add("--print", action="store_true", help="print the table and leave README.md alone")
    add(
        "--from",
        type=Path,
        dest="made",
        metavar="FILE",
        help="take the records that upstream has made",
    )


def measure(args: argparse.Namespace) -> list[Record]:
    """The table's records, measured or taken, and kept unless they are only to be printed."""
    if args.made:
        new = made_before(args.made)
    else:
        new = measured(args.launches, args.device, keep_cold=args.keep_cold)
    stays = [record for record in read(NAME) if args.keep_cold and record["row"] in COLD]
    if not args.print:
        keep(NAME, new, stays.__contains__)
    return [*stays, *new]

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
from typing import Any

from .. import records as files
from ..markdown import cell
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
    as_record,
    beside_targets,
    peak_memory,
    speed_up,
    step_seconds,
)

NAME, DOCUMENT = "ratios", "README.md"
# Targets: the most, and of speed-ups the least.
COLD = ("share of a cold compile", "kernels")
MOST = {"kernels": 1 / 3, "peak memory": 1, "difference": 1e-5}  # of stock's, but for the last
TRACED = ("aloha", "aloha_3cam")  # what is traced, and compiled with an empty cache
MOST_BY_WORKLOAD: dict[str, dict[str, float]] = {
    "operations": {"aloha": 275, "aloha_3cam": 300},
    "share of a cold compile": {"aloha": 1 / 2, "aloha_3cam": 1 / 4},
}
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


def target_of(kind: str, case: Case) -> float | None:
    """None: there is none."""
    if kind == "speed-up":
        compiled = COMPILED_SPEED_UP.get((case.workload, case.phase))
        return EAGER_SPEED_UP if case.variant == "eager" else compiled
    return MOST[kind] if kind in MOST else MOST_BY_WORKLOAD[kind][case.workload]


def lines(records: Sequence[Record]) -> list[Line]:
    """Each figure beside its target."""
    found = ((record, record["row"], Case(*record["case"].split("-"))) for record in records)
    return [Row(kind, case, target_of(kind, case)).line(record) for record, kind, case in found]


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
    total = (0 if keep_cold else 4 * launches) + len(TRACED) + len(STEPS) * (launches + 1) + 1

    def variants(workload: str, phase: str, *names: str) -> list[Case]:
        return [Case(workload, phase, name, device=device) for name in names]

    found: list[Record] = []
    with asking(total) as (ask, _):
        for workload in TRACED:
            pair = variants(workload, "inference", "stock", "eager")
            answer = ask("traced", pair)
            stock, ours = (answer["traces"][str(case)]["ops"] for case in pair)
            found.append(as_record("operations", pair[1], ours=ours, stock=stock))
        how = {"launches": launches, "seconds": SECONDS, "precision": "fp32"}
        made = about(answer["environment"], device, ROOT, **how)
        if keep_cold:
            check_cold(made)
        for workload in () if keep_cold else TRACED:
            pair = variants(workload, "inference", "stock-compiled", "compiled")
            figures = zip(COLD, cold_compile(ask, pair, launches), strict=True)
            found += [as_record(kind, pair[1], **each) for kind, each in figures]
        for step in STEPS:
            cases = variants(*step, "stock", "eager", "compiled")
            seconds = step_seconds(ask, cases, launches)
            for case in cases[1:]:
                found.append(as_record("speed-up", case, times_as_fast=speed_up(seconds, case.variant)))
            found.append(as_record("peak memory", cases[1], **peak_memory(ask, cases[:2])))
        cases = variants("aloha", "inference", "stock", "eager", "compiled")
        answer = ask("difference", cases)["difference"]
        found += [as_record("difference", case, difference=answer[str(case)]) for case in cases[1:]]
    return [{**each, "about": made} for each in found]


def cold_compile(ask: Ask, pair: Sequence[Case], launches: int) -> tuple[Record, Record]:
    """What it takes beside stock's, and its kernels; by turns, each with a process and a cache of its own."""
    answers: dict[Case, list[Record]] = {each: [] for each in pair}
    for turn in range(launches):
        for each in pair:
            answers[each].append(ask("first_call", [each], f"{each}-{turn}")["cases"][str(each)])
    stock, ours = ([launched["seconds"] for launched in found] for found in answers.values())
    shares = [our / theirs for theirs, our in zip(stock, ours, strict=True)]
    seconds = {"ours": median(ours), "stock": median(stock), "share": summary(shares)}
    theirs, kernels = (found[0]["kernels"] for found in answers.values())
    return seconds, {"ours": kernels, "stock": theirs, "share": kernels / theirs}


def check_cold(made: Record) -> None:
    """That there are cold compiles of the same subject and machine, measured as often.

    Raises:
        ValueError: there are not.
    """
    kept = [record for record in read(NAME) if record["row"] in COLD]
    if not kept or not all(is_same(record["about"], made) for record in kept):
        raise ValueError(
            "the recorded cold compiles are another commit's or machine's; leave out --keep-cold"
        )


def made_before(file: Path) -> list[Record]:
    """The records in ``file``.

    Raises:
        MeasurementError: it cannot be read, see ``records.read_of_others``.
        ValueError: it holds no such records, or some of another subject than the working tree's, or a text
            that Markdown would take for more.
    """
    here, found = subject(ROOT), files.read_of_others(file)
    try:
        of_here = lines(found) and all(record["about"]["subject"] == here for record in found)
        if of_here and all(_is_plain({**record, "case": ""}) for record in found):  # `lines` looks cases up
            return found
    except (KeyError, TypeError, AttributeError, ValueError):
        pass
    raise ValueError(f"{file} holds no ratios of the subject as of {here}; measure them again")


def _is_plain(value: Any) -> bool:
    """Whether each text in it stays what it is in a Markdown table."""
    if isinstance(value, (dict, list)):
        return all(map(_is_plain, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, str) or cell(value) == value


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

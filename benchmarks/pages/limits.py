"""How fast the fastest mode is, and how fast the machine lets it be: ``nox -s limits``.

Every row is ``compile_mode="auto"`` against stock LeRobot eager in fp32, by turns in one process, over
fresh launches. Beside it stands the limit: what the step's matrix work takes at the rate that products
reach on this machine in this precision, or its memory traffic at the rate of a copy, whichever is longer.
It is written into TORCH_COMPILE_ACT.md.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from ..markdown import between_markers, markers
from ..records import Record, described
from ..repository import ROOT
from ..suite.timer import PAUSE
from ..suite.workloads import Case
from .asking import Ask, asking, at_least
from .records import (
    ENVIRONMENT,
    about,
    by_machine,
    is_same,
    keep,
    machine,
    measured_on,
    reached,
    read,
    summary,
)
from .rows import (
    COLD_COMPILE,
    FROM_ARTIFACT,
    HOW_OFTEN,
    SECONDS,
    WARM_START,
    WITH_ARTIFACT,
    Row,
    as_record,
    beside_targets,
    peak_memory,
    speed_up,
    step_seconds,
    with_records,
)

NAME, DOCUMENT = "limits", "TORCH_COMPILE_ACT.md"
# Times as fast as stock eager in fp32, at the least.
STEPS = {
    "cpu": (
        ("aloha", "inference", "fp32", 1.5),
        ("aloha", "inference", "bf16", 3.1),
        ("aloha_3cam", "inference", "fp32", 1.55),
        ("pusht", "training", "fp32", 1.4),
        ("pusht", "training", "bf16", 1.9),
        ("aloha", "training", "fp32", 1.3),
    ),
    "cuda": (
        ("aloha", "inference", "fp32", 4),
        ("aloha", "inference", "bf16", 6),
        ("aloha", "training", "fp32", 2.5),
        ("aloha", "training", "bf16", 4),
        ("aloha", "rollout_ensemble", "fp32", 4),
    ),
}
# At most, s or the share of stock's.
OTHERS = (
    ("aloha", "inference", COLD_COMPILE, 8),
    ("aloha", "inference", WARM_START, 2.5),
    ("aloha", "inference", WITH_ARTIFACT, 2.5),
    ("aloha", "inference", FROM_ARTIFACT, 1.5),
    ("pusht", "training", COLD_COMPILE, 25),
    ("pusht", "training", "peak memory", 0.85),
)


def rows(device: str) -> list[Row]:
    """A machine's table, in its order."""
    steps = [
        Row("step", Case(workload, phase, "auto", precision, device), target)
        for workload, phase, precision, target in STEPS[device]
    ]
    others = [
        Row(kind, Case(workload, phase, "auto", device=device), target)
        for workload, phase, kind, target in OTHERS
    ]
    return steps + others


def tables(records: Sequence[Record]) -> dict[str, str]:
    """Each machine's table, by its place in the document."""
    return {f"{NAME} {name}": _table(found) for name, found in by_machine(records).items()}


def _table(records: Sequence[Record]) -> str:
    """A row says so if its subject or its number of launches is not that of the others."""
    subjects = [record["about"]["subject"] for record in records]
    most = Counter(subjects).most_common(1)[0][0]
    how = records[subjects.index(most)]["about"]
    lines = []
    for row, record in with_records(rows(how["device"]), records):
        subject, launches = (record["about"][name] for name in ("subject", "launches"))
        others = [f"the subject as of {subject}"] if subject != most else []
        others += [f"{launches} launches"] if launches != how["launches"] else []
        lines.append(row.line(record, f" ({', '.join(others)})" if others else ""))
    return beside_targets(f"{measured_on(how)} {HOW_OFTEN.format(**how)} {reached(how['rates'])}", lines)


def about_machine(ask: Ask, device: str, table: str, **how: object) -> Record:
    """What a machine's records keep beside their figures, its rates included.

    Raises:
        ValueError: the document has no place for its table.
    """
    answer = ask("rates", [Case("tiny", "inference", "stock", device=device)])
    made = about(answer["environment"], device, ROOT, rates=answer["rates"], **how)
    between_markers(ROOT / DOCUMENT, *markers(f"{table} {machine(made)}"))
    return made


def limit(work: Mapping[str, float], rates: Mapping[str, float], precision: str) -> float:
    """Seconds that the machine needs for a step: its matrix work, or its least memory traffic."""
    return max(work["flops"] / rates[precision], work["bytes"] / rates["bytes"])


def step(launches: Sequence[dict[str, list[float]]], least: float) -> Record:
    """Figures of a step; each launch holds seconds of ``stock`` and of ``auto``; ``least``: the limit, s."""
    stock, ours = (1e3 * median(median(each[name]) for each in launches) for name in ("stock", "auto"))
    return {
        "times_as_fast": speed_up(launches, "auto"),
        "ms": {"ours": ours, "stock": stock},
        "limit": {"times_as_fast": stock / 1e3 / least, "ms": 1e3 * least},
    }


def first_call(row: Row, launches: int, ask: Ask, place: Path) -> Record:
    """Figures of a first call.

    Raises:
        RuntimeError: it was compiled although an artifact of it is kept.
    """
    case, turns, directory = row.case, range(launches), str(place / row.kind)
    if row.kind == FROM_ARTIFACT:
        ask("save", [case], into=directory)
        return {"seconds": summary([ask("load", [case], saved=directory)["seconds"] for _ in turns])}
    if row.kind == WITH_ARTIFACT:
        ask("start", [case], kept=directory)  # makes it
        found = [ask("start", [case], kept=directory) for _ in turns]
        if any(each["made"] for each in found):
            raise RuntimeError(f"{case} was compiled although an artifact of it is kept")
        return {"seconds": summary([each["seconds"] for each in found])}
    # On a CPU ONNX Runtime acts in fp32, and its user pays for no compile.
    fixed = (case.phase, case.device, case.precision) != ("inference", "cpu", "fp32")
    if row.kind == WARM_START:
        ask("first_call", [case], f"{case}", fixed=fixed)  # fills the cache
    caches = [f"{case}" if row.kind == WARM_START else f"{case}-{turn}" for turn in turns]
    found = [ask("first_call", [case], cache, fixed=fixed) for cache in caches]
    of_any = {"first_compile_seconds": median(each["fixed_seconds"] for each in found)} if fixed else {}
    return {"seconds": summary([each["cases"][str(case)]["seconds"] for each in found]), **of_any}


def figures(row: Row, launches: int, ask: Ask, place: Path, rates: Record) -> Record:
    """What is measured of a row."""
    if row.kind == "step":
        work = ask("work", [row.case.as_variant("eager")])["work"]
        # Where auto acts by another runtime, its threads and torch's wait for work on the same cores.
        pause = PAUSE if row.case.phase == "inference" else 0
        seconds = step_seconds(ask, [row.stock, row.case], launches, pause=pause)
        return step(seconds, limit(work, rates, row.case.precision))
    if row.kind == "peak memory":
        return peak_memory(ask, [row.stock, row.case])
    return first_call(row, launches, ask, place)


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--launches", type=at_least(2), default=3, help="fresh processes per figure (default 3)")
    add("--device", default="cpu", choices=tuple(STEPS))
    add("--only", nargs="+", default=[""], metavar="WORDS", help="rows with these in their name; others stay")


def measure(args: argparse.Namespace) -> list[Record]:
    """The rows asked for, measured and kept.

    Raises:
        ValueError: there is no such row; or, before anything is timed, the document has no place for this
            machine's table, or one with figures of another machine or other versions beside them.
    """
    every = rows(args.device)
    chosen = [row for row in every if any(words in f"{row}" for words in args.only)]
    if not chosen:
        raise ValueError(f"no row's name holds {' or '.join(args.only)}; {DOCUMENT} lists them")
    extra = {"step": 1, "peak memory": 1 - args.launches, COLD_COMPILE: 0}
    with asking(1 + sum(args.launches + extra.get(row.kind, 1) for row in chosen)) as (ask, place):
        how = {"launches": args.launches, "seconds": SECONDS, "precision": "fp32"}
        made = about_machine(ask, args.device, NAME, **how)
        here = machine(made)
        there = [record["about"] for record in by_machine(read(NAME)).get(here, [])]
        if chosen != every and not (there and all(is_same(each, made, ENVIRONMENT) for each in there)):
            raise ValueError(
                f"{DOCUMENT} has no figures of this machine ({described(made)}); run without --only first"
            )
        found = [figures(row, args.launches, ask, place, made["rates"]) for row in chosen]
    new = [as_record(row.kind, row.case, about=made, **each) for row, each in zip(chosen, found, strict=True)]
    keep(NAME, new, lambda record: chosen != every or machine(record["about"]) != here)
    return new

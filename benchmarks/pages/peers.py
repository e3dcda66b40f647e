"""ACT on a CPU by ``auto`` and by the runtimes a user could pick instead: ``nox -s peers``.

All take turns in one process, over fresh launches, against stock LeRobot eager in fp32. It is written into
TORCH_COMPILE_ACT.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

from ..markdown import table
from ..records import Record
from ..repository import ROOT
from ..suite.openvino_operators import PARTS, UNBOUND
from ..suite.peers import PEERS, installed
from ..suite.timer import PAUSE
from ..suite.workloads import EXPORT, WORKLOADS, Case
from .asking import Ask, asking, at_least
from .records import about, by_machine, keep, machine, measured_on, spread, summary
from .rows import as_record, speed_up, step_seconds

NAME, DOCUMENT = "peers", "TORCH_COMPILE_ACT.md"
MEASURED = ("aloha", "aloha_3cam", "pusht", "libero")
VARIANTS = ("auto", "auto_cpu", "frozen", *PEERS)
COLUMNS = {
    "auto": "`auto`",
    "auto_cpu": "`auto`, extra `cpu`",
    "frozen": "`frozen`",
    "onnxruntime": "ONNX Runtime by hand",
    "openvino": "OpenVINO by hand",
    "stock": "stock",
    EXPORT: "export",
}
IN_BF16 = ("auto", "openvino")  # where the processor computes in it; beside stock in fp32
TICKED, TICKING = ("aloha", "aloha_3cam"), ("auto", EXPORT)
SECONDS = 30  # of steps in a launch, all variants together
STEP, BF16, TICK, FIRST = "step beside peers", "step in bf16", "tick", "first action"
OPERATORS = "operators"
INSIDE = {"auto": "`auto`", "openvino": "by hand", UNBOUND: "by hand, not bound to cores"}
# What ``auto`` is to reach with AVX-512: times as fast as stock eager in fp32.
TARGETS = {
    STEP: {"aloha": 1.5, "aloha_3cam": 1.55, "pusht": 2.4, "libero": 2.4},
    BF16: {"aloha": 3.1, "aloha_3cam": 3.1, "pusht": 5.0, "libero": 5.0},
}
NOTHING, KEPT, REPLACED = "nothing kept", "architecture known", "weights replaced"


def tables(records: Sequence[Record]) -> dict[str, str]:
    """Each machine's table, by its place in the document."""
    return {f"{NAME} {name}": _table(found) for name, found in by_machine(records).items()}


def _table(records: Sequence[Record]) -> str:
    how = records[0]["about"]
    launches, seconds = how["launches"], how["seconds"]
    peers = ", ".join(f"{name} {release}" for name, release in how["peers"].items())
    beside = next(tuple(each["times_as_fast"]) for each in records if each["row"] == STEP)
    steps, in_bf16, ticks = (
        [
            [record["case"].split("-")[0], *(_cell(record, name) for name in names), *_verdict(record)]
            for record in records
            if record["row"] == row
        ]
        for row, names in ((STEP, beside), (BF16, IN_BF16), (TICK, ("stock", *TICKING)))
    )
    target = ["target of `auto`"] if _has_targets(records[0]) else []
    of_first = [each for each in records if each["row"].startswith(FIRST)]
    firsts = [[each["row"].partition(": ")[2], f"{spread(each['seconds'])} s"] for each in of_first]
    inside = [
        [
            *_of_step(record, name),
            f"{1e3 * each['takes']:.1f}",
            *(f"{1e3 * each['parts'][p]:.1f}" for p in PARTS),
        ]
        for record in records
        if record["row"] == OPERATORS
        for name, each in record["operators"].items()
    ]
    tabled = (
        ("inference", (*(COLUMNS[name] for name in beside), *target), steps),
        ("inference in bf16", (*(COLUMNS[name] for name in IN_BF16), *target), in_bf16),
        ("a tick", [COLUMNS[name] for name in ("stock", *TICKING)], ticks),
        (f"first action of {of_first[0]['case'].split('-')[0]} by `auto`", ("takes",), firsts),
        ("means in ms", ("by", "takes", *PARTS), inside),
    )
    return "\n\n".join(
        (
            f"{measured_on(how)} {peers}. Medians over {launches} fresh launches of {seconds} s of steps, "
            "in brackets the least and the most; times as fast as stock eager in fp32.",
            *(table([what, *columns], found) for what, columns, found in tabled if found),
        )
    )


def _of_step(record: Record, name: str) -> list[str]:
    case = record["case"].split("-")
    return [f"{case[0]} {case[-2]}", INSIDE[name]]


def _has_targets(record: Record) -> bool:
    return str(record["about"]["cpu"]).startswith("AVX512")


def _verdict(record: Record) -> list[str]:
    """``auto``'s target and whether it is met, where the machine and the row have one."""
    if record["row"] not in TARGETS or not _has_targets(record):
        return []
    target = TARGETS[record["row"]][record["case"].split("-")[0]]
    met = record["times_as_fast"]["auto"]["median"] >= target
    return [f"≥ {target:g}x: {'met' if met else '**not met**'}"]


def _cell(record: Record, name: str) -> str:
    if name == "stock":
        return f"{record['ms'][name]:.1f} ms"
    text = f"{spread(record['times_as_fast'][name])}x, {record['ms'][name]:.1f} ms"
    return f"**{text}**" if name == "auto" else text


def step(launches: Sequence[dict[str, list[float]]], ticks: int = 1) -> Record:
    """Figures of a workload; each launch holds the seconds of ``stock`` and of each variant.

    Args:
        ticks: in a step; the milliseconds are of one.
    """
    names = [name for name in launches[0] if name != "stock"]
    return {
        "times_as_fast": {name: speed_up(launches, name) for name in names},
        "ms": {name: 1e3 * median(median(each[name]) for each in launches) / ticks for name in launches[0]},
    }


def first_actions(ask: Ask, launches: int, case: Case) -> dict[str, Record]:
    """Seconds of a process's first action chunk, and of the one after other weights."""
    turns = range(launches)
    found = {
        NOTHING: [_first_call(ask, case, f"cold-{turn}") for turn in turns],
        KEPT: [_first_call(ask, case, "cold-0") for _ in turns],
        REPLACED: [float(ask("replaced", [case], "cold-0")["seconds"]) for _ in turns],
    }
    return {name: summary(seconds) for name, seconds in found.items()}


def _first_call(ask: Ask, case: Case, cache: str) -> float:
    return float(ask("first_call", [case], cache, fixed=False)["cases"][str(case)]["seconds"])


def add_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--launches", type=at_least(2), default=3, help="fresh processes per figure (default 3)")
    add("--seconds", type=at_least(1), default=SECONDS, help=f"of steps in a launch (default {SECONDS})")
    add("--workloads", nargs="+", choices=MEASURED, default=MEASURED, help="default: all")


def measure(args: argparse.Namespace) -> list[Record]:
    """The rows, measured and kept.

    Raises:
        ValueError: a peer is not installed.
    """
    missing = [name for name in PEERS if name not in installed()]
    if missing:
        raise ValueError(f"{', '.join(missing)} not installed; nox -s peers installs them")
    how = {"seconds": args.seconds, "pause": PAUSE}
    cases = {name: Case(name, "inference", "auto") for name in args.workloads}
    first = Case(args.workloads[0], "inference", "auto")
    ticked = [name for name in TICKED if name in cases]
    with asking(1) as (ask, _):
        environment = ask("rates", [Case("tiny", "inference", "stock")])["environment"]
    # Without AVX-512 a step in bf16 takes 40 times as long as in fp32.
    of_bf16 = list(cases) if environment["cpu"].startswith("AVX512") else []
    profiled = [*cases.values(), *(_in_bf16(cases[name], "auto") for name in of_bf16)]
    with asking(args.launches * (len(profiled) + len(ticked) + 3) + len(profiled)) as (ask, _):
        firsts = first_actions(ask, args.launches, first)
        found: dict[str, Any] = {}
        for name, case in cases.items():
            variants = [case.as_variant(each) for each in ("stock", *VARIANTS)]
            found[name] = step(step_seconds(ask, variants, args.launches, **how))
        in_bf16: dict[str, Any] = {}
        for name in of_bf16:
            variants = [cases[name].as_variant("stock"), *(_in_bf16(cases[name], each) for each in IN_BF16)]
            in_bf16[name] = step(step_seconds(ask, variants, args.launches, **how))
        ticks: dict[str, Any] = {}
        for name in ticked:
            variants = [Case(name, "tick", each) for each in ("stock", *TICKING)]
            ticks[name] = step(step_seconds(ask, variants, args.launches, **how), WORKLOADS[name].chunk)
        operators = {
            case: ask("openvino_operators", [case, case.as_variant("openvino")])["operators"]
            for case in profiled
        }
    made = about(environment, "cpu", ROOT, launches=args.launches, seconds=args.seconds, precision="fp32")
    made["peers"] = _releases()
    rows = [as_record(STEP, cases[name], about=made, **each) for name, each in found.items()]
    rows += [
        as_record(BF16, _in_bf16(cases[name], "auto"), about=made, **each) for name, each in in_bf16.items()
    ]
    rows += [as_record(TICK, Case(name, "tick", "auto"), about=made, **each) for name, each in ticks.items()]
    rows += [as_record(f"{FIRST}: {name}", first, about=made, seconds=each) for name, each in firsts.items()]
    rows += [as_record(OPERATORS, case, about=made, operators=each) for case, each in operators.items()]
    keep(NAME, rows, lambda record: machine(record["about"]) != machine(made))
    return rows


def _in_bf16(case: Case, variant: str) -> Case:
    return replace(case, variant=variant, precision="bf16")


def _releases() -> dict[str, str]:
    from importlib.metadata import version

    return {name: version(name) for name in PEERS}

"""Rows of the tables of ratios and of limits: what is measured of a case, and the target it stands beside."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from ..markdown import table
from ..records import Record
from ..suite.workloads import Case
from .asking import Ask
from .records import spread, summary

SECONDS = 40  # of steps in a launch, all variants together; with 5 a median scattered by 4%
HOW_OFTEN = (
    "Medians over {launches} fresh launches of {seconds} s of steps or one cold compile, in brackets the "
    "least and the most."
)
COLD_COMPILE, WARM_START = "cold compile", "warm start"  # with an empty cache; with torch's own caches full
WITH_ARTIFACT, FROM_ARTIFACT = "warm start with compile_artifact", "from an artifact"  # save_artifact's


class Kind(NamedTuple):
    """What a kind of row says.

    Attributes:
        what: after the workload and phase; ``case`` is its case.
        target: begins with the side of it that is met.
        value: what is compared with the target.
    """

    what: str
    target: str
    value: Callable[[Record], float]
    figure: Callable[[Record], str]


def _limit(record: Record) -> str:
    times, seconds, least = record["times_as_fast"], record["seconds"], record["limit"]
    return (
        f"{spread(times)}x: {1e3 * seconds['ours']:.1f} of {1e3 * seconds['stock']:.1f} ms; "
        f"limit {least['times_as_fast']:.2f}x ({1e3 * least['seconds']:.1f} ms)"
    )


def _first_call(record: Record) -> str:
    more = record.get("first_compile_seconds")
    apart = f"; {more:.1f} s more for the process's first compile, whatever it is" if more else ""
    return f"{spread(record['seconds'])} s{apart}"


def _difference(record: Record) -> str:
    strict = "" if record["about"].get("flags", "fp32") == "fp32" else " in strict fp32"
    return f"{record['difference']:.1e}{strict}"


KINDS = {
    "operations": Kind(
        ": ops captured", "≤ {}", lambda r: r["ours"], lambda r: f"{r['ours']}; stock {r['stock']}"
    ),
    "kernels": Kind(
        ": Inductor kernels",
        "≤ {:.2f} of stock's",
        lambda r: r["ours"] / r["stock"],
        lambda r: f"{r['ours']} of stock's {r['stock']}",
    ),
    "share of a cold compile": Kind(
        ": cold compile, share of stock's",
        "≤ {:.2f}",
        lambda r: r["share"]["median"],
        lambda r: f"{spread(r['share'])}; {r['ours']:.0f} s against {r['stock']:.0f} s",
    ),
    "speed-up": Kind(
        ": {case.variant}, times as fast as stock eager",
        "≥ {}x",
        lambda r: r["times_as_fast"]["median"],
        lambda r: f"{spread(r['times_as_fast'])}x",
    ),
    "peak memory": Kind(
        ": {case.variant}, peak memory, share of stock's",
        "≤ {}",
        lambda r: r["share"],
        lambda r: f"{r['share']:.4g}; {r['bytes'] / 2**20:.4g} MiB",
    ),
    "difference": Kind(
        ": {case.variant}, largest difference of an action from stock's",
        "≤ {:.0e}",
        lambda r: r["difference"],
        _difference,
    ),
    "step": Kind(", {case.precision}", "≥ {}x", lambda r: r["times_as_fast"]["median"], _limit),
    **{
        name: Kind(f": {name}", "≤ {} s", lambda r: r["seconds"]["median"], _first_call)
        for name in (COLD_COMPILE, WARM_START, WITH_ARTIFACT, FROM_ARTIFACT)
    },
}


class Line(NamedTuple):
    """A figure beside its target, in words; ``met`` is None where there is no target."""

    what: str
    figure: str
    target: str
    met: bool | None


@dataclass(frozen=True)
class Row:
    """What is measured of our case, and what it is to reach; ``kind`` is one of KINDS."""

    kind: str
    case: Case
    target: float | None = None

    def __str__(self) -> str:
        case = self.case
        return f"{case.workload} {case.phase}{KINDS[self.kind].what.format(case=case)}"

    @property
    def stock(self) -> Case:
        """Stock eager in fp32, whatever our precision is."""
        return Case(self.case.workload, self.case.phase, "stock", device=self.case.device)

    def line(self, record: Record, note: str = "") -> Line:
        kind = KINDS[self.kind]
        figure = kind.figure(record) + note
        if self.target is None:
            return Line(f"{self}", figure, "", None)
        value = kind.value(record)
        met = value >= self.target if kind.target.startswith("≥") else value <= self.target
        return Line(f"{self}", figure, kind.target.format(self.target), met)


def as_record(kind: str, case: Case, **figures: object) -> Record:
    return {"row": kind, "case": str(case), **figures}


def with_records(rows: Iterable[Row], records: Iterable[Record]) -> list[tuple[Row, Record]]:
    """The rows that have been measured, in their order."""
    found = {(record["row"], record["case"]): record for record in records}
    keys = {row: (row.kind, str(row.case)) for row in rows}
    return [(row, found[key]) for row, key in keys.items() if key in found]


def beside_targets(said: str, lines: Iterable[Line]) -> str:
    """Markdown: what was measured on, then one line a figure."""
    verdict = {True: "met", False: "**not met**", None: ""}
    return f"{said}\n\n" + table(
        ["", "figure", "target", "verdict"], ([*line[:3], verdict[line.met]] for line in lines)
    )


def times_as_fast(theirs: Sequence[float], ours: Sequence[float]) -> float:
    """The median over neighbours in time, so that one disturbed step is nothing."""
    return median(their / our for their, our in zip(theirs, ours, strict=True))


def step_seconds(ask: Ask, cases: Sequence[Case], launches: int) -> list[dict[str, list[float]]]:
    """Of each launch the seconds of each variant's steps, taken by turns."""
    answers = [ask("alternate", cases, seconds=SECONDS)["seconds"] for _ in range(launches)]
    return [{case.variant: answer[str(case)] for case in cases} for answer in answers]


def peak_memory(ask: Ask, cases: Sequence[Case]) -> Record:
    """Of the second case, beside the first."""
    peaks = ask("memory", cases)["bytes"]
    stock, ours = (peaks[str(case)] for case in cases)
    return {"share": ours / stock, "bytes": ours}


def speed_up(launches: Sequence[dict[str, list[float]]], variant: str) -> Record:
    """Over stock eager, by launch."""
    return summary([times_as_fast(seconds["stock"], seconds[variant]) for seconds in launches])

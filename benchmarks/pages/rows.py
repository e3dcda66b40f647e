"""Rows of the tables of ratios and of limits: what is measured of a case, and the target it stands beside."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from ..markdown import table
from ..records import Record
from ..suite.workloads import Case
from .asking import Ask
from .records import is_summary, spread, summary

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
        figure: of the record's fields, and of a ``summary`` its ``spread``.
        target: begins with the side of it that is met.
        compared: the field that is compared with the target; of a ``summary`` the median.
    """

    what: str
    figure: str
    target: str
    compared: str


FIRST_COMPILE = "; {first_compile_seconds:.1f} s more for the process's first compile, whatever it is"
KINDS = {
    "operations": Kind(": ops captured", "{ours}; stock {stock}", "≤ {}", "ours"),
    "kernels": Kind(": Inductor kernels", "{ours} of stock's {stock}", "≤ {:.2f} of stock's", "share"),
    "share of a cold compile": Kind(
        ": cold compile, share of stock's",
        "{share}; {ours:.0f} s against {stock:.0f} s",
        "≤ {:.2f}",
        "share",
    ),
    "speed-up": Kind(
        ": {case.variant}, times as fast as stock eager", "{times_as_fast}x", "≥ {}x", "times_as_fast"
    ),
    "peak memory": Kind(
        ": {case.variant}, peak memory, share of stock's", "{share:.4g}; {mib:.4g} MiB", "≤ {}", "share"
    ),
    "difference": Kind(
        ": {case.variant}, largest difference of an action from stock's in strict fp32",
        "{difference:.1e}",
        "≤ {:.0e}",
        "difference",
    ),
    "step": Kind(
        ", {case.precision}",
        "{times_as_fast}x: {ms[ours]:.1f} of {ms[stock]:.1f} ms; "
        "limit {limit[times_as_fast]:.2f}x ({limit[ms]:.1f} ms)",
        "≥ {}x",
        "times_as_fast",
    ),
    COLD_COMPILE: Kind(f": {COLD_COMPILE}", "{seconds} s", "≤ {} s", "seconds"),
    WARM_START: Kind(f": {WARM_START}", "{seconds} s", "≤ {} s", "seconds"),
    WITH_ARTIFACT: Kind(f": {WITH_ARTIFACT}", "{seconds} s", "≤ {} s", "seconds"),
    FROM_ARTIFACT: Kind(f": {FROM_ARTIFACT}", "{seconds} s", "≤ {} s", "seconds"),
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
        kind, compared = KINDS[self.kind], record[KINDS[self.kind].compared]
        summaries = {name: spread(each) for name, each in record.items() if is_summary(each)}
        first_compile = FIRST_COMPILE.format_map(record) if "first_compile_seconds" in record else ""
        figure = kind.figure.format_map({**record, **summaries}) + first_compile + note
        if self.target is None:
            return Line(f"{self}", figure, "", None)
        value = compared["median"] if is_summary(compared) else compared
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


def step_seconds(
    ask: Ask, cases: Sequence[Case], launches: int, **how: float
) -> list[dict[str, list[float]]]:
    """Of each launch the seconds of each variant's steps, taken by turns; ``how``: as in ``alternate``."""
    answers = [ask("alternate", cases, **{"seconds": SECONDS, **how})["seconds"] for _ in range(launches)]
    return [{case.variant: answer[str(case)] for case in cases} for answer in answers]


def peak_memory(ask: Ask, cases: Sequence[Case]) -> Record:
    """Of the second case, beside the first."""
    peaks = ask("memory", cases)["bytes"]
    stock, ours = (peaks[str(case)] for case in cases)
    return {"share": ours / stock, "mib": ours / 2**20}


def speed_up(launches: Sequence[dict[str, list[float]]], variant: str) -> Record:
    """Over stock eager, by launch."""
    return summary([times_as_fast(seconds["stock"], seconds[variant]) for seconds in launches])

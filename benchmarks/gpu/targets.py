"""What the project wants of one H100, and whether a record of it has that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from .. import markdown
from ..records import Record

HEADER = ("step", "target", "as recorded", "", "where it is not met: the kernels that take longest, ms")
KERNELS, LONGEST_NAME = 3, 32  # of a step whose target is not met, and characters of each
MET = {True: "met", False: "**not met**"}
CAPTURED = 1.1  # times the GPU's own work: what a captured prediction may take


@dataclass(frozen=True)
class Target:
    """Of one step; None where nothing is asked.

    Attributes:
        speed_up: at least, over stock eager in fp32.
        over_busy: the step's time over the GPU's own work, at most.
        spread: 99th percentile over median, at most.
        memory: peak over stock eager's, at most; the pools of CUDA graphs are in it.
    """

    speed_up: float | None = None
    over_busy: float | None = None
    spread: float | None = None
    memory: float | None = None


TARGETS = {
    "aloha inference fp32": Target(11, CAPTURED, spread=1.1),
    "aloha inference fp32, strict": Target(5, CAPTURED),
    "aloha inference bf16": Target(15, CAPTURED),
    "aloha_3cam inference fp32": Target(over_busy=CAPTURED),
    "aloha_3cam inference bf16": Target(over_busy=CAPTURED),
    "aloha tick_ensemble fp32": Target(8),
    "aloha training fp32": Target(4.3, memory=0.85),
    "aloha training bf16": Target(7),
    "pusht training fp32": Target(9),
}
FIRST_CALL = 12.0  # s, nothing cached, 16 cores


def table(records: Iterable[Record]) -> str:
    """Markdown: each target beside what was measured, and of what is not met where the GPU's time goes."""
    found = {record["name"]: record for record in records if record["part"] in ("steps", "first call")}
    rows: list[tuple[str, ...]] = []
    for name, target in TARGETS.items():
        if name not in found:
            rows.append((name, "", "not measured", "", ""))
            continue
        said = ""
        for wanted, measured, met in _compared(target, found[name]):
            kernels = "" if met or said else _longest(found[name])
            said = said or kernels
            rows.append((name, wanted, measured, MET[met], kernels))
    for name, record in found.items():
        if record["part"] == "first call":
            seconds = record["first_call"]
            wanted, measured = f"≤ {FIRST_CALL:.0f} s", f"{seconds:.1f} s"
            rows.append((f"first call, {name}", wanted, measured, MET[seconds <= FIRST_CALL], ""))
    return markdown.table(HEADER, rows)


def _compared(target: Target, record: Record) -> Iterator[tuple[str, str, bool]]:
    """The target in words, what was measured, and whether it is met."""
    stock, auto = record["stock"], record["auto"]
    if target.speed_up is not None:
        most = stock["ms"] / auto["busy"]
        measured = f"{record['speed_up']:.2f}x; {most:.2f}x if nothing but the GPU's work took time"
        yield f"≥ {target.speed_up:g}x stock eager", measured, record["speed_up"] >= target.speed_up
    for most, of, words in (
        (target.over_busy, auto["ms"] / auto["busy"], "GPU busy"),
        (target.spread, auto["p99"] / auto["ms"], "median at p99"),
        (target.memory, auto["peak"] / stock["peak"], "stock's peak memory"),
    ):
        if most is not None:
            yield f"≤ {most:g}x {words}", f"{of:.2f}x", of <= most


def _longest(record: Record) -> str:
    return "; ".join(
        f"{markdown.cell(name.removeprefix('void ')[:LONGEST_NAME])}… {microseconds / 1e3:.2f}"
        for name, _, microseconds in record["auto"]["longest"][:KERNELS]
    )

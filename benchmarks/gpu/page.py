"""What is recorded of a GPU as a table: for the terminal, and for TORCH_COMPILE_ACT.md."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from .. import markdown
from ..records import Record
from ..repository import ROOT
from . import targets

DOCUMENT = ROOT / "TORCH_COMPILE_ACT.md"
HEADER = (
    "step",
    "stock eager",
    "`auto`",
    "p99",
    "GPU busy",
    "kernels",
    "speed-up",
    "peak memory",
    "first call",
)
NAMES = {"first call": "First call,", "tests": "Tests,", "gate": "The gate,"}
SHORT = 600  # characters of what a line says
MEBIBYTE = 1 << 20


def one_line(record: Record) -> str:
    """What a record says, for whoever waits."""
    if record.get("failed"):
        return f"FAILED: {record['failed']}"
    if record["part"] == "steps":
        auto = record["auto"]
        return f"{record['speed_up']:.2f}x, {auto['ms']:.3f} ms, busy {auto.get('busy', 0):.3f} ms"
    if record["part"] == "first call":
        return f"{record['first_call']:.1f} s"
    if record["part"] == "tests":
        return ", ".join(f"{record[kind]} {kind}" for kind in ("passed", "skipped") if kind in record)
    verdict = {0: "no regression", 1: "a regression, by its cause"}.get(record["exit_code"], "no verdict")
    return f"{verdict}, as it should be, in {record['seconds']:.0f} s"


def row(record: Record) -> list[str]:
    stock, auto = record["stock"], record["auto"]
    peaks = [side.get("peak", 0) / MEBIBYTE for side in (stock, auto)]
    share = f" ({peaks[1] / peaks[0]:.2f}x)" if peaks[0] else ""
    return [
        record["name"],
        f"{stock['ms']:.2f} ms",
        f"{auto['ms']:.3f} ms",
        f"{auto['p99']:.3f}",
        _over(auto.get("busy"), auto["ms"]),
        f"{auto.get('kernels', 0):.0f}",
        f"{record['speed_up']:.2f}x",
        f"{peaks[1]:.0f} MiB{share}",
        f"{record['first_call']:.1f} s",
    ]


def _over(busy: float | None, ms: float) -> str:
    return f"{busy:.3f} ({ms / busy:.2f}x)" if busy else "-"


def table(records: Iterable[Record]) -> str:
    """Of steps, and under it a line for each test file, gate run and failure."""
    records = list(records)
    steps = [row(record) for record in records if record["part"] == "steps"]
    others = [f"{r['part']}, {r['name']}: {one_line(r)}" for r in records if r["part"] != "steps"]
    return "\n".join([markdown.table(HEADER, steps) if steps else "no step was timed", "", *others])


def write(records: Sequence[Record]) -> None:
    """Put the newest records of each device into the document.

    Raises:
        ValueError: nothing is recorded, or the document has no place for it.
    """
    begin, end = markdown.markers("gpu")
    markdown.write_between_markers(section(newest(records)), DOCUMENT, begin, end)


def newest(records: Iterable[Record]) -> list[Record]:
    """Of each device, part and name the last one; raises ValueError where none is of a GPU."""
    on_cuda = [record for record in records if record["on"] == "cuda" and record["part"] != "failures"]
    if not on_cuda:
        raise ValueError("nothing of a GPU is recorded; run python -m benchmarks.gpu on one")
    return list({(_device(r), r["part"], r["name"]): r for r in on_cuda}.values())


def section(records: Sequence[Record]) -> str:
    """Markdown: one table for each device, and what was measured."""
    found = []
    devices = dict.fromkeys(_device(record) for record in records if record["part"] == "steps")
    for device in devices:
        steps = [r for r in records if r["part"] == "steps" and _device(r) == device]
        about: dict[str, Any] = steps[0]["about"]
        found.append(
            f"{device}, torch {about['torch']}, LeRobot {about['lerobot']}, Python {about['python']}, "
            f"{about['threads']} threads, code {steps[0]['subject']}; inference "
            "batch 1, training batch 8; TF32 as lerobot-train sets "
            "it, strict rows without; stock eager in fp32 by turns in one process. Busy is the sum of the "
            "GPU's own work; peak memory is beyond weights and includes the pools of CUDA graphs. "
            "*: while all steps and tests compile at once.\n\n"
            + markdown.table(HEADER, [row(record) for record in steps])
        )
        first = [r for r in records if r["part"] == "first call" and _device(r) == device]
        found.append(targets.table([*steps, *first]))
    others = [f"- {NAMES[r['part']]} {r['name']}: {_short(r)}" for r in records if r["part"] in NAMES]
    return "\n\n".join([*found, "\n".join(others)])


def _short(record: Record) -> str:
    return markdown.cell(one_line(record)[:SHORT])


def _device(record: Record) -> str:
    return str(record.get("about", {}).get("device", ""))

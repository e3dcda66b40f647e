"""Tests, times and the gate on one GPU in at most 8 minutes: ``python -m benchmarks.gpu``, or ``nox -s gpu``.

It needs the project's dependencies, and pytest with pytest-timeout; no network, nox or uv. Everything
compiles side by side, then each step is timed alone. What is done is recorded after each part, so the same
command goes on with a run that was cut off. ``write`` puts the records into TORCH_COMPILE_ACT.md.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console

from ..command import exit_code, say
from ..one_run import alone, sigterm_interrupts
from ..records import Record, append, read
from ..repository import ROOT, MeasurementError
from ..suite.workloads import DEVICES, check_device
from . import gated, page, steps, tested
from .subject import digest

RECORDED = Path(__file__).with_name("recorded") / "gpu.jsonl"
PARTS = ("tests", "gate", "steps", "first call")


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    made.add_argument("write", nargs="?", choices=["write"], help="write what is recorded into the document")
    made.add_argument("--records", type=Path, default=RECORDED, help="where records go and are looked for")
    made.add_argument("--minutes", type=float, default=8.0, help="for all of it (8)")
    made.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    made.add_argument("--only", nargs="+", metavar="TEXT", help="steps, edits and files whose name has one")
    made.add_argument("--every-edit", action="store_true", help="the gate on five edits, not three")
    made.add_argument("--anew", action="store_true", help="measure also what is recorded already")
    made.add_argument("--device", choices=DEVICES, default="cuda", help="cpu rehearses the command")
    return made


def main(argv: Sequence[str] | None = None) -> int:
    options = parser().parse_args(argv)
    with sigterm_interrupts():
        if options.write:
            return exit_code("gpu", lambda: page.write(read(RECORDED)))
        interrupted = "interrupted; what is recorded stays, and the same command goes on"
        return exit_code("gpu", lambda: measure(options, Console(stderr=True)), interrupted=interrupted)


def measure(options: argparse.Namespace, console: Console, root: Path = ROOT) -> int:
    """Do what is not recorded yet, and print the table; 0, or 1 where a check failed.

    Raises:
        ValueError: the device is not there.
        MeasurementError: the time was up before all was measured.
    """
    check_device(options.device)
    end = time.monotonic() + 60 * options.minutes
    of_this = digest(root)
    found = [] if options.anew else [r for r in read(options.records) if is_of(r, of_this, options.device)]

    names = {
        "tests": tested.files(root),
        "gate": list(gated.EVERY) if options.every_edit else gated.EDITS,
        "steps": steps.names(options.device),
        "first call": [steps.FIRST_CALL],
    }

    def record(part: str, name: str, **figures: object) -> None:
        new: Record = {"part": part, "name": name, "subject": of_this, "on": options.device, **figures}
        append(options.records, new)
        found.append(new)
        console.print(f"{left(end):4.0f} s left: {part}, {name}: {page.one_line(new)}", highlight=False)

    def missing(part: str, names: Sequence[str]) -> list[str]:
        done = {record["name"] for record in found if record["part"] == part}
        only = options.only or [""]
        wanted = [name for name in names if any(text in name for text in only)]
        return [name for name in wanted if name not in done] if part in options.parts else []

    with alone(root), ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu-")))
        beside = [
            stack.enter_context(tested.running(missing("tests", names["tests"]), root, place)),
            stack.enter_context(gated.running(missing("gate", names["gate"]), options.device, root, place)),
        ]
        steps.measure(missing("steps", names["steps"]), options.device, record, end, beside)
        if left(end) > 0:
            steps.first_call(missing("first call", names["first call"]), options.device, record, end)
    say(page.table(found))
    if unmeasured := [name for part in PARTS for name in missing(part, names[part])]:
        raise MeasurementError(f"not measured: {', '.join(unmeasured)}; the same command goes on with them")
    newest = {record["name"]: record for record in found}  # what failed and was measured later has not failed
    return int(any(record.get("failed") for record in newest.values()))


def is_of(record: Record, subject: str, device: str) -> bool:
    return record["subject"] == subject and record["on"] == device


def left(end: float) -> float:
    """Seconds until then."""
    return max(0.0, end - time.monotonic())

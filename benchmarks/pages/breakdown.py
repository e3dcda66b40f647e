"""Where a step's and a compile's time goes: ``nox -s breakdown``, into TORCH_COMPILE_ACT.md.

The rows are those of ``limits``. Inference on a CPU is measured in mode ``frozen``, because torch's
profiler cannot see into ONNX Runtime; all else in mode ``auto``. A step's products and convolutions stand
beside the share of the machine's rate that they reach: what runs at all of it can be made
faster by computing less only. A compile is split by what torch waits for.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..markdown import table
from ..records import Record
from ..suite.profiling import COMPILE_STAGES, KINDS, MATRIX_WORK, REST, STEPS
from ..suite.workloads import Case
from . import limits
from .asking import asking
from .records import by_machine, keep, machine, measured_on, reached
from .rows import COLD_COMPILE, WARM_START, Row, as_record, with_records

NAME, DOCUMENT = "breakdown", limits.DOCUMENT
COMPILES = (COLD_COMPILE, WARM_START)  # in this order, as a cold one fills the case's cache


def rows(device: str) -> list[Row]:
    """Of both tables, in their order."""
    found = [row for row in limits.rows(device) if row.kind in ("step", *COMPILES)]
    return [replace(row, case=_by_torch(row.case)) for row in found]


def step_cells(row: Row, record: Record) -> list[str]:
    """A row: milliseconds by kind, and of matrix work the share of the machine's rate that it reaches."""
    cells = [f"{row}", f"{1e3 * record['seconds']:.1f} ms"]
    for kind in (*KINDS, REST):
        seconds = record["parts"][kind]
        cell = f"{1e3 * seconds:.1f} ms" if seconds else ""
        if kind in record["share_of_rate"]:
            flops, share = record["flops"][kind], record["share_of_rate"][kind]
            cell += f": {flops / 1e9:.1f} GFLOP at {share:.2f} of the rate"
        cells.append(cell)
    return cells


def compile_cells(row: Row, record: Record) -> list[str]:
    """A row: seconds by phase."""
    parts = (f"{record['parts'][phase]:.1f} s" for phase in (*COMPILE_STAGES, REST))
    return [f"{row}", f"{record['seconds']:.1f} s", *parts]


def tables(records: Sequence[Record]) -> dict[str, str]:
    """Both tables of each machine, by their place in the document."""
    return {f"{NAME} {name}": _tables(rows) for name, rows in by_machine(records).items()}


def _tables(records: Sequence[Record]) -> str:
    how = records[0]["about"]
    by_frozen = " Inference by `frozen`." if how["device"] == "cpu" else ""
    parts = [
        f"{measured_on(how)}{by_frozen} One launch each, {how['steps']} steps under torch's profiler. "
        f"{reached(how['rates'])}"
    ]
    measured = with_records(rows(how["device"]), records)
    for wanted, first, columns, cells in (
        (("step",), "a step of", KINDS, step_cells),
        (COMPILES, "a compile of", COMPILE_STAGES, compile_cells),
    ):
        lines = [cells(row, record) for row, record in measured if row.kind in wanted]
        parts += [table([first, "takes", *columns, REST], lines)] if lines else []
    return "\n\n".join(parts)


def figures(answer: Mapping[str, Any], rate: float) -> Record:
    """What a record keeps of an answer.

    Args:
        rate: of products in the case's precision, FLOP/s.
    """
    times, flops = answer["times"], answer.get("flops", {})
    shares = {kind: flops[kind] / times[kind] / rate for kind in MATRIX_WORK if flops and times[kind]}
    of_step = {"flops": flops, "share_of_rate": shares} if flops else {}
    return {"seconds": answer["takes"], "parts": times, **of_step}


def _by_torch(case: Case) -> Case:
    return case.as_variant("frozen") if (case.phase, case.device) == ("inference", "cpu") else case


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", default="cpu", choices=tuple(limits.STEPS))


def measure(args: argparse.Namespace) -> list[Record]:
    """Every row of the machine, measured and kept.

    Raises:
        ValueError: the document has no place for this machine's tables; nothing is measured.
    """
    new, chosen = [], rows(args.device)
    with asking(1 + len(chosen)) as (ask, _):
        made = limits.about_machine(ask, args.device, NAME, launches=1, steps=STEPS)
        for row in chosen:
            is_step = row.kind == "step"
            do, cache = ("step_breakdown", "warm") if is_step else ("compile_breakdown", f"{row.case}")
            found = figures(ask(do, [row.case], cache), made["rates"][row.case.precision])
            new.append(as_record(row.kind, row.case, about=made, **found))
    keep(NAME, new, lambda record: machine(record["about"]) != machine(made))
    return new

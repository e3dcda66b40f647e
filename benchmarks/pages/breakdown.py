"""Where a step's and a compile's time goes: ``nox -s breakdown``, into TORCH_COMPILE_ACT.md.

The rows are those of ``limits``, in ``compile_mode="auto"``. A step's products and convolutions stand
beside the share of ``torch.mm``'s rate that they reach on the machine: what runs at all of it can be
made faster by computing less only. A compile is split by what torch waits for.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..markdown import write_between_markers
from ..repository import ROOT, MeasurementError
from ..suite.launch import as_request, launch
from ..suite.profiling import COMPILE_STAGES, KINDS, MATRIX_WORK, REST, STEPS
from ..suite.workloads import Case
from .limits import ARTIFACT, FIRST_CALLS, KEPT, PAGE, SPEED_UPS, Seconds, SpeedUp, place_of
from .ratios import flags_of, subject_as_of

BEGIN, END = "<!-- breakdown {machine}: written by nox -s breakdown -->", "<!-- /breakdown {machine} -->"


def step_line(wanted: SpeedUp, found: Mapping[str, Any], rates: Mapping[str, float]) -> str:
    """A row: milliseconds by kind, and of matrix work the share of the machine's rate that it reaches."""
    cells = [f"{wanted}", f"{1e3 * found['takes']:.1f} ms"]
    for kind, seconds in found["times"].items():
        cell = f"{1e3 * seconds:.1f} ms" if seconds else ""
        if kind in MATRIX_WORK and seconds:
            flops = found["flops"][kind]
            rate = flops / seconds / rates[wanted.precision]
            cell += f": {flops / 1e9:.1f} GFLOP at {rate:.2f} of torch.mm's rate"
        cells.append(cell)
    return f"| {' | '.join(cells)} |"


def compile_line(wanted: Seconds, found: Mapping[str, Any]) -> str:
    """A row: seconds by phase."""
    cells = [
        f"{found['takes']:.1f} s",
        *(f"{found['times'][phase]:.1f} s" for phase in (*COMPILE_STAGES, REST)),
    ]
    return f"| {wanted} | {' | '.join(cells)} |"


def tables(about: str, steps: Sequence[str], compiles: Sequence[str]) -> str:
    def head(first: str, columns: Sequence[str]) -> str:
        return f"| {first} | takes | {' | '.join(columns)} |\n|{'---|' * (len(columns) + 2)}"

    parts = [about]
    if steps:
        parts.append("\n".join([head("a step of", [*KINDS, REST]), *steps]))
    if compiles:
        parts.append("\n".join([head("", [*COMPILE_STAGES, REST]), *compiles]))
    return "\n\n".join(parts)


def measure(device: str) -> tuple[str, list[str]]:
    """Both tables and what they were measured on; where they go."""
    steps = SPEED_UPS[device]
    compiles = [first for first in FIRST_CALLS if first.how not in (ARTIFACT, KEPT)]
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        place = Path(directory)
        task = progress.add_task("", total=1 + len(steps) + len(compiles))

        def ask(do: str, case: Case, cache: str = "warm") -> dict[str, Any]:
            progress.update(task, description=f"{do.replace('_', ' ')}: {case}")
            answer = launch(as_request(do, [case]), inductor_cache=place / cache)
            progress.advance(task)
            return answer

        answer = ask("rates", Case("tiny", "inference", "stock", device=device))
        rates, made = answer["rates"], answer["environment"]
        marks = place_of(device, made, BEGIN, END)
        lines = [step_line(wanted, ask("step_breakdown", wanted.cases(device)[1]), rates) for wanted in steps]
        more = []
        for first in compiles:
            case = Case(first.workload, first.phase, "auto", device=device)
            # A case has one cache: its cold compile comes first and fills it for the warm start.
            more.append(compile_line(first, ask("compile_breakdown", case, str(case))))
    about = (
        f"{made['threads']} threads, {made['cpu']}, torch {made['torch']}, LeRobot {made['lerobot']}, Python "
        f"{made['python']}, {device}{flags_of(made)}; inference batch 1, training batch 8; "
        f"{subject_as_of(ROOT)}. One launch each, {STEPS} steps under torch's profiler; torch.mm reaches "
        f"fp32 {rates['fp32'] / 1e9:.0f}, bf16 {rates['bf16'] / 1e9:.0f} GFLOP/s."
    )
    return tables(about, lines, more), marks


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 2: could not."""
    parser = argparse.ArgumentParser(prog="nox -s breakdown --", description=__doc__.split("\n\n")[0])
    parser.add_argument("--device", default="cpu", choices=tuple(SPEED_UPS))
    args = parser.parse_args(argv)
    try:
        text, marks = measure(args.device)
        print(text)
        write_between_markers(text, ROOT / PAGE, *marks)
    except (RuntimeError, ValueError, MeasurementError, subprocess.TimeoutExpired) as error:
        print(f"breakdown: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

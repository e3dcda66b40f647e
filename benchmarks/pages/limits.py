"""How fast the fastest mode is, and how fast the machine lets it be: ``nox -s limits``.

Every row is ``compile_mode="auto"`` against stock LeRobot eager in fp32, by turns in one process, over
fresh launches. Beside it stands the limit: what the step's matrix work takes at the rate of
``torch.mm`` on this machine and precision, or its memory traffic at the rate of a copy, whichever is
longer. It is written into TORCH_COMPILE_ACT.md.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..markdown import write_between_markers
from ..repository import ROOT, MeasurementError
from ..suite.launch import as_request, launch
from ..suite.workloads import Case
from .ratios import Row, described, spread, table

PAGE = "TORCH_COMPILE_ACT.md"
BEGIN, END = "<!-- limits {machine}: written by nox -s limits -->", "<!-- /limits {machine} -->"
SUBJECT = re.compile(r"the subject as of \w+( with uncommitted changes)?")
SECONDS = 40  # of steps in a launch, both variants together


@dataclass(frozen=True)
class SpeedUp:
    """A step's speed-up over stock eager fp32 that is to be reached."""

    workload: str
    phase: str
    precision: str
    target: float

    def cases(self, device: str) -> list[Case]:
        return [
            Case(self.workload, self.phase, "stock", device=device),
            Case(self.workload, self.phase, "auto", self.precision, device),
        ]

    def __str__(self) -> str:
        return f"{self.workload} {self.phase}, {self.precision}"


COLD = "cold compile"
WARM = "warm start"  # torch's own caches are full
KEPT = "warm start with compile_artifact"
ARTIFACT = "from an artifact"  # that save_artifact made


@dataclass(frozen=True)
class Seconds:
    """The longest that a first call may take, s."""

    workload: str
    phase: str
    target: float
    how: str = COLD

    def __str__(self) -> str:
        return f"{self.workload} {self.phase}: {self.how}"


SPEED_UPS = {
    "cpu": (
        SpeedUp("aloha", "inference", "fp32", 1.38),
        SpeedUp("aloha", "inference", "bf16", 2.75),
        SpeedUp("aloha_3cam", "inference", "fp32", 1.38),
        SpeedUp("pusht", "training", "fp32", 1.25),
        SpeedUp("pusht", "training", "bf16", 1.9),
        SpeedUp("aloha", "training", "fp32", 1.25),
    ),
    "cuda": (
        SpeedUp("aloha", "inference", "fp32", 4),
        SpeedUp("aloha", "inference", "bf16", 6),
        SpeedUp("aloha", "training", "fp32", 2.5),
        SpeedUp("aloha", "training", "bf16", 4),
        SpeedUp("aloha", "rollout_ensemble", "fp32", 4),
    ),
}
FIRST_CALLS = (
    Seconds("aloha", "inference", 8),
    Seconds("aloha", "inference", 2.5, WARM),
    Seconds("aloha", "inference", 2.5, KEPT),
    Seconds("aloha", "inference", 1.5, ARTIFACT),
    Seconds("pusht", "training", 25),
)
MEMORY = ("pusht", "training", 0.85)


def limit(work: dict[str, Any], rates: dict[str, float], precision: str) -> float:
    """Seconds that the machine needs for a step: its matrix work, or its least memory traffic."""
    return max(work["flops"] / rates[precision], work["bytes"] / rates["bytes"])


def speed_up_row(wanted: SpeedUp, launches: Sequence[dict[str, Any]], rates: dict[str, float]) -> Row:
    """Each launch holds seconds by variant, and the ``work`` of the step."""
    ratios = [
        median(stock / ours for stock, ours in zip(each["stock"], each["auto"], strict=True))
        for each in launches
    ]
    stock, ours = (1e3 * median(median(each[name]) for each in launches) for name in ("stock", "auto"))
    least = 1e3 * limit(launches[0]["work"], rates, wanted.precision)
    return Row(
        f"{wanted}",
        f"{spread(ratios)}x: {ours:.1f} of {stock:.1f} ms; limit {stock / least:.2f}x ({least:.1f} ms)",
        f"≥ {wanted.target}x",
        median(ratios) >= wanted.target,
    )


def seconds_row(wanted: Seconds, found: Sequence[dict[str, float]]) -> Row:
    seconds = [each["seconds"] for each in found]
    fixed = [each["fixed"] for each in found if "fixed" in each]
    apart = f"; {median(fixed):.1f} s more for the process's first compile, whatever it is" if fixed else ""
    return Row(
        f"{wanted}", f"{spread(seconds)} s{apart}", f"≤ {wanted.target} s", median(seconds) <= wanted.target
    )


def place_of(device: str, environment: Mapping[str, Any], begin: str = BEGIN, end: str = END) -> list[str]:
    """The markers between which this machine's table stands: processors differ by more than twice in bf16.

    Raises:
        ValueError: the page has no place for such a machine yet.
    """
    machine = f"{device} {environment['cpu']}" if device == "cpu" else device
    marks = [mark.format(machine=machine) for mark in (begin, end)]
    page = (ROOT / PAGE).read_text("utf-8")
    if not all(mark in page for mark in marks):
        raise ValueError(f"{PAGE} has no place for this machine; put {' and '.join(marks)} into it")
    return marks


def measure(launches: int, device: str, only: Sequence[str]) -> tuple[list[Row], str, list[str]]:
    """Every row whose name holds one of ``only``, or all; what they were measured on; where they go.

    Raises:
        ValueError: there is no place for them; nothing has been timed yet.
    """
    speed_ups = [row for row in SPEED_UPS[device] if _asked(str(row), only)]
    firsts = [row for row in FIRST_CALLS if _asked(str(row), only)]
    memory = _asked("memory", only)
    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as directory,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        total = (
            1 + len(speed_ups) * (launches + 1) + sum(launches + (row.how != COLD) for row in firsts) + memory
        )
        task = progress.add_task("", total=total)
        warm = Path(directory) / "warm"

        def ask(do: str, cases: list[Case], cache: Path = warm, **options: Any) -> dict[str, Any]:
            progress.update(task, description=f"{do.replace('_', ' ')}: {cases[-1]}")
            answer = launch(as_request(do, cases, **options), inductor_cache=cache)
            progress.advance(task)
            return answer

        answer = ask("rates", [Case("tiny", "inference", "stock", device=device)])
        rates, about = answer["rates"], described(answer["environment"], launches, device)
        marks = place_of(device, answer["environment"])
        for wanted in speed_ups:
            cases = wanted.cases(device)
            work = ask("work", [cases[1].as_variant("eager")])["work"]
            found = []
            for _ in range(launches):
                seconds = ask("alternate", cases, seconds=SECONDS)["seconds"]
                found.append({case.variant: seconds[str(case)] for case in cases} | {"work": work})
            rows.append(speed_up_row(wanted, found, rates))
        for first in firsts:
            found_seconds = _first_calls(first, device, launches, ask, Path(directory))
            rows += [seconds_row(first, found_seconds)]
        if memory:
            workload, phase, most = MEMORY
            cases = [Case(workload, phase, variant, device=device) for variant in ("stock", "auto")]
            peaks = ask("memory", cases)["bytes"]
            stock, ours = (peaks[str(case)] for case in cases)
            rows.append(
                Row(
                    f"{workload} {phase}: peak memory, share of stock eager's",
                    f"{ours / stock:.2f}; {ours / 2**20:.0f} MiB",
                    f"≤ {most}",
                    ours <= most * stock,
                )
            )
    reached = ", ".join(f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in rates.items() if name != "bytes")
    return rows, f"{about} torch.mm reaches {reached}; a copy {rates['bytes'] / 1e9:.0f} GB/s.", marks


def replaced(rows: Sequence[Row], text: str, about: str) -> str:
    """The table ``text`` with these rows in place of those of the same names, and what subject they are of.

    Raises:
        ValueError: a row is not there yet, or the page's figures are of another machine.
    """
    machine, subject = about.partition("; ")[0], SUBJECT.search(about)
    lines = text.strip().splitlines()
    if not any(line.startswith(machine) for line in lines) or subject is None:
        raise ValueError(f"{PAGE} has no figures of this machine ({machine}); run without --only first")
    for row in rows:
        at = [i for i, line in enumerate(lines) if line.startswith(f"| {row.what} |")]
        if len(at) != 1:
            raise ValueError(f"{PAGE} has no row {row.what!r}; run without --only first")
        figure = f"{row.figure} ({subject.group()})"
        lines[at[0]] = replace(row, figure=figure).markdown()
    return "\n".join(lines)


def _asked(name: str, only: Sequence[str]) -> bool:
    return not only or any(part in name for part in only)


def _first_calls(
    first: Seconds, device: str, launches: int, ask: Any, directory: Path
) -> list[dict[str, float]]:
    case = Case(first.workload, first.phase, "auto", device=device)
    place = str(directory / f"{first}")
    if first.how == ARTIFACT:
        ask("save", [case], into=place)
        return [ask("load", [case], saved=place) for _ in range(launches)]
    if first.how == KEPT:
        ask("start", [case], kept=place)  # makes it
        found = [ask("start", [case], kept=place) for _ in range(launches)]
        if any(each["made"] for each in found):
            raise RuntimeError(f"{case} was compiled although an artifact of it is kept")
        return found
    cache = directory / f"{case}"
    found = []
    for turn in range(launches + (first.how == WARM)):
        answer = ask("first_call", [case], cache if first.how == WARM else cache / str(turn))
        if not (first.how == WARM and turn == 0):
            found.append({"seconds": answer["cases"][str(case)]["seconds"], "fixed": answer["fixed_seconds"]})
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 2: could not. A target that is not met is said in the table."""
    parser = argparse.ArgumentParser(prog="nox -s limits --", description=__doc__.split("\n\n")[0])
    parser.add_argument("--launches", type=int, default=3, help="fresh processes per figure (default 3)")
    parser.add_argument("--device", default="cpu", choices=tuple(SPEED_UPS))
    parser.add_argument(
        "--only", nargs="+", default=[], metavar="WORDS", help="rows whose name holds these; the others stay"
    )
    args = parser.parse_args(argv)
    if args.launches < 2:
        parser.error("--launches takes at least 2")
    try:
        rows, about, marks = measure(args.launches, args.device, args.only)
        text = table(rows, (), about)
        print(text)
        page = ROOT / PAGE
        if args.only:
            there = page.read_text("utf-8").partition(marks[0])[2].partition(marks[1])[0]
            text = replaced(rows, there, about)
        write_between_markers(text, page, *marks)
    except (RuntimeError, ValueError, MeasurementError, subprocess.TimeoutExpired) as error:
        print(f"limits: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

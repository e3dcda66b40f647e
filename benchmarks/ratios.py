"""What is gained over stock LeRobot, as ratios taken in one run: ``nox -s ratios``.

Cold compiles: every launch has an empty cache and compiles one case; the fixed cost of a
process's first compile is measured apart and left out. Step times: within a launch the
variants take turns; a launch gives one ratio, of its medians. Counts and memory are exact.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .launch import as_request, launch
from .repository import ROOT
from .workloads import Case

BEGIN, END = "<!-- ratios: written by nox -s ratios -->", "<!-- /ratios -->"
COLD = {"aloha": 1 / 2, "aloha_3cam": 1 / 4}  # most a cold compile may take, as a share of stock's
OPS = {"aloha": 275, "aloha_3cam": 300}
KERNELS = 1 / 3
COMPILED_SPEED_UP = {("aloha", "inference"): 1.25}
EAGER_SPEED_UP = 0.98
DIFFERENCE = 1e-5
TIMED = (
    ("aloha", "inference"),
    ("aloha_3cam", "inference"),
    ("pusht", "inference"),
    ("libero", "inference"),
    ("aloha", "rollout_ensemble"),
    ("pusht", "training"),
)


@dataclass(frozen=True)
class Row:
    """One line of the table: a figure beside its target."""

    what: str
    figure: str
    target: str
    met: bool | None  # None: there is no target

    def markdown(self) -> str:
        verdict = {True: "met", False: "**not met**", None: ""}[self.met]
        return f"| {self.what} | {self.figure} | {self.target} | {verdict} |"


def spread(values: Sequence[float]) -> str:
    """Median, and in brackets the least and the most where there are several."""
    if len(values) == 1:
        return f"{values[0]:.2f}"
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def compile_rows(workload: str, stock: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[Row]:
    """Cold compile time and kernels; each list holds one answer of ``first_call`` per launch."""
    stock_seconds, our_seconds = ([launched["seconds"] for launched in side] for side in (stock, ours))
    shares = [our / theirs for theirs, our in zip(stock_seconds, our_seconds, strict=True)]
    kernels = ours[0]["kernels"], stock[0]["kernels"]
    return [
        Row(
            f"{workload} inference: cold compile, share of stock's",
            f"{spread(shares)}; {median(our_seconds):.0f} s against {median(stock_seconds):.0f} s",
            f"≤ {COLD[workload]:.2f}",
            median(shares) <= COLD[workload],
        ),
        Row(
            f"{workload} inference: Inductor kernels",
            f"{kernels[0]} of stock's {kernels[1]}",
            "≤ 1/3",
            kernels[0] <= KERNELS * kernels[1],
        ),
    ]


def ops_row(workload: str, stock: int, ours: int) -> Row:
    return Row(
        f"{workload} inference: ops captured",
        f"{ours}; stock {stock}",
        f"≤ {OPS[workload]}",
        ours <= OPS[workload],
    )


def speed_up_rows(workload: str, phase: str, launches: list[dict[str, list[float]]]) -> list[Row]:
    """Speed-up over stock eager; each launch holds seconds by variant."""
    rows = []
    for variant, target in (
        ("eager", EAGER_SPEED_UP),
        ("compiled", COMPILED_SPEED_UP.get((workload, phase))),
    ):
        ratios = [median(seconds["stock"]) / median(seconds[variant]) for seconds in launches]
        rows.append(
            Row(
                f"{workload} {phase}: {variant}, times as fast as stock eager",
                f"{spread(ratios)}x",
                f"≥ {target}x" if target else "",
                median(ratios) >= target if target else None,
            )
        )
    return rows


def memory_row(workload: str, phase: str, stock: int, ours: int) -> Row:
    return Row(
        f"{workload} {phase}: eager, peak memory, share of stock's",
        f"{ours / stock:.4f}; {ours / 2**20:.1f} MiB",
        "≤ 1",
        ours <= stock,
    )


def measure(launches: int, cold_launches: int, device: str) -> tuple[list[Row], dict[str, Any]]:
    """Every row of the table, and the environment in which they were measured."""
    rows: list[Row] = []
    total = 4 * cold_launches + len(OPS) + len(TIMED) * (launches + 1) + 1
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as warm,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("", total=total)

        def ask(do: str, cases: list[Case], cache: Path = Path(warm)) -> dict[str, Any]:
            progress.update(task, description=f"{do.replace('_', ' ')}: {cases[-1]}")
            answer = launch(as_request(do, cases), inductor_cache=cache)
            progress.advance(task)
            return answer

        for workload in COLD if cold_launches else ():
            sides: dict[str, list[dict[str, Any]]] = {"stock-compiled": [], "compiled": []}
            for _ in range(cold_launches):
                for variant, answers in sides.items():
                    case = Case(workload, "inference", variant, device=device)
                    with tempfile.TemporaryDirectory() as empty:
                        answers.append(ask("first_call", [case], Path(empty))["cases"][str(case)])
            rows += compile_rows(workload, sides["stock-compiled"], sides["compiled"])
        for workload in OPS:
            pair = [Case(workload, "inference", variant, device=device) for variant in ("stock", "eager")]
            traces = ask("traced", pair)["traces"]
            rows.append(ops_row(workload, *(traces[str(case)]["ops"] for case in pair)))
        for workload, phase in TIMED:
            cases = [
                Case(workload, phase, variant, device=device) for variant in ("stock", "eager", "compiled")
            ]
            answers = [ask("alternate", cases)["seconds"] for _ in range(launches)]
            by_variant = [{case.variant: seconds[str(case)] for case in cases} for seconds in answers]
            rows += speed_up_rows(workload, phase, by_variant)
            peaks = ask("memory", cases[:2])["bytes"]
            rows.append(memory_row(workload, phase, *(peaks[str(case)] for case in cases[:2])))
        cases = [
            Case("aloha", "inference", variant, device=device) for variant in ("stock", "eager", "compiled")
        ]
        answer = ask("difference", cases)
        for case in cases[1:]:
            found = answer["difference"][str(case)]
            what = f"aloha inference: {case.variant}, largest difference of an action from stock's"
            rows.append(Row(what, f"{found:.1e}", f"≤ {DIFFERENCE:.0e}", found <= DIFFERENCE))
    return rows, answer["environment"]


def table(
    rows: Sequence[Row], environment: dict[str, Any], launches: int, cold_launches: int, device: str
) -> str:
    """Markdown: what was measured on, then one line a figure."""
    described = (
        f"{environment['threads']} threads, {environment['cpu']}, torch {environment['torch']}, "
        f"LeRobot {environment['lerobot']}, Python {environment['python']}, {device}, fp32; inference and "
        f"rollout batch 1, training batch 8; medians over {launches} fresh launches ({cold_launches} of each "
        "cold compile), in brackets the least and the most."
    )
    lines = ["| | figure | target | |", "|---|---|---|---|", *(row.markdown() for row in rows)]
    return f"{described}\n\n" + "\n".join(lines)


def write_between_markers(text: str, path: Path, begin: str = BEGIN, end: str = END) -> None:
    """Replace what stands between ``begin`` and ``end`` in ``path``.

    Raises:
        ValueError: the markers are not there.
    """
    page = path.read_text(encoding="utf-8")
    before, opened, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not opened or not closed:
        raise ValueError(f"{path.name} has no place for these figures; put {begin} and {end} into it")
    path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 2: could not. A target that is not met is said in the table."""
    parser = argparse.ArgumentParser(prog="nox -s ratios --", description=__doc__.split("\n\n")[0])
    parser.add_argument("--launches", type=int, default=3, help="fresh processes per figure (default 3)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--cold-launches", type=int, default=3, help="of cold compiles (3; 0 for none)")
    parser.add_argument("--print", action="store_true", help="print the table and leave README.md alone")
    args = parser.parse_args(argv)
    if args.launches < 1 or args.cold_launches < 0:
        parser.error("--launches takes at least 1, --cold-launches at least 0")
    try:
        rows, environment = measure(args.launches, args.cold_launches, args.device)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        print(f"ratios: {error}", file=sys.stderr)
        return 2
    text = table(rows, environment, args.launches, args.cold_launches, args.device)
    print(text)
    if not args.print:
        write_between_markers(text, ROOT / "README.md")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What is gained over stock LeRobot, as ratios taken in one run: ``nox -s ratios``.

Cold compiles: every launch has an empty cache and compiles one case; the fixed cost of a
process's first compile is measured apart and left out. Step times: within a launch the
variants take turns; a launch gives one ratio, the median over its rounds. Counts and memory are exact.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ..markdown import write_between_markers
from ..repository import PACKAGE, ROOT, MeasurementError, git
from ..suite.launch import as_request, launch
from ..suite.precision import has_tf32
from ..suite.workloads import Case

BEGIN, END = "<!-- ratios: written by nox -s ratios -->", "<!-- /ratios -->"
COLD = {"aloha": 1 / 2, "aloha_3cam": 1 / 4}  # most a cold compile may take, as a share of stock's
OPS = {"aloha": 275, "aloha_3cam": 300}
KERNELS = 1 / 3
COMPILED_SPEED_UP = {("aloha", "inference"): 1.25}
EAGER_SPEED_UP = 0.98
DIFFERENCE = 1e-5
SECONDS = 40  # of steps in a launch, all variants together; with 5 a median scattered by 4%
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


COLD_ROWS = ("inference: cold compile", "inference: Inductor kernels")


def compile_rows(workload: str, stock: list[dict[str, Any]], ours: list[dict[str, Any]]) -> list[Row]:
    """Cold compile time and kernels; each list holds one answer of ``first_call`` per launch."""
    stock_seconds, our_seconds = ([launched["seconds"] for launched in side] for side in (stock, ours))
    shares = [our / theirs for theirs, our in zip(stock_seconds, our_seconds, strict=True)]
    kernels = ours[0]["kernels"], stock[0]["kernels"]
    return [
        Row(
            f"{workload} {COLD_ROWS[0]}, share of stock's",
            f"{spread(shares)}; {median(our_seconds):.0f} s against {median(stock_seconds):.0f} s",
            f"≤ {COLD[workload]:.2f}",
            median(shares) <= COLD[workload],
        ),
        Row(
            f"{workload} {COLD_ROWS[1]}",
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
        ratios = [
            median(stock / ours for stock, ours in zip(seconds["stock"], seconds[variant], strict=True))
            for seconds in launches
        ]
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


def measure(
    launches: int, device: str, page: str, *, keep_cold: bool = False
) -> tuple[list[Row], list[str], str]:
    """Every figure, measured.

    Args:
        page: text of the page the table is for.
        keep_cold: leave cold compiles as they stand there; they are most of the time.

    Returns:
        Rows, the lines kept, and what they were measured on.

    Raises:
        ValueError: cold compiles are to be kept, and are another subject's or machine's.
    """
    rows: list[Row] = []
    total = (0 if keep_cold else 4 * launches) + len(OPS) + len(TIMED) * (launches + 1) + 1
    columns = (TextColumn("{task.description}"), MofNCompleteColumn(), TimeElapsedColumn())
    with (
        tempfile.TemporaryDirectory() as warm,
        Progress(*columns, console=Console(stderr=True)) as progress,
    ):
        task = progress.add_task("", total=total)

        def ask(do: str, cases: list[Case], cache: Path = Path(warm), **options: Any) -> dict[str, Any]:
            progress.update(task, description=f"{do.replace('_', ' ')}: {cases[-1]}")
            answer = launch(as_request(do, cases, **options), inductor_cache=cache)
            progress.advance(task)
            return answer

        for workload in OPS:
            pair = [Case(workload, "inference", variant, device=device) for variant in ("stock", "eager")]
            answer = ask("traced", pair)
            rows.append(ops_row(workload, *(answer["traces"][str(case)]["ops"] for case in pair)))
        about = described(answer["environment"], launches, device)
        kept = cold_lines(page, about) if keep_cold else []
        for workload in () if keep_cold else COLD:
            sides: dict[str, list[dict[str, Any]]] = {"stock-compiled": [], "compiled": []}
            for _ in range(launches):
                for variant, answers in sides.items():
                    case = Case(workload, "inference", variant, device=device)
                    with tempfile.TemporaryDirectory() as empty:
                        answers.append(ask("first_call", [case], Path(empty))["cases"][str(case)])
            rows += compile_rows(workload, sides["stock-compiled"], sides["compiled"])
        for workload, phase in TIMED:
            cases = [
                Case(workload, phase, variant, device=device) for variant in ("stock", "eager", "compiled")
            ]
            timed = [ask("alternate", cases, seconds=SECONDS)["seconds"] for _ in range(launches)]
            by_variant = [{case.variant: seconds[str(case)] for case in cases} for seconds in timed]
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
            strict = " in strict fp32" if has_tf32(device) else ""
            rows.append(Row(what, f"{found:.1e}{strict}", f"≤ {DIFFERENCE:.0e}", found <= DIFFERENCE))
    return rows, kept, about


def described(environment: dict[str, Any], launches: int, device: str) -> str:
    """What belongs beside every figure: machine, versions, subject, how often."""
    return (
        f"{environment['threads']} threads, {environment['cpu']}, torch {environment['torch']}, "
        f"LeRobot {environment['lerobot']}, Python {environment['python']}, {device}, fp32"
        f"{flags_of(environment)}; inference and rollout batch 1, training batch 8; "
        f"{subject_as_of(ROOT)}. Medians over {launches} "
        f"fresh launches of {SECONDS} s of steps or one cold compile, in brackets the least and the most."
    )


def flags_of(environment: Mapping[str, Any]) -> str:
    """In brackets what a launch was timed with; nothing on a CPU, which has no such flags."""
    flags = environment.get("flags", "fp32")
    return "" if flags == "fp32" else f" ({flags})"


def subject_as_of(root: Path) -> str:
    """Which commit changed what is measured last, and whether the working tree has changed it since."""
    commit = git("log", "-1", "--format=%h", "--", PACKAGE, root=root)
    changed = " with uncommitted changes" if git("status", "--porcelain", "--", PACKAGE, root=root) else ""
    return f"the subject as of {commit}{changed}"


def cold_lines(page: str, about: str) -> list[str]:
    """Lines of the table in ``page`` that say what a cold compile takes.

    Raises:
        ValueError: they are not of ``about``, or there are none.
    """
    lines = [line for line in page.splitlines() if any(what in line for what in COLD_ROWS)]
    if about not in page.splitlines() or not lines:
        raise ValueError("the cold compiles there are of another subject or machine; run without --keep-cold")
    return lines


def table(rows: Sequence[Row], kept: Sequence[str], about: str) -> str:
    """Markdown: what was measured on, then one line a figure."""
    lines = ["| | figure | target | |", "|---|---|---|---|", *kept, *(row.markdown() for row in rows)]
    return f"{about}\n\n" + "\n".join(lines)


def made_before(file: Path) -> str:
    """The table in ``file``.

    Raises:
        OSError: it cannot be read.
        ValueError: it holds no such table, or one of another subject than the working tree's.
    """
    text = file.read_text(encoding="utf-8")
    if f"; {subject_as_of(ROOT)}. " not in text or "\n| | figure | target | |\n" not in text:
        raise ValueError(f"{file} is no table of {subject_as_of(ROOT)}; measure it again")
    return text


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0: measured; 2: could not. A target that is not met is said in the table."""
    parser = argparse.ArgumentParser(prog="nox -s ratios --", description=__doc__.split("\n\n")[0])
    parser.add_argument("--launches", type=int, default=3, help="fresh processes per figure (default 3)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--keep-cold", action="store_true", help="leave the cold compiles as they stand")
    parser.add_argument("--print", action="store_true", help="print the table and leave README.md alone")
    parser.add_argument(
        "--from",
        type=Path,
        dest="measured",
        metavar="FILE",
        help="take the table that nox -s upstream has made",
    )
    args = parser.parse_args(argv)
    if args.launches < 1:
        parser.error("--launches takes at least 1")
    readme = ROOT / "README.md"
    try:
        if args.measured:
            text = made_before(args.measured)
        else:
            page = readme.read_text("utf-8")
            text = table(*measure(args.launches, args.device, page, keep_cold=args.keep_cold))
        print(text)
        if not args.print:
            write_between_markers(text, readme, BEGIN, END)
    except (OSError, RuntimeError, ValueError, MeasurementError, subprocess.TimeoutExpired) as error:
        print(f"ratios: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""One run of the gate: its arguments, one tier after the other, its report and exit code. No torch."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console

from ..command import exit_code, say
from ..markdown import cell
from ..one_run import sigterm_interrupts
from ..repository import ROOT, MeasurementError
from ..suite.precision import AS_LEROBOT_TRAIN, STRICT, has_tf32
from ..suite.workloads import DEVICES
from . import caveats
from .answer_cache import AnswerCache
from .cases import StepTime, choose, counted, step_times
from .channel import starter
from .comparison import explanations
from .environments import python_for
from .exact_tiers import AT_ONCE, compare_exactly, stops_here, workload_and_phase
from .identity import machine, versions
from .operators import find_grown
from .pairing import IN_SLICES, SLICE, pairing_of
from .report import markdown, remove, write
from .result import NO_REGRESSION, UNDECIDED, CaseTime, Result
from .sides import Side, accepted, check_out, distance, resolve
from .timing import Budget, Timing, launch_until_decided, pair, slowest_first
from .verdict import Plan
from .workplace import workplace

NO_ENGINE = "that needs an engine on both sides; install the extra cpu, or choose a base that has auto"
FLOOR = {"cpu": 20e-6, "cuda": 5e-6}  # s; below it a change of a step is nobody's loss


def percentage(text: str) -> float:
    """``3%`` or ``0.03``."""
    try:
        return float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no share; write 3% or 0.03") from None


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nox -s gate --",
        description="Compare two commits: results, counters, time. Exit code 0: no regression, "
        "1: regression, 2: could not measure, 3: inconclusive at the end of the budget.",
    )
    parser.add_argument("--base", help="commit, branch or tag (default: merge-base with main, or parent)")
    parser.add_argument("--head", help="the same (default: the working tree, uncommitted changes included)")
    parser.add_argument(
        "--workloads",
        nargs="+",
        metavar="NAME",
        help="aloha, pusht-training, ... (default: a set for the device)",
    )
    parser.add_argument("--device", default="cpu", choices=DEVICES)
    parser.add_argument("--minutes", type=float, default=9.5, help="for all of it, compiling included (9.5)")
    parser.add_argument(
        "--no-times",
        action="store_true",
        help="compare results and counters only; they are exact on a busy machine too",
    )
    parser.add_argument("--min-effect", type=percentage, default=0.03, help="the change to catch (3%%)")
    parser.add_argument("--report", type=Path, help="where the report goes (default: .gate/report)")
    parser.add_argument(
        "--undecided",
        choices=("fail", "pass"),
        default="fail",
        help="exit code of an inconclusive run: 3 (fail, the default) or 0 (pass)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the order of cases and sides (0)")
    return parser


def gate(
    args: argparse.Namespace, console: Console, root: Path = ROOT, command: Sequence[str] = ()
) -> Result:
    """The whole comparison, one tier after the other.

    Args:
        command: see ``Worker``.

    Raises:
        MeasurementError, ValueError, OSError: it could not be measured.
    """
    budget = Budget(args.minutes)
    rng = random.Random(args.seed)  # noqa: S311  # an order, not a secret
    plan = Plan(min_effect=args.min_effect, floor=FLOOR[args.device])
    cases = choose(args.workloads, args.device)
    to_count = counted(args.workloads, args.device)
    sources = resolve(args.base, args.head, root)
    base, head = (source.as_shown() for source in sources)
    files = caveats.changed(sources[0].commit, root)
    about = {"ruler": caveats.in_words(files)} if files else {}
    result = Result(
        base, head, distance(*sources, root), plan, accepted=accepted(*sources, root), about=about
    )

    def progress(text: str) -> None:
        left = max(0, round(budget.left))
        console.print(f"[{left // 60}:{left % 60:02d} left] {text}", markup=False, highlight=False)

    with workplace(root) as place:
        sides = {source.side: check_out(source, place / source.side, root) for source in sources}
        progress(f"base {sources[0].name}, head {sources[1].name}")
        for name, what in result.about.items():
            progress(f"the {name} {what}")
        if sides["base"].same_as(sides["head"]):
            progress("the subject's code is the same on both sides: nothing can have changed")
            return replace(result, same_subject=True)
        if unseen := caveats.unseen(sides["base"].blobs, sides["head"].blobs, cases):
            progress(f"no case runs {unseen}")
            result = replace(result, about={**result.about, "not run": unseen})
        sides = {name: replace(side, python=python_for(side, root, progress)) for name, side in sides.items()}
        start = starter(sides, root, command)
        with pair(start, rng, AT_ONCE) as (workers, hello):
            if apart := caveats.packages_apart(*(hello[name]["packages"] for name in ("base", "head"))):
                progress(f"the sides' packages differ: {apart}")
                result = replace(result, about={**result.about, "packages": apart})
            if args.device == "cuda" and not hello["head"]["devices"]:
                raise MeasurementError(
                    "head: --device cuda was asked for and torch sees none; use --device cpu"
                )
            known = {
                name: AnswerCache(root / ".gate" / "answers", sides[name], hello[name]) for name in sides
            }
            ahead = [case for case in cases if case.variant == "compiled" and case not in to_count]
            findings, by_engine, compared = compare_exactly(
                workers,
                lambda name: start(name, AT_ONCE),
                to_count,
                known,
                progress,
                [] if args.no_times else ahead,
            )
        by_engine = by_engine or args.device != "cpu"  # on CUDA auto needs none
        for found in findings:
            progress(f"{'worse' if found.red else 'better'}: {found.case}: {found.what} {found.detail}")

        def causes(timed: StepTime) -> list[str]:
            return explanations(findings, workload_and_phase(timed.case), timed.variant)

        timings = [
            Timing(timed, explained=bool(causes(timed)))
            for timed in step_times(cases)
            if by_engine or timed.variant != "auto"  # without one it is torch's graph, which compiled times
        ]
        launches, before = 0, budget.used
        if stops_here(findings):
            progress("not timed: results, graph breaks or failures come first")
        elif not args.no_times:
            launches = launch_until_decided(timings, plan, budget, start, rng, progress)
        what_grew = find_grown(slowest_first(timings), start, rng, progress)
    times = [
        CaseTime(
            name=str(timing.case),
            verdict=timing.verdict,
            counters=tuple(causes(timing.case)),
            min_effect=max(plan.min_effect, timing.case.least),
            log_ratios=tuple(timing.log_ratios),
            base_seconds=median(timing.base_seconds),
            unconfirmed=timing.unconfirmed,
            grown=what_grew.get(str(timing.case), ()),
        )
        for timing in timings
        if timing.verdict is not None
    ]
    about = {**result.about, **_about(hello, args, launches, before, budget, sides)}
    if any(case.variant == "auto" for case in cases) and not by_engine and not args.no_times:
        about["auto"] = NO_ENGINE
    return replace(
        result, findings=findings, times=times, about=about, untimed=args.no_times, compared=compared
    )


def _about(
    hello: Mapping[str, Any],
    args: argparse.Namespace,
    launches: int,
    before: float,
    budget: Budget,
    sides: Mapping[str, Side],
) -> dict[str, str]:
    about = {}
    for name in ("base", "head"):
        about[f"{name} ran"] = f"{len(hello[name]['blobs'])} modules, contents checked against git"
        about[f"{name}'s environment"] = versions(hello[name])
    if sides["base"].python != sides["head"].python:
        about["environments"] = "two: the sides declare different dependencies"
    about["machine"] = ", ".join([machine(hello["head"]), *hello["head"]["devices"]])
    of = dict.fromkeys(workload_and_phase(case) for case in counted(args.workloads, args.device))
    about["results and counters"] = f"of {', '.join(of)}"
    about["precision and batch"] = "fp32; inference and rollout batch 1, training batch 8"
    if has_tf32(args.device):
        about["flags"] = (
            f"results in {STRICT}; times {AS_LEROBOT_TRAIN}; counters likewise, the benchmark off"
        )
    about["seeds"] = f"weights and batch 0, order {args.seed}"
    if not args.no_times:
        in_slices = f"in slices of {SLICE * 1e3:.0f} ms, processor time"
        how = in_slices if pairing_of(args.device) is IN_SLICES else "by turns: base, head, head, base"
        about["before the launches"] = f"{before:.0f} s"
        about["launches"] = f"{launches} of each side; steps {how}"
    about["minutes"] = f"{budget.used / 60:.1f} of {args.minutes:g}"
    return about


def main(argv: Sequence[str] | None = None, *, root: Path = ROOT, command: Sequence[str] = ()) -> int:
    """Exit code: see ``__main__``."""
    args = parser().parse_args(argv)
    return exit_code(
        "gate: could not measure",
        lambda: _run(args, root, command),
        interrupted="interrupted; nothing is decided and nothing is left running",
        and_tell=lambda why: _summarise(f"Could not measure: {cell(why)}"),
    )


def _run(args: argparse.Namespace, root: Path, command: Sequence[str]) -> int:
    """Gate, write the report and say the headline; the exit code."""
    console = Console(stderr=True, soft_wrap=True)
    directory = args.report or root / ".gate" / "report"
    try:
        remove(directory)  # where this run finds no verdict, an earlier one must not look like its own
        with sigterm_interrupts():
            result = gate(args, console, root, command)
            paths = write(result, directory)
            say(result.headline)
            with contextlib.suppress(OSError):  # a page more; the report is there
                _summarise(markdown(result))
    except OSError as error:
        raise MeasurementError(f"{error}; is the disk full, or not to be written to?") from error
    console.print(f"report: {paths[0]}", markup=False, highlight=False)
    if result.exit_code == UNDECIDED and args.undecided == "pass":
        return NO_REGRESSION
    return result.exit_code


def _summarise(text: str) -> None:
    """Show it on the page of the GitHub job that this runs in, if it runs in one."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        with Path(path).open("a", encoding="utf-8", errors="replace") as file:
            file.write(text + "\n")

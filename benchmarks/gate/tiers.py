"""The two tiers without statistics: are the results the same, and what did each counter do. No torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from ..repository import MeasurementError
from ..workloads import Case
from .channel import StepError, Worker
from .exact import Finding, compare_actions, compare_counts, compare_learning

TIMEOUT = 900  # s for one case's counts, its cold compile included
# Every part of ACT and two cameras, in seconds: gradients in float64, and what a graph consists of.
TINY = {phase: Case("tiny", phase, "eager") for phase in ("training", "inference")}

Answers = dict[str, dict[str, Any]]


def pairs_of(cases: Sequence[Case]) -> list[Case]:
    """One case, the eager one, for each workload and phase."""
    return list(dict.fromkeys(case.as_variant("eager") for case in cases))


def label(case: Case) -> str:
    """``aloha-inference``: what a finding is about."""
    return f"{case.workload}-{case.phase}"


def requests(cases: Sequence[Case]) -> list[tuple[str, Case]]:
    """What each side is asked, cheapest first: learning, then each case's counts and outputs."""
    asked = [("learning", TINY["training"]), *(("graph", case) for case in TINY.values())]
    for case in pairs_of(cases):
        asked.append(("counts", case))
        if case.phase != "training":
            asked.append(("outputs", case))
    return asked


def ask_all(
    worker: Worker, asked: Sequence[tuple[str, Case]], progress: Callable[[str], None]
) -> dict[str, dict[str, Any] | StepError]:
    """Every answer by ``do case``; where the side's code raised, the error in its place."""
    answers: dict[str, dict[str, Any] | StepError] = {}
    broken: set[Case] = set()
    for do, case in asked:
        key = f"{do} {label(case)}"
        if do == "outputs" and case in broken:
            continue  # a graph break: there is no compiled step to compare
        progress(f"{worker.side.name}: {key}")
        try:
            answer = worker.ask(do, timeout=TIMEOUT, case=asdict(case))
        except StepError as error:
            answers[key] = error
            broken.add(case)
            continue
        if answer.get("graph_breaks"):
            broken.add(case)
        answers[key] = answer
    return answers


def compare_exactly(
    workers: dict[str, Worker], cases: Sequence[Case], progress: Callable[[str], None]
) -> list[Finding]:
    """Ask both sides at once, a core each, and compare.

    Counts do not depend on what else runs. The sides go through the cases from opposite ends, so
    that where their graphs are the same each finds in the shared cache what the other compiled;
    base begins with what takes longest to compile, a training step.

    Raises:
        MeasurementError: base's code raises, or a worker is lost.
    """
    asked = requests(cases)
    by_length = sorted(pairs_of(cases), key=lambda case: case.phase != "training")
    groups = [*([r for r in asked[3:] if r[1] == case] for case in by_length), asked[:3]]
    forwards = [request for group in groups for request in group]
    backwards = [request for group in reversed(groups) for request in group]
    with ThreadPoolExecutor(max_workers=2) as pool:
        running = {
            "base": pool.submit(ask_all, workers["base"], forwards, progress),
            "head": pool.submit(ask_all, workers["head"], backwards, progress),
        }
        try:
            answers = {side: future.result() for side, future in running.items()}
        except BaseException:
            for worker in workers.values():
                worker.kill()  # or the other thread would be waited for
            raise
    return compare_answers(asked, answers["base"], answers["head"])


def compare_answers(
    asked: Sequence[tuple[str, Case]],
    base: dict[str, dict[str, Any] | StepError],
    head: dict[str, dict[str, Any] | StepError],
) -> list[Finding]:
    """Findings from what both sides said.

    Raises:
        MeasurementError: base's code raises; there is nothing to compare head with.
    """
    compare = {
        "learning": compare_learning,
        "graph": compare_counts,
        "counts": compare_counts,
        "outputs": compare_actions,
    }
    findings: list[Finding] = []
    for do, case in asked:
        key = f"{do} {label(case)}"
        old, new = base.get(key), head.get(key)
        if isinstance(old, StepError):
            raise MeasurementError(f"{old} ({key}); choose another base")
        if isinstance(new, StepError):
            findings.append(Finding(label(case), f"{do} fails", None, None, True, str(new)))
        elif old is not None and new is not None:
            findings += compare[do](label(case), old, new)
    return findings


def stops_here(findings: Sequence[Finding]) -> bool:
    """Whether there is nothing to be timed: results differ, a graph breaks or code fails in head."""
    return any(f.red and (f.base is None or f.what == "graph breaks") for f in findings)

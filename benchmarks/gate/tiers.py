"""The two tiers without statistics: are the results the same, and what did each counter do. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from ..repository import MeasurementError
from ..suite.fresh_process import AnswerError
from ..suite.workloads import Case
from .answer_cache import AnswerCache, Answers
from .channel import Worker
from .exact import (
    Finding,
    compare_actions,
    compare_auto,
    compare_counts,
    compare_learning,
    compared_of_auto,
)

# Both sides compute at once, with as many threads as the machine has cores, and a thread that spins
# for another holds the core that one needs: a training step takes 16 s, alone 2 s, and so 3.5 s.
AT_ONCE = {"OMP_WAIT_POLICY": "passive"}
TIMEOUT = 900  # s for one case's counts, its cold compile included
# Every part of ACT and two cameras, in seconds: gradients in float64, and what a graph consists of.
TINY = {phase: Case("tiny", phase, "eager") for phase in ("training", "inference")}

Group = list[tuple[str, Case]]  # what to do with which case, in this order, in one worker
AnswersOrErrors = dict[str, dict[str, Any] | AnswerError]


def pairs_of(cases: Sequence[Case]) -> list[Case]:
    """One case for each workload and phase that the default mode is timed of: the compiled one, if it is."""
    eager_first = sorted((case for case in cases if case.variant != "auto"), key=lambda case: case.compiles)
    return list({workload_and_phase(case): case for case in eager_first}.values())


def workload_and_phase(case: Case) -> str:
    """``aloha-inference``: what a finding is about."""
    return f"{case.workload}-{case.phase}"


def groups(cases: Sequence[Case]) -> list[Group]:
    """What a side is asked, in groups that share what a worker has prepared; longest to compile first."""
    by_length = sorted(pairs_of(cases), key=lambda case: case.phase != "training")
    asked = [_of(case) for case in by_length]
    already = {case for group in asked for _, case in group}
    graphs: list[Group] = [[("graph", case)] for case in TINY.values() if case not in already]
    recompiles: list[Group] = [[("recompiles", case)] for case in TINY.values()]
    return [*asked, [("learning", TINY["training"])], *graphs, *recompiles, [("auto", TINY["inference"])]]


def _of(case: Case) -> Group:
    """What is asked of a case; nothing is compiled of one that is timed in eager mode alone."""
    eager = case.as_variant("eager")
    if not case.compiles:
        return [("graph", eager)]
    return [("counts", eager), *([("outputs", eager)] if case.phase != "training" else [])]


def key_of(do: str, case: Case) -> str:
    """``counts aloha-inference``: what an answer is kept under."""
    return f"{do} {workload_and_phase(case)}"


AUTO = key_of("auto", TINY["inference"])


def still_to_ask(wanted: Sequence[Group], answers: Answers) -> list[Group]:
    """Groups that ``answers`` leave open."""
    return [group for group in wanted if any(key_of(do, case) not in answers for do, case in group)]


def ask_all(
    worker: Worker, take: Callable[[], Group], answers: AnswersOrErrors, progress: Callable[[str], None]
) -> None:
    """Put every answer under its ``key_of`` into ``answers``, or the error where the side's code raised.

    Args:
        take: gives the next group; raises IndexError when there is none.
    """
    worker.hello()  # the one that was started for this has not said yet what it runs
    while True:
        try:
            group = take()
        except IndexError:
            return
        options: dict[str, bool] = {}
        for do, case in group:
            key = key_of(do, case)
            progress(f"{worker.name}: {key}")
            try:
                answers[key] = answer = worker.ask(do, timeout=TIMEOUT, case=asdict(case), **options)
            except AnswerError as error:
                answers[key], answer = error, {}
            if do == "counts" and answer.get("graph_breaks", "it failed"):
                if not answer or worker.name == "head":
                    break  # it is red already
                options["compiled"] = False  # head may have mended it, and is compared with base's eager mode


def compare_exactly(
    workers: Mapping[str, Worker],
    another: Callable[[str], Worker],
    cases: Sequence[Case],
    caches: Mapping[str, AnswerCache],
    progress: Callable[[str], None],
) -> tuple[list[Finding], bool, list[str]]:
    """Ask both sides at once, a core each, and compare; what a side has answered before is not asked again.

    Counts do not depend on what else runs. The sides go through the groups from opposite ends, so
    that where their graphs are the same each finds in the shared cache what the other compiled.
    Where only one side is left to be asked, two workers of it share the groups.

    Args:
        workers: one of each side.
        another: starts one more worker of a side.
        caches: what each side has answered before.

    Returns:
        The findings; whether an engine runs the action chunk of ``auto`` on both sides; what was compared of
        it.

    Raises:
        MeasurementError: base's code raises, or a worker is lost.
    """
    wanted = groups(cases)
    known = {name: caches[name].answers() for name in workers}
    answers: dict[str, AnswersOrErrors] = {name: dict(found) for name, found in known.items()}
    queues = {name: deque(still_to_ask(wanted, found)) for name, found in known.items()}
    asked = [name for name in workers if queues[name]]
    for name in workers:
        if name not in asked:
            progress(f"{name}: results and counters are known from an earlier run")
    with ExitStack() as stack:
        crew = [workers[name] for name in asked]
        if len(asked) == 1 and len(queues[asked[0]]) > 1:
            crew.append(stack.enter_context(another(asked[0])))
        takes = [queues[asked[0]].popleft, queues[asked[-1]].pop] if asked else []
        pairs = zip(crew, takes, strict=False)
        _at_once(crew, [partial(ask_all, one, take, answers[one.name], progress) for one, take in pairs])
    for name in asked:
        caches[name].keep({key: found for key, found in answers[name].items() if isinstance(found, dict)})
    requests = [request for group in wanted for request in group]
    findings = compare_answers(requests, answers["base"], answers["head"])
    base, head = (answers[name].get(AUTO) for name in ("base", "head"))
    if not (isinstance(base, dict) and isinstance(head, dict)):
        return findings, False, []
    by_engine = all(auto["counts"].get("auto_by_torch") == 0 for auto in (base, head))
    return findings, by_engine, compared_of_auto(workload_and_phase(TINY["inference"]), base, head)


def _at_once(crew: Sequence[Worker], work: Sequence[Callable[[], None]]) -> None:
    """Do the work of each worker in a thread of its own; when one is lost the others are stopped."""
    with ThreadPoolExecutor(max_workers=2) as pool:
        try:
            for future in as_completed([pool.submit(each) for each in work]):
                future.result()
        except BaseException:
            for worker in crew:
                worker.kill()  # or the other thread would be waited for
            raise


def compile_ahead(
    workers: Mapping[str, Worker],
    cases: Sequence[Case],
    caches: Mapping[str, AnswerCache],
    progress: Callable[[str], None],
) -> None:
    """Compile on both sides at once what base was never asked to: launches find it, and are all alike.

    The sides begin at opposite ends, as in ``compare_exactly``.

    Raises:
        MeasurementError: a side's code raises.
    """
    known = caches["base"].answers()
    new = [case for case in cases if case.variant == "compiled" and key_of("warm", case) not in known]
    orders = (new, new[::-1])

    def compile_all(worker: Worker, ordered: Sequence[Case]) -> None:
        for case in ordered:
            progress(f"{worker.name}: compiling {workload_and_phase(case)}")
            worker.ask("warm", timeout=TIMEOUT, case=asdict(case), again=False)

    both = list(workers.values())
    _at_once(both, [partial(compile_all, one, order) for one, order in zip(both, orders, strict=True)])
    caches["base"].keep({key_of("warm", case): {} for case in new})


def compare_answers(
    asked: Sequence[tuple[str, Case]], base: AnswersOrErrors, head: AnswersOrErrors
) -> list[Finding]:
    """Findings from what both sides said.

    Raises:
        MeasurementError: base's code raises; there is nothing to compare head with.
    """
    compare = {
        "learning": compare_learning,
        "graph": compare_counts,
        "recompiles": compare_counts,
        "counts": compare_counts,
        "outputs": compare_actions,
        "auto": compare_auto,
    }
    findings: list[Finding] = []
    for do, case in asked:
        key = key_of(do, case)
        old, new = base.get(key), head.get(key)
        if isinstance(old, AnswerError):
            raise MeasurementError(f"{old} ({key}); choose another base")
        if isinstance(new, AnswerError):
            findings.append(Finding(workload_and_phase(case), f"{do} fails", None, None, True, str(new)))
        elif old is not None and new is not None:
            findings += compare[do](workload_and_phase(case), old, new)
    return findings


def stops_here(findings: Sequence[Finding]) -> bool:
    """Whether there is nothing to be timed: results differ, a graph breaks or code fails in head."""
    return any(finding.red and finding.broken for finding in findings)

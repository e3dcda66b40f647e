"""The two tiers without statistics: are the results the same, and what did each counter do. No torch."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from typing import Any

from ..repository import MeasurementError
from ..suite.fresh_process import AnswerError
from ..suite.workloads import Case
from .answer_cache import AnswerCache
from .channel import Worker
from .comparison import (
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
WARM = "warm"  # a request: compile
SAID = {WARM: "compiling"}  # of a request, where its name does not say enough
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


def groups(cases: Sequence[Case], ahead: Sequence[Case] = ()) -> list[Group]:
    """What a side is asked, in groups that share what a worker has prepared; longest to compile at both ends.

    Args:
        cases: to be counted and compared.
        ahead: to be compiled alone, so that launches find them compiled and are all alike.
    """
    by_length = sorted(pairs_of(cases), key=lambda case: case.phase != "training")
    long: list[Group] = [*([(WARM, case)] for case in ahead), *(_of(case) for case in by_length)]
    already = {case for group in long for _, case in group}
    graphs: list[Group] = [[("graph", case)] for case in TINY.values() if case not in already]
    recompiles: list[Group] = [[("recompiles", case)] for case in TINY.values()]
    short = [[("learning", TINY["training"])], *graphs, *recompiles, [("auto", TINY["inference"])]]
    first = [group for at, group in enumerate(long) if at % 4 in (0, 3)]  # as long as the others together
    return [*first, *short, *(group for group in reversed(long) if group not in first)]


def _of(case: Case) -> Group:
    """What is asked of a case; nothing is compiled of one that is timed in eager mode alone."""
    eager = case.as_variant("eager")
    if not case.compiles:
        return [("graph", eager)]
    return [("counts", eager), *([("outputs", eager)] if case.phase != "training" else [])]


def in_words(do: str, case: Case) -> str:
    """``compiling pusht-training``."""
    return f"{SAID.get(do, do)} {workload_and_phase(case)}"


def key_of(do: str, case: Case) -> str:
    """``counts aloha-inference``: what an answer is kept under."""
    return f"{do} {workload_and_phase(case)}"


AUTO = key_of("auto", TINY["inference"])


def still_to_ask(wanted: Sequence[Group], answers: Collection[str]) -> list[Group]:
    """Groups that ``answers``, by their ``key_of``, leave open."""
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
            if do == WARM:
                if worker.name == "head" and any(map(_is_broken, answers.values())):
                    break  # it is not timed
                options["again"] = False
            key = key_of(do, case)
            progress(f"{worker.name}: {in_words(do, case)}")
            try:
                answers[key] = answer = worker.ask(do, timeout=TIMEOUT, case=asdict(case), **options)
            except AnswerError as error:
                answers[key], answer = error, {}
            if do == "counts" and _is_broken(answers[key]):
                if not answer or worker.name == "head":
                    break  # it is red already
                options["compiled"] = False  # head may have mended it, and is compared with base's eager mode


def _is_broken(answer: dict[str, Any] | AnswerError) -> bool:
    """Whether the code failed, or breaks the graph."""
    return isinstance(answer, AnswerError) or bool(answer.get("graph_breaks"))


def compare_exactly(
    workers: Mapping[str, Worker],
    another: Callable[[str], Worker],
    cases: Sequence[Case],
    caches: Mapping[str, AnswerCache],
    progress: Callable[[str], None],
    ahead: Sequence[Case] = (),
) -> tuple[list[Finding], bool, list[str]]:
    """Ask both sides at once, a core each, and compare; what a side has answered before is not asked again.

    Counts do not depend on what else runs. The sides go through the groups from opposite ends, so
    that where their graphs are the same each finds in the shared cache what the other compiled: 78 s
    on two cores, and 89 where both compiled pusht's training at the same time.
    Where only one side is left to be asked, two workers of it share the groups.

    Args:
        workers: one of each side.
        another: starts one more worker of a side.
        caches: what each side has answered before.
        ahead: as of ``groups``; not asked where base was timed before.

    Returns:
        The findings; whether an engine runs the action chunk of ``auto`` on both sides; what was compared of
        it.

    Raises:
        MeasurementError: base's code raises, or a worker is lost.
    """
    known = {name: caches[name].answers() for name in workers}
    wanted = groups(cases, [case for case in ahead if key_of(WARM, case) not in known["base"]])
    answers: dict[str, AnswersOrErrors] = {name: dict(found) for name, found in known.items()}
    queues = {name: deque(still_to_ask(wanted, found)) for name, found in known.items()}
    sides = ("base", "head")  # head compiles what is only timed last, when it is known to break no graph
    asked = [name for name in sides if queues[name]]
    for name in sides:
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
    base, head = (answers[name].get(AUTO) for name in sides)
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
            raise MeasurementError(f"{old} ({in_words(do, case)}); choose another base")
        if isinstance(new, AnswerError):
            fails = f"{SAID.get(do, do)} fails"
            findings.append(Finding(workload_and_phase(case), fails, None, None, True, str(new)))
        elif old is not None and new is not None and do != WARM:
            findings += compare[do](workload_and_phase(case), old, new)
    return findings


def stops_here(findings: Sequence[Finding]) -> bool:
    """Whether there is nothing to be timed: results differ, a graph breaks or code fails in head."""
    return any(finding.red and finding.broken for finding in findings)

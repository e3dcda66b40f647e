"""The real worker on the real subject: what it imported, what it counts, and that it notices mistakes."""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from operator import sub
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from benchmarks.gate import cores
from benchmarks.gate import worker as side_worker
from benchmarks.gate.answer_shapes import OF_GRAPH, well_formed
from benchmarks.gate.channel import Worker
from benchmarks.gate.comparison import (
    AUTO_ON_CUDA,
    COUNTERS,
    OF_AUTO,
    compare_actions,
    compare_auto,
    compare_counts,
    compare_learning,
)
from benchmarks.gate.pairing import CAN_SLICE
from benchmarks.gate.proof.mutants import MUTANTS, Mutant
from benchmarks.gate.proof.slowdown import key, slowed
from benchmarks.gate.sides import Side, blob_hash, check_out, resolve
from benchmarks.repository import PACKAGE, ROOT
from benchmarks.suite import compile_counters, precision, step_counters, timer
from benchmarks.suite.compile_counters import count_compilation
from benchmarks.suite.fresh_process import AnswerError
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import Case, Step
from lerobot_policy_act_compiled.onnx_graph import missing
from lerobot_policy_act_compiled.products import options

TINY = Case("tiny", "inference", "eager")
TRAINING = Case("tiny", "training", "eager")
TIMEOUT = 300
needs_an_engine = pytest.mark.skipif(
    missing() is not None, reason="needs the extra cpu: onnxruntime and onnx"
)
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def checked_out(path: Path) -> Side:
    return check_out(resolve("HEAD", None, ROOT)[1], path, ROOT)


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    directory = tmp_path_factory.mktemp("gate")
    with Worker(checked_out(directory / "head"), directory / "inductor") as worker:
        worker.hello()
        yield worker


def mutants_of(names: Iterable[str]) -> list[Mutant]:
    by_name = {mutant.name: mutant for mutant in MUTANTS}
    return [by_name[name] for name in names]


@contextmanager
def mutated(mutants: Iterable[Mutant], place: Path) -> Iterator[Worker]:
    """A worker of the working tree's subject with all of these mistakes."""
    side = checked_out(place / "head")
    for mutant in mutants:
        mutant.edit.apply(side.path)
    with Worker(side, place / "inductor") as worker:
        yield worker


def ask(worker: Worker, do: str, case: Case, **options: Any) -> dict[str, Any]:
    return worker.ask(do, timeout=TIMEOUT, case=asdict(case), **options)


@pytest.fixture(scope="module")
def graph(worker: Worker) -> dict[str, Any]:
    return ask(worker, "graph", TRAINING)


@pytest.fixture(scope="module")
def recompiles(worker: Worker) -> dict[str, Any]:
    return ask(worker, "recompiles", TRAINING)


@pytest.fixture(scope="module")
def learning(worker: Worker) -> dict[str, Any]:
    return ask(worker, "learning", TRAINING)


@pytest.fixture(scope="module")
def auto(worker: Worker) -> dict[str, Any]:
    return ask(worker, "auto", TINY)


def test_it_runs_the_checkout_and_nothing_else(worker: Worker) -> None:
    answer = worker.ask("hello", timeout=TIMEOUT)
    assert answer["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert Path(answer["imported"]).is_relative_to(worker.side.path)
    assert answer["blobs"]["modeling_act_compiled.py"] == blob_hash(
        (ROOT / PACKAGE / "modeling_act_compiled.py").read_bytes()
    )


def test_every_counter_that_needs_no_compiled_code_is_there(graph: dict[str, Any]) -> None:
    assert set(graph) <= set(COUNTERS)
    assert graph["graph_breaks"] == []
    assert graph["graphs"] == 1
    for name in ("ops", "flops", "dispatched_ops", "peak_memory_eager"):
        assert graph[name] > 0
    if CAN_SLICE:
        assert graph["waits"] == 0


def test_recompiles_are_few(recompiles: dict[str, Any]) -> None:
    assert recompiles["graph_breaks"] == []
    assert recompiles["recompiles"] <= 2, "the batch becomes dynamic once; train and eval are two graphs"


def test_steps_are_timed(worker: Worker) -> None:
    ask(worker, "warm", TINY)
    for busy in (False, True):
        seconds = ask(worker, "sample", TINY, samples=3, busy=busy)["seconds"]
        assert len(seconds) == 3
        assert all(second > 0 for second in seconds)


def test_of_auto_the_caller_s_time_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(seconds: float) -> None:
        start = time.thread_time()
        while time.thread_time() - start < seconds:
            pass

    def step() -> None:
        compute(0.05)
        beside = threading.Thread(target=compute, args=(0.4,))  # as an engine's
        beside.start()
        beside.join()

    monkeypatch.setattr(side_worker, "ready", lambda _: step)
    monkeypatch.setattr(cores, "pin", lambda: None)
    of = {
        variant: side_worker.sample(TINY.as_variant(variant), 1, busy=True)["seconds"][0]
        for variant in ("auto", "compiled")
    }
    assert 0.05 <= of["auto"] < 0.1
    assert of["compiled"] >= 0.45 / torch.get_num_threads()


def test_busy_is_what_the_processor_does_and_not_the_clock() -> None:
    def compute() -> None:
        start = time.thread_time()
        while time.thread_time() - start < 0.2:
            pass

    threads = torch.get_num_threads()
    assert side_worker.busy_seconds(partial(time.sleep, 0.2)) < 0.05  # type: ignore[arg-type]
    assert side_worker.busy_seconds(compute) * threads == pytest.approx(0.2, abs=0.1)  # type: ignore[arg-type]


def test_a_sample_is_of_the_clock_unless_busy_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(TINY, None, {}, lambda _: None, partial(time.sleep, 0.2))
    monkeypatch.setattr(side_worker, "_steps", {(TINY, "fp32"): step})
    assert min(side_worker.sample(TINY, 1)["seconds"]) >= 0.2
    assert max(side_worker.sample(TINY, 1, busy=True)["seconds"]) < 0.05


def test_what_is_timed_has_a_garbage_collector_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = dict.fromkeys(side_worker.ANSWERS, lambda _: {"enabled": gc.isenabled()})
    monkeypatch.setattr(side_worker, "ANSWERS", asked)
    monkeypatch.setattr(side_worker, "hello", lambda: {"enabled": gc.isenabled()})
    found = {do: side_worker.answer({"do": do, "case": asdict(TINY)})["enabled"] for do in (*asked, "hello")}
    assert {do for do, enabled in found.items() if enabled} == {"sample", "compile"}
    assert gc.isenabled()


@pytest.mark.skipif(len(CORES) < 2, reason="one core: there is nothing to pin")
def test_a_timed_step_has_a_core_for_each_thread_and_compiling_all(worker: Worker) -> None:
    process = worker._process.pid
    ask(worker, "sample", TINY, samples=1)
    masks = [os.sched_getaffinity(int(task.name)) for task in Path(f"/proc/{process}/task").iterdir()]
    assert os.sched_getaffinity(process) == {min(CORES)}
    assert {frozenset({core}) for core in CORES} <= {frozenset(mask) for mask in masks}
    ask(worker, "warm", TRAINING)
    assert os.sched_getaffinity(process) == CORES


def test_compiling_is_timed_without_graphs_from_a_cache(worker: Worker) -> None:
    compiled = TINY.as_variant("compiled")
    assert ask(worker, "compile", compiled)["seconds"] > 1
    (seconds,) = ask(worker, "sample", compiled, samples=1)["seconds"]
    assert seconds < 1, "the step is ready, and fast"


def test_compiling_is_timed_by_what_its_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    step = Step(TINY, None, {}, lambda _: None, lambda: None)
    monkeypatch.setattr(side_worker, "_steps", {})
    monkeypatch.setattr(side_worker, "prepare", lambda _: step)
    monkeypatch.setattr(side_worker, "fixed_compile_seconds", lambda: None)

    def first_call(_: Step) -> compile_counters.Compilation:
        time.sleep(0.2)
        return compile_counters.Compilation(graphs=1)

    monkeypatch.setattr(compile_counters, "first_compiled_call", first_call)
    assert side_worker.compile(TINY)["seconds"] < 0.05


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_compiled_step_knows_nothing_of_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timer, "prepare", partial(prepare, backend="eager"))
    monkeypatch.setattr(side_worker, "_steps", {})
    first, second = (Case("tiny", phase, "compiled") for phase in ("inference", "rollout_ensemble"))
    eager = side_worker.ready(TINY)
    side_worker.ready(first)
    with count_compilation() as compilation:
        side_worker.ready(second)
    assert (compilation.graphs, compilation.recompiles) == (1, 0), compilation.recompile_reasons
    assert set(side_worker._steps) == {(TINY, "fp32"), (second, "fp32")}, (
        "the first is made again if it is asked for again"
    )
    assert side_worker.ready(TINY) is eager


def answered(do: str, case: Case, **options: Any) -> dict[str, Any]:
    """What this process answers to one request."""
    answer = side_worker.answer({"do": do, "case": asdict(case), **options})
    assert "error" not in answer, answer
    return answer


@pytest.fixture
def steps_see(monkeypatch: pytest.MonkeyPatch, fresh_dynamo: None) -> list[tuple[str, str]]:  # noqa: ARG001
    """The variant and the flags that each call of a worker's step sees; compiled without Inductor."""
    seen: list[tuple[str, str]] = []

    def recorded(case: Case, **options: Any) -> Step:
        step = prepare(case, backend="eager", **options)

        def work() -> Any:
            seen.append((case.variant, precision.in_force(case.device)))
            return step.work()

        return replace(step, work=work)

    monkeypatch.setattr(side_worker, "_steps", {})
    for module in (timer, side_worker):
        monkeypatch.setattr(module, "prepare", recorded)
    return seen


def test_what_is_compared_is_strict_and_what_is_timed_never_was(
    steps_see: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a CPU taken for a device that has TF32: the flags are there, and Dynamo guards on them."""
    monkeypatch.setattr(precision, "WITH_TF32", ("cuda", "cpu"))
    compiled = TINY.as_variant("compiled")
    answered("counts", TINY)
    assert {flags for _, flags in steps_see} == {"TF32 products and convolutions, cudnn.benchmark off"}
    for _ in range(2):
        steps_see.clear()
        answered("outputs", TINY)
        assert set(steps_see) == {("eager", precision.STRICT), ("compiled", precision.STRICT)}
        steps_see.clear()
        answered("warm", compiled)
        with count_compilation() as again:
            answered("sample", compiled, samples=2)
        assert (again.graphs, again.recompiles) == (0, 0)
        assert set(steps_see) == {("compiled", precision.AS_LEROBOT_TRAIN)}
    assert [key for key in side_worker._steps if key[0].compiles] == [(compiled, precision.AS_LEROBOT_TRAIN)]


def test_a_cpus_step_is_compiled_once_for_all_requests(steps_see: list[tuple[str, str]]) -> None:
    compiled = TINY.as_variant("compiled")
    with count_compilation() as compilation:
        answered("warm", compiled)
        for do, options in (("outputs", {}), ("sample", {"samples": 1}), ("outputs", {})):
            answered(do, compiled, **options)
    assert (compilation.graphs, compilation.recompiles) == (1, 0)
    assert {flags for _, flags in steps_see} == {"fp32"}
    steps_see.clear()
    assert set(answered("outputs", TINY, compiled=False)["values"]) == {"eager"}
    assert {variant for variant, _ in steps_see} == {"eager"}


@pytest.mark.gpu
def test_results_agree_on_cuda(worker: Worker) -> None:
    case = replace(TINY, device="cuda")
    first, second = (ask(worker, "outputs", case) for _ in range(2))
    assert compare_actions("tiny-inference", first, second) == []
    ask(worker, "sample", case.as_variant("compiled"), samples=1)
    assert compare_actions("tiny-inference", first, ask(worker, "outputs", case)) == []


@pytest.mark.parametrize(
    ("phase", "knows_auto"), [("inference", True), ("inference", False), ("training", True)]
)
def test_of_auto_on_cuda_a_prediction_is_counted(
    phase: str, knows_auto: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By recorded answers; the compiled step's graphs are not of ``auto``."""
    of_graph = dict.fromkeys(OF_GRAPH, 1)
    monkeypatch.setattr(side_worker, "graph", lambda _: {"graph_breaks": [], **of_graph})
    monkeypatch.setattr(side_worker, "ready", lambda case: SimpleNamespace(case=case))
    monkeypatch.setattr(side_worker, "has_mode", lambda _: knows_auto)
    launches = {"eager": 900, "compiled": 30, "auto": 3}
    monkeypatch.setattr(step_counters, "kernel_launches", lambda step: launches[step.case.variant])
    monkeypatch.setattr(step_counters, "device_waits", lambda step: {"auto": 2}[step.case.variant])
    monkeypatch.setattr(step_counters, "held_by_graphs", lambda: 7 << 20)
    monkeypatch.setattr(step_counters, "peak_memory", lambda *_, of_others=0: (50 << 20) - of_others)
    found = side_worker.counts(Case("tiny", phase, "eager", device="cuda"))
    assert well_formed("counts", found)
    of_auto = {"launches_auto": 3, "device_waits_auto": 2, "peak_memory_auto": 43 << 20}
    expected = of_auto if phase == "inference" and knows_auto else {}
    assert {name: found[name] for name in AUTO_ON_CUDA if name in found} == expected


def test_a_failing_request_is_the_sides_error_and_the_worker_lives(worker: Worker) -> None:
    with pytest.raises(AnswerError, match="head failed: ValueError: device 'cuda' was asked for"):
        ask(worker, "warm", Case("tiny", "inference", "eager", device="cuda"))
    ask(worker, "warm", TINY)


def test_the_compiled_graph_learns_what_eager_learns(learning: dict[str, Any]) -> None:
    assert len(learning["values"]["eager"]) > 100
    assert compare_learning("tiny-training", learning, learning) == []


@needs_an_engine
def test_what_auto_does_by_itself(auto: dict[str, Any]) -> None:
    """An export for the first policy and none later; every write to the weights is seen."""
    counted = auto["counts"]
    assert set(counted) == set(OF_AUTO) - ({"auto_waits"} if not CAN_SLICE else set())
    assert (counted["auto_made"], counted["auto_made_known"], counted["auto_made_written"]) == (1, 0, 0)
    assert (counted["auto_by_torch"], counted["auto_long_masks"], counted["auto_unfused"]) == (0, 0, 0)
    assert counted["auto_torchs_products"] == int(not options())
    assert counted["auto_training_ops"] > 100
    assert counted["auto_tick_ops"] > 10
    assert counted.get("auto_waits", 0) == 0
    assert counted["auto_sessions"] == 2, "the policy's, and the tick's"
    assert len(auto["values"]) == 4
    assert compare_auto("tiny-inference", auto, auto) == []
    actions = [each["eager"] for each in auto["values"].values()]
    assert all(max(map(abs, map(sub, one, other))) > 1e-3 for one, other in pairwise(actions))


@needs_an_engine
@pytest.mark.parametrize(
    "names",
    [
        ("weights told apart by address alone",),
        # One worker for three that are told by different counters: it takes 20 s to start and to export.
        ("a sleep at each prediction", "sessions that are never let go", "a pass more over each frame"),
    ],
    ids=" and ".join,
)
def test_a_mutant_of_auto_is_named(names: tuple[str, ...], auto: dict[str, Any], tmp_path: Path) -> None:
    mutants = mutants_of(names)
    with mutated(mutants, tmp_path) as worker:
        after = ask(worker, "auto", TINY)
    red = [finding for finding in compare_auto("tiny-inference", auto, after) if finding.red]
    for mutant in mutants:
        assert any(mutant.cause in finding.what for finding in red), (mutant.name, red)


def test_a_graph_break_is_named_with_its_place(graph: dict[str, Any], tmp_path: Path) -> None:
    mutants = mutants_of([".item() in forward"])
    with mutated(mutants, tmp_path) as worker:
        red = [each for each in compare_counts("tiny", graph, ask(worker, "graph", TRAINING)) if each.red]
    breaks = [each for each in red if mutants[0].cause in each.what]
    place = "src/lerobot_policy_act_compiled/modeling_act_compiled.py:"
    assert any(each.detail.startswith(place) for each in breaks), red


def test_recompiles_and_lost_gradients_are_named(
    recompiles: dict[str, Any], learning: dict[str, Any], tmp_path: Path
) -> None:
    """Both mistakes in one worker: counts tell of one, gradients of the other."""
    branch, detach = mutants_of(
        ["a branch on the batch size that recompiles", "a detach that breaks gradients"]
    )
    with mutated((branch, detach), tmp_path) as worker:
        counts = compare_counts("tiny", recompiles, ask(worker, "recompiles", TRAINING))
        learned = compare_learning("tiny", learning, ask(worker, "learning", TRAINING))
    assert any(branch.cause in each.what for each in counts if each.red), counts
    assert any(detach.cause in each.what for each in learned if each.red), learned


def test_injected_work_takes_its_time(tmp_path: Path) -> None:
    side = checked_out(tmp_path / "head")
    head = slowed(side, tmp_path / "slow", {key(TINY): 300})
    # The processor's time, and of one thread: beside another test, threads that wait for each other spin, and
    # a step took 0.7 s instead of 0.03.
    with Worker(head, tmp_path / "inductor", environment={"OMP_NUM_THREADS": "1"}) as worker:
        worker.hello()
        assert worker.ask("ballast", timeout=TIMEOUT)["seconds"] > 0
        ask(worker, "warm", TINY)
        slow = min(ask(worker, "sample", TINY, samples=5, busy=True)["seconds"])
        seconds = {300: slow}
        for units in (0, 900):
            worker.ask("ballast", timeout=TIMEOUT, units={key(TINY): units})
            seconds[units] = min(ask(worker, "sample", TINY, samples=5, busy=True)["seconds"])
    assert seconds[300] > 1.5 * seconds[0]
    assert seconds[900] - seconds[0] > 2 * (seconds[300] - seconds[0]), "three times the work"

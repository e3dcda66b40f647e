"""``auto`` on a CPU: ONNX Runtime over the policy's own weights, or, for a reason that is logged, torch."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import gc
import logging
import multiprocessing
import os
import subprocess
import sys
import threading
import warnings
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import compiling, engine, kept_graphs, onnx_graph, patch_policy
from lerobot_policy_act_compiled.modeling_act_compiled import CompileFriendlyACT
from lerobot_policy_act_compiled.onnxruntime_session import onnxruntime
from lerobot_policy_act_compiled.session import Session

from ..child_process import ENDS_AT_ONCE
from .compiled_policies import ENGINE, acts_by_engine, as_compiled, count_made

pytestmark = [
    pytest.mark.usefixtures("without_inductor"),
    pytest.mark.skipif(onnx_graph.missing() is not None, reason="needs the extra cpu: onnxruntime and onnx"),
]

TAKES_BF16 = ENGINE in engine.SESSIONS and engine.SESSIONS[ENGINE].TAKES_BF16
Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where graphs are kept, of this test alone."""
    monkeypatch.setenv("ACT_COMPILED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def graph(camera_free_policy: Any) -> onnx_graph.Graph:
    """The graph of ``without_cameras``'s policy for batches of four: 4 s."""
    policy = patch_policy(copy.deepcopy(camera_free_policy)).eval()
    zeros = {name: torch.zeros(4, *each.shape) for name, each in policy.config.input_features.items()}
    return onnx_graph.graph_of(policy, zeros)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], str]:
    caplog.set_level(logging.INFO, "lerobot_policy_act_compiled")
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def observations(batch: Batch, size: int = 4) -> Batch:
    return {name: value[:size] for name, value in batch.items() if name.startswith("observation")}


def difference(policy: Any, stock: Any, batch: Batch) -> float:
    return float((policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max())


def test_the_engine_runs_from_the_second_call_on(
    tiny_policy: Make, tiny_batch: Make, said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, batch = tiny_policy(), tiny_batch(1)
    policy = as_compiled(stock, "auto")
    assert acts_by_engine("auto")
    assert difference(policy, stock, batch) < 1e-5
    assert f"compiled action_chunk: mode auto ({ENGINE}), cpu, float32, graph " in said()
    assert policy.compiled_by() == {"predict_action_chunk": ENGINE}
    monkeypatch.setattr(CompileFriendlyACT, "forward", lambda *_: pytest.fail("torch runs the model"))
    with torch.inference_mode():
        other = policy.predict_action_chunk(tiny_batch(1, seed=7))
    monkeypatch.undo()
    assert (other - stock.predict_action_chunk(tiny_batch(1, seed=7))).abs().max() < 1e-5


def test_it_needs_no_compiler(without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    stock, batch = without_cameras
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("torch compiles"))
    policy = as_compiled(stock, "auto")
    assert all(difference(policy, stock, observations(batch)) < 1e-5 for _ in range(2))


def test_other_weights_take_a_session_and_no_export(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch, said: Callable[[], str]
) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    policy.predict_action_chunk(batch)
    monkeypatch.setattr(engine, "graph_of", lambda *_: pytest.fail("it is exported again"))
    with torch.no_grad():
        for each in (stock, policy):
            each.model.action_head.bias.add_(1.0)
    with count_made() as made:
        assert difference(policy, stock, batch) < 1e-5
    assert made.graphs == 1
    assert difference(policy, stock, batch) < 1e-5
    assert f"the weights have changed: {ENGINE} took them in" in said()


def test_the_next_process_exports_nothing_and_has_weights_of_its_own(
    without_cameras: tuple[Any, Batch], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, batch = without_cameras
    as_compiled(stock, "auto").predict_action_chunk(batch)
    (kept,) = cache.iterdir()
    assert kept.stat().st_size < 200_000, "no weights"
    monkeypatch.setattr(engine, "graph_of", lambda *_: pytest.fail("it is exported again"))
    retrained = copy.deepcopy(stock)
    with torch.no_grad():
        for parameter in retrained.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    policy = as_compiled(retrained, "auto")
    with count_made() as made:
        for _ in range(2):
            assert difference(policy, retrained, batch) < 1e-5
    assert made.graphs == 1


def test_another_architecture_with_the_same_weights_is_another_graph(
    without_cameras: tuple[Any, Batch], cache: Path
) -> None:
    stock, batch = without_cameras
    for heads in (4, 2):
        stock.config.n_heads = heads
        other = type(stock)(stock.config).eval()
        other.load_state_dict(stock.state_dict())
        policy = as_compiled(other, "auto")
        for _ in range(2):
            assert difference(policy, other, batch) < 1e-5
    assert len(list(cache.iterdir())) == 2


def of_another_opset(graph: onnx_graph.Graph, *_: Any) -> onnx_graph.Graph:
    """As after another ONNX Runtime was installed: its release is no part of the graph's name."""
    import onnx

    model = onnx.load_from_string(graph.model)
    for each in model.opset_import:
        each.version = 99
    if ENGINE == "openvino":  # which takes operators that it knows of any opset
        model.graph.node[0].op_type = "OfTomorrow"
    return dataclasses.replace(graph, model=model.SerializeToString())


def of_other_shapes(_: onnx_graph.Graph, wide: Any, batch: Batch) -> onnx_graph.Graph:
    return onnx_graph.graph_of(patch_policy(wide).eval(), observations(batch))


DAMAGED = ["cut", "flipped", "empty", "not JSON", "of another graph", "a directory"]


@pytest.mark.parametrize("damage", [*DAMAGED, of_another_opset, of_other_shapes])
def test_a_damaged_graph_is_made_anew(
    damage: Any,
    without_cameras: tuple[Any, Batch],
    tiny_policy: Make,
    cache: Path,
    said: Callable[[], str],
    graph: onnx_graph.Graph,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stock, batch = without_cameras
    exports: list[Any] = []

    def export(*_: Any) -> onnx_graph.Graph:
        exports.append(graph)
        return graph

    monkeypatch.setattr(engine, "graph_of", export)
    as_compiled(stock, "auto").predict_action_chunk(batch)
    (kept,) = cache.iterdir()
    whole = kept.read_bytes()
    if damage == "a directory":
        kept.unlink()
        kept.mkdir()
    elif callable(damage):
        wide = tiny_policy(input_features=stock.config.input_features, dim_feedforward=128)
        kept_graphs.KeptGraphs(cache).keep(kept.name, damage(graph, wide, batch))
    else:
        head, _, tail = whole.partition(b"\n")
        damaged = {
            "cut": whole[: len(whole) // 2],
            "flipped": whole[:-50] + bytes([whole[-50] ^ 1]) + whole[-49:],
            "empty": b"",
            "not JSON": b"{\n" + tail,
            "of another graph": head.replace(b'"action_head.bias"', b'"action_head.else"') + b"\n" + tail,
        }
        kept.write_bytes(damaged[damage])
    policy = as_compiled(stock, "auto")
    for _ in range(2):
        assert difference(policy, stock, batch) < 1e-5
    if damage != "a directory":
        assert kept.read_bytes() == whole
    assert len(exports) == 2
    assert f"{ENGINE} is not used" not in said()
    refused = f"the graph is exported anew: with the one that there is, {engine.SESSIONS[ENGINE].NAME}"
    assert (refused in said()) == callable(damage), "whole, and nothing that the runtime takes"


def test_a_graph_whose_actions_differ_is_never_used(
    without_cameras: tuple[Any, Batch],
    cache: Path,
    said: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stock, batch = without_cameras
    graph_of = onnx_graph.graph_of

    def of_another(policy: Any, seen: Batch) -> Any:
        """The export of a policy that adds 1e-3 to its actions."""
        policy = copy.deepcopy(policy)
        head = policy.model.action_head.forward
        policy.model.action_head.forward = lambda x: head(x) + 1e-3
        return graph_of(policy, seen)

    monkeypatch.setattr(engine, "graph_of", of_another)
    policy = as_compiled(stock, "auto")
    with count_made() as made:
        for _ in range(3):
            assert difference(policy, stock, batch) < 1e-5
    assert made.graphs == 2, "a session that was looked at once, and torch's graph"
    assert f"{ENGINE} is not used: its actions are 1.0e-03 off those of eager mode" in said()
    assert not list(cache.glob("*.act-graph"))


def test_a_graph_that_takes_another_observation_does_not_pass_the_warm_up(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With observations of zeros it would."""
    stock, batch = without_cameras

    def of_another(policy: Any, seen: Batch) -> Any:
        """The export of a policy that sees the opposite of its state."""
        policy = copy.deepcopy(policy)
        project = policy.model.encoder_robot_state_input_proj
        forward = project.forward
        project.forward = lambda state: forward(-state)
        return onnx_graph.graph_of(policy, seen)

    monkeypatch.setattr(engine, "graph_of", of_another)
    monkeypatch.setattr(engine, "is_known", lambda _: False)  # no graph of earlier
    policy = as_compiled(stock, "auto").warm_up(4)
    assert difference(policy, stock, batch) < 1e-5


def test_a_buffer_that_is_in_no_state_dict_is_seen(without_cameras: tuple[Any, Batch]) -> None:
    """A graph holds it as a constant."""
    stock, batch = without_cameras
    for each in (stock, policy := as_compiled(stock, "auto")):
        each.model.register_buffer("scale", torch.ones(1), persistent=False)
        head = each.model.action_head.forward
        each.model.action_head.forward = lambda x, head=head, model=each.model: head(x) * model.scale
    for _ in range(3):
        for _ in range(2):
            assert difference(policy, stock, batch) < 1e-5
        for each in (stock, policy):
            each.model.scale.mul_(3.0)
    assert policy.compiled_by() == {"predict_action_chunk": ENGINE}


def test_what_runs_is_what_is_said(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy, bad = as_compiled(stock, "auto"), {**observations(batch)}
    assert policy.compiled_by() == {}
    bad["observation.state"] = torch.full_like(bad["observation.state"], float("nan"))
    said = []
    for mode, seen in (("auto", bad), ("auto", batch), ("default", batch), ("auto", batch)):
        policy.config.compile_mode = mode
        policy.predict_action_chunk(seen)
        said.append(policy.compiled_by()["predict_action_chunk"])
    assert said == ["eager", ENGINE, "torch", ENGINE]
    with torch.autocast("cpu", torch.bfloat16):
        policy.predict_action_chunk(batch)
    assert policy.compiled_by() == {"predict_action_chunk": ENGINE if TAKES_BF16 else "torch"}
    assert copy.deepcopy(policy).compiled_by() == {}


def test_training_is_said_to_be_torchs(without_cameras: tuple[Any, Batch], said: Callable[[], str]) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto").train()
    policy.forward(batch)
    assert "compiled policy_loss: mode auto (default), cpu" in said()
    assert policy.compiled_by() == {"forward": "torch"}


def test_an_export_is_quiet_in_two_threads_and_loud_after() -> None:
    logger, inside = logging.getLogger("onnxscript"), threading.Barrier(2, timeout=0.5)

    def exports(_: int) -> None:
        with onnx_graph.quiet(), contextlib.suppress(threading.BrokenBarrierError):
            inside.wait()  # never: the other one is not let in

    level, filters = logger.level, list(warnings.filters)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(exports, range(2)))
    assert logger.level == level
    assert list(warnings.filters) == filters
    assert inside.broken


class Sharded(torch.nn.Parameter):
    """As FSDP's: what it says of itself is not where the values are."""


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("autocast", "autocast is "),
        ("double", "is not fp32 on the CPU"),
        ("hook", "a module has hooks"),
        ("sharded", "the weights are no plain tensors"),
        ("no export", "the policy cannot be exported (no way)"),
        ("no session", "does not take the graph (no memory)"),
        ("no import", "cannot be imported (a library is missing)"),
    ],
)
def test_what_it_does_not_take_torch_does_and_one_line_says_why(
    what: str,
    why: str,
    without_cameras: tuple[Any, Batch],
    said: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(text: str) -> Callable[..., Any]:
        def raises(*_: Any, **__: Any) -> Any:
            raise RuntimeError(text)

        return raises

    stock, batch = without_cameras
    expected = stock.predict_action_chunk(batch)
    policy = as_compiled(stock, "auto")
    if what == "double":
        policy, batch = policy.double(), {name: value.double() for name, value in observations(batch).items()}
    elif what == "hook":
        policy.model.action_head.register_forward_hook(lambda _module, _args, output: output + 1.0)
        expected = expected + 1.0
    elif what == "sharded":
        policy.model.action_head.bias = Sharded(policy.model.action_head.bias.detach())
    elif what == "no export":
        monkeypatch.setattr(engine, "graph_of", fails("no\nway"))
    elif what == "no session":
        monkeypatch.setattr(engine.SESSIONS[ENGINE], "opened", fails("no memory"))
    elif what == "no import":
        monkeypatch.setattr(engine.SESSIONS[ENGINE], "runtime", fails("a library is missing"))
    not_taken = torch.float16 if TAKES_BF16 else torch.bfloat16
    with torch.autocast("cpu", not_taken, enabled=what == "autocast"):
        for _ in range(3):
            actions = policy.predict_action_chunk(batch)
    assert (actions - expected).abs().max() < (3e-2 if what == "autocast" else 1e-5)
    assert said().count(f"{ENGINE} is not used: ") == 1
    assert why in said()


def test_a_bad_batch_has_lerobots_own_error(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    bad = {**observations(batch), "observation.state": torch.randn(4, 5)}
    errors = []
    for each in (stock, policy):
        with pytest.raises(RuntimeError) as caught:
            each.predict_action_chunk(bad)
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


def test_an_observation_that_is_no_number_is_not_what_it_is_judged_by(
    without_cameras: tuple[Any, Batch],
) -> None:
    stock, batch = without_cameras
    policy, bad = as_compiled(stock, "auto"), observations(batch)
    bad["observation.state"] = torch.full_like(bad["observation.state"], float("nan"))
    assert policy.predict_action_chunk(bad).isnan().all()
    with count_made() as made:
        assert difference(policy, stock, observations(batch)) < 1e-5
    assert made.graphs == 1
    assert policy.predict_action_chunk(bad).isnan().all(), "as eager mode has it"


def test_results_are_the_callers_and_strided_observations_are_taken(
    without_cameras: tuple[Any, Batch],
) -> None:
    stock, batch = without_cameras
    policy, seen = as_compiled(stock, "auto"), observations(batch)
    policy.predict_action_chunk(seen)
    first = policy.predict_action_chunk(seen)
    kept = first.clone()
    turned = {name: value.flip(0).T.contiguous().T.requires_grad_() for name, value in seen.items()}
    second = policy.predict_action_chunk(turned)
    assert torch.equal(first, kept)
    assert (second - kept.flip(0)).abs().max() < 1e-5
    first.add_(1.0)
    assert (policy.predict_action_chunk(seen) - kept).abs().max() == 0


def test_threads_are_torchs(without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    stock, batch = without_cameras
    policy, asked = as_compiled(stock, "auto"), []
    opens = Session.__init__

    def asks(self: Any, graph: Any, policy: Any, threads: int, **options: Any) -> None:
        asked.append(threads)
        opens(self, graph, policy, threads, **options)

    monkeypatch.setattr(Session, "__init__", asks)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 1, 2):
            torch.set_num_threads(threads)
            assert difference(policy, stock, batch) < 1e-5
    finally:
        torch.set_num_threads(before)
    assert asked == [1, 2]


def test_so_many_kinds_and_then_torch(
    without_cameras: tuple[Any, Batch], said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "KINDS", 2)
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    with count_made() as made:
        for size in (4, 3, 2, 1, 4):
            assert difference(policy, stock, observations(batch, size)) < 1e-5
    assert said().count(f"{ENGINE} is not used: it runs for 2 other shapes") == 2
    assert made.graphs == 4, "two sessions, and two graphs of torch's"


def doubled(_module: Any, _inputs: Any, output: Any) -> Any:
    return 2 * output


def with_a_hook(model: Any) -> None:
    model.action_head.register_forward_hook(doubled)


def with_another_activation(model: Any) -> None:
    model.decoder.layers[0].activation = torch.sin


def with_another_epsilon(model: Any) -> None:
    model.encoder.layers[0].norm1.eps = 1.0


def with_a_method_of_its_own(model: Any) -> None:
    model.action_head.forward = lambda x: x[..., :3]


@pytest.mark.parametrize(
    "change", [with_a_hook, with_another_activation, with_another_epsilon, with_a_method_of_its_own]
)
def test_a_change_of_the_modules_is_seen(
    change: Callable[[Any], None], without_cameras: tuple[Any, Batch]
) -> None:
    """Which changes no weight. torch's guards see it, and the engine has none."""
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    for _ in range(2):
        before = policy.predict_action_chunk(batch)
    for each in (stock, policy):
        change(each.model)
    for _ in range(2):
        assert difference(policy, stock, batch) < 1e-5
    assert (stock.predict_action_chunk(batch) - before).abs().max() > 1e-2


def test_a_forked_process_ends(without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch) -> None:
    """With a session in it whose threads only its parent has: to end that one would wait for them."""
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    for _ in range(2):
        policy.predict_action_chunk(batch)
    held = [policy]

    def ends() -> None:
        held.clear()
        vars(policy)["_compiled"].clear()
        gc.collect()

    process = multiprocessing.get_context("fork").Process(target=ends)
    process.start()
    process.join(30)
    process.kill()
    assert process.exitcode == 0, "it waits"


def test_sessions_of_weights_that_are_gone_take_no_kinds_place(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    monkeypatch.setattr(engine, "KINDS", 1)
    policy.predict_action_chunk(batch)
    for each in (stock, policy):
        each.half().float()
    for _ in range(2):
        assert difference(policy, stock, observations(batch, 3)) < 1e-5
    assert policy.compiled_by() == {"predict_action_chunk": ENGINE}


@pytest.mark.parametrize("fails", ["sources", "the list of a directory", "a home"])
def test_what_cannot_be_kept_is_no_reason_not_to_act(
    fails: str,
    without_cameras: tuple[Any, Batch],
    cache: Path,
    said: Callable[[], str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise (RuntimeError if fails == "a home" else PermissionError)(f"{fails} cannot be read")

    if fails == "sources":
        monkeypatch.setattr(kept_graphs, "sources", refuse)
    elif fails == "a home":
        monkeypatch.delenv("ACT_COMPILED_CACHE")
        monkeypatch.setattr("platformdirs.user_cache_path", refuse)
    else:
        monkeypatch.setattr(kept_graphs.KeptGraphs, "_prune", refuse)
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    for _ in range(2):
        assert difference(policy, stock, batch) < 1e-5
    assert policy.compiled_by() == {"predict_action_chunk": ENGINE}
    assert "kept for the next start" in said()
    assert cache.exists() == (fails == "the list of a directory")


def test_a_forked_process_makes_its_own(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session's threads are not there in it."""
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)  # torch's own threads survive no fork either
    for _ in range(2):
        expected = policy.predict_action_chunk(batch)
    context: Any = multiprocessing.get_context("fork")
    results = context.SimpleQueue()

    def acts() -> None:
        with count_made() as made:
            actions = policy.predict_action_chunk(batch)
        results.put((float((actions - expected).abs().max()), made.graphs))
        os._exit(0)

    process = context.Process(target=acts)
    process.start()
    process.join(30)
    process.kill()
    assert process.exitcode == 0, "it waits"
    difference, sessions = results.get()
    assert difference < 1e-5
    assert sessions == 1


def test_sessions_go_with_their_policy(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, "auto")
    for _ in range(2):
        policy.predict_action_chunk(batch)
    (made,) = (each for each in vars(policy)["_compiled"].values() if isinstance(each, engine.Engine))
    session = weakref.ref(next(iter(made._made.values())).session)
    del policy, made
    gc.collect()
    assert session() is None


def test_on_cuda_nobody_is_told_of_it(said: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "missing", lambda *_: "onnxruntime")
    compiling._best_on_cpu.cache_clear()
    for device in ("cuda", "mps"):
        compiling.mode_for("auto", device)
    compiling._best_on_cpu.cache_clear()
    assert said() == ""


def test_without_it_auto_compiles_by_torch_and_says_so_once(
    without_cameras: tuple[Any, Batch], said: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, batch = without_cameras
    monkeypatch.setattr(compiling, "missing", lambda *_: "onnxruntime")
    monkeypatch.setattr(engine, "missing", lambda *_: "onnxruntime")
    compiling._best_on_cpu.cache_clear()
    try:
        for _ in range(2):
            assert difference(as_compiled(stock, "auto"), stock, batch) < 1e-5
        assert said().count("auto compiles by torch, as onnxruntime is not installed") == 1
        assert "mode auto (frozen), cpu" in said()
        with pytest.raises(ValueError, match=r"'onnxruntime' and onnxruntime is not installed: pip install "):
            as_compiled(stock, "onnxruntime").predict_action_chunk(batch)
    finally:
        compiling._best_on_cpu.cache_clear()


def test_a_directory_of_the_users_keeps_it_too(
    without_cameras: tuple[Any, Batch], cache: Path, tmp_path: Path
) -> None:
    stock, batch = without_cameras
    as_compiled(stock, "auto", compile_artifact=str(tmp_path / "mine")).predict_action_chunk(batch)
    assert [file.suffix for file in (tmp_path / "mine").iterdir()] == [".act-graph"]
    assert not cache.exists()


def test_a_directory_that_cannot_be_written_keeps_nothing(
    without_cameras: tuple[Any, Batch], cache: Path, said: Callable[[], str]
) -> None:
    stock, batch = without_cameras
    cache.write_text("")
    policy = as_compiled(stock, "auto")
    for _ in range(2):
        assert difference(policy, stock, batch) < 1e-5
    assert said().count("the graph is not kept for the next start: ") == 1


QUIET = "from lerobot_policy_act_compiled.{0}_session import {0}; {0}()"


@pytest.mark.parametrize("name", [name for name in onnx_graph.ENGINES if onnx_graph.missing(name) is None])
def test_a_runtime_reports_nothing_unless_its_user_says_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path)}
    for each in ("ORT_DISABLE_TELEMETRY", "CI"):
        environment.pop(each, None)
    environment["PYTHONPATH"] = str(Path(__file__).parents[2] / "src")
    subprocess.run([sys.executable, "-c", ENDS_AT_ONCE + QUIET.format(name)], env=environment, check=True)
    assert not list(tmp_path.iterdir()), "an identifier of the device, or of the user"
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"

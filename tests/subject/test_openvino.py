"""What OpenVINO does and ONNX Runtime does not: bf16. All else is tested by what ``auto`` takes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import compiling, engine, onnx_graph
from lerobot_policy_act_compiled.openvino_session import openvino
from lerobot_policy_act_compiled.weights import Weights

from .compiled_policies import as_compiled, count_made

Make = Callable[..., Any]
Batch = dict[str, Any]

needs_openvino = pytest.mark.skipif(
    onnx_graph.missing("openvino") is not None, reason="needs the extra openvino; nox -s openvino has it"
)


def as_trained(stock: Any) -> Any:
    """With statistics of batch norm that do something."""
    generator = torch.Generator().manual_seed(0)
    for name, value in stock.named_buffers():
        if name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif name.endswith("running_mean"):
            value.copy_(0.1 * torch.randn(value.shape, generator=generator))
    return stock


def acted(policy: Any, batch: Batch, *, bf16: bool) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        actions: torch.Tensor = policy.predict_action_chunk(batch)
    return actions


@needs_openvino
@pytest.mark.parametrize("first", ["bf16", "fp32"])
def test_under_autocast_it_is_as_near_to_fp32_as_eager_mode(
    first: str, tiny_policy: Make, tiny_batch: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And one kept graph, of whichever came first, serves both."""
    monkeypatch.setenv("ACT_COMPILED_CACHE", str(tmp_path))
    stock = as_trained(tiny_policy())
    for bf16 in (True, False) if first == "bf16" else (False, True):
        policy = as_compiled(stock, "openvino")
        for seed in range(2):
            batch = tiny_batch(1, seed=seed)
            exact, expected = (acted(stock, batch, bf16=each) for each in (False, bf16))
            actions = acted(policy, batch, bf16=bf16)
            assert actions.dtype == expected.dtype == (torch.bfloat16 if bf16 else torch.float32)
            assert (actions - exact).abs().max() <= max(1e-5, 2 * (expected - exact).abs().max())
        assert policy.compiled_by() == {"predict_action_chunk": "openvino"}
    assert len(list(tmp_path.iterdir())) == 1


@needs_openvino
def test_under_autocast_other_weights_are_seen(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, "openvino")
    for _ in range(3):
        exact, expected = (acted(stock, batch, bf16=bf16) for bf16 in (False, True))
        for _ in range(2):
            off = (acted(policy, batch, bf16=True) - exact).abs().max()
            assert off <= 2 * (expected - exact).abs().max()
        with torch.no_grad():  # all: it reads some where they lie, and is right about those without a watch
            for each in (stock, policy):
                for parameter in each.parameters():
                    parameter.mul_(1.1)


@needs_openvino
@pytest.mark.usefixtures("without_inductor")
def test_an_engine_that_is_further_off_than_autocast_is_not_used(
    without_cameras: tuple[Any, Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("ACT_COMPILED_CACHE", str(tmp_path))
    caplog.set_level("INFO", "lerobot_policy_act_compiled")
    stock, batch = without_cameras
    opened = engine.SESSIONS["openvino"].opened

    def further(*args: Any, bf16: bool) -> Any:
        inputs, run = opened(*args, bf16=bf16)
        return inputs, lambda *call: [each + (0.1 if bf16 else 0.0) for each in run(*call)]

    monkeypatch.setattr(engine.SESSIONS["openvino"], "opened", staticmethod(further))
    policy = as_compiled(stock, "openvino")
    with count_made() as made:
        for _ in range(2):
            assert (acted(policy, batch, bf16=True) - acted(stock, batch, bf16=True)).abs().max() < 2e-2
    assert made.graphs == 2, "a session that was looked at once, and torch's graph"
    assert "openvino is not used: its actions are 1." in caplog.text


@needs_openvino
def test_threads_that_act_at_once_have_their_own_actions(without_cameras: tuple[Any, Batch]) -> None:
    """OpenVINO's own request is of one call at a time, and raises in another thread."""
    stock, batch = without_cameras
    policy = as_compiled(stock, "openvino")
    shifted = [{name: value + shift for name, value in batch.items()} for shift in (0.0, 0.5, 1.0, 1.5)]
    expected = [stock.predict_action_chunk(each) for each in shifted]
    policy.predict_action_chunk(batch)
    (made,) = vars(policy)["_compiled"].values()
    session = next(iter(made._made.values())).session
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda turn: (turn % 4, session(shifted[turn % 4])), range(2000)))
    for which, actions in found:
        assert (actions - expected[which]).abs().max() < 1e-5


@needs_openvino
def test_weights_are_looked_at_while_it_computes(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the start, and before anybody waits: on pusht's step a look is a tenth."""
    stock, batch = without_cameras
    events: list[str] = []
    request_of = openvino().CompiledModel.create_infer_request

    class Noted:
        def __init__(self, compiled: Any) -> None:
            self._request = request_of(compiled)

        def __getattr__(self, name: str) -> Any:
            if name in ("start_async", "wait", "infer"):
                events.append(name)
            return getattr(self._request, name)

    def looked(weights: Weights, policy: Any) -> bool:
        events.append("look")
        return are_those_of(weights, policy)

    are_those_of = Weights.are_those_of
    monkeypatch.setattr(openvino().CompiledModel, "create_infer_request", lambda self: Noted(self))
    monkeypatch.setattr(Weights, "are_those_of", looked)
    policy = as_compiled(stock, "openvino")
    policy.predict_action_chunk(batch)
    events.clear()
    policy.predict_action_chunk(batch)
    assert events == ["start_async", "look", "wait"]
    assert policy.compiled_by() == {"predict_action_chunk": "openvino"}


@needs_openvino
def test_what_is_not_finite_is_eager_modes_to_do(tiny_policy: Make, tiny_batch: Make) -> None:
    """In the middle of a frame: its convolutions with ReLU make zeros of NaN."""
    stock, batch = tiny_policy(), tiny_batch(1)
    policy = as_compiled(stock, "openvino")
    for _ in range(2):
        policy.predict_action_chunk(batch)
    bad = copy.deepcopy(batch)
    bad["observation.images.camera0"][0, 0, 30, 30] = float("nan")
    assert torch.equal(policy.predict_action_chunk(bad).isnan(), stock.predict_action_chunk(bad).isnan())
    assert policy.compiled_by() == {"predict_action_chunk": "eager"}
    assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert policy.compiled_by() == {"predict_action_chunk": "openvino"}


BOTH = {"openvino", "onnxruntime"}


@pytest.mark.parametrize(
    ("installed", "processor", "taken"),
    [
        (BOTH, "AVX512", "openvino"),
        (BOTH, "AVX512 with AMX", "openvino"),
        (BOTH, "AVX2", "onnxruntime"),
        (BOTH, "DEFAULT", "onnxruntime"),
        ({"openvino"}, "AVX2", "openvino"),
        ({"onnxruntime"}, "AVX512", "onnxruntime"),
        (set(), "AVX512", "frozen"),
    ],
)
def test_auto_takes_the_faster_of_those_installed(
    installed: set[str], processor: str, taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "missing", lambda name="onnxruntime": None if name in installed else name)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: processor)
    compiling._best_on_cpu.cache_clear()
    try:
        assert compiling.mode_for("auto", "cpu") == taken
    finally:
        compiling._best_on_cpu.cache_clear()


def test_without_it_its_mode_is_one_line(
    without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "missing", lambda _: "openvino")
    stock, batch = without_cameras
    with pytest.raises(
        ValueError, match=r"is 'openvino' and openvino is not installed: pip .*\[openvino\]'$"
    ):
        as_compiled(stock, "openvino").predict_action_chunk(batch)

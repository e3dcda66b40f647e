"""The action chunk as one CUDA graph, by a fake of CUDA's calls; ``test_cuda`` asks a GPU the same.

Every mode's tests run with mode ``captured`` too, by that fake: weights, threads, errors, copies.
"""

from __future__ import annotations

import copy
import gc
import logging
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import torch

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import capture
from lerobot_policy_act_compiled.cuda_graph import Recording
from lerobot_policy_act_compiled.position_table import fixed_position_table
from lerobot_policy_act_compiled.twin import Twin
from lerobot_policy_act_compiled.weights import tensors_of

from .compiled_policies import as_compiled
from .fake_cuda import FakeCuda
from .torch_2_6 import traces_no_subclass

pytestmark = [
    pytest.mark.usefixtures("without_inductor"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the fake is for machines without a GPU"),
]

Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    FakeCuda.forget()
    yield
    FakeCuda.forget()


@pytest.fixture
def pair(without_cameras: tuple[Any, Batch]) -> tuple[Any, Any, Batch]:
    stock, batch = without_cameras
    stock = copy.deepcopy(stock)
    return stock, as_compiled(stock, "captured"), batch


def of(batch: Batch, size: int) -> Batch:
    return {name: value[:size] for name, value in batch.items()}


def by(policy: Any) -> str:
    return str(policy.compiled_by()["predict_action_chunk"])


def assert_acts_as(stock: Any, policy: Any, batch: Batch) -> None:
    assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5


def test_one_graph_is_replayed(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    with count_compilation() as compilation:
        for _ in range(3):
            assert_acts_as(stock, policy, batch)
    assert compilation.graphs == 1
    assert FakeCuda.recorded == ["look", "graph"]
    assert FakeCuda.replays == 3
    assert by(policy) == "captured"


def test_results_stay_and_observations_are_the_callers(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    first = {name: value.clone() for name, value in batch.items()}
    kept = policy.predict_action_chunk(first)
    expected = kept.clone()
    for value in first.values():
        if value.is_floating_point():
            value.add_(1.0)  # the caller's memory, which the graph does not read
    assert_acts_as(stock, policy, batch)
    other = policy.predict_action_chunk(first)
    assert (other - expected).abs().max() > 1e-3
    assert torch.equal(kept, expected)
    assert not kept.is_inference()


def test_it_acts_on_what_was_made_in_inference_mode(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    for _ in range(2):
        with torch.inference_mode():
            made = {name: value.clone() for name, value in batch.items()}
            actions = policy.predict_action_chunk(made)
        assert (actions - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert FakeCuda.recorded.count("graph") == 1


def test_it_sets_eval_mode_at_every_call(pair: tuple[Any, Any, Batch]) -> None:
    _, policy, batch = pair
    for _ in range(2):
        policy.train()
        policy.predict_action_chunk(batch)
        assert not any(module.training for module in policy.modules())


def test_each_batch_size_has_its_graph_and_the_one_used_longest_ago_goes(
    pair: tuple[Any, Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    stock, policy, batch = pair
    monkeypatch.setattr(capture, "KINDS", 2)
    recorded = []
    for size in (1, 2, 1, 3, 1, 2):
        assert_acts_as(stock, policy, of(batch, size))
        recorded.append(FakeCuda.recorded.count("graph"))
    assert recorded == [1, 2, 2, 3, 3, 4]


def test_changed_weights_are_copied_and_nothing_is_compiled(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    assert_acts_as(stock, policy, batch)
    with count_compilation() as compilation, torch.no_grad():
        for each in (stock, policy):
            each.model.action_head.bias.add_(1.0)
        assert_acts_as(stock, policy, batch)
        assert FakeCuda.recorded == ["look", "graph"], "they lie where they lay"
        for each in (stock, policy):
            each.model.action_head.bias = torch.nn.Parameter(each.model.action_head.bias + 1.0)
        assert_acts_as(stock, policy, batch)
    assert FakeCuda.recorded == ["look", "graph", "look"]
    assert compilation.graphs == 0
    assert FakeCuda.replays == 5


def test_values_that_changed_uncounted_are_seen_beside_the_graph(pair: tuple[Any, Any, Batch]) -> None:
    _, policy, batch = pair
    policy.predict_action_chunk(batch)
    (made,) = policy._compiled.values()
    (twin,) = made._compiled._twins.values()
    with torch.no_grad():
        twin.model.action_head.bias.add_(1.0)  # as if the policy's had been written to
    off = policy.predict_action_chunk(batch)
    FakeCuda.values_change = True
    found = policy.predict_action_chunk(batch)
    assert (off - found - 1.0).abs().max() < 1e-5
    replays = FakeCuda.replays
    policy.predict_action_chunk(batch)
    assert FakeCuda.replays == replays + 1, "they are no longer changed"


def test_a_model_that_became_another_one_is_captured_anew(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    assert_acts_as(stock, policy, batch)
    for each in (stock, policy):
        head = each.model.action_head
        each.model.action_head = torch.nn.Sequential(head, torch.nn.Linear(head.out_features, 5))
        torch.nn.init.constant_(each.model.action_head[1].weight, 0.1)
        torch.nn.init.zeros_(each.model.action_head[1].bias)
    assert policy.predict_action_chunk(batch).shape[-1] == 5
    assert_acts_as(stock, policy, batch)
    assert FakeCuda.recorded.count("graph") == 2


def test_under_autocast_weights_are_cast_once(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    policy.predict_action_chunk(batch)
    with torch.autocast("cpu", torch.bfloat16):
        expected = stock.predict_action_chunk(batch)
        for _ in range(2):
            assert (policy.predict_action_chunk(batch) - expected).abs().max() < 2e-2
    (made,) = policy._compiled.values()
    fp32, bf16 = made._compiled._twins.values()
    assert all(t.dtype == torch.float32 for t in tensors_of(fp32) if t.is_floating_point())
    model = bf16.model
    assert model.action_head.weight.dtype == model.action_head.bias.dtype == torch.bfloat16
    assert model.decoder.layers[0].self_attn.in_proj_weight.dtype == torch.bfloat16
    assert model.encoder.layers[0].norm1.weight.dtype == torch.float32, "autocast leaves norms as they are"
    with torch.no_grad():
        for each in (stock, policy):
            each.model.action_head.bias.add_(1.0)
    assert_acts_as(stock, policy, batch)  # both twins take the new weights
    with torch.autocast("cpu", torch.bfloat16):
        expected = stock.predict_action_chunk(batch)
        assert (policy.predict_action_chunk(batch) - expected).abs().max() < 2e-2
    assert FakeCuda.recorded.count("graph") == 2


def test_a_twin_has_memory_of_its_own_and_convolutions_channels_last(tiny_policy: Make) -> None:
    policy = tiny_policy()
    twin = Twin(policy, None, channels_last=True)
    own = {tensor.data_ptr() for tensor in tensors_of(twin)}
    assert own.isdisjoint(tensor.data_ptr() for tensor in tensors_of(policy))
    weight = twin.model.backbone.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not any(parameter.requires_grad for parameter in twin.parameters())
    assert not twin.model.training


class WrongCuda(FakeCuda):
    wrong_from = 0  # replays

    def replay(self, first: Recording, beside: Recording) -> torch.Tensor:
        actions = super().replay(first, beside)
        return actions + 0.1 if type(self).replays > type(self).wrong_from else actions


@pytest.mark.parametrize("when", ["at first", "with other weights", "in another thread"])
def test_actions_that_are_not_eager_modes_are_not_returned(
    when: str,
    pair: tuple[Any, Any, Batch],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    stock, policy, batch = pair
    monkeypatch.setattr(capture, "Cuda", WrongCuda)
    monkeypatch.setattr(WrongCuda, "wrong_from", 0 if when == "at first" else 1)
    assert_acts_as(stock, policy, batch)
    if when == "with other weights":
        for each in (stock, policy):
            each.model.action_head.bias.data.add_(1.0)
        assert_acts_as(stock, policy, batch)
    elif when == "in another thread":
        with ThreadPoolExecutor(1) as pool:
            pool.submit(assert_acts_as, stock, policy, batch).result()
    assert by(policy) == "torch"
    assert "off those of eager mode" in caplog.text


def test_actions_that_are_not_finite_prove_nothing(pair: tuple[Any, Any, Batch]) -> None:
    _, policy, batch = pair
    with torch.no_grad():
        policy.model.action_head.bias.fill_(float("nan"))
    assert policy.predict_action_chunk(batch).isnan().all()
    assert by(policy) == "eager"
    with torch.no_grad():
        policy.model.action_head.bias.zero_()
    assert policy.predict_action_chunk(batch).isfinite().all()
    assert by(policy) == "captured"


def test_after_a_failure_no_other_graph_has_old_weights(
    pair: tuple[Any, Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that cannot be recorded leaves twins with the weights of before."""
    stock, policy, batch = pair
    for size in (1, 2):
        assert_acts_as(stock, policy, of(batch, size))
    for each in (stock, policy):
        each.model.action_head.bias = torch.nn.Parameter(each.model.action_head.bias + 1.0)
    with monkeypatch.context() as refused:
        refused.setattr(FakeCuda, "recorded_look", RefusingCuda.record)
        assert_acts_as(stock, policy, of(batch, 1))
        assert by(policy) == "torch"
    assert_acts_as(stock, policy, of(batch, 2))
    assert by(policy) == "captured"


class RefusingCuda(FakeCuda):
    def record(self, work: Callable[[], torch.Tensor], *, warm: int = 3) -> Recording:  # noqa: ARG002
        type(self).recorded.append("refused")
        raise RuntimeError("CUDA error: operation not permitted\nwhen stream is capturing")


def test_what_cannot_be_captured_is_compiled_otherwise_and_tried_once(
    pair: tuple[Any, Any, Batch], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    stock, policy, batch = pair
    monkeypatch.setattr(capture, "Cuda", RefusingCuda)
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert_acts_as(stock, policy, batch)
    assert RefusingCuda.recorded.count("refused") == 1
    assert by(policy) == "torch"
    (line,) = (record.getMessage() for record in caplog.records if "not captured" in record.getMessage())
    assert "operation not permitted when stream is capturing" in line


@pytest.mark.parametrize("why", ["hooks", pytest.param("no plain tensors", marks=traces_no_subclass)])
def test_what_no_graph_can_stand_for_is_not_captured(why: str, pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    if why == "hooks":
        for each in (stock, policy):
            each.model.action_head.register_forward_hook(lambda _module, _inputs, output: output + 1.0)
    else:
        kind = type("Sharded", (torch.nn.Parameter,), {})
        policy.model.action_head.bias = kind(policy.model.action_head.bias.detach())
    for _ in range(2):
        assert_acts_as(stock, policy, batch)
    assert FakeCuda.recorded.count("graph") == 0
    assert by(policy) == "torch"


def test_a_bad_batch_ends_with_lerobots_own_error(pair: tuple[Any, Any, Batch]) -> None:
    stock, policy, batch = pair
    missing = {name: value for name, value in batch.items() if name != "observation.state"}
    policy.predict_action_chunk(batch)
    with pytest.raises(KeyError) as expected:
        stock.predict_action_chunk(missing)
    with pytest.raises(KeyError) as found:
        policy.predict_action_chunk(missing)
    assert str(found.value) == str(expected.value)
    assert_acts_as(stock, policy, batch)


def test_a_policys_compiled_functions_hold_all_of_it(pair: tuple[Any, Any, Batch]) -> None:
    _, policy, batch = pair
    policy.predict_action_chunk(batch)
    (made,) = policy._compiled.values()
    (twin,) = (weakref.ref(twin) for twin in made._compiled._twins.values())
    del made
    policy._compiled.clear()
    gc.collect()
    assert twin() is None


def test_a_graph_holds_the_constants_that_it_reads(tiny_policy: Make, tiny_batch: Make) -> None:
    """The GPU holds nothing, and torch forgets a compiled function when it is told to."""
    policy = as_compiled(tiny_policy(), "captured")
    policy.predict_action_chunk(tiny_batch(1))
    (made,) = policy._compiled.values()
    (kind,) = made._compiled._made.values()
    (table,) = map(weakref.ref, kind._constants)
    fixed_position_table.cache_clear()
    torch.compiler.reset()
    gc.collect()
    held = table()
    assert held is not None
    assert held.shape[1] == 2 * policy.model.encoder_cam_feat_pos_embed.dimension

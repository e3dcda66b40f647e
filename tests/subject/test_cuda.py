"""What a user of CUDA runs, most of it in mode auto: steps, gradients, evaluations, threads, an artifact.

``python -m benchmarks.gpu --parts tests`` runs it without network and nox. Policies are small, and compiled
once for this file where possible.
Products and convolutions are in full fp32, so that actions may be held against stock's within 1e-5.
"""

from __future__ import annotations

import copy
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.compile_counters import count_compilation
from benchmarks.suite.precision import lerobot_train_flags, strict_fp32
from benchmarks.suite.step_counters import held_by_graphs
from lerobot_policy_act_compiled import save_artifact
from lerobot_policy_act_compiled.position_table import fixed_position_table

from .compiled_policies import MODES, as_compiled

pytestmark = [pytest.mark.gpu, pytest.mark.consistency]

Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture(autouse=True, scope="module")
def _strict_fp32() -> Iterator[None]:
    with strict_fp32("cuda"):
        yield


def on_cuda(batch: Batch) -> Batch:
    return {name: value.to("cuda") for name, value in batch.items()}


@pytest.fixture(scope="module")
def stock(tiny_policy: Make) -> Any:
    return tiny_policy(dropout=0.0, use_vae=False).to("cuda")


@pytest.fixture(scope="module")
def policy(stock: Any) -> Any:
    """Compiled once for the module; every test leaves it with stock's weights and no gradients."""
    return as_compiled(stock, "auto")


@pytest.fixture
def pair(stock: Any, policy: Any) -> Iterator[tuple[Any, Any]]:
    saved = copy.deepcopy(stock.state_dict())
    yield stock, policy
    for each in (stock, policy):
        each.load_state_dict(saved)
        each.zero_grad(set_to_none=True)


def optimizer_of(policy: Any) -> Any:
    return policy.config.get_optimizer_preset().build(policy.get_optim_params())


def assert_same_weights(policy: Any, stock: Any) -> None:
    for (name, ours), theirs in zip(policy.named_parameters(), stock.parameters(), strict=True):
        assert (ours - theirs).abs().max() < 1e-4, name  # 4e-5 seen on an H100 after six micro-batches


def test_actions_are_stocks_and_stay_after_later_calls(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    stock, policy = pair
    batches = [on_cuda(tiny_batch(2, seed=seed)) for seed in range(3)]
    found = [policy.predict_action_chunk(batch) for batch in batches]
    for batch, actions in zip(batches, found, strict=True):
        assert (actions - stock.predict_action_chunk(batch)).abs().max() < 1e-5


def test_gradients_of_two_backward_passes_add_up(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    """torch's CUDA graphs write each pass's gradients to one memory."""
    optimizers = [optimizer_of(each) for each in pair]
    losses = []
    for step in range(3):
        for each, optimizer in zip(pair, optimizers, strict=True):
            each.train()
            for micro in range(2):
                loss, _ = each.forward(on_cuda(tiny_batch(2, seed=2 * step + micro)))
                (loss / 2).backward()
                losses.append(loss)
            optimizer.step()
            optimizer.zero_grad()
    assert_same_weights(pair[1], pair[0])
    for step in range(3):
        for micro in range(2):
            theirs, ours = (losses[4 * step + 2 * each + micro] for each in range(2))
            assert (ours - theirs).abs() < 1e-4


def test_an_evaluation_between_steps_sees_the_new_weights(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    optimizers = [optimizer_of(each) for each in pair]
    for step in range(2):
        for each, optimizer in zip(pair, optimizers, strict=True):
            each.train()
            each.forward(on_cuda(tiny_batch(2, seed=step)))[0].backward()
            optimizer.step()
            optimizer.zero_grad()
        expected, found = (each.predict_action_chunk(on_cuda(tiny_batch(2))) for each in pair)
        assert (found - expected).abs().max() < 1e-4


def test_another_thread_acts_too(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    """torch's CUDA graphs belong to one thread; LeRobot's server acts in those of a pool."""
    stock, policy = pair
    batch = on_cuda(tiny_batch(2))
    expected = stock.predict_action_chunk(batch)
    policy.predict_action_chunk(batch)
    with ThreadPoolExecutor(4) as pool:
        for found in pool.map(lambda _: policy.predict_action_chunk(batch), range(12)):
            assert (found - expected).abs().max() < 1e-5
            assert by(policy) == "captured"
    assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-5


def test_two_policies_act_in_two_threads(tiny_policy: Make, tiny_batch: Make) -> None:
    """Each captures in its own thread while the other replays, and keeps its own results."""
    stocks = [tiny_policy(seed=seed, dropout=0.0, use_vae=False).to("cuda") for seed in (1, 2)]
    policies = [as_compiled(each, "auto") for each in stocks]
    batch = on_cuda(tiny_batch(2))
    expected = [each.predict_action_chunk(batch) for each in stocks]
    both = threading.Barrier(2)

    def act(which: int) -> list[torch.Tensor]:
        both.wait()
        return [policies[which].predict_action_chunk(batch) for _ in range(20)]

    with ThreadPoolExecutor(2) as pool:
        for found, right in zip(pool.map(act, range(2)), expected, strict=True):
            assert all((actions - right).abs().max() < 1e-5 for actions in found)
    assert [by(policy) for policy in policies] == ["captured"] * 2


def test_after_warming_up_a_robots_loop_compiles_nothing(stock: Any, tiny_batch: Make) -> None:
    """LeRobot's loops act in inference mode; ``warm_up`` is called outside of it."""
    policy = as_compiled(stock, "auto").warm_up()
    with count_compilation() as compilation, torch.inference_mode():
        for seed in range(2):
            batch = on_cuda(tiny_batch(1, seed=seed))
            for each in (policy, stock):
                each.reset()
            assert (policy.select_action(batch) - stock.select_action(batch)).abs().max() < 1e-5
    assert compilation.graphs == 0
    assert by(policy) == "captured"


def test_with_the_flags_of_lerobot_train(stock: Any, tiny_batch: Make) -> None:
    """TF32's ten bits of mantissa: ours is no further from strict fp32 than twice as far as stock's is."""
    batch = on_cuda(tiny_batch(2))
    exact = stock.predict_action_chunk(batch)
    with lerobot_train_flags("cuda"):
        policy = as_compiled(stock, "auto")
        ours = [policy.predict_action_chunk(batch) for _ in range(3)][-1]
        off = (stock.predict_action_chunk(batch) - exact).abs().max()
    assert by(policy) == "captured"
    assert (ours - exact).abs().max() <= 2 * off + 1e-5


def by(policy: Any) -> str:
    return str(policy.compiled_by()["predict_action_chunk"])


def test_every_write_is_seen(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    """Of weights in place, by torch's count or without it, and elsewhere; nothing is compiled for it."""
    stock, policy = pair
    batch = on_cuda(tiny_batch(2))

    def difference() -> float:
        return float((policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max())

    assert difference() < 1e-5
    writes: dict[str, Callable[[Any], Any]] = {
        "under no_grad": lambda head: head.bias.add_(1.0),
        "through .data": lambda head: head.bias.data.add_(1.0),
        "another one": lambda head: setattr(head, "bias", torch.nn.Parameter(head.bias + 1.0)),
        "through .data, later": lambda head: head.weight.data.mul_(2.0),
    }
    with count_compilation() as compilation:
        for name, write in writes.items():
            with torch.no_grad():
                for each in pair:
                    write(each.model.action_head)
            assert difference() < 1e-5, name
            assert difference() < 1e-5, name
    assert compilation.graphs == 0
    assert by(policy) == "captured"


def test_under_autocast_and_with_other_batch_sizes(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    stock, policy = pair
    for size in (1, 3, 1):
        batch = on_cuda(tiny_batch(size))
        with torch.autocast("cuda", torch.bfloat16):
            expected = stock.predict_action_chunk(batch)
            assert (policy.predict_action_chunk(batch) - expected).abs().max() < 2e-2
            assert by(policy) == "captured"
        assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5


def test_what_a_graph_reads_stays_when_nobody_else_holds_it(stock: Any, tiny_batch: Make) -> None:
    """Its constants and buffers: torch's cache is emptied, and the memory of others written to."""
    policy, batch = as_compiled(stock, "auto"), on_cuda(tiny_batch(1))
    expected = stock.predict_action_chunk(batch)
    policy.predict_action_chunk(batch)
    fixed_position_table.cache_clear()
    torch.compiler.reset()
    gc.collect()
    torch.cuda.empty_cache()
    written = [
        torch.full((1 << size,), float("nan"), device="cuda") for size in range(4, 25) for _ in range(4)
    ]
    assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-5
    assert by(policy) == "captured"
    del written


def test_its_memory_is_given_back(stock: Any, tiny_batch: Make) -> None:
    batch = on_cuda(tiny_batch(2))
    gc.collect()
    before = held_by_graphs()
    policy = as_compiled(stock, "auto")
    policy.predict_action_chunk(batch)
    assert held_by_graphs() > before
    del policy
    gc.collect()
    torch.cuda.empty_cache()
    assert held_by_graphs() == before


def test_an_artifact_is_refused_and_the_policy_acts(
    stock: Any, tiny_batch: Make, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    batch = on_cuda(tiny_batch(1))
    policy = as_compiled(stock, "auto", compile_artifact=str(tmp_path))
    assert (policy.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert "compile_artifact is left out" in caplog.text
    with pytest.raises(ValueError, match="save_artifact: torch cannot load"):
        save_artifact(policy, tmp_path)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode not in ("auto", "captured")])
@pytest.mark.usefixtures("fresh_dynamo")
def test_every_other_mode_acts_and_trains_as_stock(
    mode: str, tiny_policy: Make, without_cameras: tuple[Any, Batch]
) -> None:
    """Without cameras, so that ``max-autotune`` has few shapes to try kernels for."""
    features = without_cameras[0].config.input_features
    stock = tiny_policy(input_features=features, dropout=0.0, use_vae=False).to("cuda")
    policies = stock, as_compiled(stock, mode)
    optimizers = [torch.optim.SGD(each.parameters(), lr=1e-3) for each in policies]
    batch = on_cuda(without_cameras[1])
    for size in (4, 3):
        part = {name: value[:size] for name, value in batch.items()}
        losses = []
        for each, optimizer in zip(policies, optimizers, strict=True):
            for _ in range(2):  # gradients of the first pass stay over the second
                losses.append(each.train().forward(part)[0])
                losses[-1].backward()
            optimizer.step()
            optimizer.zero_grad()
        assert losses[2].item() == pytest.approx(losses[0].item(), rel=1e-4)
        assert_same_weights(policies[1], policies[0])
        expected, actions = (each.predict_action_chunk(part) for each in policies)
        assert (actions - expected).abs().max() < 1e-4

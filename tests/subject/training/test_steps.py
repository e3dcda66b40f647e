"""Training as LeRobot does it, in one process: what it comes to is stock's, in every compile mode.

Float64, so that a step of AdamW, which takes the sign of a gradient that is nothing but rounding, is stock's
too. Graphs are run by torch's own kernels, their weights constants where Inductor's are.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from ..compiled_policies import each_mode
from .conftest import Batch, Make, assert_same_weights, both, make_batches, optimizer_of, step

pytestmark = [pytest.mark.consistency, pytest.mark.usefixtures("with_constants")]


class LeRobotsTraining:
    """LeRobot's own update by accelerate, which keeps one state a process, and refuses another precision."""

    def __init__(self) -> None:
        self.accelerate = pytest.importorskip("accelerate", reason="LeRobot trains by it: not installed")
        self.script = pytest.importorskip(
            "lerobot.scripts.lerobot_train",
            reason="LeRobot's training needs lerobot[training]",
            exc_type=ImportError,
        )
        self.metrics = importlib.import_module("lerobot.utils.logging_utils")

    def forget(self) -> None:
        self.accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)

    def train(self, policy: Any, batches: list[Batch], precision: str) -> list[tuple[float, float]]:
        """Losses and norms of gradients of ``update_policy``; the norms are clipped."""
        self.forget()
        accelerator = self.accelerate.Accelerator(
            step_scheduler_with_optimizer=False, mixed_precision=precision, cpu=True
        )
        prepared, optimizer = accelerator.prepare(policy, optimizer_of(policy))
        names = ("loss", "grad_norm", "lr", "update_s")
        meters = {name: self.metrics.AverageMeter(name, ":.3f") for name in names}
        tracker = self.metrics.MetricsTracker(4, 100, 10, meters, accelerator=accelerator)
        seen = []
        for seed, batch in enumerate(batches):
            torch.manual_seed(seed)
            self.script.update_policy(tracker, prepared, batch, optimizer, 1.0, accelerator=accelerator)
            seen.append((meters["loss"].val, meters["grad_norm"].val))
        assert all(norm > 1.0 for _, norm in seen), "clipped"
        return seen


@pytest.fixture
def lerobot() -> Iterator[LeRobotsTraining]:
    training = LeRobotsTraining()
    training.forget()
    yield training
    training.forget()


@each_mode
def test_lerobots_update_is_stocks(
    mode: str, lerobot: LeRobotsTraining, quiet_policy: Any, tiny_batch: Make
) -> None:
    stock, ours = both(quiet_policy, mode)
    batches = make_batches(tiny_batch, 4, 4, 3)
    theirs, seen = (lerobot.train(policy, batches, "no") for policy in (stock, ours))
    assert seen == [pytest.approx(values, rel=1e-9) for values in theirs]
    assert_same_weights(ours, stock)


@each_mode
def test_lerobots_update_in_bf16_is_as_near_as_stocks(
    mode: str, lerobot: LeRobotsTraining, quiet_policy: Any, tiny_batch: Make
) -> None:
    stock, ours = both(copy.deepcopy(quiet_policy).float(), mode)
    exact, start = copy.deepcopy(stock), copy.deepcopy(stock)
    batches = make_batches(tiny_batch, 4, 4, dtype=torch.float32)
    precise = lerobot.train(exact, batches, "no")
    theirs, seen = (lerobot.train(policy, batches, "bf16") for policy in (stock, ours))
    for (loss, norm), (their_loss, their_norm), (true_loss, _) in zip(seen, theirs, precise, strict=True):
        assert loss != pytest.approx(true_loss, rel=1e-6), "autocast reaches the graph"
        assert (loss, norm) == pytest.approx((their_loss, their_norm), rel=0.02)

    def moved(policy: Any) -> Any:
        pairs = zip(policy.parameters(), start.parameters(), strict=True)
        return torch.cat([(now - before).detach().flatten() for now, before in pairs])

    away, theirs_away = ((moved(each) - moved(exact)).norm() for each in (ours, stock))
    assert 0 < away <= 1.5 * theirs_away


@each_mode
def test_evaluation_between_steps_and_a_smaller_last_batch(
    mode: str, quiet_policy: Any, tiny_batch: Make
) -> None:
    policies = stock, ours = both(quiet_policy, mode)
    optimizers = [optimizer_of(policy) for policy in policies]
    (watched,) = make_batches(tiny_batch, 1)
    before: Any = None
    for seed, batch in enumerate(make_batches(tiny_batch, 4, 4, 3)):
        theirs, loss = (
            step(policy, optimizer, batch, seed=seed)[0]
            for policy, optimizer in zip(policies, optimizers, strict=True)
        )
        assert loss.item() == pytest.approx(theirs.item(), rel=1e-9)
        expected, actions = (policy.predict_action_chunk(watched) for policy in policies)
        assert (actions - expected).abs().max() < 1e-9, "of the weights after the step"
        assert before is None or (expected - before).abs().max() > 1e-6, "a step is seen in actions"
        before = expected
    assert_same_weights(ours, stock)


@each_mode
def test_gradients_of_two_batches_add_up(mode: str, quiet_policy: Any, tiny_batch: Make) -> None:
    policies = stock, ours = both(quiet_policy, mode)
    batches = make_batches(tiny_batch, 4, 4, 4, 4)
    for policy in policies:
        optimizer = optimizer_of(policy)
        for seed in range(2):
            step(policy, optimizer, *batches[2 * seed : 2 * seed + 2], seed=seed)
    assert_same_weights(ours, stock)


def assert_results_stay(policy: Any, batches: list[Batch]) -> None:
    optimizer, kept = optimizer_of(policy), []
    for seed, batch in enumerate(batches):
        loss, parts = step(policy, optimizer, batch, seed=seed)
        actions = policy.predict_action_chunk(batch)
        kept.append(((loss, parts, actions), (loss.item(), dict(parts), actions.clone())))
    for (loss, parts, actions), (its_value, its_parts, its_actions) in kept:
        assert loss.item() == its_value
        assert dict(parts) == its_parts
        assert torch.equal(actions, its_actions)
    values = [value for _, (value, _, _) in kept]
    assert len(set(values)) == len(values)


@each_mode
def test_results_of_earlier_calls_stay(mode: str, quiet_policy: Any, tiny_batch: Make) -> None:
    assert_results_stay(both(quiet_policy, mode)[1], make_batches(tiny_batch, 4, 4, 4))

"""``warm_up``: compiled before the robot is connected; afterwards no step waits for a compiler."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest
import torch

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import patch_lerobot

from .compiled_policies import as_compiled, count_made, each_mode

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("without_inductor")]

Make = Callable[..., Any]
Batch = dict[str, Any]


def observation(batch: Batch, around: AbstractContextManager[Any]) -> Batch:
    """What LeRobot's preprocessor hands over: tensors made where the loop makes them, and more."""
    with around:
        seen = {name: value[:1].clone() for name, value in batch.items() if name.startswith("observation")}
    return {**seen, "action": None, "task": ["fold the shirt"], "next.reward": 0.0}


@each_mode
@pytest.mark.parametrize("loop", [torch.inference_mode, contextlib.nullcontext], ids=["rollout", "server"])
def test_no_step_after_it_compiles(
    mode: str,
    loop: Callable[[], AbstractContextManager[Any]],
    without_cameras: tuple[Any, Batch],
) -> None:
    """LeRobot's rollout acts in inference mode and its server does not; one graph does for both."""
    stock, batch = without_cameras
    stock.config.n_action_steps = 2
    stock.reset()
    policy = as_compiled(stock, mode)
    with count_made() as before:
        assert policy.warm_up() is policy
    assert before.graphs == 1
    with count_made() as after, loop():
        for first in range(4):
            seen = observation({name: value[first:] for name, value in batch.items()}, loop())
            assert (policy.select_action(seen) - stock.select_action(seen)).abs().max() < 1e-5
    assert after.graphs == 0, after.recompile_reasons


def test_queue_and_ensembler_stay_as_they_are(tiny_policy: Make, tiny_batch: Make) -> None:
    for phase in ("rollout", "rollout_ensemble"):
        stock = tiny_policy(phase=phase)
        policy = as_compiled(stock, "auto")
        policy.select_action(tiny_batch(1))
        stock.select_action(tiny_batch(1))
        policy.warm_up()
        batch = tiny_batch(1, seed=1)
        assert (policy.select_action(batch) - stock.select_action(batch)).abs().max() < 1e-5


def test_it_says_what_it_does(without_cameras: tuple[Any, Batch], caplog: pytest.LogCaptureFixture) -> None:
    policy = as_compiled(without_cameras[0], "frozen")
    caplog.set_level(logging.INFO, "lerobot_policy_act_compiled")
    policy.warm_up()
    said = [record.getMessage() for record in caplog.records]
    assert said[0].startswith("warming up on cpu")
    assert said[1].startswith("compiled action_chunk: mode frozen, cpu, float32, no artifact, ")
    assert said[2].startswith("warm:")
    caplog.clear()
    policy.warm_up()
    assert len(caplog.records) == 2, "it was compiled already"
    caplog.clear()
    policy.config.compile_model = False
    policy.warm_up()
    assert [record.getMessage() for record in caplog.records] == [
        "nothing to warm up: the policy is not compiled (compile_model is not set)"
    ]


def test_a_batch_size_below_one_is_refused(tiny_policy: Make) -> None:
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        as_compiled(tiny_policy(), "auto").warm_up(0)


def test_a_plain_act_policy_warms_up_under_the_patch(tiny_policy: Make, tiny_batch: Make) -> None:
    policy = tiny_policy()
    with patch_lerobot("auto"):
        policy.warm_up()
        with count_compilation() as after:
            policy.predict_action_chunk(tiny_batch(1))
    assert after.graphs == 0
    assert not hasattr(policy, "warm_up")

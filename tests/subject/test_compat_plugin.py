"""The policy type ``act_compiled``, as LeRobot finds, makes and runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import ACTCompiledConfig, ACTCompiledPolicy

from ..child_process import ENDS_AT_ONCE

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("fresh_dynamo")]

Make = Callable[..., Any]

# A process of its own: in this one the plugin is imported already. What it runs is what
# lerobot-train and lerobot-eval run before their work, for a robot's policy of small widths.
FOUND_BY_LEROBOT = """
import sys
from dataclasses import dataclass
import draccus
from lerobot.utils.import_utils import register_third_party_plugins
assert "lerobot_policy_act_compiled" not in sys.modules
register_third_party_plugins()
from lerobot.configs.policies import PreTrainedConfig
from lerobot.envs.configs import AlohaEnv
from lerobot.policies import factory
assert "act_compiled" in PreTrainedConfig.get_known_choices()
assert factory.get_policy_class("act_compiled").__name__ == "ACTCompiledPolicy"
made = factory.make_policy_config("act_compiled", device="cpu", compile_mode="max-autotune")
assert (made.type, made.compile_model, made.compile_mode) == ("act_compiled", False, "max-autotune")

@dataclass
class Arguments:
    policy: PreTrainedConfig

config = draccus.parse(Arguments, args=[
    "--policy.type=act_compiled", "--policy.compile_model=true", "--policy.device=cpu",
    "--policy.pretrained_backbone_weights=null", "--policy.dim_model=32", "--policy.n_heads=2",
]).policy
assert (type(config).__name__, config.compile_model) == ("ACTCompiledConfig", True)
policy = factory.make_policy(config, env_cfg=AlohaEnv())
assert type(policy).__name__ == "ACTCompiledPolicy"
assert policy.config.action_feature.shape == (14,)
before, after = factory.make_pre_post_processors(config)
import torch
state = torch.ones(14)
assert torch.equal(before({"observation.state": state})["observation.state"], state[None])
assert torch.equal(after(torch.ones(1, 14)), torch.ones(1, 14))
print("found, made and processed")
"""


def test_lerobot_finds_and_makes_it(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", ENDS_AT_ONCE + FOUND_BY_LEROBOT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.endswith("found, made and processed\n")


def test_an_unknown_compile_mode_lists_the_known_ones() -> None:
    with pytest.raises(ValueError, match="compile_mode is 'fast'; it must be one of auto, ") as raised:
        ACTCompiledConfig(compile_mode="fast")
    assert "\n" not in str(raised.value)


def test_lerobots_own_checks_of_the_config_hold() -> None:
    with pytest.raises(ValueError, match="chunk size is the upper bound"):
        ACTCompiledConfig(chunk_size=5, n_action_steps=6)


@pytest.fixture
def pair(tiny_policy: Make) -> tuple[Any, Any]:
    """A stock policy, and the act_compiled one with its weights that compiles."""
    stock = tiny_policy(dropout=0.0)
    config = ACTCompiledConfig.from_act(stock.config)
    config.compile_model = True
    policy = ACTCompiledPolicy(config)
    policy.load_state_dict(stock.state_dict())
    return stock, policy


@pytest.mark.usefixtures("without_inductor")
def test_it_compiles_once_and_answers_as_stock(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    stock, policy = pair
    batch = tiny_batch()
    with count_compilation() as compilation:
        for each in (policy.train(), policy):  # the second call compiles nothing
            torch.manual_seed(0)
            loss, parts = each.forward(batch)
    assert compilation.graphs == 1
    torch.manual_seed(0)
    expected, expected_parts = stock.train().forward(batch)
    assert (loss - expected).abs() < 1e-5
    assert type(parts) is dict
    assert all(type(part) is float for part in parts.values())
    assert parts == pytest.approx(expected_parts, abs=1e-5)
    loss.backward()
    assert policy.model.action_head.weight.grad is not None

    with count_compilation() as compilation:
        actions = policy.predict_action_chunk(batch)
        action = policy.select_action(batch)
        policy.reset()
        assert torch.equal(policy.select_action(batch), action)
    assert compilation.graphs == 1
    assert not policy.training
    assert not actions.requires_grad
    assert (actions - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert torch.equal(action, actions[:, 0])


@pytest.mark.usefixtures("without_inductor")
def test_it_compiles_inside_another_compile(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    # lerobot-eval and asynchronous inference may compile predict_action_chunk themselves.
    stock, policy = pair
    policy.predict_action_chunk = torch.compile(policy.predict_action_chunk, fullgraph=True)
    batch = tiny_batch()
    with count_compilation() as compilation:
        action = policy.select_action(batch)
    assert compilation.graphs == 1
    assert (action - stock.select_action(batch)).abs().max() < 1e-5


@pytest.mark.usefixtures("without_inductor")
def test_nothing_compiles_unless_asked(pair: tuple[Any, Any], tiny_batch: Make) -> None:
    stock, policy = pair
    policy.config.compile_model = False
    with count_compilation() as compilation:
        action = policy.select_action(tiny_batch())
    assert compilation.graphs == 0
    assert (action - stock.select_action(tiny_batch())).abs().max() < 1e-5

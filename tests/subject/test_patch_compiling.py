"""``patch_lerobot(compile_mode=...)``: every plain ``act`` policy compiles, and stays an ``act``."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import patch_lerobot, patch_policy, unpatch_lerobot

from .compiled_policies import as_compiled, count_made, each_mode

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("with_constants")]

Make = Callable[..., Any]
Batch = dict[str, Any]


class Shouting(ACTPolicy):
    """Somebody's own policy: its methods come first."""

    name = "shouting"

    def predict_action_chunk(self, batch: Batch, **kwargs: Any) -> Any:
        return 2 * super().predict_action_chunk(batch, **kwargs)


@pytest.fixture(autouse=True)
def _unpatched() -> Iterator[None]:
    yield
    unpatch_lerobot()


def graphs(policy: Any, batch: Batch) -> int:
    with count_made() as made:
        policy.predict_action_chunk(batch)
    return made.graphs


@each_mode
def test_policies_made_before_and_after_compile_and_stay_what_they_are(
    mode: str, without_cameras: tuple[Any, Batch]
) -> None:
    stock, batch = without_cameras
    expected, before = stock.predict_action_chunk(batch), copy.deepcopy(stock)
    patch_lerobot(mode)
    after = ACTPolicy(stock.config).eval()
    after.load_state_dict(stock.state_dict())
    for policy in (before, after):
        assert graphs(policy, batch) == 1
        assert graphs(policy, batch) == 0
        assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-5
        assert type(policy) is ACTPolicy
        assert policy.config.type == "act"
        assert list(policy.state_dict()) == list(stock.state_dict())
    unpatch_lerobot()
    with torch.no_grad():
        before.model.action_head.bias.data.add_(1.0)
    assert graphs(before, batch) == 0
    assert (before.predict_action_chunk(batch) - expected - 1.0).abs().max() < 1e-5


def test_its_loss_compiles_and_auto_takes_the_fused_optimizer(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    groups = stock.get_optim_params()
    with patch_lerobot("auto"):
        given = stock.get_optim_params()
        assert all(group["fused"] is True for group in given)
        assert [len(group["params"]) for group in given] == [len(group["params"]) for group in groups]
        with count_compilation() as compilation:
            loss, parts = stock.train().forward(batch)
        assert compilation.graphs == 1
        assert all(type(part) is float for part in parts.values())
        loss.backward()
    assert all("fused" not in group for group in stock.get_optim_params())


def test_a_checkpoint_saved_under_it_is_stocks(without_cameras: tuple[Any, Batch], tmp_path: Path) -> None:
    stock, batch = without_cameras
    stock.save_pretrained(tmp_path / "made")
    ACTPolicy.from_pretrained(tmp_path / "made").save_pretrained(tmp_path / "stock")
    with patch_lerobot("auto"):
        loaded = ACTPolicy.from_pretrained(tmp_path / "made")
        loaded.predict_action_chunk(batch)
        loaded.save_pretrained(tmp_path / "patched")
    for name in ("config.json", "model.safetensors"):
        assert (tmp_path / "patched" / name).read_bytes() == (tmp_path / "stock" / name).read_bytes()


def test_a_with_block_takes_back_what_it_asked_for(without_cameras: tuple[Any, Batch]) -> None:
    policy, batch = without_cameras
    with patch_lerobot():
        assert graphs(policy, batch) == 0
        with patch_lerobot("auto"):
            assert graphs(policy, batch) == 1
            with patch_lerobot():
                policy.model.action_head.bias.data.add_(1.0)
                assert graphs(policy, batch) == 1, "a call without a mode changes no mode"
        with torch.no_grad():
            policy.model.action_head.bias.add_(1.0)
        assert graphs(policy, batch) == 0, "eager again"


def test_each_policy_keeps_to_its_own_configuration(
    without_cameras: tuple[Any, Batch], tmp_path: Path
) -> None:
    stock, batch = without_cameras
    asks, asks_not = as_compiled(stock, "auto"), as_compiled(stock, "auto", compile_model=False)
    patched = patch_policy(copy.deepcopy(stock))
    with patch_lerobot("auto"):
        assert graphs(asks_not, batch) == 0
        assert graphs(asks, batch) == graphs(patched, batch) == 1
    asks.save_pretrained(tmp_path)
    with patch_lerobot():  # the server makes an ACTPolicy of whatever checkpoint a client names
        assert graphs(ACTPolicy.from_pretrained(tmp_path), batch) == 1


def test_somebodys_own_methods_come_first(without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    policy = Shouting(stock.config).eval()
    policy.load_state_dict(stock.state_dict())
    expected = 2 * stock.predict_action_chunk(batch)
    with patch_lerobot("auto"):
        assert graphs(policy, batch) == 1
        assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-5


@pytest.mark.parametrize("flag", [True, False], ids=["use_torch_compile", "without"])
def test_lerobots_own_wrapper_leaves_our_graph_to_us(flag: bool, without_cameras: tuple[Any, Batch]) -> None:
    """``lerobot-rollout --use_torch_compile`` wraps the method; constants of a graph would be bypassed."""
    stock, batch = without_cameras
    with patch_lerobot("auto"):
        if flag:
            stock.predict_action_chunk = torch.compile(stock.predict_action_chunk, mode="default")
        assert "predict_action_chunk" not in vars(stock)
        assert graphs(stock, batch) == 1
        assert vars(stock)["_compiled"], "ours"
    stock.predict_action_chunk = torch.compile(stock.predict_action_chunk)
    assert "predict_action_chunk" in vars(stock), "a policy that does not compile itself is anybody's"


def test_what_it_refuses() -> None:
    with pytest.raises(ValueError, match="compile_mode is 'fast'; it must be one of auto, "):
        patch_lerobot("fast")
    with pytest.raises(ValueError, match="compile_artifact and compile_fallback need a compile_mode"):
        patch_lerobot(compile_artifact="mine")
    assert not hasattr(ACTPolicy, "warm_up"), "nothing was patched"

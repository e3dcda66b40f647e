"""Weights and checkpoints are stock LeRobot's, in both directions, compiled or not."""

from __future__ import annotations

import copy
import json
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import draccus
import pytest
import torch
from lerobot.configs.parser import get_cli_overrides
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from safetensors.torch import load_file

from lerobot_policy_act_compiled import ACTCompiledConfig, ACTCompiledPolicy, patch_lerobot, patch_policy
from lerobot_policy_act_compiled.configuration_act_compiled import _on_command_line

from .compiled_policies import as_compiled, each_mode

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("fresh_dynamo")]

Make = Callable[..., Any]


def compiled_model(policy: Any) -> Any:
    policy.model = torch.compile(policy.model, backend="eager")
    return policy


def act_compiled(policy: Any) -> Any:
    return ACTCompiledPolicy(copy.deepcopy(policy.config)).eval()


VARIANTS: dict[str, Callable[[Any], Any]] = {
    "patched": patch_policy,
    "patched-compiled": lambda policy: compiled_model(patch_policy(policy)),
    "compiled-patched": lambda policy: patch_policy(compiled_model(policy)),
    "act_compiled": act_compiled,
    "act_compiled-compiled": lambda policy: compiled_model(act_compiled(policy)),
}


@each_mode
@pytest.mark.usefixtures("without_inductor")
def test_checkpoints_are_stocks_before_and_after_compiling(
    mode: str, without_cameras: tuple[Any, dict[str, Any]], tmp_path: Path
) -> None:
    stock, batch = without_cameras
    ours = as_compiled(stock, mode)
    with torch.no_grad():
        ours.model.action_head.bias.add_(1.0)
    ours.predict_action_chunk(batch)
    ours.load_state_dict(stock.state_dict(), strict=True)
    expected = stock.predict_action_chunk(batch)
    assert (ours.predict_action_chunk(batch) - expected).abs().max() < 1e-5
    assert list(layout(ours).items()) == list(layout(stock).items())
    ours.save_pretrained(tmp_path)
    back = ACTPolicy.from_pretrained(tmp_path, config=stock.config, strict=True)
    assert torch.equal(back.predict_action_chunk(batch), expected)
    loaded = ACTCompiledPolicy.from_pretrained(tmp_path, strict=True)
    assert (loaded.config.compile_model, loaded.config.compile_mode) == (True, mode)
    assert (loaded.predict_action_chunk(batch) - expected).abs().max() < 1e-5


@pytest.fixture(params=VARIANTS)
def ours(request: pytest.FixtureRequest, tiny_policy: Make) -> Any:
    """Return a policy of ours, of other weights than the stock policy that it is held against."""
    return VARIANTS[request.param](tiny_policy(seed=1))


def layout(policy: Any) -> dict[str, tuple[Any, Any]]:
    return {key: (value.shape, value.dtype) for key, value in policy.state_dict().items()}


def test_keys_shapes_and_parameter_names_are_stocks(ours: Any, tiny_policy: Make) -> None:
    stock = tiny_policy()
    assert list(layout(ours).items()) == list(layout(stock).items())
    for names in ("named_parameters", "named_buffers", "named_modules"):
        expected, actual = ([name for name, _ in getattr(policy, names)()] for policy in (stock, ours))
        assert actual == expected


def test_weights_load_strictly_both_ways(ours: Any, tiny_policy: Make, tiny_batch: Make) -> None:
    stock, batch = tiny_policy(), tiny_batch()
    expected = stock.predict_action_chunk(batch)
    assert (ours.predict_action_chunk(batch) - expected).abs().max() > 1e-3, "other weights so far"
    ours.load_state_dict(stock.state_dict(), strict=True)
    assert (ours.predict_action_chunk(batch) - expected).abs().max() < 1e-5

    back = tiny_policy(seed=2)
    back.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(back.predict_action_chunk(batch), expected)


def test_optimizer_groups_are_stocks(ours: Any, tiny_policy: Make) -> None:
    # LeRobot picks the backbone's learning rate by parameter name.
    def groups(policy: Any) -> list[tuple[list[str], Any]]:
        names = {id(parameter): name for name, parameter in policy.named_parameters()}
        return [
            ([names[id(p)] for p in group["params"]], group.get("lr")) for group in policy.get_optim_params()
        ]

    expected = groups(tiny_policy())
    assert groups(ours) == expected
    assert all(name.startswith("model.backbone") for name in expected[1][0])
    assert expected[1][0]


def test_a_saved_checkpoint_loads_in_stock(
    ours: Any, tiny_policy: Make, tiny_batch: Make, tmp_path: Path
) -> None:
    ours.save_pretrained(tmp_path)
    assert set(load_file(tmp_path / "model.safetensors")) == set(tiny_policy().state_dict())
    stock = ACTPolicy.from_pretrained(tmp_path, config=tiny_policy().config, strict=True)
    batch = tiny_batch()
    difference = stock.predict_action_chunk(batch) - ours.predict_action_chunk(batch)
    assert difference.abs().max() < 1e-5


def test_a_stock_checkpoint_loads_in_ours(tiny_policy: Make, tiny_batch: Make, tmp_path: Path) -> None:
    stock, batch = tiny_policy(n_action_steps=5), tiny_batch()
    stock.save_pretrained(tmp_path)
    expected = stock.predict_action_chunk(batch)
    ours = ACTCompiledPolicy.from_pretrained(tmp_path, strict=True)
    assert isinstance(ours.config, ACTCompiledConfig)
    assert ours.config.n_action_steps == 5
    assert not ours.config.compile_model
    assert (ours.predict_action_chunk(batch) - expected).abs().max() < 1e-5
    with patch_lerobot():
        patched = ACTPolicy.from_pretrained(tmp_path, strict=True)
        assert (patched.predict_action_chunk(batch) - expected).abs().max() < 1e-5


def test_our_own_checkpoint_keeps_our_fields(tiny_policy: Make, tmp_path: Path) -> None:
    config = ACTCompiledConfig.from_act(tiny_policy().config)
    config.compile_model, config.compile_mode = True, "max-autotune"
    ACTCompiledPolicy(config).save_pretrained(tmp_path)
    loaded = PreTrainedConfig.from_pretrained(tmp_path)
    assert isinstance(loaded, ACTCompiledConfig)
    assert loaded.type == "act_compiled"
    assert (loaded.compile_model, loaded.compile_mode) == (True, "max-autotune")
    assert ACTCompiledPolicy.from_pretrained(tmp_path, strict=True).config.compile_mode == "max-autotune"


@pytest.fixture
def naming_an_artifact(tiny_policy: Make, tmp_path: Path) -> Path:
    """A checkpoint that somebody else has made: its config.json names a folder of theirs."""
    as_compiled(tiny_policy(), "auto").save_pretrained(tmp_path)
    file = tmp_path / "config.json"
    stored = json.loads(file.read_text())
    assert stored["compile_artifact"] is None
    file.write_text(json.dumps({**stored, "compile_artifact": "/tmp/theirs"}))  # noqa: S108 - never opened
    return tmp_path


def test_no_artifact_comes_from_a_checkpoint(
    naming_an_artifact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """An artifact is native code: who downloads a checkpoint has not asked for it."""
    config = PreTrainedConfig.from_pretrained(naming_an_artifact)
    assert (config.compile_model, config.compile_mode, config.compile_artifact) == (True, "auto", None)
    # Once for each time that LeRobot reads the file: 0.4.4 does so twice.
    (said,) = {r.getMessage() for r in caplog.records if "compile_artifact" in r.getMessage()}
    assert "compile_artifact=/tmp/theirs of a configuration file is ignored" in said
    assert "\n" not in said
    assert ACTCompiledPolicy.from_pretrained(naming_an_artifact).config.compile_artifact is None


@dataclass
class Training:
    """As LeRobot's TrainPipelineConfig, which not every installation can import."""

    policy: PreTrainedConfig


def test_no_artifact_comes_from_a_trainings_configuration(naming_an_artifact: Path) -> None:
    """``lerobot-train --config_path=theirs/train_config.json``: the policy is a part of that file."""
    policy = json.loads((naming_an_artifact / "config.json").read_text())
    file = naming_an_artifact / "train_config.json"
    file.write_text(json.dumps({"policy": policy}))
    config = draccus.parse(Training, config_path=file, args=[]).policy
    assert (config.compile_model, config.compile_artifact) == (True, None)


def test_the_command_line_names_an_artifact(
    naming_an_artifact: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As LeRobot's commands read it: the checkpoint's configuration, then what the command line says."""
    monkeypatch.setattr(sys, "argv", ["lerobot-eval", "--policy.compile_artifact=mine"])
    config = PreTrainedConfig.from_pretrained(
        naming_an_artifact, cli_overrides=get_cli_overrides("policy") or []
    )
    assert config.compile_artifact == "mine"
    monkeypatch.setattr(sys, "argv", ["lerobot-eval", "--policy.compile_artifact", "mine"])
    assert _on_command_line("mine"), "LeRobot 0.6 reads it in two words, too"
    monkeypatch.setattr(sys, "argv", ["lerobot-eval", "--policy.device=cpu"])
    assert PreTrainedConfig.from_pretrained(naming_an_artifact).compile_artifact is None


def test_what_an_argument_names_is_used_and_not_stored(tiny_policy: Make, tmp_path: Path) -> None:
    policy = as_compiled(tiny_policy(), "auto", compile_artifact="mine")
    policy.save_pretrained(tmp_path)
    assert policy.config.compile_artifact == "mine"
    assert json.loads((tmp_path / "config.json").read_text())["compile_artifact"] is None
    assert ACTCompiledConfig(compile_model=True, compile_artifact="mine").compile_artifact == "mine"


def test_a_training_does_not_store_it_either(tiny_policy: Make) -> None:
    """``lerobot-train --policy.compile_artifact=mine``: train_config.json stands beside the weights."""
    config = as_compiled(tiny_policy(), "auto", compile_artifact="mine").config
    stored = draccus.encode(_as_lerobot_trains(config))["policy"]
    assert (stored["type"], stored["compile_mode"], stored["compile_artifact"]) == (
        "act_compiled",
        "auto",
        None,
    )
    assert config.compile_artifact == "mine"


def _as_lerobot_trains(config: ACTCompiledConfig) -> Any:
    """LeRobot's own configuration of a training, where what it imports is installed."""
    try:
        from lerobot.configs.default import DatasetConfig
        from lerobot.configs.train import TrainPipelineConfig
    except ImportError:
        return Training(config)
    return TrainPipelineConfig(dataset=DatasetConfig(repo_id="nobody/nothing"), policy=config)


def test_lerobots_rollout_does_not_switch_compiling_off(
    tiny_policy: Make, caplog: pytest.LogCaptureFixture
) -> None:
    """``build_rollout_context`` sets ``compile_model`` to its ``--use_torch_compile``, false by default."""
    caplog.set_level(logging.INFO, "lerobot_policy_act_compiled")
    assign = compile("config.compile_model = value", "context.py", "exec")

    def assigned(config: ACTCompiledConfig, value: bool, module: str) -> bool:
        exec(assign, {"__name__": module, "config": config, "value": value})  # noqa: S102
        return config.compile_model

    config = as_compiled(tiny_policy(), "auto").config
    assert assigned(config, False, "lerobot.rollout.context") is True
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("compile_model=true stays: lerobot-rollout would set it to its")
    assert assigned(config, False, "somebody.else") is False
    assert assigned(config, False, "lerobot.rollout.context") is False, "it asks for nothing"
    assert assigned(config, True, "lerobot.rollout.context") is True, "the command line asks for it"


def test_setting_the_model_again_leaves_no_trace_of_the_compiled_one(
    tiny_policy: Make, tiny_batch: Make
) -> None:
    policy = patch_policy(tiny_policy())
    original = policy.model
    keys = list(policy.state_dict())
    policy.model = torch.compile(original, backend="eager")
    assert policy.model is not original
    policy.model = original
    assert policy.model is original
    assert list(policy.state_dict()) == keys
    policy.model = torch.compile(policy.model, backend="eager")
    policy.double()
    assert policy.predict_action_chunk(tiny_batch(dtype=torch.float64)).dtype == torch.float64

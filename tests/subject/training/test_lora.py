"""LoRA by peft as LeRobot applies it (``wrap_with_peft``): stock's results in every compile mode.

peft merges an adapter into the weights by writing through ``.data``, which torch does not count: a graph that
has weights as constants must not go stale by it.
"""

from __future__ import annotations

import copy
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy

from lerobot_policy_act_compiled import load_artifact, patch_policy, save_artifact

from ..compiled_policies import MODES as ALL_MODES
from ..compiled_policies import as_compiled
from .conftest import (
    Batch,
    Make,
    assert_same_weights,
    both,
    make_batches,
    optimizer_of,
    step,
    with_latent_in,
)

pytest.importorskip("peft", reason="LoRA needs peft, and it is not installed")

pytestmark = [
    pytest.mark.consistency,
    pytest.mark.usefixtures("with_constants"),
    pytest.mark.skipif(not hasattr(ACTPolicy, "wrap_with_peft"), reason="this LeRobot knows no peft"),
]

LINEAR = r".*\.linear[12]|.*action_head"
MODES = ("patched", *ALL_MODES)


def wrapped(policy: Any, targets: str, adapter_seed: int = 0) -> Any:
    """By the options of LeRobot's command line; its adapter is not zero, as a trained one."""
    policy.config.pretrained_path = "somewhere"  # LeRobot adapts no new policy
    options = {"method_type": "LORA", "target_modules": targets, "r": 4, "init_type": None}
    torch.manual_seed(0)
    policy = policy.wrap_with_peft(peft_cli_overrides={**options, "full_training_modules": None})
    fill_adapter(policy, "default", adapter_seed)
    return policy


def fill_adapter(policy: Any, adapter: str, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in policy.named_parameters():
            if "lora_" in name and f".{adapter}." in name:
                value.copy_(0.1 * torch.randn(value.shape, generator=generator, dtype=value.dtype))


def pair(stock: Any, mode: str, targets: str) -> tuple[Any, Any]:
    """Stock and ours, each wrapped by peft."""
    if mode == "patched":
        policies = with_latent_in(copy.deepcopy(stock)), patch_policy(with_latent_in(copy.deepcopy(stock)))
    else:
        policies = both(stock, mode)
    theirs, ours = (wrapped(policy, targets) for policy in policies)
    return theirs, ours


def assert_same_actions(policies: Any, batch: Batch, unlike: Any = None, *, within: float = 1e-9) -> Any:
    """Stock's actions, which are ours; they differ from ``unlike``."""
    expected, actions = (policy.predict_action_chunk(batch) for policy in policies)
    assert (actions - expected).abs().max() < within
    assert unlike is None or (expected - unlike).abs().max() > 10 * max(within, 1e-7)
    return expected


def train(policies: Any, batches: list[Batch]) -> None:
    optimizers = [optimizer_of(policy) for policy in policies]
    for seed, batch in enumerate(batches):
        losses = [step(*each, batch, seed=seed)[0].item() for each in zip(policies, optimizers, strict=True)]
        assert losses[1] == pytest.approx(losses[0], rel=1e-9)
    assert_same_weights(policies[1], policies[0])


@pytest.mark.parametrize("mode", MODES)
def test_adapters_train_as_stocks(mode: str, quiet_policy: Any, tiny_batch: Make) -> None:
    policies = pair(quiet_policy, mode, LINEAR)
    (watched,) = make_batches(tiny_batch, 1)
    before = assert_same_actions(policies, watched)
    train(policies, make_batches(tiny_batch, 4, 4))
    assert_same_actions(policies, watched, unlike=before)


@pytest.mark.parametrize("mode", MODES)
def test_actions_follow_merging(mode: str, quiet_policy: Any, tiny_batch: Make) -> None:
    policies = pair(quiet_policy, mode, LINEAR)
    (watched,) = make_batches(tiny_batch, 1)
    adapted = assert_same_actions(policies, watched)
    with policies[0].disable_adapter(), policies[1].disable_adapter():
        assert_same_actions(policies, watched, unlike=adapted)
    for change in ("merge_adapter", "unmerge_adapter"):
        for policy in policies:
            getattr(policy, change)()
        assert_same_actions(policies, watched)
    assert_same_actions([policy.merge_and_unload() for policy in policies], watched)


@pytest.mark.parametrize("mode", MODES)
def test_actions_follow_another_adapter_merged(mode: str, quiet_policy: Any, tiny_batch: Make) -> None:
    """Merged is merged: nothing but the values of the weights tells one adapter from the other."""
    policies = pair(quiet_policy, mode, LINEAR)
    (watched,) = make_batches(tiny_batch, 1)
    for policy in policies:
        policy.merge_adapter()
    first = assert_same_actions(policies, watched)
    for policy in policies:
        policy.unmerge_adapter()
        fill_adapter(policy, "default", 1)
        policy.merge_adapter()
    second = assert_same_actions(policies, watched, unlike=first)
    for policy in policies:
        policy.unmerge_adapter()
        for module in policy.modules():
            if hasattr(module, "set_scale"):
                module.set_scale("default", 3.0)
        policy.merge_adapter()
    assert_same_actions(policies, watched, unlike=second)


@pytest.mark.parametrize("mode", [*ALL_MODES, "artifact"])
def test_actions_follow_the_adapter_in_force(
    mode: str, without_cameras: tuple[Any, Batch], artifact_of_four: Path, tmp_path: Path
) -> None:
    """In fp32 and without hooks, as a robot has it. peft switches adapters and writes to no weight."""
    stock, batch = without_cameras
    options: dict[str, Any] = {}
    if mode == "artifact":  # made of the weights that peft wraps
        mode, options = "frozen", {"compile_artifact": str(shutil.copytree(artifact_of_four, tmp_path / "a"))}
    policies = [wrapped(policy, LINEAR) for policy in (stock, as_compiled(stock, mode, **options))]
    for policy in policies:
        policy.add_adapter("other", policy.peft_config["default"])
        fill_adapter(policy, "other", 1)
    assert_same_actions(policies, batch, within=1e-5)
    seen = assert_same_actions(policies, batch, within=1e-5)  # the first call of an engine is eager mode's
    for name in ("other", "default"):
        for policy in policies:
            policy.set_adapter(name)
        seen = assert_same_actions(policies, batch, unlike=seen, within=1e-5)
    with policies[0].disable_adapter(), policies[1].disable_adapter():
        assert_same_actions(policies, batch, unlike=seen, within=1e-5)
    for policy in policies:
        for module in policy.modules():
            if hasattr(module, "set_scale"):
                module.set_scale("default", 3.0)
    assert_same_actions(policies, batch, unlike=seen, within=1e-5)


def test_no_artifact_is_made_of_what_can_be_switched(
    camera_free_policy: Any, artifact_of_four: Path, tmp_path: Path
) -> None:
    policy = wrapped(patch_policy(copy.deepcopy(camera_free_policy)), LINEAR).base_model.model
    for call in (save_artifact, load_artifact):
        with pytest.raises(ValueError, match="peft can switch its adapters at any time; merge_and_unload"):
            call(policy, tmp_path if call is save_artifact else artifact_of_four)
    assert not list(tmp_path.iterdir())


def test_an_adapter_of_out_proj_is_not_called(tiny_policy: Make, quiet_policy: Any, tiny_batch: Make) -> None:
    """torch's attention reads ``out_proj``'s weights and calls no module, so in stock it has no effect.

    Under dropout, where a graph of a training step on a CPU has its own attention, and without the VAE, of
    whose encoder it computes one row and draws as many numbers.
    """
    features = quiet_policy.config.input_features
    stock = tiny_policy(input_features=features, use_vae=False, dropout=0.1).double()
    policies = pair(stock, "default", rf"{LINEAR}|.*out_proj")
    train(policies, make_batches(tiny_batch, 4, 4))


def test_an_adapter_of_attention_is_stocks_where_patched(quiet_policy: Any, tiny_batch: Make) -> None:
    policies = pair(quiet_policy, "patched", r".*self_attn")
    train(policies, make_batches(tiny_batch, 4))
    assert_same_actions(policies, *make_batches(tiny_batch, 1))


@pytest.mark.parametrize("compiled_before", [False, True])
def test_an_adapter_of_attention_is_refused_in_one_line(
    compiled_before: bool, quiet_policy: Any, tiny_batch: Make
) -> None:
    _, ours = both(quiet_policy, "auto")
    (batch,) = make_batches(tiny_batch, 1)
    if compiled_before:
        ours.predict_action_chunk(batch)
    ours = wrapped(ours, r".*self_attn")
    line = (
        r"^compile_model=True cannot compile peft's LoRA of model\.\S+self_attn, .*: set compile_model=False"
    )
    with pytest.raises(ValueError, match=line) as refusal:
        ours.predict_action_chunk(batch)
    assert "\n" not in str(refusal.value)
    ours.config.compile_model = False
    assert ours.predict_action_chunk(batch).isfinite().all()

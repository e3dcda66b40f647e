"""LeRobot's ACT under torch.compile, as a reader of the migration guide writes it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy

from benchmarks.suite.compile_counters import count_compilation
from benchmarks.suite.precision import strict_fp32
from lerobot_policy_act_compiled import patch_lerobot

CAMERA = "observation.images.top"
STATE_SIZE, ACTION_SIZE, CHUNK, BATCH = (
    4,
    3,
    8,
    4,
)  # the tiny workload's sizes, so its compiled kernels are reused

pytestmark = pytest.mark.parametrize("use_vae", [True, False], ids=["vae", "no_vae"], scope="module")


@pytest.fixture(scope="module", autouse=True)
def _patched() -> Iterator[None]:
    with patch_lerobot():
        yield


def make_policy(use_vae: bool, device: str = "cpu") -> ACTPolicy:
    config = ACTConfig(
        input_features={
            CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 64, 64)),
            "observation.state": PolicyFeature(FeatureType.STATE, (STATE_SIZE,)),
        },
        output_features={"action": PolicyFeature(FeatureType.ACTION, (ACTION_SIZE,))},
        chunk_size=CHUNK,
        n_action_steps=CHUNK,
        dim_model=32,
        n_heads=2,
        dim_feedforward=64,
        n_encoder_layers=1,
        n_vae_encoder_layers=1,
        latent_dim=4,
        dropout=0.0,  # so that a loss can be compared; dropout has its own tests
        use_vae=use_vae,
        pretrained_backbone_weights=None,
        device=device,
    )
    torch.manual_seed(0)
    return ACTPolicy(config).to(device)


def make_batch(device: str = "cpu") -> dict[str, Any]:
    torch.manual_seed(1)
    batch = {
        CAMERA: torch.rand(BATCH, 3, 64, 64),
        "observation.state": torch.randn(BATCH, STATE_SIZE),
        "action": torch.randn(BATCH, CHUNK, ACTION_SIZE),
        "action_is_pad": torch.zeros(BATCH, CHUNK, dtype=torch.bool),
    }
    return {key: value.to(device) for key, value in batch.items()}


class Run(NamedTuple):
    """What a user gets from a policy: actions, and a training step's loss, its parts and gradients."""

    actions: torch.Tensor
    loss: torch.Tensor
    parts: dict[str, float]
    gradients: dict[str, torch.Tensor]


def run(policy: ACTPolicy, batch: dict[str, Any]) -> Run:
    policy.reset()
    actions = policy.predict_action_chunk(batch)
    policy.train()
    torch.manual_seed(2)  # of the latent
    loss, parts = policy.forward(batch)
    loss.backward()
    gradients = {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}
    return Run(actions, loss.detach(), parts, gradients)


class Runs(NamedTuple):
    eager: Run
    compiled: Run
    graphs: int
    policy: ACTPolicy  # the compiled one


@pytest.fixture(scope="module")
def runs(use_vae: bool) -> Runs:
    """One policy eager and compiled; the compile takes most of this file's time, so it is shared."""
    batch = make_batch()
    policy = make_policy(use_vae)
    compiled = copy.deepcopy(policy)
    compiled.model = torch.compile(compiled.model)
    # Inductor draws other random numbers than eager does unless told to fall back to eager's.
    with count_compilation() as compilation, torch._inductor.config.patch(fallback_random=True):
        compiled_run = run(compiled, batch)
    return Runs(run(policy, batch), compiled_run, compilation.graphs, compiled)


def test_act_forward_basic(use_vae: bool) -> None:
    policy, batch = make_policy(use_vae), make_batch()

    policy.train()
    loss, parts = policy.forward(batch)
    assert loss.shape == ()
    assert torch.isfinite(loss)
    assert set(parts) == ({"l1_loss", "kld_loss"} if use_vae else {"l1_loss"})
    assert all(isinstance(part, float) for part in parts.values())
    expected = parts["l1_loss"] + policy.config.kl_weight * parts.get("kld_loss", 0.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)

    policy.eval()
    actions, (mean, log_sigma_x2) = policy.model({**batch, "observation.images": [batch[CAMERA]]})
    assert actions.shape == (BATCH, CHUNK, ACTION_SIZE)
    assert mean is None
    assert log_sigma_x2 is None
    assert policy.select_action(batch).shape == (BATCH, ACTION_SIZE)


def test_act_torch_compile(use_vae: bool, runs: Runs) -> None:
    assert runs.graphs == 2, "one graph of the model in eval mode, one in train mode"
    assert runs.compiled.actions.shape == (BATCH, CHUNK, ACTION_SIZE)
    assert torch.isfinite(runs.compiled.loss)
    assert ("kld_loss" in runs.compiled.parts) == use_vae
    assert runs.compiled.gradients
    assert all(torch.isfinite(gradient).all() for gradient in runs.compiled.gradients.values())
    assert not any("_orig_mod" in key for key in runs.policy.state_dict())


def test_act_compile_consistency(use_vae: bool, runs: Runs) -> None:
    eager, compiled = runs.eager, runs.compiled
    assert (eager.actions - compiled.actions).abs().max() < 1e-5
    assert (eager.loss - compiled.loss).abs() < 1e-5
    assert compiled.parts == pytest.approx(eager.parts, abs=1e-5)
    assert set(eager.gradients) == set(compiled.gradients)
    assert any(name.startswith("model.vae_encoder") for name in eager.gradients) == use_vae
    for name, gradient in eager.gradients.items():
        if "backbone" in name:
            continue  # rounding of fp32 convolutions alone; test_consistency.py compares them in float64
        difference = (gradient - compiled.gradients[name]).norm()
        assert difference <= 1e-3 * gradient.norm() + 1e-6, name


@pytest.mark.gpu
def test_act_torch_compile_cuda(use_vae: bool) -> None:
    batch = make_batch("cuda")
    policy = make_policy(use_vae, "cuda")
    compiled = copy.deepcopy(policy)
    compiled.model = torch.compile(compiled.model)
    with strict_fp32("cuda"):
        expected = run(policy, batch)
        with torch._inductor.config.patch(fallback_random=True):
            actual = run(compiled, batch)
        assert compiled.select_action(batch).device.type == "cuda"
    assert (expected.actions - actual.actions).abs().max() < 1e-5
    assert (expected.loss - actual.loss).abs() < 1e-5

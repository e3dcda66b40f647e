"""Every configuration of ACT acts and trains as in stock LeRobot."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lerobot.configs.types import FeatureType, PolicyFeature
from packaging.version import Version

from lerobot_policy_act_compiled import patch_policy

pytestmark = pytest.mark.compat

Make = Callable[..., Any]
Size = tuple[int, int]
LEROBOT = Version(version("lerobot"))
STATE, ENVIRONMENT = "observation.state", "observation.environment_state"


# Feature maps of 2 x 3 and 3 x 2 tokens: positions that are mixed up would not show in a square one.
WIDE, HIGH = (64, 96), (96, 64)


def features(cameras: tuple[Size, ...] = (WIDE,), *, state: bool = True, env: bool = False) -> Any:
    found = {
        f"observation.images.camera{i}": PolicyFeature(FeatureType.VISUAL, (3, *size))
        for i, size in enumerate(cameras)
    }
    if state:
        found[STATE] = PolicyFeature(FeatureType.STATE, (4,))
    if env:
        found[ENVIRONMENT] = PolicyFeature(FeatureType.ENV, (5,))
    return found


def batch_for(config: Any, batch_size: int, n_padded: int, seed: int = 0) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(seed)
    batch = {
        name: torch.randn((batch_size, *feature.shape), generator=generator)
        for name, feature in config.input_features.items()
    }
    batch["action"] = torch.randn((batch_size, config.chunk_size, 3), generator=generator)
    batch["action_is_pad"] = torch.arange(config.chunk_size).expand(batch_size, -1) >= (
        config.chunk_size - n_padded
    )
    return batch


def outcome(policy: Any, batch: dict[str, Any]) -> Any:
    policy.train()
    torch.manual_seed(0)
    loss, parts = policy.forward(batch)
    return policy.predict_action_chunk(batch), loss, parts


def assert_same(stock: Any, batch: dict[str, Any]) -> None:
    patched = patch_policy(copy.deepcopy(stock))
    # Stock reads the device off the state, which must be in the batch even where it is no input.
    for_stock = {STATE: torch.zeros(len(batch["action"]), 4), **batch}
    expected, loss, parts = outcome(stock, for_stock)
    actions, our_loss, our_parts = outcome(patched, batch)
    assert (actions - expected).abs().max() < 1e-5
    assert (our_loss - loss).abs() < 1e-5 * max(1.0, loss.abs().item())
    assert our_parts == pytest.approx(parts, abs=1e-5, rel=1e-5)


@pytest.mark.parametrize("use_vae", [True, False], ids=["vae", "no_vae"])
@pytest.mark.parametrize(
    "inputs",
    [
        pytest.param(features(), id="camera-state"),
        pytest.param(features(state=False), id="camera"),
        pytest.param(features(env=True), id="camera-state-env"),
        pytest.param(features((), env=True), id="state-env"),
        pytest.param(features((), env=True, state=False), id="env"),
        pytest.param(features((WIDE,) * 4), id="4_cameras"),
        pytest.param(features((WIDE, (32, 64), WIDE)), id="cameras_of_two_sizes"),
    ],
)
def test_inputs(inputs: Any, use_vae: bool, tiny_policy: Make) -> None:
    stock = tiny_policy(input_features=inputs, use_vae=use_vae)
    assert_same(stock, batch_for(stock.config, batch_size=2, n_padded=1))


@pytest.mark.parametrize(
    "fields",
    [
        {"pre_norm": True},
        {"pre_norm": True, "n_encoder_layers": 2, "n_vae_encoder_layers": 2, "n_decoder_layers": 2},
        {"feedforward_activation": "gelu"},
        {"n_decoder_layers": 2},
        {"vision_backbone": "resnet50", "replace_final_stride_with_dilation": True},
        {"chunk_size": 1, "n_action_steps": 1},
        {"chunk_size": 33, "n_action_steps": 5},
        {"kl_weight": 0.0},
        {"dropout": 0.0},
    ],
    ids=lambda fields: "-".join(f"{name}={value}" for name, value in fields.items()),
)
def test_fields(fields: dict[str, Any], tiny_policy: Make) -> None:
    stock = tiny_policy(input_features=features(), **fields)
    assert_same(
        stock, batch_for(stock.config, batch_size=2, n_padded=1 if stock.config.chunk_size > 1 else 0)
    )


@pytest.mark.parametrize("n_padded", [0, 3, 8], ids=["none", "some", "all"])
@pytest.mark.parametrize("use_vae", [True, False], ids=["vae", "no_vae"])
def test_padding(n_padded: int, use_vae: bool, tiny_policy: Make) -> None:
    stock = tiny_policy(input_features=features(), use_vae=use_vae)
    assert_same(stock, batch_for(stock.config, batch_size=2, n_padded=n_padded))


@pytest.mark.parametrize("use_vae", [True, False], ids=["vae", "no_vae"])
def test_loss_in_eval_mode_is_what_the_release_makes_of_it(use_vae: bool, tiny_policy: Make) -> None:
    # A TypeError before 0.6 with a VAE, whose posterior exists in training only; a loss since.
    stock = tiny_policy(input_features=features(), use_vae=use_vae)
    patched = patch_policy(copy.deepcopy(stock))
    batch = batch_for(stock.config, batch_size=2, n_padded=1)
    if Version("0.6") > LEROBOT and use_vae:
        expected = raised_by(stock, batch)
        assert raised_by(patched, batch) == expected
    else:
        assert (patched.forward(batch)[0] - stock.forward(batch)[0]).abs() < 1e-5


def raised_by(policy: Any, batch: dict[str, Any]) -> str:
    with pytest.raises(TypeError) as raised:
        policy.forward(batch)
    return str(raised.value)


cameras = st.lists(st.sampled_from([WIDE, HIGH]), max_size=4).map(tuple)


@settings(
    max_examples=25,
    deadline=None,
    derandomize=True,  # the same configurations for everybody
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_any_configuration(data: Any, tiny_policy: Make) -> None:
    shown = data.draw(cameras, label="cameras")
    env = data.draw(st.booleans(), label="env") or not shown
    chunk = data.draw(st.integers(1, 12), label="chunk_size")
    heads = data.draw(st.sampled_from([1, 2, 4]), label="n_heads")
    stock = tiny_policy(
        input_features=features(shown, state=data.draw(st.booleans(), label="state"), env=env),
        chunk_size=chunk,
        n_action_steps=data.draw(st.integers(1, chunk), label="n_action_steps"),
        n_heads=heads,
        dim_model=4 * heads * data.draw(st.integers(1, 3), label="dim_model / 4 heads"),
        latent_dim=data.draw(st.integers(1, 6), label="latent_dim"),
        use_vae=data.draw(st.booleans(), label="use_vae"),
        pre_norm=data.draw(st.booleans(), label="pre_norm"),
        feedforward_activation=data.draw(st.sampled_from(["relu", "gelu"]), label="activation"),
        n_encoder_layers=data.draw(st.integers(1, 2), label="n_encoder_layers"),
        n_decoder_layers=data.draw(st.integers(1, 2), label="n_decoder_layers"),
        dropout=data.draw(st.sampled_from([0.0, 0.1]), label="dropout"),
        seed=data.draw(st.integers(0, 3), label="seed"),
    )
    batch = batch_for(
        stock.config,
        batch_size=data.draw(st.integers(1, 3), label="batch_size"),
        n_padded=data.draw(st.integers(0, chunk), label="n_padded"),
    )
    assert_same(stock, batch)

"""The engine acts as stock in every kind of configuration, at other resolutions, too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import onnx_graph

from .compiled_policies import ENGINE, as_compiled
from .test_compat_configs import STATE, WIDE, batch_for, features

pytestmark = [
    pytest.mark.compat,
    pytest.mark.skipif(onnx_graph.missing() is not None, reason="needs the extra cpu: onnxruntime and onnx"),
]

Make = Callable[..., Any]
TWO_SIZES = (WIDE, (32, 64), WIDE)


def observed(config: Any, seed: int, height: int | None = None) -> dict[str, Any]:
    """One observation of every feature; ``height``: of all cameras' images."""
    batch = batch_for(config, 1, 0, seed)
    found = {name: value for name, value in batch.items() if name in config.input_features}
    if height is not None:
        for name in config.image_features:
            found[name] = torch.nn.functional.interpolate(found[name], (height, height + 32))
    return found


def assert_engine_acts_as(stock: Any, policy: Any, batches: list[dict[str, Any]]) -> None:
    for batch in batches:
        # Stock reads the device off the state, which must be there even where it is no input.
        expected = stock.predict_action_chunk({STATE: torch.zeros(1, 4), **batch})
        assert (policy.predict_action_chunk(batch) - expected).abs().max() < 1e-5
    assert policy.compiled_by() == {"predict_action_chunk": ENGINE}


@pytest.mark.parametrize(
    ("inputs", "fields"),
    [
        pytest.param(features(state=False), {"use_vae": False}, id="camera-no_vae"),
        pytest.param(features((), env=True, state=False), {}, id="env"),
        pytest.param(features(TWO_SIZES, env=True), {}, id="cameras_of_two_sizes-state-env"),
        pytest.param(
            features(),
            {
                "pre_norm": True,
                "n_encoder_layers": 2,
                "n_decoder_layers": 2,
                "feedforward_activation": "gelu",
            },
            id="pre_norm-layers-gelu",
        ),
        pytest.param(
            features(),
            {"vision_backbone": "resnet50", "replace_final_stride_with_dilation": True},
            id="resnet50-dilation",
        ),
        pytest.param(features(), {"chunk_size": 1, "n_action_steps": 1}, id="chunk_size=1"),
    ],
)
def test_it_acts_as_stock(inputs: Any, fields: dict[str, Any], tiny_policy: Make) -> None:
    stock = tiny_policy(input_features=inputs, **fields)
    policy = as_compiled(stock, "auto")
    assert_engine_acts_as(stock, policy, [observed(stock.config, seed) for seed in range(3)])


def test_another_resolution_is_another_graph(tiny_policy: Make) -> None:
    stock = tiny_policy(input_features=features())
    policy = as_compiled(stock, "auto")
    for height in (64, 128, 64):
        assert_engine_acts_as(stock, policy, [observed(stock.config, seed, height) for seed in range(2)])

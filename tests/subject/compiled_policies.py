"""Stock policies as the policy type ``act_compiled``."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import ACTCompiledConfig, ACTCompiledPolicy
from lerobot_policy_act_compiled.configuration_act_compiled import COMPILE_MODES
from lerobot_policy_act_compiled.onnx_graph import missing


def as_compiled(stock: Any, mode: str = "default", **fields: Any) -> Any:
    """``stock``'s weights in a policy that compiles in this mode; ``fields``: more of its configuration."""
    config = ACTCompiledConfig.from_act(copy.deepcopy(stock.config))
    config.compile_model, config.compile_mode = True, mode
    for name, value in fields.items():
        setattr(config, name, value)
    weight = next(stock.parameters())
    policy = ACTCompiledPolicy(config).to(weight.device, weight.dtype).eval()
    policy.load_state_dict(stock.state_dict())
    return policy


# These differ from ``default`` by what they ask of Inductor for CUDA; their graphs are the same.
OF_CUDA = ("reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
NOT_HERE = (() if torch.cuda.is_available() else OF_CUDA) + (("onnxruntime",) if missing() else ())
# Whoever adds a mode to the configuration gets its tests, on every machine that has it.
MODES = tuple(mode for mode in COMPILE_MODES if mode not in NOT_HERE)
each_mode = pytest.mark.parametrize("mode", MODES)

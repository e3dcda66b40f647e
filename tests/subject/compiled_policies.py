"""Stock policies as the policy type ``act_compiled``."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import pytest
import torch

from benchmarks.suite.compile_counters import Compilation, count_compilation
from lerobot_policy_act_compiled import ACTCompiledConfig, ACTCompiledPolicy, patch_lerobot, patch_policy
from lerobot_policy_act_compiled.compiling import CAPTURED, mode_for
from lerobot_policy_act_compiled.configuration_act_compiled import COMPILE_MODES
from lerobot_policy_act_compiled.onnx_graph import ENGINES, missing
from lerobot_policy_act_compiled.session import Session

each_way_to_our_policies = pytest.mark.parametrize(
    "make",
    [
        patch_policy,
        lambda policy: ACTCompiledPolicy(policy.config),
        lambda _: patch_lerobot().__exit__(None, None, None),
    ],
    ids=["patch_policy", "ACTCompiledPolicy", "patch_lerobot"],
)


def as_compiled(stock: Any, mode: str = "default", **fields: Any) -> Any:
    """``stock``'s weights in a policy that compiles in this mode; ``fields``: more of its configuration."""
    config = ACTCompiledConfig.from_act(copy.deepcopy(stock.config))
    config.compile_model, config.compile_mode = True, mode
    for name, value in fields.items():
        setattr(config, name, value)
    weight = next(stock.parameters())
    with nothing_drawn():
        policy = ACTCompiledPolicy(config)
    policy.to(weight.device, weight.dtype).eval().load_state_dict(stock.state_dict())
    return policy


@contextmanager
def nothing_drawn() -> Iterator[None]:
    """Modules are made without first values, which take four fifths of the time and are replaced."""
    draws = [name for name in vars(torch.nn.init) if name.endswith(("uniform_", "normal_"))]
    with mock.patch.multiple(torch.nn.init, **dict.fromkeys(draws, mock.DEFAULT)):
        yield


@contextmanager
def count_made() -> Iterator[Compilation]:
    """Count what a policy makes to act or to learn, in any mode: graphs of torch, sessions of the engine."""
    opens = Session.__init__
    counted = mock.patch.object(Session, "__init__", autospec=True, side_effect=opens)
    with counted as opened, count_compilation() as made:
        yield made
    made.graphs += opened.call_count


def acts_by_engine(mode: str, device: str = "cpu") -> bool:
    return mode_for(mode, device) in ENGINES


def runs_by(mode: str, device: str = "cpu") -> str:
    """What ``compiled_by`` says of the action chunk."""
    here = mode_for(mode, device)
    return here if here in (*ENGINES, CAPTURED) else "torch"


def has_a_graph_of_each_size(mode: str, device: str = "cpu") -> bool:
    """Whether another batch size is always another graph; torch's second one takes any."""
    return mode_for(mode, device) in (*ENGINES, CAPTURED)


# These differ from ``default`` by what they ask of Inductor for CUDA; their graphs are the same.
OF_CUDA = ("reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
NOT_INSTALLED = tuple(name for name in ENGINES if missing(name))
NOT_HERE = (() if torch.cuda.is_available() else OF_CUDA) + NOT_INSTALLED
ENGINE = mode_for("auto", "cpu")  # where one is installed
# Whoever adds a mode to the configuration gets its tests, on every machine that has it.
MODES = tuple(mode for mode in COMPILE_MODES if mode not in NOT_HERE)
each_mode = pytest.mark.parametrize("mode", MODES)

"""Camera frames in LeRobot's robot commands: prepared where a policy reads them.

At every control tick LeRobot makes floats of each frame and normalises them, before ``select_action``. A
policy that takes its actions from a queue reads one frame in ``n_action_steps``; at all other ticks that work
is for nothing. ``act-compiled`` leaves it out there, and what the robot gets stays the same.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from typing import Any

import numpy as np
import torch
from lerobot.policies import utils as lerobots
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor

PREPARE = "prepare_observation_for_inference"
STOCK_PREPARE: Callable[..., dict[str, Any]] = getattr(lerobots, PREPARE)
# Where LeRobot's commands take their ticks, by release. Each prepares a frame, whatever becomes of it.
TICKS = (
    ("lerobot.utils.control_utils", "predict_action"),  # 0.4, 0.5
    ("lerobot.common.control_utils", "predict_action"),  # 0.6
    ("lerobot.rollout.inference.sync", "SyncInferenceEngine.get_action"),  # 0.6
)
# These work on each observation by itself, so one that is left out changes nothing of the others.
BY_THEMSELVES = {
    "RenameObservationsProcessorStep",
    "AddBatchDimensionProcessorStep",
    "DeviceProcessorStep",
    "NormalizerProcessorStep",
}


def prepare(
    observation: Mapping[str, Any],
    device: torch.device,
    task: str | None = None,
    robot_type: str | None = None,
) -> dict[str, Any]:
    """LeRobot's ``prepare_observation_for_inference``: on a CPU the same bits, on a GPU within rounding.

    A frame ``(H, W, C)`` of bytes becomes floats ``(1, C, H, W)`` of 0 to 1 in two passes instead of three. A
    GPU is sent the bytes, a quarter of the floats' traffic. All else is LeRobot's own work.
    """
    frames = {name: _prepared(value, device) for name, value in observation.items() if _is_frame(name, value)}
    others = {name: value for name, value in observation.items() if name not in frames}
    rest = STOCK_PREPARE(others, device, task, robot_type)
    return {name: frames[name] if name in frames else rest[name] for name in (*observation, *rest)}


def _is_frame(name: str, value: Any) -> bool:
    return "image" in name and isinstance(value, np.ndarray) and value.dtype == np.uint8 and value.ndim == 3


def _prepared(frame: np.ndarray[Any, Any], device: torch.device) -> Tensor:
    pixels = torch.from_numpy(frame).to(device).permute(2, 0, 1)
    return pixels.to(torch.float32, memory_format=torch.contiguous_format).div_(255).unsqueeze(0)


def read_of(observation: Mapping[str, Any], policy: Any, preprocessor: Any) -> Mapping[str, Any]:
    """What the next ``select_action`` reads of ``observation``: no frames where its action is there."""
    if not _has_its_action(policy) or not _works_on_each_by_itself(preprocessor):
        return observation
    return {name: value for name, value in observation.items() if not _is_frame(name, value)}


def _has_its_action(policy: Any) -> bool:
    return (
        isinstance(policy, ACTPolicy)
        and type(policy).select_action is ACTPolicy.select_action
        and "select_action" not in vars(policy)
        and policy.config.temporal_ensemble_coeff is None
        and len(getattr(policy, "_action_queue", ())) > 0
    )


def _works_on_each_by_itself(preprocessor: Any) -> bool:
    steps, hooks = getattr(preprocessor, "steps", None), ("before_step_hooks", "after_step_hooks")
    if steps is None or any(getattr(preprocessor, name, ()) for name in hooks):
        return False
    return all(
        type(step).__name__ in BY_THEMSELVES and type(step).__module__.startswith("lerobot.processor.")
        for step in steps
    )


def prepare_less() -> None:
    """Make LeRobot's robot commands in this process prepare by ``prepare``, and only what is read."""
    setattr(lerobots, PREPARE, prepare)
    for module_name, path in TICKS:
        try:
            owner: Any = import_module(module_name)
        except ImportError:  # of another release, or installed without what it needs
            continue
        if vars(owner).get(PREPARE) is STOCK_PREPARE:  # it was imported before
            setattr(owner, PREPARE, prepare)
        *inside, name = path.split(".")
        for each in inside:
            owner = getattr(owner, each, None)
        tick = vars(owner).get(name) if owner is not None else None
        wrapped = _wrapped(tick) if tick is not None else None
        if wrapped is not None:
            setattr(owner, name, wrapped)


def _wrapped(tick: Callable[..., Any]) -> Callable[..., Any] | None:
    """``tick`` given what is read only; None where it is not what we know."""
    signature = inspect.signature(tick)
    names = set(signature.parameters)
    of_function = {"observation", "policy", "preprocessor"} <= names
    if not of_function and not {"self", "obs_frame"} <= names:
        return None

    @wraps(tick)
    def less(*args: Any, **kwargs: Any) -> Any:
        given = signature.bind(*args, **kwargs)
        values = given.arguments
        if of_function:
            values["observation"] = read_of(values["observation"], values["policy"], values["preprocessor"])
        elif values["obs_frame"] is not None:
            engine = values["self"]
            policy, before = (getattr(engine, each, None) for each in ("_policy", "_preprocessor"))
            values["obs_frame"] = read_of(values["obs_frame"], policy, before)
        return tick(*given.args, **given.kwargs)

    return less

"""A robot's tick: from its cameras' bytes and its state to numbers for its motors, by LeRobot's functions.

``tick`` takes as many as one chunk lasts, and ``tick_ensemble`` one, which predicts a chunk of its own. Modes
of the policy are ticked as ``act-compiled`` does it, other variants as LeRobot does.
"""

from __future__ import annotations

import tempfile
from collections import deque
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .peers import by_onnxruntime
from .workloads import EXPORT, MODES, Case

Frame = dict[str, Any]  # by observation: bytes (H, W, 3), or floats (features,)


def frame_of(policy: Any, batch: dict[str, Any]) -> Frame:
    """``batch``'s observations as a robot gives them, NumPy arrays on the host.

    Raises:
        ValueError: there are several; a robot gives one.
    """
    import torch

    found = {name: batch[name].cpu() for name in policy.config.input_features}
    size = len(next(iter(found.values())))
    if size != 1:
        raise ValueError(f"a tick takes one observation, not {size}; ask for batch size 1")
    for name in policy.config.image_features:
        found[name] = (found[name] * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    return {name: value[0].numpy() for name, value in found.items()}


def processors(config: Any) -> tuple[Any, Any]:
    """LeRobot's two for an ACT policy; of every feature the mean is 0.5 and the deviation 0.25."""
    import torch
    from lerobot.policies.act.processor_act import make_act_pre_post_processors

    statistics = {}
    for name, feature in {**config.input_features, **config.output_features}.items():
        shape = (feature.shape[0], 1, 1) if len(feature.shape) == 3 else feature.shape
        statistics[name] = {"mean": torch.full(shape, 0.5), "std": torch.full(shape, 0.25)}
    return make_act_pre_post_processors(config, dataset_stats=statistics)


def ticking(case: Case, policy: Any) -> Callable[[Frame], Any]:
    """What makes of a frame the robot's next action, ``(1, action)`` on the host."""
    if case.variant == EXPORT:
        return _by_export(policy)
    import torch
    from lerobot.policies.utils import prepare_observation_for_inference

    policy.config.device = case.device  # where the processors put what they make
    before, after = processors(policy.config)
    device = torch.device(case.device)
    frames = _our_frames() if case.variant in MODES else None
    prepare = frames.prepare if frames else prepare_observation_for_inference

    @torch.inference_mode()
    def tick(frame: Frame) -> Any:
        read = frames.read_of(frame, policy, before) if frames else frame
        return after(policy.select_action(before(prepare(dict(read), device)))).cpu()

    return tick


def _our_frames() -> Any:
    """What ``act-compiled`` prepares frames by; None where the commit under test has nothing for it."""
    name = "lerobot_policy_act_compiled.frames"
    return import_module(name) if find_spec(name) is not None else None


def _by_export(policy: Any) -> Callable[[Frame], Any]:
    """As docs/export.md has it: a chunk by ONNX Runtime, and its actions one after another."""
    import torch

    from lerobot_policy_act_compiled import export_policy

    before, after = processors(policy.config)
    with tempfile.TemporaryDirectory() as place:
        file = export_policy(policy, Path(place, "act.onnx"), preprocessor=before, postprocessor=after)
        run = by_onnxruntime(file, torch.get_num_threads())
    queue: deque[Any] = deque()

    def tick(frame: Frame) -> Any:
        if not queue:
            chunk = run({name: value[None] for name, value in frame.items()})
            queue.extend(chunk[:, step] for step in range(policy.config.n_action_steps))
        return torch.from_numpy(queue.popleft())

    return tick

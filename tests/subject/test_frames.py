"""A robot's ticks under ``act-compiled``: LeRobot's functions and actions, and no frame for nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors

from lerobot_policy_act_compiled import frames, patch_policy

from ..child_process import ENDS_AT_ONCE

pytestmark = pytest.mark.compat

Make = Callable[..., Any]
RANDOM = np.random.default_rng(0)
FRAME = RANDOM.integers(0, 256, (64, 64, 3), dtype=np.uint8)
STATE = RANDOM.normal(size=4).astype(np.float32)


def frame_of(config: Any) -> dict[str, Any]:
    return {**dict.fromkeys(config.image_features, FRAME), "observation.state": STATE}


@pytest.mark.parametrize(
    "frame",
    [FRAME, FRAME[:, ::-1], FRAME.transpose(1, 0, 2), FRAME.astype(np.float32) / 255, FRAME[..., :1]],
    ids=["bytes", "mirrored", "turned", "floats", "depth"],
)
def test_frames_are_lerobots_to_the_bit(frame: Any) -> None:
    frame = np.ascontiguousarray(frame) if any(step < 0 for step in frame.strides) else frame
    seen = {"observation.images.top": frame, "observation.state": STATE, "mask": FRAME[0]}
    expected = frames.STOCK_PREPARE(dict(seen), torch.device("cpu"), "sort", "so101")
    found = frames.prepare(seen, torch.device("cpu"), task="sort", robot_type="so101")
    assert list(found) == list(expected), "processors go by it"
    for name, value in expected.items():
        if not isinstance(value, torch.Tensor):
            assert found[name] == value
            continue
        assert found[name].dtype == value.dtype
        assert found[name].is_contiguous()
        assert torch.equal(found[name], value), name
    assert seen["observation.images.top"] is frame, "the caller's own stay what they are"


TICKING = """
import functools, json, sys
from importlib import import_module
import numpy as np
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.policies.act.processor_act import make_act_pre_post_processors
from lerobot.processor import NormalizerProcessorStep
from lerobot_policy_act_compiled import frames

torch.compile = functools.partial(torch.compile, backend="eager")
module, path = sys.argv[2], sys.argv[3]
owner = import_module(module)
normalised = []
normalise = NormalizerProcessorStep.__call__

def counted(self, transition):
    normalised.append(sum("image" in name for name in transition["observation"]))
    return normalise(self, transition)

NormalizerProcessorStep.__call__ = counted
policy = ACTPolicy.from_pretrained(sys.argv[1]).eval()
before, after = make_act_pre_post_processors(policy.config, dataset_stats={})
random = np.random.default_rng(0)
image = lambda: random.integers(0, 256, (64, 64, 3), dtype=np.uint8)
actions, ticks = [], int(sys.argv[4])
for _ in range(ticks):
    seen = {name: image() for name in policy.config.image_features}
    seen["observation.state"] = np.ones(4, np.float32)
    if path == "predict_action":
        action = owner.predict_action(seen, policy, torch.device("cpu"), before, after, use_amp=False)
    else:
        names = ["x", "y", "z"]
        features = {"action": {"dtype": "float32", "shape": (3,), "names": names}}
        engine = owner.SyncInferenceEngine(policy, before, after, features, names, "", "cpu", "")
        action = engine.get_action(seen)
    actions.append(action.flatten().tolist())
print(json.dumps([actions, normalised]))
"""


def ticked(checkpoint: Path, directory: Path, where: tuple[str, str], *command: str) -> tuple[Any, Any]:
    """The actions of twelve ticks, and how many frames were normalised at each."""
    script = directory / "lerobot_record.py"
    script.write_text(ENDS_AT_ONCE + TICKING)
    asked = [*command, "python", str(script), str(checkpoint), *where, "12"]
    program = [sys.executable, "-m", "lerobot_policy_act_compiled.command", *asked]
    stock = [sys.executable, *asked[-5:]]
    done = subprocess.run(program if command else stock, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    actions, normalised = json.loads(done.stdout.splitlines()[-1])
    return actions, normalised


@pytest.mark.parametrize("where", frames.TICKS, ids="-".join)
def test_lerobots_own_ticks_prepare_one_frame_a_chunk(
    where: tuple[str, str], tiny_policy: Make, tmp_path: Path
) -> None:
    try:
        import_module(where[0])
    except ImportError as error:
        pytest.skip(f"this LeRobot ticks elsewhere ({error})")
    checkpoint = tmp_path / "checkpoint"
    tiny_policy(phase="rollout").save_pretrained(checkpoint)
    expected, all_prepared = ticked(checkpoint, tmp_path, where)
    assert all_prepared == [2] * 12
    found, prepared = ticked(checkpoint, tmp_path, where, "--compile_mode=default", "--no-warm-up")
    assert prepared == [2, *[0] * 7, 2, 0, 0, 0], "its chunk has eight actions"
    assert np.abs(np.array(found) - np.array(expected)).max() < 1e-5


@pytest.fixture
def has_actions(tiny_policy: Make) -> Any:
    policy = patch_policy(tiny_policy(phase="rollout"))
    policy._action_queue.extend([torch.zeros(1, 3)] * 3)
    return policy


def processor(policy: Any) -> Any:
    return make_act_pre_post_processors(policy.config, dataset_stats={})[0]


def test_what_is_read_is_left(has_actions: Any) -> None:
    seen = frame_of(has_actions.config)
    assert frames.read_of(seen, has_actions, processor(has_actions)) == {"observation.state": STATE}
    assert len(seen) == 3
    has_actions._action_queue.clear()
    assert frames.read_of(seen, has_actions, processor(has_actions)) is seen


class OfItsOwn(ACTPolicy):
    def select_action(self, batch: Any, **kwargs: Any) -> Any:  # it looks at each
        return super().select_action(batch, **kwargs)


def test_whoever_may_look_at_a_frame_gets_it(has_actions: Any, tiny_policy: Make) -> None:
    seen, usual = frame_of(has_actions.config), processor(has_actions)
    ensemble = patch_policy(tiny_policy(phase="rollout_ensemble"))
    own = OfItsOwn(has_actions.config)
    own._action_queue.extend(has_actions._action_queue)
    wrapped = SimpleNamespace(config=has_actions.config, _action_queue=[1], select_action=lambda _: None)
    for policy in (ensemble, own, wrapped, None):
        assert frames.read_of(seen, policy, usual) is seen
    hooked, longer = processor(has_actions), processor(has_actions)
    hooked.before_step_hooks = [lambda *_: None]
    longer.steps = [*longer.steps, type("NormalizerProcessorStep", (), {})()]
    for preprocessor in (hooked, longer, lambda each: each, None):
        assert frames.read_of(seen, has_actions, preprocessor) is seen
    has_actions.select_action = lambda batch: batch
    assert frames.read_of(seen, has_actions, usual) is seen

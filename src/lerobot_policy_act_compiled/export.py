"""``export_policy``: an ACT policy as one ONNX file, which a robot runs without LeRobot and without torch.

With LeRobot's processors the file takes what a robot has, camera frames as uint8 ``(B, H, W, C)`` and its raw
state, and returns actions in the robot's units. The processors themselves are traced; nothing of them is
rewritten here.
"""

from __future__ import annotations

import copy
import json
import logging
import tempfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.act.configuration_act import ACTConfig
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor, nn

from .configuration_act_compiled import ACTCompiledConfig
from .garbage_collector import collector_held_back
from .inductor import inside_torch_compile
from .loaded_artifact import LoadedArtifact
from .onnx_graph import Chunk, exported, missing, one_line, quiet, random_observations, to_install
from .onnxruntime_session import onnxruntime
from .patch import patch_policy

log = logging.getLogger(__name__)

TOLERANCE = 1e-5  # of a dimension's largest normalised action, or of 1
BATCH_SIZES = (1, 2, 5)  # tried before the file is there; it takes any
SINGLE_FILE = 2**31 - 1  # bytes that an ONNX file can have

Processor = Callable[[Any], Any]


def export_policy(
    policy: ACTPolicy,
    path: str | Path,
    *,
    preprocessor: Processor | None = None,
    postprocessor: Processor | None = None,
) -> Path:
    """Write ``policy``'s action chunk as an ONNX file, and return its path.

    The file has one input for each of the policy's observations, under its name, and one output ``action``,
    ``(B, S, action_dim)``, each with any batch size ``B``. Its metadata ``act`` says in JSON what they are.
    The file is there only if ONNX Runtime's actions agree with the policy's, for random observations of
    several batch sizes: in each dimension to 1e-5 of the largest, or of 1 where all are smaller, before the
    postprocessor, and to what that makes of it after.

    Args:
        policy: any ACT policy of LeRobot's; it stays as it is. The file holds its model: where a
            ``predict_action_chunk`` of its own makes other actions of that, nothing is written.
        path: of the file to write; its folder is made, and a file that is there is replaced.
        preprocessor, postprocessor: LeRobot's, both or none. With them the file takes frames
            ``(B, H, W, C)`` of uint8 and a raw state and returns actions in the robot's units; without them
            it takes and returns what the policy does. They work on the CPU: ``make_pre_post_processors(...,
            preprocessor_overrides={"device_processor": {"device": "cpu"}})``.

    Raises:
        ValueError: ``policy`` is no ACT policy, one of the processors is missing, ONNX's packages are not
            installed, the policy or a processor cannot be exported, ONNX Runtime does not run it, its actions
            differ, or ``path`` cannot be written.
    """
    path = Path(path)
    if (name := missing()) is not None:
        raise ValueError(f"export_policy needs {name}, which is not installed: {to_install()}")
    if (preprocessor is None) != (postprocessor is None):
        raise ValueError("export_policy takes both processors of the policy, or none of them")
    if path.is_dir():
        raise ValueError(f"{path} is a directory; name the file to write, for example {path / 'act.onnx'}")
    copied = patch_policy(copy.deepcopy(policy)).eval().to("cpu", torch.float32)
    act = _acting(policy, copied)
    module = _FromFrames(copied, *_copied(preprocessor, postprocessor))
    examples = {size: random_observations(copied, size, raw=preprocessor is not None) for size in BATCH_SIZES}
    try:
        with torch.no_grad(), torch.autocast("cpu", enabled=False):
            expected = {size: _expected(module, act, each) for size, each in examples.items()}
    except Exception as error:  # whatever they raise
        raise ValueError(
            f"the policy or a processor does not take the policy's observations ({one_line(error)})"
        ) from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as place:
            program = _program(module, examples[2])
            program.model.metadata_props["act"] = json.dumps(_about(copied, examples[1], expected[1][0]))
            made = Path(place, path.name)
            program.save(str(made), external_data=False)
            difference = _difference(made, examples, expected)
            made.replace(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be written ({error.strerror or error})") from error
    log.info("%s: within %.1e of the policy's actions, batch sizes %s", path, difference, BATCH_SIZES)
    return path


def _acting(policy: ACTPolicy, copied: ACTPolicy) -> Callable[[Any], Tensor]:
    """``policy``'s own ``predict_action_chunk`` for its copy, whose compiled parts are left out."""
    if type(copied.config) is ACTConfig:  # which patch_lerobot compiles
        copied.config = ACTCompiledConfig.from_act(copied.config)
    copied.config.compile_model = False
    for name in ("model", "predict_action_chunk"):
        vars(copied).pop(name, None)
    own = vars(policy).get("predict_action_chunk")
    if own is None or isinstance(own, LoadedArtifact):
        return copied.predict_action_chunk
    return copy.deepcopy(inside_torch_compile(own) or own, {id(policy): copied})


def _copied(*processors: Processor | None) -> tuple[Processor | None, ...]:
    """Copies of processors, which would keep what they are traced with; together, as one may read another."""
    try:
        return copy.deepcopy(processors)
    except Exception as error:  # whatever a step of theirs raises
        raise ValueError(f"a processor cannot be copied and exported ({one_line(error)})") from error


class _FromFrames(nn.Module):
    """From what a robot has to actions in its units: LeRobot's preparation, processors and the chunk.

    Without processors: from what the policy takes to what it returns.
    """

    def __init__(self, policy: ACTPolicy, before: Processor | None, after: Processor | None) -> None:
        super().__init__()
        self.chunk = Chunk(policy, list(policy.config.input_features))
        self.cameras = frozenset(policy.config.image_features if before is not None else ())
        self.before = _as_it_is if before is None else before
        self.after = _as_it_is if after is None else after

    def prepared(self, observations: dict[str, Tensor]) -> Any:
        """What the policy takes."""
        return self.before(
            {
                name: _as_lerobot_prepares(value) if name in self.cameras else value
                for name, value in observations.items()
            }
        )

    def forward(self, *values: Tensor) -> Tensor:
        prepared = self.prepared(dict(zip(self.chunk.names, values, strict=True)))
        actions: Tensor = self.after(self.chunk(*(prepared[name] for name in self.chunk.names)))
        return actions


def _as_it_is(value: Any) -> Any:
    return value


def _as_lerobot_prepares(frames: Tensor) -> Tensor:
    """``(B, H, W, C)`` uint8 as ``(B, C, H, W)`` of 0 to 1, as ``prepare_observation_for_inference`` does."""
    return (frames.to(torch.float32) / 255).permute(0, 3, 1, 2)


@collector_held_back()
def _program(module: nn.Module, observations: dict[str, Tensor]) -> Any:
    sizes = tuple({0: "batch"} for _ in observations)
    try:
        with torch.autocast("cpu", enabled=False):
            program = exported(module, observations, dynamic_shapes=(sizes,))
        with quiet():
            program.optimize()
    except Exception as error:  # whatever an exporter raises
        raise ValueError(
            f"the policy or a processor of it cannot be exported to ONNX ({one_line(error)})"
        ) from error
    if sum(value.const_value.nbytes for value in program.model.graph.initializers.values()) > SINGLE_FILE:
        raise ValueError("the policy is larger than 2 GB, which no ONNX file can hold")
    return program


def _expected(module: _FromFrames, act: Processor, observations: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The policy's own actions, and for each of their dimensions what TOLERANCE is a part of.

    That is how far the postprocessor moves an action that differs by the dimension's largest, or by 1: one
    dimension may be of thousands and another of hundredths.
    """
    chunk = act(module.prepared(observations))
    actions = module.after(chunk)
    step = chunk.abs().flatten(0, -2).amax(0).clamp(min=1)
    moved = [(module.after(chunk + way) - actions).abs() for way in (step, -step)]
    rounded = actions.abs() / 10  # 1e-6 of it: float32 rounds what lies far from 0 as often as eight times
    scale = torch.stack([*moved, rounded]).flatten(0, -2).amax(0)
    return actions, scale.clamp(min=torch.finfo(scale.dtype).tiny)


def _difference(file: Path, observations: Any, expected: dict[int, tuple[Tensor, Tensor]]) -> float:
    """The largest difference of an action, as part of its dimension's scale.

    Raises:
        ValueError: it is more than TOLERANCE, or ONNX Runtime does not run.
    """
    try:
        session = onnxruntime().InferenceSession(str(file), providers=["CPUExecutionProvider"])
        feeds = {size: {name: each.numpy() for name, each in of.items()} for size, of in observations.items()}
        ran = {size: torch.from_numpy(session.run(None, feed)[0]) for size, feed in feeds.items()}
    except Exception as error:  # its own errors share no other base; one that lacks a library is no import
        raise ValueError(
            f"ONNX Runtime does not run the exported policy ({one_line(error)}): nothing is written; try "
            "another release of it"
        ) from error
    largest = 0.0
    for size, found in ran.items():
        actions, scale = expected[size]
        same = found.shape == actions.shape
        difference = float(((found - actions).abs() / scale).max()) if same else torch.inf
        if not difference <= TOLERANCE:
            raise ValueError(
                f"ONNX Runtime's actions differ by {difference:.1e} from the policy's (batch size {size}), "
                f"and {TOLERANCE:.0e} is allowed: nothing is written (the file can hold policy.model and the "
                "processors, and no predict_action_chunk of its own)"
            )
        largest = max(largest, difference)
    return largest


def _about(policy: ACTPolicy, observations: dict[str, Tensor], actions: Tensor) -> dict[str, Any]:
    def described(value: Tensor) -> dict[str, Any]:
        return {"shape": ["B", *value.shape[1:]], "dtype": str(value.dtype).removeprefix("torch.")}

    return {
        "inputs": {name: described(value) for name, value in observations.items()},
        "outputs": {"action": described(actions)},
        "n_action_steps": policy.config.n_action_steps,
        "releases": {name: version(name) for name in ("lerobot", "torch", "lerobot_policy_act_compiled")},
    }

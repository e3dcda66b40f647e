"""Configuration of the policy type ``act_compiled``: LeRobot's ACTConfig and how to compile it."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from draccus.parsers.decoding import decode
from draccus.parsers.encoding import encode
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig

log = logging.getLogger(__name__)

COMPILE_MODES = (
    "auto",
    "default",
    "frozen",
    "openvino",
    "onnxruntime",
    "captured",
    "reduce-overhead",
    "max-autotune",
    "max-autotune-no-cudagraphs",
)
LEROBOTS_ROLLOUT = "lerobot.rollout.context"


if TYPE_CHECKING:
    ArtifactDirectory = str
else:

    class ArtifactDirectory(str):
        """A directory whose code is run: the user names it, and no file that came with a checkpoint."""

        __slots__ = ()


@PreTrainedConfig.register_subclass("act_compiled")
@dataclass
class ACTCompiledConfig(ACTConfig):
    """ACTConfig with the fields by which LeRobot's other policies turn torch.compile on.

    Args:
        compile_model: compile the loss and the action chunk, each at its first call. ``lerobot-rollout``
            sets it to its own ``--use_torch_compile``, which is false by default: true stays true there.
        compile_mode: torch.compile's mode, or one of ours (see ``compiling``); one of COMPILE_MODES. With
            ``frozen``, ``openvino``, ``onnxruntime``, ``captured`` and ``auto`` and with an artifact, every
            change of the weights is seen (see ``weights``) but one: writing through ``.data``, NumPy or a
            pointer to a part of a tensor of more than 1024 elements. Such writes are looked for at 32 of
            these or a few more, evenly spread. Write to the parameter itself, under ``torch.no_grad()``.
        compile_fallback: run eager, with a warning, where the machine has no compiler.
        compile_artifact: a directory that keeps what was made of the action chunk for the next process: a
            graph for an engine, see ``kept_graphs``, or what torch compiled, for the same weights, see
            ``warm_start``. None keeps graphs in the user's cache directory, and nothing of torch's. An
            argument or an option of the command line only: in a checkpoint it is neither stored nor read, as
            code is loaded from there.

    Raises:
        ValueError: ``compile_mode`` is none of COMPILE_MODES, or ``compile_artifact`` is set and
            ``compile_model`` is not.
    """

    compile_model: bool = False
    compile_mode: str = "default"
    compile_fallback: bool = False
    compile_artifact: ArtifactDirectory | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_mode(self.compile_mode)
        if self.compile_artifact is not None and not self.compile_model:
            raise ValueError(
                f"compile_artifact is {self.compile_artifact!r} and compile_model is not set; set it, too"
            )

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "compile_model" and not value and vars(self).get(name) and _set_by_rollout():
            log.info(
                "compile_model=true stays: lerobot-rollout would set it to its --use_torch_compile (false); "
                "--policy.compile_model=false runs eager"
            )
            return
        if name == "compile_artifact" and value is not None:
            value = ArtifactDirectory(value)  # so that whoever stores it stores none: the type has an encoder
        super().__setattr__(name, value)

    @classmethod
    def from_act(cls, config: ACTConfig) -> ACTCompiledConfig:
        """``config`` itself where it is an ACTCompiledConfig, else one with the same values."""
        if isinstance(config, cls):
            return config
        converted = cls(**{field.name: getattr(config, field.name) for field in fields(config) if field.init})
        for name, value in vars(config).items():  # what LeRobot attaches at run time
            setattr(converted, name, value)
        return converted


def check_mode(mode: str) -> None:
    """Raise ValueError where ``mode`` is none of COMPILE_MODES."""
    if mode not in COMPILE_MODES:
        raise ValueError(f"compile_mode is {mode!r}; it must be one of {', '.join(COMPILE_MODES)}")


def _set_by_rollout() -> bool:
    """Whether LeRobot's rollout is what assigns, and not its user: it says so by nothing else."""
    return sys._getframe(2).f_globals.get("__name__") == LEROBOTS_ROLLOUT


@decode.register(ArtifactDirectory)
def _decode_artifact_directory(value: Any, _path: Any = ()) -> str | None:
    """What a configuration file or the command line gives LeRobot's parser: the command line's only."""
    if _on_command_line(str(value)):
        return str(value)
    log.warning(
        "compile_artifact=%s of a configuration file is ignored, as code would be loaded from there: "
        "name it on the command line (--policy.compile_artifact=...) or as an argument",
        value,
    )
    return None


@encode.register(ArtifactDirectory)
def _encode_artifact_directory(_value: Any, _type: Any = None) -> None:
    """What LeRobot stores, in a checkpoint and in the configuration of a training beside it: nothing."""


def _on_command_line(value: str) -> bool:
    for argument, following in zip(sys.argv, [*sys.argv[1:], None], strict=True):
        name, is_whole, given = argument.partition("=")
        if (
            name.startswith("--")
            and name.endswith("compile_artifact")
            and value == (given if is_whole else following)
        ):
            return True
    return False

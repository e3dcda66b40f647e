"""Configuration of the policy type ``act_compiled``: LeRobot's ACTConfig and how to compile it."""

from __future__ import annotations

from dataclasses import dataclass, fields

from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.configuration_act import ACTConfig

COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs", "frozen", "auto")


@PreTrainedConfig.register_subclass("act_compiled")
@dataclass
class ACTCompiledConfig(ACTConfig):
    """ACTConfig with the fields by which LeRobot's other policies turn torch.compile on.

    Args:
        compile_model: compile the loss and the action chunk, each at its first call.
        compile_mode: torch.compile's mode, or one of ours (see ``compiling``); one of COMPILE_MODES.
        compile_fallback: run eager, with a warning, where the machine has no compiler.
        compile_artifact: a directory that keeps the compiled action chunk for the next process with the
            same weights, see ``warm_start``; None keeps nothing.

    Raises:
        ValueError: ``compile_mode`` is none of COMPILE_MODES, or ``compile_artifact`` is set and
            ``compile_model`` is not.
    """

    compile_model: bool = False
    compile_mode: str = "default"
    compile_fallback: bool = False
    compile_artifact: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.compile_mode not in COMPILE_MODES:
            raise ValueError(
                f"compile_mode is {self.compile_mode!r}; it must be one of {', '.join(COMPILE_MODES)}"
            )
        if self.compile_artifact is not None and not self.compile_model:
            raise ValueError(
                f"compile_artifact is {self.compile_artifact!r} and compile_model is not set; set it, too"
            )

    @classmethod
    def from_act(cls, config: ACTConfig) -> ACTCompiledConfig:
        """``config`` itself where it is an ACTCompiledConfig, else one with the same values."""
        if isinstance(config, cls):
            return config
        converted = cls(**{field.name: getattr(config, field.name) for field in fields(config) if field.init})
        for name, value in vars(config).items():  # what LeRobot attaches at run time
            setattr(converted, name, value)
        return converted

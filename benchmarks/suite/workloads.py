"""What is measured, defined once: presets of ACT, seeded batches, and the ``Step`` of ``steps.prepare``.

asv (history), pytest-benchmark (the local loop) and the gate (the decision) call the same
``Step``, so a figure from one means what it means in the others.

A workload is a robot's observations and actions; a phase is what a user does with the policy: ``inference`` a
chunk of actions, ``rollout`` calls of ``select_action``, ``tick`` the same from the camera's bytes to numbers
for the motors (see ``ticks``), with ``_ensemble`` temporal ensembling. A variant is which code does it:

- ``stock``: LeRobot as installed, eager
- ``stock-compiled``: torch.compile over stock LeRobot, where it can be one graph
- ``eager``: made compile-friendly by ``patch_policy``, not compiled
- ``compiled``: made compile-friendly, and the whole of it one graph (``fullgraph=True``)
- ``auto``: the policy type ``act_compiled`` with ``compile_mode="auto"``: the fastest there is on the device
- ``frozen``: the same with ``compile_mode="frozen"``: torch's own fastest on a CPU
- ``auto_cpu``: the same with ``compile_mode="onnxruntime"``: what ``auto`` is with the extra ``cpu``
- ``onnxruntime``, ``openvino``: other runtimes over an export, for inference in fp32 on a CPU; see ``peers``
- ``export``: what ``export_policy`` writes, by plain ONNX Runtime: a tick in fp32 on a CPU
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from .peers import PEERS

# The version of every asv benchmark, whose own source is one call: a hash of it would say nothing.
# Raise it whenever a change here makes old figures incomparable with new ones.
SUITE_VERSION = "1"

EXPORT = "export"  # a variant
PHASES = ("inference", "training", "rollout", "rollout_ensemble", "tick", "tick_ensemble")
VARIANTS = ("stock", "stock-compiled", "eager", "compiled", "auto", "frozen", "auto_cpu", *PEERS, EXPORT)
MODES = {
    "auto": "auto",
    "frozen": "frozen",
    "auto_cpu": "onnxruntime",
}  # variants that are a ``compile_mode``
PRECISIONS = ("fp32", "bf16")
DEVICES = ("cpu", "cuda")

RUN_ON_A_CPU = {  # variants that do one thing: precisions, phase, device
    "onnxruntime": (("fp32",), "inference", "cpu"),
    "openvino": (PRECISIONS, "inference", "cpu"),
    EXPORT: (("fp32",), "tick", "cpu"),
}

TRAINING_BATCH = 8  # lerobot-train's default


@dataclass(frozen=True)
class Workload:
    """One robot: cameras of ``height`` x ``width`` pixels, state and action vectors, chunk of actions."""

    name: str
    cameras: int
    height: int
    width: int
    state: int
    action: int
    chunk: int = 100
    act: dict[str, Any] = field(default_factory=dict)  # what differs from ACTConfig's defaults

    @property
    def camera_names(self) -> tuple[str, ...]:
        return tuple(f"observation.images.camera{i}" for i in range(self.cameras))


TINY_WIDTHS = {
    "dim_model": 32,
    "n_heads": 2,
    "dim_feedforward": 64,
    "n_encoder_layers": 1,
    "n_vae_encoder_layers": 1,
    "latent_dim": 4,
}
WORKLOADS = {
    workload.name: workload
    for workload in (
        Workload("aloha", cameras=1, height=480, width=640, state=14, action=14),
        Workload("aloha_3cam", cameras=3, height=480, width=640, state=14, action=14),
        Workload("pusht", cameras=1, height=96, width=96, state=2, action=2),
        Workload("libero", cameras=2, height=256, width=256, state=8, action=7),
        # For tests only: every part of ACT, in the time of a test.
        Workload("tiny", cameras=2, height=64, width=64, state=4, action=3, chunk=8, act=TINY_WIDTHS),
    )
}


def _one_of(what: str, value: str, choices: Any) -> None:
    if value not in choices:
        raise ValueError(f"unknown {what} {value!r}; choose one of {', '.join(choices)}")


@dataclass(frozen=True)
class Case:
    """One thing to measure.

    Raises:
        ValueError: a name that does not exist; the message lists those that do.
    """

    workload: str
    phase: str
    variant: str
    precision: str = "fp32"
    device: str = "cpu"

    def __post_init__(self) -> None:
        _one_of("workload", self.workload, WORKLOADS)
        _one_of("phase", self.phase, PHASES)
        _one_of("variant", self.variant, VARIANTS)
        _one_of("precision", self.precision, PRECISIONS)
        _one_of("device", self.device, DEVICES)
        precisions, *place = RUN_ON_A_CPU.get(self.variant, ((self.precision,), self.phase, self.device))
        if self.precision not in precisions or [self.phase, self.device] != place:
            raise ValueError(
                f"{self.variant} runs {' and '.join(precisions)} {' on '.join(place)} only, "
                f"not {self.precision} {self.phase} {self.device}"
            )

    def __str__(self) -> str:
        return "-".join((self.workload, self.phase, self.variant, self.precision, self.device))

    @property
    def compiles(self) -> bool:
        return self.variant in ("stock-compiled", "compiled", *MODES)

    def as_variant(self, variant: str) -> Case:
        return replace(self, variant=variant)


@dataclass(frozen=True, repr=False)  # a policy's own is 300 lines, in an error that is to be one
class Step:
    """A prepared unit of work; calling it does the work and nothing else.

    ``policy`` and ``batch`` are what it works on; ``forward`` is the part of it that a graph can
    hold (the action chunk, or loss and parts), as a function of ``batch`` that is not compiled.
    """

    case: Case
    policy: Any
    batch: dict[str, Any]
    forward: Callable[[dict[str, Any]], Any]
    work: Callable[[], Any]

    def __call__(self) -> Any:
        return self.work()

    def __repr__(self) -> str:
        return f"Step({self.case})"

    def wait(self) -> None:
        """Return when the device has finished; nothing to do on a CPU."""
        if self.case.device == "cuda":
            import torch

            torch.cuda.synchronize()


def available_devices() -> tuple[str, ...]:
    """Those of DEVICES that this machine has."""
    import torch

    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def make_config(workload: Workload, phase: str, **overrides: Any) -> Any:
    """The ACTConfig of a workload; ``overrides`` are fields of it. Nothing is downloaded."""
    from lerobot.configs.types import FeatureType, PolicyFeature
    from lerobot.policies.act.configuration_act import ACTConfig

    image = PolicyFeature(FeatureType.VISUAL, (3, workload.height, workload.width))
    ensemble = {"temporal_ensemble_coeff": 0.01, "n_action_steps": 1} if phase.endswith("_ensemble") else {}
    fields = {
        "input_features": {
            **dict.fromkeys(workload.camera_names, image),
            "observation.state": PolicyFeature(FeatureType.STATE, (workload.state,)),
        },
        "output_features": {"action": PolicyFeature(FeatureType.ACTION, (workload.action,))},
        "chunk_size": workload.chunk,
        "n_action_steps": workload.chunk,
        "pretrained_backbone_weights": None,
        "device": "cpu",
        **workload.act,
        **ensemble,
        **overrides,
    }
    return ACTConfig(**fields)


def make_batch(workload: Workload, batch_size: int, *, device: str = "cpu", seed: int = 0) -> dict[str, Any]:
    """Seeded observations and actions.

    Images ``(B, 3, H, W)``, state ``(B, state)``, actions ``(B, S, action)`` and their padding
    ``(B, S)``: one action in ten is padding, at the end of the chunk, as at an episode's end.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    shape = (batch_size, 3, workload.height, workload.width)
    batch = {name: torch.rand(shape, generator=generator) for name in workload.camera_names}
    batch["observation.state"] = torch.randn((batch_size, workload.state), generator=generator)
    batch["action"] = torch.randn((batch_size, workload.chunk, workload.action), generator=generator)
    padding = torch.zeros((batch_size, workload.chunk), dtype=torch.bool)
    padding[:, -max(1, workload.chunk // 10) :] = True
    batch["action_is_pad"] = padding
    return {key: value.to(device) for key, value in batch.items()}


def check_device(device: str) -> None:
    """Raise ValueError where torch has no such device."""
    if device not in available_devices():
        raise ValueError(f"device {device!r} was asked for and torch sees none; use --device cpu")

"""Stock eager, patched eager and compiled ACT side by side in one process, for one policy and machine.

What examples/benchmark_act_compile.py shows. The variants take turns step by step, so that the
machine's drift hits all alike; one process is one launch, so the interval tells the noise within it
and not what another launch would find (``nox -s ratios`` has fresh launches).
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from ..suite.precision import has_tf32, lerobot_train_flags, strict_fp32
from ..suite.steps import step_of
from ..suite.timer import timed, turned
from ..suite.workloads import (
    TRAINING_BATCH,
    WORKLOADS,
    Case,
    Step,
    Workload,
    check_device,
    make_batch,
    make_config,
)

VARIANTS = {"stock": "stock eager", "eager": "patched eager", "auto": "compiled"}
CONFIDENCE = 0.95


@dataclass
class VariantTimes:
    """One variant.

    Attributes:
        seconds: of each step, in the order of the rounds.
        ticks: s, of each ``select_action`` of a rollout, whose step is as many as empty the queue.
        first_call: s, of a compiled variant: compiling and the first step.
        graph_breaks: of the compiled function; one would be an error (``fullgraph=True``).
        peak_memory: bytes that a step holds beyond what it began with; None where it cannot be told.
        difference: largest absolute difference of an action from stock's, in strict fp32; None in training.
    """

    name: str
    seconds: list[float] = field(default_factory=list)
    ticks: list[float] = field(default_factory=list)
    first_call: float | None = None
    graph_breaks: int | None = None
    kernels: int | None = None
    peak_memory: int | None = None
    difference: float | None = None

    @property
    def median(self) -> float:
        return median(self.seconds)

    def percentile(self, percent: int) -> float:
        """Seconds that this share of the steps does not exceed."""
        return quantiles(self.seconds, n=100, method="inclusive")[percent - 1]

    @property
    def spread(self) -> float:
        """Interquartile range over the median."""
        return (self.percentile(75) - self.percentile(25)) / self.median

    @property
    def per_step(self) -> int:
        """Actions that a robot takes of a step."""
        return len(self.ticks) // len(self.seconds) or 1

    @property
    def longest(self) -> list[float]:
        """Seconds of each step's longest tick: how long the robot stands still."""
        ticks, n = self.ticks or self.seconds, self.per_step
        return [max(ticks[at : at + n]) for at in range(0, len(ticks), n)]

    def missed(self, hz: float) -> float:
        """Share of a robot's ticks that came and found no action: of 45 ms at 100 Hz, four of five."""
        ticks = self.ticks or self.seconds
        late = sum(math.ceil(second * hz - 1e-9) - 1 for second in ticks)
        return late / (late + len(ticks))


@dataclass(frozen=True)
class MeasuredPolicy:
    """What policy is measured: a workload with seeded weights, or a checkpoint."""

    name: str
    config: Any
    workload: Workload
    weights: dict[str, Any] | None = None


def from_workload(name: str, phase: str) -> MeasuredPolicy:
    """A preset of ``workloads`` with seeded weights.

    Raises:
        ValueError: there is no such workload.
    """
    if name not in WORKLOADS:
        raise ValueError(f"unknown workload {name!r}; choose one of {', '.join(WORKLOADS)}")
    return MeasuredPolicy(name, make_config(WORKLOADS[name], phase), WORKLOADS[name])


def from_checkpoint(path: Path) -> MeasuredPolicy:
    """The policy that LeRobot saved in a directory (``pretrained_model``), or its configuration alone.

    Raises:
        ValueError: there is none, or it is no ACT; the message says what it is.
    """
    from lerobot.policies.act.configuration_act import ACTConfig
    from lerobot.policies.act.modeling_act import ACTPolicy
    from safetensors.torch import load_file

    file = path / "config.json" if path.is_dir() else path
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        kind = stored["type"]
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"{path} holds no policy: a config.json as LeRobot saves it is missing") from None
    if kind not in ("act", "act_compiled"):
        raise ValueError(f"{path} is a policy of type {kind!r}; this benchmark is for act and act_compiled")
    config = _config_of(file.parent, stored, ACTConfig)
    weights = file.parent / "model.safetensors"
    cameras = list(config.image_features)
    _, height, width = config.input_features[cameras[0]].shape if cameras else (3, 0, 0)
    workload = Workload(
        str(path),
        len(cameras),
        height,
        width,
        state=config.robot_state_feature.shape[0] if config.robot_state_feature else 0,
        action=config.action_feature.shape[0],
        chunk=config.chunk_size,
    )
    loaded = load_file(str(weights)) if weights.exists() else None
    ACTPolicy(config)  # a configuration that makes no policy fails here, in LeRobot's words
    return MeasuredPolicy(str(path), config, workload, loaded)


def _config_of(directory: Path, stored: dict[str, Any], kind: Any) -> Any:
    """LeRobot's own reading of a config.json; what is ours alone is left out, and no weights are fetched."""
    from lerobot.configs.policies import PreTrainedConfig

    import lerobot_policy_act_compiled  # noqa: F401 - registers the type act_compiled

    read = PreTrainedConfig.from_pretrained(str(directory), local_files_only=True)
    fields = {
        name: getattr(read, name)
        for name in kind.__dataclass_fields__
        if name in stored and hasattr(read, name)
    }
    return kind(**{**fields, "pretrained_backbone_weights": None, "device": "cpu"})


def make_observations(source: MeasuredPolicy, batch_size: int, device: str) -> dict[str, Any]:
    """A seeded batch of the shapes that the source's configuration names."""
    import torch

    batch = make_batch(source.workload, batch_size, device=device)
    generator = torch.Generator().manual_seed(1)
    for name, feature in source.config.input_features.items():
        if name not in batch:
            batch[name] = torch.rand((batch_size, *feature.shape), generator=generator).to(device)
    return batch


def time_by_turns(
    source: MeasuredPolicy,
    phase: str,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    batch_size: int | None = None,
    runs: int = 50,
    mode: str = "default",
    progress: Callable[[str], None] = lambda _: None,
) -> list[VariantTimes]:
    """Time ``runs`` steps of each variant by turns, after warming up.

    On CUDA with lerobot-train's flags; actions are compared in strict fp32, of steps of their own.

    Raises:
        ValueError: torch has no such device.
        RuntimeError: the compiled variant compiled nothing, or the machine has no compiler.
    """
    import torch
    from lerobot.policies.act.modeling_act import ACTPolicy

    check_device(device)
    batch = make_observations(source, batch_size or (TRAINING_BATCH if phase == "training" else 1), device)

    def made(variant: str) -> Step:
        torch.manual_seed(0)
        policy = ACTPolicy(copy.deepcopy(source.config))
        if source.weights is not None:
            policy.load_state_dict(source.weights)
        # A checkpoint has no name among the workloads; a case here says variant, phase, precision and device.
        case = Case("tiny", phase, variant, "fp32" if variant == "stock" else precision, device)
        return step_of(case, policy.to(device), batch, mode=mode, ticks=1)

    found = {variant: VariantTimes(name) for variant, name in VARIANTS.items()}
    with lerobot_train_flags(device):
        steps = []
        for variant, name in VARIANTS.items():
            step = made(variant)
            progress(
                f"{name}: compiling; seconds to minutes" if step.case.compiles else f"{name}: warming up"
            )
            _warm(step, found[variant])
            steps.append(step)
        for turn in range(runs):
            progress(f"step {turn + 1} of {runs}")
            for step in turned(steps, turn):
                _time(step, found[step.case.variant])
    if phase != "training":
        if has_tf32(device):  # compiled code holds the TF32 that it was compiled with
            steps.clear()
            torch.compiler.reset()
        progress("comparing actions")
        with strict_fp32(device):
            steps = steps or [made(variant) for variant in found]
            for step in steps:
                found[step.case.variant].difference = _difference(step, steps[0])
    return list(found.values())


def _time(step: Step, into: VariantTimes) -> None:
    """One step, or each tick of it: a robot waits for every action."""
    if step.case.phase in ("inference", "training"):
        into.seconds.append(timed(step))
        return
    ticks = [timed(step) for _ in range(step.policy.config.n_action_steps)]
    into.seconds.append(sum(ticks))
    into.ticks += ticks


def _warm(step: Step, into: VariantTimes) -> None:
    """The first calls, which are not timed with the others, and what is counted of a step."""
    from ..suite.compile_counters import first_compiled_call, runs_by_engine
    from ..suite.step_counters import peak_memory

    if step.case.compiles:
        start = time.perf_counter()
        compilation = first_compiled_call(step)
        step.wait()
        into.first_call = time.perf_counter() - start
        into.kernels, into.graph_breaks = compilation.kernels, len(compilation.graph_breaks)
    for _ in range(2):
        step()
    step.policy.reset()
    # An engine's memory is its own: torch's allocator does not see it.
    if step.case.device in ("cpu", "cuda") and not runs_by_engine(step):
        into.peak_memory = peak_memory(step, step.case.device)
    step.policy.reset()


def _difference(step: Step, stock: Step) -> float:
    """Of what the step computes, in its precision: a chunk, or all actions of a rollout or of ticks."""
    return float((_actions(step) - _actions(stock)).abs().max())


def _actions(step: Step) -> Any:
    import torch

    calls = 1 if step.case.phase == "inference" else step.policy.config.n_action_steps
    step.policy.reset()
    found = torch.stack([step().float() for _ in range(calls)])
    step.policy.reset()
    return found


def speed_up(stock: VariantTimes, other: VariantTimes) -> tuple[float, float, float]:
    """Median of the ratios of neighbouring steps, and its 95% interval, by order statistics (Conover 1999).

    With fewer than six steps there is no such interval, and it is the least and the most.
    """
    from scipy.stats import quantile_test

    ratios = [theirs / ours for theirs, ours in zip(stock.seconds, other.seconds, strict=True)]
    low, high = quantile_test(ratios, q=1.0, p=0.5).confidence_interval(confidence_level=CONFIDENCE)
    known = math.isfinite(low) and math.isfinite(high)
    return median(ratios), float(low if known else min(ratios)), float(high if known else max(ratios))


def pays_off(stock: VariantTimes, other: VariantTimes) -> int | None:
    """Steps after which the compile time is made up for; None: never."""
    gained = stock.median - other.median
    if other.first_call is None or gained <= 0:
        return None
    return int(other.first_call / gained) + 1

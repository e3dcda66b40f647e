"""Which cases the gate decides on, by device; what a case is called in reports and trailers."""

from __future__ import annotations

from collections.abc import Sequence

from ..workloads import DEVICES, PHASES, WORKLOADS, Case

# What is decided on without being asked: each phase, eager and compiled. Training and rollout in the
# cheapest workload that has every part of ACT at its real size; a tick with temporal ensembling
# predicts a whole chunk, so pusht's inference is in it. Ten minutes is all a pull request gets.
DEFAULT: dict[str, tuple[tuple[str, str], ...]] = {
    "cpu": (
        ("aloha", "inference"),
        ("pusht", "training"),
        ("pusht", "rollout_ensemble"),
    ),
    "cuda": (
        ("aloha", "inference"),
        ("aloha_3cam", "inference"),
        ("aloha", "training"),
        ("aloha", "rollout_ensemble"),
    ),
}
COMPILE = "compile"  # the metric beside "step": seconds of a cold first call


def choose(names: Sequence[str] | None, device: str) -> list[Case]:
    """Cases to decide on: the default set, or what ``--workloads`` names.

    Args:
        names: workloads (``pusht``) or workloads with a phase (``pusht-training``).
        device: one of DEVICES.

    Raises:
        ValueError: an unknown name, or none at all.
    """
    if device not in DEVICES:
        raise ValueError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")
    pairs = list(DEFAULT[device]) if names is None else [pair for name in names for pair in _pairs(name)]
    if not pairs:
        raise ValueError(f"no case selected; name workloads such as {', '.join(WORKLOADS)}")
    cases = [
        Case(workload, phase, variant, device=device)
        for workload, phase in pairs
        for variant in ("eager", "compiled")
    ]
    return list(dict.fromkeys(cases))


def _pairs(name: str) -> list[tuple[str, str]]:
    workload, _, phase = name.partition("-")
    phases = [phase] if phase else ["inference", "training", "rollout_ensemble"]
    if workload not in WORKLOADS:
        raise ValueError(
            f"unknown workload {workload!r}; choose one of {', '.join(WORKLOADS)}, or WORKLOAD-PHASE"
        )
    if phase and phase not in PHASES:
        raise ValueError(f"unknown phase {phase!r} in {name!r}; choose one of {', '.join(PHASES)}")
    return [(workload, phase) for phase in phases]

"""Counters of what mode ``auto`` adds to the default mode; ``comparison`` has the words."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from ..suite.asv_cases import has_mode
from ..suite.steps import prepare
from ..suite.workloads import Case, Step
from . import pairing

KEPT = "ACT_COMPILED_CACHE"  # the environment's name for the directory of kept graphs


def auto(case: Case) -> dict[str, Any]:
    """The counters ``OF_AUTO``, and actions, eager and ``auto``, after each write to the weights.

    Both are empty where the commit has no such mode. Without an engine each write costs a compile, so there
    is one.
    """
    from ..suite.compile_counters import runs_by_engine
    from ..suite.step_counters import dispatched, waits

    if not has_mode("auto"):
        return {"counts": {}, "values": {}}
    case = case.as_variant("auto")
    with tempfile.TemporaryDirectory(prefix="gate-auto-") as kept, patch.dict(os.environ, {KEPT: kept}):
        step = prepare(case)
        counts: dict[str, Any] = {"auto_made": _graphs_made(step)}
        by_engine = runs_by_engine(step)
        counts |= {
            "auto_by_torch": int(not by_engine),
            "auto_made_known": _graphs_made(prepare(case, seed=1)),
        }
        if by_engine:
            tick = prepare(replace(case, phase="tick"))
            tick()
            counts["auto_tick_ops"] = dispatched(tick).ops
        writes = WRITES if by_engine else dict(list(WRITES.items())[:1])
        values, made = {}, 0
        for name, write in writes.items():
            write(step.policy)
            made += _graphs_made(step)
            values[name] = {"eager": _eager_actions(step), "auto": step().flatten().tolist()}
        if by_engine:  # else of another number of writes
            counts |= {"auto_made_written": made, "auto_sessions": _sessions()}
            if pairing.CAN_SLICE:  # the caller's time, which is compared, has no waits
                waits(tick)  # with one thread, for which the engine makes a session first
                counts["auto_waits"] = waits(tick)
    return {"counts": counts | _of_training(replace(case, phase="training")), "values": values}


def auto_on_cuda(step: Step, of_others: int) -> dict[str, int]:
    """``AUTO_ON_CUDA`` of a step of ``auto`` that is ready: its launches, its waits, and its memory, bytes.

    Args:
        of_others: bytes that CUDA graphs of other steps hold.
    """
    from ..suite.step_counters import device_waits, kernel_launches, peak_memory

    return {
        "launches_auto": kernel_launches(step),
        "device_waits_auto": device_waits(step),
        "peak_memory_auto": peak_memory(step, step.case.device, of_others=of_others),
    }


def _graphs_made(step: Step) -> int:
    """Graphs that two calls make: by torch.compile, or by an export for an engine."""
    import torch

    from ..suite.compile_counters import count_compilation

    counted = patch.object(torch.onnx, "export", wraps=torch.onnx.export)
    with count_compilation() as compilation, counted as exports:
        step()
        step()
    return compilation.graphs + int(exports.call_count)


def _sessions() -> int:
    """Sessions of the engine that are alive: those of weights that have changed are to be let go."""
    gc.collect()
    return sum(type(found).__name__ in ("InferenceSession", "CompiledModel") for found in gc.get_objects())


def _eager_actions(step: Step) -> list[float]:
    eager = prepare(step.case.as_variant("eager"))
    eager.policy.load_state_dict(step.policy.state_dict())
    actions: list[float] = eager().flatten().tolist()
    return actions


def _of_training(case: Case) -> dict[str, int]:
    """Counters of what ``auto`` asks torch for in training; the graph is captured, not compiled."""
    import torch

    from ..suite.compile_counters import CapturingBackend

    step, backend = prepare(case), CapturingBackend()
    compile_, passes = torch.compile, 0

    def captured(function: Any, options: Mapping[str, Any] | None = None, **_: Any) -> Any:
        nonlocal passes
        passes += bool(options)
        return compile_(function, backend=backend, fullgraph=True)

    with patch.object(torch, "compile", captured):
        step.forward(step.batch)
    if not backend.ops:
        raise RuntimeError(f"{case} compiled nothing")
    groups = step.policy.get_optim_params()
    masks = [
        name for name in backend.names if any(word in name for word in ("keep_mask", "dropout", "bernoulli"))
    ]
    return {
        "auto_training_ops": sum(backend.ops),
        "auto_long_masks": sum("16_bits" not in name for name in masks),
        "auto_unfused": sum(not group.get("fused") for group in groups),
        "auto_torchs_products": int(not passes),
    }


def _step_of_the_optimizer(policy: Any) -> None:
    """As lerobot-train builds it, but far enough for actions to change; torch counts no fused step."""
    import torch

    optimizer = policy.config.get_optimizer_preset().build(policy.get_optim_params())
    for group in optimizer.param_groups:
        group["lr"] = 1e-2
    for parameter in policy.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    optimizer.zero_grad()


def _through_data(policy: Any) -> None:
    for parameter in policy.parameters():
        parameter.data.mul_(0.9)


def _under_no_grad(policy: Any) -> None:
    import torch

    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.mul_(0.9)


def _load_state_dict(policy: Any) -> None:
    policy.load_state_dict({name: value * 0.9 for name, value in policy.state_dict().items()}, assign=True)


WRITES: dict[str, Callable[[Any], None]] = {
    "a step of the optimizer": _step_of_the_optimizer,
    "a write through .data": _through_data,
    "a write under no_grad": _under_no_grad,
    "load_state_dict(assign=True)": _load_state_dict,
}

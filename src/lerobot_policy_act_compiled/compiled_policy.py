"""The methods of an ACT policy that compiles itself, where its configuration or ``patch_lerobot`` asks so.

They become those of ``ACTCompiledPolicy``, of a policy that ``patch_policy`` was given, and, while
``patch_lerobot`` is in force, of LeRobot's own ``ACTPolicy``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch import Tensor, nn

from .artifact import NOT_ON_CUDA
from .capture import Captured
from .compiling import CAPTURED, Asked, Compiled, FirstCompiler, mode_for, usual
from .configuration_act_compiled import ACTCompiledConfig
from .engine import Engine
from .gradients import keep_gradients
from .inductor import CUDA_GRAPHS, inside_torch_compile
from .loss import Batch, LossParts, policy_forward, policy_loss, with_image_list
from .onnx_graph import ENGINES, random_observations
from .refused import refuse
from .warm_start import WarmStart
from .weights import a_weight_of

log = logging.getLogger(__name__)

STOCK_PREDICT_ACTION_CHUNK = ACTPolicy.predict_action_chunk
STOCK_GET_OPTIM_PARAMS = ACTPolicy.get_optim_params

of_plain_act: Asked | None = None  # what ``patch_lerobot`` asks for policies of LeRobot's own type
_making = threading.Lock()


def asked_of(self: ACTPolicy) -> Asked | None:
    """How this policy compiles itself; None: not at all, or somebody else's graph is being traced."""
    if torch.compiler.is_compiling():
        return None
    config = self.config
    if not isinstance(config, ACTCompiledConfig):
        return of_plain_act
    if not config.compile_model:
        return None
    return Asked(config.compile_mode, config.compile_fallback, config.compile_artifact)


def forward(self: ACTPolicy, batch: Batch, *args: Any, **kwargs: Any) -> tuple[Tensor, dict[str, Any]]:
    """Loss (0-d, with gradient) and its parts as floats; ``batch`` has actions ``(B, S, action_dim)``."""
    asked = asked_of(self)
    if asked is None:
        return policy_forward(self, batch, *args, **kwargs)
    if _device(self) == "cuda" and mode_for(asked.mode, "cuda", acts=False) in CUDA_GRAPHS:
        keep_gradients(self)
    wanted = (*self.config.input_features, *self.config.output_features, "action_is_pad")
    batch = {key: batch[key] for key in wanted if key in batch}  # a new "task" or "index" is no new graph
    loss, parts = _run(self, asked, policy_loss, batch, *args, **kwargs)
    if loss.is_cuda:  # a float would wait for the device; these are read when somebody asks
        return _kept(loss), LossParts({name: _kept(part) for name, part in parts.items()})
    return loss, {name: float(part) for name, part in parts.items()}


def predict_action_chunk(self: ACTPolicy, batch: Batch, **kwargs: Any) -> Tensor:
    """Actions ``(B, S, action_dim)`` for the observations in ``batch``; sets the policy to eval mode."""
    asked = asked_of(self)
    if asked is None:
        return STOCK_PREDICT_ACTION_CHUNK(self, batch, **kwargs)
    # Observations only: what LeRobot's processors put beside them (an action of None) is no new graph.
    observed = {name: batch[name] for name in self.config.input_features if name in batch}
    # LeRobot's loops act in inference mode, its server does not, and Dynamo compiles once for each.
    with torch.inference_mode(mode=False), torch.no_grad():
        if not _acted_by_graph(self):  # which does both while the GPU works
            self.eval()
            observed = {name: usual(value) for name, value in observed.items()}
        actions: Tensor = _run(self, asked, action_chunk, observed)
    return _kept(actions) if actions.is_cuda and not _acted_by_graph(self) else actions


def _acted_by_graph(self: ACTPolicy) -> bool:
    return self.__dict__.get("_run_by", {}).get(METHODS[action_chunk]) == CAPTURED


def get_optim_params(self: ACTPolicy) -> Any:
    """LeRobot's parameter groups; in mode ``auto`` for torch's fused AdamW, equal within rounding."""
    groups = STOCK_GET_OPTIM_PARAMS(self)
    asked = asked_of(self)
    fused = _device(self) in ("cpu", "cuda")
    if fused and asked is not None and asked.mode == "auto":
        return [{**group, "fused": True} for group in groups]
    return groups


def warm_up(self: ACTPolicy, batch_size: int = 1) -> ACTPolicy:
    """Make the action chunk ready, as the mode does it, now and not at the robot's first step.

    Queue and temporal ensembler stay as they are. With ``use_amp`` on CUDA it is compiled for LeRobot's
    autocast, under which its loops act; else as the surrounding autocast has it.

    Args:
        batch_size: of the observations to come.

    Raises:
        ValueError: ``batch_size`` is no positive number.
        RuntimeError: the machine has no compiler.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; it must be at least 1")
    if asked_of(self) is None:
        log.info("nothing to warm up: the policy is not compiled (compile_model is not set)")
        return self
    weight = a_weight_of(self)
    log.info("warming up on %s: takes seconds, or a minute and more where torch compiles", weight.device)
    # Random ones: of zeros a graph could take the wrong one and agree with eager mode.
    observations = random_observations(self, batch_size)
    batch = {name: value.to(weight) for name, value in observations.items()}
    with _lerobots_autocast(self):
        for _ in range(2):  # what the first call leaves to the second one, as recording a CUDA graph
            self.predict_action_chunk(batch)
    log.info("warm: the next action chunk takes no longer than any other")
    return self


def compiled_by(self: ACTPolicy) -> dict[str, str]:
    """What runs another call like the last one, for each compiled method that was called, by its name.

    ``torch``: a graph of torch.compile's. ``captured``: a CUDA graph, see ``capture``. ``openvino`` or
    ``onnxruntime``: the engine on a CPU; the call that makes it ready ran eager. ``artifact``: what
    ``compile_artifact`` keeps.
    ``eager``: the machine has no compiler, or the actions were not finite.
    """
    return dict(self.__dict__.get("_run_by", {}))


def _lerobots_autocast(self: ACTPolicy) -> AbstractContextManager[Any]:
    if getattr(self.config, "use_amp", False) and _device(self) == "cuda":
        return torch.autocast("cuda")
    return nullcontext()


def set_attribute(self: ACTPolicy, name: str, value: Any) -> None:
    """Let ``torch.compile`` over a policy's parts change the calls and nothing else.

    ``policy.model = torch.compile(policy.model)``: torch wraps a module in another one, which puts
    ``_orig_mod.`` into every parameter name: checkpoints no longer load elsewhere, and LeRobot's
    ``get_optim_params``, which goes by name, gives the backbone the wrong learning rate. So the wrapper is
    what ``policy.model`` returns, and the wrapped model stays what the policy consists of.

    ``policy.predict_action_chunk = torch.compile(policy.predict_action_chunk)``, as ``lerobot-rollout
    --use_torch_compile=true`` does: a policy that compiles itself keeps its own mode and artifact.
    """
    if name == "predict_action_chunk" and _is_own(self, inside_torch_compile(value)):
        asked = asked_of(self)
        if asked is not None:
            log.info(
                "predict_action_chunk compiles itself (mode %s); torch.compile over it is left out",
                asked.mode,
            )
            self.__dict__.pop(name, None)
            return
    nn.Module.__setattr__(self, name, value)
    if name == "model" and isinstance(value, nn.Module):
        original = value._modules.get("_orig_mod")
        if original is not None:
            self._modules[name] = original
            self.__dict__[name] = value


def _is_own(self: ACTPolicy, method: Any) -> bool:
    return getattr(method, "__self__", None) is self and getattr(method, "__func__", None) is getattr(
        type(self), "predict_action_chunk", None
    )


def state_without_compiled(self: ACTPolicy) -> dict[str, Any]:
    """State without the compiled functions: a copy makes its own at its first call."""
    return {name: value for name, value in self.__dict__.items() if name not in ("_compiled", "_run_by")}


def _run(
    self: ACTPolicy, asked: Asked, function: Callable[..., Any], batch: Batch, *args: Any, **kwargs: Any
) -> Any:
    device = _device(self)
    key = function, asked, mode_for(asked.mode, device, acts=function is action_chunk), device
    made = self.__dict__.get("_compiled", {}).get(key)
    if made is None:
        refuse(self)
        with _making:
            made = self.__dict__.setdefault("_compiled", {}).setdefault(key, _compiled(*key))
    try:
        result = made(self, batch, *args, **kwargs)
    except Exception:
        refuse(self)  # what was wrapped since it was compiled first
        raise
    self.__dict__.setdefault("_run_by", {})[METHODS[function]] = made.by
    return result


def _compiled(function: Callable[..., Any], asked: Asked, mode: str, device: str) -> Callable[..., Any]:
    acts = function is action_chunk
    constants = acts and mode in ("frozen", *ENGINES)
    of_torch = "frozen" if constants else "default" if mode in (*ENGINES, CAPTURED) else mode
    graph: Any = Compiled(function, asked.mode, of_torch, constants=constants)
    if mode == CAPTURED:
        graph = Captured(asked.mode, function, graph)
    compiled = FirstCompiler(graph, function, fallback=asked.fallback, device=device)
    artifact = asked.artifact if acts else None
    if artifact and device == "cuda":
        log.warning("compile_artifact is left out: %s", NOT_ON_CUDA)
        return compiled
    made = WarmStart(artifact, compiled) if artifact else compiled
    return Engine(mode, asked.mode, function, made, asked.artifact) if acts and mode in ENGINES else made


def action_chunk(self: ACTPolicy, batch: Batch) -> Tensor:
    """Actions ``(B, S, action_dim)`` of a policy in eval mode; ``batch`` has its cameras one by one."""
    return self.model(with_image_list(self.config, batch))[0]


def _device(self: ACTPolicy) -> str:
    return a_weight_of(self).device.type


def _kept(result: Tensor) -> Tensor:
    """A copy: CUDA graphs write every call's results to the same memory, and users keep them for longer."""
    return result.clone()


METHODS: dict[Callable[..., Any], str] = {action_chunk: "predict_action_chunk", policy_loss: "forward"}

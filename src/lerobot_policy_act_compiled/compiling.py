"""The compiled functions of one policy: each made at its first call, one graph, no graph break.

Modes beyond torch.compile's own:

- ``frozen``: the action chunk's graph holds the weights as constants. Batch norm is folded into the
  convolutions, weights are laid out as the processor's kernels read them, what depends on weights
  alone is computed once. When weights change it is compiled anew. Training is as in ``default``. Under
  autocast activations stay bf16 from one convolution to the next, where eager mode goes through fp32.
- ``auto``: the mode for the policy's device: ``frozen`` on a CPU, ``reduce-overhead`` on CUDA, else
  ``default``. In training the optimizer is torch's fused AdamW, equal within rounding, and dropout on a
  CPU draws other masks than eager mode from the same seed, faster (see ``dropout.short_numbers``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from .inductor import copy_of, freezing, lacks_compiler
from .warm_start import WarmStart
from .weights import weights_seen

log = logging.getLogger(__name__)

NO_COMPILER = (
    "compile_model=True needs a compiler and torch finds none on this machine: install one (g++; on CUDA "
    "also triton), load what save_artifact wrote elsewhere, or set compile_fallback=True to run eager"
)


def mode_for(mode: str, device: str) -> str:
    """``mode``, or what ``auto`` means on a device of this type."""
    return {"cpu": "frozen", "cuda": "reduce-overhead"}.get(device, "default") if mode == "auto" else mode


class Frozen:
    """A function of a policy, compiled with its weights as constants, anew whenever they have changed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._seen: tuple[tuple[int, int], ...] | None = None
        self._compiled: Callable[..., Any] | None = None

    def __call__(self, policy: nn.Module, *args: Any) -> Any:
        seen = weights_seen(policy)
        if seen != self._seen or self._compiled is None:
            self._compiled = torch.compile(copy_of(self._function), fullgraph=True)
            self._seen = seen
        with freezing():  # at every call: another batch size compiles too
            return self._compiled(policy, *args)


def compiled(
    function: Callable[..., Any], mode: str, artifact: str | None, *, inference: bool
) -> Callable[..., Any]:
    """``function`` of a policy as one graph; compiling happens at its first call.

    Args:
        mode: torch.compile's, or ``frozen``.
        artifact: a directory that keeps what is compiled for inference; see ``warm_start``.
    """
    if mode != "frozen":
        made: Callable[..., Any] = torch.compile(function, fullgraph=True, mode=mode)
    elif inference:
        made = Frozen(function)
    else:
        made = torch.compile(function, fullgraph=True)
    return WarmStart(artifact, made) if inference and artifact else made


def call(
    compiled_function: Callable[..., Any],
    eager: Callable[..., Any],
    fallback: bool,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """The compiled function's result.

    Args:
        eager: the same function uncompiled. When compiling fails it is run: a bad batch fails there
            too, with LeRobot's own error.
        fallback: return its result where the machine has no compiler.

    Raises:
        RuntimeError: the machine has no compiler.
    """
    try:
        return compiled_function(*args, **kwargs)
    except Exception as error:
        result = eager(*args, **kwargs)
        if not lacks_compiler(error):
            raise
        if not fallback:
            raise RuntimeError(NO_COMPILER) from error
        log.warning(
            "no compiler on this machine: %s runs eager, as compile_fallback=True asks", eager.__name__
        )
        return result

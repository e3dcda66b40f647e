"""The compiled functions of one policy: each made at its first call, one graph, no graph break.

Modes beyond torch.compile's own:

- ``frozen``: the action chunk's graph holds the weights as constants. Batch norm is folded into the
  convolutions, weights are laid out as the processor's kernels read them, what depends on weights
  alone is computed once, and oneDNN multiplies where it is faster (see ``products``). When weights change
  it is compiled anew. Training is as in ``default``. Under autocast activations stay bf16 from one
  convolution to the next, where eager mode goes through fp32.
- ``openvino``, ``onnxruntime``: on a CPU that runtime runs the action chunk, see ``engine``; training is as
  in ``default``.
- ``captured``: on CUDA the action chunk is one CUDA graph of our own, see ``capture``; training is as in
  ``reduce-overhead``. Elsewhere it is ``default``.
- ``auto``: the mode for the policy's device: on a CPU ``openvino`` or ``onnxruntime``, the faster of those
  that are installed, else ``frozen``; ``captured`` on CUDA; elsewhere ``default``. In training the optimizer
  is torch's fused AdamW, equal within rounding, and on a CPU dropout draws other masks than eager mode from
  the same seed, faster (see ``dropout``), and oneDNN multiplies as in ``frozen``.

torch's own CUDA graphs belong to the main thread; in any other the modes that replay them run without.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Hashable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from .garbage_collector import collector_held_back
from .inductor import (
    CUDA_GRAPHS,
    copy_of,
    cuda_graphs_work_here,
    freezing,
    keep_device_guard,
    lacks_compiler,
    settings,
)
from .loss import are_finite
from .onnx_graph import ENGINES, missing, to_install
from .products import options as options_for_products
from .releases import TAKES_ANY_STRIDE_OF_ONE
from .tracing import traced
from .weights import Weights, a_weight_of, can_be_watched

log = logging.getLogger(__name__)

CAPTURED = "captured"
CAPTURING: tuple[str, ...] = ("cuda",)  # devices; tests add the CPU, with a fake of CUDA's calls
NO_COMPILER = (
    "compile_model=True needs a compiler and torch finds none on this machine: install one (g++; on CUDA "
    "also triton), load what save_artifact wrote elsewhere, or set compile_fallback=True to run eager"
)


@dataclass(frozen=True)
class Asked:
    """How a policy is to be compiled; the fields are those of ACTCompiledConfig."""

    mode: str
    fallback: bool = False
    artifact: str | None = None


def mode_for(mode: str, device: str, *, acts: bool = True) -> str:
    """``mode`` as this thread can have it on a device of this type; what ``auto`` means there.

    Args:
        acts: to predict actions, and not to train.
    """
    if mode == "auto":
        mode = _best_on_cpu() if device == "cpu" else CAPTURED if device == "cuda" else "default"
    if mode == CAPTURED and not (acts and device in CAPTURING):
        mode = "reduce-overhead" if device == "cuda" else "default"
    if mode in CUDA_GRAPHS and device == "cuda" and not cuda_graphs_work_here():
        return {"max-autotune": "max-autotune-no-cudagraphs"}.get(mode, "default")
    return mode


@cache
def _best_on_cpu() -> str:
    # As measured (nox -s peers): with AVX-512 OpenVINO is the faster, with AVX2 ONNX Runtime by 6 to 10%.
    has_avx512 = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    for engine in ENGINES if has_avx512 else reversed(ENGINES):
        if missing(engine) is None:
            return engine
    log.info(
        "auto compiles by torch, as %s is not installed; ONNX Runtime is faster: %s", missing(), to_install()
    )
    return "frozen"


class Compiled:
    """A function of a policy as one graph; compiling happens at its first call, and is logged.

    Args:
        function: takes the policy and a batch.
        asked: its mode as the configuration names it, for the log.
        mode: what that is here: torch.compile's, or ``frozen``.
        constants: whether the graph holds the weights as constants, and is made anew when they change;
            it does not where they are no plain tensors, as FSDP's.
    """

    def __init__(self, function: Callable[..., Any], asked: str, mode: str, *, constants: bool) -> None:
        self._function, self._asked, self._mode, self._constants = function, asked, mode, constants
        self._lock = threading.RLock()  # two threads that come at once compile once
        self._made: _Made | None = None

    def __call__(self, policy: nn.Module, batch: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        if self._constants and not are_finite(batch.values()):  # oneDNN's fused ReLU makes zeros of NaN
            return self._function(policy, batch, *args, **kwargs)
        kind = kind_of_call(policy, batch)
        made = self._made
        if made is not None and kind in made.kinds and made.holds_weights_of(policy):
            with self._flags():
                return made.run(policy, batch, *args, **kwargs)
        keep_device_guard()
        with self._lock:
            made = self._made
            if made is None or not made.holds_weights_of(policy):
                made = self._make(policy, anew=made is not None)
            start = time.perf_counter()
            # A kind that it has seen needs no freezing: what compiled without it would be slower, and right.
            frozen = freezing(options_for_products()) if made.weights else nullcontext()
            with collector_held_back(), frozen, self._flags():
                result = made.run(policy, batch, *args, **kwargs)
            if not made.kinds:
                log_ready(self._function.__name__, self._named(made), policy, "no artifact", start=start)
            made.kinds.add(kind)
            self._made = made
        return result

    def _make(self, policy: nn.Module, *, anew: bool) -> _Made:
        if anew:
            log.info("the weights have changed: %s is compiled anew", self._function.__name__)
        mode = None if self._mode in ("default", "frozen") else self._mode
        trains_on_cpu = not self._constants and a_weight_of(policy).device.type == "cpu"
        options = options_for_products() if self._asked == "auto" and trains_on_cpu else {}
        run = torch.compile(copy_of(self._function), fullgraph=True, mode=mode, options=options or None)
        constants = self._constants and can_be_watched(policy)
        return _Made(run, Weights(policy) if constants else None, set())

    def _named(self, made: _Made) -> str:
        mode = "default" if self._constants and made.weights is None else self._mode
        return self._asked if self._asked == mode else f"{self._asked} ({mode})"

    def _flags(self) -> AbstractContextManager[None]:
        return traced(masks_of_16_bits=self._asked == "auto")


@dataclass
class _Made:
    run: Callable[..., Any]
    weights: Weights | None
    kinds: set[Hashable]  # of calls that have been made: none of these compiles

    def holds_weights_of(self, policy: nn.Module) -> bool:
        return self.weights is None or self.weights.are_those_of(policy)


def kind_of_call(policy: nn.Module, batch: dict[str, Any]) -> Hashable:
    """What Dynamo may compile anew for; of a call of this kind it has a graph."""
    values = tuple(
        (name, value.shape, value.dtype, value.device) if isinstance(value, Tensor) else name
        for name, value in batch.items()
    )
    precision = settings(_device(policy).type)["precision"]
    return values, policy.training, torch.is_grad_enabled(), precision


def usual(value: Any) -> Any:
    """``value``; of an inference tensor one that is none, of the same memory where that can be had."""
    if not (isinstance(value, Tensor) and value.is_inference()):
        return value
    if value.device.type not in ("cpu", "cuda"):
        return value.clone()
    same = torch.from_dlpack(value)
    return same if TAKES_ANY_STRIDE_OF_ONE else same.as_strided(value.size(), value.stride())


def _device(policy: nn.Module) -> torch.device:
    return a_weight_of(policy).device


def log_ready(function: str, mode: str, policy: nn.Module, artifact: str, *, start: float) -> None:
    """The one line that says that a compiled function is ready, and what it is."""
    weight = a_weight_of(policy)
    device, precision = weight.device, str(weight.dtype)
    if torch.is_autocast_enabled(device.type):
        precision = f"autocast {torch.get_autocast_dtype(device.type)}"
    seconds = time.perf_counter() - start
    log.info(
        "compiled %s: mode %s, %s, %s, %s, %.1f s",
        function,
        mode,
        device,
        precision.replace("torch.", ""),
        artifact,
        seconds,
    )


# By device: what torch said when it found no compiler. Looking takes 23 to 33 s.
_found_none: dict[str, RuntimeError] = {}


class FirstCompiler:
    """``compiled``, or ``eager`` once the machine has shown that it has no compiler for a device.

    Args:
        eager: the same function uncompiled. When compiling fails it is run: a bad batch fails there
            too, with LeRobot's own error.
        fallback: return its result where the machine has no compiler.
        device: type of the device to compile for.
    """

    def __init__(self, compiled: Any, eager: Callable[..., Any], *, fallback: bool, device: str) -> None:
        self._compiled, self._eager, self._fallback, self._device = compiled, eager, fallback, device
        self.no_compiler: BaseException | None = _found_none.get(device)
        self._said = False

    @property
    def by(self) -> str:
        """What runs a call like the last one."""
        return getattr(self._compiled, "by", "torch") if self.no_compiler is None else "eager"

    def found_none(self, error: BaseException) -> None:
        """Look for no compiler again, here or for another policy of the process."""
        self.no_compiler = error
        # Only what it says: its frames hold the policy and the batch.
        _found_none[self._device] = RuntimeError(f"{type(error).__name__}: {error}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Raise RuntimeError where the machine has no compiler and no fallback is wanted."""
        if self.no_compiler is None:
            try:
                return self._compiled(*args, **kwargs)
            except Exception as error:
                result = self._eager(*args, **kwargs)
                if not lacks_compiler(error):
                    raise
                self.found_none(error)
                if self._fallback:
                    self._say_once()
                    return result
        if not self._fallback:
            raise RuntimeError(NO_COMPILER) from self.no_compiler
        self._say_once()
        return self._eager(*args, **kwargs)

    def _say_once(self) -> None:
        if not self._said:
            self._said = True
            log.warning(
                "no compiler on this machine: %s runs eager, as compile_fallback=True asks",
                self._eager.__name__,
            )

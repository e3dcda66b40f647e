"""What is asked of Dynamo and Inductor beyond torch.compile's arguments: the subject's private torch API."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
import torch._inductor
from torch._dynamo.convert_frame import compile_lock
from torch._inductor import config

from .garbage_collector import collector_held_back
from .tracing import traced

NO_COMPILER = ("InvalidCxxCompiler", "No working C++ compiler", "Cannot find a working triton installation")
CUDA_GRAPHS = ("reduce-overhead", "max-autotune")  # torch's modes that replay them on CUDA


@contextmanager
def freezing(more: Mapping[str, Any] | None = None) -> Iterator[None]:
    """Graphs that are compiled meanwhile, without gradients, hold their weights as constants.

    Args:
        more: settings of Inductor for these graphs.

    Not torch.compile's ``options``: what Dynamo captures depends on it too (torch 2.11). The setting is the
    whole process's, so no other thread compiles meanwhile: its weights would be constants unwatched.
    """
    keep_device_guard()
    with compile_lock, config.patch({**(more or {}), "freezing": True}), traced(frozen=True):
        yield


@contextmanager
def layout_kept() -> Iterator[None]:
    """Graphs that are compiled meanwhile keep images as they are, where torch would put channels last."""
    with compile_lock, config.patch(layout_optimization=False):
        yield


@contextmanager
def no_other_compiles() -> Iterator[None]:
    """No other thread compiles in the block, whose tracing changes what is the whole process's."""
    keep_device_guard()
    with compile_lock:
        yield


def copy_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with a code object of its own: what Dynamo compiled of it is freed with the copy."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=function.__name__)
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


def inside_torch_compile(function: Any) -> Any:
    """What ``torch.compile`` was called with to make ``function``; None where it was not made so."""
    return getattr(function, "_torchdynamo_orig_callable", None)


def cuda_graphs_work_here() -> bool:
    """Whether torch replays CUDA graphs in this thread: it does in the one that imported their code.

    Others fail with an AssertionError (pytorch issues 123177 and 184357). The main thread is asked for
    too, so that a pool's threads, one of which may have imported it, all do the same.
    """
    if threading.current_thread() is not threading.main_thread():
        return False
    import torch._inductor.cudagraph_trees  # slow, and nobody's on a CPU

    return torch._C._is_key_in_tls("tree_manager_containers")


@cache
def keep_device_guard() -> None:
    """Let a thread that compiles or exports first end, where torch is built for CUDA and there is no GPU.

    torch then replaces CUDA's device guard by an object of the thread that traces first, and the process
    dies at the next compile once that thread has ended (to torch 2.11; pytorch pull request 178950). Here it
    belongs to a thread that does not end.
    """
    ready = threading.Event()

    def hold() -> None:
        getattr(torch._C, "_ensureCUDADeviceGuardSet", lambda: None)()
        ready.set()
        threading.Event().wait()

    threading.Thread(target=hold, name="holds torch's device guard", daemon=True).start()
    ready.wait()


@contextmanager
def own_workspaces() -> Iterator[None]:
    """A graph has cuBLAS's workspaces in its own memory, and torch has them no longer when it is recorded.

    torch keeps one for each stream that a product ran on: that of the first graph would be every later one's,
    and keep its memory from being given back.
    """
    forget = getattr(torch._C, "_cuda_clearCublasWorkspaces", lambda: None)
    forget()
    try:
        yield
    finally:
        forget()


def lacks_compiler(error: BaseException | None) -> bool:
    """Whether torch found no compiler on this machine, anywhere in the chain of exceptions."""
    while error is not None:
        if any(text in f"{type(error).__name__}: {error}" for text in NO_COMPILER):
            return True
        error = error.__cause__ or error.__context__
    return False


@collector_held_back()
def compile_ahead(module: torch.nn.Module, arguments: tuple[Any, ...], path: Path) -> None:
    """Compile ``module(*arguments)``, its weights as constants, into a package that runs without Python."""
    with torch.no_grad(), freezing():
        exported = torch.export.export(module, arguments, strict=False)
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


def load_ahead(path: Path) -> Callable[..., Any]:
    """What ``compile_ahead`` has written, as a function of the same tensors that returns one.

    It reads all memory as that of contiguous tensors, so others are copied, as a frame that was cropped.

    By torch's loader itself: ``aoti_load_package`` imports the whole compiler first, 5 to 9 s for
    aloha's 0.2 s of loading. Where a release's loader takes other arguments, by that function.

    Raises:
        ValueError: torch's loader does not take the file.
    """
    try:
        try:
            loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
        except (AttributeError, TypeError):
            package = torch._inductor.aoti_load_package(str(path))
            return lambda *tensors: package(*(tensor.contiguous() for tensor in tensors))
    except Exception as error:
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"torch cannot load {path} ({why}); make it anew by save_artifact") from error
    return lambda *tensors: loader.run([tensor.contiguous() for tensor in tensors])[0]


def settings(device: str) -> Mapping[str, Any]:
    """Of this thread and process that change what a compiled graph computes on a device of this type."""
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "off"
    return {"precision": f"{_precision_of_products()}, autocast {autocast}"}


def has_tf32(device: torch.device) -> tuple[bool, bool]:
    """Whether fp32 products, and convolutions, are done in TF32 on this device."""
    if device.type != "cuda" or torch.cuda.get_device_capability(device) < (8, 0):
        return False, False
    backends: Any = torch.backends
    try:
        return backends.cuda.matmul.allow_tf32, backends.cudnn.allow_tf32
    except RuntimeError:  # asked for by torch's newer interface, as above
        precisions = backends.cuda.matmul.fp32_precision, backends.cudnn.conv.fp32_precision
        return precisions[0] == "tf32", precisions[1] == "tf32"


def _precision_of_products() -> str:
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:  # asked for by torch's newer interface (2.9), after which reading the older raises
        backends: Any = torch.backends
        return f"cuda {backends.cuda.matmul.fp32_precision}, oneDNN {backends.mkldnn.matmul.fp32_precision}"

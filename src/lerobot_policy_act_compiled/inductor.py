"""What is asked of Inductor beyond torch.compile's own arguments: the subject's private torch API."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
import torch._inductor
from torch._inductor import config

from .frozen import frozen_graphs

NO_COMPILER = ("InvalidCxxCompiler", "No working C++ compiler", "Cannot find a working triton installation")


@contextmanager
def freezing() -> Iterator[None]:
    """Graphs that are compiled meanwhile, without gradients, hold their weights as constants.

    Not torch.compile's ``options``: what Dynamo captures depends on it too (torch 2.11).
    """
    with config.patch(freezing=True), frozen_graphs():
        yield


def copy_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` with a code object of its own: what Dynamo compiled of it is freed with the copy."""
    assert isinstance(function, FunctionType)
    code = function.__code__.replace(co_name=function.__name__)
    return FunctionType(
        code, function.__globals__, function.__name__, function.__defaults__, function.__closure__
    )


def lacks_compiler(error: BaseException | None) -> bool:
    """Whether torch found no compiler on this machine, anywhere in the chain of exceptions."""
    while error is not None:
        if any(text in f"{type(error).__name__}: {error}" for text in NO_COMPILER):
            return True
        error = error.__cause__ or error.__context__
    return False


def compile_ahead(module: torch.nn.Module, arguments: tuple[Any, ...], path: Path) -> None:
    """Compile ``module(*arguments)``, its weights as constants, into a package that runs without Python."""
    with torch.no_grad(), freezing():
        exported = torch.export.export(module, arguments, strict=False)
        torch._inductor.aoti_compile_and_package(exported, package_path=str(path))


def load_ahead(path: Path) -> Callable[..., Any]:
    """What ``compile_ahead`` has written, as a function of the same tensors that returns one.

    By torch's loader itself: ``aoti_load_package`` imports the whole compiler first, 5 to 9 s for
    aloha's 0.2 s of loading. Where a release's loader takes other arguments, by that function.
    """
    try:
        loader = torch._C._aoti.AOTIModelPackageLoader(str(path), "model", False, 1, -1)
    except (AttributeError, TypeError):
        return torch._inductor.aoti_load_package(str(path))  # type: ignore[no-any-return,unused-ignore]
    return lambda *tensors: loader.run(list(tensors))[0]


def settings(device: str) -> Mapping[str, Any]:
    """Of this process that change what a compiled graph computes on a device of this type."""
    autocast = str(torch.get_autocast_dtype(device)) if torch.is_autocast_enabled(device) else "off"
    return {"precision": f"{torch.get_float32_matmul_precision()}, autocast {autocast}"}

"""Inductor's C++ kernels: few files, the same results, and torch's own way where ours does not work."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._inductor.async_compile import AsyncCompile, get_compile_threads
from torch._inductor.codecache import CppPythonBindingsCodeCache

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import kernel_files, patch_policy

from .compiled_policies import each_way_to_our_policies

pytestmark = [
    pytest.mark.usefixtures("fresh_dynamo"),
    pytest.mark.skipif(get_compile_threads() < 2, reason="one compile thread: torch compiles file by file"),
]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Inductor's, empty."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    return tmp_path


def libraries(cache: Path) -> int:
    return len(files(cache))


def files(cache: Path) -> list[Path]:
    """Those of kernels; torch 2.6 names them as it does those that ask what the processor can do."""
    return [file for file in cache.glob("*/*.so") if b"PyInit_kernel" in file.read_bytes()]


def learned(policy: Any, batch: dict[str, Any], *, compiled: bool) -> tuple[list[torch.Tensor], int]:
    """The loss and all gradients of one training step; how many kernels were made."""
    policy = patch_policy(copy.deepcopy(policy)).train()
    forward = torch.compile(policy.forward, fullgraph=True) if compiled else policy.forward
    torch.manual_seed(0)
    # The latent's noise from torch's generator, as eager mode draws it.
    with torch._inductor.config.patch(fallback_random=True), count_compilation() as compilation:
        loss, _ = forward(batch)
        loss.backward()
    gradients = [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]
    return [loss.detach(), *gradients], compilation.kernels


@each_way_to_our_policies
def test_every_way_to_our_policies_asks_for_few_files(
    make: Any, camera_free_policy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def torchs_own() -> None: ...

    monkeypatch.setattr(AsyncCompile, "cpp_pybinding", torchs_own)
    make(copy.deepcopy(camera_free_policy))
    hook = AsyncCompile.cpp_pybinding
    assert hook is not torchs_own
    kernel_files.few_files()
    assert AsyncCompile.cpp_pybinding is hook, "no hook of the hook"


def test_a_training_step_s_kernels_share_a_file_for_each_compile_thread(
    without_cameras: tuple[Any, dict[str, Any]], tiny_policy: Any, cache: Path
) -> None:
    seen, batch = without_cameras
    policy = tiny_policy(dropout=0.0, input_features=seen.config.input_features)
    expected, _ = learned(policy, batch, compiled=False)
    found, kernels = learned(policy, batch, compiled=True)
    assert kernels > 4 * libraries(cache)
    assert 2 <= libraries(cache) <= 2 * get_compile_threads(), "forward and backward are a module each"
    for eager, compiled in zip(expected, found, strict=True):
        torch.testing.assert_close(compiled, eager, rtol=1e-4, atol=1e-5)
    made = {file: file.stat().st_mtime_ns for file in files(cache)}
    torch.compiler.reset()
    again, _ = learned(policy, batch, compiled=True)
    assert {file: file.stat().st_mtime_ns for file in files(cache)} == made
    for first, second in zip(found, again, strict=True):
        torch.testing.assert_close(second, first)


def compiled_chain(width: int) -> None:
    """Compile a model of more kernels than go into a file, no two alike, nor like another width's."""
    kernel_files.few_files()
    widths = range(width, width + kernel_files.LEAST + 4)
    layers = [part for n in widths for part in (torch.nn.Linear(n, n + 1), torch.nn.GELU())]
    model, x = torch.nn.Sequential(*layers), torch.ones(2, width)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(x), model(x))


def test_kernels_whose_file_does_not_compile_are_compiled_by_torch(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    binding = kernel_files._Together._with_binding
    monkeypatch.setattr(
        kernel_files._Together, "_with_binding", lambda *args: f"{binding(*args)}\n#error of a test"
    )
    compiled_chain(16)
    assert libraries(cache) > kernel_files.LEAST


def test_one_compile_thread_does_as_torch_does(cache: Path) -> None:
    with torch._inductor.config.patch(compile_threads=1):
        compiled_chain(48)
    assert libraries(cache) > kernel_files.LEAST


def test_a_compiler_that_is_missing_is_said_by_torch(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(CppPythonBindingsCodeCache, "load_async", none)
    with pytest.raises(Exception, match="No working C"):
        compiled_chain(80)
    assert libraries(cache) == 0


def test_a_torch_that_compiles_kernels_in_another_way_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(AsyncCompile, "cpp_pybinding")
    kernel_files.few_files()
    assert not hasattr(AsyncCompile, "cpp_pybinding")

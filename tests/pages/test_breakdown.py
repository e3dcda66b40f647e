"""Where time goes: what is a product and what a convolution, and what the tables say of it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import benchmarks.pages.__main__ as pages
from benchmarks.markdown import between_markers, markers
from benchmarks.pages import breakdown, limits
from benchmarks.pages.rows import Row
from benchmarks.suite import answers, profiling
from benchmarks.suite.compile_counters import compile_stages, without_graph_caches
from benchmarks.suite.timer import fixed_compile_seconds
from benchmarks.suite.workloads import Case

from .conftest import ENVIRONMENT
from .test_limits import RATES

STEP = {
    "takes": 0.1,
    "times": {
        "optimizer": 0.0,
        "random numbers": 0.0,
        "convolutions": 0.05,
        "products": 0.03,
        "all else": 0.02,
    },
    "flops": {"convolutions": 10e9, "products": 3e9},
}
COMPILE = {"takes": 10.0, "times": {**dict.fromkeys(profiling.COMPILE_STAGES, 2.0), profiling.REST: 2.0}}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mkldnn::_convolution_pointwise_", "convolutions"),
        ("aten::convolution_backward", "convolutions"),
        ("sm90_xmma_fprop_implicit_gemm_f32", "convolutions"),
        ("mkl::_mkl_linear", "products"),
        ("aten::baddbmm", "products"),
        ("aten::addmm", "products"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu", "products"),
        ("nvjet_hsh_128x256_64x4_1x2_h_bz_coopA_NTT", "products"),
        ("aten::_fused_adamw_", "optimizer"),
        ("act_compiled::keep_mask_of_16_bits", "random numbers"),
        ("triton_red_fused_addmm_convolution_3", None),
        ("## Call CompiledFxGraph None ##", None),
        ("aten::convert_element_type", None),
        ("aten::add_", None),
    ],
)
def test_operators_are_told_apart_by_name(name: str, kind: str | None) -> None:
    assert profiling.kind_of(name) == kind


def test_matrix_work_stands_beside_the_machine_s_rate() -> None:
    row = Row("step", Case("aloha", "inference", "auto"), 1.38)
    assert breakdown.step_cells(row, breakdown.figures(STEP, RATES["fp32"])) == [
        "aloha inference, fp32",
        "100.0 ms",
        "",
        "",
        "50.0 ms: 10.0 GFLOP at 1.00 of the rate",
        "30.0 ms: 3.0 GFLOP at 0.50 of the rate",
        "20.0 ms",
    ]


@pytest.fixture
def page(root: Path, launches: Callable[[Any], None]) -> Path:
    """A page with places for both devices' tables; launches measure nothing."""
    caches: list[str] = []

    def answers(request: dict[str, Any], *, inductor_cache: Path) -> dict[str, Any]:
        if request["do"] == "compile_breakdown":
            caches.append(inductor_cache.name)
            assert (inductor_cache.name in caches[:-1]) == (len(caches) == 2), "the second is the warm start"
        if request["do"] != "rates":
            (case,) = request["cases"]
            on_cpu = (case["phase"], case["device"]) == ("inference", "cpu")
            assert (case["variant"] == "frozen") == on_cpu, "torch's profiler cannot see into an engine"
        found: dict[str, Any] = {
            "rates": {"rates": RATES},
            "step_breakdown": STEP,
            "compile_breakdown": COMPILE,
        }
        return {"environment": ENVIRONMENT, **found[request["do"]]}

    launches(answers)
    return root / limits.DOCUMENT


@pytest.mark.parametrize(("device", "machine"), [("cpu", "cpu AVX512"), ("cuda", "cuda")])
def test_every_row_of_the_limits_is_taken_apart(page: Path, device: str, machine: str) -> None:
    assert pages.main(["breakdown", "--device", device]) == 0
    text = between_markers(page, *markers(f"breakdown {machine}"))
    rows = limits.rows(device)
    for row in rows:
        assert (f"| {row} |" in text) != ("artifact" in str(row) or "memory" in str(row))
    assert "the subject as of abc" in text
    steps, compiles = (part.splitlines() for part in text.split("\n\n")[1:])
    assert len(steps) == 2 + sum(row.kind == "step" for row in rows)
    assert {line.count("|") for line in steps} == {8}
    assert {line.count("|") for line in compiles} == {8}


def test_what_could_not_be_measured_is_exit_code_2_and_writes_nothing(
    page: Path, launches: Callable[[Any], None], capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise RuntimeError("launch ended with exit code 1")

    launches(fails)
    before = page.read_text()
    assert pages.main(["breakdown"]) == 2
    assert capsys.readouterr().err.splitlines()[-1] == "breakdown: launch ended with exit code 1"
    assert page.read_text() == before


def test_a_step_is_taken_apart_without_remainder() -> None:
    found = answers.ANSWERS["step_breakdown"]([Case("tiny", "training", "eager")])
    assert sum(found["times"].values()) == pytest.approx(found["takes"])
    assert found["takes"] > found["times"]["convolutions"] > 0
    assert found["times"]["products"] > 0
    assert found["times"]["optimizer"] > 0
    assert found["flops"]["convolutions"] > found["flops"]["products"] > 0


def test_on_cuda_a_kernels_time_counts_once() -> None:
    """torch gives the operator that launches a kernel the kernel's time, too."""
    cpu, gpu = torch.autograd.DeviceType.CPU, torch.autograd.DeviceType.CUDA
    events = [
        SimpleNamespace(key=key, device_type=on, count=2, self_cpu_time_total=5e6, self_device_time_total=2e6)
        for key, on in (("aten::convolution", cpu), ("implicit_gemm_fprop", gpu))
    ]
    profile = SimpleNamespace(key_averages=lambda: events)
    assert list(profiling.own_times(profile, on_cuda=True)) == [("implicit_gemm_fprop", 2.0, 2)]
    assert list(profiling.own_times(profile, on_cuda=False)) == [(event.key, 5.0, 2) for event in events]


def test_a_compile_is_taken_apart() -> None:
    fixed_compile_seconds()  # what only a process's first compile does is of no stage
    torch.compiler.reset()
    start = time.perf_counter()
    with without_graph_caches(), compile_stages() as phases:
        torch.compile(lambda x: (x * 3).relu().softmax(-1))(torch.ones(64, 7))
    takes = time.perf_counter() - start
    dynamo, aot, inductor, waiting = phases
    assert min(dynamo, aot, inductor) > 0
    assert waiting >= 0
    assert takes > sum(phases) > 0.5 * takes


def test_a_compile_that_torch_says_nothing_of_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="torch keeps no account"), compile_stages():
        torch.ones(1)

"""Which cases asv measures where, and how a case that cannot run is skipped."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.repository import ROOT
from benchmarks.suite import asv_cases, counts, speed_ratios
from benchmarks.suite.asv_cases import SUITE, Machine, measured_cases, skip_unless_measured
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import Case, Step

CPU_ONLY = Machine(devices=("cpu",), cpu_bf16=False)


def test_every_case_of_the_suite_exists() -> None:
    everything = Machine(devices=("cpu", "cuda"), cpu_bf16=True)
    phases = {phase for device in SUITE.values() for phase, _ in device}
    found = [case for phase in phases for case in measured_cases(everything, phase)]
    assert len(found) == len(set(found)) > 20
    for case in found:
        skip_unless_measured(everything, case)


def test_a_quick_suite_is_a_part_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {phase: measured_cases(CPU_ONLY, phase) for phase in ("inference", "training", "rollout")}
    monkeypatch.setenv(asv_cases.QUICK, "1")
    quick = {phase: measured_cases(CPU_ONLY, phase) for phase in whole}
    assert [case for phase in whole for case in whole[phase] if case in quick[phase]] == [
        Case("aloha", "inference", "compiled"),
        Case("pusht", "inference", "compiled"),
        Case("pusht", "training", "compiled"),
    ]


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        (Case("aloha", "inference", "eager", device="cuda"), "no cuda device"),
        (Case("aloha", "inference", "eager", "bf16"), "AVX-512"),
        (Case("aloha_3cam", "training", "eager"), "not part of the suite"),
    ],
)
def test_what_a_machine_cannot_measure_is_skipped_by_asvs_own_means(case: Case, reason: str) -> None:
    with pytest.raises(NotImplementedError, match=reason):
        skip_unless_measured(CPU_ONLY, case)
    assert case not in measured_cases(CPU_ONLY, case.phase, case.variant)


def test_asvs_server_can_be_forked() -> None:
    """asv's fork server imports the suite and forks a process for each figure.

    CUDA cannot be used in a process forked from one that asked the driver anything; and a thread
    pool of torch's would not exist in the fork.
    """
    program = """
import importlib, pkgutil, torch
asked = []
for name in ("_cuda_getDeviceCount", "_cuda_init"):
    if hasattr(torch._C, name):
        setattr(torch._C, name, lambda name=name: asked.append(name))
import benchmarks
for module in pkgutil.walk_packages(benchmarks.__path__, "benchmarks."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
assert not asked and not torch.cuda.is_initialized(), asked
import os
if os.fork() == 0:
    torch.mm(torch.ones(500, 500), torch.ones(500, 500)).sum().item()
    os._exit(0)
assert os.wait()[1] == 0
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, timeout=120)


def test_a_count_that_a_device_lacks_is_not_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Asv takes None for a failed benchmark, and a failed benchmark for a failed run."""

    def ready(_machine: Machine, case: Case) -> Step:
        step = prepare(case, backend="aot_eager")
        step()
        return step

    monkeypatch.setattr(counts, "ready", ready)
    ratio = speed_ratios.Ratio(2.0, 1.1)
    named = ratio.named("compiled_over_eager") | ratio.named("auto_over_stock") | {"limit_over_eager": 3.0}
    monkeypatch.setattr(counts, "ratios", lambda *_: named)

    class Counted(counts.Counts, phase="inference"):
        def setup_cache(self) -> dict[str, Any]:
            return {}

    counted = Counted()
    counted.figures = counts.figures_of(CPU_ONLY, Case("tiny", "inference", "compiled"))
    tracked = {name: getattr(counted, name)() for name in dir(counted) if name.startswith("track_")}
    assert {name for name, value in tracked.items() if math.isnan(value)} == {
        "track_kernel_launches",
        "track_cudagraph_skips",
    }
    assert tracked["track_graphs"] == 1
    assert (tracked["track_auto_over_stock"], tracked["track_auto_over_stock_spread"]) == (2.0, 1.1)


def test_one_compile_cache_per_version_of_the_subject(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    for name in ("TORCHINDUCTOR_CACHE_DIR", "ACT_COMPILED_CACHE"):
        monkeypatch.setenv(name, "")
    (tmp_path / "inductor-cache" / "of-another-version").mkdir(parents=True)
    asv_cases.use_inductor_cache()
    directory = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    assert directory.parent == tmp_path / "inductor-cache"
    assert directory in Path(os.environ["ACT_COMPILED_CACHE"]).parents
    assert not (tmp_path / "inductor-cache" / "of-another-version").exists()

    directory.mkdir()
    asv_cases.use_inductor_cache()
    assert directory.exists(), "the cache of the version that is measured is kept"

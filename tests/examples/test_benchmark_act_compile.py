"""The benchmark script: what its table says of known times, what it writes, and each mistake in one line."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pytest
import torch

from benchmarks.pages import compare
from benchmarks.pages.compare import (
    VariantTimes,
    from_checkpoint,
    from_workload,
    pays_off,
    speed_up,
    time_by_turns,
)
from lerobot_policy_act_compiled.configuration_act_compiled import COMPILE_MODES

pytestmark = pytest.mark.usefixtures("without_inductor")

Make = Callable[..., Any]
FILE = Path(__file__).resolve().parents[2] / "examples" / "benchmark_act_compile.py"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("benchmark_act_compile", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def error_of(script: Any, capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert script.main([*argv, "--num-runs", "2"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert "Traceback" not in "".join(lines)
    return lines[-1]


def test_every_compile_mode_can_be_asked_for(script: Any) -> None:
    """Written out there: the policy's list would take LeRobot's import, and --help ten seconds."""
    assert sorted(script.MODES) == sorted(COMPILE_MODES)


def test_known_times_make_known_figures() -> None:
    stock = VariantTimes("stock eager", [0.02, 0.02, 0.04, 0.02, 0.02, 0.02, 0.02, 0.02])
    ours = VariantTimes("compiled", [0.01, 0.01, 0.01, 0.01, 0.02, 0.01, 0.01, 0.01], first_call=1.0)
    assert speed_up(stock, ours) == (2.0, 1.0, 4.0)  # of eight steps the interval is the least to the most
    assert speed_up(VariantTimes("", 3 * stock.seconds), VariantTimes("", 3 * ours.seconds)) == (
        2.0,
        2.0,
        2.0,
    )
    assert speed_up(stock, VariantTimes("", stock.seconds[:]))[0] == 1.0
    assert pays_off(stock, ours) == 101
    assert pays_off(ours, VariantTimes("", stock.seconds, first_call=1.0)) is None
    assert stock.missed(hz=40) == 1 / 9, "while 40 ms pass one tick of 25 ms comes and finds no action"
    assert stock.missed(hz=50) == 1 / 9, "what is ready when the tick comes has not missed it"
    assert ours.percentile(99) > ours.median == 0.01


def test_a_rollouts_ticks_are_told_from_its_steps() -> None:
    variant = VariantTimes("", seconds=[0.12, 0.07], ticks=[0.1, 0.01, 0.01, 0.05, 0.01, 0.01])
    assert variant.per_step == 3
    assert variant.longest == [0.1, 0.05]
    assert variant.missed(hz=20) == 1 / 7
    assert variant.missed(hz=100) == (9 + 4) / (9 + 4 + 6)
    assert VariantTimes("", seconds=[0.1, 0.2]).longest == [0.1, 0.2]


def test_a_rollout_is_the_checkpoints_own(tmp_path: Path, tiny_policy: Make) -> None:
    """A robot that takes 3 actions of a chunk predicts at every third tick."""
    tiny_policy(n_action_steps=3).save_pretrained(tmp_path)
    found = time_by_turns(from_checkpoint(tmp_path), "rollout", runs=4)
    for variant in found:
        assert variant.per_step == 3
        assert [sum(variant.ticks[at : at + 3]) for at in range(0, 12, 3)] == variant.seconds
        predicting, playing = variant.ticks[::3], variant.ticks[1::3] + variant.ticks[2::3]
        assert median(predicting) > 3 * median(playing)


@pytest.mark.parametrize("phase", ["inference", "rollout"])
def test_bf16_is_measured_in_bf16(phase: str) -> None:
    stock, *ours = time_by_turns(from_workload("tiny", phase), phase, precision="bf16", runs=2)
    assert stock.difference == 0
    for variant in ours:
        assert variant.difference is not None
        assert 1e-4 < variant.difference < 1e-1, variant.name


def test_everything_is_measured_and_written(
    script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        script.main(["--workload", "tiny", "--num-runs", "8", "--hz", "50", "--output", str(tmp_path)]) == 0
    )
    out = capsys.readouterr().out
    for what in ("stock eager", "patched eager", "compiled", "missed at 50 Hz", "pays off after"):
        assert what in out
    document = json.loads((tmp_path / "result.json").read_text())
    stock, eager, compiled = document["variants"]
    assert all(len(each["seconds"]) == 8 for each in document["variants"])
    assert compiled["graph_breaks"] == 0
    assert compiled["first_call"] > 0
    assert 0 < compiled["difference"] < 1e-5 or compiled["difference"] == 0
    assert eager["difference"] < 1e-5
    assert stock["peak_memory"] > 0
    page = (tmp_path / "result.md").read_text()
    assert page.count("\n| ") == 4, "a heading and three variants"
    assert "50 Hz" in (tmp_path / "latency.svg").read_text()
    assert (tmp_path / "latency.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("phase", ["training", "rollout"])
def test_other_phases_have_a_table(phase: str, script: Any, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--workload", "tiny", "--phase", phase, "--num-runs", "3", "--compile-mode", "default"]
    assert script.main([*argv, "--batch-size", "2"]) == 0
    out = capsys.readouterr().out
    assert "patched eager" in out
    assert ("longest tick" in out) is (phase == "rollout")


def test_a_checkpoint_is_measured_with_its_weights(
    script: Any, tmp_path: Path, tiny_policy: Make, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = tiny_policy(seed=3)
    policy.save_pretrained(tmp_path)
    source = from_checkpoint(tmp_path)
    assert source.weights is not None
    assert all(torch.equal(source.weights[name], value) for name, value in policy.state_dict().items())
    assert source.workload.cameras == 2
    assert script.main(["--policy-path", str(tmp_path), "--num-runs", "2"]) == 0
    assert script.main(["--config", str(tmp_path / "config.json"), "--num-runs", "2"]) == 0
    assert str(tmp_path) in capsys.readouterr().out.replace("\n", "")


def test_what_is_no_act_is_said(script: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"type": "diffusion"}')
    assert "is a policy of type 'diffusion'" in error_of(script, capsys, "--policy-path", str(tmp_path))
    missing = str(tmp_path / "nonesuch")
    assert "holds no policy" in error_of(script, capsys, "--policy-path", missing)


def test_a_device_that_is_not_there_is_said(
    script: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    line = error_of(script, capsys, "--device", "cuda", "--workload", "tiny")
    assert line == "benchmark_act_compile: device 'cuda' was asked for and torch sees none; use --device cpu"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "not enough memory; try a smaller"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "not enough memory; try a smaller"),
        (RuntimeError("compile_model=True needs a compiler"), "compile_model=True needs a compiler"),
    ],
)
def test_what_fails_is_one_line(
    error: Exception,
    said: str,
    script: Any,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr(compare, "_warm", fails)
    assert said in error_of(script, capsys, "--workload", "tiny")


@pytest.mark.parametrize("bad", [["--num-runs", "1"], ["--batch-size", "0"], ["--hz", "-1"]])
def test_a_number_that_cannot_be_is_refused(
    bad: list[str], script: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        script.main(bad)
    assert ended.value.code == 2
    assert bad[0] in capsys.readouterr().err

"""Other runtimes as variants: they act as stock does, and are refused where they cannot."""

from __future__ import annotations

import pytest

from benchmarks.suite import answers, steps
from benchmarks.suite.peers import PEERS, installed
from benchmarks.suite.steps import prepare, step_of
from benchmarks.suite.ticks import Frame, frame_of
from benchmarks.suite.workloads import WORKLOADS, Case, make_batch
from lerobot_policy_act_compiled.onnx_graph import missing


@pytest.mark.parametrize("name", PEERS)
def test_a_peer_acts_as_stock(name: str) -> None:
    if name not in installed():
        pytest.skip(f"{name} is not installed; nox -s peers installs it")
    case = Case("tiny", "inference", name)
    step, stock = prepare(case), prepare(case.as_variant("stock"))
    assert not case.compiles
    for _ in range(2):
        assert (step() - stock()).abs().max() < 1e-5


@pytest.mark.parametrize(
    "asked", ["fp32 training cpu", "fp32 rollout cpu", "fp32 inference cuda", "bf16 inference cpu"]
)
def test_it_runs_fp32_inference_on_a_cpu(asked: str) -> None:
    precision, phase, device = asked.split()
    with pytest.raises(ValueError, match=f"openvino runs fp32 inference on cpu only, not {asked}"):
        Case("tiny", phase, "openvino", precision, device)


@pytest.mark.skipif(missing() is not None, reason="needs the extra cpu: onnxruntime and onnx")
def test_an_exports_ticks_are_stocks(monkeypatch: pytest.MonkeyPatch) -> None:
    case, frame = Case("tiny", "tick", "export"), Frame()
    prepared = prepare(case.as_variant("stock"))
    policy, batch = prepared.policy, prepared.batch
    monkeypatch.setattr(steps, "frame_of", lambda *_: frame)
    export, stock = (step_of(each, policy, batch, ticks=1) for each in (case, prepared.case))
    for seed in range(3):
        frame.update(frame_of(policy, make_batch(WORKLOADS["tiny"], 1, seed=seed)))
        for _ in range(policy.config.n_action_steps):
            assert (export() - stock()).abs().max() < 1e-5
    with pytest.raises(ValueError, match="export runs fp32 tick on cpu only, not fp32 inference cpu"):
        Case("tiny", "inference", "export")


def test_other_weights_are_timed_after_they_were_replaced() -> None:
    found = answers.ANSWERS["replaced"]([Case("tiny", "inference", "eager")])
    assert 0 < found["seconds"] < 60

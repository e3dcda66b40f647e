"""Other runtimes as variants: they act as stock does, and are refused where they cannot."""

from __future__ import annotations

import pytest

from benchmarks.suite import answers, steps
from benchmarks.suite.openvino_operators import PARTS, UNBOUND, openvino_operators
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


def test_openvinos_own_counters_say_where_its_time_goes() -> None:
    if "openvino" not in installed():
        pytest.skip("openvino is not installed; nox -s peers installs it")
    auto, by_hand = Case("tiny", "inference", "auto"), Case("tiny", "inference", "openvino")
    found = openvino_operators([auto, by_hand], steps=3)["operators"]
    assert list(found) == ["auto", "openvino", UNBOUND]
    for each in found.values():
        assert list(each["parts"]) == list(PARTS)
        assert all(each["parts"][name] > 0 for name in PARTS[:-1])
        assert sum(each["parts"].values()) == pytest.approx(each["takes"])
    stock = Case("tiny", "inference", "stock")
    with pytest.raises(ValueError, match="tiny-inference-stock-fp32-cpu does not run by OpenVINO"):
        openvino_operators([stock])


def test_openvino_in_bf16_is_as_near_as_bf16_is() -> None:
    if "openvino" not in installed():
        pytest.skip("openvino is not installed; nox -s peers installs it")
    case = Case("tiny", "inference", "openvino", "bf16")
    actions, stock = prepare(case)(), prepare(Case("tiny", "inference", "stock"))()
    assert actions.dtype == stock.dtype
    assert (actions - stock).abs().max() < 5e-2


@pytest.mark.parametrize(
    "asked",
    [
        "openvino fp32 training cpu",
        "openvino fp32 rollout cpu",
        "openvino fp32 inference cuda",
        "onnxruntime bf16 inference cpu",
    ],
)
def test_it_runs_inference_on_a_cpu(asked: str) -> None:
    name, precision, phase, device = asked.split()
    runs = "fp32 and bf16" if name == "openvino" else "fp32"
    refused = asked.removeprefix(f"{name} ")
    with pytest.raises(ValueError, match=f"{name} runs {runs} inference on cpu only, not {refused}"):
        Case("tiny", phase, name, precision, device)


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

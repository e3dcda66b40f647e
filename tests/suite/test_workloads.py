"""The workloads: names are checked, batches seeded, and every variant does the same work."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.suite import workloads
from benchmarks.suite.compile_counters import count_compilation, runs_by_engine
from benchmarks.suite.peers import PEERS
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import EXPORT, PHASES, VARIANTS, WORKLOADS, Case, make_batch

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

VALID = {"workload": "tiny", "phase": "training", "variant": "eager", "precision": "fp32", "device": "cpu"}


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("workload", WORKLOADS),
        ("phase", PHASES),
        ("variant", VARIANTS),
        ("precision", workloads.PRECISIONS),
        ("device", workloads.DEVICES),
    ],
)
def test_an_unknown_name_lists_the_known_ones(field: str, choices: Any) -> None:
    with pytest.raises(ValueError, match=f"unknown {field} 'nonesuch'") as raised:
        Case(**{**VALID, field: "nonesuch"})
    message = str(raised.value)
    assert "\n" not in message
    assert all(choice in message for choice in choices)


def test_cuda_that_is_not_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="device 'cuda' was asked for and torch sees none") as raised:
        prepare(Case("tiny", "inference", "eager", device="cuda"))
    assert "\n" not in str(raised.value)
    assert workloads.available_devices() == ("cpu",)


def test_a_case_names_itself() -> None:
    case = Case("tiny", "inference", "compiled", "bf16")
    assert str(case) == "tiny-inference-compiled-bf16-cpu"
    assert str(case.as_variant("stock")) == "tiny-inference-stock-bf16-cpu"
    of_any_precision = [variant for variant in VARIANTS if variant not in (*PEERS, EXPORT)]
    assert [variant for variant in of_any_precision if case.as_variant(variant).compiles] == [
        "stock-compiled",
        "compiled",
        "auto",
        "frozen",
        "auto_cpu",
    ]


@pytest.mark.parametrize("name", WORKLOADS)
def test_batches_are_seeded(name: str) -> None:
    workload = WORKLOADS[name]
    batch, same, other = (make_batch(workload, 2, seed=seed) for seed in (0, 0, 1))
    assert list(batch) == [*workload.camera_names, "observation.state", "action", "action_is_pad"]
    for key, value in batch.items():
        assert torch.equal(value, same[key]), key
        assert key == "action_is_pad" or not torch.equal(value, other[key]), key
    for camera in workload.camera_names:
        assert batch[camera].shape == (2, 3, workload.height, workload.width)
    assert batch["observation.state"].shape == (2, workload.state)
    assert batch["action"].shape == (2, workload.chunk, workload.action)
    padding = batch["action_is_pad"]
    assert padding.shape == (2, workload.chunk)
    assert padding.any()
    assert not padding.all()
    assert torch.equal(padding, padding.sort(dim=1).values), "padding is at the chunk's end"


def test_weights_are_seeded() -> None:
    steps = [prepare(Case("tiny", "inference", "eager"), seed=seed) for seed in (0, 0, 1)]
    first, same, other = ([p for _, p in step.policy.named_parameters()] for step in steps)
    assert all(torch.equal(a, b) for a, b in zip(first, same, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize(
    ("phase", "variant"),
    [
        (phase, variant)
        for phase in PHASES
        for variant in VARIANTS
        if variant not in (*PEERS, EXPORT)  # test_peers
        # Each of these is a compile; rollouts and ticks compile what inference does, in the same way.
        if phase in ("inference", "training")
        or (phase, variant) in (("rollout", "compiled"), ("tick", "auto"), ("tick_ensemble", "auto"))
        or not Case("tiny", phase, variant).compiles
    ],
)
@pytest.mark.usefixtures("without_inductor")  # "auto" compiles by itself
def test_a_step_works_in_every_variant(phase: str, variant: str) -> None:
    case = Case("tiny", phase, variant)
    step = prepare(case, batch_size=1, backend="eager")
    with count_compilation() as compilation:
        result = step()
    assert compilation.graphs == (case.compiles and not runs_by_engine(step))
    if phase == "training":
        assert isinstance(result, float)
        return
    workload = WORKLOADS["tiny"]
    chunk = (workload.chunk,) if phase == "inference" else ()
    assert result.shape == (1, *chunk, workload.action)
    expected = prepare(case.as_variant("stock"), batch_size=1)()
    assert (result - expected).abs().max() < 1e-5


@pytest.mark.parametrize("phase", PHASES)
def test_bf16_is_bf16(phase: str) -> None:
    fp32, bf16 = (prepare(Case("tiny", phase, "eager", p), batch_size=1)() for p in ("fp32", "bf16"))
    if phase == "training":
        assert fp32 != bf16
        assert bf16 == pytest.approx(fp32, rel=0.05)
    else:
        assert bf16.dtype == torch.bfloat16
        assert (fp32 - bf16).abs().max() < 0.1


def test_a_training_step_trains() -> None:
    step = prepare(Case("tiny", "training", "eager"), batch_size=2)
    before = {name: parameter.detach().clone() for name, parameter in step.policy.named_parameters()}
    step()
    assert step.policy.training
    changed = [name for name, p in step.policy.named_parameters() if not torch.equal(p, before[name])]
    assert any("backbone" in name for name in changed)
    assert any("vae_encoder" in name for name in changed)
    assert all(parameter.grad is None for parameter in step.policy.parameters()), "cleared for the next"


def test_training_has_lerobots_default_batch() -> None:
    step = prepare(Case("tiny", "training", "eager"))
    assert step.batch["action"].shape[0] == workloads.TRAINING_BATCH == 8


@pytest.mark.parametrize(("phase", "ticks"), [("rollout", 8), ("rollout_ensemble", 1), ("tick", 8)])
def test_a_rollout_step_takes_all_actions_of_its_chunks(phase: str, ticks: int) -> None:
    step = prepare(Case("tiny", phase, "eager"))
    predict = step.policy.predict_action_chunk
    calls = []

    def counted(batch: Any) -> Any:
        calls.append(1)
        return predict(batch)

    step.policy.predict_action_chunk = counted
    for steps in (1, 2):
        step()
        assert len(calls) == steps
    assert step.policy.config.n_action_steps == ticks
    assert len(getattr(step.policy, "_action_queue", ())) == 0


def test_a_tick_takes_one_observation() -> None:
    with pytest.raises(ValueError, match="a tick takes one observation, not 2"):
        prepare(Case("tiny", "tick", "stock"), batch_size=2)


@pytest.mark.parametrize(("variant", "frames"), [("stock", 16), ("auto", 2)])
@pytest.mark.usefixtures("without_inductor")
def test_auto_ticks_as_the_command_does_and_stock_as_lerobot(
    variant: str, frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two cameras, eight ticks a chunk."""
    from lerobot.processor import NormalizerProcessorStep

    step = prepare(Case("tiny", "tick", variant), backend="eager")
    prepared: list[str] = []
    normalise = NormalizerProcessorStep.__call__

    def counted(self: Any, transition: Any) -> Any:
        prepared.extend(name for name in transition["observation"] or () if "image" in name)
        return normalise(self, transition)

    monkeypatch.setattr(NormalizerProcessorStep, "__call__", counted)
    step()
    assert len(prepared) == frames

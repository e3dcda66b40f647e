"""A policy acts with its own weights, whoever wrote them, in every mode and with an artifact.

Graphs are those of ``holding_constants``; ``test_compile_modes`` and ``test_artifact`` ask the same of
Inductor's own.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lerobot_policy_act_compiled import load_artifact
from lerobot_policy_act_compiled.weights import SAMPLES, WHOLE, Weights, can_be_watched, tensors_of

from .compiled_policies import MODES, as_compiled
from .weight_writes import WRITES, Batch

pytestmark = pytest.mark.usefixtures("with_constants")

Make = Callable[..., Any]
ARTIFACT = "frozen, with an artifact"
LOADED = "loaded by load_artifact"
KINDS = (*MODES, ARTIFACT, LOADED)
HOLDING = tuple(mode for mode in ("frozen", "onnxruntime") if mode in MODES)


@pytest.fixture(scope="module")
def make(camera_free_policy: Any, artifact_of_four: Path, tmp_path_factory: pytest.TempPathFactory) -> Make:
    def made(kind: str) -> Any:
        # Its own: a copy of the policy with other weights replaces what it finds there.
        directory = tmp_path_factory.mktemp("of_one_policy") / "artifact"
        shutil.copytree(artifact_of_four, directory)
        if kind == LOADED:
            return load_artifact(copy.deepcopy(camera_free_policy), directory)
        if kind == ARTIFACT:
            return as_compiled(camera_free_policy, "frozen", compile_artifact=str(directory))
        return as_compiled(camera_free_policy, kind)

    return made


def act(policy: Any, batch: Batch, size: int = 4) -> torch.Tensor:
    chunk: torch.Tensor = policy.predict_action_chunk({name: value[:size] for name, value in batch.items()})
    return chunk


NO_CHANGE = ("swapped for a while", "double and back", "deep copy", "pickle")


@pytest.mark.parametrize("mode", HOLDING)
def test_every_write_is_seen_by_what_holds_weights(
    mode: str, make: Make, without_cameras: tuple[Any, Batch]
) -> None:
    stock, batch = without_cameras
    policy, missed = make(mode), []
    before = act(policy, batch)
    for name, write in WRITES.items():
        stock, policy = (write(each, batch) or each for each in (stock, policy))
        expected = act(stock, batch)
        difference = (act(policy, batch) - expected).abs().max() / expected.abs().max()
        if difference > 1e-5:
            missed.append(f"{name}: {difference:.1e} off")
        assert name in NO_CHANGE or (expected - before).abs().max() > 1e-4, f"{name} changes nothing"
        before = expected
    assert not missed


@pytest.mark.parametrize("write", WRITES)
def test_every_write_is_seen_by_a_loaded_artifact(
    write: str, make: Make, without_cameras: tuple[Any, Batch]
) -> None:
    stock, batch = without_cameras
    policy = make(LOADED)
    assert (act(policy, batch) - act(stock, batch)).abs().max() < 1e-5
    stock, policy = (WRITES[write](each, batch) or each for each in (stock, policy))
    assert (act(policy, batch) - act(stock, batch)).abs().max() < 1e-5


class Writes(RuleBasedStateMachine):
    """Random sequences of writes, copies, modes and batch sizes; after each the actions are stock's."""

    make: Callable[[], Any]
    stock_and_batch: tuple[Any, Batch]

    @initialize()
    def begin(self) -> None:
        torch.compiler.reset()
        stock, self.batch = self.stock_and_batch
        self.stock, self.policy, self.size = copy.deepcopy(stock), self.make(), 4

    @rule(write=st.sampled_from(sorted(WRITES)))
    def write(self, write: str) -> None:
        self.stock, self.policy = (
            WRITES[write](each, self.batch) or each for each in (self.stock, self.policy)
        )

    @rule(size=st.integers(2, 4), training=st.booleans(), write=st.sampled_from(sorted(WRITES)))
    def write_and_act_otherwise(self, size: int, training: bool, write: str) -> None:
        self.write(write)
        for each in (self.stock, self.policy):
            each.train(training)
        if "predict_action_chunk" not in vars(self.policy):  # an artifact that was loaded refuses others
            self.size = size

    @invariant()
    def acts_as_stock(self) -> None:
        expected = act(self.stock, self.batch, self.size)
        difference = (act(self.policy, self.batch, self.size) - expected).abs().max()
        assert difference < 1e-5 * max(1.0, float(expected.abs().max()))


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_of_writes(kind: str, make: Make, without_cameras: tuple[Any, Batch]) -> None:
    machine: Any = type(
        "Machine",
        (Writes,),
        {"make": staticmethod(partial(make, kind)), "stock_and_batch": without_cameras},
    )
    holds_constants = kind in (*HOLDING, ARTIFACT)
    machine.TestCase.settings = settings(
        max_examples=3 if holds_constants else 1,
        stateful_step_count=10 if holds_constants else 5,
        deadline=None,
        derandomize=True,  # the same sequences for everybody; another number of them is others
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],  # a shorter sequence would be looked for at a second a step
    )
    machine.TestCase().runTest()


def test_a_few_elements_of_a_large_tensor_through_data_are_what_is_not_seen() -> None:
    """The one write that compile_mode's docstring names; half of the tensor is seen."""
    module = torch.nn.Linear(64, 64)
    weights = Weights(module)
    module.weight.data[0, 1] += 1.0
    assert weights.are_those_of(module)
    module.weight.data[:32] += 1.0
    assert not weights.are_those_of(module)


@pytest.mark.parametrize(
    "made", ["channels last", "a slice", "expanded", "a scalar", "empty", "bf16", "bool"]
)
def test_tensors_of_every_kind_are_watched(made: str) -> None:
    tensors = {
        "channels last": torch.randn(8, 8, 16, 16).to(memory_format=torch.channels_last),
        "a slice": torch.randn(64, 64)[::2, ::2],
        "expanded": torch.randn(1, 64).expand(64, 64),
        "a scalar": torch.tensor(1.0),
        "empty": torch.ones(0),
        "bf16": torch.randn(64, 64).bfloat16(),
        "bool": torch.ones(64, dtype=torch.bool),
    }
    module = torch.nn.Module()
    module.register_buffer("buffer", tensors[made])
    weights = Weights(module)
    assert weights.are_those_of(module)
    if made == "empty":
        return
    changed = ~module.buffer if made == "bool" else module.buffer + 1
    if made == "expanded":
        module.buffer.data[0].copy_(changed[0])
    else:
        module.buffer.data.copy_(changed)
    assert not weights.are_those_of(module)


class Sharded(torch.nn.Parameter):
    """As FSDP's: what it says of itself is not where the values are."""


def test_weights_that_are_no_plain_tensors_become_no_constants(
    make: Make, without_cameras: tuple[Any, Batch]
) -> None:
    stock, batch = without_cameras
    policy = make("frozen")
    assert can_be_watched(policy)
    policy.model.action_head.bias = Sharded(policy.model.action_head.bias.detach())
    assert not can_be_watched(policy)
    assert (act(policy, batch) - act(stock, batch)).abs().max() < 1e-5
    for each in (stock, policy):
        each.model.action_head.bias.data.add_(1.0)
    assert (act(policy, batch) - act(stock, batch)).abs().max() < 1e-5


def test_nan_is_no_change() -> None:
    module = torch.nn.Linear(4, 4)
    with torch.no_grad():
        module.weight.fill_(float("nan"))
    assert Weights(module).are_those_of(module)


def test_what_changed_once_has_changed() -> None:
    module = torch.nn.Linear(4, 4)
    weights, before = Weights(module), module.weight
    module.weight = torch.nn.Parameter(before.detach().clone())
    assert not weights.are_those_of(module)
    module.weight = before
    assert not weights.are_those_of(module), "whoever asks has made it anew"


def test_all_tensors_are_watched_and_large_ones_by_samples(tiny_policy: Make) -> None:
    policy = tiny_policy()
    assert {id(t) for t in tensors_of(policy)} == {id(t) for t in (*policy.parameters(), *policy.buffers())}
    large = [t for t in tensors_of(policy) if t.numel() > WHOLE]
    assert large
    for tensor in large:
        module = torch.nn.Module()
        module.register_buffer("buffer", tensor)
        (values,) = Weights(module)._samples._array_values
        assert SAMPLES <= len(values) <= 2 * SAMPLES

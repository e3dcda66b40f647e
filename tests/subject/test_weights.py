"""A policy acts with its own weights, whoever wrote them, in every mode and with an artifact.

Graphs are those of ``holding_constants``; ``test_compile_modes`` and ``test_artifact`` ask the same of
Inductor's own.
"""

from __future__ import annotations

import copy
import random
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lerobot_policy_act_compiled import load_artifact
from lerobot_policy_act_compiled.weights import SAMPLES, WHOLE, Weights, can_be_watched, tensors_of

from .compiled_policies import MODES, as_compiled, each_mode
from .torch_2_6 import traces_no_subclass
from .weight_writes import WRITES, Batch, compiled_training_step

pytestmark = pytest.mark.usefixtures("with_constants")

Make = Callable[..., Any]
ARTIFACT = "frozen, with an artifact"
LOADED = "loaded by load_artifact"
MADE_ANEW = "AveragedModel"  # its copy has other weights: an artifact of its own would be compiled for 10 s


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


@each_mode
def test_every_write_is_seen_in_any_order(mode: str, make: Make, without_cameras: tuple[Any, Batch]) -> None:
    """The order, train or eval mode and sizes of batches are random, and others for each mode."""
    torch.compiler.reset()
    stock, batch = without_cameras
    policy, missed, chance = make(mode), [], random.Random(mode)  # noqa: S311
    before = act(stock, batch)
    assert (act(policy, batch) - before).abs().max() < 1e-5
    for name in chance.sample(sorted(WRITES), len(WRITES)):
        size, training = chance.randint(2, 4), chance.random() < 0.5
        stock, policy = (WRITES[name](each, batch) or each for each in (stock, policy))
        for each in (stock, policy):
            each.train(training)
        expected = act(stock, batch)
        difference = (act(policy, batch, size) - expected[:size]).abs().max() / expected.abs().max()
        if difference > 1e-5:
            missed.append(f"{name}: {difference:.1e} off")
        assert name in NO_CHANGE or (expected - before).abs().max() > 1e-4, f"{name} changes nothing"
        before = expected
    assert not missed


@pytest.mark.parametrize(
    ("kind", "write"), [(k, w) for k in (ARTIFACT, LOADED) for w in WRITES if (k, w) != (ARTIFACT, MADE_ANEW)]
)
def test_every_write_is_seen_by_an_artifact(
    kind: str, write: str, make: Make, without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", lambda function, **_: function)  # what acts where it does not
    stock, batch = without_cameras
    policy = make(kind)
    assert (act(policy, batch) - act(stock, batch)).abs().max() < 1e-5
    assert kind == LOADED or policy.compiled_by() == {"predict_action_chunk": "artifact"}
    stock, policy = (WRITES[write](each, batch) or each for each in (stock, policy))
    assert (act(policy, batch) - act(stock, batch)).abs().max() < 1e-5


class Watched(RuleBasedStateMachine):
    """Random sequences of writes: what watches the weights never takes other ones for its own."""

    policy_and_batch: tuple[Any, Batch]
    drawn: set[str]

    @initialize()
    def begin(self) -> None:
        policy, self.batch = self.policy_and_batch
        self.policy = copy.deepcopy(policy)
        self.take()

    def take(self) -> None:
        self.weights = Weights(self.policy)
        self.values = [tensor.detach().clone() for tensor in tensors_of(self.policy)]

    @rule(write=st.sampled_from(sorted(WRITES)))
    def write(self, write: str) -> None:
        self.policy = WRITES[write](self.policy, self.batch) or self.policy
        self.drawn.add(write)

    @invariant()
    def same_is_the_same(self) -> None:
        if self.weights.are_those_of(self.policy):
            assert all(map(torch.equal, tensors_of(self.policy), self.values))
        else:
            self.take()


def run(machine: type[RuleBasedStateMachine], sequences: int, steps: int, **attributes: Any) -> set[str]:
    """The writes that were drawn."""
    made: Any = type("Machine", (machine,), {"drawn": set(), **attributes})
    made.TestCase.settings = settings(
        max_examples=sequences,
        stateful_step_count=steps,
        deadline=None,
        derandomize=True,  # the same sequences for everybody
        suppress_health_check=list(HealthCheck),
    )
    made.TestCase().runTest()
    drawn: set[str] = made.drawn
    return drawn


def test_random_sequences_of_writes_are_watched(without_cameras: tuple[Any, Batch]) -> None:
    assert run(Watched, 50, 12, policy_and_batch=without_cameras) == set(WRITES)


class Acts(RuleBasedStateMachine):
    """Random sequences of what users do to a policy, which always acts with the weights that it has then.

    Stock LeRobot with the same weights says what its actions are.
    """

    make: Callable[[], Any]
    stock: Any
    batch: Batch
    drawn: set[str]
    kind: str

    @initialize()
    def begin(self) -> None:
        torch.compiler.reset()  # a code object holds eight graphs at most
        self.policy, self.size = self.make(), 4

    @rule(write=st.sampled_from(sorted(WRITES)))
    def write(self, write: str) -> None:
        if (self.kind, write) != (ARTIFACT, MADE_ANEW):
            self.policy = WRITES[write](self.policy, self.batch) or self.policy
            self.drawn.add(write)

    @rule()
    def learn(self) -> None:
        compiled_training_step(self.policy, self.batch)

    @rule(training=st.booleans())
    def switch(self, training: bool) -> None:
        self.policy.train(training)

    @rule(size=st.integers(2, 4))
    def next_batch(self, size: int) -> None:
        self.size = size if self.kind != LOADED else 4  # which was made for four

    @invariant()
    def acts_with_its_own_weights(self) -> None:
        self.stock.load_state_dict(self.policy.state_dict())
        expected = act(self.stock, self.batch, self.size)
        difference = (act(self.policy, self.batch, self.size) - expected).abs().max()
        assert difference < 1e-5 * max(1.0, float(expected.abs().max()))


# Sequences of eight steps; what compiles at each write takes a second a write.
SEQUENCES = {
    "frozen": 7,
    "captured": 10,
    "default": 8,
    "auto": 10,
    "openvino": 10,
    "onnxruntime": 10,
    LOADED: 40,
    ARTIFACT: 40,
}


@pytest.mark.parametrize("kind", [*MODES, ARTIFACT, LOADED])
def test_its_actions_follow_random_sequences(
    kind: str, make: Make, without_cameras: tuple[Any, Batch], monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind in (ARTIFACT, LOADED):
        monkeypatch.setattr(torch, "compile", lambda function, **_: function)
    stock, batch = without_cameras
    made = staticmethod(lambda: make(kind))
    drawn = run(Acts, SEQUENCES.get(kind, 8), 8, make=made, stock=stock, batch=batch, kind=kind)
    assert len(drawn) > 4, "the test above has all of them, in each mode"


def test_one_element_that_is_written_to_is_counted() -> None:
    module = torch.nn.Linear(64, 64)
    weights = Weights(module)
    with torch.no_grad():
        module.weight[0, 1] += 1.0
    assert not weights.are_those_of(module)


def test_a_fused_step_is_told_by_the_optimizer() -> None:
    """Torch does not count it, and where the gradient is not zero no sample lies."""
    module = torch.nn.Linear(64, 64, bias=False)
    weights, before = Weights(module), module.weight.detach().clone()
    module.weight[0, 1].backward()
    torch.optim.SGD(module.parameters(), lr=0.1, fused=True).step()
    assert (module.weight != before).sum() == 1
    assert not weights.are_those_of(module)


def test_one_thread_may_begin_to_watch_while_another_trains() -> None:
    module, ended, failed = torch.nn.Linear(2, 2), threading.Event(), []
    module(torch.ones(2)).sum().backward()
    optimizer = torch.optim.SGD(module.parameters())

    def train() -> None:
        try:
            while not ended.is_set():
                optimizer.step()
        except RuntimeError as error:
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread = threading.Thread(target=train)
    thread.start()
    kept = [Weights(module) for _ in range(2000)]
    ended.set()
    thread.join()
    sys.setswitchinterval(interval)
    assert kept
    assert not failed


def test_what_leaves_the_samples_of_a_large_tensor_is_what_is_not_seen() -> None:
    """The one write that compile_mode's docstring names, and how much of a tensor it can be in one piece."""
    module = torch.nn.Linear(64, 64)
    weights = Weights(module)
    step = module.weight.numel() // SAMPLES | 1
    module.weight.data.view(-1)[1:step] += 1.0
    assert weights.are_those_of(module)
    module.weight.data.view(-1)[1 : step + 1] += 1.0
    assert not weights.are_those_of(module)


@pytest.mark.parametrize("made", ["channels last", "a part", "a scalar", "empty", "bf16", "bool"])
def test_tensors_of_every_dense_kind_are_watched(made: str) -> None:
    tensors = {
        "channels last": torch.randn(8, 8, 16, 16).to(memory_format=torch.channels_last),
        "a part": torch.randn(64, 64)[8:40],
        "a scalar": torch.tensor(1.0),
        "empty": torch.ones(0),
        "bf16": torch.randn(64, 64).bfloat16(),
        "bool": torch.ones(64, dtype=torch.bool),
    }
    module = torch.nn.Module()
    module.register_buffer("buffer", tensors[made])
    assert can_be_watched(module)
    weights = Weights(module)
    assert weights.are_those_of(module)
    if made == "empty":
        return
    module.buffer.data.copy_(~module.buffer if made == "bool" else module.buffer + 1)
    assert not weights.are_those_of(module)


def test_tensors_that_are_watched_can_be_swapped() -> None:
    """torch refuses where anybody holds a weak reference, as its own compiled graphs do."""
    module, other = torch.nn.Linear(64, 64), torch.nn.Linear(64, 64)
    weights = Weights(module)
    torch.utils.swap_tensors(module.weight, other.weight)
    assert not weights.are_those_of(module)


def test_the_same_memory_in_another_order_is_another_weight() -> None:
    module = torch.nn.Linear(64, 64)
    weights = Weights(module)
    module.weight.data = module.weight.data.t()
    assert not weights.are_those_of(module)


def _in_inference_mode() -> torch.Tensor:
    with torch.inference_mode():
        return torch.ones(4)


@pytest.mark.parametrize(
    "tensor",
    [torch.randn(64, 64)[::2, ::2], torch.randn(1, 64).expand(64, 64), _in_inference_mode()],
    ids=["a slice", "expanded", "made in inference mode"],
)
def test_what_cannot_be_watched_becomes_no_constant(tensor: torch.Tensor) -> None:
    module = torch.nn.Module()
    module.register_buffer("buffer", tensor)
    assert not can_be_watched(module)


class Sharded(torch.nn.Parameter):
    """As FSDP's: what it says of itself is not where the values are."""


@traces_no_subclass
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


def test_an_equal_container_is_no_change_and_another_is() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 2))
    module[0].table = {"layer": (1, [2.0, "feature"])}
    weights = Weights(module)
    module[0].table = {"layer": (1, [2.0, "feature"])}
    assert weights.are_those_of(module)
    module[0].table = {"layer": (1, [3.0, "feature"])}
    assert not weights.are_those_of(module)


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

"""One graph each: no break, no recompile. Traced, or compiled without Inductor: the answers are Dynamo's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from lerobot.utils.constants import OBS_IMAGES
from torch import nn

from benchmarks.suite.compile_counters import count_compilation, trace
from benchmarks.suite.steps import prepare
from benchmarks.suite.workloads import Case
from lerobot_policy_act_compiled import patch_policy

from .compiled_policies import as_compiled, count_made, each_mode, has_a_graph_of_each_size

pytestmark = [pytest.mark.graph_breaks, pytest.mark.usefixtures("fresh_dynamo")]

Make = Callable[..., Any]
# Which function, in which mode. In LeRobot 0.4.4 the loss in eval mode with a VAE is a TypeError.
FUNCTIONS = ("model-train", "model-eval", "predict_action_chunk-eval", "forward-train", "forward-eval")


def function_of(policy: Any, name: str) -> Callable[[Any], Any]:
    name, mode = name.split("-")
    policy.train(mode == "train")
    function: Callable[[Any], Any] = getattr(policy, name)
    return function


def batch_of(batch: dict[str, Any], policy: Any) -> dict[str, Any]:
    return {**batch, OBS_IMAGES: [batch[key] for key in policy.config.image_features]}


def assert_all_graphs_come_first(graphs: int, first: Callable[[], Any], *later: Callable[[], Any]) -> None:
    """The first call compiles so many graphs; what comes after it compiles none."""
    with count_made() as compiled:
        first()
    assert compiled.graphs == graphs
    with count_made() as recompiled:
        for call in later:
            call()
    assert recompiled.graphs == 0, recompiled.recompile_reasons


@pytest.mark.parametrize("name", FUNCTIONS)
def test_is_one_graph(name: str, tiny_policy: Make, tiny_batch: Make) -> None:
    policy = patch_policy(tiny_policy(use_vae=name != "forward-eval"))
    traced = trace(function_of(policy, name), batch_of(tiny_batch(), policy))
    assert traced.graph_breaks == ()
    assert traced.graphs == 1


def test_stock_loss_breaks_where_it_reads_back(tiny_policy: Make, tiny_batch: Make) -> None:
    # Shows that the tests of this file see a break where there is one.
    traced = trace(tiny_policy().train().forward, tiny_batch())
    assert traced.graphs == 3
    assert len(traced.graph_breaks) == 2
    assert all(found.file.endswith("modeling_act.py") for found in traced.graph_breaks)
    assert all("Tensor.item" in found.reason for found in traced.graph_breaks)


@pytest.mark.parametrize(("workload", "most"), [("aloha", 275), ("aloha_3cam", 300)])
def test_inference_captures_few_ops(workload: str, most: int) -> None:
    step = prepare(Case(workload, "inference", "eager"))
    assert trace(step.forward, step.batch).ops <= most


def test_stock_inference_captures_three_times_as_many() -> None:
    # One op per token; aloha has 300 of them.
    step = prepare(Case("aloha", "inference", "stock"))
    assert trace(step.forward, step.batch).ops > 800


@pytest.mark.parametrize("name", ["predict_action_chunk-eval", "forward-train"])
def test_a_dynamic_graph_takes_other_batch_sizes(name: str, tiny_policy: Make, tiny_batch: Make) -> None:
    policy = patch_policy(tiny_policy())
    function = torch.compile(function_of(policy, name), fullgraph=True, dynamic=True, backend="eager")
    assert_all_graphs_come_first(1, *(partial(function, tiny_batch(size)) for size in (2, 3, 5)))


@pytest.mark.parametrize("phase", ["rollout", "rollout_ensemble"])
def test_an_episode_begun_anew_compiles_nothing(phase: str) -> None:
    step = prepare(Case("tiny", phase, "compiled"), backend="eager")
    assert_all_graphs_come_first(1, step, *2 * (step.policy.reset, step, step))


def test_switching_between_train_and_eval_compiles_each_once(tiny_policy: Make, tiny_batch: Make) -> None:
    policy, batch = patch_policy(tiny_policy()), tiny_batch()
    policy.model = torch.compile(policy.model, fullgraph=True, backend="eager")

    def train_and_act() -> None:
        policy.train()
        policy.forward(batch)[0].backward()
        policy.predict_action_chunk(batch)  # sets eval mode

    assert_all_graphs_come_first(2, *3 * (train_and_act,))


@each_mode
@pytest.mark.usefixtures("without_inductor")
def test_the_compiled_policy_ignores_what_it_does_not_read(
    mode: str, without_cameras: tuple[Any, dict[str, Any]]
) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, mode)
    reordered = dict(reversed(batch.items()))
    with_others = {"task": ["fold the shirt"] * 2, **batch, "index": torch.arange(2)}
    others_changed = {**with_others, "task": ["pour tea"] * 2, "timestamp": torch.rand(2)}

    def use(batch: dict[str, Any]) -> None:
        policy.train()
        policy.forward(batch)
        policy.predict_action_chunk(batch)

    batches = (batch, reordered, with_others, others_changed)
    assert_all_graphs_come_first(2, *(partial(use, each) for each in batches))


@each_mode
@pytest.mark.usefixtures("without_inductor")
def test_in_every_mode_training_and_acting_are_one_graph_each(
    mode: str, without_cameras: tuple[Any, dict[str, Any]]
) -> None:
    """By turns, in and out of inference mode, in new episodes; another batch size is one graph more."""
    stock, whole = without_cameras
    policy = as_compiled(stock, mode)

    def use(batch: dict[str, Any]) -> None:
        policy.train()
        policy.forward(batch)[0].backward()
        policy.reset()
        policy.select_action(batch)
        with torch.inference_mode():
            policy.predict_action_chunk({name: value.clone() for name, value in batch.items()})

    counted = []
    for size in (2, 2, 3, 3, 4):
        with count_made() as made:
            use({name: value[:size] for name, value in whole.items()})
        assert not made.graph_breaks
        counted.append(made.graphs)
    assert counted[:4] == [2, 0, 2, 0]
    assert counted[4] == has_a_graph_of_each_size(mode), "torch's graph of the second size takes any other"


def test_eval_reaches_what_torch_scripted(tiny_policy: Make) -> None:
    """torch keeps such a module's flag in C++."""
    policy = patch_policy(tiny_policy())
    policy.model.scripted = torch.jit.script(nn.Sequential(nn.Dropout(0.5)))
    policy.train()
    policy.eval()
    x = torch.ones(1000)
    assert torch.equal(policy.model.scripted(x), x)


class WithItsOwnTrain(nn.Linear):
    """As LoRA layers that merge their weights in eval mode."""

    merged = False

    def train(self, mode: bool = True) -> WithItsOwnTrain:
        self.merged = not mode
        return super().train(mode)


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_call_in_train_mode_sets_eval_mode_without_a_graph_of_its_own(
    tiny_policy: Make, tiny_batch: Make
) -> None:
    policy, batch = patch_policy(tiny_policy().eval()), tiny_batch()
    policy.model.action_head.__class__ = WithItsOwnTrain
    expected = policy.predict_action_chunk(batch)
    predict = torch.compile(policy.predict_action_chunk, fullgraph=True, backend="eager")
    predict(batch)
    with count_compilation() as later:
        for part in (policy, policy.model.encoder, policy.model.decoder.layers[0].dropout):
            part.train()
            policy.model.action_head.merged = False
            torch.testing.assert_close(predict(batch), expected)
            assert not any(module.training for module in policy.modules())
            assert policy.model.action_head.merged
    assert later.graphs == 0, later.recompile_reasons


class PolicyWithItsOwnTrain(ACTPolicy):
    def train(self, mode: bool = True) -> PolicyWithItsOwnTrain:
        self.asked = mode
        return super().train(mode)


@pytest.mark.usefixtures("fresh_dynamo")
def test_a_policys_own_train_is_called_in_a_graph(tiny_policy: Make, tiny_batch: Make) -> None:
    policy = patch_policy(PolicyWithItsOwnTrain(tiny_policy().config))
    policy.train()
    torch.compile(policy.predict_action_chunk, fullgraph=True, backend="eager")(tiny_batch())
    assert policy.asked is False
    assert not any(module.training for module in policy.modules())

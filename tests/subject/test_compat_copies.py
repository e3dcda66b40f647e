"""Pickles and deep copies: they work, and act and train as what they were made from."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACT, ACTPolicy

from lerobot_policy_act_compiled import patch_lerobot, patch_policy

from .compiled_policies import MODES, as_compiled

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("fresh_dynamo")]

Make = Callable[..., Any]


class DoublingACT(ACT):
    """Somebody's model: pickles find a class by its module's name, so it cannot be local."""

    def forward(self, batch: dict[str, Any]) -> Any:
        actions, posterior = super().forward(batch)
        return 2 * actions, posterior


class HalvingPolicy(ACTPolicy):
    """Somebody's policy over somebody's model."""

    name = "halving"

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(config, **kwargs)
        self.model = DoublingACT(config)

    def forward(self, batch: dict[str, Any], *args: Any, **kwargs: Any) -> Any:
        loss, parts = super().forward(batch, *args, **kwargs)
        return 0.5 * loss, {**parts, "half": 0.5, "twice": 2 * parts["l1_loss"]}


def remake_by_pickle(policy: Any) -> Any:
    return pickle.loads(pickle.dumps(policy))


def compiled_model(policy: Any) -> Any:
    policy.model = torch.compile(policy.model, backend="eager")
    return policy


MAKERS: dict[str, Callable[[Any], Any]] = {
    "patched": patch_policy,
    "patched-subclass": lambda policy: patch_policy(HalvingPolicy(policy.config)),
    "compiled-model": lambda policy: compiled_model(patch_policy(policy)),
    "compiled-subclass": lambda policy: compiled_model(patch_policy(HalvingPolicy(policy.config))),
    **{f"act_compiled-{mode}": partial(as_compiled, mode=mode) for mode in MODES},
}


@pytest.mark.usefixtures("without_inductor")
@pytest.mark.parametrize("remake", [remake_by_pickle, copy.deepcopy], ids=["pickle", "deepcopy"])
@pytest.mark.parametrize("kind", MAKERS)
def test_a_copy_acts_and_trains_and_is_another(
    kind: str, remake: Callable[[Any], Any], tiny_policy: Make, tiny_batch: Make
) -> None:
    policy, batch = MAKERS[kind](tiny_policy(dropout=0.0)), tiny_batch(1)
    action = policy.select_action(batch)  # compiles what is compiled; fills the queue
    made = remake(policy)

    assert type(made) is type(policy)
    assert type(made._modules["model"]) is type(policy._modules["model"])
    assert list(made.state_dict()) == list(policy.state_dict())
    shared = {id(p) for p in policy.parameters()} & {id(p) for p in made.parameters()}
    assert not shared
    assert len(made._action_queue) == len(policy._action_queue)
    assert torch.equal(made.select_action(batch), policy.select_action(batch)), "the copied queue goes on"
    made.reset()
    assert (made.select_action(batch) - action).abs().max() < 1e-6
    if kind.startswith(("compiled", "act_compiled")):
        return  # a training step would be one compile more for each

    losses = []
    for each in (policy, made):
        each.train()
        torch.manual_seed(0)
        loss, _ = each.forward(batch)
        loss.backward()
        losses.append(loss.item())
    assert losses[0] == losses[1]
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    policy.reset()
    assert (policy.select_action(batch) - action).abs().max() < 1e-6, "the original is untouched"


def test_a_patched_subclass_keeps_its_own_methods(tiny_policy: Make, tiny_batch: Make) -> None:
    config, batch = tiny_policy(dropout=0.0).config, tiny_batch()

    def results(policy: Any) -> tuple[Any, float, dict[str, float]]:
        torch.manual_seed(0)
        loss, parts = policy.train().forward(batch)
        return policy.predict_action_chunk(batch), loss.item(), dict(parts)

    stock = HalvingPolicy(config)
    expected = results(stock)
    patched = patch_policy(copy.deepcopy(stock))
    assert isinstance(patched, HalvingPolicy)
    assert isinstance(patched.model, DoublingACT)
    with patch_lerobot():
        process_wide = results(stock)
    for actions, loss, parts in (results(patched), process_wide):
        assert (actions - expected[0]).abs().max() < 1e-5
        assert loss == pytest.approx(expected[1], abs=1e-5)
        assert parts == pytest.approx(expected[2], abs=1e-5)
    patched.train()
    torch.manual_seed(0)
    _, parts = torch.compile(patched.forward, fullgraph=True, backend="eager")(batch)
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(expected[2], abs=1e-5)


def test_a_copy_of_a_compiled_policy_has_its_own_weights(
    without_inductor: None,  # noqa: ARG001
    tiny_policy: Make,
    tiny_batch: Make,
) -> None:
    policy, batch = as_compiled(tiny_policy()), tiny_batch()
    policy.predict_action_chunk(batch)
    made = copy.deepcopy(policy)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.zero_()
    assert (made.predict_action_chunk(batch) == 0).all()
    assert (policy.predict_action_chunk(batch) != 0).any()

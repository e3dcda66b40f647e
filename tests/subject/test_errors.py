"""A bad batch gets LeRobot's own error, compiled or not: nothing here answers before LeRobot would."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import patch_policy

from .compiled_policies import as_compiled, each_mode

pytestmark = [pytest.mark.compat, pytest.mark.usefixtures("fresh_dynamo")]

Make = Callable[..., Any]
Batch = dict[str, Any]
CAMERA, STATE = "observation.images.camera1", "observation.state"

ACT_AND_TRAIN = ("predict_action_chunk", "forward")
TRAIN = ("forward",)
BAD: dict[str, tuple[tuple[str, ...], Callable[[Batch], Batch]]] = {
    "no_camera": (ACT_AND_TRAIN, lambda batch: without(batch, CAMERA)),
    "no_state": (ACT_AND_TRAIN, lambda batch: without(batch, STATE)),
    "no_action": (TRAIN, lambda batch: without(batch, "action")),
    "no_action_is_pad": (TRAIN, lambda batch: without(batch, "action_is_pad")),
    "state_too_wide": (ACT_AND_TRAIN, lambda batch: {**batch, STATE: torch.zeros(2, 9)}),
    "image_of_one_channel": (ACT_AND_TRAIN, lambda batch: {**batch, CAMERA: torch.zeros(2, 1, 64, 64)}),
    "chunk_too_short": (TRAIN, lambda batch: {**batch, "action": torch.zeros(2, 5, 3)}),
    "action_too_wide": (TRAIN, lambda batch: {**batch, "action": torch.zeros(2, 8, 4)}),
    "state_elsewhere": (ACT_AND_TRAIN, lambda batch: {**batch, STATE: batch[STATE].to("meta")}),
    "image_elsewhere": (ACT_AND_TRAIN, lambda batch: {**batch, CAMERA: batch[CAMERA].to("meta")}),
}
CASES = [
    pytest.param(call, spoil, id=f"{name}-{call}") for name, (calls, spoil) in BAD.items() for call in calls
]


def without(batch: Batch, key: str) -> Batch:
    return {name: value for name, value in batch.items() if name != key}


def error_of(policy: Any, call: str, batch: Batch) -> Exception:
    policy.train(call == "forward")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one it is, is what is asked
        getattr(policy, call)(batch)
    return raised.value


@pytest.fixture(scope="module")
def stock(tiny_policy: Make) -> Any:
    return tiny_policy()


@pytest.mark.parametrize(("call", "spoil"), CASES)
def test_patched(call: str, spoil: Callable[[Batch], Batch], stock: Any, tiny_batch: Make) -> None:
    bad = spoil(tiny_batch())
    expected = error_of(stock, call, bad)
    error = error_of(patch_policy(copy.deepcopy(stock)), call, bad)
    assert type(error) is type(expected)
    assert str(error) == str(expected)


@each_mode
@pytest.mark.usefixtures("without_inductor")
def test_act_compiled(mode: str, stock: Any, tiny_batch: Make) -> None:
    policy, wrong = as_compiled(stock, mode), []
    for name, (calls, spoil) in BAD.items():
        bad = spoil(tiny_batch())
        for call in calls:
            expected, error = (error_of(each, call, bad) for each in (stock, policy))
            if (type(error), str(error)) != (type(expected), str(expected)):
                wrong.append(f"{name} in {call}: {error!r}, and LeRobot says {expected!r}")
    assert not wrong


@pytest.mark.parametrize(("call", "spoil"), CASES)
def test_compiled_model(call: str, spoil: Callable[[Batch], Batch], stock: Any, tiny_batch: Make) -> None:
    # Dynamo finds a wrong shape while tracing and raises an error of its own over the same one.
    bad = spoil(tiny_batch())
    expected = error_of(stock, call, bad)
    policy = patch_policy(copy.deepcopy(stock))
    policy.model = torch.compile(policy.model, backend="eager")
    assert isinstance(error_of(policy, call, bad), type(expected))


@pytest.mark.parametrize("call", ACT_AND_TRAIN)
def test_a_camera_of_another_batch_size(call: str, stock: Any, tiny_batch: Make) -> None:
    # Stock stacks tokens where we concatenate cameras: torch's error in torch's words for each.
    bad = {**tiny_batch(), CAMERA: torch.zeros(3, 3, 64, 64)}
    assert type(error_of(patch_policy(copy.deepcopy(stock)), call, bad)) is type(error_of(stock, call, bad))

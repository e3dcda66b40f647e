"""patch_lerobot, unpatch_lerobot and patch_policy: what they change, what they leave, what they refuse."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACT, ACTDecoderLayer, ACTEncoderLayer, ACTPolicy
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from benchmarks.suite.step_counters import dispatched
from lerobot_policy_act_compiled import patch_lerobot, patch_policy, unpatch_lerobot
from lerobot_policy_act_compiled.loss import LossParts
from lerobot_policy_act_compiled.releases import torch_is_at_least

Make = Callable[..., Any]
PATCHED = (ACT, ACTPolicy, ACTEncoderLayer, ACTDecoderLayer, FrozenBatchNorm2d)


def contents() -> list[dict[str, Any]]:
    return [dict(vars(cls)) for cls in PATCHED]


@pytest.fixture(autouse=True)
def _not_patched() -> Iterator[None]:
    before = contents()
    yield
    unpatch_lerobot()
    assert contents() == before, "LeRobot stayed changed"


@pytest.fixture(scope="module")
def ops(tiny_batch: Make) -> Callable[[Any], int]:
    """Return a counter of the operators a policy dispatches: what tells our code from stock's."""

    def count(policy: Any) -> int:
        batch = tiny_batch()
        policy.predict_action_chunk(batch)  # makes what is made once
        return dispatched(lambda: policy.predict_action_chunk(batch)).ops

    return count


@pytest.fixture(scope="module")
def stock_ops(ops: Make, tiny_policy: Make) -> int:
    return int(ops(tiny_policy()))


def test_the_patch_reaches_policies_made_before_and_after(
    tiny_policy: Make, ops: Make, stock_ops: int
) -> None:
    before = tiny_policy()
    patch_lerobot()
    after = tiny_policy()
    assert type(after) is ACTPolicy
    assert ops(before) == ops(after) < 0.95 * stock_ops
    unpatch_lerobot()
    assert ops(before) == ops(after) == stock_ops


def test_it_is_exact_and_idempotent() -> None:
    before = contents()
    patch_lerobot()
    patched = contents()
    assert patched != before
    patch_lerobot()
    assert contents() == patched
    unpatch_lerobot()
    assert contents() == before
    unpatch_lerobot()
    assert contents() == before


def test_a_with_block_ends_the_patch_it_began() -> None:
    before = contents()
    with patch_lerobot():
        patched = contents()
        assert patched != before
        with patch_lerobot():
            assert contents() == patched
        assert contents() == patched, "the inner block did not begin it"
    assert contents() == before

    patch_lerobot()
    with patch_lerobot():
        pass
    assert contents() == patched, "it was in force before the block"


def test_an_exception_ends_the_block_too() -> None:
    before = contents()
    with pytest.raises(KeyError), patch_lerobot():
        raise KeyError
    assert contents() == before


def test_unpatch_says_what_somebody_else_changed(caplog: pytest.LogCaptureFixture) -> None:
    before = contents()
    patch_lerobot()
    ACT.forward = lambda _self, batch: batch
    unpatch_lerobot()
    assert contents() == before
    assert "ACT.forward was changed by somebody else" in caplog.text


def test_patch_policy_keeps_the_object_and_its_parameters(
    tiny_policy: Make, ops: Make, stock_ops: int
) -> None:
    policy = tiny_policy()
    parameters = dict(policy.named_parameters())
    buffers = dict(policy.named_buffers())
    assert patch_policy(policy) is policy
    patched_class = type(policy)
    assert patch_policy(policy) is policy
    assert type(policy) is patched_class
    assert isinstance(policy, ACTPolicy)
    for kept, now in ((parameters, policy.named_parameters()), (buffers, policy.named_buffers())):
        assert [(name, id(value)) for name, value in kept.items()] == [(n, id(v)) for n, v in now]
    assert ops(policy) < 0.95 * stock_ops
    assert ops(tiny_policy()) == stock_ops, "other policies stay as they are"


def test_no_attention_weights_are_asked_for(tiny_policy: Make, tiny_batch: Make) -> None:
    # Nothing of ACT reads them; making them rules out fused attention.
    policy, weights = patch_policy(tiny_policy()), []
    for module in policy.modules():
        if isinstance(module, nn.MultiheadAttention):
            module.register_forward_hook(lambda _module, _args, output: weights.append(output[1]))
    policy.train().forward(tiny_batch())
    assert len(weights) == 4, "the VAE's encoder, the encoder, and two in the decoder"
    assert weights == [None] * 4


def test_a_model_compiled_before_patch_policy_gets_clean_keys(tiny_policy: Make) -> None:
    policy = tiny_policy()
    expected = list(policy.state_dict())
    policy.model = torch.compile(policy.model, backend="eager")
    assert any("_orig_mod" in key for key in policy.state_dict()), "stock's keys; else this tests nothing"
    compiled = policy.model
    patch_policy(policy)
    assert list(policy.state_dict()) == expected
    assert policy.model is compiled


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda _: nn.Linear(1, 1), r"needs a LeRobot ACTPolicy \(policy type 'act'\), not Linear"),
        (lambda policy: policy.model, r"needs a LeRobot ACTPolicy \(policy type 'act'\), not ACT"),
        (lambda _: None, r"needs a LeRobot ACTPolicy \(policy type 'act'\), not NoneType"),
        (lambda policy: torch.compile(policy), "patch the policy first, then torch.compile it"),
    ],
    ids=["linear", "model", "none", "compiled-policy"],
)
def test_patch_policy_refuses(make: Callable[[Any], Any], message: str, tiny_policy: Make) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        patch_policy(make(tiny_policy()))
    assert "\n" not in str(raised.value)


@pytest.fixture
def parts() -> LossParts:
    return LossParts({"l1_loss": torch.tensor(0.5), "kld_loss": torch.tensor(2.0)})


FLOATS = {"l1_loss": 0.5, "kld_loss": 2.0}


def test_loss_parts_read_as_floats(parts: LossParts) -> None:
    reads = [
        dict(parts),
        {**parts},
        dict(parts.items()),
        dict(zip(parts.keys(), parts.values(), strict=True)),
        {name: parts[name] for name in parts},
        {name: parts.get(name) for name in parts},
        {} | parts,
        parts | {},
        parts.copy(),
        json.loads(json.dumps(parts)),
        pickle.loads(pickle.dumps(parts)),
        copy.copy(parts),
        copy.deepcopy(parts),
    ]
    for read in reads:
        assert list(read) == list(FLOATS)
        assert all(type(read[name]) is float for name in read)
        assert all(type(value) is float for value in read.values())
        assert read == FLOATS
    logged: dict[str, float] = {}
    logged.update(parts)
    assert all(type(value) is float for value in logged.values())
    assert parts == FLOATS
    assert not parts != FLOATS  # noqa: SIM202 - != is what is asked about
    assert parts != {}
    assert len(parts) == 2
    assert "l1_loss" in parts
    assert repr(parts) == str(parts) == repr(FLOATS)


def test_loss_parts_without_a_value(parts: LossParts) -> None:
    assert parts.get("nonesuch") is None
    assert parts.get("nonesuch", 1.0) == 1.0
    assert parts.pop("nonesuch", None) is None
    with pytest.raises(KeyError, match="nonesuch"):
        parts["nonesuch"]
    taken = parts.pop("l1_loss")
    assert type(taken) is float
    assert list(parts) == ["kld_loss"]


def test_a_graph_reads_loss_parts_as_tensors(parts: LossParts, monkeypatch: pytest.MonkeyPatch) -> None:
    # torch 2.7 and 2.8 trace the method; newer ones read a dict's items without it.
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert isinstance(parts["l1_loss"], torch.Tensor)
    assert list(parts) == ["l1_loss", "kld_loss"]


def test_a_compiled_forward_gives_loss_parts(tiny_policy: Make, tiny_batch: Make) -> None:
    policy = patch_policy(tiny_policy(dropout=0.0).train())
    forward = torch.compile(policy.forward, fullgraph=True, backend="eager")
    torch.manual_seed(0)
    loss, parts = forward(tiny_batch())
    torch.manual_seed(0)
    expected_loss, expected = policy.forward(tiny_batch())
    assert {name: float(part) for name, part in parts.items()} == pytest.approx(expected, abs=1e-6)
    # torch 2.6 takes no subclass of dict into a graph.
    kinds = float if torch_is_at_least("2.7") else torch.Tensor
    assert all(type(value) is kinds for value in parts.values())
    # Of 16.4; with AMX the two differ by one unit in the last place, 1.2e-7 of it.
    assert loss.item() == pytest.approx(expected_loss.item(), rel=2.5e-7)

"""Strides of Inductor's indices: torch's own answers, for less."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import sympy
from torch._inductor.codegen import cpp
from torch.utils._sympy.functions import FloorDiv, ModularIndexing

from lerobot_policy_act_compiled import index_strides, patch_policy

D0, D1, D2, D3 = VARIABLES = sympy.symbols("d0:4", integer=True, nonnegative=True)


def pooled(x: Any) -> Any:
    """An index of max pooling's backward pass."""
    return sympy.Min(FloorDiv(x, 2), sympy.Min(24, FloorDiv(x + 1, 2) + 1) - 1)


INDICES = [
    36864 * D0 + D3 + 1536 * pooled(D1) + 64 * pooled(D2),
    64 * FloorDiv(D0, 8)
    + 704 * FloorDiv(D1, 64)
    + 5632 * ModularIndexing(D0, 1, 8)
    + ModularIndexing(D1, 1, 64),
    102 * D0 + D1,
    D0 * D1 + D1 * D2 + 7,
    ModularIndexing(D0 + 4 * D1, 1, 16) + FloorDiv(D0 + 4 * D1, 16) * 32,
    FloorDiv(D2, 16) + 3 * ModularIndexing(D2, 1, 32),
    D3,
    4 * (D0 + D1),
    sympy.Integer(3),
]


@pytest.fixture
def torchs_own(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """torch's functions, in place until the test asks for ours; put back as they were."""
    found = {}
    for name in index_strides.KNOWN:
        function = getattr(cpp, name)
        found[name] = getattr(function, "of_moving_terms", function)
        monkeypatch.setattr(cpp, name, found[name])
    return found


@pytest.mark.parametrize("index", INDICES, ids=str)
def test_the_answers_are_torchs(index: Any, torchs_own: dict[str, Any]) -> None:
    asked = [(var, *length) for var in VARIABLES for length in ((), (8,), (16,))]
    expected = [torchs_own["stride_at_vec_range"](index, *each) for each in asked]
    alone = [torchs_own["stride_at"](index, var) for var in VARIABLES]
    index_strides.of_moving_terms()
    assert cpp.stride_at is not torchs_own["stride_at"]
    assert [cpp.stride_at_vec_range(index, *each) for each in asked] == expected
    assert [cpp.stride_at(index, var) for var in VARIABLES] == alone


def test_a_variable_that_is_a_sum_is_left_to_torch(torchs_own: dict[str, Any]) -> None:
    """None of its terms holds it."""
    asked = D0 + 1, D0 + 1
    expected = torchs_own["stride_at_vec_range"](*asked)
    index_strides.of_moving_terms()
    assert cpp.stride_at_vec_range(*asked) == expected == 1


@pytest.mark.usefixtures("torchs_own")
def test_what_does_not_move_is_not_simplified(monkeypatch: pytest.MonkeyPatch) -> None:
    simplify, seen = sympy.simplify, []

    def watched(index: Any) -> Any:
        seen.append(index)
        return simplify(index)

    monkeypatch.setattr(sympy, "simplify", watched)
    index_strides.of_moving_terms()
    asked = sympy.Symbol("asked", integer=True)  # in no cache
    assert cpp.stride_at_vec_range(11 * D0 + asked + 13 * pooled(D1) + 17 * pooled(D2), asked, 16) == 1
    assert seen
    assert not any(each.has(sympy.Min) for each in seen)


def test_a_policy_that_is_made_compile_friendly_asks_so(
    camera_free_policy: Any, torchs_own: dict[str, Any]
) -> None:
    patch_policy(copy.deepcopy(camera_free_policy))
    ours = cpp.stride_at
    assert ours is not torchs_own["stride_at"]
    index_strides.of_moving_terms()
    assert cpp.stride_at is ours


def test_a_torch_whose_functions_are_others_is_left_alone(
    torchs_own: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stride_at(var: Any, index: Any) -> None: ...

    monkeypatch.setattr(cpp, "stride_at", stride_at)
    index_strides.of_moving_terms()
    assert cpp.stride_at is stride_at
    monkeypatch.delattr(cpp, "stride_at")
    index_strides.of_moving_terms()
    assert cpp.stride_at_vec_range is torchs_own["stride_at_vec_range"]

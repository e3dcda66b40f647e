"""Counters and outputs are compared without statistics; less is better, and a graph break always red."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.gate.comparison import (
    AUTO_ON_CUDA,
    COUNTERS,
    MOST_PLACES,
    OF_AUTO,
    Finding,
    compare_actions,
    compare_auto,
    compare_counts,
    compare_learning,
    describe,
    explanations,
)

from .fake_worker import COUNTS

CASE = "aloha-inference"


def counts(**changed: Any) -> dict[str, Any]:
    return {**COUNTS, **changed}


def test_equal_counts_find_nothing() -> None:
    assert compare_counts(CASE, counts(), counts()) == []


@pytest.mark.parametrize("name", [name for name in COUNTERS if name != "graph_breaks"])
def test_every_counter_is_compared(name: str) -> None:
    old, new = counts(**{name: 1000}), counts(**{name: 1010})
    (worse,), (better,) = compare_counts(CASE, old, new), compare_counts(CASE, new, old)
    assert (worse.what, worse.base, worse.head, worse.red) == (COUNTERS[name], 1000, 1010, True)
    assert not better.red


@pytest.mark.parametrize("name", AUTO_ON_CUDA)
def test_a_base_without_auto_has_none_of_its_counters(name: str) -> None:
    assert compare_counts(CASE, counts(), counts(**{name: 7})) == []
    (found,) = compare_counts(CASE, counts(**{name: 2}), counts(**{name: 3}))
    assert explanations([found], "aloha-tick_ensemble", "auto") == [f"{COUNTERS[name]} 2 → 3"]


def test_a_graph_break_is_red_even_where_base_has_it() -> None:
    broken = counts(graph_breaks=["m.py:7: .item()"], kernels=None)
    (found,) = compare_counts(CASE, broken, broken)
    assert found.red
    assert describe(found) == "graph breaks 1 → 1 (m.py:7: .item())"
    (mended,) = compare_counts(CASE, broken, counts())
    assert (mended.red, mended.head) == (False, 0)


def test_a_report_has_room_for_any_number_of_graph_breaks() -> None:
    broken = counts(graph_breaks=[f"m.py:{line}: .item()" for line in range(500)], kernels=None)
    found = compare_counts(CASE, counts(), broken)
    assert len(found) == MOST_PLACES
    assert {(each.red, each.head) for each in found} == {(True, 500)}


def test_a_counter_that_one_side_lacks_is_an_error_not_a_zero() -> None:
    with pytest.raises(ValueError, match="Inductor kernels is known of one side only"):
        compare_counts(CASE, counts(), counts(kernels=None))


def test_what_explains_what() -> None:
    findings = [
        Finding(CASE, "Inductor kernels", 90, 99, True),
        Finding(CASE, "ops dispatched in eager", 500, 501, True),
        Finding("pusht-inference", "FLOPs", 1, 2, True),
    ]
    assert explanations(findings, CASE, "compiled") == ["Inductor kernels 90 → 99"]
    assert explanations(findings, CASE, "eager") == ["ops dispatched in eager 500 → 501"]
    of_auto = Finding("tiny-inference", "ops dispatched in a tick of auto", 9, 11, True)
    assert explanations([*findings, of_auto], "pusht-tick_ensemble", "auto") == [describe(of_auto)]
    assert explanations([of_auto], "tiny-inference", "compiled") == []


def actions(eager: list[float], compiled: list[float] | None = None, **keys: list[int]) -> dict[str, Any]:
    return {"values": {"eager": eager, "compiled": compiled or eager}, "state_dict": keys or {"w": [1]}}


@pytest.mark.parametrize(
    ("head", "what"),
    [
        (actions([0.5, 0.5]), []),
        (actions([0.5, 0.5 + 9e-6]), []),
        (actions([0.5, 0.5 + 2e-5]), ["eager actions, head against base"]),
        (actions([0.5]), ["eager actions, head against base"]),
        (
            actions([0.5, float("nan")]),
            ["eager actions, head against base", "compiled actions against eager"],
        ),
        (actions([0.5, 0.5], [0.5, 0.6]), ["compiled actions against eager"]),
        (actions([0.5, 0.5], w=[2]), ["state_dict"]),
        (actions([0.5, 0.5], w=[1], v=[1]), ["state_dict"]),
    ],
)
def test_actions(head: dict[str, Any], what: list[str]) -> None:
    findings = compare_actions(CASE, actions([0.5, 0.5]), head)
    assert [finding.what for finding in findings] == what
    assert all(finding.red for finding in findings)


def learning(eager: dict[str, float], compiled: dict[str, float] | None = None) -> dict[str, Any]:
    return {"values": {"eager": eager, "compiled": compiled or eager}}


GRADIENT = {"loss": 2.0, "norm of w's gradient": 10.0, "direction of w's gradient": 1e-9}


@pytest.mark.parametrize(
    ("changed", "red"),
    [
        ({}, False),
        ({"loss": 2.0 + 1e-7}, False),
        ({"loss": 2.0 + 1e-5}, True),
        ({"norm of w's gradient": 9.99}, True),
        # The product of nearly orthogonal vectors is near zero: its scale is the gradient's.
        ({"direction of w's gradient": 2e-9}, False),
        ({"direction of w's gradient": 1e-4}, True),
    ],
)
def test_learning(changed: dict[str, float], red: bool) -> None:
    findings = compare_learning("tiny-training", learning(GRADIENT), learning({**GRADIENT, **changed}))
    assert bool(findings) == red


def test_a_parameter_that_lost_its_gradient() -> None:
    without = {"loss": 2.0}
    (found,) = compare_learning("tiny-training", learning(GRADIENT), learning(without))
    assert found.what == "loss and gradients, head against base"
    (found,) = compare_learning("tiny-training", learning(GRADIENT), learning(GRADIENT, without))
    assert found.what == "loss and gradients, compiled against eager"


def auto(acted: list[float] | None = None, **changed: Any) -> dict[str, Any]:
    values = {"a write": {"eager": [0.5, 0.25], "auto": acted or [0.5, 0.25]}}
    return {"counts": {**dict.fromkeys(OF_AUTO, 1), **changed}, "values": values}


NO_AUTO: dict[str, Any] = {"counts": {}, "values": {}}


@pytest.mark.parametrize("name", OF_AUTO)
def test_every_counter_of_auto_is_compared(name: str) -> None:
    assert compare_auto("tiny-inference", auto(), auto()) == []
    (worse,) = compare_auto("tiny-inference", auto(), auto(None, **{name: 2}))
    assert (worse.what, worse.base, worse.head, worse.red) == (OF_AUTO[name], 1, 2, True)
    assert not worse.broken  # it can be accepted
    (better,) = compare_auto("tiny-inference", auto(), auto(None, **{name: 0}))
    assert not better.red


def test_without_an_engine_there_is_less_to_count() -> None:
    by_torch = auto(auto_by_torch=2)
    del by_torch["counts"]["auto_tick_ops"]
    (found,) = compare_auto("tiny-inference", auto(), by_torch)
    assert describe(found) == "action chunks of auto without an engine 1 → 2"


@pytest.mark.parametrize("acted", [[0.5, 0.26], [0.5], [0.5, float("nan")]])
def test_stale_actions_are_red_whatever_base_does(acted: list[float]) -> None:
    for base in (auto(), auto(acted), NO_AUTO):
        (found,) = compare_auto("tiny-inference", base, auto(acted))
        assert (found.what, found.red, found.broken) == ("actions of auto after a write", True, True)


def test_a_commit_that_loses_the_mode() -> None:
    (found,) = compare_auto("tiny-inference", auto(), NO_AUTO)
    assert found.red
    assert describe(found) == "auto: head does not know this mode"
    assert compare_auto("tiny-inference", NO_AUTO, NO_AUTO) == []
    assert compare_auto("tiny-inference", NO_AUTO, auto()) == []

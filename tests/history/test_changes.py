"""Where a figure's history changes: found where there is a step, and nothing where there is chance only."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.history import detection
from benchmarks.history.changes import Change, Series, steps
from benchmarks.markdown import table
from benchmarks.repository import ROOT

TIME = "inference.Inference.time_predict_action_chunk('aloha')"


def history(*levels: tuple[int, float], noise: float = 0.02, seed: int = 0) -> list[float]:
    chance = np.random.default_rng(seed)
    return [
        level * float(np.exp(noise * chance.standard_normal()))
        for count, level in levels
        for _ in range(count)
    ]


def test_two_steps_are_found_at_their_places() -> None:
    values = history((10, 1.0), (10, 1.3), (10, 0.9))
    assert steps(values) == [10, 20]
    series = Series(TIME, "vm", tuple(range(30)), tuple(values))
    worse, better = series.changes()
    assert (worse.at, better.at) == (10, 20)
    assert worse.before < worse.after
    assert worse.after == better.before == pytest.approx(1.3, rel=0.02)


def test_chance_alone_is_no_step() -> None:
    """One of a thousand may be, each asked once."""
    assert sum(bool(steps(history((30, 1.0), noise=0.08, seed=seed))) for seed in range(300)) <= 2


def test_one_slow_night_is_no_step() -> None:
    values = history((10, 1.0), (1, 2.0), (10, 1.0))
    assert steps(values) == []
    assert steps(values[:11]) == [], "nor while it is the newest"


def test_a_small_change_counts_of_what_is_exact_only() -> None:
    flat, more = (1000.0,) * 6, (1004.0,) * 6
    for name, found in (
        ("inference.InferenceCounts.track_ops_captured('aloha')", [Change(6, 1000.0, 1004.0)]),
        ("inference.InferenceCounts.track_peak_memory_eager('aloha')", []),
        (TIME, []),
    ):
        assert Series(name, "vm", tuple(range(12)), flat + more).changes() == found


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, 2.0], [0.0] * 20, [1.0] * 20])
def test_what_has_no_scatter_has_no_step(values: list[float]) -> None:
    assert steps(values) == []


def test_the_guide_has_the_figures_of_the_recorded_launches() -> None:
    name, (_, method) = next(iter(detection.METHODS.items()))
    row = table((), [detection.row(name, method, detection.launches())]).splitlines()[-1]
    assert row in (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")

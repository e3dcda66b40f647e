"""What asv finds in the suite: a benchmark's history ends where its name, parameters or version change."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from benchmarks.repository import ROOT

from ..asv_results import PUBLISHED

pytest.importorskip("asv_runner")

DISCOVER = """
import sys
from asv_runner.discovery import list_benchmarks
with open(sys.argv[2], "w") as file:
    list_benchmarks(sys.argv[1], file)
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What asv's own discovery writes down, in a process that sees the suite by itself as asv's do."""
    place = tmp_path_factory.mktemp("discovered")
    benchmark_dir = ROOT / json.loads((ROOT / "asv.conf.json").read_text())["benchmark_dir"]
    command = [sys.executable, "-c", DISCOVER, str(benchmark_dir), str(place / "found.json")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    subprocess.run(command, cwd=place, env=environment, check=True, timeout=120)
    listed: list[dict[str, Any]] = json.loads((place / "found.json").read_text())
    return listed


def test_every_published_history_goes_on(found: list[dict[str, Any]]) -> None:
    assert sorted(benchmark["name"] for benchmark in found) == sorted(PUBLISHED), "each once, no base class"
    for benchmark in found:
        expected = {key: value for key, value in PUBLISHED[benchmark["name"]].items() if key != "code"}
        assert {key: benchmark[key] for key in expected} == expected


def test_what_is_set_up_is_kept_apart(found: list[dict[str, Any]]) -> None:
    """One cache for all that is timed; each class of figures has its own, or one phase's were another's."""
    caches: dict[str, set[str]] = {}
    for benchmark in found:
        caches.setdefault(benchmark["setup_cache_key"], set()).add(benchmark["name"].rpartition(".")[0])
    assert sorted(map(sorted, caches.values())) == [
        ["compilation.Compilation"],
        [
            "inference.Inference",
            *("rollout.EnsembledTick", "rollout.Rollout", "rollout.TemporalEnsembling", "rollout.Tick"),
            "training.Training",
        ],
        ["inference.InferenceCounts"],
        ["training.TrainingCounts"],
    ]


def test_a_sample_is_one_step(found: list[dict[str, Any]]) -> None:
    """Without one before it: what makes the step ready has called it."""
    for benchmark in found:
        if benchmark["type"] == "time":
            assert (benchmark["number"], benchmark["warmup_time"]) == (1, 0)

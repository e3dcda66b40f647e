"""Kept graphs as files: which are kept, how many, and what is not read."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest
import torch
from lerobot.policies.act.modeling_act import ACTPolicy

from lerobot_policy_act_compiled import kept_graphs, patch_policy
from lerobot_policy_act_compiled.kept_graphs import SUFFIX, KeptGraphs, is_known
from lerobot_policy_act_compiled.onnx_graph import Graph

GRAPH = Graph(b"a graph" * 100, ("action_head.bias", "action_head.weight"), b"what it computes ahead")


class Own(torch.nn.Linear):
    """What it computes may be something else tomorrow."""


def test_what_is_kept_is_read_and_the_least_recently_used_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_graphs, "KEPT", 2)
    kept = KeptGraphs(tmp_path)
    for age, name in enumerate("ab"):
        kept.keep(name + SUFFIX, GRAPH)
        os.utime(tmp_path / (name + SUFFIX), (age, age))
    assert kept.read("a" + SUFFIX) == GRAPH  # used: b is older now
    kept.keep("c" + SUFFIX, GRAPH)
    assert {file.name for file in tmp_path.iterdir()} == {"a" + SUFFIX, "c" + SUFFIX}


def test_parts_of_killed_processes_go_and_others_files_stay(tmp_path: Path) -> None:
    theirs = {"about.json", "film.iso.part"}
    for name in ("old.act-graph.part", "new.act-graph.part", *theirs):
        (tmp_path / name).write_text("")
    for name in ("old.act-graph.part", *theirs):
        os.utime(tmp_path / name, (0, 0))
    KeptGraphs(tmp_path).keep("a" + SUFFIX, GRAPH)
    assert {file.name for file in tmp_path.iterdir()} == {"new.act-graph.part", "a" + SUFFIX, *theirs}


@pytest.mark.parametrize("first", ['{"model": Infinity}', "[" * 100_000, '{"weights": [], "model": 1}'])
def test_a_first_line_of_anything_is_a_damaged_file(tmp_path: Path, first: str) -> None:
    kept = KeptGraphs(tmp_path)
    kept.keep("a" + SUFFIX, GRAPH)
    _, _, packed = (tmp_path / ("a" + SUFFIX)).read_bytes().partition(b"\n")
    (tmp_path / ("a" + SUFFIX)).write_bytes(first.encode() + b"\n" + packed)
    assert kept.read("a" + SUFFIX) is None


def test_other_names_of_weights_are_damage(tmp_path: Path) -> None:
    kept = KeptGraphs(tmp_path)
    kept.keep("a" + SUFFIX, GRAPH)
    file = tmp_path / ("a" + SUFFIX)
    first, _, packed = file.read_bytes().partition(b"\n")
    about = json.loads(first)
    file.write_bytes(json.dumps({**about, "weights": [*about["weights"], "more"]}).encode() + b"\n" + packed)
    assert kept.read("a" + SUFFIX) is None


def test_a_graph_that_unpacks_to_more_than_any_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = KeptGraphs(tmp_path)
    kept.keep("a" + SUFFIX, GRAPH)
    monkeypatch.setattr(kept_graphs, "LARGEST", 100)
    assert kept.read("a" + SUFFIX) is None


@pytest.mark.parametrize("fails", ["to be written", "to be put in its place"])
def test_a_full_disk_leaves_nothing_behind(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if fails == "to be written":
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))  # of a file: the kernel refuses the rest
    else:
        monkeypatch.setattr(Path, "replace", full)
    try:
        with caplog.at_level("INFO", "lerobot_policy_act_compiled"):
            KeptGraphs(tmp_path).keep("a" + SUFFIX, GRAPH)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert f"the graph is not kept for the next start: {tmp_path} (" in caplog.text
    assert "); name another directory by compile_artifact or ACT_COMPILED_CACHE" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_class_of_somebody_elses_is_not_known(tiny_policy: Any) -> None:
    policy = patch_policy(tiny_policy())
    assert is_known(policy)
    policy.model.action_head = Own(32, 3)
    assert not is_known(policy)
    assert type(policy) is not ACTPolicy

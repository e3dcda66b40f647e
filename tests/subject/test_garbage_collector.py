"""Python's garbage collector is held back while a graph is made, and at no other time."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from torch.utils.data import DataLoader

from lerobot_policy_act_compiled import export_policy, garbage_collector, save_artifact
from lerobot_policy_act_compiled.garbage_collector import collector_held_back
from lerobot_policy_act_compiled.onnx_graph import missing

from .compiled_policies import as_compiled, each_mode

Batch = dict[str, Any]
needs_the_exporter = pytest.mark.skipif(missing() is not None, reason=f"needs {missing()}")


@pytest.fixture(autouse=True)
def as_in_a_users_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is frozen, as the tests' imports are; and each test leaves the collector enabled."""
    assert gc.isenabled()
    monkeypatch.setattr(garbage_collector, "_frozen", False)
    gc.unfreeze()
    yield
    was_enabled = gc.isenabled()
    gc.enable()
    gc.freeze()
    assert was_enabled


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fresh_dynamo: None) -> list[bool]:  # noqa: ARG001
    """Whether the collector was enabled, at each graph that torch compiles or exports."""
    found: list[bool] = []
    compile_, export = torch.compile, torch.export.export

    def backend(graph: Any, _: Any) -> Any:
        found.append(gc.isenabled())
        return graph

    def exported(*args: Any, **kwargs: Any) -> Any:
        found.append(gc.isenabled())
        return export(*args, **kwargs)

    monkeypatch.setenv("ACT_COMPILED_CACHE", str(tmp_path))  # where no graph is kept
    monkeypatch.setattr(torch, "compile", lambda function, **_: compile_(function, backend=backend))
    monkeypatch.setattr(torch.export, "export", exported)
    return found


@each_mode
def test_a_graph_is_made_without_it(mode: str, without_cameras: tuple[Any, Batch], seen: list[bool]) -> None:
    stock, batch = without_cameras
    policy = as_compiled(stock, mode)
    policy.predict_action_chunk(batch)
    assert seen
    policy.train().forward(batch)
    assert not any(seen)
    with mock.patch("gc.disable") as disable:
        policy.eval().predict_action_chunk(batch)
        policy.train().forward(batch)
    disable.assert_not_called()


@needs_the_exporter
def test_an_export_is_made_without_it(
    without_cameras: tuple[Any, Batch], seen: list[bool], tmp_path: Path
) -> None:
    export_policy(without_cameras[0], tmp_path / "policy.onnx")
    assert seen
    assert not any(seen)


def test_an_artifact_is_made_without_it(
    without_cameras: tuple[Any, Batch], seen: list[bool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(torch._inductor, "aoti_compile_and_package", stop)
    with pytest.raises(ZeroDivisionError):
        save_artifact(as_compiled(without_cameras[0]), tmp_path / "artifact", batch_size=4)
    assert seen == [False]


def test_torch_and_lerobot_are_imported_without_it() -> None:
    looks = """
import gc, sys

class Look:
    def find_spec(self, name, path, target=None):
        if name == "torch":
            print(gc.isenabled())
            raise ImportError

sys.meta_path.insert(0, Look())
try:
    import lerobot_policy_act_compiled
except ImportError:
    print(gc.isenabled())
"""
    done = subprocess.run([sys.executable, "-c", looks], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


class Circle:
    def __init__(self) -> None:
        self.itself = self


def test_what_a_block_leaves_is_collected_and_nothing_older() -> None:
    before = weakref.ref(Circle())
    with collector_held_back():
        within = weakref.ref(Circle())
    assert before() is not None
    assert within() is None
    gc.collect()
    assert before() is None


def test_a_finalizer_may_make_a_graph() -> None:
    made = []

    class MakesOne(Circle):
        def __del__(self) -> None:
            with collector_held_back():
                made.append(1)

    with collector_held_back():
        MakesOne()
    assert made == [1]


def test_older_garbage_goes_where_that_is_asked_for() -> None:
    before = weakref.ref(Circle())
    with collector_held_back(generation=2):
        pass
    assert before() is None


def test_what_a_block_makes_is_old_when_it_ends() -> None:
    with collector_held_back():
        made = [[] for _ in range(1000)]  # type: ignore[var-annotated]
    young = {id(each) for generation in (0, 1) for each in gc.get_objects(generation)}
    assert not young & {id(each) for each in made}


def test_what_somebody_has_frozen_stays_so() -> None:
    gc.freeze()
    frozen = gc.get_freeze_count()
    with collector_held_back():
        pass
    assert gc.get_freeze_count() > frozen / 2
    with mock.patch("gc.get_freeze_count") as count, collector_held_back():
        pass
    count.assert_not_called()  # it walks through all of them
    gc.unfreeze()


def test_who_has_disabled_it_keeps_it_so() -> None:
    gc.disable()
    with collector_held_back(), collector_held_back():
        pass
    assert not gc.isenabled()
    gc.enable()


def test_the_last_of_two_threads_enables_it() -> None:
    first_is_in, second_is_in, first_is_out = (threading.Event() for _ in range(3))

    def first() -> None:
        with collector_held_back():
            first_is_in.set()
            second_is_in.wait(10)
        first_is_out.set()

    thread = threading.Thread(target=first)
    thread.start()
    first_is_in.wait(10)
    with collector_held_back():
        second_is_in.set()
        first_is_out.wait(10)
        assert not gc.isenabled()
    thread.join()


class WhetherEnabled(torch.utils.data.Dataset[bool]):
    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> bool:
        with collector_held_back():
            assert not gc.isenabled()
        return gc.isenabled()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs a fork")
def test_a_data_loaders_process_has_it() -> None:
    """One that is forked while the policy compiles in another thread."""
    with collector_held_back():
        [found] = DataLoader(WhetherEnabled(), num_workers=1, multiprocessing_context="fork")
    assert found.item()

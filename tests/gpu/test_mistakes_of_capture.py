"""Each mistake of ``capture`` that the GPU's gate must find is one: by a fake of the calls to CUDA."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from benchmarks.gpu.gated import OF_CAPTURE
from benchmarks.repository import PACKAGE, ROOT
from lerobot_policy_act_compiled import capture, compiled_policy

from ..subject.compiled_policies import as_compiled
from ..subject.fake_cuda import FakeCuda

pytestmark = [
    pytest.mark.usefixtures("without_inductor"),
    pytest.mark.skipif(torch.cuda.is_available(), reason="the fake is for machines without a GPU"),
]
EDITS = {mutant.name: mutant.edit for mutant in OF_CAPTURE}


@dataclass(frozen=True)
class Called:
    """Of CUDA: graphs that the first action records; replays and waits of the next one."""

    graphs: int
    replays: int
    waits: int


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    FakeCuda.forget()
    yield
    FakeCuda.forget()


def called(stock: Any, batch: dict[str, Any]) -> Called:
    policy = as_compiled(stock, "captured")
    policy.predict_action_chunk(batch)
    graphs, replays, waits = FakeCuda.recorded.count("graph"), FakeCuda.replays, FakeCuda.waits
    policy.predict_action_chunk(batch)
    return Called(graphs, FakeCuda.replays - replays, FakeCuda.waits - waits)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("", Called(graphs=1, replays=1, waits=1)),
        ("a lost capture", Called(graphs=0, replays=0, waits=0)),
        ("a wait for the GPU in each step", Called(graphs=1, replays=1, waits=2)),
        ("memory of a second graph", Called(graphs=2, replays=1, waits=1)),
    ],
)
def test_a_mistake_shows_in_what_cuda_is_asked_for(
    name: str,
    expected: Called,
    without_cameras: tuple[Any, dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copytree(ROOT / PACKAGE, tmp_path / PACKAGE)
    if name:
        EDITS[name].apply(tmp_path)
    module = ModuleType(f"{capture.__name__}_with_a_mistake")
    module.__package__ = capture.__package__
    monkeypatch.setitem(sys.modules, module.__name__, module)
    exec(compile((tmp_path / PACKAGE / "capture.py").read_text(), "capture.py", "exec"), vars(module))  # noqa: S102
    vars(module)["Cuda"] = FakeCuda
    monkeypatch.setattr(compiled_policy, "Captured", vars(module)["Captured"])
    assert astuple(called(*without_cameras)) == astuple(expected)


def test_every_mistake_is_tried() -> None:
    (tried,) = (mark for mark in test_a_mistake_shows_in_what_cuda_is_asked_for.pytestmark if mark.args)
    assert {name for name, _ in tried.args[1]} == {"", *EDITS}

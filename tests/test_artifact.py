"""An artifact does what its policy does, and is refused wherever it would do something else."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import load_artifact, patch_policy, save_artifact

Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture(scope="module")
def policy(camera_free_policy: Any) -> Any:
    return patch_policy(copy.deepcopy(camera_free_policy))


@pytest.fixture(scope="module")
def saved(policy: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_artifact(policy, tmp_path_factory.mktemp("act") / "artifact", batch_size=4)


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    """An artifact that says what ``saved`` says; its package is not there."""
    (tmp_path / "about.json").write_text((saved / "about.json").read_text())
    return tmp_path


def edit(artifact: Path, name: str, value: Any) -> None:
    about = json.loads((artifact / "about.json").read_text())
    about[name] = value
    (artifact / "about.json").write_text(json.dumps(about))


def test_it_has_the_policys_actions(saved: Path, without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    loaded = load_artifact(copy.deepcopy(stock), saved)  # the type act: whoever has the weights may load it
    assert (loaded.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    expected = stock.select_action(batch)
    assert (loaded.select_action(batch) - expected).abs().max() < 1e-5


def test_one_made_under_autocast_runs_bf16_and_is_refused_elsewhere(
    policy: Any, without_cameras: tuple[Any, Batch], tmp_path: Path
) -> None:
    stock, batch = without_cameras
    expected = stock.predict_action_chunk(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        save_artifact(copy.deepcopy(policy), tmp_path, batch_size=4)
        loaded = load_artifact(copy.deepcopy(stock), tmp_path)
    difference = (loaded.predict_action_chunk(batch) - expected).abs().max()
    assert 1e-5 < difference < 0.05
    with pytest.raises(
        ValueError, match=r"of other precision \(highest, autocast torch\.bfloat16, here highest,"
    ):
        load_artifact(copy.deepcopy(stock), tmp_path)


def test_another_batch_size_is_refused(policy: Any, saved: Path, without_cameras: tuple[Any, Batch]) -> None:
    batch = {name: value[:2] for name, value in without_cameras[1].items()}
    loaded = load_artifact(copy.deepcopy(policy), saved)
    with pytest.raises(
        ValueError, match=r"observation\S+ is \[2, 4\] and the artifact was made for \[4, 4\]"
    ):
        loaded.predict_action_chunk(batch)


def test_other_weights_are_refused(policy: Any, copied: Path) -> None:
    other = copy.deepcopy(policy)
    with torch.no_grad():
        other.model.action_head.bias.add_(1e-3)
    with pytest.raises(ValueError, match=r"is of other weights .* make it anew by save_artifact"):
        load_artifact(other, copied)


def test_another_configuration_is_refused(policy: Any, copied: Path) -> None:
    other = copy.deepcopy(policy)
    other.config.n_heads = 4
    with pytest.raises(ValueError, match=r"is of other configuration \(n_heads: 2, here 4\)"):
        load_artifact(other, copied)
    other.config = copy.deepcopy(policy.config)
    other.config.n_action_steps = 3  # of the queue, and not of the chunk


@pytest.mark.parametrize(
    ("name", "value"),
    [("torch", "2.0.0"), ("device", "cuda (a GPU)"), ("format", 0), ("precision", "medium")],
)
def test_another_torch_or_device_is_refused(name: str, value: Any, policy: Any, copied: Path) -> None:
    edit(copied, name, value)
    with pytest.raises(ValueError, match=f"is of other {name} ") as raised:
        load_artifact(policy, copied)
    assert "\n" not in str(raised.value)


def test_what_is_no_artifact_is_said(policy: Any, tmp_path: Path, copied: Path) -> None:
    for text in ("", "[]", "{}", '{"inputs": {}}'):
        (copied / "about.json").write_text(text)
        with pytest.raises(ValueError, match="holds no complete artifact; make one by save_artifact"):
            load_artifact(policy, copied)
    with pytest.raises(ValueError, match="holds no complete artifact"):
        load_artifact(policy, tmp_path / "nonesuch")


def test_a_batch_size_below_one_is_refused(policy: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="batch_size is 0; it must be at least 1"):
        save_artifact(policy, tmp_path, batch_size=0)

"""An artifact does what its policy does, and is refused wherever it would do something else."""

from __future__ import annotations

import copy
import hashlib
import json
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from lerobot_policy_act_compiled import artifact, load_artifact, patch_policy, save_artifact
from lerobot_policy_act_compiled.inductor import compile_ahead, load_ahead

from ..child_process import ENDS_AT_ONCE

Make = Callable[..., Any]
Batch = dict[str, Any]


@pytest.fixture(scope="module")
def policy(camera_free_policy: Any) -> Any:
    return patch_policy(copy.deepcopy(camera_free_policy))


@pytest.fixture(scope="module")
def saved(artifact_of_four: Path) -> Path:
    return artifact_of_four


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


class Pointwise(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (2 * x).sin()


def test_what_was_compiled_ahead_takes_tensors_of_any_strides(tmp_path: Path) -> None:
    """Its code reads memory as that of contiguous ones: a frame that was cropped would be another picture."""
    frame = torch.rand(1, 3, 8, 8)
    compile_ahead(Pointwise(), (frame,), tmp_path / "made.pt2")
    run, expected = load_ahead(tmp_path / "made.pt2"), Pointwise()(frame)
    for seen in (
        frame,
        frame.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
        torch.nn.functional.pad(frame, (2, 2, 2, 2))[..., 2:10, 2:10],
    ):
        assert (run(seen) - expected).abs().max() < 1e-6
    grey = frame[:, :1].expand(-1, 3, -1, -1)
    assert (run(grey) - Pointwise()(grey)).abs().max() < 1e-6


@pytest.mark.parametrize("to", [torch.float64, torch.uint8, "meta"])
def test_observations_of_another_kind_have_lerobots_own_error(
    to: Any, saved: Path, without_cameras: tuple[Any, Batch]
) -> None:
    """The artifact would read their memory as what it is not: actions were NaN, or the process died."""
    stock, batch = without_cameras
    loaded = load_artifact(copy.deepcopy(stock), saved)
    batch = {**batch, "observation.state": batch["observation.state"].to(to)}
    errors = []
    for each in (stock, loaded):
        with pytest.raises((RuntimeError, NotImplementedError)) as error:
            each.predict_action_chunk(batch)
        errors.append((type(error.value), str(error.value)))
    assert errors[0] == errors[1]


class Bounded(torch.nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x).tanh()


def test_a_policy_with_code_of_its_own_has_no_artifact(policy: Any, saved: Path, tmp_path: Path) -> None:
    theirs = copy.deepcopy(policy)
    theirs.model.action_head.__class__ = Bounded
    for call in (partial(save_artifact, theirs, tmp_path), partial(load_artifact, theirs, saved)):
        with pytest.raises(ValueError, match="of a class that is neither torch's, LeRobot's nor this"):
            call()


def test_what_no_description_holds_is_found_by_the_actions(policy: Any, saved: Path) -> None:
    other = copy.deepcopy(policy)
    for layer in other.model.decoder.layers:
        layer.activation = torch.sin
    with pytest.raises(ValueError, match=r"acts otherwise than the policy \(.* off\)"):
        load_artifact(other, saved)


def test_loading_leaves_each_module_in_its_mode(policy: Any, saved: Path) -> None:
    other = copy.deepcopy(policy).train()
    other.model.encoder.eval()
    before = [module.training for module in other.modules()]
    load_artifact(other, saved)
    assert [module.training for module in other.modules()] == before


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


def test_its_file_lies_in_its_directory_and_nowhere_else(
    policy: Any, saved: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a path in ``about.json`` only the last part was looked at, and code was run from there."""
    monkeypatch.setattr(artifact, "load_ahead", lambda path: pytest.fail(f"{path} was loaded"))
    (package,) = saved.glob("*.pt2")
    elsewhere = copied / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / package.name).write_bytes(package.read_bytes())
    for name in (f"elsewhere/{package.name}", str(elsewhere / package.name), f"../{package.name}", ""):
        edit(copied, "package", name)
        with pytest.raises(ValueError, match="holds no complete artifact"):
            load_artifact(policy, copied)


def test_a_file_with_another_hash_is_not_loaded(
    policy: Any, saved: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(artifact, "load_ahead", lambda path: pytest.fail(f"{path} was loaded"))
    (package,) = saved.glob("*.pt2")
    (copied / package.name).write_bytes(package.read_bytes() + b"x")
    with pytest.raises(ValueError, match=r"\.pt2 is damaged: it has another SHA-256; make it anew"):
        load_artifact(policy, copied)


def test_what_torch_cannot_load_is_one_line(policy: Any, copied: Path) -> None:
    content = b"PK\x03\x04 and no more"
    digest = hashlib.sha256(content).hexdigest()
    (copied / f"{digest[:16]}.pt2").write_bytes(content)
    edit(copied, "package", f"{digest[:16]}.pt2")
    edit(copied, "sha256", digest)
    with pytest.raises(ValueError, match=r"torch cannot load \S+ \(.*\); make it anew by") as raised:
        load_artifact(policy, copied)
    assert "\n" not in str(raised.value)


def test_a_pickled_policy_has_its_artifact(saved: Path, without_cameras: tuple[Any, Batch]) -> None:
    stock, batch = without_cameras
    made = pickle.loads(pickle.dumps(load_artifact(copy.deepcopy(stock), saved)))
    assert (made.predict_action_chunk(batch) - stock.predict_action_chunk(batch)).abs().max() < 1e-5
    assert made.predict_action_chunk._holds_the_policys_weights()


def test_one_that_is_replaced_while_it_is_read_is_read_again(
    policy: Any, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = Path(shutil.copytree(saved, tmp_path / "artifact"))
    (package,) = directory.glob("*.pt2")
    replaced: list[Path] = []

    def hash_of(file: Path) -> str:
        if not replaced:  # another process moves its own in, between this one's two reads
            replaced.append(file)
            content = file.read_bytes()
            digest = hashlib.sha256(content + b"\0").hexdigest()
            (directory / f"{digest[:16]}.pt2").write_bytes(content + b"\0")
            edit(directory, "package", f"{digest[:16]}.pt2")
            edit(directory, "sha256", digest)
            file.unlink()
        return hashlib.sha256(file.read_bytes()).hexdigest()

    monkeypatch.setattr(artifact, "_sha256", hash_of)
    monkeypatch.setattr(artifact, "load_ahead", lambda path: lambda: path)
    monkeypatch.setattr(artifact, "_compare", lambda *_: None)
    run, _ = artifact.opened(policy, directory)
    assert replaced == [package]
    assert run().exists()


MAKE_AND_READ = """
import sys, time, torch
from pathlib import Path
from lerobot_policy_act_compiled import artifact, warm_start
from lerobot_policy_act_compiled.compiling import FirstCompiler
from lerobot_policy_act_compiled.warm_start import WarmStart

directory, policy, batch = Path(sys.argv[1]), *torch.load(sys.argv[2], weights_only=False)
made = []

def compile_ahead(module, arguments, path):
    made.append(path)
    time.sleep(1)
    path.write_bytes(f"of process {sys.argv[3]}".encode())

artifact.compile_ahead = compile_ahead
artifact.load_ahead = lambda path: lambda *_: path.read_text()
artifact._compare = lambda *_: None
start = WarmStart(str(directory), FirstCompiler(None, None, fallback=True, device="cpu"))
Path(f"{directory}.{sys.argv[3]}").write_text("")
while len(list(directory.parent.glob(f"{directory.name}.*"))) < 2:
    time.sleep(0.01)
print(len(made), start(policy, batch), len(made))
"""


def test_two_processes_that_start_at_once_make_one(
    policy: Any, without_cameras: tuple[Any, Batch], tmp_path: Path
) -> None:
    """Compiling and loading are stood in for; the locks, the hashes and the files are the real ones."""
    torch.save((policy, without_cameras[1]), tmp_path / "policy.pt")
    command = [
        sys.executable,
        "-c",
        ENDS_AT_ONCE + MAKE_AND_READ,
        str(tmp_path / "artifact"),
        str(tmp_path / "policy.pt"),
    ]
    running = [subprocess.Popen([*command, str(n)], stdout=subprocess.PIPE, text=True) for n in range(2)]
    said = sorted(process.communicate(timeout=300)[0].strip() for process in running)
    assert [process.returncode for process in running] == [0, 0]
    assert {line.split()[-1] for line in said} == {"0", "1"}, "one makes it, the other waits and loads it"
    assert len({line[2:-2] for line in said}) == 1, said
    assert len(list((tmp_path / "artifact").glob("*.pt2"))) == 1

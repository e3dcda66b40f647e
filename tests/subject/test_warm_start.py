"""``compile_artifact``: the second process compiles nothing; an artifact runs what it was made of only."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.compile_counters import count_compilation
from lerobot_policy_act_compiled import ACTCompiledConfig, artifact, compiling, warm_start
from lerobot_policy_act_compiled.compiled_policy import action_chunk
from lerobot_policy_act_compiled.compiling import FirstCompiler
from lerobot_policy_act_compiled.warm_start import WarmStart

from .compiled_policies import as_compiled

pytestmark = pytest.mark.usefixtures("fresh_dynamo")

Batch = dict[str, Any]


def in_a_new_process(stock: Any, directory: Path) -> Any:
    """The policy as a process has it that has not called it yet."""
    return as_compiled(stock, "frozen", compile_artifact=str(directory))


@pytest.fixture
def kept(artifact_of_four: Path, tmp_path: Path) -> Path:
    """A directory with the artifact of ``policy``, for batches of four."""
    return Path(shutil.copytree(artifact_of_four, tmp_path / "kept"))


@pytest.fixture
def policy(camera_free_policy: Any, kept: Path) -> Any:
    return in_a_new_process(camera_free_policy, kept)


@pytest.fixture
def batch(without_cameras: tuple[Any, Batch]) -> Batch:
    return without_cameras[1]


class Otherwise(FirstCompiler):
    """What runs instead of an artifact, and how often it has."""

    def __init__(self) -> None:
        super().__init__(action_chunk, action_chunk, fallback=True, device="cpu")
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        return super().__call__(*args, **kwargs)


def packages(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.pt2"))


def test_the_second_start_compiles_nothing_and_has_the_same_actions(
    without_cameras: tuple[Any, Batch], tmp_path: Path
) -> None:
    stock, batch = without_cameras
    expected = stock.predict_action_chunk(batch)
    first, second = (in_a_new_process(stock, tmp_path / "made") for _ in range(2))
    assert (first.predict_action_chunk(batch) - expected).abs().max() < 1e-5
    (package,) = packages(tmp_path / "made")
    made = package.stat().st_mtime_ns
    with count_compilation() as compilation:
        actions = second.predict_action_chunk(batch)
    assert compilation.graphs == 0
    assert (actions - expected).abs().max() < 1e-5
    assert packages(tmp_path / "made") == [package]
    assert package.stat().st_mtime_ns == made


def test_it_is_the_artifact_that_runs_until_the_weights_change(policy: Any, batch: Batch, kept: Path) -> None:
    otherwise = Otherwise()
    start = WarmStart(str(kept), otherwise)
    with torch.no_grad():
        before = start(policy, batch)
        assert otherwise.calls == 0
        policy.model.action_head.bias.add_(1.0)
        after = start(policy, batch)
    assert otherwise.calls == 1
    assert (after - before - 1.0).abs().max() < 1e-5


@pytest.mark.parametrize("what", ["batch size", "autocast", "a missing observation", "dtype"])
def test_what_the_artifact_was_not_made_for_is_not_run_by_it(
    what: str, policy: Any, batch: Batch, kept: Path
) -> None:
    start = WarmStart(str(kept), otherwise := Otherwise())
    other = {name: value for name, value in batch.items() if torch.is_tensor(value)}
    if what == "batch size":
        other = {name: value[:2] for name, value in other.items()}
    elif what == "a missing observation":
        del other["observation.state"]
    elif what == "dtype":
        other["observation.state"] = other["observation.state"].bfloat16()
    with torch.no_grad():
        start(policy, batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=what in ("autocast", "dtype")):
            try:
                start(policy, other)
            except KeyError:  # eager mode's own word for it
                assert what == "a missing observation"
    assert otherwise.calls == 1


def test_the_first_start_with_a_camera_runs_what_it_has_made(
    tiny_policy: Callable[[], Any],
    tiny_batch: Callable[[int], Batch],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """torch.export leaves an equal dictionary in place of the backbone's own, which is no change."""
    chunks = []

    def export(module: Any, arguments: tuple[Any, ...], path: Path) -> None:
        torch.export.export(module, arguments, strict=False)
        chunks.append(module)
        path.write_bytes(b"a package")

    monkeypatch.setattr(artifact, "compile_ahead", export)
    monkeypatch.setattr(artifact, "load_ahead", lambda _: chunks[-1])
    policy, otherwise = in_a_new_process(tiny_policy(), tmp_path / "made"), Otherwise()
    start = WarmStart(str(tmp_path / "made"), otherwise)
    for _ in range(2):
        start(policy, tiny_batch(1))
    assert (start.by, otherwise.calls, len(chunks)) == ("artifact", 0, 1)


def test_an_artifact_of_other_weights_is_replaced(
    policy: Any, batch: Batch, tmp_path: Path, kept: Path
) -> None:
    (of_others,) = packages(kept)
    for file in kept.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with torch.no_grad():
        policy.model.action_head.bias.add_(1.0)
        start = WarmStart(str(tmp_path), otherwise := Otherwise())
        actions = start(policy, batch)
        expected = action_chunk(policy, batch)
    assert otherwise.calls == 0
    assert (actions - expected).abs().max() < 1e-5
    (package,) = packages(tmp_path)
    assert package.name != of_others.name
    assert artifact.opened(policy, tmp_path)


def test_an_artifact_of_another_batch_size_is_replaced(
    policy: Any, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []

    def save(*_: Any, batch_size: int) -> None:
        asked.append(batch_size)

    monkeypatch.setattr(warm_start, "save_artifact", save)
    with pytest.raises(
        ValueError, match="is of another batch size than 2"
    ):  # what was not written is not there
        WarmStart(str(kept), Otherwise())._loaded_or_made(policy, 2)
    assert asked == [2]
    found = WarmStart(str(kept), Otherwise())._loaded_or_made(policy, 4)
    assert found is not None
    assert found[1] == "loaded"
    assert asked == [2]


def test_a_save_that_fails_leaves_the_earlier_artifact(
    policy: Any, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("the machine went away")

    before = sorted(kept.iterdir())
    monkeypatch.setattr(artifact, "compile_ahead", fails)
    with pytest.raises(RuntimeError, match="went away"):
        artifact.save_artifact(policy, kept, batch_size=2)
    assert sorted(kept.iterdir()) == before
    assert artifact.opened(policy, kept)[1]["observation.state"] == [4, 4]


def test_without_a_compiler_it_is_tried_once(
    policy: Any, batch: Batch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[Path] = []

    def save(_: Any, directory: Path, **__: Any) -> None:
        tried.append(directory)
        raise RuntimeError("no compiler") from RuntimeError("No working C++ compiler found")

    monkeypatch.setattr(warm_start, "save_artifact", save)
    monkeypatch.setattr(compiling, "_found_none", {})
    otherwise = Otherwise()
    otherwise._compiled = lambda *_: pytest.fail("that there is none is known already")
    start = WarmStart(str(tmp_path / "empty"), otherwise)
    with torch.no_grad():
        expected = action_chunk(policy, batch)
        for _ in range(3):
            assert torch.equal(start(policy, batch), expected)
    assert len(tried) == 1


def test_what_is_there_is_loaded_where_another_policy_has_found_no_compiler(
    policy: Any, batch: Batch, kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "_found_none", {"cpu": RuntimeError("No working C++ compiler found")})
    monkeypatch.setattr(warm_start, "save_artifact", lambda *_, **__: pytest.fail("that is known already"))
    loaded, empty = WarmStart(str(kept), Otherwise()), WarmStart(str(tmp_path / "empty"), Otherwise())
    with torch.no_grad():
        expected = action_chunk(policy, batch)
        assert (loaded(policy, batch) - expected).abs().max() < 1e-5
        assert torch.equal(empty(policy, batch), expected)
    assert (loaded.by, empty.by) == ("artifact", "eager")


def test_a_directory_that_cannot_be_written_is_one_line(policy: Any, batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    policy.config.compile_artifact = str(tmp_path / "file")
    with pytest.raises(
        ValueError, match=r"compile_artifact: \S+file cannot be written \(.*\); choose another"
    ):
        policy.predict_action_chunk(batch)


def test_it_needs_compile_model() -> None:
    with pytest.raises(ValueError, match="compile_artifact is 'x' and compile_model is not set; set it, too"):
        ACTCompiledConfig(compile_artifact="x")


INTEL = (
    "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: fpu avx512f amx_bf16 sse2 hypervisor\n\nflags\t\t: fpu\n"
)


@pytest.mark.parametrize(
    ("cpuinfo", "expected"),
    [(INTEL, ["amx_bf16", "avx512f", "sse2"]), ("Features\t: fp asimd sve\n", ["asimd", "sve"]), ("", [])],
)
def test_the_processor_s_instructions_decide(cpuinfo: str, expected: list[str], tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    assert list(artifact._instructions(file)) == expected
    assert artifact._instructions(tmp_path / "none") == {}


def test_code_for_instructions_that_are_not_here_is_refused(
    policy: Any, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, *others = artifact._instructions()
    monkeypatch.setattr(artifact, "_instructions", lambda: dict.fromkeys(others, "yes"))
    with pytest.raises(ValueError, match=rf"of other instructions \({first}: yes, here None\)"):
        artifact.opened(policy, kept)

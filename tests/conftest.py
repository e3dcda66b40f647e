"""Fixtures of all tests: one thread, the ``tiny`` workload, Dynamo without memory of other tests."""
# ruff: noqa: E402

from __future__ import annotations

import copy
import gc
import importlib
import logging
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

gc.disable()  # until the tests have been collected: what is imported stays, and to look through it takes 2 s

import pytest
import torch
from filelock import FileLock
from lerobot.policies.act.modeling_act import ACTPolicy

from benchmarks.gpu.tested import MARK
from benchmarks.suite.fresh_process import TRUST_THE_PROCESSOR
from benchmarks.suite.workloads import WORKLOADS, make_batch, make_config
from lerobot_policy_act_compiled import capture, compiling, patch_lerobot, patch_policy, save_artifact

from .github_api import GitHub
from .subject.fake_cuda import FakeCuda
from .subject.holding_constants import holding_constants

Make = Callable[..., Any]
os.environ.update(TRUST_THE_PROCESSOR)  # 10 s less in every process that compiles
# Threads of a process that a test starts sleep while they wait. Two of them, beside another test on two
# cores, would spin: six tests of the gate's worker took 128 s beside themselves, and take 54.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
# Memory that is given back to the system, and faulted in again, takes 7% of a file's time.
for name in ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_"):
    os.environ.setdefault(name, str(1 << 30))  # read by a process at its start: pytest-xdist's are later


def pytest_addoption(parser: pytest.Parser, pluginmanager: pytest.PytestPluginManager) -> None:
    if not pluginmanager.hasplugin("timeout"):
        parser.addini("timeout", "of a test, s: kept where pytest-timeout is installed")
    parser.addoption(
        "--write-checkpoint",
        action="store_true",
        help="keep what the installed LeRobot saves as a checkpoint",
    )


# Files of a minute and more begin first: with several workers (nox -s tests) the last to end is waited for.
LONG = (
    "test_act_torch_compile",
    "test_worker",
    "test_compile_modes",
    "test_weights",
    "test_consistency",
    "test_artifact",
)


# pytest gives its handlers to each logger that does not propagate, and torch then writes its trace for them.
logging.getLogger("torch.__trace").propagate = True


def pytest_configure(config: pytest.Config) -> None:
    """Keep exported graphs for one run, whose processes share them, and not in the user's cache."""
    if not hasattr(config, "workerinput"):  # pytest-xdist's workers inherit the variable
        directory = tempfile.TemporaryDirectory(prefix="act-graphs-")
        os.environ["ACT_COMPILED_CACHE"] = directory.name
        config.add_cleanup(directory.cleanup)


def pytest_collection_finish() -> None:
    """Collect garbage seldom, and never look through what was imported: 13% less time where much compiles."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Collect garbage once: pytest does five times, and Python at its end, which take 4 s of each process."""
    gc.collect()
    gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Whoever asks for GPU tests, by ``-m gpu``, needs no package that only other files import, as nox.

    A machine that is lent for minutes may have none of them, and no network.
    """
    if config.option.markexpr == "gpu" and collection_path.suffix == ".py":
        return MARK.search(collection_path.read_text("utf-8")) is None or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.stem not in LONG)
    if torch.cuda.is_available():
        return
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device, and torch sees none"))


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Two threads of a 20 ms step wait for each other up to 40 times as long beside another process."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def no_guard_is_timed() -> None:
    """Dynamo times the guards of each graph for its log, with empty caches: 17 ms of 300."""
    guards = importlib.import_module("torch._dynamo.guards")
    if hasattr(guards, "profile_guard_manager"):
        vars(guards)["profile_guard_manager"] = lambda *_: 0.0


@pytest.fixture(scope="session", autouse=True)
def captured_on_a_cpu() -> None:
    """Mode ``captured`` without a GPU: all of it but CUDA's own calls."""
    if not torch.cuda.is_available():
        compiling.CAPTURING = ("cuda", "cpu")
        vars(capture)["Cuda"] = FakeCuda


@pytest.fixture(autouse=True)
def git_identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who commits in a test's own repositories."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)  # it may ask for signatures
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "t")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", "t@example.org")


@pytest.fixture(autouse=True)
def same_signals() -> Iterator[None]:
    """A command that was stopped heeds no further signal, and whatever it starts inherits that.

    In a process that a shell has started in the background SIGINT is ignored from the start.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module", autouse=True)
def fresh_dynamo_per_module() -> None:
    torch.compiler.reset()


@pytest.fixture
def fresh_dynamo() -> Iterator[None]:
    """Each policy compiled is one more entry of the same code object, whose limit is eight."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.fixture
def without_inductor(monkeypatch: pytest.MonkeyPatch, fresh_dynamo: None) -> None:  # noqa: ARG001
    """Make torch.compile stop before Inductor, for code that names no backend: a fifth of the time."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))


@pytest.fixture
def with_constants(monkeypatch: pytest.MonkeyPatch, fresh_dynamo: None) -> None:  # noqa: ARG001
    """Make torch.compile stop before Inductor, with graphs whose constants go stale as Inductor's do."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=holding_constants))


@pytest.fixture(scope="session")
def artifact_of_four(camera_free_policy: Any) -> Path:
    """An artifact of ``camera_free_policy`` for batches of four; nobody writes into it."""
    made = (
        Path(os.environ["ACT_COMPILED_CACHE"]) / "artifact of four"
    )  # 20 s: one for all processes of the run
    with FileLock(f"{made}.lock"):
        if not made.exists():
            save_artifact(patch_policy(copy.deepcopy(camera_free_policy)), made, batch_size=4)
    return made


@pytest.fixture
def patched_lerobot() -> Iterator[None]:
    with patch_lerobot():
        yield


@pytest.fixture(scope="session")
def tiny_policy() -> Make:
    """Return a maker of seeded stock ACT policies in eval mode; what it takes are fields of ACTConfig.

    The one that most tests ask for is copied: to draw its values takes three times as long.
    """

    def make(*, phase: str = "training", seed: int = 0, **act: Any) -> ACTPolicy:
        torch.manual_seed(seed)
        return ACTPolicy(make_config(WORKLOADS["tiny"], phase, **act)).eval()

    usual, drawn = make(), torch.get_rng_state()

    def copied(*, phase: str = "training", seed: int = 0, **act: Any) -> ACTPolicy:
        if act or (phase, seed) != ("training", 0):
            return make(phase=phase, seed=seed, **act)
        torch.set_rng_state(drawn)
        return copy.deepcopy(usual)

    return copied


@pytest.fixture(scope="session")
def tiny_batch() -> Make:
    """Return a maker of seeded batches for the policies of ``tiny_policy``."""

    def make(batch_size: int = 2, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> dict[str, Any]:
        batch = make_batch(WORKLOADS["tiny"], batch_size, seed=seed)
        return {key: value.to(dtype) if value.is_floating_point() else value for key, value in batch.items()}

    return make


@pytest.fixture(scope="session")
def camera_free_policy(tiny_policy: Make) -> Any:
    """A stock policy whose only observation is the environment's state and its own: little to compile."""
    from lerobot.configs.types import FeatureType, PolicyFeature

    features = {
        "observation.state": PolicyFeature(FeatureType.STATE, (4,)),
        "observation.environment_state": PolicyFeature(FeatureType.ENV, (4,)),
    }
    return tiny_policy(input_features=features)


@pytest.fixture
def without_cameras(camera_free_policy: Any, tiny_batch: Make) -> tuple[Any, dict[str, Any]]:
    """``camera_free_policy`` and a batch of four for it."""
    batch = tiny_batch(4)
    batch["observation.environment_state"] = batch["observation.state"].flip(0)
    return copy.deepcopy(camera_free_policy), batch


@pytest.fixture
def github(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> GitHub:
    return GitHub(tmp_path_factory.mktemp("github"), monkeypatch)

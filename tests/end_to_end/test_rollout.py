"""``lerobot-rollout``, its own command in a process of its own, stock against ours on a simulated robot.

``nox -s lerobot_e2e -- tests/end_to_end/test_rollout.py``; nothing is rendered. Weights are random; what is
asked is whether the robot gets stock's actions, and whether what computed them was compiled by us.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from .commands import SCRIPTS, Rollout, compiled_line, compiled_lines, rollout

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

ACTION = 1e-5  # of a joint's goal, whose standard deviation is 0.3; 1e-7 seen
N_ACTIONS, CHUNK = 10, 8  # the last two follow from another observation
WITHOUT_COMPILER = {"CXX": "no-such-compiler"}
ACT_COMPILED = (str(SCRIPTS / "act-compiled"),)
# LeRobot's flag compiles predict_action_chunk by LeRobot's own wrapper, and without it LeRobot says
# compile_model=False: neither is what the checkpoint asks for.
LEROBOTS_FLAG = pytest.mark.parametrize("flag", ["false", "true"])


@pytest.fixture(scope="module")
def stock(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Rollout:
    return rollout(checkpoint, tmp_path_factory.mktemp("stock"))


@pytest.fixture(scope="module")
def kept(compiled_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Rollout]:
    """The directory of an artifact, and the rollout that made it."""
    directory = tmp_path_factory.mktemp("kept")
    artifact = directory / "artifact"
    options = ("--policy.compile_mode=frozen", f"--policy.compile_artifact={artifact}")
    return artifact, rollout(compiled_checkpoint, directory, *options)


def assert_made_once_by_us(found: Rollout) -> None:
    """By what ``auto`` means on a CPU, and the package says so; torch compiles nothing."""
    assert set(found.graphs) == {0}
    line = compiled_line(found.log)
    assert "mode auto (onnxruntime), cpu" in line
    assert "Recompiling function" not in found.log


def test_stock_is_eager_and_moves_the_robot(stock: Rollout) -> None:
    assert len(stock.actions) == N_ACTIONS
    assert set(stock.graphs) == {0}
    assert stock.frames[:N_ACTIONS] == [2] * N_ACTIONS, "its two cameras', though it predicts two chunks"
    first, second = stock.actions[0], stock.actions[CHUNK]
    changes = [abs(second[joint] - first[joint]) for joint in first if joint != "observed"]
    assert max(changes) > 10 * ACTION, "what it sees decides: both are the first of their chunk"
    assert [each["observed"] for each in stock.actions] == list(range(2, N_ACTIONS + 2)), (
        "one before it begins"
    )


@LEROBOTS_FLAG
def test_a_checkpoint_that_asks_for_it_is_compiled_by_us(
    stock: Rollout, compiled_checkpoint: Path, tmp_path: Path, flag: str
) -> None:
    found = rollout(compiled_checkpoint, tmp_path, f"--use_torch_compile={flag}")
    assert found.difference(stock) < ACTION
    assert_made_once_by_us(found)


def test_the_option_switches_compiling_off(stock: Rollout, compiled_checkpoint: Path, tmp_path: Path) -> None:
    found = rollout(compiled_checkpoint, tmp_path, "--policy.compile_model=false")
    assert found.difference(stock) < ACTION
    assert set(found.graphs) == {0}
    assert compiled_lines(found.log) == []


def test_the_first_start_makes_the_artifact(stock: Rollout, kept: tuple[Path, Rollout]) -> None:
    directory, found = kept
    assert len(list(directory.glob("*.pt2"))) == 1
    assert found.difference(stock) < ACTION
    line = compiled_line(found.log)
    assert "artifact" in line


@pytest.mark.parametrize("variant", ["act_compiled", "act"])
def test_the_second_start_compiles_nothing(
    stock: Rollout,
    kept: tuple[Path, Rollout],
    checkpoint: Path,
    compiled_checkpoint: Path,
    tmp_path: Path,
    variant: str,
) -> None:
    """Nor could it: it finds no compiler. The weights are the same, so the artifact serves both types."""
    directory, _ = kept
    (package,) = directory.glob("*.pt2")
    made = package.stat().st_mtime_ns
    if variant == "act_compiled":
        options = ("--policy.compile_mode=frozen", f"--policy.compile_artifact={directory}")
        found = rollout(compiled_checkpoint, tmp_path, *options, **WITHOUT_COMPILER)
    else:
        command = (
            *(*ACT_COMPILED, "--compile_mode=frozen", f"--compile_artifact={directory}"),
            "lerobot-rollout",
        )
        found = rollout(checkpoint, tmp_path, command=command, **WITHOUT_COMPILER)
    assert found.difference(stock) < ACTION
    line = compiled_line(found.log)
    assert "artifact" in line
    assert set(found.graphs) == {0}
    assert list(directory.glob("*.pt2")) == [package]
    assert package.stat().st_mtime_ns == made


def test_the_next_start_exports_nothing(stock: Rollout, compiled_checkpoint: Path, tmp_path: Path) -> None:
    """Nor does it need a compiler; weights and graph come from different places."""
    for start, whence in enumerate(("graph exported", f"graph kept in {tmp_path / 'graphs'}")):
        where, environment = (
            tmp_path / f"{start}",
            {**WITHOUT_COMPILER, "ACT_COMPILED_CACHE": str(tmp_path / "graphs")},
        )
        where.mkdir()
        found = rollout(compiled_checkpoint, where, **environment)
        assert found.difference(stock) < ACTION
        assert_made_once_by_us(found)
        assert whence in compiled_line(found.log)


@LEROBOTS_FLAG
def test_act_compiled_in_front_compiles_a_plain_act_before_the_robot_is_connected(
    stock: Rollout, checkpoint: Path, tmp_path: Path, flag: str
) -> None:
    config = (checkpoint / "config.json").read_bytes()
    option = f"--use_torch_compile={flag}"
    found = rollout(checkpoint, tmp_path, option, command=(*ACT_COMPILED, "lerobot-rollout"))
    assert found.difference(stock) < ACTION
    assert_made_once_by_us(found)
    assert found.log.index("compiled action_chunk:") < found.log.index("Connecting robot")
    read = [2 if action % CHUNK == 0 else 0 for action in range(N_ACTIONS)]
    assert found.frames[:N_ACTIONS] == read, "no frame is prepared that the policy does not read"
    assert (checkpoint / "config.json").read_bytes() == config


@LEROBOTS_FLAG
def test_adapters_are_warm_before_the_robot_is_connected_too(
    stock: Rollout, adapted_checkpoint: Path, tmp_path: Path, flag: str
) -> None:
    """peft's model is around the policy, so LeRobot moves and wraps peft's; torch compiles what it adapts."""
    places = [tmp_path / name for name in ("stock", "ours")]
    for place in places:
        place.mkdir()
    adapted = rollout(adapted_checkpoint, places[0])
    assert adapted.difference(stock) > 100 * ACTION, "the adapters change what it does"
    option = f"--use_torch_compile={flag}"
    found = rollout(adapted_checkpoint, places[1], option, command=(*ACT_COMPILED, "lerobot-rollout"))
    assert found.difference(adapted) < ACTION
    assert set(found.graphs) == {1}, "compiled when the robot is connected, and not again"
    assert found.log.index("compiled action_chunk:") < found.log.index("Connecting robot")
    assert "peft can switch its adapters at any time" in found.log

"""``act-compiled``: a command in whose process every plain ACT policy compiles, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

pytestmark = pytest.mark.compat

# As LeRobot's commands use a policy: load it, put it onto its device, connect, act in inference mode.
ROBOT = """
import sys
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch._dynamo.utils import counters
import torch._dynamo

torch.compile = __import__("functools").partial(torch.compile, backend="eager")
policy = ACTPolicy.from_pretrained(sys.argv[1])
policy.to("cpu")
policy.eval()
print("connected with", counters["stats"]["unique_graphs"], "graphs", flush=True)
with torch.inference_mode():
    features = policy.config.input_features.items()
    policy.select_action({name: torch.zeros(1, *feature.shape) for name, feature in features})
print("acted with", counters["stats"]["unique_graphs"], "graphs, type", policy.config.type, *sys.argv[2:])
"""


@pytest.fixture(scope="module")
def checkpoint(camera_free_policy: object, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("checkpoint")
    camera_free_policy.save_pretrained(directory)  # type: ignore[attr-defined]
    return directory


def act_compiled(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lerobot_policy_act_compiled.command", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("name", "connected"), [("policy_server.py", 1), ("lerobot_rollout.py", 1), ("lerobot_train.py", 0)]
)
def test_a_robots_command_is_warm_before_it_connects(
    name: str, connected: int, checkpoint: Path, tmp_path: Path
) -> None:
    script = tmp_path / name
    script.write_text(ROBOT)
    before = sorted((file.name, file.read_bytes()) for file in checkpoint.iterdir())
    done = act_compiled("python", str(script), str(checkpoint), "--its=own")
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip().splitlines()[-2:]
    assert said == [f"connected with {connected} graphs", "acted with 1 graphs, type act --its=own"]
    assert "act-compiled: compiled action_chunk: mode auto (frozen), cpu" in done.stderr
    assert sorted((file.name, file.read_bytes()) for file in checkpoint.iterdir()) == before


def test_options_are_the_patchs(checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "policy_server.py"
    script.write_text(ROBOT)
    done = act_compiled("--compile_mode=default", "--no-warm-up", "python", str(script), str(checkpoint))
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip().splitlines()[-2:]
    assert said == ["connected with 0 graphs", "acted with 1 graphs, type act"]
    assert "mode default, cpu" in done.stderr


def test_a_module_and_a_console_script_run_with_their_arguments() -> None:
    done = act_compiled("python", "-m", "json.tool", "--help")
    assert done.returncode == 0
    assert "json" in done.stdout
    done = act_compiled("lerobot-info")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "LeRobot version" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the command to run"),
        (("lerobot-nonesuch",), "there is no command lerobot-nonesuch"),
        (("python",), "after python comes -m MODULE or a file"),
        (("--compile_mode=fast", "lerobot-info"), "invalid choice: 'fast'"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(arguments: tuple[str, ...], says: str) -> None:
    done = act_compiled(*arguments)
    assert done.returncode == 2
    assert says in done.stderr.strip().splitlines()[-1]


def test_it_is_installed_as_a_command() -> None:
    (found,) = [each for each in entry_points(group="console_scripts") if each.name == "act-compiled"]
    assert found.value == "lerobot_policy_act_compiled.command:main"

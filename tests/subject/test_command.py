"""``act-compiled``: a command in whose process every plain ACT policy compiles, and nothing else changes."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.act.modeling_act import ACTPolicy

from lerobot_policy_act_compiled import command
from lerobot_policy_act_compiled.compiling import mode_for

from ..child_process import ENDS_AT_ONCE

pytestmark = pytest.mark.compat

# As LeRobot's commands use a policy: load it, put it onto its device, connect, act in inference mode.
ROBOT = """
import sys
from unittest import mock
import torch
from lerobot.policies.act.modeling_act import ACTPolicy
from torch._dynamo.utils import counters
import torch._dynamo
from lerobot_policy_act_compiled.session import Session

torch.compile = __import__("functools").partial(torch.compile, backend="eager")
opens = mock.patch.object(Session, "__init__", autospec=True, side_effect=Session.__init__)
sessions = opens.start()
policy = ACTPolicy.from_pretrained(sys.argv[1])
policy.to("cpu")
policy.eval()
print("connected with", counters["stats"]["unique_graphs"] + sessions.call_count, "graphs", flush=True)
with torch.inference_mode():
    features = policy.config.input_features.items()
    policy.select_action({name: torch.zeros(1, *feature.shape) for name, feature in features})
made = counters["stats"]["unique_graphs"] + sessions.call_count
print("acted with", made, "graphs, type", policy.config.type, *sys.argv[2:])
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


def test_a_robots_command_is_warm_before_it_connects(checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "policy_server.py"
    script.write_text(ENDS_AT_ONCE + ROBOT)
    before = sorted((file.name, file.read_bytes()) for file in checkpoint.iterdir())
    done = act_compiled("python", str(script), str(checkpoint), "--its=own")
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip().splitlines()[-2:]
    assert said == ["connected with 1 graphs", "acted with 1 graphs, type act --its=own"]
    mode = mode_for("auto", "cpu")
    assert f"act-compiled: compiled action_chunk: mode auto ({mode}), cpu" in done.stderr
    assert sorted((file.name, file.read_bytes()) for file in checkpoint.iterdir()) == before


def test_training_is_not_warmed_up_and_options_are_the_patchs(checkpoint: Path, tmp_path: Path) -> None:
    script = tmp_path / "lerobot_train.py"
    script.write_text(ENDS_AT_ONCE + ROBOT)
    done = act_compiled("--compile_mode=default", "python", str(script), str(checkpoint))
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.strip().splitlines()[-2:]
    assert said == ["connected with 0 graphs", "acted with 1 graphs, type act"]
    assert "mode default, cpu" in done.stderr


@pytest.mark.parametrize(
    "name", ["lerobot_rollout", "lerobot_record", "lerobot.async_inference.policy_server"]
)
def test_these_are_warmed_up(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(command, "_command", lambda _: (lambda: asked.append("ran"), name))
    replaced = ("patch_lerobot", "_log_to_stderr", "_let_the_server_take", "prepare_less")
    for wanted in (*replaced, "_warm_up_when_placed"):
        monkeypatch.setattr(command, wanted, lambda *_, wanted=wanted, **__: asked.append(wanted))
    command.main(["it"])
    assert asked[-2:] == ["_warm_up_when_placed", "ran"]
    assert ("prepare_less" in asked) == ("server" not in name), "a server has no queue"
    asked.clear()
    command.main(["--no-warm-up", "it"])
    assert "_warm_up_when_placed" not in asked


@pytest.mark.parametrize("autocasts", [True, False], ids=["rollout", "server"])
def test_warming_up_is_under_autocast_where_the_command_acts_so(
    autocasts: bool, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    for name in ("from_pretrained", "_apply"):
        monkeypatch.setattr(ACTPolicy, name, getattr(ACTPolicy, name))
    monkeypatch.setattr(ACTPolicy, "warm_up", lambda self: seen.append(self.config.use_amp), raising=False)
    command._warm_up_when_placed(autocasts=autocasts)
    config = PreTrainedConfig.from_pretrained(checkpoint)
    config.use_amp = True
    policy = ACTPolicy.from_pretrained(checkpoint, config=config).to("cpu")
    assert seen == [autocasts]
    assert policy.config.use_amp is True


def test_a_module_runs_with_its_arguments(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    run, name = command._command(["python", "-m", "json.tool", "--help"])
    assert name == "json.tool"
    with pytest.raises(SystemExit) as exit_:
        run()
    assert exit_.value.code == 0
    assert "json" in capsys.readouterr().out


def test_a_console_script_is_found_wherever_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setenv("PATH", "")
    assert command._command(["/somewhere/lerobot-train"])[1] == "lerobot.scripts.lerobot_train"
    run, name = command._command(["pytest", "--version"])
    assert name.partition(".")[0] in ("pytest", "_pytest")
    assert run() == 0
    assert "pytest" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "name the command to run"),
        (("lerobot-nonesuch",), "there is no command lerobot-nonesuch"),
        (("python",), "after python comes -m MODULE or a file"),
        (("python", "-c", "1"), "after python comes -m MODULE or a file"),
        (("--compile_mode=fast", "lerobot-info"), "invalid choice: 'fast'"),
    ],
)
def test_what_cannot_be_run_is_said_in_one_line(arguments: tuple[str, ...], says: str, capsys: Any) -> None:
    with pytest.raises(SystemExit) as exit_:
        command.main(arguments)
    assert exit_.value.code == 2
    assert says in capsys.readouterr().err.strip().splitlines()[-1]
    assert not hasattr(ACTPolicy, "warm_up"), "nothing was patched"


def test_the_server_takes_our_type(monkeypatch: pytest.MonkeyPatch) -> None:
    constants = pytest.importorskip("lerobot.async_inference.constants", exc_type=ImportError)
    monkeypatch.setattr(constants, "SUPPORTED_POLICIES", ["act"])
    for _ in range(2):
        command._let_the_server_take("act_compiled")
        assert constants.SUPPORTED_POLICIES == ["act", "act_compiled"]


def test_it_is_installed_as_a_command() -> None:
    (found,) = [each for each in entry_points(group="console_scripts") if each.name == "act-compiled"]
    assert found.value == "lerobot_policy_act_compiled.command:main"

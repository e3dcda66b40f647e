"""LeRobot's own commands, as a user starts them, in processes of their own; and a recorder of losses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.repository import ROOT

# Rendering without a display; no weights and no data sets from a hub.
ENVIRONMENT = {
    "MUJOCO_GL": "egl",
    "PYOPENGL_PLATFORM": "egl",
    "HF_HUB_OFFLINE": "1",
    "WANDB_MODE": "disabled",
}
TASK = "AlohaTransferCube-v0"
EPISODE = 400  # control steps, of the simulator's 50 Hz: LeRobot's own episode_length, 0.3 s each to render
EVALUATED = 60  # control steps of lerobot-eval, which is asked twice
REPOSITORY = "local/aloha"  # LeRobot names every data set so; it lies on disk only
SCRIPTS = Path(sysconfig.get_path("scripts"))
ROLLOUT = (str(SCRIPTS / "lerobot-rollout"),)

# lerobot-train's own main, with what makes the policy wrapped: each loss of a step is kept, all its digits.
TRAIN = """
import json, sys
from torch._dynamo.utils import counters
from lerobot.scripts import lerobot_train

variant, losses, sys.argv = sys.argv[1], sys.argv[2], ["lerobot-train", *sys.argv[3:]]
if variant == "patched":
    from lerobot_policy_act_compiled import patch_lerobot
    patch_lerobot()
make_policy, kept = lerobot_train.make_policy, []

def recorded(*args, **kwargs):
    policy = make_policy(*args, **kwargs)
    forward = policy.forward
    def recording(*args, **kwargs):
        loss, parts = forward(*args, **kwargs)
        kept.append(loss.item())
        return loss, parts
    policy.forward = recording
    return policy

lerobot_train.make_policy = recorded
if variant == "in_front":
    from lerobot_policy_act_compiled import command
    command.main(sys.argv)
else:
    lerobot_train.main()
with open(losses, "w") as file:
    json.dump({"losses": kept, "graphs": counters["stats"]["unique_graphs"]}, file)
"""


def run(command: Sequence[str], directory: Path, **environment: str) -> str:
    """What the command prints on both streams.

    Args:
        environment: variables that it gets beside ENVIRONMENT.

    Raises:
        AssertionError: it failed; its last lines.
    """
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, **ENVIRONMENT, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command[:4])}: {(done.stdout + done.stderr)[-3000:]}"
    return done.stdout + done.stderr


def train(
    variant: str, dataset: Path, directory: Path, steps: int, *options: str
) -> tuple[list[float], int, Path]:
    """``lerobot-train`` for ``steps`` steps: losses, graphs compiled, and the checkpoint's directory.

    Args:
        variant: ``stock``, ``patched``, or what compiles in mode ``auto``: ``act_compiled``, and ``in_front``
            where ``act-compiled`` stands before the command and the policy's type is ``act``.
        options: more of the command's own.
    """
    kinds = {
        "act_compiled": (
            "--policy.type=act_compiled",
            "--policy.compile_model=true",
            "--policy.compile_mode=auto",
        )
    }
    output, losses = directory / variant, directory / f"{variant}.json"
    run(
        [
            *(sys.executable, "-c", TRAIN, variant, str(losses)),
            *kinds.get(variant, ("--policy.type=act",)),
            *(f"--dataset.repo_id={REPOSITORY}", f"--dataset.root={dataset}", f"--output_dir={output}"),
            *(
                "--policy.device=cpu",
                "--policy.push_to_hub=false",
                "--policy.pretrained_backbone_weights=null",
            ),
            # A fifth of ACT's transformer: the backbone and the images are whole.
            *("--policy.dim_model=128", "--policy.dim_feedforward=256", "--policy.n_heads=4"),
            *("--policy.chunk_size=20", "--policy.n_action_steps=10"),
            *(f"--steps={steps}", "--batch_size=2", "--num_workers=0", "--seed=7", "--log_freq=1"),
            *("--wandb.enable=false", *options),
        ],
        directory,
    )
    found = json.loads(losses.read_text())
    (checkpoint,) = output.glob(f"checkpoints/{steps:06d}/pretrained_model")
    return found["losses"], found["graphs"], checkpoint


def evaluate(checkpoint: Path, directory: Path) -> tuple[dict[str, float], str]:
    """``lerobot-eval`` of a checkpoint over one episode: what it says of it, and its log."""
    output = directory / f"eval-{checkpoint.parents[2].name}"
    program = (
        "import sys; sys.argv[0] = 'lerobot-eval'; from lerobot.scripts.lerobot_eval import main; main()"
    )
    log = run(
        [
            *(sys.executable, "-c", program, f"--policy.path={checkpoint}", "--policy.device=cpu"),
            *("--env.type=aloha", f"--env.task={TASK}", f"--env.episode_length={EVALUATED}"),
            *("--eval.n_episodes=1", "--eval.batch_size=1", "--eval.use_async_envs=false", "--seed=7"),
            f"--output_dir={output}",
        ],
        directory,
    )
    return dict(json.loads((output / "eval_info.json").read_text())["overall"]), log


def compiled_lines(log: str) -> list[str]:
    """What the package says of each action chunk that is ready to run: mode, device, artifact, seconds."""
    return re.findall(r"compiled action_chunk:.*", log)


def compiled_line(log: str) -> str:
    """The one of them.

    Raises:
        AssertionError: there is none: it ran eager, or somebody else compiled it; or there are several.
    """
    lines = compiled_lines(log)
    assert len(lines) == 1, f"the package says of {len(lines)} action chunks that it compiled them: {lines}"
    return lines[0]


@dataclass(frozen=True)
class Rollout:
    """What a rollout has done to its robot.

    Attributes:
        actions: by joint; ``observed`` is how many observations had been taken.
        graphs: compiled when the robot was connected, then with each action.
        frames: of cameras, normalised before each action; the last is of an action that was not sent.
        log: of the command.
    """

    actions: list[dict[str, float]]
    graphs: list[int]
    frames: list[int]
    log: str

    def difference(self, other: Rollout) -> float:
        """The largest of any joint's goal."""
        assert len(self.actions) == len(other.actions)
        pairs = zip(self.actions, other.actions, strict=True)
        return max(abs(ours[joint] - theirs[joint]) for ours, theirs in pairs for joint in theirs)


def rollout(
    checkpoint: Path, directory: Path, *options: str, command: Sequence[str] = ROLLOUT, **environment: str
) -> Rollout:
    """``lerobot-rollout`` of a checkpoint on the simulated robot, interrupted after its last action.

    Args:
        options: more of the command's own.
        command: what is started.
        environment: variables that it gets.
    """
    record = directory / "robot.json"
    log = run(
        [
            *(*command, f"--policy.path={checkpoint}", "--strategy.type=base", "--device=cpu", "--fps=50"),
            *("--robot.type=simulated", "--robot.discover_packages_path=lerobot_robot_simulated"),
            *(f"--robot.record={record}", f"--robot.calibration_dir={directory}"),
            # The robot interrupts it earlier; this ends a rollout whose robot gets no action.
            *("--duration=300", "--return_to_initial_position=false", "--play_sounds=false", *options),
        ],
        directory,
        **{"PYTHONPATH": python_path(), "TORCH_LOGS": "recompiles", **environment},
    )
    return Rollout(**json.loads(record.read_text()), log=log)


def python_path() -> str:
    """Where a process finds the simulated robot, and the workload that it is made for."""
    here = str(Path(__file__).parent)
    return os.pathsep.join(filter(None, (here, str(ROOT), os.environ.get("PYTHONPATH"))))

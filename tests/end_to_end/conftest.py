"""The simulator and a data set that is recorded in it; a checkpoint for the simulated robot needs neither."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.suite.workloads import WORKLOADS, make_config

from .commands import ENVIRONMENT, EPISODE, REPOSITORY, TASK

os.environ.update(ENVIRONMENT)  # MuJoCo reads it when it is imported
N_EPISODES, N_FRAMES = 2, 30


def make_env() -> Any:
    import gym_aloha  # noqa: F401  # registers the tasks
    import gymnasium

    return gymnasium.make(
        f"gym_aloha/{TASK}", obs_type="pixels_agent_pos", render_mode="rgb_array", max_episode_steps=EPISODE
    )


@pytest.fixture(scope="session")
def simulator() -> Iterator[Any]:
    """gym-aloha, rendered by Mesa in software."""
    try:
        env = make_env()
        env.reset(seed=0)
    except Exception as error:
        pytest.fail(
            f"the simulator does not render ({type(error).__name__}): apt-get install libegl1 libgl1-mesa-dri"
        )
    yield env
    env.close()


@pytest.fixture(scope="session")
def dataset(simulator: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Episodes of two arms that swing about where they began, in LeRobot's format, images as PNG."""
    import numpy as np
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    root = tmp_path_factory.mktemp("data") / "aloha"
    joints = {"dtype": "float32", "shape": (14,), "names": None}
    features = {
        "observation.images.top": {
            "dtype": "image",
            "shape": (480, 640, 3),
            "names": ["height", "width", "channel"],
        },
        "observation.state": joints,
        "action": joints,
    }
    recorded = LeRobotDataset.create(REPOSITORY, fps=50, features=features, root=root, use_videos=False)
    for episode in range(N_EPISODES):
        observation, _ = simulator.reset(seed=episode)
        rest = observation["agent_pos"].astype(np.float32)
        for frame in range(N_FRAMES):
            swing = 0.1 * np.sin(2 * np.pi * (frame / N_FRAMES + np.arange(14) / 14 + episode / 2))
            action = (rest + swing).astype(np.float32)
            recorded.add_frame(
                {
                    "observation.images.top": observation["pixels"]["top"],
                    "observation.state": observation["agent_pos"].astype(np.float32),
                    "action": action,
                    "task": "swing both arms",
                }
            )
            observation, *_ = simulator.step(action)
        recorded.save_episode()
    recorded.finalize()
    return root


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A stock ACT for the simulated robot, as ``lerobot-train`` leaves one: with its processors."""
    from lerobot.policies.act.modeling_act import ACTPolicy
    from lerobot.policies.factory import make_pre_post_processors

    directory = tmp_path_factory.mktemp("checkpoints") / "act"
    workload = WORKLOADS["tiny"]
    torch.manual_seed(0)
    policy = ACTPolicy(make_config(workload, "inference"))
    policy.save_pretrained(directory)
    sizes = {"observation.state": (workload.state,), "action": (workload.action,)}
    shapes = {**dict.fromkeys(workload.camera_names, (3, 1, 1)), **sizes}
    stats = {
        name: {"mean": torch.full(shape, 0.5), "std": torch.full(shape, 0.3)}
        for name, shape in shapes.items()
    }
    for processor in make_pre_post_processors(policy.config, dataset_stats=stats):
        processor.save_pretrained(directory)
    return directory


@pytest.fixture(scope="session")
def compiled_checkpoint(checkpoint: Path) -> Path:
    """The same, its ``config.json`` changed as the migration guide says."""
    directory = checkpoint.with_name("act_compiled")
    shutil.copytree(checkpoint, directory)
    file = directory / "config.json"
    fields = {"type": "act_compiled", "compile_model": True, "compile_mode": "auto"}
    file.write_text(json.dumps(json.loads(file.read_text()) | fields, indent=4))
    return directory


@pytest.fixture(scope="session")
def adapted_checkpoint(checkpoint: Path) -> Path:
    """Adapters of the same policy, not zero, as ``lerobot-train --peft.method_type=LORA`` leaves them."""
    from lerobot.policies.act.modeling_act import ACTPolicy

    directory = checkpoint.with_name("adapted")
    shutil.copytree(checkpoint, directory, ignore=shutil.ignore_patterns("model.safetensors", "config.json"))
    policy = ACTPolicy.from_pretrained(checkpoint)
    policy.config.pretrained_path = checkpoint
    options = {"method_type": "LORA", "target_modules": r".*\.linear[12]|.*action_head", "r": 4}
    adapted = policy.wrap_with_peft(peft_cli_overrides=options)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in adapted.named_parameters():
            if "lora_" in name:
                value.copy_(0.1 * torch.randn_like(value))
    adapted.save_pretrained(directory)
    policy.config.save_pretrained(directory)
    return directory

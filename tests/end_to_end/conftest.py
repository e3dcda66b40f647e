"""The simulator, and a small data set that is recorded in it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

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

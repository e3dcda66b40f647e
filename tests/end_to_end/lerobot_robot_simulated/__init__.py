"""A robot without hardware, which LeRobot finds as it finds any plugin's: ``--robot.discover_packages_path``.

What it sees is drawn from seeds and follows from no action, so two rollouts see the same.
"""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lerobot.processor import NormalizerProcessorStep
from lerobot.robots import Robot, RobotConfig
from torch._dynamo.utils import counters

from benchmarks.suite.workloads import WORKLOADS

WORKLOAD = WORKLOADS["tiny"]
CAMERAS = [name.removeprefix("observation.images.") for name in WORKLOAD.camera_names]


@RobotConfig.register_subclass("simulated")
@dataclass(kw_only=True)
class SimulatedRobotConfig(RobotConfig):
    """``actions`` are made and the command is interrupted; what was sent is written to ``record``."""

    record: Path
    actions: int = 10  # more than a chunk has: two are predicted


class SimulatedRobot(Robot):
    config_class = SimulatedRobotConfig
    name = "simulated"

    def __init__(self, config: SimulatedRobotConfig) -> None:
        super().__init__(config)
        self._config = config
        self._connected = False
        self._observed = 0
        self._sent: list[dict[str, Any]] = []
        self._graphs = [0]  # compiled when it was connected, then with each action
        self._frames = [0]  # that were normalised before each action

    @property
    def observation_features(self) -> dict[str, Any]:
        joints: dict[str, Any] = {f"joint{i}.pos": float for i in range(WORKLOAD.state)}
        return joints | dict.fromkeys(CAMERAS, (WORKLOAD.height, WORKLOAD.width, 3))

    @property
    def action_features(self) -> dict[str, Any]:
        return {f"joint{i}.pos": float for i in range(WORKLOAD.action)}

    @property
    def is_connected(self) -> bool:
        return self._connected

    def connect(self, calibrate: bool = True) -> None:  # noqa: ARG002  # LeRobot's signature
        self._connected = True
        self._graphs = [counters["stats"]["unique_graphs"]]
        normalise = NormalizerProcessorStep.__call__

        def counted(step: NormalizerProcessorStep, transition: Any) -> Any:
            self._frames[-1] += sum("image" in name for name in transition["observation"] or ())
            return normalise(step, transition)

        NormalizerProcessorStep.__call__ = counted

    @property
    def is_calibrated(self) -> bool:
        return True

    def calibrate(self) -> None:
        pass

    def configure(self) -> None:
        pass

    def get_observation(self) -> dict[str, Any]:
        drawn = np.random.default_rng(self._observed)
        self._observed += 1
        shape = (WORKLOAD.height, WORKLOAD.width, 3)
        joints = {f"joint{i}.pos": float(drawn.normal()) for i in range(WORKLOAD.state)}
        return joints | {name: drawn.integers(256, size=shape, dtype=np.uint8) for name in CAMERAS}

    def send_action(self, action: dict[str, Any]) -> dict[str, Any]:
        self._sent.append({"observed": self._observed, **action})
        self._graphs.append(counters["stats"]["unique_graphs"])
        self._frames.append(0)
        if len(self._sent) == self._config.actions:
            os.kill(os.getpid(), signal.SIGINT)  # as Ctrl-C does
        return action

    def disconnect(self) -> None:
        self._connected = False
        self._config.record.write_text(
            json.dumps({"actions": self._sent, "graphs": self._graphs, "frames": self._frames})
        )

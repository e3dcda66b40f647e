"""The driver's end of a side's worker: a fresh process that runs this side and no other code."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..repository import ROOT
from ..suite.fresh_process import FreshProcess
from .answer_shapes import well_formed
from .sides import Side

WORKER = ("-m", "benchmarks.gate.worker")
STEP_TIMEOUT = 900  # s for one request; a cold compile of a training step takes 160-220 on two cores
START_SECONDS = 180  # imports take 5 s from byte-code and 13 without; a busy runner takes its time


class Worker(FreshProcess):
    """A process that runs one side.

    Args:
        side: whose ``src`` it imports.
        cache: Inductor's cache directory.
        command: what to start; the tests put others in the worker's place.
        environment: variables to set beside those there are.
    """

    when_killed = "out of memory? Choose fewer --workloads"

    def __init__(
        self,
        side: Side,
        cache: Path,
        *,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.side = side
        ours = {
            key: value
            for key, value in os.environ.items()
            if not key.startswith(("TORCHINDUCTOR_", "TORCH_COMPILE"))
        }
        # Inductor's and Dynamo's sets, in the same order on both sides.
        variables = {**ours, **(environment or {}), "PYTHONHASHSEED": "0"}
        super().__init__(
            side.name,
            command or WORKER,
            inductor_cache=cache,
            python_path=(side.path / "src", ROOT),
            python=side.python,
            cwd=side.path,
            environment=variables,
        )

    def send(self, do: str, **request: Any) -> None:
        """Ask without waiting for the answer; raises as ``FreshProcess`` does."""
        self._asked = do
        super().send(do, **request)

    def receive(self, timeout: float) -> dict[str, Any]:
        """The answer to what was asked last; raises as ``FreshProcess`` does, and where it answers else."""
        answer = super().receive(timeout)
        if not well_formed(self._asked, answer):
            raise self.malformed(f"to {self._asked}")
        return answer

    def hello(self) -> dict[str, Any]:
        """What the worker imported, checked against the side.

        Raises:
            MeasurementError: it does not import, or it is other code.
        """
        self.send("hello")
        return self.check_hello()

    def check_hello(self) -> dict[str, Any]:
        """The answer to a hello that was sent before; raises as ``hello`` does."""
        answer = self.receive(START_SECONDS)
        self.side.check(answer["imported"], answer["blobs"])
        return answer

    def pause(self) -> None:
        """Stop every thread of it where it is, until ``resume``."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)


StartWorker = Callable[[str, Mapping[str, str]], Worker]  # a side's name, variables to set


def starter(sides: Mapping[str, Side], root: Path, command: Sequence[str] = ()) -> StartWorker:
    """What starts a worker of a side by its name, as ``sides`` has it then; ``root`` keeps the cache."""

    def start(name: str, environment: Mapping[str, str]) -> Worker:
        cache = root / ".gate" / "inductor"
        return Worker(sides[name], cache, command=command, environment=environment)

    return start

"""The driver's end of a worker: start it, ask it, and be sure that it is gone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from ..repository import ROOT, MeasurementError
from ..suite.launch import TRUST_THE_PROCESSOR
from .sides import Side

WORKER = ("-m", "benchmarks.gate.worker")
STEP_TIMEOUT = 900  # s for one request; a cold compile of a training step takes 160-220 on two cores
START_SECONDS = 180  # imports take 5 s from byte-code and 13 without; a busy runner takes its time


class StepError(MeasurementError):
    """The side's code raised: the worker lives, and said so."""


class Worker:
    """A process that runs one side; a context manager that kills it, and its children, in any case.

    Args:
        side: whose ``src`` it imports.
        cache: Inductor's cache directory.
        python: the interpreter of the side's environment.
        command: what to start; the tests put others in the worker's place.
        environment: variables to set beside those there are.
    """

    def __init__(
        self,
        side: Side,
        cache: Path,
        *,
        python: str = sys.executable,
        command: Sequence[str] = WORKER,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.side = side
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # closed by __exit__
        variables = {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("TORCHINDUCTOR_", "TORCH_COMPILE"))
            },
            **TRUST_THE_PROCESSOR,
            **(environment or {}),
            "TORCHINDUCTOR_CACHE_DIR": str(cache),
            "PYTHONPATH": os.pathsep.join((str(side.path / "src"), str(ROOT))),
            "PYTHONHASHSEED": "0",  # Inductor's and Dynamo's sets, in the same order on both sides
        }
        try:
            self._process = subprocess.Popen(
                [python, *command],
                cwd=side.path,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                start_new_session=True,  # a group of its own: Inductor's compile workers go with it
            )
        except OSError as error:
            self._log.close()
            raise MeasurementError(f"{side.name}: no worker could be started: {error}") from None

    def send(self, do: str, **request: Any) -> None:
        """Ask without waiting for the answer.

        Raises:
            MeasurementError: the worker has ended.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **request}) + "\n")
            self._process.stdin.flush()
        except (BrokenPipeError, OSError):
            raise MeasurementError(self._death()) from None

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            MeasurementError: the worker failed, ended, was killed, or took longer than ``timeout`` s.
        """
        assert self._process.stdout is not None
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        try:
            line = self._process.stdout.readline()
        finally:
            timer.cancel()
        if not line:
            raise (
                self.hung(timeout)
                if timer.finished.is_set() and self._killed
                else MeasurementError(self._death())
            )
        answer: Mapping[str, Any] = json.loads(line)
        if answer.get("machine"):
            raise MeasurementError(
                f"{self.side.name} ran out of memory or disk: {answer['error']}; free some and retry"
            )
        if "error" in answer:
            raise StepError(f"{self.side.name} failed: {answer['error']}")
        return dict(answer)

    def ask(self, do: str, *, timeout: float, **request: Any) -> dict[str, Any]:
        """Send and receive."""
        self.send(do, **request)
        return self.receive(timeout)

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

    def hung(self, seconds: float) -> MeasurementError:
        """Kill it; what to raise."""
        self.kill()
        return MeasurementError(
            f"{self.side.name} gave no answer within {seconds:.0f} s and was stopped; does it hang?"
        )

    _killed = False

    def kill(self) -> None:
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _death(self) -> str:
        """Why the worker is gone, in one line."""
        code = self._process.wait()
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip()[:300] if lines else "it said nothing"
        if code == -signal.SIGKILL:
            return f"{self.side.name}'s worker was killed; out of memory? Choose fewer --workloads ({last})"
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"{self.side.name}'s worker ended {how}: {last}"

    def fileno(self) -> int:
        """Of its answers, for ``select``."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._log.close()

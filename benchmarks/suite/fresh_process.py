"""The driver's end of a fresh process: start it, ask it, and be sure that it is gone.

A request and its answer are JSON on one line each, so a driver needs no torch of its own; `serving` has
the other end.
"""

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
from typing import Any, TypeVar

# Every process of Inductor compiles and loads a library to see whether the processor's vector
# instructions work: 10 s of 15 with an empty cache, 3 s with a full one, and nothing of the model.
TRUST_THE_PROCESSOR = {"TORCHINDUCTOR_VEC_ISA_OK": "1"}
END_SECONDS = 60  # for what a process does after its last answer

Process = TypeVar("Process", bound="FreshProcess")


class MeasurementError(Exception):
    """One line that says what could not be measured, and the remedy. Exit code 2."""


class AnswerError(MeasurementError):
    """The code that was asked raised: the process lives, and said so."""


class FreshProcess:
    """A process that answers requests; a context manager that kills it, and its children, in any case.

    Args:
        name: what messages call it.
        command: what the interpreter is to run.
        inductor_cache: Inductor's cache directory.
        python_path: where it imports from, in this order.
        environment: all other variables; by default those of this process.

    Raises:
        MeasurementError: it cannot be started.
    """

    when_killed = "out of memory?"
    _killed = False

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        inductor_cache: Path,
        python_path: Sequence[str | Path],
        python: str = sys.executable,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # closed by __exit__
        variables = {
            **(os.environ if environment is None else environment),
            **TRUST_THE_PROCESSOR,
            "TORCHINDUCTOR_CACHE_DIR": str(inductor_cache),
            "PYTHONPATH": os.pathsep.join(map(str, python_path)),
        }
        try:
            self._process = subprocess.Popen(
                [python, *command],
                cwd=cwd,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                text=True,
                start_new_session=True,  # a group of its own: Inductor's compile workers go with it
            )
        except OSError as error:
            self._log.close()
            raise MeasurementError(f"{name}: no worker could be started: {error}") from None
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout

    def send(self, do: str, **request: Any) -> None:
        """Ask without waiting for the answer.

        Raises:
            MeasurementError: the process has ended.
        """
        try:
            self._requests.write(json.dumps({"do": do, **request}) + "\n")
            self._requests.flush()
        except OSError:
            raise MeasurementError(self._death()) from None

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            AnswerError: the code that was asked raised.
            MeasurementError: memory or disk ran out, the process ended, or took longer than ``timeout`` s.
        """
        timer = threading.Timer(timeout, self.kill)
        timer.start()
        try:
            line = self._answers.readline()
        finally:
            timer.cancel()
        if not line.endswith("\n"):
            raise self.hung(timeout) if self._killed else MeasurementError(self._death())
        answer: dict[str, Any] = json.loads(line)
        if answer.get("machine"):
            raise MeasurementError(
                f"{self.name} ran out of memory or disk: {answer['error']}; free some and retry"
            )
        if "error" in answer:
            raise AnswerError(f"{self.name} failed: {answer['error']}")
        return answer

    def ask(self, do: str, *, timeout: float, **request: Any) -> dict[str, Any]:
        """Send and receive."""
        self.send(do, **request)
        return self.receive(timeout)

    def finish(self) -> None:
        """Ask for nothing more, and let it remove what it keeps until its end."""
        self._requests.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(END_SECONDS)

    def hung(self, seconds: float) -> MeasurementError:
        """Kill it; what to raise."""
        self.kill()
        return MeasurementError(
            f"{self.name} gave no answer within {seconds:.0f} s and was stopped; does it hang?"
        )

    def kill(self) -> None:
        self._killed = True
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _death(self) -> str:
        """Why the process is gone, in one line."""
        code = self._process.wait()
        self._log.seek(0)
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip()[:300] if lines else "it said nothing"
        if code == -signal.SIGKILL:
            return f"{self.name}'s worker was killed; {self.when_killed} ({last})"
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return f"{self.name}'s worker ended {how}: {last}"

    def fileno(self) -> int:
        """Of its answers, for ``select``."""
        return self._answers.fileno()

    def __enter__(self: Process) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._process.wait()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        self._log.close()

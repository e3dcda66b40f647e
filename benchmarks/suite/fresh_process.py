"""The driver's end of a fresh process: start it, ask it, and be sure that it is gone.

A request and its answer are JSON on one line each, so a driver needs no torch of its own; `serving` has
the other end.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

# Every process of Inductor compiles and loads a library to see whether the processor's vector
# instructions work: 10 s of 15 with an empty cache, 3 s with a full one, and nothing of the model.
TRUST_THE_PROCESSOR = {"TORCHINDUCTOR_VEC_ISA_OK": "1"}
END_SECONDS = 60  # for what a process does after its last answer
CLOSING_SECONDS = 5  # for a process to end that has closed its answers
LARGEST_ANSWER = 1 << 26  # bytes; the longest, of a training step's gradients, has some 100,000
LONGEST_LOG = 1 << 16  # bytes of the end of what a process printed; its last line is looked for there
# In the environment of a process and of all that it starts, for those that leave its process group.
MARK = "FRESH_PROCESS"

Process = TypeVar("Process", bound="FreshProcess")


class MeasurementError(Exception):
    """One line that says what could not be measured, and the remedy. Exit code 2."""


class AnswerError(MeasurementError):
    """The code that was asked raised: the process lives, and said so."""


class FreshProcess:
    """A process that answers requests; a context manager that kills it, and all it started, in any case.

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
        self._unread = bytearray()
        self._mark = f"{MARK}={uuid.uuid4().hex}"  # as long for each process: it moves what lies behind it
        self._log = tempfile.TemporaryFile("w+b")  # noqa: SIM115  # closed by __exit__
        variables = {
            **(os.environ if environment is None else environment),
            **TRUST_THE_PROCESSOR,
            "TORCHINDUCTOR_CACHE_DIR": str(inductor_cache),
            "ACT_COMPILED_CACHE": str(Path(inductor_cache, "graphs")),  # the subject's own, cold with it
            "PYTHONPATH": os.pathsep.join(map(str, python_path)),
            MARK: self._mark.partition("=")[2],
        }
        try:
            self._process = subprocess.Popen(
                [python, *command],
                cwd=cwd,
                env=variables,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
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
            self._requests.write(json.dumps({"do": do, **request}).encode() + b"\n")
            self._requests.flush()
        except OSError:
            raise MeasurementError(self._death()) from None

    def receive(self, timeout: float) -> dict[str, Any]:
        """The next answer.

        Raises:
            AnswerError: the code that was asked raised.
            MeasurementError: memory or disk ran out, the process ended, took longer than ``timeout`` s,
                or its answer is no JSON object.
        """
        line = self._line(time.monotonic() + timeout)
        if not line.endswith(b"\n"):
            raise self.hung(timeout) if self._killed else MeasurementError(self._death())
        try:
            answer = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise self.malformed(type(error).__name__) from None
        if not isinstance(answer, dict):
            raise self.malformed(f"a {type(answer).__name__}")
        if answer.get("machine"):
            raise MeasurementError(
                f"{self.name} ran out of memory or disk: {answer.get('error')}; free some and retry"
            )
        if "error" in answer:
            raise AnswerError(f"{self.name} failed: {answer['error']}")
        return answer

    def _line(self, end: float) -> bytes:
        """The next line, or what there is of it when the process has ended; it is killed at ``end``.

        The clock is looked at here and not left to the pipe's end: a grandchild that holds the pipe, in a
        session of its own, outlives the process, and the end never comes.
        """
        while b"\n" not in self._unread:
            left = end - time.monotonic()
            if left <= 0:
                self.kill()
            if self._killed:
                break
            if select.select([self], [], [], min(left, 1.0))[0]:  # another thread may kill it meanwhile
                read = os.read(self.fileno(), 1 << 16)
                if not read:
                    break
                self._unread += read
            if len(self._unread) > LARGEST_ANSWER:
                raise self.malformed(f"longer than {LARGEST_ANSWER:,} bytes")
        line, newline, rest = self._unread.partition(b"\n")
        self._unread = bytearray(rest)
        return bytes(line + newline)

    def malformed(self, what: str) -> MeasurementError:
        """What to raise where an answer is not what was asked for."""
        return MeasurementError(f"{self.name} gave a malformed answer ({what}); does its code write answers?")

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
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - LONGEST_LOG))
        lines = [line for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip()[:300] if lines else "it said nothing"
        try:
            code = self._process.wait(CLOSING_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return f"{self.name}'s worker closed its answers and did not end: {last}"
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
        self._kill_strays()
        for pipe in (self._requests, self._answers):
            with contextlib.suppress(OSError):
                pipe.close()
        self._log.close()

    def _kill_strays(self) -> None:
        """Kill what left the process's group, as a daemon does; where there is no /proc it stays."""
        for _ in range(100):  # what it starts meanwhile is found the next time
            found = False
            for process in Path("/proc").glob("[0-9]*"):
                with contextlib.suppress(OSError):
                    if self._mark.encode() in (process / "environ").read_bytes().split(b"\0"):
                        os.kill(int(process.name), signal.SIGKILL)
                        found = True
            if not found:
                break
            time.sleep(0.01)

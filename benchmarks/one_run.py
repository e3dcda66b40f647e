"""One run at a time in a checkout, and nothing of it is left running when it is stopped."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from .repository import MeasurementError

# GitHub kills a cancelled job ten seconds after it has asked it to stop, see sigterm_interrupts.
PATIENCE = 5  # s for a command to end by itself


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the lock that whoever measures in this checkout takes: two would disturb each other's times.

    Raises:
        MeasurementError: somebody holds it.
    """
    home = root / ".gate"
    home.mkdir(exist_ok=True)
    lock = FileLock(home / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MeasurementError(
            "something is already being measured in this checkout; wait until it has ended, "
            "or each would disturb the other's times"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM, which a cancelled job gets, clean up like Ctrl-C: it raises KeyboardInterrupt.

    Either of them once, and then none until the process has ended: the next must not stop the cleaning up,
    nor take the place of its exit code. GitHub's runner sends SIGINT, SIGTERM 7.5 s later, and kills after
    another 2.5 s (its "Workflow cancellation reference").
    """
    interrupted = False
    # A shell's background job ignores SIGINT, and goes on to.
    numbers = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]

    def interrupt(*_: Any) -> NoReturn:
        nonlocal interrupted
        interrupted = True
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        if not interrupted:
            for number, handler in before.items():
                signal.signal(number, handler)


def stop(process: subprocess.Popen[Any]) -> None:
    """Stop a command and whatever it has started, in whichever groups and sessions that is.

    It is asked by SIGINT, which Python programs clean up after. What is left PATIENCE s later is killed.
    Signals that come meanwhile are ignored: the second one of a cancelled job must not end the cleaning up.
    """
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        started = _descendants(process.pid)
        process.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(PATIENCE)
        started |= {each for pid in (process.pid, *started) for each in _descendants(pid)}
        for pid in started:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        process.kill()
        process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _descendants(ancestor: int) -> set[int]:
    """Processes that ``ancestor`` started, and that these started; not those whose parent has ended."""
    children: dict[int, list[int]] = {}
    for pid, parent in _processes():
        children.setdefault(parent, []).append(pid)
    found, new = set[int](), [ancestor]
    while new:
        new = [child for pid in new for child in children.get(pid, []) if child not in found]
        found.update(new)
    return found


def _processes() -> Iterator[tuple[int, int]]:
    """Each process and its parent."""
    if Path("/proc/self/stat").exists():
        for entry in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):  # it has just ended
                # Its command stands in brackets, and may hold some itself.
                yield (
                    int(entry.parent.name),
                    int(entry.read_text(errors="replace").rpartition(")")[2].split()[1]),
                )
        return
    listed = subprocess.run(["ps", "-A", "-o", "pid=,ppid="], capture_output=True, text=True, check=False)
    for line in listed.stdout.splitlines():
        pid, parent = map(int, line.split())
        yield pid, parent

"""Where a run of the gate puts its things, one run at a time in a checkout."""

from __future__ import annotations

import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from ..repository import MeasurementError
from .prune import prune


@contextmanager
def workplace(root: Path) -> Iterator[Path]:
    """A directory for one run, of which nothing stays; what a killed run left goes with the next.

    Raises:
        MeasurementError: another gate is running.
    """
    home = root / ".gate"
    home.mkdir(exist_ok=True)
    lock = FileLock(home / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise MeasurementError(
            "another gate is running in this checkout; two would disturb each other: wait for it"
        ) from None
    place = home / "run"
    try:
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        yield place
    finally:
        try:
            shutil.rmtree(place, ignore_errors=True)
            prune(home)  # after the run, so that a cache which is saved then is no larger
        finally:
            lock.release()


@contextmanager
def sigterm_interrupts() -> Iterator[None]:
    """Let SIGTERM, which a cancelled job gets, clean up like Ctrl-C: it raises KeyboardInterrupt.

    Only the first of the two signals does: the next must not stop the cleaning up. GitHub's runner sends
    SIGINT, SIGTERM 7.5 s later, and kills after another 2.5 s (its "Workflow cancellation reference").
    """
    # A shell's background job ignores SIGINT, and goes on to.
    signals = [each for each in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(each) != signal.SIG_IGN]

    def interrupt(*_: Any) -> NoReturn:
        for each in signals:
            signal.signal(each, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)

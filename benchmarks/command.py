"""How a command of the ruler ends: its exit code, and one line that says why it could not measure."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .repository import MeasurementError

COULD_NOT_MEASURE = 2
FORESEEN = (MeasurementError, OSError, RuntimeError, ValueError)


def exit_code(
    name: str,
    work: Callable[[], int | None],
    *,
    interrupted: str = "interrupted",
    and_tell: Callable[[str], None] = lambda _: None,
) -> int:
    """What ``work`` returns, 0 for None; 2 where it raises, with one line that names the command.

    Whatever goes wrong is 2: Python's own exit code for it is 1, which means a regression to the gate.

    Args:
        name: of the nox session.
        interrupted: what to say after Ctrl-C; what stays, and how to go on.
        and_tell: who else hears why ``work`` failed; an OSError of theirs changes nothing.
    """
    atexit.register(gc.freeze)  # else a command that has imported torch and LeRobot takes 1.3 s to end
    try:
        code = work() or 0
        if sys.stdout is not None:  # it is where it was closed when Python began
            sys.stdout.flush()  # a full disk or a closed pipe refuses here, and not when Python ends
    except KeyboardInterrupt:
        why = interrupted
    except SystemExit as error:  # 1 is how rich ends where a pipe that it writes to is closed
        why = "nobody reads its output any more" if error.code == 1 else f"a library ended it ({error.code})"
    except Exception as error:
        why = reason(error)
    else:
        return code
    with contextlib.suppress(OSError, ValueError):
        print(f"{name}: {why}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        and_tell(why)
    for stream in (sys.stdout, sys.stderr):
        _leave(stream)
    return COULD_NOT_MEASURE


def reason(error: Exception) -> str:
    """Why a command failed, in one line; with its place where the mistake is in the command itself."""
    said = " ".join(str(error).split())
    if isinstance(error, subprocess.TimeoutExpired):
        return f"a fresh process took longer than {error.timeout:g} s"
    if isinstance(error, FORESEEN) and said:
        return said
    if isinstance(error, MemoryError):
        return "out of memory; free some and retry"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    what = ": ".join(filter(None, [type(error).__name__, said]))
    return f"{what}{place} (this is a mistake in the ruler; please report it)"


def say(text: str) -> None:
    """Print a result to standard output at once; what its encoding has no character for is escaped.

    Raises:
        OSError: standard output cannot be written to.
    """
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)


def _leave(stream: Any) -> None:
    """Let a stream that cannot be written to go; Python would try again at its end, and exit with 120."""
    try:
        stream.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    except AttributeError:  # there is none: it was closed when Python began
        return

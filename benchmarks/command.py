"""How a command of the ruler ends: its exit code, and one line that says why it could not measure."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from .repository import MeasurementError

COULD_NOT_MEASURE = 2


def exit_code(name: str, work: Callable[[], int | None], *, interrupted: str = "interrupted") -> int:
    """What ``work`` returns, 0 for None; 2 where it raises, with one line that names the command.

    Args:
        name: of the nox session.
        interrupted: what to say after Ctrl-C; what stays, and how to go on.
    """
    try:
        return work() or 0
    except KeyboardInterrupt:
        why = interrupted
    except subprocess.TimeoutExpired as error:
        why = f"a fresh process took longer than {error.timeout:g} s"
    except (MeasurementError, OSError, RuntimeError, ValueError) as error:
        why = " ".join(str(error).split())
    print(f"{name}: {why}", file=sys.stderr)
    return COULD_NOT_MEASURE

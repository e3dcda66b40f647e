"""A fresh process's end: it answers requests, one JSON line each, until there are no more. No torch.

Requests come on standard input, answers leave on what was standard output when the process began; whatever
the code under test prints goes to standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

PR_SET_PDEATHSIG = 1
# What an exception says when it is the machine's doing and not the code's, in whatever it is wrapped.
_MACHINE = (
    "No space left",
    "out of memory",
    "can't allocate memory",
    "Cannot allocate memory",
    "Killed signal",
)
_MACHINE_ERRNO = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE)


def serve(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer until the driver asks for nothing more; what ``answer`` raises is an answer too."""
    _end_with_parent()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what the code under test prints must not be read as an answer
    with contextlib.suppress(BrokenPipeError):
        for line in sys.stdin:
            try:
                found = answer(json.loads(line))
            except Exception as error:
                traceback.print_exc(file=sys.stderr)
                text = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
                found = {"error": text, "machine": is_the_machines(error)}
            answers.write(json.dumps(found) + "\n")
            answers.flush()
    gc.freeze()  # else Python looks through all of torch and LeRobot for garbage at its end, 1.3 s


def is_the_machines(error: BaseException | None) -> bool:
    """Whether memory or disk ran out, anywhere in the chain of exceptions."""
    while error is not None:
        full = isinstance(error, OSError) and error.errno in _MACHINE_ERRNO
        if full or isinstance(error, MemoryError) or any(text in str(error) for text in _MACHINE):
            return True
        error = error.__cause__ or error.__context__
    return False


def _end_with_parent() -> None:
    """Be killed with the driver; its pipe's end is not seen by a process that it stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)

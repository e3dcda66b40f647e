"""The interpreter of a side: this one, where it declares what is installed here; else one of its own."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from ..one_run import stop
from ..repository import MeasurementError
from .sides import Side, declared_dependencies

INSTALL_SECONDS = 1800
RULER = ("packaging", "tomli>=2; python_version < '3.11'")  # what a worker imports beside torch and LeRobot


def python_for(side: Side, root: Path, progress: Callable[[str], None]) -> str:
    """Path of the interpreter that runs ``side``; made with uv where it needs an environment of its own.

    Environments are named by the dependencies they hold and stay for the next run.

    Raises:
        MeasurementError: the dependencies do not install.
    """
    if side.dependencies == declared_dependencies(root):
        return sys.executable
    key = hashlib.sha256("\n".join((sys.version, *side.dependencies)).encode()).hexdigest()[:16]
    place = root / ".gate" / "environments" / key
    python = place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    complete = place / "complete"
    if not complete.exists():
        progress(f"{side.name}: other dependencies than the working tree's; installing them apart")
        _uv(side, "venv", "--clear", "--python", sys.executable, str(place))
        _uv(side, "pip", "install", "--compile-bytecode", "--python", str(python), *side.dependencies, *RULER)
    complete.touch()  # when it was used last, for ``prune``
    return str(python)


def _uv(side: Side, *args: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "uv", *args],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        errors="replace",
        start_new_session=True,  # Ctrl-C reaches it once, through `stop`
    ) as process:
        try:
            _, said = process.communicate(timeout=INSTALL_SECONDS)
        except BaseException as error:
            stop(process)  # and what builds a package for it
            if isinstance(error, subprocess.TimeoutExpired):
                why = f"{side.name}: its dependencies did not install within {INSTALL_SECONDS} s"
                raise MeasurementError(why) from None
            raise
    if process.returncode != 0:
        raise MeasurementError(
            f"{side.name}: its dependencies do not install: {' '.join(said.split())[:300]}"
        )

"""Which packages were installed beside a commit, so that a step can be told from an upgrade. No torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ..files import read_if_whole, write_whole
from ..repository import MeasurementError
from .result_files import VERSIONS


def packages(python: Path) -> dict[str, str]:
    """Versions of the packages that an interpreter sees, by name.

    Raises:
        MeasurementError: uv cannot list them.
    """
    command = [sys.executable, "-m", "uv", "pip", "list", "--format", "json", "--python", str(python)]
    try:
        done = subprocess.run(command, capture_output=True, errors="replace", check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise MeasurementError(f"uv pip list of {python} failed: {error}") from None
    return {package["name"]: package["version"] for package in json.loads(done.stdout)}


def record(commits: Sequence[str], machine: str, home: Path) -> None:
    """Write down what is installed in asv's environments, as what was installed beside ``commits``.

    asv resolves the dependencies once for all commits that declare the same.

    Args:
        home: holds ``env`` and ``versions``.

    Raises:
        MeasurementError: uv cannot list the packages.
    """
    found: dict[str, str] = {}
    for python in sorted((home / "env").glob("*/bin/python")):
        found |= packages(python)
    for commit in commits:
        write_whole(_path(commit, machine, home), json.dumps(found, sort_keys=True) + "\n")


def recorded(commit: str, machine: str, home: Path) -> dict[str, str]:
    """Versions by package's name; empty where nobody wrote them down, or not to the end."""
    return read_if_whole(_path(commit, machine, home))


def _path(commit: str, machine: str, home: Path) -> Path:
    return home / VERSIONS / machine / f"{commit[:8]}.json"

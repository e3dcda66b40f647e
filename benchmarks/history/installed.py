"""What was installed beside a commit, and on which machine: a step can come from either. No torch."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..files import read_if_whole, write_whole
from ..repository import MeasurementError
from .result_files import VERSIONS

KERNEL, PROCESSOR, GPU = "the kernel", "the processor", "the GPU and its driver"


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


def machine_itself() -> dict[str, str]:
    """Kernel, processor, and GPU with its driver where there is one."""
    from asv.util import get_cpu_info

    found = {KERNEL: f"{platform.system()} {platform.release()}", PROCESSOR: str(get_cpu_info())}
    command = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, errors="replace", check=True, timeout=60)
        found[GPU] = " ".join(done.stdout.split())
    return found


def differing(before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """What was recorded otherwise, by name; of the machine only what both sides know."""
    names = sorted({name for name, _ in before.items() ^ after.items()})
    both = before.keys() & after.keys()
    return {
        name: (before.get(name, "none"), after.get(name, "none"))
        for name in names
        if name in both or name not in (KERNEL, PROCESSOR, GPU)
    }


def record(commits: Sequence[str], machine: str, home: Path) -> None:
    """Write down what is installed in the environment that asv used last, as what was beside ``commits``.

    asv resolves the dependencies once for all commits that declare the same.

    Args:
        home: holds ``env`` and ``versions``.

    Raises:
        MeasurementError: uv cannot list the packages.
    """
    found = machine_itself()
    environments = sorted((home / "env").glob("*/bin/python"), key=_last_installed)
    if environments:  # others may be of an earlier configuration
        found |= packages(environments[-1])
    for commit in commits:
        write_whole(_path(commit, machine, home), json.dumps(found, sort_keys=True) + "\n")


def _last_installed(python: Path) -> float:
    places = python.parents[1].glob("lib/python*/site-packages")
    return max((place.stat().st_mtime for place in places), default=0.0)


def recorded(commit: str, machine: str, home: Path) -> dict[str, str]:
    """What ``record`` wrote down, by name; empty where nobody wrote them down, or not to the end."""
    return read_if_whole(_path(commit, machine, home))


def _path(commit: str, machine: str, home: Path) -> Path:
    return home / VERSIONS / machine / f"{commit[:8]}.json"

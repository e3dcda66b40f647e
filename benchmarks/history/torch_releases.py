"""asv over several torch releases at one commit: ``nox -s history -- --torch 2.7.0,2.11.0 HEAD^!``.

A step in the usual graphs can come from torch, of which each new environment takes the newest release, or
from us. Each release that is named here has a graph of its own beside them (parameter ``env-TORCH``): a step
in all of these is ours.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ..repository import MeasurementError
from . import asv_command, installed

VARIABLE = "TORCH"  # asv calls graphs after environment variables; nothing reads this one
GRAPH = re.compile(rf"/env-{VARIABLE}-([^/]+)/")


def releases(text: str) -> list[str]:
    """``2.7.0,2.11.0`` as a list."""
    found = text.split(",")
    if not all(re.fullmatch(r"\d+\.\d+\.\d+", release) for release in found):
        raise argparse.ArgumentTypeError(f"{text!r} names no torch releases; write 2.7.0,2.11.0")
    return found


def configuration(release: str, root: Path, directory: Path) -> Path:
    """Write asv's configuration with torch ``release`` in every environment into ``directory``; its path.

    The release stands in the command that installs a commit, so that a LeRobot which does not allow it is
    an error of uv's and no graph of another torch. Not among asv's requirements: pip would install those.
    """
    base = asv_command.configuration(root)
    return asv_command.write_configuration(
        directory / f"torch-{release}.json",
        {
            **base,
            "env_dir": str(environments(release, root)),
            "matrix": {**base["matrix"], "env": {VARIABLE: [release]}},
            "install_command": [f"{command} torch=={release}" for command in base["install_command"]],
        },
    )


def environments(release: str, root: Path) -> Path:
    """Where asv keeps what it installs for ``release``, apart from the usual environments."""
    return root / ".asv" / f"env-torch-{release}"


def assert_installed(release: str, root: Path) -> None:
    """Raise MeasurementError unless every environment for ``release`` holds it."""
    pythons = sorted(environments(release, root).glob("*/bin/python"))
    found = {installed.packages(python).get("torch", "none").partition("+")[0] for python in pythons}
    if found != {release}:
        raise MeasurementError(
            f"torch {release} was asked for, and {', '.join(found) or 'none'} was measured"
        )

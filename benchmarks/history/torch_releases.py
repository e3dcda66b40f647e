"""asv over several torch releases at one commit: ``nox -s history -- --torch 2.7.0,2.11.0 HEAD^!``.

A step in the usual graphs can come from torch, of which each new environment takes the newest release, or
from us. Each release that is named here has a graph of its own beside them (parameter ``env-TORCH``): a step
in all of these is ours.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from ..repository import MeasurementError
from . import installed
from .result_files import RESULTS

VARIABLE = "TORCH"  # asv calls graphs after environment variables; nothing reads this one
GRAPH = re.compile(rf"/env-{VARIABLE}-([^/]+)/")


def releases(text: str) -> list[str]:
    """``2.7.0,2.11.0`` as a list."""
    found = text.split(",")
    if not all(re.fullmatch(r"\d+\.\d+\.\d+", release) for release in found):
        raise argparse.ArgumentTypeError(f"{text!r} names no torch releases; write 2.7.0,2.11.0")
    return found


def configuration(release: str, root: Path) -> Path:
    """Write asv's configuration with torch ``release`` in every environment, and return its path.

    The release stands in the command that installs a commit, so that a LeRobot which does not allow it is
    an error of uv's and no graph of another torch. Not among asv's requirements: pip would install those.
    """
    home = root / ".asv"
    base = json.loads((root / "asv.conf.json").read_text(encoding="utf-8"))
    config = {
        **base,
        "repo": str(root),
        "benchmark_dir": str(root / base["benchmark_dir"]),
        "results_dir": str(home / RESULTS),
        "html_dir": str(home / "html"),
        "env_dir": str(environments(release, root)),
        "matrix": {**base["matrix"], "env": {VARIABLE: [release]}},
        "install_command": [f"{command} torch=={release}" for command in base["install_command"]],
    }
    path = home / f"torch-{release}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(config, indent=1), encoding="utf-8")
    return path


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

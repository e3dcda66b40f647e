"""This repository as its tools see it: where it is, what is measured in it, and git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

from .suite.fresh_process import MeasurementError as MeasurementError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/lerobot_policy_act_compiled"  # the subject


def git(*args: str, root: Path, env: Mapping[str, str] | None = None) -> str:
    """Output of a git command in ``root``.

    Args:
        env: variables to set beside those there are.

    Raises:
        MeasurementError: git failed; its last line is the message.
    """
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(
        ["git", *args], cwd=root, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise MeasurementError((done.stderr.strip() or f"git {args[0]} failed").splitlines()[-1])
    return done.stdout.strip()

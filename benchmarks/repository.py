"""This repository as its tools see it: where it is, what is measured in it, and git."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .suite.fresh_process import MeasurementError as MeasurementError

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "src/lerobot_policy_act_compiled"  # the subject


def git(*args: str, root: Path, env: Mapping[str, str] | None = None) -> str:
    """Output of a git command in ``root``; what is not UTF-8, as in an old commit's message, is replaced.

    Args:
        env: variables to set beside those there are.

    Raises:
        MeasurementError: git failed; its last line is the message.
    """
    return _said_by_git(args, root, env).decode(errors="replace").strip()


def git_files(*args: str, root: Path) -> list[str]:
    """Names of files that a git command lists with ``-z``, as ``open`` takes them; raises as ``git``."""
    return [os.fsdecode(name) for name in _said_by_git(args, root, None).split(b"\0") if name]


def _said_by_git(args: Sequence[str], root: Path, env: Mapping[str, str] | None) -> bytes:
    environment = {**os.environ, **(env or {})}
    done = subprocess.run(["git", *args], cwd=root, env=environment, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise MeasurementError((said or f"git {args[0]} failed").splitlines()[-1])
    return done.stdout

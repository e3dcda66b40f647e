"""Remove from ``.gate`` what runs left there and nobody needs: environments, and compiled code. No torch."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

DAYS = 30  # since an environment was used last, or an entry of compiled code was written
MOST_ENVIRONMENTS = 3  # in each of them torch with CUDA takes 5 GB
# Bytes of compiled code. A run of the default cases on a CPU writes some 150 MB, most of it two precompiled
# headers. CI keeps one such directory for each commit of main, and GitHub keeps 10 GB for all of them.
LARGEST_CACHE = 1_000_000_000


def prune(home: Path) -> None:
    """Remove what is old or too much, the oldest first; what cannot be removed stays.

    Args:
        home: ``.gate``; nobody else uses it meanwhile.
    """
    with contextlib.suppress(OSError):
        _prune_environments(home / "environments")
    with contextlib.suppress(OSError):
        _prune_compiled(home / "inductor")
    for half_written in home.glob("answers/.*.json.*"):  # by a run that was killed
        with contextlib.suppress(OSError):
            half_written.unlink()


def _oldest() -> float:
    return time.time() - DAYS * 24 * 3600


def _prune_environments(home: Path) -> None:
    """An environment's file ``complete`` is as old as its last use; without it, it was never finished."""
    if not home.is_dir():
        return
    used: dict[Path, float] = {}
    for place in home.iterdir():
        complete = place / "complete"
        used[place] = complete.stat().st_mtime if complete.exists() else 0.0
    newest = sorted(used, key=lambda place: used[place], reverse=True)
    for number, place in enumerate(newest):
        if number >= MOST_ENVIRONMENTS or used[place] < _oldest():
            shutil.rmtree(place, ignore_errors=True)


def _leaves(home: Path) -> Iterator[tuple[float, int, Path]]:
    """Directories that hold files: when the newest of them was written, bytes, and where.

    An entry of Inductor's or of Triton's cache is such a directory; Triton fails at half of its files.
    """
    for directory in [home, *(path for path in home.rglob("*") if path.is_dir() and not path.is_symlink())]:
        files = [file.lstat() for file in directory.iterdir() if not file.is_dir()]
        if files:
            yield max(file.st_mtime for file in files), sum(file.st_size for file in files), directory


def _prune_compiled(home: Path) -> None:
    leaves = sorted(_leaves(home), reverse=True) if home.is_dir() else []
    total = 0
    for written, size, directory in leaves:
        if total + size <= LARGEST_CACHE and written >= _oldest():
            total += size
        else:
            for file in directory.iterdir():
                if not file.is_dir():
                    file.unlink()

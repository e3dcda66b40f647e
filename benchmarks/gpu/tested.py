"""The tests marked ``gpu``, a process for each file."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

PART = "tests"
MARK = re.compile(r"pytest\.mark\.gpu\b")
LONGEST = 4000  # characters of what a failed file said
COUNTED = re.compile(r"(\d+) (passed|failed|skipped|error)")
SECONDS = re.compile(r" in ([\d.]+)s")
Results = Callable[[float], Iterator[tuple[str, str, dict[str, Any]]]]  # of seconds: part, name, figures


def files(root: Path) -> list[str]:
    """Those that have such a test, by their text."""
    found = (file for file in (root / "tests").rglob("test_*.py") if MARK.search(file.read_text("utf-8")))
    return sorted(file.relative_to(root).as_posix() for file in found)


@contextmanager
def running(names: Sequence[str], root: Path, place: Path) -> Iterator[Results]:
    """Start pytest on each; what is yielded waits for them, as long as it is told. None is left running."""
    place.mkdir(exist_ok=True)
    logs = {name: place / f"{index}.log" for index, name in enumerate(names)}
    processes: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, log in logs.items():
            with log.open("wb") as to:
                processes[name] = subprocess.Popen(
                    [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "gpu", name],
                    cwd=root,
                    stdout=to,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(place / "tests")},
                )

        def results(seconds: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
            end = time.monotonic() + seconds
            for name, process in processes.items():
                try:
                    code = process.wait(max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue  # not recorded, so the next run goes on with it
                yield PART, name, _result(logs[name].read_text("utf-8", "replace"), code)

        yield results
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def _result(log: str, code: int) -> dict[str, Any]:
    lines = [line for line in log.splitlines() if line.strip()] or ["it said nothing"]
    found: dict[str, Any] = {kind: int(count) for count, kind in COUNTED.findall(lines[-1])}
    took = SECONDS.search(lines[-1])
    if took:
        found["seconds"] = float(took[1])
    if code != 0:
        said = [line for line in lines if line.startswith(("FAILED", "ERROR", "E  ", "INFO"))]
        found["failed"] = "; ".join(said or lines[-1:])[:LONGEST]
    return found

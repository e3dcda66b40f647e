"""The gate on this GPU: green for an edit that changes nothing, red by cause for one that does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..edits import Edit
from ..gate.proof.mutants import HARMLESS, MUTANTS, Mutant
from ..repository import git
from .tested import Results

OF_CAPTURE = (  # mistakes that only a GPU shows
    Mutant(
        "a lost capture",
        Edit("if kind not in self._refused and not being_recorded():", "if False:", "capture.py"),
        "kernel launches of auto",
    ),
    Mutant(
        "a wait for the GPU in each step",
        Edit(
            "        self._take(batch)\n        watch.before()",
            "        self._take(batch)\n        self.cuda.wait()\n        watch.before()",
            "capture.py",
        ),
        "waits of auto for the GPU",
    ),
    Mutant(
        "memory of a second graph",
        Edit(
            "self._graph = cuda.record(lambda: run(twin, observed))",
            "self._graph, self._other = [cuda.record(lambda: run(twin, observed)) for _ in range(2)]",
            "capture.py",
        ),
        "peak memory of auto",
    ),
)
EVERY = {
    mutant.name: mutant
    for mutant in (*HARMLESS, *MUTANTS, *OF_CAPTURE)
    if mutant in OF_CAPTURE or mutant.name in ("a renamed variable", "the encoder run twice")
}
EDITS = list(EVERY)[:3]  # without --every-edit
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__")
WORKLOAD = {"cuda": "aloha-inference", "cpu": "tiny-inference"}
PART = "gate"


@contextmanager
def running(names: Sequence[str], device: str, root: Path, place: Path) -> Iterator[Results]:
    """Start the gate on each edit against the code without it: results and counters, no times.

    What is yielded waits for the verdicts, as long as it is told. None is left running.
    """
    begun = time.monotonic()
    processes: dict[str, subprocess.Popen[str]] = {}
    try:
        for name in names:
            processes[name] = _start(EVERY[name], device, root, place)

        def results(seconds: float) -> Iterator[tuple[str, str, dict[str, Any]]]:
            end = time.monotonic() + seconds
            for name, process in processes.items():
                try:
                    said, _ = process.communicate(timeout=max(0.1, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    continue  # not recorded, so the next run goes on with it
                took = time.monotonic() - begun
                yield PART, name, {**_verdict(EVERY[name], process.returncode, said), "seconds": took}

        yield results
    finally:
        for process in processes.values():
            process.kill()
            process.wait()


def _start(mutant: Mutant, device: str, root: Path, place: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.gate", "--base", "HEAD", "--no-times"),
            *("--device", device, "--workloads", WORKLOAD[device]),
        ],
        cwd=_edited(mutant, root, place),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        errors="replace",
        env={**os.environ, "PYTHONPATH": ""},
    )


def _edited(mutant: Mutant, root: Path, place: Path) -> Path:
    """A repository of this code, with the edit uncommitted: what is here may have files and no history."""
    copy = place / mutant.name.replace(" ", "-")
    shutil.copytree(root, copy, ignore=NOT_COPIED)
    shutil.copy(root / ".gitignore", copy)
    who = {f"GIT_{role}_{what}": "gpu" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "as it is")):
        git(*arguments, root=copy, env=who)
    mutant.edit.apply(copy)
    return copy


def _verdict(mutant: Mutant, code: int, said: str) -> dict[str, Any]:
    """Its exit code, and ``failed`` where that, or the cause that it names, is not what the edit deserves."""
    if code == (1 if mutant.cause else 0) and mutant.cause.lower() in said.lower():
        return {"exit_code": code}
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    return {"exit_code": code, "failed": f"exit code {code}: {' / '.join(lines[-6:])[:800]}"}

"""The gate on this GPU: green for an edit that changes nothing, red by cause for one that does."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from ..gate.proof.mutants import HARMLESS, MUTANTS, Mutant
from ..repository import git

EDITS = {
    mutant.name: mutant
    for mutant in (*HARMLESS, *MUTANTS)
    if mutant.name in ("a renamed variable", "the encoder run twice")
}
NOT_COPIED = shutil.ignore_patterns(".*", "__pycache__")
WORKLOAD = {"cuda": "aloha-inference", "cpu": "tiny-inference"}
Missing = Callable[[str, Sequence[str]], list[str]]


def measure(device: str, missing: Missing, record: Callable[..., None], end: float, root: Path) -> None:
    """Results and counters of each edit against the code without it, all edits at once."""
    wanted = missing("gate", list(EDITS))
    with tempfile.TemporaryDirectory(prefix="gpu-gate-") as place:
        started = {
            name: (_start(EDITS[name], device, root, Path(place)), time.monotonic()) for name in wanted
        }
        try:
            for name, (process, begun) in started.items():
                try:
                    said, _ = process.communicate(timeout=max(1.0, end - time.monotonic()))
                except subprocess.TimeoutExpired:
                    record("gate", name, failed="no verdict in time")
                    continue
                seconds = time.monotonic() - begun
                record("gate", name, **_verdict(EDITS[name], process.returncode, said), seconds=seconds)
        finally:
            for process, _ in started.values():
                process.kill()
                process.wait()


def _start(mutant: Mutant, device: str, root: Path, place: Path) -> subprocess.Popen[str]:
    copy = place / mutant.name.replace(" ", "-")
    shutil.copytree(root, copy, ignore=NOT_COPIED)
    shutil.copy(root / ".gitignore", copy)
    who = {f"GIT_{role}_{what}": "gpu" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-q", "-m", "as it is")):
        git(*arguments, root=copy, env=who)
    mutant.edit.apply(copy)
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "benchmarks.gate", "--base", "HEAD", "--no-times"),
            *("--device", device, "--workloads", WORKLOAD[device]),
        ],
        cwd=copy,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": ""},
    )


def _verdict(mutant: Mutant, code: int, said: str) -> dict[str, object]:
    """What the gate said, and ``failed`` where that is not what the edit deserves."""
    lines = [line.strip() for line in said.splitlines() if line.strip()] or ["it said nothing"]
    found: dict[str, object] = {"exit_code": code, "headline": lines[-1][:300]}
    right = code == (1 if mutant.cause else 0) and mutant.cause.lower() in said.lower()
    return found if right else {**found, "failed": f"exit code {code}: {' / '.join(lines[-6:])[:800]}"}

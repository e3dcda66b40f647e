"""Ask one fresh process to compile or to measure; ``answers`` is what it runs.

The launch is the unit of replication: two launches differ by more than two samples of one.
A request and its answer are JSON on one line, so a caller needs no torch of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .workloads import Case

ROOT = Path(__file__).resolve().parents[2]  # asv imports this folder by itself, without the rest

# Every process of Inductor compiles and loads a library to see whether the processor's vector
# instructions work: 10 s of 15 with an empty cache, 3 s with a full one, and nothing of the model.
TRUST_THE_PROCESSOR = {"TORCHINDUCTOR_VEC_ISA_OK": "1"}


def launch(request: dict[str, Any], *, inductor_cache: Path, timeout: float = 1800) -> dict[str, Any]:
    """Run ``request`` in a fresh process with its own Inductor cache directory.

    Args:
        request: ``do``, a name in ``answers.ANSWERS``, and ``cases``, a list of Case's fields.
        inductor_cache: empty for a cold compile, filled by an earlier launch for a warm one.
        timeout: s

    Raises:
        RuntimeError: the launch failed; its last lines of output are in the message.
        subprocess.TimeoutExpired: it took longer than ``timeout``; it has been killed.
    """
    environment = {
        **os.environ,
        **TRUST_THE_PROCESSOR,
        "TORCHINDUCTOR_CACHE_DIR": str(inductor_cache),
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.suite.answers", json.dumps(request)],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    if done.returncode != 0:
        tail = " | ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        raise RuntimeError(f"launch of {request['cases']} ended with exit code {done.returncode}: {tail}")
    answer: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return answer


def as_request(do: str, cases: Sequence[Case], **options: Any) -> dict[str, Any]:
    """The request that asks a launch to ``do`` something with ``cases``."""
    return {"do": do, "cases": [asdict(case) for case in cases], **options}

"""Ask one fresh process to compile or to measure; ``answers`` is what it runs.

The launch is the unit of replication: two launches differ by more than two samples of one.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from .fresh_process import FreshProcess
from .workloads import Case

ROOT = Path(__file__).resolve().parents[2]  # asv imports this folder by itself, without the rest
ANSWERS = ("-m", "benchmarks.suite.answers")


def launch(request: dict[str, Any], *, inductor_cache: Path, timeout: float = 1800) -> dict[str, Any]:
    """Run ``request`` in a fresh process with its own Inductor cache directory.

    Args:
        request: ``do``, a name in ``answers.ANSWERS``, and ``cases``, a list of Case's fields.
        inductor_cache: empty for a cold compile, filled by an earlier launch for a warm one.
        timeout: s

    Raises:
        MeasurementError: the launch failed, or took longer than ``timeout``; it has been killed.
    """
    name = f"launch of {', '.join(str(Case(**fields)) for fields in request['cases'])}"
    path = [str(ROOT), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with FreshProcess(name, ANSWERS, inductor_cache=inductor_cache, python_path=path) as process:
        answer = process.ask(**request, timeout=timeout)
        process.finish()
    return answer


def as_request(do: str, cases: Sequence[Case], **options: Any) -> dict[str, Any]:
    """The request that asks a launch to ``do`` something with ``cases``."""
    return {"do": do, "cases": [asdict(case) for case in cases], **options}

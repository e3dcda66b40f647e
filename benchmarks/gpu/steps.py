"""Steps of users with one GPU, mode auto beside stock eager in fp32: compiled side by side, timed alone."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..repository import ROOT
from ..suite.fresh_process import FreshProcess, MeasurementError
from ..suite.gpu_steps import AS_TRAIN, STRICT
from ..suite.workloads import Case
from . import tested

ANSWERS = ("-m", "benchmarks.suite.gpu_steps")
TIMING = 60  # s at most for one step's times
FIRST_CALL = "aloha inference fp32, nothing cached"
Record = Callable[..., None]

# Workload, phase, precision, flags; the most telling first, for a run that is cut off.
ON_CUDA = (
    ("aloha", "inference", "fp32", AS_TRAIN),
    ("aloha", "inference", "bf16", AS_TRAIN),
    ("aloha", "inference", "fp32", STRICT),
    ("aloha", "training", "fp32", AS_TRAIN),
    ("aloha", "training", "bf16", AS_TRAIN),
    ("pusht", "training", "fp32", AS_TRAIN),
    ("aloha", "tick_ensemble", "fp32", AS_TRAIN),
    ("aloha_3cam", "inference", "fp32", AS_TRAIN),
    ("aloha_3cam", "inference", "bf16", AS_TRAIN),
    ("pusht", "inference", "fp32", AS_TRAIN),
)
ON_CPU = (("tiny", "inference", "fp32", AS_TRAIN), ("tiny", "training", "fp32", AS_TRAIN))  # a rehearsal


def asked(device: str) -> dict[str, tuple[Case, str]]:
    """Each step's case and flags by the name it is recorded by."""
    found = {}
    for workload, phase, precision, flags in ON_CUDA if device == "cuda" else ON_CPU:
        name = f"{workload} {phase} {precision}" + (", strict" if flags == STRICT else "")
        found[name] = Case(workload, phase, "auto", precision, device), flags
    return found


def names(device: str) -> list[str]:
    return list(asked(device))


def measure(
    wanted: Sequence[str], device: str, record: Record, end: float, beside: Sequence[tested.Results]
) -> None:
    """Compile all steps at once, while what is ``beside`` runs; then time one step after another."""
    steps = {name: asked(device)[name] for name in wanted}
    with ExitStack() as stack:
        cache = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gpu-")))
        threads = max(1, (os.cpu_count() or 1) // max(1, len(steps)))
        processes = {}
        for name, (case, flags) in steps.items():
            processes[name] = stack.enter_context(_process(name, cache / "shared", threads))
            processes[name].send("ready", case=asdict(case), flags=flags)
        answers = {
            name: _or_failure(record, name, process.receive, _seconds(end))
            for name, process in processes.items()
        }
        for results in beside:
            for part, name, figures in results(_seconds(end)):
                record(part, name, **figures)
        for name, ready in answers.items():
            if ready is None:
                continue
            timeout = min(TIMING, _seconds(end))
            times = _or_failure(record, name, processes[name].ask, "times", timeout=timeout)
            if times is not None:
                record("steps", name, **ready, **times)


def first_call(wanted: Sequence[str], device: str, record: Record, end: float) -> None:
    """Seconds of a first call that finds nothing compiled, with the machine to itself."""
    for name in wanted:
        workload = "aloha" if device == "cuda" else "tiny"
        case = Case(workload, "inference", "auto", "fp32", device)
        with (
            tempfile.TemporaryDirectory(prefix="gpu-") as cache,
            _process(name, Path(cache), None) as process,
        ):
            request = {"case": asdict(case), "flags": AS_TRAIN, "timeout": _seconds(end)}
            found = _or_failure(record, name, process.ask, "ready", **request)
        if found is not None:
            record("first call", name, **found)


def _or_failure(
    record: Record, name: str, answer: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any
) -> dict[str, Any] | None:
    """The answer; one step that fails is recorded as such, and the others go on."""
    try:
        return answer(*args, **kwargs)
    except MeasurementError as error:
        record("failures", name, failed=str(error))
        return None


@contextmanager
def _process(name: str, cache: Path, threads: int | None) -> Iterator[FreshProcess]:
    environment = dict(os.environ)
    if threads is not None:
        environment["TORCHINDUCTOR_COMPILE_THREADS"] = str(threads)
    path = [str(ROOT), str(ROOT / "src"), *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    with FreshProcess(
        name, ANSWERS, inductor_cache=cache, python_path=path, python=sys.executable, environment=environment
    ) as process:
        yield process


def _seconds(end: float) -> float:
    return max(1.0, end - time.monotonic())

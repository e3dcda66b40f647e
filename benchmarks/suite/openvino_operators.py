"""Where a step's time goes inside OpenVINO, by its own counters; ``peers`` asks for it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from statistics import fmean
from typing import Any

from .peers import openvino
from .timer import PAUSE, timed, turned, warmed_up
from .workloads import Case

KINDS = {"Convolution": "convolutions", "FullyConnected": "products", "MatMul": "products"}
REST, OUTSIDE = "all else in OpenVINO", "outside"
PARTS = ("convolutions", "products", REST, OUTSIDE)
UNBOUND = "openvino, unbound"  # its threads may run on any core, as those of ``auto``
STEPS = 60  # of each, by turns


def openvino_operators(cases: Sequence[Case], steps: int = STEPS) -> dict[str, Any]:
    """Mean seconds of a step by PARTS: of the variants ``auto`` and ``openvino``, and of UNBOUND.

    Means, as OpenVINO gives each operator's; what is outside is the rest of the clock's time.

    Raises:
        ValueError: a case did not run by OpenVINO.
    """
    made = {case.variant: _counted(case) for case in cases}
    made[UNBOUND] = _counted(cases[-1].as_variant("openvino"), ENABLE_CPU_PINNING=False)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for turn in range(steps):
        for name in turned(list(made), turn):
            time.sleep(PAUSE)
            seconds[name].append(timed(made[name][0]))
    found = {}
    for name, (_, request) in made.items():
        parts, takes = dict.fromkeys(PARTS, 0.0), fmean(seconds[name])
        for operator in request.profiling_info:
            parts[KINDS.get(operator.node_type, REST)] += operator.real_time.total_seconds()
        parts[OUTSIDE] = takes - sum(parts.values())
        found[name] = {"takes": takes, "parts": parts}
    return {"operators": found}


def _counted(case: Case, **options: Any) -> tuple[Any, Any]:
    with counting(**options) as requests:
        step = warmed_up(case)
    if not requests:
        raise ValueError(f"{case} does not run by OpenVINO")
    return step, requests[-1]


@contextmanager
def counting(**options: Any) -> Iterator[list[Any]]:
    """Let OpenVINO count each operator's time, and compile with ``options``; yields the requests it makes."""
    core, model = openvino().Core, openvino().CompiledModel
    requests: list[Any] = []
    compile_model, create = core.compile_model, model.create_infer_request

    def compiled(self: Any, graph: Any, device: str, given: dict[str, Any], *rest: Any) -> Any:
        return compile_model(self, graph, device, {**given, **options, "PERF_COUNT": True}, *rest)

    def created(self: Any) -> Any:
        requests.append(create(self))
        return requests[-1]

    core.compile_model, model.create_infer_request = compiled, created
    try:
        yield requests
    finally:
        core.compile_model, model.create_infer_request = compile_model, create

"""What a user waits for once: the first call of a compiled step, cold and warm."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .cases import TIMEOUT, setup_cache
from .launch import as_request, launch
from .workloads import DEVICES, SUITE_VERSION, Case

# On two cores a cold compile takes 40 s, and 160-220 s of a training step, a third of the whole suite:
# a CPU's history has the seconds of one graph and the kernels of all (the Counts classes).
COMPILED = {
    "cpu": ("aloha inference",),
    "cuda": ("aloha inference", "aloha_3cam inference", "pusht training"),
}
GRAPHS = list(dict.fromkeys(graph for graphs in COMPILED.values() for graph in graphs))


class Compilation:
    """Seconds of the first call, each in a process of its own whose fixed first compile is left out.

    Cold: an empty cache directory. Warm: another process with the cache that the cold one filled.
    """

    version = SUITE_VERSION
    timeout = TIMEOUT
    params = (GRAPHS, list(DEVICES))
    param_names = ("graph", "device")
    unit = "seconds"

    def setup_cache(self) -> dict[str, Any]:
        return {
            f"{graph} {device}": _cold_and_warm(graph, device)
            for device in setup_cache().devices
            for graph in COMPILED[device]
        }

    setup_cache.timeout = TIMEOUT  # type: ignore[attr-defined]

    def setup(self, compiled: dict[str, Any], graph: str, device: str) -> None:
        if f"{graph} {device}" not in compiled:
            raise NotImplementedError(f"the cold compile of {graph} is not measured on {device} here")
        self.compiled = compiled[f"{graph} {device}"]

    def track_cold_compile(self, *_: Any) -> float:
        return self.compiled["cold"]

    def track_warm_compile(self, *_: Any) -> float:
        return self.compiled["warm"]


def _cold_and_warm(graph: str, device: str) -> dict[str, float]:
    workload, phase = graph.split()
    case = Case(workload, phase, "compiled", device=device)
    with tempfile.TemporaryDirectory() as cache:
        cold, warm = (
            launch(as_request("first_call", [case]), inductor_cache=Path(cache), timeout=TIMEOUT)
            for _ in range(2)
        )
    return {"cold": cold["cases"][str(case)]["seconds"], "warm": warm["cases"][str(case)]["seconds"]}

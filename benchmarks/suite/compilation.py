"""What a user waits for once: the first call of a compiled step, cold and warm."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from .asv_cases import TIMEOUT, this_machine
from .launch import as_request, launch
from .workloads import DEVICES, SUITE_VERSION, Case

# One graph of each kind: the others have the same layers and differ in their shapes.
COMPILED = ("aloha inference", "aloha_3cam inference", "pusht training")


class Compilation:
    """Seconds of the first call, each in a process of its own; its fixed first compile is left out.

    Cold: an empty cache directory. Warm: another process with the cache that the cold one filled.
    """

    version = SUITE_VERSION
    timeout = TIMEOUT
    params = (list(COMPILED), list(DEVICES))
    param_names = ("graph", "device")
    unit = "seconds"

    def setup_cache(self) -> dict[str, Any]:
        return {
            f"{graph} {device}": _cold_and_warm(graph, device)
            for device in this_machine().devices
            for graph in COMPILED
        }

    def setup(self, compiled: dict[str, Any], graph: str, device: str) -> None:
        if f"{graph} {device}" not in compiled:
            raise NotImplementedError(f"this machine has no {device} device")
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

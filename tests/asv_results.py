"""What asv writes: benchmarks as it discovers them, and results; the names that published histories have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

DEVICES = {"device": ["cpu", "cuda"]}
VARIANTS = {"variant": ["eager", "compiled"]}
BESIDE_STOCK = {"variant": ["stock", "auto"]}
BOTH = {"precision": ["fp32", "bf16"]}
FP32 = {"precision": ["fp32"]}
INFERENCE = {"workload": ["aloha", "aloha_3cam", "pusht", "libero"]}
TRAINING = {"workload": ["pusht", "aloha", "aloha_3cam", "libero"]}
ROLLOUT = {"workload": ["aloha"]}
GRAPHS = {"graph": ["aloha inference", "aloha_3cam inference", "pusht training"]}
COUNTS = {
    "graphs": "unit",
    "graph_breaks": "unit",
    "ops_captured": "unit",
    "inductor_kernels": "unit",
    "flops": "unit",
    "dispatched_ops_eager": "unit",
    "peak_memory_eager": "bytes",
    "peak_memory_compiled": "bytes",
    "compiled_over_eager": "ratio",
    "limit_over_eager": "ratio",
    "auto_over_stock": "ratio",
    "compiled_over_eager_spread": "ratio",
    "auto_over_stock_spread": "ratio",
    "kernel_launches": "unit",
    "cudagraph_skips": "unit",
}


def benchmark(name: str, unit: str, params: Mapping[str, list[str]]) -> dict[str, Any]:
    """What asv writes down of a benchmark when it discovers it."""
    return {
        "code": "",
        "name": name,
        "param_names": list(params),
        "params": [[repr(value) for value in values] for values in params.values()],
        "timeout": 900,
        "type": "time" if name.rpartition(".")[2].startswith("time_") else "track",
        "unit": unit,
        "version": "1",
    }


# Every benchmark of the published histories, by its name, with its parameters in their order. Another name,
# parameter or version ends a history: add to these, and change none.
PUBLISHED = {
    name: benchmark(name, unit, params)
    for name, unit, params in (
        (
            "inference.Inference.time_predict_action_chunk",
            "seconds",
            INFERENCE | BOTH | DEVICES | VARIANTS,
        ),
        ("training.Training.time_training_step", "seconds", TRAINING | BOTH | DEVICES | VARIANTS),
        ("rollout.Rollout.time_chunk_of_actions", "seconds", ROLLOUT | FP32 | DEVICES | VARIANTS),
        ("rollout.TemporalEnsembling.time_tick", "seconds", ROLLOUT | FP32 | DEVICES | VARIANTS),
        ("rollout.Tick.time_ticks_of_a_chunk", "seconds", ROLLOUT | FP32 | DEVICES | BESIDE_STOCK),
        ("rollout.EnsembledTick.time_tick", "seconds", ROLLOUT | FP32 | DEVICES | BESIDE_STOCK),
        ("compilation.Compilation.track_cold_compile", "seconds", GRAPHS | DEVICES),
        ("compilation.Compilation.track_warm_compile", "seconds", GRAPHS | DEVICES),
        *(
            (f"{where}.track_{name}", unit, workloads | DEVICES)
            for where, workloads in (
                ("inference.InferenceCounts", INFERENCE),
                ("training.TrainingCounts", TRAINING),
            )
            for name, unit in COUNTS.items()
        ),
    )
}


def results(
    commit: str,
    when: int,
    machine: str,
    values: Mapping[str, list[float]],
    benchmarks: Mapping[str, Any] = PUBLISHED,
) -> dict[str, Any]:
    """One of asv's files.

    Args:
        when: s since 1970.
        values: by benchmark, in the order of its parameters.
    """
    return {
        "commit_hash": commit,
        "env_name": "virtualenv-py3.12",
        "date": when * 1000,
        "params": machine_of(machine),
        "python": "3.12",
        "requirements": {},
        "env_vars": {},
        "result_columns": ["result", "params", "version", "started_at", "duration"],
        "results": {
            name: [found, benchmarks[name]["params"], "1", when * 1000, 1.0] for name, found in values.items()
        },
        "durations": {},
        "version": 2,
    }


def machine_of(name: str) -> dict[str, str]:
    return {"machine": name, "arch": "x86_64", "cpu": "any", "num_cpu": "2", "os": "any", "ram": "any"}


def of_one_case(name: str, case: tuple[str, ...], value: float) -> list[float]:
    """A published benchmark's values on a machine that measures this one case of it: n/a everywhere else."""
    shape = [len(values) for values in PUBLISHED[name]["params"]]
    found = [math.nan] * math.prod(shape)
    at = 0
    for values, chosen, size in zip(PUBLISHED[name]["params"], case, shape, strict=True):
        at = at * size + values.index(repr(chosen))
    found[at] = value
    return found

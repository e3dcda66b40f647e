"""What Dynamo captures of a case and how often it compiles again; nothing here compiles code."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..suite.counts import eager_counts, graph_counts
from ..suite.steps import prepare
from ..suite.workloads import Case, Step, make_batch
from . import pairing


def graph(case: Case) -> dict[str, Any]:
    """Counts that need no compiled code. Graph breaks come with file:line and reason."""
    step = prepare(case.as_variant("eager"))
    step()
    found = eager_counts(step)
    if case.device == "cpu" and pairing.CAN_SLICE:  # the processor's time, which is compared, has no waits
        from ..suite.step_counters import waits

        found["waits"] = waits(step)
    return {**found, **_graph(step)}


def _graph(step: Step) -> dict[str, Any]:
    """The graph of the step's own batch.

    ``trace``, 2 to 7 s on two cores, is asked only for the place and reason of a graph break.
    """
    import torch

    from ..suite.compile_counters import CapturingBackend, count_compilation

    backend = CapturingBackend()
    torch.compiler.reset()
    with count_compilation() as compilation:  # fullgraph would capture .item(), not break
        torch.compile(step.forward, backend=backend)(step.batch)
    torch.compiler.reset()
    if not compilation.graph_breaks and len(backend.ops) == 1:
        return {"graphs": 1, "ops": backend.ops[0], "graph_breaks": []}
    broken = graph_counts(step)
    if not broken["graph_breaks"]:
        raise RuntimeError(f"{step.case} is {len(backend.ops)} graphs, and torch says nothing of a break")
    return {**broken, "graph_breaks": [_in_the_commit(place) for place in broken["graph_breaks"]]}


OTHER_BATCH_SIZES = (3, 2, 5, 6)  # the first makes the batch dynamic; from then on nothing may recompile


def recompiles(case: Case) -> dict[str, Any]:
    """Recompiles of a case without graph breaks over other batch sizes, resets, and train and eval by turns.

    Of each of these a graph break is counted, too.
    """
    import torch

    from ..suite.compile_counters import CapturingBackend, count_compilation
    from ..suite.workloads import WORKLOADS

    step = prepare(case.as_variant("eager"))
    torch.compiler.reset()
    compiled = torch.compile(step.forward, backend=CapturingBackend())
    compiled(step.batch)
    with count_compilation() as later:
        for size in OTHER_BATCH_SIZES:
            compiled(make_batch(WORKLOADS[case.workload], size, device=case.device))
        for mode in (True, False, True, False):
            step.policy.train(mode)
            step.policy.reset()
            if mode or case.phase != "training":  # LeRobot 0.4.4 has no loss in eval mode with the VAE
                compiled(step.batch)
    torch.compiler.reset()
    breaks = [f"at another batch size or in another mode: {reason}" for reason in later.graph_breaks]
    return {"graph_breaks": breaks, "recompiles": None if breaks else later.recompiles}


def _in_the_commit(place: str) -> str:
    """A graph break's file as its commit has it, and not where this side was checked out to."""
    import lerobot_policy_act_compiled as subject

    assert subject.__file__ is not None
    return place.replace(f"{Path(subject.__file__).parents[1]}{os.sep}", "src/")

"""What needs no statistics: counters compared one by one, and outputs within a tolerance. No torch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Words for each counter, in the order in which a report shows them; less is better in every one.
COUNTERS: dict[str, str] = {
    "graph_breaks": "graph breaks",
    "graphs": "graphs",
    "recompiles": "recompiles",
    "ops": "ops captured",
    "kernels": "Inductor kernels",
    "flops": "FLOPs",
    "dispatched_ops": "ops dispatched in eager",
    "waits": "waits in eager",
    "launches_eager": "kernel launches in eager",
    "launches_compiled": "kernel launches compiled",
    "launches_auto": "kernel launches of auto",
    "device_waits_auto": "waits of auto for the GPU",
    "cudagraph_skips": "CUDA-graph skips",
    "peak_memory_eager": "peak memory in eager",
    "peak_memory_compiled": "peak memory compiled",
    "peak_memory_auto": "peak memory of auto",
}
# The same for mode ``auto``.
OF_AUTO: dict[str, str] = {
    "auto_by_torch": "action chunks of auto without an engine",
    "auto_made": "graphs that auto makes for a first action",
    "auto_made_known": "graphs that auto makes where the architecture is known",
    "auto_made_written": "graphs that auto makes where weights have changed",
    "auto_tick_ops": "ops dispatched in a tick of auto",
    "auto_sessions": "sessions of auto alive after the weights have changed",
    "auto_waits": "waits in a tick of auto",
    "auto_training_ops": "ops captured in a training step of auto",
    "auto_long_masks": "dropout masks of auto of more than 16 bits",
    "auto_unfused": "parameter groups of auto without torch's fused optimizer",
    "auto_torchs_products": "training steps of auto by torch's own products",
}
AUTO_ON_CUDA = ("launches_auto", "device_waits_auto", "peak_memory_auto")
# Allocations are exact for one program, but the order in time of those of two threads is not.
TOLERANCE = dict.fromkeys(("peak_memory_eager", "peak_memory_compiled", "peak_memory_auto"), 0.005)
# Which counters can explain a change of a variant's time.
OF_COMPILING = ("graph_breaks", "graphs", "recompiles", "ops", "kernels")
EXPLAINS = {
    "eager": ("dispatched_ops", "flops", "waits", "launches_eager", "peak_memory_eager"),
    "compiled": (*OF_COMPILING, "flops", "launches_compiled", "cudagraph_skips", "peak_memory_compiled"),
    "compile": OF_COMPILING,
    "auto": (*OF_AUTO, *AUTO_ON_CUDA),  # the first of tiny
}
MOST_PLACES = 10  # of graph breaks that a report names; report.schema.json takes 200 findings of all cases
ACTION_TOLERANCE = 1e-5  # absolute, strict fp32
LEARNING_TOLERANCE = 1e-6  # relative, float64


@dataclass(frozen=True)
class Finding:
    """A counter that moved, or an output that differs.

    Attributes:
        case: workload and phase, ``aloha-inference``.
        what: the counter's or the output's name.
        base, head: values; None where there is none.
        red: it is a regression.
        detail: file:line and reason of a graph break, or what to look at.
    """

    case: str
    what: str
    base: float | None
    head: float | None
    red: bool
    detail: str = ""

    @property
    def broken(self) -> bool:
        """A result differs, code fails or a graph breaks: nothing is timed then, and no trailer helps."""
        return self.base is None or self.what == "graph breaks"


def compare_counts(case: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> list[Finding]:
    """Counters of ``case`` that moved; a graph break in head is red, whatever base has.

    Raises:
        ValueError: a counter that one side has and the other has not.
    """
    findings = []
    for name, words in COUNTERS.items():
        old, new = base.get(name), head.get(name)
        if name == "graph_breaks":
            findings += [
                Finding(case, words, len(old or ()), len(new or ()), True, place)
                for place in (new or ())[:MOST_PLACES]
            ]
            if old and not new:
                findings.append(Finding(case, words, len(old), 0, False, old[0]))
            continue
        if (old is None or new is None) and (base.get("graph_breaks") or head.get("graph_breaks")):
            continue  # what does not compile has no kernels; its graph breaks say so
        if (old is None or new is None) and name in AUTO_ON_CUDA:
            continue  # a side that has no mode auto; of head's ``compare_auto`` says so
        if (old is None) != (new is None):
            raise ValueError(f"{case}: {words} is known of one side only: base {old}, head {new}")
        if old is None or new is None or abs(new - old) <= TOLERANCE.get(name, 0.0) * old:
            continue
        findings.append(Finding(case, words, old, new, new > old))
    return findings


def explanations(findings: Sequence[Finding], case: str, variant: str) -> list[str]:
    """Counters that moved and can explain a change of ``variant``'s time, in words: of it, and of tiny."""
    names = {(COUNTERS | OF_AUTO)[name] for name in EXPLAINS[variant]}
    of_tiny = "tiny-training" if case.endswith("-training") else "tiny-inference"
    return [
        describe(found)
        for found in findings
        if found.what in names and (found.case in (case, of_tiny) or variant == "auto")
    ]


def describe(found: Finding) -> str:
    """``Inductor kernels 91 → 95``, with the detail where there is one."""
    if found.base is None or found.head is None:
        return f"{found.what}: {found.detail}"
    text = f"{found.what} {_number(found.base)} → {_number(found.head)}"
    return f"{text} ({found.detail})" if found.detail else text


def _number(value: float) -> str:
    if value == int(value):
        return f"{int(value):,}"
    return f"{value:.3g}"


def compare_actions(case: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> list[Finding]:
    """State dict and actions: head against base in eager, and head's compiled against its eager."""
    findings = []
    old, new = base["state_dict"], head["state_dict"]
    changed = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    if changed:
        detail = f"{len(changed)} entries differ, {changed[0]} first"
        findings.append(Finding(case, "state_dict", None, None, True, detail))
    pairs = (
        ("eager actions, head against base", base["values"]["eager"], head["values"]["eager"]),
        ("compiled actions against eager", head["values"]["eager"], head["values"].get("compiled", ())),
    )
    for what, expected, found in pairs:
        findings += _apart(case, what, expected, found)
    return findings


def _apart(case: str, what: str, expected: Sequence[float], found: Sequence[float]) -> list[Finding]:
    """One finding where actions differ by more than the tolerance, or are no numbers."""
    difference = _largest(expected, found)
    if difference <= ACTION_TOLERANCE:
        return []
    detail = f"they differ by {difference:.1e}, more than {ACTION_TOLERANCE:.0e}"
    return [Finding(case, what, None, None, True, detail)]


def compare_auto(case: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> list[Finding]:
    """Counters of ``auto`` that moved; head's actions against eager mode's after each write to the weights.

    A counter that one side lacks is not compared: without an engine there are fewer, and that is red itself.
    """
    old, new = base["counts"], head["counts"]
    if old and not new:
        return [Finding(case, "auto", None, None, True, "head does not know this mode")]
    findings = [
        Finding(case, words, old[name], new[name], new[name] > old[name])
        for name, words in OF_AUTO.items()
        if name in old and name in new and old[name] != new[name]
    ]
    for write, actions in head["values"].items():
        findings += _apart(case, f"actions of auto after {write}", actions["eager"], actions["auto"])
    return findings


def compared_of_auto(case: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> list[str]:
    """Names of all that ``compare_auto`` looks at: ``ops dispatched in a tick of auto of tiny-inference``."""
    counters = [OF_AUTO[name] for name in OF_AUTO if name in base["counts"] and name in head["counts"]]
    writes = [f"actions of auto after {write}" for write in head["values"]]
    return [f"{name} of {case}" for name in (*counters, *writes)]


def _largest(expected: Sequence[float], found: Sequence[float]) -> float:
    if len(expected) != len(found):
        return math.inf
    differences = [abs(a - b) for a, b in zip(expected, found, strict=True)]
    return math.nan if any(math.isnan(d) for d in differences) else max(differences, default=0.0)


def compare_learning(case: str, base: Mapping[str, Any], head: Mapping[str, Any]) -> list[Finding]:
    """Loss and gradients: head against base in eager, and head's graph against its eager."""
    pairs = (
        ("head against base", base["values"]["eager"], head["values"]["eager"]),
        ("compiled against eager", head["values"]["eager"], head["values"]["compiled"]),
    )
    findings = []
    for what, expected, found in pairs:
        wrong = [
            name
            for name in (*expected, *(found.keys() - expected.keys()))
            if not _close(expected.get(name), found.get(name), expected.get(_norm_of(name)))
        ]
        if wrong:
            detail = f"{len(wrong)} of {len(expected)} differ, first {wrong[0]}"
            findings.append(Finding(case, f"loss and gradients, {what}", None, None, True, detail))
    return findings


def _norm_of(name: str) -> str:
    return name.replace("direction of", "norm of", 1)


def _close(expected: float | None, found: float | None, scale: float | None) -> bool:
    if expected is None or found is None:
        return expected is found
    return abs(found - expected) <= LEARNING_TOLERANCE * max(abs(expected), scale or 0.0) + 1e-12

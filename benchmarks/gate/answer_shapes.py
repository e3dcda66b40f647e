"""What an answer of a worker must look like, whether it has just come or was kept. No torch.

The process that answers runs a stranger's code, and a file of kept answers may be cut or damaged: a figure
that is missing on both sides, or is no number, would be compared and found to be no worse.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from .comparison import COUNTERS, OF_AUTO

# Counters that every answer has unless the graph breaks; the others depend on the device.
OF_GRAPH = ("graphs", "ops", "flops", "dispatched_ops", "peak_memory_eager")
OF_COUNTS = (*OF_GRAPH, "kernels", "peak_memory_compiled")

# The last only where a thread can be asked how often it waits.
ONLY_OF_AN_ENGINE = ("auto_tick_ops", "auto_made_written", "auto_sessions", "auto_waits")

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _number(value: Any) -> bool:
    """NaN is one: a model's actions can be NaN, and are compared as that."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _count(value: Any) -> bool:
    return _number(value) and math.isfinite(value) and value >= 0


def _own_time(value: Any) -> bool:
    """Seconds and calls."""
    return isinstance(value, list) and len(value) == 2 and all(map(_count, value))


def _list_of(check: Check) -> Check:
    return lambda value: isinstance(value, list) and all(map(check, value))


def _dict_of(check: Check) -> Check:
    return lambda value: isinstance(value, dict) and all(map(check, value.values()))


def _filled(check: Check) -> Check:
    """Nothing on both sides would be no difference."""
    return lambda value: check(value) and len(value) > 0


def _fields(**checks: Check) -> Check:
    """A dict that has at least these."""
    return lambda value: (
        isinstance(value, dict)
        and all(name in value and check(value[name]) for name, check in checks.items())
    )


def _counts(needed: tuple[str, ...]) -> Check:
    def check(value: Mapping[str, Any]) -> bool:
        breaks = value.get("graph_breaks")
        there = {name: value[name] for name in COUNTERS if value.get(name) is not None}
        there.pop("graph_breaks", None)
        whole = breaks or all(name in there for name in needed)  # what does not compile has no kernels
        return _list_of(_text)(breaks) and bool(whole) and all(map(_count, there.values()))

    return check


def _auto(value: Any) -> bool:
    """Nothing at all where the commit has no such mode."""
    filled = _filled(_list_of(_number))
    parts = _fields(counts=_dict_of(_count), values=_dict_of(_fields(eager=filled, auto=filled)))
    if not parts(value):
        return False
    counts = value["counts"]
    return not (counts or value["values"]) or (
        counts.keys() <= OF_AUTO.keys() <= {*counts, *ONLY_OF_AN_ENGINE} and len(value["values"]) > 0
    )


_environment = _fields(torch=_text, lerobot=_text, python=_text, cpu=_text, threads=_count)
SHAPES: dict[str, Check] = {
    "hello": _fields(
        imported=_text,
        blobs=_dict_of(_text),
        environment=_environment,
        devices=_list_of(_text),
        installed=_text,
        packages=_dict_of(_text),
    ),
    "compile": _fields(seconds=_number),
    "sample": _fields(seconds=_list_of(_number)),
    "operators": _fields(takes=_count, operators=_dict_of(_own_time)),
    "graph": _counts(OF_GRAPH),
    "recompiles": _counts(("recompiles",)),
    "counts": _counts(OF_COUNTS),
    "outputs": _fields(
        values=lambda value: _dict_of(_filled(_list_of(_number)))(value) and "eager" in value,
        state_dict=_dict_of(_list_of(_count)),
    ),
    "learning": _fields(
        values=_fields(eager=_filled(_dict_of(_number)), compiled=_filled(_dict_of(_number)))
    ),
    "auto": _auto,
}
NO_ANSWER_IN = ("warm", "ballast")  # they say that they are done, or what only the campaign asks


def well_formed(do: str, answer: Any) -> bool:
    """Whether ``answer`` is one to the request ``do``, as far as it will be read."""
    if not isinstance(answer, dict):
        return False
    return SHAPES[do](answer) if do in SHAPES else do in NO_ANSWER_IN

"""Where the figures of a history change, by all of its commits. No torch.

A figure that is timed changes where its values before and after differ by more than their own scatter:
Student's t-test of their logarithms at the best place to split, corrected for the number of places, and then
each part anew (binary segmentation). ``detection`` compares it with asv's step detection and with libraries.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from scipy.special import stdtr

from ..files import read_json, read_object
from . import torch_releases

MACHINE = re.compile(r"/machine-([^/]+)/")
# Counts are the same on a busy machine: one value tells. Those of memory differ by an allocation.
EXACT = re.compile(r"\.track_(?!auto_over|compiled_over|cold|warm|limit)")
WHOLE = re.compile(r"\.track_(graph|ops|inductor|flops|dispatched|kernel|cudagraph)")
NO_SPEED = re.compile(r"\.track_(limit|\w+_spread)")  # of the machine, not of a commit
LEAST = 1.03  # a smaller change of a time is none
LEAST_MEMORY = 1.005  # as in the gate
SIDE = 2  # values on either side; one slow night is no step
CHANCE = 1e-3  # that a step is found where there is none, in one part of one figure's history


@dataclass(frozen=True)
class Change:
    """A step between two values.

    Attributes:
        at: index of the first value after it.
        before, after: medians on either side, up to the next step.
    """

    at: int
    before: float
    after: float


@dataclass(frozen=True)
class Series:
    """One figure on one machine; less is better.

    Attributes:
        name: as asv names it, with its parameters, and torch's release where asv has several.
        revisions: asv's numbers of the commits that have a value, oldest first.
        values: in the same order.
    """

    name: str
    machine: str
    revisions: tuple[int, ...]
    values: tuple[float, ...]

    def changes(self) -> list[Change]:
        """Steps that count, oldest first."""
        if NO_SPEED.search(self.name):
            return []
        exact = bool(EXACT.search(self.name))
        at = _where_it_differs(self.values) if exact else steps(self.values)
        edges = [0, *at, len(self.values)]
        levels = [median(self.values[a:b]) for a, b in itertools.pairwise(edges)]
        least = 1.0 if WHOLE.search(self.name) else LEAST_MEMORY if exact else LEAST
        found = map(Change, at, levels, levels[1:])
        return [
            each for each in found if max(each.before, each.after) >= least * min(each.before, each.after)
        ]


def _where_it_differs(values: Sequence[float]) -> list[int]:
    return [i for i in range(1, len(values)) if values[i] != values[i - 1]]


def steps(values: Sequence[float], chance: float = CHANCE) -> list[int]:
    """Indices of the first values after a step, in order; the values are positive."""
    if min(values, default=0) <= 0:
        return []
    return list(_steps(np.log(values), 0, chance))


def _steps(values: np.ndarray, start: int, chance: float) -> Iterator[int]:
    count = len(values)
    places = np.arange(SIDE, count - SIDE + 1)
    if count <= 2 * SIDE:  # too few to have a scatter
        return
    sums, squares = np.cumsum(values), np.cumsum(values * values)
    left, right = sums[places - 1] / places, (sums[-1] - sums[places - 1]) / (count - places)
    within = squares[-1] - places * left**2 - (count - places) * right**2
    scatter = np.sqrt(np.maximum(within, 1e-18) / (count - 2) * (1 / places + 1 / (count - places)))
    t = np.abs(right - left) / scatter
    best = int(t.argmax())
    if 2 * stdtr(count - 2, -t[best]) * len(places) < chance:
        place = int(places[best])
        yield from _steps(values[:place], start, chance)
        yield start + place
        yield from _steps(values[place:], start + place, chance)


def read(html: Path) -> list[Series]:
    """Every figure's history as ``asv publish`` wrote it.

    Raises:
        DamagedFileError: a page that asv always writes is missing or cut short.
    """
    benchmarks = read_object(html / "index.json").get("benchmarks", {})
    found = []
    for graph in sorted((html / "graphs").rglob("*.json")):
        machine = MACHINE.search(graph.as_posix())
        if machine is None or graph.stem not in benchmarks:  # asv's summary of all machines
            continue
        torch = torch_releases.GRAPH.search(graph.as_posix())
        names = _names(graph.stem, benchmarks[graph.stem].get("params") or [])
        points = read_json(graph)
        for index, name in enumerate(names):
            whole = f"{name}, torch {torch[1]}" if torch else name
            found.append(_series(whole, machine[1], points, index))
    return [each for each in found if each.values]


def _names(benchmark: str, params: list[list[str]]) -> list[str]:
    """Of each combination of parameters, in the order of asv's values."""
    return [f"{benchmark}({', '.join(each)})" if each else benchmark for each in itertools.product(*params)]


def _series(name: str, machine: str, points: list[list[Any]], index: int) -> Series:
    values = [(revision, value[index] if isinstance(value, list) else value) for revision, value in points]
    known = [(r, float(v)) for r, v in values if isinstance(v, (int, float)) and math.isfinite(v)]
    return Series(name, machine, tuple(r for r, _ in known), tuple(v for _, v in known))

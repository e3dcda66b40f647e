"""How well steps are found in histories: ``python -m benchmarks.history.detection``, minutes.

Histories are made of what the gate has recorded of launches of the same code: the seconds of a step, each in
a fresh process. Each case gives HISTORIES of COMMITS commits, with a step of a known size put in, or none.
After each commit is asked whether a step for the worse is found, as after each push to main: where there is
none it is a false alarm; within NEAR commits of its place it is found, with the delay in commits. Libraries
that are not installed are left out (``pip install apache-otava ruptures``).
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np

from .. import records
from ..markdown import table
from ..repository import ROOT
from . import changes

RECORDED = ROOT / "benchmarks" / "gate" / "proof" / "recorded" / "launches.jsonl"
SIZES = (0.05, 0.1, 0.2)
COMMITS, HISTORIES, AFTER, NEAR = 30, 60, 10, 2
LONG = 33  # recorded launches of a case, below which it is left out
FIRST = 12  # commits before the step comes, and before anything is asked

Method = Callable[[np.ndarray], Sequence[int]]


def ours(values: np.ndarray) -> Sequence[int]:
    return changes.steps(list(values))


def asvs(values: np.ndarray) -> Sequence[int]:
    from asv import step_detect

    return [left for left, *_ in step_detect.detect_steps(list(values))[1:]]


def otavas(chance: float) -> Method:
    def found(values: np.ndarray) -> Sequence[int]:
        from otava.analysis import compute_change_points

        try:
            return [each.index for each in compute_change_points(values, max_pvalue=chance)[0]]
        except ValueError:  # of its own, where a part is empty
            return []

    return found


def pelts(weight: float) -> Method:
    def found(values: np.ndarray) -> Sequence[int]:
        import ruptures

        logs = np.log(values)
        noise = np.median(np.abs(np.diff(logs))) / 0.954  # of neighbours, to a standard deviation
        fitted = ruptures.Pelt(model="l2", min_size=2, jump=1).fit((logs / noise).reshape(-1, 1))
        return list(fitted.predict(pen=weight * np.log(len(values)))[:-1])

    return found


METHODS: dict[str, tuple[str, Method]] = {
    "t-test of the best split, p < 0.001 (ours)": ("scipy", ours),
    "asv's step detection": ("asv", asvs),
    "Apache Otava, p < 0.0001": ("otava", otavas(1e-4)),
    "Apache Otava, p < 0.001 (its default)": ("otava", otavas(1e-3)),
    "ruptures' PELT, l2, penalty 6 log n": ("ruptures", pelts(6)),
    "ruptures' PELT, l2, penalty 9 log n": ("ruptures", pelts(9)),
}


def launches(file: Path = RECORDED) -> list[np.ndarray]:
    """Seconds of a step, launch after launch, for each case and machine with enough of them."""
    found: dict[tuple[str, str], list[float]] = {}
    for record in records.read(file):
        if record["kind"] == "same":
            found.setdefault((record["about"], record["case"]), []).append(record["base_seconds"])
    return [np.array(seconds) for seconds in found.values() if len(seconds) >= LONG]


def is_worse(values: np.ndarray, at: int) -> bool:
    return float(np.median(values[at:])) > float(np.median(values[:at]))


def false_alarms(method: Method, cases: Sequence[np.ndarray]) -> float:
    """The share of histories without a step in which one for the worse is found at any commit."""
    chance = np.random.default_rng(0)
    alarms = []
    for case in cases:
        for _ in range(HISTORIES):
            values = np.roll(case, -int(chance.integers(len(case))))[:COMMITS]
            asked = (values[:count] for count in range(FIRST, COMMITS + 1))
            alarms.append(any(is_worse(seen, at) for seen in asked for at in method(seen)))
    return float(np.mean(alarms))


def found_steps(method: Method, cases: Sequence[np.ndarray], size: float) -> tuple[float, float | None]:
    """The share of steps that are found up to AFTER commits later, and the median delay; None: of none."""
    chance, delays, count = np.random.default_rng(1), [], 0
    for case in cases:
        for _ in range(HISTORIES):
            values = np.roll(case, -int(chance.integers(len(case))))[:COMMITS].copy()
            place = int(chance.integers(FIRST, COMMITS - AFTER + 1))
            values[place:] *= 1 + size
            count += 1
            for seen in range(place + 1, min(COMMITS, place + AFTER) + 1):
                if any(
                    abs(at - place) <= NEAR and is_worse(values[:seen], at) for at in method(values[:seen])
                ):
                    delays.append(seen - place)
                    break
    return len(delays) / count, median(delays) if delays else None


def row(name: str, method: Method, cases: Sequence[np.ndarray]) -> list[str]:
    cells = [name, f"{false_alarms(method, cases):.1%}"]
    for size in SIZES:
        share, delay = found_steps(method, cases, size)
        cells.append(f"{share:.0%}" if delay is None else f"{share:.0%}, after {delay:g}")
    return cells


def main() -> int:
    cases = launches()
    found = [
        row(name, method, cases)
        for name, (library, method) in METHODS.items()
        if importlib.util.find_spec(library) is not None
    ]
    print(table(("method", "false alarms", *(f"{size:.0%} slower" for size in SIZES)), found))
    return 0


if __name__ == "__main__":
    sys.exit(main())

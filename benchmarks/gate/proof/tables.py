"""Tables of what the campaign recorded, one line a row or a few; no torch, nothing is replayed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from statistics import mean, stdev
from typing import Any

from ...markdown import table
from ..verdict import FASTER, INCONCLUSIVE, SAME, SLOWER
from .records import KINDS

Line = Mapping[str, Any]


OUTCOMES = {0: "green", 1: "red", 3: "undecided"}


def met_or_not(met: bool) -> str:
    return "met" if met else "**not met**"


def tally(count: int, runs: int, what: str) -> str:
    return f"{count} of {runs} {what}: {met_or_not(count == runs)}."


def grouped(lines: Iterable[Line], *keys: str) -> dict[tuple[str, ...], list[Line]]:
    """Lines that are alike in these keys, in the order of their values."""
    found: dict[tuple[str, ...], list[Line]] = {}
    for line in sorted(lines, key=itemgetter(*keys)):
        found.setdefault(tuple(line[key] for key in keys), []).append(line)
    return found


def pairing_table(lines: Sequence[Line]) -> str:
    """Each way to pair that was tried: spread of a launch's ratio, seconds, their product; least is best.

    Only `slices` and `abba` are still there; the lines of the others are records.
    """
    rows = []
    for (case, design), chosen in grouped(lines, "case", "design").items():
        if len(chosen) < 2:
            continue
        ratios = [line["log_ratio"] for line in chosen]
        spread, seconds = stdev(ratios), mean(line["seconds"] for line in chosen)
        shares = [f"{spread:.2%}", f"{mean(ratios):+.2%}"]
        rows.append(
            [case, design, str(len(chosen)), *shares, f"{seconds:.1f}", f"{1e4 * spread**2 * seconds:.1f}"]
        )
    header = ["case", "pairing", "launches", "noise", "bias", "s", "variance x s, %²s"]
    return table(header, rows)


def noise_table(lines: Sequence[Line]) -> str:
    """Noise and bias of one launch, and what an injected slowdown of 5% looks like, of each machine."""
    rows = []
    machines = short_names(line["about"] for line in lines)
    by_machine = ({**line, "machine": machines[line["about"]]} for line in lines)
    for (case, machine), chosen in grouped(by_machine, "case", "machine").items():
        same, injected = ([line["log_ratio"] for line in chosen if line["kind"] == kind] for kind in KINDS)
        spread = stdev(same) if len(same) > 1 else math.nan
        bias = f"{mean(same):+.2%} ± {1.96 * spread / math.sqrt(len(same)):.2%}" if same else ""
        slower = f"{math.expm1(mean(injected)):+.1%} ({len(injected)})" if injected else ""
        rows.append([case, machine, str(len(same)), f"{spread:.2%}", bias, slower])
    header = ["case", "machine", "A/A launches", "noise of a launch", "bias", "5% injected (launches)"]
    return table(header, rows)


def short_names(abouts: Iterable[str]) -> dict[str, str]:
    """What tells machines and versions apart, out of all that stands beside their figures."""
    parts = {about: about.split(", ") for about in sorted(set(abouts))}
    common = set.intersection(*map(set, parts.values())) if len(parts) > 1 else set()
    return {about: ", ".join(part for part in found if part not in common) for about, found in parts.items()}


def mutant_table(lines: Sequence[Line]) -> str:
    """Each mistake: what the gate named, and whether it is what it should have named."""
    rows = []
    for line in lines:
        named = ", ".join(sorted({what for found in line["named"].values() for what in found}))
        outcome = OUTCOMES[line["exit_code"]]
        right = line["exit_code"] == 1 and line["cause"] in named + line["headline"]
        said = f"{outcome}: {named}" if named else outcome
        rows.append([line["name"], line["cause"], said, met_or_not(right)])
    return table(["mistake", "should name", "said", ""], rows)


def worth_table(lines: Sequence[Line]) -> str:
    """What each case is worth: the mistakes that it names, and those that no other case names."""
    named = {line["name"]: list(line["named"]) for line in lines}
    rows = []
    for case in sorted({case for cases in named.values() for case in cases}):
        alone = [name for name, cases in named.items() if cases == [case]]
        rows.append([case, str(sum(case in cases for cases in named.values())), ", ".join(alone)])
    return table(["case", "mistakes that it names", "no other case names"], rows)


def newest(runs: Iterable[Line]) -> list[Line]:
    """Real runs without those of a harmless edit that was run again later."""
    found: dict[Any, Line] = {}
    for number, run in enumerate(runs):
        found[run["edit"] if run["kind"] == "same" else number] = run
    return list(found.values())


def runs_table(lines: Sequence[Line]) -> str:
    """Real runs of the shipped budget: a harmless edit is to be green, what is slower red."""
    rows = []
    for line in sorted(lines, key=lambda line: KINDS.index(line["kind"])):
        kinds, launches = Counter(_kinds(line)), [launches for _, _, launches in line["verdicts"].values()]
        cases = [f"{kinds[kind]} {kind}" for kind in (SLOWER, FASTER, SAME, INCONCLUSIVE) if kinds[kind]]
        of_auto = ("no", "yes")[any("-auto-" in name for name in line["verdicts"])] if launches else ""
        most = [str(max(launches, default=0)), line["minutes"]]
        rows.append([line["edit"], OUTCOMES[line["exit_code"]], ", ".join(cases), of_auto, *most])
    codes = [line["exit_code"] for line in lines if line["kind"] == "same"]
    # By time alone: the extra work is an operator more, which the counters see whatever it costs.
    slower = [SLOWER in _kinds(line) for line in lines if line["kind"] == "slower"]
    said = [
        tally(sum(code != 1 for code in codes), len(codes), "harmless edits without a false alarm"),
        tally(codes.count(0), len(codes), "of them green, every case decided"),
        tally(sum(slower), len(slower), "heads with 5% injected called slower by time"),
    ]
    header = ["head", "outcome", "cases", "auto timed", "launches", "minutes"]
    return " ".join(said) + "\n\n" + table(header, rows)


def _kinds(run: Line) -> list[str]:
    return [kind for kind, _, _ in run["verdicts"].values()]

"""Tables of what the campaign recorded, one line a row or a few; no torch, nothing is replayed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from ...markdown import table
from ..cases import named
from ..verdict import FASTER, INCONCLUSIVE, SAME, SLOWER
from .records import KINDS

Line = Mapping[str, Any]


OUTCOMES = {0: "green", 1: "red", 3: "undecided"}


def met_or_not(met: bool) -> str:
    return "met" if met else "**not met**"


def tally(count: int, runs: int, what: str) -> str:
    return f"{count} of {runs} {what}: {met_or_not(count == runs)}."


def pairing_table(lines: Sequence[Line]) -> str:
    """Each way to pair that was tried: spread of a launch's ratio, seconds, their product; least is best.

    Only `slices` and `abba` are still there; the lines of the others are records.
    """
    rows = []
    keys = dict.fromkeys((line["design"], named(line["case"])) for line in lines)
    for design, case in sorted(keys, key=lambda key: (str(key[1]), key[0])):
        chosen = [line for line in lines if line["design"] == design and named(line["case"]) == case]
        if len(chosen) < 2:
            continue
        spread = stdev(line["log_ratio"] for line in chosen)
        seconds = mean(line["seconds"] for line in chosen)
        bias = mean(line["log_ratio"] for line in chosen)
        rows.append(
            [
                str(case),
                design,
                str(len(chosen)),
                f"{spread:.2%}",
                f"{bias:+.2%}",
                f"{seconds:.1f}",
                f"{1e4 * spread**2 * seconds:.1f}",
            ]
        )
    header = ["case", "pairing", "launches", "noise", "bias", "s", "variance x s, %²s"]
    return table(header, rows)


def noise_table(lines: Sequence[Line]) -> str:
    """Noise and bias of one launch, and what an injected slowdown of 5% looks like, of each machine."""
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    machines = short_names(line["about"] for line in lines)
    for line in sorted(lines, key=lambda line: (line["case"], machines[line["about"]])):
        of_case = found.setdefault((line["case"], machines[line["about"]]), {kind: [] for kind in KINDS})
        of_case[line["kind"]].append(line["log_ratio"])
    rows = []
    for (case, machine), of_case in found.items():
        same, injected = (of_case[kind] for kind in KINDS)
        spread = stdev(same) if len(same) > 1 else math.nan
        rows.append(
            [
                case,
                machine,
                str(len(same)),
                f"{spread:.2%}",
                f"{mean(same):+.2%} ± {1.96 * spread / math.sqrt(len(same)):.2%}" if same else "",
                f"{math.expm1(mean(injected)):+.1%} ({len(injected)})" if injected else "",
            ]
        )
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
        named = ", ".join(line["named"])
        right = line["exit_code"] == 1 and line["cause"] in named + line["headline"]
        outcome = OUTCOMES[line["exit_code"]]
        rows.append(
            [line["name"], line["cause"], f"{outcome}: {named}" if named else outcome, met_or_not(right)]
        )
    return table(["mistake", "should name", "said", ""], rows)


def runs_table(lines: Sequence[Line]) -> str:
    """Real runs of the shipped budget: a harmless edit is to be green, what is slower red."""
    rows = []
    for line in sorted(lines, key=lambda line: KINDS.index(line["kind"])):
        verdicts = line["verdicts"].values()
        kinds = Counter(kind for kind, _, _ in verdicts)
        rows.append(
            [
                line["edit"],
                OUTCOMES[line["exit_code"]],
                ", ".join(
                    f"{kinds[kind]} {kind}" for kind in (SLOWER, FASTER, SAME, INCONCLUSIVE) if kinds[kind]
                ),
                f"{max((launches for _, _, launches in verdicts), default=0)}",
                line["minutes"],
            ]
        )
    codes = [line["exit_code"] for line in lines if line["kind"] == "same"]
    # By time alone: the extra work is an operator more, which the counters see whatever it costs.
    slowed = [
        {kind for kind, _, _ in line["verdicts"].values()} for line in lines if line["kind"] == "slower"
    ]
    said = [
        tally(sum(code != 1 for code in codes), len(codes), "harmless edits without a false alarm"),
        tally(codes.count(0), len(codes), "of them green, every case decided"),
        tally(
            sum(SLOWER in kinds for kinds in slowed),
            len(slowed),
            "heads with 5% injected called slower by time",
        ),
    ]
    return " ".join(said) + "\n\n" + table(["head", "outcome", "cases", "launches", "minutes"], rows)

"""The figures in docs/gate.md, drawn from what the campaign recorded; no torch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import mean, stdev
from typing import Any

from .cases import CompileTime, named
from .mutants import HARMLESS
from .records import KINDS, lines, log_ratios
from .replay import Rates, Recorded, replay
from .verdict import FASTER, INCONCLUSIVE, SAME, SLOWER, Plan

BEGIN, END = "<!-- campaign: written by nox -s campaign -- write -->", "<!-- /campaign -->"
EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.10)
# What a slowdown must be caught in at least, as a share of runs.
CAUGHT = {0.03: 0.80, 0.05: 0.95, 0.10: 1.0}
ALARMS = 0.01
LAUNCHES = 40  # of each kind: fewer say too little
RUNS = {"same": len(HARMLESS), "slower": 5}  # real ones; each head that is base has one harmless edit

Line = Mapping[str, Any]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def verdict(met: bool) -> str:
    return "met" if met else "**not met**"


def pairing_table(lines: Sequence[Line]) -> str:
    """Each way to pair: spread of one launch's ratio, seconds, and their product; the least is best."""
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
    machines = told_apart(line["about"] for line in lines)
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


def told_apart(abouts: Iterable[str]) -> dict[str, str]:
    """What tells machines and versions apart, out of all that stands beside their figures."""
    parts = {about: about.split(", ") for about in sorted(set(abouts))}
    common = set.intersection(*map(set, parts.values())) if len(parts) > 1 else set()
    return {about: ", ".join(part for part in found if part not in common) for about, found in parts.items()}


HEADER = ("every step slower by", "runs that are red", "target", "", "single cases", "undecided", "launches")


def false_alarm_row(rates: Rates) -> list[str]:
    return [
        "none (A/A)",
        f"{rates.alarms:.2%}, below {rates.upper():.2%} with 95% confidence",
        f"≤ {ALARMS:.0%}",
        verdict(rates.alarms <= ALARMS),
        "",
        f"{rates.undecided:.1%}",
        f"{rates.launches:.1f}",
    ]


def power_row(rates: Rates) -> list[str]:
    """What is caught of a slowdown: by the run, and of each case where so small a one is worth a verdict."""
    worth = {name: share for name, share in rates.caught.items() if named(name).least < rates.effect}
    least, case = min((share, name) for name, share in worth.items())
    wanted = CAUGHT.get(rates.effect)
    return [
        f"{rates.effect:.0%}",
        f"{rates.alarms:.1%}",
        f"≥ {wanted:.0%}" if wanted else "",
        _by_run_and_case(rates.alarms >= wanted, least >= wanted) if wanted else "",
        f"{least:.1%} ({case}) to {max(worth.values()):.1%}",
        f"{rates.undecided:.1%}",
        f"{rates.launches:.1f}",
    ]


def _by_run_and_case(run: bool, case: bool) -> str:
    return verdict(run) if run == case else f"by the run {verdict(run)}, by the least case {verdict(case)}"


def replay_table(
    recorded: Recorded, plan: Plan, most: int, runs: int, progress: Callable[[str], None] = lambda _: None
) -> str:
    """False alarms, and what is caught of each slowdown, over ``runs`` replayed gates."""
    rows = [false_alarm_row(replay(recorded, plan, runs=runs, most=most))]
    for effect in EFFECTS:
        progress(f"replay of {effect:.0%}, {most} launches at most")
        rows.append(power_row(replay(recorded, plan, effect=effect, runs=runs, most=most)))
    return table(HEADER, rows)


OUTCOMES = {0: "green", 1: "red", 3: "undecided"}


def mutant_table(lines: Sequence[Line]) -> str:
    """Each mistake: what the gate named, and whether it is what it should have named."""
    rows = []
    for line in lines:
        named = ", ".join(line["named"])
        right = line["exit_code"] == 1 and line["cause"] in named + line["headline"]
        outcome = OUTCOMES[line["exit_code"]]
        rows.append(
            [line["name"], line["cause"], f"{outcome}: {named}" if named else outcome, verdict(right)]
        )
    return table(["mistake", "should name", "said", ""], rows)


def tally(count: int, runs: Sequence[int], what: str) -> str:
    return f"{count} of {len(runs)} {what}: {verdict(count == len(runs))}."


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
    codes = {kind: [line["exit_code"] for line in lines if line["kind"] == kind] for kind in KINDS}
    said = [
        tally(
            sum(code != 1 for code in codes["same"]), codes["same"], "harmless edits without a false alarm"
        ),
        tally(codes["same"].count(0), codes["same"], "of them green, every case decided"),
        tally(codes["slower"].count(1), codes["slower"], "slower heads red"),
    ]
    return " ".join(said) + "\n\n" + table(["head", "outcome", "cases", "launches", "minutes"], rows)


NOT_YET = "Not recorded yet."
LEAST_REPLAYED = 10  # the mean of fewer is no bias of the pairing, and counts as one in a replay
TOO_FEW = f"Not every case has {LEAST_REPLAYED} A/A launches yet, the least to draw from."


def fewest(kind: str) -> int:
    """Launches of the case that has the fewest of them."""
    return min(map(len, log_ratios(kind).values()), default=0)


def page(replays: int, progress: Callable[[str], None] = lambda _: None) -> str:
    """Everything that docs/gate.md says of the gate's own errors, as Markdown.

    Args:
        replays: gate runs to replay.

    Raises:
        ValueError: nothing at all is recorded.
    """
    launches, pairings, mutants, runs = (lines(name) for name in ("launches", "pairing", "mutants", "runs"))
    if not (launches or pairings):
        raise ValueError("nothing is recorded; run nox -s campaign -- record first")
    parts = [recorded_where([*launches, *pairings])]
    if not complete(runs):
        parts.append(
            "**Neither false alarms nor what is caught are measured to the end: do not rely on times yet.**"
        )
    sections = {
        "Ways to pair": pairing_table(pairings) if pairings else NOT_YET,
        "Noise of a launch": noise_table(launches) if launches else NOT_YET,
        "Replayed": replayed(runs, replays, progress) if fewest("same") >= LEAST_REPLAYED else TOO_FEW,
        "Mutants": mutant_table(mutants) if mutants else NOT_YET,
        "Real runs": runs_table(runs) if runs else NOT_YET,
    }
    return "\n\n".join([*parts, *(f"### {title}\n\n{text}" for title, text in sections.items())])


def complete(runs: Sequence[Line]) -> bool:
    """Whether every case has LAUNCHES of each kind, and there are as many real runs as RUNS asks for."""
    found = [log_ratios(kind) for kind in KINDS]
    steps = [
        case for case in found[0] if not isinstance(case, CompileTime)
    ]  # nothing is injected into compiling
    enough = all(len(recorded.get(case, ())) >= LAUNCHES for recorded in found for case in steps)
    return (
        bool(steps) and enough and all(sum(r["kind"] == kind for r in runs) >= RUNS[kind] for kind in KINDS)
    )


def recorded_where(recorded: Sequence[Line]) -> str:
    """When and on what; lines from before that was kept say nothing of it."""
    dates = sorted({line["date"] for line in recorded if "date" in line})
    machines = sorted({line["about"] for line in recorded if "about" in line})
    when = f"Recorded {dates[0]} to {dates[-1]} on {'; '.join(machines)}." if dates else ""
    return f"{when} One line a launch in benchmarks/gate/recorded.".strip()


def shipped_launches(runs: Sequence[Line]) -> int | None:
    """Launches that the default time has room for: the least of the runs that used it up.

    A run of which every case is decided ends before its time; where all did, the most that one took.
    """
    taken = [
        (max(launches for _, _, launches in verdicts), any(kind == INCONCLUSIVE for kind, _, _ in verdicts))
        for verdicts in (line["verdicts"].values() for line in runs)
        if verdicts
    ]
    used_up = [launches for launches, undecided in taken if undecided]
    return min(used_up) if used_up else max((launches for launches, _ in taken), default=None)


def replayed(runs: Sequence[Line], replays: int, progress: Callable[[str], None]) -> str:
    """False alarms and power over the recorded A/A launches: in the default time, and with all launches."""
    plan = Plan()
    parts = [
        f"{replays:,} gate runs replayed over the A/A launches, drawn by launch. A run is red when any "
        "case is called slower; a change that slows one case alone is caught as the single cases are."
    ]
    shipped = shipped_launches(runs)
    for most, why in ((shipped, "what the default time has room for"), (plan.most, "however long they take")):
        if most is not None:
            rows = replay_table(log_ratios("same"), plan, most, replays, progress)
            parts.append(f"With {most} launches at most, {why}:\n\n{rows}")
    return "\n\n".join(parts)

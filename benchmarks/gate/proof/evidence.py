"""The figures in docs/gate.md, drawn from what the campaign recorded; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from ...markdown import table
from ..cases import StepTime, named
from ..verdict import Plan
from .mutants import HARMLESS
from .records import KINDS, lines, log_ratios
from .replay import Rates, replay
from .slowdown import can_be_slowed
from .tables import Line, met_or_not, mutant_table, noise_table, pairing_table, runs_table, worth_table

BEGIN, END = "<!-- campaign: written by nox -s campaign -- write -->", "<!-- /campaign -->"
EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.10)
# What a slowdown must be caught in at least, as a share of runs: of every step, and of one case alone.
CAUGHT = {0.03: (0.90, 0.50), 0.05: (0.99, 0.90), 0.10: (1.0, 1.0)}
ALARMS = 0.01
# No longer decided on; what was recorded of it stays.
DROPPED = ("pusht-rollout_ensemble-compiled-fp32-cpu",)
LAUNCHES = 40  # of each kind: fewer say too little
RUNS = {"same": len(HARMLESS), "slower": 5}  # real ones; each head that is base has one harmless edit


HEADER = ("every step slower by", "runs that are red", "target", "", "single cases", "undecided", "launches")


def false_alarm_row(rates: Rates) -> list[str]:
    alarms = f"{rates.alarms:.2%}, below {rates.upper():.2%} with 95% confidence"
    target = [f"≤ {ALARMS:.0%}", met_or_not(rates.alarms <= ALARMS)]
    return ["none (A/A)", alarms, *target, "", f"{rates.undecided:.1%}", f"{rates.launches:.1f}"]


def power_row(rates: Rates) -> list[str]:
    """What is caught of a slowdown: by the run, and of each case where so small a one is worth a verdict."""
    worth = {name: share for name, share in rates.caught.items() if named(name).least < rates.effect}
    least, case = min((share, name) for name, share in worth.items())
    target = ["", ""]
    if rates.effect in CAUGHT:
        of_run, of_case = CAUGHT[rates.effect]
        by_run, by_case = met_or_not(rates.alarms >= of_run), met_or_not(least >= of_case)
        both = by_run if by_run == by_case else f"by the run {by_run}, by the least case {by_case}"
        target = [f"≥ {of_run:.0%}" + (f", a case ≥ {of_case:.0%}" if of_case != of_run else ""), both]
    cases = f"{least:.1%} ({case}) to {max(worth.values()):.1%}"
    start = [f"{rates.effect:.0%}", f"{rates.alarms:.1%}"]
    return [*start, *target, cases, f"{rates.undecided:.1%}", f"{rates.launches:.1f}"]


NOT_YET = "Not recorded yet."
WORTH = (
    "Each mistake in the model was tried once with counts of aloha, pusht and tiny. Pusht named none that "
    "no other case named, so it is counted only where it is named. The mistakes above were tried with tiny "
    "alone; aloha's prediction was taken back later, for its real size."
)
LEAST_REPLAYED = 10  # the mean of fewer is no bias of the pairing, and counts as one in a replay
TOO_FEW = f"Not every case has {LEAST_REPLAYED} A/A launches yet, the least to draw from."


def fewest(kind: str) -> int:
    """Launches of the case that has the fewest of them."""
    return min(map(len, decided_on(kind).values()), default=0)


def decided_on(kind: str) -> dict[StepTime, list[float]]:
    """Recorded launches of a kind, by case, without those that are ``DROPPED``."""
    return {case: found for case, found in log_ratios(kind).items() if str(case) not in DROPPED}


def page(replays: int, progress: Callable[[str], None] = lambda _: None) -> str:
    """Everything that docs/gate.md says of the gate's own errors, as Markdown.

    Args:
        replays: gate runs to replay.

    Raises:
        ValueError: nothing at all is recorded.
    """
    names = ("launches", "pairing", "mutants", "worth", "runs")
    launches, pairings, mutants, worth, runs = (lines(name) for name in names)
    if not (launches or pairings):
        raise ValueError("nothing is recorded; run nox -s campaign -- record first")
    parts = [recorded_where([*launches, *pairings])]
    if not complete():
        parts.append(
            "**Neither false alarms nor what is caught are measured to the end: do not rely on times yet.**"
        )
    sections = {
        "Ways to pair": pairing_table(pairings) if pairings else NOT_YET,
        "Noise of a launch": noise_table(launches) if launches else NOT_YET,
        "Replayed": replayed(runs, replays, progress) if fewest("same") >= LEAST_REPLAYED else TOO_FEW,
        "Mutants": mutant_table(mutants) if mutants else NOT_YET,
        "What a case is worth": f"{WORTH}\n\n{worth_table(worth)}" if worth else NOT_YET,
        "Real runs": not_run(runs) + runs_table(runs) if runs else NOT_YET,
    }
    return "\n\n".join([*parts, *(f"### {title}\n\n{text}" for title, text in sections.items())])


def complete() -> bool:
    """Whether every case has LAUNCHES of each kind."""
    found = [decided_on(kind) for kind in KINDS]
    steps = [case for case in found[0] if can_be_slowed(case)]
    return bool(steps) and all(
        len(recorded.get(case, ())) >= LAUNCHES for recorded in found for case in steps
    )


def not_run(runs: Sequence[Line]) -> str:
    """How many of the real runs that RUNS asks for are missing; "" where none is."""
    left = {kind: RUNS[kind] - sum(run["kind"] == kind for run in runs) for kind in KINDS}
    words = {"same": "harmless edits", "slower": "slower heads"}
    missing = [f"{count} of {RUNS[kind]} {words[kind]}" for kind, count in left.items() if count > 0]
    return f"**Not run yet: {' and '.join(missing)}.**\n\n" if missing else ""


def recorded_where(recorded: Sequence[Line]) -> str:
    """When and on what; lines from before that was kept say nothing of it."""
    dates = sorted({line["date"] for line in recorded if "date" in line})
    machines = sorted({line["about"] for line in recorded if "about" in line})
    when = f"Recorded {dates[0]} to {dates[-1]} on {'; '.join(machines)}." if dates else ""
    return f"{when} One line a launch in benchmarks/gate/proof/recorded.".strip()


USED_UP = 0.9  # of its time: one more launch would not have fitted


def shipped_launches(runs: Sequence[Line]) -> list[int]:
    """Launches that the default time has room for, the fewest and the most; [] where nothing was timed.

    A run that ended early, every case decided, had room for more than it took; and the last launches of one
    that had time left were of the few cases that were still open.
    """
    taken = [
        (max(launches for _, _, launches in run["verdicts"].values()), used_up(run["minutes"]))
        for run in runs
        if run["verdicts"]
    ]
    most = max((launches for launches, _ in taken), default=0)
    full = [launches for launches, used in taken if used] or [most]
    return sorted({min(full), max(full)} - {0})


def used_up(minutes: str) -> bool:
    """Whether a run that took ``9.4 of 9.5`` minutes had no time left."""
    used, _, whole = minutes.partition(" of ")
    return float(used) >= USED_UP * float(whole)


def replayed(runs: Sequence[Line], replays: int, progress: Callable[[str], None]) -> str:
    """False alarms and power over the recorded A/A launches: in the default time, and with all launches."""
    plan, recorded = Plan(), decided_on("same")
    parts = [
        f"{replays:,} gate runs replayed over the A/A launches, drawn by launch. A run is red when any "
        "case is called slower; a change that slows one case alone is caught as the single cases are."
    ]
    rooms = dict.fromkeys(shipped_launches(runs), "what the default time had room for in a real run")
    rooms[plan.most] = "however long they take"
    # A process for each core: 10,000 replays of one effect take a minute and more.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        asked = {
            (most, effect): pool.submit(replay, recorded, plan, effect=effect, runs=replays, most=most)
            for most in rooms
            for effect in (0.0, *EFFECTS)
        }
        for most, why in rooms.items():
            rows = [false_alarm_row(asked[most, 0.0].result())]
            for effect in EFFECTS:
                rows.append(power_row(asked[most, effect].result()))
                progress(f"replayed {effect:.0%}, {most} launches at most")
            parts.append(f"With {most} launches at most, {why}:\n\n{table(HEADER, rows)}")
    return "\n\n".join(parts)

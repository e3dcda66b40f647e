"""The figures in docs/gate.md, drawn from what the campaign recorded; no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

from ...markdown import table
from ..cases import StepTime
from ..run import parser as gate_parser
from ..verdict import Plan
from .mutants import HARMLESS
from .pace import KNOWN, Room, in_words, room
from .records import KINDS, lines, log_ratios
from .replay import Rates, replay
from .slowdown import can_be_slowed
from .tables import (
    Line,
    met_or_not,
    mutant_table,
    newest,
    noise_table,
    pairing_table,
    runs_table,
    worth_table,
)

BEGIN, END = "<!-- campaign: written by nox -s campaign -- write -->", "<!-- /campaign -->"
EFFECTS = (0.01, 0.02, 0.03, 0.05, 0.10)
# What a slowdown must be caught in at least, as a share of runs: of every step, and of one case alone.
CAUGHT = {0.03: (0.90, 0.50), 0.05: (0.99, 0.90), 0.10: (1.0, 1.0)}
ALARMS = 0.01
# No longer decided on; what was recorded of it stays.
DROPPED = ("pusht-rollout_ensemble-compiled-fp32-cpu",)
LAUNCHES = 40  # of each kind: fewer say too little
RUNS = {"same": len(HARMLESS), "slower": 5}  # real ones; each head that is base has one harmless edit


HEADER = (
    "every step slower by",
    "runs that are red",
    "target",
    "",
    "one case alone",
    "undecided",
    "launches",
)


def false_alarm_row(rates: Rates) -> list[str]:
    alarms = f"{rates.alarms:.2%}, below {rates.upper():.2%} with 95% confidence"
    target = [f"≤ {ALARMS:.0%}", met_or_not(rates.alarms <= ALARMS)]
    return ["none (A/A)", alarms, *target, "", f"{rates.undecided:.1%}", f"{rates.launches:.1f}"]


def power_row(rates: Rates, alone: Sequence[Rates]) -> list[str]:
    """What is caught of a slowdown: of every step, by any of them; and of one case alone, by that case.

    Args:
        alone: of each case that is slower alone; none where that was not replayed.
    """
    shares = [(each.caught[each.alone], each.alone) for each in alone if each.alone]
    least, case = min(shares, default=(1.0, ""))
    target = ["", ""]
    if rates.effect in CAUGHT:
        of_run, of_case = CAUGHT[rates.effect]
        by_run, by_case = met_or_not(rates.alarms >= of_run), met_or_not(least >= of_case)
        both = by_run if by_run == by_case else f"by the run {by_run}, by the least case {by_case}"
        target = [f"≥ {of_run:.0%}" + (f", a case ≥ {of_case:.0%}" if of_case != of_run else ""), both]
    cases = f"{least:.1%} ({case}) to {max(shares)[0]:.1%}" if shares else ""
    start = [f"{rates.effect:.0%}", f"{rates.alarms:.1%}"]
    return [*start, *target, cases, f"{rates.undecided:.1%}", f"{rates.launches:.1f}"]


REPLAYED = (
    "{replays:,} gate runs replayed over the A/A launches, drawn by launch. A run is red when any case is "
    "called slower. A change that slows one case alone leaves it the time of the others, once they are "
    "decided: {alone:,} runs for each case. What a launch takes was measured by `nox -s campaign -- pace`: "
    "{pace}."
)
ALONE = 2  # share of the replays, one in so many, for each case that is slower alone
NOT_YET = "Not recorded yet."
WORTH = (
    "Each mistake in the model was tried once with counts of aloha, pusht and tiny. Pusht found none that "
    "the others missed, so it is counted only on request. The mistakes above were tried with tiny alone; "
    "aloha's prediction was added again later, for its real size."
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
    launches, pairings, mutants, worth, all_runs = (lines(name) for name in names)
    runs = newest(all_runs)
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
        "Replayed": replayed(replays, progress) if fewest("same") >= LEAST_REPLAYED else TOO_FEW,
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


def replayed(replays: int, progress: Callable[[str], None]) -> str:
    """False alarms and power over the recorded A/A launches: in the default time, and with all launches.

    Raises:
        MeasurementError: how long a launch takes is not recorded.
    """
    plan, recorded = Plan(), decided_on("same")
    default = gate_parser().parse_args([]).minutes
    rooms: dict[str, Room | None] = {
        f"In the default time, {known} known": room(known, default) for known in KNOWN
    }
    rooms[f"With {plan.most} launches, however long they take"] = None
    parts = [REPLAYED.format(replays=replays, alone=max(1, replays // ALONE), pace=in_words())]
    # A process for each core: 10,000 replays of one effect take a minute and more.
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:

        def asked(effect: float, room: Room | None, alone: StepTime | None = None) -> Future[Rates]:
            runs = max(1, replays // ALONE) if alone else replays
            return pool.submit(replay, recorded, plan, effect=effect, runs=runs, room=room, alone=alone)

        all_slower = {
            (why, effect): asked(effect, room) for why, room in rooms.items() for effect in (0.0, *EFFECTS)
        }
        one_slower = {
            (why, effect): [asked(effect, room, case) for case in recorded if case.least < effect]
            for why, room in rooms.items()
            for effect in CAUGHT
        }
        for why in rooms:
            rows = [false_alarm_row(all_slower[why, 0.0].result())]
            for effect in EFFECTS:
                each = [found.result() for found in one_slower.get((why, effect), ())]
                rows.append(power_row(all_slower[why, effect].result(), each))
                progress(f"{why}: replayed {effect:.0%}")
            parts.append(f"{why}:\n\n{table(HEADER, rows)}")
    return "\n\n".join(parts)

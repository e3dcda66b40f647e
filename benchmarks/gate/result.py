"""What a run of the gate found, and what follows from it. No torch, no statistics of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .comparison import Finding
from .verdict import FASTER, INCONCLUSIVE, SAME, SLOWER, Plan, Verdict

NO_REGRESSION, REGRESSION, UNDECIDED = 0, 1, 3  # 2: command.COULD_NOT_MEASURE


@dataclass(frozen=True)
class CaseTime:
    """A case's verdict on time, and the cause beside it.

    Attributes:
        name: as in ``Perf-Accept``: workload-phase-variant-precision-device.
        counters: those that moved and can explain it, in words.
        log_ratios: head over base, one per launch.
        base_seconds: median step of base, s.
        unconfirmed: slower or faster once, without a counter that moved; another look is needed.
        min_effect: the change to catch in it, where that is not the run's.
        grown: operators that take longer in head's step, in words; of the slowest cases.
    """

    name: str
    verdict: Verdict
    counters: tuple[str, ...] = ()
    log_ratios: tuple[float, ...] = ()
    base_seconds: float = 0.0
    unconfirmed: str | None = None
    min_effect: float | None = None
    grown: tuple[str, ...] = ()


@dataclass(frozen=True)
class Result:
    """Everything that a report says.

    Attributes:
        base, head: what was compared: name, ref, description and first line of the commit.
        distance: commits that head has and base has not.
        findings: counters that moved, outputs that differ.
        times: one per case.
        accepted: reasons by case, from commit trailers.
        about: versions, processor, threads, seeds, launches, minutes; as they are to be shown.
        same_subject: both sides are the same code; nothing was run.
        untimed: times were not asked for (``--no-times``); nothing is said of them.
        compared: of ``auto``, where a side without an engine shows less; see ``compared_of_auto``.
    """

    base: Mapping[str, Any]
    head: Mapping[str, Any]
    distance: int
    plan: Plan
    findings: Sequence[Finding] = ()
    times: Sequence[CaseTime] = ()
    accepted: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)
    same_subject: bool = False
    untimed: bool = False
    compared: Sequence[str] = ()

    def reason(self, case: str) -> str | None:
        """The reason that a trailer gives for a regression of ``case``, or of all whose names begin alike."""
        for accepted, reason in self.accepted.items():
            if case == accepted or case.startswith(accepted + "-"):
                return reason
        return None

    def finding_accepted(self, finding: Finding) -> str | None:
        """The reason that a trailer gives for a counter that rose; nothing else can be accepted."""
        return None if finding.broken else self.reason(finding.case)

    @property
    def red_findings(self) -> list[Finding]:
        return [f for f in self.findings if f.red and self.finding_accepted(f) is None]

    @property
    def red_times(self) -> list[CaseTime]:
        return [t for t in self.times if t.verdict.kind == SLOWER and self.reason(t.name) is None]

    @property
    def open_times(self) -> list[CaseTime]:
        return [t for t in self.times if t.verdict.kind == INCONCLUSIVE]

    @property
    def not_timed(self) -> str:
        """What was to be timed and was not, in words; "" where that is nothing."""
        if self.same_subject or self.untimed:
            return ""
        return "auto was not timed" if "auto" in self.about else "" if self.times else "nothing was timed"

    @property
    def exit_code(self) -> int:
        """0 no regression, 1 regression, 3 inconclusive at the end of the budget, or not timed."""
        if self.red_findings or self.red_times:
            return REGRESSION
        return UNDECIDED if self.open_times or self.not_timed else NO_REGRESSION

    @property
    def bisect(self) -> str:
        """The command that finds the commit, where that is one of several; no uncommitted change is one."""
        dirty = self.head["name"] != self.head["commit"][:10]
        if self.exit_code != REGRESSION or self.distance < 2 or dirty:
            return ""
        slower = sorted(self.red_times, key=lambda t: -t.verdict.ratio)
        case = slower[0].name if slower else self.red_findings[0].case
        device = " --device cuda" if "flags" in self.about else ""  # which only CUDA has
        between = f"{self.base['commit'][:10]}..{self.head['commit'][:10]}"
        return f"nox -s bisect -- {between} --case {case}{device}"

    @property
    def headline(self) -> str:
        """The verdict in one line."""
        if self.same_subject:
            return "No regression: the subject's code is the same on both sides, so nothing was run"
        if self.exit_code == REGRESSION:
            causes = []
            if self.red_times:
                worst = max(self.red_times, key=lambda t: t.verdict.ratio)
                causes.append(
                    f"{len(self.red_times)} of {len(self.times)} cases slower, "
                    f"most {worst.name} ({worst.verdict.wording()})"
                )
            breaks = [f for f in self.red_findings if f.what == "graph breaks"]
            others = [f for f in self.red_findings if f not in breaks]
            if breaks:
                place = breaks[0].detail.partition(" Explanation:")[0]  # torch's advice is in the table
                causes.insert(0, f"graph break in {breaks[0].case} at {place}")
            if others:
                names = ", ".join(dict.fromkeys(f"{f.what} of {f.case}" for f in others[:3]))
                more = f" and {len(others) - 3} more" if len(others) > 3 else ""
                causes.append(f"worse: {names}{more}")
            return "Regression: " + "; ".join(causes)
        kinds = [t.verdict.kind for t in self.times]
        parts = [f"{kinds.count(kind)} {kind}" for kind in (FASTER, SAME) if kinds.count(kind)]
        accepted = [t for t in self.times if t.verdict.kind == SLOWER]
        if accepted:
            parts.append(f"{len(accepted)} slower and accepted")
        decided = f"of {len(self.times)} cases {', '.join(parts)}" if parts else ""
        if self.open_times:
            names = ", ".join(t.name for t in self.open_times[:3])
            return (
                f"Inconclusive: {len(self.open_times)} of {len(self.times)} cases undecided "
                f"at the end of the budget ({names}{', …' if len(self.open_times) > 3 else ''}); "
                "run it again, as what was compiled and counted is kept, or with more --minutes"
                f"{self.not_timed and f'; {self.not_timed}'}"
            )
        if self.not_timed:
            return "; ".join(filter(None, [f"Inconclusive: {self.not_timed}", decided]))
        if self.untimed:
            return "No regression in results and counters; times were not measured"
        return f"No regression: {decided}"

"""How a run decides, and what it says of a case. The job that shows a report has no torch, numpy or scipy."""

from __future__ import annotations

from dataclasses import dataclass

SLOWER, FASTER, SAME, INCONCLUSIVE = "slower", "faster", "same", "inconclusive"
LEANS = 0.1  # p up to which launches point somewhere


@dataclass(frozen=True)
class Plan:
    """How a run decides.

    Attributes:
        min_effect: relative change that is to be caught, 0.03 for 3%.
        floor: absolute change below which nothing is red, s per step.
        alpha: chance of any false "slower" in one run, all cases and looks together.
        miss: chance, per case, that a change of ``min_effect`` is called same.
        looks: launches after which a case is looked at; the last is the most it can get.
        caught_share: share of ``min_effect`` that the estimate must reach to be slower or faster.
        spending: power of the spending function; 1 spends evenly, 2 saves for later looks.
    """

    min_effect: float = 0.03
    floor: float = 20e-6
    alpha: float = 0.01
    miss: float = 0.10
    looks: tuple[int, ...] = (2, 3, 4, 6, 8, 12, 16)
    caught_share: float = 0.6
    spending: float = 1.5

    def __post_init__(self) -> None:
        if not 0 < self.min_effect < 1:
            raise ValueError(f"a minimum effect of {self.min_effect:.0%} is not between 0% and 100%")
        if not self.looks or self.looks[0] < 2 or list(self.looks) != sorted(set(self.looks)):
            raise ValueError(f"looks {self.looks} must rise, from 2 launches at least")

    @property
    def most(self) -> int:
        return self.looks[-1]

    def spent(self, launches: int) -> float:
        """Share of a test's error that may be spent up to ``launches``, 0 to 1."""
        return float(min(1.0, launches / self.most) ** self.spending)


@dataclass(frozen=True)
class Verdict:
    """What a case's launches say.

    Attributes:
        kind: SLOWER, FASTER, SAME or INCONCLUSIVE.
        ratio: head's time over base's, the geometric mean over launches.
        low, high: 95% interval of ``ratio`` (moderated t, launches as the unit).
        p: one-sided, against "no slower"; small means slower.
        launches: how many there are.
        noise: standard deviation of one launch's log ratio.
        level: what this look was allowed to spend on a false "slower".
    """

    kind: str
    ratio: float
    low: float
    high: float
    p: float
    launches: int
    noise: float
    level: float

    @property
    def decided(self) -> bool:
        return self.kind != INCONCLUSIVE

    @property
    def leaning(self) -> str | None:
        """SLOWER or FASTER where the launches point there, less than proof; None where nowhere."""
        return SLOWER if self.p <= LEANS else FASTER if self.p >= 1 - LEANS else None

    def wording(self) -> str:
        """``1.04x slower``, as people say it."""
        if self.kind == SLOWER:
            return f"{self.ratio:.2f}x slower"
        if self.kind == FASTER:
            return f"{1 / self.ratio:.2f}x faster"
        return self.kind

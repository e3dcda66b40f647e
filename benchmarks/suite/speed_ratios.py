"""How fast a compiled step is beside an eager one, and ``auto`` beside stock LeRobot, in fresh processes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, median

from .asv_cases import NOT_APPLICABLE, TIMEOUT, has_mode
from .launch import as_request, launch
from .roofline import product_rate
from .timer import PAUSE
from .workloads import Case

# Fresh processes that a ratio is measured in, and how long each takes steps by turns, s. Of pusht's 24 ms
# steps it lay within 1 to 2% in a process, and from one to the next between 0.83 and 1.01: each has other
# places in memory, and other work on a shared machine comes in bursts.
LAUNCHES = 4
SECONDS, ROUNDS = 3.0, 4


@dataclass(frozen=True)
class Ratio:
    """Of the times of two steps.

    Attributes:
        middle: the median of the launches.
        spread: of Student's 95% interval the upper end over the lower one, of the mean logarithm.
    """

    middle: float
    spread: float

    @classmethod
    def of(cls, launches: Sequence[float]) -> Ratio:
        """Of two launches or more."""
        from scipy import stats

        logarithms = [math.log(each) for each in launches]
        half = stats.t.ppf(0.975, len(launches) - 1) * stats.sem(logarithms)
        return cls(median(launches), math.exp(2 * half))

    def named(self, name: str) -> dict[str, float]:
        return {name: self.middle, f"{name}_spread": self.spread}


NO_RATIO = Ratio(NOT_APPLICABLE, NOT_APPLICABLE)


def ratios(case: Case, flops: int) -> dict[str, float]:
    """Ratios of the times of a compiled ``case`` and its eager step; of inference, of ``auto`` and stock.

    Over LAUNCHES fresh processes, which find compiled in the cache what ``ready`` has compiled.

    Args:
        flops: of an eager step, for its limit.
    """
    eager = case.as_variant("eager")
    with_auto = case.phase == "inference" and has_mode("auto")
    auto, stock = (case.as_variant(variant) for variant in ("auto", "stock"))
    steps = [case, eager, *([auto, stock] if with_auto else [])]
    request = as_request("alternate", steps, seconds=SECONDS, pause=PAUSE, least=ROUNDS)
    cache = Path(os.environ["TORCHINDUCTOR_CACHE_DIR"])
    launches = [
        {name: middle_half(seconds) for name, seconds in found["seconds"].items()}
        for found in (launch(request, inductor_cache=cache, timeout=TIMEOUT) for _ in range(LAUNCHES))
    ]

    def over(one: Case, other: Case) -> Ratio:
        return Ratio.of([found[str(one)] / found[str(other)] for found in launches])

    limit = flops / product_rate(case.device) / median(found[str(eager)] for found in launches)
    return {
        **over(case, eager).named("compiled_over_eager"),
        "limit_over_eager": limit,
        **(over(auto, stock) if with_auto else NO_RATIO).named("auto_over_stock"),
    }


def middle_half(seconds: Sequence[float]) -> float:
    """The mean of the middle half; a median jumps where steps take 9 or 15 ms, as pusht's by an engine do."""
    cut = len(seconds) // 4
    return fmean(sorted(seconds)[cut : len(seconds) - cut])

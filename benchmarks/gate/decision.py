"""What the launches of a case say: slower, faster, same, or inconclusive. Statistics only, no torch.

The unit is the launch. One launch starts a fresh process for each side and gives one number per
case: the log of head's time over base's. Within a launch samples share memory layout, allocator
and clock, so they are never counted as independent (Kalibera & Jones, "Rigorous benchmarking in
reasonable time", ISMM 2013).

Three rules, in this order, at each look at the data:

- **slower**: a one-sided t-test rejects "no slower", and the estimate reaches ``caught_share`` of
  the minimum effect and the absolute floor. At exactly the minimum effect an estimate falls below
  it every second time; asking for the whole of it would miss half of what is to be caught.
- **faster**: the same, mirrored.
- **same**: the interval excludes the minimum effect on both sides (two one-sided tests:
  Schuirmann, J. Pharmacokinet. Biopharm. 15, 1987). It is not a failure to reject.

Otherwise the case is undecided and gets more launches.

Variance: a handful of launches tells little about a case's noise, and the t distribution of three
degrees of freedom asks for 14 standard errors where that of twenty asks for 4. The cases of a run
share the machine, so each one's variance is moderated towards what they have in common, as far as
they agree (empirical Bayes: Smyth, Stat. Appl. Genet. Mol. Biol. 3, 2004, section 6.2); where they
do not agree, each is left with its own.

False alarms: with ``m`` tests in the run, each gets ``alpha / m`` (Bonferroni) and spends it over
its looks by a power-family function of the launches taken (Kim & DeMets, Biometrika 74, 1987); when
time is up, which the ratios have no part in, the last look spends what is left. Each look is tested
at what it may spend there and no more, so the union bound holds without any assumption on how looks
or cases depend on each other. The t-test on log ratios of paired launches
is conservative for the symmetric, heavy-tailed noise of a shared machine (Efron, JASA 64, 1969);
that the procedure as a whole keeps its promise is measured by replay, see docs/gate.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, special, stats

from .verdict import FASTER, INCONCLUSIVE, SAME, SLOWER, Plan, Verdict

TRIMMED = 0.2  # of a launch's pairs, at either end


@dataclass(frozen=True)
class Prior:
    """What the cases of a run say about the variance of a launch's log ratio.

    Attributes:
        variance: what they have in common.
        weight: how many degrees of freedom it is worth; 0: nothing in common.
        pooled: degrees of freedom of all cases together, which no case can exceed.
    """

    variance: float
    weight: float
    pooled: float

    def moderated(self, variance: float, df: int) -> tuple[float, float]:
        """A case's variance drawn towards the common one, and its degrees of freedom."""
        if self.weight == 0:
            return variance, df
        if math.isinf(self.weight):
            return self.variance, max(df, self.pooled)
        mixed = (self.weight * self.variance + df * variance) / (self.weight + df)
        return mixed, min(self.weight + df, max(df, self.pooled))


NO_PRIOR = Prior(0.0, 0.0, 0.0)
LEAST_VARIANCE = 1e-12  # of launches that agree to the last bit; its logarithm must exist


def fit_prior(cases: Sequence[Sequence[float]]) -> Prior:
    """Moments of the log variances of the cases that have two launches or more (Smyth 2004, 6.2)."""
    known = [np.asarray(values) for values in cases if len(values) >= 2]
    if len(known) < 2:
        return NO_PRIOR
    df = np.array([len(values) - 1 for values in known], dtype=float)
    variances = np.maximum([values.var(ddof=1) for values in known], LEAST_VARIANCE)
    logs = np.log(variances) - special.digamma(df / 2) + np.log(df / 2)
    spread = float(logs.var(ddof=1) - special.polygamma(1, df / 2).mean())
    if spread <= 0:  # they differ no more than chance makes them
        return Prior(float(np.average(variances, weights=df)), math.inf, float(df.sum()))
    weight = 2 * _inverse_trigamma(spread)
    variance = math.exp(logs.mean() + float(special.digamma(weight / 2)) - math.log(weight / 2))
    return Prior(variance, weight, float(df.sum()))


def _inverse_trigamma(value: float) -> float:
    return float(optimize.brentq(lambda x: float(special.polygamma(1, x)) - value, 1e-8, 1e8))


def launch_ratio(base: Sequence[float], head: Sequence[float]) -> float:
    """Log of head's time over base's in one launch, from samples taken in turn.

    The mean over neighbours in time without the highest and lowest TRIMMED of them: a disturbed
    sample moves it by little. Over 24 pairs of pusht's steps it varies by 2.7%, the median by 3.5%.

    Raises:
        ValueError: no pair, or a time that is zero, negative or not a number.
    """
    if len(base) != len(head) or not base:
        raise ValueError(f"{len(base)} samples of base and {len(head)} of head are no pairs")
    for side, seconds in (("base", base), ("head", head)):
        for second in seconds:
            if not (math.isfinite(second) and second > 0):
                raise ValueError(f"{side} reported a time of {second} s; nothing can be said from it")
    return float(stats.trim_mean(np.log(np.asarray(head)) - np.log(np.asarray(base)), TRIMMED))


def decide(
    log_ratios: Sequence[float],
    base_seconds: float,
    plan: Plan,
    *,
    tests: int,
    spent_at: int = 0,
    last: bool = False,
    prior: Prior = NO_PRIOR,
) -> Verdict:
    """The verdict on one case from one number per launch.

    Args:
        log_ratios: log of head's time over base's, one per launch.
        base_seconds: of one step, for the absolute floor.
        plan: the error rates and effects.
        tests: cases of the run, decided ones included.
        spent_at: launches at the look before this one, 0 at the first.
        last: there will be no other look; what is left of the error is spent now.
        prior: what the run's cases have in common; by default the case stands alone.

    Raises:
        ValueError: a ratio that is not finite, or less than one test.
    """
    values = np.asarray(log_ratios, dtype=float)
    if tests < 1:
        raise ValueError(f"{tests} tests: at least one case is needed to decide on")
    if not np.isfinite(values).all():
        raise ValueError(f"log ratios {list(log_ratios)} are not all finite numbers")
    n = len(values)
    if n < 2:
        ratio = float(np.exp(values.mean())) if n else math.nan
        return Verdict(INCONCLUSIVE, ratio, 0.0, math.inf, 1.0, n, math.nan, 0.0)
    mean, deviation = float(values.mean()), float(values.std(ddof=1))
    variance, df = prior.moderated(deviation**2, n - 1)
    error = math.sqrt(variance / n)
    share = max(0.0, (1.0 if last else plan.spent(n)) - plan.spent(spent_at))
    level, miss = plan.alpha / tests * share, plan.miss * share
    low, high = _interval(mean, error, df, 0.05)
    p = float(special.stdtr(df, -mean / error)) if error > 0 else 0.5 if mean == 0 else float(mean < 0)
    return Verdict(
        kind=_kind(mean, error, df, p, level, miss, base_seconds, plan),
        ratio=math.exp(mean),
        low=math.exp(low),
        high=math.exp(high),
        p=p,
        launches=n,
        noise=deviation,
        level=level,
    )


def _kind(
    mean: float, error: float, df: float, p: float, level: float, miss: float, base_seconds: float, plan: Plan
) -> str:
    effect = math.log1p(plan.min_effect)
    change = math.expm1(mean) * base_seconds
    large = abs(mean) >= plan.caught_share * effect and abs(change) >= plan.floor
    if large and p <= level:
        return SLOWER
    if large and 1 - p <= level:
        return FASTER
    low, high = _interval(mean, error, df, 2 * miss)
    if -effect < low and high < effect:
        return SAME
    if abs(math.expm1(low)) * base_seconds < plan.floor and abs(math.expm1(high)) * base_seconds < plan.floor:
        return SAME  # whatever the share is, in seconds it is nothing
    return INCONCLUSIVE


def _interval(mean: float, error: float, df: float, outside: float) -> tuple[float, float]:
    """Interval of the mean that leaves ``outside`` of the probability, half on either side."""
    if outside <= 0:
        return -math.inf, math.inf
    half = -float(special.stdtrit(df, min(outside, 1.0) / 2)) * error  # stats.t, 50 times as fast
    return mean - half, mean + half

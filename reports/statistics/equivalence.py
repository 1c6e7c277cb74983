"""Equivalence of two means: two one-sided tests within a margin, and the verdict that follows."""

import math
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy import special

from ascent.reports.statistics.intervals import ALPHA, TAIL
from ascent.reports.statistics.significance import welch_error

REPRODUCED = "reproduced"
WITHIN_MARGIN = "different within the margin"
DIFFERENT = "different"
INCONCLUSIVE = "inconclusive"
UNATTAINABLE = "unattainable"

POWER = 0.8  # of a verdict, for which seeds are planned
MAX_SEEDS = 1024  # up to which they are planned
POWER_POINTS = 500  # quadrature points for the power of a verdict: accurate to 1e-4


class Equivalence(NamedTuple):
    """Result of an equivalence test.

    `power` is the probability that both one-sided tests reject if the true means are equal. `seeds` is the
    number of runs in the first sample from which it is at least POWER, None if MAX_SEEDS are not enough.
    """

    difference: float
    low: float  # 95% interval of the difference
    high: float
    p_equivalent: float
    p_different: float
    verdict: str
    power: float
    seeds: int | None


class Prediction(NamedTuple):
    """Where further runs are expected if they are drawn from the same normal distribution as a sample.

    `low` and `high` are the 95% prediction interval of the mean of m further runs. With probability 95% or
    more, none of these runs is below `worst`. All three are the sample's mean if it does not vary.
    """

    low: float
    high: float
    worst: float


def equivalence(
    mean: float, std: float, n: int, other_mean: float, other_std: float, other_n: int, margin: float
) -> Equivalence:
    """Test whether two means are equal within +-margin, from means, standard deviations (ddof 1) and sizes.

    Two one-sided Welch tests (Schuirmann 1987) and Welch's test of equality, at ALPHA each (Lakens 2018):

    | one-sided tests reject | equality is rejected | verdict |
    |---|---|---|
    | yes | no | "reproduced": the 90% interval of the difference lies within the margin |
    | yes | yes | "different within the margin" |
    | no | yes | "different" |
    | no | no | "unattainable" if no first sample could make them reject (see `attainable`) |
    | no | no | else "inconclusive" |

    If both standard deviations are 0, the difference itself decides.

    Raises:
        ValueError: a sample has fewer than two runs.
    """
    if min(n, other_n) < 2:
        raise ValueError("an equivalence test needs at least two runs in each sample")
    difference = mean - other_mean
    if std == other_std == 0:
        equal = math.isclose(mean, other_mean, rel_tol=1e-9)
        inside = abs(difference) < margin
        limits = (difference, difference, difference)
        verdict = _verdict(inside, not equal, True)
        return Equivalence(*limits, float(not inside), float(equal), verdict, 1.0, 2)
    error, df = welch_error(std, n, other_std, other_n)
    p_equivalent = float(special.stdtr(df, -(margin - abs(difference)) / error))
    p_different = float(2 * special.stdtr(df, -abs(difference) / error))
    verdict = _verdict(p_equivalent < ALPHA, p_different < ALPHA, attainable(other_std, other_n, margin))
    half = float(special.stdtrit(df, TAIL)) * error
    return Equivalence(
        difference,
        difference - half,
        difference + half,
        p_equivalent,
        p_different,
        verdict,
        power(std, n, other_std, other_n, margin),
        seeds_needed(std, other_std, other_n, margin),
    )


def _verdict(equal: bool, different: bool, possible: bool) -> str:
    if equal:
        return WITHIN_MARGIN if different else REPRODUCED
    if different:
        return DIFFERENT
    return INCONCLUSIVE if possible else UNATTAINABLE


def attainable(std: float, n: int, margin: float) -> bool:
    """Return whether any other sample can be shown to be equal to this one, of this spread, within +-margin.

    The other sample is free: of any number of runs, with any spread.
    """
    return _least_halfwidth(n) * std / math.sqrt(n) < margin


@cache
def _least_halfwidth(n: int) -> float:
    """Return the least half width of a 90% interval of a difference, in standard errors of a mean of n runs.

    It is t(0.95, n - 1) if the mean of the other sample is known exactly. With n <= 5, a variance of the
    other mean can make it smaller, because Welch's degrees of freedom grow faster than the standard error: to
    at most (1 + x)^2 (n - 1) if that variance is x times the one here.
    """
    share = np.concatenate([[0.0], np.logspace(-4, 3, 2001)])
    return float((special.stdtrit((1 + share) ** 2 * (n - 1), 1 - ALPHA) * np.sqrt(1 + share)).min())


def power(std: float, n: int, other_std: float, other_n: int, margin: float) -> float:
    """Return the probability that both one-sided tests reject if the true means are equal.

    The standard deviations are taken as the true ones; at least one of them must be positive.
    """
    error, df = welch_error(std, n, other_std, other_n)
    # P(|D| < margin - t SE') with D ~ N(0, SE^2) and SE'^2 ~ SE^2 chi2(df) / df, by the midpoint rule over
    # the quantiles of SE'
    quantiles = (np.arange(POWER_POINTS) + 0.5) / POWER_POINTS
    drawn = np.sqrt(special.chdtri(df, quantiles) / df)
    room = np.maximum(margin / error - special.stdtrit(df, 1 - ALPHA) * drawn, 0)
    return float(special.erf(room / np.sqrt(2)).mean())


def seeds_needed(std: float, other_std: float, other_n: int, margin: float) -> int | None:
    """Return the least number of runs of the first sample with a power of at least POWER.

    None if MAX_SEEDS runs are not enough.
    """

    def enough(n: int) -> bool:
        return power(std, n, other_std, other_n, margin) >= POWER

    if not enough(MAX_SEEDS):
        return None
    low, high = 1, MAX_SEEDS
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def predict(mean: float, std: float, n: int, m: int) -> Prediction:
    """Predict the mean of m further runs, and the worst of them, from a sample of n runs.

    The interval of the mean is that of Patil, Peng and Leek (2016). The limit for single runs is a one-sided
    simultaneous one, by Bonferroni's inequality.
    """
    half = float(special.stdtrit(n - 1, TAIL)) * std * math.sqrt(1 / n + 1 / m)
    single = float(special.stdtrit(n - 1, 1 - ALPHA / m)) * std * math.sqrt(1 + 1 / n)
    return Prediction(mean - half, mean + half, mean - single)

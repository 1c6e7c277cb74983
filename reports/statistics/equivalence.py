"""Equivalence of two means: two one-sided tests within a margin, and the verdict that follows."""

from typing import NamedTuple

import numpy as np
from scipy import special

from ascent.reports.statistics.intervals import ALPHA, TAIL
from ascent.reports.statistics.significance import welch_error

POWER_POINTS = 500  # quadrature points for the power of a verdict: accurate to 1e-4


class Equivalence(NamedTuple):
    """Result of an equivalence test.

    `verdict` is "reproduced", "different" or "inconclusive"; `power` is the probability of "reproduced" if
    the true means are equal.
    """

    difference: float
    low: float  # 95% interval of the difference
    high: float
    p_equivalent: float
    p_different: float
    verdict: str
    power: float


def equivalence(
    mean: float, std: float, n: int, other_mean: float, other_std: float, other_n: int, margin: float
) -> Equivalence:
    """Test whether two means are equal within +-margin, from means, standard deviations (ddof 1) and sizes.

    Two one-sided Welch tests (Schuirmann 1987) and Welch's test of equality, at ALPHA each. The verdict is
    "reproduced" if both one-sided tests reject (the 90% interval of the difference lies within the margin),
    else "different" if equality is rejected, else "inconclusive" (Lakens 2018). If both standard deviations
    are 0, the difference itself decides.

    Raises:
        ValueError: a sample has fewer than two runs.
    """
    if min(n, other_n) < 2:
        raise ValueError("an equivalence test needs at least two runs in each sample")
    difference = mean - other_mean
    if std == other_std == 0:
        inside = abs(difference) < margin
        p_equivalent = float(not inside)
        p_different = float(difference == 0)
        verdict = "reproduced" if inside else "different"
        return Equivalence(difference, difference, difference, p_equivalent, p_different, verdict, 1.0)
    error, df = welch_error(std, n, other_std, other_n)
    p_equivalent = float(special.stdtr(df, -(margin - abs(difference)) / error))
    p_different = float(2 * special.stdtr(df, -abs(difference) / error))
    verdict = "inconclusive"
    if p_equivalent < ALPHA:
        verdict = "reproduced"
    elif p_different < ALPHA:
        verdict = "different"
    half = float(special.stdtrit(df, TAIL)) * error
    # P(|D| < margin - t SE') with D ~ N(0, SE^2) and SE'^2 ~ SE^2 chi2(df) / df, by the midpoint rule over
    # the quantiles of SE'
    quantiles = (np.arange(POWER_POINTS) + 0.5) / POWER_POINTS
    drawn = np.sqrt(special.chdtri(df, quantiles) / df)
    room = np.maximum(margin / error - special.stdtrit(df, 1 - ALPHA) * drawn, 0)
    power = float(special.erf(room / np.sqrt(2)).mean())
    low, high = difference - half, difference + half
    return Equivalence(difference, low, high, p_equivalent, p_different, verdict, power)

"""Significance tests of the difference of two samples: Welch's test and a permutation test.

Scores that are not finite raise ValueError.
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import special

from ascent.reports.statistics.intervals import TAIL, have_spread, require_finite

EXACT_PARTITIONS = 100_000  # a permutation test enumerates all partitions up to this number
RANDOM_PARTITIONS = 9_999  # beyond it, it draws this many and adds the observed one


class Comparison(NamedTuple):
    """Difference of two means with its interval; NaN where Welch's test is undefined."""

    difference: float
    low: float
    high: float
    t: float
    df: float
    p: float


def welch(x: np.ndarray, y: np.ndarray) -> Comparison:
    """Return Welch's test and interval for the difference of the means of x (n,) and y (m,).

    Interval and p are NaN where a sample has one run or neither sample varies: there is no standard error.
    """
    require_finite(x, y)
    difference = float(x.mean() - y.mean())
    if not have_spread(x, y):
        return Comparison(difference, *[float("nan")] * 5)
    error, df = welch_error(x.std(ddof=1), len(x), y.std(ddof=1), len(y))
    t, half = difference / error, float(special.stdtrit(df, TAIL)) * error
    p = float(2 * special.stdtr(df, -abs(t)))
    return Comparison(difference, difference - half, difference + half, t, df, p)


def welch_error(std_x: float, n: int, std_y: float, m: int) -> tuple[float, float]:
    """Return the standard error of a difference of means and its degrees of freedom (Welch 1947).

    At least one of the standard deviations must be positive.
    """
    part_x, part_y = std_x**2 / n, std_y**2 / m
    df = (part_x + part_y) ** 2 / (part_x**2 / (n - 1) + part_y**2 / (m - 1))
    return float(np.sqrt(part_x + part_y)), float(df)


def permutation_p(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Return the two-sided p values (K,) of K permutation tests of x (K, n) against y (K, m).

    The statistic is Welch's t (Janssen 1997; Chung and Romano 2013), which keeps the test asymptotically
    valid under unequal variances. All partitions are enumerated where there are few; otherwise random ones
    are drawn and the observed one is added: (b + 1) / (m + 1), Phipson and Smyth (2010). Where neither side
    of a partition varies, t is 0 if the means are equal, else infinite.

    Raises:
        ValueError: a sample has fewer than two runs.
    """
    require_finite(x, y)
    n, m = x.shape[1], y.shape[1]
    if min(n, m) < 2:
        raise ValueError("a permutation test needs at least two runs in each sample")
    if _partitions(n, m) <= EXACT_PARTITIONS:
        if n == m:
            # A partition and its mirror image have the same |t|: those with the first run in x suffice.
            chosen = np.array([(0, *rest) for rest in combinations(range(1, n + m), n - 1)])
        else:
            chosen = np.array(list(combinations(range(n + m), n)))
    else:
        random = np.random.default_rng(seed).random((RANDOM_PARTITIONS, n + m))
        chosen = np.vstack([np.arange(n), random.argpartition(n, axis=1)[:, :n]])
    chosen = np.ascontiguousarray(chosen.T)
    pooled = np.hstack([x, y])
    spread = np.ptp(pooled, axis=1, keepdims=True)
    pooled = (pooled - pooled.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, np.inf)
    p = np.empty(len(pooled))
    for k, values in enumerate(pooled):
        t = np.abs(_welch_t(values, chosen))
        p[k] = (t >= t[0] * (1 - 1e-9)).mean()  # the first is the observed one; the factor absorbs rounding
    return p


def smallest_permutation_p(n: int, m: int) -> float:
    """Return the smallest p value that the permutation test can give with n and m runs."""
    partitions = _partitions(n, m)
    return 1 / partitions if partitions <= EXACT_PARTITIONS else 1 / (RANDOM_PARTITIONS + 1)


def _partitions(n: int, m: int) -> int:
    """Return the number of partitions of n + m runs that may differ in |t|."""
    return comb(n + m, n) // (2 if n == m else 1)


def _welch_t(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return Welch's t (R,) of values (N,) with mean 0 and range 1.

    `chosen` (n, R) holds the indices of the first sample in each of R partitions.
    """
    n, m = len(chosen), len(values) - len(chosen)
    first, squares = values[chosen].sum(axis=0), (values**2)[chosen].sum(axis=0)
    mean_x, mean_y = first / n, (values.sum() - first) / m
    var_x = (squares - n * mean_x**2) / (n - 1)
    var_y = ((values**2).sum() - squares - m * mean_y**2) / (m - 1)
    # A variance of about 1e-16 is rounding error.
    error = np.sqrt(sum(np.where(var < 1e-14, 0.0, var) / size for var, size in ((var_x, n), (var_y, m))))
    difference = mean_x - mean_y
    difference = np.where(np.abs(difference) < 1e-14, 0.0, difference)
    flat = np.where(difference == 0, 0.0, np.inf)
    return np.divide(difference, error, out=flat, where=error > 0)


def minimum_detectable_difference(std_x: float, std_y: float, n: int, m: int, power: float = 0.8) -> float:
    """Return the difference of means that Welch's two-sided test at ALPHA detects with this power.

    In units of the scores, taking the standard deviations as the true ones; 0 if both are 0. The statistic is
    taken as noncentral t with Welch's degrees of freedom; rejections in the wrong direction do not count.
    """
    if std_x == std_y == 0:
        return 0.0
    error, df = welch_error(std_x, n, std_y, m)
    return error * float(special.nctdtrinc(df, 1 - power, special.stdtrit(df, TAIL)))

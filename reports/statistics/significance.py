"""Significance tests of two samples: Welch's test of the means, a permutation test of superiority.

Scores that are not finite raise ValueError.
"""

from collections import defaultdict
from functools import lru_cache
from itertools import combinations
from math import ceil, comb
from typing import NamedTuple

import numpy as np
from scipy import special

from ascent.reports.statistics.intervals import ALPHA, TAIL, have_spread, require_finite

EXACT_PARTITIONS = 100_000  # a permutation test enumerates all partitions up to this number
FEWEST_DRAWS = 9_999  # beyond it, it draws at least so many and adds the observed one
MOST_DRAWS = 999_999
SETTLED = 100  # so many of the fewest draws that are as extreme settle that a pair is not significant
BLOCK = 20_000  # partitions drawn at once, so that they stay in the cache


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


def permutation_p(x: np.ndarray, y: np.ndarray, family: int, seed: int) -> np.ndarray:
    """Return the two-sided p values (K,) of K permutation tests of x (K, n) against y (K, m).

    The hypothesis is P(X > Y) + P(X = Y) / 2 = 1/2; the statistic is that of Brunner and Munzel (2000), which
    keeps the permutation test asymptotically valid where the two distributions differ in shape or spread
    (Neubert and Brunner 2007). For equal distributions it is exact. It is infinite where the samples do not
    overlap.

    All partitions are enumerated where there are few. Otherwise random ones are drawn and the observed one is
    added: (b + 1) / (m + 1), Phipson and Smyth (2010). Of samples that do not overlap the p value is counted.
    The number of draws is such that p values of a tenth of ALPHA / `family` can occur; a pair with many
    partitions as extreme among the first draws stops there (Besag and Clifford 1991).

    Raises:
        ValueError: a sample has fewer than two runs.
    """
    require_finite(x, y)
    n, m = x.shape[1], y.shape[1]
    if min(n, m) < 2:
        raise ValueError("a permutation test needs at least two runs in each sample")
    pooled = np.hstack([x, y])
    order = pooled.argsort(axis=1, kind="stable")
    ordered = np.take_along_axis(pooled, order, axis=1)
    first = (order < n).astype(np.int8).T  # (n + m, K): whether the k-th smallest is a run of x
    # Whether the next one is larger; a difference of 1e-12 of the range is rounding error.
    rises = np.diff(ordered, axis=1) > 1e-12 * np.ptp(ordered, axis=1, keepdims=True)
    p = np.empty(len(pooled))
    by_ties = defaultdict(list)  # what partitions give depends on which scores are tied, and on nothing else
    for k, row in enumerate(rises):
        by_ties[row.tobytes()].append(k)
    draws = min(max(ceil(10 * family / ALPHA) - 1, FEWEST_DRAWS), MOST_DRAWS)
    for ties, rows in by_ties.items():
        t = _brunner_munzel(first[:, rows], rises[rows[0]])
        if _partitions(n, m) <= EXACT_PARTITIONS:
            p[rows] = _as_extreme(t, _partition_t(n, m, ties, 0, seed)) / _partitions(n, m)
            continue
        found = _as_extreme(t, _partition_t(n, m, ties, FEWEST_DRAWS, seed))
        p[rows] = (found + 1) / (FEWEST_DRAWS + 1)
        open_ = np.array(rows)[found < SETTLED]
        if draws > FEWEST_DRAWS and len(open_):
            more = _as_extreme(t[found < SETTLED], _partition_t(n, m, ties, draws, seed))
            p[open_] = (more + 1) / (draws + 1)
        apart = rises[rows[0]][[n - 1, m - 1]]  # whether the n lowest, or the m lowest, are below the others
        p[np.array(rows)[np.isinf(t)]] = apart.sum() / comb(n + m, n)
    return p


def smallest_permutation_p(n: int, m: int) -> float:
    """Return the smallest p value that the permutation test can give with n and m runs."""
    return 1 / _partitions(n, m)


def _partitions(n: int, m: int) -> int:
    """Return the number of partitions of n + m runs that may differ in the statistic."""
    return comb(n + m, n) // (2 if n == m else 1)


def _as_extreme(t: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    """Return how many of the ordered statistics are at least t (K,); the factor absorbs rounding."""
    return len(ordered) - ordered.searchsorted(t * (1 - 1e-9))


@lru_cache(maxsize=4)
def _partition_t(n: int, m: int, ties: bytes, draws: int, seed: int) -> np.ndarray:
    """Return the ordered statistics of `draws` random partitions, or of all if it is 0.

    `ties`: the booleans (n + m - 1,), as bytes, that say whether each next larger score is not tied.
    """
    first = _random_partitions(n, m, draws, seed) if draws else _all_partitions(n, m)
    return np.sort(_brunner_munzel(first, np.frombuffer(ties, dtype=bool)))


@lru_cache(maxsize=2)
def _random_partitions(n: int, m: int, draws: int, seed: int) -> np.ndarray:
    """Return which of the ordered scores are in the first sample, (n + m, draws) of 0 and 1."""
    rng = np.random.default_rng(seed)
    first = np.zeros((n + m, draws), dtype=np.int8)
    for start in range(0, draws, BLOCK):
        random = rng.random((min(BLOCK, draws - start), n + m), dtype=np.float32)
        chosen = random.argpartition(n, axis=1)[:, :n]
        first[chosen, np.arange(start, start + len(chosen))[:, None]] = 1
    return first


@lru_cache(maxsize=2)
def _all_partitions(n: int, m: int) -> np.ndarray:
    """Return which of the ordered scores are in the first sample, (n + m, R) of 0 and 1, in all partitions.

    With n = m, those with the smallest score in the first sample suffice: their mirror images have the same
    statistics.
    """
    if n == m:
        chosen = np.array([(0, *rest) for rest in combinations(range(1, n + m), n - 1)])
    else:
        chosen = np.array(list(combinations(range(n + m), n)))
    first = np.zeros((n + m, len(chosen)), dtype=np.int8)
    first[chosen.T, np.arange(len(chosen))] = 1
    return first


def _brunner_munzel(first: np.ndarray, rises: np.ndarray) -> np.ndarray:
    """Return the squared statistic (R,) of partitions of N = n + m ordered scores.

    `first` (N, R) is 1 for the scores of the first sample, `rises` (N - 1,) true where the next score is
    larger. The placement of a run is the number of runs of the other sample below it, ties counting half; the
    statistic is the difference of the mean placements over its standard error.
    """
    n = int(first[:, 0].sum())
    m = len(first) - n
    starts = np.r_[0, np.flatnonzero(rises) + 1, len(first)]
    below, sum_x, squares_x, squares_y = (np.zeros(first.shape[1], dtype=np.int32) for _ in range(4))
    for start, end in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        tied = first[start:end].sum(axis=0, dtype=np.int32)
        # Twice the placements, so that all are whole numbers and equal statistics are equal floats.
        of_y = 2 * below + tied
        of_x = start + end - of_y
        weighted = tied * of_x
        sum_x += weighted
        squares_x += weighted * of_x
        squares_y += (end - start - tied) * of_y * of_y
        below += tied
    total = sum_x.astype(np.int64)
    spread_x, spread_y = n * squares_x.astype(np.int64) - total**2, m * squares_y.astype(np.int64)
    spread_y -= (2 * n * m - total) ** 2
    error = spread_x * (m - 1) + spread_y * (n - 1)
    squared = ((total - n * m) ** 2 * ((n - 1) * (m - 1))).astype(float)
    return np.divide(squared, error, out=np.where(squared > 0, np.inf, 0.0), where=error > 0)


def minimum_detectable_difference(
    std_x: float, std_y: float, n: int, m: int, alpha: float = ALPHA, power: float = 0.8
) -> float:
    """Return the difference of means that Welch's two-sided test at `alpha` detects with this power.

    In units of the scores, taking the standard deviations as the true ones; 0 if both are 0; NaN if the
    permutation test, which must also reject, cannot reach `alpha` with n and m runs. The statistic is taken
    as noncentral t with Welch's degrees of freedom; rejections in the wrong direction do not count.
    """
    if smallest_permutation_p(n, m) >= alpha:
        return float("nan")
    if std_x == std_y == 0:
        return 0.0
    error, df = welch_error(std_x, n, std_y, m)
    return error * float(special.nctdtrinc(df, 1 - power, special.stdtrit(df, 1 - alpha / 2)))

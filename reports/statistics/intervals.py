"""Statistics over seeds. They take arrays of scores and know nothing of records.

A score that is not finite is refused with a ValueError: no statistic of it would mean anything.
"""

from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95  # confidence of every interval
ALPHA = 0.05  # of every test
FEW_SEEDS = 10  # below this many seeds a number carries a warning
TAIL = (1 + LEVEL) / 2
EXACT_PARTITIONS = 100_000  # up to here a permutation test goes through all of them
RANDOM_PARTITIONS = 9_999  # else through so many, and the one observed
POWER_POINTS = 500  # over which the power of a verdict is summed: right to 1e-4


class Tolerance(NamedTuple):
    """At least the share `content` of all runs lies in [low, high], with confidence LEVEL."""

    content: float
    low: float
    high: float


class Crossing(NamedTuple):
    """Median number of steps until a threshold is reached by `reached` of `n` runs, None unless more than
    half do, and its limits, None where they are not defined.
    """

    median: float | None
    low: float | None
    high: float | None
    reached: int
    n: int


class Comparison(NamedTuple):
    """Difference of two means with its interval; t, df and p of Welch's test, NaN where it is not defined."""

    difference: float
    low: float
    high: float
    t: float
    df: float
    p: float


class Estimate(NamedTuple):
    """A value with its interval."""

    value: float
    low: float
    high: float


class Equivalence(NamedTuple):
    """Whether two means are equal within a margin; `power` is the chance of "reproduced" were they equal."""

    difference: float
    low: float  # 95% interval of the difference
    high: float
    p_equivalent: float
    p_different: float
    verdict: str
    power: float


def student_t_interval(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two-sided Student-t interval of the mean: mean -+ t(1 - (1 - LEVEL) / 2, n - 1) s / sqrt(n).

    sample (n, ...) -> low, high, each (...); NaN for n = 1, where there is no spread to estimate.
    """
    refuse_not_finite(sample)
    n = len(sample)
    mean = sample.mean(axis=0)
    if n < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = special.stdtrit(n - 1, TAIL) * sample.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def interquartile_mean(sample: np.ndarray) -> np.ndarray:
    """Mean of the middle half: floor(n / 4) values are dropped at each end, sample (n, ...) -> (...).

    No value is counted in part, so at n = 10 six of ten values stay, and below n = 4 it is the mean.
    """
    refuse_not_finite(sample)
    return scipy_stats.trim_mean(sample, 0.25, axis=0)


def tolerance_interval(sample: np.ndarray) -> Tolerance | None:
    """Between order statistics of a sample (n,): 90% of all runs where n allows (46), else half of them (8).

    The share between the r-th smallest and the r-th largest value is Beta(n - 2r + 1, 2r), whatever the
    distribution (Wilks 1941); the largest r that has confidence LEVEL is taken. None for fewer values.
    """
    refuse_not_finite(sample)
    n, ordered = len(sample), np.sort(sample)
    for content in (0.9, 0.5):
        r = 0
        while 2 * (r + 1) <= n and scipy_stats.beta.sf(content, n - 2 * r - 1, 2 * r + 2) >= LEVEL:
            r += 1
        if r:
            return Tolerance(content, float(ordered[r - 1]), float(ordered[n - r]))
    return None


def failure_interval(failures: int, n: int) -> tuple[float, float]:
    """Clopper-Pearson interval of the rate at which runs fail."""
    low, high = proportion_confint(failures, n, ALPHA, method="beta")
    return float(low), float(high)


def steps_to_threshold(steps: np.ndarray, reached: np.ndarray) -> Crossing:
    """Kaplan-Meier median of the steps (n,) at which runs reach a threshold, censored where not `reached`.

    The interval is that of the sign test (Brookmeyer and Crowley 1982) with a log-log survival.
    """
    refuse_not_finite(steps)
    median, limits = None, (None, None)
    if reached.any():
        survival = SurvfuncRight(steps, reached.astype(int))
        quantile = survival.quantile(0.5)
        if np.isfinite(quantile):
            median = float(quantile)
            with np.errstate(all="ignore"):
                found = survival.quantile_ci(0.5, ALPHA, method="cloglog")
            limits = tuple(float(limit) if np.isfinite(limit) else None for limit in found)
    return Crossing(median, *limits, int(reached.sum()), len(steps))


def welch(x: np.ndarray, y: np.ndarray) -> Comparison:
    """Welch's test and interval for the difference of the means of x (n,) and y (m,).

    Two samples without any spread have no standard error, and one run has no spread: the difference then
    stands without interval and p.
    """
    refuse_not_finite(x, y)
    difference = float(x.mean() - y.mean())
    if not _have_spread(x, y):
        return Comparison(difference, *[float("nan")] * 5)
    error, df = _welch_error(x.std(ddof=1), len(x), y.std(ddof=1), len(y))
    t, half = difference / error, float(special.stdtrit(df, TAIL)) * error
    p = float(2 * special.stdtr(df, -abs(t)))
    return Comparison(difference, difference - half, difference + half, t, df, p)


def _welch_error(std_x: float, n: int, std_y: float, m: int) -> tuple[float, float]:
    """Standard error of a difference of means and its degrees of freedom (Welch 1947); not both std are 0."""
    part_x, part_y = std_x**2 / n, std_y**2 / m
    df = (part_x + part_y) ** 2 / (part_x**2 / (n - 1) + part_y**2 / (m - 1))
    return float(np.sqrt(part_x + part_y)), float(df)


def _have_spread(x: np.ndarray, y: np.ndarray) -> bool:
    """Whether two samples tell of their spread: two runs each, and not all the same in both."""
    return min(len(x), len(y)) > 1 and bool(np.ptp(x) > 0 or np.ptp(y) > 0)


def refuse_not_finite(*samples: np.ndarray) -> None:
    """ValueError if any score is NaN or infinite."""
    if not all(np.isfinite(sample).all() for sample in samples):
        raise ValueError("scores must be finite")


def permutation_p(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Two-sided p values (K,) of K permutation tests of x (K, n) against y (K, m).

    Welch's t is the statistic (Janssen 1997; Chung and Romano 2013), so that the test stays valid for unequal
    variances at larger n. All partitions where there are few, else random ones and the one observed (Phipson
    and Smyth 2010, (b + 1) / (m + 1)). A partition without spread on either side has t = 0 if the means are
    equal, else infinity: nothing can be more extreme. One run on a side has no t (ValueError).
    """
    refuse_not_finite(x, y)
    n, m = x.shape[1], y.shape[1]
    if min(n, m) < 2:
        raise ValueError("a permutation test needs two runs on either side")
    if _partitions(n, m) <= EXACT_PARTITIONS:
        if (
            n == m
        ):  # a partition and its mirror image have the same |t|: those with the first run in x will do
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
        p[k] = (t >= t[0] * (1 - 1e-9)).mean()  # the first was observed; equal but for rounding is equal
    return p


def smallest_permutation_p(n: int, m: int) -> float:
    """The smallest p value that the permutation test can give for so many runs, whatever they score."""
    partitions = _partitions(n, m)
    return 1 / partitions if partitions <= EXACT_PARTITIONS else 1 / (RANDOM_PARTITIONS + 1)


def _partitions(n: int, m: int) -> int:
    """Partitions of n + m runs that may differ in |t|."""
    return comb(n + m, n) // (2 if n == m else 1)


def _welch_t(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Welch's t (R,) of values (N,) with mean 0 and range 1; chosen (n, R): which are in the first sample."""
    n, m = len(chosen), len(values) - len(chosen)
    first, squares = values[chosen].sum(axis=0), (values**2)[chosen].sum(axis=0)
    mean_x, mean_y = first / n, (values.sum() - first) / m
    var_x = (squares - n * mean_x**2) / (n - 1)
    var_y = ((values**2).sum() - squares - m * mean_y**2) / (m - 1)
    # What rounding leaves of no spread, about 1e-16, is none.
    error = np.sqrt(sum(np.where(var < 1e-14, 0.0, var) / size for var, size in ((var_x, n), (var_y, m))))
    difference = mean_x - mean_y
    difference = np.where(np.abs(difference) < 1e-14, 0.0, difference)
    flat = np.where(difference == 0, 0.0, np.inf)
    return np.divide(difference, error, out=flat, where=error > 0)


def holm(p: np.ndarray, family: int | None = None) -> np.ndarray:
    """Holm's step-down adjustment (1979) of p values (K,); NaN stays. `family`: the declared number of tests,
    of which those not in `p` count as not rejected; the defined ones in `p` if None.

    As statsmodels' multipletests, which collects garbage at every call: a second in a large process.
    """
    adjusted, order = np.full(len(p), np.nan), np.argsort(p)  # NaN comes last
    order = order[: np.count_nonzero(~np.isnan(p))]
    factors = (family or len(order)) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted


def hedges_g(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Standardised difference of means, bias-corrected (Hedges 1981), with the interval of its noncentral t
    (Steiger and Fouladi 1997), exact for normal scores with equal spread. NaN without any spread.
    """
    refuse_not_finite(x, y)
    if not _have_spread(x, y):
        return Estimate(*[float("nan")] * 3)
    n, m, df = len(x), len(y), len(x) + len(y) - 2
    std = np.sqrt(((n - 1) * x.var(ddof=1) + (m - 1) * y.var(ddof=1)) / df)
    unit = np.sqrt(1 / n + 1 / m)
    t = float(x.mean() - y.mean()) / (std * unit)
    if abs(t) < 1000:
        low, high = (float(special.nctdtrinc(df, p, t)) for p in (TAIL, 1 - TAIL))
    else:  # the numerator's own error no longer counts, and the routine does not end
        low, high = sorted(t * float(np.sqrt(special.chdtri(df, p) / df)) for p in (TAIL, 1 - TAIL))
    return Estimate(float((1 - 3 / (4 * df - 1)) * t * unit), float(low * unit), float(high * unit))


def superiority(x: np.ndarray, y: np.ndarray) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 with the interval of Brunner and Munzel (2000), made on the logit scale so that
    it stays within [0, 1] and holds near its ends.

    Samples that do not overlap have no spread of ranks; their limit is that of min(n, m) successes in as many
    independent pairs (Clopper-Pearson), which is conservative. NaN limits where all runs are the same, or one
    of a single run is among the others.
    """
    refuse_not_finite(x, y)
    if x.min() > y.max() or x.max() < y.min():
        bound = unanimous(min(len(x), len(y)))
        return Estimate(1.0, bound, 1.0) if x.min() > y.max() else Estimate(0.0, 0.0, 1 - bound)
    if not _have_spread(x, y):
        value = ((x[:, None] > y) + 0.5 * (x[:, None] == y)).mean()
        return Estimate(float(value), float("nan"), float("nan"))
    result = rank_compare_2indep(x, y)
    value = float(result.prob1)
    half = special.stdtrit(result.df, TAIL) * np.sqrt(result.var_prob) / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high))


def unanimous(n: int) -> float:
    """Lower limit of a probability after n successes and no failure (Clopper-Pearson)."""
    return float((ALPHA / 2) ** (1 / n))


def minimum_detectable_difference(std_x: float, std_y: float, n: int, m: int, power: float = 0.8) -> float:
    """The difference of means that Welch's two-sided test at ALPHA finds with this power, in units of the
    scores, if these are the true spreads; 0 without spread.

    Its t is taken as noncentral t with Welch's degrees of freedom; rejections on the wrong side do not count.
    """
    if std_x == std_y == 0:
        return 0.0
    error, df = _welch_error(std_x, n, std_y, m)
    return error * float(special.nctdtrinc(df, 1 - power, special.stdtrit(df, TAIL)))


def equivalence(
    mean: float, std: float, n: int, other_mean: float, other_std: float, other_n: int, margin: float
) -> Equivalence:
    """Two one-sided Welch tests within +-margin (Schuirmann 1987) and the test of equality, at ALPHA each.

    "reproduced" if both one-sided tests reject: the 90% interval of the difference lies within the margin;
    else "different" if equality is rejected; else "inconclusive" (Lakens 2018). Without any spread there is
    no error: the difference itself decides. One run on a side tells of no spread (ValueError).
    """
    if min(n, other_n) < 2:
        raise ValueError("an equivalence test needs two runs on either side")
    difference = mean - other_mean
    if std == other_std == 0:
        inside = abs(difference) < margin
        p_equivalent, p_different = float(not inside), float(difference == 0)
        verdict = "reproduced" if inside else "different"
        return Equivalence(difference, difference, difference, p_equivalent, p_different, verdict, 1.0)
    error, df = _welch_error(std, n, other_std, other_n)
    p_equivalent = float(special.stdtr(df, -(margin - abs(difference)) / error))
    p_different = float(2 * special.stdtr(df, -abs(difference) / error))
    verdict = "inconclusive"
    if p_equivalent < ALPHA:
        verdict = "reproduced"
    elif p_different < ALPHA:
        verdict = "different"
    half = float(special.stdtrit(df, TAIL)) * error
    # P(|D| < margin - t SE') with D ~ N(0, SE^2) and SE'^2 ~ SE^2 chi2(df) / df, at the middles of quantiles
    quantiles = (np.arange(POWER_POINTS) + 0.5) / POWER_POINTS
    drawn = np.sqrt(special.chdtri(df, quantiles) / df)
    room = np.maximum(margin / error - special.stdtrit(df, 1 - ALPHA) * drawn, 0)
    power = float(special.erf(room / np.sqrt(2)).mean())
    limits = difference - half, difference + half
    return Equivalence(difference, *limits, p_equivalent, p_different, verdict, power)

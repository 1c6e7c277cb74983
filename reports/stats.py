"""Statistics over seeds. They take arrays of scores and know nothing of records."""

from functools import cache
from itertools import combinations
from math import comb
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.meta_analysis import effectsize_smd
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.nonparametric import rank_compare_2indep
from statsmodels.stats.power import TTestIndPower
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95  # confidence of every interval
ALPHA = 0.05  # of every test
FEW_SEEDS = 10  # below this many seeds a number carries a warning
EXACT_PARTITIONS = 20_000  # up to here a permutation test goes through all of them
RANDOM_PARTITIONS = 9_999  # else through so many, and the one observed


class Tolerance(NamedTuple):
    """At least the share `content` of all runs lies in [low, high], with confidence LEVEL."""

    content: float
    low: float
    high: float


class Crossing(NamedTuple):
    """Median number of steps until a threshold is reached by `reached` of `n` runs, None where less than half
    do, and its limits, None where they are not defined.
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
    n = len(sample)
    mean = sample.mean(axis=0)
    if n < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = scipy_stats.t.ppf((1 + LEVEL) / 2, n - 1) * sample.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def interquartile_mean(sample: np.ndarray) -> np.ndarray:
    """Mean of the middle half: floor(n / 4) values are dropped at each end, sample (n, ...) -> (...).

    No value is counted in part, so at n = 10 six of ten values stay, and below n = 4 it is the mean.
    """
    return scipy_stats.trim_mean(sample, 0.25, axis=0)


def tolerance_interval(sample: np.ndarray) -> Tolerance | None:
    """Between order statistics of a sample (n,): 90% of all runs where n allows (46), else half of them (8).

    The share between the r-th smallest and the r-th largest value is Beta(n - 2r + 1, 2r), whatever the
    distribution (Wilks 1941); the largest r that has confidence LEVEL is taken. None for fewer values.
    """
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

    Two samples without any spread have no standard error: the difference stands without interval and p.
    """
    difference = float(x.mean() - y.mean())
    if min(len(x), len(y)) < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return Comparison(difference, *[float("nan")] * 5)
    test = scipy_stats.ttest_ind(x, y, equal_var=False)
    low, high = test.confidence_interval(LEVEL)
    return Comparison(
        difference, float(low), float(high), float(test.statistic), float(test.df), float(test.pvalue)
    )


def permutation_p(x: np.ndarray, y: np.ndarray, seed: int) -> np.ndarray:
    """Two-sided p values (K,) of K permutation tests of x (K, n) against y (K, m).

    Welch's t is the statistic (Janssen 1997; Chung and Romano 2013), so that the test stays valid for unequal
    variances at larger n. All partitions where there are few, else random ones and the one observed (Phipson
    and Smyth 2010, (b + 1) / (m + 1)). A partition without spread on either side has t = 0 or infinity.
    """
    n, m = x.shape[1], y.shape[1]
    if comb(n + m, n) <= EXACT_PARTITIONS:
        chosen = np.array(list(combinations(range(n + m), n)))
    else:
        random = np.random.default_rng(seed).random((RANDOM_PARTITIONS, n + m))
        chosen = np.vstack([np.arange(n), random.argpartition(n, axis=1)[:, :n]])
    groups = np.zeros((len(chosen), n + m))
    np.put_along_axis(groups, chosen, 1.0, axis=1)
    pooled = np.hstack([x, y])
    pooled = pooled - pooled.mean(axis=1, keepdims=True)
    scale = pooled.std(axis=1, keepdims=True)
    pooled = np.divide(pooled, scale, out=np.zeros_like(pooled), where=scale > 0)
    p = np.empty(len(pooled))
    for k, values in enumerate(pooled):
        t = np.abs(_welch_t(values, groups, n, m))
        observed = np.abs(_welch_t(values, (np.arange(n + m) < n)[None].astype(float), n, m))[0]
        p[k] = (t >= observed * (1 - 1e-9)).mean()  # equal but for rounding is equal
    return p


def _welch_t(values: np.ndarray, groups: np.ndarray, n: int, m: int) -> np.ndarray:
    """Welch's t (R,) of standardised values (n + m,); groups (R, n + m): 1 in the first sample, else 0."""
    first, squares = groups @ values, groups @ values**2
    means = first / n, (values.sum() - first) / m
    variances = []
    for total, mean, size in ((squares, means[0], n), ((values**2).sum() - squares, means[1], m)):
        spread = (total - size * mean**2) / (size - 1)
        variances.append(np.where(spread < 1e-12, 0.0, spread) / size)  # what rounding leaves is no spread
    difference, error = means[0] - means[1], np.sqrt(variances[0] + variances[1])
    difference = np.where(np.abs(difference) < 1e-12, 0.0, difference)
    flat = np.where(difference == 0, 0.0, np.inf)
    return np.where(error > 0, difference / np.where(error > 0, error, 1.0), flat)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's step-down adjustment of p values (K,); NaN stays and does not count."""
    adjusted, defined = np.full(len(p), np.nan), ~np.isnan(p)
    if defined.any():
        adjusted[defined] = multipletests(p[defined], method="holm")[1]
    return adjusted


def hedges_g(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Standardised difference of means, bias-corrected (Hedges 1981), with its large-sample interval."""
    n, m = len(x), len(y)
    if min(n, m) < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return Estimate(*[float("nan")] * 3)
    g, variance = effectsize_smd(x.mean(), x.std(ddof=1), n, y.mean(), y.std(ddof=1), m)
    half = scipy_stats.t.ppf((1 + LEVEL) / 2, n + m - 2) * np.sqrt(variance)
    return Estimate(float(g), float(g - half), float(g + half))


def superiority(x: np.ndarray, y: np.ndarray) -> Estimate:
    """P(X > Y) + P(X = Y) / 2 with the interval of Brunner and Munzel (2000).

    Samples that do not overlap have no spread of ranks; their limit is that of min(n, m) successes in as many
    independent pairs (Clopper-Pearson), which is conservative.
    """
    if x.min() > y.max() or x.max() < y.min():
        bound = float((ALPHA / 2) ** (1 / min(len(x), len(y))))
        return Estimate(1.0, bound, 1.0) if x.min() > y.max() else Estimate(0.0, 0.0, 1 - bound)
    if min(len(x), len(y)) < 2 or (np.ptp(x) == 0 and np.ptp(y) == 0):
        return Estimate(0.5, float("nan"), float("nan"))
    result = rank_compare_2indep(x, y)
    low, high = np.clip(result.conf_int(alpha=ALPHA), 0, 1)
    return Estimate(float(result.prob1), float(low), float(high))


def minimum_detectable_difference(std_x: float, std_y: float, n: int, m: int, power: float = 0.8) -> float:
    """The difference of means that a two-sided t test at ALPHA finds with this power."""
    return _detectable(n, m, power) * float(np.sqrt((std_x**2 + std_y**2) / 2))


@cache
def _detectable(n: int, m: int, power: float) -> float:
    return float(TTestIndPower().solve_power(nobs1=n, ratio=m / n, alpha=ALPHA, power=power))


def equivalence(
    mean: float, std: float, n: int, other_mean: float, other_std: float, other_n: int, margin: float
) -> Equivalence:
    """Two one-sided Welch tests within +-margin (Schuirmann 1987) and the test of equality, at ALPHA each.

    "reproduced" if both one-sided tests reject: the 90% interval of the difference lies within the margin;
    else "different" if equality is rejected; else "inconclusive" (Lakens 2018). Without any spread there is
    no error: the difference itself decides.
    """
    difference = mean - other_mean
    parts = std**2 / n, other_std**2 / other_n
    error = float(np.sqrt(sum(parts)))
    if error == 0:
        inside = abs(difference) < margin
        p_equivalent, p_different = float(not inside), float(difference == 0)
        verdict = "reproduced" if inside else "different"
        return Equivalence(difference, difference, difference, p_equivalent, p_different, verdict, 1.0)
    df = error**4 / sum(part**2 / (size - 1) for part, size in zip(parts, (n, other_n), strict=True) if part)
    t = scipy_stats.t(df)
    p_equivalent = float(t.sf((margin - abs(difference)) / error))
    p_different = float(2 * t.sf(abs(difference) / error))
    verdict = "inconclusive"
    if p_equivalent < ALPHA:
        verdict = "reproduced"
    elif p_different < ALPHA:
        verdict = "different"
    half = float(t.ppf((1 + LEVEL) / 2)) * error
    # P(|D| < margin - t SE') with D ~ N(0, SE^2) and SE'^2 ~ SE^2 chi2(df) / df, at the middles of 2,000
    # quantiles
    drawn = error * np.sqrt(scipy_stats.chi2.ppf((np.arange(2000) + 0.5) / 2000, df) / df)
    room = np.maximum(margin - t.ppf(1 - ALPHA) * drawn, 0) / error
    power = float((2 * scipy_stats.norm.cdf(room) - 1).mean())
    limits = difference - half, difference + half
    return Equivalence(difference, *limits, p_equivalent, p_different, verdict, power)

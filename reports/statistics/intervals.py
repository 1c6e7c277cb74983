"""Point estimates of a sample of run scores over seeds, with their confidence intervals.

The functions take arrays of scores and know nothing of records. Scores that are not finite raise ValueError:
no statistic of them would mean anything.
"""

from typing import NamedTuple

import numpy as np
from scipy import special
from scipy import stats as scipy_stats
from statsmodels.duration.survfunc import SurvfuncRight
from statsmodels.stats.proportion import proportion_confint

LEVEL = 0.95  # confidence level of every interval
ALPHA = 0.05  # significance level of every test
MEDIAN_LEVEL = 0.945  # of the interval of a median; see `median_interval`
FEW_SEEDS = 10  # results over fewer seeds carry a warning
TAIL = (1 + LEVEL) / 2


class Tolerance(NamedTuple):
    """[low, high] contains at least the share `content` of all possible runs, with confidence LEVEL."""

    content: float
    low: float
    high: float


class Crossing(NamedTuple):
    """Kaplan-Meier median of the steps to a threshold, with its limits.

    `reached` of `n` runs reach the threshold. `median` is None unless more than half of them do; a limit is
    None where it is not defined.
    """

    median: float | None
    low: float | None
    high: float | None
    reached: int
    n: int


class MedianInterval(NamedTuple):
    """[low, high] contains the median of all possible runs with probability `level`."""

    low: float
    high: float
    level: float


class Estimate(NamedTuple):
    """A value with its interval."""

    value: float
    low: float
    high: float


class Mean(NamedTuple):
    """A mean over runs with its Student-t limits; they are None for the reason `no_limits`, else ""."""

    value: float
    low: float | None
    high: float | None
    no_limits: str


def student_t_interval(sample: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the two-sided Student-t interval of the mean: mean -+ t(1 - (1 - LEVEL) / 2, n - 1) s / sqrt(n).

    sample (n, ...) -> low, high, each (...). Both are NaN for n = 1: one run has no standard deviation.
    """
    require_finite(sample)
    n = len(sample)
    mean = sample.mean(axis=0)
    if n < 2:
        return np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = special.stdtrit(n - 1, TAIL) * sample.std(axis=0, ddof=1) / np.sqrt(n)
    return mean - half, mean + half


def why_no_limits(sample: np.ndarray) -> str:
    """Return why the mean of a sample (n,) gets no Student-t limits, in a few words; "" where it gets them.

    Runs that are equal, as at the ceiling of a task, show no spread, or only that of the few others: where
    nine in ten runs are at the ceiling, the limits miss the mean of all runs four times in ten at n = 10.
    """
    require_finite(sample)
    n = len(sample)
    if n < 2:
        return f"n={n}"
    equal = int(np.unique(sample, return_counts=True)[1].max())
    if equal == n:
        return f"{n} of {n} runs equal; up to {1 - unanimous(n):.0%} of all runs may differ"
    return f"{equal} of {n} runs equal" if 2 * equal > n else ""


def mean_of(sample: np.ndarray) -> Mean:
    """Return the mean of a sample (n,) with its Student-t limits, unless `why_no_limits` refuses them."""
    value, reason = float(sample.mean()), why_no_limits(sample)
    if reason:
        return Mean(value, None, None, reason)
    low, high = student_t_interval(sample)
    return Mean(value, float(low), float(high), "")


def median_interval(sample: np.ndarray) -> MedianInterval | None:
    """Return the interval of the median of all possible runs from a sample (n,); None below n = 5.

    The k-th smallest and the k-th largest of n values contain the median with a binomial probability,
    whatever the distribution (Thompson 1936). Between the two k whose probabilities enclose MEDIAN_LEVEL, the
    limits are interpolated as in Hettmansperger and Sheather (1986); the error is below half a percent for
    continuous distributions. At n = 5 no k has it: the smallest and the largest value contain the median with
    93.75%. MEDIAN_LEVEL is 94.5% because at n = 10 the interval is then no wider than 1.1 times Student's
    on normal scores.
    """
    require_finite(sample)
    n, ordered = len(sample), np.sort(sample)
    if n < 5:
        return None

    def level(k: int) -> float:
        return float(1 - 2 * special.bdtr(k - 1, n, 0.5))

    k = 1
    while level(k + 1) >= MEDIAN_LEVEL:
        k += 1
    if level(k) < MEDIAN_LEVEL:
        return MedianInterval(float(ordered[0]), float(ordered[-1]), level(k))
    share = (level(k) - MEDIAN_LEVEL) / (level(k) - level(k + 1))
    inner = (n - k) * share / (k + (n - 2 * k) * share)
    low = (1 - inner) * ordered[k - 1] + inner * ordered[k]
    high = (1 - inner) * ordered[n - k] + inner * ordered[n - k - 1]
    return MedianInterval(float(low), float(high), MEDIAN_LEVEL)


def interquartile_mean(sample: np.ndarray) -> np.ndarray:
    """Return the interquartile mean (IQM): sample (n, ...) -> (...).

    floor(n / 4) values are dropped at each end. No value is weighted: at n = 10, six of ten values remain;
    below n = 4 it is the mean.
    """
    require_finite(sample)
    return scipy_stats.trim_mean(sample, 0.25, axis=0)


def tolerance_interval(sample: np.ndarray) -> Tolerance | None:
    """Return a distribution-free tolerance interval between order statistics of a sample (n,).

    It contains 90% of all runs where n allows (n >= 46), else 50% (n >= 8); None for fewer runs. The share
    between the r-th smallest and the r-th largest value is Beta(n - 2r + 1, 2r), whatever the distribution
    (Wilks 1941); the largest r with confidence LEVEL is used.
    """
    require_finite(sample)
    n, ordered = len(sample), np.sort(sample)
    for content in (0.9, 0.5):
        r = 0
        while 2 * (r + 1) <= n and scipy_stats.beta.sf(content, n - 2 * r - 1, 2 * r + 2) >= LEVEL:
            r += 1
        if r:
            return Tolerance(content, float(ordered[r - 1]), float(ordered[n - r]))
    return None


def failure_interval(failures: int, n: int) -> tuple[float, float]:
    """Return the Clopper-Pearson interval of the failure rate."""
    low, high = proportion_confint(failures, n, ALPHA, method="beta")
    return float(low), float(high)


def steps_to_threshold(steps: np.ndarray, reached: np.ndarray) -> Crossing:
    """Return the Kaplan-Meier median of the steps at which runs reach a threshold.

    `steps` (n,) are censored where `reached` (n,) is False. The interval inverts the sign test (Brookmeyer
    and Crowley 1982) with the log-log transform of the survival function.
    """
    require_finite(steps)
    median: float | None = None
    limits: list[float | None] = [None, None]
    if reached.any():
        survival = SurvfuncRight(steps, reached.astype(int))
        quantile = survival.quantile(0.5)
        if np.isfinite(quantile):
            median = float(quantile)
            with np.errstate(all="ignore"):
                interval = survival.quantile_ci(0.5, ALPHA, method="cloglog")
            limits = [float(limit) if np.isfinite(limit) else None for limit in interval]
    return Crossing(median, limits[0], limits[1], int(reached.sum()), len(steps))


def unanimous(n: int) -> float:
    """Return the lower limit of a probability after n successes and no failure (Clopper-Pearson)."""
    return float((ALPHA / 2) ** (1 / n))


def have_spread(x: np.ndarray, y: np.ndarray) -> bool:
    """Return whether both samples have two runs or more and the scores of at least one of them vary."""
    return min(len(x), len(y)) > 1 and bool(np.ptp(x) > 0 or np.ptp(y) > 0)


def require_finite(*samples: np.ndarray) -> None:
    """Raise ValueError if any score is NaN or infinite."""
    if not all(np.isfinite(sample).all() for sample in samples):
        raise ValueError("scores must be finite")

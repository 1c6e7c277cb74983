"""Statistics over seeds. Each takes a sample with the seeds on axis 0 and knows nothing of records."""

import numpy as np
from scipy import stats as scipy_stats

LEVEL = 0.95  # confidence of every interval
FEW_SEEDS = 10  # below this many seeds a number carries a warning


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

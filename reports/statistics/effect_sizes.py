"""Effect sizes of the difference between two samples of run scores, with their intervals."""

import numpy as np
from scipy import special
from statsmodels.stats.nonparametric import rank_compare_2indep

from ascent.reports.statistics.intervals import TAIL, Estimate, have_spread, require_finite, unanimous

ROUNDING = 1e-12  # relative error of a score, at most: scores are means of thousands of rewards


def hedges_g(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Return Hedges' g: the standardised difference of the means of x (n,) and y (m,), corrected for bias.

    Hedges (1981); the interval inverts the noncentral t distribution (Steiger and Fouladi 1997) and is exact
    for normal scores with equal variances. NaN where neither sample varies.
    """
    require_finite(x, y)
    if not have_spread(x, y):
        return Estimate(*[float("nan")] * 3)
    n, m, df = len(x), len(y), len(x) + len(y) - 2
    std = np.sqrt(((n - 1) * x.var(ddof=1) + (m - 1) * y.var(ddof=1)) / df)
    unit = np.sqrt(1 / n + 1 / m)
    t = float(x.mean() - y.mean()) / (std * unit)
    if abs(t) < 1000:
        low, high = (float(special.nctdtrinc(df, p, t)) for p in (TAIL, 1 - TAIL))
    else:  # the error of the means is negligible here, and the routine above does not terminate
        low, high = sorted(t * float(np.sqrt(special.chdtri(df, p) / df)) for p in (TAIL, 1 - TAIL))
    return Estimate(float((1 - 3 / (4 * df - 1)) * t * unit), float(low * unit), float(high * unit))


def tied(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return x (n,) and y (m,) with equal values where they differ by rounding only.

    Equal means of several episodes can differ in their last digits, which would break a tie. Values count as
    equal if their distance is at most `ROUNDING` of the largest magnitude.
    """
    pooled = np.concatenate([x, y])
    order = pooled.argsort()
    ordered = pooled[order]
    distinct = np.diff(ordered, prepend=-np.inf) > ROUNDING * np.abs(pooled).max()
    pooled[order] = ordered[distinct][distinct.cumsum() - 1]
    return pooled[: len(x)], pooled[len(x) :]


def superiority(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Return the probability of superiority, P(X > Y) + P(X = Y) / 2, with its interval.

    The interval is that of Brunner and Munzel (2000) on the logit scale, so that it stays within [0, 1] and
    keeps its coverage near the ends. Samples that do not overlap have no variance of ranks: their limit is
    that of min(n, m) successes in as many independent pairs (Clopper-Pearson), which is conservative. The
    limits are NaN where neither sample varies, or where a sample of one run lies within the other.
    """
    require_finite(x, y)
    x, y = tied(x, y)
    if x.min() > y.max() or x.max() < y.min():
        bound = unanimous(min(len(x), len(y)))
        return Estimate(1.0, bound, 1.0) if x.min() > y.max() else Estimate(0.0, 0.0, 1 - bound)
    if not have_spread(x, y):
        value = ((x[:, None] > y) + 0.5 * (x[:, None] == y)).mean()
        return Estimate(float(value), float("nan"), float("nan"))
    result = rank_compare_2indep(x, y)
    value = float(result.prob1)
    half = special.stdtrit(result.df, TAIL) * np.sqrt(result.var_prob) / (value * (1 - value))
    low, high = special.expit(special.logit(value) + np.array([-half, half]))
    return Estimate(value, float(low), float(high))

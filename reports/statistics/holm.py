"""Holm's correction of p values for the number of tests in a family."""

import numpy as np


def holm(p: np.ndarray, family: int | None = None) -> np.ndarray:
    """Return p values (K,) adjusted by Holm's step-down procedure (1979); NaN stays NaN.

    `family` is the number of declared tests; those that are not in `p` count as not rejected (default: the
    number of defined values in `p`). Same result as statsmodels' multipletests, which runs the garbage
    collector at every call: a second in a large process.
    """
    adjusted, order = np.full(len(p), np.nan), np.argsort(p)  # NaN comes last
    order = order[: np.count_nonzero(~np.isnan(p))]
    factors = (family or len(order)) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(factors * p[order]), 1.0)
    return adjusted

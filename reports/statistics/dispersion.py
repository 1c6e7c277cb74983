"""Variability of training: dispersion across time and across runs, after Chan et al. (2020).

"Measuring the Reliability of Reinforcement Learning Algorithms", arXiv 1912.05663. Both are interquartile
ranges (IQR) in units of the score; smaller is steadier. Across time: of the differences between successive
evaluations, which leave out the trend, in windows of a run. Across runs: of the evaluations of all runs at a
point, smoothed so that what varies within a run is left out. Chan et al. smooth by a Butterworth filter; here
it is the moving mean over the window, which has nothing to tune.
"""

from typing import NamedTuple

import numpy as np

from ascent.reports.statistics.estimators import Curves
from ascent.reports.statistics.intervals import Mean, mean_of

WINDOW = 10  # evaluations


class Dispersion(NamedTuple):
    """Dispersion across time, its mean over runs, and across runs; NaN: none."""

    across_time: Mean
    across_runs: float


def dispersion(curves: Curves) -> Dispersion:
    """Return the dispersion of the finished runs of a cell, step 0 left out; NaN where curves are too short.

    Across time, the mean over all windows of ten successive evaluations; across runs, that over all points. A
    run that diverged is a constant: without variation across time, and far from the others.
    """
    returns = curves.returns[curves.steps > 0]  # (P, S)
    if len(returns) < WINDOW:
        return Dispersion(Mean(float("nan"), None, None, ""), float("nan"))
    windows = np.lib.stride_tricks.sliding_window_view(returns, WINDOW, axis=0)  # (P - 9, S, 10)
    of_runs = _iqr(np.diff(windows, axis=2), axis=2).mean(axis=0)
    across_runs = _iqr(windows.mean(axis=2), axis=1).mean() if len(of_runs) > 1 else np.nan
    return Dispersion(mean_of(of_runs), float(across_runs))


def _iqr(values: np.ndarray, axis: int) -> np.ndarray:
    low, high = np.quantile(values, [0.25, 0.75], axis=axis)
    return np.asarray(high - low)

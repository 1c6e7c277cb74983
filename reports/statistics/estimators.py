"""Estimators: named functions that reduce the learning curves of a cell to one score per run.

An estimator takes the `Curves` of a cell and returns the scores (S,) of its runs, in units of return; higher
is better. Of a measure that is better if lower, it gets and returns the negative. The page prints the first
line of its docstring. The estimator of the headline numbers is declared in the sweep's file, before the first
run.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ascent.records.declared import ESTIMATORS as NAMES
from ascent.records.declared import RETURN


@dataclass(frozen=True)
class Curves:
    """The finished runs of one cell, ordered by seed. A diverged run has its `diverged_score` everywhere."""

    steps: np.ndarray  # (P,) environment steps of the evaluations, increasing, from 0
    returns: np.ndarray  # (P, S) mean greedy evaluation return
    training: np.ndarray  # (S,) mean return of the last 100 training episodes, NaN where none are recorded


Estimator = Callable[[Curves], np.ndarray]


def mean_of_last_ten(curves: Curves) -> np.ndarray:
    """Mean of the greedy evaluation returns over the last ten evaluation points.

    Step 0, the untrained policy, is never among them. A shorter curve gives the mean of its points, which
    `aggregate` reports as a warning.
    """
    trained = curves.steps > 0 if (curves.steps > 0).any() else curves.steps == 0  # all runs diverged at once
    return curves.returns[trained][-10:].mean(axis=0)


def final(curves: Curves) -> np.ndarray:
    """Greedy evaluation return at the last evaluation point."""
    return curves.returns[-1]


def peak_of_mean_curve(curves: Curves) -> np.ndarray:
    """Greedy evaluation return at the point where the mean over the seeds is best.

    The mean of these scores is the peak of the mean curve, which some papers report (TD3: "max average
    return"). As the largest of many noisy means, it is biased upwards, and so is its interval.
    """
    return curves.returns[curves.returns.mean(axis=1).argmax()]


def mean_of_per_seed_peaks(curves: Curves) -> np.ndarray:
    """Best greedy evaluation return of each run, at whichever point: a score that selects its noise."""
    return curves.returns.max(axis=0)


def evenly(curves: Curves, evaluations: int, step_0: bool) -> Curves:
    """Return `curves` at this many evaluations after step 0, evenly spaced, the last one included.

    A peak over fewer evaluations is smaller, so two peaks are compared over as many. Curves with no more
    evaluations keep them all. `step_0` keeps step 0, too, if it was evaluated.
    """
    trained = np.flatnonzero(curves.steps > 0)
    if evaluations < len(trained):
        trained = trained[-(-np.arange(1, evaluations + 1) * len(trained) // evaluations) - 1]
    kept = np.r_[np.flatnonzero(curves.steps == 0), trained] if step_0 else trained
    return Curves(curves.steps[kept], curves.returns[kept], curves.training)


def area(curves: Curves) -> np.ndarray:
    """Area under the curve of greedy evaluation returns over the budget: the mean return over training.

    Trapezoids between the evaluation points, step 0 included.
    """
    if len(curves.steps) == 1:
        return curves.returns[0]
    return np.trapezoid(curves.returns, curves.steps, axis=0) / (curves.steps[-1] - curves.steps[0])


def last_100_training_episodes(curves: Curves) -> np.ndarray:
    """Mean return of the last 100 episodes of training, with exploration, as they ended."""
    return curves.training


_FUNCTIONS = (
    mean_of_last_ten, final, peak_of_mean_curve, mean_of_per_seed_peaks, area, last_100_training_episodes,
)  # fmt: skip
ESTIMATORS: dict[str, Estimator] = {function.__name__: function for function in _FUNCTIONS}
assert tuple(ESTIMATORS) == NAMES
ACROSS_SEEDS = (
    "peak_of_mean_curve",
)  # the score of a run depends on other runs: undefined in incomplete cells
PEAKS = ("peak_of_mean_curve", "mean_of_per_seed_peaks")  # the more evaluations, the larger


def describe(name: str, score: str = RETURN) -> str:
    """Return the first line of the estimator's docstring, with the name of the score in place of "return"."""
    line = (inspect.getdoc(ESTIMATORS[name]) or name).partition("\n")[0]
    if score == RETURN:
        return line
    named = line.replace("evaluation returns", f"evaluations of {score}")
    return named.replace("evaluation return", f"evaluation of {score}").replace("return", score)


def diverged_score(known: np.ndarray, random_score: float | None) -> float:
    """Return the score of a diverged run, whatever the estimator.

    `known` (P,) holds its finite evaluation returns. A diverged run ends without a usable policy, so its
    return before it diverged is not its result; leaving it out would reward systems that diverge. Its score
    is the lower of the task's random-policy score and its own worst evaluation, which depends on the run and
    its task alone, never on the runs that it is compared with. Evaluation points that it did not reach have
    the same value in the mean curve.
    """
    return float(min([*([] if random_score is None else [random_score]), known.min()]))

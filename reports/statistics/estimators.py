"""Estimators: how the records of a cell's runs become one score per run. One named function each.

An estimator takes the `Curves` of a cell and returns the scores (S,) of its runs, in units of return. Its
first docstring line is what the page prints. Which one makes the headline numbers is declared in the sweep
file, before the first run.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ascent.records.declared import ESTIMATORS as NAMES


@dataclass(frozen=True)
class Curves:
    """The finished runs of one cell, by seed. A diverged run has its `diverged_score` everywhere."""

    steps: np.ndarray  # (P,) environment steps of the evaluations, increasing, from 0
    returns: np.ndarray  # (P, S) mean greedy evaluation return
    training: np.ndarray  # (S,) mean return of the last 100 training episodes, NaN where none are recorded


Estimator = Callable[[Curves], np.ndarray]


def mean_of_last_ten(curves: Curves) -> np.ndarray:
    """Mean of the greedy evaluation returns over the last ten evaluation points.

    Step 0 is the untrained policy and never among them; a shorter curve gives the mean of the points
    it has, which `aggregate` reports as a warning.
    """
    trained = curves.steps > 0 if (curves.steps > 0).any() else curves.steps == 0  # all diverged at once
    return curves.returns[trained][-10:].mean(axis=0)


def final(curves: Curves) -> np.ndarray:
    """Greedy evaluation return at the last evaluation point."""
    return curves.returns[-1]


def peak_of_mean_curve(curves: Curves) -> np.ndarray:
    """Greedy evaluation return at the point where the mean over the seeds is largest.

    The mean of these scores is the peak of the mean curve, which papers report (TD3: "max average return").
    It is the largest of many noisy means, so it and its interval lie too high.
    """
    return curves.returns[curves.returns.mean(axis=1).argmax()]


def mean_of_per_seed_peaks(curves: Curves) -> np.ndarray:
    """Largest greedy evaluation return of each run, at whichever point: a score that selects its noise."""
    return curves.returns.max(axis=0)


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
ACROSS_SEEDS = ("peak_of_mean_curve",)  # a run's score depends on the other runs: none in incomplete cells


def describe(name: str) -> str:
    """First line of the estimator's docstring."""
    return (inspect.getdoc(ESTIMATORS[name]) or name).partition("\n")[0]


def diverged_score(known: np.ndarray, random_score: float | None) -> float:
    """Score of a diverged run, whatever the estimator: the worst this run and chance are known to do.

    `known` (P,): its finite evaluation returns. A diverged run has no policy in the end, so what it scored
    before breaking down is not its result, and leaving it out would reward the systems that break down most.
    It gets the lower of the task's random-policy score and its own worst evaluation: a value that depends on
    the run and its task alone, never on the runs it is compared with. The evaluation points it did not reach
    get the same value in the mean curve, so that the curve ends where the score is.
    """
    return float(min([*([] if random_score is None else [random_score]), known.min()]))

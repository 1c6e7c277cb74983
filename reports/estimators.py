"""Estimators: how the evaluations of one run become its score. One named function each.

An estimator takes the run's learning curve, a Series of mean greedy evaluation returns (P,) indexed by
environment step in increasing order, step 0 included, and returns a float in units of return. Its first
docstring line is what the page prints.
"""

import inspect
from collections.abc import Callable

import pandas as pd

Estimator = Callable[[pd.Series], float]


def mean_of_last_ten(curve: pd.Series) -> float:
    """Mean of the greedy evaluation returns over the last ten evaluation points.

    Step 0 is the untrained policy and never among them; a shorter curve gives the mean of the points
    it has, which `aggregate` reports as a warning.
    """
    return float(curve[curve.index > 0].iloc[-10:].mean())


def final(curve: pd.Series) -> float:
    """Greedy evaluation return at the last evaluation point."""
    return float(curve.iloc[-1])


ESTIMATORS: dict[str, Estimator] = {function.__name__: function for function in (mean_of_last_ten, final)}
PRIMARY = "mean_of_last_ten"  # the estimator of every headline number


def describe(name: str) -> str:
    """First line of the estimator's docstring."""
    return (inspect.getdoc(ESTIMATORS[name]) or name).partition("\n")[0]


def diverged_score(curve: pd.Series, random_score: float | None) -> float:
    """Score of a diverged run, whatever the estimator: the worst this run and chance are known to do.

    A diverged run has no policy in the end, so what it scored before breaking down is not its result, and
    leaving it out would reward the systems that break down most. It gets the lower of the task's
    random-policy score and its own worst evaluation: a value that depends on the run and its task alone,
    never on the runs it is compared with. The evaluation points it did not reach get the same value in
    the mean curve, so that the curve ends where the score is.
    """
    known = [] if random_score is None else [float(random_score)]
    return min([*known, float(curve.min())])

"""Stratified bootstrap across tasks: aggregates, performance profiles, probability of improvement.

A system's scores are a list over tasks of arrays (n,) of normalised run scores. Runs are resampled within
each task (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", arXiv
2108.13264). Percentile intervals are too narrow by sqrt((n - 1) / n) and by the normal quantile where
Student's belongs: Hesterberg's expanded percentiles (2015, "What Teachers Should Know about the Bootstrap",
section 4.3) mend both.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from scipy import stats as scipy_stats

from reports.stats import LEVEL, Estimate

BLOCK = 2_000  # resamples at a time, so that they stay in the cache; the numbers do not depend on it
Scores = Sequence[np.ndarray]


def mean(scores: Scores) -> float:
    """Mean over tasks of the mean over runs."""
    return float(np.mean([task.mean() for task in scores]))


def median(scores: Scores) -> float:
    """Median over tasks of the mean over runs."""
    return float(np.median([task.mean() for task in scores]))


def iqm(scores: Scores) -> float:
    """Interquartile mean over all runs of all tasks: a quarter is dropped at each end, in whole runs."""
    return float(scipy_stats.trim_mean(np.concatenate(scores), 0.25))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """How far the runs of all tasks stay below gamma on average; what lies above makes up for nothing."""
    return float(gamma - np.minimum(np.concatenate(scores), gamma).mean())


STATISTICS = {function.__name__: function for function in (iqm, mean, median, optimality_gap)}


def aggregates(
    systems: Mapping[str, Scores], resamples: int = 50_000, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """System -> statistic -> value with its interval.

    Every system has a generator of its own, from `seed` and its name: its interval does not depend on which
    others are there.
    """
    found = {}
    for label, scores in systems.items():
        draws = _resampled_statistics(scores, resamples, _generator(seed, label))
        found[label] = {
            name: Estimate(function(scores), *_limits(draws[name], scores).tolist())
            for name, function in STATISTICS.items()
        }
    return found


def _resampled_statistics(scores: Scores, resamples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Each statistic of `resamples` samples drawn within tasks: (resamples,) each."""
    values = np.concatenate(scores)
    sizes = np.array([len(task) for task in scores])
    starts = np.r_[0, sizes[:-1].cumsum()]
    offset, size = np.repeat(starts, sizes), np.repeat(sizes, sizes).astype(float)
    cut = int(0.25 * len(values))
    blocks: dict[str, list[np.ndarray]] = {name: [] for name in STATISTICS}
    for start in range(0, resamples, BLOCK):
        uniform = rng.random((min(BLOCK, resamples - start), len(values)))
        drawn = values[offset + (uniform * size).astype(np.intp)]
        means = np.add.reduceat(drawn, starts, axis=1) / sizes
        blocks["mean"].append(means.mean(axis=1))
        blocks["median"].append(np.median(means, axis=1))
        blocks["optimality_gap"].append(1.0 - np.minimum(drawn, 1.0).mean(axis=1))
        drawn.sort(axis=1)
        blocks["iqm"].append(drawn[:, cut : len(values) - cut].mean(axis=1))
    return {name: np.concatenate(parts) for name, parts in blocks.items()}


def profiles(
    systems: Mapping[str, Scores], taus: np.ndarray, resamples: int = 2_000, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """System -> (share of its runs, over all tasks, above each of taus (P,), and its pointwise band)."""
    found = {}
    for label, scores in systems.items():
        rng = _generator(seed, label)
        above = np.concatenate(scores)[:, None] > taus  # (N, P)
        counts = np.hstack([_counts(len(task), resamples, rng).T for task in scores])  # (resamples, N)
        draws = counts @ above.astype(np.float32) / np.float32(len(above))
        low, high = _limits(draws.astype(float), scores)
        found[label] = above.mean(axis=0), low, high
    return found


def improvement(x: Scores, y: Scores, resamples: int = 50_000, seed: int = 0) -> Estimate:
    """Probability that a run of x scores higher than one of y (a tie is half), mean over the tasks.

    x, y: scores over the same tasks. Both are resampled, within each task.
    """
    rng = np.random.default_rng(seed)
    draws = np.zeros(resamples)
    values = []
    for ours, theirs in zip(x, y, strict=True):
        wins = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)  # (n, m)
        n, m = wins.shape
        # Small whole numbers and halves: exact in float32.
        won = wins.T.astype(np.float32) @ _counts(n, resamples, rng)  # (m, resamples)
        draws += (won * _counts(m, resamples, rng)).sum(axis=0) / (n * m)
        values.append(wins.mean())
    low, high = _limits(draws / len(values), [*x, *y])
    return Estimate(float(np.mean(values)), float(low), float(high))


def _counts(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """How often each of n runs is drawn in n draws: (n, resamples)."""
    drawn = rng.integers(n, size=(n, resamples), dtype=np.uint16)
    return np.stack([(drawn == run).sum(axis=0, dtype=np.uint16) for run in range(n)]).astype(np.float32)


def _limits(draws: np.ndarray, scores: Scores) -> np.ndarray:
    """Lower and upper limit by expanded percentiles of draws (resamples, ...): (2, ...). NaN where a task has
    one run: nothing is known of its spread.
    """
    sizes = np.array([len(task) for task in scores])
    if sizes.min() < 2:
        return np.full((2, *draws.shape[1:]), np.nan)
    t = scipy_stats.t.ppf((1 + LEVEL) / 2, (sizes - 1).sum())
    n = sizes.min()
    tail = scipy_stats.norm.cdf(-np.sqrt(n / (n - 1)) * t)
    return np.quantile(draws, [tail, 1 - tail], axis=0)


def _generator(seed: int, label: str) -> np.random.Generator:
    return np.random.default_rng([seed, int.from_bytes(sha256(label.encode()).digest()[:8])])

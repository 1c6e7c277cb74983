"""Stratified bootstrap across tasks: aggregates, performance profiles, probability of improvement.

The scores of a system are a list over tasks of arrays (n,) of normalised run scores. Runs are resampled
within each task (Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice",
arXiv 2108.13264). Percentile intervals are too narrow, by the factor sqrt((n - 1) / n) and because they
correspond to normal instead of Student-t quantiles. Expanded percentiles (Hesterberg 2015, "What Teachers
Should Know about the Bootstrap", section 4.3) correct both. The correction depends on which tasks contribute
the variance: to first order a statistic is a mean over tasks of means over runs, and the degrees of freedom
are those of such a mean (Satterthwaite 1946).
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256

import numpy as np
from scipy import special
from scipy import stats as scipy_stats
from threadpoolctl import threadpool_limits

from ascent.reports.statistics.effect_sizes import tied
from ascent.reports.statistics.intervals import TAIL, Estimate, require_finite, unanimous

PAIRS = 200  # pairs of systems resampled together; results do not depend on it
BLOCK = 25_000  # values resampled at once, so that they stay in the cache; results do not depend on it
Scores = Sequence[np.ndarray]


def mean(scores: Scores) -> float:
    """Return the mean over tasks of the mean over runs."""
    return float(np.mean([task.mean() for task in scores]))


def median(scores: Scores) -> float:
    """Return the median over tasks of the mean over runs."""
    return float(np.median([task.mean() for task in scores]))


def iqm(scores: Scores) -> float:
    """Return the interquartile mean over all runs of all tasks; floor(N / 4) runs are dropped at each end."""
    return float(scipy_stats.trim_mean(np.concatenate(scores), 0.25))


def optimality_gap(scores: Scores, gamma: float = 1.0) -> float:
    """Return the mean shortfall of all runs below gamma; scores above gamma count as gamma."""
    return float(gamma - np.minimum(np.concatenate(scores), gamma).mean())


STATISTICS = {function.__name__: function for function in (iqm, mean, median, optimality_gap)}


def aggregates(
    systems: Mapping[str, Scores], resamples: int = 50_000, seed: int = 0
) -> dict[str, dict[str, Estimate]]:
    """Return system -> statistic -> value with its interval.

    Every system has its own generator, seeded by `seed` and its name: its interval does not depend on the
    other systems.
    """
    estimates = {}
    for label, scores in systems.items():
        require_finite(*scores)
        draws = _resampled_statistics(scores, resamples, generator(seed, label))
        estimates[label] = {
            name: Estimate(function(scores), *expanded_limits(draws[name], _linear(name, scores)).tolist())
            for name, function in STATISTICS.items()
        }
    return estimates


def _linear(name: str, scores: Scores) -> Scores:
    """Return the transformed scores whose mean is, to first order, the statistic."""
    pooled = np.concatenate(scores)
    if name == "optimality_gap":
        return [np.minimum(task, 1.0) for task in scores]
    if name == "iqm":
        return [task.clip(*np.quantile(pooled, [0.25, 0.75])) for task in scores]
    return scores


def _resampled_statistics(scores: Scores, resamples: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return each statistic (resamples,) of samples drawn within tasks."""
    values = np.concatenate(scores)
    sizes = np.array([len(task) for task in scores])
    starts = np.r_[0, sizes[:-1].cumsum()]
    offset, size = np.repeat(starts, sizes), np.repeat(sizes, sizes).astype(float)
    cut, half = int(0.25 * len(values)), len(sizes) // 2
    rows = max(1, BLOCK // len(values))
    statistics = {name: np.empty(resamples) for name in STATISTICS}
    for start in range(0, resamples, rows):
        block = slice(start, min(start + rows, resamples))
        uniform = rng.random((block.stop - start, len(values)))
        drawn = values[offset + (uniform * size).astype(np.intp)]
        means = np.add.reduceat(drawn, starts, axis=1) / sizes
        statistics["mean"][block] = means.mean(axis=1)
        means.sort(axis=1)
        statistics["median"][block] = (means[:, (len(sizes) - 1) // 2] + means[:, half]) / 2
        statistics["optimality_gap"][block] = 1.0 - np.minimum(drawn, 1.0).mean(axis=1)
        drawn.sort(axis=1)
        statistics["iqm"][block] = drawn[:, cut : len(values) - cut].mean(axis=1)
    return statistics


def profiles(
    systems: Mapping[str, Scores], taus: np.ndarray, resamples: int = 2_000, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return system -> (share of its runs above each of taus (P,), lower limit, upper limit), pointwise."""
    curves = {}
    for label, scores in systems.items():
        require_finite(*scores)
        rng = generator(seed, label)
        above = [task[:, None] > taus for task in scores]  # (n, P) each
        counts = np.hstack([_counts(len(task), resamples, rng).T for task in scores])  # (resamples, N)
        drawn = counts @ np.vstack(above).astype(np.float32)  # whole numbers: exact in float32
        value = np.vstack(above).mean(axis=0)
        limits = expanded_limits(drawn.astype(float) / counts.shape[1], above)
        low, high = _exact_at_the_ends(value, limits, counts.shape[1])
        curves[label] = (value, low, high)
    return curves


def curves(
    systems: Mapping[str, Scores], resamples: int = 2_000, seed: int = 0
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return system -> (IQM over its runs at each point (P,), lower limit, upper limit), pointwise.

    The scores of a system are a list over tasks of arrays (n, P): whole curves are resampled.
    """
    found = {}
    for label, scores in systems.items():
        require_finite(*scores)
        rng = generator(seed, f"{label} curves")
        counts = np.hstack([_counts(len(task), resamples, rng).T for task in scores])  # (resamples, N)
        pooled = np.vstack(scores)
        cut = int(0.25 * len(pooled))
        kept = len(pooled) - 2 * cut
        draws = np.empty((resamples, pooled.shape[1]))
        for point, values in enumerate(pooled.T):
            order = values.argsort(kind="stable")
            # How many of the draws up to each value are between the quartiles: no need to sort the draws.
            ranks = counts[:, order].cumsum(axis=1).clip(cut, cut + kept)
            weights = np.diff(ranks, axis=1, prepend=np.float32(cut))
            # Not a matrix product, whose last digits depend on the number of threads.
            draws[:, point] = np.einsum("rn,n->r", weights.astype(float), values[order]) / kept
        value = np.sort(pooled, axis=0)[cut : cut + kept].mean(axis=0)
        low, high = expanded_limits(
            draws, [task.clip(*np.quantile(pooled, [0.25, 0.75], axis=0)) for task in scores]
        )
        found[label] = (value, low, high)
    return found


def improvements(
    systems: Mapping[str, Mapping[str, np.ndarray]],
    pairs: Sequence[tuple[str, str]],
    resamples: int = 50_000,
    seed: int = 0,
) -> list[Estimate]:
    """Return the probability of improvement for each pair (x, y), averaged over their shared tasks.

    It is the probability that a run of x scores higher than a run of y; a tie counts half. `systems`: label
    -> task -> scores (n,). Every system is resampled once per task, with a generator seeded by `seed` and
    both names; all of its pairs use that sample.
    """
    estimates = []
    with threadpool_limits(1):  # its matrix products are so small that threads would wait for each other
        for start in range(0, len(pairs), PAIRS):  # memory does not grow with the number of pairs
            estimates += _improvements(systems, pairs[start : start + PAIRS], resamples, seed)
    return estimates


def _improvements(
    systems: Mapping[str, Mapping[str, np.ndarray]],
    pairs: Sequence[tuple[str, str]],
    resamples: int,
    seed: int,
) -> list[Estimate]:
    shared = [sorted(systems[x].keys() & systems[y].keys()) for x, y in pairs]
    names = dict.fromkeys(
        (label, task) for pair, tasks in zip(pairs, shared, strict=True) for label in pair for task in tasks
    )
    rngs = {(label, task): generator(seed, f"{label} {task}") for label, task in names}
    wins = {
        (x, y, task): _wins(systems[x][task], systems[y][task])
        for (x, y), tasks in zip(pairs, shared, strict=True)
        for task in tasks
    }
    draws = np.zeros((len(pairs), resamples))
    for start in range(0, resamples, BLOCK):
        size = min(BLOCK, resamples - start)
        counts = {name: _counts(len(systems[name[0]][name[1]]), size, rng) for name, rng in rngs.items()}
        for row, ((x, y), tasks) in enumerate(zip(pairs, shared, strict=True)):
            for task in tasks:
                # Whole numbers and halves: exact in float32.
                won = wins[x, y, task].T @ counts[x, task]  # (m, size)
                total = np.einsum("mr,mr->r", won, counts[y, task])
                draws[row, start : start + size] += total.astype(float) / wins[x, y, task].size
    estimates = []
    for row, ((x, y), tasks) in enumerate(zip(pairs, shared, strict=True)):
        won = [wins[x, y, task].astype(float) for task in tasks]
        value = float(np.mean([task.mean() for task in won]))
        limits = expanded_limits(draws[row] / len(tasks), [task.mean(axis=k) for k in (1, 0) for task in won])
        low, high = _exact_at_the_ends(np.array(value), limits, sum(min(task.shape) for task in won))
        estimates.append(Estimate(value, float(low), float(high)))
    return estimates


def _wins(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return (n, m): 1 where a run of x scores higher than one of y, 1/2 where they tie."""
    require_finite(x, y)
    x, y = tied(x, y)
    return (x[:, None] > y).astype(np.float32) + np.float32(0.5) * (x[:, None] == y)


def _counts(n: int, resamples: int, rng: np.random.Generator) -> np.ndarray:
    """Return how often each of n runs is drawn in n draws: (n, resamples)."""
    drawn = (rng.random((resamples, n), dtype=np.float32) * np.float32(n)).astype(
        np.uint8 if n < 256 else np.uint16
    )
    drawn = np.ascontiguousarray(drawn.T)
    return np.stack([(drawn == run).sum(axis=0, dtype=drawn.dtype) for run in range(n)]).astype(np.float32)


def expanded_limits(draws: np.ndarray, parts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the lower and upper limit (2, ...) by expanded percentiles of draws (resamples, ...).

    `parts` holds, for each resampled set of runs, the values (n, ...) whose mean is to first order the
    statistic. NaN where a set has one run: its variance is unknown.
    """
    if min(len(part) for part in parts) < 2:
        return np.full((2, *draws.shape[1:]), np.nan)
    spare = np.array([len(part) - 1 for part in parts])
    errors = np.stack([part.var(axis=0, ddof=1) / len(part) for part in parts], axis=-1)  # (..., parts)
    errors = np.where(
        errors.sum(axis=-1, keepdims=True) > 0, errors, 1.0
    )  # without variance any weights give the same
    df = errors.sum(axis=-1) ** 2 / (errors**2 / spare).sum(axis=-1)
    narrowed = (errors * (spare / (spare + 1))).sum(axis=-1) / errors.sum(axis=-1)
    tail = special.ndtr(-special.stdtrit(df, TAIL) / np.sqrt(narrowed))
    ordered = np.sort(draws, axis=0)
    return np.stack([_quantile(ordered, tail), _quantile(ordered, 1 - tail)])


def _quantile(ordered: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Interpolate quantiles of sorted draws (resamples, ...) as numpy does, with one p (...) per column."""
    place = p * (len(ordered) - 1)
    below = np.floor(place).astype(int)
    low, high = (np.take_along_axis(ordered, k[None], 0)[0] for k in (below, np.ceil(place).astype(int)))
    return low + (place - below) * (high - low)


def _exact_at_the_ends(value: np.ndarray, limits: np.ndarray, n: int) -> np.ndarray:
    """Return limits (2, ...) of shares, exact where all runs agree.

    Where n independent runs, or pairs, all agree, resamples do not vary, and the exact limit for n replaces
    that of the bootstrap.
    """
    low, high = limits
    low = np.where((value == 1) & ~np.isnan(low), unanimous(n), low)
    return np.stack([low, np.where((value == 0) & ~np.isnan(high), 1 - unanimous(n), high)])


def generator(seed: int, label: str) -> np.random.Generator:
    """Return a generator that depends on `seed` and a name, and on nothing else."""
    return np.random.default_rng([seed, int.from_bytes(sha256(label.encode()).digest()[:8])])

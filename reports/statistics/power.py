"""Planned power: how many seeds a comparison needs, from pilot runs, by simulation with the test of a report.

New runs are drawn from the pilot's by a smoothed bootstrap, which keeps their mean and standard deviation
(Silverman and Young 1987, "The bootstrap: to smooth or not to smooth?"): so a share of failed runs stays one.
Every simulated pair of samples is tested as in a report: a claim needs the permutation test and Welch's, both
at the level of Holm's first step, 5% over the declared family. Later steps are easier.

What few pilot runs say of a difference is uncertain, and the power at an observed difference as much.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ascent.records.declared import Declared
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.bootstrap import generator
from ascent.reports.statistics.comparisons import SEED, alike_pairs, declared_pairs, family_size
from ascent.reports.statistics.intervals import ALPHA
from ascent.reports.statistics.significance import permutation_p, smallest_permutation_p, welch

REPEATS = 400  # simulated pairs of samples; the error of a power of 80% is two points
SIZES = (*range(3, 16), *range(17, 30, 3), *range(32, 61, 4), *range(66, 101, 8))  # numbers of seeds tried
JITTER = 1e-6  # of the range: equal scores are told apart at random, which is faster than exact ties


@dataclass(frozen=True)
class Planned:
    """The power of a comparison of `x` and `y`.

    Attributes:
        difference: of the means, x minus y, in units of the score, for which the power holds.
        power: at the number of seeds that was asked for.
        seeds: smallest number of seeds in SIZES with the power that was asked for; None: more than the last.
        reason: why there is no power, "" where there is one.
    """

    task: Task
    x: CellSummary
    y: CellSummary
    difference: float = float("nan")
    power: float = float("nan")
    seeds: int | None = None
    reason: str = ""


def plan(
    tasks: Sequence[Task], declared: Declared, seeds: int, power: float, difference: float | None = None
) -> tuple[int, list[Planned]]:
    """Return the size of the declared family, and the power of each of its pairs that are alike.

    Args:
        tasks: scores of the pilot runs.
        declared: which pairs are compared, and by which estimator.
        seeds: number of seeds at which the power is given.
        power: that is asked for, such as 0.8.
        difference: true difference of the means, in normalised score; default: that of the pilot runs.

    Raises:
        ValueError: the declared baseline is not among the systems.
    """
    is_declared = declared_pairs(tasks, declared)
    family = family_size(tasks, is_declared)
    rows = [_assumed(task, x, y, difference) for task, x, y in alike_pairs(tasks, is_declared)]
    found = {k: row for k, row in enumerate(rows) if isinstance(row, Planned)}
    pilots = {k: row for k, row in enumerate(rows) if not isinstance(row, Planned)}
    needed: dict[int, int] = {}
    for size in SIZES:  # all pairs of a size at once: they share the partitions of the permutation test
        for k, pilot in pilots.items():
            if k not in needed and _power(pilot, size, family) >= power:
                needed[k] = size
    for k, pilot in pilots.items():
        at = _power(pilot, seeds, family)
        found[k] = Planned(pilot.task, pilot.x, pilot.y, pilot.difference, at, needed.get(k))
    return family, [found[k] for k in range(len(rows))]


@dataclass(frozen=True)
class _Pilot:
    """A pair with its pilot scores, those of y shifted to the assumed difference."""

    task: Task
    x: CellSummary
    y: CellSummary
    difference: float
    scores: tuple[np.ndarray, np.ndarray]


def _assumed(task: Task, x: CellSummary, y: CellSummary, difference: float | None) -> _Pilot | Planned:
    """Return the assumed scores of a pair, or why there are none."""
    for summary in (x, y):
        if summary.sample is None or len(summary.sample) < 2:
            return Planned(task, x, y, reason=f"{summary.label}: {summary.refusal or 'n=1'}")
    assert x.sample is not None and y.sample is not None
    observed = float(x.sample.mean() - y.sample.mean())
    if difference is None:
        return _Pilot(task, x, y, observed, (x.sample, y.sample))
    anchors = dict(task.anchors)
    if len(anchors) < 2:
        return Planned(task, x, y, reason="no reference score")
    assumed = float(np.copysign(difference * (anchors["reference"] - anchors["random"]), observed))
    return _Pilot(task, x, y, assumed, (x.sample, y.sample + observed - assumed))


def _power(pilot: _Pilot, size: int, family: int) -> float:
    """Return the share of simulated samples of `size` runs each that claim the difference, with its sign."""
    level = ALPHA / family
    if size < 2 or smallest_permutation_p(size, size) >= level or pilot.difference == 0:
        return 0.0
    name = f"{pilot.x.cell.name.folder} {pilot.y.cell.name.folder} {size}"
    rng = generator(SEED, name)
    x, y = (smoothed(scores, (REPEATS, size), rng) for scores in pilot.scores)
    jitter = JITTER * max(np.ptp(x), np.ptp(y), 1e-300)
    p = permutation_p(x + jitter * rng.random(x.shape), y + jitter * rng.random(y.shape), family, SEED)
    claims = 0
    for k in np.flatnonzero(p < level):
        found, superior = welch(x[k], y[k]), np.sign(x[k][:, None] - y[k]).sum()
        claims += bool(found.p < level and min(superior * found.difference, superior * pilot.difference) > 0)
    return claims / REPEATS


def smoothed(scores: np.ndarray, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return samples (shape) from a smoothed bootstrap of scores (n,), of the same mean and variance.

    The width of the kernel is Silverman's (1986), 0.9 min(s, IQR / 1.34) n^(-1/5): no smoothing where half of
    the scores are equal, and hardly any of failed runs into others.
    """
    n, mean, std = len(scores), scores.mean(), scores.std(ddof=1)
    if std == 0:
        return np.full(shape, mean)
    width = 0.9 * min(std, float(np.subtract(*np.quantile(scores, [0.75, 0.25]))) / 1.34) * n**-0.2
    drawn = (scores - mean)[rng.integers(n, size=shape)] * np.sqrt(n / (n - 1))  # of variance std**2
    return mean + (drawn + width * rng.normal(size=shape)) / np.sqrt(1 + (width / std) ** 2)

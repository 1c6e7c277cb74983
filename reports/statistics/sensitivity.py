"""How much a system depends on its hyperparameters, from the settings of a sweep's grid.

Adkins, Bowling and White (2024), "A Method for Evaluating Hyperparameter Sensitivity in Reinforcement
Learning", NeurIPS 37, arXiv 2412.07165: the definitions of hyperparameter sensitivity and of effective
hyperparameter dimensionality in its section on the method. With G(e, h) the mean normalised score of setting
h on task e, over the tasks E of a grid:

    tuned          = mean over e of max over h of G(e, h)      each task has its own best setting
    fixed          = max over h of mean over e of G(e, h)      one setting for all tasks
    sensitivity    = tuned - fixed
    tuned(k)       = as tuned, where k hyperparameters are free on each task and the others keep the values
                     of the setting that is best when fixed; the best set of k hyperparameters counts
    dimensionality = the least k with tuned(k) >= 0.95 tuned

Departures: the paper normalises by percentiles of the scores of all compared settings; here, as everywhere
in a report, by the random and the reference score of the task, which do not depend on what is compared. The
score of a run is by the declared estimator; the paper's is the area under the learning curve. Where the tuned
score is not positive, a share of it means nothing, and there is no dimensionality.

The best of several noisy means is too high on average, and so are both scores and, with few seeds, the
sensitivity. The interval resamples runs within cells and chooses anew in each resample.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.bootstrap import expanded_limits, generator
from ascent.reports.statistics.intervals import Estimate

SHARE = 0.95  # of the tuned score, which is enough
RESAMPLES = 10_000
SEED = 0  # of the bootstrap


@dataclass(frozen=True)
class Sensitivity:
    """The sensitivity of the system with a grid.

    Attributes:
        grid: name of the system.
        tasks: those with a reference score, in alphabetical order.
        settings: number of settings.
        varied: the hyperparameters that differ between settings.
        lacking: why there are no numbers; "" where there are.
        tuned, fixed, sensitivity: see above.
        best: label of the setting that is best when fixed.
        curve: tuned(k) for k from 0 to the number of hyperparameters.
        free: the best set of k hyperparameters, in the order of `curve`.
        dimensionality: the least k that is enough; None where the tuned score is not positive.
    """

    grid: str
    tasks: tuple[str, ...]
    settings: int
    varied: tuple[str, ...]
    lacking: str = ""
    tuned: Estimate | None = None
    fixed: Estimate | None = None
    sensitivity: Estimate | None = None
    best: str = ""
    curve: tuple[float, ...] = ()
    free: tuple[tuple[str, ...], ...] = ()
    dimensionality: int | None = None


def sensitivities(tasks: Sequence[Task]) -> list[Sensitivity]:
    """Return the sensitivity of every system with a grid, sorted by name; [] where no sweep has one."""
    grids: dict[str, dict[str, dict[str, CellSummary]]] = defaultdict(lambda: defaultdict(dict))
    for task in tasks:
        for summary in task.cells:
            if grid := summary.cell.name.grid:
                grids[grid][f"{task.suite}/{task.name}"][summary.label] = summary
    by_name = {f"{task.suite}/{task.name}": task for task in tasks}
    return [_of_grid(grid, grids[grid], by_name) for grid in sorted(grids)]


def _of_grid(
    grid: str, cells: Mapping[str, Mapping[str, CellSummary]], tasks: Mapping[str, Task]
) -> Sensitivity:
    """Return the sensitivity of one system; `cells`: task -> label of the setting -> its cell there."""
    names = tuple(sorted(name for name in cells if len(tasks[name].anchors) == 2))
    labels = sorted({label for of_task in cells.values() for label in of_task})
    varied = _varied(cells)
    found = Sensitivity(grid, names, len(labels), varied)
    if lacking := _lacking(labels, names, cells, tasks):
        return replace(found, lacking=lacking)
    samples = {label: [_normalised(cells[name][label]) for name in names] for label in labels}
    means = np.array([[sample.mean() for sample in samples[label]] for label in labels])  # (settings, tasks)
    tuned, fixed = _scores(means)
    best = int(means.mean(axis=1).argmax())
    values = [[_value(cells[names[0]][label], key) for key in varied] for label in labels]
    curve, free = zip(*(_tuned(k, means, best, values, varied) for k in range(len(varied) + 1)), strict=True)
    winners = [samples[labels[k]][task] for task, k in enumerate(means.argmax(axis=0))]
    draws = _draws(samples, names)
    parts = {"tuned": winners, "fixed": samples[labels[best]]}
    parts["sensitivity"] = [*parts["tuned"], *parts["fixed"]]

    def estimate(name: str, value: float) -> Estimate:
        return Estimate(value, *expanded_limits(draws[name], parts[name]).tolist())

    enough = next(k for k, score in enumerate(curve) if score >= SHARE * curve[-1]) if tuned > 0 else None
    return replace(
        found,
        tuned=estimate("tuned", float(tuned)),
        fixed=estimate("fixed", float(fixed)),
        sensitivity=estimate("sensitivity", float(tuned - fixed)),
        best=labels[best],
        curve=curve,
        free=free,
        dimensionality=enough,
    )


def _lacking(
    labels: Sequence[str],
    names: Sequence[str],
    cells: Mapping[str, Mapping[str, CellSummary]],
    tasks: Mapping[str, Task],
) -> str:
    """Return why a grid has no numbers; "" if it has."""
    if len(names) < 2:
        return "it takes two tasks with a random and a reference score"
    absent = [
        f"{label} on {tasks[name].name}" for name in names for label in labels if label not in cells[name]
    ]
    absent += [
        f"{label} on {tasks[name].name} ({cell.counts})"
        for name in names
        for label, cell in cells[name].items()
        if cell.normalised is None
    ]
    if absent:
        more = f" and {len(absent) - 1:,} more" if len(absent) > 1 else ""
        return f"no normalised score of {absent[0]}{more}"
    for name in names:
        if not any(set(cells[name].values()) <= set(group) for group in tasks[name].groups):
            return f"its cells on {tasks[name].name} were run differently"
    return ""


def _varied(cells: Mapping[str, Mapping[str, CellSummary]]) -> tuple[str, ...]:
    """Return the hyperparameters that differ between the settings of a task."""
    found = set()
    for of_task in cells.values():
        configs = [summary.cell.facts["config"] for summary in of_task.values() if summary.cell.facts]
        for key in {key for config in configs for key in config}:
            if any(config.get(key) != configs[0].get(key) for config in configs):
                found.add(key)
    return tuple(sorted(found))


def _value(summary: CellSummary, key: str) -> object:
    return summary.cell.facts["config"].get(key)


def _normalised(summary: CellSummary) -> np.ndarray:
    """Return the normalised run scores of a cell that has them."""
    assert summary.normalised is not None
    return summary.normalised


def _scores(means: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the tuned and the fixed score of means (settings, tasks, ...)."""
    return means.max(axis=0).mean(axis=0), means.mean(axis=1).max(axis=0)


def _tuned(
    k: int, means: np.ndarray, best: int, values: Sequence[Sequence[object]], varied: Sequence[str]
) -> tuple[float, tuple[str, ...]]:
    """Return tuned(k) and the best set of k hyperparameters; of equal ones the first by the alphabet."""
    found: list[tuple[float, tuple[str, ...]]] = []
    for free in combinations(range(len(varied)), k):
        kept = [j for j in range(len(varied)) if j not in free]
        allowed = [i for i, row in enumerate(values) if all(row[j] == values[best][j] for j in kept)]
        found.append((float(means[allowed].max(axis=0).mean()), tuple(varied[j] for j in free)))
    return max(found, key=lambda one: one[0])


def _draws(samples: Mapping[str, Sequence[np.ndarray]], names: Sequence[str]) -> dict[str, np.ndarray]:
    """Return the scores (RESAMPLES,) of resamples of the runs within each cell.

    Every cell has its own generator, seeded by its label and task: its resamples do not depend on the others.
    """
    tuned = np.zeros(RESAMPLES)
    sums = np.zeros((len(samples), RESAMPLES))
    for task, name in enumerate(names):
        highest = np.full(RESAMPLES, -np.inf)
        for row, (label, of_tasks) in enumerate(samples.items()):
            sample = of_tasks[task]
            rng = generator(SEED, f"{label} {name}")
            drawn = sample[(rng.random((RESAMPLES, len(sample))) * len(sample)).astype(np.intp)].mean(axis=1)
            sums[row] += drawn
            highest = np.maximum(highest, drawn)
        tuned += highest
    tuned, fixed = tuned / len(names), sums.max(axis=0) / len(names)
    return {"tuned": tuned, "fixed": fixed, "sensitivity": tuned - fixed}

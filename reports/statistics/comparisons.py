"""Compare: systems with each other, task by task and across tasks.

Within a task every pair of systems (or each system and the declared baseline) is compared by Welch's test and
by a permutation test. All these pairs, of all tasks, are the family that Holm's correction speaks of. Across
tasks scores are normalised by the task's fixed anchors, and only systems that have the same tasks come
together. Nothing here knows an incomplete cell: it has no sample.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ascent.records.declared import Declared
from ascent.reports.statistics import bootstrap, stats
from ascent.reports.statistics.aggregate import CellSummary, Task

SEED = 0  # of the generators that resample
TAUS = np.linspace(0.0, 1.2, 61)  # normalised scores at which a performance profile is drawn


Wanted = Callable[[str, str], bool]  # of the labels of two systems


@dataclass(frozen=True)
class Tested:
    """A difference of two samples by both tests, corrected for the family it belongs to."""

    welch: stats.Comparison
    p_permutation: float
    p_welch_holm: float
    p_permutation_holm: float

    @property
    def differs(self) -> bool:
        """Whether a difference may be claimed: both tests reject at 5% after Holm's correction."""
        return bool(self.p_permutation_holm < stats.ALPHA and self.p_welch_holm < stats.ALPHA)


@dataclass(frozen=True)
class Pair(Tested):
    """Two systems on one task, `x` minus `y`, in units of return."""

    task: Task
    x: CellSummary
    y: CellSummary
    g: stats.Estimate  # Hedges' g and its interval
    superiority: stats.Estimate  # P(X > Y) + P(X = Y) / 2 and its interval
    detectable: float  # difference that Welch's test would have found with power 0.8, at the unadjusted 5%


@dataclass(frozen=True)
class Improvement:
    """Probability that a run of `x` scores higher than one of `y`, mean over the tasks that both have."""

    x: str
    y: str
    tasks: tuple[str, ...]
    interval: stats.Estimate


@dataclass(frozen=True)
class Group:
    """Systems that all have a score on the same tasks, at least two.

    `left_out` are those that should be here and are not, with the reason. `aggregates`: system -> statistic
    -> interval; `profiles`: system -> (share of runs above each of TAUS, lower, upper limit).
    """

    tasks: tuple[str, ...]
    systems: tuple[str, ...]
    left_out: dict[str, str]
    aggregates: dict[str, dict[str, stats.Estimate]]
    profiles: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Comparisons:
    """Everything that compares systems. `family`: the number of declared comparisons, of which `pairs` could
    be made; `hopeless` of them could not have been claimed with so few runs, whatever these score.
    """

    family: int
    hopeless: int
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]
    improvements: tuple[Improvement, ...]


def compare(tasks: Sequence[Task], declared: Declared) -> Comparisons:
    """All comparisons of a report."""
    wanted = declared_pairs(tasks, declared)
    family = sum(wanted(x.label, y.label) for task in tasks for x, y in combinations(task.cells, 2))
    pairs = _pairs(tasks, wanted, family)
    out_of_reach = hopeless([(pair.x.score.n, pair.y.score.n) for pair in pairs], family)
    systems = _normalised(tasks)
    labels = [
        (x, y) for x, y in combinations(systems, 2) if systems[x].keys() & systems[y].keys() and wanted(x, y)
    ]
    improvements = [
        Improvement(x, y, tuple(sorted(systems[x].keys() & systems[y].keys())), estimate)
        for (x, y), estimate in zip(labels, bootstrap.improvements(systems, labels, seed=SEED), strict=True)
    ]
    return Comparisons(
        family, out_of_reach, tuple(pairs), tuple(_groups(tasks, systems)), tuple(improvements)
    )


def declared_pairs(tasks: Sequence[Task], declared: Declared) -> Wanted:
    """Which pairs are compared: all, or those of which one is the baseline. ValueError if it is not here."""
    baseline = {
        cell.label for task in tasks for cell in task.cells if cell.cell.name.system == declared.baseline
    }
    if declared.baseline and not baseline:
        raise ValueError(f"baseline {declared.baseline}: there is no such system here")
    return lambda x, y: not baseline or x in baseline or y in baseline


def _pairs(tasks: Sequence[Task], wanted: Wanted, family: int) -> list[Pair]:
    found = [
        (task, x, y)
        for task in tasks
        if not task.unlike
        for x, y in combinations([cell for cell in task.cells if cell.score and cell.score.n > 1], 2)
        if wanted(x.label, y.label)
    ]
    results = both_tests([(x.sample, y.sample) for _, x, y in found], family)
    return [
        Pair(
            **vars(result), task=task, x=x, y=y,
            g=stats.hedges_g(x.sample, y.sample), superiority=stats.superiority(x.sample, y.sample),
            detectable=stats.minimum_detectable_difference(x.score.std, y.score.std, x.score.n, y.score.n),
        )
        for (task, x, y), result in zip(found, results, strict=True)
    ]  # fmt: skip


def both_tests(samples: Sequence[tuple[np.ndarray, np.ndarray]], family: int) -> list[Tested]:
    """Every pair of samples by Welch's and by the permutation test, each corrected for a family of so many
    comparisons, at least as many as there are pairs.
    """
    p_permutation = np.full(len(samples), np.nan)
    sizes = defaultdict(list)  # pairs of the same sizes are tested together
    for k, (x, y) in enumerate(samples):
        sizes[len(x), len(y)].append(k)
    for rows in sizes.values():
        sides = (np.array([samples[k][side] for k in rows]) for side in (0, 1))
        p_permutation[rows] = stats.permutation_p(*sides, seed=SEED)
    welch = [stats.welch(x, y) for x, y in samples]
    p_welch_holm = stats.holm(np.array([comparison.p for comparison in welch]), family)
    p_permutation_holm = stats.holm(p_permutation, family)
    columns = (p_permutation.tolist(), p_welch_holm.tolist(), p_permutation_holm.tolist())
    return [Tested(*row) for row in zip(welch, *columns, strict=True)]


def hopeless(sizes: Sequence[tuple[int, int]], family: int) -> int:
    """How many pairs of samples of these sizes could not have been claimed, whatever their scores."""
    return sum(stats.smallest_permutation_p(n, m) * family >= stats.ALPHA for n, m in sizes)


def _normalised(tasks: Sequence[Task]) -> dict[str, dict[str, np.ndarray]]:
    """System -> task -> normalised scores, where there are any and the task's cells can be compared."""
    systems: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for task in tasks:
        for cell in task.cells if not task.unlike else ():
            if cell.normalised is not None:
                systems[cell.label][f"{task.suite}/{task.name}"] = cell.normalised
    return {label: systems[label] for label in sorted(systems)}


def _groups(tasks: Sequence[Task], systems: dict[str, dict[str, np.ndarray]]) -> list[Group]:
    """One group per set of tasks that some system was planned for: it and all that have those tasks."""
    planned: dict[str, dict[str, str]] = defaultdict(dict)  # system -> task -> why it has no score there
    for task in tasks:
        for cell in task.cells if not task.unlike else ():  # nothing compares these
            why = cell.counts if cell.score is None else "no anchors"
            planned[cell.label][f"{task.suite}/{task.name}"] = f"{task.name}: {why}"
    groups = []
    for names in sorted({tuple(sorted(found)) for found in planned.values()}, key=lambda n: (-len(n), n)):
        members = [label for label, found in planned.items() if set(names) <= set(found)]
        lacking = {
            label: "; ".join(planned[label][name] for name in names if name not in systems.get(label, {}))
            for label in sorted(members)
        }
        whole = [label for label, why in lacking.items() if not why]
        if len(names) < 2 or not whole:
            continue
        scores = {label: [systems[label][name] for name in names] for label in whole}
        groups.append(
            Group(
                names,
                tuple(whole),
                {label: why for label, why in lacking.items() if why},
                bootstrap.aggregates(scores, seed=SEED),
                bootstrap.profiles(scores, TAUS, seed=SEED),
            )
        )
    return groups

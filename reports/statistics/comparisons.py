"""Comparisons of systems within and across tasks.

Within a task, every pair of systems is compared by a permutation test of superiority and by Welch's test of
the means; with a declared baseline, which is a system or one setting of a system, only the pairs that include
it. All of these pairs, over all tasks, form the family of Holm's correction. In a sweep with a design,
pairs are tested stage by stage (`stages.py`), and every look counts as a comparison of the family. Across
tasks, scores are normalised by the fixed anchors of each task, and only systems with scores on the same tasks
form a group. Incomplete cells have no sample and enter no comparison.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from ascent.records.declared import Declared
from ascent.reports.statistics import bootstrap
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.effect_sizes import hedges_g, superiority, tied
from ascent.reports.statistics.fragility import fragility
from ascent.reports.statistics.holm import holm
from ascent.reports.statistics.intervals import ALPHA, Estimate
from ascent.reports.statistics.significance import (
    Comparison,
    minimum_detectable_difference,
    permutation_p,
    smallest_permutation_p,
    welch,
)

if TYPE_CHECKING:
    from ascent.reports.statistics.stages import Staged

MOST_SYSTEMS = 60  # whose pairs are all compared; with more, a report needs a declared baseline
SEED = 0  # of the bootstrap and the permutation test
TAUS = np.linspace(0.0, 1.2, 61)  # normalised scores at which performance profiles are evaluated

PairFilter = Callable[[str, str], bool]  # takes the labels of two systems


@dataclass(frozen=True)
class TestedDifference:
    """The difference of two samples by both tests, corrected for its family of comparisons.

    `superior` is the sign of P(X > Y) - P(X < Y) in the samples.
    """

    superior: int
    welch: Comparison
    p_permutation: float
    p_welch_holm: float
    p_permutation_holm: float

    @property
    def differs(self) -> bool:
        """Whether both tests reject at 5% after Holm's correction, in the same direction.

        What is claimed is superiority: a run of one system scores higher than one of the other more often
        than not. Welch's test alone finds differences of means that are not there where failures are missing
        from a sample; the permutation test alone is too liberal for small p values where spreads differ.
        """
        rejected = self.p_permutation_holm < ALPHA and self.p_welch_holm < ALPHA
        return bool(rejected and self.superior * self.welch.difference > 0)


@dataclass(frozen=True)
class Pair(TestedDifference):
    """The difference `x` minus `y` of two systems on one task, in units of the score.

    `n` and `m` are the numbers of runs, with a design those up to the stage at which the pair was decided.
    """

    task: Task
    x: CellSummary
    y: CellSummary
    g: Estimate  # Hedges' g and its interval
    superiority: Estimate  # P(X > Y) + P(X = Y) / 2 and its interval
    detectable: float  # difference detected with power 0.8 at the level of `Comparisons`; NaN: none
    fragility: int | None  # runs of the better system that undo the claim if they fail; None without a claim
    n: int
    m: int
    x_mean: float  # of these runs
    y_mean: float
    stage: int | None = None  # of a design, at which the pair was decided
    given_up: bool = False  # before the last stage of a design, as futile


@dataclass(frozen=True)
class Improvement:
    """Probability that a run of `x` scores higher than a run of `y`, averaged over their shared tasks."""

    x: str
    y: str
    tasks: tuple[str, ...]
    interval: Estimate


@dataclass(frozen=True)
class Group:
    """Systems that all have a score on the same tasks, of which there are at least two.

    `left_out` maps planned systems without a score on one of the tasks to the reason. `aggregates`: system ->
    statistic -> interval; `profiles`: system -> (share of runs above each of TAUS, lower limit, upper limit).
    """

    tasks: tuple[str, ...]
    systems: tuple[str, ...]
    left_out: dict[str, str]
    aggregates: dict[str, dict[str, Estimate]]
    profiles: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]


@dataclass(frozen=True)
class Comparisons:
    """All comparisons of a report.

    `family` is the number of declared comparisons within tasks; `pairs` are those that could be made, with a
    design those that are decided. `level` is that of the step at which Holm's procedure stopped: ALPHA over
    the comparisons without a claim. `unreachable` pairs cannot become significant with their number of runs,
    whatever the scores.
    """

    family: int
    level: float
    unreachable: int
    pairs: tuple[Pair, ...]
    groups: tuple[Group, ...]
    improvements: tuple[Improvement, ...]


def compare(tasks: Sequence[Task], declared: Declared, staged: "Staged | None" = None) -> Comparisons:
    """Make all comparisons of a report; within tasks those that `staged` decided, if the sweep has a design.

    Raises:
        ValueError: the declared baseline is not among the systems.
    """
    is_declared = declared_pairs(tasks, declared)
    family = family_size(tasks, is_declared)
    found = _decided(tasks, is_declared, staged) if staged else _all_tested(tasks, is_declared, family)
    looks = max(len(staged.looks), 1) if staged else 1
    pairs, level = _pairs(found, family * looks, looks)
    unreachable = count_unreachable([(pair.n, pair.m) for pair in pairs], family * looks)
    systems = _normalised(tasks)
    labels = [
        (x, y)
        for x, y in combinations(systems, 2)
        if systems[x].keys() & systems[y].keys() and is_declared(x, y)
    ]
    improvements = [
        Improvement(x, y, tuple(sorted(systems[x].keys() & systems[y].keys())), estimate)
        for (x, y), estimate in zip(labels, bootstrap.improvements(systems, labels, seed=SEED), strict=True)
    ]
    groups = _groups(tasks, systems)
    return Comparisons(family, level, unreachable, tuple(pairs), tuple(groups), tuple(improvements))


def declared_pairs(tasks: Sequence[Task], declared: Declared) -> PairFilter:
    """Return which pairs of systems are compared: those that include the declared baseline or, without one,
    all. Without one, more than MOST_SYSTEMS systems are not compared at all.

    Raises:
        ValueError: the declared baseline is not among the systems.
    """
    baseline = baselines(tasks, declared)
    if declared.baseline and not baseline:
        raise ValueError(f"the declared baseline {declared.baseline} is not in this report")
    if not baseline and too_many(tasks):
        return lambda x, y: False
    return lambda x, y: not baseline or x in baseline or y in baseline


def baselines(tasks: Sequence[Task], declared: Declared) -> set[str]:
    """Return the labels of the declared baseline: several where one system has several settings."""
    summaries = [summary for task in tasks for summary in task.cells]
    # A name that the sweep gives means that system, not others of the same algorithm.
    return {s.label for s in summaries if s.cell.name.name and s.cell.name.name == declared.baseline} or {
        s.label
        for s in summaries
        if not s.cell.name.name and declared.is_baseline(s.cell.name.system, s.cell.setting)
    }


def too_many(tasks: Sequence[Task]) -> bool:
    """Return whether there are too many systems to compare each with each."""
    return len({summary.label for task in tasks for summary in task.cells}) > MOST_SYSTEMS


def family_size(tasks: Sequence[Task], is_declared: PairFilter) -> int:
    """Return the number of declared comparisons within tasks, possible or not."""
    return sum(is_declared(x.label, y.label) for task in tasks for x, y in combinations(task.cells, 2))


def alike_pairs(
    tasks: Sequence[Task], is_declared: PairFilter
) -> Iterator[tuple[Task, CellSummary, CellSummary]]:
    """Yield the declared pairs of cells that are alike in what a comparison needs, such as the budget."""
    for task in tasks:
        for group in task.groups:
            for x, y in combinations(group, 2):
                if is_declared(x.label, y.label):
                    yield task, x, y


@dataclass(frozen=True)
class _Tested:
    """A pair of cells with its samples and their test."""

    task: Task
    x: CellSummary
    y: CellSummary
    samples: tuple[np.ndarray, np.ndarray]
    result: TestedDifference
    stage: int | None = None
    given_up: bool = False


def _all_tested(tasks: Sequence[Task], is_declared: PairFilter, family: int) -> list[_Tested]:
    """Test all pairs of complete cells at once."""
    pairs = [
        (task, x, y)
        for task, x, y in alike_pairs(tasks, is_declared)
        if x.score and x.score.n > 1 and y.score and y.score.n > 1
    ]
    samples = [(_sample(x), _sample(y)) for _, x, y in pairs]
    results = both_tests(samples, family)
    return [_Tested(*pair, both, result) for pair, both, result in zip(pairs, samples, results, strict=True)]


def _decided(tasks: Sequence[Task], is_declared: PairFilter, staged: "Staged") -> list[_Tested]:
    """Return the pairs that a design has decided."""
    found = []
    for task, x, y in alike_pairs(tasks, is_declared):
        if decision := staged.pairs.get((x.cell.name.folder, y.cell.name.folder)):
            samples = (decision.x, decision.y)
            found.append(_Tested(task, x, y, samples, decision.tested, decision.stage, decision.given_up))
    return found


def _pairs(tested: Sequence[_Tested], family: int, looks: int) -> tuple[list[Pair], float]:
    """Return what is reported of pairs, and the level at which Holm's procedure stopped.

    `family` counts each pair `looks` times, and as often does a claim leave it.
    """
    results = [row.result for row in tested]
    level = ALPHA / max(family - looks * sum(result.differs for result in results), 1)
    held = (
        ALPHA / (family - looks * (sum(result.p_permutation_holm < ALPHA for result in results) - 1)),
        ALPHA / (family - looks * (sum(result.p_welch_holm < ALPHA for result in results) - 1)),
    )  # the levels of the last steps that rejected: a p value that rises stays rejected below them
    pairs = []
    for row in tested:
        a, b = row.samples
        detectable = minimum_detectable_difference(
            float(a.std(ddof=1)), float(b.std(ddof=1)), len(a), len(b), level
        )
        pairs.append(
            Pair(
                **vars(row.result), task=row.task, x=row.x, y=row.y,
                g=hedges_g(a, b), superiority=superiority(a, b), detectable=detectable,
                fragility=_fragility(row.task, a, b, held, family) if row.result.differs else None,
                n=len(a), m=len(b), x_mean=float(a.mean()), y_mean=float(b.mean()),
                stage=row.stage, given_up=row.given_up,
            )
        )  # fmt: skip
    return pairs, level


def _fragility(task: Task, x: np.ndarray, y: np.ndarray, levels: tuple[float, float], family: int) -> int:
    """Return the fragility of a claim. A failed run has the random score, or the worst of both samples."""
    sign = task.measured.sign
    better, worse = sorted((sign * x, sign * y), key=np.mean, reverse=True)
    anchors = [sign * score for name, score in task.anchors if name == "random"]
    failed = float(min([better.min(), worse.min(), *anchors]))
    return fragility(better, worse, failed, levels, family, SEED)


def _sample(summary: CellSummary) -> np.ndarray:
    """Return the run scores of a cell that has a score."""
    assert summary.sample is not None
    return summary.sample


def both_tests(samples: Sequence[tuple[np.ndarray, np.ndarray]], family: int) -> list[TestedDifference]:
    """Test pairs of samples by the permutation test and by Welch's.

    Each test is corrected for a family of `family` comparisons, at least the number of pairs.
    """
    samples = [tied(x, y) for x, y in samples]
    p_permutation = np.full(len(samples), np.nan)
    by_sizes = defaultdict(list)  # pairs of the same sizes are tested together
    for k, (x, y) in enumerate(samples):
        by_sizes[len(x), len(y)].append(k)
    for rows in by_sizes.values():
        first, second = (np.array([samples[k][side] for k in rows]) for side in (0, 1))
        p_permutation[rows] = permutation_p(first, second, family, seed=SEED)
    differences = [welch(x, y) for x, y in samples]
    p_welch_holm = holm(np.array([difference.p for difference in differences]), family)
    p_permutation_holm = holm(p_permutation, family)
    superior = [int(np.sign(np.sign(x[:, None] - y).sum())) for x, y in samples]
    columns = (p_permutation.tolist(), p_welch_holm.tolist(), p_permutation_holm.tolist())
    return [TestedDifference(*row) for row in zip(superior, differences, *columns, strict=True)]


def count_unreachable(sizes: Sequence[tuple[int, int]], family: int) -> int:
    """Count the pairs of samples, given by their sizes, that Holm's procedure can never reject."""
    smallest = np.array([smallest_permutation_p(n, m) for n, m in sizes])
    return int((holm(smallest, family) >= ALPHA).sum())


def _normalised(tasks: Sequence[Task]) -> dict[str, dict[str, np.ndarray]]:
    """Return system -> task -> normalised scores, of tasks whose cells can be compared."""
    systems: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for task in tasks:
        for cell in task.compared:
            if cell.normalised is not None:
                systems[cell.label][f"{task.suite}/{task.name}"] = cell.normalised
    return {label: systems[label] for label in sorted(systems)}


def _groups(tasks: Sequence[Task], systems: dict[str, dict[str, np.ndarray]]) -> list[Group]:
    """Form one group per set of planned tasks: the systems that have scores on all of them."""
    planned: dict[str, dict[str, str]] = defaultdict(dict)  # system -> task -> why it has no score there
    for task in tasks:
        # Scores by a measure are not normalised.
        for cell in task.compared if task.measured.is_return else ():
            why = cell.counts if cell.score is None else "no reference score"
            planned[cell.label][f"{task.suite}/{task.name}"] = f"{task.name}: {why}"
    groups = []
    for names in sorted({tuple(sorted(reasons)) for reasons in planned.values()}, key=lambda n: (-len(n), n)):
        members = [label for label, reasons in planned.items() if set(names) <= set(reasons)]
        lacking = {
            label: "; ".join(planned[label][name] for name in names if name not in systems.get(label, {}))
            for label in sorted(members)
        }
        complete = [label for label, why in lacking.items() if not why]
        if len(names) < 2 or not complete:
            continue
        scores = {label: [systems[label][name] for name in names] for label in complete}
        groups.append(
            Group(
                names,
                tuple(complete),
                {label: why for label, why in lacking.items() if why},
                bootstrap.aggregates(scores, seed=SEED),
                bootstrap.profiles(scores, TAUS, seed=SEED),
            )
        )
    return groups

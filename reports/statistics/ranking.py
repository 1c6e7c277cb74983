"""Ranks of systems as ranges: the places that each may have, by what tests and intervals can tell apart."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import Comparisons, Pair
from ascent.reports.statistics.intervals import Estimate

HEADLINE = "iqm"  # statistic of the ranking across tasks


@dataclass(frozen=True)
class Standing:
    """The place of a system across the tasks of the largest group.

    Attributes:
        label: the system.
        value: interquartile mean of its normalised scores, with its interval.
        ranks: the best and the worst place that it may have; two systems whose intervals overlap may have
            either order.
        won, lost: significant comparisons within tasks that it won and lost.
    """

    label: str
    value: Estimate
    ranks: tuple[int, int]
    won: int
    lost: int


def better_and_worse(pair: Pair) -> tuple[CellSummary, CellSummary]:
    """Return the cells of a significant comparison, the better one first."""
    return (pair.x, pair.y) if pair.superior * pair.task.measured.sign > 0 else (pair.y, pair.x)


def task_ranks(task: Task, pairs: Iterable[Pair]) -> dict[str, tuple[int, int]]:
    """Return the ranks that each system of a task may have, by label: of two alike, either may be first.

    From 1 + the number of systems that are significantly better to the number of those that are not
    significantly worse. A pair that was not tested counts as alike. A pair that a design decided counts once
    both systems have a score.
    """
    scored = [summary.label for summary in task.cells if summary.score]
    above, below = dict.fromkeys(scored, 0), dict.fromkeys(scored, 0)
    for pair in pairs:
        if pair.differs and pair.task is task:
            better, worse = better_and_worse(pair)
            if better.score and worse.score:
                below[better.label] += 1
                above[worse.label] += 1
    return {label: (1 + above[label], len(scored) - below[label]) for label in scored}


def leaders(task: Task, pairs: Sequence[Pair]) -> tuple[CellSummary, ...]:
    """Return the cells of a task that are bold: that of the best mean, and all not significantly worse.

    () where no pair was tested. A cell that was not tested against the best one is not among them. Not for
    reports with a declared baseline: most pairs are never tested there, and nothing is bold.
    """
    of_task = [pair for pair in pairs if pair.task is task]
    compared = [
        (task.measured.sign * cell.score.mean, cell)
        for cell in task.cells  # one that a design trains on has no score yet, and may have been compared
        if cell.score and any(cell in (pair.x, pair.y) for pair in of_task)
    ]
    if not compared:
        return ()
    _, best = max(compared, key=lambda each: each[0])
    alike = [pair for pair in of_task if best in (pair.x, pair.y) and not pair.differs]
    ties = [cell for _, cell in compared if cell is not best and any(cell in (p.x, p.y) for p in alike)]
    return (best, *ties)


def standings(comparisons: Comparisons) -> list[Standing]:
    """Return the systems of the largest group of tasks, best first; [] without a group."""
    if not comparisons.groups:
        return []
    group = comparisons.groups[0]
    values = {label: group.aggregates[label][HEADLINE] for label in group.systems}
    claims = [better_and_worse(pair) for pair in comparisons.pairs if pair.differs]
    found = []
    for label, value in values.items():
        above = sum(other.low > value.high for other in values.values())
        below = sum(other.high < value.low for other in values.values())
        won = sum(better.label == label for better, _ in claims)
        lost = sum(worse.label == label for _, worse in claims)
        found.append(Standing(label, value, (1 + above, len(values) - below), won, lost))
    return sorted(found, key=lambda standing: (-standing.value.value, standing.label))

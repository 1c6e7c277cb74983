"""Sample efficiency: the normalised IQM across tasks while systems train, with bands.

As the sample-efficiency curves of Agarwal et al. (2021, arXiv 2108.13264, figure 7). The value at a point is
the IQM over all runs of all tasks; its limits are those of the aggregates (stratified bootstrap with expanded
percentiles), pointwise.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ascent.reports.statistics import bootstrap
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import SEED, Group

Curve = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Efficiency:
    """Sample efficiency of the systems of a group.

    Attributes:
        group: the systems and their tasks.
        shares: (P,) shares of the step budget, from the first evaluation to 1.
        budget: environment steps at 1; None where the tasks have different budgets.
        curves: system -> IQM (P,), lower limit, upper limit.
    """

    group: Group
    shares: np.ndarray
    budget: int | None
    curves: dict[str, Curve]

    @property
    def steps(self) -> np.ndarray | None:
        """(P,) environment steps; None where the tasks have different budgets."""
        return None if self.budget is None else self.shares * self.budget


def efficiencies(tasks: Sequence[Task], groups: Sequence[Group]) -> list[Efficiency]:
    """Return the sample efficiency of each group, at the points of its coarsest curve."""
    cells = {
        (cell.label, f"{task.suite}/{task.name}"): (task, cell) for task in tasks for cell in task.compared
    }
    found = []
    for group in groups:
        members = {label: [cells[label, name] for name in group.tasks] for label in group.systems}
        grids = [_shares(cell) for row in members.values() for _, cell in row]
        start = max(grid[0] for grid in grids)
        shares = min(grids, key=len)
        shares = shares[shares >= start]
        budgets = {int(_steps(cell)[-1]) for row in members.values() for _, cell in row}
        curves = bootstrap.curves(
            {label: [_normalised(*each, shares) for each in row] for label, row in members.items()}, seed=SEED
        )
        found.append(Efficiency(group, shares, budgets.pop() if len(budgets) == 1 else None, curves))
    return found


def _steps(cell: CellSummary) -> np.ndarray:
    assert cell.curves is not None, "systems of a group have scores"
    return cell.curves.steps


def _shares(cell: CellSummary) -> np.ndarray:
    steps = _steps(cell)
    return steps / max(steps[-1], 1)


def _normalised(task: Task, cell: CellSummary, shares: np.ndarray) -> np.ndarray:
    """Return the normalised evaluation returns of a cell's runs at shares of its budget, (S, P).

    Between evaluations they are interpolated. A diverged run has its score everywhere.
    """
    assert cell.curves is not None, "systems of a group have scores"
    anchors, grid = dict(task.anchors), _shares(cell)
    span = anchors["reference"] - anchors["random"]
    returns = (cell.curves.returns.T - anchors["random"]) / span
    return np.stack([np.interp(shares, grid, run) for run in returns])

"""Information cost: what policies that pay for observations (RPC) spent in training.

Read from metrics.csv: `cost`, the mean over replayed batches since the previous evaluation, and `lambda`, its
price.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ascent.records.read import DONE
from ascent.reports.statistics.aggregate import CellSummary, Task

SETTLED = 0.2  # share of training, at its end, over which the cost is averaged


@dataclass(frozen=True)
class InformationCost:
    """The information cost of a complete cell.

    `cost` and `price` are (P, n): by evaluation since updates began, and by seed. `rate` is the target.
    """

    task: Task
    summary: CellSummary
    rate: float
    unit: str  # "nats" or "bits"
    steps: np.ndarray  # (P,)
    cost: np.ndarray
    price: np.ndarray

    @property
    def settled(self) -> np.ndarray:
        """(n,) mean cost of each seed over the last fifth of training."""
        return self.cost[self.steps > (1 - SETTLED) * self.steps[-1]].mean(0)


def geometric_band(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the geometric mean of (P, n) over the seeds, the smallest and the largest, each (P,)."""
    positive = values.clip(1e-12)  # a KL divergence close to 0 may round to a negative number
    return np.exp(np.log(positive).mean(1)), positive.min(1), positive.max(1)


def information_costs(tasks: Sequence[Task]) -> list[InformationCost]:
    """Return the costs of the cells that have a score and record costs, without damaged ones."""
    costs = []
    for task in tasks:
        for summary in task.cells:
            config = summary.cell.facts.get("config", {}) if summary.score else {}
            if {"rate", "bits"} <= config.keys() and (tables := _tables(summary)):
                steps = tables[0].index.to_numpy()
                cost, price = (np.stack([t[x] for t in tables], 1) for x in ("cost", "lambda"))
                unit = "bits" if config["bits"] else "nats"
                rate = float(config["rate"])
                costs.append(InformationCost(task, summary, rate, unit, steps, cost, price))
    return costs


def _tables(summary: CellSummary) -> list[pd.DataFrame]:
    """Return the costs in metrics.csv of every completed run; [] if a table has none or its steps differ."""
    tables = []
    for run in (run for run in summary.cell.runs if run.state == DONE):
        try:
            table = pd.read_csv(io.BytesIO(run.metrics), index_col="step")[["cost", "lambda"]]
        except (ValueError, KeyError):
            return []
        if table.empty or not np.isfinite(table.to_numpy()).all():
            return []
        tables.append(table)
    return tables if all(table.index.equals(tables[0].index) for table in tables) else []

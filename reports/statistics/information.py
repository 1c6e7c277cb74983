"""Information cost: what policies that pay for observations (RPC) spent in training.

Read from metrics.csv: `cost`, the mean over replayed batches since the previous evaluation, and `lambda`, its
price.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ascent.records import layout
from ascent.records.errors import DamagedFile
from ascent.records.read import DONE
from ascent.records.store import Store
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


def information_costs(runs: Path, tasks: Sequence[Task]) -> list[InformationCost]:
    """Return the costs of the cells that have a score and record costs, without damaged ones."""
    costs = []
    for task in tasks:
        for summary in task.cells:
            config = summary.cell.facts.get("config", {}) if summary.score else {}
            if {"rate", "bits"} <= config.keys():
                tables = _tables(summary.cell.name.home(runs) / summary.cell.name.folder, summary)
                if tables:
                    steps = tables[0].index.to_numpy()
                    cost, price = (np.stack([t[x] for t in tables], 1) for x in ("cost", "lambda"))
                    unit = "bits" if config["bits"] else "nats"
                    rate = float(config["rate"])
                    costs.append(InformationCost(task, summary, rate, unit, steps, cost, price))
    return costs


def _tables(folder: Path, summary: CellSummary) -> list[pd.DataFrame]:
    """Read metrics.csv of every completed run; [] if a table is damaged or its steps differ."""
    tables = []
    store = Store(folder)
    for run in (run for run in summary.cell.runs if run.state == DONE):
        try:
            content = store.read(run.seed, layout.METRICS)
            table = pd.read_csv(io.BytesIO(content), index_col="step")[["cost", "lambda"]]
        except (OSError, DamagedFile, ValueError, KeyError):
            return []
        whole = hashlib.sha256(content).hexdigest() == run.result["digests"].get(layout.METRICS)
        if not whole or table.empty or not np.isfinite(table.to_numpy()).all():
            return []
        tables.append(table)
    return tables if all(table.index.equals(tables[0].index) for table in tables) else []

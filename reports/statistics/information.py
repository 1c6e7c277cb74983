"""Information: what policies that pay for observations (RPC) spent in training, against their target rate.

From metrics.csv: `cost`, the mean over replayed batches since the evaluation before, and `lambda`, its price.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ascent.records.read import DONE
from ascent.reports.page import figures
from ascent.reports.page.tables import Table, limits, number, texts
from ascent.reports.statistics import stats
from ascent.reports.statistics.aggregate import CellSummary, Task

SETTLED = 0.2  # share of training, its end, in which the cost is held against the rate


@dataclass(frozen=True)
class Spent:
    """A complete cell. `cost` and `price` are (P, n): by evaluation, since updates began, and by seed."""

    task: Task
    summary: CellSummary
    rate: float
    unit: str  # "nats" or "bits"
    steps: np.ndarray  # (P,)
    cost: np.ndarray
    price: np.ndarray

    @property
    def settled(self) -> np.ndarray:
        """(n,) mean cost over the last part of training."""
        return self.cost[self.steps > (1 - SETTLED) * self.steps[-1]].mean(0)


def measured(runs: Path, tasks: Sequence[Task]) -> list[Spent]:
    """The cells with a score that have such records; one whose records are damaged is left out."""
    found = []
    for task in tasks:
        for summary in task.cells:
            config = summary.cell.facts.get("config", {}) if summary.score else {}
            if {"rate", "bits"} <= config.keys():
                tables = _tables(runs / summary.cell.name.folder, summary)
                if tables:
                    steps = tables[0].index.to_numpy()
                    cost, price = (np.stack([t[x] for t in tables], 1) for x in ("cost", "lambda"))
                    unit = "bits" if config["bits"] else "nats"
                    found.append(Spent(task, summary, float(config["rate"]), unit, steps, cost, price))
    return found


def _tables(folder: Path, summary: CellSummary) -> list[pd.DataFrame]:
    """metrics.csv of every run that is done; none where one is not as recorded or has other steps."""
    tables = []
    for run in (run for run in summary.cell.runs if run.state == DONE):
        try:
            content = (folder / f"seed-{run.seed}" / "metrics.csv").read_bytes()
            table = pd.read_csv(io.BytesIO(content), index_col="step")[["cost", "lambda"]]
        except (OSError, ValueError, KeyError):
            return []
        whole = hashlib.sha256(content).hexdigest() == run.result["digests"].get("metrics.csv")
        if not whole or table.empty or not np.isfinite(table.to_numpy()).all():
            return []
        tables.append(table)
    return tables if all(table.index.equals(tables[0].index) for table in tables) else []


def table(found: Sequence[Spent]) -> Table:
    """One row per cell: the rate, what was spent in the end, the price."""
    data, shown = [], []
    for one in found:
        name, settled = one.summary.cell.name, one.settled
        (low, high), price = stats.student_t_interval(settled), one.price[-1].mean()
        data.append({
            "suite": name.suite, "task": name.task, "system": one.summary.label, "digest": name.digest,
            "n": len(settled), "unit": one.unit, "rate": one.rate, "cost": settled.mean(), "low": low,
            "high": high, "cost_over_rate": settled.mean() / one.rate, "last_lambda": price,
        })  # fmt: skip
        shown.append({
            "task": name.task, "system": one.summary.label, "rate": f"{one.rate:g} {one.unit}",
            "cost": limits(settled.mean(), low, high, 3), "cost / rate": number(settled.mean() / one.rate, 2),
            "lambda": f"{price:.3g}", "n": str(len(settled)),
        })  # fmt: skip
    heads = ["task", "system", "rate", "cost", "cost / rate", "lambda", "n"]
    keys = {
        "rate": "rate",
        "cost": "cost",
        "cost / rate": "cost_over_rate",
        "lambda": "last_lambda",
        "n": "n",
    }
    return Table("information", "Information", pd.DataFrame(data), texts(shown, heads), keys)


def figure(found: Sequence[Spent], style: figures.Style) -> Figure:
    """The cells of one task: cost per step with its rate, and its price. Draw within `figures.drawing()`."""
    legend, height = 0.2 + 0.2 * -(-len(found) // 4), 2.2
    result = Figure(figsize=(figures.WIDTH, legend + height + 0.85))
    box = figures.Boxes(result, left=0.75, right=0.6)
    axes = [result.add_axes(box.place(legend + 0.25, height, column, 2)) for column in (0, 1)]
    for one in found:
        colour, dash = style[one.summary.label]
        _line(axes[0], one.steps, one.cost, colour, dash, one.summary.label)
        axes[0].axhline(one.rate, color=colour, linestyle=":", lw=1.2)
        _line(axes[1], one.steps, one.price, colour, dash, None)
    units = sorted({one.unit for one in found})
    for place, title in zip(
        axes, (f"cost per step, {' or '.join(units)}; dotted: rate", "lambda"), strict=True
    ):
        place.set_yscale("log")
        place.set_title(title, fontsize=9, loc="left")
        place.set_xlabel("environment steps per seed")
        place.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        place.xaxis.set_major_formatter(FuncFormatter(lambda step, _: figures.short_steps(step)))
    axes[1].yaxis.tick_right()
    axes[1].spines.left.set_visible(False)
    axes[1].spines.right.set_visible(True)
    result.legend(
        loc="upper left", bbox_to_anchor=(0.65 / figures.WIDTH, 1.0), ncols=min(len(found), 4), frameon=False
    )
    return result


def _line(
    axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, dash: object, label: str | None
) -> None:
    """The geometric mean over seeds, between the smallest and the largest."""
    values = values.clip(1e-12)  # a divergence of nearly nothing may round to less than nothing
    axes.fill_between(steps, values.min(1), values.max(1), color=colour, alpha=0.16, lw=0)
    mean = np.exp(np.log(values).mean(1))
    axes.plot(steps, mean, color=colour, linestyle=dash, lw=1.6, label=label)

"""The table and the figure of the information cost of policies that pay for observations (RPC)."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ascent.reports.page import figures
from ascent.reports.page.formats import mean_text, number, short_steps
from ascent.reports.page.table import Column, Table, make_table
from ascent.reports.statistics.information import InformationCost, geometric_band
from ascent.reports.statistics.intervals import mean_of


def table(costs: Sequence[InformationCost]) -> Table:
    """Return the table of information costs: one row per cell, averaged over the last fifth of training."""
    columns: list[Column[InformationCost]] = [
        Column(lambda cost: cost.summary.cell.name.suite, "suite"),
        Column(lambda cost: cost.task.name, "task", "task", lambda cost: cost.task.title),
        Column(lambda cost: cost.summary.label, "system", "system"),
        Column(lambda cost: cost.summary.cell.name.digest, "digest"),
        Column(lambda cost: len(cost.settled), "n"),
        Column(lambda cost: cost.unit, "unit"),
        Column(
            lambda cost: cost.rate, "rate", "rate",
            lambda cost: f"{cost.rate:g} {cost.unit}", numeric=True,
        ),
        Column(
            lambda cost: cost.settled.mean(), "cost", "cost",
            lambda cost: mean_text(mean_of(cost.settled), 3), numeric=True,
        ),
        Column(lambda cost: mean_of(cost.settled).low, "low"),
        Column(lambda cost: mean_of(cost.settled).high, "high"),
        Column(lambda cost: mean_of(cost.settled).no_limits, "no_limits", optional=True),
        Column(
            lambda cost: cost.settled.mean() / cost.rate, "cost_over_rate", "cost / rate",
            lambda cost: number(cost.settled.mean() / cost.rate, 2), numeric=True,
        ),
        Column(
            lambda cost: cost.price[-1].mean(), "last_lambda", "lambda",
            lambda cost: f"{cost.price[-1].mean():.3g}", numeric=True,
        ),
        Column(lambda cost: len(cost.settled), head="n", numeric=True),
    ]  # fmt: skip
    return make_table("information", "Information cost", costs, columns)


def figure(costs: Sequence[InformationCost], style: figures.Style) -> Figure:
    """Draw the cells of one task: cost per step with its target rate, and its price.

    Call within `figures.drawing()`.
    """
    columns = figures.legend_columns([cost.summary.label for cost in costs])
    legend, height = 0.2 + 0.2 * -(-len(costs) // columns), 2.2
    result = Figure(figsize=(figures.WIDTH, legend + height + 0.85))
    box = figures.Boxes(result, left=0.75, right=0.6)
    axes = [result.add_axes(box.place(legend + 0.25, height, column, 2)) for column in (0, 1)]
    for cost in costs:
        colour, dash = style[cost.summary.label]
        _line(axes[0], cost.steps, cost.cost, colour, dash, cost.summary.label)
        if cost.rate < 10 * cost.cost.max():  # else no step comes near it: it is no target
            axes[0].axhline(cost.rate, color=colour, linestyle=":", lw=1.2)
        _line(axes[1], cost.steps, cost.price, colour, dash, None)
    units = sorted({cost.unit for cost in costs})
    titles = (f"cost per step [{' or '.join(units)}]; dotted: target rate", "price (lambda)")
    for panel, title in zip(axes, titles, strict=True):
        panel.set_yscale("log")
        panel.set_title(title, fontsize=9, loc="left")
        panel.set_xlabel("environment steps per seed")
        panel.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_steps(step)))
    axes[1].yaxis.tick_right()
    axes[1].spines.left.set_visible(False)
    axes[1].spines.right.set_visible(True)
    result.legend(loc="upper left", bbox_to_anchor=(0.65 / figures.WIDTH, 1.0), ncols=columns, frameon=False)
    return result


def _line(
    axes: Axes, steps: np.ndarray, values: np.ndarray, colour: str, dash: object, label: str | None
) -> None:
    """Draw the geometric mean over seeds, with a band from the smallest to the largest."""
    mean, low, high = geometric_band(values)
    axes.fill_between(steps, low, high, color=colour, alpha=0.16, lw=0)
    axes.plot(steps, mean, color=colour, linestyle=dash, lw=1.6, label=label)

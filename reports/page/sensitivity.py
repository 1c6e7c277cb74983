"""The table and the figure of the sensitivity to hyperparameters, of systems with a grid."""

from collections.abc import Callable, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ascent.reports.page import figures
from ascent.reports.page.formats import limits
from ascent.reports.page.table import Column, Table, make_table
from ascent.reports.statistics.intervals import Estimate
from ascent.reports.statistics.sensitivity import SHARE, Sensitivity


def table(found: Sequence[Sensitivity]) -> Table:
    """Return the table of sensitivities: one row per system with a grid."""
    columns: list[Column[Sensitivity]] = [
        Column(lambda row: row.grid, "system", "system"),
        Column(lambda row: " ".join(row.tasks), "tasks", "tasks", lambda row: str(len(row.tasks))),
        Column(lambda row: row.settings, "settings", "settings", numeric=True),
        Column(
            lambda row: " ".join(row.varied), "hyperparameters", "varied",
            lambda row: ", ".join(row.varied),
        ),
        *_estimate("tuned", "tuned on each task"),
        *_estimate("fixed", "fixed"),
        *_estimate("sensitivity", "sensitivity"),
        Column(
            lambda row: row.dimensionality, "dimensionality", "dimensionality",
            lambda row: "" if row.dimensionality is None else f"{row.dimensionality} of {len(row.varied)}",
            numeric=True,
        ),
        Column(
            lambda row: " ".join(_enough(row)), "enough", "enough to tune",
            lambda row: ", ".join(_enough(row)),
        ),
        Column(lambda row: row.best, "fixed_setting", "best when fixed"),
        Column(lambda row: row.lacking, "lacking", "no numbers", optional=True),
    ]  # fmt: skip
    return make_table("sensitivity", "Sensitivity to hyperparameters", found, columns)


def _enough(row: Sensitivity) -> tuple[str, ...]:
    """Return the least set of hyperparameters that is enough to tune."""
    return () if row.dimensionality is None else row.free[row.dimensionality]


def _estimate(name: str, head: str) -> list[Column[Sensitivity]]:
    """Return the columns of a score: its value, lower and upper limit; empty where there is none."""

    def part(field: str) -> Callable[[Sensitivity], float | None]:
        return lambda row: getattr(getattr(row, name), field) if getattr(row, name) else None

    def text(row: Sensitivity) -> str:
        estimate: Estimate | None = getattr(row, name)
        return limits(*estimate, 3) if estimate else ""

    return [
        Column(part("value"), name, head, text, numeric=True),
        Column(part("low"), f"{name}_low"),
        Column(part("high"), f"{name}_high"),
    ]


def figure(found: Sequence[Sensitivity]) -> Figure | None:
    """Draw the score by the number of hyperparameters that are tuned on each task; None without numbers.

    As Adkins et al. (2024) show the effective dimensionality. Call within `figures.drawing()`.
    """
    drawn = [row for row in found if row.curve]
    if not drawn:
        return None
    style = figures.styles(row.grid for row in drawn)
    entries = figures.legend_columns([row.grid for row in drawn])
    legend, height = 0.2 + 0.2 * -(-len(drawn) // entries), 2.6
    result = Figure(figsize=(figures.WIDTH * 0.6, legend + height + 0.6))
    axes = result.add_axes(figures.Boxes(result, left=0.75, right=0.35).place(legend, height))
    for row in drawn:
        colour, dash = style[row.grid]
        axes.plot(
            range(len(row.curve)), row.curve, color=colour, linestyle=dash, marker="o", ms=4, label=row.grid
        )
        if row.dimensionality is not None:
            axes.axhline(SHARE * row.curve[-1], color=colour, linestyle=":", lw=1.0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("hyperparameters that are tuned on each task")
    axes.set_ylabel("normalised score")
    result.legend(
        loc="upper left", bbox_to_anchor=(0.65 / result.get_figwidth(), 1.0), ncols=entries, frameon=False
    )
    return result

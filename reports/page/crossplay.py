"""The crossplay matrices as tables for a terminal, as a table of a report and as one figure.

Rows are the adversaries of a cell, columns the agents of a cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table as TerminalTable

from ascent.records import files, layout
from ascent.records.plan import seed_ranges
from ascent.reports.page import figures
from ascent.reports.page.formats import interval, mean_text, number
from ascent.reports.page.table import Column, Table, make_table
from ascent.reports.statistics.crossplay import Crossplay, Matrix, Played, matrices
from ascent.reports.statistics.crossplay_table import read
from ascent.reports.statistics.intervals import FEW_SEEDS, LEVEL, Mean

MOST_INCHES = 100  # width of a figure in a report
GAP = 0.35  # inches between panels


@dataclass(frozen=True)
class Entry:
    """One number of a pair of cells."""

    played: Played
    matrix: Matrix
    row: int
    column: int

    @property
    def mean(self) -> Mean:
        """The mean over seeds with its limits."""
        return self.matrix.entry(self.row, self.column)


def entries(crossplay: Crossplay) -> Table:
    """Return the table of all matrices of a report: a row per task, number and pair of cells."""
    columns: list[Column[Entry]] = [
        Column(lambda entry: entry.played.task.suite, "suite"),
        Column(
            lambda entry: entry.played.task.name, "task", "task", lambda entry: entry.played.task.title
        ),
        Column(lambda entry: entry.matrix.title, "number", "number"),
        Column(lambda entry: entry.matrix.names[entry.row], "adversaries", "adversaries"),
        Column(lambda entry: entry.played.cells[entry.row], "adversaries_digest"),
        Column(lambda entry: entry.matrix.names[entry.column], "agents", "agents"),
        Column(lambda entry: entry.played.cells[entry.column], "agents_digest"),
        Column(lambda entry: len(entry.played.seeds), "n"),
        Column(lambda entry: entry.played.episodes, "episodes"),
        Column(
            lambda entry: entry.mean.value, "mean", "mean",
            lambda entry: mean_text(entry.mean, entry.matrix.places), numeric=True,
        ),
        Column(lambda entry: entry.mean.low, "low"),
        Column(lambda entry: entry.mean.high, "high"),
        Column(lambda entry: entry.mean.no_limits, "no_limits", optional=True),
        Column(lambda entry: len(entry.played.seeds), head="n", numeric=True),
    ]  # fmt: skip
    rows = [
        Entry(played, matrix, row, column)
        for played in crossplay.played
        for matrix in played.matrices
        for row, column in np.ndindex(matrix.mean.shape)
    ]
    return make_table("crossplay", "All pairs", rows, columns)


def caption(records: pd.DataFrame) -> str:
    """Return one line that describes the matrices."""
    seeds = sorted(set(records["seed"]))
    few = f"; fewer than {FEW_SEEDS} seeds" if len(seeds) < FEW_SEEDS else ""
    return (
        f"rows: adversaries, columns: agents; seed k against seed k, seeds {seed_ranges(seeds)}; greedy, "
        f"{records['episodes'].iloc[0]} episodes per seed; mean [{LEVEL:.0%} Student-t interval]; "
        f"no interval: one seed, or more than half of them equal{few}"
    )


def terminal(matrix: Matrix) -> TerminalTable:
    """Return a matrix for a terminal."""
    result = TerminalTable(title=matrix.title, title_justify="left", box=None, pad_edge=False)
    result.add_column("adversaries \\ agents", no_wrap=True)
    for name in matrix.names:
        result.add_column(name, justify="right", no_wrap=True)
    for row, name in enumerate(matrix.names):
        result.add_row(name, *(_lines(matrix, row, column) for column in range(len(matrix.names))))
    return result


def _lines(matrix: Matrix, row: int, column: int) -> str:
    """Return the mean and, on a second line, its interval or "no interval"; tables have the reason."""
    mean = matrix.entry(row, column)
    return f"{number(mean.value, matrix.places)}\n{interval(mean.low, mean.high, matrix.places)}"


def shade(matrix: Matrix, row: int, column: int) -> float:
    """Return where a mean stands between the smallest, 0, and the largest, 1, of its matrix."""
    low, high = float(matrix.mean.min()), float(matrix.mean.max())
    return 0.5 if low == high else (float(matrix.mean[row, column]) - low) / (high - low)


def images(panels: list[Matrix]) -> dict[str, bytes]:
    """Return the figure of all matrices as crossplay.png and crossplay.pdf."""
    with figures.drawing():
        drawn = figure(panels)
        return {f"crossplay.{form}": figures.encode(drawn, form) for form in ("png", "pdf")}


def figure(panels: Sequence[Matrix]) -> Figure:
    """Draw the matrices side by side, a panel each. Call within `figures.drawing()`."""
    left, size = _sizes(panels)
    top, bottom = 0.75, 0.35  # inches
    width, height = left + len(panels) * (size + GAP), top + size + bottom
    result = Figure(figsize=(width, height))
    for k, matrix in enumerate(panels):
        place = ((left + k * (size + GAP)) / width, bottom / height, size / width, size / height)
        _draw(result.add_axes(place), matrix, labelled=k == 0)
    return result


def fits(panels: Sequence[Matrix]) -> bool:
    """Return whether a report draws the figure of these matrices: a wider one would be of no use."""
    left, size = _sizes(panels)
    return left + len(panels) * (size + GAP) <= MOST_INCHES


def _sizes(panels: Sequence[Matrix]) -> tuple[float, float]:
    """Return the width of the names beside the panels, and the width of a panel, in inches."""
    names = panels[0].names
    longest = max(map(len, names))
    return 0.45 + 0.075 * longest, max(1.15, 0.09 * longest) * len(names)


def _draw(axes: Axes, matrix: Matrix, labelled: bool) -> None:
    """Draw one matrix; its colours span its own smallest to largest mean."""
    axes.grid(False)
    axes.imshow(matrix.mean, cmap=sns.color_palette("Blues", as_cmap=True), aspect="auto")
    middle = (matrix.mean.min() + matrix.mean.max()) / 2
    for row, column in np.ndindex(matrix.mean.shape):
        text = _lines(matrix, row, column)
        colour = "white" if matrix.mean[row, column] > middle else "black"
        axes.text(column, row, text, ha="center", va="center", fontsize=7, color=colour)
    places = range(len(matrix.names))
    axes.set_xticks(places, matrix.names)
    axes.set_yticks(places, matrix.names if labelled else [])
    axes.set_title(matrix.title, fontsize=9, loc="left", pad=22)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.set_xlabel("agents", color="#333333")
    axes.set_ylabel("adversaries" if labelled else "", color="#333333")
    for spine in axes.spines.values():
        spine.set_visible(False)


def write(records: bytes, folder: Path) -> tuple[pd.DataFrame, list[Matrix]]:
    """Write records with the figures of their matrices to a folder; return both.

    Raises:
        ValueError: a number in the records is not finite.
    """
    table = read(records)
    numbers = matrices(table)
    contents = {**images(numbers), layout.CROSSPLAY: records}  # the records last: they complete the folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.write(folder / name, content)
    return table, numbers

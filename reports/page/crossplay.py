"""The crossplay matrices as tables for a terminal and as one figure.

Rows are the adversaries of a cell, columns the agents of a cell.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ascent.records import files
from ascent.records.plan import seed_ranges
from ascent.reports.page import figures
from ascent.reports.page.formats import limits
from ascent.reports.statistics.crossplay import TABLE, Matrix, matrices, read
from ascent.reports.statistics.intervals import FEW_SEEDS, LEVEL


def caption(records: pd.DataFrame) -> str:
    """Return one line that describes the matrices."""
    seeds = sorted(set(records["seed"]))
    few = f"; fewer than {FEW_SEEDS} seeds" if len(seeds) < FEW_SEEDS else ""
    return (
        f"rows: adversaries, columns: agents; seed k against seed k, seeds {seed_ranges(seeds)}; greedy, "
        f"{records['episodes'].iloc[0]} episodes per seed; mean [{LEVEL:.0%} Student-t interval]{few}"
    )


def table(matrix: Matrix) -> Table:
    """Return a matrix for a terminal."""
    result = Table(title=matrix.title, title_justify="left", box=None, pad_edge=False)
    result.add_column("adversaries \\ agents", no_wrap=True)
    for name in matrix.names:
        result.add_column(name, justify="right", no_wrap=True)
    for row, name in enumerate(matrix.names):
        result.add_row(name, *(_text(matrix, row, column) for column in range(len(matrix.names))))
    return result


def _text(matrix: Matrix, row: int, column: int) -> str:
    """Return the mean and, on a second line, its interval."""
    mean, low, high = (float(values[row, column]) for values in (matrix.mean, matrix.low, matrix.high))
    return limits(mean, low, high, matrix.places).replace(" [", "\n[")


def images(panels: list[Matrix]) -> dict[str, bytes]:
    """Return the figure of all matrices as crossplay.png and crossplay.pdf."""
    with figures.drawing():
        drawn = figure(panels)
        return {f"crossplay.{form}": figures.encode(drawn, form) for form in ("png", "pdf")}


def figure(panels: list[Matrix]) -> Figure:
    """Draw the matrices side by side, a panel each. Call within `figures.drawing()`."""
    names = panels[0].names
    longest = max(map(len, names))
    size, gap, top, bottom = max(1.15, 0.09 * longest) * len(names), 0.35, 0.75, 0.35  # inches
    left = 0.45 + 0.075 * longest
    width, height = left + len(panels) * (size + gap), top + size + bottom
    result = Figure(figsize=(width, height))
    for k, matrix in enumerate(panels):
        place = ((left + k * (size + gap)) / width, bottom / height, size / width, size / height)
        _draw(result.add_axes(place), matrix, labelled=k == 0)
    return result


def _draw(axes: Axes, matrix: Matrix, labelled: bool) -> None:
    """Draw one matrix; its colours span its own smallest to largest mean."""
    axes.grid(False)
    axes.imshow(matrix.mean, cmap=sns.color_palette("Blues", as_cmap=True), aspect="auto")
    middle = (matrix.mean.min() + matrix.mean.max()) / 2
    for row, column in np.ndindex(matrix.mean.shape):
        text = _text(matrix, row, column)
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
    contents = {**images(numbers), TABLE: records}  # the records last: they complete the folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.write(folder / name, content)
    return table, numbers

"""Crossplay: from the records of `ascent.runners.crossplay` to its matrices, as tables and as one figure.

A row is a cell's adversaries, a column a cell's agents; what stands there is a mean over seeds with its
Student-t interval.
"""

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from ascent.records import files
from ascent.reports.page import figures
from ascent.reports.page.tables import limits, seed_ranges
from ascent.reports.statistics import stats

# What says whose numbers a row has; the other columns are the numbers.
_KEYS = {
    "task": str, "adversaries": str, "adversaries_cell": str, "adversaries_policy": str, "agents": str,
    "agents_cell": str, "agents_policy": str, "seed": int, "episodes": int,
}  # fmt: skip


@dataclass(frozen=True)
class Matrix:
    """One number of every pair: means over seeds (R, C) with their limits, NaN for a single seed."""

    title: str
    names: list[str]  # of the cells, rows and columns alike
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def places(self) -> int:
        """Decimals for four significant figures of the largest mean, at most four."""
        largest = np.abs(self.mean).max()
        return 1 if largest == 0 else min(max(3 - math.floor(math.log10(largest)), 0), 4)


def read(records: bytes) -> pd.DataFrame:
    """The records, a row for each pair and seed."""
    return pd.read_csv(io.BytesIO(records), dtype=_KEYS)


def matrices(records: pd.DataFrame) -> list[Matrix]:
    """One for each number that was recorded: the sides' returns, then the task's measures.

    Raises ValueError if a number is not finite.
    """
    names = list(dict.fromkeys(records["adversaries"]))
    found = []
    for column in records.columns.drop(list(_KEYS)):
        table = records.pivot(index="seed", columns=["adversaries", "agents"], values=column)
        sample = np.array([[table[row, name] for name in names] for row in names])  # (R, C, n)
        sample = np.moveaxis(sample, 2, 0)
        title = column.replace("_", " ")
        found.append(Matrix(title, names, sample.mean(axis=0), *stats.student_t_interval(sample)))
    return found


def caption(records: pd.DataFrame) -> str:
    """What was played, in one line."""
    seeds = sorted(set(records["seed"]))
    few = f"; fewer than {stats.FEW_SEEDS} seeds" if len(seeds) < stats.FEW_SEEDS else ""
    return (
        f"rows: adversaries, columns: agents; seed k against seed k, seeds {seed_ranges(seeds)}; greedy, "
        f"{records['episodes'].iloc[0]} episodes per seed; mean [{stats.LEVEL:.0%} Student-t interval]{few}"
    )


def table(matrix: Matrix) -> Table:
    """A matrix for a terminal."""
    result = Table(title=matrix.title, title_justify="left", box=None, pad_edge=False)
    result.add_column("adversaries \\ agents", no_wrap=True)
    for name in matrix.names:
        result.add_column(name, justify="right", no_wrap=True)
    for row, name in enumerate(matrix.names):
        result.add_row(name, *(_text(matrix, row, column) for column in range(len(matrix.names))))
    return result


def _text(matrix: Matrix, row: int, column: int) -> str:
    """The mean, and below it the interval."""
    values = (float(x[row, column]) for x in (matrix.mean, matrix.low, matrix.high))
    return limits(*values, matrix.places).replace(" [", "\n[")


def images(found: list[Matrix]) -> dict[str, bytes]:
    """The figure of all matrices, by the name of its file: crossplay.png and crossplay.pdf."""
    with figures.drawing():
        drawn = figure(found)
        return {f"crossplay.{form}": figures.encode(drawn, form) for form in ("png", "pdf")}


def figure(found: list[Matrix]) -> Figure:
    """A panel for each matrix, side by side; call it within `figures.drawing()`."""
    names = found[0].names
    longest = max(map(len, names))
    size, gap, top, bottom = max(1.15, 0.09 * longest) * len(names), 0.35, 0.75, 0.35  # inches
    left = 0.45 + 0.075 * longest
    width, height = left + len(found) * (size + gap), top + size + bottom
    result = Figure(figsize=(width, height))
    for k, matrix in enumerate(found):
        place = ((left + k * (size + gap)) / width, bottom / height, size / width, size / height)
        _draw(result.add_axes(place), matrix, labelled=k == 0)
    return result


def _draw(axes: Axes, matrix: Matrix, labelled: bool) -> None:
    """Colours from the smallest to the largest mean of this matrix alone."""
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
    found = matrices(table)
    contents = {**images(found), "crossplay.csv": records}  # the records last: they complete the folder
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        files.write(folder / name, content)
    return table, found

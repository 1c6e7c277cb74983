"""Crossplay matrices: mean returns of every pair of cells on a competitive task, from `ascent crossplay`.

Rows are the adversaries of a cell, columns the agents of a cell; entries are means over seeds with their
Student-t intervals.
"""

import io
import math
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ascent.reports.statistics.intervals import student_t_interval

TABLE = "crossplay.csv"  # in the folder that `ascent crossplay` writes
# Columns that identify a row; all others hold numbers.
_KEYS = {
    "task": str, "adversaries": str, "adversaries_cell": str, "adversaries_policy": str, "agents": str,
    "agents_cell": str, "agents_policy": str, "seed": int, "episodes": int,
}  # fmt: skip


@dataclass(frozen=True)
class Matrix:
    """One number of every pair of cells: means over seeds (R, C) and their limits, NaN for a single seed."""

    title: str
    names: list[str]  # of the cells, for rows and columns
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    @property
    def places(self) -> int:
        """Decimal places for four significant figures of the largest mean, at most four."""
        largest = np.abs(self.mean).max()
        return 1 if largest == 0 else min(max(3 - math.floor(math.log10(largest)), 0), 4)


def read(records: bytes) -> pd.DataFrame:
    """Read crossplay.csv, which has one row per pair of cells and seed."""
    return pd.read_csv(io.BytesIO(records), dtype=_KEYS)


def matrices(records: pd.DataFrame) -> list[Matrix]:
    """Return one matrix per recorded number: the returns of both sides, then the measures of the task.

    Raises:
        ValueError: a number is not finite.
    """
    names = list(dict.fromkeys(records["adversaries"]))
    result = []
    for column in records.columns.drop(list(_KEYS)):
        table = records.pivot(index="seed", columns=["adversaries", "agents"], values=column)
        sample = np.array([[table[row, name] for name in names] for row in names])  # (R, C, n)
        sample = np.moveaxis(sample, 2, 0)
        title = column.replace("_", " ")
        low, high = student_t_interval(sample)
        result.append(Matrix(title, names, sample.mean(axis=0), low, high))
    return result

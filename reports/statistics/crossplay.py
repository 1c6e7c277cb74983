"""Crossplay matrices: mean returns of every pair of cells on a competitive task, from `ascent crossplay`.

Rows are the adversaries of a cell, columns the agents of a cell; entries are means over seeds with their
Student-t limits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from ascent.records.read import DONE
from ascent.reports.statistics.aggregate import Task
from ascent.reports.statistics.crossplay_table import KEYS, checked, name_of, tables
from ascent.reports.statistics.intervals import Mean, student_t_interval, why_no_limits
from ascent.reports.statistics.perturbed import policy


@dataclass(frozen=True)
class Matrix:
    """One number of every pair of cells: means over seeds (R, C) and their limits.

    Where a mean has no limits, they are NaN and `no_limits` has the reason; it is "" elsewhere.
    """

    title: str
    names: list[str]  # of the cells, for rows and columns
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray
    no_limits: np.ndarray

    def entry(self, row: int, column: int) -> Mean:
        """Return the mean of a pair of cells with its limits."""
        reason = str(self.no_limits[row, column])
        low, high = (None if reason else float(ends[row, column]) for ends in (self.low, self.high))
        return Mean(float(self.mean[row, column]), low, high, reason)

    @property
    def places(self) -> int:
        """Decimal places for four significant figures of the largest mean, at most four."""
        largest = np.abs(self.mean).max()
        return 1 if largest == 0 else min(max(3 - math.floor(math.log10(largest)), 0), 4)


@dataclass(frozen=True)
class Played:
    """The matrices of a task in a report.

    Attributes:
        task: the task.
        cells: digests of the cells, for rows and columns.
        matrices: one per recorded number; their names are the labels of the report.
        seeds: the seeds that played.
        episodes: per pair of cells and seed.
    """

    task: Task
    cells: tuple[str, ...]
    matrices: tuple[Matrix, ...]
    seeds: tuple[int, ...]
    episodes: int


@dataclass(frozen=True)
class Crossplay:
    """The crossplay of a report.

    Attributes:
        played: of each task that has a table.
        refused: tables that are not used, each as "file: reason".
        files: file below the folder of runs -> sha256.
    """

    played: tuple[Played, ...]
    refused: tuple[str, ...]
    files: dict[str, str]


def crossplays(runs: Path, tasks: Sequence[Task]) -> Crossplay:
    """Read the tables of `ascent crossplay` of all tasks of a report.

    Raises:
        DamagedFile: a table is no regular file, or too large.
    """
    by_place = {(task.suite, task.name): task for task in tasks}
    contents = tables(runs, by_place)
    played, refused = [], []
    for (place, task), content in ((item, contents.get(name_of(*item[0]))) for item in by_place.items()):
        if content is None:
            continue
        summaries = {summary.cell.name.digest: summary for summary in task.cells}
        policies = {
            digest: {run.seed: policy(run.result) for run in summary.cell.runs if run.state == DONE}
            for digest, summary in summaries.items()
        }
        try:
            table = checked(content, task.name, policies)
        except ValueError as error:
            refused.append(f"{name_of(*place)}: {error}")
            continue
        labels = {digest: summary.label for digest, summary in summaries.items()}
        named = table.assign(
            **{side: table[f"{side}_cell"].map(labels) for side in ("adversaries", "agents")}
        )
        played.append(
            Played(
                task,
                tuple(dict.fromkeys(table["adversaries_cell"])),
                tuple(matrices(named)),
                tuple(sorted(set(table["seed"].tolist()))),
                int(table["episodes"].iloc[0]),
            )
        )
    digests = {name: sha256(content).hexdigest() for name, content in contents.items()}
    return Crossplay(tuple(played), tuple(refused), digests)


def matrices(records: pd.DataFrame) -> list[Matrix]:
    """Return one matrix per recorded number: the returns of both sides, then the measures of the task.

    Raises:
        ValueError: a number is not finite.
    """
    names = list(dict.fromkeys(records["adversaries"]))
    result = []
    for column in records.columns.drop(list(KEYS)):
        table = records.pivot(index="seed", columns=["adversaries", "agents"], values=column)
        sample = np.array([[table[row, name] for name in names] for row in names])  # (R, C, n)
        sample = np.moveaxis(sample, 2, 0)
        title = column.replace("_", " ")
        reasons = np.apply_along_axis(lambda scores: np.array(why_no_limits(scores), object), 0, sample)
        low, high = (np.where(reasons == "", ends, np.nan) for ends in student_t_interval(sample))
        result.append(Matrix(title, names, sample.mean(axis=0), low, high, reasons))
    return result

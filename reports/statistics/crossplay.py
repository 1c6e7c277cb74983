"""Crossplay matrices: mean returns of every pair of cells on a competitive task, from `ascent crossplay`.

Rows are the adversaries of a cell, columns the agents of a cell; entries are means over seeds with their
Student-t intervals.
"""

import io
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd

from ascent.records import files, layout
from ascent.records.errors import one_line
from ascent.records.read import DONE
from ascent.reports.statistics.aggregate import Task
from ascent.reports.statistics.intervals import student_t_interval
from ascent.reports.statistics.perturbed import policy

# Columns that identify a row; all others hold numbers.
_KEYS = {
    "task": str, "adversaries": str, "adversaries_cell": str, "adversaries_policy": str, "agents": str,
    "agents_cell": str, "agents_policy": str, "seed": int, "episodes": int,
}  # fmt: skip
_FIRST = [*_KEYS, "adversaries_return", "agents_return"]  # the measures of the task follow
_MEASURE = re.compile(r"[A-Za-z0-9_]{1,40}")
MOST_BYTES = 1 << 26  # of a table
MOST_MEASURES = 20
MOST_SHOWN = 40  # characters of a value in a message
LARGEST = 1e100  # number in a table: the square of a larger one may be infinite


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
    for (place, task), content in ((item, contents.get(_name(*item[0]))) for item in by_place.items()):
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
            refused.append(f"{_name(*place)}: {error}")
            continue
        labels = {digest: summary.label for digest, summary in summaries.items()}
        named = table.assign(**{side: table[f"{side}_cell"].map(labels) for side in ("adversaries", "agents")})
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


def tables(runs: Path, tasks: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """Return file below `runs` -> content of the tables of these tasks, each as (suite, task).

    Raises:
        DamagedFile: a table is no regular file, or too large.
    """
    names = (_name(suite, task) for suite, task in sorted(set(tasks)))
    return {name: files.read(runs / name, MOST_BYTES) for name in names if (runs / name).exists()}


def _name(suite: str, task: str) -> str:
    return f"{suite}/{task}/{layout.CROSSPLAY}"


def read(records: bytes) -> pd.DataFrame:
    """Read crossplay.csv, which has one row per pair of cells and seed. Raises ValueError."""
    types: Mapping[str, type] = defaultdict(lambda: float, _KEYS)
    return pd.read_csv(io.BytesIO(records), dtype=types)


def checked(content: bytes, task: str, policies: Mapping[str, Mapping[int, str]]) -> pd.DataFrame:
    """Read a table that anybody may have made, of all pairs of its cells.

    Args:
        content: of the file.
        task: name of the task.
        policies: cell digest -> seed -> how tables name the final policy (`perturbed.policy`).

    Raises:
        ValueError: the table is not used; the message has the reason.
    """
    _check_columns(content.partition(b"\n")[0])
    try:
        table = read(content)
    except (ValueError, OverflowError) as error:
        raise ValueError("not a table of `ascent crossplay`: a value has the wrong type") from error
    if table.empty or not isinstance(table.index, pd.RangeIndex):  # a row is longer than the header
        raise ValueError("not a table of `ascent crossplay`: a row has too many values, or there is none")
    numbers = table[table.columns.drop(list(_KEYS))].to_numpy()
    if not (np.abs(numbers) <= LARGEST).all():
        raise ValueError("contains a number that is not finite")
    if set(table["task"]) != {task} or table["episodes"].nunique() != 1 or table["episodes"].iloc[0] < 1:
        raise ValueError("is of another task, or mixes numbers of episodes")
    for side in ("adversaries", "agents"):
        rows = table[[f"{side}_cell", "seed", f"{side}_policy"]].drop_duplicates()
        for digest, seed, name in rows.itertuples(index=False):
            _check_player(task, digest, seed, name, policies)
    cells = table["adversaries_cell"].unique()
    pairs = ["adversaries_cell", "agents_cell", "seed"]
    if table.duplicated(pairs).any() or len(table) != len(cells) ** 2 * table["seed"].nunique():
        raise ValueError("does not have every pair of its cells once for every seed")
    if set(cells) != set(table["agents_cell"]):
        raise ValueError("has other cells as adversaries than as agents")
    return table


def _check_columns(header: bytes) -> None:
    names = header[:10_000].decode(errors="replace").rstrip("\r").split(",")
    measures = names[len(_FIRST) :]
    known = names[: len(_FIRST)] == _FIRST and len(set(names)) == len(names)
    if not known or len(measures) > MOST_MEASURES or not all(map(_MEASURE.fullmatch, measures)):
        raise ValueError("not a table of `ascent crossplay`: wrong columns")


def _check_player(
    task: str, digest: object, seed: int, name: object, policies: Mapping[str, Mapping[int, str]]
) -> None:
    """Raise ValueError unless a policy is the final one of a known run."""
    shown = one_line(str(digest), MOST_SHOWN)
    known = policies.get(str(digest))
    if known is None:
        raise ValueError(f"cell {shown} is not among the cells here")
    if seed not in known:
        raise ValueError(f"seed {seed} of cell {shown} is not among the finished runs here")
    if known[seed] != name:
        raise ValueError(
            f"was played by another policy than that of seed {seed} of cell {shown}: "
            f"run `ascent crossplay {task}` again"
        )


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

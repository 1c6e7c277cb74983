"""The tables of `ascent crossplay`: returns of every pair of cells of a task, seed by seed."""

import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from ascent.records import files, layout
from ascent.records.errors import one_line

# Columns that identify a row; all others hold numbers.
KEYS = {
    "task": str, "adversaries": str, "adversaries_cell": str, "adversaries_policy": str, "agents": str,
    "agents_cell": str, "agents_policy": str, "seed": int, "episodes": int,
}  # fmt: skip
_FIRST = [*KEYS, "adversaries_return", "agents_return"]  # the measures of the task follow
_MEASURE = re.compile(r"[A-Za-z0-9_]{1,40}")
MOST_BYTES = 1 << 26  # of a table
MOST_MEASURES = 20
MOST_SHOWN = 40  # characters of a value in a message
LARGEST = 1e100  # number in a table: the square of a larger one may be infinite


def tables(runs: Path, tasks: Iterable[tuple[str, str]]) -> dict[str, bytes]:
    """Return file below `runs` -> content of the tables of these tasks, each as (suite, task).

    Raises:
        DamagedFile: a table is no regular file, or too large.
    """
    names = (name_of(suite, task) for suite, task in sorted(set(tasks)))
    return {name: files.read(runs / name, MOST_BYTES) for name in names if (runs / name).exists()}


def name_of(suite: str, task: str) -> str:
    """Return the place of a task's table below the folder of runs."""
    return f"{suite}/{task}/{layout.CROSSPLAY}"


def read(records: bytes) -> pd.DataFrame:
    """Read crossplay.csv, which has one row per pair of cells and seed. Raises ValueError."""
    types: Mapping[str, type] = defaultdict(lambda: float, KEYS)
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
    numbers = table[table.columns.drop(list(KEYS))].to_numpy()
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

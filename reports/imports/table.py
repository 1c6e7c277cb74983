"""Tables in long form, as CSV or as a JSON list of objects: a row per seed and evaluation, or per episode.

The columns are seed, step, return, and episode where a row is one; --seed-column, --step-column and --column
name others. Without a column of seeds, a file is one run, and a row without a return is no point.
"""

import json
from collections.abc import Sequence
from typing import Any

import pandas as pd

from ascent.records.errors import InputError
from ascent.reports.imports.curve import (
    COLUMNS,
    Asked,
    Curve,
    File,
    Format,
    logged,
    missing_column,
    number,
    points,
    read_table,
    real,
    whole,
)

SEED, STEP, RETURN, EPISODE = "seed", "step", "return", "episode"
MAX_JSON = 1 << 24  # bytes
MOST_TEXT = 100  # characters of a field
MEAN_AND_SPREAD = "±".encode()


def _read(sources: Sequence[File], asked: Asked) -> list[Curve]:
    (file,) = sources
    step, column = asked.step or STEP, asked.column or RETURN
    if file.head.lstrip()[:1] == b"[":
        table = _json(file, [step, column], asked.seed or SEED)
    else:
        table = _csv(file, asked, step, column)
    seeds = asked.seed or SEED
    if seeds not in table.columns:
        return [_one_run(table, step, column, file.name, asked)]
    rows = pd.DataFrame({"seed": whole(table[seeds], file.name), "step": whole(table[step], file.name)})
    rows["return"] = real(table[column], file.name)
    rows["episode"] = whole(table[EPISODE], file.name) if EPISODE in table.columns else 0
    rows = rows[table[column].notna().to_numpy()]  # an empty field: nothing was logged
    _refuse_twice(rows, file.name)
    found = []
    for seed, curve in rows.sort_values(["seed", "step", "episode"]).groupby("seed"):
        name = f"{file.name}, seed {seed}"
        curve_points = points(curve["step"].to_numpy(), curve["return"].to_numpy(), name)
        curve_points["episode"] = curve["episode"].to_numpy()
        found.append(Curve(name, curve_points[COLUMNS], int(seed), EPISODE in table.columns))
    if not found:
        raise InputError(f"{file.name}: column {column} is empty")
    return found


def _one_run(table: pd.DataFrame, step: str, column: str, name: str, asked: Asked) -> Curve:
    curve = logged(table, step, column, name)
    if (curve["episode"] > 0).any() and EPISODE not in table.columns:
        twice = curve["step"][curve["episode"] > 0].iloc[0]
        raise InputError(f"{name} has step {twice} twice: name the column of the seeds by --seed-column")
    return Curve(name, curve, episodes=EPISODE in table.columns)


def _csv(file: File, asked: Asked, step: str, column: str) -> pd.DataFrame:
    content = file.read()
    if content.lstrip()[:1] == b"{":
        raise InputError(f"{file.name} is no CSV file: it holds JSON")
    if MEAN_AND_SPREAD in file.head:
        raise InputError(
            f"{file.name} holds means over runs, and a mean is not seeds: give the curves of the runs"
        )
    seed = [asked.seed] if asked.seed else [SEED] if SEED in file.columns else []
    episode = [EPISODE] if EPISODE in file.columns else []
    return read_table(content, file.name, [step, column, *seed, *episode])


def _json(file: File, wanted: Sequence[str], seed: str) -> pd.DataFrame:
    """Return a JSON list of objects as a table. Raises InputError, whatever the size of the file."""
    refused = f"{file.name} is no CSV file: it holds a JSON list"
    content = file.read()
    if len(content) > MAX_JSON:
        raise InputError(f"{refused}, of {len(content):,} bytes: at most {MAX_JSON:,} are read")
    try:
        rows = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file.name} holds damaged JSON: {error}") from error
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{refused}, and not one of objects")
    names = list(dict.fromkeys(name for row in rows[:100] for name in row))
    if seed not in names:
        # Such as Tianshou's result.json, whose returns are means over the runs of each agent.
        raise InputError(
            f"{refused} without a {seed} in its objects: it may hold means, and a mean is not seeds"
        )
    for name in wanted:
        if name not in names:
            raise missing_column(name, names, file.name)
    kept = [*wanted, seed, *([EPISODE] if EPISODE in names else [])]
    return pd.DataFrame([{name: _plain(row.get(name)) for name in kept} for row in rows])


def _plain(value: Any) -> float | str | None:
    """Return a value of JSON as a field of a table: what is neither a number nor a text becomes one."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return number(value)
    return value if value is None else str(value)[:MOST_TEXT]


def _refuse_twice(rows: pd.DataFrame, name: str) -> None:
    """Raise InputError if a seed has a step, or an episode of it, twice."""
    repeated = rows.duplicated(["seed", "step", "episode"])
    if not repeated.any():
        return
    row = rows[repeated].iloc[0]
    evaluation = rows[(rows["seed"] == row["seed"]) & (rows["step"] == row["step"])]
    what = f"step {row['step']:.0f}"
    if not evaluation.duplicated("episode", keep=False).all():
        what = f"episode {row['episode']:.0f} of {what}"
    raise InputError(f"{name}: seed {row['seed']:.0f} has {what} twice")


def _is_table(file: File, asked: Asked) -> bool:
    """Return whether a file has the columns of a table that can be read as it is."""
    return {asked.step or STEP, asked.column or RETURN} <= {*file.columns}


TABLE = Format(
    "csv",
    "a CSV file, or a JSON list, with the columns seed, step, return",
    _is_table,
    _read,
)

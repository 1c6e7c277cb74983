"""Parse the tables of runs without trusting them."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from pyarrow import csv

from ascent.records import compact, layout
from ascent.records.run_reader import Columns, wide
from ascent.records.tables import EARLY_MEASURES, EPISODE_TABLES, GRADIENTS, HEADERS, VALUES

_TEXT = {"policy", "event", "digest", "measure"}  # columns of text
_PLACES = ("step", "bin", "episodes")  # whole numbers beside numbers of any kind


def table(name: str, data: bytes, task_columns: tuple[str, ...]) -> Columns:
    """Parse the table `name` of a run. Raises ValueError if the content is not such a table."""
    if name == layout.METRICS and not data:
        return {"step": np.array([], np.int64)}  # the run has had no update
    columns = _parsed(name, data, task_columns)
    return wide(columns) if "measure" in columns else columns


def together(name: str, contents: Sequence[bytes], task_columns: tuple[str, ...]) -> list[Columns] | None:
    """Parse the table `name` of several runs at once; None if one of them needs a look of its own."""
    heads = {data.partition(b"\n")[0] for data in contents}
    if len(heads) != 1 or not all(data.endswith(b"\n") for data in contents):
        return None
    bodies = [data.partition(b"\n")[2] for data in contents]
    if any(mark in body for body in bodies for mark in (b'"', b"\r")):  # which may hide or add rows
        return None
    try:
        columns = _parsed(name, heads.pop() + b"\n" + b"".join(bodies), task_columns)
        ends = np.cumsum([body.count(b"\n") for body in bodies])
        if len(next(iter(columns.values()))) != ends[-1]:
            return None
        parts = {column: np.split(values, ends[:-1]) for column, values in columns.items()}
        tables = [{column: of_run[k] for column, of_run in parts.items()} for k in range(len(contents))]
        return [wide(of_run) if "measure" in of_run else of_run for of_run in tables]
    except ValueError:
        return None


def _header(name: str, task_columns: tuple[str, ...]) -> list[str]:
    """Return the columns of a table; [] if they depend on the algorithm."""
    episodes = [*HEADERS[layout.TRAIN], *task_columns]
    if name in layout.COMPACT:
        return episodes if name == layout.TRAIN_LAST else compact.header(episodes)
    return [*HEADERS[name], *(task_columns if name in EPISODE_TABLES else ())]


def _parsed(name: str, data: bytes, task_columns: tuple[str, ...]) -> Columns:
    """Return the columns of a table as they are. Raises ValueError."""
    if not data.endswith(b"\n"):
        raise ValueError("the last line is incomplete")
    names = data.partition(b"\n")[0].decode().split(",")
    early = name == layout.MEASURES and names == list(EARLY_MEASURES)
    expected = names if early else _header(name, task_columns) or names
    if names != expected or names[0] not in ("step", "bin") or len(set(names)) < len(names):
        raise ValueError(f"unexpected header {','.join(names)!r}")
    numbers = ("return", "value", *task_columns, *VALUES, *GRADIENTS)
    types: dict[str, pa.DataType] = {}
    for column in names:
        if column in _TEXT:
            types[column] = pa.string()
        elif column in numbers or (name in (layout.METRICS, layout.TRAIN_BINS) and column not in _PLACES):
            types[column] = pa.float64()
        else:
            types[column] = pa.int64()
    options = csv.ConvertOptions(column_types=types, null_values=["nan", *([""] if early else [])])
    parsed = csv.read_csv(
        pa.BufferReader(data),
        csv.ReadOptions(use_threads=False),
        csv.ParseOptions(ignore_empty_lines=False),
        options,
    )
    if parsed.column_names != names:
        raise ValueError(f"unexpected header {','.join(names)!r}")
    for column, kind in types.items():
        if kind != pa.float64() and parsed[column].null_count:
            raise ValueError(f"a value of {column} is missing")
    return {column: parsed[column].to_numpy() for column in names}

"""Read and check the files of a cell's runs: digests, tables and JSON records."""

import json
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from ascent.records import files, layout, shapes
from ascent.records.errors import DamagedFile
from ascent.records.store import Store
from ascent.records.tables import EARLY_MEASURES, GRADIENTS, MEASURED, VALUES

MOST_MEASURES = 200  # of a run
MOST_RETURN = 1e100  # beyond which sums and squares are not finite
LAST_EPISODES = 100  # training episodes that are read, the last ones
Columns = dict[str, np.ndarray]  # a table, by column
COUNTS = ("value_states", "gradient_windows")  # measures that are whole numbers
_MEASURE_TYPES = {
    name: pa.float64() if name in (*VALUES, *GRADIENTS) else pa.int64() for name in EARLY_MEASURES
}
_LONG_TYPES = {"step": pa.int64(), "measure": pa.string(), "value": pa.float64()}
_EVALUATION_TYPES = {
    "step": pa.int64(), "policy": pa.dictionary(pa.int32(), pa.string()), "episode": pa.int64(),
    "return": pa.float64(), "length": pa.int64(),
}  # fmt: skip


class Damaged(Exception):
    """A record that cannot be trusted. The message names the file, relative to its run or cell."""


class RunReader:
    """The files of a cell's runs. Methods raise Damaged if a file cannot be read."""

    def __init__(self, cell: Path) -> None:
        self.store = Store(cell)

    def has(self, seed: int, file: str = "") -> bool:
        """Return whether a run has a file or, without a name, whether there is such a run."""
        try:
            return self.store.has(seed, file)
        except DamagedFile as error:
            raise Damaged(str(error)) from error

    def read(self, seed: int, file: str) -> bytes:
        """Return the content of a run's file."""
        try:
            return self.store.read(seed, file)
        except DamagedFile as error:
            raise Damaged(str(error)) from error
        except OSError as error:
            raise Damaged(f"{file}: unreadable ({error.strerror})") from error

    def json(self, seed: int, file: str) -> dict[str, Any]:
        """Return the JSON object in a run's file."""
        return _parse_json(self.read(seed, file), file)

    def training(self, seed: int) -> bytes:
        """Return train.csv or, in a compact record, its last rows."""
        return self.read(seed, layout.TRAIN if self.has(seed, layout.TRAIN) else layout.TRAIN_LAST)

    def check_digests(self, seed: int, result: dict[str, Any]) -> None:
        """Compare the tables with their digests in result.json: one that is missing or differs is damage."""
        digests, compact = result.get("digests"), result.get("compact")
        if not isinstance(digests, dict) or layout.EVAL not in digests:
            raise Damaged(f"{layout.RESULT}: lacks a digest for {layout.EVAL}")
        if isinstance(compact, dict) and not self.has(seed, layout.TRAIN):
            digests = {name: digest for name, digest in digests.items() if name != layout.TRAIN} | compact
        for file in sorted(name for name in digests if name.endswith(".csv")):
            data = self.read(seed, file)
            if sha256(data).hexdigest() != digests[file]:
                ends = files.line_ends(data, digests[file])
                raise Damaged(f"{file}: sha256 differs from {layout.RESULT}{ends}")


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in a file. Raises Damaged if there is none."""
    try:
        return _parse_json(files.read(path), path.name)
    except DamagedFile as error:
        raise Damaged(str(error)) from error
    except OSError as error:
        raise Damaged(f"{path.name}: unreadable ({error.strerror})") from error


def _parse_json(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{name}: unreadable (not JSON)") from error
    if not isinstance(content, dict):
        raise Damaged(f"{name}: not a JSON object")
    try:
        shapes.check(name, content)
    except DamagedFile as error:
        raise Damaged(str(error)) from error
    return content


def evaluations(content: bytes, done: bool, measures: Sequence[str]) -> Columns:
    """Return step, policy, episode, return, length and the task's measures of eval.csv, checked.

    `done` says that the run is not one that diverged: then a value that is not finite is an error.

    Raises:
        Damaged: the table is malformed, or holds what a run does not write.
    """
    try:
        table = _read_table(content, _EVALUATION_TYPES | dict.fromkeys(measures, pa.float64()))
        rows = {name: _array(table[name]) for name in table.column_names}
    except ValueError as error:
        raise Damaged(f"{layout.EVAL}: malformed table of evaluations") from error
    keys = [rows["policy"], rows["step"], rows["episode"]]
    order = np.lexsort(keys)
    if np.all([key[order][1:] == key[order][:-1] for key in keys], axis=0).any():
        raise Damaged(f"{layout.EVAL}: an episode is listed twice")
    finite = np.abs(rows["return"]) < MOST_RETURN
    # A diverged run may have recorded what it diverged to; in one that is done it is a silent failure.
    if done and not finite.all():
        raise Damaged(f"{layout.EVAL}: a return is not finite, although the status is done")
    for name in measures if done else ():
        if not (np.abs(rows[name]) < MOST_RETURN).all():
            raise Damaged(f"{layout.EVAL}: {name} is not finite, although the status is done")
    greedy = rows["step"][(rows["policy"] == "greedy") & finite]
    if not len(greedy):
        raise Damaged(f"{layout.EVAL}: no finite greedy evaluation")
    if done and greedy.max() == 0:
        raise Damaged(f"{layout.EVAL}: no greedy evaluation after step 0")
    return rows


def last_training_episodes(content: bytes, done: bool, measures: Sequence[str]) -> Columns:
    """Return the last training episodes in train.csv, at most LAST_EPISODES, as they ended.

    Columns: return, and the task's measures.

    Raises:
        Damaged: the table is malformed, or a value is not finite although the run is `done`.
    """
    try:
        table = _read_table(content, dict.fromkeys(["return", *measures], pa.float64()))
    except ValueError as error:
        raise Damaged(f"{layout.TRAIN}: malformed table of training episodes") from error
    table = table.slice(max(0, len(table) - LAST_EPISODES))
    last = {name: _array(table[name]) for name in table.column_names}
    for name, values in last.items() if done else ():
        if not (np.abs(values) < MOST_RETURN).all():
            what = "a return" if name == "return" else name
            raise Damaged(f"{layout.TRAIN}: {what} is not finite, although the status is done")
    return last


def measures(content: bytes) -> pd.DataFrame:
    """Return measures.csv with a row per evaluation: step, and a column per measure, NaN where it is not.

    Raises:
        Damaged: the table is malformed, or lists a measure of a step twice.
    """
    early = content.partition(b"\n")[0].decode(errors="replace") == ",".join(EARLY_MEASURES)
    try:
        if early:
            return _read_table(content, _MEASURE_TYPES, null_values=[""]).to_pandas()
        rows = _read_table(content, _LONG_TYPES)
        table = pd.DataFrame(wide({name: rows[name].to_numpy() for name in rows.column_names}))
    except ValueError as error:
        raise Damaged(f"{layout.MEASURES}: malformed table of measures") from error
    return table.assign(**{name: table[name].fillna(0).astype("int64") for name in COUNTS})


def wide(rows: Columns) -> Columns:
    """Return measures.csv with a row per evaluation and a column per measure, NaN where it is not.

    Raises:
        ValueError: a measure of a step is listed twice.
    """
    steps, row = np.unique(rows["step"], return_inverse=True)
    measured, column = np.unique(rows["measure"].astype(str), return_inverse=True)
    names = measured.tolist()
    if len(names) > MOST_MEASURES:
        raise ValueError(f"{len(names):,} measures: at most {MOST_MEASURES}")
    place = row * len(names) + column
    if len(np.unique(place)) < len(place):
        raise ValueError("a measure of a step is listed twice")
    values = np.full(len(steps) * len(names), np.nan)
    values[place] = rows["value"]
    table = dict(zip(names, values.reshape(len(steps), -1).T, strict=True))
    others = [name for name in names if name not in MEASURED]
    nothing = np.full(len(steps), np.nan)
    return {"step": steps} | {name: table.get(name, nothing) for name in (*MEASURED, *others)}


def _array(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers or, of a dictionary, as text."""
    if not pa.types.is_dictionary(column.type):
        return column.to_numpy()
    text = column.unify_dictionaries().combine_chunks()
    return np.array(text.dictionary.to_pylist(), dtype=str)[text.indices.to_numpy()]


def _read_table(content: bytes, types: dict[str, pa.DataType], null_values: Sequence[str] = ()) -> pa.Table:
    """Return these columns of a CSV. Raises ValueError."""
    options = csv.ConvertOptions(
        include_columns=list(types), column_types=types, null_values=list(null_values)
    )
    try:
        return csv.read_csv(
            pa.BufferReader(content), csv.ReadOptions(use_threads=False), convert_options=options
        )
    except KeyError as error:
        raise ValueError(str(error)) from error

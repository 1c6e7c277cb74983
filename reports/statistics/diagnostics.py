"""Diagnostics of training: the metrics of the updates and the measures at evaluations, over steps.

They explain scores and are no results: nothing here is tested or ranked.
"""

import io
from collections.abc import Sequence

import numpy as np
import pandas as pd

from ascent.records.read import RunRecord
from ascent.records.run_reader import Columns, Damaged
from ascent.reports.statistics.aggregate import CellSummary, Task

MOST_NAMES = 60  # metrics of an algorithm: the columns of a stranger's table may be any number
Line = tuple[np.ndarray, np.ndarray]  # steps (P,) and medians over seeds (P,)
Lines = dict[str, Line]  # by system
Diagnostics = dict[str, Lines]  # metric or measure -> its lines


def diagnostics(task: Task) -> Diagnostics:
    """Return the metrics and measures of a task's cells: medians over the seeds that have a value."""
    found: Diagnostics = {}
    for summary in task.cells:
        for name, line in _medians(summary).items():
            found.setdefault(name, {})[summary.label] = line
    return {name: found[name] for name in sorted(found)}


def _medians(summary: CellSummary) -> Lines:
    """Return the line of each metric and measure of a cell that has at least two points."""
    runs = [run for run in summary.cell.runs if run.finished]
    tables = [*map(_metrics, runs), *map(_measures, runs)]
    names = list(dict.fromkeys(name for table in tables for name in table if name != "step"))
    lines = {name: _median([table for table in tables if name in table], name) for name in names[:MOST_NAMES]}
    return {name: line for name, line in lines.items() if len(line[0]) > 1}


def _median(tables: Sequence[Columns], name: str) -> Line:
    """Return the median of a column at each step at which a table has a finite value."""
    steps = np.unique(np.concatenate([table["step"] for table in tables]))
    values = np.full((len(tables), len(steps)), np.nan)
    for row, table in zip(values, tables, strict=True):
        # Of a step that is listed twice, the first row counts.
        row[np.searchsorted(steps, table["step"][::-1])] = table[name][::-1]
    values[~np.isfinite(values)] = np.nan
    some = ~np.isnan(values).all(axis=0)
    return steps[some], np.nanmedian(values[:, some], axis=0)


def _metrics(run: RunRecord) -> Columns:
    """Return metrics.csv; nothing where there is none that can be read, which `ascent check` tells."""
    try:
        table = pd.read_csv(io.BytesIO(run.metrics), nrows=100_000)
    except (ValueError, pd.errors.ParserError):
        return {}
    return _columns(table)


def _measures(run: RunRecord) -> Columns:
    try:
        return {} if run.measures is None else _columns(run.measures)
    except Damaged:
        return {}


def _columns(table: pd.DataFrame) -> Columns:
    """Return the columns of a table as numbers, NaN where there is none; rows without a step are left out."""
    if "step" not in table:
        return {}
    columns = {name: pd.to_numeric(column, errors="coerce").to_numpy() for name, column in table.items()}
    rows = ~np.isnan(columns["step"])
    return {str(name): column[rows] for name, column in columns.items()}

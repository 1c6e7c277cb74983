"""Diagnostics of training: the metrics of the updates and the measures at evaluations, over steps.

They explain scores and are no results: nothing here is tested or ranked.
"""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from ascent.records.read import RunRecord
from ascent.records.run_reader import Damaged
from ascent.reports.statistics.aggregate import CellSummary, Task

MOST_NAMES = 60  # metrics of an algorithm: the columns of a stranger's table may be any number
Lines = dict[str, tuple[np.ndarray, np.ndarray]]  # system -> steps (P,) and medians over seeds (P,)
Diagnostics = dict[str, Lines]  # metric or measure -> its lines


def diagnostics(task: Task) -> Diagnostics:
    """Return the metrics and measures of a task's cells: medians over the seeds that have a value."""
    found: Diagnostics = {}
    for summary in task.cells:
        for name, medians in _medians(summary).items():
            found.setdefault(name, {})[summary.label] = (medians.index.to_numpy(), medians.to_numpy())
    return {name: found[name] for name in sorted(found)}


def _medians(summary: CellSummary) -> dict[str, pd.Series]:
    runs = [run for run in summary.cell.runs if run.finished]
    tables = [*_tables(map(_metrics, runs)), *_tables(map(_measures, runs))]
    names = dict.fromkeys(name for table in tables for name in table)
    medians = {}
    for name in list(names)[:MOST_NAMES]:
        columns = pd.concat([table[name] for table in tables if name in table], axis=1)
        median = columns.median(axis=1).dropna().sort_index()
        if len(median) > 1:
            medians[name] = median
    return medians


def _tables(tables: Iterable[pd.DataFrame | None]) -> Sequence[pd.DataFrame]:
    """Return the tables by step, without values that are not finite."""
    kept = [table for table in tables if table is not None and "step" in table]
    by_step = [table.drop_duplicates("step").set_index("step") for table in kept]
    return [table.where(np.isfinite(table)) for table in by_step]


def _metrics(run: RunRecord) -> pd.DataFrame | None:
    """Return metrics.csv; None where there is none that can be read, which `ascent check` tells."""
    try:
        table = pd.read_csv(io.BytesIO(run.metrics), nrows=100_000)
    except (ValueError, pd.errors.ParserError):
        return None
    numbers = table.apply(pd.to_numeric, errors="coerce")
    return numbers.dropna(subset=["step"]) if "step" in numbers else None


def _measures(run: RunRecord) -> pd.DataFrame | None:
    try:
        return run.measures
    except Damaged:
        return None

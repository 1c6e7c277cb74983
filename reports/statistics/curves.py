"""The learning curves of cells as one table."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ascent.records.expected import cell_columns
from ascent.records.read import CellRecord


def evaluation_means(cells: Sequence[CellRecord]) -> pd.DataFrame:
    """Return the mean evaluation returns of all finished runs, one row per run, policy and step.

    Columns suite, task, system, preset, digest, name if a sweep names systems, seed, state, policy, step,
    episodes, return, length, and the measures of the tasks.
    """
    names = list(cell_columns(cell.name for cell in cells))
    runs = [(cell, run) for cell in cells for run in cell.runs if run.finished]
    means = ["policy", "step", "episodes", "return", "length"]
    means += sorted({name for cell, _ in runs for name in cell.measures})
    if not runs:
        return pd.DataFrame(columns=[*names, "seed", "state", *means])
    rows = [len(run.means["step"]) for _, run in runs]
    columns = {name: np.repeat([getattr(cell.name, name) for cell, _ in runs], rows) for name in names}
    columns["seed"] = np.repeat([run.seed for _, run in runs], rows)
    columns["state"] = np.repeat([run.state for _, run in runs], rows)
    for name in means:  # NaN where a task lacks the measure
        parts = [run.means.get(name, np.full(n, np.nan)) for (_, run), n in zip(runs, rows, strict=True)]
        columns[name] = np.concatenate(parts)
    return pd.DataFrame(columns)

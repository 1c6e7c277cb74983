"""The records of a folder as data frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ascent.records.expected import cell_columns
from ascent.records.read import CellRecord, load
from ascent.reports.statistics.curves import evaluation_means


@dataclass(frozen=True)
class Frames:
    """The records of a folder: data frames that share the column `digest` of a cell, and `seed` of a run.

    Where a sweep names its systems, all of them have a column `name` as well, after `digest`.

    Attributes:
        cells: suite, task, system, preset, digest, setting, budget, runs and finished runs; a row per cell.
        runs: suite, task, system, preset, digest, seed, state, note, score, steps, wall_s, cpu_s; a row per
            run. `score` is the mean return of the last greedy evaluation.
        curves: suite, task, system, preset, digest, seed, state, policy, step, episodes, return, length and
            the measures of the tasks, which are means over episodes; a row per run, policy and evaluation.
        episodes: the same names, then seed, step, policy, episode, return, length and the measures; a row per
            evaluation episode.
    """

    cells: pd.DataFrame
    runs: pd.DataFrame
    curves: pd.DataFrame
    episodes: pd.DataFrame


def read(runs: Path) -> Frames:
    """Return the records of all cells in a folder as data frames.

    Raises:
        ValueError: there are no runs.
    """
    cells = load(runs)
    names = cell_columns(cell.name for cell in cells)
    return Frames(_cells(cells, names), _runs(cells, names), evaluation_means(cells), _episodes(cells, names))


def _names(cell: CellRecord, names: Sequence[str]) -> dict[str, str]:
    return {name: getattr(cell.name, name) for name in names}


def _cells(cells: list[CellRecord], names: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(
        _names(cell, names)
        | {"setting": cell.setting, "budget": cell.facts.get("steps")}
        | {"runs": len(cell.runs), "finished": cell.finished}
        for cell in cells
    )


def _runs(cells: list[CellRecord], names: Sequence[str]) -> pd.DataFrame:
    rows = []
    for cell in cells:
        for run in cell.runs:
            attempts = run.about.get("attempts") or []
            used = {name: sum(attempt.get(name) or 0 for attempt in attempts) for name in ("wall_s", "cpu_s")}
            facts = {"seed": run.seed, "state": run.state, "note": run.note}
            facts |= {name: run.result.get(name) for name in ("score", "steps")}
            rows.append(_names(cell, names) | facts | used)
    return pd.DataFrame(rows)


def _episodes(cells: list[CellRecord], names: Sequence[str]) -> pd.DataFrame:
    tables = []
    for cell in cells:
        for run in cell.runs:
            if run.evaluations is not None:
                named = {**_names(cell, names), "seed": run.seed}
                tables.append(pd.DataFrame(run.evaluations).assign(**named))
    if not tables:
        return pd.DataFrame(columns=[*names, "seed", "step", "policy", "episode", "return", "length"])
    table = pd.concat(tables, ignore_index=True)
    first = [*names, "seed"]
    return table[[*first, *(name for name in table.columns if name not in first)]]

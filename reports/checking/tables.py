"""Play tables of `ascent robustness` and `ascent crossplay` again, and compare: a part of the depth `policy`.

Of a cell's robustness tables two are played again, with all their episodes: the nominal task, and one that is
drawn at random.
"""

import random
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from ascent.records import files, layout
from ascent.records.errors import InputError
from ascent.records.read import DONE
from ascent.reports.checking import folder
from ascent.reports.checking.check import check
from ascent.reports.checking.differences import first_difference
from ascent.reports.checking.folder import CellFiles
from ascent.reports.checking.grades import RECORDED, REPLAYED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.replaying import CannotVerify, played, refuse_many
from ascent.reports.checking.retraining import platform_key
from ascent.reports.statistics import crossplay_table, perturbed

HARMLESS = ("clean-tree", "one-configuration")  # rules that do not say whether a record is intact


def replay_robustness(cell: CellFiles) -> list[Outcome]:
    """Play two robustness tables of a cell again; nothing if it has none."""
    names = sorted(name for name in perturbed.files(cell.path) if name != perturbed.GRID)
    if not names:
        return []
    where = f"{cell.name}/{layout.ROBUSTNESS}"
    nominal = f"{perturbed.NOMINAL}-0.csv"
    others = [name for name in names if name != nominal]
    tables = [nominal, *random.sample(others, min(1, len(others)))]
    runs = [run for run in cell.finished if run.result["status"] == DONE]
    differences = []
    try:
        for name in tables:
            path = cell.path / layout.ROBUSTNESS / name
            kind, level, means = perturbed.read_scores(path)
            recorded = files.read(path).decode().splitlines()
            episodes = (len(recorded) - 1) // len(means)
            refuse_many(episodes)
            output = played({"folder": str(cell.path), "level": [kind, level], "episodes": episodes}, runs[0])
            difference = first_difference(name, recorded, output["table"].splitlines(), REPLAYED)
            if difference and {platform_key(run) for run in runs} != {output["platform"]}:
                raise CannotVerify(f"this machine is {output['platform']}: {difference}")
            differences += [difference] if difference else []
    except CannotVerify as error:
        return [Outcome(where, CANNOT, str(error))]
    if differences:
        return [Outcome(where, DIFFERS, "\n".join(differences))]
    words = f"{' and '.join(tables)}, of {len(names)} tables, come out again"
    return [Outcome(where, REPLAYED, words)]


def replay_crossplay(table: Path, runs: Path) -> Outcome:
    """Play the matrices of `ascent crossplay` in a file again, with the policies in a folder of records.

    The cells must keep the rules of `check`.

    Raises:
        InputError: the file is no such table.
    """
    try:
        records = crossplay_table.read(files.read(table.resolve()))
        task, episodes = str(records["task"].iloc[0]), int(records["episodes"].iloc[0])
        cells = list(dict.fromkeys(records["adversaries_cell"]))
        if not all(re.fullmatch("[0-9a-f]+", digest) for digest in cells):
            raise ValueError("a cell is not named by its digest")
        seeds = sorted({int(seed) for seed in records["seed"]})
    except (OSError, ValueError, LookupError, pd.errors.ParserError) as error:
        raise InputError(f"{table} is not a table of `ascent crossplay`: {folder.readable(error)}") from error
    job = {"runs": str(runs), "task": task, "cells": cells, "seeds": seeds, "episodes": episodes}
    where = str(table)
    try:
        refuse_many(episodes)
        folders = _folders(runs, cells)
        checked = check(runs, cells={folder.cell_name(path): seeds for path in folders})
        for outcome in (outcome for outcome in checked.outcomes if outcome.rule not in HARMLESS):
            for finding in (finding for finding in outcome.findings if not finding.note):
                return Outcome(where, DIFFERS, f"{outcome.rule}: {finding.where}: {finding.what}")
        run = folder.load(folders[0]).finished[0]
        output = played(job, run)
    except CannotVerify as error:
        return Outcome(where, CANNOT, str(error))
    lines = files.read(table.resolve()).decode().splitlines()
    difference = first_difference(table.name, lines, output["table"].splitlines(), REPLAYED)
    if difference and platform_key(run) != output["platform"]:
        return Outcome(where, CANNOT, f"this machine is {output['platform']}: {difference}")
    same = f"all {len(lines) - 1} rows come out again"
    unknown = tuple(name for name, words in checked.grades.items() if words != RECORDED)
    return Outcome(where, DIFFERS if difference else REPLAYED, difference or same, unknown)


def _folders(runs: Path, digests: Sequence[str]) -> list[Path]:
    """Return the folders of the cells with these digests. Raises CannotVerify."""
    paths = [path.parent for digest in digests for path in runs.glob(f"*/*/*-{digest}/{layout.CELL}")]
    if len(paths) < len(digests):
        raise CannotVerify(f"{runs} lacks runs of its cells; give their folder with --runs")
    return paths

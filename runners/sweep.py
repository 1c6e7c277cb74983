"""Sweeps: TOML files that list cells of the benchmark and their seeds.

title = "PPO and DQN on CartPole"
seeds = "0-9"
evaluations = 50          # optional: evaluations over the budget; default: 50
episodes = 10             # optional: episodes per evaluation; default: 10
measures = ["gradient_variance"]  # optional: costly measures, for the algorithms that have them

[report]                  # optional: what the report will say, declared before the first run
estimator = "final"       # of the headline numbers, a name in ESTIMATORS; default: mean_of_last_ten
score = "return"          # or a measure that all tasks have, such as "reached", or a table task = "measure"
baseline = "ppo"          # compare every system with this one; default: compare all pairs. One setting of a
                          # system is named so: "ppo (cleanrl)" or "ppo (cleanrl with gamma=0.98)"
threshold = 0.9           # normalised score, for the steps until it is reached; default: 0.5

[design]                  # optional: train the seeds in stages, and stop where a comparison is decided
stages = [5, 5, 5, 5]     # seeds per cell and stage; together all seeds
futility = 0.1            # optional: give up comparisons with a smaller chance of a claim; default: 0, none

[[cells]]                 # every algorithm on every task
algorithms = ["ppo", "dqn"]
tasks = ["CartPole-v1"]
steps = 100_000           # optional; default: the task's budget
preset = "zoo"            # optional; default: the algorithm's default preset for the task's suite
set = { gamma = 0.98 }    # optional: hyperparameter overrides

Further tables, such as [claims], are kept: they are part of the plan's digest.
"""

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files, shelf
from ascent.records.cell import Cell, Evaluation, setting
from ascent.records.declared import Declared, Design
from ascent.records.errors import InputError, unknown
from ascent.records.plan import Plan, Planned, check_seeds, parse_seeds

FOLDER = Path(__file__).resolve().parent / "sweeps"
MOST_BYTES = 1 << 24  # of a sweep's file
KEYS: dict[str, type | tuple[type, ...]] = {
    "title": str, "seeds": (str, list), "evaluations": int, "episodes": int, "measures": list,
    "report": dict, "design": dict, "cells": list,
}  # fmt: skip
REPORT_KEYS: dict[str, type | tuple[type, ...]] = {
    "estimator": str,
    "score": (str, dict),
    "baseline": str,
    "threshold": (float, int),
}
CELL_KEYS: dict[str, type | tuple[type, ...]] = {
    "algorithms": list,
    "tasks": list,
    "steps": int,
    "preset": str,
    "set": dict,
}

TOML_TYPES = {str: "a string", list: "an array", dict: "a table", int: "an integer", float: "a float"}


@dataclass(frozen=True)
class Sweep:
    """A named set of cells with their seeds."""

    name: str
    title: str
    planned: tuple[Planned, ...]
    declared: Declared = field(default_factory=Declared)
    tables: dict[str, Any] = field(default_factory=dict)  # further tables of the file, for later versions

    @property
    def plan(self) -> Plan:
        """What the sweep declares."""
        return Plan(self.planned, self.declared, self.tables)


def names() -> list[str]:
    """Return the names of the sweeps that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name_or_file: str) -> Path:
    """Return the TOML file of a sweep, given its name or its file. Raises InputError for an unknown name."""
    if name_or_file.endswith(".toml"):
        return Path(name_or_file)
    if name_or_file not in names():
        raise unknown("sweep", name_or_file, names())
    return FOLDER / f"{name_or_file}.toml"


def digest(path: Path) -> str:
    """Return eight hex digits that change with the file's text. Raises InputError if it cannot be read."""
    try:
        return sha256(files.read(path.resolve(), MOST_BYTES)).hexdigest()[:8]
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def load(name_or_file: str) -> Sweep:
    """Return a sweep, given its name or its TOML file. Raises InputError that names the file and the key."""
    path = find(name_or_file)
    content = _read(path)
    try:
        return _parse(path.stem, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def summary(name: str) -> tuple[str, int]:
    """Return the title and the number of runs of a sweep that comes with the project; this needs no torch."""
    content = _read(find(name))
    cells = sum(len(block["algorithms"]) * len(block["tasks"]) for block in content["cells"])
    return content["title"], cells * len(_seeds(content))


def _read(path: Path) -> dict[str, Any]:
    try:
        content = files.read(path.resolve(), MOST_BYTES)
        return tomllib.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: {error}") from error


def _seeds(content: dict[str, Any]) -> Sequence[int]:
    seeds = content["seeds"]
    return parse_seeds(seeds) if isinstance(seeds, str) else seeds


def _parse(name: str, content: dict[str, Any]) -> Sweep:
    try:  # resolving needs torch; the name of a sweep does not
        from ascent.runners.measures import requested
        from ascent.runners.resolve import resolve
    except ModuleNotFoundError as error:
        raise InputError(
            f"its cells cannot be resolved without {error.name}: run `ascent plan` where it is installed"
        ) from error
    tables = {name: value for name, value in content.items() if _is_further_table(name, value)}
    content = {name: value for name, value in content.items() if name not in tables}
    _check(content, KEYS, required=("seeds", "cells"))
    if "design" in content:
        tables["design"] = content["design"]
    seeds = _seeds(content)
    check_seeds(seeds)
    _check_design(Design.of(tables), seeds)
    default = Evaluation()
    evaluation = Evaluation(
        content.get("evaluations", default.points), content.get("episodes", default.episodes)
    )
    measures = content.get("measures", [])
    if not all(isinstance(name, str) for name in measures):
        raise InputError(f"measures must be names, not {measures!r}")
    report = content.get("report", {})
    _check(report, REPORT_KEYS, required=())
    declared = Declared(**report)
    cells: dict[str, Cell] = {}
    for block in content["cells"]:
        _check(block, CELL_KEYS, required=("algorithms", "tasks"))
        for key in ("algorithms", "tasks"):
            if not all(isinstance(name, str) for name in block[key]):
                raise InputError(f"{key} must be names, not {block[key]!r}")
        for task in block["tasks"]:
            for system in block["algorithms"]:
                cell = resolve(
                    system,
                    task,
                    preset=block.get("preset"),
                    overrides=block.get("set"),
                    steps=block.get("steps"),
                    evaluation=evaluation,
                    measures=requested(system, measures),
                )
                if cell.digest in cells:
                    raise InputError(f"{cell.label()} is listed twice")
                cells[cell.digest] = cell
    if not cells:
        raise InputError("cells: none are listed")
    _check_baseline(declared, cells.values())
    _check_scores(declared, sorted({cell.task for cell in cells.values()}))
    for measure in measures:
        if not any(measure in cell.measures for cell in cells.values()):
            raise InputError(f"measures: none of these algorithms has {measure}")
    planned = tuple(Planned(cell, tuple(seeds)) for cell in cells.values())
    return Sweep(name, content.get("title", name), planned, declared, tables)


def _is_further_table(name: str, value: object) -> bool:
    """Return whether a key of the file is a table, or an array of tables, that no key is misspelt as."""
    rows = value if isinstance(value, list) and value else [value]
    return all(isinstance(row, dict) for row in rows) and not get_close_matches(name, KEYS, cutoff=0.7)


def _check_design(design: Design | None, seeds: Sequence[int]) -> None:
    """Raise InputError unless the stages of a design have the sweep's seeds."""
    if design and design.ends[-1] != len(seeds):
        raise InputError(f"design: the stages have {design.ends[-1]} seeds, but the sweep has {len(seeds)}")


def _check_baseline(declared: Declared, cells: Iterable[Cell]) -> None:
    """Raise InputError if a baseline is declared of which a task has no cell."""
    from ascent.runners.resolve import describe

    if not declared.baseline:
        return
    named = [
        (cell.task, cell.system, setting(cell.preset, describe(cell).get("changed", {}))) for cell in cells
    ]
    covered = {task for task, *name in named if declared.is_baseline(*name)}
    if not covered:
        systems = {system for _, system, _ in named}
        settings = {f"{system} ({words})" for _, system, words in named}
        raise unknown("baseline", declared.baseline, sorted(systems) + sorted(settings))
    if lacking := sorted({task for task, *_ in named} - covered):
        raise InputError(f"baseline {declared.baseline!r} has no cell on {', '.join(lacking)}")


def _check_scores(declared: Declared, tasks: Sequence[str]) -> None:
    """Raise InputError unless the declared scores are measures of the sweep's tasks, or their returns."""
    from ascent import suites

    for task in declared.score if isinstance(declared.score, dict) else ():
        if task not in tasks:
            raise unknown("task in score", task, tasks)
    for task in tasks:
        team = suites.TASKS[task].team
        declared.score_of(task, [name for name, _ in team.measures] if team else [])


def _check(values: object, keys: Mapping[str, type | tuple[type, ...]], required: tuple[str, ...]) -> None:
    """Raise InputError unless `values` is a table with these keys, each of its type."""
    if not isinstance(values, dict):
        raise InputError(f"{values!r} must be a table")
    for key, value in values.items():
        if key not in keys:
            raise unknown("key", key, keys)
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise InputError(f"{key} must be {_type_names(keys[key])}, not {value!r}")
    for key in required:
        if key not in values:
            raise InputError(f"missing key {key!r}")


def _type_names(types: type | tuple[type, ...]) -> str:
    """Return the names of types in TOML: "a string or an array"."""
    return " or ".join(TOML_TYPES[kind] for kind in (types if isinstance(types, tuple) else (types,)))


def cell_folders(names_or_cells: Sequence[str], runs: Path) -> list[Path]:
    """Return the folders of cells, each named by a folder, by (the start of) its digest, or by its sweep.

    Raises:
        InputError: a name that is neither a cell below `runs` or on a shelf, nor a sweep.
    """
    folders: list[Path] = []
    for name in names_or_cells:
        if name.endswith(".toml") or name in names():
            folders += [plan.cell.folder(runs) for plan in load(name).planned]
        else:
            folders.append(shelf.find(name, runs))
    return folders

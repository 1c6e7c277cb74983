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
                          # system is named so: "ppo (cleanrl)" or "ppo (cleanrl with gamma=0.98)"; one of
                          # [[systems]] by its name
threshold = 0.9           # normalised score, for the steps until it is reached; default: 0.5

[design]                  # optional: train the seeds in stages, and stop where a comparison is decided
stages = [5, 5, 5, 5]     # seeds per cell and stage; together all seeds
futility = 0.1            # optional: give up comparisons with a smaller chance of a claim; default: 0, none

[[cells]]                 # every algorithm on every task
algorithms = ["ppo", "dqn"]  # or a file of one's own, as seen from this file's folder: "mine.py"
tasks = ["CartPole-v1"]
steps = 100_000           # optional; default: the task's budget
preset = "zoo"            # optional; default: the algorithm's default preset for the task's suite. Or a file
                          # of `ascent tune`, as seen from this file's folder: "tuning/NAME/preset.toml"
set = { gamma = 0.98 }    # optional: hyperparameter overrides

Or, in place of [[cells]], systems with names of their own. A name is what reports, comparisons and the
baseline call the system, on all tasks, whatever its settings there. It is part of the plan, and not of a
cell's digest.

tasks = ["CartPole-v1", "Acrobot-v1"]  # at the top: of all systems without tasks of their own
steps = 100_000           # optional; or by task: { CartPole-v1 = 50_000 }; default: the task's budget

[[systems]]
name = "ppo without clipping"  # letters, digits, blanks, ()[]=.,+_-
algorithm = "ppo"         # or a file of one's own, as above
preset = "cleanrl"        # optional, as above
set = { clip = 1e9 }      # optional
tasks = ["CartPole-v1"]   # optional
on.CartPole-v1 = { preset = "zoo", set = { gamma = 0.98 } }  # optional: what differs on one task
grid = { learning_rate = [1e-3, 3e-4] }  # optional: every combination of these values is a system, named
                          # "ppo without clipping learning_rate=0.001" and so on

Further tables, such as [claims], are kept: they are part of the plan's digest.
"""

import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files, shelf
from ascent.records.cell import Evaluation, setting
from ascent.records.declared import Declared, Design
from ascent.records.errors import InputError, unknown
from ascent.records.plan import Plan, Planned, check_seeds, parse_seeds
from ascent.runners import own, presets
from ascent.runners.entries import Types, check_table, entries

FOLDER = Path(__file__).resolve().parent / "sweeps"
MOST_BYTES = 1 << 24  # of a sweep's file
KEYS: dict[str, Types] = {
    "title": str, "seeds": (str, list), "evaluations": int, "episodes": int, "measures": list,
    "report": dict, "design": dict, "cells": list, "systems": list, "tasks": list, "steps": (int, dict),
    "environments": list,
}  # fmt: skip
REPORT_KEYS: dict[str, Types] = {
    "estimator": str,
    "score": (str, dict),
    "baseline": str,
    "threshold": (float, int),
}


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
        return Plan(self.planned, self.declared, self.tables, self.name)


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
        return _parse(path.stem, content, path.parent)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def algorithm_files(name_or_file: str) -> list[Path]:
    """Return the algorithms' files from outside the suite that a sweep names; this needs no torch.

    An invalid sweep names none: `load` says what is wrong with it.
    """
    path = find(name_or_file)
    try:
        words = {own.located(entry.algorithm, path.parent) for entry in entries(_read(path))}
    except (InputError, LookupError, TypeError, AttributeError):
        return []
    return sorted(file for word in words if (file := own.file_of(word)))


def preset_files(name_or_file: str) -> list[Path]:
    """Return the files of presets that a sweep names; an invalid sweep names none, as above."""
    path = find(name_or_file)
    try:
        words = {presets.located(entry.preset, path.parent) for entry in entries(_read(path))}
        return sorted({Path(word) for word in words if word and presets.is_file(word)})
    except (InputError, LookupError, TypeError, AttributeError):
        return []


def summary(name: str) -> tuple[str, int]:
    """Return the title and the number of runs of a sweep that comes with the project; this needs no torch."""
    content = _read(find(name))
    return content["title"], len(entries(content)) * len(_seeds(content))


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


def _parse(name: str, content: dict[str, Any], folder: Path) -> Sweep:
    try:  # resolving needs torch; the name of a sweep does not
        from ascent.runners import environments
        from ascent.runners.measures import requested
        from ascent.runners.resolve import resolve
    except ModuleNotFoundError as error:
        raise InputError(
            f"its cells cannot be resolved without {error.name}: run `ascent plan` where it is installed"
        ) from error
    tables = {name: value for name, value in content.items() if _is_further_table(name, value)}
    content = {name: value for name, value in content.items() if name not in tables}
    check_table(content, KEYS, required=("seeds",))
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
    check_table(report, REPORT_KEYS, required=())
    declared = Declared(**report)
    foreign = environments.table(content.get("environments", []))
    planned: dict[str, Planned] = {}
    for entry in entries(content):
        algorithm = own.name_of(own.located(entry.algorithm, folder))
        cell = resolve(
            algorithm,
            entry.task,
            preset=presets.located(entry.preset, folder),
            overrides=entry.overrides,
            steps=entry.steps,
            evaluation=evaluation,
            measures=requested(algorithm, measures),
            environment=environments.named(entry.task, foreign),
        )
        plan = Planned(cell, tuple(seeds), entry.name, entry.grid)
        if (same := planned.setdefault(cell.digest, plan)) is not plan:
            raise InputError(
                f"{plan.name!r} and {same.name!r} are the same cell, {cell.label()}"
                if plan.name
                else f"{cell.label()} is listed twice"
            )
    if not planned:
        raise InputError("cells: none are listed")
    cells = [plan.cell for plan in planned.values()]
    _check_baseline(declared, planned.values())
    _check_scores(declared, sorted({cell.task for cell in cells}))
    for measure in measures:
        if not any(measure in cell.measures for cell in cells):
            raise InputError(f"measures: none of these algorithms has {measure}")
    return Sweep(name, content.get("title", name), tuple(planned.values()), declared, tables)


def _is_further_table(name: str, value: object) -> bool:
    """Return whether a key of the file is a table, or an array of tables, that no key is misspelt as."""
    rows = value if isinstance(value, list) and value else [value]
    return all(isinstance(row, dict) for row in rows) and not get_close_matches(name, KEYS, cutoff=0.7)


def _check_design(design: Design | None, seeds: Sequence[int]) -> None:
    """Raise InputError unless the stages of a design have the sweep's seeds."""
    if design and design.ends[-1] != len(seeds):
        raise InputError(f"design: the stages have {design.ends[-1]} seeds, but the sweep has {len(seeds)}")


def _check_baseline(declared: Declared, planned: Iterable[Planned]) -> None:
    """Raise InputError if a baseline is declared of which a task has no cell."""
    from ascent.runners.resolve import describe

    if not declared.baseline:
        return
    valid: list[str] = []
    tasks, covered = set(), set()
    for plan in planned:
        cell = plan.cell
        tasks.add(cell.task)
        if plan.name:
            valid.append(plan.name)
            is_baseline = plan.name == declared.baseline
        else:
            words = setting(cell.preset, describe(cell).get("changed", {}))
            valid += [cell.system, f"{cell.system} ({words})"]
            is_baseline = declared.is_baseline(cell.system, words)
        covered |= {cell.task} if is_baseline else set()
    if not covered:
        raise unknown("baseline", declared.baseline, sorted(set(valid), key=lambda name: ("(" in name, name)))
    if lacking := sorted(tasks - covered):
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

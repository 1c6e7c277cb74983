"""Sweeps: TOML files that name cells of the benchmark and their seeds.

title = "PPO and DQN on CartPole"
seeds = "0-9"
evaluations = 50          # optional: points over the budget, and episodes at each
episodes = 10

[[cells]]                 # every algorithm on every task
algorithms = ["ppo", "dqn"]
tasks = ["CartPole-v1"]
steps = 100_000           # optional: the task's own budget
preset = "classic"        # optional: the one for the task's suite
set = { gamma = 0.98 }    # optional: changes to the preset
"""

import tomllib
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from runners.cell import Cell, Evaluation
from runners.errors import InputError, unknown
from runners.plan import Planned, check_seeds, parse_seeds

FOLDER = Path(__file__).resolve().parent / "sweeps"
KEYS = {"title": str, "seeds": (str, list), "evaluations": int, "episodes": int, "cells": list}
CELL_KEYS = {"algorithms": list, "tasks": list, "steps": int, "preset": str, "set": dict}


@dataclass(frozen=True)
class Sweep:
    """A named set of cells with their seeds."""

    name: str
    title: str
    planned: tuple[Planned, ...]


def names() -> list[str]:
    """The sweeps that come with the project."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find(name_or_file: str) -> Path:
    """The TOML file of a sweep that is named, or named by its file. Raises InputError."""
    if name_or_file.endswith(".toml"):
        return Path(name_or_file)
    if name_or_file not in names():
        raise unknown("sweep", name_or_file, names())
    return FOLDER / f"{name_or_file}.toml"


def digest(path: Path) -> str:
    """Eight hex digits that change with the file's text. Raises InputError if it cannot be read."""
    try:
        return sha256(path.read_bytes()).hexdigest()[:8]
    except OSError as error:
        raise InputError(f"{path}: {error}") from error


def load(name_or_file: str) -> Sweep:
    """A sweep by its name, or from a TOML file. Raises InputError that names the file and the key."""
    path = find(name_or_file)
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: {error}") from error
    try:
        return _parse(path.stem, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _parse(name: str, content: dict) -> Sweep:
    try:  # torch is needed from here on, not for a sweep's name
        from runners.resolve import resolve
    except ModuleNotFoundError as error:
        raise InputError(
            f"its cells cannot be resolved without {error.name}, missing here: `ascent plan` it where it is"
        ) from error
    _check(content, KEYS, required=("seeds", "cells"))
    seeds = content["seeds"]
    if isinstance(seeds, str):
        seeds = parse_seeds(seeds)
    check_seeds(seeds)
    default = Evaluation()
    evaluation = Evaluation(
        content.get("evaluations", default.points), content.get("episodes", default.episodes)
    )
    cells: dict[str, Cell] = {}
    for block in content["cells"]:
        _check(block, CELL_KEYS, required=("algorithms", "tasks"))
        for task in block["tasks"]:
            for system in block["algorithms"]:
                cell = resolve(
                    system,
                    task,
                    preset=block.get("preset"),
                    overrides=block.get("set"),
                    steps=block.get("steps"),
                    evaluation=evaluation,
                )
                if cell.digest in cells:
                    raise InputError(f"{cell.label()} is there twice")
                cells[cell.digest] = cell
    if not cells:
        raise InputError("cells: there are none")
    return Sweep(
        name, content.get("title", name), tuple(Planned(cell, tuple(seeds)) for cell in cells.values())
    )


def _check(values: object, keys: dict[str, object], required: tuple[str, ...]) -> None:
    if not isinstance(values, dict):
        raise InputError(f"{values!r} must be a table")
    for key, value in values.items():
        if key not in keys:
            raise unknown("key", key, keys)
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise InputError(f"{key}: {value!r} is of the wrong type")
    for key in required:
        if key not in values:
            raise InputError(f"{key} is missing")

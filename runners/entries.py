"""What a sweep's file lists, before it is resolved to cells: `[[cells]]`, or `[[systems]]` with names.

Reading the entries needs no torch. `sweep.py` says what a file looks like.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from ascent.records import names
from ascent.records.cell import overrides
from ascent.records.errors import InputError, unknown

MOST_SYSTEMS = 1_000  # of a sweep, with all settings of grids
TOML_TYPES = {str: "a string", list: "an array", dict: "a table", int: "an integer", float: "a float"}
Types = type | tuple[type, ...]

CELL_KEYS: dict[str, Types] = {"algorithms": list, "tasks": list, "steps": int, "preset": str, "set": dict}
SYSTEM_KEYS: dict[str, Types] = {
    "name": str, "algorithm": str, "preset": str, "set": dict, "grid": dict, "tasks": list, "on": dict,
}  # fmt: skip
ON_KEYS: dict[str, Types] = {"preset": str, "set": dict}


@dataclass(frozen=True)
class Entry:
    """One cell as the file has it. `name` and `grid` are those of `plan.Planned`; None means the default."""

    algorithm: str
    task: str
    preset: str | None = None
    steps: int | None = None
    overrides: dict[str, Any] = field(default_factory=dict)
    name: str = ""
    grid: str = ""


def entries(content: Mapping[str, Any]) -> list[Entry]:
    """Return the entries of a sweep's file. Raises InputError that names the culprit."""
    if ("cells" in content) == ("systems" in content):
        raise InputError("a sweep has either [[cells]] or [[systems]]")
    if "cells" in content:
        for key in ("tasks", "steps"):
            if key in content:
                raise InputError(f"{key} at the top is for [[systems]]: each of [[cells]] has its own")
        return [entry for block in content["cells"] for entry in _of_cells(block)]
    return _of_systems(content)


def check_table(values: object, keys: Mapping[str, Types], required: tuple[str, ...]) -> None:
    """Raise InputError unless `values` is a table with these keys, each of its type."""
    if not isinstance(values, dict):
        raise InputError(f"{values!r} must be a table")
    for key, value in values.items():
        if key not in keys:
            raise unknown("key", key, keys)
        if not isinstance(value, keys[key]) or isinstance(value, bool):
            raise InputError(f"{key} must be {type_names(keys[key])}, not {value!r}")
    for key in required:
        if key not in values:
            raise InputError(f"missing key {key!r}")


def type_names(types: Types) -> str:
    """Return the names of types in TOML: "a string or an array"."""
    return " or ".join(TOML_TYPES[kind] for kind in (types if isinstance(types, tuple) else (types,)))


def _of_cells(block: Any) -> Iterator[Entry]:
    """Yield every algorithm on every task of one of [[cells]]."""
    check_table(block, CELL_KEYS, required=("algorithms", "tasks"))
    for key in ("algorithms", "tasks"):
        _check_strings(key, block[key])
    for task in block["tasks"]:
        for algorithm in block["algorithms"]:
            yield Entry(algorithm, task, block.get("preset"), block.get("steps"), block.get("set", {}))


def _of_systems(content: Mapping[str, Any]) -> list[Entry]:
    """Return every setting of all [[systems]], task by task."""
    _check_strings("tasks", content.get("tasks", []))
    by_name: dict[str, list[Entry]] = {}
    settings = 0
    for system in content["systems"]:
        check_table(system, SYSTEM_KEYS, required=("name", "algorithm"))
        name = system["name"]
        names.check([name])
        try:
            settings += _settings(system)
            if settings > MOST_SYSTEMS:
                raise InputError(f"with its settings, the sweep has more than {MOST_SYSTEMS:,} systems")
            own: dict[str, list[Entry]] = {}
            for entry in _of_system(system, content):
                own.setdefault(entry.name, []).append(entry)
        except InputError as error:
            raise InputError(f"system {name!r}: {error}") from error
        for double in own.keys() & by_name.keys():
            raise InputError(f"two systems have the name {double!r}")
        by_name |= own
    names.check(by_name)
    found = [entry for group in by_name.values() for entry in group]
    tasks = list(dict.fromkeys(entry.task for entry in found))
    steps = content.get("steps")
    for task in steps if isinstance(steps, dict) else ():
        if task not in tasks:
            raise unknown("task in steps", task, tasks)
    return sorted(found, key=lambda entry: tasks.index(entry.task))


def _settings(system: Mapping[str, Any]) -> int:
    """Return the number of settings in a system's grid; 1 without a grid."""
    grid = system.get("grid")
    if grid is None:
        return 1
    if not grid:
        raise InputError("grid has no hyperparameters")
    for key, values in grid.items():
        if not isinstance(values, list) or not values:
            raise InputError(f"grid: {key} must be an array of values, not {values!r}")
        for value in values:
            parts = value if isinstance(value, list) else [value]
            if not all(isinstance(part, str | int | float) for part in parts):
                raise InputError(f"grid: {key} has {value!r}, which is no number, text or list of them")
            if values.count(value) > 1:
                raise InputError(f"grid: {key} has {value!r} twice")
    return math.prod(map(len, grid.values()))


def _of_system(system: Mapping[str, Any], content: Mapping[str, Any]) -> Iterator[Entry]:
    """Yield every setting of one of [[systems]] on each of its tasks."""
    name, grid = system["name"], system.get("grid", {})
    tasks = system.get("tasks", content.get("tasks"))
    if not tasks:
        raise InputError("no tasks: list them at the top of the file, or here")
    _check_strings("tasks", tasks)
    if double := next((task for task in tasks if tasks.count(task) > 1), None):
        raise InputError(f"tasks: {double} is listed twice")
    special = system.get("on", {})
    for task, changes in special.items():
        if task not in tasks:
            raise unknown("task in on", task, tasks)
        check_table(changes, ON_KEYS, required=())
    for task in tasks:
        changes = special.get(task, {})
        fixed = {**system.get("set", {}), **changes.get("set", {})}
        if both := sorted(fixed.keys() & grid.keys()):
            raise InputError(f"{both[0]} is in grid and in set")
        for values in product(*grid.values()):
            point = dict(zip(grid, values, strict=True))
            steps = content.get("steps")
            yield Entry(
                algorithm=system["algorithm"],
                task=task,
                preset=changes.get("preset", system.get("preset")),
                steps=steps.get(task) if isinstance(steps, dict) else steps,
                overrides={**fixed, **point},
                name=f"{name} {', '.join(overrides(point))}".rstrip(),
                grid=name if grid else "",
            )


def _check_strings(key: str, values: object) -> None:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InputError(f"{key} must be names, not {values!r}")

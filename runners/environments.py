"""Environments from outside this project: how a user names one, and who may import its module.

A task is named by an environment's id (`gym:LunarLander-v3`), or by what an installed package declares in the
group `ascent.tasks` of its entry points: a `suites.Foreign`. The cell keeps the whole declaration, so that a
training process, which knows nothing but the cell, makes the same environment.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from importlib.metadata import entry_points

from ascent import suites
from ascent.records.cell import Cell
from ascent.records.errors import InputError, unknown
from ascent.suites import Foreign
from ascent.suites.foreign import said

GROUP = "ascent.tasks"


def names() -> list[str]:
    """Return the names of the tasks that installed packages declare; this imports nothing of them."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def declaration(task: str) -> Foreign | None:
    """Return what declares a foreign task, named by an environment's id or an entry point; None for others.

    Raises:
        InputError: an entry point that cannot be imported, or is no `Foreign`.
    """
    if suites.is_foreign(task):
        return Foreign(task)
    if known := suites.foreign_task(task):
        return known.foreign
    if task in suites.TASKS:
        return None
    entry = next((entry for entry in entry_points(group=GROUP) if entry.name == task), None)
    if entry is None:
        return None
    where = f"task {task!r}, which {entry.dist.name if entry.dist else 'a package'} declares as {entry.value}"
    try:
        declared = entry.load()
    except Exception as error:
        raise InputError(f"{where}: {said(error)}") from error
    if not isinstance(declared, Foreign):
        raise InputError(f"{where}, is not an ascent.suites.Foreign, but {type(declared).__name__}")
    return replace(declared, name=task)


def table(rows: Sequence[object]) -> dict[str, Foreign]:
    """Return what the `[[environments]]` of a sweep declare, by name. Raises InputError for anything else."""
    found: dict[str, Foreign] = {}
    keys = {"steps": "budget"} | {each.name: each.name for each in fields(Foreign) if each.name != "budget"}
    for row in rows:
        if not isinstance(row, dict):
            raise InputError(f"environments: {row!r} must be a table")
        for key in row:
            if key not in keys:
                raise unknown("key of environments", key, keys)
        if not all(isinstance(row.get(key), str) and row[key] for key in ("name", "id")):
            raise InputError("environments: each needs a name and an id")
        name = row["name"]
        if name in found or name in suites.TASKS:
            raise InputError(f"environments: there is another task {name!r}")
        try:
            found[name] = Foreign(**{keys[key]: value for key, value in row.items()})
        except ValueError as error:
            raise InputError(f"environment {name!r}: {error}") from error
    return found


def named(task: str, declared: Mapping[str, Foreign]) -> Foreign | None:
    """Return what declares a task in a sweep with these `[[environments]]`; None for a task of this project.

    Raises:
        InputError: there is no such task; the nearest one may be one of the sweep's.
    """
    found = declared.get(task) or declaration(task)
    if found is None and task not in suites.TASKS:
        raise unknown("task", task, [*declared, *valid_names()])
    return found


def valid_names() -> list[str]:
    """Return the names of all tasks of this project and of installed packages."""
    return [*(task for task in suites.TASKS if suites.foreign_task(task) is None), *names()]


def add(declared: Foreign) -> str:
    """Make an environment a task of this process and return the task's name. This runs code of its module.

    Raises:
        InputError: it is unknown or not supported, or fails when it is tried.
    """
    try:
        task = suites.add(declared)
        suites.guarantee(task)
    except (ValueError, suites.EnvironmentFailed) as error:
        raise InputError(str(error)) from error
    return task


def admit(cell: Cell) -> None:
    """Make the environment of a cell a task of this process, if it is a foreign one. This runs its code: call
    it for the user's own cells, or with the user's consent.

    Raises:
        InputError: it cannot be made here, or the cell is not named after it.
    """
    if cell.environment is None:
        return
    try:
        declared = Foreign(**cell.environment)
    except (TypeError, ValueError) as error:
        raise InputError(f"{cell.label()}: environment: {error}") from error
    if (declared.suite, declared.task) != (cell.suite, cell.task):
        raise InputError(f"{cell.label()} is not named after its environment, {declared.id}")
    add(declared)


def refuse(cell: Cell, what: str) -> None:
    """Raise InputError for a cell with a foreign environment: `what` is not done with it."""
    if cell.environment is not None:
        raise InputError(f"{cell.label()}: {what}: its environment {cell.environment['id']} is foreign code")

"""Environments from outside this project: how a user names one, and who may import its module.

A task is named by an environment's id (`gym:LunarLander-v3`), or by what an installed package declares in the
group `ascent.tasks` of its entry points: a `suites.Foreign`. The cell keeps the whole declaration, so that a
training process, which knows nothing but the cell, makes the same environment.
"""

from dataclasses import replace
from importlib.metadata import entry_points

from ascent import suites
from ascent.records.cell import Cell
from ascent.records.errors import InputError
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

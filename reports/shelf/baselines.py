"""Find the cells of the shelf that a new method can be compared with: same task, budget and evaluations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ascent.records import files, layout
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.expected import Expected
from ascent.records.read import IMPORTED
from ascent.records.shelf import ShelfCell, current

# Task, steps per seed, evaluations and episodes of each: None of imported curves, whose rows may be means.
Protocol = tuple[str, int, tuple[int, int] | None]


def baselines(
    cells: Sequence[Expected], runs: Path, systems: Sequence[str]
) -> tuple[list[Expected], list[str]]:
    """Return the cells of the newest shelf to show beside others, and lines that say what it lacks.

    Args:
        cells: the others.
        runs: folder of their records.
        systems: names of systems, with every preset on the shelf, or "ppo (zoo)" for one.

    Raises:
        InputError: a system that the shelf does not have, or no cell that fits.
    """
    shelf = current()
    names = {name for cell in shelf.planned for name in (cell.system, _title(cell))}
    for system in systems:
        if system not in names:
            raise unknown("system on the shelf", system, sorted(names))
    begun = [cell for cell in cells if (runs / cell.folder / layout.CELL).exists()]
    if not begun:
        raise InputError(f"{runs} has no cells to show the results beside")
    protocols = dict.fromkeys(_protocol(runs / cell.folder) for cell in begun)
    own = {cell.folder for cell in cells}
    found: list[Expected] = []
    lacking: list[str] = []
    for task, steps, evaluation in protocols:
        for system in systems:
            of_task = [c for c in shelf.planned if c.task == task and system in (c.system, _title(c))]
            fitting = [
                c
                for c in of_task
                if shelf.has(c) and _fits(_protocol(shelf.folder / c.folder), steps, evaluation)
            ]
            found += [Expected.on_shelf(c, shelf.name) for c in fitting if c.folder not in own]
            if not fitting:
                there = sorted({f"{c.steps:,}" for c in of_task if shelf.has(c)})
                has = (
                    f"it has {' and '.join(there)} steps"
                    if there
                    else "none yet"
                    if of_task
                    else "none is planned"
                )
                with_ = (
                    f"{evaluation[0]} evaluations of {evaluation[1]} episodes"
                    if evaluation
                    else "any evaluations"
                )
                lacking.append(f"the shelf has no {system} on {task} with {steps:,} steps and {with_}: {has}")
    if not found:
        raise InputError("; ".join(lacking) or "these cells of the shelf are in the report already")
    return found, lacking


def _title(cell: ShelfCell) -> str:
    return f"{cell.system} ({cell.setting})"


def _fits(of_shelf: Protocol, steps: int, evaluation: tuple[int, int] | None) -> bool:
    _, its_steps, its_evaluation = of_shelf
    return its_steps == steps and evaluation in (None, its_evaluation)


def _protocol(folder: Path) -> Protocol:
    try:
        facts: dict[str, Any] = files.read_json(folder / layout.CELL)
        points, episodes = (int(facts["evaluation"][name]) for name in ("points", "episodes"))
        evaluation = None if facts["algorithm"] == IMPORTED else (points, episodes)
        return str(facts["task"]), int(facts["steps"]), evaluation
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DamagedFile(f"{folder / layout.CELL} does not describe a cell") from error

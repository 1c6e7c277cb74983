"""Why two cells are not the same, or why a recorded cell is not what would be trained now."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascent.records import files, layout
from ascent.records.cell import Cell, read_cell
from ascent.records.errors import InputError, differences
from ascent.records.plan import seed_ranges
from ascent.records.store import Store

ABSENT = "absent"
# Parts of cell.json that make no other cell: the digest covers `settings`, from which `config` follows.
NO_IDENTITY = ("measures", "spec")


@dataclass(frozen=True)
class Unlike:
    """One setting in which two cells differ. `counts` says whether it makes them two cells."""

    name: str
    one: Any
    other: Any
    counts: bool


def unlike(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[Unlike]:
    """Return in what the contents of two cell.json differ: hyperparameters, budget, versions, task settings.

    A hyperparameter that one of them does not know has the same value in both, unless it is set.
    """
    known = [{*facts.get("config", ()), *(facts.get("settings") or ())} for facts in (one, other)]
    found = []
    for name, (before, after) in _together(_flat(one), _flat(other)).items():
        part, _, key = name.partition(".")
        if before == after or (part == "config" and not all(key in names for names in known)):
            continue
        found.append(Unlike(name, before, after, part not in NO_IDENTITY))
    return found


def _together(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    names = dict.fromkeys([*one, *other])
    return {name: (one.get(name, ABSENT), other.get(name, ABSENT)) for name in names}


def _flat(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries of a cell.json that may differ, nested ones as "evaluation.points"."""
    left_out = ("settings", "changed", "source", "guarantees", "digest")  # follow from the others
    return dict(_entries({name: value for name, value in facts.items() if name not in left_out}))


def _entries(facts: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _entries(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", list(value) if isinstance(value, tuple) else value


def recorded(folder: Path) -> dict[str, Any]:
    """Return the content of cell.json in a cell's folder. Raises as `read_cell`."""
    read_cell(folder)
    return files.read_json(folder / layout.CELL)


def now(folder: Path) -> dict[str, Any]:
    """Return the cell.json of what `ascent train` with the settings of a recorded cell would train now.

    Raises:
        InputError: the installed code cannot train it.
    """
    from ascent import suites
    from ascent.runners import environments, own
    from ascent.runners.resolve import describe, resolve

    cell, facts = read_cell(folder), recorded(folder)
    own.admit(cell)
    environments.admit(cell)
    try:
        again = resolve(
            cell.system,
            cell.task,
            preset=cell.preset,
            overrides=dict(facts.get("changed") or {}),
            steps=cell.steps,
            evaluation=cell.evaluation,
            measures=cell.measures,
            environment=suites.Foreign(**cell.environment) if cell.environment else None,
        )
    except InputError as error:
        raise InputError(f"{folder}: this version cannot train it: {error}") from error
    return describe(again)


def nearest(folder: Path, planned: Sequence[Cell]) -> dict[str, Any]:
    """Return the cell.json of that one of a sweep's cells which is most like a recorded one."""
    from ascent.runners.resolve import describe

    facts = recorded(folder)
    of_task = [cell for cell in planned if cell.task == facts["task"]]
    of_system = [cell for cell in of_task if cell.system == facts["system"]]
    contents = [describe(cell) for cell in of_system or of_task or planned]
    return min(contents, key=lambda other: len(unlike(facts, other)))


def obstacles(folder: Path, cell: Cell) -> list[str]:
    """Return in a line each why unfinished runs of a recorded cell cannot be resumed by this installation."""
    from ascent.runners import environments, own
    from ascent.runners.platform import packages

    store = Store(folder)
    by_reason: dict[str, list[int]] = {}
    environments.admit(cell)
    installed = packages(cell.task) | own.packages(own.content(cell.system))
    for seed in store.seeds():
        if store.has(seed, layout.RESULT) or not store.has(seed, layout.RUN):
            continue
        about = store.json(seed, layout.RUN)
        if about.get("measures", []) != list(cell.measures):
            by_reason.setdefault("started with other measures", []).append(seed)
        if reason := differences(about.get("packages") or {}, installed):
            by_reason.setdefault(f"begun with other packages: {reason}", []).append(seed)
    return [f"seeds {seed_ranges(seeds)}: {reason}" for reason, seeds in by_reason.items()]


def made_by(folder: Path) -> dict[str, Any]:
    """Return what made the runs of a cell, as far as all of its records agree: code, packages, platform."""
    store = Store(folder)
    found: dict[str, Any] = {}
    for seed in store.seeds():
        if not store.has(seed, layout.RUN):
            continue
        about = store.json(seed, layout.RUN)
        facts = {
            "commit": about.get("commit"),
            "sources": about.get("source_digest"),
            "packages": about.get("packages"),
            "platform": (about.get("platform") or {}).get("key"),
        }
        for name, value in facts.items():
            found[name] = value if found.get(name, value) == value else "differs between its runs"
    return found


def explain(found: Sequence[Unlike]) -> str:
    """Return in a line what the differences of two cells mean."""
    names = [one.name for one in found if one.counts]
    if not names:
        return "the same cell: results of one count for the other"
    return f"two cells, because of {', '.join(names)}"

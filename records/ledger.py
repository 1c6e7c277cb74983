"""The ledger of a folder of runs: what was planned, and which runs were ever started.

    ledger/plan-<digest>.json           a plan: cells, seeds, budgets, report settings
    ledger/sweep-<digest>-<name>.json   the name of a sweep that is this plan; it declares nothing
    ledger/started-<time>-<token>.json  runs that one process started for the first time

Files are only ever added, each whole and by one process, so that any number of processes on a shared file
system may write. A run's record names the plan under which it was started. With both, a report can say how
many seeds were ever started, and whether its settings were declared before the first run.

The owner of the folder can delete its files: the ledger does not prove that nothing else was started.
"""

import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

from ascent.records import files, layout, shapes
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile, InputError
from ascent.records.names import valid
from ascent.records.plan import Plan

NAME = re.compile("[0-9a-f]{12}")  # of a plan
SWEEP = re.compile(layout.sweep("([0-9a-f]{12})", "([A-Za-z0-9][A-Za-z0-9_.-]{0,63})"))
Started = dict[str, set[int]]  # cell folder -> seeds


def describe(plan: Plan) -> dict[str, Any]:
    """Return the content of a plan's file: what the digest covers."""
    cells = [
        {
            "folder": planned.cell.folder(Path()).as_posix(),
            "steps": planned.cell.steps,
            "evaluation": asdict(planned.cell.evaluation),
            "seeds": sorted(planned.seeds),
        }
        | ({"name": planned.name} if planned.name else {})
        | ({"grid": planned.grid} if planned.grid else {})
        for planned in plan.planned
    ]
    cells.sort(key=lambda cell: str(cell["folder"]))
    content = {"cells": cells, "report": asdict(plan.declared), "tables": plan.tables}
    plain: dict[str, Any] = json.loads(json.dumps(content, default=str))  # dates of TOML become text
    return plain


def digest(plan: Plan) -> str:
    """Return twelve hex digits that change with anything that a plan declares."""
    return _digest(describe(plan))


def _digest(content: Mapping[str, Any]) -> str:
    return sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def declare(plan: Plan, runs: Path) -> str:
    """Write a plan into the ledger, and its sweep's name, unless they are there; return its digest."""
    content = describe(plan)
    name = _digest(content)
    path = runs / layout.LEDGER / layout.plan(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not files.create(path, files.json_bytes(content)):
        raise DamagedFile(f"{path} is damaged: it holds another plan than its name says")
    called = layout.sweep(name, plan.name)
    if SWEEP.fullmatch(called):  # no name of a file that a user could not type, or a reader not read
        files.create(path.with_name(called), files.json_bytes({"plan": name, "sweep": plan.name}))
    return name


def start(cell: Cell, seeds: Iterable[int], plan: str, runs: Path) -> None:
    """Record that runs of a cell are about to start for the first time."""
    entry = {
        "cell": cell.folder(Path()).as_posix(),
        "seeds": sorted(seeds),
        "plan": plan,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    folder = runs / layout.LEDGER
    folder.mkdir(parents=True, exist_ok=True)
    files.create(folder / layout.started(time, uuid4().hex[:12]), files.json_bytes({"runs": [entry]}))


def started(runs: Path) -> Started:
    """Return the runs that were ever started, according to the ledger.

    Raises:
        DamagedFile: a file of the ledger cannot be read.
    """
    found: Started = {}
    for path in (runs / layout.LEDGER).glob(layout.started("*", "*")):
        for entry in _entries(path):
            found.setdefault(entry["cell"], set()).update(entry["seeds"])
    return found


def _entries(path: Path) -> list[dict[str, Any]]:
    """Return what a file says of started runs. Raises DamagedFile."""
    content = files.read_json(path)
    shapes.check(shapes.STARTS, content, path)
    entries: list[dict[str, Any]] = content["runs"]
    return entries


def ever_started(seeds: Iterable[int], abouts: Mapping[int, Mapping[str, Any]]) -> set[int]:
    """Return the seeds of a cell that were ever started: those in the ledger, with a record, or in a pack.

    Args:
        seeds: those in the ledger.
        abouts: run.json of its runs, by seed, whatever they hold: they name the seeds of the same process.
    """
    found = {*seeds, *abouts}
    for about in abouts.values():
        attempts = about.get("attempts")
        for attempt in attempts if isinstance(attempts, list) else ():
            pack = attempt.get("pack") if isinstance(attempt, dict) else None
            found |= {seed for seed in (pack if isinstance(pack, list) else ()) if isinstance(seed, int)}
    return found


def files_of(folders: Collection[str], runs: Path) -> list[Path]:
    """Return the files of the ledger that are about cells in these folders: starts, and their plans."""
    home = runs / layout.LEDGER
    found = []
    for path in sorted(home.glob(layout.started("*", "*"))):
        about = [entry for entry in _entries(path) if entry["cell"] in folders]
        if about:
            found += [path, *(home / layout.plan(entry["plan"]) for entry in about if entry["plan"])]
    return sorted({path for path in found if path.is_file()})


def contents(runs: Path) -> dict[str, bytes]:
    """Return all files of the ledger, by name. Raises DamagedFile if one of them is damaged."""
    found = {}
    for path in sorted((runs / layout.LEDGER).glob("*.json")):
        if path.match(layout.started("*", "*")):
            _entries(path)
        elif path.match(layout.plan("*")) and plan(path.stem.partition("-")[2], runs) is None:
            raise DamagedFile(f"{path} is damaged: it holds another plan than its name says")
        found[path.name] = files.read(path)
    return found


def plan(name: str, runs: Path) -> dict[str, Any] | None:
    """Return the content of a plan's file; None if there is none, or it was changed."""
    if not NAME.fullmatch(name):  # a record may hold any text
        return None
    try:
        content = files.read_json(runs / layout.LEDGER / layout.plan(name))
    except (OSError, InputError):
        return None
    return content if _digest(content) == name else None


def plans_by_cell(runs: Path) -> dict[str, set[str]]:
    """Return the digests of the plans that have a cell, by the cell's folder. Changed plans do not count."""
    found: dict[str, set[str]] = {}
    for name, cell in _planned_cells(runs):
        found.setdefault(str(cell.get("folder")), set()).add(name)
    return found


def sweeps(runs: Path) -> dict[str, list[str]]:
    """Return the names of the sweeps that are known to be a plan, by the plan's digest."""
    found: dict[str, list[str]] = {}
    for path in sorted((runs / layout.LEDGER).glob(layout.sweep("*", "*"))):
        if match := SWEEP.fullmatch(path.name):
            found.setdefault(match[1], []).append(match[2])
    return found


def seeds_by_cell(runs: Path) -> dict[str, set[int]]:
    """Return the seeds that the plans have of a cell, by the cell's folder. Changed plans do not count."""
    found: dict[str, set[int]] = {}
    for _, cell in _planned_cells(runs):
        seeds = cell.get("seeds")
        whole = {seed for seed in (seeds if isinstance(seeds, list) else ()) if isinstance(seed, int)}
        found.setdefault(str(cell.get("folder")), set()).update(whole)
    return found


def named_cells(runs: Path) -> dict[str, tuple[str, str]]:
    """Return what the plans call the system of a cell, and the system of whose grid it is a setting ("" if of
    none), by the cell's folder.

    Cells without a name are left out, and so are those for which it is not clear: a cell with several names,
    and a name that two cells of a task have.
    """
    names: dict[str, set[tuple[str, str]]] = {}
    for _, cell in _planned_cells(runs):
        folder, called = str(cell.get("folder")), (cell.get("name", ""), cell.get("grid", ""))
        if valid(called[0]) and (called[1] == "" or valid(called[1])):
            names.setdefault(folder, set()).add(called)
    single = {folder: called.pop() for folder, called in names.items() if len(called) == 1}
    uses = Counter((folder.rpartition("/")[0], called[0]) for folder, called in single.items())
    unclear = {name for (_, name), count in uses.items() if count > 1}
    return {folder: called for folder, called in single.items() if called[0] not in unclear}


def _planned_cells(runs: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the cells of all unchanged plans, each with the digest of its plan."""
    for path in sorted((runs / layout.LEDGER).glob(layout.plan("*"))):
        name = path.stem.partition("-")[2]
        cells = (plan(name, runs) or {}).get("cells")
        yield from ((name, c) for c in (cells if isinstance(cells, list) else ()) if isinstance(c, dict))

"""Results that ship with the suite: shelves, folders of run records with one compact seal per cell.

    reports/results/<name>/
        shelf.json                       commit of all runs, and the planned cells
        <suite>/<task>/<cell>/           cell.json, one seal (`seal.py`), tables of `ascent robustness`
        sources/sources-<digest>.zip     recorded sources, once for all cells
        ledger/                          plans and starts (`ledger.py`)
        proofs.csv                       what was verified when a cell was added
        curves.parquet, leaderboard.html, ...    generated from the records (`ascent results build`)
    reports/results/partial/             finished runs of cells that lack others, in the same form

A shelf whose name ends in -draft is being filled. Released, it is never edited.
"""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ascent.records import cell as cells
from ascent.records import files, layout, ledger
from ascent.records.errors import DamagedFile, InputError, one_line, unknown
from ascent.records.plan import MOST_SEEDS
from ascent.records.store import Store, seals

HOME = Path(__file__).resolve().parents[1] / "reports" / "results"
FILE = "shelf.json"
SOURCES = "sources"
PARTIAL = "partial"
DRAFT = "-draft"
NAME = re.compile(rf"\d{{4}}\.\d\d?({DRAFT})?")
PROOFS = "proofs.csv"
SCORES = "scores.csv"  # generated, as the others below
CURVES = "curves.parquet"
HEX = re.compile("[0-9a-f]{1,64}")  # a digest of sources


@dataclass(frozen=True)
class ShelfCell:
    """A cell that a shelf has or will have.

    Attributes:
        folder: suite/task/cell.
        system, preset, task: what it trains.
        setting: the preset with its overrides, as reports name it.
        steps: environment steps per seed.
        seeds: how many there are, from 0.
        tier: 1 is trained first.
        default: whether the preset is the algorithm's default, without overrides.
        policies: how many seeds keep their policy: 1, or all.
        replays: whether it learns from replayed transitions, one update per step.
    """

    folder: str
    system: str
    preset: str
    setting: str
    task: str
    steps: int
    seeds: int
    tier: int
    default: bool
    policies: int
    replays: bool

    @property
    def digest(self) -> str:
        """The digest of the cell."""
        return layout.digest_of(Path(self.folder))


@dataclass(frozen=True)
class Shelf:
    """A shelf. Properties raise DamagedFile if its shelf.json cannot be read."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def _about(self) -> dict[str, Any]:
        try:
            about = files.read_json(self.folder / FILE)
            planned = tuple(_shelf_cell(cell) for cell in about["cells"])
            commits = about["commits"]
            if not commits or not all(isinstance(commit, str) for commit in commits):
                raise TypeError("it names no commit")
            return {"commits": commits, "planned": planned}
        except (LookupError, TypeError, OSError) as error:
            raise DamagedFile(f"{self.folder / FILE} is damaged: it describes no shelf") from error

    @property
    def commits(self) -> list[str]:
        """The commits that made its runs: one, unless an algorithm had to be mended."""
        return list(self._about["commits"])

    @property
    def commit(self) -> str:
        """The commit that makes its runs now."""
        return self.commits[-1]

    @property
    def planned(self) -> tuple[ShelfCell, ...]:
        """All cells that it has or will have, in the order in which they are trained."""
        return self._about["planned"]

    def has(self, cell: ShelfCell) -> bool:
        """Return whether a cell is on the shelf."""
        return bool(seals(self.folder / cell.folder))

    @property
    def present(self) -> list[ShelfCell]:
        """The cells on the shelf."""
        return [cell for cell in self.planned if self.has(cell)]

    @property
    def missing(self) -> list[ShelfCell]:
        """The planned cells that are not on the shelf."""
        return [cell for cell in self.planned if not self.has(cell)]


def _shelf_cell(record: dict[str, Any]) -> ShelfCell:
    """Return the cell with these fields. Raises TypeError."""
    cell = ShelfCell(**record)
    for name, kind in ShelfCell.__annotations__.items():
        if type(getattr(cell, name)) is not kind:
            raise TypeError(f"{name} of a cell is no {kind.__name__}")
    if not re.fullmatch(r"[\w-]+/[\w-]+/[\w.-]+", cell.folder) or not 0 < cell.seeds <= MOST_SEEDS:
        raise TypeError(f"{cell.folder!r} is no folder of a cell, or its seeds are no number of seeds")
    return cell


def shelves() -> list[Shelf]:
    """Return the shelves that ship with the suite, the newest last."""
    found = [Shelf(path.parent) for path in HOME.glob(f"*/{FILE}")]
    return sorted(
        (shelf for shelf in found if NAME.fullmatch(shelf.name)), key=lambda shelf: _age(shelf.name)
    )


def _age(name: str) -> tuple[int, int, bool]:
    """Return what orders the names of shelves: 2026.2 comes before 2026.12-draft, and that before 2026.12."""
    year, _, number = name.removesuffix(DRAFT).partition(".")
    return int(year), int(number), not name.endswith(DRAFT)


def current() -> Shelf:
    """Return the shelf that readers take: the newest that is released, or before the first release the newest
    draft that has cells; the newest draft if none has. Raises InputError if there is none.
    """
    found = shelves()
    if not found:
        raise InputError(f"no results ship with this installation: {HOME} has no {FILE}")
    released = [shelf for shelf in found if not shelf.name.endswith(DRAFT)]
    return next((shelf for shelf in reversed(released or found) if shelf.present), found[-1])


def draft() -> Shelf:
    """Return the newest shelf that is being filled. Raises InputError if there is none."""
    found = [shelf for shelf in shelves() if shelf.name.endswith(DRAFT)]
    if not found:
        raise InputError(f"no set of results is being filled: {HOME} has no *{DRAFT}")
    return found[-1]


def named(name: str) -> Shelf:
    """Return the shelf with a name, or the released one of a draft. Raises InputError if there is none."""
    found = {shelf.name: shelf for shelf in shelves()}
    for one in (name, name.removesuffix(DRAFT)):
        if one in found:
            return found[one]
    if not found:
        raise InputError(f"the set of results {name!r} does not ship with this installation")
    raise unknown("set of results", name, sorted(found))


def write(folder: Path, commit: str, planned: Iterator[ShelfCell] | list[ShelfCell]) -> Shelf:
    """Write the shelf.json of a new shelf. Raises InputError if the folder has one."""
    content = json.dumps({"commits": [commit], "cells": [vars(cell) for cell in planned]}, indent=1) + "\n"
    folder.mkdir(parents=True, exist_ok=True)
    if not files.create(folder / FILE, content.encode()):
        raise InputError(f"{folder / FILE} exists and differs: a shelf's plan is written once")
    return Shelf(folder)


def carry_over(shelf: Shelf) -> Shelf | None:
    """Copy the cells, with sources, plans and proofs, of the newest release that the same commit made.

    So a new shelf has all that the release has, and its campaign goes on from there. Returns the release, or
    None if nothing was copied: there is no such release, or it has a cell that the new shelf does not plan.
    """
    for earlier in reversed(shelves()):
        if earlier.name.endswith(DRAFT) or earlier.commits != shelf.commits:
            continue
        if not {cell.folder for cell in earlier.present} <= {cell.folder for cell in shelf.planned}:
            break
        for name in (SOURCES, layout.LEDGER, *(cell.folder for cell in earlier.present)):
            shutil.copytree(earlier.folder / name, shelf.folder / name)
        shutil.copyfile(earlier.folder / PROOFS, shelf.folder / PROOFS)
        return earlier
    return None


def choose(system: str, task: str, preset: str | None = None) -> Path:
    """Return the folder of the cell on the newest shelf that trains a system on a task.

    Args:
        system: name of the system.
        task: name of the task.
        preset: preset with its overrides, as reports name it (default: the algorithm's default).

    Raises:
        InputError: there is no such cell, or several; the message names what there is.
    """
    shelf = current()
    of_system = [cell for cell in shelf.planned if cell.system == system]
    if not of_system:
        raise unknown("system on the shelf", system, sorted({cell.system for cell in shelf.planned}))
    of_task = [cell for cell in of_system if cell.task == task]
    if not of_task:
        raise unknown(f"task of {system} on the shelf", task, sorted({cell.task for cell in of_system}))
    settings = sorted({cell.setting for cell in of_task})
    if preset is not None and preset not in settings:
        raise unknown(f"preset of {system} on {task} on the shelf", preset, settings)
    chosen = [cell for cell in of_task if (cell.default if preset is None else cell.setting == preset)]
    if len(chosen) != 1:
        raise InputError(f"{system} on {task}: choose one of the presets {', '.join(settings)} with --preset")
    if not shelf.has(chosen[0]):
        raise InputError(f"{system} on {task} is planned and not yet on the shelf: see `ascent results`")
    return shelf.folder / chosen[0].folder


def find(target: str, runs: Path) -> Path:
    """Return the folder of a cell, given its path or the beginning of its digest, in `runs` or on a shelf.

    Raises:
        InputError: no cell matches, or several do.
    """
    try:
        return cells.find(target, runs)
    except InputError as error:
        there = {cell.digest: shelf.folder / cell.folder for shelf in shelves() for cell in shelf.present}
        matches = [digest for digest in there if digest.startswith(target)]
        local = any(layout.digest_of(path.parent).startswith(target) for path in runs.glob(layout.CELLS))
        if not target or Path(target).exists() or not there or local:
            raise
        if len(matches) == 1:
            return there[matches[0]]
        shipped = "of the results that ship with the suite"
        if matches:
            raise InputError(f"{target!r} is ambiguous: it matches {len(matches)} cells {shipped}") from error
        raise InputError(f"{error}; and no cell {shipped}: see `ascent results`") from error


def take(cell: Path, runs: Path) -> Path:
    """Return a cell's folder; of a cell on a shelf, a copy of it in `runs`, for tables to be added.

    Raises:
        InputError: the shelf does not have the policies of all seeds.
    """
    cell = cell.resolve()
    if not cell.is_relative_to(HOME):
        return cell
    store = Store(cell)
    done = [seed for seed in store.seeds() if store.json(seed, layout.RESULT).get("status") == "done"]
    if bare := [seed for seed in done if not store.has(seed, layout.POLICY)]:
        words = (
            f"the shelf has the policies of {len(done) - len(bare)} of {len(done)} seeds, and this needs all"
        )
        raise InputError(f"{cell.name}: {words}")
    copy, name = runs.joinpath(*cell.parts[-3:]), "/".join(cell.parts[-3:])
    used = [cell / layout.CELL, *seals(cell), *source_archives(cell)]
    targets = {copy / path.name: path for path in used}
    targets |= {runs / layout.LEDGER / p.name: p for p in ledger.files_of([name], cell.parents[2])}
    for target, path in targets.items():
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            files.write(target, files.read(path))
    return copy


def sources(cell: Path, digest: str) -> Path:
    """Return the archive with the recorded sources of a cell: its own, or the one of all cells of a shelf."""
    if not HEX.fullmatch(digest):  # a record may hold any text
        raise DamagedFile(f"{cell}: {one_line(digest, 100)!r} is no digest of sources")
    own = cell / layout.sources(digest)
    homes = cell.resolve().parents
    shared = homes[2] / SOURCES / own.name if len(homes) > 2 else own
    return shared if not own.exists() and shared.exists() else own


def source_archives(cell: Path, seeds: Iterable[int] | None = None) -> list[Path]:
    """Return the archives with the recorded sources of some runs of a cell; of all that have a run.json."""
    store = Store(cell)
    chosen = store.seeds() if seeds is None else seeds
    abouts = [store.json(seed, layout.RUN) for seed in chosen if store.has(seed, layout.RUN)]
    digests = {about["source_digest"] for about in abouts if about.get("source_digest")}
    return sorted(sources(cell, digest) for digest in digests)

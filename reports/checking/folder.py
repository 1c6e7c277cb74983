"""Read the files of a cell without trusting them, for `check` and `verify`.

`ascent.records.read` reads for reports and refuses a record at its first fault. This module keeps every file,
whether it is faulty or not.
"""

import io
import json
import re
import zipfile
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from ascent.records import files, layout, shapes, shelf
from ascent.records.cell import Cell, Evaluation
from ascent.records.checkpoints import MOST_POLICY, unpack_arrays
from ascent.records.errors import DamagedFile, InputError
from ascent.records.files import UNREADABLE_ZIP
from ascent.records.provenance import source_digest
from ascent.records.read import DIVERGED, DONE, IMPORTED
from ascent.records.run_reader import Columns
from ascent.records.store import Store
from ascent.reports.checking import parse

MAX_COUNT = 1_000_000  # evaluated episodes, environments: a hostile record may demand any number
MAX_MODULE = 1_000_000  # bytes
MAX_MODULES, MAX_SOURCES = 1_000, 20_000_000  # of an archive: files, bytes
# Modules as they are recorded; versions before 0.2.0 had three top-level packages. own/ has the file of an
# algorithm from outside the suite.
MODULES = re.compile(r"(algorithms|suites|runners)/\w+\.py|ascent/(\w+/)+\w+\.(py|cpp|h)|own/[\w-]+\.py")


@dataclass
class RunFiles:
    """One seed of a cell.

    `about` is run.json and `result` is result.json; {} if the file is missing or holds no JSON object.
    `task_columns` are the further columns of eval.csv and train.csv in a multi-agent task.
    """

    store: Store
    seed: int
    task_columns: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The folder of the run, which a sealed run does not have."""
        return self.store.cell / layout.seed_folder(self.seed)

    @property
    def name(self) -> str:
        """The last four parts of the path: suite/task/cell/seed-k."""
        return "/".join(self.path.parts[-4:])

    @cached_property
    def about(self) -> dict[str, Any]:
        return _object(self.read(layout.RUN))

    @cached_property
    def result(self) -> dict[str, Any]:
        return _object(self.read(layout.RESULT))

    @cached_property
    def finished(self) -> bool:
        return self.result.get("status") in (DONE, DIVERGED)

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """The contents of the result files that exist, in their compact form too."""
        contents = {name: self.read(name) for name in (*layout.RESULT_FILES, *layout.COMPACT)}
        return {name: data for name, data in contents.items() if data is not None}

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if there is no such file."""
        try:
            return self.store.read(self.seed, name)
        except (FileNotFoundError, DamagedFile):  # a damaged seal is a finding of `sealed-runs`
            return None

    @cached_property
    def compact(self) -> bool:
        """Whether the record has the compact form of train.csv in its place."""
        return layout.TRAIN not in self.contents and layout.TRAIN_LAST in self.contents

    @cached_property
    def tables(self) -> dict[str, Columns | str]:
        """The tables, by file name; for a table that cannot be read, one line with the reason.

        One that records of earlier versions lack is in it only if its file exists, and train.csv only if the
        record is not compact.
        """
        tables: dict[str, Columns | str] = {}
        kept = [name for name in layout.TABLES if not (self.compact and name == layout.TRAIN)]
        for name in [*kept, *(layout.COMPACT if self.compact else ())]:
            try:
                tables[name] = parse.table(name, self.contents[name], self.task_columns)
            except KeyError:
                if name not in layout.OPTIONAL:
                    tables[name] = f"{name} is missing"
            except ValueError as error:
                tables[name] = f"{name}: {str(error).strip().splitlines()[0]}"
        return tables

    def table(self, name: str) -> Columns | None:
        """Return a table; None if it cannot be read."""
        table = self.tables.get(name)
        return None if isinstance(table, str) else table

    @cached_property
    def parameters(self) -> dict[str, np.ndarray] | None:
        """The parameters in policy.npz; None if it cannot be read."""
        try:
            arrays = unpack_arrays(self.contents[layout.POLICY], MOST_POLICY)
        except (KeyError, ValueError):
            return None
        return {name: array for name, array in arrays.items() if name.startswith("params/")}


@dataclass
class CellFiles:
    """The folder of one cell.

    `facts` is cell.json, {} if there is none. `cell` is the cell that it describes, None if there is none.
    """

    path: Path
    facts: dict[str, Any]
    cell: Cell | None
    runs: list[RunFiles] = field(default_factory=list)
    started: tuple[int, ...] = ()  # seeds that were ever started, by the ledger

    @property
    def name(self) -> str:
        """The last three parts of the path: suite/task/cell."""
        return "/".join(self.path.parts[-3:])

    @property
    def imported(self) -> bool:
        """Whether the curves come from another library."""
        return self.facts.get("algorithm") == IMPORTED

    @property
    def finished(self) -> list[RunFiles]:
        return [run for run in self.runs if run.finished]

    def described(self) -> Cell:
        """Return the cell that cell.json describes. Raises ValueError if it describes none."""
        if self.cell is None:
            raise ValueError("cell.json is missing, unreadable or does not describe a cell")
        return self.cell

    @property
    def configuration(self) -> str:
        """What the cell shares with cells that differ from it in the budget alone, as its extensions do.

        The steps between evaluations are part of it. The cell's name where cell.json cannot be read.
        """
        if self.cell is None:
            return self.name
        protocol = self.cell.evaluation
        without = replace(self.cell, steps=0, evaluation=replace(protocol, points=0))
        return f"{without.digest} {Fraction(self.cell.steps, protocol.points)}"

    @property
    def envs(self) -> int:
        """Environments per seed, which is the number of steps between two decisions."""
        config = self.facts.get("config") or {}
        return config.get("envs", config.get("workers", 1))

    @property
    def horizon(self) -> int:
        """The time limit of the task, in steps; 0 if it is not recorded."""
        return (self.facts.get("spec") or {}).get("horizon") or 0

    @property
    def window(self) -> int:
        """Time steps between resets of all environments; 0 if they are never reset.

        A system that learns from whole episodes resets them after each window.
        """
        return (self.facts.get("config") or {}).get("horizons", 0) * self.horizon

    def last_reset(self, time: int) -> int:
        """Return the last time step, at most `time`, at which all environments were reset; else 0."""
        return time // self.window * self.window if self.window else 0

    def evaluation_steps(self) -> list[int]:
        """Return the evaluation steps of a complete run: the first decision at or after each grid point.

        Raises ValueError if cell.json describes no cell.
        """
        return _evaluation_steps(self.described().evaluation, self.described().steps, self.envs)


@lru_cache(maxsize=16)
def _evaluation_steps(evaluation: Evaluation, budget: int, envs: int) -> list[int]:
    steps = [0]
    for point in evaluation.grid(budget):
        if point > steps[-1]:
            steps.append(-(-point // envs) * envs)
    return steps


def find(target: Path) -> list[Path]:
    """Return the cell folders in `target`, or `target` itself if it is the folder of a cell or a run.

    Raises InputError if there are none.
    """
    target = target.resolve()
    seed = layout.seed_of(target)
    if seed is not None and Store(target.parent).in_seal(seed):
        return [target]
    if not target.is_dir():
        raise InputError(f"{target}: no such folder")
    if seed is not None or (target / layout.CELL).exists():
        return [target]
    names = (layout.CELL, "seed-*", layout.seal("*"))
    paths = {path.parent for name in names for path in target.glob(f"*/*/*/{name}")}
    if not paths:
        raise InputError(f"{target}: contains no run records")
    return sorted(paths)


def cell_name(path: Path) -> str:
    """Return suite/task/cell of the folder of a cell or a run."""
    cell = path.parent if layout.seed_of(path) is not None else path
    return "/".join(cell.parts[-3:])


def runs_of(path: Path) -> Path:
    """Return the folder of run records that holds the folder of a cell or a run."""
    return path.parents[3 if layout.seed_of(path) is not None else 2]


def load(path: Path, only: Collection[int] | None = None) -> CellFiles:
    """Read the cell in a cell's folder. For a run's folder, read its cell with this run alone.

    `only` are the seeds to read, of those that are there (default: all).
    """
    folder = path.parent if layout.seed_of(path) is not None else path
    description = folder / layout.CELL
    facts = _object(_content(description))
    store = Store(folder)
    own = layout.seed_of(path)
    try:
        seeds = store.seeds() if own is None else [own]
    except DamagedFile:
        seeds = []  # a finding of `sealed-runs`
    if only is not None:
        seeds = [seed for seed in seeds if seed in only]
    columns = _task_columns(facts)
    files = CellFiles(folder, facts, None, [RunFiles(store, seed, columns) for seed in seeds])
    try:
        shapes.check(layout.CELL, facts)
        files.cell = Cell.from_json(facts)
        evaluation = files.cell.evaluation
        if max(evaluation.points * evaluation.episodes, files.envs) > MAX_COUNT:
            raise ValueError("no run has so many evaluations, episodes or environments")
        files.evaluation_steps()
    except (DamagedFile, LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
        files.cell = None
    return files


def parse_tables(cell: CellFiles) -> None:
    """Parse the tables of all runs of a cell together, which takes a fraction of the time."""
    runs = [run for run in cell.runs if not run.compact]
    parsed: list[dict[str, Columns | str]] = [{} for _ in runs]
    for name in layout.TABLES:
        contents = [run.contents.get(name, b"") for run in runs]
        tables = parse.together(name, contents, _task_columns(cell.facts))
        if tables is None:
            return  # one by one, when they are asked for, to tell which is at fault
        for of_run, table in zip(parsed, tables, strict=True):
            of_run[name] = table
    for run, of_run in zip(runs, parsed, strict=True):
        run.tables = of_run


def _task_columns(facts: dict[str, Any]) -> tuple[str, ...]:
    """Return the further columns of tables in a multi-agent task: return of each agent, measures."""
    try:
        team = facts["spec"]["team"]
        return (*map(str, team["agents"]), *(str(name) for name, _ in team["measures"]))
    except (LookupError, TypeError, ValueError):  # a single-agent task
        return ()


def sources(cell: Path, digest: str) -> tuple[str, dict[str, bytes]]:
    """Return the content of the sources-<digest>.zip of a cell, and the content's digest before it.

    Raises:
        InputError: it cannot be read, or contains anything but Ascent source files.
    """
    path = shelf.sources(cell, digest)
    try:
        found, content = _unzipped(files.read(path), path.name)
    except UNREADABLE_ZIP as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error
    return found, dict(content)


@lru_cache(maxsize=16)  # the cells of a sweep have few different sources
def _unzipped(data: bytes, archive_name: str) -> tuple[str, dict[str, bytes]]:
    """Return the digest of the content of an archive of sources, and the content."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = archive.infolist()
        if len(entries) > MAX_MODULES or sum(entry.file_size for entry in entries) > MAX_SOURCES:
            raise InputError(f"{archive_name} has {len(entries):,} files: more than any version of Ascent")
        for entry in entries:
            if not MODULES.fullmatch(entry.filename) or entry.file_size > MAX_MODULE:
                what = f"{entry.filename!r}, which is not an Ascent source file"
                raise InputError(f"{archive_name} contains {what}")
        content = {name: archive.read(name) for name in archive.namelist()}
    return source_digest(content), content


def readable(error: Exception) -> str:
    """Return an error as text for users. str() of a KeyError is the missing key alone."""
    return f"no entry {error}" if isinstance(error, KeyError) else str(error) or type(error).__name__


def _content(path: Path) -> bytes | None:
    """Return the content of a file; None if there is none that may be read."""
    try:
        return files.read(path)
    except (OSError, DamagedFile):
        return None


def _object(data: bytes | None) -> dict[str, Any]:
    """Return the JSON object in `data`; {} if there is none."""
    try:
        value = json.loads(data or b"")
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}

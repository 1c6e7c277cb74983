"""The files of a cell as they lie in its folder, read but not believed: what `check` and `verify` look at.

`records` reads for a report and stops at the first fault; here every file is kept, faulty or not.
"""

import io
import json
import re
import zipfile
import zlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.records.provenance import source_digest
from ascent.records.read import DIVERGED, DONE, IMPORTED, SEED_FOLDER

RESULTS = ("eval.csv", "train.csv", "metrics.csv", "ladder.csv", "policy.npz")
HEADERS = {
    "eval.csv": ["step", "policy", "episode", "return", "length", "unstable"],
    "train.csv": ["step", "env", "return", "length", "unstable"],
    "ladder.csv": ["step", "event", "digest"],
}
MOST = 100_000  # evaluations, episodes, environments: a hostile record may ask for any number
MAX_MODULE = 1_000_000  # bytes
# Modules as they are recorded; versions before 0.2.0 had three top-level packages.
MODULES = re.compile(r"(algorithms|suites|runners)/\w+\.py|ascent/(\w+/)+\w+\.py")
_TEXT = {"policy", "event", "digest"}
_NUMBERS = {"return"}  # with a fraction; in metrics.csv every column but the step


@dataclass
class RunFiles:
    """A seed's folder. `about` is run.json and `result` result.json, {} where there is no such object.

    `own` are the task's own columns of eval.csv and train.csv, see `own_columns`.
    """

    path: Path
    seed: int
    own: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The last four parts of its path: suite/task/cell/seed-k."""
        return "/".join(self.path.parts[-4:])

    @cached_property
    def about(self) -> dict[str, Any]:
        return _object(self.read("run.json"))

    @cached_property
    def result(self) -> dict[str, Any]:
        return _object(self.read("result.json"))

    @property
    def finished(self) -> bool:
        return self.result.get("status") in (DONE, DIVERGED)

    @cached_property
    def contents(self) -> dict[str, bytes]:
        """The result files that are there."""
        found = {name: self.read(name) for name in RESULTS}
        return {name: data for name, data in found.items() if data is not None}

    def read(self, name: str) -> bytes | None:
        """The content of a file, None where there is none."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    @cached_property
    def tables(self) -> dict[str, pd.DataFrame | str]:
        """The four tables; a line of text that says what is wrong in place of one that is no table."""
        tables: dict[str, pd.DataFrame | str] = {}
        for name in RESULTS[:4]:
            try:
                tables[name] = _table(name, self.contents[name], self.own)
            except KeyError:
                tables[name] = f"{name}: is missing"
            except ValueError as error:
                tables[name] = f"{name}: {str(error).strip().splitlines()[0]}"
        return tables

    def table(self, name: str) -> pd.DataFrame | None:
        found = self.tables[name]
        return None if isinstance(found, str) else found

    @cached_property
    def policy(self) -> dict[str, np.ndarray] | None:
        """The arrays of policy.npz; None where it cannot be read."""
        try:
            with np.load(io.BytesIO(self.contents["policy.npz"]), allow_pickle=False) as arrays:
                return {name: arrays[name] for name in arrays.files}
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error):
            return None


@dataclass
class CellFiles:
    """A cell's folder. `facts` is cell.json, {} where there is none; `cell` the cell that it describes."""

    path: Path
    facts: dict[str, Any]
    cell: Cell | None
    runs: list[RunFiles] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The last three parts of its path: suite/task/cell."""
        return "/".join(self.path.parts[-3:])

    @property
    def imported(self) -> bool:
        """Whether its curves come from another library."""
        return self.facts.get("algorithm") == IMPORTED

    @property
    def finished(self) -> list[RunFiles]:
        return [run for run in self.runs if run.finished]

    @property
    def envs(self) -> int:
        """Environments per seed: the steps between two decisions."""
        config = self.facts.get("config") or {}
        return config.get("envs", config.get("workers", 1))

    def evaluation_steps(self) -> list[int]:
        """Steps of the evaluations of a whole run: the first decision at or after each point of the grid."""
        steps = [0]
        for point in self.cell.evaluation.grid(self.cell.steps):
            if point > steps[-1]:
                steps.append(-(-point // self.envs) * self.envs)
        return steps


def find(target: Path) -> list[Path]:
    """The cell folders that `target` is or holds; of a run its own folder. Raises InputError for none."""
    target = target.resolve()
    if not target.is_dir():
        raise InputError(f"{target}: there is no such folder")
    if SEED_FOLDER.fullmatch(target.name) or (target / "cell.json").exists():
        return [target]
    found = {path.parent for name in ("cell.json", "seed-*") for path in target.glob(f"*/*/*/{name}")}
    if not found:
        raise InputError(f"{target}: there are no run records in it")
    return sorted(found)


def load(path: Path) -> CellFiles:
    """The cell in a cell's folder; in a run's folder the cell beside it, with this run alone."""
    folder = path.parent if SEED_FOLDER.fullmatch(path.name) else path
    content = (folder / "cell.json").read_bytes() if (folder / "cell.json").is_file() else None
    facts = _object(content)
    paths = [path] if path != folder else sorted(folder.iterdir())
    seeds = ((path, match) for path in paths if (match := SEED_FOLDER.fullmatch(path.name)))
    runs = [RunFiles(path, int(match[1]), own_columns(facts)) for path, match in seeds]
    found = CellFiles(folder, facts, None, sorted(runs, key=lambda run: run.seed))
    try:
        found.cell = Cell.from_json(facts)
        evaluation = found.cell.evaluation
        if max(evaluation.points, evaluation.episodes, found.envs) > MOST:
            raise ValueError("no run is evaluated so often")
        found.evaluation_steps()
    except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError):
        found.cell = None
    return found


def own_columns(facts: dict[str, Any]) -> tuple[str, ...]:
    """What the tables of a team task have beside the others': its agents' returns, its measures."""
    try:
        team = facts["spec"]["team"]
        return (*map(str, team["agents"]), *(str(name) for name, _ in team["measures"]))
    except (LookupError, TypeError, ValueError):  # there is no team
        return ()


def sources(path: Path) -> tuple[str, dict[str, bytes]]:
    """Return the digest of the content of a sources-<digest>.zip, and the content.

    Raises:
        InputError: it cannot be read, or holds anything but modules of this project.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            for entry in archive.infolist():
                if not MODULES.fullmatch(entry.filename) or entry.file_size > MAX_MODULE:
                    raise InputError(f"{path.name} holds {entry.filename!r}, no module of this project")
            content = {name: archive.read(name) for name in archive.namelist()}
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path.name} cannot be read: {error}") from error
    return source_digest(content), content


def _object(data: bytes | None) -> dict[str, Any]:
    """The JSON object in `data`; {} if it is none."""
    try:
        value = json.loads(data or b"")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _table(name: str, data: bytes, own: tuple[str, ...]) -> pd.DataFrame:
    """`own`: further columns of eval.csv and train.csv. Raises ValueError for what is no such table."""
    if name == "metrics.csv" and not data:
        return pd.DataFrame({"step": np.array([], np.int64)})  # nothing was learned
    if not data.endswith(b"\n"):
        raise ValueError("its last line is not whole")
    columns = data.partition(b"\n")[0].decode().split(",")
    wanted = HEADERS.get(name, columns)
    own = own if name in ("eval.csv", "train.csv") else ()
    if columns != [*wanted, *own] or columns[0] != "step" or len(set(columns)) < len(columns):
        raise ValueError(f"its header is {','.join(columns)!r}")
    types = dict.fromkeys(columns, np.int64)
    types |= {
        column: np.float64 for column in columns[1:] if name == "metrics.csv" or column in (*_NUMBERS, *own)
    }
    types |= {column: str for column in columns if column in _TEXT}
    strict = {"index_col": False, "skip_blank_lines": False, "keep_default_na": False, "na_values": ["nan"]}
    return pd.read_csv(io.BytesIO(data), dtype=types, **strict)

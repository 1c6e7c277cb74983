"""Load: the records of a folder of runs, checked, as `CellRecord`s and `RunRecord`s.

A run ends in one of five states, and every expected run is in the result with one of them:

| state      | meaning                                                     | counts in a score    |
|------------|-------------------------------------------------------------|----------------------|
| done       | result.json says done, and its CSV files have their digests | yes                  |
| diverged   | the same, but training broke down                           | yes, as a failure    |
| unfinished | a folder without result.json: running or interrupted        | no, cell incomplete  |
| missing    | expected, and there is no folder                            | no, cell incomplete  |
| damaged    | a file is unreadable, contradicts another or lost its digest| no, cell incomplete  |

No evaluation of a damaged run is used, not even the part that can still be read.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pyarrow import csv

from ascent.records import layout
from ascent.records.cell import FIRST_TUNING_SEED, Cell
from ascent.records.errors import DamagedFile
from ascent.records.seal import SEALED, read_seal, sealed_names

DONE, DIVERGED, UNFINISHED, MISSING, DAMAGED = "done", "diverged", "unfinished", "missing", "damaged"
STATES = (DONE, DIVERGED, UNFINISHED, MISSING, DAMAGED)
IMPORTED = "imported"  # algorithm of cells whose curves were made elsewhere

SEED_FOLDER = re.compile(r"seed-(0|[1-9]\d*)")
_CELL_KEYS = {
    "system", "algorithm", "preset", "task", "suite", "config", "steps", "evaluation", "versions", "digest",
    "spec",
}  # fmt: skip
_EVALUATION_TYPES = {
    "step": pa.int64(), "policy": pa.dictionary(pa.int32(), pa.string()), "episode": pa.int64(),
    "return": pa.float64(), "length": pa.int64(),
}  # fmt: skip
LAST_EPISODES = 100  # training episodes that are read, the last ones


@dataclass(frozen=True)
class Expected:
    """A cell that a report must contain, and the seeds it must have. `digest`: as in the folder's name."""

    suite: str
    task: str
    system: str
    preset: str
    digest: str
    seeds: tuple[int, ...]

    @property
    def folder(self) -> str:
        """Path of the cell below the runs folder, with forward slashes."""
        return f"{self.suite}/{self.task}/{self.system}-{self.preset}-{self.digest}"


@dataclass(frozen=True)
class RunRecord:
    """One seed of a cell.

    `about` is run.json ({} where there is none), `result` is result.json ({} unless the run is finished),
    `evaluations` has the columns step, policy, episode, return, length, one row per episode (None unless
    the run is finished), `training` the returns of the last training episodes, in the order in which they
    ended (None without a record of them), `note` says in one line what is wrong or how far the run is.
    """

    seed: int
    folder: str
    state: str
    note: str = ""
    about: dict[str, Any] = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    evaluations: pd.DataFrame | None = None
    training: np.ndarray | None = None

    @property
    def finished(self) -> bool:
        return self.state in (DONE, DIVERGED)

    @cached_property
    def means(self) -> pd.DataFrame:
        """Means over the episodes of each evaluation: policy, step, episodes, return, length, sorted by
        policy and step. For finished runs.
        """
        table = self.evaluations
        policies, steps = table["policy"].cat, table["step"].to_numpy()
        names = policies.categories.to_numpy()
        codes = names.argsort().argsort()[policies.codes]  # by name
        names = np.sort(names)
        order = np.lexsort((steps, codes))
        codes, steps = codes[order], steps[order]
        starts = np.flatnonzero(np.r_[True, (np.diff(codes) != 0) | (np.diff(steps) != 0)])
        episodes = np.diff(np.r_[starts, len(order)])
        columns: dict[str, Any] = {
            "policy": names[codes[starts]],
            "step": steps[starts],
            "episodes": episodes,
        }
        for name in ("return", "length"):
            columns[name] = np.add.reduceat(table[name].to_numpy(float)[order], starts) / episodes
        return pd.DataFrame(columns)

    @cached_property
    def greedy(self) -> pd.Series:
        """Mean return of the greedy policy at each evaluation point (P,), index step; finite points only."""
        means = self.means
        returns = means["return"].to_numpy()
        # Only a diverged run has others than finite ones, and those are no measurements.
        rows = (means["policy"].to_numpy() == "greedy") & np.isfinite(returns)
        return pd.Series(returns[rows], means["step"].to_numpy()[rows])


@dataclass(frozen=True)
class CellRecord:
    """A cell and its expected runs, by seed. `facts` is cell.json, {} where that is missing or damaged."""

    name: Expected
    facts: dict[str, Any]
    runs: tuple[RunRecord, ...]

    @property
    def finished(self) -> int:
        return sum(run.finished for run in self.runs)

    @property
    def complete(self) -> bool:
        """Every expected seed has a verified result: the condition for showing a score at all."""
        return 0 < len(self.runs) == self.finished

    @property
    def title(self) -> str:
        """What the system is called: by its name here, or as the user who imported it calls it."""
        return str(self.facts["config"].get("name", self.name.system)) if self.imported else self.name.system

    @property
    def changed(self) -> list[str]:
        """The hyper-parameters that are not the preset's, as `ascent train --set` takes them: "gamma=0.9"."""
        changed = self.facts.get("changed") or {}
        return [
            f"{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in changed.items()
        ]

    @property
    def setting(self) -> str:
        """The preset, and what was changed in it: "mujoco", "mujoco with gamma=0.9"."""
        return " with ".join([self.name.preset, *([", ".join(self.changed)] if self.changed else [])])

    @property
    def imported(self) -> bool:
        """Whether the curves come from another library (`ascent import`)."""
        return self.facts.get("algorithm") == IMPORTED


class _DamagedError(Exception):
    """A record that cannot be trusted; the message names the file, relative to the run or cell folder."""


def load(runs: Path, expected: Sequence[Expected] | None = None) -> list[CellRecord]:
    """Cells below `runs`, sorted by suite, task, system, preset, digest.

    With `expected`, exactly those cells and seeds; without, everything that is found. Raises ValueError
    if there is not one run, or if tuning seeds and reporting seeds come together.
    """
    wanted = _found(runs) if expected is None else _merged(expected)
    cells = [_load_cell(runs, name) for name in wanted]
    if all(run.state == MISSING for cell in cells for run in cell.runs):
        raise ValueError(f"no runs found in {runs}")
    _refuse_mixed_seeds(cells)
    return cells


def read_evaluations(content: bytes) -> pd.DataFrame:
    """What reports need of eval.csv: step, policy, episode, return, length. Its only reader.

    Raises ValueError where the content is not such a table.
    """
    return _read_table(content, _EVALUATION_TYPES).to_pandas()


def _last_returns(content: bytes) -> np.ndarray:
    """Returns of the last training episodes in train.csv, at most LAST_EPISODES, in the order they ended.

    Raises ValueError where the content is not such a table.
    """
    return _read_table(content, {"return": pa.float64()})["return"].to_numpy()[-LAST_EPISODES:]


def _read_table(content: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    options = csv.ConvertOptions(include_columns=list(types), column_types=types, null_values=[])
    try:
        return csv.read_csv(
            pa.BufferReader(content), csv.ReadOptions(use_threads=False), convert_options=options
        )
    except KeyError as error:
        raise ValueError(str(error)) from error


def _found(runs: Path) -> list[Expected]:
    """Every cell folder below `runs` with its seeds."""
    folders = {path.parent for pattern in ("cell.json", "seed-*") for path in runs.glob(f"*/*/*/{pattern}")}
    names = []
    for folder in folders:
        suite, task, name = folder.relative_to(runs).parts
        names.append(Expected(suite, task, *_split_name(folder, name), seeds_of(folder)))
    return _merged(names)


def seeds_of(cell: Path) -> tuple[int, ...]:
    """The seeds of a cell: those that have a folder in it, and those that had one when it was sealed."""
    names = [path.name for path in cell.iterdir()] + [name.partition("/")[0] for name in sealed_names(cell)]
    return tuple(sorted({int(match[1]) for name in names if (match := SEED_FOLDER.fullmatch(name))}))


def _split_name(folder: Path, name: str) -> tuple[str, str, str]:
    """System, preset and digest of a cell folder; cell.json says where a name with dashes is to be split."""
    try:
        facts = _cell_facts(folder)
        system, preset = facts["system"], facts["preset"]
    except _DamagedError:
        system, _, preset = name.rpartition("-")[0].rpartition("-")  # a guess: the cell is refused anyway
    digest = name.removeprefix(f"{system}-{preset}-")
    if not system or digest == name:
        raise ValueError(f"{folder} holds runs but is not named system-preset-digest")
    return system, preset, digest


def _merged(names: Iterable[Expected]) -> list[Expected]:
    """Sorted; a cell that is named twice is one cell with the seeds of both."""
    seeds: dict[tuple[str, ...], set[int]] = {}
    for name in names:
        key = (name.suite, name.task, name.system, name.preset, name.digest)
        seeds.setdefault(key, set()).update(name.seeds)
    return [Expected(*key, tuple(sorted(seeds[key]))) for key in sorted(seeds)]


def _refuse_mixed_seeds(cells: list[CellRecord]) -> None:
    tuning = [cell for cell in cells if any(run.seed >= FIRST_TUNING_SEED for run in cell.runs)]
    if tuning and any(run.seed < FIRST_TUNING_SEED for cell in cells for run in cell.runs):
        raise ValueError(
            f"tuning seeds ({FIRST_TUNING_SEED} and up) and reporting seeds cannot share a report: "
            f"{', '.join(cell.name.folder for cell in tuning)} has tuning seeds"
        )


def _load_cell(runs: Path, name: Expected) -> CellRecord:
    folder = runs / name.folder
    facts: dict[str, Any] = {}
    fault = ""
    if folder.is_dir():
        try:
            facts = _cell_facts(folder)
            _check_identity(facts, name)
        except _DamagedError as error:
            facts, fault = {}, f"../{error}"
    reader = _Reader(folder)
    runs_of_cell = [_load_run(reader, name.folder, seed, fault) for seed in name.seeds]
    return CellRecord(name, facts, tuple(_without_copies(runs_of_cell)))


def _without_copies(runs: list[RunRecord]) -> Iterator[RunRecord]:
    """Runs of two seeds cannot have had the same learner all along: then nobody knows whose record it is."""
    ladders = [run.result.get("digests", {}).get("ladder.csv") for run in runs]
    for run, ladder in zip(runs, ladders, strict=True):
        same = [other.seed for other, its in zip(runs, ladders, strict=True) if ladder and its == ladder]
        if len(same) > 1:
            note = f"ladder.csv: the same in seeds {', '.join(map(str, same))}: a run was copied"
            run = RunRecord(run.seed, run.folder, DAMAGED, note, run.about)
        yield run


class _Reader:
    """The files of a cell's runs. Folders are the record; the seal repeats what reports read of finished runs
    in one file, so that ten thousand runs load in seconds.

    The seal is taken for a run only while its folder is as it was when the cell was sealed: the files are
    there, of the sealed sizes, and none was written since. Otherwise the folder is read.
    """

    def __init__(self, cell: Path) -> None:
        self.cell = cell
        try:
            self.sealed = read_seal(cell)
        except DamagedFile:
            self.sealed = {}
        self._trusted: dict[int, bool] = {}

    def has(self, seed: int, file: str = "") -> bool:
        return (self.cell / f"seed-{seed}" / file).exists()

    def is_sealed(self, seed: int) -> bool:
        """Whether the seal speaks for the run's folder."""
        if seed not in self._trusted:
            folder = f"seed-{seed}/"
            sizes = {name: len(data) for name, data in self.sealed.items() if name.startswith(folder)}
            self._trusted[seed] = f"{folder}result.json" in sizes and self._unchanged(sizes)
        return self._trusted[seed]

    def _unchanged(self, sizes: dict[str, int]) -> bool:
        try:
            sealed_at = (self.cell / layout.SEAL).stat().st_mtime_ns
            found = [((self.cell / name).stat(), size) for name, size in sizes.items()]
        except OSError:
            return False
        return all(stat.st_size == size and stat.st_mtime_ns < sealed_at for stat, size in found)

    def read(self, seed: int, file: str) -> bytes:
        name = f"seed-{seed}/{file}"
        try:
            if self.is_sealed(seed) and name in self.sealed:
                return self.sealed[name]
            return (self.cell / name).read_bytes()
        except OSError as error:
            raise _DamagedError(f"{file}: unreadable ({error.strerror})") from error

    def json(self, seed: int, file: str) -> dict[str, Any]:
        return _parse_json(self.read(seed, file), file)


def _cell_facts(folder: Path) -> dict[str, Any]:
    facts = _read_json(folder / "cell.json")
    if absent := sorted(_CELL_KEYS - facts.keys()):
        raise _DamagedError(f"cell.json: has no {', '.join(absent)}")
    for key in ("config", "evaluation", "versions", "spec", "changed"):
        if not isinstance(facts.get(key, {}), dict):
            raise _DamagedError(f"cell.json: {key} is not an object")
    if not {"points", "episodes"} <= facts["evaluation"].keys():
        raise _DamagedError("cell.json: evaluation has no points or no episodes")
    return facts


def _check_identity(facts: dict[str, Any], name: Expected) -> None:
    """A folder that was copied under another name would put its numbers into the wrong row."""
    for key in ("suite", "task", "system", "preset"):
        if facts[key] != getattr(name, key):
            raise _DamagedError(f"cell.json: {key} is {facts[key]}, but the folder says {getattr(name, key)}")
    if facts["digest"] != name.digest:
        raise _DamagedError(f"cell.json: digest is {facts['digest']}, but the folder says {name.digest}")
    try:
        content = Cell.from_json(facts).digest
    except (LookupError, TypeError) as error:
        raise _DamagedError("cell.json: describes no cell") from error
    if content != name.digest:
        raise _DamagedError(f"cell.json: was changed: its content has digest {content}, not {name.digest}")


def _load_run(reader: _Reader, cell_name: str, seed: int, cell_fault: str) -> RunRecord:
    name = f"{cell_name}/seed-{seed}"
    if not reader.has(seed):
        return RunRecord(seed, name, MISSING, "no folder")
    about: dict[str, Any] = {}
    try:
        if cell_fault:
            raise _DamagedError(cell_fault)
        if not reader.has(seed, "result.json"):
            about = reader.json(seed, "run.json") if reader.has(seed, "run.json") else {}
            return RunRecord(seed, name, UNFINISHED, _progress(reader, seed), about)
        about = reader.json(seed, "run.json")
        if about.get("seed") != seed:
            raise _DamagedError(f"run.json: seed is {about.get('seed')}, but the folder says {seed}")
        result = reader.json(seed, "result.json")
        if result.get("status") not in (DONE, DIVERGED):
            raise _DamagedError(f"result.json: status is {result.get('status')}")
        _check_digests(reader, seed, result)
        evaluations = _checked_evaluations(reader.read(seed, "eval.csv"), result["status"])
        training = None
        if "train.csv" in result["digests"]:
            training = _checked_training(reader.read(seed, "train.csv"), result["status"])
    except _DamagedError as error:
        return RunRecord(seed, name, DAMAGED, str(error), about)
    return RunRecord(seed, name, result["status"], "", about, result, evaluations, training)


def _check_digests(reader: _Reader, seed: int, result: dict[str, Any]) -> None:
    """Compare the CSV files with result.json; of a sealed run, those that reports read."""
    digests = result.get("digests")
    if not isinstance(digests, dict) or "eval.csv" not in digests:
        raise _DamagedError("result.json: has no digest of eval.csv")
    wanted = SEALED if reader.is_sealed(seed) else digests
    for file in sorted(name for name in digests if name.endswith(".csv") and name in wanted):
        if hashlib.sha256(reader.read(seed, file)).hexdigest() != digests[file]:
            raise _DamagedError(f"{file}: sha256 differs from result.json")


def _checked_evaluations(content: bytes, status: str) -> pd.DataFrame:
    try:
        evaluations = read_evaluations(content)
    except ValueError as error:
        raise _DamagedError("eval.csv: not a table of evaluations") from error
    if evaluations.duplicated(["policy", "step", "episode"]).any():
        raise _DamagedError("eval.csv: an episode is there twice")
    finite = np.isfinite(evaluations["return"].to_numpy())
    # A diverged run may have recorded what it diverged to; in one that is done it is a silent failure.
    if status == DONE and not finite.all():
        raise _DamagedError("eval.csv: a return is not finite, yet the run is called done")
    greedy = evaluations["step"].to_numpy()[(evaluations["policy"] == "greedy").to_numpy() & finite]
    if not len(greedy) or (status == DONE and greedy.max() == 0):
        raise _DamagedError("eval.csv: no evaluation of the greedy policy to take a score from")
    return evaluations


def _checked_training(content: bytes, status: str) -> np.ndarray:
    try:
        returns = _last_returns(content)
    except ValueError as error:
        raise _DamagedError("train.csv: not a table of training episodes") from error
    if status == DONE and not np.isfinite(returns).all():
        raise _DamagedError("train.csv: a return is not finite, yet the run is called done")
    return returns


def _progress(reader: _Reader, seed: int) -> str:
    try:
        return f"at step {int(reader.json(seed, 'progress.json')['step']):,}"
    except (_DamagedError, KeyError, TypeError, ValueError):
        return "no progress recorded"  # it is rewritten while running and covered by no digest: a hint only


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return _parse_json(path.read_bytes(), path.name)
    except OSError as error:
        raise _DamagedError(f"{path.name}: unreadable ({error.strerror})") from error


def _parse_json(data: bytes, name: str) -> dict[str, Any]:
    try:
        content = json.loads(data)
    except ValueError as error:
        raise _DamagedError(f"{name}: unreadable (not JSON)") from error
    if not isinstance(content, dict):
        raise _DamagedError(f"{name}: not a JSON object")
    return content

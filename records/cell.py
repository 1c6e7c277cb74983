"""A cell of the benchmark: (system, resolved config, task, step budget, evaluation protocol).

A run is a cell and a seed. The cell's digest, which names its folder, covers everything that may change a
result. A hyperparameter at its default is not part of it, so that one that is added later renames no cell.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

from ascent.records import files, layout, shapes
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.store import Store

MOST_TIMES = 16  # how many times as large as its policy a recorded network may be
MOST_WEIGHTS = 1 << 22  # weights that any network may have
OPTIONAL = (
    "settings",
    "measures",
    "environment",
    "algorithm_sha256",
    "tuned",
)  # fields that many cells do not have
NOTED = ("measures", "tuned")  # of these, what run.json tells: they identify no cell
FIRST_TUNING_SEED = 1000  # seeds from here up choose hyperparameters; they never enter a reported number


def without_tuning(seeds: Iterable[int]) -> list[int]:
    """Return the reporting seeds among these; all of them if they are tuning seeds only."""
    seeds = list(seeds)
    return [seed for seed in seeds if seed < FIRST_TUNING_SEED] or seeds


def of_kind(seeds: Iterable[int], like: Iterable[int]) -> list[int]:
    """Return the seeds, sorted, that are for tuning or for reporting, as those of `like` are."""
    tuning = min(like, default=0) >= FIRST_TUNING_SEED
    return sorted(seed for seed in seeds if (seed >= FIRST_TUNING_SEED) == tuning)


def chosen(seeds: Iterable[int]) -> bool:
    """Return whether reporting seeds are not 0 to n-1: then someone chose them."""
    seeds = sorted(seeds)
    return bool(seeds) and seeds[0] < FIRST_TUNING_SEED and seeds != list(range(len(seeds)))


@dataclass(frozen=True)
class Evaluation:
    """The evaluation protocol: one evaluation at step 0, then `points` evenly over the budget."""

    points: int = 50
    episodes: int = 10  # per evaluation

    def grid(self, steps: int) -> list[int]:
        """Return the environment steps (per seed) at which to evaluate: 0 first, the budget last."""
        return sorted({steps * i // self.points for i in range(self.points + 1)})


@dataclass(frozen=True)
class Cell:
    """One cell of the benchmark, fully resolved: nothing in it is looked up later."""

    system: str
    algorithm: str
    preset: str
    config: dict[str, Any]  # every hyperparameter, for the reader
    suite: str
    task: str
    steps: int  # environment steps per seed, summed over its environments
    evaluation: Evaluation
    versions: dict[str, int]  # of the algorithm file, seedwise, the suite and the runner
    settings: dict[str, Any] | None = None  # the hyperparameters that differ from the algorithm's defaults
    measures: tuple[str, ...] = ()  # what is also measured: it changes no result, and run.json names it
    environment: dict[str, Any] | None = None  # how its user declares a task from outside this project
    algorithm_sha256: str = ""  # of an algorithm's file from outside the suite
    # The tuning that its hyperparameters came of (runners/presets.py), for run.json: it changes no result.
    tuned: dict[str, Any] | None = field(default=None, compare=False)
    # Where that file is on this machine. Only the user says so: no record does, and none is believed.
    algorithm_file: Path | None = field(default=None, compare=False)

    @cached_property
    def digest(self) -> str:
        """Ten hex digits that change with anything that may change a result.

        They cover `settings`, and not the rest of `config`. In records of versions before 0.3, which have no
        `settings`, they cover `config`. They do not cover `measures` and `tuned`.
        """
        identity = self.to_json()
        for name in NOTED:
            identity.pop(name, None)
        if self.settings is not None:
            del identity["config"]
        return sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """The name of the cell's folder: system, preset, digest."""
        return layout.cell_folder(self.system, self.preset, self.digest)

    def folder(self, runs: Path) -> Path:
        """Return the cell's folder in a folder of run records."""
        return runs / self.suite / self.task / self.name

    def run_folder(self, seed: int, runs: Path) -> Path:
        """Return the folder of one run in a folder of run records."""
        return self.folder(runs) / layout.seed_folder(seed)

    def label(self) -> str:
        """Return the cell's task and name, for messages and tables."""
        return f"{self.task} {self.name}"

    def is_finished(self, seed: int, runs: Path) -> bool:
        """Return whether a run is done or has diverged: there is nothing left to train."""
        return Store(self.folder(runs)).has(seed, layout.RESULT)

    def missing(self, seeds: Iterable[int], runs: Path) -> list[int]:
        """Return those of some seeds that are not finished."""
        finished = Store(self.folder(runs)).finished()
        return [seed for seed in seeds if seed not in finished]

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the cell that a record has; those of `OPTIONAL` only if it has them."""
        record = asdict(self)
        del record["algorithm_file"]
        for name in OPTIONAL:
            if record[name] in (None, (), ""):
                del record[name]
        return record

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Cell":
        """Return the cell whose fields are among those of `record`.

        Raises:
            LookupError, TypeError: the record does not describe a cell.
        """
        names = cls.__dataclass_fields__.keys() - {*OPTIONAL, "algorithm_file"}
        settings, config = record.get("settings"), record["config"]
        if settings is not None and any(config[name] != value for name, value in settings.items()):
            raise TypeError("settings and config contradict each other")
        fields = {name: record[name] for name in names} | {
            "evaluation": Evaluation(**record["evaluation"]),
            "settings": settings,
            "measures": tuple(record.get("measures", ())),
            "environment": record.get("environment"),
            "algorithm_sha256": record.get("algorithm_sha256", ""),
            "tuned": record.get("tuned"),
        }
        return cls(**fields)


def refuse_large(cell: Cell, numbers: int) -> None:
    """Raise InputError if a record asks for a network that is much larger than its recorded policy.

    `numbers` is how many numbers that policy has. What is built for it would not fit into memory.
    """
    workers = cell.config.get("workers", 1)  # each has a copy of A3C's network
    copies = workers if isinstance(workers, int) else 1
    most = max(MOST_WEIGHTS, MOST_TIMES * numbers)
    for name, number in weights(cell.config).items():
        if number * copies > most:
            asked = f"{name} asks for {number * copies:,} weights"
            raise InputError(f"{cell.label()}: {asked}; its policies have fewer")


def weights(config: Mapping[str, Any]) -> dict[str, int]:
    """Return the least number of weights of each network in a config, by the name of its widths."""
    return {
        name: sum(a * b for a, b in pairwise((1, *widths, 1)))
        for name, widths in config.items()
        if isinstance(widths, list | tuple) and all(isinstance(units, int) for units in widths)
    }


def overrides(changed: Mapping[str, Any]) -> list[str]:
    """Return hyperparameter overrides as `ascent train --set` takes them: "gamma=0.9"."""
    return [f"{name}={x if isinstance(x, str) else json.dumps(x)}" for name, x in changed.items()]


def setting(preset: str, changed: Mapping[str, Any]) -> str:
    """Return a preset with its overrides in words: "code", "code with rate=3.0, bits=true"."""
    return " with ".join([preset, *([", ".join(overrides(changed))] if changed else [])])


def read_cell(folder: Path) -> Cell:
    """Return the cell that a cell's folder describes.

    Raises:
        InputError: the folder has no cell.json.
        DamagedFile: its cell.json does not describe a cell, or describes another folder's cell.
    """
    path = folder.resolve() / layout.CELL
    if not path.exists():
        raise InputError(f"{folder} is not a cell folder: it has no {layout.CELL}")
    try:
        facts = files.read_json(path)
        shapes.check(path.name, facts, path)
        cell = Cell.from_json(facts)
        expected = cell.folder(path.parents[3])
    except (LookupError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged: it does not describe a cell") from error
    if expected != path.parent:
        raise DamagedFile(f"{path} is damaged: it describes {cell.label()}, not this folder's cell")
    return cell


def find(target: str, runs: Path) -> Path:
    """Return the folder of a cell, given its path or the beginning of its digest.

    Raises:
        InputError: no cell matches, or several do.
    """
    if not target:
        raise InputError("name a cell: its folder, its digest or the beginning of its digest")
    if (Path(target) / layout.CELL).is_file():
        return Path(target)
    folders = {layout.digest_of(path.parent): path.parent for path in runs.glob(layout.CELLS)}
    if Path(target).is_dir():
        raise InputError(f"{target} is not a cell folder: it has no {layout.CELL}")
    if not folders:
        raise InputError(f"there are no cells in {runs}")
    matches = [folder for digest, folder in folders.items() if digest.startswith(target)]
    if len(matches) > 1:
        names = ", ".join(sorted(str(folder.relative_to(runs)) for folder in matches))
        raise InputError(f"{target!r} is ambiguous: it matches {len(matches)} cells: {names}")
    if not matches:
        raise unknown("cell", target, sorted(folders))
    return matches[0]

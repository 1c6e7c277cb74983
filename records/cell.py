"""What is run: a cell of the benchmark is (system, resolved config, task, step budget, evaluation protocol).

A run is a cell and a seed. A cell's digest names its folder: everything that may change a result goes in.
Nothing here needs torch or a simulator: a cell that was resolved elsewhere can be planned, submitted and
watched on a machine that has neither.
"""

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from ascent.records.errors import InputError, unknown

FIRST_TUNING_SEED = 1000  # seeds from here up choose hyperparameters; they never enter a reported number


@dataclass(frozen=True)
class Evaluation:
    """The protocol: `points` evaluations after step 0, evenly over the budget, `episodes` in each."""

    points: int = 50
    episodes: int = 10

    def grid(self, steps: int) -> list[int]:
        """The environment steps (per seed) at which to evaluate: 0 first, the budget last."""
        return sorted({steps * i // self.points for i in range(self.points + 1)})


@dataclass(frozen=True)
class Cell:
    """One cell of the benchmark, fully resolved: nothing in it is looked up later."""

    system: str
    algorithm: str
    preset: str
    config: dict[str, object]  # every hyper-parameter
    suite: str
    task: str
    steps: int  # environment steps per seed, over its E environments
    evaluation: Evaluation
    versions: dict[str, int]  # of the algorithm file, seedwise, the suite and the runner

    @cached_property
    def digest(self) -> str:
        """Ten hex digits that change with anything that may change a result."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]

    def folder(self, out: Path) -> Path:
        """Where the cell's runs live below `out`."""
        return out / self.suite / self.task / f"{self.system}-{self.preset}-{self.digest}"

    def label(self) -> str:
        """The cell in a line of text."""
        return f"{self.task} {self.system}-{self.preset}-{self.digest}"

    def is_finished(self, seed: int, out: Path) -> bool:
        """Whether a run is done or has diverged: there is nothing left to train."""
        return (self.folder(out) / f"seed-{seed}" / "result.json").exists()

    @classmethod
    def from_json(cls, record: dict) -> "Cell":
        """The cell whose fields are among those of `record`."""
        fields = {name: record[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "evaluation": Evaluation(**record["evaluation"])})


def find(target: str, runs: Path) -> Path:
    """The folder of a cell, from its path or the start of its digest. Raises InputError."""
    if not target:
        raise InputError("give a cell: its folder, or its digest or the start of that")
    if (Path(target) / "cell.json").is_file():
        return Path(target)
    folders = {path.parent.name.rpartition("-")[2]: path.parent for path in runs.glob("*/*/*/cell.json")}
    if Path(target).is_dir():
        raise InputError(f"{target} is not the folder of a cell: it has no cell.json")
    if not folders:
        raise InputError(f"there are no cells in {runs}")
    found = [folder for digest, folder in folders.items() if digest.startswith(target)]
    if len(found) > 1:
        names = ", ".join(sorted(str(folder.relative_to(runs)) for folder in found))
        raise InputError(f"{target!r} is the start of {len(found)} digests: {names}")
    if not found:
        raise unknown("cell", target, sorted(folders))
    return found[0]

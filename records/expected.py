"""Which cells and seeds a report must contain, and where their records are."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ascent.records import layout
from ascent.records.cell import Cell
from ascent.records.plan import Planned
from ascent.records.shelf import ShelfCell, named
from ascent.records.store import Store

NAMES = ("suite", "task", "system", "preset", "digest")  # what identifies a cell in a table
OPTIONAL = ("shelf", "name", "grid")


@dataclass(frozen=True)
class Expected:
    """The name of a cell, as its folder has it, and the seeds that a report must contain.

    `shelf` is the name of the shelf that has its records (`shelf.py`); "" where the folder of runs has them.
    `name` and `grid` are what the sweep calls the system, and the system of whose grid it is one setting
    (`plan.Planned`); "" where it has none.
    """

    suite: str
    task: str
    system: str
    preset: str
    digest: str
    seeds: tuple[int, ...]
    shelf: str = ""
    name: str = ""
    grid: str = ""

    @classmethod
    def of(cls, cell: Cell, seeds: Iterable[int]) -> "Expected":
        """Return the name of a cell with these seeds."""
        return cls(cell.suite, cell.task, cell.system, cell.preset, cell.digest, tuple(seeds))

    @classmethod
    def planned(cls, plan: Planned) -> "Expected":
        """Return the name of a planned cell with its seeds, and what the sweep calls its system."""
        return replace(cls.of(plan.cell, plan.seeds), name=plan.name, grid=plan.grid)

    @classmethod
    def on_shelf(cls, cell: ShelfCell, name: str) -> "Expected":
        """Return the name of a cell on the shelf with a name."""
        suite, task, _ = cell.folder.split("/")
        return cls(suite, task, cell.system, cell.preset, cell.digest, tuple(range(cell.seeds)), name)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Expected":
        """Return what `to_json` made of one. Raises LookupError or TypeError."""
        for key in OPTIONAL:
            if not isinstance(record.get(key, ""), str):
                raise TypeError(f"{key} is no name")
        return cls(**{**record, "seeds": tuple(record["seeds"])})

    def to_json(self) -> dict[str, Any]:
        """Return the fields; optional ones only if they are set."""
        return {key: value for key, value in asdict(self).items() if value or key not in OPTIONAL}

    def home(self, runs: Path) -> Path:
        """Return the folder of records that has the cell: `runs` if it has all of its seeds, else the shelf.

        Raises InputError if this installation has no such shelf.
        """
        store = Store(runs / self.folder)
        own = not self.shelf or all(store.has(seed, layout.RESULT) for seed in self.seeds)
        return runs if own else named(self.shelf).folder

    @property
    def folder(self) -> str:
        """Path of the cell below the runs folder, with forward slashes."""
        return f"{self.suite}/{self.task}/{layout.cell_folder(self.system, self.preset, self.digest)}"


def cell_columns(cells: Iterable[Expected]) -> tuple[str, ...]:
    """Return the columns that identify cells in a table: `NAMES`, and "name" if a sweep names any of them."""
    return (*NAMES, *(["name"] if any(cell.name for cell in cells) else []))

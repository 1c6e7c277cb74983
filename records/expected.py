"""Which cells and seeds a report must contain, and where their records are."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ascent.records import layout
from ascent.records.cell import Cell
from ascent.records.shelf import ShelfCell, named
from ascent.records.store import Store


@dataclass(frozen=True)
class Expected:
    """The name of a cell, as its folder has it, and the seeds that a report must contain.

    `shelf` is the name of the shelf that has its records (`shelf.py`); "" where the folder of runs has them.
    """

    suite: str
    task: str
    system: str
    preset: str
    digest: str
    seeds: tuple[int, ...]
    shelf: str = ""

    @classmethod
    def of(cls, cell: Cell, seeds: Iterable[int]) -> "Expected":
        """Return the name of a cell with these seeds."""
        return cls(cell.suite, cell.task, cell.system, cell.preset, cell.digest, tuple(seeds))

    @classmethod
    def on_shelf(cls, cell: ShelfCell, name: str) -> "Expected":
        """Return the name of a cell on the shelf with a name."""
        suite, task, _ = cell.folder.split("/")
        return cls(suite, task, cell.system, cell.preset, cell.digest, tuple(range(cell.seeds)), name)

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> "Expected":
        """Return what `to_json` made of one. Raises LookupError or TypeError."""
        if not isinstance(record.get("shelf", ""), str):
            raise TypeError("shelf is no name")
        return cls(**{**record, "seeds": tuple(record["seeds"])})

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `shelf` only if there is one."""
        record = asdict(self)
        if not self.shelf:
            del record["shelf"]
        return record

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

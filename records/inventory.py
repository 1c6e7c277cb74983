"""What a folder of records holds: cells with the states of their runs, their sizes and plans."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ascent.records import layout, ledger
from ascent.records.cell import Cell, read_cell
from ascent.records.errors import InputError
from ascent.records.progress import run_progress
from ascent.records.store import Store, cell_names

DAMAGED = "damaged"
FINISHED = ("done", "diverged")


@dataclass(frozen=True)
class Listed:
    """A cell of a folder of records.

    Attributes:
        folder: the cell's folder.
        name: suite/task/cell.
        states: by seed, one of `progress.STATES`, or "damaged".
        sealed: the seeds that have no folder.
        share: how much of the steps of its runs is done, from 0 to 1.
        size: bytes of all of its files.
        changed: when a file of it was last written, in seconds since 1970.
        plans: the plans in the ledger that have it: the name of the sweep and the digest, "classic
            0123456789ab", or the digest alone.
        fault: why it cannot be read, in one line; "" if it can.
    """

    folder: Path
    name: str
    states: Mapping[int, str]
    sealed: frozenset[int]
    share: float
    size: int
    changed: float
    plans: tuple[str, ...]
    fault: str = ""

    def finished(self, seeds: Sequence[int] | None = None) -> list[int]:
        """Return those of some seeds (default: of all) that are done or diverged."""
        chosen = self.states if seeds is None else seeds
        return [seed for seed in chosen if self.states.get(seed) in FINISHED]

    def words(self, seeds: Sequence[int] | None = None) -> str:
        """Return the states of some seeds (default: of all) in words: "3 done, 1 running"."""
        chosen = self.states if seeds is None else [seed for seed in seeds if seed in self.states]
        counts = Counter(self.states[seed] for seed in chosen)
        return ", ".join(f"{number} {state}" for state, number in counts.most_common()) or "no runs"


def inventory(runs: Path, folders: Sequence[Path] | None = None) -> list[Listed]:
    """Return the cells in a folder of records, or those in these folders, by task and name.

    A damaged cell is listed with its fault.

    Raises:
        InputError: there are no cells.
    """
    if folders is None:
        folders = [runs / name for name in cell_names(runs)]
        if not folders:
            raise InputError(f"there are no cells in {runs}")
    plans: dict[Path, dict[str, list[str]]] = {}
    for home in {folder.resolve().parents[2] for folder in folders}:
        plans[home] = _named_plans(home) if (home / layout.LEDGER).is_dir() else {}
    return [_listed(folder, plans[folder.resolve().parents[2]]) for folder in folders]


def _named_plans(runs: Path) -> dict[str, list[str]]:
    """Return the plans that have a cell, by the cell's folder: those with the name of a sweep first."""
    sweeps = ledger.sweeps(runs)
    return {
        cell: [
            " ".join([*sweeps.get(digest, ()), digest])
            for digest in sorted(digests, key=lambda digest: (digest not in sweeps, digest))
        ]
        for cell, digests in ledger.plans_by_cell(runs).items()
    }


def _listed(folder: Path, plans: Mapping[str, Sequence[str]]) -> Listed:
    name = "/".join(folder.resolve().parts[-3:])
    states: dict[int, str] = {}
    sealed: set[int] = set()
    done = 0.0
    fault = ""
    try:
        cell = read_cell(folder)
        store = Store(folder)
        for seed in store.seeds():
            states[seed], part = state_of(store, cell, seed)
            done += part
            sealed |= {seed} if store.in_seal(seed) else set()
    except InputError as error:
        fault = str(error)
    size, changed = _size(folder)
    share = done / len(states) if states else 0.0
    own = tuple(plans.get(name, ()))
    return Listed(folder, name, states, frozenset(sealed), share, size, changed, own, fault)


def state_of(store: Store, cell: Cell, seed: int) -> tuple[str, float]:
    """Return the state of a run, and how much of its steps is done, from 0 to 1."""
    try:
        state, record = run_progress(store, seed)
    except (InputError, LookupError, OSError):
        return DAMAGED, 0.0
    if state in FINISHED:
        return state, 1.0
    step = record.get("step", 0)
    return state, min(1.0, step / cell.steps) if isinstance(step, int) else 0.0


def _size(folder: Path) -> tuple[int, float]:
    """Return the bytes of all files below a folder, and when the last of them was written."""
    size, changed = 0, 0.0
    for path in folder.rglob("*"):
        try:
            about = path.lstat()
        except OSError:  # a run that goes on replaces its files
            continue
        if not path.is_dir():
            size += about.st_size
            changed = max(changed, about.st_mtime)
    return size, changed

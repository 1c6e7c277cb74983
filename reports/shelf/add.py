"""Put finished cells on a shelf, and finished runs of other cells beside it.

A cell is checked, verified and compacted before anything is written, and its seal is written last.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ascent.records import files, layout, ledger, seal
from ascent.records.errors import InputError
from ascent.records.plan import seed_ranges
from ascent.records.shelf import PARTIAL, SOURCES, Shelf, ShelfCell, source_archives
from ascent.records.store import Store, read_seal, seals
from ascent.reports.checking.check import refuse
from ascent.reports.checking.setting import Allowed
from ascent.reports.checking.verify import NOTHING
from ascent.reports.shelf.proofs import Proof, append, prove
from ascent.reports.statistics import perturbed


@dataclass(frozen=True)
class Added:
    """What was put on a shelf, and beside it."""

    proofs: tuple[Proof, ...]
    kept: tuple[ShelfCell, ...]


@dataclass(frozen=True)
class _Entry:
    """What will be written of a cell."""

    cell: ShelfCell
    folder: Path  # of the records
    runs: dict[int, dict[str, bytes]]  # by seed and file

    @cached_property
    def archive(self) -> tuple[str, bytes]:
        return seal.archive(self.runs)


def ready(shelf: Shelf, runs: Path) -> tuple[list[ShelfCell], list[ShelfCell]]:
    """Return the planned cells in a folder of records that are not on the shelf: complete ones, and others
    with at least one finished run.
    """
    complete, begun = [], []
    for cell in shelf.missing:
        finished = _finished(runs / cell.folder, cell)
        if len(finished) == cell.seeds:
            complete.append(cell)
        elif finished:
            begun.append(cell)
    return complete, begun


def add(
    shelf: Shelf,
    runs: Path,
    complete: Sequence[ShelfCell],
    begun: Sequence[ShelfCell] = (),
    depth: str = "policy",
    allowed: Allowed = NOTHING,
    tell: Callable[[int, int], None] = lambda done, cells: None,
) -> Added:
    """Put complete cells on a shelf, and the finished runs of others beside it.

    All are checked, and complete cells verified. Nothing is written if one of them is refused.

    Args:
        shelf: the shelf.
        runs: folder of their records.
        complete: cells of the shelf's plan.
        begun: others, with at least one finished run; their policies are all kept.
        depth: how complete cells are verified; see `ascent.reports.checking.verify`.
        allowed: what may be run of the records.
        tell: called with the number of complete cells that are done, and of all.

    Raises:
        InputError: a cell is incomplete, breaks a rule, differs when it is verified, was not made by the
            shelf's commit, or is there already with other bytes.
    """
    entries, new, partial = [], [], shelf.folder.parent / PARTIAL
    for number, cell in enumerate(complete):
        tell(number, len(complete))
        folder = runs / cell.folder
        if len(finished := _finished(folder, cell)) < cell.seeds:
            which = f"seeds {seed_ranges(finished)} of" if finished else "none of"
            raise InputError(f"{cell.folder}: {which} 0-{cell.seeds - 1} are finished")
        _check(folder, shelf, cell)
        entry = _entry(cell, folder, final=True)
        if not shelf.has(cell):
            new.append(prove(folder, cell, entry.archive[0], depth, allowed))
            entries.append(entry)
        elif [path.name for path in seals(shelf.folder / cell.folder)] != [entry.archive[0]]:
            raise InputError(f"{cell.folder} is on the shelf {shelf.name} with other bytes")
    beside = [_entry(cell, runs / cell.folder, final=False) for cell in begun]
    beside = [entry for entry in beside if not (partial / entry.cell.folder / entry.archive[0]).exists()]
    for entry in beside:
        _check(entry.folder, shelf, entry.cell)
    append(shelf, new)  # first: a cell without a proof would stay without one
    for entry in entries:
        _write(entry, runs, shelf.folder)
        shutil.rmtree(partial / entry.cell.folder, ignore_errors=True)
    for entry in beside:
        old = [
            path for path in seals(partial / entry.cell.folder) if read_seal(path).keys() <= entry.runs.keys()
        ]
        _write(entry, runs, partial)
        for path in old:
            path.unlink()
    tell(len(complete), len(complete))
    return Added(tuple(new), tuple(entry.cell for entry in beside))


def restore(shelf: Shelf, runs: Path) -> None:
    """Copy what lies beside the shelf into a folder of records, for the campaign to go on."""
    partial = shelf.folder.parent / PARTIAL
    for cell in shelf.missing:
        folder = partial / cell.folder
        if set(_finished(folder, cell)) - set(_finished(runs / cell.folder, cell)):
            for path in (folder / layout.CELL, *seals(folder), *source_archives(folder)):
                _copy(path, runs / cell.folder / path.name)
    for path in (partial / layout.LEDGER).glob("*.json"):
        _copy(path, runs / layout.LEDGER / path.name)


def kept_seeds(cell: ShelfCell, with_policy: Sequence[int]) -> list[int]:
    """Return the seeds whose policy is kept: all, or one that the cell's digest chooses.

    It is seed `digest` modulo n or, if that diverged, the next one with a policy.
    """
    if cell.policies > 1 or not with_policy:
        return list(with_policy)
    first = int(cell.digest, 16) % cell.seeds
    return [min(with_policy, key=lambda seed: (seed - first) % cell.seeds)]


def _finished(folder: Path, cell: ShelfCell) -> list[int]:
    """Return the planned seeds that are finished."""
    store = Store(folder)
    return [seed for seed in range(cell.seeds) if store.has(seed, layout.RESULT)]


def _entry(cell: ShelfCell, folder: Path, final: bool) -> _Entry:
    """Return what a cell's files become: compact and, on the shelf itself, with the chosen policies only."""
    store = Store(folder)
    runs = {seed: seal.whole(store, seed, compacted=True) for seed in _finished(folder, cell)}
    if final:
        kept = kept_seeds(cell, [seed for seed, contents in runs.items() if layout.POLICY in contents])
        for seed, contents in runs.items():
            for name in [name for name in contents if layout.KEPT_POLICY.fullmatch(name)]:
                del contents[name]
            if seed not in kept:
                contents.pop(layout.POLICY, None)
    return _Entry(cell, folder, runs)


def _check(folder: Path, shelf: Shelf, cell: ShelfCell) -> None:
    """Raise InputError with the first rule that the finished runs of a cell break, or for another commit."""
    finished = _finished(folder, cell)
    refuse(folder, finished)
    store = Store(folder)
    for seed in finished:
        commit = store.json(seed, layout.RUN).get("commit")
        if commit not in shelf.commits:
            name = f"{cell.folder}/{layout.seed_folder(seed)}"
            raise InputError(f"{name} was trained at commit {commit}, not at {shelf.commit} as the shelf")


def _write(entry: _Entry, runs: Path, target: Path) -> None:
    """Write the files of a cell below `target`, its seal last."""
    home = target / entry.cell.folder
    _copy(entry.folder / layout.CELL, home / layout.CELL)
    for name in perturbed.files(entry.folder):
        _copy(entry.folder / layout.ROBUSTNESS / name, home / layout.ROBUSTNESS / name)
    for path in source_archives(entry.folder, entry.runs):
        _copy(path, target / SOURCES / path.name)
    for path in ledger.files_of([entry.cell.folder], runs):
        _copy(path, target / layout.LEDGER / path.name)
    name, data = entry.archive
    files.write(home / name, data)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, all or nothing. Raises InputError if there is another one under the name."""
    data = files.read(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        files.write(target, data)
    elif files.read(target) != data:
        raise InputError(f"{target} is there with other content than {source}")

"""Remove cells and runs, or move cells to another folder of records: whole, whenever the process is killed.

    <runs>/.removed/<cell>-<token>    a cell that was removed, until its files are deleted
    <runs>/.moving/<cell>-<digest>    a copy that is not whole yet; the digest is of where it comes from

A cell is removed by renaming its folder; its files are deleted afterwards, after a kill by the next removal.
A moved cell is copied, the copy renamed into place, and then the original is removed: after a kill between
the two, the same command finds the same bytes in both places and removes the original. The ledger is only
added to: that the runs were started stays recorded.
"""

import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

from ascent.records import files, layout, ledger
from ascent.records.errors import InputError
from ascent.records.ownership import Ownership, acquire_all
from ascent.records.plan import seed_ranges
from ascent.records.seal import alone
from ascent.records.store import Store

REMOVED = ".removed"
MOVING = ".moving"


def remove(cell: Path, seeds: Collection[int] | None = None) -> list[int]:
    """Remove runs of a cell, or the cell with all that belongs to it. Returns the seeds.

    Args:
        cell: the cell's folder.
        seeds: the runs to remove; default: the whole cell.

    Raises:
        InputError: some of these seeds are not there, or sealed beside others that stay.
        RunHeld: a process is at work in a run or in the cell.
    """
    cell = cell.resolve()
    finish(cell.parents[2])
    with alone(cell) as work, _owned(cell, seeds):
        store = Store(cell)
        present = store.seeds()
        gone = sorted(present if seeds is None else seeds)
        if absent := sorted({*gone} - {*present}):
            raise InputError(f"{cell} has no seeds {seed_ranges(absent)}; it has {seed_ranges(present)}")
        if seeds is None:
            _take_away(cell)
            return gone
        if sealed := [seed for seed in gone if store.in_seal(seed)]:
            raise InputError(
                f"{cell}: seeds {seed_ranges(sealed)} are sealed: run `ascent runs unseal` first"
            )
        for seed in gone:
            name = layout.seed_folder(seed)
            (cell / name).rename(work / name)  # which `alone` deletes, after a kill the next time
    return gone


def finish(runs: Path) -> None:
    """Delete what removals that were killed have left."""
    for folder in (runs / REMOVED).glob("*"):
        shutil.rmtree(folder, ignore_errors=True)
    _prune(runs / REMOVED)


def _prune(folder: Path) -> None:
    """Remove a folder, unless it holds anything."""
    with suppress(OSError):
        folder.rmdir()


def move(cell: Path, to: Path) -> Path:
    """Move a cell with all that belongs to it into another folder of records. Returns its new folder.

    Args:
        cell: the cell's folder.
        to: the other folder of records, on any file system.

    Raises:
        InputError: the other folder has this cell already, or a file of the ledger with other content.
        RunHeld: a process is at work in a run or in the cell.
    """
    cell, to = cell.resolve(), to.resolve()
    runs, name = cell.parents[2], "/".join(cell.parts[-3:])
    target = to / name
    if runs == to:
        raise InputError(f"{cell} is in {to} already")
    finish(runs)
    with alone(cell), _owned(cell):
        if target.exists() and not _same(cell, target):
            raise InputError(f"{target} is there already, with other files: see `ascent runs merge`")
        if not target.exists():
            for path in ledger.files_of([name], runs):
                _copy(path, to / layout.LEDGER / path.name)
            _copy_cell(cell, target, to / MOVING)
        _take_away(cell)
    return target


@contextmanager
def _owned(cell: Path, seeds: Collection[int] | None = None) -> Iterator[None]:
    """Own the folders of runs of a cell, so that nobody trains them."""
    found = {layout.seed_of(path): path for path in cell.glob("seed-*")}
    owners = [
        Ownership(path)
        for seed, path in found.items()
        if seed is not None and (seeds is None or seed in seeds)
    ]
    acquire_all(owners)
    try:
        yield
    finally:
        for owner in owners:
            owner.remove()


def _take_away(cell: Path) -> None:
    """Remove a cell's folder at once, then delete its files, and folders that it leaves empty."""
    runs = cell.parents[2]
    away = runs / REMOVED / f"{cell.name}-{uuid4().hex[:12]}"
    away.parent.mkdir(exist_ok=True)
    cell.rename(away)
    files.sync_folder(cell.parent)
    shutil.rmtree(away)
    for folder in (away.parent, cell.parent, cell.parents[1]):
        _prune(folder)


def _records(cell: Path) -> dict[Path, Path]:
    """Return the files of a cell, by their paths in it: all but the claims of owners and temporary files."""
    found = {}
    for path in sorted(cell.rglob("*")):
        place = path.relative_to(cell)
        hidden = any(part.startswith(".") for part in place.parts)
        if (
            not hidden
            and not path.name.startswith(("owner-", "free-"))
            and (path.is_symlink() or path.is_file())
        ):
            found[place] = path
    return found


def _same(cell: Path, other: Path) -> bool:
    """Return whether two folders of a cell have the same files."""
    ours, theirs = _records(cell), _records(other)
    return ours.keys() == theirs.keys() and all(
        files.read(path) == files.read(theirs[place]) for place, path in ours.items()
    )


def _copy_cell(cell: Path, target: Path, moving: Path) -> None:
    """Copy a cell, all or nothing."""
    begun = moving / f"{cell.name}-{sha256(str(cell).encode()).hexdigest()[:12]}"
    shutil.rmtree(begun, ignore_errors=True)  # of a process that was killed: `alone` admits one at a time
    for place, path in _records(cell).items():
        (begun / place).parent.mkdir(parents=True, exist_ok=True)
        files.write(begun / place, files.read(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    begun.rename(target)
    files.sync_folder(target.parent)
    _prune(moving)


def _copy(path: Path, target: Path) -> None:
    """Copy a file of the ledger. Raises InputError if another one has its name."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if not files.create(target, files.read(path)):
        raise InputError(f"{target} has other content than {path}")

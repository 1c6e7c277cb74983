"""Merge folders of run records: the runs of one sweep that were trained in several places become one folder.

For each run of a source, `plan` decides which record the target has afterwards:

| the run is                             | the target has                                            |
|----------------------------------------|-----------------------------------------------------------|
| in one folder only                     | that run                                                  |
| finished in one, unfinished in others  | the finished run                                          |
| finished in several                    | the first of them; if result bytes differ, all is refused |
| unfinished in several                  | the first of those with the furthest undamaged checkpoint |

The target comes first, then the sources as they are given. Damaged runs and runs in use are refused. Sources
are only read. Ledgers are merged file by file: each of their names is unique, so that all plans and starts of
all folders stay visible. A seal is copied as it is if the target has none of its runs and takes all of them.

The target gets the ledgers first, then whole runs, one after another: after a kill, the same merge goes on.
Logs, tables of `ascent robustness` and `ascent crossplay` and the records of SLURM jobs are not merged.
"""

import io
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ascent.records import files, layout, ledger
from ascent.records.cell import read_cell
from ascent.records.checkpoints import furthest
from ascent.records.errors import DamagedFile, InputError, RunHeld
from ascent.records.ownership import Ownership, standing, watch
from ascent.records.plan import seed_ranges
from ascent.records.provenance import source_digest
from ascent.records.run import result_digest, same_cell
from ascent.records.seal import REPLACED, alone, whole
from ascent.records.store import Store, cell_names, read_seal, seals


@dataclass(frozen=True)
class Choice:
    """Which record of a run the target has after a merge.

    Attributes:
        cell: suite/task/cell.
        seed: the seed.
        source: the folder of records that the run is copied from; None if the target keeps its own.
        words: what is done and why, in one line.
    """

    cell: str
    seed: int
    source: Path | None
    words: str


@dataclass(frozen=True)
class _Run:
    """A run in one of the folders. `result` is what must not differ, {} of a run that is not finished."""

    home: Path
    result: dict[str, Any]
    step: int  # of the furthest checkpoint; -1 without any

    @property
    def words(self) -> str:
        if self.result:
            return f"finished in {self.home}"
        reached = f"at step {self.step:,}" if self.step >= 0 else "begun"
        return f"{reached} in {self.home}"


def plan(sources: Sequence[Path], runs: Path) -> list[Choice]:
    """Return what a merge of some folders of records into `runs` would do. Writes nothing.

    Raises:
        InputError: a source has no cells, a run differs or is damaged, or two folders contradict each other.
        RunHeld: a process is training a run of a source.
    """
    for number, source in enumerate(sources):
        if not source.is_dir():
            raise InputError(f"{source} is not a folder")
        if any(source.resolve() == other.resolve() for other in (runs, *sources[:number])):
            raise InputError(f"{source} is given twice: a folder is merged into another one")
        if not cell_names(source):
            raise InputError(f"there are no cells in {source}")
    _check_ledgers([runs, *sources])
    by_cell: dict[str, list[Path]] = {}
    for source in sources:
        for name in cell_names(source):
            by_cell.setdefault(name, []).append(source)
    own = {*cell_names(runs)}
    shared = {name: [*([runs] if name in own else []), *by_cell[name]] for name in sorted(by_cell)}
    watch([Ownership(folder) for name, homes in shared.items() for folder in _begun(name, homes)])
    choices: list[Choice] = []
    refused: list[InputError] = []
    for name, homes in shared.items():
        try:
            _check_cells([home / name for home in homes])
            for seed, places in sorted(_places(name, homes).items()):
                if places == [runs]:
                    continue
                try:
                    choices.append(_choice(name, seed, places, runs))
                except InputError as error:
                    refused.append(error)
        except InputError as error:
            refused.append(error)
    if refused:
        more = f" (and {len(refused) - 1:,} more)" if len(refused) > 1 else ""
        raise type(refused[0])(f"{refused[0]}{more}")
    return choices


def merge(
    choices: Sequence[Choice],
    sources: Sequence[Path],
    runs: Path,
    tell: Callable[[int, int], None] = lambda done, cells: None,
) -> None:
    """Do what `plan` returned. `tell` is called with the number of cells that are done, and of all.

    Raises:
        InputError: a run changed since it was planned. What was merged before is whole.
        RunHeld: a process is at work in a run or a cell.
    """
    for source in sources:
        for name, data in ledger.contents(source).items():
            _create(runs / layout.LEDGER / name, data)
    by_cell: dict[str, list[Choice]] = {}
    for choice in choices:
        if choice.source is not None:
            by_cell.setdefault(choice.cell, []).append(choice)
    for number, (name, taken) in enumerate(by_cell.items()):
        tell(number, len(by_cell))
        (runs / name).mkdir(parents=True, exist_ok=True)
        with alone(runs / name) as work:
            for source in sources:
                seeds = {choice.seed for choice in taken if choice.source == source}
                if seeds:
                    _take(source / name, seeds, runs / name, work)
    tell(len(by_cell), len(by_cell))


def summary(choices: Sequence[Choice]) -> Iterator[str]:
    """Yield a line for all runs of a cell with which the same is done."""
    alike: dict[tuple[str, str], list[int]] = {}
    for choice in choices:
        alike.setdefault((choice.cell, choice.words), []).append(choice.seed)
    for (cell, words), seeds in alike.items():
        yield f"{cell}: seed{'s' if len(seeds) > 1 else ''} {seed_ranges(seeds)}: {words}"


# ---- deciding


def _places(name: str, homes: Sequence[Path]) -> dict[int, list[Path]]:
    """Return the folders of records that have a run of a cell, by seed."""
    found: dict[int, list[Path]] = {}
    for home in homes:
        for seed in Store(home / name).seeds():
            found.setdefault(seed, []).append(home)
    return found


def _begun(name: str, homes: Sequence[Path]) -> Iterator[Path]:
    """Yield the folders of the runs of a cell that are not finished."""
    for home in homes:
        store = Store(home / name)
        for seed in store.seeds():
            if not store.has(seed, layout.RESULT):
                folder = home / name / layout.seed_folder(seed)
                files.refuse_link(folder)
                yield folder


def _check_ledgers(homes: Sequence[Path]) -> None:
    """Raise InputError if two ledgers have files of the same name that differ, or DamagedFile."""
    known: dict[str, tuple[Path, bytes]] = {}
    for home in homes:
        for name, data in ledger.contents(home).items():
            first, there = known.setdefault(name, (home, data))
            if there != data:
                raise InputError(f"{layout.LEDGER}/{name} has other content in {home} than in {first}")


def _check_cells(folders: Sequence[Path]) -> None:
    """Raise InputError unless all of the folders describe the same cell."""
    for folder in folders:
        files.refuse_link(folder)
        read_cell(folder)
        for archive in folder.glob(layout.sources("*")):
            _check_sources(archive)
    first, *others = (files.read_json(folder / layout.CELL) for folder in folders)
    for folder, facts in zip(folders[1:], others, strict=True):
        # Either may lack hyperparameters that were added later.
        if not same_cell(first, facts) and not same_cell(facts, first):
            raise InputError(f"{folder / layout.CELL} describes another cell than {folders[0] / layout.CELL}")


def _check_sources(path: Path) -> None:
    """Raise DamagedFile unless the content of an archive of sources has the digest in its name.

    Two archives of one name may differ in their compression: their content is the same.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(files.read(path))) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > files.MOST_BYTES:
                raise DamagedFile(f"{path} claims more than {files.MOST_BYTES:,} bytes")
            content = {name: archive.read(name) for name in archive.namelist()}
    except files.UNREADABLE_ZIP as error:
        raise DamagedFile(f"{path} cannot be read: {error}") from error
    if path.name != layout.sources(source_digest(content)):
        raise DamagedFile(f"{path} is damaged: its content has another digest than its name")


def _choice(name: str, seed: int, places: Sequence[Path], runs: Path) -> Choice:
    """Decide which of the records of a run the target has afterwards."""
    found = [_look(home, name, seed) for home in places]
    finished = [run for run in found if run.result]
    for run in finished[1:]:
        if differing := _differing(finished[0].result, run.result):
            where = f"{name}/{layout.seed_folder(seed)}"
            homes = f"{run.home} than in {finished[0].home}"
            raise InputError(
                f"{where} has other results in {homes} ({', '.join(differing)}): move one of them away"
            )
    chosen = finished[0] if finished else max(found, key=lambda run: run.step)  # the first of equal ones
    source = None if chosen.home == runs else chosen.home
    if len(found) == 1:
        return Choice(name, seed, source, f"{chosen.words}: taken")
    done = "kept" if source is None else f"taken from {source}"
    if len(finished) == len(found):
        where = ", ".join(str(run.home) for run in found)
        return Choice(name, seed, source, f"the same result in {where}: {done}")
    return Choice(name, seed, source, f"{', '.join(run.words for run in found)}: {done}")


def _look(home: Path, name: str, seed: int) -> _Run:
    """Return a run of a folder of records. Raises InputError if it is damaged."""
    store = Store(home / name)
    if not store.has(seed, layout.RESULT):
        return _Run(home, {}, furthest(home / name / layout.seed_folder(seed)))
    _contents(store, seed)
    result = store.json(seed, layout.RESULT)
    kept = {key: result.get(key) for key in ("status", "steps", "digests")}
    return _Run(home, kept, -1)


def _contents(store: Store, seed: int) -> dict[str, bytes]:
    """Return the files of a finished run by name, checked. Raises as `whole`, or DamagedFile."""
    contents = whole(store, seed)
    folder = store.cell / layout.seed_folder(seed)
    result, about = store.json(seed, layout.RESULT), store.json(seed, layout.RUN)
    if result.get("digest") != result_digest(result):
        raise DamagedFile(f"{folder / layout.RESULT} is damaged: it does not match its own digest")
    if about["seed"] != seed:
        raise DamagedFile(f"{folder / layout.RUN} is damaged: it is of seed {about['seed']}")
    return contents


def _differing(one: dict[str, Any], other: dict[str, Any]) -> list[str]:
    """Return what differs between two results: files, or entries of result.json."""
    names = sorted(one["digests"].keys() | other["digests"].keys())
    found = [name for name in names if one["digests"].get(name) != other["digests"].get(name)]
    return [*found, *(key for key in ("status", "steps") if one[key] != other[key])]


# ---- copying


def _take(cell: Path, seeds: set[int], target: Path, work: Path) -> None:
    """Copy runs of a cell into the target's folder of the cell."""
    _create(target / layout.CELL, files.read(cell / layout.CELL))
    for path in sorted(cell.glob(layout.sources("*"))):
        _create(target / path.name, files.read(path))
    store = Store(cell)
    for path in seals(cell):
        sealed = set(read_seal(path))
        if (
            sealed <= seeds
            and all(store.in_seal(seed) for seed in sealed)
            and not sealed & {*Store(target).seeds()}
        ):
            _create(target / path.name, files.read(path))
    for seed in sorted(seeds):
        folder = target / layout.seed_folder(seed)
        if Store(target).has(seed, layout.RESULT):
            continue  # in the seal
        new = work / f"begun-{seed}"
        new.mkdir()
        for name, data in _all_files(store, seed):
            files.write(new / name, data)
        _place(new, folder, work)


def _all_files(store: Store, seed: int) -> Iterator[tuple[str, bytes]]:
    """Yield the files of a run that a copy of it needs, by name: all but the claims of its owners."""
    if store.has(seed, layout.RESULT):
        yield from _contents(store, seed).items()
        return
    folder = store.cell / layout.seed_folder(seed)
    before = standing(folder)
    kept = layout.unfinished_files(folder)
    for name in store.names(seed):
        if name in kept or layout.FILE_OF_RUN.fullmatch(name):
            yield name, files.read(folder / name)
        elif not name.startswith((".", "owner-", "free-")):
            raise InputError(f"{folder / name} is not part of a run's record: move it away")
    if standing(folder) != before:
        raise RunHeld(f"{folder} was in use while it was copied")


def _place(new: Path, folder: Path, work: Path) -> None:
    """Give a copied run its folder. An unfinished run that is there gives way."""
    if not folder.exists():
        new.rename(folder)
        return
    owner = Ownership(folder)
    owner.acquire()
    if (folder / layout.RESULT).exists():
        owner.remove()
        raise InputError(f"{folder} was finished meanwhile: merge again")
    # Between these two, a kill leaves no run in the folder; the next process puts the former one back.
    folder.rename(work / f"{REPLACED}{folder.name}")
    new.rename(folder)


def _create(path: Path, data: bytes) -> None:
    """Create a file, unless there is one: then `plan` has compared them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        files.write(path, data)

"""Seal finished runs: one archive per cell instead of a folder with eight files per run.

    sealed-<digest>.zip    seed-<k>/<file> of finished runs of the cell; the digest is that of its bytes

A folder is removed after its seal is on disk, and a seal after its folders are: a kill loses nothing. One
process at a time seals, unseals or merges a cell. A compact seal has train-last.csv and train-bins.csv
(`compact.py`) in place of train.csv.
"""

import shutil
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

from ascent.records import files, layout
from ascent.records.compact import compact
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ownership import Ownership, acquire_all
from ascent.records.store import Store, read_seal, seal_digest, seals

WORK = ".sealing"  # folder of the process that seals, unseals or merges a cell
REPLACED = "replaced-"  # an unfinished run in it, whose place another one takes


def seal(cell: Path, compacted: bool = False) -> list[int]:
    """Move the finished runs of a cell from their folders into a seal. Returns their seeds.

    Args:
        cell: the cell's folder.
        compacted: replace train.csv by its compact form, for good, where result.json has its digests.

    Raises:
        DamagedFile: a file is missing or does not match its digest in result.json. Nothing is sealed.
        InputError: there is another file in a folder. Nothing is sealed.
        RunHeld: a process is at work in a folder.
    """
    with alone(cell):
        finished = [path.parent for path in cell.glob(f"seed-*/{layout.RESULT}")]
        folders = {seed: path for path in finished if (seed := layout.seed_of(path)) is not None}
        owners = [Ownership(folder) for folder in folders.values()]
        acquire_all(owners)
        try:
            if folders:
                store = Store(cell)
                name, data = archive({seed: whole(store, seed, compacted) for seed in folders})
                files.write(cell / name, data)
                read_seal(cell / name)  # from the disk
            for folder in folders.values():
                folder.rename(cell / WORK / folder.name)  # from now on the run is read from its seal
        finally:
            for owner in owners:
                owner.remove()
    return sorted(folders)


def unseal(cell: Path) -> list[int]:
    """Give the sealed runs of a cell their folders back, and remove its seals. Returns the seeds.

    Raises:
        DamagedFile: a seal cannot be read, or two of them differ.
        InputError: there is a folder of a sealed run, and it differs or is not finished.
        RunHeld: another process seals or unseals the cell.
    """
    with alone(cell):
        paths = seals(cell)
        restored = []
        for seed, contents in sorted(_together(paths).items()):
            folder = cell / layout.seed_folder(seed)
            if (folder / layout.RESULT).exists():
                _compare(folder, contents)
            elif folder.exists():
                raise InputError(f"{folder} exists beside its seal and is not finished: move it away")
            else:
                begun = cell / WORK / f"begun-{seed}"
                begun.mkdir()
                for name, data in contents.items():
                    files.write(begun / name, data)
                begun.rename(folder)
                restored.append(seed)
        files.sync_folder(cell)
        for path in paths:
            path.unlink()
    return restored


@contextmanager
def alone(cell: Path) -> Iterator[Path]:
    """Own a folder below the cell's, which another process that seals, merges, moves or removes would own;
    empty it at both ends.
    """
    work = cell / WORK
    for folder in (cell, work, *cell.glob("seed-*")):
        files.refuse_link(folder)
    work.mkdir(exist_ok=True)
    claim = Ownership(work)
    claim.acquire()
    try:
        _empty(work)
        for unfinished in cell.glob(f".{layout.seal('*')}.*.tmp"):  # of a process that was killed
            unfinished.unlink()
        yield work
        if work.is_dir():  # else the whole cell was removed
            files.sync_folder(cell)
            _empty(work)
    finally:
        claim.remove()
    with suppress(OSError):  # the next process is there already
        work.rmdir()


def _empty(work: Path) -> None:
    """Remove folders of runs that were sealed or replaced, or whose making was cut short by a kill. A run
    whose place is still empty gets it back.
    """
    for folder in work.iterdir():
        place = work.parent / folder.name.removeprefix(REPLACED)
        if folder.name.startswith(REPLACED) and not place.exists():
            folder.rename(place)
        elif folder.is_dir():
            shutil.rmtree(folder)


def whole(store: Store, seed: int, compacted: bool = False) -> dict[str, bytes]:
    """Return the files of a finished run, by name, with train.csv in its compact form if asked for.

    Raises:
        DamagedFile: one is missing or does not match its digest in result.json.
        InputError: there is anything else in the folder.
    """
    folder = store.cell / layout.seed_folder(seed)
    passing = {*layout.unfinished_files(folder), *(path.name for path in folder.glob("owner-*.json"))}
    names = sorted({*store.names(seed)} - passing)
    for name in names:
        if not layout.FILE_OF_RUN.fullmatch(name):
            raise InputError(f"{folder / name} is not part of a run's record: move it away")
    contents = {name: store.read(seed, name) for name in names}
    result = store.json(seed, layout.RESULT)
    digests, form = result.get("digests"), result.get("compact") or {}
    if not isinstance(digests, dict) or not isinstance(form, dict):
        raise DamagedFile(f"{folder / layout.RESULT} is damaged: it has no digests")
    is_compact = layout.TRAIN_LAST in contents and layout.TRAIN not in contents
    left_out = (layout.TRAIN, layout.POLICY) if is_compact else ()
    if missing := sorted({*digests, layout.RUN} - contents.keys() - set(left_out)):
        raise DamagedFile(f"{folder / missing[0]} is missing")
    _check_digests(folder, contents, digests | form)
    if compacted and form and not is_compact:
        try:
            contents |= compact(contents.pop(layout.TRAIN), int(result["steps"]))
        except (ValueError, LookupError, ArithmeticError) as error:
            raise DamagedFile(f"{folder / layout.TRAIN} is no table of episodes: {error}") from error
        _check_digests(folder, contents, form)
    return contents


def _check_digests(folder: Path, contents: dict[str, bytes], digests: dict[str, str]) -> None:
    for name, data in contents.items():
        if name in digests and sha256(data).hexdigest() != digests[name]:
            raise DamagedFile(f"{folder / name} is damaged: its sha256 differs from {layout.RESULT}")


def archive(runs: dict[int, dict[str, bytes]]) -> tuple[str, bytes]:
    """Return name and content of the seal of some runs, whose files are given by seed and name."""
    contents = {
        f"{layout.seed_folder(seed)}/{name}": data
        for seed in sorted(runs)
        for name, data in runs[seed].items()
    }
    data = files.zip_files(contents, zipfile.ZIP_LZMA)
    return layout.seal(seal_digest(data)), data


def _together(paths: list[Path]) -> dict[int, dict[str, bytes]]:
    """Return the files in some seals, by seed and name. Raises DamagedFile if two differ."""
    runs: dict[int, dict[str, bytes]] = {}
    for path in paths:
        for seed, contents in read_seal(path).items():
            known = runs.setdefault(seed, {})
            for name, data in contents.items():
                if known.setdefault(name, data) != data:
                    raise DamagedFile(f"{path.name} differs from another seal in {name} of seed {seed}")
    for contents in runs.values():
        if layout.TRAIN in contents:  # whole in one seal, compact in another
            for name in layout.COMPACT:
                contents.pop(name, None)
    return runs


def _compare(folder: Path, contents: dict[str, bytes]) -> None:
    """Raise InputError unless a folder has all that was sealed; train.csv stands for its compact form."""
    for name, data in contents.items():
        path = folder / name
        if not path.exists() and name in layout.COMPACT and (folder / layout.TRAIN).exists():
            continue
        if not path.exists() or files.read(path) != data:
            raise InputError(f"{path} differs from its seal: move one of them away")

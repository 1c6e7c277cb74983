"""Seal finished runs: one archive per cell instead of a folder with eight files per run.

    sealed-<digest>.zip    seed-<k>/<file> of finished runs of the cell; the digest is that of its bytes

Seals are only ever added, under a name that follows from their content, and a folder is removed after its
seal is on disk. So several processes may seal at once, and a kill loses nothing. A compact seal has
train-last.csv and train-bins.csv (`compact.py`) in place of train.csv.
"""

import shutil
import zipfile
from hashlib import sha256
from pathlib import Path

from ascent.records import files, layout
from ascent.records.compact import compact
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ownership import Ownership, acquire_all
from ascent.records.store import read_seal, seal_digest, seals


def seal(cell: Path, compacted: bool = False) -> list[int]:
    """Move the finished runs of a cell from their folders into a seal. Returns their seeds.

    Args:
        cell: the cell's folder.
        compacted: replace train.csv by its compact form, for good.

    Raises:
        DamagedFile: a file does not match its digest in result.json. Nothing is sealed.
        RunHeld: a process is at work in a folder.
    """
    folders = sorted(path.parent for path in cell.glob(f"seed-*/{layout.RESULT}"))
    owners = [Ownership(folder) for folder in folders]
    acquire_all(owners)
    try:
        contents = {
            f"{folder.name}/{name}": data
            for folder in folders
            for name, data in _whole(folder, compacted).items()
        }
        if contents:
            archive = files.zip_files(contents, zipfile.ZIP_LZMA)
            path = cell / layout.seal(seal_digest(archive))
            files.create(path, archive)
            read_seal(path)  # from the disk
        for folder in folders:
            _remove(folder)
    finally:
        for owner in owners:
            owner.remove()
    for leftover in cell.glob(".removed-seed-*"):  # of a command that was killed
        shutil.rmtree(leftover, ignore_errors=True)
    return sorted(seed for folder in folders if (seed := layout.seed_of(folder)) is not None)


def _whole(folder: Path, compacted: bool) -> dict[str, bytes]:
    """Return the files of a finished run, by name. Raises DamagedFile unless they match their digests."""
    names = [path.name for path in folder.iterdir() if layout.FILE_OF_RUN.fullmatch(path.name)]
    contents = {name: (folder / name).read_bytes() for name in names}
    result = files.read_json(folder / layout.RESULT)
    digests = result.get("digests", {}) | result.get("compact", {})
    if compacted and layout.TRAIN in contents and "compact" in result:
        contents |= compact(contents.pop(layout.TRAIN), result["steps"])
    for name, data in contents.items():
        if name in digests and sha256(data).hexdigest() != digests[name]:
            raise DamagedFile(f"{folder / name} is damaged: its sha256 differs from {layout.RESULT}")
    return contents


def _remove(folder: Path) -> None:
    """Remove the folder of a run at once: from then on the run is read from its seal."""
    removed = folder.with_name(f".removed-{folder.name}")
    shutil.rmtree(removed, ignore_errors=True)
    folder.rename(removed)
    files.sync_folder(folder.parent)
    shutil.rmtree(removed, ignore_errors=True)


def unseal(cell: Path) -> list[int]:
    """Give the sealed runs of a cell their folders back, and remove its seals. Returns the seeds.

    Raises:
        DamagedFile: a seal cannot be read.
        InputError: there is another, unfinished folder of a sealed run.
    """
    seeds: set[int] = set()
    paths = seals(cell)
    for path in paths:
        runs: dict[str, dict[str, bytes]] = {}
        for entry, data in read_seal(path).items():
            run, _, name = entry.partition("/")
            runs.setdefault(run, {})[name] = data
        for run, contents in runs.items():
            if not (cell / run / layout.RESULT).exists():
                _restore(cell / run, contents)
                seeds.add(int(run.removeprefix("seed-")))
    for path in paths:
        path.unlink()
    return sorted(seeds)


def _restore(folder: Path, contents: dict[str, bytes]) -> None:
    """Make the folder of a run, all or nothing."""
    begun = folder.with_name(f".begun-{folder.name}")
    shutil.rmtree(begun, ignore_errors=True)
    begun.mkdir()
    for name, data in contents.items():
        files.write(begun / name, data)
    try:
        begun.rename(folder)
    except OSError as error:
        raise InputError(f"{folder} exists beside its seal and is not finished: move it away") from error
    files.sync_folder(folder.parent)

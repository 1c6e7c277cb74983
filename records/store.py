"""The files of a cell's runs, wherever they are: in the folders of the runs, or in a seal (`seal.py`).

A run with a result in its folder is read from there, any other from its seal.
"""

import errno
import io
import os
import zipfile
import zlib
from functools import cached_property
from hashlib import sha256
from pathlib import Path

from ascent.records import layout
from ascent.records.errors import DamagedFile

_UNREADABLE = (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError)


class Store:
    """The files of the runs in a cell's folder. Methods raise DamagedFile if a seal cannot be read."""

    def __init__(self, cell: Path) -> None:
        self.cell = cell
        self._opened: dict[Path, dict[str, bytes]] = {}

    def seeds(self) -> list[int]:
        """Return the seeds with a folder or a seal."""
        folders = self.cell.iterdir() if self.cell.is_dir() else ()
        seeds = {seed for path in folders if (seed := layout.seed_of(path)) is not None}
        return sorted(seeds | set(self._places))

    def has(self, seed: int, name: str = "") -> bool:
        """Return whether a run has a file or, without a name, whether there is such a run."""
        if self.in_seal(seed):
            return not name or name in self._places[seed]
        return (self.cell / layout.seed_folder(seed) / name).exists()

    def read(self, seed: int, name: str) -> bytes:
        """Return the content of a run's file. Raises OSError if there is none, or it cannot be read."""
        path = f"{self.cell}/{layout.seed_folder(seed)}/{name}"
        if not self.in_seal(seed):
            with open(path, "rb") as file:
                return file.read()
        seal = self._places[seed].get(name)
        if seal is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if seal not in self._opened:
            self._opened[seal] = read_seal(seal)
        return self._opened[seal][f"{layout.seed_folder(seed)}/{name}"]

    def names(self, seed: int) -> list[str]:
        """Return the names of a run's files."""
        if self.in_seal(seed):
            return sorted(self._places[seed])
        folder = self.cell / layout.seed_folder(seed)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def in_seal(self, seed: int) -> bool:
        """Return whether a run is read from a seal."""
        return seed in self._places and not (self.cell / layout.seed_folder(seed) / layout.RESULT).exists()

    @cached_property
    def _places(self) -> dict[int, dict[str, Path]]:
        """The seal that holds a file, by seed and name."""
        places: dict[int, dict[str, Path]] = {}
        for path in seals(self.cell):
            for entry in _entries(path):
                run, _, name = entry.partition("/")
                seed = layout.seed_of(Path(run))
                if seed is not None:
                    places.setdefault(seed, {})[name] = path
        return places


def seals(cell: Path) -> list[Path]:
    """Return the seals in a cell's folder."""
    return sorted(cell.glob(layout.seal("*")))


def read_seal(path: Path) -> dict[str, bytes]:
    """Return the files in a seal, by name (seed-k/file).

    Raises:
        DamagedFile: it cannot be read, its content is not what its name says, or it holds other files.
    """
    try:
        data = path.read_bytes()
        if path.name != layout.seal(seal_digest(data)):
            raise DamagedFile(f"{path.name} is damaged: its sha256 is not the one in its name")
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
    except _UNREADABLE as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error
    for entry in contents:
        run, _, name = entry.partition("/")
        if layout.seed_of(Path(run)) is None or not layout.FILE_OF_RUN.fullmatch(name):
            raise DamagedFile(f"{path.name} is no seal: it holds {entry!r}")
        if f"{run}/{layout.RESULT}" not in contents:
            raise DamagedFile(f"{path.name} is no seal: it holds no result of {run}")
    return contents


def _entries(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except _UNREADABLE as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error


def seal_digest(data: bytes) -> str:
    """Return the digest in the name of a seal with this content."""
    return sha256(data).hexdigest()[:16]

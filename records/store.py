"""The files of a cell's runs, wherever they are: in the folders of the runs, or in a seal (`seal.py`).

A run with a result in its folder is read from there, any other from its seal.
"""

import errno
import io
import os
import zipfile
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files, layout, shapes
from ascent.records.errors import DamagedFile

MOST_OF_RUN = files.MOST_BYTES // 8  # bytes of a file of a run


class Store:
    """The files of the runs in a cell's folder. Methods raise DamagedFile if a seal cannot be read."""

    def __init__(self, cell: Path) -> None:
        self.cell = cell
        self._opened: dict[Path, zipfile.ZipFile] = {}

    def seeds(self) -> list[int]:
        """Return the seeds with a folder or a seal."""
        folders = self.cell.iterdir() if self.cell.is_dir() else ()
        seeds = {seed for path in folders if (seed := layout.seed_of(path)) is not None}
        return sorted(seeds | set(self._places))

    def finished(self) -> set[int]:
        """Return the seeds with a result, in folders or sealed. Lists the cell's folder once."""
        folders = os.listdir(self.cell) if self.cell.is_dir() else ()
        seeds = {int(match[1]): name for name in folders if (match := layout.SEED_FOLDER.fullmatch(name))}
        done = {seed for seed, name in seeds.items() if os.path.exists(f"{self.cell}/{name}/{layout.RESULT}")}
        return done | {seed for seed, names in self._places.items() if layout.RESULT in names}

    def has(self, seed: int, name: str = "") -> bool:
        """Return whether a run has a file or, without a name, whether there is such a run."""
        if self.in_seal(seed):
            return not name or name in self._places[seed]
        return os.path.exists(f"{self.cell}/{layout.seed_folder(seed)}/{name}")

    def read(self, seed: int, name: str) -> bytes:
        """Return the content of a run's file.

        Raises OSError if there is none, or it cannot be read, and DamagedFile if it is no regular file.
        """
        path = f"{self.cell}/{layout.seed_folder(seed)}/{name}"
        if not self.in_seal(seed):
            return files.read(path, MOST_OF_RUN)
        seal = self._places[seed].get(name)
        if seal is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        if seal not in self._opened:
            self._opened[seal] = _open(seal)
        return _content(self._opened[seal], f"{layout.seed_folder(seed)}/{name}", seal)

    def json(self, seed: int, name: str) -> dict[str, Any]:
        """Return the JSON object in a run's file.

        Raises as `read`, and DamagedFile if there is none, or one of another shape.
        """
        path = self.cell / layout.seed_folder(seed) / name
        content = files.parse_json(self.read(seed, name), path)
        shapes.check(name, content, path)
        return content

    def names(self, seed: int) -> list[str]:
        """Return the names of a run's files."""
        if self.in_seal(seed):
            return sorted(self._places[seed])
        folder = self.cell / layout.seed_folder(seed)
        return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []

    def in_seal(self, seed: int) -> bool:
        """Return whether a run is read from a seal."""
        finished = os.path.exists(f"{self.cell}/{layout.seed_folder(seed)}/{layout.RESULT}")
        return not finished and seed in self._places

    @cached_property
    def _places(self) -> dict[int, dict[str, Path]]:
        """The seal that holds a file, by seed and name."""
        places: dict[int, dict[str, Path]] = {}
        for path in seals(self.cell):
            try:
                with files.opened(path) as file, zipfile.ZipFile(file) as archive:
                    entries = archive.namelist()
            except files.UNREADABLE_ZIP as error:
                raise DamagedFile(f"{path.name} cannot be read: {error}") from error
            for entry in entries:
                run, _, name = entry.partition("/")
                seed = layout.seed_of(Path(run))
                if seed is not None:
                    places.setdefault(seed, {})[name] = path
        return places


def cell_names(runs: Path) -> list[str]:
    """Return the folders in which there is a cell or a run, by suite/task/cell."""
    patterns = (layout.CELLS, "*/*/*/seed-*", f"*/*/*/{layout.seal('*')}")
    return sorted(
        {path.parent.relative_to(runs).as_posix() for pattern in patterns for path in runs.glob(pattern)}
    )


def seals(cell: Path) -> list[Path]:
    """Return the seals in a cell's folder."""
    return sorted(cell.glob(layout.seal("*")))


def read_seal(path: Path) -> dict[int, dict[str, bytes]]:
    """Return the files of the runs in a seal, by seed and name.

    Raises:
        DamagedFile: it cannot be read, its content is not what its name says, or it holds other files.
    """
    runs: dict[int, dict[str, bytes]] = {}
    archive = _open(path)
    for entry in archive.namelist():
        run, _, name = entry.partition("/")
        seed = layout.seed_of(Path(run))
        if seed is None or not layout.FILE_OF_RUN.fullmatch(name):
            raise DamagedFile(f"{path.name} is no seal: it holds {entry!r}")
        runs.setdefault(seed, {})[name] = _content(archive, entry, path)
    for seed, contents in runs.items():
        if layout.RESULT not in contents:
            raise DamagedFile(f"{path.name} is no seal: it holds no result of seed {seed}")
    return runs


def seal_digest(data: bytes) -> str:
    """Return the digest in the name of a seal with this content."""
    return sha256(data).hexdigest()[:16]


def _open(path: Path) -> zipfile.ZipFile:
    """Open a seal whose content is what its name says. Raises DamagedFile."""
    try:
        data = files.read(path)
        if path.name != layout.seal(seal_digest(data)):
            raise DamagedFile(f"{path.name} is damaged: its sha256 is not the one in its name")
        archive = zipfile.ZipFile(io.BytesIO(data))
    except files.UNREADABLE_ZIP as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error
    if sum(entry.file_size for entry in archive.infolist()) > files.MOST_BYTES:
        raise DamagedFile(f"{path.name} claims more than {files.MOST_BYTES:,} bytes")
    return archive


def _content(archive: zipfile.ZipFile, entry: str, path: Path) -> bytes:
    try:
        if (size := archive.getinfo(entry).file_size) > MOST_OF_RUN:
            raise DamagedFile(f"{path.name}: {entry} has {size:,} bytes: at most {MOST_OF_RUN:,} are read")
        return archive.read(entry)
    except files.UNREADABLE_ZIP as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error

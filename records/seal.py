"""The seal of a cell: one file that repeats what reports read of its finished runs, to load many quickly.

The runs' folders are the record; a seal that is missing, damaged or old only costs time.
"""

import zipfile
import zlib
from pathlib import Path

from ascent.records import files
from ascent.records.errors import DamagedFile

SEAL = "sealed.zip"
SEALED = ("run.json", "result.json", "eval.csv", "train.csv")  # of each run


def seal(cell_folder: Path) -> None:
    """Copy what reports read of a cell's finished runs into one file, unless it holds all of them already."""
    finished = sorted(path.parent for path in cell_folder.glob("seed-*/result.json"))
    names = {f"{run.name}/{name}" for run in finished for name in SEALED}
    if names != sealed_names(cell_folder):
        contents = {name: (cell_folder / name).read_bytes() for name in names}
        files.write(cell_folder / SEAL, files.zip_files(contents))


def sealed_names(cell_folder: Path) -> set[str]:
    """Names (seed-k/file) in the seal, not looked into; none where there is none that can be read."""
    try:
        with zipfile.ZipFile(cell_folder / SEAL) as archive:
            return set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()


def read_seal(cell_folder: Path) -> dict[str, bytes]:
    """Name (seed-k/file) -> content; {} where there is no seal. Raises DamagedFile if it cannot be read."""
    path = cell_folder / SEAL
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        return {}
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error

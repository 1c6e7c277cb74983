"""The seal of a cell: one file that repeats what reports read of its finished runs, to load many runs
quickly.

The runs' folders are the record. A seal that is missing, damaged or outdated costs time and nothing else.
"""

import zipfile
import zlib
from pathlib import Path

from ascent.records import files, layout
from ascent.records.errors import DamagedFile

SEALED = (layout.RUN, layout.RESULT, layout.EVAL, layout.TRAIN, layout.MEASURES)  # of each run


def seal(cell_folder: Path) -> None:
    """Copy what reports read of a cell's finished runs into one file, unless it holds all of them already."""
    finished = sorted(path.parent for path in cell_folder.glob(f"seed-*/{layout.RESULT}"))
    names = {
        f"{run.name}/{name}"
        for run in finished
        for name in SEALED
        if name not in layout.OPTIONAL or (run / name).exists()
    }
    if names != sealed_names(cell_folder):
        contents = {name: (cell_folder / name).read_bytes() for name in names}
        files.write(cell_folder / layout.SEAL, files.zip_files(contents))


def sealed_names(cell_folder: Path) -> set[str]:
    """Return the names (seed-k/file) in the seal; empty without a readable seal."""
    try:
        with zipfile.ZipFile(cell_folder / layout.SEAL) as archive:
            return set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()


def read_seal(cell_folder: Path) -> dict[str, bytes]:
    """Return the sealed files by name (seed-k/file); empty without a seal.

    Raises:
        DamagedFile: the seal cannot be read.
    """
    path = cell_folder / layout.SEAL
    try:
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except FileNotFoundError:
        return {}
    except (OSError, zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError) as error:
        raise DamagedFile(f"{path.name} cannot be read: {error}") from error

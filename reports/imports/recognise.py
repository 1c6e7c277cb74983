"""Which files are curves, in which format they are, and which of them belong to one run."""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ascent.records.errors import InputError, unknown
from ascent.reports.imports.arrays import NUMPY
from ascent.reports.imports.curve import Absent, Asked, Curve, File, Format
from ascent.reports.imports.events import EVENTS
from ascent.reports.imports.logs import SPINUP, TENSORBOARD, TIANSHOU
from ascent.reports.imports.rllib import RLLIB
from ascent.reports.imports.sb3 import EVALUATIONS, MONITOR
from ascent.reports.imports.table import TABLE
from ascent.reports.imports.wandb import CHART, HISTORY

# In the order in which they are tried: numpy's takes what is no evaluations.npz, a table is any other CSV.
FORMATS = {
    format.name: format
    for format in (
        EVALUATIONS, MONITOR, EVENTS, TENSORBOARD, CHART, HISTORY, SPINUP, TIANSHOU, RLLIB, NUMPY, TABLE,
    )
}  # fmt: skip
MOST_FILES = 10_000  # in a folder
MOST_DEPTH = 16  # of folders in a folder
Tell = Callable[[int, int], None]


def read(
    paths: Sequence[Path], asked: Asked, name: str | None = None, tell: Tell = lambda done, total: None
) -> tuple[str, list[Curve], list[File], list[str]]:
    """Return the format of files, or of the files in folders, their curves, the files read, and notes.

    Args:
        paths: files and folders, all of one format.
        asked: where the curves stand in them.
        name: the format; default: recognised.
        tell: is told how many runs are read, of how many.

    Raises:
        InputError: a file is of no known format, the formats differ, or a file is damaged.
    """
    if name is not None and name not in FORMATS:
        raise unknown("format", name, FORMATS)
    found: list[tuple[Format, File]] = []
    notes: list[str] = []
    for path in paths:
        if path.is_dir():
            inside, left_out = _in_folder(path, asked, name)
            found += inside
            notes += left_out
        else:
            file = File(path.parent.resolve() / path.name, str(path))  # a link is refused when it is read
            found.append((FORMATS[name] if name else _format_of(file, asked) or TABLE, file))
    formats = list(dict.fromkeys(format.name for format, _ in found))
    if len(formats) > 1:
        counts = ", ".join(f"{sum(f.name == one for f, _ in found)} {one}" for one in formats)
        raise InputError(f"files of several formats ({counts}): choose one by --format")
    format = found[0][0]
    runs: dict[str, list[File]] = {}
    for file in {file.path: file for _, file in found}.values():
        runs.setdefault(format.run(file), []).append(file)
    curves: list[Curve] = []
    used: list[File] = []
    absent: list[Absent] = []
    for done, run in enumerate(runs.values()):
        tell(done, len(runs))
        try:
            curves += format.read(run, asked)
            used += run
        except Absent as error:
            absent.append(error)
    if not curves:
        raise absent[0]
    notes += [f"left out: {error}" for error in absent]
    return format.name, curves, used, notes


def _format_of(file: File, asked: Asked) -> Format | None:
    return next((format for format in FORMATS.values() if format.recognises(file, asked)), None)


def _in_folder(folder: Path, asked: Asked, name: str | None) -> tuple[list[tuple[Format, File]], list[str]]:
    """Return the files of curves in a folder with their formats, and what is left out."""
    found, others = [], []
    for path in sorted(_walk(folder.resolve()), key=lambda path: natural(str(path))):
        file = File(path, str(folder / path.relative_to(folder.resolve())))
        format = _format_of(file, asked)
        if format is None or name not in (None, format.name):
            others.append(file.name)
        else:
            found.append((format, file))
    if not found:
        wanted = f"of format {name}" if name else "of a known format"
        raise InputError(f"{folder} has no file {wanted}; known: {', '.join(FORMATS)}")
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3:,} more" if len(others) > 3 else "")
    return found, [f"left out, no curves of this format: {shown}"] if others else []


def _walk(folder: Path) -> Iterator[Path]:
    """Yield the regular files below a folder. Raises InputError if there are too many; links are left out."""
    count = 0
    for place, inside, names in os.walk(folder):
        path = Path(place)
        if len(path.relative_to(folder).parts) >= MOST_DEPTH:
            inside.clear()
        for name in names:
            file = path / name
            if file.is_symlink() or not file.is_file():
                continue
            count += 1
            if count > MOST_FILES:
                raise InputError(f"{folder} has more than {MOST_FILES:,} files: give the files themselves")
            yield file


def natural(name: str) -> list[tuple[bool, int, str]]:
    """Return a key that sorts run-2 before run-10."""
    parts = re.split(r"(\d{1,18})", name)
    return [(part.isdigit(), int(part) if part.isdigit() and part.isascii() else 0, part) for part in parts]

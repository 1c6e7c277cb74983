"""What a format reads: files in, one `Curve` per run out. What all formats share stands here."""

import csv
import io
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from ascent.records import files
from ascent.records.errors import InputError, unknown

MAX_BYTES = 1 << 28  # of a file of curves
MOST_POINTS = 1_000_000  # of a run: as many evaluations as a record may have
HEAD = 1 << 16  # bytes that tell the format of a file
MOST_HEADER = 1 << 20  # bytes of the first line of a table
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
COLUMNS = ["step", "episode", "return", "length"]  # of a curve
RETURN_WORDS = re.compile(r"rew|return|score|EpRet", re.IGNORECASE)  # in names that may be of returns


class Absent(InputError):
    """A file lacks the returns that were asked for. In a folder, others may have them."""


@dataclass(frozen=True)
class Asked:
    """Where the curves stand in the files, as the user says it; None: the format's default, if it has one.

    Attributes:
        column: of the returns: a column, the tag of a scalar, or a key.
        step: the column of the environment steps of the run so far.
        seed: the column of the seeds.
        points: the first step and the distance of the points of an array without steps.
    """

    column: str | None = None
    step: str | None = None
    seed: str | None = None
    points: tuple[int, int] | None = None


@dataclass(frozen=True)
class File:
    """A file of curves, and the name under which messages and records mention it."""

    path: Path
    name: str

    def read(self) -> bytes:
        """Return the content. Raises DamagedFile if it is a link, no regular file, or too large."""
        return files.read(self.path, MAX_BYTES)

    @cached_property
    def digest(self) -> str:
        """The sha256 of the content."""
        with files.opened(self.path, MAX_BYTES) as file:
            digest = sha256()
            while piece := file.read(1 << 20):
                digest.update(piece)
        return digest.hexdigest()

    @property
    def head(self) -> bytes:
        """The first bytes, without a byte order mark."""
        with files.opened(self.path, MAX_BYTES) as file:
            return file.read(HEAD).removeprefix(BYTE_ORDER_MARK)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The fields of the first line, read as comma-separated values."""
        with files.opened(self.path, MAX_BYTES) as file:
            line = file.readline(MOST_HEADER).removeprefix(BYTE_ORDER_MARK).decode(errors="replace")
        try:
            return tuple(next(csv.reader([line.strip("\r\n")]), []))
        except csv.Error:
            return ()

    @property
    def folder(self) -> str:
        """The name of the folder; the file's own where it was given alone."""
        parent = str(PurePosixPath(self.name).parent)
        return self.path.parent.name if parent == "." else parent


@dataclass(frozen=True)
class Curve:
    """The returns of one run, as its files have them.

    Attributes:
        name: of the file, the folder or the column that it is from.
        points: COLUMNS, a row per point or per episode of it, sorted by step; length 0: unknown. A return
            that is not finite is what the file says. A point that the run did not log has no row.
        seed: where the file itself numbers its runs.
        episodes: whether each row is one episode, and not a mean.
        environment: the environment that the file names; "" if it names none.
    """

    name: str
    points: pd.DataFrame
    seed: int | None = None
    episodes: bool = False
    environment: str = ""


@dataclass(frozen=True)
class Format:
    """A format that can be imported.

    Attributes:
        name: as `--format` takes it.
        about: what files have it.
        recognises: whether a file has it, by its name and first bytes; a table, also by what is asked for.
        read: the curves in the files of one run, or in one file with several runs. Raises InputError.
        run: which files belong to one run: those of which it returns the same. Default: each is one.
    """

    name: str
    about: str
    recognises: Callable[[File, Asked], bool]
    read: Callable[[Sequence[File], Asked], list[Curve]]
    run: Callable[[File], str] = lambda file: str(file.path)


def points(
    step: np.ndarray, returns: np.ndarray, name: str, length: np.ndarray | None = None
) -> pd.DataFrame:
    """Return COLUMNS from arrays (n,), sorted by step; points of the same step are its episodes.

    Raises:
        InputError: there is no point, or there are too many.
    """
    if not len(step):
        raise Absent(f"{name} has no returns")
    if len(step) > MOST_POINTS:
        raise InputError(f"{name} has {len(step):,} points: at most {MOST_POINTS:,} are read")
    table = pd.DataFrame({"step": step.astype(np.int64), "return": returns.astype(float)})
    table["length"] = 0 if length is None else length.astype(np.int64)
    table = table.sort_values("step", kind="stable", ignore_index=True)
    table["episode"] = table.groupby("step").cumcount()
    return table[COLUMNS]


def read_table(content: bytes, name: str, wanted: Sequence[str], separator: str = ",") -> pd.DataFrame:
    """Return columns of a CSV file; NaN where a field is empty. Words such as "nan" stay words.

    Raises:
        InputError: it is not a CSV file, has no rows, or lacks a column; the nearest one is named.
    """
    try:
        source = io.BytesIO(content)
        options = {"sep": separator, "keep_default_na": False, "na_values": [""], "low_memory": False}
        columns = [str(column) for column in pd.read_csv(source, nrows=0, **options).columns]
        for column in wanted:
            if column not in columns:
                raise missing_column(column, columns, name)
        source.seek(0)
        table = pd.read_csv(source, usecols=list(wanted), **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError, OverflowError) as error:
        raise InputError(f"{name} is not a CSV file: {str(error).splitlines()[0]}") from error
    if table.empty:
        raise InputError(f"{name} has no rows")
    return table


def missing_column(column: str, columns: Sequence[str], name: str) -> InputError:
    """Return an Absent that names the nearest column."""
    return Absent(str(unknown(f"column of {name}", column, likely(columns))))


def likely(names: Sequence[str]) -> list[str]:
    """Return the names, those first that may be of returns."""
    return sorted(names, key=lambda name: not RETURN_WORDS.search(name))


def choose(option: str, name: str, names: Sequence[str]) -> InputError:
    """Return an InputError that asks for an option: which of the names holds the returns."""
    shown = likely(names)[:10]
    more = f" and {len(names) - len(shown):,} more" if len(names) > len(shown) else ""
    return InputError(
        f"{name}: {option} is needed, which says what the returns are: {', '.join(shown)}{more}"
    )


def whole(column: pd.Series, name: str) -> np.ndarray:
    """Return a column of whole numbers of at least 0. Raises InputError with the first that is none."""
    values = pd.to_numeric(column, errors="coerce").to_numpy(float)
    bad = ~np.isfinite(values) | (values < 0) | (values % 1 != 0) | (values > 2**53)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise InputError(
            f"{name}, data row {row + 1}: {column.name} is {column.iloc[row]}, "
            "not a whole number of at least 0"
        )
    return values.astype(np.int64)


def real(column: pd.Series, name: str) -> np.ndarray:
    """Return a column of numbers, which may be NaN or infinite: a word such as "nan" or "-inf", or nothing.

    Raises:
        InputError: a value is anything else.
    """
    if column.dtype == bool:
        column = column.astype(str)
    values = pd.to_numeric(column, errors="coerce").to_numpy(float, copy=True)
    for row in np.flatnonzero(np.isnan(values) & column.notna().to_numpy()):
        try:
            values[row] = float(column.iloc[row])
        except (TypeError, ValueError):
            raise InputError(
                f"{name}, data row {row + 1}: {column.name} is {column.iloc[row]}, not a number"
            ) from None
    return values


def number(value: int | float) -> float:
    """Return a number of JSON as a float: infinite where it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def logged(table: pd.DataFrame, step: str, column: str, name: str) -> pd.DataFrame:
    """Return the points of one run's log: the rows in which it logged a return."""
    rows = table[table[column].notna()]
    if rows.empty:
        raise Absent(f"{name}: column {column} is empty")
    return points(whole(rows[step], name), real(rows[column], name), name)

"""Where two reports, or two tables of a run, first differ, in words."""

import csv
import io
import json
import platform
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

CLOSE = 1e-9  # relative: what the last digits of a sum may differ by on another processor
MAKERS = ("matplotlib", "numpy", "pandas", "pyarrow", "scipy", "seaborn", "statsmodels")
NOWHERE = "nothing"


def made_with() -> dict[str, str]:
    """What the bytes of a report depend on beside its records: versions, and the processor's vector units."""
    found = np.show_config(mode="dicts")["SIMD Extensions"].get("found") or ["baseline"]
    here = {"python": platform.python_version(), "platform": f"{platform.machine()}/{found[-1]}"}
    return here | {name: version(name) for name in MAKERS}


def compare_reports(old: Path, new: Path, made: dict[str, str] | None) -> tuple[bool, str]:
    """Whether the report in `new`, made here, is the one in `old`, and in what they differ.

    `made` is what `made_with` said where the old one was made, None if that is not known. Under other
    versions, or on another class of processor, numbers need only agree to 1e-9, and this is said.
    """
    here = made_with()
    unlike = [
        f"{name} {made.get(name)} (here {here.get(name)})"
        for name in sorted((made or here).keys() | here.keys())
        if made is not None and made.get(name) != here.get(name)
    ]
    names = sorted({path.relative_to(root).as_posix() for root in (old, new) for path in _files(root)})
    different, tolerated = [], []
    for name in names:
        one, other = old / name, new / name
        if not one.is_file() or not other.is_file():
            different.append(f"{name} is only in the {'report' if one.is_file() else 'one made again'}")
        elif one.read_bytes() != other.read_bytes():
            where, close = _where(name, one.read_bytes(), other.read_bytes())
            (tolerated if unlike and close else different).append(f"{name}: {where}")
    if different:
        hint = "" if made else "\nthe report does not say which versions made it"
        lines = [f"{len(different)} of {len(names)} files differ", *different]
        return False, "\n".join(lines) + (f"\nmade with {', '.join(unlike)}" if unlike else hint)
    if tolerated:
        kept = len(names) - len(tolerated)
        why = f"made with {', '.join(unlike)}: {kept} of {len(names)} files are the same bytes; in the others"
        why += f" every number in CSV, JSON and Parquet agrees to {CLOSE:g}, and the rest is not compared"
        return True, "\n".join([why, *tolerated])
    return True, f"all {len(names)} files are made again from the records, byte for byte"


def first_difference(file: str, recorded: Sequence[str], again: Sequence[str]) -> str:
    """Where two tables of a run, given as lines, first differ; "" if they do not."""
    for number, (one, other) in enumerate(zip_longest(recorded, again)):
        if one != other:
            step, _, rest = (other if other is not None else one).partition(",")
            event = f", {rest.partition(',')[0]}" if file == "ladder.csv" else ""
            place = f"step {step}{event}" if number else "its header"
            one, other = (NOWHERE if line is None else repr(line) for line in (one, other))
            return f"{file} at {place}: recorded {one}, again {other}"
    return ""


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file()]


def _where(name: str, old: bytes, new: bytes) -> tuple[str, bool]:
    """Where two files that are not the same first differ, and whether no number is further off than CLOSE."""
    readers = {".csv": _csv_values, ".json": _json_values, ".parquet": _parquet_values}
    suffix = Path(name).suffix
    if suffix not in readers:
        return _line(old, new), True
    try:
        pairs = list(zip_longest(readers[suffix](old), readers[suffix](new)))
    except (ValueError, OSError, csv.Error) as error:
        return f"cannot be read: {error}", False
    for one, other in pairs:
        if one is None or other is None or one[0] != other[0]:
            return f"has {(one or (NOWHERE,))[0]} where the other has {(other or (NOWHERE,))[0]}", False
    unlike = [(where, a, b) for (where, a), (_, b) in pairs if a != b and not (a != a and b != b)]
    if not unlike:
        return "the same values are written in another way", True
    where, a, b = next((found for found in unlike if not _close(*found[1:])), unlike[0])
    return f"{where}: recorded {a}, again {b}", all(_close(a, b) for _, a, b in unlike)


def _close(one: Any, other: Any) -> bool:
    try:
        return bool(np.isclose(float(one), float(other), CLOSE, CLOSE, equal_nan=True))
    except (TypeError, ValueError):
        return False


def _line(old: bytes, new: bytes) -> str:
    try:
        lines = zip_longest(old.decode().splitlines(), new.decode().splitlines())
    except UnicodeDecodeError:
        return "other bytes"
    number = next((k for k, (one, other) in enumerate(lines, 1) if one != other), 0)
    return f"line {number}" if number else "other line ends"


def _csv_values(data: bytes) -> Iterator[tuple[str, Any]]:
    head, *rows = csv.reader(io.StringIO(data.decode()))
    for number, row in enumerate(rows, 1):
        for column, value in zip_longest(head, row):
            yield f"row {number} ({', '.join(row[:3])}), column {column}", value


def _json_values(data: bytes) -> Iterator[tuple[str, Any]]:
    def walk(value: Any, where: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict | list):
            pairs = sorted(value.items()) if isinstance(value, dict) else enumerate(value)
            for key, inside in pairs:
                if f"{where}/{key}" != "/report/made_with":  # is compared by itself
                    yield from walk(inside, f"{where}/{key}")
        else:
            yield where, value

    return walk(json.loads(data), "")


def _parquet_values(data: bytes) -> Iterator[tuple[str, Any]]:
    table = pd.read_parquet(io.BytesIO(data))
    for column in table.columns:
        for number, value in enumerate(table[column].tolist(), 1):
            yield f"row {number}, column {column}", value

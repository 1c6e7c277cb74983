"""Describe the first difference between two reports, or between two tables of a run."""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ascent.records import files, layout
from ascent.records.sums import SUMS
from ascent.reports.page.provenance import made_with

CLOSE = 1e-9  # relative tolerance: sums may differ in their last digits on another processor
ABSENT = "(missing)"


def compare_reports(old: Path, new: Path, made: dict[str, str] | None) -> tuple[bool, str]:
    """Compare the report in `old` with the one in `new`, which was rebuilt on this machine.

    `made` is the value of `made_with` for the old report, None if it is unknown. If package versions or the
    class of processor differ, numbers need to agree to 1e-9 only, and the text says so.

    Returns whether the reports agree, and a description.
    """
    current = made_with()
    unlike = [
        f"{name} {made.get(name)} (here {current.get(name)})"
        for name in sorted((made or current).keys() | current.keys())
        if made is not None and made.get(name) != current.get(name)
    ]
    names = sorted({path.relative_to(root).as_posix() for root in (old, new) for path in _files(root)})
    different: list[str] = []
    tolerated: list[str] = []
    for name in names:
        old_file = old / name
        new_file = new / name
        if not old_file.is_file() or not new_file.is_file():
            place = "report" if old_file.is_file() else "rebuilt report"
            different.append(f"{name} exists only in the {place}")
        elif (before := files.read(old_file)) != (after := new_file.read_bytes()):
            text, close = _difference(name, before, after)
            (tolerated if unlike and close else different).append(f"{name}: {text}")
    versions = f"made with {', '.join(unlike)}"
    if different:
        lines = [f"{len(different)} of {len(names)} files differ", *different]
        if unlike:
            lines.append(versions)
        elif not made:
            lines.append("the report does not record its package versions")
        return False, "\n".join(lines)
    if tolerated:
        identical = f"{versions}: {len(names) - len(tolerated)} of {len(names)} files are identical"
        rest = f"the numbers in other CSV, JSON and Parquet files agree to {CLOSE:g}"
        return True, "\n".join(
            [f"{identical}; {rest}; their formatting and all other files are ignored", *tolerated]
        )
    return True, f"all {len(names)} files are identical to those rebuilt from the records, byte for byte"


def first_difference(
    file: str, recorded: Sequence[str], again: Sequence[str], grade: str = "retrained"
) -> str:
    """Describe the first difference between two tables of a run, given as lines; "" if they are equal.

    `grade` says how the second was made.
    """
    for number, (old, new) in enumerate(zip_longest(recorded, again)):
        if old != new:
            step, _, rest = (old if new is None else new).partition(",")
            event = f", {rest.partition(',')[0]}" if file == layout.LADDER else ""
            place = f"step {step}{event}" if number else "its header"
            old_text, new_text = (ABSENT if line is None else repr(line) for line in (old, new))
            return f"{file} at {place}: recorded {old_text}, {grade} {new_text}"
    return ""


def _files(root: Path) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and path.name != SUMS]


def _difference(name: str, old: bytes, new: bytes) -> tuple[str, bool]:
    """Describe the first difference between two files, and return whether all numbers agree to CLOSE."""
    readers = {".csv": _csv_values, ".json": _json_values, ".parquet": _parquet_values}
    suffix = Path(name).suffix
    if suffix not in readers:
        return _line_difference(old, new), True
    try:
        pairs = list(zip_longest(readers[suffix](old), readers[suffix](new)))
    except (ValueError, OSError, csv.Error) as error:
        return f"cannot be read: {error}", False
    for old_pair, new_pair in pairs:
        if old_pair is None or new_pair is None or old_pair[0] != new_pair[0]:
            old_place, new_place = ((pair or (ABSENT,))[0] for pair in (old_pair, new_pair))
            return f"recorded {old_place}, rebuilt {new_place}", False
    unlike = [(place, a, b) for (place, a), (_, b) in pairs if a != b and not (a != a and b != b)]
    if not unlike:
        return "equal values, formatted differently", True
    place, a, b = next((triple for triple in unlike if not _close(*triple[1:])), unlike[0])
    return f"{place}: recorded {a}, rebuilt {b}", all(_close(a, b) for _, a, b in unlike)


def _close(a: Any, b: Any) -> bool:
    try:
        return bool(np.isclose(float(a), float(b), CLOSE, CLOSE, equal_nan=True))
    except (TypeError, ValueError):
        return False


def _line_difference(old: bytes, new: bytes) -> str:
    try:
        lines = zip_longest(old.decode().splitlines(), new.decode().splitlines())
    except UnicodeDecodeError:
        return "different bytes"
    number = next((k for k, (a, b) in enumerate(lines, 1) if a != b), 0)
    return f"line {number}" if number else "different line endings"


def _csv_values(data: bytes) -> Iterator[tuple[str, Any]]:
    head, *rows = csv.reader(io.StringIO(data.decode()))
    for number, row in enumerate(rows, 1):
        for column, value in zip_longest(head, row):
            yield f"row {number} ({', '.join(row[:3])}), column {column}", value


def _json_values(data: bytes) -> Iterator[tuple[str, Any]]:
    def walk(value: Any, place: str) -> Iterator[tuple[str, Any]]:
        if isinstance(value, dict | list):
            pairs = sorted(value.items()) if isinstance(value, dict) else enumerate(value)
            for key, child in pairs:
                if f"{place}/{key}" != "/report/made_with":  # compared separately
                    yield from walk(child, f"{place}/{key}")
        else:
            yield place, value

    return walk(json.loads(data), "")


def _parquet_values(data: bytes) -> Iterator[tuple[str, Any]]:
    table = pd.read_parquet(io.BytesIO(data))
    for column in table.columns:
        for number, value in enumerate(table[column].tolist(), 1):
            yield f"row {number}, column {column}", value

"""The content of the W&B runs of a report and of a shelf: tables, figures, page and files of a folder."""

import json
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import pandas as pd

from ascent.records import files
from ascent.records.errors import DamagedFile, InputError
from ascent.records.expected import NAMES, Expected
from ascent.records.shelf import SCORES, Shelf, named
from ascent.reports.mirror.payload import Cells, Payload
from ascent.reports.shelf.proofs import grade_of, proofs
from ascent.reports.shelf.tables import BOARD_HTML

PAGES = ("index.html", BOARD_HTML)
_NUMBER = re.compile(r"-?\d+(\.\d*)?([eE][-+]?\d+)?")


def report_payload(folder: Path) -> Payload:
    """Return the payload of a report: its CSV tables, the grades of its cells, figures, page and all files.

    Raises InputError if the folder holds no report.
    """
    try:
        about = files.read_json(folder / "provenance.json").get("report", {})
        grades = _grades(about)
    except (OSError, DamagedFile, LookupError, TypeError) as error:
        raise InputError(f"{folder} is not a report: provenance.json cannot be read") from error
    paths = sorted(path for path in folder.resolve().rglob("*") if path.is_file())
    return _folder_payload("report", folder.resolve(), paths, {"grades": grades} if grades[1] else {}, about)


def shelf_payload(shelf: Shelf) -> Payload:
    """Return the payload of a shelf: its scores, ranked and with grades, what proves them, the leaderboard.

    Raises InputError if they were not generated.
    """
    paths = sorted(path.resolve() for path in shelf.folder.iterdir() if path.is_file())
    if shelf.folder.resolve() / SCORES not in paths:
        raise InputError(f"{shelf.folder} has no {SCORES}: run `ascent results build`")
    about = {"name": shelf.name, "commits": shelf.commits, "planned": len(shelf.planned)}
    return _folder_payload("shelf", shelf.folder.resolve(), paths, {}, about)


def _folder_payload(
    kind: str, folder: Path, paths: list[Path], tables: dict[str, Cells], about: Mapping[str, Any]
) -> Payload:
    """Return the payload of a folder: its CSV tables and `tables`, PNG figures, its page, and all files."""
    # The digest covers all content: another version of the page is another report.
    content = [*((path.relative_to(folder).as_posix(), _digest(path)) for path in paths), tables]
    digest = sha256(json.dumps(content).encode()).hexdigest()
    page = next((path for path in paths if path.name in PAGES), None)
    # A table without rows has no columns either: its file is one empty line.
    csvs = [path for path in paths if path.suffix == ".csv" and files.read(path).strip()]
    return Payload(
        id=digest[:16],
        name=f"{kind} {folder.name}",
        group=None,
        job_type=kind,
        tags=[kind],
        config={kind: about, "digest": digest},
        summary={"digest": digest},
        tables={_name(path, folder): table_cells(path) for path in csvs} | tables,
        images={_name(path, folder): str(path) for path in paths if path.suffix == ".png"},
        html=str(page) if page else None,
        base=str(folder),
        files=[str(path) for path in paths],
    )


def _grades(about: Mapping[str, Any]) -> Cells:
    """Return the grade of every cell of a report, as its provenance.json has it, and what shelves prove.

    `proof` is what was run again, such as "replayed, 10 of 10" seeds: that of cells on a shelf, which keeps
    the proofs of its cells. `ascent check`, which gives the grades of a report, runs nothing again.
    """
    columns = [*NAMES, "seeds", "shelf", "grade", "proof"]
    rows: list[list[Any]] = []
    for record in about.get("expected", []):
        cell = Expected.from_json(record)
        facts = [getattr(cell, name) for name in NAMES]
        grade = (about.get("grades") or {}).get(cell.folder, "not checked")
        rows.append(
            [*facts, len(cell.seeds), cell.shelf or None, grade, _proof(cell) if cell.shelf else None]
        )
    return columns, rows


def _proof(cell: Expected) -> str | None:
    shelf = named(cell.shelf)
    planned = next((planned for planned in shelf.planned if planned.folder == cell.folder), None)
    return grade_of(shelf, planned, proofs(shelf)) if planned else None


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).with_suffix("").as_posix()


def _digest(path: Path) -> str:
    return sha256(files.read(path)).hexdigest()


def table_cells(path: Path) -> Cells:
    """Return the columns and rows of a CSV file, with empty cells as None.

    A column holds booleans, integers or finite floats if all of its cells parse as such, and text otherwise.
    W&B tables lose NaN, which therefore stays text. So do digests and commits: 12e4567890 is not a number.
    """
    table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8")
    columns = {name: _typed(name, table[name].tolist()) for name in table}
    return list(columns), [list(row) for row in zip(*columns.values(), strict=True)]


def _typed(name: str, values: list[str]) -> list[Any]:
    filled = [value for value in values if value]
    convert: Callable[[str], Any] = str
    if filled and "digest" not in name and "commit" not in name:
        if all(value in ("True", "False") for value in filled):
            convert = "True".__eq__
        elif all(re.fullmatch(r"-?\d+", value) for value in filled):
            convert = int
        elif all(_NUMBER.fullmatch(value) for value in filled):
            convert = float
    return [convert(value) if value else None for value in values]

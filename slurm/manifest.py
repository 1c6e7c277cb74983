"""The manifest: the plan of a sweep, resolved on a machine with torch for use on machines without.

    runs/slurm/<sweep>/manifest-<digest of the sweep's file>-<digest of the sources>.json

It lists every cell with its digest, its seeds and the memory it needs. The file name says what the manifest
was made from: after an edit of the sweep or of the sources, the current manifest has another name.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent.records import files, shapes
from ascent.records.cell import Cell
from ascent.records.declared import Declared
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.plan import Plan, Planned
from ascent.records.provenance import HOME
from ascent.runners import sweep

FORMAT = 1
RESOLVING = ("algorithms", "records", "runners", "suites")  # what resolves and trains a cell


@dataclass(frozen=True)
class Manifest:
    """A sweep whose cells are resolved."""

    path: Path
    origin: str  # name of the sweep, or path of its file
    name: str  # of the sweep
    title: str
    made: str  # time in ISO format
    planned: tuple[Planned, ...]
    declared: Declared
    tables: dict[str, Any]  # further tables of the sweep's file
    replay: dict[str, int]  # digest of a cell -> bytes of replay memory per seed, 0 without replay

    @property
    def plan(self) -> Plan:
        """What the sweep declares."""
        return Plan(self.planned, self.declared, self.tables, self.name)

    @property
    def runs(self) -> int:
        """Return the number of runs."""
        return sum(len(plan.seeds) for plan in self.planned)

    def summary(self) -> str:
        """Return the size of the sweep in words."""
        return f"{self.runs} runs of {len(self.planned)} cells"


def folder(name_or_file: str, runs: Path) -> Path:
    """Return the folder below `runs` for everything about a sweep on the cluster.

    Raises:
        InputError: unknown sweep.
    """
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", sweep.find(name_or_file).stem)
    return runs / "slurm" / (name.strip(".") or "sweep")


def _origin(name_or_file: str) -> str:
    """Return the name of a built-in sweep or the absolute path of a sweep's file."""
    return str(Path(name_or_file).resolve()) if name_or_file.endswith(".toml") else name_or_file


def sources_digest(own: Sequence[Path] = ()) -> str:
    """Return eight hex digits that change with any source file that resolves or trains a cell.

    `own` are files that a sweep names: algorithms from outside the suite, and presets. Raises InputError if
    one cannot be read.
    """
    digest = sha256()
    for part in RESOLVING:
        for path in sorted((HOME / part).rglob("*.py")):
            digest.update(f"{path.relative_to(HOME).as_posix()}\n".encode() + path.read_bytes())
    for path in own:
        try:
            digest.update(f"{path}\n".encode() + files.read(path))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
    return digest.hexdigest()[:8]


def resolve(name_or_file: str, runs: Path) -> Manifest:
    """Resolve a sweep to a manifest, without writing it. This needs torch and the simulators.

    Raises:
        InputError: the sweep is invalid, torch is missing, or the folder belongs to another sweep.
    """
    loaded = sweep.load(name_or_file)
    from ascent.runners.memory import replay_bytes

    latest(name_or_file, runs)  # refuses the folder of another sweep
    return Manifest(
        path=_path(name_or_file, runs),
        origin=_origin(name_or_file),
        name=loaded.name,
        title=loaded.title,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        planned=loaded.planned,
        declared=loaded.declared,
        tables=loaded.tables,
        replay={plan.cell.digest: replay_bytes(plan.cell, 1) for plan in loaded.planned},
    )


def write(manifest: Manifest) -> None:
    """Write a manifest to its file."""
    cells = [
        {
            **plan.cell.to_json(),
            "digest": plan.cell.digest,
            "seeds": plan.seeds,
            "replay_bytes_per_seed": manifest.replay[plan.cell.digest],
            **({"algorithm_file": str(plan.cell.algorithm_file)} if plan.cell.algorithm_file else {}),
        }
        | ({"name": plan.name} if plan.name else {})
        | ({"grid": plan.grid} if plan.grid else {})
        for plan in manifest.planned
    ]
    content = {
        "format": FORMAT,
        "origin": manifest.origin,
        "sweep": manifest.name,
        "title": manifest.title,
        "made": manifest.made,
        "report": asdict(manifest.declared),
        "tables": json.loads(json.dumps(manifest.tables, default=str)),
        "cells": cells,
    }
    manifest.path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(manifest.path, content)


def read(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        InputError: the file cannot be read.
        DamagedFile: it is not a manifest, or it was modified.
    """
    try:
        content = files.read_json(path)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    if content.get("format") != FORMAT:
        raise DamagedFile(f"{path} is not a manifest of format {FORMAT}")
    shapes.check(shapes.MANIFEST, content, path)
    try:
        return _parse(path, content)
    except (LookupError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged: {error!r}") from error


def _parse(path: Path, content: dict) -> Manifest:
    cells = content["cells"]
    planned = tuple(
        Planned(_cell(cell), tuple(cell["seeds"]), cell.get("name", ""), cell.get("grid", ""))
        for cell in cells
    )
    for plan, cell in zip(planned, cells, strict=True):
        if plan.cell.digest != cell["digest"]:
            raise DamagedFile(
                f"{path} is damaged: digest mismatch: {plan.cell.label()}, not {cell['digest']}"
            )
    return Manifest(
        path=path,
        origin=content["origin"],
        name=content["sweep"],
        title=content["title"],
        made=content["made"],
        planned=planned,
        declared=Declared(**content.get("report", {})),  # the first manifests had none
        tables=content.get("tables", {}),
        replay={cell["digest"]: cell["replay_bytes_per_seed"] for cell in cells},
    )


def _cell(record: dict) -> Cell:
    cell = Cell.from_json(record)
    file = record.get("algorithm_file")
    return replace(cell, algorithm_file=Path(file)) if file else cell


def current(name_or_file: str, runs: Path) -> Manifest | None:
    """Return the manifest made from the sweep and the sources as they are; None if there is none.

    Raises:
        InputError: the folder belongs to another sweep, or the manifest cannot be read, or it names an
            algorithm's file that the sweep does not: then it would run code that the user has not named.
    """
    last = latest(name_or_file, runs)
    path = _path(name_or_file, runs)
    manifest = last if last and last.path == path else read(path) if path.exists() else None
    named = {plan.cell.algorithm_file for plan in manifest.planned} if manifest else set()
    if strange := named - {None, *sweep.algorithm_files(name_or_file)}:
        raise DamagedFile(f"{path} names {min(map(str, strange))}, which the sweep does not")
    return manifest


def find(name_or_file: str, runs: Path) -> Manifest | None:
    """Return the current manifest; None if the sweep was never planned below `runs`.

    Raises:
        InputError: the sweep or the sources changed since the sweep was planned, or as `current`.
    """
    manifest = current(name_or_file, runs)
    if manifest:
        return manifest
    last = latest(name_or_file, runs)
    if last is None:
        return None
    same_sweep = last.path.name.split("-")[1] == sweep.digest(sweep.find(name_or_file))
    code = "the source code" + (" or an algorithm's file" if sweep.algorithm_files(name_or_file) else "")
    code += " or a preset's file" if sweep.preset_files(name_or_file) else ""
    changed = code if same_sweep else sweep.find(name_or_file)
    raise InputError(
        f"{changed} changed since sweep {last.name} was planned ({last.made}): "
        f"run `ascent plan {name_or_file}` again"
    )


def latest(name_or_file: str, runs: Path) -> Manifest | None:
    """Return the most recent manifest of a sweep below `runs`, current or not.

    Raises:
        InputError: the sweep's folder belongs to another sweep, whose file has the same name.
    """
    place = folder(name_or_file, runs)
    last = max((read(path) for path in place.glob("manifest-*.json")), key=lambda m: m.made, default=None)
    if last and last.origin != _origin(name_or_file):
        raise InputError(
            f"{place} belongs to {last.origin}: rename {name_or_file} or use another --runs folder"
        )
    return last


def open_sweep(source: str, runs: Path) -> Manifest | sweep.Sweep:
    """Return a sweep by name, TOML file or manifest; its current manifest below `runs` saves resolving it.

    Raises:
        InputError: unknown or invalid sweep, or a damaged manifest.
    """
    if source.endswith(".json"):
        return read(Path(source))
    if not source.endswith(".toml") and source not in sweep.names():
        raise unknown("sweep or folder", source, sweep.names())
    manifest = None
    with suppress(InputError):  # an outdated or unreadable manifest is no obstacle
        manifest = current(source, runs)
    return manifest or sweep.load(source)


def as_planned(name_or_file: str, runs: Path) -> tuple[Plan, str]:
    """Return the plan of a sweep, and a note if the sweep changed since: then it is the last manifest's.

    Raises:
        InputError: unknown or invalid sweep.
    """
    try:
        manifest = find(name_or_file, runs)
    except InputError as change:
        last = latest(name_or_file, runs)
        if last is None:
            raise
        return last.plan, f"showing the sweep as it was planned: {change}"
    return (manifest or sweep.load(name_or_file)).plan, ""


def _path(name_or_file: str, runs: Path) -> Path:
    named = [*sweep.algorithm_files(name_or_file), *sweep.preset_files(name_or_file)]
    sources = sources_digest(named)
    name = f"manifest-{sweep.digest(sweep.find(name_or_file))}-{sources}.json"
    return folder(name_or_file, runs) / name


def missing(planned: Sequence[Planned], runs: Path) -> Iterator[tuple[Cell, list[int]]]:
    """Yield each cell that is not finished, with its missing seeds."""
    for plan in planned:
        if seeds := plan.cell.missing(plan.seeds, runs):
            yield plan.cell, seeds

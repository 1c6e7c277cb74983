"""The plan of a sweep, resolved where torch is: every cell with its digest, its seeds and what it needs.

    runs/slurm/<sweep>/manifest-<digest of the sweep's file>-<digest of the sources>.json

The name says what it was made from, so that an edit of either is noticed: the same name, the same plan.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from ascent.records import files
from ascent.records.cell import Cell
from ascent.records.declared import Declared
from ascent.records.errors import DamagedFile, InputError
from ascent.records.plan import Planned
from ascent.runners import sweep

FORMAT = 1
ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Manifest:
    """A sweep whose cells are resolved."""

    path: Path
    origin: str  # the sweep's name, or its file
    name: str  # the sweep's
    title: str
    made: str  # when
    planned: tuple[Planned, ...]
    declared: Declared
    replay: dict[str, int]  # bytes of replay per seed, by the cell's digest; 0 where nothing is replayed

    @property
    def runs(self) -> int:
        return sum(len(plan.seeds) for plan in self.planned)


def folder(name_or_file: str, out: Path) -> Path:
    """Where everything about a sweep on the cluster is kept. Raises InputError for an unknown sweep."""
    name = re.sub(r"[^A-Za-z0-9_.-]", "-", sweep.find(name_or_file).stem)
    return out / "slurm" / (name.strip(".") or "sweep")


def _origin(name_or_file: str) -> str:
    """What tells sweeps apart whose files have the same name."""
    return str(Path(name_or_file).resolve()) if name_or_file.endswith(".toml") else name_or_file


def sources_digest() -> str:
    """Eight hex digits over the sources that resolve and train a cell."""
    digest = sha256()
    for package in ("algorithms", "runners", "suites"):
        for path in sorted((ROOT / package).glob("*.py")):
            digest.update(f"{package}/{path.name}\n".encode() + path.read_bytes())
    return digest.hexdigest()[:8]


def resolve(name_or_file: str, out: Path) -> Manifest:
    """Plan a sweep, without writing its manifest yet. Needs torch and the simulators.

    Raises InputError for a sweep that means nothing, or without torch.
    """
    loaded = sweep.load(name_or_file)
    from ascent.runners.memory import replay_bytes

    replay = {plan.cell.digest: replay_bytes(plan.cell, 1) for plan in loaded.planned}
    made = datetime.now(UTC).isoformat(timespec="seconds")
    latest(name_or_file, out)  # refuses the folder of another sweep
    path, origin = _path(name_or_file, out), _origin(name_or_file)
    return Manifest(path, origin, loaded.name, loaded.title, made, loaded.planned, loaded.declared, replay)


def write(manifest: Manifest) -> None:
    """Put a manifest into its file."""
    cells = [
        {
            **asdict(plan.cell),
            "digest": plan.cell.digest,
            "seeds": plan.seeds,
            "replay_bytes_per_seed": manifest.replay[plan.cell.digest],
        }
        for plan in manifest.planned
    ]
    content = {"format": FORMAT, "origin": manifest.origin, "sweep": manifest.name}
    content |= {"title": manifest.title, "made": manifest.made}
    content["report"] = asdict(manifest.declared)
    manifest.path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json(manifest.path, {**content, "cells": cells})


def read(path: Path) -> Manifest:
    """The manifest in a file. Raises DamagedFile if it is none, InputError if it cannot be read."""
    try:
        content = files.read_json(path)
    except OSError as error:
        raise InputError(f"{path}: {error}") from error
    if content.get("format") != FORMAT:
        raise DamagedFile(f"{path} is no manifest of format {FORMAT}")
    try:
        return _parse(path, content)
    except (LookupError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged: {error!r}") from error


def _parse(path: Path, content: dict) -> Manifest:
    cells = content["cells"]
    planned = tuple(Planned(Cell.from_json(cell), tuple(cell["seeds"])) for cell in cells)
    for plan, cell in zip(planned, cells, strict=True):
        if plan.cell.digest != cell["digest"]:
            raise DamagedFile(f"{path} is damaged: {plan.cell.label()} should have digest {cell['digest']}")
    replay = {cell["digest"]: cell["replay_bytes_per_seed"] for cell in cells}
    about = (content[name] for name in ("origin", "sweep", "title", "made"))
    declared = Declared(**content.get("report", {}))  # manifests once had none
    return Manifest(path, *about, planned, declared, replay)


def find(name_or_file: str, out: Path) -> Manifest | None:
    """The manifest of a sweep as it is now; None if it was never planned below `out`.

    Raises InputError if the sweep or the sources were edited since it was planned.
    """
    path, last = _path(name_or_file, out), latest(name_or_file, out)
    if path.exists():
        return read(path)
    if last is None:
        return None
    edited = (
        "the project" if last.path.name.split("-")[1] == path.name.split("-")[1] else sweep.find(name_or_file)
    )
    raise InputError(
        f"{edited} was edited since sweep {last.name} was planned ({last.made}): "
        f"`ascent plan {name_or_file}` plans it again"
    )


def latest(name_or_file: str, out: Path) -> Manifest | None:
    """The last manifest of a sweep that was made below `out`.

    Raises InputError if the sweep's folder there belongs to another sweep, whose file has the same name.
    """
    place = folder(name_or_file, out)
    found = max((read(path) for path in place.glob("manifest-*.json")), key=lambda m: m.made, default=None)
    if found and found.origin != _origin(name_or_file):
        raise InputError(f"{place} belongs to {found.origin}: give {name_or_file} another name or --out")
    return found


def _path(name_or_file: str, out: Path) -> Path:
    name = f"manifest-{sweep.digest(sweep.find(name_or_file))}-{sources_digest()}.json"
    return folder(name_or_file, out) / name


def missing(manifest: Manifest, out: Path) -> Iterator[tuple[Cell, list[int]]]:
    """The cells that are not finished, with the seeds that are missing."""
    for plan in manifest.planned:
        seeds = [seed for seed in plan.seeds if not plan.cell.is_finished(seed, out)]
        if seeds:
            yield plan.cell, seeds

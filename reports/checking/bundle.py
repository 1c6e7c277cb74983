"""Bundle: a report with its records, sources and checksums in one zip that another machine can check.

    bundle.json     format, this project's version and commit
    report/...      the report, as it is
    runs/...        its records: cell.json, sources-<digest>.zip, the result files and run.json of every seed,
                    the tables of `ascent robustness`
    SHA256SUMS      of every other file, as `sha256sum -c` reads it

The same report and records give the same bytes. Checkpoints and seals are left out. Whoever opens a bundle
believes nothing in it: names, sizes and sums are checked while it is unpacked into a temporary folder.
"""

import json
import re
import shutil
import stat
import subprocess
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from ascent.records import files
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.read import Expected, load
from ascent.reports.checking import folder, identity
from ascent.reports.checking.folder import RESULTS
from ascent.reports.statistics import robustness

FORMAT = 1
SUMS = "SHA256SUMS"
CHUNK = 1 << 20
MAX_FILES, MAX_BYTES = 1_000_000, 1 << 38  # 256 GB: more than any sweep, less than what a bomb claims
MAX_RATIO = 1100  # deflate cannot do better than 1032 : 1
RECORDS = ("run.json", "result.json", "progress.json", *RESULTS)


def pack(report: Path, runs: Path, target: Path) -> list[str]:
    """Write the bundle of the report in a folder, whose records are below `runs`, to the file `target`.

    Returns the names in it. Raises InputError if the report is none, or if its records are missing or are not
    those that it was made from, and names them.
    """
    about = provenance(report)
    expected = wanted(about)
    _refuse_changed(about, expected, runs)
    contents = {f"report/{path.relative_to(report).as_posix()}": path for path in _below(report)}
    for cell in expected:
        inside = runs / cell.folder
        for path in [inside / "cell.json", *sorted(inside.glob("sources-*.zip"))]:
            contents[f"runs/{cell.folder}/{path.name}"] = path
        for name in robustness.files(inside):
            contents[f"runs/{cell.folder}/{robustness.FOLDER}/{name}"] = inside / robustness.FOLDER / name
        for path in (inside / f"seed-{seed}" / name for seed in cell.seeds for name in RECORDS):
            contents[f"runs/{cell.folder}/{path.parent.name}/{path.name}"] = path
    contents = {name: path for name, path in sorted(contents.items()) if path.is_file()}
    header = files.json_bytes({"format": FORMAT, "project": {"name": "ascent", **_project()}})
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name}-") as work:
        temporary = Path(work) / "bundle.zip"
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            sums = {"bundle.json": sha256(header).hexdigest()}
            archive.writestr(_entry("bundle.json"), header, zipfile.ZIP_DEFLATED)
            for name, path in contents.items():
                with path.open("rb") as source, archive.open(_entry(name, path.stat().st_size), "w") as sink:
                    sums[name] = _copy(source, sink)
            lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(sums.items()))
            archive.writestr(_entry(SUMS), lines.encode(), zipfile.ZIP_DEFLATED)
        temporary.replace(target)
    return [*sums, SUMS]


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """The bundle unpacked in a temporary folder, which holds `report` and `runs`.

    Raises InputError for what is no bundle, is damaged, or does not belong into one; it names the file.
    """
    with tempfile.TemporaryDirectory(prefix="ascent-bundle-") as work:
        try:
            with zipfile.ZipFile(path) as archive:
                _unpack(archive, path, Path(work))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as error:
            raise InputError(f"{path} is damaged or no bundle: {error}") from error
        try:
            about = json.loads((Path(work) / "bundle.json").read_bytes())
            if about["format"] != FORMAT:
                raise InputError(f"{path} is a bundle of format {about['format']}, this is format {FORMAT}")
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise InputError(f"{path} is no bundle: it has no bundle.json") from error
        yield Path(work)


@contextmanager
def records(path: Path) -> Iterator[Path]:
    """The folder of run records that `path` is, or holds if it is a bundle."""
    if path.is_file():
        with opened(path) as inside:
            yield inside / "runs"
    else:
        yield path


def provenance(report: Path) -> dict[str, Any]:
    """A report's provenance.json. Raises InputError unless it says all that makes the report again."""
    path = report / "provenance.json"
    try:
        about = files.read_json(path)
    except OSError as error:
        raise InputError(f"{report} is no report: {path.name}: {error.strerror}") from error
    if "report" not in about:
        raise InputError(f"{path} does not say how the report was made: make it again")
    try:
        declared(about)
        str(about["report"]["title"])
        wanted(about)
    except (LookupError, TypeError, AttributeError) as error:
        raise InputError(f"{path} does not say what makes the report again: {error!r}") from error
    return about


def declared(about: dict[str, Any]) -> Declared:
    """What the report with this provenance.json was declared to say."""
    return Declared(**about["report"]["settings"])


def wanted(about: dict[str, Any]) -> list[Expected]:
    """The cells and seeds of the report with this provenance.json."""
    cells = about["report"]["expected"]
    found = [Expected(**{**cell, "seeds": tuple(cell["seeds"])}) for cell in cells]
    for cell in found:
        if ".." in (parts := cell.folder.split("/")) or len(parts) != 3 or not all(parts):
            raise InputError(f"provenance.json names {cell.folder!r}, which is no cell's folder")
    return found


def _refuse_changed(about: dict[str, Any], expected: list[Expected], runs: Path) -> None:
    """Raises InputError unless the records are those that the report tells of."""
    try:
        found = load(runs, expected)
    except ValueError as error:
        raise InputError(f"the report's records are missing: {error}") from error
    said = {run["folder"]: tuple(run.get(key) for key in _SAID) for run in about.get("runs", ())}
    perturbed = {cell.get("folder"): cell.get("robustness") for cell in about.get("cells", ())}
    changed = []
    for cell in found:
        name = cell.name.folder
        if perturbed.get(name) not in (None, robustness.files(runs / name)):
            changed.append(f"{name}/{robustness.FOLDER} is not what the report was made from")
        for run in cell.runs:
            was, now = said.get(run.folder), (run.state, run.note, run.result.get("digest"))
            if was is None:
                changed.append(f"{run.folder} is not among the report's runs")
            elif was != now:
                word = "another run" if was[0] == now[0] else f"{now[0]} {now[1]}".strip()
                changed.append(f"{run.folder} was {was[0]}, now it is {word}")
        if fine := {run.folder for run in cell.runs if run.finished}:
            inside = folder.load(runs.resolve() / cell.name.folder)
            for finding in (finding for rule in _RULES for finding in rule(inside)):
                if finding.where in {inside.name, *fine}:
                    changed.append(f"{finding.where}: {finding.what}")
    if changed:
        raise InputError(f"the report's records have changed: {'; '.join(changed)}")


_SAID = ("state", "note", "result_digest")  # of a run, in provenance.json
_RULES = (identity.all_finished, identity.result_digests, identity.seal_agrees, identity.recorded_sources)


def _below(report: Path) -> list[Path]:
    return sorted(path for path in report.rglob("*") if path.is_file())


def _entry(name: str, size: int = 0) -> zipfile.ZipInfo:
    """An entry that depends on its name and content alone: dated 1980, readable by all."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.create_system, entry.file_size = zipfile.ZIP_DEFLATED, 3, size
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _copy(source: BinaryIO, sink: BinaryIO) -> str:
    """Copy piece by piece; the sha256 of what was copied."""
    digest = sha256()
    while piece := source.read(CHUNK):
        digest.update(piece)
        sink.write(piece)
    return digest.hexdigest()


def _unpack(archive: zipfile.ZipFile, path: Path, target: Path) -> None:
    entries = archive.infolist()
    _refuse_hostile(entries, path, target)
    try:
        lines = archive.read(SUMS).decode().splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
    except (KeyError, ValueError, zlib.error, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: {SUMS} is missing or damaged") from error
    names = {entry.filename for entry in entries} - {SUMS}
    for name in sorted(names ^ sums.keys()):
        raise InputError(f"{path}: {name} is {'not there' if name in sums else f'not in {SUMS}'}")
    for entry in entries:
        if entry.filename == SUMS:
            continue
        inside = target / entry.filename
        inside.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(entry) as source, inside.open("wb") as sink:
                digest = _copy(source, sink)
        except (zlib.error, zipfile.BadZipFile, EOFError) as error:
            raise InputError(f"{path}: {entry.filename} is damaged: {error}") from error
        if digest != sums[entry.filename]:
            raise InputError(f"{path}: {entry.filename} has not the sha256 of {SUMS}")


def _refuse_hostile(entries: list[zipfile.ZipInfo], path: Path, target: Path) -> None:
    """Raises InputError for names that lead out of the folder, links, and sizes that no bundle has."""
    for entry in entries:
        name, parts = entry.filename, PurePosixPath(entry.filename).parts
        kind = stat.S_IFMT(entry.external_attr >> 16)
        known = re.fullmatch(r"bundle\.json|SHA256SUMS|(report|runs)/[^\\\0]+", name)
        if not known:
            raise InputError(f"{path}: {name!r} does not belong into a bundle")
        if ".." in parts or "/".join(parts) != name:
            raise InputError(f"{path}: {name!r} leads out of the bundle or is a folder")
        if kind not in (0, stat.S_IFREG):
            raise InputError(f"{path}: {name!r} is a link or a device")
        most = MAX_RATIO * (entry.compress_size + 1)
        if entry.file_size > (most if "/" in name else min(most, 1000 * len(entries))):
            raise InputError(f"{path}: {name!r} claims {entry.file_size:,} bytes: too many")
    if len({entry.filename for entry in entries}) < len(entries):
        raise InputError(f"{path}: a name is there twice")
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_FILES or size > MAX_BYTES:
        raise InputError(f"{path}: {len(entries):,} files of {size:,} bytes are more than a bundle may have")
    if size > (free := shutil.disk_usage(target).free):
        raise InputError(f"{path}: needs {size:,} bytes in {target.parent}, which has {free:,} left")


def _project() -> dict[str, str | None]:
    """This project's version and commit; None where they are not known."""
    try:
        number = version("ascent")
    except PackageNotFoundError:
        number = None
    root = Path(__file__).resolve().parents[2]
    try:
        command = ["git", "-C", str(root), "rev-parse", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20)
        commit = done.stdout.strip() if done.returncode == 0 else None
    except (OSError, subprocess.TimeoutExpired):
        commit = None
    return {"version": number, "commit": commit}

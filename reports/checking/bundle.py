"""Pack a report with its records, sources and checksums into one zip archive, and open one safely.

    bundle.json     format of the bundle, version and commit of this project
    report/...      the report, unchanged
    runs/...        its records: cell.json, sources-<digest>.zip, the result files and run.json of every seed
                    (sealed or not), the tables of `ascent robustness` and `ascent crossplay`, and the part of
                    the ledger that is about these cells
    SHA256SUMS      checksums of all other files, for `sha256sum -c`
    SHA256SUMS.sig  a signature of SHA256SUMS (`signature.py`), if the bundle is signed

The same report and records give the same bytes. Nothing else in their folders is included: no checkpoint, and
no file that the report does not list in its own SHA256SUMS. A bundle is untrusted input: names, sizes and
checksums are verified while it is unpacked into a temporary folder.
"""

import lzma
import re
import shutil
import stat
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import IO, Any

from ascent.records import files, layout, ledger, shapes, sums
from ascent.records.declared import Declared
from ascent.records.errors import DamagedFile, InputError
from ascent.records.expected import Expected
from ascent.records.provenance import DISTRIBUTION, commit
from ascent.records.read import CellRecord, load
from ascent.records.shelf import source_archives
from ascent.records.store import Store
from ascent.records.sums import SUMS
from ascent.reports.checking import folder, identity, signature
from ascent.reports.checking.anonymous import Pseudonyms
from ascent.reports.checking.check import apply
from ascent.reports.checking.grades import CHECKED
from ascent.reports.page.contents import FILE_OF_REPORT
from ascent.reports.statistics import crossplay_table, perturbed

FORMAT = 1
HEADER = "bundle.json"
SIGNATURE = f"{SUMS}.sig"
CHUNK = 1 << 20  # bytes
MAX_FILES = 1_000_000
RECORDS = (layout.RUN, layout.RESULT, layout.PROGRESS, *layout.RESULT_FILES, *layout.COMPACT)  # of a run


def pack(
    report: Path, runs: Path, target: Path, anonymous: bool = False, key: Path | None = None
) -> list[str]:
    """Bundle the report in the folder `report` with its records below `runs` into the file `target`.

    Args:
        report: folder of the report.
        runs: folder of run records.
        target: file to write.
        anonymous: replace what run.json reveals about a person or a site (`anonymous.py`).
        key: file of the SSH key that signs the bundle.

    Returns the names of the bundled files. Raises InputError if the folder holds no report, if records are
    missing or differ from those that the report was made from, or if the key cannot sign; the message names
    them.
    """
    report = report.resolve()  # the user may have named a link
    about = provenance(report)
    expected = expected_cells(about)
    _refuse_changed(about, expected, runs)
    contents: dict[str, Callable[[], bytes]] = {
        f"report/{name}": partial(_unchanged, report / name, digest)
        for name, digest in report_sums(report).items()
    }
    names = Pseudonyms()
    for cell in expected:
        source_folder = cell.home(runs) / cell.folder
        store = Store(source_folder)
        shared = (path for path in source_archives(source_folder) if path.exists())
        archives = {*source_folder.glob(layout.sources("*")), *shared}
        for path in (*source_folder.glob(layout.CELL), *sorted(archives)):
            contents[f"runs/{cell.folder}/{path.name}"] = partial(files.read, path)
        for name in perturbed.files(source_folder):
            path = source_folder / layout.ROBUSTNESS / name
            contents[f"runs/{cell.folder}/{layout.ROBUSTNESS}/{name}"] = partial(files.read, path)
        contents |= {
            f"runs/{cell.folder}/{layout.seed_folder(seed)}/{name}": partial(names.read, store, seed)
            if anonymous and name == layout.RUN
            else partial(store.read, seed, name)
            for seed in cell.seeds
            for name in RECORDS
            if store.has(seed, name)
        }
    for name in _crossplay(expected, runs):
        contents[f"runs/{name}"] = partial(files.read, runs / name)
    contents |= {
        f"runs/{layout.LEDGER}/{path.name}": partial(files.read, path)
        for home in {cell.home(runs) for cell in expected}
        for path in ledger.files_of([cell.folder for cell in expected if cell.home(runs) == home], home)
    }
    try:
        return _write(contents, target, key)
    except OSError as error:  # such as a full disk: it does not say which file
        raise OSError(error.errno, error.strerror, error.filename or str(target)) from error


def _write(contents: dict[str, Callable[[], bytes]], target: Path, key: Path | None) -> list[str]:
    """Write a bundle, all or nothing. Returns the names of its files."""
    header = files.json_bytes({"format": FORMAT, "project": {"name": "ascent", **_project()}})
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{target.name[:40]}-") as work:
        temporary = Path(work) / "bundle.zip"
        with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
            digests = {HEADER: sha256(header).hexdigest()}
            archive.writestr(_entry(HEADER), header, zipfile.ZIP_DEFLATED)
            for name, read in sorted(contents.items()):
                data = read()
                digests[name] = sha256(data).hexdigest()
                archive.writestr(_entry(name), data, zipfile.ZIP_DEFLATED)
            lines = sums.text(digests).encode()
            archive.writestr(_entry(SUMS), lines, zipfile.ZIP_DEFLATED)
            if key:
                archive.writestr(_entry(SIGNATURE), signature.sign(lines, key), zipfile.ZIP_DEFLATED)
        temporary.replace(target)
    return [*digests, SUMS, *([SIGNATURE] if key else [])]


def report_sums(report: Path) -> dict[str, str]:
    """Return the files of a report and their sha256, by its SHA256SUMS, that file among them.

    Raises InputError if there is none, or it names what no report has.
    """
    path = report.resolve() / SUMS
    try:
        content = files.read(path)
        digests = sums.parse(content)
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing: build the report again") from error
    except ValueError as error:
        raise InputError(f"{path} is damaged: not a list of checksums") from error
    for name in digests:
        if not FILE_OF_REPORT.fullmatch(name):
            raise InputError(f"{path} lists {name!r}, which is no file of a report")
    return digests | {SUMS: sha256(content).hexdigest()}


def other_files(report: Path) -> list[str]:
    """Return the files in the folder of a report that are not part of it."""
    names = (path.relative_to(report).as_posix() for path in report.rglob("*") if not path.is_dir())
    return sorted(set(names) - report_sums(report).keys())


def _unchanged(path: Path, digest: str) -> bytes:
    """Return the content of a file of a report. Raises InputError if its sha256 is another."""
    data = files.read(path)
    if sha256(data).hexdigest() != digest:
        raise InputError(f"{path} changed since the report was built: build it again")
    return data


def signed_by(unpacked: Path, signers: Path | None) -> str | None:
    """Return who signed an unpacked bundle, in words; None if nobody did.

    `signers` is a file of allowed signers, see `signature.verify`. Raises InputError if the signature is
    wrong, or if there is none by any of them.
    """
    path = unpacked / SIGNATURE
    if not path.exists():
        if signers:
            raise InputError("the bundle is not signed")
        return None
    return signature.verify(files.read(unpacked / SUMS), files.read(path), signers)


@contextmanager
def opened(path: Path) -> Iterator[Path]:
    """Unpack a bundle into a temporary folder, and yield that folder. It holds `report` and `runs`.

    Raises InputError if the file is not a bundle, is damaged, or contains anything that a bundle may not; the
    message names the file.
    """
    with tempfile.TemporaryDirectory(prefix="ascent-bundle-") as work:
        try:
            with files.opened(path.resolve(), sys.maxsize) as file, zipfile.ZipFile(file) as archive:
                _unpack(archive, path, Path(work))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror or error}") from error
        except files.UNREADABLE_ZIP as error:
            raise InputError(f"{path} is damaged or not a bundle: {error}") from error
        try:
            about = files.read_json(Path(work) / HEADER)
            if about["format"] != FORMAT:
                raise InputError(f"{path} has bundle format {about['format']}; supported: {FORMAT}")
        except (OSError, DamagedFile, LookupError) as error:
            raise InputError(f"{path} is not a bundle: it has no valid bundle.json") from error
        yield Path(work)


@contextmanager
def records(path: Path) -> Iterator[Path]:
    """Yield the folder of run records: `path` itself, or the records of the bundle `path`."""
    if path.is_file():
        with opened(path) as unpacked:
            yield unpacked / "runs"
    else:
        yield path


def provenance(report: Path) -> dict[str, Any]:
    """Return a report's provenance.json. Raises InputError if it lacks what rebuilding the report needs."""
    path = report.resolve() / "provenance.json"
    try:
        about = files.read_json(path)
    except OSError as error:
        raise InputError(f"{report} is not a report: {path.name}: {error.strerror}") from error
    if "report" not in about:
        raise InputError(f"{path} was written by an older version: build the report again")
    shapes.check(shapes.PROVENANCE, about, path)
    declared(about)
    for cell, words in (about["report"].get("grades") or {}).items():
        if words not in CHECKED:
            raise InputError(f"{path} says {words!r} of {cell}: a page has only grades of `ascent check`")
    return about


def declared(about: dict[str, Any]) -> Declared:
    """Return the declared settings of the report with this provenance.json."""
    return Declared(**about["report"]["settings"])


def expected_cells(about: dict[str, Any]) -> list[Expected]:
    """Return the cells and seeds of the report with this provenance.json."""
    return [Expected.from_json(cell) for cell in about["report"]["expected"]]


def _refuse_changed(about: dict[str, Any], expected: list[Expected], runs: Path) -> None:
    """Raise InputError unless the records are those that the report was made from."""
    try:
        cells = load(runs, expected)
    except ValueError as error:
        raise InputError(f"the report's records are missing: {error}") from error
    tables = {cell.get("folder"): cell.get("robustness") for cell in about.get("cells", ())}
    changes = changed_runs(about, cells)
    for cell in cells:
        name = cell.name.folder
        if tables.get(name) not in (None, perturbed.files(cell.name.home(runs) / name)):
            changes.append(f"{name}/{layout.ROBUSTNESS} changed since the report was built")
        if finished := {run.folder for run in cell.runs if run.finished}:
            place = cell.name.home(runs.resolve()) / cell.name.folder
            cell_files = folder.load(place, cell.name.seeds)
            for finding in (finding for rule in _RULES for finding in apply(rule, cell_files)):
                if not finding.note and finding.where in {cell_files.name, *finished}:
                    changes.append(f"{finding.where}: {finding.what}")
    tables_before, tables_now = about.get("crossplay", {}), _crossplay(expected, runs)
    for name in sorted(tables_before.keys() | tables_now.keys()):
        if tables_before.get(name) != tables_now.get(name):
            changes.append(f"{name} changed since the report was built")
    if changes:
        raise InputError(f"the report's records have changed: {'; '.join(changes)}")


def _crossplay(expected: list[Expected], runs: Path) -> dict[str, str]:
    """Return file below `runs` -> sha256 of the tables of `ascent crossplay` on the tasks of a report."""
    tables = crossplay_table.tables(runs, {(cell.suite, cell.task) for cell in expected})
    return {name: sha256(content).hexdigest() for name, content in tables.items()}


def changed_runs(about: dict[str, Any], cells: Sequence[CellRecord]) -> list[str]:
    """Return in what the runs of these cells are not those of the report with this provenance.json."""
    reported = {run["folder"]: tuple(run.get(key) for key in _RUN_KEYS) for run in about.get("runs", ())}
    changes = []
    for run in (run for cell in cells for run in cell.runs):
        before = reported.get(run.folder)
        after = (run.state, run.note, run.result.get("digest"))
        if before is None:
            changes.append(f"{run.folder} is not a run of the report")
        elif before != after:
            word = "another run" if before[0] == after[0] else f"{after[0]} {after[1]}".strip()
            changes.append(f"{run.folder} was {before[0]} and is now {word}")
    return changes


_RUN_KEYS = ("state", "note", "result_digest")  # of a run, in provenance.json
_RULES = (identity.all_finished, identity.result_digests, identity.sealed_runs, identity.recorded_sources)


def _entry(name: str) -> zipfile.ZipInfo:
    """Return an archive entry that depends on name and content only: dated 1980, readable by all."""
    entry = zipfile.ZipInfo(name)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.create_system = 3  # Unix
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _copy(source: IO[bytes], sink: IO[bytes]) -> str:
    """Copy in chunks. Return the sha256 of the copied bytes."""
    digest = sha256()
    while piece := source.read(CHUNK):
        digest.update(piece)
        sink.write(piece)
    return digest.hexdigest()


def _unpack(archive: zipfile.ZipFile, path: Path, target: Path) -> None:
    """Unpack into the folder `target`; `path` names the archive in errors. Raises InputError."""
    entries = archive.infolist()
    _refuse_hostile(entries, path, target)
    try:
        digests = sums.parse(archive.read(SUMS))
    except (KeyError, *files.UNREADABLE_ZIP) as error:
        raise InputError(f"{path}: {SUMS} is missing or damaged") from error
    names = {entry.filename for entry in entries} - {SUMS, SIGNATURE}
    for name in sorted(names ^ digests.keys()):
        raise InputError(f"{path}: {name} is {'missing' if name in digests else f'not listed in {SUMS}'}")
    for entry in entries:
        destination = target / entry.filename
        destination.parent.mkdir(parents=True, exist_ok=True)
        try:
            with archive.open(entry) as source, destination.open("wb") as sink:
                digest = _copy(source, sink)
        except (zlib.error, zipfile.BadZipFile, EOFError, lzma.LZMAError, NotImplementedError) as error:
            raise InputError(f"{path}: {entry.filename} is damaged: {error}") from error
        if entry.filename in digests and digest != digests[entry.filename]:
            raise InputError(f"{path}: {entry.filename} does not match its sha256 in {SUMS}")


def _refuse_hostile(entries: list[zipfile.ZipInfo], path: Path, target: Path) -> None:
    """Raise InputError for names that escape the folder, links, and sizes that no bundle can have."""
    for entry in entries:
        name = entry.filename
        parts = PurePosixPath(name).parts
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not re.fullmatch(r"bundle\.json|SHA256SUMS(\.sig)?|(report|runs)/[^\\\0]+", name):
            raise InputError(f"{path}: {name!r} does not belong in a bundle")
        if ".." in parts or "/".join(parts) != name:
            raise InputError(f"{path}: {name!r} is a folder or escapes the archive")
        if kind not in (0, stat.S_IFREG):
            raise InputError(f"{path}: {name!r} is a link or a device")
        limit = files.MOST_RATIO * (entry.compress_size + 1)
        if "/" not in name:  # bundle.json, SHA256SUMS and its signature
            limit = min(limit, 1000 * len(entries))
        if entry.file_size > limit:
            raise InputError(
                f"{path}: {name!r} claims {entry.file_size:,} bytes; at most {limit:,} are allowed"
            )
    if len({entry.filename for entry in entries}) < len(entries):
        raise InputError(f"{path}: two files have the same name")
    size = sum(entry.file_size for entry in entries)
    if len(entries) > MAX_FILES or size > files.MOST_BYTES:
        raise InputError(
            f"{path}: {len(entries):,} files of {size:,} bytes in total exceed the limits of a bundle, "
            f"{MAX_FILES:,} files of {files.MOST_BYTES:,} bytes (the environment variable ASCENT_MOST_BYTES)"
        )
    if size > (free := shutil.disk_usage(target).free):
        raise InputError(
            f"{path}: unpacking needs {size:,} bytes in {target.parent}, which has {free:,} free"
        )


def _project() -> dict[str, str | None]:
    """Return this project's version and commit, None for what is not known."""
    try:
        number = version(DISTRIBUTION)
    except PackageNotFoundError:
        number = None
    return {"version": number, "commit": commit()["commit"]}

"""Put finished cells on a shelf, and finished runs of other cells beside it.

A cell is checked, verified and compacted before anything is written, and its seal is written last.
"""

import csv
import io
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from ascent.records import files, layout, ledger, provenance, seal
from ascent.records.errors import DamagedFile, InputError
from ascent.records.plan import parse_seeds, seed_ranges
from ascent.records.shelf import PARTIAL, PROOFS, SOURCES, Shelf, ShelfCell, sources
from ascent.records.store import Store, seals
from ascent.reports.checking.check import check
from ascent.reports.checking.grades import GRADES, RECORDED, grade
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.setting import Allowed
from ascent.reports.checking.verify import NOTHING, verify
from ascent.reports.statistics import perturbed

DEPTHS = ("policy", "start", "whole")


@dataclass(frozen=True)
class Proof:
    """A row of proofs.csv: the grade that `ascent verify` gave to runs of a cell, where and when."""

    cell: str  # suite/task/cell
    grade: str
    seeds: str
    platform: str
    commit: str  # of the code that verified
    date: str


@dataclass(frozen=True)
class _Entry:
    """What will be written of a cell."""

    cell: ShelfCell
    folder: Path  # of the records
    runs: dict[int, dict[str, bytes]]  # by seed and file

    @property
    def archive(self) -> tuple[str, bytes]:
        return seal.archive(self.runs)


def ready(shelf: Shelf, runs: Path) -> tuple[list[ShelfCell], list[ShelfCell]]:
    """Return the planned cells in a folder of records that are not on the shelf: complete ones, and others
    with at least one finished run.
    """
    complete, begun = [], []
    for cell in shelf.missing:
        finished = _finished(runs / cell.folder)
        if finished == list(range(cell.seeds)):
            complete.append(cell)
        elif finished:
            begun.append(cell)
    return complete, begun


def add(
    shelf: Shelf,
    runs: Path,
    wanted: Sequence[ShelfCell],
    depth: str = "policy",
    allowed: Allowed = NOTHING,
    tell: Callable[[int, int], None] = lambda done, cells: None,
) -> list[Proof]:
    """Check and verify complete cells, then put them on a shelf. Nothing is written if one of them fails.

    Args:
        shelf: the shelf.
        runs: folder of their records.
        wanted: cells of the shelf's plan.
        depth: how they are verified; see `ascent.reports.checking.verify`.
        allowed: what may be run of the records.
        tell: called after each cell with the number of cells that are done, and of all.

    Raises:
        InputError: a cell is incomplete, breaks a rule, differs when it is verified, was not made by the
            shelf's commit, or is there already with other bytes.
    """
    entries, proofs = [], []
    for number, cell in enumerate(wanted):
        tell(number, len(wanted))
        folder = runs / cell.folder
        if (finished := _finished(folder)) != list(range(cell.seeds)):
            which = f"seeds {seed_ranges(finished)} of" if finished else "none of"
            raise InputError(f"{cell.folder}: {which} 0-{cell.seeds - 1} are finished")
        _check(folder, shelf)
        entry = _entry(cell, folder, final=True)
        name, _ = entry.archive
        if shelf.has(cell):
            if [path.name for path in seals(shelf.folder / cell.folder)] != [name]:
                raise InputError(f"{cell.folder} is on the shelf {shelf.name} with other bytes")
            continue
        proofs.append(_prove(cell, folder, depth, allowed))
        entries.append(entry)
    for entry in entries:
        _write(entry, runs, shelf.folder)
        partial = shelf.folder.parent / PARTIAL / entry.cell.folder
        if partial.exists():
            shutil.rmtree(partial)
    _append(shelf, proofs)
    tell(len(wanted), len(wanted))
    return proofs


def keep(shelf: Shelf, runs: Path, begun: Iterable[ShelfCell]) -> list[ShelfCell]:
    """Put the finished runs of incomplete cells beside the shelf, with all policies. Returns what is new.

    Raises:
        InputError: a cell breaks a rule.
    """
    partial = shelf.folder.parent / PARTIAL
    new = []
    for cell in begun:
        entry = _entry(cell, runs / cell.folder, final=False)
        old = seals(partial / cell.folder)
        name, _ = entry.archive
        if [path.name for path in old] == [name]:
            continue
        _check(runs / cell.folder, shelf)
        _write(entry, runs, partial)
        for path in old:
            if path.name != name:
                path.unlink()
        new.append(cell)
    return new


def restore(shelf: Shelf, runs: Path) -> None:
    """Copy what lies beside the shelf into a folder of records, for the campaign to go on."""
    partial = shelf.folder.parent / PARTIAL
    for cell in shelf.missing:
        folder = partial / cell.folder
        known = _finished(runs / cell.folder)
        if set(_finished(folder)) - set(known):
            for path in (folder / layout.CELL, *seals(folder)):
                _copy(path, runs / cell.folder / path.name)
            for digest in _source_digests(folder):
                archive = sources(folder, digest)
                _copy(archive, runs / cell.folder / archive.name)
    for path in (partial / layout.LEDGER).glob("*.json"):
        _copy(path, runs / layout.LEDGER / path.name)


def proofs(shelf: Shelf) -> list[Proof]:
    """Return the rows of a shelf's proofs.csv. Raises DamagedFile."""
    path = shelf.folder / PROOFS
    if not path.exists():
        return []
    try:
        head, *rows = csv.reader(io.StringIO(path.read_text()))
        if head != [field.name for field in fields(Proof)]:
            raise ValueError("other columns")
        return [Proof(*row) for row in rows]
    except (ValueError, TypeError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def grade_of(shelf: Shelf, cell: ShelfCell, known: Sequence[Proof]) -> str:
    """Return the strongest grade that a proof gives to a cell, with the seeds: "replayed (10 of 10)"."""
    of_cell = [proof for proof in known if proof.cell == cell.folder]
    if not of_cell:
        return RECORDED
    best = max(of_cell, key=lambda proof: GRADES.index(proof.grade.partition(" ")[0]))
    return f"{best.grade}, {len(parse_seeds(best.seeds))} of {cell.seeds}"


def kept_seeds(cell: ShelfCell, with_policy: Sequence[int]) -> list[int]:
    """Return the seeds whose policy is kept: all, or one that the cell's digest chooses.

    It is seed `digest` modulo n or, if that diverged, the next one with a policy.
    """
    if cell.policies > 1 or not with_policy:
        return list(with_policy)
    first = int(cell.digest, 16) % cell.seeds
    return [min(with_policy, key=lambda seed: (seed - first) % cell.seeds)]


def _finished(folder: Path) -> list[int]:
    store = Store(folder)
    return [seed for seed in store.seeds() if store.has(seed, layout.RESULT)]


def _entry(cell: ShelfCell, folder: Path, final: bool) -> _Entry:
    """Return what a cell's files become: compact and, on the shelf itself, with the chosen policies only."""
    store = Store(folder)
    runs = {seed: seal.whole(store, seed, compacted=True) for seed in _finished(folder)}
    if final:
        kept = kept_seeds(cell, [seed for seed, contents in runs.items() if layout.POLICY in contents])
        for seed, contents in runs.items():
            for name in [name for name in contents if layout.KEPT_POLICY.fullmatch(name)]:
                del contents[name]
            if seed not in kept:
                contents.pop(layout.POLICY, None)
    return _Entry(cell, folder, runs)


def _check(folder: Path, shelf: Shelf) -> None:
    """Raise InputError with the first rule that the finished runs of a cell break, or for another commit."""
    finished = set(_finished(folder))
    for outcome in check(folder).outcomes:
        for finding in outcome.findings:
            seed = layout.seed_of(Path(finding.where))
            if not finding.note and (seed is None or seed in finished):
                raise InputError(f"{finding.where}: {finding.what} (rule {outcome.rule} of `ascent check`)")
    store = Store(folder)
    for seed in sorted(finished):
        commit = store.json(seed, layout.RUN).get("commit")
        if commit not in shelf.commits:
            name = f"{'/'.join(folder.parts[-3:])}/{layout.seed_folder(seed)}"
            raise InputError(f"{name} was trained at commit {commit}, not at {shelf.commit} as the shelf")


def _prove(cell: ShelfCell, folder: Path, depth: str, allowed: Allowed) -> Proof:
    """Verify a cell. Raises InputError if a run differs, or none can be verified."""
    outcomes = [outcome for outcome in verify(folder, depth, allowed=allowed) if _of_runs(outcome)]
    for outcome in outcomes:
        if outcome.verdict == DIFFERS or (outcome.verdict == CANNOT and "diverged" not in outcome.reason):
            raise InputError(f"{outcome.where} {outcome.verdict}: {outcome.reason.splitlines()[0]}")
    graded = [outcome for outcome in outcomes if outcome.verdict in GRADES]
    seeds = sorted({seed for outcome in graded for seed in _seeds(outcome, cell)})
    if not graded:
        raise InputError(f"{cell.folder}: no run can be verified at depth {depth}")
    weakest = min(graded, key=lambda outcome: GRADES.index(outcome.verdict))
    return Proof(
        cell.folder,
        grade(weakest.verdict, weakest.unknown),
        seed_ranges(seeds),
        _platform(),
        str(provenance.commit()["commit"]),
        datetime.now(UTC).date().isoformat(),
    )


def _of_runs(outcome: Outcome) -> bool:
    return not outcome.where.endswith(f"/{layout.ROBUSTNESS}")


def _seeds(outcome: Outcome, cell: ShelfCell) -> list[int]:
    """Return the seeds of an outcome, which is about one run or about the cell."""
    seed = layout.seed_of(Path(outcome.where))
    return list(range(cell.seeds)) if seed is None else [seed]


def _platform() -> str:
    from ascent.runners.platform import platform_key

    return platform_key()


def _write(entry: _Entry, runs: Path, target: Path) -> None:
    """Write the files of a cell below `target`, its seal last."""
    home = target / entry.cell.folder
    _copy(entry.folder / layout.CELL, home / layout.CELL)
    for name in perturbed.files(entry.folder):
        _copy(entry.folder / layout.ROBUSTNESS / name, home / layout.ROBUSTNESS / name)
    for digest in _source_digests(entry.folder):
        path = sources(entry.folder, digest)
        _copy(path, target / SOURCES / path.name)
    for path in ledger.files_of([entry.cell.folder], runs):
        _copy(path, target / layout.LEDGER / path.name)
    name, data = entry.archive
    files.write(home / name, data)


def _source_digests(folder: Path) -> list[str]:
    store = Store(folder)
    return sorted({str(store.json(seed, layout.RUN).get("source_digest")) for seed in _finished(folder)})


def _copy(source: Path, target: Path) -> None:
    """Copy a file, all or nothing. Raises InputError if there is another one under the name."""
    data = source.read_bytes()
    target.parent.mkdir(parents=True, exist_ok=True)
    if not target.exists():
        files.write(target, data)
    elif target.read_bytes() != data:
        raise InputError(f"{target} is there with other content than {source}")


def _append(shelf: Shelf, new: Sequence[Proof]) -> None:
    """Add rows to proofs.csv, sorted; a cell's earlier proof of the same grade and platform gives way."""
    if not new:
        return
    key = {(proof.cell, proof.grade, proof.platform) for proof in new}
    rows = [old for old in proofs(shelf) if (old.cell, old.grade, old.platform) not in key]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field.name for field in fields(Proof)])
    writer.writerows(sorted(astuple(proof) for proof in [*rows, *new]))
    files.write(shelf.folder / PROOFS, buffer.getvalue().encode())

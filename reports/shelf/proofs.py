"""Proofs of the cells on a shelf: what `ascent verify` found of them, where and when.

`ascent results add` proves a cell when it is put there, `ascent results prove` again at a greater depth.
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path

from ascent.records import files, layout, provenance, sums
from ascent.records.errors import DamagedFile, InputError
from ascent.records.expected import Expected
from ascent.records.plan import parse_seeds, seed_ranges
from ascent.records.read import DIVERGED, load
from ascent.records.shelf import PROOFS, Shelf, ShelfCell
from ascent.records.store import Store, seals
from ascent.reports.checking.grades import GRADES, RECORDED, REPLAYED, RESTARTED, RETRAINED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.setting import Allowed
from ascent.reports.checking.verify import verify

DEPTHS = {"policy": REPLAYED, "start": RESTARTED, "whole": RETRAINED}  # and the grades that they give


@dataclass(frozen=True)
class Proof:
    """A row of proofs.csv: the grade that `ascent verify` gave to runs of a cell, where and when."""

    cell: str  # suite/task/cell
    seal: str  # the file that the shelf has of it
    grade: str
    seeds: str
    platform: str
    commit: str  # of the code that verified
    date: str


def proofs(shelf: Shelf) -> list[Proof]:
    """Return the rows of a shelf's proofs.csv. Raises DamagedFile."""
    path = shelf.folder / PROOFS
    if not path.exists():
        return []
    try:
        head, *rows = csv.reader(io.StringIO(path.read_text()))
        if head != [field.name for field in fields(Proof)]:
            raise ValueError("it has other columns")
        found = [Proof(*row) for row in rows]
        for proof in found:
            parse_seeds(proof.seeds)
            GRADES.index(_level(proof))
        return found
    except (ValueError, TypeError, InputError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def grade_of(shelf: Shelf, cell: ShelfCell, known: Sequence[Proof]) -> str:
    """Return the strongest grade that a proof gives to a cell, with the seeds: "replayed, 10 of 10".

    Of proofs with the same grade, the one of most seeds counts; those of another seal than the one on the
    shelf do not.
    """
    of_cell = _of_cell(shelf, cell, known)
    if not of_cell:
        return RECORDED
    best = max(of_cell, key=lambda proof: (GRADES.index(_level(proof)), len(parse_seeds(proof.seeds))))
    return f"{best.grade}, {len(parse_seeds(best.seeds))} of {cell.seeds}"


def counted(grades: Iterable[str]) -> str:
    """Return how many cells have which grade, the strongest first: "11 cells are retrained, 44 restarted"."""
    levels = Counter(grade.partition(",")[0] for grade in grades)
    words = sorted(levels, key=lambda words: GRADES.index(words.partition(" (")[0]), reverse=True)
    counts = [f"{levels[name]} {name}" for name in words]
    return ", ".join(counts).replace(" ", " cells are ", 1) if counts else "There are no cells yet"


def _of_cell(shelf: Shelf, cell: ShelfCell, known: Sequence[Proof]) -> list[Proof]:
    """Return the proofs of a cell as the shelf has it."""
    names = {path.name for path in seals(shelf.folder / cell.folder)}
    return [proof for proof in known if proof.cell == cell.folder and proof.seal in names]


def _level(proof: Proof) -> str:
    return proof.grade.partition(" (")[0]


def prove(folder: Path, cell: ShelfCell, seal: str, depth: str, allowed: Allowed) -> Proof:
    """Verify a cell, and return what that proves: the weakest grade of the runs that could be tried.

    At the depth `policy` these are the runs whose policies are in the records.

    Raises:
        InputError: a run differs, or cannot be verified and did not diverge.
    """
    store = Store(folder)
    outcomes = [outcome for outcome in verify(folder, depth, allowed=allowed) if _of_runs(outcome)]
    graded = {}
    for outcome in outcomes:
        seed = layout.seed_of(Path(outcome.where))
        for one in range(cell.seeds) if seed is None else [seed]:
            diverged = store.json(one, layout.RESULT).get("status") == DIVERGED
            if outcome.verdict == DIFFERS or (outcome.verdict == CANNOT and not diverged):
                raise InputError(f"{outcome.where} {outcome.verdict}: {outcome.reason.splitlines()[0]}")
            if outcome.verdict in DEPTHS.values():
                graded[one] = outcome
    words, seeds = RECORDED, list(range(cell.seeds))  # all diverged: there is nothing to play
    if graded:
        weakest = min(graded.values(), key=lambda outcome: GRADES.index(outcome.verdict))
        words, seeds = weakest.words, sorted(graded)
    return Proof(
        cell.folder,
        seal,
        words,
        seed_ranges(seeds),
        _platform(),
        str(provenance.commit()["commit"]),
        datetime.now(UTC).date().isoformat(),
    )


def _of_runs(outcome: Outcome) -> bool:
    return not outcome.where.endswith(f"/{layout.ROBUSTNESS}")


def _platform() -> str:
    from ascent.runners.platform import platform_key

    return platform_key()


def again(
    shelf: Shelf, cells: Sequence[ShelfCell], depth: str, allowed: Allowed
) -> Iterator[tuple[Proof, bool]]:
    """Verify cells on a shelf, and write each proof into its proofs.csv at once.

    Nothing is trained again for a cell that has a proof of this depth from this platform. Policies are played
    each time; the shelf keeps fewer of them than there were when the cell was added, so that the older proof
    stays.

    Yields:
        The proof of each cell, and whether it was made now.

    Raises:
        InputError: as `prove`. Proofs of earlier cells are kept.
    """
    for cell in cells:
        folder = shelf.folder / cell.folder
        (path,) = seals(folder)
        older = [
            proof
            for proof in _of_cell(shelf, cell, proofs(shelf))
            if (_level(proof), proof.platform) == (DEPTHS[depth], _platform())
        ]
        if older and depth != "policy":
            yield older[0], False
            continue
        proof = prove(folder, cell, path.name, depth, allowed)
        if not older:
            append(shelf, [proof])
        yield proof, True


def cheapest(shelf: Shelf) -> list[ShelfCell]:
    """Return for each system the cell on the shelf whose training took the least processor time."""
    present = shelf.present
    records = load(shelf.folder, [Expected.on_shelf(cell, shelf.name) for cell in present])
    cost = {record.name.folder: sum(run.cpu_seconds for run in record.runs) for record in records}
    chosen: dict[str, ShelfCell] = {}
    for cell in sorted(present, key=lambda cell: cost[cell.folder]):
        chosen.setdefault(cell.system, cell)
    return list(chosen.values())


def append(shelf: Shelf, new: Sequence[Proof]) -> None:
    """Add rows to proofs.csv, sorted; a cell's earlier proof of the same grade and platform gives way.

    Its checksum in SHA256SUMS follows at once: the shelf passes `ascent check` whenever this is stopped.
    """
    if not new:
        return
    key = {(proof.cell, proof.seal, proof.grade, proof.platform) for proof in new}
    rows = [p for p in proofs(shelf) if (p.cell, p.seal, p.grade, p.platform) not in key]
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow([field.name for field in fields(Proof)])
    writer.writerows(sorted(astuple(proof) for proof in [*rows, *new]))
    files.write(shelf.folder / PROOFS, buffer.getvalue().encode())
    listed = shelf.folder / sums.SUMS
    if listed.exists():
        known = sums.parse(files.read(listed)) | {PROOFS: sums.of_file(shelf.folder / PROOFS)}
        files.write(listed, sums.text(known).encode())

"""Records of other sweeps in a folder that several sweeps share: `check --sweep` leaves them alone."""

from collections.abc import Collection, Sequence
from pathlib import Path

from ascent.records import layout, ledger
from ascent.records.errors import DamagedFile
from ascent.records.plan import Planned, seed_ranges
from ascent.records.store import Store
from ascent.reports.checking import folder
from ascent.reports.checking.protocol import Finding

MOST_NAMED = 3  # cells of other sweeps that a note names


def set_aside(
    paths: Sequence[Path], declared: Sequence[Planned]
) -> tuple[dict[str, Collection[int]], list[Finding]]:
    """Return the cells and seeds that a sweep is checked with, by suite/task/cell, and notes of the others.

    What only other plans of the ledger declare is set aside. What no plan declares stays: it is a fault.

    Args:
        paths: folders of cells or runs.
        declared: the cells and seeds of the sweep.
    """
    planned = {plan.cell.folder(Path()).as_posix(): {*plan.seeds} for plan in declared}
    elsewhere = {runs: ledger.seeds_by_cell(runs) for runs in {folder.runs_of(path) for path in paths}}
    kept: dict[str, Collection[int]] = {}
    others: list[str] = []
    notes: list[Finding] = []
    for path in paths:
        name = folder.cell_name(path)
        own, of_others = planned.get(name, set()), elsewhere[folder.runs_of(path)].get(name, set())
        present = _seeds(path)
        foreign = present & (of_others - own)
        if of_others and not own and foreign == present:
            others.append(name)
            continue
        kept[name] = present - foreign
        if foreign:
            which = f"seed{'s' if len(foreign) > 1 else ''} {seed_ranges(sorted(foreign))}"
            what = f"of another sweep, not checked: {which}"
            notes.append(Finding(name, what, note=True))
    if others:
        more = f" and {len(others) - MOST_NAMED:,} more" if len(others) > MOST_NAMED else ""
        named = ", ".join(others[:MOST_NAMED]) + more
        which = "1 cell" if len(others) == 1 else f"{len(others):,} cells"
        notes.append(Finding("of other sweeps, not checked", f"{which}: {named}", note=True))
    return kept, notes


def _seeds(path: Path) -> set[int]:
    """Return the seeds of a cell's folder, or of a run's."""
    seed = layout.seed_of(path)
    try:
        return {seed} if seed is not None else {*Store(path).seeds()}
    except DamagedFile:
        return set()

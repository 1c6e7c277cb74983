"""`ascent power`: how many seeds the comparisons of a report need, from pilot runs."""

from collections.abc import Iterator, Sequence
from math import isfinite
from pathlib import Path

from rich.console import RenderableType
from rich.table import Table

from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.records.read import load
from ascent.reports.page.formats import decimals, number
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.intervals import ALPHA
from ascent.reports.statistics.power import SIZES, Planned, plan


def planned_power(
    runs: Path,
    expected: Sequence[Expected] | None,
    declared: Declared | None,
    seeds: int,
    power: float,
    difference: float | None,
) -> tuple[int, list[Planned]]:
    """Return the size of the family and the power of its pairs, from the pilot runs below `runs`.

    Args:
        runs: folder of run records.
        expected: cells and seeds of the pilot; default: all.
        declared: estimator and baseline; default: the default ones.
        seeds: at which the power is given.
        power: for which the number of seeds is given.
        difference: as for `plan`.

    Raises:
        InputError: an argument is out of range, or there is nothing to compare.
        ValueError: as `records.read.load`.
    """
    if not 2 <= seeds <= SIZES[-1]:
        raise InputError(f"seeds must be from 2 to {SIZES[-1]}, not {seeds}")
    if not 0 < power < 1:
        raise InputError(f"power must be between 0 and 1, not {power}")
    if difference is not None and not (isfinite(difference) and difference > 0):
        raise InputError(f"difference must be positive and finite, not {difference}")
    declared = declared or Declared()
    family, found = plan(aggregate(load(runs, expected), declared), declared, seeds, power, difference)
    if not found:
        raise InputError(
            f"{runs}: nothing to compare: no task has two cells with the same budget and protocol"
        )
    return family, found


def render(family: int, found: Sequence[Planned], seeds: int, power: float) -> Iterator[RenderableType]:
    """Yield a table with a row per pair, and what it rests on."""
    table = Table(box=None, pad_edge=False)
    for head in ("task", "x", "y", "pilot", "x - y", f"power at {seeds}", f"seeds for {power:.0%}"):
        table.add_column(head, justify="left" if head in ("task", "x", "y", "pilot") else "right")
    for row in found:
        names = (row.task.name, row.x.label, row.y.label, f"{row.x.counts}; {row.y.counts}")
        if row.reason:
            table.add_row(*names, "", "", row.reason)
            continue
        needed = str(row.seeds) if row.seeds else f"more than {SIZES[-1]}"
        table.add_row(*names, number(row.difference, decimals(row.task)), f"{row.power:.0%}", needed)
    yield table
    yield ""
    yield (
        f"By simulation from the pilot runs, at {ALPHA / family:.2g}: {ALPHA:.0%} over a family of {family}. "
        "Few pilot runs say little of a difference: choose --difference before you plan."
    )

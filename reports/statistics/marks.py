"""Marks in a table of scores: the best of a task and its ties, or what differs from a baseline."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ascent.reports.statistics.aggregate import CellSummary
from ascent.reports.statistics.comparisons import Pair, baselines
from ascent.reports.statistics.ranking import leaders
from ascent.reports.statistics.study import Study

BETTER, WORSE, NOT_COMPARED = "+", "-", "\N{DAGGER}"


@dataclass(frozen=True)
class Marked:
    """How the cells of a table of scores are marked, by folder.

    Attributes:
        bold: the cells with the best mean of a task, and all that are not significantly worse.
        signs: BETTER or WORSE than the baseline, or NOT_COMPARED.
        against: the declared baseline, as it is called in the report; "" where all pairs are compared.
    """

    bold: frozenset[str]
    signs: Mapping[str, str]
    against: str

    @property
    def apart(self) -> bool:
        """Whether a cell is marked as not compared."""
        return NOT_COMPARED in self.signs.values()


def mark(study: Study, shown_labels: Collection[str]) -> Marked:
    """Decide by the declared comparisons of the report which cells are bold, and which are not compared.

    Without a baseline, bold is the cell of a task with the best mean, and every cell that is not
    significantly worse than it. With a declared baseline, most pairs are never tested; then cells that are
    significantly better or worse than the baseline are marked by a sign instead. `shown_labels` are the
    systems in the table.
    """
    bold: set[str] = set()
    signs: dict[str, str] = {}
    against = baselines(study.tasks, study.declared)
    for task in study.tasks:
        shown = {cell.label: cell for cell in task.cells if cell.label in shown_labels and cell.score}
        pairs = [pair for pair in study.comparisons.pairs if pair.task is task]
        if study.declared.baseline:
            for label, cell in shown.items():
                signs[cell.cell.name.folder] = _against(cell, [p for p in pairs if _has(p, label)], against)
            continue
        among = [pair for pair in pairs if pair.x.label in shown and pair.y.label in shown]
        leading = leaders(task, among)
        bold |= {cell.cell.name.folder for cell in leading}
        if not leading:
            continue
        best, *_ = leading
        for label, cell in shown.items():
            if cell is not best and not any(_has(pair, label) and _has(pair, best.label) for pair in among):
                signs[cell.cell.name.folder] = NOT_COMPARED
    return Marked(frozenset(bold), signs, study.declared.baseline)


def _against(cell: CellSummary, pairs: Sequence[Pair], baselines: Collection[str]) -> str:
    """Return the sign of a cell against the baseline; "" if no difference was shown."""
    if cell.label in baselines:
        return ""
    pairs = [pair for pair in pairs if pair.x.label in baselines or pair.y.label in baselines]
    if not pairs:
        return NOT_COMPARED
    (pair, *_) = pairs
    if not pair.differs:
        return ""
    higher = (pair.welch.difference > 0) == (pair.x is cell)
    return BETTER if higher == (pair.task.measured.sign > 0) else WORSE


def _has(pair: Pair, label: str) -> bool:
    return label in (pair.x.label, pair.y.label)

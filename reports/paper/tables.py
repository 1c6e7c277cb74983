"""Tables for a paper: scores of systems on tasks, and what they cost."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ascent.reports.page.formats import decimals, number
from ascent.reports.page.tables import Compute, cost
from ascent.reports.paper.layout import Entry, Grid, tabulars
from ascent.reports.paper.venues import Page
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import Pair, baselines
from ascent.reports.statistics.ranking import leaders
from ascent.reports.statistics.study import Study

NOT_COMPARED = r"\dagger"
MISSING = "--"


@dataclass(frozen=True)
class Marked:
    """How the cells of the main table are marked, by folder, and whether some of them could not be compared.

    `against` is the declared baseline, as it is called in the report; "" where all pairs are compared.
    """

    bold: frozenset[str]
    marks: Mapping[str, str]
    against: str

    @property
    def apart(self) -> bool:
        """Whether a cell is marked as not compared."""
        return NOT_COMPARED in self.marks.values()


def main_table(
    study: Study, names: Mapping[str, str], tasks: Mapping[tuple[str, str], str], page: Page
) -> str:
    """Return the table of mean scores in LaTeX: tasks by systems."""
    marked = mark(study, names)
    entries = [[_score(task, _cell(task, label), marked) for label in names] for task in study.tasks]
    rows = [_task(task, tasks[task.suite, task.name]) for task in study.tasks]
    grid = Grid("task", rows, list(names.values()), entries)
    return tabulars([grid, grid.turned("system")], page)


def compute_table(study: Study, names: Mapping[str, str], page: Page) -> str:
    """Return the table of compute in LaTeX: a row per system, over all of its runs, those that failed too."""
    costs = {
        label: [cost(cell) for task in study.tasks if (cell := _cell(task, label)) and not cell.cell.imported]
        for label in names
    }
    rows = [_cost(found) for found in costs.values()]
    total = [_cost([cell for found in costs.values() for cell in found])] if len(rows) > 1 else []
    heads = ["runs", "Msteps", "core hours", "steps/s"]
    shown = [*names.values(), *(["all"] if total else [])]
    return tabulars([Grid("system", shown, heads, rows + total)], page)


def mark(study: Study, names: Mapping[str, str]) -> Marked:
    """Decide by the declared comparisons of the report which cells are bold, and which are not compared.

    Without a baseline, bold is the cell of a task with the best mean, and every cell that is not
    significantly worse than it. With a declared baseline, most pairs are never tested; then cells that are
    significantly better or worse than the baseline are marked by a sign instead.
    """
    bold: set[str] = set()
    marks: dict[str, str] = {}
    against = baselines(study.tasks, study.declared)
    for task in study.tasks:
        shown = {cell.label: cell for cell in task.cells if cell.label in names and cell.score}
        pairs = [pair for pair in study.comparisons.pairs if pair.task is task]
        if study.declared.baseline:
            for label, cell in shown.items():
                marks[cell.cell.name.folder] = _against(cell, [p for p in pairs if _has(p, label)], against)
            continue
        among = [pair for pair in pairs if pair.x.label in shown and pair.y.label in shown]
        leading = leaders(task, among)
        bold |= {cell.cell.name.folder for cell in leading}
        if not leading:
            continue
        best, *_ = leading
        for label, cell in shown.items():
            if cell is not best and not any(_has(pair, label) and _has(pair, best.label) for pair in among):
                marks[cell.cell.name.folder] = NOT_COMPARED
    return Marked(frozenset(bold), marks, study.declared.baseline)


def _against(cell: CellSummary, pairs: Sequence[Pair], baselines: Collection[str]) -> str:
    """Return the sign of a cell against the baseline: + better, - worse, nothing if neither is shown."""
    if cell.label in baselines:
        return ""
    pairs = [pair for pair in pairs if pair.x.label in baselines or pair.y.label in baselines]
    if not pairs:
        return NOT_COMPARED
    (pair, *_) = pairs
    if not pair.differs:
        return ""
    higher = (pair.welch.difference > 0) == (pair.x is cell)
    return "+" if higher == (pair.task.measured.sign > 0) else "-"


def _has(pair: Pair, label: str) -> bool:
    return label in (pair.x.label, pair.y.label)


def _cell(task: Task, label: str) -> CellSummary | None:
    return next((cell for cell in task.cells if cell.label == label), None)


def _task(task: Task, name: str) -> str:
    if task.measured.is_return:
        return name
    return f"{name}: {task.measured.name}{', lower is better' if task.measured.lower else ''}"


def _score(task: Task, cell: CellSummary | None, marked: Marked) -> Entry:
    if cell is None or cell.score is None:
        return Entry(MISSING)
    score, places, folder = cell.score, decimals(task), cell.cell.name.folder
    half = "" if score.low is None else number(score.mean - score.low, places)
    return Entry(number(score.mean, places), half, folder in marked.bold, marked.marks.get(folder, ""))


def _cost(cells: Sequence[Compute]) -> list[Entry]:
    steps, hours = sum(cell.steps for cell in cells), sum(cell.core_hours for cell in cells)
    seconds = [cell.steps / cell.steps_per_second for cell in cells if cell.steps_per_second]
    speed = f"{steps / sum(seconds):,.0f}" if seconds else MISSING
    runs = sum(cell.runs for cell in cells)
    return [
        Entry(f"{runs:,}" if cells else MISSING),
        Entry(f"{steps / 1e6:,.1f}" if cells else MISSING),
        Entry(f"{hours:,.1f}" if cells else MISSING),
        Entry(speed),
    ]

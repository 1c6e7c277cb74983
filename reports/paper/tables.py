"""Tables for a paper: scores of systems on tasks, and what they cost."""

from collections.abc import Mapping, Sequence

from ascent.reports.page.formats import decimals, number
from ascent.reports.page.tables import Compute, cost
from ascent.reports.paper.layout import Entry, Grid, tabulars
from ascent.reports.paper.venues import Page
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.marks import NOT_COMPARED, Marked, mark
from ascent.reports.statistics.study import Study

SIGNS = {NOT_COMPARED: r"\dagger"}  # in LaTeX
MISSING = "--"


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
    sign = marked.signs.get(folder, "")
    return Entry(number(score.mean, places), half, folder in marked.bold, SIGNS.get(sign, sign))


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

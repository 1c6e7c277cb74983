"""The main table of a report, tasks by systems, and its findings: as data, for readers of few tables."""

import pandas as pd

from ascent.reports.page.formats import decimals
from ascent.reports.page.render import MINUS, html_number
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.marks import WORSE, mark
from ascent.reports.statistics.study import Study

BOLD = "*"  # for the best of a task and its ties, which are bold in a paper


def main_table(study: Study) -> pd.DataFrame:
    """Return one row per task and one column per system: "mean ± half width of its limits", and its mark.

    Marks are those of `ascent figures`: "*" the best mean of a task and all that are not significantly worse;
    with a baseline, a plus or minus sign: significantly better or worse than it; a dagger: not compared. A
    cell without a score is empty.
    """
    labels = sorted({cell.label for task in study.tasks for cell in task.cells})
    marked = mark(study, labels)

    def text(task: Task, cell: CellSummary) -> str:
        if cell.score is None:
            return ""
        score, places, folder = cell.score, decimals(task), cell.cell.name.folder
        limits = "" if score.low is None else f" ± {html_number(score.mean - score.low, places)}"
        sign = BOLD if folder in marked.bold else marked.signs.get(folder, "").replace(WORSE, MINUS)
        return f"{html_number(score.mean, places)}{limits} {sign}".rstrip()

    rows = [
        {"suite": task.suite, "task": task.name, "score": task.measured.name}
        | dict.fromkeys(labels, "")
        | {cell.label: text(task, cell) for cell in task.cells}
        for task in study.tasks
    ]
    return pd.DataFrame(rows)


def findings(study: Study) -> pd.DataFrame:
    """Return one row per sentence, in the order of the page: its kind (result or caution), and its text."""
    rows = [(finding.kind, finding.text) for finding in study.findings]
    return pd.DataFrame(rows, columns=["kind", "finding"])

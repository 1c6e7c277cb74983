"""The tables of the scores of cells. Cells without a score have empty numbers."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ascent.records.declared import Declared
from ascent.reports.page.formats import (
    decimals,
    interval,
    limits,
    mean_text,
    median_limits,
    number,
    student_limits,
)
from ascent.reports.page.table import Column, Table, make_table
from ascent.reports.statistics.aggregate import CellSummary, Score, Task
from ascent.reports.statistics.intervals import FEW_SEEDS, Crossing


@dataclass(frozen=True)
class CellRow:
    """A row of a table with one row per cell."""

    task: Task
    summary: CellSummary


def scores(tasks: Sequence[Task], declared: Declared) -> Table:
    """Return the table of scores: one row per cell, in units of the score."""
    columns = [
        *_CELL,
        *_measured(tasks),
        Column(lambda row: declared.estimator, "estimator"),
        Column(lambda row: row.summary.cell.complete, "complete"),
        Column(lambda row: row.summary.cell.finished, "finished"),
        Column(lambda row: len(row.summary.cell.runs), "expected"),
        Column(lambda row: len(row.summary.cell.started), "started"),
        Column(lambda row: row.summary.cell.chosen, "seeds_chosen"),
        Column(lambda row: row.summary.cell.tuned.get("core_hours"), "tuned_core_hours", optional=True),
        _score_column(lambda score: score.n, "n"),
        *_FAILURES,
        Column(
            _of_score(lambda score: score.mean), "mean", "mean", numeric=True,
            text=lambda row: (
                number(row.summary.score.mean, decimals(row.task))
                if row.summary.score
                else row.summary.counts
            ),
        ),
        _score_column(
            lambda score: score.low, "low", "Student-t limits", student_limits,
        ),
        _score_column(lambda score: score.high, "high"),
        _score_column(lambda score: score.no_limits, "no_limits"),
        _score_column(
            lambda score: score.std, "std", "std",
            lambda score, places: "" if score.std is None else number(score.std, places),
        ),
        _score_column(lambda score: score.iqm, "iqm", "IQM", lambda score, places: number(score.iqm, places)),
        _score_column(
            lambda score: score.median, "median", "median",
            lambda score, places: number(score.median, places),
        ),
        _score_column(
            lambda score: score.median_interval.low if score.median_interval else None,
            "median_low", "interval of the median", median_limits,
        ),
        _score_column(
            lambda score: score.median_interval.high if score.median_interval else None, "median_high"
        ),
        _score_column(
            lambda score: score.median_interval.level if score.median_interval else None, "median_level"
        ),
        Column(_of_score(lambda score: score.n), head="n", text=_seeds, numeric=True),
        _score_column(
            lambda score: score.failures, head="failures", text=lambda score, places: str(score.failures)
        ),
        _score_column(
            lambda score: score.worst[0], "min", "min (seed)",
            lambda score, places: f"{number(score.worst[0], places)} ({score.worst[1]})",
        ),
        _score_column(lambda score: score.worst[1], "min_seed"),
        _score_column(
            lambda score: score.best[0], "max", "max (seed)",
            lambda score, places: f"{number(score.best[0], places)} ({score.best[1]})",
        ),
        _score_column(lambda score: score.best[1], "max_seed"),
        *_AREA,
        *_TOLERANCE,
        *_THRESHOLD,
        Column(lambda row: dict(row.task.anchors).get("random"), "random_score"),
        Column(lambda row: dict(row.task.anchors).get("reference"), "reference_score"),
    ]  # fmt: skip
    rows = [CellRow(task, summary) for task in tasks for summary in task.cells]
    return make_table("scores", "Scores", rows, columns)


def spread(tasks: Sequence[Task]) -> Table:
    """Return the table of tolerance interval, failure rate, steps to threshold and area of complete cells."""
    columns = [
        *_CELL,
        *_measured(tasks),
        _score_column(lambda score: score.n, "n"),
        *_FAILURES,
        *_AREA,
        *_TOLERANCE,
        *_THRESHOLD,
        *_DISPERSION,
        _score_column(
            lambda score: score.tolerance.low if score.tolerance else None,
            head="tolerance interval", text=_tolerance_text,
        ),
        _score_column(
            lambda score: score.failures, head="failure rate",
            text=lambda score, places: (
                f"{score.failures / score.n:.0%} [{score.failure_low:.0%}, {score.failure_high:.0%}]"
            ),
        ),
        _score_column(
            lambda score: score.crossing.median if score.crossing else None,
            head="steps to threshold", text=lambda score, places: _crossing_text(score.crossing),
        ),
        _score_column(
            lambda score: score.area.value, head="area",
            text=lambda score, places: mean_text(score.area, places),
        ),
        _score_column(
            lambda score: score.dispersion.across_time.value, head="IQR across time",
            text=lambda score, places: mean_text(score.dispersion.across_time, places),
        ),
        _score_column(
            lambda score: score.dispersion.across_runs, head="IQR across runs",
            text=lambda score, places: limits(score.dispersion.across_runs, None, None, places),
        ),
    ]  # fmt: skip
    rows = [CellRow(task, summary) for task in tasks for summary in task.cells if summary.score]
    return make_table("spread", "Spread, failures and speed of learning", rows, columns)


def _measured(tasks: Sequence[Task]) -> list[Column[CellRow]]:
    """Return the column that names the score of each row; it is shown where not all are returns."""
    head = "" if all(task.measured.is_return for task in tasks) else "score"
    return [Column(lambda row: row.task.measured.name, "score", head)]


def _of_score(get: Callable[[Score], Any]) -> Callable[[CellRow], Any]:
    """Return a function of a row that is None where the cell has no score."""
    return lambda row: get(row.summary.score) if row.summary.score else None


def _score_column(
    get: Callable[[Score], Any],
    key: str = "",
    head: str = "",
    text: Callable[[Score, int], str] | None = None,
) -> Column[CellRow]:
    """Return a numeric column that is empty for cells without a score; `text` also takes decimal places."""

    def shown(row: CellRow) -> str:
        return text(row.summary.score, decimals(row.task)) if row.summary.score and text else ""

    return Column(_of_score(get), key, head, shown, numeric=True)


_CELL: list[Column[CellRow]] = [
    Column(lambda row: row.task.suite, "suite"),
    Column(lambda row: row.task.name, "task", "task", lambda row: row.task.title),
    Column(lambda row: row.summary.cell.name.system, "system"),
    Column(lambda row: row.summary.cell.name.name, "name", optional=True),
    Column(lambda row: row.summary.label, head="system"),
    Column(lambda row: row.summary.cell.name.preset, "preset"),
    Column(lambda row: row.summary.cell.name.digest, "digest", "cell"),
]
_FAILURES = [
    _score_column(lambda score: score.failures, "failures"),
    _score_column(lambda score: score.failure_low, "failure_low"),
    _score_column(lambda score: score.failure_high, "failure_high"),
]
_AREA = [
    _score_column(lambda score: score.area.value, "area"),
    _score_column(lambda score: score.area.low, "area_low"),
    _score_column(lambda score: score.area.high, "area_high"),
]
_TOLERANCE = [
    _score_column(lambda score: score.tolerance.content if score.tolerance else None, "tolerance_content"),
    _score_column(lambda score: score.tolerance.low if score.tolerance else None, "tolerance_low"),
    _score_column(lambda score: score.tolerance.high if score.tolerance else None, "tolerance_high"),
]
_THRESHOLD = [
    _score_column(lambda score: score.crossing.reached if score.crossing else None, "threshold_reached"),
    _score_column(lambda score: score.crossing.median if score.crossing else None, "threshold_median"),
    _score_column(lambda score: score.crossing.low if score.crossing else None, "threshold_low"),
    _score_column(lambda score: score.crossing.high if score.crossing else None, "threshold_high"),
]
_DISPERSION = [
    _score_column(lambda score: score.dispersion.across_time.value, "across_time"),
    _score_column(lambda score: score.dispersion.across_time.low, "across_time_low"),
    _score_column(lambda score: score.dispersion.across_time.high, "across_time_high"),
    _score_column(lambda score: score.dispersion.across_runs, "across_runs"),
]


def _seeds(row: CellRow) -> str:
    """Return the number of seeds, and what a reader must know about them: "10", "9 of 10 started (!)"."""
    if row.summary.score is None:
        return ""
    n = row.summary.score.n
    return " ".join([str(n), *filter(None, [row.summary.cell.remarks, "(!)" if n < FEW_SEEDS else ""])])


def _tolerance_text(score: Score, places: int) -> str:
    if score.tolerance is None:
        return f"n={score.n} is too small"
    return f"{score.tolerance.content:.0%} in {interval(score.tolerance.low, score.tolerance.high, places)}"


def _crossing_text(crossing: Crossing | None) -> str:
    if crossing is None:
        return "no reference score"
    reached = f"({crossing.reached}/{crossing.n} runs)"
    if crossing.median is None:
        return f"reached by at most half {reached}"
    ends = ["?" if limit is None else f"{limit:,.0f}" for limit in (crossing.low, crossing.high)]
    return f"{crossing.median:,.0f} [{', '.join(ends)}] {reached}"

"""Render a study and its figures as one stand-alone HTML page (`page.html.jinja`, `page.css`, `tables.js`,
`plots.js`).

This module collects what the template shows. The template escapes all text.
"""

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.declared import RETURN
from ascent.records.plan import seed_ranges
from ascent.records.read import DAMAGED
from ascent.reports.page import crossplay, figures
from ascent.reports.page.formats import decimals, median_limits, number, short_steps, student_limits
from ascent.reports.page.names import anchor, crossplay_name, curves_name, group_name
from ascent.reports.page.plots import plots
from ascent.reports.page.provenance import mixed_platforms, run_provenance, state_counts
from ascent.reports.page.table import Table
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import Improvement, too_many
from ascent.reports.statistics.estimators import ESTIMATORS, describe
from ascent.reports.statistics.intervals import ALPHA, FEW_SEEDS, LEVEL, MEDIAN_LEVEL, Estimate
from ascent.reports.statistics.marks import mark
from ascent.reports.statistics.ranking import standings, task_ranks
from ascent.reports.statistics.stages import false_alarm_rate
from ascent.reports.statistics.study import Study
from ascent.reports.statistics.verdicts import counts

LIBRARY = Path(__file__).parent / "plotly" / "plotly-basic.min.js"  # draws the figures in the browser
MINUS = "\N{MINUS SIGN}"  # as wide as a plus; never breaks a line
_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
OPEN_ROWS = 30  # tables with more rows are collapsed
MOST_FINDINGS = 8  # results among the findings that are not folded


def render(study: Study, shown: Mapping[str, Table], style: figures.Style) -> str:
    """Return the page as HTML.

    `shown`: table name -> table; `style`: label -> (colour, dash), as in the figures.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a misspelt name must fail the build, not leave a gap
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "number": html_number,
        "student_limits": lambda score, places: _MINUS.sub(MINUS, student_limits(score, places)),
        "median_limits": lambda score, places: _MINUS.sub(MINUS, median_limits(score, places)),
        "seed_ranges": seed_ranges,
    }
    cells = [summary for task in study.tasks for summary in task.cells]
    runs = [(summary, run) for summary in cells for run in summary.cell.runs]
    by_measure = [task for task in study.tasks if not task.measured.is_return]
    sources = {run.folder: run_provenance(summary, run) for summary, run in runs}
    drawn = plots(study, style)
    return environment.get_template("page.html.jinja").render(
        study=study,
        cells=cells,
        shown=shown,
        verdict_counts=counts(study.verdicts),
        heads=heads,
        rows=rows,
        open_rows=OPEN_ROWS,
        most_findings=MOST_FINDINGS,
        labels=sorted(style),
        style=style,
        drawn=drawn["plots"],
        plots=json.dumps(drawn, separators=(",", ":")).replace("<", "\\u003c"),
        library=LIBRARY.read_text(encoding="utf-8"),
        standings=standings(study.comparisons),
        bold=mark(study, [cell.label for cell in cells]).bold,
        ranks={anchor(task): task_ranks(task, study.comparisons.pairs) for task in study.tasks},
        improvements=matrix(study.comparisons.improvements),
        short_steps=short_steps,
        anchor=anchor,
        curves_name=lambda task: curves_name(task, study.tasks),
        group_name=group_name,
        crossplay_name=lambda task: crossplay_name(task, study.tasks),
        crossplay=crossplay,
        most_in_matrix=figures.MOST_IN_MATRIX,
        decimals=decimals,
        command=command,
        states=state_counts(run for _, run in runs),
        state_counts=state_counts,
        damaged=[run for _, run in runs if run.state == DAMAGED],
        provenance=sources,
        environments=environments(list(sources.values())),
        mixed={summary.cell.name for summary, run in runs if mixed_platforms(run)},
        by_measure=by_measure,
        tuning=any(run.seed >= FIRST_TUNING_SEED for _, run in runs),
        estimators=list(ESTIMATORS),
        estimator_text=describe(study.declared.estimator, "score" if by_measure else RETURN),
        too_many=too_many(study.tasks),
        false_alarm_rate=false_alarm_rate,
        few=FEW_SEEDS,
        level=f"{LEVEL:.0%}",
        median_level=f"{MEDIAN_LEVEL:.1%}",
        alpha=f"{ALPHA:.0%}",
    )


def matrix(improvements: Sequence[Improvement]) -> dict[str, dict[str, Estimate]]:
    """Return row -> column -> the probability that a run of the row's system scores higher; {} without pairs,
    and where a page cannot show so many systems.
    """
    labels = sorted({label for pair in improvements for label in (pair.x, pair.y)})
    if len(labels) > figures.MOST_IN_MATRIX:
        return {}
    table: dict[str, dict[str, Estimate]] = {label: {} for label in labels}
    for pair in improvements:
        value, low, high = pair.interval
        table[pair.x][pair.y] = pair.interval
        table[pair.y][pair.x] = Estimate(1 - value, 1 - high, 1 - low)
    return table


def heads(table: Table, task: Task | None = None) -> list[str]:
    """Return the headings to show: in the section of a task, without those that its first table has."""
    return [head for head in table.shown if task is None or head not in ("task", "cell")]


def rows(table: Table, task: Task | None = None) -> list[list[tuple[str, str, str]]]:
    """Return the rows of a table, or those of a task: (head, text with true minus signs, sort key)."""
    chosen = list(range(len(table.shown)))
    if task is not None:
        of_task = (table.data["suite"] == task.suite) & (table.data["task"] == task.name)
        chosen = of_task.to_numpy().nonzero()[0].tolist()
    names = heads(table, task)
    texts = table.shown[names].to_numpy().tolist()
    return [
        [
            (head, _MINUS.sub(MINUS, text), _sort_key(table, head, k))
            for head, text in zip(names, texts[k], strict=True)
        ]
        for k in chosen
    ]


def _sort_key(table: Table, head: str, row: int) -> str:
    """Return the number that the page's script sorts by; "" where there is none."""
    value = table.sort_values[head][row] if head in table.sort_values else None
    return "" if pd.isna(value) else f"{value:.9g}"


def command(summary: CellSummary) -> str:
    """Return the command that trains a cell again; "" for imported cells and without a cell.json."""
    name, facts = summary.cell.name, summary.cell.facts
    if not facts or summary.cell.imported:
        return ""
    seeds = seed_ranges(name.seeds)
    protocol = facts["evaluation"]
    measures = sorted({name for run in summary.cell.runs for name in run.about.get("measures") or ()})
    return shlex.join([
        "ascent", "train", name.system, name.task, "--seeds", seeds, "--preset", name.preset,
        "--steps", str(facts["steps"]),
        "--evaluations", str(protocol["points"]), "--episodes", str(protocol["episodes"]),
        *(word for change in summary.cell.changed for word in ("--set", change)),
        *(word for measure in measures for word in ("--measures", measure)),
    ])  # fmt: skip


def environments(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Group the recorded runs by commit, dirty, platform, devices and packages; `runs` counts them."""
    keys = ("commit", "dirty", "platform", "devices", "packages")
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row["attempts"]:
            continue
        values = {key: row[key] for key in keys}
        groups.setdefault(json.dumps(values, sort_keys=True), values | {"runs": 0})["runs"] += 1
    return [groups[key] for key in sorted(groups)]


def html_number(value: float, places: int) -> str:
    """Return a number with a true minus sign."""
    return number(value, places).replace("-", MINUS)

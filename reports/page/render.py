"""Page: summaries and figures as one HTML text that needs nothing else (`page.html.jinja`, `page.css`).

This module gathers what the template shows; how it looks is the template's. The template escapes all text.
"""

import base64
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.declared import Declared
from ascent.records.read import DAMAGED
from ascent.reports.page import tables
from ascent.reports.page.figures import Style
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.compare import Comparisons
from ascent.reports.statistics.estimators import ESTIMATORS, describe
from ascent.reports.statistics.robustness import Robustness
from ascent.reports.statistics.stats import ALPHA, FEW_SEEDS, LEVEL

OPEN_ROWS = 30  # a table with more rows is folded


def render(
    tasks: Sequence[Task],
    comparisons: Comparisons,
    perturbed: Robustness,
    shown: Mapping[str, tables.Table],
    style: Style,
    images: Mapping[str, bytes],
    title: str,
    declared: Declared,
) -> str:
    """The page. `shown`: name -> table; `style`: label -> (colour, dash), as in the figures; `images`: PNG by
    the name of the figure.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,  # a misspelt name must fail the build, not leave a gap
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"number": html_number, "interval": html_interval}
    environment.filters["seed_ranges"] = tables.seed_ranges
    cells = [summary for task in tasks for summary in task.cells]
    runs = [(summary, run) for summary in cells for run in summary.cell.runs]
    provenance = {run.folder: tables.run_provenance(summary, run) for summary, run in runs}
    return environment.get_template("page.html.jinja").render(
        title=title,
        declared=declared,
        tasks=tasks,
        cells=cells,
        comparisons=comparisons,
        perturbed=perturbed,
        shown=shown,
        rows=rows,
        open_rows=OPEN_ROWS,
        labels=sorted(style),
        style=style,
        images={key: base64.b64encode(image).decode() for key, image in images.items()},
        anchor=anchor,
        curves_name=lambda task: curves_name(task, tasks),
        group_name=group_name,
        decimals=tables.decimals,
        command=command,
        states=tables.state_counts(run for _, run in runs),
        state_counts=tables.state_counts,
        damaged=[run for _, run in runs if run.state == DAMAGED],
        provenance=provenance,
        environments=environments(provenance.values()),
        mixed={summary.cell.name for summary, run in runs if tables.mixed_platforms(run)},
        tuning=any(run.seed >= FIRST_TUNING_SEED for _, run in runs),
        estimators=list(ESTIMATORS),
        estimator_text=describe(declared.estimator),
        few=FEW_SEEDS,
        level=f"{LEVEL:.0%}",
        alpha=f"{ALPHA:.0%}",
    )


def anchor(task: Task) -> str:
    """Identifier of a task on the page."""
    return f"{task.suite}/{task.name}"


def curves_name(task: Task, tasks: Sequence[Task]) -> str:
    """Name of a task's figure: the task's, with the suite in front where two suites have such a task."""
    shared = sum(other.name == task.name for other in tasks) > 1
    return f"{task.suite}-{task.name}" if shared else task.name


def group_name(what: str, group: int) -> str:
    """Name of a figure of the numbered group of tasks."""
    return what if group == 0 else f"{what}-{group + 1}"


def rows(table: tables.Table, task: Task | None = None) -> list[list[tuple[str, str, Any]]]:
    """Rows of a table, all or those of a task: (head, text with true minus signs, what to sort by)."""
    chosen = range(len(table.shown))
    if task is not None:
        own = (table.data["suite"] == task.suite) & (table.data["task"] == task.name)
        chosen = own.to_numpy().nonzero()[0]
    keys = {head: table.data[key].tolist() for head, key in table.keys.items()}
    texts = table.shown.to_numpy().tolist()
    return [
        [
            (head, _MINUS.sub("\N{MINUS SIGN}", text), _key(keys[head][k]) if head in keys else "")
            for head, text in zip(table.shown, texts[k], strict=True)
        ]
        for k in chosen
    ]


def _key(value: Any) -> str:
    """What the page's script reads a number from; "" for none."""
    return "" if pd.isna(value) else f"{value:.9g}"


_MINUS = re.compile(r"(?<![\w.])-(?=\d)")


def command(summary: CellSummary) -> str:
    """The command that trains a cell again; "" where no cell.json says with which budget."""
    name, facts = summary.cell.name, summary.cell.facts
    if not facts or summary.cell.imported:
        return ""
    seeds = tables.seed_ranges(name.seeds)
    protocol = facts["evaluation"]
    return shlex.join([
        "ascent", "train", name.system, name.task, "--seeds", seeds, "--preset", name.preset,
        "--steps", str(facts["steps"]),
        "--evaluations", str(protocol["points"]), "--episodes", str(protocol["episodes"]),
        *(word for change in summary.cell.changed for word in ("--set", change)),
    ])  # fmt: skip


def environments(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Runs with a record, grouped by what they ran on: commit, dirty, platform, devices, packages, runs."""
    keys = ("commit", "dirty", "platform", "devices", "packages")
    groups: dict[str, dict[str, Any]] = {}
    for row in rows:
        if not row["attempts"]:
            continue
        values = {key: row[key] for key in keys}
        groups.setdefault(json.dumps(values, sort_keys=True), values | {"runs": 0})["runs"] += 1
    return [groups[key] for key in sorted(groups)]


def html_number(value: float, places: int) -> str:
    """As in the other tables, with a true minus sign, which is as wide as a plus and never breaks a line."""
    return tables.number(value, places).replace("-", "\N{MINUS SIGN}")


def html_interval(low: float | None, high: float | None, places: int) -> str:
    text = tables.interval(low, high, places)
    return text if low is None else text.replace("-", "\N{MINUS SIGN}")

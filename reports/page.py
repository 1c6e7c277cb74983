"""Page: summaries and figures as one HTML text that needs nothing else (`page.html.jinja`, `page.css`).

This module gathers what the template shows; how it looks is the template's. The template escapes all text.
"""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2

from reports import tables
from reports.aggregate import CellSummary, Task
from reports.estimators import ESTIMATORS, PRIMARY, describe
from reports.records import DAMAGED, FIRST_TUNING_SEED
from reports.stats import FEW_SEEDS, LEVEL


def render(
    tasks: Sequence[Task], style: Mapping[str, tuple[str, object]], images: Mapping[str, bytes], title: str
) -> str:
    """The page. `style`: label -> (colour, dash), as in the figures; `images`: `anchor(task)` -> PNG."""
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
        tasks=tasks,
        cells=cells,
        labels=sorted(style),
        style=style,
        images={key: base64.b64encode(image).decode() for key, image in images.items()},
        anchor=anchor,
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
        estimator=PRIMARY,
        estimator_text=describe(PRIMARY),
        few=FEW_SEEDS,
        level=f"{LEVEL:.0%}",
    )


def anchor(task: Task) -> str:
    """Identifier of a task on the page and among the images."""
    return f"{task.suite}/{task.name}"


def command(summary: CellSummary) -> str:
    """The command that trains a cell again; "" where no cell.json says with which budget."""
    name, facts = summary.cell.name, summary.cell.facts
    if not facts:
        return ""
    seeds = tables.seed_ranges(name.seeds)
    protocol = facts["evaluation"]
    return shlex.join([
        "ascent", "train", name.system, name.task, "--seeds", seeds, "--preset", name.preset,
        "--steps", str(facts["steps"]),
        "--evaluations", str(protocol["points"]), "--episodes", str(protocol["episodes"]),
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

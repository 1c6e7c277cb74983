"""Build: runs the stages and puts the finished report into place."""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from ascent.records.declared import Declared
from ascent.records.read import Expected, load
from ascent.reports.page import figures, information, tables
from ascent.reports.page import render as page
from ascent.reports.page.bibliography import bibliography
from ascent.reports.statistics import robustness
from ascent.reports.statistics.aggregate import Task, aggregate, evaluation_means
from ascent.reports.statistics.compare import Comparisons, compare
from ascent.reports.statistics.verdicts import verdicts

FILES = {"index.html", "provenance.json", "data.parquet", "references.bib", "tables", "figures"}
OLDER_FILES = {"scores.csv", "scores.md", "completeness.csv"}  # once lay beside the page


def build(
    runs: Path,
    out: Path,
    expected: Sequence[Expected] | None = None,
    title: str = "Ascent report",
    declared: Declared | None = None,
) -> Path:
    """Write the report on the records below `runs` to the folder `out`, and return its index.html.

    `expected` limits the report to these cells and seeds and lists what is missing of them; without it
    the report takes everything it finds. `declared` is what the sweep says of its report. An older report in
    `out` is replaced; until the new one is whole the old one stays. Raises ValueError if there are no runs,
    if tuning and reporting seeds are mixed, or if `out` holds something that is not a report.
    """
    runs, out, declared = Path(runs), Path(out).resolve(), declared or Declared()
    _check_replaceable(out, runs)
    cells = load(runs, expected)
    tasks = aggregate(cells, declared)
    comparisons, judged = compare(tasks, declared), verdicts(tasks)
    scores = tables.scores(tasks, declared)
    perturbed, spent = robustness.measured(runs, tasks, declared), information.measured(runs, tasks)
    shown = {
        table.name: table
        for table in (
            scores,
            tables.spread(tasks, scores),
            tables.verdicts(judged),
            tables.aggregates(comparisons),
            tables.improvements(comparisons),
            tables.pairs(comparisons),
            tables.compute(tasks),
        )
    }
    if spent:
        shown["information"] = information.table(spent)
    if perturbed.curves:
        parts = (robustness.levels, robustness.areas, robustness.comparisons)
        shown |= {table.name: table for table in (part(perturbed) for part in parts)}
    style = figures.styles(summary.label for task in tasks for summary in task.cells)
    out.parent.mkdir(parents=True, exist_ok=True)
    # A sibling, because a rename is whole only within one file system.
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as work:
        new, old = Path(work) / "new", Path(work) / "old"
        images: dict[str, bytes] = {}
        for name, figure in _figures(tasks, comparisons, perturbed, spent, style):
            images[name] = figures.encode(figure, "png")
            _write(new / "figures" / f"{name}.png", images[name])
            _write(new / "figures" / f"{name}.pdf", figures.encode(figure, "pdf"))
        for name, table in shown.items():
            _write_csv(new / "tables" / f"{name}.csv", table.data)
            _write(new / "tables" / f"{name}.md", tables.markdown(table).encode())
            _write(new / "tables" / f"{name}.tex", tables.latex(table).encode())
        _write_csv(new / "tables" / "completeness.csv", tables.completeness(cells))
        evaluation_means(cells).to_parquet(new / "data.parquet", index=False)
        _write(new / "references.bib", bibliography(tasks, judged).encode())
        _write(new / "provenance.json", tables.provenance(tasks, title, declared, perturbed.files).encode())
        html = page.render(tasks, comparisons, perturbed, shown, style, images, title, declared)
        _write(new / "index.html", html.encode())
        if out.exists():
            out.rename(old)
        try:
            new.rename(out)
        except OSError:
            if old.exists():
                old.rename(out)
            raise
    return out / "index.html"


def rebuild(provenance: dict[str, Any], runs: Path, out: Path) -> Path:
    """The report again that has this provenance.json, from the records below `runs`. Raises as `build` does,
    and KeyError or TypeError for what is no report's provenance.
    """
    asked = provenance["report"]
    expected = [Expected(**{**cell, "seeds": tuple(cell["seeds"])}) for cell in asked["expected"]]
    return build(runs, out, expected, asked["title"], Declared(**asked["settings"]))


def _figures(
    tasks: Sequence[Task],
    comparisons: Comparisons,
    perturbed: robustness.Robustness,
    spent: Sequence[information.Spent],
    style: figures.Style,
) -> Iterator[tuple[str, Figure]]:
    """Every figure with the name of its files."""
    with figures.drawing():
        for task in tasks:
            if figure := figures.learning_curves(task, style):
                yield page.curves_name(task, tasks), figure
        for k, group in enumerate(comparisons.groups):
            yield page.group_name("intervals", k), figures.intervals(group, style)
            yield page.group_name("profiles", k), figures.profiles(group, style)
        if figure := figures.matrix(comparisons.improvements):
            yield "improvement", figure
        for task in tasks:
            name = page.curves_name(task, tasks)
            if own := [one for one in spent if one.task is task]:
                yield f"information-{name}", information.figure(own, style)
            if curves := [curve for curve in perturbed.curves if curve.task is task]:
                yield f"robustness-{name}", robustness.figure(curves, style)


def _check_replaceable(out: Path, runs: Path) -> None:
    """The old folder is deleted in the end, so it must be a report and nothing else."""
    if runs.resolve().is_relative_to(out):
        raise ValueError(f"{out} holds the runs themselves: choose another folder for the report")
    if out.exists() and not (out.is_dir() and {path.name for path in out.iterdir()} <= FILES | OLDER_FILES):
        raise ValueError(f"{out} holds more than an older report: choose another folder")


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_bytes(content)


def _write_csv(path: Path, data: pd.DataFrame) -> None:
    # Fifteen digits: the last ones of a sum depend on the processor.
    _write(path, data.to_csv(index=False, lineterminator="\n", float_format="%.15g").encode())

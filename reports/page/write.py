"""Write a report: its page, figures, tables, bibliography, provenance and data, into an empty folder."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from ascent.records import files, sums
from ascent.reports.page import (
    crossplay,
    figures,
    information,
    overview,
    robustness,
    score_tables,
    sensitivity,
    tables,
)
from ascent.reports.page.bibliography import SENSITIVITY, bibliography
from ascent.reports.page.names import crossplay_name, curves_name, group_name
from ascent.reports.page.provenance import provenance
from ascent.reports.page.render import render
from ascent.reports.page.table import Table, csv, latex, markdown
from ascent.reports.statistics.curves import evaluation_means
from ascent.reports.statistics.study import Study


def write(study: Study, folder: Path) -> None:
    """Write all files of a report into `folder`, which is created."""
    style = figures.styles(summary.label for task in study.tasks for summary in task.cells)
    for name, figure in _figures(study, style):
        for form in ("png", "pdf"):
            _write(folder / "figures" / f"{name}.{form}", figures.encode(figure, form))
    shown = {table.name: table for table in _tables(study)}
    for name, table in shown.items():
        _write_csv(folder / "tables" / f"{name}.csv", table.data)
        _write(folder / "tables" / f"{name}.md", markdown(table).encode())
        _write(folder / "tables" / f"{name}.tex", latex(table).encode())
    _write_csv(folder / "tables" / "main.csv", overview.main_table(study))
    _write_csv(folder / "tables" / "findings.csv", overview.findings(study))
    _write_csv(folder / "tables" / "completeness.csv", tables.completeness(study.cells))
    _write_csv(folder / "tables" / "efficiency.csv", tables.efficiency(study.efficiency))
    _write(folder / "data.parquet", evaluation_means(study.cells).to_parquet(index=False))
    methods = [SENSITIVITY] if study.sensitivities else []
    _write(folder / "references.bib", bibliography(study.tasks, study.verdicts, methods).encode())
    _write(folder / "provenance.json", provenance(study).encode())
    _write(folder / "index.html", render(study, shown, style).encode())
    _write(folder / sums.SUMS, sums.of_folder(folder).encode())


def _tables(study: Study) -> Iterator[Table]:
    yield score_tables.scores(study.tasks, study.declared)
    yield score_tables.spread(study.tasks)
    yield tables.verdicts(study.verdicts)
    yield tables.aggregates(study.comparisons)
    yield tables.improvements(study.comparisons)
    yield tables.pairs(study.comparisons)
    yield tables.compute(study.tasks)
    if study.sensitivities:
        yield sensitivity.table(study.sensitivities)
    if study.information:
        yield information.table(study.information)
    if study.robustness.curves:
        yield robustness.levels(study.robustness)
        yield robustness.areas(study.robustness)
        yield robustness.comparisons(study.robustness)
    if study.crossplay.played:
        yield crossplay.entries(study.crossplay)


def _figures(study: Study, style: figures.Style) -> Iterator[tuple[str, Figure]]:
    """Yield every figure with the name of its files."""
    with figures.drawing():
        for task in study.tasks:
            if figure := figures.learning_curves(task, style):
                yield curves_name(task, study.tasks), figure
        for k, group in enumerate(study.comparisons.groups):
            yield group_name("intervals", k), figures.intervals(group, style)
            yield group_name("profiles", k), figures.profiles(group, style)
        for k, found in enumerate(study.efficiency):
            yield group_name("efficiency", k), figures.efficiency(found, style)
        if figure := figures.matrix(study.comparisons.improvements):
            yield "improvement", figure
        if figure := sensitivity.figure(study.sensitivities):
            yield "sensitivity", figure
        for task in study.tasks:
            name = curves_name(task, study.tasks)
            if costs := [cost for cost in study.information if cost.task is task]:
                yield f"information-{name}", information.figure(costs, style)
            if curves := [curve for curve in study.robustness.curves if curve.task is task]:
                yield f"robustness-{name}", robustness.figure(curves, style)
        for played in study.crossplay.played:
            if crossplay.fits(played.matrices):
                yield crossplay_name(played.task, study.tasks), crossplay.figure(played.matrices)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    files.write(path, content, durable=False)


def _write_csv(path: Path, data: pd.DataFrame) -> None:
    _write(path, csv(data).encode())

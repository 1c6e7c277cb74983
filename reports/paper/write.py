"""The files of a paper: figures, tables and captions of a study."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from matplotlib.figure import Figure

from ascent.records import files
from ascent.records.errors import InputError, unknown
from ascent.reports.page.figures import encode
from ascent.reports.paper import figures
from ascent.reports.paper.captions import WRITTEN, captions
from ascent.reports.paper.choice import choose, task_names
from ascent.reports.paper.tables import compute_table, main_table
from ascent.reports.paper.venues import Page
from ascent.reports.replacing import check_replaceable, replacing
from ascent.reports.statistics.comparisons import Group
from ascent.reports.statistics.marks import mark
from ascent.reports.statistics.study import Study

FORMATS = ("pdf", "png", "svg")
FILE = re.compile(
    r"(curves|aggregate_steps|intervals|profiles)(-\d+)?\.(pdf|png|svg)|(main_table|compute_table|captions)\.tex"
)


@dataclass(frozen=True)
class Paper:
    """What a paper takes from a study: figures by name, and LaTeX by name.

    `notes` say in a line each what could not be drawn.
    """

    figures: dict[str, Figure]
    tables: dict[str, str]
    notes: list[str] = field(default_factory=list)


def make(
    study: Study,
    page: Page,
    systems: Sequence[str] | None = None,
    labels: Mapping[str, str] | None = None,
    seeds: bool = False,
) -> Paper:
    """Return the figures and tables of a study.

    Args:
        study: the statistics of a report.
        page: where they go.
        systems: which systems are shown, in this order (default: all).
        labels: system -> shown name (default: as in the report).
        seeds: draw the curve of every seed, too.

    Raises:
        InputError: an unknown system, or a table that cannot fit.
    """
    names = choose(study.tasks, systems, labels or {})
    tasks = task_names(study.tasks)
    look = figures.Look(page, names, tasks, seeds)
    group = _group(study, names)
    steps = next((found for found in study.efficiency if found.group is group), None)
    drawn: dict[str, Figure] = {}
    with figures.drawing(page):
        for k, figure in enumerate(figures.curves(study.tasks, look)):
            drawn["curves" if k == 0 else f"curves-{k + 1}"] = figure
        if group and steps:
            drawn["aggregate_steps"] = figures.aggregate_steps(steps, look)
            drawn["intervals"] = figures.intervals(group, look)
            drawn["profiles"] = figures.profiles(group, look)
    texts = {
        "main_table": main_table(study, names, tasks, page),
        "compute_table": compute_table(study, names, page),
        "captions": captions(study, names, tasks, mark(study, names), group, steps),
    }
    notes = [] if "curves" in drawn else ["no curves: no chosen system has all of its seeds on any task"]
    if not group:
        notes.append("no aggregates: they need two tasks with reference scores that a system has finished")
    return Paper(drawn, texts, notes)


def write(paper: Paper, page: Page, out: Path, form: str = "pdf") -> list[Path]:
    """Write the files of a paper to the folder `out`, in place of those of an earlier call, and return them.

    Raises:
        InputError: an unknown format, or `out` holds other files.
    """
    check(out, form)
    with figures.drawing(page):
        contents = {f"{name}.{form}": encode(figure, form) for name, figure in paper.figures.items()}
    contents |= {f"{name}.tex": text.encode() for name, text in paper.tables.items()}
    with replacing(out) as new:
        new.mkdir()
        for name, content in contents.items():
            files.write(new / name, content, durable=False)
    return [out / name for name in contents]


def check(out: Path, form: str) -> None:
    """Raise InputError unless the format is known and `out` is absent, empty or from an earlier call."""
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)
    try:
        check_replaceable(out, lambda name: bool(FILE.fullmatch(name)), "figures for a paper")
    except ValueError as error:
        raise InputError(str(error)) from error
    written = out / "captions.tex"  # an author's own figures may have the same names
    if out.is_dir() and any(out.iterdir()) and not (written.is_file() and _ours(written)):
        raise InputError(f"{out} has files that `ascent figures` did not write: choose another folder")


def _ours(captions_file: Path) -> bool:
    return files.read(captions_file).startswith(WRITTEN.encode())


def _group(study: Study, names: Mapping[str, str]) -> Group | None:
    """Return the largest group of tasks that has one of the systems."""
    groups = [group for group in study.comparisons.groups if set(group.systems) & set(names)]
    return groups[0] if groups else None

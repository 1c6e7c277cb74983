"""The tables and the figure of robustness under perturbations."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import rich.table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ascent.reports.page import figures
from ascent.reports.page.formats import decimals, limits, mean_text, number, p_value, student_limits
from ascent.reports.page.table import Column, Row, Table, make_table
from ascent.reports.statistics.intervals import LEVEL, Mean, mean_of, student_t_interval
from ascent.reports.statistics.perturbed import read_scores
from ascent.reports.statistics.robustness import Curve, Pair, Point, Robustness


def terminal(paths: Sequence[Path], title: str) -> rich.table.Table:
    """Return the tables of one cell for a terminal: mean returns with their intervals over seeds."""
    table = rich.table.Table(title=title, title_justify="left", box=None, pad_edge=False)
    limits_head = f"{LEVEL:.0%} interval"  # or why there is none, which may be long
    for head in ("perturbation", "level", "return", limits_head, "n"):
        side: Literal["left", "right"] = "left" if head == "perturbation" else "right"
        table.add_column(head, justify=side, no_wrap=head != limits_head)
    for path in paths:
        kind, level, scores = read_scores(path)
        mean = mean_of(scores)
        table.add_row(kind, f"{level:g}", number(mean.value, 1), student_limits(mean, 1), str(len(scores)))
    return table


def levels(robustness: Robustness) -> Table:
    """Return the table of all levels: one row per cell, kind of perturbation and level."""
    columns: list[Column[tuple[Curve, Point]]] = [
        Column(lambda row: row[0].summary.cell.name.suite, "suite"),
        Column(lambda row: row[0].task.name, "task", "task", lambda row: row[0].task.title),
        Column(lambda row: row[0].summary.label, "system", "system"),
        Column(lambda row: row[0].summary.cell.name.digest, "digest"),
        Column(lambda row: row[0].kind.name, "kind", "perturbation"),
        Column(lambda row: row[1].level, "level", "level", lambda row: f"{row[1].level:g}", numeric=True),
        Column(lambda row: len(row[1].scores), "n"),
        *_interval_columns(
            lambda row: mean_of(row[1].scores), "mean", "return", lambda row: decimals(row[0].task)
        ),
        *_interval_columns(_share_kept, "kept", "retained share", lambda row: 2),
        Column(lambda row: len(row[1].scores), head="n", numeric=True),
    ]
    rows = [(curve, point) for curve in robustness.curves for point in curve.points]
    return make_table("robustness", "All levels", rows, columns)


def areas(robustness: Robustness) -> Table:
    """Return the table of curves: one row per cell and kind of perturbation whose whole grid was played."""

    def places(curve: Curve) -> int:
        return decimals(curve.task)

    def worst_scores(curve: Curve) -> np.ndarray:
        return curve.scores[curve.worst]

    columns: list[Column[Curve]] = [
        Column(lambda curve: curve.summary.cell.name.suite, "suite"),
        Column(lambda curve: curve.task.name, "task", "task", lambda curve: curve.task.title),
        Column(lambda curve: curve.summary.label, "system", "system"),
        Column(lambda curve: curve.summary.cell.name.digest, "digest"),
        Column(lambda curve: curve.kind.name, "kind", "perturbation"),
        Column(lambda curve: len(curve.nominal), "n"),
        Column(lambda curve: len(curve.grid_rows or ()), "levels"),
        *_interval_columns(lambda curve: mean_of(curve.nominal), "nominal", "nominal", places),
        *_interval_columns(lambda curve: mean_of(curve.area), "area", "area", places),
        *_interval_columns(lambda curve: mean_of(worst_scores(curve)), "worst"),
        Column(
            lambda curve: worst_scores(curve).mean(), head="worst", numeric=True,
            text=lambda curve: (
                f"{number(worst_scores(curve).mean(), places(curve))} (at {curve.levels[curve.worst]:g})"
            ),
        ),
        Column(lambda curve: curve.levels[curve.worst], "worst_level"),
        *_interval_columns(
            lambda curve: None if curve.retained is None else mean_of(curve.mean_retained),
            "kept", "retained share", lambda curve: 2,
        ),
        Column(lambda curve: len(curve.nominal), head="n", numeric=True),
    ]  # fmt: skip
    rows = [curve for curve in robustness.curves if curve.grid_rows]
    return make_table("robustness_areas", "Areas and worst levels", rows, columns)


def comparisons(robustness: Robustness) -> Table:
    """Return the table of comparisons: one row per kind of perturbation and pair of systems."""
    columns: list[Column[Pair]] = [
        Column(lambda pair: pair.x.task.suite, "suite"),
        Column(lambda pair: pair.x.task.name, "task", "task", lambda pair: pair.x.task.title),
        Column(lambda pair: pair.x.kind.name, "kind", "perturbation"),
        Column(lambda pair: pair.x.summary.label, "x", "x"),
        Column(lambda pair: pair.x.summary.cell.name.digest, "x_digest"),
        Column(lambda pair: pair.y.summary.label, "y", "y"),
        Column(lambda pair: pair.y.summary.cell.name.digest, "y_digest"),
        Column(
            lambda pair: pair.x_retained, "x_kept", "x retained share",
            lambda pair: number(pair.x_retained, 2), numeric=True,
        ),
        Column(
            lambda pair: pair.y_retained, "y_kept", "y retained share",
            lambda pair: number(pair.y_retained, 2), numeric=True,
        ),
        Column(
            lambda pair: pair.welch.difference, "difference", "x - y",
            lambda pair: number(pair.welch.difference, 2), numeric=True,
        ),
        Column(
            lambda pair: pair.welch.low, "low", "95% interval",
            lambda pair: limits(None, pair.welch.low, pair.welch.high, 2).strip(), numeric=True,
        ),
        Column(lambda pair: pair.welch.high, "high"),
        Column(lambda pair: "yes" if pair.differs else "no", head="significant"),
        Column(lambda pair: pair.welch.t, "t"),
        Column(lambda pair: pair.welch.df, "df"),
        Column(lambda pair: pair.welch.p, "p_welch"),
        Column(lambda pair: pair.p_permutation, "p_permutation"),
        Column(
            lambda pair: pair.p_welch_holm, "p_welch_holm", "p (Welch, Holm)",
            lambda pair: p_value(pair.p_welch_holm), numeric=True,
        ),
        Column(
            lambda pair: pair.p_permutation_holm, "p_permutation_holm", "p (permutation, Holm)",
            lambda pair: p_value(pair.p_permutation_holm), numeric=True,
        ),
        Column(lambda pair: pair.differs, "differs"),
    ]  # fmt: skip
    title = "Comparisons of retained shares"
    return make_table("robustness_comparisons", title, robustness.pairs, columns, keep_header=False)


def _share_kept(row: tuple[Curve, Point]) -> Mean | None:
    """Return the mean retained share at a level. That of the nominal task is 1 by definition, in all runs."""
    curve, point = row
    if point.retained is None:
        return None
    return Mean(1.0, 1.0, 1.0, "") if point.level == curve.kind.neutral else mean_of(point.retained)


def _interval_columns(
    mean: Callable[[Row], Mean | None],
    key: str,
    head: str = "",
    places: Callable[[Row], int] = lambda row: 0,
) -> list[Column[Row]]:
    """Return the columns of a mean over seeds and of the limits of its interval; empty without a mean."""

    def part(name: str) -> Callable[[Row], Any]:
        return lambda row: getattr(mean(row), name, None)

    def text(row: Row) -> str:
        found = mean(row)
        return mean_text(found, places(row)) if found else ""

    prefix = "" if key == "mean" else f"{key}_"
    return [
        Column(part("value"), key, head, text, numeric=True),
        Column(part("low"), f"{prefix}low"),
        Column(part("high"), f"{prefix}high"),
        Column(part("no_limits"), f"{prefix}no_limits", optional=True),
    ]


def figure(curves: Sequence[Curve], style: figures.Style) -> Figure:
    """Draw the cells of one task: a panel per kind of perturbation, a line per system.

    Bands are Student-t intervals. Levels are equally spaced. Call within `figures.drawing()`.
    """
    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    labels = list(dict.fromkeys(curve.summary.label for curve in curves))
    columns = min(len(kinds), 4)
    rows = -(-len(kinds) // columns)
    entries = figures.legend_columns(labels)
    legend, panel, gap = 0.2 + 0.2 * -(-len(labels) // entries), 1.7, 0.75
    result = Figure(figsize=(figures.WIDTH, legend + rows * (panel + gap)))
    box = figures.Boxes(result, left=0.75, right=0.2)
    means = [curve.scores.mean(1) for curve in curves] + [curve.nominal.mean()[None] for curve in curves]
    means += [np.array([score]) for name, score in curves[0].task.anchors if name == "random"]
    low, high = min(map(np.min, means)), max(map(np.max, means))
    margin = 0.05 * (high - low) or 1.0
    for k, kind in enumerate(kinds):
        row, column = divmod(k, columns)
        top = legend + 0.25 + row * (panel + gap)
        axes = result.add_axes(box.place(top, panel, column, columns))
        _draw(axes, [curve for curve in curves if curve.kind == kind], style)
        axes.set_ylim(low - margin, high + margin)
        axes.tick_params(labelleft=column == 0, labelsize=7)
        axes.set_title(kind.title, fontsize=8, loc="left")
        if column == 0:
            axes.set_ylabel("return")
    for label in labels:
        colour, dash = style[label]
        axes.plot([], [], color=colour, linestyle=dash, lw=1.8, label=label)
    result.legend(loc="upper left", bbox_to_anchor=(0.65 / figures.WIDTH, 1.0), ncols=entries, frameon=False)
    return result


def _draw(axes: Axes, curves: Sequence[Curve], style: figures.Style) -> None:
    """Draw the curves of one kind of perturbation."""
    levels = sorted({point.level for curve in curves for point in curve.points}, reverse=curves[0].kind.falls)
    for curve in curves:
        colour, dash = style[curve.summary.label]
        x = [levels.index(point.level) for point in curve.points]
        scores = np.array([point.scores for point in curve.points])
        low, high = student_t_interval(scores.T)
        axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        axes.plot(x, scores.mean(1), color=colour, linestyle=dash, lw=1.6, marker=".", ms=4)
    neutral = curves[0].kind.neutral
    axes.axvline(levels.index(neutral), color=figures.ANCHOR, lw=0.8, linestyle=":", zorder=1)
    names = ["never" if np.isinf(level) else f"{level:g}" for level in levels]
    axes.set_xticks(range(len(levels)), names)

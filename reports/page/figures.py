"""Figures: learning curves, aggregates, performance profiles and probability of improvement, as PNG or PDF.

Drawn without pyplot, so that nothing depends on a backend or on global state. Call within `drawing()`.
"""

import io
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager

import matplotlib.style
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ascent.records.read import DIVERGED
from ascent.reports.page.formats import short_steps
from ascent.reports.page.panels import ANCHOR, Panel, Place, Ranges, steps_locator
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import TAUS, Group, Improvement
from ascent.reports.statistics.efficiency import Efficiency

# seaborn's colour-blind-safe palette, without its grey (used for anchors) and its yellow and pale pink (too
# pale on white). Systems beyond the seventh repeat the colours with another dash.
PALETTE = [sns.color_palette("colorblind").as_hex()[k] for k in (0, 1, 2, 4, 3, 9, 5)]
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]
WIDTH = 10.0  # inches
DPI = 160
MOST_IN_MATRIX = 40  # systems

Style = dict[str, tuple[str, object]]  # label -> (colour, dash)

_STYLE = {
    **sns.axes_style("ticks"),
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 9,
    "text.parse_math": False,  # a dollar sign in a name is a dollar sign
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.formatter.useoffset": False,
    "figure.dpi": DPI,
    "savefig.dpi": DPI,
    "pdf.fonttype": 42,  # TrueType: journals refuse the other kind
    "svg.hashsalt": "ascent",  # of the names inside: else they are drawn by chance
}


def styles(labels: Iterable[str]) -> Style:
    """Return label -> (colour, dash), the same in every figure of a report."""
    return {
        label: (PALETTE[k % len(PALETTE)], DASHES[k // len(PALETTE) % len(DASHES)])
        for k, label in enumerate(sorted(set(labels)))
    }


def learning_curves(task: Task, style: Style) -> Figure | None:
    """Draw means with bands in one panel, and every seed in a panel per system; None without finished runs.

    The bands are pointwise Student-t intervals. The y axis covers the seeds and the anchors; bands may exceed
    it, at two or three seeds by far.
    """
    drawn = [summary for summary in task.cells if not summary.seeds.empty]
    if not drawn:
        return None
    columns = min(max(len(drawn), 3), 5)
    rows = -(-len(drawn) // columns)
    # Sizes in inches, from the top. Automatic layouts draw everything twice.
    entries = legend_columns([f"{summary.label}  {summary.counts}" for summary in drawn])
    legend, main, panel, gap = 0.2 + 0.2 * -(-len(drawn) // entries), 3.4, 1.15, 0.62
    height = legend + main + 0.75 + rows * (panel + gap)
    figure = Figure(figsize=(WIDTH, height))
    box = Boxes(figure, left=0.75, right=0.85)
    axes = figure.add_axes(box.place(legend, main))
    for summary in drawn:
        _draw_mean(axes, summary, style[summary.label])
    ranges = _ranges(task, drawn)
    axes.set_xlim(*ranges[0])
    axes.set_ylim(*ranges[1])
    axes.xaxis.set_major_locator(steps_locator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_steps(step)))
    _draw_anchors(axes, task)
    axes.set_xlabel("environment steps per seed")
    measured = task.measured
    axes.set_ylabel("evaluation return" if measured.is_return else f"{measured.name} ({measured.better})")
    figure.legend(loc="upper left", bbox_to_anchor=(0.65 / WIDTH, 1.0), ncols=entries, frameon=False)
    for k, summary in enumerate(drawn):
        row, column = divmod(k, columns)
        place = box.place(legend + main + 0.85 + row * (panel + gap), panel, column, columns)
        plot = Panel(figure, place, ranges)
        plot.frame(label_x=k >= len(drawn) - columns, label_y=column == 0)  # of the lowest, of the left
        plot.levels([score for _, score in task.anchors])
        _draw_seeds(plot, summary, style[summary.label])
    return figure


def profiles(group: Group, style: Style) -> Figure:
    """Draw performance profiles: the share of a system's runs, over all tasks, that score above a value.

    Agarwal et al. 2021, "Deep Reinforcement Learning at the Edge of the Statistical Precipice", figure 5.
    """
    figure, axes = _bands(TAUS, {label: group.profiles[label] for label in group.systems}, style)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("share of runs above score")
    return figure


def efficiency(found: Efficiency, style: Style) -> Figure:
    """Draw sample efficiency: the IQM of normalised scores over runs and tasks, while systems train.

    Agarwal et al. 2021, figure 7.
    """
    steps = found.steps
    figure, axes = _bands(found.shares if steps is None else steps, found.curves, style)
    values = [limit for value, _, _ in found.curves.values() for limit in (value.min(), value.max())]
    margin = 0.15 * (max(values) - min(values)) or 0.1
    axes.set_ylim(min(values) - margin, max(values) + margin)
    axes.set_xlabel(
        "share of the step budget of each task" if steps is None else "environment steps per seed"
    )
    if steps is not None:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_steps(step)))
    axes.set_ylabel("IQM of normalised scores")
    return figure


def _bands(
    x: np.ndarray, curves: Mapping[str, tuple[np.ndarray, np.ndarray, np.ndarray]], style: Style
) -> tuple[Figure, Axes]:
    """Draw a line with a band for each system: label -> (value, lower limit, upper limit)."""
    entries = legend_columns(list(curves))
    legend = 0.2 + 0.2 * -(-len(curves) // entries)
    figure = Figure(figsize=(WIDTH, legend + 3.4 + 0.6))
    axes = figure.add_axes(Boxes(figure, left=0.75, right=0.35).place(legend, 3.4))
    for label, (value, low, high) in curves.items():
        colour, dash = style[label]
        axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
        axes.plot(x, value, color=colour, linestyle=dash, lw=1.8, label=label)
    axes.set_xlim(x[0], x[-1])
    figure.legend(loc="upper left", bbox_to_anchor=(0.65 / WIDTH, 1.0), ncols=entries, frameon=False)
    return figure, axes


def intervals(group: Group, style: Style) -> Figure:
    """Draw aggregates across tasks with their intervals: a panel per statistic, a line per system."""
    statistics = list(group.aggregates[group.systems[0]])
    top, height = 0.35, 0.26 * len(group.systems) + 0.2
    figure = Figure(figsize=(WIDTH, top + height + 0.55))
    box = Boxes(figure, left=_room(group.systems, 1.35), right=0.2)
    for k, statistic in enumerate(statistics):
        axes = figure.add_axes(box.place(top, height, k, len(statistics)))
        for y, label in enumerate(reversed(group.systems)):
            interval, (colour, _) = group.aggregates[label][statistic], style[label]
            axes.plot(
                [interval.low, interval.high], [y, y], color=colour, lw=7, alpha=0.35, solid_capstyle="butt"
            )
            axes.plot([interval.value], [y], "|", color=colour, ms=11, mew=2.2)
        name = "IQM" if statistic == "iqm" else statistic.replace("_", " ")
        axes.set_title(name, fontsize=9, loc="left")
        axes.set_ylim(-0.6, len(group.systems) - 0.4)
        axes.set_yticks(range(len(group.systems)), list(reversed(group.systems)) if k == 0 else [])
        axes.xaxis.set_major_locator(MaxNLocator(4, prune="both"))  # labels must not touch those next to them
        axes.spines.left.set_visible(False)
        axes.tick_params(axis="y", length=0)
    return figure


def matrix(improvements: Sequence[Improvement]) -> Figure | None:
    """Draw the probability of improvement of each row's system over each column's.

    None without pairs, and where a page cannot show so many systems: the table has them all.
    """
    labels = sorted({label for pair in improvements for label in (pair.x, pair.y)})
    if not 0 < len(labels) <= MOST_IN_MATRIX:
        return None
    values = np.full((len(labels), len(labels)), np.nan)
    for pair in improvements:
        row, column = labels.index(pair.x), labels.index(pair.y)
        values[row, column], values[column, row] = pair.interval.value, 1 - pair.interval.value
    cell, left, top = 0.56, _room(labels, 1.35), _room(labels, 1.0)
    size = cell * len(labels)
    figure = Figure(figsize=(left + size + 1.0, top + size + 0.15))
    axes = figure.add_axes(Boxes(figure, left=left, right=1.0).place(top, size))
    axes.grid(False)
    image = axes.imshow(values, cmap=sns.color_palette("vlag", as_cmap=True), vmin=0, vmax=1, aspect="auto")
    for row, column in np.argwhere(~np.isnan(values)):
        value = values[row, column]
        colour = "white" if abs(value - 0.5) > 0.35 else "black"
        axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    axes.set_xticks(range(len(labels)), labels, rotation=90)
    axes.set_yticks(range(len(labels)), labels)
    axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    bar = figure.add_axes(((left + size + 0.15) / figure.get_figwidth(), 0.15 / figure.get_figheight(), 0.015,
                           size / figure.get_figheight()))  # fmt: skip
    figure.colorbar(image, cax=bar)
    return figure


def _room(labels: Iterable[str], least: float) -> float:
    """Return the inches that the longest label needs."""
    return max(least, 0.2 + 0.065 * max(map(len, labels)))


class Boxes:
    """Converts positions in inches, from the top of a figure, to shares of the figure."""

    def __init__(self, figure: Figure, left: float, right: float) -> None:
        self.width, self.height = figure.get_size_inches()
        self.left, self.right = left, right

    def place(self, top: float, height: float, column: int = 0, columns: int = 1) -> Place:
        """Return (left, bottom, width, height), in shares of the figure, of one of `columns` boxes."""
        gap = 0.18
        width = (self.width - self.left - self.right - gap * (columns - 1)) / columns
        left = self.left + column * (width + gap)
        return left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height


def legend_columns(labels: Sequence[str]) -> int:
    """Return how many labels stand in a row of a legend: at most four, fewer where they are long."""
    fitting = int(WIDTH / (0.45 + 0.075 * max(map(len, labels))))  # inches of a line and of a letter
    return max(1, min(len(labels), fitting, 4))


def drawing() -> AbstractContextManager:
    """Return the style of all figures; "default" first, so that no matplotlibrc changes the bytes."""
    return matplotlib.style.context(["default", _STYLE])


def encode(figure: Figure, form: str) -> bytes:
    """Return a figure as "png", "pdf" or "svg", without date or program: equal figures give equal bytes."""
    stream = io.BytesIO()
    empty = {
        "png": ["Software"], "pdf": ["Creator", "Producer", "CreationDate"], "svg": ["Creator", "Date"],
    }[form]  # fmt: skip
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph", UserWarning)  # in a name; what lacks a glyph is a box
        figure.savefig(stream, format=form, metadata=dict.fromkeys(empty))
    return stream.getvalue()


def _draw_mean(axes: Axes, summary: CellSummary, style: tuple[str, object]) -> None:
    colour, dash = style
    label = f"{summary.label}  {summary.counts}"
    if summary.curve is None:
        axes.plot([], [], color=colour, linestyle=dash, alpha=0.4, label=label)  # in the legend only
        return
    curve = summary.curve
    axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.16, lw=0)
    axes.plot(curve.index, curve["mean"], color=colour, linestyle=dash, lw=1.8, label=label)


def _draw_seeds(panel: Panel, summary: CellSummary, style: tuple[str, object]) -> None:
    colour, dash = style
    steps, returns = summary.seeds.index.to_numpy(float), summary.seeds.to_numpy()
    lines = [np.column_stack([steps, curve])[~np.isnan(curve)] for curve in returns.T]
    panel.lines(lines, colors=colour, linewidths=0.7, alpha=0.55)
    if summary.curve is not None:
        mean = np.column_stack([summary.curve.index, summary.curve["mean"]])
        panel.lines([mean], colors=colour, linestyles=[dash], linewidths=1.8)
    for run in summary.cell.runs:
        if run.state == DIVERGED:
            curve = summary.seeds[run.seed].dropna()
            panel.cross(curve.index[-1], curve.iloc[-1])
    panel.title(f"{summary.label}\n{summary.counts}")


def _ranges(task: Task, drawn: list[CellSummary]) -> Ranges:
    """Return the limits of steps and returns for all panels of a task."""
    tables = [summary.seeds for summary in drawn]
    tables += [summary.curve[["mean"]] for summary in drawn if summary.curve is not None]
    values = [limit for table in tables for limit in (table.min().min(), table.max().max())]
    values += [score for _, score in task.anchors]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    return (0, max(table.index.max() for table in tables) or 1), (low - margin, high + margin)


def _draw_anchors(axes: Axes, task: Task) -> None:
    for name, score in task.anchors:
        axes.axhline(score, color=ANCHOR, linestyle="--", lw=0.8, zorder=1)
        axes.annotate(
            name, (1, score), xycoords=("axes fraction", "data"), xytext=(4, 0), va="center",
            textcoords="offset points", color=ANCHOR, fontsize=8, annotation_clip=False,
        )  # fmt: skip

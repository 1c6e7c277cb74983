"""Figures for a paper, drawn at the size at which it prints them. Call within `drawing(page)`.

The width of a figure is that of the venue's column or text, so that no text is scaled.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ascent.reports.page import figures as page_figures
from ascent.reports.page.figures import DASHES, PALETTE, Style
from ascent.reports.page.formats import short_steps
from ascent.reports.paper.text import text_width
from ascent.reports.paper.venues import Page
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import TAUS, Group
from ascent.reports.statistics.efficiency import Efficiency

PANEL = 1.5  # inches: least width of a panel of the grid
LEAST_HEIGHT, MOST_HEIGHT = 1.05, 1.9  # inches, of a panel with its title and tick labels
MOST_ROWS = 6  # of the grid in one figure: a page has nine inches
MOST_BANDS = 6  # systems in one panel of aggregates beyond which bands hide each other

Names = Mapping[str, str]  # system -> shown name, in the order of the legend


@dataclass(frozen=True)
class Look:
    """What the figures share: the page, names and styles of the systems, names of tasks by suite and task."""

    page: Page
    names: Names
    tasks: Mapping[tuple[str, str], str]
    seeds: bool = False  # draw the curve of every seed, too

    @property
    def styles(self) -> Style:
        """System -> (colour, dash), in the order of the names."""
        return {
            label: (PALETTE[k % len(PALETTE)], DASHES[k // len(PALETTE) % len(DASHES)])
            for k, label in enumerate(self.names)
        }


@contextmanager
def drawing(page: Page) -> Iterator[None]:
    """Set the style of a paper's figures; it is that of the page's, in Times and thinner."""
    sizes = ("font.size", "axes.titlesize", "axes.labelsize", "legend.fontsize", "figure.labelsize")
    style = {
        **dict.fromkeys(sizes, page.size),
        **dict.fromkeys(("xtick.labelsize", "ytick.labelsize"), page.small),
        # Both come with matplotlib: the same glyphs on every machine. The second has what the first lacks.
        "font.family": ["STIXGeneral", "DejaVu Sans"],
        **dict.fromkeys(("axes.linewidth", "xtick.major.width", "ytick.major.width"), 0.6),
        **dict.fromkeys(("xtick.major.size", "ytick.major.size"), 2),
        **dict.fromkeys(("xtick.major.pad", "ytick.major.pad", "axes.labelpad"), 2),
        **dict.fromkeys(("figure.constrained_layout.h_pad", "figure.constrained_layout.w_pad"), 0.03),
        "axes.titlepad": 3,
        "grid.linewidth": 0.5,
        "lines.linewidth": 1.1,
        "savefig.dpi": 300,
    }
    with page_figures.drawing(), matplotlib.style.context(style):
        yield


def curves(tasks: Sequence[Task], look: Look) -> list[Figure]:
    """Draw the mean learning curve of every system: a panel per task, in as many figures as needed.

    A band is cut where it leaves the range of the cell's runs: at two or three runs it is wider by far.
    """
    shown = [task for task in tasks if _drawn(task, look)]
    most = max(1, int(look.page.width / PANEL))
    per_figure = most * MOST_ROWS
    parts = [shown[start : start + per_figure] for start in range(0, len(shown), per_figure)]
    return [_grid(part, look, most) for part in parts]


def aggregate_steps(found: Efficiency, look: Look) -> Figure:
    """Draw the interquartile mean of normalised scores over all tasks against the steps."""
    labels = [label for label in look.names if label in found.curves]
    figure, axes = _single(look, labels)
    for label in labels:
        _line(axes, found.shares * (found.budget or 1), found.curves[label], look.styles[label], len(labels))
    axes.set_xlim(0, found.budget or 1)
    _ticks(axes, 5)
    if found.budget is None:
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{share:.0%}"))
    axes.set_xlabel("share of the step budget" if found.budget is None else "environment steps")
    axes.set_ylabel("IQM of normalised return")
    return figure


def profiles(group: Group, look: Look) -> Figure:
    """Draw performance profiles: the share of a system's runs, over all tasks, that score above a value."""
    labels = [label for label in look.names if label in group.systems]
    figure, axes = _single(look, labels)
    for label in labels:
        _line(axes, TAUS, group.profiles[label], look.styles[label], len(labels))
    axes.set_xlim(TAUS[0], TAUS[-1])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("normalised score")
    axes.set_ylabel("share of runs above")
    return figure


def intervals(group: Group, look: Look) -> Figure:
    """Draw aggregates across tasks with their intervals: a panel per statistic, a line per system."""
    labels = [label for label in look.names if label in group.systems]
    statistics = list(group.aggregates[labels[0]])
    columns = len(statistics) if look.page.width > 5 else 2
    rows = -(-len(statistics) // columns)
    line = 1.45 * look.page.size / 72  # inches
    figure = Figure(figsize=(look.page.width, rows * (len(labels) * line + 0.55)), layout="constrained")
    for k, statistic in enumerate(statistics):
        axes = figure.add_subplot(rows, columns, k + 1)
        for y, label in enumerate(reversed(labels)):
            interval, (colour, _) = group.aggregates[label][statistic], look.styles[label]
            axes.plot(
                [interval.low, interval.high], [y, y], color=colour, lw=4.5, alpha=0.4, solid_capstyle="butt"
            )
            axes.plot([interval.value], [y], "|", color=colour, ms=7, mew=1.5)
        axes.set_title("IQM" if statistic == "iqm" else statistic.replace("_", " "), loc="left")
        axes.set_ylim(-0.6, len(labels) - 0.4)
        named = [look.names[label] for label in reversed(labels)]
        axes.set_yticks(range(len(labels)), named if k % columns == 0 else [])
        axes.tick_params(axis="y", length=0, labelsize=look.page.size)
        axes.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
        axes.spines.left.set_visible(False)
    return figure


def _drawn(task: Task, look: Look) -> list[CellSummary]:
    """Return the cells of a task that have a mean curve, in the order of the legend."""
    by_label = {cell.label: cell for cell in task.cells if cell.curve is not None}
    return [by_label[label] for label in look.names if label in by_label]


def _grid(tasks: Sequence[Task], look: Look, most: int) -> Figure:
    rows = -(-len(tasks) // most)
    columns = -(-len(tasks) // rows)
    labels = [
        label for label in look.names if any(cell.label == label for t in tasks for cell in _drawn(t, look))
    ]
    height = rows * min(max(LEAST_HEIGHT, 0.42 * look.page.width / columns), MOST_HEIGHT)
    figure = _with_legend(look, labels, height + 0.25)
    for k, task in enumerate(tasks):
        axes = figure.add_subplot(rows, columns, k + 1)
        cells = _drawn(task, look)
        for cell in cells:
            curve, steps = cell.curve, cell.seeds.index.to_numpy(float)
            assert curve is not None
            least, most_ = cell.seeds.min(axis=1), cell.seeds.max(axis=1)
            low = np.minimum(np.maximum(curve["low"], least), curve["mean"])
            high = np.maximum(np.minimum(curve["high"], most_), curve["mean"])
            colour = look.styles[cell.label][0]
            if look.seeds:
                lines = [np.column_stack([steps, run])[~np.isnan(run)] for run in cell.seeds.to_numpy().T]
                axes.add_collection(LineCollection(lines, colors=colour, linewidths=0.4, alpha=0.45))
            _line(axes, steps, (curve["mean"], low, high), look.styles[cell.label], 1)
        axes.set_xlim(0, max(cell.seeds.index.max() for cell in cells) or 1)
        axes.margins(y=0.05)
        _ticks(axes, 3)
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _short(value)))
        axes.set_title(_title(task, look, columns), loc="left")
    returns = all(task.measured.is_return for task in tasks)
    figure.supxlabel("environment steps")
    figure.supylabel("evaluation return" if returns else "evaluation score")
    return figure


def _title(task: Task, look: Look, columns: int) -> str:
    """Return the title of a panel, in two lines if one is too long."""
    name = look.tasks[task.suite, task.name]
    measured = task.measured
    title = name if measured.is_return else f"{name}: {measured.name}{' ↓' if measured.lower else ''}"
    room = 72 * (look.page.width / columns - 0.45)
    places = [k + 1 for k, character in enumerate(title[:-1]) if character in "-_/: "]
    if text_width(title, look.page.size) <= room or not places:
        return title
    place = min(places, key=lambda k: abs(2 * k - len(title)))
    return f"{title[:place].rstrip()}\n{title[place:].lstrip()}"


def _line(axes: Axes, x: np.ndarray, estimate: tuple, style: tuple[str, object], systems: int) -> None:
    """Draw a value with its band, without it where too many systems share the panel."""
    (value, low, high), (colour, dash) = estimate, style
    if systems <= MOST_BANDS:
        axes.fill_between(x, low, high, color=colour, alpha=0.16, lw=0)
    axes.plot(x, value, color=colour, linestyle=dash)


def _single(look: Look, labels: Sequence[str]) -> tuple[Figure, Axes]:
    """Return a figure of one panel with its legend."""
    figure = _with_legend(look, labels, min(max(1.5, 0.45 * look.page.width), MOST_HEIGHT))
    return figure, figure.add_subplot()


def _with_legend(look: Look, labels: Sequence[str], height: float) -> Figure:
    """Return an empty figure with the legend above; `height` is that of the rest."""
    columns = _legend_columns([look.names[label] for label in labels], look.page)
    rows = -(-len(labels) // columns)
    size = (look.page.width, height + rows * 1.5 * look.page.size / 72)
    figure = Figure(figsize=size, layout="constrained")
    lines = [Line2D([], []) for _ in labels]
    for line, label in zip(lines, labels, strict=True):
        line.update(dict(zip(("color", "linestyle"), look.styles[label], strict=True)))
    figure.legend(
        lines, [look.names[label] for label in labels], loc="outside upper center", ncols=columns,
        frameon=False, handlelength=1.8, handletextpad=0.5, columnspacing=1.2, labelspacing=0.25, borderpad=0,
        borderaxespad=0.2,
    )  # fmt: skip
    return figure


def _legend_columns(names: Sequence[str], page: Page) -> int:
    """Return how many columns of a legend fit. Names fill it column by column."""
    line, space = (1.8 + 0.5) * page.size, 1.2 * page.size
    for columns in range(len(names), 1, -1):
        parts = np.array_split(names, columns)  # as matplotlib fills them
        widths = [line + max(text_width(name, page.size) for name in part) for part in parts]
        if sum(widths) + space * (columns - 1) < 72 * page.width - 8:
            return columns
    return 1


def _ticks(axes: Axes, steps: int) -> None:
    axes.xaxis.set_major_locator(MaxNLocator(steps, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_steps(step)))
    axes.yaxis.set_major_locator(MaxNLocator(4))


def _short(value: float) -> str:
    """Return a number in short, with a true minus sign: 1500 -> "1.5k"."""
    return short_steps(round(value, 9)).replace("-", "\N{MINUS SIGN}")

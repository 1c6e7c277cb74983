"""Figures: a `Task` -> PNG bytes. Drawn without pyplot: nothing depends on a backend or on global state."""

import io
from collections.abc import Iterable

import matplotlib.style
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from reports.aggregate import CellSummary, Task
from reports.records import DIVERGED

# seaborn's colour-blind-safe palette, without its grey (the anchors') and without its yellow and pale pink
# (lost on white); systems beyond the seventh repeat the colours with another dash.
PALETTE = [sns.color_palette("colorblind").as_hex()[k] for k in (0, 1, 2, 4, 3, 9, 5)]
DASHES = ["-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5))]
ANCHOR = "#767676"

_STYLE = {
    **sns.axes_style("ticks"),
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same glyphs on every machine
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.grid": True,
    "grid.color": "#ececec",
    "axes.formatter.useoffset": False,
    "figure.dpi": 160,
    "savefig.dpi": 160,
}


def styles(labels: Iterable[str]) -> dict[str, tuple[str, object]]:
    """Label -> (colour, dash), the same in every figure of a report."""
    return {
        label: (PALETTE[k % len(PALETTE)], DASHES[k // len(PALETTE) % len(DASHES)])
        for k, label in enumerate(sorted(set(labels)))
    }


def learning_curves(task: Task, style: dict[str, tuple[str, object]]) -> bytes | None:
    """Means with bands in one panel, then a panel per system with every seed; None if no run is finished.

    The bands are pointwise Student-t intervals. The y range is that of the seeds and the anchors; a band
    may leave it, which at two or three seeds it does by far.
    """
    drawn = [summary for summary in task.cells if not summary.seeds.empty]
    if not drawn:
        return None
    columns = min(max(len(drawn), 3), 5)
    rows = -(-len(drawn) // columns)
    # "default" first: a matplotlibrc of the user must not change the bytes
    with matplotlib.style.context(["default", _STYLE]):
        figure = Figure(figsize=(10, 4.0 + 1.75 * rows), layout="constrained")
        upper, lower = figure.subfigures(2, 1, height_ratios=[4.0, 1.75 * rows])
        main = upper.subplots()
        for summary in drawn:
            _draw_mean(main, summary, style[summary.label])
        _frame(main, task, drawn)
        _draw_anchors(main, task, named=True)
        main.set_xlabel("environment steps per seed")
        main.set_ylabel("return")
        upper.legend(loc="outside upper left", ncols=min(len(drawn), 4), frameon=False)
        panels = list(lower.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flat)
        for panel, summary in zip(panels, drawn, strict=False):
            _draw_seeds(panel, summary, style[summary.label])
            _frame(panel, task, drawn, ticks=3)
            _draw_anchors(panel, task, named=False)
        for panel in panels[len(drawn) :]:
            panel.set_axis_off()
        for panel in panels[max(len(drawn) - columns, 0) : len(drawn)]:  # these have nothing below them
            panel.tick_params(labelbottom=True)
        stream = io.BytesIO()
        # Without its Software entry the file is the pixels alone; matplotlib writes no date into a PNG.
        figure.savefig(stream, format="png", metadata={"Software": None})
    return stream.getvalue()


def _draw_mean(axes: Axes, summary: CellSummary, style: tuple[str, object]) -> None:
    colour, dash = style
    label = f"{summary.label}  {summary.counts}"
    if summary.curve is None:
        axes.plot([], [], color=colour, linestyle=dash, alpha=0.4, label=label)  # named, so that it is missed
        return
    curve = summary.curve
    axes.fill_between(curve.index, curve["low"], curve["high"], color=colour, alpha=0.16, lw=0)
    axes.plot(curve.index, curve["mean"], color=colour, linestyle=dash, lw=1.8, label=label)


def _draw_seeds(axes: Axes, summary: CellSummary, style: tuple[str, object]) -> None:
    colour, dash = style
    for seed in summary.seeds.columns:
        curve = summary.seeds[seed].dropna()
        axes.plot(curve.index, curve, color=colour, lw=0.7, alpha=0.55)
    for run in summary.cell.runs:
        if run.state == DIVERGED:
            curve = summary.seeds[run.seed].dropna()
            axes.plot(curve.index[-1:], curve.iloc[-1:], "x", color="black", ms=5, mew=1.2, zorder=4)
    if summary.curve is not None:
        axes.plot(summary.curve.index, summary.curve["mean"], color=colour, linestyle=dash, lw=1.8)
    axes.set_title(f"{summary.label}\n{summary.counts}", fontsize=7.5, loc="left", color="#333333")
    axes.tick_params(labelsize=7)


def _frame(axes: Axes, task: Task, drawn: list[CellSummary], ticks: int = 5) -> None:
    """One range for all panels of a task, from everything that was measured."""
    tables = [summary.seeds for summary in drawn]
    tables += [summary.curve[["mean"]] for summary in drawn if summary.curve is not None]
    values = [limit for table in tables for limit in (table.min().min(), table.max().max())]
    values += [score for _, score in task.anchors]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    axes.set_ylim(low - margin, high + margin)
    axes.set_xlim(0, max(table.index.max() for table in tables) or 1)
    axes.xaxis.set_major_locator(MaxNLocator(ticks, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: short_steps(step)))


def _draw_anchors(axes: Axes, task: Task, named: bool) -> None:
    for name, score in task.anchors:
        axes.axhline(score, color=ANCHOR, linestyle="--", lw=0.8, zorder=1)
        if named:
            axes.annotate(
                name, (1, score), xycoords=("axes fraction", "data"), xytext=(4, 0), va="center",
                textcoords="offset points", color=ANCHOR, fontsize=8, annotation_clip=False,
            )  # fmt: skip


def short_steps(steps: float) -> str:
    """200000 -> "200k", 1500000 -> "1.5M"."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(steps) >= unit:
            return f"{steps / unit:g}{name}"
    return f"{steps:g}"

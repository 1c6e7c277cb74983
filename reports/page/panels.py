"""Small plots in a figure with many of them."""

from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, ScalarFormatter
from matplotlib.transforms import Bbox, BboxTransformFrom, BboxTransformTo, ScaledTranslation
from numpy.typing import ArrayLike

from ascent.reports.page.formats import short_steps

ANCHOR = "#767676"  # the random policy's score and the reference score
Ranges = tuple[tuple[float, float], tuple[float, float]]  # (first, last) of x and of y
Place = tuple[float, float, float, float]  # left, bottom, width, height, in shares of a figure


def steps_locator(most: int) -> MaxNLocator:
    """Return what places at most so many intervals between the ticks of an axis of steps."""
    return MaxNLocator(most, steps=[1, 2, 2.5, 5, 10])


class Panel:
    """A small plot without Axes, whose ticks take most of the time of a figure with many panels.

    Nothing is clipped: what is drawn must be within `ranges`.
    """

    def __init__(self, figure: Figure, place: Place, ranges: Ranges) -> None:
        self.figure, self.ranges = figure, ranges
        (left, right), (low, high) = ranges
        self.box = BboxTransformTo(Bbox.from_bounds(*place)) + figure.transFigure
        self.data = BboxTransformFrom(Bbox([(left, low), (right, high)])) + self.box

    def frame(self, label_x: bool, label_y: bool) -> None:
        """Draw the grid and the two axes, with the values of their ticks where they are to be labelled."""
        (left, right), (low, high) = self.ranges
        xs = [x for x in steps_locator(3).tick_values(left, right) if left <= x <= right]
        ys = [y for y in MaxNLocator(3).tick_values(low, high) if low <= y <= high]
        grid = [[(x, low), (x, high)] for x in xs] + [[(left, y), (right, y)] for y in ys]
        self.lines(grid, colors=matplotlib.rcParams["grid.color"], linewidths=0.8)
        corner = [[(left, high), (left, low), (right, low)]]
        self.lines(corner, colors=matplotlib.rcParams["axes.edgecolor"], linewidths=0.8)
        for x in xs if label_x else ():
            self.text((x, low), (0, -3), short_steps(x), ha="center", va="top", fontsize=7)
        for y, value in zip(ys, _values(ys), strict=True) if label_y else ():
            self.text((left, y), (-3, 0), value, ha="right", va="center", fontsize=7)

    def lines(self, lines: Sequence[ArrayLike], **style: Any) -> None:
        """Draw lines (points, 2) in the coordinates of the data."""
        self.figure.add_artist(LineCollection(lines, transform=self.data, **style))

    def levels(self, values: Sequence[float]) -> None:
        """Draw anchors as dashed lines."""
        ends = [[(x, value) for x in self.ranges[0]] for value in values]
        self.lines(ends, colors=ANCHOR, linestyles="--", linewidths=0.8)

    def cross(self, x: float, y: float) -> None:
        """Mark a point."""
        mark = Line2D([x], [y], marker="x", color="black", ms=5, mew=1.2, transform=self.data)
        self.figure.add_artist(mark)

    def text(self, at: tuple[float, float], offset: tuple[float, float], text: str, **style: Any) -> None:
        """Write text at a point of the data, moved by some points of type."""
        moved = self.data + ScaledTranslation(offset[0] / 72, offset[1] / 72, self.figure.dpi_scale_trans)
        self.figure.text(*at, text, transform=moved, **style)

    def title(self, text: str) -> None:
        """Write a title above the panel, from its left end."""
        (left, _), (_, high) = self.ranges
        self.text((left, high), (0, 4), text, va="bottom", fontsize=7.5, color="#333333")


def _values(ys: list[float]) -> list[str]:
    """Return the labels of ticks; a common exponent, which Axes write in a corner, stands in each of them."""
    form = ScalarFormatter()
    form.create_dummy_axis()
    labels = form.format_ticks(ys)
    return [f"{y:g}" for y in ys] if form.get_offset() else labels

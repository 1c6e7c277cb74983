"""Tabulars that fit a column: their font size, orientation and number, chosen by measuring their text."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from ascent.records.errors import InputError
from ascent.reports.paper.text import latex_text, latex_width
from ascent.reports.paper.venues import LEAST_SIZE, POINTS, Page

SAFETY = 1.04  # LaTeX's fonts are not exactly those that are measured here
PLUS_MINUS = 1.2  # em, with its spaces
SEPARATIONS = (6, 4, 3)  # points on each side of a column
MOST_ROWS = 50  # of one tabular: a page has nine inches


@dataclass(frozen=True)
class Entry:
    """A cell of a table: a value, the half width of its interval if it has one, and a mark behind it."""

    value: str
    half: str = ""
    bold: bool = False
    mark: str = ""  # LaTeX, set as a superscript


@dataclass(frozen=True)
class Grid:
    """A table: `entries` [row][column] between the names of rows and columns."""

    corner: str  # the head of the first column
    rows: Sequence[str]
    columns: Sequence[str]
    entries: Sequence[Sequence[Entry]]

    def turned(self, corner: str) -> "Grid":
        """Return the table with rows and columns exchanged."""
        return Grid(corner, self.columns, self.rows, list(zip(*self.entries, strict=True)))


def tabulars(grids: Sequence[Grid], page: Page) -> str:
    """Return a table in LaTeX, in the first of `grids` that needs the fewest tabulars.

    Where it does not fit at the page's font size, columns are set closer, then the text smaller, down to 7
    points; then the columns are split over several tabulars.

    Raises:
        InputError: one column alone is too wide.
    """
    sizes = range(page.size, LEAST_SIZE - 1, -1)
    room = page.width * POINTS
    best: tuple[int, Grid, int, int] | None = None
    for grid, size, separation in product(grids, sizes, SEPARATIONS):
        names, widths = _widths(grid, size)
        for parts in range(1, len(widths) + 1):
            if best and parts >= best[0]:
                break
            lengths = [
                names + sum(width + 2 * separation for width in widths[start:end])
                for start, end in _split(len(widths), parts)
            ]
            if max(lengths) <= room:
                best = (parts, grid, size, separation)
    if best is None:
        longest = max((*grids[0].rows, *grids[0].columns), key=len)
        raise InputError(f"the table is too wide for {room:.0f} points: shorten {longest!r} with --labels")
    parts, grid, size, separation = best
    texts = [
        _tabular(grid, rows, columns)
        for rows in _split(len(grid.rows), -(-len(grid.rows) // MOST_ROWS))
        for columns in _split(len(grid.columns), parts)
    ]
    return (
        "% needs \\usepackage{booktabs}\n"
        f"{{\\fontsize{{{size}}}{{{1.2 * size:g}}}\\selectfont\\setlength{{\\tabcolsep}}{{{separation}pt}}%\n"
        + "\\par\\vspace{4pt}\n".join(texts)
        + "}\n"
    )


def _split(n: int, parts: int) -> list[tuple[int, int]]:
    """Return the bounds of `parts` runs of n things, as equal as they can be."""
    return [(n * k // parts, n * (k + 1) // parts) for k in range(parts)]


def _widths(grid: Grid, size: int) -> tuple[float, list[float]]:
    """Return the widths in points of the names of the rows, and of each column without its separation."""

    def width(text: str, bold: bool = False) -> float:
        minus = text.replace("-", "\N{MINUS SIGN}")  # wider than a hyphen
        return SAFETY * latex_width(minus, size, bold)

    columns = []
    for k, head in enumerate(grid.columns):
        entries = [row[k] for row in grid.entries]
        paired = [entry for entry in entries if entry.half]
        left = max((width(entry.value, entry.bold) for entry in paired), default=0.0)
        right = max((width(entry.half) + _mark(entry, size) for entry in paired), default=0.0)
        alone = [width(entry.value, entry.bold) + _mark(entry, size) for entry in entries if not entry.half]
        both = left + right + (PLUS_MINUS * size if paired else 0.0)
        columns.append(max(both, width(head), *alone))
    return max(map(width, (grid.corner, *grid.rows))), columns


def _mark(entry: Entry, size: int) -> float:
    return 0.5 * size if entry.mark else 0.0


def _tabular(grid: Grid, rows: tuple[int, int], columns: tuple[int, int]) -> str:
    """Return the tabular of these rows and columns, given by their bounds."""
    chosen = range(*columns)
    paired = {k: any(row[k].half for row in grid.entries) for k in chosen}
    form = "".join(r"r@{\,$\pm$\,}l" if paired[k] else "r" for k in chosen)
    heads = [
        rf"\multicolumn{{2}}{{c}}{{{latex_text(grid.columns[k])}}}"
        if paired[k]
        else latex_text(grid.columns[k])
        for k in chosen
    ]
    lines = [
        rf"\begin{{tabular}}{{@{{}}l{form}@{{}}}}",
        r"\toprule",
        " & ".join([latex_text(grid.corner), *heads]) + r" \\",
        r"\midrule",
        *(
            " & ".join([latex_text(grid.rows[i]), *(_entry(grid.entries[i][k], paired[k]) for k in chosen)])
            + r" \\"
            for i in range(*rows)
        ),
        r"\bottomrule",
        r"\end{tabular}%",
    ]
    return "\n".join(lines) + "\n"


def _entry(entry: Entry, paired: bool) -> str:
    mark = f"$^{{{entry.mark}}}$" if entry.mark else ""
    value = _number(entry.value)
    value = rf"\textbf{{{value}}}" if entry.bold else value
    if entry.half:
        return f"{value} & {_number(entry.half)}{mark}"
    return rf"\multicolumn{{2}}{{c}}{{{value}{mark}}}" if paired else value + mark


def _number(text: str) -> str:
    """Return a number in LaTeX, where a hyphen before it is a minus sign."""
    return f"$-${text[1:]}" if text[:1] == "-" and text[1:2].isdigit() else latex_text(text)

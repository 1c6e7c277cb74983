"""What a figure or table is when it is printed: read from its PDF, measured by LaTeX."""

import re
import subprocess
import zlib
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text


def page_width(pdf: bytes) -> float:
    """Width of the first page of a PDF, in inches."""
    found = re.search(rb"/MediaBox \[ 0 0 ([\d.]+) [\d.]+ \]", pdf)
    assert found
    return float(found[1]) / 72


def text_sizes(pdf: bytes) -> set[float]:
    """Sizes in points of the texts of a PDF by matplotlib; nothing in it is scaled."""
    sizes: set[float] = set()
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            content = zlib.decompress(stream).decode("latin1")
        except zlib.error:
            continue
        if "BT" not in content:
            continue
        for matrix in re.findall(r"((?:[-\d.]+ ){4})[-\d.]+ [-\d.]+ (?:Tm|cm)\b", content):
            a, b, c, d = map(float, matrix.split())
            assert abs(a * d - b * c - 1) < 1e-3  # rotated, not scaled
        sizes |= {float(size) for size in re.findall(r"/F\S+ ([\d.]+) Tf", content)}
    return sizes


def collisions(figure: Figure) -> list[str]:
    """Texts of a figure that overlap, or that leave it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    hidden = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]
        if not min(axis.get_view_interval()) - 1e-9 <= tick.get_loc() <= max(axis.get_view_interval()) + 1e-9
        for label in (tick.label1, tick.label2)
    }  # ticks outside of the axes exist, but are not drawn
    texts = [
        (text.get_text(), text.get_window_extent(renderer))
        for text in figure.findobj(Text)
        if isinstance(text, Text)
        and text.get_visible()
        and text.get_text().strip()
        and id(text) not in hidden
    ]
    width, height = canvas.get_width_height()
    ticks = 0.5 * figure.dpi / 72  # half a point: the room around a letter
    found = [
        f"{text!r} leaves the figure"
        for text, box in texts
        if box.x0 < -ticks or box.y0 < -ticks or box.x1 > width + ticks or box.y1 > height + ticks
    ]
    for (one, a), (other, b) in combinations(texts, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > ticks and down > ticks:
            found.append(f"{one!r} and {other!r} overlap")
    return found


def tabular_widths(tables: Sequence[str], folder: Path, width: float, captions: str = "") -> list[float]:
    """Typeset tables in a column of `width` inches; return the width of each tabular in inches.

    Asserts that LaTeX reports nothing that sticks out.
    """
    boxes = [
        rf"\setbox0\hbox{{{opening}{tabular}}}}}\typeout{{WIDTH \the\wd0}}"
        for table in tables
        for opening in re.findall(r"(\{\\fontsize.*?)%\n", table)
        for tabular in re.findall(r"\\begin\{tabular\}.*?\\end\{tabular\}", table, re.DOTALL)
    ]
    folder.mkdir(parents=True, exist_ok=True)
    commands = re.findall(r"\\newcommand\{(\\\w+)\}", captions)
    (folder / "paper.tex").write_text(
        f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n"
        f"\\usepackage[paperwidth=11in,paperheight=17in,textwidth={width}in,textheight=15in]{{geometry}}\n"
        f"{captions}\\begin{{document}}\n"
        + "\n".join(boxes)
        + "".join(f"\n\\begin{{table}}[p]\\centering\n{table}\\end{{table}}\\clearpage" for table in tables)
        + "".join(f"\n\n{{\\sloppy {command}\\par}}" for command in commands)
        + "\n\\end{document}\n"
    )
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout[-2_000:]
    log = (folder / "paper.log").read_text(errors="replace")
    assert "Overfull" not in log and "Missing character" not in log and "Font Warning" not in log, log
    return [float(points) / 72.27 for points in re.findall(r"WIDTH ([\d.]+)pt", log)]

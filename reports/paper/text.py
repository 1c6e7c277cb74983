"""How wide text is, in points, and how LaTeX writes it."""

from functools import cache

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import text_to_path

from ascent.records.errors import one_line

_ESCAPED = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$",
    "|": "$|$", **{character: f"\\{character}" for character in "&%$#_{}"},
}  # fmt: skip


@cache
def text_width(text: str, size: float) -> float:
    """Return the width of a text of a figure, in points."""
    return _measured(text, FontProperties(family="STIXGeneral", size=size))


@cache
def latex_width(text: str, size: float, bold: bool = False) -> float:
    """Return the width of a text in LaTeX, in points, in its default typeface, Computer Modern.

    The venues that set text in Times need less. Small sizes of the typeface are wider than the one of ten
    points, which comes with matplotlib.
    """
    font = FontProperties(family="cmb10" if bold else "cmr10", size=size * (1 + 0.05 * (10 - size)))
    plain = "".join(c if c.isascii() and c != "_" else "M" for c in text)  # it has few other glyphs
    return _measured(plain, font)


def _measured(text: str, font: FontProperties) -> float:
    width, _, _ = text_to_path.get_text_width_height_descent(text, font, ismath=False)
    return float(width)


def latex_text(text: str) -> str:
    """Return a text that LaTeX shows as it is."""
    return "".join(_ESCAPED.get(character, character) for character in one_line(text))

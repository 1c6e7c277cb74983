"""Equations: from the LaTeX that arithmatex marks to MathML."""

import html
import re

from latex2mathml.converter import convert

INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def as_mathml(page: str) -> str:
    """Return the HTML of a page with its equations as MathML."""
    page = BLOCK.sub(lambda match: f'<div class="equation">{_convert(match[1], "block")}</div>', page)
    return INLINE.sub(lambda match: _convert(match[1], "inline"), page)


def _convert(latex: str, display: str) -> str:
    return convert(html.unescape(latex).strip(), display=display)

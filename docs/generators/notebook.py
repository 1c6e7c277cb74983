"""The tutorial: a notebook, stored with what its cells printed and drew, as a page."""

import base64
import re
from functools import cache
from typing import Any

import nbformat

from docs.generators.places import DOCS, ROOT

FILE = ROOT / DOCS / "tutorial.ipynb"
ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")  # colours of a terminal


@cache
def read() -> Any:
    """Return the notebook."""
    return nbformat.read(FILE, as_version=4)


def page() -> str:
    """Return the page: text, code, and below each cell its output."""
    parts = []
    for k, cell in enumerate(read().cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        parts += [_shown(output, k) for output in cell.outputs]
    return "\n\n".join(parts) + "\n"


def _shown(output: Any, cell: int) -> str:
    if output.output_type == "stream":
        return f"```text\n{ESCAPES.sub('', output.text).rstrip()}\n```"
    if "image/png" in output.data:
        return f"![What the code above draws](tutorial/{cell}.png)"
    if "text/html" in output.data:
        return f'<div class="output" markdown="0">\n{output.data["text/html"]}\n</div>'
    return f"```text\n{output.data['text/plain']}\n```"


def pictures() -> dict[str, bytes]:
    """Return the pictures of the notebook, by their place on the site."""
    return {
        f"tutorial/{k}.png": base64.b64decode(output.data["image/png"])
        for k, cell in enumerate(read().cells)
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    }

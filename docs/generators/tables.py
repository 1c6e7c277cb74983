"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table in Markdown. Line breaks in cells become blanks, and a bar stays a bar."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cell(value) for value in line)} |\n" for line in lines)


def cell(value: object) -> str:
    """Return the text of a cell of a table. A bar within code needs no escape."""
    parts = " ".join(str(value).split()).split("`")
    return "`".join(part if k % 2 else part.replace("|", "\\|") for k, part in enumerate(parts))


def code(value: object) -> str:
    """Return a value as code; nothing for no value."""
    return f"`{value}`" if str(value) else ""

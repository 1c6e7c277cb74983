"""Tables as lists of columns over rows: full precision for CSV, text for the page, Markdown and LaTeX."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import pandas as pd

from ascent.records.errors import one_line

Row = TypeVar("Row")


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table.

    Attributes:
        value: the value of a row in full precision; None or NaN where there is none.
        key: name in the CSV file; "" for a column that is not in it.
        head: heading on the page, in Markdown and LaTeX; "" for a column that is not shown.
        text: the shown text of a row (default: `value` as a string).
        numeric: right-aligned, and sorted by `value` on the page.
        optional: left out where no row has a value.
    """

    value: Callable[[Row], Any]
    key: str = ""
    head: str = ""
    text: Callable[[Row], str] | None = None
    numeric: bool = False
    optional: bool = False

    def shown(self, row: Row) -> str:
        """Return the text of a row."""
        return self.text(row) if self.text else str(self.value(row))


@dataclass(frozen=True)
class Table:
    """A table in its two forms, which have the same rows.

    `data` has full precision, `shown` has text. `sort_values` maps the heading of each numeric column to the
    values to sort by.
    """

    name: str  # of its files
    title: str
    data: pd.DataFrame
    shown: pd.DataFrame
    sort_values: dict[str, list[Any]]


def make_table(
    name: str, title: str, rows: Sequence[Row], columns: Sequence[Column[Row]], keep_header: bool = True
) -> Table:
    """Return the table of these columns over these rows.

    `columns` are in the order of the CSV file and in the order of the page. Without rows, `keep_header` False
    leaves an empty CSV file instead of a header.
    """
    columns = [c for c in columns if not c.optional or any(c.value(row) for row in rows)]
    in_csv = [column for column in columns if column.key and (rows or keep_header)]
    on_page = [column for column in columns if column.head]
    data = pd.DataFrame({column.key: [column.value(row) for row in rows] for column in in_csv})
    shown = pd.DataFrame(
        {column.head: [column.shown(row) for row in rows] for column in on_page}, dtype=object
    )
    sort_values = {column.head: [column.value(row) for row in rows] for column in on_page if column.numeric}
    return Table(name, title, data, shown, sort_values)


def markdown(table: Table) -> str:
    """Return the table in Markdown, for a README or an issue."""
    heads = list(table.shown)
    rule = ["---:" if head in table.sort_values else "---" for head in heads]
    lines = [heads, rule, *table.shown.to_numpy().tolist()]
    return "\n".join(map(_markdown_row, lines)) + "\n"


def latex(table: Table) -> str:
    """Return the table as a tabular for a paper that loads the package booktabs."""
    form = "".join("r" if head in table.sort_values else "l" for head in table.shown)
    shown = table.shown.map(one_line)  # an empty line would end a row
    text = shown.to_latex(index=False, escape=True, column_format=f"@{{}}{form}@{{}}")
    # Hyphens before numbers are minus signs; < and > are other characters in LaTeX's default encoding.
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text).replace("<", "$<$").replace(">", "$>$")
    return "% needs \\usepackage{booktabs}\n" + text


def csv(data: pd.DataFrame) -> str:
    """Return a table as CSV. A spreadsheet takes no text in it for a formula."""
    text = data.select_dtypes(exclude="number").columns
    guarded = data.assign(**{name: data[name].map(_no_formula) for name in text}).rename(columns=_no_formula)
    # Fifteen digits: the last ones of a sum depend on the processor.
    return guarded.to_csv(index=False, lineterminator="\n", float_format="%.15g")


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@")) else value


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(map(_markdown_text, cells)) + " |"


def _markdown_text(cell: str) -> str:
    """Return a text that Markdown shows as it is: no markup, no link, no HTML, no other column."""
    text = re.sub(r"[\\|`*]|\](?=\()", r"\\\g<0>", one_line(cell))
    return text.replace("&", "&amp;").replace("<", "&lt;")

"""Import direction: statistics know neither the page nor the checks; the page knows no checks."""

import ast
from pathlib import Path

import pytest

from ascent import reports

FOLDER = Path(reports.__file__).parent
ALLOWED = {
    "statistics": ("ascent.records", "ascent.reports.statistics"),
    "page": ("ascent.records", "ascent.reports.statistics", "ascent.reports.page"),
}


def imported(path: Path) -> set[str]:
    """Every module that a file imports from this package."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.partition(".")[0] == "ascent"}


@pytest.mark.parametrize("part", ALLOWED)
def test_imports_go_one_way(part: str) -> None:
    files = sorted((FOLDER / part).glob("*.py"))
    assert len(files) > 5
    for path in files:
        for name in imported(path):
            assert name.startswith(ALLOWED[part]), f"{path.name} imports {name}"

"""The structure of the package: import directions, module sizes, and record file names in one place."""

import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

from ascent.records import layout

ROOT = Path(__file__).parents[1]

# Each part of the package and the parts that it may import. `ascent` is the API and the command line.
MAY_IMPORT = {
    "ascent": {"slurm", "reports", "runners", "records", "algorithms", "kernels", "suites"},
    "slurm": {"reports", "runners", "records"},
    "reports": {"runners", "records", "suites"},
    "runners": {"records", "algorithms", "kernels", "suites"},
    "records": set(),
    "algorithms": {"kernels"},
    "kernels": set(),
    "suites": set(),
}
# Inside of reports: numbers know no page, and neither knows who checks, mirrors or cites them.
REPORTS_MAY_IMPORT = {
    "statistics": {"statistics"},
    "page": {"statistics", "page"},
    "paper": {"statistics", "page", "paper", "replacing"},
}
NO_TORCH = ("records", "slurm", "reports/statistics", "reports/page", "reports/paper", "suites")
MOST_LINES = 400  # of a module
TASK_FILES = {"suites/mujoco.py", "suites/particle.py"}
MOST_LINES_OF_AN_ALGORITHM = 360


def modules(root: Path) -> list[Path]:
    """Return all modules of the package in a checkout."""
    return sorted(path for part in MAY_IMPORT for path in (root / part).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Return the line and the name of everything that a module imports, inside of functions too."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def wrong_imports(root: Path) -> list[str]:
    """Return every import that goes up, or reaches for what the part must do without."""
    found = []
    for path in modules(root):
        place = path.relative_to(root)
        part = place.parts[0]
        for line, name in imports(path):
            target = name.split(".")
            where = f"{place}:{line} imports {name}"
            if name.startswith("."):
                found.append(f"{where}: relative")
            elif target[0] in MAY_IMPORT and target[0] != "ascent":
                found.append(f"{where}: not as a part of ascent")
            elif target[0] == "ascent" and len(target) > 1 and target[1] in MAY_IMPORT:
                if target[1] not in {part, *MAY_IMPORT[part]}:
                    found.append(f"{where}: {part} may import {sorted(MAY_IMPORT[part]) or 'no other part'}")
                allowed = (
                    REPORTS_MAY_IMPORT.get(place.parts[1], {*target}) if part == "reports" else {*target}
                )
                if target[1] == "reports" and len(target) > 2 and target[2] not in allowed:
                    found.append(f"{where}: {place.parts[1]} may import {sorted(allowed)}")
            elif target[0] == "torch" and place.as_posix().startswith(NO_TORCH):
                found.append(f"{where}: works without torch")
    return sorted(set(found))


def test_imports_go_one_way() -> None:
    assert wrong_imports(ROOT) == []


def test_a_wrong_import_is_found(tmp_path: Path) -> None:
    """Planted at module level and inside of a function; each is named."""
    for part in MAY_IMPORT:
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    planted = {
        "suites/spec.py": "from ascent.records import files",
        "algorithms/sac.py": "import ascent.suites",
        "records/plan.py": "def seeds() -> None:\n    import torch",
        "runners/pool.py": "from ascent import reports",
        "reports/statistics/study.py": "from ascent.reports.page import tables",
        "slurm/task.py": "import records",
    }
    for name, line in planted.items():
        path = tmp_path / name
        path.write_text(f"{path.read_text()}\n{line}\n")
    found = wrong_imports(tmp_path)
    assert {line.partition(":")[0] for line in found} == set(planted)


def test_module_sizes() -> None:
    """Long modules are hard to read; an algorithm file reads like its paper."""
    lines = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in modules(ROOT)}
    long = {name: n for name, n in lines.items() if n > MOST_LINES and name not in TASK_FILES}
    assert not long
    algorithms = {name: n for name, n in lines.items() if name.count("/") == 1 and "algorithms/" in name}
    assert not {name: n for name, n in algorithms.items() if n > MOST_LINES_OF_AN_ALGORITHM}


def test_record_files_are_named_in_one_place() -> None:
    """A name of a record file is a constant of records/layout.py; nowhere else does it stand as a literal."""
    names = {layout.CELL, layout.RUN, layout.RESULT, layout.PROGRESS, *layout.RESULT_FILES, *layout.COMPACT}
    literals = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.value}"
        for path in modules(ROOT)
        if path != ROOT / "records" / "layout.py"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert literals == []

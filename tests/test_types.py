"""The package is typed: `make lint` finds a wrong argument, also across two folders."""

import shutil
from pathlib import Path

import pytest

from tests.typecheck import FOLDERS, ROOT, check


@pytest.mark.slow
def test_a_wrong_argument_across_folders_is_found(tmp_path: Path) -> None:
    """In a module without torch, whose types take a minute to read; `make lint` checks the whole package."""
    for part in ("ascent", *FOLDERS):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    target = ("-m", "ascent.runners.estimate")
    assert (done := check(tmp_path, target)).returncode == 0, done.stdout
    with (tmp_path / "runners" / "estimate.py").open("a") as file:
        file.write("\n\ndef planted(cell: Cell) -> Path:\n    return cell.folder(5)\n")
    done = check(tmp_path, target)
    assert done.returncode == 1
    assert "runners/estimate.py" in done.stdout
    assert 'has incompatible type "int"; expected "Path"' in done.stdout

"""The Python API as its user meets it: from another working folder, in a plain script."""

import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys
from pathlib import Path

import ascent

assert not {"torch", "pandas", "numpy"} & set(sys.modules), "importing ascent is cheap"
assert ascent.__version__.count(".") == 2
small = dict(steps=64, overrides={"steps": 16, "envs": 2}, evaluations=2, episodes=1, runs="mine")
folder = ascent.train("a2c", "CartPole-v1", seeds=range(3), pack=2, **small)
assert folder.parent == Path("mine/classic/CartPole-v1"), folder
assert all((folder / f"seed-{seed}" / "result.json").exists() for seed in range(3))
times = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
assert ascent.train("a2c", "CartPole-v1", seeds=[2, 0], **small) == folder
assert times == {path: path.stat().st_mtime_ns for path in folder.rglob("*")}, "nothing is trained twice"
(cell,) = ascent.load("mine")
assert [run.state for run in cell.runs] == ["done"] * 3
page = ascent.report("mine", Path("page"))
assert page.name == "index.html" and "a2c" in page.read_text()
try:
    ascent.train("a2cc", "CartPole-v1")
except ascent.records.errors.InputError as error:
    print(error)
"""


def test_train_load_report(tmp_path: Path) -> None:
    """Train, load and report; packages in the working folder do not shadow those of the project."""
    for name in ("algorithms", "runners"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported from the working folder')")
    (tmp_path / "mine.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "unknown algorithm 'a2cc'; did you mean 'a2c'?\n"

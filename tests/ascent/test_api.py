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
frames = ascent.read("mine")
assert list(frames.runs.state) == ["done"] * 3 and list(frames.cells.finished) == [3]
curves = frames.curves[frames.curves.policy == "greedy"]
assert list(curves[curves.step == 64].seed) == [0, 1, 2], curves
last = curves[curves.step == 64].set_index("seed")["return"]
assert (frames.runs.set_index("seed").score == last).all()
assert frames.episodes.groupby("seed")["return"].size().eq(4).all(), "three greedy, one sampled"
policies = [ascent.load(folder / "seed-1"), ascent.load(frames.cells.digest[0], 1, "mine")]
policies.append(ascent.load(folder / "seed-1" / "policy.npz"))
assert len({p([[0.1, 0.2, 0.3, 0.4]] * 2).tolist()[0] for p in policies}) == 1
assert ascent.sweep("sweep.toml", runs="mine") == [folder]
page = ascent.report("mine", Path("page"))
assert page.name == "index.html" and "a2c" in page.read_text()
try:
    ascent.train("a2cc", "CartPole-v1")
except ascent.records.errors.InputError as error:
    print(error)
"""

SWEEP = """
seeds = "0-2"
evaluations = 2
episodes = 1
[[cells]]
algorithms = ["a2c"]
tasks = ["CartPole-v1"]
steps = 64
set = { steps = 16, envs = 2 }
"""


def test_train_load_report(tmp_path: Path) -> None:
    """Train, load and report; packages in the working folder do not shadow those of the project."""
    for name in ("algorithms", "runners"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise RuntimeError('imported from the working folder')")
    (tmp_path / "mine.py").write_text(SCRIPT)
    (tmp_path / "sweep.toml").write_text(SWEEP)
    done = subprocess.run([sys.executable, "mine.py"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "unknown algorithm 'a2cc'; did you mean 'a2c'?\n"

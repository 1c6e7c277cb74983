"""`ascent conform`: what it lets pass, and that each of its tests can fail."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.records.errors import InputError
from ascent.runners import conform_algorithm as conform
from ascent.runners import own
from tests.command import call

FOLDER = own.TEMPLATES
NN = (FOLDER / "torch_nn.py").read_text()
EXACT = ["CartPole-v1"]


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    yield
    for name in set(SYSTEMS) - own.SUITE:
        del SYSTEMS[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["seed_axis", "torch_nn"])
def test_templates_pass(name: str) -> None:
    """Everything, on discrete and continuous actions."""
    checks = list(conform.conform(str(FOLDER / f"{name}.py")))
    assert [check for check in checks if check.grade == conform.FAIL] == []
    passed = [check for check in checks if check.grade == conform.PASS]
    assert len(passed) == len(checks) == 2 * 7 + 8
    assert not any("probe" in task for task in suites.TASKS)


def test_a_template_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """On discrete actions and without probes, to save time."""
    monkeypatch.setattr(conform, "TASKS", EXACT)
    monkeypatch.setattr(conform.probes, "PROBES", {})
    checks = list(conform.conform(str(FOLDER / "seed_axis.py")))
    assert [check for check in checks if check.grade != conform.PASS] == []
    assert len(checks) == 7


# What makes a test fail, by its name: edits of the template for torch.nn.
STEP = "        self.optimiser.step()\n"
EDITS = {
    "the same twice": [
        ("        if explore:\n", "        if explore and np.random.rand() < 0.5:\n"),
        ("import torch\n", "import numpy as np\nimport torch\n"),
    ],
    "the same in any pack": [
        ("class Learner:\n", "made = []\n\n\nclass Learner:\n"),
        ("        self.config = config\n", "        self.config = config\n        made.append(0)\n"),
        ("lr=config.learning_rate)", "lr=config.learning_rate * len(made))"),
    ],
    "the same after a kill": [
        ("        self.config = config\n", "        self.config = config\n        self.memory = {0.0}\n"),
        (STEP, STEP + "        self.memory.add(float(norm.detach()))\n"),
        ("returns - self.value", "len(self.memory) * returns - self.value"),
    ],
    "the same beside a NaN": [
        ("class Learner:\n", "total = [0.0]\n\n\nclass Learner:\n"),
        (STEP, "        total[0] += float(policy_loss.detach())\n        self.optimiser.step()\n"),
        ("returns - self.value(batch.obs)", "returns + 0 * total[0] - self.value(batch.obs)"),
    ],
    "the same if evaluated more often": [
        ("        self.config = config\n", "        self.config = config\n        self.calls = 0\n"),
        ("        if explore:\n", "        self.calls += 1\n        if explore:\n"),
    ],
    "every parameter moves": [("self.policy, self.value, self.log_std)", "self.policy, self.log_std)")],
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [name if name == "the same twice" else pytest.param(name, marks=pytest.mark.slow) for name in EDITS],
)
def test_each_test_can_fail(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = NN
    for old, new in EDITS[name]:
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.setattr(conform, "TASKS", EXACT)
    monkeypatch.setattr(conform.probes, "PROBES", {})
    checks = conform.conform(str(tmp_path / "broken.py"))
    check = next(check for check in checks if check.name == name)
    assert check.grade == conform.FAIL


def test_probes_can_fail(tmp_path: Path) -> None:
    """Whoever takes a time limit for the end learns another value."""
    text = (FOLDER / "seed_axis.py").read_text()
    old = "following = torch.where(batch.truncated[:, t] > 0, value[:, t], following)"
    assert old in text
    wrong = old.replace("value[:, t]", "torch.zeros_like(following)")
    (tmp_path / "broken.py").write_text(text.replace(old, wrong))
    system = own.name_of(str(tmp_path / "broken.py"))
    with conform.probes.listed():
        assert "values at [1.0] are" in conform._probe(system, "time-limit", "discrete")
        assert conform._probe(system, "follow", "discrete") == ""


def test_new(tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert call(capsys, "new", "algorithm", "mine.py")[:2] == (0, "mine.py\n")
    assert Path("mine.py").read_text().startswith('"""mine: ')
    for words, message in (
        (("algorithm", "mine.py"), "mine.py exists"),
        (("algorithm", "ppo.py"), "the suite has an algorithm 'ppo'"),
        (("algorithm", "mine"), "an algorithm's file ends in .py"),
        (("algorithms", "yours.py"), "did you mean 'algorithm'?"),
    ):
        code, _, err = call(capsys, "new", *words)
        assert (code, len(err.splitlines())) == (2, 1)
        assert message in err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.py"]


def test_what_cannot_be_tested(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown algorithm 'ppp'; did you mean 'ppo'"):
        list(conform.conform("ppp"))

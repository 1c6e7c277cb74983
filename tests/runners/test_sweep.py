"""Sweeps: summaries; baselines that are systems or single settings; the arms of RPC and their control."""

from pathlib import Path

import pytest

from ascent.records import ledger
from ascent.records.errors import InputError
from ascent.runners import sweep
from ascent.runners.resolve import describe
from tests.command import call

TWO = """
seeds = "0-2"
report = { baseline = "BASELINE" }
[[cells]]
algorithms = ["rpc"]
tasks = ["Pendulum-v1", "Hopper-v5"]
preset = "code"
[[cells]]
algorithms = ["rpc", "sac"]
tasks = ["Pendulum-v1"]
preset = "code"
set = { batch = 64 }
"""


def load(baseline: str, folder: Path) -> sweep.Sweep:
    path = folder / "two.toml"
    path.write_text(TWO.replace("BASELINE", baseline))
    return sweep.load(str(path))


@pytest.mark.parametrize("baseline", ["rpc", "rpc (code)"])
def test_baseline(baseline: str, tmp_path: Path) -> None:
    assert load(baseline, tmp_path).declared.baseline == baseline


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ("sac", "baseline 'sac' has no cell on Hopper-v5"),
        ("rpc (code with batch=64)", "baseline 'rpc (code with batch=64)' has no cell on Hopper-v5"),
        ("rpc (code with batch=46)", "did you mean 'rpc (code with batch=64)'?"),
        ("rpc code", "unknown baseline 'rpc code'; did you mean 'rpc (code)'?"),
        ("xyz", "unknown baseline 'xyz'; valid: rpc, sac, rpc (code with batch=64), rpc (code), sac (code"),
    ],
)
def test_other_baselines_are_refused(baseline: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        load(baseline, tmp_path)
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["robustness", "robustness_small"])
def test_arms_of_rpc(name: str) -> None:
    """On every task all of them, which differ from RPC and from each other only in what makes the arm."""
    loaded = sweep.load(name)
    cells = [plan.cell for plan in loaded.planned if plan.cell.system == "rpc"]
    arms = {"bottleneck", "rate", "learned_prior", "cost_in_reward", "first_lambda"}
    for task in {plan.cell.task for plan in loaded.planned}:
        own = [cell for cell in cells if cell.task == task]
        (usual,) = (c for c in own if c.preset in ("code", "small") and not describe(c).get("changed"))
        assert usual.config["rate"] == 0.3 and len({cell.steps for cell in own}) == 1
        changes = [
            {key: value for key, value in cell.config.items() if value != usual.config[key]} for cell in own
        ]
        assert all(change.keys() <= arms for change in changes)
        prior, free = {"learned_prior": False}, {"rate": 100_000.0, "cost_in_reward": False}
        free |= {"first_lambda": 1e-6} if name == "robustness_small" else {}
        control = {"bottleneck": False}
        for arm in ({}, {"rate": 3.0}, control, free, prior, prior | {"cost_in_reward": False}):
            changes.remove(arm)
        assert changes == []
        (named,) = (
            cell
            for cell in own
            if loaded.declared.is_baseline(
                cell.system, sweep.setting(cell.preset, describe(cell).get("changed", {}))
            )
        )
        assert not named.config["bottleneck"]


@pytest.mark.parametrize("name", sweep.names())
def test_summary(name: str) -> None:
    """What `ascent list` counts without resolving the cells is what the sweep trains."""
    loaded = sweep.load(name)
    assert sweep.summary(name) == (loaded.title, sum(len(plan.seeds) for plan in loaded.planned))


def test_further_tables_are_kept(tmp_path: Path) -> None:
    """Also arrays of tables, and dates; they are in the digest. A misspelt key is no such table."""
    plain = load("rpc", tmp_path)
    path = tmp_path / "two.toml"
    further = '[site]\nmade = 2026-11-29\n[[claims]]\nbetter = "rpc"\n'
    path.write_text(f"{path.read_text()}\n{further}")
    kept = sweep.load(str(path))
    assert kept.tables["claims"] == [{"better": "rpc"}] and kept.planned == plain.planned
    assert len({ledger.digest(plan) for plan in (plain.plan, kept.plan)}) == 2
    plain_text = TWO.replace("BASELINE", "rpc")
    for text, message in (
        (f"{plain_text}[reports]\nestimator = 'final'\n", "did you mean 'report'"),
        (f"claim = 1\n{plain_text}", "unknown key 'claim'"),
        (f"{plain_text}[desing]\nstages = [5, 5]\n", "did you mean 'design'"),
        (f"{plain_text}[design]\nstages = [5, 6]\n", "the stages have 11 seeds, but the sweep has"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            sweep.load(str(path))


ONE = 'seeds = "0-1"\n[[cells]]\nalgorithms = ["ppo"]\ntasks = ["CartPole-v1"]\n'
WRONG = {  # what somebody may write, or a stranger who wants a traceback, and words of the answer
    "a number as a task": (ONE.replace('["CartPole-v1"]', "[1]"), "tasks must be names"),
    "a table as a task": (ONE.replace('["CartPole-v1"]', "[{a = 1}]"), "tasks must be names"),
    "nested arrays": (ONE.replace('["ppo"]', '[["ppo"]]'), "algorithms must be names"),
    "a date": (
        ONE + "set = { gamma = 2020-01-01 }\n",
        "gamma = '2020-01-01': Input should be",
    ),
    "nested widths": (ONE + "set = { hidden = [[64], [64]] }\n", "hidden.0"),
    "5,000 digits": (ONE.replace('"0-1"', f"[{'9' * 5000}]"), "digits"),
    "5,000 digits of text": (ONE.replace("0-1", "9" * 5000), "neither a whole number nor a range"),
    "too many steps": (ONE + f"steps = {'9' * 4000}\n", "steps must be at most 1,000,000,000,000"),
    "a network beyond memory": (
        ONE + "set = { hidden = [1000000, 1000000] }\n",
        "its weights take",
    ),
    "deep nesting": (ONE + f"x = {'[' * 3000}{']' * 3000}\n", "recursion"),
    "no text": ("\0\1", "line 1"),
    "an escape": (
        ONE.replace("[[cells]]", '[report]\nestimator = "x\\u001b[31m"\n[[cells]]'),
        "unknown estimator",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_types_are_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text, words = WRONG[name]
    (tmp_path / "wrong.toml").write_text(text)
    code, out, err = call(capsys, "plan", str(tmp_path / "wrong.toml"), "--runs", str(tmp_path / "runs"))
    assert code == 2 and not out and words in err and err.count("\n") == 1
    assert all(char.isprintable() or char == "\n" for char in err) and not (tmp_path / "runs").exists()

"""Sweeps: summaries; baselines that are systems or single settings; the arms of RPC and their control."""

from pathlib import Path

import pytest

from ascent.records import ledger
from ascent.records.errors import InputError
from ascent.runners import sweep
from ascent.runners.resolve import describe

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
    further = '[design]\nmade = 2026-11-29\n[[claims]]\nbetter = "rpc"\n'
    path.write_text(f"{path.read_text()}\n{further}")
    kept = sweep.load(str(path))
    assert kept.tables["claims"] == [{"better": "rpc"}] and kept.planned == plain.planned
    assert len({ledger.digest(plan) for plan in (plain.plan, kept.plan)}) == 2
    plain_text = TWO.replace("BASELINE", "rpc")
    for text, message in (
        (f"{plain_text}[reports]\nestimator = 'final'\n", "did you mean 'report'"),
        (f"claim = 1\n{plain_text}", "unknown key 'claim'"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            sweep.load(str(path))

"""Sweeps that name their systems: what a file means, what is refused, and an ablation from end to end."""

import csv
import json
from pathlib import Path

import pytest

from ascent.records import ledger, read, shelf
from ascent.records.errors import InputError
from ascent.runners import sweep
from ascent.runners.train import train
from ascent.slurm import manifest
from tests.command import call

ABLATION = """
title = "With and without clipping"
seeds = "0-1"
evaluations = 2
episodes = 1
tasks = ["CartPole-v1", "Acrobot-v1"]
steps = 64
[report]
baseline = "ppo"
estimator = "final"

[[systems]]
name = "ppo"
algorithm = "ppo"
set = { envs = 2, steps = 16, minibatch = 8, epochs = 1 }
on.Acrobot-v1 = { preset = "zoo", set = { gamma = 0.98 } }

[[systems]]
name = "ppo without clipping"
algorithm = "ppo"
set = { envs = 2, steps = 16, minibatch = 8, epochs = 1, clip = 1e9 }
"""
GRID = """
seeds = "0-1"
tasks = ["CartPole-v1", "Pendulum-v1"]
steps = { CartPole-v1 = 40_000 }
[[systems]]
name = "ppo"
algorithm = "ppo"
set = { gamma = 0.98 }
grid = { learning_rate = [1e-3, 3e-4], hidden = [[8], [64, 64]] }
[[systems]]
name = "dqn (double)"
algorithm = "dqn"
set = { double = true }
tasks = ["CartPole-v1"]
"""


def load(text: str, folder: Path) -> sweep.Sweep:
    (folder / "some.toml").write_text(text)
    return sweep.load(str(folder / "some.toml"))


def test_one_name_on_all_tasks(tmp_path: Path) -> None:
    """Whatever the preset and the hyperparameters are on one of them."""
    planned = load(ABLATION, tmp_path).planned
    ppo = {plan.cell.task: plan.cell for plan in planned if plan.name == "ppo"}
    other = {plan.cell.task: plan.cell for plan in planned if plan.name == "ppo without clipping"}
    assert len(planned) == 4 and ppo.keys() == other.keys() == {"CartPole-v1", "Acrobot-v1"}
    assert (ppo["CartPole-v1"].preset, ppo["Acrobot-v1"].preset) == ("cleanrl", "zoo")
    assert [ppo[task].config["gamma"] for task in ("CartPole-v1", "Acrobot-v1")] == [0.99, 0.98]
    assert {cell.config["clip"] for cell in other.values()} == {1e9}
    assert {plan.cell.steps for plan in planned} == {64} and {plan.grid for plan in planned} == {""}


def test_a_grid_is_a_system_per_setting(tmp_path: Path) -> None:
    planned = load(GRID, tmp_path).planned
    names = [
        f"ppo learning_rate={rate}, hidden={h}" for rate in ("0.001", "0.0003") for h in ("[8]", "[64, 64]")
    ]
    assert {plan.name for plan in planned if plan.grid == "ppo"} == set(names)
    assert [plan.cell.task for plan in planned if plan.name == names[0]] == ["CartPole-v1", "Pendulum-v1"]
    first = next(plan.cell for plan in planned if plan.name == names[0])
    assert first.config["learning_rate"] == 1e-3 and first.config["hidden"] == [8]
    assert first.config["gamma"] == 0.98 and first.steps == 40_000
    (dqn,) = (plan for plan in planned if plan.name == "dqn (double)")
    assert dqn.grid == "" and dqn.cell.config["double"]


def test_the_name_is_part_of_the_plan_and_of_no_cell(tmp_path: Path) -> None:
    one = load(ABLATION, tmp_path).plan
    other = load(ABLATION.replace("ppo without clipping", "unclipped"), tmp_path).plan
    assert [plan.cell.digest for plan in one.planned] == [plan.cell.digest for plan in other.planned]
    assert ledger.digest(one) != ledger.digest(other)
    assert all("name" not in plan.cell.to_json() for plan in one.planned)


def test_plans_without_names_keep_their_digest() -> None:
    """The campaign's plan, which its runs name, is still the sweep's."""
    digest = ledger.digest(sweep.load("shelf_1").plan)
    assert (shelf.current().folder / "ledger" / f"plan-{digest}.json").is_file()


def test_a_manifest_keeps_names(tmp_path: Path) -> None:
    loaded = load(GRID, tmp_path)
    made = manifest.resolve(str(tmp_path / "some.toml"), tmp_path)
    manifest.write(made)
    assert manifest.read(made.path).planned == loaded.planned
    content = json.loads(made.path.read_text())
    content["cells"][0]["name"] = "<b>ppo</b>"
    made.path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"is damaged: cells\.0\.name"):
        manifest.read(made.path)


TWO = ABLATION[: ABLATION.index("[report]")] + ABLATION[ABLATION.index("[[systems]]") :]
BASELINE = ABLATION.replace('baseline = "ppo"', "baseline = 'X'")
CELLS = '[[cells]]\nalgorithms = ["ppo"]\ntasks = ["Acrobot-v1"]\n'
OTHER = "ppo without clipping"
WRONG = {  # what somebody may write, and words of the answer
    "both kinds": (ABLATION + CELLS, "either [[cells]] or"),
    "neither kind": ('seeds = "0"\n', "either [[cells]] or [[systems]]"),
    "no systems": ('seeds = "0"\nsystems = []\n', "none are listed"),
    "tasks beside cells": (f'seeds = "0"\ntasks = ["A"]\n{CELLS}', "each of [[cells]] has its own"),
    "two of one name": (TWO.replace(OTHER, "ppo"), "two systems have the name 'ppo'"),
    "names too alike": (TWO.replace(OTHER, "PPO"), "'ppo' and 'PPO' are too alike"),
    "a name with signs": (TWO.replace(OTHER, "ppo/<b>"), "'ppo/<b>' is no name of a system"),
    "a long name": (TWO.replace(OTHER, "p" * 65), "at most 64 letters"),
    "no name": (TWO.replace('name = "ppo"\n', ""), "missing key 'name'"),
    "one cell": (TWO.replace(", clip = 1e9", ""), f"'{OTHER}' and 'ppo' are the same cell, CartPole-v1"),
    "no such key": (TWO.replace("algorithm =", "algoritm ="), "'algoritm'; did you mean 'algorithm'?"),
    "no such algorithm": (TWO.replace('algorithm = "ppo"', 'algorithm = "ppq"'), "unknown algorithm 'ppq'"),
    "no tasks": (TWO.replace('tasks = ["CartPole-v1", "Acrobot-v1"]\n', ""), "system 'ppo': no tasks"),
    "a task twice": (TWO.replace('["CartPole-v1",', '["Acrobot-v1",'), "Acrobot-v1 is listed twice"),
    "steps of no task": (TWO.replace("= 64", "= { Acrobat-v1 = 64 }"), "did you mean 'Acrobot-v1'?"),
    "on no task": (TWO.replace("on.Acrobot", "on.Akrobot"), "'Akrobot-v1'; did you mean 'Acrobot-v1'"),
    "another baseline": (BASELINE.replace("X", "pppo"), "did you mean 'ppo'?"),
    "a setting as baseline": (BASELINE.replace("X", "ppo (zoo)"), "'ppo (zoo)'; did you mean 'ppo'"),
    "a baseline of one task": (
        f"report = {{ baseline = 'dqn (double)' }}\n{GRID}",
        "has no cell on Pendulum-v1",
    ),
    "a grid as baseline": (f"report = {{ baseline = 'ppo' }}\n{GRID}", "unknown baseline 'ppo'"),
    "an empty grid": (
        GRID.replace("{ learning_rate = [1e-3, 3e-4], hidden = [[8], [64, 64]] }", "{}"),
        "no h",
    ),
    "one value": (GRID.replace("[1e-3, 3e-4]", "1e-3"), "learning_rate must be an array of values"),
    "a value twice": (GRID.replace("3e-4", "0.001"), "learning_rate has 0.001 twice"),
    "a date": (GRID.replace("3e-4", "2026-11-30"), "is no number, text or list of them"),
    "in grid and set": (GRID.replace("gamma = 0.98", "hidden = [8]"), "hidden is in grid and in set"),
    "no such parameter": (GRID.replace("learning_rate", "learning_rat"), "did you mean 'learning_rate'?"),
    "a huge grid": (GRID.replace("[1e-3, 3e-4]", str([*range(1, 1001)])), "has more than 1,000 systems"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_input_is_one_line(name: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    text, words = WRONG[name]
    (tmp_path / "wrong.toml").write_text(text)
    code, out, err = call(capsys, "sweep", str(tmp_path / "wrong.toml"), "--runs", str(tmp_path / "runs"))
    assert code == 2 and not out and words in err and err.count("\n") == 1, err
    assert not (tmp_path / "runs").exists()


def test_the_size_is_told_before_anything_is_spent(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "some.toml").write_text(GRID)
    words = ("sweep", str(tmp_path / "some.toml"), "--dry-run", "--runs", str(tmp_path / "runs"))
    code, out, _ = call(capsys, *words)
    assert code == 0 and "18 runs of 9 cells; 18 missing" in out and "dqn (double)" in out
    assert not (tmp_path / "runs").exists()


def rows(report: Path, table: str) -> list[dict[str, str]]:
    with (report / "tables" / f"{table}.csv").open() as file:
        return list(csv.DictReader(file))


def test_an_ablation_from_end_to_end(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Both systems are whole across tasks, the baseline is one of them, and the folder has their names.

    Renamed, the sweep has nothing to train.
    """
    file, runs, out = tmp_path / "ablation.toml", tmp_path / "runs", tmp_path / "out"
    file.write_text(ABLATION)
    plan = sweep.load(str(file)).plan
    declared = ledger.declare(plan, runs)
    for planned in plan.planned:  # in this process, which saves starting four
        assert train(planned.cell, planned.seeds, runs, plan=declared)
    assert "nothing to do" in call(capsys, "sweep", str(file), "--runs", str(runs))[2]
    assert call(capsys, "report", str(file), "--runs", str(runs), "--out", str(out))[0] == 0
    both = ["ppo", "ppo without clipping"]
    assert [row["system"] for row in rows(out, "aggregates")] == both
    assert {row["tasks"] for row in rows(out, "aggregates")} == {"classic/Acrobot-v1 classic/CartPole-v1"}
    assert [(row["x"], row["y"]) for row in rows(out, "comparisons")] == [tuple(both)] * 2
    assert [(row["task"], row["name"]) for row in rows(out, "scores")] == [
        (task, name) for task in ("Acrobot-v1", "CartPole-v1") for name in both
    ]
    page = (out / "index.html").read_text()
    assert "every system against ppo" in page and "were declared before the first run" in page
    assert [cell.name for cell in read.find(runs)[0]] == both * 2
    checked = call(capsys, "check", str(runs), "--sweep", str(file))[1]
    assert "as-declared          pass" in checked and "one-configuration    pass" in checked
    file.write_text(ABLATION.replace("ppo without clipping", "unclipped"))
    assert "nothing to do" in call(capsys, "sweep", str(file), "--runs", str(runs))[2]

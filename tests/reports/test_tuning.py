"""Tuning: the same trials however often it was stopped, tuning seeds only, presets that tell the cost."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ascent.records.cell import Evaluation
from ascent.records.declared import Declared
from ascent.records.errors import DamagedFile, InputError
from ascent.records.expected import Expected
from ascent.records.plan import Plan, Planned
from ascent.reports.report import analysed, build
from ascent.reports.tuning import figure, record
from ascent.reports.tuning.declaration import Tuning, declare
from ascent.reports.tuning.search import PRUNED, REFUSED, Trial, best, importances, search
from ascent.runners import spaces, sweep
from ascent.runners.resolve import describe, resolve
from ascent.slurm import manifest
from tests.command import call
from tests.reports.conftest import Records, write_json

SPACE = {
    "learning_rate": {"low": 1e-5, "high": 1e-2, "log": True},
    "gamma": {"choices": [0.9, 0.95, 0.99]},
    "epochs": {"low": 1, "high": 20},
}
TINY = ("--steps", "2000", "--evaluations", "2", "--episodes", "2")


def tuning(trials: int = 14, space: Mapping[str, Any] = SPACE, **others: Any) -> Tuning:
    """PPO on CartPole, or on other tasks."""
    tasks = others.pop("tasks", ["CartPole-v1"])
    words = {"steps": 20_000, "evaluation": Evaluation(10, 10), "preset": "small", "round": 3, **others}
    return declare("ppo", tasks, space=spaces.parse(space, "ppo"), trials=trials, **words)


class Stopped(Exception):
    """In the place of a kill."""


class Trainer:
    """In the place of training: writes synthetic runs, whose score depends on the cell and the seed alone.

    Of the runs that it is asked for it writes `most`, and then stops.
    """

    def __init__(self, folder: Path, most: int = 10**6) -> None:
        self.store, self.most = Records(folder), most
        self.trained = list[int]()

    def __call__(self, plan: Plan) -> None:
        for planned in plan.planned:
            cell = planned.cell
            folder = cell.folder(self.store.runs)
            for seed in cell.missing(planned.seeds, self.store.runs):
                if len(self.trained) == self.most:
                    raise Stopped
                write_json(folder / "cell.json", describe(cell))
                level = 400 - 40 * abs(math.log10(cell.config["learning_rate"]) + 3)
                level += 100 * cell.config["gamma"] + 3 * ((seed * 7919) % 5)
                self.store.run(folder, seed, [20.0] + [level] * 10, packages={"torch": "2.13.0"})
                self.trained.append(seed)


def tuned(folder: Path, declared: Tuning, most: int = 10**6) -> list[Trial]:
    """Tune in a folder as the command does."""
    log, done = record.Record(declared, folder), []
    for done in search(declared, folder / "runs", Trainer(folder, most)):
        log.write(done)
    log.finish(done)
    return done


def test_a_stopped_tuning_ends_with_the_same_trials(tmp_path: Path) -> None:
    """Stopped after any number of runs, again and again: the record has the same bytes."""
    whole = tuned(tmp_path / "whole", tuning(12))
    expected = (tmp_path / "whole" / "tuning.json").read_bytes()
    assert len(whole) == 12 and {trial.state for trial in whole} == {"complete", "pruned"}
    for most in (5, 11):
        folder, calls = tmp_path / f"stopped-{most}", 0
        while True:
            calls += 1
            try:
                tuned(folder, tuning(12), most)
                break
            except Stopped:
                continue
        assert calls > 1 and (folder / "tuning.json").read_bytes() == expected
        assert (folder / "preset.toml").read_bytes() == (tmp_path / "whole" / "preset.toml").read_bytes()


def test_another_sampler_seed_is_another_tuning(tmp_path: Path) -> None:
    """And so the test above can fail; the folder of one is refused to the other, by name."""
    first = tuned(tmp_path / "a", tuning(6))
    second = tuned(tmp_path / "b", tuning(6, sampler_seed=1))
    assert first[0].values == second[0].values  # the preset
    assert [t.values for t in first[1:]] != [t.values for t in second[1:]]
    with pytest.raises(
        InputError, match="another tuning: sampler_seed was 0, is now 1; choose another --out"
    ):
        record.Record(tuning(6, sampler_seed=1), tmp_path / "a")


def test_more_trials(tmp_path: Path) -> None:
    """A tuning that gets more trials is the one that had them from the start; fewer are refused."""
    tuned(tmp_path / "grown", tuning(7))
    tuned(tmp_path / "grown", tuning(12))
    tuned(tmp_path / "whole", tuning(12))
    grown, whole = (tmp_path / name / "tuning.json" for name in ("grown", "whole"))
    assert grown.read_bytes() == whole.read_bytes()
    with pytest.raises(InputError, match="has 12 trials already"):
        record.Record(tuning(7), tmp_path / "grown")


def test_a_changed_record_is_refused(tmp_path: Path) -> None:
    """A score that the runs do not give."""
    tuned(tmp_path, tuning(4))
    path = tmp_path / "tuning.json"
    content = json.loads(path.read_text())
    content["trials"][2]["score"] += 1.0
    path.write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match="trial 2 is not what its runs give: score was"):
        tuned(tmp_path, tuning(4))


def test_the_search_finds_what_is_better(tmp_path: Path) -> None:
    """Scores peak at a learning rate of 1e-3; trial 0 is the preset, and the importances name what counts."""
    declared = tuning(40, pruner="none")
    trials = tuned(tmp_path, declared)
    found = best(trials)
    assert trials[0].values == {"learning_rate": 3e-4, "gamma": 0.99, "epochs": 10}
    assert found.score is not None and trials[0].score is not None and found.score > trials[0].score
    assert abs(math.log10(found.values["learning_rate"]) + 3) < 0.2 and found.values["gamma"] == 0.99
    assert next(iter(importances(declared, trials))) == "learning_rate"
    assert all(value == float(f"{value:.4g}") for value in (t.values["learning_rate"] for t in trials))


def test_pruned_trials_have_whole_runs_of_fewer_seeds(tmp_path: Path) -> None:
    """What is given up saves whole runs, and no trial in which less than all seeds trained is the best."""
    declared = tuning(20, seeds=(1000, 1001, 1002, 1003))
    trials = tuned(tmp_path, declared)
    pruned = [trial for trial in trials if trial.state == PRUNED]
    assert declared.rungs == (1, 2, 4) and pruned
    for trial in pruned:
        folder = trial.cells[0].folder(tmp_path / "runs")
        assert trial.seeds < 4 and len(list(folder.glob("seed-*"))) == trial.seeds
    assert best(trials).seeds == 4
    assert sum(trial.core_seconds for trial in trials) == 1200 * sum(trial.seeds for trial in trials)


def test_refused_values(tmp_path: Path) -> None:
    """Values that contradict each other cost a trial and no run; a space of such values only is refused."""
    space = {"minibatch": {"choices": [64, 96]}, "steps": {"choices": [2048, 100_000]}}
    trials = tuned(tmp_path / "some", tuning(10, space, sampler="random"))
    refused = [trial for trial in trials if trial.state == REFUSED]
    assert refused and not any(trial.cells for trial in refused) and "minibatch" in refused[0].reason
    with pytest.raises(InputError, match="no trial can be trained: ppo: minibatch"):
        tuned(tmp_path / "all", tuning(3, {"minibatch": {"choices": [96, 100]}}))


def test_several_tasks_are_scored_by_normalised_scores(tmp_path: Path) -> None:
    """A trial has a cell on each; its score is the mean of normalised ones."""
    declared = tuning(2, tasks=["CartPole-v1", "Acrobot-v1"])
    trial = tuned(tmp_path, declared)[0]
    assert [cell.task for cell in trial.cells] == ["CartPole-v1", "Acrobot-v1"]
    anchors = {cell.task: describe(cell)["spec"] for cell in trial.cells}
    expected = [
        (sum(scores) / 3 - anchors[task]["random_score"])
        / (anchors[task]["reference_score"] - anchors[task]["random_score"])
        for task, scores in trial.scores.items()
    ]
    assert trial.score == pytest.approx(sum(expected) / 2)


def test_the_figure(tmp_path: Path) -> None:
    """The same trials give the same bytes, in two formats."""
    trials = tuned(tmp_path, tuning())
    paths = figure.write(tuning(), trials, tmp_path)
    before = [path.read_bytes() for path in paths]
    assert [path.name for path in paths] == ["sensitivity.png", "sensitivity.pdf"]
    assert before == [path.read_bytes() for path in figure.write(tuning(), trials, tmp_path)]
    assert len(figure.draw(tuning(), trials).axes) == len(SPACE)


@pytest.mark.parametrize(
    "words, error",
    [
        (("--seeds", "0-2"), "seeds: 0 is a reporting seed: tune on seeds from 1000 up, such as 1000-1002"),
        (("--seeds", "999-1001"), "seeds from 1000 up are for tuning"),
        (("--trials", "0"), "trials must be from 1 to 10,000, not 0"),
        (("--sampler", "tpee"), "unknown sampler 'tpee'; did you mean 'tpe'?"),
        (("--pruner", "medain"), "unknown pruner 'medain'; did you mean 'median'?"),
        (("--sampler-seed", "-1"), "sampler-seed must be from 0"),
        (("--estimator", "finale"), "unknown estimator 'finale'; did you mean 'final'?"),
        (("--set", "gama=0.9"), "unknown hyperparameter of ppo 'gama'; did you mean 'gamma'?"),
        (("--space", "nowhere.toml"), "nowhere.toml: No such file"),
        (("CartPole-v1",), "CartPole-v1 is listed twice"),
        (("Pendulm-v1",), "unknown task 'Pendulm-v1'; did you mean 'Pendulum-v1'?"),
    ],
)
def test_mistakes(
    words: tuple[str, ...], error: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """One line that names the culprit, exit code 2, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    code, _, said = call(capsys, "tune", "ppo", "CartPole-v1", *words)
    assert code == 2 and error in said and said.count("\n") == 1 and not list(tmp_path.iterdir())


def preset_of(folder: Path) -> Path:
    """The preset of a tuning in a folder."""
    trials = tuned(folder, tuning(4))
    assert best(trials).number
    return folder / "preset.toml"


def test_a_sweep_takes_the_preset(tmp_path: Path) -> None:
    """As seen from the sweep's file. The cell is that of the same settings, and knows their origin."""
    path = preset_of(tmp_path / "tuning")
    (tmp_path / "two.toml").write_text(
        'seeds = "0-4"\ntasks = ["CartPole-v1"]\nsteps = 20_000\n[report]\nbaseline = "ppo"\n'
        '[[systems]]\nname = "ppo"\nalgorithm = "ppo"\npreset = "small"\n'
        '[[systems]]\nname = "ppo tuned"\nalgorithm = "ppo"\npreset = "tuning/preset.toml"\n'
    )
    two = str(tmp_path / "two.toml")
    plain, cell = (planned.cell for planned in sweep.load(two).planned)
    assert plain.tuned is None and cell.preset == "small" and cell.tuned is not None
    assert cell.tuned["trials"] == 4 and cell.tuned["core_hours"] == pytest.approx(12 * 1200 / 3600)
    trials = json.loads((tmp_path / "tuning" / "tuning.json").read_text())["trials"]
    values = trials[cell.tuned["trial"]]["values"]
    same = resolve("ppo", "CartPole-v1", preset="small", overrides=values, steps=20_000)
    assert same.digest == cell.digest and describe(same) == describe(cell)
    manifest.write(manifest.resolve(two, tmp_path))
    found = manifest.find(two, tmp_path)
    assert found and {one.cell.digest: one.cell.tuned for one in found.planned}[cell.digest] == cell.tuned
    path.write_text(path.read_text().replace("gamma = 0.", "gamma = 0.1"))
    with pytest.raises(InputError, match="the source code or a preset's file changed since sweep two was"):
        manifest.find(two, tmp_path)
    changed = resolve("ppo", "CartPole-v1", preset=str(path), overrides={"gamma": 0.5}, steps=20_000)
    assert changed.config["gamma"] == 0.5 and changed.digest != cell.digest


@pytest.mark.parametrize(
    "change, error",
    [
        (('system = "ppo"', 'system = "a2c"'), "is a preset of a2c, not of ppo"),
        (("[tuned]", "[tune]"), "tune"),
        (("core_hours = ", "core_hours = -"), "core_hours"),
        (("gamma", "gama"), "unknown hyperparameter of ppo 'gama'; did you mean 'gamma'?"),
    ],
)
def test_a_bad_preset_is_refused(change: tuple[str, str], error: str, tmp_path: Path) -> None:
    path = preset_of(tmp_path)
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(InputError, match=error):
        resolve("ppo", "CartPole-v1", preset=str(path))


def test_reports_tell_the_core_hours(store: Records) -> None:
    """Beside the score of every cell that came of a tuning, and of no other."""
    about = {"tuning": "0123456789ab", "trial": 3, "trials": 20, "core_hours": 0.534}
    about["tasks"] = ["CartPole-v1"]
    for system, tuned_by in (("ppo", {"tuned": about}), ("sac", {})):
        cell = store.cell(system=system, points=10)
        for seed in range(5):
            store.run(cell, seed, [20.0] + [300.0 + seed] * 10, **tuned_by)
    study = analysed(store.runs)
    counts = {summary.label: summary.counts for task in study.tasks for summary in task.cells}
    assert counts == {"ppo": "n=5, tuned in 0.53 core-hours", "sac": "n=5"}
    page = build(store.runs, store.out, declared=Declared())
    told = page.read_text()
    assert "best of 20 trials on CartPole-v1, tuned in 0.53 core-hours" in told
    assert "Not all seeds" not in told
    hours = store.scores()["tuned_core_hours"]
    assert hours["ppo"] == 0.534 and math.isnan(hours["sac"])


@pytest.mark.slow
def test_killed_and_resumed(tmp_path: Path, capsys: Any) -> None:
    """The command itself, killed with -9 while it trains; then the preset is trained and told."""
    words = ["tune", "ppo", "CartPole-v1", "--preset", "small", "--trials", "2", "--seeds", "1000-1001"]
    words += ["--round", "1", "--pruner", "none", "--jobs", "1", "--pack", "1", *TINY, "--set", "steps=256"]
    words += ["--out"]
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    command = [sys.executable, "-P", "-m", "ascent", *words, str(killed)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 300
    while not list(killed.glob("runs/*/*/*/seed-*/result.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(json.loads((killed / "tuning.json").read_text())["trials"]) < 2
    for folder in (killed, whole):
        code, out, _ = call(capsys, *words, str(folder))
        assert code == 0 and "core-hours" in out and str(folder / "preset.toml") in out
    assert (killed / "tuning.json").read_bytes() == (whole / "tuning.json").read_bytes()
    preset = str(whole / "preset.toml")
    runs = tmp_path / "runs"
    train = ["train", "ppo", "CartPole-v1", "--preset", preset, "--seeds", "0-1", *TINY, "--runs", str(runs)]
    assert call(capsys, *train)[0] == 0
    (about,) = {path.read_text() for path in runs.glob("*/*/*/seed-0/run.json")}
    assert json.loads(about)["tuned"]["trials"] == 2
    code, out, err = call(capsys, "cite", str(next(runs.glob("*/*/*"))))
    assert "tuned in" in out or "uncommitted changes" in err  # with which nothing is cited


def test_planned_cells_keep_their_tuning(tmp_path: Path) -> None:
    """Through the JSON of a manifest and of a job, without changing a digest."""
    cell = resolve("ppo", "CartPole-v1", preset=str(preset_of(tmp_path)))
    again = type(cell).from_json(json.loads(json.dumps(cell.to_json())))
    assert again.tuned == cell.tuned and again.digest == cell.digest
    assert Planned(cell, (0,)).cell.tuned


PROOF = """
seeds = "0-9"
evaluations = 5
episodes = 5
tasks = ["Pendulum-v1"]
steps = 20_000

[[systems]]
name = "ppo"
algorithm = "ppo"

[[systems]]
name = "ppo tuned"
algorithm = "ppo"
preset = "tuning/preset.toml"
"""
PROOF_SPACE = """
learning_rate = { low = 1e-4, high = 1e-2, log = true }
gamma = { choices = [0.9, 0.95, 0.98, 0.99] }
steps = { choices = [256, 512, 1024, 2048] }
epochs = { low = 5, high = 20 }
"""


@pytest.mark.slow
def test_tuned_ppo_beats_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """On Pendulum, on reporting seeds that the tuning never saw, by the report's own tests."""
    monkeypatch.chdir(tmp_path)
    Path("space.toml").write_text(PROOF_SPACE)
    Path("proof.toml").write_text(PROOF)
    words = "--space space.toml --trials 12 --seeds 1000-1001 --pruner none --steps 20000 --evaluations 5"
    tune = ["tune", "ppo", "Pendulum-v1", "--episodes", "5", "--out", "tuning", *words.split()]
    assert call(capsys, *tune)[0] == 0 and call(capsys, "sweep", "proof.toml")[0] == 0
    loaded = sweep.load("proof.toml")
    study = analysed(
        Path("runs"), [Expected.planned(one) for one in loaded.planned], declared=loaded.declared
    )
    (pair,) = study.comparisons.pairs
    (cells,) = (task.cells for task in study.tasks)
    means = {cell.label: cell.score.mean for cell in cells if cell.score}
    counts = {cell.label: cell.counts for cell in cells}
    print(means, counts, pair)
    assert pair.differs and means["ppo tuned"] > means["ppo"]
    assert counts["ppo"] == "n=10" and counts["ppo tuned"].startswith("n=10, tuned in 0.")

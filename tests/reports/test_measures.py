"""Measures of tasks as scores: from a sweep to the page, which way is better, and what is refused."""

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ascent import suites
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.records.read import CellRecord, RunRecord
from ascent.reports.cite import cite
from ascent.reports.report import build, rebuild
from ascent.reports.statistics import verdicts
from ascent.reports.statistics.aggregate import Task, aggregate
from ascent.reports.statistics.comparisons import compare
from ascent.reports.statistics.measures import LOWER_IS_BETTER, measured
from ascent.reports.statistics.ranking import leaders
from ascent.runners import sweep
from ascent.runners.play import env_seeds
from tests.command import call
from tests.reports.trained import record

TEAM_TASKS = [task for task, spec in suites.TASKS.items() if spec.team]
SWEEP = """
title = "Distances"
seeds = "0-2"
evaluations = 3
episodes = 4

[report]
estimator = "final"

[report.score]
"simple_speaker_listener_v4" = "distance"

[[cells]]
algorithms = ["maddpg", "iddpg"]
tasks = ["simple_speaker_listener_v4", "simple_v3", "simple_v3-continuous"]
steps = 300
set = { envs = 2, batch = 8, learning_starts = 20, train_every = 10, capacity = 100, hidden = [8] }
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained sweep, its file and its report."""
    folder = tmp_path_factory.mktemp("measures")
    (folder / "mine.toml").write_text(SWEEP)
    plan = sweep.load(str(folder / "mine.toml"))
    for one in plan.planned:
        record(one.cell, folder / "runs", one.seeds)
    expected = [Expected.of(one.cell, one.seeds) for one in plan.planned]
    build(folder / "runs", folder / "out", expected, plan.title, plan.declared)
    return folder


def ended(cell: Path, column: str) -> list[float]:
    """By seed, the mean of a column of eval.csv over the episodes of the last greedy evaluation."""
    found = []
    for seed in range(3):
        table = pd.read_csv(cell / f"seed-{seed}" / "eval.csv")
        last = table[(table.policy == "greedy") & (table.step == table.step.max())]
        assert len(last) == 4
        found.append(last[column].mean())
    return found


def test_the_report_shows_the_measure(trained: Path) -> None:
    out = trained / "out"
    scores = pd.read_csv(out / "tables" / "scores.csv").set_index(["task", "system"])
    for (task, system), row in scores.iterrows():
        (cell,) = (trained / "runs" / "particle" / task).glob(f"{system}-*")
        name = "distance" if task == "simple_speaker_listener_v4" else "return"
        values = ended(cell, name)
        assert row["score"] == name
        assert row["mean"] == pytest.approx(np.mean(values))
        assert (row["min"], row["max"]) == pytest.approx((min(values), max(values)))
        anchored = row[["random_score", "reference_score", "threshold_reached"]].notna()
        assert anchored.all() if name == "return" else not anchored.any()
    assert len(scores) == 6
    pairs = pd.read_csv(out / "tables" / "comparisons.csv").set_index("task")
    assert pairs.loc["simple_speaker_listener_v4", "score"] == "distance"
    assert pairs.loc["simple_v3", "score"] == "return"
    across = pd.read_csv(out / "tables" / "aggregates.csv")
    assert set(across["tasks"]) == {"particle/simple_v3 particle/simple_v3-continuous"}
    for name in ("scores.md", "comparisons.md", "scores.tex"):
        text = (out / "tables" / name).read_text()
        assert "distance" in text and "score" in text.split("\n\n")[0]
    page = (out / "index.html").read_text()
    for words in (
        "particle: distance, lower is better",
        "simple_speaker_listener_v4 is scored by distance (mean over an episode; lower is better).",
        "simple_speaker_listener_v4 is excluded because its score is a measure, distance.",
        "Evaluation of the greedy policy: distance (mean over an episode; lower is better)",
        "distance is better if lower",
    ):
        assert words in page, words
    data = pd.read_parquet(out / "data.parquet")
    of_task = data[(data.task == "simple_speaker_listener_v4") & (data.system == "maddpg")]
    last = of_task[(of_task.policy == "greedy") & (of_task.step == of_task.step.max())]
    (cell,) = (trained / "runs" / "particle" / "simple_speaker_listener_v4").glob("maddpg-*")
    assert last.sort_values("seed")["distance"].tolist() == pytest.approx(ended(cell, "distance"))


def test_it_is_rebuilt_and_cited_by_the_measure(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    provenance = json.loads((trained / "out" / "provenance.json").read_text())
    assert provenance["report"]["settings"]["score"] == {"simple_speaker_listener_v4": "distance"}
    page = (trained / "out" / "index.html").read_bytes()
    again = rebuild(provenance, trained / "runs", trained / "again")
    assert again.read_bytes() == page
    monkeypatch.setattr("ascent.reports.cite.refuse", lambda *_: None)
    (cell,) = (trained / "runs" / "particle" / "simple_speaker_listener_v4").glob("maddpg-*")
    sentence = cite(cell, "final", "reached")
    value = np.mean(ended(cell, "reached"))
    assert (
        f"mean evaluation reached (value at an episode's last step; higher is better) {value:.1f}" in sentence
    )
    assert "Score of a run: greedy evaluation of reached at the last evaluation point" in sentence
    assert "return" not in sentence.split("\n\n")[0]
    with pytest.raises(InputError, match="simple_speaker_listener_v4: 'reach'; did you mean 'reached'"):
        cite(cell, score="reach")


# ---- which way is better -----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [task for task in TEAM_TASKS if task.rpartition("_v")[2].isdecimal()])
def test_better_is_better_for_those_who_are_scored(task: str) -> None:
    """Over random episodes, a better measure goes with more return for the scored agents, less for others."""
    spec, n = suites.TASKS[task], 4_000
    env, rng = suites.make(task, env_seeds([0], n, "test")), np.random.default_rng(0)
    env.reset()
    returns, measures = 0.0, []
    for _ in range(spec.horizon):
        step = env.step(rng.integers(spec.choices, size=(1, n, *spec.action_shape)))
        returns = returns + step.reward[0]
        measures.append(step.measures[0])
    assert step.truncated.all()
    reduced = {"sum": np.sum(measures, 0), "mean": np.mean(measures, 0), "last": measures[-1]}
    scored = np.isin(spec.team.agents, spec.team.scored)
    gain = returns[:, scored].mean(1) - (0 if scored.all() else returns[:, ~scored].mean(1))
    scenario = task.rpartition("_v")[0]
    for k, (name, how) in enumerate(spec.team.measures):
        names = (task, f"{task}-continuous", f"{scenario}-openai")
        (sign,) = {measured(variant, name, dict(spec.team.measures)).sign for variant in names}
        assert sign * np.corrcoef(reduced[how][:, k], gain)[0, 1] > 0.04, name


def test_the_table_of_directions_names_measures() -> None:
    names = {task: {name for name, _ in suites.TASKS[task].team.measures} for task in TEAM_TASKS}
    for scenario, lower in LOWER_IS_BETTER.items():
        found = [measures for task, measures in names.items() if task.split("_v")[0] == scenario]
        assert found and all(lower <= measures for measures in found)


def distances(
    system: str, curves: Sequence[Sequence[float]], diverged: int | None = None, task: str = "simple_v3"
) -> CellRecord:
    """A complete cell: each curve has one seed's distances, one episode per evaluation; returns are 1e3."""
    team = {"measures": [["distance", "mean"], ["reached", "last"]]}
    spec = {"random_score": -40.0, "reference_score": -7.0, "team": team}
    steps = 625_000
    facts = {
        "system": system, "algorithm": "maddpg", "task": task, "spec": spec, "steps": steps, "config": {},
        "evaluation": {"points": len(curves[0]) - 1, "episodes": 1}, "versions": {"suite": 1},
    }  # fmt: skip
    runs = []
    for seed, curve in enumerate(curves):
        points = len(curve)
        table = {
            "step": np.linspace(0, steps, points).astype(int), "policy": np.repeat("greedy", points),
            "episode": np.zeros(points, int), "return": np.full(points, 1e3), "length": np.full(points, 25),
            "distance": np.array(curve), "reached": np.array(curve) < 0.2,
        }  # fmt: skip
        state = "diverged" if seed == diverged else "done"
        training = {
            "return": np.full(3, 1e3), "distance": np.array(curve[-3:]), "reached": np.array([0.0, 0.0, 1.0]),
        }  # fmt: skip
        runs.append(RunRecord(seed, f"seed-{seed}", state, "", {}, {}, table, training))
    name = Expected("particle", task, system, "code", system, tuple(range(len(curves))))
    return CellRecord(name, facts, tuple(runs))


FAR = [[3.0, 1.0, 2.0, 0.5], [3.0, 0.9, 2.2, 0.6], [3.0, 0.95, 2.1, 0.55]]
NEAR = [[2.0, 0.2, 0.3, 0.1], [2.0, 0.25, 0.3, 0.12], [2.0, 0.3, 0.4, 0.11]]


def scored(score: str, *cells: CellRecord, estimator: str = "final") -> Task:
    (task,) = aggregate(cells, Declared(estimator, score))
    return task


def test_lower_is_better() -> None:
    task = scored("distance", distances("a", FAR), distances("b", NEAR))
    best, *_ = leaders(task, compare([task], Declared("final", "distance")).pairs)
    assert best.label == "b" and task.anchors == []
    assert scored("return", distances("a", FAR), distances("b", NEAR)).anchors
    reached = scored("reached", distances("a", FAR), distances("b", NEAR))
    assert reached.cells[1].sample.tolist() == [1, 1, 1] and reached.cells[0].sample.tolist() == [0, 0, 0]
    far = task.cells[0]
    assert far.normalised is None and far.score.crossing is None
    assert (
        {name: list(by_seed.values()) for name, by_seed in far.run_scores.items()}
        == {
            "mean_of_last_ten": pytest.approx([np.mean(curve[1:]) for curve in FAR]),
            "final": [0.5, 0.6, 0.55],
            "peak_of_mean_curve": [0.5, 0.6, 0.55],  # where the mean distance is smallest
            "mean_of_per_seed_peaks": [0.5, 0.6, 0.55],
            "area": pytest.approx([np.mean([(a + b) / 2 for a, b in pairwise(c)]) for c in FAR]),
            "last_100_training_episodes": pytest.approx([np.mean(curve[1:]) for curve in FAR]),
        }
    )
    assert far.curve["mean"].tolist() == pytest.approx(np.mean(FAR, 0))
    (pair,) = compare([task], Declared("final", "distance")).pairs
    assert pair.welch.difference == pytest.approx(0.55 - 0.11)


def test_a_diverged_run_has_its_worst_evaluation() -> None:
    curves = [[0.4, 1.0, 0.3], [0.5, 0.4, 0.3], [0.5, 0.4, 0.3]]
    assert scored("distance", distances("a", curves, diverged=0)).cells[0].sample.tolist() == [1.0, 0.3, 0.3]
    curves = [[0.1, 1.0, 0.1], [0.1, 0.1, 0.1]]
    assert scored("reached", distances("a", curves, diverged=0)).cells[0].sample.tolist() == [0.0, 1.0]


def test_published_scores_are_of_the_same_measure() -> None:
    cell = distances("maddpg", NEAR, task="simple_speaker_listener-openai")
    (verdict,) = verdicts.verdicts([scored("reached", cell)])
    assert (verdict.reference.mean, verdict.ours.mean, verdict.verdict) == (0.84, 1.0, "descriptive")
    assert any("greedy evaluation of reached" in words for words in verdict.differences)
    assert not verdicts.verdicts([scored("distance", cell)])
    longer = replace(cell, facts=cell.facts | {"steps": 1_500_000})
    assert {v.reference.score for v in verdicts.verdicts([scored("return", longer)])} == {"return"}
    assert not verdicts.verdicts([scored("reached", longer)])


# ---- refusals ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "words"),
    [
        ('score = "reach"', "unknown score of simple_speaker_listener_v4: 'reach'; did you mean 'reached'?"),
        ('score = "food"', "valid: return, distance, reached"),
        ("score = 3", "score must be a string or a table, not 3"),
        ("score = { simple_v3 = 3 }", "score must be the name of a measure, not 3"),
        ('score = { simple_v4 = "reached" }', "unknown task in score 'simple_v4'; did you mean 'simple_v3'?"),
        ('score = { simple_v3 = "length" }', "unknown score of simple_v3: 'length'"),
    ],
)
def test_bad_scores(score: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "mine.toml"
    head, _, cells = SWEEP.partition("[report]")
    path.write_text(f"{head}[report]\n{score}\n\n[[cells]]{cells.partition('[[cells]]')[2]}")
    code, out, err = call(capsys, "sweep", str(path), "--runs", str(tmp_path / "runs"))
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"error: {path}: ") and words in err


def test_a_task_without_the_measure(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A task of one agent has no measures; neither may one of several tasks lack it."""
    path = tmp_path / "mine.toml"
    for system, task in (("ppo", "CartPole-v1"), ("maddpg", "simple_tag_v3")):
        cells = f'[[cells]]\nalgorithms = ["{system}"]\ntasks = ["{task}"]\n'
        both = '[[cells]]\nalgorithms = ["maddpg"]\ntasks = ["simple_v3"]\n'
        path.write_text(f'seeds = "0"\nreport = {{ score = "reached" }}\n{both}{cells}')
        code, _, err = call(capsys, "sweep", str(path), "--runs", str(tmp_path / "runs"))
        assert code == 2 and f"unknown score of {task}: 'reached'; valid: return" in err


def test_a_report_without_the_measure() -> None:
    with pytest.raises(InputError, match="unknown score of simple_v3: 'distances'; did you mean 'distance'"):
        scored("distances", distances("a", FAR))
    imported = distances("a", FAR)
    imported = replace(imported, facts=imported.facts | {"algorithm": "imported"})
    with pytest.raises(InputError, match="'distance'; valid: return"):
        scored("distance", imported)

"""The numbers of a report against scipy, closed forms and arithmetic on the records."""

import hashlib
import json
import re
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ascent.records.declared import Declared
from ascent.records.plan import seed_ranges
from ascent.records.read import load
from ascent.reports.page import formats
from ascent.reports.report import build
from ascent.reports.statistics import estimators, intervals
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.comparisons import compare
from ascent.reports.statistics.estimators import Curves
from ascent.reports.statistics.ranking import leaders
from tests.reports.perturbed import text_of

if TYPE_CHECKING:
    from tests.reports.conftest import Records


def test_student_t_interval_is_scipys() -> None:
    sample = np.random.default_rng(0).normal(size=(7, 3))
    low, high = intervals.student_t_interval(sample)
    for k in range(3):
        expected = scipy_stats.ttest_1samp(sample[:, k], 0).confidence_interval(0.95)
        assert (low[k], high[k]) == pytest.approx((expected.low, expected.high), rel=1e-12)


def test_student_t_interval_of_two_values_in_closed_form() -> None:
    # With one degree of freedom t is Cauchy: the 97.5% quantile is tan(0.475 pi); s / sqrt(2) = |a - b| / 2.
    low, high = intervals.student_t_interval(np.array([3.0, 7.0]))
    half = np.tan(np.pi * 0.475) * 2.0
    assert (low, high) == pytest.approx((5.0 - half, 5.0 + half), rel=1e-12)


def test_student_t_interval_covers_95_percent() -> None:
    sample = np.random.default_rng(1).normal(size=(3, 20_000))
    low, high = intervals.student_t_interval(sample)
    assert ((low < 0) & (high > 0)).mean() == pytest.approx(0.95, abs=0.005)


@pytest.mark.parametrize(
    ("n", "kept"), [(1, (0, 1)), (3, (0, 3)), (4, (1, 3)), (7, (1, 6)), (8, (2, 6)), (10, (2, 8))]
)
def test_interquartile_mean_drops_a_whole_number_at_each_end(n: int, kept: tuple[int, int]) -> None:
    sample = np.random.default_rng(n).permutation(np.arange(n) ** 2).astype(float)
    assert intervals.interquartile_mean(sample) == pytest.approx(np.sort(sample)[slice(*kept)].mean())


def test_estimators() -> None:
    """By hand on three runs of 21 evaluations: k^2, 300 - k and one spike."""
    k = np.arange(21.0)
    spike = np.where(k == 5, 900.0, 0.0)
    training = np.array([1.0, 2.0, np.nan])
    curves = Curves(k * 100, np.column_stack([k**2, 300 - k, spike]), training)
    assert estimators.mean_of_last_ten(curves) == pytest.approx([np.mean(k[11:] ** 2), 284.5, 0.0])
    assert estimators.final(curves).tolist() == [400.0, 280.0, 0.0]
    assert estimators.mean_of_per_seed_peaks(curves).tolist() == [400.0, 300.0, 900.0]
    assert estimators.peak_of_mean_curve(curves).tolist() == [25.0, 295.0, 900.0]  # where the spike is
    assert estimators.area(curves) == pytest.approx([(np.sum(k**2) - 200.0) / 20, 290.0, 45.0])
    assert np.array_equal(estimators.last_100_training_episodes(curves), training, equal_nan=True)
    # a short curve: the points it has, but never the untrained policy at step 0
    short = Curves(curves.steps[:4], curves.returns[:4], training)
    assert estimators.mean_of_last_ten(short)[0] == pytest.approx((1 + 4 + 9) / 3)
    one = Curves(curves.steps[:1], curves.returns[:1], training)
    assert estimators.area(one).tolist() == [0.0, 300.0, 0.0]


def test_training_returns_are_the_last_hundred(store: "Records") -> None:
    run = store.run(store.cell(), 0, [0.0] + [9.0] * 50)
    rows = "".join(f"{100 * k},0,{float(k)!r},100,0\n" for k in range(250))
    table = "step,env,return,length,unstable\n" + rows
    (run / "train.csv").write_text(table)
    result = json.loads((run / "result.json").read_text())
    result["digests"]["train.csv"] = hashlib.sha256(table.encode()).hexdigest()
    (run / "result.json").write_text(json.dumps(result))
    store.build()
    scores = json.loads((store.out / "provenance.json").read_text())["runs"][0]["scores"]
    assert scores["last_100_training_episodes"] == np.mean(np.arange(150.0, 250.0))


def test_diverged_score_is_the_worst_of_chance_and_the_run_itself() -> None:
    known = np.array([-50.0, -10.0, -80.0, 5.0])
    assert estimators.diverged_score(known, random_score=-20.0) == -80.0
    assert estimators.diverged_score(known, random_score=-200.0) == -200.0
    assert estimators.diverged_score(known, random_score=None) == -80.0


def test_scores_table_from_the_csv_files_by_hand(sweep: "Records") -> None:
    table = pd.read_csv(sweep.out / "tables" / "scores.csv", dtype={"digest": str})
    assert len(table) == 8
    for row in table.itertuples():
        cell = sweep.runs / row.suite / row.task / f"{row.system}-{row.preset}-{row.digest}"
        scores = []
        for seed in range(10):
            frame = pd.read_csv(cell / f"seed-{seed}" / "eval.csv")
            greedy = frame[(frame["policy"] == "greedy") & (frame["step"] > 80_000)]
            assert greedy["step"].nunique() == 10
            scores.append(greedy.groupby("step")["return"].mean().mean())
        interval = scipy_stats.t.interval(0.95, 9, np.mean(scores), scipy_stats.sem(scores))
        assert row.mean == pytest.approx(np.mean(scores), rel=1e-12)
        assert (row.low, row.high) == pytest.approx(interval, rel=1e-12)
        assert row.iqm == pytest.approx(np.sort(scores)[2:8].mean(), rel=1e-12)
        assert row.median == pytest.approx(np.median(scores), rel=1e-12)
        assert (row.n, row.failures, row.complete) == (10, 0, True)
        assert (row.min_seed, row.max_seed) == (np.argmin(scores), np.argmax(scores))
        assert (row.min, row.max) == pytest.approx((min(scores), max(scores)), rel=1e-12)


def test_mean_curve_and_band(store: "Records") -> None:
    store.flat_runs(store.cell(), [1.0, 2.0, 6.0])
    (task,) = aggregate(load(store.runs), Declared())
    curve = task.cells[0].curve
    assert curve.index.tolist() == [2_000 * k for k in range(51)]
    assert curve.loc[0].tolist() == [0.0, 0.0, 0.0]  # all seeds equal: no width
    low, high = scipy_stats.t.interval(0.95, 2, 3.0, scipy_stats.sem([1.0, 2.0, 6.0]))
    assert curve.iloc[-1].tolist() == pytest.approx([3.0, low, high])


def test_a_diverged_run_counts_with_the_worst_value(store: "Records") -> None:
    cell = store.cell()  # the random score of its task is 22.2
    store.flat_runs(cell, [400.0, 500.0])
    store.run(cell, 2, [30.0, 450.0, 480.0], status="diverged")
    store.run(cell, 3, [30.0, 450.0, 12.0, float("nan"), -float("inf")], status="diverged")
    page = store.build()
    row = store.scores().loc["ppo"]
    assert (row["n"], row["failures"], row["complete"]) == (4, 2, True)
    assert row["mean"] == pytest.approx((400 + 500 + 22.2 + 12.0) / 4)
    assert (row["min"], row["min_seed"]) == (12.0, 3)
    assert "n=4, 2 diverged" in page
    assert "Diverged runs" in page
    # the mean curve ends where the score is; what is not finite counts as what was not reached
    (task,) = aggregate(load(store.runs), Declared())
    assert task.cells[0].curve["mean"].iloc[-1] == pytest.approx(row["mean"])
    assert task.cells[0].curve["mean"].loc[2_000] == pytest.approx((400 + 500 + 450 + 450) / 4)


def test_one_seed_has_no_interval(store: "Records") -> None:
    store.flat_runs(store.cell(), [321.0])
    page = store.build()
    row = store.scores().loc["ppo"]
    assert (row["mean"], row["iqm"], row["n"]) == (321.0, 321.0, 1)
    assert np.isnan(row["low"])  # an empty field in the CSV file
    assert "no interval (n=1)" in page
    assert "few seeds" in page
    assert not re.search(r"\bnan\b", text_of(page), re.IGNORECASE)
    assert "nan" not in (store.out / "tables" / "scores.csv").read_text()
    assert "nan" not in (store.out / "tables" / "scores.md").read_text()


@pytest.mark.parametrize(
    ("scores", "bold"),
    [
        ({"ppo": range(10), "sac": range(100, 110)}, ["sac"]),
        ({"ppo": range(10), "sac": range(100, 110), "td3": range(101, 111)}, ["td3", "sac"]),
        ({"ppo": [500] * 5, "sac": [500] * 5}, ["ppo", "sac"]),
        ({"ppo": [10, 11, 12], "sac": [100, 101, 102]}, ["sac", "ppo"]),  # three runs cannot tell them apart
        ({"sac": [100, 101, 102]}, []),  # nothing to compare with
    ],
)
def test_bold_is_the_best_mean_and_what_is_not_worse(store: "Records", scores: dict, bold: list[str]) -> None:
    for system, values in scores.items():
        store.flat_runs(store.cell(system=system), values)
    (task,) = aggregate(load(store.runs), Declared())
    assert [cell.label for cell in leaders(task, compare([task], Declared()).pairs)] == bold


def test_a_page_with_a_baseline_has_nothing_bold(store: "Records") -> None:
    for system, level in (("ppo", 0), ("sac", 100), ("td3", 200)):
        store.flat_runs(store.cell(system=system), range(level, level + 10))
    bold = re.compile(r'<span class="value best">(\d+)')
    assert bold.findall(store.build()) == ["204"]
    page = build(store.runs, store.out, declared=Declared(baseline="ppo"))
    assert not bold.findall(page.read_text(encoding="utf-8"))


def test_no_best_among_cells_of_unlike_budgets(store: "Records") -> None:
    store.flat_runs(store.cell(system="ppo"), [10, 11, 12])
    store.flat_runs(store.cell(system="sac", steps=200_000), [100, 101, 102])
    (task,) = aggregate(load(store.runs), Declared())
    assert not leaders(task, compare([task], Declared()).pairs)
    assert task.unlike == (
        "The cells of this task differ in the step budget: they are not compared, and none is bold.",
    )


def test_one_cell_of_another_budget_is_named(store: "Records") -> None:
    """The others are compared with each other; it is shown, and neither compared nor bold."""
    store.flat_runs(store.cell(system="ppo"), [10, 11, 12])
    store.flat_runs(store.cell(system="td3"), [100, 101, 102])
    store.flat_runs(store.cell(system="sac", steps=200_000), [500, 501, 502])
    (task,) = aggregate(load(store.runs), Declared())
    assert [summary.label for summary in task.cells] == ["ppo", "sac", "td3"]
    assert [summary.label for summary in task.compared] == ["ppo", "td3"]
    assert task.unlike == ("Not compared with the other cells, for a difference in the step budget: sac.",)
    (pair,) = compare([task], Declared()).pairs
    assert leaders(task, [pair])[0].label == "td3"
    assert {pair.x.label, pair.y.label} == {"ppo", "td3"}


def test_two_budgets_are_two_groups(store: "Records") -> None:
    """Cells are compared within their budget; who stands alone, is named with what sets it apart."""
    for system, steps in (("ppo", 100_000), ("td3", 100_000), ("sac", 200_000), ("ddpg", 200_000)):
        store.flat_runs(store.cell(system=system, steps=steps), [10, 11, 12])
    store.flat_runs(store.cell(system="a2c", points=25), [10, 11, 12], points=25)
    (task,) = aggregate(load(store.runs), Declared())
    groups = [[summary.label for summary in group] for group in task.groups]
    assert groups == [["ddpg", "sac"], ["ppo", "td3"], ["a2c"]] and task.compared == ()
    first, second = task.unlike
    assert first == (
        "The cells of this task differ in the step budget and the evaluation protocol. They are compared "
        "within these groups only: ddpg, sac (200,000 steps, 50 evaluations of 10 episodes); "
        "ppo, td3 (100,000 steps, 50 evaluations of 10 episodes)."
    )
    assert second == "Not compared with the other cells, for a difference in the evaluation protocol: a2c."
    pairs = compare([task], Declared()).pairs
    assert [(pair.x.label, pair.y.label) for pair in pairs] == [("ddpg", "sac"), ("ppo", "td3")]


def test_a_cell_without_finished_runs_stays_in_its_group(store: "Records") -> None:
    """What the versions of its packages will be is not known, and does not set it apart."""
    store.flat_runs(store.cell(system="ppo"), [10, 11, 12])
    store.flat_runs(store.cell(system="td3"), [10, 11, 12])
    store.run(store.cell(system="sac"), 0, [1.0, 2.0], status=None)
    (task,) = aggregate(load(store.runs), Declared())
    assert [s.label for s in task.compared] == ["ppo", "sac", "td3"] and task.unlike == ()


def test_the_untrained_policy_reaches_no_threshold(store: "Records") -> None:
    """Step 0 is above the threshold, 248.6 of CartPole; training is above it from the third evaluation on."""
    cell = store.cell()
    for seed in range(3):
        store.run(cell, seed, [300.0, 100.0, 100.0] + [400.0] * 48)
    (task,) = aggregate(load(store.runs), Declared())
    crossing = task.cells[0].score.crossing
    assert (crossing.median, crossing.reached) == (6_000, 3)
    warning = "The untrained policy of ppo is above the threshold in 3 of 3 runs; step 0 does not count"
    assert any(text.startswith(warning) for text in task.warnings)


def test_a_short_curve_is_scored_with_a_warning(store: "Records") -> None:
    store.flat_runs(store.cell(points=4), [10, 20], points=4)
    page = store.build()
    assert store.scores().loc["ppo", "mean"] == 15.0
    assert "ppo has only 4 evaluation points" in page


def test_labels_are_as_short_as_they_can_be(store: "Records") -> None:
    for system, preset, gamma in (
        ("ppo", "classic", 0.99), ("sac", "classic", 0.99), ("sac", "paper", 0.99),
        ("td3", "classic", 0.9), ("td3", "classic", 0.99),
    ):  # fmt: skip
        store.flat_runs(store.cell(system=system, preset=preset, config={"gamma": gamma}), [1.0])
    (task,) = aggregate(load(store.runs), Declared())
    one, other = (cell.cell.name.digest for cell in task.cells[-2:])
    assert [cell.label for cell in task.cells] == [
        "ppo", "sac (classic)", "sac (paper)", f"td3 (classic, {one})", f"td3 (classic, {other})",
    ]  # fmt: skip


def test_labels_say_what_was_changed(store: "Records") -> None:
    """Where it says it in a few words; else by the digest, which does not take the words from the others."""
    long = {"exploration_schedule": "linear", "hidden": [256, 256]}
    for system, changed in (("rpc", {}), ("rpc", {"rate": 3.0}), ("sac", {}), ("sac", long)):
        store.flat_runs(store.cell(system=system, config={"gamma": 0.9, **changed}, changed=changed), [1.0])
    (task,) = aggregate(load(store.runs), Declared())
    labels = [cell.label for cell in task.cells]
    assert sorted(labels[:2]) == ["rpc (classic with rate=3.0)", "rpc (classic)"]
    (digest,) = [cell.cell.name.digest for cell in task.cells[2:] if cell.cell.changed]
    assert sorted(labels[2:]) == ["sac (classic)", f"sac (classic, {digest})"]


def test_two_versions_of_a_system_are_two_systems(store: "Records") -> None:
    """On one task and across tasks: what another VERSION learned is not averaged with it."""
    for task, version in (("CartPole-v1", 1), ("CartPole-v1", 2), ("Pendulum-v1", 2)):
        versions = {"algorithm": version, "seedwise": 1, "suite": 1, "runner": 1}
        store.flat_runs(store.cell(task, versions=versions), [1.0, 2.0])
    tasks = aggregate(load(store.runs), Declared())
    assert [sorted(cell.label for cell in task.cells) for task in tasks] == [["ppo v1", "ppo v2"], ["ppo v2"]]


def test_one_experiment_more_does_not_rename_the_rest(store: "Records") -> None:
    for system in ("sac", "td3"):
        for task in ("CartPole-v1", "Pendulum-v1"):
            store.flat_runs(store.cell(task, system), [1.0, 2.0])
    store.flat_runs(store.cell(system="sac", preset="paper"), [3.0, 4.0])
    tried = {"config": {"learning_rate": 3e-4, "gamma": 0.9}, "changed": {"gamma": 0.9}}
    store.flat_runs(store.cell(system="td3", **tried), [5.0, 6.0])
    cartpole, pendulum = aggregate(load(store.runs), Declared())
    labels = {cell.label: cell.score.mean for cell in cartpole.cells}
    (long,) = (label for label in labels if label.startswith("td3 ("))
    assert labels == {"sac": 1.5, "sac (paper)": 3.5, "td3": 1.5, long: 5.5}
    assert [cell.label for cell in pendulum.cells] == ["sac", "td3"]


def test_what_was_changed_from_the_preset_is_said_everywhere(store: "Records") -> None:
    cell = store.cell(config={"gamma": 0.9, "name": "a b"}, changed={"gamma": 0.9, "name": "a b"})
    store.flat_runs(cell, [1.0, 2.0])
    page = store.build()
    assert page.count("<td>classic with gamma=0.9, name=a b</td>") == 2  # completeness and the task's table
    assert "--set gamma=0.9 --set &#39;name=a b&#39;" in page


def test_data_file_holds_every_evaluation_mean(sweep: "Records") -> None:
    data = pd.read_parquet(sweep.out / "data.parquet")
    assert data.columns.tolist() == [
        "suite", "task", "system", "preset", "digest", "seed", "state", "policy", "step",
        "episodes", "return", "length",
    ]  # fmt: skip
    assert len(data) == 80 * (51 + 1)
    assert set(data["episodes"]) == {10}
    row = data[(data["system"] == "td3") & (data["seed"] == 4) & (data["step"] == 40_000)].iloc[1]
    frame = pd.read_csv(
        sweep.runs / row["suite"] / row["task"] / f"td3-classic-{row['digest']}/seed-4/eval.csv"
    )
    assert row["return"] == pytest.approx(frame[frame["step"] == 40_000]["return"].mean(), rel=1e-12)


def test_returns_are_read_back_exactly(store: "Records") -> None:
    values = (np.random.default_rng(0).normal(size=51) * 10.0 ** np.arange(-25, 26)).tolist()
    store.run(store.cell(), 0, values)
    (cell,) = load(store.runs)
    rows = cell.runs[0].evaluations
    fourth = (rows["policy"] == "greedy") & (rows["episode"] == 3)
    assert rows["return"][fourth].tolist() == values


def test_how_numbers_are_written() -> None:
    assert formats.number(-1234.56, 1) == "-1,234.6"
    assert formats.number(-0.04, 1) == "0.0"
    assert formats.interval(None, None, 1) == "no interval"
    assert seed_ranges((5, 0, 1, 2, 9)) == "0-2,5,9"
    assert [formats.short_steps(steps) for steps in (0, 500, 200_000, 1_500_000)] == [
        "0",
        "500",
        "200k",
        "1.5M",
    ]


def test_a_diverged_run_reaches_no_threshold(store: "Records") -> None:
    """Whatever it reached before it broke down: breaking down is never the faster way."""
    cell = store.cell()
    store.flat_runs(cell, [400.0, 400.0])
    for seed in (2, 3, 4):
        store.run(cell, seed, [0.0, 500.0], status="diverged")
    (task,) = aggregate(load(store.runs), Declared())
    crossing = task.cells[0].score.crossing
    assert (crossing.reached, crossing.n, crossing.median) == (2, 5, None)


def test_runs_that_all_diverge_at_once_have_their_score(store: "Records") -> None:
    cell = store.cell()
    for seed in range(3):
        store.run(cell, seed, [30.0], status="diverged")
    store.build()
    row = store.scores().loc["ppo"]
    assert (row["n"], row["failures"], row["mean"]) == (3, 3, 22.2)


def test_a_published_score_by_an_estimator_that_is_not_recorded(store: "Records") -> None:
    cell = store.cell(system="dqn", steps=500_000)
    for seed in range(3):
        run = store.run(cell, seed, [0.0] + [400.0 + seed] * 50)
        result = json.loads((run / "result.json").read_text())
        del result["digests"]["train.csv"]
        (run / "result.json").write_text(json.dumps(result))
        (run / "train.csv").unlink()
    store.build()
    table = pd.read_csv(store.out / "tables" / "verdicts.csv")
    rows = table[table["estimator"] == "last_100_training_episodes"]
    assert len(rows) and rows["ours_mean"].isna().all() and set(rows["verdict"]) == {"descriptive"}

"""Verdicts: hand-made cells with known answers, spreads by hand, and every row of the references."""

import csv
import re
import tomllib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.records.expected import Expected
from ascent.records.read import CellRecord, RunRecord
from ascent.reports.page import tables
from ascent.reports.page.bibliography import (
    ALGORITHMS,
    FAMILIES,
    SUITES,
    algorithm_keys,
    bibliography,
    entries,
    task_keys,
)
from ascent.reports.statistics import published as p
from ascent.reports.statistics import verdicts as v
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.equivalence import equivalence
from ascent.reports.statistics.estimators import Curves, evenly

ROOT = Path(p.FOLDER).parents[1]
PROTOCOL = {"points": 50, "episodes": 10}


def reference(**changes: object) -> p.Reference:
    """A row of published.csv, as its reader makes it from text."""
    row = {
        "source": "td3_curves", "locator": "curves", "system": "td3", "preset": "", "printed": "TD3",
        "family": "Hopper",
        "environment": "Hopper-v1", "variant": "", "steps": "1000000", "estimator": "mean_of_last_ten",
        "metric": "mean of last 10 evaluations", "n": "10", "mean": "3000", "spread": "200", "low": "",
        "high": "", "spread_kind": "std1", "spread_printed": "std", "algorithm_differs": "", "no_verdict": "",
        "notes": "", "score": "return", "evaluations": "", "step_0": "", "policy": "",
    }  # fmt: skip
    return p.Reference(**(row | changes))


def summary(scores: list[float], seeds: range | None = None, **changes: object) -> CellSummary:
    """A complete cell whose runs have these scores by mean_of_last_ten."""
    facts = {
        "system": "td3", "algorithm": "td3", "preset": "code", "task": "Hopper-v5", "suite": "mujoco",
        "config": {}, "steps": 1_000_000, "evaluation": PROTOCOL,
    } | changes  # fmt: skip
    seeds = seeds or range(len(scores))
    name = Expected("mujoco", facts["task"], facts["system"], facts["preset"], "0123456789", tuple(seeds))
    runs = tuple(RunRecord(seed, f"seed-{seed}", "done") for seed in seeds)
    run_scores = {"mean_of_last_ten": dict(zip(seeds, scores, strict=True)), "area": {}}
    ends = {"worst": (min(scores), 0), "best": (max(scores), 0)}
    score = SimpleNamespace(n=len(scores), failures=0, **ends)
    return CellSummary(
        CellRecord(name, facts, runs), facts["system"], run_scores, None, score, None, None, None
    )


def judge(
    monkeypatch: pytest.MonkeyPatch, cell: CellSummary, *published: p.Reference, task: str = "Hopper-v5"
) -> list[v.Verdict]:
    monkeypatch.setattr(v, "references", lambda: published)
    return v.verdicts([Task("mujoco", task, {}, (cell,), (), ())])


def around(mean: float, std: float, n: int = 10) -> list[float]:
    """n scores with exactly this mean and standard deviation (ddof 1)."""
    shape = np.arange(n) - (n - 1) / 2
    return list(mean + std * shape / shape.std(ddof=1))


# The margin of Hopper is 380. With standard deviations 200 and n = 10 on both sides the standard error is
# sqrt(2 * 200^2 / 10) = 89.4 and df = 18: the interval is +-2.101 * 89.4 = +-187.9, the 90% one +-155.1.
@pytest.mark.parametrize(
    ("mean", "std", "expected"),
    [
        (3000, 200, "reproduced"),
        (3220, 200, "different within the margin"),  # 220 + 155 < 380, and 220 > 187.9
        (2760, 200, "different"),  # 240 + 155 > 380 and 240 > 187.9
        (3400, 200, "different"),
        (3300, 1000, "inconclusive"),  # the standard error is 322
    ],
)
def test_known_answers(monkeypatch: pytest.MonkeyPatch, mean: float, std: float, expected: str) -> None:
    (verdict,) = judge(monkeypatch, summary(around(mean, std)), reference())
    assert verdict.verdict == expected
    assert verdict.difference == pytest.approx(mean - 3000) == verdict.test.difference
    assert verdict.ours == v.Sample(pytest.approx(mean), pytest.approx(std), 10)
    assert verdict.margin.margin == 380
    if std == 200:
        assert verdict.test.high - verdict.difference == pytest.approx(187.9, abs=0.1)


@pytest.mark.parametrize(
    ("kind", "n", "expected"),
    [
        ("std1", 5, 10.0),
        ("std0", 5, 11.18034),  # 10 sqrt(5 / 4)
        ("std", 5, 11.18034),  # read as ddof 0
        ("se", 5, 22.36068),  # 10 sqrt(5)
        ("std0", 2, 14.14214),
        ("std1", 1, None),
        ("episodes", 5, None),
        ("unclear", 5, None),
        ("ci95", 5, None),
        ("none", 5, None),
    ],
)
def test_spreads(kind: str, n: int, expected: float | None) -> None:
    std = reference(spread="10", spread_kind=kind, n=str(n)).std
    assert std is None if expected is None else std == pytest.approx(expected, abs=1e-5)


def test_the_test_gets_the_converted_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    published = reference(spread="100", spread_kind="se", n="4")
    (verdict,) = judge(monkeypatch, summary(around(3100, 50)), published)
    expected = equivalence(3100, 50, 10, 3000, 200, 4, 380)
    assert verdict.test[:5] == pytest.approx(expected[:5])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"spread": "", "spread_kind": "none"}, "no spread"),
        ({"spread_kind": "episodes"}, "over evaluation episodes"),
        ({"spread_kind": "unclear"}, "not stated"),
        ({"spread_kind": "ci95", "spread": ""}, "bootstrap interval"),
        ({"n": ""}, "number of seeds is not stated"),
        ({"n": "1"}, "single run"),
        ({"no_verdict": "another reward"}, "another reward"),
        ({"estimator": "final"}, "nothing is recorded here for final"),
    ],
)
def test_descriptive(monkeypatch: pytest.MonkeyPatch, changes: dict[str, str], reason: str) -> None:
    (verdict,) = judge(monkeypatch, summary(around(3000, 200)), reference(**changes))
    assert (verdict.verdict, verdict.test) == ("descriptive", None)
    assert reason in verdict.reason


def peaks(means: list[float], points: int, jump: float = 0.0) -> CellSummary:
    """A cell whose mean return is means[k] at evaluation k; `jump` is added at the odd ones."""
    cell = summary(around(3000, 200))
    steps = np.linspace(0, 1_000_000, points + 1)
    odd = np.arange(points + 1) % 2 * jump
    returns = np.array(means)[:, None] + odd[:, None] + np.array(around(0, 200))
    cell.run_scores["peak_of_mean_curve"] = dict.fromkeys(range(10), 0.0)
    return replace(cell, curves=Curves(steps, returns, np.full(10, np.nan)))


def peak(evaluations: str, step_0: str = "no") -> p.Reference:
    return reference(estimator="peak_of_mean_curve", evaluations=evaluations, step_0=step_0)


def test_a_peak_is_taken_over_as_many_evaluations_as_the_published_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cell = peaks([100.0, *[3000.0] * 40], 40, jump=500.0)  # at steps that half as many evaluations leave out
    same, fewer, more, unknown, nearly = judge(
        monkeypatch, cell, peak("40"), peak("20"), peak("50"), peak(""), peak("41")
    )
    assert (same.ours.mean, same.verdict) == (pytest.approx(3500), "different")
    assert (fewer.ours.mean, fewer.verdict) == (pytest.approx(3000), "reproduced")
    assert any(
        "the peak is over 20 of them, as many as there, without step 0" in d for d in fewer.differences
    )
    assert (more.verdict, more.reason) == ("descriptive", "a peak over 40 evaluations here, over 50 there")
    assert (unknown.verdict, "is not known" in unknown.reason) == ("descriptive", True)
    assert nearly.verdict == "descriptive"


def test_a_peak_has_step_0_only_where_the_published_one_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """An untrained policy that stands still is better than what training makes of it."""
    cell = peaks([3000.0, *[500.0] * 40], 40)
    without, with_it = judge(monkeypatch, cell, peak("40"), peak("40", "yes"))
    assert (without.ours.mean, without.verdict) == (pytest.approx(500), "different")
    assert (with_it.ours.mean, with_it.verdict) == (pytest.approx(3000), "reproduced")
    assert any("step 0 included" in words for words in with_it.differences)


@pytest.mark.parametrize(("points", "evaluations"), [(50, 33), (50, 1), (201, 200), (40, 40), (40, 41)])
def test_evaluations_are_left_out_evenly(points: int, evaluations: int) -> None:
    steps = np.arange(points + 1)
    curves = Curves(steps, steps[:, None] * 1.0, np.zeros(1))
    kept = evenly(curves, evaluations, False).steps
    assert len(kept) == min(points, evaluations) and kept[-1] == points and kept[0] > 0
    gaps = np.diff(kept, prepend=0)
    assert gaps.max() - gaps.min() <= 1
    assert evenly(curves, evaluations, True).steps.tolist() == [0, *kept]


def test_no_training_score_says_how_the_policy_acted_in_evaluations() -> None:
    training = [row for row in p.references() if row.estimator == "last_100_training_episodes"]
    assert len(training) > 100 and not any(row.policy for row in training)


def test_every_published_peak_says_over_how_many_evaluations() -> None:
    """Those of Tianshou include step 0: its best DDPG on Ant is the untrained policy."""
    for row in p.references():
        assert ("peak" in row.estimator) == (row.evaluations is not None) == bool(row.step_0)
        if row.step_0 == "yes":
            assert row.source == "tianshou_readme"


def test_what_is_said_beside_a_verdict(monkeypatch: pytest.MonkeyPatch) -> None:
    low = judge(monkeypatch, summary([*around(3000, 100, 9), 100.0]), reference())[0]
    assert low.failed == (9,) and low.words == "inconclusive: failed: seed 9"
    assert low.margins == pytest.approx(low.difference / 380)
    wide = judge(monkeypatch, summary(around(2800, 200)), reference(spread="900"))[0]
    assert (wide.verdict, wide.test.seeds, wide.expected) == ("unattainable", None, True)
    off = judge(monkeypatch, summary(around(1500, 200)), reference(spread="900"))[0]
    assert (off.verdict, off.expected) == ("different", False)
    flat = judge(monkeypatch, summary([3000.0] * 10), reference(spread="0"))[0]
    assert flat.verdict == "reproduced" and any(
        "as many as 31% of all runs may" in d for d in flat.differences
    )
    assert v.counts([low, wide, off, wide]) == {"different": 1, "inconclusive": 1, "unattainable": 2}


def test_tuning_seeds_and_unknown_margins_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    tuned = summary(around(3000, 200), range(1000, 1010))
    assert judge(monkeypatch, tuned, reference())[0].reason == "these are tuning seeds"
    monkeypatch.setattr(v, "margins", dict)
    assert "no margin" in judge(monkeypatch, summary(around(3000, 200)), reference())[0].reason


def test_a_run_without_the_score_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = [*around(3000, 200)[:-1], float("nan")]
    (verdict,) = judge(monkeypatch, summary(scores), reference())
    assert verdict.ours is None and "nothing is recorded" in verdict.reason


@pytest.mark.parametrize(
    ("cell", "published", "matches"),
    [
        ({}, {}, True),
        ({}, {"steps": "990000"}, True),
        ({}, {"steps": "1020000"}, True),
        ({}, {"steps": "1030000"}, False),
        ({}, {"steps": "970000"}, False),
        ({}, {"family": "Walker2d"}, False),
        ({}, {"system": "ddpg"}, False),
        ({"system": "sac", "algorithm": "sac"}, {"system": "sac"}, True),
        ({"system": "sac", "algorithm": "sac", "config": {"tune": False}}, {"system": "sac"}, False),
        ({"system": "sac", "algorithm": "sac", "config": {"tune": False}}, {"system": "sac-fixed"}, True),
        (
            {"system": "sac", "algorithm": "sac", "config": {"tune_alpha": False}},
            {"system": "sac-fixed"},
            True,
        ),
        (
            {"system": "sac", "algorithm": "sac", "config": {"tune_alpha": True}},
            {"system": "sac-fixed"},
            False,
        ),
        ({"system": "sac-fixed", "algorithm": "sac", "config": {"tune": False}}, {"system": "sac"}, False),
        ({"system": "dqn", "algorithm": "dqn", "config": {"double": True}}, {"system": "dqn"}, False),
        ({"system": "dqn", "algorithm": "dqn", "config": {"double": False}}, {"system": "dqn"}, True),
        ({"algorithm": "imported"}, {}, False),
        ({"algorithm": "imported", "system": "td3"}, {"system": "imported"}, False),
        ({"algorithm": "imported", "system": "mine", "config": {"algorithm": "td3"}}, {}, True),
    ],
)
def test_matching(monkeypatch: pytest.MonkeyPatch, cell: dict, published: dict, matches: bool) -> None:
    found = judge(monkeypatch, summary(around(3000, 200), **cell), reference(**published))
    assert len(found) == matches


@pytest.mark.parametrize(
    ("published", "expected"),
    [
        ("code", "hyperparameters: of the source, as far as preset code expresses them"),
        ("cleanrl", "hyperparameters here: preset code; the source's are preset cleanrl"),
        ("", "hyperparameters here: preset code"),
    ],
)
def test_whose_settings_are_said(monkeypatch: pytest.MonkeyPatch, published: str, expected: str) -> None:
    (verdict,) = judge(monkeypatch, summary(around(3000, 200)), reference(preset=published))
    assert expected in verdict.differences


def test_incomplete_and_single_runs_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = summary(around(3000, 200))
    half = CellSummary(whole.cell, "td3", whole.run_scores, None, None, None, None, None)
    assert judge(monkeypatch, half, reference()) == []
    assert judge(monkeypatch, summary([3000.0]), reference()) == []


def test_differences_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = summary(around(3000, 200))
    published = reference(steps="998400", spread_kind="std", notes="three episodes", variant="wrapped")
    (verdict,) = judge(monkeypatch, cell, published)
    text = "\n".join(verdict.differences)
    assert "Hopper-v1, here Hopper-v5" in text and "only while it is healthy" in text and "mujoco-py" in text
    assert "998,400 steps, here 1,000,000" in text
    assert "50 evaluations over the budget, 10 episodes each, the last ten cover 20% of it" in text
    assert "preset code" in text and "three episodes" in text and "wrapped" in text and "ddof" in text
    (same,) = judge(monkeypatch, cell, reference(environment="Hopper-v5"))
    assert not any("Hopper" in line or "healthy" in line for line in same.differences)
    (newer,) = judge(monkeypatch, cell, reference(environment="Hopper-v4"))
    assert "only while it is healthy" in newer.differences[0] and "mujoco-py" not in newer.differences[0]


def test_table(monkeypatch: pytest.MonkeyPatch) -> None:
    found = judge(monkeypatch, summary(around(3000, 200)), reference(), reference(n="1"))
    table = tables.verdicts(found).data
    assert list(table["verdict"]) == ["reproduced", "descriptive"]
    assert table["power"].notna().tolist() == [True, False]
    assert list(tables.verdicts([]).data.columns) == list(table.columns)


# ---- the data


def rows(name: str) -> list[dict[str, str]]:
    with open(p.FOLDER / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_every_row_is_valid_and_has_source_and_margin() -> None:
    published = p.references()
    assert len(published) == len(rows("published.csv")) > 900
    assert {r.source for r in published} == set(p.sources())
    assert {r.family for r in published} <= set(p.margins())
    assert {source.bibtex for source in p.sources().values()} <= set(entries())
    assert len(p.margins()) == len(rows("margins.csv"))


def test_no_row_can_be_judged_without_spread_and_seeds() -> None:
    judged = [r for r in p.references() if not r.obstacle]
    assert len(judged) > 500
    assert all(r.std is not None and r.n >= 2 and np.isfinite(r.std) for r in judged)
    assert all((r.spread is None) == (r.spread_kind in ("none", "ci95")) for r in p.references())
    assert all((r.low is not None) == (r.spread_kind == "ci95") for r in p.references())


def test_rows_are_consistent() -> None:
    for r in p.references():
        assert not r.preset or r.preset in SYSTEMS[r.system].module().PRESETS, (r.source, r.system)
        family, _ = p.split_version(r.environment)
        assert family == r.family
        assert r.system in ALGORITHMS or r.system == "td3-ablation"
        if r.low is not None:
            assert r.low < r.mean < r.high
    double = [tuple(row.values()) for row in rows("published.csv")]
    assert len(double) == len(set(double))


@pytest.mark.parametrize(
    ("source", "environment", "system", "estimator", "mean", "std"),
    [  # as printed in table 1 of the paper, where n = 10 and ddof = 0
        ("td3_paper", "HalfCheetah-v1", "td3", "peak_of_mean_curve", 9636.95, 859.065 * (10 / 9) ** 0.5),
        ("td3_paper", "Hopper-v1", "td3", "peak_of_mean_curve", 3564.07, 114.74 * (10 / 9) ** 0.5),
        ("td3_paper", "Ant-v1", "td3", "peak_of_mean_curve", 4372.44, 1000.33 * (10 / 9) ** 0.5),
    ],
)
def test_known_rows(
    source: str, environment: str, system: str, estimator: str, mean: float, std: float
) -> None:
    (row,) = [
        r
        for r in p.references()
        if (r.source, r.environment, r.system, r.estimator) == (source, environment, system, estimator)
        and r.printed == "TD3"
    ]
    assert row.mean == pytest.approx(mean, abs=0.01) and row.std == pytest.approx(std, abs=0.01)


def test_every_task_of_the_suite_has_a_margin() -> None:
    for task, spec in suites.TASKS.items():
        margin = p.margins()[p.split_version(task)[0]].margin
        assert 0 < margin <= 0.11 * (spec.reference_score - spec.random_score), task


# ---- the bibliography


def test_every_entry_is_whole_and_every_key_has_one() -> None:
    for key, entry in entries().items():
        assert re.fullmatch(r"[\w:-]+", key)
        assert entry.count("{") == entry.count("}") and entry.endswith("}"), key
        for field in ("author", "title", "year"):
            assert re.search(rf"^  {field} = \{{.+\}}", entry, re.MULTILINE), (key, field)
    for keys in (*ALGORITHMS.values(), *SUITES.values(), FAMILIES.values()):
        assert set(keys) <= set(entries())


def test_this_suite_is_cited_as_it_calls_itself() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert f"version = {{{version}}}" in entries()["ascent"]
    title = re.search(r'^title: "(.+)"', citation, re.MULTILINE)[1]
    author = re.search(r'name: "(.+)"', citation)[1]
    assert f"{{{title}}}" in entries()["ascent"] and f"{{{author}}}" in entries()["ascent"]


def test_systems_and_suites_of_the_project_have_papers() -> None:
    from ascent.algorithms import SYSTEMS

    for name, system in SYSTEMS.items():
        facts = {"system": name, "algorithm": system.algorithm, "config": system.overrides}
        assert algorithm_keys(facts), name
    for task, spec in suites.TASKS.items():
        package = "terry2021pettingzoo" if spec.team else "towers2024gymnasium"
        assert package in task_keys(spec.suite, task)


def test_a_bibliography_holds_what_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    cell = summary(around(3000, 200))
    task = Task("mujoco", "Hopper-v5", {}, (cell,), (), ())
    keys = re.findall(r"^@\w+\{(.+),", bibliography([task], []), re.MULTILINE)
    assert keys == [
        "ascent",
        "erez2011infinite",
        "fujimoto2018addressing",
        "todorov2012mujoco",
        "towers2024gymnasium",
    ]
    found = judge(monkeypatch, cell, reference(source="henderson2018"))
    assert "@inproceedings{henderson2018deep," in bibliography([task], found)
    assert bibliography([task], found) == bibliography([task, task], found * 2)

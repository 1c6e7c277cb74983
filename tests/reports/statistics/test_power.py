"""`ascent power`: seeds for a claim, from pilot runs."""

import numpy as np
import pytest
from statsmodels.stats.power import TTestIndPower

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.statistics import power
from ascent.reports.statistics.aggregate import Task, aggregate
from ascent.reports.statistics.comparisons import both_tests
from tests.command import call
from tests.reports.conftest import Records


def tasks_of(store: Records) -> list[Task]:
    return aggregate(load(store.runs), Declared())


def pilots(store: Records, levels: dict[str, float], n: int = 40, spread: float = 40.0) -> None:
    """Cells with normal scores of exactly this mean and standard deviation."""
    for k, (system, level) in enumerate(levels.items()):
        scores = np.random.default_rng(k).normal(size=n)
        scores = level + spread * (scores - scores.mean()) / scores.std(ddof=1)
        store.flat_runs(store.cell(system=system, points=2), scores.tolist(), points=2)


def test_seeds_as_the_t_test_needs(store: Records) -> None:
    """One pair, normal scores one standard deviation apart: about the 17 seeds of a t test."""
    pilots(store, {"ppo": 340.0, "sac": 300.0})
    family, (row,) = power.plan(tasks_of(store), Declared(), 20, 0.8)
    exact = TTestIndPower()
    assert family == 1 and row.difference == pytest.approx(40.0)
    assert row.seeds is not None and abs(row.seeds - exact.solve_power(1.0, power=0.8, alpha=0.05)) <= 3
    assert row.power == pytest.approx(exact.power(1.0, 20, 0.05), abs=0.06)


def test_the_family_and_an_assumed_difference(store: Records) -> None:
    """Three systems on one task: 5% over 3; a difference in normalised score replaces the observed one."""
    pilots(store, {"ppo": 340.0, "sac": 300.0, "td3": 300.0})
    family, rows = power.plan(tasks_of(store), Declared(), 20, 0.8)
    assert family == 3
    exact = TTestIndPower().power(1.0, 20, 0.05 / 3)
    assert rows[0].power == pytest.approx(exact, abs=0.06) and rows[2].power < 0.03 and rows[2].seeds is None
    span = 475.0 - 22.2
    _, assumed = power.plan(tasks_of(store), Declared(baseline="td3"), 20, 0.8, difference=60 / span)
    assert [round(abs(row.difference), 6) for row in assumed] == [60.0, 60.0]
    exact = TTestIndPower().power(1.5, 20, 0.05 / 2)
    assert all(row.power == pytest.approx(exact, abs=0.05) for row in assumed)


def test_the_claims_are_those_of_a_report(store: Records) -> None:
    """The same power as that of fresh samples in `both_tests`, where 30% of the runs of a system fail."""
    rng = np.random.default_rng(0)
    fails = 300 + 20 * rng.normal(size=60) - 200 * (np.arange(60) % 10 < 3)
    store.flat_runs(store.cell(system="ppo", points=2), (305 + 20 * rng.normal(size=60)).tolist(), points=2)
    store.flat_runs(store.cell(system="sac", points=2), fails.tolist(), points=2)
    _, (row,) = power.plan(tasks_of(store), Declared(), 20, 0.8)
    assert row.x.sample is not None and row.y.sample is not None
    claims = []
    for _ in range(200):
        samples = [(rng.choice(row.x.sample, 20), rng.choice(row.y.sample, 20) + rng.normal(size=20))]
        claims.append(both_tests(samples, 1)[0].differs)
    assert row.power == pytest.approx(np.mean(claims), abs=0.12)


def test_smoothed_samples_keep_mean_spread_and_failures() -> None:
    rng = np.random.default_rng(1)
    scores = np.r_[rng.normal(size=14), rng.normal(size=6) - 30]
    drawn = power.smoothed(scores, (4_000, 20), rng)
    assert drawn.mean() == pytest.approx(scores.mean(), abs=0.2)
    assert drawn.std() == pytest.approx(scores.std(ddof=1), rel=0.02)
    assert power.smoothed(np.full(5, 3.0), (2, 4), rng).tolist() == [[3.0] * 4] * 2
    ceiling = np.r_[np.zeros(18), -1.0, -2.0]
    assert len(np.unique(power.smoothed(ceiling, (50, 20), rng).round(9))) == 3


def test_command(store: Records, capsys: pytest.CaptureFixture) -> None:
    """The same table twice; what cannot be planned is told."""
    pilots(store, {"ppo": 400.0, "sac": 300.0}, n=5)
    store.flat_runs(store.cell(system="td3", points=2), [300.0], points=2)
    code, first, _ = call(capsys, "power", str(store.runs), "--seeds", "8")
    assert code == 0 and "power at 8" in first and "td3: n=1" in first
    assert "5% over a family of 3" in first
    assert call(capsys, "power", str(store.runs), "--seeds", "8")[1] == first
    for words, message in (
        (["--seeds", "1"], "seeds must be from 2"),
        (["--power", "1"], "power must be between 0 and 1"),
        (["--difference", "0"], "difference must be positive"),
    ):
        code, _, err = call(capsys, "power", str(store.runs), *words)
        assert code == 2 and message in err

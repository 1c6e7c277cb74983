"""Sample efficiency across tasks, and dispersion across time and runs."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.statistics import bootstrap
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.comparisons import compare
from ascent.reports.statistics.dispersion import dispersion
from ascent.reports.statistics.efficiency import efficiencies
from ascent.reports.statistics.estimators import Curves
from tests.reports.conftest import SPECS, Records


def test_bands_are_those_of_resampled_runs() -> None:
    """Values and limits against scipy's trimmed means of samples that are drawn within tasks."""
    rng = np.random.default_rng(0)
    scores = [
        rng.normal(size=(n, 3)) * spread + [0.0, 1.0, 2.0] for n, spread in ((10, 0.3), (7, 1.0), (9, 2.0))
    ]
    value, low, high = bootstrap.curves({"ppo": scores}, resamples=20_000)["ppo"]
    np.testing.assert_allclose(value, scipy_stats.trim_mean(np.vstack(scores), 0.25), rtol=1e-12)
    for point in range(3):
        alone = bootstrap.aggregates({"ppo": [task[:, point] for task in scores]}, 20_000)["ppo"]["iqm"]
        assert value[point] == pytest.approx(alone.value, rel=1e-12)
        width = alone.high - alone.low
        assert low[point] == pytest.approx(alone.low, abs=0.06 * width)
        assert high[point] == pytest.approx(alone.high, abs=0.06 * width)


def test_coverage_of_the_bands() -> None:
    """95% bands contain the true IQM in 93% to 97% of samples of ten runs on four tasks."""
    rng = np.random.default_rng(1)
    inside = [
        (low <= 0) & (high >= 0)
        for scores in rng.normal(size=(400, 4, 10, 2))
        for _, low, high in bootstrap.curves({"ppo": list(scores)}, resamples=400).values()
    ]
    assert np.mean(inside) == pytest.approx(0.95, abs=0.03)


def curves_of(store: Records, steps: dict[str, int], points: dict[str, int]) -> list[np.ndarray]:
    for task, budget in steps.items():
        spec = SPECS[task]
        for system, share in (("ppo", 0.8), ("sac", 0.4)):
            cell = store.cell(task, system, steps=budget, points=points[task])
            for seed in range(4):
                level = spec["random_score"] + share * (spec["reference_score"] - spec["random_score"])
                growth = np.linspace(0, 1, points[task] + 1)
                store.run(cell, seed, list(spec["random_score"] + growth * (level - spec["random_score"])))
    tasks = aggregate(load(store.runs), Declared())
    (found,) = efficiencies(tasks, compare(tasks, Declared()).groups)
    return [found.shares, np.array([np.nan]) if found.steps is None else found.steps, found.curves["ppo"][0]]


def test_normalised_curves_across_tasks(store: Records) -> None:
    """Straight lines from random to 0.8 of the reference, on grids of 10 and 20 evaluations."""
    shares, steps, ppo = curves_of(
        store, {"CartPole-v1": 100_000, "Pendulum-v1": 200_000}, {"CartPole-v1": 10, "Pendulum-v1": 20}
    )
    np.testing.assert_allclose(shares, np.linspace(0, 1, 11))
    np.testing.assert_allclose(ppo, 0.8 * shares, atol=1e-12)
    assert np.isnan(steps).all()  # the budgets differ


def test_environment_steps_where_budgets_are_equal(store: Records) -> None:
    _, steps, _ = curves_of(
        store, {"CartPole-v1": 100_000, "Pendulum-v1": 100_000}, {"CartPole-v1": 10, "Pendulum-v1": 10}
    )
    np.testing.assert_allclose(steps, np.linspace(0, 100_000, 11))


def test_report_has_the_curves(sweep: Records) -> None:
    table = pd.read_csv(sweep.out / "tables" / "efficiency.csv")
    last = table[table.share_of_budget == 1].set_index("system")
    assert (last.low < last.iqm).all() and (last.iqm < last.high).all() and (last.steps == 100_000).all()
    assert last.iqm["ppo"] > last.iqm["reinforce"] and len(table) == 4 * 51
    assert (sweep.out / "figures" / "efficiency.pdf").exists()
    assert 'data-plot="efficiency"' in (sweep.out / "index.html").read_text()


def test_dispersion_by_hand() -> None:
    """A trend alone has none across time, an offset alone none but across runs, noise both."""
    steps = np.arange(41)
    trend = np.outer(steps, np.ones(4))
    offset = np.array([0.0, 1.0, 2.0, 3.0])
    found = dispersion(Curves(steps, trend + offset, np.zeros(4)))
    assert found.across_time.value == 0 and found.across_runs == pytest.approx(1.5)
    rng = np.random.default_rng(2)
    noise = rng.normal(size=(4_001, 200))
    found = dispersion(Curves(np.arange(4_001), noise, np.zeros(200)))
    quartiles = 2 * scipy_stats.norm.ppf(0.75)
    assert found.across_runs == pytest.approx(quartiles / np.sqrt(10), rel=0.03)
    nine = np.diff(rng.normal(size=(100_000, 10)), axis=1)  # the IQR of nine differences
    assert found.across_time.value == pytest.approx(scipy_stats.iqr(nine, axis=1).mean(), rel=0.02)
    assert found.across_time.low < found.across_time.value < found.across_time.high


def test_short_curves_have_no_dispersion() -> None:
    found = dispersion(Curves(np.arange(10), np.zeros((10, 3)), np.zeros(3)))
    assert np.isnan(found.across_time.value) and np.isnan(found.across_runs)
    alone = dispersion(Curves(np.arange(11), np.arange(11.0)[:, None], np.zeros(1)))
    assert np.isnan(alone.across_runs) and alone.across_time.value == 0

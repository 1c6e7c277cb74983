"""Statistics against rliable, scipy, statsmodels, enumeration and published tables."""

from itertools import combinations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.weightstats import ttost_ind

from reports import bootstrap, stats
from tests.reports.peer import rliable_library

metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")


@pytest.fixture
def scores() -> dict[str, list[np.ndarray]]:
    """Two systems, seven tasks, ten runs each, with ties."""
    rng = np.random.default_rng(0)
    return {
        name: [np.round(rng.normal(0.1 * k, 0.4, size=10), 1) for k in range(7)]
        for name in ("ours", "theirs")
    }


def matrix(tasks: list[np.ndarray]) -> np.ndarray:
    """(runs, tasks), as rliable takes scores."""
    return np.column_stack(tasks)


def test_aggregates_are_rliables(scores: dict) -> None:
    theirs = {
        "iqm": metrics.aggregate_iqm, "mean": metrics.aggregate_mean, "median": metrics.aggregate_median,
        "optimality_gap": metrics.aggregate_optimality_gap,
    }  # fmt: skip
    found = bootstrap.aggregates(scores, resamples=100)
    for label, tasks in scores.items():
        for name, function in theirs.items():
            assert found[label][name].value == pytest.approx(function(matrix(tasks)), rel=1e-12, abs=1e-12)


def test_profiles_are_rliables(scores: dict) -> None:
    library = rliable_library()
    taus = np.linspace(-0.5, 1.5, 31)
    found = bootstrap.profiles(scores, taus, resamples=100)
    for label, tasks in scores.items():
        theirs = [library.run_score_deviation(matrix(tasks), tau) for tau in taus]
        assert np.max(np.abs(found[label][0] - theirs)) < 1e-12


def test_improvement_is_rliables(scores: dict) -> None:
    systems = {label: {str(k): task for k, task in enumerate(tasks)} for label, tasks in scores.items()}
    (found,) = bootstrap.improvements(systems, [("ours", "theirs")], resamples=100)
    theirs = metrics.probability_of_improvement(matrix(scores["ours"]), matrix(scores["theirs"]))
    assert found.value == pytest.approx(theirs, abs=1e-12)


def test_improvement_is_over_the_tasks_that_both_have() -> None:
    systems = {"x": {"a": np.array([1.0, 2.0]), "b": np.zeros(2)}, "y": {"a": np.array([0.0, 1.0, 9.0])}}
    (found,) = bootstrap.improvements(systems, [("x", "y")], resamples=100)
    assert found.value == pytest.approx((1 + 0.5 + 0 + 1 + 1 + 0) / 6)


def test_bootstrap_of_a_mean_has_the_standard_error_of_theory() -> None:
    """Drawn within tasks: variance sum s_k^2 / n_k / T^2 with ddof 0; limits by the wider tails."""
    rng = np.random.default_rng(1)
    tasks = [rng.normal(size=10) * (k + 1) for k in range(3)]
    found = bootstrap.aggregates({"x": tasks}, resamples=50_000)["x"]["mean"]
    error = np.sqrt(sum(task.var() / 10 for task in tasks)) / 3
    t = scipy_stats.t.ppf(0.975, 27)
    assert found.high - found.low == pytest.approx(2 * np.sqrt(10 / 9) * t * error, rel=0.02)


def test_an_interval_depends_on_its_system_alone(scores: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not on which others are there, nor on the size of blocks."""
    taus, systems = np.array([0.2]), {k: {str(i): t for i, t in enumerate(v)} for k, v in scores.items()}
    both = bootstrap.aggregates(scores, resamples=3_000), bootstrap.profiles(scores, taus, resamples=300)
    pair = bootstrap.improvements(systems, [("ours", "theirs")], resamples=3_000)
    monkeypatch.setattr(bootstrap, "BLOCK", 700)
    alone = {"theirs": scores["theirs"]}
    assert bootstrap.aggregates(alone, resamples=3_000)["theirs"] == both[0]["theirs"]
    assert str(bootstrap.profiles(alone, taus, resamples=300)["theirs"]) == str(both[1]["theirs"])
    more = systems | {"third": {"0": np.array([1.0, 2.0])}}
    found = bootstrap.improvements(more, [("ours", "third"), ("ours", "theirs")], resamples=3_000)
    assert found[1] == pair[0]
    assert bootstrap.aggregates(alone, resamples=3_000, seed=1) != bootstrap.aggregates(
        alone, resamples=3_000
    )


def test_one_run_per_task_has_no_interval() -> None:
    found = bootstrap.aggregates({"x": [np.array([1.0]), np.array([2.0])]}, resamples=50)["x"]["mean"]
    assert found.value == 1.5 and np.isnan(found.low) and np.isnan(found.high)


def brute_force(x: np.ndarray, y: np.ndarray) -> float:
    """p of the studentised permutation test by going through every partition with scipy's t."""
    pooled, n = np.r_[x, y], len(x)

    def t(chosen: tuple[int, ...]) -> float:
        rest = [k for k in range(len(pooled)) if k not in chosen]
        return abs(scipy_stats.ttest_ind(pooled[list(chosen)], pooled[rest], equal_var=False).statistic)

    observed = t(tuple(range(n)))
    return float(np.mean([t(c) >= observed - 1e-9 for c in combinations(range(len(pooled)), n)]))


@pytest.mark.parametrize(("n", "m", "shift"), [(4, 4, 1.0), (3, 5, 2.0), (5, 4, 0.0)])
def test_permutation_test_is_exact(n: int, m: int, shift: float) -> None:
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=(3, n)) + shift, 3 * rng.normal(size=(3, m))
    expected = [brute_force(a, b) for a, b in zip(x, y, strict=True)]
    assert stats.permutation_p(x, y, seed=0).tolist() == pytest.approx(expected, abs=1e-12)


def test_permutation_test_of_many_partitions_is_near_scipys() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=10) + 1.0, rng.normal(size=10)
    theirs = scipy_stats.permutation_test(
        (x, y), lambda a, b, axis: scipy_stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic,
        n_resamples=20_000, rng=1,
    ).pvalue  # fmt: skip
    (ours,) = stats.permutation_p(x[None], y[None], seed=0)
    assert ours == pytest.approx(theirs, abs=0.01)
    assert stats.permutation_p(x[None], y[None], seed=0) == ours


def test_permutation_test_without_spread() -> None:
    """Constants that differ: only the partition observed and its mirror image are as extreme."""
    ones = np.ones((1, 4))
    assert stats.permutation_p(ones, 5 * ones, seed=0) == pytest.approx([2 / 70])
    assert stats.permutation_p(ones, ones, seed=0) == [1.0]
    assert stats.permutation_p(np.ones((1, 10)), 5 * np.ones((1, 10)), seed=0)[0] == pytest.approx(
        1e-4, abs=2e-4
    )


def test_holm_by_hand() -> None:
    """Holm 1979: sorted p times 4, 3, 2, 1, never decreasing, at most 1. NaN does not count."""
    adjusted = stats.holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
    assert stats.holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert np.isnan(stats.holm(np.array([np.nan]))).all()


def test_tolerance_interval_has_the_sizes_of_wilks() -> None:
    """46 values for 90% with 95% confidence (Wilks 1941; also Conover, table A6), 8 for 50%."""
    rng = np.random.default_rng(0)
    for n, content in ((7, None), (8, 0.5), (45, 0.5), (46, 0.9), (75, 0.9), (76, 0.9)):
        sample = rng.normal(size=n)
        found = stats.tolerance_interval(sample)
        assert (found.content if found else None) == content
        if n in (8, 46, 75):
            assert (found.low, found.high) == (sample.min(), sample.max())
    assert (found.low, found.high) == (
        np.sort(sample)[1],
        np.sort(sample)[-2],
    )  # from 76 on the second will do


def test_failure_interval_is_clopper_pearsons() -> None:
    for failures, n in ((0, 10), (3, 10), (10, 10)):
        theirs = scipy_stats.binomtest(failures, n).proportion_ci(0.95, "exact")
        assert stats.failure_interval(failures, n) == pytest.approx((theirs.low, theirs.high))
    # none of ten failed: up to 1 - 0.025^(1/10) = 30.8% may
    assert stats.failure_interval(0, 10)[1] == pytest.approx(1 - 0.025**0.1)


def test_steps_to_threshold_by_hand() -> None:
    every = stats.steps_to_threshold(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), np.ones(5, bool))
    assert (every.median, every.reached, every.n) == (3.0, 5, 5)
    # censored at 2: of the four left at 3 one reaches it, S = 4/5 * 3/4 ... the median is where S <= 1/2
    some = stats.steps_to_threshold(
        np.array([1.0, 2.0, 3.0, 4.0, 6.0, 6.0]), np.array([1, 0, 1, 1, 0, 0], bool)
    )
    assert some.median == 4.0  # S: 5/6, then 5/6 * 3/4 = 0.625, then 0.625 * 2/3 = 0.417
    few = stats.steps_to_threshold(np.array([1.0, 9.0, 9.0]), np.array([1, 0, 0], bool))
    assert (few.median, few.low, few.high, few.reached) == (None, None, None, 1)
    assert stats.steps_to_threshold(np.array([9.0, 9.0]), np.zeros(2, bool)).median is None


def test_welch_is_scipys_and_says_nothing_about_constants() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=6), 2 * rng.normal(size=9) + 1
    found, theirs = stats.welch(x, y), scipy_stats.ttest_ind(x, y, equal_var=False)
    assert (found.t, found.df, found.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))
    assert found.difference == pytest.approx(x.mean() - y.mean())
    assert found.high - found.difference == pytest.approx(found.difference - found.low)
    flat = stats.welch(np.full(5, 500.0), np.full(5, 499.0))
    assert flat.difference == 1.0 and np.isnan([flat.low, flat.high, flat.t, flat.p]).all()
    one_flat = stats.welch(np.full(5, 500.0), np.array([480.0, 490.0, 470.0]))
    assert np.isfinite(one_flat.p)


def test_hedges_g_by_hand() -> None:
    """g = J d with J = 1 - 3 / (4 df - 1) (Hedges 1981)."""
    x, y = np.array([3.0, 5.0, 7.0]), np.array([1.0, 2.0, 3.0, 2.0])
    pooled = np.sqrt((2 * x.var(ddof=1) + 3 * y.var(ddof=1)) / 5)
    found = stats.hedges_g(x, y)
    assert found.value == pytest.approx((1 - 3 / (4 * 5 - 1)) * 3.0 / pooled)
    assert found.low < found.value < found.high
    assert np.isnan(stats.hedges_g(np.ones(3), np.zeros(3)).value)


def test_superiority_counts_pairs() -> None:
    x, y = np.array([1.0, 4.0, 4.0]), np.array([0.0, 4.0])
    assert stats.superiority(x, y).value == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6)
    apart = stats.superiority(np.arange(5.0) + 10, np.arange(7.0))
    assert apart == (1.0, pytest.approx(0.025 ** (1 / 5)), 1.0)
    assert stats.superiority(np.arange(7.0), np.arange(5.0) + 10).high == pytest.approx(1 - 0.025 ** (1 / 5))
    assert stats.superiority(np.ones(3), np.ones(3)).value == 0.5


def test_detectable_difference_is_cohens() -> None:
    """Cohen 1988, table 2.4.1: 64 per group for d = 0.5, 26 for d = 0.8, at 5% two-sided and power 0.8."""
    for n, d in ((64, 0.5), (26, 0.8)):
        assert stats.minimum_detectable_difference(1.0, 1.0, n, n) == pytest.approx(d, abs=0.01)
    assert stats.minimum_detectable_difference(3.0, 3.0, 64, 64) == pytest.approx(1.5, abs=0.03)


def test_equivalence_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.7, 3.0):
        x, y = rng.normal(size=12) + shift, 1.5 * rng.normal(size=8)
        found = stats.equivalence(x.mean(), x.std(ddof=1), 12, y.mean(), y.std(ddof=1), 8, 2.0)
        p = ttost_ind(x, y, -2.0, 2.0, usevar="unequal")[0]
        assert found.p_equivalent == pytest.approx(p, rel=1e-9)
        assert found.p_different == pytest.approx(scipy_stats.ttest_ind(x, y, equal_var=False).pvalue)
        low, high = scipy_stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("difference", "std", "verdict"),
    [
        (0.0, 1.0, "reproduced"), (0.0, 10.0, "inconclusive"), (5.0, 1.0, "different"),
        (0.5, 0.3, "reproduced"),  # significantly different, and still within the margin: it does not matter
        (1.9, 0.3, "different"), (2.1, 3.0, "inconclusive"), (1.0, 0.0, "reproduced"),
        (2.5, 0.0, "different"),
    ],
)  # fmt: skip
def test_verdicts(difference: float, std: float, verdict: str) -> None:
    found = stats.equivalence(10.0 + difference, std, 10, 10.0, std, 10, margin=2.0)
    assert (found.verdict, found.difference) == (verdict, pytest.approx(difference))
    assert 0 <= found.power <= 1

"""Statistics against rliable, scipy, statsmodels, enumeration and published tables."""

from collections.abc import Callable
from itertools import combinations
from math import comb

import numpy as np
import pytest
from scipy import stats as scipy_stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import ttost_ind

from ascent.reports.statistics import bootstrap, effect_sizes, intervals, significance
from ascent.reports.statistics.equivalence import attainable, equivalence, power, predict, seeds_needed
from ascent.reports.statistics.holm import holm
from ascent.reports.statistics.published import margins, references
from tests.reports.peer import rliable_library


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
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")
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
    metrics = pytest.importorskip("rliable.metrics", reason="rliable is not installed")
    theirs = metrics.probability_of_improvement(matrix(scores["ours"]), matrix(scores["theirs"]))
    assert found.value == pytest.approx(theirs, abs=1e-12)


def test_improvement_is_over_the_tasks_that_both_have() -> None:
    systems = {"x": {"a": np.array([1.0, 2.0]), "b": np.zeros(2)}, "y": {"a": np.array([0.0, 1.0, 9.0])}}
    (found,) = bootstrap.improvements(systems, [("x", "y")], resamples=100)
    assert found.value == pytest.approx((1 + 0.5 + 0 + 1 + 1 + 0) / 6)


def test_bootstrap_of_a_mean_is_students_and_welchs_interval() -> None:
    """Of a mean all is known: for one task the interval is Student's, for two it is that of Welch's sum."""
    rng = np.random.default_rng(1)
    tasks = [rng.normal(size=n) * spread + 2 for n, spread in ((12, 0.3), (7, 1.0))]
    found = bootstrap.aggregates({"one": tasks[:1], "two": tasks}, resamples=200_000)
    low, high = intervals.student_t_interval(tasks[0])
    assert found["one"]["mean"].high - found["one"]["mean"].low == pytest.approx(high - low, rel=0.03)
    welch = significance.welch(
        tasks[0], -tasks[1]
    )  # the difference of the one and minus the other is their sum
    width = found["two"]["mean"].high - found["two"]["mean"].low
    assert width == pytest.approx((welch.high - welch.low) / 2, rel=0.03)


def test_shares_that_all_runs_agree_on_have_the_exact_limit() -> None:
    """No resample differs from the sample: 0.025^(1/n) of n runs, or of the pairs that share no run."""
    low, high = [np.full(5, 0.0), np.full(5, 0.1)], [np.full(5, 1.0), np.full(4, 1.1)]
    value, lower, upper = bootstrap.profiles({"x": low}, np.array([-1.0, 0.05, 2.0]))["x"]
    assert value.tolist() == [1.0, 0.5, 0.0]
    bound = 0.025 ** (1 / 10)
    assert lower.tolist() == pytest.approx([bound, 0.5, 0.0])  # the tasks are as constant as they are
    assert upper.tolist() == pytest.approx([1.0, 0.5, 1 - bound])
    systems = {
        name: {str(k): task for k, task in enumerate(tasks)} for name, tasks in (("x", high), ("y", low))
    }
    better, worse = bootstrap.improvements(systems, [("x", "y"), ("y", "x")], resamples=100)
    assert better == (1.0, pytest.approx(0.025 ** (1 / 9)), 1.0)
    assert worse == (0.0, 0.0, pytest.approx(1 - 0.025 ** (1 / 9)))


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
    """p of the permutation test by going through every partition with scipy's Brunner-Munzel statistic."""
    pooled, n = np.r_[x, y], len(x)

    def t(chosen: tuple[int, ...]) -> float:
        first, rest = pooled[list(chosen)], np.delete(pooled, chosen)
        if first.min() > rest.max() or first.max() < rest.min():
            return np.inf
        return abs(scipy_stats.brunnermunzel(first, rest).statistic)

    observed = t(tuple(range(n)))
    return float(np.mean([t(c) >= observed - 1e-9 for c in combinations(range(len(pooled)), n)]))


@pytest.mark.parametrize(
    ("n", "m", "shift", "places"),
    [(4, 4, 1.0, 9), (3, 5, 2.0, 9), (5, 4, 0.0, 9), (5, 5, 1.0, 0), (3, 6, 1.0, 0)],
)
def test_permutation_test_is_exact(n: int, m: int, shift: float, places: int) -> None:
    """With ties too: rounded to whole numbers, most scores are tied."""
    rng = np.random.default_rng(n)
    x = np.round(rng.normal(size=(3, n)) + shift, places)
    y = np.round(3 * rng.normal(size=(3, m)), places)
    expected = [brute_force(a, b) for a, b in zip(x, y, strict=True)]
    assert significance.permutation_p(x, y, 1, seed=0).tolist() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("places", [9, 0])
def test_drawn_partitions_give_the_p_of_all(places: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten runs each are enumerated; the same samples by draws come near, as many as the family needs."""
    rng = np.random.default_rng(0)
    x, y = np.round(rng.normal(size=(40, 10)) + 1.5, places), np.round(rng.normal(size=(40, 10)), places)
    exact = significance.permutation_p(x, y, 500, seed=0)
    monkeypatch.setattr(significance, "EXACT_PARTITIONS", 1)
    drawn = significance.permutation_p(x, y, 500, seed=0)
    assert (exact < 5e-4).any() and (exact > 0.02).any()
    draws = np.where(exact > 0.008, 9_999, 99_999)  # about a hundred as extreme settle it
    assert (np.abs(drawn - exact) < 5 * np.sqrt(exact / draws) + 2 / draws).all()
    assert significance.permutation_p(x, y, 500, seed=0).tolist() == drawn.tolist()


def test_samples_that_do_not_overlap_have_the_counted_p() -> None:
    """Two of all partitions, of whatever size: draws cannot reach it."""
    for n, m in ((4, 4), (10, 10), (15, 15), (12, 30)):
        x, y = np.arange(1.0, n + 1), np.arange(100.0, 100.0 + m)
        (p,) = significance.permutation_p(x[None], y[None], 1, seed=0)
        assert p == pytest.approx(2 / comb(n + m, n), rel=1e-9)
    ones = np.ones((1, 4))
    assert significance.permutation_p(ones, 5 * ones, 1, seed=0) == pytest.approx([2 / 70])
    assert significance.permutation_p(ones, ones, 1, seed=0) == [1.0]
    # The four smallest of 4 + 16 are tied with others: no partition separates them.
    few, many = np.full((1, 4), 9.0), np.ones((1, 16))
    assert significance.permutation_p(few, many, 1, seed=0) == pytest.approx([1 / comb(20, 4)])


def test_a_difference_of_rounding_is_a_tie() -> None:
    x, y = np.array([[0.1 + 0.2, 0.7, 0.9]]), np.array([[0.3, 0.5, 1.1]])
    same = np.array([[0.3, 0.7, 0.9]])
    assert significance.permutation_p(x, y, 1, seed=0) == significance.permutation_p(same, y, 1, seed=0)


def test_holm_by_hand() -> None:
    """Holm 1979: sorted p times 4, 3, 2, 1, never decreasing, at most 1. NaN does not count."""
    adjusted = holm(np.array([0.01, 0.04, np.nan, 0.03, 0.005]))
    assert adjusted.tolist() == pytest.approx([0.03, 0.06, np.nan, 0.06, 0.02], nan_ok=True)
    assert holm(np.array([0.9, 0.8])).tolist() == [1.0, 1.0]
    assert np.isnan(holm(np.array([np.nan]))).all()
    p = np.random.default_rng(0).random(40) ** 3
    assert holm(p).tolist() == pytest.approx(multipletests(p, method="holm")[1].tolist(), rel=1e-12)


def test_tolerance_interval_has_the_sizes_of_wilks() -> None:
    """46 values for 90% with 95% confidence (Wilks 1941; also Conover, table A6), 8 for 50%."""
    rng = np.random.default_rng(0)
    for n, content in ((7, None), (8, 0.5), (45, 0.5), (46, 0.9), (75, 0.9), (76, 0.9)):
        sample = rng.normal(size=n)
        found = intervals.tolerance_interval(sample)
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
        assert intervals.failure_interval(failures, n) == pytest.approx((theirs.low, theirs.high))
    # none of ten failed: up to 1 - 0.025^(1/10) = 30.8% may
    assert intervals.failure_interval(0, 10)[1] == pytest.approx(1 - 0.025**0.1)


def test_steps_to_threshold_by_hand() -> None:
    every = intervals.steps_to_threshold(np.array([3.0, 1.0, 2.0, 5.0, 4.0]), np.ones(5, bool))
    assert (every.median, every.reached, every.n) == (3.0, 5, 5)
    # censored at 2: of the four left at 3 one reaches it, S = 4/5 * 3/4 ... the median is where S <= 1/2
    some = intervals.steps_to_threshold(
        np.array([1.0, 2.0, 3.0, 4.0, 6.0, 6.0]), np.array([1, 0, 1, 1, 0, 0], bool)
    )
    assert some.median == 4.0  # S: 5/6, then 5/6 * 3/4 = 0.625, then 0.625 * 2/3 = 0.417
    few = intervals.steps_to_threshold(np.array([1.0, 9.0, 9.0]), np.array([1, 0, 0], bool))
    assert (few.median, few.low, few.high, few.reached) == (None, None, None, 1)
    assert intervals.steps_to_threshold(np.array([9.0, 9.0]), np.zeros(2, bool)).median is None


def test_welch_is_scipys_and_says_nothing_about_constants() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=6), 2 * rng.normal(size=9) + 1
    found, theirs = significance.welch(x, y), scipy_stats.ttest_ind(x, y, equal_var=False)
    assert (found.t, found.df, found.p) == pytest.approx((theirs.statistic, theirs.df, theirs.pvalue))
    assert found.difference == pytest.approx(x.mean() - y.mean())
    assert found.high - found.difference == pytest.approx(found.difference - found.low)
    flat = significance.welch(np.full(5, 500.0), np.full(5, 499.0))
    assert flat.difference == 1.0 and np.isnan([flat.low, flat.high, flat.t, flat.p]).all()
    one_flat = significance.welch(np.full(5, 500.0), np.array([480.0, 490.0, 470.0]))
    assert np.isfinite(one_flat.p)


def test_hedges_g_by_hand() -> None:
    """g = J d with J = 1 - 3 / (4 df - 1) (Hedges 1981)."""
    x, y = np.array([3.0, 5.0, 7.0]), np.array([1.0, 2.0, 3.0, 2.0])
    pooled = np.sqrt((2 * x.var(ddof=1) + 3 * y.var(ddof=1)) / 5)
    found = effect_sizes.hedges_g(x, y)
    assert found.value == pytest.approx((1 - 3 / (4 * 5 - 1)) * 3.0 / pooled)
    assert found.low < found.value < found.high
    assert np.isnan(effect_sizes.hedges_g(np.ones(3), np.zeros(3)).value)


def test_superiority_counts_pairs() -> None:
    x, y = np.array([1.0, 4.0, 4.0]), np.array([0.0, 4.0])
    assert effect_sizes.superiority(x, y).value == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6)
    apart = effect_sizes.superiority(np.arange(5.0) + 10, np.arange(7.0))
    assert apart == (1.0, pytest.approx(0.025 ** (1 / 5)), 1.0)
    assert effect_sizes.superiority(np.arange(7.0), np.arange(5.0) + 10).high == pytest.approx(
        1 - 0.025 ** (1 / 5)
    )
    assert effect_sizes.superiority(np.ones(3), np.ones(3)).value == 0.5


def test_detectable_difference_is_cohens() -> None:
    """Cohen 1988, table 2.4.1: 64 per group for d = 0.5, 26 for d = 0.8, at 5% two-sided and power 0.8."""
    for n, d in ((64, 0.5), (26, 0.8)):
        assert significance.minimum_detectable_difference(1.0, 1.0, n, n) == pytest.approx(d, abs=0.01)
    assert significance.minimum_detectable_difference(3.0, 3.0, 64, 64) == pytest.approx(1.5, abs=0.03)
    # At a stricter level more is needed; where the permutation test cannot reach it, nothing is enough.
    stricter = significance.minimum_detectable_difference(1.0, 1.0, 10, 10, alpha=0.05 / 1320)
    assert stricter > 1.5 * significance.minimum_detectable_difference(1.0, 1.0, 10, 10)
    assert np.isnan(significance.minimum_detectable_difference(1.0, 1.0, 3, 3))
    assert np.isnan(significance.minimum_detectable_difference(1.0, 1.0, 5, 5, alpha=0.05 / 12))


def test_equivalence_is_statsmodels() -> None:
    rng = np.random.default_rng(0)
    for shift in (0.0, 0.7, 3.0):
        x, y = rng.normal(size=12) + shift, 1.5 * rng.normal(size=8)
        found = equivalence(x.mean(), x.std(ddof=1), 12, y.mean(), y.std(ddof=1), 8, 2.0)
        p = ttost_ind(x, y, -2.0, 2.0, usevar="unequal")[0]
        assert found.p_equivalent == pytest.approx(p, rel=1e-9)
        assert found.p_different == pytest.approx(scipy_stats.ttest_ind(x, y, equal_var=False).pvalue)
        low, high = scipy_stats.ttest_ind(x, y, equal_var=False).confidence_interval(0.95)
        assert (found.low, found.high) == pytest.approx((low, high))


@pytest.mark.parametrize(
    ("difference", "std", "verdict"),
    [
        (0.0, 1.0, "reproduced"), (0.0, 3.0, "inconclusive"), (5.0, 1.0, "different"),
        (0.5, 0.3, "different within the margin"), (1.9, 0.3, "different"), (2.1, 3.0, "inconclusive"),
        (0.0, 10.0, "unattainable"), (15.0, 10.0, "different"),
        (1.0, 0.0, "different within the margin"), (0.0, 0.0, "reproduced"), (2.5, 0.0, "different"),
    ],
)  # fmt: skip
def test_verdicts(difference: float, std: float, verdict: str) -> None:
    found = equivalence(10.0 + difference, std, 10, 10.0, std, 10, margin=2.0)
    assert (found.verdict, found.difference) == (verdict, pytest.approx(difference))
    assert 0 <= found.power <= 1


@pytest.mark.parametrize("n", [2, 3, 5, 10, 20])
def test_unattainable_is_what_no_sample_reaches(n: int) -> None:
    """The margin at which it ends, against a search over numbers of runs and spreads of the other sample."""
    sizes = np.unique(np.logspace(np.log10(2), 6, 300).astype(int))
    least = np.inf
    for std in np.logspace(-3, 4, 200):
        mine, theirs = std**2 / sizes, 1 / n
        df = (mine + theirs) ** 2 / (mine**2 / (sizes - 1) + theirs**2 / (n - 1))
        least = min(least, (scipy_stats.t.ppf(0.95, df) * np.sqrt(mine + theirs)).min())
    assert attainable(1.0, n, 1.001 * least) and not attainable(1.0, n, 0.999 * least)


def test_rows_that_nothing_can_reproduce() -> None:
    """211 of 534. With our mean known exactly there are 213: at few seeds, noise of ours helps two."""
    rows = [r for r in references() if not r.obstacle and r.score == "return"]
    found = [r for r in rows if not attainable(r.std, r.n, margins()[r.family].margin)]
    assert (len(found), len(rows)) == (211, 534)
    halves = [scipy_stats.t.ppf(0.95, r.n - 1) * r.std / r.n**0.5 for r in rows]
    assert sum(h >= margins()[r.family].margin for h, r in zip(halves, rows, strict=True)) == 213
    for row in found[::20]:
        margin = margins()[row.family].margin
        test = equivalence(row.mean, 0.0, 10_000, row.mean, row.std, row.n, margin)
        assert (test.verdict, test.seeds, test.power < 0.8) == ("unattainable", None, True)


@pytest.mark.parametrize("std", [0.0, 0.5, 1.0, 2.0])
def test_seeds_needed(std: float) -> None:
    seeds = seeds_needed(std, 1.0, 10, 1.2)
    assert seeds is not None and power(std, seeds, 1.0, 10, 1.2) >= 0.8
    assert seeds == 2 or power(std, seeds - 1, 1.0, 10, 1.2) < 0.8
    assert seeds_needed(std, 1.0, 10, 0.6) is None


def test_predictions_cover() -> None:
    rng = np.random.default_rng(0)
    for n, m in ((10, 10), (5, 10), (3, 5)):
        published, ours = rng.normal(size=(4_000, n)), rng.normal(size=(4_000, m))
        found = [predict(x.mean(), x.std(ddof=1), n, m) for x in published]
        means = np.mean([p.low <= y.mean() <= p.high for p, y in zip(found, ours, strict=True)])
        assert means == pytest.approx(0.95, abs=0.012)
        assert np.mean([y.min() < p.worst for p, y in zip(found, ours, strict=True)]) <= 0.05


def test_rounding_breaks_no_tie() -> None:
    """Ten runs of each: 66 wins and one tie are 0.665, however the tied scores were added up."""
    x = np.array([0.1 + 0.2, *[5.0] * 6, *[-5.0] * 3]) + 1e3 - 1e3
    y = np.array([0.3, *[1.0] * 8, -9.0])
    assert x[0] != y[0]
    exact = np.mean([(round(a, 9) > b) + 0.5 * (round(a, 9) == b) for a in x for b in y])
    assert effect_sizes.superiority(x, y).value == pytest.approx(exact, abs=1e-12)
    for first, second in ((x, y), (y, x)):
        (found,) = bootstrap.improvements({"x": {"a": first}, "y": {"a": second}}, [("x", "y")], resamples=10)
        assert found.value in (pytest.approx(exact, abs=1e-12), pytest.approx(1 - exact, abs=1e-12))
    first, second = effect_sizes.tied(np.array([1.0, 2.0]), np.array([2.0 + 1e-9, 1.0 + 1e-15]))
    assert first.tolist() == [1.0, 2.0] and second.tolist() == [2.0 + 1e-9, 1.0]


BAD = np.array([1.0, np.nan, 2.0])
GOOD = np.array([1.0, 2.0, 4.0])


@pytest.mark.parametrize("bad", [BAD, np.array([1.0, -np.inf, 2.0])])
@pytest.mark.parametrize(
    "function",
    [
        intervals.student_t_interval, intervals.interquartile_mean, intervals.tolerance_interval,
        lambda x: intervals.steps_to_threshold(x, np.ones(3, bool)),
        lambda x: significance.welch(GOOD, x), lambda x: effect_sizes.hedges_g(x, GOOD),
        lambda x: effect_sizes.superiority(GOOD, x),
        lambda x: significance.permutation_p(np.stack([GOOD, x]), np.stack([GOOD, GOOD]), 1, seed=0),
        lambda x: bootstrap.aggregates({"x": [GOOD, x]}, resamples=10),
        lambda x: bootstrap.profiles({"x": [x]}, np.array([0.5]), resamples=10),
        lambda x: bootstrap.improvements({"x": {"a": x}, "y": {"a": GOOD}}, [("x", "y")], resamples=10),
    ],
)  # fmt: skip
def test_scores_that_are_not_finite_are_refused(function: Callable, bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite"):
        function(bad)


def test_one_run_on_a_side() -> None:
    one, more = np.array([3.0]), np.array([1.0, 2.0, 4.0, 5.0])
    assert intervals.tolerance_interval(one) is None
    found = significance.welch(one, more)
    assert found.difference == 0.0 and np.isnan(found[1:]).all()
    assert np.isnan(effect_sizes.hedges_g(more, one)).all()
    among, above = effect_sizes.superiority(one, more), effect_sizes.superiority(one + 9, more)
    assert among.value == 0.5 and np.isnan(among[1:]).all()
    assert above == (1.0, pytest.approx(0.025), 1.0)
    for refuse in (
        lambda: significance.permutation_p(one[None], more[None], 1, seed=0),
        lambda: equivalence(3.0, np.nan, 1, 3.0, 1.0, 4, margin=1.0),
    ):
        with pytest.raises(ValueError, match="two runs in each sample"):
            refuse()


def test_welch_of_published_cars() -> None:
    """NIST/SEMATECH e-Handbook 1.3.5.3, AUTO83B, from the moments: t = -12.94627 with 136.8750 degrees."""
    found = equivalence(20.14458, 6.41470, 249, 30.48101, 6.10771, 79, margin=1.0)
    t = scipy_stats.t.ppf(0.975, 136.8750)
    assert found.difference / (found.high - found.difference) * t == pytest.approx(-12.94627, abs=1e-4)
    assert found.verdict == "different"


def test_superiority_of_published_pain_scores() -> None:
    """Brunner and Munzel 2000, table 1: P = 0.788961, 95% limits 0.5952169 and 0.9827052, 17.682841 degrees.

    Ours has the same standard error, and its limits on the logit scale: logit P -+ t SE / (P (1 - P)).
    """
    x = np.array([1, 2, 1, 1, 1, 1, 1, 1, 1, 1, 2, 4, 1, 1], float)
    y = np.array([3, 3, 4, 3, 1, 2, 3, 1, 1, 5, 4], float)
    found = effect_sizes.superiority(y, x)
    assert found.value == pytest.approx(0.788961, abs=1e-6)
    half = (0.9827052 - 0.5952169) / 2 / (found.value * (1 - found.value))
    expected = 1 / (1 + np.exp(-np.log(found.value / (1 - found.value)) - np.array([-half, half])))
    assert found[1:] == pytest.approx(expected.tolist(), abs=1e-6)


def test_steps_to_threshold_of_published_remissions() -> None:
    """Freireich et al. 1963, weeks of remission: medians 23 (13, none) and 8 (4, 11), log-log limits."""
    treated = [6, 6, 6, 7, 10, 13, 16, 22, 23, -6, -9, -10, -11, -17, -19, -20, -25, -32, -32, -34, -35]
    weeks = np.array(treated, float)  # below 0: censored
    found = intervals.steps_to_threshold(np.abs(weeks), weeks > 0)
    assert found == (23.0, 13.0, None, 9, 21)
    placebo = np.array([1, 1, 2, 2, 3, 4, 4, 5, 5, 8, 8, 8, 8, 11, 11, 12, 12, 15, 17, 22, 23], float)
    assert intervals.steps_to_threshold(placebo, np.ones(21, bool)) == (8.0, 4.0, 11.0, 21, 21)


@pytest.mark.parametrize(("n", "m", "shift"), [(3, 3, 0.0), (5, 12, -4.0), (20, 20, 1.0), (10, 10, 60.0)])
def test_hedges_interval_is_of_the_noncentral_t(n: int, m: int, shift: float) -> None:
    """At the limits the observed t has the probabilities 2.5% and 97.5%."""
    rng = np.random.default_rng(n)
    x, y = rng.normal(size=n) + shift, rng.normal(size=m)
    found, test = effect_sizes.hedges_g(x, y), scipy_stats.ttest_ind(x, y)
    limits = np.array(found[1:]) / np.sqrt(1 / n + 1 / m)
    p = scipy_stats.nct.cdf(test.statistic, n + m - 2, limits)
    assert p == pytest.approx([0.975, 0.025], abs=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_hedges_interval_of_scores_that_hardly_vary(sign: int) -> None:
    """From t = 1000 on by its limiting distribution, without a jump; and it ends."""
    x, y = np.tile([-1.0, 1.0], 5), np.tile([-1.0, 1.0], 5)
    below, above, far = (effect_sizes.hedges_g(x + sign * k, y) for k in (471.0, 472.0, 1e9))
    assert above[1:] == pytest.approx(np.array(below[1:]) * 472 / 471, rel=1e-4)
    assert far[1:] == pytest.approx(np.array(below[1:]) * 1e9 / 471, rel=1e-4)


@pytest.mark.parametrize(("n", "m", "ratio"), [(5, 5, 1.0), (10, 10, 3.0), (5, 20, 0.5)])
def test_detectable_difference_is_found_in_four_of_five(n: int, m: int, ratio: float) -> None:
    difference = significance.minimum_detectable_difference(1.0, ratio, n, m)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, 20_000)) + difference, ratio * rng.normal(size=(m, 20_000))
    found = scipy_stats.ttest_ind(x, y, equal_var=False).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.03)  # 77% at five each, whose degrees of freedom vary
    assert significance.minimum_detectable_difference(0.0, 0.0, n, m) == 0.0


def test_intervals_do_not_depend_on_the_unit() -> None:
    """Returns in thousands, or shifted: the tests say the same."""
    rng = np.random.default_rng(4)
    x, y = np.round(rng.normal(size=(3, 9)), 1), np.round(rng.normal(size=(3, 8)) + 1, 1)
    expected = significance.permutation_p(x, y, 1, seed=0)
    assert significance.permutation_p(1e4 * x, 1e4 * y, 1, seed=0).tolist() == expected.tolist()
    assert significance.permutation_p(x - 500, y - 500, 1, seed=0).tolist() == expected.tolist()
    assert significance.permutation_p(-x, -y, 1, seed=0).tolist() == expected.tolist()


@pytest.mark.parametrize("tasks", [4, 5])
def test_resampled_statistics_are_the_statistics_of_the_samples_drawn(tasks: int) -> None:
    rng = np.random.default_rng(0)
    scores = [rng.normal(0.8, 0.4, size=5 + k) for k in range(tasks)]
    uniform = np.random.default_rng(3).random((40, sum(map(len, scores))))
    found = bootstrap._resampled_statistics(scores, 40, np.random.default_rng(3))
    parts = np.split(uniform, np.cumsum([len(task) for task in scores])[:-1], axis=1)
    for row in range(40):
        drawn = [task[(part[row] * len(task)).astype(int)] for task, part in zip(scores, parts, strict=True)]
        for name, function in bootstrap.STATISTICS.items():
            assert found[name][row] == pytest.approx(function(drawn), abs=1e-12)


def test_limits_of_steps_are_log_log() -> None:
    """Times t at which log(-log S) is less than 1.96 errors from log(-log 1/2), by Greenwood's formula."""
    steps, reached = np.arange(1.0, 15.0), np.array([1, 1, 0, 1, 1, 1, 0, 1, 1, 0, 1, 1, 1, 0], bool)
    survival, variance, inside = 1.0, 0.0, []
    for k, (step, event) in enumerate(zip(steps, reached, strict=True)):
        left = len(steps) - k
        if event:
            survival *= 1 - 1 / left
            variance += 1 / (left * (left - 1))
            z = (np.log(-np.log(survival)) - np.log(np.log(2))) * abs(np.log(survival)) / np.sqrt(variance)
            inside += [step] if abs(z) < 1.959964 else []
    found = intervals.steps_to_threshold(steps, reached)
    following = steps[reached & (steps > inside[-1])][0]  # the survival stays what it is until then
    assert (found.low, found.high) == (inside[0], following)

"""Robustness: scores, comparisons and unused tables against arithmetic by hand."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.page import robustness as pages
from ascent.reports.statistics import robustness
from ascent.reports.statistics.aggregate import aggregate
from ascent.suites.perturb import KINDS, grid
from tests.reports.perturbed import (
    NOISE,
    NOMINAL,
    RANDOM,
    T_1,
    cell_of,
    found,
    play,
    policy,
    read,
    table,
    text_of,
    usual,
)  # fmt: skip

if TYPE_CHECKING:
    from tests.reports.conftest import Records


def areas(store: "Records") -> pd.DataFrame:
    """The table of areas that a report would have."""
    return pages.areas(found(store)).data.set_index("system")


def levels(store: "Records") -> pd.DataFrame:
    return pages.levels(found(store)).data.set_index("system")


def about(mean: float, a: float, b: float) -> object:
    """Mean and limits of two values: s / sqrt(2) is |a - b| / 2."""
    half = T_1 * abs(a - b) / 2
    return pytest.approx([mean, mean - half, mean + half], rel=1e-12, abs=1e-9)


def test_a_curve_by_hand(store: "Records") -> None:
    """Scores, shares that are kept, area and worst level, each with the interval over seeds."""
    cell = usual(store)
    (curve,) = found(store).curves
    assert (curve.kind.name, curve.levels, curve.grid_rows) == ("action_noise", (0.1, 0.2, 0.4), [0, 1, 2])
    assert curve.nominal == pytest.approx(NOMINAL)
    assert curve.scores == pytest.approx(np.array(list(NOISE.values())))
    assert curve.retained == pytest.approx(np.array([[0.5, 1.0], [0.0, 0.5], [-0.5, 0.25]]))
    assert curve.worst == 2

    store.build()
    rows = read(store, "robustness").set_index("level")
    assert rows.index.tolist() == [0.0, 0.1, 0.2, 0.4]
    for level, (a, b) in {0.0: NOMINAL, **NOISE}.items():
        row = rows.loc[level]
        assert row[["mean", "low", "high"]].tolist() == about((a + b) / 2, a, b)
        kept = (a - RANDOM) / 100, (b - RANDOM) / 200
        assert row[["kept", "kept_low", "kept_high"]].tolist() == about(sum(kept) / 2, *kept)
        assert row[["suite", "task", "system", "digest", "kind", "n"]].tolist() == [
            "classic", "CartPole-v1", "ppo", cell.name.rpartition("-")[2], "action_noise", 2,
        ]  # fmt: skip
    (row,) = read(store, "robustness_areas").to_dict("records")
    assert (row["kind"], row["n"], row["levels"], row["worst_level"]) == ("action_noise", 2, 3, 0.4)
    for name, a, b in (
        ("nominal", *NOMINAL),
        ("area", (72.2 + 22.2 - 27.8) / 3, (222.2 + 122.2 + 72.2) / 3),
        ("worst", *NOISE[0.4]),
        ("kept", 0.0, 1.75 / 3),
    ):
        assert [row[name], row[f"{name}_low"], row[f"{name}_high"]] == about((a + b) / 2, a, b), name
    markdown = (store.out / "tables" / "robustness_areas.md").read_text()
    assert "| 22.2 (at 0.4) | 0.29 [-3.41, 4.00] | 2 |" in markdown  # as it is on the page
    assert not found(store).pairs and not found(store).refused


def test_each_level_counts_once(store: "Records") -> None:
    """The area is the mean over the levels of the grid, however far apart; the nominal one is none."""
    cell = cell_of(store)
    curve = {level: (100.0 * k, 100.0 * k + 60) for k, level in enumerate(KINDS["gravity"].grid)}
    play(cell, "gravity", curve, NOMINAL)
    (row,) = areas(store).to_dict("records")
    assert row["area"] == pytest.approx(np.mean([100.0 * k + 30 for k in range(5)]))
    assert (row["worst"], row["worst_level"], row["levels"]) == (pytest.approx(30.0), 0.5, 5)
    kept = [((200 - RANDOM) / 100), ((260 - RANDOM) / 200)]
    assert row["kept"] == pytest.approx(np.mean(kept))


def test_extra_levels_are_drawn_and_count_nowhere(store: "Records") -> None:
    """Who asks for more levels must not move what others measured on the grid."""
    cell = usual(store)
    other = cell_of(store, system="sac")
    play(other, "action_noise", {level: (150.0, 151.0) for level in NOISE}, (200.0, 210.0))
    store.build(figures=True)
    before = [read(store, name) for name in ("robustness_areas", "robustness_comparisons")]
    drawn = store.bytes()["figures/robustness-CartPole-v1.png"]
    table(cell, "action_noise", 0.3, (-900.0, -901.0))
    table(cell, "action_noise", 8.0, (900.0, 901.0))
    store.build(figures=True)
    for was, name in zip(before, ("robustness_areas", "robustness_comparisons"), strict=True):
        pd.testing.assert_frame_equal(was, read(store, name))
    assert levels(store).loc["ppo", "level"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4, 8.0]
    assert store.bytes()["figures/robustness-CartPole-v1.png"] != drawn
    curve = next(curve for curve in found(store).curves if curve.summary.label == "ppo")
    assert (curve.grid_rows, curve.levels[curve.worst]) == ([0, 1, 3], 0.4)


def test_an_incomplete_grid_has_no_area(store: "Records") -> None:
    """Its levels are there; nobody compares it."""
    for system, left_out in (("ppo", 0.2), ("sac", None)):
        cell = cell_of(store, system=system)
        curve = {level: means for level, means in NOISE.items() if level != left_out}
        play(cell, "action_noise", {**curve, 0.3: (90.0, 91.0)}, NOMINAL)
    assert areas(store).index.tolist() == ["sac"]
    assert found(store).pairs == ()
    assert levels(store).loc["ppo", "level"].tolist() == [0.0, 0.1, 0.3, 0.4]
    (curve,) = [curve for curve in found(store).curves if curve.summary.label == "ppo"]
    assert curve.grid_rows is None and curve.retained is not None


def test_the_grid_is_the_tasks(store: "Records") -> None:
    """Of steps from which all is missing those below its time limit: Pendulum's is 200, CartPole's 500."""
    for task, own in (("CartPole-v1", (300, 100, 30, 10)), ("Pendulum-v1", (100, 30, 10))):
        assert own == tuple(one.level for one in grid(task) if one.kind == "open_loop")
        play(cell_of(store, task=task), "open_loop", {level: (50.0, float(level)) for level in own}, NOMINAL)
    assert areas(store)["levels"].tolist() == [4, 3]
    assert areas(store)["area"].tolist() == pytest.approx([(50 + 440 / 4) / 2, (50 + 140 / 3) / 2])
    assert levels(store)["level"].tolist() == [np.inf, 300, 100, 30, 10, np.inf, 100, 30, 10]  # from never on


@pytest.mark.parametrize("score", [-200.0, -200.5, -196.0], ids=["as random", "below", "hardly above"])
def test_no_share_of_a_score_that_is_no_better_than_random(store: "Records", score: float) -> None:
    """A share of nothing is no number, and one of less than nothing would turn the comparison round."""
    task = "MountainCar-v0"
    for system, nominal in (("ppo", (-150.0, score)), ("sac", (-150.0, -195.0))):
        play(cell_of(store, system=system, task=task), "action_noise", NOISE, nominal)
    shares = ["kept", "kept_low", "kept_high"]
    assert areas(store).loc["ppo", shares].isna().all() and areas(store).loc["sac", shares].notna().all()
    assert areas(store).loc["ppo", "area"] == areas(store).loc["sac", "area"]
    assert levels(store).loc["ppo", "kept"].isna().all() and levels(store).loc["sac", "kept"].notna().all()
    assert found(store).pairs == ()


def test_one_seed_has_no_interval(store: "Records") -> None:
    play(
        cell_of(store, seeds=1),
        "action_noise",
        {level: means[:1] for level, means in NOISE.items()},
        (122.2,),
    )
    play(cell_of(store, system="sac"), "action_noise", NOISE, NOMINAL)
    store.build()
    row = read(store, "robustness_areas").set_index("system").loc["ppo"]
    assert (row["n"], row["area"]) == (1, pytest.approx(22.2))
    assert row[["area_low", "area_high", "kept_low", "kept_high"]].isna().all() and row[
        "kept"
    ] == pytest.approx(0)
    assert found(store).pairs == ()


def test_a_seed_that_diverged_has_no_policy_and_no_row(store: "Records") -> None:
    cell = usual(store)
    store.run(cell, 2, [0.0] + [50.0] * 20, status="diverged")
    (curve,) = found(store).curves
    assert curve.nominal == pytest.approx(NOMINAL) and found(store).refused == ()
    table(cell, "nominal", 0.0, (*NOMINAL, 1.0))  # a row of a policy that is none
    assert found(store).curves == () and len(found(store).refused) == 1


def three(store: "Records") -> dict[str, np.ndarray]:
    """System -> what each of six seeds keeps on CartPole under action noise, and 0.1 less under gravity: sac
    most. Two of them play Pendulum, too.
    """
    rng = np.random.default_rng(3)
    kept = {
        system: mean + 0.05 * rng.normal(size=6)
        for system, mean in (("ppo", 0.4), ("sac", 0.8), ("td3", 0.45))
    }
    for system, shares in kept.items():
        cell, base = cell_of(store, 6, system), np.array([50.0, 80.0, 100.0, 150.0, 200.0, 300.0])
        spread = np.array([-0.2, 0.05, 0.15])[:, None]  # over levels: no mean of theirs is touched
        noise = RANDOM + (shares + spread) * base
        play(cell, "action_noise", dict(zip(NOISE, noise, strict=True)), RANDOM + base)
        every = KINDS["gravity"].grid
        play(cell, "gravity", dict.fromkeys(every, RANDOM + (shares - 0.1) * base), RANDOM + base)
        if system != "td3":
            cell, low = cell_of(store, 6, system, "Pendulum-v1"), -1229.0
            play(cell, "gravity", dict.fromkeys(every, low + shares * 2 * base), low + 2 * base)
    return kept


def holm(p: dict[tuple, float]) -> dict[tuple, float]:
    """The smallest times the number of them, the next times one less, never below the one before."""
    adjusted, least = {}, 0.0
    for k, key in enumerate(sorted(p, key=p.get)):
        least = adjusted[key] = max(least, min(1.0, (len(p) - k) * p[key]))
    return adjusted


def permuted(x: np.ndarray, y: np.ndarray) -> float:
    """Share of the partitions of all runs whose Brunner-Munzel statistic is at least that observed."""
    pooled = np.concatenate((x, y))
    every = set(range(len(pooled)))

    def t(first: Sequence[int]) -> float:
        a, b = pooled[list(first)], pooled[sorted(every - set(first))]
        wins = (a[:, None] > b + 1e-12) + 0.5 * (np.abs(a[:, None] - b) <= 1e-12)
        error = wins.mean(1).var(ddof=1) / len(a) + wins.mean(0).var(ddof=1) / len(b)
        return abs(wins.mean() - 0.5) / np.sqrt(error) if error > 1e-15 else np.inf * (wins.mean() != 0.5)

    own = t(range(len(x)))
    return float(np.mean([t(c) >= own * (1 - 1e-9) for c in itertools.combinations(sorted(every), len(x))]))


def test_who_keeps_more(store: "Records") -> None:
    """Every two systems of a task under a kind, by both tests, after Holm over all seven comparisons."""
    kept = three(store)
    two = list(itertools.combinations(kept, 2))
    pairs = {("CartPole-v1", kind, *names) for kind in ("action_noise", "gravity") for names in two}
    pairs |= {("Pendulum-v1", "gravity", "ppo", "sac")}
    tests = {key: scipy_stats.ttest_ind(kept[key[2]], kept[key[3]], equal_var=False) for key in pairs}
    p_permutation = {key: permuted(kept[key[2]], kept[key[3]]) for key in pairs}
    page = store.build()
    rows = {tuple(row[k] for k in ("task", "kind", "x", "y")): row for row in
            read(store, "robustness_comparisons").to_dict("records")}  # fmt: skip
    assert rows.keys() == pairs
    p_welch_holm, p_permutation_holm = (
        holm({key: test.pvalue for key, test in tests.items()}),
        holm(p_permutation),
    )
    for key, row in rows.items():
        x, y = kept[key[2]].mean(), kept[key[3]].mean()
        shift = 0.1 if key[:2] == ("CartPole-v1", "gravity") else 0.0
        assert [row["x_kept"], row["y_kept"]] == pytest.approx([x - shift, y - shift], rel=1e-9)
        assert row["difference"] == pytest.approx(x - y, rel=1e-9)
        limits = tests[key].confidence_interval(0.95)
        assert [row["low"], row["high"]] == pytest.approx([limits.low, limits.high], rel=1e-9)
        assert row["p_welch"] == pytest.approx(tests[key].pvalue, rel=1e-6)
        assert row["p_permutation"] == pytest.approx(p_permutation[key])
        assert row["p_welch_holm"] == pytest.approx(p_welch_holm[key], rel=1e-6)
        assert row["p_permutation_holm"] == pytest.approx(p_permutation_holm[key])
        assert row["differs"] == ("sac" in key)
        digests = [path.name.rpartition("-")[2] for path in (store.cell(key[0], s) for s in key[2:])]
        assert [row["x_digest"], row["y_digest"]] == digests
    assert max(row["p_welch_holm"] / row["p_welch"] for row in rows.values()) == pytest.approx(7)
    assert "5 of 7 comparisons of retained shares show a\nsignificant difference" in page


def test_both_tests_must_reject(store: "Records") -> None:
    """Without any spread Welch's test is not defined: then nothing is claimed."""
    for system, share in (("ppo", 0.5), ("sac", 0.75)):
        cell = cell_of(store, 6, system)
        play(cell, "action_noise", dict.fromkeys(NOISE, [RANDOM + 64 * share] * 6), [RANDOM + 64] * 6)
    (pair,) = found(store).pairs
    assert pair.p_permutation_holm < 0.05 and np.isnan(pair.p_welch_holm) and not pair.differs
    assert "0 of 1 comparisons" in store.build()


def test_what_is_unlike_is_not_compared(store: "Records") -> None:
    usual(store)
    play(cell_of(store, system="sac", steps=50_000), "action_noise", NOISE, NOMINAL)
    page = store.build()
    assert len(found(store).curves) == 2 and found(store).pairs == ()
    assert "differ in the step budget" in page and "of 1 comparisons" not in page


def replaced(old: str, new: str, count: int = -1) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, count))

    return change


def without_last_rows(n: int) -> Callable[[Path], None]:
    return lambda path: path.write_text("".join(path.read_text().splitlines(keepends=True)[:-n]))


OTHERS = "was not played by the final policies of these runs"
SEVERAL = "mixes perturbations, versions or numbers of episodes"
REFUSED: dict[str, tuple[Callable[[Path], object], str]] = {
    "other policies": (replaced(policy(1)[:16], "0123456789abcdef"), OTHERS),
    "a seed is missing": (without_last_rows(2), OTHERS),
    "an episode is missing": (without_last_rows(1), SEVERAL),
    "two kinds": (replaced("action_noise", "gravity", 1), SEVERAL),
    "two levels": (replaced(",0.2,", ",0.1,", 1), SEVERAL),
    "two versions": (replaced("\n1,", "\n2,", 1), SEVERAL),
    "not a number": (replaced("112.2", "nan"), "contains returns that are not finite"),
    "infinite": (replaced("112.2", "inf"), "contains returns that are not finite"),
    "no column": (replaced("return", "score"), "not a table of episodes"),
    "words": (replaced("112.2", "many"), "not a table of episodes"),
    "cut": (lambda path: path.write_text(path.read_text()[:-12]), "not a table of episodes"),
    "empty": (lambda path: path.write_text(""), "not a table of episodes"),
    "bytes": (lambda path: path.write_bytes(b"\xff\xfe\x00" * 50), "not a table of episodes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_table_is_named_and_not_used(store: "Records", case: str) -> None:
    """With the reason; the other levels stay, and the area is gone with it."""
    change, reason = REFUSED[case]
    cell = usual(store)
    change(cell / "robustness" / "action_noise-0.2.csv")
    said = found(store)
    assert said.refused == (f"{cell.relative_to(store.runs)}/robustness/action_noise-0.2.csv: {reason}",)
    (curve,) = said.curves
    assert (curve.levels, curve.grid_rows) == ((0.1, 0.4), None)


def test_without_the_nominal_task_there_is_no_curve(store: "Records") -> None:
    cell = usual(store)
    (cell / "robustness" / "nominal-0.csv").unlink()
    (line,) = found(store).refused
    assert found(store).curves == () and line.endswith("nominal-0.csv: missing; all tables are ignored")
    assert "nominal-0.csv: missing" in text_of(store.build())


def test_a_cell_without_a_score_has_no_curve(store: "Records") -> None:
    """What its summary refuses, this section does not tell either."""
    cell = usual(store)
    store.run(cell, 2, [0.0, 1.0], status=None)
    assert (found(store).curves, found(store).refused) == ((), ())


def test_one_protocol(store: "Records") -> None:
    """Levels of other episodes than the nominal task's are no part of its curve; cells of other episodes
    are not compared.
    """
    cell, other = usual(store), usual(store, system="sac")
    assert len(found(store).pairs) == 1
    path = cell / "robustness" / "action_noise-0.2.csv"
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([head, rows[0], rows[2]]) + "\n")
    assert [len(curve.levels) for curve in found(store).curves] == [2, 3]
    assert "differs from nominal-0.csv in its episodes or version" in found(store).refused[0]
    play(cell, "action_noise", NOISE, NOMINAL)
    for path in (other / "robustness").glob("*.csv"):
        head, *rows = path.read_text().splitlines()
        path.write_text("\n".join([head, rows[0], rows[2]]) + "\n")
    assert len(found(store).curves) == 2 and found(store).pairs == ()


def test_a_table_under_another_name(store: "Records") -> None:
    """A copy of one level in place of another, an episode that is there twice."""
    cell = usual(store)
    folder = cell / "robustness"
    (folder / "action_noise-0.4.csv").write_bytes((folder / "action_noise-0.2.csv").read_bytes())
    assert found(store).refused[0].endswith("action_noise-0.4.csv: contains action_noise at 0.2")
    path = table(cell, "action_noise", 0.4, NOISE[0.4])
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    assert found(store).refused[0].endswith("action_noise-0.4.csv: contains a duplicate episode")


def test_the_declared_family(store: "Records") -> None:
    """Pairs with the baseline alone, if there is one; those that cannot show anything are counted, said, and
    those that cannot be made still count.
    """
    for system in ("ppo", "sac", "td3"):
        usual(store, system=system)
    tasks = aggregate(load(store.runs), Declared())
    all_pairs, few = (
        robustness.measure(store.runs, tasks, Declared(baseline=name)) for name in (None, "sac")
    )
    assert (all_pairs.family, len(all_pairs.pairs), all_pairs.unreachable) == (3, 3, 3)
    assert (few.family, len(few.pairs)) == (2, 2)
    assert all("sac" in (pair.x.summary.label, pair.y.summary.label) for pair in few.pairs)
    assert "3 of 3 cannot become significant with so few seeds" in text_of(store.build())
    (cell,) = (store.runs / "classic" / "CartPole-v1").glob("td3-*")
    play(cell, "action_noise", NOISE, (0.0, 0.0))  # worse than random: keeps nothing
    less = found(store)
    assert (less.family, len(less.pairs)) == (3, 1)


def test_sampled_actions_are_measured_from_sampled_actions(store: "Records") -> None:
    """The nominal score of the protocol of RPC's authors is its own level 0, which is no level of the area;
    without it, nothing of the protocol is used.
    """
    cell = usual(store)
    for level in KINDS["rpc_dropout"].grid:
        mean = {0.0: 82.2, 1.0: 22.2}.get(level, 52.2)  # 60 above random, then a half, then nothing
        table(cell, "rpc_dropout", level, (mean, mean))
    dropout, noise = found(store).curves
    assert (dropout.kind.name, dropout.kind.neutral) == ("rpc_dropout", 0.0)
    assert dropout.levels == (0.1, 0.25, 0.5, 0.75, 0.9, 1.0) and dropout.grid_rows == [0, 1, 2, 3, 4, 5]
    assert dropout.nominal == pytest.approx([82.2] * 2) and noise.nominal == pytest.approx(NOMINAL)
    assert dropout.retained == pytest.approx(np.array([[0.5] * 2] * 5 + [[0.0] * 2]))
    assert [point.level for point in dropout.points] == [0.0, *dropout.levels]
    row = areas(store).set_index("kind").loc["rpc_dropout"]
    assert (row["levels"], row["nominal"]) == (6, pytest.approx(82.2))
    assert row["area"] == pytest.approx((5 * 52.2 + 22.2) / 6)
    (cell / "robustness" / "rpc_dropout-0.csv").unlink()
    assert [curve.kind.name for curve in found(store).curves] == ["action_noise"]
    (fault,) = found(store).refused
    assert fault.endswith("rpc_dropout-0.csv: missing; all tables of rpc_dropout are ignored")


def test_without_its_grid_nothing_is_used(store: "Records") -> None:
    cell = usual(store)
    (cell / "robustness" / "grid.json").unlink()
    assert found(store).curves == () and found(store).refused[0].endswith("grid.json: missing or damaged")

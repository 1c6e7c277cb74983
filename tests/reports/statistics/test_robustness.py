"""The robustness section: numbers against arithmetic by hand, what is refused or left out, and what is drawn.

Tables are made by hand and lie where `ascent robustness` puts them.
"""

import base64
import itertools
import json
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from ascent import reports
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.read import load
from ascent.reports.checking import bundle
from ascent.reports.page import figures
from ascent.reports.page import robustness as pages
from ascent.reports.statistics import robustness
from ascent.reports.statistics.aggregate import aggregate
from ascent.runners import policies
from ascent.runners import robustness as recorder
from ascent.suites import perturb
from ascent.suites.perturb import KINDS, grid
from tests.command import call
from tests.reports import trained
from tests.reports.page.test_report_page import Elements
from tests.small import small_cell

if TYPE_CHECKING:
    from tests.reports.conftest import Records

RANDOM = 22.2  # CartPole's, in the records made here
TABLES = ("robustness", "robustness_areas", "robustness_comparisons")
# Mean returns of seeds 0 and 1, 100 and 200 above random; at 0.1 they keep 0.5 and 1, at 0.2 nothing and 0.5,
# at 0.4 less than nothing and 0.25.
NOMINAL = (122.2, 222.2)
NOISE = {0.1: (72.2, 222.2), 0.2: (22.2, 122.2), 0.4: (-27.8, 72.2)}
T_1 = float(np.tan(0.475 * np.pi))  # 97.5% quantile of Student's t with one degree of freedom


def policy(seed: int) -> str:
    return f"{seed:02d}ab" * 16


def cell_of(
    store: "Records", seeds: int = 2, system: str = "ppo", task: str = "CartPole-v1", **how: object
) -> Path:
    """A complete cell whose runs have a final policy."""
    cell = store.cell(task, system, **how)
    store.flat_runs(cell, [100.0 + seed for seed in range(seeds)])
    for seed in range(seeds):
        name_policy(cell, seed)
    return cell


def name_policy(cell: Path, seed: int) -> None:
    path = cell / f"seed-{seed}" / "result.json"
    result = json.loads(path.read_text())
    result["digests"]["policy.npz"] = policy(seed)
    path.write_text(json.dumps(result))


def table(
    cell: Path, kind: str, level: float, means: Sequence[float], name: str = "", seeds: Sequence[int] = ()
) -> Path:
    """Two episodes of each seed, whose mean is given."""
    lines = [",".join(recorder.KEYS)]
    for seed, mean in zip(seeds or range(len(means)), means, strict=True):
        for episode, value in enumerate((mean - 10.0, mean + 10.0)):
            words = (1, kind, level, seed, policy(seed)[:16], episode, repr(float(value)), 200, 0)
            lines.append(",".join(map(str, words)))
    path = cell / "robustness" / f"{name or f'{kind}-{level:g}'}.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    (path.parent / "grid.json").write_text(json.dumps(perturb.about(cell.parent.name)))
    return path


def play(cell: Path, kind: str, curve: dict[float, Sequence[float]], nominal: Sequence[float]) -> None:
    table(cell, "nominal", 0.0, nominal)
    for level, means in curve.items():
        table(cell, kind, level, means)


def usual(store: "Records", **how: object) -> Path:
    """The cell whose numbers stand above."""
    cell = cell_of(store, **how)
    play(cell, "action_noise", NOISE, NOMINAL)
    return cell


def found(store: "Records") -> robustness.Robustness:
    return robustness.measure(store.runs, aggregate(load(store.runs), Declared()), Declared())


def areas(store: "Records") -> pd.DataFrame:
    """The table of areas that a report would have."""
    return pages.areas(found(store)).data.set_index("system")


def levels(store: "Records") -> pd.DataFrame:
    return pages.levels(found(store)).data.set_index("system")


def read(store: "Records", name: str) -> pd.DataFrame:
    return pd.read_csv(store.out / "tables" / f"{name}.csv", dtype={"digest": str})


def text_of(page: str) -> str:
    """The page without its images, whose base64 may spell anything."""
    return re.sub(r"data:image/png;base64,[^\"]*", "", page)


def about(mean: float, a: float, b: float) -> object:
    """Mean and limits of two values: s / sqrt(2) is |a - b| / 2."""
    half = T_1 * abs(a - b) / 2
    return pytest.approx([mean, mean - half, mean + half], rel=1e-12, abs=1e-9)


# Numbers.


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
    store.build()
    before = [read(store, name) for name in ("robustness_areas", "robustness_comparisons")]
    drawn = store.bytes()["figures/robustness-CartPole-v1.png"]
    table(cell, "action_noise", 0.3, (-900.0, -901.0))
    table(cell, "action_noise", 8.0, (900.0, 901.0))
    store.build()
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


# Comparisons.


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
    """Share of the partitions of all runs whose |t| (Welch) is at least that which was observed."""
    pooled = np.concatenate((x, y))
    every = set(range(len(pooled)))

    def t(first: Sequence[int]) -> float:
        a, b = pooled[list(first)], pooled[sorted(every - set(first))]
        return abs(a.mean() - b.mean()) / np.sqrt(a.var(ddof=1) / len(a) + b.var(ddof=1) / len(b))

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


# What is refused, and what is left out.


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


def test_runs_that_were_trained_again_have_no_curve(store: "Records") -> None:
    """All tables are of the policies before: the page names each, and has no numbers of them."""
    cell = usual(store)
    path = cell / "seed-1" / "result.json"
    path.write_text(path.read_text().replace(policy(1), policy(7)))
    page = store.build()
    for name in ("nominal-0", *(f"action_noise-{level}" for level in NOISE)):
        place = f"{cell.relative_to(store.runs)}/robustness/{name}.csv"
        assert f"Not used: <code>{place}: {OTHERS}</code>" in page
    assert page.count("Not used:") == 4 and 'id="robustness"' in page and "All levels" not in page
    assert not [name for name in store.bytes() if "robustness" in name]
    Elements(page)


def test_without_the_nominal_task_there_is_no_curve(store: "Records") -> None:
    cell = usual(store)
    (cell / "robustness" / "nominal-0.csv").unlink()
    (line,) = found(store).refused
    assert found(store).curves == () and line.endswith("nominal-0.csv: missing; no table is used without it")
    assert "nominal-0.csv: missing" in text_of(store.build())


def test_a_cell_without_a_score_has_no_curve(store: "Records") -> None:
    """What its summary refuses, this section does not tell either."""
    cell = usual(store)
    store.run(cell, 2, [0.0, 1.0], status=None)
    assert (found(store).curves, found(store).refused) == ((), ())


# Page, files and figure.


def test_the_section_is_only_where_there_are_tables(store: "Records") -> None:
    cell = cell_of(store)
    page = text_of(store.build())
    assert "obustness" not in page and not [name for name in store.bytes() if "robustness" in name]
    play(cell, "action_noise", NOISE, NOMINAL)
    cell_of(store, task="Pendulum-v1")
    page = store.build()
    files = {name for name in store.bytes() if "robustness" in name}
    assert files == {
        *(f"tables/{name}.{form}" for name in TABLES for form in ("csv", "md", "tex")),
        *(f"figures/robustness-CartPole-v1.{form}" for form in ("png", "pdf")),
    }
    section = page.partition('<h2 id="robustness">')[2].partition("</section>")[0]
    (image,) = re.findall(r"data:image/png;base64,([^\"]+)", section)
    assert base64.b64decode(image) == store.bytes()["figures/robustness-CartPole-v1.png"]
    assert "<h3>CartPole-v1" in section and "<h3>Pendulum-v1" not in section
    assert '<a href="#robustness">Robustness</a>' in page
    assert "22.2 (at 0.4)" in section and "0.29 [\N{MINUS SIGN}3.41, 4.00]" in section
    elements = Elements(page)
    ids = elements.attributes("id")
    assert {target.removeprefix("#") for target in elements.attributes("href")} <= set(ids)
    assert len(ids) == len(set(ids))


def test_same_records_same_bytes(store: "Records") -> None:
    """Built again, and from tables that were written in another order."""
    cells = [usual(store), usual(store, system="sac")]
    table(cells[0], "action_noise", 0.2, (50.0, 60.0))
    store.build()
    before = store.bytes()
    assert b"of 1 comparisons" in before["index.html"]
    for cell in cells:
        folder = cell / "robustness"
        contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir(), reverse=True)}
        shutil.rmtree(folder)
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    store.build()
    assert store.bytes() == before


def test_the_figure_shows_the_means(store: "Records") -> None:
    """Levels in their order, the nominal task among them, in its place and marked; a line for each system."""
    cell = usual(store)
    table(cell, "mass", 0.5, (30.0, 40.0))
    table(cell, "mass", 2.0, (70.0, 90.0))
    for level in (300, 10):
        table(cell, "open_loop", level, (level, level + 1))
    other = cell_of(store, system="sac")
    play(
        other,
        "action_noise",
        {level: means for level, means in NOISE.items() if level != 0.2},
        (400.0, 402.0),
    )
    curves = list(found(store).curves)
    with figures.drawing():
        drawn = pages.figure(curves, figures.styles(["ppo", "sac"]))
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes}
    assert list(panels) == [KINDS[kind].title for kind in ("open_loop", "action_noise", "mass")]
    for kind, ticks, neutral, lines in (
        ("open_loop", ["never", "300", "10"], 0, [([0, 1, 2], [172.2, 300.5, 10.5])]),
        ("mass", ["0.5", "1", "2"], 1, [([0, 1, 2], [35.0, 172.2, 80.0])]),
        (
            "action_noise", ["0", "0.1", "0.2", "0.4"], 0,
            [([0, 1, 2, 3], [172.2, 147.2, 72.2, 22.2]), ([0, 1, 3], [401.0, 147.2, 22.2])],
        ),
    ):  # fmt: skip
        axes = panels[KINDS[kind].title]
        assert [label.get_text() for label in axes.get_xticklabels()] == ticks
        own = [line for line in axes.get_lines() if line.get_marker() == "."]
        dotted = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
        assert [line.get_xdata()[0] for line in dotted] == [neutral]
        for line, (x, y) in zip(own, lines, strict=True):
            assert line.get_xdata().tolist() == x and line.get_ydata() == pytest.approx(y)
        assert axes.get_ylim() == next(iter(panels.values())).get_ylim()
        low, high = axes.get_ylim()
        assert low < 10.5 and high > 401.0
    band = panels[KINDS["mass"].title].collections[0].get_paths()[0].vertices
    assert sorted(set(band[band[:, 0] == 0, 1])) == pytest.approx([35 - T_1 * 5, 35 + T_1 * 5])


# Records that were really made.


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `runs`, their tables, and `report`; not to be changed."""
    folder = tmp_path_factory.mktemp("made")
    cell = trained.record(small_cell("a2c", "CartPole-v1", steps=64, points=2), folder / "runs")
    words = ["action_noise", "drop=0.5", "gravity=2"]
    recorder.record(cell, recorder.parse_levels("CartPole-v1", words), episodes=2)
    reports.build(folder / "runs", folder / "report", title="One cell")
    return folder


@pytest.fixture
def copied(made: Path, tmp_path: Path) -> Path:
    """The same, to be changed."""
    return shutil.copytree(made, tmp_path / "copy")


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_what_is_recorded_is_reported(made: Path) -> None:
    """The recorder's tables are those that this section reads."""
    (cell,) = made.glob("runs/*/*/*")
    told = pd.read_csv(made / "report" / "tables" / "robustness.csv").to_dict("records")
    names = {(row["kind"], row["level"]): row["mean"] for row in told}
    assert names.keys() == {("drop", 0.0), ("drop", 0.5), ("gravity", 1.0), ("gravity", 2.0),
                            *(("action_noise", level) for level in (0.0, 0.1, 0.2, 0.4))}  # fmt: skip
    for (kind, level), mean in names.items():
        name = "nominal-0" if level == KINDS[kind].neutral else f"{kind}-{level:g}"
        played = pd.read_csv(cell / "robustness" / f"{name}.csv")
        assert mean == pytest.approx(played["return"].mean())
    whole = pd.read_csv(made / "report" / "tables" / "robustness_areas.csv")
    assert whole["kind"].tolist() == ["action_noise"]
    assert "Not used:" not in (made / "report" / "index.html").read_text()


def test_a_bundle_carries_the_tables(made: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Another machine makes the same report of it."""
    target = tmp_path / "report.zip"
    names = bundle.pack(made / "report", made / "runs", target)
    (cell,) = made.glob("runs/*/*/*")
    tables = {str(path.relative_to(made)) for path in (cell / "robustness").iterdir()}
    assert len(tables) == 7 and tables <= set(names)
    code, _, err = call(capsys, "report", str(target), "--out", str(tmp_path / "again"))
    assert code == 0, err
    assert files_of(tmp_path / "again") == files_of(made / "report")
    assert call(capsys, "verify", str(target))[0] == 0


def test_check_knows_the_tables(made: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, _ = call(capsys, "check", str(made / "runs"))
    assert code == 0 and "robustness is no part" not in out


def test_check_finds_tables_of_other_policies(copied: Path, capsys: pytest.CaptureFixture) -> None:
    (cell,) = copied.glob("runs/*/*/*")
    path = cell / "robustness" / "drop-0.5.csv"
    path.write_text(path.read_text().replace(policies.digest(cell / "seed-0")[:16], "0123456789abcdef"))
    code, out, _ = call(capsys, "check", str(copied / "runs"))
    assert code == 1 and "robustness/drop-0.5.csv: was not played by the final policies" in out
    (cell / "robustness" / "grid.json").write_text("{")
    assert "robustness/grid.json: missing or damaged" in call(capsys, "check", str(copied / "runs"))[1]


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
    assert found(store).refused[0].endswith("action_noise-0.4.csv: holds action_noise at 0.2")
    path = table(cell, "action_noise", 0.4, NOISE[0.4])
    path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    assert found(store).refused[0].endswith("action_noise-0.4.csv: contains an episode twice")


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


def test_unstable_simulations_are_told(store: "Records") -> None:
    path = usual(store) / "robustness" / "action_noise-0.2.csv"
    head, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head, first.rpartition(",")[0] + ",3", *rest]) + "\n")
    assert found(store).curves[0].unstable == 3
    assert "the simulation was unstable in 3 steps" in text_of(store.build())


def test_without_its_grid_nothing_is_used(store: "Records") -> None:
    cell = usual(store)
    (cell / "robustness" / "grid.json").unlink()
    assert found(store).curves == () and found(store).refused[0].endswith("grid.json: missing or damaged")


@pytest.mark.parametrize("change", ["more", "fewer", "other"])
def test_a_bundle_of_other_tables_than_the_reports_is_refused(copied: Path, change: str) -> None:
    """Else the report that another machine makes of it is another."""
    (cell,) = copied.glob("runs/*/*/*")
    path = cell / "robustness" / "drop-0.5.csv"
    if change == "more":
        recorder.record(cell, recorder.parse_levels("CartPole-v1", ["drop=1"]), episodes=2)
    elif change == "fewer":
        path.unlink()
    else:
        trained.rows(path, lambda rows: rows.__setitem__(0, rows[0].replace(",0,", ",0,9", 1)))
    with pytest.raises(InputError, match="records have changed"):
        bundle.pack(copied / "report", copied / "runs", copied / "new.zip")

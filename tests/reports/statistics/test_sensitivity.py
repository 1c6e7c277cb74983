"""Sensitivity to hyperparameters: by hand, and against a plain second computation."""

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from ascent.records.cell import overrides, read_cell
from ascent.records.declared import Declared
from ascent.records.expected import Expected
from ascent.records.plan import Planned
from ascent.records.read import load
from ascent.reports.report import build
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.sensitivity import Sensitivity, sensitivities
from tests.reports.conftest import SPECS, Records

TASKS = ("CartPole-v1", "MountainCar-v0", "Pendulum-v1")
GRID = {"learning_rate": [1e-3, 3e-4], "gamma": [0.9, 0.99]}
# Normalised scores by (learning rate, discount), on each task. The rate matters, the discount does not.
SCORES = {
    (1e-3, 0.9): (0.90, 0.20, 0.50),
    (1e-3, 0.99): (1.00, 0.20, 0.50),
    (3e-4, 0.9): (0.40, 0.80, 0.60),
    (3e-4, 0.99): (0.40, 0.82, 0.62),
}


def add(store: Records, scores: dict[tuple, tuple], n: int = 5, spread: float = 0.0) -> list[Expected]:
    """A grid "ppo" whose cells have these mean normalised scores, and n runs."""
    rng = np.random.default_rng(3)
    found = []
    for values, of_tasks in scores.items():
        point = dict(zip(GRID, values, strict=True))
        for task, score in zip(TASKS, of_tasks, strict=True):
            folder = store.cell(task, config={"hidden": [64], **point})
            random, reference = SPECS[task]["random_score"], SPECS[task]["reference_score"]
            noise = spread * rng.normal(size=n)
            runs = random + (score + noise - noise.mean()) * (reference - random)
            store.flat_runs(folder, [float(run) for run in runs])
            name = f"ppo {', '.join(overrides(point))}"
            found.append(Expected.planned(Planned(read_cell(folder), tuple(range(n)), name, "ppo")))
    return found


def measured(store: Records, expected: list[Expected]) -> Sensitivity:
    (found,) = sensitivities(aggregate(load(store.runs, expected), Declared()))
    return found


def test_by_hand(store: Records) -> None:
    found = measured(store, add(store, SCORES))
    assert found.tasks == tuple(f"classic/{task}" for task in TASKS) and found.settings == 4
    assert found.varied == ("gamma", "learning_rate") and not found.lacking
    assert found.tuned.value == pytest.approx((1.00 + 0.82 + 0.62) / 3)
    assert found.fixed.value == pytest.approx((0.40 + 0.82 + 0.62) / 3)
    assert found.sensitivity.value == pytest.approx(0.2)
    assert found.best == "ppo learning_rate=0.0003, gamma=0.99"
    # With the discount of the best setting, the rate alone gives each task its best score.
    assert found.curve == pytest.approx([1.84 / 3, 2.44 / 3, 2.44 / 3])
    assert found.dimensionality == 1 and found.free[1] == ("learning_rate",)


def test_random_grids_agree_with_the_definition(store: Records) -> None:
    """Written again from the paper's definitions, as loops over pandas rows."""
    rng = np.random.default_rng(5)
    scores = {values: tuple(rng.uniform(0.1, 1, 3)) for values in product(*GRID.values())}
    found = measured(store, add(store, scores, spread=0.05))
    table = pd.DataFrame(
        [
            {**dict(zip(GRID, h, strict=True)), "task": k, "score": s}
            for h, row in scores.items()
            for k, s in enumerate(row)
        ]
    )
    names = sorted(GRID)
    tuned = table.groupby("task")["score"].max().mean()
    across = table.groupby(names)["score"].mean()
    best = dict(zip(names, across.idxmax(), strict=True))
    assert found.sensitivity.value == pytest.approx(tuned - across.max())
    for k in range(3):
        scores_of = []
        for free in combinations(names, k):
            kept = table
            for name in set(names) - set(free):
                kept = kept[kept[name] == best[name]]
            scores_of.append(kept.groupby("task")["score"].max().mean())
        assert found.curve[k] == pytest.approx(max(scores_of))
    assert found.curve[found.dimensionality] >= 0.95 * tuned
    assert all(score < 0.95 * tuned for score in found.curve[: found.dimensionality])


def test_intervals(store: Records) -> None:
    """They contain the value where the best settings stand out, and are the same again."""
    wide = measured(store, add(store, SCORES, n=10, spread=0.02))
    for name in ("tuned", "fixed", "sensitivity"):
        estimate = getattr(wide, name)
        assert estimate.low < estimate.value < estimate.high < estimate.low + 0.1, name
    assert wide == measured(store, store_expected(store))


def store_expected(store: Records) -> list[Expected]:
    cells = [read_cell(path.parent) for path in sorted(store.runs.glob("*/*/*/cell.json"))]
    point = {cell.digest: {name: cell.config[name] for name in GRID} for cell in cells}
    return [
        Expected.planned(
            Planned(cell, tuple(range(10)), f"ppo {', '.join(overrides(point[cell.digest]))}", "ppo")
        )
        for cell in cells
    ]


def test_what_has_no_numbers_says_why(store: Records) -> None:
    expected = add(store, SCORES)
    one_task = [cell for cell in expected if cell.task == "CartPole-v1"]
    assert measured(store, one_task).lacking == "it takes two tasks with a random and a reference score"
    assert "gamma=0.9 on CartPole-v1" in measured(store, expected[1:]).lacking
    unfinished = [replace(expected[0], seeds=tuple(range(6))), *expected[1:]]
    assert measured(store, unfinished).lacking == (
        "no normalised score of ppo learning_rate=0.001, gamma=0.9 on CartPole-v1 (incomplete 5/6)"
    )
    assert measured(store, unfinished).tuned is None
    poor = {values: (-0.1, -0.2, 0.0) for values in SCORES}
    other = Records(store.runs.parent / "poor")
    found = measured(other, add(other, poor))
    assert found.tuned.value < 0 and found.dimensionality is None


def test_the_page_shows_it(store: Records) -> None:
    expected = add(store, SCORES)
    page = build(store.runs, store.out, expected).read_text()
    table = pd.read_csv(store.out / "tables" / "sensitivity.csv").iloc[0]
    assert (table["system"], table["settings"], table["dimensionality"]) == ("ppo", 4, 1)
    assert table["sensitivity"] == pytest.approx(0.2) and table["enough"] == "learning_rate"
    assert (store.out / "figures" / "sensitivity.pdf").exists() and "1 of 2" in page
    assert "adkins2024method" in (store.out / "references.bib").read_text()


def test_a_report_without_a_grid_has_no_such_part(sweep: Records) -> None:
    assert not list(sweep.out.rglob("sensitivity*"))
    assert "Sensitivity" not in (sweep.out / "index.html").read_text()

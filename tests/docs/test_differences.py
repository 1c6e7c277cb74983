"""The tables of the page on verdicts "different", by one cell of the shelf."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from ascent.records import shelf
from ascent.records.expected import Expected
from ascent.records.read import load
from ascent.reports.shelf.tables import DECLARED
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.verdicts import Verdict, verdicts
from docs.generators import differences, pages, results

ROOT = Path(__file__).parents[2]
CELL = ("reinforce", "default", "HalfCheetah-v5")


@pytest.fixture(scope="module")
def judged() -> tuple[Verdict, ...]:
    current = shelf.current()
    (cell,) = (each for each in current.present if (each.system, each.setting, each.task) == CELL)
    return tuple(verdicts(aggregate(load(current.folder, [Expected.on_shelf(cell, current.name)]), DECLARED)))


@pytest.fixture
def alone(judged: tuple[Verdict, ...], monkeypatch: pytest.MonkeyPatch) -> tuple[Verdict, ...]:
    """As if the shelf had no other cell."""
    monkeypatch.setattr(results, "judged", lambda: judged)
    return judged


def is_different(scores: np.ndarray, mean: float, std: float, n: int, margin: float) -> bool:
    """Two one-sided Welch tests do not both reject, and the two-sided one does."""

    def welch(shift: float, sides: str) -> float:
        given = (scores.mean() + shift, scores.std(ddof=1), len(scores), mean, std, n, False, sides)
        return float(stats.ttest_ind_from_stats(*given).pvalue)

    equal = max(welch(margin, "greater"), welch(-margin, "less")) < 0.05
    return not equal and welch(0.0, "two-sided") < 0.05


def test_page_has_every_part() -> None:
    page = (ROOT / "docs" / "verdicts.md").read_text()
    assert sorted(pages.PART.findall(page)) == sorted(differences.PARTS)
    planned = {(cell.system, cell.setting, cell.task) for cell in shelf.current().planned}
    assert set(differences.CELLS.values()) <= planned


def test_other_evaluations_and_seeds(alone: tuple[Verdict, ...]) -> None:
    """Counted again, from the learning curves of the shelf."""
    (verdict,) = differences.different()
    reference, margin = verdict.reference, verdict.margin
    assert reference.std is not None and reference.n and margin
    published = (reference.mean, reference.std, reference.n, margin.margin)
    data = pd.read_parquet(shelf.current().folder / shelf.CURVES)
    rows = (data["system"] == CELL[0]) & (data["setting"] == CELL[1]) & (data["task"] == CELL[2])
    greedy = data[rows & (data["policy"] == "greedy")].pivot_table(
        index="step", columns="seed", values="return"
    )
    sampled = data[rows & (data["policy"] == "sampled")].sort_values("seed")["return"]
    last = [is_different(row, *published) for row in greedy.to_numpy()[-10:]]
    left_out = [is_different(np.delete(sampled.to_numpy(), k), *published) for k in range(10)]
    assert 0 < sum(last) < 10 and 0 < sum(left_out) < 10
    assert differences.last_ten(verdict) == ""  # only the last evaluation has sampled actions
    assert differences.last_ten(replace(verdict, sampled=False)) == f"{sum(last)} of 10"
    assert differences.without_one(verdict) == f"{sum(left_out)} of 10"
    for scores in (sampled, greedy.iloc[-1]):
        assert f"| {scores.mean():,.0f} ± {scores.std():,.0f}, different |" in differences.protocols()


def test_each_verdict_is_shown_once(alone: tuple[Verdict, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    part = differences.part("reinforce_halfcheetah")
    assert part.count("`tianshou_curves`") == 1 and part.count("`xuance_bench`") == 1
    assert len(re.search(r"sorted: (.+)\.", part)[1].split(", ")) == 10  # type: ignore[index]
    assert "None" in differences.others() and "No verdict" in differences.part("trpo_halfcheetah")
    monkeypatch.setattr(differences, "CELLS", {})
    assert differences.others().count("`tianshou_curves`") == 1

"""The verdicts on the curves behind published rows: those of TD3's authors (tests/data/td3_curves.md).

The curves are imported, as a user would, and judged against the rows that were computed from them.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.imports.importing import Stated, import_curves
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.equivalence import DIFFERENT, REPRODUCED, WITHIN_MARGIN
from ascent.reports.statistics.verdicts import DESCRIPTIVE, Verdict, counts, verdicts

CURVES = Path(__file__).parents[2] / "data" / "td3_curves.npz"
TASKS = ("Ant", "HalfCheetah", "Hopper", "InvertedPendulum", "Reacher")
SOURCES = ("td3_paper", "td3_curves")
STEPS = np.arange(0, 1_000_001, 5_000)


def curves(task: str) -> np.ndarray:
    """Returns (10, 201) of ten seeds at STEPS."""
    with np.load(CURVES) as arrays:
        return arrays[task].astype(float)


def judge(folder: Path, task: str, returns: np.ndarray, stated: Stated | None = None) -> list[Verdict]:
    """Import curves (S, P) at STEPS[:P], or at as many of them, and judge them."""
    seeds, points = returns.shape
    steps = STEPS[:: (len(STEPS) - 1) // (points - 1)]
    table = pd.DataFrame(
        {"seed": np.repeat(range(seeds), points), "step": np.tile(steps, seeds), "return": returns.ravel()}
    )
    table.to_csv(folder / "curves.csv", index=False)
    stated = stated or Stated("td3", f"{task}-v1", "greedy", 10)
    import_curves([folder / "curves.csv"], "authors", f"{task}-v5", folder / "runs", stated=stated)
    return verdicts(aggregate(load(folder / "runs"), Declared()))


def of_the_authors(found: list[Verdict]) -> list[Verdict]:
    """The verdicts against the rows of these curves; all their rows have a spread but the ablation's."""
    own = [
        v for v in found if v.reference.source in SOURCES and not v.reference.locator.startswith("Table 2")
    ]
    assert {v.reference.source for v in own} == set(SOURCES)
    assert len(own) == 5 and all(v.verdict != DESCRIPTIVE for v in own)
    return own


@pytest.mark.parametrize("task", TASKS)
def test_the_curves_themselves_are_never_different(tmp_path: Path, task: str) -> None:
    for verdict in of_the_authors(judge(tmp_path, task, curves(task))):
        # The paper's row of Reacher is not the peak of the released curves.
        if (task, verdict.reference.source) != ("Reacher", "td3_paper"):
            assert verdict.difference == pytest.approx(0, abs=0.01)
            assert verdict.ours.std == pytest.approx(verdict.reference.std, abs=0.01)
        assert verdict.verdict not in (DIFFERENT, WITHIN_MARGIN)
        assert verdict.expected and not verdict.failed


@pytest.mark.parametrize("task", TASKS)
def test_a_fifth_less_is_never_reproduced(tmp_path: Path, task: str) -> None:
    for verdict in of_the_authors(judge(tmp_path, task, 0.8 * curves(task))):
        assert verdict.verdict not in (REPRODUCED, WITHIN_MARGIN)


@pytest.mark.parametrize("task", TASKS)
def test_a_failed_seed_never_passes_silently(tmp_path: Path, task: str) -> None:
    """One of ten runs stays as it was before training: the verdict is another one, and names the seed."""
    returns = curves(task)
    returns[3] = returns[3, 0]
    for verdict in of_the_authors(judge(tmp_path, task, returns)):
        assert verdict.verdict not in (REPRODUCED, WITHIN_MARGIN)
        assert verdict.failed == (3,) and "failed: seed 3" in verdict.words


def test_no_single_count_summarises_them(tmp_path: Path) -> None:
    """The curves behind published rows are not reproduced by most of the other rows."""
    found = judge(tmp_path, "HalfCheetah", curves("HalfCheetah"))
    print(counts(found))
    assert sum(counts(found).values()) == len(found) and len(counts(found)) > 2


def test_curves_of_an_unknown_origin_are_described(tmp_path: Path) -> None:
    for k, (stated, words) in enumerate(
        {
            Stated("td3"): "the version of their environment is not stated",
            Stated("td3", "Hopper-v1"): "what their returns are of is not stated",
            Stated("td3", "Hopper-v1", "training"): "their returns are of episodes of training",
        }.items()
    ):
        (tmp_path / str(k)).mkdir()
        found = judge(tmp_path / str(k), "Hopper", curves("Hopper"), stated)
        assert found and {v.verdict for v in found} == {DESCRIPTIVE}
        assert all(words in v.reason for v in found)
    (tmp_path / "none").mkdir()
    assert judge(tmp_path / "none", "Hopper", curves("Hopper"), Stated(None, "Hopper-v1", "greedy", 10)) == []


def test_a_peak_over_fewer_evaluations_is_described(tmp_path: Path) -> None:
    found = judge(tmp_path, "Hopper", curves("Hopper")[:, ::5])
    peaks = [v for v in of_all(found) if "peak" in v.reference.estimator]
    others = [v for v in of_all(found) if "peak" not in v.reference.estimator]
    assert {v.reason for v in peaks} == {"a peak over 40 evaluations here, over 200 there"}
    assert others and all(v.verdict != DESCRIPTIVE for v in others)


def of_all(found: list[Verdict]) -> list[Verdict]:
    return [v for v in found if v.reference.source == "td3_curves"]

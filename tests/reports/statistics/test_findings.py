"""Findings, ranks and diagnostics: what the first screen of a report says, and what it rests on."""

from typing import TYPE_CHECKING

import numpy as np
import pytest

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.statistics.diagnostics import diagnostics
from ascent.reports.statistics.findings import CAUTION, RESULT, names
from ascent.reports.statistics.ranking import standings, task_ranks
from ascent.reports.statistics.study import Study, analyse

if TYPE_CHECKING:
    from tests.reports.conftest import Records

TASKS = ("CartPole-v1", "Pendulum-v1")
SHIFTS = {"sac": 200.0, "td3": 199.0, "ppo": 100.0}  # of returns: sac and td3 are alike, ppo is far below


def study(store: "Records", **declared: object) -> Study:
    return analyse(store.runs, load(store.runs), "", Declared(**declared), {}, {})


@pytest.fixture
def three(store: "Records") -> "Records":
    rng = np.random.default_rng(3)
    for task in TASKS:
        for system, shift in SHIFTS.items():
            base = shift if task == "CartPole-v1" else shift - 500
            store.flat_runs(store.cell(task, system), base + rng.normal(0, 8, size=10))
    return store


def test_ranks_are_ranges(three: "Records") -> None:
    found = study(three)
    for task in found.tasks:
        assert task_ranks(task, found.comparisons.pairs) == {"ppo": (3, 3), "sac": (1, 2), "td3": (1, 2)}
    ranked = standings(found.comparisons)
    assert {standing.label: standing.ranks for standing in ranked} == {
        "sac": (1, 2), "td3": (1, 2), "ppo": (3, 3),
    }  # fmt: skip
    assert ranked[-1].label == "ppo" and (ranked[-1].won, ranked[-1].lost) == (0, 4)
    assert sum(standing.won for standing in ranked) == sum(standing.lost for standing in ranked) == 4


def test_findings_say_what_was_shown(three: "Records") -> None:
    found = study(three)
    texts = [finding.text for finding in found.findings if finding.kind == RESULT]
    best, other = (standing.label for standing in standings(found.comparisons)[:2])
    assert texts[0].startswith(f"Across 2 tasks, {best} has the highest normalised score: ")
    assert texts[0].endswith(f"It overlaps the interval of {other}.")
    for text, task in zip(texts[1:], found.tasks, strict=True):
        means = {summary.label: summary.score.mean for summary in task.cells if summary.score}
        first = max(means, key=lambda label: means[label])
        second = "td3" if first == "sac" else "sac"
        assert text == (
            f"{task.name}: {first} has the highest mean, and scored better than ppo; "
            f"no difference was shown from {second}."
        )
    assert not [finding for finding in found.findings if finding.kind == CAUTION]


def test_findings_with_a_baseline(three: "Records") -> None:
    texts = [finding.text for finding in study(three, baseline="td3").findings]
    assert texts[1:] == [
        f"{task}: ppo scored worse than td3; 1 of 2 comparisons show no difference." for task in TASKS
    ]


def test_cautions(store: "Records") -> None:
    cell = store.cell(system="ppo")
    for seed in range(3):
        store.run(cell, seed, [0.0] + [100.0 + seed] * 50, status="diverged" if seed == 2 else "done")
    store.flat_runs(store.cell(system="sac"), [200.0, 201.0, 203.0])
    store.run(store.cell(system="td3"), 0, [0.0] + [50.0] * 20, status=None)
    texts = [finding.text for finding in study(store).findings if finding.kind == CAUTION]
    assert texts == [
        "1 of 3 cells have no score: they are incomplete, or mix versions.",
        "CartPole-v1: 1 of 3 runs of ppo diverged; they count in the score.",
        "1 of 1 comparisons cannot become significant with so few seeds, whatever the scores.",
    ]


def test_lists_in_sentences() -> None:
    assert names(["a"]) == "a"
    assert names(["a", "b"], "or") == "a or b"
    assert names(["a", "b", "c"]) == "a, b and c"
    assert names([str(k) for k in range(7)]) == "7 systems"


def test_diagnostics_are_medians_of_the_seeds(store: "Records") -> None:
    """A table that cannot be read is left out, a value that is not finite as well."""
    cell = store.cell()
    values = {0: "1.0", 1: "3.0", 2: "nan", 3: "8.0"}
    for seed, value in values.items():
        text = f"step,loss,alpha\n2000,{value},0.5\n4000,2.0,0.25\n" if seed < 3 else "no table"
        store.run(cell, seed, [0.0] + [9.0 + seed] * 50, metrics=text)
    (task,) = study(store).tasks
    found = diagnostics(task)
    assert list(found) == ["alpha", "loss"]
    steps, medians = found["loss"]["ppo"]
    assert steps.tolist() == [2000, 4000]
    assert medians.tolist() == [2.0, 2.0]

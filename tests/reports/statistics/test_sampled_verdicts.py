"""Verdicts on sources whose policy sampled its actions: made-up records, greedy far from sampled."""

from collections.abc import Collection

import numpy as np
import pytest

from ascent.records.declared import Declared
from ascent.records.expected import Expected
from ascent.records.read import CellRecord, RunRecord
from ascent.reports.page import tables
from ascent.reports.statistics import verdicts as v
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.published import references
from tests.reports.statistics.test_verdicts import PROTOCOL, around, judge, reference

ONLY_LAST = "its evaluations sample actions; here sampled actions are recorded at the last evaluation only"
NOT_ALL = "its evaluations sample actions; here some runs have no record of sampled actions"
# The published score is 3000 +- 200, n = 10, with a margin of 380.
NEAR, FAR = around(3000, 200), around(1000, 200)


def run(seed: int, greedy: list[float], sampled: float | None, diverged: bool = False) -> RunRecord:
    """A run with these greedy evaluations, and one of sampled actions at the end: two episodes each."""
    steps = np.linspace(0, 1_000_000, len(greedy)).astype(int)
    points = [(step, "greedy", mean) for step, mean in zip(steps, greedy, strict=True)]
    points += [] if sampled is None else [(steps[-1], "sampled", sampled)]
    rows = [(*point[:2], k, point[2] + shift) for point in points for k, shift in enumerate((-50.0, 50.0))]
    names = ("step", "policy", "episode", "return")
    columns = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return RunRecord(seed, f"seed-{seed}", "diverged" if diverged else "done", evaluations=columns)


def judged(
    monkeypatch: pytest.MonkeyPatch,
    greedy: list[float],
    sampled: list[float],
    without: Collection[int] = (),
    diverged: Collection[int] = (),
    **published: str,
) -> v.Verdict:
    """The verdict on a cell whose greedy evaluations after step 0 all have these returns, by seed."""
    runs = tuple(
        run(seed, [-10.0, mean, mean], None if seed in without else sampled[seed], seed in diverged)
        for seed, mean in enumerate(greedy)
    )
    facts = {
        "system": "trpo", "algorithm": "trpo", "preset": "zoo", "task": "Hopper-v5", "suite": "mujoco",
        "config": {}, "steps": 1_000_000, "evaluation": PROTOCOL, "versions": {},
        "spec": {"random_score": 18.0, "reference_score": 3600.0},
    }  # fmt: skip
    name = Expected("mujoco", "Hopper-v5", "trpo", "zoo", "0123456789", tuple(range(len(runs))))
    (task,) = aggregate([CellRecord(name, facts, runs)], Declared())
    given = {"system": "trpo", "estimator": "final", "policy": "sampled"} | published
    (verdict,) = judge(monkeypatch, task.cells[0], reference(**given))
    return verdict


@pytest.mark.parametrize(
    ("greedy", "sampled", "policy", "expected"),
    [
        (FAR, NEAR, "sampled", "reproduced"),
        (NEAR, FAR, "sampled", "different"),
        (FAR, NEAR, "greedy", "different"),
        (NEAR, FAR, "greedy", "reproduced"),
        (NEAR, FAR, "", "reproduced"),
    ],
)
def test_like_is_compared_with_like(
    monkeypatch: pytest.MonkeyPatch, greedy: list[float], sampled: list[float], policy: str, expected: str
) -> None:
    verdict = judged(monkeypatch, greedy, sampled, policy=policy)
    assert verdict.verdict == expected
    by_sampled = policy == "sampled"
    assert list(verdict.scores.values()) == pytest.approx(sampled if by_sampled else greedy)
    assert verdict.ours.mean == pytest.approx(np.mean(sampled if by_sampled else greedy))
    words = "\n".join(verdict.differences)
    if by_sampled:
        assert "mean of last 10 evaluations, by sampled actions; here: evaluation return at" in words
        assert "evaluation point, by sampled actions; 50 evaluations" in words
    else:
        assert "sampled" not in words and "here: greedy evaluation return" in words
    table = tables.verdicts([verdict])
    assert table.shown["estimator"][0] == ("final, sampled actions" if by_sampled else "final")


@pytest.mark.parametrize("estimator", ["mean_of_last_ten", "peak_of_mean_curve", "mean_of_per_seed_peaks"])
def test_other_scores_of_such_sources_have_no_test(monkeypatch: pytest.MonkeyPatch, estimator: str) -> None:
    number = {"evaluations": "2", "step_0": "no"} if "peak" in estimator else {}
    verdict = judged(monkeypatch, NEAR, FAR, estimator=estimator, **number)
    assert (verdict.verdict, verdict.reason, verdict.test) == ("descriptive", ONLY_LAST, None)
    assert verdict.ours.mean == pytest.approx(3000) and not verdict.sampled
    assert judged(monkeypatch, NEAR, FAR, estimator=estimator, policy="", **number).verdict == "reproduced"


def test_a_run_without_sampled_actions_is_not_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for without in ([4], range(10)):
        verdict = judged(monkeypatch, NEAR, NEAR, without=without)
        assert (verdict.verdict, verdict.reason, verdict.test) == ("descriptive", NOT_ALL, None)


def test_a_diverged_run_has_one_score_whoever_acts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its worst evaluation, which here is that of step 0."""
    for without in ([], [9]):
        verdict = judged(monkeypatch, FAR, NEAR, diverged=[9], without=without)
        assert list(verdict.scores.values()) == pytest.approx([*NEAR[:9], -10.0])
        assert verdict.failed == (9,) and any("1 of our 10 runs diverged" in d for d in verdict.differences)


def test_failed_runs_are_compared_with_step_0_by_greedy_actions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 9 is low by sampled actions, but not out of what a wide spread predicts."""
    sampled = [*around(3000, 200, 9), 1000.0]
    wide = {"spread": "1500"}
    assert judged(monkeypatch, [3000.0] * 10, sampled, **wide).failed == ()
    assert judged(monkeypatch, [3000.0] * 9 + [100.0], sampled, **wide).failed == (9,)


def test_sources_that_sample_agree_with_sources_that_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    published = [reference(policy=policy, source=source) for source, policy in
                 (("a", "sampled"), ("b", "sampled"), ("c", "greedy"), ("d", ""))]  # fmt: skip
    monkeypatch.setattr(v, "references", lambda: published)
    assert [v._agreement.__wrapped__(row) for row in published] == [(1, 1)] * 4


def test_every_on_policy_row_of_two_libraries_is_sampled() -> None:
    sampled = {row for row in references() if row.sampled}
    on_policy = {
        row
        for row in references()
        if row.source in ("tianshou_curves", "tianshou_readme", "xuance_bench")
        and row.system in ("reinforce", "a2c", "ppo", "trpo")
    }
    assert sampled == on_policy and len(sampled) == 177

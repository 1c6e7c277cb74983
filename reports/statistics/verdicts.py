"""Verdicts: our scores against published ones, each by the estimator of the published score.

A verdict needs the standard deviation over seeds and the number of seeds of the published score; without them
the comparison is descriptive and states the reason.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.declared import RETURN
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.equivalence import Equivalence, equivalence
from ascent.reports.statistics.estimators import describe
from ascent.reports.statistics.published import (
    Margin,
    Reference,
    algorithm_of,
    changes,
    margins,
    references,
    split_version,
)

STEPS_TOLERANCE = 0.02  # of the step budget: rollouts and epochs do not divide every budget
DESCRIPTIVE = "descriptive"


@dataclass(frozen=True)
class Sample:
    """Mean and standard deviation (ddof 1) of run scores over n seeds, in units of the score."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """One of our cells against one published score.

    `ours` is None where no scores by the published estimator are recorded. Where there is no verdict, `test`
    is None and `reason` states why. `differences` describes what else may make the scores differ:
    environment, algorithm, steps, evaluation protocol.
    """

    task: Task
    summary: CellSummary
    reference: Reference
    ours: Sample | None
    margin: Margin | None
    test: Equivalence | None
    reason: str
    differences: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One of "reproduced", "different", "inconclusive" and "descriptive"."""
        return self.test.verdict if self.test else DESCRIPTIVE

    @property
    def difference(self) -> float | None:
        """Our mean minus the published one."""
        return self.ours.mean - self.reference.mean if self.ours else None


def verdicts(tasks: Sequence[Task]) -> list[Verdict]:
    """Compare cells with published scores of the same algorithm, task family and step budget (within 2%).

    The score is the return or the same measure in both. Covers complete cells of at least two seeds, but not
    imported ones. The order is that of `tasks`, then of published.csv.
    """
    judged = []
    for task in tasks:
        family, _ = split_version(task.name)
        published = [
            reference
            for reference in references()
            if (reference.family, reference.score) == (family, task.measured.name)
        ]
        for summary in task.cells:
            if summary.cell.imported or summary.score is None or summary.score.n < 2:
                continue
            algorithm, steps = algorithm_of(summary.cell.facts), summary.cell.facts["steps"]
            judged += [
                _judge(task, summary, reference)
                for reference in published
                if reference.system == algorithm and abs(reference.steps - steps) <= STEPS_TOLERANCE * steps
            ]
    return judged


def _judge(task: Task, summary: CellSummary, reference: Reference) -> Verdict:
    ours = _sample(summary, reference.estimator)
    margin = margins().get(reference.family) if reference.score == RETURN else None  # margins are returns
    differences = tuple(_differences(task, summary, reference))
    if ours is None:
        reason = f"nothing is recorded here for {reference.estimator}"
    elif any(run.seed >= FIRST_TUNING_SEED for run in summary.cell.runs):
        reason = "these are tuning seeds"
    elif margin is None:
        reason = "no margin is declared for this task and score"
    else:
        reason = reference.obstacle
    test = None
    if not reason:
        assert ours and margin and reference.std is not None and reference.n  # else there is a reason
        test = equivalence(
            ours.mean, ours.std, ours.n, reference.mean, reference.std, reference.n, margin.margin
        )
    return Verdict(task, summary, reference, ours, margin, test, reason, differences)


def _sample(summary: CellSummary, estimator: str) -> Sample | None:
    """Summarise the scores by an estimator; None where a run has none."""
    scores = np.array(list(summary.run_scores.get(estimator, {}).values()))
    if len(scores) < 2 or np.isnan(scores).any():
        return None
    return Sample(float(scores.mean()), float(scores.std(ddof=1)), len(scores))


def _differences(task: Task, summary: CellSummary, reference: Reference) -> list[str]:
    """Describe what besides the seeds may make the scores differ."""
    facts = summary.cell.facts
    differences = []
    if reference.environment != task.name:
        what = f"{reference.environment}, here {task.name}"
        known = _changed(reference.family, reference.environment, task.name)
        differences.append(f"{what} ({'; '.join(known)})" if known else what)
    if reference.variant:
        differences.append(f"environment: {reference.variant}")
    if reference.algorithm_differs:
        differences.append(f"algorithm: {reference.algorithm_differs}")
    if reference.system == "sac-fixed" and "alpha" in facts["config"]:
        differences.append(f"the temperature here is {facts['config']['alpha']:g}")
    if reference.steps != facts["steps"]:
        differences.append(f"{reference.steps:,} steps, here {facts['steps']:,}")
    protocol = _protocol(reference.estimator, facts["evaluation"], reference.score)
    differences.append(f"score: {reference.metric}; here: {protocol}")
    differences.append(_settings(reference.preset, summary.cell.setting))
    if summary.score and summary.score.failures:
        differences.append(f"{summary.score.failures} of our {summary.score.n} runs diverged, and count")
    if reference.spread_kind == "std":
        differences.append("whether their standard deviation has ddof 0 or 1 is not stated: read as 0")
    return differences + ([f"source: {reference.notes}"] if reference.notes else [])


def _settings(published: str, ours: str) -> str:
    """Describe whose hyperparameters the two scores have."""
    if published and published == ours:
        return f"hyperparameters: of the source, as far as preset {ours} expresses them"
    others = f"; the source's are preset {published}" if published else ""
    return f"hyperparameters here: preset {ours}{others}"


def _changed(family: str, theirs: str, ours: str) -> list[str]:
    """Describe what changed between two versions of an environment."""
    versions = sorted({split_version(theirs)[1] or 0, split_version(ours)[1] or 0})
    return [
        change.difference
        for change in changes()
        if change.family == family and versions[0] < change.since <= versions[-1]
    ]


def _protocol(estimator: str, evaluation: dict[str, int], score: str) -> str:
    """Describe how our score is computed."""
    words = describe(estimator, score).rstrip(".").lower()
    if estimator == "last_100_training_episodes":
        return words
    points, episodes = evaluation["points"], evaluation["episodes"]
    text = f"{words}; {points} evaluations over the budget, {episodes} episodes each"
    if estimator == "mean_of_last_ten":
        text += f", the last ten cover {min(10, points) / points:.0%} of it"
    elif estimator.endswith(("peaks", "peak_of_mean_curve")):
        text += "; the more evaluations, the better a peak"
    return text

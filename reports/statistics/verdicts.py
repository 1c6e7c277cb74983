"""Verdicts: our scores against published ones, each by the estimator of the published score.

A verdict needs the standard deviation over seeds and the number of seeds of the published score; without them
the comparison is descriptive and states the reason. A peak is compared over as many evaluations as the
published one was taken over, and is descriptive if there are fewer here. Where the policy of the source
sampled its actions in evaluations, so does ours, which the records have for the last evaluation only.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.declared import RETURN
from ascent.records.plan import seed_ranges
from ascent.records.read import DIVERGED, CellRecord
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.equivalence import (
    DIFFERENT,
    INCONCLUSIVE,
    REPRODUCED,
    UNATTAINABLE,
    WITHIN_MARGIN,
    Equivalence,
    Prediction,
    equivalence,
    predict,
)
from ascent.reports.statistics.estimators import ESTIMATORS, PEAKS, describe, evenly, final
from ascent.reports.statistics.imported import environment_of, undescribed
from ascent.reports.statistics.intervals import unanimous
from ascent.reports.statistics.published import (
    Margin,
    Reference,
    algorithm_of,
    changes,
    margins,
    references,
    split_version,
)

TOLERANCE = 0.02  # of steps and evaluations: rollouts and epochs do not divide every budget
DESCRIPTIVE = "descriptive"
VERDICTS = (REPRODUCED, WITHIN_MARGIN, DIFFERENT, INCONCLUSIVE, UNATTAINABLE, DESCRIPTIVE)


@dataclass(frozen=True)
class Sample:
    """Mean and standard deviation (ddof 1) of run scores over n seeds, in units of the score."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """One of our cells against one published score.

    `scores` are ours by seed, of sampled actions if `sampled`, else of greedy ones; `ours` summarises them,
    and is None where a run has none by the published estimator. Where there is no verdict, `test` and
    `prediction` are None and `reason` states why. `prediction` is where the published runs lead us to expect
    our mean and our runs. `failed` are the seeds of runs that are below the published mean by more than the
    margin, and below all predicted runs or hardly better than their own policy of step 0 (within the margin).
    `agreement` are how many other published scores of this algorithm, task, budget, estimator and kind of
    actions the published one reproduces, and of how many. `differences` describes what else may make the
    scores differ: environment, algorithm, steps, evaluation protocol.
    """

    task: Task
    summary: CellSummary
    reference: Reference
    scores: dict[int, float]
    sampled: bool
    ours: Sample | None
    margin: Margin | None
    test: Equivalence | None
    prediction: Prediction | None
    failed: tuple[int, ...]
    agreement: tuple[int, int]
    reason: str
    differences: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """One of `VERDICTS`."""
        return self.test.verdict if self.test else DESCRIPTIVE

    @property
    def estimator(self) -> str:
        """The name of the published estimator, and who acted if that is not the greedy policy."""
        return self.reference.estimator + (", sampled actions" if self.sampled else "")

    @property
    def difference(self) -> float | None:
        """Our mean minus the published one."""
        return self.ours.mean - self.reference.mean if self.ours else None

    @property
    def margins(self) -> float | None:
        """The difference in margins; None without a margin."""
        return self.difference / self.margin.margin if self.difference is not None and self.margin else None

    @property
    def expected(self) -> bool | None:
        """Whether our mean lies in its prediction interval; None without one."""
        if self.prediction is None or self.ours is None:
            return None
        return self.prediction.low <= self.ours.mean <= self.prediction.high

    @property
    def words(self) -> str:
        """The verdict with what must be read beside it: why there is none, or which runs failed."""
        failures = f"failed: {'seed' if len(self.failed) == 1 else 'seeds'} {seed_ranges(self.failed)}"
        return ": ".join(filter(None, [self.verdict, self.reason, failures if self.failed else ""]))


def verdicts(tasks: Sequence[Task]) -> list[Verdict]:
    """Compare cells with published scores of the same algorithm, task family and step budget (within 2%).

    The score is the return or the same measure in both. Covers complete cells of at least two seeds; imported
    ones if their algorithm is known. The order is that of `tasks`, then of published.csv.
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
            if summary.score is None or summary.score.n < 2:
                continue
            algorithm, steps = algorithm_of(summary.cell.facts), summary.cell.facts["steps"]
            judged += [
                _judge(task, summary, reference)
                for reference in published
                if reference.system == algorithm and abs(reference.steps - steps) <= TOLERANCE * steps
            ]
    return judged


def counts(judged: Sequence[Verdict]) -> dict[str, int]:
    """Return how many verdicts there are of each kind that occurs, in the order of `VERDICTS`.

    No single one of these numbers summarises a report: published scores differ among themselves.
    """
    number = Counter(verdict.verdict for verdict in judged)
    return {name: number[name] for name in VERDICTS if number[name]}


def _judge(task: Task, summary: CellSummary, reference: Reference) -> Verdict:
    greedy = _scores(task, summary, reference)
    sampled = _sampled(task, summary) if reference.sampled else {}
    by_sampled = bool(sampled) and reference.estimator == final.__name__
    scores = sampled if by_sampled else greedy
    ours = _sample(scores)
    margin = margins().get(reference.family) if reference.score == RETURN else None  # margins are returns
    differences = _differences(task, summary, reference, by_sampled)
    unlike = ""
    if reference.sampled and not by_sampled:
        last = "sampled actions are recorded at the last evaluation only"
        here = last if sampled else "some runs have no record of sampled actions"
        unlike = f"its evaluations sample actions; here {here}"
    reason = _obstacle(summary, reference, ours, margin, unlike)
    test, prediction = None, None
    failed: tuple[int, ...] = ()
    if not reason:
        assert ours and margin and reference.std is not None and reference.n  # else there is a reason
        published = (reference.mean, reference.std, reference.n)
        test = equivalence(ours.mean, ours.std, ours.n, *published, margin.margin)
        prediction = predict(*published, ours.n)
        failed = _failed(summary, scores, greedy, reference, prediction, margin.margin)
        if ours.std == reference.std == 0:
            unseen = 1 - unanimous(min(ours.n, reference.n))
            differences.append(
                f"no run differs, here or there: as many as {unseen:.0%} of all runs may, and are not seen"
            )
    return Verdict(
        task,
        summary,
        reference,
        scores,
        by_sampled,
        ours,
        margin,
        test,
        prediction,
        failed,
        _agreement(reference),
        reason,
        tuple(differences),
    )


def _obstacle(
    summary: CellSummary, reference: Reference, ours: Sample | None, margin: Margin | None, unlike: str
) -> str:
    """Return the reason why there is no verdict; "" if there is one. `unlike` is one of them, or ""."""
    if unknown := undescribed(summary.cell):
        return f"imported curves: {unknown}"
    if ours is None:
        return f"nothing is recorded here for {reference.estimator}"
    if any(run.seed >= FIRST_TUNING_SEED for run in summary.cell.runs):
        return "these are tuning seeds"
    if unlike:
        return unlike
    if margin is None:
        return "no margin is declared for this task and score"
    if reference.estimator in PEAKS:
        if reference.evaluations is None:
            return "how many evaluations the published peak was taken over is not known"
        here = _evaluations(summary)
        if here < (1 - TOLERANCE) * reference.evaluations:
            return f"a peak over {here} evaluations here, over {reference.evaluations} there"
    return reference.obstacle


def _failed(
    summary: CellSummary,
    scores: dict[int, float],
    greedy: dict[int, float],
    published: Reference,
    prediction: Prediction,
    margin: float,
) -> tuple[int, ...]:
    """Return the seeds of failed runs; see `Verdict`. Scores and published ones are returns.

    Step 0 has greedy evaluations only, and those are what it is compared with.
    """
    curves = summary.curves
    untrained = np.full(len(scores), -np.inf)
    if curves is not None and curves.steps[0] == 0:
        untrained = curves.returns[0]
    return tuple(
        seed
        for (seed, score), start in zip(scores.items(), untrained.tolist(), strict=True)
        if score < published.mean - margin and (score < prediction.worst or greedy[seed] < start + margin)
    )


def _evaluations(summary: CellSummary) -> int:
    """Return the number of evaluations after step 0."""
    return int((summary.curves.steps > 0).sum()) if summary.curves else 0


def _scores(task: Task, summary: CellSummary, reference: Reference) -> dict[int, float]:
    """Return the scores by seed by the published estimator; a peak over as many evaluations as there."""
    scores = summary.run_scores.get(reference.estimator, {})
    if reference.estimator not in PEAKS or summary.curves is None or reference.evaluations is None:
        return scores
    curves = evenly(summary.curves, reference.evaluations, reference.step_0 == "yes")
    values = task.measured.sign * ESTIMATORS[reference.estimator](curves)
    return dict(zip(scores, values.tolist(), strict=True))


def _sampled(task: Task, summary: CellSummary) -> dict[int, float]:
    """Return the scores of the last evaluation by sampled actions; {} unless every run has one.

    A diverged run has one score, whoever acts: see `estimators.diverged_score`.
    """
    scores = {}
    for run in summary.cell.runs:
        if run.state == DIVERGED:
            scores[run.seed] = summary.run_scores[final.__name__][run.seed]
            continue
        means = run.means
        found = means[task.measured.name][
            (means["policy"] == "sampled") & (means["step"] == means["step"].max())
        ]
        if not len(found):
            return {}
        scores[run.seed] = float(found[0])
    return scores


def _sample(by_seed: dict[int, float]) -> Sample | None:
    """Summarise scores; None where a run has none."""
    scores = np.array(list(by_seed.values()))
    if len(scores) < 2 or np.isnan(scores).any():
        return None
    return Sample(float(scores.mean()), float(scores.std(ddof=1)), len(scores))


@cache
def _agreement(reference: Reference) -> tuple[int, int]:
    """Return how many other published scores of the same kind one reproduces, and how many there are."""
    margin = margins().get(reference.family)
    if reference.obstacle or margin is None or reference.score != RETURN:
        return 0, 0
    others = [
        other
        for other in references()
        if other is not reference
        and not other.obstacle
        and (other.system, other.family, other.score) == (reference.system, reference.family, RETURN)
        and (other.estimator, other.evaluations) == (reference.estimator, reference.evaluations)
        and other.sampled == reference.sampled
        and abs(other.steps - reference.steps) <= TOLERANCE * reference.steps
    ]
    assert reference.std is not None and reference.n  # else there is an obstacle
    return sum(_reproduces(reference, other, margin.margin) for other in others), len(others)


def _reproduces(one: Reference, other: Reference, margin: float) -> bool:
    assert one.std is not None and one.n and other.std is not None and other.n
    test = equivalence(one.mean, one.std, one.n, other.mean, other.std, other.n, margin)
    return test.verdict in (REPRODUCED, WITHIN_MARGIN)


def _differences(task: Task, summary: CellSummary, reference: Reference, sampled: bool) -> list[str]:
    """Describe what besides the seeds may make the scores differ."""
    facts = summary.cell.facts
    differences = []
    environment = environment_of(summary.cell, task.name)
    if reference.environment != environment:
        what = f"{reference.environment}, here {environment or 'an unknown version'}"
        known = _changed(reference.family, reference.environment, environment) if environment else []
        differences.append(f"{what} ({'; '.join(known)})" if known else what)
    if reference.variant:
        differences.append(f"environment: {reference.variant}")
    if reference.algorithm_differs:
        differences.append(f"algorithm: {reference.algorithm_differs}")
    if reference.system == "sac-fixed" and "alpha" in facts["config"]:
        differences.append(f"the temperature here is {facts['config']['alpha']:g}")
    if reference.steps != facts["steps"]:
        differences.append(f"{reference.steps:,} steps, here {facts['steps']:,}")
    protocol = _protocol(reference, facts["evaluation"], _evaluations(summary), sampled)
    theirs = reference.metric + (", by sampled actions" if reference.sampled else "")
    differences.append(f"score: {theirs}; here: {protocol}")
    differences.append(_settings(reference.preset, summary.cell))
    if summary.score and summary.score.failures:
        differences.append(f"{summary.score.failures} of our {summary.score.n} runs diverged, and count")
    if reference.spread_kind == "std":
        differences.append("whether their standard deviation has ddof 0 or 1 is not stated: read as 0")
    return differences + ([f"source: {reference.notes}"] if reference.notes else [])


def _settings(published: str, cell: CellRecord) -> str:
    """Describe whose hyperparameters the two scores have."""
    if cell.imported:
        return "hyperparameters here: those of the imported curves, which are not recorded"
    ours = cell.setting
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


def _protocol(reference: Reference, evaluation: dict[str, int], recorded: int, sampled: bool) -> str:
    """Describe how our score is computed."""
    estimator = reference.estimator
    words = describe(estimator, reference.score).rstrip(".").lower()
    if estimator == "last_100_training_episodes":
        return words
    if sampled:
        words = words.removeprefix("greedy ") + ", by sampled actions"
    points, episodes = evaluation["points"], evaluation["episodes"]
    text = f"{words}; {points} evaluations over the budget, {episodes} episodes each"
    if estimator == "mean_of_last_ten":
        text += f", the last ten cover {min(10, points) / points:.0%} of it"
    elif estimator in PEAKS:
        if reference.evaluations and reference.evaluations < recorded:
            text += f"; the peak is over {reference.evaluations} of them, as many as there"
        text += ", step 0 included" if reference.step_0 == "yes" else ", without step 0"
    return text

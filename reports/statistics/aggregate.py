"""Scores and learning curves of cells, grouped by task.

Each run is first reduced over time to one score by an estimator; then the scores of a cell's seeds are
summarised. `intervals` has the statistics over seeds, `comparisons` compares systems.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

import numpy as np
import pandas as pd

from ascent.records.declared import Declared
from ascent.records.errors import one_line
from ascent.records.read import DIVERGED, DONE, CellRecord
from ascent.reports.statistics.dispersion import Dispersion, dispersion
from ascent.reports.statistics.estimators import ACROSS_SEEDS, ESTIMATORS, Curves, diverged_score
from ascent.reports.statistics.groups import alike
from ascent.reports.statistics.intervals import (
    Crossing,
    Mean,
    MedianInterval,
    Tolerance,
    failure_interval,
    interquartile_mean,
    mean_of,
    median_interval,
    steps_to_threshold,
    student_t_interval,
    tolerance_interval,
)
from ascent.reports.statistics.labels import labels_of
from ascent.reports.statistics.measures import RETURNS, Measured, measured

MOST_GIVEN = 40  # characters of the name of an environment


@dataclass(frozen=True)
class Score:
    """Run scores of a complete cell over seeds.

    `low` and `high` are the Student-t limits of the mean; None for the reason `no_limits`, which is "" where
    they are given.
    """

    n: int
    failures: int  # diverged runs among the n
    failure_low: float  # Clopper-Pearson interval of the failure rate
    failure_high: float
    mean: float
    low: float | None
    high: float | None
    no_limits: str
    std: float | None  # over seeds, ddof 1
    iqm: float
    median: float
    median_interval: MedianInterval | None  # None for n < 5
    worst: tuple[float, int]  # run score and its seed
    best: tuple[float, int]
    tolerance: Tolerance | None
    area: Mean  # by the estimator `area`
    crossing: Crossing | None  # steps to the declared threshold; None without anchors
    dispersion: Dispersion  # of the learning curves, across time and across runs


@dataclass(frozen=True, eq=False)  # arrays have no truth value: equal if the same
class CellSummary:
    """A cell with its statistics.

    Attributes:
        cell: the records.
        label: name of the system in tables and figures.
        run_scores: estimator -> seed -> score of the finished runs; NaN where it is not recorded.
        seeds: learning curves of the finished runs (P, S), index step, columns seed; NaN where a diverged run
            has no evaluation.
        score: summary over seeds; None unless the cell is complete and its runs can be averaged.
        curve: mean learning curve, columns mean, low and high, index step; None where `score` is.
        sample: (S,) run scores by the declared estimator, ordered by seed; None where `score` is.
        normalised: `sample` scaled to 0 at the task's random score and 1 at its reference score; None where
            the task lacks one of them.
        curves: what the estimators are applied to: the finished runs; None where there are none.
    """

    cell: CellRecord
    label: str
    run_scores: dict[str, dict[int, float]]
    seeds: pd.DataFrame
    score: Score | None
    curve: pd.DataFrame | None
    sample: np.ndarray | None
    normalised: np.ndarray | None
    curves: Curves | None = None

    @property
    def refusal(self) -> str:
        """Reason why there is no score, in a few words; "" where there is one."""
        if self.score is not None:
            return ""
        if not self.cell.complete:
            return f"incomplete {self.cell.finished}/{len(self.cell.runs)}"
        return "mixed versions" if mixed_versions(self.cell) else "not recorded"

    @property
    def counts(self) -> str:
        """Number of runs, such as "n=10" or "n=10 of 20 started, 1 diverged"; the reason for no score."""
        if self.score is None:
            return self.refusal
        text = f"n={self.score.n}"
        if remarks := self.cell.remarks:
            text += f"{' ' if remarks.startswith('of') else ', '}{remarks}"
        return text + (f", {self.score.failures} diverged" if self.score.failures else "")


@dataclass(frozen=True)
class Task:
    """The cells of one task. `measured` is what their scores are.

    `given` is the name that a user gives the task's environment; "" without one, or where other tasks are
    called so, too.
    `groups` are the cells that may be compared with each other: alike in what a comparison needs, such as
    budget and evaluation protocol. `compared` is the largest group, () if two are as large: the cells that
    enter comparisons across tasks. `unlike` states which cells differ in what.
    """

    suite: str
    name: str
    spec: dict
    cells: tuple[CellSummary, ...]
    unlike: tuple[str, ...]
    warnings: tuple[str, ...]
    measured: Measured = RETURNS
    groups: tuple[tuple[CellSummary, ...], ...] = ()
    given: str = ""

    @property
    def title(self) -> str:
        """The name of the task for readers: `name` has digits that tell environments apart."""
        return self.given or self.name

    @property
    def compared(self) -> tuple[CellSummary, ...]:
        """The largest group; () if there is none or another one is as large."""
        sizes = [len(group) for group in self.groups]
        return self.groups[0] if sizes and sizes.count(sizes[0]) == 1 else ()

    @property
    def anchors(self) -> list[tuple[str, float]]:
        """The fixed scores that the task declares: ("reference", score), ("random", score) or fewer.

        They are returns, so there is none where the score is a measure.
        """
        if not self.measured.is_return:
            return []
        scores = [(name, self.spec.get(f"{name}_score")) for name in ("reference", "random")]
        return [(name, float(score)) for name, score in scores if score is not None]

    @property
    def environment(self) -> str:
        """The environment of a task from outside this project, with its class; "" for any other task."""
        facts = next((each.cell.facts for each in self.cells if each.cell.facts), {})
        declared = facts.get("environment")
        if not declared:
            return ""
        parts = [declared["id"]]
        if kwargs := declared.get("kwargs"):
            parts.append("with " + ", ".join(f"{name}={value!r}" for name, value in kwargs.items()))
        if wrappers := declared.get("wrappers"):
            parts.append("in " + ", ".join(wrappers))
        return f"{' '.join(parts)} ({facts.get('guarantees', {}).get('task', 'of no known class')})"


def aggregate(cells: Sequence[CellRecord], declared: Declared) -> list[Task]:
    """Summarise cells by task, in the order of `cells` (which `records.read.load` has sorted).

    Raises:
        InputError: a task lacks the measure that is declared as its score.
    """
    labels = labels_of(cells)
    tasks = []
    for (suite, name), members in groupby(cells, key=lambda cell: (cell.name.suite, cell.name.task)):
        group = list(members)
        spec: dict = next((cell.facts["spec"] for cell in group if cell.facts), {})
        kind = _measured(name, group, declared)
        summaries = tuple(_summarise(cell, labels[cell.name.folder], declared, kind) for cell in group)
        groups, unlike = alike(summaries, name)
        warnings = tuple(_warnings(summaries, declared))
        tasks.append(Task(suite, name, spec, summaries, unlike, warnings, kind, groups, _given(group)))
    uses = Counter(each for task in tasks for each in {task.name, task.given})
    return [task if uses[task.given] == 1 else replace(task, given="") for task in tasks]


def _given(cells: Sequence[CellRecord]) -> str:
    """Return the name that the user of a task's environment gives it; "" for other tasks."""
    facts = next((cell.facts for cell in cells if cell.facts), {})
    return one_line(str((facts.get("environment") or {}).get("name", "")), MOST_GIVEN)


def _measured(task: str, cells: Sequence[CellRecord], declared: Declared) -> Measured:
    """Return what the declared score of a task's cells is; the return where no cell tells its measures."""
    kinds = [
        measured(task, declared.score_of(task, list(cell.measures)), cell.measures)
        for cell in cells
        if cell.facts
    ]
    return kinds[0] if kinds else RETURNS


def mixed_versions(cell: CellRecord) -> list[str]:
    """List the packages whose versions differ between the finished runs; such runs are not averaged."""
    packages = [run.about.get("packages") or {} for run in cell.runs if run.finished]
    names = sorted({name for versions in packages for name in versions})
    return [name for name in names if len({versions.get(name) for versions in packages}) > 1]


def _summarise(cell: CellRecord, label: str, declared: Declared, kind: Measured) -> CellSummary:
    finished = [run for run in cell.runs if run.finished]
    spec = cell.facts["spec"] if cell.facts and kind.is_return else {}  # its anchors are returns
    random, reference = spec.get("random_score"), spec.get("reference_score")
    diverged = [run.state == DIVERGED for run in finished]
    greedy = {run.seed: run.greedy_means(kind.name) for run in finished}
    fill = {
        run.seed: kind.sign * diverged_score(kind.sign * greedy[run.seed].to_numpy(), random)
        for run in finished
        if run.state == DIVERGED
    }
    seeds = pd.DataFrame(greedy).sort_index()
    seeds = seeds.drop(index=_gaps(cell))
    _check_same_grid(cell, seeds)
    if not finished:
        return CellSummary(cell, label, {name: {} for name in ESTIMATORS}, seeds, None, None, None, None)
    flat = np.array([fill.get(run.seed, np.nan) for run in finished])
    # A diverged run has one score, whatever the estimator.
    returns = np.where(diverged, flat, seeds.to_numpy())
    training = np.where(diverged, flat, [run.training_mean(kind.name) for run in finished])
    curves = Curves(seeds.index.to_numpy(), kind.sign * returns, kind.sign * training)
    run_scores = {
        name: dict(zip(seeds.columns, (kind.sign * estimator(curves)).tolist(), strict=True))
        for name, estimator in ESTIMATORS.items()
        if cell.complete or name not in ACROSS_SEEDS
    }
    sample = np.array(list(run_scores.get(declared.estimator, {}).values()))
    if not cell.complete or mixed_versions(cell) or np.isnan(sample).any():
        return CellSummary(cell, label, run_scores, seeds, None, None, None, None, curves)
    normalised, crossing = None, None
    if random is not None and reference is not None and reference > random:
        normalised = (sample - random) / (reference - random)
        level = random + declared.threshold * (reference - random)
        crossing = _crossing(curves, np.array(diverged), level)
    areas = np.array(list(run_scores["area"].values()))
    score = _score(sample, seeds.columns, len(fill), areas, crossing, dispersion(curves))
    filled = seeds.fillna(fill)  # a diverged run stays in the mean: see `diverged_score`
    low, high = student_t_interval(filled.to_numpy().T)
    curve = pd.DataFrame({"mean": filled.mean(axis=1), "low": low, "high": high})
    return CellSummary(cell, label, run_scores, seeds, score, curve, sample, normalised, curves)


def _crossing(curves: Curves, diverged: np.ndarray, level: float) -> Crossing:
    """Return the steps until the evaluation return is at least `level`.

    Step 0, the untrained policy, does not count. Runs that never reach it are censored at the end, and so are
    diverged runs, whatever they reached before they diverged.
    """
    above = (curves.returns >= level) & ~diverged & (curves.steps > 0)[:, None]
    reached = above.any(axis=0)
    first = np.where(reached, above.argmax(axis=0), len(curves.steps) - 1)
    return steps_to_threshold(curves.steps[first], reached)


def _above_untrained(summary: CellSummary, declared: Declared) -> int:
    """Return in how many runs the policy of step 0 is above the declared threshold."""
    spec = summary.cell.facts["spec"] if summary.score and summary.score.crossing else {}
    if not spec or summary.curves is None or summary.curves.steps[0] > 0:
        return 0
    random, reference = spec["random_score"], spec["reference_score"]
    level = random + declared.threshold * (reference - random)
    return int((summary.curves.returns[0] >= level).sum())


def _score(
    sample: np.ndarray,
    seeds: Sequence[int],
    failures: int,
    areas: np.ndarray,
    crossing: Crossing | None,
    dispersed: Dispersion,
) -> Score:
    ranked = sorted(zip(sample.tolist(), seeds, strict=True))
    failure_low, failure_high = failure_interval(failures, len(sample))
    mean = mean_of(sample)
    return Score(
        n=len(sample),
        failures=failures,
        failure_low=failure_low,
        failure_high=failure_high,
        mean=mean.value,
        low=mean.low,
        high=mean.high,
        no_limits=mean.no_limits,
        std=float(sample.std(ddof=1)) if len(sample) > 1 else None,
        iqm=float(interquartile_mean(sample)),
        median=float(np.median(sample)),
        median_interval=median_interval(sample),
        worst=ranked[0],
        best=ranked[-1],
        tolerance=tolerance_interval(sample),
        area=mean_of(areas),
        crossing=crossing,
        dispersion=dispersed,
    )


def _gaps(cell: CellRecord) -> list[int]:
    """Return the steps at which a completed run of an imported cell has no evaluation, and others have."""
    if not cell.imported:
        return []
    done = {run.seed: run.greedy for run in cell.runs if run.finished}
    seeds = pd.DataFrame(done).sort_index()[[run.seed for run in cell.runs if run.state == DONE]]
    return [int(step) for step in seeds.index[seeds.isna().any(axis=1)]]


def _check_same_grid(cell: CellRecord, seeds: pd.DataFrame) -> None:
    """Raise ValueError if completed runs lack evaluation points: the digest of a cell fixes their grid."""
    done = [run.seed for run in cell.runs if run.state == DONE]
    uneven = [seed for seed in done if seeds[seed].isna().any()]
    if uneven:
        seeds_text = ", ".join(map(str, uneven))
        raise ValueError(f"{cell.name.folder}: seeds {seeds_text} lack evaluation points of other seeds")


def _promise(cell: CellRecord) -> str | None:
    """Return what a record promises of its task: "twin", "replayable", "loose"; None in early records."""
    promises = (cell.facts or {}).get("guarantees") or {}
    return promises.get("task") if isinstance(promises, dict) else None


def _warnings(summaries: Sequence[CellSummary], declared: Declared) -> list[str]:
    """Return the caveats for the scores of a task."""
    warnings = []
    for summary in summaries:
        points = int((summary.seeds.index > 0).sum())
        done = any(run.state == DONE for run in summary.cell.runs)
        if done and points < 10 and declared.estimator == "mean_of_last_ten":
            warnings.append(f"{summary.label} has only {points} evaluation points; its score is their mean.")
        if mixed := mixed_versions(summary.cell):
            names = ", ".join(mixed)
            warnings.append(f"{summary.label} has no score: its runs had different versions of {names}.")
        elif summary.cell.complete and summary.score is None:
            warnings.append(f"{summary.label} has no score: {declared.estimator} is not recorded.")
    cells = [summary.cell.name for summary in summaries]
    systems = [(cell.system, cell.preset) for cell in cells if not cell.name]
    for system, preset in sorted({name for name in systems if systems.count(name) > 1}):
        warnings.append(f"{system} with preset {preset} has several settings here; each is a separate cell.")
    imported = [summary.label for summary in summaries if summary.cell.imported]
    if imported:
        warnings.append(f"Imported, with a different evaluation protocol: {', '.join(imported)}.")
    loose = [each.label for each in summaries if _promise(each.cell) == "loose"]
    if loose:
        warnings.append(
            f"The environment of {', '.join(loose)} is loose: an episode, played again, differs. It is not "
            "promised that the same seed gives the same result, in another packing or after an interruption."
        )
    for summary in summaries:
        if gaps := _gaps(summary.cell):
            first = f"step {gaps[0]:,}" + (f" and {len(gaps) - 1:,} more" if len(gaps) > 1 else "")
            warnings.append(
                f"{summary.label}: {first} left out, at which an imported seed has no evaluation."
            )
        if untrained := _above_untrained(summary, declared):
            warnings.append(
                f"The untrained policy of {summary.label} is above the threshold in {untrained} of "
                f"{len(summary.cell.runs)} runs; step 0 does not count as reaching it."
            )
    return warnings

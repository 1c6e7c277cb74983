"""Verdicts: our scores against published ones, each by the estimator that was published.

The published results are in `references/published.csv`, with their sources in `sources.csv`. How far apart
two means may be and still count as equal was fixed beforehand, with a reason, in `margins.csv`; what a
version of an environment changed is in `environments.csv`. A verdict needs a spread over seeds and a number
of seeds; without them a comparison is descriptive and says why.
"""

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.reports.statistics import stats
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.estimators import describe

FOLDER = Path(__file__).parents[1] / "references"
STEPS_TOLERANCE = 0.02  # of the step budget: rollouts and epochs do not divide every budget
DESCRIPTIVE = "descriptive"

SpreadKind = Literal["std1", "std0", "std", "se", "ci95", "episodes", "unclear", "none"]
Estimator = Literal[
    "final", "mean_of_last_ten", "peak_of_mean_curve", "mean_of_per_seed_peaks", "last_100_training_episodes"
]
_Empty = BeforeValidator(lambda value: None if value == "" else value)  # a field of a CSV file that is empty
Number = Annotated[float, Field(allow_inf_nan=False)]
_NO_STD = {
    "ci95": "the spread is a bootstrap interval, which gives no standard deviation",
    "episodes": "the spread is over evaluation episodes of one run, not over seeds",
    "unclear": 'what the printed "+-" means is not stated',
    "none": "no spread is published",
}


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Reference(_Row):
    """A published score, in units of return: a row of published.csv."""

    source: Annotated[str, Field(min_length=1)]  # key in sources.csv
    locator: Annotated[str, Field(min_length=1)]  # where in the source
    system: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]  # our name of the algorithm
    printed: str  # its name as printed
    family: str  # the task without its version
    environment: str  # the task as printed, with its version
    variant: str  # what is not as registered in that environment
    steps: Annotated[int, Field(gt=0)]  # environment steps per seed
    estimator: Estimator  # the one of ours that it is, or is nearest to
    metric: Annotated[str, Field(min_length=1)]  # what the score is, in words
    n: Annotated[Annotated[int, Field(ge=1)] | None, _Empty]  # seeds; None if not stated, or not exactly
    mean: Number
    spread: Annotated[Annotated[Number, Field(ge=0)] | None, _Empty]
    low: Annotated[Number | None, _Empty]  # of an interval, for ci95
    high: Annotated[Number | None, _Empty]
    spread_kind: SpreadKind
    spread_printed: str  # the kind in the words of the source
    algorithm_differs: str  # in what the algorithm is not ours, or may not be
    no_verdict: str  # why the score must not be judged, whatever its spread
    notes: str

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds (ddof 1) that follows from the printed spread, None if none does.

        `std`, whose ddof is not stated, is read as ddof 0: the larger value, which makes every verdict but
        "inconclusive" harder to get.
        """
        if self.spread is None or self.n is None or self.n < 2:
            return None
        if self.spread_kind in ("std0", "std"):
            return self.spread * math.sqrt(self.n / (self.n - 1))
        if self.spread_kind == "se":
            return self.spread * math.sqrt(self.n)
        return self.spread if self.spread_kind == "std1" else None

    @property
    def obstacle(self) -> str:
        """Why there can be no verdict; empty if there can be one."""
        if self.no_verdict or self.spread_kind in _NO_STD:
            return self.no_verdict or _NO_STD[self.spread_kind]
        if self.n is None:
            return "the exact number of seeds is not stated"
        return "it is a single run" if self.n < 2 else ""


class Source(_Row):
    """Where published scores are from: a row of sources.csv. `bibtex`: key of its BibTeX entry."""

    source: str
    citation: str
    where: str
    bibtex: str
    year: Annotated[int | None, _Empty]


class Margin(_Row):
    """How far two means on a task may be apart and count as equal, in units of return, and why."""

    family: str
    margin: Annotated[Number, Field(gt=0)]
    reason: Annotated[str, Field(min_length=1)]


class Change(_Row):
    """What version `since` of an environment changed, and the source of that."""

    family: str
    since: int
    difference: str
    source: str


@dataclass(frozen=True)
class Sample:
    """Mean and standard deviation (ddof 1) of run scores over n seeds, in units of return."""

    mean: float
    std: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """One of our cells against one published score.

    `ours` is None where no scores by the published estimator are recorded; `test` is None and `reason` says
    why where there is no verdict. `differences` are in words: environment, algorithm, steps, protocol, ...
    """

    task: Task
    summary: CellSummary
    reference: Reference
    ours: Sample | None
    margin: Margin | None
    test: stats.Equivalence | None
    reason: str
    differences: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """ "reproduced", "different", "inconclusive" or "descriptive"."""
        return self.test.verdict if self.test else DESCRIPTIVE

    @property
    def difference(self) -> float | None:
        """Our mean minus theirs."""
        return self.ours.mean - self.reference.mean if self.ours else None


@cache
def references() -> tuple[Reference, ...]:
    """All published scores. Raises pydantic's ValidationError for a row that is none."""
    return tuple(Reference(**row) for row in _rows("published.csv"))


@cache
def sources() -> dict[str, Source]:
    """Sources of published scores, by key."""
    return {row["source"]: Source(**row) for row in _rows("sources.csv")}


@cache
def margins() -> dict[str, Margin]:
    """Margins, by task family."""
    return {row["family"]: Margin(**row) for row in _rows("margins.csv")}


@cache
def changes() -> tuple[Change, ...]:
    """What versions of environments changed."""
    return tuple(Change(**row) for row in _rows("environments.csv"))


def _rows(name: str) -> list[dict[str, Any]]:
    with open(FOLDER / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def verdicts(tasks: Sequence[Task]) -> list[Verdict]:
    """Every complete cell of at least two seeds against every published score of its algorithm, task family
    and step budget (within 2%), in the order of `tasks` and of published.csv. Imported cells are not judged.
    """
    found = []
    for task in tasks:
        family, _ = split_version(task.name)
        published = [reference for reference in references() if reference.family == family]
        for summary in task.cells:
            if summary.cell.imported or summary.score is None or summary.score.n < 2:
                continue
            algorithm, steps = algorithm_of(summary.cell.facts), summary.cell.facts["steps"]
            found += [
                _judge(task, summary, reference)
                for reference in published
                if reference.system == algorithm and abs(reference.steps - steps) <= STEPS_TOLERANCE * steps
            ]
    return found


def split_version(task: str) -> tuple[str, int | None]:
    """Family and version of a task's name: Hopper-v5, simple_spread_v3; no version: None.

    Continuous actions in place of discrete ones make no other family: the rewards are the same.
    """
    match = re.fullmatch(r"(.+)[-_]v(\d+)(-continuous)?", task)
    return (match[1], int(match[2])) if match else (task, None)


def algorithm_of(facts: dict[str, Any]) -> str:
    """The algorithm that a cell (cell.json) is, whatever its system is called: some settings change it."""
    algorithm, config = facts["algorithm"], facts["config"]
    if algorithm == "sac":
        tuned = config.get("tune", facts["system"] != "sac-fixed")
        return "sac" if tuned else "sac-fixed"
    if config.get("local_critic") or config.get("local_value"):
        return {"maddpg": "iddpg", "mappo": "ippo"}.get(algorithm, algorithm)
    return "double-dqn" if algorithm == "dqn" and config.get("double") else algorithm


def _judge(task: Task, summary: CellSummary, reference: Reference) -> Verdict:
    ours = _sample(summary, reference.estimator)
    margin = margins().get(reference.family)
    differences = tuple(_differences(task, summary, reference))
    if ours is None:
        reason = f"nothing is recorded here for {reference.estimator}"
    elif any(run.seed >= FIRST_TUNING_SEED for run in summary.cell.runs):
        reason = "these are tuning seeds"
    elif margin is None:
        reason = "no margin is declared for this task"
    else:
        reason = reference.obstacle
    test = None
    if not reason:
        theirs = (reference.mean, reference.std, reference.n)
        test = stats.equivalence(ours.mean, ours.std, ours.n, *theirs, margin.margin)
    return Verdict(task, summary, reference, ours, margin, test, reason, differences)


def _sample(summary: CellSummary, estimator: str) -> Sample | None:
    scores = np.array(list(summary.run_scores.get(estimator, {}).values()))
    if len(scores) < 2 or np.isnan(scores).any():
        return None
    return Sample(float(scores.mean()), float(scores.std(ddof=1)), len(scores))


def _differences(task: Task, summary: CellSummary, reference: Reference) -> list[str]:
    """What else than the seeds may make the scores differ."""
    facts, found = summary.cell.facts, []
    if reference.environment != task.name:
        what = f"{reference.environment}, here {task.name}"
        known = _changed(reference.family, reference.environment, task.name)
        found.append(f"{what} ({'; '.join(known)})" if known else what)
    if reference.variant:
        found.append(f"environment: {reference.variant}")
    if reference.algorithm_differs:
        found.append(f"algorithm: {reference.algorithm_differs}")
    if reference.system == "sac-fixed" and "alpha" in facts["config"]:
        found.append(f"the temperature here is {facts['config']['alpha']:g}")
    if reference.steps != facts["steps"]:
        found.append(f"{reference.steps:,} steps, here {facts['steps']:,}")
    found.append(f"score: {reference.metric}; here: {_protocol(reference.estimator, facts['evaluation'])}")
    found.append(f"hyper-parameters here: preset {summary.cell.setting}")
    if summary.score.failures:
        found.append(f"{summary.score.failures} of our {summary.score.n} runs diverged, and count")
    if reference.spread_kind == "std":
        found.append("whether their standard deviation has ddof 0 or 1 is not stated: read as 0")
    return found + ([f"source: {reference.notes}"] if reference.notes else [])


def _changed(family: str, theirs: str, ours: str) -> list[str]:
    versions = sorted({split_version(theirs)[1] or 0, split_version(ours)[1] or 0})
    return [
        change.difference
        for change in changes()
        if change.family == family and versions[0] < change.since <= versions[-1]
    ]


def _protocol(estimator: str, evaluation: dict[str, int]) -> str:
    words = describe(estimator).rstrip(".").lower()
    if estimator == "last_100_training_episodes":
        return words
    points, episodes = evaluation["points"], evaluation["episodes"]
    text = f"{words}; {points} evaluations over the budget, {episodes} episodes each"
    if estimator == "mean_of_last_ten":
        text += f", the last ten cover {min(10, points) / points:.0%} of it"
    elif estimator.endswith(("peaks", "peak_of_mean_curve")):
        text += "; the more evaluations, the higher a peak"
    return text


def table(found: Sequence[Verdict]) -> pd.DataFrame:
    """One row per verdict, in full precision: what verdicts.csv holds."""
    rows = []
    for item in found:
        name, reference, test = item.summary.cell.name, item.reference, item.test
        rows.append({
            "suite": name.suite, "task": name.task, "system": name.system, "preset": name.preset,
            "digest": name.digest, "estimator": reference.estimator,
            "ours_mean": item.ours.mean if item.ours else None,
            "ours_std": item.ours.std if item.ours else None, "ours_n": item.ours.n if item.ours else None,
            "source": reference.source, "locator": reference.locator, "printed": reference.printed,
            "environment": reference.environment, "steps": reference.steps, "theirs_mean": reference.mean,
            "theirs_spread": reference.spread, "spread_kind": reference.spread_kind,
            "spread_printed": reference.spread_printed, "theirs_std": reference.std,
            "theirs_n": reference.n, "difference": item.difference,
            "low": test.low if test else None, "high": test.high if test else None,
            "margin": item.margin.margin if item.margin else None,
            "margin_reason": item.margin.reason if item.margin else "",
            "p_equivalent": test.p_equivalent if test else None,
            "p_different": test.p_different if test else None, "power": test.power if test else None,
            "verdict": item.verdict, "reason": item.reason, "differences": " | ".join(item.differences),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=_COLUMNS)


_COLUMNS = [
    "suite", "task", "system", "preset", "digest", "estimator", "ours_mean", "ours_std", "ours_n", "source",
    "locator", "printed", "environment", "steps", "theirs_mean", "theirs_spread", "spread_kind",
    "spread_printed", "theirs_std", "theirs_n", "difference", "low", "high", "margin", "margin_reason",
    "p_equivalent", "p_different", "power", "verdict", "reason", "differences",
]  # fmt: skip

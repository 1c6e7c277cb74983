"""Aggregate: cells -> scores and learning curves, grouped by task.

Each run is first reduced over time to one score by an estimator, then the scores of a cell's seeds are
summarised. Statistics over seeds come from `stats`; a statistic across tasks belongs in a function here
that takes the list of `Task`s.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import pandas as pd

from reports.estimators import ESTIMATORS, PRIMARY, diverged_score
from reports.records import DIVERGED, DONE, Cell, Run
from reports.stats import interquartile_mean, student_t_interval


@dataclass(frozen=True)
class Score:
    """Summary of a complete cell's run scores, in units of return. `low` and `high` are None for n = 1."""

    n: int
    failures: int  # diverged runs among the n
    mean: float
    low: float | None
    high: float | None
    iqm: float
    median: float
    worst: tuple[float, int]  # run score and its seed
    best: tuple[float, int]


@dataclass(frozen=True)
class CellSummary:
    """A cell with its numbers.

    `label` names the system in tables and figures. `run_scores` maps estimator -> seed -> score, finished
    runs only. `seeds` holds the recorded curves of the finished runs (P, S), index step, columns seed,
    NaN where a diverged run has no evaluation. `curve` has the columns mean, low, high and index step.
    `score` and `curve` are None unless the cell is complete.
    """

    cell: Cell
    label: str
    run_scores: dict[str, dict[int, float]]
    seeds: pd.DataFrame
    score: Score | None
    curve: pd.DataFrame | None

    @property
    def counts(self) -> str:
        """How many runs the numbers stand on: "n=10", "n=10, 1 diverged" or "incomplete 7/10"."""
        if self.score is None:
            return f"incomplete {self.cell.finished}/{len(self.cell.runs)}"
        return f"n={self.score.n}" + (f", {self.score.failures} diverged" if self.score.failures else "")


@dataclass(frozen=True)
class Task:
    """The cells of one task. `best`: digest of the cell whose interval lies above all others, if any does."""

    suite: str
    name: str
    spec: dict
    cells: tuple[CellSummary, ...]
    warnings: tuple[str, ...]
    best: str | None

    @property
    def anchors(self) -> list[tuple[str, float]]:
        """The fixed scores that the task declares: ("reference", score), ("random", score) or fewer."""
        found = [(name, self.spec.get(f"{name}_score")) for name in ("reference", "random")]
        return [(name, float(score)) for name, score in found if score is not None]


def aggregate(cells: Sequence[Cell]) -> list[Task]:
    """Summaries of all cells, by task, in the order of `cells` (which `records.load` has sorted)."""
    labels = _labels(cells)
    tasks = []
    for (suite, name), group in groupby(cells, key=lambda cell: (cell.name.suite, cell.name.task)):
        summaries = tuple(_summarise(cell, labels[cell.name.folder]) for cell in group)
        spec = next((summary.cell.facts["spec"] for summary in summaries if summary.cell.facts), {})
        unlike = _unlike(summaries)
        best = None if unlike else _separate_best(summaries)
        tasks.append(Task(suite, name, spec, summaries, (*unlike, *_short_curves(summaries)), best))
    return tasks


def evaluation_means(cells: Sequence[Cell]) -> pd.DataFrame:
    """Evaluation means of all finished runs, one row per run, policy and step: the report's data file.

    Columns suite, task, system, preset, digest, seed, state, policy, step, episodes, return, length.
    """
    names = ["suite", "task", "system", "preset", "digest"]
    columns = [*names, "seed", "state", "policy", "step", "episodes", "return", "length"]
    frames = [
        _means(run).assign(**{key: getattr(cell.name, key) for key in names}, seed=run.seed, state=run.state)
        for cell in cells
        for run in cell.runs
        if run.finished
    ]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)


def greedy_curve(run: Run) -> pd.Series:
    """Mean return of the greedy policy at each evaluation point (P,), index step; finite points only."""
    means = _means(run)
    curve = means[means["policy"] == "greedy"].set_index("step")["return"]
    return curve[np.isfinite(curve)]  # only a diverged run has others, and those are not measurements


def _means(run: Run) -> pd.DataFrame:
    """policy, step, episodes, return, length: means over the episodes of an evaluation, sorted."""
    frame = run.evaluations.astype({"policy": str})
    return frame.groupby(["policy", "step"], as_index=False, sort=True).agg(
        **{"episodes": ("episode", "size"), "return": ("return", "mean"), "length": ("length", "mean")}
    )


def _summarise(cell: Cell, label: str) -> CellSummary:
    finished = [run for run in cell.runs if run.finished]
    curves = {run.seed: greedy_curve(run) for run in finished}
    random_score = cell.facts["spec"].get("random_score") if cell.facts else None
    diverged = [run.seed for run in finished if run.state == DIVERGED]
    fill = {seed: diverged_score(curves[seed], random_score) for seed in diverged}
    run_scores = {
        name: {seed: fill[seed] if seed in fill else estimator(curve) for seed, curve in curves.items()}
        for name, estimator in ESTIMATORS.items()
    }
    seeds = pd.DataFrame(curves).sort_index()
    _check_same_grid(cell, seeds)
    if not cell.complete:
        return CellSummary(cell, label, run_scores, seeds, None, None)
    score = _score(run_scores[PRIMARY], failures=len(fill))
    filled = seeds.fillna(fill)  # a diverged run stays in the mean: see `diverged_score`
    low, high = student_t_interval(filled.to_numpy().T)
    curve = pd.DataFrame({"mean": filled.mean(axis=1), "low": low, "high": high})
    return CellSummary(cell, label, run_scores, seeds, score, curve)


def _score(by_seed: dict[int, float], failures: int) -> Score:
    sample = np.array(list(by_seed.values()))
    low, high = (float(limit) for limit in student_t_interval(sample))
    ranked = sorted((value, seed) for seed, value in by_seed.items())
    return Score(
        n=len(sample),
        failures=failures,
        mean=float(sample.mean()),
        low=None if np.isnan(low) else low,
        high=None if np.isnan(high) else high,
        iqm=float(interquartile_mean(sample)),
        median=float(np.median(sample)),
        worst=ranked[0],
        best=ranked[-1],
    )


def _check_same_grid(cell: Cell, seeds: pd.DataFrame) -> None:
    """The evaluation grid is part of a cell's digest, so runs that are done share it; a mean needs that."""
    done = [run.seed for run in cell.runs if run.state == DONE]
    uneven = [seed for seed in done if seeds[seed].isna().any()]
    if uneven:
        raise ValueError(f"{cell.name.folder}: seeds {uneven} lack evaluation points that other seeds have")


def _labels(cells: Sequence[Cell]) -> dict[str, str]:
    """Cell folder -> the shortest of "sac", "sac (preset)", "sac (preset, digest)" unique in every task."""
    labels = {}
    for system in sorted({cell.name.system for cell in cells}):
        names = [cell.name for cell in cells if cell.name.system == system]
        for form in ("{0.system}", "{0.system} ({0.preset})", "{0.system} ({0.preset}, {0.digest})"):
            candidates = {name.folder: form.format(name) for name in names}
            if len({(name.suite, name.task, candidates[name.folder]) for name in names}) == len(names):
                break
        labels |= candidates
    return labels


def _separate_best(summaries: Sequence[CellSummary]) -> str | None:
    """Digest of the cell whose interval lies above every other one; None if any cell has no interval."""
    scores = [(summary.score, summary.cell.name.digest) for summary in summaries]
    if len(scores) < 2 or any(score is None or score.low is None for score, _ in scores):
        return None
    leader, digest = max(scores, key=lambda item: item[0].mean)
    return digest if all(leader.low > score.high for score, _ in scores if score is not leader) else None


def _unlike(summaries: Sequence[CellSummary]) -> list[str]:
    """What the cells of one task do not have in common although a comparison needs it."""
    warnings = []
    facts = [summary.cell.facts for summary in summaries if summary.cell.facts]
    for what, values in {
        "the step budget": [fact["steps"] for fact in facts],
        "the evaluation protocol": [fact["evaluation"] for fact in facts],
        "the task's specification": [fact["spec"] for fact in facts],
        "the suite's version": [fact["versions"].get("suite") for fact in facts],
    }.items():
        if len({json.dumps(value, sort_keys=True) for value in values}) > 1:
            warnings.append(f"The cells of this task differ in {what}: none is called best.")
    return warnings


def _short_curves(summaries: Sequence[CellSummary]) -> list[str]:
    warnings = []
    for summary in summaries:
        points = int((summary.seeds.index > 0).sum())
        if any(run.state == DONE for run in summary.cell.runs) and points < 10:
            warnings.append(f"{summary.label} has only {points} evaluation points: its score uses these.")
    return warnings

"""The search: rounds of trials that Optuna proposes, trained as ordinary cells with tuning seeds.

Nothing is remembered between two calls but the run records. A search that was stopped begins again: the
sampler, with the same seed, proposes the same trials, is told the same scores, as their runs are recorded,
and goes on where it stopped. So a tuning that was killed ends with the same trials as one that was not.

The trials of a round are proposed before any of them has a score; TPE then counts those that run as bad
(`constant_liar`), so that they differ. With the pruner "median", a trial trains one seed, then two, then
four, ...: it is given up where its best mean so far is below the median that the complete trials of earlier
rounds had with as many seeds, if there are five. What is given up are whole runs, never a part of a run: a
schedule over the budget stays what it is.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.records.plan import Plan, Planned
from ascent.records.read import load
from ascent.reports.statistics.aggregate import CellSummary, aggregate
from ascent.reports.tuning.declaration import Tuning
from ascent.runners.spaces import Parameter

if TYPE_CHECKING:
    import optuna

COMPLETE, PRUNED, REFUSED, RUNNING = "complete", "pruned", "refused", "running"
FEWEST = 8  # complete trials from which importances are computed
Train = Callable[[Plan], object]  # trains what is missing of a plan


@dataclass
class Trial:
    """A point of the space.

    Attributes:
        number: from 0, in the order in which they were proposed.
        values: of the hyperparameters that are searched.
        cells: one per task; () if the values were refused.
        state: complete; pruned, given up before it had all seeds; or refused.
        reason: why its values were refused; "" otherwise.
        seeds: how many of the tuning's seeds it has.
        scores: task -> score of each run, in the order of the seeds.
        score: mean over seeds, and over tasks of the normalised scores if there are several.
        core_seconds: what its runs took, those that an earlier trial had trained excepted.
    """

    number: int
    values: dict[str, Any]
    cells: tuple[Cell, ...] = ()
    state: str = RUNNING
    reason: str = ""
    seeds: int = 0
    scores: dict[str, list[float]] = field(default_factory=dict)
    score: float | None = None
    core_seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Return the trial as the record of the tuning has it: nothing in it depends on time or place."""
        return {
            "number": self.number,
            "values": self.values,
            "state": self.state,
            "seeds": self.seeds,
            "score": self.score,
            "scores": self.scores,
            "cells": [cell.folder(Path()).as_posix() for cell in self.cells],
        } | ({"reason": self.reason} if self.reason else {})


def quiet() -> Any:
    """Return the module optuna, which says nothing. Raises InputError if it is not installed."""
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise InputError("the package optuna is not installed: pip install 'ascent-rl[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna


def search(tuning: Tuning, runs: Path, train: Train) -> Iterator[list[Trial]]:
    """Train the trials round by round, those that are recorded excepted; yield all trials after each round.

    Args:
        tuning: what is declared.
        runs: folder of run records.
        train: trains what is missing of a plan.

    Raises:
        InputError: runs failed or are damaged, or all trials of the first round were refused.
    """
    study = _study(tuning)
    start = tuning.start()
    if start is not None:
        study.enqueue_trial({name: _inner(tuning.space[name], value) for name, value in start.items()})
    trials: list[Trial] = []
    seen: set[tuple[str, int]] = set()
    while len(trials) < tuning.trials:
        size = min(tuning.round, tuning.trials - len(trials))
        asked = [study.ask(_distributions(tuning.space)) for _ in range(size)]
        proposed = [Trial(one.number, _values(tuning, one, start)) for one in asked]
        for trial in proposed:
            try:
                trial.cells = tuning.cells(trial.values)
            except InputError as error:
                trial.state, trial.reason = REFUSED, str(error)
        _train_round(tuning, runs, train, proposed, asked, seen)
        for one, trial in zip(asked, proposed, strict=True):
            _tell(study, one, trial)
        trials += proposed
        if all(trial.state == REFUSED for trial in trials):
            raise InputError(f"no trial can be trained: {trials[0].reason}")
        yield trials


def importances(tuning: Tuning, trials: Sequence[Trial]) -> dict[str, float]:
    """Return the share of each hyperparameter in what sets the best complete trials apart, the largest first.

    Watanabe, Bansal and Hutter (2023), "PED-ANOVA: Efficiently Quantifying Hyperparameter Importance in
    Arbitrary Subspaces", IJCAI, as Optuna computes it. {} where there are too few trials, or no differences.
    """
    complete = [trial for trial in trials if trial.state == COMPLETE]
    if len(complete) < FEWEST or len({trial.score for trial in complete}) < 2:
        return {}
    package = quiet()
    study = package.create_study(direction="maximize")
    distributions = _distributions(tuning.space)
    for trial in complete:
        values = {name: _inner(tuning.space[name], value) for name, value in trial.values.items()}
        study.add_trial(
            package.trial.create_trial(params=values, distributions=distributions, value=trial.score)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        evaluator = package.importance.PedAnovaImportanceEvaluator()
        shares: dict[str, float] = package.importance.get_param_importances(study, evaluator=evaluator)
    return shares


def best(trials: Sequence[Trial]) -> Trial:
    """Return the complete trial with the highest score; of equal ones the first."""
    return max(
        (trial for trial in trials if trial.state == COMPLETE), key=lambda trial: (trial.score, -trial.number)
    )


def _study(tuning: Tuning) -> "optuna.Study":
    package = quiet()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arguments that Optuna calls experimental
        sampler = (
            package.samplers.TPESampler(seed=tuning.sampler_seed, constant_liar=True)
            if tuning.sampler == "tpe"
            else package.samplers.RandomSampler(seed=tuning.sampler_seed)
        )
    pruner = package.pruners.MedianPruner() if tuning.pruner == "median" else package.pruners.NopPruner()
    study: optuna.Study = package.create_study(direction="maximize", sampler=sampler, pruner=pruner)
    return study


def _distributions(space: dict[str, Parameter]) -> dict[str, Any]:
    """Return the space as Optuna has it; choices are their places in the list, which may have lists."""
    kinds = quiet().distributions
    found: dict[str, Any] = {}
    for name, one in space.items():
        if one.choices:
            found[name] = kinds.CategoricalDistribution(range(len(one.choices)))
        elif one.whole:
            found[name] = kinds.IntDistribution(one.low, one.high, log=one.log)
        else:
            found[name] = kinds.FloatDistribution(one.low, one.high, log=one.log)
    return found


def _inner(parameter: Parameter, value: Any) -> Any:
    """Return a value as Optuna has it."""
    return parameter.choices.index(value) if parameter.choices else value


def _values(tuning: Tuning, asked: "optuna.Trial", start: dict[str, Any] | None) -> dict[str, Any]:
    """Return the values of a trial that Optuna proposes; trial 0 is the preset, if that is in the space."""
    if asked.number == 0 and start is not None:
        return start
    values = {}
    for name, one in tuning.space.items():
        value = asked.params[name]
        if one.choices:
            values[name] = one.choices[value]
        else:
            values[name] = int(value) if one.whole else one.rounded(value)
    return values


def _train_round(
    tuning: Tuning,
    runs: Path,
    train: Train,
    trials: Sequence[Trial],
    asked: Sequence["optuna.Trial"],
    seen: set[tuple[str, int]],
) -> None:
    """Train the trials of a round, and give up those that the pruner gives up."""
    for rung in tuning.rungs:
        open_ = [trial for trial in trials if trial.state == RUNNING]
        if not open_:
            return
        seeds = tuning.seeds[:rung]
        train(_plan(tuning, open_, seeds))
        _score(tuning, runs, open_, seeds, seen)
        for one, trial in zip(asked, trials, strict=True):
            if trial.state != RUNNING:
                continue
            assert trial.score is not None
            one.report(trial.score, rung)
            if rung == len(tuning.seeds):
                trial.state = COMPLETE
            elif one.should_prune():
                trial.state = PRUNED


def _plan(tuning: Tuning, trials: Sequence[Trial], seeds: tuple[int, ...]) -> Plan:
    """Return the plan of some trials; where two have the same cell, it is that of the first."""
    planned: dict[str, Planned] = {}
    for trial in trials:
        for cell in trial.cells:
            planned.setdefault(cell.digest, Planned(cell, seeds, f"trial {trial.number}"))
    return Plan(tuple(planned.values()), tuning.declared, {"tuning": tuning.to_json()})


def _score(
    tuning: Tuning, runs: Path, trials: Sequence[Trial], seeds: tuple[int, ...], seen: set[tuple[str, int]]
) -> None:
    """Set the scores of trials whose runs with these seeds are finished, and what the runs took."""
    expected = [Expected.of(cell, seeds) for trial in trials for cell in trial.cells]
    try:
        found = aggregate(load(runs, expected), tuning.declared)
    except ValueError as error:
        raise InputError(str(error)) from error
    summaries = {one.cell.name.folder: one for task in found for one in task.cells}
    for trial in trials:
        of_trial = [summaries[cell.folder(Path()).as_posix()] for cell in trial.cells]
        trial.seeds, trial.scores, means = len(seeds), {}, []
        for cell, summary in zip(trial.cells, of_trial, strict=True):
            sample = _sample(summary, normalised=len(tuning.tasks) > 1)
            by_seed = summary.run_scores[tuning.estimator]
            trial.scores[cell.task] = [float(by_seed[seed]) for seed in seeds]
            means.append(float(sample.mean()))
            for run in summary.cell.runs:
                if (key := (run.folder, run.seed)) not in seen:
                    seen.add(key)
                    trial.core_seconds += run.core_seconds
        trial.score = sum(means) / len(means)


def _sample(summary: CellSummary, normalised: bool) -> Any:
    """Return the run scores (S,) of a cell. Raises InputError if it has none: a run is damaged."""
    sample = summary.normalised if normalised else summary.sample
    if sample is None:
        notes = [f"{run.folder}: {run.note}" for run in summary.cell.runs if run.note]
        raise InputError(f"a trial has no score: {notes[0] if notes else summary.refusal}")
    return sample


def _tell(study: "optuna.Study", asked: "optuna.Trial", trial: Trial) -> None:
    states = quiet().trial.TrialState
    if trial.state == COMPLETE:
        study.tell(asked, trial.score)
    else:
        study.tell(asked, state=states.PRUNED if trial.state == PRUNED else states.FAIL)

"""What a tuning declares before its first run: system, tasks, budget, tuning seeds, space and sampler."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from ascent import suites
from ascent.records.cell import FIRST_TUNING_SEED, Cell, Evaluation
from ascent.records.declared import Declared
from ascent.records.errors import InputError, unknown
from ascent.records.plan import check_seeds
from ascent.runners import own, spaces
from ascent.runners.resolve import resolve

SAMPLERS = ("tpe", "random")
PRUNERS = ("median", "none")
MOST_TRIALS = 10_000
MOST_NAME = 100  # characters of a folder's name


@dataclass(frozen=True)
class Tuning:
    """A tuning. `declare` makes one and checks it.

    Attributes:
        system: name of the system.
        tasks: every trial is trained on all of them.
        base: the cell of each task with the preset's values, which a trial's values override.
        space: what is searched.
        fixed: hyperparameters that differ from the preset in all trials.
        preset: as the user named it; None for the default of each task's suite.
        steps: as the user gave them; None for the budget of each task.
        seeds: tuning seeds, in the order in which they are trained.
        trials: number of trials.
        round: trials that are proposed together, and may be trained in parallel.
        sampler, sampler_seed, pruner: names in `SAMPLERS` and `PRUNERS`, and the seed of the sampler.
        estimator: how a run becomes a score.
    """

    system: str
    tasks: tuple[str, ...]
    base: tuple[Cell, ...]
    space: spaces.Space
    fixed: dict[str, Any] = field(default_factory=dict)
    preset: str | None = None
    steps: int | None = None
    evaluation: Evaluation = field(default_factory=Evaluation)
    seeds: tuple[int, ...] = (1000, 1001, 1002)
    trials: int = 20
    round: int = 4
    sampler: str = SAMPLERS[0]
    sampler_seed: int = 0
    pruner: str = PRUNERS[0]
    estimator: str = Declared().estimator

    @property
    def declared(self) -> Declared:
        """The report settings by which the trials are scored."""
        return Declared(self.estimator)

    @property
    def rungs(self) -> tuple[int, ...]:
        """The numbers of seeds after which a trial may be given up; the last one is all seeds."""
        if self.pruner == "none":
            return (len(self.seeds),)
        powers = [2**k for k in range(len(self.seeds)) if 2**k < len(self.seeds)]
        return (*powers, len(self.seeds))

    def cells(self, values: Mapping[str, Any]) -> tuple[Cell, ...]:
        """Return the cells of a trial, one for each task. Raises InputError if its values contradict."""
        return tuple(
            resolve(
                self.system,
                task,
                preset=self.preset,
                overrides={**self.fixed, **values},
                steps=self.steps,
                evaluation=self.evaluation,
            )
            for task in self.tasks
        )

    def start(self) -> dict[str, Any] | None:
        """Return the preset's values of what is searched; None if they are no point of the space."""
        configs = [{name: cell.config[name] for name in self.space} for cell in self.base]
        inside = all(self.space[name].contains(value) for name, value in configs[0].items())
        return configs[0] if inside and all(config == configs[0] for config in configs) else None

    def to_json(self) -> dict[str, Any]:
        """Return what is declared, as the record of the tuning has it, without the number of trials."""
        tasks = [{"task": c.task, "preset": c.preset, "steps": c.steps} for c in self.base]
        return {
            "system": self.system,
            "tasks": tasks,
            "fixed": self.fixed,
            "evaluation": asdict(self.evaluation),
            "estimator": self.estimator,
            "seeds": list(self.seeds),
            "space": {name: parameter.to_json() for name, parameter in self.space.items()},
            "sampler": self.sampler,
            "sampler_seed": self.sampler_seed,
            "pruner": self.pruner,
            "round": self.round,
            "versions": self.base[0].versions,
        } | ({"algorithm_sha256": sha256} if (sha256 := self.base[0].algorithm_sha256) else {})


def declare(
    system: str,
    tasks: Sequence[str],
    *,
    space: spaces.Space | None = None,
    fixed: Mapping[str, Any] | None = None,
    preset: str | None = None,
    steps: int | None = None,
    evaluation: Evaluation | None = None,
    seeds: Sequence[int] = (1000, 1001, 1002),
    trials: int = 20,
    round: int = 4,
    sampler: str = SAMPLERS[0],
    sampler_seed: int = 0,
    pruner: str = PRUNERS[0],
    estimator: str = Declared().estimator,
) -> Tuning:
    """Return a tuning, checked; `Tuning` describes the arguments.

    Args:
        space: default: that of the system, without what is fixed.

    Raises:
        InputError: an invalid value, reporting seeds, a hyperparameter that is searched and fixed, or
            several tasks of which one has no normalised score.
    """
    system = own.name_of(system)
    fixed = dict(fixed or {})
    if double := next((task for task in tasks if list(tasks).count(task) > 1), None):
        raise InputError(f"{double} is listed twice")
    check_seeds(seeds)
    if min(seeds) < FIRST_TUNING_SEED:
        raise InputError(
            f"seeds: {min(seeds)} is a reporting seed: tune on seeds from {FIRST_TUNING_SEED} up, "
            "such as 1000-1002"
        )
    for name, value, most in (("trials", trials, MOST_TRIALS), ("round", round, 1_000)):
        if not 1 <= value <= most:
            raise InputError(f"{name} must be from 1 to {most:,}, not {value}")
    if not 0 <= sampler_seed < 2**32:
        raise InputError(f"sampler-seed must be from 0 to {2**32 - 1}, not {sampler_seed}")
    for kind, name, valid in (("sampler", sampler, SAMPLERS), ("pruner", pruner, PRUNERS)):
        if name not in valid:
            raise unknown(kind, name, valid)
    Declared(estimator)
    evaluation = evaluation or Evaluation()
    base = tuple(
        resolve(system, task, preset=preset, overrides=fixed, steps=steps, evaluation=evaluation)
        for task in tasks
    )
    if space is None:
        space = {name: found for name, found in spaces.default(system).items() if name not in fixed}
    if both := sorted(space.keys() & fixed.keys()):
        raise InputError(f"{both[0]} is in the space and in --set")
    names = tuple(cell.task for cell in base)
    for name in names if len(names) > 1 else ():
        spec = suites.TASKS[name]
        if spec.random_score is None or spec.reference_score is None:
            raise InputError(
                f"{name} has no normalised score, which tuning on several tasks takes: tune on it alone"
            )
    return Tuning(
        system=system,
        tasks=names,
        base=base,
        space=space,
        fixed=fixed,
        preset=preset,
        steps=steps,
        evaluation=evaluation,
        seeds=tuple(seeds),
        trials=trials,
        round=round,
        sampler=sampler,
        sampler_seed=sampler_seed,
        pruner=pruner,
        estimator=estimator,
    )


def default_name(tuning: Tuning) -> str:
    """Return the name of a tuning's folder: system and tasks."""
    return re.sub(r"[^A-Za-z0-9_.+-]", "-", f"{tuning.system}-{'+'.join(tuning.tasks)}")[:MOST_NAME]

"""What is run: a cell of the benchmark is (system, resolved config, task, step budget, evaluation protocol).

A run is a cell and a seed. A cell's digest names its folder: everything that may change a result goes in.
"""

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from gymnasium.spaces import Discrete
from pydantic import TypeAdapter, ValidationError

import runners
import suites
from algorithms import SYSTEMS, seedwise
from runners.errors import InputError, unknown

TUNING_SEEDS = 1000  # seeds from here up are for tuning; reports refuse to mix them with the others


@dataclass(frozen=True)
class Evaluation:
    """The protocol: `points` evaluations after step 0, evenly over the budget, `episodes` in each."""

    points: int = 50
    episodes: int = 10

    def grid(self, steps: int) -> list[int]:
        """The environment steps (per seed) at which to evaluate: 0 first, the budget last."""
        return sorted({steps * i // self.points for i in range(self.points + 1)})


@dataclass(frozen=True)
class Cell:
    """One cell of the benchmark, fully resolved: nothing in it is looked up later."""

    system: str
    algorithm: str
    preset: str
    config: dict[str, object]  # every hyper-parameter
    suite: str
    task: str
    steps: int  # environment steps per seed, over its E environments
    evaluation: Evaluation
    versions: dict[str, int]  # of the algorithm file, seedwise, the suite and the runner

    @property
    def digest(self) -> str:
        """Ten hex digits that change with anything that may change a result."""
        return sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:10]

    def folder(self, out: Path) -> Path:
        """Where the cell's runs live below `out`."""
        return out / self.suite / self.task / f"{self.system}-{self.preset}-{self.digest}"

    def label(self) -> str:
        """The cell in a line of text."""
        return f"{self.task} {self.system}-{self.preset}-{self.digest}"

    def to_json(self) -> dict:
        """The cell as JSON, with what a reader of its record wants to know about the task."""
        spec = suites.TASKS[self.task]
        facts = (
            "horizon",
            "random_score",
            "reference_score",
            "reference_source",
            "return_convention",
            "packages",
        )
        return {**asdict(self), "digest": self.digest, "spec": {name: getattr(spec, name) for name in facts}}

    @classmethod
    def from_json(cls, record: dict) -> "Cell":
        fields = {name: record[name] for name in cls.__dataclass_fields__}
        return cls(**{**fields, "evaluation": Evaluation(**record["evaluation"])})

    def make_agent(self, streams: seedwise.Streams, device: str) -> object:
        """The algorithm's Agent for this cell's task, with the seeds of `streams`."""
        spec, module = suites.TASKS[self.task], SYSTEMS[self.system].module()
        config = resolve_config(self.system, self.preset, self.config)
        return module.Agent(config, spec.observation_space, spec.action_space, streams, device)


def resolve(
    system: str,
    task: str,
    *,
    preset: str | None = None,
    overrides: dict[str, object] | None = None,
    steps: int | None = None,
    evaluation: Evaluation | None = None,
) -> Cell:
    """The cell that a user's words mean. Raises InputError, one line, if they mean none."""
    if system not in SYSTEMS:
        raise unknown("algorithm", system, SYSTEMS)
    if task not in suites.TASKS:
        raise unknown("task", task, suites.TASKS)
    spec, module = suites.TASKS[task], SYSTEMS[system].module()
    try:
        suites.check(task)
    except (OSError, ValueError) as error:  # a model file
        raise InputError(str(error)) from error
    try:
        spaces = spec.observation_space, spec.action_space
        module.Agent(module.Config(), *spaces, seedwise.Streams([0], "init"), "cpu")
    except ValueError as error:  # the algorithm cannot do this kind of task
        raise InputError(f"{task}: {error}") from error
    if preset is None:  # the suite's, or the one for its continuous actions where there is one
        preset = f"{spec.suite}-continuous"
        if isinstance(spec.action_space, Discrete) or preset not in module.PRESETS:
            preset = spec.suite
    config = resolve_config(system, preset, overrides or {})
    steps = spec.budget if steps is None else steps
    evaluation = evaluation or Evaluation()
    for name, number in (
        ("steps", steps),
        ("evaluations", evaluation.points),
        ("episodes", evaluation.episodes),
    ):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(f"{name}: {number!r} must be a whole number of at least 1")
    versions = {
        "algorithm": module.VERSION,
        "seedwise": seedwise.VERSION,
        "suite": suites.version(spec.suite),
        "runner": runners.VERSION,
    }
    plain = json.loads(json.dumps(asdict(config)))  # tuples become lists, as they will be when read back
    names = (system, SYSTEMS[system].algorithm, preset)
    return Cell(*names, plain, spec.suite, task, steps, evaluation, versions)


def resolve_config(system: str, preset: str, overrides: dict[str, object]) -> object:
    """A system's Config: the preset, what the system changes in it, then `overrides`; all values checked."""
    module = SYSTEMS[system].module()
    if preset not in module.PRESETS:
        raise unknown(f"preset of {system}", preset, module.PRESETS)
    values = asdict(module.PRESETS[preset]) | SYSTEMS[system].overrides
    for name in overrides:
        if name not in values:
            raise unknown(f"hyper-parameter of {system}", name, values)
    try:  # through JSON, whose strict rules take a list for a tuple and an integer for a float, but no "0.1"
        return TypeAdapter(module.Config).validate_json(json.dumps(values | overrides), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "config"
        message = first["msg"].removeprefix("Value error, ")
        where = "" if name == "config" else f"{name} = {first['input']!r}: "
        raise InputError(f"{system}: {where}{message}") from error

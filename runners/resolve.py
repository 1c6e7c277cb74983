"""Resolve a user's choices to a cell: check names and values, and fill in every hyperparameter."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from functools import cache, lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ascent import runners, suites
from ascent.algorithms import SYSTEMS, seedwise
from ascent.algorithms.seedwise import Agent, Replay, Rollout, WholeEpisodes
from ascent.records.cell import NOTED, Cell, Evaluation, weights
from ascent.records.errors import InputError, differences, unknown
from ascent.runners import environments, own, presets
from ascent.runners.experience import window
from ascent.runners.measures import check_requests

# What is promised of every algorithm of this project: results depend neither on packing nor on interruptions.
GUARANTEE = "twin"
MOST = 10**12  # steps, evaluations, episodes
BYTES_OF_A_WEIGHT = 16  # with its gradient and the two moments of Adam


def resolve(
    system: str,
    task: str,
    *,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    steps: int | None = None,
    evaluation: Evaluation | None = None,
    measures: Sequence[str] = (),
    environment: suites.Foreign | None = None,
) -> Cell:
    """Return the cell with these names and values.

    Args:
        system: a name in `SYSTEMS`, or an algorithm from outside the suite, see `own.py`.
        task: a name in `suites.TASKS`, or a foreign environment, see `environments.py`.
        preset: default: the system's default preset for the task's suite; or a file of `ascent tune`, such as
            "tuning/ppo-Pendulum-v1/preset.toml".
        overrides: hyperparameters that differ from the preset.
        steps: environment steps per seed; default: the task's budget.
        evaluation: default: the default protocol.
        measures: names in `REQUESTS` of what is also measured at evaluations.
        environment: declares the task, in place of what its name says.

    Raises:
        InputError: an unknown name, an invalid value, an algorithm that cannot learn the task or lacks a
            measure, a budget in which it never learns, or more evaluations than the budget has time steps.
    """
    system = own.name_of(system)
    if environment := environment or environments.declaration(task):
        task = environments.add(environment)
    check_names(system, task)
    spec = suites.TASKS[task]
    try:
        suites.check(task)
    except (OSError, ValueError) as error:  # a model file
        raise InputError(str(error)) from error
    overrides, found = overrides or {}, None
    if preset is not None and presets.is_file(preset):
        found = presets.read(Path(preset), system)
        preset, overrides = found.preset, {**found.settings, **overrides}
    if preset is None:
        preset = default_preset(system, spec)
    config = resolve_config(system, preset, task, overrides)
    if steps is None and not spec.budget:
        raise InputError(f"{task} has no default budget: say how many steps, such as --steps 100000")
    steps = spec.budget if steps is None else steps
    evaluation = evaluation or Evaluation()
    for name, number in (
        ("steps", steps),
        ("evaluations", evaluation.points),
        ("episodes", evaluation.episodes),
    ):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(f"{name} must be a whole number of at least 1, not {number!r}")
        if number > MOST:
            raise InputError(f"{name} must be at most {MOST:,}")
    experience = _experience(system, task, config)
    if SYSTEMS[system].own:
        own.try_out(system, spec, config)
    _check_budget(system, experience, spec, steps)
    _check_evaluations(experience.envs, steps, evaluation)
    check_requests(system, measures)
    return Cell(
        system=system,
        algorithm=SYSTEMS[system].algorithm,
        preset=preset,
        config=plain(config),
        suite=spec.suite,
        task=task,
        steps=steps,
        evaluation=evaluation,
        versions=versions(system, spec.suite),
        settings=changes(plain(config), plain(SYSTEMS[system].module().Config())),
        measures=tuple(measures),
        environment=environment.to_json() if environment else None,
        tuned=found.tuned if found else None,
        algorithm_sha256=SYSTEMS[system].sha256,
        algorithm_file=SYSTEMS[system].file,
    )


def default_preset(system: str, spec: suites.Spec) -> str:
    """Return the name of a system's preset for a task; for a foreign one, that of the suite most like it."""
    suite = spec.suite
    if suite in suites.FOREIGN:
        suite = "particle" if spec.team else "classic" if spec.bounds is None else "mujoco"
    return SYSTEMS[system].default_preset(suite)


def check_names(system: str, task: str) -> None:
    """Raise InputError unless the system and the task exist and the system can be trained on the task."""
    if system not in SYSTEMS:
        raise unknown("algorithm", system, SYSTEMS)
    if task not in suites.TASKS:
        raise unknown("task", task, environments.valid_names())
    if objection := _objection(system, task, SYSTEMS[system].sha256):
        if SYSTEMS[system].own:
            raise InputError(f"{task}: {objection}")
        able = [name for name in SYSTEMS if not _objection(name, task, SYSTEMS[name].sha256)]
        raise InputError(f"{task}: {objection}; supported algorithms: {', '.join(able)}")


def learnable(system: str) -> list[suites.Spec]:
    """Return the tasks that a system can be trained on."""
    return [
        spec for task, spec in suites.TASKS.items() if not _objection(system, task, SYSTEMS[system].sha256)
    ]


@cache  # a sweep may have thousands of cells of few systems and tasks
def _objection(system: str, task: str, sha256: str) -> str | None:
    """Return why the system cannot be trained on this kind of task; None if it can.

    `sha256` is the digest of its file: one from outside the suite may change between two calls.
    """
    spec = suites.TASKS[task]
    module = SYSTEMS[system].module()
    multi_agent = getattr(module, "TEAM", False)
    if multi_agent != bool(spec.team):
        return f"{system} needs a {'multi-agent task' if multi_agent else 'single-agent task'}"
    try:
        streams = seedwise.Streams([0], "init")
        module.Agent(module.Config(), spec.observation_space, spec.action_space, streams, "cpu")
    except ValueError as error:
        return str(error)
    except Exception as error:
        if SYSTEMS[system].own:
            return own.fault(error, system)
        raise
    return None


@lru_cache(maxsize=1024)
def _experience(system: str, task: str, config: Any) -> Rollout | WholeEpisodes | Replay:
    """Return the experience that the system's agent asks for."""
    spec = suites.TASKS[task]
    streams = seedwise.Streams([0], "init")
    try:
        agent: Agent = (
            SYSTEMS[system].module().Agent(config, spec.observation_space, spec.action_space, streams, "cpu")
        )
    except ValueError as error:
        raise InputError(f"{task}: {error}") from error
    except Exception as error:
        if SYSTEMS[system].own:
            raise InputError(own.fault(error, system)) from error
        raise
    return agent.experience


def first_update(experience: Rollout | WholeEpisodes | Replay, spec: suites.Spec) -> int:
    """Return the environment step after which the first update comes."""
    x = experience
    if isinstance(x, Replay):  # due at the first step of all environments at or after a multiple of `every`
        due = (-(-number * x.every // x.envs) * x.envs for number in count(x.starts // x.every))
        return next(step for step in due if step >= max(x.starts, x.envs))
    return window(x, spec) * x.envs


def _check_budget(
    system: str, experience: Rollout | WholeEpisodes | Replay, spec: suites.Spec, steps: int
) -> None:
    """Raise InputError if the system would never learn, or only after the last step."""
    first = first_update(experience, spec)
    never = first > -(-steps // experience.envs) * experience.envs
    if isinstance(experience, Replay):
        reason = f"learning starts after {experience.starts:,}"
        never |= experience.starts >= steps
        first = max(first, experience.starts + 1)
    else:
        reason = f"a window has {first // experience.envs:,} in each of {experience.envs} environments"
    if never:
        raise InputError(
            f"steps: {steps:,} are too few for {system} to learn: {reason}: choose at least {first:,}"
        )


def _check_evaluations(envs: int, steps: int, evaluation: Evaluation) -> None:
    """Raise InputError if two points of the evaluation grid fall into the same step of all environments."""
    points, decisions = evaluation.points, -(-steps // envs)
    if points > decisions or len({-(-point // envs) for point in evaluation.grid(steps)}) <= points:
        raise InputError(
            f"evaluations: {points:,} are more than {steps:,} steps of {envs} environments can hold: "
            f"choose at most {max(1, steps // envs):,}"
        )


def preset_config(system: str, preset: str, task: str) -> Any:
    """Return the Config that a preset has for a task.

    Raises:
        InputError: an unknown preset, or a preset without settings for the task.
    """
    presets = SYSTEMS[system].module().PRESETS
    if preset not in presets:
        raise unknown(f"preset of {system}", preset, presets)
    settings = presets[preset]
    if not isinstance(settings, Mapping):
        return settings
    spec = suites.TASKS[task]
    kinds = ["openai"] if task.endswith("-openai") else []
    kinds += ["continuous" if spec.choices is None else "discrete", "default"]
    for key in (task, *kinds):
        if key in settings:
            return settings[key]
    raise InputError(
        f"preset {preset!r} of {system} has no settings for {task}; it has: {', '.join(settings)}"
    )


_adapter = cache(TypeAdapter)  # making one takes milliseconds


def resolve_config(system: str, preset: str, task: str, overrides: dict[str, Any]) -> Any:
    """Return a system's Config: the preset, the system's own overrides, then `overrides`; all values checked.

    Raises:
        InputError: an unknown preset or hyperparameter, or an invalid value.
    """
    values = asdict(preset_config(system, preset, task)) | SYSTEMS[system].overrides
    return _checked(system, values | overrides)


def _checked(system: str, values: dict[str, Any]) -> Any:
    """Return a system's Config with these values, all checked; what is not among them has its default."""
    config: Any = SYSTEMS[system].module().Config
    names = [field.name for field in fields(config)]
    for name in values:
        if name not in names:
            raise unknown(f"hyperparameter of {system}", name, names)
    try:  # by way of JSON, whose strict rules accept a list for a tuple and an int for a float, but no "0.1"
        checked = _adapter(config).validate_json(json.dumps(values, default=str), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "config"
        message = first["msg"].removeprefix("Value error, ")
        where = "" if name == "config" else f"{name} = {first['input']!r}: "
        raise InputError(f"{system}: {where}{message}") from error
    for name, number in weights(vars(checked)).items():
        size = BYTES_OF_A_WEIGHT * number / 2**30
        if size > (most := os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30):
            sizes = f"its weights take {size:,.0f} GiB, and this machine has {most:,.0f}"
            raise InputError(f"{system}: {name} = {list(getattr(checked, name))}: {sizes}")
    return checked


def plain(config: Any) -> dict[str, Any]:
    """Return a Config as it is read back from JSON: tuples are lists."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return values


def changes(config: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the hyperparameters in which `config` differs from `base`."""
    return {name: value for name, value in config.items() if value != base[name]}


def versions(system: str, suite: str) -> dict[str, int]:
    """Return the version numbers that identify the results of the installed code."""
    return {
        "algorithm": SYSTEMS[system].module().VERSION,
        "seedwise": seedwise.VERSION,
        "suite": suites.version(suite),
        "runner": runners.VERSION,
    }


def check_versions(cell: Cell) -> None:
    """Raise InputError for a cell whose versions differ from those of the installed code."""
    own.admit(cell)
    installed = versions(cell.system, cell.suite)
    if cell.versions != installed:
        raise InputError(
            f"{cell.label()} was planned with other versions ({differences(cell.versions, installed)}): "
            "run `ascent plan` again"
        )


def cell_config(cell: Cell) -> Any:
    """Return the Config that a cell describes. What its record does not know has its default.

    Raises:
        InputError: `config`, which is for the reader, is not what `settings` and the defaults give.
    """
    config = _checked(cell.system, cell.config if cell.settings is None else cell.settings)
    expected = plain(config)
    known = {name: expected.get(name, "absent") for name in cell.config}
    if known != cell.config:
        raise InputError(
            f"{cell.label()}: config is not what its settings give: {differences(cell.config, known)}"
        )
    return config


def make_agent(cell: Cell, streams: seedwise.Streams, device: str) -> Agent:
    """Return the algorithm's Agent for the cell's task, with the seeds of `streams`."""
    spec = suites.TASKS[cell.task]
    config = cell_config(cell)
    agent: Agent = (
        SYSTEMS[cell.system]
        .module()
        .Agent(config, spec.observation_space, spec.action_space, streams, device)
    )
    return agent


def describe(cell: Cell) -> dict[str, Any]:
    """Return the content of cell.json: the cell, facts about its task, the overrides of its preset, and where
    the preset is from.
    """
    preset = plain(resolve_config(cell.system, cell.preset, cell.task, {}))
    facts = {**cell.to_json(), "digest": cell.digest, "spec": suites.TASKS[cell.task].facts()}
    for name in NOTED:
        facts.pop(name, None)
    algorithm = "untested" if cell.algorithm_sha256 else GUARANTEE
    facts["guarantees"] = {"task": suites.guarantee(cell.task), "algorithm": algorithm}
    if changed := changes(cell.config, preset):
        facts["changed"] = changed
    if source := presets.summary(cell.algorithm, cell.preset):
        facts["source"] = source
    return facts

"""Resolve a user's choices to a cell: check names and values, and fill in every hyperparameter."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import cache
from typing import Any

from pydantic import TypeAdapter, ValidationError

from ascent import runners, suites
from ascent.algorithms import SYSTEMS, System, seedwise
from ascent.algorithms.seedwise import Agent
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError, differences, unknown


def resolve(
    system: str,
    task: str,
    *,
    preset: str | None = None,
    overrides: dict[str, Any] | None = None,
    steps: int | None = None,
    evaluation: Evaluation | None = None,
) -> Cell:
    """Return the cell with these names and values.

    Args:
        system: a name in `SYSTEMS`.
        task: a name in `suites.TASKS`.
        preset: default: the preset for the task's suite.
        overrides: hyperparameters that differ from the preset.
        steps: environment steps per seed; default: the task's budget.
        evaluation: default: the default protocol.

    Raises:
        InputError: an unknown name, an invalid value, or an algorithm that cannot learn the task.
    """
    if system not in SYSTEMS:
        raise unknown("algorithm", system, SYSTEMS)
    if task not in suites.TASKS:
        raise unknown("task", task, suites.TASKS)
    spec = suites.TASKS[task]
    try:
        suites.check(task)
    except (OSError, ValueError) as error:  # a model file
        raise InputError(str(error)) from error
    if objection := _objection(system, task):
        able = [name for name in SYSTEMS if not _objection(name, task)]
        raise InputError(f"{task}: {objection}; supported algorithms: {', '.join(able)}")
    if preset is None:
        preset = _default_preset(spec, SYSTEMS[system])
    config = resolve_config(system, preset, task, overrides or {})
    steps = spec.budget if steps is None else steps
    evaluation = evaluation or Evaluation()
    for name, number in (
        ("steps", steps),
        ("evaluations", evaluation.points),
        ("episodes", evaluation.episodes),
    ):
        if not isinstance(number, int) or isinstance(number, bool) or number < 1:
            raise InputError(f"{name} must be a whole number of at least 1, not {number!r}")
    return Cell(
        system=system,
        algorithm=SYSTEMS[system].algorithm,
        preset=preset,
        config=_plain(config),
        suite=spec.suite,
        task=task,
        steps=steps,
        evaluation=evaluation,
        versions=versions(system, spec.suite),
    )


@cache  # a sweep may have thousands of cells of few systems and tasks
def _objection(system: str, task: str) -> str | None:
    """Return why the system cannot be trained on this kind of task; None if it can."""
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
    return None


def _default_preset(spec: suites.Spec, system: System) -> str:
    """Return the name of the suite's preset."""
    module = system.module()
    if hasattr(module, "DEFAULTS"):
        return system.default_preset(spec.suite)
    kinds = []  # TODO remove when every file has DEFAULTS
    if spec.id.endswith("-openai"):
        kinds.append("openai")
    if spec.choices is None:
        kinds.append("continuous")
    names = (f"{spec.suite}-{kind}" for kind in kinds)
    return next((name for name in names if name in module.PRESETS), spec.suite)


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
    module = SYSTEMS[system].module()
    values = asdict(preset_config(system, preset, task)) | SYSTEMS[system].overrides
    for name in overrides:
        if name not in values:
            raise unknown(f"hyperparameter of {system}", name, values)
    try:  # by way of JSON, whose strict rules accept a list for a tuple and an int for a float, but no "0.1"
        return _adapter(module.Config).validate_json(json.dumps(values | overrides), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "config"
        message = first["msg"].removeprefix("Value error, ")
        where = "" if name == "config" else f"{name} = {first['input']!r}: "
        raise InputError(f"{system}: {where}{message}") from error


def _plain(config: Any) -> dict[str, Any]:
    """Return a Config as it is read back from JSON: tuples are lists."""
    plain: dict[str, Any] = json.loads(json.dumps(asdict(config)))
    return plain


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
    installed = versions(cell.system, cell.suite)
    if cell.versions != installed:
        raise InputError(
            f"{cell.label()} was planned with other versions ({differences(cell.versions, installed)}): "
            "run `ascent plan` again"
        )


def make_agent(cell: Cell, streams: seedwise.Streams, device: str) -> Agent:
    """Return the algorithm's Agent for the cell's task, with the seeds of `streams`."""
    spec = suites.TASKS[cell.task]
    config = resolve_config(cell.system, cell.preset, cell.task, cell.config)
    agent: Agent = (
        SYSTEMS[cell.system]
        .module()
        .Agent(config, spec.observation_space, spec.action_space, streams, device)
    )
    return agent


def describe(cell: Cell) -> dict[str, Any]:
    """Return the content of cell.json: the cell, facts about its task, and the overrides of its preset."""
    preset = _plain(resolve_config(cell.system, cell.preset, cell.task, {}))
    changed = {name: value for name, value in cell.config.items() if value != preset[name]}
    facts = {**asdict(cell), "digest": cell.digest, "spec": suites.TASKS[cell.task].facts()}
    return facts | ({"changed": changed} if changed else {})

"""From a user's words to a cell: names and values checked, every hyper-parameter filled in."""

import json
from collections.abc import Container
from dataclasses import asdict
from functools import cache

from pydantic import TypeAdapter, ValidationError

from ascent import runners, suites
from ascent.algorithms import SYSTEMS, seedwise
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError, unknown


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
    if objection := _objection(system, task):
        able = [name for name in SYSTEMS if not _objection(name, task)]
        raise InputError(f"{task}: {objection}; those that can do it: {', '.join(able)}")
    if preset is None:
        preset = _default_preset(spec, module.PRESETS)
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
    plain = json.loads(json.dumps(asdict(config)))  # tuples become lists, as they will be when read back
    names = (system, SYSTEMS[system].algorithm, preset)
    return Cell(*names, plain, spec.suite, task, steps, evaluation, versions(system, spec.suite))


@cache  # a sweep may have thousands of cells of few systems and tasks
def _objection(system: str, task: str) -> str | None:
    """Why the system cannot be trained on this kind of task, if it cannot."""
    spec, module = suites.TASKS[task], SYSTEMS[system].module()
    team = getattr(module, "TEAM", False)
    if team != bool(spec.team):
        return f"{system} needs a {'team of agents' if team else 'task of one agent'}"
    try:
        spaces = spec.observation_space, spec.action_space
        module.Agent(module.Config(), *spaces, seedwise.Streams([0], "init"), "cpu")
    except ValueError as error:
        return str(error)
    return None


def _default_preset(spec: suites.Spec, presets: Container[str]) -> str:
    """The suite's, or the one for this kind of its tasks where there is one."""
    kinds = ["openai"] * spec.id.endswith("-openai") + ["continuous"] * (spec.choices is None)
    names = (f"{spec.suite}-{kind}" for kind in kinds)
    return next((name for name in names if name in presets), spec.suite)


_adapter = cache(TypeAdapter)  # making one takes milliseconds


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
        return _adapter(module.Config).validate_json(json.dumps(values | overrides), strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"]) or "config"
        message = first["msg"].removeprefix("Value error, ")
        where = "" if name == "config" else f"{name} = {first['input']!r}: "
        raise InputError(f"{system}: {where}{message}") from error


def versions(system: str, suite: str) -> dict[str, int]:
    """The numbers that say which results the code at hand gives."""
    return {
        "algorithm": SYSTEMS[system].module().VERSION,
        "seedwise": seedwise.VERSION,
        "suite": suites.version(suite),
        "runner": runners.VERSION,
    }


def check_versions(cell: Cell) -> None:
    """Raises InputError for a cell that was resolved by code that gives other results than the code here."""
    there = versions(cell.system, cell.suite)
    if cell.versions != there:
        raise InputError(
            f"{cell.label()} was planned with versions {cell.versions}; these are {there}: plan again"
        )


def make_agent(cell: Cell, streams: seedwise.Streams, device: str) -> object:
    """The algorithm's Agent for the cell's task, with the seeds of `streams`."""
    spec, module = suites.TASKS[cell.task], SYSTEMS[cell.system].module()
    config = resolve_config(cell.system, cell.preset, cell.config)
    return module.Agent(config, spec.observation_space, spec.action_space, streams, device)


def describe(cell: Cell) -> dict:
    """The cell as its record keeps it, with what a reader wants to know: about the task, and which
    hyper-parameters are not its preset's.
    """
    preset = json.loads(json.dumps(asdict(resolve_config(cell.system, cell.preset, {}))))
    changed = {name: value for name, value in cell.config.items() if value != preset[name]}
    facts = {**asdict(cell), "digest": cell.digest, "spec": suites.TASKS[cell.task].facts()}
    return facts | ({"changed": changed} if changed else {})

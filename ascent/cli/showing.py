"""The hyperparameters of a system's presets, for `ascent show`: values, meanings and sources."""

import ast
import io
import json
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.records.errors import InputError
from ascent.runners import own, presets, resolve

BY_TASK = "by task"


@dataclass(frozen=True)
class Variant:
    """The hyperparameters that a preset has for some tasks."""

    tasks: list[str]
    values: Mapping[str, Any]


def show(system: str, preset: str | None, task: str | None) -> Iterator[RenderableType]:
    """Yield the hyperparameters of a preset, or of the default presets, and where they come from.

    Raises:
        InputError: an unknown name, or a preset without settings for the task.
    """
    system = own.name_of(system)
    chosen = choose(system, preset, task)
    for name, tasks in chosen.items():
        yield Text(f"{system}, preset {name}, for {described(system, tasks)}", "bold")
        variants = variants_of(system, name, tasks)
        yield _table(system, variants)
        if len(variants) > 1:
            yield ""
            yield _by_task(system, variants)
        yield from _source(system, name)
        yield ""
    yield Text("default: the algorithm's own value, where the preset has another")
    others = ", ".join(name for name in SYSTEMS[system].module().PRESETS if name not in chosen)
    yield Text(f"other presets of {system}: {others or 'none'}")


def compare(system: str, preset: str | None, against: str, task: str | None) -> Iterator[RenderableType]:
    """Yield the hyperparameters in which a preset, or each default preset, differs from another one.

    Raises:
        InputError: as `show`, or no task has settings in both presets.
    """
    system = own.name_of(system)
    (_, possible), *_ = choose(system, against, task).items()
    shared = {
        name: both
        for name, tasks in choose(system, preset, task).items()
        if (both := [task for task in tasks if task in possible])
    }
    if not shared:
        raise InputError(f"no task has settings in both presets: {preset or 'the default'} and {against}")
    for name, tasks in shared.items():
        groups: dict[str, tuple[list[str], dict[str, tuple[Any, Any]]]] = {}
        for here in tasks:
            one, other = _values(system, name, here), _values(system, against, here)
            pairs = {key: (one[key], other[key]) for key in one if one[key] != other[key]}
            groups.setdefault(json.dumps(pairs), ([], pairs))[0].append(here)
        for of_group, pairs in groups.values():
            yield Text(f"{system}, {name} against {against}, for {described(system, of_group)}", "bold")
            table = Table("hyperparameter", name, against, "meaning", box=None, pad_edge=False)
            for key, (value, other_value) in pairs.items():
                texts = (key, _text(value), _text(other_value), meanings(system)[key])
                table.add_row(*map(Text, texts))
            yield table if pairs else Text("the same hyperparameters")
            yield ""


def choose(system: str, preset: str | None, task: str | None) -> dict[str, list[str]]:
    """Return the presets to show, with their tasks: the named or the default ones, for one or all tasks.

    Raises:
        InputError: an unknown name, or a preset without settings for the task.
    """
    if task is not None:
        resolve.check_names(system, task)
    tasks = [suites.TASKS[task]] if task else resolve.learnable(system)
    if preset is None:
        chosen: dict[str, list[str]] = {}
        for spec in tasks:
            chosen.setdefault(resolve.default_preset(system, spec), []).append(spec.id)
        return chosen
    having, problem = [], None
    for spec in tasks:
        try:
            resolve.preset_config(system, preset, spec.id)
            having.append(spec.id)
        except InputError as error:
            problem = error
    if problem and not having:
        raise problem
    return {preset: having}


def variants_of(system: str, preset: str, tasks: Sequence[str]) -> list[Variant]:
    """Return the different hyperparameters that a preset has for these tasks."""
    variants: dict[str, Variant] = {}
    for task in tasks:
        values = _values(system, preset, task)
        variants.setdefault(json.dumps(values), Variant([], values)).tasks.append(task)
    return list(variants.values())


def _values(system: str, preset: str, task: str) -> dict[str, Any]:
    return asdict(resolve.resolve_config(system, preset, task, {}))


def _table(system: str, variants: Sequence[Variant]) -> Table:
    """Return a row for each hyperparameter."""
    default = asdict(SYSTEMS[system].module().Config())
    table = Table("hyperparameter", "value", "default", "meaning", box=None, pad_edge=False)
    for name in default:
        values = [variant.values[name] for variant in variants]
        value = BY_TASK if name in _varying(variants) else _text(values[0])
        usual = "" if all(value == default[name] for value in values) else _text(default[name])
        table.add_row(*map(Text, (name, value, usual, meanings(system).get(name, ""))))
    return table


def _by_task(system: str, variants: Sequence[Variant]) -> Table:
    """Return a row for each variant: what depends on the task, where it is not the algorithm's default."""
    default = asdict(SYSTEMS[system].module().Config())
    table = Table("tasks", "by task, where not the default", box=None, pad_edge=False, padding=(0, 1, 1, 0))
    for variant in variants:
        changed = [name for name in _varying(variants) if variant.values[name] != default[name]]
        values = ", ".join(f"{name}={_text(variant.values[name])}" for name in changed)
        table.add_row(Text(described(system, variant.tasks)), Text(values or "the defaults"))
    return table


def _varying(variants: Sequence[Variant]) -> list[str]:
    first = variants[0].values
    return [name for name in first if any(variant.values[name] != first[name] for variant in variants)]


def _source(system: str, preset: str) -> Iterator[RenderableType]:
    """Yield where a preset comes from, and what stays different from its source."""
    entry = presets.sources(SYSTEMS[system].algorithm).get(preset, {})
    for key in ("searched", "origin"):
        if key in entry:
            yield Text(f"{key}: {entry[key]}")
    if "title" in entry:
        place = f", {entry['repository']}" if "repository" in entry else ""
        commit = f" at {entry['commit'][:12]}" if "commit" in entry else ""
        yield Text(f"source: {entry['title']}{place}{commit}")
        yield from (Padding(Text(file), (0, 0, 0, 2), expand=False) for file in entry.get("files", ()))
    if entry.get("differs"):
        yield Text("what differs from the source:")
        yield from (Padding(Text(f"- {line}"), (0, 0, 0, 2), expand=False) for line in entry["differs"])
    overrides = SYSTEMS[system].overrides
    if overrides:
        given = ", ".join(f"{name}={_text(value)}" for name, value in overrides.items())
        yield Text(f"{system} sets in every preset: {given}")


def described(system: str, tasks: Sequence[str]) -> str:
    """Return the names of tasks; a suite's name for all of its tasks that the system can learn."""
    names = []
    for suite in suites.SUITES:
        able = [spec.id for spec in resolve.learnable(system) if spec.suite == suite]
        here = [task for task in tasks if task in able]
        names += [f"suite {suite}"] if len(here) == len(able) > 1 else here
    return ", ".join(names)


def meanings(system: str) -> dict[str, str]:
    """Return the meaning of each hyperparameter of a system: the comment after it in the algorithm's file."""
    content = own.content(system) or (presets.FOLDER.parent / f"{SYSTEMS[system].algorithm}.py").read_bytes()
    return _comments(content.decode("utf-8-sig", errors="replace"))


@cache
def _comments(text: str) -> dict[str, str]:
    """Return the comment on the line of each field of the class `Config` in the text of a module."""
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    comments = {
        token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT
    }
    classes = [node for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    fields = [
        node
        for each in classes
        if each.name == "Config"
        for node in each.body
        if isinstance(node, ast.AnnAssign)
    ]
    return {
        ast.unparse(field.target): next(
            (comments[line] for line in range(field.lineno, (field.end_lineno or 0) + 1) if line in comments),
            "",
        )
        for field in fields
    }


def _text(value: object) -> str:
    """Return a value as `ascent train --set` takes it."""
    return value if isinstance(value, str) else json.dumps(value)

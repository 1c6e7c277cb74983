"""Parts of the page of an algorithm: its systems, departures from the paper, presets and results."""

import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ascent.algorithms import SYSTEMS
from ascent.cli.showing import Variant, choose, described, meanings, variants_of
from ascent.records.errors import InputError
from ascent.runners import presets
from docs.generators import results
from docs.generators.tables import code, table

NAMES = tuple(dict.fromkeys(system.algorithm for system in SYSTEMS.values()))
BY_TASK = "by task"


def systems_of(algorithm: str) -> list[str]:
    """Return the names of the systems that an algorithm file implements."""
    return [name for name, system in SYSTEMS.items() if system.algorithm == algorithm]


def index() -> str:
    """Return the page that lists the algorithms."""
    rows = [
        (f"[{code(name)}]({system.algorithm}.md)", system.about, _defaults(name))
        for name, system in SYSTEMS.items()
    ]
    return (
        "# Algorithms\n\n"
        "A *system* is an algorithm with the settings that make it what its name says; a *preset* holds the"
        " hyperparameters of one source. Every file reads like its paper.\n\n"
        + table(("system", "what it is", "default presets"), rows)
        + "\nHow to add one: [algorithms/README.md](../reference/algorithms.md).\n"
    )


def _defaults(system: str) -> str:
    """Return the default preset by suite: "classic: zoo; mujoco: code"."""
    return "; ".join(
        f"{described(system, tasks).replace('suite ', '')}: {code(preset)}"
        for preset, tasks in choose(system, None, None).items()
    )


def default_page(algorithm: str) -> str:
    """Return the page of an algorithm for which none is written: the text at the top of its file."""
    text = inspect.getdoc(SYSTEMS[systems_of(algorithm)[0]].module()) or algorithm
    title, _, rest = text.partition("\n")
    what = rest.partition("\nDepartures")[0].strip("\n")
    parts = "".join(f"\n<!-- generated: {name} -->\n" for name in PARTS)
    return f"# {title.rstrip('.')}\n\n```\n{what}\n```\n{parts}"


def facts(algorithm: str) -> str:
    """Return a table of the algorithm's systems."""
    rows = [
        (
            code(name),
            SYSTEMS[name].about,
            ", ".join(code(f"{key}={json.dumps(value)}") for key, value in SYSTEMS[name].overrides.items()),
            _defaults(name),
            code(f"ascent train {name} {next(iter(choose(name, None, None).values()))[0]}"),
        )
        for name in systems_of(algorithm)
    ]
    heads = ("system", "what it is", "sets", "default presets", "try it")
    return f"`algorithms/{algorithm}.py`, version {_version(algorithm)}.\n\n{table(heads, rows)}"


def _version(algorithm: str) -> int:
    return SYSTEMS[systems_of(algorithm)[0]].module().VERSION


def departures(algorithm: str) -> str:
    """Return the tables of departures in the text at the top of the algorithm's file."""
    text = inspect.getdoc(SYSTEMS[systems_of(algorithm)[0]].module()) or ""
    lines, inside = [], False
    for line in text.partition("\nDepartures")[2].splitlines():
        inside = line.startswith("|")
        if inside:
            lines.append(line.replace("-|A|/2", "-\\|A\\|/2"))
    return "\n".join(lines) + "\n"


def all_presets(algorithm: str) -> str:
    """Return the presets side by side, what depends on the task, and where each preset comes from."""
    system = systems_of(algorithm)[0]
    default = asdict(SYSTEMS[system].module().Config())
    variants = {name: _variants(system, name) for name in SYSTEMS[system].module().PRESETS}
    variants = {name: found for name, found in variants.items() if found}
    rows = [
        [
            code(key),
            *(_value(found, key, usual) for found in variants.values()),
            meanings(system).get(key, ""),
        ]
        for key, usual in default.items()
    ]
    parts = [
        f"**Bold**: not the default of the file. `ascent show {system}` prints the same for one task.\n",
        table(("hyperparameter", *variants, "meaning"), rows),
        *(_by_task(system, name, found, default) for name, found in variants.items() if len(found) > 1),
        *(_source(algorithm, name) for name in variants),
    ]
    return "\n".join(parts)


def _variants(system: str, preset: str) -> list[Variant]:
    try:
        (tasks,) = choose(system, preset, None).values()
    except InputError:  # no task of the suites has settings in it
        return []
    return variants_of(system, preset, tasks)


def _value(found: Sequence[Variant], key: str, usual: object) -> str:
    values = [variant.values[key] for variant in found]
    if any(value != values[0] for value in values):
        return BY_TASK
    return _text(values[0]) if values[0] == usual else f"**{_text(values[0])}**"


def _by_task(system: str, preset: str, found: Sequence[Variant], default: Mapping[str, Any]) -> str:
    """Return a table of what a preset sets by task."""
    varying = [key for key in default if any(each.values[key] != found[0].values[key] for each in found)]
    rows = [[described(system, each.tasks), *(_text(each.values[key]) for key in varying)] for each in found]
    return f'??? note "`{preset}` by task"\n\n' + _indented(table(("tasks", *map(code, varying)), rows))


def _source(algorithm: str, preset: str) -> str:
    """Return where a preset comes from and what stays different, folded."""
    entry = presets.sources(algorithm).get(preset, {})
    lines = [f"{key}: {entry[key]}\n" for key in ("searched", "origin") if key in entry]
    if "title" in entry:
        place = f", {code(entry['repository'])}" if "repository" in entry else ""
        commit = f" at {code(entry['commit'][:12])}" if "commit" in entry else ""
        files = f": {', '.join(map(code, entry['files']))}" if entry.get("files") else ""
        lines.append(f"{entry['title']}{place}{commit}{files}\n")
    if entry.get("differs"):
        lines += ["What differs from the source:\n", *(f"- {each}" for each in entry["differs"])]
    return f'??? note "Where `{preset}` comes from"\n\n' + _indented("\n".join(lines)) + "\n"


def _indented(text: str) -> str:
    return "".join(f"    {line}\n" if line else "\n" for line in text.splitlines())


def _text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def scores(algorithm: str) -> str:
    """Return the learning curves, scores and verdicts on the shelf."""
    systems = systems_of(algorithm)
    found = results.scores(lambda _, system: system in systems)
    if not found:
        return "No cell of it is on the [leaderboard](../results/leaderboard.md) yet.\n"
    return (
        f"![Learning curves of {algorithm}: every seed, and their mean](figures/{algorithm}.svg)\n\n"
        "Greedy evaluation returns over training steps; thin lines are seeds, thick lines means."
        " Scores are means over the last ten evaluations and ten seeds, from the"
        f" [leaderboard](../results/leaderboard.md).\n\n{found}\n"
        f"**Against published scores**\n\n{results.verdicts_of(systems)}"
    )


PARTS = {"facts": facts, "departures": departures, "presets": all_presets, "results": scores}

"""Which systems of a report are shown, in which order, and by which names."""

import re
from collections.abc import Mapping, Sequence

from ascent.records.errors import InputError, unknown
from ascent.reports.statistics.aggregate import Task

# Labels of systems may have commas and equals signs in parentheses: "rpc (code with rate=3.0, delay=2)".
_COMMA = re.compile(r",(?![^()]*\))")
_EQUALS = re.compile(r"=(?![^()]*\))")
_VERSION = re.compile(r"[-_]v\d+(?=-|$)")


def parse_systems(text: str) -> list[str]:
    """Return the names in a text such as "sac,ppo (zoo)"."""
    return [name.strip() for name in _COMMA.split(text) if name.strip()]


def parse_labels(text: str) -> dict[str, str]:
    """Return system -> name in a text such as "ppo=PPO,sac=SAC (ours)".

    Raises:
        InputError: a part is not SYSTEM=NAME.
    """
    labels = {}
    for part in parse_systems(text):
        system, *name = (side.strip() for side in _EQUALS.split(part, maxsplit=1))
        if not name or not name[0]:
            raise InputError(f"--labels: {part!r} is not SYSTEM=NAME, such as sac=SAC")
        labels[system] = name[0]
    return labels


def choose(tasks: Sequence[Task], systems: Sequence[str] | None, labels: Mapping[str, str]) -> dict[str, str]:
    """Return system -> shown name, in the order in which they are shown.

    Args:
        tasks: of the report.
        systems: labels of systems in the report (default: all, sorted).
        labels: the names to show instead.

    Raises:
        InputError: an unknown system, or two systems would have one name.
    """
    known = sorted({cell.label for task in tasks for cell in task.cells})
    for name in [*(systems or ()), *labels]:
        if name not in known:
            raise unknown("system", name, known)
    chosen = list(systems or known)
    for name in labels:
        if name not in chosen:
            raise InputError(f"{name} has a label, but is not among the chosen: {', '.join(chosen)}")
    names = {system: labels.get(system, system) for system in chosen}
    twice = [system for system in chosen if chosen.count(system) > 1]
    shown = list(names.values())
    twice += [name for name in shown if shown.count(name) > 1]
    if twice:
        raise InputError(f"two systems are named {twice[0]!r}")
    return names


def task_names(tasks: Sequence[Task]) -> dict[tuple[str, str], str]:
    """Return (suite, task) -> its name without the version where that is clear, else with it.

    Tasks of two suites that share a name are preceded by the suite.
    """
    short = {(task.suite, task.name): task.given or _VERSION.sub("", task.name) for task in tasks}
    names = {key: name if _unique(name, short) else key[1] for key, name in short.items()}
    return {key: name if _unique(name, names) else "/".join(key) for key, name in names.items()}


def _unique(name: str, names: Mapping[tuple[str, str], str]) -> bool:
    return list(names.values()).count(name) == 1

"""Bibliography: the BibTeX entries that a report or a citation uses, from the files in `references/`."""

import re
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from ascent.reports.statistics.aggregate import Task
from ascent.reports.statistics.published import FOLDER, algorithm_of, sources, split_version
from ascent.reports.statistics.verdicts import Verdict

SUITE = "ascent"  # key of this suite
SENSITIVITY = "adkins2024method"
ALGORITHMS = {
    "reinforce": ("williams1992simple", "sutton2018reinforcement"),
    "vpg": ("sutton2000policy", "schulman2016high"),
    "a2c": ("mnih2016asynchronous",),
    "a3c": ("mnih2016asynchronous",),
    "trpo": ("schulman2015trust", "schulman2016high"),
    "ppo": ("schulman2017proximal",),
    "dqn": ("mnih2015human",),
    "double-dqn": ("hasselt2016deep", "mnih2015human"),
    "ddpg": ("lillicrap2016continuous",),
    "td3": ("fujimoto2018addressing",),
    "sac": ("haarnoja2018applications",),
    "sac-fixed": ("haarnoja2018soft", "haarnoja2018applications"),
    "rpc": ("eysenbach2021robust",),
    "maddpg": ("lowe2017multi",),
    "iddpg": ("lowe2017multi", "lillicrap2016continuous"),
    "mappo": ("yu2022surprising",),
    "ippo": ("dewitt2020independent", "yu2022surprising"),
    "matd3": ("ackermann2019reducing",),
}
SUITES = {
    "classic": ("towers2024gymnasium",),
    "mujoco": ("towers2024gymnasium", "todorov2012mujoco"),
    "particle": ("lowe2017multi", "mordatch2018emergence", "terry2021pettingzoo"),
}
FAMILIES = {
    "CartPole": "barto1983neuronlike",
    "Acrobot": "sutton1996generalization",
    "MountainCar": "moore1990efficient",
    "MountainCarContinuous": "moore1990efficient",
    "HalfCheetah": "wawrzynski2009cat",
    "Hopper": "erez2011infinite",
    "Walker2d": "erez2011infinite",
    "Ant": "schulman2016high",
    "Humanoid": "tassa2012synthesis",
    "HumanoidStandup": "tassa2012synthesis",
    "Swimmer": "coulom2002reinforcement",
    "InvertedPendulum": "barto1983neuronlike",
    "InvertedDoublePendulum": "barto1983neuronlike",
}


def bibliography(tasks: Sequence[Task], verdicts: Sequence[Verdict], methods: Iterable[str] = ()) -> str:
    """Return references.bib of a report, sorted by key.

    It cites this suite, the algorithms and tasks of the cells, the sources of the published scores, and the
    `methods` with these keys.
    """
    used = {SUITE, *methods} | {sources()[verdict.reference.source].bibtex for verdict in verdicts}
    for task in tasks:
        for summary in task.cells:
            used.update(task_keys(task.suite, task.name))
            used.update(algorithm_keys(summary.cell.facts))
    return text(used)


def algorithm_keys(facts: dict[str, Any]) -> tuple[str, ...]:
    """Return the keys of a cell's algorithm, from its cell.json; () for an unknown algorithm."""
    return ALGORITHMS.get(algorithm_of(facts), ()) if facts else ()


def task_keys(suite: str, task: str) -> tuple[str, ...]:
    """Return the keys of a task: those of its suite and that of its family."""
    family = FAMILIES.get(split_version(task)[0])
    return (*SUITES.get(suite, ()), *([family] if family else ()))


def text(keys: Iterable[str]) -> str:
    """Return the entries of these keys, sorted by key.

    Raises:
        KeyError: a key has no entry.
    """
    return "\n\n".join(entries()[key] for key in sorted(set(keys), key=str.lower)) + "\n"


@cache
def entries() -> dict[str, str]:
    """Return all entries of the .bib files by key.

    Raises:
        ValueError: an entry has no key, or a key occurs twice.
    """
    by_key: dict[str, str] = {}
    for path in sorted(FOLDER.glob("*.bib")):
        for entry in re.split(r"\n(?=@)", path.read_text(encoding="utf-8")):
            match = re.match(r"@\w+\{([^,]+),", entry)
            if match is None:
                raise ValueError(f"{path.name}: no key in {entry[:40]!r}")
            if match[1] in by_key:
                raise ValueError(f"{path.name}: {match[1]} occurs twice")
            by_key[match[1]] = entry.strip()
    return by_key

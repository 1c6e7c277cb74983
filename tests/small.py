"""Small cells for tests over the registry. A new system joins by being registered: nothing here names one.

Budgets shrink by the standard names of hyperparameters, so that a run of a few hundred steps covers several
updates.
"""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.records import files
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError
from ascent.records.run import Run
from ascent.runners.conform_algorithm import SHRUNK
from ascent.runners.platform import provenance
from ascent.runners.resolve import resolve

SLOW = pytest.mark.slow
MOST_EVERY = 8  # environment steps between updates
WINDOWS = 5.5  # in a run at least, where a window lasts as long as the task's time limit asks
# Discrete and continuous actions, and a simulator; teams whose agents are unlike, or both move and speak.
TASKS = ("CartPole-v1", "Pendulum-v1", "Hopper-v5", "simple_adversary_v3", "simple_reference-openai")
# For tests of minutes: Hopper has continuous actions, too.
KINDS = tuple(task for task in TASKS if task != "Pendulum-v1")
RESULT_FILES = (
    "eval.csv", "train.csv", "metrics.csv", "ladder.csv", "measures.csv", "policy.npz", "result.json",
)  # fmt: skip
# What stands in for a task whose time limit makes windows of whole episodes too long for small runs.
SHORTER = {"Hopper-v5": "Reacher-v5"}


def small_cell(
    system: str, task: str, steps: int = 120, points: int = 3, episodes: int = 2, **overrides: object
) -> Cell:
    """A cell whose run takes about a second for ten seeds."""
    cell = resolve(system, task, steps=10**6)
    known = cell.config
    shrunk = {name: value for name, value in SHRUNK.items() if name in known}
    if "train_every" in known:
        shrunk["train_every"] = min(known["train_every"], MOST_EVERY)
    overrides = {name: value for name, value in overrides.items() if name in known}
    envs = ({**known, **shrunk} | overrides).get("workers" if "workers" in known else "envs", 1)
    if "steps" in shrunk:  # a budget without an update is refused
        shrunk["steps"] = min(shrunk["steps"], steps // int(envs))
    evaluation = Evaluation(points, episodes)
    if learns_whole_episodes(system):
        config = known | shrunk | overrides
        window = config["envs"] * config["horizons"] * suites.TASKS[cell.task].horizon
        steps = max(steps, int(WINDOWS * window))
    return resolve(system, task, overrides=shrunk | overrides, steps=steps, evaluation=evaluation)


def learns_whole_episodes(system: str) -> bool:
    """Whether windows last a number of time limits."""
    return "horizons" in SYSTEMS[system].module().Config.__dataclass_fields__


def systems_and_tasks(tasks: tuple[str, ...] = TASKS) -> list[tuple[str, str]]:
    """Every system with each of the tasks that it can do."""
    pairs = []
    for system in SYSTEMS:
        for task in tasks:
            if learns_whole_episodes(system):
                task = SHORTER.get(task, task)
            try:
                small_cell(system, task)
            except InputError as error:
                assert "needs a" in str(error)  # an algorithm for another kind of task says so
            else:
                pairs.append((system, task))
        assert tasks != TASKS or any(name == system for name, _ in pairs), f"{system} can do none of them"
    return pairs


def file_of(system: str, task: str) -> object:
    """The algorithm's file."""
    return SYSTEMS[system].algorithm


def kind_of(system: str, task: str) -> object:
    """Whether a system replays transitions, learns from whole episodes, and trains a team."""
    config = resolve(system, task, steps=10**6).config
    return "learning_starts" in config, learns_whole_episodes(system), suites.TASKS[task].team is not None


def others_slow(cases: Sequence[tuple], key: Callable[..., object] = file_of) -> list[Any]:
    """The first case of every file, kind or other key for the default tests, the others for the slow ones."""
    first = {key(*case): case for case in reversed(cases)}
    return [
        pytest.param(*case, id="-".join(case), marks=[] if case in first.values() else SLOW) for case in cases
    ]


def rest_slow(cases: Iterable[Any]) -> list[Any]:
    """The first case for the default tests, the others for the slow ones."""
    first, *rest = cases
    return [first, *(pytest.param(case, marks=SLOW) for case in rest)]


def run_of(cell: Cell, seed: int, out: Path, capacity: int = 0) -> Run:
    """A run's folder, as a training process on the CPU opens it."""
    return Run(cell, seed, out, provenance(cell, "cpu"), capacity)


def results(cell: Cell, out: Path, seeds: list[int]) -> dict[int, dict[str, bytes]]:
    """The result bytes of some runs: what all guarantees speak of."""
    folders = {seed: cell.folder(out) / f"seed-{seed}" for seed in seeds}
    return {
        seed: {name: (folder / name).read_bytes() for name in RESULT_FILES}
        for seed, folder in folders.items()
    }


def statuses(cell: Cell, out: Path, seeds: list[int]) -> list[str]:
    """How each run ended."""
    return [files.read_json(cell.folder(out) / f"seed-{seed}" / "result.json")["status"] for seed in seeds]

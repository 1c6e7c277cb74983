"""The tasks of the benchmark, as batches that step S seeds x E environments at once. See README.md."""

import numpy as np

from ascent.suites import classic, foreign, gym, mujoco, particle, pettingzoo
from ascent.suites.batch import Batch, Environments, Trainable
from ascent.suites.foreign import EnvironmentFailed, Foreign, ForeignTask
from ascent.suites.replayed import ForeignBatch
from ascent.suites.spec import Spec, Step

__all__ = [
    "FOREIGN", "SUITES", "TASKS", "Batch", "EnvironmentFailed", "Environments", "Foreign", "Spec", "Step",
    "Trainable", "add", "changes", "check", "foreign_task", "guarantee", "is_foreign", "make", "make_batch",
    "version",
]  # fmt: skip

# Suite name -> module. A suite module has an integer VERSION, and BATCHES: the batch classes of its tasks.
# The tasks of the last ones are environments from outside: `add` makes one a task of this process.
FOREIGN = {"gym": gym, "pettingzoo": pettingzoo}
SUITES = {"classic": classic, "mujoco": mujoco, "particle": particle, **FOREIGN}

_BATCHES: dict[str, type[Batch]] = {
    batch.spec.id: batch for suite in SUITES.values() for batch in suite.BATCHES
}
_FOREIGN: dict[str, ForeignTask] = {}

TASKS: dict[str, Spec] = {task: batch.spec for task, batch in _BATCHES.items()}


def add(declared: Foreign) -> str:
    """Make a foreign environment a task of this process, and return the task's name.

    This imports the environment's module: never call it for a stranger's record without the user's consent.

    Raises:
        ValueError: the environment is unknown, or not supported; the message is one line.
    """
    if declared.suite not in FOREIGN:
        raise ValueError(
            f"{declared.id}: an environment's id begins with {' or '.join(map(_prefix, FOREIGN))}"
        )
    task = declared.task
    if task not in _FOREIGN or _FOREIGN[task].foreign != declared:
        _FOREIGN[task] = FOREIGN[declared.suite].open_task(declared)
        TASKS[task] = _FOREIGN[task].spec
    return task


def _prefix(suite: str) -> str:
    return f"{suite}:"


def is_foreign(task: str) -> bool:
    """Return whether a text is the id of a foreign environment, such as "gym:LunarLander-v3"."""
    return task.startswith(tuple(map(_prefix, FOREIGN)))


def foreign_task(task: str) -> ForeignTask | None:
    """Return the foreign environment that `add` made a task of this process; None for any other task."""
    return _FOREIGN.get(task)


def make(task: str, env_seeds: np.ndarray, threads: int = 1) -> Trainable:
    """Return a batch of environments of a task. Call its `reset()` before `step()`.

    Args:
        task: a name in `TASKS`.
        env_seeds: (S, E) integers >= 0; each seeds one environment, as `gymnasium.Env.reset(seed=...)` does.
        threads: maximum number of threads that step the environments. Only MuJoCo tasks use more than one.
            Results do not depend on it.

    Raises:
        KeyError: the task is unknown.
        ValueError: env_seeds is not a matrix of integers >= 0, threads is below 1, or MuJoCo cannot read the
            model file of the task.
        FileNotFoundError: the model file of the task is missing.
        EnvironmentFailed: a foreign environment raised an error.
    """
    if task in _FOREIGN:
        return ForeignBatch(_FOREIGN[task], env_seeds)
    return make_batch(task, env_seeds, threads)


def make_batch(task: str, env_seeds: np.ndarray, threads: int = 1) -> Batch:
    """Return a batch, as `make` does, of a task that this project implements.

    Raises:
        KeyError: there is no such task.
    """
    return _BATCHES[task](env_seeds, threads)


def check(task: str) -> None:
    """Check that a batch of the task can be made on this machine, without making it.

    Raises:
        KeyError: the task is unknown.
        OSError, ValueError: the model file of the task is missing or damaged; the message is one line.
    """
    if task not in _FOREIGN:  # one was made when it was added
        _BATCHES[task].check()


def guarantee(task: str) -> str:
    """Return what is promised of a task's results: "twin", or "replayable" or "loose" for a foreign one.

    Raises:
        KeyError: the task is unknown.
        EnvironmentFailed: a foreign environment raised an error when it was tried.
    """
    if task in _FOREIGN:
        return foreign.guarantee(_FOREIGN[task])
    assert TASKS[task]
    return TWIN


TWIN = "twin"


def changes(task: str) -> tuple[str, ...]:
    """Return the physical quantities of the task that `Batch.change` can scale.

    Raises:
        KeyError: the task is unknown.
    """
    return () if task in _FOREIGN else _BATCHES[task].changes


def version(suite: str) -> int:
    """Return the version of the suite's results. It increases whenever a trajectory changes.

    Raises:
        KeyError: the suite is unknown.
    """
    return SUITES[suite].VERSION

"""The benchmark's tasks, as batches that step S seeds x E environments at once. See README.md beside."""

import numpy as np

from ascent.suites import classic, mujoco, particle
from ascent.suites.batch import Batch
from ascent.suites.spec import Spec, Step

Environments = Batch

__all__ = ["SUITES", "TASKS", "Batch", "Spec", "Step", "changes", "check", "make", "version"]

# Suite name -> module. A suite module has an integer VERSION and BATCHES, the batch classes of its tasks.
SUITES = {"classic": classic, "mujoco": mujoco, "particle": particle}

_BATCHES: dict[str, type[Batch]] = {
    batch.spec.id: batch for suite in SUITES.values() for batch in suite.BATCHES
}

TASKS: dict[str, Spec] = {task: batch.spec for task, batch in _BATCHES.items()}


def make(task: str, env_seeds: np.ndarray, threads: int = 1) -> Batch:
    """A batch of a task's environments; `reset()` comes first.

    Args:
        task: a name in `TASKS`.
        env_seeds: (S, E) integers >= 0; each environment is seeded like `gymnasium.Env.reset(seed=...)`.
        threads: how many step the environments; changes no result. Only MuJoCo's tasks make use of it.

    Raises:
        KeyError: unknown task.
        ValueError: env_seeds is not a matrix of integers >= 0, threads is below 1, or MuJoCo cannot read the
            task's model file.
        FileNotFoundError: the task's model file is missing.
    """
    return _BATCHES[task](env_seeds, threads)


def check(task: str) -> None:
    """Whether the task can be made here, without making it.

    Raises:
        KeyError: unknown task.
        OSError, ValueError: its model file is missing or damaged; one line says which.
    """
    _BATCHES[task].check()


def changes(task: str) -> tuple[str, ...]:
    """What of the task's physics a batch can change: see `Batch.change`.

    Raises:
        KeyError: unknown task.
    """
    return _BATCHES[task].changes


def version(suite: str) -> int:
    """The number that says which results a suite gives: it rises when a trajectory changes.

    Raises:
        KeyError: unknown suite.
    """
    return SUITES[suite].VERSION

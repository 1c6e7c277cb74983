"""The tasks of the benchmark, as batches that step S seeds x E environments at once. See README.md."""

import numpy as np

from ascent.suites import classic, mujoco, particle
from ascent.suites.batch import Batch, Environments
from ascent.suites.spec import Spec, Step

__all__ = ["SUITES", "TASKS", "Batch", "Environments", "Spec", "Step", "changes", "check", "make", "version"]

# Suite name -> module. A suite module has an integer VERSION, and BATCHES: the batch classes of its tasks.
SUITES = {"classic": classic, "mujoco": mujoco, "particle": particle}

_BATCHES: dict[str, type[Batch]] = {
    batch.spec.id: batch for suite in SUITES.values() for batch in suite.BATCHES
}

TASKS: dict[str, Spec] = {task: batch.spec for task, batch in _BATCHES.items()}


def make(task: str, env_seeds: np.ndarray, threads: int = 1) -> Batch:
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
    """
    return _BATCHES[task](env_seeds, threads)


def check(task: str) -> None:
    """Check that a batch of the task can be made on this machine, without making it.

    Raises:
        KeyError: the task is unknown.
        OSError, ValueError: the model file of the task is missing or damaged; the message is one line.
    """
    _BATCHES[task].check()


def changes(task: str) -> tuple[str, ...]:
    """Return the physical quantities of the task that `Batch.change` can scale.

    Raises:
        KeyError: the task is unknown.
    """
    return _BATCHES[task].changes


def version(suite: str) -> int:
    """Return the version of the suite's results. It increases whenever a trajectory changes.

    Raises:
        KeyError: the suite is unknown.
    """
    return SUITES[suite].VERSION

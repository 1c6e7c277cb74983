"""Probe environments: tasks so small that the right values and actions are known.

Each isolates one thing an algorithm must get right. They are ordinary batches, but no tasks of the suite:
they are on the list only while `listed` is entered, for `ascent conform` and the tests.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
from gymnasium import spaces

from ascent import suites
from ascent.suites.batch import Batch

DISCRETE, CONTINUOUS = spaces.Discrete(2), spaces.Box(-1.0, 1.0, (1,), np.float32)
GAMMA = 0.8  # of all probe runs


class Probe(Batch):
    """One number describes an environment: what is seen. Subclasses say how it begins, moves and pays."""

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.array([generator.choice([-1.0, 1.0])])

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(physics.T, dtype=np.float32)

    def choice(self, actions: np.ndarray) -> np.ndarray:
        """(n,) the action as a number from -1 to 1."""
        return (
            2.0 * actions - 1.0
            if isinstance(self.spec.action_space, spaces.Discrete)
            else actions[:, 0].astype(float)
        )


class KnownReward(Probe):
    """One step; the reward is what is seen. Shows: the value learns from the observation."""

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return physics.copy(), physics[0].copy(), np.ones(physics.shape[1], bool)


class DelayedReward(Probe):
    """Two steps, seen as 0 and 1; only the second pays 1. Values: gamma and 1. Shows: discounting, and a true
    end.
    """

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.zeros(1)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return 1.0 - physics, physics[0].copy(), physics[0] == 1.0


class TimeLimit(Probe):
    """Pays 1 for ever, cut by a time limit of 3 steps that cannot be seen. Value: 1 / (1 - gamma).

    Whoever takes the limit for a true end learns a value of about 1.5 instead of 5.
    """

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.ones(1)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        n = physics.shape[1]
        return physics.copy(), np.ones(n), np.zeros(n, bool)


class FollowTheSign(Probe):
    """One step; the reward is -(action - observation / 2)^2. Shows: the policy learns to follow."""

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        reward = -((self.choice(actions) - 0.5 * physics[0]) ** 2)
        return physics.copy(), reward, np.ones(physics.shape[1], bool)


PROBES = {
    "known-reward": KnownReward,
    "delayed-reward": DelayedReward,
    "time-limit": TimeLimit,
    "follow": FollowTheSign,
}


def task(probe: str, kind: str) -> str:
    """Return the id of a probe's task; `kind` is "discrete" or "continuous"."""
    return f"probe-{probe}-{kind}"


@contextmanager
def listed() -> Iterator[None]:
    """Have every probe, with discrete and with continuous actions, among the tasks."""
    names = []
    try:
        for name, probe in PROBES.items():
            for kind, action_space in (("discrete", DISCRETE), ("continuous", CONTINUOUS)):
                spec = replace(
                    suites.TASKS["CartPole-v1"],
                    id=task(name, kind),
                    observation_space=spaces.Box(-1.0, 1.0, (1,), np.float32),
                    action_space=action_space,
                    horizon=3,
                )
                suites.TASKS[spec.id] = spec
                suites._BATCHES[spec.id] = type(probe.__name__, (probe,), {"spec": spec})
                names.append(spec.id)
        yield
    finally:
        for name in names:
            del suites.TASKS[name], suites._BATCHES[name]

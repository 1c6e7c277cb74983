"""Probe environments: tasks so small that the right values and actions are known.

Each isolates one thing an algorithm must get right. They are ordinary batches, registered only while a test
runs. `Counted` is for the runner's accounts of teams.
"""

from dataclasses import replace

import numpy as np
from gymnasium import spaces

from ascent import suites
from ascent.suites.batch import Batch
from ascent.suites.spec import Spec, Team

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


class Counted(Probe):
    """A team of two, three steps t = 0, 1, 2. It pays t + 1 and -10 t, and is measured by t + 10."""

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.zeros(1)

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return np.repeat(physics.T, 3, axis=1).astype(np.float32)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = physics[0]
        self.measured = np.stack([t + 10.0] * 4, axis=1)
        return physics + 1.0, np.stack([t + 1.0, -10.0 * t], axis=1), np.zeros(len(t), bool)

    def _measures(self) -> np.ndarray:
        return self.measured


COUNTED = "probe-counted"
PROBES = {
    "known-reward": KnownReward,
    "delayed-reward": DelayedReward,
    "time-limit": TimeLimit,
    "follow": FollowTheSign,
}


def register(monkeypatch: object) -> None:
    """Add every probe, with discrete and with continuous actions, to the tasks for the length of a test."""
    for name, probe in PROBES.items():
        for kind, action_space in (("discrete", DISCRETE), ("continuous", CONTINUOUS)):
            spec = replace(
                suites.TASKS["CartPole-v1"],
                id=f"probe-{name}-{kind}",
                observation_space=spaces.Box(-1.0, 1.0, (1,), np.float32),
                action_space=action_space,
                horizon=3,
            )
            assert isinstance(spec, Spec)
            monkeypatch.setitem(suites.TASKS, spec.id, spec)
            monkeypatch.setitem(suites._BATCHES, spec.id, type(probe.__name__, (probe,), {"spec": spec}))


def register_team(monkeypatch: object) -> None:
    """Add `Counted` to the tasks for the length of a test."""
    spec = replace(
        suites.TASKS["simple_spread_v3"],
        id=COUNTED,
        observation_space=spaces.Tuple([spaces.Box(-9.0, 9.0, (size,), np.float32) for size in (1, 2)]),
        action_space=spaces.Tuple([spaces.Discrete(2), spaces.Discrete(3)]),
        horizon=3,
        team=Team(
            ("good_0", "bad_0"),
            ("agent", "adversary"),
            ("good_0",),
            (("total", "sum"), ("average", "mean"), ("end", "last"), ("again", "sum")),
        ),
    )
    monkeypatch.setitem(suites.TASKS, spec.id, spec)
    monkeypatch.setitem(suites._BATCHES, spec.id, type("Counted", (Counted,), {"spec": spec}))

"""A team of which every reward is known, for the runner's accounts of teams."""

from dataclasses import replace

import numpy as np
from gymnasium import spaces

from ascent import suites
from ascent.suites.probes import Probe
from ascent.suites.spec import Team

COUNTED = "probe-counted"


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

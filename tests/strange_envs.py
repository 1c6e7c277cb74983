"""Environments from outside the project, good and bad, as a user's own module has them.

Processes of their own find this module as `strange_envs`, with this folder in PYTHONPATH.
"""

import warnings
from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces


class Walk(gymnasium.Env):
    """A random walk: the observation is a place and a velocity; each step adds noise of its own generator."""

    observation_space: spaces.Space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space: spaces.Space = spaces.Box(-1.0, 1.0, (1,), np.float32)

    def __init__(self, drift: float = 0.0) -> None:
        self.drift = drift
        self.state = np.zeros(2)
        self.steps = 0

    def noise(self) -> float:
        return float(self.np_random.normal())

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        self.state = np.array([self.noise(), 0.0])
        return self.state.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.steps += 1
        push = float(np.sum(action)) + self.drift + 0.1 * self.noise()
        self.state = np.array([self.state[0] + self.state[1] / 8, 0.9 * self.state[1] + push])
        return self.state.copy(), -abs(self.state[0]), abs(self.state[0]) > 9, False, {}


class Careless(Walk):
    """Draws from numpy's global generator."""

    def noise(self) -> float:
        return float(np.random.normal())


class Remembering(Walk):
    """An episode depends on how long the environment has been used."""

    def noise(self) -> float:
        return super().noise() + self.steps / 100


class Sharing(Walk):
    """All environments share one state, which a reset sets."""

    shared: ClassVar = np.zeros(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)
        Sharing.shared[:] = self.state
        return self.state.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.state = Sharing.shared.copy()
        result = super().step(action)
        Sharing.shared[:] = self.state
        return result


class Breaking(Walk):
    """Raises after some steps, whatever the episode."""

    def __init__(self, after: int = 1000) -> None:
        super().__init__()
        self.after = after

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        if self.steps + 1 == self.after:
            raise RuntimeError("the simulator\nlost its mind")
        return super().step(action)


class Unseedable(Walk):
    """Its reset takes no seed, as in the interface of the old gym."""

    def reset(self) -> tuple[np.ndarray, dict]:  # type: ignore[override]
        return np.zeros(2), {}


class Growing(Walk):
    """Its observations become longer than it declares."""

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        obs, *rest = super().step(action)
        return (np.append(obs, obs) if self.steps > 150 else obs, *rest)


class Pixels(Walk):
    observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)


class Dictionary(Walk):
    observation_space = spaces.Dict({"place": spaces.Box(-1, 1, (2,))})


class ManyChoices(Walk):
    action_space = spaces.MultiDiscrete([2, 3])


class Unbounded(Walk):
    action_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)


def halved(env: gymnasium.Env) -> gymnasium.Env:
    """A wrapper: rewards of half the size."""
    return gymnasium.wrappers.TransformReward(env, lambda reward: float(reward) / 2)


with warnings.catch_warnings(action="ignore"):  # of a name that is there: a copy of this file takes it
    for _kind in (Walk, *Walk.__subclasses__()):
        _name = _kind.__name__
        gymnasium.register(f"{_name}-v0", entry_point=f"{__name__}:{_name}", max_episode_steps=40)
    gymnasium.register("Endless-v0", entry_point=f"{__name__}:Walk")

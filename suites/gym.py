"""Foreign environments with gymnasium's interface: `gym:LunarLander-v3`, `gym:package.module:MyEnv-v0`.

Observations are a Box of one dimension, or Discrete, which becomes one-hot. Actions are Discrete, or a Box of
one dimension with finite bounds. The time limit is the environment's own. See foreign.py.
"""

from difflib import get_close_matches
from functools import partial
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from ascent.suites import foreign
from ascent.suites.foreign import Foreign, ForeignTask
from ascent.suites.spec import Spec

VERSION = 1
BATCHES = ()  # the tasks of this suite are declared by their users
FLATTEN = "gymnasium.wrappers:FlattenObservation"


def open_task(declared: Foreign) -> ForeignTask:
    """Import the environment's module, make one, and return its task.

    Raises:
        ValueError: it is unknown, a package is missing, or its spaces or time limit are not supported; the
            message is one line that begins with the id.
    """
    env = _make(declared)
    observations = observation_space(declared.id, env.observation_space)
    actions = action_space(declared.id, env.action_space)
    limit = env.spec.max_episode_steps if env.spec else None
    if limit is None:
        raise ValueError(
            f"{declared.id}: it has no time limit: give one, such as --env max_episode_steps=1000, or "
            "max_episode_steps among the kwargs of a sweep"
        )
    layers: list[Any] = [env]
    while isinstance(layers[-1], gymnasium.Wrapper):
        layers.append(layers[-1].env)
    packages, modules = foreign.origins(layers)
    env.close()
    spec = Spec(
        id=declared.task,
        suite=declared.suite,
        observation_space=observations,
        action_space=actions,
        horizon=limit,
        budget=declared.budget,
        random_score=declared.random_score,
        reference_score=declared.reference_score,
        reference_source=declared.reference_source,
        return_convention="sum of rewards",
        packages=packages,
        modules=modules,
    )
    return ForeignTask(declared, spec, partial(GymEnvironment, declared))


def _make(declared: Foreign) -> gymnasium.Env[Any, Any]:
    """Return a wrapped environment. Raises ValueError in one line."""
    known = set(gymnasium.registry)
    try:
        env = gymnasium.make(declared.target, disable_env_checker=True, **declared.kwargs)
    except gymnasium.error.UnregisteredEnv as error:
        near = get_close_matches(declared.target.rpartition(":")[2], known | set(gymnasium.registry), n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else foreign.said(error)
        raise ValueError(f"{declared.id}: gymnasium has no such environment; {hint}") from error
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{declared.id}: {foreign.said(error)}") from error
    env = foreign.wrapped(declared, env)
    if not isinstance(env, gymnasium.Env):
        raise ValueError(f"{declared.id}: {declared.wrappers[-1]} returns no gymnasium.Env")
    return env


def observation_space(name: str, space: spaces.Space[Any]) -> spaces.Box:
    """Return the space (O,) float32 that agents see. Raises ValueError if the space is not supported."""
    if isinstance(space, spaces.Discrete):
        return spaces.Box(0.0, 1.0, (int(space.n),), np.float32)
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        return spaces.Box(space.low.astype(np.float32), space.high.astype(np.float32), dtype=np.float32)
    kind = type(space).__name__
    if isinstance(space, spaces.Box):
        pixels = space.dtype == np.uint8 and len(space.shape) > 1
        kind = f"{'pixels' if pixels else 'a Box'} of shape {space.shape}"
    supported = "supported are Discrete and a Box of one dimension"
    hint = f"add a wrapper that flattens them, such as --wrapper {FLATTEN}"
    raise ValueError(f"{name}: its observations are {kind}; {supported}: {hint}")


def action_space(name: str, space: spaces.Space[Any]) -> spaces.Space[Any]:
    """Return the space that agents choose from: Discrete from 0, or a Box (A,) float32.

    Raises:
        ValueError: the space is not supported.
    """
    if isinstance(space, spaces.Discrete):
        return spaces.Discrete(int(space.n))
    if isinstance(space, spaces.Box) and len(space.shape) == 1:
        low, high = space.low.astype(np.float32), space.high.astype(np.float32)
        if not np.isfinite([low, high]).all():
            raise ValueError(f"{name}: its actions have no finite bounds: add a wrapper that sets them")
        return spaces.Box(low, high, dtype=np.float32)
    kind = f"a Box of shape {space.shape}" if isinstance(space, spaces.Box) else type(space).__name__
    supported = "supported are Discrete and a Box of one dimension"
    hint = "add a wrapper of your own that flattens them (gymnasium.ActionWrapper)"
    raise ValueError(f"{name}: its actions are {kind}; {supported}: {hint}")


def observed(space: spaces.Space[Any], obs: Any) -> np.ndarray:
    """Return an observation of a supported space as a new array (O,) float32."""
    if isinstance(space, spaces.Discrete):
        return (np.arange(space.n) == obs - space.start).astype(np.float32)
    return np.array(obs, np.float32)


def acted(space: spaces.Space[Any], action: np.ndarray) -> Any:
    """Return the action that an agent chose as an element of the environment's own space."""
    if isinstance(space, spaces.Discrete):
        return space.start + action.astype(np.int64)[()]
    assert isinstance(space, spaces.Box)
    return action.astype(space.dtype).clip(space.low, space.high)


class GymEnvironment:
    """One environment: see `foreign.Environment`."""

    def __init__(self, declared: Foreign):
        self.env = _make(declared)

    def reset(self, seed: int) -> np.ndarray:
        obs, _ = self.env.reset(seed=seed)
        return observed(self.env.observation_space, obs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        obs, reward, terminated, truncated, _ = self.env.step(acted(self.env.action_space, action))
        return observed(self.env.observation_space, obs), float(reward), bool(terminated), bool(truncated)

    def close(self) -> None:
        self.env.close()

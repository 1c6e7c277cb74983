"""Foreign environments with PettingZoo's parallel interface: `pettingzoo:mpe2.simple_spread_v3`.

The id names a module with a function `parallel_env`. The same agents play from the beginning of an episode to
its end. Their observations are Boxes of one dimension, or Discrete, which becomes one-hot; their actions are
all Discrete, or all Boxes of one dimension with finite bounds. The score of an episode is the mean return of
the agents. The time limit is `max_cycles`, which most environments take; for others, `max_episode_steps`
among the kwargs is one, and not handed on. See foreign.py.
"""

import re
from functools import partial
from typing import Any

import numpy as np
from gymnasium import spaces

from ascent.suites import foreign
from ascent.suites.foreign import Foreign, ForeignTask
from ascent.suites.gym import acted, action_space, observation_space, observed
from ascent.suites.spec import Spec, Team

VERSION = 1
BATCHES = ()  # the tasks of this suite are declared by their users
LIMIT = "max_episode_steps"
INNER = ("env", "aec_env", "par_env")  # names by which PettingZoo's wrappers hold what they wrap
AGENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # a name that can be a column of a table
COLUMNS = {"step", "env", "policy", "episode", "return", "length", "unstable"}  # that all tables have


def open_task(declared: Foreign) -> ForeignTask:
    """Import the environment's module, make one, and return its task.

    Raises:
        ValueError: it is unknown, a package is missing, or its agents, spaces or time limit are not
            supported; the message is one line that begins with the id.
    """
    env = _make(declared)
    agents = tuple(str(agent) for agent in env.possible_agents)
    for agent in agents:
        if not AGENT.fullmatch(agent) or agent in COLUMNS or agents.count(agent) > 1:
            raise ValueError(f"{declared.id}: its agents need names such as agent_0, not {agent!r}")
    of_agent = {str(agent): agent for agent in env.possible_agents}
    observations = [
        observation_space(f"{declared.id} {name}", env.observation_space(a)) for name, a in of_agent.items()
    ]
    actions = [action_space(f"{declared.id} {name}", env.action_space(a)) for name, a in of_agent.items()]
    if len({type(space) for space in actions}) > 1:
        raise ValueError(
            f"{declared.id}: some agents have Discrete actions and others a Box: give all the same"
        )
    limit = declared.kwargs.get(LIMIT, declared.kwargs.get("max_cycles"))
    limit = limit or getattr(env.unwrapped, "max_cycles", None)
    if type(limit) is not int or limit < 1:
        raise ValueError(f"{declared.id}: it has no time limit: give one, such as --env {LIMIT}=1000")
    layers: list[Any] = [env]
    while inner := next((vars(layers[-1])[name] for name in INNER if name in vars(layers[-1])), None):
        layers.append(inner)
    packages, modules = foreign.origins(layers)
    env.close()
    spec = Spec(
        id=declared.task,
        suite=declared.suite,
        observation_space=spaces.Tuple(observations),
        action_space=spaces.Tuple(actions),
        horizon=limit,
        budget=declared.budget,
        random_score=declared.random_score,
        reference_score=declared.reference_score,
        reference_source=declared.reference_source,
        return_convention="mean over the agents of the sum of their rewards",
        packages=packages,
        team=Team(agents, ("agent",) * len(agents), agents, ()),
        modules=modules,
    )
    return ForeignTask(declared, spec, partial(ParallelEnvironment, declared))


def _make(declared: Foreign) -> Any:
    """Return a wrapped environment. Raises ValueError in one line."""
    try:
        parallel_env = foreign.load(f"{declared.target}:parallel_env")
    except ValueError as error:
        raise ValueError(f"{declared.id}: {error}") from error
    kwargs = {name: value for name, value in declared.kwargs.items() if name != LIMIT}
    try:
        env = parallel_env(**kwargs)
    except MemoryError:
        raise
    except Exception as error:
        raise ValueError(f"{declared.id}: {foreign.said(error)}") from error
    env = foreign.wrapped(declared, env)
    if not all(hasattr(env, name) for name in ("possible_agents", "observation_space", "action_space")):
        raise ValueError(f"{declared.id}: it does not have PettingZoo's parallel interface")
    return env


class ParallelEnvironment:
    """One environment: see `foreign.Environment`. Values of agents stand one after another."""

    def __init__(self, declared: Foreign):
        self.env = _make(declared)
        self.agents = list(self.env.possible_agents)
        self.spaces = [self.env.action_space(agent) for agent in self.agents]

    def reset(self, seed: int) -> np.ndarray:
        obs, _ = self.env.reset(seed=seed)
        return self._observed(obs)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool, bool]:
        sizes = [1 if isinstance(space, spaces.Discrete) else space.shape[0] for space in self.spaces]
        parts = np.split(action, np.cumsum(sizes)[:-1])
        chosen = {
            agent: acted(space, part[0] if isinstance(space, spaces.Discrete) else part)
            for agent, space, part in zip(self.agents, self.spaces, parts, strict=True)
        }
        obs, rewards, terminations, truncations, _ = self.env.step(chosen)
        terminated = [bool(terminations[agent]) for agent in self.agents]
        over = [end or bool(truncations[agent]) for end, agent in zip(terminated, self.agents, strict=True)]
        if any(over) and not all(over):
            early = ", ".join(str(agent) for agent, end in zip(self.agents, over, strict=True) if end)
            raise RuntimeError(f"{early} ended before the other agents, which is not supported")
        reward = np.array([float(rewards[agent]) for agent in self.agents])
        return self._observed(obs), reward, all(terminated), all(over) and not all(terminated)

    def _observed(self, obs: Any) -> np.ndarray:
        if missing := [str(agent) for agent in self.agents if agent not in obs]:
            raise RuntimeError(f"it has no observation of {', '.join(missing)}")
        parts = [observed(self.env.observation_space(agent), obs[agent]) for agent in self.agents]
        return np.concatenate(parts)

    def close(self) -> None:
        self.env.close()

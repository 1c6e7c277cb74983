"""Play episodes: how observations, actions and episodes pass between an agent and a batch of environments."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from ascent import suites
from ascent.algorithms.seedwise import Streams, derive_seed
from ascent.records.cell import Cell

Episode = tuple[float | int, ...]  # return, length, unstable steps, and the task's own columns
Carry = torch.Tensor | None  # what a policy remembers between steps


class Policy(Protocol):
    """What acts: an `Agent`, or a wrapper around one."""

    def act(
        self, obs: torch.Tensor, rng: Streams, explore: bool, progress: float, carry: Any
    ) -> tuple[torch.Tensor, Any]:
        """Return actions for observations (S, E, O), and what is to be remembered; see `Agent.act`."""


def env_seeds(seeds: Sequence[int], envs: int, purpose: str, *index: int) -> np.ndarray:
    """Return (S, E) seeds of environments that depend on (seed, purpose, index) alone."""
    return np.array([[derive_seed(seed, purpose, *index, e) for e in range(envs)] for seed in seeds])


def to_env(action: torch.Tensor, spec: suites.Spec) -> tuple[np.ndarray, np.ndarray]:
    """Return the action as it is stored and as it is executed: continuous actions are clipped to their
    bounds.
    """
    stored = action.cpu().numpy()
    return stored, stored if spec.bounds is None else stored.clip(*spec.bounds)


class Episodes:
    """Returns, lengths and measures of the running episodes of S x E environments, so far."""

    def __init__(self, spec: suites.Spec, shape: tuple[int, int]):
        self.spec = spec
        self.lengths = np.zeros(shape, np.int64)
        self.unstable = np.zeros_like(self.lengths)  # steps
        self.returns = np.zeros(shape)  # multi-agent: (S, E, N)
        self.measures: np.ndarray | None = None  # multi-agent: (S, E, M), sums or last values
        if spec.team:
            self.returns = np.zeros((*shape, len(spec.team.agents)))
            self.measures = np.zeros((*shape, len(spec.team.measures)))
            kinds = np.array([kind for _, kind in spec.team.measures])
            self.lasts = kinds == "last"
            self.means = kinds == "mean"

    def add(self, step: suites.Step) -> None:
        """Add one step of all environments."""
        self.returns += step.reward
        self.lengths += 1
        self.unstable += step.unstable
        if self.measures is not None:
            self.measures = np.where(self.lasts, step.measures, self.measures + step.measures)

    def take(self, ended: np.ndarray) -> list[tuple[int, int, Episode]]:
        """Return the episodes that have `ended`, (S, E) bool, and begin new ones in their place.

        Each is (row of the seed, environment, what is recorded of it).
        """
        episodes: list[tuple[int, int, Episode]] = []
        for row, env in zip(*(axis.tolist() for axis in ended.nonzero()), strict=True):
            length = int(self.lengths[row, env])
            columns: tuple[float, ...] = ()
            if self.measures is not None:
                sums = self.measures[row, env]
                measures = np.where(self.means, sums / length, sums)
                columns = (*self.returns[row, env].tolist(), *measures.tolist())
            score = float(self.spec.score(self.returns[row, env]))
            episodes.append((row, env, (score, length, int(self.unstable[row, env]), *columns)))
        for sums in self.state().values():
            sums[ended] = 0
        return episodes

    def state(self) -> dict[str, np.ndarray]:
        """Return all arrays, seed axis first."""
        sums = {"returns": self.returns, "lengths": self.lengths, "unstable": self.unstable}
        return sums if self.measures is None else sums | {"measures": self.measures}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state` returned."""
        for name in self.state():
            setattr(self, name, state[name])


def play(
    policy: Policy,
    env: suites.Environments,
    rng: Streams,
    explore: bool = False,
    progress: float = 1.0,
    device: str = "cpu",
) -> list[list[Episode]]:
    """Play one episode in every environment and return, for each seed, what is recorded of its episodes."""
    obs = env.reset()
    carry: Any = None
    running = np.ones(env.shape, bool)
    sums = Episodes(env.spec, env.shape)
    episodes: list[list[Episode]] = [[()] * env.shape[1] for _ in range(env.shape[0])]
    while running.any():
        action, carry = policy.act(torch.from_numpy(obs).to(device), rng, explore, progress, carry)
        step = env.step(to_env(action, env.spec)[1])
        sums.add(step)
        ended = running & (step.terminated | step.truncated)
        if ended.any():
            for row, e, episode in sums.take(ended):
                episodes[row][e] = episode
            running &= ~ended
            env.retire(~running)
        obs = step.obs
    return episodes


def evaluate(
    policy: Policy,
    cell: Cell,
    seeds: Sequence[int],
    step: int,
    explore: bool,
    device: str = "cpu",
    threads: int = 1,
) -> list[list[Episode]]:
    """Evaluate a policy in as many new environments per seed as the evaluation protocol has episodes.

    Environments and action noise depend on (seed, step) alone: the times of evaluations affect neither other
    evaluations nor training.
    """
    env = suites.make(cell.task, env_seeds(seeds, cell.evaluation.episodes, "eval", step), threads)
    rng = Streams(seeds, "eval", step, device=device)
    return play(policy, env, rng, explore, step / cell.steps, device)

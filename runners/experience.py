"""Storage of experience: a window of fixed length, or a ring. The arrays have the seed axis first."""

import numpy as np
import torch
from gymnasium import spaces

from algorithms.seedwise import Batch, Replay, Rollout, Streams
from suites import Step


class RolloutStorage:
    """The transitions of one window: arrays (S, T, E, ...)."""

    def __init__(
        self, experience: Rollout, seeds: int, obs_space: spaces.Box, action_space: spaces.Space, device: str
    ):
        shape = (seeds, experience.steps, experience.envs)
        discrete = isinstance(action_space, spaces.Discrete)
        self.arrays = {
            "obs": np.zeros((*shape, *obs_space.shape), np.float32),
            "action": np.zeros((*shape, *action_space.shape), np.int64 if discrete else np.float32),
            "reward": np.zeros(shape, np.float32),
            "next_obs": np.zeros((*shape, *obs_space.shape), np.float32),
            "terminated": np.zeros(shape, np.float32),
            "truncated": np.zeros(shape, np.float32),
        }
        self.length, self.t, self.device = experience.steps, 0, device

    def add(self, obs: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Keep one step of all environments, (S, E, ...)."""
        t, a = self.t, self.arrays
        a["obs"][:, t] = obs
        a["action"][:, t] = action
        a["reward"][:, t] = step.reward
        a["next_obs"][:, t] = step.next_obs
        a["terminated"][:, t] = step.terminated
        a["truncated"][:, t] = step.truncated
        self.t += 1

    def batches(self, rng: Streams) -> list[Batch]:
        """What there is to learn from after this step: the window once it is full, else nothing."""
        if self.t < self.length:
            return []
        self.t = 0
        tensors = {name: torch.from_numpy(array).to(self.device) for name, array in self.arrays.items()}
        return [Batch(**tensors)]

    def state_dict(self) -> dict[str, np.ndarray]:
        return {name: array[:, : self.t] for name, array in self.arrays.items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        self.t = state["obs"].shape[1]
        for name, array in self.arrays.items():
            array[:, : self.t] = state[name]


class ReplayStorage:
    """The last transitions of each seed as one float32 array (S, capacity, W), so that one gather samples.

    A row is obs (O), action (A, or 1 if discrete), reward, terminated, next_obs (O).
    """

    def __init__(
        self, experience: Replay, seeds: int, obs_space: spaces.Box, action_space: spaces.Space, device: str
    ):
        self.experience, self.device = experience, device
        self.discrete = isinstance(action_space, spaces.Discrete)
        n_obs, n_action = obs_space.shape[0], 1 if self.discrete else action_space.shape[0]
        self.columns = np.cumsum([0, n_obs, n_action, 1, 1, n_obs]).tolist()
        self.rows = np.zeros((seeds, experience.capacity, self.columns[-1]), np.float32)
        self.offsets = torch.arange(seeds)[:, None] * experience.capacity  # of seeds in the flattened rows
        self.seen = self.saved = 0  # transitions per seed: added so far, and at the last checkpoint

    def add(self, obs: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Keep one step of all environments, (S, E, ...)."""
        _, a, r, d, n, _ = self.columns
        for e in range(obs.shape[1]):
            row = self.rows[:, self.seen % self.experience.capacity]
            row[:, :a] = obs[:, e]
            row[:, a:r] = action[:, e, None] if self.discrete else action[:, e]
            row[:, r] = step.reward[:, e]
            row[:, d] = step.terminated[:, e]
            row[:, n:] = step.next_obs[:, e]
            self.seen += 1

    def batches(self, rng: Streams) -> list[Batch]:
        """What there is to learn from after this step."""
        x = self.experience
        if self.seen < x.starts or self.seen % x.every >= x.envs:
            return []
        return [self.sample(rng) for _ in range(x.updates)]

    def sample(self, rng: Streams) -> Batch:
        """A batch (S, B), uniform with replacement."""
        x = self.experience
        index = rng.integers(min(self.seen, x.capacity), x.batch) + self.offsets
        flat = torch.from_numpy(self.rows).view(-1, self.columns[-1])
        rows = flat.index_select(0, index.flatten()).view(*index.shape, -1).to(self.device)
        _, a, r, d, n, _ = self.columns
        action = rows[..., a].long() if self.discrete else rows[..., a:r]
        return Batch(rows[..., :a], action, rows[..., r], rows[..., n:], rows[..., d], None)

    def unsaved(self) -> np.ndarray:
        """(S, n, W): the transitions since the last call that are still in the ring, oldest first."""
        n = min(self.seen - self.saved, self.experience.capacity)
        index = np.arange(self.seen - n, self.seen) % self.experience.capacity
        self.saved = self.seen
        return self.rows[:, index]

    def restore(self, seen: int, rows: np.ndarray) -> None:
        """Put back the last transitions (S, n, W) of `seen`, oldest first."""
        index = np.arange(seen - rows.shape[1], seen) % self.experience.capacity
        self.rows[:, index] = rows
        self.seen = self.saved = seen

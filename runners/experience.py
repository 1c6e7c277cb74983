"""Storage of experience: a window of fixed length, or a ring. The arrays have the seed axis first."""

from collections.abc import Iterable, Iterator

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
    """The last transitions of each seed as one float32 tensor (S, capacity, W), so that one gather samples.

    A row is obs (O), action (A, or 1 if discrete), reward, terminated, next_obs (O). The tensor is where the
    learner is; no more rows are kept than `steps`, the budget, can fill.
    """

    def __init__(
        self,
        experience: Replay,
        seeds: int,
        obs_space: spaces.Box,
        action_space: spaces.Space,
        device: str,
        steps: int,
    ):
        self.experience, self.device = experience, device
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.columns = columns(obs_space, action_space)
        self.capacity = replay_rows(experience, steps)
        shape = (seeds, self.capacity, self.columns[-1])
        if device == "cpu":  # memory that numpy's zeros takes only as it fills
            self.rows = torch.from_numpy(np.zeros(shape, np.float32))
        else:
            self.rows = torch.zeros(shape, device=device)
        self.new = np.zeros((seeds, experience.envs, shape[2]), np.float32)  # one step of all environments
        self.offsets = torch.arange(seeds)[:, None] * self.capacity  # of seeds in the flattened rows
        self.seen = self.saved = 0  # transitions per seed: added so far, and at the last checkpoint

    def add(self, obs: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Keep one step of all environments, (S, E, ...)."""
        _, a, r, d, n, _ = self.columns
        self.new[..., :a] = obs
        self.new[..., a:r] = action[..., None] if self.discrete else action
        self.new[..., r] = step.reward
        self.new[..., d] = step.terminated
        self.new[..., n:] = step.next_obs
        new = torch.from_numpy(self.new).to(self.device)
        for e in range(new.shape[1]):
            self.rows[:, self.seen % self.capacity] = new[:, e]
            self.seen += 1

    def batches(self, rng: Streams) -> list[Batch]:
        """What there is to learn from after this step."""
        x = self.experience
        if self.seen < x.starts or self.seen % x.every >= x.envs:
            return []
        return [self.sample(rng) for _ in range(x.updates)]

    def sample(self, rng: Streams) -> Batch:
        """A batch (S, B), uniform with replacement; the indices are drawn on the CPU."""
        index = rng.integers(min(self.seen, self.capacity), self.experience.batch) + self.offsets
        flat = self.rows.view(-1, self.columns[-1])
        rows = flat.index_select(0, index.flatten().to(self.device)).view(*index.shape, -1)
        _, a, r, d, n, _ = self.columns
        action = rows[..., a].long() if self.discrete else rows[..., a:r]
        return Batch(rows[..., :a], action, rows[..., r], rows[..., n:], rows[..., d], None)

    def unsaved(self) -> list[Iterator[tuple[int, np.ndarray]]]:
        """For each seed, its transitions since the last call that are still in the ring, oldest first: the
        number of the first, and rows (n, W). They are read when they are asked for, which must be before the
        next step: a copy of all at once may be gigabytes.
        """
        first = max(self.saved, self.seen - self.capacity)
        index = torch.arange(first, self.seen, device=self.device) % self.capacity
        self.saved = self.seen

        def piece(rows: torch.Tensor) -> Iterator[tuple[int, np.ndarray]]:
            yield first, rows[index].cpu().numpy()

        return [piece(rows) for rows in self.rows]

    def restore(self, row: int, seen: int, segments: Iterable[tuple[int, np.ndarray]]) -> None:
        """Put back one seed's last transitions of `seen`, from (number of the first, rows (n, W)) pairs."""
        for first, rows in segments:
            rows = torch.from_numpy(rows[max(0, seen - self.capacity - first) :])
            start = max(first, seen - self.capacity) % self.capacity
            before = min(len(rows), self.capacity - start)  # the end of the ring
            self.rows[row, start : start + before] = rows[:before].to(self.device)
            self.rows[row, : len(rows) - before] = rows[before:].to(self.device)
        self.seen = self.saved = seen


def columns(obs_space: spaces.Box, action_space: spaces.Space) -> list[int]:
    """Where obs, action, reward, terminated and next_obs begin in a row of replay; the last is its width."""
    n_obs = obs_space.shape[0]
    n_action = 1 if isinstance(action_space, spaces.Discrete) else action_space.shape[0]
    return np.cumsum([0, n_obs, n_action, 1, 1, n_obs]).tolist()


def replay_rows(experience: Replay, steps: int) -> int:
    """Rows per seed: the capacity, or fewer if a run of `steps` makes fewer transitions."""
    return min(experience.capacity, -(-steps // experience.envs) * experience.envs)

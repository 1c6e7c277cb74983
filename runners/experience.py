"""Storage of experience: a window of fixed length, or a ring buffer. Arrays have the seed axis first."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from math import prod
from typing import Any

import numpy as np
import torch

from ascent.algorithms.seedwise import Batch, Replay, Rollout, Streams, WholeEpisodes
from ascent.suites import Spec, Step


class RolloutStorage:
    """The transitions of one window: arrays (S, T, E, ...).

    For `WholeEpisodes`, the environments must be reset after each window.
    """

    def __init__(self, experience: Rollout | WholeEpisodes, seeds: int, spec: Spec, device: str):
        self.length = window(experience, spec)
        # The time limit, if only whole episodes count.
        self.horizon = spec.horizon if isinstance(experience, WholeEpisodes) else None
        shape = (seeds, self.length, experience.envs)
        self.arrays = {
            name: np.zeros((*shape, *part), np.float32)
            for name, part in (shapes(spec) | {"truncated": ()}).items()
        }
        if spec.choices is not None:
            self.arrays["action"] = self.arrays["action"].astype(np.int64)
        self.t = 0  # time steps in the window so far
        self.device = device

    def add(self, obs: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Store one step of all environments, (S, E, ...)."""
        t = self.t
        a = self.arrays
        a["obs"][:, t] = obs
        a["action"][:, t] = action
        a["reward"][:, t] = step.reward
        a["next_obs"][:, t] = step.next_obs
        a["terminated"][:, t] = step.terminated
        a["truncated"][:, t] = step.truncated
        self.t += 1

    def batches(self, rng: Streams) -> list[Batch]:
        """Return the window as one batch when it is full, else no batch."""
        if self.t < self.length:
            return []
        self.t = 0
        arrays = self.arrays
        if self.horizon is not None:
            ended = (arrays["terminated"] > 0) | (arrays["truncated"] > 0)
            arrays = arrays | {"weight": whole(ended, self.horizon).astype(np.float32)}
        return [Batch(**{name: torch.from_numpy(array).to(self.device) for name, array in arrays.items()})]

    def state_dict(self) -> dict[str, np.ndarray]:
        """Return the transitions of the window so far."""
        return {name: array[:, : self.t] for name, array in self.arrays.items()}

    def load_state_dict(self, state: dict[str, np.ndarray]) -> None:
        """Restore what `state_dict` returned."""
        self.t = state["obs"].shape[1]
        for name, array in self.arrays.items():
            array[:, : self.t] = state[name]


class ReplayStorage:
    """The last transitions of each seed in one float32 tensor (S, capacity, W): one gather samples all seeds.

    A row has the `columns` of a transition. The tensor is on the learner's device. It has no more rows than a
    run of `steps` environment steps fills.
    """

    def __init__(self, experience: Replay, seeds: int, spec: Spec, device: str, steps: int):
        self.experience = experience
        self.device = device
        self.discrete = spec.choices is not None
        self.shapes = shapes(spec)
        self.columns = columns(spec)
        self.capacity = replay_rows(experience, steps)
        shape = (seeds, self.capacity, width(spec))
        self.ring: Any  # the same memory for `add`: on the CPU a numpy array, which it fills faster
        if device == "cpu":  # numpy's zeros take memory only as they are filled
            self.ring = np.zeros(shape, np.float32)
            self.rows = torch.from_numpy(self.ring)
        else:
            self.rows = self.ring = torch.zeros(shape, device=device)
        self.new = np.zeros((seeds, experience.envs, shape[2]), np.float32)  # one step of all environments
        self.parts = [  # views of the transition's parts in it
            self.new[..., place] if self.shapes[name] else self.new[..., place.start]
            for name, place in self.columns.items()
        ]
        self.offsets = torch.arange(seeds)[:, None] * self.capacity  # of the seeds in the flattened rows
        self.seen = 0  # transitions per seed so far
        self.saved = 0  # transitions per seed at the last checkpoint

    def add(self, obs: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Store one step of all environments, (S, E, ...)."""
        values = (obs, action, step.reward, step.terminated, step.next_obs)
        for part, value in zip(self.parts, values, strict=True):
            part[:] = value
        new = self.new if self.device == "cpu" else torch.from_numpy(self.new).to(self.device)
        for e in range(new.shape[1]):
            self.ring[:, self.seen % self.capacity] = new[:, e]
            self.seen += 1

    def batches(self, rng: Streams) -> list[Batch]:
        """Return the batches of the updates that are due after this step."""
        x = self.experience
        if self.seen < x.starts or self.seen % x.every >= x.envs:
            return []
        return [self.sample(rng) for _ in range(x.updates)]

    def sample(self, rng: Streams) -> Batch:
        """Return a batch (S, B), uniform with replacement; the indices are drawn on the CPU."""
        index = rng.integers(min(self.seen, self.capacity), self.experience.batch) + self.offsets
        flat = self.rows.flatten(0, 1)
        rows = flat.index_select(0, index.flatten().to(self.device)).view(*index.shape, -1)
        parts = {
            name: rows[..., place].view(*index.shape, *self.shapes[name])
            for name, place in self.columns.items()
        }
        if self.discrete:
            parts["action"] = parts["action"].long()
        return Batch(**parts, truncated=None)

    def unsaved(self) -> list[Iterator[tuple[int, np.ndarray]]]:
        """Return, for each seed, its transitions since the last call that are still in the ring, oldest
        first: the number of the first, and rows (n, W).

        They are copied when the iterator is read, which must be before the next step: a copy of all at once
        may be gigabytes.
        """
        first = max(self.saved, self.seen - self.capacity)
        index = torch.arange(first, self.seen, device=self.device) % self.capacity
        self.saved = self.seen

        def piece(rows: torch.Tensor) -> Iterator[tuple[int, np.ndarray]]:
            yield first, rows[index].cpu().numpy()

        return [piece(rows) for rows in self.rows]

    def restore(self, row: int, seen: int, segments: Iterable[tuple[int, np.ndarray]]) -> None:
        """Restore one seed's last of `seen` transitions, from pairs (number of the first, rows (n, W))."""
        for first, rows in segments:
            kept = torch.from_numpy(rows[max(0, seen - self.capacity - first) :])
            start = max(first, seen - self.capacity) % self.capacity
            before = min(len(kept), self.capacity - start)  # up to the end of the ring
            self.rows[row, start : start + before] = kept[:before].to(self.device)
            self.rows[row, : len(kept) - before] = kept[before:].to(self.device)
        self.seen = self.saved = seen


def window(experience: Rollout | WholeEpisodes, spec: Spec) -> int:
    """Return the time steps of a window; each is a step of all `envs` environments."""
    if isinstance(experience, WholeEpisodes):
        return experience.horizons * spec.horizon
    return experience.steps


def whole(ended: np.ndarray, horizon: int) -> np.ndarray:
    """Return which transitions (S, T, E) belong to episodes that begin at most T - horizon steps after the
    start of the window.

    Args:
        ended: (S, T, E) bool, whether an episode ended with the transition.
        horizon: the time limit, at most T. It makes these episodes whole, whatever their lengths.
    """
    length = ended.shape[1]
    begins = np.zeros(ended.shape, np.int64)  # where an episode begins: at which step; elsewhere 0
    begins[:, 1:] = ended[:, :-1] * np.arange(1, length)[:, None]
    return np.maximum.accumulate(begins, axis=1) <= length - horizon


def shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """Return the shape of each part of one environment's transition, in the order of a replay row.

    In a multi-agent task, the reward has shape (N,), and the observations and actions of all agents are
    concatenated.
    """
    obs = (spec.observation_size,)
    reward = (len(spec.team.agents),) if spec.team else ()
    return {"obs": obs, "action": spec.action_shape, "reward": reward, "terminated": (), "next_obs": obs}


def columns(spec: Spec) -> dict[str, slice]:
    """Return the slice of a replay row that holds each part of a transition."""
    ends = accumulate((prod(shape) for shape in shapes(spec).values()), initial=0)
    return {name: slice(*place) for name, place in zip(shapes(spec), pairwise(ends), strict=True)}


def width(spec: Spec) -> int:
    """Return the length of a replay row, in numbers."""
    return sum(map(prod, shapes(spec).values()))


def replay_rows(experience: Replay, steps: int) -> int:
    """Return the rows per seed: the capacity, or fewer if a run of `steps` makes fewer transitions."""
    return min(experience.capacity, -(-steps // experience.envs) * experience.envs)

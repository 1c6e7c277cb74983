"""Storage of experience: a window of fixed length, or a ring. The arrays have the seed axis first."""

from collections.abc import Iterable, Iterator
from itertools import accumulate, pairwise
from math import prod

import numpy as np
import torch

from ascent.algorithms.seedwise import Batch, Replay, Rollout, Streams
from ascent.suites import Spec, Step


class RolloutStorage:
    """The transitions of one window: arrays (S, T, E, ...)."""

    def __init__(self, experience: Rollout, seeds: int, spec: Spec, device: str):
        shape = (seeds, experience.steps, experience.envs)
        self.arrays = {
            name: np.zeros((*shape, *own), np.float32)
            for name, own in (shapes(spec) | {"truncated": ()}).items()
        }
        if spec.choices is not None:
            self.arrays["action"] = self.arrays["action"].astype(np.int64)
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

    A row has the `columns` of a transition. The tensor is where the learner is; no more rows are kept than
    `steps`, the budget, can fill.
    """

    def __init__(self, experience: Replay, seeds: int, spec: Spec, device: str, steps: int):
        self.experience, self.device = experience, device
        self.discrete = spec.choices is not None
        self.shapes, self.columns = shapes(spec), columns(spec)
        self.capacity = replay_rows(experience, steps)
        shape = (seeds, self.capacity, width(spec))
        if device == "cpu":  # memory that numpy's zeros takes only as it fills
            self.rows = torch.from_numpy(np.zeros(shape, np.float32))
        else:
            self.rows = torch.zeros(shape, device=device)
        self.new = np.zeros((seeds, experience.envs, shape[2]), np.float32)  # one step of all environments
        self.offsets = torch.arange(seeds)[:, None] * self.capacity  # of seeds in the flattened rows
        self.seen = self.saved = 0  # transitions per seed: added so far, and at the last checkpoint

    def add(self, obs: np.ndarray, action: np.ndarray, step: Step) -> None:
        """Keep one step of all environments, (S, E, ...)."""
        parts = (obs, action, step.reward, step.terminated, step.next_obs)
        for place, part in zip(self.columns.values(), parts, strict=True):
            self.new[..., place] = part.reshape(*self.new.shape[:2], -1)
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


def shapes(spec: Spec) -> dict[str, tuple[int, ...]]:
    """What a transition of one environment consists of, in the order of a row of replay; of a team with N
    agents' rewards, and their observations and actions agent after agent.
    """
    obs = (spec.observation_size,)
    reward = (len(spec.team.agents),) if spec.team else ()
    return {"obs": obs, "action": spec.action_shape, "reward": reward, "terminated": (), "next_obs": obs}


def columns(spec: Spec) -> dict[str, slice]:
    """Where in a row of replay each part of a transition lies."""
    ends = accumulate((prod(shape) for shape in shapes(spec).values()), initial=0)
    return {name: slice(*place) for name, place in zip(shapes(spec), pairwise(ends), strict=True)}


def width(spec: Spec) -> int:
    """Numbers in a row of replay."""
    return sum(map(prod, shapes(spec).values()))


def replay_rows(experience: Replay, steps: int) -> int:
    """Rows per seed: the capacity, or fewer if a run of `steps` makes fewer transitions."""
    return min(experience.capacity, -(-steps // experience.envs) * experience.envs)

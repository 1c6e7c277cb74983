"""The training loop: all seeds of a pack at once, in a state that can be saved and restored at any step.

One loop serves both kinds of experience: step every environment, store the transitions, learn when there is
something to learn from. Everything that the next step depends on is in `Trainer.state_dict`, seed axis first,
so the checkpoint of one seed is a slice of it, and a pack is resumed from a concatenation of slices.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Any

import numpy as np
import torch

from ascent import suites
from ascent.algorithms.seedwise import Batch, Replay, Streams, WholeEpisodes
from ascent.records.cell import Cell
from ascent.records.checkpoints import Checkpoint, State
from ascent.records.policy import ABOUT
from ascent.runners import policies
from ascent.runners.experience import ReplayStorage, RolloutStorage
from ascent.runners.play import Carry, Episode, Episodes, env_seeds, to_env
from ascent.runners.resolve import make_agent

STREAMS = ("act", "learn", "replay")


def flat(prefix: str, state: dict[str, Any]) -> State:
    """Return the arrays and tensors of a state as numpy arrays under `prefix`/."""
    arrays = {k: v.detach().cpu().numpy() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def part(prefix: str, state: State) -> State:
    """Return what `flat` put under `prefix`/."""
    start = prefix + "/"
    return {name.removeprefix(start): array for name, array in state.items() if name.startswith(start)}


class Trainer:
    """The training of some seeds of a cell, from the start or a restored state to the end of the budget."""

    def __init__(self, cell: Cell, seeds: Sequence[int], device: str = "cpu", threads: int = 1):
        self.cell = cell
        self.seeds = list(seeds)
        self.device = device
        self.threads = threads  # that step the environments
        self.spec = suites.TASKS[cell.task]
        self.agent = make_agent(cell, Streams(seeds, "init", device=device), device)
        experience = self.agent.experience
        self.envs = experience.envs
        self.storage: ReplayStorage | RolloutStorage
        if isinstance(experience, Replay):
            self.storage = ReplayStorage(experience, len(seeds), self.spec, device, cell.steps)
        else:
            self.storage = RolloutStorage(experience, len(seeds), self.spec, device)
        self.capacity = experience.capacity if isinstance(experience, Replay) else 0
        self.env = suites.make(cell.task, env_seeds(seeds, self.envs, "env"), threads)
        self.act_rng = Streams(seeds, "act", device=device)
        self.learn_rng = Streams(seeds, "learn", device=device)
        self.replay_rng = Streams(seeds, "replay")
        self.step = 0  # environment steps per seed, summed over its environments
        self.updates = 0
        self.obs: np.ndarray = self.env.reset()  # (S, E, O)
        self.carry: Carry = None
        self.episodes = Episodes(self.spec, (len(seeds), self.envs))
        self.metric_names: list[str] = []
        self.metric_sums: torch.Tensor | None = None  # (S, M) float64 since the last evaluation
        self.metric_count = 0

    # ---- one step

    def advance(self) -> list[tuple[int, int, Episode]]:
        """Step every environment once, learn if it is time, and return the episodes that ended.

        Each is (row of the seed, environment, what is recorded of it), see `Episodes.take`.
        """
        progress = self.step / self.cell.steps
        obs = torch.from_numpy(self.obs).to(self.device)
        action, self.carry = self.agent.act(obs, self.act_rng, True, progress, self.carry)
        stored, executed = to_env(action, self.spec)
        step = self.env.step(executed)
        self.storage.add(self.obs, stored, step)
        self.obs = step.obs
        self.step += self.envs
        self.episodes.add(step)
        ended = step.terminated | step.truncated
        episodes = []
        if ended.any():
            episodes = self.episodes.take(ended)
            if self.carry is not None:
                over = torch.from_numpy(ended).to(self.device)
                over = over.view(*over.shape, *[1] * (self.carry.dim() - 2))
                self.carry = self.carry.masked_fill(over, 0.0)  # a new tensor: the old one may be read-only
        batches = self.storage.batches(self.replay_rng)
        for batch in batches:
            self._learn(batch)
        if batches and isinstance(self.agent.experience, WholeEpisodes):
            self._begin_window()
        return episodes

    def _begin_window(self) -> None:
        """Begin a new episode in every environment; the running ones are not recorded."""
        self.obs = self.env.reset()
        self.carry = None
        self.episodes = Episodes(self.spec, self.env.shape)

    def _learn(self, batch: Batch) -> None:
        metrics = self.agent.update(batch, self.learn_rng, self.step / self.cell.steps)
        self.updates += 1
        row = torch.stack(list(metrics.values()), 1)  # stays on its device: nothing here waits for a GPU
        self.metric_names = list(metrics)
        self.metric_sums = row.double() if self.metric_sums is None else self.metric_sums.add_(row)
        self.metric_count += 1

    def take_metrics(self) -> np.ndarray | None:
        """Return the means (S, M) of the updates' metrics since the last call; None without updates."""
        if self.metric_sums is None:
            return None
        means = (self.metric_sums / self.metric_count).cpu().numpy()
        self.metric_sums = None
        self.metric_count = 0
        return means

    # ---- the state

    def learner(self) -> State:
        """Return the agent's whole state."""
        return flat("agent", self.agent.state_dict())

    def digests(self) -> list[str]:
        """Return a digest of each seed's learner."""
        learner = sorted(self.learner().items())
        hashes = [sha256() for _ in self.seeds]
        for name, array in learner:
            for row, digest in enumerate(hashes):
                digest.update(name.encode() + np.ascontiguousarray(array[row]).tobytes())
        return [digest.hexdigest()[:16] for digest in hashes]

    def finite(self) -> np.ndarray:
        """Return (S,) bool: whether all parameters of a seed are finite."""
        params = [array for name, array in self.learner().items() if name.startswith("agent/params/")]
        finite = np.ones(len(self.seeds), bool)
        for array in params:
            finite &= np.isfinite(array).reshape(len(array), -1).all(1)
        return finite

    def policy(self, row: int) -> State:
        """Return what a seed's policy needs to act: parameters, the normaliser if there is one, and how."""
        learner = part("agent", self.learner())
        arrays = {k: v[row : row + 1] for k, v in learner.items() if k.startswith(policies.ACTING)}
        return arrays | {ABOUT: np.array(policies.about(self.agent, self.spec))}

    def state_dict(self) -> State:
        """Return everything the next step depends on, except the transitions in replay."""
        n = len(self.seeds)
        state = self.learner() | flat("env", self.env.state())
        for name in STREAMS:
            state |= flat(name, getattr(self, f"{name}_rng").state_dict())
        state |= {"obs": self.obs} | self.episodes.state()
        state |= {"updates": np.full(n, self.updates), "metric_count": np.full(n, self.metric_count)}
        if self.metric_sums is not None:
            state["metric_sums"] = self.metric_sums.cpu().numpy()
        if self.carry is not None:
            state["carry"] = self.carry.cpu().numpy()
        if isinstance(self.storage, RolloutStorage):
            state |= flat("storage", self.storage.state_dict())
        return state

    def load_state_dict(self, step: int, state: State) -> None:
        """Continue from `step`."""
        tensors = {
            name: torch.from_numpy(array).to(self.device) for name, array in part("agent", state).items()
        }
        self.agent.load_state_dict(tensors)
        self.env.load_state(part("env", state))
        for name in STREAMS:
            getattr(self, f"{name}_rng").load_state_dict(part(name, state))
        self.step = step
        self.updates = int(state["updates"][0])
        self.obs = state["obs"]
        self.episodes.load_state(state)
        self.metric_count = int(state["metric_count"][0])
        self.metric_sums = None
        if self.metric_count:
            self.metric_sums = torch.from_numpy(state["metric_sums"]).to(self.device)
        self.carry = torch.from_numpy(state["carry"]).to(self.device) if "carry" in state else None
        if isinstance(self.storage, RolloutStorage):
            self.storage.load_state_dict(part("storage", state))

    def checkpoints(self, notes: dict[str, Any]) -> list[Checkpoint]:
        """Return one checkpoint per seed."""
        state = self.state_dict()
        replay: list[Iterator[tuple[int, np.ndarray]]] | list[None] = [None] * len(self.seeds)
        if isinstance(self.storage, ReplayStorage):
            replay = self.storage.unsaved()
        notes = {**notes, "metric_names": self.metric_names}
        return [
            Checkpoint(
                self.step,
                {name: array[row : row + 1] for name, array in state.items()},
                replay[row],
                notes,
            )
            for row in range(len(self.seeds))
        ]

    def load(self, checkpoints: list[Checkpoint]) -> None:
        """Continue from one checkpoint per seed, all of the same step.

        Replay is read piece by piece: it may be gigabytes.
        """
        first = checkpoints[0]
        state = {name: np.concatenate([c.state[name] for c in checkpoints]) for name in first.state}
        self.load_state_dict(first.step, state)
        self.metric_names = first.notes["metric_names"]
        if isinstance(self.storage, ReplayStorage):
            for row, checkpoint in enumerate(checkpoints):
                self.storage.restore(row, first.step, checkpoint.replay or ())

"""An agent made of ordinary torch modules and optimisers: a learner for each seed, trained one after another.

    class Learner:  # of one seed; see `Learner` below for what its methods take and return
        def __init__(self, config, observation_space, action_space):
            self.experience = Rollout(config.steps, config.envs)
            self.policy = nn.Sequential(nn.Linear(...), ...)
            self.optimiser = torch.optim.Adam(self.policy.parameters(), lr=config.learning_rate)
        def act(self, obs, explore, progress): ...
        def update(self, batch, progress): ...

    class Agent(PerSeed):
        Learner = Learner

It has the guarantees of the suite's algorithms (`ascent conform` tests them) and none of their speed: nothing
is computed for several seeds at once.

Random numbers: before each call, torch's generator is seeded from the seed's own stream. So initial weights,
`distribution.sample()`, `torch.randperm` and dropout are reproducible, whichever seeds share the process.
numpy's and Python's generators are not: draw from torch.

State: the attributes of a learner that are modules, optimisers, tensors, arrays and numbers, in lists and
dictionaries too, are saved and restored. Modules called `target...` are not part of a recorded policy.
"""

import math
import random
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Protocol

import numpy as np
import torch
from gymnasium.spaces import Discrete, Space
from gymnasium.spaces.utils import flatdim
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ascent.algorithms.seedwise import Batch, Replay, Rollout, State, Streams, WholeEpisodes

REFUSED: dict[type, str] = {
    LRScheduler: "compute the learning rate from `progress`",
    np.random.Generator: "draw from torch",
    np.random.RandomState: "draw from torch",
    random.Random: "draw from torch",
    torch.Generator: "draw from torch's own generator",
    deque: "use a tensor",
}
Slot = tuple[Callable[[], Tensor], Callable[[Tensor], object]]  # how a part of a state is read, and restored


class Learner(Protocol):
    """What an algorithm does for one seed. It may also have `value_estimate` and `preference`, as an `Agent`
    does, without the seed axis.
    """

    experience: Rollout | WholeEpisodes | Replay

    def __init__(self, config: Any, observation_space: Any, action_space: Any) -> None: ...

    def act(self, obs: Tensor, explore: bool, progress: float) -> Tensor:
        """Return actions, (E,) or (E, A), for observations (E, O); called without gradients."""

    def update(self, batch: Batch, progress: float) -> dict[str, Any]:
        """Learn from a batch, (T, E, ...) of a window or (B, ...) of replay, and return metrics: numbers."""


class PerSeed:
    """The agent of all seeds of a process; subclasses name the `Learner`."""

    Learner: ClassVar[type[Any]]

    def __init__(
        self, config: Any, observation_space: Space, action_space: Space, streams: Streams, device: str
    ) -> None:
        self.discrete = isinstance(action_space, Discrete)
        self.size = flatdim(action_space)
        self.device = device
        self.learners: list[Any] = []
        for seed in self._seeds(streams):
            with _seeded(seed, device):
                learner = type(self).Learner(config, observation_space, action_space)
            for module in _parts(learner, nn.Module):
                module.to(device)
            self.learners.append(learner)
        self.experience = self.learners[0].experience
        self.names: list[str] = ["diverged"]  # of the metrics
        for optional in ("value_estimate", "preference"):
            if hasattr(self.learners[0], optional):
                setattr(self, optional, self._stacked(optional))
        self.state_dict()  # refuses what cannot be saved

    @staticmethod
    def _seeds(rng: Streams) -> list[int]:
        """Draw a seed for torch's generator for each seed's next call."""
        return (rng.uniform(1)[:, 0] * 2.0**53).long().tolist()

    def _stacked(self, method: str) -> Callable[..., Tensor]:
        def all_seeds(*tensors: Tensor) -> Tensor:
            rows = zip(self.learners, *tensors, strict=True)
            return torch.stack([getattr(learner, method)(*row) for learner, *row in rows])

        return all_seeds

    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Return actions, (S, E) or (S, E, A), for observations (S, E, O)."""
        actions = []
        for learner, seed, seen in zip(self.learners, self._seeds(rng), obs, strict=True):
            try:
                with _seeded(seed, self.device), torch.no_grad():
                    actions.append(learner.act(seen.clone(), explore, progress))
            except Exception:
                if _finite(learner):
                    raise
                actions.append(self._nothing(seen))  # diverged, which the next evaluation records
        return torch.stack(actions), None

    def _nothing(self, seen: Tensor) -> Tensor:
        """Return the actions of a seed that cannot act."""
        envs = len(seen)
        return seen.new_zeros(envs, dtype=torch.int64) if self.discrete else seen.new_zeros(envs, self.size)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Let each seed learn from its part of the batch (S, ...), and return metrics, each (S,)."""
        rows: list[dict[str, float]] = []
        for row, (learner, seed) in enumerate(zip(self.learners, self._seeds(rng), strict=True)):
            part = batch.map(lambda x: x[row].clone())  # noqa: B023  (called at once)
            try:
                with _seeded(seed, self.device):
                    metrics = learner.update(part, progress)
            except Exception:
                if _finite(learner) and all(x.isfinite().all() for x in vars(part).values() if x is not None):
                    raise
                with torch.no_grad():
                    for parameter in _parameters(learner):
                        parameter.fill_(math.nan)
                metrics = {}
            rows.append({name: float(torch.as_tensor(x).detach()) for name, x in (metrics or {}).items()})
        self.names = next((list(row) for row in rows if row), self.names)
        numbers = [[row.get(name, math.nan) for name in self.names] for row in rows]
        return dict(zip(self.names, batch.reward.new_tensor(numbers).unbind(1), strict=True))

    # ---- state

    def state_dict(self) -> State:
        """Return the state of all learners, seed axis first."""
        states = [{name: read() for name, (read, _) in _slots(learner)} for learner in self.learners]
        whole = {name: part for state in states for name, part in state.items()}
        for learner, state in zip(self.learners, states, strict=True):
            lacking = whole.keys() - state.keys()
            if lacking and _finite(learner):
                what = "the seeds have learned in different parts of their networks"
                raise ValueError(f"{what}: {min(lacking)}: let every parameter take part in every update")
            state |= {name: torch.zeros_like(whole[name]) for name in lacking}
        return {name: torch.stack([state[name] for state in states]) for name in whole}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        for row, learner in enumerate(self.learners):
            rows = {name: array[row].clone() for name, array in state.items()}
            for path, optimiser in _named_parts(learner, Optimizer):
                _begin(optimiser, f"optimiser/{path}/", rows)
            slots = dict(_slots(learner))
            if strange := slots.keys() ^ rows.keys():
                raise ValueError(f"{min(strange)}: what a learner remembers must be there from __init__ on")
            for name, (_, restore) in slots.items():
                restore(rows[name])


@contextmanager
def _seeded(seed: int, device: str) -> Iterator[None]:
    """Seed torch's generator, and the GPU's. Afterwards, that of the CPU is as it was."""
    generator = torch.default_generator  # `torch.manual_seed` takes a hundred times as long
    before = generator.get_state()
    generator.manual_seed(seed)
    if device != "cpu":
        torch.cuda.manual_seed(seed)
    try:
        yield
    finally:
        generator.set_state(before)


def _named_parts(learner: Any, kind: type | tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """Yield the attributes of a kind, with their names; those in lists and dictionaries too."""
    yield from ((path, value) for path, value, _, _ in _attributes(learner) if isinstance(value, kind))


def _parts(learner: Any, kind: type) -> list[Any]:
    return [part for _, part in _named_parts(learner, kind)]


def _attributes(learner: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """Yield (path, value, container, key) of what a learner holds. A learner that is a module comes first."""
    if isinstance(learner, nn.Module):
        yield "learner", learner, None, None
    hidden = ("_", "training") if isinstance(learner, nn.Module) else ()
    waiting = [(name, vars(learner), name) for name in vars(learner) if not name.startswith(hidden)]
    while waiting:
        path, container, key = waiting.pop(0)
        value = container[key]
        yield path, value, container, key
        if isinstance(value, list | dict):
            keys = range(len(value)) if isinstance(value, list) else value
            waiting += [(f"{path}/{key}", value, key) for key in keys]


def _slots(learner: Any) -> Iterator[tuple[str, Slot]]:
    """Yield every part of a learner's state by name."""
    for path, value, container, key in _attributes(learner):
        if isinstance(value, nn.Module):
            group = "target" if path.startswith("target") else "params"
            yield from _tensors(f"{group}/{path}", value.state_dict(keep_vars=True))
        elif isinstance(value, Optimizer):
            yield from _of_optimiser(f"optimiser/{path}", value)
        elif isinstance(value, Tensor):
            yield from _tensors("normaliser", {path: value})
        elif isinstance(value, np.ndarray | bool | int | float):
            yield f"normaliser/{path}", _number(value, container, key)
        for kind, instead in REFUSED.items():
            if isinstance(value, kind):
                raise TypeError(f"{path}: the state of a {type(value).__name__} is not saved: {instead}")


def _tensors(prefix: str, tensors: dict[str, Tensor]) -> Iterator[tuple[str, Slot]]:
    for name, tensor in tensors.items():
        yield f"{prefix}/{name}", (tensor.detach, tensor.detach().copy_)


def _number(value: Any, container: Any, key: Any) -> Slot:
    def restore(saved: Tensor) -> None:
        container[key] = saved.numpy() if isinstance(value, np.ndarray) else type(value)(saved.item())

    exact = value if isinstance(value, np.ndarray | bool | int) else np.float64(value)
    return lambda: torch.as_tensor(exact), restore


def _of_optimiser(prefix: str, optimiser: Optimizer) -> Iterator[tuple[str, Slot]]:
    """Yield the state of an optimiser, and the floats of its groups, among them the learning rate."""
    for g, group in enumerate(optimiser.param_groups):
        for name in [name for name, value in group.items() if isinstance(value, float)]:
            yield f"{prefix}/group/{g}/{name}", _number(group[name], group, name)
    for index, parameter in enumerate(_optimised(optimiser)):
        for name, value in optimiser.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                yield from _tensors(f"{prefix}/{index}", {name: value})
            elif value is not None:
                raise TypeError(f"{prefix}: {name}: {type(optimiser).__name__} has a state that is not saved")


def _optimised(optimiser: Optimizer) -> list[Tensor]:
    return [parameter for group in optimiser.param_groups for parameter in group["params"]]


def _begin(optimiser: Optimizer, prefix: str, rows: State) -> None:
    """Give an optimiser the entries of a saved state; it makes them itself only at its first step."""
    optimiser.state.clear()
    for name, saved in rows.items():
        if name.startswith(f"{prefix}group/"):
            _, group, entry = name.removeprefix(prefix).split("/")
            optimiser.param_groups[int(group)].setdefault(entry, 0.0)
        elif name.startswith(prefix):
            index, entry = name.removeprefix(prefix).split("/")
            parameter = _optimised(optimiser)[int(index)]
            optimiser.state[parameter][entry] = saved.cpu() if entry == "step" else saved


def _parameters(learner: Any) -> list[Tensor]:
    return [parameter for module in _parts(learner, nn.Module) for parameter in module.parameters()]


def _finite(learner: Any) -> bool:
    """Return whether all parameters of a learner are finite."""
    return all(bool(parameter.isfinite().all()) for parameter in _parameters(learner))

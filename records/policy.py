"""A trained policy that acts on NumPy arrays: read from its file alone, without torch and in any version.

The file describes its steps (`docs/policies.md`; `algorithms/seedwise/acting.py` defines them).
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ascent.records import files, layout, shelf
from ascent.records.checkpoints import MOST_POLICY, State, unpack_arrays
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.store import Store

ABOUT = "about"  # the entry of the file that describes how the policy acts, as JSON text
ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "none": lambda x: x, "tanh": np.tanh, "relu": lambda x: np.maximum(x, 0),
}  # fmt: skip


@dataclass(frozen=True)
class Policy:
    """How a trained agent, or a team of agents, acts without exploring.

    Attributes:
        task: the task that it was trained on.
        observation_space: as text, such as "Box(-inf, inf, (11,), float32)".
        action_space: the same of its actions.
        agents: the description of each agent: its part of the observation and its steps.
        arrays: the arrays that the steps refer to.
    """

    task: str
    observation_space: str
    action_space: str
    agents: tuple[dict[str, Any], ...]
    arrays: State

    @property
    def size(self) -> int:
        """Return the length of an observation, of all agents one after another."""
        return int(self.agents[-1]["observation"][1])

    def __call__(self, observation: Any) -> Any:
        """Return the action for an observation, or those for a batch of them.

        Args:
            observation: (size,) or (batch, size). For a team also a sequence with one array per agent.

        Returns:
            (actions,) or (batch, actions) of continuous actions; an integer or (batch,) of discrete ones. For
            a team, a list with one of these per agent.

        Raises:
            ValueError: the observation has another length.
        """
        if len(self.agents) > 1 and isinstance(observation, Sequence):
            observation = np.concatenate([np.asarray(part, np.float32) for part in observation], axis=-1)
        x = np.asarray(observation, np.float32)
        if x.ndim not in (1, 2) or x.shape[-1] != self.size:
            raise ValueError(
                f"an observation of {self.task} has {self.size} numbers, not the shape {x.shape}"
            )
        actions = [self._act(x[..., slice(*agent["observation"])], agent["steps"]) for agent in self.agents]
        return actions if len(actions) > 1 else actions[0]

    def value(self, argument: Any) -> Any:
        """Return an argument of a step: a part of an array, by its first number and its shape, or itself."""
        if isinstance(argument, dict):
            shape = tuple(argument["shape"])
            flat = self.arrays[argument["array"]][0].ravel()[argument["first"] :]
            return flat[: int(np.prod(shape))].reshape(shape)
        return np.asarray(argument, np.float32) if isinstance(argument, list) else argument

    def _act(self, x: np.ndarray, steps: Sequence[dict[str, Any]]) -> Any:
        for step in steps:
            given = {name: self.value(argument) for name, argument in step.items() if name != "name"}
            x = _STEPS[step["name"]](x, **given)
        return x


def _normalise(x: np.ndarray, mean: Any, variance: Any, epsilon: float, bound: float) -> np.ndarray:
    scaled = (x - mean) / np.sqrt(variance + epsilon)
    return np.clip(scaled, -bound, bound).astype(np.float32)


def _softmax(x: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    parts = np.split(x, np.cumsum(np.asarray(sizes, int))[:-1], axis=-1)
    powers = [np.exp(part - part.max(-1, keepdims=True)) for part in parts]
    return np.concatenate([power / power.sum(-1, keepdims=True) for power in powers], axis=-1)


_STEPS: dict[str, Any] = {
    "normalise": _normalise,
    "dense": lambda x, weight, bias, activation: ACTIVATIONS[activation](x @ weight + bias[0]),
    "first": lambda x, n: x[..., :n],
    "squash": lambda x, bound: bound * np.tanh(x / bound),
    "softmax": _softmax,
    "scale": lambda x, middle, half: middle + half * x,
    "clip": lambda x, low, high: np.clip(x, low, high),
    "argmax": lambda x: x.argmax(-1),
}


def load(target: str | Path, seed: int, runs: Path) -> Policy:
    """Return a policy: of a file, of a run's folder, or of a seed of a cell.

    Args:
        target: a file such as policy.npz, the folder of a run, or a cell: its folder, digest or the beginning
            of its digest, in `runs` or on the shelf.
        seed: the seed, if the target is a cell.
        runs: folder of run records.

    Raises:
        InputError: there is no such policy, or it is damaged (DamagedFile).
    """
    path = Path(target)
    if path.is_file():
        return parse(files.read(path.resolve(), MOST_POLICY), path)
    found = layout.seed_of(path.resolve()) if path.is_dir() else None
    if found is None:
        folder = shelf.find(str(target), runs)
    else:
        folder, seed = path.resolve().parent, found
    store = Store(folder)
    if not store.has(seed):
        raise unknown("seed", str(seed), [str(known) for known in store.seeds()])
    file = folder / layout.seed_folder(seed) / layout.POLICY
    if not store.has(seed, layout.POLICY):
        raise InputError(
            f"{file} is missing: the run is not finished, has diverged, or was stored without it"
        )
    data = store.read(seed, layout.POLICY)
    check_recorded(data, store.json(seed, layout.RESULT), file)
    return parse(data, file)


def recorded_digest(result: dict[str, Any]) -> str:
    """Return the sha256 of a policy by result.json; "" if none was recorded."""
    digests = result.get("digests")
    return str(digests.get(layout.POLICY, "")) if isinstance(digests, dict) else ""


def check_recorded(data: bytes, result: dict[str, Any], path: Path) -> None:
    """Raise DamagedFile, naming `path`, unless the content of a policy's file is that of its result.json."""
    if sha256(data).hexdigest() != recorded_digest(result):
        raise DamagedFile(f"{path} is damaged: it differs from the recorded policy")


def parse(data: bytes, path: Path) -> Policy:
    """Return the policy in the content of a file. Raises DamagedFile if it is none, naming `path`."""
    try:
        arrays = dict(unpack_arrays(data, MOST_POLICY))
        if ABOUT not in arrays:
            raise InputError(f"{path} does not describe how it acts: it was written before version 0.3")
        about = json.loads(str(arrays.pop(ABOUT)))
        if about["agents"] == []:
            what = "only its algorithm's file can play it, as `ascent watch` does"
            raise InputError(f"{path} does not describe how it acts: {what}")
        spaces = {name: str(about[name]) for name in ("task", "observation_space", "action_space")}
        policy = Policy(**spaces, agents=tuple(about["agents"]), arrays=arrays)
        steps = [step for agent in policy.agents for step in agent["steps"]]
        if strange := next((step["name"] for step in steps if step["name"] not in _STEPS), None):
            raise InputError(f"{path}: unknown step {strange!r}: a newer version wrote it")
        policy(np.zeros(policy.size))
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    return policy

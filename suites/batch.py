"""The batch of environments that every task derives from: time limit, autoreset, generators, saved state."""

from abc import ABC, abstractmethod
from typing import ClassVar, Protocol

import numpy as np

from ascent.suites.spec import Spec, Step

_LOW_64 = (1 << 64) - 1


class Environments(Protocol):
    """S x E environments that a policy can play: a `Batch`, or a wrapper such as `perturb.Perturbed`.

    `Batch` documents the members.
    """

    @property
    def spec(self) -> Spec: ...

    @property
    def shape(self) -> tuple[int, int]: ...

    def reset(self) -> np.ndarray: ...

    def step(self, actions: np.ndarray, /) -> Step: ...

    def retire(self, flags: np.ndarray, /) -> None: ...


class Trainable(Environments, Protocol):
    """Environments whose state can be saved: a `Batch`, or a `replayed.ForeignBatch`."""

    def state(self) -> dict[str, np.ndarray]: ...

    def load_state(self, state: dict[str, np.ndarray], /) -> None: ...


class Batch(ABC):
    """S seeds x E environments of one task, stepped together.

    A task is a subclass that defines `spec`, `_start`, `_advance` and, if the observation is not the physics
    itself, `_observe`. These methods see the n = S * E environments as the columns of one float64 matrix
    (K, n): K numbers describe the physics of one environment. In a numpy twin, each of these numbers is one
    contiguous row over all environments.

    Environments do not interact: the arithmetic is elementwise, and every environment has its own generator,
    Generator(PCG64(seed)), as in `gymnasium.Env.reset(seed=seed)`. Later episodes continue its stream.

    Args:
        env_seeds: (S, E) integers >= 0, one per environment.
        threads: maximum number of threads that step the environments of a simulator, at least 1. Results do
            not depend on it. A task whose step is a few numpy calls for the whole batch ignores it.

    Attributes:
        shape: (S, E).

    Raises:
        ValueError: env_seeds is not a matrix of integers, or has a negative entry, or threads is below 1.
    """

    spec: ClassVar[Spec]
    changes: ClassVar[tuple[str, ...]] = ()  # physical quantities that `change` can scale

    def __init__(self, env_seeds: np.ndarray, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        env_seeds = checked_seeds(env_seeds)
        self.shape: tuple[int, int] = env_seeds.shape
        self._action_shape = self.shape + self.spec.action_shape
        choices = self.spec.choices
        self._choices = None if choices is None else choices.astype(np.uint64)
        self._generators = [np.random.Generator(np.random.PCG64(int(seed))) for seed in env_seeds.flat]
        self._physics: np.ndarray | None = None  # (K, n) float64; None until reset() or load_state()
        self._elapsed = np.zeros(env_seeds.size, dtype=np.int64)  # (n,) steps of the running episode

    @classmethod  # noqa: B027  (doing nothing is a valid default)
    def check(cls) -> None:
        """Check that a batch can be made on this machine.

        Raises:
            OSError, ValueError: a file that the task needs is missing or damaged; the message is one line.
        """

    # Methods that a task defines.

    @abstractmethod
    def _start(self, generator: np.random.Generator) -> np.ndarray:
        """Draw the initial physics (K,) float64 of an episode of one environment."""

    @abstractmethod
    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Advance the physics (K, n) by one step.

        Args:
            physics: (K, n) float64.
            actions: (n,) or (n, N) integers, or (n, A) float32.

        Returns:
            New arrays: the next physics (K, n) float64, reward (n,) or multi-agent (n, N) float64, and
            terminated (n,) bool.
        """

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        """Return new observations (n, O) float32 of physics (K, n); default: the physics itself."""
        return physics.T.astype(np.float32, order="C")

    def _observe_starts(self, physics: np.ndarray) -> np.ndarray:
        """Return the first observations (m, O) of episodes in m environments with physics (K, m)."""
        return self._observe(physics)

    def _measures(self) -> np.ndarray:
        """Return the task-specific measures of the last step: a new array (n, M) float64."""
        return np.empty((self._elapsed.size, 0))

    # Hooks for simulators, whose state is more than the physics that the task reads.

    def _begin(self, i: int) -> np.ndarray:
        """Begin an episode of environment i and return its physics (K,)."""
        return self._start(self._generators[i])

    def _unstable(self) -> np.ndarray:
        """Return a new array (S, E) bool: where the simulator met an invalid number in the last step."""
        return np.zeros(self.shape, dtype=bool)

    def _change(self, kind: str, factor: float) -> None:
        """Scale the physical quantity `kind`, one of `changes`, by `factor`."""
        raise NotImplementedError

    # Methods that all tasks share.

    def change(self, kind: str, factor: float) -> None:
        """Scale a physical quantity of the task in all environments.

        Args:
            kind: one of `changes`.
            factor: the multiple of the task's default value.

        Raises:
            ValueError: the task has no such quantity to change.
            RuntimeError: reset() or load_state() was called before.
        """
        if self._physics is not None:
            raise RuntimeError("call change() before reset() and load_state()")
        if kind not in self.changes:
            raise ValueError(f"{self.spec.id} has no {kind} to change")
        self._change(kind, factor)

    def reset(self) -> np.ndarray:
        """Begin a new episode in every environment and return its first observations (S, E, O) float32.

        A second call continues the generators' streams, as `gymnasium.Env.reset()` without a seed does.
        """
        starts = [self._begin(i) for i in range(self._elapsed.size)]
        self._physics = np.stack(starts, axis=1)
        self._elapsed = np.zeros_like(self._elapsed)
        return self._observe_starts(self._physics).reshape(*self.shape, -1)

    def step(self, actions: np.ndarray) -> Step:
        """Step every environment. Where an episode ends, begin the next one at once.

        Args:
            actions: (S, E) integers for a Discrete action space, (S, E, A) float32 for a Box; multi-agent
                (S, E, N) integers or (S, E, A) float32. Box actions may be out of range (each task treats
                them as its original does) or NaN (which corrupts the episode of that environment only).

        Raises:
            RuntimeError: neither reset() nor load_state() was called before.
            ValueError: the actions have the wrong shape or type, or a discrete action is out of range.
        """
        physics, reward, terminated = self._advance(self._current(), self._flat(actions))
        unstable, measures = self._unstable(), self._measures()
        next_obs = self._observe(physics)
        obs = next_obs.copy()
        self._physics = physics
        self._elapsed += 1
        truncated = self._elapsed >= self.spec.horizon
        ended = (terminated | truncated).nonzero()[0]
        if len(ended):
            starts = np.stack([self._begin(i) for i in ended.tolist()], axis=1)
            physics[:, ended] = starts
            obs[ended] = self._observe_starts(starts)
            self._elapsed[ended] = 0
        return Step(
            obs=obs.reshape(*self.shape, -1),
            reward=reward.reshape(self.shape + reward.shape[1:]),
            terminated=terminated.reshape(self.shape),
            truncated=truncated.reshape(self.shape),
            next_obs=next_obs.reshape(*self.shape, -1),
            unstable=unstable,
            measures=measures.reshape(*self.shape, measures.shape[1]),
        )

    def retire(self, flags: np.ndarray) -> None:  # noqa: B027  (doing nothing is a valid default)
        """Mark environments, (S, E) bool, as not needed until the next `reset` or `load_state`.

        What `step` returns for them is undefined; other environments are not affected. A simulator skips
        them; numpy twins step them anyway.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later steps depend on, as copies whose first axis is the seed.

        `{k: v[i : i + 1] for k, v in state.items()}` is the state of seed i. The states of seeds from several
        batches may be joined with `np.concatenate` and loaded into a batch with that many seeds.

        Returns:
            "physics" (S, E, K) float64, as the class of the task describes it; "elapsed" (S, E) int64, steps
            since the start of the episode; "generators" (S, E, 6) uint64, the PCG64 state (high word, low
            word), increment (high word, low word), has_uint32 and uinteger; and what a simulator adds.

        Raises:
            RuntimeError: neither reset() nor load_state() was called before.
        """
        words = np.array([_to_words(generator) for generator in self._generators], dtype=np.uint64)
        return {
            "physics": self._current().T.reshape(*self.shape, -1).copy(),
            "elapsed": self._elapsed.reshape(self.shape).copy(),
            "generators": words.reshape(*self.shape, 6),
        }

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue, bit for bit, from what `state()` returned. It replaces the seeds of the constructor.

        Raises:
            ValueError: the state has another number of seeds or environments.
        """
        for name, value in state.items():
            if value.shape[:2] != self.shape:
                raise ValueError(
                    f"state {name!r} has {value.shape[:2]} seeds and environments, this batch {self.shape}"
                )
        self._physics = state["physics"].reshape(self._elapsed.size, -1).T.copy()
        self._elapsed = state["elapsed"].reshape(-1).copy()
        for generator, words in zip(self._generators, state["generators"].reshape(-1, 6), strict=True):
            _from_words(generator, words.tolist())

    def _current(self) -> np.ndarray:
        """Return the physics (K, n), or raise RuntimeError before the first reset() or load_state()."""
        if self._physics is None:
            raise RuntimeError("call reset() or load_state() first")
        return self._physics

    def _flat(self, actions: np.ndarray) -> np.ndarray:
        """Check actions and return them without the seed axis: (n,) or (n, N) integers, or (n, A) float32."""
        check_actions(actions, self._action_shape, self._choices)
        # Contiguous, because the order in which numpy adds depends on the memory layout.
        return np.ascontiguousarray(actions.reshape(-1, *self.spec.action_shape))


def checked_seeds(env_seeds: np.ndarray) -> np.ndarray:
    """Return the seeds of a batch as an array (S, E) of integers. Raises ValueError for anything else."""
    seeds = np.asarray(env_seeds)
    if seeds.ndim != 2 or seeds.dtype.kind not in "iu":
        raise ValueError(f"env_seeds must be (S, E) integers, not {seeds.dtype} of shape {seeds.shape}")
    return seeds


def check_actions(actions: np.ndarray, shape: tuple[int, ...], choices: np.ndarray | None) -> None:
    """Raise ValueError unless these are actions of a batch.

    Args:
        actions: what is to be checked.
        shape: (S, E, ...), that they must have.
        choices: the number of discrete actions, () or (N,) uint64; None for continuous actions, float32.
    """
    if actions.shape != shape:
        raise ValueError(f"actions have shape {actions.shape}, not {shape}")
    if choices is not None:
        # As an unsigned integer a negative number is huge, so one comparison covers both ends.
        if actions.dtype.kind not in "iu" or np.count_nonzero(actions.astype(np.uint64) >= choices):
            raise ValueError(f"actions must be integers from 0 to {choices - 1}")
    elif actions.dtype != np.float32:
        raise ValueError(f"actions must be float32, not {actions.dtype}")


def _to_words(generator: np.random.Generator) -> list[int]:
    """Return the state of a PCG64 generator as six integers below 2^64: see `Batch.state`."""
    state = generator.bit_generator.state
    position, increment = state["state"]["state"], state["state"]["inc"]
    return [
        position >> 64,
        position & _LOW_64,
        increment >> 64,
        increment & _LOW_64,
        state["has_uint32"],
        state["uinteger"],
    ]


def _from_words(generator: np.random.Generator, words: list[int]) -> None:
    """Set the state of a PCG64 generator from what `_to_words` returned."""
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": words[0] << 64 | words[1], "inc": words[2] << 64 | words[3]},
        "has_uint32": words[4],
        "uinteger": words[5],
    }

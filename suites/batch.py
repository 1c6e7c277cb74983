"""What all batches share: time limit, autoreset, generators, saving and restoring."""

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from ascent.suites.spec import Spec, Step

_LOW_64 = (1 << 64) - 1


class Batch(ABC):
    """S seeds x E environments of one task, stepped together.

    A task is a subclass with a `spec` and the methods `_start`, `_advance` and perhaps `_observe`. They see
    the n = S * E environments as columns of one float64 matrix, (K, n): K numbers describe the physics of
    one environment. In a numpy twin each number of all environments lies in one contiguous row.

    Environments never meet: the arithmetic is elementwise, and every environment owns its generator. It is
    Generator(PCG64(seed)), as in `gymnasium.Env.reset(seed=seed)`, and later episodes go on in its stream.

    Args:
        env_seeds: (S, E) integers >= 0, one per environment.
        threads: how many step the environments of a simulator, at least 1; the results do not depend on it. A
            task whose step is a few numpy calls for the whole batch has no use for them.

    Raises:
        ValueError: env_seeds is not a matrix of integers, or holds a negative number; threads is below 1.
    """

    spec: ClassVar[Spec]
    changes: ClassVar[tuple[str, ...]] = ()  # of its physics, what `change` can scale

    def __init__(self, env_seeds: np.ndarray, threads: int = 1) -> None:
        if threads < 1:
            raise ValueError(f"threads must be at least 1, not {threads}")
        env_seeds = np.asarray(env_seeds)
        if env_seeds.ndim != 2 or env_seeds.dtype.kind not in "iu":
            raise ValueError(
                f"env_seeds must be (S, E) integers, not {env_seeds.dtype} of shape {env_seeds.shape}"
            )
        self.shape: tuple[int, int] = env_seeds.shape
        self._generators = [np.random.Generator(np.random.PCG64(int(seed))) for seed in env_seeds.flat]
        self._physics: np.ndarray | None = None  # (K, n) float64; None until reset() or load_state()
        self._elapsed = np.zeros(env_seeds.size, dtype=np.int64)  # (n,) steps of the running episode

    @classmethod  # noqa: B027  (nothing to do is right here)
    def check(cls) -> None:
        """Whether a batch can be made here. Raises OSError or ValueError, one line, about a file it needs."""

    # What a task defines.

    @abstractmethod
    def _start(self, generator: np.random.Generator) -> np.ndarray:
        """Draws the physics (K,) float64 in which an episode of one environment begins."""

    @abstractmethod
    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Moves physics (K, n) one step under actions (n,) or (n, N) integer, or (n, A) float32.

        Returns fresh arrays: the next physics (K, n) float64, reward (n,) float64 or (n, N) of a team,
        terminated (n,) bool.
        """

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        """Fresh observations (n, O) float32 of physics (K, n). Here: the physics itself."""
        return physics.T.astype(np.float32, order="C")

    def _observe_start(self, physics: np.ndarray) -> np.ndarray:
        """Observation (1, O) of one environment that has just begun, physics (K, 1)."""
        return self._observe(physics)

    def _observe_starts(self, starts: list[np.ndarray]) -> np.ndarray:
        """Observations (m, O) of environments that have just begun, each with physics (K,)."""
        return np.concatenate([self._observe_start(start[:, None]) for start in starts])

    def _measures(self) -> np.ndarray:
        """Fresh (n, M) float64: the task's own measures of the step just made."""
        return np.empty((self._elapsed.size, 0))

    # What a simulator adds: it keeps more of an environment than the physics that the task looks at.

    def _begin(self, i: int) -> np.ndarray:
        """Begins an episode of environment i and returns its physics (K,)."""
        return self._start(self._generators[i])

    def _unstable(self) -> np.ndarray:
        """Fresh (S, E) bool: where the simulator met a bad number in the step just made."""
        return np.zeros(self.shape, dtype=bool)

    def _change(self, kind: str, factor: float) -> None:
        """Scales what `kind`, one of `changes`, names, from what the task has."""
        raise NotImplementedError

    # What all tasks share.

    def change(self, kind: str, factor: float) -> None:
        """Makes it another task, in all environments: what `kind` names is `factor` times the task's own.

        Raises ValueError for what the task does not have, RuntimeError after the first `reset`.
        """
        if self._physics is not None:
            raise RuntimeError("change() comes before reset() and load_state()")
        if kind not in self.changes:
            raise ValueError(f"{self.spec.id} has no {kind} to change")
        self._change(kind, factor)

    def reset(self) -> np.ndarray:
        """Begins a new episode everywhere and returns its first observations (S, E, O) float32.

        A second call goes on in the generators' streams, like `gymnasium.Env.reset()` without a seed.
        """
        starts = [self._begin(i) for i in range(self._elapsed.size)]
        self._physics = np.stack(starts, axis=1)
        self._elapsed = np.zeros_like(self._elapsed)
        return self._observe_starts(starts).reshape(*self.shape, -1)

    def step(self, actions: np.ndarray) -> Step:
        """Steps every environment, and begins the next episode at once where one ended.

        Args:
            actions: (S, E) integers for a Discrete action space, (S, E, A) float32 for a Box, of a team (S,
                E, N) integers or (S, E, A) float32. Box actions may be out of range (each task clips as its
                original does) or NaN (spoils that environment's episode and nothing else).

        Raises:
            RuntimeError: neither reset() nor load_state() was called before.
            ValueError: actions have the wrong shape or type, or a discrete action does not exist.
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
            starts = [self._begin(i) for i in ended]
            physics[:, ended] = np.stack(starts, axis=1)
            obs[ended] = self._observe_starts(starts)
            self._elapsed[ended] = 0
        shape, rows = self.shape, (*self.shape, -1)
        return Step(
            obs.reshape(rows),
            reward.reshape(shape + reward.shape[1:]),
            terminated.reshape(shape),
            truncated.reshape(shape),
            next_obs.reshape(rows),
            unstable,
            measures.reshape(*self.shape, measures.shape[1]),
        )

    def retire(self, flags: np.ndarray) -> None:  # noqa: B027  (nothing to do is right here)
        """Environments, (S, E) bool, that are wanted no more until `reset` or `load_state`.

        What `step` returns of them means nothing. Others do not notice. Numpy twins step them all the same; a
        simulator spares itself the work.
        """

    def state(self) -> dict[str, np.ndarray]:
        """Everything the future depends on, as copies whose first axis is the seed.

        `{k: v[i : i + 1] for k, v in state.items()}` is the state of seed i; seeds from several batches may
        be joined by `np.concatenate` and loaded into a batch of that many seeds.

        Returns:
            physics (S, E, K) float64, as the task's class describes it; elapsed (S, E) int64, steps of the
            running episode; generators (S, E, 6) uint64, PCG64 as state high and low word, increment high and
            low word, has_uint32, uinteger; and what a simulator adds.

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
        """Continues from what `state()` returned, to the bit; the constructor's seeds are forgotten.

        Raises:
            ValueError: the state is of another number of seeds or environments.
        """
        for name, value in state.items():
            if value.shape[:2] != self.shape:
                raise ValueError(
                    f"state {name!r} is of {value.shape[:2]} environments, this batch of {self.shape}"
                )
        self._physics = state["physics"].reshape(self._elapsed.size, -1).T.copy()
        self._elapsed = state["elapsed"].reshape(-1).copy()
        for generator, words in zip(self._generators, state["generators"].reshape(-1, 6), strict=True):
            _from_words(generator, words.tolist())

    def _current(self) -> np.ndarray:
        if self._physics is None:
            raise RuntimeError("call reset() or load_state() first")
        return self._physics

    def _flat(self, actions: np.ndarray) -> np.ndarray:
        """Checks actions and returns them without the seed axis: (n,), (n, N) integers, or (n, A) float32."""
        shape, choices = self.spec.action_shape, self.spec.choices
        if actions.shape != self.shape + shape:
            raise ValueError(f"actions have shape {actions.shape}, not {self.shape + shape}")
        if choices is not None:
            # Read as unsigned, a negative number is a huge one: a single comparison covers both ends.
            if (
                actions.dtype.kind not in "iu"
                or (actions.astype(np.uint64) >= choices.astype(np.uint64)).any()
            ):
                raise ValueError(f"actions must be integers from 0 to {choices - 1}")
        elif actions.dtype != np.float32:
            raise ValueError(f"actions must be float32, not {actions.dtype}")
        # Contiguous: how numpy adds up depends on the layout.
        return np.ascontiguousarray(actions.reshape(-1, *shape))


def _to_words(generator: np.random.Generator) -> list[int]:
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
    generator.bit_generator.state = {
        "bit_generator": "PCG64",
        "state": {"state": words[0] << 64 | words[1], "inc": words[2] << 64 | words[3]},
        "has_uint32": words[4],
        "uinteger": words[5],
    }

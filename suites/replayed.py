"""S x E foreign environments, stepped one after another, and restored by playing their episodes again."""

import weakref
from collections.abc import Callable
from typing import Any

import numpy as np

from ascent.suites.batch import check_actions, checked_seeds
from ascent.suites.foreign import LOOSE, EnvironmentFailed, ForeignTask, close, guarantee, mark, said
from ascent.suites.spec import Step

STATE = ("seeds", "episodes", "elapsed", "actions", "marks", "obs")


class ForeignBatch:
    """S x E foreign environments, stepped one after another. Its members are those of `batch.Batch`.

    Args:
        task: whose environments they are.
        env_seeds: (S, E) integers >= 0. Episode k of an environment begins with a seed that depends on its
            number here and on k.

    Raises:
        ValueError: env_seeds is not a matrix of integers.
        EnvironmentFailed: an environment cannot be made. So does `step`, where one raises or breaks a rule.
    """

    def __init__(self, task: ForeignTask, env_seeds: np.ndarray) -> None:
        seeds = checked_seeds(env_seeds)
        self.task = task
        self.spec = task.spec
        self.shape: tuple[int, int] = seeds.shape
        self._action_shape = self.shape + self.spec.action_shape
        choices = self.spec.choices
        self._choices = None if choices is None else choices.astype(np.uint64)
        n = seeds.size
        kind = np.float32 if choices is None else np.int64
        self._seeds = seeds.reshape(n).astype(np.int64)
        self._episodes = np.full(n, -1)  # number of the running episode
        self._elapsed = np.zeros(n, np.int64)
        self._actions = np.zeros((n, self.spec.horizon, *self.spec.action_shape), kind)  # of running episodes
        self._marks = np.zeros((n, self.spec.horizon + 1), np.uint64)  # digests of what they returned
        self._obs = np.zeros((n, self.spec.observation_size), np.float32)
        self._retired = np.zeros(n, bool)
        self._cut = np.zeros(n, bool)  # the next step only ends the episode: see load_state
        self._envs = [self._call(i, task.make) for i in range(n)]
        weakref.finalize(self, close, self._envs)

    def reset(self) -> np.ndarray:
        """Begin a new episode in every environment and return the observations (S, E, O)."""
        self._retired[:] = False
        self._cut[:] = False
        for i in range(len(self._envs)):
            self._begin(i)
        return self._obs.reshape(*self.shape, -1).copy()

    def step(self, actions: np.ndarray) -> Step:
        """Advance all environments by one step; begin new episodes where one ended."""
        check_actions(actions, self._action_shape, self._choices)
        flat = actions.reshape(-1, *self.spec.action_shape)
        n = len(self._envs)
        next_obs = self._obs.copy()
        agents = (len(self.spec.team.agents),) if self.spec.team else ()
        reward = np.zeros((n, *agents))
        terminated, truncated = np.zeros(n, bool), np.zeros(n, bool)
        for i in np.flatnonzero(~self._retired).tolist():
            if self._cut[i]:
                self._cut[i], truncated[i] = False, True
            else:
                next_obs[i], reward[i], terminated[i], truncated[i] = self._advance(i, flat[i])
            self._obs[i] = next_obs[i]
            if terminated[i] or truncated[i]:
                self._begin(i)
        return Step(
            obs=self._obs.reshape(*self.shape, -1).copy(),
            reward=reward.reshape(*self.shape, *agents),
            terminated=terminated.reshape(self.shape),
            truncated=truncated.reshape(self.shape),
            next_obs=next_obs.reshape(*self.shape, -1),
            unstable=np.zeros(self.shape, bool),
            measures=np.empty((*self.shape, 0)),
        )

    def _begin(self, i: int) -> None:
        """Begin the next episode of environment i."""
        self._episodes[i] += 1
        self._elapsed[i] = 0
        self._obs[i], self._marks[i, 0] = self._start(i)

    def _start(self, i: int) -> tuple[np.ndarray, int]:
        """Reset environment i to the start of its running episode; return the observation and its digest."""
        seed = episode_seed(int(self._seeds[i]), int(self._episodes[i]))
        obs = self._checked(i, self._call(i, lambda: self._envs[i].reset(seed)))
        return obs, mark(obs)

    def _advance(self, i: int, action: np.ndarray) -> tuple[np.ndarray, Any, bool, bool]:
        """Step environment i, and keep what its replay needs."""
        self._elapsed[i] += 1
        elapsed = int(self._elapsed[i])
        self._actions[i, elapsed - 1] = action
        obs, reward, terminated, truncated = self._call(i, lambda: self._envs[i].step(action.copy()))
        obs = self._checked(i, obs)
        self._marks[i, elapsed] = mark(obs, reward, terminated, truncated)
        return obs, reward, terminated, truncated or elapsed >= self.spec.horizon

    def _checked(self, i: int, obs: np.ndarray) -> np.ndarray:
        if obs.shape != self._obs.shape[1:]:
            what = f"returned {obs.size} numbers, not {self.spec.observation_size}, as its observation"
            raise EnvironmentFailed(f"{self.task.foreign.id} {what} {self._when(i)}", i // self.shape[1])
        return obs

    def _call(self, i: int, work: Callable[[], Any]) -> Any:
        """Return what foreign code returns. Raises EnvironmentFailed for whatever it raises."""
        try:
            return work()
        except MemoryError:
            raise
        except Exception as error:
            what = f"{self.task.foreign.id} raised {said(error)} {self._when(i)}"
            raise EnvironmentFailed(what, i // self.shape[1]) from error

    def _when(self, i: int) -> str:
        elapsed, episode = int(self._elapsed[i]), int(self._episodes[i])
        if episode < 0:
            return "when it was made"
        where = f"at step {elapsed:,} of" if elapsed else "at the reset of"
        seed = episode_seed(int(self._seeds[i]), episode)
        return f"({where} its episode {episode:,}, which began with seed {seed})"

    def retire(self, flags: np.ndarray) -> None:
        """Mark environments, (S, E) bool, as not needed until the next `reset` or `load_state`."""
        self._retired = flags.reshape(-1).copy()

    # ---- saving and restoring

    def state(self) -> dict[str, np.ndarray]:
        """Return everything that later steps depend on, as copies whose first axis is the seed.

        "seeds", "episodes" and "elapsed" (S, E) int64, "actions" (S, E, H, ...), with H the time limit,
        "marks" (S, E, H + 1) uint64, and "obs" (S, E, O) float32.
        """
        copies = {}
        for name in STATE:
            own: np.ndarray = getattr(self, f"_{name}")
            copies[name] = own.reshape(*self.shape, *own.shape[1:]).copy()
        return copies

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Continue from what `state()` returned: play the running episodes again.

        A loose environment begins new episodes instead. The next step only ends the old ones: it is
        truncated, has reward 0, and leads to the same observation.

        Raises:
            EnvironmentFailed: a replayed episode differs from the recorded one.
        """
        for name in STATE:
            own: np.ndarray = getattr(self, f"_{name}")
            value = state[name]
            if value.shape[:2] != self.shape:
                raise ValueError(
                    f"state {name!r} has {value.shape[:2]} seeds and environments, this batch {self.shape}"
                )
            setattr(self, f"_{name}", value.reshape(own.shape).astype(own.dtype))
        self._retired[:] = False
        self._cut[:] = guarantee(self.task) == LOOSE
        for i in np.flatnonzero(~self._cut).tolist():
            self._replay(i)

    def _replay(self, i: int) -> None:
        elapsed, marks = int(self._elapsed[i]), self._marks[i].copy()
        self._elapsed[i] = 0
        self._obs[i], self._marks[i, 0] = self._start(i)
        for t in range(elapsed + 1):
            if t:
                self._obs[i] = self._advance(i, self._actions[i, t - 1])[0]
            if self._marks[i, t] != marks[t]:
                known = self.task.foreign.id
                what = f"{known}, played again to resume it, differs {self._when(i)}: it is not replayable"
                hint = f"see `ascent conform {known}`; declare it loose, or delete the unfinished run"
                raise EnvironmentFailed(f"{what}: {hint}", i // self.shape[1])


def episode_seed(env_seed: int, episode: int) -> int:
    """Return the seed, of 31 bits, with which an episode of an environment begins."""
    return int(np.random.SeedSequence((env_seed, episode)).generate_state(1)[0] >> 1)

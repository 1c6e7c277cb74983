"""Perturbed tasks: conditions that a policy was not trained in, and the grid over which they are measured.

A perturbation is a kind and a level. Some change the physics, others what an agent sees or what comes of its
actions. Noise of an environment comes from a generator of its own, in the same order at every level: with a
higher level of `drop` the same observations are missing, and more.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ascent import suites
from ascent.suites.batch import Batch
from ascent.suites.spec import Step

VERSION = 1  # of the results under perturbations, also of runners/robustness.py: raise it when they change

ALWAYS_SEEN = 10  # steps before `drop` begins, as in the authors' code of RPC (arXiv 2109.03214)


class Kind(NamedTuple):
    """A kind of perturbation: what its level is, which levels are measured, which are possible."""

    title: str
    grid: tuple[float, ...]
    low: float = 0.0
    high: float = 100.0
    whole: bool = False  # a level is a whole number
    neutral: float = 0.0  # the level at which nothing is perturbed


_FACTORS = {"grid": (0.5, 0.75, 1.25, 1.5, 2.0), "neutral": 1.0}
KINDS = {
    "drop": Kind("observations missing, probability", (0.1, 0.25, 0.5, 0.75, 0.9, 1.0), high=1.0),
    "open_loop": Kind("all missing from step", (300, 100, 30, 10), 1.0, math.inf, True, math.inf),
    "observation_noise": Kind("noise on observations", (0.01, 0.03, 0.1, 0.3)),  # its deviation
    "adversary": Kind("adversary on observations", (0.01, 0.03, 0.1, 0.3)),  # largest change of a number
    # The deviation, of half the actions' range; of choices the probability of a random one.
    "action_noise": Kind("noise on actions", (0.1, 0.2, 0.4)),
    "action_delay": Kind("actions late, steps", (1, 2, 4), whole=True),
    "mass": Kind("masses, factor", low=0.01, **_FACTORS),
    "length": Kind("lengths, factor", low=0.01, **_FACTORS),
    "friction": Kind("friction, factor", **_FACTORS),
    "gravity": Kind("gravity, factor", **_FACTORS),
}
PHYSICS = ("mass", "length", "friction", "gravity")
NOMINAL = "nominal"  # nothing is perturbed; its level is 0


@dataclass(frozen=True)
class Perturbation:
    """A kind, or `NOMINAL`, at a level."""

    kind: str
    level: float

    @property
    def name(self) -> str:
        """Such as "drop-0.5"."""
        return f"{self.kind}-{repr(float(self.level)).removesuffix('.0')}"


def kinds(task: str) -> tuple[str, ...]:
    """The kinds that a task has: none where there are several agents."""
    if suites.TASKS[task].team:
        return ()
    own = suites.changes(task)
    return tuple(kind for kind in KINDS if kind not in PHYSICS or kind in own)


def grid(task: str) -> tuple[Perturbation, ...]:
    """What is measured, fixed for each task: the nominal task, then every level of every kind that it has."""
    horizon = suites.TASKS[task].horizon
    levels = [(kind, level) for kind in kinds(task) for level in KINDS[kind].grid]
    found = [Perturbation(*pair) for pair in levels if pair[0] != "open_loop" or pair[1] < horizon]
    return (Perturbation(NOMINAL, 0.0), *found)


def about(task: str) -> list[dict[str, object]]:
    """The kinds that a task has, as records keep them: name, title, levels of the grid, and the neutral one,
    None for never.
    """
    found = []
    for name in kinds(task):
        kind = KINDS[name]
        levels = [one.level for one in grid(task) if one.kind == name]
        neutral = kind.neutral if math.isfinite(kind.neutral) else None
        found.append({"kind": name, "title": kind.title, "levels": levels, "neutral": neutral})
    return found


def check(task: str, perturbation: Perturbation) -> None:
    """Raises ValueError, one line, for a kind that the task does not have, or a level that is none."""
    kind, level = perturbation.kind, perturbation.level
    if kind == NOMINAL:
        if level != 0:
            raise ValueError(f"{kind}: its level is 0, not {level:g}")
        return
    own = kinds(task)
    if kind not in own:
        listed = ", ".join(own) or "nothing, as it has several agents"
        raise ValueError(f"{task} has no {kind!r} to perturb; it has: {listed}")
    known = KINDS[kind]
    if kind == "action_noise" and suites.TASKS[task].choices is not None:
        known = known._replace(high=1.0)  # a probability
    inside = math.isfinite(level) and known.low <= level <= known.high
    if not inside or (known.whole and level != int(level)):
        what = "a whole number" if known.whole else "a number"
        limits = f"of at least {known.low:g}"
        if math.isfinite(known.high):
            limits = f"from {known.low:g} to {known.high:g}"
        raise ValueError(f"{kind}: {level:g} must be {what} {limits}")


class Perturbed:
    """A batch (see `Batch`) of a task under a perturbation, for one episode in each environment.

    A missing observation is NaN. `adversary` is not this class's: it needs the policy.

    Args:
        task: its name.
        perturbation: see `check`.
        env_seeds: (S, E) of the environments.
        noise_seeds: (S, E) of what is random in the perturbation.
        threads: as in `ascent.suites.make`.
    """

    def __init__(
        self,
        task: str,
        perturbation: Perturbation,
        env_seeds: np.ndarray,
        noise_seeds: np.ndarray,
        threads: int = 1,
    ):
        check(task, perturbation)
        self.kind, self.level = perturbation.kind, perturbation.level
        self.batch: Batch = suites.make(task, env_seeds, threads)
        if self.kind in PHYSICS:
            self.batch.change(self.kind, self.level)
        self.spec, self.shape, self.retire = self.batch.spec, self.batch.shape, self.batch.retire
        self.generators = [np.random.Generator(np.random.PCG64(int(seed))) for seed in noise_seeds.flat]
        self.steps, self.queue = 0, []

    def reset(self) -> np.ndarray:
        """As `Batch.reset`."""
        self.steps, self.queue = 0, []
        return self._seen(self.batch.reset())

    def step(self, actions: np.ndarray) -> Step:
        """As `Batch.step`; `obs` is what is seen, and all else as it is."""
        now = self.batch.step(self._executed(actions))
        self.steps += 1
        return now._replace(obs=self._seen(now.obs))

    def _seen(self, obs: np.ndarray) -> np.ndarray:
        if self.kind == "drop":
            missing = self._uniform()[:, 0] < self.level
            obs[(missing & (self.steps >= ALWAYS_SEEN)).reshape(self.shape)] = np.nan
        elif self.kind == "open_loop" and self.steps >= self.level:
            obs[:] = np.nan
        elif self.kind == "observation_noise":
            obs += np.float32(self.level) * self._normal(obs.shape[2]).reshape(obs.shape)
        return obs

    def _executed(self, actions: np.ndarray) -> np.ndarray:
        if self.kind == "action_delay":
            self.queue.append(actions)
            return self.queue.pop(0) if len(self.queue) > self.level else self.queue[0]  # the first is held
        if self.kind == "action_noise" and self.spec.choices is not None:
            told, chosen = self._uniform(2).T.reshape(2, *self.shape)
            return np.where(told < self.level, (chosen * self.spec.choices).astype(actions.dtype), actions)
        if self.kind == "action_noise":
            low, high = self.spec.bounds
            noise = self._normal(len(low)).reshape(actions.shape)
            return (actions + np.float32(self.level) * (high - low) / 2 * noise).clip(low, high)
        return actions

    def _uniform(self, n: int = 1) -> np.ndarray:  # (S * E, n) float64
        return np.stack([generator.random(n) for generator in self.generators])

    def _normal(self, n: int) -> np.ndarray:  # (S * E, n) float32
        return np.stack([generator.standard_normal(n, np.float32) for generator in self.generators])

"""Perturbed tasks: conditions that a policy was not trained for, and the grid over which it is evaluated.

A perturbation has a kind and a level. Some kinds change the physics, others the observations that the policy
receives or the actions that are executed. The noise of each environment comes from its own generator, in the
same order at every level: a higher level of `drop` hides the same observations, and more.

`rpc_dropout` is the protocol of RPC's authors (google-research/google-research, rpc/rpc_utils.py,
eval_helper_fn): `drop` with policies that act as in training, by sampled actions. Its level 0, the nominal
task for such policies, is a part of the grid.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ascent import suites
from ascent.suites.batch import Batch
from ascent.suites.spec import Spec, Step

VERSION = 1  # version of the results under perturbations, those of runners/robustness.py included

ALWAYS_SEEN = 10  # first steps that `drop` and `rpc_dropout` never hide (RPC's authors, see above)


class Kind(NamedTuple):
    """A kind of perturbation, the levels that are evaluated and the range of valid levels."""

    title: str
    grid: tuple[float, ...]  # the levels that are evaluated
    low: float = 0.0  # lowest valid level
    high: float = 100.0  # highest valid level
    whole: bool = False  # whether levels must be whole numbers
    neutral: float = 0.0  # the level at which nothing is perturbed
    explore: bool = False  # policies act as in training, by sampled actions, instead of greedily


def _scaling(title: str, low: float = 0.0) -> Kind:
    """Return a kind that multiplies a physical quantity by its level."""
    return Kind(title, (0.5, 0.75, 1.25, 1.5, 2.0), low, neutral=1.0)


KINDS = {
    "drop": Kind("observations missing, probability", (0.1, 0.25, 0.5, 0.75, 0.9, 1.0), high=1.0),
    "rpc_dropout": Kind(
        "dropout as RPC's authors test it",
        (0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 1.0),
        high=1.0,
        explore=True,
    ),
    "open_loop": Kind("all missing from step", (300, 100, 30, 10), 1.0, math.inf, True, math.inf),
    "observation_noise": Kind("noise on observations", (0.01, 0.03, 0.1, 0.3)),  # standard deviation
    "adversary": Kind("adversary on observations", (0.01, 0.03, 0.1, 0.3)),  # largest change of a value
    # Continuous: standard deviation in units of half the action range. Discrete: probability of a random
    # action.
    "action_noise": Kind("noise on actions", (0.1, 0.2, 0.4)),
    "action_delay": Kind("actions late, steps", (1, 2, 4), whole=True),
    "mass": _scaling("masses, factor", low=0.01),
    "length": _scaling("lengths, factor", low=0.01),
    "friction": _scaling("friction, factor"),
    "gravity": _scaling("gravity, factor"),
}
PHYSICS = ("mass", "length", "friction", "gravity")
NOMINAL = "nominal"  # the unperturbed task; its level is 0


@dataclass(frozen=True)
class Perturbation:
    """A kind of perturbation, or `NOMINAL`, at a level."""

    kind: str
    level: float

    @property
    def name(self) -> str:
        """The name of the perturbation, for example "drop-0.5"."""
        return f"{self.kind}-{repr(float(self.level)).removesuffix('.0')}"

    @property
    def explore(self) -> bool:
        """Whether policies act as in training, see `Kind`."""
        return self.kind != NOMINAL and KINDS[self.kind].explore


def kinds(task: str) -> tuple[str, ...]:
    """Return the kinds that apply to a task; none apply to a multi-agent task."""
    if suites.TASKS[task].team:
        return ()
    scalable = suites.changes(task)
    return tuple(kind for kind in KINDS if kind not in PHYSICS or kind in scalable)


def grid(task: str) -> tuple[Perturbation, ...]:
    """Return the fixed grid of a task: the nominal task, then every level of every kind that applies."""
    horizon = suites.TASKS[task].horizon
    perturbations = [Perturbation(NOMINAL, 0.0)]
    for kind in kinds(task):
        levels = [level for level in KINDS[kind].grid if kind != "open_loop" or level < horizon]
        perturbations += [Perturbation(kind, level) for level in levels]
    return tuple(perturbations)


def about(task: str) -> list[dict[str, object]]:
    """Return the description of each kind that applies to a task, as records store it.

    It consists of the kind's name, its title, the levels of the grid, and the neutral level, or None if that
    is infinite.
    """
    descriptions: list[dict[str, object]] = []
    for name in kinds(task):
        kind = KINDS[name]
        levels = [perturbation.level for perturbation in grid(task) if perturbation.kind == name]
        neutral = kind.neutral if math.isfinite(kind.neutral) else None
        descriptions.append({"kind": name, "title": kind.title, "levels": levels, "neutral": neutral})
    return descriptions


def check(task: str, perturbation: Perturbation) -> None:
    """Check that a perturbation applies to a task.

    Raises:
        ValueError: the task has no such kind, or the level is invalid; the message is one line.
    """
    kind, level = perturbation.kind, perturbation.level
    if kind == NOMINAL:
        if level != 0:
            raise ValueError(f"{kind}: its level is 0, not {level:g}")
        return
    applicable = kinds(task)
    if kind not in applicable:
        listed = ", ".join(applicable) or "nothing, as it has several agents"
        raise ValueError(f"{task} has no {kind!r} to perturb; it has: {listed}")
    definition = KINDS[kind]
    if kind == "action_noise" and suites.TASKS[task].choices is not None:
        definition = definition._replace(high=1.0)  # a probability
    in_range = math.isfinite(level) and definition.low <= level <= definition.high
    if not in_range or (definition.whole and level != int(level)):
        noun = "a whole number" if definition.whole else "a number"
        limits = f"of at least {definition.low:g}"
        if math.isfinite(definition.high):
            limits = f"from {definition.low:g} to {definition.high:g}"
        raise ValueError(f"{kind}: {level:g} must be {noun} {limits}")


class Perturbed:
    """A task under a perturbation: `Environments` for one episode in each environment.

    A missing observation is NaN. The kind `adversary` changes nothing here, because it needs the policy:
    `runners/robustness.py` implements it.

    Args:
        task: name of the task.
        perturbation: kind and level, see `check`.
        env_seeds: (S, E) integers >= 0, seeds of the environments.
        noise_seeds: (S, E) integers >= 0, seeds of the noise in the perturbation.
        threads: maximum number of threads, as in `ascent.suites.make`.

    Raises:
        ValueError: see `check` and `ascent.suites.make`.
    """

    def __init__(
        self,
        task: str,
        perturbation: Perturbation,
        env_seeds: np.ndarray,
        noise_seeds: np.ndarray,
        threads: int = 1,
    ) -> None:
        check(task, perturbation)
        self.kind, self.level = perturbation.kind, perturbation.level
        self.batch: Batch = suites.make_batch(task, env_seeds, threads)
        if self.kind in PHYSICS:
            self.batch.change(self.kind, self.level)
        self.spec: Spec = self.batch.spec
        self.shape = self.batch.shape
        self.generators = [np.random.Generator(np.random.PCG64(int(seed))) for seed in noise_seeds.flat]
        self.steps = 0
        self.queue: list[np.ndarray] = []  # delayed actions, oldest first

    def reset(self) -> np.ndarray:
        """Begin a new episode in every environment: see `Batch.reset`."""
        self.steps, self.queue = 0, []
        return self._perturb_obs(self.batch.reset())

    def step(self, actions: np.ndarray) -> Step:
        """Step every environment: see `Batch.step`. Only `obs` is perturbed, not `next_obs`."""
        step = self.batch.step(self._perturb_actions(actions))
        self.steps += 1
        return step._replace(obs=self._perturb_obs(step.obs))

    def retire(self, flags: np.ndarray) -> None:
        """Mark environments as not needed: see `Batch.retire`."""
        self.batch.retire(flags)

    def _perturb_obs(self, obs: np.ndarray) -> np.ndarray:
        """Perturb observations (S, E, O) in place and return them."""
        if self.kind in ("drop", "rpc_dropout"):
            missing = self._uniform()[:, 0] < self.level
            obs[(missing & (self.steps >= ALWAYS_SEEN)).reshape(self.shape)] = np.nan
        elif self.kind == "open_loop" and self.steps >= self.level:
            obs[:] = np.nan
        elif self.kind == "observation_noise":
            obs += np.float32(self.level) * self._normal(obs.shape[2]).reshape(obs.shape)
        return obs

    def _perturb_actions(self, actions: np.ndarray) -> np.ndarray:
        """Return the actions that are executed when the policy chooses `actions`."""
        if self.kind == "action_delay":
            self.queue.append(actions)
            # Until the delay has passed, the first action is repeated.
            return self.queue.pop(0) if len(self.queue) > self.level else self.queue[0]
        if self.kind == "action_noise" and self.spec.choices is not None:
            replace, choice = self._uniform(2).T.reshape(2, *self.shape)
            random = (choice * self.spec.choices).astype(actions.dtype)
            return np.where(replace < self.level, random, actions)
        if self.kind == "action_noise" and self.spec.bounds is not None:
            low, high = self.spec.bounds
            noise = self._normal(len(low)).reshape(actions.shape)
            return (actions + np.float32(self.level) * (high - low) / 2 * noise).clip(low, high)
        return actions

    def _uniform(self, n: int = 1) -> np.ndarray:
        """Draw n uniform numbers in [0, 1) for each environment: (S * E, n) float64."""
        return np.stack([generator.random(n) for generator in self.generators])

    def _normal(self, n: int) -> np.ndarray:
        """Draw n standard normal numbers for each environment: (S * E, n) float32."""
        return np.stack([generator.standard_normal(n, np.float32) for generator in self.generators])

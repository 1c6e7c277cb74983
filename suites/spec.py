"""The fixed facts of a task (`Spec`) and the result of one step of a batch (`Step`)."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium import Space, spaces


@dataclass(frozen=True)
class Team:
    """The agents of a multi-agent task. Per-agent values share one axis, in the order of `agents`."""

    agents: tuple[str, ...]  # the N names; they give the order of all per-agent values
    sides: tuple[str, ...]  # the side of each agent: "agent" or "adversary"
    scored: tuple[str, ...]  # the agents whose mean return is the score of an episode
    measures: tuple[tuple[str, str], ...]  # name, and how to reduce it over an episode: "sum", "mean", "last"


@dataclass(frozen=True)
class Spec:
    """The fixed facts of one task. Nothing here depends on a run."""

    id: str  # name of the task; if a package registers the task, its name in that package
    suite: str  # module of this folder that implements the task
    observation_space: Space  # of one environment; in a multi-agent task, a Tuple with one space per agent
    # The action space of one environment. In a multi-agent task it is a Tuple with one space per agent, which
    # is itself a Tuple if the agent both moves and communicates.
    action_space: Space
    horizon: int  # time limit: the episode is truncated after this many steps
    budget: int  # default length of a training run, in environment steps per seed; 0: there is none
    # The mean score of the uniform random policy, measured by `suites/anchors.py`. A foreign task may lack
    # it, or the reference: then it has no normalised scores.
    random_score: float | None
    reference_score: float | None  # score that corresponds to a normalised score of 1
    reference_source: str  # source of reference_score
    return_convention: str  # how the rewards of an episode become its score
    packages: tuple[str, ...]  # distributions the task depends on; a run records their versions
    model: Path | None = None  # model file of the simulator; a run records its digest
    team: Team | None = None  # the agents of a multi-agent task
    # Modules of a foreign task that no distribution installed: name and file; a run records their digests.
    modules: tuple[tuple[str, Path], ...] = ()

    @cached_property
    def observation_size(self) -> int:
        """O: the number of values in an observation, summed over all agents."""
        return spaces.utils.flatdim(self.observation_space)

    @cached_property
    def choices(self) -> np.ndarray | None:
        """The number of discrete actions, () or (N,) integers; None for continuous actions."""
        sizes = [int(leaf.n) for leaf in leaves(self.action_space) if isinstance(leaf, spaces.Discrete)]
        if not sizes:
            return None
        return np.array(sizes) if self.team else np.array(sizes)[0]

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The lower and upper bounds of a continuous action, each (A,) float32; None for discrete actions."""
        boxes = [leaf for leaf in leaves(self.action_space) if isinstance(leaf, spaces.Box)]
        if not boxes:
            return None
        return np.concatenate([box.low for box in boxes]), np.concatenate([box.high for box in boxes])

    @cached_property
    def action_shape(self) -> tuple[int, ...]:
        """The shape of one environment's action: () or (N,) if discrete, (A,) if continuous."""
        if self.choices is not None:
            return self.choices.shape
        return (spaces.utils.flatdim(self.action_space),)

    def score(self, returns: np.ndarray) -> np.ndarray:
        """Return the score (...) of episodes.

        Args:
            returns: undiscounted sums of rewards, (...); in a multi-agent task (..., N), one per agent.
        """
        if not self.team:
            return returns
        return returns[..., [self.team.agents.index(name) for name in self.team.scored]].mean(-1)

    @property
    def columns(self) -> tuple[str, ...]:
        """The task's own columns in tables of episodes: the returns of its agents, then its measures."""
        return (*self.team.agents, *(name for name, _ in self.team.measures)) if self.team else ()

    def facts(self) -> dict[str, object]:
        """Return the facts of the task that the record of a cell keeps."""
        names = ("horizon", "random_score", "reference_score", "reference_source", "return_convention")
        facts: dict[str, object] = {name: getattr(self, name) for name in (*names, "packages")}
        known = {name: fact for name, fact in facts.items() if fact is not None}
        return known | ({"team": asdict(self.team)} if self.team else {})


def leaves(space: Space) -> list[Space]:
    """Return the non-Tuple spaces that make up a space, in order."""
    return [leaf for part in space for leaf in leaves(part)] if isinstance(space, spaces.Tuple) else [space]


class Step(NamedTuple):
    """The result of one step of S x E environments. The caller owns the arrays; no later step writes to them.

    After the end of an episode, `obs` is the first observation of the next episode and `next_obs` the last of
    the ended one. Elsewhere the two are equal.
    """

    obs: np.ndarray  # (S, E, O) float32, the observation to act on next
    reward: np.ndarray  # (S, E) float64; multi-agent (S, E, N)
    terminated: np.ndarray  # (S, E) bool, the task itself ended the episode
    truncated: np.ndarray  # (S, E) bool, the time limit was reached; both may be true at once
    next_obs: np.ndarray  # (S, E, O) float32, the true successor, even at the end of an episode
    unstable: np.ndarray  # (S, E) bool, the simulator met an invalid number in this step and recovered
    measures: np.ndarray  # (S, E, M) float64, measures of this step; M is 0 in a single-agent task

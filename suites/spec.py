"""What a task is (`Spec`) and what one step of a batch returns (`Step`)."""

from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium import Space, spaces


@dataclass(frozen=True)
class Team:
    """The agents of a task that has several. What belongs to agents stands one after the other in an axis."""

    agents: tuple[str, ...]  # N names, in the order of everything that is agent after agent
    sides: tuple[str, ...]  # of each agent, "agent" or "adversary"
    scored: tuple[str, ...]  # the agents whose mean return is the return of an episode
    measures: tuple[tuple[str, str], ...]  # name, and how steps make an episode's: "sum", "mean" or "last"


@dataclass(frozen=True)
class Spec:
    """The fixed facts of one task. Nothing here depends on a run."""

    id: str  # the task's name; where a package registers the task, its name there
    suite: str  # the module of this folder that implements it
    observation_space: Space  # of one environment; of a team a Tuple, one for each agent
    action_space: (
        Space  # of one environment; of a team a Tuple, and of one who moves and speaks another in it
    )
    horizon: int  # time limit: the episode is truncated after this many steps
    budget: int  # default length of a training run, environment steps per seed
    random_score: float  # mean return of the uniform random policy, `python -m ascent.suites.anchors`
    reference_score: float  # the fixed score that a normalised score of 1 stands for
    reference_source: str  # where reference_score comes from
    return_convention: str  # how rewards become the score of an episode
    packages: tuple[str, ...]  # distributions that it runs on; their versions belong to a run's record
    model: Path | None = None  # the simulator's model file; its digest belongs to a run's record
    team: Team | None = None  # of a task with several agents

    @cached_property
    def observation_size(self) -> int:
        """O: numbers in an observation, of all agents together."""
        return spaces.utils.flatdim(self.observation_space)

    @cached_property
    def choices(self) -> np.ndarray | None:
        """How many choices an action has, () or (N,) integers; None where actions are numbers."""
        kinds = leaves(self.action_space)
        if not isinstance(kinds[0], spaces.Discrete):
            return None
        found = np.array([int(kind.n) for kind in kinds])
        return found if self.team else found[0]

    @cached_property
    def bounds(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Smallest and largest numbers (A,) of an action; None where actions are choices."""
        if self.choices is not None:
            return None
        kinds = leaves(self.action_space)
        return np.concatenate([k.low for k in kinds]), np.concatenate([k.high for k in kinds])

    @cached_property
    def action_shape(self) -> tuple[int, ...]:
        """Of one environment's action: () or (N,) of choices, (A,) of numbers."""
        return self.bounds[0].shape if self.choices is None else self.choices.shape

    def score(self, returns: np.ndarray) -> np.ndarray:
        """The return (...) of an episode from what its rewards add up to: (...), or (..., N) of a team."""
        if not self.team:
            return returns
        return returns[..., [self.team.agents.index(name) for name in self.team.scored]].mean(-1)

    @property
    def columns(self) -> tuple[str, ...]:
        """The task's own columns in tables of episodes: the returns of its agents, its measures."""
        return (*self.team.agents, *(name for name, _ in self.team.measures)) if self.team else ()

    def facts(self) -> dict[str, object]:
        """What the record of a cell keeps of its task, for whoever reads it."""
        names = ("horizon", "random_score", "reference_score", "reference_source", "return_convention")
        facts: dict[str, object] = {name: getattr(self, name) for name in (*names, "packages")}
        return facts | ({"team": asdict(self.team)} if self.team else {})


def leaves(space: Space) -> list[Space]:
    """The spaces that a space consists of, in order: itself, unless it is a Tuple."""
    return [leaf for part in space for leaf in leaves(part)] if isinstance(space, spaces.Tuple) else [space]


class Step(NamedTuple):
    """One step of S x E environments. The arrays belong to the caller: later steps do not write into them."""

    obs: np.ndarray  # (S, E, O) float32, to act on next; where an episode ended, the first of the next one
    reward: np.ndarray  # (S, E) float64, of a team (S, E, N)
    terminated: np.ndarray  # (S, E) bool, the task itself ended the episode
    truncated: np.ndarray  # (S, E) bool, the time limit was reached; both may be true at once
    next_obs: np.ndarray  # (S, E, O) float32, the true successor, also where an episode ended
    unstable: np.ndarray  # (S, E) bool, the simulator met a bad number in this step and put itself right
    measures: np.ndarray  # (S, E, M) float64, of this step; M is 0 without a team

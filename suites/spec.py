"""What a task is (`Spec`) and what one step of a batch returns (`Step`)."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gymnasium import Space


@dataclass(frozen=True)
class Spec:
    """The fixed facts of one task. Nothing here depends on a run."""

    id: str  # the task's name, as its package registers it
    suite: str  # the module of this folder that implements it
    observation_space: Space  # of one environment
    action_space: Space  # of one environment
    horizon: int  # time limit: the episode is truncated after this many steps
    budget: int  # default length of a training run, environment steps per seed
    random_score: float  # mean return of the uniform random policy, `python -m suites.anchors`
    reference_score: float  # the fixed score that a normalised score of 1 stands for
    reference_source: str  # where reference_score comes from
    return_convention: str  # how rewards become the score of an episode
    packages: tuple[str, ...]  # distributions that define the task; their versions belong to a run's record
    model: Path | None = None  # the simulator's model file; its digest belongs to a run's record

    def facts(self) -> dict[str, object]:
        """What the record of a cell keeps of its task, for whoever reads it."""
        names = ("horizon", "random_score", "reference_score", "reference_source", "return_convention")
        return {name: getattr(self, name) for name in (*names, "packages")}


class Step(NamedTuple):
    """One step of S x E environments. The arrays belong to the caller: later steps do not write into them."""

    obs: np.ndarray  # (S, E, O) float32, to act on next; where an episode ended, the first of the next one
    reward: np.ndarray  # (S, E) float64
    terminated: np.ndarray  # (S, E) bool, the task itself ended the episode
    truncated: np.ndarray  # (S, E) bool, the time limit was reached; both may be true at once
    next_obs: np.ndarray  # (S, E, O) float32, the true successor, also where an episode ended
    unstable: np.ndarray  # (S, E) bool, the simulator met a bad number in this step and put itself right

"""What a sweep declares before its first run: the settings of its report, and the stages of its seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isfinite
from typing import Any

from ascent.records.errors import InputError, unknown

# How a run becomes a score: functions of `ascent.reports.statistics.estimators`. The first is the default.
ESTIMATORS = (
    "mean_of_last_ten", "final", "peak_of_mean_curve", "mean_of_per_seed_peaks", "area",
    "last_100_training_episodes",
)  # fmt: skip
MOST_STAGED_SEEDS = 1_000  # of a design: there are no more reporting seeds
RETURN = "return"  # the score of tasks of which no measure is declared


@dataclass(frozen=True)
class Declared:
    """The `[report]` table of a sweep.

    Raises:
        InputError: unknown estimator, a threshold that is not finite, or a score that is no name.
    """

    estimator: str = ESTIMATORS[0]  # of every headline number
    # What the score of an episode is: its return or a measure of the task, for all tasks or by task.
    score: str | dict[str, str] = RETURN
    # What all others are compared with: a system such as "sac", or one setting of it, such as "rpc
    # (no_bottleneck)" or "rpc (code with rate=3.0)"; where the sweep names its systems, one of these names.
    # Empty: compare all pairs.
    baseline: str = ""
    threshold: float = 0.5  # normalised score, for "steps to threshold"

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown("estimator", self.estimator, ESTIMATORS)
        if not isfinite(self.threshold):
            raise InputError(f"threshold must be finite, not {self.threshold}")
        for name in self.score.values() if isinstance(self.score, dict) else [self.score]:
            if not isinstance(name, str):
                raise InputError(f"score must be the name of a measure, not {name!r}")

    def is_baseline(self, system: str, setting: str) -> bool:
        """Return whether the declared baseline is this system, or this setting of it; see `cell.setting`."""
        return self.baseline in (system, f"{system} ({setting})")

    def score_of(self, task: str, measures: Sequence[str]) -> str:
        """Return what the score of a task's episodes is: "return" or one of the task's `measures`.

        Raises:
            InputError: the task has no such measure.
        """
        score = self.score.get(task, RETURN) if isinstance(self.score, dict) else self.score
        if score != RETURN and score not in measures:
            raise unknown(f"score of {task}:", score, [RETURN, *measures])
        return score


@dataclass(frozen=True)
class Design:
    """The `[design]` table of a sweep: its seeds are trained stage by stage, in ascending order.

    After each stage, cells whose comparisons are all decided get no further seeds; see
    `ascent.reports.statistics.stages`.

    Raises:
        InputError: fewer than two stages, a stage without seeds, or a share that is none.
    """

    stages: tuple[int, ...]  # seeds per cell in each stage
    # Undecided comparisons whose chance of a claim by the last stage is below this are given up; 0: none.
    futility: float = 0.0

    def __post_init__(self) -> None:
        if len(self.stages) < 2:
            raise InputError(f"stages must be two or more numbers of seeds, not {list(self.stages)}")
        for size in self.stages:
            if not isinstance(size, int) or isinstance(size, bool) or size < 1:
                raise InputError(f"stages must be whole numbers from 1, not {size!r}")
        if self.stages[0] < 2:
            raise InputError("stages: the first one needs at least two seeds")
        if self.ends[-1] > MOST_STAGED_SEEDS:
            raise InputError(f"stages must have at most {MOST_STAGED_SEEDS:,} seeds, not {self.ends[-1]:,}")
        if not 0 <= self.futility < 0.5:
            raise InputError(f"futility must be at least 0 and below 0.5, not {self.futility}")

    @property
    def ends(self) -> tuple[int, ...]:
        """The number of seeds of a cell after each stage."""
        return tuple(accumulate(self.stages))

    @classmethod
    def of(cls, tables: Mapping[str, Any]) -> "Design | None":
        """Return the design among the further tables of a sweep; None if it declares none.

        Raises:
            InputError: the table is not valid.
        """
        table = tables.get("design")
        if table is None:
            return None
        if not isinstance(table, Mapping) or not isinstance(table.get("stages"), list | tuple):
            raise InputError("design needs stages, such as stages = [5, 5, 5, 5]")
        if others := [key for key in table if key not in ("stages", "futility")]:
            raise unknown("key in design", str(others[0]), ["stages", "futility"])
        futility = table.get("futility", 0.0)
        if not isinstance(futility, int | float) or isinstance(futility, bool):
            raise InputError(f"futility must be a number, not {futility!r}")
        return cls(tuple(table["stages"]), float(futility))

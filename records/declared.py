"""The report settings that a sweep declares before its first run."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

from ascent.records.errors import InputError, unknown

# How a run becomes a score: functions of `ascent.reports.statistics.estimators`. The first is the default.
ESTIMATORS = (
    "mean_of_last_ten", "final", "peak_of_mean_curve", "mean_of_per_seed_peaks", "area",
    "last_100_training_episodes",
)  # fmt: skip
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
    # (no_bottleneck)" or "rpc (code with rate=3.0)". Empty: compare all pairs.
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

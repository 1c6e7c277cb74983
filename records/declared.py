"""The report settings that a sweep declares before its first run."""

from dataclasses import dataclass
from math import isfinite

from ascent.records.errors import InputError, unknown

# How a run becomes a score: functions of `ascent.reports.statistics.estimators`. The first is the default.
ESTIMATORS = (
    "mean_of_last_ten", "final", "peak_of_mean_curve", "mean_of_per_seed_peaks", "area",
    "last_100_training_episodes",
)  # fmt: skip


@dataclass(frozen=True)
class Declared:
    """The `[report]` table of a sweep.

    Raises:
        InputError: unknown estimator, or a threshold that is not finite.
    """

    estimator: str = ESTIMATORS[0]  # of every headline number
    # What all others are compared with: a system such as "sac", or one setting of it, such as "rpc
    # (no_bottleneck)" or "rpc (code with rate=3.0)". Empty: compare all pairs.
    baseline: str = ""
    threshold: float = 0.5  # normalised score, for "steps to threshold"

    def __post_init__(self) -> None:
        if self.estimator not in ESTIMATORS:
            raise unknown("estimator", self.estimator, ESTIMATORS)
        if not isfinite(self.threshold):
            raise InputError(f"threshold must be finite, not {self.threshold}")

    def is_baseline(self, system: str, setting: str) -> bool:
        """Return whether the declared baseline is this system, or this setting of it; see `cell.setting`."""
        return self.baseline in (system, f"{system} ({setting})")

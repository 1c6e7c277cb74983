"""Published results: the rows of the CSV files in `references/`, validated as they are read.

published.csv holds the scores and sources.csv their sources; margins.csv holds, per task family, how far two
means may be apart and still count as equal, fixed beforehand and with a reason; environments.csv lists what
each version of an environment changed.
"""

import csv
import math
import re
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from ascent.records.read import IMPORTED

FOLDER = Path(__file__).parents[1] / "references"

SpreadKind = Literal["std1", "std0", "std", "se", "ci95", "episodes", "unclear", "none"]
Estimator = Literal[
    "final", "mean_of_last_ten", "peak_of_mean_curve", "mean_of_per_seed_peaks", "last_100_training_episodes"
]
Number = Annotated[float, Field(allow_inf_nan=False)]
_Empty = BeforeValidator(lambda value: None if value == "" else value)  # an empty field of a CSV file
_NO_STD = {
    "ci95": "the spread is a bootstrap interval, which gives no standard deviation",
    "episodes": "the spread is over evaluation episodes of one run, not over seeds",
    "unclear": 'what the printed "+-" means is not stated',
    "none": "no spread is published",
}


class _Row(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True)


class Reference(_Row):
    """A published score: a row of published.csv."""

    source: Annotated[str, Field(min_length=1)]  # key in sources.csv
    locator: Annotated[str, Field(min_length=1)]  # table, figure or file in the source
    system: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]  # name of the algorithm in this suite
    preset: str  # the preset with the settings of the source; "" if there is none
    printed: str  # name of the algorithm as printed
    family: str  # the task without its version
    environment: str  # the task as printed, with its version
    variant: str  # changes to the registered environment
    steps: Annotated[int, Field(gt=0)]  # environment steps per seed
    estimator: Estimator  # the same estimator here, or the nearest one
    metric: Annotated[str, Field(min_length=1)]  # description of the score
    n: Annotated[Annotated[int, Field(ge=1)] | None, _Empty]  # number of seeds; None if not stated exactly
    mean: Number
    spread: Annotated[Annotated[Number, Field(ge=0)] | None, _Empty]
    low: Annotated[Number | None, _Empty]  # lower limit, for ci95
    high: Annotated[Number | None, _Empty]  # upper limit, for ci95
    spread_kind: SpreadKind
    spread_printed: str  # the kind of spread in the words of the source
    algorithm_differs: str  # how the algorithm differs, or may differ, from ours
    no_verdict: str  # reason why no verdict may be given, whatever the spread
    notes: str
    score: Annotated[str, Field(min_length=1)]  # "return", or the measure of the task that it is of
    # Of a peak: over how many evaluations after step 0 it was taken, and whether over that of step 0, too.
    evaluations: Annotated[Annotated[int, Field(ge=1)] | None, _Empty]
    step_0: Literal["yes", "no", ""]
    policy: Literal["greedy", "sampled", ""]  # how it acted in evaluations; "" if not known, or of training

    @property
    def std(self) -> float | None:
        """Standard deviation over seeds (ddof 1), derived from the printed spread; None if it cannot be.

        A "std" without a stated ddof is read as ddof 0. That gives the larger value, which makes every
        verdict but "inconclusive" harder to reach.
        """
        if self.spread is None or self.n is None or self.n < 2:
            return None
        if self.spread_kind in ("std0", "std"):
            return self.spread * math.sqrt(self.n / (self.n - 1))
        if self.spread_kind == "se":
            return self.spread * math.sqrt(self.n)
        return self.spread if self.spread_kind == "std1" else None

    @property
    def sampled(self) -> bool:
        """Whether the policy sampled its actions in the evaluations."""
        return self.policy == "sampled"

    @property
    def obstacle(self) -> str:
        """Reason why no verdict is possible; "" if one is."""
        if self.no_verdict or self.spread_kind in _NO_STD:
            return self.no_verdict or _NO_STD[self.spread_kind]
        if self.n is None:
            return "the exact number of seeds is not stated"
        return "it is a single run" if self.n < 2 else ""


class Source(_Row):
    """The source of published scores: a row of sources.csv. `bibtex` is the key of its BibTeX entry."""

    source: str
    citation: str
    where: str
    bibtex: str
    year: Annotated[int | None, _Empty]


class Margin(_Row):
    """Largest difference of two equal means, in units of return, and its reason: a row of margins.csv."""

    family: str
    margin: Annotated[Number, Field(gt=0)]
    reason: Annotated[str, Field(min_length=1)]


class Change(_Row):
    """A change that version `since` of an environment made, with its source: a row of environments.csv."""

    family: str
    since: int
    difference: str
    source: str


@cache
def references() -> tuple[Reference, ...]:
    """Return all published scores.

    Raises:
        pydantic.ValidationError: a row is invalid.
    """
    return tuple(Reference(**row) for row in _rows("published.csv"))


@cache
def sources() -> dict[str, Source]:
    """Return the sources of published scores by key."""
    return {row["source"]: Source(**row) for row in _rows("sources.csv")}


@cache
def margins() -> dict[str, Margin]:
    """Return the equivalence margins by task family."""
    return {row["family"]: Margin(**row) for row in _rows("margins.csv")}


@cache
def changes() -> tuple[Change, ...]:
    """Return the changes between versions of environments."""
    return tuple(Change(**row) for row in _rows("environments.csv"))


def _rows(name: str) -> list[dict[str, Any]]:
    with open(FOLDER / name, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, strict=True))


def split_version(task: str) -> tuple[str, int | None]:
    """Return the family and the version of a task's name, such as Hopper-v5 or simple_spread_v3.

    The version is None where the name has none. A variant with continuous actions belongs to the same family:
    its rewards are the same.
    """
    match = re.fullmatch(r"(.+)[-_]v(\d+)(-continuous)?", task)
    return (match[1], int(match[2])) if match else (task, None)


def algorithm_of(facts: dict[str, Any]) -> str:
    """Return the algorithm of a cell, from its cell.json: some settings turn one algorithm into another.

    Of imported curves it is the one that was named when they were imported, "" if none was.
    """
    algorithm, config = facts["algorithm"], facts["config"]
    if algorithm == IMPORTED:
        return str(config.get("algorithm", ""))
    if algorithm == "sac":
        tuned = config.get("tune_alpha", config.get("tune", facts["system"] != "sac-fixed"))
        return "sac" if tuned else "sac-fixed"
    if config.get("local_critic") or config.get("local_value"):
        return {"maddpg": "iddpg", "mappo": "ippo"}.get(algorithm, algorithm)
    return "double-dqn" if algorithm == "dqn" and config.get("double") else algorithm

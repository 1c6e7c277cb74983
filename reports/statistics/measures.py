"""What the score of an episode is: its return, or a measure of the task that a sweep declares.

A measure has no random and no reference score, so scores by a measure are never normalised and never averaged
across tasks. Which way it is better is decided here, for the agents that the task scores.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from ascent.records.declared import RETURN
from ascent.reports.statistics.published import split_version

# By scenario of the particle worlds; all other measures are better if they are higher.
LOWER_IS_BETTER = {
    "simple": {"distance"},
    "simple_adversary": {"adversary_reached"},
    "simple_crypto": {"eve_right"},
    "simple_push": {"agent_distance"},
    "simple_reference": {"distance"},
    "simple_speaker_listener": {"distance"},
    "simple_spread": {"collisions", "distance"},
    "simple_tag": {"contacts"},
    "simple_world_comm": {"contacts"},
}
_REDUCED = {
    "sum": "sum over an episode",
    "mean": "mean over an episode",
    "last": "value at an episode's last step",
}


@dataclass(frozen=True)
class Measured:
    """What a score is: its name, how an episode becomes it, and whether a lower one is better."""

    name: str = RETURN
    reduced: str = ""
    lower: bool = False

    @property
    def is_return(self) -> bool:
        """Whether the score is the return, which has anchors and published values."""
        return self.name == RETURN

    @property
    def sign(self) -> int:
        """1 if a higher score is better, else -1."""
        return -1 if self.lower else 1

    @property
    def better(self) -> str:
        """Which way the score is better, in words."""
        return "lower is better" if self.lower else "higher is better"

    @property
    def text(self) -> str:
        """The score in words, such as "reached (value at an episode's last step; higher is better)"."""
        return self.name if self.is_return else f"{self.name} ({_REDUCED[self.reduced]}; {self.better})"


RETURNS = Measured()


def measured(task: str, score: str, measures: Mapping[str, str]) -> Measured:
    """Return what a score of a task is: its return, or one of its measures (name -> reduction)."""
    if score == RETURN:
        return RETURNS
    scenario = split_version(task)[0].removesuffix("-openai")
    return Measured(score, measures[score], score in LOWER_IS_BETTER.get(scenario, ()))

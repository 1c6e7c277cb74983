"""What `verify` says of a report, a cell or a run: the grade that it reaches, or why it reaches none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.text import Text

from ascent.records.errors import one_line
from ascent.reports.checking.grades import GRADES, grade

REBUILT, DIFFERS, CANNOT = "rebuilt", "DIFFERS", "cannot be verified"
STYLES = {REBUILT: "green", **dict.fromkeys(GRADES, "green"), DIFFERS: "bold red", CANNOT: "yellow"}


@dataclass(frozen=True)
class Outcome:
    """The verdict on a report, a cell or a run, with the reason.

    `verdict` is a grade, REBUILT for a report that comes out again, DIFFERS or CANNOT. `unknown` says why the
    origin of the sources is not known; empty if it is.
    """

    where: str
    verdict: str
    reason: str
    unknown: tuple[str, ...] = ()

    @property
    def words(self) -> str:
        """The verdict as it is printed."""
        return grade(self.verdict, self.unknown) if self.verdict in GRADES else self.verdict


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 1 if anything differs, else 2 if anything cannot be verified or is of unknown origin, else 0."""
    verdicts = {outcome.verdict for outcome in outcomes}
    if DIFFERS in verdicts:
        return 1
    return 2 if not verdicts or CANNOT in verdicts or any(outcome.unknown for outcome in outcomes) else 0


def render(outcomes: Sequence[Outcome]) -> Text:
    """Return the outcomes as text, each with its reasons, followed by their counts."""
    text = Text()
    for outcome in outcomes:
        doubtful = outcome.words != outcome.verdict
        text.append(outcome.words, STYLES[CANNOT] if doubtful else STYLES[outcome.verdict])
        text.append(f"  {one_line(outcome.where)}\n")
        lines = [*outcome.reason.splitlines(), *outcome.unknown]
        text.append("".join(f"    {one_line(line)}\n" for line in lines))
    order = list(STYLES)
    counts = Counter((order.index(outcome.verdict), outcome.words) for outcome in outcomes)
    return text.append(", ".join(f"{count} {words}" for (_, words), count in sorted(counts.items())))

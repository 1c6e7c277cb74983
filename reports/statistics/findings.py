"""Findings: what the statistics of a report say, a sentence each, for readers who read nothing else.

Every sentence is made from tests, intervals and counts that the report shows in full; none adds a number.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ascent.records.declared import Declared
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import Comparisons, baselines
from ascent.reports.statistics.equivalence import DIFFERENT, REPRODUCED
from ascent.reports.statistics.ranking import better_and_worse, standings
from ascent.reports.statistics.verdicts import Verdict

RESULT, CAUTION = "result", "caution"
MOST_NAMES = 6  # systems that a sentence lists; of more it gives the number


@dataclass(frozen=True)
class Finding:
    """A sentence, and whether it is a result or something to be careful about."""

    kind: str
    text: str


def findings(
    tasks: Sequence[Task], comparisons: Comparisons, verdicts: Sequence[Verdict], declared: Declared
) -> list[Finding]:
    """Return the findings of a report: results first, across tasks before single tasks."""
    results = [*_across(comparisons), *_within(tasks, comparisons, declared), *_published(verdicts)]
    cautions = [*_incomplete(tasks), *_failures(tasks), *_unreachable(comparisons)]
    return [Finding(RESULT, text) for text in results] + [Finding(CAUTION, text) for text in cautions]


def names(labels: Sequence[str], conjunction: str = "and", kind: str = "systems") -> str:
    """Return labels as a list in a sentence: "a", "a and b", "a, b and c", "12 systems"."""
    if len(labels) > MOST_NAMES:
        return f"{len(labels)} {kind}"
    return f" {conjunction} ".join(filter(None, [", ".join(labels[:-1]), *labels[-1:]]))


def _across(comparisons: Comparisons) -> Iterator[str]:
    ranked = standings(comparisons)
    if len(ranked) < 2:
        return
    first, *others = ranked
    tied = [standing.label for standing in others if standing.value.high >= first.value.low]
    value = f"{first.value.value:.2f} [{first.value.low:.2f}, {first.value.high:.2f}]"
    tasks = f"{len(comparisons.groups[0].tasks)} tasks"
    text = f"Across {tasks}, {first.label} has the highest normalised score: {value}."
    overlap = f"It overlaps the {'interval' if len(tied) == 1 else 'intervals'} of {names(tied)}."
    text += f" {overlap}" if tied else " Its interval overlaps no other."
    yield text


def _within(tasks: Sequence[Task], comparisons: Comparisons, declared: Declared) -> Iterator[str]:
    """Yield what was shown on each task: about its best system or, with a baseline, about all others."""
    baseline_labels = baselines(tasks, declared)
    for task in tasks:
        pairs = [pair for pair in comparisons.pairs if pair.task is task]
        if not pairs:
            continue
        claims = [better_and_worse(pair) for pair in pairs if pair.differs]
        if baseline := declared.baseline:
            better = sorted(x.label for x, y in claims if y.label in baseline_labels)
            worse = sorted(y.label for x, y in claims if x.label in baseline_labels)
            parts = [f"{names(better)} scored better than {baseline}"] if better else []
            parts += [f"{names(worse)} scored worse than {baseline}"] if worse else []
            rest = len(pairs) - len(claims)
            parts += [f"{rest} of {len(pairs)} comparisons show no difference"] if rest else []
            yield f"{task.title}: {'; '.join(parts)}."
            continue
        if (best := _best(task)) is None:  # between two stages of a design
            continue
        beaten = sorted(y.label for x, y in claims if x is best)
        alike = sorted(
            _other(pair.x, pair.y, best) for pair in pairs if not pair.differs and best in (pair.x, pair.y)
        )
        text = f"{task.title}: {best.label} has the {'lowest' if task.measured.lower else 'highest'} mean"
        if beaten:
            text += f", and scored better than {names(beaten)}"
        if alike:
            text += f"{';' if beaten else ', but'} no difference was shown from {names(alike, 'or')}"
        yield text + "."


def _best(task: Task) -> CellSummary | None:
    compared = [summary for group in task.groups for summary in group if summary.score]
    return max(
        compared,
        key=lambda summary: task.measured.sign * summary.score.mean if summary.score else 0.0,
        default=None,
    )


def _other(x: CellSummary, y: CellSummary, one: CellSummary) -> str:
    return y.label if x is one else x.label


def _published(verdicts: Sequence[Verdict]) -> Iterator[str]:
    """Yield, for each system, on which tasks published scores were reproduced and on which they were not."""
    outcomes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for verdict in verdicts:
        outcomes[verdict.summary.label][verdict.verdict].append(verdict.task.title)
    for label, found in outcomes.items():
        parts = []
        if tasks := found.get(REPRODUCED):
            parts.append(f"reproduces {_scores(tasks)}")
        if tasks := found.get(DIFFERENT):
            parts.append(f"differs from {_scores(tasks)}")
        if parts:
            yield f"Published results: {label} {' and '.join(parts)}."


def _scores(tasks: Sequence[str]) -> str:
    count = "a published score" if len(tasks) == 1 else f"{len(tasks)} published scores"
    return f"{count} on {names(list(dict.fromkeys(tasks)), kind='tasks')}"


def _incomplete(tasks: Sequence[Task]) -> Iterator[str]:
    cells = [summary for task in tasks for summary in task.cells]
    lacking = [summary for summary in cells if summary.score is None]
    if lacking:
        yield f"{len(lacking)} of {len(cells)} cells have no score: they are incomplete, or mix versions."


def _failures(tasks: Sequence[Task]) -> Iterator[str]:
    for task in tasks:
        failed = [
            f"{summary.score.failures} of {summary.score.n} runs of {summary.label}"
            for summary in task.cells
            if summary.score and summary.score.failures
        ]
        if failed:
            of = names(failed, kind="systems have runs that")
            yield f"{task.title}: {of} diverged; they count in the score."


def _unreachable(comparisons: Comparisons) -> Iterator[str]:
    if comparisons.unreachable:
        yield (
            f"{comparisons.unreachable} of {len(comparisons.pairs)} comparisons cannot become significant "
            "with so few seeds, whatever the scores."
        )

"""What the command line says of a tuning: a line after each round, and tables of its trials at the end."""

import json
from collections.abc import Iterator, Sequence

from rich.table import Table

from ascent.records.progress import duration
from ascent.records.read import short_hours
from ascent.reports.tuning.declaration import Tuning
from ascent.reports.tuning.record import core_hours
from ascent.reports.tuning.search import COMPLETE, PRUNED, REFUSED, Trial, best, importances

MOST_TRIALS = 5  # in the table


def progress(tuning: Tuning, trials: Sequence[Trial], seconds_left: float) -> str:
    """Return how far a tuning is, in a line."""
    found = best(trials)
    parts = [
        f"{len(trials)} of {tuning.trials} trials",
        f"best score {found.score:.4g} (trial {found.number})",
        f"{short_hours(core_hours(trials))} core-hours",
    ]
    if len(trials) < tuning.trials:
        parts.append(f"about {duration(seconds_left)} left")
    return ", ".join(parts)


def summary(tuning: Tuning, trials: Sequence[Trial]) -> Iterator[Table | str]:
    """Yield a table of the best trials, one of what the score depends on, and the cost."""
    complete = sorted(
        (trial for trial in trials if trial.state == COMPLETE), key=lambda t: (-(t.score or 0.0), t.number)
    )
    table = Table("trial", "score", *tuning.space, box=None, pad_edge=False)
    shown = complete[:MOST_TRIALS]
    if tuning.start() is not None and complete and trials[0] not in shown:
        shown = [*shown, trials[0]]  # the preset
    for trial in shown:
        name = (
            f"{trial.number} (preset)" if trial.number == 0 and tuning.start() is not None else trial.number
        )
        values = [value if isinstance(value, str) else json.dumps(value) for value in trial.values.values()]
        table.add_row(str(name), f"{trial.score:.4g}", *values)
    yield table
    yield ""
    shares = importances(tuning, trials)
    if shares:
        yield "importance: " + ", ".join(f"{name} {share:.0%}" for name, share in shares.items())
    counts = [f"{sum(t.state == state for t in trials)} {state}" for state in (COMPLETE, PRUNED, REFUSED)]
    kinds = ", ".join(text for text in counts if not text.startswith("0 "))
    if refused := [trial for trial in trials if trial.state == REFUSED]:
        yield f"refused: trial {refused[0].number}: {refused[0].reason}"
    runs = sum(trial.seeds * len(tuning.tasks) for trial in trials)
    yield f"{len(trials)} trials ({kinds}), {runs} runs, {short_hours(core_hours(trials))} core-hours"

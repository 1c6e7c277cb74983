"""What the tables of a run hold so far, whether it is finished, running or interrupted."""

import csv
import io
from dataclasses import dataclass

from ascent.records.errors import InputError
from ascent.records.store import Store

MOST_ROWS = 1_000_000  # of a table


@dataclass(frozen=True)
class Point:
    """The mean of some episodes at a step."""

    step: int
    value: float


def rows(store: Store, seed: int, name: str) -> list[dict[str, str]]:
    """Return the rows of a table, by column; a last line that is still being written is left out.

    A run without the table has none, and neither has one whose table cannot be read.
    """
    try:
        data = store.read(seed, name)
    except (OSError, InputError):
        return []
    text = data[: data.rfind(b"\n") + 1].decode(errors="replace")
    found = []
    for number, row in enumerate(csv.DictReader(io.StringIO(text))):
        if number < MOST_ROWS and None not in row and None not in row.values():
            found.append(row)
    return found


def evaluations(
    episodes: list[dict[str, str]], policy: str = "greedy", column: str = "return"
) -> list[Point]:
    """Return the mean of a column over the episodes of each evaluation, given the rows of eval.csv."""
    played = [row for row in episodes if row.get("policy") == policy]
    return means([(row["step"], row[column]) for row in played if "step" in row and column in row])


def means(pairs: list[tuple[str, str]]) -> list[Point]:
    """Return the means of values by step, both as a table has them. What is no number does not count."""
    by_step: dict[int, list[float]] = {}
    for step, value in pairs:
        try:
            by_step.setdefault(int(step), []).append(float(value))
        except ValueError:
            continue
    return [Point(step, sum(values) / len(values)) for step, values in sorted(by_step.items()) if values]

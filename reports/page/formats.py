"""Number formatting for the page, for Markdown and LaTeX tables, and for citations."""

import math

from ascent.reports.statistics.aggregate import Score, Task
from ascent.reports.statistics.intervals import Mean, unanimous


def decimals(task: Task) -> int:
    """Return the decimal places for a task: four significant figures of its largest score, at most four."""
    scores = [summary.score for summary in task.cells if summary.score]
    largest = max((abs(value) for score in scores for value, _ in (score.worst, score.best)), default=0.0)
    return 1 if largest == 0 else min(max(3 - math.floor(math.log10(largest)), 0), 4)


def number(value: float, places: int) -> str:
    """Return a number in fixed point with thousands separators; never "-0.0"."""
    text = f"{value:,.{places}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def interval(low: float | None, high: float | None, places: int) -> str:
    """Return "[low, high]"; without limits, "no interval"."""
    if low is None or high is None:
        return "no interval"
    return f"[{number(low, places)}, {number(high, places)}]"


def student_limits(score: Score | Mean, places: int) -> str:
    """Return the Student-t limits of a mean as text, or why there are none."""
    return interval(score.low, score.high, places) + (f" ({score.no_limits})" if score.no_limits else "")


def mean_text(mean: Mean, places: int) -> str:
    """Return a mean with its Student-t limits, or why there are none; "" where it is NaN."""
    return "" if math.isnan(mean.value) else f"{number(mean.value, places)} {student_limits(mean, places)}"


def median_limits(score: Score, places: int) -> str:
    """Return the interval of the median as text, or why there is none.

    Where all runs are equal, the text says how many of all possible runs are at that score at least.
    """
    found = score.median_interval
    if found is None:
        return f"no interval (n={score.n})"
    if score.worst[0] == score.best[0]:
        return f"in at least {unanimous(score.n):.0%} of all runs"
    return interval(found.low, found.high, places)


def limits(value: float | None, low: float | None, high: float | None, places: int) -> str:
    """Return "value [low, high]", without the parts that are None or NaN."""
    text = "" if value is None or math.isnan(value) else number(value, places)
    return text if low is None or math.isnan(low) else f"{text} {interval(low, high, places)}"


def p_value(p: float) -> str:
    """Return a p value with three decimal places; "" where the test is undefined."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def short_steps(steps: float) -> str:
    """Return a number of steps in short: 200000 -> "200k", 1500000 -> "1.5M"."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if abs(steps) >= unit:
            return f"{steps / unit:g}{name}"
    return f"{steps:g}"

"""Parts of the page on verdicts "different": what they depend on, by the records of the shelf."""

from collections.abc import Callable
from functools import partial

import numpy as np

from ascent.reports.page.formats import decimals, number, short_steps
from ascent.reports.statistics.equivalence import DIFFERENT, Equivalence, equivalence
from ascent.reports.statistics.estimators import PEAKS, final
from ascent.reports.statistics.verdicts import DESCRIPTIVE, Verdict
from docs.generators import results
from docs.generators.tables import code, table

# Cells that the page looks into: name of the part -> system, setting, task.
CELLS = {
    "dqn_mountaincar": ("dqn", "zoo", "MountainCar-v0"),
    "ppo_halfcheetah": ("ppo", "cleanrl", "HalfCheetah-v5"),
    "a2c_halfcheetah": ("a2c", "zoo", "HalfCheetah-v5"),
    "a2c_hopper": ("a2c", "zoo", "Hopper-v5"),
    "reinforce_halfcheetah": ("reinforce", "default", "HalfCheetah-v5"),
    "trpo_halfcheetah": ("trpo", "zoo", "HalfCheetah-v5"),
}
LAST = 10  # evaluations
COLUMNS = (
    "published by", "estimator", "here", "published", "difference", "margin", "each of the last ten",
    "without one seed",
)  # fmt: skip
PROTOCOLS = (
    "task",
    "system",
    "of",
    "published",
    "sampled: here, verdict",
    "difference",
    "greedy: here, what the verdict would be",
)


def different() -> list[Verdict]:
    """Return the verdicts of the page."""
    return [each for each in results.judged() if each.verdict == DIFFERENT]


def cell_of(verdict: Verdict) -> tuple[str, str, str]:
    """Return system, setting and task of a verdict."""
    cell = verdict.summary.cell
    return cell.name.system, cell.setting, verdict.task.name


def part(name: str) -> str:
    """Return what is measured of a cell: its verdicts "different", its seeds, and its other verdicts."""
    system, _, task = CELLS[name]
    shown = [each for each in different() if cell_of(each) == CELLS[name]]
    if not shown:
        return "No verdict on this cell is *different* any more.\n"
    others = [
        each
        for each in results.judged()
        if (each.summary.cell.name.system, each.task.name) == (system, task)
        and each not in shown
        and (each.verdict != DESCRIPTIVE or each.reference.preset == each.summary.cell.setting)
    ]
    text = table(COLUMNS, map(_row, shown)) + f"\n{_seeds(shown[0])}\n"
    if others:
        text += "\nOther comparisons on this task that have a test, or the preset of the source:\n\n"
        text += results.verdict_table(others)
    return text


def _row(verdict: Verdict) -> tuple[str, ...]:
    places, ours, margin = decimals(verdict.task), verdict.ours, verdict.margin
    assert ours and margin and verdict.test  # as the verdict is "different"
    return (
        f"{verdict.reference.environment}, {code(verdict.reference.source)}",
        verdict.estimator.replace("_", " "),
        f"{_spread(ours.mean, ours.std, places)}, n={ours.n}",
        results.published(verdict, places),
        results.difference(verdict, places),
        number(margin.margin, places),
        last_ten(verdict),
        without_one(verdict),
    )


def last_ten(verdict: Verdict) -> str:
    """Return at how many of the last ten evaluations a verdict on the final one would be the same.

    "" for sampled actions, which only the last evaluation has.
    """
    curves = verdict.summary.curves
    if verdict.estimator != final.__name__ or curves is None:
        return ""
    rows = curves.returns[-LAST:]
    return f"{sum(_is_different(row, verdict) for row in rows)} of {len(rows)}"


def without_one(verdict: Verdict) -> str:
    """Return for how many seeds the verdict stays "different" if this seed is left out."""
    if verdict.reference.estimator in PEAKS:
        return ""
    scores = np.array(list(verdict.scores.values()))
    kept = [_is_different(np.delete(scores, k), verdict) for k in range(len(scores))]
    return f"{sum(kept)} of {len(kept)}"


def protocols() -> str:
    """Return the verdicts by sampled actions, and what they would be by greedy ones."""
    rows = []
    for verdict in results.judged():
        reference, places = verdict.reference, decimals(verdict.task)
        if not verdict.sampled or not verdict.test:
            continue
        assert verdict.ours  # as there is a test
        system, setting, task = cell_of(verdict)
        greedy = np.array(list(verdict.summary.run_scores[reference.estimator].values()))
        rows.append(
            (
                task,
                f"{system} ({setting})",
                f"{reference.environment}, {code(reference.source)}",
                results.published(verdict, places),
                f"{_spread(verdict.ours.mean, verdict.ours.std, places)}, {verdict.verdict}",
                results.difference(verdict, places),
                f"{_spread(greedy.mean(), greedy.std(ddof=1), places)}, {_test(greedy, verdict).verdict}",
            )
        )
    return table(PROTOCOLS, rows)


def _spread(mean: float, std: float, places: int) -> str:
    return f"{number(mean, places)} ± {number(std, places)}"


def _is_different(scores: np.ndarray, verdict: Verdict) -> bool:
    return _test(scores, verdict).verdict == DIFFERENT


def _test(scores: np.ndarray, verdict: Verdict) -> Equivalence:
    """Return the test behind a verdict, with other scores of the same cell."""
    reference, margin = verdict.reference, verdict.margin
    assert margin and reference.std is not None and reference.n  # as it has a test
    mean, std = float(scores.mean()), float(scores.std(ddof=1))
    published = (reference.mean, reference.std, reference.n)
    return equivalence(mean, std, len(scores), *published, margin.margin)


def _seeds(verdict: Verdict) -> str:
    """Return the scores of the seeds behind a verdict, sorted."""
    values = ", ".join(number(value, decimals(verdict.task)) for value in sorted(verdict.scores.values()))
    steps = short_steps(verdict.summary.cell.facts["steps"])
    estimator = verdict.estimator.replace("_", " ")
    return f"Scores of the seeds ({estimator}; {steps} steps), sorted: {values}."


def others() -> str:
    """Return the verdicts that the page does not look into."""
    found = [each for each in different() if cell_of(each) not in CELLS.values()]
    if not found:
        return "None: every verdict *different* of the shelf is above.\n"
    return "No reason was sought yet for these:\n\n" + results.verdict_table(found)


PARTS: dict[str, Callable[[], str]] = {name: partial(part, name) for name in CELLS}
PARTS |= {"counts": results.verdict_counts, "protocols": protocols, "others": others}

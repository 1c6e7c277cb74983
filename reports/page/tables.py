"""The tables of verdicts, comparisons and compute, and the completeness of a report."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from ascent.records.expected import NAMES, cell_columns
from ascent.records.plan import seed_ranges
from ascent.records.read import DAMAGED, DIVERGED, DONE, MISSING, UNFINISHED, CellRecord
from ascent.reports.page.formats import decimals, limits, number, p_value
from ascent.reports.page.provenance import run_provenance
from ascent.reports.page.table import Column, Table, make_table
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.bootstrap import STATISTICS
from ascent.reports.statistics.comparisons import Comparisons, Group, Improvement, Pair
from ascent.reports.statistics.efficiency import Efficiency
from ascent.reports.statistics.equivalence import MAX_SEEDS
from ascent.reports.statistics.verdicts import Verdict


def verdicts(judged: Sequence[Verdict]) -> Table:
    """Return the table of verdicts: one row per cell and published score that it is compared with."""
    columns: list[Column[Verdict]] = [
        *(Column(_cell_name(name), name) for name in NAMES[:2]),
        Column(lambda verdict: verdict.task.title, head="task"),
        *(Column(_cell_name(name), name) for name in NAMES[2:]),
        Column(_cell_name("name"), "name", optional=True),
        Column(lambda verdict: verdict.summary.label, head="system"),
        Column(
            lambda verdict: verdict.reference.estimator, "estimator", "estimator",
            lambda verdict: verdict.estimator,
        ),
        Column(_ours("mean"), "ours_mean", "ours (mean, std)", _ours_text, numeric=True),
        Column(_ours("std"), "ours_std"),
        Column(_ours("n"), "ours_n"),
        Column(lambda verdict: verdict.reference.mean, head="published", text=_published_text, numeric=True),
        Column(
            lambda verdict: verdict.reference.source, "source", "source",
            lambda verdict: (
                f"{verdict.reference.source}, {verdict.reference.environment}, "
                f"as {verdict.reference.printed}"
            ),
        ),
        Column(lambda verdict: verdict.reference.locator, "locator"),
        Column(lambda verdict: verdict.reference.printed, "printed"),
        Column(lambda verdict: verdict.reference.environment, "environment"),
        Column(lambda verdict: verdict.reference.steps, "steps"),
        Column(lambda verdict: verdict.reference.mean, "theirs_mean"),
        Column(lambda verdict: verdict.reference.spread, "theirs_spread"),
        Column(lambda verdict: verdict.reference.spread_kind, "spread_kind"),
        Column(lambda verdict: verdict.reference.spread_printed, "spread_printed"),
        Column(lambda verdict: verdict.reference.std, "theirs_std"),
        Column(lambda verdict: verdict.reference.n, "theirs_n"),
        Column(
            lambda verdict: verdict.difference, "difference", "difference", _difference_text, numeric=True
        ),
        Column(_test("low"), "low"),
        Column(_test("high"), "high"),
        Column(
            lambda verdict: verdict.margins, "difference_in_margins", "in margins",
            lambda verdict: "" if verdict.margins is None else number(verdict.margins, 2), numeric=True,
        ),
        Column(
            lambda verdict: verdict.margin.margin if verdict.margin else None, "margin", "margin",
            lambda verdict: number(verdict.margin.margin, decimals(verdict.task)) if verdict.margin else "",
            numeric=True,
        ),
        Column(lambda verdict: verdict.margin.reason if verdict.margin else "", "margin_reason"),
        Column(_test("p_equivalent"), "p_equivalent"),
        Column(_test("p_different"), "p_different"),
        Column(
            _test("power"), "power", "power",
            lambda verdict: f"{verdict.test.power:.2f}" if verdict.test else "", numeric=True,
        ),
        Column(_test("seeds"), "seeds_for_80", "seeds for 80%", _seeds_text, numeric=True),
        Column(lambda verdict: verdict.prediction.low if verdict.prediction else None, "predicted_low"),
        Column(
            lambda verdict: verdict.prediction.high if verdict.prediction else None, "predicted_high",
            "predicted mean", _predicted_text, numeric=True,
        ),
        Column(lambda verdict: verdict.expected, "predicted"),
        Column(lambda verdict: seed_ranges(verdict.failed) if verdict.failed else "", "failed_seeds"),
        Column(lambda verdict: verdict.agreement[0], "sources_reproduced"),
        Column(lambda verdict: verdict.agreement[1], "sources"),
        Column(
            lambda verdict: verdict.agreement[0], head="other sources", numeric=True,
            text=lambda verdict: "{} of {}".format(*verdict.agreement) if verdict.agreement[1] else "",
        ),
        Column(lambda verdict: verdict.verdict, "verdict", "verdict", lambda verdict: verdict.words),
        Column(lambda verdict: verdict.reason, "reason"),
        Column(
            lambda verdict: " | ".join(verdict.differences), "differences", "other differences",
            lambda verdict: "; ".join(verdict.differences),
        ),
    ]  # fmt: skip
    return make_table("verdicts", "Verdicts", judged, columns)


def _cell_name(name: str) -> Callable[[Verdict], str]:
    return lambda verdict: getattr(verdict.summary.cell.name, name)


def _ours(field: str) -> Callable[[Verdict], Any]:
    return lambda verdict: getattr(verdict.ours, field) if verdict.ours else None


def _test(field: str) -> Callable[[Verdict], Any]:
    return lambda verdict: getattr(verdict.test, field) if verdict.test else None


def _ours_text(verdict: Verdict) -> str:
    if verdict.ours is None:
        return "none"
    places = decimals(verdict.task)
    return f"{number(verdict.ours.mean, places)} ± {number(verdict.ours.std, places)}, n={verdict.ours.n}"


def _published_text(verdict: Verdict) -> str:
    reference, places = verdict.reference, decimals(verdict.task)
    text = number(reference.mean, places)
    if reference.spread is not None:
        text += f" ± {number(reference.spread, places)} ({reference.spread_kind})"
    return text + (f", n={reference.n}" if reference.n else "")


def _difference_text(verdict: Verdict) -> str:
    if verdict.test is None:
        return ""
    return limits(verdict.test.difference, verdict.test.low, verdict.test.high, decimals(verdict.task))


def _seeds_text(verdict: Verdict) -> str:
    if verdict.test is None:
        return ""
    return str(verdict.test.seeds) if verdict.test.seeds else f"more than {MAX_SEEDS:,}"


def _predicted_text(verdict: Verdict) -> str:
    """Return the prediction interval of our mean, and whether it is outside."""
    if verdict.prediction is None:
        return ""
    text = limits(None, verdict.prediction.low, verdict.prediction.high, decimals(verdict.task)).strip()
    return text if verdict.expected else f"{text}, ours is outside"


def pairs(comparisons: Comparisons) -> Table:
    """Return the table of comparisons within tasks: one row per pair of systems on a task."""

    def places(pair: Pair) -> int:
        return decimals(pair.task)

    stage: list[Column[Pair]] = [
        Column(
            lambda pair: pair.stage, "stage", "stage",
            lambda pair: f"{pair.stage} ({pair.n} seeds)", numeric=True,
        ),
        Column(lambda pair: pair.given_up, "given_up"),
    ]  # fmt: skip
    measured = any(not pair.task.measured.is_return for pair in comparisons.pairs)
    columns: list[Column[Pair]] = [
        Column(lambda pair: pair.task.suite, "suite"),
        Column(lambda pair: pair.task.name, "task", "task", lambda pair: pair.task.title),
        Column(lambda pair: pair.task.measured.name, "score", "score" if measured else ""),
        Column(lambda pair: pair.x.label, "x", "x"),
        Column(lambda pair: pair.x.cell.name.digest, "x_digest"),
        Column(lambda pair: pair.n, "x_n"),
        Column(lambda pair: pair.x_mean, "x_mean"),
        Column(lambda pair: pair.y.label, "y", "y"),
        Column(lambda pair: pair.y.cell.name.digest, "y_digest"),
        Column(lambda pair: pair.m, "y_n"),
        Column(lambda pair: pair.y_mean, "y_mean"),
        Column(
            lambda pair: pair.welch.difference, "difference", "x - y",
            lambda pair: number(pair.welch.difference, places(pair)), numeric=True,
        ),
        Column(
            lambda pair: pair.welch.low, "low", "95% interval",
            lambda pair: limits(None, pair.welch.low, pair.welch.high, places(pair)).strip(), numeric=True,
        ),
        Column(lambda pair: pair.welch.high, "high"),
        Column(
            lambda pair: "yes" if pair.differs else "given up" if pair.given_up else "no", head="significant"
        ),
        *(stage if any(pair.stage for pair in comparisons.pairs) else ()),
        Column(
            lambda pair: pair.fragility, "fragility", "fragility",
            lambda pair: "" if pair.fragility is None else str(pair.fragility), numeric=True,
        ),
        Column(lambda pair: pair.welch.t, "t"),
        Column(lambda pair: pair.welch.df, "df"),
        Column(
            lambda pair: pair.welch.p, "p_welch", "p (Welch)",
            lambda pair: p_value(pair.welch.p), numeric=True,
        ),
        Column(
            lambda pair: pair.p_permutation, "p_permutation", "p (permutation)",
            lambda pair: p_value(pair.p_permutation), numeric=True,
        ),
        Column(
            lambda pair: pair.p_welch_holm, "p_welch_holm", "p (Welch, Holm)",
            lambda pair: p_value(pair.p_welch_holm), numeric=True,
        ),
        Column(
            lambda pair: pair.p_permutation_holm, "p_permutation_holm", "p (permutation, Holm)",
            lambda pair: p_value(pair.p_permutation_holm), numeric=True,
        ),
        Column(
            lambda pair: pair.g.value, "hedges_g", "Hedges g",
            lambda pair: limits(*pair.g, 2), numeric=True,
        ),
        Column(lambda pair: pair.g.low, "hedges_g_low"),
        Column(lambda pair: pair.g.high, "hedges_g_high"),
        Column(
            lambda pair: pair.superiority.value, "superiority", "P(x > y)",
            lambda pair: limits(*pair.superiority, 2), numeric=True,
        ),
        Column(lambda pair: pair.superiority.low, "superiority_low"),
        Column(lambda pair: pair.superiority.high, "superiority_high"),
        Column(
            lambda pair: pair.detectable, "detectable", "detectable",
            lambda pair: "none" if math.isnan(pair.detectable) else number(pair.detectable, places(pair)),
            numeric=True,
        ),
        Column(lambda pair: pair.differs, "differs"),
    ]  # fmt: skip
    title = "Comparisons within tasks"
    return make_table("comparisons", title, comparisons.pairs, columns, keep_header=False)


def aggregates(comparisons: Comparisons) -> Table:
    """Return the table of aggregates across tasks, of normalised scores: one row per group and system."""
    several = len(comparisons.groups) > 1  # the only one has all tasks that are compared
    columns: list[Column[tuple[Group, str]]] = [
        Column(
            lambda row: " ".join(row[0].tasks), "tasks", "tasks" if several else "",
            lambda row: ", ".join(name.partition("/")[2] for name in row[0].tasks),
        ),
        Column(lambda row: row[1], "system", "system"),
        *(column for statistic in STATISTICS for column in _aggregate_columns(statistic)),
    ]  # fmt: skip
    rows = [(group, label) for group in comparisons.groups for label in group.systems]
    return make_table("aggregates", "Across tasks", rows, columns, keep_header=False)


def _aggregate_columns(statistic: str) -> list[Column[tuple[Group, str]]]:
    """Return the columns of a statistic: its value, lower and upper limit."""
    head = "IQM" if statistic == "iqm" else statistic.replace("_", " ")

    def part(field: str) -> Callable[[tuple[Group, str]], float]:
        return lambda row: getattr(row[0].aggregates[row[1]][statistic], field)

    def text(row: tuple[Group, str]) -> str:
        return limits(*row[0].aggregates[row[1]][statistic], 3)

    return [
        Column(part("value"), statistic, head, text, numeric=True),
        Column(part("low"), f"{statistic}_low"),
        Column(part("high"), f"{statistic}_high"),
    ]


def efficiency(found: Sequence[Efficiency]) -> pd.DataFrame:
    """Return the sample efficiency across tasks, a row per group, system and point; a CSV file only."""
    return pd.DataFrame(
        [
            {
                "tasks": " ".join(each.group.tasks), "system": label, "share_of_budget": each.shares[k],
                "steps": None if each.steps is None else each.steps[k],
                "iqm": value[k], "low": low[k], "high": high[k],
            }
            for each in found
            for label, (value, low, high) in each.curves.items()
            for k in range(len(each.shares))
        ],
        columns=["tasks", "system", "share_of_budget", "steps", "iqm", "low", "high"],
    )  # fmt: skip


def improvements(comparisons: Comparisons) -> Table:
    """Return the table of the probability of improvement: one row per pair of systems."""
    columns: list[Column[Improvement]] = [
        Column(lambda pair: pair.x, "x", "x"),
        Column(lambda pair: pair.y, "y", "y"),
        Column(lambda pair: " ".join(pair.tasks), "tasks", "tasks", lambda pair: str(len(pair.tasks))),
        Column(
            lambda pair: pair.interval.value, "probability", "P(x > y)",
            lambda pair: limits(*pair.interval, 3), numeric=True,
        ),
        Column(lambda pair: pair.interval.low, "low"),
        Column(lambda pair: pair.interval.high, "high"),
    ]  # fmt: skip
    title = "Probability of improvement"
    return make_table("improvement", title, comparisons.improvements, columns, keep_header=False)


@dataclass(frozen=True)
class Compute:
    """What the runs of a cell cost, those that failed or are not finished included."""

    summary: CellSummary
    runs: int
    failed: int
    unfinished: int
    wall_hours: float
    cpu_hours: float
    core_hours: float  # wall hours of each core that the runs had
    steps: int
    steps_per_second: float | None
    restarts: int
    lost_hours: float


def compute(tasks: Sequence[Task]) -> Table:
    """Return the table of compute used: one row per cell."""
    columns: list[Column[Compute]] = [
        Column(lambda row: row.summary.cell.name.suite, "suite"),
        Column(lambda row: row.summary.cell.name.task, "task", "task"),
        Column(lambda row: row.summary.cell.name.system, "system"),
        Column(lambda row: row.summary.cell.name.name, "name", optional=True),
        Column(lambda row: row.summary.label, head="system"),
        Column(lambda row: row.summary.cell.name.preset, "preset"),
        Column(lambda row: row.summary.cell.name.digest, "digest", "cell"),
        Column(lambda row: row.runs, "runs", "runs", numeric=True),
        Column(lambda row: row.failed, "failed", "failed", numeric=True),
        Column(lambda row: row.unfinished, "unfinished", "unfinished", numeric=True),
        Column(
            lambda row: row.wall_hours, "wall_hours", "wall hours",
            lambda row: f"{row.wall_hours:,.2f}", numeric=True,
        ),
        Column(
            lambda row: row.cpu_hours, "cpu_hours", "CPU hours",
            lambda row: f"{row.cpu_hours:,.2f}", numeric=True,
        ),
        Column(
            lambda row: row.core_hours, "core_hours", "core hours",
            lambda row: f"{row.core_hours:,.2f}", numeric=True,
        ),
        Column(
            lambda row: row.cpu_hours / row.core_hours if row.core_hours else None, "cpu_use", "CPU use",
            lambda row: f"{row.cpu_hours / row.core_hours:.0%}" if row.core_hours else "", numeric=True,
        ),
        Column(lambda row: row.steps, "steps"),
        Column(
            lambda row: row.steps_per_second, "steps_per_second", "steps/s",
            lambda row: "" if row.steps_per_second is None else f"{row.steps_per_second:,.0f}", numeric=True,
        ),
        Column(lambda row: row.restarts, "restarts", "restarts", numeric=True),
        Column(
            lambda row: row.lost_hours, "lost_hours", "lost hours",
            lambda row: f"{row.lost_hours:,.2f}", numeric=True,
        ),
    ]  # fmt: skip
    rows = [cost(summary) for task in tasks for summary in task.cells]
    return make_table("compute", "Compute used", rows, columns)


def cost(summary: CellSummary) -> Compute:
    """Return what the runs of a cell cost."""
    runs = [run_provenance(summary, run) for run in summary.cell.runs]
    finished = [run for run in runs if run["state"] in (DONE, DIVERGED)]
    steps = sum(run["steps"] or 0 for run in finished)
    seconds = sum(run["wall_s"] for run in finished)
    return Compute(
        summary=summary,
        runs=len(runs),
        failed=sum(run["state"] in (DIVERGED, DAMAGED) for run in runs),
        unfinished=sum(run["state"] in (UNFINISHED, MISSING) for run in runs),
        wall_hours=sum(run["wall_s"] for run in runs) / 3600,
        cpu_hours=sum(run["cpu_s"] for run in runs) / 3600,
        core_hours=sum(run["core_s"] for run in runs) / 3600,
        steps=steps,
        steps_per_second=steps / seconds if seconds else None,
        restarts=sum(run["restarts"] for run in runs),
        lost_hours=sum(run["lost_wall_s"] for run in runs) / 3600,
    )


def completeness(cells: Sequence[CellRecord]) -> pd.DataFrame:
    """Return the state of every expected run, one row each; it has a CSV file only."""
    names = cell_columns(cell.name for cell in cells)
    return pd.DataFrame(
        [
            {name: getattr(cell.name, name) for name in names}
            | {"seed": run.seed, "state": run.state, "note": run.note}
            for cell in cells
            for run in cell.runs
        ]
    )

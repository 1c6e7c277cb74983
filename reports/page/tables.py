"""Tables: summaries -> data frames, in full precision for CSV and as text for the page, Markdown and LaTeX.

All refuse the same things: a cell that is not complete has empty numbers.
"""

import json
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd

from ascent.records.declared import Declared
from ascent.records.read import STATES, CellRecord, RunRecord
from ascent.reports.checking.differences import made_with
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.compare import Comparisons
from ascent.reports.statistics.stats import FEW_SEEDS
from ascent.reports.statistics.verdicts import Verdict
from ascent.reports.statistics.verdicts import table as verdict_table

NAMES = ("suite", "task", "system", "preset", "digest")


@dataclass(frozen=True)
class Table:
    """A table in its two forms, with the same rows.

    `data` has full precision; `shown` has text. `keys`: column of `shown` -> column of `data` to sort it by.
    """

    name: str  # of its files
    title: str
    data: pd.DataFrame
    shown: pd.DataFrame
    keys: dict[str, str] = field(default_factory=dict)


def scores(tasks: Sequence[Task], declared: Declared) -> Table:
    """One row per cell, in units of return."""
    data, shown = [], []
    for task in tasks:
        places = decimals(task)
        for summary in task.cells:
            name, score = summary.cell.name, summary.score
            row: dict[str, Any] = {key: getattr(name, key) for key in NAMES}
            row |= {
                "estimator": declared.estimator, "complete": summary.cell.complete,
                "finished": summary.cell.finished, "expected": len(summary.cell.runs),
            }  # fmt: skip
            text = {"task": name.task, "system": summary.label, "cell": name.digest}
            if score:
                tolerance, crossing = score.tolerance, score.crossing
                row |= {
                    "n": score.n, "failures": score.failures, "failure_low": score.failure_low,
                    "failure_high": score.failure_high, "mean": score.mean, "low": score.low,
                    "high": score.high, "std": score.std, "iqm": score.iqm, "median": score.median,
                    "min": score.worst[0], "min_seed": score.worst[1], "max": score.best[0],
                    "max_seed": score.best[1],
                    "area": score.area[0], "area_low": score.area[1], "area_high": score.area[2],
                }  # fmt: skip
                if tolerance:
                    row |= {f"tolerance_{key}": getattr(tolerance, key) for key in ("content", "low", "high")}
                if crossing:
                    row |= {f"threshold_{key}": getattr(crossing, key) for key in ("median", "low", "high")}
                    row["threshold_reached"] = crossing.reached
                text |= {
                    "mean": number(score.mean, places),
                    "95% interval": interval(score.low, score.high, places),
                    "std": "" if score.std is None else number(score.std, places),
                    "IQM": number(score.iqm, places), "median": number(score.median, places),
                    "n": f"{score.n} (!)" if score.n < FEW_SEEDS else str(score.n),
                    "failures": str(score.failures),
                    "min (seed)": f"{number(score.worst[0], places)} ({score.worst[1]})",
                    "max (seed)": f"{number(score.best[0], places)} ({score.best[1]})",
                }  # fmt: skip
            else:
                text |= {"mean": summary.counts}
            row |= {key: task.spec.get(key) for key in ("random_score", "reference_score")}
            data.append(row)
            shown.append(text)
    columns = [
        *NAMES, "estimator", "complete", "finished", "expected", "n", "failures", "failure_low",
        "failure_high", "mean", "low", "high", "std", "iqm", "median", "min", "min_seed", "max", "max_seed",
        "area", "area_low", "area_high", "tolerance_content", "tolerance_low", "tolerance_high",
        "threshold_reached", "threshold_median", "threshold_low", "threshold_high",
        "random_score", "reference_score",
    ]  # fmt: skip
    whole = ["n", "failures", "min_seed", "max_seed", "threshold_reached"]
    # Int64 has a missing value, so 10 stays 10.
    frame = pd.DataFrame(data, columns=columns).astype(dict.fromkeys(whole, "Int64"))
    heads = [
        "task", "system", "cell", "mean", "95% interval", "std", "IQM", "median", "n", "failures",
        "min (seed)", "max (seed)",
    ]  # fmt: skip
    keys = {head: head.lower().removesuffix(" (seed)") for head in heads} | {"95% interval": "low"}
    keys = {head: key for head, key in keys.items() if key in columns}
    return Table("scores", "Scores", frame, texts(shown, heads), keys)


def spread(tasks: Sequence[Task], scores: Table) -> Table:
    """Of each complete cell: tolerance interval, failure rate, steps to the threshold, area.

    `scores` is the table of the same tasks.
    """
    data, shown = scores.data, []
    for task in tasks:
        places = decimals(task)
        for summary in task.cells:
            text = {"task": task.name, "system": summary.label, "cell": summary.cell.name.digest}
            if score := summary.score:
                tolerance = score.tolerance
                within = (
                    f"{tolerance.content:.0%} in {interval(tolerance.low, tolerance.high, places)}"
                    if tolerance
                    else f"n={score.n} is too few"
                )
                text |= {
                    "tolerance interval": within,
                    "failure rate": (
                        f"{score.failures / score.n:.0%} [{score.failure_low:.0%}, {score.failure_high:.0%}]"
                    ),
                    "steps to threshold": _crossing(score.crossing),
                    "area": f"{number(score.area[0], places)} {interval(*score.area[1:], places)}",
                }
            shown.append(text)
    heads = [
        "task", "system", "cell", "tolerance interval", "failure rate", "steps to threshold", "area",
    ]  # fmt: skip
    keys = {"tolerance interval": "tolerance_low", "failure rate": "failures", "area": "area"}
    keys |= {"steps to threshold": "threshold_median"}
    frame = texts(shown, heads)
    complete = data["n"].notna()
    own = [name for name in data if name.startswith(("tolerance_", "failure", "threshold_", "area"))]
    data = data[[*NAMES, "n", *own]]
    return Table("spread", "Spread, failures and speed of learning", data[complete], frame[complete], keys)


def texts(rows: list[dict[str, str]], heads: Sequence[str] | None = None) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=heads, dtype=object).fillna("")


def _crossing(crossing: Any) -> str:
    if crossing is None:
        return "no anchors"
    reached = f"({crossing.reached}/{crossing.n} runs)"
    if crossing.median is None:
        return f"not by half of them {reached}"
    limits = ["?" if limit is None else f"{limit:,.0f}" for limit in (crossing.low, crossing.high)]
    return f"{crossing.median:,.0f} [{', '.join(limits)}] {reached}"


def verdicts(found: Sequence[Verdict]) -> Table:
    """One row per published score that one of our cells can be compared with."""
    shown = []
    for item in found:
        places, test, theirs = decimals(item.task), item.test, item.reference
        ours = "none"
        if item.ours:
            ours = f"{number(item.ours.mean, places)} ± {number(item.ours.std, places)}, n={item.ours.n}"
        spread = "" if theirs.spread is None else f" ± {number(theirs.spread, places)} ({theirs.spread_kind})"
        n = f", n={theirs.n}" if theirs.n else ""
        shown.append({
            "task": item.task.name, "system": item.summary.label, "estimator": theirs.estimator,
            "ours (mean, std)": ours,
            "published": f"{number(theirs.mean, places)}{spread}{n}",
            "source": f"{theirs.source}, {theirs.environment}, as {theirs.printed}",
            "difference": limits(test.difference, test.low, test.high, places) if test else "",
            "margin": number(item.margin.margin, places) if item.margin else "",
            "power": f"{test.power:.2f}" if test else "",
            "verdict": item.verdict + (f": {item.reason}" if item.reason else ""),
            "what else differs": "; ".join(item.differences),
        })  # fmt: skip
    keys = {
        "ours (mean, std)": "ours_mean", "published": "theirs_mean", "difference": "difference",
        "margin": "margin", "power": "power",
    }  # fmt: skip
    return Table("verdicts", "Verdicts", verdict_table(found), texts(shown), keys)


def pairs(comparisons: Comparisons) -> Table:
    """One row per comparison of two systems on a task."""
    data, shown = [], []
    for pair in comparisons.pairs:
        places, welch = decimals(pair.task), pair.welch
        sides = {"x": pair.x, "y": pair.y}
        row: dict[str, Any] = {"suite": pair.task.suite, "task": pair.task.name}
        for side, summary in sides.items():
            row |= {side: summary.label, f"{side}_digest": summary.cell.name.digest}
            row |= {f"{side}_n": summary.score.n, f"{side}_mean": summary.score.mean}
        row |= {
            "difference": welch.difference, "low": welch.low, "high": welch.high, "t": welch.t,
            "df": welch.df, "p_welch": welch.p, "p_permutation": pair.p_permutation,
            "p_welch_holm": pair.p_welch_holm, "p_permutation_holm": pair.p_permutation_holm,
            "hedges_g": pair.g.value, "hedges_g_low": pair.g.low, "hedges_g_high": pair.g.high,
            "superiority": pair.superiority.value, "superiority_low": pair.superiority.low,
            "superiority_high": pair.superiority.high,
            "detectable": pair.detectable, "differs": pair.differs,
        }  # fmt: skip
        data.append(row)
        shown.append({
            "task": pair.task.name, "x": pair.x.label, "y": pair.y.label,
            "x - y": number(welch.difference, places),
            "95% interval": "" if math.isnan(welch.low) else interval(welch.low, welch.high, places),
            "differ": "yes" if pair.differs else "not shown",
            "p Welch": p_value(welch.p), "p permutation": p_value(pair.p_permutation),
            "Holm: Welch": p_value(pair.p_welch_holm), "Holm: permutation": p_value(pair.p_permutation_holm),
            "Hedges g": limits(*pair.g, 2), "P(x > y)": limits(*pair.superiority, 2),
            "detectable": "" if math.isnan(pair.detectable) else number(pair.detectable, places),
        })  # fmt: skip
    keys = {
        "x - y": "difference", "95% interval": "low", "p Welch": "p_welch", "p permutation": "p_permutation",
        "Holm: Welch": "p_welch_holm", "Holm: permutation": "p_permutation_holm", "Hedges g": "hedges_g",
        "P(x > y)": "superiority", "detectable": "detectable",
    }  # fmt: skip
    return Table("comparisons", "Comparisons within tasks", pd.DataFrame(data), texts(shown), keys)


def aggregates(comparisons: Comparisons) -> Table:
    """One row per group of tasks and system: the aggregates across tasks, of normalised scores."""
    data, shown = [], []
    for group in comparisons.groups:
        tasks = ", ".join(name.partition("/")[2] for name in group.tasks)
        for label in group.systems:
            row: dict[str, Any] = {"tasks": " ".join(group.tasks), "system": label}
            text = {"tasks": tasks, "system": label}
            for statistic, value in group.aggregates[label].items():
                row |= {
                    statistic: value.value,
                    f"{statistic}_low": value.low,
                    f"{statistic}_high": value.high,
                }
                head = "IQM" if statistic == "iqm" else statistic.replace("_", " ")
                text[head] = limits(value.value, value.low, value.high, 3)
            data.append(row)
            shown.append(text)
    heads = list(shown[0])[2:] if shown else []
    keys = {head: head.lower().replace(" ", "_") for head in heads}
    return Table("aggregates", "Across tasks", pd.DataFrame(data), texts(shown), keys)


def improvements(comparisons: Comparisons) -> Table:
    """One row per pair of systems: the probability of improvement, mean over the tasks they share."""
    data, shown = [], []
    for pair in comparisons.improvements:
        value = pair.interval
        data.append({
            "x": pair.x, "y": pair.y, "tasks": " ".join(pair.tasks), "probability": value.value,
            "low": value.low, "high": value.high,
        })  # fmt: skip
        shown.append({
            "x": pair.x, "y": pair.y, "tasks": str(len(pair.tasks)),
            "P(x > y)": limits(value.value, value.low, value.high, 3),
        })  # fmt: skip
    keys = {"P(x > y)": "probability"}
    return Table("improvement", "Probability of improvement", pd.DataFrame(data), texts(shown), keys)


def compute(tasks: Sequence[Task]) -> Table:
    """One row per cell: what its runs cost, those that failed or are not finished included."""
    data, shown = [], []
    for summary in (summary for task in tasks for summary in task.cells):
        rows = [run_provenance(summary, run) for run in summary.cell.runs]
        name, finished = summary.cell.name, [row for row in rows if row["state"] in ("done", "diverged")]
        wall, cpu = (sum(row[key] for row in rows) / 3600 for key in ("wall_s", "cpu_s"))
        steps = sum(row["steps"] or 0 for row in finished)
        seconds = sum(row["wall_s"] for row in finished)
        row = {key: getattr(name, key) for key in NAMES} | {
            "runs": len(rows), "failed": sum(row["state"] in ("diverged", "damaged") for row in rows),
            "unfinished": sum(row["state"] in ("unfinished", "missing") for row in rows),
            "wall_hours": wall, "cpu_hours": cpu, "steps": steps,
            "steps_per_second": steps / seconds if seconds else None,
            "restarts": sum(row["restarts"] for row in rows),
            "lost_hours": sum(row["lost_wall_s"] for row in rows) / 3600,
        }  # fmt: skip
        data.append(row)
        shown.append({
            "task": name.task, "system": summary.label, "cell": name.digest, "runs": str(row["runs"]),
            "failed": str(row["failed"]), "unfinished": str(row["unfinished"]),
            "wall hours": f"{wall:,.2f}", "CPU hours": f"{cpu:,.2f}",
            "steps/s": f"{row['steps_per_second']:,.0f}" if seconds else "", "restarts": str(row["restarts"]),
            "lost hours": f"{row['lost_hours']:,.2f}",
        })  # fmt: skip
    keys = {
        "runs": "runs", "failed": "failed", "unfinished": "unfinished", "wall hours": "wall_hours",
        "CPU hours": "cpu_hours",
        "steps/s": "steps_per_second", "restarts": "restarts", "lost hours": "lost_hours",
    }  # fmt: skip
    return Table("compute", "Compute used", pd.DataFrame(data), texts(shown), keys)


def completeness(cells: Iterable[CellRecord]) -> pd.DataFrame:
    """One row per expected run: what became of it."""
    rows = [
        {key: getattr(cell.name, key) for key in NAMES}
        | {"seed": run.seed, "state": run.state, "note": run.note}
        for cell in cells
        for run in cell.runs
    ]
    return pd.DataFrame(rows)


def state_counts(runs: Iterable[RunRecord]) -> dict[str, int]:
    """State -> number of runs, all five states."""
    states = [run.state for run in runs]
    return {state: states.count(state) for state in STATES}


def run_provenance(summary: CellSummary, run: RunRecord) -> dict[str, Any]:
    """Where a run's numbers come from; None where the record does not say."""
    attempts = run.about.get("attempts") or []
    platform = run.about.get("platform") or {}
    scores = {name: by_seed.get(run.seed) for name, by_seed in summary.run_scores.items()}
    return {
        "folder": run.folder,
        "seed": run.seed,
        "state": run.state,
        "note": run.note,
        "scores": {
            name: None if score != score else score for name, score in scores.items()
        },  # NaN is no JSON
        "steps": run.result.get("steps"),
        "unstable_steps": run.result.get("unstable_steps") or {},
        "result_digest": run.result.get("digest"),
        "source_digest": run.about.get("source_digest"),
        "lock_digest": run.about.get("lock_digest"),
        "commit": run.about.get("commit"),
        "dirty": run.about.get("dirty"),
        "packages": run.about.get("packages") or {},
        "platform": platform.get("key"),
        "cpu": platform.get("cpu"),
        "threads": platform.get("threads"),
        "flags": platform.get("flags") or {},
        "mixed_platforms": mixed_platforms(run),
        "attempts": len(attempts),
        "devices": _distinct(attempt.get("device") for attempt in attempts),
        "packs": _distinct(attempt.get("pack") for attempt in attempts),
        "wall_s": sum(attempt.get("wall_s") or 0 for attempt in attempts),
        "cpu_s": sum(attempt.get("cpu_s") or 0 for attempt in attempts),
        "restarts": max(len(attempts) - 1, 0),
        "lost_wall_s": sum(attempt.get("lost_wall_s") or 0 for attempt in attempts),
    }


def mixed_platforms(run: RunRecord) -> list[str]:
    """The platforms between which a finished run was moved, so that no single one gives its bytes again."""
    return run.about.get("mixed_platforms") or [] if run.finished else []


def provenance(
    tasks: Sequence[Task], title: str, declared: Declared, perturbed: dict[str, dict[str, str]]
) -> str:
    """JSON text: what the report was asked for (enough to make it again), its cells with their settings, and
    every expected run. `perturbed`: sha256 of what `ascent robustness` recorded, by cell folder and name.
    """
    cells = [summary for task in tasks for summary in task.cells]
    keys = ("algorithm", "config", "steps", "evaluation", "versions", "spec")
    expected = [asdict(summary.cell.name) for summary in cells]
    report = {"title": title, "settings": asdict(declared), "expected": expected, "made_with": made_with()}
    content = {
        "report": report,
        "estimator": declared.estimator,
        "cells": [
            {"folder": name, "robustness": perturbed.get(name, {})}
            | {key: summary.cell.facts.get(key) for key in keys}
            for name, summary in ((summary.cell.name.folder, summary) for summary in cells)
        ],
        "runs": [run_provenance(cell, run) for cell in cells for run in cell.cell.runs],
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def markdown(table: Table) -> str:
    """To paste into a README or an issue."""
    heads = list(table.shown)
    rule = ["---:" if head in table.keys else "---" for head in heads]
    return (
        "\n".join([_row(heads), _row(rule), *(_row(row) for row in table.shown.to_numpy().tolist())]) + "\n"
    )


def latex(table: Table) -> str:
    """A tabular for a paper that loads the package booktabs."""
    form = "".join("r" if head in table.keys else "l" for head in table.shown)
    text = table.shown.to_latex(index=False, escape=True, column_format=f"@{{}}{form}@{{}}")
    # Hyphens before numbers are minus signs; < and > are other characters in LaTeX's default encoding.
    text = re.sub(r"(?<![\w.])-(?=\d)", "$-$", text).replace("<", "$<$").replace(">", "$>$")
    return "% needs \\usepackage{booktabs}\n" + text


def decimals(task: Task) -> int:
    """Decimal places for a task's scores: four significant figures of its largest score, at most four."""
    scores = [summary.score for summary in task.cells if summary.score]
    largest = max((abs(value) for score in scores for value, _ in (score.worst, score.best)), default=0.0)
    return 1 if largest == 0 else min(max(3 - math.floor(math.log10(largest)), 0), 4)


def number(value: float, places: int) -> str:
    """Fixed point with a comma every three digits; never "-0.0"."""
    text = f"{value:,.{places}f}"
    return text.removeprefix("-") if float(text.replace(",", "")) == 0 else text


def interval(low: float | None, high: float | None, places: int) -> str:
    return "no interval (n=1)" if low is None else f"[{number(low, places)}, {number(high, places)}]"


def limits(value: float, low: float, high: float, places: int) -> str:
    """A value and its interval; "" for what is not defined."""
    text = "" if math.isnan(value) else number(value, places)
    return text if math.isnan(low) else f"{text} {interval(low, high, places)}"


def p_value(p: float) -> str:
    """Three places; "" where the test is not defined."""
    return "" if math.isnan(p) else "<0.001" if p < 0.001 else f"{p:.3f}"


def seed_ranges(seeds: Sequence[int]) -> str:
    """(0, 1, 2, 5) -> "0-2,5", the form the command line takes."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _distinct(values: Iterable[Any]) -> list[Any]:
    """Without repetitions, in the order of first appearance; values may be lists."""
    found: list[Any] = []
    for value in values:
        if value is not None and value not in found:
            found.append(value)
    return found

"""Tables: the summaries as data frames, Markdown and JSON, and how a number is written.

The CSV files hold full precision; Markdown and the page round to `decimals`. Both refuse the same things:
a cell that is not complete has empty numbers.
"""

import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from reports.aggregate import CellSummary, Task
from reports.estimators import PRIMARY
from reports.records import STATES, Cell, Run
from reports.stats import FEW_SEEDS, LEVEL


def scores(tasks: Sequence[Task]) -> pd.DataFrame:
    """One row per cell, in units of return."""
    rows = []
    for task in tasks:
        for summary in task.cells:
            name, score = summary.cell.name, summary.score
            row = {key: getattr(name, key) for key in ("suite", "task", "system", "preset", "digest")}
            row |= {
                "estimator": PRIMARY,
                "complete": summary.cell.complete,
                "finished": summary.cell.finished,
                "expected": len(summary.cell.runs),
            }
            if score:
                row |= {
                    "n": score.n, "failures": score.failures, "mean": score.mean, "low": score.low,
                    "high": score.high, "iqm": score.iqm, "median": score.median, "min": score.worst[0],
                    "min_seed": score.worst[1], "max": score.best[0], "max_seed": score.best[1],
                }  # fmt: skip
            row |= {key: task.spec.get(key) for key in ("random_score", "reference_score")}
            rows.append(row)
    columns = [
        "suite", "task", "system", "preset", "digest", "estimator", "complete", "finished", "expected", "n",
        "failures", "mean", "low", "high", "iqm", "median", "min", "min_seed", "max", "max_seed",
        "random_score", "reference_score",
    ]  # fmt: skip
    whole = ["n", "failures", "min_seed", "max_seed"]  # Int64 has a missing value, so 10 stays 10
    return pd.DataFrame(rows, columns=columns).astype(dict.fromkeys(whole, "Int64"))


def completeness(cells: Iterable[Cell]) -> pd.DataFrame:
    """One row per expected run: what became of it."""
    rows = [
        {key: getattr(cell.name, key) for key in ("suite", "task", "system", "preset", "digest")}
        | {"seed": run.seed, "state": run.state, "note": run.note}
        for cell in cells
        for run in cell.runs
    ]
    return pd.DataFrame(rows)


def state_counts(runs: Iterable[Run]) -> dict[str, int]:
    """State -> number of runs, all five states."""
    states = [run.state for run in runs]
    return {state: states.count(state) for state in STATES}


def run_provenance(summary: CellSummary, run: Run) -> dict[str, Any]:
    """Where a run's numbers come from; None where the record does not say."""
    attempts = run.about.get("attempts") or []
    platform = run.about.get("platform") or {}
    return {
        "folder": run.folder,
        "seed": run.seed,
        "state": run.state,
        "note": run.note,
        "scores": {name: by_seed.get(run.seed) for name, by_seed in summary.run_scores.items()},
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
    }


def mixed_platforms(run: Run) -> list[str]:
    """The platforms between which a finished run was moved, so that no single one gives its bytes again."""
    return run.about.get("mixed_platforms") or [] if run.finished else []


def provenance(tasks: Sequence[Task]) -> str:
    """JSON text: the cells with their settings, and every expected run."""
    cells = [summary for task in tasks for summary in task.cells]
    keys = ("algorithm", "config", "steps", "evaluation", "versions", "spec")
    content = {
        "estimator": PRIMARY,
        "cells": [
            {"folder": summary.cell.name.folder} | {key: summary.cell.facts.get(key) for key in keys}
            for summary in cells
        ],
        "runs": [run_provenance(cell, run) for cell in cells for run in cell.cell.runs],
    }
    return json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def markdown(tasks: Sequence[Task], title: str) -> str:
    """The score tables, to paste into a README or an issue."""
    lines = [
        f"# {title}",
        "",
        f"Estimator: `{PRIMARY}`. Intervals: Student-t, {LEVEL:.0%}. IQM drops floor(n/4) at each end.",
        f"(!): fewer than {FEW_SEEDS} seeds. **Bold**: the interval lies above every other one of the task.",
    ]
    head = [
        "system", "preset", "digest", "mean", "interval", "IQM", "median", "n", "failures",
        "min (seed)", "max (seed)",
    ]  # fmt: skip
    rule = ["---"] * 3 + ["---:"] * (len(head) - 3)
    for task in tasks:
        places = decimals(task)
        lines += ["", f"## {task.suite} / {task.name}", "", _row(head), _row(rule)]
        for summary in task.cells:
            name, score = summary.cell.name, summary.score
            start = [name.system, name.preset, f"`{name.digest}`"]
            if score is None:
                lines.append(_row([*start, summary.counts, *[""] * (len(head) - 4)]))
                continue
            mean = number(score.mean, places)
            lines.append(_row([
                *start, f"**{mean}**" if name.digest == task.best else mean,
                interval(score.low, score.high, places),
                number(score.iqm, places), number(score.median, places),
                f"{score.n} (!)" if score.n < FEW_SEEDS else str(score.n), str(score.failures),
                *(f"{number(value, places)} ({seed})" for value, seed in (score.worst, score.best)),
            ]))  # fmt: skip
        lines += [f"\n{warning}" for warning in task.warnings]
    return "\n".join(lines) + "\n"


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

"""Parts of the chapter on what the results of the shelf show: tables that no other page has."""

import io
from collections import defaultdict
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import Any

import pandas as pd

from ascent.records import layout
from ascent.records.plan import seed_ranges
from ascent.records.shelf import CURVES, ShelfCell
from ascent.records.store import Store
from ascent.reports.page.formats import decimals, number, short_steps
from ascent.reports.shelf.tables import DECLARED
from ascent.reports.statistics.aggregate import CellSummary, Task
from ascent.reports.statistics.comparisons import compare
from ascent.reports.statistics.ranking import better_and_worse
from ascent.suites import TASKS
from docs.generators import results
from docs.generators.places import SHELF
from docs.generators.tables import table

GAP = 0.2  # of the distance from the random to the reference score, between two neighbouring seeds
GOALS = ("Acrobot-v1", "MountainCar-v0", "MountainCarContinuous-v0")  # an episode ends there, or at its limit


def _system(cell: ShelfCell) -> str:
    return f"{cell.system} ({cell.setting})"


def _title(task: Task) -> str:
    return f"{task.name}, {short_steps(task.cells[0].cell.facts['steps'])}"


def _label(summary: CellSummary) -> str:
    return f"{summary.cell.name.system} ({summary.cell.setting})"


def missing() -> str:
    """Return which planned cells are on the shelf, by task."""
    tasks: dict[tuple[str, int], list[ShelfCell]] = defaultdict(list)
    for cell in SHELF.planned:
        tasks[cell.task, cell.steps].append(cell)
    rows = []
    for (task, steps), cells in tasks.items():
        absent = [_system(cell) for cell in cells if not SHELF.has(cell)]
        rows.append(
            (f"{task}, {short_steps(steps)}", len(cells) - len(absent), len(cells), ", ".join(absent))
        )
    return table(("task, steps", "on the shelf", "planned", "missing"), rows)


def claims() -> str:
    """Return which systems are better than which, by the tests of the leaderboard."""
    rows = []
    for task in results.studied():
        pairs = compare([task], DECLARED).pairs
        worse: dict[str, list[str]] = defaultdict(list)
        for pair in pairs:
            if pair.differs:
                better, other = better_and_worse(pair)
                worse[_label(better)].append(_label(other))
        rows += [(_title(task), better, ", ".join(others)) for better, others in worse.items()]
        ties = len(pairs) - sum(map(len, worse.values()))
        rows.append((_title(task), "no difference is shown", f"{ties} of {len(pairs)} pairs"))
    return table(("task, steps", "system", "is better than"), rows)


def split() -> str:
    """Return the cells whose seeds fall apart, with their sorted scores; a bold / marks a gap."""
    rows = []
    for task in results.studied():
        places = decimals(task)
        for summary in task.cells:
            if summary.sample is None or summary.normalised is None:
                continue
            scores, normalised = sorted(summary.sample), sorted(summary.normalised)
            gaps = [after - before for before, after in pairwise(normalised)]
            if max(gaps) < GAP:
                continue
            text = number(scores[0], places)
            for gap, score in zip(gaps, scores[1:], strict=True):
                text += f"{' **/** ' if gap >= GAP else ', '}{number(score, places)}"
            rows.append((_title(task), _label(summary), text))
    return table(("task, steps", "system", "scores of the seeds"), rows)


def reached() -> str:
    """Return how many seeds ever reached the goal in training, of tasks that have one."""
    rows = []
    for cell in sorted(SHELF.present, key=lambda cell: cell.task):
        if cell.task in GOALS:
            store = Store(SHELF.folder / cell.folder)
            horizon = TASKS[cell.task].horizon
            never = [seed for seed in store.seeds() if _shortest_episode(store, seed) >= horizon]
            reaching = f"{cell.seeds - len(never)} of {cell.seeds}"
            rows.append((cell.task, _system(cell), reaching, seed_ranges(never) if never else ""))
    return table(("task", "system", "seeds that ever reached the goal in training", "never"), rows)


def _shortest_episode(store: Store, seed: int) -> float:
    """Return the length of a run's shortest training episode."""
    bins = pd.read_csv(io.BytesIO(store.read(seed, layout.TRAIN_BINS)))
    return float(bins["length_min"].min())


def protocols() -> str:
    """Return the last evaluation with greedy and with sampled actions, where they are far apart."""
    data = pd.read_parquet(SHELF.folder / CURVES)
    data = data[data["step"] == data["budget"]]
    rows = []
    for task in results.studied():
        places = decimals(task)
        for summary in task.cells:
            both = data[data["digest"] == summary.cell.name.digest].groupby("policy")["return"].mean()
            random, reference = (
                summary.cell.facts["spec"][f"{name}_score"] for name in ("random", "reference")
            )
            gap = (both["greedy"] - both["sampled"]) / (reference - random)
            if abs(gap) >= 0.1:
                means = (number(both[name], places) for name in ("greedy", "sampled"))
                rows.append((_title(task), _label(summary), *means, f"{gap:+.0%}"))
    heads = ("task, steps", "system", "greedy", "sampled", "difference / (reference - random)")
    return table(heads, rows)


def costs() -> str:
    """Return what the cells cost, by system."""
    cells: dict[str, list[ShelfCell]] = defaultdict(list)
    for cell in SHELF.present:
        cells[cell.system].append(cell)
    rows = [(system, *_cost(of_system)) for system, of_system in cells.items()]
    rows.append(("all", *_cost(SHELF.present)))
    heads = ("system", "cells", "million steps", "core-hours", "wall hours", "steps per core-second")
    return table(heads, rows)


def _cost(cells: Iterable[ShelfCell]) -> tuple[Any, ...]:
    number_of, steps, cpu, wall = 0, 0, 0.0, 0.0
    for cell in cells:
        store = Store(SHELF.folder / cell.folder)
        attempts = [each for seed in store.seeds() for each in store.json(seed, layout.RUN)["attempts"]]
        number_of += 1
        steps += cell.steps * cell.seeds
        cpu += sum(each.get("cpu_s") or 0 for each in attempts)
        wall += sum(each.get("wall_s") or 0 for each in attempts)
    return number_of, f"{steps / 1e6:,.1f}", f"{cpu / 3600:.2f}", f"{wall / 3600:.2f}", f"{steps / cpu:,.0f}"


PARTS: dict[str, Callable[[], str]] = {
    "missing": missing,
    "claims": claims,
    "split": split,
    "reached": reached,
    "protocols": protocols,
    "costs": costs,
}

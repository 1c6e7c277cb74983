"""The page about training that goes on: progress, time left, learning curves so far, and problems."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ascent.records import files, layout, ledger
from ascent.records.cell import read_cell, without_tuning
from ascent.records.errors import DamagedFile, InputError, one_line
from ascent.records.plan import Planned
from ascent.records.progress import CellProgress, duration, run_progress, snapshot
from ascent.records.store import Store, cell_names
from ascent.reports.page.figures import PALETTE
from ascent.reports.page.formats import short_steps
from ascent.reports.so_far import Point, evaluations, rows

REFRESH = 5  # seconds
MOST_PROBLEMS = 50
WIDTH, HEIGHT = 640, 260  # of a figure, in its own units
LEFT, RIGHT, TOP, BOTTOM = 58, 12, 10, 26  # around its axes
STYLE = (Path(__file__).parent / "live.css").read_text()


@dataclass(frozen=True)
class Curve:
    """The line of a seed in a figure. `points` are as SVG takes them."""

    colour: str
    points: str


@dataclass(frozen=True)
class Panel:
    """The figure of a task: the mean greedy return of every seed at each evaluation so far."""

    task: str
    curves: list[Curve]
    legend: list[tuple[str, str]]  # label, colour
    ticks: list[tuple[float, str]]  # of the vertical axis: place, value
    steps: str  # at the right end of the horizontal axis


def render(title: str, planned: Sequence[Planned], runs: Path, problems: Sequence[str] = ()) -> str:
    """Return the page about these cells, as one HTML document that asks for nothing else.

    Args:
        title: its heading.
        planned: the cells with their seeds.
        runs: folder of run records.
        problems: what else is wrong, in a line each.
    """
    cells = snapshot(planned, runs)
    finished = all(cell.finished for cell in cells)
    found = [*problems, *_problems(planned, runs)]
    return _template().render(
        title=title,
        style=STYLE,
        refresh=None if finished else REFRESH,
        time=time.strftime("%Y-%m-%d %H:%M:%S"),
        totals=_totals(cells),
        cells=[_row(cell) for cell in cells],
        panels=[_panel(task, alike, runs) for task, alike in _by_task(planned).items()],
        problems=found[:MOST_PROBLEMS],
        more=max(0, len(found) - MOST_PROBLEMS),
        size=(WIDTH, HEIGHT),
        box=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM),
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("live.html.jinja")


def in_folder(runs: Path) -> tuple[list[Planned], list[str]]:
    """Return the cells in a folder of records with all seeds that are there or planned, and what is damaged.

    Raises:
        InputError: there are no cells.
    """
    seeds = ledger.seeds_by_cell(runs)
    planned, problems = [], []
    for name in cell_names(runs):
        try:
            cell = read_cell(runs / name)
            own = {*Store(runs / name).seeds(), *seeds.get(name, ())}
        except InputError as error:
            problems.append(one_line(str(error)))
            continue
        planned.append(Planned(cell, tuple(sorted(without_tuning(own)))))
    if not planned:
        raise InputError(problems[0] if problems else f"there are no cells in {runs}")
    return planned, problems


def _totals(cells: Sequence[CellProgress]) -> dict[str, Any]:
    """Return the state of the whole."""
    steps, done = sum(cell.steps for cell in cells), sum(cell.step for cell in cells)
    rate = sum(cell.steps_per_second for cell in cells)
    states: dict[str, int] = {}
    for cell in cells:
        for state, number in cell.states.items():
            states[state] = states.get(state, 0) + number
    return {
        "share": done / steps if steps else 0.0,
        "runs": sum(states.values()),
        "states": [f"{number} {state}" for state, number in states.items() if number],
        "left": duration((steps - done) / rate) if rate else "",
        "rate": f"{rate:,.0f}" if rate else "",
    }


def _row(cell: CellProgress) -> dict[str, Any]:
    return {
        "label": cell.label,
        "share": cell.step / cell.steps if cell.steps else 0.0,
        "states": ", ".join(f"{number} {state}" for state, number in cell.states.items() if number),
        "rate": f"{cell.steps_per_second:,.0f}" if cell.steps_per_second else "",
        "left": duration(cell.seconds_left),
        "score": "" if cell.score is None else f"{cell.score:.4g}",
    }


def _by_task(planned: Sequence[Planned]) -> dict[str, list[Planned]]:
    found: dict[str, list[Planned]] = {}
    for plan in planned:
        found.setdefault(plan.cell.task, []).append(plan)
    return found


def _panel(task: str, planned: Sequence[Planned], runs: Path) -> Panel:
    curves: list[tuple[str, list[Point]]] = []
    legend = []
    for number, plan in enumerate(planned):
        colour = PALETTE[number % len(PALETTE)]
        legend.append((plan.name or plan.cell.name, colour))
        store = Store(plan.cell.folder(runs))
        for seed in plan.seeds:
            curves.append((colour, evaluations(rows(store, seed, layout.EVAL))))
    steps = max(plan.cell.steps for plan in planned)
    values = [point.value for _, curve in curves for point in curve if abs(point.value) < float("inf")]
    low, high = min(values, default=0.0), max(values, default=1.0)
    high = high if high > low else low + 1.0

    def x(step: int) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(1.0, step / steps)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - low) / (high - low)

    lines = [
        Curve(colour, " ".join(f"{x(p.step):.1f},{y(p.value):.1f}" for p in curve if low <= p.value <= high))
        for colour, curve in curves
    ]
    ticks = [low + part * (high - low) for part in (0.0, 0.5, 1.0)] if values else []
    places = [(round(y(value), 1), f"{value:.4g}") for value in ticks]
    return Panel(task, [line for line in lines if line.points], legend, places, short_steps(steps))


def _problems(planned: Sequence[Planned], runs: Path) -> list[str]:
    """Return what went wrong in a run, in a line each."""
    found = []
    for plan in planned:
        store = Store(plan.cell.folder(runs))
        for seed in plan.seeds:
            where = f"{plan.label()} seed {seed}"
            try:
                state, record = run_progress(store, seed)
                if state == "diverged":
                    found.append(f"{where}: diverged at step {record.get('steps')}")
                elif state == "interrupted":
                    found.append(f"{where}: interrupted{_reason(store, seed)}")
            except (InputError, LookupError, OSError) as error:
                found.append(f"{where}: {error}")
    return [one_line(line, 300) for line in found]


def _reason(store: Store, seed: int) -> str:
    """Return why the last attempt of an interrupted run ended, as far as its record knows."""
    try:
        about = files.read_json(store.cell / layout.seed_folder(seed) / layout.RUN)
        last = about["attempts"][-1]
        return f": {last['failure']}" if "failure" in last else f" at step {last['to_step']:,}"
    except (OSError, DamagedFile, LookupError, TypeError, ValueError):
        return ""

"""The progress of runs, read from their records, and its display."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ascent.records import files, layout
from ascent.records.errors import DamagedFile
from ascent.records.ownership import BEATS, is_alive, standing
from ascent.records.plan import Planned
from ascent.records.store import Store

STATES = ("done", "diverged", "running", "pending", "interrupted", "failed", "planned")
SILENCE = 120.0  # seconds without a heartbeat after which a run on another machine counts as interrupted


@dataclass(frozen=True)
class CellProgress:
    """The progress of one cell: the states of its runs and their speed."""

    label: str
    folder: Path
    states: dict[str, int]  # state (see STATES) -> number of runs
    step: int  # environment steps done, summed over seeds
    steps: int  # environment steps planned, summed over seeds
    steps_per_second: float  # of all running seeds together
    seconds_left: float | None  # of the slowest running seed
    score: float | None  # mean of each seed's latest evaluation

    @property
    def finished(self) -> bool:
        return self.states["done"] + self.states["diverged"] == sum(self.states.values())


def snapshot(
    planned: Sequence[Planned], out: Path, known: Mapping[tuple[str, int], str] = MappingProxyType({})
) -> list[CellProgress]:
    """Return the current progress of each cell.

    `known` has states, by (cell digest, seed), that another source knows better than the records do, such as
    the queue of a cluster. It does not count for runs whose records say that they are finished.
    """
    return [_cell_progress(plan, out, known) for plan in planned]


def _cell_progress(plan: Planned, out: Path, known: Mapping[tuple[str, int], str]) -> CellProgress:
    folder, budget = plan.cell.folder(out), plan.cell.steps
    store = Store(folder)
    states = dict.fromkeys(STATES, 0)
    step = 0
    rate = 0.0
    left: list[float] = []
    scores: list[float] = []
    for seed in plan.seeds:
        state, record = run_progress(store, seed)
        if state not in ("done", "diverged"):
            state = known.get((plan.cell.digest, seed), state)
        states[state] += 1
        step += budget if state in ("done", "diverged") else min(budget, record.get("step", 0))
        if record.get("score") is not None:
            scores.append(record["score"])
        if state == "running" and record.get("steps_per_second"):
            rate += record["steps_per_second"]
            left.append((budget - record["step"]) / record["steps_per_second"])
    score = sum(scores) / len(scores) if scores else None
    return CellProgress(
        label=plan.label(),
        folder=folder,
        states=states,
        step=step,
        steps=budget * len(plan.seeds),
        steps_per_second=rate,
        seconds_left=max(left, default=None),
        score=score,
    )


def run_progress(store: Store, seed: int) -> tuple[str, dict[str, Any]]:
    """Return the state of a run by its records, and the record that says so."""
    folder = store.cell / layout.seed_folder(seed)
    try:
        result = store.json(seed, layout.RESULT)
        return result["status"], result
    except (FileNotFoundError, NotADirectoryError):
        pass
    try:
        record = files.read_json(folder / layout.PROGRESS)
    except (OSError, DamagedFile):
        return ("interrupted" if (folder / layout.RUN).exists() else "planned"), {}
    return ("running" if _alive(folder, record) else "interrupted"), record


def _alive(folder: Path, record: dict[str, Any]) -> bool:
    """Return whether the last attempt seems to be alive. On another machine, a recent heartbeat says so, as
    far as the two clocks agree.
    """
    _, owner = standing(folder)
    if owner is None:
        return False
    alive = is_alive(owner)
    if alive is None:
        silence = max(SILENCE, BEATS * owner.get("beat_seconds", 0.0))
        return time.time() - record.get("time", 0) <= silence
    return alive


def duration(seconds: float | None) -> str:
    """Return a time for readers: "1:02:03", or nothing for None."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def table(cells: Sequence[CellProgress]) -> Table:
    """Return a table with a row per cell."""
    columns = ("cell", "runs done", "steps", "steps/s", "time left", "latest score", "")
    result = Table(box=None, pad_edge=False)
    for i, name in enumerate(columns):
        result.add_column(name, justify="left" if i in (0, 6) else "right", no_wrap=True)
    for cell in cells:
        result.add_row(*_row(cell))
    return result


def _row(cell: CellProgress) -> tuple[str, ...]:
    runs = sum(cell.states.values())
    others = [f"{n} {state}" for state, n in cell.states.items() if n and state != "done"]
    return (
        cell.label,
        f"{cell.states['done']}/{runs}",
        f"{100 * cell.step / cell.steps:.0f}%",
        f"{cell.steps_per_second:,.0f}" if cell.steps_per_second else "",
        duration(cell.seconds_left),
        "" if cell.score is None else f"{cell.score:.4g}",
        ", ".join(others),
    )


def _state(cell: CellProgress) -> tuple[int, int, int]:
    """Return the values whose change makes the log show the cell again."""
    return cell.step, cell.states["done"], cell.states["diverged"]


class Display:
    """The progress of all cells: a live table on a terminal, occasional lines in a log file."""

    EVERY: ClassVar[dict[bool, float]] = {True: 0.5, False: 15.0}  # seconds between updates; True: terminal

    def __init__(self, planned: Sequence[Planned], out: Path):
        self.planned = planned
        self.out = out
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.last = 0.0
        self.logged = {cell.label: _state(cell) for cell in snapshot(planned, out)}

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.show()
        if self.live:
            self.live.stop()

    def tick(self) -> None:
        """Show the progress if the interval has passed."""
        if time.monotonic() - self.last >= self.EVERY[self.live is not None]:
            self.show()

    def show(self) -> None:
        """Show the current progress."""
        self.last = time.monotonic()
        cells = snapshot(self.planned, self.out)
        if self.live:
            self.live.update(table(cells), refresh=True)
            return
        for cell in cells:
            if self.logged[cell.label] != _state(cell):
                self.logged[cell.label] = _state(cell)
                names = ("", "runs", "steps", "steps/s", "time left", "score", "")
                parts = [f"{n} {v}".strip() for n, v in zip(names, _row(cell), strict=True) if v]
                print(time.strftime("%H:%M:%S"), ", ".join(parts), file=sys.stderr, flush=True)

"""How far the runs of some cells are, read from their records, and the display of it."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

from rich.console import Console
from rich.live import Live
from rich.table import Table

from ascent.records import files
from ascent.records.errors import DamagedFile
from ascent.records.ownership import BEATS, is_alive, standing
from ascent.records.plan import Planned

STATES = ("done", "diverged", "running", "pending", "interrupted", "failed", "planned")
SILENCE = 120.0  # seconds after which a run elsewhere that told nothing counts as interrupted, at least


@dataclass(frozen=True)
class CellProgress:
    """One cell: how many of its runs are where, and how fast they go."""

    label: str
    folder: Path
    states: dict[str, int]  # state, of STATES -> runs
    step: int  # done, summed over seeds
    steps: int  # wanted, summed over seeds
    steps_per_second: float  # of all running seeds together
    seconds_left: float | None  # of the slowest running seed
    score: float | None  # mean of each seed's latest evaluation

    @property
    def finished(self) -> bool:
        return self.states["done"] + self.states["diverged"] == sum(self.states.values())


def snapshot(
    planned: Sequence[Planned], out: Path, known: Mapping[tuple[str, int], str] = MappingProxyType({})
) -> list[CellProgress]:
    """The progress of each cell, now.

    `known` has the states of runs, (digest of the cell, seed), of which somebody else knows more than their
    records say, unless those say that they are finished.
    """
    return [_cell_progress(plan, out, known) for plan in planned]


def _cell_progress(plan: Planned, out: Path, known: Mapping[tuple[str, int], str]) -> CellProgress:
    folder, budget = plan.cell.folder(out), plan.cell.steps
    states = dict.fromkeys(STATES, 0)
    step, rate, left, scores = 0, 0.0, [], []
    for seed in plan.seeds:
        state, record = _run_progress(folder / f"seed-{seed}")
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
    wanted = budget * len(plan.seeds)
    return CellProgress(plan.cell.label(), folder, states, step, wanted, rate, max(left, default=None), score)


def state(folder: Path) -> str:
    """The state of the run in a folder, as its records say."""
    return _run_progress(folder)[0]


def _run_progress(folder: Path) -> tuple[str, dict]:
    try:
        result = files.read_json(folder / "result.json")
        return result["status"], result
    except (FileNotFoundError, NotADirectoryError):
        pass
    try:
        record = files.read_json(folder / "progress.json")
    except (OSError, DamagedFile):
        return ("interrupted" if (folder / "run.json").exists() else "planned"), {}
    return ("running" if _alive(folder, record) else "interrupted"), record


def _alive(folder: Path, record: dict) -> bool:
    """Whether the last attempt seems to be at work. One on another machine does if it told something lately,
    as far as the two clocks agree.
    """
    _, owner = standing(folder)
    if owner is None:
        return False
    alive = is_alive(owner)
    if alive is None:
        silence = max(SILENCE, BEATS * owner.get("beat_seconds", 0.0))
        return time.time() - record.get("time", 0) <= silence
    return alive


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return ""
    minutes, seconds = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def table(cells: Sequence[CellProgress]) -> Table:
    """A row per cell."""
    columns = ("cell", "runs done", "steps", "steps/s", "left", "latest score", "")
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
        _duration(cell.seconds_left),
        "" if cell.score is None else f"{cell.score:.4g}",
        ", ".join(others),
    )


def _state(cell: CellProgress) -> tuple[int, int, int]:
    """What must change for another line in a log file."""
    return cell.step, cell.states["done"], cell.states["diverged"]


class Display:
    """Shows the progress of all cells: a live table on a terminal, now and then a line each in a log file."""

    EVERY: ClassVar[dict[bool, float]] = {True: 0.5, False: 15.0}  # seconds, by whether it is a terminal

    def __init__(self, planned: Sequence[Planned], out: Path):
        self.planned, self.out = planned, out
        self.console = Console(stderr=True)
        self.live = Live(console=self.console, auto_refresh=False) if self.console.is_terminal else None
        self.last = 0.0
        self.told = {cell.label: _state(cell) for cell in snapshot(planned, out)}

    def __enter__(self) -> "Display":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.show()
        if self.live:
            self.live.stop()

    def tick(self) -> None:
        """Show the progress if it is time to."""
        if time.monotonic() - self.last >= self.EVERY[self.live is not None]:
            self.show()

    def show(self) -> None:
        """Show the progress now."""
        self.last = time.monotonic()
        cells = snapshot(self.planned, self.out)
        if self.live:
            self.live.update(table(cells), refresh=True)
            return
        for cell in cells:
            if self.told[cell.label] != _state(cell):
                self.told[cell.label] = _state(cell)
                names = ("", "runs", "steps", "steps/s", "left", "score", "")
                parts = [f"{n} {v}".strip() for n, v in zip(names, _row(cell), strict=True) if v]
                print(time.strftime("%H:%M:%S"), ", ".join(parts), file=sys.stderr, flush=True)

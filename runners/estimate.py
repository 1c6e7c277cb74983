"""Estimate how long runs take: from finished runs of the same system and task, else from fixed rates."""

from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path

from ascent.records import layout
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile
from ascent.records.shelf import shelves
from ascent.records.store import Store

# Environment steps per second of one core, including the evaluations of the default protocol. Measured on an
# AMD EPYC (Zen 5), 2026-11-29; an older processor takes twice as long.
RATES = {
    ("classic", "rollout"): 30_000.0,
    ("classic", "replay"): 8_000.0,
    ("mujoco", "rollout"): 12_000.0,
    ("mujoco", "replay"): 220.0,
    ("particle", "rollout"): 30_000.0,
    ("particle", "replay"): 8_000.0,
}
OUTSIDE = {"rollout": 2_000.0, "replay": 200.0}  # of environments from outside the suite: a guess, all differ


def core_hours(cell: Cell, seeds: int, replays: bool, runs: Path) -> float:
    """Estimate the hours of one core that training `seeds` seeds of a cell takes.

    The rate is that of finished runs in `runs` or, without any, on the shelf; else a fixed one.
    """
    return cell.steps * seeds / rate(cell.suite, cell.task, cell.system, replays, runs) / 3600


def rate(suite: str, task: str, system: str, replays: bool, runs: Path) -> float:
    """Return the estimated environment steps per second of one core, over all seeds of a process."""
    found = (measured(suite, task, system, home) for home in (runs, *(shelf.folder for shelf in shelves())))
    kind = "replay" if replays else "rollout"
    fixed = RATES.get((suite, kind), OUTSIDE[kind])
    return next((known for known in found if known is not None), fixed)


@cache
def measured(suite: str, task: str, system: str, runs: Path) -> float | None:
    """Return the steps per second of one core in up to five finished CPU runs; None without such runs."""
    steps, seconds = 0, 0.0
    for done, took in _finished(runs / suite / task, system):
        steps += done
        seconds += took
        if steps >= 5 * done and seconds:
            return steps / seconds
    return steps / seconds if seconds else None


def _finished(task: Path, system: str) -> Iterator[tuple[int, float]]:
    """Yield steps and processor seconds of finished CPU runs of a system, by their records."""
    for cell in sorted(task.glob(f"{system}-*")):
        store = Store(cell)
        with suppress(DamagedFile):
            for seed in store.seeds():
                try:
                    result = store.json(seed, layout.RESULT)
                    attempts = store.json(seed, layout.RUN)["attempts"]
                    times = [attempt["cpu_s"] for attempt in attempts if attempt["device"] == "cpu"]
                    if result["status"] == "done" and len(times) == len(attempts):
                        yield result["steps"], sum(times)
                except (OSError, DamagedFile, LookupError):
                    continue  # a killed attempt did not record its time

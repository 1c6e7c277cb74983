"""Estimate how long runs take: from finished runs of the same system and task, else from fixed rates."""

from contextlib import suppress
from functools import cache
from pathlib import Path

from ascent.records import layout
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile
from ascent.records.store import Store

# Environment steps per second of one core, including the evaluations of the default protocol. Measured on one
# machine; another may be twice as fast or half as fast.
RATES = {
    ("classic", "rollout"): 15_000.0,
    ("classic", "replay"): 5_000.0,
    ("mujoco", "rollout"): 7_000.0,
    ("mujoco", "replay"): 120.0,
}
OTHER_RATE = 1_000.0


def core_hours(cell: Cell, seeds: int, replays: bool, runs: Path) -> float:
    """Estimate the hours of one core that training `seeds` seeds of a cell takes."""
    rate = measured(cell.suite, cell.task, cell.system, runs)
    rate = rate or RATES.get((cell.suite, "replay" if replays else "rollout"), OTHER_RATE)
    return cell.steps * seeds / rate / 3600


@cache
def measured(suite: str, task: str, system: str, runs: Path) -> float | None:
    """Return the steps per second of one core in up to five finished CPU runs; None without such runs."""
    steps, seconds = 0, 0.0
    for cell in (runs / suite / task).glob(f"{system}-*"):
        store = Store(cell)
        with suppress(DamagedFile):
            for seed in store.seeds():
                try:
                    result = store.json(seed, layout.RESULT)
                    attempts = store.json(seed, layout.RUN)["attempts"]
                    times = [attempt["cpu_s"] for attempt in attempts if attempt["device"] == "cpu"]
                    if result["status"] != "done" or len(times) != len(attempts):
                        continue
                except (OSError, DamagedFile, LookupError):
                    continue  # a killed attempt did not record its time
                steps += result["steps"]
                seconds += sum(times)
                if steps >= 5 * result["steps"] and seconds:
                    return steps / seconds
    return steps / seconds if seconds else None

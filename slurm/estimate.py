"""How long runs will take: from the records of finished runs like them, else from what was measured once."""

import json
from functools import cache
from pathlib import Path

from ascent.records.cell import Cell

# Environment steps per second of one core, evaluations of the default protocol included; see "Measured" in
# the project's README. Another machine may be twice as fast or slow.
RATES = {
    ("classic", "rollout"): 15_000.0,
    ("classic", "replay"): 5_000.0,
    ("mujoco", "rollout"): 7_000.0,
    ("mujoco", "replay"): 120.0,
}


def core_hours(cell: Cell, seeds: int, replays: bool, out: Path) -> float:
    """Hours of one core for some seeds of a cell, from their start to their end."""
    rate = measured(cell.suite, cell.task, cell.system, out)
    rate = rate or RATES.get((cell.suite, "replay" if replays else "rollout"), 1_000.0)
    return cell.steps * seeds / rate / 3600


@cache
def measured(suite: str, task: str, system: str, out: Path) -> float | None:
    """Steps per second of one core in up to five finished runs of a system on a task, on the CPU."""
    steps, seconds = 0, 0.0
    for path in (out / suite / task).glob(f"{system}-*/seed-*/result.json"):
        try:
            done, run = (
                json.loads((path.parent / name).read_bytes()) for name in ("result.json", "run.json")
            )
            used = [attempt["cpu_s"] for attempt in run["attempts"] if attempt["device"] == "cpu"]
            if done["status"] != "done" or len(used) != len(run["attempts"]):
                continue
        except (OSError, ValueError, LookupError):
            continue  # an attempt that was killed recorded no time
        steps, seconds = steps + done["steps"], seconds + sum(used)
        if steps >= 5 * done["steps"]:
            break
    return steps / seconds if seconds else None

"""Training speed on one GPU: seed-steps per second over the number of seeds in the process.

    .venv/bin/python -m tests.benchmarks.gpu             (needs a GPU; a few minutes)

SAC and TD3 on HalfCheetah-v5 with the presets' networks, batches and an update at every step. A seed-step is
one environment step of one seed. All cores step environments. Ten seeds are to make 10,000 a second.
"""

import os
import sys
import time

from rich.console import Console
from rich.table import Table

from ascent.records.errors import InputError
from ascent.runners.resolve import resolve
from ascent.runners.train import check_device
from ascent.runners.trainer import Trainer

SYSTEMS = ("sac", "td3")
SEEDS = (1, 5, 10, 20, 50)
PROMISE = 10_000  # with ten seeds


def seed_steps_per_second(system: str, seeds: int, device: str, steps: int) -> float:
    """The speed of `steps` steps of every seed, once the graphs are made."""
    cell = resolve(system, "HalfCheetah-v5", overrides={"learning_starts": 300, "capacity": 100_000})
    trainer = Trainer(cell, range(seeds), device, threads=len(os.sched_getaffinity(0)))
    while trainer.updates < 50:
        trainer.advance()
    trainer.take_metrics()  # waits for the device
    start = time.perf_counter()
    for _ in range(steps):
        trainer.advance()
    trainer.take_metrics()
    return steps * seeds / (time.perf_counter() - start)


def main(device: str = "cuda", steps: int = 3_000) -> int:
    """Print the table; the exit code is 1 if the promise is not kept, 2 without a GPU."""
    try:
        check_device(device)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    table = Table("seed-steps/s", *(f"S = {seeds}" for seeds in SEEDS), box=None)
    kept = True
    for system in SYSTEMS:
        speeds = {seeds: seed_steps_per_second(system, seeds, device, steps) for seeds in SEEDS}
        table.add_row(system, *(f"{speed:,.0f}" for speed in speeds.values()))
        kept &= speeds[10] >= PROMISE
    Console().print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())

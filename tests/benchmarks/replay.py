"""Ten seeds with a million transitions each: memory, and how long checkpoints and resumption take.

    .venv/bin/python -m tests.benchmarks.replay           (needs 2 GB of disk, for a minute)

SAC on HalfCheetah-v5. The ring is filled with random numbers beyond its end, a checkpoint writes all of it,
another only what a minute adds, and a second process's worth of objects goes on from there.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ascent.records.run import Run
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer
from tests.small import run_of

SEEDS = list(range(10))
MILLION = 1_000_000
LIMIT = 4.0  # GiB in all


def timed(what: str, work: Callable[[], object]) -> object:
    """The result of `work`, and a line that says how long it took."""
    start = time.perf_counter()
    result = work()
    print(f"{what:<52}{time.perf_counter() - start:8.1f} s")
    return result


def save(trainer: Trainer, runs: list[Run]) -> None:
    for run, checkpoint in zip(runs, trainer.checkpoints({"usage": {}}), strict=True):
        run.save(checkpoint)


def fill(trainer: Trainer, n: int) -> None:
    """`n` further transitions of random numbers."""
    storage, generator = trainer.storage, torch.Generator().manual_seed(trainer.step)
    while n:
        first = storage.seen % storage.capacity
        m = min(n, 10_000, storage.capacity - first)
        piece = storage.rows[:, first : first + m]
        piece.copy_(torch.randn(piece.shape, generator=generator))
        storage.seen += m
        n -= m
    trainer.step = storage.seen


def main() -> int:
    """Print the figures; the exit code is 1 if memory or the restored ring are not as promised."""
    cell = resolve("sac", "HalfCheetah-v5", steps=2 * MILLION)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(cell, SEEDS)
        runs = [run_of(cell, seed, Path(folder), capacity=trainer.capacity) for seed in SEEDS]
        for run in runs:
            run.open()
            run.begin(0, SEEDS)
            run.restart()
        fill(trainer, MILLION + 200_000)
        timed("checkpoint with all transitions", partial(save, trainer, runs))
        fill(trainer, 3_000)
        timed("checkpoint a minute later (3,000 more per seed)", partial(save, trainer, runs))
        expected = [float(rows.double().sum()) for rows in trainer.storage.rows]
        seen = trainer.storage.seen
        del trainer
        again = [run_of(cell, seed, Path(folder), capacity=MILLION) for seed in SEEDS]
        steps = timed("finding whole checkpoints", lambda: [run.usable_steps()[0] for run in again])
        assert steps == [seen] * len(SEEDS)
        resumed = Trainer(cell, SEEDS)
        timed("going on from them", lambda: resumed.load([run.checkpoints.load(seen)[0] for run in again]))
        same = [float(rows.double().sum()) for rows in resumed.storage.rows] == expected
        for run in runs:
            run.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{'memory at its peak (limit ' + str(LIMIT) + ')':<52}{peak:8.2f} GiB")
    print(f"{'the ring is what it was':<52}{same!s:>8}")
    return 0 if same and peak < LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())

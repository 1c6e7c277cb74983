"""Stepping speed of the particle worlds' twins against mpe2's parallel environments.

    make bench            or: .venv/bin/python -m tests.benchmarks.particle [TASK ...]

A hundred environments at once here, one there, random choices, resets included, one thread. Blocks of both
take turns; seconds are those of the thread, because machines are shared. The ratio is the median over blocks.
"""

import sys
import time
from importlib import import_module
from statistics import median

import numpy as np
from rich.console import Console
from rich.table import Table

from ascent import suites
from ascent.suites.anchors import random_actions

TASKS = ("simple_spread_v3", "simple_tag_v3")
ENVS, STEPS, ALONE, BLOCKS = 100, 200, 500, 15
PROMISE = 100.0


def measure(task: str) -> tuple[float, float, list[float]]:
    """Environment steps per second here and there, medians, and the ratio of each block."""
    batch, rng = suites.make(task, np.arange(ENVS)[:, None]), np.random.default_rng(0)
    env = import_module(f"mpe2.{task}").parallel_env()
    batch.reset()
    env.reset(seed=0)
    ours, theirs = [], []
    for _ in range(BLOCKS):
        plan = [random_actions(batch.spec.action_space, batch.shape, rng) for _ in range(STEPS)]
        start = time.thread_time()
        for actions in plan:
            batch.step(actions)
        ours.append(ENVS * STEPS / (time.thread_time() - start))
        names = batch.spec.team.agents
        own = [dict(zip(names, actions[0, 0].tolist(), strict=True)) for actions in plan for _ in range(3)]
        start = time.thread_time()
        for actions in own[:ALONE]:
            env.step(actions)
            if not env.agents:
                env.reset()
        theirs.append(ALONE / (time.thread_time() - start))
    return median(ours), median(theirs), [a / b for a, b in zip(ours, theirs, strict=True)]


def main(tasks: list[str]) -> int:
    """Print the table; the exit code is 1 if a promise is not kept."""
    table = Table("", f"{ENVS} at once, steps/s", "mpe2, steps/s", "ratio", "promise", box=None)
    kept = True
    for task in tasks:
        ours, theirs, ratios = measure(task)
        kept &= median(ratios) >= PROMISE
        table.add_row(task, f"{ours:,.0f}", f"{theirs:,.0f}", f"{median(ratios):.0f}", f"{PROMISE:.0f}")
    Console(width=160).print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(TASKS)))

"""Stepping speed of the MuJoCo twins against a bare loop of the mj_* calls that the task needs.

    make bench            or: .venv/bin/python -m tests.benchmarks.stepping [TASK ...]

Ten environments, one thread. Blocks of both take turns and make the same steps from the same states, resets
included, which is checked; seconds are those of the thread, because machines are shared. The ratio is the
median over blocks.
"""

import sys
import time
from statistics import median

import mujoco
import numpy as np
from rich.console import Console
from rich.table import Table

from ascent import suites
from ascent.suites.anchors import random_actions
from ascent.suites.mujoco import Simulation

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Ant-v5", "Humanoid-v5")
ENVS, STEPS, BLOCKS = 10, 100, 41
PROMISE = 0.9
STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


def batch_block(batch: Simulation, plan: list[np.ndarray]) -> tuple[float, dict[int, dict[int, np.ndarray]]]:
    """Seconds of the steps, and the episodes that began: step -> environment -> qpos and qvel."""
    begun: dict[int, dict[int, np.ndarray]] = {}
    seconds, size = 0.0, batch._model.nq + batch._model.nv
    for t, actions in enumerate(plan):
        start = time.thread_time()
        step = batch.step(actions)
        seconds += time.thread_time() - start
        ended = (step.terminated | step.truncated)[0]
        if ended.any():
            physics = batch.state()["physics"][0]
            begun[t] = {i: physics[i, :size] for i in ended.nonzero()[0].tolist()}
    return seconds, begun


def bare_block(
    batch: Simulation, datas: list[mujoco.MjData], plan: list[np.ndarray], begun: dict[int, dict]
) -> float:
    """Seconds of a loop that makes the same calls of MuJoCo, and looks at nothing."""
    model, frame_skip, contact_forces = batch._model, batch.FRAME_SKIP, "cfrc_ext" in batch.EXTRA_FIELDS
    nq, seconds, ctrls = model.nq, 0.0, [data.ctrl for data in datas]
    for t, (actions,) in enumerate(plan):
        start = time.thread_time()
        for data, ctrl, action in zip(datas, ctrls, actions, strict=True):
            ctrl[:] = action
            mujoco.mj_step(model, data, frame_skip)
            if contact_forces:
                mujoco.mj_rnePostConstraint(model, data)
        for i, first in begun.get(t, {}).items():
            mujoco.mj_resetData(model, datas[i])
            datas[i].qpos[:], datas[i].qvel[:] = first[:nq], first[nq:]
            mujoco.mj_forward(model, datas[i])
        seconds += time.thread_time() - start
    return seconds


def measure(task: str) -> tuple[float, float, list[float]]:
    """Steps per second of the batch and of the bare loop, medians, and the ratio of each block."""
    batch, rng = suites.make(task, np.arange(ENVS)[None]), np.random.default_rng(0)
    batch.reset()
    datas = [mujoco.MjData(batch._model) for _ in range(ENVS)]
    ours, bare = [], []
    for _ in range(BLOCKS):
        plan = [random_actions(batch.spec.action_space, (1, ENVS), rng) for _ in range(STEPS)]
        for data, state in zip(datas, batch.state()["simulation"][0], strict=True):
            mujoco.mj_setState(batch._model, data, state, STATE)
        seconds, begun = batch_block(batch, plan)
        ours.append(ENVS * STEPS / seconds)
        bare.append(ENVS * STEPS / bare_block(batch, datas, plan, begun))
        for data, state in zip(datas, batch.state()["simulation"][0], strict=True):
            mine = np.empty_like(state)
            mujoco.mj_getState(batch._model, data, mine, STATE)
            assert mine.tobytes() == state.tobytes(), "not the same steps"
    return median(ours), median(bare), [a / b for a, b in zip(ours, bare, strict=True)]


def main(tasks: list[str]) -> int:
    """Print the table; the exit code is 1 if a promise is not kept."""
    table = Table("", "batch, steps/s", "bare mj_* loop", "ratio", "quartiles", "promise", box=None)
    kept = True
    for task in tasks:
        ours, bare, ratios = measure(task)
        kept &= median(ratios) >= PROMISE
        low, high = np.quantile(ratios, (0.25, 0.75))
        figures = (f"{ours:,.0f}", f"{bare:,.0f}", f"{median(ratios):.1%}", f"{low:.1%} {high:.1%}")
        table.add_row(task, *figures, f"{PROMISE:.0%}")
    Console(width=160).print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(TASKS)))

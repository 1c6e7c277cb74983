"""Speed against libraries that compile: SBX, rejax and EnvPool; and Stable-Baselines3 beside them.

    make bench-peers      or: .venv-peers/bin/python -m tests.benchmarks.peers [ppo sac step-cartpole ...]

The same hyperparameters for all, and one core, the last of those allowed. Rounds of all sides alternate in
one process. Seconds are those of the processor, all threads together; the ratio is the median over rounds.
What a library compiles, it compiles before the first round. The output is a table of docs/benchmarks.md.

rejax stands for PureJaxRL as well, which is not a package, and which was as fast (96,150 and 96,971 steps/s).
"""

import os
import sys
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import partial
from importlib.metadata import version
from statistics import median

import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm

from ascent import suites
from ascent.runners.platform import describe_platform
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer
from ascent.suites.anchors import random_actions
from tests.benchmarks.speed import COMPARISONS, learner

ROUNDS = 5
PACKAGES = ("torch", "stable_baselines3", "sbx-rl", "rejax", "jax", "envpool", "mujoco")
ONE_CORE = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

Work = Callable[[], int]  # about a second of work; returns the environment steps that it made, over all seeds


# ---- training; the peers are imported where they are used, as the environment of the tests has none of them


def train_ours(name: str, seeds: int, steps: int) -> Work:
    """Train some seeds in one process, each by `steps` steps."""
    comparison = COMPARISONS[name]
    cell = resolve(comparison.system, comparison.task, overrides=comparison.ours, steps=10_000_000)
    trainer = Trainer(cell, range(seeds))
    while not trainer.updates:  # replay has begun
        trainer.advance()

    def work() -> int:
        first = trainer.step
        while trainer.step - first < steps:
            trainer.advance()
        return (trainer.step - first) * seeds

    return work


def train_theirs(model: BaseAlgorithm, steps: int) -> Work:
    """Train one seed with the interface of Stable-Baselines3."""
    model.learn(300)  # replay has begun

    def work() -> int:
        first = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - first

    return work


def train_sb3(name: str, steps: int) -> Work:
    comparison = COMPARISONS[name]
    return train_theirs(learner(comparison, comparison.peer), steps)


def train_sbx(name: str, steps: int) -> Work:
    import sbx

    comparison = COMPARISONS[name]
    return train_theirs(learner(comparison, getattr(sbx, comparison.peer.__name__)), steps)


def train_rejax(seeds: int, rollouts: int) -> Work:
    """Train PPO on CartPole, some seeds together, without evaluations."""
    import jax
    import rejax

    algorithm = rejax.get_algo("ppo").create(
        env="CartPole-v1",
        agent_kwargs={"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        num_envs=1,
        num_steps=2048,
        num_epochs=10,
        num_minibatches=2048 // 64,
        ent_coef=0.0,
        max_grad_norm=0.5,
        total_timesteps=rollouts * 2048,
        eval_freq=rollouts * 2048,
        skip_initial_evaluation=True,
    )
    algorithm = algorithm.replace(eval_callback=lambda *_: ())
    state = jax.jit(jax.vmap(algorithm.init_state))(jax.random.split(jax.random.PRNGKey(0), seeds))
    train = jax.jit(jax.vmap(lambda state: algorithm.train(train_state=state)[0]))

    def work() -> int:
        nonlocal state
        first = state.global_step.sum()
        state = jax.block_until_ready(train(state))
        return int(state.global_step.sum() - first)

    return work


# ---- stepping, with the same random actions


def plan(task: str, envs: int, steps: int) -> np.ndarray:
    """Return random actions (steps, envs, ...)."""
    space, rng = suites.TASKS[task].action_space, np.random.default_rng(0)
    return np.stack([random_actions(space, (envs,), rng) for _ in range(steps)])


def step_ours(task: str, envs: int, steps: int) -> Work:
    batch, actions = suites.make(task, np.arange(envs)[None]), plan(task, envs, steps)
    batch.reset()

    def work() -> int:
        for action in actions:
            batch.step(action[None])
        return steps * envs

    return work


def step_envpool(task: str, envs: int, steps: int) -> Work:
    """Step EnvPool's environments; the step after an episode's last is its reset, and counts."""
    import envpool

    batch = envpool.make_gymnasium(task, num_envs=envs, num_threads=1, seed=0)
    actions = plan(task, envs, steps).astype(batch.action_space.dtype)
    batch.reset()

    def work() -> int:
        for action in actions:
            batch.step(action)
        return steps * envs

    return work


# ---- the races


@dataclass(frozen=True)
class Ratio:
    """Steps per second of a side of ours over those of another, and what we promise."""

    ours: str
    theirs: str
    promise: float | None = None


@dataclass(frozen=True)
class Race:
    """What each side does, by its name, and the lines of the table."""

    label: str
    sides: Mapping[str, Callable[[], Work]]
    ratios: Sequence[Ratio]


def off_policy(name: str) -> Race:
    """Networks of 256 x 256, batches of 256, an update at every step."""
    return Race(
        f"{name.upper()}, HalfCheetah-v5",
        {
            "5 seeds": partial(train_ours, name, 5, 40),
            "1 seed": partial(train_ours, name, 1, 160),
            "SBX": partial(train_sbx, name, 240),
            "SB3": partial(train_sb3, name, 160),
        },
        [Ratio("5 seeds", "SBX", 1.1), Ratio("1 seed", "SBX", 1.0), Ratio("5 seeds", "SB3", 2.2)],
    )


RACES = {
    "ppo": Race(
        "PPO, CartPole-v1",
        {
            "10 seeds": partial(train_ours, "ppo", 10, 2048),
            "1 seed": partial(train_ours, "ppo", 1, 2 * 2048),
            "rejax, 10 seeds": partial(train_rejax, 10, 3),
            "rejax, 1 seed": partial(train_rejax, 1, 10),
            "SBX": partial(train_sbx, "ppo", 2048),
            "SB3": partial(train_sb3, "ppo", 2048),
        },
        [
            Ratio("10 seeds", "rejax, 10 seeds", 0.77),  # 75,000 of 97,000 steps/s
            Ratio("1 seed", "rejax, 1 seed", 0.18),  # 12,000 of 68,000 steps/s
            Ratio("10 seeds", "SBX"),
            Ratio("1 seed", "SBX", 1.0),
            Ratio("10 seeds", "SB3", 20.0),
        ],
    ),
    "ppo-mujoco": Race(
        "PPO, HalfCheetah-v5",
        {
            "10 seeds": partial(train_ours, "ppo-mujoco", 10, 2048),
            "1 seed": partial(train_ours, "ppo-mujoco", 1, 2 * 2048),
            "SBX": partial(train_sbx, "ppo-mujoco", 2048),
            "SB3": partial(train_sb3, "ppo-mujoco", 2048),
        },
        [
            Ratio("10 seeds", "SBX"),
            Ratio("1 seed", "SBX", 1.0),
            Ratio("10 seeds", "SB3", 11.0),
        ],
    ),
    **{name: off_policy(name) for name in ("sac", "td3", "ddpg")},
    "step-mujoco": Race(
        "stepping 10 x HalfCheetah-v5",
        {
            "Ascent": partial(step_ours, "HalfCheetah-v5", 10, 2_000),
            "EnvPool": partial(step_envpool, "HalfCheetah-v5", 10, 2_000),
        },
        [Ratio("Ascent", "EnvPool", 1.0)],
    ),
    "step-cartpole": Race(
        "stepping 100 x CartPole-v1",
        {
            "Ascent": partial(step_ours, "CartPole-v1", 100, 10_000),
            "EnvPool": partial(step_envpool, "CartPole-v1", 100, 10_000),
        },
        [Ratio("Ascent", "EnvPool", 1.0)],
    ),
}


def rates(race: Race) -> dict[str, list[float]]:
    """Return the environment steps per second of each side in each round."""
    works = {side: begin() for side, begin in race.sides.items()}
    for work in works.values():
        work()  # compile
    found: dict[str, list[float]] = {side: [] for side in works}
    for _ in range(ROUNDS):
        for side, work in works.items():
            start = time.process_time()
            steps = work()
            found[side].append(steps / (time.process_time() - start))
    return found


def report(race: Race) -> bool:
    """Print the lines of a race and return whether its promises are kept."""
    found = rates(race)
    kept = True
    for line in race.ratios:
        ours, theirs = found[line.ours], found[line.theirs]
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        ratio, target = median(ratios), ""
        if line.promise is not None:
            target = f"{line.promise:g}" + ("" if ratio >= line.promise else ": missed")
            kept &= ratio >= line.promise
        figures = f"{median(ours):,.0f} | {median(theirs):,.0f} | {ratio:.2f}"
        rounds = f"{min(ratios):.2f} to {max(ratios):.2f}"
        print(f"| {race.label} | {line.ours} | {line.theirs} | {figures} | {rounds} | {target} |", flush=True)
    return kept


def main(names: list[str]) -> int:
    """Print the table; the exit code is 1 if a promise is not kept."""
    if unknown := [name for name in names if name not in RACES]:
        print(f"no race {unknown[0]!r}; there are {', '.join(RACES)}", file=sys.stderr)
        return 2
    warnings.filterwarnings("ignore")
    os.environ["XLA_FLAGS"] = ONE_CORE  # read at the first computation
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    torch.set_num_threads(1)
    platform = describe_platform()
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    print(f"{date.today()}, {platform['cpu']}, `{platform['key']}`; {packages}.\n")
    print("| | Ascent | peer | Ascent, steps/s | peer, steps/s | ratio | rounds | target |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    return 0 if all([report(RACES[name]) for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(RACES)))

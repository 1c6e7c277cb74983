"""Training speed against Stable-Baselines3, in one run: the same hyperparameters, one thread each.

    make bench            or: .venv/bin/python -m tests.benchmarks.speed [ppo a2c trpo-mujoco ...]

Ours trains ten seeds (off-policy: five) in one process, theirs one; both figures are environment steps per
second of one core.
Rounds of ours and theirs alternate, because machines are shared and their speed drifts, and seconds are those
of the processor: the ratio is the median over rounds.
"""

import sys
import time
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from statistics import median
from typing import Any
from unittest import mock

import torch
from rich.console import Console
from rich.table import Table
from sb3_contrib import TRPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

import ascent.algorithms  # noqa: F401  (first of all: it sets what torch must find in the environment)
from ascent import kernels
from ascent.records.cell import Cell
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer

ROUNDS = 5


@dataclass(frozen=True)
class Comparison:
    """One line of the table: settings that mean the same on both sides, and the ratio that we promise."""

    system: str
    task: str
    ours: dict[str, object]
    peer: type[BaseAlgorithm]
    theirs: dict[str, Any]
    steps: int  # per round and seed for ours
    their_steps: int  # per round
    promise: float
    seeds: Sequence[int] = range(10)


COMPARISONS = {
    "ppo": Comparison(
        "ppo",
        "CartPole-v1",
        {"envs": 1, "steps": 2048, "epochs": 10, "minibatch": 64, "hidden": [64, 64], "anneal": False},
        PPO,
        {"n_steps": 2048, "batch_size": 64, "n_epochs": 10},
        3 * 2048,
        3 * 2048,
        10.0,
    ),
    "a2c": Comparison(
        "a2c",
        "CartPole-v1",
        {"envs": 1, "steps": 5, "hidden": [64, 64], "anneal": False},
        A2C,
        {"n_steps": 5},
        3000,
        4000,
        15.0,
    ),
    "dqn": Comparison(
        "dqn",
        "CartPole-v1",
        {
            "envs": 1,
            "batch": 64,
            "train_every": 1,
            "updates": 1,
            "learning_starts": 100,
            "capacity": 50_000,
            "hidden": [64, 64],
            "anneal": False,
        },
        DQN,
        {
            "batch_size": 64,
            "train_freq": 1,
            "gradient_steps": 1,
            "learning_starts": 100,
            "buffer_size": 50_000,
            "policy_kwargs": {"net_arch": [64, 64]},
        },
        2000,
        3000,
        10.0,
    ),
    "ppo-mujoco": Comparison(
        "ppo",
        "HalfCheetah-v5",
        {"anneal": False, "normalise": False},
        PPO,
        {"n_steps": 2048, "batch_size": 64, "n_epochs": 10},
        2 * 2048,
        2 * 2048,
        6.0,
    ),
    "a2c-mujoco": Comparison(
        "a2c",
        "HalfCheetah-v5",
        {"envs": 1, "steps": 5, "anneal": False, "normalise": False},
        A2C,
        {"n_steps": 5},
        2000,
        4000,
        10.0,
    ),
    "trpo-mujoco": Comparison(
        "trpo",
        "HalfCheetah-v5",
        {
            "envs": 1,
            "steps": 2048,
            "delta": 0.01,
            "cg_steps": 15,
            "value_epochs": 10,
            "normalise": False,
        },
        TRPO,
        {},
        2 * 2048,
        4 * 2048,
        5.0,
    ),
}


def off_policy(system: str, peer: type[OffPolicyAlgorithm]) -> Comparison:
    """Networks of 256 x 256, batches of 256, an update at every step; five seeds in one process."""
    return Comparison(
        system,
        "HalfCheetah-v5",
        {"learning_starts": 100},
        peer,
        {
            "batch_size": 256,
            "train_freq": 1,
            "gradient_steps": 1,
            "learning_starts": 100,
            "policy_kwargs": {"net_arch": [256, 256]},
        },
        150,
        600,
        1.5,
        range(5),
    )


COMPARISONS |= {name: off_policy(name, peer) for name, peer in (("ddpg", DDPG), ("td3", TD3), ("sac", SAC))}


def learner(comparison: Comparison, library: type[BaseAlgorithm]) -> BaseAlgorithm:
    """Return a learner of Stable-Baselines3, or of a library with its interface."""
    settings = deepcopy(comparison.theirs)  # SBX writes into them
    return library("MlpPolicy", make_vec_env(comparison.task, 1), device="cpu", **settings)


class Clock:
    """Adds up the time spent in some methods."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def watch(self, name: str, owner: object, method: str) -> None:
        work = getattr(owner, method)
        self.seconds[name] = 0.0

        def timed(*args: object, **kwargs: object) -> object:
            start = time.process_time()
            result = work(*args, **kwargs)
            self.seconds[name] += time.process_time() - start
            return result

        setattr(owner, method, timed)


def fastest_product(rows: int) -> float:
    """Return the floating-point operations per second of `rows` products of 256 x 256 matrices in float32.

    The fastest way counts: torch's two libraries or our kernels. torch leaves float32 to oneDNN only at a
    lower precision setting, which on some processors means bfloat16: such a product does not count.
    """
    x, w = torch.randn(rows, 256, 256), torch.randn(rows, 256, 256)
    exact = x.double() @ w.double()
    ways: list[tuple[str, Callable[[], Tensor]]]
    ways = [(precision, lambda: torch.bmm(x, w)) for precision in ("highest", "medium")]
    if kernels.enabled():
        layer = kernels.Perceptron([(w, torch.zeros(rows, 1, 256))], relu=False)
        ways.append(("highest", lambda: layer.forward(x, keep=False)[0]))
    rates = []
    for precision, product in ways:
        torch.set_float32_matmul_precision(precision)
        error = (product().double() - exact).norm() / exact.norm()
        start, n = time.process_time(), 20
        for _ in range(n):
            product()
        if error < 1e-6:
            rates.append(n * rows * 2 * 256**3 / (time.process_time() - start))
    torch.set_float32_matmul_precision("highest")
    return max(rates)


def operations(cell: Cell) -> float:
    """Return the floating-point operations of an update of one seed, counted in torch without our kernels."""
    with mock.patch.object(kernels, "enabled", return_value=False):
        trainer = Trainer(cell, [0])
        while not trainer.updates:
            trainer.advance()
        first = trainer.updates
        with FlopCounterMode(display=False) as counter:
            while trainer.updates < first + 4:  # TD3 moves its actor at every other update
                trainer.advance()
    return counter.get_total_flops() / (trainer.updates - first)


def measure(comparison: Comparison) -> tuple[list[float], list[float], dict[str, float]]:
    """Steps per second of ours and of theirs for each round, and the shares of our time.

    Where there are products of 256 x 256 matrices, "matrix floor" is the share of the update's time that its
    floating-point operations would take at the speed of such products, the fastest of this machine, measured
    in each round.
    """
    cell = resolve(comparison.system, comparison.task, overrides=comparison.ours, steps=10_000_000)
    trainer, clock = Trainer(cell, comparison.seeds), Clock()
    clock.watch("environment", trainer.env, "step")
    clock.watch("acting", trainer.agent, "act")
    clock.watch("update", trainer.agent, "update")
    clock.watch("sampling", trainer.storage, "batches")
    model = learner(comparison, comparison.peer)
    model.learn(300)  # both sides warm up
    for _ in range(300):
        trainer.advance()
    clock.seconds = dict.fromkeys(clock.seconds, 0.0)
    ours, theirs, wall, rates, updates = [], [], 0.0, [], trainer.updates
    for _ in range(ROUNDS):
        start, first = time.process_time(), trainer.step
        while trainer.step - first < comparison.steps:
            trainer.advance()
        seconds = time.process_time() - start
        wall += seconds
        rates.append(fastest_product(len(comparison.seeds)))
        ours.append((trainer.step - first) * len(comparison.seeds) / seconds)
        start, first = time.process_time(), model.num_timesteps
        model.learn(comparison.their_steps, reset_num_timesteps=False)
        theirs.append((model.num_timesteps - first) / (time.process_time() - start))
    shares = {name: seconds / wall for name, seconds in clock.seconds.items()}
    shares["the rest"] = 1 - sum(shares.values())
    if 256 in trainer.cell.config["hidden"]:
        products = len(comparison.seeds) * (trainer.updates - updates) * operations(cell)
        floor = products / median(rates)
        shares["matrix floor"] = floor / clock.seconds["update"]
    return ours, theirs, shares


def main(names: list[str]) -> int:
    """Print the table; the exit code is 1 if a promise is not kept."""
    warnings.filterwarnings("ignore")
    torch.set_num_threads(1)
    table = Table(
        "", "ours, steps/s", "SB3, steps/s", "ratio", "rounds", "promise", "where our time goes", box=None
    )
    kept = True
    for name in names:
        comparison = COMPARISONS[name]
        ours, theirs, shares = measure(comparison)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        kept &= median(ratios) >= comparison.promise
        where = ", ".join(f"{part} {share:.0%}" for part, share in shares.items())
        rounds = " ".join(f"{ratio:.1f}" for ratio in ratios)
        figures = (f"{median(ours):,.0f}", f"{median(theirs):,.0f}", f"{median(ratios):.1f}x", rounds)
        table.add_row(f"{comparison.system} {comparison.task}", *figures, f"{comparison.promise:g}x", where)
    Console(width=160).print(table)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or list(COMPARISONS)))

"""Speed of an algorithm with torch.nn: ten seeds by our runner, one by gymnasium's vector environment.

    make bench            or: .venv/bin/python -m tests.benchmarks.per_seed

Both drive the learner of `ascent new algorithm --nn` with eight environments. Figures are environment steps
per second of one core. Rounds alternate, because machines are shared; the ratio is the median over rounds.
"""

import sys
import time
from statistics import median
from typing import Any

import gymnasium
import torch

from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Batch
from ascent.runners import own
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer

ROUNDS, SEEDS, WINDOWS = 5, range(10), 40
PROMISE = 1.0  # of the ratio
TASK = "CartPole-v1"


def ours(word: str) -> float:
    """Return steps per second of training ten seeds."""
    trainer = Trainer(resolve(word, TASK, steps=10**6), SEEDS)
    steps = WINDOWS // 4 * trainer.storage.length * trainer.envs
    start = time.process_time()
    while trainer.step < steps:
        trainer.advance()
    return len(SEEDS) * trainer.step / (time.process_time() - start)


def theirs(word: str) -> float:
    """Return steps per second of a loop that trains one learner on gymnasium's vector environment."""
    cell = resolve(word, TASK, steps=10**6)
    module: Any = SYSTEMS[cell.system].module()
    config = module.Config()
    envs = gymnasium.make_vec(TASK, num_envs=config.envs, vectorization_mode="sync")
    learner = module.Agent.Learner(config, envs.single_observation_space, envs.single_action_space)
    seen, _ = envs.reset(seed=0)
    start = time.process_time()
    for _ in range(WINDOWS):
        rows = []
        for _ in range(config.steps):
            obs = torch.from_numpy(seen)
            with torch.no_grad():
                action = learner.act(obs, True, 0.0)
            seen, reward, terminated, truncated, _ = envs.step(action.numpy())
            numbers = (torch.from_numpy(x).float() for x in (reward, seen, terminated, truncated))
            rows.append((obs, action, *numbers))
        learner.update(Batch(*(torch.stack(column) for column in zip(*rows, strict=True))), 0.0)
    return WINDOWS * config.steps * config.envs / (time.process_time() - start)


def main() -> int:
    """Print the comparison, and return 1 if the promise is not kept."""
    torch.set_num_threads(1)
    word = str(own.TEMPLATES / "torch_nn.py")
    rounds = [(ours(word), theirs(word)) for _ in range(ROUNDS)]
    ratio = median(a / b for a, b in rounds)
    a, b = (median(column) for column in zip(*rounds, strict=True))
    print(f"torch.nn learner on {TASK}: {a:,.0f} steps/s with ten seeds, {b:,.0f} steps/s by gymnasium's")
    print(f"vector environment with one: {ratio:.2f} times as fast (promise: {PROMISE})")
    return int(ratio < PROMISE)


if __name__ == "__main__":
    sys.exit(main())

"""Learning: ten seeds at once reach a stated score, the mean greedy return over the last ten evaluations.

The default tests train PPO for a short time; test_probes.py has small problems for all of them.
`make slow` runs full budgets of all, and prints the scores.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ascent import suites
from ascent.algorithms.seedwise import Streams
from ascent.records.cell import Evaluation
from ascent.runners import policies
from ascent.runners.play import env_seeds
from ascent.runners.resolve import resolve
from ascent.runners.train import train
from tests.algorithms.test_rpc import cost_of

SEEDS = list(range(10))
# (system, task, steps per seed, evaluations over the budget, evaluations that count, least score, and the
# preset if it is not the default)
COLUMNS = ("system", "task", "steps", "points", "last", "least", "preset")
FULL = [
    ("ppo", "CartPole-v1", 100_000, 50, 10, 475.0, "small"),
    ("a2c", "CartPole-v1", 300_000, 50, 10, 450.0, "small"),
    ("dqn", "CartPole-v1", 100_000, 50, 10, 400.0, "small"),
    ("reinforce", "CartPole-v1", 100_000, 50, 10, 350.0, "small"),
    ("vpg", "CartPole-v1", 100_000, 50, 10, 350.0, "small"),
    ("a3c", "CartPole-v1", 200_000, 50, 10, 450.0, "small"),
    ("trpo", "CartPole-v1", 100_000, 50, 10, 475.0, "small"),
    ("trpo", "Pendulum-v1", 100_000, 10, 3, -300.0, "small"),
    ("ppo", "Acrobot-v1", 200_000, 50, 10, -95.0, "small"),
    ("ppo", "Pendulum-v1", 300_000, 50, 10, -250.0, "small"),
    ("ddpg", "Pendulum-v1", 30_000, 50, 10, -180.0, "small"),
    ("td3", "Pendulum-v1", 30_000, 50, 10, -180.0, "small"),
    ("sac", "Pendulum-v1", 30_000, 50, 10, -180.0, "small"),
    ("sac-fixed", "Pendulum-v1", 30_000, 50, 10, -180.0, "small"),
    ("maddpg", "simple_speaker_listener_v4", 64_000, 8, 2, -25.0, "small"),
    # Of a random policy -40.
    ("mappo", "simple_speaker_listener_v4", 40_000, 10, 3, -30.0, "small"),
    # A tenth of the budget of the MuJoCo tasks.
    ("ppo", "Hopper-v5", 100_000, 10, 3, 350.0),
    ("trpo", "Hopper-v5", 100_000, 10, 3, 450.0),
    ("a2c", "InvertedPendulum-v5", 100_000, 10, 3, 250.0),
    ("a3c", "InvertedPendulum-v5", 100_000, 10, 3, 900.0),
]


def scores(
    system: str,
    task: str,
    steps: int,
    points: int,
    last: int,
    out: Path,
    preset: str | None = None,
    **overrides: object,
) -> np.ndarray:
    """Each seed's mean greedy return over its last evaluations."""
    evaluation = Evaluation(points, 10)
    cell = resolve(system, task, preset=preset, overrides=overrides, steps=steps, evaluation=evaluation)
    assert train(cell, SEEDS, out)
    found = []
    for seed in SEEDS:
        table = pd.read_csv(cell.folder(out) / f"seed-{seed}" / "eval.csv")
        means = table[table.policy == "greedy"].groupby("step")["return"].mean()
        assert len(means) == points + 1
        found.append(means.iloc[-last:].mean())
    print(f"{system} {task} {steps:,} steps: mean {np.mean(found):.1f}, seeds {np.round(found, 1).tolist()}")
    return np.array(found)


def test_learns(tmp_path: Path) -> None:
    assert scores("ppo", "CartPole-v1", 25_000, 10, 3, tmp_path, "small").mean() >= 400.0


@pytest.mark.slow
@pytest.mark.parametrize(COLUMNS, [(*row, None)[: len(COLUMNS)] for row in FULL])
def test_reaches(
    system: str,
    task: str,
    steps: int,
    points: int,
    last: int,
    least: float,
    preset: str | None,
    tmp_path: Path,
) -> None:
    assert scores(system, task, steps, points, last, tmp_path, preset).mean() >= least


def settled_costs(out: Path) -> np.ndarray:
    """Each seed's mean cost per step over the last fifth of its run of rpc, the only cell under `out`."""
    found = []
    for seed in SEEDS:
        (path,) = out.glob(f"*/*/*/seed-{seed}/metrics.csv")
        table = pd.read_csv(path)
        found.append(table.cost[table.step > 0.8 * table.step.max()].mean())
    print(f"cost per step, seeds {np.round(found, 3).tolist()}")
    return np.array(found)


def cost_of_acting(out: Path) -> np.ndarray:
    """Each seed's mean cost per step over ten episodes that its final policy samples."""
    (folder,) = (path.parent for path in out.glob("*/*/*/cell.json"))
    cell = policies.read_cell(folder)
    agent, env = policies.load(cell, folder, SEEDS), suites.make(cell.task, env_seeds(SEEDS, 10, "test"))
    rng, noise = Streams(SEEDS, "eval"), Streams(SEEDS, "test")
    obs, carry, costs = torch.from_numpy(env.reset()), None, []
    agent.updates = 1  # else actions are those of one who knows nothing yet
    for _ in range(env.spec.horizon):
        action, carry = agent.act(obs, rng, True, 1.0, carry)
        now = env.step(action.numpy())
        next_obs = torch.from_numpy(now.next_obs)
        costs.append(cost_of(agent, obs, action, next_obs, noise.normal(10, agent.config.latent)).mean(1))
        obs = torch.from_numpy(now.obs)
    found = torch.stack(costs).mean(0).numpy()
    print(f"cost per step of acting, seeds {np.round(found, 3).tolist()}")
    return found


@pytest.mark.slow
def test_rpc_learns_at_its_rate(tmp_path: Path) -> None:
    """It learns the task while every seed's lambda holds the cost where it was asked to, in replay and, on
    average, where it acts; a lower rate buys less.
    """
    found = scores("rpc", "Pendulum-v1", 20_000, 50, 10, tmp_path / "0.3", "small")
    costs, acting = settled_costs(tmp_path / "0.3"), cost_of_acting(tmp_path / "0.3")
    np.testing.assert_allclose(costs, 0.3, rtol=0.2)
    np.testing.assert_allclose(acting.mean(), 0.3, rtol=0.2)
    assert found.mean() >= -220.0
    scores("rpc", "Pendulum-v1", 20_000, 10, 2, tmp_path / "0.1", "small", rate=0.1)
    assert (settled_costs(tmp_path / "0.1") < 0.7 * costs).all()

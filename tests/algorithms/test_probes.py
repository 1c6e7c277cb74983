"""Probe environments with known values: each system learns them, on every kind of action it can take."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from ascent.algorithms.seedwise import Streams, WholeEpisodes
from ascent.runners.conform_algorithm import SEEDS, trained_on_probe
from ascent.runners.trainer import Trainer
from ascent.suites import probes
from tests.small import kind_of, others_slow, systems_and_tasks

KINDS = {"CartPole-v1": "discrete", "Pendulum-v1": "continuous"}
PAIRS = systems_and_tasks(tuple(KINDS))


def trained(system: str, probe: str, task: str) -> Trainer:
    """Train on a probe environment with the kind of actions of a task."""
    with probes.listed():
        return trained_on_probe(system, probe, KINDS[task])


def values(trainer: Trainer, *observations: float) -> np.ndarray:
    """(S, n): the system's estimate of the value of each observation.

    An agent calls its value network `value`, `baseline` or `q`; from q(obs) the best action's value is taken,
    from critics q(obs, action), whose actions are scaled to [-1, 1], that of the greedy action.
    """
    obs = torch.tensor(observations).repeat(len(SEEDS), 1)[..., None]  # (S, n, 1)
    agent = trainer.agent
    if isinstance(trainer.spec.action_space, spaces.Box) and hasattr(agent, "q"):
        action, _ = agent.act(obs, Streams(SEEDS, "test"), False, 1.0)
        with torch.no_grad():
            return agent.q(obs, agent.bounds.normalise(action)).mean(1).numpy()
    networks = [getattr(agent, name) for name in ("value", "baseline", "q") if hasattr(agent, name)]
    with torch.no_grad():
        return networks[0](obs).amax(-1).numpy()


@pytest.mark.slow  # what bootstraps at a time limit has learned it
@pytest.mark.parametrize(("system", "task"), PAIRS)
def test_known_reward(system: str, task: str) -> None:
    assert values(trained(system, "known-reward", task), -1.0, 1.0) == pytest.approx(
        np.array([[-1.0, 1.0]] * 3), abs=0.15
    )


@pytest.mark.slow
@pytest.mark.parametrize(("system", "task"), PAIRS)
def test_delayed_reward(system: str, task: str) -> None:
    expected = np.array([[probes.GAMMA, 1.0]] * 3)
    assert values(trained(system, "delayed-reward", task), 0.0, 1.0) == pytest.approx(expected, abs=0.12)


@pytest.mark.parametrize(("system", "task"), others_slow(PAIRS, kind_of))
def test_time_limit_is_no_end(system: str, task: str) -> None:
    """Except where nothing bootstraps: there the return ends with the limit, after 3, 2 or 1 rewards."""
    trainer = trained(system, "time-limit", task)
    expected = 1 / (1 - probes.GAMMA)
    if isinstance(trainer.agent.experience, WholeEpisodes):
        expected = np.mean([sum(probes.GAMMA**k for k in range(left)) for left in (3, 2, 1)])
    assert values(trainer, 1.0) == pytest.approx(np.full((3, 1), expected), rel=0.2)


@pytest.mark.parametrize(("system", "task"), others_slow(PAIRS, kind_of))
def test_follows_the_observation(system: str, task: str) -> None:
    trainer = trained(system, "follow", task)
    obs = torch.tensor([[[-1.0], [1.0]]] * 3)
    action, _ = trainer.agent.act(obs, Streams(SEEDS, "test"), False, 1.0)
    if isinstance(trainer.spec.action_space, spaces.Discrete):
        assert action.tolist() == [[0, 1]] * 3
    else:
        assert action[..., 0].numpy() == pytest.approx(np.array([[-0.5, 0.5]] * 3), abs=0.25)

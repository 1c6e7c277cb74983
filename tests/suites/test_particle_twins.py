"""Compare the particle worlds of suites/particle.py with mpe2, step by step and bit for bit.

The original environments can no longer be installed. Their conventions are checked against formulas, and
against the returns of the random policy that were measured with the original code.
"""

from collections.abc import Iterator
from importlib import import_module
from typing import Any

import numpy as np
import pytest

from ascent import suites
from ascent.suites.anchors import random_actions
from ascent.suites.particle import SCENARIOS, World
from ascent.suites.spec import leaves
from tests.suites.particle_play import actions as scripted
from tests.suites.particle_play import scripted_scores

pytest.importorskip("mpe2", reason="mpe2 is not installed")

from pettingzoo import ParallelEnv
from pettingzoo.test import parallel_api_test
from pettingzoo.utils.env_logger import EnvLogger

SEEDS = np.arange(7, 27).reshape(4, 5)
TWINS = [f"{name}{kind}" for name in SCENARIOS for kind in ("", "-continuous")]
ORIGINALS = [task for task in suites.TASKS if task.endswith("-openai")]


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Silence the wrapper of mpe2, which warns about every action out of range."""
    EnvLogger.suppress_output()
    yield
    EnvLogger.unsuppress_output()


def original(task: str) -> ParallelEnv:
    name, _, kind = task.partition("-")
    return import_module(f"mpe2.{name}").parallel_env(continuous_actions=kind == "continuous")


def by_agent(batch: World, action: np.ndarray) -> dict[str, Any]:
    """Return one environment's action (N,) or (A,) in the format of PettingZoo."""
    if batch.discrete:
        return {name: int(choice) for name, choice in zip(batch.spec.team.agents, action, strict=True)}
    ends = np.cumsum([space.shape[0] for space in batch.spec.action_space])[:-1]
    return dict(zip(batch.spec.team.agents, np.split(action, ends), strict=True))


def joined(batch: World, values: dict[str, Any]) -> bytes:
    return np.hstack([values[name] for name in batch.spec.team.agents]).tobytes()


def play(batch: World, episode: int, rng: np.random.Generator) -> np.ndarray:
    """Return the actions of one of three policies, which take turns by episode.

    They are random actions, also out of range; the script with some random actions, which drives agents into
    each other; and one action for the whole episode, which moves agents far away.
    """
    if episode % 3 == 2:
        return random_actions(batch.spec.action_space, batch.shape, np.random.default_rng(episode))
    action = random_actions(batch.spec.action_space, batch.shape, rng)
    if not batch.discrete:
        action = (1.6 * action - 0.3).astype(np.float32)
        action[rng.random(action.shape) < 0.05] = -0.0
    if episode % 3 == 1:
        astray = rng.random(action.shape) < 0.1
        action = np.where(astray, action, scripted(batch)).astype(action.dtype)
    return action


# mpe2's own environments are stepped alone, and slowly; this one, with its six agents, is the slowest.
LARGEST = "simple_world_comm_v3"
EPISODES = [
    pytest.param(task, n, marks=[pytest.mark.slow] * (n > 3 or task == LARGEST))
    for task in TWINS
    for n in (3, 10)
]


@pytest.mark.parametrize(("task", "episodes"), EPISODES)
def test_twin_equals_mpe2_bit_for_bit(task: str, episodes: int) -> None:
    """Compare observations, rewards, flags and the float64 state of every entity.

    Each of the twenty environments of one batch plays `episodes` episodes. mpe2 plays each environment alone.
    """
    batch, env, rng = suites.make(task, SEEDS), original(task), np.random.default_rng(3)
    team, horizon, touched, out = batch.spec.team, batch.spec.horizon, 0, 0
    first, played = batch.reset(), []
    for cycle in range(episodes * horizon):
        action = play(batch, cycle // horizon, rng)
        out += 0 if batch.discrete else int(((action < 0).any(-1) & (action > 1).any(-1)).sum())
        step = batch.step(action)
        view = batch._view(batch._current())
        if batch._pairs:
            delta = view.pos[batch._first] - view.pos[batch._second]
            touched += int((np.hypot(delta[:, 0], delta[:, 1]) < batch._pair_touch).any(0).sum())
        played.append((action, step, view))
    assert not batch._pairs or touched > 10 * episodes, touched
    assert batch.discrete or out > 20 * episodes

    for n, at in enumerate(np.ndindex(SEEDS.shape)):
        before = first
        for cycle, (action, step, view) in enumerate(played):
            last = (cycle + 1) % horizon == 0
            if cycle % horizon == 0:
                observed, _ = env.reset(seed=None if cycle else int(SEEDS[at]))
                assert joined(batch, observed) == before[at].tobytes(), (at, cycle)
            observed, rewards, ends, cuts, _ = env.step(by_agent(batch, action[at]))
            assert joined(batch, observed) == step.next_obs[at].tobytes(), (at, cycle)
            wanted = np.array([float(rewards[name]) for name in team.agents])
            assert wanted.tobytes() == step.reward[at].tobytes(), (at, cycle)
            assert not any(ends.values()) and not step.terminated[at]
            assert {last} == set(cuts.values()) == {bool(step.truncated[at])}
            if not last:  # after the last step, the batch has begun the next episode
                world = env.unwrapped.world
                pos, vel = view.pos[..., n], view.vel[..., n]
                assert np.array([e.state.p_pos for e in world.entities]).tobytes() == pos.tobytes()
                assert np.array([a.state.p_vel for a in world.agents]).tobytes() == vel.tobytes()
            before = step.obs


def one(task: str, **state: np.ndarray) -> World:
    """Return a batch of one environment with given positions (M, 2) and velocities (N, 2)."""
    batch = suites.make(task, np.array([[0]]))
    batch.reset()
    view = batch._view(batch._physics)
    for name, value in state.items():
        getattr(view, name)[..., 0] = value
    return batch


def test_a_reward_of_nothing_has_no_sign() -> None:
    """Test an agent exactly at its goal, which random play never reaches."""
    batch, env = one("simple_v3", pos=np.zeros((2, 2)), vel=np.zeros((1, 2))), original("simple_v3")
    env.reset(seed=0)
    for entity in env.unwrapped.world.entities:
        entity.state.p_pos = np.zeros(2)
    _, rewards, *_ = env.step({"agent_0": 0})
    assert np.float64(rewards["agent_0"]).tobytes() == batch.step(np.array([[[0]]])).reward.tobytes()


@pytest.mark.parametrize("task", TWINS)
def test_spaces_and_names_are_mpe2s(task: str) -> None:
    spec, env = suites.TASKS[task], original(task)
    assert spec.team.agents == tuple(env.possible_agents)
    for k, name in enumerate(spec.team.agents):
        assert spec.observation_space[k] == env.observation_space(name)
        assert spec.action_space[k] == env.action_space(name)
    sides = tuple("adversary" if "adversary" in n or n == "eve_0" else "agent" for n in spec.team.agents)
    assert spec.team.sides == sides
    assert set(spec.team.scored) <= set(spec.team.agents)


class Adapter(ParallelEnv):
    """Present a batch of one environment as a PettingZoo environment."""

    metadata = {"name": "adapter"}  # noqa: RUF012

    def __init__(self, task: str) -> None:
        self.task, spec = task, suites.TASKS[task]
        self.agents, self.possible_agents = [], list(spec.team.agents)
        self.observation_spaces = dict(zip(spec.team.agents, spec.observation_space, strict=True))
        self.action_spaces = dict(zip(spec.team.agents, spec.action_space, strict=True))

    def observation_space(self, agent: str) -> Any:
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> Any:
        return self.action_spaces[agent]

    def _observed(self, obs: np.ndarray) -> dict[str, np.ndarray]:
        ends = np.cumsum([space.shape[0] for space in self.observation_spaces.values()])[:-1]
        return dict(zip(self.possible_agents, np.split(obs[0, 0], ends), strict=True))

    def reset(self, seed: int | None = None, options: dict | None = None) -> tuple[dict, dict]:
        self.batch = suites.make(self.task, np.array([[seed or 0]]))
        self.agents = list(self.possible_agents)
        return self._observed(self.batch.reset()), {name: {} for name in self.agents}

    def step(self, actions: dict[str, Any]) -> tuple[dict, dict, dict, dict, dict]:
        row = np.hstack([actions[name] for name in self.agents])
        step = self.batch.step(row[None, None] if self.batch.discrete else row[None, None].astype(np.float32))
        names, self.agents = self.agents, [] if step.truncated.any() else self.agents
        flags = dict.fromkeys(names, False), dict.fromkeys(names, bool(step.truncated))
        rewards = dict(zip(names, step.reward[0, 0].tolist(), strict=True))
        return self._observed(step.next_obs), rewards, *flags, {name: {} for name in names}


@pytest.mark.parametrize("task", TWINS)
def test_pettingzoos_own_test_passes(task: str) -> None:
    parallel_api_test(Adapter(task), num_cycles=60)


# Conventions of the original.


def vector(move: int) -> np.ndarray:
    return np.eye(5, dtype=np.float32)[move][None, None]


def test_an_action_moves_its_agent_in_the_same_step() -> None:
    """v = 0 * 0.75 + 5 * 0.1, then x += v * 0.1; in mpe2 the position changes in the next step only."""
    for move, direction in ((1, (1, 0)), (2, (-1, 0)), (3, (0, 1)), (4, (0, -1))):
        batch = one("simple-openai", pos=np.zeros((2, 2)), vel=np.zeros((1, 2)))
        batch.step(vector(move))
        np.testing.assert_allclose(batch._view(batch._physics).pos[0, :, 0], 0.05 * np.array(direction))
    twin = one("simple_v3", pos=np.zeros((2, 2)), vel=np.zeros((1, 2)))
    twin.step(np.array([[[2]]]))
    assert not twin._view(twin._physics).pos[0].any()
    twin.step(np.array([[[0]]]))
    np.testing.assert_allclose(twin._view(twin._physics).pos[0, :, 0], (0.05, 0))


def test_soft_actions_push_less() -> None:
    batch = one("simple-openai", pos=np.zeros((2, 2)), vel=np.zeros((1, 2)))
    batch.step(np.array([[[0.1, 0.5, 0.2, 0.1, 0.1]]], dtype=np.float32))
    np.testing.assert_allclose(batch._view(batch._physics).vel[0, :, 0], (0.15, 0), atol=1e-7)


def test_rewards_of_spread() -> None:
    """In the same state without contacts, mpe2's reward r of a step is 6 r - 3 in the original.

    A contact costs both agents 1. In the original all agents share this cost; in mpe2 it is halved.
    """
    rng = np.random.default_rng(0)
    for gap in (1.0, 0.1):
        pos = np.array([[-gap, 0.0], [0.0, 0.0], [0.0, 5.0], *rng.uniform(-1, 1, (3, 2))])
        first, second = (
            one(task, pos=pos, vel=np.zeros((3, 2))) for task in ("simple_spread-openai", "simple_spread_v3")
        )
        whole, half = (w._outcome(w._view(w._current()))[0] for w in (first, second))
        distances = np.linalg.norm(pos[:3, None] - pos[3:], axis=-1).min(0).sum()
        contact = float(gap < 0.3)
        np.testing.assert_allclose(whole, np.full((3, 1), -3 * distances - 3 - 2 * contact))
        np.testing.assert_allclose(np.ravel(half), -0.5 * distances - 0.5 * contact * np.array([1, 1, 0]))
        if not contact:
            np.testing.assert_allclose(whole, 6 * np.array(half) - 3)


def test_rewards_that_are_squared_summed_or_turned_round() -> None:
    pos = np.random.default_rng(1).uniform(-1, 1, (11, 2))

    def rewards(task: str) -> np.ndarray:
        batch = suites.make(task, np.array([[0]]))
        batch.reset()
        view = batch._view(batch._physics)
        view.pos[..., 0] = pos[: len(view.pos)]
        view.drawn[:] = 1
        return np.ravel(batch._outcome(view)[0])

    adversary, *good = rewards("simple_adversary-openai")
    assert adversary == pytest.approx(-np.sum((pos[0] - pos[4]) ** 2))
    assert rewards("simple_adversary_v3")[0] == pytest.approx(-np.linalg.norm(pos[0] - pos[4]))
    assert good == pytest.approx(rewards("simple_adversary_v3")[1:])
    squares = [np.sum((pos[1 - i] - pos[3]) ** 2) for i in range(2)]
    assert rewards("simple_reference-openai") == pytest.approx([-sum(squares)] * 2)
    square = np.sum((pos[1] - pos[3]) ** 2)
    assert rewards("simple_speaker_listener-openai") == pytest.approx([-2 * square] * 2)
    assert rewards("simple_speaker_listener_v4") == pytest.approx([-square] * 2)
    food = [np.linalg.norm(pos[7:9] - pos[i], axis=1).min() for i in (4, 5)]
    difference = rewards("simple_world_comm-openai")[4:] - rewards("simple_world_comm_v3")[4:]
    assert difference == pytest.approx(0.1 * np.array(food))
    for task in ("simple", "simple_crypto", "simple_push", "simple_tag"):
        assert rewards(f"{task}-openai") == pytest.approx(rewards(f"{task}_v3"))


# Mean returns of agents and their standard errors over 1,000 episodes of 25 steps, measured with mpe2 1.1.1
# and with the original's own physics and rewards. Random choices; in the original as one-hot vectors, and as
# samples of a softmax of Gumbel noise, which is what an untrained MADDPG does.
MPE2 = {
    "simple_v3": {"agent_0": (-39.8, 1.0)},
    "simple_adversary_v3": {"adversary_0": (-29.2, 0.4), "agent_0": (8.4, 0.5)},
    "simple_crypto_v3": {"eve_0": (-37.4, 0.1), "bob_0": (-0.2, 0.2)},
    "simple_push_v3": {"adversary_0": (0.4, 0.6), "agent_0": (-28.3, 0.4)},
    "simple_reference_v3": {"agent_0": (-28.6, 0.3), "agent_1": (-28.3, 0.3)},
    "simple_speaker_listener_v4": {"speaker_0": (-40.0, 1.0)},
    "simple_spread_v3": {"agent_0": (-26.1, 0.3)},
    "simple_tag_v3": {"adversary_0": (4.3, 0.4), "agent_0": (-16.9, 0.7)},
    "simple_world_comm_v3": {"adversary_0": (3.4, 0.3), "agent_0": (-23.3, 1.0), "agent_1": (-25.3, 1.0)},
}
ONE_HOT = {
    "simple": {"agent_0": (-38.2, 1.0)},
    "simple_adversary": {"adversary_0": (-42.6, 1.1), "agent_0": (8.1, 0.5)},
    "simple_crypto": {"eve_0": (-37.8, 0.1), "bob_0": (0.3, 0.2)},
    "simple_push": {"adversary_0": (-0.2, 0.6), "agent_0": (-28.5, 0.4)},
    "simple_reference": {"agent_0": (-81.7, 1.6)},
    "simple_speaker_listener": {"speaker_0": (-80.1, 2.2)},
    "simple_spread": {"agent_0": (-234.4, 1.5)},
    "simple_tag": {"adversary_0": (3.2, 0.3), "agent_0": (-15.2, 0.6)},
    "simple_world_comm": {"adversary_0": (1.2, 0.2), "agent_0": (-21.5, 1.0), "agent_1": (-20.6, 1.0)},
}
SOFT = {
    "simple": {"agent_0": (-37.2, 1.0)},
    "simple_adversary": {"adversary_0": (-36.4, 1.0), "agent_0": (7.3, 0.5)},
    "simple_crypto": {"eve_0": (-24.2, 0.1), "bob_0": (-0.1, 0.1)},
    "simple_push": {"adversary_0": (-0.9, 0.5), "agent_0": (-26.1, 0.4)},
    "simple_reference": {"agent_0": (-71.0, 1.3)},
    "simple_speaker_listener": {"speaker_0": (-67.4, 1.9)},
    "simple_spread": {"agent_0": (-221.6, 1.5)},
    "simple_tag": {"adversary_0": (2.0, 0.2), "agent_0": (-7.9, 0.4)},
    "simple_world_comm": {"adversary_0": (0.7, 0.2), "agent_0": (-10.1, 0.7), "agent_1": (-11.5, 0.7)},
}
PLAYS = [
    *((name, "choices", found) for name, found in MPE2.items()),
    *((f"{name}-openai", "one-hot", found) for name, found in ONE_HOT.items()),
    *((f"{name}-openai", "soft", found) for name, found in SOFT.items()),
]


@pytest.mark.parametrize(("task", "kind", "published"), PLAYS)
def test_random_returns_are_those_measured_elsewhere(task: str, kind: str, published: dict) -> None:
    episodes = 4_000
    batch, rng = suites.make(task, 1_000 + np.arange(episodes)[:, None]), np.random.default_rng(0)
    parts = [leaf.shape[0] for leaf in leaves(batch.spec.action_space) if kind != "choices"]
    batch.reset()
    returns = 0.0
    for _ in range(batch.spec.horizon):
        if kind == "choices":
            action = random_actions(batch.spec.action_space, batch.shape, rng)
        else:
            noise = [rng.gumbel(size=(episodes, 1, part)) for part in parts]
            if kind == "one-hot":
                found = [(x == x.max(-1, keepdims=True)) * 1.0 for x in noise]
            else:
                found = [np.exp(x) / np.exp(x).sum(-1, keepdims=True) for x in noise]
            action = np.concatenate(found, -1).astype(np.float32)
        returns = returns + batch.step(action).reward
    for name, (mean, error) in published.items():
        own = returns[:, 0, batch.spec.team.agents.index(name)]
        # Rounded to 0.1. One of these 39 fails by chance once in 400 runs.
        bound = 4 * np.hypot(error, own.std() / np.sqrt(episodes)) + 0.05
        assert abs(own.mean() - mean) < bound, (name, own.mean(), mean)


@pytest.mark.parametrize("task", [*TWINS, *ORIGINALS])
def test_reference_score_is_the_scripts(task: str) -> None:
    scores = scripted_scores(task, 2_000)
    assert abs(scores.mean() - suites.TASKS[task].reference_score) < 4 * scores.std() / np.sqrt(2_000) + 0.05


# Measures.


def test_measures() -> None:
    """Compare measures with values computed by hand."""
    pos = np.array([[0.0, 0.0], [0.2, 0.0], [0.0, 2.0], [0.05, 0.0], [0.0, 2.5], [0.2, 1.0]])
    batch = one("simple_spread_v3", pos=pos)
    collisions, distance, covered = (float(m[0]) for m in batch._outcome(batch._view(batch._current()))[1])
    assert (collisions, covered) == (1, 1)
    assert distance == pytest.approx((0.05 + 0.5 + 1.0) / 3)
    apart = np.array([[0.0, 0.0], [0.0, 0.12], [5.0, 0.0], [0.0, 0.0], [3.0, 3.0], [4.0, 4.0]])
    batch = one("simple_tag_v3", pos=apart)
    contacts, nearest = (float(m[0]) for m in batch._outcome(batch._view(batch._current()))[1])
    assert (contacts, nearest) == (2, 0)


def test_measures_of_a_step_are_in_its_result() -> None:
    batch = suites.make("simple_spread_v3", np.arange(6).reshape(3, 2))
    batch.reset()
    step = batch.step(np.zeros((3, 2, 3), int))
    found = np.stack(batch._outcome(batch._view(batch._current()))[1], 1).reshape(3, 2, 3)
    np.testing.assert_array_equal(step.measures, found)

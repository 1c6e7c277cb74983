"""Measures at evaluations: known values, exact variances, and no effect on training."""

import csv
from collections.abc import Callable
from dataclasses import replace
from math import log, pi
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.integrate
import torch
from gymnasium import spaces

from ascent import suites
from ascent.algorithms.seedwise import Batch, Parameters, Streams
from ascent.records import layout, run_reader
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.records.read import load
from ascent.reports.checking import check
from ascent.runners import attempt, measures, sweep
from ascent.runners.play import env_seeds
from ascent.runners.resolve import make_agent, resolve
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from ascent.suites.batch import Batch as Environments
from tests.command import call
from tests.small import KINDS, kind_of, others_slow, results, small_cell, systems_and_tasks

PAIRS = systems_and_tasks(KINDS)
WITH_GRADIENT = [pair for pair in PAIRS if measures.available(pair[0], "gradient_variance")]
CHAIN, BANDIT = "probe-chain", "probe-bandit"
REWARDS = np.array([1.0, -2.0, 0.5, 3.0])  # of the chain's steps
ARMS = np.array([1.0, 0.0, -0.5])


class Chain(Environments):
    """Steps 0, 1, 2, ..., seen as such. Each pays its reward; the last one in `REWARDS` is terminal."""

    endless = False

    def _start(self, generator: np.random.Generator) -> np.ndarray:
        return np.zeros(1)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        t = physics[0].astype(int)
        if self.endless:
            return physics + 1.0, np.ones(len(t)), np.zeros(len(t), bool)
        return physics + 1.0, REWARDS[t], t == len(REWARDS) - 1


class Endless(Chain):
    """Pays 1 for ever."""

    endless = True


class Bandit(Chain):
    """One step, always seen as 1, which pays by the action."""

    def _observe(self, physics: np.ndarray) -> np.ndarray:
        return np.ones((physics.shape[1], 1), np.float32)

    def _advance(self, physics: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return physics.copy(), ARMS[actions], np.ones(physics.shape[1], bool)


@pytest.fixture
def task(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register a task for the length of a test."""

    def register(batch: type[Environments], action_space: spaces.Space, horizon: int) -> str:
        spec = replace(
            suites.TASKS["CartPole-v1"],
            id=f"probe-{batch.__name__.lower()}",
            observation_space=spaces.Box(0.0, 100.0, (1,), np.float32),
            action_space=action_space,
            horizon=horizon,
        )
        monkeypatch.setitem(suites.TASKS, spec.id, spec)
        monkeypatch.setitem(suites._BATCHES, spec.id, type(batch.__name__, (batch,), {"spec": spec}))
        return spec.id

    return register


def linear(cell: Cell, seeds: list[int], slope: float, intercept: float) -> object:
    """An agent whose critic is slope x observation + intercept for all seeds and actions."""
    agent = make_agent(cell, Streams(seeds, "init"), "cpu")
    network = agent.q if hasattr(agent, "q") else agent.value
    (layer,) = network.layers
    with torch.no_grad():
        layer.weight.fill_(slope)
        layer.bias.fill_(intercept)
    return agent


# ---- values


DISCRETE = spaces.Discrete(2)


@pytest.mark.parametrize("system", ["dqn", "a2c", "a3c", "trpo", "ppo", "vpg"])
def test_bias_on_a_chain(system: str, task: Callable[..., str]) -> None:
    """Returns by hand, gamma = 1/2: from the last step back 3, 2, -1, 1/2."""
    name = task(Chain, DISCRETE, horizon=20)
    cell = resolve(system, name, overrides={"gamma": 0.5, "hidden": []}, steps=100_000)
    rows = measures.values(linear(cell, [0, 1], 0.25, -1.0), cell, [0, 1], step=0)
    estimate, returns = np.array([-1.0, -0.75, -0.5, -0.25]), np.array([0.5, -1.0, 2.0, 3.0])
    expected = (4, estimate.mean(), returns.mean(), (estimate - returns).mean())
    expected += (np.sqrt(((estimate - returns) ** 2).mean()),)
    for row in rows:
        assert row == pytest.approx(expected)


def test_a_cut_leaves_only_known_returns(task: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Gamma 1/2 needs 7 steps for less than a hundredth. 50 steps to the limit: 44 states are known."""
    name = task(Endless, DISCRETE, horizon=50)
    cell = resolve("a2c", name, overrides={"gamma": 0.5, "hidden": []}, steps=10_000)
    agent = linear(cell, [0], 0.0, 2.0)
    known = 2 - 2 * 0.5 ** (50 - np.arange(44))
    (row,) = measures.values(agent, cell, [0], step=0)
    assert row[:3] == pytest.approx((44, 2.0, known.mean()))
    monkeypatch.setattr(measures, "STATES", 10)  # 16 steps are played
    (row,) = measures.values(agent, cell, [0], step=0)
    assert row[:3] == pytest.approx((10, 2.0, (2 - 2 * 0.5 ** (16 - np.arange(10))).mean()))
    slow = resolve("a2c", name, overrides={"gamma": 0.99, "hidden": []}, steps=10_000)
    assert measures.values(agent, slow, [0], step=0) == [(0, "", "", "", "")]


def test_a_limit_may_be_an_end(task: Callable[..., str]) -> None:
    """For an agent that takes the time limit for an end, all states of the episode are known."""
    name = task(Endless, DISCRETE, horizon=50)
    settings = {"gamma": 0.99, "hidden": [], "bootstrap_time_limit": False}
    cell = resolve("ppo", name, overrides=settings, steps=10_000)
    (row,) = measures.values(linear(cell, [0], 0.0, 2.0), cell, [0], step=0)
    returns = (1 - 0.99 ** (50 - np.arange(50.0))) / 0.01
    assert row[:3] == pytest.approx((50, 2.0, returns.mean()))


def test_normalised_values_are_compared_in_units_of_the_task(task: Callable[..., str]) -> None:
    """A value of 2 in units of a standard deviation of 3 is 6."""
    name = task(Chain, DISCRETE, horizon=20)
    cell = resolve("a2c", name, overrides={"gamma": 0.5, "hidden": [], "normalise": True}, steps=10_000)
    agent = linear(cell, [0, 1], 0.0, 2.0)
    agent.normaliser.return_moments.var.fill_(9.0)
    for row in measures.values(agent, cell, [0, 1], step=0):
        assert row[:3] == pytest.approx((4, 6.0, 4.5 / 4))


def test_a_soft_critic_is_compared_with_soft_returns(task: Callable[..., str]) -> None:
    """SAC's policy at tanh(N(0, 1)): each later action adds alpha times its entropy, known by quadrature."""
    name = task(Chain, spaces.Box(-3.0, 3.0, (1,), np.float32), horizon=20)
    cell = resolve("sac", name, overrides={"gamma": 0.5, "alpha": 0.4}, steps=100_000)
    seeds = list(range(400))
    agent = make_agent(cell, Streams(seeds, "init"), "cpu")
    agent.learned_policy.params.matrix.zero_()
    agent.learned_q.params.matrix.zero_()
    agent.updates = 1  # before that, actions are uniform

    def density_times_log(u: float) -> float:
        normal = np.exp(-u * u / 2) / np.sqrt(2 * pi)
        return normal * (-u * u / 2 - log(2 * pi) / 2 - np.log1p(-(np.tanh(u) ** 2)))

    entropy = -scipy.integrate.quad(density_times_log, -8, 8)[0]
    bonus = 0.4 * entropy * np.array([0.5 + 0.25 + 0.125, 0.5 + 0.25, 0.5, 0.0])  # of 3, 2, 1, 0 actions
    rows = np.array(measures.values(agent, cell, seeds, step=0))
    error = rows[:, 2] - (np.array([0.5, -1.0, 2.0, 3.0]) + bonus).mean()
    assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(seeds)) < 0.03
    assert abs(bonus.mean()) > 0.05, "or the test would not notice a missing bonus"


@pytest.mark.parametrize(
    "system,settings",
    [
        ("sac", {"alpha": 0.7, "reward_scale": 3.0}),
        ("sac", {"alpha": 0.7, "environment_units": True}),
        ("rpc", {"alpha": 0.7, "first_lambda": 0.2}),
        ("rpc", {"alpha": 0.7, "first_lambda": 0.2, "bits": True, "reward_scale": 1.0}),
        ("rpc", {"alpha": 0.7, "cost_in_reward": False}),
        ("rpc", {"alpha": 0.7, "bottleneck": False}),
    ],
)
def test_a_soft_critic_counts_what_its_targets_do(system: str, settings: dict) -> None:
    """With all Q at 0, the loss of the critics is the mean square of y, which is the counted reward. The
    learner's noise is given to both, and lambda does not move before it is a price.
    """
    cell = resolve(system, "Pendulum-v1", preset="small", overrides=settings)
    agent = make_agent(cell, Streams([0, 1], "init"), "cpu")
    c = agent.config
    s = Streams([0, 1], "data")
    for learned in agent.learners:
        if learned.name in ("policy", "actor"):
            learned.params.matrix += 0.3 * s.normal(learned.params.matrix.shape[1])
    for matrix in (agent.learned_q.params.matrix, agent.learned_q.target.matrix):
        matrix.zero_()
    batch = Batch(
        obs=s.normal(16, 3), action=s.normal(16, 1), reward=s.normal(16), next_obs=s.normal(16, 3),
        terminated=(s.uniform(16) < 0.3).float(), truncated=None,
    )  # fmt: skip
    action_noise = s.normal(16, 1)
    if system == "sac":
        numbers, metrics = [action_noise], lambda: agent.improve_critics(batch, action_noise)
    else:
        z, target_z = s.normal(16, c.latent), s.normal(16, c.latent)
        numbers = (
            [z, target_z, action_noise] if c.bottleneck and c.cost_in_reward else [target_z, action_noise]
        )
        agent.price = lambda cost: agent.log_lambda.value.detach().exp()
        metrics = lambda: agent.learn(batch, z, z, target_z, action_noise, action_noise)  # noqa: E731

    class Given:
        def normal(self, *shape: int) -> torch.Tensor:
            return numbers.pop(0).view(2, *shape)

    counted = agent.value_reward(batch, Given()).detach()
    assert not numbers
    expected = (c.reward_scale * counted).square().mean(1)
    torch.testing.assert_close(metrics()["q_loss"].detach(), expected, rtol=1e-4, atol=1e-6)


def test_an_agent_without_a_critic_has_no_values() -> None:
    for baseline, states in (("mean", False), ("learned", True)):
        cell = resolve("reinforce", "CartPole-v1", overrides={"baseline": baseline})
        agent = make_agent(cell, Streams([0], "init"), "cpu")
        ((count, *cells),) = measures.values(agent, cell, [0], step=0)
        assert (count > 0) == states and (cells != ["", "", "", ""]) == states


@pytest.mark.parametrize("system", ["mappo", "ippo"])
def test_values_of_a_team(system: str) -> None:
    """An episode of the particle worlds ends at its limit, by MAPPO's authors. The values in units of the
    returns' deviation, the shared rewards and the pooling over agents, done again.
    """
    cell = resolve(system, "simple_spread_v3", overrides={"shared_reward": True, "value_norm": True})
    agent = make_agent(cell, Streams([0], "init"), "cpu")
    for k, norm in enumerate(agent.norms):
        norm.update(10.0 * k + Streams([0], "returns").normal(50))
    ((count, estimate, returned, bias, _),) = measures.values(agent, cell, [0], step=3)
    env = suites.make(cell.task, env_seeds([0], 1, "measure", 3, measures.EPISODE))
    rng = Streams([0], "measure", 3, measures.EPISODE)
    obs, rewards, estimates = env.reset(), [], []
    for _ in range(25):
        x = torch.from_numpy(obs)
        for i, norm in enumerate(agent.norms):
            own = x[..., 18 * i : 18 * (i + 1)] if system == "ippo" else x
            average, square, weight = norm.sums[0].tolist()
            mean = average / weight
            deviation = np.sqrt(square / weight - mean**2)
            estimates.append(mean + deviation * agent.values[i](own).item())
        step = env.step(agent.act(x, rng, True, 0.0)[0].numpy())
        rewards.append(step.reward.sum())
        obs = step.obs
    returns = [sum(r * 0.99**k for k, r in enumerate(rewards[t:])) for t in range(25)]
    assert count == 25
    assert (estimate, returned) == pytest.approx((np.mean(estimates), np.mean(returns)), rel=1e-4)
    assert bias == pytest.approx(estimate - returned)


# ---- the policy gradient


@pytest.mark.parametrize("baseline", [0.0, 0.7])
def test_gradient_variance_of_a_softmax_bandit(baseline: float, task: Callable[..., str]) -> None:
    """A2C on a linear softmax: the covariance of (r - V)(e_a - pi) over the arms, by the transitions of a
    window. Weight and bias have the same gradient, as the observation is 1.
    """
    name = task(Bandit, spaces.Discrete(3), horizon=20)
    settings = {"hidden": [], "envs": 3, "steps": 4, "gamma": 0.9}
    cell = resolve("a2c", name, overrides=settings, steps=10_000)
    seeds = list(range(300))
    agent = linear(cell, seeds, 0.0, baseline)
    logits = torch.tensor([0.3, -0.4, 0.8])
    (layer,) = agent.policy.net.layers
    with torch.no_grad():
        layer.weight.copy_(0.5 * logits.expand_as(layer.weight))
        layer.bias.copy_(0.5 * logits.expand_as(layer.bias))
    p = logits.softmax(0).double().numpy()
    single = (ARMS - baseline)[:, None] * (np.eye(3) - p)  # (arms, logits)
    mean = p @ single
    trace = 2 * (p @ np.square(single).sum(1) - np.square(mean).sum()) / 12
    rows = np.array(measures.gradient_variance(agent, cell, seeds, step=0))
    assert (rows[:, 0] == 10).all()
    for column, exact in ((1, trace), (2, 2 * np.square(mean).sum())):
        error = rows[:, column] - exact
        assert abs(error.mean()) < 4 * error.std() / np.sqrt(len(seeds)) < 0.2 * exact


def test_spread_is_the_trace_of_the_covariance() -> None:
    gradients = np.random.default_rng(0).normal(size=(7, 4)) + 2.0
    n, trace, square = measures.spread(gradients)
    assert (n, trace) == (7, pytest.approx(np.trace(np.cov(gradients.T))))
    pairs = [gradients[i] @ gradients[j] for i in range(7) for j in range(7) if i != j]
    assert square == pytest.approx(np.mean(pairs)), "the mean product of different windows"


@pytest.mark.usefixtures("torch_only")
@pytest.mark.parametrize("system,name", others_slow(WITH_GRADIENT, kind_of))
def test_gradient_is_the_learners(system: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first gradient that the learner takes on the same window, all at once, is the same up to its sign;
    the loss of values and the entropy bonus are switched off. Measuring changes no state.
    """
    settings = {"value_coef": 0.0, "entropy_coef": 0.0, "minibatch": 32, "epochs": 1, "normalise": False}
    cell = small_cell(system, name, **settings)
    agent = make_agent(cell, Streams([0, 1], "init"), "cpu")
    (batch,) = measures.windows(agent, cell, [0, 1], step=64)[:1]
    before = {key: x.clone() for key, x in agent.state_dict().items()}
    found = agent.policy_gradient(batch)
    assert all(torch.equal(x, before[key]) for key, x in agent.state_dict().items())

    taken: dict[int, torch.Tensor] = {}  # the first gradient of each matrix
    grad = Parameters.grad

    def spy(params: Parameters, *args: object, **options: object) -> torch.Tensor:
        result = grad(params, *args, **options)
        taken.setdefault(id(params.leaves[0]), result.clone())
        return result

    monkeypatch.setattr(Parameters, "grad", spy)
    agent.update(batch, Streams([0, 1], "learn"), 0.0)
    policies = getattr(agent, "policies", None) or [getattr(agent, "worker_policy", agent.policy)]
    parts = []
    for policy in policies:
        slots = policy.slots()
        size = sum(getattr(*slot)[0].numel() for slot in slots)
        own = taken[id(getattr(*slots[0]))][:, :size]
        parts.append(own.view(2, -1, size).mean(1))  # of A3C's workers
    theirs = torch.cat(parts, 1)
    theirs = theirs * torch.sign((theirs * found).sum())
    torch.testing.assert_close(found, theirs, rtol=1e-4, atol=1e-6)
    assert (found.norm(dim=1) > 1e-3).all()


def test_a_frozen_normaliser_sees_as_the_learner_does() -> None:
    """The moments stay, and the window is what `batch` makes of it with the same moments."""
    cell = small_cell("a2c", "Hopper-v5", normalise=True)
    trainer = Trainer(cell, [0, 1])
    while trainer.updates < 3:
        trainer.advance()
    agent = trainer.agent
    batch = measures.windows(agent, cell, [0, 1], step=64)[0]
    before = {key: x.clone() for key, x in agent.state_dict().items()}
    frozen = agent.normaliser.frozen(batch)
    agent.policy_gradient(batch)
    assert all(torch.equal(x, before[key]) for key, x in agent.state_dict().items())
    learned = agent.normaliser.batch(batch)
    assert torch.equal(frozen.obs, learned.obs) and torch.equal(frozen.next_obs, learned.next_obs)
    std = (before["reward_scale/var"] + 1e-8).sqrt().float()[..., None]
    assert torch.equal(frozen.reward, (batch.reward / std).clamp(-10, 10))


def test_windows_begin_at_different_times(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 16 steps in CartPole's 500: at 0, 50, ..., 450 after the reset; each in its own environments."""
    cell = small_cell("a2c", "CartPole-v1")
    agent = make_agent(cell, Streams([0], "init"), "cpu")
    steps = 0
    make = suites.make

    def counted(*args: object) -> Environments:
        env = make(*args)
        step = env.step

        def count(actions: np.ndarray) -> suites.Step:
            nonlocal steps
            steps += 1
            result = step(actions)
            return result._replace(reward=np.full_like(result.reward, steps))

        env.step = count
        return env

    monkeypatch.setattr(suites, "make", counted)
    batches = measures.windows(agent, cell, [0], step=0)
    assert [batch.reward[0, 0, 0].item() for batch in batches] == [1 + 50 * k for k in range(10)]
    assert all(batch.reward.shape == (1, 16, 2) for batch in batches)
    assert len({batch.obs.numpy().tobytes() for batch in batches}) == 10


@pytest.mark.parametrize("system", ["reinforce", "vpg"])
def test_divergence_of_a_step(system: str) -> None:
    """r - 1 - log r of each action by torch's distributions; on average the exact KL(old || new)."""
    cell = small_cell(system, "CartPole-v1", learning_rate=0.02, envs=8)
    agent = make_agent(cell, Streams([0, 1], "init"), "cpu")
    batch = measures.windows(agent, cell, [0, 1], step=64)[0]
    old = torch.distributions.Categorical(logits=agent.policy.net(batch.obs).detach())
    metric = agent.update(batch, Streams([0, 1], "learn"), 0.0)["approx_kl"]
    new = torch.distributions.Categorical(logits=agent.policy.net(batch.obs).detach())
    log_ratio = new.log_prob(batch.action) - old.log_prob(batch.action)
    weight = torch.ones_like(batch.reward) if batch.weight is None else batch.weight
    for k in range(2):
        counts = weight[k] > 0
        sampled = (log_ratio.exp() - 1 - log_ratio)[k][counts]
        exact = torch.distributions.kl_divergence(old, new)[k][counts]
        assert metric[k].item() == pytest.approx(sampled.mean().item(), rel=1e-3)
        difference = sampled - exact
        assert abs(difference.mean()) < 4 * difference.std() / len(sampled) ** 0.5
        assert exact.mean() > 1e-4


# ---- the record


def blank(agent: object, cell: Cell, seeds: list[int], *args: object) -> list[tuple]:
    return [(*measures.NO_VALUES, *measures.NO_GRADIENTS)] * len(seeds)


def rows_of(cell: Cell, out: Path, seed: int) -> list[dict[str, float]]:
    """The measures of each evaluation, by name; and its step."""
    found: dict[int, dict[str, float]] = {}
    with (cell.run_folder(seed, out) / "measures.csv").open() as file:
        for row in csv.DictReader(file):
            step = int(row["step"])
            found.setdefault(step, {"step": step})[row["measure"]] = float(row["value"])
    return list(found.values())


@pytest.mark.parametrize("system,name", others_slow(PAIRS, kind_of))
def test_measuring_changes_nothing_else(
    system: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same bytes with and without, and the same measures alone as in a pack."""
    asked = measures.requested(system, ["gradient_variance"])
    monkeypatch.setattr(measures, "WINDOWS", 2)
    cell = replace(small_cell(system, name), measures=asked)
    assert train(cell, [0, 1], tmp_path / "pack")
    assert train(cell, [1], tmp_path / "alone")
    assert results(cell, tmp_path / "alone", [1])[1] == results(cell, tmp_path / "pack", [0, 1])[1]
    monkeypatch.setattr(attempt, "measure", blank)
    assert train(cell, [0, 1], tmp_path / "blank")
    own = {layout.MEASURES, layout.RESULT}
    for seed, found in results(cell, tmp_path / "pack", [0, 1]).items():
        without = results(cell, tmp_path / "blank", [0, 1])[seed]
        assert {n for n in found if found[n] != without[n]} <= own
    rows = rows_of(cell, tmp_path / "pack", 0)
    assert len(rows) == 4
    assert all(row["gradient_windows"] == (2 if asked else 0) for row in rows)


def test_a_request_is_no_part_of_the_cell(tmp_path: Path) -> None:
    """It changes no result. run.json names it, and a run that goes on keeps to it."""
    plain = small_cell("a2c", "CartPole-v1", steps=400, points=4)
    asked = replace(plain, measures=("gradient_variance",))
    assert "measures" not in plain.to_json() and plain.digest == asked.digest
    assert Cell.from_json(asked.to_json()) == asked
    assert train(asked, [0], tmp_path) and train(plain, [1], tmp_path)
    (record,) = load(tmp_path)
    assert [run.about["measures"] for run in record.runs] == [["gradient_variance"], []]
    assert record.runs[0].measures["gradient_variance"].notna().all()
    calls = iter(range(1000))
    assert not train(plain, [2], tmp_path, stop=lambda: next(calls) == 100)
    with pytest.raises(InputError, match="seed-2 was started with other measures: none"):
        train(asked, [2], tmp_path)
    assert train(plain, [2], tmp_path)


def test_tables_of_earlier_versions_are_read() -> None:
    """They had a column per measure, with empty cells."""
    head = "step,value_states,value_estimate,value_return,value_bias,value_rmse"
    text = (
        f"{head},gradient_windows,gradient_variance,gradient_square\n0,2,1.5,1.0,0.5,0.6,0,,\n9,0,,,,,0,,\n"
    )
    early = run_reader.measures(text.encode())
    late = run_reader.measures(
        b"step,measure,value\n0,value_states,2\n0,value_estimate,1.5\n0,value_return,1.0\n"
        b"0,value_bias,0.5\n0,value_rmse,0.6\n0,gradient_windows,0\n9,value_states,0\n9,gradient_windows,0\n"
    )
    pd.testing.assert_frame_equal(early, late)


def test_records(tmp_path: Path) -> None:
    """Reports read the table; the rule of `check` accepts it."""
    cell = small_cell("a2c", "CartPole-v1", steps=400, points=4)
    train(cell, [0, 1], tmp_path)
    (record,) = load(tmp_path)
    for run in record.runs:
        rows = rows_of(cell, tmp_path, run.seed)
        table = run.measures
        assert table["step"].tolist() == [row["step"] for row in rows]
        assert table["value_bias"].tolist() == [row["value_bias"] for row in rows]
        assert table["gradient_variance"].isna().all()
    outcomes = check.check(tmp_path).outcomes
    assert [o.rule for o in outcomes if not o.passed and o.rule != "clean-tree"] == []


def test_a_run_of_an_earlier_version_goes_on_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checkpoints know no such table, and neither does its result."""
    from ascent.records import run as records_run
    from ascent.records.tables import tables_of

    def earlier(*args: object) -> dict:
        tables = tables_of(*args)
        del tables[layout.MEASURES]
        return tables

    cell = small_cell("a2c", "CartPole-v1", steps=400, points=4)
    train(cell, [0], tmp_path / "new")
    calls = iter(range(1000))
    with monkeypatch.context() as patch:
        patch.setattr(records_run, "tables_of", earlier)
        assert not train(cell, [0], tmp_path / "old", stop=lambda: next(calls) == 100)
    assert train(cell, [0], tmp_path / "old")
    old, new = (cell.run_folder(0, tmp_path / name) for name in ("old", "new"))
    assert not (old / layout.MEASURES).exists()
    for name in set(layout.RESULT_FILES) - {layout.MEASURES}:
        assert (old / name).read_bytes() == (new / name).read_bytes()
    (record,) = load(tmp_path / "old")
    assert record.runs[0].state == "done" and record.runs[0].measures is None
    outcomes = check.check(tmp_path / "old").outcomes
    assert [o.rule for o in outcomes if not o.passed and o.rule != "clean-tree"] == []


# ---- requests


def sweep_file(tmp_path: Path, algorithms: str, asked: str) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(
        f'seeds = "0-1"\nmeasures = {asked}\n[[cells]]\nalgorithms = {algorithms}\ntasks = ["CartPole-v1"]\n'
    )
    return str(path)


def test_a_sweep_asks_where_it_can(tmp_path: Path) -> None:
    """Of the algorithms that have one."""
    planned = sweep.load(sweep_file(tmp_path, '["a2c", "dqn"]', '["gradient_variance"]')).planned
    assert {plan.cell.system: plan.cell.measures for plan in planned} == {
        "a2c": ("gradient_variance",),
        "dqn": (),
    }


@pytest.mark.parametrize(
    "algorithms,asked,message",
    [
        ('["dqn"]', '["gradient_variance"]', "measures: none of these algorithms has gradient_variance"),
        ('["a2c"]', '["gradient_varianse"]', "did you mean 'gradient_variance'?"),
        ('["a2c"]', '["gradient_variance", "gradient_variance"]', "gradient_variance is listed twice"),
        ('["a2c"]', "[1]", "measures must be names, not [1]"),
    ],
)
def test_a_wrong_request_is_refused(algorithms: str, asked: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        sweep.load(sweep_file(tmp_path, algorithms, asked))
    assert message in str(error.value)


def test_command(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    words = ("train", "dqn", "CartPole-v1", "--measures", "gradient_variance", "--runs", str(tmp_path))
    code, _, err = call(capsys, *words)
    assert code == 2 and "measures: dqn has no gradient_variance; algorithms that have it:" in err

"""MADDPG, MAPPO and their independent settings, against DDPG, PPO, scipy and plain float64 computations."""

from copy import deepcopy
from dataclasses import replace
from itertools import pairwise
from types import ModuleType

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch
from gymnasium import spaces
from torch import Tensor

from ascent import suites
from ascent.algorithms import ddpg, maddpg, mappo, ppo
from ascent.algorithms.seedwise import Batch, Learned, Replay, Rollout, Streams
from ascent.runners.resolve import preset_config
from tests.algorithms.test_equations import SEEDS, flatten, lambda_returns, make_batch

N_OBS = [8, 4, 11]
Setting = maddpg.Config | mappo.Config


def boxes(*sizes: int) -> spaces.Tuple:
    return spaces.Tuple([spaces.Box(0, 1, (n,), np.float32) for n in sizes])


OBS = spaces.Tuple([spaces.Box(-np.inf, np.inf, (n,), np.float32) for n in N_OBS])
DISCRETE = spaces.Tuple([spaces.Discrete(n) for n in (3, 5, 4)])
SKEWED = spaces.Tuple(
    [
        spaces.Box(-2.0, 2.0, (3,), np.float32),
        spaces.Box(0.0, 1.0, (2,), np.float32),
        spaces.Box(np.array([-1.0, -3.0], np.float32), np.array([3.0, -2.5], np.float32)),
    ]
)
SPEAKS = spaces.Tuple([boxes(5, 3), *boxes(5, 2)])  # the first moves and speaks

# Kinds of actions, each with the setting of MADDPG for it.
KINDS = {
    "discrete": (DISCRETE, maddpg.PRESETS["small"]["discrete"]),
    "soft": (SPEAKS, maddpg.PRESETS["code"]["openai"]),
    "continuous": (SKEWED, maddpg.PRESETS["small"]["continuous"]),
}
SIZES = {"discrete": [3, 5, 4], "soft": [8, 5, 2], "continuous": [3, 2, 2]}
EVERY_KIND = pytest.mark.parametrize("kind", KINDS)
LOCAL = pytest.mark.parametrize("local", [False, True], ids=["central", "local"])
B = 40  # transitions in a batch
HIDDEN = (16, 8)


def make_team(kind: str, seeds: list[int] = SEEDS, moved: bool = True, **settings: object) -> maddpg.Agent:
    """A MADDPG team, its weights well away from their initial values unless they are not to be `moved`."""
    space, config = KINDS[kind]
    config = replace(config, **{"hidden": HIDDEN, "batch": B, **settings})
    agent = maddpg.Agent(config, OBS, space, Streams(seeds, "init"), "cpu")
    for name, tensor in agent.state_dict().items():
        if moved and name.startswith(("params/", "target/")):
            tensor += 0.3 * Streams(seeds, name).normal(tensor.shape[1])
    return agent


def make_ppo_team(
    space: spaces.Tuple, seeds: list[int] = SEEDS, moved: float = 0.3, **settings: object
) -> mappo.Agent:
    """A MAPPO team, its weights moved away from their initial values by normal numbers of this size."""
    defaults = {"envs": 4, "steps": 6, "minibatch": 8, "epochs": 2, "hidden": HIDDEN}
    config = replace(mappo.PRESETS["small"], **(defaults | settings))
    agent = mappo.Agent(config, OBS, space, Streams(seeds, "init"), "cpu")
    for name, tensor in agent.state_dict().items():
        if name.startswith("params/"):
            tensor += moved * Streams(seeds, name).normal(tensor.shape[1])
    return agent


def experience(
    shape: tuple[int, ...], space: spaces.Tuple, seeds: list[int] = SEEDS, simplex: bool = False
) -> Batch:
    """Random transitions of the team (S, *shape, ...); with `simplex` each part of an action sums to 1."""
    s, n = Streams(seeds, "data"), len(space)
    if isinstance(space[0], spaces.Discrete):
        action = torch.stack([s.integers(int(x.n), *shape) for x in space], -1)
    else:
        box = spaces.utils.flatten_space(space)
        action = s.uniform(*shape, *box.shape).float()
        action = torch.tensor(box.low) + action * torch.tensor(box.high - box.low)
        if simplex:
            parts = action.split([5, 3, 5, 2], -1)
            action = torch.cat([x / x.sum(-1, keepdim=True) for x in parts], -1)
    obs, next_obs = s.normal(*shape, sum(N_OBS)), s.normal(*shape, sum(N_OBS))
    terminated, truncated = (s.uniform(*shape) < 0.2).float(), (s.uniform(*shape) < 0.2).float()
    if len(shape) == 2:  # a window: steps follow one another where no episode ends
        ends = torch.maximum(terminated, truncated)[:, :-1, :, None]
        next_obs = torch.cat([torch.where(ends > 0, next_obs[:, :-1], obs[:, 1:]), next_obs[:, -1:]], 1)
    return Batch(obs, action, s.normal(*shape, n), next_obs, terminated, truncated)


def transitions(kind: str, seeds: list[int] = SEEDS, n: int = B) -> Batch:
    return experience((n,), KINDS[kind][0], seeds, kind == "soft")


def copied(agent: object) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.state_dict().items()}


def network(row: Tensor, sizes: tuple[int, ...], x: Tensor, tanh: bool = False) -> Tensor:
    """The output of the network whose parameters are the row, in plain torch; `row` may be longer."""
    for i, (n_in, width) in enumerate(pairwise(sizes)):
        weight, bias = row[: n_in * width].view(n_in, width), row[n_in * width : (n_in + 1) * width]
        row = row[(n_in + 1) * width :]
        x = ((x.tanh() if tanh else x.relu()) if i else x) @ weight + bias
    return x


# ---- MADDPG: one agent ------------------------------------------------------------------------------------


def test_one_agent_is_ddpg() -> None:
    """The same parameters, batches and noise: bit for bit DDPG, for twenty updates and actions between."""
    c = KINDS["continuous"][1]
    names = set(ddpg.Config.__dataclass_fields__) & set(maddpg.Config.__dataclass_fields__)
    shared = {name: getattr(c, name) for name in names}
    box, obs_box = SKEWED[2], spaces.Box(-1, 1, (4,))
    one = maddpg.Agent(c, spaces.Tuple([obs_box]), spaces.Tuple([box]), Streams(SEEDS, "init"), "cpu")
    single = ddpg.Agent(ddpg.Config(**shared, delay=1), obs_box, box, Streams(SEEDS, "init"), "cpu")
    assert one.experience == replace(single.experience, updates=1)
    single.load_state_dict({name.replace("_0", ""): x.clone() for name, x in one.state_dict().items()})
    rngs = Streams(SEEDS, "act"), Streams(SEEDS, "act")
    for i in range(20):
        batch = make_batch((64,), box)
        batch = replace(batch, reward=batch.reward * (i + 1), truncated=None)
        for explore in (True, False):
            ours, theirs = (
                a.act(batch.obs, r, explore, 0.0) for a, r in zip((one, single), rngs, strict=True)
            )
            assert torch.equal(ours[0], theirs[0])
        metrics = one.update(replace(batch, reward=batch.reward[..., None]), rngs[0], 0.0)
        expected = single.update(batch, rngs[1], 0.0)
        assert metrics.keys() - expected.keys() == {"actor_loss"}  # which DDPG does not report
        assert all(torch.equal(metrics[name], expected[name]) for name in expected)
    state = {name.replace("_0", ""): x for name, x in one.state_dict().items()}
    theirs = single.state_dict()
    assert state.keys() == theirs.keys() and all(torch.equal(state[name], theirs[name]) for name in theirs)


# ---- MADDPG: one update by the paper -----------------------------------------------------------------------


def as_seen(kind: str, i: int, out: Tensor, noise: np.ndarray) -> Tensor:
    """Agent i's action as critics see it, from its actor's output (B, A_i), in plain float64 torch."""
    if kind == "continuous":
        return out.tanh()
    parts = [5, 3] if kind == "soft" and i == 0 else [out.shape[1]]
    z = (out + torch.from_numpy(noise)).split(parts, 1)
    soft = torch.cat([x.exp() / x.exp().sum(1, keepdim=True) for x in z], 1)
    if kind == "soft":
        return soft
    hard = torch.eye(out.shape[1], dtype=torch.float64)[out.detach().add(torch.from_numpy(noise)).argmax(1)]
    return hard + soft - soft.detach()


def clipped(grad: Tensor, sizes: tuple[int, ...], most: float) -> Tensor:
    """A network's gradient with each weight matrix and bias scaled down by itself."""
    numbers = [n for n_in, n_out in pairwise(sizes) for n in (n_in * n_out, n_out)]
    parts = [g * min(1.0, most / float(g.norm())) if most else g for g in grad.split(numbers)]
    return torch.cat(parts)


@EVERY_KIND
@LOCAL
def test_one_update_by_the_paper(kind: str, local: bool) -> None:
    """Losses, gradients and targets of every agent, against float64 networks seed by seed."""
    space, n = KINDS[kind][0], SIZES[kind]
    batch, most = transitions(kind), 0.3
    low, high = (getattr(spaces.utils.flatten_space(space), x).astype(float) for x in ("low", "high"))
    clips = 0
    for i in range(3):
        agent = make_team(kind, local_critic=local, penalty=0.2, max_grad_norm=most)
        before, seen = copied(agent), [i] if local else [0, 1, 2]
        s, noises = Streams(SEEDS, "noise"), []
        if kind != "continuous":
            uniform = [s.uniform(B, sum(n[j] for j in seen)), s.uniform(B, n[i])]
            noises = [scipy.stats.gumbel_r.ppf(u.numpy()) for u in uniform]
        metrics = agent.learn(i, batch, *(maddpg.gumbel(u) for u in uniform) if noises else ())
        after = copied(agent)
        actor_sizes = [(o, *HIDDEN, a) for o, a in zip(N_OBS, n, strict=True)]
        q_sizes = (sum(N_OBS[j] + n[j] for j in seen), *HIDDEN, 1)
        for k in range(3):
            obs, next_obs = (x[k].double().split(N_OBS, 1) for x in (batch.obs, batch.next_obs))
            if kind == "discrete":
                actions = [torch.eye(n[j], dtype=torch.float64)[batch.action[k, :, j]] for j in range(3)]
            elif kind == "soft":
                actions = list(batch.action[k].double().split(n, 1))
            else:
                unit = 2 * (batch.action[k].double().numpy() - low) / (high - low) - 1
                actions = list(torch.from_numpy(unit).split(n, 1))

            next_actions, start = [], 0
            for j in seen:
                noise = noises[0][k][:, start : start + n[j]] if noises else None
                start += n[j]
                row = before[f"target/actor_{j}"][k].double()
                next_actions.append(as_seen(kind, j, network(row, actor_sizes[j], next_obs[j]), noise))
            x = torch.cat([*(next_obs[j] for j in seen), *next_actions], 1)
            next_q = network(before[f"target/q_{i}"][k].double(), q_sizes, x)[:, 0]
            y = batch.reward[k, :, i].double() + 0.95 * (1 - batch.terminated[k].double()) * next_q
            row = before[f"params/q_{i}"][k].double().requires_grad_()
            q = network(row, q_sizes, torch.cat([obs[j] for j in seen] + [actions[j] for j in seen], 1))[:, 0]
            q_loss = ((y - q) ** 2).mean()
            grad = torch.autograd.grad(q_loss, row)[0]
            expected = clipped(grad, q_sizes, most)
            clips += int(not torch.equal(expected, grad))
            close(after[f"q_{i}_optimiser/m"][k] / 0.1, expected)
            close(metrics["q_loss"][k], q_loss.detach())
            close(metrics["q"][k], q.detach().mean())

            row = before[f"params/actor_{i}"][k].double().requires_grad_()
            out = network(row, actor_sizes[i], obs[i])
            mine = as_seen(kind, i, out, noises[1][k] if noises else None)
            joint = [mine if j == i else actions[j] for j in seen]
            q_now = after[f"params/q_{i}"][k].double()  # the critic has moved already
            value = network(q_now, q_sizes, torch.cat([*(obs[j] for j in seen), *joint], 1))
            loss = -value.mean() + 0.2 * (out**2).mean()
            grad = torch.autograd.grad(loss, row)[0]
            close(after[f"actor_{i}_optimiser/m"][k] / 0.1, clipped(grad, actor_sizes[i], most))
            close(metrics["actor_loss"][k], loss.detach())
        for name in before:
            old, new = before[name], after[name]
            if name in (f"target/q_{i}", f"target/actor_{i}"):
                tau = agent.config.tau
                close(new, (1 - tau) * old + tau * after[name.replace("target", "params")])
            elif name.split("/")[-1] in (f"q_{i}", f"actor_{i}"):
                grad, rate = after[name.removeprefix("params/") + "_optimiser/m"], agent.config
                rate = rate.actor_learning_rate if "actor" in name else rate.critic_learning_rate
                sure = grad.abs() > 1e-6  # Adam's first step: its length is the rate wherever eps is small
                close((new - old)[sure], (-rate * grad.sign())[sure], atol=rate * 2e-2)
            elif not name.startswith((f"q_{i}_", f"actor_{i}_")):
                assert torch.equal(old, new), f"an update of agent {i} changed {name}"
    assert clips, "no gradient was long enough to be clipped"


def close(ours: Tensor, expected: Tensor, atol: float = 2e-5) -> None:
    torch.testing.assert_close(ours.double(), expected.double(), rtol=2e-4, atol=atol)


@EVERY_KIND
def test_gradients_go_nowhere_else(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A loss depends on the parameters that it trains, and on no others of the whole team."""
    agent, batch = make_team(kind), transitions(kind)
    leaves = {learned.name: learned.params.leaves for learned in agent.learners}
    leaves |= {f"target {learned.name}": learned.target.leaves for learned in agent.learners}
    reached = []

    def record(learned: Learned, loss: Tensor, learning_rate: float) -> None:
        for group, tensors in leaves.items():
            grads = torch.autograd.grad(loss.sum(), tensors, retain_graph=True, allow_unused=True)
            if any(g is not None for g in grads):
                reached.append((learned.name, group))
                assert all(g.flatten(1).abs().sum(1).min() > 0 for g in grads)

    monkeypatch.setattr(agent, "descend", record)
    for _ in range(3):
        agent.update(batch, Streams(SEEDS, "learn"), 0.0)
    assert reached == [(name, name) for i in range(3) for name in (f"q_{i}", f"actor_{i}")]


@EVERY_KIND
def test_agents_learn_in_turn(kind: str) -> None:
    """The k-th update is agent k's, and its targets are those that the agents before it have moved."""
    agent, batch = make_team(kind, tau=0.5), transitions(kind)
    assert agent.experience == Replay(1 if kind == "soft" else 4, 1_000_000, B, 25_600, 100, updates=3)
    for k in range(7):
        before = copied(agent)
        agent.update(batch, Streams(SEEDS, "learn"), 0.0)
        after, groups = agent.state_dict(), ("params/", "target/")
        moved = [name for name in before if not torch.equal(after[name], before[name])]
        changed = {name.split("/")[1] for name in moved if name.startswith(groups)}
        assert changed == {f"q_{k % 3}", f"actor_{k % 3}"}
    for local in (False, True):
        losses = []
        for first in (True, False):
            agent = make_team(kind, tau=0.5, local_critic=local)
            if first:
                agent.update(batch, Streams(SEEDS, "learn"), 0.0)
            agent.updates = 1
            losses.append(agent.update(batch, Streams(SEEDS, "learn"), 0.0)["q_loss"])
        assert bool((losses[0] == losses[1]).all()) == local


@EVERY_KIND
@LOCAL
def test_who_sees_whom(kind: str, local: bool) -> None:
    """A local critic's learner does not notice what the others see and do, by not one bit; a central does."""
    batch = transitions(kind)
    columns = np.repeat([0, 1, 2], N_OBS)
    widths = [1, 1, 1] if kind == "discrete" else SIZES[kind]
    for i in range(3):
        others, acts = torch.from_numpy(columns != i), torch.from_numpy(np.repeat([0, 1, 2], widths) != i)
        moved = {
            "obs": torch.where(others, batch.obs + 1, batch.obs),
            "next_obs": torch.where(others, batch.next_obs + 1, batch.next_obs),
            "action": torch.where(acts, batch.action.roll(1, 1), batch.action),
        }
        for name, values in moved.items():
            found = []
            for some in (batch, replace(batch, **{name: values})):
                agent = make_team(kind, local_critic=local)
                agent.updates = i
                agent.update(some, Streams(SEEDS, "learn"), 0.0)
                found.append(copied(agent))
            same = [
                torch.equal(found[0][key], found[1][key]) for key in (f"params/q_{i}", f"params/actor_{i}")
            ]
            assert all(same) == local, (i, name)
        others = torch.arange(3) != i
        rewards = torch.where(others, batch.reward + 1, batch.reward)
        agents = [make_team(kind, local_critic=local) for _ in range(2)]
        for agent, reward in zip(agents, (batch.reward, rewards), strict=True):
            agent.updates = i
            agent.update(replace(batch, reward=reward), Streams(SEEDS, "learn"), 0.0)
        states = [agent.state_dict() for agent in agents]
        assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), "another's reward"


def test_order_of_agents_has_no_meaning() -> None:
    """The team in another order, each critic's first weights moved along: the same losses and updates."""
    order, batch = [2, 0, 1], transitions("discrete")
    team = make_team("discrete")
    obs, action = (spaces.Tuple([space[j] for j in order]) for space in (OBS, DISCRETE))
    turned = maddpg.Agent(team.config, obs, action, Streams(SEEDS, "init"), "cpu")
    at_obs, at_action = np.split(np.arange(23), [8, 12]), np.split(23 + np.arange(12), [3, 8])
    rows = torch.tensor(np.concatenate([at[j] for at in (at_obs, at_action) for j in order]))

    def moved(name: str, x: Tensor) -> Tensor:
        if not name.split("/")[1].startswith("q_"):
            return x
        first = x[:, : 35 * 16].view(3, 35, 16)[:, rows]
        return torch.cat([first.flatten(1), x[:, 35 * 16 :]], 1)

    names = [name for name in team.state_dict() if name.startswith(("params/", "target/"))]
    state, fresh = team.state_dict(), turned.state_dict()
    for name in names:
        head, i = name.rsplit("_", 1)
        fresh[f"{head}_{order.index(int(i))}"].copy_(moved(name, state[name]))
    s = Streams(SEEDS, "noise")
    next_noise, noise = s.normal(B, 12), s.normal(B, 4)
    columns = torch.tensor(np.concatenate([at_obs[j] for j in order]))
    there = replace(
        batch,
        obs=batch.obs[..., columns],
        next_obs=batch.next_obs[..., columns],
        action=batch.action[..., order],
        reward=batch.reward[..., order],
    )
    next_there = next_noise[..., torch.tensor(np.concatenate([at_action[j] - 23 for j in order]))]
    ours, theirs = team.learn(2, batch, next_noise, noise), turned.learn(0, there, next_there, noise)
    for name in ours:
        close(ours[name], theirs[name])
    state, fresh = team.state_dict(), turned.state_dict()
    close(moved("target/q_2", state["target/q_2"]), fresh["target/q_0"])
    close(state["target/actor_2"], fresh["target/actor_0"])


# ---- MADDPG: actions ---------------------------------------------------------------------------------------


def test_gumbel_noise() -> None:
    numbers = Streams(SEEDS, "numbers").uniform(20_000)
    noise = maddpg.gumbel(numbers)
    assert noise.dtype == torch.float32
    for row in noise.double().numpy():
        assert scipy.stats.kstest(row, scipy.stats.gumbel_r.cdf).pvalue > 1e-3
    assert maddpg.gumbel(torch.tensor([0.0, 1 - 2**-53], dtype=torch.float64)).isfinite().all()


@pytest.mark.parametrize("kind", ["discrete", "soft"])
def test_sampled_actions(kind: str) -> None:
    """Choices, and the largest parts of soft actions, have softmax's frequencies; soft ones sum to 1."""
    agent, n = make_team(kind), 20_000
    obs = Streams(SEEDS, "data").normal(1, sum(N_OBS)).expand(-1, n, -1)
    action, carry = agent.act(obs, Streams(SEEDS, "act"), True, 0.0)
    greedy, _ = agent.act(obs, Streams(SEEDS, "act"), False, 0.0)
    assert carry is None and action.shape == greedy.shape == (3, n, 3 if kind == "discrete" else 15)
    assert action.dtype == (torch.int64 if kind == "discrete" else torch.float32)
    parts = {"discrete": [3, 5, 4], "soft": [5, 3, 5, 2]}[kind]
    state = agent.state_dict()
    for k in range(3):
        logits = []
        for i, one in enumerate(obs[k, :1].double().split(N_OBS, 1)):
            sizes = (N_OBS[i], *HIDDEN, SIZES[kind][i])
            logits.append(network(state[f"params/actor_{i}"][k].double(), sizes, one)[0])
        start = 0
        whole = torch.cat(logits).numpy()
        for j, size in enumerate(parts):
            p = scipy.special.softmax(whole[start : start + size])
            if kind == "discrete":
                chosen, best = action[k, :, j], greedy[k, 0, j]
                assert int(best) == p.argmax()
            else:
                soft = action[k, :, start : start + size]
                torch.testing.assert_close(soft.sum(1), torch.ones(n))
                assert (soft >= 0).all()
                chosen = soft.argmax(1)
                np.testing.assert_allclose(
                    greedy[k, 0, start : start + size].numpy(), p, rtol=1e-4, atol=1e-6
                )
            counts = np.bincount(chosen.numpy(), minlength=size)
            likely = n * p > 5
            f_exp = n * p[likely] * counts[likely].sum() / (n * p[likely].sum())
            assert likely.sum() > 1 and scipy.stats.chisquare(counts[likely], f_exp).pvalue > 1e-3
            start += size


@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_relaxed_gradient(hard: bool) -> None:
    """Both have softmax's gradient y (g - sum y g), part by part; hard values are exactly 0 and 1."""
    s, parts = Streams(SEEDS, "relaxed"), [4, 2]
    logits, noise, weights = s.normal(9, 6).clone().requires_grad_(), s.normal(9, 6), s.normal(9, 6)
    y = maddpg.relaxed(logits, parts, noise, hard)
    grad = torch.autograd.grad(y, logits, weights)[0]
    z = (logits + noise).detach().double().numpy()
    for at in (slice(0, 4), slice(4, 6)):
        soft, w = scipy.special.softmax(z[..., at], -1), weights[..., at].double().numpy()
        expected = soft * (w - (soft * w).sum(-1, keepdims=True))
        np.testing.assert_allclose(grad[..., at].numpy(), expected, rtol=1e-4, atol=1e-6)
        values = np.eye(soft.shape[-1])[soft.argmax(-1)] if hard else soft
        np.testing.assert_allclose(
            y[..., at].detach().numpy(), values, rtol=0 if hard else 1e-5, atol=1e-7 * (not hard)
        )


def test_continuous_actions() -> None:
    """Uniform before the first update; then tanh of the actors, stretched, with normal noise around it."""
    agent, n = make_team("continuous", noise=0.2), 5_000
    low, high = (getattr(spaces.utils.flatten_space(SKEWED), x).astype(float) for x in ("low", "high"))
    obs = 0.1 * Streams(SEEDS, "data").normal(1, sum(N_OBS)).expand(-1, n, -1)
    first = agent.act(obs, Streams(SEEDS, "act"), True, 0.0)[0].double().numpy()
    for i in range(7):
        for row in first[..., i]:
            assert scipy.stats.kstest(row, scipy.stats.uniform(low[i], high[i] - low[i]).cdf).pvalue > 1e-3
    agent.updates = 1
    greedy = agent.act(obs, Streams(SEEDS, "act"), False, 0.0)[0]
    noisy = agent.act(obs, Streams(SEEDS, "act"), True, 0.0)[0]
    state = agent.state_dict()
    for k in range(3):
        out = [
            network(state[f"params/actor_{i}"][k].double(), (N_OBS[i], *HIDDEN, SIZES["continuous"][i]), one)
            for i, one in enumerate(obs[k, :1].double().split(N_OBS, 1))
        ]
        mean = np.tanh(torch.cat(out, 1)[0].numpy())
        expected = (high + low) / 2 + (high - low) / 2 * mean
        np.testing.assert_allclose(greedy[k, 0].numpy(), expected, rtol=1e-4, atol=1e-5)
        unit = (noisy[k].double().numpy() - (high + low) / 2) / ((high - low) / 2)
        for i in range(7):
            inside = np.abs(unit[:, i]) < 0.999
            if abs(mean[i]) < 0.3:  # hardly any is cut off
                assert scipy.stats.kstest(unit[inside, i], scipy.stats.norm(mean[i], 0.2).cdf).pvalue > 1e-3
        assert np.abs(unit).max() < 1 + 1e-5


@EVERY_KIND
def test_fresh_teams(kind: str) -> None:
    """Glorot's bounds and zero biases, no two networks alike; targets are copies in memory of their own."""
    agent = make_team(kind, moved=False, hidden=(90, 70))
    for net in (*agent.actors, *agent.q):
        for layer in net.layers:
            limit = (6 / sum(layer.weight.shape[1:])) ** 0.5
            for row in layer.weight.detach().flatten(1).double().numpy():
                assert scipy.stats.kstest(row, scipy.stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
            assert not layer.bias.detach().any()
    assert len({float(net.layers[1].weight.detach()[0, 0, 0]) for net in (*agent.actors, *agent.q)}) == 6
    state = agent.state_dict()
    for name in state:
        if name.startswith("target/"):
            online = state[name.replace("target", "params")]
            assert torch.equal(state[name], online) and state[name].data_ptr() != online.data_ptr()


# ---- MAPPO -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.Box(-2.0, 2.0, (2,), np.float32)], ids=["discrete", "continuous"]
)
@LOCAL
@pytest.mark.parametrize("authors", [False, True], ids=["small", "code"])
@pytest.mark.usefixtures("either_path")
def test_one_agent_is_ppo(space: spaces.Space, local: bool, authors: bool) -> None:
    """PPO's settings and no moments of returns: bit for bit PPO, its initial weights too."""
    settings = {
        "clip": 0.05,
        "clip_value": authors,
        "bootstrap_time_limit": not authors,
        "envs": 4,
        "steps": 16,
        "minibatch": 16,
        "epochs": 3,
        "max_grad_norm": 1e9,  # PPO clips policy and value together
        "learning_rate": 3e-3,
    }
    settings |= {"value_coef": 0.5, "entropy_coef": 0.02, "hidden": HIDDEN}
    obs_box = spaces.Box(-1, 1, (4,))
    single = ppo.Agent(ppo.Config(**settings, anneal=False), obs_box, space, Streams(SEEDS, "init"), "cpu")
    config = replace(mappo.PRESETS["small"], **settings, value_norm=False, local_value=local)
    one = mappo.Agent(config, spaces.Tuple([obs_box]), spaces.Tuple([space]), Streams(SEEDS, "init"), "cpu")
    assert one.experience == single.experience
    rngs, kept = (Streams(SEEDS, "learn"), Streams(SEEDS, "learn")), Streams(SEEDS, "act")
    batch = make_batch((16, 4), space)
    for i in range(4):
        again = replace(batch, reward=batch.reward * (i + 1))
        action = batch.action[..., None] if isinstance(space, spaces.Discrete) else batch.action
        team = replace(again, action=action, reward=again.reward[..., None])
        metrics, expected = one.update(team, rngs[0], 0.0), single.update(again, rngs[1], 0.0)
        for name in expected:  # means over the steps, which are not taken in the same order
            torch.testing.assert_close(metrics[name], expected[name], rtol=1e-5, atol=1e-7)
        assert torch.equal(one.learned[0].params.matrix, single.learned.params.matrix)
        for explore in (True, False):
            ours = one.act(batch.obs[:, 0], deepcopy(kept), explore, 0.0)[0]
            theirs = single.act(batch.obs[:, 0], deepcopy(kept), explore, 0.0)[0]
            assert torch.equal(ours.squeeze(-1) if theirs.dim() == 2 else ours, theirs)
    for name in ("m", "v", "t"):
        state, theirs = one.state_dict(), single.state_dict()
        assert torch.equal(state[f"optimiser_0/{name}"], theirs[f"optimiser/{name}"])


@LOCAL
@pytest.mark.parametrize("space", [DISCRETE, SPEAKS], ids=["discrete", "continuous"])
def test_windows_by_the_paper(space: spaces.Tuple, local: bool) -> None:
    """What each agent's minibatches are made of, for two windows: its value sees all observations in order,
    or its own; rewards and actions are the agent's; values and returns are in units of the moments.
    """
    agent = make_ppo_team(space, local_value=local, minibatch=24, epochs=1)
    discrete = space is DISCRETE
    n_out, widths = ([3, 5, 4], [1, 1, 1]) if discrete else ([8, 5, 2], [8, 5, 2])
    rng, orders, row = Streams(SEEDS, "learn"), Streams(SEEDS, "learn"), torch.arange(3)[:, None]
    given: dict[int, tuple[Tensor, ...]] = {}
    agent._step = [lambda *x, i=i: given.__setitem__(i, x) or torch.zeros(3, 6) for i in range(3)]
    history: list[list[Tensor]] = [[], [], []]  # of each agent's returns
    mean, deviation = torch.zeros(3, 3, 1, 1), torch.ones(3, 3, 1, 1)  # (N, S, 1, 1)
    for seeds in (SEEDS, [s + 1 for s in SEEDS]):
        window = experience((6, 4), space, seeds)
        agent.update(window, rng, 0.0)
        for i in range(3):
            own, seen, action, logp, advantage, target, old_value = (x.double() for x in given[i][1:])
            order, params = orders.permutation(24), agent.state_dict()[f"params/agent_{i}"].double()

            def turned(x: Tensor) -> Tensor:
                return flatten(x)[row, order].double()

            mine = turned(window.action.split(widths, -1)[i])
            assert torch.equal(own, turned(window.obs.split(N_OBS, -1)[i]))
            assert torch.equal(seen, own if local else turned(window.obs))
            assert torch.equal(action, mine.squeeze(-1) if discrete else mine)

            sizes = (N_OBS[i] if local else 23, *HIDDEN, 1)
            length, values = sum(n_in * n + n for n_in, n in pairwise(sizes)), []
            for x in (window.obs, window.next_obs):
                x = x.split(N_OBS, -1)[i] if local else x
                out = [
                    network(params[k, -length:], sizes, x[k].flatten(0, 1).double(), True) for k in range(3)
                ]
                values.append(mean[i] + deviation[i] * torch.stack(out).view(3, 6, 4))
            alone = replace(window, reward=window.reward[..., i])
            ret = torch.from_numpy(lambda_returns(alone, values[1], 0.99, 0.95))
            close(advantage, turned(ret - values[0]), atol=1e-4)
            close(old_value, turned((values[0] - mean[i]) / deviation[i]), atol=1e-4)
            history[i].append(ret.flatten(1))
            numbers = torch.cat(history[i], 1)  # the last count 1e-5 more: too little to see here
            mean[i], deviation[i] = (x.view(3, 1, 1) for x in (numbers.mean(1), numbers.std(1, correction=0)))
            close(target, turned((ret - mean[i]) / deviation[i]), atol=1e-4)

            sizes = (N_OBS[i], *HIDDEN, n_out[i])
            out = torch.stack([network(params[k], sizes, own[k], True) for k in range(3)])
            if discrete:
                expected = out.log_softmax(-1).gather(-1, mine.long()).squeeze(-1)
            else:
                log_std = params[:, None, -length - n_out[i] : -length]
                expected = torch.distributions.Normal(out, log_std.exp()).log_prob(mine).sum(-1)
            close(logp, expected)


@LOCAL
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
@pytest.mark.parametrize("delta", [0.7, 0.0], ids=["huber", "square"])
def test_a_window_by_the_authors_code(local: bool, shared: bool, delta: float) -> None:
    """Three epochs of a window in plain float64 torch, agent by agent and seed by seed, with what the authors
    have and PPO here has not: ReLU, the sum of the rewards, the time limit as the end, moments that move at
    every step, the clipped value loss by Huber, and the two gradients clipped apart.
    """
    rate = 3e-3
    settings = {"huber_delta": delta, "shared_reward": shared, "max_grad_norm": 0.4, "learning_rate": rate}
    settings |= {"clip_value": True, "bootstrap_time_limit": False, "activation": "relu"}
    agent = make_ppo_team(DISCRETE, local_value=local, minibatch=24, epochs=3, clip=0.01, **settings)
    before, window = copied(agent), experience((6, 4), DISCRETE)
    metrics = agent.update(window, Streams(SEEDS, "learn"), 0.0)
    after, found = copied(agent), np.zeros((3, 3, 6))
    limits = {"apart": 0, "clipped values": 0, "long errors": 0}
    for i, k in np.ndindex(3, 3):
        sizes = (N_OBS[i], *HIDDEN, [3, 5, 4][i]), (N_OBS[i] if local else 23, *HIDDEN, 1)
        at = sum(n_in * n_out + n_out for n_in, n_out in pairwise(sizes[0]))
        row = before[f"params/agent_{i}"][k].double()
        parts = [row[:at].clone().requires_grad_(), row[at:].clone().requires_grad_()]
        optimisers = [torch.optim.Adam([part], rate, eps=1e-5) for part in parts]
        obs, next_obs = (x[k].double().flatten(0, 1) for x in (window.obs, window.next_obs))
        own = obs.split(N_OBS, -1)[i]
        seen, next_seen = (x.split(N_OBS, -1)[i] if local else x for x in (obs, next_obs))
        with torch.no_grad():
            old = network(parts[1], sizes[1], seen)[:, 0]
            bootstrap = network(parts[1], sizes[1], next_seen)[:, 0]
            old_logp = network(parts[0], sizes[0], own).log_softmax(-1)
        reward = window.reward[k].double().sum(-1) if shared else window.reward[k, ..., i].double()
        done = torch.maximum(window.terminated[k], window.truncated[k]).double()
        advantage, running = torch.zeros(6, 4, dtype=torch.float64), torch.zeros(4, dtype=torch.float64)
        for t in reversed(range(6)):  # the last step's successor is known: a window may end within an episode
            delta_t = reward[t] + 0.99 * bootstrap.view(6, 4)[t] * (1 - done[t]) - old.view(6, 4)[t]
            advantage[t] = running = delta_t + 0.99 * 0.95 * (1 - done[t]) * running
        advantage = advantage.flatten()
        ret, scaled = advantage + old, (advantage - advantage.mean()) / advantage.std()
        index = window.action[k, ..., i].flatten()[:, None]
        mean = square = weight = 0.0
        for _ in range(3):
            mean, square, weight = (
                0.99999 * x + 1e-5 * new
                for x, new in ((mean, ret.mean()), (square, (ret**2).mean()), (weight, 1.0))
            )
            deviation = (square / weight - (mean / weight) ** 2).clamp(min=1e-2).sqrt()
            target = (ret - mean / weight) / deviation
            logp = network(parts[0], sizes[0], own).log_softmax(-1)
            log_ratio = (logp - old_logp).gather(1, index)[:, 0]
            ratio = log_ratio.exp()
            policy_loss = -torch.minimum(ratio * scaled, ratio.clamp(0.99, 1.01) * scaled).mean()
            entropy = -(logp.exp() * logp).sum(1).mean()
            value = network(parts[1], sizes[1], seen)[:, 0]
            errors = torch.stack([value - target, old + (value - old).clamp(-0.01, 0.01) - target])
            losses = torch.nn.functional.huber_loss(
                errors, torch.zeros_like(errors), reduction="none", delta=delta or 1e9
            )
            value_loss = losses.max(0).values.mean()
            for optimiser in optimisers:
                optimiser.zero_grad()
            (policy_loss - 0.01 * entropy + value_loss).backward()
            norms = [torch.nn.utils.clip_grad_norm_([part], 0.4) for part in parts]
            for optimiser in optimisers:
                optimiser.step()
            limits["apart"] += int((norms[0] < 0.4) != (norms[1] < 0.4))
            limits["clipped values"] += int((losses[1] > losses[0]).sum())
            limits["long errors"] += int((errors[0].abs() > delta).sum()) if delta else 1
            clip_fraction = ((ratio - 1).abs() > 0.01).double().mean()
            whole = (norms[0] ** 2 + norms[1] ** 2) ** 0.5
            kl = (ratio - 1 - log_ratio).mean()
            numbers = (policy_loss, value_loss, entropy, kl, clip_fraction, whole)
            found[k, i] += [float(x.detach()) / 3 for x in numbers]
        close(after[f"params/agent_{i}"][k], torch.cat(parts).detach(), atol=1e-5)
        moments = torch.stack([torch.as_tensor(x, dtype=torch.float64) for x in (mean, square, weight)])
        torch.testing.assert_close(after[f"value_norm/agent_{i}"][k], moments, rtol=1e-6, atol=1e-9)
    for name, expected in zip(metrics, found.mean(1).T, strict=True):
        np.testing.assert_allclose(metrics[name].numpy(), expected, rtol=2e-3, atol=2e-5, err_msg=name)
    assert all(limits.values()), limits


def test_the_tasks_that_share_rewards() -> None:
    """Agents of the three cooperative scenarios receive the sum, once: some tasks sum it themselves."""
    table = mappo.PRESETS["code"]
    for task, spec in suites.TASKS.items():
        if spec.team:
            cooperative = task.startswith(("simple_spread", "simple_reference", "simple_speaker_listener"))
            config = preset_config("mappo", "code", task)
            assert config.shared_reward == (cooperative and not task.endswith("-openai")), task
            assert not config.shared_reward or "adversary" not in spec.team.sides
    assert set(table) - {"default"} <= set(suites.TASKS)


def test_moments_of_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 and 1 at first; exactly the first numbers' mean and deviation; then older ones count less."""
    norm, s = mappo.ValueNorm(Streams(SEEDS, "init")), Streams(SEEDS, "data")
    mean, deviation = norm.moments()
    assert mean.shape == deviation.shape == (3, 1)
    assert not mean.any() and (deviation == 1).all()
    windows = [7 + 3 * s.normal(50, 4), 2 + s.normal(50, 4), 40 * s.normal(50, 4)]
    numbers = [x.flatten(1).double() for x in windows]
    norm.update(windows[0])
    mean, deviation = norm.moments()
    torch.testing.assert_close(mean.flatten(), numbers[0].mean(1).float(), rtol=2e-7, atol=0)
    torch.testing.assert_close(
        deviation.flatten(), numbers[0].std(1, correction=0).float(), rtol=1e-6, atol=0
    )
    monkeypatch.setattr(mappo.ValueNorm, "DECAY", 0.8)
    norm = mappo.ValueNorm(Streams(SEEDS, "init"))
    for x in windows:
        norm.update(x)
    weights = np.repeat([0.64, 0.8, 1.0], 200)
    expected = np.average(torch.cat(numbers, 1), 1, weights)
    variance = np.average((torch.cat(numbers, 1).numpy() - expected[:, None]) ** 2, 1, weights)
    mean, deviation = norm.moments()
    np.testing.assert_allclose(mean.flatten(), expected, rtol=1e-5)
    np.testing.assert_allclose(deviation.flatten(), variance**0.5, rtol=1e-5)


def test_returns_that_hardly_vary() -> None:
    """A deviation of less than 0.1 counts as that."""
    norm = mappo.ValueNorm(Streams(SEEDS, "init"))
    norm.update(torch.full((3, 50, 4), 2.5))
    assert (norm.moments()[0] == 2.5).all() and torch.allclose(norm.moments()[1], torch.tensor(0.1))


# ---- both --------------------------------------------------------------------------------------------------


def learner(module: ModuleType, setting: Setting, kind: str, seeds: list[int], local: bool) -> object:
    config = replace(setting, **{"local_critic" if module is maddpg else "local_value": local})
    return module.Agent(config, OBS, KINDS[kind][0], Streams(seeds, "init"), "cpu")


PRESETS = pytest.mark.parametrize(
    "module, setting, kind",
    [
        (maddpg, maddpg.PRESETS["code"]["default"], "discrete"),
        (maddpg, maddpg.PRESETS["code"]["openai"], "soft"),
        (maddpg, maddpg.PRESETS["small"]["continuous"], "continuous"),
        (mappo, mappo.PRESETS["code"]["simple_reference_v3"], "discrete"),
        (mappo, mappo.PRESETS["small"], "soft"),
    ],
    ids=["maddpg-discrete", "maddpg-soft", "maddpg-continuous", "mappo-discrete", "mappo-soft"],
)


def trained(agent: object, kind: str, seeds: list[int], updates: int) -> dict[str, Tensor]:
    """Its state, metrics and actions after some updates on batches of the size that it asks for."""
    rng, acting = Streams(seeds, "learn"), Streams(seeds, "act")
    e = agent.experience
    shape = (e.steps, e.envs) if isinstance(e, Rollout) else (e.batch,)
    batch = experience(shape, KINDS[kind][0], seeds, kind == "soft")
    for _ in range(updates):
        metrics = agent.update(batch, rng, 0.0)
    obs = batch.obs.flatten(1, -2)[:, : e.envs]
    actions = {f"act {explore}": agent.act(obs, acting, explore, 0.0)[0] for explore in (True, False)}
    return {**copied(agent), **metrics, **actions}


@PRESETS
@LOCAL
def test_packing(module: ModuleType, setting: Setting, kind: str, local: bool) -> None:
    """At a preset's own sizes: seeds together and alone have the same bits after every agent has learned."""
    updates = 4 if module is maddpg else 1
    pack = [0, 1, 2, 3, 4]
    expected = trained(learner(module, setting, kind, pack, local), kind, pack, updates)
    for seeds in ([3], [4, 1]):
        found = trained(learner(module, setting, kind, seeds, local), kind, seeds, updates)
        for name, values in found.items():
            for row, seed in enumerate(seeds):
                assert torch.equal(values[row], expected[name][seed]), (name, seed)


@PRESETS
def test_state_is_all(module: ModuleType, setting: Setting, kind: str) -> None:
    """Put into a fresh team, the state goes on to the same bits, and is nobody else's memory."""
    first = learner(module, setting, kind, SEEDS, False)
    trained(first, kind, SEEDS, 4 if module is maddpg else 1)
    state = copied(first)
    second = learner(module, setting, kind, [s + 10 for s in SEEDS], False)
    second.load_state_dict(state)
    kept = {name: x.clone() for name, x in state.items()}
    ours, theirs = (trained(agent, kind, SEEDS, 1) for agent in (first, second))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert all(torch.equal(state[name], kept[name]) for name in state)
    assert all(x.shape[0] == len(SEEDS) for x in state.values())


@PRESETS
def test_every_parameter_moves(module: ModuleType, setting: Setting, kind: str) -> None:
    agent = learner(module, setting, kind, SEEDS, False)
    groups = [learned.params for learned in (agent.learners if module is maddpg else agent.learned)]
    before = [[leaf.detach().clone() for leaf in group.leaves] for group in groups]
    trained(agent, kind, SEEDS, 6 if module is maddpg else 1)
    for group, leaves in zip(groups, before, strict=True):
        for new, old in zip(group.leaves, leaves, strict=True):
            assert ((new.detach() != old).flatten(1).float().mean(1) > 0.5).all()


@pytest.mark.parametrize("module", [maddpg, mappo], ids=["maddpg", "mappo"])
def test_refusals(module: ModuleType) -> None:
    """Spaces that it cannot do, in one line each."""
    name, config, streams = module.__name__.rpartition(".")[2], module.Config(), Streams([0], "init")
    discrete, endless = spaces.Discrete(3), spaces.Box(-np.inf, np.inf, (2,), np.float32)
    box, one = boxes(2)[0], OBS[:2]
    cases = [
        (spaces.Box(-1, 1, (4,)), discrete, "multi-agent"),
        (spaces.Box(-1, 1, (4,)), box, "multi-agent"),
        (spaces.Tuple(one), spaces.Tuple([discrete, box]), "discrete actions of all agents, or"),
        (spaces.Tuple(one), spaces.Tuple([box, spaces.MultiBinary(3)]), "discrete actions of all agents"),
        (spaces.Tuple(one), spaces.Tuple([spaces.Tuple([discrete, discrete]), discrete]), "all agents"),
    ]
    if module is maddpg:
        cases.append((spaces.Tuple(one), spaces.Tuple([box, endless]), "bounded"))
    for observations, actions, words in cases:
        with pytest.raises(ValueError, match=f"^{name} needs .*{words}[^\n]*$"):
            module.Agent(config, observations, actions, streams, "cpu")
    if module is maddpg:
        with pytest.raises(ValueError, match="maddpg needs actions from 0 to 1"):
            module.Agent(replace(config, simplex=True), OBS, SKEWED, streams, "cpu")
    else:
        with pytest.raises(ValueError, match="minibatch"):
            replace(config, minibatch=7)

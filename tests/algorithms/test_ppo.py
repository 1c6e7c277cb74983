"""PPO: whole windows of two presets against independent implementations, and the schedules."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ascent.algorithms import ppo
from ascent.algorithms.seedwise import Batch, Streams
from tests.algorithms.test_equations import (
    BOTH_KINDS,
    CONTINUOUS,
    DISCRETE,
    N_OBS,
    SEEDS,
    make_agent,
    make_batch,
    same_step,
)

ENVS, STEPS, SIZE, EPOCHS = 2, 16, 8, 2


class Peer(nn.Module):
    """One seed's networks in plain torch, with our weights."""

    def __init__(self, agent: ppo.Agent, k: int):
        super().__init__()
        self.policy, self.value = (self.copied(net, k) for net in (agent.policy.net, agent.value))
        self.log_std = None
        if not agent.policy.discrete:
            self.log_std = nn.Parameter(agent.policy.log_std.value[k].detach().clone())

    @staticmethod
    def copied(net: object, k: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for layer in net.layers:
            weight, bias = layer.weight[k].detach(), layer.bias[k, 0].detach()
            linear = nn.Linear(*weight.shape)
            linear.weight.data, linear.bias.data = weight.T.clone(), bias.clone()
            layers += [linear, nn.Tanh()]
        return nn.Sequential(*layers[:-1])

    def distribution(self, obs: Tensor) -> torch.distributions.Distribution:
        out = self.policy(obs)
        if self.log_std is None:
            return torch.distributions.Categorical(logits=out)
        normal = torch.distributions.Normal(out, self.log_std.exp().expand_as(out))
        return torch.distributions.Independent(normal, 1)

    def flat(self) -> Tensor:
        """The parameters in the order of our columns."""
        groups = [(p.T if p.dim() == 2 else p) for p in self.policy.parameters()]
        groups += [] if self.log_std is None else [self.log_std]
        groups += [(p.T if p.dim() == 2 else p) for p in self.value.parameters()]
        return torch.cat([g.detach().flatten() for g in groups])


def generalised(
    reward: Tensor, ends: Tensor, value: Tensor, next_value: Tensor, stops: Tensor, c: ppo.Config
) -> Tensor:
    """Advantages (T, E), step by step: `ends` drops the successor's value, `stops` ends the recursion."""
    advantage = torch.zeros_like(reward)
    later = torch.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        delta = reward[t] + c.gamma * next_value[t] * (1 - ends[t]) - value[t]
        later = delta + c.gamma * c.lam * (1 - stops[t]) * later
        advantage[t] = later
    return advantage


def cleanrl_window(
    peer: Peer, optimiser: torch.optim.Adam, batch: Batch, k: int, orders: list[Tensor], c: ppo.Config
) -> None:
    """CleanRL's loop on one window: done is either flag, the larger of two value losses counts."""
    done = torch.maximum(batch.terminated, batch.truncated)[k]
    with torch.no_grad():
        value, next_value = peer.value(batch.obs[k])[..., 0], peer.value(batch.next_obs[k])[..., 0]
        old_logp = peer.distribution(batch.obs[k]).log_prob(batch.action[k])
        advantage = generalised(batch.reward[k], done, value, next_value, done, c)
    flat = [x.flatten(0, 1) for x in (batch.obs[k], batch.action[k], old_logp, advantage, value)]
    b_obs, b_action, b_logp, b_advantage, b_value = flat
    b_return = b_advantage + b_value
    for order in orders:
        for index in order.split(c.minibatch):
            distribution = peer.distribution(b_obs[index])
            ratio = (distribution.log_prob(b_action[index]) - b_logp[index]).exp()
            a = b_advantage[index]
            a = (a - a.mean()) / (a.std() + 1e-8)
            policy_loss = torch.max(-a * ratio, -a * ratio.clamp(1 - c.clip, 1 + c.clip)).mean()
            new = peer.value(b_obs[index])[:, 0]
            clipped = b_value[index] + (new - b_value[index]).clamp(-c.clip, c.clip)
            squares = torch.max((new - b_return[index]) ** 2, (clipped - b_return[index]) ** 2)
            loss = policy_loss - c.entropy_coef * distribution.entropy().mean()
            loss = loss + c.value_coef * 0.5 * squares.mean()
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(peer.parameters(), c.max_grad_norm)
            optimiser.step()


@BOTH_KINDS
def test_windows_of_cleanrl(space: spaces.Space) -> None:
    """Three windows of the preset, from rewards and flags to the weights, with its annealed rates."""
    preset = ppo.PRESETS["cleanrl"]["discrete" if space is DISCRETE else "continuous"]
    c = replace(preset, envs=ENVS, steps=STEPS, minibatch=SIZE, epochs=EPOCHS, normalise=False)
    c = replace(c, learning_rate=1e-2)  # so that clipping sets in
    agent = make_agent(ppo, space, **vars(c))
    before = agent.learned.params.matrix.clone()
    peers = [Peer(agent, k) for k in range(len(SEEDS))]
    optimisers = [torch.optim.Adam(peer.parameters(), eps=1e-5) for peer in peers]
    batch, windows, budget = make_batch((3 * STEPS, ENVS), space), [], 4
    windows = [batch.map(lambda x: x[:, i : i + STEPS]) for i in range(0, 3 * STEPS, STEPS)]
    learn, draws = Streams(SEEDS, "learn"), Streams(SEEDS, "learn")
    for number, window in enumerate(windows, 1):
        agent.update(window, learn, number / budget)
        orders = [draws.permutation(STEPS * ENVS) for _ in range(EPOCHS)]
        for k, (peer, optimiser) in enumerate(zip(peers, optimisers, strict=True)):
            optimiser.param_groups[0]["lr"] = c.learning_rate * (1 - (number - 1) / budget)
            cleanrl_window(peer, optimiser, window, k, [order[k] for order in orders], c)
    for k, peer in enumerate(peers):
        same_step(before[k], agent.learned.params.matrix[k], peer.flat())


def test_value_clipping_matters() -> None:
    """The test above would notice: without clipping, or with the smaller loss, the weights differ."""
    found = []
    for clip_value in (True, False):
        agent = make_agent(ppo, CONTINUOUS, clip_value=clip_value, envs=ENVS, steps=STEPS, minibatch=SIZE)
        agent.update(make_batch((STEPS, ENVS), CONTINUOUS), Streams(SEEDS, "learn"), 0.5)
        found.append(agent.learned.params.matrix.clone())
    assert (found[0] - found[1]).abs().max() > 1e-4


@pytest.mark.usefixtures("torch_only")
def test_a_time_limit_is_an_end_without_bootstrapping(monkeypatch: pytest.MonkeyPatch) -> None:
    """The value of the state at a time limit counts in one case, and changes nothing in the other."""
    for bootstrap in (True, False):
        seen = []
        for shift in (0.0, 5.0):
            agent = make_agent(ppo, DISCRETE, bootstrap_time_limit=bootstrap, envs=1, steps=8, minibatch=8)
            batch = make_batch((8, 1), DISCRETE, cuts=False)
            batch.truncated[:, 3] = 1.0
            batch.next_obs[:, 3] += shift
            columns: list[Tensor] = []
            monkeypatch.setattr(
                agent, "_step", lambda rate, *x, to=columns: to.extend(x) or torch.zeros(3, 6)
            )
            agent.update(batch, Streams(SEEDS, "learn"), 0.0)
            seen.append(columns[3])
        assert torch.equal(*seen) != bootstrap


@pytest.mark.usefixtures("torch_only")
def test_return_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in Tianshou: values and targets in units of the deviation of all returns before, advantages raw."""
    c = replace(
        ppo.PRESETS["tianshou"], envs=ENVS, steps=STEPS, minibatch=ENVS * STEPS, epochs=1, normalise=False
    )
    agent = make_agent(ppo, CONTINUOUS, **vars(c))
    batch = make_batch((3 * STEPS, ENVS), CONTINUOUS)
    batch.reward.mul_(30.0)
    learn, draws = Streams(SEEDS, "learn"), Streams(SEEDS, "learn")
    returns: list[list[np.ndarray]] = [[] for _ in SEEDS]
    for i in range(0, 3 * STEPS, STEPS):
        window, columns = batch.map(lambda x: x[:, i : i + STEPS]), []
        with torch.no_grad():
            value, next_value = (agent.value(x)[..., 0] for x in (window.obs, window.next_obs))
        with monkeypatch.context() as patch:
            patch.setattr(agent, "_step", lambda rate, *x, to=columns: to.extend(x) or torch.zeros(3, 6))
            agent.update(window, learn, 0.5)
        order = draws.permutation(STEPS * ENVS)
        for k, before in enumerate(returns):
            scale = np.sqrt(np.var(np.concatenate(before)) + 1e-8) if before else 1.0
            stops = torch.maximum(window.terminated, window.truncated)[k]
            advantage = generalised(
                window.reward[k], window.terminated[k], scale * value[k], scale * next_value[k], stops, c
            ).numpy()
            ret = advantage + scale * value[k].numpy()
            for ours, theirs in (
                (columns[3], advantage),
                (columns[4], ret / scale),
                (columns[5], value[k].numpy()),
            ):
                np.testing.assert_allclose(ours[k], theirs.flatten()[order[k]], rtol=2e-3, atol=2e-3)
            before.append(ret.flatten())


def test_raw_advantages() -> None:
    """Without standardisation, twice the advantage is twice the policy's loss."""
    agent = make_agent(ppo, CONTINUOUS, normalise_advantage=False, value_coef=0.0)
    batch, advantage = make_batch((8,), CONTINUOUS), Streams(SEEDS, "advantage").normal(8)
    logp = agent.policy.evaluate(batch.obs, batch.action)[0].detach() - 0.05
    losses = [
        agent.loss(batch.obs, batch.action, logp, factor * advantage, batch.reward, batch.reward)[0]
        for factor in (1.0, 2.0)
    ]
    torch.testing.assert_close(2 * losses[0], losses[1])


def test_learning_rates() -> None:
    """From the start, as CleanRL; from the end, as Stable-Baselines3; to a budget of its own."""
    budget = 10
    expected = {
        ("start", None): [1 - (i - 1) / 10 for i in range(1, 11)],
        ("end", None): [1 - i / 10 for i in range(1, 11)],
        ("start", 3 * 10 * 8): [1 - (i - 1) / 30 for i in range(1, 11)],
        ("start", 5 * 8): [max(1 - (i - 1) / 5, 0) for i in range(1, 11)],
    }
    for (start, steps), rates in expected.items():
        config = ppo.Config(2, 4, minibatch=8, learning_rate=1.0, anneal_from=start, anneal_steps=steps)
        agent = ppo.Agent(config, spaces.Box(-1, 1, (N_OBS,)), DISCRETE, Streams(SEEDS, "init"), "cpu")
        found = []
        for i in range(1, budget + 1):
            agent.updates = i
            found.append(agent.learning_rate(i / budget))
        np.testing.assert_allclose(found, rates, atol=1e-12)


def test_networks_of_rl_zoo() -> None:
    """ReLU comes with torch's initial weights, and the standard deviation starts where the preset says."""
    config = replace(ppo.PRESETS["zoo"]["Hopper-v5"], envs=1)
    agent = ppo.Agent(config, spaces.Box(-1, 1, (N_OBS,)), CONTINUOUS, Streams(range(50), "init"), "cpu")
    first, last = agent.policy.net.layers[0], agent.policy.net.layers[-1]
    for layer, n_in in ((first, N_OBS), (last, 256)):
        assert layer.weight.abs().max() <= n_in**-0.5
        np.testing.assert_allclose(layer.weight.detach().std(), n_in**-0.5 / 3**0.5, rtol=0.02)
    assert (agent.policy.log_std.value == -2.0).all()
    obs = Streams(range(50), "data").normal(7, N_OBS)
    hidden = torch.relu(obs @ first.weight + first.bias)
    second = agent.policy.net.layers[1]
    hidden = torch.relu(hidden @ second.weight + second.bias)
    torch.testing.assert_close(agent.policy.net(obs), hidden @ last.weight + last.bias, rtol=1e-4, atol=1e-5)


def test_state_continues_with_its_own_schedule() -> None:
    """Return moments and the number of updates are part of the state."""
    c = replace(ppo.PRESETS["tianshou"], envs=ENVS, steps=STEPS, minibatch=SIZE)
    batch = make_batch((2 * STEPS, ENVS), CONTINUOUS)
    windows = [batch.map(lambda x: x[:, i : i + STEPS]) for i in (0, STEPS)]
    learn, agent = Streams(SEEDS, "learn"), make_agent(ppo, CONTINUOUS, **vars(c))
    agent.update(windows[0], learn, 0.1)
    saved = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    state = learn.state_dict()
    agent.update(windows[1], learn, 0.2)
    other, again = make_agent(ppo, CONTINUOUS, **vars(c)), Streams(SEEDS, "learn")
    other.load_state_dict(saved)
    again.load_state_dict(state)
    other.update(windows[1], again, 0.2)
    for name, tensor in agent.state_dict().items():
        assert torch.equal(tensor, other.state_dict()[name]), name

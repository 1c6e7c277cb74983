"""DDPG, TD3 and SAC, against closed forms, scipy, plain float64 networks and Stable-Baselines3."""

from dataclasses import replace
from itertools import pairwise
from math import log
from types import ModuleType

import numpy as np
import pytest
import scipy.stats
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch import Tensor
from torch.nn.utils import vector_to_parameters

from ascent.algorithms import ddpg, sac, td3
from ascent.algorithms.seedwise import Adam, Batch, Parameters, Replay, Streams
from ascent.runners.conform_algorithm import parameters
from tests.algorithms.test_equations import GAMMA, N_OBS, OBS, SEEDS, make_agent, make_batch, sb3_model

WIDE = spaces.Box(-2.0, 2.0, (2,), np.float32)
SKEWED = spaces.Box(np.array([-1.0, -3.0], np.float32), np.array([3.0, -2.5], np.float32))
MODULES = pytest.mark.parametrize("module", [ddpg, td3, sac], ids=["ddpg", "td3", "sac"])
SPACES = pytest.mark.parametrize("space", [WIDE, SKEWED], ids=["wide", "skewed"])
N = 16  # transitions in a batch
PAPER = {**vars(ddpg.PRESETS["paper"]), "hidden": (16, 8)}


# ---- the same networks again, in plain float64 torch, from one seed's row of parameters --------------------


def network(row: Tensor, x: Tensor, n_out: int) -> Tensor:
    """The output of the ReLU network whose parameters are the row, with `make_agent`'s hidden layers."""
    for i, (n_in, width) in enumerate(pairwise((x.shape[1], 16, 8, n_out))):
        weight, bias, row = row.split((n_in * width, width, len(row) - (n_in + 1) * width))
        x = (x.relu() if i else x) @ weight.view(n_in, width) + bias
    assert len(row) == 0
    return x


def q_values(row: Tensor, n: int, obs: Tensor, action: Tensor) -> Tensor:
    """(n, B) of n critics."""
    x = torch.cat([obs, action], 1)
    return torch.stack([network(part, x, 1)[:, 0] for part in row.chunk(n)])


def actor_mean(agent: object, row: Tensor, obs: Tensor) -> Tensor:
    """The actor's output, or the mean of SAC's policy, before tanh."""
    return network(row, obs, 2 if hasattr(agent, "actor") else 4)[:, :2]


def actor_params(agent: object) -> Parameters:
    return agent.learned_actor.params if hasattr(agent, "actor") else agent.learned_policy.params


def rates(rate: float) -> dict[str, float]:
    """SAC's learning rates, all the same."""
    return {f"{name}_learning_rate": rate for name in ("actor", "critic", "alpha")}


def prompt(module: ModuleType, **settings: object) -> object:
    """An agent all of which learns at every update."""
    return make_agent(module, WIDE, delay=1, **settings)


def transitions(space: spaces.Box, n: int = N) -> Batch:
    """Random transitions, some of them terminal, with actions uniform within the bounds."""
    batch, low, high = make_batch((n,), space), torch.tensor(space.low), torch.tensor(space.high)
    action = low + (high - low) * Streams(SEEDS, "actions").uniform(n, len(low)).float()
    assert all(0 < share < 1 for share in batch.terminated.mean(1))
    obs = {"obs": 2 * batch.obs, "next_obs": 2 * batch.next_obs}  # so far apart that critics change places
    return replace(batch, action=action, truncated=None, **obs)


def copied(agent: object) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in agent.state_dict().items()}


# ---- the agents --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module, bound", [(ddpg, 0.0), (ddpg, 3e-3), (td3, 0.0), (sac, 0.0)])
def test_fresh_agents(module: ModuleType, bound: float) -> None:
    """Weights uniform in +-1/sqrt(inputs), DDPG's last ones in the bound asked for; targets are copies."""
    settings = {"hidden": (90, 70)} | ({"output_bound": bound} if bound else {})
    config = module.Config(2, 3, 4, 5, 6, 7, **settings)
    agent = module.Agent(config, OBS, WIDE, Streams(SEEDS, "init"), "cpu")
    assert agent.experience == Replay(envs=2, capacity=3, batch=4, starts=5, every=6, updates=7)
    policy, critics = agent.policy if module is sac else agent.actor, 1 if module is ddpg else 2
    for net, copies in ((policy.net, 1), (agent.q.net, critics)):
        assert [len(layer.weight) for layer in net.layers] == [3 * copies] * 3
        for i, layer in enumerate(net.layers):
            limit = bound if bound and i == 2 else layer.weight.shape[1] ** -0.5
            weights = torch.cat([layer.weight, layer.bias], 1).flatten(1).double()
            for row in weights.detach().numpy():
                assert scipy.stats.kstest(row, scipy.stats.uniform(-limit, 2 * limit).cdf).pvalue > 1e-3
            assert len(weights[:, 0].unique()) == 3 * copies
    state = agent.state_dict()
    for name, target in state.items():
        if name.startswith("target/"):
            online = state[name.replace("target", "params")]
            assert torch.equal(target, online)
            assert target.data_ptr() != online.data_ptr()


@MODULES
def test_refuses_other_actions(module: ModuleType) -> None:
    for space in (spaces.Discrete(3), spaces.Box(-np.inf, np.inf, (2,))):
        with pytest.raises(ValueError, match=r"continuous.*bounds"):
            make_agent(module, space)


@MODULES
@SPACES
def test_actions(module: ModuleType, space: spaces.Box) -> None:
    """Uniform over the bounds before the first update; then the noisy policy; greedy ones have no noise."""
    n, low, high = 5000, space.low.astype(float), space.high.astype(float)
    agent = make_agent(module, space, **({} if module is sac else {"noise": 0.4}))
    obs = Streams(SEEDS, "data").normal(1, N_OBS).expand(-1, n, -1)
    first, carry = agent.act(obs, Streams(SEEDS, "act"), True, 0.0)
    assert (first.shape, first.dtype, carry) == ((3, n, 2), torch.float32, None)
    for actions in first.double().numpy():
        for i in range(2):
            uniform = scipy.stats.uniform(low[i], high[i] - low[i])
            assert scipy.stats.kstest(actions[:, i], uniform.cdf).pvalue > 1e-3
        assert abs(np.corrcoef(actions.T)[0, 1]) < 4 / n**0.5
    greedy = agent.act(obs, None, False, 0.0)[0]
    agent.updates = 1
    noisy, carry = agent.act(obs, Streams(SEEDS, "act"), True, 0.0)
    assert carry is None
    noise = Streams(SEEDS, "act").normal(n, 2).double()
    for k in range(3):
        row, s = actor_params(agent).matrix[k].double(), obs[k].double()
        mean = actor_mean(agent, row, s)
        if module is sac:
            expected = (mean + network(row, s, 4)[:, 2:].exp() * noise[k]).tanh()
        else:
            expected = (mean.tanh() + 0.4 * noise[k]).clamp(-1, 1)
            assert (expected.abs() == 1).any()
        for ours, x in ((noisy[k], expected), (greedy[k], mean.tanh())):
            np.testing.assert_allclose(ours, low + (x.numpy() + 1) / 2 * (high - low), rtol=1e-4, atol=1e-5)
            assert ((ours.numpy() >= space.low) & (ours.numpy() <= space.high)).all()


@pytest.mark.parametrize("module", [ddpg, td3], ids=["ddpg", "td3"])
def test_ornstein_uhlenbeck_noise(module: ModuleType) -> None:
    """Stationary variance s^2 / (1 - (1 - theta)^2), correlation 1 - theta from step to step, with the values
    of DDPG's paper; it restarts where the carry is 0; greedy actions leave it alone."""
    settings = PAPER if module is ddpg else {"noise": PAPER["noise"], "noise_decay": PAPER["noise_decay"]}
    agent, envs = make_agent(module, WIDE, **settings), 64
    agent.updates = 1
    theta, sigma = 0.15, 0.2
    obs, rng, fresh = torch.zeros(3, envs, N_OBS), Streams(SEEDS, "act"), Streams(SEEDS, "act")
    carry, path = None, []
    greedy = agent.act(obs, None, False, 0.0)[0]
    for step in range(400):
        if step == 200:
            carry = carry * (torch.arange(envs) % 2)[:, None]  # every second episode has ended
        before = torch.zeros(3, envs, 2) if carry is None else carry
        action, carry = agent.act(obs, rng, True, 0.0, carry)
        torch.testing.assert_close(action, (greedy + 2 * carry).clamp(-2, 2))
        normal = fresh.normal(envs, 2)
        torch.testing.assert_close(carry, before - theta * before + sigma * normal)
        if step == 200:
            torch.testing.assert_close(carry[:, ::2], sigma * normal[:, ::2])
        path.append(carry)
    x = torch.stack(path[50:200] + path[250:]).double().numpy()
    np.testing.assert_allclose(x.var(), sigma**2 / (1 - (1 - theta) ** 2), rtol=0.05)
    for lag in (1, 2):
        products = np.concatenate([part[lag:] * part[:-lag] for part in (x[:150], x[150:])])
        np.testing.assert_allclose(products.mean() / x.var(), (1 - theta) ** lag, atol=0.02)
    assert agent.act(obs, None, False, 0.0, carry)[1] is carry


# ---- targets and gradients ---------------------------------------------------------------------------------


def regression_targets(agent: object, batch: Batch) -> Tensor:
    """(S, n, B): what `update` fits each critic to, from the gradient of its loss at critics that say 0."""
    nothing, found = torch.zeros(3, agent.q.n, N, requires_grad=True), []
    divisor = 1 if hasattr(agent, "policy") else 2  # SAC's loss has a half

    def grad(loss: Tensor) -> Tensor:
        found.append(-N / divisor * torch.autograd.grad(loss.sum(), nothing)[0])
        return torch.zeros_like(agent.learned_q.params.matrix)

    agent.q, agent.learned_q.params.grad = lambda obs, action: nothing, grad
    agent.update(batch, Streams(SEEDS, "learn"), 0.0)
    return found[0]


@MODULES
def test_targets_by_definition(module: ModuleType) -> None:
    """The Bellman backup in float64: the smaller of the target critics, at the smoothed action (TD3) or a
    fresh one with its soft bonus (SAC), and all of it 0 after a true end. SAC scales its rewards."""
    settings = {td3: {"target_noise": 0.4, "target_clip": 0.5}, sac: {"reward_scale": 5.0}}.get(module, {})
    agent, batch = make_agent(module, WIDE, gamma=GAMMA, **settings), transitions(WIDE)
    reward = settings.get("reward_scale", 1.0) * batch.reward
    noise = Streams(SEEDS, "learn").normal(N, 2).double()  # the first that `update` draws
    alphas = agent.log_alpha.value.detach().double().exp() if module is sac else None
    target = {name: x.double() for name, x in copied(agent).items()}
    n, smaller = agent.q.n, []
    y = regression_targets(agent, batch)
    for k in range(3):
        obs, bonus = batch.next_obs[k].double(), torch.zeros(N, dtype=torch.float64)
        if module is sac:
            mean, log_std = network(target["params/policy"][k], obs, 4).chunk(2, 1)
            u = mean + log_std.exp() * noise[k]
            density = torch.distributions.Normal(mean, log_std.exp()).log_prob(u) + 2 * u.cosh().log()
            action, bonus = u.tanh(), -alphas[k] * density.sum(1)
        else:
            action = network(target["target/actor"][k], obs, 2).tanh()
            if module is td3:
                action = (action + (0.4 * noise[k]).clamp(-0.5, 0.5)).clamp(-1, 1)
        single = q_values(target["target/q"][k], n, obs, action)  # (n, B)
        backups = reward[k] + GAMMA * (1 - batch.terminated[k]) * (single + bonus)
        for fitted in y[k]:
            torch.testing.assert_close(fitted.double(), backups.amin(0), rtol=1e-4, atol=1e-5)
            assert torch.equal(fitted[batch.terminated[k] == 1], reward[k][batch.terminated[k] == 1])
            assert (fitted <= backups + 1e-5).all()
        smaller.append(single.argmin(0))
    assert len(torch.cat(smaller).unique()) == n


def deterministic_gradient(agent: object, k: int, critics: int, obs: Tensor) -> Tensor:
    """mean dQ/da dmu/dtheta in float64, a = mu(s), Q the smallest of the first `critics`."""
    row, q_row = actor_params(agent).matrix[k].double(), agent.learned_q.params.matrix[k].double()
    q_row = q_row.view(agent.q.n, -1)[:critics].flatten()
    jacobian = torch.autograd.functional.jacobian(lambda x: actor_mean(agent, x, obs).tanh(), row)
    action = actor_mean(agent, row, obs).tanh().requires_grad_()
    (slope,) = torch.autograd.grad(q_values(q_row, critics, obs, action).amin(0).sum(), action)
    return torch.einsum("ba,bap->p", slope, jacobian) / len(obs)


@MODULES
def test_the_deterministic_policy_gradient(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The actor descends -mean dQ/da dmu/dtheta: TD3 with the first critic, SAC with the smaller one as its
    temperature and its deviation go to 0, DDPG with the only one."""
    agent, batch = prompt(module, **({"tune_alpha": False} if module is sac else {})), transitions(WIDE)
    if module is sac:
        agent.log_alpha.value = torch.full((3, 1), -40.0)
        last = agent.policy.net.layers[-1]
        last.weight.data[..., 2:], last.bias.data[..., 2:] = 0.0, -15.0
    taken = []
    monkeypatch.setattr(Adam, "step", lambda self, grad, rate: taken.append(grad))
    agent.update(batch, Streams(SEEDS, "learn"), 0.0)
    for k in range(3):
        expected = deterministic_gradient(agent, k, 2 if module is sac else 1, batch.obs[k].double())
        assert expected.abs().max() > 0.01
        torch.testing.assert_close(taken[1][k].double(), -expected, rtol=1e-4, atol=1e-5)


@MODULES
def test_each_network_learns_from_its_own_loss_alone(
    module: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Critics, actor and temperature, in this order: no loss has a path to what it does not train, and no
    step moves anything else."""
    agent, grad, step, order = prompt(module), Parameters.grad, Adam.step, []
    everything = parameters(agent)

    def checked(self: Parameters, loss: Tensor) -> Tensor:
        others = [leaf for matrix in everything if matrix is not self for leaf in matrix.leaves]
        found = torch.autograd.grad(loss.sum(), others, retain_graph=True, allow_unused=True)
        assert all(x is None for x in found)
        return grad(self, loss)

    def watched(self: Adam, grad: Tensor, rate: float) -> None:
        before = copied(agent)
        step(self, grad, rate)
        weights = [name for name in before if name.startswith(("params/", "target/"))]
        order.append([name for name in weights if not torch.equal(agent.state_dict()[name], before[name])])

    monkeypatch.setattr(Parameters, "grad", checked)
    monkeypatch.setattr(Adam, "step", watched)
    agent.update(transitions(WIDE), Streams(SEEDS, "learn"), 0.0)
    expected = ["q", "policy", "alpha"] if module is sac else ["q", "actor"]
    assert order == [[f"params/{name}"] for name in expected]


@MODULES
@pytest.mark.parametrize("tau", [0.3, 1.0])
def test_targets_are_moving_averages(module: ModuleType, tau: float) -> None:
    """(1 - tau) target + tau online, of the weights after the step."""
    agent = prompt(module, tau=tau)
    before = copied(agent)
    agent.update(transitions(WIDE), Streams(SEEDS, "learn"), 0.0)
    after = agent.state_dict()
    for name, target in after.items():
        if name.startswith("target/"):
            online = after[name.replace("target", "params")]
            assert not torch.equal(online, before[name.replace("target", "params")])
            expected = (1 - tau) * before[name].double() + tau * online.double()
            torch.testing.assert_close(target.double(), expected, rtol=1e-6, atol=1e-7)


# ---- DDPG and TD3 ------------------------------------------------------------------------------------------


def test_td3_smoothing_noise() -> None:
    """Normal, clipped by itself in every dimension of every sample; then the action is clipped to [-1, 1]."""
    n, means, seen = 4096, np.array([[0.0, 0.0], [2.0, -1.0]]), []
    agent = prompt(td3, target_noise=0.3, target_clip=0.5)
    target_q, rng = agent.target_q, Streams(SEEDS, "learn")
    agent.target_q = lambda obs, action: seen.append(action.double().numpy()) or target_q(obs, action)
    for mean in means:
        agent.learned_actor.target.matrix.zero_()
        agent.learned_actor.target.matrix[:, -2:] = torch.from_numpy(mean)  # the last biases
        agent.update(transitions(WIDE, n), rng, 0.0)
    normal = 0.3 * Streams(SEEDS, "learn").normal(2, n, 2).double().numpy()
    for u, mean in enumerate(means):
        near = np.tanh(mean) + normal[:, u].clip(-0.5, 0.5)
        np.testing.assert_allclose(seen[u], near.clip(-1, 1), rtol=1e-5, atol=1e-6)
    assert ((near > 1).any(), (near < -1).any()) == (True, True)
    for noise in seen[0]:  # that of the policy that says 0
        assert abs(np.corrcoef(noise.T)[0, 1]) < 4 / n**0.5
        clipped = np.abs(noise) == 0.5
        assert (clipped[:, 0] != clipped[:, 1]).any()
        share = 2 * scipy.stats.norm.cdf(-0.5 / 0.3)
        assert scipy.stats.binomtest(clipped.sum(), clipped.size, share).pvalue > 1e-3


@pytest.mark.parametrize("module", [ddpg, td3], ids=["ddpg", "td3"])
@pytest.mark.parametrize("delay", [2, 3])
def test_delay(module: ModuleType, delay: int) -> None:
    """The actor, its optimiser and all targets stand still but at every `delay`-th update."""
    agent, batch, rng = make_agent(module, WIDE, delay=delay), transitions(WIDE), Streams(SEEDS, "learn")
    always = {"params/q", "q_optimiser/m", "q_optimiser/v", "q_optimiser/t", "updates"}
    for update in range(1, 3 * delay):
        before = copied(agent)
        agent.update(batch, rng, 0.0)
        changed = {name for name, x in agent.state_dict().items() if not torch.equal(x, before[name])}
        assert changed == (before.keys() if update % delay == 0 else always)


@pytest.mark.parametrize("pack", [[0], [0, 1, 2], [2, 1]], ids=str)
@SPACES
def test_td3_without_its_three_changes_is_ddpg(pack: list[int], space: spaces.Box) -> None:
    """One critic, no delay, no smoothing: every bit of parameters, targets and optimisers."""
    batch = transitions(space)
    batch = batch.map(lambda x: x[pack])
    shared, seeds = {"hidden": (16, 8), "gamma": GAMMA, "tau": 0.1}, [SEEDS[k] for k in pack]
    plain = td3.Config(critics=1, delay=1, target_noise=0.0, learning_rate=1e-2, **shared)
    config = ddpg.Config(actor_learning_rate=1e-2, critic_learning_rate=1e-2, delay=1, **shared)
    pairs = ((td3, plain), (ddpg, config))
    agents = [module.Agent(c, OBS, space, Streams(seeds, "init"), "cpu") for module, c in pairs]
    start = copied(agents[0])
    for _ in range(5):
        metrics = [agent.update(batch, Streams(seeds, "learn"), 0.0) for agent in agents]
    states = [agent.state_dict() for agent in agents]
    assert states[0].keys() == states[1].keys()
    for name, x in states[0].items():
        assert torch.equal(x, states[1][name]), name
        assert not torch.equal(x, start[name]), name
    assert all(torch.equal(metrics[0][name], metrics[1][name]) for name in ("q_loss", "q"))


# ---- SAC ---------------------------------------------------------------------------------------------------


def gaussian(mean: Tensor, log_std: Tensor) -> tuple[sac.SquashedGaussian, Tensor]:
    """Policies, one a seed, with these (S, A) in every state; and the bias that holds both."""
    policy = sac.SquashedGaussian(Streams(range(len(mean)), "init"), (1, 2 * mean.shape[1]), False)
    (layer,) = policy.net.layers
    layer.bias = torch.cat([mean, log_std], 1)[:, None].requires_grad_()
    layer.weight = torch.zeros_like(layer.weight).requires_grad_()
    return policy, layer.bias


def test_sac_density_by_change_of_variables() -> None:
    """The density of the actions is that of a normal variable over the slope 1 - a^2, and its integral 1."""
    mean, std = (
        torch.tensor([0.0, 1.5, -0.5, 0.0, 3.0])[:, None],
        torch.tensor([0.5, 1, 2, 0.05, 0.3])[:, None],
    )
    noise = torch.linspace(-7, 7, 20_001).view(1, -1, 1).expand(5, -1, 1)
    with torch.no_grad():
        action, logp = gaussian(mean, std.log())[0].sample(torch.zeros(5, 20_001, 1), noise)
    assert logp.shape == (5, 20_001)
    mean, std = mean.double().numpy(), std.double().numpy()
    u = mean + std * noise[..., 0].double().numpy()
    a, logp = np.tanh(u), logp.double().numpy()
    np.testing.assert_allclose(action[..., 0], a, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.trapezoid(np.exp(logp), a), 1.0, rtol=1e-4)
    inside = np.abs(u) < 8  # where float64 knows 1 - a^2 well
    expected = scipy.stats.norm.logpdf(u, mean, std) - np.log1p(-(a**2), where=inside, out=np.zeros_like(a))
    np.testing.assert_allclose(logp[inside], expected[inside], rtol=1e-5, atol=1e-4)


def test_sac_density_far_out() -> None:
    """Exact, with its gradient, where 1 - a^2 is lost in float32 and a sum with 1e-6 stands still."""
    u = torch.tensor([0.0, 0.5, 4.0, 8.0, 15.0, 60.0])
    u = torch.cat([u, -u])
    noise = torch.full((12, 1, 1), 0.7)
    policy, bias = gaussian(u[:, None] - 0.7 * 1.5, torch.full((12, 1), log(1.5)))
    logp = policy.sample(torch.zeros(12, 1, 1), noise)[1]
    (grad,) = torch.autograd.grad(logp.sum(), bias)
    x = u.double().numpy()
    normal = scipy.stats.norm.logpdf(0.7) - log(1.5)
    slope = -2 * np.log(np.cosh(x))  # log(1 - tanh(u)^2), exactly
    np.testing.assert_allclose(logp[:, 0].detach(), normal - slope, rtol=1e-6, atol=1e-6)
    with_epsilon = np.log(1 - np.tanh(x) ** 2 + 1e-6)
    assert (with_epsilon - slope)[np.abs(x) >= 8].min() > 1.0  # what is not computed here
    np.testing.assert_allclose(grad[:, 0, 0], 2 * np.tanh(x), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(grad[:, 0, 1], 2 * np.tanh(x) * 1.5 * 0.7 - 1, rtol=1e-5, atol=1e-6)


def test_sac_density_of_several_dimensions() -> None:
    """The sum over them; deviations stop at e^-20 and e^2, and beyond have no gradient."""
    mean, log_std = torch.tensor([[0.3, -1.0, 0.0]]), torch.tensor([[-30.0, 0.4, 5.0]])
    noise, obs = Streams([1], "noise").normal(6, 3), torch.zeros(1, 6, 1)
    policy, bias = gaussian(mean, log_std)
    action, logp = policy.sample(obs, noise)
    (grad,) = torch.autograd.grad(logp.sum(), bias)
    assert (grad[0, 0, 3:] != 0).tolist() == [False, True, False]
    parts = []
    for i, limited in enumerate((-20.0, 0.4, 2.0)):
        one = gaussian(mean[:, i : i + 1], torch.full((1, 1), limited))[0]
        part = one.sample(obs, noise[..., i : i + 1])
        torch.testing.assert_close(part[0], action[..., i : i + 1])
        parts.append(part[1])
    torch.testing.assert_close(logp, sum(parts))


def test_sac_soft_optimum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without squashing, and with Q = -k/2 (u - m)^2 as the smaller critic: the mean becomes m, the variance
    alpha / k and the entropy log(2 pi e alpha / k) / 2."""
    monkeypatch.setattr(sac, "tanh", lambda x: x)
    monkeypatch.setattr(sac, "softplus", lambda x: log(2) + x / 2)  # makes the logarithm of the slope 0
    agent = make_agent(sac, spaces.Box(-1, 1, (1,)), tune_alpha=False, hidden=(), **rates(0.03))
    m, k = torch.tensor([[1.5], [-0.7], [0.2]]), torch.tensor([[0.5], [2.0], [8.0]])
    alpha = torch.tensor([[1.0], [0.1], [3.0]])
    agent.log_alpha.value = alpha.log()

    def critics(obs: Tensor, action: Tensor) -> Tensor:
        q = -k / 2 * (action[..., 0] - m) ** 2
        return torch.stack([q, q + 1 + action[..., 0] ** 2], 1)

    agent.constant_q = critics
    noise = scipy.stats.zscore(np.arange(N) ** 1.3).astype(np.float32)  # of mean 0, variance 1
    noise = torch.from_numpy(noise)[:, None].expand(3, -1, -1)
    nothing = torch.zeros(3, N, N_OBS)
    batch = replace(transitions(spaces.Box(-1, 1, (1,))), obs=nothing, next_obs=nothing)
    for _ in range(500):
        metrics = agent.improve_critics(batch, noise)
        agent.improve_policy(nothing, noise[:, None])
    mean, log_std = agent.policy.net(nothing[:, :1])[:, 0].detach().chunk(2, 1)
    torch.testing.assert_close(mean, m, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close((2 * log_std).exp(), alpha / k, rtol=2e-3, atol=0.0)
    normal = scipy.stats.norm(0, (alpha / k).sqrt().numpy())
    np.testing.assert_allclose(metrics["entropy"], normal.entropy()[:, 0], atol=1e-3)


@pytest.mark.parametrize("delay", [1, 3])
def test_sac_delay(delay: int) -> None:
    """Policy and temperature stand still but at every `delay`-th update, when they take `delay` steps; the
    critics and their targets move at each."""
    agent, batch, rng = make_agent(sac, WIDE, delay=delay), transitions(WIDE), Streams(SEEDS, "learn")
    always = {"params/q", "target/q", "q_optimiser/m", "q_optimiser/v", "q_optimiser/t", "updates"}
    for update in range(1, 3 * delay):
        before = copied(agent)
        agent.update(batch, rng, 0.0)
        after = agent.state_dict()
        changed = {name for name, x in after.items() if not torch.equal(x, before[name])}
        assert changed == (before.keys() if update % delay == 0 else always)
        for name in ("policy_optimiser/t", "alpha_optimiser/t"):
            assert after[name].tolist() == [update // delay * delay] * 3


def test_sac_reward_scale_is_inverse_temperature(monkeypatch: pytest.MonkeyPatch) -> None:
    """With rewards and critics times 5 and temperature 1 instead of 1/5, targets and the policy's gradient
    are 5 times as large."""
    batch, noise, grads, targets = transitions(WIDE), Streams(SEEDS, "noise").normal(1, N, 2), [], []
    for scale, alpha in ((5.0, 1.0), (1.0, 0.2)):
        agent = make_agent(sac, WIDE, tune_alpha=False, gamma=GAMMA, reward_scale=scale)
        agent.log_alpha.value = torch.full((3, 1), log(alpha))
        for layer in (agent.q.net.layers[-1], agent.target_q.net.layers[-1]):
            layer.weight.data.mul_(scale)
            layer.bias.data.mul_(scale)
        with monkeypatch.context() as patch:
            patch.setattr(Adam, "step", lambda self, grad, rate: grads.append(grad))
            agent.improve_policy(batch.obs, noise)
        targets.append(regression_targets(agent, batch))
    torch.testing.assert_close(targets[0], 5 * targets[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(grads[0], 5 * grads[1], rtol=1e-4, atol=1e-5)


def test_sac_entropy_of_the_environments_actions() -> None:
    """log pi is smaller by the logarithm of the volume of the bounds, relative to that of [-1, 1]."""
    noise, obs = Streams(SEEDS, "noise").normal(N, 2), transitions(SKEWED).obs
    plain, scaled = (
        make_agent(sac, SKEWED, environment_units=units).sample(obs, noise) for units in (False, True)
    )
    assert torch.equal(plain[0], scaled[0])
    torch.testing.assert_close(scaled[1], plain[1] - log(2.0 * 0.25))


def test_sac_stretched_deviation() -> None:
    """The deviation is e to the power of -5 + 7 (1 + tanh(x)) / 2 of the network's output x."""
    noise, obs = Streams(SEEDS, "noise").normal(N, 2), transitions(WIDE).obs
    agent = make_agent(sac, WIDE, tanh_log_std=True)
    action, _ = agent.policy.sample(obs, noise)
    for k in range(3):
        mean, x = network(actor_params(agent).matrix[k].double(), obs[k].double(), 4).chunk(2, 1)
        std = (-5 + 3.5 * (1 + x.tanh())).exp()
        torch.testing.assert_close(
            action[k].double(), (mean + std * noise[k].double()).tanh(), rtol=1e-4, atol=1e-5
        )
        torch.testing.assert_close(agent.preference(obs)[k].double(), mean, rtol=1e-4, atol=1e-5)


def temperature_step(log_alpha: float, log_loss: bool) -> tuple[Tensor, Tensor]:
    """The gradient of three seeds' temperatures, and where a step from `log_alpha` takes them, if their
    policies' entropy is 1/2 below the target, on it, and 1/2 above."""
    agent = make_agent(sac, WIDE, log_alpha_loss=log_loss, target_entropy_per_dim=-0.75)
    agent.learned_alpha.params.matrix.fill_(log_alpha)
    sample, entropy = agent.policy.sample, torch.tensor([[-2.0], [-1.5], [-1.0]])

    def shifted(obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        action, logp = sample(obs, noise)
        return action, logp - logp.detach() - entropy

    agent.policy.sample, grads, step = shifted, [], agent.learned_alpha.optimiser.step
    agent.learned_alpha.optimiser.step = lambda grad, rate: (grads.append(grad), step(grad, rate))
    metrics = agent.update(transitions(WIDE), Streams(SEEDS, "learn"), 0.0)
    torch.testing.assert_close(metrics["entropy"], entropy[:, 0])
    torch.testing.assert_close(metrics["alpha"], torch.full((3,), log_alpha).exp())
    return grads[0][:, 0], agent.log_alpha.value[:, 0].detach()


@pytest.mark.parametrize("log_alpha", [0.0, -1.2, 0.7])
def test_sac_temperature(log_alpha: float) -> None:
    """Too little entropy raises it, too much lowers it, and the target leaves it; the gradient is entropy
    minus target, by alpha itself alpha times that by its logarithm."""
    for log_loss in (True, False):
        grad, moved = temperature_step(log_alpha, log_loss)
        assert (moved - log_alpha).sign().tolist() == [1.0, 0.0, -1.0]
        scale = 1.0 if log_loss else np.exp(log_alpha)
        np.testing.assert_allclose(grad, scale * np.array([-0.5, 0.0, 0.5]), rtol=1e-6)
    if log_alpha == 0.0:
        assert torch.equal(grad, temperature_step(0.0, True)[0])
        assert torch.equal(moved, temperature_step(0.0, True)[1])


def test_sac_fixed_temperature() -> None:
    agent, rng = make_agent(sac, WIDE, tune_alpha=False, alpha=0.2), Streams(SEEDS, "learn")
    assert not [name for name in agent.state_dict() if "alpha" in name]
    for _ in range(3):
        metrics = agent.update(transitions(WIDE), rng, 0.0)
        torch.testing.assert_close(metrics["alpha"], torch.full((3,), 0.2))
    fresh = sac.Agent(sac.Config(alpha=0.3), OBS, WIDE, Streams(SEEDS, "init"), "cpu")
    torch.testing.assert_close(fresh.state_dict()["params/alpha"].exp(), torch.full((3, 1), 0.3))


# ---- Stable-Baselines3: whole updates from the same weights on the same data -------------------------------

Layers = list[list[torch.nn.Linear]]  # of a layer the heads, one or two, that stand side by side in ours


def sb3_networks(model: object) -> dict[str, Layers]:
    """Its networks by the names that ours have in `state_dict`."""

    def linear(modules: torch.nn.Sequential) -> Layers:
        return [[module] for module in modules if isinstance(module, torch.nn.Linear)]

    found = {}
    for prefix, suffix in (("params", ""), ("target", "_target")):
        critic = getattr(model, f"critic{suffix}")
        found[f"{prefix}/q"] = [layer for q in critic.q_networks for layer in linear(q)]
        if not isinstance(model, stable_baselines3.SAC):
            found[f"{prefix}/actor"] = linear(getattr(model, f"actor{suffix}").mu)
    if isinstance(model, stable_baselines3.SAC):
        actor = model.actor
        found["params/policy"] = [*linear(actor.latent_pi), [actor.mu, actor.log_std]]
    return found


def read(layers: Layers) -> Tensor:
    """A row of parameters, as ours are."""
    parts = [(torch.cat([h.weight for h in heads]).T, torch.cat([h.bias for h in heads])) for heads in layers]
    return torch.cat([x.detach().flatten() for part in parts for x in part]).float()


def write(layers: Layers, row: Tensor) -> None:
    """The inverse of it."""
    tensors = [x for heads in layers for h in heads for x in (h.weight, h.bias)]
    vector_to_parameters(torch.arange(len(row)).double(), tensors)  # to see where each goes
    vector_to_parameters(row.new_zeros(len(row)).scatter(0, read(layers).long(), row).double(), tensors)


RATES = {"actor_learning_rate": 1e-3, "critic_learning_rate": 3e-3, "delay": 1}
RATES |= {"critic_decay": PAPER["critic_decay"]}
SMOOTH = {"learning_rate": 1e-3, "target_noise": 0.3, "target_clip": 0.4}
TUNED = {**rates(1e-3), "target_entropy_per_dim": -0.6}
FIXED = {**rates(1e-3), "tune_alpha": False, "alpha": 0.3}


@SPACES
@pytest.mark.parametrize(
    "module, settings, kind, theirs",
    [
        (ddpg, RATES, stable_baselines3.DDPG, {}),
        (td3, SMOOTH, stable_baselines3.TD3, {"target_policy_noise": 0.3, "target_noise_clip": 0.4}),
        (sac, TUNED, stable_baselines3.SAC, {"ent_coef": "auto", "target_entropy": 2 * -0.6}),
        (sac, FIXED, stable_baselines3.SAC, {"ent_coef": 0.3}),
    ],
    ids=["ddpg", "td3", "sac", "sac-fixed"],
)
def test_updates_against_stable_baselines(
    module: ModuleType, settings: dict, kind: type, theirs: dict, space: spaces.Box,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Four updates with Adam's memory between them, from rewards and flags to all weights, seed by seed.

    Theirs run in float64, without the 1e-6 in the logarithm of SAC's slope.
    """
    shared = {"gamma": GAMMA, "tau": 0.1}
    agent, batch = make_agent(module, space, adam_eps=1e-3, **shared, **settings), transitions(space, 4 * N)
    start, rng, updates = copied(agent), Streams(SEEDS, "learn"), []
    for i in range(0, 4 * N, N):
        part = batch.map(lambda x: x[:, i : i + N])
        updates.append((part, agent.update(part, rng, 0.0), copied(agent)))
    draws = {ddpg: 0, td3: 1, sac: 2}[module]
    noise = Streams(SEEDS, "learn").normal(4, draws, N, 2).double()
    theirs = theirs | {"policy_kwargs": {"net_arch": [16, 8], "optimizer_kwargs": {"eps": 1e-3}}}
    monkeypatch.setattr("stable_baselines3.common.policies.preprocess_obs", lambda obs, *_, **__: obs)
    for k in range(3):
        model = sb3_model(kind, space, 1, 0.0, buffer_size=1, learning_rate=1e-3, **shared, **theirs)
        model.policy.double()
        model._update_learning_rate = lambda optimizers: None
        model.critic.optimizer.param_groups[0] |= {
            "lr": settings.get("critic_learning_rate", 1e-3),
            "weight_decay": settings.get("critic_decay", 0.0),
        }
        if module is sac:
            model.actor.action_dist.epsilon = 0.0
        if "params/alpha" in start:
            model.log_ent_coef.data.copy_(start["params/alpha"][k])
            model.ent_coef_optimizer.param_groups[0]["eps"] = 1e-3
        networks = sb3_networks(model)
        for name, layers in networks.items():
            write(layers, start[name][k])
        for u, (part, metrics, after) in enumerate(updates):
            obs, action, next_obs = (x[k].double() for x in (part.obs, part.action, part.next_obs))
            action = torch.from_numpy(model.policy.scale_action(action.numpy()))
            columns = (x[k, :, None].double() for x in (part.terminated, part.reward))
            sample = ReplayBufferSamples(obs, action, next_obs, *columns)
            model.replay_buffer.sample = lambda n, env=None, sample=sample: sample
            q = torch.cat(model.critic(obs, action)).mean().item()
            drawn = iter(noise[k, u].flip(0))  # SAC's for the successors last
            with monkeypatch.context() as patch:
                if module is sac:
                    patch.setattr(
                        "torch.distributions.normal._standard_normal", lambda *_, d=drawn, **__: next(d)
                    )
                elif module is td3:
                    patch.setattr(Tensor, "normal_", lambda x, m, s, d=drawn: x.copy_(m + s * next(d)))
                model.train(gradient_steps=1, batch_size=N)
            assert next(drawn, None) is None
            for name, layers in networks.items():
                torch.testing.assert_close(after[name][k], read(layers), rtol=1e-5, atol=1e-6)
            if "params/alpha" in after:
                log_alpha = model.log_ent_coef.detach()
                torch.testing.assert_close(after["params/alpha"][k], log_alpha, rtol=0, atol=4e-7)
            logged = model.logger.name_to_value
            pairs = {"q": q, "q_loss": logged["train/critic_loss"], "alpha": logged["train/ent_coef"]}
            pairs |= {name: logged["train/actor_loss"] for name in ("actor_loss", "policy_loss")}
            for name in metrics.keys() & pairs.keys():
                np.testing.assert_allclose(metrics[name][k], pairs[name], rtol=1e-4, atol=1e-5, err_msg=name)
        assert all((after[name][k] - start[name][k]).abs().max() > 1e-4 for name in networks)

"""RPC, against closed forms, scipy, plain float64 networks and SAC."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import log

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from ascent.algorithms import rpc, sac
from ascent.algorithms.seedwise import Adam, Batch, Learned, Parameters, Streams, uniform_fan_in
from ascent.runners.conform_algorithm import SHRUNK, parameters
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer
from tests.algorithms.test_equations import GAMMA, N_OBS, OBS, SEEDS, make_agent
from tests.algorithms.test_offpolicy import SKEWED, SPACES, WIDE, N, copied, transitions
from tests.small import MOST_EVERY

Z, A = 3, 2  # sizes of z and of the action
SMALL = {"latent": Z, "hidden": (16, 8), "model_hidden": (8,), "gamma": GAMMA, "first_lambda": 0.5}


def make(space: spaces.Box = WIDE, **settings: object) -> rpc.Agent:
    """An agent with small networks and all its weights, lambda and alpha too, away from where they begin."""
    return make_agent(rpc, space, **SMALL | settings)


def noises(n: int, purpose: str = "learn") -> list[Tensor]:
    """What `update` draws: of z for the cost, for L(actor) and for y, then of actions for these two."""
    s = Streams(SEEDS, purpose)
    return [s.normal(n, size) for size in (Z, Z, Z, A, A)]


# ---- the same networks again, in plain float64 torch, from one seed's rows of parameters -------------------


def network(row: Tensor, x: Tensor, *widths: int) -> tuple[Tensor, Tensor]:
    """The output of the ReLU network whose parameters the row begins with, and the rest of the row."""
    for i, (n_in, width) in enumerate(pairwise((x.shape[1], *widths))):
        weight, bias, row = row.split((n_in * width, width, len(row) - (n_in + 1) * width))
        x = (x.relu() if i else x) @ weight.view(n_in, width) + bias
    return x, row


def gaussian(row: Tensor, x: Tensor, *widths: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and deviation of z, and the rest of the row."""
    y, row = network(row, x, *widths, 2 * Z)
    mean, spread = y.chunk(2, 1)
    limits = log(np.expm1(0.1)), log(np.expm1(10.0))
    limit = torch.where(spread < 0, -limits[0], limits[1])
    return 30 * (mean / 30).tanh(), torch.nn.functional.softplus(limit * (spread / limit).tanh()), row


class Plain:
    """The actor of seed k: encoder, policy, model, from the row in which they stand in that order."""

    def __init__(self, row: Tensor):
        self.row = row
        n = sum((i + 1) * o for i, o in pairwise((N_OBS, 16, 8, 2 * Z)))
        self.parts = row.split((n, (Z + 1) * 2 * A, len(row) - n - (Z + 1) * 2 * A))

    def encoder(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return gaussian(self.parts[0], obs, 16, 8)[:2]

    def model(self, z: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        if not len(self.parts[2]):
            return torch.zeros_like(z), torch.ones_like(z)
        change, std, rest = gaussian(self.parts[2], torch.cat([z, action], 1), 8)
        assert len(rest) == 0
        return z + change, std

    def policy(self, z: Tensor) -> tuple[Tensor, Tensor]:
        return network(self.parts[1], z, 2 * A)[0].chunk(2, 1)

    def sample(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.policy(z)
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        density = Normal(mean, log_std.exp()).log_prob(u) + 2 * u.cosh().log()
        return u.tanh(), density.sum(1)


def q_values(row: Tensor, obs: Tensor, action: Tensor) -> Tensor:
    """(2, B) of the two critics."""
    x = torch.cat([obs, action], 1)
    return torch.stack([network(part, x, 16, 8, 1)[0][:, 0] for part in row.chunk(2)])


# ---- Gaussians ---------------------------------------------------------------------------------------------


def random_gaussian(name: str) -> rpc.Gaussian:
    s = Streams(SEEDS, name)
    return s.normal(4, Z), (0.5 * s.normal(4, Z)).exp()


def test_kl_by_definition() -> None:
    """The mean of log p(x) - log q(x) where x is of p: scipy's densities, within the error of a sample."""
    p, q, rng = random_gaussian("p"), random_gaussian("q"), np.random.default_rng(0)
    ours, n = rpc.kl(p, q), 20_000
    assert ours.shape == (3, 4)
    for k, b in np.ndindex(3, 4):
        dp, dq = (
            scipy.stats.multivariate_normal(m[k, b].double().numpy(), np.diag(d[k, b].double().numpy() ** 2))
            for m, d in (p, q)
        )
        x = dp.rvs(n, random_state=rng)
        ratio = dp.logpdf(x) - dq.logpdf(x)
        assert abs(float(ours[k, b]) - ratio.mean()) < 4 * ratio.std() / n**0.5


def test_kl_is_torchs() -> None:
    """In nats, with p and q in the places that torch has them; nothing between equals."""
    p, q = random_gaussian("p"), random_gaussian("q")
    theirs = kl_divergence(*(Normal(*x) for x in (p, q))).sum(-1)
    torch.testing.assert_close(rpc.kl(p, q), theirs)
    assert ((rpc.kl(q, p) - theirs).abs() > 0.1).any()
    assert (rpc.kl(p, p) == 0).all()
    one = torch.ones(1, 1, 1)
    assert rpc.kl((one, one), (0 * one, one)) == 0.5  # of a shift by one deviation; in bits 0.72


def test_within() -> None:
    """The identity about 0, from both sides; rising all the way between its limits."""
    low, high = log(np.expm1(0.1)), log(np.expm1(10.0))
    np.testing.assert_allclose([rpc.Latent.LOW, rpc.Latent.HIGH], [low, high], rtol=1e-6)
    x = torch.tensor([-1e-3, -0.0, 0.0, 1e-3], requires_grad=True)
    y = rpc.within(x, low, high)
    torch.testing.assert_close(y, x, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], torch.ones(4), rtol=1e-6, atol=0.0)
    y = rpc.within(torch.linspace(-5, 20, 101), low, high)
    assert (y.diff() > 0).all() and low < y.min() < 0.9 * low and 0.9 * high < y.max() < high


def test_latent_is_limited() -> None:
    """Means stay in +-30 and deviations in (0.1, 10), whatever comes in, and come near all four."""
    net = rpc.Latent(Streams(SEEDS, "init"), (N_OBS, 16, 2 * Z), uniform_fan_in)
    obs = Streams(SEEDS, "data").normal(500, N_OBS)
    for scale in (1.0, 30.0, 1e6):
        mean, std = net(scale * obs)
        assert mean.shape == std.shape == (3, 500, Z)
        assert mean.abs().max() <= 30 and std.min() >= 0.1 - 1e-6 and std.max() <= 10 + 1e-5
    assert mean.min() < -29 and mean.max() > 29 and std.min() < 0.11 and std.max() > 9.9


def test_latent_by_definition() -> None:
    """The network's first outputs are the mean, its last ones the deviation."""
    agent, obs = make(), 3 * Streams(SEEDS, "data").normal(N, N_OBS)
    mean, std = agent.encoder(obs)
    for k in range(3):
        expected = Plain(agent.learned_actor.params.matrix[k].double()).encoder(obs[k].double())
        torch.testing.assert_close((mean[k].double(), std[k].double()), expected, rtol=1e-4, atol=1e-5)


def test_fresh_model_expects_no_change() -> None:
    """Its last layer is zero: z stays, exactly, whatever was done, with deviation softplus(0)."""
    config = rpc.Config(**SMALL)
    agent = rpc.Agent(config, OBS, WIDE, Streams(SEEDS, "init"), "cpu")
    s = Streams(SEEDS, "data")
    z, action = 5 * s.normal(N, Z), 2 * s.uniform(N, A).float() - 1
    mean, std = agent.prior(z, action)
    assert torch.equal(mean, z)
    torch.testing.assert_close(std, torch.full((3, N, Z), log(2)))
    assert len({len(x.weight[0]) for x in agent.model.net.layers}) > 1  # it has the layers asked for
    moved = make()
    assert ((moved.prior(z, action)[0] - z).abs() > 1e-2).any()
    assert ((moved.prior(z, action)[0] - moved.prior(z, -action)[0]).abs() > 1e-2).any()


def test_first_values() -> None:
    """Lambda and alpha begin where the configuration says, and the target critics as the critics."""
    config = rpc.Config(**SMALL | {"first_lambda": 0.02, "alpha": 0.3})
    state = rpc.Agent(config, OBS, WIDE, Streams(SEEDS, "init"), "cpu").state_dict()
    torch.testing.assert_close(state["params/lambda"].exp(), torch.full((3, 1), 0.02))
    torch.testing.assert_close(state["params/alpha"].exp(), torch.full((3, 1), 0.3))
    assert torch.equal(state["target/q"], state["params/q"])
    assert state["target/q"].data_ptr() != state["params/q"].data_ptr()


def test_refuses_other_actions() -> None:
    for space in (spaces.Discrete(3), spaces.Box(-np.inf, np.inf, (2,))):
        with pytest.raises(ValueError, match=r"rpc needs a continuous.*bounds"):
            make(space)


# ---- rewards, targets and losses ---------------------------------------------------------------------------


def walk() -> tuple[Batch, list[Tensor]]:
    """Three steps s0, s1, s2, s3 of an episode that ends there, every seed alike, and what to draw. What is
    seen is the mean and the deviation of z; the actions, from -2 to 2, come to 0.5, -0.25 and 1.
    """
    path = torch.tensor([[0.3, 0.5], [-0.4, 2.0], [1.5, 0.25], [-1.8, 1.0]])
    action, reward = torch.tensor([[1.0], [-0.5], [2.0]]), torch.tensor([1.0, -3.0, 0.5])
    columns = (path[:3], action, reward, path[1:], torch.tensor([0.0, 0.0, 1.0]))
    draws = ([0.7, -1.2, 0.4], [0.1, 1.1, -0.6], [-0.9, 0.2, 1.3], [0.5, -0.3, 2.0], [-1.5, 0.8, 0.6])
    three = [x.expand(3, *x.shape) for x in columns]
    return Batch(*three, None), [torch.tensor(x).view(1, 3, 1).expand(3, -1, -1) for x in draws]


def toy(**settings: object) -> tuple[rpc.Agent, dict[str, Tensor], Tensor]:
    """An agent with parts so simple that all is known by hand; its losses, once it learns; and the critics'
    values of the batch, to be asked for a gradient. Only lambda moves, by 0.5 in its logarithm."""
    box = spaces.Box(-2.0, 2.0, (1,))
    agent = make_agent(rpc, box, n_obs=2, latent=1, gamma=GAMMA, learning_rate=0.5, reward_scale=0.2,
                       rate=0.6, **settings)  # fmt: skip
    if agent.config.bottleneck:
        agent.log_lambda.value.detach().copy_(torch.tensor([[-1.0], [0.0], [1.0]]))
    agent.log_alpha.value.detach().fill_(log(0.25))
    agent.encoder = lambda obs: (obs[..., :1], obs[..., 1:])
    agent.model = lambda x: (x[..., 1:] / 2, torch.full_like(x[..., 1:], 1.5))  # z + a / 2
    agent.policy.sample = lambda z, noise: ((z + noise) / 8, (z * z - noise)[..., 0])
    values = torch.zeros(3, 2, 3, requires_grad=True)
    agent.q = lambda obs, action: values
    agent.target_q = lambda obs, action: torch.stack([obs[..., 0] + action[..., 0], 2 * action[..., 0]], 1)
    agent.constant_q = lambda obs, action: torch.stack([obs[..., 1] - action[..., 0], action[..., 0]], 1)
    losses = {}
    for learned in agent.learners:
        learned.descend = recorded(learned, losses)
    return agent, losses, values


def recorded(learned: Learned, losses: dict[str, Tensor]) -> Callable[[Tensor, float], None]:
    """Record the losses in place of `learned.descend`; only lambda also moves."""
    descend = learned.descend

    def record(loss: Tensor, learning_rate: float) -> None:
        losses[learned.name] = loss
        if learned.name == "lambda":
            descend(loss, learning_rate)

    return record


@pytest.mark.parametrize(
    "settings",
    [{}, {"cost_in_reward": False}, {"bits": True}, {"learned_prior": False}, {"bottleneck": False}],
    ids=["default", "actor-alone", "bits", "fixed-prior", "no-bottleneck"],
)
def test_three_steps_by_hand(settings: dict[str, bool]) -> None:
    """What step t pays for is what s[t + 1] told, priced at the lambda after this update's step; it is taken
    off before the reward is scaled, and only the actor's loss has it unscaled. A true end has no next value.
    Without a bottleneck, nothing is paid anywhere.
    """
    agent, losses, values = toy(**settings)
    batch, draws = walk()
    metrics = agent.learn(batch, *draws)
    (slope,) = torch.autograd.grad(losses["q"].sum(), values)
    obs, nxt = batch.obs[0].double().numpy(), batch.next_obs[0].double().numpy()
    action, reward = batch.action[0, :, 0].double().numpy() / 2, batch.reward[0].double().numpy()
    z_noise, next_noise, target_noise, noise, target_a = (x[0, :, 0].double().numpy() for x in draws)
    cost = []
    for t in range(3):
        z = obs[t, 0] + obs[t, 1] * z_noise[t]
        m, d = (z + action[t] / 2, 1.5) if agent.config.learned_prior else (0.0, 1.0)
        nats = np.log(d / nxt[t, 1]) + (nxt[t, 1] ** 2 + (nxt[t, 0] - m) ** 2) / (2 * d * d) - 0.5
        cost.append(nats / np.log(2) if agent.config.bits else nats)
    cost = np.array(cost)
    assert min(cost) > 0.05 and np.abs(np.diff(np.sort(cost))).min() > 0.05 and cost.mean() > 0.6
    before = np.exp([-1.0, 0.0, 1.0])
    price = before * np.exp(0.5)  # above the rate: Adam's first step is the learning rate
    if agent.config.bottleneck:
        np.testing.assert_allclose(metrics["cost"], [cost.mean()] * 3, rtol=1e-5)
        np.testing.assert_allclose(metrics["lambda"], price, rtol=1e-5)
    else:
        assert not {"cost", "lambda"} & metrics.keys() and "lambda" not in losses
        price = np.zeros(3)

    z = nxt[:, 0] + nxt[:, 1] * target_noise
    a, logp = (z + target_a) / 8, z * z - target_a
    backup = np.array([1.0, 1.0, 0.0]) * GAMMA * (np.minimum(nxt[:, 0] + a, 2 * a) - 0.25 * logp)
    z = nxt[:, 0] + nxt[:, 1] * next_noise
    a, logp = (z + noise) / 8, z * z - noise
    actor = 0.25 * logp - np.minimum(nxt[:, 1] - a, a)
    for k in range(3):
        paid = price[k] * cost if agent.config.cost_in_reward else 0.0
        y = 0.2 * (reward - paid) + backup
        np.testing.assert_allclose(-3 * slope[k], [y, y], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(losses["q"][k].detach(), 2 * 0.5 * (y**2).mean(), rtol=1e-4)
        np.testing.assert_allclose(losses["actor"][k].detach(), (actor + price[k] * cost).mean(), rtol=1e-4)
        np.testing.assert_allclose(metrics["entropy"][k], -logp.mean(), rtol=1e-4)
        np.testing.assert_allclose(losses["alpha"][k].detach(), -log(0.25) * (logp.mean() - 0.5), rtol=1e-4)
        if agent.config.bottleneck:
            dual = -np.log(before[k]) * (cost.mean() - 0.6)
            np.testing.assert_allclose(losses["lambda"][k].detach(), dual, rtol=1e-4, atol=1e-6)


@torch.no_grad()
def cost_of(agent: rpc.Agent, obs: Tensor, action: Tensor, next_obs: Tensor, noise: Tensor) -> Tensor:
    """(S, B): what steps told, KL(phi(.|s') || m(.|z, a)), in the unit of the rate."""
    mean, std = agent.encoder(obs)
    now, expected = (
        agent.encoder(next_obs),
        agent.prior(mean + std * noise, agent.bounds.normalise(action)),
    )
    divergence = kl_divergence(Normal(*now), Normal(*expected)).sum(-1)
    return divergence / (np.log(2) if agent.config.bits else 1)


@pytest.mark.parametrize("bits", [False, True])
@SPACES
def test_cost_is_the_updates(space: spaces.Box, bits: bool) -> None:
    """What others measure is what an update pays for, from actions as the environment has them."""
    agent, batch, draws = make(space, bits=bits), transitions(space), noises(N)
    cost = cost_of(agent, batch.obs, batch.action, batch.next_obs, draws[0])
    action = agent.bounds.normalise(batch.action)
    for k in range(3):
        plain, s = Plain(agent.learned_actor.params.matrix[k].double()), batch.obs[k].double()
        mean, std = plain.encoder(s)
        prior = plain.model(mean + std * draws[0][k].double(), action[k].double())
        there = Normal(*plain.encoder(batch.next_obs[k].double()))
        nats = kl_divergence(there, Normal(*prior)).sum(1)
        torch.testing.assert_close(cost[k].double(), nats / (log(2) if bits else 1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(agent.learn(batch, *draws)["cost"], cost.mean(1))


# ---- gradients ---------------------------------------------------------------------------------------------


def expected_gradients(
    agent: rpc.Agent, k: int, batch: Batch, draws: list[Tensor], through_z: bool = False
) -> dict[str, Tensor]:
    """Those of seed k in float64; with `through_z`, what L(actor) would have if z in the cost had one."""
    c, rows = agent.config, {name: x[k].double() for name, x in copied(agent).items()}
    obs, nxt, reward = batch.obs[k].double(), batch.next_obs[k].double(), batch.reward[k].double()
    action = agent.bounds.normalise(batch.action)[k].double()
    z_noise, next_noise, target_noise, noise, target_a = (x[k].double() for x in draws)
    actor, q = rows["params/actor"].requires_grad_(), rows["params/q"].requires_grad_()
    plain = Plain(actor)
    mean, std = plain.encoder(obs)
    z = mean + std * z_noise
    mean, std = there = plain.encoder(nxt)
    prior = plain.model(z if through_z else z.detach(), action)
    pair = (Normal(*x) for x in (there, prior))
    cost = kl_divergence(*pair).sum(1) / (log(2) if c.bits else 1)
    gap = cost.mean().item() - c.rate
    price = torch.zeros(1).double()
    if c.bottleneck:
        price = (rows["params/lambda"] + c.learning_rate * np.sign(gap)).exp()
    alpha = rows["params/alpha"].exp()
    with torch.no_grad():
        a, logp = plain.sample(mean + std * target_noise, target_a)
        value = q_values(rows["target/q"], nxt, a).amin(0) - alpha * logp
        y = c.reward_scale * (reward - price * cost * c.cost_in_reward)
        y += GAMMA * (1 - batch.terminated[k].double()) * value
    q_loss = 0.5 * (q_values(q, obs, action) - y).square().mean(1).sum()
    (q_grad,) = torch.autograd.grad(q_loss, q)
    a, logp = plain.sample(mean + std * next_noise, noise)
    value = q_values(q.detach(), nxt, a).amin(0)
    (grad,) = torch.autograd.grad((alpha * logp - value + price * cost).mean(), actor)
    entropy = -logp.mean().item()
    return {
        "lambda": torch.tensor([-gap]).double(),
        "q": q_grad,
        "actor": grad,
        "alpha": torch.tensor([entropy - c.target_entropy_per_dim * A]).double(),
    }


@SPACES
@pytest.mark.parametrize(
    "settings",
    [{}, {"cost_in_reward": False, "bits": True}, {"learned_prior": False}, {"bottleneck": False}],
    ids=str,
)
def test_gradients(space: spaces.Box, settings: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Of all four losses, by autograd of what the docstring says, with each seed's numbers alone."""
    agent, batch, draws, taken = make(space, rate=4.0, **settings), transitions(space), noises(N), []
    names = {id(learned.optimiser): learned.name for learned in agent.learners}
    step = Adam.step

    def watched(self: Adam, grad: Tensor, rate: float) -> None:
        taken.append((names[id(self)], grad))
        if names[id(self)] == "lambda":
            step(self, grad, rate)

    monkeypatch.setattr(Adam, "step", watched)
    start = copied(agent)
    agent.learn(batch, *draws)
    assert [name for name, _ in taken] == ["lambda"] * agent.config.bottleneck + ["q", "actor", "alpha"]
    agent.load_state_dict(start)
    for k in range(3):
        expected = expected_gradients(agent, k, batch, draws)
        for name, grad in taken:
            np.testing.assert_allclose(grad[k], expected[name], rtol=1e-3, atol=1e-4, err_msg=name)
        if agent.predicts:
            bent = expected_gradients(agent, k, batch, draws, through_z=True)["actor"]
            assert (bent - expected["actor"]).abs().max() > 0.1


@pytest.mark.parametrize("settings", [{}, {"learned_prior": False}, {"bottleneck": False}], ids=str)
def test_each_loss_moves_its_own(settings: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda, critics, actor, alpha, in this order: no loss has a path to what it does not train, and no step
    moves anything else. The actor's has none to what was seen before the step: z in the cost is a constant.
    """
    agent, grad, step, order = make(**settings), Parameters.grad, Adam.step, []
    everything = parameters(agent)
    assert len(everything) == 4 + agent.config.bottleneck
    batch = transitions(WIDE)
    batch.obs.requires_grad_()
    batch.next_obs.requires_grad_()

    def checked(self: Parameters, loss: Tensor) -> Tensor:
        others = [leaf for matrix in everything if matrix is not self for leaf in matrix.leaves]
        seen = (batch.obs, batch.next_obs)
        found = torch.autograd.grad(loss.sum(), [*others, *seen], retain_graph=True, allow_unused=True)
        assert all(x is None for x in found[:-2])
        order.append([x is not None for x in found[-2:]])
        return grad(self, loss)

    def watched(self: Adam, grad: Tensor, rate: float) -> None:
        before = copied(agent)
        step(self, grad, rate)
        weights = [name for name in before if name.startswith(("params/", "target/"))]
        order.append([name for name in weights if not torch.equal(agent.state_dict()[name], before[name])])

    monkeypatch.setattr(Parameters, "grad", checked)
    monkeypatch.setattr(Adam, "step", watched)
    agent.learn(batch, *noises(N))
    none, here, there = [False, False], [True, False], [False, True]
    paths = {"lambda": none} if agent.config.bottleneck else {}
    paths |= {"q": here, "actor": there, "alpha": none}
    assert order == [x for name, path in paths.items() for x in (path, [f"params/{name}"])]


def test_update_draws_its_noise() -> None:
    """Other numbers for each of the five, the same as `learn` is given here."""
    agent, twin, batch = make(), make(), transitions(WIDE)
    agent.update(batch, Streams(SEEDS, "learn"), 0.0)
    twin.learn(batch, *noises(N))
    assert agent.updates == 1
    for name, x in agent.state_dict().items():
        assert name == "updates" or torch.equal(x, twin.state_dict()[name])


# ---- lambda ------------------------------------------------------------------------------------------------


def paying(level: Tensor, monkeypatch: pytest.MonkeyPatch, **settings: object) -> rpc.Agent:
    """An agent whose steps cost this, (S, 1), in nats, and of which lambda alone learns."""
    monkeypatch.setattr(rpc, "kl", lambda p, q: level + 0 * (p[0] + q[0]).sum(-1))
    agent = make(**settings)
    for learned in (agent.learned_actor, agent.learned_q, agent.learned_alpha):
        learned.descend = lambda loss, learning_rate: None
    return agent


@pytest.mark.parametrize("bits", [False, True])
def test_lambda_holds_the_rate(bits: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seeds that pay twice the rate, the rate and half of it: lambda rises, stays and falls, each its own."""
    agent = paying(0.25 * torch.tensor([[2.0], [1.0], [0.5]]), monkeypatch, bits=bits,
                   rate=0.25 / log(2) if bits else 0.25, learning_rate=0.01)  # fmt: skip
    before, grads, step = agent.log_lambda.value.detach().clone(), [], agent.learned_lambda.optimiser.step
    agent.learned_lambda.optimiser.step = lambda grad, rate: (grads.append(grad), step(grad, rate))
    metrics = agent.learn(transitions(WIDE), *noises(N))
    expected = torch.tensor([[-0.25], [0.0], [0.125]]) / (log(2) if bits else 1)
    torch.testing.assert_close(grads[0], expected, rtol=1e-5, atol=1e-6)
    moved = agent.log_lambda.value.detach() - before
    torch.testing.assert_close(moved[[0, 2]], torch.tensor([[0.01], [-0.01]]), rtol=1e-4, atol=0.0)
    assert bits or moved[1] == 0  # 0.25 is exact
    torch.testing.assert_close(metrics["lambda"], (before + moved).exp()[:, 0])


def test_lambda_stays_in_its_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Within 1e-6 and 1e6, whatever it costs and however long; and it comes back."""
    level = torch.tensor([[9.0], [0.25], [0.0]])
    agent, batch = paying(level, monkeypatch, learning_rate=0.5, rate=0.25), transitions(WIDE)
    draws = noises(N)
    still = agent.log_lambda.value[1].detach().clone()
    for _ in range(60):
        metrics = agent.learn(batch, *draws)
        assert agent.log_lambda.value.abs().max() <= 1.000001 * log(1e6)
    assert agent.log_lambda.value[:, 0].tolist() == pytest.approx([log(1e6), still.item(), -log(1e6)])
    np.testing.assert_allclose(metrics["lambda"][[0, 2]], [1e6, 1e-6], rtol=1e-4)
    level.copy_(level.flip(0))
    for _ in range(60):
        agent.learn(batch, *draws)
    assert agent.log_lambda.value[0] < log(1e6) - 0.01 and agent.log_lambda.value[2] > 1 - log(1e6)


# ---- SAC ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bottleneck", [True, False])
@SPACES
def test_without_a_cost_it_is_sac(
    space: spaces.Box, bottleneck: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If z is the state, nothing costs and no step leads away: critics, policy and temperature of SAC, over
    updates with Adam's memory between them. SAC's policy is made linear, as RPC's is. Nothing costs if it is
    made so, or without a bottleneck.
    """
    shared = {"gamma": GAMMA, "tau": 0.1, "hidden": (16, 8)}
    rates = {f"{part}_learning_rate": 1e-2 for part in ("actor", "critic", "alpha")}
    linear = sac.SquashedGaussian
    monkeypatch.setattr(
        sac,
        "SquashedGaussian",
        lambda streams, sizes, stretch: linear(streams, (sizes[0], sizes[-1]), stretch),
    )

    def state(self: rpc.Latent, x: Tensor) -> rpc.Gaussian:
        nothing = 0 * self.net(x)[..., :N_OBS]  # has a gradient, of 0
        return x[..., :N_OBS] + nothing, nothing

    monkeypatch.setattr(rpc.Latent, "__call__", state)
    monkeypatch.setattr(rpc, "kl", lambda p, q: 0 * (p[0] + q[0]).sum(-1) if bottleneck else 1 / 0)
    ours = make_agent(
        rpc, space, latent=N_OBS, model_hidden=(), reward_scale=1.0, bottleneck=bottleneck,
        learning_rate=1e-2, target_entropy_per_dim=-1.0, **shared,
    )  # fmt: skip
    theirs = make_agent(sac, space, target_entropy_per_dim=-1.0, **rates, **shared)
    n, size = (
        sum(getattr(*slot)[0].numel() for slot in net.slots()) for net in (ours.encoder.net, ours.policy.net)
    )
    twins = {"actor": "policy", "q": "q", "alpha": "alpha"}
    columns = {"actor": slice(n, n + size), "q": slice(None), "alpha": slice(None)}
    start = copied(ours)
    for name, twin in twins.items():
        getattr(theirs, f"learned_{twin}").params.matrix.copy_(start[f"params/{name}"][:, columns[name]])
    theirs.learned_q.target.matrix.copy_(start["target/q"])
    batch = transitions(space, 5 * N)
    batch = replace(batch, next_obs=batch.obs)  # where RPC's policy acts
    for i in range(0, 5 * N, N):
        part = batch.map(lambda x: x[:, i : i + N])
        z = Streams(SEEDS, "z", i).normal(3, N, N_OBS).unbind(1)
        noise, target_noise = Streams(SEEDS, "noise", i).normal(2, N, A).unbind(1)
        metrics = ours.learn(part, *z, noise, target_noise)
        expected = theirs.improve_critics(part, target_noise)
        theirs.improve_policy(part.obs, noise[:, None])
        for name in ("q_loss", "q", "alpha"):
            torch.testing.assert_close(metrics[name], expected[name], rtol=1e-5, atol=1e-6)
    after, wanted = ours.state_dict(), theirs.state_dict()
    torch.testing.assert_close(after["target/q"], wanted["target/q"], rtol=1e-5, atol=1e-6)
    for name, twin in twins.items():
        found, before = (x[f"params/{name}"][:, columns[name]] for x in (after, start))
        torch.testing.assert_close(found, wanted[f"params/{twin}"], rtol=1e-5, atol=1e-6)
        assert (found - before).abs().max() > 0.02
    for others in (slice(n), slice(n + size, None)):  # encoder and model have nothing to learn
        assert torch.equal(after["params/actor"][:, others], start["params/actor"][:, others])


# ---- acting ------------------------------------------------------------------------------------------------

NAN = float("nan")


def scaled(agent: rpc.Agent, action: Tensor) -> Tensor:
    """What is done of actions in [-1, 1]."""
    return agent.bounds.mid.double() + agent.bounds.half.double() * action


@pytest.mark.parametrize("explore", [False, True])
@SPACES
def test_acts_by_what_it_sees(space: spaces.Box, explore: bool) -> None:
    """z is a sample of phi, greedy or not; the action is the policy's mode or sample; both are remembered,
    and what was remembered has no say."""
    agent, n = make(space), 50
    agent.updates = 1
    obs = Streams(SEEDS, "data").normal(n, N_OBS)
    action, carry = agent.act(obs, Streams(SEEDS, "act"), explore, 0.0)
    s = Streams(SEEDS, "act")
    z_noise, noise = s.normal(n, Z).double(), s.normal(n, A).double()
    assert (action.shape, carry.shape, action.dtype) == ((3, n, A), (3, n, Z + A), torch.float32)
    assert ((action.numpy() >= space.low) & (action.numpy() <= space.high)).all()
    for k in range(3):
        plain = Plain(agent.learned_actor.params.matrix[k].double())
        mean, std = plain.encoder(obs[k].double())
        z = mean + std * z_noise[k]
        a = plain.sample(z, noise[k])[0] if explore else plain.policy(z)[0].tanh()
        torch.testing.assert_close(carry[k].double(), torch.cat([z, a], 1), rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(action[k].double(), scaled(agent, a), rtol=1e-4, atol=1e-5)
    other = Streams(SEEDS, "other").normal(n, Z + A)
    for before in (carry, other, torch.full_like(other, NAN)):
        again = agent.act(obs, Streams(SEEDS, "act"), explore, 0.0, before)
        assert torch.equal(again[0], action) and torch.equal(again[1], carry)


@pytest.mark.parametrize("explore", [False, True])
def test_open_loop(explore: bool) -> None:
    """Without observations z follows the model's mean, z <- z + change(z, a), by itself, step after step; and
    begins at nothing where there is no memory."""
    agent, n = make(SKEWED), 6
    agent.updates = 1
    rng, draws = Streams(SEEDS, "act"), Streams(SEEDS, "act")
    seen = Streams(SEEDS, "data").normal(n, N_OBS)
    _, carry = agent.act(seen, rng, explore, 0.0)
    carry = carry * (torch.arange(n) > 0)[:, None]  # the first episode has ended
    expected = carry.double()
    blind = torch.full_like(seen, NAN)
    nothing, again = agent.act(blind, Streams(SEEDS, "x"), False, 0.0), []
    draws.normal(n, Z + A * explore)
    for step in range(5):
        action, carry = agent.act(blind, rng, explore, 0.0, carry)
        draws.normal(n, Z)
        noise = draws.normal(n, A).double() if explore else None
        for k in range(3):
            plain = Plain(agent.learned_actor.params.matrix[k].double())
            z = plain.model(*expected[k].split([Z, A], 1))[0]
            a = plain.sample(z, noise[k])[0] if explore else plain.policy(z)[0].tanh()
            assert (z - expected[k, :, :Z]).abs().max() > 0.01
            expected[k] = torch.cat([z, a], 1)
            torch.testing.assert_close(action[k].double(), scaled(agent, a), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(carry.double(), expected, rtol=1e-4, atol=1e-4)
        again.append(carry)
        if step == 0 and not explore:
            torch.testing.assert_close(nothing[1], carry[:, :1].expand(-1, n, -1))
    assert (again[0] - again[1]).abs().max() > 0.01


def test_some_observations_missing() -> None:
    """Each environment by itself: one number missing is enough, and no row knows of another."""
    agent, n = make(), 8
    agent.updates = 1
    obs, carry = Streams(SEEDS, "data").normal(n, N_OBS), Streams(SEEDS, "carry").normal(n, Z + A)
    missing = torch.tensor([[0, 1, 0, 1, 1, 0, 0, 1], [0] * 8, [1] * 8], dtype=torch.bool)
    number = torch.arange(N_OBS) == torch.arange(n)[:, None] % N_OBS  # which of an observation's is missing
    partly = obs.masked_fill(missing[..., None] & number, NAN)
    assert (partly.isnan().sum(-1) == missing).all()
    inputs = (obs, torch.full_like(obs, NAN), partly)
    whole, blind, mixed = (agent.act(x, Streams(SEEDS, "act"), True, 0.0, carry) for x in inputs)
    for seen, unseen, found in zip(whole, blind, mixed, strict=True):
        assert torch.equal(found, torch.where(missing[..., None], unseen, seen))
        assert (seen != unseen).any(-1).all() and found.isfinite().all()


@SPACES
def test_first_actions_are_uniform(space: spaces.Box) -> None:
    """Over the bounds, before the first update; z is remembered with them."""
    agent, n, low, high = make(space), 5000, space.low.astype(float), space.high.astype(float)
    obs = Streams(SEEDS, "data").normal(1, N_OBS).expand(-1, n, -1)
    action, carry = agent.act(obs, Streams(SEEDS, "act"), True, 0.0)
    for actions in action.double().numpy():
        for i in range(A):
            uniform = scipy.stats.uniform(low[i], high[i] - low[i])
            assert scipy.stats.kstest(actions[:, i], uniform.cdf).pvalue > 1e-3
        assert abs(np.corrcoef(actions.T)[0, 1]) < 4 / n**0.5
    torch.testing.assert_close(scaled(agent, carry[..., Z:].double()), action.double())
    assert torch.equal(carry[..., :Z], agent.act(obs, Streams(SEEDS, "act"), False, 0.0)[1][..., :Z])


# ---- presets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", rpc.PRESETS)
def test_presets_train(preset: str) -> None:
    """Finite metrics; every layer moves, lambda and alpha too, and most numbers do. Only those that have a
    model say that they predict."""
    known = vars(rpc.PRESETS[preset])
    shrunk = {name: value for name, value in SHRUNK.items() if name in known} | {"train_every": MOST_EVERY}
    cell = resolve("rpc", "Pendulum-v1", preset=preset, overrides=shrunk, steps=400)
    trainer = Trainer(cell, [0, 1])
    agent = trainer.agent
    assert agent.predicts == hasattr(agent, "model") == (preset not in ("vib", "vib_reward", "no_bottleneck"))
    groups = parameters(agent)
    before = [[leaf.detach().clone() for leaf in group.leaves] for group in groups]
    assert len(before) == 4 + (preset != "no_bottleneck")
    while trainer.step < cell.steps:
        trainer.advance()
    assert trainer.updates > 20 and np.isfinite(trainer.take_metrics()).all()
    for group, leaves in zip(groups, before, strict=True):
        if preset == "latent_space" and group is agent.learned_lambda.params:
            # Its least value, from the start.
            assert group.matrix.flatten().tolist() == pytest.approx([-log(1e6)] * 2)
            continue
        moved = [(new.detach() != old).flatten(1) for new, old in zip(group.leaves, leaves, strict=True)]
        for flags in moved:
            assert (flags.float().mean(1) > 0.2).all(), f"a layer of {flags.shape[1]} numbers hardly moved"
        assert (torch.cat(moved, 1).float().mean(1) > 0.5).all()


ARMS = {
    "no_bottleneck": {"bottleneck": False},
    "vib_reward": {"learned_prior": False},
    "vib": {"learned_prior": False, "cost_in_reward": False},  # from vib_reward, where the cost is paid
    "latent_space": {"rate": 1e5, "cost_in_reward": False},  # no price: neither constraint nor cost in r~
}


def test_arms_differ_in_one_thing() -> None:
    """From the authors' settings, in what they are named for; the numbers of these settings."""
    code, paper = (rpc.PRESETS[name] for name in ("code", "paper"))
    assert code == rpc.Config() and set(rpc.PRESETS) == {"code", "paper", "small", *ARMS}
    for name, changed in ARMS.items():
        assert rpc.PRESETS[name] == replace(code, **changed) != code
    names = (
        "bits",
        "reward_scale",
        "first_lambda",
        "latent",
        "model_hidden",
        "rate",
        "target_entropy_per_dim",
    )
    assert [vars(code)[x] for x in names] == [False, 0.1, 1e-6, 10, (256,), 0.3, -0.5]
    assert [vars(paper)[x] for x in names] == [True, 1.0, 1.0, 50, (256, 256), 0.3, -0.5]
    agent = rpc.Agent(paper, OBS, WIDE, Streams([0], "init"), "cpu")
    assert [x.weight.shape[1:] for x in agent.model.net.layers] == [(52, 256), (256, 256), (256, 100)]
    assert [x.weight.shape[1:] for x in agent.policy.net.layers] == [(50, 4)]


def test_arms_have_the_same_networks() -> None:
    """Encoder, policy and critics; they have a model, lambda, both or neither."""
    agents = {
        name: rpc.Agent(rpc.PRESETS[name], OBS, WIDE, Streams([0], "init"), "cpu") for name in ("code", *ARMS)
    }

    def shapes(agent: rpc.Agent) -> list[list[torch.Size]]:
        nets = (agent.encoder.net, agent.policy.net, agent.q)
        return [[getattr(*slot).shape for slot in net.slots()] for net in nets]

    for agent in agents.values():
        assert shapes(agent) == shapes(agents["code"])
    has = {
        name: (hasattr(agent, "model"), "params/lambda" in agent.state_dict())
        for name, agent in agents.items()
    }
    assert has == {
        "code": (True, True),
        "latent_space": (True, True),
        "vib_reward": (False, True),
        "vib": (False, True),
        "no_bottleneck": (False, False),
    }


def test_information_is_free_in_latent_space() -> None:
    """Lambda never leaves its lower limit, and the critics' rewards have no cost; the model still learns."""
    agent, batch, draws = make(**ARMS["latent_space"], first_lambda=1e-6), transitions(WIDE), noises(N)
    agent.log_lambda.value.detach().fill_(-log(1e6))
    free = make(**ARMS["latent_space"], bottleneck=False)
    free.load_state_dict({**free.state_dict(), **{
        name: x.clone() for name, x in agent.state_dict().items() if "/q" in name or "/alpha" in name
    }})  # fmt: skip
    n, before = free.learned_actor.params.matrix.shape[1], copied(agent)["params/actor"]
    free.learned_actor.params.matrix.copy_(agent.learned_actor.params.matrix[:, :n])
    metrics, expected = agent.learn(batch, *draws), free.learn(batch, *draws)
    torch.testing.assert_close(metrics["lambda"], torch.full((3,), 1e-6))
    assert torch.equal(metrics["q_loss"], expected["q_loss"])
    torch.testing.assert_close(metrics["actor_loss"], expected["actor_loss"], rtol=0, atol=1e-3)
    moved = agent.learned_actor.params.matrix != before
    assert moved[:, n:].double().mean() > 0.5

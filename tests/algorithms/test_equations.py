"""The algorithms' equations, against closed forms, scipy, autograd and Stable-Baselines3."""

import inspect
from dataclasses import replace
from importlib import import_module
from types import ModuleType

import gymnasium
import numpy as np
import pytest
import scipy.signal
import scipy.stats
import stable_baselines3
import torch
from gymnasium import spaces
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.sb2_compat.rmsprop_tf_like import RMSpropTFLike
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import Tensor

from ascent.algorithms import SYSTEMS, a2c, dqn, ppo, vpg
from ascent.algorithms.heads import Policy
from ascent.algorithms.seedwise import Batch, Parameters, Streams, standardise

SEEDS = [3, 5, 8]
N_OBS = 4
OBS = spaces.Box(-np.inf, np.inf, (N_OBS,), np.float32)
DISCRETE, CONTINUOUS = spaces.Discrete(3), spaces.Box(-2.0, 2.0, (2,), np.float32)
BOTH_KINDS = pytest.mark.parametrize("space", [DISCRETE, CONTINUOUS], ids=["discrete", "continuous"])
GAMMA, LAM = 0.9, 0.8


def make_agent(module: ModuleType, space: spaces.Space, n_obs: int = N_OBS, **settings: object) -> object:
    """An agent whose weights are all well away from their initial values: actions differ, nothing is 0."""
    config = module.Config(**{"hidden": (16, 8), **settings})
    agent = module.Agent(config, spaces.Box(-1, 1, (n_obs,)), space, Streams(SEEDS, "init"), "cpu")
    for name, tensor in agent.state_dict().items():
        if name.startswith(("params/", "target/")):
            tensor += 0.3 * Streams(SEEDS, name).normal(tensor.shape[1])
    return agent


def make_batch(shape: tuple[int, ...], space: spaces.Space, n_obs: int = N_OBS, cuts: bool = True) -> Batch:
    """Random transitions that follow one another; an episode is cut in every way, in two ways at once too."""
    s = Streams(SEEDS, "data")
    obs = s.normal(shape[0] + 1, *shape[1:], n_obs)
    terminated, truncated = (s.uniform(*shape) < 0.2 * cuts).float(), (s.uniform(*shape) < 0.2 * cuts).float()
    ends = torch.maximum(terminated, truncated)[..., None]
    discrete = isinstance(space, spaces.Discrete)
    return Batch(
        obs=obs[:, :-1],
        action=s.integers(int(space.n), *shape) if discrete else s.normal(*shape, space.shape[0]),
        reward=s.normal(*shape),
        next_obs=torch.where(ends > 0, s.normal(*shape, n_obs), obs[:, 1:]),
        terminated=terminated,
        truncated=truncated,
    )


def flatten(x: Tensor) -> Tensor:
    """(S, T, E, ...) -> (S, T * E, ...)."""
    return x.flatten(1, 2)


# ---- what the files hold in common -------------------------------------------------------------------------


COPIES = {  # equations that stay in every file that uses them
    "advantages": {"vpg", "ppo", "trpo", "mappo"},
    "lambda_returns": {"a2c", "a3c"},
    "squashed": {"sac", "rpc"},
}


def test_copies_have_the_same_text() -> None:
    """Equations that several algorithm files define have the same source text in all of them."""
    texts: dict[str, dict[str, str]] = {}
    for name in {system.algorithm for system in SYSTEMS.values()}:
        module = import_module(f"ascent.algorithms.{name}")
        for member, thing in vars(module).items():
            definition = inspect.isclass(thing) or inspect.isfunction(thing)
            if definition and thing.__module__ == module.__name__:
                texts.setdefault(member, {})[name] = inspect.getsource(thing)
    for member, files in COPIES.items():
        versions = texts[member]
        assert versions.keys() >= files, member
        assert len(set(versions.values())) == 1, f"{member} differs between {sorted(versions)}"


# ---- returns and advantages --------------------------------------------------------------------------------


def path_batch(reward: Tensor, terminated: Tensor, truncated: Tensor) -> Batch:
    nothing = torch.zeros(*reward.shape, 1)
    return Batch(nothing, nothing, reward, nothing, terminated, truncated)


def lambda_returns(batch: Batch, next_value: Tensor, gamma: float, lam: float) -> np.ndarray:
    """(1 - lam) sum lam^(n-1) G^(n), the rest of the weight on the longest: the definition, in float64."""
    reward, value = batch.reward.double().numpy(), next_value.double().numpy()
    terminated, truncated = batch.terminated.numpy() > 0, batch.truncated.numpy() > 0
    out = np.zeros(reward.shape)
    horizon = reward.shape[1]
    for k, t, e in np.ndindex(*reward.shape):
        end = t
        while end < horizon - 1 and not terminated[k, end, e] and not truncated[k, end, e]:
            end += 1
        n_step = []  # G^(1), G^(2), ... to the end of the episode or the window
        for last in range(t, end + 1):
            rewards = sum(gamma ** (i - t) * reward[k, i, e] for i in range(t, last + 1))
            alive = not terminated[k, last, e]
            n_step.append(rewards + alive * gamma ** (last - t + 1) * value[k, last, e])
        weights = [(1 - lam) * lam**n for n in range(len(n_step) - 1)] + [lam ** (len(n_step) - 1)]
        out[k, t, e] = np.dot(weights, n_step)
    return out


@pytest.fixture
def flagged() -> tuple[Batch, Tensor, Tensor]:
    """A window with ends of both kinds, and both at once, its values and those of the true successors."""
    s = Streams(SEEDS, "paths")
    terminated, truncated = (s.uniform(60, 4) < 0.1).float(), (s.uniform(60, 4) < 0.15).float()
    terminated[0, 7, 1] = truncated[0, 7, 1] = 1.0
    terminated[1, -1, 0] = truncated[1, -1, 0] = 1.0
    terminated[1, -1, 1] = truncated[2, -1, 2] = 1.0
    value = s.normal(61, 4)
    ends = torch.maximum(terminated, truncated)
    next_value = torch.where(ends > 0, s.normal(60, 4), value[:, 1:])
    return path_batch(s.normal(60, 4), terminated, truncated), value[:, :-1], next_value


@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_advantages_by_definition(flagged: tuple[Batch, Tensor, Tensor], lam: float) -> None:
    """Generalised advantages are the lambda-returns minus the value, whatever ends where."""
    batch, value, next_value = flagged
    expected = lambda_returns(batch, next_value, GAMMA, lam) - value.double().numpy()
    ours = ppo.advantages(batch, value, next_value, GAMMA, lam)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("lam", [0.0, 0.8, 1.0])
def test_lambda_returns_by_definition(flagged: tuple[Batch, Tensor, Tensor], lam: float) -> None:
    batch, _, next_value = flagged
    expected = lambda_returns(batch, next_value, GAMMA, lam)
    ours = a2c.lambda_returns(batch, next_value, GAMMA, lam)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [vpg])
def test_returns_by_definition(flagged: tuple[Batch, Tensor, Tensor], module: ModuleType) -> None:
    batch, _, next_value = flagged
    expected = lambda_returns(batch, next_value, GAMMA, 1.0)
    ours = module.returns_to_go(batch, next_value, GAMMA)
    np.testing.assert_allclose(ours.numpy(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [vpg])
def test_uncut_paths_are_a_linear_filter(module: ModuleType) -> None:
    """Against scipy: the sum of what follows, discounted, runs a filter backwards."""
    s = Streams(SEEDS, "paths")
    reward, value = s.normal(50, 2), s.normal(51, 2)
    batch = path_batch(reward, torch.zeros_like(reward), torch.zeros_like(reward))

    def backwards(x: np.ndarray, decay: float) -> np.ndarray:
        return scipy.signal.lfilter([1.0], [1.0, -decay], x[:, ::-1], axis=1)[:, ::-1]

    delta = (reward + GAMMA * value[:, 1:] - value[:, :-1]).double().numpy()
    ours = ppo.advantages(batch, value[:, :-1], value[:, 1:], GAMMA, LAM)
    np.testing.assert_allclose(ours.numpy(), backwards(delta, GAMMA * LAM), rtol=1e-4, atol=1e-5)
    tail = reward.double().numpy().copy()
    tail[:, -1] += GAMMA * value[:, -1].double().numpy()
    ours = module.returns_to_go(batch, value[:, 1:], GAMMA)
    np.testing.assert_allclose(ours.numpy(), backwards(tail, GAMMA), rtol=1e-4, atol=1e-5)


def test_constant_reward_closed_form() -> None:
    """Reward 1, values 0: the sum of a geometric series of as many terms as there are steps left."""
    ones = torch.ones(2, 30, 1)
    zeros = torch.zeros_like(ones)
    batch, left = path_batch(ones, zeros, zeros), np.arange(30, 0, -1)[None, :, None]
    advantage = ppo.advantages(batch, zeros, zeros, GAMMA, LAM)
    decay = GAMMA * LAM
    series = np.tile((1 - decay**left) / (1 - decay), (2, 1, 1))
    np.testing.assert_allclose(advantage.numpy(), series, rtol=1e-5)
    for lam in (1.0, LAM):
        ret, decay = a2c.lambda_returns(batch, zeros, GAMMA, lam), GAMMA * lam
        series = np.tile((1 - decay**left) / (1 - decay), (2, 1, 1))
        np.testing.assert_allclose(ret.numpy(), series, rtol=1e-5)
    forever = torch.full_like(ones, 1 / (1 - GAMMA))  # the value of reward 1 for ever: no surprise anywhere
    assert ppo.advantages(batch, forever, forever, GAMMA, LAM).abs().max() < 1e-5
    for lam in (0.0, LAM, 1.0):
        torch.testing.assert_close(a2c.lambda_returns(batch, forever, GAMMA, lam), forever)


# ---- the policy --------------------------------------------------------------------------------------------


def make_policy(space: spaces.Space) -> Policy:
    policy = Policy(Streams(SEEDS, "init"), N_OBS, (8,), space)
    parameters = Parameters(policy)
    parameters.matrix += 0.5 * Streams(SEEDS, "move").normal(parameters.matrix.shape[1])
    return policy


@pytest.mark.parametrize("lead", [(), (6,), (6, 2)], ids=str)
def test_categorical_log_prob_and_entropy(lead: tuple[int, ...]) -> None:
    policy, batch = make_policy(DISCRETE), make_batch((5, *lead), DISCRETE)
    logp, entropy = policy.evaluate(batch.obs, batch.action)
    theirs = torch.distributions.Categorical(logits=policy.net(batch.obs))
    assert logp.shape == entropy.shape == batch.action.shape
    torch.testing.assert_close(logp, theirs.log_prob(batch.action))
    torch.testing.assert_close(entropy, theirs.entropy())
    p = torch.softmax(policy.net(batch.obs), -1).detach().double().numpy()
    np.testing.assert_allclose(entropy.detach().numpy(), scipy.stats.entropy(p, axis=-1), rtol=1e-5)


@pytest.mark.parametrize("lead", [(), (6,), (6, 2)], ids=str)
def test_gaussian_log_prob_and_entropy(lead: tuple[int, ...]) -> None:
    policy, batch = make_policy(CONTINUOUS), make_batch((5, *lead), CONTINUOUS)
    logp, entropy = policy.evaluate(batch.obs, batch.action)
    mean = policy.net(batch.obs)
    std = policy.log_std.value.exp().view(3, *[1] * len(lead), 1, 2).expand_as(mean)
    theirs = torch.distributions.Independent(torch.distributions.Normal(mean, std), 1)
    assert logp.shape == entropy.shape == batch.action.shape[:-1]
    torch.testing.assert_close(logp, theirs.log_prob(batch.action), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entropy, theirs.entropy(), rtol=1e-5, atol=1e-5)
    where, scale = mean.detach().double().numpy(), std.detach().double().numpy()
    density = scipy.stats.norm.logpdf(batch.action.double().numpy(), where, scale).sum(-1)
    np.testing.assert_allclose(logp.detach().numpy(), density, rtol=1e-4, atol=1e-4)


def test_categorical_samples() -> None:
    """Each seed's actions are as frequent as its policy says; the greedy action is the most likely."""
    policy, one = make_policy(DISCRETE), Streams(SEEDS, "data").normal(1, N_OBS)
    obs = one.expand(-1, 20_000, -1)
    action = policy.act(obs, Streams(SEEDS, "act"), explore=True)
    assert (action.shape, action.dtype) == ((3, 20_000), torch.int64)
    p = torch.softmax(policy.net(one)[:, 0], -1).detach().double().numpy()
    assert p.min() > 0.02
    for k in range(3):
        counts = action[k].bincount(minlength=3).numpy()
        assert scipy.stats.chisquare(counts, 20_000 * p[k] / p[k].sum()).pvalue > 1e-3
    many = make_batch((50,), DISCRETE).obs
    assert torch.equal(policy.act(many, None, explore=False), policy.net(many).argmax(-1))


def test_gaussian_samples() -> None:
    policy, one = make_policy(CONTINUOUS), Streams(SEEDS, "data").normal(1, N_OBS)
    obs = one.expand(-1, 20_000, -1)
    action = policy.act(obs, Streams(SEEDS, "act"), explore=True).detach()
    assert (action.shape, action.dtype) == ((3, 20_000, 2), torch.float32)
    mean, std = policy.net(one).detach(), policy.log_std.value.detach().exp()
    assert len(std.unique()) == 6
    for k in range(3):
        for a in range(2):
            sample = scipy.stats.norm(float(mean[k, 0, a]), float(std[k, a]))
            assert scipy.stats.kstest(action[k, :, a].numpy(), sample.cdf).pvalue > 1e-3
        assert abs(np.corrcoef(action[k].T.numpy())[0, 1]) < 4 / 20_000**0.5
    assert torch.equal(policy.act(obs[:, :9], None, explore=False), policy.net(obs[:, :9]))


# ---- VPG ---------------------------------------------------------------------------------------------------

N_ARMS_SAMPLES = 20_000


def bandit() -> tuple[vpg.Agent, np.ndarray, Tensor, Tensor]:
    """Two arms, softmax over a bias: the agent, (S, 2) probabilities, sampled arms and the arms' rewards."""
    agent = make_agent(vpg, spaces.Discrete(2), n_obs=1, hidden=())
    obs = torch.zeros(3, N_ARMS_SAMPLES, 1)
    p = torch.softmax(agent.policy.net(obs[:, :1])[:, 0], -1).detach().double().numpy()
    return agent, p, agent.policy.act(obs, Streams(SEEDS, "act"), True), torch.tensor([1.0, -0.5])


def logit_gradient(agent: vpg.Agent, action: Tensor, advantage: Tensor) -> np.ndarray:
    """(S, 2) the gradient of the objective with respect to the logits."""
    batch = replace(path_batch(advantage, advantage, advantage), action=action)
    loss, _ = agent.policy_loss(batch, advantage)
    return -agent.learned_policy.params.grad(loss)[:, -2:].double().numpy()


def exact_gradient(p: np.ndarray, reward: np.ndarray) -> np.ndarray:
    return p * (reward - (p * reward).sum(-1, keepdims=True))


def standard_error(p: np.ndarray, action: Tensor, advantage: Tensor) -> np.ndarray:
    """(S, 2) of the mean of advantage times score."""
    score = np.eye(2)[action.numpy()] - p[:, None]
    return (advantage.numpy()[..., None] * score).std(1) / action.shape[1] ** 0.5


@pytest.mark.parametrize("constant", [0.0, 3.0, -10.0])
def test_vpg_bandit_gradient(constant: float) -> None:
    """The sampled gradient is pi_i (r_i - mean r); a constant added to all rewards leaves it where it was."""
    agent, p, action, reward = bandit()
    advantage = reward[action] + constant
    error = logit_gradient(agent, action, advantage) - exact_gradient(p, reward.numpy())
    allowed = 4 * standard_error(p, action, advantage)
    assert (np.abs(error) < allowed).all()
    if constant == 0.0:
        assert (np.abs(exact_gradient(p, reward.numpy())) > 3 * allowed).all()  # the test could have failed


def test_vpg_baseline_lowers_variance() -> None:
    agent, p, action, reward = bandit()

    def variance(baseline: np.ndarray) -> np.ndarray:
        advantage = reward[action] - torch.from_numpy(baseline).float()[:, None]
        parts = zip(action.split(100, 1), advantage.split(100, 1), strict=True)
        return np.stack([logit_gradient(agent, a, adv) for a, adv in parts]).var(0)

    mean = (p * reward.numpy()).sum(1)
    assert (variance(mean) < 0.3 * variance(mean - 3)).all()  # without it, were all rewards 3 higher
    assert (variance(mean - 3) < 0.3 * variance(mean - 10)).all()


@BOTH_KINDS
def test_vpg_gradient_is_the_weighted_score(space: spaces.Space) -> None:
    """By autograd of each sample's log-probability; and no advantage, no gradient."""
    agent, batch = make_agent(vpg, space), make_batch((5, 2), space)
    advantage = Streams(SEEDS, "advantage").normal(5, 2)
    ours = agent.learned_policy.params.grad(agent.policy_loss(batch, advantage)[0])
    by_hand = torch.zeros_like(ours)
    for t, e in np.ndindex(5, 2):
        here = slice(t, t + 1), slice(e, e + 1)
        logp, _ = agent.policy.evaluate(batch.obs[:, *here], batch.action[:, *here])
        by_hand -= advantage[:, t, e, None] * agent.learned_policy.params.grad(logp[:, 0, 0]) / 10
    torch.testing.assert_close(ours, by_hand, rtol=1e-4, atol=1e-6)
    nothing = agent.policy_loss(batch, torch.zeros(3, 5, 2))[0]
    assert (agent.learned_policy.params.grad(nothing) == 0).all()


def test_softmax_score_by_hand() -> None:
    """The gradient of the logits is (one-hot - pi) advantage, averaged."""
    agent, p, action, _ = bandit()
    action, advantage = action[:, :7], Streams(SEEDS, "advantage").normal(7)
    expected = (advantage.numpy()[..., None] * (np.eye(2)[action.numpy()] - p[:, None])).mean(1)
    np.testing.assert_allclose(logit_gradient(agent, action, advantage), expected, rtol=1e-4, atol=1e-6)


@BOTH_KINDS
def test_vpg_update_by_hand(space: spaces.Space) -> None:
    """One step of torch's Adam on the standardised advantages, then full-batch steps for the values."""
    settings = {"entropy_coef": 0.03, "value_epochs": 3, "gamma": GAMMA, "lam": LAM}
    agent, twin = make_agent(vpg, space, **settings), make_agent(vpg, space, **settings)
    batch, c = make_batch((6, 2), space), agent.config
    metrics = agent.update(batch, None, 0.3)

    def torch_adam(parameters: Parameters, rate: float) -> tuple[torch.nn.Parameter, torch.optim.Adam]:
        p = torch.nn.Parameter(parameters.matrix.detach())  # the same memory
        return p, torch.optim.Adam([p], lr=rate, eps=c.adam_eps)

    with torch.no_grad():
        next_value, value = (twin.value(x)[..., 0] for x in (batch.next_obs, batch.obs))
        ret = torch.from_numpy(lambda_returns(batch, next_value, GAMMA, 1.0)).float()
        raw = torch.from_numpy(lambda_returns(batch, next_value, GAMMA, LAM)).float() - value
        advantage = torch.stack([(a - a.mean()) / (a.std(correction=1) + 1e-8) for a in raw])
    logp, entropy = twin.policy.evaluate(batch.obs, batch.action)
    loss = -(advantage * logp + c.entropy_coef * entropy).mean((1, 2))
    p, adam = torch_adam(twin.learned_policy.params, c.learning_rate)
    p.grad = twin.learned_policy.params.grad(loss)
    adam.step()
    p, adam = torch_adam(twin.learned_value.params, c.value_learning_rate)
    for _ in range(c.value_epochs):
        value_loss = (twin.value(batch.obs)[..., 0] - ret).square().mean((1, 2))
        p.grad = twin.learned_value.params.grad(value_loss)
        adam.step()
    for name in ("learned_policy", "learned_value"):
        ours, theirs = getattr(agent, name).params.matrix, getattr(twin, name).params.matrix
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(metrics["policy_loss"], -(advantage * logp).mean((1, 2)).detach())
    torch.testing.assert_close(metrics["entropy"], entropy.mean((1, 2)).detach())
    torch.testing.assert_close(metrics["value_loss"], value_loss.detach(), rtol=1e-4, atol=1e-6)


def test_vpg_fits_the_values_after_the_policy() -> None:
    """However long the values are fitted, this update's policy step is the same; the next one is not."""
    agents = [make_agent(vpg, DISCRETE, value_epochs=n) for n in (1, 20)]
    batch = make_batch((6, 2), DISCRETE)
    start = agents[0].learned_policy.params.matrix.clone()
    for agent in agents:
        agent.update(batch, None, 0.0)
    assert torch.equal(*(a.learned_policy.params.matrix for a in agents))
    assert not torch.equal(start, agents[0].learned_policy.params.matrix)
    assert not torch.equal(*(a.learned_value.params.matrix for a in agents))
    for agent in agents:
        agent.update(batch, None, 0.0)
    assert not torch.equal(*(a.learned_policy.params.matrix for a in agents))


# ---- A2C ---------------------------------------------------------------------------------------------------


def split(agent: object, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Columns (S, P) of the policy and of the value function."""
    width = sum(getattr(*slot)[0].numel() for slot in agent.policy.slots())
    return matrix[:, :width], matrix[:, width:]


@BOTH_KINDS
@pytest.mark.parametrize("module", [a2c, ppo])
def test_each_network_has_its_own_loss(module: ModuleType, space: spaces.Space) -> None:
    """The policy's loss does not reach the value function, nor the value's the policy."""
    grads = {}
    for value_coef, entropy_coef in ((0.0, 0.0), (1.0, 0.0), (0.0, 0.5)):
        agent = make_agent(module, space, value_coef=value_coef, entropy_coef=entropy_coef)
        batch, ret = make_batch((5, 2), space), Streams(SEEDS, "ret").normal(5, 2)
        if module is a2c:
            loss, _ = agent.loss(batch.obs, batch.action, ret)
        else:
            logp = agent.policy.evaluate(batch.obs, batch.action)[0].detach()
            columns = (batch.obs, batch.action, logp - 0.01, ret + 1.0, ret, ret)
            loss, _ = agent.loss(*(flatten(x) for x in columns))
        grads[value_coef, entropy_coef] = split(agent, agent.learned.params.grad(loss))
    policy, value = grads[0.0, 0.0]
    assert (value == 0).all()
    assert (policy.abs().amax(1) > 0).all()
    assert torch.equal(grads[1.0, 0.0][0], policy)
    assert (grads[1.0, 0.0][1].abs().amax(1) > 0).all()
    assert (grads[0.0, 0.5][1] == 0).all()
    assert not torch.equal(grads[0.0, 0.5][0], policy)


@BOTH_KINDS
def test_a2c_gradient_by_parts(space: spaces.Space) -> None:
    """The advantage-weighted score, the entropy's gradient and that of the squared error, put together."""
    agent = make_agent(a2c, space, entropy_coef=0.1, value_coef=0.7)
    batch, ret = make_batch((5, 2), space), Streams(SEEDS, "ret").normal(5, 2)
    ours = split(agent, agent.learned.params.grad(agent.loss(batch.obs, batch.action, ret)[0]))
    policy = [getattr(*slot) for slot in agent.policy.slots()]
    value = [getattr(*slot) for slot in agent.value.slots()]

    def grad(scalar: Tensor, leaves: list[Tensor]) -> Tensor:
        grads = torch.autograd.grad(
            scalar, leaves, retain_graph=True, materialize_grads=True, allow_unused=True
        )
        return torch.cat([g.flatten(1) for g in grads], 1)

    logp, entropy = agent.policy.evaluate(batch.obs, batch.action)
    baseline = agent.value(batch.obs)[..., 0]
    score, spread, fit = torch.zeros_like(ours[0]), torch.zeros_like(ours[0]), torch.zeros_like(ours[1])
    for t, e in np.ndindex(5, 2):
        weight = (ret - baseline).detach()[:, t, e, None]
        score += weight * grad(logp[:, t, e].sum(), policy) / 10
        spread += grad(entropy[:, t, e].sum(), policy) / 10
        fit += -2 * weight * grad(baseline[:, t, e].sum(), value) / 10
    torch.testing.assert_close(ours[0], -score - 0.1 * spread, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(ours[1], 0.7 * fit, rtol=1e-4, atol=1e-6)


@BOTH_KINDS
def test_a2c_on_one_whole_episode_is_vpg(space: spaces.Space) -> None:
    """The same seeds give the same networks; without entropy, the gradients differ by the scaling alone."""
    shared = {"hidden": (16, 8), "gamma": GAMMA, "entropy_coef": 0.0}
    config = vpg.Config(**shared, lam=1.0, init="orthogonal", log_std_init=0.0)
    first = a2c.Agent(a2c.Config(**shared), OBS, space, Streams(SEEDS, "init"), "cpu")
    second = vpg.Agent(config, OBS, space, Streams(SEEDS, "init"), "cpu")
    batch = make_batch((12, 1), space, cuts=False)
    batch.terminated[:, -1] = 1.0
    reward = batch.reward.double().numpy()
    ret = scipy.signal.lfilter([1.0], [1.0, -GAMMA], reward[:, ::-1], axis=1)[
        :, ::-1
    ]  # no bootstrap anywhere
    ret = torch.from_numpy(ret.copy()).float()
    advantage = ret - second.value(batch.obs)[..., 0].detach()

    grad = split(first, first.learned.params.grad(first.loss(batch.obs, batch.action, ret)[0]))
    raw = second.learned_policy.params.grad(second.policy_loss(batch, advantage)[0])
    torch.testing.assert_close(grad[0], raw, rtol=1e-4, atol=1e-6)

    # And through `update`: plain steps reveal the gradients that the agents really take.
    taken = {}
    first.learned.optimiser.step = lambda g, rate: taken.update(first=g)
    second.learned_policy.optimiser.step = lambda g, rate: taken.update(second=g)
    object.__setattr__(first.config, "max_grad_norm", 1e9)
    first.update(batch, None, 0.0)
    second.update(batch, None, 0.0)
    torch.testing.assert_close(split(first, taken["first"])[0], raw, rtol=1e-4, atol=1e-6)
    loss, _ = second.policy_loss(batch, standardise(advantage))
    torch.testing.assert_close(taken["second"], second.learned_policy.params.grad(loss), rtol=1e-3, atol=1e-5)


# ---- PPO ---------------------------------------------------------------------------------------------------


@BOTH_KINDS
def test_ppo_at_ratio_one_is_the_policy_gradient(space: spaces.Space) -> None:
    agent = make_agent(ppo, space, value_coef=0.0, entropy_coef=0.0)
    batch, advantage = make_batch((8,), space), Streams(SEEDS, "advantage").normal(8)
    logp, _ = agent.policy.evaluate(batch.obs, batch.action)
    loss, parts = agent.loss(batch.obs, batch.action, logp.detach(), advantage, batch.reward, batch.reward)
    score = agent.policy.evaluate(batch.obs, batch.action)[0]
    expected = -(standardise(advantage) * score).mean(1) + 0 * agent.value(batch.obs).sum()
    torch.testing.assert_close(
        agent.learned.params.grad(loss), agent.learned.params.grad(expected), rtol=1e-5, atol=1e-7
    )
    assert (parts[3] == 0).all()  # divergence
    assert (parts[4] == 0).all()  # clipped


def pair(agent: ppo.Agent, ratio: list[tuple[float, float]]) -> tuple[Tensor, ...]:
    """Two samples per seed with these ratios: the first's advantage is positive, the second's as negative."""
    obs, action = Streams(SEEDS, "data").normal(2, N_OBS), torch.tensor([[0, 1]] * 3)
    logp, _ = agent.policy.evaluate(obs, action)
    old_logp = logp.detach() - torch.tensor(ratio).log()
    return obs, action, old_logp, torch.tensor([[5.0, 3.0]] * 3), torch.zeros(3, 2), torch.zeros(3, 2)


def test_ppo_clips_where_the_ratio_has_gone_far_enough() -> None:
    """The four cases of sign and ratio: exactly no gradient where the step is done, the score elsewhere."""
    agent = make_agent(ppo, DISCRETE, value_coef=0.0, entropy_coef=0.0, clip=0.2)
    half = 0.5**0.5  # two standardised numbers are +-sqrt(1/2)
    ratios = [(1.5, 0.5), (0.5, 1.5), (1.1, 0.9)]
    columns = pair(agent, ratios)
    loss, parts = agent.loss(*columns)
    grad = agent.learned.params.grad(loss)
    assert (grad[0] == 0).all()  # too likely already and good; too unlikely already and bad
    for k in (1, 2):  # gone the wrong way, or not far: the unclipped gradient
        logp, _ = agent.policy.evaluate(*columns[:2])
        weighted = half * (ratios[k][0] * logp[:, 0] - ratios[k][1] * logp[:, 1]) / 2
        expected = -agent.learned.params.grad(weighted + 0 * agent.value(columns[0]).sum())
        torch.testing.assert_close(grad[k], expected[k], rtol=1e-4, atol=1e-6)
        assert grad[k].abs().max() > 1e-3
    objective = [half * (1.2 - 0.8) / 2, half * (0.5 - 1.5) / 2, half * (1.1 - 0.9) / 2]
    np.testing.assert_allclose(parts[0].numpy(), -np.array(objective), rtol=1e-4, atol=1e-6)
    r = np.array(ratios)
    np.testing.assert_allclose(parts[3].numpy(), (r - 1 - np.log(r)).mean(1), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(parts[4].numpy(), [1.0, 1.0, 0.0])

    # One sample at a time: with only one of the two clipped, the other's gradient is what is left.
    columns = pair(agent, [(1.5, 1.1), (1.1, 0.5), (0.5, 0.5)])
    grad = agent.learned.params.grad(agent.loss(*columns)[0])
    logp, _ = agent.policy.evaluate(*columns[:2])
    left = torch.stack([-1.1 * logp[0, 1], 1.1 * logp[1, 0], 0.5 * logp[2, 0]]) * half / 2
    expected = -agent.learned.params.grad(left + 0 * (logp.sum() + agent.value(columns[0]).sum()))
    torch.testing.assert_close(grad, expected, rtol=1e-4, atol=1e-6)


@BOTH_KINDS
def test_ppo_objective_is_a_lower_bound(space: spaces.Space) -> None:
    """L_clip <= mean(ratio A); with a wide enough clip they are equal."""
    batch, advantage = make_batch((64,), space), Streams(SEEDS, "advantage").normal(64)
    for clip, equal in ((0.2, False), (0.01, False), (1e3, True)):
        agent = make_agent(ppo, space, clip=clip)
        logp = agent.policy.evaluate(batch.obs, batch.action)[0].detach()
        old_logp = logp - 0.5 * Streams(SEEDS, "old").normal(64)
        _, parts = agent.loss(batch.obs, batch.action, old_logp, advantage, batch.reward, batch.reward)
        unclipped = ((logp - old_logp).exp() * standardise(advantage)).mean(1)
        if equal:
            torch.testing.assert_close(-parts[0], unclipped, rtol=1e-5, atol=1e-6)
        else:
            assert (-parts[0] < unclipped - 1e-3).all()


@pytest.mark.usefixtures("torch_only")
@BOTH_KINDS
def test_ppo_visits_every_sample_once_per_epoch(space: spaces.Space, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a new order each epoch, each seed in its own; the columns stay together; the first ratio is 1."""
    agent = make_agent(ppo, space, epochs=3, minibatch=8, gamma=GAMMA, lam=LAM)
    batch = make_batch((12, 2), space)
    batch.obs[..., 0] = torch.arange(24.0).view(12, 2) / 24  # the sample's number
    follows = torch.maximum(batch.terminated, batch.truncated)[:, :-1] == 0
    batch.next_obs[:, :-1][follows] = batch.obs[:, 1:][follows]
    with torch.no_grad():
        value, next_value = agent.value(batch.obs)[..., 0], agent.value(batch.next_obs)[..., 0]
        logp, _ = agent.policy.evaluate(batch.obs, batch.action)
    advantage = torch.from_numpy(lambda_returns(batch, next_value, GAMMA, LAM)).float() - value
    columns = [flatten(x) for x in (batch.obs, batch.action, logp, advantage, advantage + value, value)]
    visits, kl, loss = [], [], agent.loss

    def spy(*args: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        number = (args[0][..., 0] * 24).round().long()
        visits.append(number)
        for k in range(3):
            for ours, expected in zip(args, columns, strict=True):
                torch.testing.assert_close(ours[k], expected[k, number[k]], rtol=1e-4, atol=1e-4)
        out = loss(*args)
        kl.append(out[1][3])
        return out

    monkeypatch.setattr(agent, "loss", spy)
    agent.update(batch, Streams(SEEDS, "learn"), 0.0)
    assert [v.shape for v in visits] == [(3, 8)] * 9
    epochs = [torch.cat(visits[i : i + 3], 1) for i in (0, 3, 6)]
    for order in epochs:
        assert (order.sort(1).values == torch.arange(24)).all()
    assert len({tuple(row.tolist()) for order in epochs for row in order}) == 9
    assert kl[0].abs().max() < 1e-6
    assert (kl[-1] > 1e-6).all()


# ---- Stable-Baselines3: whole updates from the same weights on the same data -------------------------------


class Nothing(gymnasium.Env):
    """An environment that is only its spaces: Stable-Baselines3 asks for one."""

    observation_space = OBS

    def __init__(self, space: spaces.Space):
        self.action_space = space

    def reset(self, **kwargs: object) -> tuple[np.ndarray, dict]:
        return np.zeros(N_OBS, np.float32), {}


def sb3_model(kind: type, space: spaces.Space, envs: int, progress: float, **settings: object) -> object:
    model = kind("MlpPolicy", DummyVecEnv([lambda: Nothing(space)] * envs), device="cpu", **settings)
    model.set_logger(Logger(None, []))
    model._current_progress_remaining = 1 - progress
    return model


def sb3_columns(policy: object) -> list[tuple[Tensor, bool]]:
    """Its parameters in the order of our columns, and whether each must be turned."""
    layers = [m for m in policy.mlp_extractor.policy_net if isinstance(m, torch.nn.Linear)] + [
        policy.action_net
    ]
    value = [m for m in policy.mlp_extractor.value_net if isinstance(m, torch.nn.Linear)] + [policy.value_net]
    columns = [c for layer in layers for c in ((layer.weight, True), (layer.bias, False))]
    if hasattr(policy, "log_std"):
        columns.append((policy.log_std, False))
    columns += [c for layer in value for c in ((layer.weight, True), (layer.bias, False))]
    assert len(columns) == len(list(policy.parameters()))
    return columns


def q_columns(network: object) -> list[tuple[Tensor, bool]]:
    return [(p, p.dim() == 2) for p in network.parameters()]


def write_columns(columns: list[tuple[Tensor, bool]], row: Tensor) -> None:
    start = 0
    for tensor, turned in columns:
        part = row[start : start + tensor.numel()]
        tensor.data.copy_(part.view(*tensor.shape[::-1]).T if turned else part)
        start += tensor.numel()
    assert start == len(row)


def read_columns(columns: list[tuple[Tensor, bool]]) -> Tensor:
    return torch.cat([(t.detach().T if turned else t.detach()).flatten() for t, turned in columns])


def fill_rollout(model: object, batch: Batch, k: int, gamma: float) -> None:
    """Seed k's window as Stable-Baselines3 collects it; at a time limit it adds the value to the reward."""
    buffer, policy = model.rollout_buffer, model.policy
    buffer.reset()
    start = np.ones(batch.reward.shape[2])
    for t in range(batch.reward.shape[1]):
        obs, action = batch.obs[k, t], batch.action[k, t]
        with torch.no_grad():
            value, logp, _ = policy.evaluate_actions(obs, action)
            cut = batch.truncated[k, t] * (1 - batch.terminated[k, t])
            reward = batch.reward[k, t] + gamma * cut * policy.predict_values(batch.next_obs[k, t])[:, 0]
        buffer.add(obs.numpy(), action.numpy(), reward.numpy(), start, value, logp)
        start = torch.maximum(batch.terminated, batch.truncated)[k, t].numpy()
    with torch.no_grad():
        last = policy.predict_values(batch.next_obs[k, -1])
    buffer.compute_returns_and_advantage(last, start)


def same_step(before: Tensor, ours: Tensor, theirs: Tensor) -> None:
    """The same movement of the parameters, to a thousandth of the largest."""
    moved = (ours - before).abs().max()
    assert moved > 1e-5
    torch.testing.assert_close(ours - before, theirs - before, rtol=1e-3, atol=float(1e-3 * moved))


@BOTH_KINDS
@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
def test_ppo_against_stable_baselines(
    space: spaces.Space, max_grad_norm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two epochs of four minibatches, from rewards and flags to the weights, for each seed of a pack."""
    steps, envs, progress = 16, 2, 0.25
    config = ppo.Config(
        envs, steps, epochs=2, minibatch=8, learning_rate=1e-2, gamma=GAMMA, lam=LAM, entropy_coef=0.02,
        value_coef=0.6, max_grad_norm=max_grad_norm, clip=0.1, hidden=(16, 8), anneal_from="end",
    )  # fmt: skip
    agent = make_agent(ppo, space, **vars(config))
    before, batch = agent.learned.params.matrix.clone(), make_batch((steps, envs), space)
    learn = Streams(SEEDS, "learn")
    orders = [learn.permutation(steps * envs) for _ in range(2)]
    metrics = agent.update(batch, Streams(SEEDS, "learn"), progress)

    for k in range(len(SEEDS)):
        model = sb3_model(
            stable_baselines3.PPO, space, envs, progress, n_steps=steps, batch_size=8, n_epochs=2,
            gamma=GAMMA, gae_lambda=LAM, clip_range=0.1, ent_coef=0.02, max_grad_norm=max_grad_norm,
            vf_coef=0.6 / 2,  # its value loss lacks the half
            learning_rate=lambda remaining: 1e-2 * remaining,
            policy_kwargs={"net_arch": {"pi": [16, 8], "vf": [16, 8]}},
        )  # fmt: skip
        columns = sb3_columns(model.policy)
        write_columns(columns, before[k])
        fill_rollout(model, batch, k, GAMMA)
        # Its samples are numbered environment by environment, ours step by step.
        numbered = iter([(o[k] % envs * steps + o[k] // envs).numpy() for o in orders])
        with monkeypatch.context() as patch:
            patch.setattr(np.random, "permutation", lambda n, numbered=numbered: next(numbered))
            model.train()
        assert next(numbered, None) is None
        same_step(before[k], agent.learned.params.matrix[k], read_columns(columns))
        theirs = model.logger.name_to_value
        pairs = {
            "policy_loss": theirs["train/policy_gradient_loss"],
            "value_loss": theirs["train/value_loss"] / 2,
            "entropy": -theirs["train/entropy_loss"],
            "clip_fraction": theirs["train/clip_fraction"],
        }
        for name, value in pairs.items():
            np.testing.assert_allclose(metrics[name][k], value, rtol=1e-3, atol=1e-4, err_msg=name)
        assert 0 < metrics["clip_fraction"][k] < 1


@BOTH_KINDS
@pytest.mark.parametrize("max_grad_norm", [0.05, 100.0])
@pytest.mark.parametrize("rmsprop, lam", [("tensorflow", 1.0), ("torch", 1.0), ("torch", 0.7)])
def test_a2c_against_stable_baselines(
    space: spaces.Space, max_grad_norm: float, rmsprop: str, lam: float
) -> None:
    """Three updates with RMSProp's memory between them, from rewards and flags to the weights."""
    steps, envs, progress = 8, 3, 0.25
    settings = {
        "learning_rate": 1e-2,
        "gamma": GAMMA,
        "entropy_coef": 0.02,
        "value_coef": 0.6,
        "rms_eps": 1e-3,
        "rmsprop": rmsprop,
        "lam": lam,
        "anneal": True,
    }
    settings |= {"rms_decay": 0.9, "max_grad_norm": max_grad_norm, "envs": envs, "steps": steps}
    agent = make_agent(a2c, space, **settings)
    before, batch = agent.learned.params.matrix.clone(), make_batch((3 * steps, envs), space)
    windows = [batch.map(lambda x: x[:, i : i + steps]) for i in range(0, 3 * steps, steps)]
    metrics = [agent.update(window, None, progress) for window in windows]
    for k in range(len(SEEDS)):
        model = sb3_model(
            stable_baselines3.A2C, space, envs, progress, n_steps=steps, gamma=GAMMA, gae_lambda=lam,
            ent_coef=0.02, vf_coef=0.6, max_grad_norm=max_grad_norm, use_rms_prop=False,
            learning_rate=lambda remaining: 1e-2 * remaining,
            policy_kwargs={
                "net_arch": {"pi": [16, 8], "vf": [16, 8]},
                "optimizer_class": RMSpropTFLike if rmsprop == "tensorflow" else torch.optim.RMSprop,
                "optimizer_kwargs": {"alpha": 0.9, "eps": 1e-3},
            },
        )  # fmt: skip
        columns = sb3_columns(model.policy)
        write_columns(columns, before[k])
        for window, ours in zip(windows, metrics, strict=True):
            fill_rollout(model, window, k, GAMMA)
            model.train()
            theirs = model.logger.name_to_value
            for name, sign, key in (
                ("policy_loss", 1, "policy_loss"),
                ("value_loss", 1, "value_loss"),
                ("entropy", -1, "entropy_loss"),
            ):
                np.testing.assert_allclose(ours[name][k], sign * theirs[f"train/{key}"], rtol=1e-3, atol=1e-5)
        same_step(before[k], agent.learned.params.matrix[k], read_columns(columns))


@pytest.mark.parametrize("max_grad_norm", [0.1, 100.0])
def test_dqn_against_stable_baselines(max_grad_norm: float) -> None:
    """Three updates with Adam's memory between them, from rewards and flags to the weights."""
    settings = {"learning_rate": 1e-2, "gamma": GAMMA, "max_grad_norm": max_grad_norm, "adam_eps": 1e-5}
    agent, progress = make_agent(dqn, DISCRETE, huber=1.0, anneal=True, **settings), 0.25
    before, target = agent.learned.params.matrix.clone(), agent.learned.target.matrix.clone()
    assert not torch.allclose(before, target, atol=0.1)
    batch = make_batch((48,), DISCRETE)
    batch.reward.mul_(2.0)  # errors on both sides of Huber's threshold
    parts = [batch.map(lambda x: x[:, i : i + 16]) for i in (0, 16, 32)]
    metrics = [agent.update(replace(part, truncated=None), None, progress) for part in parts]
    for k in range(len(SEEDS)):
        model = sb3_model(
            stable_baselines3.DQN, DISCRETE, 1, progress, gamma=GAMMA, max_grad_norm=max_grad_norm,
            learning_rate=lambda remaining: 1e-2 * remaining, buffer_size=48, batch_size=16,
            policy_kwargs={"net_arch": [16, 8], "optimizer_kwargs": {"eps": 1e-5}},
        )  # fmt: skip
        columns = q_columns(model.q_net)
        write_columns(columns, before[k])
        write_columns(q_columns(model.q_net_target), target[k])
        for i in range(48):
            obs, action, reward, next_obs, terminated, truncated = (
                x[k, i].numpy() for x in list(vars(batch).values())[:6]
            )
            info = {"TimeLimit.truncated": bool(truncated > terminated)}
            done = np.maximum(terminated, truncated)
            model.replay_buffer.add(obs[None], next_obs[None], action[None], reward[None], done[None], [info])
        for i, ours in zip((0, 16, 32), metrics, strict=True):
            sample = model.replay_buffer._get_samples(np.arange(i, i + 16))
            model.replay_buffer.sample = lambda n, env=None, sample=sample: sample
            model.train(gradient_steps=1, batch_size=16)
            np.testing.assert_allclose(ours["loss"][k], model.logger.name_to_value["train/loss"], rtol=1e-3)
        same_step(before[k], agent.learned.params.matrix[k], read_columns(columns))


# ---- DQN ---------------------------------------------------------------------------------------------------


def table(agent: dqn.Agent, online: Tensor, target: Tensor) -> None:
    """One-hot observations and no hidden layer: write these Q-tables (states, actions) for every seed."""
    for network, values in ((agent.q, online), (agent.target_q, target)):
        with torch.no_grad():
            network.layers[0].weight.copy_(values.expand(3, -1, -1))
            network.layers[0].bias.zero_()


def transitions(rows: list[tuple[int, int, float, int, float]], states: int) -> Batch:
    """(state, action, reward, next state, terminated) for every seed alike, states one-hot."""
    s, a, r, n, d = (torch.tensor(column).expand(3, -1) for column in zip(*rows, strict=True))
    one_hot = torch.eye(states)
    return Batch(one_hot[s], a, r.float(), one_hot[n], d.float(), None)


@pytest.mark.parametrize("double", [False, True])
def test_dqn_targets_by_hand(double: bool) -> None:
    """Three known targets: one where the two rules differ, one where they agree, one true end."""
    agent = make_agent(dqn, spaces.Discrete(2), n_obs=3, hidden=(), gamma=0.5, huber=1.0, double=double)
    online = torch.tensor([[0.0, 0.0], [2.0, 1.0], [0.5, 0.7]])
    target = torch.tensor([[9.0, 9.0], [4.0, 6.0], [1.0, 8.0]])
    table(agent, online, target)
    batch = transitions([(0, 0, 1.0, 1, 0), (0, 1, 1.0, 2, 0), (1, 1, 1.0, 1, 1)], 3)
    # At state 1 the online network prefers action 0, which the target values 4; the target's own best is 6.
    y = np.array([1 + 0.5 * (4 if double else 6), 1 + 0.5 * 8, 1.0])
    error = np.array([0.0, 0.0, 1.0]) - y
    huber = np.where(np.abs(error) < 1, error**2 / 2, np.abs(error) - 0.5).mean()
    loss, metrics = agent.loss(batch)
    np.testing.assert_allclose(loss.detach().numpy(), [huber] * 3, rtol=1e-6)
    np.testing.assert_allclose(metrics["q"].numpy(), [1 / 3] * 3, rtol=1e-6)
    grad = agent.learned.params.grad(loss)[:, :6].view(3, 3, 2)
    expected = np.zeros((3, 2))
    expected[0], expected[1, 1] = -1 / 3, 0.0  # both errors are below -1; the third is 0
    np.testing.assert_allclose(grad.numpy(), np.tile(expected, (3, 1, 1)), atol=1e-7)


@pytest.mark.parametrize("huber", [1.0, 20.0])
def test_dqn_huber_clips_each_samples_gradient(huber: float) -> None:
    """The gradient of a Q-value is its own error, cut to the threshold, over the batch."""
    errors = [-50.0, -1.5, -0.3, 0.0, 0.2, 0.9, 1.1, 100.0]
    agent = make_agent(dqn, spaces.Discrete(2), n_obs=8, hidden=(), huber=huber)
    table(agent, torch.zeros(8, 2), torch.zeros(8, 2))
    batch = transitions([(i, 1, -error, 0, 0) for i, error in enumerate(errors)], 8)
    grad = agent.learned.params.grad(agent.loss(batch)[0])[:, :16].view(3, 8, 2)
    assert (grad[..., 0] == 0).all()
    np.testing.assert_allclose(
        grad[..., 1].numpy(), np.tile(np.clip(errors, -huber, huber) / 8, (3, 1)), rtol=1e-5
    )


def test_dqn_target_is_frozen_between_copies() -> None:
    agent = make_agent(dqn, DISCRETE, target_every=3)
    batch, frozen = make_batch((16,), DISCRETE), agent.learned.target.matrix.clone()
    for update in range(1, 10):
        agent.update(batch, None, 0.0)
        if update % 3 == 0:
            assert torch.equal(agent.learned.target.matrix, agent.learned.params.matrix)
            assert not torch.equal(agent.learned.target.matrix, frozen)
            frozen = agent.learned.target.matrix.clone()
        assert torch.equal(agent.learned.target.matrix, frozen)
        assert torch.equal(agent.target_q(batch.obs), agent.target_q(batch.obs))
    fresh = dqn.Agent(dqn.Config(), OBS, DISCRETE, Streams(SEEDS, "init"), "cpu")
    assert torch.equal(fresh.learned.target.matrix, fresh.learned.params.matrix)
    assert fresh.learned.target.matrix.data_ptr() != fresh.learned.params.matrix.data_ptr()


@pytest.mark.parametrize(
    "progress, epsilon", [(0.0, 1.0), (0.05, 0.775), (0.1, 0.55), (0.2, 0.1), (0.6, 0.1), (1.0, 0.1)]
)
def test_dqn_epsilon_greedy(progress: float, epsilon: float) -> None:
    """From 1 to the end in a straight line over the first part of the budget; random actions are uniform."""
    agent = make_agent(dqn, DISCRETE, exploration=0.2, epsilon_end=0.1)
    one = Streams(SEEDS, "data").normal(1, N_OBS)
    obs = one.expand(-1, 20_000, -1)
    greedy = agent.act(one, None, False, progress)[0][:, 0]
    action, carry = agent.act(obs, Streams(SEEDS, "act"), True, progress)
    assert (action.shape, action.dtype, carry) == ((3, 20_000), torch.int64, None)
    for k in range(3):
        p = np.full(3, epsilon / 3)
        p[greedy[k]] += 1 - epsilon
        counts = action[k].bincount(minlength=3).numpy()
        assert scipy.stats.chisquare(counts, 20_000 * p / p.sum()).pvalue > 1e-3
    many = make_batch((50,), DISCRETE).obs
    assert torch.equal(agent.act(many, None, False, 0.0)[0], agent.q(many).argmax(-1))


@pytest.mark.parametrize("double", [False, True])
def test_dqn_converges_to_value_iteration(double: bool) -> None:
    """On a random decision process, transitions in proportion to their probability: the fixed point is Q*."""
    states, actions, branches = 5, 2, 2
    rng = np.random.default_rng(3)
    successor = rng.integers(states, size=(states, actions, branches))
    terminated = rng.random((states, actions, branches)) < 0.15
    reward = rng.uniform(-0.5, 0.5, (states, actions))
    q = np.zeros((states, actions))
    for _ in range(100):
        q = reward + 0.6 * ((1 - terminated) * q.max(1)[successor]).mean(-1)
    assert terminated.any()
    assert len(set(q.argmax(1))) == 2

    agent = make_agent(
        dqn, spaces.Discrete(actions), n_obs=states, hidden=(), gamma=0.6, double=double, learning_rate=0.02,
        anneal=True, target_every=40,
    )  # fmt: skip
    cells = np.ndindex(states, actions, branches)
    rows = [(s, a, reward[s, a], int(successor[s, a, b]), float(terminated[s, a, b])) for s, a, b in cells]
    batch = transitions(rows, states)
    for _ in range(1000):
        agent.update(batch, None, 0.0)
    learned = agent.q(torch.eye(states).expand(3, -1, -1)).detach().numpy()
    np.testing.assert_allclose(learned, np.tile(q, (3, 1, 1)), atol=0.01)


def test_dqn_refuses_continuous_actions() -> None:
    with pytest.raises(ValueError, match="discrete"):
        make_agent(dqn, CONTINUOUS)

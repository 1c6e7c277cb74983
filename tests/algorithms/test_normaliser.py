"""Running moments and what the algorithms make of them, against numpy and Stable-Baselines3."""

import copy
from dataclasses import replace
from types import ModuleType

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch import Tensor

from ascent.algorithms import a2c, a3c, ppo, trpo
from ascent.algorithms.heads import Normaliser
from ascent.algorithms.seedwise import Batch, Moments, Streams
from tests.algorithms.seedwise.tools import check_packing, numbers
from tests.algorithms.test_equations import (
    BOTH_KINDS,
    CONTINUOUS,
    DISCRETE,
    GAMMA,
    N_OBS,
    SEEDS,
    make_agent,
    make_batch,
)

MODULES = [a2c, a3c, trpo, ppo]
EACH = pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__.split(".")[-1])
STEPS, ENVS = 6, 2


# ---- moments -----------------------------------------------------------------------------------------------


def exact(parts: list[Tensor]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance (S, n) of all numbers put together, and of a share of 1e-4 numbers of mean 0 and
    variance 1, in as many digits as numpy has."""
    x = np.concatenate([p.flatten(1, -2).numpy().astype(np.longdouble) for p in parts], 1)
    prior, n = np.longdouble(1e-4), x.shape[1]
    mean = x.sum(1) / (prior + n)
    squares = ((x - mean[:, None]) ** 2).sum(1) + prior * (1 + mean**2)
    return mean.astype(float), (squares / (prior + n)).astype(float)


@pytest.mark.parametrize("offset, scale", [(0.0, 1.0), (1e4, 1.0), (1e4, 1e-2), (-3.0, 1e3)])
def test_moments_are_those_of_everything_so_far(offset: float, scale: float) -> None:
    """Uneven batches of any number of axes, a single number too; far from 0 as well."""
    moments, parts = Moments(Streams(SEEDS, "init"), 3), []
    stream = Streams(SEEDS, "data")
    for shape in [(7,), (1,), (4, 5), (200, 3), (1, 1), (2, 3, 4), (1000,)]:
        parts.append(offset + scale * stream.normal(*shape, 3))
        moments.update(parts[-1])
        mean, var = exact(parts)
        np.testing.assert_allclose(moments.mean.numpy(), mean, rtol=1e-12, atol=1e-12 * scale)
        np.testing.assert_allclose(moments.var.numpy(), var, rtol=1e-9)
        n = sum(p[0, ..., 0].numel() for p in parts)
        np.testing.assert_allclose(moments.count.numpy(), np.full((3, 1), n + 1e-4), rtol=1e-12)
    assert moments.mean.dtype == moments.var.dtype == torch.float64


def test_moments_forget_where_they_began() -> None:
    """Near 0 the beginning soon shows in no digit that matters: numpy's mean and variance."""
    x = 3.0 + 2.0 * Streams(SEEDS, "data").normal(50, 20, 3)
    moments = Moments(Streams(SEEDS, "init"), 3)
    for part in x.split(7, 1):
        moments.update(part)
    flat = x.flatten(1, 2).double().numpy()
    np.testing.assert_allclose(moments.mean.numpy(), flat.mean(1), rtol=1e-6)
    np.testing.assert_allclose(moments.var.numpy(), flat.var(1), rtol=1e-5)


def test_moments_are_stable_baselines() -> None:
    """Its running moments (openai/baselines') too begin with 1e-4 numbers of mean 0 and variance 1."""
    moments, theirs = Moments(Streams(SEEDS, "init"), 3), [RunningMeanStd(shape=(3,)) for _ in SEEDS]
    stream = Streams(SEEDS, "data")
    for n in (3, 1, 40, 8):
        x = 5.0 + stream.normal(n, 3)
        moments.update(x)
        for k, other in enumerate(theirs):
            other.update(x[k].double().numpy())
            np.testing.assert_allclose(moments.mean[k].numpy(), other.mean, rtol=1e-12)
            np.testing.assert_allclose(moments.var[k].numpy(), other.var, rtol=1e-12)


@pytest.mark.parametrize("n", [1, 4, 17, 33])
def test_packing_moments(n: int) -> None:
    def compute(seeds: list[int]) -> dict[str, Tensor]:
        moments = Moments(Streams(seeds, "init"), n)
        for i, shape in enumerate([(1,), (5, 3), (64, 2), (257,), (1, 1)]):
            moments.update(100.0 + numbers(seeds, *shape, n, purpose=f"{i}"))
        return moments.state_dict()

    check_packing(compute)


def test_moments_of_a_corrupt_seed_are_its_own() -> None:
    sound, corrupt = (Moments(Streams(SEEDS, "init"), 3) for _ in range(2))
    x = Streams(SEEDS, "data").normal(20, 3)
    sound.update(x)
    x[1] = torch.nan
    corrupt.update(x)
    for name, tensor in sound.state_dict().items():
        for k in (0, 2):
            assert torch.equal(corrupt.state_dict()[name][k], tensor[k])
    assert corrupt.mean[1].isnan().all()


# ---- the normaliser ----------------------------------------------------------------------------------------


def make_normaliser(gamma: float = GAMMA, envs: int = ENVS, on: bool = True) -> Normaliser:
    return Normaliser(Streams(SEEDS, "init"), N_OBS, envs, gamma, on)


def make_windows(n: int, space: spaces.Space = CONTINUOUS, steps: int = STEPS) -> list[Batch]:
    """Windows of one life, with ends of both kinds and both at once, far from 0 and from unit size."""
    batch = make_batch((n * steps, ENVS), space)
    batch.terminated[0, 1, 0] = batch.truncated[0, 1, 0] = 1.0
    place, size = torch.tensor([5.0, -20.0, 0.0, 300.0]), torch.tensor([2.0, 0.1, 30.0, 7.0])
    batch = replace(
        batch,
        obs=place + size * batch.obs,
        next_obs=place + size * batch.next_obs,
        reward=7.0 * batch.reward + 4.0,
    )
    return [batch.map(lambda x: x[:, i : i + steps]) for i in range(0, n * steps, steps)]


def normal_form(x: Tensor, parts: list[Tensor]) -> np.ndarray:
    """Observations (S, ..., O) by the moments of these."""
    mean, var = exact(parts) if parts else (np.zeros((3, N_OBS)), np.ones((3, N_OBS)))
    shape = (3, *[1] * (x.dim() - 2), N_OBS)
    deviation = np.sqrt(var.reshape(shape) + 1e-8)
    return ((x.double().numpy() - mean.reshape(shape)) / deviation).clip(-10, 10)


def test_observations_by_the_moments_of_the_windows_before() -> None:
    """A window and its successors by all windows before it; then it counts, and its successors do not."""
    normaliser, parts = make_normaliser(), []
    for window in make_windows(5):
        seen = normaliser.batch(window)
        np.testing.assert_allclose(seen.obs, normal_form(window.obs, parts), rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(seen.next_obs, normal_form(window.next_obs, parts), rtol=1e-4, atol=1e-4)
        parts.append(window.obs)
        now = normaliser.obs(window.obs[:, 0])
        np.testing.assert_allclose(now, normal_form(window.obs[:, 0], parts), rtol=1e-4, atol=1e-4)
        for name in ("action", "terminated", "truncated"):
            assert getattr(seen, name) is getattr(window, name)
    flat = normaliser.obs(torch.cat(parts, 1)).flatten(1, 2)
    np.testing.assert_allclose(flat.mean(1), 0.0, atol=1e-3)
    # Where the mean is large beside the deviation, the 1e-4 zeros of the beginning still widen it.
    np.testing.assert_allclose(flat.std(1, correction=0), 1.0, atol=0.1)


def test_observations_are_cut_at_ten_deviations() -> None:
    normaliser = make_normaliser()
    far = torch.tensor([10.5, -10.5, 9.5, -1e6]).expand(3, 2, -1)
    assert normaliser.obs(far)[0, 0].tolist() == pytest.approx([10.0, -10.0, 9.5, -10.0])
    constant = torch.full((3, STEPS, ENVS, N_OBS), 5.0)  # a column that does not vary
    window = replace(make_windows(1)[0], obs=constant, next_obs=constant)
    for _ in range(3):
        assert normaliser.batch(window).obs.isfinite().all()
    assert normaliser.obs(constant).abs().max() < 0.1
    assert (normaliser.obs(constant + 1.0) == 10).all()


def rewards_by_hand(windows: list[Batch], k: int, gamma: float) -> list[np.ndarray]:
    """Each window's rewards (T, E) over the deviation of all discounted sums to its end."""
    ret, sums, out = np.zeros(ENVS), [], []
    for window in windows:
        reward = window.reward[k].double().numpy()
        ends = (window.terminated[k] + window.truncated[k]).numpy() > 0
        for t in range(STEPS):
            for e in range(ENVS):
                ret[e] = gamma * ret[e] + reward[t, e]
                sums.append(ret[e])
                if ends[t, e]:
                    ret[e] = 0.0
        n, x = len(sums), np.array(sums)
        mean = x.sum() / (n + 1e-4)
        var = (((x - mean) ** 2).sum() + 1e-4 * (1 + mean**2)) / (n + 1e-4)
        out.append((reward / np.sqrt(var + 1e-8)).clip(-10, 10))
    return out


@pytest.mark.parametrize("gamma", [0.0, GAMMA, 1.0])
def test_rewards_by_hand(gamma: float) -> None:
    """Sums go on from window to window and begin again after an end of either kind; the variance takes the
    window in before it is used; the mean stays in the rewards."""
    normaliser, windows = make_normaliser(gamma), make_windows(6)
    seen = [normaliser.batch(window).reward for window in windows]
    flags = [
        sum(int((getattr(w, name)[:, :-1] > 0).sum()) for w in windows)
        for name in ("terminated", "truncated")
    ]
    assert min(flags) > 3
    for k in range(len(SEEDS)):
        for ours, theirs in zip(seen, rewards_by_hand(windows, k, gamma), strict=True):
            np.testing.assert_allclose(ours[k], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("flag", ["terminated", "truncated"])
def test_an_end_of_either_kind_ends_the_sum(flag: str) -> None:
    """At a window's last step: the next window begins at 0 in that environment, and in no other."""
    normaliser, (first, second) = make_normaliser(), make_windows(2)
    zero, end = torch.zeros_like(first.reward), torch.zeros_like(first.reward)
    end[:, -1, 0] = 1.0
    first = replace(first, **({"terminated": zero, "truncated": zero} | {flag: end}))
    normaliser.batch(first)
    assert (normaliser.ret[:, 0] == 0).all()
    expected = sum(GAMMA ** (STEPS - 1 - t) * first.reward[:, t, 1] for t in range(STEPS))
    torch.testing.assert_close(normaliser.ret[:, 1], expected)
    normaliser.batch(replace(second, terminated=zero, truncated=zero))
    alone = sum(GAMMA ** (STEPS - 1 - t) * second.reward[:, t, 0] for t in range(STEPS))
    torch.testing.assert_close(normaliser.ret[:, 0], alone)


def test_rewards_are_cut_at_ten() -> None:
    normaliser, (window, other) = make_normaliser(), make_windows(2)
    long = window.map(lambda x: x.repeat(1, 400, *[1] * (x.dim() - 2)))
    normaliser.batch(long)  # so much that some that are far larger do not set the scale
    reward = other.reward.clone()
    reward[:, 2, 0], reward[:, 3, 1] = 1e4, -1e4
    seen = normaliser.batch(replace(other, reward=reward)).reward
    assert (seen[:, 2, 0] == 10).all()
    assert (seen[:, 3, 1] == -10).all()
    assert (seen.abs() == 10).sum() == 2 * len(SEEDS)


class Tape(gymnasium.Env):
    """Plays rewards and ends that were written before."""

    observation_space, action_space = spaces.Box(-1, 1, (1,)), spaces.Discrete(2)

    def __init__(self, reward: Tensor, terminated: Tensor, truncated: Tensor):
        self.columns = [x.tolist() for x in (reward, terminated, truncated)]
        self.t = 0

    def reset(self, **kwargs: object) -> tuple[np.ndarray, dict]:
        return np.zeros(1, np.float32), {}

    def step(self, action: object) -> tuple[np.ndarray, float, bool, bool, dict]:
        reward, terminated, truncated = (column[self.t] for column in self.columns)
        self.t += 1
        return np.zeros(1, np.float32), reward, terminated > 0, truncated > 0, {}


def test_rewards_in_windows_of_one_step_are_stable_baselines() -> None:
    """VecNormalize scales each step by the sums so far, that step's included; we scale a window by those to
    its end. In windows of one step that is the same."""
    (window,) = make_windows(1, steps=80)
    normaliser = make_normaliser()
    parts = [window.map(lambda x: x[:, t : t + 1]) for t in range(80)]
    seen = torch.cat([normaliser.batch(part).reward for part in parts], 1)
    for k in range(len(SEEDS)):
        tapes = [
            Tape(window.reward[k, :, e], window.terminated[k, :, e], window.truncated[k, :, e])
            for e in range(ENVS)
        ]
        theirs = VecNormalize(
            DummyVecEnv([lambda tape=tape: tape for tape in tapes]), norm_obs=False, gamma=GAMMA
        )
        theirs.reset()
        for t in range(80):
            reward = theirs.step(np.zeros(ENVS, np.int64))[1]
            np.testing.assert_allclose(seen[k, t], reward, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(normaliser.return_moments.var[k], theirs.ret_rms.var, rtol=1e-4)
        np.testing.assert_allclose(normaliser.ret[k], theirs.returns, rtol=1e-4)
    assert not torch.allclose(seen, make_normaliser().batch(window).reward, rtol=1e-2)


def test_packing_normaliser() -> None:
    """Three windows: every number that comes out or stays, and one seed's NaN stays with it."""

    def compute(seeds: list[int], corrupt: int = -1) -> dict[str, Tensor]:
        normaliser, out = Normaliser(Streams(seeds, "init"), 3, 2, 0.9, True), {}
        for i in range(3):
            flags = [(numbers(seeds, 7, 2, purpose=f"{name} {i}") > 1).float() for name in ("end", "cut")]
            obs, successor = (numbers(seeds, 7, 2, 3, purpose=f"{name} {i}") for name in ("obs", "next"))
            reward = numbers(seeds, 7, 2, purpose=f"reward {i}")
            if corrupt >= 0:
                obs[corrupt], reward[corrupt] = torch.nan, torch.inf
            seen = normaliser.batch(Batch(obs, reward, reward, successor, *flags))
            out |= {f"{name} {i}": getattr(seen, name) for name in ("obs", "next_obs", "reward")}
        return out | normaliser.state_dict()

    check_packing(compute)
    sound, bad = compute([0, 1, 2]), compute([0, 1, 2], 1)
    for name in sound:
        assert torch.equal(sound[name][[0, 2]], bad[name][[0, 2]])


# ---- in the algorithms -------------------------------------------------------------------------------------


def agent_with(module: ModuleType, space: spaces.Space, on: bool = True, **settings: object) -> object:
    envs = "workers" if module is a3c else "envs"
    small = {envs: ENVS, "steps": STEPS, "gamma": GAMMA, "normalise": on}
    if module in (ppo, trpo):
        small |= {"minibatch": STEPS * ENVS}
    return make_agent(module, space, **(small | settings))


def acting_policy(module: ModuleType, agent: object) -> object:
    return agent.worker_policy if module is a3c else agent.policy


def act_window(agent: object, window: Batch, rng: Streams) -> Batch:
    """The window with the actions that the agent draws in it."""
    actions = [agent.act(window.obs[:, t], rng, True, 0.0)[0] for t in range(STEPS)]
    return replace(window, action=torch.stack(actions, 1))


def by_step(x: Tensor, module: ModuleType) -> Tensor:
    """What an update evaluates, as (S, T, E, ...): A3C has (S E, T, 1, ...), TRPO (S, T E, ...)."""
    if module is a3c:
        return x.squeeze(2).unflatten(0, (-1, ENVS)).transpose(1, 2)
    return x.unflatten(1, (STEPS, ENVS)) if module is trpo else x


@EACH
def test_acting_and_learning_see_the_same(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log-probability that the update finds first for each action is that of the noise it was made of,
    though the moments have moved by the time; also in an agent that has not yet seen anything."""
    agent = agent_with(module, CONTINUOUS)
    policy, found = acting_policy(module, agent), []
    evaluate = policy.evaluate

    def spy(obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        out = evaluate(obs, action)
        found.append((obs, action, out[0].detach()))
        return out

    monkeypatch.setattr(policy, "evaluate", spy)
    rng, noise_rng, learn = Streams(SEEDS, "act"), Streams(SEEDS, "act"), Streams(SEEDS, "learn")
    parts = []
    for window in make_windows(4):
        before = normal_form(window.obs, parts)
        log_std = policy.log_std.value.detach().clone().view(3, -1, 2)  # (S, 1 or W, A)
        window = act_window(agent, window, rng)
        found.clear()
        agent.update(window, learn, 0.0)
        obs, action, logp = (by_step(x, module) for x in found[0])
        np.testing.assert_allclose(obs, before, rtol=1e-4, atol=1e-4)
        assert torch.equal(action, window.action)
        noise = torch.stack([noise_rng.normal(ENVS, 2) for _ in range(STEPS)], 1)
        expected = (-0.5 * noise**2 - log_std[:, None] - 0.5 * np.log(2 * np.pi)).sum(-1)
        torch.testing.assert_close(logp, expected, rtol=1e-4, atol=1e-4)
        parts.append(window.obs)
        assert not np.allclose(agent.normaliser.obs(window.obs), before, atol=1e-3)  # too late for it now


@BOTH_KINDS
def test_ppo_begins_at_ratio_one(space: spaces.Space) -> None:
    """One minibatch that is the whole window: no divergence, nothing clipped, though the moments move."""
    agent = agent_with(ppo, space, epochs=1)
    rng, learn = Streams(SEEDS, "act"), Streams(SEEDS, "learn")
    for window in make_windows(3, space):
        moments = agent.normaliser.obs_moments.mean.clone()
        metrics = agent.update(act_window(agent, window, rng), learn, 0.0)
        assert not torch.allclose(agent.normaliser.obs_moments.mean, moments, rtol=1e-3)
        assert metrics["approx_kl"].abs().max() < 1e-8
        assert (metrics["clip_fraction"] == 0).all()


@EACH
@BOTH_KINDS
def test_acting_changes_no_moments(module: ModuleType, space: spaces.Space) -> None:
    """In training and in evaluation, whose observations are seen by the same moments; an update does."""
    agent, learn = agent_with(module, space), Streams(SEEDS, "learn")
    parts: list[Tensor] = []
    for window in make_windows(3, space):
        state = copy.deepcopy(agent.normaliser.state_dict())
        act_window(agent, window, Streams(SEEDS, "act"))
        for explore in (True, False):
            agent.act(window.obs[:, 0], Streams(SEEDS, "eval", 7), explore, 0.5)
        greedy, _ = agent.act(window.obs[:, 0], Streams(SEEDS, "eval", 7), False, 0.5)
        seen = torch.from_numpy(normal_form(window.obs[:, 0], parts)).float()
        expected = agent.policy.act(seen, None, False).detach()
        torch.testing.assert_close(greedy, expected, rtol=1e-3, atol=1e-3)
        for name, tensor in agent.normaliser.state_dict().items():
            assert torch.equal(tensor, state[name])
        agent.update(window, learn, 0.0)
        parts.append(window.obs)
        mean, var = exact(parts)
        np.testing.assert_allclose(agent.normaliser.obs_moments.mean.numpy(), mean, rtol=1e-9)
        np.testing.assert_allclose(agent.normaliser.obs_moments.var.numpy(), var, rtol=1e-9)


@EACH
@BOTH_KINDS
def test_an_update_is_that_of_the_normalised_window(module: ModuleType, space: spaces.Space) -> None:
    """With the normaliser on: what an agent without one makes of observations, successors and rewards that
    were normalised beforehand. So nothing in the update sees them raw."""
    on, off = agent_with(module, space), agent_with(module, space, on=False)
    normaliser = make_normaliser()
    streams = Streams(SEEDS, "learn"), Streams(SEEDS, "learn")
    for window in make_windows(3, space):
        ours = on.update(window, streams[0], 0.25)
        theirs = off.update(normaliser.batch(window), streams[1], 0.25)
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, tensor in off.state_dict().items():
        assert torch.equal(on.state_dict()[name], tensor)


NAMES = {f"{prefix}/{name}" for prefix in ("normaliser", "reward_scale") for name in ("mean", "var", "count")}


@EACH
def test_off_is_as_if_it_were_not_there(module: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same objects come out, nothing is counted and nothing is saved."""
    agent, on = agent_with(module, DISCRETE, on=False), agent_with(module, DISCRETE)
    (window,) = make_windows(1, DISCRETE)
    assert agent.normaliser.batch(window) is window
    assert agent.normaliser.obs(window.obs) is window.obs
    assert set(on.state_dict()) - set(agent.state_dict()) == NAMES | {"reward_scale/ret"}
    assert set(agent.state_dict()) < set(on.state_dict())
    assert module.Config().normalise is False

    def never(self: Moments, x: Tensor) -> None:
        raise AssertionError("moments of nothing")

    monkeypatch.setattr(Moments, "update", never)
    act_window(agent, window, Streams(SEEDS, "act"))
    agent.update(window, Streams(SEEDS, "learn"), 0.0)
    agent.load_state_dict(agent.state_dict())


@EACH
@BOTH_KINDS
def test_state_continues(module: ModuleType, space: spaces.Space) -> None:
    """Saved after two windows, loaded elsewhere: the same actions, metrics and state from there, bit for bit;
    the one that was saved may go on meanwhile."""
    first, second = agent_with(module, space), agent_with(module, space)
    windows = make_windows(5, space)
    learn, act = Streams(SEEDS, "learn"), Streams(SEEDS, "act")
    for window in windows[:2]:
        first.update(act_window(first, window, act), learn, 0.0)
    state, streams = first.state_dict(), [copy.deepcopy(s.state_dict()) for s in (learn, act)]
    assert all(len(tensor) == len(SEEDS) for tensor in state.values())
    second.update(windows[4], Streams(SEEDS, "other"), 0.0)  # what it did before does not matter
    second.load_state_dict(state)
    other_learn, other_act = Streams(SEEDS, "learn"), Streams(SEEDS, "act")
    other_learn.load_state_dict(streams[0])
    other_act.load_state_dict(streams[1])
    for agent, rngs in ((first, (learn, act)), (second, (other_learn, other_act))):
        agent.seen = []
        for window in windows[2:]:
            window = act_window(agent, window, rngs[1])
            agent.seen.append({"action": window.action} | agent.update(window, rngs[0], 0.5))
    for ours, theirs in zip(first.seen, second.seen, strict=True):
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    for name, tensor in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], tensor), name
        assert tensor.dtype == second.state_dict()[name].dtype


def test_preference_can_be_differentiated_after_acting() -> None:
    """Acting makes numbers in inference mode, which autograd would refuse; new moments are taken at once."""
    agent, window = agent_with(ppo, CONTINUOUS), make_windows(1)[0]
    agent.act(window.obs[:, 0], Streams(SEEDS, "act"), True, 0.0)
    obs = window.obs[:, 0].clone().requires_grad_()
    before = agent.preference(obs)
    (grad,) = torch.autograd.grad(before.sum(), obs)
    assert (grad != 0).any()
    agent.normaliser.batch(window)
    assert not torch.equal(agent.preference(obs), before)

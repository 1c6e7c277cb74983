"""A3C's equations and its schedule, against float64 autograd, plain numpy and A2C."""

from collections.abc import Callable
from math import factorial

import numpy as np
import pytest
import scipy.stats
import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms import a2c, a3c
from ascent.algorithms.seedwise import Batch, Streams
from ascent.runners.resolve import resolve
from ascent.runners.trainer import Trainer
from tests.algorithms.test_equations import (
    BOTH_KINDS,
    CONTINUOUS,
    DISCRETE,
    GAMMA,
    N_OBS,
    OBS,
    SEEDS,
    lambda_returns,
    make_agent,
    make_batch,
    split,
)
from tests.algorithms.test_trpo import distribution, network

STEPS, WORKERS, HIDDEN = 5, 3, (6,)


def make_workers(space: spaces.Space, **settings: object) -> a3c.Agent:
    """Every worker's copy is another one, and none is what is shared."""
    given = {"hidden": HIDDEN, "workers": WORKERS, "steps": STEPS, "gamma": GAMMA}
    agent = make_agent(a3c, space, **(given | settings))
    copies = agent.state_dict()["workers/params"]
    copies += 0.3 * Streams(SEEDS, "workers").normal(*copies.shape[1:])
    return agent


def make_windows(space: spaces.Space, n: int, workers: int = WORKERS, steps: int = STEPS) -> list[Batch]:
    batch = make_batch((n * steps, workers), space)
    return [batch.map(lambda x: x[:, i : i + steps]) for i in range(0, n * steps, steps)]


def copies_of(agent: a3c.Agent) -> Tensor:
    """(S, W, P) as they are now."""
    return agent.worker_params.matrix.view(len(agent.learned.params.matrix), agent.config.workers, -1).clone()


# ---- the gradient, again: one worker's window, plain float64 torch, from one row of parameters -------------

Parts = dict[str, Tensor]


def window_parts(row: Tensor, window: Batch, k: int, w: int, space: spaces.Space, lam: float) -> Parts:
    """The sums over time of what the loss is made of, for worker w of seed k with these parameters."""
    one = window.map(lambda x: x[k : k + 1, :, w : w + 1])
    obs, next_obs = one.obs[0, :, 0].double(), one.next_obs[0, :, 0].double()
    policy, rest = distribution(row, obs, space, HIDDEN)
    value = network(rest, (N_OBS, *HIDDEN, 1), obs)[0][:, 0]
    with torch.no_grad():
        next_value = network(rest, (N_OBS, *HIDDEN, 1), next_obs)[0][:, 0]
        ret = torch.from_numpy(lambda_returns(one, next_value[None, :, None], GAMMA, lam))[0, :, 0]
    logp = policy.log_prob(one.action[0, :, 0])
    return {
        "policy_loss": -(logp * (ret - value.detach())).sum(),
        "value_loss": (ret - value).square().sum(),
        "entropy": policy.entropy().sum(),
    }


def window_gradient(row: Tensor, window: Batch, k: int, w: int, space: spaces.Space, c: a3c.Config) -> Tensor:
    """Of the loss: -d theta, not limited."""
    row = row.double().requires_grad_()
    parts = window_parts(row, window, k, w, space, c.lam)
    ascent = -parts["policy_loss"] + c.entropy_coef * parts["entropy"] - c.value_coef * parts["value_loss"]
    return -torch.autograd.grad(ascent, row)[0] / (1 if c.reduction == "sum" else STEPS)


@BOTH_KINDS
@pytest.mark.parametrize("value_coef, entropy_coef", [(0.0, 0.0), (0.7, 0.0), (0.0, 0.3), (0.7, 0.3)])
@pytest.mark.parametrize("reduction, lam", [("sum", 1.0), ("mean", 1.0), ("mean", 0.7)])
def test_gradient_by_autograd(
    space: spaces.Space, value_coef: float, entropy_coef: float, reduction: str, lam: float
) -> None:
    """Each worker's own, at its own copy: over time, with more entropy and less error downhill."""
    settings = {"value_coef": value_coef, "entropy_coef": entropy_coef, "reduction": reduction, "lam": lam}
    agent = make_workers(space, max_grad_norm=1e6, **settings)
    (window,), copies, gradients = make_windows(space, 1), copies_of(agent), []
    agent.learned.optimiser.step = lambda gradient, rate: gradients.append(gradient)
    metrics = agent.update(window, Streams(SEEDS, "learn"), 0.0)
    order = Streams(SEEDS, "learn").permutation(WORKERS)
    for k in range(len(SEEDS)):
        norms, parts = [], []
        for gradient, w in zip(gradients, order[k].tolist(), strict=True):
            expected = window_gradient(copies[k, w], window, k, w, space, agent.config)
            torch.testing.assert_close(gradient[k].double(), expected, rtol=1e-4, atol=1e-5)
            norms.append(float(expected.norm()))
            parts.append(window_parts(copies[k, w].double(), window, k, w, space, lam))
            of_value = split(agent, gradient)[1][k]  # the policy's loss does not get there
            assert (of_value == 0).all() == (value_coef == 0)
        np.testing.assert_allclose(metrics["grad_norm"][k], np.mean(norms), rtol=1e-4)
        for name in ("policy_loss", "value_loss", "entropy"):  # means over time and workers
            mean = np.mean([float(part[name].detach()) / STEPS for part in parts])
            np.testing.assert_allclose(metrics[name][k], mean, rtol=1e-4, atol=1e-5)


# ---- the shared parameters ---------------------------------------------------------------------------------


class Numpy:
    """Section 4's RMSProp with shared statistics, and the round of workers, in float64."""

    def __init__(self, agent: a3c.Agent):
        self.c = agent.config
        self.theta, self.copies = (
            agent.learned.params.matrix.double().numpy(),
            copies_of(agent).double().numpy(),
        )
        self.inside = agent.config.rmsprop == "tensorflow"  # eps, of the root
        self.g = np.full_like(self.theta, float(self.inside))
        self.clipped: list[bool] = []

    def round(self, window: Batch, order: np.ndarray, space: spaces.Space, rate: float) -> None:
        c = self.c
        for k in range(len(self.theta)):
            for w in order[k]:
                copy = torch.from_numpy(self.copies[k, w].copy())
                d = window_gradient(copy, window, k, int(w), space, c).numpy()
                norm = np.sqrt((d**2).sum())
                self.clipped.append(norm > c.max_grad_norm)
                d = d * min(1.0, c.max_grad_norm / norm)
                self.g[k] = c.rms_decay * self.g[k] + (1 - c.rms_decay) * d**2
                g, eps = self.g[k], c.rms_eps
                root = np.sqrt(g + eps) if self.inside else np.sqrt(g) + eps
                self.theta[k] = self.theta[k] - rate * d / root
                self.copies[k, w] = self.theta[k]


@BOTH_KINDS
@pytest.mark.parametrize(
    "rmsprop, reduction, max_grad_norm",
    [("tensorflow", "sum", 12.0), ("tensorflow", "sum", 1e6), ("torch", "mean", 2.4), ("torch", "sum", 1e6)],
)
def test_rounds_by_numpy(space: spaces.Space, rmsprop: str, reduction: str, max_grad_norm: float) -> None:
    """Five rounds: the shared parameters and statistics, and what every worker copied when it arrived."""
    settings = {"learning_rate": 0.02, "rms_decay": 0.9, "rms_eps": 0.01, "max_grad_norm": max_grad_norm}
    settings |= {"rmsprop": rmsprop, "reduction": reduction, "anneal": True}
    agent = make_workers(space, entropy_coef=0.1, value_coef=0.7, **settings)
    twin, start = Numpy(agent), agent.learned.params.matrix.clone()
    rng, orders = Streams(SEEDS, "learn"), Streams(SEEDS, "learn")
    for i, window in enumerate(make_windows(space, 5)):
        progress = i / 10
        agent.update(window, rng, progress)
        twin.round(window, orders.permutation(WORKERS).numpy(), space, 0.02 * (1 - progress))
        for ours, theirs in (
            (agent.learned.params.matrix, twin.theta),
            (agent.learned.optimiser.g, twin.g),
            (copies_of(agent), twin.copies),
        ):
            np.testing.assert_allclose(ours.numpy(), theirs, rtol=2e-4, atol=2e-5)
    assert (agent.learned.params.matrix - start).abs().amax(1).min() > 0.05
    assert any(twin.clipped) == (max_grad_norm < 1e6)
    assert not all(twin.clipped), "each worker's own norm counts"


def test_without_annealing_the_rate_stays() -> None:
    rates = []
    for anneal in (True, False):
        agent = make_workers(DISCRETE, anneal=anneal, learning_rate=0.5)
        agent.learned.optimiser.step = lambda gradient, rate: rates.append(rate)
        agent.update(make_windows(DISCRETE, 1)[0], Streams(SEEDS, "learn"), 0.75)
    assert rates == [0.125] * WORKERS + [0.5] * WORKERS


@BOTH_KINDS
def test_gradients_are_of_the_copies_and_move_what_is_shared(space: spaces.Space) -> None:
    """Other shared parameters, the same copies: the shared parameters move by the same, from where they are.

    Another copy of one worker: the movement is another one.
    """

    def moved(shared: float, stale: float) -> tuple[Tensor, Tensor, Tensor]:
        agent = make_workers(space)
        agent.learned.params.matrix += shared
        agent.worker_params.matrix.view(3, WORKERS, -1)[:, 1] += stale
        before = agent.learned.params.matrix.clone()
        agent.update(make_windows(space, 1)[0], Streams(SEEDS, "learn"), 0.0)
        return agent.learned.params.matrix - before, agent.learned.params.matrix, copies_of(agent)

    step, after, copies = moved(0.0, 0.0)
    torch.testing.assert_close(moved(0.5, 0.0)[0], step, rtol=1e-3, atol=1e-6)
    assert not torch.allclose(moved(0.0, 0.5)[0], step, rtol=0.1, atol=1e-4)
    last = Streams(SEEDS, "learn").permutation(WORKERS)[:, -1]
    for k in range(len(SEEDS)):
        same = [torch.equal(copy, after[k]) for copy in copies[k]]
        assert same == [w == last[k] for w in range(WORKERS)]  # the last to arrive alone has it all


def test_workers_begin_with_what_is_shared() -> None:
    agent = a3c.Agent(a3c.Config(workers=4, hidden=HIDDEN), OBS, CONTINUOUS, Streams(SEEDS, "init"), "cpu")
    copies = copies_of(agent)
    assert copies.shape == (3, 4, agent.learned.params.matrix.shape[1])
    assert torch.equal(copies, agent.learned.params.matrix[:, None].expand(-1, 4, -1))
    assert len({row.numpy().tobytes() for row in agent.learned.params.matrix}) == 3
    agent.learned.params.matrix += 1
    assert torch.equal(copies_of(agent), copies)


# ---- the schedule ------------------------------------------------------------------------------------------


def tagged(workers: int) -> tuple[a3c.Agent, Callable[[Streams], tuple[np.ndarray, np.ndarray]]]:
    """An agent whose shared parameters count the gradients that were applied, and each gradient says whose it
    is; a function that does a round: the workers in their order (S, W), and how many gradients each (S, W),
    by its number, had missed."""
    agent = make_workers(DISCRETE, workers=workers, steps=1, max_grad_norm=1e9)
    agent.learned.params.matrix.zero_()
    agent.worker_params.matrix.zero_()
    tag = torch.arange(1.0, workers + 1).repeat(len(SEEDS))[:, None]
    agent.worker_params.grad = lambda loss: tag.expand_as(agent.worker_params.matrix)
    arrived: list[Tensor] = []

    def step(gradient: Tensor, rate: float) -> None:
        arrived.append(gradient[:, 0])
        agent.learned.params.matrix.add_(1)

    agent.learned.optimiser.step = step
    window = make_windows(DISCRETE, 1, workers, 1)[0]

    def one_round(rng: Streams) -> tuple[np.ndarray, np.ndarray]:
        had, applied = copies_of(agent)[..., 0].numpy(), int(agent.learned.params.matrix[0, 0])
        arrived.clear()
        agent.update(window, rng, 0.0)
        order = torch.stack(arrived, 1).long().numpy() - 1
        position = order.argsort(1)
        return order, applied + position - had

    return agent, one_round


def test_order_is_a_permutation_of_the_seeds_own() -> None:
    """Drawn from the update's stream: another one each round and each seed, all equally often."""
    _, one_round = tagged(3)
    rng, stream = Streams(SEEDS, "learn"), Streams(SEEDS, "learn")
    orders = np.stack([one_round(rng)[0] for _ in range(400)])  # (round, seed, place)
    assert (np.sort(orders, 2) == np.arange(3)).all()
    assert (orders == np.stack([stream.permutation(3).numpy() for _ in range(400)])).all()
    names = orders @ np.array([9, 3, 1])
    for k in range(len(SEEDS)):
        counts = np.unique(names[:, k], return_counts=True)[1]
        assert len(counts) == factorial(3)
        assert scipy.stats.chisquare(counts).pvalue > 1e-3
        assert 0.7 < (names[1:, k] != names[:-1, k]).mean() < 0.95  # 5/6: a new order each round
        assert 0.7 < (names[:, k] != names[:, k - 1]).mean() < 0.95


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_staleness(workers: int) -> None:
    """0 to 2 (W - 1) gradients, W - 1 on average, as the file says; in the first round none from before."""
    _, one_round = tagged(workers)
    rng = Streams(SEEDS, "learn")
    order, missed = one_round(rng)
    assert (np.take_along_axis(missed, order, 1) == np.arange(workers)).all()
    missed = np.stack([one_round(rng)[1] for _ in range(150)])
    assert (missed.min(), missed.max()) == (0, 2 * (workers - 1))
    if workers > 1:
        assert abs(missed.mean() - (workers - 1)) < 4 * missed.std() / (150 * len(SEEDS)) ** 0.5


# ---- acting ------------------------------------------------------------------------------------------------


def expected_actions(rows: Tensor, obs: Tensor, noise: Tensor, space: spaces.Space) -> Tensor:
    """Of each worker (S, W), by its row (S, W, P), and its noise (S, W, 1) or (S, W, A)."""
    out = []
    for k, w in np.ndindex(*rows.shape[:2]):
        policy, _ = distribution(rows[k, w].double(), obs[k, w][None].double(), space, HIDDEN)
        if isinstance(space, spaces.Discrete):
            out.append((noise[k, w] > policy.probs[0].cumsum(0)[:-1]).sum())
        else:
            out.append((policy.mean + policy.base_dist.scale * noise[k, w])[0].float())
    return torch.stack(out).view(*rows.shape[:2], *out[0].shape)


@BOTH_KINDS
def test_workers_act_with_their_copies(space: spaces.Space) -> None:
    """Before the first update, after one and after two; and nothing in acting renews a copy."""
    agent, rng, stream = make_workers(space, learning_rate=0.2), Streams(SEEDS, "act"), Streams(SEEDS, "act")
    learn = Streams(SEEDS, "learn")
    for window in make_windows(space, 3):
        copies, shared = copies_of(agent), agent.learned.params.matrix[:, None].expand(-1, WORKERS, -1)
        others = 0
        for obs in make_batch((30, WORKERS), space).obs.unbind(1):
            noise = stream.uniform(WORKERS, 1) if space is DISCRETE else stream.normal(WORKERS, 2)
            action, carry = agent.act(obs, rng, True, 0.0)
            expected = expected_actions(copies, obs, noise, space)
            assert (action.shape, action.dtype, carry) == (expected.shape, expected.dtype, None)
            torch.testing.assert_close(action, expected)
            others += int((expected_actions(shared, obs, noise, space) != action).sum())
        assert others > 10  # the shared parameters would have acted otherwise
        assert torch.equal(copies_of(agent), copies)
        agent.update(window, learn, 0.0)


@BOTH_KINDS
@pytest.mark.parametrize("envs", [WORKERS, 1, 7])
@pytest.mark.parametrize("explore", [True, False])
def test_evaluation_is_of_what_is_shared(space: spaces.Space, envs: int, explore: bool) -> None:
    """However many environments there are: as many as workers, too."""
    agent, obs = make_workers(space), make_batch((envs,), space).obs
    ours, _ = agent.act(obs, Streams(SEEDS, "eval", 40), explore, 0.5)
    theirs = agent.policy.act(obs, Streams(SEEDS, "eval", 40), explore)
    torch.testing.assert_close(ours, theirs.detach())
    if envs == WORKERS:
        copies, _ = agent.act(obs, Streams(SEEDS, "act", 40), True, 0.5)
        assert not torch.equal(ours, copies)
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    agent.act(obs, Streams(SEEDS, "eval", 41), explore, 0.5)
    assert all(torch.equal(before[name], tensor) for name, tensor in agent.state_dict().items())


@BOTH_KINDS
def test_workers_of_one_mind_act_as_one_policy(space: spaces.Space) -> None:
    """The copies being equal: the same numbers, dealt in the same order, as A2C's environments."""
    config = {"hidden": HIDDEN, "steps": STEPS}
    one = a2c.Agent(a2c.Config(envs=WORKERS, **config), OBS, space, Streams(SEEDS, "init"), "cpu")
    many = a3c.Agent(a3c.Config(workers=WORKERS, **config), OBS, space, Streams(SEEDS, "init"), "cpu")
    assert torch.equal(one.learned.params.matrix, many.learned.params.matrix)
    streams = Streams(SEEDS, "act"), Streams(SEEDS, "act")
    for t in range(10):
        obs = Streams(SEEDS, "obs", t).normal(WORKERS, N_OBS)
        torch.testing.assert_close(one.act(obs, streams[0], True, 0.0), many.act(obs, streams[1], True, 0.0))


# ---- A2C but for the schedule ------------------------------------------------------------------------------


def run_both(
    space: spaces.Space, steps: int, times: float, reduction: str, updates: int = 12, **settings: object
) -> tuple[a2c.Agent, a3c.Agent, Tensor]:
    """A2C in one environment, its gradient multiplied, and A3C with one worker live the same life: what they
    see next depends on what they did. Returns A2C's gradients' norms (updates, S) too."""
    shared = {"steps": steps, "hidden": HIDDEN, "gamma": GAMMA, "learning_rate": 0.01} | settings
    first = make_agent(a2c, space, envs=1, **shared)
    second = make_agent(a3c, space, workers=1, reduction=reduction, **shared)
    second.worker_params.matrix.copy_(second.learned.params.matrix)
    grad = first.learned.params.grad
    first.learned.params.grad = lambda loss: times * grad(loss)
    streams = {agent: (Streams(SEEDS, "act"), Streams(SEEDS, "learn")) for agent in (first, second)}
    norms = []
    for update in range(updates):
        for agent, (act, learn) in streams.items():
            window = make_windows(space, updates, 1, steps)[update]
            for t in range(steps):
                obs = window.obs[:, t]
                if t > 0:
                    obs += torch.tanh(window.action[:, t - 1].float()).view(3, 1, -1).mean(2, keepdim=True)
                window.action[:, t], _ = agent.act(obs, act, True, update / updates)
            metrics = agent.update(window, learn, update / updates)
            if agent is first:
                norms.append(metrics["grad_norm"])
    return first, second, torch.stack(norms)


@BOTH_KINDS
@pytest.mark.parametrize("rmsprop, lam", [("torch", 1.0), ("tensorflow", 0.8)])
def test_one_worker_is_a2c(space: spaces.Space, rmsprop: str, lam: float) -> None:
    """Bit for bit, with the mean over time: some gradients are clipped and some are not."""
    limit = 1.0 if space is DISCRETE else 3.0
    settings = {"rmsprop": rmsprop, "lam": lam, "entropy_coef": 0.02, "max_grad_norm": limit, "anneal": True}
    first, second, norms = run_both(space, STEPS, 1.0, "mean", **settings)
    assert 0 < (norms > limit).float().mean() < 1
    start = make_agent(a2c, space, hidden=HIDDEN).learned.params.matrix
    assert (first.learned.params.matrix - start).abs().amax(1).min() > 0.005
    assert torch.equal(first.learned.params.matrix, second.learned.params.matrix)
    assert torch.equal(first.learned.params.matrix, second.worker_params.matrix)
    assert torch.equal(first.learned.optimiser.g, second.learned.optimiser.g)


@BOTH_KINDS
def test_one_worker_is_a2c_with_a_sum_over_time(space: spaces.Space) -> None:
    """Bit for bit: a window of 8 makes the mean's gradient an eighth of the sum's, which rounds nothing."""
    settings = {"max_grad_norm": 40.0, "rms_eps": 0.1, "value_coef": 0.25, "entropy_coef": 0.02}
    settings["rmsprop"] = "tensorflow"
    first, second, _ = run_both(space, 8, 8.0, "sum", **settings)
    assert torch.equal(first.learned.params.matrix, second.learned.params.matrix)
    assert torch.equal(first.learned.optimiser.g, second.learned.optimiser.g)
    plain, _, _ = run_both(space, 8, 1.0, "sum", **settings)
    assert not torch.allclose(plain.learned.params.matrix, second.learned.params.matrix, atol=1e-3)


@BOTH_KINDS
def test_without_the_schedule_workers_are_a2c(space: spaces.Space) -> None:
    """Equal copies: the mean of the workers' gradients is the gradient that A2C takes on the same window."""
    shared = {"steps": STEPS, "hidden": HIDDEN, "gamma": GAMMA, "entropy_coef": 0.02, "max_grad_norm": 1e6}
    one = make_agent(a2c, space, envs=WORKERS, **shared)
    many = make_agent(a3c, space, workers=WORKERS, **shared)
    many.worker_params.matrix.copy_(many.learned.params.matrix.repeat_interleave(WORKERS, 0))
    taken: dict[object, list[Tensor]] = {}
    for agent in (one, many):
        steps = taken[agent] = []
        agent.learned.optimiser.step = lambda gradient, rate, steps=steps: steps.append(gradient)
        agent.update(make_windows(space, 1)[0], Streams(SEEDS, "learn"), 0.0)
    assert (len(taken[one]), len(taken[many])) == (1, WORKERS)
    torch.testing.assert_close(torch.stack(taken[many]).mean(0), taken[one][0], rtol=1e-4, atol=1e-6)


CLASSIC = ("CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1", "MountainCarContinuous-v0")
MUJOCO = ("HalfCheetah-v5", "Hopper-v5", "Swimmer-v5", "InvertedPendulum-v5", "Pusher-v5")


@pytest.mark.parametrize("task", CLASSIC + MUJOCO)
def test_default_preset_is_a2cs(task: str) -> None:
    """A2C's default on classic control; on MuJoCo A2C's `parallel`, the default with 16 environments."""
    ours = dict(resolve("a3c", task).config)
    assert ours.pop("reduction") == "mean"
    theirs = dict(resolve("a2c", task, preset="zoo" if task in CLASSIC else "parallel").config)
    assert resolve("a2c", task).preset == "zoo"
    workers = ours.pop("workers")
    assert workers == theirs.pop("envs") > 1
    assert ours == theirs
    if task in MUJOCO:
        assert workers == 16
        assert theirs | {"envs": 1} == resolve("a2c", task).config


@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "Swimmer-v5", "CartPole-v1"])
def test_one_worker_trains_as_a2c(task: str) -> None:
    """In the runner, with the default presets: the same bits after 200 updates, and the same evaluations."""
    trainers = [
        Trainer(resolve(system, task, overrides={name: 1}, steps=1_000), SEEDS)
        for system, name in (("a2c", "envs"), ("a3c", "workers"))
    ]
    for trainer in trainers:
        while trainer.step < 1_000:
            trainer.advance()
        assert trainer.updates == 200
    one, many = (trainer.agent.learned for trainer in trainers)
    assert torch.equal(one.params.matrix, many.params.matrix)
    assert torch.equal(one.optimiser.g, many.optimiser.g)
    fresh = resolve("a2c", task, overrides={"envs": 1}, steps=1_000)
    assert not torch.equal(one.params.matrix, Trainer(fresh, SEEDS).agent.learned.params.matrix)

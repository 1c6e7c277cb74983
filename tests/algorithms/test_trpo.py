"""TRPO's equations, against linear algebra, float64 autograd, closed forms and Stable-Baselines3-contrib."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import sb3_contrib
import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms import trpo
from ascent.algorithms.seedwise import Streams, standardise
from ascent.algorithms.trpo import conjugate_gradient
from tests.algorithms.test_equations import (
    BOTH_KINDS,
    CONTINUOUS,
    DISCRETE,
    GAMMA,
    LAM,
    N_OBS,
    SEEDS,
    fill_rollout,
    make_agent,
    make_batch,
    read_columns,
    same_step,
    sb3_columns,
    sb3_model,
    write_columns,
)

HIDDEN = (6,)  # few enough parameters for the whole Fisher matrix
PAPER = {"kl": "old_new", "per_dimension": False}
CONTRIB = {"kl": "new_old", "per_dimension": True}  # as in Stable-Baselines3-contrib
CONVENTIONS = pytest.mark.parametrize(
    "convention", [PAPER, CONTRIB, PAPER | {"kl": "new_old"}], ids=["paper", "contrib", "new_old"]
)


# ---- the same policy again, in plain float64 torch, from one seed's row of parameters ----------------------


def network(row: Tensor, sizes: tuple[int, ...], x: Tensor) -> tuple[Tensor, Tensor]:
    """The output of tanh layers whose parameters the row begins with, and what is left of the row."""
    for n_in, n_out in pairwise(sizes[:-1]):
        x, row = layer(row, n_in, n_out, x)
        x = x.tanh()
    return layer(row, sizes[-2], sizes[-1], x)


def layer(row: Tensor, n_in: int, n_out: int, x: Tensor) -> tuple[Tensor, Tensor]:
    end = n_in * n_out
    return x @ row[:end].view(n_in, n_out) + row[end : end + n_out], row[end + n_out :]


def distribution(
    row: Tensor, obs: Tensor, space: spaces.Space, hidden: tuple[int, ...] = HIDDEN
) -> tuple[torch.distributions.Distribution, Tensor]:
    """pi(.|obs), and what is left of the row."""
    discrete = isinstance(space, spaces.Discrete)
    n_out = int(space.n) if discrete else space.shape[0]
    out, rest = network(row, (obs.shape[-1], *hidden, n_out), obs)
    if discrete:
        return torch.distributions.Categorical(logits=out), rest
    normal = torch.distributions.Normal(out, rest[:n_out].exp())
    return torch.distributions.Independent(normal, 1), rest[n_out:]


def mean_kl(
    old: Tensor,
    new: Tensor,
    obs: Tensor,
    space: spaces.Space,
    hidden: tuple[int, ...] = HIDDEN,
    kl: str = "old_new",
    per_dimension: bool = False,
) -> Tensor:
    """Mean KL(old || new) or KL(new || old) of two rows of parameters, by torch.distributions."""
    rows = (old, new) if kl == "old_new" else (new, old)
    p, q = (distribution(row, obs, space, hidden)[0] for row in rows)
    if per_dimension and not isinstance(space, spaces.Discrete):
        p, q = p.base_dist, q.base_dist  # whose divergences are (B, A)
    return torch.distributions.kl_divergence(p, q).mean()


def surrogate(
    old: Tensor, new: Tensor, obs: Tensor, action: Tensor, advantage: Tensor, space: spaces.Space
) -> Tensor:
    """mean pi_new(a|s) / pi_old(a|s) A."""
    before, after = distribution(old, obs, space)[0], distribution(new, obs, space)[0]
    return ((after.log_prob(action) - before.log_prob(action)).exp() * advantage).mean()


def kl_hessian(
    row: Tensor,
    obs: Tensor,
    space: spaces.Space,
    hidden: tuple[int, ...] = HIDDEN,
    **convention: object,
) -> Tensor:
    """The Hessian of the divergence by the new parameters, at the old ones."""
    return torch.autograd.functional.hessian(
        lambda new: mean_kl(row, new, obs, space, hidden, **convention), row
    )


Data = tuple[Tensor, Tensor, Tensor]  # obs (S, B, O), action, advantage (S, B)


def make_data(space: spaces.Space, n: int = 64, purpose: str = "advantage") -> Data:
    """Standardised advantages of random actions; the purpose makes them other ones."""
    batch, scale = make_batch((n,), space), torch.tensor([0.3, 1.0, 3.0])[:, None]
    return batch.obs, batch.action, standardise(Streams(SEEDS, purpose).normal(n)) * scale


def double(k: int, data: Data) -> Data:
    """Seed k's data in float64."""
    obs, action, advantage = (x[k] for x in data)
    return obs.double(), action if action.dtype == torch.int64 else action.double(), advantage.double()


def full_step(row: Tensor, data: Data, space: spaces.Space, c: trpo.Config) -> Tensor:
    """sqrt(2 delta / x F x) x in float64, F whole and x by elimination."""
    obs, action, advantage = data
    zero = row.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(surrogate(row, zero, obs, action, advantage, space), zero)
    convention = {"kl": c.kl, "per_dimension": c.per_dimension}
    fisher = kl_hessian(row, obs, space, **convention) + c.damping * torch.eye(len(row), dtype=torch.float64)
    x = torch.linalg.solve(fisher, gradient)
    return (2 * c.delta / (x @ fisher @ x)).sqrt() * x


# ---- conjugate gradient ------------------------------------------------------------------------------------


def spd(n: int, conditions: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Random symmetric positive definite matrices (S, n, n) with these conditions, and right-hand sides."""
    rng = np.random.default_rng(n)
    q = np.linalg.qr(rng.standard_normal((len(conditions), n, n)))[0]
    eigenvalues = np.stack([np.geomspace(0.5, 0.5 * condition, n) for condition in conditions])
    return (q * eigenvalues[:, None]) @ q.transpose(0, 2, 1), rng.standard_normal((len(conditions), n))


def matrix_product(matrix: np.ndarray) -> Callable[[Tensor], Tensor]:
    matrices = torch.from_numpy(matrix)
    return lambda v: (matrices @ v[..., None])[..., 0]


@pytest.mark.parametrize("n", [1, 5, 10])
def test_conjugate_gradient_is_exact_in_as_many_steps_as_dimensions(n: int) -> None:
    """Seeds of different conditions at once; and one step fewer is not enough."""
    matrix, b = spd(n, [1.0, 5.0, 20.0, 50.0])
    b *= 1e4  # far above the squared residual of 1e-10 at which a seed stands still
    expected = np.linalg.solve(matrix, b[..., None])[..., 0]
    x = conjugate_gradient(matrix_product(matrix), torch.from_numpy(b), n)
    np.testing.assert_allclose(x.numpy(), expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    if n > 1:
        x = conjugate_gradient(matrix_product(matrix), torch.from_numpy(b), n - 1).numpy()
        assert (np.abs(x - expected).max(1)[1:] > 1e-3).all()  # condition 1 takes one step


def test_conjugate_gradient_is_the_best_in_its_subspace() -> None:
    """After m steps, x has the least energy x A x / 2 - b x of all sums of b, A b, ..., A^(m-1) b."""
    matrix, b = spd(8, [2.0, 50.0])
    for m in range(1, 7):
        x = conjugate_gradient(matrix_product(matrix), torch.from_numpy(b), m).numpy()
        for a, right, ours in zip(matrix, b, x, strict=True):
            krylov = np.linalg.qr(np.stack([np.linalg.matrix_power(a, i) @ right for i in range(m)], 1))[0]
            best = krylov @ np.linalg.solve(krylov.T @ a @ krylov, krylov.T @ right)
            np.testing.assert_allclose(ours, best, rtol=1e-5, atol=1e-5)


def test_conjugate_gradient_takes_as_many_steps_as_there_are_eigenvalues() -> None:
    q = np.linalg.qr(np.random.default_rng(1).standard_normal((12, 12)))[0]
    matrix = ((q * np.repeat([0.5, 2.0, 7.0], 4)) @ q.T)[None]
    b = np.random.default_rng(2).standard_normal((1, 12))
    error = {}
    for steps in (2, 3):
        x = conjugate_gradient(matrix_product(matrix), torch.from_numpy(b), steps).numpy()
        error[steps] = np.abs(matrix[0] @ x[0] - b[0]).max()
    assert error[3] < 1e-10 < 1e-2 < error[2]


def test_conjugate_gradient_stands_still_once_it_is_there() -> None:
    """No right-hand side, one that a single step solves, one below the threshold, one of NaN: no seed takes
    note of another, and what has converged keeps its bits however many steps follow."""
    diagonal = torch.linspace(1.0, 40.0, 20).expand(6, -1).clone()
    diagonal[1:3] = 2.0
    b = Streams([1, 2, 3, 4, 5, 6], "right").normal(20)
    b[0] = 0.0
    b[3] *= 1e-6 / b[3].norm()
    b[5] = torch.nan

    def solve(rows: list[int], steps: int) -> Tensor:
        return conjugate_gradient(lambda v: diagonal[rows] * v, b[rows], steps)

    everyone = list(range(6))
    together = solve(everyone, 30)
    assert together[:5].isfinite().all()
    assert (together[0] == 0).all()
    assert (together[3] == 0).all()  # |b|^2 is 1e-12
    torch.testing.assert_close(together[1:3], b[1:3] / 2)
    torch.testing.assert_close(together[4], b[4] / diagonal[4], rtol=1e-4, atol=1e-5)
    for k in everyone[:5]:
        assert torch.equal(solve([k], 30)[0], together[k])
    for rows in ([4, 1], [0, 4, 5], [2, 3]):
        for i, k in enumerate(rows):
            assert k == 5 or torch.equal(solve(rows, 30)[i], together[k])
    for steps in (1, 2, 100):
        assert torch.equal(solve(everyone, steps)[:4], together[:4])
    assert not torch.equal(solve(everyone, 1)[4], together[4])


# ---- the Fisher matrix -------------------------------------------------------------------------------------


def fisher_matrix(agent: trpo.Agent, obs: Tensor) -> np.ndarray:
    """(S, P, P): the product with every unit vector."""
    product, width = agent.fisher(obs), agent.policy_params.matrix.shape[1]
    columns = [product(unit.expand(len(SEEDS), -1)) for unit in torch.eye(width)]
    return torch.stack(columns, 2).double().numpy()


@BOTH_KINDS
@pytest.mark.parametrize("damping", [0.0, 0.3])
@pytest.mark.parametrize("n, hidden", [(64, HIDDEN), (9, HIDDEN), (40, (17,))], ids=str)
@pytest.mark.parametrize("per_dimension", [False, True])
def test_fisher_product_is_the_hessian_of_the_divergence(
    space: spaces.Space, damping: float, n: int, hidden: tuple[int, ...], per_dimension: bool
) -> None:
    """Of KL(old || new), and there of KL(new || old) too; symmetric, and nowhere curved downwards.

    The sizes are such that `Linear` takes each of its ways.
    """
    agent = make_agent(trpo, space, hidden=hidden, damping=damping, per_dimension=per_dimension)
    obs, rows = make_data(space, n)[0], agent.policy_params.matrix.double()
    ours = fisher_matrix(agent, obs)
    for k in range(len(SEEDS)):
        plain, reverse = (
            kl_hessian(rows[k], obs[k].double(), space, hidden, kl=kl, per_dimension=per_dimension).numpy()
            for kl in ("old_new", "new_old")
        )
        np.testing.assert_allclose(reverse, plain, atol=1e-12)
        size = np.abs(plain).max()
        assert size > 0.05
        expected = plain + damping * np.eye(len(plain))
        np.testing.assert_allclose(ours[k], expected, rtol=1e-4, atol=2e-6 * size)
        np.testing.assert_allclose(ours[k], ours[k].T, rtol=1e-4, atol=2e-6 * size)
        assert np.linalg.eigvalsh((ours[k] + ours[k].T) / 2).min() > damping - 1e-5 * size


@BOTH_KINDS
def test_fisher_product_is_linear_and_repeatable(space: spaces.Space) -> None:
    """Conjugate gradient calls it many times; a vector of several numbers is the sum of its columns."""
    agent = make_agent(trpo, space, hidden=HIDDEN)
    obs, width = make_data(space)[0], agent.policy_params.matrix.shape[1]
    product, v = agent.fisher(obs), Streams(SEEDS, "v").normal(width)
    first = product(v)
    assert torch.equal(product(v), first)
    assert not first.requires_grad
    expected = (fisher_matrix(agent, obs) @ v.double().numpy()[..., None])[..., 0]
    np.testing.assert_allclose(first.numpy(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(product(-3 * v), -3 * first)


def test_fisher_of_a_linear_gaussian_policy() -> None:
    """E[s s^T] / sigma^2 for each mean, s with a 1 for the bias; 2 for each log deviation; nothing across."""
    agent = make_agent(trpo, CONTINUOUS, hidden=(), damping=0.0, per_dimension=False)
    obs = make_data(CONTINUOUS)[0] + 0.5  # so that weights and biases hang together
    ours, log_std = fisher_matrix(agent, obs), agent.policy.log_std.value.detach().double().numpy()
    for k in range(len(SEEDS)):
        s = np.concatenate([obs[k].double().numpy(), np.ones((obs.shape[1], 1))], 1)
        expected = np.zeros((12, 12))
        expected[:10, :10] = np.kron(s.T @ s / len(s), np.diag(np.exp(-2 * log_std[k])))
        expected[10:, 10:] = 2 * np.eye(2)
        np.testing.assert_allclose(ours[k], expected, rtol=1e-4, atol=1e-5)
        assert np.ptp(log_std[k]) > 0.05


def test_fisher_of_a_linear_categorical_policy() -> None:
    """mean J^T M J with M = diag(p) - p p^T and J the logits' derivatives, by numpy."""
    agent = make_agent(trpo, DISCRETE, hidden=(), damping=0.0)
    obs, rows = make_data(DISCRETE)[0], agent.policy_params.matrix.double().numpy()
    ours = fisher_matrix(agent, obs)
    for k in range(len(SEEDS)):
        s = np.concatenate([obs[k].double().numpy(), np.ones((obs.shape[1], 1))], 1)
        logits = s @ rows[k].reshape(N_OBS + 1, 3)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        expected = np.zeros((15, 15))
        for state, q in zip(s, p, strict=True):
            jacobian = np.kron(state[None], np.eye(3))  # (3, 15)
            expected += jacobian.T @ (np.diag(q) - np.outer(q, q)) @ jacobian / len(s)
        np.testing.assert_allclose(ours[k], expected, rtol=1e-4, atol=1e-5)


# ---- the divergence ----------------------------------------------------------------------------------------


@BOTH_KINDS
@CONVENTIONS
def test_kl_is_that_of_the_convention(space: spaces.Space, convention: dict[str, object]) -> None:
    """By torch.distributions, for other policies and in both directions, which differ."""
    agent = make_agent(trpo, space, hidden=HIDDEN, **convention)
    other = make_agent(trpo, space, hidden=HIDDEN)
    with torch.no_grad():
        other.policy_params.matrix += Streams(SEEDS, "new").normal(other.policy_params.matrix.shape[1])
        obs = make_data(space, 7)[0]
        old, new = agent.outputs(obs), other.outputs(obs)
        ours, reverse = agent.kl(old, new), agent.kl(new, old)
        assert agent.kl(old, old).abs().max() < 1e-6
    for k in range(len(SEEDS)):
        rows = [a.policy_params.matrix[k].double() for a in (agent, other)]
        expected = [mean_kl(*pair, obs[k].double(), space, **convention) for pair in (rows, rows[::-1])]
        np.testing.assert_allclose(ours[k], expected[0], rtol=1e-4)
        np.testing.assert_allclose(reverse[k], expected[1], rtol=1e-4)
        assert abs(float(expected[0] / expected[1]) - 1) > 0.05


@BOTH_KINDS
def test_the_papers_kl_is_of_the_old_from_the_new(space: spaces.Space) -> None:
    """KL(old || new): the mean over the old policy's samples of log old - log new; the reverse is not it."""
    agent = make_agent(trpo, space, hidden=HIDDEN, **PAPER)
    other = make_agent(trpo, space, hidden=HIDDEN)
    with torch.no_grad():
        other.policy_params.matrix += Streams(SEEDS, "new").normal(other.policy_params.matrix.shape[1])
        obs = make_data(space, 7)[0]
        old, new = agent.outputs(obs), other.outputs(obs)
        ours, reverse = agent.kl(old, new), agent.kl(new, old)
        assert (agent.kl(old, old) == 0).all()
    torch.manual_seed(0)
    for k in range(len(SEEDS)):
        rows = [a.policy_params.matrix[k].double() for a in (agent, other)]
        before, after = (distribution(row, obs[k].double(), space)[0] for row in rows)
        sample = before.sample((20_000,))
        log_ratio = (before.log_prob(sample) - after.log_prob(sample)).mean(1).numpy()
        allowed = 4 * log_ratio.std() / len(log_ratio) ** 0.5
        assert abs(float(ours[k]) - log_ratio.mean()) < allowed
        assert abs(float(reverse[k]) - log_ratio.mean()) > 2 * allowed


def test_kl_of_certain_policies_is_a_number() -> None:
    """Logits so far apart that some probabilities are 0."""
    agent = make_agent(trpo, DISCRETE, **PAPER)
    old, new = torch.tensor([[[0.0, 200.0, 0.0]]]), torch.tensor([[[0.0, 190.0, -300.0]]])
    assert abs(float(agent.kl(old, new))) < 1e-6
    np.testing.assert_allclose(agent.kl(new, torch.tensor([[[150.0, 0.0, 0.0]]])), 150.0, rtol=1e-6)


# ---- the step ----------------------------------------------------------------------------------------------


@BOTH_KINDS
@CONVENTIONS
@pytest.mark.parametrize("delta", [3e-4, 0.01, 0.3, 1.0])
def test_accepted_steps_improve_within_the_trust_region(
    space: spaces.Space, delta: float, convention: dict[str, object]
) -> None:
    """KL <= delta and the surrogate is better, from the parameters before and after, in float64."""
    agent = make_agent(trpo, space, hidden=HIDDEN, delta=delta, **convention)
    for batch in range(4):
        data, before = make_data(space, purpose=f"{batch}"), agent.policy_params.matrix.clone()
        metrics = agent.improve(*data)
        for k in range(len(SEEDS)):
            rows = before[k].double(), agent.policy_params.matrix[k].double()
            obs, action, advantage = double(k, data)
            kl = float(mean_kl(*rows, obs, space, **convention))
            gain = float(surrogate(*rows, obs, action, advantage, space) - advantage.mean())
            assert metrics["accepted"][k] == 1
            assert 0 < kl < delta * 1.001
            assert kl > 0.2 * min(delta, 0.3)  # not shrunk further than need be
            assert gain > 0
            np.testing.assert_allclose(metrics["kl"][k], kl, rtol=1e-2, atol=1e-7)
            np.testing.assert_allclose(metrics["surrogate_gain"][k], gain, rtol=1e-3, atol=1e-6)
            entropy = distribution(rows[0], obs, space)[0].entropy().mean()
            np.testing.assert_allclose(metrics["entropy"][k], entropy, rtol=1e-5)


@BOTH_KINDS
@CONVENTIONS
@pytest.mark.parametrize("delta, shrink", [(0.01, 0.8), (0.7, 0.8), (1.0, 0.6)])
def test_the_step_is_the_first_good_candidate(
    space: spaces.Space, delta: float, shrink: float, convention: dict[str, object]
) -> None:
    """Of the natural gradient's candidates, each judged in float64. Large regions are not what the quadratic
    model makes of them, so that the first candidates leave them while they do improve."""
    settings = {"delta": delta, "shrink": shrink, "damping": 0.03, "cg_steps": 60, "search_steps": 12}
    agent = make_agent(trpo, space, hidden=HIDDEN, **settings, **convention)
    refused_for_kl_alone = 0
    for batch in range(3):
        data, before = make_data(space, purpose=f"{batch}"), agent.policy_params.matrix.double()
        agent.improve(*data)
        for k in range(len(SEEDS)):
            obs, action, advantage = double(k, data)
            step = full_step(before[k], (obs, action, advantage), space, agent.config)
            good = []
            for j in range(12):
                rows = before[k], before[k] + shrink**j * step
                kl = float(mean_kl(*rows, obs, space, **convention))
                gain = float(surrogate(*rows, obs, action, advantage, space) - advantage.mean())
                assert abs(kl / delta - 1) > 1e-3 or j > 0, "too close to call"
                refused_for_kl_alone += gain > 0 and kl > delta and not any(good)
                good.append(gain > 0 and kl <= delta)
            moved = agent.policy_params.matrix[k].double() - before[k]
            expected = shrink ** good.index(True) * step
            torch.testing.assert_close(moved, expected, rtol=2e-3, atol=float(2e-3 * expected.abs().max()))
    assert (refused_for_kl_alone > 0) == (delta > 0.01)


ONE = spaces.Box(-1.0, 1.0, (1,), np.float32)


def overshooting(tilt: list[float], **settings: object) -> tuple[trpo.Agent, Data, np.ndarray]:
    """A policy with one free mean m (in deviations from where it is), whose surrogate along m is

        (1 + tilt) exp(1/2 - (1 - m)^2 / 2) / 2 + exp(1/2 - (1 + m)^2 / 2) / 2.

    Actions one deviation to either side pull at m, with a difference of `tilt`, and not at the deviation; the
    observation is 0, which stills the weights. Without damping the first step is sqrt(2 delta) whatever the
    tilt, and KL = m^2 / 2. A small tilt is overshot, though the divergence is small enough. Returns the
    bias's column of the matrix too (S,).
    """
    agent = make_agent(trpo, ONE, n_obs=1, hidden=(), **settings)
    bias, std = agent.policy_params.matrix[:, 1].clone(), agent.policy_params.matrix[:, 2].exp()
    obs, ones = torch.zeros(3, 2, 1), torch.ones(3)
    action = torch.stack([bias + std, bias - std], 1)[..., None]
    return agent, (obs, action, torch.stack([1 + torch.tensor(tilt), ones], 1)), bias.numpy()


def overshot_gain(m: np.ndarray, tilt: np.ndarray) -> np.ndarray:
    right, left = np.exp(0.5 - (1 - m) ** 2 / 2), np.exp(0.5 - (1 + m) ** 2 / 2)
    return (1 + tilt) * (right - 1) / 2 + (left - 1) / 2


def test_divergence_alone_is_not_enough() -> None:
    """The first candidates stay in the trust region and are worse: the first that is better is taken."""
    delta, damping, tilt = 0.5, 0.01, [0.02, 0.5, 0.05]
    agent, data, bias = overshooting(tilt, delta=delta, damping=damping)
    std = agent.policy_params.matrix[:, 2].exp().numpy()
    first = np.sqrt(2 * delta / (1 + damping * std**2))  # in deviations: F is 1 / std^2, and the damping
    moves = first * 0.8 ** np.arange(10)[:, None]  # (candidate, seed)
    better = overshot_gain(moves, np.array(tilt)) > 0
    assert (moves**2 / 2 < delta).all()
    j = better.argmax(0)
    assert (j > 0).tolist() == [True, False, True]
    metrics = agent.improve(*data)
    moved = (agent.policy_params.matrix[:, 1].numpy() - bias) / std
    np.testing.assert_allclose(moved, moves[j, range(3)], rtol=1e-3)
    np.testing.assert_allclose(metrics["kl"], moved**2 / 2, rtol=1e-2)
    np.testing.assert_allclose(metrics["surrogate_gain"], overshot_gain(moved, np.array(tilt)), rtol=2e-2)


def test_a_rejected_search_restores_the_row() -> None:
    """Too few candidates for the seeds that overshoot: bit for bit what it was, while another seed moves."""
    agent, data, _ = overshooting([0.02, 0.5, 0.05], delta=0.5, damping=0.01, search_steps=2)
    before = agent.policy_params.matrix.clone()
    metrics = agent.improve(*data)
    after = agent.policy_params.matrix
    assert [torch.equal(before[k], after[k]) for k in range(3)] == [True, False, True]
    for name, refused in (("accepted", 0.0), ("kl", 0.0), ("surrogate_gain", 0.0)):
        assert metrics[name][0] == metrics[name][2] == refused
        assert metrics[name][1] > 0


def alone(space: spaces.Space, data: Data, k: int) -> tuple[Tensor, dict[str, Tensor]]:
    """The row of seed k after a step that it takes by itself, and its metrics."""
    config, obs_space = trpo.Config(hidden=HIDDEN), spaces.Box(-1, 1, (N_OBS,))
    agent = trpo.Agent(config, obs_space, space, Streams(SEEDS[k : k + 1], "init"), "cpu")
    agent.policy_params.matrix.copy_(make_agent(trpo, space, hidden=HIDDEN).policy_params.matrix[k : k + 1])
    metrics = agent.improve(*(x[k : k + 1] for x in data))
    return agent.policy_params.matrix[0], {name: metric[0] for name, metric in metrics.items()}


@BOTH_KINDS
@pytest.mark.parametrize("advantage", [0.0, 1e-9, torch.nan, torch.inf], ids=str)
def test_a_seed_without_a_step_stays_and_disturbs_no_other(space: spaces.Space, advantage: float) -> None:
    """No advantages, nearly none, or none that are numbers: that row keeps its bits, the others move as
    they do alone."""
    agent, data = make_agent(trpo, space, hidden=HIDDEN), make_data(space)
    data[2][1] *= advantage
    before = agent.policy_params.matrix.clone()
    metrics = agent.improve(*data)
    assert torch.equal(agent.policy_params.matrix[1], before[1])
    assert [float(metrics[name][1]) for name in ("accepted", "kl", "surrogate_gain")] == [0.0, 0.0, 0.0]
    for k in (0, 2):
        row, theirs = alone(space, data, k)
        assert not torch.equal(row, before[k])
        assert torch.equal(agent.policy_params.matrix[k], row)
        assert all(torch.equal(metrics[name][k], metric) for name, metric in theirs.items())


@BOTH_KINDS
def test_a_seed_that_leaves_the_region_with_every_candidate_stays(
    space: spaces.Space, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent, data = make_agent(trpo, space, hidden=HIDDEN), make_data(space)
    before, kl, calls = agent.policy_params.matrix.clone(), agent.kl, []

    def far(old: Tensor, new: Tensor) -> Tensor:
        calls.append(new)
        return kl(old, new) + torch.tensor([0.0, 1.0, 0.0])

    monkeypatch.setattr(agent, "kl", far)
    agent.improve(*data)
    assert len(calls) == agent.config.search_steps
    assert torch.equal(agent.policy_params.matrix[1], before[1])
    for k in (0, 2):  # the search went on for the other seed, long after theirs
        assert torch.equal(agent.policy_params.matrix[k], alone(space, data, k)[0])


@BOTH_KINDS
@pytest.mark.parametrize("damping", [0.01, 1e3])
def test_small_regions_follow_the_natural_gradient(space: spaces.Space, damping: float) -> None:
    """As delta goes to 0 the step is sqrt(2 delta / x F x) x: along the plain gradient, if the damping is
    all, and else not."""
    data, steps = make_data(space), {}
    for delta in (1e-2, 1e-4, 1e-6):
        settings = {"delta": delta, "damping": damping, "cg_steps": 60}
        agent = make_agent(trpo, space, hidden=HIDDEN, **settings)
        before = agent.policy_params.matrix.double()
        assert agent.improve(*data)["accepted"].all()
        steps[delta] = agent.policy_params.matrix.double() - before
    for k in range(len(SEEDS)):
        ours, old = steps[1e-6][k], before[k]
        expected = full_step(old, double(k, data), space, agent.config)
        assert float((ours - expected).norm() / expected.norm()) < 0.01
        np.testing.assert_allclose(steps[1e-4][k].norm() / ours.norm(), 10.0, rtol=0.01)
        row = old.clone().requires_grad_()
        (plain,) = torch.autograd.grad(surrogate(old, row, *double(k, data), space), row)
        assert (torch.cosine_similarity(ours, plain, 0) > 0.999) == (damping > 1)


# ---- the whole update --------------------------------------------------------------------------------------


UPDATE = {"envs": 2, "steps": 16, "minibatch": 8, "gamma": GAMMA, "lam": LAM, "learning_rate": 1e-2}


@BOTH_KINDS
@pytest.mark.parametrize("delta, damping", [(0.01, 0.1), (2.0, 0.01)])
@pytest.mark.parametrize("convention", [PAPER, CONTRIB], ids=["paper", "contrib"])
def test_trpo_against_stable_baselines(
    space: spaces.Space,
    delta: float,
    damping: float,
    convention: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two updates from rewards and flags to the weights of both networks, for each seed of a pack.

    One thing of theirs is changed for it: conjugate gradient starts there from random numbers. For the
    paper's convention, so is the divergence.
    """
    envs, steps, epochs = UPDATE["envs"], UPDATE["steps"], 2
    settings = UPDATE | {"delta": delta, "damping": damping, "cg_steps": 8, "shrink": 0.7, "search_steps": 9}
    agent = make_agent(trpo, space, **settings, **convention, value_epochs=epochs, adam_eps=1e-5)
    starts = [torch.cat([agent.policy_params.matrix, agent.learned_value.params.matrix], 1)]
    width, batch = agent.policy_params.matrix.shape[1], make_batch((2 * steps, envs), space)
    windows = [batch.map(lambda x: x[:, i : i + steps]) for i in (0, steps)]
    learn = Streams(SEEDS, "learn")
    orders = [learn.permutation(steps * envs) for _ in range(2 * epochs)]
    rng, metrics = Streams(SEEDS, "learn"), []
    for window in windows:
        metrics.append(agent.update(window, rng, 0.25))
        starts.append(torch.cat([agent.policy_params.matrix, agent.learned_value.params.matrix], 1))
    candidates, theirs_as_it_is = [], sb3_contrib.trpo.trpo.kl_divergence

    def divergence(new: object, old: object) -> Tensor:
        candidates[-1] += 1
        if convention is CONTRIB:
            return theirs_as_it_is(new, old)
        kl = torch.distributions.kl_divergence(old.distribution, new.distribution)
        return kl if kl.dim() == 1 else kl.sum(-1)

    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    monkeypatch.setattr("sb3_contrib.trpo.trpo.kl_divergence", divergence)
    for k in range(len(SEEDS)):
        model = sb3_model(
            sb3_contrib.TRPO, space, envs, 0.25, n_steps=steps, batch_size=8, n_critic_updates=epochs,
            gamma=GAMMA, gae_lambda=LAM, target_kl=delta, cg_damping=damping, cg_max_steps=8,
            line_search_shrinking_factor=0.7, line_search_max_iter=9, learning_rate=1e-2,
            policy_kwargs={"net_arch": {"pi": [16, 8], "vf": [16, 8]}, "optimizer_kwargs": {"eps": 1e-5}},
        )  # fmt: skip
        columns = sb3_columns(model.policy)
        for u, (window, ours) in enumerate(zip(windows, metrics, strict=True)):
            # From our weights each time: rounding, which conjugate gradient magnifies, does not add up.
            write_columns(columns, starts[u][k])
            fill_rollout(model, window, k, GAMMA)
            # Its samples are numbered environment by environment, ours step by step.
            mine = [o[k] % envs * steps + o[k] // envs for o in orders[u * epochs : (u + 1) * epochs]]
            numbered = iter([np.arange(steps * envs), *(o.numpy() for o in mine)])
            candidates.append(-1)  # the first divergence is for the Fisher matrix
            with monkeypatch.context() as patch:
                patch.setattr(np.random, "permutation", lambda n, numbered=numbered: next(numbered))
                model.train()
            assert next(numbered, None) is None
            theirs = model.logger.name_to_value
            assert ours["accepted"][k] == theirs["train/is_line_search_success"] == 1
            pairs = {
                "kl": theirs["train/kl_divergence_loss"],
                "value_loss": theirs["train/value_loss"],
                "surrogate_gain": theirs["train/policy_objective"],  # of standardised advantages: from 0 on
            }
            for name, value in pairs.items():
                np.testing.assert_allclose(ours[name][k], value, rtol=5e-3, atol=1e-5, err_msg=name)
            now = read_columns(columns)
            for part in (slice(None, width), slice(width, None)):
                same_step(starts[u][k, part], starts[u + 1][k, part], now[part])
    assert (max(candidates) > 1) == (delta > 0.01)


@BOTH_KINDS
def test_the_policy_moves_before_the_value_is_fitted(space: spaces.Space) -> None:
    """However long the value is fitted, this update's policy step is the same; the next one is not."""
    agents = [make_agent(trpo, space, **UPDATE, value_epochs=n) for n in (1, 20)]
    batch = make_batch((16, 2), space)
    for same in (True, False):
        for agent in agents:
            agent.update(batch, Streams(SEEDS, "learn"), 0.0)
        assert torch.equal(*(a.policy_params.matrix for a in agents)) == same
        assert not torch.equal(*(a.learned_value.params.matrix for a in agents))


def test_the_value_sees_every_sample_once_per_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a new order each epoch, each seed in its own, and each sample with its own return."""
    agent = make_agent(trpo, DISCRETE, **UPDATE, value_epochs=3)
    number = torch.arange(32.0).expand(3, -1)
    obs, visits, value = number[..., None].expand(-1, -1, N_OBS) / 32, [], agent.value

    def spy(x: Tensor) -> Tensor:
        visits.append((32 * x[..., 0]).long())
        return value(x)

    monkeypatch.setattr(agent, "value", spy)
    monkeypatch.setattr(agent.learned_value.optimiser, "step", lambda grad, rate: None)
    ret = (value(obs)[..., 0] + number).detach()
    loss = agent.fit_value(obs, ret, Streams(SEEDS, "learn"))
    np.testing.assert_allclose(loss, (np.arange(32.0) ** 2).mean(), rtol=1e-5)  # 0 error, 1, 4, ...
    assert [v.shape for v in visits] == [(3, 8)] * 12
    epochs = [torch.cat(visits[i : i + 4], 1) for i in (0, 4, 8)]
    for order in epochs:
        assert torch.equal(order.sort(1).values, number.long())
    assert len({tuple(row.tolist()) for order in epochs for row in order}) == 9

"""TRPO: trust region policy optimisation.

Schulman, Levine, Moritz, Jordan, Abbeel 2015, "Trust Region Policy Optimization", arXiv 1502.05477. With
pi_old the policy that acted and theta_old its parameters:

    maximise L(theta) = mean pi(a|s) / pi_old(a|s) A,  subject to  mean KL(pi_old || pi) <= delta    (eq. 14)
    F = mean J^T M J: the Hessian of either KL at theta_old, J the Jacobian of the network's outputs,
        M the Fisher matrix of the distribution with respect to these outputs                       (app. C.1)
    x = F^-1 g by conjugate gradient, g = grad L(theta_old)                                         (app. C)
    theta = theta_old + shrink^j sqrt(2 delta / x^T F x) x, the smallest j with L improved and KL <= delta

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| constraint | KL(pi_old, pi) | or KL(pi, pi_old), as `kl` says | Stable-Baselines3-contrib |
| KL divergence | summed over the dimensions of an action | or averaged, F too | Stable-Baselines3-contrib |
| advantages | returns of single paths or vines | GAE with a value network, standardised | the author's code |
| Fisher matrix | on a tenth of the states | on all of them, damped | exact; as in Stable-Baselines3-contrib |
| line search | until it succeeds | at most `search_steps`, then keeps the old parameters | openai/baselines |
| value function | none | Adam on minibatches, after the policy update | openai/baselines |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | as in PPO here |
| time limit | not stated | bootstraps from the successor's value | arXiv 1712.00378 |
| actions | not stated | clipped when executed; log densities of the sample itself | openai/baselines |
| normalisation | none | running moments of observations (used frozen) and rewards | VecNormalize |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Normaliser, Policy, value_network
from ascent.algorithms.seedwise import (
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    NonNegative,
    Parameters,
    Positive,
    Rollout,
    State,
    Step,
    Streams,
    Widths,
    exp,
    gradient,
    root,
    standardise,
)

VERSION = 3  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: those of Stable-Baselines3-contrib's TRPO."""

    envs: Count = 1  # environments per seed
    steps: Count = 2048  # time steps in a rollout
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.95  # of the advantage estimator
    kl: Literal["old_new", "new_old"] = "new_old"  # the divergence bounded: KL(old || new), or KL(new || old)
    per_dimension: bool = True  # average the divergence over the dimensions of an action; else sum it
    delta: Positive = 0.01  # maximal mean divergence of a step, in nats
    cg_steps: Count = 15  # iterations of conjugate gradient
    damping: NonNegative = 0.1  # multiple of the identity added to the Fisher matrix
    search_steps: Count = 10  # maximal candidates of the line search
    shrink: Fraction = 0.8  # factor from one candidate to the next
    value_epochs: Count = 10  # passes over a rollout for the value function
    minibatch: Count = 128  # transitions per step of the value function
    learning_rate: Positive = 1e-3  # of the value function
    adam_eps: Positive = 1e-5  # of the value function's Adam
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the value network
    normalise: bool = False  # scale observations and rewards by running moments

    def __post_init__(self) -> None:
        n = self.envs * self.steps
        if n < 2:
            raise ValueError("steps: a rollout needs at least 2 transitions")
        if n % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must divide envs x steps, which is {n}")


MUJOCO = Config(envs=2, steps=1024, cg_steps=25, value_epochs=20, normalise=True)
# RL Baselines3 Zoo, whose settings for MuJoCo are of the -v4 tasks. Where it is silent,
# Stable-Baselines3-contrib's defaults hold.
ZOO = {
    "CartPole-v1": Config(envs=2, steps=512, lam=0.98, damping=1e-3, value_epochs=20, minibatch=512),
    "Acrobot-v1": Config(envs=2, steps=1024, normalise=True),
    "MountainCar-v0": Config(envs=2, steps=1024, value_epochs=20, normalise=True),
    "Pendulum-v1": Config(envs=2, steps=1024, gamma=0.9, value_epochs=15),
    "MountainCarContinuous-v0": Config(envs=2, normalise=True),
    "HalfCheetah-v5": replace(MUJOCO, delta=0.04),
    "Ant-v5": MUJOCO,
    "Hopper-v5": MUJOCO,
    "Walker2d-v5": MUJOCO,
    "Humanoid-v5": MUJOCO,
    "Swimmer-v5": replace(MUJOCO, gamma=0.9999),
    "default": Config(),
}
# Stable-Baselines3-contrib's with the paper's constraint, torch's epsilon for Adam and shorter rollouts. Not
# searched. The discount for continuous actions is that of RL Baselines3 Zoo for Pendulum-v1.
SMALL = Config(steps=1024, kl="old_new", per_dimension=False, adam_eps=1e-8)
# Not expressible: the paper (no value function), the authors' modular_rl (L-BFGS for the value function, no
# test of the divergence), openai/baselines (accepts 1.5 delta, F on a fifth of the samples), Spinning Up
# (targets of the value without lambda, Glorot weights), Tianshou (values in units of the returns' deviation).
PRESETS: dict[str, Config | dict[str, Config]] = {
    "zoo": ZOO,
    "small": {"discrete": SMALL, "continuous": replace(SMALL, gamma=0.9)},
}
# The first of authors' code, CleanRL and RL Zoo with settings for such tasks that can be expressed: see above
# for the authors'; CleanRL has no TRPO.
DEFAULTS = {"classic": "zoo", "mujoco": "zoo"}


def advantages(batch: Batch, value: Tensor, next_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Return generalised advantages (arXiv 1506.02438, eq. 16) along the time axis of (S, T, E).

    A terminal state drops the successor's value; either flag ends the recursion.
    """
    assert batch.truncated is not None
    delta = batch.reward + gamma * (1 - batch.terminated) * next_value - value
    carry = gamma * lam * (1 - batch.terminated) * (1 - batch.truncated)
    advantage, backwards = torch.zeros_like(delta[:, 0]), []
    for delta_t, carry_t in zip(delta.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        advantage = delta_t + carry_t * advantage
        backwards.append(advantage)
    return torch.stack(backwards[::-1], 1)


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """Return x (S, P) with product(x) = b, for a product with a symmetric positive definite matrix.

    Hestenes & Stiefel 1952. A seed stops as soon as its squared residual is at most 1e-10.
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = residual.square().sum(1, keepdim=True)  # (S, 1)
    for _ in range(steps):
        image = product(direction)
        active = square > 1e-10
        step = torch.where(active, square / (direction * image).sum(1, keepdim=True), 0.0)
        x = x + step * direction
        residual = residual - step * image
        before, square = square, residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(active, square / before, 0.0) * direction
    return x


class Agent:
    """The TRPO learner: a policy, moved within the trust region, and a value network."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.envs)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(streams, n_obs, c.envs, c.gamma, c.normalise)
        self.policy = Policy(streams, n_obs, c.hidden, action_space)
        self.value = value_network(streams, n_obs, c.hidden)
        self.policy_params = Parameters(self.policy)
        self.dimensions = 1  # by which the divergence is divided
        if c.per_dimension and isinstance(action_space, Box):
            self.dimensions = action_space.shape[0]
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_value = Learned("value", self.value, optimiser=adam, optimiser_name="optimiser")

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return self.policy.act(self.normaliser.obs(obs), rng, explore), None

    def greedy_steps(self) -> list[list[Step]]:
        return [[*self.normaliser.steps(), *self.policy.greedy_steps()]]

    def preference(self, obs: Tensor) -> Tensor:
        """Return the logits or mean actions of greedy acting, differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(self.normaliser.obs(obs))

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Take one step of the policy within the trust region, then fit the value to the returns."""
        c = self.config
        batch = self.normaliser.batch(batch)
        with torch.no_grad():
            value = self.value(batch.obs).squeeze(-1)  # (S, T, E)
            next_value = self.value(batch.next_obs).squeeze(-1)
            advantage = advantages(batch, value, next_value, c.gamma, c.lam)
        obs, action, ret = (x.flatten(1, 2) for x in (batch.obs, batch.action, advantage + value))
        metrics = self.improve(obs, action, standardise(advantage).flatten(1, 2))
        metrics["value_loss"] = self.fit_value(obs, ret, rng)
        return metrics

    # ---- the policy

    def outputs(self, obs: Tensor) -> Tensor:
        """Return the parameters of pi(.|obs).

        Logits (S, B, n), or means and log standard deviations (S, B, 2 A).
        """
        out = self.policy.net(obs)
        if self.policy.discrete:
            return out
        return torch.cat([out, self.policy.log_std.value[:, None].expand_as(out)], -1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Return the mean divergence (S,) of distributions given by their outputs (S, B, ...).

        It is KL(old || new) or KL(new || old), summed or averaged over the dimensions of an action.
        """
        p, q = (old, new) if self.config.kl == "old_new" else (new, old)  # KL(p || q)
        if self.policy.discrete:
            logp = p.log_softmax(-1)
            return (exp(logp) * (logp - q.log_softmax(-1))).sum(-1).mean(1)
        (mean, log_std), (q_mean, q_log_std) = p.chunk(2, -1), q.chunk(2, -1)
        z = (mean - q_mean) * exp(-q_log_std)
        ratio = exp(2 * (log_std - q_log_std))  # of the variances
        kl = (q_log_std - log_std + 0.5 * (ratio + z * z - 1)).sum(-1).mean(1)
        return kl / self.dimensions

    def fisher(self, obs: Tensor) -> Callable[[Tensor], Tensor]:
        """Return the product v -> (F + damping) v of vectors (S, P), with F exact over all of obs (S, B, O).

        J^T u is linear in u, so its derivative along v with respect to u is J v: two passes through graphs
        that are built once. Where the divergence is averaged over the dimensions of an action, so is F.
        """
        params, outputs = self.policy_params, self.outputs(obs)
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = params.grad(outputs, u, create_graph=True)  # J^T u
        fixed = outputs.detach()
        if self.policy.discrete:
            p = exp(fixed.log_softmax(-1))
        else:  # 1 / variance for a mean, 2 for a log standard deviation
            log_std = fixed.chunk(2, -1)[1]
            diagonal = torch.cat([exp(-2 * log_std), torch.full_like(log_std, 2.0)], -1)

        def product(v: Tensor) -> Tensor:
            (jv,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            mjv = p * (jv - (p * jv).sum(-1, keepdim=True)) if self.policy.discrete else diagonal * jv
            mean = mjv / (obs.shape[1] * self.dimensions)
            return params.grad(outputs, mean, retain_graph=True) + self.config.damping * v

        return product

    def improve(self, obs: Tensor, action: Tensor, advantage: Tensor) -> dict[str, Tensor]:
        """Move each seed's policy one step on a rollout (S, B, ...), or not at all if no step is accepted."""
        c, params = self.config, self.policy_params
        logp, entropy = self.policy.evaluate(obs, action)
        old_logp = logp.detach()
        gradient = params.grad((exp(logp - old_logp) * advantage).mean(1))
        product = self.fisher(obs)
        x = conjugate_gradient(product, gradient, c.cg_steps)
        curvature = (x * product(x)).sum(1, keepdim=True)
        with torch.no_grad():
            old = params.matrix.clone()
            old_outputs = self.outputs(obs)
            old_surrogate = advantage.mean(1)
            step = root(2 * c.delta / curvature) * x  # NaN where the curvature is 0: never accepted
            accepted = torch.zeros_like(old_surrogate, dtype=torch.bool)
            kl = torch.zeros_like(old_surrogate)
            gain = torch.zeros_like(old_surrogate)
            best = old
            for j in range(c.search_steps):
                candidate = old + c.shrink**j * step
                params.matrix.copy_(candidate)
                surrogate = (exp(self.policy.evaluate(obs, action)[0] - old_logp) * advantage).mean(1)
                new_kl = self.kl(old_outputs, self.outputs(obs))
                good = ~accepted & (surrogate > old_surrogate) & (new_kl <= c.delta)
                best = torch.where(good[:, None], candidate, best)
                kl = torch.where(good, new_kl, kl)
                gain = torch.where(good, surrogate - old_surrogate, gain)
                accepted |= good
                if accepted.all():
                    break
            params.matrix.copy_(best)
        metrics = {"surrogate_gain": gain, "kl": kl, "accepted": accepted.float(), "entropy": entropy.mean(1)}
        return {name: metric.detach() for name, metric in metrics.items()}

    # ---- the value function

    def fit_value(self, obs: Tensor, ret: Tensor, rng: Streams) -> Tensor:
        """Fit the value network to the returns (S, B), and return the mean loss (S,)."""
        c, row = self.config, torch.arange(len(ret), device=ret.device)[:, None]
        total, n = torch.zeros_like(ret[:, 0]), 0
        for _ in range(c.value_epochs):
            order = rng.permutation(ret.shape[1])
            for part in order.split(c.minibatch, 1):
                loss = (self.value(obs[row, part]).squeeze(-1) - ret[row, part]).square().mean(1)
                self.learned_value.descend(loss, c.learning_rate)
                total, n = total + loss.detach(), n + 1
        return total / n

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return V (S, B) of observations (S, B, O), in units of the task's rewards."""
        return self.normaliser.reward_unit() * self.value(self.normaliser.obs(obs)).squeeze(-1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of mean A log pi, with A standardised, over a window (S, T, E)."""
        c = self.config
        batch = self.normaliser.frozen(batch)
        with torch.no_grad():
            value = self.value(batch.obs).squeeze(-1)
            advantage = advantages(batch, value, self.value(batch.next_obs).squeeze(-1), c.gamma, c.lam)
        logp, _ = self.policy.evaluate(batch.obs, batch.action)
        return gradient((standardise(advantage) * logp).flatten(1).mean(1), self.policy)

    def state_dict(self) -> State:
        policy = {"params/policy": self.policy_params.matrix}
        return policy | self.learned_value.state_dict() | self.normaliser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.policy_params.matrix.copy_(state["params/policy"])
        self.learned_value.load_state_dict(state)
        self.normaliser.load_state_dict(state)

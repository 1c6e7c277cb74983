"""TRPO: trust region policy optimisation.

Schulman, Levine, Moritz, Jordan, Abbeel 2015, "Trust Region Policy Optimization", arXiv 1502.05477. With
pi_old the policy that acted and theta_old its parameters:

    maximise L(theta) = mean pi(a|s) / pi_old(a|s) A,  subject to  mean KL(pi_old || pi) <= delta    (eq. 14)
    F = mean J^T M J: the Hessian of that KL at theta_old, with J the outputs' derivatives by theta,
        M the Fisher matrix of the distribution in its outputs                                      (app. C.1)
    x = F^-1 g by conjugate gradient, g = grad L(theta_old)                                         (app. C)
    theta = theta_old + shrink^j sqrt(2 delta / x^T F x) x, the least j with L improved and KL <= delta

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| advantages | returns of single paths or vines | GAE with a value network, standardised | the author's code |
| Fisher matrix | on a tenth of the states | on all of them, damped | exact; Stable-Baselines3-contrib |
| line search | until it succeeds | at most `search_steps`, else the old parameters | openai/baselines |
| value function | none | Adam on minibatches, after the policy | openai/baselines |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | as PPO here |
| time limit | not stated | the value of the successor stands for the rest | arXiv 1712.00378 |
| actions | not stated | clipped to be executed; the sample itself is scored | openai/baselines |
| normalisers | none | observations' change after the update, rewards' before | acting is scored alike |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import e, log, pi, sqrt

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Moments,
    NonNegative,
    Parameters,
    Positive,
    Rollout,
    Streams,
    Vector,
    Widths,
    orthogonal,
    standardise,
    tanh,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: Stable-Baselines3-contrib's TRPO. Its `delta` bounds KL(pi || pi_old), averaged over the
    dimensions of an action; here it is the paper's. Its Adam has an epsilon of 1e-5.
    """

    envs: Count = 1  # environments per seed
    steps: Count = 2048  # time steps in a rollout
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.95  # of the advantage estimator
    delta: Positive = 0.01  # greatest mean KL divergence of a step, in nats
    cg_steps: Count = 15  # of conjugate gradient
    damping: NonNegative = 0.1  # times the identity, added to the Fisher matrix
    search_steps: Count = 10  # candidates of the line search
    shrink: Fraction = 0.8  # from one candidate to the next
    value_epochs: Count = 10  # passes over a rollout for the value function
    minibatch: Count = 128  # transitions per step of the value function
    learning_rate: Positive = 1e-3  # of the value function
    adam_eps: Positive = 1e-8
    hidden: Widths = (64, 64)  # tanh units, policy and value apart
    normalise: bool = False  # observations and rewards, by their running moments

    def __post_init__(self) -> None:
        n = self.envs * self.steps
        if n < 2:
            raise ValueError("steps: a rollout needs at least 2 transitions")
        if n % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must divide envs x steps, which is {n}")


PRESETS = {"classic": Config(steps=1024)}
PRESETS["classic-continuous"] = replace(PRESETS["classic"], gamma=0.9)
# Normalised as in RL Baselines3 Zoo, which goes on to 2 environments, 25 steps of conjugate gradient, 20
# epochs for the value function and, on HalfCheetah, a greater delta.
PRESETS["mujoco"] = Config(normalise=True)


class Policy:
    """Categorical over logits, or Gaussian with free deviation. A test holds the copies of it equal."""

    def __init__(self, streams: Streams, n_obs: int, hidden: Widths, action_space: spaces.Space):
        self.discrete = isinstance(action_space, spaces.Discrete)
        n_out = int(action_space.n) if self.discrete else action_space.shape[0]
        inits = [orthogonal(sqrt(2))] * len(hidden) + [orthogonal(0.01)]
        self.net = MLP(streams, (n_obs, *hidden, n_out), tanh, inits)
        self.log_std = None if self.discrete else Vector(streams, n_out, 0.0)

    def modules(self) -> list[MLP | Vector]:
        return [self.net] if self.discrete else [self.net, self.log_std]

    def act(self, obs: Tensor, rng: Streams, explore: bool) -> Tensor:
        """(S, E, O) -> (S, E) int64 or (S, E, A): a sample, or the most likely action."""
        out = self.net(obs)
        if self.discrete:
            if not explore:
                return out.argmax(-1)
            cdf = out.log_softmax(-1).exp().cumsum(-1)[..., :-1]
            return (rng.uniform(out.shape[1], 1) > cdf).sum(-1)
        if not explore:
            return out
        return out + self.log_std.value.exp()[:, None] * rng.normal(*out.shape[1:])

    def evaluate(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """log pi(action|obs) and the entropy of pi(.|obs), both (S, ...)."""
        out = self.net(obs)
        if self.discrete:
            logp = out.log_softmax(-1)
            return logp.gather(-1, action[..., None]).squeeze(-1), -(logp.exp() * logp).sum(-1)
        log_std = self.log_std.value.view(-1, *[1] * (out.dim() - 2), out.shape[-1])
        z = (action - out) * (-log_std).exp()
        logp = (-0.5 * z * z - log_std - 0.5 * log(2 * pi)).sum(-1)
        return logp, (log_std + 0.5 * log(2 * pi * e)).sum(-1).expand_as(logp)


class Normaliser:
    """Observations with mean 0 and deviation 1, rewards whose discounted sum has deviation 1, by running
    moments (openai/baselines VecNormalize); or, where it is off, both as they are.

    The moments of observations stay as they were for the actions of a window until it has been taken in;
    those of rewards count at once. A test holds the copies of it equal.
    """

    def __init__(self, streams: Streams, n_obs: int, envs: int, gamma: float, on: bool):
        self.on, self.gamma = on, gamma
        self.obs_moments, self.return_moments = Moments(streams, n_obs), Moments(streams, 1)
        self.ret = torch.zeros(len(streams.seeds), envs, device=streams.device)  # so far, discounted

    def obs(self, obs: Tensor) -> Tensor:
        """(S, ..., O) as the networks see it."""
        if not self.on:
            return obs
        shape = (len(obs), *[1] * (obs.dim() - 2), obs.shape[-1])
        mean, var = self.obs_moments.mean.float(), (self.obs_moments.var + 1e-8).float()
        return ((obs - mean.view(shape)) / var.sqrt().view(shape)).clamp(-10, 10)

    def batch(self, batch: Batch) -> Batch:
        """The window (S, T, E) as the networks see it; then its observations count too."""
        if not self.on:
            return batch
        goes_on = (1 - batch.terminated) * (1 - batch.truncated)
        returns = torch.empty_like(batch.reward)
        for t in range(returns.shape[1]):
            returns[:, t] = self.ret = self.gamma * self.ret + batch.reward[:, t]
            self.ret = self.ret * goes_on[:, t]
        self.return_moments.update(returns[..., None])
        deviation = (self.return_moments.var + 1e-8).sqrt().float()[..., None]  # (S, 1, 1)
        reward = (batch.reward / deviation).clamp(-10, 10)
        seen = replace(batch, obs=self.obs(batch.obs), next_obs=self.obs(batch.next_obs), reward=reward)
        self.obs_moments.update(batch.obs)
        return seen

    def state_dict(self) -> dict[str, Tensor]:
        if not self.on:
            return {}
        obs = {f"normaliser/{k}": v for k, v in self.obs_moments.state_dict().items()}
        returns = {f"reward_scale/{k}": v for k, v in self.return_moments.state_dict().items()}
        return {**obs, **returns, "reward_scale/ret": self.ret}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        if self.on:
            for prefix, moments in (("normaliser", self.obs_moments), ("reward_scale", self.return_moments)):
                moments.load_state_dict({k: state[f"{prefix}/{k}"] for k in moments.state_dict()})
            self.ret = state["reward_scale/ret"]


def advantages(batch: Batch, value: Tensor, next_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16) over the time axis of (S, T, E).

    A true end drops the successor's value; either flag ends the recursion. A test holds the copies of it
    equal.
    """
    delta = batch.reward + gamma * (1 - batch.terminated) * next_value - value
    carry = gamma * lam * (1 - batch.terminated) * (1 - batch.truncated)
    advantage, found = torch.zeros_like(delta[:, 0]), []
    for delta_now, carry_now in zip(delta.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        advantage = delta_now + carry_now * advantage
        found.append(advantage)
    return torch.stack(found[::-1], 1)


def conjugate_gradient(product: Callable[[Tensor], Tensor], b: Tensor, steps: int) -> Tensor:
    """x (S, P) with product(x) = b, the product's matrix being symmetric and positive definite for each seed.

    A seed whose squared residual is at most 1e-10 stands still (Hestenes & Stiefel 1952).
    """
    x, residual, direction = torch.zeros_like(b), b, b
    square = residual.square().sum(1, keepdim=True)  # (S, 1)
    for _ in range(steps):
        image = product(direction)
        going = square > 1e-10
        step = torch.where(going, square / (direction * image).sum(1, keepdim=True), 0.0)
        x = x + step * direction
        residual = residual - step * image
        before, square = square, residual.square().sum(1, keepdim=True)
        direction = residual + torch.where(going, square / before, 0.0) * direction
    return x


class Agent:
    def __init__(
        self,
        config: Config,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        streams: Streams,
        device: str,
    ):
        self.config, self.experience = config, Rollout(config.steps, config.envs)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(streams, n_obs, config.envs, config.gamma, config.normalise)
        self.policy = Policy(streams, n_obs, config.hidden, action_space)
        inits = [orthogonal(sqrt(2))] * len(config.hidden) + [orthogonal(1.0)]
        self.value = MLP(streams, (n_obs, *config.hidden, 1), tanh, inits)
        self.policy_params = Parameters(*self.policy.modules())
        self.value_params = Parameters(self.value)
        self.optimiser = Adam(self.value_params, config.adam_eps)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: None = None
    ) -> tuple[Tensor, None]:
        return self.policy.act(self.normaliser.obs(obs), rng, explore), None

    def preference(self, obs: Tensor) -> Tensor:
        """(S, E, O) -> (S, E, A): what greedy acting follows, logits or mean actions, differentiable."""
        return self.policy.net(self.normaliser.obs(obs))

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        c, batch = self.config, self.normaliser.batch(batch)
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
        """What describes pi(.|obs): logits (S, B, n), or means and log deviations (S, B, 2 A)."""
        out = self.policy.net(obs)
        if self.policy.discrete:
            return out
        return torch.cat([out, self.policy.log_std.value[:, None].expand_as(out)], -1)

    def kl(self, old: Tensor, new: Tensor) -> Tensor:
        """Mean KL(old || new) (S,) between distributions given by their outputs (S, B, ...)."""
        if self.policy.discrete:
            logp = old.log_softmax(-1)
            return (logp.exp() * (logp - new.log_softmax(-1))).sum(-1).mean(1)
        (mean, log_std), (new_mean, new_log_std) = old.chunk(2, -1), new.chunk(2, -1)
        z = (mean - new_mean) * (-new_log_std).exp()
        ratio = (2 * (log_std - new_log_std)).exp()  # of the variances
        return (new_log_std - log_std + 0.5 * (ratio + z * z - 1)).sum(-1).mean(1)

    def fisher(self, obs: Tensor) -> Callable[[Tensor], Tensor]:
        """The product v -> (F + damping) v of vectors (S, P), F exact over all of obs (S, B, O).

        J^T u is linear in u, so its derivative along v with respect to u is J v: two passes through graphs
        that are built once.
        """
        params, outputs = self.policy_params, self.outputs(obs)
        u = torch.zeros_like(outputs, requires_grad=True)
        pulled = params.grad(outputs, u, create_graph=True)  # J^T u
        fixed = outputs.detach()
        if self.policy.discrete:
            p = fixed.log_softmax(-1).exp()
        else:  # 1 / variance for a mean, 2 for a log deviation
            log_std = fixed.chunk(2, -1)[1]
            diagonal = torch.cat([(-2 * log_std).exp(), torch.full_like(log_std, 2.0)], -1)

        def product(v: Tensor) -> Tensor:
            (jv,) = torch.autograd.grad(pulled, u, v, retain_graph=True)
            mjv = p * (jv - (p * jv).sum(-1, keepdim=True)) if self.policy.discrete else diagonal * jv
            return params.grad(outputs, mjv / obs.shape[1], retain_graph=True) + self.config.damping * v

        return product

    def improve(self, obs: Tensor, action: Tensor, advantage: Tensor) -> dict[str, Tensor]:
        """One step of the policy on a rollout (S, B, ...), each seed's own; a seed without one stays."""
        c, params = self.config, self.policy_params
        logp, entropy = self.policy.evaluate(obs, action)
        old_logp = logp.detach()
        gradient = params.grad(((logp - old_logp).exp() * advantage).mean(1))
        product = self.fisher(obs)
        x = conjugate_gradient(product, gradient, c.cg_steps)
        curvature = (x * product(x)).sum(1, keepdim=True)
        with torch.no_grad():
            old, old_outputs, old_surrogate = params.matrix.clone(), self.outputs(obs), advantage.mean(1)
            step = (2 * c.delta / curvature).sqrt() * x  # no number where the curvature is 0: never accepted
            accepted, kl = torch.zeros_like(old_surrogate, dtype=torch.bool), torch.zeros_like(old_surrogate)
            gain, best = torch.zeros_like(kl), old
            for j in range(c.search_steps):
                candidate = old + c.shrink**j * step
                params.matrix.copy_(candidate)
                now = ((self.policy.evaluate(obs, action)[0] - old_logp).exp() * advantage).mean(1)
                now_kl = self.kl(old_outputs, self.outputs(obs))
                good = ~accepted & (now > old_surrogate) & (now_kl <= c.delta)
                best = torch.where(good[:, None], candidate, best)
                kl, gain = torch.where(good, now_kl, kl), torch.where(good, now - old_surrogate, gain)
                accepted |= good
                if accepted.all():
                    break
            params.matrix.copy_(best)
        metrics = {"surrogate_gain": gain, "kl": kl, "accepted": accepted.float(), "entropy": entropy.mean(1)}
        return {name: metric.detach() for name, metric in metrics.items()}

    # ---- the value function

    def fit_value(self, obs: Tensor, ret: Tensor, rng: Streams) -> Tensor:
        """Regression of the value on the returns (S, B); the mean loss (S,)."""
        c, row = self.config, torch.arange(len(ret), device=ret.device)[:, None]
        total, n = torch.zeros_like(ret[:, 0]), 0
        for _ in range(c.value_epochs):
            order = rng.permutation(ret.shape[1])
            for part in order.split(c.minibatch, 1):
                loss = (self.value(obs[row, part]).squeeze(-1) - ret[row, part]).square().mean(1)
                self.optimiser.step(self.value_params.grad(loss), c.learning_rate)
                total, n = total + loss.detach(), n + 1
        return total / n

    def state_dict(self) -> dict[str, Tensor]:
        return {
            "params/policy": self.policy_params.matrix,
            "params/value": self.value_params.matrix,
            **{f"optimiser/{k}": v for k, v in self.optimiser.state_dict().items()},
            **self.normaliser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.policy_params.matrix.copy_(state["params/policy"])
        self.value_params.matrix.copy_(state["params/value"])
        self.optimiser.load_state_dict({k: state[f"optimiser/{k}"] for k in self.optimiser.state_dict()})
        self.normaliser.load_state_dict(state)

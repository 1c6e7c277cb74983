"""PPO: proximal policy optimisation with the clipped objective.

Schulman, Wolski, Dhariwal, Radford, Klimov 2017, "Proximal Policy Optimization Algorithms", arXiv 1707.06347.
With pi the policy, V the value function and r_t the ratio pi(a_t|s_t) / pi_old(a_t|s_t):

    delta_t = reward_t + gamma V(s_t+1) - V(s_t)                                            (eq. 12)
    A_t     = delta_t + gamma lam A_t+1                                                     (eq. 11)
    L_clip  = mean min(r_t A_t, clip(r_t, 1 - clip, 1 + clip) A_t)                          (eq. 7)
    L       = L_clip - value_coef mean (V(s_t) - ret_t)^2 / 2 + entropy_coef mean H(pi)     (eq. 9)

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| advantages | as estimated | standardised in each minibatch | the authors' code (openai/baselines ppo2) |
| learning rate | constant on MuJoCo | linear to zero where `anneal` | the authors' code |
| gradient | not limited | global norm clipped per seed | the authors' code |
| value loss | squared error | half of it, not clipped | clipping: no benefit (arXiv 2006.05990) |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | the authors' code |
| time limit | not stated | the value of the successor stands for the rest | arXiv 1712.00378 |
| actions | not stated | clipped to be executed; the sample itself is scored | the authors' code |
| normalisers | not stated | observations' change after the update, rewards' before | acting is scored alike |
"""

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
    captured,
    clip_grad_norm,
    orthogonal,
    standardise,
    tanh,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: openai/baselines ppo2 for MuJoCo, which are the paper's table 3 but for `anneal`."""

    envs: Count = 1  # environments per seed ("actors" in the paper)
    steps: Count = 2048  # time steps in a rollout ("horizon")
    epochs: Count = 10  # passes over a rollout
    minibatch: Count = 64  # transitions per gradient step
    learning_rate: Positive = 3e-4
    anneal: bool = True  # learning rate linear to zero over the budget
    adam_eps: Positive = 1e-5
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.95  # of the advantage estimator
    clip: Positive = 0.2
    value_coef: NonNegative = 0.5
    entropy_coef: NonNegative = 0.0
    max_grad_norm: Positive = 0.5
    hidden: Widths = (64, 64)  # tanh units, policy and value apart
    normalise: bool = False  # observations and rewards, by their running moments

    def __post_init__(self) -> None:
        if self.minibatch < 2 or (self.envs * self.steps) % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must be at least 2 and divide envs x steps")


PRESETS = {
    "classic": Config(),
    # After RL Baselines3 Zoo's settings for Pendulum-v1: short-sighted, since its reward is dense.
    "classic-continuous": Config(envs=4, steps=512, learning_rate=1e-3, gamma=0.9),
    "mujoco": Config(normalise=True),  # openai/baselines ppo2 under VecNormalize, as CleanRL has it
}


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
        self.params = Parameters(*self.policy.modules(), self.value)
        self.optimiser = Adam(self.params, config.adam_eps)
        self._step = captured(self.step, device)

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
            old_logp, _ = self.policy.evaluate(batch.obs, batch.action)
            advantage = advantages(batch, value, next_value, c.gamma, c.lam)
        ret = advantage + value
        columns = (batch.obs, batch.action, old_logp, advantage, ret)
        columns = [x.flatten(1, 2) for x in columns]  # (S, T * E, ...)
        learning_rate = c.learning_rate * (1 - progress if c.anneal else 1)
        row = torch.arange(len(ret), device=ret.device)[:, None]
        sums = None
        for _ in range(c.epochs):
            order = rng.permutation(columns[0].shape[1])
            shuffled = [x[row, order] for x in columns]
            for start in range(0, order.shape[1], c.minibatch):
                now = self._step(learning_rate, *(x[:, start : start + c.minibatch] for x in shuffled))
                sums = now.clone() if sums is None else sums + now
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
        means = sums / (c.epochs * (columns[0].shape[1] // c.minibatch))
        return dict(zip(names, means.T, strict=True))

    def step(self, learning_rate: float | Tensor, *minibatch: Tensor) -> Tensor:
        """One step of the optimiser; what `update` averages (S, 6)."""
        loss, parts = self.loss(*minibatch)
        grad, norm = clip_grad_norm(self.params.grad(loss), self.config.max_grad_norm)
        self.optimiser.step(grad, learning_rate)
        return torch.stack([*parts, norm], 1)

    def loss(
        self, obs: Tensor, action: Tensor, old_logp: Tensor, advantage: Tensor, ret: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Equation 9 with its sign turned, on a minibatch (S, B): the loss (S,), and what to report."""
        c = self.config
        logp, entropy = self.policy.evaluate(obs, action)
        log_ratio = logp - old_logp
        ratio = log_ratio.exp()
        advantage = standardise(advantage)
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean(1)  # eq. 7
        value_loss = 0.5 * (self.value(obs).squeeze(-1) - ret).square().mean(1)
        entropy = entropy.mean(1)
        loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
        with torch.no_grad():
            approx_kl = (ratio - 1 - log_ratio).mean(1)  # the unbiased, positive estimate
            clip_fraction = (ratio != clipped).float().mean(1)
        return loss, (policy_loss.detach(), value_loss.detach(), entropy.detach(), approx_kl, clip_fraction)

    def state_dict(self) -> dict[str, Tensor]:
        optimiser = {f"optimiser/{k}": v for k, v in self.optimiser.state_dict().items()}
        return {"params/all": self.params.matrix, **optimiser, **self.normaliser.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.params.matrix.copy_(state["params/all"])
        self.optimiser.load_state_dict({k: state[f"optimiser/{k}"] for k in self.optimiser.state_dict()})
        self.normaliser.load_state_dict(state)

"""A2C: advantage actor-critic, the synchronous form of A3C.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", arXiv 1602.01783, algorithm S3, made
synchronous as in openai/baselines a2c. With R_t the n-step return that bootstraps at the end of the window:

    R_t = sum_{i<k} gamma^i reward_t+i + gamma^k V(s_t+k)
    L   = mean(-(R_t - V(s_t)) log pi(a_t|s_t) - entropy_coef H(pi(.|s_t)) + value_coef (R_t - V(s_t))^2)

where the advantage R_t - V(s_t) is a constant in the first term.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| workers | asynchronous, with stale parameters | E environments stepped together | that is A2C |
| gradient | summed over the window | averaged | openai/baselines |
| optimiser | RMSProp, statistics shared | RMSProp of one learner, eps in the root | openai/baselines |
| networks | policy and value share layers | two networks of tanh units | low-dimensional observations |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | openai/baselines |
| time limit | a true end | the value of the successor stands for the rest | arXiv 1712.00378 |
| continuous actions | softplus variance from the network | state-independent deviation | openai/baselines |
| normalisers | none | observations' change after the update, rewards' before | acting is scored alike |
"""

from dataclasses import dataclass, replace
from math import e, log, pi, sqrt

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Batch,
    Count,
    Fraction,
    Moments,
    NonNegative,
    Parameters,
    Positive,
    RMSProp,
    Rollout,
    Streams,
    Vector,
    Widths,
    clip_grad_norm,
    orthogonal,
    tanh,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: openai/baselines a2c, with one environment and a learning rate that ends at zero."""

    envs: Count = 1  # environments per seed
    steps: Count = 5  # time steps in a window ("t_max")
    learning_rate: Positive = 7e-4
    anneal: bool = True  # learning rate linear to zero over the budget
    rms_decay: Fraction = 0.99
    rms_eps: Positive = 1e-5
    gamma: Fraction = 0.99  # discount
    value_coef: NonNegative = 0.5
    entropy_coef: NonNegative = 0.01
    max_grad_norm: Positive = 0.5
    hidden: Widths = (64, 64)  # tanh units, policy and value apart
    normalise: bool = False  # observations and rewards, by their running moments


# Sixteen environments (RL Baselines3 Zoo has eight) steady the short windows. Tuned on CartPole-v1 with seeds
# 1000-1009: learning rates 7e-4 to 3e-3, windows of 5 to 32 steps, 4 to 16 environments.
PRESETS = {"classic": Config(envs=16, learning_rate=2e-3, entropy_coef=0.0)}
PRESETS["classic-continuous"] = replace(PRESETS["classic"], gamma=0.9)
# VecNormalize and no entropy bonus as in RL Baselines3 Zoo's continuous tasks, eight environments as for its
# Pendulum; the rest is openai/baselines'. Tried on Hopper-v5 and InvertedPendulum-v5 with seeds 1000-1002.
PRESETS["mujoco"] = Config(envs=8, entropy_coef=0.0, normalise=True)


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


def returns_to_go(batch: Batch, next_value: Tensor, gamma: float) -> Tensor:
    """The rewards to the end of the episode, discounted, over the time axis of (S, T, E).

    Where a time limit or the window's end cuts the episode, the value of the true successor stands for what
    would have followed; where it terminated, nothing follows. A test holds the copies of it equal.
    """
    carry = gamma * (1 - batch.terminated)
    known = batch.reward + carry * batch.truncated * next_value
    carry = carry * (1 - batch.truncated)
    ret, returns = next_value[:, -1], []
    for known_now, carry_now in zip(known.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        ret = known_now + carry_now * ret
        returns.append(ret)
    return torch.stack(returns[::-1], 1)


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
        self.optimiser = RMSProp(self.params, config.rms_eps, config.rms_decay)

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
            ret = returns_to_go(batch, self.value(batch.next_obs).squeeze(-1), c.gamma)  # (S, T, E)
        loss, metrics = self.loss(batch.obs, batch.action, ret)
        grad, metrics["grad_norm"] = clip_grad_norm(self.params.grad(loss), c.max_grad_norm)
        self.optimiser.step(grad, c.learning_rate * (1 - progress if c.anneal else 1))
        return metrics

    def loss(self, obs: Tensor, action: Tensor, ret: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss L (S,) of a window (S, T, E), and what to report."""
        c = self.config
        logp, entropy = self.policy.evaluate(obs, action)
        error = ret - self.value(obs).squeeze(-1)
        policy_loss = -(error.detach() * logp).flatten(1).mean(1)
        value_loss = error.square().flatten(1).mean(1)
        entropy = entropy.flatten(1).mean(1)
        loss = policy_loss - c.entropy_coef * entropy + c.value_coef * value_loss
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return loss, {name: part.detach() for name, part in parts.items()}

    def state_dict(self) -> dict[str, Tensor]:
        optimiser = {f"optimiser/{k}": v for k, v in self.optimiser.state_dict().items()}
        return {"params/all": self.params.matrix, **optimiser, **self.normaliser.state_dict()}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.params.matrix.copy_(state["params/all"])
        self.optimiser.load_state_dict({k: state[f"optimiser/{k}"] for k in self.optimiser.state_dict()})
        self.normaliser.load_state_dict(state)

"""REINFORCE with a learned baseline.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning",
Machine Learning 8; with the return to go and a state-dependent baseline as in Sutton & Barto 2018, section
13.4:

    G_t    = sum_{k>=t} gamma^(k-t) reward_k
    grad J = E[ sum_t (G_t - V(s_t)) grad log pi(a_t|s_t) ]

One gradient step per window of fresh experience; then the baseline V is fitted to the same returns.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| window | one episode | a fixed number of steps | shapes must not depend on other seeds |
| unfinished tail, time limit | none | the baseline stands for the rest | dropping it prefers short episodes |
| discount | gamma^t before each term | dropped | as nearly all code does (OpenAI Spinning Up) |
| scale | raw | G_t - V(s_t) standardised over the window | one learning rate for all tasks |
| optimiser | plain gradient | Adam, for policy and baseline apart | common practice |
| normalisers | none | observations' change after the update, rewards' before | acting is scored alike |
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
    orthogonal,
    standardise,
    tanh,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults after OpenAI Spinning Up's VPG, with lambda 1 and shorter windows."""

    envs: Count = 4  # environments per seed
    steps: Count = 256  # time steps in a window
    learning_rate: Positive = 3e-3  # of the policy
    value_learning_rate: Positive = 3e-3  # of the baseline
    value_epochs: Count = 10  # full-batch steps for the baseline per window
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.99  # discount
    entropy_coef: NonNegative = 0.0
    hidden: Widths = (64, 64)  # tanh units, policy and baseline apart
    normalise: bool = False  # observations and rewards, by their running moments

    def __post_init__(self) -> None:
        if self.envs * self.steps < 2:
            raise ValueError("steps: a window needs at least 2 transitions")


# Spinning Up's windows of 4,000 steps are long for classic control. Tried on CartPole with seeds 1000-1009.
PRESETS = {"classic": Config(entropy_coef=0.01)}
PRESETS["classic-continuous"] = Config(gamma=0.9)
# Of 4 x 512 and 8 x 128, on Hopper-v5 with seeds 1000-1002; normalised as PPO and A2C are.
PRESETS["mujoco"] = Config(envs=8, steps=128, normalise=True)


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
        self.baseline = MLP(streams, (n_obs, *config.hidden, 1), tanh, inits)
        self.policy_params = Parameters(*self.policy.modules())
        self.baseline_params = Parameters(self.baseline)
        self.policy_optimiser = Adam(self.policy_params, config.adam_eps)
        self.baseline_optimiser = Adam(self.baseline_params, config.adam_eps)

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
            ret = returns_to_go(batch, self.baseline(batch.next_obs).squeeze(-1), c.gamma)  # (S, T, E)
            advantage = standardise(ret - self.baseline(batch.obs).squeeze(-1))
        policy_loss, entropy = self.policy_loss(batch.obs, batch.action, advantage)
        grad = self.policy_params.grad(policy_loss - c.entropy_coef * entropy)
        self.policy_optimiser.step(grad, c.learning_rate)
        for _ in range(c.value_epochs):  # only now: the baseline must not know these returns before
            value_loss = (self.baseline(batch.obs).squeeze(-1) - ret).square().flatten(1).mean(1)
            self.baseline_optimiser.step(self.baseline_params.grad(value_loss), c.value_learning_rate)
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return {name: part.detach() for name, part in parts.items()}

    def policy_loss(self, obs: Tensor, action: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """-mean(advantage log pi), whose gradient is -grad J, and the mean entropy, both (S,)."""
        logp, entropy = self.policy.evaluate(obs, action)
        return -(advantage * logp).flatten(1).mean(1), entropy.flatten(1).mean(1)

    def state_dict(self) -> dict[str, Tensor]:
        optimisers = {"policy": self.policy_optimiser, "baseline": self.baseline_optimiser}
        return {
            "params/policy": self.policy_params.matrix,
            "params/baseline": self.baseline_params.matrix,
            **{f"optimiser/{n}/{k}": v for n, o in optimisers.items() for k, v in o.state_dict().items()},
            **self.normaliser.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.policy_params.matrix.copy_(state["params/policy"])
        self.baseline_params.matrix.copy_(state["params/baseline"])
        for name, optimiser in {"policy": self.policy_optimiser, "baseline": self.baseline_optimiser}.items():
            optimiser.load_state_dict({k: state[f"optimiser/{name}/{k}"] for k in optimiser.state_dict()})
        self.normaliser.load_state_dict(state)

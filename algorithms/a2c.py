"""A2C: advantage actor-critic, the synchronous form of A3C.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", arXiv 1602.01783, algorithm S3, made
synchronous as in openai/baselines a2c. With R_t the n-step return that bootstraps at the end of the window:

    R_t = sum_{i<k} gamma^i reward_t+i + gamma^k V(s_t+k)
    L   = mean(-(R_t - V(s_t)) log pi(a_t|s_t) - entropy_coef H(pi(.|s_t)) + value_coef (R_t - V(s_t))^2)

where no gradient flows through the advantage R_t - V(s_t) in the first term. With lam < 1, R_t is the lambda
return: the mean of all n-step returns within the window, with weights (1 - lam) lam^(n-1) and the rest of the
weight on the longest. R_t - V(s_t) is then the generalised advantage (arXiv 1506.02438, eq. 16).

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| workers | asynchronous, with stale parameters | E environments stepped together | the definition of A2C |
| gradient | summed over the window | averaged | openai/baselines |
| optimiser | RMSProp, statistics shared | RMSProp, one learner, by `rmsprop`'s convention | the sources |
| networks | policy and value share layers | two networks of tanh units | Stable-Baselines3 |
| initial weights | not stated | orthogonal (gains sqrt 2, 0.01, 1), or torch's | Stable-Baselines3 |
| time limit | terminal | bootstraps from the successor's value | arXiv 1712.00378 |
| continuous actions | softplus variance from the network | free std | openai/baselines |
| normalisation | none | running moments of observations (used frozen) and rewards | VecNormalize |
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Init, Normaliser, Policy, value_network
from ascent.algorithms.seedwise import (
    Batch,
    Count,
    Fraction,
    Learned,
    NonNegative,
    Positive,
    RMSProp,
    Rollout,
    State,
    Step,
    Streams,
    Widths,
    clip_grad_norm,
    gradient,
)

VERSION = 3  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: those of Stable-Baselines3's A2C."""

    envs: Count = 1  # environments per seed
    steps: Count = 5  # time steps in a window ("t_max")
    learning_rate: Positive = 7e-4  # of policy and value network
    anneal: bool = False  # learning rate linear to zero over the budget
    rmsprop: Literal["tensorflow", "torch"] = "torch"  # eps inside the root, g from 1; or outside, g from 0
    rms_decay: Fraction = 0.99  # of the mean g of squared gradients
    rms_eps: Positive = 1e-5  # keeps steps finite where g is 0
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 1.0  # of the lambda return; 1: the n-step return
    value_coef: NonNegative = 0.5  # weight of the squared error of the value
    entropy_coef: NonNegative = 0.0  # weight of the entropy bonus
    max_grad_norm: Positive = 0.5  # limit on the gradient of all parameters together
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the value network
    init: Init = "orthogonal"  # initial weights; or torch's default
    normalise: bool = False  # scale observations and rewards by running moments


# RL Baselines3 Zoo, whose settings for MuJoCo are of the -v4 tasks. Where it is silent, Stable-Baselines3's
# defaults hold, among them a single environment.
ZOO = {
    "CartPole-v1": Config(envs=8),
    "Acrobot-v1": Config(envs=16, normalise=True),
    "MountainCar-v0": Config(envs=16, normalise=True),
    "Pendulum-v1": Config(
        envs=8, steps=8, anneal=True, gamma=0.9, lam=0.9, value_coef=0.4, init="torch", normalise=True
    ),
    "MountainCarContinuous-v0": Config(envs=4, steps=100, init="torch", normalise=True),
    "HalfCheetah-v5": Config(normalise=True),
    "Ant-v5": Config(normalise=True),
    "Hopper-v5": Config(normalise=True),
    "Walker2d-v5": Config(normalise=True),
    "Humanoid-v5": Config(normalise=True),
    "Swimmer-v5": Config(gamma=0.9999, normalise=True),
    "default": Config(),
}
# The same with 16 environments in place of a single one: with one, A3C would be A2C.
PARALLEL = {task: replace(c, envs=16) if c.envs == 1 else c for task, c in ZOO.items()}
# openai/baselines, where A2C appeared first; it has no settings for these tasks: the same for all.
BASELINES = Config(envs=16, anneal=True, rmsprop="tensorflow", entropy_coef=0.01)
# Searched on CartPole-v1 with seeds 1000-1009: learning rates 7e-4 to 3e-3, 5 to 32 steps, 4 to 16
# environments. The discount for continuous actions is that of RL Baselines3 Zoo for Pendulum-v1.
SMALL = replace(BASELINES, learning_rate=2e-3, entropy_coef=0.0)
# Tianshou's settings are not expressible: its values are in units of the standard deviation of returns, its
# rewards are not scaled, and it anneals over three times the steps that it reports.
PRESETS: dict[str, Config | dict[str, Config]] = {
    "zoo": ZOO,
    "parallel": PARALLEL,
    "baselines": BASELINES,
    "small": {"discrete": SMALL, "continuous": replace(SMALL, gamma=0.9)},
}
# The first of authors' code, CleanRL and RL Zoo with settings for such tasks: the authors' has none for them,
# CleanRL has no A2C.
DEFAULTS = {"classic": "zoo", "mujoco": "zoo"}


def lambda_returns(batch: Batch, next_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Return the lambda returns to the end of the episode, along the time axis of (S, T, E).

    With lam = 1: the discounted rewards. Where a time limit or the end of the window cuts the episode, the
    value of the true successor replaces the remaining rewards; where the episode terminated, nothing follows.
    """
    assert batch.truncated is not None
    carry = gamma * (1 - batch.terminated)
    known = batch.reward + carry * (batch.truncated + (1 - batch.truncated) * (1 - lam)) * next_value
    carry = carry * (1 - batch.truncated) * lam
    ret, returns = next_value[:, -1], []
    for known_t, carry_t in zip(known.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        ret = known_t + carry_t * ret
        returns.append(ret)
    return torch.stack(returns[::-1], 1)


class Agent:
    """The A2C learner: a policy and a value network, moved together after every window."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.envs)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(streams, n_obs, c.envs, c.gamma, c.normalise)
        self.policy = Policy(streams, n_obs, c.hidden, action_space, init=c.init)
        self.value = value_network(streams, n_obs, c.hidden, init=c.init)
        rmsprop = partial(RMSProp, eps=c.rms_eps, decay=c.rms_decay, convention=c.rmsprop)
        self.learned = Learned("all", self.policy, self.value, optimiser=rmsprop, optimiser_name="optimiser")

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
        """Take one step on a window (S, T, E)."""
        c = self.config
        batch = self.normaliser.batch(batch)
        with torch.no_grad():
            next_value = self.value(batch.next_obs).squeeze(-1)  # (S, T, E)
            ret = lambda_returns(batch, next_value, c.gamma, c.lam)
        loss, metrics = self.loss(batch.obs, batch.action, ret)
        grad, metrics["grad_norm"] = clip_grad_norm(self.learned.params.grad(loss), c.max_grad_norm)
        self.learned.optimiser.step(grad, c.learning_rate * (1 - progress if c.anneal else 1))
        return metrics

    def loss(self, obs: Tensor, action: Tensor, ret: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss L (S,) of a window (S, T, E), and metrics."""
        c = self.config
        logp, entropy = self.policy.evaluate(obs, action)
        error = ret - self.value(obs).squeeze(-1)
        policy_loss = -(error.detach() * logp).flatten(1).mean(1)
        value_loss = error.square().flatten(1).mean(1)
        entropy = entropy.flatten(1).mean(1)
        loss = policy_loss - c.entropy_coef * entropy + c.value_coef * value_loss
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return loss, {name: part.detach() for name, part in parts.items()}

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return V (S, B) of observations (S, B, O), in units of the task's rewards."""
        return self.normaliser.reward_unit() * self.value(self.normaliser.obs(obs)).squeeze(-1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of mean (R - V) log pi over a window (S, T, E)."""
        c, batch = self.config, self.normaliser.frozen(batch)
        with torch.no_grad():
            ret = lambda_returns(batch, self.value(batch.next_obs).squeeze(-1), c.gamma, c.lam)
            error = ret - self.value(batch.obs).squeeze(-1)
        logp, _ = self.policy.evaluate(batch.obs, batch.action)
        return gradient((error * logp).flatten(1).mean(1), self.policy)

    def state_dict(self) -> State:
        return self.learned.state_dict() | self.normaliser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.learned.load_state_dict(state)
        self.normaliser.load_state_dict(state)

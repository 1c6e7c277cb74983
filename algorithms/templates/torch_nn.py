"""NAME: what it does differently, and from which paper.

An actor-critic with one step per window, written for one seed with ordinary torch modules and optimisers.
Every seed has a learner of its own. They take turns: an algorithm with a seed axis is faster.
"""

from dataclasses import dataclass

import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.spaces.utils import flatdim
from torch import Tensor, nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from ascent.algorithms.per_seed import PerSeed
from ascent.algorithms.seedwise import Batch, Count, Fraction, NonNegative, Positive, Rollout

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Every hyperparameter with its default; `ascent train ... --set gamma=0.9` sets another value."""

    envs: Count = 8  # environments per seed
    steps: Count = 16  # time steps in a window
    learning_rate: Positive = 1e-3  # of policy and value network
    gamma: Fraction = 0.99  # discount
    value_coef: NonNegative = 0.5  # weight of the squared error of the value
    entropy_coef: NonNegative = 0.0  # weight of the entropy bonus
    max_grad_norm: Positive = 0.5  # limit on the gradient of all parameters together
    width: Count = 64  # tanh units of each of two hidden layers


def network(inputs: int, width: int, outputs: int) -> nn.Sequential:
    """Return a network with two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, outputs)
    )


class Learner:
    """One seed: a policy and a value network, moved together after every window."""

    def __init__(self, config: Config, observation_space: Box, action_space: Box | Discrete) -> None:
        self.config = config
        self.experience = Rollout(config.steps, config.envs)  # what the runner collects for `update`
        self.discrete = isinstance(action_space, Discrete)
        n_obs = observation_space.shape[0]
        outputs = flatdim(action_space)  # the choices, or the numbers of an action
        self.policy = network(n_obs, config.width, outputs)
        self.value = network(n_obs, config.width, 1)
        self.log_std = nn.ParameterList([] if self.discrete else [torch.zeros(outputs)])
        self.parameters = [x for part in (self.policy, self.value, self.log_std) for x in part.parameters()]
        self.optimiser = torch.optim.Adam(self.parameters, lr=config.learning_rate)

    def distribution(self, obs: Tensor) -> Distribution:
        """Return the policy at observations (..., O)."""
        outputs = self.policy(obs)
        if self.discrete:
            return Categorical(logits=outputs)
        return Independent(Normal(outputs, self.log_std[0].exp()), 1)

    def act(self, obs: Tensor, explore: bool, progress: float) -> Tensor:
        """Return actions, (E,) or (E, A), for observations (E, O)."""
        if explore:
            return self.distribution(obs).sample()
        return self.preference(obs).argmax(-1) if self.discrete else self.preference(obs)

    def update(self, batch: Batch, progress: float) -> dict[str, Tensor]:
        """Learn from a window (T, E), and return metrics."""
        c = self.config
        with torch.no_grad():
            returns = self.returns(batch)
        policy = self.distribution(batch.obs)
        error = returns - self.value(batch.obs).squeeze(-1)
        policy_loss = -(error.detach() * policy.log_prob(batch.action)).mean()
        value_loss = error.square().mean()
        entropy = policy.entropy().mean()
        self.optimiser.zero_grad()
        (policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy).backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, c.max_grad_norm)
        self.optimiser.step()
        return {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy, "grad_norm": norm}

    def returns(self, batch: Batch) -> Tensor:
        """Return the discounted rewards to the end of each episode or of the window (T, E).

        Where a time limit or the window cuts an episode, the value of the true successor stands for the rest.
        """
        assert batch.truncated is not None  # a window has it
        gamma, value = self.config.gamma, self.value(batch.next_obs).squeeze(-1)
        following, found = value[-1], []
        for t in reversed(range(len(value))):
            following = torch.where(batch.truncated[t] > 0, value[t], following)
            following = batch.reward[t] + gamma * (1 - batch.terminated[t]) * following
            found.append(following)
        return torch.stack(found[::-1])

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the values (B,), which every evaluation compares with returns. Optional."""
        return self.value(obs).squeeze(-1)

    def preference(self, obs: Tensor) -> Tensor:
        """Return what greedy acting follows, differentiable: `ascent robustness` attacks it. Optional."""
        return self.policy(obs)


class Agent(PerSeed):
    """A learner for each seed."""

    Learner = Learner

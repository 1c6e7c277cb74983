"""NAME: what it does differently, and from which paper.

An actor-critic with one step per window: advantages are n-step returns less the value. Every tensor begins
with the seed axis S: all seeds of a process learn at once, each by itself. Losses are vectors (S,).
"""

from dataclasses import dataclass
from functools import partial

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Policy, value_network
from ascent.algorithms.seedwise import (
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    NonNegative,
    Positive,
    Rollout,
    State,
    Step,
    Streams,
    Widths,
    clip_grad_norm,
)

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
    hidden: Widths = (64, 64)  # tanh units of each network


class Agent:
    """A policy and a value network, moved together after every window."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        self.config = config
        self.experience = Rollout(config.steps, config.envs)  # what the runner collects for `update`
        n_obs = observation_space.shape[0]
        self.policy = Policy(streams, n_obs, config.hidden, action_space)
        self.value = value_network(streams, n_obs, config.hidden)
        self.learned = Learned("all", self.policy, self.value, optimiser=partial(Adam, eps=1e-8))

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """Return actions, (S, E) or (S, E, A), for observations (S, E, O); draw from `rng` alone."""
        return self.policy.act(obs, rng, explore), None

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Learn from a window (S, T, E), and return metrics, each (S,)."""
        c = self.config
        with torch.no_grad():
            returns = self.returns(batch)
        logp, entropy = self.policy.evaluate(batch.obs, batch.action)
        error = returns - self.value(batch.obs).squeeze(-1)
        policy_loss = -(error.detach() * logp).flatten(1).mean(1)
        value_loss = error.square().flatten(1).mean(1)
        entropy = entropy.flatten(1).mean(1)
        loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
        grad, norm = clip_grad_norm(self.learned.params.grad(loss), c.max_grad_norm)
        self.learned.optimiser.step(grad, c.learning_rate)
        metrics = {
            "policy_loss": policy_loss,
            "value_loss": value_loss,
            "entropy": entropy,
            "grad_norm": norm,
        }
        return {name: x.detach() for name, x in metrics.items()}

    def returns(self, batch: Batch) -> Tensor:
        """Return the discounted rewards to the end of each episode or of the window (S, T, E).

        Where a time limit or the window cuts an episode, the value of the true successor stands for the rest.
        """
        assert batch.truncated is not None  # a window has it
        gamma, value = self.config.gamma, self.value(batch.next_obs).squeeze(-1)
        following, found = value[:, -1], []
        for t in reversed(range(batch.reward.shape[1])):
            following = torch.where(batch.truncated[:, t] > 0, value[:, t], following)
            following = batch.reward[:, t] + gamma * (1 - batch.terminated[:, t]) * following
            found.append(following)
        return torch.stack(found[::-1], 1)

    def greedy_steps(self) -> list[list[Step]]:
        """Say how the policy acts, so that `ascent.load` can play it without this file. Optional."""
        return [self.policy.greedy_steps()]

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the values (S, B), which every evaluation compares with returns. Optional."""
        return self.value(obs).squeeze(-1)

    def preference(self, obs: Tensor) -> Tensor:
        """Return what greedy acting follows, differentiable: `ascent robustness` attacks it. Optional."""
        return self.policy.net(obs)

    def state_dict(self) -> State:
        """Return everything that learning depends on; names of what is learned begin with "params/"."""
        return self.learned.state_dict()

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        self.learned.load_state_dict(state)

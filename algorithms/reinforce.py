"""REINFORCE: the Monte Carlo policy gradient.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning",
Machine Learning 8; with the return to go and a baseline as in Sutton & Barto 2018, sections 13.3 and 13.4.
Over the steps t of whole episodes:

    G_t    = reward_t + gamma reward_t+1 + gamma^2 reward_t+2 + ... to the end of the episode
    grad J = E[ sum_t (G_t - b_t) grad log pi(a_t|s_t) ],  b_t independent of a_t

Nothing bootstraps: no target contains a value. The baseline b_t is 0 (`none`), the mean G of the seed's other
environments (`mean`), or V(s_t) (`learned`), which was fitted to the G of earlier windows.

A window begins with a reset and lasts `horizons` time limits H. It uses the episodes that begin at least H
before its end: all of them are whole, and none is chosen by its length. Whether one more episode begins in
time depends on earlier episodes alone, so by Wald's identity the sum over these episodes is, in expectation,
their expected number times grad J. It is divided by a constant, the number of steps in the window.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| batch | one episode | the episodes of a window | less variance; shapes must not depend on other seeds |
| time limit | none | ends the return | nothing may bootstrap; V learns the return up to the limit |
| discount | gamma^t before each term | omitted | as in most code (OpenAI Spinning Up) |
| scale | raw | G_t - b_t standardised over the window if `standardise` | one learning rate for all tasks |
| baseline | learned step by step | fitted after the policy's step, to the same window | Spinning Up |
| optimiser | plain gradient | one Adam each for policy and baseline | common practice |
| initial weights | not stated | torch's default | Spinning Up |
| actions | not stated | clipped when executed; log densities of the sample itself | common practice |
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

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
    Positive,
    State,
    Step,
    Streams,
    WholeEpisodes,
    Widths,
    exp,
    gradient,
    sqrt,
)

VERSION = 3  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: OpenAI Spinning Up's vpg.py, with the returns of whole episodes in place of its estimates."""

    envs: Count = 2  # environments per seed
    horizons: Count = 2  # time limits in a window
    baseline: Literal["none", "mean", "learned"] = "learned"  # what is subtracted from the returns
    standardise: bool = True  # shift and scale returns minus baseline to mean 0 and deviation 1
    learning_rate: Positive = 3e-4  # of the policy
    value_learning_rate: Positive = 1e-3  # of the learned baseline
    value_epochs: Count = 80  # full-batch steps for the learned baseline per window
    adam_eps: Positive = 1e-8  # of both optimisers
    gamma: Fraction = 0.99  # discount
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the learned baseline
    log_std_init: float = -0.5  # initial logarithm of the standard deviation of continuous actions

    def __post_init__(self) -> None:
        if self.baseline == "mean" and self.envs < 2:
            raise ValueError("envs: baseline 'mean' is over the other environments and needs at least 2")


# No public library that was read learns from batches of whole episodes, and none of the authors' code,
# CleanRL and RL Zoo has this algorithm. `default`: Spinning Up's values, and its 4,000 steps between updates
# where the time limit is 1,000. About half of a window is used where episodes are short, and all of it where
# they last to the time limit.
PRESETS = {
    "default": Config(),
    # For quick runs. Tried on CartPole-v1 for 40,000 steps with seeds 1000-1009: rates of 1e-2 are no better,
    # two environments are worse.
    "small": Config(envs=1, learning_rate=3e-3, value_learning_rate=3e-3, value_epochs=10),
}
DEFAULTS = {"classic": "default", "mujoco": "default"}


def monte_carlo_returns(batch: Batch, gamma: float) -> Tensor:
    """Return the discounted rewards to the end of the episode, along the time axis of (S, T, E).

    An episode that the end of the window cuts has the rewards up to there; its weight is 0.
    """
    assert batch.truncated is not None
    carry = gamma * (1 - batch.terminated) * (1 - batch.truncated)
    ret, returns = torch.zeros_like(batch.reward[:, 0]), []
    for reward_t, carry_t in zip(batch.reward.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        ret = reward_t + carry_t * ret
        returns.append(ret)
    return torch.stack(returns[::-1], 1)


def mean_of_others(ret: Tensor, weight: Tensor) -> Tensor:
    """Return, for each environment of (S, T, E), the weighted mean over the others: (S, 1, E).

    It is independent of the environment's own actions.
    """
    sums = (ret * weight).mT.contiguous().sum(2)  # (S, E), reduced over the last axis
    counts = weight.mT.contiguous().sum(2)
    others = sums.sum(1, keepdim=True) - sums
    return (others / (counts.sum(1, keepdim=True) - counts))[:, None]


def standardised(x: Tensor, weight: Tensor) -> Tensor:
    """Return each seed's (S, T, E) with mean 0 and standard deviation 1 over what has weight."""
    flat, w = x.flatten(1), weight.flatten(1)
    n = w.sum(1, keepdim=True)
    flat = flat - (flat * w).sum(1, keepdim=True) / n
    std = sqrt((flat.square() * w).sum(1, keepdim=True) / n)
    return (flat / (std + 1e-8)).view(x.shape)


class Agent:
    """The REINFORCE learner: a policy and, if it is learned, a baseline."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = WholeEpisodes(c.horizons, c.envs)
        n_obs = observation_space.shape[0]
        adam = partial(Adam, eps=c.adam_eps)
        self.policy = Policy(
            streams, n_obs, c.hidden, action_space, init="torch", log_std_init=c.log_std_init
        )
        self.learned_policy = Learned("policy", self.policy, optimiser=adam)
        self.learners = [self.learned_policy]
        if c.baseline == "learned":
            self.baseline = value_network(streams, n_obs, c.hidden, init="torch")
            self.learned_baseline = Learned("baseline", self.baseline, optimiser=adam)
            self.learners.append(self.learned_baseline)
        self.ends_at_limit = True  # the baseline predicts returns up to the time limit

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return self.policy.act(obs, rng, explore), None

    def greedy_steps(self) -> list[list[Step]]:
        return [self.policy.greedy_steps()]

    def preference(self, obs: Tensor) -> Tensor:
        """Return the logits or mean actions of greedy acting, differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(obs)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Take one step of the policy on a window (S, T, E), then fit the baseline to its returns."""
        c = self.config
        assert batch.weight is not None
        ret = monte_carlo_returns(batch, c.gamma)
        old_logp = self.policy.evaluate(batch.obs, batch.action)[0].detach()
        policy_loss, entropy = self.policy_loss(batch, self.advantage(batch, ret))
        self.learned_policy.descend(policy_loss, c.learning_rate)
        metrics = {"policy_loss": policy_loss, "entropy": entropy, "approx_kl": self.kl(batch, old_logp)}
        metrics["used"] = batch.weight.flatten(1).mean(1)
        if c.baseline == "learned":
            for _ in range(c.value_epochs):  # after the policy: its baseline must not know these returns
                value_loss = self.value_loss(batch, ret)
                self.learned_baseline.descend(value_loss, c.value_learning_rate)
            metrics["value_loss"] = value_loss
        return {name: part.detach() for name, part in metrics.items()}

    @torch.no_grad()
    def advantage(self, batch: Batch, ret: Tensor) -> Tensor:
        """Return what multiplies each grad log pi of a window with returns `ret`, (S, T, E)."""
        c = self.config
        assert batch.weight is not None
        advantage = ret
        if c.baseline == "mean":
            advantage = ret - mean_of_others(ret, batch.weight)
        elif c.baseline == "learned":
            advantage = ret - self.baseline(batch.obs).squeeze(-1)
        return standardised(advantage, batch.weight) if c.standardise else advantage

    def policy_loss(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss (S,) whose gradient is -grad J up to a constant, and the mean entropy (S,)."""
        logp, entropy = self.policy.evaluate(batch.obs, batch.action)
        assert batch.weight is not None
        return -(batch.weight * advantage * logp).flatten(1).mean(1), entropy.flatten(1).mean(1)

    @torch.no_grad()
    def kl(self, batch: Batch, old_logp: Tensor) -> Tensor:
        """Return the mean of r - 1 - log r (S,) over whole episodes, r = pi / pi_old: KL(pi_old || pi)."""
        assert batch.weight is not None
        log_ratio = self.policy.evaluate(batch.obs, batch.action)[0] - old_logp
        sums = (batch.weight * (exp(log_ratio) - 1 - log_ratio)).flatten(1).sum(1)
        return sums / batch.weight.flatten(1).sum(1)

    def value_loss(self, batch: Batch, ret: Tensor) -> Tensor:
        """Return the squared error (S,) of the learned baseline, on whole episodes."""
        assert batch.weight is not None
        error = self.baseline(batch.obs).squeeze(-1) - ret
        return (batch.weight * error.square()).flatten(1).mean(1)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor | None:
        """Return the learned baseline (S, B) of observations (S, B, O); None with another baseline."""
        return self.baseline(obs).squeeze(-1) if self.config.baseline == "learned" else None

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return grad J (S, P), up to the loss's constant, as a window (S, T, E) estimates it."""
        advantage = self.advantage(batch, monte_carlo_returns(batch, self.config.gamma))
        return gradient(-self.policy_loss(batch, advantage)[0], self.policy)

    def state_dict(self) -> State:
        return {name: x for learner in self.learners for name, x in learner.state_dict().items()}

    def load_state_dict(self, state: State) -> None:
        for learner in self.learners:
            learner.load_state_dict(state)

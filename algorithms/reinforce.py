"""REINFORCE with a learned baseline.

Williams 1992, "Simple Statistical Gradient-Following Algorithms for Connectionist Reinforcement Learning",
Machine Learning 8; with the return to go and a state-dependent baseline as in Sutton & Barto 2018, section
13.4:

    G_t    = sum_{k>=t} gamma^(k-t) reward_k
    grad J = E[ sum_t (G_t - V(s_t)) grad log pi(a_t|s_t) ]

Each window of fresh experience gives one gradient step; then the baseline V is fitted to the same returns.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| window | one episode | a fixed number of steps | shapes must not depend on other seeds |
| cut episode, time limit | none | bootstraps from the baseline | dropping them favours short episodes |
| discount | gamma^t before each term | omitted | as in most code (OpenAI Spinning Up) |
| scale | raw | G_t - V(s_t) standardised over the window | one learning rate for all tasks |
| optimiser | plain gradient | one Adam each for policy and baseline | common practice |
| normalisation | none | running moments of observations (used frozen) and rewards | VecNormalize |
"""

from dataclasses import dataclass
from functools import partial

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
    Positive,
    Rollout,
    State,
    Streams,
    Widths,
    standardise,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: after OpenAI Spinning Up's VPG, with lambda 1 and shorter windows."""

    envs: Count = 4  # environments per seed
    steps: Count = 256  # time steps in a window
    learning_rate: Positive = 3e-3  # of the policy
    value_learning_rate: Positive = 3e-3  # of the baseline
    value_epochs: Count = 10  # full-batch steps for the baseline per window
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.99  # discount
    entropy_coef: NonNegative = 0.0
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the baseline
    normalise: bool = False  # scale observations and rewards by running moments

    def __post_init__(self) -> None:
        if self.envs * self.steps < 2:
            raise ValueError("steps: a window needs at least 2 transitions")


# Spinning Up's windows of 4,000 steps are long for classic control. Tried on CartPole with seeds 1000-1009.
PRESETS = {"classic": Config(entropy_coef=0.01)}
PRESETS["classic-continuous"] = Config(gamma=0.9)
# Chosen from 4 x 512 and 8 x 128 on Hopper-v5 with seeds 1000-1002; normalised as in PPO and A2C.
PRESETS["mujoco"] = Config(envs=8, steps=128, normalise=True)


def returns_to_go(batch: Batch, next_value: Tensor, gamma: float) -> Tensor:
    """Return the discounted rewards to the end of the episode, along the time axis of (S, T, E).

    Where a time limit or the end of the window cuts the episode, the value of the true successor replaces the
    remaining rewards; where the episode terminated, nothing follows.
    """
    assert batch.truncated is not None
    carry = gamma * (1 - batch.terminated)
    known = batch.reward + carry * batch.truncated * next_value
    carry = carry * (1 - batch.truncated)
    ret, returns = next_value[:, -1], []
    for known_t, carry_t in zip(known.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        ret = known_t + carry_t * ret
        returns.append(ret)
    return torch.stack(returns[::-1], 1)


class Agent:
    """The REINFORCE learner: a policy and a baseline."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.envs)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(streams, n_obs, c.envs, c.gamma, c.normalise)
        self.policy = Policy(streams, n_obs, c.hidden, action_space)
        self.baseline = value_network(streams, n_obs, c.hidden)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_policy = Learned(
            "policy", self.policy, optimiser=adam, optimiser_name="optimiser/policy"
        )
        self.learned_baseline = Learned(
            "baseline", self.baseline, optimiser=adam, optimiser_name="optimiser/baseline"
        )

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return self.policy.act(self.normaliser.obs(obs), rng, explore), None

    def preference(self, obs: Tensor) -> Tensor:
        """Return the logits or mean actions of greedy acting, differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(self.normaliser.obs(obs))

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Take one step of the policy on a window (S, T, E), then fit the baseline to its returns."""
        c = self.config
        batch = self.normaliser.batch(batch)
        with torch.no_grad():
            ret = returns_to_go(batch, self.baseline(batch.next_obs).squeeze(-1), c.gamma)  # (S, T, E)
            advantage = standardise(ret - self.baseline(batch.obs).squeeze(-1))
        policy_loss, entropy = self.policy_loss(batch.obs, batch.action, advantage)
        self.learned_policy.descend(policy_loss - c.entropy_coef * entropy, c.learning_rate)
        for _ in range(c.value_epochs):  # after the policy, so that the baseline does not know these returns
            value_loss = (self.baseline(batch.obs).squeeze(-1) - ret).square().flatten(1).mean(1)
            self.learned_baseline.descend(value_loss, c.value_learning_rate)
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return {name: part.detach() for name, part in parts.items()}

    def policy_loss(self, obs: Tensor, action: Tensor, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return -mean(advantage log pi), whose gradient is -grad J, and the mean entropy, both (S,)."""
        logp, entropy = self.policy.evaluate(obs, action)
        return -(advantage * logp).flatten(1).mean(1), entropy.flatten(1).mean(1)

    def state_dict(self) -> State:
        learners = self.learned_policy.state_dict() | self.learned_baseline.state_dict()
        return learners | self.normaliser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.learned_policy.load_state_dict(state)
        self.learned_baseline.load_state_dict(state)
        self.normaliser.load_state_dict(state)

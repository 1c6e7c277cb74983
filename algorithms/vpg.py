"""VPG: the vanilla policy gradient with generalised advantage estimates.

Sutton, McAllester, Singh, Mansour 2000, "Policy Gradient Methods for Reinforcement Learning with Function
Approximation", NIPS 12; with the estimates (GAE) of Schulman, Moritz, Levine, Jordan, Abbeel 2016,
"High-Dimensional Continuous Control Using Generalized Advantage Estimation", arXiv 1506.02438, as OpenAI
Spinning Up combines them. With V the value function, on a window of fresh experience:

    delta_t = reward_t + gamma V(s_t+1) - V(s_t)                                            (GAE, eq. 9)
    A_t     = delta_t + gamma lam A_t+1                                                     (GAE, eq. 16)
    grad J  = E[ A_t grad log pi(a_t|s_t) ]                                                 (GAE, eq. 1)
    ret_t   = reward_t + gamma ret_t+1, with V(s_t+1) behind a cut: what V is fitted to

Each window gives one gradient step of the policy; then V takes its steps. The targets contain V, so this is
an actor-critic method; `reinforce` is the method without.

Departures from the papers
| what | papers | here | why |
|---|---|---|---|
| policy step | plain gradient (2000), TRPO (2016) | Adam | Spinning Up |
| value step | compatible features, trust region | Adam on the squared error | Spinning Up |
| window | whole paths | a fixed number of steps, bootstraps where it cuts | Spinning Up |
| time limit | not stated | bootstraps from the successor's value | Spinning Up; arXiv 1712.00378 |
| discount | gamma^t before each term (2000) | omitted | as in most code |
| advantages | as estimated | standardised over the window | Spinning Up |
| actions | not stated | clipped when executed; log densities of the sample itself | common practice |
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Init, Policy, value_network
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
    exp,
    gradient,
    standardise,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: OpenAI Spinning Up's vpg.py with its four processes."""

    envs: Count = 4  # environments per seed
    steps: Count = 1000  # time steps in a window
    learning_rate: Positive = 3e-4  # of the policy
    value_learning_rate: Positive = 1e-3  # of the value function
    value_epochs: Count = 80  # full-batch steps for the value function per window
    adam_eps: Positive = 1e-8  # of both optimisers
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.97  # of the advantage estimator; 1: returns minus values
    entropy_coef: NonNegative = 0.0  # weight of the entropy bonus
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the value function
    init: Init = "torch"  # initial weights: torch's default, or orthogonal as in PPO
    log_std_init: float = -0.5  # initial logarithm of the standard deviation of continuous actions

    def __post_init__(self) -> None:
        if self.envs * self.steps < 2:
            raise ValueError("steps: a window needs at least 2 transitions")


# Spinning Up's windows of 4,000 steps are long for quick runs on classic control: `small` has shorter ones.
# Tried on CartPole-v1 with seeds 1000-1009. The discount of continuous actions was not tried.
SMALL = {
    "discrete": Config(
        steps=256,
        learning_rate=3e-3,
        value_learning_rate=3e-3,
        value_epochs=10,
        lam=1.0,
        entropy_coef=0.01,
        init="orthogonal",
        log_std_init=0.0,
    )
}
SMALL["continuous"] = replace(SMALL["discrete"], gamma=0.9, entropy_coef=0.0)
PRESETS = {
    "spinningup": Config(hidden=(64, 32)),  # the widths of its published curves
    "small": SMALL,
}
# None of the authors' code, CleanRL and RL Zoo has this algorithm; Spinning Up does.
DEFAULTS = {"classic": "spinningup", "mujoco": "spinningup"}


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
    """The VPG learner: a policy and a value function."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.envs)
        n_obs = observation_space.shape[0]
        self.policy = Policy(streams, n_obs, c.hidden, action_space, init=c.init, log_std_init=c.log_std_init)
        self.value = value_network(streams, n_obs, c.hidden, init=c.init)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_policy = Learned("policy", self.policy, optimiser=adam)
        self.learned_value = Learned("value", self.value, optimiser=adam)

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
        """Take one step of the policy on a window (S, T, E), then fit the value function to its returns."""
        c = self.config
        advantage, ret = self.estimates(batch)
        old_logp = self.policy.evaluate(batch.obs, batch.action)[0].detach()
        policy_loss, entropy = self.policy_loss(batch, advantage)
        self.learned_policy.descend(policy_loss - c.entropy_coef * entropy, c.learning_rate)
        approx_kl = self.kl(batch, old_logp)
        for _ in range(c.value_epochs):
            value_loss = (self.value(batch.obs).squeeze(-1) - ret).square().flatten(1).mean(1)
            self.learned_value.descend(value_loss, c.value_learning_rate)
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        parts["approx_kl"] = approx_kl
        return {name: part.detach() for name, part in parts.items()}

    @torch.no_grad()
    def estimates(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the standardised advantages of a window and the targets of the values, both (S, T, E)."""
        c = self.config
        value, next_value = self.value(batch.obs).squeeze(-1), self.value(batch.next_obs).squeeze(-1)
        advantage = standardise(advantages(batch, value, next_value, c.gamma, c.lam))
        return advantage, returns_to_go(batch, next_value, c.gamma)

    def policy_loss(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """Return -mean(advantage log pi), whose gradient is -grad J, and the mean entropy, both (S,)."""
        logp, entropy = self.policy.evaluate(batch.obs, batch.action)
        return -(advantage * logp).flatten(1).mean(1), entropy.flatten(1).mean(1)

    @torch.no_grad()
    def kl(self, batch: Batch, old_logp: Tensor) -> Tensor:
        """Return the mean of r - 1 - log r (S,) over a window, r = pi / pi_old: KL(pi_old || pi)."""
        log_ratio = self.policy.evaluate(batch.obs, batch.action)[0] - old_logp
        return (exp(log_ratio) - 1 - log_ratio).flatten(1).mean(1)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return V (S, B) of observations (S, B, O)."""
        return self.value(obs).squeeze(-1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of mean A log pi, with A standardised, over a window (S, T, E)."""
        return gradient(-self.policy_loss(batch, self.estimates(batch)[0])[0], self.policy)

    def state_dict(self) -> State:
        return self.learned_policy.state_dict() | self.learned_value.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.learned_policy.load_state_dict(state)
        self.learned_value.load_state_dict(state)

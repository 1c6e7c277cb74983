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
| learning rate | constant on MuJoCo | linear to zero if `anneal` | the authors' code |
| gradient | not limited | global norm clipped per seed | the authors' code |
| value loss | squared error | half of it, not clipped | clipping: no benefit (arXiv 2006.05990) |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | the authors' code |
| time limit | not stated | bootstraps from the successor's value | arXiv 1712.00378 |
| actions | not stated | clipped when executed; log densities of the sample itself | the authors' code |
| normalisation | not stated | running moments of observations (used frozen) and rewards | VecNormalize |
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
    captured,
    clip_grad_norm,
    standardise,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: openai/baselines ppo2 for MuJoCo, which are the paper's table 3 except for `anneal`."""

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
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the value network
    normalise: bool = False  # scale observations and rewards by running moments

    def __post_init__(self) -> None:
        if self.minibatch < 2 or (self.envs * self.steps) % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must be at least 2 and divide envs x steps")


PRESETS = {
    "classic": Config(),
    # After RL Baselines3 Zoo's settings for Pendulum-v1: a short horizon, since the reward is dense.
    "classic-continuous": Config(envs=4, steps=512, learning_rate=1e-3, gamma=0.9),
    "mujoco": Config(normalise=True),  # openai/baselines ppo2 with VecNormalize, as in CleanRL
}


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


class Agent:
    """The PPO learner: a policy and a value network, moved together on minibatches of a rollout."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.envs)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(streams, n_obs, c.envs, c.gamma, c.normalise)
        self.policy = Policy(streams, n_obs, c.hidden, action_space)
        self.value = value_network(streams, n_obs, c.hidden)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned = Learned("all", self.policy, self.value, optimiser=adam, optimiser_name="optimiser")
        self._step = captured(self.step, device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return self.policy.act(self.normaliser.obs(obs), rng, explore), None

    def preference(self, obs: Tensor) -> Tensor:
        """Return the logits or mean actions of greedy acting, differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(self.normaliser.obs(obs))

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Take `epochs` passes of clipped steps over a rollout (S, T, E)."""
        c = self.config
        batch = self.normaliser.batch(batch)
        with torch.no_grad():
            value = self.value(batch.obs).squeeze(-1)  # (S, T, E)
            next_value = self.value(batch.next_obs).squeeze(-1)
            old_logp, _ = self.policy.evaluate(batch.obs, batch.action)
            advantage = advantages(batch, value, next_value, c.gamma, c.lam)
        ret = advantage + value
        transitions = (batch.obs, batch.action, old_logp, advantage, ret)
        columns = [x.flatten(1, 2) for x in transitions]  # (S, T * E, ...)
        learning_rate = c.learning_rate * (1 - progress if c.anneal else 1)
        sums: Tensor | None = None
        for _ in range(c.epochs):
            for minibatch in rng.minibatches(columns, c.minibatch):
                metrics = self._step(learning_rate, *minibatch)
                sums = metrics.clone() if sums is None else sums + metrics
        assert sums is not None
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
        means = sums / (c.epochs * (columns[0].shape[1] // c.minibatch))
        return dict(zip(names, means.T, strict=True))

    def step(self, learning_rate: float | Tensor, *minibatch: Tensor) -> Tensor:
        """Take one step of the optimiser and return the metrics (S, 6) that `update` averages."""
        loss, parts = self.loss(*minibatch)
        grad, norm = clip_grad_norm(self.learned.params.grad(loss), self.config.max_grad_norm)
        self.learned.optimiser.step(grad, learning_rate)
        return torch.stack([*parts, norm], 1)

    def loss(
        self, obs: Tensor, action: Tensor, old_logp: Tensor, advantage: Tensor, ret: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the negative of equation 9 on a minibatch (S, B), a loss (S,), and metrics."""
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
            approx_kl = (ratio - 1 - log_ratio).mean(1)  # unbiased and never negative
            clip_fraction = (ratio != clipped).float().mean(1)
        return loss, (policy_loss.detach(), value_loss.detach(), entropy.detach(), approx_kl, clip_fraction)

    def state_dict(self) -> State:
        return self.learned.state_dict() | self.normaliser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.learned.load_state_dict(state)
        self.normaliser.load_state_dict(state)

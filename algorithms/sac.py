"""SAC: soft actor-critic, with a tuned or a fixed temperature.

Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, algorithm 1. With
a = tanh(u), u ~ N(m(s), d(s)) the sampled action, Q_i the critics, Q_i' their targets, alpha the temperature:

    y        = reward + gamma (min_i Q_i'(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')     (eq. 3, 6)
    L(Q)     = sum_i 1/2 mean (y - Q_i(s, a))^2                                              (eq. 5)
    L(pi)    = mean (alpha log pi(a|s) - min_i Q_i(s, a)),  a ~ pi(.|s)                      (eq. 7, 9)
    L(alpha) = mean -alpha (log pi(a|s) + target entropy)                                    (eq. 18)
    target   <- (1 - tau) target + tau online

and y = reward where s' is terminal. A time limit does not count as terminal. The log density is exact
(appendix C): log pi(a|s) = log N(u) - sum log(1 - tanh(u)^2).

A fixed temperature gives Haarnoja et al. 2018a (arXiv 1801.01290), whose reward scale is 1/alpha. It also
learns V(s) = E_a[min_i Q_i(s, a) - alpha log pi(a|s)], which is estimated here by one sampled action.

Departures from the papers
| what | paper | here | why |
|---|---|---|---|
| alpha in eq. 18 | alpha (preset `paper`) | its logarithm (preset `code`) | the authors' code until 2020 |
| reward scale (2018a) | 5, 20 on Humanoid, ... | alpha 0.2, 0.05, ... | equivalent up to the scale of Q |
| state value (2018a) | a network with a target | none | as in the later paper |
| policy gradient (2018a) | its code: of Q_1 alone | of the smaller Q | as in the later paper |
| initial weights | Xavier (code) | torch's default | as in CleanRL and Stable-Baselines3 |
| first actions | none (table 1); uniform (code) | uniform for `learning_starts` steps | the authors' code |
| log standard deviation | not limited | clipped to [-20, 2] | the authors' code |
| actions | in [-1, 1] | in [-1, 1], then scaled to the environment's bounds | |
"""

import copy
from dataclasses import dataclass
from functools import partial
from math import log, pi

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Bounds, Critic
from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    Positive,
    Replay,
    State,
    Streams,
    Vector,
    Widths,
    captured,
    load_learners,
    save_learners,
    softplus,
    tanh,
    uniform_fan_in,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (github.com/rail-berkeley/softlearning, 2018)."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 10_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    learning_rate: Positive = 3e-4  # of policy, critics and temperature
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # fraction of the online critics that goes into their targets
    tune: bool = True  # learn the temperature; otherwise it is fixed
    alpha: Positive = 1.0  # initial or fixed temperature
    target_entropy: float = -1.0  # of the policy, per action dimension, if the temperature is tuned
    log_alpha_loss: bool = True  # use log alpha for the factor alpha of eq. 18, as in the authors' code
    hidden: Widths = (256, 256)  # ReLU units of the policy, and of each critic


# 10,000 uniform steps suit HalfCheetah and Ant, 1,000 the other tasks: see the sweep mujoco_offpolicy.
PRESETS = {
    "mujoco": Config(),
    "code": Config(),  # the same as "mujoco"
    "paper": Config(learning_starts=1_000, log_alpha_loss=False),
    # Small networks, a higher learning rate: the first values tried, on seeds 1000-1004; not tuned.
    "classic": Config(
        capacity=100_000, batch=128, learning_starts=1_000, learning_rate=1e-3, hidden=(64, 64)
    ),
}


class SquashedGaussian:
    """A Gaussian u for each state, squashed to actions tanh(u) in [-1, 1] (appendix C)."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...]) -> None:
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 1))

    def greedy(self, obs: Tensor) -> Tensor:
        """Return tanh of the mean: (S, B, O) -> (S, B, A)."""
        return tanh(self.net(obs).chunk(2, -1)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return an action, made from standard normal noise, both (S, B, A), and its log density (S, B)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise * noise - log_std - 0.5 * log(2 * pi)
        # log(1 - tanh(u)^2), without log(1 - a^2 + 1e-6), which loses precision for |u| > 5
        log_slope = 2 * (log(2) - u - softplus(-2 * u))
        return tanh(u), (log_normal - log_slope).sum(-1)


class Agent:
    """The SAC learner: a policy, two critics with targets, and the temperature."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        self.bounds = Bounds(action_space, "sac", device)
        n_obs, n_actions = observation_space.shape[0], self.bounds.size
        self.policy = SquashedGaussian(streams, (n_obs, *c.hidden, 2 * n_actions))
        self.q = Critic(streams, (n_obs + n_actions, *c.hidden, 1), n=2)
        self.target_q = copy.deepcopy(self.q)  # before Learned, which makes parameters views of a matrix
        self.log_alpha = Vector(streams, 1, log(c.alpha))  # value (S, 1)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_policy = Learned("policy", self.policy.net, optimiser=adam)
        self.learned_q = Learned("q", self.q, optimiser=adam, target=self.target_q, copies=2)
        self.learners = [self.learned_policy, self.learned_q]
        if c.tune:
            self.learned_alpha = Learned("alpha", self.log_alpha, optimiser=adam)
            self.learners.append(self.learned_alpha)
        self.constant_q = self.q.constant(2)  # after Learned: a view; saves the critics' weight gradients
        self.updates = 0
        self._greedy = captured(self.policy.greedy, device)  # on a GPU a CUDA graph, on a CPU the function
        self._sample = captured(self.policy.sample, device)
        self._learn = captured(self.learn, device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        shape = (obs.shape[1], self.bounds.size)
        if not explore:
            action = self._greedy(obs)
        elif self.updates:
            action, _ = self._sample(obs, rng.normal(*shape))
        else:  # uniform before the first update
            action = 2 * rng.uniform(*shape).float() - 1
        return self.bounds.scale(action), None

    def preference(self, obs: Tensor) -> Tensor:
        """Return the Gaussian's mean (greedy action before tanh), differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(obs).chunk(2, -1)[0]

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        shape = (batch.reward.shape[1], self.bounds.size)
        self.updates += 1
        return self._learn(batch, rng.normal(*shape), rng.normal(*shape))

    def learn(self, batch: Batch, next_noise: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """Move critics, policy, temperature and targets one step; the noise (S, B, A) is standard normal."""
        c = self.config
        alpha = self.log_alpha.value.detach().exp()  # (S, 1)
        with torch.no_grad():
            next_action, next_logp = self.policy.sample(batch.next_obs, next_noise)
            next_value = self.target_q(batch.next_obs, next_action).amin(1) - alpha * next_logp
            y = batch.reward + c.gamma * (1 - batch.terminated) * next_value  # (S, B)
        # Replay stores environment actions.
        q = self.q(batch.obs, self.bounds.normalise(batch.action))  # (S, 2, B)
        q_loss = 0.5 * (q - y[:, None]).square().mean(-1).sum(-1)
        self.learned_q.descend(q_loss, c.learning_rate)

        new_action, logp = self.policy.sample(batch.obs, noise)
        policy_loss = (alpha * logp - self.constant_q(batch.obs, new_action).amin(1)).mean(1)
        self.learned_policy.descend(policy_loss, c.learning_rate)

        logp = logp.detach()
        if c.tune:
            gap = (logp + c.target_entropy * self.bounds.size).mean(1)  # target entropy minus entropy
            log_alpha = self.log_alpha.value.squeeze(1)
            alpha_loss = -(log_alpha if c.log_alpha_loss else log_alpha.exp()) * gap
            self.learned_alpha.descend(alpha_loss, c.learning_rate)
        self.learned_q.follow(c.tau)
        metrics = {"q_loss": q_loss, "policy_loss": policy_loss, "q": q.mean((1, 2))}
        metrics |= {"entropy": -logp.mean(1), "alpha": alpha.squeeze(1)}
        return {name: metric.detach() for name, metric in metrics.items()}

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the smaller Q (S, B), which includes the entropy of later actions."""
        return self.q(obs, self.bounds.normalise(action)).amin(1)

    def value_reward(self, batch: Batch, rng: Streams) -> Tensor:
        """Return the reward and the entropy bonus of a next action (S, B), so that y = this + gamma Q'."""
        noise = rng.normal(batch.reward.shape[1], self.bounds.size)
        bonus = -self.log_alpha.value.exp() * self.policy.sample(batch.next_obs, noise)[1]
        return batch.reward + self.config.gamma * (1 - batch.terminated) * bonus

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

"""SAC: soft actor-critic, with a tuned or a fixed temperature.

Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, algorithm 1. With
a = tanh(u), u ~ N(m(s), d(s)) the policy's sample, Q_i the critics, Q_i' their targets and alpha the
temperature:

    y        = reward + gamma (min_i Q_i'(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')     (eq. 5, 6)
    L(Q)     = sum_i 1/2 mean (y - Q_i(s, a))^2
    L(pi)    = mean (alpha log pi(a|s) - min_i Q_i(s, a)),  a ~ pi(.|s)                      (eq. 7, 9)
    L(alpha) = mean -alpha (log pi(a|s) + target entropy)                                    (eq. 18)
    target   <- (1 - tau) target + tau online

and y = reward where s' is terminal. A time limit is not: it does not enter. The log density is exact
(appendix C): log pi(a|s) = log N(u) - sum log(1 - tanh(u)^2).

A fixed temperature is what Haarnoja et al. 2018a (arXiv 1801.01290) have: their reward scale is 1/alpha here.
They also learn a state value V with a target; here, as in the later paper, y is made from Q and a fresh
action, of which that V is the mean.

Departures from the papers
| what | paper | here | why |
|---|---|---|---|
| alpha in eq. 18 | alpha (preset `paper`) | its logarithm (preset `code`) | the authors' code until 2020 |
| reward scale (2018a) | 5, 20 on Humanoid, ... | alpha 0.2, 0.05, ... | the same optimum |
| state value (2018a) | a network with a target | none | as the later paper |
| policy gradient (2018a) | its code: of Q_1 alone | of the smaller Q | as the later paper |
| initial weights | Xavier (code) | torch's default | as CleanRL and Stable-Baselines3 |
| first actions | none (table 1); uniform (code) | uniform, `learning_starts` steps | the authors' code |
| log deviation | not limited | clipped to [-20, 2] | the authors' code |
| actions | in [-1, 1] | the same, scaled to the environment's bounds | |
"""

import copy
from dataclasses import dataclass
from math import log, pi

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Initialiser,
    Parameters,
    Positive,
    Replay,
    Streams,
    Vector,
    Widths,
    captured,
    learner_state,
    load_learner_state,
    move_target,
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
    tau: Fraction = 0.005  # part of the online critics that goes into their targets
    tune: bool = True  # the temperature; else it stays
    alpha: Positive = 1.0  # temperature: initial, or fixed
    target_entropy: float = -1.0  # per action dimension; tuning (only) holds the policy's entropy there
    log_alpha_loss: bool = True  # tuning by eq. 18 with log alpha for its first alpha, as the authors' code
    hidden: Widths = (256, 256)  # ReLU units, policy and critics apart


# 10,000 uniform steps suit HalfCheetah and Ant, 1,000 the other tasks: see the sweep mujoco_offpolicy.
PRESETS = {
    "mujoco": Config(),
    "code": Config(),
    "paper": Config(learning_starts=1_000, log_alpha_loss=False),
    # Small networks, larger steps: the first values tried, on seeds 1000-1004; not tuned.
    "classic": Config(
        capacity=100_000, batch=128, learning_starts=1_000, learning_rate=1e-3, hidden=(64, 64)
    ),
}


class SquashedGaussian:
    """A Gaussian u for each state, squashed to actions tanh(u) in [-1, 1]."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...]):
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 1))

    def greedy(self, obs: Tensor) -> Tensor:
        """tanh of the mean: (S, B, O) -> (S, B, A)."""
        return tanh(self.net(obs).chunk(2, -1)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """An action (S, B, A) made from standard normal numbers (S, B, A), and its log density (S, B)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise * noise - log_std - 0.5 * log(2 * pi)
        # log(1 - tanh(u)^2) without the cancellation that a logarithm of 1 - a^2 + 1e-6 has from |u| = 5 on
        log_slope = 2 * (log(2) - u - softplus(-2 * u))
        return tanh(u), (log_normal - log_slope).sum(-1)


class Critic:
    """Q(s, a) of n networks: (S, B, O), (S, B, A) -> (S, n, B). A test holds the copies of it equal."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...], last: Initialiser, n: int):
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last], n)
        self.n = n

    def __call__(self, obs: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([obs, action], -1).repeat_interleave(self.n, 0)  # (S * n, B, O + A)
        return self.net(x).view(len(obs), self.n, -1)

    def constant(self, n: int) -> "Critic":
        """The first of them (n is 1) or all, in the same memory; no gradient goes into their parameters."""
        critic = copy.copy(self)
        critic.net, critic.n = self.net.constant(every=self.n // n), n
        return critic


class Agent:
    def __init__(
        self,
        config: Config,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        streams: Streams,
        device: str,
    ):
        if not isinstance(action_space, spaces.Box) or not action_space.is_bounded():
            raise ValueError("sac needs a continuous action space with bounds")
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        low, high = torch.tensor(action_space.low), torch.tensor(action_space.high)
        self.mid, self.half = ((high + low) / 2).to(device), ((high - low) / 2).to(device)  # (A,)
        n_obs, self.n_actions = observation_space.shape[0], len(low)
        self.policy = SquashedGaussian(streams, (n_obs, *c.hidden, 2 * self.n_actions))
        self.q = Critic(streams, (n_obs + self.n_actions, *c.hidden, 1), uniform_fan_in, 2)
        self.target_q = copy.deepcopy(self.q)
        self.policy_params, self.q_params = Parameters(self.policy.net), Parameters(self.q.net, copies=2)
        self.q_target = Parameters(self.target_q.net, copies=2)
        self.constant_q = self.q.constant(2)
        self.policy_optimiser = Adam(self.policy_params, c.adam_eps)
        self.q_optimiser = Adam(self.q_params, c.adam_eps)
        self.log_alpha = Vector(streams, 1, log(c.alpha))  # value (S, 1)
        self.learned = {
            "policy": (self.policy_params, self.policy_optimiser),
            "q": (self.q_params, self.q_optimiser),
        }
        if c.tune:
            self.alpha_params = Parameters(self.log_alpha)
            self.alpha_optimiser = Adam(self.alpha_params, c.adam_eps)
            self.learned["alpha"] = (self.alpha_params, self.alpha_optimiser)
        self.targets = {"q": self.q_target}
        self.updates = 0
        self._greedy = captured(self.policy.greedy, device)
        self._sample = captured(self.policy.sample, device)
        self._learn = captured(self.learn, device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: None = None
    ) -> tuple[Tensor, None]:
        shape = (obs.shape[1], self.n_actions)
        if not explore:
            action = self._greedy(obs)
        elif self.updates:
            action, _ = self._sample(obs, rng.normal(*shape))
        else:  # it knows nothing yet
            action = 2 * rng.uniform(*shape).float() - 1
        return self.mid + self.half * action, None

    def preference(self, obs: Tensor) -> Tensor:
        """(S, E, O) -> (S, E, A): what greedy acting follows, actions before tanh, differentiable."""
        return self.policy.net(obs).chunk(2, -1)[0]

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        shape = (batch.reward.shape[1], self.n_actions)
        self.updates += 1
        return self._learn(batch, rng.normal(*shape), rng.normal(*shape))

    def learn(self, batch: Batch, next_noise: Tensor, noise: Tensor) -> dict[str, Tensor]:
        """One step of critics, policy and temperature, with standard normal numbers (S, B, A) for actions."""
        c, action = self.config, (batch.action - self.mid) / self.half
        alpha = self.log_alpha.value.detach().exp()  # (S, 1)
        with torch.no_grad():
            next_action, next_logp = self.policy.sample(batch.next_obs, next_noise)
            next_value = self.target_q(batch.next_obs, next_action).amin(1) - alpha * next_logp
            y = batch.reward + c.gamma * (1 - batch.terminated) * next_value  # (S, B)
        q = self.q(batch.obs, action)  # (S, 2, B)
        q_loss = 0.5 * (q - y[:, None]).square().mean(-1).sum(-1)
        self.q_optimiser.step(self.q_params.grad(q_loss), c.learning_rate)
        new_action, logp = self.policy.sample(batch.obs, noise)
        policy_loss = (alpha * logp - self.constant_q(batch.obs, new_action).amin(1)).mean(1)
        self.policy_optimiser.step(self.policy_params.grad(policy_loss), c.learning_rate)
        logp = logp.detach()
        if c.tune:
            gap = (logp + c.target_entropy * self.n_actions).mean(1)  # target entropy minus entropy
            log_alpha = self.log_alpha.value.squeeze(1)
            alpha_loss = -(log_alpha if c.log_alpha_loss else log_alpha.exp()) * gap
            self.alpha_optimiser.step(self.alpha_params.grad(alpha_loss), c.learning_rate)
        move_target(self.q_target, self.q_params, c.tau)
        metrics = {
            "q_loss": q_loss.detach(),
            "policy_loss": policy_loss.detach(),
            "q": q.detach().mean((1, 2)),
        }
        return {**metrics, "entropy": -logp.mean(1), "alpha": alpha.squeeze(1)}

    def state_dict(self) -> dict[str, Tensor]:
        return learner_state(self.learned, self.targets, self.updates)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.updates = load_learner_state(self.learned, self.targets, state)

"""SAC: soft actor-critic, with a tuned or a fixed temperature.

Haarnoja et al. 2018b, "Soft Actor-Critic Algorithms and Applications", arXiv 1812.05905, algorithm 1. With
a = tanh(u), u ~ N(m(s), d(s)) the sampled action, Q_i the critics, Q_i' their targets, alpha the temperature:

    y        = scale reward + gamma (min_i Q_i'(s', a') - alpha log pi(a'|s')),  a' ~ pi(.|s')   (eq. 3, 6)
    L(Q)     = sum_i 1/2 mean (y - Q_i(s, a))^2                                                  (eq. 5)
    L(pi)    = mean (alpha log pi(a|s) - min_i Q_i(s, a)),  a ~ pi(.|s)                          (eq. 7, 9)
    L(alpha) = mean -alpha (log pi(a|s) + target entropy)                                        (eq. 18)
    target   <- (1 - tau) target + tau online

and y = scale reward where s' is terminal. A time limit does not count as terminal. The log density is exact
(appendix C): log pi(a|s) = log N(u) - sum log(1 - tanh(u)^2). The scale is 1 in this paper. Haarnoja et al.
2018a (arXiv 1801.01290) fixes alpha to 1 and chooses the scale; only their ratio matters to the policy.

Departures from the papers; `sources/sac.toml` has those of each preset from its source
| what | paper | here | why |
|---|---|---|---|
| alpha in eq. 18 | alpha (preset `paper`) | its logarithm (preset `code`) | the authors' code until 2020 |
| state value (2018a) | a network with a target | one sampled action | as in the later paper |
| initial weights | Xavier (code) | torch's default | as in CleanRL and Stable-Baselines3 |
| first actions | none (table 1); uniform (code) | uniform for `learning_starts` steps | the authors' code |
| log standard deviation | not limited | clipped to [-20, 2] | the authors' code |
| actions | in [-1, 1] | in [-1, 1], then scaled to the environment's bounds | |
"""

import copy
from dataclasses import dataclass, replace
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
    Step,
    Streams,
    Vector,
    Widths,
    captured,
    exp,
    load_learners,
    network,
    save_learners,
    softplus,
    squash,
    tanh,
    uniform_fan_in,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (softlearning, December 2018) on the tasks that it lists."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 10_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    actor_learning_rate: Positive = 3e-4  # of the policy
    critic_learning_rate: Positive = 3e-4  # of the critics
    alpha_learning_rate: Positive = 3e-4  # of the temperature
    adam_eps: Positive = 1e-8  # added to the root in Adam's step
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # fraction of the online critics that goes into their targets
    reward_scale: Positive = 1.0  # factor of the rewards in the critics' targets
    tune_alpha: bool = True  # learn the temperature; otherwise it is fixed
    alpha: Positive = 1.0  # initial or fixed temperature
    target_entropy_per_dim: float = -1.0  # target entropy of the policy, for each action dimension
    log_alpha_loss: bool = True  # log alpha instead of the factor alpha in eq. 18
    resample_for_alpha: bool = False  # eq. 18 with new actions of the updated policy
    environment_units: bool = False  # log pi of the environment's actions instead of those in [-1, 1]
    tanh_log_std: bool = False  # log deviation squashed to [-5, 2] instead of clipped to [-20, 2]
    delay: Count = 1  # updates of the critics between those of the policy, which then takes as many steps
    hidden: Widths = (256, 256)  # ReLU units of the policy, and of each critic


_FAST = Config(actor_learning_rate=1e-3, critic_learning_rate=1e-3, alpha_learning_rate=1e-3)
_LISTED = ("Swimmer-v5", "Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5")
_HAARNOJA = Config(learning_starts=1_000, reward_scale=5.0, tune_alpha=False)

# The sources, and what stays different from them: sources/sac.toml.
PRESETS: dict[str, Config | dict[str, Config]] = {
    "code": {
        **dict.fromkeys((*_LISTED, "Reacher-v5"), Config()),
        "default": Config(learning_starts=1_000),
    },
    "paper": Config(learning_starts=1_000, log_alpha_loss=False),
    "haarnoja-2018a": {
        "Swimmer-v5": replace(_HAARNOJA, reward_scale=25.0),
        "Humanoid-v5": replace(_HAARNOJA, reward_scale=20.0),
        "HumanoidStandup-v5": replace(_HAARNOJA, reward_scale=100.0),
        **dict.fromkeys(("HalfCheetah-v5", "Ant-v5"), replace(_HAARNOJA, learning_starts=10_000)),
        "default": _HAARNOJA,  # Hopper-v5, Walker2d-v5; and tasks for which the source has no scale
    },
    "cleanrl": Config(
        learning_starts=5_000,
        critic_learning_rate=1e-3,
        alpha_learning_rate=1e-3,
        log_alpha_loss=False,
        resample_for_alpha=True,
        environment_units=True,
        tanh_log_std=True,
        delay=2,
    ),
    "zoo": {
        **dict.fromkeys(_LISTED, Config()),
        "Swimmer-v5": Config(gamma=0.999),
        "Pendulum-v1": replace(_FAST, learning_starts=100),
        "MountainCarContinuous-v0": Config(
            capacity=50_000,
            batch=512,
            learning_starts=1,
            train_every=32,
            updates=32,
            gamma=0.9999,
            tau=0.01,
            tune_alpha=False,
            alpha=0.1,
            hidden=(64, 64),
        ),
        "default": Config(learning_starts=100),
    },
    "tianshou": replace(_FAST, alpha_learning_rate=3e-4, tune_alpha=False, alpha=0.2),
    # Small networks, a higher learning rate: the first values tried, on seeds 1000-1004; not tuned.
    "small": replace(_FAST, capacity=100_000, batch=128, learning_starts=1_000, hidden=(64, 64)),
}
# By the rule: the authors' code for MuJoCo; for classic control RL Zoo, as the first with settings for it.
DEFAULTS = {"mujoco": "code", "classic": "zoo"}


def squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return a = tanh(u) for u = mean + std * noise, all (S, B, A), and log pi(a) (S, B) (appendix C)."""
    u = mean + exp(log_std) * noise
    log_normal = -0.5 * noise * noise - log_std - 0.5 * log(2 * pi)
    # log(1 - tanh(u)^2), without log(1 - a^2 + 1e-6), which loses precision for |u| > 5
    log_slope = 2 * (log(2) - u - softplus(-2 * u))
    return tanh(u), (log_normal - log_slope).sum(-1)


class SquashedGaussian:
    """A Gaussian u for each state, squashed to actions tanh(u) in [-1, 1]."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...], tanh_log_std: bool) -> None:
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 1))
        self.tanh_log_std = tanh_log_std

    def greedy(self, obs: Tensor) -> Tensor:
        """Return tanh of the mean: (S, B, O) -> (S, B, A)."""
        return tanh(self.net(obs).chunk(2, -1)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return an action, made from standard normal noise, both (S, B, A), and its log density (S, B)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        log_std = -1.5 + 3.5 * tanh(log_std) if self.tanh_log_std else log_std.clamp(-20, 2)
        return squashed(mean, log_std, noise)


class Agent:
    """The SAC learner: a policy, two critics with targets, and the temperature."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        self.bounds = Bounds(action_space, "sac", device)
        n_obs, n_actions = observation_space.shape[0], self.bounds.size
        self.policy = SquashedGaussian(streams, (n_obs, *c.hidden, 2 * n_actions), c.tanh_log_std)
        # log pi of the environment's actions is smaller by this.
        self.log_volume = self.bounds.half.log().sum().item() if c.environment_units else 0.0
        self.q = Critic(streams, (n_obs + n_actions, *c.hidden, 1), n=2)
        self.target_q = copy.deepcopy(self.q)  # before Learned, which makes parameters views of a matrix
        self.log_alpha = Vector(streams, 1, log(c.alpha))  # value (S, 1)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_policy = Learned("policy", self.policy.net, optimiser=adam)
        self.learned_q = Learned("q", self.q, optimiser=adam, target=self.target_q, copies=2)
        self.learners = [self.learned_policy, self.learned_q]
        if c.tune_alpha:
            self.learned_alpha = Learned("alpha", self.log_alpha, optimiser=adam)
            self.learners.append(self.learned_alpha)
        self.constant_q = self.q.constant(2)  # after Learned: a view; saves the critics' weight gradients
        self.updates = 0
        self._greedy = captured(self.policy.greedy, device)  # on a GPU a CUDA graph, on a CPU the function
        self._sample = captured(self.policy.sample, device)
        self._improve_critics = captured(self.improve_critics, device)
        self._improve_policy = captured(self.improve_policy, device)

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

    def greedy_steps(self) -> list[list[Step]]:
        return [
            [*network(self.policy.net), Step("first", {"n": self.bounds.size}), squash(), self.bounds.step()]
        ]

    def preference(self, obs: Tensor) -> Tensor:
        """Return the Gaussian's mean (greedy action before tanh), differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(obs).chunk(2, -1)[0]

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        c, shape = self.config, (batch.reward.shape[1], self.bounds.size)
        metrics = self._improve_critics(batch, rng.normal(*shape))
        self.updates += 1
        if self.updates % c.delay == 0:
            for _ in range(c.delay):  # so that the policy takes as many steps as the critics
                self._improve_policy(batch.obs, rng.normal(1 + c.resample_for_alpha, *shape))
        return metrics

    def improve_critics(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        """Move the critics and their targets one step; the noise (S, B, A) is standard normal."""
        c = self.config
        alpha = exp(self.log_alpha.value.detach())  # (S, 1)
        with torch.no_grad():
            next_action, next_logp = self.sample(batch.next_obs, noise)
            next_value = self.target_q(batch.next_obs, next_action).amin(1) - alpha * next_logp
            y = c.reward_scale * batch.reward + c.gamma * (1 - batch.terminated) * next_value  # (S, B)
        # Replay stores environment actions.
        q = self.q(batch.obs, self.bounds.normalise(batch.action))  # (S, 2, B)
        q_loss = 0.5 * (q - y[:, None]).square().mean(-1).sum(-1)
        self.learned_q.descend(q_loss, c.critic_learning_rate)
        self.learned_q.follow(c.tau)
        metrics = {"q_loss": q_loss.detach(), "q": q.detach().mean((1, 2))}
        return metrics | {"entropy": -next_logp.mean(1), "alpha": alpha.squeeze(1)}

    def improve_policy(self, obs: Tensor, noise: Tensor) -> None:
        """Move policy and temperature one step; the noise (S, 1 or 2, B, A) is standard normal."""
        c = self.config
        alpha = exp(self.log_alpha.value.detach())  # (S, 1)
        action, logp = self.sample(obs, noise[:, 0])
        loss = (alpha * logp - self.constant_q(obs, action).amin(1)).mean(1)
        self.learned_policy.descend(loss, c.actor_learning_rate)
        if c.tune_alpha:
            if c.resample_for_alpha:
                _, logp = self.sample(obs, noise[:, 1])
            target_entropy = c.target_entropy_per_dim * self.bounds.size
            gap = (logp.detach() + target_entropy).mean(1)  # target entropy minus entropy
            log_alpha = self.log_alpha.value.squeeze(1)
            alpha_loss = -(log_alpha if c.log_alpha_loss else exp(log_alpha)) * gap
            self.learned_alpha.descend(alpha_loss, c.alpha_learning_rate)

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy's action in [-1, 1] (S, B, A), and log pi (S, B) in the configured units."""
        action, logp = self.policy.sample(obs, noise)
        return action, logp - self.log_volume

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the smaller Q (S, B), which includes the entropy of later actions."""
        return self.q(obs, self.bounds.normalise(action)).amin(1) / self.config.reward_scale

    def value_reward(self, batch: Batch, rng: Streams) -> Tensor:
        """Return the reward and the entropy bonus of a next action (S, B), so that y = this + gamma Q'."""
        noise = rng.normal(batch.reward.shape[1], self.bounds.size)
        alpha = exp(self.log_alpha.value) / self.config.reward_scale
        bonus = -alpha * self.sample(batch.next_obs, noise)[1]
        return batch.reward + self.config.gamma * (1 - batch.terminated) * bonus

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

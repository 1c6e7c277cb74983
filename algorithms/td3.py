"""TD3: twin delayed deep deterministic policy gradient.

Fujimoto, van Hoof, Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods", arXiv
1802.09477, algorithm 1. With mu the actor, Q_1 and Q_2 the critics, and mu', Q_1', Q_2' their targets:

    a'     = clip(mu'(s') + clip(N(0, target_noise), -target_clip, target_clip), -1, 1)      (section 5.3)
    y      = reward + gamma min_i Q_i'(s', a')                                               (section 4.2)
    L(Q)   = sum_i mean (y - Q_i(s, a))^2
    L(mu)  = -mean Q_1(s, mu(s))                                  (at every `delay`-th update, section 5.2)
    target <- (1 - tau) target + tau online                       (all three, at those updates)

and y = reward where s' is terminal. A time limit does not count as terminal.

Departures from the paper; `sources/td3.toml` has those of each preset from its source
| what | paper | here | why |
|---|---|---|---|
| sizes, rates, batch | preset `paper` | preset `code` | the authors' code since 2019 |
| updates | after each episode, as many as its steps (code) | after each step | the authors' code since 2019 |
| actions | in the environment's units | in [-1, 1] for networks and noise | one noise for all tasks |
"""

import copy
from dataclasses import dataclass, replace
from functools import partial

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Actor, Bounds, Critic, correlated
from ascent.algorithms.seedwise import (
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    NonNegative,
    Positive,
    Replay,
    State,
    Step,
    Streams,
    Widths,
    captured,
    load_learners,
    network,
    save_learners,
    squash,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (github.com/sfujim/TD3, TD3.py and main.py)."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 25_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    learning_rate: Positive = 3e-4  # of actor and critics
    adam_eps: Positive = 1e-8  # added to the root in Adam's step
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # fraction of the online networks that goes into their targets
    noise: NonNegative = 0.1  # standard deviation of the exploration noise, for actions in [-1, 1]
    noise_decay: Fraction = 1.0  # theta of an Ornstein-Uhlenbeck process; 1: independent noise
    target_noise: NonNegative = 0.2  # standard deviation of the target policy's smoothing ...
    target_clip: NonNegative = 0.5  # ... and its bound
    delay: Count = 2  # updates of the critics for each update of the actor and the targets
    critics: Count = 2  # critics; the least of them is the target
    hidden: Widths = (256, 256)  # ReLU units of the actor, and of each critic


_ZOO = Config(learning_starts=10_000, learning_rate=1e-3, hidden=(400, 300))
# The sources, and what stays different from them: sources/td3.toml.
PRESETS: dict[str, Config | dict[str, Config]] = {
    "code": {
        **dict.fromkeys(
            ("InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5"), Config(learning_starts=1_000)
        ),
        "default": Config(),
    },
    "paper": {
        **dict.fromkeys(
            ("Hopper-v5", "Walker2d-v5", "InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5"),
            Config(batch=100, learning_starts=1_000, learning_rate=1e-3, hidden=(400, 300)),
        ),
        "default": Config(batch=100, learning_starts=10_000, learning_rate=1e-3, hidden=(400, 300)),
    },
    "cleanrl": Config(),
    "zoo": {
        **dict.fromkeys(("HalfCheetah-v5", "Ant-v5", "Hopper-v5", "Walker2d-v5", "Humanoid-v5"), _ZOO),
        "Swimmer-v5": replace(_ZOO, gamma=0.9999),
        "Pendulum-v1": replace(_ZOO, capacity=200_000, gamma=0.98),
        # Stable-Baselines3 steps this noise by dt = 0.01: sigma sqrt(dt) and theta dt.
        "MountainCarContinuous-v0": replace(_ZOO, learning_starts=100, noise=0.05, noise_decay=0.0015),
        "default": replace(_ZOO, learning_starts=100),
    },
    # Small networks, a higher learning rate: the first values tried, on seeds 1000-1004; not tuned.
    "small": Config(capacity=100_000, batch=128, learning_starts=1_000, learning_rate=1e-3, hidden=(64, 64)),
}
# By the rule: the authors' code for MuJoCo; for classic control RL Zoo, as the first with settings for it.
DEFAULTS = {"mujoco": "code", "classic": "zoo"}


class Agent:
    """The TD3 learner: an actor and its critics, all with targets."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        self.bounds = Bounds(action_space, "td3", device)
        n_obs, n_actions = observation_space.shape[0], self.bounds.size
        self.actor = Actor(streams, (n_obs, *c.hidden, n_actions))
        self.q = Critic(streams, (n_obs + n_actions, *c.hidden, 1), c.critics)
        # Before Learned, which makes the parameters views of a matrix.
        self.target_actor, self.target_q = copy.deepcopy((self.actor, self.q))
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_actor = Learned("actor", self.actor, optimiser=adam, target=self.target_actor)
        self.learned_q = Learned("q", self.q, optimiser=adam, target=self.target_q, copies=c.critics)
        self.learners = [self.learned_actor, self.learned_q]
        self.first_q = self.q.constant(1)  # after Learned: a view; saves the critics' weight gradients
        self.updates = 0
        self._greedy = captured(self.actor, device)  # on a GPU a CUDA graph, on a CPU the function
        self._improve_critics = captured(self.improve_critics, device)
        self._improve_actor = captured(self.improve_actor, device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """`carry` is the Ornstein-Uhlenbeck noise of the last step, (S, E, A)."""
        c, shape = self.config, (obs.shape[1], self.bounds.size)
        if explore and not self.updates:  # uniform before the first update
            action = 2 * rng.uniform(*shape).float() - 1
        else:
            action = self._greedy(obs)
            if explore:
                noise, carry = correlated(c.noise * rng.normal(*shape), c.noise_decay, carry)
                action = (action + noise).clamp(-1, 1)
        return self.bounds.scale(action), carry

    def greedy_steps(self) -> list[list[Step]]:
        return [[*network(self.actor.net), squash(), self.bounds.step()]]

    def preference(self, obs: Tensor) -> Tensor:
        """Return the greedy action before tanh, differentiable: (S, E, O) -> (S, E, A)."""
        return self.actor.net(obs)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        noise = rng.normal(batch.reward.shape[1], self.bounds.size)
        metrics = self._improve_critics(batch, noise)
        self.updates += 1
        if self.updates % self.config.delay == 0:
            self._improve_actor(batch.obs)
        return metrics

    def improve_critics(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        """Move the critics one step; the noise (S, B, A) of the target policy is standard normal."""
        c = self.config
        action = self.bounds.normalise(batch.action)  # replay stores environment actions
        with torch.no_grad():
            noise = (c.target_noise * noise).clamp(-c.target_clip, c.target_clip)
            next_action = (self.target_actor(batch.next_obs) + noise).clamp(-1, 1)
            next_q = self.target_q(batch.next_obs, next_action).amin(1)
            y = batch.reward + c.gamma * (1 - batch.terminated) * next_q  # (S, B)
        q = self.q(batch.obs, action)  # (S, critics, B)
        q_loss = (q - y[:, None]).square().mean(-1).sum(-1)
        self.learned_q.descend(q_loss, c.learning_rate)
        return {"q_loss": q_loss.detach(), "q": q.detach().mean((1, 2))}

    def improve_actor(self, obs: Tensor) -> None:
        """Move the actor one step up the first critic's value, and move the targets."""
        loss = -self.first_q(obs, self.actor(obs))[:, 0].mean(1)
        self.learned_actor.descend(loss, self.config.learning_rate)
        self.learned_actor.follow(self.config.tau)
        self.learned_q.follow(self.config.tau)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the smallest Q (S, B) of observations (S, B, O) and actions (S, B, A), as targets use it."""
        return self.q(obs, self.bounds.normalise(action)).amin(1)

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

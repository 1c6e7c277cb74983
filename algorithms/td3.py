"""TD3: twin delayed deep deterministic policy gradient.

Fujimoto, van Hoof, Meger 2018, "Addressing Function Approximation Error in Actor-Critic Methods", arXiv
1802.09477, algorithm 1. With mu the actor, Q_1 and Q_2 the critics, and mu', Q_1', Q_2' their targets:

    a'     = clip(mu'(s') + clip(N(0, target_noise), -target_clip, target_clip), -1, 1)      (section 5.3)
    y      = reward + gamma min_i Q_i'(s', a')                                               (section 4.2)
    L(Q)   = sum_i mean (y - Q_i(s, a))^2
    L(mu)  = -mean Q_1(s, mu(s))                                  (at every `delay`-th update, section 5.2)
    target <- (1 - tau) target + tau online                       (all three, at those updates)

and y = reward where s' is terminal. A time limit is not: it does not enter.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| sizes, rates, batch | preset `paper` | preset `code` | the authors' code since 2019 |
| first actions | uniform, 1,000 or 10,000 steps | `learning_starts` | the authors' code |
| actions | in the environment's units | networks and noise see [-1, 1] | one noise for all tasks |
"""

import copy
from dataclasses import dataclass

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
    NonNegative,
    Parameters,
    Positive,
    Replay,
    Streams,
    Widths,
    captured,
    learner_state,
    load_learner_state,
    move_target,
    tanh,
    uniform_fan_in,
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
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # part of the online networks that goes into their targets
    noise: NonNegative = 0.1  # standard deviation of exploration, for actions in [-1, 1]
    target_noise: NonNegative = 0.2  # standard deviation of the target policy's smoothing ...
    target_clip: NonNegative = 0.5  # ... and its bound
    delay: Count = 2  # updates of the critics for one of the actor and the targets
    critics: Count = 2  # 1, with delay 1 and no target noise, is DDPG
    hidden: Widths = (256, 256)  # ReLU units, actor and critics apart


# The paper has 10,000 uniform steps on HalfCheetah and Ant, 1,000 on its other tasks; the sweep
# mujoco_offpolicy has that for every algorithm, so that they are compared alike.
PRESETS = {
    "mujoco": Config(learning_starts=10_000),
    "code": Config(),
    "paper": Config(batch=100, learning_starts=10_000, learning_rate=1e-3, hidden=(400, 300)),
    # Small networks, larger steps: the first values tried, on seeds 1000-1004; not tuned.
    "classic": Config(
        capacity=100_000, batch=128, learning_starts=1_000, learning_rate=1e-3, hidden=(64, 64)
    ),
}


class Actor:
    """mu(s) in [-1, 1]: (S, B, O) -> (S, B, A). A test holds the copies of it equal."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...], last: Initialiser):
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last])

    def __call__(self, obs: Tensor) -> Tensor:
        return tanh(self.net(obs))


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
            raise ValueError("td3 needs a continuous action space with bounds")
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        low, high = torch.tensor(action_space.low), torch.tensor(action_space.high)
        self.mid, self.half = ((high + low) / 2).to(device), ((high - low) / 2).to(device)  # (A,)
        n_obs, self.n_actions = observation_space.shape[0], len(low)
        self.actor = Actor(streams, (n_obs, *c.hidden, self.n_actions), uniform_fan_in)
        self.q = Critic(streams, (n_obs + self.n_actions, *c.hidden, 1), uniform_fan_in, c.critics)
        self.target_actor, self.target_q = copy.deepcopy((self.actor, self.q))
        self.actor_params = Parameters(self.actor.net)
        self.q_params = Parameters(self.q.net, copies=c.critics)
        self.actor_target = Parameters(self.target_actor.net)
        self.q_target = Parameters(self.target_q.net, copies=c.critics)
        self.first_q = self.q.constant(1)
        self.actor_optimiser = Adam(self.actor_params, c.adam_eps)
        self.q_optimiser = Adam(self.q_params, c.adam_eps)
        self.learned = {
            "actor": (self.actor_params, self.actor_optimiser),
            "q": (self.q_params, self.q_optimiser),
        }
        self.targets = {"actor": self.actor_target, "q": self.q_target}
        self.updates = 0
        self._greedy = captured(self.actor, device)
        self._improve_critics = captured(self.improve_critics, device)
        self._improve_actor = captured(self.improve_actor, device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: None = None
    ) -> tuple[Tensor, None]:
        shape = (obs.shape[1], self.n_actions)
        if explore and not self.updates:  # it knows nothing yet
            action = 2 * rng.uniform(*shape).float() - 1
        else:
            action = self._greedy(obs)
            if explore:
                action = (action + self.config.noise * rng.normal(*shape)).clamp(-1, 1)
        return self.mid + self.half * action, None

    def preference(self, obs: Tensor) -> Tensor:
        """(S, E, O) -> (S, E, A): what greedy acting follows, actions before tanh, differentiable."""
        return self.actor.net(obs)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        noise = rng.normal(batch.reward.shape[1], self.n_actions)
        metrics = self._improve_critics(batch, noise)
        self.updates += 1
        if self.updates % self.config.delay == 0:
            self._improve_actor(batch.obs)
        return metrics

    def improve_critics(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        """One step of the critics, with standard normal numbers (S, B, A) for the target policy."""
        c, action = self.config, (batch.action - self.mid) / self.half
        with torch.no_grad():
            noise = (c.target_noise * noise).clamp(-c.target_clip, c.target_clip)
            next_action = (self.target_actor(batch.next_obs) + noise).clamp(-1, 1)
            next_q = self.target_q(batch.next_obs, next_action).amin(1)
            y = batch.reward + c.gamma * (1 - batch.terminated) * next_q  # (S, B)
        q = self.q(batch.obs, action)  # (S, critics, B)
        q_loss = (q - y[:, None]).square().mean(-1).sum(-1)
        self.q_optimiser.step(self.q_params.grad(q_loss), c.learning_rate)
        return {"q_loss": q_loss.detach(), "q": q.detach().mean((1, 2))}

    def improve_actor(self, obs: Tensor) -> None:
        """One step of the actor on what the first critic says; the targets follow."""
        loss = -self.first_q(obs, self.actor(obs))[:, 0].mean(1)
        self.actor_optimiser.step(self.actor_params.grad(loss), self.config.learning_rate)
        move_target(self.actor_target, self.actor_params, self.config.tau)
        move_target(self.q_target, self.q_params, self.config.tau)

    def state_dict(self) -> dict[str, Tensor]:
        return learner_state(self.learned, self.targets, self.updates)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.updates = load_learner_state(self.learned, self.targets, state)

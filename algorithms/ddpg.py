"""DDPG: deep deterministic policy gradient.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning", arXiv 1509.02971, algorithm 1.
With mu the actor, Q the critic, mu' and Q' their slowly moving targets:

    y      = reward + gamma Q'(s', mu'(s'))
    L(Q)   = mean (y - Q(s, a))^2
    L(mu)  = -mean Q(s, mu(s))                                (its gradient is eq. 6)
    target <- (1 - tau) target + tau online                   (both, after every update)

and y = reward where s' is terminal. A time limit is not: it does not enter.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| true ends | not in algorithm 1 | y = reward | the value of a terminal state is 0 |
| batch normalisation | inputs and hidden layers | none | the tuned DDPG of TD3's authors has none |
| action | enters the critic's second layer | enters the first | as there |
| sizes, rates, noise | preset `paper` | preset `code`: that tuned DDPG | arXiv 1802.09477 |
| first actions | of the noisy policy | uniform at random before the first update | as there |
| actions | in the environment's units | networks and noise see [-1, 1] | one noise for all tasks |
| weight decay | critic, 1e-2 | the same, on biases too (preset `paper`) | as PyTorch has it |
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
    uniform,
    uniform_fan_in,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: the TD3 authors' tuned DDPG (github.com/sfujim/TD3, OurDDPG.py and main.py)."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 25_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    actor_learning_rate: Positive = 3e-4
    critic_learning_rate: Positive = 3e-4
    critic_decay: NonNegative = 0.0  # L2 weight decay, added to the gradient
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # part of the online networks that goes into their targets
    noise: NonNegative = 0.1  # standard deviation of exploration's normal numbers, for actions in [-1, 1]
    noise_decay: Fraction = 1.0  # theta of the Ornstein-Uhlenbeck process they drive; 1: they are the noise
    hidden: Widths = (256, 256)  # ReLU units, actor and critic apart
    output_bound: NonNegative = 0.0  # of the output layers' initial weights; 0: 1/sqrt(inputs), as the others


# 10,000 uniform steps suit HalfCheetah and Ant, 1,000 the other tasks: see the sweep mujoco_offpolicy.
PRESETS = {
    "mujoco": Config(learning_starts=10_000),
    "code": Config(),
    "paper": Config(
        batch=64,
        learning_starts=1_000,
        actor_learning_rate=1e-4,
        critic_learning_rate=1e-3,
        critic_decay=1e-2,
        tau=1e-3,
        noise=0.2,
        noise_decay=0.15,
        hidden=(400, 300),
        output_bound=3e-3,
    ),
    # Small networks, larger steps: the first values tried, on seeds 1000-1004; not tuned.
    "classic": Config(
        capacity=100_000,
        batch=128,
        learning_starts=1_000,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        hidden=(64, 64),
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
            raise ValueError("ddpg needs a continuous action space with bounds")
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        low, high = torch.tensor(action_space.low), torch.tensor(action_space.high)
        self.mid, self.half = ((high + low) / 2).to(device), ((high - low) / 2).to(device)  # (A,)
        n_obs, self.n_actions = observation_space.shape[0], len(low)
        last = uniform(c.output_bound) if c.output_bound else uniform_fan_in
        self.actor = Actor(streams, (n_obs, *c.hidden, self.n_actions), last)
        self.q = Critic(streams, (n_obs + self.n_actions, *c.hidden, 1), last, 1)
        self.target_actor, self.target_q = copy.deepcopy((self.actor, self.q))
        self.actor_params, self.q_params = Parameters(self.actor.net), Parameters(self.q.net)
        self.actor_target = Parameters(self.target_actor.net)
        self.q_target = Parameters(self.target_q.net)
        self.constant_q = self.q.constant(1)
        self.actor_optimiser = Adam(self.actor_params, c.adam_eps)
        self.q_optimiser = Adam(self.q_params, c.adam_eps)
        self.learned = {
            "actor": (self.actor_params, self.actor_optimiser),
            "q": (self.q_params, self.q_optimiser),
        }
        self.targets = {"actor": self.actor_target, "q": self.q_target}
        self.updates = 0
        self._greedy, self._learn = captured(self.actor, device), captured(self.learn, device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        c, shape = self.config, (obs.shape[1], self.n_actions)
        if explore and not self.updates:  # it knows nothing yet
            action = 2 * rng.uniform(*shape).float() - 1
        else:
            action = self._greedy(obs)
            if explore:
                noise = c.noise * rng.normal(*shape)
                if c.noise_decay < 1 and carry is not None:
                    noise = noise + (1 - c.noise_decay) * carry
                carry = noise if c.noise_decay < 1 else None
                action = (action + noise).clamp(-1, 1)
        return self.mid + self.half * action, carry

    def preference(self, obs: Tensor) -> Tensor:
        """(S, E, O) -> (S, E, A): what greedy acting follows, actions before tanh, differentiable."""
        return self.actor.net(obs)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        self.updates += 1
        return self._learn(batch)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """One step of the critic, one of the actor, and the targets follow."""
        c, action = self.config, (batch.action - self.mid) / self.half
        with torch.no_grad():
            next_q = self.target_q(batch.next_obs, self.target_actor(batch.next_obs))[:, 0]
            y = batch.reward + c.gamma * (1 - batch.terminated) * next_q  # (S, B)
        q = self.q(batch.obs, action)[:, 0]
        q_loss = (q - y).square().mean(1)
        grad = self.q_params.grad(q_loss)
        if c.critic_decay:
            grad = grad + c.critic_decay * self.q_params.matrix
        self.q_optimiser.step(grad, c.critic_learning_rate)
        actor_loss = -self.constant_q(batch.obs, self.actor(batch.obs))[:, 0].mean(1)
        self.actor_optimiser.step(self.actor_params.grad(actor_loss), c.actor_learning_rate)
        move_target(self.actor_target, self.actor_params, c.tau)
        move_target(self.q_target, self.q_params, c.tau)
        return {"q_loss": q_loss.detach(), "actor_loss": actor_loss.detach(), "q": q.detach().mean(1)}

    def state_dict(self) -> dict[str, Tensor]:
        return learner_state(self.learned, self.targets, self.updates)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.updates = load_learner_state(self.learned, self.targets, state)

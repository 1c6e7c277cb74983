"""DDPG: deep deterministic policy gradient.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning", arXiv 1509.02971, algorithm 1.
With mu the actor, Q the critic, mu' and Q' their slowly moving targets:

    y      = reward + gamma Q'(s', mu'(s'))
    L(Q)   = mean (y - Q(s, a))^2
    L(mu)  = -mean Q(s, mu(s))                                (its gradient is eq. 6)
    target <- (1 - tau) target + tau online                   (both, after every update)

and y = reward where s' is terminal. A time limit does not count as terminal.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| terminal states | not in algorithm 1 | y = reward | their value is 0 |
| batch normalisation | inputs and hidden layers | none | as in the tuned DDPG of TD3's authors |
| action | enters the critic's second layer | enters the first | as in that code |
| sizes, rates, noise | preset `paper` | preset `code`: that tuned DDPG | arXiv 1802.09477 |
| first actions | from the noisy policy | uniform before the first update | as in that code |
| actions | in the environment's units | in [-1, 1] for networks and noise | one noise for all tasks |
| weight decay | critic, 1e-2 | the same, also on biases (preset `paper`) | as in PyTorch |
"""

import copy
from dataclasses import dataclass
from functools import partial

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Actor, Bounds, Critic
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
    Streams,
    Widths,
    captured,
    load_learners,
    save_learners,
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
    tau: Fraction = 0.005  # fraction of the online networks that goes into their targets
    noise: NonNegative = 0.1  # standard deviation of the exploration noise, for actions in [-1, 1]
    noise_decay: Fraction = 1.0  # theta of an Ornstein-Uhlenbeck process; 1: independent noise
    hidden: Widths = (256, 256)  # ReLU units of the actor, and of the critic
    output_bound: NonNegative = 0.0  # of the output layers' initial weights; 0: 1/sqrt(inputs)


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
    # Small networks, a higher learning rate: the first values tried, on seeds 1000-1004; not tuned.
    "classic": Config(
        capacity=100_000,
        batch=128,
        learning_starts=1_000,
        actor_learning_rate=1e-3,
        critic_learning_rate=1e-3,
        hidden=(64, 64),
    ),
}


class Agent:
    """The DDPG learner: an actor and a critic, each with a target."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        self.bounds = Bounds(action_space, "ddpg", device)
        n_obs, n_actions = observation_space.shape[0], self.bounds.size
        last = uniform(c.output_bound) if c.output_bound else uniform_fan_in
        self.actor = Actor(streams, (n_obs, *c.hidden, n_actions), last)
        self.q = Critic(streams, (n_obs + n_actions, *c.hidden, 1), 1, last)
        # Before Learned, which makes the parameters views of a matrix.
        self.target_actor, self.target_q = copy.deepcopy((self.actor, self.q))
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_actor = Learned("actor", self.actor, optimiser=adam, target=self.target_actor)
        self.learned_q = Learned("q", self.q, optimiser=adam, target=self.target_q)
        self.learners = [self.learned_actor, self.learned_q]
        self.constant_q = self.q.constant(1)  # after Learned: a view; saves the critic's weight gradients
        self.updates = 0
        self._greedy = captured(self.actor, device)  # on a GPU a CUDA graph, on a CPU the function
        self._learn = captured(self.learn, device)

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
                noise = c.noise * rng.normal(*shape)
                if c.noise_decay < 1 and carry is not None:
                    noise = noise + (1 - c.noise_decay) * carry
                carry = noise if c.noise_decay < 1 else None
                action = (action + noise).clamp(-1, 1)
        return self.bounds.scale(action), carry

    def preference(self, obs: Tensor) -> Tensor:
        """Return the greedy action before tanh, differentiable: (S, E, O) -> (S, E, A)."""
        return self.actor.net(obs)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        self.updates += 1
        return self._learn(batch)

    def learn(self, batch: Batch) -> dict[str, Tensor]:
        """Move the critic and the actor one step each, then the targets."""
        c = self.config
        action = self.bounds.normalise(batch.action)  # replay stores environment actions
        with torch.no_grad():
            next_q = self.target_q(batch.next_obs, self.target_actor(batch.next_obs))[:, 0]
            y = batch.reward + c.gamma * (1 - batch.terminated) * next_q  # (S, B)
        q = self.q(batch.obs, action)[:, 0]
        q_loss = (q - y).square().mean(1)
        grad = self.learned_q.params.grad(q_loss)
        if c.critic_decay:
            grad = grad + c.critic_decay * self.learned_q.params.matrix
        self.learned_q.optimiser.step(grad, c.critic_learning_rate)

        actor_loss = -self.constant_q(batch.obs, self.actor(batch.obs))[:, 0].mean(1)
        self.learned_actor.descend(actor_loss, c.actor_learning_rate)
        self.learned_actor.follow(c.tau)
        self.learned_q.follow(c.tau)
        return {"q_loss": q_loss.detach(), "actor_loss": actor_loss.detach(), "q": q.detach().mean(1)}

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return Q (S, B) of observations (S, B, O) and actions (S, B, A)."""
        return self.q(obs, self.bounds.normalise(action))[:, 0]

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

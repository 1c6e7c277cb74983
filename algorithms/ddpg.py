"""DDPG: deep deterministic policy gradient.

Lillicrap et al. 2016, "Continuous control with deep reinforcement learning", arXiv 1509.02971, algorithm 1.
With mu the actor, Q the critic, mu' and Q' their slowly moving targets:

    y      = reward + gamma Q'(s', mu'(s'))
    L(Q)   = mean (y - Q(s, a))^2
    L(mu)  = -mean Q(s, mu(s))                                (its gradient is eq. 6)
    target <- (1 - tau) target + tau online                   (both)

and y = reward where s' is terminal. A time limit does not count as terminal.

Departures from the paper; `sources/ddpg.toml` has those of each preset from its source
| what | paper | here | why |
|---|---|---|---|
| terminal states | not in algorithm 1 | y = reward | their value is 0 |
| actor and targets | at every update | at every `delay`-th | CleanRL, after TD3 |
| batch normalisation | inputs and hidden layers | none | as in CleanRL and the DDPG of TD3's authors |
| action | enters the critic's second layer | enters the first | as in that code |
| sizes, rates, noise | preset `paper` | preset `cleanrl` | the paper has no public code |
| first actions | from the noisy policy | uniform before the first update | as in that code |
| actions | in the environment's units | in [-1, 1] for networks and noise | one noise for all tasks |
| weight decay | critic, 1e-2 | the same, also on biases (preset `paper`) | as in PyTorch |
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
    uniform,
    uniform_fan_in,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: CleanRL (ddpg_continuous_action.py)."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 25_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    actor_learning_rate: Positive = 3e-4  # of the actor
    critic_learning_rate: Positive = 3e-4  # of the critic
    critic_decay: NonNegative = 0.0  # L2 weight decay, added to the gradient
    adam_eps: Positive = 1e-8  # added to the root in Adam's step
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # fraction of the online networks that goes into their targets
    noise: NonNegative = 0.1  # standard deviation of the exploration noise, for actions in [-1, 1]
    noise_decay: Fraction = 1.0  # theta of an Ornstein-Uhlenbeck process; 1: independent noise
    delay: Count = 2  # updates of the critic for each update of the actor and the targets
    hidden: Widths = (256, 256)  # ReLU units of the actor, and of the critic
    output_bound: NonNegative = 0.0  # of the output layers' initial weights; 0: 1/sqrt(inputs)


_FAST = Config(actor_learning_rate=1e-3, critic_learning_rate=1e-3, delay=1)
_ZOO = replace(_FAST, learning_starts=10_000, hidden=(400, 300))
# The sources, and what stays different from them: sources/ddpg.toml.
PRESETS: dict[str, Config | dict[str, Config]] = {
    "cleanrl": Config(),
    "ourddpg": Config(delay=1),
    "paper": Config(
        batch=64,
        learning_starts=1_000,
        actor_learning_rate=1e-4,
        critic_learning_rate=1e-3,
        critic_decay=1e-2,
        tau=1e-3,
        noise=0.2,
        noise_decay=0.15,
        delay=1,
        hidden=(400, 300),
        output_bound=3e-3,
    ),
    "zoo": {
        **dict.fromkeys(("HalfCheetah-v5", "Ant-v5", "Hopper-v5", "Walker2d-v5", "Humanoid-v5"), _ZOO),
        "Swimmer-v5": replace(_ZOO, gamma=0.9999),
        "Pendulum-v1": replace(_ZOO, capacity=200_000, gamma=0.98),
        # Stable-Baselines3 steps this noise by dt = 0.01: sigma sqrt(dt) and theta dt.
        "MountainCarContinuous-v0": replace(_ZOO, learning_starts=100, noise=0.05, noise_decay=0.0015),
        "default": replace(_ZOO, learning_starts=100),
    },
    # Small networks, a higher learning rate: the first values tried, on seeds 1000-1004; not tuned.
    "small": replace(_FAST, capacity=100_000, batch=128, learning_starts=1_000, hidden=(64, 64)),
}
# By the rule: CleanRL for MuJoCo, as the authors published no code; RL Zoo for classic control, as the first
# that has settings for it.
DEFAULTS = {"mujoco": "cleanrl", "classic": "zoo"}


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
        self._improve_critic = captured(self.improve_critic, device)
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
        metrics = self._improve_critic(batch)
        self.updates += 1
        if self.updates % self.config.delay == 0:
            self._improve_actor(batch.obs)
        return metrics

    def improve_critic(self, batch: Batch) -> dict[str, Tensor]:
        """Move the critic one step."""
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
        return {"q_loss": q_loss.detach(), "q": q.detach().mean(1)}

    def improve_actor(self, obs: Tensor) -> None:
        """Move the actor one step up the critic's value, and move the targets."""
        loss = -self.constant_q(obs, self.actor(obs))[:, 0].mean(1)
        self.learned_actor.descend(loss, self.config.actor_learning_rate)
        self.learned_actor.follow(self.config.tau)
        self.learned_q.follow(self.config.tau)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return Q (S, B) of observations (S, B, O) and actions (S, B, A)."""
        return self.q(obs, self.bounds.normalise(action))[:, 0]

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

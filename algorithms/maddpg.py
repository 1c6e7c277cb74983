"""MADDPG: multi-agent deep deterministic policy gradient, and independent DDPG.

Lowe, Wu, Tamar, Harb, Abbeel, Mordatch 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
Environments", arXiv 1706.02275, algorithm 1. With mu_i the actor of agent i, which sees its own observation
o_i, and Q_i its critic, which sees x, all observations, and a_1 ... a_N, all actions; mu_i' and Q_i' their
slowly moving targets:

    y       = reward_i + gamma Q_i'(x', mu_1'(o_1'), ..., mu_N'(o_N'))                      (eq. 6)
    L(Q_i)  = mean (y - Q_i(x, a_1, ..., a_N))^2                                            (eq. 6)
    L(mu_i) = -mean Q_i(x, a_1, ..., mu_i(o_i), ..., a_N) + penalty mean out_i^2            (eq. 5)
    target <- (1 - tau) target + tau online                   (of agent i, after its update)

with out_i the output of the actor's network, and the others' actions in L(mu_i) those of the batch. Every
agent learns from transitions of all agents at the same moments, but of a batch of its own, and from its own
reward; nothing is shared between the agents' networks. They learn in turn: the targets of the agents before
it have already moved when agent i learns. With `local_critic` Q_i sees o_i and a_i alone: independent DDPG.

What an agent does is, where its actions are discrete or `simplex` is set, a sample of softmax(out) by
Gumbel's trick (arXiv 1611.01144, temperature 1), so that Q's gradient reaches the logits through it:

    soft = softmax(out - log(-log u)),  u uniform             for `simplex`
    hard = one-hot of the largest, its gradient that of soft  for discrete actions (straight through)

Greedy, u is left out. Other actions are tanh(out), stretched to their bounds, and explore as DDPG's do.

y = reward_i where x' is terminal. A time limit is not: it does not enter.

Departures; presets `particle` and `particle-openai` follow the authors' code where it differs from the paper
| what | authors' code (github.com/openai/maddpg) | here | why |
|---|---|---|---|
| discrete actions | the environment takes the soft ones | hard | mpe2 has choices; `simplex`: as there |
| continuous actions | Gaussian, its deviation learned | deterministic, with noise | as the paper, and DDPG |
| environments | 1 | 4, an update every 25 steps of them, not 100 | faster; as many updates per transition |
| evaluation | sampled actions, in training | greedy; sampled too, at the end | as the others here |
| policies of the others | known | known | the paper also infers them |
| ensembles of policies | not in the code | none | the paper's section 4.3 is not here |
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    NonNegative,
    Parameters,
    Positive,
    Replay,
    Streams,
    Widths,
    captured,
    clip_grad_norm,
    learner_state,
    load_learner_state,
    move_target,
    tanh,
    uniform,
)

VERSION = 1  # raise it when a change here changes results
TEAM = True  # it learns tasks of several agents


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (github.com/openai/maddpg, train.py and maddpg/trainer/maddpg.py)."""

    envs: Count = 4  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 1024  # transitions per update
    learning_starts: Count = 25_600  # environment steps before the first update
    train_every: Count = 100  # environment steps between updates: then one of each agent
    actor_learning_rate: Positive = 1e-2
    critic_learning_rate: Positive = 1e-2
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.95  # discount
    tau: Fraction = 0.01  # part of the online networks that goes into their targets
    max_grad_norm: NonNegative = 0.5  # of each weight matrix and bias by itself; 0: any
    penalty: NonNegative = 1e-3  # on the mean square of an actor's outputs
    simplex: bool = False  # continuous actions are samples of a softmax, as the original particle worlds have
    noise: NonNegative = 0.1  # deviation of exploration's normal numbers, for continuous actions in [-1, 1]
    local_critic: bool = False  # it sees its own agent's observation and action only: independent DDPG
    hidden: Widths = (64, 64)  # ReLU units, actors and critics apart


PRESETS = {
    "particle": Config(),
    "particle-openai": Config(simplex=True),
    # As DDPG is here, without clipping and penalty, but at the authors' rates.
    "particle-continuous": Config(max_grad_norm=0.0, penalty=0.0),
}


def glorot(streams: Streams, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """Weights uniform in +-sqrt(6 / (in + out)), bias 0 (Glorot & Bengio 2010): the authors' layers."""
    weight, bias = uniform((6 / (n_in + n_out)) ** 0.5)(streams, n_in, n_out)
    return weight, torch.zeros_like(bias)


def one_hot(index: Tensor, n: int) -> Tensor:
    """(...) int64 -> (..., n) float32."""
    return torch.zeros(*index.shape, n, device=index.device).scatter_(-1, index[..., None], 1.0)


def gumbel(numbers: Tensor) -> Tensor:
    """Standard Gumbel noise, float32, from uniform numbers of the same shape in [0, 1)."""
    # Single precision may round to 0 or 1, whose logarithms are not finite.
    return -(-numbers.float().clamp(1e-30, 1 - 2**-24).log()).log()


def relaxed(logits: Tensor, parts: list[int], noise: Tensor | None, hard: bool) -> Tensor:
    """softmax(logits + noise) of each part of the last axis; `hard`: one-hot, with the gradient of that."""
    found = []
    for x in (logits if noise is None else logits + noise).split(parts, -1):
        soft = x.mT.softmax(1).mT  # turned round: over an axis of few numbers it is slow
        found.append(one_hot(x.argmax(-1), x.shape[-1]) + (soft - soft.detach()) if hard else soft)
    return torch.cat(found, -1)


def clip_each(params: Parameters, grad: Tensor, max_norm: float) -> Tensor:
    """Each weight matrix's and each bias's part of a gradient (S, P) scaled to at most `max_norm`."""
    parts = grad.split([leaf[0].numel() for leaf in params.leaves], 1)
    return torch.cat([clip_grad_norm(part, max_norm)[0] for part in parts], 1)


class Agent:
    """A team. What belongs to an agent stands agent after agent in the last axis: `obs` is (S, ..., O), all
    observations; a reward (S, B, N); an action (S, ..., N) choices or (S, ..., A) numbers.
    """

    def __init__(
        self,
        config: Config,
        observation_space: spaces.Tuple,
        action_space: spaces.Tuple,
        streams: Streams,
        device: str,
    ):
        if not isinstance(action_space, spaces.Tuple) or not isinstance(observation_space, spaces.Tuple):
            raise ValueError("maddpg needs a team of agents")
        c, n = config, len(action_space)
        self.config, self.agents = c, range(n)
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, updates=n)
        self.discrete = all(isinstance(space, spaces.Discrete) for space in action_space)
        self.sampled = self.discrete or c.simplex
        several = [list(space) if isinstance(space, spaces.Tuple) else [space] for space in action_space]
        self.parts = [[spaces.utils.flatdim(part) for part in parts] for parts in several]
        self.n_actions = [sum(parts) for parts in self.parts]  # as critics see them
        self.n_obs = [space.shape[0] for space in observation_space]
        self.mid, self.half = torch.zeros((), device=device), torch.ones((), device=device)
        if not self.discrete:
            boxes = [part for parts in several for part in parts]
            if not all(isinstance(box, spaces.Box) and box.is_bounded() for box in boxes):
                raise ValueError("maddpg needs discrete actions of all agents, or bounded continuous ones")
            joint = spaces.utils.flatten_space(action_space)
            low, high = torch.from_numpy(joint.low), torch.from_numpy(joint.high)
            if not c.simplex:
                self.mid, self.half = ((high + low) / 2).to(device), ((high - low) / 2).to(device)  # (A,)
            elif (low != 0).any() or (high != 1).any():
                raise ValueError("maddpg needs actions from 0 to 1 where `simplex` is set")
        self.seen = [[i] if c.local_critic else list(self.agents) for i in self.agents]  # agents, by critic
        self.actors, self.q, inits = [], [], [glorot] * (len(c.hidden) + 1)
        for i, seen in enumerate(self.seen):
            sizes = (self.n_obs[i], *c.hidden, self.n_actions[i])
            self.actors.append(MLP(streams, sizes, torch.relu_, inits))
            n_seen = sum(self.n_obs[j] + self.n_actions[j] for j in seen)
            self.q.append(MLP(streams, (n_seen, *c.hidden, 1), torch.relu_, inits))
        self.target_actors, self.target_q = copy.deepcopy((self.actors, self.q))
        self.learned, self.targets = {}, {}
        for i in self.agents:
            for name, net, target in (
                (f"actor_{i}", self.actors[i], self.target_actors[i]),
                (f"q_{i}", self.q[i], self.target_q[i]),
            ):
                params = Parameters(net)
                self.learned[name] = params, Adam(params, c.adam_eps)
                self.targets[name] = Parameters(target)
        self.constant_q = [q.constant() for q in self.q]
        self.updates = 0  # of all agents together
        self._joint = captured(partial(self.joint, self.actors, self.agents), device)
        self._learn = [captured(partial(self.learn, i), device) for i in self.agents]

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: None = None
    ) -> tuple[Tensor, None]:
        shape = (obs.shape[1], sum(self.n_actions))
        if not explore:
            action = self._joint(obs)
        elif self.sampled:
            action = self._joint(obs, gumbel(rng.uniform(*shape)))
        elif self.updates:
            action = (self._joint(obs) + self.config.noise * rng.normal(*shape)).clamp(-1, 1)
        else:  # it knows nothing yet
            action = 2 * rng.uniform(*shape).float() - 1
        if self.discrete:
            return torch.stack([x.argmax(-1) for x in action.split(self.n_actions, -1)], -1), None
        return self.mid + self.half * action, None

    def joint(
        self, actors: Sequence[MLP], who: Sequence[int], obs: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """The actions (S, B, ...) of some agents, with Gumbel noise (S, B, ...) for them, or greedy."""
        observations = obs.split(self.n_obs, -1)
        out = torch.cat([actors[i](observations[i]) for i in who], -1)
        return self.actions(out, [n for i in who for n in self.parts[i]], noise)

    def actions(self, out: Tensor, parts: list[int], noise: Tensor | None) -> Tensor:
        """What outputs of actors mean, as critics see it."""
        return relaxed(out, parts, noise, self.discrete) if self.sampled else tanh(out)

    def encoded(self, action: Tensor) -> Sequence[Tensor]:
        """Each agent's actions of a batch, as critics see them."""
        if self.discrete:
            return [one_hot(x, n) for x, n in zip(action.unbind(-1), self.n_actions, strict=True)]
        return ((action - self.mid) / self.half).split(self.n_actions, -1)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """An update of one agent, each in its turn. The metrics are under the same names for all."""
        i = self.updates % len(self.agents)
        self.updates += 1
        if not self.sampled:
            return self._learn[i](batch)
        sizes = (sum(self.n_actions[j] for j in self.seen[i]), self.n_actions[i])
        return self._learn[i](batch, *(gumbel(rng.uniform(batch.reward.shape[1], n)) for n in sizes))

    def learn(
        self, i: int, batch: Batch, next_noise: Tensor | None = None, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """One step of agent i's critic, one of its actor, and its targets follow.

        Gumbel noise is for the next actions of all agents that the critic sees, and for the agent's own.
        """
        c, seen = self.config, self.seen[i]
        own_obs, own_next_obs = (x.split(self.n_obs, -1)[i] for x in (batch.obs, batch.next_obs))
        obs, next_obs = (own_obs, own_next_obs) if c.local_critic else (batch.obs, batch.next_obs)
        actions = [self.encoded(batch.action)[j] for j in seen]
        with torch.no_grad():
            next_action = self.joint(self.target_actors, seen, batch.next_obs, next_noise)
            next_q = self.target_q[i](torch.cat([next_obs, next_action], -1))[..., 0]
            y = batch.reward[..., i] + c.gamma * (1 - batch.terminated) * next_q  # (S, B)
        q = self.q[i](torch.cat([obs, *actions], -1))[..., 0]
        q_loss = (q - y).square().mean(1)
        self.step(f"q_{i}", q_loss, c.critic_learning_rate)
        out = self.actors[i](own_obs)
        actions[seen.index(i)] = self.actions(out, self.parts[i], noise)
        value = self.constant_q[i](torch.cat([obs, *actions], -1))[..., 0]
        actor_loss = -value.mean(1) + c.penalty * out.square().mean((1, 2))
        self.step(f"actor_{i}", actor_loss, c.actor_learning_rate)
        for name in (f"actor_{i}", f"q_{i}"):
            move_target(self.targets[name], self.learned[name][0], c.tau)
        return {"q_loss": q_loss.detach(), "actor_loss": actor_loss.detach(), "q": q.detach().mean(1)}

    def step(self, name: str, loss: Tensor, learning_rate: float) -> None:
        """One step of the optimiser of some parameters down their gradient of the loss (S,)."""
        params, optimiser = self.learned[name]
        grad = params.grad(loss)
        if self.config.max_grad_norm:
            grad = clip_each(params, grad, self.config.max_grad_norm)
        optimiser.step(grad, learning_rate)

    def state_dict(self) -> dict[str, Tensor]:
        return learner_state(self.learned, self.targets, self.updates)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.updates = load_learner_state(self.learned, self.targets, state)

"""MADDPG: multi-agent deep deterministic policy gradient, and independent DDPG.

Lowe, Wu, Tamar, Harb, Abbeel, Mordatch 2017, "Multi-Agent Actor-Critic for Mixed Cooperative-Competitive
Environments", arXiv 1706.02275, algorithm 1. With mu_i the actor of agent i, which sees its own observation
o_i, and Q_i its critic, which sees x, all observations, and a_1 ... a_N, all actions; mu_i' and Q_i' their
slowly moving targets:

    y       = reward_i + gamma Q_i'(x', mu_1'(o_1'), ..., mu_N'(o_N'))                      (eq. 6)
    L(Q_i)  = mean (y - Q_i(x, a_1, ..., a_N))^2                                            (eq. 6)
    L(mu_i) = -mean Q_i(x, a_1, ..., mu_i(o_i), ..., a_N) + penalty mean out_i^2            (eq. 5)
    target <- (1 - tau) target + tau online                   (of agent i, after its update)

with out_i the output of the actor's network; the other agents' actions in L(mu_i) are the batch's. Each agent
learns from its own batch of joint transitions and from its own reward; the agents share no parameters.
They learn in turn, so that the targets of the agents before agent i have already moved when it learns. With
`local_critic`, Q_i sees only o_i and a_i: independent DDPG.

If actions are discrete or `simplex` is set, an agent's action is a sample of softmax(out) by the Gumbel trick
(arXiv 1611.01144, temperature 1), through which Q's gradient reaches the logits:

    soft = softmax(out - log(-log u)),  u uniform             for `simplex`
    hard = one-hot of the largest, its gradient that of soft  for discrete actions (straight through)

Greedy actions omit u. Other actions are tanh(out), scaled to their bounds, with exploration as in DDPG.

y = reward_i where x' is terminal. A time limit does not count as terminal.

Departures of preset `code` (which follows the authors' code where it differs from the paper)
| what | authors' code (github.com/openai/maddpg) | here | why |
|---|---|---|---|
| discrete actions | the environment takes soft ones | hard ones | mpe2 needs indices; soft with `simplex` |
| continuous actions | Gaussian, learned variance | deterministic, with noise | as in the paper and DDPG |
| evaluation | sampled actions, in training | greedy; at the end also sampled | as in the other files |
| policies of other agents | known | known | the paper also infers them |
| ensembles of policies | not in the code | none | section 4.3 of the paper is not implemented |
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.heads import Bounds
from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    NonNegative,
    Parameters,
    Positive,
    Replay,
    State,
    Step,
    Streams,
    Widths,
    captured,
    clip_grad_norm,
    load_learners,
    logarithm,
    network,
    save_learners,
    squash,
    tanh,
    uniform,
)

VERSION = 1  # raise it when a change here changes results
TEAM = True  # for multi-agent tasks


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (github.com/openai/maddpg, train.py and maddpg/trainer/maddpg.py)."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 1024  # transitions per update
    learning_starts: Count = 25_600  # environment steps before the first update
    train_every: Count = 100  # environment steps between updates; then each agent does one
    actor_learning_rate: Positive = 1e-2  # of the actors
    critic_learning_rate: Positive = 1e-2  # of the critics
    adam_eps: Positive = 1e-8  # Adam's epsilon
    gamma: Fraction = 0.95  # discount
    tau: Fraction = 0.01  # fraction of the online networks that goes into their targets
    max_grad_norm: NonNegative = 0.5  # of each weight matrix and each bias by itself; 0: no limit
    penalty: NonNegative = 1e-3  # on the mean square of an actor's outputs
    simplex: bool = False  # continuous actions are samples of a softmax, as in the original particle worlds
    noise: NonNegative = 0.1  # standard deviation of exploration, for continuous actions in [-1, 1]
    local_critic: bool = False  # critics see only their agent's observation and action: independent DDPG
    hidden: Widths = (64, 64)  # ReLU units of each actor and each critic


PRESETS = {
    # The authors' code. Noise is ours: their policies for continuous actions are Gaussian.
    "code": {"openai": Config(simplex=True), "default": Config()},
    # For quick runs: as many updates per transition, but from four environments at once. Continuous actions
    # without clipping and penalty, as in DDPG here. Not searched.
    "small": {
        "openai": Config(envs=4, simplex=True),
        "discrete": Config(envs=4),
        "continuous": Config(envs=4, max_grad_norm=0.0, penalty=0.0),
    },
}
DEFAULTS = {"particle": "code"}  # the authors' code


def glorot(streams: Streams, n_in: int, n_out: int) -> tuple[Tensor, Tensor]:
    """Make weights uniform in +-sqrt(6 / (in + out)), bias 0 (Glorot & Bengio 2010), as the authors do."""
    weight, bias = uniform((6 / (n_in + n_out)) ** 0.5)(streams, n_in, n_out)
    return weight, torch.zeros_like(bias)


def one_hot(index: Tensor, n: int) -> Tensor:
    """(...) int64 -> (..., n) float32."""
    return torch.zeros(*index.shape, n, device=index.device).scatter_(-1, index[..., None], 1.0)


def gumbel(numbers: Tensor) -> Tensor:
    """Return standard Gumbel noise, float32, made from uniform numbers in [0, 1) of the same shape."""
    # Single precision may round to 0 or 1, whose logarithms are not finite.
    return -logarithm(-logarithm(numbers.float().clamp(1e-30, 1 - 2**-24)))


def relaxed(logits: Tensor, parts: list[int], noise: Tensor | None, hard: bool) -> Tensor:
    """Return softmax(logits + noise) of each part of the last axis; if `hard`, one-hot with that gradient."""
    actions = []
    for x in (logits if noise is None else logits + noise).split(parts, -1):
        soft = x.mT.softmax(1).mT  # transposed: softmax is slow over a short last axis
        actions.append(one_hot(x.argmax(-1), x.shape[-1]) + (soft - soft.detach()) if hard else soft)
    return torch.cat(actions, -1)


def clip_each(params: Parameters, grad: Tensor, max_norm: float) -> Tensor:
    """Scale the part of a gradient (S, P) for each weight matrix and each bias to at most `max_norm`."""
    parts = grad.split([leaf[0].numel() for leaf in params.leaves], 1)
    return torch.cat([clip_grad_norm(part, max_norm)[0] for part in parts], 1)


class Agent:
    """All agents of a task, one after another in the last axis of every tensor.

    `obs` is (S, ..., O) with all observations, rewards are (S, B, N), and actions are indices (S, ..., N) or
    numbers (S, ..., A).
    """

    def __init__(
        self,
        config: Config,
        observation_space: spaces.Tuple,
        action_space: spaces.Tuple,
        streams: Streams,
        device: str,
    ) -> None:
        if not isinstance(action_space, spaces.Tuple) or not isinstance(observation_space, spaces.Tuple):
            raise ValueError("maddpg needs a multi-agent task")
        c, n = config, len(action_space)
        self.config = c
        self.agents = range(n)
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, updates=n)
        self.discrete = all(isinstance(space, spaces.Discrete) for space in action_space)
        self.sampled = self.discrete or c.simplex
        # An agent's action may have several parts, such as a movement and a message.
        parts = [list(space) if isinstance(space, spaces.Tuple) else [space] for space in action_space]
        self.parts = [[spaces.utils.flatdim(part) for part in agent_parts] for agent_parts in parts]
        self.n_actions = [sum(sizes) for sizes in self.parts]  # as critics see them
        self.n_obs = [spaces.utils.flatdim(space) for space in observation_space]
        if not self.discrete:
            self.bounds = self.joint_bounds(action_space, device)
        # The agents that each critic sees.
        self.seen = [[i] if c.local_critic else list(self.agents) for i in self.agents]
        self.actors: list[MLP] = []
        self.q: list[MLP] = []
        inits = [glorot] * (len(c.hidden) + 1)
        for i, seen in enumerate(self.seen):
            sizes = (self.n_obs[i], *c.hidden, self.n_actions[i])
            self.actors.append(MLP(streams, sizes, torch.relu_, inits))
            n_seen = sum(self.n_obs[j] + self.n_actions[j] for j in seen)
            self.q.append(MLP(streams, (n_seen, *c.hidden, 1), torch.relu_, inits))
        self.target_actors, self.target_q = copy.deepcopy((self.actors, self.q))
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_actors = [
            Learned(f"actor_{i}", self.actors[i], optimiser=adam, target=self.target_actors[i])
            for i in self.agents
        ]
        self.learned_q = [
            Learned(f"q_{i}", self.q[i], optimiser=adam, target=self.target_q[i]) for i in self.agents
        ]
        pairs = zip(self.learned_actors, self.learned_q, strict=True)
        self.learners = [learned for pair in pairs for learned in pair]
        self.constant_q = [q.constant() for q in self.q]
        self.updates = 0  # of all agents together
        self._joint = captured(partial(self.joint, self.actors, self.agents), device)
        self._learn = [captured(partial(self.learn, i), device) for i in self.agents]

    def joint_bounds(self, action_space: spaces.Tuple, device: str) -> Bounds:
        """Return the bounds of all agents' actions; with `simplex`, actions are not scaled.

        Raise ValueError if the actions are not continuous and bounded, or not in [0, 1] with `simplex`.
        """
        joint = spaces.utils.flatten_space(action_space)
        parts = [
            part for space in action_space for part in (space if isinstance(space, spaces.Tuple) else [space])
        ]
        if not all(isinstance(part, spaces.Box) and part.is_bounded() for part in parts):
            raise ValueError("maddpg needs discrete actions of all agents, or bounded continuous ones")
        assert isinstance(joint, spaces.Box)
        if self.config.simplex:
            if (joint.low != 0).any() or (joint.high != 1).any():
                raise ValueError("maddpg needs actions from 0 to 1 where `simplex` is set")
            joint = spaces.Box(-1.0, 1.0, joint.shape)
        return Bounds(joint, "maddpg", device)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        shape = (obs.shape[1], sum(self.n_actions))
        if not explore:
            action = self._joint(obs)
        elif self.sampled:
            action = self._joint(obs, gumbel(rng.uniform(*shape)))
        elif self.updates:
            action = (self._joint(obs) + self.config.noise * rng.normal(*shape)).clamp(-1, 1)
        else:  # uniform before the first update
            action = 2 * rng.uniform(*shape).float() - 1
        if self.discrete:
            return torch.stack([x.argmax(-1) for x in action.split(self.n_actions, -1)], -1), None
        return self.bounds.scale(action), None

    def greedy_steps(self) -> list[list[Step]]:
        steps = [network(actor) for actor in self.actors]
        if self.discrete:
            return [[*own, Step("argmax")] for own in steps]
        if self.sampled:
            pairs = zip(steps, self.parts, strict=True)
            return [[*own, Step("softmax", {"sizes": sizes})] for own, sizes in pairs]
        parts = (x.split(self.n_actions) for x in (self.bounds.mid, self.bounds.half))
        scales = [Step("scale", {"middle": mid, "half": half}) for mid, half in zip(*parts, strict=True)]
        return [[*own, squash(), scale] for own, scale in zip(steps, scales, strict=True)]

    def joint(
        self, actors: Sequence[MLP], agents: Sequence[int], obs: Tensor, noise: Tensor | None = None
    ) -> Tensor:
        """Return the actions (S, B, ...) of several agents, greedy or with Gumbel noise (S, B, ...)."""
        observations = obs.split(self.n_obs, -1)
        out = torch.cat([actors[i](observations[i]) for i in agents], -1)
        return self.actions(out, [n for i in agents for n in self.parts[i]], noise)

    def actions(self, out: Tensor, parts: list[int], noise: Tensor | None) -> Tensor:
        """Turn outputs of actors into actions as critics see them."""
        return relaxed(out, parts, noise, self.discrete) if self.sampled else tanh(out)

    def encoded(self, action: Tensor) -> Sequence[Tensor]:
        """Split the actions of a batch by agent, as critics see them."""
        if self.discrete:
            return [one_hot(x, n) for x, n in zip(action.unbind(-1), self.n_actions, strict=True)]
        return self.bounds.normalise(action).split(self.n_actions, -1)

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Update one agent, in turn. The metrics have the same names for all agents."""
        i = self.updates % len(self.agents)
        self.updates += 1
        if not self.sampled:
            return self._learn[i](batch)
        sizes = (sum(self.n_actions[j] for j in self.seen[i]), self.n_actions[i])
        return self._learn[i](batch, *(gumbel(rng.uniform(batch.reward.shape[1], n)) for n in sizes))

    def learn(
        self, i: int, batch: Batch, next_noise: Tensor | None = None, noise: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Move agent i's critic, actor and targets one step.

        The Gumbel noise is for the next actions of all agents that the critic sees, and for agent i's action.
        """
        c, seen = self.config, self.seen[i]
        actor_obs, actor_next_obs = (x.split(self.n_obs, -1)[i] for x in (batch.obs, batch.next_obs))
        obs, next_obs = (actor_obs, actor_next_obs) if c.local_critic else (batch.obs, batch.next_obs)
        actions = [self.encoded(batch.action)[j] for j in seen]
        with torch.no_grad():
            next_action = self.joint(self.target_actors, seen, batch.next_obs, next_noise)
            next_q = self.target_q[i](torch.cat([next_obs, next_action], -1))[..., 0]
            y = batch.reward[..., i] + c.gamma * (1 - batch.terminated) * next_q  # (S, B)
        q = self.q[i](torch.cat([obs, *actions], -1))[..., 0]
        q_loss = (q - y).square().mean(1)
        self.descend(self.learned_q[i], q_loss, c.critic_learning_rate)

        out = self.actors[i](actor_obs)
        actions[seen.index(i)] = self.actions(out, self.parts[i], noise)
        value = self.constant_q[i](torch.cat([obs, *actions], -1))[..., 0]
        actor_loss = -value.mean(1) + c.penalty * out.square().mean((1, 2))
        self.descend(self.learned_actors[i], actor_loss, c.actor_learning_rate)
        self.learned_actors[i].follow(c.tau)
        self.learned_q[i].follow(c.tau)
        return {"q_loss": q_loss.detach(), "actor_loss": actor_loss.detach(), "q": q.detach().mean(1)}

    def descend(self, learned: Learned, loss: Tensor, learning_rate: float) -> None:
        """Move parameters one step down the gradient of the loss (S,), clipped if `max_grad_norm` is set."""
        grad = learned.params.grad(loss)
        if self.config.max_grad_norm:
            grad = clip_each(learned.params, grad, self.config.max_grad_norm)
        learned.optimiser.step(grad, learning_rate)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return each agent's Q (S, B, N) of observations (S, B, O) and actions (S, B, ...)."""
        actions = self.encoded(action)
        values = []
        for i, seen in enumerate(self.seen):
            own = obs.split(self.n_obs, -1)[i] if self.config.local_critic else obs
            values.append(self.q[i](torch.cat([own, *(actions[j] for j in seen)], -1)))
        return torch.cat(values, -1)

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

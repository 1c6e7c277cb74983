"""MAPPO: PPO for a team, each agent with a centralised value function, and independent PPO.

Yu, Velu, Vinitsky, Gao, Wang, Bayen, Wu 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent
Games", arXiv 2103.01955. Every agent i has a policy pi_i, which sees its own observation o_i, and a value
function V_i, which sees x, all observations. With r_t the ratio pi_i(a_t|o_t) / pi_i,old(a_t|o_t):

    delta_t = reward_t + gamma V_i(x_t+1) - V_i(x_t)
    A_t     = delta_t + gamma lam A_t+1                                       (arXiv 1506.02438, eq. 16)
    L_clip  = mean min(r_t A_t, clip(r_t, 1 - clip, 1 + clip) A_t)
    L       = L_clip - value_coef mean (V_i(x_t) - ret_t)^2 / 2 + entropy_coef mean H(pi_i)

and reward_t, A_t, ret_t = A_t + V_i(x_t) agent i's own. With `value_norm` the network's output is the value
less the running mean of ret, over its running deviation, and L compares it with ret in the same units. With
`local_value` V_i sees o_i alone: independent PPO (arXiv 2011.09533).

Departures
| what | authors' code (github.com/marlbenchmark/on-policy) | here | why |
|---|---|---|---|
| parameters | shared by all agents | each agent its own | agents differ; their option, too |
| value loss | Huber, the larger of clipped and not | half the squared error | as PPO here |
| layers | LayerNorm at the input and after each | none | as PPO here |
| gradient | clipped for policy and value apart | together | one optimiser, as PPO here |
| moments of ret | updated in every epoch | once, before the first | the same numbers come each time |
| time limit | ends the episode | the value of the successor stands for the rest | arXiv 1712.00378 |
| environments | 128 | 32 | more updates in our budget |
| actions | not stated | clipped to be executed; the sample itself is scored | as PPO here |
"""

from dataclasses import dataclass, replace
from functools import partial
from math import e, log, pi, sqrt

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
    Rollout,
    Streams,
    Vector,
    Widths,
    captured,
    clip_grad_norm,
    orthogonal,
    standardise,
    tanh,
)

VERSION = 1  # raise it when a change here changes results
TEAM = True  # it learns tasks of several agents


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code (scripts/train_mpe_scripts), but for `envs`."""

    envs: Count = 32  # environments per seed
    steps: Count = 25  # time steps in a rollout: an episode of the particle worlds
    epochs: Count = 10  # passes over a rollout
    minibatch: Count = 800  # transitions per gradient step: the whole rollout
    learning_rate: Positive = 7e-4
    adam_eps: Positive = 1e-5
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.95  # of the advantage estimator
    clip: Positive = 0.2
    value_coef: NonNegative = 1.0
    entropy_coef: NonNegative = 0.01
    max_grad_norm: Positive = 10.0
    value_norm: bool = True  # values and returns by the returns' running moments
    local_value: bool = False  # it sees its own agent's observation only: independent PPO
    hidden: Widths = (64, 64)  # tanh units, policies and values apart

    def __post_init__(self) -> None:
        if self.minibatch < 2 or (self.envs * self.steps) % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must be at least 2 and divide envs x steps")


PRESETS = {"particle": Config()}


class Policy:
    """Categorical over logits, or Gaussian with free deviation. A test holds the copies of it equal."""

    def __init__(self, streams: Streams, n_obs: int, hidden: Widths, action_space: spaces.Space):
        self.discrete = isinstance(action_space, spaces.Discrete)
        n_out = int(action_space.n) if self.discrete else action_space.shape[0]
        inits = [orthogonal(sqrt(2))] * len(hidden) + [orthogonal(0.01)]
        self.net = MLP(streams, (n_obs, *hidden, n_out), tanh, inits)
        self.log_std = None if self.discrete else Vector(streams, n_out, 0.0)

    def modules(self) -> list[MLP | Vector]:
        return [self.net] if self.discrete else [self.net, self.log_std]

    def act(self, obs: Tensor, rng: Streams, explore: bool) -> Tensor:
        """(S, E, O) -> (S, E) int64 or (S, E, A): a sample, or the most likely action."""
        out = self.net(obs)
        if self.discrete:
            if not explore:
                return out.argmax(-1)
            cdf = out.log_softmax(-1).exp().cumsum(-1)[..., :-1]
            return (rng.uniform(out.shape[1], 1) > cdf).sum(-1)
        if not explore:
            return out
        return out + self.log_std.value.exp()[:, None] * rng.normal(*out.shape[1:])

    def evaluate(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """log pi(action|obs) and the entropy of pi(.|obs), both (S, ...)."""
        out = self.net(obs)
        if self.discrete:
            logp = out.log_softmax(-1)
            return logp.gather(-1, action[..., None]).squeeze(-1), -(logp.exp() * logp).sum(-1)
        log_std = self.log_std.value.view(-1, *[1] * (out.dim() - 2), out.shape[-1])
        z = (action - out) * (-log_std).exp()
        logp = (-0.5 * z * z - log_std - 0.5 * log(2 * pi)).sum(-1)
        return logp, (log_std + 0.5 * log(2 * pi * e)).sum(-1).expand_as(logp)


def advantages(batch: Batch, value: Tensor, next_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16) over the time axis of (S, T, E).

    A true end drops the successor's value; either flag ends the recursion. A test holds the copies of it
    equal.
    """
    delta = batch.reward + gamma * (1 - batch.terminated) * next_value - value
    carry = gamma * lam * (1 - batch.terminated) * (1 - batch.truncated)
    advantage, found = torch.zeros_like(delta[:, 0]), []
    for delta_now, carry_now in zip(delta.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        advantage = delta_now + carry_now * advantage
        found.append(advantage)
    return torch.stack(found[::-1], 1)


class ValueNorm:
    """Running mean and deviation of returns, each seed by itself: moving averages in float64 whose start at 0
    is corrected for, as Adam's are. Before the first update 0 and 1.
    """

    DECAY = 0.99999
    LEAST_VARIANCE = 1e-2

    def __init__(self, streams: Streams):
        # Averages of returns and of their squares, and the weight of all that is in them.
        self.sums = torch.zeros(len(streams.seeds), 3, dtype=torch.float64, device=streams.device)

    @torch.no_grad()
    def update(self, ret: Tensor) -> None:
        """Take in more returns (S, ...)."""
        ret = ret.flatten(1).double()
        new = torch.stack([ret.mean(1), ret.square().mean(1), torch.ones_like(ret[:, 0])], 1)
        self.sums = self.DECAY * self.sums + (1 - self.DECAY) * new

    def moments(self) -> tuple[Tensor, Tensor]:
        """Mean and deviation, each (S, 1, 1) float32."""
        mean, square, weight = self.sums[:, :, None, None].unbind(1)
        seen, weight = weight > 0, weight.clamp(min=1 - self.DECAY)
        mean, square = mean / weight, square / weight
        deviation = (square - mean.square()).clamp(min=self.LEAST_VARIANCE).sqrt()
        return mean.float(), torch.where(seen, deviation, 1.0).float()


class Agent:
    """A team. What belongs to an agent stands agent after agent in the last axis: `obs` is (S, ..., O), all
    observations; a reward (S, T, E, N); an action (S, ..., N) choices or (S, ..., A) numbers.
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
            raise ValueError("mappo needs a team of agents")
        c, self.agents = config, range(len(action_space))
        self.config, self.experience = c, Rollout(c.steps, c.envs)
        self.discrete = all(isinstance(space, spaces.Discrete) for space in action_space)
        if not self.discrete:
            several = [list(space) if isinstance(space, spaces.Tuple) else [space] for space in action_space]
            if not all(isinstance(part, spaces.Box) for parts in several for part in parts):
                raise ValueError("mappo needs discrete actions of all agents, or continuous ones")
            action_space = [spaces.utils.flatten_space(space) for space in action_space]  # one Box each
        self.n_obs = [space.shape[0] for space in observation_space]
        self.n_actions = [1 if self.discrete else space.shape[0] for space in action_space]
        inits = [orthogonal(sqrt(2))] * len(c.hidden) + [orthogonal(1.0)]
        self.policies, self.values, self.params, self.optimisers, self.norms = [], [], [], [], []
        for n_obs, space in zip(self.n_obs, action_space, strict=True):
            policy = Policy(streams, n_obs, c.hidden, space)
            n_seen = n_obs if c.local_value else sum(self.n_obs)
            value = MLP(streams, (n_seen, *c.hidden, 1), tanh, inits)
            self.policies.append(policy)
            self.values.append(value)
            self.params.append(Parameters(*policy.modules(), value))
            self.optimisers.append(Adam(self.params[-1], c.adam_eps))
            self.norms.append(ValueNorm(streams))
        self._step = [captured(partial(self.step, i), device) for i in self.agents]

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: None = None
    ) -> tuple[Tensor, None]:
        seen = zip(self.policies, obs.split(self.n_obs, -1), strict=True)
        actions = [policy.act(own, rng, explore) for policy, own in seen]
        return torch.stack(actions, -1) if self.discrete else torch.cat(actions, -1), None

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Every agent learns from the window, by itself; the metrics are means over the agents."""
        means = torch.stack([self.learn(i, batch, rng) for i in self.agents], -1).mean(-1)
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
        return dict(zip(names, means.T, strict=True))

    def learn(self, i: int, batch: Batch, rng: Streams) -> Tensor:
        """Agent i's part of an update; what it averages (S, 6)."""
        c, norm, actions = self.config, self.norms[i], batch.action.split(self.n_actions, -1)[i]
        own, seen, next_seen = self.own(i, batch.obs), self.seen(i, batch.obs), self.seen(i, batch.next_obs)
        action, reward = actions.squeeze(-1) if self.discrete else actions, batch.reward[..., i]
        with torch.no_grad():
            mean, deviation = norm.moments()
            value = mean + deviation * self.values[i](seen).squeeze(-1)  # (S, T, E)
            next_value = mean + deviation * self.values[i](next_seen).squeeze(-1)
            old_logp, _ = self.policies[i].evaluate(own, action)
            advantage = advantages(replace(batch, reward=reward), value, next_value, c.gamma, c.lam)
            ret = advantage + value
            if c.value_norm:
                norm.update(ret)
                mean, deviation = norm.moments()
                ret = (ret - mean) / deviation
        columns = (own, seen, action, old_logp, advantage, ret)
        columns = [x.flatten(1, 2) for x in columns]  # (S, T * E, ...)
        row = torch.arange(len(ret), device=ret.device)[:, None]
        sums = None
        for _ in range(c.epochs):
            order = rng.permutation(columns[0].shape[1])
            shuffled = [x[row, order] for x in columns]
            for start in range(0, order.shape[1], c.minibatch):
                now = self._step[i](*(x[:, start : start + c.minibatch] for x in shuffled))
                sums = now.clone() if sums is None else sums + now
        return sums / (c.epochs * (columns[0].shape[1] // c.minibatch))

    def step(self, i: int, *minibatch: Tensor) -> Tensor:
        """One step of agent i's optimiser; what `learn` averages (S, 6)."""
        loss, parts = self.loss(i, *minibatch)
        grad, norm = clip_grad_norm(self.params[i].grad(loss), self.config.max_grad_norm)
        self.optimisers[i].step(grad, self.config.learning_rate)
        return torch.stack([*parts, norm], 1)

    def loss(
        self,
        i: int,
        own: Tensor,
        seen: Tensor,
        action: Tensor,
        old_logp: Tensor,
        advantage: Tensor,
        ret: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """-L of agent i on a minibatch (S, B), `own` observations for its policy, `seen` for its value: the
        loss (S,), and what to report.
        """
        c = self.config
        logp, entropy = self.policies[i].evaluate(own, action)
        log_ratio = logp - old_logp
        ratio = log_ratio.exp()
        advantage = standardise(advantage)
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean(1)
        value_loss = 0.5 * (self.values[i](seen).squeeze(-1) - ret).square().mean(1)
        entropy = entropy.mean(1)
        loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
        with torch.no_grad():
            approx_kl = (ratio - 1 - log_ratio).mean(1)  # the unbiased, positive estimate
            clip_fraction = (ratio != clipped).float().mean(1)
        return loss, (policy_loss.detach(), value_loss.detach(), entropy.detach(), approx_kl, clip_fraction)

    def own(self, i: int, obs: Tensor) -> Tensor:
        """Agent i's observations: (S, ..., O) -> (S, ..., O_i)."""
        return obs.split(self.n_obs, -1)[i]

    def seen(self, i: int, obs: Tensor) -> Tensor:
        """What agent i's value function sees."""
        return self.own(i, obs) if self.config.local_value else obs

    def state_dict(self) -> dict[str, Tensor]:
        state = {}
        for i in self.agents:
            state[f"params/agent_{i}"] = self.params[i].matrix
            state |= {f"optimiser_{i}/{k}": v for k, v in self.optimisers[i].state_dict().items()}
            state[f"value_norm/agent_{i}"] = self.norms[i].sums
        return state

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for i in self.agents:
            self.params[i].matrix.copy_(state[f"params/agent_{i}"])
            optimiser = self.optimisers[i]
            optimiser.load_state_dict({k: state[f"optimiser_{i}/{k}"] for k in optimiser.state_dict()})
            self.norms[i].sums = state[f"value_norm/agent_{i}"]

"""MAPPO: multi-agent PPO with centralised value functions, and independent PPO.

Yu, Velu, Vinitsky, Gao, Wang, Bayen, Wu 2022, "The Surprising Effectiveness of PPO in Cooperative Multi-Agent
Games", arXiv 2103.01955. Each agent i has a policy pi_i, which sees its own observation o_i, and a value
function V_i, which sees x, all observations. With r_t the ratio pi_i(a_t|o_t) / pi_i,old(a_t|o_t):

    delta_t = reward_t + gamma V_i(x_t+1) - V_i(x_t)
    A_t     = delta_t + gamma lam A_t+1                                       (arXiv 1506.02438, eq. 16)
    L_clip  = mean min(r_t A_t, clip(r_t, 1 - clip, 1 + clip) A_t)
    L       = L_clip - value_coef mean h(V_i(x_t) - ret_t) + entropy_coef mean H(pi_i)

where reward_t, A_t and ret_t = A_t + V_i(x_t) are agent i's own; with `shared_reward`, reward_t is the sum
over all agents. h(e) is e^2 / 2, but linear where |e| > huber_delta. With `clip_value`, the larger of
h(V_i - ret_t) and h(V_old + clip(V_i - V_old, -clip, clip) - ret_t) counts. With `value_norm`, the network
predicts the value minus the running mean of ret, divided by its running standard deviation, and L compares it
with ret in these units. With `local_value`, V_i sees only o_i: independent PPO (arXiv 2011.09533). The
gradients of policy and value function are clipped separately.

Departures of preset `code` (the authors' scripts for the particle worlds)
| what | authors' code (github.com/marlbenchmark/on-policy) | here | why |
|---|---|---|---|
| recurrence | a GRU of 64 units, trained on chunks of 10 steps | feed-forward | also an option of theirs |
| layer normalisation | at the input, after each layer and after the GRU | none | as in PPO here |
| gain of hidden layers | 5/3 with tanh, sqrt 2 with ReLU | sqrt 2 | as in PPO here |
| parameters | shared by the agents, except in speaker_listener | separate | also an option of theirs |
| advantages | standardised over all agents that share parameters | over each agent's | follows |
| standardisation | divisor n, eps 1e-5 | divisor n - 1, eps 1e-8 | as in PPO here |
| length | spread 20M steps, reference 3M, speaker_listener 2M | 1.5M | the budget is the task's |
| continuous actions | none | Gaussian, clipped when executed | as in PPO here |
"""

from dataclasses import dataclass, replace
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.heads import Activation, Policy, clipped_steps, value_network
from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    NonNegative,
    Positive,
    Rollout,
    State,
    Step,
    Streams,
    Widths,
    captured,
    clip_grad_norm,
    gradient,
    root,
    standardise,
)

VERSION = 2  # raise it when a change here changes results
TEAM = True  # for multi-agent tasks


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' script for simple_spread, without its shared reward."""

    envs: Count = 128  # environments per seed
    steps: Count = 25  # time steps in a rollout: an episode of the particle worlds
    epochs: Count = 10  # passes over a rollout
    minibatch: Count = 3200  # transitions per gradient step: the whole rollout
    learning_rate: Positive = 7e-4  # of policies and value functions
    adam_eps: Positive = 1e-5  # Adam's epsilon
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.95  # of the advantage estimator
    clip: Positive = 0.2  # of the probability ratio; with clip_value also of the value function's change
    clip_value: bool = True  # the value loss is the larger of that of the value and of the clipped value
    huber_delta: NonNegative = 10.0  # the value loss is linear in larger errors; 0: never
    value_coef: NonNegative = 1.0  # weight of the value loss
    entropy_coef: NonNegative = 0.01  # weight of the entropy bonus
    max_grad_norm: Positive = 10.0  # of each policy and of each value function
    bootstrap_time_limit: bool = False  # at the time limit, add the successor's value; else it is terminal
    shared_reward: bool = False  # every agent receives the sum of all rewards
    value_norm: bool = True  # normalise values and returns by the running moments of the returns
    local_value: bool = False  # value functions see only their agent's observation: independent PPO
    activation: Activation = "tanh"  # of the hidden units, whose initial weights are orthogonal
    hidden: Widths = (64, 64)  # units of the hidden layers of each policy and each value function

    def __post_init__(self) -> None:
        if self.minibatch < 2 or (self.envs * self.steps) % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must be at least 2 and divide envs x steps")


SPREAD = Config(shared_reward=True)
COMMUNICATION = replace(SPREAD, epochs=15, activation="relu")  # simple_reference, simple_speaker_listener

PRESETS = {
    # The authors' scripts. Scenarios that have none take the settings of simple_spread, but not its shared
    # reward: agents may be opponents. The tasks NAME-openai sum the rewards themselves, as the authors' do.
    "code": {
        "simple_spread_v3": SPREAD,
        "simple_spread_v3-continuous": SPREAD,
        "simple_reference_v3": COMMUNICATION,
        "simple_reference_v3-continuous": COMMUNICATION,
        "simple_reference-openai": replace(COMMUNICATION, shared_reward=False),
        "simple_speaker_listener_v4": COMMUNICATION,
        "simple_speaker_listener_v4-continuous": COMMUNICATION,
        "simple_speaker_listener-openai": replace(COMMUNICATION, shared_reward=False),
        "default": Config(),
    },
    # For quick runs: more updates within a short budget, and the value loss of PPO. Not searched.
    "small": Config(envs=32, minibatch=800, clip_value=False, huber_delta=0.0, bootstrap_time_limit=True),
}
DEFAULTS = {"particle": "code"}  # the authors' code


def advantages(batch: Batch, value: Tensor, next_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Return generalised advantages (arXiv 1506.02438, eq. 16) along the time axis of (S, T, E).

    A terminal state drops the successor's value; either flag ends the recursion.
    """
    assert batch.truncated is not None
    delta = batch.reward + gamma * (1 - batch.terminated) * next_value - value
    carry = gamma * lam * (1 - batch.terminated) * (1 - batch.truncated)
    advantage, backwards = torch.zeros_like(delta[:, 0]), []
    for delta_t, carry_t in zip(delta.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        advantage = delta_t + carry_t * advantage
        backwards.append(advantage)
    return torch.stack(backwards[::-1], 1)


class ValueNorm:
    """Running mean and standard deviation of returns, each seed by itself.

    They are moving averages in float64 with the bias correction of Adam; before the first update 0 and 1.
    """

    DECAY = 0.99999
    LEAST_VARIANCE = 1e-2

    def __init__(self, streams: Streams) -> None:
        # Averages of the returns and of their squares, and their total weight.
        self.sums = torch.zeros(len(streams.seeds), 3, dtype=torch.float64, device=streams.device)

    @torch.no_grad()
    def update(self, ret: Tensor) -> None:
        """Include more returns (S, ...)."""
        ret = ret.flatten(1).double()
        new = torch.stack([ret.mean(1), ret.square().mean(1), torch.ones_like(ret[:, 0])], 1)
        self.sums = self.DECAY * self.sums + (1 - self.DECAY) * new

    def moments(self) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, each (S, 1) float32."""
        mean, square, weight = self.sums[:, :, None].unbind(1)
        updated = weight > 0
        weight = weight.clamp(min=1 - self.DECAY)
        mean, square = mean / weight, square / weight
        deviation = root((square - mean.square()).clamp(min=self.LEAST_VARIANCE))
        return mean.float(), torch.where(updated, deviation, 1.0).float()


class Agent:
    """All agents of a task, one after another in the last axis of every tensor.

    `obs` is (S, ..., O) with all observations, rewards are (S, T, E, N), and actions are indices (S, ..., N)
    or numbers (S, ..., A).
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
            raise ValueError("mappo needs a multi-agent task")
        c = self.config = config
        self.agents = range(len(action_space))
        self.experience = Rollout(c.steps, c.envs)
        self.discrete = all(isinstance(space, spaces.Discrete) for space in action_space)
        action_spaces = list(action_space)
        if not self.discrete:
            parts = [list(space) if isinstance(space, spaces.Tuple) else [space] for space in action_space]
            if not all(isinstance(part, spaces.Box) for agent_parts in parts for part in agent_parts):
                raise ValueError("mappo needs discrete actions of all agents, or continuous ones")
            action_spaces = [spaces.utils.flatten_space(space) for space in action_space]  # a Box each
        self.n_obs = [spaces.utils.flatdim(space) for space in observation_space]
        self.n_actions = [1 if self.discrete else spaces.utils.flatdim(space) for space in action_spaces]
        self.policies: list[Policy] = []
        self.values: list[MLP] = []
        for n_obs, space in zip(self.n_obs, action_spaces, strict=True):
            n_seen = n_obs if c.local_value else sum(self.n_obs)
            self.policies.append(Policy(streams, n_obs, c.hidden, space, c.activation))
            self.values.append(value_network(streams, n_seen, c.hidden, c.activation))
        adam = partial(Adam, eps=c.adam_eps)
        pairs = list(zip(self.policies, self.values, strict=True))
        self.learned = [
            Learned(f"agent_{i}", *pair, optimiser=adam, optimiser_name=f"optimiser_{i}")
            for i, pair in enumerate(pairs)
        ]
        # The numbers of parameters of each agent's policy and value function.
        self.sizes = [[sum(getattr(*x)[0].numel() for x in part.slots()) for part in pair] for pair in pairs]
        self.ends_at_limit = not c.bootstrap_time_limit
        self.norms = [ValueNorm(streams) for _ in self.agents]
        steps = partial(clipped_steps, standardise=True, separate_norms=True, huber_delta=c.huber_delta)
        self._step = [
            steps(self.learned[i], *pairs[i], c, device) or captured(partial(self.step, i), device)
            for i in self.agents
        ]

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        seen = zip(self.policies, obs.split(self.n_obs, -1), strict=True)
        actions = [policy.act(policy_obs, rng, explore) for policy, policy_obs in seen]
        return torch.stack(actions, -1) if self.discrete else torch.cat(actions, -1), None

    def greedy_steps(self) -> list[list[Step]]:
        return [policy.greedy_steps() for policy in self.policies]

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Update every agent from the same window. The metrics are means over the agents."""
        means = torch.stack([self.learn(i, batch, rng) for i in self.agents], -1).mean(-1)
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
        return dict(zip(names, means.T, strict=True))

    def learn(self, i: int, batch: Batch, rng: Streams) -> Tensor:
        """Update agent i and return its mean metrics (S, 6)."""
        c, norm = self.config, self.norms[i]
        policy_obs, value_obs = self.policy_obs(i, batch.obs), self.value_obs(i, batch.obs)
        action = self.own_action(i, batch.action)
        with torch.no_grad():
            advantage, old_value, ret = self.estimates(i, batch)
            old_logp, _ = self.policies[i].evaluate(policy_obs, action)
        transitions = (policy_obs, value_obs, action, old_logp, advantage, ret, old_value)
        columns = [x.flatten(1, 2) for x in transitions]  # (S, T * E, ...)
        metrics: list[Tensor] = []
        for _ in range(c.epochs):
            for *minibatch, ret, old_value in rng.minibatches(columns, c.minibatch):
                if c.value_norm:
                    norm.update(ret)
                mean, deviation = norm.moments()
                minibatch += [(ret - mean) / deviation, old_value]
                metrics.append(self._step[i](c.learning_rate, *minibatch).clone())
        return sum(metrics[1:], metrics[0]) / len(metrics)

    def estimates(self, i: int, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Return agent i's advantages, values in units of the moments, and returns, each (S, T, E)."""
        c = self.config
        mean, deviation = (x[..., None] for x in self.norms[i].moments())
        scaled, next_scaled = (
            self.values[i](self.value_obs(i, obs)).squeeze(-1) for obs in (batch.obs, batch.next_obs)
        )
        value, next_value = mean + deviation * scaled, mean + deviation * next_scaled
        advantage = advantages(self.rewarded(i, batch), value, next_value, c.gamma, c.lam)
        return advantage, scaled, advantage + value

    def rewarded(self, i: int, batch: Batch) -> Batch:
        """Return the batch as agent i learns from it: with its reward (S, T, E), and its terminal states."""
        rewards = batch.reward.unbind(-1)
        reward = sum(rewards[1:], rewards[0]) if self.config.shared_reward else rewards[i]
        terminated = batch.terminated
        if self.ends_at_limit:
            assert batch.truncated is not None
            terminated = torch.maximum(terminated, batch.truncated)
        return replace(batch, reward=reward, terminated=terminated)

    def step(self, i: int, learning_rate: float | Tensor, *minibatch: Tensor) -> Tensor:
        """Take one step of agent i's optimiser and return the metrics (S, 6) that `learn` averages."""
        loss, metrics = self.loss(i, *minibatch)
        c, learned = self.config, self.learned[i]
        grad = learned.params.grad(loss)
        clipped = [clip_grad_norm(part, c.max_grad_norm)[0] for part in grad.split(self.sizes[i], 1)]
        learned.optimiser.step(torch.cat(clipped, 1), learning_rate)
        return torch.stack([*metrics, grad.norm(dim=1)], 1)

    def loss(
        self,
        i: int,
        policy_obs: Tensor,
        value_obs: Tensor,
        action: Tensor,
        old_logp: Tensor,
        advantage: Tensor,
        ret: Tensor,
        old_value: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return -L of agent i on a minibatch (S, B), a loss (S,), and metrics."""
        c = self.config
        logp, entropy = self.policies[i].evaluate(policy_obs, action)
        log_ratio = logp - old_logp
        ratio = log_ratio.exp()
        advantage = standardise(advantage)
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean(1)
        value = self.values[i](value_obs).squeeze(-1)
        value_loss = self.huber(value - ret)
        if c.clip_value:
            near = old_value + (value - old_value).clamp(-c.clip, c.clip)
            value_loss = torch.max(value_loss, self.huber(near - ret))
        value_loss = value_loss.mean(1)
        entropy = entropy.mean(1)
        loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
        with torch.no_grad():
            approx_kl = (ratio - 1 - log_ratio).mean(1)  # unbiased and never negative
            clip_fraction = (ratio != clipped).float().mean(1)
        return loss, (policy_loss.detach(), value_loss.detach(), entropy.detach(), approx_kl, clip_fraction)

    def huber(self, error: Tensor) -> Tensor:
        """Return h(error)."""
        delta, size, half = self.config.huber_delta, error.abs(), 0.5 * error.square()
        return torch.where(size <= delta, half, delta * (size - 0.5 * delta)) if delta else half

    def policy_obs(self, i: int, obs: Tensor) -> Tensor:
        """Return agent i's own observations: (S, ..., O) -> (S, ..., O_i)."""
        return obs.split(self.n_obs, -1)[i]

    def own_action(self, i: int, action: Tensor) -> Tensor:
        """Return agent i's actions (S, ...) or (S, ..., A_i)."""
        own = action.split(self.n_actions, -1)[i]
        return own.squeeze(-1) if self.discrete else own

    def value_obs(self, i: int, obs: Tensor) -> Tensor:
        """Return the observations that agent i's value function sees."""
        return self.policy_obs(i, obs) if self.config.local_value else obs

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return each agent's V (S, B, N) of observations (S, B, O), in units of the task's rewards."""
        scaled = [self.values[i](self.value_obs(i, obs)).squeeze(-1) for i in self.agents]
        moments = [norm.moments() for norm in self.norms]
        return torch.stack([mean + std * v for (mean, std), v in zip(moments, scaled, strict=True)], -1)

    def value_reward(self, batch: Batch, rng: Streams) -> Tensor:
        """Return the rewards that each agent's V adds up, (S, B, N)."""
        return torch.stack([self.rewarded(i, batch).reward for i in self.agents], -1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradients (S, P) of all agents' L_clip at pi = pi_old; the minibatch is a window."""
        parts = []
        for i, policy in enumerate(self.policies):
            with torch.no_grad():
                advantage, *_ = self.estimates(i, batch)
            logp, _ = policy.evaluate(self.policy_obs(i, batch.obs), self.own_action(i, batch.action))
            parts.append(gradient((standardise(advantage) * logp).flatten(1).mean(1), policy))
        return torch.cat(parts, 1)

    def state_dict(self) -> State:
        state: State = {}
        for i, learned in enumerate(self.learned):
            state |= learned.state_dict() | {f"value_norm/agent_{i}": self.norms[i].sums}
        return state

    def load_state_dict(self, state: State) -> None:
        for i, learned in enumerate(self.learned):
            learned.load_state_dict(state)
            self.norms[i].sums = state[f"value_norm/agent_{i}"]

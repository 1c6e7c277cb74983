"""Networks and normalisers that several algorithms use and that no paper's equations define.

`Policy`, `Actor` and `Critic` are the usual heads of multi-layer perceptrons; `Bounds` scales actions between
the environment's bounds and [-1, 1]; `correlated` correlates exploration noise over time; `Normaliser` keeps
running moments of observations and returns.
"""

import copy
from collections.abc import Callable
from dataclasses import replace
from math import e, log, pi, sqrt
from typing import Any, Literal

import torch
from gymnasium.spaces import Box, Discrete, Space
from torch import Tensor

from ascent import kernels
from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Initialiser,
    Learned,
    Moments,
    Noise,
    Slot,
    State,
    Step,
    Streams,
    Vector,
    Widths,
    exp,
    network,
    orthogonal,
    part,
    prefixed,
    root,
    tanh,
    uniform_fan_in,
)

Activation = Literal["tanh", "relu"]  # of the hidden units
Init = Literal["orthogonal", "torch"]  # initial weights: as in openai/baselines ppo2, or torch's default


def perceptron(
    streams: Streams, sizes: tuple[int, ...], last_gain: float, activation: Activation, init: Init
) -> MLP:
    """Make a network with initial weights that are orthogonal (hidden gain sqrt 2) or torch's default."""
    n_hidden = len(sizes) - 2
    inits = [orthogonal(sqrt(2))] * n_hidden + [orthogonal(last_gain)]
    if init == "torch":
        inits = [uniform_fan_in] * (n_hidden + 1)
    return MLP(streams, sizes, tanh if activation == "tanh" else torch.relu_, inits)


class Policy:
    """Categorical over logits, or Gaussian with a state-independent standard deviation.

    The gain of the last layer's orthogonal weights is 0.01 (openai/baselines ppo2).
    """

    def __init__(
        self,
        streams: Streams,
        n_obs: int,
        hidden: Widths,
        action_space: Space,
        activation: Activation = "tanh",
        init: Init = "orthogonal",
        log_std_init: float = 0.0,
    ) -> None:
        if isinstance(action_space, Discrete):
            n_out = int(action_space.n)
        else:
            assert isinstance(action_space, Box)
            n_out = action_space.shape[0]
        self.net = perceptron(streams, (n_obs, *hidden, n_out), 0.01, activation, init)
        self.discrete = isinstance(action_space, Discrete)
        self.log_std = Vector(streams, n_out, log_std_init)  # unused where actions are discrete

    def slots(self) -> list[Slot]:
        return self.net.slots() if self.discrete else self.net.slots() + self.log_std.slots()

    def act(self, obs: Tensor, rng: Noise, explore: bool) -> Tensor:
        """Return a sample, or the most likely action: (S, E, O) -> (S, E) int64 or (S, E, A)."""
        compiled = self.net.compiled()
        if compiled and self.discrete and explore:
            return compiled.sample(obs, rng.uniform(obs.shape[1]))
        out = self.net(obs)
        if self.discrete:
            if not explore:
                return out.argmax(-1)
            cdf = out.log_softmax(-1).exp().cumsum(-1)[..., :-1]
            return (rng.uniform(out.shape[1], 1) > cdf).sum(-1)
        if not explore:
            return out
        return out + exp(self.log_std.value)[:, None] * rng.normal(*out.shape[1:])

    def greedy_steps(self) -> list[Step]:
        """Return how the most likely action is found."""
        return [*network(self.net), *([Step("argmax")] if self.discrete else [])]

    def evaluate(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor]:
        """Return log pi(action|obs) and the entropy of pi(.|obs), both (S, ...)."""
        out = self.net(obs)
        if self.discrete:
            logp = out.log_softmax(-1)
            return logp.gather(-1, action[..., None]).squeeze(-1), -(exp(logp) * logp).sum(-1)
        log_std = self.log_std.value.view(-1, *[1] * (out.dim() - 2), out.shape[-1])
        z = (action - out) * exp(-log_std)
        logp = (-0.5 * z * z - log_std - 0.5 * log(2 * pi)).sum(-1)
        return logp, (log_std + 0.5 * log(2 * pi * e)).sum(-1).expand_as(logp)


def value_network(
    streams: Streams, n_obs: int, hidden: Widths, activation: Activation = "tanh", init: Init = "orthogonal"
) -> MLP:
    """Make a network V(s), initialised like `Policy` but with gain 1 in the last layer.

    (S, ..., O) -> (S, ..., 1).
    """
    return perceptron(streams, (n_obs, *hidden, 1), 1.0, activation, init)


def clipped_steps(
    learned: Learned,
    policy: Policy,
    value: MLP,
    config: Any,
    device: str,
    *,
    standardise: bool,
    separate_norms: bool = False,
    huber_delta: float = 0.0,
) -> Callable[..., Tensor] | None:
    """Return the compiled steps of PPO's objective; None where torch takes them.

    `config` is that of PPO or MAPPO. Call the steps with a learning rate and the columns (S, n, ...). They
    return the mean metrics (S, 6). Without `order` they take one step on all rows; with it, the order of the
    rows (S, steps * size), they take a step on each minibatch of `size` rows.
    """
    networks, adam = (policy.net, value), learned.optimiser
    if device != "cpu" or not all(net.compiled() for net in networks):
        return None
    assert isinstance(adam, Adam)
    steps = kernels.ClippedSteps(
        policy.net.sizes,
        value.sizes,
        value.activation is torch.relu_,
        policy.discrete,
        adam_eps=adam.eps,
        clip=config.clip,
        clip_value=config.clip_value,
        standardise=standardise,
        value_coef=config.value_coef,
        entropy_coef=config.entropy_coef,
        max_grad_norm=config.max_grad_norm,
        separate_norms=separate_norms,
        huber_delta=huber_delta,
    )

    def take(learning_rate: float, *columns: Tensor, order: Tensor | None = None, size: int = 0) -> Tensor:
        if order is None:
            size = columns[0].shape[1]
            order = torch.arange(size).expand(len(columns[0]), size)
        t = int(adam.t)
        adam.t += order.shape[1] // size
        return steps(learned.params.matrix, adam.m, adam.v, t, learning_rate, order, size, *columns)

    return take


class Actor:
    """A deterministic policy mu(s) in [-1, 1], a ReLU network: (S, B, O) -> (S, B, A)."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...], last: Initialiser = uniform_fan_in) -> None:
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last])

    def __call__(self, obs: Tensor) -> Tensor:
        return tanh(self.net(obs))

    def slots(self) -> list[Slot]:
        return self.net.slots()


class Critic:
    """Q(s, a) of n ReLU networks: (S, B, O), (S, B, A) -> (S, n, B)."""

    def __init__(
        self, streams: Streams, sizes: tuple[int, ...], n: int, last: Initialiser = uniform_fan_in
    ) -> None:
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last], n)
        self.n = n

    def __call__(self, obs: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([obs, action], -1).repeat_interleave(self.n, 0)  # (S * n, B, O + A)
        return self.net(x).view(len(obs), self.n, -1)

    def slots(self) -> list[Slot]:
        return self.net.slots()

    def constant(self, n: int) -> "Critic":
        """Return the first network (n = 1) or all, in the same memory, with parameters without gradient."""
        critic = copy.copy(self)
        critic.net = self.net.constant(every=self.n // n)
        critic.n = n
        return critic


class Bounds:
    """Scales actions between the bounds of an environment and [-1, 1], which the networks use."""

    def __init__(self, action_space: Space, algorithm: str, device: str) -> None:
        """Raise ValueError if the action space is not a bounded Box."""
        if not isinstance(action_space, Box) or not action_space.is_bounded():
            raise ValueError(f"{algorithm} needs a continuous action space with bounds")
        low, high = torch.tensor(action_space.low), torch.tensor(action_space.high)
        self.size = len(low)
        self.mid = ((high + low) / 2).to(device)  # (A,)
        self.half = ((high - low) / 2).to(device)  # (A,)

    def scale(self, action: Tensor) -> Tensor:
        """Map actions (..., A) from [-1, 1] to the environment's bounds."""
        return self.mid + self.half * action

    def step(self) -> Step:
        """Return `scale` as a step of acting."""
        return Step("scale", {"middle": self.mid, "half": self.half})

    def normalise(self, action: Tensor) -> Tensor:
        """Map actions (..., A) from the environment's bounds to [-1, 1]."""
        return (action - self.mid) / self.half


def correlated(noise: Tensor, decay: float, carry: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return exploration noise (S, E, A) made from independent noise, and what the next step needs of it.

    `decay` is theta of an Ornstein-Uhlenbeck process; 1 leaves the noise independent.
    """
    if decay == 1:
        return noise, None
    if carry is not None:
        noise = noise + (1 - decay) * carry
    return noise, noise


class Normaliser:
    """Normalises observations and rewards by running moments (openai/baselines VecNormalize).

    Observations get mean 0 and standard deviation 1; rewards are scaled so that their discounted sum has
    standard deviation 1. If `on` is False, both stay as they are; if `rewards` is False, rewards do.

    Departure: while a window is processed, observations are normalised by the moments that were used for
    acting, so that log densities agree; only then do the moments include the window. The moments of rewards
    include the window at once.
    """

    def __init__(
        self, streams: Streams, n_obs: int, envs: int, gamma: float, on: bool, rewards: bool = True
    ) -> None:
        self.on = on
        self.rewards = rewards
        self.gamma = gamma
        self.obs_moments = Moments(streams, n_obs)
        self.return_moments = Moments(streams, 1)
        self.ret = torch.zeros(len(streams.seeds), envs, device=streams.device)  # discounted sum so far
        # The moments' mean, and from them the mean and the deviation that `obs` takes, in float32.
        self.scale: tuple[Tensor, Tensor, Tensor] | None = None

    def obs(self, obs: Tensor) -> Tensor:
        """Return observations (S, ..., O) as the networks see them."""
        if not self.on:
            return obs
        moments, shape = self.obs_moments, (len(obs), *[1] * (obs.dim() - 2), obs.shape[-1])
        if self.scale is None or self.scale[0] is not moments.mean:  # the moments have changed
            with torch.inference_mode(False):  # `preference` differentiates what `act` may have made
                self.scale = moments.mean, moments.mean.float(), root((moments.var + 1e-8).float())
        _, mean, deviation = self.scale
        return ((obs - mean.view(shape)) / deviation.view(shape)).clamp(-10, 10)

    def steps(self) -> list[Step]:
        """Return `obs` as a step of acting; none if observations stay as they are."""
        moments = {"mean": self.obs_moments.mean, "variance": self.obs_moments.var}
        return [Step("normalise", {**moments, "epsilon": 1e-8, "bound": 10.0})] if self.on else []

    def batch(self, batch: Batch) -> Batch:
        """Return the window (S, T, E) as the networks see it, and include it in the moments."""
        if not self.on:
            return batch
        reward = self.scaled(batch) if self.rewards else batch.reward
        window = replace(batch, obs=self.obs(batch.obs), next_obs=self.obs(batch.next_obs), reward=reward)
        self.obs_moments.update(batch.obs)
        return window

    def frozen(self, batch: Batch) -> Batch:
        """Return the window (S, T, E) as the networks see it; the moments stay as they are."""
        reward = batch.reward
        if self.on and self.rewards:
            reward = (reward / self.reward_unit()[..., None]).clamp(-10, 10)
        return replace(batch, obs=self.obs(batch.obs), next_obs=self.obs(batch.next_obs), reward=reward)

    def reward_unit(self) -> Tensor:
        """Return by what rewards are divided, (S, 1); values are in this unit."""
        var = self.return_moments.var
        return root(var + 1e-8).float() if self.on and self.rewards else torch.ones_like(var).float()

    def scaled(self, batch: Batch) -> Tensor:
        """Include the rewards (S, T, E) of a window in the moments, and return them scaled."""
        assert batch.truncated is not None
        continues = (1 - batch.terminated) * (1 - batch.truncated)
        returns = torch.empty_like(batch.reward)
        for t in range(returns.shape[1]):
            returns[:, t] = self.ret = self.gamma * self.ret + batch.reward[:, t]
            self.ret = self.ret * continues[:, t]
        self.return_moments.update(returns[..., None])
        return (batch.reward / self.reward_unit()[..., None]).clamp(-10, 10)

    def state_dict(self) -> State:
        """Return the moments, or nothing if the normaliser is off."""
        if not self.on:
            return {}
        obs = prefixed("normaliser", self.obs_moments.state_dict())
        returns = prefixed("reward_scale", self.return_moments.state_dict())
        return {**obs, **returns, "reward_scale/ret": self.ret}

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""
        if self.on:
            self.obs_moments.load_state_dict(part("normaliser", state))
            self.return_moments.load_state_dict(part("reward_scale", state))
            self.ret = state["reward_scale/ret"]

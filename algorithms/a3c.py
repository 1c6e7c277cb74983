"""A3C: asynchronous advantage actor-critic, its asynchrony a schedule drawn from the seed.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", arXiv 1602.01783, algorithm S3. Each
of W workers has an environment and a copy theta' of the shared parameters theta. It acts with its copy for a
window of steps and then computes, with R_t the n-step return that bootstraps at the end of the window,

    d theta = grad' sum_t [ log pi(a_t|s_t) (R_t - V(s_t)) + entropy_coef H(pi(.|s_t))
                            - value_coef (R_t - V(s_t))^2 ],

where no gradient flows through the advantages R_t - V(s_t) in the first term and R_t in the third. It applies
d theta to the current theta by RMSProp with one g for all workers (section 4), and copies theta:

    g <- decay g + (1 - decay) d theta^2
    theta <- theta + learning_rate d theta / sqrt(g + eps)

The schedule: all workers step together; after each window they apply their gradients one after another, in a
random order drawn from the seed. Between a worker's copy and its next gradient come the gradients of the
workers after it in one round and before it in the next: 0 to 2 (W - 1) gradients, W - 1 on average.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| asynchrony | threads in arbitrary order | the schedule above | reproducibility |
| initial g | not stated | 1, as in A2C here | shorter first steps |
| writes | without locks, may interleave | one gradient at a time | reproducibility |
| networks | policy and value share layers | two networks of tanh units | low-dimensional observations |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | as in A2C here |
| time limit | terminal | bootstraps from the successor's value | arXiv 1712.00378 |
| continuous actions | network's variance, whole episodes | free std, windows | as in A2C here |
| normalisation | none | running moments of observations (used frozen) and rewards | VecNormalize |
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Normaliser, Policy, value_network
from ascent.algorithms.seedwise import (
    Batch,
    Count,
    Fraction,
    Learned,
    Noise,
    NonNegative,
    Parameters,
    Positive,
    RMSProp,
    Rollout,
    State,
    Streams,
    Widths,
    clip_grad_norm,
    gradient,
)

VERSION = 1  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: PFRL's reproduction of the paper, with its 16 workers."""

    workers: Count = 16  # environments per seed, each with a copy of the parameters
    steps: Count = 5  # time steps in a window ("t_max")
    learning_rate: Positive = 7e-4
    anneal: bool = True  # learning rate linear to zero over the budget
    rms_decay: Fraction = 0.99
    rms_eps: Positive = 0.1
    gamma: Fraction = 0.99  # discount
    value_coef: NonNegative = 0.25
    entropy_coef: NonNegative = 0.01
    max_grad_norm: Positive = 40.0  # of one worker's gradient
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the value network
    normalise: bool = False  # scale observations and rewards by running moments


# Learning rate chosen from 7e-4 to 1e-2 on CartPole-v1 with seeds 1000-1002.
PRESETS = {"classic": Config(learning_rate=3e-3, entropy_coef=0.0)}
PRESETS["classic-continuous"] = replace(PRESETS["classic"], gamma=0.9)
# PFRL's values and no entropy bonus, as for A2C. Learning rate chosen from 7e-4 and 2e-3 on Hopper-v5 with
# seeds 1000-1002.
PRESETS["mujoco"] = Config(entropy_coef=0.0, normalise=True)


def returns_to_go(batch: Batch, next_value: Tensor, gamma: float) -> Tensor:
    """Return the discounted rewards to the end of the episode, along the time axis of (S, T, E).

    Where a time limit or the end of the window cuts the episode, the value of the true successor replaces the
    remaining rewards; where the episode terminated, nothing follows.
    """
    assert batch.truncated is not None
    carry = gamma * (1 - batch.terminated)
    known = batch.reward + carry * batch.truncated * next_value
    carry = carry * (1 - batch.truncated)
    ret, returns = next_value[:, -1], []
    for known_t, carry_t in zip(known.unbind(1)[::-1], carry.unbind(1)[::-1], strict=True):
        ret = known_t + carry_t * ret
        returns.append(ret)
    return torch.stack(returns[::-1], 1)


@dataclass(frozen=True)
class WorkerStreams:
    """The random numbers of each seed, divided among its workers, who are adjacent rows: (S * W, ...)."""

    rng: Noise
    workers: int

    def uniform(self, *shape: int) -> Tensor:
        return self.rng.uniform(self.workers, *shape).flatten(0, 1)

    def normal(self, *shape: int) -> Tensor:
        return self.rng.normal(self.workers, *shape).flatten(0, 1)


class Agent:
    """The A3C learner: shared parameters and each worker's copy of them."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.workers)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(streams, n_obs, c.workers, c.gamma, c.normalise)
        self.policy = Policy(streams, n_obs, c.hidden, action_space)
        self.value = value_network(streams, n_obs, c.hidden)
        rmsprop = partial(RMSProp, eps=c.rms_eps, decay=c.rms_decay)
        self.learned = Learned(  # shared by the workers
            "all", self.policy, self.value, optimiser=rmsprop, optimiser_name="optimiser"
        )
        self.worker_policy, self.worker_value = deepcopy((self.policy, self.value))
        for module in (self.worker_policy, self.worker_value):
            for owner, name in module.slots():
                setattr(owner, name, getattr(owner, name).detach().repeat_interleave(c.workers, 0))
        self.worker_params = Parameters(self.worker_policy, self.worker_value)  # (S * W, P)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        obs = self.normaliser.obs(obs)
        if rng.purpose != "act":  # evaluation uses the shared parameters
            return self.policy.act(obs, rng, explore), None
        workers = WorkerStreams(rng, self.config.workers)
        action = self.worker_policy.act(obs.flatten(0, 1)[:, None], workers, explore)  # (S * W, 1, ...)
        return action.view(*obs.shape[:2], *action.shape[2:]), None

    def preference(self, obs: Tensor) -> Tensor:
        """Return the logits or mean actions of greedy acting, differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(self.normaliser.obs(obs))

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Apply the workers' gradients, one after another, from a window (S, T, W)."""
        c = self.config
        batch = self.normaliser.batch(batch)
        learning_rate = c.learning_rate * (1 - progress if c.anneal else 1)
        n_seeds = len(batch.reward)
        # (S, T, W, ...) -> (S * W, T, 1, ...): each worker is a row, with its own copy of the parameters
        windows = batch.map(lambda x: x.transpose(1, 2).contiguous().flatten(0, 1).unsqueeze(2))
        with torch.no_grad():
            ret = returns_to_go(windows, self.worker_value(windows.next_obs).squeeze(-1), c.gamma)
        loss, metrics = self.loss(windows.obs, windows.action, ret)
        grad, metrics["grad_norm"] = clip_grad_norm(self.worker_params.grad(loss), c.max_grad_norm)
        grad = grad.view(n_seeds, c.workers, -1)  # (S, W, P)
        copies = self.worker_params.matrix.view(n_seeds, c.workers, -1)
        row = torch.arange(n_seeds, device=grad.device)
        for worker in rng.permutation(c.workers).T:  # (S,): the next worker of each seed
            self.learned.optimiser.step(grad[row, worker], learning_rate)
            copies[row, worker] = self.learned.params.matrix
        return {name: metric.view(n_seeds, c.workers).mean(1) for name, metric in metrics.items()}

    def loss(self, obs: Tensor, action: Tensor, ret: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss (S * W,) of windows (S * W, T, 1), whose gradient is -d theta, and metrics."""
        c = self.config
        logp, entropy = self.worker_policy.evaluate(obs, action)
        error = ret - self.worker_value(obs).squeeze(-1)
        policy_loss = -(error.detach() * logp).flatten(1).sum(1)
        value_loss = error.square().flatten(1).sum(1)
        entropy = entropy.flatten(1).sum(1)
        loss = policy_loss - c.entropy_coef * entropy + c.value_coef * value_loss
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        return loss, {name: part.detach() / c.steps for name, part in parts.items()}

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return V (S, B) of observations (S, B, O), in units of the task's rewards."""
        return self.normaliser.reward_unit() * self.value(self.normaliser.obs(obs)).squeeze(-1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of sum_t (R_t - V) log pi at the shared parameters, the mean over the
        workers of a window (S, T, W).
        """
        batch = self.normaliser.frozen(batch)
        with torch.no_grad():
            ret = returns_to_go(batch, self.value(batch.next_obs).squeeze(-1), self.config.gamma)
            error = ret - self.value(batch.obs).squeeze(-1)
        logp, _ = self.policy.evaluate(batch.obs, batch.action)
        return gradient((error * logp).flatten(1).sum(1) / self.config.workers, self.policy)

    def state_dict(self) -> State:
        copies = self.worker_params.matrix.view(len(self.learned.params.matrix), self.config.workers, -1)
        return self.learned.state_dict() | {"workers/params": copies} | self.normaliser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.learned.load_state_dict(state)
        self.worker_params.matrix.copy_(state["workers/params"].flatten(0, 1))
        self.normaliser.load_state_dict(state)

"""A3C: asynchronous advantage actor-critic, its asynchrony a schedule drawn from the seed.

Mnih et al. 2016, "Asynchronous Methods for Deep Reinforcement Learning", arXiv 1602.01783, algorithm S3. Each
of W workers has an environment and a copy theta' of the shared parameters theta. It acts with its copy for a
window of steps and then computes, with R_t the n-step return that bootstraps at the end of the window,

    d theta = grad' sum_t [ log pi(a_t|s_t) (R_t - V(s_t)) + entropy_coef H(pi(.|s_t))
                            - value_coef (R_t - V(s_t))^2 ],

where no gradient flows through the advantages R_t - V(s_t) in the first term and R_t in the third. With
reduction = "mean", the mean over the window takes the place of the sum; with lam < 1, R_t is the lambda
return, as in A2C here. The worker applies d theta to the current theta by RMSProp with one g for all workers
(section 4), and copies theta:

    g <- decay g + (1 - decay) d theta^2
    theta <- theta + learning_rate d theta / sqrt(g + eps)

The schedule: all workers step together; after each window they apply their gradients one after another, in a
random order drawn from the seed. Between a worker's copy and its next gradient come the gradients of the
workers after it in one round and before it in the next: 0 to 2 (W - 1) gradients, W - 1 on average. With one
worker nothing is asynchronous, and reduction = "mean" makes it A2C with one environment, bit for bit.

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| asynchrony | threads in arbitrary order | the schedule above | reproducibility |
| writes | without locks, may interleave | one gradient at a time | reproducibility |
| windows | end where an episode ends | of `steps` steps, and go on in the next episode | fixed shapes |
| gradient | summed over the window | summed or averaged | comparison with A2C |
| optimiser | eps inside the root | by `rmsprop`'s convention | comparison with A2C |
| networks | policy and value share layers | two networks of tanh units | low-dimensional observations |
| initial weights | not stated | orthogonal (gains sqrt 2, 0.01, 1), or torch's | as in A2C here |
| time limit | terminal | bootstraps from the successor's value | arXiv 1712.00378 |
| continuous actions | network's variance, whole episodes | free std, windows | as in A2C here |
| normalisation | none | running moments of observations (used frozen) and rewards | VecNormalize |
"""

from copy import deepcopy
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms import a2c
from ascent.algorithms.heads import Init, Normaliser, Policy, value_network
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
    Step,
    Streams,
    Widths,
    clip_grad_norm,
    gradient,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: those of A2C here, for each of 16 workers. The same names have the same meaning."""

    workers: Count = 16  # environments per seed, each with a copy of the parameters
    steps: Count = 5  # time steps in a window ("t_max")
    learning_rate: Positive = 7e-4  # of policy and value network
    anneal: bool = False  # learning rate linear to zero over the budget
    rmsprop: Literal["tensorflow", "torch"] = "torch"  # eps inside the root, g from 1; or outside, g from 0
    rms_decay: Fraction = 0.99  # of the mean g of squared gradients
    rms_eps: Positive = 1e-5  # keeps steps finite where g is 0
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 1.0  # of the lambda return; 1: the n-step return
    reduction: Literal["sum", "mean"] = "mean"  # of the losses over the time steps of a window
    value_coef: NonNegative = 0.5  # weight of the squared error of the value
    entropy_coef: NonNegative = 0.0  # weight of the entropy bonus
    max_grad_norm: Positive = 0.5  # limit on one worker's gradient of all parameters together
    hidden: Widths = (64, 64)  # tanh units of the policy, and of the value network
    init: Init = "orthogonal"  # initial weights; or torch's default
    normalise: bool = False  # scale observations and rewards by running moments


def matched(c: a2c.Config) -> Config:
    """Return A2C's settings, with a worker for each environment: only the schedule differs from A2C."""
    settings = vars(c).copy()
    return Config(workers=settings.pop("envs"), **settings)


# PFRL's reproduction of the paper, on Atari: the same for all tasks.
PFRL = Config(
    anneal=True,
    rmsprop="tensorflow",
    rms_eps=0.1,
    reduction="sum",
    value_coef=0.25,
    entropy_coef=0.01,
    max_grad_norm=40.0,
)
# PFRL's without the bonus, and with a learning rate searched from 7e-4 to 1e-2 on CartPole-v1 with seeds
# 1000-1002. The discount for continuous actions is that of RL Baselines3 Zoo for Pendulum-v1.
SMALL = replace(PFRL, learning_rate=3e-3, entropy_coef=0.0)
PRESETS: dict[str, Config | dict[str, Config]] = {
    # As A2C's preset `parallel`, which is A2C's default `zoo` wherever that has more than one environment.
    "matched": {task: matched(c) for task, c in a2c.PARALLEL.items()},
    "pfrl": PFRL,
    "small": {"discrete": SMALL, "continuous": replace(SMALL, gamma=0.9)},
}
# Neither authors' code nor settings in CleanRL or RL Zoo exist for A3C. The default is comparable with A2C.
DEFAULTS = {"classic": "matched", "mujoco": "matched"}


def lambda_returns(batch: Batch, next_value: Tensor, gamma: float, lam: float) -> Tensor:
    """Return the lambda returns to the end of the episode, along the time axis of (S, T, E).

    With lam = 1: the discounted rewards. Where a time limit or the end of the window cuts the episode, the
    value of the true successor replaces the remaining rewards; where the episode terminated, nothing follows.
    """
    assert batch.truncated is not None
    carry = gamma * (1 - batch.terminated)
    known = batch.reward + carry * (batch.truncated + (1 - batch.truncated) * (1 - lam)) * next_value
    carry = carry * (1 - batch.truncated) * lam
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
        self.policy = Policy(streams, n_obs, c.hidden, action_space, init=c.init)
        self.value = value_network(streams, n_obs, c.hidden, init=c.init)
        rmsprop = partial(RMSProp, eps=c.rms_eps, decay=c.rms_decay, convention=c.rmsprop)
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

    def greedy_steps(self) -> list[list[Step]]:
        return [[*self.normaliser.steps(), *self.policy.greedy_steps()]]

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
            next_value = self.worker_value(windows.next_obs).squeeze(-1)
            ret = lambda_returns(windows, next_value, c.gamma, c.lam)
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
        policy_loss = -self.over_time(error.detach() * logp)
        value_loss = self.over_time(error.square())
        entropy = self.over_time(entropy)
        loss = policy_loss - c.entropy_coef * entropy + c.value_coef * value_loss
        parts = {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
        summed = c.steps if c.reduction == "sum" else 1  # metrics are means
        return loss, {name: part.detach() / summed for name, part in parts.items()}

    def over_time(self, x: Tensor) -> Tensor:
        """Return the sum or the mean (S * W,) of windows (S * W, T, 1)."""
        return x.flatten(1).sum(1) if self.config.reduction == "sum" else x.flatten(1).mean(1)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return V (S, B) of observations (S, B, O), in units of the task's rewards."""
        return self.normaliser.reward_unit() * self.value(self.normaliser.obs(obs)).squeeze(-1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of (R - V) log pi at the shared parameters, reduced over time as in
        training, the mean over the workers of a window (S, T, W).
        """
        c, batch = self.config, self.normaliser.frozen(batch)
        with torch.no_grad():
            ret = lambda_returns(batch, self.value(batch.next_obs).squeeze(-1), c.gamma, c.lam)
            error = ret - self.value(batch.obs).squeeze(-1)
        logp, _ = self.policy.evaluate(batch.obs, batch.action)
        mean = (error * logp).flatten(1).mean(1)
        return gradient(mean * c.steps if c.reduction == "sum" else mean, self.policy)

    def state_dict(self) -> State:
        copies = self.worker_params.matrix.view(len(self.learned.params.matrix), self.config.workers, -1)
        return self.learned.state_dict() | {"workers/params": copies} | self.normaliser.state_dict()

    def load_state_dict(self, state: State) -> None:
        self.learned.load_state_dict(state)
        self.worker_params.matrix.copy_(state["workers/params"].flatten(0, 1))
        self.normaliser.load_state_dict(state)

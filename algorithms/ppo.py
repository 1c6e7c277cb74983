"""PPO: proximal policy optimisation with the clipped objective.

Schulman, Wolski, Dhariwal, Radford, Klimov 2017, "Proximal Policy Optimization Algorithms", arXiv 1707.06347.
With pi the policy, V the value function and r_t the ratio pi(a_t|s_t) / pi_old(a_t|s_t):

    delta_t = reward_t + gamma V(s_t+1) - V(s_t)                                            (eq. 12)
    A_t     = delta_t + gamma lam A_t+1                                                     (eq. 11)
    L_clip  = mean min(r_t A_t, clip(r_t, 1 - clip, 1 + clip) A_t)                          (eq. 7)
    L       = L_clip - value_coef mean (V(s_t) - ret_t)^2 / 2 + entropy_coef mean H(pi)     (eq. 9)

Departures from the paper
| what | paper | here | why |
|---|---|---|---|
| advantages | as estimated | standardised by minibatch if `normalise_advantage` | openai/baselines ppo2 |
| learning rate | constant on MuJoCo | linear to zero if `anneal` | openai/baselines ppo2 |
| gradient | not limited | global norm clipped per seed | openai/baselines ppo2 |
| value loss | squared error | half of it; the larger of two if `clip_value` | openai/baselines ppo2 |
| initial weights | not stated | orthogonal, gains sqrt 2, 0.01 (policy), 1 (value) | openai/baselines ppo2 |
| time limit | not stated | the successor's value if `bootstrap_time_limit` | arXiv 1712.00378 |
| actions | not stated | clipped when executed; log densities of the sample itself | openai/baselines ppo2 |
| normalisation | not stated | running moments of observations (used frozen) and rewards | VecNormalize |

What a preset has in common with its source, and what differs: `ascent show ppo --preset cleanrl`.
"""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Activation, Init, Normaliser, Policy, clipped_steps, value_network
from ascent.algorithms.seedwise import (
    Adam,
    Batch,
    Count,
    Fraction,
    Learned,
    Moments,
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
    load_learners,
    part,
    prefixed,
    root,
    save_learners,
    standardise,
)

VERSION = 2  # raise it when a change here changes results


@dataclass(frozen=True)
class Config:
    """Defaults: the paper's table 3 for MuJoCo, with the annealing of openai/baselines ppo2."""

    envs: Count = 1  # environments per seed ("actors" in the paper)
    steps: Count = 2048  # time steps in a rollout ("horizon")
    epochs: Count = 10  # passes over a rollout
    minibatch: Count = 64  # transitions per gradient step
    learning_rate: Positive = 3e-4  # of policy and value network
    anneal: bool = True  # learning rate linear to zero
    anneal_from: Literal["start", "end"] = "start"  # the i-th of N rates is 1 - (i-1)/N or 1 - i/N
    anneal_steps: Count | None = None  # environment steps after which the rate is zero; None: the budget
    adam_eps: Positive = 1e-5  # added to the root of Adam's second moment
    gamma: Fraction = 0.99  # discount
    lam: Fraction = 0.95  # of the advantage estimator
    bootstrap_time_limit: bool = True  # the value of the state at a time limit counts; otherwise it is an end
    normalise_advantage: bool = True  # standardise advantages in each minibatch
    clip: Positive = 0.2  # of the ratio, and of the value's change if `clip_value`
    clip_value: bool = False  # take the larger value loss of V(s) and of V(s) clipped around its old value
    value_coef: NonNegative = 0.5  # weight of the value loss, which is half the squared error
    entropy_coef: NonNegative = 0.0  # weight of the entropy bonus
    max_grad_norm: Positive = 0.5  # of the gradient of policy and value network together
    hidden: Widths = (64, 64)  # units of the policy, and of the value network
    activation: Activation = "tanh"  # of hidden units; "relu" has torch's initial weights, as in RL Zoo
    log_std_init: float = 0.0  # initial log standard deviation of continuous actions
    normalise: bool = False  # scale observations and rewards by running moments
    return_scaling: bool = False  # V predicts returns over their running deviation; rewards are not scaled

    def __post_init__(self) -> None:
        if self.minibatch < 2 or (self.envs * self.steps) % self.minibatch:
            raise ValueError(f"minibatch: {self.minibatch} must be at least 2 and divide envs x steps")


# CleanRL and openai/baselines ppo2 treat a time limit as the end of an episode.
CLEANRL = Config(clip_value=True, bootstrap_time_limit=False)
SB3 = Config(anneal=False, value_coef=1.0)  # Stable-Baselines3's defaults


def zoo(*numbers: float, **others: Any) -> Config:
    """Return RL Zoo's settings for a MuJoCo task, its numbers in the order of `names`."""
    names = "steps minibatch epochs learning_rate gamma lam clip entropy_coef value_coef max_grad_norm"
    values: dict[str, Any] = dict(zip(names.split(), numbers, strict=True))
    return replace(SB3, normalise=True, **values, **others)


RELU: dict[str, Any] = {"hidden": (256, 256), "activation": "relu", "log_std_init": -2.0}
PRESETS = {
    "cleanrl": {
        "continuous": replace(CLEANRL, normalise=True),
        "discrete": replace(
            CLEANRL, envs=4, steps=128, epochs=4, minibatch=128, learning_rate=2.5e-4, entropy_coef=0.01
        ),
    },
    # The settings of Tianshou's published table. The rate falls over 1,500 updates of 64 x 32 steps.
    "tianshou": Config(
        envs=64,
        steps=32,
        anneal_steps=1_500 * 64 * 32,
        adam_eps=1e-8,
        normalise_advantage=False,
        log_std_init=-0.5,
        normalise=True,
        return_scaling=True,
    ),
    "zoo": {
        "HalfCheetah-v5": zoo(512, 64, 20, 2.0633e-5, 0.98, 0.92, 0.1, 4.01762e-4, 2 * 0.58096, 0.8, **RELU),
        "Hopper-v5": zoo(512, 32, 5, 9.80828e-5, 0.999, 0.99, 0.2, 2.29519e-3, 2 * 0.835671, 0.7, **RELU),
        "Walker2d-v5": zoo(512, 32, 20, 5.05041e-5, 0.99, 0.95, 0.1, 5.85045e-4, 2 * 0.871923, 1.0),
        "Humanoid-v5": zoo(512, 256, 5, 3.56987e-5, 0.95, 0.9, 0.3, 2.38306e-3, 2 * 0.431892, 2.0, **RELU),
        "HumanoidStandup-v5": zoo(
            512, 32, 20, 2.55673e-5, 0.99, 0.9, 0.3, 3.62109e-6, 2 * 0.430793, 0.7, **RELU
        ),
        "Swimmer-v5": replace(zoo(1024, 256, 10, 6e-4, 0.9999, 0.98, 0.2, 0.0, 2 * 0.5, 0.5), envs=4),
        "Ant-v5": zoo(2048, 64, 10, 3e-4, 0.99, 0.95, 0.2, 0.0, 2 * 0.5, 0.5),
        "InvertedPendulum-v5": zoo(32, 32, 5, 2.22425e-4, 0.999, 0.9, 0.4, 1.37976e-7, 2 * 0.19816, 0.3),
        "InvertedDoublePendulum-v5": zoo(
            128, 128, 10, 1.55454e-4, 0.98, 0.8, 0.4, 1.05057e-6, 2 * 0.695929, 0.5
        ),
        "Reacher-v5": zoo(512, 32, 5, 1.04019e-4, 0.9, 1.0, 0.3, 7.52585e-8, 2 * 0.950368, 0.9),
        "Pusher-v5": SB3,
        "CartPole-v1": replace(
            SB3,
            envs=8,
            steps=32,
            minibatch=256,
            epochs=20,
            learning_rate=1e-3,
            anneal=True,
            anneal_from="end",
            gamma=0.98,
            lam=0.8,
        ),
        "Acrobot-v1": replace(SB3, envs=16, steps=256, epochs=4, lam=0.94, normalise=True),
        "MountainCar-v0": replace(SB3, envs=16, steps=16, epochs=4, lam=0.98, normalise=True),
    },
    "small": {"discrete": Config(), "continuous": Config(envs=4, steps=512, learning_rate=1e-3, gamma=0.9)},
}
DEFAULTS = {"classic": "cleanrl", "mujoco": "cleanrl"}


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


class Agent:
    """The PPO learner: a policy and a value network, moved together on minibatches of a rollout."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Rollout(c.steps, c.envs)
        n_obs = observation_space.shape[0]
        self.normaliser = Normaliser(
            streams, n_obs, c.envs, c.gamma, c.normalise, rewards=not c.return_scaling
        )
        self.return_moments = Moments(streams, 1)  # of returns, if `return_scaling`
        init: Init = "torch" if c.activation == "relu" else "orthogonal"
        self.policy = Policy(streams, n_obs, c.hidden, action_space, c.activation, init, c.log_std_init)
        self.value = value_network(streams, n_obs, c.hidden, c.activation, init)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned = Learned("all", self.policy, self.value, optimiser=adam, optimiser_name="optimiser")
        self.updates = 0
        self.ends_at_limit = not c.bootstrap_time_limit
        self._step = captured(self.step, device)
        self.compiled = clipped_steps(
            self.learned, self.policy, self.value, c, device, standardise=c.normalise_advantage
        )

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, None]:
        return self.policy.act(self.normaliser.obs(obs), rng, explore), None

    def greedy_steps(self) -> list[list[Step]]:
        return [[*self.normaliser.steps(), *self.policy.greedy_steps()]]

    def preference(self, obs: Tensor) -> Tensor:
        """Return the logits or mean actions of greedy acting, differentiable: (S, E, O) -> (S, E, A)."""
        return self.policy.net(self.normaliser.obs(obs))

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Take `epochs` passes of clipped steps over a rollout (S, T, E)."""
        c = self.config
        self.updates += 1
        learning_rate = self.learning_rate(progress)
        batch = self.normaliser.batch(batch)
        with torch.no_grad():
            advantage, value = self.estimates(batch)
            old_logp, _ = self.policy.evaluate(batch.obs, batch.action)
            ret, scale = advantage + value, self.return_scale()
            if c.return_scaling:
                self.return_moments.update(ret[..., None])
        transitions = (batch.obs, batch.action, old_logp, advantage, ret / scale, value / scale)
        columns = [x.flatten(1, 2) for x in transitions]  # (S, T * E, ...)
        names = ("policy_loss", "value_loss", "entropy", "approx_kl", "clip_fraction", "grad_norm")
        if self.compiled:
            order = torch.cat([rng.permutation(columns[0].shape[1]) for _ in range(c.epochs)], 1)
            obs, *others = columns
            means = self.compiled(learning_rate, obs, obs, *others, order=order, size=c.minibatch)
            return dict(zip(names, means.T, strict=True))
        sums: Tensor | None = None
        for _ in range(c.epochs):
            for minibatch in rng.minibatches(columns, c.minibatch):
                metrics = self._step(learning_rate, *minibatch)
                sums = metrics.clone() if sums is None else sums + metrics
        assert sums is not None
        means = sums / (c.epochs * (columns[0].shape[1] // c.minibatch))
        return dict(zip(names, means.T, strict=True))

    def estimates(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return the advantages and values of a window (S, T, E), in the units of its rewards."""
        c, scale = self.config, self.return_scale()
        if self.ends_at_limit:
            assert batch.truncated is not None
            batch = replace(batch, terminated=torch.maximum(batch.terminated, batch.truncated))
        value = scale * self.value(batch.obs).squeeze(-1)
        next_value = scale * self.value(batch.next_obs).squeeze(-1)
        return advantages(batch, value, next_value, c.gamma, c.lam), value

    def learning_rate(self, progress: float) -> float:
        """Return the learning rate of the present update."""
        c = self.config
        if not c.anneal:
            return c.learning_rate
        if c.anneal_steps is not None:
            progress = self.updates * c.steps * c.envs / c.anneal_steps
        if c.anneal_from == "start":
            progress *= (self.updates - 1) / self.updates
        return c.learning_rate * max(1 - progress, 0.0)

    def return_scale(self) -> Tensor:
        """Return the unit in which V predicts, (S, 1, 1)."""
        if not self.config.return_scaling:
            return torch.ones_like(self.return_moments.var[..., None]).float()
        return root(self.return_moments.var + 1e-8).float()[..., None]

    def step(self, learning_rate: float | Tensor, *minibatch: Tensor) -> Tensor:
        """Take one step of the optimiser and return the metrics (S, 6) that `update` averages."""
        loss, parts = self.loss(*minibatch)
        grad, norm = clip_grad_norm(self.learned.params.grad(loss), self.config.max_grad_norm)
        self.learned.optimiser.step(grad, learning_rate)
        return torch.stack([*parts, norm], 1)

    def loss(
        self,
        obs: Tensor,
        action: Tensor,
        old_logp: Tensor,
        advantage: Tensor,
        ret: Tensor,
        old_value: Tensor,
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the negative of equation 9 on a minibatch (S, B), a loss (S,), and metrics."""
        c = self.config
        logp, entropy = self.policy.evaluate(obs, action)
        log_ratio = logp - old_logp
        ratio = log_ratio.exp()
        if c.normalise_advantage:
            advantage = standardise(advantage)
        clipped = ratio.clamp(1 - c.clip, 1 + c.clip)
        policy_loss = -torch.min(ratio * advantage, clipped * advantage).mean(1)  # eq. 7
        value = self.value(obs).squeeze(-1)
        square = (value - ret).square()
        if c.clip_value:
            near = old_value + (value - old_value).clamp(-c.clip, c.clip)
            square = torch.max(square, (near - ret).square())
        value_loss = 0.5 * square.mean(1)
        entropy = entropy.mean(1)
        loss = policy_loss + c.value_coef * value_loss - c.entropy_coef * entropy
        with torch.no_grad():
            approx_kl = (ratio - 1 - log_ratio).mean(1)  # unbiased and never negative
            clip_fraction = (ratio != clipped).float().mean(1)
        return loss, (policy_loss.detach(), value_loss.detach(), entropy.detach(), approx_kl, clip_fraction)

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return V (S, B) of observations (S, B, O), in units of the task's rewards."""
        unit = self.normaliser.reward_unit() * self.return_scale()[..., 0]
        return unit * self.value(self.normaliser.obs(obs)).squeeze(-1)

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of equation 7 at pi = pi_old; the minibatch is a window (S, T, E)."""
        batch = self.normaliser.frozen(batch)
        with torch.no_grad():
            advantage, _ = self.estimates(batch)
            if self.config.normalise_advantage:
                advantage = standardise(advantage)
        logp, _ = self.policy.evaluate(batch.obs, batch.action)
        return gradient((advantage * logp).flatten(1).mean(1), self.policy)

    def state_dict(self) -> State:
        state = save_learners([self.learned], self.updates) | self.normaliser.state_dict()
        if self.config.return_scaling:
            state |= prefixed("return_scale", self.return_moments.state_dict())
        return state

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners([self.learned], state)
        self.normaliser.load_state_dict(state)
        if self.config.return_scaling:
            self.return_moments.load_state_dict(part("return_scale", state))

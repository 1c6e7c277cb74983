"""RPC: robust predictable control, an actor that pays for what it learns from observations.

Eysenbach, Salakhutdinov, Levine 2021, "Robust Predictable Control", arXiv 2109.03214, algorithm 1. An encoder
phi(z|s) tells the policy pi(a|z) about the state, a model m(z'|z, a) predicts what it will tell next, and
only what the model did not know costs:

    cost     = KL(phi(.|s') || m(.|z, a)),  z ~ phi(.|s)
    r~       = scale (reward - lambda cost)                                                   (eq. 4)
    y        = r~ + gamma (min_i Q_i'(s', a') - alpha log pi(a'|z')),  z' ~ phi(.|s'), a' ~ pi(.|z')
    L(Q)     = sum_i 1/2 mean (y - Q_i(s, a))^2
    L(actor) = mean (alpha log pi(a'|z') - min_i Q_i(s', a') + lambda cost)                   (eq. 5)
    L(lambda) = -log lambda (mean cost - rate)
    L(alpha) = mean -log alpha (log pi(a'|z') + target entropy)

and no Q' where s' is terminal. One optimiser moves encoder, model and policy down L(actor); z in the cost has
no gradient, so that phi is not bent to be a good basis for prediction. The critics see the raw state: they
serve training alone. As z is all that reaches the policy, an agent whose observations are missing acts by
z = mean m(.|z, a) instead.

Baselines (section 6 of the paper) are presets: with the fixed prior N(0, 1) in place of m this is the
variational information bottleneck, its cost in the actor's loss alone (`vib`, Igl et al. 2019, arXiv
1910.12911) or in the reward too (`vib_reward`, Lu et al. 2020, arXiv 2008.00614).

Departures from the paper, and from the authors' code (github.com/google-research/google-research, rpc/)
| what | paper | their code | here |
|---|---|---|---|
| unit of the cost | bits | nats | preset `paper` bits, others nats |
| constraint | discounted, per episode | mean over a replayed batch, per step | as the code |
| entropy of actions | none in eq. 5 | alpha tuned to -|A|/2 | as the code |
| reward scale | not said | 0.1, of r~ but not of lambda cost in L(actor) | `paper` 1, others as the code |
| hidden layers of m | two | one: a layer listed twice is one | `paper` two, others one |
| size of z | 50 (figures) | 10 | `paper` 50, others 10 |
| first lambda | not said | 1e-6 (1 with its LSTM) | `paper` 1, `classic` see there, others 1e-6 |
| L(Q) | 1/2 of the squared error | the whole square | the paper |
| samples of z, a | | new ones for each loss | the cost's, and L(alpha)'s, are L(actor)'s |
| log deviation of pi | | not limited | clipped to [-20, 2], as SAC |
| initial weights | | Glorot | torch's default; m's last layer zero, as the code |
| evaluation | | mode of pi, z sampled | the same |
"""

import copy
from dataclasses import dataclass
from math import expm1, log, pi

import torch
from gymnasium import spaces
from torch import Tensor

from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Initialiser,
    Parameters,
    Positive,
    Replay,
    Streams,
    Vector,
    Widths,
    captured,
    learner_state,
    load_learner_state,
    move_target,
    orthogonal,
    softplus,
    tanh,
    uniform_fan_in,
)

VERSION = 1  # raise it when a change here changes results

LARGEST_MEAN, STD_BETWEEN = 30.0, (0.1, 10.0)  # of z
LARGEST_LOG_LAMBDA = log(1e6)


@dataclass(frozen=True)
class Config:
    """Defaults: the authors' code, as it computes."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 10_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    learning_rate: Positive = 3e-4  # of actor, critics, temperature and lambda
    adam_eps: Positive = 1e-8
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # part of the online critics that goes into their targets
    alpha: Positive = 1.0  # first temperature
    target_entropy: float = -0.5  # per action dimension; tuning holds the policy's entropy there
    reward_scale: Positive = 0.1
    rate: Positive = 0.3  # cost per step that lambda holds; their README's
    bits: bool = False  # rate and cost in bits; else in nats
    first_lambda: Positive = 1e-6
    cost_in_reward: bool = True  # else in the actor's loss alone
    learned_prior: bool = True  # m; else N(0, 1)
    latent: Count = 10  # size of z
    hidden: Widths = (256, 256)  # ReLU units of encoder and critics; the policy is linear in z
    model_hidden: Widths = (256,)  # of m


PRESETS = {
    "mujoco": Config(),
    "released_code": Config(),
    "paper": Config(bits=True, reward_scale=1.0, first_lambda=1.0, latent=50, model_hidden=(256, 256)),
    "vib": Config(learned_prior=False, cost_in_reward=False),
    "vib_reward": Config(learned_prior=False),
    # Small networks and larger steps, as SAC's; at 1e-3 a step lambda must not begin far away.
    "classic": Config(
        capacity=100_000,
        batch=128,
        learning_starts=1_000,
        learning_rate=1e-3,
        first_lambda=1e-3,
        hidden=(64, 64),
        model_hidden=(64,),
    ),
}

Gaussian = tuple[Tensor, Tensor]  # mean and deviation of independent numbers, (S, B, Z) each


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) of two diagonal Gaussians, in nats, summed over the last axis: (S, B)."""
    (m, d), (n, e) = p, q
    return ((e / d).log() + (d.square() + (m - n).square()) / (2 * e.square()) - 0.5).sum(-1)


def within(x: Tensor, low: float, high: float) -> Tensor:
    """Squashed smoothly into (low, high), which has 0 in it, with slope 1 at 0."""
    return torch.where(x < 0, -low * tanh(x / -low), high * tanh(x / high))


class Latent:
    """A network whose output is a Gaussian of z: (S, B, in) -> mean and deviation, (S, B, Z)."""

    SPREAD = tuple(log(expm1(std)) for std in STD_BETWEEN)  # softplus makes it STD_BETWEEN

    def __init__(self, streams: Streams, sizes: tuple[int, ...], last: Initialiser):
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last])

    def __call__(self, x: Tensor) -> Gaussian:
        mean, spread = self.net(x).chunk(2, -1)
        return within(mean, -LARGEST_MEAN, LARGEST_MEAN), softplus(within(spread, *self.SPREAD))


class SquashedGaussian:
    """A Gaussian u for each state, squashed to actions tanh(u) in [-1, 1]."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...]):
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 1))

    def greedy(self, obs: Tensor) -> Tensor:
        """tanh of the mean: (S, B, O) -> (S, B, A)."""
        return tanh(self.net(obs).chunk(2, -1)[0])

    def sample(self, obs: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """An action (S, B, A) made from standard normal numbers (S, B, A), and its log density (S, B)."""
        mean, log_std = self.net(obs).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        log_normal = -0.5 * noise * noise - log_std - 0.5 * log(2 * pi)
        # log(1 - tanh(u)^2) without the cancellation that a logarithm of 1 - a^2 + 1e-6 has from |u| = 5 on
        log_slope = 2 * (log(2) - u - softplus(-2 * u))
        return tanh(u), (log_normal - log_slope).sum(-1)


class Critic:
    """Q(s, a) of n networks: (S, B, O), (S, B, A) -> (S, n, B). A test holds the copies of it equal."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...], last: Initialiser, n: int):
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last], n)
        self.n = n

    def __call__(self, obs: Tensor, action: Tensor) -> Tensor:
        x = torch.cat([obs, action], -1).repeat_interleave(self.n, 0)  # (S * n, B, O + A)
        return self.net(x).view(len(obs), self.n, -1)

    def constant(self, n: int) -> "Critic":
        """The first of them (n is 1) or all, in the same memory; no gradient goes into their parameters."""
        critic = copy.copy(self)
        critic.net, critic.n = self.net.constant(every=self.n // n), n
        return critic


class Agent:
    def __init__(
        self,
        config: Config,
        observation_space: spaces.Box,
        action_space: spaces.Space,
        streams: Streams,
        device: str,
    ):
        if not isinstance(action_space, spaces.Box) or not action_space.is_bounded():
            raise ValueError("rpc needs a continuous action space with bounds")
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        self.predicts = c.learned_prior  # acts without an observation: by its model, from the last z and a
        low, high = torch.tensor(action_space.low), torch.tensor(action_space.high)
        self.mid, self.half = ((high + low) / 2).to(device), ((high - low) / 2).to(device)  # (A,)
        n_obs, n = observation_space.shape[0], len(low)
        self.n_actions = n
        self.encoder = Latent(streams, (n_obs, *c.hidden, 2 * c.latent), uniform_fan_in)
        self.policy = SquashedGaussian(streams, (c.latent, 2 * n))
        nets = [self.encoder.net, self.policy.net]
        if c.learned_prior:
            self.model = Latent(streams, (c.latent + n, *c.model_hidden, 2 * c.latent), orthogonal(0.0))
            nets.append(self.model.net)
        self.q = Critic(streams, (n_obs + n, *c.hidden, 1), uniform_fan_in, 2)
        self.target_q = copy.deepcopy(self.q)
        self.actor_params, self.q_params = Parameters(*nets), Parameters(self.q.net, copies=2)
        self.q_target = Parameters(self.target_q.net, copies=2)
        self.constant_q = self.q.constant(2)
        self.log_alpha, self.log_lambda = (Vector(streams, 1, log(x)) for x in (c.alpha, c.first_lambda))
        self.alpha_params, self.lambda_params = Parameters(self.log_alpha), Parameters(self.log_lambda)
        params = {
            "actor": self.actor_params,
            "q": self.q_params,
            "alpha": self.alpha_params,
            "lambda": self.lambda_params,
        }
        self.learned = {name: (own, Adam(own, c.adam_eps)) for name, own in params.items()}
        self.targets = {"q": self.q_target}
        self.updates = 0
        self._latent = captured(self.latent, device)
        self._greedy = captured(self.policy.greedy, device)
        self._sample = captured(self.policy.sample, device)
        self._learn = captured(self.learn, device)

    def prior(self, z: Tensor, action: Tensor) -> Gaussian:
        """What is expected of the next z, given actions in [-1, 1]: m, around z, or N(0, 1)."""
        if not self.config.learned_prior:
            return torch.zeros_like(z), torch.ones_like(z)
        change, std = self.model(torch.cat([z, action], -1))
        return z + change, std

    def latent(self, obs: Tensor, noise: Tensor, before: Tensor) -> Tensor:
        """z (S, E, Z): a sample of phi; where the observation is missing, NaN, the mean of m after `before`,
        the last z and action (S, E, Z + A)."""
        mean, std = self.encoder(obs)
        if not self.predicts:
            return mean + std * noise
        expected, _ = self.prior(*before.split([self.config.latent, self.n_actions], -1))
        return torch.where(obs.isnan().any(-1, keepdim=True), expected, mean + std * noise)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`carry` is the last z and action, the action in [-1, 1]: (S, E, Z + A)."""
        c, (n_seeds, envs, _) = self.config, obs.shape
        if carry is None:
            carry = obs.new_zeros(n_seeds, envs, c.latent + self.n_actions)
        z = self._latent(obs, rng.normal(envs, c.latent), carry)
        if not explore:
            action = self._greedy(z)
        elif self.updates:
            action, _ = self._sample(z, rng.normal(envs, self.n_actions))
        else:  # it knows nothing yet
            action = 2 * rng.uniform(envs, self.n_actions).float() - 1
        return self.mid + self.half * action, torch.cat([z, action], -1)

    def preference(self, obs: Tensor) -> Tensor:
        """(S, E, O) -> (S, E, A): what greedy acting follows, before tanh, at the mean z, differentiable."""
        return self.policy.net(self.encoder(obs)[0]).chunk(2, -1)[0]

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        n = batch.reward.shape[1]
        self.updates += 1
        noise = [rng.normal(n, self.config.latent) for _ in range(3)]
        return self._learn(batch, *noise, *(rng.normal(n, self.n_actions) for _ in range(2)))

    def learn(
        self,
        batch: Batch,
        z_noise: Tensor,
        next_z_noise: Tensor,
        target_z_noise: Tensor,
        noise: Tensor,
        target_noise: Tensor,
    ) -> dict[str, Tensor]:
        """One step of all, with standard normal numbers (S, B, Z) for z, (S, B, A) for actions."""
        c, action = self.config, (batch.action - self.mid) / self.half
        unit = log(2) if c.bits else 1.0
        alpha = self.log_alpha.value.detach().exp()  # (S, 1)
        with torch.no_grad():
            mean, std = self.encoder(batch.obs)
            z = mean + std * z_noise
        mean, std = there = self.encoder(batch.next_obs)
        cost = kl(there, self.prior(z, action)) / unit  # (S, B)
        told = cost.detach()

        gap = told.mean(1) - c.rate
        self._step("lambda", -self.log_lambda.value.squeeze(1) * gap)
        with torch.no_grad():
            self.lambda_params.matrix.clamp_(-LARGEST_LOG_LAMBDA, LARGEST_LOG_LAMBDA)
        price = self.log_lambda.value.detach().exp()  # (S, 1)

        with torch.no_grad():
            reward = c.reward_scale * (batch.reward - (price * told if c.cost_in_reward else 0.0))
            target_z = mean + std * target_z_noise
            next_action, next_logp = self.policy.sample(target_z, target_noise)
            next_value = self.target_q(batch.next_obs, next_action).amin(1) - alpha * next_logp
            y = reward + c.gamma * (1 - batch.terminated) * next_value  # (S, B)
        q = self.q(batch.obs, action)  # (S, 2, B)
        q_loss = 0.5 * (q - y[:, None]).square().mean(-1).sum(-1)
        self._step("q", q_loss)

        new_action, logp = self.policy.sample(mean + std * next_z_noise, noise)
        value = self.constant_q(batch.next_obs, new_action).amin(1)
        actor_loss = (alpha * logp - value + price * cost).mean(1)
        self._step("actor", actor_loss)

        logp = logp.detach()
        gap = (logp + c.target_entropy * self.n_actions).mean(1)  # target entropy minus entropy
        self._step("alpha", -self.log_alpha.value.squeeze(1) * gap)
        move_target(self.q_target, self.q_params, c.tau)
        metrics = {
            "q_loss": q_loss.detach(),
            "actor_loss": actor_loss.detach(),
            "q": q.detach().mean((1, 2)),
            "cost": told.mean(1),
            "lambda": price.squeeze(1),
        }
        return {**metrics, "entropy": -logp.mean(1), "alpha": alpha.squeeze(1)}

    def _step(self, name: str, loss: Tensor) -> None:
        """Move the parameters of that name down the loss (S,)."""
        params, optimiser = self.learned[name]
        optimiser.step(params.grad(loss), self.config.learning_rate)

    def state_dict(self) -> dict[str, Tensor]:
        return learner_state(self.learned, self.targets, self.updates)

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.updates = load_learner_state(self.learned, self.targets, state)

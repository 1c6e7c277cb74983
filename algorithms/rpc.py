"""RPC: robust predictable control, an actor that pays for the information in its observations.

Eysenbach, Salakhutdinov, Levine 2021, "Robust Predictable Control", arXiv 2109.03214, algorithm 1. An encoder
phi(z|s) compresses the state for the policy pi(a|z), a model m(z'|z, a) predicts the next z, and only the
information that the model did not predict has a cost:

    cost     = KL(phi(.|s') || m(.|z, a)),  z ~ phi(.|s)
    r~       = scale (reward - lambda cost)                                                   (eq. 4)
    y        = r~ + gamma (min_i Q_i'(s', a') - alpha log pi(a'|z')),  z' ~ phi(.|s'), a' ~ pi(.|z')
    L(Q)     = sum_i 1/2 mean (y - Q_i(s, a))^2
    L(actor) = mean (alpha log pi(a'|z') - min_i Q_i(s', a') + lambda cost)                   (eq. 5)
    L(lambda) = -log lambda (mean cost - rate)
    L(alpha) = mean -log alpha (log pi(a'|z') + target entropy)

and y = r~ where s' is terminal. One optimiser moves encoder, model and policy down L(actor). In the cost, z
has no gradient, so that phi is not shaped to make prediction easy. The critics see the raw state, since only
training uses them. The policy sees z alone, so an agent without observations acts by z = mean m(.|z, a).

The controls are presets. With the fixed prior N(0, 1) instead of m, this is the variational information
bottleneck, with its cost in the actor's loss only (`vib`, Igl et al. 2019, arXiv 1910.12911) or also in the
reward (`vib_reward`, Lu et al. 2020, arXiv 2008.00614). `latent_space` learns m, but its rate never binds and
lambda stays at 1e-6. `no_bottleneck` has no cost, lambda or m: SAC with RPC's networks and noise in z.

Departures from the paper, and from the authors' code (github.com/google-research/google-research, rpc/, which
derives from SAC of tf_agents 0.7.1)
| what | paper | their code | here |
|---|---|---|---|
| unit of the cost | bits | nats | bits in preset `paper`, otherwise nats |
| constraint | discounted, per episode | mean over a replayed batch, per step | as in the code |
| entropy of actions | none in eq. 5 | alpha tuned to -|A|/2 | as in the code |
| reward scale | not stated | 0.1, for r~ but not in L(actor) | 1 in `paper`, otherwise as in the code |
| hidden layers of m | two | one, as the same layer is listed twice | two in `paper`, otherwise one |
| size of z | 50 (figures) | 10 | 50 in `paper`, otherwise 10 |
| initial lambda | not stated | 1e-6 (1 with its LSTM) | 1 in `paper`, 1e-3 in `small`, otherwise 1e-6 |
| L(alpha) | none | at s, after the actor's step | at s', with the a' of L(actor) |
| samples of z | | one for L(lambda) and r~, another for L(actor) | one for all three |
| units of actions in m, Q, log pi | | the environment's | [-1, 1]; the same if these are the bounds |
| log standard deviation of pi | | not limited | clipped to [-20, 2], as in SAC |
| initial weights | | Glorot, biases 0 | torch's default; last layer of m zero, as in the code |
| evaluation | | mode of pi, z sampled | the same |
"""

import copy
from dataclasses import dataclass
from functools import partial
from math import expm1, log, pi

import torch
from gymnasium.spaces import Box, Space
from torch import Tensor

from ascent.algorithms.heads import Bounds, Critic
from ascent.algorithms.seedwise import (
    MLP,
    Adam,
    Batch,
    Count,
    Fraction,
    Initialiser,
    Learned,
    Positive,
    Replay,
    State,
    Step,
    Streams,
    Vector,
    Widths,
    captured,
    exp,
    load_learners,
    logarithm,
    network,
    orthogonal,
    save_learners,
    softplus,
    squash,
    tanh,
    uniform_fan_in,
)

VERSION = 1  # raise it when a change here changes results

LARGEST_MEAN, STD_BETWEEN = 30.0, (0.1, 10.0)  # of z
LARGEST_LOG_LAMBDA = log(1e6)


@dataclass(frozen=True)
class Config:
    """Defaults: what the authors' code computes with the settings in its README."""

    envs: Count = 1  # environments per seed
    capacity: Count = 1_000_000  # transitions kept per seed
    batch: Count = 256  # transitions per update
    learning_starts: Count = 10_000  # environment steps, with uniform actions, before the first update
    train_every: Count = 1  # environment steps between updates
    updates: Count = 1  # updates each time
    learning_rate: Positive = 3e-4  # of actor, critics, temperature and lambda
    adam_eps: Positive = 1e-8  # epsilon of Adam
    gamma: Fraction = 0.99  # discount
    tau: Fraction = 0.005  # fraction of the online critics that goes into their targets
    alpha: Positive = 1.0  # initial temperature
    target_entropy_per_dim: float = -0.5  # target entropy of the policy, for each action dimension
    reward_scale: Positive = 0.1  # factor of r~, not of the cost in the actor's loss
    bottleneck: bool = True  # information has a price; otherwise there are no cost, lambda and model
    rate: Positive = 0.3  # cost per step that lambda enforces
    bits: bool = False  # rate and cost in bits; otherwise in nats
    first_lambda: Positive = 1e-6  # initial lambda
    cost_in_reward: bool = True  # otherwise in the actor's loss only
    learned_prior: bool = True  # the model m; otherwise N(0, 1)
    latent: Count = 10  # size of z
    hidden: Widths = (256, 256)  # ReLU units of the encoder, and of each critic; the policy is linear in z
    model_hidden: Widths = (256,)  # ReLU units of m


PRESETS = {
    "code": Config(),
    "paper": Config(bits=True, reward_scale=1.0, first_lambda=1.0, latent=50, model_hidden=(256, 256)),
    "no_bottleneck": Config(bottleneck=False),
    "latent_space": Config(rate=100_000.0, cost_in_reward=False),
    "vib": Config(learned_prior=False, cost_in_reward=False),
    "vib_reward": Config(learned_prior=False),
    # For quick runs, not searched: as SAC's `small`. Lambda starts higher, as log lambda moves by at most
    # about the learning rate per update, and quick runs have few updates.
    "small": Config(
        capacity=100_000, batch=128, learning_starts=1_000, learning_rate=1e-3, first_lambda=1e-3,
        hidden=(64, 64), model_hidden=(64,),
    ),
}  # fmt: skip
# The authors' code. It has no settings for classic control, and neither CleanRL nor RL Zoo has RPC.
DEFAULTS = {"classic": "code", "mujoco": "code"}

Gaussian = tuple[Tensor, Tensor]  # mean and standard deviation of independent numbers, (S, B, Z) each


def kl(p: Gaussian, q: Gaussian) -> Tensor:
    """Return KL(p || q) of two diagonal Gaussians, in nats, summed over the last axis: (S, B)."""
    (m, d), (n, e) = p, q
    return (logarithm(e / d) + (d.square() + (m - n).square()) / (2 * e.square()) - 0.5).sum(-1)


def within(x: Tensor, low: float, high: float) -> Tensor:
    """Squash x smoothly into (low, high), an interval that contains 0, with slope 1 at 0."""
    return torch.where(x < 0, -low * tanh(x / -low), high * tanh(x / high))


class Latent:
    """A network whose output is a Gaussian of z: (S, B, in) -> mean and standard deviation, (S, B, Z)."""

    # softplus maps this interval to STD_BETWEEN
    LOW, HIGH = (log(expm1(std)) for std in STD_BETWEEN)

    def __init__(self, streams: Streams, sizes: tuple[int, ...], last: Initialiser) -> None:
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 2) + [last])

    def __call__(self, x: Tensor) -> Gaussian:
        mean, spread = self.net(x).chunk(2, -1)
        return within(mean, -LARGEST_MEAN, LARGEST_MEAN), softplus(within(spread, self.LOW, self.HIGH))


def squashed(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return a = tanh(u) for u = mean + std * noise, all (S, B, A), and log pi(a) (S, B) (appendix C)."""
    u = mean + exp(log_std) * noise
    log_normal = -0.5 * noise * noise - log_std - 0.5 * log(2 * pi)
    # log(1 - tanh(u)^2), without log(1 - a^2 + 1e-6), which loses precision for |u| > 5
    log_slope = 2 * (log(2) - u - softplus(-2 * u))
    return tanh(u), (log_normal - log_slope).sum(-1)


class SquashedGaussian:
    """A Gaussian u for each state, squashed to actions tanh(u) in [-1, 1]."""

    def __init__(self, streams: Streams, sizes: tuple[int, ...]) -> None:
        self.net = MLP(streams, sizes, torch.relu_, [uniform_fan_in] * (len(sizes) - 1))

    def greedy(self, z: Tensor) -> Tensor:
        """Return tanh of the mean: (S, B, Z) -> (S, B, A)."""
        return tanh(self.net(z).chunk(2, -1)[0])

    def sample(self, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return an action, made from standard normal noise, both (S, B, A), and its log density (S, B)."""
        mean, log_std = self.net(z).chunk(2, -1)
        return squashed(mean, log_std.clamp(-20, 2), noise)


class Agent:
    """The RPC learner: encoder, model and policy (the actor), two critics, temperature and lambda."""

    def __init__(
        self, config: Config, observation_space: Box, action_space: Space, streams: Streams, device: str
    ) -> None:
        c = self.config = config
        self.experience = Replay(c.envs, c.capacity, c.batch, c.learning_starts, c.train_every, c.updates)
        self.predicts = c.bottleneck and c.learned_prior  # can act without an observation, by the model
        self.bounds = Bounds(action_space, "rpc", device)
        n_obs, n_actions = observation_space.shape[0], self.bounds.size
        self.encoder = Latent(streams, (n_obs, *c.hidden, 2 * c.latent), uniform_fan_in)
        self.policy = SquashedGaussian(streams, (c.latent, 2 * n_actions))
        actor = [self.encoder.net, self.policy.net]
        if self.predicts:
            sizes = (c.latent + n_actions, *c.model_hidden, 2 * c.latent)
            self.model = Latent(streams, sizes, orthogonal(0.0))
            actor.append(self.model.net)
        self.q = Critic(streams, (n_obs + n_actions, *c.hidden, 1), n=2)
        self.target_q = copy.deepcopy(self.q)  # before Learned, which makes parameters views of a matrix
        self.log_alpha = Vector(streams, 1, log(c.alpha))  # value (S, 1)
        adam = partial(Adam, eps=c.adam_eps)
        self.learned_actor = Learned("actor", *actor, optimiser=adam)
        self.learned_q = Learned("q", self.q, optimiser=adam, target=self.target_q, copies=2)
        self.learned_alpha = Learned("alpha", self.log_alpha, optimiser=adam)
        self.learners = [self.learned_actor, self.learned_q, self.learned_alpha]
        if c.bottleneck:
            self.log_lambda = Vector(streams, 1, log(c.first_lambda))
            self.learned_lambda = Learned("lambda", self.log_lambda, optimiser=adam)
            self.learners.append(self.learned_lambda)
        self.constant_q = self.q.constant(2)  # after Learned: a view; saves the critics' weight gradients
        self.updates = 0
        self._latent = captured(self.latent, device)  # on a GPU a CUDA graph, on a CPU the function
        self._greedy = captured(self.policy.greedy, device)
        self._sample = captured(self.policy.sample, device)
        self._learn = captured(self.learn, device)

    def prior(self, z: Tensor, action: Tensor) -> Gaussian:
        """Return the predicted distribution of the next z: N(0, 1), or m, which predicts the change of z.

        Actions are in [-1, 1].
        """
        if not self.config.learned_prior:
            return torch.zeros_like(z), torch.ones_like(z)
        change, std = self.model(torch.cat([z, action], -1))
        return z + change, std

    def latent(self, obs: Tensor, noise: Tensor, carry: Tensor) -> Tensor:
        """Return z (S, E, Z): a sample of phi, or the mean of m where the observation is missing (NaN).

        `carry` is the last z and action, (S, E, Z + A).
        """
        mean, std = self.encoder(obs)
        if not self.predicts:
            return mean + std * noise
        predicted, _ = self.prior(*carry.split([self.config.latent, self.bounds.size], -1))
        return torch.where(obs.isnan().any(-1, keepdim=True), predicted, mean + std * noise)

    @torch.inference_mode()
    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """`carry` is the last z and action, the action in [-1, 1]: (S, E, Z + A)."""
        c, (n_seeds, envs, _), n_actions = self.config, obs.shape, self.bounds.size
        if carry is None:
            carry = obs.new_zeros(n_seeds, envs, c.latent + n_actions)
        z = self._latent(obs, rng.normal(envs, c.latent), carry)
        if not explore:
            action = self._greedy(z)
        elif self.updates:
            action, _ = self._sample(z, rng.normal(envs, n_actions))
        else:  # uniform before the first update
            action = 2 * rng.uniform(envs, n_actions).float() - 1
        return self.bounds.scale(action), torch.cat([z, action], -1)

    def preference(self, obs: Tensor) -> Tensor:
        """Return the Gaussian's mean at the mean z, the greedy action before tanh, differentiable."""
        return self.policy.net(self.encoder(obs)[0]).chunk(2, -1)[0]  # (S, E, O) -> (S, E, A)

    def greedy_steps(self) -> list[list[Step]]:
        """With the mean z at every step; `act` samples z."""
        z = [*network(self.encoder.net), Step("first", {"n": self.config.latent}), squash(LARGEST_MEAN)]
        mean = [*network(self.policy.net), Step("first", {"n": self.bounds.size})]
        return [[*z, *mean, squash(), self.bounds.step()]]

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        n = batch.reward.shape[1]
        self.updates += 1
        noise = [rng.normal(n, self.config.latent) for _ in range(3)]
        return self._learn(batch, *noise, *(rng.normal(n, self.bounds.size) for _ in range(2)))

    def learn(
        self,
        batch: Batch,
        z_noise: Tensor,
        next_z_noise: Tensor,
        target_z_noise: Tensor,
        noise: Tensor,
        target_noise: Tensor,
    ) -> dict[str, Tensor]:
        """Move all parameters one step, with standard normal noise for z (S, B, Z) and actions (S, B, A)."""
        c = self.config
        action = self.bounds.normalise(batch.action)  # replay stores environment actions
        alpha = exp(self.log_alpha.value.detach())  # (S, 1)
        mean, std = self.encoder(batch.next_obs)
        paid, spent = torch.zeros_like(batch.reward), {}  # lambda cost, (S, B), and its metrics
        if c.bottleneck:
            cost = self.cost(batch.obs, action, (mean, std), z_noise)
            price = self.price(cost.detach())
            paid, spent = price * cost, {"cost": cost.mean(1), "lambda": price.squeeze(1)}

        with torch.no_grad():
            reward = c.reward_scale * (batch.reward - (paid if c.cost_in_reward else 0.0))
            target_z = mean + std * target_z_noise
            next_action, next_logp = self.policy.sample(target_z, target_noise)
            next_value = self.target_q(batch.next_obs, next_action).amin(1) - alpha * next_logp
            y = reward + c.gamma * (1 - batch.terminated) * next_value  # (S, B)
        q = self.q(batch.obs, action)  # (S, 2, B)
        q_loss = 0.5 * (q - y[:, None]).square().mean(-1).sum(-1)
        self.learned_q.descend(q_loss, c.learning_rate)

        new_action, logp = self.policy.sample(mean + std * next_z_noise, noise)
        value = self.constant_q(batch.next_obs, new_action).amin(1)
        actor_loss = (alpha * logp - value + paid).mean(1)
        self.learned_actor.descend(actor_loss, c.learning_rate)

        logp = logp.detach()
        gap = (logp + c.target_entropy_per_dim * self.bounds.size).mean(1)  # target entropy minus entropy
        self.learned_alpha.descend(-self.log_alpha.value.squeeze(1) * gap, c.learning_rate)
        self.learned_q.follow(c.tau)
        metrics = {"q_loss": q_loss, "actor_loss": actor_loss, "q": q.mean((1, 2)), **spent}
        metrics |= {"entropy": -logp.mean(1), "alpha": alpha.squeeze(1)}
        return {name: metric.detach() for name, metric in metrics.items()}

    def cost(self, obs: Tensor, action: Tensor, next_z: Gaussian, noise: Tensor) -> Tensor:
        """Return the cost of each step, (S, B); the noise is for z."""
        with torch.no_grad():
            mean, std = self.encoder(obs)
            z = mean + std * noise
        return kl(next_z, self.prior(z, action)) / (log(2) if self.config.bits else 1.0)

    def price(self, cost: Tensor) -> Tensor:
        """Move lambda one step for the costs (S, B), and return it, (S, 1)."""
        c = self.config
        gap = cost.mean(1) - c.rate
        self.learned_lambda.descend(-self.log_lambda.value.squeeze(1) * gap, c.learning_rate)
        with torch.no_grad():
            self.learned_lambda.params.matrix.clamp_(-LARGEST_LOG_LAMBDA, LARGEST_LOG_LAMBDA)
        return exp(self.log_lambda.value.detach())

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor:
        """Return the smaller Q (S, B), which includes the cost and the entropy of later actions."""
        return self.q(obs, self.bounds.normalise(action)).amin(1) / self.config.reward_scale

    def value_reward(self, batch: Batch, rng: Streams) -> Tensor:
        """Return r~ and the entropy bonus of a next action (S, B), both over the reward scale."""
        c, n = self.config, batch.reward.shape[1]
        mean, std = self.encoder(batch.next_obs)
        reward = batch.reward
        if c.bottleneck and c.cost_in_reward:
            action = self.bounds.normalise(batch.action)
            cost = self.cost(batch.obs, action, (mean, std), rng.normal(n, c.latent))
            reward = reward - exp(self.log_lambda.value) * cost
        noise = rng.normal(n, c.latent), rng.normal(n, self.bounds.size)
        bonus = -exp(self.log_alpha.value) * self.policy.sample(mean + std * noise[0], noise[1])[1]
        return reward + c.gamma * (1 - batch.terminated) * bonus / c.reward_scale

    def state_dict(self) -> State:
        return save_learners(self.learners, self.updates)

    def load_state_dict(self, state: State) -> None:
        self.updates = load_learners(self.learners, state)

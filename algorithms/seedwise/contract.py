"""The contract between an algorithm and the runner: hyperparameter types, experience, and the agent."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Annotated, Protocol

from annotated_types import Ge, Interval
from torch import Tensor

from ascent.algorithms.seedwise.acting import Step
from ascent.algorithms.seedwise.random import Streams

# Types of hyperparameters: the runner checks a Config against them.
Fraction = Annotated[float, Interval(ge=0, le=1)]
Positive = Annotated[float, Interval(gt=0, lt=inf)]
NonNegative = Annotated[float, Interval(ge=0, lt=inf)]
Count = Annotated[int, Ge(1)]
Widths = tuple[Count, ...]

State = dict[str, Tensor]  # named tensors, each with the seed axis first


@dataclass(frozen=True)
class Rollout:
    """Learn once from every window of `steps` time steps in `envs` environments per seed, then discard it."""

    steps: int
    envs: int


@dataclass(frozen=True)
class WholeEpisodes:
    """Learn once from every window of `horizons` time limits of the task, in `envs` environments per seed.

    Every window begins with a reset. The batch has a `weight`: 1 for the transitions of the episodes that
    begin at least one time limit before the window's end, which are all whole and not chosen by their length.
    """

    horizons: int
    envs: int


@dataclass(frozen=True)
class Replay:
    """Learn from uniform samples, with replacement, of each seed's last `capacity` transitions.

    After `starts` environment steps, do `updates` updates on `batch` transitions every `every` environment
    steps.
    """

    envs: int
    capacity: int
    batch: int
    starts: int
    every: int
    updates: int


@dataclass(frozen=True)
class Batch:
    """Transitions. The axes `...` are (S, T, E) for a window and (S, B) for a `Replay`.

    `next_obs` is always the true successor. `terminated` ends bootstrapping; `truncated` (the time limit)
    does not, although the next transition then belongs to another episode. Flags are 0.0 or 1.0.
    """

    obs: Tensor  # (..., O) float32
    action: Tensor  # (...,) int64 or (..., A) float32
    reward: Tensor  # (...,) float32
    next_obs: Tensor  # (..., O) float32
    terminated: Tensor  # (...,) float32
    truncated: Tensor | None  # (...,) float32; None in replay, which does not need it
    weight: Tensor | None = None  # (...,) float32, 0.0 or 1.0: what counts; only from `WholeEpisodes`

    def map(self, function: Callable[[Tensor], Tensor]) -> "Batch":
        """Return the batch with every tensor replaced by the function's value for it."""
        return replace(self, **{name: function(x) for name, x in vars(self).items() if x is not None})


class Agent(Protocol):
    """What the runner needs from an algorithm's `Agent`.

    An agent may also have an attribute `predicts` (see `Predictor`); the default is False.
    """

    @property
    def experience(self) -> Rollout | WholeEpisodes | Replay:
        """The experience that the runner collects for the agent."""

    def act(
        self, obs: Tensor, rng: Streams, explore: bool, progress: float, carry: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Return actions, (S, E) or (S, E, A), for observations (S, E, O), and the new `carry`.

        `explore` selects sampled instead of greedy actions. `progress` is the fraction of the budget used.
        `carry` (S, E, ...) is what the policy remembers between steps; the runner passes it back, with zeros
        where an episode ended.
        """

    def update(self, batch: Batch, rng: Streams, progress: float) -> dict[str, Tensor]:
        """Learn from a batch and return metrics, each (S,)."""

    def greedy_steps(self) -> list[list[Step]]:
        """Return how each agent of the task acts without exploring, from its observation on."""

    def state_dict(self) -> State:
        """Return everything that learning depends on."""

    def load_state_dict(self, state: State) -> None:
        """Restore what `state_dict` returned."""


class SingleAgent(Agent, Protocol):
    """An agent of a task with one agent, which can also be attacked by an adversary."""

    def preference(self, obs: Tensor) -> Tensor:
        """Return what greedy acting follows, differentiable: (S, E, O) -> (S, E, A)."""


class Predictor(Agent, Protocol):
    """An agent that may act without observations."""

    predicts: bool  # whether `act` accepts NaN for an observation that is missing


class Valued(Agent, Protocol):
    """An agent whose critic the runner can compare with returns (`runners/measures.py`).

    It may also have a method `value_reward(batch, rng)` and an attribute `ends_at_limit`. The method returns
    what the critic counts for each transition (S, B) of a batch, in units of the task's rewards, if that is
    not the reward alone: a soft critic adds the bonus of the next action. `ends_at_limit` is True if the
    critic takes the time limit for the end of the episode; the default is False.
    """

    def value_estimate(self, obs: Tensor, action: Tensor) -> Tensor | None:
        """Return the estimated discounted return from observations (S, B, O) and actions (S, B, ...) on.

        It is (S, B), or (S, B, N) in a multi-agent task, in units of the task's rewards; None if the agent's
        settings leave it without a critic.
        """


class PolicyGradient(Agent, Protocol):
    """An agent whose policy gradient the runner can measure."""

    def policy_gradient(self, batch: Batch) -> Tensor:
        """Return the gradient (S, P) of the policy's objective that a window gives, without entropy bonus.

        It is the gradient at the present parameters, before any clipping. Nothing moves, and normalisers stay
        as they are.
        """

"""Measures of the learners at an evaluation point: the bias of values, the variance of policy gradients.

Each has environments and random streams of its own, so that measuring changes no training. The values are
compared with returns at every evaluation; the gradient is measured where it is asked for (`REQUESTS`).
"""

from collections.abc import Sequence
from math import ceil, inf, log

import numpy as np
import torch

from ascent import suites
from ascent.algorithms import SYSTEMS
from ascent.algorithms.seedwise import Agent, Batch, Replay, Rollout, Streams
from ascent.records.cell import Cell
from ascent.records.errors import InputError, unknown
from ascent.runners.experience import RolloutStorage
from ascent.runners.play import Carry, env_seeds, to_env

REQUESTS = {"gradient_variance": "policy_gradient"}  # what can be asked for: the method that it needs
REMAINDER = 0.01  # a return is known if the rewards that are not seen have at most this share of the weights
STATES = 200  # states of an episode that does not end, per evaluation
WINDOWS = 10  # windows whose gradients are compared
EPISODE, REWARDS, WINDOW = range(3)  # indices of the random streams

Cells = tuple[int | float | str, ...]  # of a row of the table, after the step; "" where there is no value
NO_VALUES: Cells = (0, "", "", "", "")
NO_GRADIENTS: Cells = (0, "", "")


def check_requests(system: str, names: Sequence[str]) -> None:
    """Raise InputError unless the system has these measures, each named once."""
    for name in names:
        if name not in REQUESTS:
            raise unknown("measure", name, REQUESTS)
        if not available(system, name):
            able = ", ".join(other for other in SYSTEMS if available(other, name))
            raise InputError(f"measures: {system} has no {name}; algorithms that have it: {able}")
        if names.count(name) > 1:
            raise InputError(f"measures: {name} is listed twice")


def available(system: str, name: str) -> bool:
    """Return whether a system has what a measure in `REQUESTS` needs."""
    return hasattr(SYSTEMS[system].module().Agent, REQUESTS[name])


def requested(system: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return those of the measures that the system has; an unknown name is left for `check_requests`."""
    return tuple(
        name for name in names if name not in REQUESTS or system not in SYSTEMS or available(system, name)
    )


def measure(
    agent: Agent, cell: Cell, seeds: Sequence[int], step: int, device: str = "cpu", threads: int = 1
) -> list[Cells]:
    """Return each seed's row of the table of measures, without the step."""
    rows = values(agent, cell, seeds, step, device, threads)
    gradients = [NO_GRADIENTS] * len(seeds)
    if "gradient_variance" in cell.measures:
        gradients = gradient_variance(agent, cell, seeds, step, device, threads)
    return [(*row, *gradient) for row, gradient in zip(rows, gradients, strict=True)]


# ---- values against returns


def values(
    agent: Agent, cell: Cell, seeds: Sequence[int], step: int, device: str = "cpu", threads: int = 1
) -> list[Cells]:
    """Compare the critic with the returns of the policy that acts in training, exploration included.

    One episode is played per seed, up to the steps that show the returns of its first `STATES` states. A
    state counts if its return is known: the episode came to an end (for an agent with `ends_at_limit`, also
    by the time limit), or so many steps follow that gamma^steps is at most `REMAINDER`.

    Returns:
        For each seed: the number of states, and over these states the mean estimate, the mean return, their
        difference (the bias) and the root mean squared difference.
    """
    estimator = getattr(agent, "value_estimate", None)
    if estimator is None:
        return [NO_VALUES] * len(seeds)
    gamma = float(cell.config["gamma"])
    needed = steps_to_know(gamma)
    length = int(min(suites.TASKS[cell.task].horizon, needed + STATES - 1))
    batch = _play(agent, cell, seeds, step, length, device, threads)
    with torch.no_grad():
        estimate = estimator(batch.obs, batch.action)
        if estimate is None:
            return [NO_VALUES] * len(seeds)
        counted = getattr(agent, "value_reward", None)
        # A stream of its own: how many numbers acting takes depends on the longest episode of the pack.
        rng = Streams(seeds, "measure", step, REWARDS, device=device)
        reward = counted(batch, rng) if counted else batch.reward
    assert batch.truncated is not None
    estimate, reward, terminated, truncated = (
        x.double().cpu().numpy() for x in (estimate, reward, batch.terminated, batch.truncated)
    )
    over = (terminated > 0) | (truncated > 0)
    ends = over if getattr(agent, "ends_at_limit", False) else terminated > 0
    rows = []
    for k in range(len(seeds)):  # by themselves: how numpy sums must not depend on the other seeds
        played = int(over[k].argmax()) + 1 if over[k].any() else length
        known = played if ends[k, played - 1] else int(max(0, played - needed + 1))
        returns = discounted(reward[k, :played], gamma)
        rows.append(compare(estimate[k, :known], returns[:known]) if known else NO_VALUES)
    return rows


def compare(estimate: np.ndarray, returns: np.ndarray) -> Cells:
    """Return n, mean estimate, mean return, bias and root mean squared error of n states, (n,) or (n, N)."""
    error = estimate - returns
    means = (float(x.mean()) for x in (estimate, returns, error))
    return len(error), *means, float(np.sqrt(np.square(error).mean()))


def steps_to_know(gamma: float) -> float:
    """Return the least n with gamma^n <= `REMAINDER`: infinite if gamma is 1."""
    if gamma in (0.0, 1.0):
        return inf if gamma else 1
    return ceil(log(REMAINDER) / log(gamma))


def discounted(reward: np.ndarray, gamma: float) -> np.ndarray:
    """Return the discounted sums of the rewards (T, ...) from each step to the last."""
    returns = np.empty_like(reward)
    following = np.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        following = reward[t] + gamma * following
        returns[t] = following
    return returns


def _play(
    agent: Agent, cell: Cell, seeds: Sequence[int], step: int, length: int, device: str, threads: int
) -> Batch:
    """Play one environment per seed as in training, and return its first transitions (S, length).

    What follows the end of a seed's first episode has no meaning.
    """
    env = suites.make(cell.task, env_seeds(seeds, 1, "measure", step, EPISODE), threads)
    rng = Streams(seeds, "measure", step, EPISODE, device=device)
    storage = RolloutStorage(Rollout(length, 1), len(seeds), env.spec, device)
    obs = env.reset()
    carry: Carry = None
    over = np.zeros(env.shape, bool)
    while storage.t < length and not over.all():
        seen = torch.from_numpy(obs).to(device)
        action, carry = agent.act(seen, rng, True, step / cell.steps, carry)
        stored, executed = to_env(action, env.spec)
        result = env.step(executed)
        storage.add(obs, stored, result)
        obs = result.obs
        over |= result.terminated | result.truncated
        env.retire(over)
    storage.t = length  # the shape must not depend on the length of episodes
    return storage.batches(rng)[0].map(lambda x: x.flatten(1, 2))


# ---- the variance of the policy gradient


def gradient_variance(
    agent: Agent, cell: Cell, seeds: Sequence[int], step: int, device: str = "cpu", threads: int = 1
) -> list[Cells]:
    """Estimate how much the policy gradients of windows differ at the present parameters.

    Returns:
        For each seed: the number n of windows, the trace of the covariance of their gradients (divisor
        n - 1), and the squared norm of the expected gradient, that of the mean minus trace / n, which may be
        negative. Both are unbiased if all windows begin with the reset.
    """
    policy_gradient = getattr(agent, REQUESTS["gradient_variance"])
    batches = windows(agent, cell, seeds, step, device, threads)
    gradients = [policy_gradient(batch).double().cpu().numpy() for batch in batches]
    return [spread(np.stack([gradient[k] for gradient in gradients])) for k in range(len(seeds))]


def spread(gradients: np.ndarray) -> Cells:
    """Return n, trace of the covariance and squared norm of the expectation of gradients (n, P)."""
    n = len(gradients)
    mean = gradients.mean(0)
    trace = float(np.square(gradients - mean).sum() / (n - 1))
    return n, trace, float(np.square(mean).sum()) - trace / n


def windows(
    agent: Agent, cell: Cell, seeds: Sequence[int], step: int, device: str = "cpu", threads: int = 1
) -> list[Batch]:
    """Collect `WINDOWS` windows of the agent's own size, each in environments of its own.

    Windows that are shorter than the time limit begin at different times after the reset, spread evenly over
    an episode, as those of training do. The policy has no memory between steps.
    """
    experience, spec = agent.experience, suites.TASKS[cell.task]
    assert not isinstance(experience, Replay)
    storages = [RolloutStorage(experience, len(seeds), spec, device) for _ in range(WINDOWS)]
    length, envs = storages[0].length, experience.envs
    starts = [0 if length >= spec.horizon else k * spec.horizon // WINDOWS for k in range(WINDOWS)]
    env = suites.make(cell.task, env_seeds(seeds, WINDOWS * envs, "measure", step, WINDOW), threads)
    rng = Streams(seeds, "measure", step, WINDOW, device=device)
    obs = env.reset()
    for t in range(starts[-1] + length):
        seen = torch.from_numpy(obs).to(device)
        action, _ = agent.act(seen, rng, True, step / cell.steps)
        stored, executed = to_env(action, spec)
        result = env.step(executed)
        for k, storage in enumerate(storages):
            if starts[k] <= t < starts[k] + length:
                part = slice(k * envs, (k + 1) * envs)
                storage.add(obs[:, part], stored[:, part], suites.Step(*(x[:, part] for x in result)))
        obs = result.obs
    return [storage.batches(rng)[0] for storage in storages]

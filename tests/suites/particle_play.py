"""A scripted policy for the particle worlds, which drives agents into goals, walls and each other.

The reference scores of the suite are its mean scores, rounded. `python -m tests.suites.particle_play` prints
them.
"""

import sys

import numpy as np
from gymnasium import spaces

from ascent import suites
from ascent.suites.anchors import random_actions
from ascent.suites.particle import MOVES, World


def toward(delta: np.ndarray, vel: np.ndarray) -> np.ndarray:
    """Return the moves (n,) towards relative positions delta (2, n), at velocities vel (2, n)."""
    error = delta - 0.4 * vel  # allow for the distance the agent coasts
    x, y = error
    move = np.where(np.abs(x) > np.abs(y), np.where(x < 0, 1, 2), np.where(y < 0, 3, 4))
    return np.where(np.abs(error).max(0) < 0.03, 0, move)


def choices(batch: World) -> np.ndarray:
    """Return the moves and words (n, N, 2) of the scripted policy in the current state of the batch."""
    view = batch._view(batch._current())
    n, count = len(batch.agents), view.pos.shape[2]
    rel = view.pos - view.pos[:n, None]
    found = np.zeros((count, n, 2), dtype=np.int64)
    goal = view.drawn.astype(np.int64)
    envs = np.arange(count)
    name = type(batch).__name__

    def go(i: int, delta: np.ndarray) -> None:
        found[:, i, 0] = toward(delta, view.vel[i])

    def landmark(i: int, k: np.ndarray) -> np.ndarray:
        return rel[i, n + k, :, envs].T

    if name == "Simple":
        go(0, rel[0, 1])
    elif name == "Adversary":
        go(0, rel[0, 3])
        go(1, landmark(1, goal[0]))
        go(2, landmark(2, 1 - goal[0]))
    elif name == "Crypto":
        message, key = goal
        heard = view.words[2].argmax(0)
        found[:, 2, 1] = message ^ key
        found[:, 1, 1] = (heard & 1) ^ key
        found[:, 0, 1] = heard & 1
    elif name == "Push":
        go(0, rel[0, 1])
        go(1, landmark(1, goal[0]))
    elif name == "Reference":
        for i in range(2):
            found[:, i, 1] = goal[i]
            go(i, landmark(i, view.words[1 - i].argmax(0) % 3))
    elif name == "SpeakerListener":
        found[:, 0, 1] = goal[0]
        go(1, landmark(1, view.words[0].argmax(0)))
    elif name == "Spread":
        for i in range(3):
            go(i, rel[i, 3 + i])
    else:
        hunters = [i for i in range(n) if batch.agents[i].side == "adversary"]
        prey = [i for i in range(n) if i not in hunters]
        for i in hunters:
            go(i, rel[i, prey[i % len(prey)]])
        for i in prey:
            near = np.hypot(*rel[i, hunters].swapaxes(0, 1)).argmin(0)
            flee = -rel[i, hunters][near, :, envs].T
            go(i, np.where(np.abs(view.pos[i]) > 0.7, -view.pos[i], flee))
    return found


def actions(batch: World) -> np.ndarray:
    """Return the scripted policy's actions in the format of the batch, (S, E, N) or (S, E, A)."""
    found, parts = choices(batch), []
    for i, agent in enumerate(batch.agents):
        move, word = found[:, i].T
        if batch.discrete:
            parts.append(word * (MOVES if agent.moves else 1) + move if agent.speaks else move)
            continue
        if agent.moves:
            # The original has the right before the left, and up before down.
            order = np.array([0, 2, 1, 4, 3]) if batch.original else np.arange(5)
            parts.append(np.eye(5, dtype=np.float32)[order[move]])
        if agent.speaks:
            parts.append(np.eye(batch.vocabulary, dtype=np.float32)[word])
    joined = np.stack(parts, 1) if batch.discrete else np.concatenate(parts, 1)
    return joined.reshape(*batch.shape, -1)


def scripted_scores(task: str, episodes: int) -> np.ndarray:
    """Return the scores (episodes,) of the scripted policy against random adversaries."""
    batch = suites.make(task, np.arange(episodes)[:, None])
    spec, rng = batch.spec, np.random.default_rng(0)
    widths = [1 if spec.choices is not None else spaces.utils.flatdim(space) for space in spec.action_space]
    random = np.repeat([side == "adversary" for side in spec.team.sides], widths)
    batch.reset()
    returns = 0.0
    for _ in range(spec.horizon):
        action = np.where(random, random_actions(spec.action_space, batch.shape, rng), actions(batch))
        returns = returns + batch.step(action).reward
    return spec.score(returns[:, 0])


if __name__ == "__main__":
    for name in sys.argv[1:] or [task for task, spec in suites.TASKS.items() if spec.suite == "particle"]:
        scores = scripted_scores(name, 10_000)
        print(f"{name:40} {scores.mean():9.3f}  standard error {scores.std() / 100:.3f}", flush=True)

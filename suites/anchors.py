"""Measure `Spec.random_score`, the mean score of the uniform random policy.

`python -m ascent.suites.anchors [TASK ...]` prints it, reproducibly; default: every task. The MuJoCo tasks
take about a quarter of an hour. The mean is over one episode in each of 10,000 environments; in MuJoCo, whose
episodes are long, of 1,000. Counting the first episodes to end instead would favour short episodes.
"""

import sys

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Box, Discrete, Tuple

from ascent import suites
from ascent.suites.spec import leaves

EPISODES = {"classic": 10_000, "mujoco": 1_000, "particle": 10_000}


def random_actions(space: Space, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return uniform random actions for S x E environments.

    Their shape is (S, E) int64 for a Discrete space, (S, E, A) float32 for a bounded Box, and (S, E, N) or
    (S, E, A) for a Tuple of either.

    Raises:
        TypeError: the space is none of these.
    """
    if isinstance(space, Tuple):
        parts = [random_actions(leaf, shape, rng) for leaf in leaves(space)]
        return np.stack(parts, -1) if parts[0].shape == shape else np.concatenate(parts, -1)
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=shape)
    if isinstance(space, Box):
        return rng.uniform(space.low, space.high, size=shape + space.low.shape).astype(np.float32)
    raise TypeError(f"no random actions for the space {space}: it must be Discrete, Box, or a Tuple of them")


def random_returns(task: str, episodes: int, first_seed: int = 0) -> np.ndarray:
    """Return the scores (episodes,) of the uniform random policy.

    Each episode has its own environment; their seeds count up from first_seed.
    """
    batch = suites.make(task, first_seed + np.arange(episodes)[:, None])
    rng = np.random.default_rng(first_seed)
    batch.reset()
    team = batch.spec.team
    returns = np.zeros((episodes, 1, len(team.agents)) if team else (episodes, 1))
    running = np.ones((episodes, 1), dtype=bool)
    while running.any():
        step = batch.step(random_actions(batch.spec.action_space, batch.shape, rng))
        returns[running] += step.reward[running]
        running &= ~(step.terminated | step.truncated)
        batch.retire(~running)
    return batch.spec.score(returns[:, 0])


def main() -> None:
    """Print the random score of the tasks named on the command line (default: all)."""
    for task in sys.argv[1:] or suites.TASKS:
        spec = suites.TASKS[task]
        returns = random_returns(task, EPISODES[spec.suite])
        error = returns.std(ddof=1) / np.sqrt(len(returns))
        print(
            f"{task:26} {returns.mean():10.2f}  standard error {error:.2f}  declared {spec.random_score:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()

"""Measures `Spec.random_score`: `python -m ascent.suites.anchors [TASK ...]` prints it, reproducibly.

Without arguments it does so for every task; MuJoCo's take a quarter of an hour. The mean is over one episode
of each of 10,000 environments, in MuJoCo, where episodes are long, of 1,000: counting the first episodes to
end would favour short ones.
"""

import sys

import numpy as np
from gymnasium import Space
from gymnasium.spaces import Discrete, Tuple

from ascent import suites
from ascent.suites.spec import leaves

EPISODES = {"classic": 10_000, "mujoco": 1_000, "particle": 10_000}


def random_actions(space: Space, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Uniform actions: (S, E) int64 for a Discrete space, (S, E, A) float32 for a bounded Box, of a team
    (S, E, N) or (S, E, A).
    """
    if isinstance(space, Tuple):
        found = [random_actions(leaf, shape, rng) for leaf in leaves(space)]
        return np.stack(found, -1) if found[0].shape == shape else np.concatenate(found, -1)
    if isinstance(space, Discrete):
        return rng.integers(space.n, size=shape)
    return rng.uniform(space.low, space.high, size=shape + space.shape).astype(np.float32)


def random_returns(task: str, episodes: int, first_seed: int = 0) -> np.ndarray:
    """Scores (episodes,) of the uniform random policy, in environments seeded from first_seed up."""
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

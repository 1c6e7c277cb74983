"""Compare the numpy twins of suites/classic.py with gymnasium, step by step and bit for bit.

Random play ends early and near its start. It hides errors in the last bit, which show in fast and long
motion. Each task is therefore also driven to its goals, walls and time limit.
"""

from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import gymnasium
import numpy as np
import pytest

from ascent import suites
from ascent.suites import classic
from ascent.suites.anchors import random_actions
from tests.small import rest_slow

# A policy maps observations (n, O) and a generator to actions (n,) or (n, A).
Policy = Callable[[np.ndarray, np.random.Generator], np.ndarray]


# Policies. Those that drive a task add random actions, so that no two episodes are alike.


def mix(actions: np.ndarray, others: np.ndarray, rng: np.random.Generator, share: float = 0.1) -> np.ndarray:
    return np.where(rng.random(len(actions)) < share, others, actions)


def balance(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """CartPole: balance the pole until the time limit."""
    lean = obs @ np.array([0.05, 0.15, 1.0, 0.4])
    return mix((lean > 0).astype(int), rng.integers(2, size=len(obs)), rng)


def drift(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """CartPole: hold the pole at a slant, so that the cart leaves the track."""
    lean = obs @ np.array([0.0, 0.0, 1.0, 0.4]) - 0.03
    return mix((lean > 0).astype(int), rng.integers(2, size=len(obs)), rng, 0.05)


def pump(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Acrobot: push the second link in its direction of rotation, which adds energy at every step."""
    return mix(np.where(obs[:, 5] > 0, 2, 0), rng.integers(3, size=len(obs)), rng)


def rock(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """MountainCar: accelerate in the direction of motion."""
    return mix(np.where(obs[:, 1] < 0, 0, 2), rng.integers(3, size=len(obs)), rng)


def rock_continuous(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """MountainCarContinuous: accelerate in the direction of motion, with forces from weak to out of range."""
    force = np.where(obs[:, 1] < 0, -1.0, 1.0) * rng.uniform(0.3, 1.8, len(obs))
    return mix(force, rng.uniform(-1.0, 1.0, len(obs)), rng)[:, None]


def swing_up(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pendulum: swing up and balance, with torques in and out of range."""
    cos, sin, spin = obs.T
    energy = spin**2 / 6 + 5 * (cos - 1)
    torque = np.where(cos > 0.8, -10 * np.arctan2(sin, cos) - 2 * spin, -2 * np.sign(energy * spin))
    return mix(torque, rng.uniform(-2.0, 2.0, len(obs)), rng)[:, None]


def awkward(limit: float) -> Policy:
    """Box tasks: draw the bounds, their neighbours, both zeros, subnormal, huge and infinite numbers."""
    inside, outside = np.nextafter(np.float32(limit), np.float32([0.0, 9.0]))
    tiny = [0.0, 1e-45, 1e-30, 1e-3]
    values = np.array(
        [limit, inside, outside, 1.01 * limit, 3.0, 1e10, 3e38, np.inf, *tiny], dtype=np.float32
    )

    def policy(obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        return rng.choice(np.concatenate([values, -values]), (len(obs), 1))

    return policy


def uniform(task: str) -> Policy:
    space = suites.TASKS[task].action_space
    return lambda obs, rng: random_actions(space, (len(obs),), rng)


# The comparison.


class Play(NamedTuple):
    steps: int
    episodes: int
    terminated: int
    truncated: int
    different: Counter  # name of a value that differed -> number of steps of the batch


def play(task: str, policy: Policy, episodes: int, shape: tuple[int, int] = (10, 4)) -> Play:
    """Play the twin and equally many gymnasium environments side by side until `episodes` have ended."""
    seeds = 1000 + np.arange(np.prod(shape)).reshape(shape)
    rng = np.random.default_rng(7)
    twin = suites.make(task, seeds)
    originals = [gymnasium.make(task, disable_env_checker=True) for _ in seeds.flat]
    box = isinstance(twin.spec.action_space, gymnasium.spaces.Box)
    n = seeds.size

    obs = twin.reset().reshape(n, -1)
    first = np.stack([env.reset(seed=int(seed))[0] for env, seed in zip(originals, seeds.flat, strict=True)])
    different = Counter({"first obs": int(obs.tobytes() != first.tobytes())})
    steps = terminated = truncated = ended = 0
    while ended < episodes:
        actions = policy(obs, rng)
        actions = actions.astype(np.float32) if box else actions
        step = twin.step(actions.reshape(shape + twin.spec.action_space.shape))
        wanted = {
            "obs": np.empty_like(obs),
            "reward": np.empty(n),
            "terminated": np.empty(n, dtype=bool),
            "truncated": np.empty(n, dtype=bool),
            "next_obs": np.empty_like(obs),
        }
        physics = np.empty((n, twin.state()["physics"].shape[-1]))
        for i, (env, action) in enumerate(zip(originals, actions if box else actions.tolist(), strict=True)):
            result = env.step(action)
            wanted["obs"][i] = wanted["next_obs"][i] = result[0]
            wanted["reward"][i], wanted["terminated"][i], wanted["truncated"][i] = result[1:4]
            if result[2] or result[3]:
                wanted["obs"][i] = env.reset()[0]
            physics[i] = env.unwrapped.state
        for name, value in wanted.items():
            different[name] += getattr(step, name).tobytes() != value.tobytes()
        different["physics"] += twin.state()["physics"].tobytes() != physics.tobytes()
        obs = step.obs.reshape(n, -1)
        steps += n
        terminated += int(step.terminated.sum())
        truncated += int(step.truncated.sum())
        ended += int((step.terminated | step.truncated).sum())
    for env, words in zip(originals, twin.state()["generators"].reshape(n, 6).tolist(), strict=True):
        state = env.unwrapped.np_random.bit_generator.state
        different["generator"] += state["state"]["state"] != words[0] << 64 | words[1]
        different["generator"] += state["state"]["inc"] != words[2] << 64 | words[3]
    return Play(steps, ended, terminated, truncated, +different)


# (task, policy, episodes, whether some must end at a goal or a wall, whether some must end at the time limit)
PLAYS = [
    ("CartPole-v1", uniform("CartPole-v1"), 1000, True, False),
    ("CartPole-v1", balance, 80, False, True),
    ("CartPole-v1", drift, 120, True, True),
    ("Acrobot-v1", uniform("Acrobot-v1"), 80, False, True),
    ("Acrobot-v1", pump, 950, True, False),
    ("MountainCar-v0", uniform("MountainCar-v0"), 200, False, True),
    ("MountainCar-v0", rock, 850, True, False),
    ("MountainCarContinuous-v0", uniform("MountainCarContinuous-v0"), 60, False, True),
    ("MountainCarContinuous-v0", awkward(1.0), 80, False, True),
    ("MountainCarContinuous-v0", rock_continuous, 900, True, False),
    ("Pendulum-v1", uniform("Pendulum-v1"), 240, False, True),
    ("Pendulum-v1", awkward(2.0), 200, False, True),
    ("Pendulum-v1", swing_up, 600, False, True),
]


@pytest.mark.parametrize(
    ("task", "policy", "episodes", "terminates", "truncates"),
    PLAYS,
    ids=[f"{task}-{policy.__qualname__.split('.')[0]}" for task, policy, *_ in PLAYS],
)
def test_twin_equals_gymnasium_bit_for_bit(
    task: str, policy: Policy, episodes: int, terminates: bool, truncates: bool
) -> None:
    result = play(task, policy, episodes)
    assert result.different == {}
    assert result.episodes >= episodes
    # A policy that failed to reach its goals would make the comparison empty.
    assert result.terminated > 0 or not terminates
    assert result.truncated > 0 or not truncates


def test_every_classic_task_plays_a_thousand_episodes() -> None:
    played = Counter()
    for task, _, episodes, *_ in PLAYS:
        played[task] += episodes
    classic_tasks = {spec.id for spec in suites.TASKS.values() if spec.suite == "classic"}
    assert set(played) == classic_tasks
    assert min(played.values()) >= 1000


@pytest.mark.parametrize("task", ["MountainCar-v0", "MountainCarContinuous-v0"])
def test_the_goal_line_itself_on_the_last_step_allowed(task: str) -> None:
    """Test two cases that play misses: a float32 position equal to the goal, and goal and limit at once."""
    n = 200
    goal, right, force = (0.5, 2, 0.001) if task == "MountainCar-v0" else (0.45, [1.0], 0.0015)
    twin = suites.make(task, np.arange(n)[:, None])
    twin.reset()
    state = twin.state()
    position = np.float32(goal - 0.04)
    # The velocity that reaches the goal exactly.
    exact = goal - position - force + 0.0025 * np.cos(3 * position)
    state["physics"][:, 0, 0] = position
    state["physics"][:, 0, 1] = np.float32(exact + 1e-8 * np.arange(-n // 2, n // 2))
    state["elapsed"][:] = twin.spec.horizon - 1
    twin.load_state(state)
    actions = np.full((n, 1, *twin.spec.action_space.shape), right, dtype=twin.spec.action_space.dtype)
    step = twin.step(actions)

    env = gymnasium.make(task, disable_env_checker=True)
    env.reset()
    for i, physics in enumerate(state["physics"][:, 0]):
        env.unwrapped.state = physics.astype(np.float32) if task == "MountainCarContinuous-v0" else physics
        env._elapsed_steps = twin.spec.horizon - 1
        next_obs, reward, terminated, truncated, _ = env.step(actions[i, 0])
        ours = (step.reward[i, 0], step.terminated[i, 0], step.truncated[i, 0])
        assert ours == (reward, terminated, truncated)
        assert step.next_obs[i, 0].tobytes() == next_obs.tobytes()
    assert (step.next_obs[:, 0, 0] == np.float32(goal)).any()
    assert (step.terminated & step.truncated).any()
    assert (~step.terminated & step.truncated).any()


class Wrong:
    """Return numpy with one function replaced, which the comparison must detect."""

    def __init__(self, **replaced: Callable) -> None:
        self.replaced = replaced

    def __getattr__(self, name: str) -> Callable:
        return self.replaced.get(name, getattr(np, name))


@pytest.mark.parametrize(
    ("task", "policy", "episodes"), [("Acrobot-v1", pump, 100), ("Pendulum-v1", swing_up, 100)]
)
def test_driven_play_notices_a_wrong_square(
    task: str, policy: Policy, episodes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(-20, 20, 100_000)
    if np.array_equal(np.float_power(x, 2.0), x * x):
        pytest.skip("this machine's pow rounds correctly: x * x is no error here")
    monkeypatch.setattr(classic, "np", Wrong(float_power=lambda x, _: x * x))
    assert play(task, policy, episodes).different


# Environments must not affect each other.


@pytest.mark.parametrize("function", [np.cos, np.sin, np.square, lambda x: np.float_power(x, 2.0)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numpy_gives_an_element_the_same_bits_at_every_position(function: Callable, dtype: type) -> None:
    """Vector kernels treat the end of a row and strided rows differently, which must not change the bits."""
    rng = np.random.default_rng(1)
    for length in (1, 2, 3, 7, 8, 9, 10, 16, 31, 100):
        rows = rng.uniform(-30, 30, (40, length)).astype(dtype)
        whole = function(rows)
        alone = np.array([[function(row[i : i + 1])[0] for i in range(length)] for row in rows])
        strided = function(np.asfortranarray(rows))
        unaligned = np.stack([function(row[i:])[0] for row in rows for i in range(length)]).reshape(
            rows.shape
        )
        assert whole.tobytes() == alone.tobytes()
        assert whole.tobytes() == np.ascontiguousarray(strided).tobytes()
        assert whole.tobytes() == unaligned.tobytes()


DRIVEN = {"CartPole-v1": balance, "Acrobot-v1": pump, "MountainCar-v0": rock}
DRIVEN |= {"MountainCarContinuous-v0": rock_continuous, "Pendulum-v1": swing_up}


def record(task: str, seeds: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Step through actions (T, S, E, ...); return the fields of Step and the physics, (T, S, E, ...)."""
    batch = suites.make(task, seeds)
    batch.reset()
    steps = [(*batch.step(a), batch.state()["physics"]) for a in actions]
    return tuple(np.stack(field) for field in zip(*steps, strict=True))


@pytest.mark.parametrize("task", rest_slow(DRIVEN))
def test_a_driven_environment_is_the_same_alone_and_at_every_position(task: str) -> None:
    length, n = 150, 100
    seeds = np.arange(n)[:, None]
    batch = suites.make(task, seeds)
    rng = np.random.default_rng(3)
    obs, actions = batch.reset(), []
    for _ in range(length):
        action = DRIVEN[task](obs.reshape(n, -1), rng).reshape(batch.shape + batch.spec.action_space.shape)
        actions.append(action.astype(np.float32) if action.dtype == float else action)
        obs = batch.step(actions[-1]).obs
    actions = np.stack(actions)

    alone = [record(task, seeds[i : i + 1], actions[:, i : i + 1]) for i in range(n)]
    for size in (3, 8, 10, 100):
        for start in range(0, n, 11):  # both the neighbours and the position differ
            members = (start + 7 * np.arange(size)) % n  # 7 and 100 are coprime, so no member repeats
            together = record(task, seeds[members], actions[:, members])
            for place, member in enumerate(members):
                for one, all_ in zip(alone[member], together, strict=True):
                    assert one[:, 0].tobytes() == all_[:, place].tobytes()
            if size == 100:
                break


@pytest.mark.parametrize("size", [3, 8, 10, 100])
@pytest.mark.parametrize("task", DRIVEN)
def test_equal_environments_stay_equal_at_every_position(task: str, size: int) -> None:
    space, length = suites.TASKS[task].action_space, 150
    actions = np.stack([random_actions(space, (1, 1), np.random.default_rng(t)) for t in range(length)])
    alone = record(task, np.array([[5]]), actions)
    for shape in ((size, 1), (1, size)):
        copies = np.broadcast_to(actions, (length, *shape, *space.shape))
        together = record(task, np.full(shape, 5), copies)
        for one, all_ in zip(alone, together, strict=True):
            assert np.ascontiguousarray(np.broadcast_to(one, all_.shape)).tobytes() == all_.tobytes()


# NaN actions.


@pytest.mark.parametrize("task", ["MountainCarContinuous-v0", "Pendulum-v1"])
def test_nan_spoils_its_own_episode_and_nothing_else(task: str) -> None:
    spec = suites.TASKS[task]
    seeds = np.arange(6).reshape(3, 2)
    rng = np.random.default_rng(0)
    actions = np.stack([random_actions(spec.action_space, (3, 2), rng) for _ in range(spec.horizon + 50)])
    spoiled = actions.copy()
    spoiled[7, 1, 0] = np.nan
    clean = record(task, seeds, actions)
    with np.errstate(all="raise"):  # a warning would be an error in some users' tests
        hurt = record(task, seeds, spoiled)

    others = np.ones((3, 2), dtype=bool)
    others[1, 0] = False
    for a, b in zip(clean, hurt, strict=True):
        assert a[:, others].tobytes() == b[:, others].tobytes()

    # The corrupted environment also equals gymnasium's, up to the time limit and after it.
    env = gymnasium.make(task, disable_env_checker=True)
    env.reset(seed=int(seeds[1, 0]))
    for t in range(len(spoiled)):
        next_obs, reward, terminated, truncated, _ = env.step(spoiled[t, 1, 0])
        obs = env.reset()[0] if terminated or truncated else next_obs
        wanted = (obs, reward, terminated, truncated, next_obs)
        for ours, theirs in zip((field[t, 1, 0] for field in hurt[:5]), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)
    next_obs = hurt[4][:, 1, 0]
    assert np.isnan(next_obs[spec.horizon - 1]).any()
    assert np.isfinite(next_obs[spec.horizon :]).all()

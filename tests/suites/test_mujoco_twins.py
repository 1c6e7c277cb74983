"""Compare the batches of suites/mujoco.py with gymnasium, step by step and bit for bit.

The tests compare the float64 observation before rounding, the reward, both flags, qpos and qvel. gymnasium
calls mj_rnePostConstraint after every step, the batches only if the task reads its result; equality shows
that the call changes nothing else.

Under random actions, bodies fall early and hardly ever meet a bound exactly. Other policies therefore keep
them upright, and some states are set by hand: at the bounds, beyond them, and so invalid that MuJoCo resets
them.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator
from copy import copy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium
import mujoco
import numpy as np
import pytest
from scipy.linalg import solve_discrete_are

from ascent import suites
from ascent.suites.anchors import random_actions
from ascent.suites.mujoco import Simulation

TASKS = [spec.id for spec in suites.TASKS.values() if spec.suite == "mujoco"]
EVERY_TASK = pytest.mark.parametrize("task", TASKS)
BAD = slice(int(mujoco.mjtWarning.mjWARN_BADQPOS), int(mujoco.mjtWarning.mjWARN_BADCTRL) + 1)

# A policy maps a batch, its observations (n, O) and a generator to actions (n, A) float32.
Policy = Callable[[Simulation, np.ndarray, np.random.Generator], np.ndarray]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in a temporary folder, because MuJoCo writes its warnings to the working folder."""
    monkeypatch.chdir(tmp_path)


# Policies.


def uniform(batch: Simulation, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return random_actions(batch.spec.action_space, (len(obs),), rng)


def gentle(batch: Simulation, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw weak actions, under which legged bodies stay upright for longer."""
    return uniform(batch, obs, rng) * np.float32(0.1)


def still(batch: Simulation, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.zeros((len(obs), *batch.spec.action_space.shape), dtype=np.float32)


def extreme(batch: Simulation, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw the bounds, their neighbours, both zeros, subnormal numbers, and numbers far out of range."""
    limit = batch.spec.action_space.high[0]
    values = np.array([limit, np.nextafter(limit, np.float32(9)), 1.5 * limit, 7, 1e4, 1e9, 0, 1e-45, 1e-3])
    shape = (len(obs), *batch.spec.action_space.shape)
    return (rng.choice(values, shape) * rng.choice([-1, 1], shape)).astype(np.float32)


@cache
def feedback(task: str) -> np.ndarray:
    """Return the linear-quadratic feedback (1, 2 nv) around the upright state of a pendulum."""
    batch = suites.make(task, np.zeros((1, 1), dtype=int))
    model = copy(batch._model)
    # mjd_transitionFD does not support the integrator RK4.
    model.opt.integrator = mujoco.mjtIntegrator.mjINT_EULER
    size = 2 * model.nv
    one, push = np.empty((size, size)), np.empty((size, 1))
    mujoco.mjd_transitionFD(model, mujoco.MjData(model), 1e-6, True, one, push, None, None)
    powers = [np.linalg.matrix_power(one, k) for k in range(batch.FRAME_SKIP + 1)]
    a, b = powers[-1], sum(powers[:-1]) @ push
    cost = solve_discrete_are(a, b, np.eye(size), np.eye(1))
    return np.linalg.solve(1 + b.T @ cost @ b, b.T @ cost @ a)


def balance(batch: Simulation, obs: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Pendulums: balance them until the time limit, with noise."""
    if batch.spec.id == "InvertedDoublePendulum-v5":
        obs = np.concatenate((obs[:, :1], np.arctan2(obs[:, 1:3], obs[:, 3:5]), obs[:, 5:8]), axis=1)
    noise = rng.normal(0, 0.1, (len(obs), 1)) * (rng.random((len(obs), 1)) < 0.5)
    return (noise - obs @ feedback(batch.spec.id).T).astype(np.float32)


# The comparison.


def bits(values: object) -> bytes:
    """Return the bytes to compare. NaNs get one sign, because theirs depends on how they were computed."""
    values = np.array(values)
    if values.dtype == np.float64:
        values[np.isnan(values)] = np.nan
    return values.tobytes()


def watch(batch: Simulation) -> list[np.ndarray]:
    """Record the float64 observations of a batch: of all environments in a step, then of its new episodes."""
    seen, see = [], batch._observations

    def keep(fields: dict[str, np.ndarray]) -> np.ndarray:
        seen.append(see(fields).copy())
        return seen[-1]

    batch._observations = keep
    return seen


def original(task: str, **kwargs: object) -> gymnasium.Env:
    return gymnasium.make(task, disable_env_checker=True, **kwargs)


def position(env: gymnasium.Env) -> np.ndarray:
    return np.concatenate((env.unwrapped.data.qpos, env.unwrapped.data.qvel))


class Play(NamedTuple):
    terminated: int
    truncated: int
    both: int  # in the same step
    unstable: int
    different: Counter  # name of a value that differed -> number of environment steps


def play(
    task: str, policy: Policy, episodes: int, horizon: int | None = None, shape: tuple[int, int] = (5, 2)
) -> Play:
    """Play the batch and equally many gymnasium environments side by side until `episodes` have ended."""
    seeds = 1000 + np.arange(np.prod(shape)).reshape(shape)
    rng = np.random.default_rng(7)
    batch = suites.make(task, seeds)
    batch.spec = replace(batch.spec, horizon=horizon or batch.spec.horizon)
    originals = [original(task, max_episode_steps=horizon) for _ in seeds.flat]
    n, seen, different = seeds.size, watch(batch), Counter()

    obs = batch.reset().reshape(n, -1)
    for i, env in enumerate(originals):
        different["first obs"] += bits(seen[0][i]) != bits(env.reset(seed=int(seeds.flat[i]))[0])
    terminated = truncated = both = unstable = 0
    while terminated + truncated - both < episodes:
        actions = policy(batch, obs, rng)
        seen.clear()
        step = batch.step(actions.reshape(*shape, -1))
        ours, starts = seen[0], [start for begun in seen[1:] for start in begun]
        different["next_obs"] += step.next_obs.tobytes() != ours.astype(np.float32).tobytes()
        obs, physics = step.obs.reshape(n, -1), batch.state()["physics"].reshape(n, -1)
        for i, (env, action) in enumerate(zip(originals, actions, strict=True)):
            next_obs, reward, *flags, _ = env.step(action)
            different["float64 obs"] += bits(ours[i]) != bits(next_obs)
            different["reward"] += bits(step.reward.flat[i]) != bits(np.float64(reward))
            different["flags"] += [step.terminated.flat[i], step.truncated.flat[i]] != flags
            if any(flags):
                start = starts.pop(0)
                different["start"] += bits(start) != bits(env.reset()[0])
                different["obs"] += obs[i].tobytes() != start.astype(np.float32).tobytes()
            state = position(env)
            different["state"] += bits(physics[i, : len(state)]) != bits(state)
        terminated += int(step.terminated.sum())
        truncated += int(step.truncated.sum())
        both += int((step.terminated & step.truncated).sum())
        unstable += int(step.unstable.sum())
    for env, words in zip(originals, batch.state()["generators"].reshape(n, 6).tolist(), strict=True):
        state = env.unwrapped.np_random.bit_generator.state
        different["generator"] += state["state"]["state"] != words[0] << 64 | words[1]
        different["generator"] += state["state"]["inc"] != words[2] << 64 | words[3]
    return Play(terminated, truncated, both, unstable, +different)


# (task, policy, episodes, time limit if not the task's own, whether some must end by the task, by the limit)
#
# For tasks that only the time limit ends, random episodes are shortened, because a thousand steps of each
# would take minutes. `still` and `extreme` play a few at full length, the slow test a hundred.
PLAYS = [
    ("HalfCheetah-v5", uniform, 100, 150, False, True),
    ("HalfCheetah-v5", extreme, 10, None, False, True),
    ("HalfCheetah-v5", still, 10, 200, False, True),
    ("Hopper-v5", uniform, 300, None, True, False),
    ("Hopper-v5", uniform, 100, 20, True, True),
    ("Hopper-v5", extreme, 100, None, True, False),
    ("Hopper-v5", gentle, 50, None, True, False),
    ("Hopper-v5", still, 10, None, True, False),
    ("Walker2d-v5", uniform, 300, None, True, False),
    ("Walker2d-v5", uniform, 100, 20, True, True),
    ("Walker2d-v5", extreme, 100, None, True, False),
    ("Walker2d-v5", gentle, 50, None, True, False),
    ("Walker2d-v5", still, 10, None, True, False),
    ("Ant-v5", uniform, 100, 60, True, True),
    ("Ant-v5", uniform, 20, None, True, False),
    ("Ant-v5", extreme, 20, None, True, False),
    ("Ant-v5", gentle, 10, 200, False, True),
    ("Ant-v5", still, 10, 100, False, True),
    ("Humanoid-v5", uniform, 100, None, True, False),
    ("Humanoid-v5", uniform, 50, 20, True, True),
    ("Humanoid-v5", extreme, 50, None, True, False),
    ("Humanoid-v5", still, 10, None, True, False),
    ("HumanoidStandup-v5", uniform, 100, 60, False, True),
    ("HumanoidStandup-v5", extreme, 10, 150, False, True),
    ("HumanoidStandup-v5", still, 10, 100, False, True),
    ("Swimmer-v5", uniform, 100, 150, False, True),
    ("Swimmer-v5", extreme, 10, None, False, True),
    ("Swimmer-v5", still, 10, 200, False, True),
    ("Reacher-v5", uniform, 200, None, False, True),
    ("Reacher-v5", extreme, 100, None, False, True),
    ("Reacher-v5", still, 20, None, False, True),
    ("Pusher-v5", uniform, 100, None, False, True),
    ("Pusher-v5", extreme, 50, None, False, True),
    ("Pusher-v5", still, 10, None, False, True),
    ("InvertedPendulum-v5", uniform, 300, None, True, False),
    ("InvertedPendulum-v5", extreme, 100, None, True, False),
    ("InvertedPendulum-v5", still, 50, None, True, False),
    ("InvertedPendulum-v5", balance, 10, 300, False, True),
    ("InvertedDoublePendulum-v5", uniform, 300, None, True, False),
    ("InvertedDoublePendulum-v5", extreme, 100, None, True, False),
    ("InvertedDoublePendulum-v5", still, 50, None, True, False),
    ("InvertedDoublePendulum-v5", balance, 10, 300, False, True),
]


def _play(task: str, policy: Policy, episodes: int, horizon: int | None, *ends: bool) -> Any:
    """The parameters of a test. A hundred episodes that end with their horizon take long; weak actions show
    little that strong ones do not.
    """
    long = (episodes >= 100 and (horizon or 0) >= 60) or policy in (gentle, still)
    name = f"{task}-{policy.__name__}-{horizon or 'full'}"
    return pytest.param(task, policy, episodes, horizon, *ends, id=name, marks=[pytest.mark.slow] * long)


@pytest.mark.parametrize(
    ("task", "policy", "episodes", "horizon", "terminates", "truncates"), [_play(*row) for row in PLAYS]
)
def test_batch_equals_gymnasium_bit_for_bit(
    task: str, policy: Policy, episodes: int, horizon: int | None, terminates: bool, truncates: bool
) -> None:
    result = play(task, policy, episodes, horizon)
    assert result.different == {}
    assert result.unstable == 0
    # A policy that failed to reach its goals would make the comparison empty.
    assert result.terminated > 0 or not terminates
    assert result.truncated > 0 or not truncates


@pytest.mark.slow
@pytest.mark.parametrize("task", ["HalfCheetah-v5", "HumanoidStandup-v5", "Swimmer-v5", "Ant-v5"])
def test_hundred_random_episodes_of_full_length(task: str) -> None:
    assert play(task, uniform, 100).different == {}


def test_every_task_plays_a_hundred_random_episodes() -> None:
    played = Counter()
    for task, policy, episodes, *_ in PLAYS:
        played[task] += episodes * (policy is uniform)
    assert set(played) == set(TASKS)
    assert min(played.values()) >= 100


# States set by hand.

EDGES = np.array([0.0, 0.2, 0.7, 0.8, 1.0, 2.0, 10.0, 100.0])
EDGES = np.concatenate((EDGES, np.nextafter(EDGES, 9e9), np.nextafter(EDGES, -9e9), [1e-300, 1e9, np.inf]))
EDGES = np.concatenate((EDGES, -EDGES, [np.nan]))
WRITTEN = ("qpos", "qvel", "xpos", "site_xpos", "xipos", "cfrc_ext", "qfrc_constraint", "ctrl")
UPRIGHT = {"Hopper-v5": 1.25, "Walker2d-v5": 1.25, "Ant-v5": 0.6, "Humanoid-v5": 1.4}  # a healthy height


def outcome(task: str, data: mujoco.MjData, i: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Draw values for the fields of a step: random ones, or healthy ones with at most one at a bound."""
    numbers = {}
    for name in WRITTEN:
        shape = getattr(data, name).shape
        edges = rng.random(shape) < rng.choice([0.0, 0.02, 0.2])
        wild = rng.normal(0.0, rng.choice([0.1, 1.0, 100.0, 3000.0]), shape)  # impacts reach their cap
        numbers[name] = np.where(edges, rng.choice(EDGES, shape), wild)
    if i % 4:
        for name in ("qpos", "qvel"):
            numbers[name] = rng.normal(0.0, 0.05, numbers[name].shape)
        height = 2 if task in ("Ant-v5", "Humanoid-v5") else 1
        numbers["qpos"][height] += UPRIGHT.get(task, 0.0)
        name, place = [("qpos", height), ("qpos", 2), ("qvel", -1), ("qpos", -1)][i // 4 % 4]
        if i % 4 > 1:
            numbers[name][min(place, numbers[name].size - 1)] = rng.choice(EDGES)
    return numbers


@pytest.fixture
def collected() -> Iterator[None]:
    """Free batches in reference cycles: Python does not know that each holds gigabytes."""
    yield
    gc.collect()


@EVERY_TASK
@pytest.mark.usefixtures("collected")
def test_the_verdict_at_every_edge(task: str) -> None:
    """Test health, clipping and caps in a step whose result is written into MuJoCo's data."""
    n = 400
    rng = np.random.default_rng(5)
    batch = suites.make(task, np.arange(n)[:, None])
    env = original(task)
    outcomes = [outcome(task, env.unwrapped.data, i, rng) for i in range(n)]

    def write(data: mujoco.MjData, i: int) -> None:
        for name, numbers in outcomes[i].items():
            getattr(data, name)[:] = numbers

    def write_all(ctrl: memoryview, chunk: range) -> None:
        for i in chunk:
            write(batch._data[i], i)

    batch.reset()
    batch._simulate = write_all
    seen = watch(batch)
    actions = random_actions(batch.spec.action_space, batch.shape, rng)
    with np.errstate(all="ignore"):
        step = batch.step(actions)
        for i in range(n):
            env.reset(seed=i)
            env.unwrapped.do_simulation = lambda ctrl, frames, i=i: write(env.unwrapped.data, i)
            next_obs, reward, terminated, *_ = env.step(actions[i, 0])
            assert bits(seen[0][i]) == bits(next_obs)
            assert bits(step.reward[i, 0]) == bits(np.float64(reward))
            assert step.terminated[i, 0] == terminated
    if any(play[0] == task and play[4] for play in PLAYS):
        assert n / 20 < step.terminated.sum() < n * 19 / 20


def test_squares_and_the_line_of_the_double_pendulum() -> None:
    """Its squares are libm's `pow`, which differs from a product once in a thousand. Some tips are at 1."""
    n = 20_000
    rng = np.random.default_rng(6)
    speeds, tips = rng.normal(0.0, 100.0, (n, 3)), rng.normal(1.0, 1.0, (n, 1, 3))
    tips[:10, 0, 2] = 1.0
    batch = suites.make("InvertedDoublePendulum-v5", np.zeros((1, 1), dtype=int))
    reward, terminated = batch._outcome({}, {"qvel": speeds, "site_xpos": tips}, np.zeros((n, 1), np.float32))
    env = original("InvertedDoublePendulum-v5").unwrapped
    env.do_simulation = lambda ctrl, frames: None
    for i in range(n):
        env.data.qvel[:], env.data.site_xpos[:] = speeds[i], tips[i]
        _, wanted, ended, *_ = env.step(np.zeros(1, np.float32))
        assert bits(reward[i]) == bits(wanted)
        assert terminated[i] == ended


# Invalid states.


def disturb(states: np.ndarray, model: mujoco.MjModel, what: str) -> None:
    """Make simulator states (..., N) invalid for MuJoCo. They consist of the time, qpos, qvel, ..."""
    speeds = slice(1 + model.nq, 1 + model.nq + model.nv)
    if what == "nan":
        states[..., model.nq] = np.nan  # the last of qpos: rewards look at the first ones before the step
    elif what == "huge":
        states[..., speeds] = 1e11
    else:  # fast: speeds that are allowed, but not the accelerations that follow
        states[..., speeds] = 9e9


def alter(model: mujoco.MjModel, data: mujoco.MjData, what: str) -> None:
    everything = mujoco.mjtState.mjSTATE_INTEGRATION
    state = np.empty(mujoco.mj_stateSize(model, everything))
    mujoco.mj_getState(model, data, state, everything)
    disturb(state, model, what)
    mujoco.mj_setState(model, data, state, everything)


@pytest.mark.parametrize("what", ["nan", "huge", "fast", "nan action", "inf action"])
@EVERY_TASK
def test_bad_numbers_are_flagged_and_go_on_as_in_gymnasium(
    task: str, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seeds = np.arange(6).reshape(3, 2)
    bad, times = (1, 0), (7, 8, 19)  # twice in a row, and again
    space = suites.TASKS[task].action_space
    rng = np.random.default_rng(0)
    actions = np.stack([random_actions(space, seeds.shape, rng) for _ in range(30)])
    spoiled = actions.copy()
    if "action" in what:
        spoiled[times, *bad] = np.nan if what == "nan action" else np.inf

    def run(actions: np.ndarray, disturbed: bool) -> tuple[list[suites.Step], list[np.ndarray]]:
        monkeypatch.setattr("ascent.suites.mujoco._WORTH_A_THREAD", 0.0)
        batch = suites.make(task, seeds, threads=2)
        seen, observed, steps = watch(batch), [], []
        batch.reset()
        for t, action in enumerate(actions):
            if disturbed and t in times:
                alter(batch._model, batch._data[np.ravel_multi_index(bad, seeds.shape)], what)
            seen.clear()
            steps.append(batch.step(action))
            observed.append(seen[0].reshape(3, 2, -1))
        return steps, observed

    clean, _ = run(actions, disturbed=False)
    hurt, observed = run(spoiled, disturbed="action" not in what)

    others = np.ones(seeds.shape, dtype=bool)
    others[bad] = False
    for one, other in zip(clean, hurt, strict=True):
        assert not one.unstable.any()
        for a, b in zip(one, other, strict=True):
            assert a[others].tobytes() == b[others].tobytes()

    env = original(task)
    env.reset(seed=int(seeds[bad]))
    data = env.unwrapped.data
    flagged = set()
    for t, (step, next_obs) in enumerate(zip(hurt, observed, strict=True)):
        if "action" not in what and t in times:
            alter(env.unwrapped.model, data, what)
        data.warning.number[:] = 0
        wanted_obs, reward, *flags, _ = env.step(spoiled[t][bad])
        flagged |= {t} if data.warning.number[BAD].any() else set()
        assert step.unstable[bad] == (t in flagged)
        assert bits(next_obs[bad]) == bits(wanted_obs)
        assert bits(step.reward[bad]) == bits(np.float64(reward))
        assert [step.terminated[bad], step.truncated[bad]] == flags
        if any(flags):
            env.reset()
    if what == "inf action":  # out of range as others are
        assert not flagged
    else:
        assert flagged >= set(times)


@EVERY_TASK
def test_a_bad_state_is_flagged_in_the_last_step_of_an_episode_too(task: str) -> None:
    batch = suites.make(task, np.arange(4).reshape(2, 2))
    batch.reset()
    state = batch.state()
    state["elapsed"][:] = batch.spec.horizon - 1
    disturb(state["simulation"][1, 0], batch._model, "huge")
    batch.load_state(state)
    actions = np.zeros((2, 2, *batch.spec.action_space.shape), dtype=np.float32)
    step = batch.step(actions)
    assert step.truncated.all()
    np.testing.assert_array_equal(step.unstable, [[False, False], [True, False]])
    assert not batch.step(actions).unstable.any()


# The model file.


@pytest.mark.parametrize(
    ("content", "error", "words"),
    [(None, FileNotFoundError, "no model file"), ("<mujoco><nonsense/>", ValueError, "cannot read")],
)
def test_a_bad_model_file_is_told_in_one_line(
    content: str | None, error: type[Exception], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ant.xml"
    if content is not None:
        path.write_text(content)
    batch = suites._BATCHES["Ant-v5"]
    monkeypatch.setattr(batch, "spec", replace(batch.spec, model=path))
    with pytest.raises(error, match=rf"^Ant-v5: .*{words}.*ant\.xml; reinstall gymnasium==") as raised:
        suites.make("Ant-v5", np.zeros((1, 1), dtype=int))
    assert "\n" not in str(raised.value)


@EVERY_TASK
def test_the_model_is_gymnasiums_and_is_loaded_once(task: str) -> None:
    first, second = (suites.make(task, np.zeros((1, 1), dtype=int)) for _ in range(2))
    env = original(task).unwrapped
    assert first._model is second._model
    assert str(first.spec.model) == env.fullpath
    assert env.frame_skip == first.FRAME_SKIP

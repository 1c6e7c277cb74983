"""Test the conventions of every task in suites.TASKS."""

import subprocess
import sys
from importlib.metadata import version

import gymnasium
import numpy as np
import pytest
from gymnasium.spaces import Box
from scipy import stats

from ascent import suites
from ascent.suites.anchors import random_actions, random_returns
from ascent.suites.spec import leaves
from tests.small import others_slow

EVERY_TASK = pytest.mark.parametrize("task", suites.TASKS)
SHAPE = (4, 2)
SEEDS = 100 + np.arange(8).reshape(SHAPE)

# Tasks whose steps or random episodes are slow: they are played less.
LONG = {"HalfCheetah-v5", "Ant-v5", "Humanoid-v5", "HumanoidStandup-v5", "Swimmer-v5"}


def plan(task: str, length: int, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Return random actions (length, S, E, ...)."""
    rng = np.random.default_rng(0)
    return np.stack([random_actions(suites.TASKS[task].action_space, shape, rng) for _ in range(length)])


def run(batch: suites.Batch, actions: np.ndarray) -> list[np.ndarray]:
    """Step through actions and return each field of Step, stacked over time: (T, S, E, ...)."""
    return [np.stack(field) for field in zip(*(batch.step(a) for a in actions), strict=True)]


def same(a: list[np.ndarray], b: list[np.ndarray]) -> bool:
    return all(x.shape == y.shape and x.tobytes() == y.tobytes() for x, y in zip(a, b, strict=True))


# Spec.


@EVERY_TASK
def test_spec_is_sane(task: str) -> None:
    spec = suites.TASKS[task]
    assert spec.id == task
    assert spec.suite in suites.SUITES
    assert spec.budget > spec.horizon > 0
    assert spec.reference_score > spec.random_score
    assert spec.reference_source and spec.return_convention
    assert all(version(package) for package in spec.packages)
    assert spec.model is None or spec.model.is_file()


@pytest.mark.parametrize("task", [s.id for s in suites.TASKS.values() if "gymnasium" in s.packages])
def test_spec_is_gymnasiums(task: str) -> None:
    spec = suites.TASKS[task]
    env = gymnasium.make(task)
    observed = env.observation_space  # float64 in MuJoCo tasks; the batch returns float32
    assert spec.observation_space == Box(np.float32(observed.low), np.float32(observed.high))
    assert spec.action_space == env.action_space
    assert spec.horizon == env.spec.max_episode_steps
    if env.spec.reward_threshold is not None:
        assert spec.reference_score == env.spec.reward_threshold


@pytest.mark.parametrize(
    "task", others_slow([(task,) for task in suites.TASKS], key=lambda task: suites.TASKS[task].suite)
)
def test_random_score_is_the_uniform_random_policys(task: str) -> None:
    spec = suites.TASKS[task]
    episodes = 10 if task in LONG else 300
    returns = random_returns(task, episodes, first_seed=50_000)
    error = returns.std(ddof=1) / np.sqrt(episodes)
    # Fails by chance once in 16,000 runs. The score itself is rounded to 0.01.
    bound = stats.t.isf(1 / 32_000, episodes - 1) * error
    assert abs(returns.mean() - spec.random_score) <= bound + 0.005


@pytest.mark.parametrize("suite", suites.SUITES)
def test_version_is_a_positive_integer(suite: str) -> None:
    assert isinstance(suites.version(suite), int)
    assert suites.version(suite) >= 1


def test_unknown_names_are_key_errors() -> None:
    with pytest.raises(KeyError):
        suites.make("CartPole", SEEDS)
    with pytest.raises(KeyError):
        suites.version("nothing")


def test_suites_import_no_torch_and_load_no_model() -> None:
    code = """if True:
        import sys, ascent.suites as suites, ascent.suites.anchors
        sys.exit('torch' in sys.modules or suites.mujoco._model.cache_info().currsize > 0)
    """
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Shapes, types, errors.


@EVERY_TASK
def test_shapes_and_types(task: str) -> None:
    batch = suites.make(task, SEEDS)
    spec, team = batch.spec, batch.spec.team
    observed = (*SHAPE, sum(space.shape[0] for space in leaves(spec.observation_space)))
    obs = batch.reset()
    assert (obs.shape, obs.dtype) == (observed, np.float32)
    step = batch.step(plan(task, 1)[0])
    for name, shape, dtype in (
        ("obs", observed, np.float32),
        ("reward", (*SHAPE, len(team.agents)) if team else SHAPE, np.float64),
        ("terminated", SHAPE, np.bool_),
        ("truncated", SHAPE, np.bool_),
        ("next_obs", observed, np.float32),
        ("unstable", SHAPE, np.bool_),
        ("measures", (*SHAPE, len(team.measures) if team else 0), np.float64),
    ):
        value = getattr(step, name)
        assert (value.shape, value.dtype) == (shape, dtype), name
        assert value.flags.c_contiguous, name
    for name, value in batch.state().items():
        assert value.shape[0] == SHAPE[0], name


@EVERY_TASK
def test_returned_arrays_are_not_written_again(task: str) -> None:
    batch = suites.make(task, SEEDS)
    actions = plan(task, 60)
    kept = [batch.reset()]
    for action in actions:
        kept += [*batch.step(action), *batch.state().values()]
    copies = [value.copy() for value in kept[: len(kept) // 2]]
    for action in actions:
        batch.step(action)
    assert same(kept[: len(copies)], copies)
    assert not any(np.shares_memory(a, b) for i, a in enumerate(kept[:12]) for b in kept[:i])


@EVERY_TASK
def test_writing_into_returned_arrays_changes_nothing(task: str) -> None:
    actions = plan(task, 60)
    clean, scribbled = suites.make(task, SEEDS), suites.make(task, SEEDS)
    clean.reset()
    scribbled.reset()[:] = 9
    wanted = run(clean, actions)
    got = []
    for action in actions:
        step = scribbled.step(action)
        got.append([value.copy() for value in step])
        for value in (*step, *scribbled.state().values()):
            value[:] = 1
    assert same([np.stack(field) for field in zip(*got, strict=True)], wanted)


@EVERY_TASK
def test_wrong_calls_are_refused(task: str) -> None:
    batch = suites.make(task, SEEDS)
    actions = plan(task, 1)[0]
    with pytest.raises(RuntimeError, match="reset"):
        batch.step(actions)
    with pytest.raises(RuntimeError, match="reset"):
        batch.state()
    batch.reset()
    with pytest.raises(ValueError, match="shape"):
        batch.step(actions[:1])
    with pytest.raises(ValueError, match="actions must be"):
        batch.step(actions.astype(np.float64))
    if batch.spec.choices is not None:
        for absent in (-1, np.max(batch.spec.choices)):
            wrong = actions.copy()
            wrong[1, 1] = absent
            with pytest.raises(ValueError, match="integers from 0"):
                batch.step(wrong)
    for seeds in (np.arange(3), np.ones((2, 2)), np.array([[-1]])):
        with pytest.raises(ValueError, match=r"."):
            suites.make(task, seeds)
    with pytest.raises(ValueError, match="threads"):
        suites.make(task, SEEDS, threads=0)
    with pytest.raises(ValueError, match="environments"):
        suites.make(task, SEEDS[:2]).load_state(batch.state())


# Time.


@EVERY_TASK
def test_seeds_are_gymnasiums(task: str) -> None:
    if "gymnasium" not in suites.TASKS[task].packages:
        pytest.skip("not a gymnasium task")
    obs = suites.make(task, SEEDS).reset()
    again = suites.make(task, SEEDS)
    again.reset()
    second = again.reset()
    env = gymnasium.make(task)
    for place in np.ndindex(SHAPE):
        np.testing.assert_array_equal(obs[place], np.float32(env.reset(seed=int(SEEDS[place]))[0]))
        np.testing.assert_array_equal(second[place], np.float32(env.reset()[0]))


@EVERY_TASK
def test_the_time_limit_truncates_and_the_next_episode_begins(task: str) -> None:
    batch = suites.make(task, SEEDS)
    batch.reset()
    state = batch.state()
    # Start close to the limit, which random play does not reach in every task.
    state["elapsed"][:] = since = np.full(SHAPE, batch.spec.horizon - 2)
    batch.load_state(state)
    limits = 0
    for action in plan(task, 60 if task in LONG else batch.spec.horizon + 10):
        step = batch.step(action)
        since += 1
        np.testing.assert_array_equal(step.truncated, since >= batch.spec.horizon)
        ended = step.terminated | step.truncated
        np.testing.assert_array_equal((step.obs != step.next_obs).any(axis=-1), ended)
        since[ended] = 0
        limits += int(step.truncated.sum())
    np.testing.assert_array_equal(batch.state()["elapsed"], since)
    assert limits >= SEEDS.size


# State, packing, independence.


@EVERY_TASK
def test_state_continues_to_the_bit(task: str) -> None:
    actions = plan(task, 120)
    batch = suites.make(task, SEEDS)
    batch.reset()
    run(batch, actions[:37])
    saved = batch.state()
    kept = {name: value.copy() for name, value in saved.items()}
    wanted = [*run(batch, actions[37:]), *batch.state().values()]

    other = suites.make(task, SEEDS + 1000)
    other.load_state(saved)
    assert same(list(other.state().values()), list(kept.values()))
    assert same([*run(other, actions[37:]), *other.state().values()], wanted)
    assert same(list(saved.values()), list(kept.values()))  # load_state copied
    batch.load_state(saved)  # back in time, in place
    assert same(run(batch, actions[37:]), wanted[: -len(kept)])


@EVERY_TASK
def test_state_continues_in_another_packing(task: str) -> None:
    actions = plan(task, 120)
    batch = suites.make(task, SEEDS)
    batch.reset()
    run(batch, actions[:37])
    saved = batch.state()
    wanted = run(batch, actions[37:])

    cut = [{name: value[i : i + 1] for name, value in saved.items()} for i in range(SHAPE[0])]
    for members in ([2], [3, 0, 2, 1], [1, 3]):
        packed = suites.make(task, np.zeros((len(members), SHAPE[1]), dtype=int))
        packed.load_state({name: np.concatenate([cut[i][name] for i in members]) for name in saved})
        got = run(packed, actions[37:, members])
        assert same(got, [field[:, members] for field in wanted])


@EVERY_TASK
@pytest.mark.parametrize("size", [3, 10, pytest.param(100, marks=pytest.mark.slow)])
def test_an_environment_does_not_depend_on_the_others(task: str, size: int) -> None:
    actions = plan(task, 20 if task in LONG else 60, (size, 1))
    seeds = np.arange(size)[:, None]
    together = suites.make(task, seeds)
    first = together.reset()
    fields = run(together, actions)
    for i in range(size):
        alone = suites.make(task, seeds[i : i + 1])
        assert same([first[i : i + 1]], [alone.reset()])
        assert same([field[:, i : i + 1] for field in fields], run(alone, actions[:, i : i + 1]))


@EVERY_TASK
def test_threads_change_nothing(task: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ascent.suites.mujoco._WORTH_A_THREAD", 0.0)  # use a thread per environment
    actions = plan(task, 40)
    batches = [suites.make(task, SEEDS, threads=threads) for threads in (1, 2, 3, 100)]
    results = [[batch.reset(), *run(batch, actions), *batch.state().values()] for batch in batches]
    assert all(same(result, results[0]) for result in results)


@EVERY_TASK
def test_retired_environments_harm_no_other(task: str) -> None:
    actions = plan(task, 40)
    batch, whole = suites.make(task, SEEDS), suites.make(task, SEEDS)
    for one in (batch, whole):
        one.reset()
        run(one, actions[:10])
    flags = np.zeros(SHAPE, bool)
    flags[0, 1] = flags[2] = True
    batch.retire(flags)
    before = batch.state()
    got, wanted = run(batch, actions[10:]), run(whole, actions[10:])
    assert same([field[:, ~flags] for field in got], [field[:, ~flags] for field in wanted])
    if "simulation" in before:  # they were not simulated
        assert same([before["simulation"][flags]], [batch.state()["simulation"][flags]])
    for back in (batch.reset, lambda: batch.load_state(before)):
        back()
        whole.load_state(batch.state())
        assert same(run(batch, actions[:10]), run(whole, actions[:10])), "they are back"
        batch.retire(flags)


@EVERY_TASK
def test_the_layout_of_actions_does_not_matter(task: str) -> None:
    actions = plan(task, 20, (1, 40))
    fields = []
    for order in ("C", "F"):
        batch = suites.make(task, np.arange(40)[None])
        batch.reset()
        fields.append(run(batch, [np.array(a, order=order) for a in actions]))
    assert same(*fields)

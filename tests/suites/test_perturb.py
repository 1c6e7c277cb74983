"""Test perturbed tasks: their physics, their noise, the grid, and errors.

A perturbation without an effect, or one that leaked into another batch of the process, would look like
robustness. Changed physics is therefore compared, bit for bit, with gymnasium's environments changed in the
same way.
"""

import copy
import inspect
import math
import sys
import textwrap
from collections.abc import Callable
from types import MethodType, SimpleNamespace

import gymnasium
import mujoco
import numpy as np
import pytest

from ascent import suites
from ascent.suites import perturb
from ascent.suites.anchors import random_actions
from ascent.suites.perturb import ALWAYS_SEEN, KINDS, NOMINAL, PHYSICS, Perturbation, Perturbed
from tests.suites.test_classic_twins import DRIVEN

TASKS = [task for task, spec in suites.TASKS.items() if not spec.team]
MUJOCO = [task for task in TASKS if suites.TASKS[task].suite == "mujoco"]
CLASSIC = [task for task in TASKS if suites.TASKS[task].suite == "classic"]


# Changed physics against gymnasium's.


def cartpole(env: gymnasium.Env, kind: str, factor: float) -> None:
    name = {"gravity": "gravity", "mass": "masspole", "length": "length"}[kind]
    setattr(env, name, getattr(env, name) * factor)
    env.total_mass = env.masspole + env.masscart
    env.polemass_length = env.masspole * env.length


def pendulum(env: gymnasium.Env, kind: str, factor: float) -> None:
    name = {"gravity": "g", "mass": "m", "length": "l"}[kind]
    setattr(env, name, getattr(env, name) * factor)


def mountain_car(env: gymnasium.Env, kind: str, factor: float) -> None:
    env.gravity *= factor


def rewritten(method: str, number: str) -> Callable[[gymnasium.Env, str, float], None]:
    """Return a change that multiplies a number in the source of a gymnasium method by the factor."""

    def change(env: gymnasium.Env, kind: str, factor: float) -> None:
        source = textwrap.dedent(inspect.getsource(getattr(type(env), method)))
        assert source.count(number) == 1
        scope = dict(vars(sys.modules[type(env).__module__]))
        exec(source.replace(number, f"({number} * {factor!r})"), scope)
        setattr(env, method, MethodType(scope[method], env))

    return change


ORIGINALS = {
    "CartPole-v1": cartpole,
    "Pendulum-v1": pendulum,
    "Acrobot-v1": rewritten("_dsdt", "9.8"),
    "MountainCar-v0": mountain_car,
    "MountainCarContinuous-v0": rewritten("step", "0.0025"),
}


@pytest.mark.parametrize("factor", [0.5, 1.25, 2.0])
@pytest.mark.parametrize(
    ("task", "kind"), [(task, kind) for task in CLASSIC for kind in suites.changes(task)]
)
def test_classic_physics_is_gymnasiums_with_the_same_change(task: str, kind: str, factor: float) -> None:
    """Play longer than an episode, with a policy that moves far: later episodes must be changed as well."""
    seeds = np.arange(4).reshape(2, 2)
    twin, plain = Perturbed(task, Perturbation(kind, factor), seeds, seeds), suites.make(task, seeds)
    originals = [gymnasium.make(task, disable_env_checker=True) for _ in seeds.flat]
    for env in originals:
        ORIGINALS[task](env.unwrapped, kind, factor)
    rng, box = np.random.default_rng(5), twin.spec.choices is None
    obs = twin.reset().reshape(4, -1)
    plain.reset()
    first = np.stack([env.reset(seed=int(seed))[0] for env, seed in zip(originals, seeds.flat, strict=True)])
    assert obs.tobytes() == first.tobytes()
    moved, ended = False, 0
    for _ in range(min(twin.spec.horizon + 20, 520)):
        actions = DRIVEN[task](obs, rng)
        actions = actions.astype(np.float32) if box else actions
        step = twin.step(actions.reshape(*twin.shape, *twin.spec.action_shape))
        usual = plain.step(actions.reshape(*twin.shape, *twin.spec.action_shape))
        moved |= step.next_obs.tobytes() != usual.next_obs.tobytes()
        obs = step.obs.reshape(4, -1)
        for i, (env, action) in enumerate(zip(originals, actions if box else actions.tolist(), strict=True)):
            next_obs, reward, *flags, _ = env.step(action)
            state = twin.batch.state()["physics"].reshape(4, -1)[i]
            assert step.next_obs.reshape(4, -1)[i].tobytes() == next_obs.tobytes()
            assert step.reward.flat[i] == reward
            assert [step.terminated.flat[i], step.truncated.flat[i]] == flags
            if any(flags):
                ended += 1
                assert obs[i].tobytes() == env.reset()[0].tobytes()
            else:
                assert state.tobytes() == np.asarray(env.unwrapped.state, np.float64).tobytes()
    assert moved and ended


def scale(model: mujoco.MjModel, kind: str, factor: float) -> None:
    """Scale a physical quantity of the model in place."""
    if kind == "mass":
        model.body_mass[:] = model.body_mass * factor
        model.body_inertia[:] = model.body_inertia * factor
    elif kind == "friction":
        model.geom_friction[:] = model.geom_friction * factor
    else:
        model.opt.gravity[:] = model.opt.gravity * factor
    mujoco.mj_setConst(model, mujoco.MjData(model))


@pytest.mark.parametrize(
    ("task", "kind", "factor"),
    [
        *(("Hopper-v5", kind, factor) for kind in ("mass", "friction", "gravity") for factor in (0.5, 2.0)),
        ("Humanoid-v5", "mass", 1.5),  # its reward uses the speed of the centre of mass
        ("HalfCheetah-v5", "friction", 0.0),
        ("InvertedDoublePendulum-v5", "gravity", 0.75),
    ],
)
def test_mujoco_physics_is_gymnasiums_with_the_same_change(task: str, kind: str, factor: float) -> None:
    seeds = np.array([[3], [4]])
    batch = Perturbed(task, Perturbation(kind, factor), seeds, seeds)
    rng, obs, ended = np.random.default_rng(2), batch.reset(), 0
    originals = [gymnasium.make(task, disable_env_checker=True) for _ in seeds]
    for row, env in enumerate(originals):
        scale(env.unwrapped.model, kind, factor)
        assert obs[row, 0].tobytes() == env.reset(seed=int(seeds[row, 0]))[0].astype(np.float32).tobytes()
    for _ in range(60):
        actions = random_actions(batch.spec.action_space, batch.shape, rng)
        step, state = batch.step(actions), batch.batch.state()["physics"]
        for row, env in enumerate(originals):
            next_obs, reward, *flags, _ = env.step(actions[row, 0])
            assert step.next_obs[row, 0].tobytes() == next_obs.astype(np.float32).tobytes()
            assert step.reward[row, 0] == reward
            assert [step.terminated[row, 0], step.truncated[row, 0]] == flags
            if any(flags):
                ended += 1
                env.reset()
            data = env.unwrapped.data
            own = np.concatenate((data.qpos, data.qvel))
            assert state[row, 0, : len(own)].tobytes() == own.tobytes()
    assert ended or task == "HalfCheetah-v5"


# Which changes have an effect, and on which batches.


def trajectory(batch: object, steps: int, seed: int = 0) -> bytes:
    """Return the bytes of everything that `steps` random steps return, from the start."""
    rng, found = np.random.default_rng(seed), [batch.reset().tobytes()]
    for _ in range(steps):
        step = batch.step(random_actions(batch.spec.action_space, batch.shape, rng))
        found += [field.tobytes() for field in step]
    return b"".join(found)


@pytest.mark.parametrize("task", MUJOCO)
def test_what_a_mujoco_task_lists_matters_and_nothing_else(task: str) -> None:
    """The smallest factor above 1 in the grid changes a random trajectory, for every quantity in `changes`.

    Other quantities have no effect: a curve over them would be flat for the wrong reason.
    """
    seeds, steps = np.arange(3)[:, None], 100
    plain = suites.make(task, seeds)
    usual = trajectory(plain, steps)
    for kind in suites.changes(task):
        changed = suites.make(task, seeds)
        changed.change(kind, 1.25)
        assert trajectory(changed, steps) != usual, kind
    for kind in {"mass", "friction", "gravity"} - set(suites.changes(task)):
        batch = suites.make(task, seeds)
        batch._model = copy.copy(batch._model)
        scale(batch._model, kind, 2.0)
        assert trajectory(batch, steps) == usual, kind
    assert set(suites.changes(task)) <= set(PHYSICS)
    # Tasks without friction in `changes` have no contacts, except Pusher, whose contacts have no friction.
    touches = sum(data.ncon for data in plain._data)
    assert "friction" in suites.changes(task) or (touches > 0) == (task == "Pusher-v5")


@pytest.mark.parametrize("task", TASKS)
def test_a_change_stays_in_its_batch(task: str) -> None:
    """Batches made before and after a change share a compiled model, and keep the default physics."""
    seeds, steps = np.arange(2)[:, None], 30
    usual, before = trajectory(suites.make(task, seeds), steps), suites.make(task, seeds)
    changed = [suites.make(task, seeds) for _ in suites.changes(task)]
    for kind, batch in zip(suites.changes(task), changed, strict=True):
        batch.change(kind, 1.5)
    assert len({trajectory(batch, steps) for batch in changed} | {usual}) == len(changed) + 1
    assert trajectory(before, steps) == trajectory(suites.make(task, seeds), steps) == usual


@pytest.mark.parametrize("task", TASKS)
def test_without_a_change_nothing_changes(task: str) -> None:
    """At the neutral level, or one beyond the end of the episode, every step equals the nominal one."""
    seeds, noise, steps = np.arange(4).reshape(2, 2), np.arange(9, 13).reshape(2, 2), 40
    usual = trajectory(suites.make(task, seeds), steps)
    assert trajectory(Perturbed(task, Perturbation(NOMINAL, 0.0), seeds, noise), steps) == usual
    for kind in perturb.kinds(task):
        level = KINDS[kind].neutral
        level = suites.TASKS[task].horizon if math.isinf(level) else level
        assert trajectory(Perturbed(task, Perturbation(kind, level), seeds, noise), steps) == usual, kind


def test_only_what_a_task_has_can_be_changed() -> None:
    for task, kind in (("CartPole-v1", "friction"), ("Reacher-v5", "gravity"), ("simple_tag_v3", "mass")):
        with pytest.raises(ValueError, match=f"{task} has no {kind} to change"):
            suites.make(task, np.zeros((1, 1), int)).change(kind, 2.0)


# Perturbed observations and actions.


def play(
    task: str, kind: str, level: float, steps: int = 60, shape: tuple[int, int] = (2, 40)
) -> SimpleNamespace:
    """Play random actions in a perturbed task.

    Returns `told` (T, ...), the chosen actions; `done` (T, ...), the executed actions; `seen` (T + 1, ...),
    the observations; and every field of Step, (T, ...).
    """
    seeds = np.arange(math.prod(shape)).reshape(shape)
    env = Perturbed(task, Perturbation(kind, level), seeds, 1000 + seeds)
    done, step = [], env.batch.step
    env.batch.step = lambda actions: (done.append(actions), step(actions))[1]
    rng = np.random.default_rng(4)
    told = [random_actions(env.spec.action_space, env.shape, rng) for _ in range(steps)]
    seen, found = [env.reset()], []
    for actions in told:
        found.append(env.step(actions.copy()))
        seen.append(found[-1].obs)
    fields = {name: np.stack([getattr(one, name) for one in found]) for name in suites.Step._fields}
    return SimpleNamespace(told=np.stack(told), done=np.stack(done), seen=np.stack(seen), **fields)


def true(found: SimpleNamespace) -> list[bytes]:
    """Return the bytes of all fields of Step except `obs`."""
    return [getattr(found, name).tobytes() for name in suites.Step._fields if name != "obs"]


@pytest.mark.parametrize("kind", ["drop", "rpc_dropout"])
@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1", "Hopper-v5"])
def test_drop(task: str, kind: str) -> None:
    """After the first ten, whole observations are missing; a higher level hides the same and more."""
    usual, missing = play(task, NOMINAL, 0), {}
    for level in (0.0, 0.25, 0.75, 1.0):
        found = play(task, kind, level)
        assert true(found) == true(usual)
        gone = missing[level] = np.isnan(found.seen)
        assert (gone.all(-1) == gone.any(-1)).all()
        assert not gone[:ALWAYS_SEEN].any()
        assert np.where(gone, usual.seen, found.seen).tobytes() == usual.seen.tobytes()
        share = gone[ALWAYS_SEEN:, ..., 0]
        assert abs(share.mean() - level) < 4 * math.sqrt(level * (1 - level) / share.size) + 1e-9
    assert (missing[0.25] <= missing[0.75]).all()
    assert ALWAYS_SEEN == 10 and missing[1.0][10:].all()
    share = missing[0.75][ALWAYS_SEEN:, ..., 0].mean(0)  # each environment has its own noise
    assert len(np.unique(share)) > 5 and not (missing[0.75][:, 0, 0] == missing[0.75][:, 1, 0]).all()
    hidden = play(task, "drop", 0.75).seen  # the same, whoever plays
    assert hidden.tobytes() == play(task, kind, 0.75).seen.tobytes()


def test_open_loop() -> None:
    usual = play("Pendulum-v1", NOMINAL, 0)
    for level in (1, 30, 59, 60, 61):
        found = play("Pendulum-v1", "open_loop", level)
        assert true(found) == true(usual)
        assert found.seen[:level].tobytes() == usual.seen[:level].tobytes()
        assert np.isnan(found.seen[level:]).all()


@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1", "Hopper-v5"])
def test_observation_noise(task: str) -> None:
    """Noise is normal with the given deviation in every component; the level only scales it."""
    usual = play(task, NOMINAL, 0)
    small, large = (play(task, "observation_noise", level) for level in (0.125, 4.0))
    assert true(small) == true(large) == true(usual)
    assert small.seen.dtype == np.float32
    noise = (large.seen.astype(float) - usual.seen) / 4.0
    assert (small.seen.astype(float) - usual.seen) / 0.125 == pytest.approx(noise, abs=1e-3)
    for column in np.moveaxis(noise, -1, 0):
        assert abs(column.mean()) < 4 / math.sqrt(column.size)
        assert column.std() == pytest.approx(1, abs=4 / math.sqrt(2 * column.size))
        assert np.mean(np.abs(column) < 1) == pytest.approx(0.6827, abs=4 * 0.47 / math.sqrt(column.size))
    assert np.abs(np.corrcoef(noise.reshape(-1, noise.shape[-1]).T) - np.eye(noise.shape[-1])).max() < 0.08


@pytest.mark.parametrize("task", ["Pendulum-v1", "Hopper-v5", "Humanoid-v5"])
def test_noise_on_actions_that_are_numbers(task: str) -> None:
    """Noise is relative to half the range, then clipped; at another level only its scale differs."""
    low, high = suites.TASKS[task].bounds
    shape = (1, 2) if task == "Humanoid-v5" else (2, 40)
    small, large = (play(task, "action_noise", level, shape=shape) for level in (0.0625, 0.25))
    assert small.told.tobytes() == large.told.tobytes() and small.done.dtype == np.float32
    for found in (small, large):
        assert (found.done >= low).all() and (found.done <= high).all()
        assert (found.done == low).any() and (found.done == high).any()
    inside = ((large.done > low) & (large.done < high)).nonzero()
    noise = [((found.done - found.told) / ((high - low) / 2))[inside] for found in (small, large)]
    assert noise[0] / 0.0625 == pytest.approx(noise[1] / 0.25, abs=1e-3)
    # So far from the bounds that noise of this size cannot reach them.
    quiet = np.abs(small.told) < 0.6 * high
    noise = (small.done - small.told)[quiet] / 0.0625 / high[0]
    assert noise.std() == pytest.approx(1, abs=4 / math.sqrt(2 * noise.size))
    assert abs(noise.mean()) < 4 / math.sqrt(noise.size)


@pytest.mark.parametrize("task", ["CartPole-v1", "Acrobot-v1"])
def test_noise_on_actions_that_are_choices(task: str) -> None:
    """The level is the probability of a random action; a higher level replaces the same actions and more."""
    n, changed = suites.TASKS[task].choices, {}
    for level in (0.2, 0.4, 1.0):
        found = play(task, "action_noise", level)
        assert found.done.dtype == found.told.dtype
        changed[level] = found.done != found.told
        share = level * (n - 1) / n
        assert abs(changed[level].mean() - share) < 4 * math.sqrt(share * (1 - share) / changed[level].size)
        counts = np.bincount(found.done.ravel()) / found.done.size  # all actions are equally frequent
        assert counts == pytest.approx([1 / n] * n, abs=4 * math.sqrt(1 / n / found.done.size))
    assert (changed[0.2] <= changed[0.4]).all() and (changed[0.4] <= changed[1.0]).all()


@pytest.mark.parametrize("level", [1, 2, 4, 100])
@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1"])
def test_action_delay(task: str, level: int) -> None:
    """The executed action was chosen `level` steps before; in the first steps it is the first action."""
    found = play(task, "action_delay", level)
    late = np.maximum(np.arange(len(found.told)) - level, 0)
    assert found.done.tobytes() == found.told[late].tobytes()
    assert found.seen[1:].tobytes() == found.obs.tobytes()
    again = Perturbed(task, Perturbation("action_delay", level), *[np.arange(80).reshape(2, 40)] * 2)
    again.reset()
    for actions, was in zip(found.told[late], found.next_obs, strict=True):
        assert again.batch.step(actions).next_obs.tobytes() == was.tobytes()


@pytest.mark.parametrize("kind", ["drop", "observation_noise", "action_noise"])
@pytest.mark.parametrize("task", ["Pendulum-v1", "CartPole-v1"])
def test_noise_belongs_to_its_environment(task: str, kind: str) -> None:
    """Noise depends only on the noise seed of its environment, not on other environments or its env seed."""
    level = {"drop": 0.5, "observation_noise": 0.1, "action_noise": 0.2}[kind]
    seeds, noise, steps = np.arange(6).reshape(2, 3), np.arange(50, 56).reshape(2, 3), 40
    rng = np.random.default_rng(0)
    told = np.stack([random_actions(suites.TASKS[task].action_space, (2, 3), rng) for _ in range(steps)])

    def seen(rows: slice, columns: slice, noise: np.ndarray = noise) -> np.ndarray:
        env = Perturbed(task, Perturbation(kind, level), seeds[rows, columns], noise[rows, columns])
        return np.stack([env.reset(), *(env.step(one[rows, columns]).obs for one in told)])

    everything = slice(None)
    whole = seen(everything, everything)
    for row in range(2):
        assert seen(slice(row, row + 1), everything)[:, 0].tobytes() == whole[:, row].tobytes()
    assert seen(everything, slice(1, 3)).tobytes() == np.ascontiguousarray(whole[:, :, 1:]).tobytes()
    other = noise.copy()
    other[1, 2] += 1
    same = np.array(
        [
            [
                seen(everything, everything, other)[:, r, c].tobytes() == whole[:, r, c].tobytes()
                for c in range(3)
            ]
            for r in range(2)
        ]
    )
    assert same.tolist() == [[True, True, True], [True, True, False]]


# Names, the grid, and errors.


@pytest.mark.parametrize("task", TASKS)
def test_grid(task: str) -> None:
    """The nominal task, then every level of every kind: enough for a curve, few enough to run."""
    found, horizon = perturb.grid(task), suites.TASKS[task].horizon
    assert found[0] == Perturbation(NOMINAL, 0.0) and 25 <= len(found) <= 49
    assert len({one.name for one in found}) == len(set(found)) == len(found)
    for one in found:
        perturb.check(task, one)
    assert dict.fromkeys(one.kind for one in found[1:]).keys() == set(perturb.kinds(task))
    assert set(perturb.kinds(task)) & set(PHYSICS) == set(suites.changes(task))
    for kind in perturb.kinds(task):
        own = tuple(one.level for one in found if one.kind == kind)
        cut = tuple(level for level in KINDS[kind].grid if kind != "open_loop" or level < horizon)
        assert own == cut and len(own) > 1
        # Policies that explore are compared with themselves, not with the greedy ones of the nominal task.
        assert (KINDS[kind].neutral in own) == (kind == "rpc_dropout")
    assert {one.kind for one in found if one.explore} == {"rpc_dropout"}


def test_a_team_has_none() -> None:
    for task in (task for task, spec in suites.TASKS.items() if spec.team):
        assert perturb.kinds(task) == () and perturb.grid(task) == (Perturbation(NOMINAL, 0.0),)


def test_names_tell_levels_apart() -> None:
    """Names are file names: one per level, whatever the number type of the level."""
    for level, name in ((0.5, "drop-0.5"), (1, "drop-1"), (1.0, "drop-1"), (0.1, "drop-0.1")):
        assert Perturbation("drop", level).name == name
    assert Perturbation("drop", 0.1234567).name != Perturbation("drop", 0.12345671).name
    assert Perturbation("open_loop", 1234567).name != Perturbation("open_loop", 1234568).name


CARTPOLE = "it has: drop, rpc_dropout, open_loop, observation_noise, adversary, action_noise, action_delay, "
REFUSED = {
    "team": (
        "simple_tag_v3",
        "mass",
        2.0,
        "simple_tag_v3 has no 'mass' .* nothing, as it has several agents",
    ),
    "team drop": ("simple_tag_v3", "drop", 0.5, "several agents"),
    "friction": (
        "CartPole-v1",
        "friction",
        2.0,
        f"has no 'friction' to perturb; {CARTPOLE}mass, length, gravity$",
    ),
    "gravity": ("Reacher-v5", "gravity", 2.0, "Reacher-v5 has no 'gravity' to perturb; it has: .*, mass$"),
    "kind": ("CartPole-v1", "dorp", 0.5, f"has no 'dorp' to perturb; {CARTPOLE}"),
    "no kind": ("CartPole-v1", "", 0.5, "has no '' to perturb"),
    "probability": ("CartPole-v1", "drop", 1.01, "^drop: 1.01 must be a number from 0 to 1$"),
    "negative": ("CartPole-v1", "drop", -0.1, "^drop: -0.1 must be a number from 0 to 1$"),
    "negative noise": ("CartPole-v1", "observation_noise", -1, "must be a number from 0 to 100$"),
    "negative friction": ("Hopper-v5", "friction", -0.5, "must be a number from 0 to 100$"),
    "massless": ("Hopper-v5", "mass", 0.0, "must be a number from 0.01 to 100$"),
    "heavy": ("Hopper-v5", "mass", 101, "must be a number from 0.01 to 100$"),
    "not a number": ("CartPole-v1", "drop", math.nan, "^drop: nan must be"),
    "no gravity": ("CartPole-v1", "gravity", math.nan, "^gravity: nan must be"),
    "half a step": (
        "CartPole-v1",
        "action_delay",
        1.5,
        "^action_delay: 1.5 must be a whole number from 0 to 100$",
    ),
    "half a step seen": (
        "CartPole-v1",
        "open_loop",
        2.5,
        "^open_loop: 2.5 must be a whole number of at least 1$",
    ),
    "never seen": ("CartPole-v1", "open_loop", 0, "^open_loop: 0 must be a whole number of at least 1$"),
    "never": ("CartPole-v1", "open_loop", math.inf, "^open_loop: inf must be"),
    "infinite noise": ("Pendulum-v1", "observation_noise", math.inf, "^observation_noise: inf must be"),
    "infinite attack": ("Pendulum-v1", "adversary", math.inf, "^adversary: inf must be"),
    "more than certain": ("CartPole-v1", "action_noise", 1.5, "must be a number from 0 to 1$"),
    "huge": ("Pendulum-v1", "adversary", 1e39, "must be a number from 0 to 100$"),
    "nominal": ("CartPole-v1", NOMINAL, 3.0, "^nominal: its level is 0, not 3$"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals(name: str) -> None:
    """`check` and the constructor raise an error of one line that lists the valid choices."""
    task, kind, level, message = REFUSED[name]
    for refused in (
        lambda one: perturb.check(task, one),
        lambda one: Perturbed(task, one, np.zeros((1, 1), int), np.zeros((1, 1), int)),
    ):
        with pytest.raises(ValueError, match=message) as refusal:
            refused(Perturbation(kind, level))
        assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("kind", KINDS)
def test_the_limits_themselves_are_levels(kind: str) -> None:
    task = "CartPole-v1" if kind == "length" else "Hopper-v5"
    for level in (KINDS[kind].low, KINDS[kind].high):
        if math.isfinite(level):
            perturb.check(task, Perturbation(kind, level))

"""Foreign environments: how they are named, adapted, classified, stepped, saved and restored."""

import gymnasium
import numpy as np
import pytest

from ascent import suites
from ascent.records import shapes
from ascent.suites import Foreign, foreign
from ascent.suites.replayed import episode_seed
from tests import strange_envs

HERE = "gym:tests.strange_envs:"
SEEDS = np.arange(6).reshape(3, 2)
GOOD = (f"{HERE}Walk-v0", "gym:Pendulum-v1", "gym:FrozenLake-v1", "gym:CartPole-v1", "gym:Reacher-v5")


def added(name: str, **declared: object) -> suites.foreign.ForeignTask:
    found = suites.foreign_task(suites.add(Foreign(name, **declared)))  # type: ignore[arg-type]
    assert found
    return found


def actions(spec: suites.Spec, steps: int, seed: int = 0) -> list[np.ndarray]:
    """Actions for three seeds of two environments."""
    flat = foreign.random_actions(spec, 6 * steps, seed)
    return list(flat.reshape(steps, 3, 2, *spec.action_shape))


@pytest.mark.parametrize("name", GOOD)
def test_a_batch_steps_the_environments_of_gymnasium(name: str) -> None:
    """Bit for bit what gymnasium's own environments return, each episode with the stated seed."""
    task = added(name)
    batch = suites.make(task.spec.id, SEEDS)
    obs = batch.reset()
    env = gymnasium.make(name.removeprefix("gym:"))
    space = env.observation_space
    one_hot = np.eye(int(space.n), dtype=np.float32) if isinstance(space, gymnasium.spaces.Discrete) else None

    def seen(value: object) -> np.ndarray:
        return np.float32(value) if one_hot is None else one_hot[value]  # type: ignore[call-overload]

    episode = 0
    expected, _ = env.reset(seed=episode_seed(3, 0))  # environment 1 of seed 1
    for action in actions(task.spec, 120):
        assert np.array_equal(obs[1, 1], seen(expected))
        step = batch.step(action)
        chosen = action[1, 1]
        expected, reward, terminated, truncated, _ = env.step(chosen if chosen.ndim else int(chosen))
        assert np.array_equal(step.next_obs[1, 1], seen(expected))
        assert (step.reward[1, 1], step.terminated[1, 1], step.truncated[1, 1]) == (
            reward, terminated, truncated,
        )  # fmt: skip
        if terminated or truncated:
            episode += 1
            expected, _ = env.reset(seed=episode_seed(3, episode))
        obs = step.obs
    assert episode or task.spec.horizon > 120


@pytest.mark.parametrize("name", GOOD)
def test_seeds_continue_in_any_packing(name: str) -> None:
    """A state cut out of one batch continues in another one, in another place, with the same bits."""
    task = added(name)
    batch = suites.make(task.spec.id, SEEDS)
    batch.reset()
    before, after = actions(task.spec, 30), actions(task.spec, 60, seed=1)
    for action in before:
        batch.step(action)
    state = batch.state()
    other = suites.make(task.spec.id, SEEDS[:2] + 50)
    other.reset()
    other.load_state({name: array[[2, 0]] for name, array in state.items()})
    for action in after:
        whole, part = batch.step(action), other.step(action[[2, 0]])
        for expected, got in zip(whole, part, strict=True):
            assert expected[[2, 0]].tobytes() == got.tobytes()


def test_retired_environments_are_not_stepped() -> None:
    task = added(f"{HERE}Walk-v0")
    batch, other = (suites.make(task.spec.id, SEEDS) for _ in range(2))
    assert np.array_equal(batch.reset(), other.reset())
    flags = np.zeros((3, 2), bool)
    flags[0] = True
    batch.retire(flags)
    for action in actions(task.spec, 60):
        step, whole = batch.step(action), other.step(action)
        assert np.array_equal(step.obs[1:], whole.obs[1:]) and not step.reward[0].any()


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        ("Walk", [True, True, True]),
        ("Careless", [False, False, False]),
        ("Remembering", [True, False, True]),
        ("Sharing", [True, True, False]),
    ],
)
def test_the_class_of_an_environment_is_found(kind: str, found: list[bool]) -> None:
    task = added(f"{HERE}{kind}-v0")
    assert foreign.tried(task, 40, 3) == found and len(foreign.TRIALS) == 3
    assert suites.guarantee(task.spec.id) == ("replayable" if all(found) else "loose")
    assert suites.guarantee("CartPole-v1") == "twin"


def test_a_loose_environment_ends_its_episodes_when_it_is_restored() -> None:
    task = added(f"{HERE}Careless-v0")
    batch = suites.make(task.spec.id, SEEDS)
    batch.reset()
    first, *rest = actions(task.spec, 10)
    last = batch.step(first)
    other = suites.make(task.spec.id, SEEDS)
    other.reset()
    other.load_state(batch.state())
    step = other.step(rest[0])
    assert step.truncated.all() and not step.terminated.any() and not step.reward.any()
    assert np.array_equal(step.next_obs, last.obs) and not np.array_equal(step.obs, last.obs)
    assert not other.step(rest[1]).truncated.any()


def test_a_replay_that_differs_is_refused() -> None:
    """An environment that seemed replayable: the message names the step, and what to do."""
    task = added(f"{HERE}Walk-v0")
    batch = suites.make(task.spec.id, SEEDS)
    batch.reset()
    for action in actions(task.spec, 5):
        batch.step(action)
    state = batch.state()
    state["marks"][1, 0, 3] += 1
    with pytest.raises(
        suites.EnvironmentFailed, match=r"differs \(at step 3 of its episode 0.*declare it loose"
    ) as e:
        suites.make(task.spec.id, SEEDS).load_state(state)
    assert e.value.row == 1


REFUSED = {
    f"{HERE}Pixels-v0": r"pixels of shape \(8, 8, 3\).*FlattenObservation",
    f"{HERE}Dictionary-v0": "observations are Dict.*FlattenObservation",
    f"{HERE}ManyChoices-v0": "actions are MultiDiscrete.*ActionWrapper",
    f"{HERE}Unbounded-v0": "no finite bounds",
    f"{HERE}Endless-v0": "no time limit.*--env max_episode_steps=1000",
    f"{HERE}Wolk-v0": "no such environment; did you mean Walk-v0",
    "gym:Pendlum-v1": "no such environment; did you mean Pendulum-v1",
    "gym:nowhere.at_all:X-v0": "No module named 'nowhere'.*PYTHONPATH",
    "jim:Pendulum-v1": "begins with gym:",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=REFUSED[name]) as error:
        suites.add(Foreign(name))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_an_environment_without_seeds_is_refused() -> None:
    with pytest.raises(suites.EnvironmentFailed, match="Unseedable-v0 cannot be seeded: TypeError"):
        suites.guarantee(suites.add(Foreign(f"{HERE}Unseedable-v0")))


@pytest.mark.parametrize(("kind", "step"), [("Breaking", 1000), ("Growing", 151)])
def test_a_failure_names_the_environment_and_the_step(kind: str, step: int) -> None:
    task = added(f"{HERE}{kind}-v0")
    batch = suites.make(task.spec.id, SEEDS)
    batch.reset()
    with pytest.raises(suites.EnvironmentFailed) as error:
        for number, action in enumerate(actions(task.spec, 1001), 1):  # noqa: B007  (the last one counts)
            batch.step(action)
    assert number == step and error.value.row == 0
    assert f"{kind}-v0 " in str(error.value) and "\n" not in str(error.value)
    assert f"of its episode {batch.state()['episodes'][0, 0]:,}," in str(error.value)


def test_wrappers_and_arguments_make_another_task() -> None:
    plain = added(f"{HERE}Walk-v0")
    wrapper = "tests.strange_envs:halved"
    wrapped = added(f"{HERE}Walk-v0", wrappers=(wrapper,), kwargs={"drift": 0.5})
    assert len({plain.spec.id, wrapped.spec.id, added(f"{HERE}Walk-v0", kwargs={"drift": 0.5}).spec.id}) == 3
    same = added(f"{HERE}Walk-v0", kwargs={"drift": 0.5}, wrappers=[wrapper])
    assert same.spec.id == wrapped.spec.id
    env, original = wrapped.make(), strange_envs.Walk(0.5)
    env.reset(3), original.reset(seed=3)
    assert env.step(np.float32([1]))[1] == original.step(1.0)[1] / 2
    for wrong, why in {
        "nowhere:X": "No module",
        "tests.strange_envs:no": "no attribute",
        "x": "write",
    }.items():
        with pytest.raises(ValueError, match=why):
            suites.add(Foreign(f"{HERE}Walk-v0", wrappers=(wrong,)))
    with pytest.raises(ValueError, match="kwargs may hold"):
        Foreign(f"{HERE}Walk-v0", kwargs={"drift": object()})


def test_a_flattened_dictionary_or_picture_is_supported() -> None:
    flat = ("gymnasium.wrappers:FlattenObservation",)
    assert added(f"{HERE}Dictionary-v0", wrappers=flat).spec.observation_size == 2
    assert added(f"{HERE}Pixels-v0", wrappers=flat).spec.observation_size == 192


@pytest.mark.parametrize("name", ["gym:Pendulum-v1", "gym:ALE/Pong-v5", "gym:a.b:C-v0", "gym:" + "x" * 300])
def test_a_task_has_a_name_that_a_folder_may_have(name: str) -> None:
    declared = [
        Foreign(name),
        Foreign(name, kwargs={"a": 1}),
        Foreign(name, name="my own"),
        Foreign(name, loose=True),
    ]
    for each in declared:
        content = {"suite": each.suite, "task": each.task, "environment": each.to_json()}
        fields = {name: shapes.NamedCellShape.model_fields[name] for name in content}
        assert set(fields) == set(content)
        shapes.EnvironmentShape.model_validate(each.to_json())
        assert Foreign(**each.to_json()) == each
    assert len({each.task for each in declared}) == len(declared)
    assert all(len(each.task) <= 100 and ":" not in each.task and "/" not in each.task for each in declared)
    assert Foreign("gym:Pendulum-v1").task == "gym-Pendulum-v1"


def test_what_defines_an_environment_is_named() -> None:
    """The distributions whose versions a run records, and the user's own files, whose digests it records."""
    reacher, walk = added("gym:Reacher-v5").spec, added(f"{HERE}Walk-v0").spec
    assert {"gymnasium", "mujoco", "numpy"} <= set(reacher.packages) and not reacher.modules
    assert "mujoco" not in walk.packages
    assert dict(walk.modules)["tests.strange_envs"].name == "strange_envs.py"


TEAMS = ("pettingzoo:mpe2.simple_spread_v3", "pettingzoo:mpe2.simple_speaker_listener_v4")


@pytest.mark.parametrize("continuous", [False, True])
@pytest.mark.parametrize("name", TEAMS)
def test_parallel_environments_equal_the_twins(name: str, continuous: bool) -> None:
    """This project's own implementation of the same worlds: the same bits, in every episode."""
    own = name.rpartition(".")[2] + ("-continuous" if continuous else "")
    task = added(name, kwargs={"continuous_actions": continuous})
    spec, twin = task.spec, suites.TASKS[own]
    assert spec.horizon == twin.horizon and spec.team and twin.team
    assert spec.team.agents == twin.team.agents
    batch = suites.make(spec.id, SEEDS)
    obs = batch.reset()
    for number in range(2):
        seeds = np.array([[episode_seed(seed, number) for seed in of_row] for of_row in SEEDS.tolist()])
        expected = suites.make(own, seeds)
        assert obs.tobytes() == expected.reset().tobytes()
        for action in actions(spec, spec.horizon, number):
            step, other = batch.step(action), expected.step(action)
            assert step.next_obs.tobytes() == other.next_obs.tobytes()
            assert np.array_equal(step.reward, other.reward)
            assert np.array_equal(step.truncated, other.truncated) and not step.terminated.any()
        obs = step.obs
    assert suites.guarantee(spec.id) == "replayable"


MEETING = "pettingzoo:tests.strange_teams"
REFUSED_TEAMS = {
    "pixels": r"seer: its observations are pixels of shape \(4, 4\)",
    "mixed": "some agents have Discrete actions",
    "endless": "no time limit.*--env max_episode_steps=1000",
    "named": "need names such as agent_0, not 'return'",
}


@pytest.mark.parametrize("kind", REFUSED_TEAMS)
def test_teams_that_are_not_supported_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match=f"^{MEETING}.*{REFUSED_TEAMS[kind]}"):
        suites.add(Foreign(MEETING, kwargs={"kind": kind}))


@pytest.mark.parametrize("name", ["pettingzoo:mpe2.simple_spred_v3", "pettingzoo:json"])
def test_a_team_that_is_not_there(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}: .*(No module named|has no attribute 'parallel_env')"):
        suites.add(Foreign(name))


def test_agents_of_a_team() -> None:
    """One-hot observations, a limit of its own, rewards by agent, and an end for all at once."""
    task = added(MEETING, kwargs={"max_episode_steps": 7})
    assert task.spec.horizon == 7 and task.spec.observation_size == 4
    batch = suites.make(task.spec.id, SEEDS)
    obs = batch.reset()
    assert np.array_equal(obs[..., 1:].sum(-1), np.ones((3, 2)))
    ends = []
    for action in actions(task.spec, 20):
        step = batch.step(action)
        assert np.allclose(step.reward[..., 1], 2 * step.reward[..., 0])
        assert np.array_equal(step.terminated, step.reward[..., 0] > -0.05)
        ends.append(step.truncated.any())
    assert ends.index(True) == 6
    leaving = suites.make(added(MEETING, kwargs={"kind": "leaving"}).spec.id, SEEDS)
    leaving.reset()
    with pytest.raises(suites.EnvironmentFailed, match=r"walker ended before the other agents.*at step 3 of"):
        for action in actions(task.spec, 4):
            leaving.step(action)

"""Which systems a task takes, which preset it gets where none is named, what a cell's digest covers, and
which budgets are refused.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from ascent import suites
from ascent.algorithms import SYSTEMS, a2c
from ascent.algorithms.seedwise import Fraction, Replay, Rollout, Streams, WholeEpisodes
from ascent.records import files, layout
from ascent.records.cell import Cell, Evaluation, read_cell
from ascent.records.errors import InputError
from ascent.runners.experience import ReplayStorage
from ascent.runners.resolve import _check_evaluations, first_update, make_agent, plain, resolve
from ascent.runners.train import train
from tests.command import call
from tests.small import results, small_cell

TEAM, ONE = "maddpg, iddpg, mappo, ippo", "reinforce, vpg, a2c, a3c, trpo, ppo, "
# Why, and who can do it.
REFUSED = {
    ("ppo", "simple_tag_v3"): ("ppo needs a single-agent task", TEAM),
    ("sac", "simple_spread_v3-continuous"): ("sac needs a single-agent task", TEAM),
    ("ddpg", "simple_world_comm-openai"): ("ddpg needs a single-agent task", TEAM),
    ("maddpg", "CartPole-v1"): ("maddpg needs a multi-agent task", f"{ONE}dqn"),
    ("ippo", "Pendulum-v1"): ("ippo needs a multi-agent task", f"{ONE}ddpg, td3, sac"),
    ("td3", "CartPole-v1"): ("td3 needs a continuous action space with bounds", f"{ONE}dqn"),
    ("dqn", "Hopper-v5"): ("dqn needs a discrete action space", f"{ONE}ddpg, td3, sac"),
}


@pytest.mark.parametrize(("system", "task"), REFUSED)
def test_refusal(
    system: str, task: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line with all that can do it and no other, exit code 2, nothing written."""
    monkeypatch.chdir(tmp_path)
    reason, able = REFUSED[system, task]
    code, out, err = call(capsys, "train", system, task)
    assert code == 2 and out == "" and err.count("\n") == 1
    assert err.startswith(f"error: {task}: {reason}; supported algorithms: {able}")
    said = err.strip().split(": ")[-1].split(", ")
    assert system not in said and ("ppo" in said) != ("mappo" in said)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("system", "task", "preset", "key"),
    [
        ("maddpg", "simple_tag_v3", "code", "default"),
        ("iddpg", "simple_tag-openai", "code", "openai"),
        ("mappo", "simple_tag-openai", "code", "default"),
        ("mappo", "simple_reference-openai", "code", "simple_reference-openai"),
        ("ppo", "CartPole-v1", "cleanrl", "discrete"),
        ("ppo", "Pendulum-v1", "cleanrl", "continuous"),
        ("trpo", "Acrobot-v1", "zoo", "Acrobot-v1"),
        ("sac-fixed", "Hopper-v5", "haarnoja-2018a", "default"),  # a default of its own
        ("sac-fixed", "Pendulum-v1", "zoo", "Pendulum-v1"),
    ],
)
def test_settings_of_the_task(system: str, task: str, preset: str, key: str) -> None:
    """The suite's default preset, and in its table the task, its kind, or the rest, in this order."""
    cell = resolve(system, task)
    assert cell.preset == preset
    settings = SYSTEMS[system].module().PRESETS[preset]
    assert cell.config == plain(settings[key]) | SYSTEMS[system].overrides


def test_defaults_are_not_in_the_digest() -> None:
    """The preset's own value gives the same cell, any other value another one; defaults are not listed."""
    cell = resolve("a2c", "CartPole-v1")
    defaults = plain(SYSTEMS["a2c"].module().Config())
    assert cell.settings == {name: value for name, value in cell.config.items() if value != defaults[name]}
    for name, value in defaults.items():
        one = resolve("a2c", "CartPole-v1", overrides={name: value})
        assert one.config[name] == value and name not in (one.settings or {})
        assert (one.digest == cell.digest) == (cell.config[name] == value), name
    assert len({resolve("a2c", "CartPole-v1", overrides={"gamma": x}).digest for x in (0.5, 0.6)}) == 2


@dataclass(frozen=True)
class Later(a2c.Config):
    """As a later version of the file may have it."""

    novelty: Fraction = 0.5  # was not there when the records were written


def stopped(cell: Cell, seeds: list[int], out: Path) -> None:
    calls = iter(range(100))
    assert not train(cell, seeds, out, checkpoint_seconds=0.0, stop=lambda: next(calls) == 20)


def test_a_later_hyperparameter_renames_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Finished and interrupted runs go on under it, from the command and from the record."""
    cell, out, seeds = small_cell("a2c", "CartPole-v1"), tmp_path / "runs", [0, 1, 2, 3]
    train(cell, seeds, tmp_path / "whole")
    train(cell, [0], out)
    stopped(cell, [1, 2], out)
    record = (cell.folder(out) / layout.CELL).read_bytes()
    monkeypatch.setattr(a2c, "Config", Later)
    later = small_cell("a2c", "CartPole-v1")
    assert later.digest == cell.digest and later.config == cell.config | {"novelty": 0.5}
    assert train(later, [0, 1], out)
    assert train(read_cell(cell.folder(out)), [2, 3], out)
    assert results(cell, out, seeds) == results(cell, tmp_path / "whole", seeds)
    assert (cell.folder(out) / layout.CELL).read_bytes() == record
    other = small_cell("a2c", "CartPole-v1", novelty=0.25)
    assert other.digest != cell.digest and (other.settings or {})["novelty"] == 0.25


@pytest.mark.parametrize("finished", [True, False])
def test_a_real_difference_is_refused(finished: bool, tmp_path: Path) -> None:
    """In the facts that no digest covers, and in hyperparameters at their defaults."""
    cell = small_cell("a2c", "CartPole-v1")
    if finished:
        train(cell, [0], tmp_path)
    else:
        stopped(cell, [0, 1], tmp_path)
    path = cell.folder(tmp_path) / layout.CELL
    facts = files.read_json(path)
    assert "gamma" not in facts["settings"]
    for change in (
        {"spec": facts["spec"] | {"horizon": 5}},
        {"config": facts["config"] | {"gamma": 0.5}},
        {"config": facts["config"] | {"older": 1}},
        {"config": {name: v for name, v in facts["config"].items() if name != "envs"}},
    ):
        files.write_json(path, facts | change)
        with pytest.raises(InputError, match=r"cell\.json describes another cell"):
            train(cell, [1], tmp_path)
    files.write_json(path, facts | {"source": {"title": "a better title"}})
    assert train(cell, [1], tmp_path)


def test_config_and_settings_agree() -> None:
    """The digest covers the settings alone: what they and the defaults give is what trains."""
    cell = small_cell("a2c", "CartPole-v1")
    with pytest.raises(
        InputError, match=r"config is not what its settings give: gamma was 0\.5, is now 0\.9"
    ):
        make_agent(replace(cell, config=cell.config | {"gamma": 0.5}), Streams([0], "init"), "cpu")
    record = cell.to_json()
    assert Cell.from_json(record) == cell
    with pytest.raises(TypeError):
        Cell.from_json(record | {"config": cell.config | {"envs": 7}})


PENDULUM = suites.TASKS["Pendulum-v1"]  # whose time limit is 200


def updates(experience: Replay, steps: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The steps after which the storage gives batches, asked at every step of all environments."""
    storage = ReplayStorage.__new__(ReplayStorage)
    storage.experience = experience
    monkeypatch.setattr(ReplayStorage, "sample", lambda self, rng: None)
    due = []
    for storage.seen in range(experience.envs, steps + 1, experience.envs):
        due += [storage.seen] * bool(storage.batches(Streams([0], "replay")))
    return due


@pytest.mark.parametrize("envs", [1, 2, 3, 7])
@pytest.mark.parametrize("every", [1, 4, 5, 50])
def test_first_update(envs: int, every: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the storage has it; of windows, by their length."""
    for starts in (0, 1, 13, 50, 101):
        experience = Replay(envs, 1000, 8, starts, every, 1)
        assert first_update(experience, PENDULUM) == updates(experience, 400, monkeypatch)[0]
    assert first_update(Rollout(16, envs), PENDULUM) == 16 * envs
    assert first_update(WholeEpisodes(2, envs), PENDULUM) == 400 * envs


def test_no_two_evaluations_in_one_step() -> None:
    """Refused are exactly the grids that training would thin: points at one step of all environments."""
    refused = 0
    for envs in (1, 2, 3, 8):
        for steps in range(envs, 60):
            for points in range(1, 70):
                grid = [steps * i // points for i in range(points + 1)]
                here = {next(x for x in range(0, steps + envs, envs) if x >= point) for point in grid}
                try:
                    _check_evaluations(envs, steps, Evaluation(points, 1))
                    assert len(here) == points + 1
                except InputError as error:
                    assert len(here) <= points
                    most = int(str(error).rpartition(" ")[2])
                    _check_evaluations(envs, steps, Evaluation(most, 1))
                    refused += 1
    assert refused > 1000

"""Training in environments from outside the project: the guarantees of their classes, and what goes wrong."""

import json
import os
import re
import sys
from collections.abc import Iterator
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import gymnasium
import pytest

import ascent
from ascent import suites
from ascent.records import files
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.reports.checking.check import check
from ascent.reports.checking.setting import Allowed
from ascent.reports.checking.verify import verify
from ascent.runners import environments, platform, robustness, watch
from ascent.runners import sweep as sweeps
from ascent.runners.resolve import describe, resolve
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from ascent.suites import Foreign
from tests.command import call
from tests.runners.test_kills import PHASES, die_at, in_child
from tests.small import others_slow, results, small_cell

HERE = "gym:tests.strange_envs:"
SEEDS = [0, 1]
# One-hot observations and discrete actions; a simulator; whole episodes; a user's own, with replay.
PAIRS = (
    ("ppo", "gym:FrozenLake-v1"),
    ("td3", "gym:Reacher-v5"),
    ("reinforce", f"{HERE}Walk-v0"),
    ("sac", f"{HERE}Walk-v0"),
    ("mappo", "pettingzoo:mpe2.simple_speaker_listener_v4"),
    ("maddpg", "pettingzoo:tests.strange_teams"),
)


@pytest.mark.parametrize(
    ("system", "environment"), others_slow(list(PAIRS), lambda system, name: name.partition(":")[0])
)
def test_twice_packed_and_killed(system: str, environment: str, tmp_path: Path) -> None:
    """The same bytes: from the start again, in other packs, and after kills in the midst of episodes."""
    cell = small_cell(system, environment)
    assert describe(cell)["guarantees"]["task"] == "replayable"
    assert train(cell, SEEDS, tmp_path / "whole")
    expected = results(cell, tmp_path / "whole", SEEDS)
    assert train(cell, [1], tmp_path / "packed") and train(cell, [0], tmp_path / "packed")
    assert results(cell, tmp_path / "packed", SEEDS) == expected
    kills = 0
    for phase, nth in (("rollout", 25), ("checkpoint", 14)):
        owner, name, _ = PHASES[phase]

        def attempt(owner=owner, name=name, nth=nth) -> None:
            die_at(owner, name, nth, before=False)
            train(cell, SEEDS, tmp_path / "killed", checkpoint_seconds=0.02)

        kills += os.WIFSIGNALED(in_child(attempt))
    assert kills == 2
    assert train(cell, [1], tmp_path / "killed") and train(cell, [0], tmp_path / "killed")
    assert results(cell, tmp_path / "killed", SEEDS) == expected


def stopped(cell: Cell, out: Path, after: int) -> None:
    """Train some steps and stop with a checkpoint."""
    stop = partial(next, chain(repeat(False, after), repeat(True)))
    assert not train(cell, SEEDS, out, stop=stop)


def test_a_loose_environment_trains_and_its_record_says_so(tmp_path: Path) -> None:
    """Interrupted in the midst of an episode, it goes on with new ones; the record stays sound."""
    cell = small_cell("ppo", f"{HERE}Careless-v0", steps=200)
    stopped(cell, tmp_path, 17)
    assert train(cell, SEEDS, tmp_path)
    facts = files.read_json(cell.folder(tmp_path) / "cell.json")
    assert facts["guarantees"] == {"task": "loose", "algorithm": "twin"}
    rules = {"training-episodes", "evaluation-protocol", "digest-ladder", "results-agree", "run-records"}
    outcomes = {outcome.rule: outcome for outcome in check(tmp_path).outcomes}
    assert rules <= set(outcomes)
    assert not [finding for rule in rules for finding in outcomes[rule].findings if not finding.note]


def test_an_environment_that_raises_is_a_recorded_failure(tmp_path: Path) -> None:
    """One line with environment, seed and step; the checkpoints stay, and the record says what happened."""
    cell = small_cell("ppo", f"{HERE}Breaking-v0", steps=4000, points=40)
    with pytest.raises(InputError) as error:
        train(cell, SEEDS, tmp_path, checkpoint_seconds=0.3)
    message = str(error.value)
    for part in (
        "Breaking-v0 raised RuntimeError: the simulator lost its mind (at step ",
        "seed 0, step 1,998",
    ):
        assert part in message
    assert "\n" not in message
    attempts = [
        files.read_json(cell.run_folder(seed, tmp_path) / "run.json")["attempts"][-1] for seed in SEEDS
    ]
    assert ["failure" in attempt for attempt in attempts] == [True, False]
    assert attempts[0]["failure"] in message
    assert all(attempt["to_step"] == 1998 and attempt["wall_s"] > 0 for attempt in attempts)
    assert all(list(cell.run_folder(seed, tmp_path).glob("checkpoint-*.bin")) for seed in SEEDS)


def test_a_changed_environment_is_not_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """A file of the user's own counts as a package does: its digest is in the record."""
    module = tmp_path / "changing_env.py"
    module.write_text((Path(__file__).parents[1] / "strange_envs.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    cell = small_cell("ppo", "gym:changing_env:Walk-v0", steps=200)
    stopped(cell, tmp_path / "runs", 17)
    module.write_text(module.read_text() + "# another one\n")
    platform.packages.cache_clear()
    with pytest.raises(InputError, match=r"cannot be resumed exactly: changing_env was .*, is now"):
        train(cell, SEEDS, tmp_path / "runs")


@pytest.fixture
def fresh() -> Iterator[None]:
    """Forget the tasks, modules and names of environments that a test adds."""
    tasks = set(suites.TASKS)
    registry = dict(gymnasium.registry)
    yield
    forget(tasks)
    gymnasium.registry.clear()
    gymnasium.registry.update(registry)


def forget(tasks: set[str]) -> None:
    for task in set(suites.TASKS) - tasks:
        del suites.TASKS[task], suites._FOREIGN[task]
    for module in ("changing_env", "evil_env", "strange_envs"):
        sys.modules.pop(module, None)
    platform.packages.cache_clear()


def test_a_strangers_environment_is_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """Reading, checking, reporting, loading and replaying a record runs no code that it names."""
    marker = tmp_path / "imported"
    code = (Path(__file__).parents[1] / "strange_envs.py").read_text()
    (tmp_path / "evil_env.py").write_text(f"{code}\nopen({str(marker)!r}, 'a').write('!')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    tasks = set(suites.TASKS)
    cell = small_cell("ppo", "gym:evil_env:Walk-v0")
    runs = tmp_path / "runs"
    assert train(cell, SEEDS, runs)
    forget(tasks)
    marker.unlink()
    folder = cell.folder(runs)
    check(runs)
    for depth in ("records", "policy", "start"):
        outcomes = verify(folder, depth)
        refused = [
            outcome.reason for outcome in outcomes if "run it with --run-recorded-code" in outcome.reason
        ]
        assert bool(refused) == (depth != "records")
    ascent.load(folder, seed=1)
    ascent.read(runs)
    ascent.report(runs, tmp_path / "report")
    for use in (
        lambda: robustness.parse_levels(cell.task, []),
        lambda: robustness.record(folder, [], 1),
        lambda: watch.film(folder / "seed-0", tmp_path / "film.gif"),
    ):
        with pytest.raises(InputError, match=r"foreign code|not a task of this project"):
            use()
    assert not marker.exists() and "evil_env" not in sys.modules
    outcomes = verify(folder, "policy", allowed=Allowed(run_recorded_code=True))
    assert marker.exists() and {outcome.verdict for outcome in outcomes} == {"replayed"}


def test_the_page_marks_a_loose_environment(tmp_path: Path) -> None:
    cell = small_cell("ppo", f"{HERE}Careless-v0")
    assert train(cell, SEEDS, tmp_path / "runs")
    ascent.report(tmp_path / "runs", tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "loose" in page and "not promised" in page


def test_commands(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, fresh: None
) -> None:
    """From the command line to a checked record, with arguments and a wrapper; bad input is one line."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
    monkeypatch.syspath_prepend(Path(__file__).parents[1])
    words = [
        "train",
        "ppo",
        "gym:strange_envs:Endless-v0",
        "--env",
        "max_episode_steps=30",
        "--env",
        "drift=0.5",
    ]
    words += ["--wrapper", "strange_envs:halved", "--seeds", "0-1", "--set", "steps=16", "--set", "envs=2"]
    options = ["--evaluations", "2", "--episodes", "2", "--runs", str(tmp_path)]
    code, out, err = call(capsys, *words, "--set", "minibatch=8", "--steps", "128", *options)
    assert code == 0, err
    facts = json.loads((Path(out.strip()) / "cell.json").read_text())
    assert facts["environment"] == {
        "id": "gym:strange_envs:Endless-v0",
        "kwargs": {"drift": 0.5, "max_episode_steps": 30},
        "wrappers": ["strange_envs:halved"],
    }
    assert facts["spec"]["horizon"] == 30
    for wrong, why in (
        (["train", "ppo", "gym:strange_envs:Walk-v0"], "no default budget"),
        (["train", "ppo", "gym:strange_envs:Wolk-v0"], "did you mean Walk-v0"),
        (["train", "dqn", "gym:strange_envs:Walk-v0", "--steps", "500"], "supported algorithms: "),
        (["train", "ppo", "gym:strange_envs:Unseedable-v0", "--steps", "500"], "cannot be seeded"),
        (["train", "ppo", "gym:not_here:X-v0"], "No module named 'not_here'"),
        (["train", "ppo", "CartPole-v1", "--env", "x=1"], "CartPole-v1 takes neither --env"),
        (["crossplay", "gym:CartPole-v1"], "unknown task"),
    ):
        code, _, err = call(capsys, *wrong)
        assert code == 2 and why in err and err.count("\n") == 1, err


def test_a_task_of_an_installed_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point declares a task with its anchors and its budget."""
    declared = Foreign(f"{HERE}Walk-v0", random_score=-20.0, reference_score=-1.0, budget=5000)

    class Entry:
        name, value, dist = "walking", "somewhere:walking", None

        def load(self) -> object:
            return declared

    monkeypatch.setattr(
        environments, "entry_points", lambda group: [Entry()] if group == "ascent.tasks" else []
    )
    cell = resolve("ppo", "walking")
    assert cell.task.startswith("gym-walking-") and cell.steps == 5000
    assert describe(cell)["spec"]["random_score"] == -20.0
    environments.admit(Cell.from_json(json.loads(json.dumps(cell.to_json()))))
    with pytest.raises(InputError, match="not named after its environment"):
        environments.admit(Cell.from_json(cell.to_json() | {"task": "CartPole-v1"}))
    with pytest.raises(InputError, match="unknown task 'walkin'; did you mean 'walking'"):
        resolve("ppo", "walkin")
    declared = "no task"  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"is not an ascent\.suites\.Foreign, but str"):
        resolve("ppo", "walking")


def test_the_state_of_a_foreign_task_is_small(tmp_path: Path) -> None:
    """A checkpoint holds the running episodes' actions, not what the environments are made of."""
    trainer = Trainer(small_cell("ppo", f"{HERE}Walk-v0"), SEEDS)
    state = {name: x for name, x in trainer.state_dict().items() if name.startswith("env/")}
    assert set(state) == {f"env/{n}" for n in ("seeds", "episodes", "elapsed", "actions", "marks", "obs")}
    assert all(len(x) == len(SEEDS) for x in state.values())


SWEEP = """
seeds = "0-1"
evaluations = 2

[[environments]]
name = "drifting"
id = "gym:tests.strange_envs:Walk-v0"
kwargs = { drift = 0.5 }
wrappers = ["tests.strange_envs:halved"]
steps = 5000
random_score = -9
reference_score = -1.0

[[cells]]
algorithms = ["ppo", "sac"]
tasks = ["drifting", "gym:Pendulum-v1", "Pendulum-v1"]
steps = 6000
"""


def test_a_sweep_declares_environments(tmp_path: Path) -> None:
    path = tmp_path / "sweep.toml"
    path.write_text(SWEEP)
    cells = [planned.cell for planned in sweeps.load(str(path)).planned]
    assert [cell.suite for cell in cells] == ["gym"] * 4 + ["classic"] * 2
    drifting = cells[0]
    assert drifting.task.startswith("gym-drifting-")
    assert describe(drifting)["spec"]["random_score"] == -9.0
    for line, wrong, why in (
        ('id = "gym:tests', 'idd = "gym:tests', "unknown key of environments 'idd'; did you mean 'id'"),
        ("steps = 5000", 'steps = "5000"', "budget must be a whole number"),
        ("random_score = -9", "random_score = true", "random_score must be a number"),
        ("{ drift = 0.5 }", "{ drift = 1979-05-27 }", "kwargs may hold"),
        ('["tests.strange_envs:halved"]', '"tests.strange_envs:halved"', "wrappers are a list"),
        ('"drifting", "gym:Pend', '"driftin", "gym:Pend', "unknown task 'driftin'; did you mean 'drifting'"),
    ):
        assert line in SWEEP
        path.write_text(SWEEP.replace(line, wrong))
        with pytest.raises(InputError, match=re.escape(why)):
            sweeps.load(str(path))


@pytest.mark.parametrize("kind", ["Walk", "Careless", "Remembering"])
def test_conform(kind: str, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table, the class, and the exit code."""
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    code, out, err = call(capsys, "conform", f"{HERE}{kind}-v0", "--episodes", "10")
    assert not err and "random_score = -" in out
    failed = [line.split("  ")[0] for line in out.splitlines() if "FAIL" in line]
    if kind == "Walk":
        assert code == 0 and "Walk-v0 is replayable: " in out and not failed
    else:
        assert (
            code == 1 and f"{kind}-v0 is loose: " in out and "the same episode after other episodes" in failed
        )
        assert "restored in the midst of an episode" in failed
    assert ("the same episode in another process" in failed) == (kind == "Careless")


def test_conform_refuses(capsys: pytest.CaptureFixture) -> None:
    for target, why in (
        ("CartPole-v1", "no environment from outside"),
        ("gym:CartPol-v1", "did you mean CartPole-v1"),
    ):
        code, _, err = call(capsys, "conform", target)
        assert code == 2 and why in err and err.count("\n") == 1

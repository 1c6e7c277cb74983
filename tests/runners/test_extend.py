"""An extended run has the same bytes as one that was planned so from the start, or it is refused."""

from dataclasses import replace
from pathlib import Path

import pytest

from ascent.algorithms import SYSTEMS
from ascent.records import files, layout, ledger
from ascent.records.cell import Cell, Evaluation
from ascent.records.errors import InputError
from ascent.records.plan import Plan, Planned
from ascent.runners import extend
from ascent.runners.train import train
from tests.command import call
from tests.reports.test_seal import killed_at
from tests.runners.test_faults import flip
from tests.small import results, small_cell, systems_and_tasks

SEEDS = [0, 1]
# Several environments whose number divides no evaluation; replay; a window that the shorter budget cuts.
CASES = (
    ("a2c", "CartPole-v1", {"envs": 7}),
    ("td3", "Pendulum-v1", {"hidden": [8]}),
    ("ppo", "CartPole-v1", {"anneal": False, "envs": 3}),
)


def cells(system: str, task: str, **settings: object) -> tuple[Cell, Cell]:
    """A cell with five evaluations, and the same with a budget of the first three."""
    long = small_cell(system, task, steps=200, points=5, **settings)
    assert long.steps % 5 == 0
    return replace(long, steps=long.steps // 5 * 3, evaluation=Evaluation(3, long.evaluation.episodes)), long


def begin(short: Cell, runs: Path, seeds: list[int] = SEEDS) -> None:
    assert train(short, seeds, runs, keep_checkpoint=True)


def extended(long: Cell, runs: Path, seeds: list[int] = SEEDS) -> None:
    """What `ascent train --extend` does."""
    plan = ledger.declare(Plan((Planned(long, tuple(seeds)),)), runs)
    extend.extension(long, seeds, runs).take_over(plan, "cpu")
    assert train(long, seeds, runs, plan=plan)


def same(long: Cell, tmp_path: Path) -> None:
    """Extended from runs/, and planned so."""
    begun = [files.read_json(long.run_folder(seed, tmp_path / "runs") / "run.json") for seed in SEEDS]
    assert all(about["attempts"][-1]["from_step"] > 0 and about["extended"]["steps"] for about in begun)
    assert train(long, SEEDS, tmp_path / "planned")
    assert results(long, tmp_path / "runs", SEEDS) == results(long, tmp_path / "planned", SEEDS)


@pytest.mark.parametrize(("system", "task", "settings"), CASES)
def test_an_extended_run_is_one_that_was_planned_so(
    system: str, task: str, settings: dict, tmp_path: Path
) -> None:
    short, long = cells(system, task, **settings)
    begin(short, tmp_path / "runs")
    before = results(short, tmp_path / "runs", SEEDS)
    extended(long, tmp_path / "runs")
    same(long, tmp_path)
    assert results(short, tmp_path / "runs", SEEDS) == before
    assert train(short, SEEDS, tmp_path / "plain")
    assert results(short, tmp_path / "plain", SEEDS) == before, "a kept checkpoint changes no record"
    assert not list((tmp_path / "plain").rglob("*.bin"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("system", "task"), systems_and_tasks(("CartPole-v1", "Pendulum-v1", "simple_reference-openai"))
)
def test_every_system_is_extended_exactly_or_refused(system: str, task: str, tmp_path: Path) -> None:
    """A new system that uses the share of the budget in another setting fails here."""
    short, long = cells(system, task, anneal=False)
    try:
        extend.refuse_schedules(long)
    except InputError:
        assert "exploration" in long.config
        return
    begin(short, tmp_path / "runs")
    extended(long, tmp_path / "runs")
    same(long, tmp_path)


def test_what_the_budget_decides_is_refused(tmp_path: Path) -> None:
    """By the setting that forbids it. It would be wrong: the bytes of the first part differ."""
    for system, name in (("ppo", "anneal = true: the learning rate falls"), ("dqn", "exploration = ")):
        short, long = cells(system, "CartPole-v1")
        with pytest.raises(InputError, match=f"{system} cannot be extended with {name}"):
            extend.extension(long, SEEDS, tmp_path)
    short, long = cells("ppo", "CartPole-v1")
    assert train(short, [0], tmp_path) and train(long, [0], tmp_path)
    first, whole = (results(cell, tmp_path, [0])[0]["metrics.csv"] for cell in (short, long))
    assert not whole.startswith(first)
    extend.refuse_schedules(replace(long, config=long.config | {"anneal_steps": 1000}))


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    short, long = cells("a2c", "CartPole-v1")
    with pytest.raises(InputError, match=r"no run of .* with fewer than 200 steps is in"):
        extend.extension(long, SEEDS, tmp_path)
    begin(short, tmp_path, [0])
    assert train(short, [1], tmp_path)
    with pytest.raises(
        InputError, match=r"seeds 1 kept no checkpoint at their end.*all 200 steps are trained"
    ):
        extend.extension(long, SEEDS, tmp_path)
    with pytest.raises(InputError, match="seeds 2-3 are not finished"):
        extend.extension(long, [0, 2, 3], tmp_path)
    with pytest.raises(InputError, match=r"3 in 120 steps, and 4 in 200 .*: say --evaluations 5$"):
        extend.extension(replace(long, evaluation=Evaluation(4, 2)), [0], tmp_path)
    other = small_cell("a2c", "CartPole-v1", steps=200, points=5, gamma=0.5)
    with pytest.raises(InputError, match=r"has other config.gamma$"):
        extend.extension(other, [0], tmp_path)
    assert extend.points(replace(long, evaluation=Evaluation(50, 2)), tmp_path) == 5
    with pytest.raises(InputError, match=r"190 hold no whole number of these intervals, 160 do"):
        extend.points(replace(long, steps=190), tmp_path)
    about = short.run_folder(0, tmp_path) / "run.json"
    files.write_json(about, files.read_json(about) | {"measures": ["gradient_variance"]})
    with pytest.raises(InputError, match="seed 0 was trained with other measures"):
        extend.extension(long, [0], tmp_path)
    path = short.run_folder(0, tmp_path) / layout.checkpoint(short.steps)
    flip(path, 4000)
    files.write_json(about, files.read_json(about) | {"measures": []})
    with pytest.raises(InputError, match="is damaged"):
        extended(long, tmp_path, [0])
    assert not long.run_folder(0, tmp_path).exists()


@pytest.mark.parametrize("stage", [("ascent.records.files.write_sealed", 1), ("pathlib.Path.rename", 2)])
def test_a_killed_extension_goes_on(stage: tuple, tmp_path: Path) -> None:
    """Before a record is begun, and between two of them: no half of one stays."""
    short, long = cells("td3", "Pendulum-v1", hidden=[8])
    begin(short, tmp_path / "runs")
    plan = Plan((Planned(long, tuple(SEEDS)),))
    name = ledger.declare(plan, tmp_path / "runs")
    killed_at(*stage, lambda: extend.extension(long, SEEDS, tmp_path / "runs").take_over(name, "cpu"))
    assert len(list(long.folder(tmp_path / "runs").glob("seed-*"))) == stage[1] - 1
    extended(long, tmp_path / "runs")
    same(long, tmp_path)


def test_a_kill_before_the_result_costs_nothing(tmp_path: Path) -> None:
    """The checkpoint at the end of the budget is there, the result is not: the score is the same, too."""
    short, _ = cells("a2c", "CartPole-v1")
    kill = ("ascent.records.run.files.write_json", 1, lambda: begin(short, tmp_path / "runs"), layout.RESULT)
    killed_at(*kill)
    folder = short.run_folder(0, tmp_path / "runs")
    assert (folder / layout.checkpoint(short.steps)).exists() and not (folder / layout.RESULT).exists()
    begin(short, tmp_path / "runs")
    assert train(short, SEEDS, tmp_path / "plain")
    assert results(short, tmp_path / "runs", SEEDS) == results(short, tmp_path / "plain", SEEDS)
    assert (folder / layout.checkpoint(short.steps)).exists()
    begin(short, tmp_path / "runs", [*SEEDS, 2])
    assert (folder / layout.checkpoint(short.steps)).exists(), "a finished run in a later pack keeps it"


def test_a_diverged_run_is_trained_again(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    short, long = cells("a2c", "CartPole-v1", learning_rate=1e30)
    begin(short, tmp_path / "runs")
    result = files.read_json(short.run_folder(0, tmp_path / "runs") / "result.json")
    assert result["status"] == "diverged"
    assert extend.extension(long, SEEDS, tmp_path / "runs").seeds == ()
    assert "seeds 0-1 diverged: they are trained from the start" in capsys.readouterr().err


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    words = [
        "train",
        "a2c",
        "CartPole-v1",
        "--episodes",
        "2",
        "--seeds",
        "0",
        "--jobs",
        "1",
        "--runs",
        str(tmp_path),
    ]
    code, _, err = call(capsys, *words, "--steps", "800", "--evaluations", "2", "--keep-checkpoint")
    assert code == 0, err
    code, out, err = call(capsys, *words, "--steps", "2000", "--extend")
    assert code == 0, err
    (cell,) = [path for path in tmp_path.glob("*/*/*") if str(path) == out.strip()]
    described = files.read_json(cell / "cell.json")
    assert (described["steps"], described["evaluation"]["points"]) == (2000, 5)
    about = files.read_json(cell / "seed-0" / "run.json")
    assert [attempt["from_step"] for attempt in about["attempts"]] == [0, 800]
    code, _, err = call(capsys, *words, "--steps", "2000", "--extend")
    assert code == 0 and "nothing to do" in err
    code, _, err = call(capsys, *words, "--steps", "900", "--extend")
    assert code == 2 and "hold no whole number of these intervals" in err
    code, _, err = call(capsys, "train", "ppo", *words[2:], "--steps", "8000", "--extend")
    assert code == 2 and "ppo cannot be extended with anneal = true" in err
    assert not list(tmp_path.glob("*/*/ppo*"))


def test_systems_are_known() -> None:
    """Every schedule that is named is a hyperparameter of a system."""
    known = {name for system in SYSTEMS.values() for name in system.module().Config.__dataclass_fields__}
    assert set(extend.SCHEDULES) <= known

"""Files with the accidents that people's files have: each is kept as what it is, or refused in one line."""

import json
from pathlib import Path

import pytest

from ascent.records.declared import Declared
from ascent.records.read import DIVERGED, DONE, UNFINISHED, CellRecord, load
from ascent.reports.statistics.aggregate import aggregate
from tests.command import call

DATA = Path(__file__).parents[2] / "data" / "imports"
TEAM_TASK = "simple_spread_v3"
KNOWN = ("--policy", "greedy", "--episodes", "5", "--environment-version", TEAM_TASK)


def bring(
    capsys: pytest.CaptureFixture, runs: Path, *words: str, task: str = "CartPole-v1"
) -> tuple[int, str]:
    """Import a file of tests/data/imports as a user would: exit code, standard error."""
    place = [str(DATA / words[0]), *words[1:]]
    code, _, err = call(capsys, "import", *place, "--system", "X", "--task", task, "--runs", str(runs))
    return code, err


def imported(capsys: pytest.CaptureFixture, runs: Path, *words: str, task: str = "CartPole-v1") -> CellRecord:
    code, err = bring(capsys, runs, *words, task=task)
    assert code == 0, err
    (cell,) = load(runs)
    return cell


def refused(capsys: pytest.CaptureFixture, runs: Path, *words: str, task: str = "CartPole-v1") -> str:
    code, err = bring(capsys, runs, *words, task=task)
    assert code == 2 and err.count("\n") == 1 and not runs.exists()
    return err


def test_a_short_seed_is_unfinished(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """Nothing of it is dropped, the cell is incomplete, and there is no score."""
    cell = imported(capsys, tmp_path, "short.csv")
    assert [run.state for run in cell.runs] == [DONE, DONE, DONE, UNFINISHED, DONE]
    assert cell.runs[3].note == "at step 60,000" and not cell.complete
    rows = (tmp_path / cell.name.folder / "seed-3" / "eval.csv").read_text().splitlines()
    assert len(rows) == 1 + 7 and rows[-1] == "60000,greedy,0,63.0,0,0"
    (task,) = aggregate([cell], Declared())
    assert task.cells[0].refusal == "incomplete 4/5" and task.cells[0].score is None


def test_a_seed_of_nan_diverged(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """It is scored as a diverged run of the suite's own: by its worst evaluation."""
    cell = imported(capsys, tmp_path, "nan.csv")
    assert [run.state for run in cell.runs] == [DONE, DONE, DONE, DIVERGED, DONE]
    assert cell.runs[3].result["steps"] == 70_000 and cell.runs[3].greedy.index[-1] == 60_000
    (task,) = aggregate([cell], Declared())
    score = task.cells[0].score
    assert score is not None and score.failures == 1
    assert list(task.cells[0].sample) == [55.0, 56.0, 57.0, 3.0, 59.0]  # below the random score of 22.3


def test_evaluations_with_different_numbers_of_episodes(
    capsys: pytest.CaptureFixture, tmp_path: Path
) -> None:
    cell = imported(capsys, tmp_path, "ragged.csv")
    assert cell.facts["config"]["episodes"] == {"3": 5, "4": 1}
    assert cell.runs[0].greedy.tolist() == [1, 1, 1] and cell.runs[1].greedy.tolist() == [1, 1.5, 1]
    assert cell.runs[1].means["episodes"].tolist() == [3, 4, 3]


def test_a_team_needs_a_convention(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    err = refused(capsys, tmp_path / "runs", "team.csv", task=TEAM_TASK)
    assert "--convention is needed" in err
    cell = imported(capsys, tmp_path / "runs", "team.csv", "--convention", "sum", *KNOWN, task=TEAM_TASK)
    assert cell.runs[0].greedy.tolist() == [-60] * 11  # as it is: nothing is divided by the number of agents
    (task,) = aggregate([cell], Declared())
    assert task.unlike == (
        "Imported, described and not compared: X (their returns are the sum over the agents).",
    )


def test_the_convention_of_the_task_is_compared(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    cell = imported(capsys, tmp_path / "runs", "team.csv", "--convention", "mean", *KNOWN, task=TEAM_TASK)
    assert aggregate([cell], Declared())[0].unlike == ()


def test_different_steps_need_a_grid(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    err = refused(capsys, tmp_path / "runs", "one_step_grid.csv")
    assert "different steps" in err and "--interpolate linear 10000" in err
    cell = imported(capsys, tmp_path / "runs", "one_step_grid.csv", "--interpolate", "linear", "1000")
    assert cell.facts["steps"] == 10_000
    assert cell.facts["config"]["interpolation"] == {"kind": "linear", "every": 1000}
    assert cell.runs[0].greedy.tolist() == [10 * k for k in range(1, 11)]
    assert cell.runs[1].greedy.tolist() == pytest.approx([10 * k + 1 - 0.07 for k in range(1, 11)])


def test_step_interpolation_takes_the_last_point(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    cell = imported(capsys, tmp_path / "runs", "one_step_grid.csv", "--interpolate", "step", "1000")
    assert cell.runs[1].greedy.tolist() == [10 * k + 1 for k in range(10)]


@pytest.mark.parametrize(
    ("file", "steps", "returns"),
    [
        ("monitor.csv", [20, 41, 63, 86, 110, 135, 161, 188, 216, 245, 275, 306], range(20, 32)),
        ("tensorboard_export.csv", range(1000, 11_000, 1000), range(10, 110, 10)),
        ("progress.txt", range(4000, 44_000, 4000), [12.5 * k for k in range(10)]),
    ],
)
def test_logs_of_one_run(
    capsys: pytest.CaptureFixture, tmp_path: Path, file: str, steps: range, returns: range
) -> None:
    cell = imported(capsys, tmp_path / "runs", file)
    (run,) = cell.runs
    assert run.greedy.index.tolist() == list(steps) and run.greedy.tolist() == list(returns)


def test_a_file_that_names_its_environment(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    cell = imported(capsys, tmp_path / "runs", "monitor.csv")
    assert cell.facts["config"]["environment"] == "CartPole-v1"
    assert cell.facts["config"]["episodes"] == 1
    for words in (["--environment-version", "CartPole-v0"], []):
        task = "CartPole-v1" if words else "Acrobot-v1"
        err = refused(capsys, tmp_path / "other", "monitor.csv", *words, task=task)
        assert "says that it is of CartPole-v1, not of " in err


def test_a_chart_of_wandb_with_a_hole(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    """A seed a run, without __MIN and __MAX. What the run did not log is not made up."""
    cell = imported(capsys, tmp_path / "runs", "wandb_wide.csv")
    assert cell.facts["config"]["runs"] == {"0": "ppo__1", "1": "ppo__2"}
    assert cell.runs[0].greedy.tolist() == [10 * k for k in range(1, 11)]
    assert cell.runs[1].greedy.tolist() == [9 * k for k in range(1, 11) if k != 5]
    (task,) = aggregate([cell], Declared())
    assert list(task.cells[0].sample) == [500 / 9, 50.0]  # over the nine steps that both have
    assert "X: step 5,000 left out, at which an imported seed has no evaluation." in task.warnings


@pytest.mark.parametrize("copies", [1, 200_000])
def test_a_json_list_is_refused_whatever_its_size(
    capsys: pytest.CaptureFixture, tmp_path: Path, copies: int
) -> None:
    rows = json.loads((DATA / "list.json").read_text())[:1] * copies
    (tmp_path / "list.json").write_text(json.dumps(rows))
    err = refused(capsys, tmp_path / "runs", str(tmp_path / "list.json"))
    assert "it holds a JSON list" in err and len(err) < 300


def test_a_folder_of_several_formats(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    err = refused(capsys, tmp_path / "runs", str(DATA))
    assert "files of several formats" in err and "choose one by --format" in err
    cell = imported(capsys, tmp_path / "runs", str(DATA), "--format", "wandb-chart")
    assert len(cell.runs) == 2

"""`ascent import`: curves become records that load and pass every check; bad ones leave nothing."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ascent.records import run as records
from ascent.records.cell import Cell, Evaluation
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.read import load
from ascent.reports.checking import check
from ascent.reports.imports import importing
from ascent.reports.imports.curve import Asked
from ascent.reports.statistics import verdicts
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.comparisons import compare
from ascent.runners import resolve
from tests.command import call

STEPS = range(0, 110_000, 10_000)


def table(seeds: int = 3, episodes: int = 0) -> pd.DataFrame:
    """Long curves: returns seed * 100 + step / 1000, or that plus the episode's number."""
    rows = [
        {"seed": seed, "step": step, "return": seed * 100 + step / 1000 + max(episode, 0)}
        | ({"episode": episode} if episodes else {})
        for seed in range(seeds)
        for step in STEPS
        for episode in (range(episodes) if episodes else [-1])
    ]
    return pd.DataFrame(rows)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "curves.csv"
    table().to_csv(path, index=False)
    return path


def bring(*paths: Path, **changes: object) -> Path:
    options = {"name": "SB3 PPO", "task": "CartPole-v1", "out": paths[0].parent / "runs"} | changes
    return importing.import_curves(paths, **options).folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_curves_become_records(csv: Path) -> None:
    folder = bring(csv)
    assert folder.parent == csv.parent / "runs" / "classic" / "CartPole-v1"
    (cell,) = load(csv.parent / "runs")
    assert cell.imported and cell.complete and cell.name.system == "sb3-ppo"
    assert [run.seed for run in cell.runs] == [0, 1, 2]
    for run in cell.runs:
        assert run.greedy.index.tolist() == list(STEPS)
        assert run.greedy.tolist() == [run.seed * 100 + step / 1000 for step in STEPS]
    assert cell.facts["steps"] == 100_000
    assert cell.facts["evaluation"] == {"points": 10, "episodes": 1}
    assert Cell.from_json(cell.facts).digest == cell.facts["digest"]
    assert cell.facts["config"]["name"] == "SB3 PPO"
    assert all(check.passed([outcome]) for outcome in check.check(csv.parent / "runs").outcomes)


def test_the_task_is_described_as_in_cells_that_are_trained(csv: Path) -> None:
    folder = bring(csv)
    trained = resolve.describe(resolve.resolve("ppo", "CartPole-v1", evaluation=Evaluation(10, 1)))
    imported = json.loads((folder / "cell.json").read_text())
    # The hyperparameters of other libraries are not known, nor is a preset, and nothing is promised.
    assert imported.keys() == trained.keys() - {"settings", "source", "guarantees"}
    assert imported["spec"] == json.loads(json.dumps(trained["spec"]))
    assert importing.FORMAT == records.FORMAT


def test_scores(csv: Path) -> None:
    bring(csv)
    (task,) = aggregate(load(csv.parent / "runs"), Declared())
    (summary,) = task.cells
    assert list(summary.sample) == [55.0, 155.0, 255.0]  # the mean of 10, 20, ..., 100 is 55
    assert verdicts.verdicts([task]) == []


def test_curves_of_an_unknown_origin_are_not_compared(csv: Path) -> None:
    """Only greedy evaluations in the task's own version of the environment are tested against others."""
    known = importing.Stated(None, "CartPole-v1", "greedy", 1)
    bring(csv, name="one", stated=known)
    bring(csv, name="two", stated=known)
    apart = {
        "none": (importing.Stated(), "the version of their environment is not stated"),
        "version": (importing.Stated(None, "CartPole-v0", "greedy", 1), "they are of CartPole-v0"),
        "policy": (
            importing.Stated(None, "CartPole-v1", "training", 1),
            "their returns are of episodes of training",
        ),
        "episodes": (
            importing.Stated(None, "CartPole-v1", "greedy"),
            "the number of episodes of their points is not stated",
        ),
    }
    for name, (stated, _) in apart.items():
        bring(csv, name=name, stated=stated)
    (task,) = aggregate(load(csv.parent / "runs"), Declared())
    assert [[s.label for s in group] for group in task.groups] == [["one", "two"]]
    (pair,) = compare([task], Declared()).pairs
    assert {pair.x.label, pair.y.label} == {"one", "two"}
    (note,) = task.unlike
    assert note.startswith("Imported, described and not compared: ")
    assert all(f"{name} ({words})" in note for name, (_, words) in apart.items())


def test_what_is_stated_is_in_the_digest(csv: Path) -> None:
    plain = bring(csv)
    out = csv.parent / "stated"
    stated = bring(csv, out=out, stated=importing.Stated("ppo", "CartPole-v1", "greedy"))
    assert plain.name != stated.name
    config = json.loads((stated / "cell.json").read_text())["config"]
    assert (config["algorithm"], config["environment"], config["policy"]) == ("ppo", "CartPole-v1", "greedy")
    assert config["episodes"] == "unknown" and "convention" not in config
    assert "algorithm" not in json.loads((plain / "cell.json").read_text())["config"]
    assert all(check.passed([outcome]) for outcome in check.check(out).outcomes)


def test_episodes(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    table(episodes=4).sample(frac=1, random_state=0).to_csv(path, index=False)
    bring(path)
    (cell,) = load(tmp_path / "runs")
    assert cell.facts["evaluation"]["episodes"] == 4
    rows = cell.runs[0].evaluations
    order = list(zip(rows["step"], rows["episode"], strict=True))
    assert order == sorted(order)
    assert (cell.runs[0].result["steps"], cell.runs[0].result["score"]) == (100_000, 101.5)
    assert cell.runs[1].greedy.tolist() == [100 + step / 1000 + 1.5 for step in STEPS]


def test_names_of_columns_and_of_the_system(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    table().rename(columns={"seed": "run", "step": "global_step", "return": "r"}).to_csv(path, index=False)
    asked = Asked(column="r", step="global_step", seed="run")
    assert bring(path, name="  CleanRL: PPO (v1) ", asked=asked).name.startswith("cleanrl-ppo-v1-imported-")
    with pytest.raises(InputError, match="at least one letter or digit"):
        bring(path, name="()", asked=asked)


def test_the_system_is_called_as_the_user_calls_it(csv: Path) -> None:
    """Also where two names make the same folder name."""
    bring(csv, name="SB3 PPO")
    bring(csv, name="SB3, PPO")
    (task,) = aggregate(load(csv.parent / "runs"), Declared())
    assert sorted(cell.label for cell in task.cells) == ["SB3 PPO", "SB3, PPO"]
    for name in ("x" * 61, "a\nb"):
        with pytest.raises(InputError, match="--system: must be at most 60"):
            bring(csv, name=name)


def test_npz_of_stable_baselines(tmp_path: Path) -> None:
    paths = [tmp_path / f"{letter}.npz" for letter in "ba"]
    for k, path in enumerate(paths):
        results = np.arange(6.0).reshape(3, 2) + 10 * k
        steps = np.array([1000, 2000, 3000])
        np.savez(path, timesteps=steps, results=results, ep_lengths=np.full((3, 2), 7))
    bring(*paths)
    (cell,) = load(tmp_path / "runs")
    assert cell.facts["steps"] == 3000 and cell.facts["evaluation"] == {"points": 3, "episodes": 2}
    assert cell.runs[0].greedy.tolist() == [0.5, 2.5, 4.5]  # in the order given, not of the names
    assert cell.runs[1].greedy.tolist() == [10.5, 12.5, 14.5]
    assert cell.runs[0].means["length"].tolist() == [7, 7, 7]
    assert all(check.passed([outcome]) for outcome in check.check(tmp_path / "runs").outcomes)


def test_again_changes_nothing_and_other_content_is_another_cell(csv: Path) -> None:
    folder = bring(csv)
    before = contents(csv.parent / "runs")
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert bring(csv) == folder
    assert contents(csv.parent / "runs") == before
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == stamps
    table(seeds=4).to_csv(csv, index=False)
    other = bring(csv)
    assert other != folder and len(load(csv.parent / "runs")) == 2
    assert (
        contents(folder).items()
        <= {
            name.removeprefix(f"classic/CartPole-v1/{folder.name}/"): data for name, data in before.items()
        }.items()
    )


def test_a_folder_that_was_changed_is_not_believed(csv: Path) -> None:
    folder = bring(csv)
    (folder / "seed-0" / "eval.csv").write_text("step\n")
    with pytest.raises(InputError, match="move it away"):
        bring(csv)


@pytest.mark.parametrize(
    ("steps", "budget"), [(None, 100_000), (100_000, 100_000), (101_000, 101_000), (98_500, 98_500)]
)
def test_budget(csv: Path, steps: int | None, budget: int) -> None:
    bring(csv, steps=steps)
    assert load(csv.parent / "runs")[0].facts["steps"] == budget


def change(**columns: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """A change of the table's first row."""

    def apply(data: pd.DataFrame) -> pd.DataFrame:
        data = data.astype(object)
        for name, value in columns.items():
            data.loc[data.index[5], name.rstrip("_")] = value
        return data

    return apply


BAD = {
    "nearest column": (
        lambda d: d.rename(columns={"return": "returns"}),
        "'return'; did you mean 'returns'?",
    ),
    "no column": (lambda d: d[["step", "return"]], "has step 0 twice: name the column of the seeds"),
    "infinite": (change(return_=float("inf")), "seed 0, step 50000: return is inf, not a finite number"),
    "never finite": (lambda d: d.assign(**{"return": "nan"}), "seed 0 has no finite return"),
    "text": (change(return_="high"), "data row 6: return is high"),
    "fraction of a step": (change(step=0.5), "step is 0.5, not a whole number"),
    "negative step": (change(step=-1), "step is -1, not a whole number"),
    "text for a seed": (change(seed="a"), "seed is a, not a whole number"),
    "grid": (change(step=55_000), "the seeds have different steps: "),
    "twice": (change(step=60_000), "seed 0 has step 60000 twice"),
    "tuning": (lambda d: d.assign(seed=d["seed"] + 1234), "seed 1234: seeds from 1000 are for tuning"),
    "empty": (lambda d: d.iloc[:0], "has no rows"),
    "untrained": (lambda d: d[d["step"] == 0], "no evaluation after step 0"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_tables(tmp_path: Path, capsys: pytest.CaptureFixture, name: str) -> None:
    spoil, words = BAD[name]
    path, runs = tmp_path / "curves.csv", tmp_path / "runs"
    spoil(table()).to_csv(path, index=False)
    code, out, err = call(
        capsys, "import", str(path), "--name", "x", "--task", "CartPole-v1", "--runs", str(runs)
    )
    assert (code, out) == (2, "")
    assert words in err and err.startswith("error: ") and err.count("\n") == 1
    assert not runs.exists()


def test_another_number_of_episodes(tmp_path: Path) -> None:
    """The score of an evaluation is the mean of the episodes that it has, and the counts are recorded."""
    path = tmp_path / "curves.csv"
    table(episodes=3).iloc[:-1].to_csv(path, index=False)
    folder = bring(path)
    (cell,) = load(tmp_path / "runs")
    assert cell.facts["config"]["episodes"] == {"2": 1, "3": 32} and cell.facts["evaluation"]["episodes"] == 3
    assert cell.runs[2].greedy[100_000] == 300.5
    assert json.loads((folder / "seed-2" / "result.json").read_text())["score"] == 300.5


def test_an_episode_that_is_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "curves.csv"
    episodes = table(episodes=3)
    pd.concat([episodes, episodes.iloc[-1:]]).to_csv(path, index=False)
    with pytest.raises(InputError, match="seed 2 has episode 2 of step 100000 twice"):
        bring(path)
    pd.concat([episodes, episodes.iloc[-3:]]).to_csv(path, index=False)
    with pytest.raises(InputError, match="seed 2 has step 100000 twice"):
        bring(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\x1a\n\0\0\xff", "is not a CSV file"),
        (b"", "is not a CSV file"),
        (b'a,b\n1,"2\n', "is not a CSV file"),
    ],
)
def test_files_that_are_no_csv(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "curves.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        bring(path)
    assert not (tmp_path / "runs").exists()


def test_bad_npz(tmp_path: Path, csv: Path) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(b"PK nothing")
    with pytest.raises(InputError, match="holds no arrays of numbers"):
        bring(path)
    np.savez(path, timesteps=[1, 2], results=[[1.0], [2.0], [3.0]])
    with pytest.raises(InputError, match=r"the shapes of timesteps .* do not match"):
        bring(path)
    np.savez(path, timesteps=[1, 2], returns=[[1.0], [2.0]])
    with pytest.raises(InputError, match="results"):
        bring(path)
    with pytest.raises(InputError, match=r"several formats \(1 csv, 1 sb3-evaluations\)"):
        bring(csv, path)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "CartPole-v9"], "unknown task 'CartPole-v9'; did you mean 'CartPole-v1'?"),
        (
            ["--task", "CartPole-v1", "--steps", "50000"],
            "--steps: 50000 is less than the step of the last evaluation, 100000",
        ),
        (
            ["--task", "CartPole-v0"],
            "CartPole-v0 is an older version of CartPole-v1: --task CartPole-v1 --env",
        ),
        (["--task", "CartPole-v1", "--episodes", "ten"], "'ten' is neither a number nor unknown"),
        (["--task", "CartPole-v1", "--episodes", "0"], "--episodes: must be from 1"),
        (["--task", "CartPole-v1", "--format", "sb"], "unknown format 'sb'"),
        (["--task", "CartPole-v1", "--seed-from", "x("], "the file says its seeds itself"),
        (["--task", "CartPole-v1", "--interpolate", "lines", "10"], "did you mean 'linear'?"),
        (["--task", "CartPole-v1", "--points", "5"], "--points: '5' is not FIRST:EVERY"),
        (["--task", "CartPole-v1", "--steps", "0"], "--steps"),
        (["--task", "CartPole-v1", "--seed-column", "sed"], "'sed'; did you mean 'seed'?"),
        (["--task", "CartPole-v1", "--algorithm", "pppo"], "'pppo'; did you mean 'ppo'?"),
        (["--task", "CartPole-v1", "--policy", "greed"], "'greed'; did you mean 'greedy'?"),
        (["--task", "CartPole-v1", "--convention", "greedy"], "did you mean --policy greedy?"),
        (["--task", "CartPole-v1", "--environment-version", "Hopper-v3"], "'Hopper-v3' is no version of the"),
        (["--task", "CartPole-v1", "--environment-version", "CartPole"], "'CartPole' is no version of the"),
    ],
)
def test_bad_options(csv: Path, capsys: pytest.CaptureFixture, words: list[str], said: str) -> None:
    runs = csv.parent / "runs"
    code, _, err = call(capsys, "import", str(csv), "--name", "x", *words, "--runs", str(runs))
    assert code == 2 and said in err and err.count("\n") == 1
    assert not runs.exists()


def test_a_missing_file_is_named(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, _, err = call(capsys, "import", str(tmp_path / "no.csv"), "--name", "x", "--task", "CartPole-v1")
    assert code == 2 and "no.csv" in err and err.count("\n") == 1


def test_a_failure_while_writing_leaves_nothing(csv: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        bring(csv)
    assert list((csv.parent / "runs").rglob("*")) == []


def test_nothing_of_an_import_needs_torch(csv: Path) -> None:
    code = (
        "import sys\nfrom pathlib import Path\nfrom ascent.reports.imports.importing import import_curves\n"
        f"import_curves([Path({str(csv)!r})], 'x', 'CartPole-v1', Path({str(csv.parent / 'runs')!r}))\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(importing.__file__).parents[2])

"""Layouts of logs and exports that no library of the tests writes, and folders of files."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ascent.records.errors import InputError
from ascent.records.read import DIVERGED, DONE, UNFINISHED, CellRecord, load
from ascent.reports.imports import recognise
from ascent.reports.imports.curve import Asked
from ascent.reports.imports.grid import Interpolation
from ascent.reports.imports.importing import Imported, import_curves
from tests.command import call


def bring(folder: Path, *paths: Path, **options: object) -> CellRecord:
    given = {"name": "X", "task": "CartPole-v1", "out": folder / "runs"} | options
    import_curves(paths, **given)
    (cell,) = load(folder / "runs")
    return cell


def refused(folder: Path, words: str, *paths: Path, **options: object) -> None:
    with pytest.raises(InputError, match=words):
        bring(folder, *paths, **options)
    assert not (folder / "runs").exists()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def curve(cell: CellRecord, seed: int = 0) -> list[tuple[int, float]]:
    return list(next(run for run in cell.runs if run.seed == seed).greedy.items())


# ---- RLlib


def rllib(path: Path, rows: list[dict[str, Any]]) -> Path:
    return write(
        path, "".join(json.dumps(row | {"training_iteration": k}) + "\n" for k, row in enumerate(rows, 1))
    )


def test_result_json_of_the_old_api(tmp_path: Path) -> None:
    """The mean is NaN until an episode has ended; the same mean stands below sampler_results."""
    rows = [
        {
            "episode_reward_mean": mean, "sampler_results": {"episode_reward_mean": mean},
            "timesteps_total": step, "num_env_steps_sampled": step, "config": {"env": "CartPole-v0", "lr": 1},
        }
        for step, mean in [(100, float("nan")), (200, 20.0), (300, 30.5)]
    ]  # fmt: skip
    cell = bring(tmp_path, rllib(tmp_path / "result.json", rows))
    assert curve(cell) == [(200, 20.0), (300, 30.5)]
    assert cell.facts["config"]["environment"] == "CartPole-v0"  # named as that, though the task is another


def test_result_json_of_the_new_api(tmp_path: Path) -> None:
    rows = [
        {
            "env_runners": {"episode_return_mean": float(k), "num_env_steps_sampled_lifetime": 100 * k},
            "num_env_steps_sampled_lifetime": 100 * k, "timesteps_total": None, "config": {"env": "my-task"},
            "evaluation": {"env_runners": {"episode_return_mean": 10.0 * k}} if k % 2 == 0 else {},
        }
        for k in range(1, 5)
    ]  # fmt: skip
    for k in (1, 2):
        rllib(tmp_path / f"PPO_{k}" / "result.json", rows)
        write(tmp_path / f"PPO_{k}" / "params.json", "{}")
    folders = [tmp_path / "PPO_1", tmp_path / "PPO_2"]
    refused(tmp_path, "--column is needed, .*: env_runners/episode_return_mean, evaluation/", *folders)
    cell = bring(tmp_path, *folders, asked=Asked("env_runners/episode_return_mean"))
    assert curve(cell, 1) == [(100, 1), (200, 2), (300, 3), (400, 4)]
    assert cell.facts["config"]["environment"] == "unknown"
    (tmp_path / "e").mkdir()
    evaluated = bring(tmp_path / "e", *folders, asked=Asked("evaluation/env_runners/episode_return_mean"))
    assert curve(evaluated) == [(200, 20), (400, 40)]


def test_bad_result_json(tmp_path: Path) -> None:
    path = rllib(tmp_path / "result.json", [{"episode_reward_mean": 1.0}])
    refused(tmp_path, "line 1: no num_env_steps_sampled_lifetime", path)
    path = rllib(tmp_path / "result.json", [{"timesteps_total": 5, "loss": 1.0}])
    refused(tmp_path, "--column is needed, .*: timesteps_total, loss", path)
    refused(tmp_path, "did you mean 'loss'", path, asked=Asked("los"))
    path.write_text(path.read_text() + '{"timesteps_total": \n')
    refused(tmp_path, "line 2: no line of RLlib's result.json", path, asked=Asked("loss"))
    write(path, '{"training_iteration": 1, "a": ' + "[" * 100_000)
    refused(tmp_path, "line 1: no line of RLlib's", path)


# ---- Tianshou, Spinning Up


def test_tianshou(tmp_path: Path) -> None:
    files = [
        write(tmp_path / f"seed_{k}" / "test_rew.csv", f"env_step,rew,time\n0,{k}.5,1.0\n1000,{k}.75,2.0\n")
        for k in range(3)
    ]
    cell = bring(tmp_path, *files)
    assert [curve(cell, k) for k in range(3)] == [[(0, k + 0.5), (1000, k + 0.75)] for k in range(3)]


def test_a_merged_file_of_tianshou_has_its_runs_or_is_refused(tmp_path: Path) -> None:
    """A mean is not seeds."""
    head = "env_step,rew,rew:shaded"
    alone = write(tmp_path / "test_rew_2seeds.csv", f"{head}\n0,1.5,0.5\n1000,2.5,0.5\n")
    refused(tmp_path, "holds the mean over runs, and a mean is not seeds", alone)
    merged = f"{head},rew:seed_0/test_rew.csv,rew:seed_1/test_rew.csv\n0,1.5,0.5,1,2\n1000,2.5,0.5,2,3\n"
    cell = bring(tmp_path, write(alone, merged))
    assert [curve(cell, k) for k in range(2)] == [[(0, 1), (1000, 2)], [(0, 2), (1000, 3)]]


def test_spinning_up_off_policy_asks_which_returns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "progress.txt",
        "Epoch\tAverageEpRet\tAverageTestEpRet\tTotalEnvInteracts\n1\t5\t7.5\t4000\n2\t6\t8.5\t8000\n",
    )
    refused(tmp_path, "--column is needed, .*: AverageEpRet, AverageTestEpRet$", path)
    cell = bring(tmp_path, path, asked=Asked("AverageTestEpRet"))
    assert curve(cell) == [(4000, 7.5), (8000, 8.5)]


# ---- Weights & Biases, Open RL Benchmark


def test_history_of_a_run(tmp_path: Path) -> None:
    """As run.history().to_csv() and openrlbenchmark's run_df.csv: most rows have no episode."""
    text = (
        ",_step,_runtime,_timestamp,global_step,charts/episodic_return,losses/value_loss\n"
        "0,0,1.5,1.7e9,10,,0.1\n1,1,1.6,1.7e9,20,9.5,\n2,2,1.7,1.7e9,30,,0.2\n3,3,1.8,1.7e9,40,19.5,\n4,4,2,1.7e9,50,,1\n"
    )
    for name in ("a", "b"):
        write(tmp_path / "dataset" / name / "run_df.csv", text)
        write(tmp_path / "dataset" / name / "run.json", "{}")
    refused(tmp_path, "--column is needed, .*: charts/episodic_return, losses", tmp_path / "dataset")
    cell = bring(tmp_path, tmp_path / "dataset", asked=Asked("charts/episodic_return"))
    assert curve(cell, 0) == curve(cell, 1) == [(20, 9.5), (40, 19.5)]
    assert [run.state for run in cell.runs] == [DONE, DONE]


def test_what_wandb_counts_is_not_taken_for_steps(tmp_path: Path) -> None:
    text = '"Step","a - return","a - return__MIN","a - return__MAX"\n1,5,5,5\n2,6,6,6\n'
    chart = write(tmp_path / "chart.csv", text)
    refused(tmp_path, "the axis Step counts calls of wandb.log", chart)
    history = write(tmp_path / "history.csv", "_step,_runtime,return\n1,1,5\n2,2,6\n")
    refused(tmp_path, "--step-column is needed", history, asked=Asked("return"))
    cell = bring(tmp_path, chart, asked=Asked(step="Step"))
    assert curve(cell) == [(1, 5), (2, 6)]


def test_a_chart_of_two_metrics(tmp_path: Path) -> None:
    columns = [f"{run} - {metric}{end}" for run in ("a - b", "c") for metric in ("_step", "return", "length")
               for end in ("", "__MIN", "__MAX")]  # fmt: skip
    rows = pd.DataFrame(
        [range(len(columns) + 1), range(1, len(columns) + 2)], columns=["global_step", *columns]
    )
    rows.to_csv(tmp_path / "chart.csv", index=False)
    refused(tmp_path, "--column is needed, .*: return, length", tmp_path / "chart.csv")
    cell = bring(tmp_path, tmp_path / "chart.csv", asked=Asked("return"))
    assert cell.facts["config"]["runs"] == {"0": "a - b", "1": "c"}
    assert curve(cell, 0) == [(0, 4), (1, 5)] and curve(cell, 1) == [(0, 13), (1, 14)]


def test_a_chart_with_a_very_long_header(tmp_path: Path) -> None:
    runs = [f"{'run' * 100}-{k} - return" for k in range(120)]
    rows = pd.DataFrame(
        {"global_step": [0, 10]} | {run + end: [1, 2] for run in runs for end in ("", "__MIN")}
    )
    rows.to_csv(tmp_path / "chart.csv", index=False)
    cell = bring(tmp_path, tmp_path / "chart.csv")
    assert len(cell.runs) == 120 and curve(cell, 119) == [(0, 1), (10, 2)]


def test_tables_of_means_are_refused(tmp_path: Path) -> None:
    """As the result tables of openrlbenchmark."""
    path = write(tmp_path / "table.csv", ",PPO,SAC\nHopper-v2,2158.65 ± 302.33,3018.90 ± 330.19\n")
    refused(tmp_path, "holds means over runs, and a mean is not seeds", path)


# ---- numpy, tables


def test_arrays(tmp_path: Path) -> None:
    returns = np.arange(6.0).reshape(2, 3)
    np.save(tmp_path / "r.npy", returns)
    refused(tmp_path, "say by --points FIRST:EVERY", tmp_path / "r.npy")
    cell = bring(tmp_path, tmp_path / "r.npy", asked=Asked(points=(0, 50)))
    assert [curve(cell, k) for k in range(2)] == [[(0, 0), (50, 1), (100, 2)], [(0, 3), (50, 4), (100, 5)]]
    one = tmp_path / "one"
    one.mkdir()
    for k in range(2):  # as TD3's authors release them: a file per seed
        np.save(one / f"TD3_Hopper-v1_{k}.npy", returns[k])
    other = bring(one, *sorted(one.glob("*.npy")), asked=Asked(points=(0, 50)))
    assert [curve(other, k) for k in range(2)] == [curve(cell, k) for k in range(2)]
    np.savez(one / "a.npz", steps=[10, 20, 30], returns=returns[..., None] + [0.0, 1.0])
    (tmp_path / "e").mkdir()
    episodes = bring(tmp_path / "e", one / "a.npz")
    assert curve(episodes, 1) == [(10, 3.5), (20, 4.5), (30, 5.5)]
    assert episodes.facts["config"]["episodes"] == 2


def test_bad_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, steps=[1, 2], returns=[[1.0, 2.0, 3.0]])
    refused(tmp_path, r"the shapes of the steps \(2,\) and the returns \(1, 3\) do not match", path)
    np.savez(path, a=[1.0], b=[2.0])
    refused(tmp_path, "--column is needed, .*: a, b", path)
    np.savez(path, steps=[0.5], returns=[1.0])
    refused(tmp_path, "step is 0.5, not a whole number", path)
    np.save(tmp_path / "o.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    refused(tmp_path, "holds no arrays of numbers", tmp_path / "o.npy")
    np.save(tmp_path / "t.npy", np.array(["a"]))
    refused(tmp_path, "are no curves of numbers", tmp_path / "t.npy", asked=Asked(points=(0, 1)))


def test_tables_without_seeds_are_a_run_each(tmp_path: Path) -> None:
    """An empty field is nothing logged; the word nan is a return that is none."""
    first = write(tmp_path / "a.csv", "step,return\n10,1\n20,\n30,3\n")
    second = write(tmp_path / "b.csv", "step,return\n10,2\n20,3\n30,nan\n")
    third = write(tmp_path / "c.csv", "step,return\n10,2\n20,3\n30,\n")
    cell = bring(tmp_path, second, first, third)
    assert [run.state for run in cell.runs] == [DIVERGED, DONE, UNFINISHED]
    assert curve(cell, 1) == [(10, 1), (30, 3)] and curve(cell, 0) == [(10, 2), (20, 3)]


def test_a_json_list_with_seeds(tmp_path: Path) -> None:
    rows = [{"seed": k, "step": 10 * n, "return": k + n, "x": [1]} for k in range(2) for n in range(3)]
    cell = bring(tmp_path, write(tmp_path / "rows.json", json.dumps(rows)))
    assert curve(cell, 1) == [(0, 1), (10, 2), (20, 3)]
    (tmp_path / "e").mkdir()
    for bad, words in (
        ([{"seed": [1], "step": 1, "return": 1}], "seed is"),
        ([{"seed": 1, "step": 10**30, "return": 1}], "step is"),
        ([{"seed": 1, "step": 1, "return": True}], "return is True, not a number"),
        ([1, 2], "not one of objects"),
        ([], "not one of objects"),
    ):
        refused(tmp_path / "e", words, write(tmp_path / "bad.json", json.dumps(bad)))
    refused(tmp_path / "e", "damaged JSON", write(tmp_path / "deep.json", "[" * 100_000))


def test_the_same_seed_twice(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, "seed,step,return\n0,10,1\n0,20,2\n") for name in ("a.csv", "b.csv")]
    refused(tmp_path, "a.csv, seed 0 and .*b.csv, seed 0 have the same seed 0", *paths)


def test_seeds_from_names(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"run-{k}.csv", f"step,return\n10,{k}\n20,2\n") for k in (7, 3)]
    cell = bring(tmp_path, *paths, seed_from=r"run-(\d+)")
    assert [run.seed for run in cell.runs] == [3, 7] and curve(cell, 7)[0] == (10, 7)
    (tmp_path / "e").mkdir()
    for pattern, words in (
        ("run-(", "must be order, or a regular expression"),
        (r"run-\d", "must be order, or a regular expression"),
        (r"seed-(\d+)", "finds no number in"),
    ):
        refused(tmp_path / "e", words, *paths, seed_from=pattern)


# ---- grids


def test_grids(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "a.csv", "step,return\n5,1\n95,10\n205,nan\n"),
        write(tmp_path / "b.csv", "step,return\n0,0\n100,100\n150,150\n"),
        write(tmp_path / "c.csv", "step,return\n0,0\n198,198\n"),
    ]
    cell = bring(tmp_path, *paths, interpolation=Interpolation("linear", 50))
    assert [run.state for run in cell.runs] == [DIVERGED, UNFINISHED, DONE]
    assert cell.facts["steps"] == 200 and cell.facts["evaluation"]["points"] == 4
    assert curve(cell, 0) == [(50, 5.5), (100, 10), (150, 10), (200, 10)]
    assert cell.runs[0].result["steps"] == 205
    assert curve(cell, 2) == [
        (50, 50),
        (100, 100),
        (150, 150),
        (200, 198),
    ]  # near its end, which counts as it
    for kind, every, steps, words in (
        ("linear", 1000, None, "before the first step of the grid"),
        ("linear", 150, 200, "long before the budget of 200 steps"),
        ("mean", 50, None, "no point in the 50 steps before step 150"),
        ("linear", 1, 10**8, "at most 1,000,000 are used"),
    ):
        (tmp_path / kind).mkdir(exist_ok=True)
        grid = Interpolation(kind, every)
        refused(tmp_path / kind, words, *paths, interpolation=grid, steps=steps)


def test_a_run_that_diverged_before_the_grid_begins(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "step,return\n5,1\n15,nan\n100,nan\n")
    refused(tmp_path, "a.csv diverged before the first step", path, interpolation=Interpolation("step", 50))


def test_a_run_that_was_stopped_early(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "step,return\n10,1\n20,2\n")
    cell = bring(tmp_path, path, steps=100)
    assert [run.state for run in cell.runs] == [UNFINISHED] and cell.runs[0].note == "at step 20"


# ---- folders and hostile files


def test_a_folder_names_what_it_leaves_out(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for k in (10, 2):
        write(tmp_path / "logs" / f"run-{k}" / "curve.csv", f"step,return\n10,{k}\n")
        write(tmp_path / "logs" / f"run-{k}" / "notes.txt", "x")
    os.symlink("/etc/passwd", tmp_path / "logs" / "run-2" / "link.csv")
    words = ["--system", "X", "--task", "CartPole-v1", "--runs", str(tmp_path / "runs")]
    code, out, err = call(capsys, "import", str(tmp_path / "logs"), *words)
    assert code == 0 and "left out, no curves of this format: " in err and "notes.txt" in err
    (cell,) = load(tmp_path / "runs")
    assert [curve(cell, k) for k in range(2)] == [[(10, 2)], [(10, 10)]]  # run-2 before run-10
    assert out.strip() == str(tmp_path / "runs" / cell.name.folder)
    assert cell.facts["config"]["files"][0]["name"] == "run-2/curve.csv"


def test_a_file_that_is_a_link_is_refused(tmp_path: Path) -> None:
    """It may lead out of a stranger's folder. A folder that the user names may be one."""
    write(tmp_path / "secret.txt", "the secret\n1\n")
    os.symlink(tmp_path / "secret.txt", tmp_path / "a.csv")
    refused(tmp_path, "a.csv is a link", tmp_path / "a.csv")
    write(tmp_path / "logs" / "a.csv", "step,return\n10,1\n")
    os.symlink(tmp_path / "logs", tmp_path / "link")
    assert curve(bring(tmp_path, tmp_path / "link")) == [(10, 1)]


def test_a_folder_without_curves(tmp_path: Path) -> None:
    write(tmp_path / "logs" / "notes.txt", "x")
    refused(tmp_path, "has no file of a known format", tmp_path / "logs")
    refused(tmp_path, "has no file of format rllib", tmp_path / "logs", format="rllib")


def test_a_folder_with_too_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recognise, "MOST_FILES", 2)
    for k in range(3):
        write(tmp_path / "logs" / f"{k}.csv", "step,return\n10,1\n")
    refused(tmp_path, "has more than 2 files", tmp_path / "logs")


@pytest.mark.parametrize(
    "content",
    [
        b'#{"t_start": "x", "env_id": 1}\nr,l,t\n1,1,1\n',
        b'#{"t_start": 1}\nr,l,t\n',
        b"#{" * 9 + b"\nr,l,t\n1,1,1\n",
        b'#{"t_start": 1, "env_id": null}\nr,l,t\n1,-5,1\n',
        b'#{"t_start": 1, "env_id": null}\nr,l,t\n1,1,soon\n',
    ],
)
def test_bad_monitor_logs(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "monitor.csv"
    path.write_bytes(content)
    refused(tmp_path, r"monitor\.csv", path)


def test_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbfstep,return\n10,1\n20,2\n")
    assert curve(bring(tmp_path, path)) == [(10, 1), (20, 2)]


def test_notes_say_what_is_not_known(tmp_path: Path) -> None:
    path = write(tmp_path / "a.csv", "step,return\n10,1\n20,2\n")
    done: Imported = import_curves([path], "X", "CartPole-v1", tmp_path / "runs")
    (note,) = done.notes
    assert note.startswith("not known: --environment-version, --policy, --episodes; described and never")

"""What a report refuses, and how it says so: incomplete, damaged, mixed and absent records."""

import json
import re
import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from ascent.records.expected import Expected
from ascent.records.read import load
from ascent.reports.report import build, rebuild
from tests.reports.conftest import damage

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reports.conftest import Records

NUMBERS = ["mean", "low", "high", "iqm", "median", "min", "max"]


def test_incomplete_cells_have_no_score_anywhere(spoilt: "Records") -> None:
    table = pd.read_csv(spoilt.out / "tables" / "scores.csv").set_index(["task", "system"])
    row = table.loc[("Pendulum-v1", "reinforce")]
    assert (row["complete"], row["finished"], row["expected"]) == (False, 7, 10)
    assert row[NUMBERS].isna().all()
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    assert page.count("incomplete 7/10</span>") == 2  # in the summary and in the task's table
    assert "| incomplete 7/10 |" in (spoilt.out / "tables" / "scores.md").read_text()
    assert table.drop(index=("Pendulum-v1", "reinforce"))[NUMBERS].notna().all(axis=None)


def test_every_expected_run_is_listed_with_its_state(spoilt: "Records") -> None:
    table = pd.read_csv(spoilt.out / "tables" / "completeness.csv", keep_default_na=False)
    assert len(table) == 80
    rest = table[table["state"] != "done"]
    assert rest[["task", "system", "seed", "state", "note"]].to_numpy().tolist() == [
        ["Pendulum-v1", "reinforce", 0, "damaged", "eval.csv: sha256 differs from result.json"],
        ["Pendulum-v1", "reinforce", 8, "unfinished", "at step 40,000"],
        ["Pendulum-v1", "reinforce", 9, "missing", "no folder"],
        ["Pendulum-v1", "td3", 3, "diverged", ""],
    ]
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    assert re.search(r"reinforce-classic-\w+/seed-0</code>: eval.csv: sha256 differs", page)
    assert "seed 9: missing" in page


def test_an_expected_cell_that_is_not_there_is_missing(store: "Records") -> None:
    store.flat_runs(store.cell(), [1.0, 2.0])
    absent = Expected("classic", "CartPole-v1", "sac", "classic", "feed", (0, 1, 2))
    page = store.build([*store.expected(seeds=(0, 1)), absent])
    assert "incomplete 0/3" in page
    assert store.scores().loc["sac", "expected"] == 3
    assert store.scores().loc["ppo", "complete"]


def test_only_expected_cells_and_seeds_are_in_the_report(store: "Records") -> None:
    store.flat_runs(store.cell(), [1.0, 2.0, 30.0])
    expected = store.expected(seeds=(0, 1))
    store.flat_runs(store.cell(system="sac"), [5.0])
    page = store.build(expected)
    assert store.scores()["mean"].to_dict() == {"ppo": 1.5}
    assert "sac" not in page.partition("</header>")[0]


def test_tuning_seeds_are_not_mixed_with_reporting_seeds(store: "Records") -> None:
    """Left out of the report on a folder, which says so; marked if they are alone."""
    ppo, sac = store.cell(), store.cell(system="sac")
    store.flat_runs(ppo, [1.0, 2.0])
    for cell, seed in ((ppo, 1000), (ppo, 1001), (sac, 1000)):
        store.run(cell, seed, [0.0] + [9.0] * 50)
    (both,) = (name for name in store.expected() if name.system == "ppo")
    with pytest.raises(ValueError, match=r"tuning seeds are in classic/CartPole-v1/ppo-classic-\w+"):
        store.build([replace(both, seeds=(0, 1, 1000))])
    assert not store.out.exists()
    first = store.build()
    for page in (first, store.build()):
        assert "Tuning seeds left out." in page and "Tuning seeds.</b>" not in page
        for folder, seeds in ((ppo, "1000-1001"), (sac, "1000")):
            assert f"<code>{folder.relative_to(store.runs).as_posix()}</code> seeds {seeds}" in page
        assert store.scores()["mean"].to_dict() == {"ppo": 1.5}
    about = json.loads((store.out / "provenance.json").read_text())
    again = rebuild(about, store.runs, store.out.with_name("again"))
    assert again.read_text(encoding="utf-8") == page
    shutil.rmtree(store.out)
    # chosen apart, either can be reported; tuning seeds are marked
    assert "Tuning seeds" not in store.build([replace(both, seeds=(0, 1))])
    assert "Tuning seeds.</b>" in store.build([replace(both, seeds=(1000,))])
    for seed in (0, 1):
        shutil.rmtree(ppo / f"seed-{seed}")
    assert "Tuning seeds.</b>" in store.build()


def test_nothing_found(store: "Records") -> None:
    store.runs.mkdir()
    for runs in (store.runs, store.runs / "nowhere"):
        with pytest.raises(ValueError, match=f"no runs found in {re.escape(str(runs))}"):
            build(runs, store.out)
    absent = Expected("classic", "CartPole-v1", "sac", "classic", "feed", (0, 1, 2))
    with pytest.raises(ValueError, match="no runs found"):
        store.build([absent])
    assert not store.out.exists()


def test_a_report_without_a_finished_run(store: "Records") -> None:
    store.run(store.cell(), 0, [0.0, 1.0], status=None)
    page = store.build()
    assert "incomplete 0/1" in page
    assert "there is no learning curve" in page
    assert len(pd.read_parquet(store.out / "data.parquet")) == 0


def break_json(path: "Path", **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "change", "note"),
    [
        ("train.csv", lambda path: path.write_text("step\n"), "train.csv: sha256 differs from result.json"),
        ("metrics.csv", lambda path: path.unlink(), "metrics.csv: unreadable"),
        ("result.json", lambda path: path.write_text('{"status'), "result.json: unreadable"),
        (
            "result.json",
            lambda path: break_json(path, digests={}),
            "result.json: lacks a digest for eval.csv",
        ),
        ("result.json", lambda path: break_json(path, status="fine"), "result.json: status is fine"),
        ("run.json", lambda path: path.unlink(), "run.json: unreadable"),
        (
            "run.json",
            lambda path: break_json(path, seed=7),
            "run.json: seed is 7, but the folder name says 0",
        ),
        ("../cell.json", lambda path: path.write_text("[]"), "../cell.json: not a JSON object"),
        ("../cell.json", lambda path: path.unlink(), "../cell.json: unreadable"),
        (
            "../cell.json",
            lambda path: break_json(path, task="Acrobot-v1"),
            "../cell.json: task is Acrobot-v1",
        ),
        ("../cell.json", lambda path: break_json(path, digest="0000"), "../cell.json: digest is 0000"),
        ("../cell.json", lambda path: break_json(path, steps=200_000), "../cell.json: was modified"),
        ("../cell.json", lambda path: break_json(path, config={"gamma": 1.0}), "../cell.json: was modified"),
        (
            "../cell.json",
            lambda path: break_json(path, spec=None),
            "../cell.json is damaged: spec: is not an object",
        ),
        (
            "../cell.json",
            lambda path: break_json(path, evaluation={}),
            "../cell.json is damaged: evaluation.points: field required",
        ),
    ],
)
def test_a_damaged_record_is_refused_and_named(store: "Records", file: str, change, note: str) -> None:
    run = store.run(store.cell(), 0, [0.0] + [9.0] * 50)
    change(run / file)
    (cell,) = load(store.runs)
    assert cell.runs[0].state == "damaged"
    assert cell.runs[0].note.startswith(note)
    assert f"seed-0</code>: {note}" in store.build()
    assert store.scores()[NUMBERS].isna().all(axis=None)


@pytest.mark.parametrize(
    ("means", "note"),
    [
        ([0.0, 1.0, float("nan")], "eval.csv: a return is not finite, although the status is done"),
        ([0.0], "eval.csv: no greedy evaluation after step 0"),
    ],
)
def test_a_run_called_done_that_cannot_be_scored(store: "Records", means: list[float], note: str) -> None:
    store.run(store.cell(), 0, means)
    (cell,) = load(store.runs)
    assert (cell.runs[0].state, cell.runs[0].note) == ("damaged", note)


def test_runs_of_one_cell_on_different_grids_are_an_error(store: "Records") -> None:
    cell = store.cell()
    store.run(cell, 0, [0.0] * 51)
    store.run(cell, 1, [0.0] * 41)
    with pytest.raises(ValueError, match=r"ppo-classic-\w+: seeds 1 lack evaluation points"):
        store.build()


def test_a_folder_with_runs_must_have_the_name_of_a_cell(store: "Records") -> None:
    (store.runs / "classic" / "CartPole-v1" / "backup" / "seed-0").mkdir(parents=True)
    with pytest.raises(
        ValueError, match="backup contains runs, but its name is not <system>-<preset>-<digest>"
    ):
        store.build()


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda run: damage(run / "eval.csv"), "damaged"),
        (lambda run: (run / "eval.csv").unlink(), "damaged"),
        (lambda run: (run / "eval.csv").write_text("step\n"), "damaged"),
        (lambda run: break_json(run / "run.json", seed=7), "damaged"),
        (lambda run: (run / "result.json").unlink(), "unfinished"),
        (shutil.rmtree, "missing"),
    ],
)
def test_what_happens_to_a_folder_counts(store: "Records", change, state) -> None:
    cell = store.cell()
    store.flat_runs(cell, [1.0, 2.0, 3.0])
    expected = store.expected(seeds=(0, 1, 2))
    change(cell / "seed-1")
    (found,) = load(store.runs, expected)
    assert [run.state for run in found.runs] == ["done", state, "done"]
    assert store.build(expected).count("incomplete 2/3</span>") == 2


def test_a_run_that_was_copied_as_another_seed_is_refused(store: "Records") -> None:
    cell = store.cell()
    store.flat_runs(cell, [1.0, 2.0])
    shutil.copytree(cell / "seed-1", cell / "seed-5")
    break_json(cell / "seed-5" / "run.json", seed=5)
    (found,) = load(store.runs)
    assert [run.state for run in found.runs] == ["done", "damaged", "damaged"]
    assert found.runs[1].note == "seeds 1, 5 have the same ladder.csv: a run was copied"


def test_runs_of_different_package_versions_are_not_averaged(store: "Records") -> None:
    cell, other = store.cell(), store.cell(system="sac")
    store.flat_runs(other, [1.0, 2.0, 3.0])
    for seed, torch in enumerate(("2.13.0", "2.13.0", "2.14.0")):
        store.run(cell, seed, [0.0] + [9.0] * 50, packages={"python": "3.11.2", "torch": torch})
    page = store.build()
    assert store.scores().loc["ppo", NUMBERS].isna().all()
    assert store.scores().loc["sac", "mean"] == 2.0
    assert page.count("mixed versions</span>") == 2  # in the summary and in the task's table
    assert "ppo has no score: its runs had different versions of torch." in page
    assert (store.out / "tables" / "comparisons.csv").read_text().count("\n") <= 1, (
        "it is compared with nothing"
    )

"""What `ascent wandb push` carries of a report and of a shelf: by content, on the stand-in server."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ascent.records import shelf
from ascent.records.expected import Expected
from ascent.records.read import find
from ascent.records.shelf import Shelf
from ascent.reports.checking import check
from ascent.reports.report import build
from ascent.reports.shelf import add as adding
from ascent.reports.shelf import tables
from tests.reports import trained
from tests.reports.conftest import Records
from tests.reports.test_mirror import PROJECT, online, push
from tests.reports.test_shelf import planned
from tests.reports.wandb_server import StandIn, StoredRun

pytest.importorskip("wandb", reason="wandb is not installed")


@pytest.fixture(scope="module")
def stored(whole: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shelf]:
    """A shelf with two cells of three seeds."""
    home = tmp_path_factory.mktemp("shelf") / "results"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shelf, "HOME", home)
        cells = [planned(cell) for cell in trained.cells()]
        made = shelf.write(home / "2026.12-draft", trained.clean_commit()["commit"], cells)
        adding.add(made, whole, cells)
        tables.build(made)
        yield made


def table(run: StoredRun, name: str) -> list[dict[str, Any]]:
    """The rows of a table that a run shows."""
    (row,) = run.history
    content = json.loads(run.files[row[name]["path"]])
    return [dict(zip(content["columns"], cells, strict=True)) for cells in content["data"]]


def only(server: StandIn, kind: str) -> StoredRun:
    (run,) = [run for run in server.runs.values() if run.job_type == kind]
    return run


def texts(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_report_arrives_with_main_table_findings_and_grades(
    stored: Shelf, whole: Path, tmp_path: Path
) -> None:
    """A cell of its own and one of the shelf: what `ascent check` said, and what was played again."""
    (own,) = [cell for cell in find(whole)[0] if cell.system == "td3"]
    (shelved,) = [Expected.on_shelf(cell, stored.name) for cell in stored.present if cell.system == "a2c"]
    runs, out = tmp_path / "runs", tmp_path / "report"
    shutil.copytree(whole / own.folder, runs / own.folder)
    grades = check.check(runs).grades | {shelved.folder: "recorded"}
    build(runs, out, [own, shelved], grades=grades)
    with StandIn() as server:
        done = push(tmp_path, str(runs), "--report", str(out), "--project", PROJECT, **online(server))
        assert done.code == 0, done.err
        report = only(server, "report")
        names = {"suite", "task", "system", "preset", "digest"}
        for row, cell, proof in zip(
            table(report, "grades"), (shelved, own), ("replayed, 3 of 3", None), strict=True
        ):
            assert {name: row[name] for name in names} == {name: getattr(cell, name) for name in names}
            assert (row["seeds"], row["shelf"]) == (3, cell.shelf or None)
            assert (row["grade"], row["proof"]) == (grades[cell.folder], proof)
        paths = sorted((out / "tables").glob("*.csv"))
        assert {"main", "findings", "scores", "comparisons", "completeness"} <= {path.stem for path in paths}
        for path in paths:
            if path.read_text().strip():
                arrived = table(report, f"tables/{path.stem}")
                assert [list(row) for row in arrived] == [list(row) for row in texts(path)]
        (first, second) = table(report, "tables/main")
        assert (first["task"], second["task"]) == ("CartPole-v1", "Pendulum-v1")
        assert " ± " in first["a2c (classic)" if "a2c (classic)" in first else "a2c"]
        assert table(report, "tables/findings") == texts(out / "tables" / "findings.csv")
        (row,) = report.history
        assert report.files[row["report"]["path"]] == (out / "index.html").read_bytes()
        for path in out.glob("figures/*.png"):
            assert report.files[row[f"figures/{path.stem}"]["path"]] == path.read_bytes()


def test_a_shelf_arrives_with_its_leaderboard(stored: Shelf, tmp_path: Path) -> None:
    """By its name: all runs, scores with grades, their proofs, and the page. Twice is once."""
    with StandIn() as server:
        done = push(tmp_path, stored.name, "--project", PROJECT, **online(server))
        assert done.code == 0, done.err
        assert sum(run.job_type == "train" for run in server.runs.values()) == 6
        board = only(server, "shelf")
        scores = table(board, "scores")
        assert {row["grade"] for row in scores} == {"replayed, 3 of 3"}
        for row, text in zip(scores, texts(stored.folder / "scores.csv"), strict=True):
            assert {key: row[key] for key in ("task", "system", "digest", "seal")} == {
                key: text[key] for key in ("task", "system", "digest", "seal")
            }
            assert row["mean"] == float(text["mean"]) and row["rank_from"] == int(text["rank_from"])
        assert [row["seeds"] for row in table(board, "proofs")] == ["0-2", "0-2"]
        (row,) = board.history
        assert board.files[row["report"]["path"]] == (stored.folder / "leaderboard.html").read_bytes()
        assert board.files["curves.parquet"] == (stored.folder / "curves.parquet").read_bytes()
        before = server.state()
        assert push(tmp_path, str(stored.folder), "--project", PROJECT, **online(server)).code == 0
        assert server.state() == before


def test_a_cell_of_the_shelf_by_its_digest(stored: Shelf, tmp_path: Path) -> None:
    cell = stored.present[1]
    with StandIn() as server:
        done = push(tmp_path, cell.digest[:6], "--project", PROJECT, **online(server))
        assert done.code == 0, done.err
        runs = [run for run in server.runs.values() if run.job_type == "train"]
        assert sorted(run.config["seed"]["value"] for run in runs) == [0, 1, 2]
        assert {run.config["digest"]["value"] for run in runs} == {cell.digest}
        assert {row["digest"] for row in table(only(server, "shelf"), "scores")} >= {cell.digest}


def test_tuning_seeds_that_are_left_out_are_told(store: Records, tmp_path: Path) -> None:
    cell, other = store.cell(points=2), store.cell("Pendulum-v1", points=2)
    for seed in (0, 1000, 1001):
        store.run(cell, seed, [1.0, 2.0, 3.0])
    store.run(other, 1000, [1.0, 2.0, 3.0])
    done = push(tmp_path, str(store.runs), "--project", PROJECT, "--offline")
    assert (done.code, done.lines[0]) == (0, "left out runs: 3 of tuning seeds"), done.err
    assert "1 of 1 runs" in done.lines[-1]
    done = push(tmp_path, str(cell), "--project", PROJECT, "--offline")
    assert (done.code, done.lines[0]) == (0, "left out runs: 2 of tuning seeds"), done.err

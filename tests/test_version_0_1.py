"""Records of version 0.1, made before the package was called `ascent`, are still read, reported, checked,
verified and resumed.

`tests/data/version_0_1` has three finished cells and two that were interrupted; `version_0_1.json` has the
digests that the interrupted runs come to on the platform that made them.
"""

import json
import shutil
from pathlib import Path

import pytest

from ascent import reports
from ascent.records import files, layout
from ascent.records.cell import read_cell
from ascent.records.read import DONE, UNFINISHED, load
from ascent.reports.checking import check, verify
from ascent.runners import platform, robustness
from ascent.runners.train import train

DATA = Path(__file__).parent / "data" / "version_0_1"
KNOWN = json.loads(DATA.with_suffix(".json").read_text())
FINISHED = ("CartPole-v1/a2c", "Pendulum-v1/td3", "simple_adversary_v3/maddpg")
INTERRUPTED = ("Pendulum-v1/sac", "Hopper-v5/ppo")


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    return shutil.copytree(DATA, tmp_path / "runs")


def cell_folder(runs: Path, name: str) -> Path:
    (folder,) = runs.glob(f"*/{name}-*")
    return folder


def needs_the_recorded_packages(folder: Path) -> None:
    """Resuming and verifying are promised for the recorded versions alone."""
    recorded = files.read_json(folder / "seed-0" / layout.RUN)["packages"]
    if recorded != platform.packages(read_cell(folder).task):
        pytest.skip(f"the records were made with {recorded}")


def test_read(runs: Path) -> None:
    states = {(f"{cell.name.task}/{cell.name.system}", run.state) for cell in load(runs) for run in cell.runs}
    assert states == {(name, DONE) for name in FINISHED} | {(name, UNFINISHED) for name in INTERRUPTED}


def test_report(runs: Path, tmp_path: Path) -> None:
    page = reports.build(runs, tmp_path / "report")
    assert page.exists()
    scores = (tmp_path / "report" / "tables" / "scores.csv").read_text().splitlines()
    assert len(scores) == 1 + len(FINISHED) + len(INTERRUPTED)


@pytest.mark.parametrize("name", FINISHED)
def test_check(runs: Path, name: str) -> None:
    outcomes = check.check(cell_folder(runs, name))
    assert [outcome.rule for outcome in outcomes if not outcome.passed] == []


@pytest.mark.parametrize("name", FINISHED)
def test_verify(runs: Path, name: str) -> None:
    """Trained again by the sources that were recorded with them, which have other package names."""
    folder = cell_folder(runs, name)
    needs_the_recorded_packages(folder)
    outcomes = verify.verify(folder, "start")
    assert all("runs the recorded sources" in outcome.reason for outcome in outcomes)
    if KNOWN["platform"] == platform.platform_key():
        assert {outcome.verdict for outcome in outcomes} == {verify.VERIFIED}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_resume(runs: Path, name: str) -> None:
    folder = cell_folder(runs, name)
    needs_the_recorded_packages(folder)
    cell, seeds = read_cell(folder), [0, 1]
    assert train(cell, seeds, runs)
    results = [files.read_json(cell.run_folder(seed, runs) / layout.RESULT) for seed in seeds]
    assert [result["status"] for result in results] == ["done", "done"]
    attempts = files.read_json(cell.run_folder(0, runs) / layout.RUN)["attempts"]
    assert [attempt["from_step"] for attempt in attempts] == [0, 108]
    if KNOWN["platform"] == platform.platform_key():
        names = [cell.run_folder(seed, runs).relative_to(runs).as_posix() for seed in seeds]
        assert [result["digest"] for result in results] == [KNOWN["results"][name] for name in names]


def test_robustness_tables_are_recognised(runs: Path) -> None:
    """Levels that were played by version 0.1 are not played again."""
    folder = cell_folder(runs, FINISHED[0])
    before = {path: path.stat().st_mtime_ns for path in (folder / layout.ROBUSTNESS).iterdir()}
    robustness.record(folder, robustness.parse_levels("CartPole-v1", ["drop=0.5"]), episodes=2)
    assert {path: path.stat().st_mtime_ns for path in (folder / layout.ROBUSTNESS).iterdir()} == before

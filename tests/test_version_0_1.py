"""Records of version 0.1, made before the package was called `ascent`, are still read, reported, checked and
verified. Where an algorithm has another VERSION now, nothing is added to them.

`tests/data/version_0_1` has three finished cells and two that were interrupted; `version_0_1.json` names the
platform that made them.
"""

import json
import shutil
from pathlib import Path

import pytest

from ascent.records import files, layout
from ascent.records.cell import read_cell
from ascent.records.errors import InputError
from ascent.records.read import DONE, UNFINISHED, load
from ascent.reports.checking import check, verify
from ascent.reports.checking.grades import RESTARTED
from ascent.reports.checking.setting import Allowed
from ascent.reports.report import build
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
    page = build(runs, tmp_path / "report")
    assert page.exists()
    scores = (tmp_path / "report" / "tables" / "scores.csv").read_text().splitlines()
    assert len(scores) == 1 + len(FINISHED) + len(INTERRUPTED)


@pytest.mark.parametrize("name", FINISHED)
def test_check(runs: Path, name: str) -> None:
    outcomes = check.check(cell_folder(runs, name)).outcomes
    assert [outcome.rule for outcome in outcomes if not outcome.passed] == []


@pytest.mark.parametrize("name", FINISHED)
def test_verify(runs: Path, name: str) -> None:
    """Trained again by the sources that were recorded with them, which have other package names."""
    folder = cell_folder(runs, name)
    needs_the_recorded_packages(folder)
    (refusal,) = verify.verify(folder, "start")
    assert "run them with --run-recorded-code" in refusal.reason
    outcomes = verify.verify(folder, "start", allowed=Allowed(run_recorded_code=True))
    assert all("runs the recorded sources" in outcome.reason for outcome in outcomes)
    if KNOWN["platform"] == platform.platform_key():
        assert {outcome.verdict for outcome in outcomes} == {RESTARTED}


@pytest.mark.parametrize("name", INTERRUPTED)
def test_runs_of_another_version_are_not_resumed(runs: Path, name: str) -> None:
    """SAC and PPO have changed: the command is refused in one line, and the record stays as it is."""
    cell = read_cell(cell_folder(runs, name))
    before = {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()}
    with pytest.raises(InputError, match=r"with other versions \(algorithm was 1, is now \d") as refusal:
        train(cell, [0, 1], runs)
    assert "\n" not in str(refusal.value)
    assert {path: path.read_bytes() for path in runs.rglob("*") if path.is_file()} == before


def test_policies_of_another_version_are_not_played(runs: Path) -> None:
    """A2C has changed: its policies are not perturbed again; the recorded tables stay."""
    folder = cell_folder(runs, FINISHED[0])
    before = {path: path.read_bytes() for path in (folder / layout.ROBUSTNESS).iterdir()}
    with pytest.raises(InputError, match="other versions"):
        robustness.record(folder, robustness.parse_levels("CartPole-v1", ["drop=0.25"]), episodes=2)
    assert {path: path.read_bytes() for path in (folder / layout.ROBUSTNESS).iterdir()} == before

"""`ascent verify`: what was recorded comes out again, and what was tampered with is named where it begins."""

import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from ascent.records import files
from ascent.records.errors import InputError
from ascent.records.plan import Job
from ascent.reports import importing
from ascent.reports.checking import differences, verify
from ascent.reports.checking.folder import RunFiles
from ascent.reports.checking.rerun import Pack
from ascent.reports.checking.verify import CANNOT, DIFFERS, VERIFIED, Outcome, exit_code
from ascent.reports.report import build
from ascent.runners import platform
from tests.command import call
from tests.reports import trained
from tests.reports.trained import CLEAN, SEEDS, edit, forge, rename_cell, reseal, rows
from tests.small import small_cell

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Every temporary folder goes."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    yield
    assert not list((tmp_path / "temporary").iterdir())


@pytest.fixture
def report(runs: Path, tmp_path: Path) -> Path:
    """The report of the copy."""
    build(runs, tmp_path / "report", title="Two cells")
    return tmp_path / "report"


def cell_of(runs: Path, system: str = "a2c") -> Path:
    (found,) = runs.glob(f"*/*/{system}-*")
    return found


def verdicts(outcomes: list[Outcome]) -> list[str]:
    return [outcome.verdict for outcome in outcomes]


def ladder(run: Path) -> list[list[str]]:
    return [line.split(",") for line in (run / "ladder.csv").read_text().splitlines()[1:]]


# ---- records


def test_records_of_a_cell_and_a_run(runs: Path) -> None:
    cell = cell_of(runs)
    assert verdicts(verify.verify(cell)) == verdicts(verify.verify(cell / "seed-1")) == [VERIFIED]
    rows(cell / "seed-1" / "train.csv", lambda lines: lines.pop())
    (outcome,) = verify.verify(cell)
    assert outcome.verdict == DIFFERS
    assert "result-digests" in outcome.reason and "seed-1: train.csv" in outcome.reason
    assert verdicts(verify.verify(cell / "seed-0")) == [VERIFIED]


def test_a_changed_tree_is_said(runs: Path) -> None:
    cell = cell_of(runs)
    edit(cell / "seed-1" / "run.json", lambda about: about.update(dirty=True))
    reseal(cell)
    (outcome,) = verify.verify(cell)
    assert outcome.verdict == VERIFIED and "uncommitted changes" in outcome.reason
    (outcome,) = verify.verify(cell / "seed-1", "start")
    assert outcome.verdict == VERIFIED and "trained with uncommitted changes" in outcome.reason


def test_report_is_made_again(report: Path, runs: Path) -> None:
    (outcome,) = verify.verify(report, runs=runs)
    assert outcome.verdict == VERIFIED and "byte for byte" in outcome.reason


def test_edited_report_is_named(report: Path, runs: Path) -> None:
    """Which files, and the first cell of a table that is not what the records say."""
    scores = report / "tables" / "scores.csv"
    table = pd.read_csv(scores, dtype=str)
    table.loc[1, "mean"] = "123.5"
    scores.write_text(table.to_csv(index=False, lineterminator="\n"))
    (report / "tables" / "scores.md").unlink()
    (report / "figures" / "mine.png").write_bytes(b"")
    (outcome,) = verify.verify(report, runs=runs)
    assert outcome.verdict == DIFFERS and "3 of " in outcome.reason.splitlines()[0]
    assert "tables/scores.csv: row 2 (" in outcome.reason
    assert "column mean: recorded 123.5, rebuilt -" in outcome.reason
    assert "tables/scores.md exists only in the rebuilt report" in outcome.reason
    assert "figures/mine.png exists only in the report" in outcome.reason


def test_report_of_tampered_records_differs(report: Path, runs: Path) -> None:
    """Also by a forger who makes every digest fit."""

    def better(lines: list[str]) -> None:
        for k, words in enumerate(line.split(",") for line in lines):
            lines[k] = ",".join([*words[:3], "400.0", *words[4:]])

    rows(cell_of(runs) / "seed-1" / "eval.csv", better)
    forge(cell_of(runs))
    (outcome,) = verify.verify(report, runs=runs)
    assert outcome.verdict == DIFFERS
    assert "tables/scores.csv: row 1 (" in outcome.reason and "data.parquet: " in outcome.reason
    shutil.rmtree(cell_of(runs))
    (outcome,) = verify.verify(report, runs=runs)
    assert outcome.verdict == DIFFERS and "tables/completeness.csv: row 1" in outcome.reason
    shutil.rmtree(runs)
    runs.mkdir()
    (outcome,) = verify.verify(report, runs=runs)
    assert outcome.verdict == CANNOT and "give their folder with --runs" in outcome.reason


def made_elsewhere(report: Path, **changes: str) -> None:
    """Let the report say that it was made by other versions."""
    there = differences.made_with() | changes
    path = report / "provenance.json"
    content = json.loads(path.read_text())
    content["report"]["made_with"] = there
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("factor,verdict", [(1 + 1e-12, VERIFIED), (1 + 1e-6, DIFFERS)])
def test_report_of_other_versions(factor: float, verdict: str, report: Path, runs: Path) -> None:
    """There the numbers must agree to 1e-9, and this is said."""
    made_elsewhere(report, pandas="2.2.0", platform="aarch64/ASIMD")
    path = report / "data.parquet"
    table = pd.read_parquet(path)
    table["return"] *= factor
    table.to_parquet(path, index=False)
    (report / "index.html").write_text("another page")
    (outcome,) = verify.verify(report, runs=runs)
    assert outcome.verdict == verdict
    assert "pandas 2.2.0 (here " in outcome.reason and "platform aarch64/ASIMD (here " in outcome.reason
    if verdict == VERIFIED:
        assert "agree to 1e-09" in outcome.reason and "index.html: line 1" in outcome.reason
    else:
        assert "data.parquet: row 1, column return" in outcome.reason


# ---- trained again


def test_it_comes_out_again(runs: Path) -> None:
    """Both kinds of experience, at both depths, on whichever of the runs is asked for."""
    outcomes = verify.verify(cell_of(runs), "start")
    assert [outcome.where[-6:] for outcome in outcomes] == [f"seed-{seed}" for seed in SEEDS]
    assert verdicts(outcomes) == [VERIFIED] * 3
    assert all(
        "all 5 rows of ladder.csv agree up to step 200 of 400" in outcome.reason for outcome in outcomes
    )
    (outcome,) = verify.verify(cell_of(runs) / "seed-2", "start", steps=250)
    assert "all 6 rows of ladder.csv agree up to step 300 of 400" in outcome.reason
    outcomes = verify.verify(cell_of(runs, "td3"), "whole")
    assert verdicts(outcomes) == [VERIFIED] * 3 and "7 result files have the same bytes" in outcomes[0].reason


def test_start_stops_where_enough_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of some seconds is not trained to its end."""
    cell = trained.record(small_cell("a2c", "CartPole-v1", steps=15_000, points=30), tmp_path / "runs", [0])
    compared, ended = verify._compare_run, []

    def spy(pack: Pack, run: RunFiles, depth: str) -> Outcome:
        ended.append((pack.folder(run) / "result.json").exists())
        return compared(pack, run, depth)

    monkeypatch.setattr(verify, "_compare_run", spy)
    (outcome,) = verify.verify(cell, "start")
    assert outcome.verdict == VERIFIED and "up to step 1,000 of 15,000" in outcome.reason
    assert ended == [False]


def test_start_of_a_report(report: Path, runs: Path) -> None:
    """Every run that it names, of both cells; none that is gone is passed over."""
    shutil.rmtree(cell_of(runs) / "seed-1")
    outcomes = verify.verify(report, "start", steps=0, runs=runs)
    assert verdicts(outcomes) == [VERIFIED, CANNOT, *[VERIFIED] * 4]
    assert outcomes[1].where.endswith("/seed-1") and "has no record in" in outcomes[1].reason
    shutil.rmtree(cell_of(runs))
    shutil.rmtree(cell_of(runs, "td3"))
    assert verdicts(verify.verify(report, "start", steps=0, runs=runs)) == [CANNOT] * 6


def test_tampered_parameter_shows_at_the_first_update(runs: Path) -> None:
    """Nothing in the folder gives it away: the forger has changed every digest."""
    cell = rename_cell(cell_of(runs), lambda facts: facts["config"].update(gamma=0.5))
    forge(cell)
    assert verdicts(verify.verify(cell)) == [VERIFIED]
    outcomes = verify.verify(cell, "start")
    assert verdicts(outcomes) == [DIFFERS] * 3
    assert all("ladder.csv at step 32, first update: recorded '32," in outcome.reason for outcome in outcomes)


def test_swapped_seeds_show_at_the_start(runs: Path) -> None:
    cell = cell_of(runs)
    trained.swap_seeds(cell)
    for seed in (0, 1):
        trained.pretend_seed(cell / f"seed-{seed}", seed)
    reseal(cell)
    assert verdicts(verify.verify(cell)) == [VERIFIED]
    outcomes = verify.verify(cell, "start", steps=0)
    assert verdicts(outcomes) == [DIFFERS, DIFFERS, VERIFIED]
    assert "ladder.csv at step 0, start: recorded '0,start," in outcomes[0].reason


@pytest.mark.parametrize("row", [0, 3, 4])
def test_tampered_ladder_is_named(row: int, runs: Path) -> None:
    """The step and the event of the first row that is not what comes out."""
    run = cell_of(runs) / "seed-1"
    rows(run / "ladder.csv", lambda lines: lines.__setitem__(row, lines[row][:-4] + "0000"))
    forge(cell_of(runs))
    step, event, _ = ladder(run)[row]
    (outcome,) = verify.verify(run, "start")
    assert outcome.verdict == DIFFERS and outcome.reason.startswith(f"ladder.csv at step {step}, {event}: ")


def test_what_only_the_whole_shows(runs: Path) -> None:
    """A policy and a last episode that are not the run's, with every digest made to fit."""
    cell = cell_of(runs)
    data = bytearray((cell / "seed-0" / "policy.npz").read_bytes())
    data[len(data) // 2] ^= 1
    (cell / "seed-0" / "policy.npz").write_bytes(data)
    rows(cell / "seed-1" / "train.csv", lambda lines: lines.pop())
    step = (runs / cell / "seed-2" / "train.csv").read_text().splitlines()[-1].partition(",")[0]
    rows(cell / "seed-2" / "train.csv", lambda lines: lines.append(lines.pop().replace(".0,", ".5,")))
    forge(cell)
    outcomes = verify.verify(cell, "whole")
    assert verdicts(outcomes) == [DIFFERS] * 3
    assert "policy.npz differs" in outcomes[0].reason and "ladder" not in outcomes[0].reason
    assert "train.csv at step " in outcomes[1].reason and "recorded (missing)" in outcomes[1].reason
    assert f"train.csv at step {step}: " in outcomes[2].reason


def test_unfinished_imported_and_gpu_runs_cannot_be_verified(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cell = cell_of(runs)
    (cell / "seed-0" / "result.json").unlink()
    gpu = "NVIDIA H100, CUDA 12.8"
    edit(cell / "seed-1" / "run.json", lambda about: about["attempts"][-1].update(device=gpu))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (outcome,) = verify.verify(cell / "seed-0", "whole")
    assert outcome.verdict == CANNOT and "not finished" in outcome.reason
    (outcome,) = verify.verify(cell / "seed-1", "whole")
    assert outcome.verdict == CANNOT and f"trained on {gpu}; torch finds no GPU" in outcome.reason
    (tmp_path / "curves.csv").write_text("seed,step,return\n0,0,1.5\n0,10,2.5\n1,0,1.0\n1,10,2.0\n")
    folder = importing.import_curves([tmp_path / "curves.csv"], "Other", "CartPole-v1", tmp_path / "imported")
    assert verdicts(verify.verify(folder)) == [VERIFIED]
    (outcome,) = verify.verify(folder, "start")
    assert outcome.verdict == CANNOT and "imported" in outcome.reason and exit_code([outcome]) == 2


# ---- recorded sources and packages


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A cell recorded by sources in which the value loss of A2C counts twice."""
    root, out = tmp_path / "project", tmp_path / "elsewhere"
    for part in ("algorithms", "kernels", "suites", "runners", "records"):
        shutil.copytree(ROOT / part, root / "ascent" / part, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "ascent" / "__init__.py").touch()
    path = root / "ascent" / "algorithms" / "a2c.py"
    text = path.read_text()
    assert text.count("error.square()") == 1
    path.write_text(text.replace("error.square()", "2.0 * error.square()"))
    job = Job(trained.cells()[0], (0, 1), out)
    settings = {"cwd": root, "env": os.environ | {"PYTHONPATH": str(root)}}
    command = [sys.executable, "-m", "ascent.runners.pack"]
    subprocess.run(command, check=True, input=job.to_json(), text=True, **settings)
    shutil.rmtree(root)  # what the record holds must do
    return cell_of(out)


def test_recorded_sources_are_what_runs(elsewhere: Path, whole: Path) -> None:
    here = ladder(cell_of(whole) / "seed-0")
    there = ladder(elsewhere / "seed-0")
    assert there[:2] == here[:2] and there[2][:2] == here[2][:2] == ["32", "first update"]
    assert there[2] != here[2], "these sources learn something else"
    outcomes = verify.verify(elsewhere, "start")
    assert verdicts(outcomes) == [VERIFIED] * 2
    digest = files.read_json(elsewhere / "seed-0" / "run.json")["source_digest"]
    assert f"runs the recorded sources {digest}" in outcomes[0].reason


def test_recorded_sources_that_were_changed_do_not_run(elsewhere: Path) -> None:
    (path,) = elsewhere.glob("sources-*.zip")
    kept = path.read_bytes()
    for name in ("algorithms/a2c.py", "../../a2c.py", "sitecustomize.py"):
        content = zipfile.ZipFile(io.BytesIO(kept))
        with zipfile.ZipFile(path, "w") as archive:
            for entry in content.namelist():
                archive.writestr(entry, content.read(entry) + b"\n" * (entry == name))
            if name not in content.namelist():
                archive.writestr(name, b"raise SystemExit")
        (outcome, *_) = verify.verify(elsewhere, "start")
        assert outcome.verdict == CANNOT
        assert ("was changed" if name == "algorithms/a2c.py" else f"contains {name!r}") in outcome.reason
    path.unlink()
    (outcome,) = verify.verify(elsewhere, "start")
    assert outcome.verdict == CANNOT and "cannot be read" in outcome.reason


def test_other_packages_are_named(runs: Path) -> None:
    run = cell_of(runs) / "seed-1"
    there = {"python": "3.10.1", "numpy": "1.26.4", "jax": "0.4"}
    edit(run / "run.json", lambda about: about.update(packages=about["packages"] | there))
    (outcome,) = verify.verify(run, "start")
    assert outcome.verdict == CANNOT
    lock = files.read_json(run / "run.json")["lock_digest"]
    for said in (
        f"numpy 1.26.4 (installed: {np.__version__})", "jax 0.4 (installed: none)",
        "python 3.10.1 (installed: ",
        "needs Python 3.10.1",
        f"`pip install -r requirements.lock` of commit {CLEAN['commit']}", lock, "--install",
    ):  # fmt: skip
        assert said in outcome.reason
    assert "torch" not in outcome.reason
    edit(run / "run.json", lambda about: about.update(lock_digest=None))
    for install in (False, True):
        (outcome,) = verify.verify(run, "start", install=install)
        assert outcome.verdict == CANNOT and outcome.reason.endswith(
            "names no commit with a requirements.lock"
        )


def test_install(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock is that of the recorded commit, and is what the record says it is; then it is installed."""
    run = cell_of(runs) / "seed-1"
    python = files.read_json(run / "run.json")["packages"]["python"]

    def outcome(lock: bytes, **about: object) -> str:
        edit(run / "run.json", lambda record: record.update(about, lock_digest=sha256(lock).hexdigest()))
        (found,) = verify.verify(run, "start", install=True)
        assert found.verdict == CANNOT
        return found.reason

    empty = {"python": python}
    assert f"git show {CLEAN['commit']}:requirements.lock: " in outcome(b"", packages=empty)
    monkeypatch.setattr("ascent.reports.checking.setting._git_show", lambda name: b"# nothing\n")
    assert "does not have the recorded sha256" in outcome(b"something else", packages=empty)
    assert "do not run with the installed packages: ModuleNotFoundError" in outcome(
        b"# nothing\n", packages=empty
    )
    assert "needs Python 2.7.18, which is not installed" in outcome(
        b"# nothing\n", packages={"python": "2.7.18"}
    )


# ---- another platform


def on_another_platform(cell: Path, shift: float, spread: float) -> None:
    """Records as of another machine, where the seeds scored `shift` more, with a standard deviation."""
    for seed in SEEDS:
        run = cell / f"seed-{seed}"
        edit(run / "run.json", lambda about: about["platform"].update(key="torch-2.13.0/riscv64/x/NO"))

        def other(lines: list[str], change: float = shift + spread * (seed - 1)) -> None:
            for k, words in enumerate(line.split(",") for line in lines):
                lines[k] = ",".join([*words[:3], repr(float(words[3]) + change), *words[4:]])

        rows(run / "eval.csv", other)
    forge(cell)


@pytest.mark.parametrize(
    "shift,spread,verdict,said",
    [
        (0.5, 1.0, VERIFIED, "the scores agree within the margin"),
        (30.0, 1.0, DIFFERS, "the scores differ"),
        (5.0, 30.0, CANNOT, "inconclusive: too few runs or too much variance"),
    ],
)
def test_another_platform_is_a_test_of_scores(
    shift: float, spread: float, verdict: str, said: str, tmp_path: Path
) -> None:
    """And the outcome says that it was one. Nothing learns MountainCar in 400 steps: -200 for every seed."""
    cell = trained.record(small_cell("a2c", "MountainCar-v0", steps=400, points=2), tmp_path / "runs")
    on_another_platform(cell, shift, spread)
    (outcome,) = verify.verify(cell, "whole")
    assert outcome.verdict == verdict and said in outcome.reason
    assert outcome.reason.startswith("compared statistically, not byte by byte (recorded on torch-2.13")
    assert platform.platform_key() in outcome.reason
    assert f"{-200 + shift:.4g} recorded, -200 retrained, n = 3 each; Welch p = " in outcome.reason
    assert "equivalence within 9 p = " in outcome.reason


def test_one_run_on_another_platform_says_nothing(runs: Path) -> None:
    run = cell_of(runs) / "seed-1"
    edit(run / "run.json", lambda about: about["platform"].update(key="torch-2.13.0/riscv64/x/NO"))
    (outcome,) = verify.verify(run, "whole")
    assert outcome.verdict == CANNOT and "a test needs at least two runs" in outcome.reason
    (outcome,) = verify.verify(run, "start")
    assert outcome.verdict == VERIFIED, "the learner came out the same nevertheless"
    rows(run / "ladder.csv", lambda lines: lines.__setitem__(3, lines[3][:-4] + "0000"))
    (outcome,) = verify.verify(run, "start")
    assert outcome.verdict == CANNOT and "results differ, as they may across platforms" in outcome.reason


# ---- the command


def test_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cell = cell_of(runs)
    code, out, _ = call(capsys, "verify", str(cell / "seed-1"))
    assert code == 0 and "1 verified" in out
    code, out, _ = call(capsys, "verify", str(cell / "seed-1"), "--depth", "start", "--steps", "0")
    assert code == 0 and "all 2 rows of ladder.csv agree up to step 0" in out
    edit(cell / "cell.json", lambda facts: facts["spec"].update(random_score=1.0))
    code, out, _ = call(capsys, "verify", str(cell))
    assert code == 1 and "task-facts" in out and "1 DIFFERS" in out
    edit(cell / "seed-1" / "run.json", lambda about: about.update(packages={"torch": "0.1"}))
    code, out, _ = call(capsys, "verify", str(cell / "seed-1"), "--depth", "whole")
    assert code == 2 and "torch 0.1 (installed: " in out


@pytest.mark.parametrize(
    "words,message",
    [
        (["RUNS"], "is not a run, cell, report or bundle; it contains 2 cells"),
        (["NOWHERE"], "no such folder"),
        (["RUNS", "--depth", "wholly"], "unknown depth 'wholly'; did you mean 'whole'?"),
        (["RUNS", "--steps", "10"], "needs --depth start"),
        (["RUNS/../text"], "is damaged or not a bundle"),
    ],
)
def test_bad_input(words: list[str], message: str, runs: Path, capsys: pytest.CaptureFixture) -> None:
    (runs.parent / "text").write_text("no archive")
    words = [word.replace("RUNS", str(runs)) for word in words]
    code, out, err = call(capsys, "verify", *words)
    assert code == 2 and not out and message in err and err.count("\n") == 1


def test_a_folder_that_only_looks_like_a_report(tmp_path: Path) -> None:
    """Provenance of an older report, of none, and one that leads out of the folder of records."""
    (tmp_path / "old").mkdir()
    cell = {"suite": "..", "task": "..", "system": "a", "preset": "b", "digest": "c", "seeds": [0]}
    for content, said in (
        ("{}", "was written by an older version"),
        ("[", "damaged"),
        ('{"report": {"settings": {}, "title": ""}}', "lacks what rebuilding the report needs"),
        ('{"report": {"settings": {"colour": 1}}}', "lacks what rebuilding the report needs"),
        (json.dumps({"report": {"settings": {}, "title": "", "expected": [cell]}}), "is not a cell folder"),
    ):
        (tmp_path / "old" / "provenance.json").write_text(content)
        with pytest.raises(InputError, match=said):
            verify.verify(tmp_path / "old")

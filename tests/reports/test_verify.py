"""`ascent verify`: what was recorded comes out again, and what was tampered with is named where it begins."""

import ast
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

from ascent.records import files, provenance
from ascent.records.errors import InputError
from ascent.records.plan import Job
from ascent.records.store import Store
from ascent.reports.checking import check, differences, origin, retraining, setting, verify
from ascent.reports.checking.folder import RunFiles
from ascent.reports.checking.grades import IMPORTED, RECORDED, REPLAYED, RESTARTED, RETRAINED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, REBUILT, Outcome, exit_code
from ascent.reports.checking.rerun import Pack
from ascent.reports.checking.setting import Allowed
from ascent.reports.cite import cite
from ascent.reports.imports import importing
from ascent.reports.report import build
from ascent.runners import platform
from tests.command import call
from tests.reports import trained
from tests.reports.trained import SEEDS, UNKNOWN, clean_commit, edit, forge, rename_cell, rows
from tests.small import rest_slow, small_cell

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


def of_report(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.where.endswith("/report")]


def ladder(run: Path) -> list[list[str]]:
    return [line.split(",") for line in (run / "ladder.csv").read_text().splitlines()[1:]]


# ---- records


def test_records_of_a_cell_and_a_run(runs: Path) -> None:
    cell = cell_of(runs)
    for target in (cell, cell / "seed-1"):
        (outcome,) = verify.verify(target, "records")
        assert (outcome.verdict, outcome.unknown) == (RECORDED, ())
    rows(cell / "seed-1" / "train.csv", lambda lines: lines.pop())
    rest, outcome = verify.verify(cell, "records")
    assert (rest.verdict, outcome.verdict) == (RECORDED, DIFFERS)
    assert "result-digests" in outcome.reason and "seed-1: train.csv" in outcome.reason
    assert verdicts(verify.verify(cell / "seed-0", "records")) == [RECORDED]


def test_a_changed_tree_is_said(runs: Path) -> None:
    cell = cell_of(runs)
    edit(cell / "seed-1" / "run.json", lambda about: about.update(dirty=True))
    for target, depth, grade in ((cell, "records", RECORDED), (cell / "seed-1", "start", RESTARTED)):
        (outcome,) = verify.verify(target, depth)
        assert outcome.verdict == grade and "uncommitted changes" in outcome.unknown[0]
        assert outcome.words == f"{grade} (origin unknown)" and exit_code([outcome]) == 2


def test_report_is_made_again(report: Path, runs: Path) -> None:
    outcomes = verify.verify(report, runs=runs)
    (outcome,) = of_report(outcomes)
    assert outcome.verdict == REBUILT and "byte for byte" in outcome.reason
    assert [outcome.verdict for outcome in outcomes if outcome not in of_report(outcomes)] == [RECORDED] * 2


def test_edited_report_is_named(report: Path, runs: Path) -> None:
    """Which files, and the first cell of a table that is not what the records say."""
    scores = report / "tables" / "scores.csv"
    table = pd.read_csv(scores, dtype=str)
    table.loc[1, "mean"] = "123.5"
    scores.write_text(table.to_csv(index=False, lineterminator="\n"))
    (report / "tables" / "scores.md").unlink()
    (report / "figures" / "mine.png").write_bytes(b"")
    (outcome,) = of_report(verify.verify(report, runs=runs))
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
    (outcome,) = of_report(verify.verify(report, runs=runs))
    assert outcome.verdict == DIFFERS
    assert "tables/scores.csv: row 1 (" in outcome.reason and "data.parquet: " in outcome.reason
    shutil.rmtree(cell_of(runs))
    (outcome,) = of_report(verify.verify(report, runs=runs))
    assert outcome.verdict == DIFFERS and "tables/completeness.csv: row 1" in outcome.reason
    shutil.rmtree(runs)
    runs.mkdir()
    (outcome,) = of_report(verify.verify(report, runs=runs))
    assert outcome.verdict == CANNOT and "give their folder with --runs" in outcome.reason


def made_elsewhere(report: Path, **changes: str) -> None:
    """Let the report say that it was made by other versions."""
    there = differences.made_with() | changes
    path = report / "provenance.json"
    content = json.loads(path.read_text())
    content["report"]["made_with"] = there
    path.write_text(json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("factor,verdict", [(1 + 1e-12, REBUILT), (1 + 1e-6, DIFFERS)])
def test_report_of_other_versions(factor: float, verdict: str, report: Path, runs: Path) -> None:
    """There the numbers must agree to 1e-9, and this is said."""
    made_elsewhere(report, pandas="2.2.0", platform="aarch64/ASIMD")
    path = report / "data.parquet"
    table = pd.read_parquet(path)
    table["return"] *= factor
    table.to_parquet(path, index=False)
    (report / "index.html").write_text("another page")
    (outcome,) = of_report(verify.verify(report, runs=runs))
    assert outcome.verdict == verdict
    assert "pandas 2.2.0 (here " in outcome.reason and "platform aarch64/ASIMD (here " in outcome.reason
    if verdict == REBUILT:
        assert "agree to 1e-09" in outcome.reason and "index.html: line 1" in outcome.reason
    else:
        assert "data.parquet: row 1, column return" in outcome.reason


# ---- trained again


def test_it_comes_out_again(runs: Path) -> None:
    """Both kinds of experience, at both depths, on whichever of the runs is asked for."""
    outcomes = verify.verify(cell_of(runs), "start")
    assert [outcome.where[-6:] for outcome in outcomes] == [f"seed-{seed}" for seed in SEEDS]
    assert verdicts(outcomes) == [RESTARTED] * 3
    assert all(
        "all 5 rows of ladder.csv agree up to step 200 of 400" in outcome.reason for outcome in outcomes
    )
    (outcome,) = verify.verify(cell_of(runs) / "seed-2", "start", steps=250)
    assert "all 6 rows of ladder.csv agree up to step 300 of 400" in outcome.reason
    outcomes = verify.verify(cell_of(runs, "td3"), "whole")
    assert (
        verdicts(outcomes) == [RETRAINED] * 3 and "7 result files have the same bytes" in outcomes[0].reason
    )


@pytest.mark.slow
def test_start_stops_where_enough_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run of some seconds is not trained to its end."""
    cell = trained.record(small_cell("a2c", "CartPole-v1", steps=15_000, points=30), tmp_path / "runs", [0])
    compared, ended = retraining._compare_run, []

    def spy(pack: Pack, run: RunFiles, whole: bool) -> Outcome:
        ended.append((pack.folder(run) / "result.json").exists())
        return compared(pack, run, whole)

    monkeypatch.setattr(retraining, "_compare_run", spy)
    (outcome,) = verify.verify(cell, "start")
    assert outcome.verdict == RESTARTED and "up to step 1,000 of 15,000" in outcome.reason
    assert ended == [False]


@pytest.mark.slow
def test_start_of_a_report(report: Path, runs: Path) -> None:
    """Every run that it names, of both cells; none that is gone is passed over."""
    shutil.rmtree(cell_of(runs) / "seed-1")
    again, *outcomes = verify.verify(report, "start", steps=0, runs=runs)
    assert again.verdict == DIFFERS and of_report([again])
    assert verdicts(outcomes) == [RESTARTED, CANNOT, *[RESTARTED] * 4]
    assert outcomes[1].where.endswith("/seed-1") and "has no record in" in outcomes[1].reason
    shutil.rmtree(cell_of(runs))
    shutil.rmtree(cell_of(runs, "td3"))
    assert verdicts(verify.verify(report, "start", steps=0, runs=runs)) == [CANNOT] * 7


def test_tampered_parameter_shows_at_the_first_update(runs: Path) -> None:
    """Nothing in the folder gives it away: the forger has changed every digest."""
    cell = rename_cell(cell_of(runs), lambda facts: facts["config"].update(gamma=0.5))
    forge(cell)
    assert verdicts(verify.verify(cell, "records")) == [RECORDED]
    outcomes = verify.verify(cell, "start")
    assert verdicts(outcomes) == [DIFFERS] * 3
    assert all("ladder.csv at step 32, first update: recorded '32," in outcome.reason for outcome in outcomes)


def test_swapped_seeds_show_at_the_start(runs: Path) -> None:
    cell = cell_of(runs)
    trained.swap_seeds(cell)
    for seed in (0, 1):
        trained.pretend_seed(cell / f"seed-{seed}", seed)
    assert verdicts(verify.verify(cell, "records")) == [RECORDED]
    assert verdicts(verify.verify(cell)) == [DIFFERS, DIFFERS, REPLAYED]
    outcomes = verify.verify(cell, "start", steps=0)
    assert verdicts(outcomes) == [DIFFERS, DIFFERS, RESTARTED]
    assert "ladder.csv at step 0, start: recorded '0,start," in outcomes[0].reason


@pytest.mark.parametrize("row", rest_slow([0, 3, 4]))
def test_tampered_ladder_is_named(row: int, runs: Path) -> None:
    """The step and the event of the first row that is not what comes out."""
    run = cell_of(runs) / "seed-1"
    rows(run / "ladder.csv", lambda lines: lines.__setitem__(row, lines[row][:-4] + "0000"))
    forge(cell_of(runs))
    step, event, _ = ladder(run)[row]
    (outcome,) = verify.verify(run, "start")
    assert outcome.verdict == DIFFERS and "ladder.csv" in outcome.reason
    assert f"at step {step}, {event}: " in outcome.reason or row == 0


def better_policy(path: Path) -> None:
    """Another policy: the same shapes, other weights."""
    with np.load(path) as arrays:
        policy = {name: array if name == "about" else -array for name, array in arrays.items()}
    np.savez(path, **policy)


def test_another_policy_shows_when_it_plays(runs: Path) -> None:
    """Also the policy of another seed, and of another cell."""
    cell = cell_of(runs)
    better_policy(cell / "seed-0" / "policy.npz")
    forge(cell)
    assert verdicts(verify.verify(cell)) == [DIFFERS, REPLAYED, REPLAYED]
    shutil.copy(cell / "seed-1" / "policy.npz", cell / "seed-0" / "policy.npz")
    shutil.copy(cell_of(runs, "td3") / "seed-2" / "policy.npz", cell / "seed-2" / "policy.npz")
    forge(cell)
    outcomes = verify.verify(cell)
    assert verdicts(outcomes) == [DIFFERS, DIFFERS, DIFFERS]
    assert "is a copy of" in outcomes[1].reason and "does not belong to" in outcomes[2].reason


def test_forged_final_evaluations_are_not_replayed(runs: Path) -> None:
    """Every digest and the score fit; the policy plays something else."""
    cell = cell_of(runs)

    def perfect(lines: list[str]) -> None:
        for k, words in enumerate(line.split(",") for line in lines):
            lines[k] = ",".join([*words[:3], "500.0", "500", *words[5:]])

    rows(cell / "seed-1" / "eval.csv", perfect)
    edit(cell / "seed-1" / "result.json", lambda result: result.update(score=500.0))
    forge(cell)
    assert verdicts(verify.verify(cell, "records")) == [RECORDED]
    outcomes = verify.verify(cell)
    assert verdicts(outcomes) == [REPLAYED, DIFFERS, REPLAYED]
    assert "eval.csv at step 400: recorded '400,greedy,0,500.0,500,0', replayed" in outcomes[1].reason


def test_what_only_the_whole_shows(runs: Path) -> None:
    """A policy and a last episode that are not the run's, with every digest made to fit."""
    cell = cell_of(runs)
    better_policy(cell / "seed-0" / "policy.npz")
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
    folder = importing.import_curves(
        [tmp_path / "curves.csv"], "Other", "CartPole-v1", tmp_path / "imported"
    ).folder
    assert verdicts(verify.verify(folder, "records")) == [IMPORTED]
    (outcome,) = verify.verify(folder, "start")
    assert outcome.verdict == CANNOT and "imported" in outcome.reason and exit_code([outcome]) == 2


# ---- recorded sources and packages


TRUSTING = Allowed(run_recorded_code=True)


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
    (outcome,) = verify.verify(elsewhere, "start")
    assert outcome.verdict == CANNOT and "run them with --run-recorded-code" in outcome.reason
    outcomes = verify.verify(elsewhere, "start", allowed=TRUSTING)
    assert verdicts(outcomes) == [RESTARTED] * 2
    assert {outcome.words for outcome in outcomes} == {"restarted (origin unknown)"}
    digest = files.read_json(elsewhere / "seed-0" / "run.json")["source_digest"]
    assert f"runs the recorded sources {digest}" in outcomes[0].reason


def test_recorded_sources_that_were_changed_do_not_run(elsewhere: Path) -> None:
    (path,) = elsewhere.glob("sources-*.zip")
    kept = path.read_bytes()
    for name in ("ascent/algorithms/a2c.py", "../../a2c.py", "sitecustomize.py"):
        content = zipfile.ZipFile(io.BytesIO(kept))
        with zipfile.ZipFile(path, "w") as archive:
            for entry in content.namelist():
                archive.writestr(entry, content.read(entry) + b"\n" * (entry == name))
            if name not in content.namelist():
                archive.writestr(name, b"raise SystemExit")
        (outcome, *_) = verify.verify(elsewhere, "start", allowed=TRUSTING)
        assert outcome.verdict == DIFFERS
        assert ("has digest" if name.startswith("ascent/") else f"contains {name!r}") in outcome.reason
    path.unlink()
    (outcome,) = verify.verify(elsewhere, "start", allowed=TRUSTING)
    assert outcome.verdict == DIFFERS and "cannot be read" in outcome.reason


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
        f"`pip install -r requirements.lock` of commit {clean_commit()['commit']}", lock, "--install",
    ):  # fmt: skip
        assert said in outcome.reason
    assert "torch" not in outcome.reason
    edit(run / "run.json", lambda about: about.update(lock_digest=None, commit=UNKNOWN))
    for install in (False, True):
        (outcome,) = verify.verify(run, "start", allowed=Allowed(install=install))
        assert outcome.verdict == CANNOT and outcome.reason.endswith(
            "names no commit with a requirements.lock"
        )


def test_install(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what the lock of the recorded commit has is installed, if the record names that lock."""
    run = RunFiles(Store(cell_of(runs)), 1)
    python = run.about["packages"]["python"]

    def refused(lock: bytes, packages: dict[str, str], **about: object) -> str:
        monkeypatch.setattr(origin, "commit", lambda name: origin.Commit({}, lock, git=True))
        edit(run.path / "run.json", lambda record: record.update(about))
        with pytest.raises(setting.CannotVerify) as error:
            setting._installed(RunFiles(Store(run.path.parent), 1), {"python": python} | packages, tmp_path)
        return str(error.value)

    lock = b"numpy==2.4.6\ntorch==2.13.0\n"
    assert "does not have the recorded sha256" in refused(lock, {})
    digest = sha256(lock).hexdigest()
    for name, version in (
        ("--index-url", "https://example.org"), ("numpy", "1.0"), ("numpy", "2.4.6 evil"), ("evil", "1.0"),
        ("torch", "2.13.0+cpu --pre"),
    ):  # fmt: skip
        assert f"{name} {version} is not in the lock" in refused(lock, {name: version}, lock_digest=digest)
    assert "needs Python 2.7.18, which is not installed" in refused(lock, {"python": "2.7.18"})
    monkeypatch.undo()
    edit(run.path / "run.json", lambda record: record.update(commit=UNKNOWN))
    with pytest.raises(setting.CannotVerify, match="is not in the repository of this project"):
        setting._installed(RunFiles(Store(run.path.parent), 1), {"python": python}, tmp_path)


# ---- what is recorded does not run


CANARY = """
import os, pathlib
pathlib.Path({marker!r}).write_text(repr(dict(os.environ)))
"""


@pytest.fixture
def canary(runs: Path, tmp_path: Path) -> Path:
    """A cell whose recorded algorithm writes a file when it is imported, under digests that fit."""
    cell = cell_of(runs)
    (path,) = cell.glob("sources-*.zip")
    with zipfile.ZipFile(path) as archive:
        sources = {name: archive.read(name) for name in archive.namelist()}
    sources["ascent/algorithms/a2c.py"] += CANARY.format(marker=str(tmp_path / "canary")).encode()
    digest = provenance.source_digest(sources)
    path.unlink()
    (cell / f"sources-{digest}.zip").write_bytes(files.zip_files(sources))
    for run in cell.glob("seed-*"):
        edit(run / "run.json", lambda about: about.update(source_digest=digest, commit=UNKNOWN))
    return cell


@pytest.mark.parametrize(
    "depth",
    [
        None,
        *(pytest.param(depth, marks=pytest.mark.slow) for depth in ("records", "policy", "start")),
        "whole",
    ],
)
def test_recorded_code_does_not_run_unasked(depth: str | None, canary: Path, tmp_path: Path) -> None:
    """Not at any depth, not by check, cite and report."""
    verify.verify(canary, depth)
    verify.verify(canary, depth, allowed=Allowed(install=True))
    check.check(canary)
    cite(canary)
    build(canary.parents[2], tmp_path / "report")
    assert not (tmp_path / "canary").exists()


@pytest.mark.skipif(not list((ROOT / "kernels").glob("*.so")), reason="no kernels are built here")
@pytest.mark.parametrize("changed", [False, True])
def test_installed_kernels_of_the_same_sources_are_taken(
    changed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only those: kernels of other sources are compiled, here by a build.py that is not run."""
    kernels, built = tmp_path / "ascent" / "kernels", []
    shutil.copytree(ROOT / "kernels", kernels, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    if changed:
        (kernels / "ppo.h").write_text((kernels / "ppo.h").read_text() + "\n")
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda line, **_: built.append(line[-1]) or subprocess.CompletedProcess(line, 0, "", ""),
    )
    setting._build_kernels(tmp_path, tmp_path)
    assert built == ([str(kernels / "build.py")] if changed else [])
    ours = {} if changed else {path.name: path.read_bytes() for path in (ROOT / "kernels").glob("*.so")}
    assert {path.name: path.read_bytes() for path in kernels.glob("*.so")} == ours


def test_recorded_code_sees_nothing_of_the_user(
    canary: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("WANDB_API_KEY", "SSH_AUTH_SOCK", "PYTHONPATH", "CUDA_VISIBLE_DEVICES"):
        monkeypatch.setenv(name, "/secret")
    outcomes = verify.verify(canary, "start", allowed=TRUSTING)
    assert {outcome.words for outcome in outcomes} == {"restarted (origin unknown)"}
    seen = ast.literal_eval((tmp_path / "canary").read_text())
    assert "secret" not in str(seen) and str(Path.home()) not in seen["HOME"]


def test_sources_that_are_not_those_of_the_commit(canary: Path, tmp_path: Path) -> None:
    """An honest commit under other sources: refused before anything runs."""
    for run in canary.glob("seed-*"):
        edit(run / "run.json", lambda about: about.update(clean_commit()))
    for depth in verify.DEPTHS:
        (outcome,) = verify.verify(canary, depth, allowed=TRUSTING)
        assert outcome.verdict == DIFFERS
        assert (
            "named-commit: " in outcome.reason and "ascent/algorithms/a2c.py is not that of" in outcome.reason
        )
    assert not (tmp_path / "canary").exists()


# ---- another platform


def move(run: Path) -> None:
    """Let a run say that another processor trained it."""

    def change(about: dict) -> None:
        key = about["platform"]["key"].replace("x86_64", "riscv64")
        about["platform"]["key"] = key
        for attempt in about["attempts"]:
            attempt["platform"] = key

    edit(run / "run.json", change)


def on_another_platform(cell: Path, shift: float, spread: float) -> None:
    """Records as of another machine, where the seeds scored `shift` more, with a standard deviation."""
    for seed in SEEDS:
        run = cell / f"seed-{seed}"
        move(run)

        def other(lines: list[str], change: float = shift + spread * (seed - 1)) -> None:
            for k, words in enumerate(line.split(",") for line in lines):
                lines[k] = ",".join([*words[:3], repr(float(words[3]) + change), *words[4:]])

        rows(run / "eval.csv", other)
        edit(
            run / "result.json",
            lambda result, change=shift + spread * (seed - 1): result.update(score=result["score"] + change),
        )
    forge(cell)


@pytest.mark.parametrize(
    "shift,spread,verdict,said",
    [
        pytest.param(0.5, 1.0, RETRAINED, "the scores agree within the margin", marks=pytest.mark.slow),
        pytest.param(30.0, 1.0, DIFFERS, "the scores differ", marks=pytest.mark.slow),
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
    (outcome,) = verify.verify(cell, "start")
    assert outcome.verdict == (RESTARTED if verdict == RETRAINED else verdict) and said in outcome.reason
    assert outcome.reason.startswith("0 of 6 episodes at step 0 agree within 0.1%; compared statistically")


@pytest.mark.slow
def test_one_run_on_another_platform_says_nothing(runs: Path) -> None:
    run = cell_of(runs) / "seed-1"
    move(run)
    forge(run.parent)
    for depth, grade in (("whole", RETRAINED), ("start", RESTARTED)):
        (outcome,) = verify.verify(run, depth)
        assert outcome.verdict == grade, "the learner came out the same nevertheless"
    rows(run / "ladder.csv", lambda lines: lines.__setitem__(3, lines[3][:-4] + "0000"))
    forge(run.parent)
    (outcome,) = verify.verify(run, "whole")
    assert outcome.verdict == CANNOT and "a test needs at least two runs" in outcome.reason
    (outcome,) = verify.verify(run, "start")
    assert outcome.verdict == CANNOT and "a test needs at least two runs" in outcome.reason
    assert outcome.reason.startswith("2 of 2 episodes at step 0 agree within 0.1%")


# ---- the command


def test_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    cell = cell_of(runs)
    code, out, _ = call(capsys, "verify", str(cell / "seed-1"))
    assert code == 0 and "1 replayed" in out
    code, out, _ = call(capsys, "verify", str(cell / "seed-1"), "--depth", "start", "--steps", "0")
    assert code == 0 and "all 2 rows of ladder.csv agree up to step 0" in out
    random_score = files.read_json(cell / "cell.json")["spec"]["random_score"]
    edit(cell / "cell.json", lambda facts: facts["spec"].update(random_score=1.0))
    code, out, _ = call(capsys, "verify", str(cell))
    assert code == 1 and "task-facts" in out and "1 DIFFERS" in out
    edit(cell / "cell.json", lambda facts: facts["spec"].update(random_score=random_score))
    edit(cell / "seed-1" / "run.json", lambda about: about["packages"].update(numpy="0.1"))
    code, out, _ = call(capsys, "verify", str(cell / "seed-1"), "--depth", "whole")
    assert code == 2 and "numpy 0.1 (installed: " in out


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
        ('{"report": {"settings": {}, "title": ""}}', "report.expected: field required"),
        (
            '{"report": {"settings": {"colour": 1}, "title": "", "expected": []}}',
            "report.settings.colour: extra inputs",
        ),
        (
            json.dumps({"report": {"settings": {}, "title": "", "expected": [cell]}}),
            "report.expected.0.suite: string should match",
        ),
    ):
        (tmp_path / "old" / "provenance.json").write_text(content)
        with pytest.raises(InputError, match=said):
            verify.verify(tmp_path / "old")

"""`ascent cite`: what it prints can be checked by hand; what must not be cited is refused in one line."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from ascent.records.declared import Declared
from ascent.reports.cite import cite
from ascent.reports.report import build
from tests.command import call
from tests.reports.conftest import Records, damage, write_json
from tests.reports.trained import edit as edit_json
from tests.reports.trained import forge

pytestmark = pytest.mark.usefixtures("unchecked")
SCORES = [440.0, 450.0, 460.0, 470.0, 480.0, 490.0, 500.0, 430.0, 420.0, 410.0]
COMMIT = "0123456789abcdef0123456789abcdef01234567"  # of conftest's runs


@pytest.fixture
def unchecked(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Synthetic records have no sources and no policies; that `check` is asked, trained ones show."""
    if "runs" not in request.fixturenames:
        monkeypatch.setattr("ascent.reports.cite.refuse", lambda *_: None)
        monkeypatch.setattr("ascent.records.shelf.HOME", Path("none"))  # whatever digests ship with the suite


@pytest.fixture
def cell(store: Records) -> Path:
    folder = store.cell()
    store.flat_runs(folder, SCORES)
    return folder


def edit(run: Path, **changes: Any) -> None:
    """Change entries of a run.json; None removes one."""
    facts = json.loads((run / "run.json").read_text()) | changes
    write_json(run / "run.json", {key: value for key, value in facts.items() if value is not None})


def refused(capsys: pytest.CaptureFixture, folder: Path, *options: str) -> str:
    code, out, err = call(capsys, "cite", str(folder), *options)
    assert (code, out) == (2, "") and err.startswith("error: ") and err.count("\n") == 1
    return err


def test_the_sentence(cell: Path, capsys: pytest.CaptureFixture) -> None:
    code, out, err = call(capsys, "cite", str(cell))
    assert (code, err) == (0, "")
    sentence, facts, *entries = out.split("\n\n")
    # 410, 420, ..., 500: mean 455, standard deviation 30.28, t(0.975, 9) = 2.262: 455 -+ 21.66
    for words in (
        "ppo (preset classic) on CartPole-v1, 100,000 environment steps per seed",
        "mean evaluation return 455.0 over n = 10 seeds (0-9)",
        "Student-t limits [433.3, 476.7]; median 455.0, distribution-free [427.1, 482.9];",
        "IQM 455.0",
        "mean of the greedy evaluation returns over the last ten evaluation points "
        "(50 evaluations of 10 episodes)",
        "commit 0123456789ab",
    ):
        assert words in sentence
    assert "fewer" not in sentence and "platform" not in sentence and "diverged" not in sentence
    digest = json.loads((cell / "cell.json").read_text())["digest"]
    assert digest in sentence and f"digest {digest}" in facts and COMMIT in facts
    assert f"ascent verify {cell}" in facts and "gymnasium 1.3.0" in facts
    assert [re.match(r"@\w+\{(.+),", entry)[1] for entry in entries] == [
        "ascent", "barto1983neuronlike", "schulman2017proximal", "towers2024gymnasium"
    ]  # fmt: skip


def test_another_estimator(store: Records, capsys: pytest.CaptureFixture) -> None:
    folder = store.cell()
    for seed in range(10):
        store.run(folder, seed, [0.0] * 50 + [100.0 + seed])
    out = call(capsys, "cite", str(folder), "--estimator", "final")[1]
    assert (
        "mean evaluation return 104.5 " in out
        and "greedy evaluation return at the last evaluation point" in out
    )
    assert "mean evaluation return 10.45 " in call(capsys, "cite", str(folder))[1]
    assert "did you mean 'final'?" in refused(capsys, folder, "--estimator", "finale")


def test_from_a_report(store: Records, cell: Path, capsys: pytest.CaptureFixture) -> None:
    """It has the report's estimator, score, seeds and family; without one, it says that it does not."""
    store.flat_runs(store.cell(system="sac"), SCORES)
    build(store.runs, store.out, declared=Declared(estimator="final", baseline="sac"))
    code, out, err = call(capsys, "cite", str(cell), "--report", str(store.out))
    assert (code, err) == (0, "")
    assert "greedy evaluation return at the last evaluation point" in out.split("\n\n")[0]
    assert "The report of these runs declares a family of 1 comparison (every system against sac on" in out
    assert "estimator final, that of the report 'Ascent report'" in out
    assert "plan      none is recorded" in out
    alone = call(capsys, "cite", str(cell))[1]
    assert "estimator mean_of_last_ten, the default: no report is given" in alone and "family" not in alone
    chosen = call(capsys, "cite", str(cell), "--estimator", "final")[1]
    assert "estimator final, chosen for this citation" in chosen
    err = refused(capsys, cell, "--report", str(store.out), "--estimator", "final")
    assert "leave out --estimator and --score" in err
    other = store.cell(system="td3")
    store.flat_runs(other, SCORES)
    assert f"has no cell classic/CartPole-v1/{other.name}" in refused(
        capsys, other, "--report", str(store.out)
    )
    assert "is not a report" in refused(capsys, cell, "--report", str(store.runs))


def test_a_report_with_other_numbers_is_not_cited(
    store: Records, cell: Path, capsys: pytest.CaptureFixture
) -> None:
    """Page, tables and sentence agree, or there is no sentence. Seeds that came later are left out."""
    store.build()
    store.run(cell, 10, [0.0] + [900.0] * 50)
    out = call(capsys, "cite", str(cell), "--report", str(store.out))[1]
    assert "455.0 over n = 10 seeds (0-9" in out
    table = store.out / "tables" / "scores.csv"
    table.write_text(table.read_text().replace(",455,", ",456,"))
    words = "says mean 456 of ppo, the records 455.0: build the report again"
    assert words in refused(capsys, cell, "--report", str(store.out))


def test_by_digest(store: Records, cell: Path, capsys: pytest.CaptureFixture) -> None:
    other = store.cell(system="sac")
    store.flat_runs(other, SCORES)
    digest, runs = cell.name.rpartition("-")[2], str(store.runs)
    by_folder = call(capsys, "cite", str(cell))[1]
    assert call(capsys, "cite", digest, "--runs", runs)[1] == by_folder
    assert call(capsys, "cite", digest[:6], "--runs", runs)[1] == by_folder
    assert digest in refused(capsys, digest[:-1] + "x", "--runs", runs)  # the nearest
    assert "it has no cell.json" in refused(capsys, store.runs)
    assert "there are no cells" in refused(capsys, "abc", "--runs", str(store.out))
    write_json(cell.with_name("ppo-classic-aa11") / "cell.json", {})
    write_json(cell.with_name("ppo-classic-aa22") / "cell.json", {})
    assert "is ambiguous: it matches 2 cells" in refused(capsys, "aa", "--runs", runs)


def test_few_seeds_mixed_platforms_and_failures_are_said(
    store: Records, capsys: pytest.CaptureFixture
) -> None:
    folder = store.cell()
    store.flat_runs(folder, SCORES[:3])
    store.run(folder, 3, [0.0, 20.0], status="diverged")
    edit(folder / "seed-1", mixed_platforms=["a", "b"])
    edit(folder / "seed-2", platform={"key": "another"})
    out = call(capsys, "cite", str(folder))[1]
    assert "n = 4 seeds (0-3; fewer than the recommended 10)" in out
    assert "1 of 4 runs diverged and is included" in out
    assert "Seeds 1 were resumed on another platform." in out
    assert "The runs were trained on 2 platforms." in out


def test_one_seed_has_no_interval(store: Records, capsys: pytest.CaptureFixture) -> None:
    folder = store.cell()
    store.flat_runs(folder, SCORES[:1])
    out = call(capsys, "cite", str(folder))[1]
    assert "n = 1 seed (0; fewer than the recommended 10), no interval (n=1)" in out


def test_two_commits_are_both_named(cell: Path) -> None:
    edit(cell / "seed-4", commit="f" * 40)
    out = cite(cell)
    assert "commit 0123456789ab and ffffffffffff" in out and f"{COMMIT}, {'f' * 40}" in out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dirty": True}, "seed 4 was trained with uncommitted changes"),
        ({"dirty": None}, "seed 4 does not record whether there were uncommitted changes"),
        ({"commit": None}, "the commit of seed 4 is not recorded"),
        ({"commit": ""}, "the commit of seed 4 is not recorded"),
        ({"seed": 5}, "seed 4 is damaged: run.json: seed is 5"),
    ],
)
def test_runs_that_nobody_can_make_again(
    cell: Path, capsys: pytest.CaptureFixture, changes: dict, words: str
) -> None:
    edit(cell / "seed-4", **changes)
    assert words in refused(capsys, cell)


def test_damage(cell: Path, capsys: pytest.CaptureFixture) -> None:
    damage(cell / "seed-7" / "eval.csv")
    assert "seed 7 is damaged: eval.csv: sha256 differs" in refused(capsys, cell)


def test_unfinished(store: Records, cell: Path, capsys: pytest.CaptureFixture) -> None:
    store.run(cell, 10, [0.0, 1.0], status=None)
    assert "is not complete: seed 10 is unfinished: at step 2,000" in refused(capsys, cell)


def test_damaged_cells(store: Records, cell: Path, capsys: pytest.CaptureFixture) -> None:
    facts = json.loads((cell / "cell.json").read_text())
    write_json(cell / "cell.json", facts | {"task": "Pendulum-v1"})
    assert "task is Pendulum-v1, but the folder name says CartPole-v1" in refused(capsys, cell)
    (cell / "cell.json").write_text("{")
    assert "cell.json is damaged" in refused(capsys, cell)
    assert "has no runs" in refused(capsys, store.cell(system="sac"))


def test_tuning_seeds(store: Records, capsys: pytest.CaptureFixture) -> None:
    folder = store.cell()
    for seed in (1000, 1001):
        store.run(folder, seed, [0.0] + [5.0] * 50)
    assert "tuning seeds (1000-1001)" in refused(capsys, folder)
    for seed in (0, 1):
        store.run(folder, seed, [0.0] + [6.0] * 50)
    code, out, _ = call(capsys, "cite", str(folder))
    assert code == 0 and "return 6.000 over n = 2 seeds (0-1; " in out


def test_imported(store: Records, capsys: pytest.CaptureFixture) -> None:
    folder = store.cell(system="other", preset="imported", algorithm="imported", versions={})
    store.flat_runs(folder, SCORES)
    assert "was imported" in refused(capsys, folder)


def test_a_score_that_is_not_recorded(cell: Path, capsys: pytest.CaptureFixture) -> None:
    for run in cell.glob("seed-*"):
        result = json.loads((run / "result.json").read_text())
        del result["digests"]["train.csv"]
        write_json(run / "result.json", result)
    words = "has no last_100_training_episodes score: not recorded"
    assert words in refused(capsys, cell, "--estimator", "last_100_training_episodes")


def test_a_trained_cell(runs: Path, capsys: pytest.CaptureFixture) -> None:
    (folder,) = runs.glob("classic/Pendulum-v1/td3-*")
    code, out, err = call(capsys, "cite", str(folder))
    assert (code, err) == (0, "") and "td3 (preset zoo with " in out and "hidden=[8]" in out
    assert "name a cell" in refused(capsys, "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda cell: edit_json(cell / "cell.json", lambda facts: facts["spec"].update(random_score=-1.0)),
            "random_score is -1.0, in the recorded sources -1225.75 (rule task-facts of `ascent check`)",
        ),
        (lambda cell: next(cell.glob("sources-*.zip")).unlink(), "rule recorded-sources"),
        (
            lambda cell: ((cell / "seed-1" / "policy.npz").write_bytes(b""), forge(cell)),
            "policy.npz cannot be read (rule finite-numbers",
        ),
        (
            lambda cell: edit_json(cell / "cell.json", lambda facts: facts["changed"].update(hidden=[64])),
            "hidden was set to [64], but config has [8] (rule cell-digest",
        ),
    ],
)
def test_what_check_refuses_is_not_cited(runs: Path, capsys: pytest.CaptureFixture, change, words) -> None:
    (folder,) = runs.glob("classic/Pendulum-v1/td3-*")
    change(folder)
    assert words in refused(capsys, folder)

"""`ascent runs list`, `show` and `why`."""

from pathlib import Path

import pytest

from ascent.records import inventory, ledger
from ascent.records.errors import InputError
from ascent.records.ownership import Ownership
from ascent.records.plan import Plan, Planned
from ascent.records.seal import seal
from ascent.runners import why
from tests.command import call
from tests.reports import trained
from tests.runners.test_faults import stopped
from tests.small import small_cell

CELL = trained.cells()[0]


@pytest.fixture
def mixed(runs: Path) -> Path:
    """A cell with sealed, stopped, running and damaged runs beside one that is done."""
    folder = CELL.folder(runs)
    seal(folder)
    stopped(CELL, runs, 25, [3, 4])
    Ownership(folder / "seed-4").acquire()
    (folder / "seed-5").mkdir()
    (folder / "seed-5" / "result.json").write_text("{}")
    ledger.declare(Plan((Planned(CELL, (0, 1)),), name="mine"), runs)
    ledger.declare(Plan((Planned(CELL, (0, 1, 2, 3, 4)),)), runs)
    return runs


def test_list(mixed: Path, capsys: pytest.CaptureFixture) -> None:
    first, second = inventory.inventory(mixed)
    states = ["done"] * 3 + ["interrupted", "running", "damaged"]
    assert dict(first.states) == dict(enumerate(states)) and first.sealed == {0, 1, 2}
    assert 0.5 < first.share < 3.8 / 6 and second.share == 1.0
    named, other = first.plans
    assert named == f"mine {ledger.digest(Plan((Planned(CELL, (0, 1)),)))}" and ledger.NAME.fullmatch(other)
    assert not second.plans
    files = [path for path in first.folder.rglob("*") if path.is_file()]
    assert first.size == sum(path.stat().st_size for path in files)
    assert first.changed == max(path.stat().st_mtime for path in files)
    code, out, _ = call(capsys, "runs", "list", "--runs", str(mixed))
    assert code == 0 and "3 done, 1 interrupted, 1 running, 1 damaged, 3 sealed" in out
    assert "2 cells, 9 runs" in out and f"{named}, {other}" in out
    (first.folder / "cell.json").write_text("{")
    code, out, _ = call(capsys, "runs", "list", "--runs", str(mixed))
    assert code == 0 and "cell.json" in out and "td3" in out, "the others are listed all the same"
    code, _, err = call(capsys, "runs", "list", "--runs", str(mixed / "nowhere"))
    assert code == 2 and "there are no cells" in err


def test_show(mixed: Path, capsys: pytest.CaptureFixture) -> None:
    folder = CELL.folder(mixed)
    trained.edit(
        folder / "seed-3" / "run.json", lambda about: about["attempts"][0].update(failure="it burnt")
    )
    code, out, _ = call(capsys, "runs", "show", CELL.digest[:4], "--runs", str(mixed))
    assert code == 0 and "400 steps, 4 evaluations of 2 episodes" in out
    lines = [line.split() for line in out.splitlines()]
    assert ["0", "done,", "sealed", "400"] in [line[:4] for line in lines]
    assert any(line[:2] == ["3", "interrupted"] and line[-2:] == ["it", "burnt"] for line in lines)
    assert any(line[:2] == ["5", "damaged"] for line in lines)


def names(found: list[why.Unlike]) -> dict[str, bool]:
    return {one.name: one.counts for one in found}


def test_why_two_cells_differ(runs: Path) -> None:
    """Every setting of the digest, and nothing else, makes them two cells."""
    before = why.recorded(CELL.folder(runs))
    assert why.unlike(before, before) == [] and "the same cell" in why.explain([])
    now = why.now(CELL.folder(runs))
    assert why.unlike(before, now) == []
    other = why.recorded(trained.cells()[1].folder(runs))
    assert {"system", "task", "steps", "config.hidden", "spec.horizon"} <= set(
        names(why.unlike(before, other))
    )
    changed = before | {"versions": before["versions"] | {"runner": 1}}
    changed["config"] = before["config"] | {"gamma": 0.5, "added_later": 1}
    changed["spec"] = before["spec"] | {"reference_score": 1.0}
    found = why.unlike(before, changed)
    assert names(found) == {"config.gamma": True, "spec.reference_score": False, "versions.runner": True}
    assert why.explain(found) == "two cells, because of config.gamma, versions.runner"


def test_why_command(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    at = ["--runs", str(runs)]
    other = small_cell("a2c", "CartPole-v1", steps=400, points=4, gamma=0.5)
    stopped(other, runs, 25, [0])
    path = other.run_folder(0, runs) / "run.json"
    trained.edit(path, lambda about: about.update(commit="c0ffee"))
    code, out, _ = call(capsys, "runs", "why", CELL.digest, other.digest, *at)
    assert code == 0 and "config.gamma" in out and "because of config.gamma" in out
    assert "made differently, which makes no other cell: commit was" in out and "is now c0ffee" in out
    sweep = tmp_path / "mine.toml"
    sweep.write_text(
        'seeds = "0"\n[[cells]]\nalgorithms = ["ppo", "a2c"]\ntasks = ["CartPole-v1"]\nsteps = 1000\n'
    )
    code, out, _ = call(capsys, "runs", "why", CELL.digest, str(sweep), *at)
    assert code == 0 and "mine.toml: a2c-" in out and "steps" in out
    code, out, _ = call(capsys, "runs", "why", other.digest, *at)
    assert code == 0 and "the same cell" in out and "not resumed" not in out
    trained.edit(path, lambda about: about["packages"].update(torch="1.0"))
    code, out, _ = call(capsys, "runs", "why", other.digest, *at)
    assert "not resumed: seeds 0: begun with other packages: torch was 1.0, is now" in out
    code, _, err = call(capsys, "runs", "why", CELL.digest, "clasic", *at)
    assert code == 2 and "did you mean 'classic" in err


def test_why_says_what_this_version_cannot_train(runs: Path) -> None:
    folder = CELL.folder(runs)
    trained.edit(folder / "cell.json", lambda facts: facts.update(changed={"gama": 0.9}))
    with pytest.raises(InputError, match=r"this version cannot train it: .*did you mean 'gamma'"):
        why.now(folder)

"""`ascent runs remove` and `move`: what goes is gone as a whole, what stays keeps its bytes."""

import shutil
from pathlib import Path

import pytest

from ascent.records import ledger, removal
from ascent.records.errors import InputError, RunHeld
from ascent.records.ownership import Ownership
from ascent.records.plan import Plan, Planned
from ascent.records.seal import seal
from ascent.records.store import cell_names
from ascent.runners.train import train
from tests.command import call
from tests.reports import trained
from tests.reports.test_seal import broken, contents, killed_at
from tests.runners.test_faults import stopped
from tests.small import results, small_cell


@pytest.fixture
def cell(runs: Path) -> Path:
    """One of two cells, with a ledger, a log and a table of its own."""
    ledger.declare(Plan(tuple(Planned(one, trained.SEEDS) for one in trained.cells())), runs)
    for one in trained.cells():
        ledger.start(one, trained.SEEDS, "", runs)
    folder = trained.cells()[0].folder(runs)
    (folder / "logs").mkdir()
    (folder / "logs" / "0-2.log").write_text("went well\n")
    return folder


def others(runs: Path, cell: Path) -> dict[str, bytes]:
    """The files of all other cells, and of the ledger."""
    name = cell.relative_to(runs).as_posix()
    return {path: data for path, data in contents(runs).items() if not path.startswith(name)}


def test_a_cell_is_removed_as_a_whole(runs: Path, cell: Path) -> None:
    before = others(runs, cell)
    assert removal.remove(cell) == [*trained.SEEDS]
    assert contents(runs) == before and not (runs / removal.REMOVED).exists()
    assert ledger.started(runs)[cell.relative_to(runs).as_posix()] == {*trained.SEEDS}


def test_some_runs_are_removed(runs: Path, cell: Path) -> None:
    before = contents(runs)
    assert removal.remove(cell, [1]) == [1]
    assert contents(runs) == {
        name: data for name, data in before.items() if "a2c" not in name or "seed-1" not in name
    }
    with pytest.raises(InputError, match="no seeds 1; it has 0,2"):
        removal.remove(cell, [1])
    seal(cell)
    with pytest.raises(InputError, match="seeds 0 are sealed"):
        removal.remove(cell, [0])
    assert removal.remove(cell) == [0, 2]


@pytest.mark.parametrize("stage", [("pathlib.Path.rename", 1), ("ascent.records.removal.shutil.rmtree", 1)])
@pytest.mark.parametrize("seeds", [None, [0, 2]])
def test_a_killed_removal_is_none_or_goes_on(
    stage: tuple, seeds: list | None, runs: Path, cell: Path
) -> None:
    """What is read is whole at any time."""
    before, rest = contents(runs), others(runs, cell)
    try:
        killed_at(*stage, lambda: removal.remove(cell, seeds))
    finally:
        shown = {name: data for name, data in contents(runs).items() if not name.startswith(".removed")}
    assert broken(runs) == set() or not cell.exists()
    if stage[0].endswith("rename"):
        assert {name: data for name, data in shown.items() if "/.sealing/" not in name} == before
        removal.remove(cell, seeds)
    elif seeds is None:
        assert cell_names(runs) == [name for name in cell_names(runs) if "a2c" not in name]
        removal.remove(trained.cells()[1].folder(runs), [0])
        rest = {name: data for name, data in rest.items() if "td3" not in name or "seed-0" not in name}
    else:
        removal.remove(cell, [1])
        seeds = [0, 1, 2]
    left = {0, 1, 2} - {*(seeds or [0, 1, 2])}
    assert {name for name in contents(runs) if "a2c" in name and "seed-" in name} == {
        name for name in before if "a2c" in name and any(f"seed-{seed}/" in name for seed in left)
    }
    assert {name: data for name, data in contents(runs).items() if name in rest} == rest
    assert not (runs / removal.REMOVED).exists()


def test_running_cells_stay(runs: Path, cell: Path, tmp_path: Path) -> None:
    owner = Ownership(cell / "seed-1")
    before = contents(runs)
    owner.acquire()
    for act in (
        lambda: removal.remove(cell),
        lambda: removal.remove(cell, [1]),
        lambda: removal.move(cell, tmp_path / "to"),
    ):
        with pytest.raises(RunHeld):
            act()
    owner.remove()
    assert contents(runs) == before


def test_a_moved_cell_has_all_its_bytes(runs: Path, cell: Path, tmp_path: Path) -> None:
    before = contents(runs)
    target = removal.move(cell, tmp_path / "to")
    moved, stayed = contents(tmp_path / "to"), contents(runs)
    assert not cell.exists() and target.is_dir()
    assert {name for name in moved if not name.startswith("ledger")} == {n for n in before if "a2c" in n}
    assert {name for name in moved if name.startswith("ledger")} < set(before), "what is about this cell"
    assert {**stayed, **moved} == before
    assert set(ledger.started(tmp_path / "to")) == {cell.relative_to(runs).as_posix()}
    with pytest.raises(InputError, match=r"is in .* already"):
        removal.move(target, tmp_path / "to")


def test_a_killed_move_goes_on(runs: Path, cell: Path, tmp_path: Path) -> None:
    """The cell is whole in one place at least, and no half of it is in the other."""
    before = contents(runs)
    to = tmp_path / "to"
    for stage in (
        ("ascent.records.removal.files.write", 4),
        ("pathlib.Path.rename", 1),
        ("pathlib.Path.rename", 2),
    ):
        killed_at(*stage, lambda: removal.move(cell, to))
        assert {n: d for n, d in contents(runs).items() if "/.sealing/" not in n} == before
        assert broken(runs) == set()
        assert cell_names(to) == ([cell.relative_to(runs).as_posix()] if stage[1] == 2 else [])
    removal.move(cell, to)
    assert not cell.exists() and {**contents(runs), **contents(to)} == before
    shutil.copytree(to, tmp_path / "again")
    other = tmp_path / "again" / cell.relative_to(runs)
    (other / "seed-0" / "eval.csv").write_text("step\n")
    with pytest.raises(InputError, match="is there already, with other files"):
        removal.move(other, to)


def test_an_interrupted_run_goes_on_where_it_was_moved_to(tmp_path: Path) -> None:
    one = small_cell("a2c", "CartPole-v1", steps=400, points=4)
    stopped(one, tmp_path / "here", 30, [0])
    removal.move(one.folder(tmp_path / "here"), tmp_path / "there")
    assert train(one, [0], tmp_path / "there") and train(one, [0], tmp_path / "whole")
    assert results(one, tmp_path / "there", [0]) == results(one, tmp_path / "whole", [0])
    attempts = (one.run_folder(0, tmp_path / "there") / "run.json").read_text()
    assert attempts.count("from_step") == 2, "it was resumed, not trained again"


def test_commands(runs: Path, cell: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Nothing goes without --yes, and nothing finished without --finished."""
    before = contents(runs)
    at = ["--runs", str(runs)]
    name = cell.name.rpartition("-")[2]
    code, _, err = call(capsys, "runs", "remove", name, *at, "--yes")
    assert code == 2 and "seeds 0-2 are finished: to remove them, too, say --finished" in err
    code, out, _ = call(capsys, "runs", "remove", name, *at, "--finished")
    assert code == 0 and "would remove: classic/CartPole-v1/a2c-" in out and "say --yes" in out
    code, _, err = call(capsys, "runs", "remove", name, *at, "--finished", "--yes", "--seeds", "7")
    assert code == 2 and "has no seeds 7" in err
    code, _, err = call(capsys, "runs", "remove", name[:-1] + "x", *at)
    assert code == 2 and f"did you mean '{name}'?" in err
    assert contents(runs) == before
    (cell / "cell.json").write_text("{")
    code, _, err = call(capsys, "runs", "remove", str(cell), *at, "--yes")
    assert code == 2 and "say --finished" in err
    (cell / "cell.json").write_bytes(before[f"{cell.relative_to(runs)}/cell.json"])
    code, out, _ = call(capsys, "runs", "move", name, *at, "--to", str(tmp_path / "to"))
    assert code == 0 and Path(out.strip()).is_dir()
    code, out, _ = call(capsys, "runs", "remove", name, "--runs", str(tmp_path / "to"), "--finished", "--yes")
    assert code == 0 and "removed: classic/CartPole-v1/a2c-" in out and not list((tmp_path / "to").glob("c*"))

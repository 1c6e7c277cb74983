"""Runs that were trained in several places become one folder, as if they had been trained there."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ascent.records import files, layout, ledger, merge
from ascent.records.checkpoints import furthest
from ascent.records.errors import DamagedFile, InputError, RunHeld
from ascent.records.ownership import Ownership
from ascent.records.plan import Plan, Planned
from ascent.records.read import load
from ascent.records.seal import seal
from ascent.records.store import seals
from ascent.reports.checking import check
from ascent.reports.report import build
from ascent.runners.train import train
from tests.command import call
from tests.reports import trained
from tests.reports.test_seal import Killed, broken, contents, killed_at
from tests.runners.test_faults import stopped
from tests.small import rest_slow, results, small_cell

CELLS = (
    small_cell("a2c", "CartPole-v1", steps=400, points=4),
    small_cell("ppo", "CartPole-v1", steps=400, points=4),
)
A2C = CELLS[0]
PLAN = Plan(tuple(Planned(cell, (0, 1, 2, 3)) for cell in CELLS))
NORTH, SOUTH = (0, 1, 2), (2, 3)  # seed 2 was trained in both places


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sweep trained in two halves, and once as a whole."""
    folder = tmp_path_factory.mktemp("merged")
    for home, seeds in (("north", NORTH), ("south", SOUTH), ("whole", (0, 1, 2, 3))):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("ascent.records.provenance.commit", trained.clean_commit)
            name = ledger.declare(PLAN, folder / home)
            for cell in CELLS:
                assert train(cell, seeds, folder / home, plan=name)
    return folder


@pytest.fixture
def homes(made: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Copies of both halves."""
    return tuple(Path(shutil.copytree(made / name, tmp_path / name)) for name in ("north", "south"))


def merged(sources: list[Path], runs: Path) -> list[str]:
    """Merge, and return what was said."""
    choices = merge.plan(sources, runs)
    merge.merge(choices, sources, runs)
    return list(merge.summary(choices))


def folder(runs: Path, seed: int | None = None) -> Path:
    return A2C.folder(runs) if seed is None else A2C.run_folder(seed, runs)


def test_two_halves_are_the_whole(homes: tuple[Path, Path], made: Path, tmp_path: Path) -> None:
    """The same result bytes and tables of the report; `ascent check` passes, all seeds are declared."""
    north, south = homes
    before = contents(south)
    assert merged([south], north) == [
        line
        for cell in CELLS
        for name in [cell.folder(Path()).as_posix()]
        for line in (
            f"{name}: seed 2: the same result in {north}, {south}: kept",
            f"{name}: seed 3: finished in {south}: taken",
        )
    ]
    assert contents(south) == before, "sources are only read"
    for cell in CELLS:
        assert results(cell, north, [0, 1, 2, 3]) == results(cell, made / "whole", [0, 1, 2, 3])
    assert broken(north) == set()
    grades = check.check(north).grades
    for name, runs in (("merged", north), ("whole", made / "whole")):
        build(runs, tmp_path / name, grades=grades)
    for table in (tmp_path / "whole" / "tables").glob("*.csv"):
        if table.name != "compute.csv":  # which has times
            assert table.read_bytes() == (tmp_path / "merged" / "tables" / table.name).read_bytes()
    assert [cell.started for cell in load(north)] == [(0, 1, 2, 3)] * 2
    assert "not declared" not in (tmp_path / "merged" / "index.html").read_text()
    after = contents(north)
    assert all(line.endswith("kept") for line in merged([south], north)) and contents(north) == after


def test_both_ledgers_stay(homes: tuple[Path, Path]) -> None:
    """Other plans, and runs that were started and are gone."""
    north, south = homes
    other = ledger.declare(Plan((Planned(A2C, (7,)),)), south)
    ledger.start(A2C, [7], other, south)
    ledgers = [contents(home / layout.LEDGER) for home in homes]
    merged([south], north)
    assert contents(north / layout.LEDGER) == ledgers[0] | ledgers[1]
    assert load(north)[0].started == (0, 1, 2, 3, 7) and load(north)[0].selection == "of 5 started"
    (path,) = (north / layout.LEDGER).glob(f"*{other}*")
    path.write_bytes(path.read_bytes() + b"\n")
    with pytest.raises(InputError, match=rf"plan-{other}.json has other content in .*south than in .*north"):
        merge.plan([south], north)


def test_the_command(homes: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Both halves into a new folder; a dry run writes nothing."""
    words = ["runs", "merge", *map(str, homes), "--runs", str(tmp_path / "all")]
    code, said, _ = call(capsys, *words, "--dry-run")
    assert code == 0 and not (tmp_path / "all").exists()
    assert "seeds 0-1: finished in " in said and said.endswith("would take: 8 runs; 0 runs kept\n")
    code, said, _ = call(capsys, *words)
    assert code == 0 and said.endswith("taken: 8 runs; 0 runs kept\n")
    assert broken(tmp_path / "all") == set() and load(tmp_path / "all")[0].finished == 4
    wrong = {
        ("nowhere",): "nowhere is not a folder",
        (str(tmp_path),): f"there are no cells in {tmp_path}",
        (str(homes[0]), str(homes[0])): "is given twice",
    }
    for sources, message in wrong.items():
        code, _, said = call(capsys, "runs", "merge", *sources, "--runs", str(tmp_path / "new"))
        assert code == 2 and message in said and said.count("\n") == 1
    assert not (tmp_path / "new").exists()


def test_other_results_are_refused(homes: tuple[Path, Path]) -> None:
    """By name, with both places and the files; nothing is written."""
    north, south = homes
    before = contents(north)
    flip(folder(south, 2) / layout.METRICS)
    trained.forge(folder(south))
    with pytest.raises(InputError) as refused:
        merge.plan([south], north)
    name = folder(Path(), 2).as_posix()
    assert str(refused.value) == (
        f"{name} has other results in {south} than in {north} (metrics.csv): move one of them away"
    )
    assert contents(north) == before


def flip(path: Path, place: int = -2) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a policy": (lambda home: flip(folder(home, 2) / layout.POLICY), "policy.npz is damaged"),
    "a table": (lambda home: flip(folder(home, 2) / layout.EVAL), "eval.csv is damaged"),
    "a result": (
        lambda home: trained.edit(folder(home, 2) / layout.RESULT, lambda result: result.update(score=1e9)),
        "result.json is damaged: it does not match its own digest",
    ),
    "another seed": (
        lambda home: trained.edit(folder(home, 2) / layout.RUN, lambda about: about.update(seed=1)),
        "run.json is damaged: it is of seed 1",
    ),
    "a file missing": (lambda home: (folder(home, 2) / layout.LADDER).unlink(), "ladder.csv is missing"),
    "another file": (lambda home: (folder(home, 2) / "x.py").touch(), "x.py is not part of a run's record"),
    "no cell": (lambda home: (folder(home) / layout.CELL).unlink(), "it has no cell.json"),
    "sources": (lambda home: flip(next(folder(home).glob("sources-*")), 200), "sources-.* cannot be read"),
    "a plan": (lambda home: flip(next(home.glob("ledger/plan-*"))), "plan-.* is damaged"),
    "a start": (lambda home: next(home.glob("ledger/started-*")).write_text("{"), "started-.* is damaged"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("where", [0, 1], ids=["target", "source"])
def test_damage_is_refused(damage: str, where: int, homes: tuple[Path, Path]) -> None:
    north, south = homes
    act, message = DAMAGES[damage]
    act(homes[where])
    before = contents(north)
    with pytest.raises(InputError, match=message):
        merge.plan([south], north)
    assert contents(north) == before


def test_sealed_cells(homes: tuple[Path, Path], made: Path, tmp_path: Path) -> None:
    """A seal of which all runs are taken is copied; of another one the runs are."""
    north, south = homes
    seal(folder(north))
    seal(folder(south), compacted=True)
    merged([south], north)
    assert len(seals(folder(north))) == 1 and not folder(north, 2).exists()
    assert (folder(north, 3) / layout.TRAIN_LAST).exists()
    merged([south, north], tmp_path / "new")
    assert len(seals(folder(tmp_path / "new"))) == 1
    for runs in (north, tmp_path / "new"):
        assert broken(runs) == set() and [cell.finished for cell in load(runs)] == [4, 4]
        digests = [run.result["digest"] for run in load(runs)[0].runs]
        assert digests == [run.result["digest"] for run in load(made / "whole")[0].runs]


DQN = small_cell("dqn", "CartPole-v1", steps=160)
BEGUN = {"behind": (10, 30, "south"), "ahead": (30, 10, "north"), "level": (30, 30, "north")}


@pytest.mark.parametrize("case", BEGUN)
def test_unfinished_runs(case: str, tmp_path: Path) -> None:
    """The one that is further is taken, goes on, and ends with the bytes of a run that nobody disturbed."""
    first, second, further = BEGUN[case]
    north, south = tmp_path / "north", tmp_path / "south"
    stopped(DQN, north, first, [0])
    stopped(DQN, south, second, [0])
    step = {home.name: furthest(DQN.run_folder(0, home)) for home in (north, south)}
    (line,) = merged([south], north)
    done = "kept" if further == "north" else f"taken from {south}"
    assert line.endswith(f"at step {step['north']} in {north}, at step {step['south']} in {south}: {done}")
    assert furthest(DQN.run_folder(0, north)) == step[further] == max(step.values())
    assert train(DQN, [0], north) and train(DQN, [0], tmp_path / "whole")
    assert results(DQN, north, [0]) == results(DQN, tmp_path / "whole", [0])
    (line,) = merged([south], north)
    assert line.endswith(f"finished in {north}, at step {step['south']} in {south}: kept")
    (line,) = merged([north], south)
    assert line.endswith(f"finished in {north}: taken from {north}")
    assert results(DQN, south, [0]) == results(DQN, north, [0])
    assert not list(DQN.folder(south).glob(".sealing*"))


def test_damaged_checkpoints(tmp_path: Path) -> None:
    """The one before counts; without any that is whole, the run is refused."""
    stopped(DQN, tmp_path / "north", 30, [0])
    run = DQN.run_folder(0, tmp_path / "north")
    last, previous = sorted((step for (step,) in layout.numbers(run, "checkpoint", 1)), reverse=True)
    assert furthest(run) == last
    flip(run / layout.checkpoint(last))
    assert furthest(run) == previous
    for path in run.glob("replay-*.bin"):
        path.unlink()
    with pytest.raises(DamagedFile, match="no older checkpoint is usable"):
        merge.plan([tmp_path / "north"], tmp_path / "south")


@pytest.mark.parametrize("where", ["north", "south"])
def test_a_run_in_use(where: str, tmp_path: Path) -> None:
    north, south = tmp_path / "north", tmp_path / "south"
    stopped(DQN, north, 10, [0])
    stopped(DQN, south, 30, [0])
    before = contents(north)
    owner = Ownership(DQN.run_folder(0, tmp_path / where))
    owner.acquire()
    with pytest.raises(RunHeld, match=f"{where}/.*/seed-0 is in use by process"):
        merge.plan([south], north)
    owner.release()
    assert {name: data for name, data in contents(north).items() if "free-" not in name} == {
        name: data for name, data in before.items() if "free-" not in name
    }
    merged([south], north)


# Where a merge of both halves and an unfinished run stops: a function, its how-maniest call, of which paths.
STAGES = {
    "in the ledger": ("ascent.records.merge.files.write", 2, "", ""),
    "before the cell": ("ascent.records.merge.files.write", 1, "cell.json", ""),
    "in a run": ("ascent.records.merge.files.write", 1, "policy.npz", ""),
    "before a run": ("pathlib.Path.rename", 2, "begun-", ""),
    "before a seal": ("ascent.records.merge.files.write", 1, "sealed-", ""),
    "in place of another": ("pathlib.Path.rename", 1, "begun-0", DQN.folder(Path()).as_posix()),
}


@pytest.mark.parametrize("stage", rest_slow(STAGES))
def test_a_kill_loses_nothing(stage: str, homes: tuple[Path, Path], tmp_path: Path) -> None:
    """Whenever it comes, each run is whole or not there, and the same merge goes on to the same folder."""
    north, south = homes
    seal(CELLS[1].folder(south))
    stopped(DQN, south, 30, [0])
    runs, undisturbed = tmp_path / "runs", tmp_path / "undisturbed"
    for home in (runs, undisturbed):
        stopped(DQN, home, 10, [0])
    behind = furthest(DQN.run_folder(0, runs))
    merged([south, north], undisturbed)
    name, count, of, _ = STAGES[stage]
    killed_at(name, count, lambda: merged([south, north], runs), of)
    for cell in load(runs):
        assert {run.state for run in cell.runs} <= {"done", "unfinished"}
    assert "sealing" in str(list(runs.rglob(".sealing"))) or stage == "in the ledger"
    for path in runs.rglob("owner-*.json"):
        path.unlink()  # of this process, which was not really killed
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ascent.records.merge._take", _stop)
        choices = merge.plan([south, north], runs)
        with pytest.raises(Killed):
            merge.merge(choices, [south, north], runs)
    if stage == "in place of another":
        assert furthest(DQN.run_folder(0, runs)) >= behind, (
            "the next merge gives the former run its place back"
        )
    merged([south, north], runs)
    ours, theirs = (
        {
            name: data
            for name, data in contents(home).items()
            if "started-" not in name and "free-" not in name
        }
        for home in (runs, undisturbed)
    )
    assert ours.keys() == theirs.keys()
    assert results(A2C, runs, [0, 1, 2, 3]) == results(A2C, undisturbed, [0, 1, 2, 3])
    assert broken(runs) == broken(undisturbed) and not list(runs.rglob("*.tmp"))


def _stop(*arguments: object) -> None:
    raise Killed


def test_another_description_of_the_cell(homes: tuple[Path, Path]) -> None:
    """A hyperparameter that one version did not know is no difference; another one's value is."""
    north, south = homes
    facts = files.read_json(folder(south) / layout.CELL)
    known = {*facts["settings"]}
    late = next(name for name in facts["config"] if name not in known)
    trained.edit(folder(south) / layout.CELL, lambda facts: facts["config"].pop(late))
    assert merge.plan([south], north) and merge.plan([north], south)
    trained.edit(folder(south) / layout.CELL, lambda facts: facts["config"].update({late: "other"}))
    with pytest.raises(InputError, match="describes another cell than"):
        merge.plan([south], north)

"""Sealed runs are read as folders are, and neither a kill nor a second process loses any."""

import itertools
import json
import pydoc
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ascent.records import files, layout
from ascent.records.compact import compact
from ascent.records.errors import DamagedFile, InputError, RunHeld
from ascent.records.ownership import Ownership
from ascent.records.read import load
from ascent.records.seal import seal, unseal
from ascent.records.store import Store, read_seal, seal_digest, seals
from ascent.reports.checking import bundle, check
from ascent.reports.checking.verify import verify
from ascent.reports.report import build
from tests.command import call
from tests.reports import trained
from tests.reports.trained import SEEDS, forge, rows
from tests.small import small_cell


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A team's cell, with a column per agent, and one of ours that ends hundreds of episodes."""
    runs = tmp_path_factory.mktemp("sealed") / "runs"
    trained.record(small_cell("ippo", "simple_adversary_v3", steps=800, points=2), runs)
    trained.record(
        small_cell("ppo", "CartPole-v1", steps=30_000, points=2, episodes=1, learning_rate=1e-9), runs, [0]
    )
    return runs


@pytest.fixture
def runs(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "runs"))


def cells(runs: Path) -> list[Path]:
    return sorted(path.parent for path in runs.glob(layout.CELLS))


def contents(runs: Path) -> dict[str, bytes]:
    return {p.relative_to(runs).as_posix(): p.read_bytes() for p in runs.rglob("*") if p.is_file()}


def broken(runs: Path) -> set[str]:
    return {outcome.rule for outcome in check.check(runs).outcomes if not outcome.passed}


def test_sealed_runs_are_read_as_folders_are(runs: Path, tmp_path: Path) -> None:
    """By reports, citations, checks, verifications and bundles; unsealed, all bytes are back."""
    before = contents(runs)
    build(runs, tmp_path / "report")
    bundle.pack(tmp_path / "report", runs, tmp_path / "before.zip")
    assert [seal(cell) for cell in cells(runs)] == [[0], [*SEEDS]]
    assert not list(runs.rglob("seed-*")) and len(list(runs.rglob("sealed-*.zip"))) == 2
    assert [cell.finished for cell in load(runs)] == [1, 3]
    assert broken(runs) == set()
    page = (tmp_path / "report" / "index.html").read_bytes()
    assert build(runs, tmp_path / "again").read_bytes() == page
    bundle.pack(tmp_path / "again", runs, tmp_path / "after.zip")
    assert (tmp_path / "after.zip").read_bytes() == (tmp_path / "before.zip").read_bytes()
    for target in (cells(runs)[1], cells(runs)[1] / "seed-2"):
        assert {outcome.words for outcome in verify(target)} == {"replayed"}
    assert [seal(cell) for cell in cells(runs)] == [[], []], "nothing is left to seal"
    assert [unseal(cell) for cell in cells(runs)] == [[0], [*SEEDS]]
    assert contents(runs) == before


def test_training_goes_on_beside_a_seal(runs: Path) -> None:
    """Sealed seeds are finished; new ones join, and get a seal of their own."""
    cell = small_cell("ippo", "simple_adversary_v3", steps=800, points=2)
    folder = cell.folder(runs)
    seal(folder)
    assert all(cell.is_finished(seed, runs) for seed in SEEDS) and not cell.is_finished(3, runs)
    trained.record(cell, runs, [3])
    assert Store(folder).seeds() == [0, 1, 2, 3] and not Store(folder).in_seal(3)
    assert seal(folder) == [3] and len(seals(folder)) == 2
    assert [run.state for run in load(runs)[1].runs] == ["done"] * 4
    assert unseal(folder) == [0, 1, 2, 3] and not seals(folder)


STAGES = {
    "before the seal": ("ascent.records.seal.files.write", 1),
    "before a folder goes": ("pathlib.Path.rename", 1),
    "between two folders": ("pathlib.Path.rename", 2),
    "before the folders are deleted": ("ascent.records.seal.shutil.rmtree", 1),
}


class Killed(BaseException):
    pass


def killed_at(name: str, count: int, act: Callable[[], object], of: str = "") -> None:
    """Act until a function is called for the nth time on a path whose name begins so."""
    module, _, function = name.rpartition(".")
    target = pydoc.locate(module)
    original, calls = getattr(target, function), itertools.count(1)

    def stop(path: Any, *arguments: Any, **options: Any) -> Any:
        if Path(path).name.startswith(of) and next(calls) == count:
            raise Killed
        return original(path, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, function, stop)
        with pytest.raises(Killed):
            act()


@pytest.mark.parametrize("stage", STAGES)
def test_a_kill_loses_nothing(stage: str, runs: Path) -> None:
    """Whenever it comes, all runs are read, the same command goes on, and all bytes come back."""
    before = contents(runs)
    folder = cells(runs)[1]
    killed_at(*STAGES[stage], lambda: seal(folder))
    assert [run.state for run in load(runs)[1].runs] == ["done"] * 3 and broken(runs) == set()
    (folder / f".{layout.seal('0')}.host-1-0.tmp").write_bytes(b"half")  # a real kill leaves it
    seal(folder)
    assert not list(folder.glob("seed-*")) and not list(folder.glob(".sealing*"))
    for name, of in (("pathlib.Path.rename", "begun-1"), ("pathlib.Path.unlink", "sealed-")):
        killed_at(name, 1, lambda: unseal(folder), of)
        assert [run.state for run in load(runs)[1].runs] == ["done"] * 3 and broken(runs) == set()
    unseal(folder)
    assert contents(runs) == before


def test_a_kill_before_a_compact_record(runs: Path) -> None:
    """Whole folders beside a compact seal, then a whole seal beside it: train.csv is kept."""
    before = contents(runs)
    folder = cells(runs)[1]
    killed_at("pathlib.Path.rename", 1, lambda: seal(folder, compacted=True))
    assert broken(runs) == set() and len(seals(folder)) == 1
    seal(folder)
    assert broken(runs) == set() and len(seals(folder)) == 2
    unseal(folder)
    assert contents(runs) == before


def test_one_process_at_a_time(runs: Path) -> None:
    folder = cells(runs)[1]
    (folder / ".sealing").mkdir()
    other = Ownership(folder / ".sealing")
    other.acquire()
    for act in (seal, unseal):
        with pytest.raises(RunHeld, match=r"\.sealing is in use by process"):
            act(folder)
    other.remove()
    assert seal(folder) == [*SEEDS]


def test_what_is_not_of_the_record_stays(runs: Path) -> None:
    """A folder of another name is left alone; for a file that is not of the run, nothing is sealed."""
    folder = cells(runs)[1]
    shutil.copytree(folder / "seed-0", folder / "seed-0-old")
    note = folder / "seed-1" / "notes.txt"
    note.write_text("mine")
    with pytest.raises(InputError, match=r"notes.txt is not part of a run's record: move it away"):
        seal(folder)
    assert note.exists() and not seals(folder)
    note.unlink()
    assert seal(folder) == [*SEEDS] and (folder / "seed-0-old" / "eval.csv").exists()


def test_a_run_in_use_is_not_sealed(runs: Path) -> None:
    folder = cells(runs)[1]
    owner = Ownership(folder / "seed-1")
    owner.acquire()
    with pytest.raises(RunHeld, match="seed-1 is in use by process"):
        seal(folder)
    owner.remove()
    assert not seals(folder) and broken(runs) == set(), "and nothing is left behind"


def damaged_policy(folder: Path) -> None:
    path = folder / "seed-1" / "policy.npz"
    path.write_bytes(path.read_bytes()[:-1])


def test_a_damaged_run_is_not_sealed(runs: Path) -> None:
    folder = cells(runs)[1]
    damaged_policy(folder)
    with pytest.raises(DamagedFile, match=r"policy.npz is damaged: its sha256 differs from result.json"):
        seal(folder)
    (folder / "seed-1" / "policy.npz").unlink()
    with pytest.raises(DamagedFile, match=r"policy.npz is missing"):
        seal(folder)
    assert sorted(path.name for path in folder.glob("se*")) == ["seed-0", "seed-1", "seed-2"]


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def rename(path: Path) -> None:
    path.rename(path.with_name("sealed-0123456789abcdef.zip"))


def add(path: Path) -> None:
    """One file more, with the name that the content then has."""
    runs = read_seal(path).items()
    entries = {f"seed-{seed}/{name}": data for seed, of_run in runs for name, data in of_run.items()}
    data = files.zip_files({**entries, "seed-0/x.py": b""})
    path.unlink()
    path.with_name(layout.seal(seal_digest(data))).write_bytes(data)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "flip": flip,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "rename": rename,
    "other files": add,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_seal_is_noticed(damage: str, runs: Path) -> None:
    folder = cells(runs)[1]
    expected = [cell.name for cell in load(runs)]
    seal(folder)
    DAMAGES[damage](seals(folder)[0])
    assert "sealed-runs" in broken(runs)
    (run, *_) = load(runs, expected)[1].runs
    if damage != "other files":  # what belongs there is whole
        assert run.state == "damaged" and run.note.startswith("sealed-")
    with pytest.raises(DamagedFile):
        unseal(folder)


def test_a_folder_beside_its_seal(runs: Path) -> None:
    """With a result it counts, and must be what was sealed; without one, the seal does."""
    folder = cells(runs)[1]
    shutil.copytree(folder / "seed-0", runs.parent / "seed-0")
    seal(folder)
    shutil.copytree(runs.parent / "seed-0", folder / "seed-0")
    assert broken(runs) == set()
    rows(folder / "seed-0" / "metrics.csv", lambda lines: lines.append(lines[-1]))
    assert "sealed-runs" in broken(runs)
    (folder / "seed-0" / "result.json").unlink()
    assert load(runs)[1].runs[0].state == "done"
    with pytest.raises(InputError, match="seed-0 exists beside its seal and is not finished"):
        unseal(folder)
    shutil.rmtree(folder / "seed-0")
    assert unseal(folder) == [*SEEDS]


# ---- compact


def test_the_compact_form(runs: Path) -> None:
    """As pandas computes it: bins by the step of the end, six digits, the last rows as they are."""
    train = cells(runs)[0] / "seed-0" / "train.csv"
    table = pd.read_csv(train)
    assert len(table) > 1000, "the form shortens it"
    form = compact(train.read_bytes(), 30_000)
    assert form["train-last.csv"].splitlines() == [
        train.read_bytes().splitlines()[0], *train.read_bytes().splitlines()[-1000:],
    ]  # fmt: skip
    lines = [line.split(",") for line in form["train-bins.csv"].decode().splitlines()]
    bins = pd.DataFrame([list(map(float, line)) for line in lines[1:]], columns=lines[0])
    of = np.ceil(table["step"] / 150).astype(int) - 1
    for name in ("return", "length", "unstable"):
        groups = table.groupby(of)[name]
        for word, values in {
            "mean": groups.mean(), "sd": groups.std().fillna(0), "min": groups.min(), "max": groups.max(),
        }.items():  # fmt: skip
            np.testing.assert_allclose(bins[f"{name}_{word}"], values, rtol=1e-5, atol=1e-12)
    assert bins["episodes"].tolist() == table.groupby(of).size().tolist()
    assert bins["bin"].tolist() == sorted(set(of))


def test_a_compact_record_passes(runs: Path, tmp_path: Path) -> None:
    """The same scores, the same digests, the same grades; the size of train.csv is bounded."""
    scores = [[run.result["digest"] for run in cell.runs] for cell in load(runs)]
    episodes = [cell.runs[0].training for cell in load(runs)]
    for cell in cells(runs):
        seal(cell, compacted=True)
    assert not any("train.csv" in Store(cell).names(0) for cell in cells(runs))
    assert broken(runs) == set()
    assert [[run.result["digest"] for run in cell.runs] for cell in load(runs)] == scores
    for was, now in zip(episodes, (cell.runs[0].training for cell in load(runs)), strict=True):
        assert was is not None and now is not None
        np.testing.assert_equal(now, was)
    outcomes = [outcome for cell in cells(runs) for outcome in verify(cell)]
    assert {outcome.words for outcome in outcomes} == {"replayed"}
    build(runs, tmp_path / "report")
    bundle.pack(tmp_path / "report", runs, tmp_path / "compact.zip")
    with bundle.opened(tmp_path / "compact.zip") as unpacked:
        assert broken(unpacked / "runs") == set()
    for cell in cells(runs):
        unseal(cell)
    assert broken(runs) == set(), "in folders, too"


def test_policies_may_be_left_out_of_a_compact_record(runs: Path) -> None:
    """It says so, and is not replayed."""
    folder = cells(runs)[1]
    seal(folder, compacted=True)
    unseal(folder)
    for seed in (1, 2):
        (folder / f"seed-{seed}" / "policy.npz").unlink()
    outcomes = check.check(folder).outcomes
    assert all(outcome.passed for outcome in outcomes)
    (note,) = (f.what for outcome in outcomes for f in outcome.findings if outcome.rule == "all-finished")
    assert note == "the policies of seeds 1-2 were left out: they cannot be played again"
    words = {outcome.where[-6:]: outcome.words for outcome in verify(folder)}
    assert words == {"seed-0": "replayed", "seed-1": "recorded", "seed-2": "recorded"}
    (folder / "seed-0" / "policy.npz").unlink()
    assert {outcome.words for outcome in verify(folder)} == {"cannot be verified"}


def edit_bins(column: str, change: Callable[[float], float], row: int = -1) -> Callable[[Path], object]:
    def act(run: Path) -> None:
        path = run / "train-bins.csv"
        lines = [line.split(",") for line in path.read_text().splitlines()]
        place = lines[0].index(column)
        lines[row][place] = f"{change(float(lines[row][place])):.6g}"
        path.write_text("".join(",".join(line) + "\n" for line in lines))

    return act


def edit_last(change: Callable[[list[str]], object]) -> Callable[[Path], object]:
    return lambda run: rows(run / "train-last.csv", change)


def better(lines: list[str]) -> None:
    step, env, _, *rest = lines[-1].split(",")
    lines[-1] = ",".join([step, env, "500.0", *rest])


FORGERIES = {
    "a better bin at the end": ("episode-bins", edit_bins("return_mean", lambda x: x * 1.01)),
    "a mean above the maximum": ("episode-bins", edit_bins("return_mean", lambda x: x * 100, 1)),
    "more episodes": ("episode-bins", edit_bins("episodes", lambda x: x + 50, 1)),
    "no episode in a bin": ("episode-bins", edit_bins("episodes", lambda x: 0, 1)),
    "an episode beyond the time limit": ("episode-bins", edit_bins("length_max", lambda x: 99_999, 1)),
    "bins out of order": ("episode-bins", edit_bins("bin", lambda x: 199, 1)),
    "a better last row": ("episode-bins", edit_last(better)),
    "a row less": ("episode-bins", edit_last(lambda lines: lines.pop(0))),
    "a row less in the middle": ("training-episodes", edit_last(lambda lines: lines.pop(500))),
    "rows in another order": ("training-episodes", edit_last(lambda lines: lines.append(lines.pop(10)))),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_forged_compact_records(name: str, runs: Path) -> None:
    """With all digests made to fit."""
    rule, change = FORGERIES[name]
    folder = cells(runs)[0]
    seal(folder, compacted=True)
    unseal(folder)
    change(folder / "seed-0")
    assert "result-digests" in broken(folder)
    forge(folder)
    found = broken(folder)
    assert rule in found and "result-digests" not in found


# ---- the command


def test_command(runs: Path, capsys: pytest.CaptureFixture) -> None:
    digest = cells(runs)[0].name.rpartition("-")[2]
    code, out, err = call(capsys, "runs", "seal", digest, "--runs", str(runs))
    assert (code, out, err) == (0, "sealed: 1 run of 1 cell\n", "")
    code, out, err = call(capsys, "runs", "seal", "--runs", str(runs))
    assert (code, out, err) == (0, "sealed: 3 runs of 2 cells\n", "")
    code, out, _ = call(capsys, "check", str(runs))
    assert code == 0 and "FAIL" not in out
    code, out, err = call(capsys, "runs", "unseal", "--runs", str(runs))
    assert (code, out, err) == (0, "unsealed: 4 runs of 2 cells\n", "")
    code, out, err = call(capsys, "runs", "seal", "--runs", str(runs / "none"))
    assert (code, out) == (2, "") and "there are no cells in" in err
    code, out, err = call(capsys, "runs", "seal", "ffff", "--runs", str(runs))
    assert (code, out) == (2, "") and err.startswith("error: unknown cell 'ffff'")


def test_old_results_have_no_compact_form(runs: Path) -> None:
    """Their train.csv stays in the seal: nothing vouches for a shorter one."""
    folder = cells(runs)[1]
    for path in folder.glob("seed-*/result.json"):
        result = json.loads(path.read_text())
        del result["compact"]
        files.write_json(path, result)
    forge(folder)
    seal(folder, compacted=True)
    assert "train.csv" in Store(folder).names(0) and broken(folder) == set()

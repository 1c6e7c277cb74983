"""Full disks, damaged files, other writers: nothing that was recorded is lost, and nothing damaged is
believed.
"""

import errno
import json
import os
from dataclasses import replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

import pytest
import torch

from ascent import suites
from ascent.records import files
from ascent.records.checkpoints import FORMAT
from ascent.records.errors import DamagedFile, InputError, RunHeld
from ascent.records.tables import Table
from ascent.runners import platform
from ascent.runners.experience import ReplayStorage
from ascent.runners.train import groups, train
from ascent.runners.trainer import Trainer
from tests.small import results, run_of, small_cell

SEEDS = [0, 1]
OPERATIONS = ("open", "write", "fsync", "replace", "link", "pread")


class FullDisk:
    """Stands for `os` where files are written, and fails the nth operation; a write leaves half its bytes."""

    def __init__(self, nth: int):
        self.left = nth

    def __getattr__(self, name: str) -> object:
        work = getattr(os, name)
        if name not in OPERATIONS:
            return work

        def operation(*args: object, **kwargs: object) -> object:
            if name == "open" and not args[1] & (os.O_WRONLY | os.O_RDWR):
                return work(*args, **kwargs)  # a full disk can be read
            self.left -= 1
            if self.left == 0:
                if name == "write" and len(args[1]) > 1:
                    os.write(args[0], args[1][: len(args[1]) // 2])
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return work(*args, **kwargs)

        return operation


@pytest.mark.parametrize(
    ("system", "stride"),
    [
        ("a2c", 4),
        pytest.param("a2c", 1, marks=pytest.mark.slow),
        pytest.param("dqn", 1, marks=pytest.mark.slow),
    ],
)
def test_nth_write_fails(system: str, stride: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every N, or every fourth, over a run with several checkpoints: an error, and then the same bytes.

    Every third time the disk is still full at the next attempt, a few operations later.
    """
    cell = small_cell(
        system, "CartPole-v1", steps=32, points=2, episodes=1, envs=8, hidden=[4], learning_starts=8
    )
    seeds = [0]
    train(cell, seeds, tmp_path / "whole")
    expected, nth, failed = results(cell, tmp_path / "whole", seeds), 0, True
    while failed:
        nth, failed = nth + stride, False
        out = tmp_path / str(nth)
        for disk in [FullDisk(nth), *([FullDisk(7)] if nth % 3 == 0 else [])]:
            with monkeypatch.context() as patch:
                patch.setattr("ascent.records.files.os", disk)
                patch.setattr("ascent.records.tables.os", disk)
                try:
                    train(cell, seeds, out, checkpoint_seconds=0.0, tell_seconds=1000.0)
                except OSError as error:
                    assert error.errno == errno.ENOSPC
                    failed = True
        train(cell, seeds, out)
        assert results(cell, out, seeds) == expected, f"operation {nth}"
        assert not list(out.rglob("*.tmp"))
    assert nth > 60, "the run has too few operations to show anything"


def test_recorded_before_the_fault_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a disk has filled up, training goes on from the last checkpoint, not from the start."""
    cell = small_cell("a2c", "CartPole-v1", steps=64, envs=8)
    stops = iter([False, False, False, True])
    assert not train(cell, SEEDS, tmp_path, stop=lambda: next(stops))
    steps = [run_of(cell, seed, tmp_path).checkpoints.steps() for seed in SEEDS]
    assert steps == [[32], [32]]
    with monkeypatch.context() as patch:
        patch.setattr("ascent.records.files.os", FullDisk(3))
        with pytest.raises(OSError, match="No space left"):
            train(cell, SEEDS, tmp_path, checkpoint_seconds=0.0)
    assert [run_of(cell, seed, tmp_path).usable_steps()[-1] for seed in SEEDS] == [32, 32]


def stopped(cell: object, out: Path, at: int, seeds: list[int] = SEEDS) -> None:
    """Train up to a checkpoint after `at` steps of the loop, with one checkpoint before it."""
    count = [0]

    def stop() -> bool:
        count[0] += 1
        return count[0] == at

    assert not train(cell, seeds, out, checkpoint_seconds=0.0, stop=stop)


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def test_every_bit_of_a_checkpoint_counts(tmp_path: Path) -> None:
    """Each single flipped bit of a checkpoint is noticed."""
    cell = small_cell("a2c", "CartPole-v1", steps=64, envs=1, hidden=[2])
    stopped(cell, tmp_path, 3)
    path = max((cell.folder(tmp_path) / "seed-0").glob("checkpoint-*.bin"))
    whole = path.read_bytes()
    copy = tmp_path / "copy"
    for bit in range(0, 8 * len(whole), 1 if len(whole) < 3000 else 7):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        copy.write_bytes(data)
        with pytest.raises(DamagedFile):
            files.read_sealed(copy)
    for size in (0, 5, 31, 32, len(whole) - 1):
        copy.write_bytes(whole[:size])
        with pytest.raises(DamagedFile):
            files.read_sealed(copy)


@pytest.mark.parametrize("name", ["checkpoint", "replay", "eval.csv", "ladder.csv"])
def test_damage_falls_back_or_is_refused(name: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    """A damaged newest checkpoint: the older one is used, and the damage is told. None whole: one line, no
    training.
    """
    cell = small_cell("dqn", "CartPole-v1", steps=80)
    train(cell, SEEDS, tmp_path / "whole")
    stopped(cell, tmp_path / "run", 30)
    folder = cell.folder(tmp_path / "run") / "seed-1"
    found = {int(path.stem.split("-")[-1]): path for path in folder.glob(f"{name}-*.bin")}
    flip(found[max(found)] if found else folder / name, 8 * 40)
    if found:
        train(cell, SEEDS, tmp_path / "run")
        assert "is damaged" in capfd.readouterr().err
        assert results(cell, tmp_path / "run", SEEDS) == results(cell, tmp_path / "whole", SEEDS)
        attempts = json.loads((folder / "run.json").read_text())["attempts"]
        assert attempts[-1]["from_step"] == 58
    else:  # both checkpoints vouch for what came before
        with pytest.raises(DamagedFile, match=f"{name} is damaged.*no older checkpoint is usable"):
            train(cell, SEEDS, tmp_path / "run")


def test_all_checkpoints_damaged(tmp_path: Path) -> None:
    cell = small_cell("ppo", "CartPole-v1", steps=80)
    stopped(cell, tmp_path, 5)
    for path in (cell.folder(tmp_path) / "seed-0").glob("checkpoint-*.bin"):
        flip(path, 999)
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*.csv"))
    with pytest.raises(DamagedFile, match="no older checkpoint is usable"):
        train(cell, SEEDS, tmp_path)
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*.csv")) == before


def test_other_versions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another torch, another record format, another cell in the folder: one line says what differs."""
    cell = small_cell("ppo", "CartPole-v1", steps=80)
    stopped(cell, tmp_path, 5)
    packages = {"python": "3.11.0", "torch": "1.0.0", "numpy": "2.0.0", "gymnasium": "1.0.0"}
    with monkeypatch.context() as patch:
        patch.setattr("ascent.runners.platform.packages", lambda task: packages)
        with pytest.raises(InputError, match=r"cannot be resumed exactly: .*1\.0\.0"):
            train(cell, SEEDS, tmp_path)
    run_json = cell.folder(tmp_path) / "seed-0" / "run.json"
    whole = run_json.read_text()
    run_json.write_text(whole.replace(f'"format": {FORMAT}', '"format": 99'))
    with pytest.raises(InputError, match="record format 99"):
        train(cell, SEEDS, tmp_path)
    for path in run_json.parent.glob("checkpoint-*.bin"):
        path.rename(path.with_suffix(".aside"))
    tables = {path: path.read_bytes() for path in run_json.parent.glob("*.csv")}
    with pytest.raises(InputError, match="record format 99"):
        train(cell, [0], tmp_path)
    assert tables == {path: path.read_bytes() for path in run_json.parent.glob("*.csv")}, (
        "nothing was cut off"
    )
    for path in run_json.parent.glob("checkpoint-*.aside"):
        path.rename(path.with_suffix(".bin"))
    run_json.write_text(whole[:50])
    with pytest.raises(DamagedFile, match=r"run\.json is damaged"):
        train(cell, SEEDS, tmp_path)
    run_json.write_text(whole)
    cell_json = cell.folder(tmp_path) / "cell.json"
    cell_json.write_text(cell_json.read_text().replace('"steps": 80', '"steps": 81'))
    with pytest.raises(InputError, match=r"cell\.json describes another cell"):
        train(cell, SEEDS, tmp_path)


def test_second_writer_is_refused(tmp_path: Path) -> None:
    """While one process holds a run, another is told who; and a pack that holds some of its runs lets them
    go.
    """
    cell = small_cell("ppo", "CartPole-v1")
    stopped(cell, tmp_path, 5)
    holder = run_of(cell, 1, tmp_path)
    holder.open()
    with pytest.raises(RunHeld, match=rf"seed-1 is in use by process {os.getpid()} on "):
        train(cell, SEEDS, tmp_path)
    assert train(cell, [0], tmp_path), "seed 0 was let go"
    holder.close()
    assert train(cell, [1], tmp_path)


def test_groups(tmp_path: Path) -> None:
    """Seeds from different packs go on from their own checkpoints; a pack cut off in its saving from the
    common one.
    """
    cell = small_cell("ppo", "CartPole-v1", steps=80)
    stopped(cell, tmp_path, 5, [0, 1])
    stopped(cell, tmp_path, 9, [2, 3])
    runs = [run_of(cell, seed, tmp_path) for seed in range(5)]
    told = [(step, [run.seed for run in group]) for step, group in groups(runs)]
    assert told == [(None, [4]), (10, [0, 1]), (18, [2, 3])]
    (runs[1].folder / "checkpoint-10.bin").unlink()  # as if killed between the two
    told = [(step, [run.seed for run in group]) for step, group in groups(runs[:2])]
    assert told == [(8, [0, 1])]


def test_table(tmp_path: Path) -> None:
    """Numbers read back as they were; what was not flushed before a rewind is gone."""
    table = Table(tmp_path / "t.csv", ("a", "b"))
    table.begin()
    table.add(1, 0.1 + 0.2)
    table.flush(durable=False)
    size, digest = table.size, table.hash.hexdigest()
    table.add(2, float("nan"))
    table.flush(durable=True)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert lines[0] == "a,b" and float(lines[1].split(",")[1]) == 0.1 + 0.2 and lines[2] == "2,nan"
    assert table.content() == (tmp_path / "t.csv").read_bytes()
    table.begin(table.verify(size, digest))
    assert (tmp_path / "t.csv").read_text().splitlines() == lines[:2]
    with pytest.raises(DamagedFile):
        table.verify(size + 1, digest)


def test_replay_survives_its_ring(tmp_path: Path) -> None:
    """Checkpoints append to replay; one taken after the ring has wrapped restores it exactly."""
    cell = small_cell("dqn", "CartPole-v1", steps=400, capacity=50)
    stopped(cell, tmp_path / "run", 150, [0, 1, 2])  # 300 transitions of 50
    run = run_of(cell, 2, tmp_path / "run", capacity=50)
    checkpoint, _ = run.checkpoints.load(300)
    reference = Trainer(cell, [2])
    while reference.step < 300:
        reference.advance()
    restored = ReplayStorage(reference.agent.experience, 1, reference.spec, "cpu", cell.steps)
    restored.restore(0, 300, checkpoint.replay)
    assert torch.equal(restored.rows, reference.storage.rows) and restored.seen == 300
    segments = list(run.folder.glob("replay-*.bin"))
    assert sum(path.stat().st_size for path in segments) < 40 * reference.storage.rows.nbytes
    train(cell, [0, 1, 2], tmp_path / "run")
    train(cell, [0, 1, 2], tmp_path / "whole")
    assert results(cell, tmp_path / "run", [0, 1, 2]) == results(cell, tmp_path / "whole", [0, 1, 2])


def test_another_model_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulator's version and a digest of the model are recorded, and a resumed run must have both."""
    cell = small_cell("ppo", "Hopper-v5", steps=80)
    stopped(cell, tmp_path, 5)
    spec = suites.TASKS["Hopper-v5"]
    packages = json.loads((cell.folder(tmp_path) / "seed-0" / "run.json").read_text())["packages"]
    digest = sha256(spec.model.read_bytes()).hexdigest()[:12]
    assert (packages["mujoco"], packages["hopper.xml"]) == (version("mujoco"), digest)
    heavier = tmp_path / "hopper.xml"
    heavier.write_bytes(spec.model.read_bytes().replace(b'friction="0.9"', b'friction="0.8"'))
    assert heavier.read_bytes() != spec.model.read_bytes()
    monkeypatch.setitem(suites.TASKS, "Hopper-v5", replace(spec, model=heavier))
    platform.packages.cache_clear()
    with pytest.raises(InputError, match=r"cannot be resumed exactly: .*hopper\.xml"):
        train(cell, SEEDS, tmp_path)
    platform.packages.cache_clear()

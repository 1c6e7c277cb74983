"""One writer per run, on shared file systems and with clocks that are wrong: who takes over and when, and how
the one who was taken over can do nothing any more.
"""

import errno
import io
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from itertools import count
from pathlib import Path

import pytest

import ascent.records
import ascent.runners
import ascent.runners.attempt
import ascent.runners.train
from ascent import algorithms
from ascent.records import files, ownership
from ascent.records.errors import RunHeld, Superseded
from ascent.records.layout import TABLES
from ascent.records.ownership import BEATS, Ownership, acquire_all, beating, identity, standing
from ascent.records.plan import Job, Planned
from ascent.records.progress import snapshot
from ascent.records.tables import Table
from ascent.runners import pack, platform
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from tests.runners.test_faults import stopped
from tests.small import results, run_of, small_cell

JOB = {"SLURM_CLUSTER_NAME": "north", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
ELSEWHERE = {"boot": "another machine's", "host": "node9"}


@pytest.fixture(autouse=True)
def no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests may run in a job of their own."""
    for name in ownership.SLURM:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(params=["links", "no links"])
def links(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems with hard links, and without."""

    def fail(*args: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    if request.param == "no links":
        monkeypatch.setattr(os, "link", fail)


@pytest.fixture
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The sleeps of those who watch, in seconds; no time passes."""
    slept: list[float] = []
    monkeypatch.setattr(ownership.time, "sleep", slept.append)
    return slept


def owner(folder: Path, number: int = 1, **facts: object) -> dict:
    """An owner file that this process might have written, but for these facts."""
    claim = {"token": "theirs", "beat_seconds": 10.0} | identity() | facts
    (folder / f"owner-{number}.json").write_text(json.dumps(claim))
    return claim


def ended_process() -> int:
    """The pid of a process that was there."""
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---- who takes over, and when


def race(folder: Path, rounds: int, start: object, won: object) -> None:
    """Try to take over in every round; hold what was won until the round is over."""
    for k in range(rounds):
        claim = Ownership(folder / str(k), beat_seconds=0.02)
        start.wait()
        try:
            claim.acquire()
            won.put(k)
        except RunHeld:
            pass
        start.wait()


def test_one_of_several_takes_over(links: None, tmp_path: Path) -> None:
    """Processes that see the same dead owner at the same time, many times: one of them gets it."""
    rounds, racers, gone = 150, 3, ended_process()
    for k in range(rounds):
        (tmp_path / str(k)).mkdir()
        owner(tmp_path / str(k), pid=gone)
    fork = multiprocessing.get_context("fork")
    start, won = fork.Barrier(racers), fork.Queue()
    processes = [fork.Process(target=race, args=(tmp_path, rounds, start, won)) for _ in range(racers)]
    for process in processes:
        process.start()
    assert sorted(won.get(timeout=120) for _ in range(rounds)) == list(range(rounds))
    for process in processes:
        process.join()
    assert won.empty() and all(names(tmp_path / str(k)) == ["owner-2.json"] for k in range(rounds))


def test_processes_of_this_machine(links: None, naps: list[float], tmp_path: Path) -> None:
    """One that is there holds the run. One that has ended, is a zombie, or whose pid another has now, does
    not. Nobody waits.
    """
    with subprocess.Popen(["sleep", "1000"]) as process:
        there = {"pid": process.pid, "started": ownership._started(process.pid)}
        owner(tmp_path, 4, **there)
        with pytest.raises(RunHeld, match=rf"in use by process {process.pid} on "):
            Ownership(tmp_path).acquire()
        owner(tmp_path, 4, pid=process.pid, started=there["started"] - 1)
        first = Ownership(tmp_path)
        first.acquire()
        owner(tmp_path, 6, **there)
        process.kill()
        while Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        second = Ownership(tmp_path)
        second.acquire()
    assert names(tmp_path) == ["owner-7.json"]
    with pytest.raises(Superseded):
        first.check()
    second.release()
    assert names(tmp_path) == ["free-7.json"] and not naps
    third = Ownership(tmp_path)
    third.acquire()
    assert names(tmp_path) == ["owner-8.json"]
    third.remove()
    assert names(tmp_path) == []


def test_a_later_start_of_the_same_job(
    links: None, naps: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes over at once, though the process lives, here or elsewhere; an earlier start never does."""
    me = identity()
    for elsewhere in ({}, ELSEWHERE):
        for name, value in JOB.items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("SLURM_RESTART_COUNT", raising=False)  # as at the first start
        monkeypatch.setattr(
            ownership,
            "identity",
            lambda e=elsewhere: me | ownership.slurm_facts() | e,
        )
        old, new = Ownership(tmp_path), Ownership(tmp_path)
        old.acquire()
        monkeypatch.setattr(ownership, "identity", lambda: me | ownership.slurm_facts())
        monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
        new.acquire()
        with pytest.raises(Superseded, match=r"taken over by .* SLURM job 7_3 of north, .* restart 1"):
            old.check()
        (tmp_path / "progress.json").unlink(missing_ok=True)
        with pytest.raises(Superseded):
            old.tell()
        old.release()  # which must not touch the new owner's file
        new.check()
        monkeypatch.setenv("SLURM_RESTART_COUNT", "0")
        with pytest.raises(RunHeld):
            old.acquire()
        monkeypatch.setenv("SLURM_CLUSTER_NAME", "south")
        monkeypatch.setenv("SLURM_RESTART_COUNT", "5")
        with pytest.raises(RunHeld, match="north"):  # the same number on another cluster is another job
            old.acquire()
        new.remove()
    assert names(tmp_path) == [] and not naps


def test_a_silent_owner_elsewhere(links: None, naps: list[float], tmp_path: Path) -> None:
    """It is taken over after four of its beats, and not before; all of a pack are watched at once."""
    folders = [tmp_path / str(k) for k in range(3)]
    for folder, beat in zip(folders, (10.0, 10.0, 30.0), strict=True):
        folder.mkdir()
        claim = owner(folder, 3, **ELSEWHERE, beat_seconds=beat)
        told = {"owner": claim["token"], "beat": 8, "time": 0.0}
        (folder / "progress.json").write_text(json.dumps(told))
    acquire_all([Ownership(folder) for folder in folders])
    assert sum(naps) == BEATS * 30.0
    assert all("owner-4.json" in names(folder) and "owner-3.json" not in names(folder) for folder in folders)


def test_not_before(tmp_path: Path, naps: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A beat in the last moment of the wait: the owner goes on, and none of the pack is taken."""
    folders = [tmp_path / str(k) for k in range(3)]
    for folder in folders:
        folder.mkdir()
    owner(folders[2], **ELSEWHERE)

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if sum(naps) == BEATS * 10.0:
            (folders[2] / "progress.json").write_text(json.dumps({"owner": "theirs", "beat": 1}))

    monkeypatch.setattr(ownership.time, "sleep", nap)
    with pytest.raises(RunHeld, match=r"2 is in use by process \d+ on node9"):
        acquire_all([Ownership(folder) for folder in folders])
    assert [names(folder) for folder in folders] == [[], [], ["owner-1.json", "progress.json"]]


def test_beats_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real thread's beats, a real wait; when they end the folder is taken in about four of them."""
    me = identity()
    monkeypatch.setattr(ownership, "identity", lambda: me | ELSEWHERE)
    holder = Ownership(tmp_path, beat_seconds=0.2)
    holder.acquire()
    monkeypatch.undo()
    with beating([holder]):
        for _ in range(3):
            with pytest.raises(RunHeld):
                Ownership(tmp_path).acquire()
    start = time.monotonic()
    Ownership(tmp_path).acquire()
    assert time.monotonic() - start >= BEATS * 0.2
    with pytest.raises(Superseded):
        holder.check()


def test_beats_of_one_who_was_taken_over_do_not_count(
    tmp_path: Path, naps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """progress.json that changes, but is another's: the owner is silent."""
    owner(tmp_path, **ELSEWHERE)
    beats = count()

    def nap(seconds: float) -> None:
        naps.append(seconds)
        (tmp_path / "progress.json").write_text(json.dumps({"owner": "a third", "beat": next(beats)}))

    monkeypatch.setattr(ownership.time, "sleep", nap)
    Ownership(tmp_path).acquire()
    assert sum(naps) == BEATS * 10.0 and next(beats) > 10


@pytest.mark.parametrize("content", ["", '{"token": "th', "[]"])
def test_a_damaged_owner_file(
    content: str, naps: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be one that is being written: it is waited for, and taken over if it stays as it is."""
    (tmp_path / "owner-5.json").write_text(content)
    claim = Ownership(tmp_path, beat_seconds=2.0)
    claim.acquire()
    assert sum(naps) == BEATS * 2.0 and names(tmp_path) == ["owner-6.json"]
    claim.remove()
    (tmp_path / "owner-5.json").write_text(content)
    monkeypatch.setattr(ownership.time, "sleep", lambda seconds: owner(tmp_path, 5, **ELSEWHERE))
    with pytest.raises(RunHeld, match="node9"):
        claim.acquire()


def test_clocks_and_times_of_files_do_not_matter(
    naps: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Years off, jumping, backwards: the same as in the tests above."""
    times = count(4e9, -1e8)
    monkeypatch.setattr(time, "time", lambda: next(times))
    monkeypatch.setattr(time, "monotonic", lambda: next(times))
    for moment in (0, 4e9):
        held, silent = tmp_path / f"held-{moment}", tmp_path / f"silent-{moment}"
        for folder in (held, silent):
            folder.mkdir()
            owner(folder, **(ELSEWHERE if folder == silent else {}))
            (folder / "progress.json").write_text(json.dumps({"owner": "theirs", "beat": 1, "time": moment}))
            for path in folder.iterdir():
                os.utime(path, (moment, moment))
        with pytest.raises(RunHeld):
            Ownership(held).acquire()
        assert not naps
        Ownership(silent).acquire()
        assert sum(naps) == BEATS * 10.0
        naps.clear()


def test_an_old_listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file server's client may show a folder as it was: whoever believes it finds out, and leaves."""
    for others in (["owner-7.json"], ["free-1.json"], ["free-1.json", "owner-2.json"]):
        folder = tmp_path / others[0]
        folder.mkdir(exist_ok=True)
        for name in others:
            (folder / name).write_text(json.dumps({"token": "theirs"} | identity()))
        claim = Ownership(folder)
        with monkeypatch.context() as patch:
            patch.setattr(ownership, "standing", lambda folder: (0, None))
            with pytest.raises(RunHeld):
                claim.acquire()
        with pytest.raises(Superseded):
            claim.check()
        assert max(ownership._numbered(folder))[1].name == others[-1]


def test_two_packs_that_overlap(tmp_path: Path) -> None:
    """Of a pack in which somebody holds a run nothing is taken, whatever comes before or after it."""
    folders = [tmp_path / str(k) for k in range(5)]
    for folder in folders:
        folder.mkdir()
    middle = Ownership(folders[2])
    middle.acquire()
    with pytest.raises(RunHeld):
        acquire_all([Ownership(folder) for folder in folders])
    assert [names(folder) for folder in folders] == [[], [], ["owner-1.json"], [], []]


# ---- beats while a run trains


def test_beats_go_on_in_a_long_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While an evaluation takes long, also for runs of the pack whose turn has not come; never afterwards."""
    cell = small_cell("a2c", "CartPole-v1", steps=80)
    stopped(cell, tmp_path, 5, [0])
    stopped(cell, tmp_path, 9, [1])
    paths = [cell.folder(tmp_path) / f"seed-{seed}" / "progress.json" for seed in (0, 1)]
    work, seen = ascent.runners.attempt.evaluate, []

    def slow(*args: object) -> object:
        before = [files.read_json(path) for path in paths if path.exists()]
        time.sleep(0.5)
        seen.append((before, [files.read_json(path) for path in paths if path.exists()]))
        return work(*args)

    monkeypatch.setattr(ascent.runners.attempt, "evaluate", slow)
    assert train(cell, [0, 1], tmp_path, tell_seconds=0.05)
    before, after = seen[0]
    assert all(now["beat"] >= then["beat"] + 3 for then, now in zip(before, after, strict=True))
    assert len(after) == 2 and after[1]["step"] == 18, "what the attempt before told is kept"
    assert len(seen[-1][1]) == 1, "the first run is finished"
    time.sleep(0.2)
    assert not list(tmp_path.rglob("progress.json")) and not list(tmp_path.rglob("owner*"))


def test_beats_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that takes no signs of life ends no training."""
    cell, write, failed = small_cell("a2c", "CartPole-v1", steps=400), os.replace, []

    def replace(source: Path, target: Path) -> None:
        if target.name == "progress.json" and "beats" in ownership.threading.current_thread().name:
            failed.append(target)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(source, target)

    monkeypatch.setattr(os, "replace", replace)
    assert train(cell, [0], tmp_path, tell_seconds=0.01) and failed


def test_what_status_says(tmp_path: Path) -> None:
    """Running as long as its process does; of another machine as long as it told something lately."""
    cell = small_cell("a2c", "CartPole-v1", steps=80)
    stopped(cell, tmp_path, 5, [0])

    def state() -> str:
        (told,) = snapshot([Planned(cell, (0,))], tmp_path)
        return next(name for name, runs in told.states.items() if runs)

    assert state() == "interrupted"
    run = run_of(cell, 0, tmp_path)
    run.open()
    assert state() == "running"
    for beat, age, expected in ((1.0, 100, "running"), (1.0, 130, "interrupted"), (60.0, 200, "running")):
        owner(run.folder, 9, **ELSEWHERE, beat_seconds=beat)
        files.write_json(run.folder / "progress.json", {"step": 8, "time": time.time() - age})
        assert state() == expected
    owner(run.folder, 9, pid=ended_process())
    assert state() == "interrupted"


# ---- the one who was taken over


def start_and_stop(job: Job, log: Path, owner: object, name: str, nth: int, before: bool) -> int:
    """A process of `ascent.runners.pack` in a SLURM job that is stopped at the nth call of a function; its
    pid.
    """
    pid = os.fork()
    if pid:
        assert os.WIFSTOPPED(os.waitpid(pid, os.WUNTRACED)[1]), "it has ended instead"
        return pid
    code = 99
    try:
        os.environ.update(JOB)
        work, calls = getattr(owner, name), count(1)

        def stopping(*args: object, **kwargs: object) -> object:
            now = next(calls) == nth and ownership.threading.current_thread().name != "beats"
            if now and before:
                os.kill(os.getpid(), signal.SIGSTOP)
            result = work(*args, **kwargs)
            if now and not before:
                os.kill(os.getpid(), signal.SIGSTOP)
            return result

        setattr(owner, name, stopping)
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666), 2)
        sys.stdin, sys.stderr = io.StringIO(job.to_json()), os.fdopen(2, "w")
        code = pack.main()
    finally:
        os._exit(code)


def resume(pid: int) -> int:
    """Let it go on; its exit code."""
    os.kill(pid, signal.SIGCONT)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


# The training of two seeds below makes 80 renames: cell.json and the sources; run.json and progress.json of
# each, the tables; at each checkpoint replay and checkpoint of each; in the end policy.npz, run.json and
# result.json of one and then of the other.
MOMENTS = {
    "after rows": (Table, "flush", False, (1, 8, 20, 40)),
    "in a rollout": (Trainer, "advance", True, (2, 5, 16)),
    "in an evaluation": (ascent.runners.attempt, "evaluate", True, (1, 2, 3)),
    "before rows": (files, "append", True, (9, 15, 30)),
    "before a rename": (
        os,
        "replace",
        True,
        (3, 4, 5, 7, 10, 14, 15, 16, 17, 18, 40, 75, 76, 77, 78, 79, 80),
    ),
    "after a rename": (os, "replace", False, (3, 7, 12, 15, 16, 18, 75, 76, 77, 79)),
    "before a removal": (Path, "unlink", True, (4, 5, 17, 36)),
}


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("moment", MOMENTS)
def test_taken_over_while_stopped(
    moment: str, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SLURM believes a task dead and starts it again, which takes over the runs. Then the first one, that was
    only stopped, goes on, by turns while the second one trains and after that has ended. The results are
    those of an undisturbed run, and the first one says in a line why it ends.
    """
    cell = small_cell("dqn", "CartPole-v1", steps=32, points=2, episodes=1, hidden=[4], learning_starts=8)
    train(cell, [0, 1], tmp_path / "whole")
    place, name, before, calls = MOMENTS[moment]
    for turn, nth in enumerate(calls[::every]):
        job = Job(cell, (0, 1), tmp_path / f"{nth}", checkpoint_seconds=0.0, tell_seconds=1000.0)
        pid = start_and_stop(job, tmp_path / "log", place, name, nth, before)
        steps, codes = count(1), []

        folders = [cell.folder(job.out) / f"seed-{seed}" for seed in job.seeds]

        def stop(turn=turn, pid=pid, steps=steps, codes=codes, folders=folders) -> bool:
            if turn % 2 and next(steps) == 5:
                before = [names(folder) for folder in folders]
                codes.append(resume(pid))
                assert [names(folder) for folder in folders] == before
            return False

        with monkeypatch.context() as patch:
            for variable, value in (JOB | {"SLURM_RESTART_COUNT": "1"}).items():
                patch.setenv(variable, value)
            assert train(cell, job.seeds, job.out, checkpoint_seconds=0.0, stop=stop)
        codes = codes or [resume(pid)]
        said = (tmp_path / "log").read_text()
        assert codes == [2] and said.count("\n") == 1, said
        assert said.startswith("error: ") and "taken over by " in said
        assert results(cell, job.out, [0, 1]) == results(cell, tmp_path / "whole", [0, 1]), nth
        for folder in folders:
            assert set(names(folder)) == {"run.json", "result.json", "policy.npz", *TABLES}, nth
        attempts = files.read_json(folders[1] / "run.json")["attempts"]
        assert attempts[-1]["SLURM_RESTART_COUNT"] == "1" and "to_step" in attempts[-1]


def test_files_of_a_superseded_copy_are_not_believed(tmp_path: Path) -> None:
    """Checkpoints beyond the owner's own and replay that it did not write are removed at its next checkpoint,
    and replay under a name of its own is noticed.
    """
    cell = small_cell("dqn", "CartPole-v1", steps=80)
    train(cell, [0], tmp_path / "whole")
    stopped(cell, tmp_path / "ahead", 12, [0])
    stopped(cell, tmp_path / "run", 5, [0])
    ahead, folder = (cell.folder(tmp_path / out) / "seed-0" for out in ("ahead", "run"))
    calls = count()

    def intrude() -> bool:
        if next(calls) == 2:
            for path in ahead.glob("*.bin"):
                if not (folder / path.name).exists():
                    path.rename(folder / path.name)
        return next(calls) > 6

    assert not train(cell, [0], tmp_path / "run", checkpoint_seconds=0.0, stop=intrude)
    assert max(run_of(cell, 0, tmp_path / "run").checkpoints.steps()) < 24
    pieces = sorted(folder.glob("replay-*.bin"), key=lambda path: int(path.stem.split("-")[1]))
    other = b"other transitions"
    pieces[-1].write_bytes(sha256(other).digest() + other)
    train(cell, [0], tmp_path / "run")
    assert files.read_json(folder / "run.json")["attempts"][-1]["from_step"] > 0
    assert results(cell, tmp_path / "run", [0]) == results(cell, tmp_path / "whole", [0])


# ---- what the record says


def test_slurm_and_losses_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = small_cell("a2c", "CartPole-v1", steps=80)
    for name, value in (JOB | {"SLURMD_NODENAME": "n5", "SLURM_JOB_PARTITION": "cpu"}).items():
        monkeypatch.setenv(name, value)
    stopped(cell, tmp_path, 9, [0, 1])
    for step in (40, 30):  # killed after it told of step 40, then after step 30
        run = run_of(cell, 0, tmp_path)
        run.open()
        run.begin(18, [0, 1])
        run.progress(step, 2.0, None)
        run.owner.tell()
        run.close()
    assert train(cell, [0, 1], tmp_path)
    record = files.read_json(cell.folder(tmp_path) / "seed-0" / "run.json")
    for attempt in record["attempts"]:
        assert JOB.items() <= attempt.items() and attempt["platform"] == platform.platform_key()
        assert (attempt["SLURMD_NODENAME"], attempt["SLURM_JOB_PARTITION"]) == ("n5", "cpu")
    losses = [(attempt.get("lost_steps"), attempt.get("lost_wall_s")) for attempt in record["attempts"]]
    assert losses == [(None, None), (22, 5.5), (12, 3.0), (None, None)]
    assert (record["restarts"], record["lost_steps"], record["lost_wall_s"]) == (3, 34, 8.5)
    assert "mixed_platforms" not in record
    whole = files.read_json(cell.folder(tmp_path) / "seed-1" / "run.json")
    assert (whole["restarts"], whole["lost_steps"], whole["lost_wall_s"]) == (1, 0, 0)


def test_mixed_platforms_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those whose work is in the result, not those of attempts of which nothing was left."""
    cell = small_cell("a2c", "CartPole-v1", steps=80)

    def attempt(key: str, out: Path, work: Callable[[], object]) -> None:
        monkeypatch.setattr(platform, "platform_key", lambda: key)
        work()

    def break_down(out: Path) -> None:
        with monkeypatch.context() as patch, pytest.raises(RuntimeError):
            patch.setattr(Trainer, "advance", lambda trainer: exec("raise RuntimeError"))
            train(cell, [0], out)

    def finish(out: Path) -> None:
        assert train(cell, [0], out)

    plans = {
        "none": [("a", break_down), ("b", finish)],
        "two": [("b", lambda out: stopped(cell, out, 5, [0])), ("c", break_down), ("a", finish)],
        "back": [("a", lambda out: stopped(cell, out, 5, [0])), ("a", finish)],
    }
    found = {}
    for name, plan in plans.items():
        for key, work in plan:
            attempt(key, tmp_path / name, lambda work=work, name=name: work(tmp_path / name))
        record = files.read_json(cell.folder(tmp_path / name) / "seed-0" / "run.json")
        found[name] = record.get("mixed_platforms")
    assert found == {"none": None, "two": ["a", "b"], "back": None}


def test_math_settings_are_in_the_platform_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in algorithms.PORTABLE:  # whatever the machine's environment sets
        monkeypatch.delenv(name, raising=False)
    for name, value in algorithms.MATH.items():
        monkeypatch.setenv(name, value)
    keys = [platform.platform_key()]
    assert "=" not in keys[0], "the usual settings are not named"
    for name, value in {"MKL_CBWR": "COMPATIBLE", "NPY_DISABLE_CPU_FEATURES": "X86_V4 X86_V3"}.items():
        monkeypatch.setenv(name, value)
        keys.append(platform.platform_key())
        assert platform.describe_platform()["flags"][name] == value
    assert keys[2] == f"{keys[0]}/MKL_CBWR=COMPATIBLE/NPY_DISABLE_CPU_FEATURES=X86_V4+X86_V3"
    assert len(set(keys)) == 3


def test_one_owner_at_a_time_is_standing(tmp_path: Path) -> None:
    assert standing(tmp_path) == (0, None)
    claim = Ownership(tmp_path)
    claim.acquire()
    number, facts = standing(tmp_path)
    assert number == 1 and facts["pid"] == os.getpid() and facts["token"] == claim.token
    claim.release()
    assert standing(tmp_path) == (1, None)

"""kill -9 at every phase of a run, resumed in the same or another packing: the bytes of a run never
interrupted.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import chain, repeat
from pathlib import Path

import pytest

import ascent.runners
import ascent.runners.train
import ascent.runners.trainer
from ascent import kernels
from ascent.algorithms.seedwise import Parameters
from ascent.records import files
from ascent.records.plan import Job
from ascent.records.run import Run
from ascent.runners.train import train
from ascent.runners.trainer import Trainer
from tests.small import KINDS, kind_of, others_slow, results, run_of, small_cell, systems_and_tasks

SEEDS = [0, 1, 2, 3]
PACKINGS = ([[0, 1, 2, 3]], [[0], [1, 2, 3]], [[3, 1], [0, 2]], [[0], [1], [2], [3]])
# Phase -> (owner, name) of a function in the midst of it, and how many calls of it a short run makes at
# least.
PHASES = {
    "taking": (os, "link", 4),
    "start": (Run, "begin", 4),
    "rollout": (Trainer, "advance", 30),
    "update": (Parameters, "grad", 4),
    "evaluation": (ascent.runners.trainer, "to_env", 60),
    "checkpoint": (os, "replace", 20),
    "clearing": (Path, "unlink", 4),
    "finish": (files, "write_json", 10),
}
UPDATE = {"update": (kernels.ClippedSteps, "__call__", 4)}  # of PPO and MAPPO with the kernels
COMPILED = PHASES | (UPDATE if kernels.enabled() else {})


def in_child(work: Callable[[], object]) -> int:
    """Run `work` in a forked process and return its wait status; what it patches stays there."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def die_at(owner: object, name: str, nth: int, before: bool) -> None:
    """Kill this process at the nth call of a function, before or after its work."""
    work, calls = getattr(owner, name), [0]

    def dying(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] == nth and before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = work(*args, **kwargs)
        if calls[0] == nth:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, name, dying)


@pytest.mark.slow
def test_correlated_noise_is_in_the_checkpoint(tmp_path: Path) -> None:
    """What a policy remembers between steps survives, and is cleared where an episode ended."""
    cell = small_cell("ddpg", "Hopper-v5", steps=200, noise_decay=0.15)
    assert train(cell, SEEDS, tmp_path / "whole")
    for stop_after in (31, 60):
        stop = partial(next, chain(repeat(False, stop_after), repeat(True)))
        assert not train(cell, SEEDS, tmp_path / "cut", checkpoint_seconds=0.0, stop=stop)
    for pack in ([0, 1], [3, 2]):
        assert train(cell, pack, tmp_path / "cut")
    assert results(cell, tmp_path / "cut", SEEDS) == results(cell, tmp_path / "whole", SEEDS)
    trainer, cleared = Trainer(cell, SEEDS), 0
    while trainer.step < cell.steps:
        ended = [(row, e) for row, e, *_ in trainer.advance()]
        if trainer.carry is not None:
            zero = trainer.carry.eq(0).all(-1)
            assert zero.sum() == len(ended) and all(zero[where] for where in ended)
            cleared += len(ended)
    assert cleared


@pytest.mark.parametrize(("system", "task"), others_slow(systems_and_tasks(KINDS), kind_of))
def test_killed_in_every_phase(system: str, task: str, tmp_path: Path) -> None:
    """One kill in each phase, at a random call, each attempt in another packing."""
    cell, draw = small_cell(system, task), random.Random(f"{(system, task)}")
    train(cell, SEEDS, tmp_path / "whole")
    expected = results(cell, tmp_path / "whole", SEEDS)
    kills = 0
    phases = COMPILED if system in ("ppo", "mappo", "ippo") else PHASES
    for phase, (owner, name, calls) in sorted(phases.items(), key=lambda item: draw.random()):
        nth, before, packing = draw.randint(1, calls), draw.random() < 0.5, draw.choice(PACKINGS)

        def attempt(owner=owner, name=name, nth=nth, before=before, packing=packing) -> None:
            die_at(owner, name, nth, before)
            for pack in packing:
                train(cell, pack, tmp_path / "killed", checkpoint_seconds=0.02)

        status = in_child(attempt)
        assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, (
            f"{phase}: failed instead of being killed"
        )
        kills += os.WIFSIGNALED(status)
    for pack in draw.choice(PACKINGS):
        assert train(cell, pack, tmp_path / "killed")
    assert results(cell, tmp_path / "killed", SEEDS) == expected
    assert kills >= 3, "too few of the attempts were killed before they were done"
    leftovers = [
        path.name for path in cell.folder(tmp_path / "killed").glob("seed-*/*") if path.name.startswith(".")
    ]
    assert not leftovers


@pytest.mark.parametrize("phase", PHASES)
def test_kill_in_each_phase_alone(phase: str, tmp_path: Path) -> None:
    """The first call, a later one: the run is really killed there, and goes on exactly."""
    cell = small_cell("ppo", "CartPole-v1")
    train(cell, SEEDS, tmp_path / "whole")
    expected = results(cell, tmp_path / "whole", SEEDS)
    owner, name, calls = COMPILED[phase]
    for nth in (1, calls // 2):
        out = tmp_path / f"{phase}-{nth}"

        def attempt(nth=nth, out=out) -> None:
            die_at(owner, name, nth, before=True)
            train(cell, SEEDS, out, checkpoint_seconds=0.0)

        assert os.WIFSIGNALED(in_child(attempt)), f"{phase} has fewer than {nth} calls"
        train(cell, SEEDS, out)
        assert results(cell, out, SEEDS) == expected


def test_asked_to_stop(tmp_path: Path) -> None:
    """SIGTERM: a checkpoint at the next step, exit code 128 + 15, and the same bytes after going on."""
    cell = small_cell("dqn", "CartPole-v1", steps=6000)
    job = Job(cell, tuple(SEEDS), tmp_path / "stopped")
    process = subprocess.Popen([sys.executable, "-m", "ascent.runners.pack"], stdin=subprocess.PIPE)
    process.stdin.write(job.to_json().encode())
    process.stdin.close()
    progress = cell.folder(job.out) / "seed-3" / "progress.json"
    while not progress.exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    run = run_of(cell, 0, job.out, capacity=70)
    (step,) = run.checkpoints.steps()
    attempt = json.loads((run.folder / "run.json").read_text())["attempts"][-1]
    assert attempt["to_step"] == step > 0
    train(cell, SEEDS, job.out)
    train(cell, SEEDS, tmp_path / "whole")
    assert results(cell, job.out, SEEDS) == results(cell, tmp_path / "whole", SEEDS)


def command(out: Path) -> list[str]:
    words = ["train", "dqn", "CartPole-v1", "--steps", "5000", "--evaluations", "4", "--episodes", "2"]
    packing = ["--seeds", "0-3", "--pack", "2", "--jobs", "2", "--set", "learning_starts=100"]
    start = [sys.executable, "-P", "-c", "from ascent.cli import main; main()"]
    return [*start, *words, *packing, "--checkpoint-seconds", "0.1", "--runs", str(out)]


def workers(out: Path) -> list[int]:
    """The training processes of a folder, which name it in no argument: those that hold its files open."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            held = [os.readlink(link) for link in (process / "fd").iterdir()]
        except OSError:
            continue
        if b"ascent.runners.pack" in words and any(name.startswith(str(out)) for name in held):
            found.append(int(process.name))
    return found


def ended_early(out: Path, number: int, after: float) -> None:
    """Run the command, and send its own process a signal once training has begun."""
    process = subprocess.Popen(
        command(out),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        preexec_fn=partial(signal.signal, signal.SIGHUP, signal.SIG_DFL),  # these tests may be under nohup
    )
    while process.poll() is None and not workers(out):
        time.sleep(0.05)
    time.sleep(after)
    process.send_signal(number)
    process.wait(30)


def ended_parents(out: Path, number: int, times: int) -> None:
    """Whoever ends the parent alone: nobody is left behind, and the same command right after goes on."""
    draw = random.Random(number)
    subprocess.run(command(out / "whole"), check=True, capture_output=True)
    for k in range(times):
        ended_early(out / "ended", number, draw.uniform(0.0, 1.5) if k else 0.0)
        if k % 3 == 0:  # else the next command comes at once
            deadline = time.monotonic() + 15
            while workers(out / "ended"):
                assert time.monotonic() < deadline, "a worker outlives its parent"
                time.sleep(0.1)
        if k == 0:
            done = list((out / "ended").glob("*/*/*/seed-*/result.json"))
            assert not done, "a worker has trained to the end without its parent"
    subprocess.run(command(out / "ended"), check=True, capture_output=True)
    both = ({p.name: p for p in (out / name).glob("*/*/*/seed-*")} for name in ("whole", "ended"))
    expected, found = ({name: (p / "result.json").read_bytes() for name, p in runs.items()} for runs in both)
    assert len(expected) == 4 and found == expected


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_end_of_the_parent(number: int, tmp_path: Path) -> None:
    ended_parents(tmp_path, number, times=1)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_the_end_of_the_parent_many_times(number: int, tmp_path: Path) -> None:
    ended_parents(tmp_path, number, times=30)


@pytest.mark.slow
@pytest.mark.parametrize("pair", systems_and_tasks(KINDS), ids="-".join)
def test_killed_at_random_moments(pair: tuple[str, str], tmp_path: Path) -> None:
    """Processes of the real command killed by the clock, 16 for each system and task: over 100 in all."""
    cell, draw, kills = small_cell(*pair, steps=4000), random.Random(f"random {pair}"), 0
    train(cell, SEEDS, tmp_path / "whole")
    out, start = tmp_path / "killed", time.monotonic()
    while kills < 16:
        assert time.monotonic() - start < 600
        if all(run_of(cell, seed, out).is_finished() for seed in SEEDS):
            assert results(cell, out, SEEDS) == results(cell, tmp_path / "whole", SEEDS)
            out = tmp_path / f"killed-{kills}"
        pack = tuple(draw.choice(draw.choice(PACKINGS)))
        process = subprocess.Popen([sys.executable, "-m", "ascent.runners.pack"], stdin=subprocess.PIPE)
        process.stdin.write(Job(cell, pack, out, checkpoint_seconds=0.05).to_json().encode())
        process.stdin.close()
        try:
            process.wait(draw.uniform(1.0, 6.0))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    train(cell, SEEDS, out)
    assert results(cell, out, SEEDS) == results(cell, tmp_path / "whole", SEEDS)

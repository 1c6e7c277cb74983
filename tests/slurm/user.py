"""Somebody who submits sweeps to a throw-away cluster."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

from ascent.records import files
from ascent.records.cell import Cell
from ascent.records.plan import Planned
from ascent.runners.sweep import load
from ascent.runners.train import train
from ascent.slurm import submission
from tests.slurm.cluster import Cluster
from tests.small import results

SITE = """
partition = "main"
time = "00:10:00"
warn_seconds = 5
checkpoint_seconds = 0.3
tell_seconds = 1.0
report_mem = "500M"
"""
A_MINUTE = SITE.replace("00:10:00", "00:01:00").replace("warn_seconds = 5", "warn_seconds = 20")
THIRTY = """
title = "Thirty runs"
seeds = "0-9"
evaluations = 2
episodes = 1

[[cells]]
algorithms = ["a2c"]
tasks = ["CartPole-v1"]
steps = 600
set = { envs = 2, steps = 64 }

[[cells]]
algorithms = ["ppo"]
tasks = ["CartPole-v1"]
steps = 600
set = { envs = 2, steps = 64, minibatch = 32 }

[[cells]]
algorithms = ["dqn"]
tasks = ["CartPole-v1"]
steps = 600
set = { learning_starts = 100 }
"""
# Some seconds of a core, most of which an event may fall into.
LONG = """
seeds = "0-1"
evaluations = 4
episodes = 2

[[cells]]
algorithms = ["a2c"]
tasks = ["CartPole-v1"]
steps = 40_000
set = { envs = 1, steps = 16 }
"""
# For what SLURM takes its time with, while training goes on: a requeue, saving its queue.
LONGER = LONG.replace("40_000", "120_000")
numbers = count()


class User:
    """Somebody with a sweep, a site's file and a folder for runs."""

    local: Path  # where runs that nobody disturbs are trained, once for all tests

    def __init__(self, cluster: Cluster, folder: Path, sweep: str, site: str = SITE):
        self.cluster, self.folder, self.out = cluster, folder, folder / "runs"
        self.sweep, self.site = folder / f"sweep{next(numbers)}.toml", folder / "slurm.toml"
        self.sweep.write_text(sweep)
        self.site.write_text(site)
        self.settings: dict[str, str] = {}  # more of the environment of the commands

    def ascent(self, command: str, *words: str, expect: int | None = 0) -> str:
        """What a command prints; `expect` is its exit code."""
        done = self.run(command, *words)
        assert expect is None or done.returncode == expect, (done.stdout, done.stderr)
        return done.stdout + done.stderr

    def run(self, command: str, *words: str) -> subprocess.CompletedProcess:
        environment = self.cluster.environment() | self.settings
        line = [sys.executable, "-m", "ascent", command, str(self.sweep), "--runs", str(self.out), *words]
        return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=self.folder)

    def submit(self, *words: str) -> str:
        page = self.folder / "page"
        return self.ascent("submit", "--site", str(self.site), "--out", str(page), *words)

    def planned(self) -> tuple[Planned, ...]:
        return load(str(self.sweep)).planned

    def cell(self) -> Cell:
        return self.planned()[0].cell

    def sent_first(self) -> submission.Submission:
        """The submission with the first job number."""
        return min(self.sent(), key=lambda sent: int(sent.job))

    def sent(self) -> list[submission.Submission]:
        return [submission.read(path) for path in submission.names(self.out).values()]

    def record(self, seed: int) -> dict:
        return files.read_json(self.cell().folder(self.out) / f"seed-{seed}" / "run.json")

    def wait_done(self, seconds: float = 150) -> None:
        """Until all runs are finished and the report's job has left the queue."""
        runs = [(plan.cell, seed) for plan in self.planned() for seed in plan.seeds]

        def finished() -> bool:
            return all(cell.is_finished(seed, self.out) for cell, seed in runs)

        wait(finished, seconds, lambda: self.ascent("status", expect=None))
        wait(lambda: not self.queue(), 120, self.cluster.describe)
        assert self.run("status").returncode == 0

    def queue(self) -> list[str]:
        return self.cluster.run("squeue", "-h", "-r", "-o", "%F_%K %T %N").stdout.split("\n")[:-1]

    def running(self) -> list[str]:
        return [line for line in self.queue() if "RUNNING" in line or "COMPLETING" in line]

    def started(self, seed: int) -> int:
        """Attempts at a run so far."""
        path = self.cell().folder(self.out) / f"seed-{seed}" / "run.json"
        return len(files.read_json(path)["attempts"]) if path.exists() else 0

    def processes(self) -> list[int]:
        """Those that train for the first submission. Another cluster may have a job of the same number."""
        mine = {f"SLURM_CONF={self.cluster.conf}", f"SLURM_ARRAY_JOB_ID={self.sent_first().job}"}
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                line, environment = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
            except OSError:
                continue
            if b"ascent.runners.pack" in line and mine <= set(
                environment.decode(errors="replace").split("\0")
            ):
                found.append(int(folder.name))
        return found

    def wait_step(self, seed: int, beyond: int = 0) -> int:
        """Until a run has a checkpoint beyond a step; that checkpoint's step."""
        folder = self.cell().folder(self.out) / f"seed-{seed}"

        def steps() -> list[int]:
            found = [int(path.stem.split("-")[1]) for path in folder.glob("checkpoint-*.bin")]
            return [step for step in found if step > beyond]

        wait(lambda: bool(steps()), 90, lambda: self.ascent("status", expect=None))
        return max(steps(), default=beyond)

    def check_bytes(self) -> None:
        """Against the same sweep, run here in one go."""
        for plan in self.planned():
            train(plan.cell, plan.seeds, self.local)
            seeds = list(plan.seeds)
            assert results(plan.cell, self.out, seeds) == results(plan.cell, self.local, seeds)


def wait(condition: Callable[[], object], seconds: float, tell: Callable[[], str] = lambda: "") -> None:
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, f"not within {seconds} s: {tell()}"
        time.sleep(0.3)


def reach_the_time_limit(user: User, restart: str | None = "1") -> None:
    """Let the minute of the only task pass; it is warned, and goes on from where it was.

    `restart` is what SLURM counts: None if another job goes on.
    """
    (process,) = user.processes()
    os.kill(process, signal.SIGSTOP)  # the minute passes without using up a core
    wait(lambda: "SIGTERM" in pending(process), 60)
    os.kill(process, signal.SIGCONT)
    user.wait_done()
    first, second, *_ = user.record(0)["attempts"]
    assert first["to_step"] == second["from_step"] > 0 and second.get("SLURM_RESTART_COUNT") == restart


def pending(process: int) -> list[str]:
    """The signals that a stopped process has been sent."""
    status = Path(f"/proc/{process}/status").read_text()
    mask = int(re.search(r"ShdPnd:\s*(\w+)", status)[1], 16)
    return [number.name for number in signal.Signals if mask >> number - 1 & 1]

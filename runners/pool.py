"""The local pool: what is missing of some cells, trained by one process per core, seeds packed."""

import os
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from runners.cell import Cell
from runners.errors import InputError
from runners.pack import Job
from runners.records import Run, seal


@dataclass(frozen=True)
class Planned:
    """A cell and the seeds that are wanted of it."""

    cell: Cell
    seeds: tuple[int, ...]


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "0-9" or "0,2,5-7". Raises InputError for what is no such list, and for duplicates."""
    seeds: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(
                f"seeds: {piece.strip()!r} is no seed (a whole number from 0 up) and no range like 0-9"
            )
        low, high = int(first), int(last or first)
        if high < low:
            raise InputError(f"seeds: the range {piece.strip()!r} is empty")
        if high - low >= 100_000:
            raise InputError(f"seeds: the range {piece.strip()!r} has more than 100,000 seeds")
        seeds += range(low, high + 1)
    check_seeds(seeds)
    return tuple(seeds)


def check_seeds(seeds: Sequence[object]) -> None:
    """Raises InputError unless these are different whole numbers from 0 to 2**32 - 1, and at least one."""
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise InputError(f"seeds: {seed!r} must be a whole number from 0 to {2**32 - 1}")
    duplicates = [seed for seed, times in Counter(seeds).items() if times > 1]
    if duplicates:
        raise InputError(f"seeds: {duplicates[0]} is there twice")
    if not seeds:
        raise InputError("seeds: there are none")


def jobs_of(
    planned: Sequence[Planned], out: Path, pack: int, device: str = "cpu", checkpoint_seconds: float = 60.0
) -> list[Job]:
    """The missing runs as jobs of at most `pack` seeds."""
    if pack < 1:
        raise InputError(f"pack: {pack} must be at least 1")
    jobs = []
    for plan in planned:
        missing = [seed for seed in plan.seeds if not Run(plan.cell, seed, out).is_finished()]
        for start in range(0, len(missing), pack):
            seeds = tuple(missing[start : start + pack])
            jobs.append(Job(plan.cell, seeds, out, device, checkpoint_seconds))
    return jobs


@dataclass
class _Worker:
    job: Job
    process: subprocess.Popen
    log: Path
    file: IO[bytes] = field(repr=False)


def log_path(job: Job) -> Path:
    """Where the output of a job's process goes."""
    first, last = job.seeds[0], job.seeds[-1]
    return job.cell.folder(job.out) / "logs" / f"seeds-{first}-{last}.log"


def start(job: Job) -> _Worker:
    """Start a job's process."""
    log = log_path(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("ab")
    root = Path(__file__).resolve().parent.parent
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    }
    command = [sys.executable, "-m", "runners.pack"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment)
    process.stdin.write(job.to_json().encode())
    process.stdin.close()
    return _Worker(job, process, log, file)


def run_pool(jobs: Sequence[Job], workers: int, tell: Callable[[], None]) -> list[str]:
    """Run the jobs, at most `workers` at a time. `tell` is called twice a second.

    A job that fails takes no other down. Returns a line for each that failed. KeyboardInterrupt reaches the
    processes too (they are in the terminal's group, or are told): they write checkpoints, and it is raised
    again here.
    """
    waiting, running, failures = deque(jobs), [], []
    threads = max(1, len(os.sched_getaffinity(0)) // min(workers, len(jobs)))  # cores to spare
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(start(replace(waiting.popleft(), threads=threads)))
            time.sleep(0.1)
            for worker in [w for w in running if w.process.poll() is not None]:
                running.remove(worker)
                worker.file.close()
                if worker.process.returncode:
                    failures.append(_failure(worker))
                else:
                    seal(worker.job.cell.folder(worker.job.out))
            tell()
    except BaseException:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.wait()
        raise
    return failures


def _failure(worker: _Worker) -> str:
    lines = [line for line in worker.log.read_text(errors="replace").splitlines() if line.strip()]
    last = lines[-1] if lines else "it said nothing"
    if last.startswith("error: "):
        return last.removeprefix("error: ")
    code = worker.process.returncode
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{worker.job.cell.label()} seeds {worker.job.seeds}: {how}: {last} (see {worker.log})"

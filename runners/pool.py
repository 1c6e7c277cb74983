"""The local pool: train jobs in one process per core."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import IO

from ascent.records import files, layout
from ascent.records.plan import Job, seed_ranges

_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class Failure:
    """A job that failed: the reason in one line, and the log of its process."""

    job: Job
    reason: str
    log: Path


@dataclass
class _Worker:
    job: Job
    slot: int  # 0 .. workers - 1, unique among the running workers
    process: subprocess.Popen[bytes]
    log: Path
    file: IO[bytes] = field(repr=False)


def log_path(job: Job) -> Path:
    """Return the path of the log of a job's process."""
    return job.cell.folder(job.out) / layout.LOGS / f"seeds-{job.seeds[0]}-{job.seeds[-1]}.log"


def start(job: Job, slot: int, python: str, launcher: Sequence[str] = ()) -> _Worker:
    """Start a job's process. If there are several GPUs, it sees the one of its slot."""
    log = log_path(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("ab")
    environment = dict(os.environ)
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if job.device == "cuda" and len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    process = subprocess.Popen(
        [*launcher, python, "-P", "-m", "ascent.runners.pack"],  # -P: import nothing from the working folder
        stdin=subprocess.PIPE,
        stdout=file,
        stderr=file,
        env=environment,
        preexec_fn=partial(_end_with, os.getpid()),
    )
    assert process.stdin is not None
    process.stdin.write(job.to_json().encode())
    process.stdin.close()
    return _Worker(job, slot, process, log, file)


def _end_with(parent: int) -> None:
    """Have this process, which a pool has just started, get SIGTERM when its parent ends: prctl(2)."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it has ended already
        os._exit(1)


def run_pool(
    jobs: Sequence[Job],
    workers: int,
    tick: Callable[[], None],
    cores: int = 0,
    stop: Callable[[], bool] = lambda: False,
    failed: Callable[[Failure], None] = lambda failure: None,
    python: str = sys.executable,
    launcher: Callable[[Job], Sequence[str]] = lambda job: (),
) -> list[Failure]:
    """Run the jobs and return those that failed.

    Other jobs continue when one fails. If `stop` returns True, or KeyboardInterrupt is raised (it is raised
    again here), the processes are asked to write checkpoints and waited for.

    Args:
        jobs: at least one.
        workers: the most processes at a time.
        tick: called ten times a second.
        cores: to use; 0: all of this process.
        stop: asked ten times a second.
        failed: called with each failure at once.
        python: interpreter whose code trains.
        launcher: words before the command of a job's process, such as srun with its options.
    """
    waiting = deque(jobs)
    running: list[_Worker] = []
    failures: list[Failure] = []
    stopped = False
    cores = cores or len(os.sched_getaffinity(0))
    threads = max(1, cores // min(workers, len(jobs)))  # spare cores step environments
    try:
        while waiting or running:
            if not stopped and stop():
                stopped = True
                waiting.clear()
                for worker in running:
                    worker.process.terminate()
            while waiting and len(running) < workers:
                slot = min(set(range(workers)) - {worker.slot for worker in running})
                job = replace(waiting.popleft(), threads=threads)
                running.append(start(job, slot, python, launcher(job)))
            time.sleep(0.1)
            for worker in [worker for worker in running if worker.process.poll() is not None]:
                running.remove(worker)
                worker.file.close()
                if worker.process.returncode and not (stopped or stop()):
                    failures.append(Failure(worker.job, _reason(worker), worker.log))
                    failed(failures[-1])
            tick()
    except BaseException:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.wait()
        raise
    return failures


def _reason(worker: _Worker) -> str:
    lines = files.last_lines(worker.log)
    last = lines[-1] if lines else "no output"
    if last.startswith("error: "):
        return last.removeprefix("error: ")
    code = worker.process.returncode
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return (
        f"{worker.job.cell.label()} seeds {seed_ranges(worker.job.seeds)}: {how}: {last} (see {worker.log})"
    )

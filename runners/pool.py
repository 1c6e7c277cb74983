"""The local pool: jobs trained by one process per core."""

import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

from runners.plan import Job
from runners.records import seal


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

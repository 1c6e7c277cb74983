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

from ascent.records import files
from ascent.records.plan import Job
from ascent.records.seal import seal


@dataclass(frozen=True)
class Failure:
    """A job that did not end well: why, in one line, and the file that its process wrote to."""

    job: Job
    reason: str
    log: Path


@dataclass
class _Worker:
    job: Job
    slot: int  # 0 .. workers - 1, no two at once
    process: subprocess.Popen
    log: Path
    file: IO[bytes] = field(repr=False)


def log_path(job: Job) -> Path:
    """Where the output of a job's process goes."""
    first, last = job.seeds[0], job.seeds[-1]
    return job.cell.folder(job.out) / "logs" / f"seeds-{first}-{last}.log"


def start(job: Job, slot: int) -> _Worker:
    """Start a job's process. Of several GPUs it sees one, by its slot."""
    log = log_path(job)
    log.parent.mkdir(parents=True, exist_ok=True)
    file = log.open("ab")
    environment = dict(os.environ)
    gpus = [gpu for gpu in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if gpu]
    if job.device == "cuda" and len(gpus) > 1:
        environment["CUDA_VISIBLE_DEVICES"] = gpus[slot % len(gpus)]
    command = [sys.executable, "-P", "-m", "ascent.runners.pack"]  # -P: not from the working folder
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=file, stderr=file, env=environment)
    process.stdin.write(job.to_json().encode())
    process.stdin.close()
    return _Worker(job, slot, process, log, file)


def run_pool(
    jobs: Sequence[Job],
    workers: int,
    tell: Callable[[], None],
    cores: int = 0,
    stop: Callable[[], bool] = lambda: False,
    failed: Callable[[Failure], None] = lambda failure: None,
) -> list[Failure]:
    """Run the jobs, at most `workers` at a time, on `cores` cores (0: all there are). `tell` is called ten
    times a second.

    A job that fails takes no other down: `failed` is called at once. Returns those that failed. When `stop`
    says so, or KeyboardInterrupt is raised, which is raised again here, the processes are told to write
    checkpoints and waited for.
    """
    waiting, running, failures, stopped = deque(jobs), [], [], False
    cores = cores or len(os.sched_getaffinity(0))
    threads = max(1, cores // min(workers, len(jobs)))  # cores to spare step environments
    try:
        while waiting or running:
            if not stopped and stop():
                stopped = True
                waiting.clear()
                for worker in running:
                    worker.process.terminate()
            while waiting and len(running) < workers:
                slot = min(set(range(workers)) - {worker.slot for worker in running})
                running.append(start(replace(waiting.popleft(), threads=threads), slot))
            time.sleep(0.1)
            for worker in [w for w in running if w.process.poll() is not None]:
                running.remove(worker)
                worker.file.close()
                if not worker.process.returncode:
                    seal(worker.job.cell.folder(worker.job.out))
                elif not (stopped or stop()):
                    failures.append(Failure(worker.job, _reason(worker), worker.log))
                    failed(failures[-1])
            tell()
    except BaseException:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            worker.process.wait()
        raise
    return failures


def _reason(worker: _Worker) -> str:
    lines = files.last_lines(worker.log)
    last = lines[-1] if lines else "it said nothing"
    if last.startswith("error: "):
        return last.removeprefix("error: ")
    code = worker.process.returncode
    how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
    return f"{worker.job.cell.label()} seeds {worker.job.seeds}: {how}: {last} (see {worker.log})"

"""Train the packs of one array task, several at a time if it has several cores or GPUs.

    python -m ascent.slurm.task SUBMISSION.json INDEX

On SIGUSR1, SLURM's warning before the time limit, the task has checkpoints written and requests a requeue.
On SIGTERM (cancelled, or preempted and requeued by SLURM) it has checkpoints written and ends. A pack that
fails does not affect the others; its reason is recorded for `ascent status`. A pack also fails if it has
started three times in this job without getting further.
"""

import os
import shutil
import signal
import sys
import time
from pathlib import Path

from ascent.records import files, layout
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ledger import digest
from ascent.records.plan import Job
from ascent.runners.pool import Failure, log_path, run_pool
from ascent.slurm import cluster, scripts, submission
from ascent.slurm.submission import Submission

MAX_STARTS = 3  # starts of a run from the same step in one job


def main(words: list[str]) -> int:
    """Train an array task; exit code 0 if its runs are finished or it will be requeued, 75 if it must be."""
    sent, index = submission.read(Path(words[0])), int(words[1])
    received: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    attempt = f"job {os.environ.get('SLURM_JOB_ID')}, restart {os.environ.get('SLURM_RESTART_COUNT', 0)}"
    log(f"{attempt}, on {os.environ.get('SLURMD_NODENAME')}: task {index} of {sent.name}")
    jobs = jobs_of(sent, index)
    failures: list[Failure] = []

    def fail(failure: Failure) -> None:
        failures.append(failure)
        record(sent, index, failures)
        log(f"error: {failure.reason}")

    record(sent, index, [])
    for job in jobs:
        if reason := stalled(job):
            fail(Failure(job, reason, log_path(job)))
    if jobs := without(jobs, failures):
        run_pool(jobs, sent.workers, lambda: None, sent.cores, lambda: bool(received), fail)
    left = without(jobs_of(sent, index), failures)
    if left and received and signal.SIGTERM not in received:
        log("the time limit is near: checkpoints are written, requesting a requeue")
        record(sent, index, [])  # the next attempt tries again what failed in this one
        if shutil.which("scontrol") is None:
            return scripts.REQUEUE  # who started this task requests it
        _requeue(received)
        return 0
    if left:
        log(f"stopped by signal {received[0]}: checkpoints are written")
        return 128 + received[0]
    return 1 if failures else 0


def _requeue(received: list[int]) -> None:
    """Ask SLURM to requeue this array task; return at SIGTERM, by which SLURM ends it."""
    # Not SLURM_JOB_ID: for the last task of an array that is the array's own number, which means all tasks.
    task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    accepted = False
    while signal.SIGTERM not in received:
        try:
            if not accepted:
                cluster.client("scontrol", "requeue", task)
                accepted = True
            time.sleep(0.2)
        except InputError as error:  # the controller may be restarting
            log(f"error: {error}")
            time.sleep(5)


def without(jobs: list[Job], failures: list[Failure]) -> list[Job]:
    """Return the jobs that have not failed."""
    failed = {(failure.job.cell.digest, seed) for failure in failures for seed in failure.job.seeds}
    return [job for job in jobs if not failed & {(job.cell.digest, seed) for seed in job.seeds}]


def log(line: str) -> None:
    """Print a line to the task's log."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)


def jobs_of(sent: Submission, index: int) -> list[Job]:
    """Return the missing runs of an array task, one job per pack."""
    manifest, out = sent.planned(), Path(sent.out)
    declared = digest(manifest.plan)
    jobs = []
    for number, seeds in sent.tasks[index]:
        cell = manifest.planned[number].cell
        missing = tuple(seed for seed in seeds if not cell.is_finished(seed, out))
        if missing:
            settings = (sent.device, sent.checkpoint_seconds)
            jobs.append(Job(cell, missing, out, *settings, tell_seconds=sent.tell_seconds, plan=declared))
    return jobs


def stalled(job: Job) -> str | None:
    """Return why a pack must not start again: one of its runs keeps starting in this job at the same step."""
    this_task = submission.task_of(os.environ)
    for seed in job.seeds:
        folder = job.cell.run_folder(seed, job.out)
        try:
            attempts = files.read_json(folder / layout.RUN)["attempts"]
        except (OSError, DamagedFile, LookupError):
            continue
        last = [attempt for attempt in attempts[-MAX_STARTS:] if submission.task_of(attempt) == this_task]
        starts = {attempt["from_step"] for attempt in last}
        if len(last) < MAX_STARTS or len(starts) != 1:
            continue
        step = starts.pop()
        reached = [checkpoint for (checkpoint,) in layout.numbers(folder, "checkpoint", 1)]
        if max(reached, default=0) <= step:
            return (
                f"{job.cell.label()} seed {seed}: no progress beyond step {step:,} in {MAX_STARTS} attempts"
            )
    return None


def record(sent: Submission, index: int, failures: list[Failure]) -> None:
    """Write what failed in this attempt, for `ascent status`."""
    path = sent.failure(index)
    if not failures:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    content = [
        {
            "cell": failure.job.cell.digest,
            "seeds": failure.job.seeds,
            "reason": failure.reason,
            "log": str(failure.log),
            "last_lines": files.last_lines(failure.log),
        }
        for failure in failures
    ]
    files.write_json(path, {"failures": content})


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (InputError, OSError) as error:
        log(f"error: {error}")
        sys.exit(2)

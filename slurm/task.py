"""One array task: trains its packs of seeds, several at a time where it has the cores or GPUs.

    python -m ascent.slurm.task SUBMISSION.json INDEX

On SLURM's warning (SIGUSR1) it has checkpoints written and asks to be requeued; on SIGTERM (cancelled, or
preempted and requeued by SLURM itself) it has them written and ends. A pack that fails takes no other down;
the reason goes into a file for `ascent status`. One that began three times in this job and got no further has
failed, too.
"""

import os
import signal
import sys
import time
from pathlib import Path

from ascent.records import files
from ascent.records.errors import DamagedFile, InputError
from ascent.records.plan import Job
from ascent.runners.pool import Failure, log_path, run_pool
from ascent.slurm import cluster, submission

TRIES = 3  # starts of a run from the same step in one job


def main(words: list[str]) -> int:
    """Train; the exit code is 0 when all runs of the task are finished, or the task will be requeued."""
    index = int(words[1])
    sent = submission.read(Path(words[0]))
    received: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    attempt = f"job {os.environ.get('SLURM_JOB_ID')}, restart {os.environ.get('SLURM_RESTART_COUNT', 0)}"
    say(f"{attempt}, on {os.environ.get('SLURMD_NODENAME')}: task {index} of {sent.name}")
    jobs = jobs_of(sent, index)
    failures: list[Failure] = []

    def tell(failure: Failure) -> None:
        failures.append(failure)
        record(sent, index, failures)
        say(f"error: {failure.reason}")

    record(sent, index, [])
    for job in jobs:
        if why := stalled(job):
            tell(Failure(job, why, log_path(job)))
    if jobs := without(jobs, failures):
        run_pool(jobs, sent.workers, lambda: None, sent.cores, lambda: bool(received), tell)
    left = without(jobs_of(sent, index), failures)
    if left and signal.SIGTERM not in received and received:
        say("the time is nearly up: checkpoints are written, asking to be requeued")
        record(sent, index, [])  # what has failed is tried again, too
        # Not SLURM_JOB_ID: the last task of an array has the array's own number, which means all its tasks.
        task = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{os.environ['SLURM_ARRAY_TASK_ID']}"
        asked = False
        while signal.SIGTERM not in received:  # by which SLURM ends this attempt, or somebody cancels it
            try:
                if not asked:
                    cluster.client("scontrol", "requeue", task)
                    asked = True
                time.sleep(0.2)
            except InputError as error:  # a controller that is just restarting, say
                say(f"error: {error}")
                time.sleep(5)
        return 0
    if left:
        say(f"stopped by signal {received[0]}: checkpoints are written")
        return 128 + received[0]
    return 1 if failures else 0


def without(jobs: list[Job], failures: list[Failure]) -> list[Job]:
    """The jobs that have not failed."""
    failed = {(failure.job.cell.digest, seed) for failure in failures for seed in failure.job.seeds}
    return [job for job in jobs if not failed & {(job.cell.digest, seed) for seed in job.seeds}]


def say(line: str) -> None:
    """A line for the task's log."""
    print(time.strftime("%Y-%m-%d %H:%M:%S"), line, flush=True)


def jobs_of(sent: submission.Submission, index: int) -> list[Job]:
    """What is missing of a task's packs."""
    planned, out = sent.planned().planned, Path(sent.out)
    jobs = []
    for cell, seeds in sent.tasks[index]:
        missing = tuple(seed for seed in seeds if not planned[cell].cell.is_finished(seed, out))
        if missing:
            settings = (sent.device, sent.checkpoint_seconds)
            jobs.append(Job(planned[cell].cell, missing, out, *settings, tell_seconds=sent.tell_seconds))
    return jobs


def stalled(job: Job) -> str | None:
    """Why a pack is not tried again, if one of its runs began several times in this job at the same step."""
    me = submission.task_of(os.environ)
    for seed in job.seeds:
        folder = job.cell.folder(job.out) / f"seed-{seed}"
        try:
            attempts = files.read_json(folder / "run.json")["attempts"]
        except (OSError, DamagedFile, LookupError):
            continue
        mine = [attempt for attempt in attempts[-TRIES:] if submission.task_of(attempt) == me]
        starts = {attempt["from_step"] for attempt in mine}
        reached = [int(path.stem.rpartition("-")[2]) for path in folder.glob("checkpoint-*.bin")]
        if len(mine) == TRIES and len(starts) == 1 and max(reached, default=0) <= (step := starts.pop()):
            return f"{job.cell.label()} seed {seed}: {TRIES} attempts got no further than step {step:,}"
    return None


def record(sent: submission.Submission, index: int, failures: list[Failure]) -> None:
    """Tell `ascent status` what failed in this attempt."""
    path = sent.failure(index)
    if not failures:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(exist_ok=True)
    told = [
        {
            "cell": failure.job.cell.digest,
            "seeds": failure.job.seeds,
            "reason": failure.reason,
            "log": str(failure.log),
            "last_lines": files.last_lines(failure.log),
        }
        for failure in failures
    ]
    files.write_json(path, {"failures": told})


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except (InputError, OSError) as error:
        say(f"error: {error}")
        sys.exit(2)

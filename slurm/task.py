"""Train the packs of one array task, several at a time if it has several cores or GPUs.

    python -m ascent.slurm.task SUBMISSION.json INDEX

On SIGUSR1, SLURM's warning before the time limit, the task has checkpoints written and requests a requeue.
On SIGTERM (cancelled, or preempted and requeued by SLURM) it has checkpoints written and ends. A pack that
fails does not affect the others; its reason is recorded for `ascent status`. A pack also fails if it has
started three times in this job without getting further, or if three time limits came without progress.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from ascent.records import files, layout
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ledger import digest
from ascent.records.plan import Job
from ascent.runners.pool import Failure, log_path, run_pool
from ascent.slurm import cluster, nodes, scripts, submission
from ascent.slurm.submission import Submission

MAX_STARTS = 3  # starts of a run from the same step in one job, and time limits without progress
LOOK_SECONDS = 2.0  # between looks for the first progress
FAULT_SECONDS = 60.0  # the longest that a task waits after a failure that may be its node's


def main(words: list[str]) -> int:
    """Train an array task; exit code 0 if its runs are finished or it will be requeued, 75 if it must be."""
    sent, index = submission.read(Path(words[0])), int(words[1])
    received: list[int] = []
    for number in (signal.SIGUSR1, signal.SIGTERM):
        signal.signal(number, lambda number, frame: received.append(number))
    restart = int(os.environ.get("SLURM_RESTART_COUNT", 0))
    attempt = f"job {os.environ.get('SLURM_JOB_ID')}, restart {restart}"
    log(f"{attempt}, on {os.environ.get('SLURMD_NODENAME')}: task {index} of {sent.name}")
    jobs = jobs_of(sent, index)
    failures: list[Failure] = []
    journal = Journal(sent, index, restart, jobs)

    def fail(failure: Failure) -> None:
        failures.append(failure)
        record(sent, index, failures)
        log(f"error: {failure.reason}")

    record(sent, index, [])
    journal.note("started")
    out_of_time = journal.stalled()
    for job in jobs:
        if reason := stalled(job) or out_of_time:
            fail(Failure(job, reason, log_path(job)))
    if jobs := without(jobs, failures):
        launcher = partial(step, sent) if sent.steps else lambda job: ()
        run_pool(
            jobs, sent.workers, journal.look, sent.cores, lambda: bool(received), fail, launcher=launcher
        )
    journal.look(now=True)
    left = without(jobs_of(sent, index), failures)
    if left and received and signal.SIGTERM not in received:
        record(sent, index, [])  # the next attempt tries again what failed in this one
        journal.note("requeued")
        if sent.goes_on:
            log("the time limit is near: checkpoints are written, the next job of the chain goes on")
            return 0
        log("the time limit is near: checkpoints are written, requesting a requeue")
        if shutil.which("scontrol") is None:
            return scripts.REQUEUE  # who started this task requests it
        _requeue(received)
        return 0
    if left:
        journal.note("stopped")
        log(f"stopped by signal {received[0]}: checkpoints are written")
        return 128 + received[0]
    if failures:
        journal.note("failed", failures[-1].reason)
        if not journal.trained:
            _avoid(sent, journal, received)
        return 1
    journal.note("ended")
    return 0


class Journal:
    """What this task notes of its node: see `nodes.py`."""

    def __init__(self, sent: Submission, index: int, restart: int, jobs: list[Job]):
        self.folder = sent.folder
        self.task = f"{sent.name}-{index}"
        self.restart = restart
        self.jobs = jobs
        self.node = os.environ.get("SLURMD_NODENAME", "unknown")
        self.begun_at = reached(jobs)
        self.begun = time.time()
        self.trained = False
        self.last_look = time.monotonic()

    def note(self, what: str, reason: str = "") -> None:
        """Append an event to the journal of the node."""
        event = nodes.Event(self.node, self.task, self.restart, what, reason, reached(self.jobs))
        with suppress(OSError):  # a task can train without its journal
            nodes.note(self.folder, event)

    def look(self, now: bool = False) -> None:
        """Note the first progress, if there is some."""
        if self.trained or not (now or time.monotonic() - self.last_look >= LOOK_SECONDS):
            return
        self.last_look = time.monotonic()
        if any(trains(job, self.begun) for job in self.jobs):
            self.trained = True
            self.note("trained")

    def others_train(self) -> bool:
        """Return whether tasks have trained on another node."""
        return bool(nodes.working(nodes.read(self.folder)) - {self.node})

    def stalled(self) -> str | None:
        """Return why this task must not start again: its last time limits came without progress."""
        events = [event for events in nodes.read(self.folder).values() for event in events]
        limits = [event for event in events if event.task == self.task and event.what == "requeued"]
        last = sorted(limits, key=lambda event: event.restart)[-MAX_STARTS:]
        if len(last) < MAX_STARTS or any(event.step != self.begun_at for event in last):
            return None
        return (
            f"{MAX_STARTS} time limits came without progress beyond step {self.begun_at:,}: allow more time"
        )


def _avoid(sent: Submission, journal: Journal, received: list[int]) -> None:
    """Have the tasks of this sweep that still wait stay away from this node if it is faulty.

    A faulty node fails one task after another, in seconds. So a task that failed before it trained waits for
    a while until tasks train on another node, before which nothing can be said.
    """
    waiting = _waiting(sent)
    deadline = time.monotonic() + FAULT_SECONDS
    while waiting and not received and time.monotonic() < deadline and not journal.others_train():
        time.sleep(LOOK_SECONDS)
        waiting = _waiting(sent)
    journals = nodes.read(sent.folder)
    # Which tasks run is not asked here: without an end, a task is taken to run, and not to have been killed.
    faulty = nodes.faulty(journals, {event.task for events in journals.values() for event in events})
    if journal.node not in faulty or not waiting:
        return
    log(f"tasks failed in a row on {journal.node}: tasks that wait stay away from it")
    names = nodes.joined(sent.exclude, faulty)
    for job in waiting:
        with suppress(InputError):  # not for tasks of this job that run
            cluster.stay_away(job, names)


def _waiting(sent: Submission) -> set[str]:
    """Return the job arrays of this sweep that have tasks in the queue; none if SLURM does not say."""
    try:
        tasks = cluster.queue(submission.names(Path(sent.out), sent.folder.name))
    except InputError:
        return set()
    return {task.job.partition("_")[0] for task in tasks if task.waits}


def step(sent: Submission, job: Job) -> list[str]:
    """Return the words that make a pack a step of SLURM's, bound to its cores."""
    seeds = f"{job.seeds[0]}-{job.seeds[-1]}"
    share = ["--overlap"] if sent.device == "cuda" else ["--exact", "--mem=0"]  # memory is not divided
    name = f"--job-name={job.cell.system}-{job.cell.digest}-{seeds}"
    return ["srun", "--quiet", "--nodes=1", "--ntasks=1", f"--cpus-per-task={job.threads}", *share, name]


def trains(job: Job, since: float) -> bool:
    """Return whether a run of a pack has come further since this time."""
    for seed in job.seeds:
        try:
            progress = files.read_json(job.cell.run_folder(seed, job.out) / layout.PROGRESS)
        except (OSError, DamagedFile):
            if job.cell.is_finished(seed, job.out):
                return True
            continue
        if progress.get("time", 0.0) > since and progress.get("steps_per_second"):
            return True
    return False


def reached(jobs: list[Job]) -> int:
    """Return the environment steps in checkpoints and finished runs of some jobs."""
    total = 0
    for job in jobs:
        for seed in job.seeds:
            if job.cell.is_finished(seed, job.out):
                total += job.cell.steps
            else:
                checkpoints = layout.numbers(job.cell.run_folder(seed, job.out), "checkpoint", 1)
                total += max((number for (number,) in checkpoints), default=0)
    return total


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
        missing = tuple(cell.missing(seeds, out))
        if missing:
            job = Job(
                cell,
                missing,
                out,
                sent.device,
                sent.checkpoint_seconds,
                tell_seconds=sent.tell_seconds,
                plan=declared,
                keep_checkpoint=sent.keep_checkpoint,
            )
            jobs.append(job)
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

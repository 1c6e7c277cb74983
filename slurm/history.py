"""What became of runs that were submitted and are neither finished nor in the queue."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ascent.records import files, layout, progress
from ascent.records.store import Store
from ascent.slurm import cluster, manifest, submission
from ascent.slurm.manifest import Manifest
from ascent.slurm.submission import RunKey

NO_FAILURE = ("CANCELLED", "COMPLET", "PREEMPTED", "PENDING", "RUNNING", "REQUEUE")  # beginnings of states
MOST_KEPT = 20  # submissions of a sweep
ENDED = "ended.jsonl"
EXCEEDED = "Exceeded job memory limit"
OUT_OF_MEMORY = "OUT_OF_MEMORY"  # SLURM's word for a task that was killed for its memory


@dataclass(frozen=True)
class LastTask:
    """The last array task that was submitted for a run, and the run's label, cell folder and seed."""

    sent: submission.Submission
    index: int
    label: str
    cell: Path
    seed: int

    @property
    def job(self) -> str | None:
        """Return SLURM's job id, if it was recorded."""
        return f"{self.sent.job}_{self.index}" if self.sent.job else None

    def superseded(self) -> bool:
        """Return whether a process other than this array task is training the run."""
        if progress.run_progress(Store(self.cell), self.seed)[0] != "running":
            return False
        attempt = files.read_json(self.cell / layout.seed_folder(self.seed) / layout.RUN)["attempts"][-1]
        return submission.task_of(attempt) != (self.sent.job, str(self.index))


@dataclass(frozen=True)
class Failed:
    """Why a run failed, and in which task."""

    task: LastTask
    reason: str
    log: Path
    last_lines: list[str]
    out_of_memory: bool = False


def last_tasks(missing: Collection[RunKey], runs: Path) -> dict[RunKey, LastTask]:
    """Return the last array task that was submitted for each run, where there was one."""
    sent = [submission.read(path) for path in submission.names(runs).values()]
    tasks: dict[RunKey, LastTask] = {}
    for sub in sorted(sent, key=lambda sub: (sub.submitted, not sub.goes_on)):
        cells = [plan.cell for plan in sub.planned().planned]
        for index, packs in enumerate(sub.tasks):
            for number, seeds in packs:
                cell = cells[number]
                for seed in seeds:
                    if (run := (cell.digest, seed)) in missing:
                        tasks[run] = LastTask(sub, index, cell.label(), cell.folder(runs), seed)
    return tasks


def failed(missing: Collection[RunKey], runs: Path) -> dict[RunKey, Failed]:
    """Return why each run failed, of runs that are neither finished nor in the queue.

    Its last array task has recorded the reason, or SLURM knows how the task ended; a cancelled task is not a
    failure.
    """
    tasks = last_tasks(missing, runs) if missing else {}
    ended = cluster.ended(task.job for task in tasks.values() if task.job)
    recorded = cache(submission.read_failures)  # a task has many runs
    failures: dict[RunKey, Failed] = {}
    for run, task in tasks.items():
        outcome = ended.get(task.job or "", "")
        memory = _for_memory(outcome, task)
        for failure in recorded(task.sent.failure(task.index)):
            if failure["cell"] == run[0] and run[1] in failure["seeds"]:
                log, last_lines = Path(failure["log"]), failure["last_lines"]
                failures[run] = Failed(task, failure["reason"], log, last_lines, memory)
        if run not in failures and outcome and not outcome.startswith(NO_FAILURE):
            log = task.sent.log(task.index)
            reason = f"job {task.job} ended as {outcome}"
            failures[run] = Failed(task, reason, log, files.last_lines(log), memory)
    return {run: failure for run, failure in failures.items() if not failure.task.superseded()}


def _for_memory(outcome: str, task: LastTask) -> bool:
    """Return whether SLURM killed a task for its memory. Without cgroups, only the task's log says so."""
    if outcome.endswith("exit code 0:9"):
        lines = files.last_lines(task.sent.log(task.index))
        return any(EXCEEDED in line for line in lines)
    return outcome.startswith(OUT_OF_MEMORY)


def prune(planned: Manifest, runs: Path) -> None:
    """Put all but the last submissions of a sweep that are over into one line each of jobs/ended.jsonl.

    Those in the queue, and those that explain why a run is missing, are kept.
    """
    folder = planned.path.parent / "jobs"
    names = submission.names(runs, planned.path.parent.name)
    if len(names) <= MOST_KEPT:
        return
    missing = {
        (cell.digest, seed) for cell, seeds in manifest.missing(planned.planned, runs) for seed in seeds
    }
    kept = {task.name for task in cluster.queue(names)}
    kept |= {task.sent.name for task in last_tasks(missing, runs).values()}
    over = sorted(
        (submission.read(names[name]) for name in names.keys() - kept), key=lambda sub: sub.submitted
    )
    for sub in over[: len(names) - MOST_KEPT]:
        line = {"name": sub.name, "job": sub.job, "submitted": sub.submitted, "tasks": len(sub.tasks)}
        line |= {"cores": sub.cores, "mem": sub.mem, "limit": sub.limit}
        with (folder / ENDED).open("a") as file:
            file.write(f"{json.dumps(line)}\n")
        for path in [*folder.glob(f"{sub.name}*"), *(folder.parent / "failures").glob(f"{sub.name}-*.json")]:
            path.unlink(missing_ok=True)

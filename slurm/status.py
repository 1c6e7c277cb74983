"""The status of a sweep, from the queue and the run records."""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group
from rich.text import Text

from ascent.records import files, layout, progress
from ascent.records.errors import InputError, printable
from ascent.records.plan import Planned
from ascent.records.store import Store
from ascent.slurm import cluster, submission
from ascent.slurm.submission import RunKey

MAX_FAILURES = 8  # failures shown in full


@dataclass(frozen=True)
class Failure:
    """Runs that failed together, and why."""

    what: str
    reason: str
    log: Path
    last_lines: list[str]


@dataclass
class Status:
    """The status of a sweep at one moment."""

    cells: list[progress.CellProgress]
    failures: list[Failure] = field(default_factory=list)
    pending: Counter[str] = field(default_factory=Counter)  # SLURM's reason for waiting -> runs
    reports: list[str] = field(default_factory=list)  # states of the queued report jobs
    note: str = ""  # why the queue is not shown
    queue_failed: bool = False  # the queue could not be read; it may be possible later

    @property
    def finished(self) -> bool:
        """Return whether all runs are finished."""
        return all(cell.finished for cell in self.cells)

    @property
    def active(self) -> bool:
        """Return whether the status may change without the user."""
        states = [cell.states for cell in self.cells]
        at_work = any(state["pending"] or state["running"] for state in states)
        return at_work or bool(self.reports) or (self.queue_failed and not self.finished)

    def render(self) -> Group:
        """Return the status for a terminal."""
        totals = Counter[str]()
        for cell in self.cells:
            totals.update(cell.states)
        lines = [f"{sum(totals.values())} runs: " + ", ".join(f"{n} {s}" for s, n in totals.items() if n)]
        if self.pending:
            lines.append("pending: " + ", ".join(f"{n} ({why})" for why, n in self.pending.most_common()))
        lines += [f"report: {state}" for state in self.reports]
        for failure in self.failures[:MAX_FAILURES]:
            lines += ["", f"failed: {failure.what}: {failure.reason}", f"  {failure.log}"]
            lines += [f"  | {line}" for line in failure.last_lines]
        if len(self.failures) > MAX_FAILURES:
            lines.append(f"and {len(self.failures) - MAX_FAILURES} more failures")
        if self.note:
            lines.append(self.note)
        return Group(progress.table(self.cells), Text(printable("\n".join(lines))))


@dataclass(frozen=True)
class _LastTask:
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


def look(planned: tuple[Planned, ...], runs: Path, sweep: str) -> Status:
    """Return the status of a sweep whose folder below `runs`/slurm is `sweep`."""
    if not submission.names(runs):
        return Status(progress.snapshot(planned, runs))
    if shutil.which("squeue") is None:
        note = "squeue is not installed on this machine: cannot show the queue"
        return Status(progress.snapshot(planned, runs), note=note)
    try:
        queued = submission.runs_in_queue(runs)
        reports = cluster.queue(submission.report_names(runs, sweep))
    except InputError as error:
        return Status(progress.snapshot(planned, runs), note=str(error), queue_failed=True)
    cells = {(plan.cell.digest, seed): plan.cell for plan in planned for seed in plan.seeds}
    known = {run: "pending" if task.waits else "running" for run, task in queued.items()}
    missing = {run for run, cell in cells.items() if run not in known and not cell.is_finished(run[1], runs)}
    failures = _failures(_last_tasks(missing, runs)) if missing else {}
    known |= dict.fromkeys(failures, "failed")
    return Status(
        progress.snapshot(planned, runs, known),
        _grouped(failures),
        pending=Counter(task.reason for run, task in queued.items() if run in cells and task.waits),
        reports=[f"{task.state.lower()} ({task.reason})" for task in reports],
    )


def _last_tasks(missing: set[RunKey], runs: Path) -> dict[RunKey, _LastTask]:
    """Return the last array task that was submitted for each run, where there was one."""
    sent = [submission.read(path) for path in submission.names(runs).values()]
    tasks: dict[RunKey, _LastTask] = {}
    for sub in sorted(sent, key=lambda sub: sub.submitted):
        cells = [plan.cell for plan in sub.planned().planned]
        for index, packs in enumerate(sub.tasks):
            for number, seeds in packs:
                cell = cells[number]
                for seed in seeds:
                    if (run := (cell.digest, seed)) in missing:
                        tasks[run] = _LastTask(sub, index, cell.label(), cell.folder(runs), seed)
    return tasks


def _failures(tasks: dict[RunKey, _LastTask]) -> dict[RunKey, Failure]:
    """Return why each run failed that is neither finished nor in the queue.

    Its last array task has recorded the reason, or SLURM knows how the task ended; a cancelled task is not a
    failure.
    """
    failures: dict[RunKey, Failure] = {}
    unexplained: dict[str, list[RunKey]] = {}
    for run, task in tasks.items():
        for failure in submission.read_failures(task.sent.failure(task.index)):
            if failure["cell"] == run[0] and run[1] in failure["seeds"]:
                log, last_lines = Path(failure["log"]), failure["last_lines"]
                failures[run] = Failure(task.label, failure["reason"], log, last_lines)
        if run not in failures and task.job:
            unexplained.setdefault(task.job, []).append(run)
    for job, outcome in cluster.ended(unexplained).items():
        if not outcome.startswith(("CANCELLED", "COMPLETED", "PREEMPTED")):
            for run in unexplained.get(job, []):
                log = tasks[run].sent.log(tasks[run].index)
                reason = f"job {job} ended as {outcome}"
                failures[run] = Failure(tasks[run].label, reason, log, files.last_lines(log))
    return {run: failure for run, failure in failures.items() if not tasks[run].superseded()}


def _grouped(failures: dict[RunKey, Failure]) -> list[Failure]:
    """Return one failure for all seeds of a cell that failed for the same reason."""
    groups: dict[tuple[str, str], list[int]] = {}
    for (digest, seed), failure in failures.items():
        groups.setdefault((digest, failure.reason), []).append(seed)
    grouped = []
    for (digest, _), seeds in groups.items():
        first = failures[digest, seeds[0]]
        what = f"{first.what} seeds {_listed(seeds)}"
        grouped.append(Failure(what, first.reason, first.log, first.last_lines))
    return grouped


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))

"""Where a sweep is: the queue and the records together."""

import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group
from rich.text import Text

from ascent.records import files, progress
from ascent.records.errors import InputError
from ascent.records.plan import Planned
from ascent.slurm import cluster, submission

SHOWN = 8  # failures that are told in full


@dataclass(frozen=True)
class Failure:
    """Runs that failed together, and why."""

    what: str
    reason: str
    log: Path
    last_lines: list[str]


@dataclass
class Status:
    """A sweep at one moment."""

    cells: list[progress.CellProgress]
    failures: list[Failure] = field(default_factory=list)
    pending: Counter[str] = field(default_factory=Counter)  # runs by SLURM's reason for their waiting
    reports: list[str] = field(default_factory=list)  # state of the jobs that will make the report
    note: str = ""  # why the queue is not in it
    unanswered: bool = False  # the queue is not in it for the moment

    @property
    def finished(self) -> bool:
        return all(cell.finished for cell in self.cells)

    @property
    def moves(self) -> bool:
        """Whether it can change by itself."""
        states = [cell.states for cell in self.cells]
        at_work = any(state["pending"] or state["running"] for state in states)
        return at_work or bool(self.reports) or (self.unanswered and not self.finished)

    def render(self) -> Group:
        """For a terminal."""
        totals = Counter[str]()
        for cell in self.cells:
            totals.update(cell.states)
        lines = [f"{sum(totals.values())} runs: " + ", ".join(f"{n} {s}" for s, n in totals.items() if n)]
        if self.pending:
            lines.append("pending: " + ", ".join(f"{n} ({why})" for why, n in self.pending.most_common()))
        lines += [f"report: {state}" for state in self.reports]
        for failure in self.failures[:SHOWN]:
            lines += ["", f"failed: {failure.what}: {failure.reason}", f"  {failure.log}"]
            lines += [f"  | {line}" for line in failure.last_lines]
        if len(self.failures) > SHOWN:
            lines.append(f"and {len(self.failures) - SHOWN} failures more")
        if self.note:
            lines.append(self.note)
        return Group(progress.table(self.cells), Text("\n".join(lines)))


def look(planned: tuple[Planned, ...], out: Path, sweep: str) -> Status:
    """The state of every run of a sweep whose folder below `out`/slurm is `sweep`."""
    files_of = submission.names(out)
    if not files_of:
        return Status(progress.snapshot(planned, out))
    if shutil.which("squeue") is None:
        return Status(progress.snapshot(planned, out), note="there is no squeue here: the queue is not shown")
    try:
        queued = submission.runs_in_queue(out)
        reports = cluster.queue(submission.reports(out, sweep))
    except InputError as error:
        return Status(progress.snapshot(planned, out), note=str(error), unanswered=True)
    known = {run: "pending" if task.waits else "running" for run, task in queued.items()}
    wanted = {(plan.cell.digest, seed): plan for plan in planned for seed in plan.seeds}
    gone = {
        run for run, plan in wanted.items() if run not in known and not plan.cell.is_finished(run[1], out)
    }
    failures = _failures(gone, known, out) if gone else []
    status = Status(progress.snapshot(planned, out, known), failures)
    status.pending.update(task.reason for run, task in queued.items() if run in wanted and task.waits)
    status.reports = [f"{task.state.lower()} ({task.reason})" for task in reports]
    return status


def _failures(gone: set[tuple[str, int]], known: dict[tuple[str, int], str], out: Path) -> list[Failure]:
    """Why runs that are neither finished nor in the queue failed; marks them in `known`.

    What counts is the last array task that had the run. It has told the reason, or SLURM knows how it ended;
    a task that was cancelled has not failed.
    """
    tasks: dict[tuple[str, int], tuple[submission.Submission, int]] = {}
    sent = sorted(
        (submission.read(path) for path in submission.names(out).values()), key=lambda s: s.submitted
    )
    labels: dict[str, str] = {}
    folders: dict[tuple[str, int], Path] = {}
    for one in sent:
        cells = [plan.cell for plan in one.planned().planned]
        for index, packs in enumerate(one.tasks):
            for cell, seeds in packs:
                labels[cells[cell].digest] = cells[cell].label()
                for seed in seeds:
                    if (cells[cell].digest, seed) in gone:
                        tasks[cells[cell].digest, seed] = (one, index)
                        folders[cells[cell].digest, seed] = cells[cell].folder(out) / f"seed-{seed}"
    told: dict[tuple[str, int], tuple[str, Path, list[str]]] = {}
    untold: dict[str, list[tuple[str, int]]] = {}
    for run, (one, index) in tasks.items():
        for failure in submission.told(one.failure(index)):
            if failure["cell"] == run[0] and run[1] in failure["seeds"]:
                told[run] = failure["reason"], Path(failure["log"]), failure["last_lines"]
        if run not in told and one.job:
            untold.setdefault(f"{one.job}_{index}", []).append(run)
    for job, how in cluster.ended(untold).items():
        if not how.startswith(("CANCELLED", "COMPLETED", "PREEMPTED")):
            for run in untold.get(job, []):
                one, index = tasks[run]
                told[run] = f"job {job} ended as {how}", one.log(index), files.last_lines(one.log(index))
    told = {run: why for run, why in told.items() if not _taken_up(folders[run], *tasks[run])}
    groups: dict[tuple[str, str], list[int]] = {}
    for run, (reason, *_) in told.items():
        known[run] = "failed"
        groups.setdefault((run[0], reason), []).append(run[1])
    return [
        Failure(f"{labels[digest]} seeds {seeds}", reason, *told[digest, seeds[0]][1:])
        for (digest, reason), seeds in groups.items()
    ]


def _taken_up(folder: Path, sent: submission.Submission, index: int) -> bool:
    """Whether another process than this array task is training the run now."""
    if progress.state(folder) != "running":
        return False
    attempt = files.read_json(folder / "run.json")["attempts"][-1]
    return submission.task_of(attempt) != (sent.job, str(index))

"""The status of a sweep, from the queue and the run records."""

import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Group
from rich.text import Text

from ascent.records import progress
from ascent.records.errors import InputError, printable
from ascent.records.plan import Planned
from ascent.slurm import cluster, history, submission
from ascent.slurm.history import Failed
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
    cells = {(plan.cell.digest, seed) for plan in planned for seed in plan.seeds}
    known = {run: "pending" if task.waits else "running" for run, task in queued.items()}
    unfinished = {
        (plan.cell.digest, seed) for plan in planned for seed in plan.cell.missing(plan.seeds, runs)
    }
    failures = history.failed(unfinished - known.keys(), runs)
    known |= dict.fromkeys(failures, "failed")
    return Status(
        progress.snapshot(planned, runs, known),
        _grouped(failures),
        pending=Counter(task.reason for run, task in queued.items() if run in cells and task.waits),
        reports=[f"{task.state.lower()} ({task.reason})" for task in reports],
    )


def _grouped(failures: dict[RunKey, Failed]) -> list[Failure]:
    """Return one failure for all seeds of a cell that failed for the same reason."""
    groups: dict[tuple[str, str], list[int]] = {}
    for (digest, seed), failure in failures.items():
        groups.setdefault((digest, failure.reason), []).append(seed)
    grouped = []
    for (digest, _), seeds in groups.items():
        first = failures[digest, seeds[0]]
        what = f"{first.task.label} seeds {_listed(seeds)}"
        grouped.append(Failure(what, first.reason, first.log, first.last_lines))
    return grouped


def _listed(seeds: Iterable[int]) -> str:
    return ", ".join(map(str, seeds))

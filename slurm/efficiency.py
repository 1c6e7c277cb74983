"""What the jobs of a sweep asked of the cluster, and what they used of it.

SLURM's accounting knows what was asked and held, and the memory; the run records know what was trained twice.
Where there is no accounting, only the records count: they leave out start-up, idle cores and memory.
"""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ascent.records import layout
from ascent.records.errors import DamagedFile, InputError
from ascent.records.plan import Planned
from ascent.records.store import Store
from ascent.slurm import cluster, history, submission
from ascent.slurm.sites import UNITS, seconds

FIELDS = "JobID,ElapsedRaw,AllocCPUS,TotalCPU,MaxRSS,ReqMem,Timelimit"
GIB = 2**30


@dataclass
class Use:
    """What the tasks of a job array asked and used, in core-seconds and bytes. None: not known."""

    name: str
    tasks: int = 0
    starts: int = 0  # of tasks, with those that SLURM started again
    asked: float | None = 0.0  # until the time limits
    held: float = 0.0  # until the tasks ended
    used: float = 0.0  # by processes
    memory_asked: int | None = None  # of a task
    memory_used: int | None = None  # the most of any task


def measure(planned: Sequence[Planned], runs: Path, sweep: str) -> tuple[list[Use], float, str]:
    """Return the use of each job array, the core-seconds of training that was lost, and where this is from.

    Raises:
        InputError: nothing of the sweep was trained.
    """
    lost, recorded = _recorded(planned, runs)
    if not recorded.starts:
        raise InputError(f"nothing of sweep {sweep} was trained in {runs}")
    try:
        uses = _accounted(_arrays(runs / "slurm" / sweep))
    except InputError as error:
        return [recorded], lost, f"the run records ({error})"
    return (uses, lost, "SLURM's accounting") if uses else ([recorded], lost, "the run records")


def _arrays(folder: Path) -> dict[str, str]:
    """Return the names of a sweep's job arrays by their numbers."""
    arrays = {}
    ended = folder / "jobs" / history.ENDED
    if ended.exists():
        for line in ended.read_text().splitlines():
            about = json.loads(line)
            arrays[about["job"]] = about["name"]
    for path in submission.names(folder.parents[1], folder.name).values():
        sent = submission.read(path)
        if sent.job:
            arrays[sent.job] = sent.name
    return arrays


def _accounted(arrays: dict[str, str]) -> list[Use]:
    """Return what SLURM's accounting says of job arrays. Raises InputError where there is none."""
    uses = {job: Use(name) for job, name in arrays.items()}
    tasks: dict[str, set[str]] = {job: set() for job in arrays}
    for row in cluster.accounts(sorted(arrays), FIELDS, "--duplicates"):
        job, elapsed, cores, used, most, asked, limit = row
        array, _, task = job.partition("_")
        use = uses.get(array)
        if use is None:
            continue
        if "." in job:  # a step: the script, or a pack
            use.memory_used = max(use.memory_used or 0, memory(most))
        elif task.isdecimal() and int(elapsed):
            tasks[array].add(task)
            use.starts += 1
            use.held += int(elapsed) * int(cores)
            use.used += duration(used)
            use.memory_asked = max(use.memory_asked or 0, memory(asked))
            known = use.asked is not None and re.fullmatch(r"[\d:-]+", limit)
            use.asked = (use.asked or 0.0) + seconds(limit) * int(cores) if known else None
    for job, use in uses.items():
        use.tasks = len(tasks[job])
    return [use for use in uses.values() if use.starts]


def _recorded(planned: Sequence[Planned], runs: Path) -> tuple[float, Use]:
    """Return the core-seconds that were lost, and the use of all attempts, by the run records."""
    use, lost = Use("all runs", asked=None), 0.0
    for plan in planned:
        store = Store(plan.cell.folder(runs))
        for seed in plan.seeds:
            try:
                attempts = store.json(seed, layout.RUN)["attempts"]
            except (OSError, DamagedFile, LookupError):
                continue  # not begun
            use.tasks += 1
            use.starts += len(attempts)
            for attempt in attempts:
                cores = attempt.get("env_threads", 1)
                use.held += attempt.get("wall_s", 0.0) * cores
                use.used += attempt.get("cpu_s", 0.0)
                lost += attempt.get("lost_wall_s", 0.0) * cores
    return lost, use


def duration(text: str) -> float:
    """Parse SLURM's notation of used time: [D-][H:]M:S[.fraction], in seconds."""
    days, _, rest = text.rpartition("-")
    total = 0.0
    for part in rest.split(":"):
        total = total * 60 + float(part or 0)
    return int(days or 0) * 86400 + total


def memory(text: str) -> int:
    """Parse SLURM's notation of memory, such as 1.5G or 512000K, in bytes; 0 if it is not known."""
    match = re.fullmatch(r"([\d.]+)([KMGT]?)[cn]?", text)
    return int(float(match[1]) * UNITS.get(match[2], 1)) if match else 0


def render(uses: Iterable[Use], lost: float, source: str) -> Group:
    """Return the table of what was used, for a terminal."""
    table = Table(box=None, pad_edge=False)
    columns = ("jobs", "tasks", "starts", "asked", "held", "used", "", "memory asked", "used", "")
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left", no_wrap=True)
    uses = list(uses)
    for use in [*uses, *([_total(uses)] if len(uses) > 1 else [])]:
        table.add_row(
            use.name,
            f"{use.tasks:,}",
            f"{use.starts:,}",
            _hours(use.asked),
            _hours(use.held),
            _hours(use.used),
            _share(use.used, use.held),
            _gib(use.memory_asked),
            _gib(use.memory_used),
            _share(use.memory_used, use.memory_asked),
        )
    share = _share(lost, sum(use.held for use in uses)) or "0%"
    lines = [
        f"core-hours and GiB, from {source}",
        f"lost: {_hours(lost)} core-hours, {share} of those held: trained again after a kill",
    ]
    return Group(table, Text("\n" + "\n".join(lines)))


def _total(uses: Sequence[Use]) -> Use:
    """Return the sums over job arrays; of memory the maxima."""
    asked = [use.asked for use in uses]
    total = Use("all")
    for use in uses:
        total.tasks += use.tasks
        total.starts += use.starts
        total.held += use.held
        total.used += use.used
        total.memory_asked = max(total.memory_asked or 0, use.memory_asked or 0) or None
        total.memory_used = max(total.memory_used or 0, use.memory_used or 0) or None
    total.asked = None if None in asked else sum(value for value in asked if value is not None)
    return total


def _hours(core_seconds: float | None) -> str:
    return "" if core_seconds is None else f"{core_seconds / 3600:,.2f}"


def _share(part: float | None, whole: float | None) -> str:
    return f"{100 * part / whole:.0f}%" if part is not None and whole else ""


def _gib(size: int | None) -> str:
    return f"{size / GIB:.2f}" if size else ""

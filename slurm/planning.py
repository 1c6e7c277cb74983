"""Plan a submission: the missing runs of a manifest that are not in the queue, as array tasks of packs."""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

from ascent.records import plan as plans
from ascent.records.errors import InputError, unknown
from ascent.records.plan import Planned
from ascent.runners import estimate
from ascent.slurm import cluster, history, manifest, nodes, submission
from ascent.slurm.history import Failed
from ascent.slurm.manifest import Manifest
from ascent.slurm.sites import Site, memory_bytes
from ascent.slurm.submission import Pack, RunKey

GIB = 2**30
PROCESS_GIB = 1.0  # memory of one training process, without replay
GPU_PROCESS_GIB = 4.0  # the same with a GPU, which holds the replay itself
MEMORY_STEP_GIB = 0.25  # requests are rounded up to this
MOST_RAISE = 4  # times the first request that memory is raised to, unless the site sets `max_mem`

Item = TypeVar("Item")


@dataclass(frozen=True)
class Array:
    """A job array: its tasks of packs, and the memory of each task."""

    tasks: list[list[Pack]]
    mem: str


@dataclass(frozen=True)
class Chosen:
    """The runs that a submission or a cancellation is about. Default: all of a sweep.

    `cells` are names of a sweep's systems, beginnings of digests, or words of labels such as "ppo" or
    "Hopper-v5 ppo"; `failed` is a part of the reason of a failure, "" for any failure, None for runs that
    have failed or not.
    """

    cells: tuple[str, ...] = ()
    failed: str | None = None

    def of(self, planned: Sequence[Planned]) -> set[str]:
        """Return the digests of the chosen cells of a sweep. Raises InputError if a word names no cell."""
        if not self.cells:
            return {plan.cell.digest for plan in planned}
        found: set[str] = set()
        for word in self.cells:
            # A whole name is that system alone, even if it is a word of others.
            called = [p for p in planned if p.name and word in (p.name, f"{p.cell.task} {p.name}")]
            matches = called or [plan for plan in planned if _named(plan, word)]
            if not matches:
                names = {name for p in planned for name in (p.cell.task, p.name or p.cell.system)}
                raise unknown("cell", word, sorted(names))
            found |= {plan.cell.digest for plan in matches}
        return found


def _named(plan: Planned, word: str) -> bool:
    """Return whether a word begins the digest of a cell or stands in its label."""
    words = rf"(?<!\w){re.escape(word)}(?!\w)"
    return plan.cell.digest.startswith(word) or re.search(words, plan.label()) is not None


EVERYTHING = Chosen()


@dataclass
class Plan:
    """What would be submitted."""

    arrays: list[Array] = field(default_factory=list)
    runs: int = 0  # runs to submit
    queued: int = 0  # missing runs that are already in the queue ...
    queued_jobs: set[str] = field(default_factory=set)  # ... and the numbers of their job arrays
    finished: int = 0
    later: int = 0  # missing runs for which the queue has no room
    skipped: int = 0  # missing runs that were not to be submitted again
    others: int = 0  # missing runs that were not chosen
    too_large: int = 0  # missing runs that were killed for their memory with the most that they may have
    more_memory: dict[str, int] = field(default_factory=dict)  # raised memory -> runs that get it
    faulty: dict[str, str] = field(default_factory=dict)  # nodes to stay away from, and why
    only_report: bool = False  # whether nothing but the report's job was submitted
    stage: str = ""  # how far a sweep with a design is; its later stages are not planned yet
    mem: str = ""  # memory per task, of those that were not killed for it
    core_hours: float = 0.0

    @property
    def tasks(self) -> int:
        """Return the number of array tasks."""
        return sum(len(array.tasks) for array in self.arrays)

    def packs(self) -> Iterator[Pack]:
        """Yield all packs."""
        yield from (pack for array in self.arrays for task in array.tasks for pack in task)

    def summary(self) -> str:
        """Return the plan in one line."""
        done = f"{self.finished:,} runs are finished, {self.queued:,} in the queue"
        if self.later:
            done += f", {self.later:,} wait until the queue has room"
        if self.skipped:
            done += f", {self.skipped:,} have failed: see `ascent status`"
        if self.others:
            done += f", {self.others:,} were not chosen"
        if self.too_large:
            done += f", {self.too_large:,} were killed for their memory and may not have more (max_mem)"
        if self.only_report:
            done += "; the report job is submitted"
        if not self.arrays:
            return f"nothing to submit: {done}"
        arrays = f" of {len(self.arrays)} arrays" if len(self.arrays) > 1 else ""
        hours = f"about {self.core_hours:,.1f} core-hours"
        return f"{self.runs:,} runs in {self.tasks:,} array tasks{arrays}, {hours}; {done}"

    def notes(self) -> list[str]:
        """Return the stage of a design, and what differs from a first submission: memory, nodes."""
        lines = [self.stage] if self.stage else []
        lines += [
            f"{mem} of memory for {runs:,} runs that were killed for less"
            for mem, runs in self.more_memory.items()
        ]
        lines += [
            f"not on {node}, where {nodes.MOST_FAULTS} tasks in a row failed: {why}"
            for node, why in self.faulty.items()
        ]
        return lines


def plan(
    planned: Manifest,
    site: Site,
    runs: Path,
    tried: Collection[RunKey] = (),
    chosen: Chosen = EVERYTHING,
) -> Plan:
    """Return the missing runs that are not in the queue, as array tasks; with a design those of its stage.

    Runs that were `tried` are left out, unless they were killed for their memory and may have more.

    Raises:
        InputError: SLURM does not answer, no cell is chosen, or `site.mem` is too small.
    """
    wanted = chosen.of(planned.planned)
    queue = submission.runs_in_queue(runs) if cluster.available() else {}
    now, stage = at_stage(planned.plan, runs)
    missing = list(manifest.missing(now, runs))
    idle = {(cell.digest, seed) for cell, seeds in missing for seed in seeds} - queue.keys()
    failures = history.failed(idle, runs) if cluster.available() else {}
    expected = sum(len(plan.seeds) for plan in now)
    todo = Plan(finished=expected - sum(len(seeds) for _, seeds in missing), stage=stage)
    packs: dict[int, list[Pack]] = {}  # by the memory of a task, in bytes; 0: as estimated
    largest = 0.0  # memory of a process, in GiB
    index = {cell.cell.digest: number for number, cell in enumerate(planned.planned)}
    for cell, seeds in missing:
        replay = planned.replay[cell.digest]
        size = site.pack or suggested_pack(site.device, replay > 0)
        process = GPU_PROCESS_GIB if site.gpus else PROCESS_GIB + min(size, len(seeds)) * replay / GIB
        groups: dict[int, list[int]] = {}  # seeds to submit, by the memory of their task
        for seed in seeds:
            run = (cell.digest, seed)
            failure = failures.get(run)
            memory = _raised(failure, site, process)
            if run in queue:
                todo.queued += 1
                todo.queued_jobs.add(queue[run].job.partition("_")[0])
            elif cell.digest not in wanted or not _matches(failure, chosen.failed):
                todo.others += 1
            elif memory is None:
                todo.too_large += 1
            elif run in tried and not memory:
                todo.skipped += 1
            else:
                groups.setdefault(memory, []).append(seed)
        for memory, group in groups.items():
            packs.setdefault(memory, []).extend((index[cell.digest], tuple(p)) for p in _chunks(group, size))
            largest = max(largest, process)
            todo.core_hours += estimate.core_hours(cell, len(group), replay > 0, runs)
            todo.runs += len(group)
    tasks = [(memory, task) for memory in sorted(packs) for task in _chunks(packs[memory], site.packs)]
    if site.max_queued and cluster.available():
        room = max(0, site.max_queued - 1 - in_queue(runs)) // (site.chain + 1)  # the report is a job, too
        todo.later = sum(len(seeds) for _, task in tasks[room:] for _, seeds in task)
        todo.core_hours *= 1 - todo.later / max(todo.runs, 1)
        todo.runs -= todo.later
        tasks = tasks[:room]
    todo.mem = _memory(site, largest * min(site.packs, max((len(task) for _, task in tasks), default=1)))
    if tasks:
        _add_arrays(todo, tasks)
        todo.faulty = _faulty(planned.path.parent, queue.values(), failures)
    return todo


def at_stage(plan: plans.Plan, runs: Path) -> tuple[tuple[Planned, ...], str]:
    """Return the cells of a plan with the seeds that they need now, and the stage of its design in words.

    Raises:
        InputError: the records of a sweep with a design cannot be compared.
    """
    if plan.design is None:
        return plan.planned, ""
    from ascent.reports.staged import standing  # statistics, which other sweeps need not load

    found = standing(plan, plan.design, runs)
    return found.planned, found.text(plan.design)


def _add_arrays(todo: Plan, tasks: Sequence[tuple[int, list[Pack]]]) -> None:
    """Add arrays of tasks, which are given with their memory and in its order."""
    most = cluster.max_array_size() if cluster.available() else len(tasks)
    for memory, group in groupby(tasks, key=itemgetter(0)):
        of_array = [task for _, task in group]
        mem = f"{memory >> 20}M" if memory else todo.mem
        todo.arrays += [Array(chunk, mem) for chunk in _chunks(of_array, most)]
        if memory:
            todo.more_memory[mem] = sum(len(seeds) for task in of_array for _, seeds in task)


def _raised(failure: Failed | None, site: Site, process: float) -> int | None:
    """Return the bytes of memory for a task whose last one was killed for less; 0 if it was not.

    None: it may not have more. `process` is the need of a process in GiB.
    """
    if failure is None or not failure.out_of_memory or not failure.task.sent.mem:
        return 0
    before = memory_bytes(failure.task.sent.mem)
    first = memory_bytes(site.mem or _estimated(process * site.packs))
    most = memory_bytes(site.max_mem) if site.max_mem else MOST_RAISE * first
    return min(2 * before, most) if before < most else None


def _matches(failure: Failed | None, reason: str | None) -> bool:
    """Return whether a run has failed for a reason that contains these words; any run matches None."""
    return reason is None or (failure is not None and reason in failure.reason)


def _faulty(
    folder: Path, queued: Collection[cluster.Task], failures: Mapping[RunKey, Failed]
) -> dict[str, str]:
    """Return the nodes to stay away from, with the reasons."""
    running = {f"{task.name}-{task.index}" for task in queued if not task.waits}
    killed = [failure.task for failure in failures.values() if failure.out_of_memory]
    return nodes.faulty(nodes.read(folder), running, {f"{task.sent.name}-{task.index}" for task in killed})


def in_queue(runs: Path) -> int:
    """Return the number of array tasks and jobs in the queue, of all sweeps below a folder of runs."""
    return len(cluster.queue([*submission.names(runs), *submission.report_names(runs, "*")]))


def _memory(site: Site, need: float) -> str:
    """Return the memory to request for a task that needs `need` GiB."""
    if site.mem and memory_bytes(site.mem) < need * GIB:
        raise InputError(
            f"mem: {site.mem} is less than the {need:.1f} GiB that {site.packs} packs may need: "
            "use fewer seeds per pack (--pack) or more memory (--mem)"
        )
    return site.mem or _estimated(need)


def _estimated(need: float) -> str:
    return f"{-(-need // MEMORY_STEP_GIB) * MEMORY_STEP_GIB * 1024:.0f}M"


def _chunks(items: list[Item], size: int) -> list[list[Item]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def suggested_pack(device: str, replays: bool) -> int:
    """Return how many seeds a process should train.

    On the CPU, learning from replay is bound by matrix products, so that packing more seeds gains little. A
    GPU needs many seeds to be busy.
    """
    if device == "cuda":
        return 50
    return 2 if replays else 10

"""From a manifest to the queue: what is missing, as array tasks of packs, and the job of the report."""

import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ascent.records import files
from ascent.records.errors import InputError, RunHeld, unknown
from ascent.records.ownership import Ownership, beating
from ascent.slurm import cluster, estimate, scripts
from ascent.slurm.manifest import Manifest, missing, write
from ascent.slurm.sites import Site, memory_bytes, seconds
from ascent.slurm.submission import Pack, Submission, reports, runs_in_queue

GIB = 2**30
PATIENCE = 60.0  # seconds to wait for another submission to end
PROCESS = 1.0  # GiB of one training process, without replay; with a GPU, where replay lives, four


@dataclass(frozen=True)
class Plan:
    """What would be submitted."""

    arrays: list[list[list[Pack]]]  # of tasks, of packs
    runs: int
    queued: int  # runs that are in the queue already ...
    others: set[str]  # ... and the numbers of the arrays that they are in
    finished: int
    mem: str  # per task
    core_hours: float

    @property
    def tasks(self) -> int:
        return sum(len(array) for array in self.arrays)

    def told(self) -> str:
        """It in a line."""
        done = f"{self.finished:,} runs are finished, {self.queued:,} in the queue"
        if not self.arrays:
            return f"nothing to submit: {done}"
        arrays = f"{self.tasks:,} array tasks" + (
            f" of {len(self.arrays)} arrays" if len(self.arrays) > 1 else ""
        )
        return f"{self.runs:,} runs in {arrays}, about {self.core_hours:,.1f} core-hours; {done}"


def plan(manifest: Manifest, site: Site, out: Path) -> Plan:
    """The missing runs that are not in the queue, as array tasks.

    Raises InputError without SLURM, or if `mem` is too little.
    """
    queued, largest, hours, runs, waiting = runs_in_queue(out), 0.0, 0.0, 0, 0
    packs: list[Pack] = []
    others: set[str] = set()
    index = {planned.cell.digest: i for i, planned in enumerate(manifest.planned)}
    for cell, seeds in missing(manifest, out):
        free = [seed for seed in seeds if (cell.digest, seed) not in queued]
        tasks_of = [queued[cell.digest, seed] for seed in seeds if (cell.digest, seed) in queued]
        waiting, others = waiting + len(tasks_of), others | {t.job.partition("_")[0] for t in tasks_of}
        replay = manifest.replay[cell.digest]
        size = site.pack or suggested_pack(site.device, replay > 0)
        some = [(index[cell.digest], tuple(seeds)) for seeds in _chunks(free, size)]
        packs += some
        if some:
            largest = max(largest, 4.0 if site.gpus else PROCESS + len(some[0][1]) * replay / GIB)
            hours += estimate.core_hours(cell, len(free), replay > 0, out)
            runs += len(free)
    tasks = _chunks(packs, site.packs)
    need = largest * min(site.packs, max(map(len, tasks), default=1))
    if site.mem and memory_bytes(site.mem) < need * GIB:
        raise InputError(
            f"mem: {site.mem} is less than the {need:.1f} GiB that {site.packs} packs may need: "
            "take fewer seeds per pack (--pack) or more memory"
        )
    arrays = _chunks(tasks, cluster.max_array_size()) if tasks else []
    mem = site.mem or f"{-(-need // 0.25) * 0.25 * 1024:.0f}M"
    return Plan(arrays, runs, waiting, others, manifest.runs - runs - waiting, mem, hours)


def _chunks(items: list, size: int) -> list[list]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def suggested_pack(device: str, replays: bool) -> int:
    """Seeds per process. On the CPU, learning from replay is bound by matrix products and gains little from
    company; a GPU is not filled by ten seeds."""
    if device == "cuda":
        return 50
    return 2 if replays else 10


def check(site: Site, out: Path) -> None:
    """Raises InputError for what the cluster would refuse, or accept and never run; writes nothing."""
    scripts.check(site)
    there = cluster.partitions()
    for partition, time_limit in ((site.partition, site.time), (site.report_partition, site.report_time)):
        for name in (partition or "").split(","):
            if name and name not in there:
                raise unknown("partition", name, there)
            if name and there[name] != "infinite" and seconds(time_limit) > seconds(there[name]):
                raise InputError(f"time: {time_limit} is more than partition {name} gives, {there[name]}")
    if set(str(out)) & set(" \t\n%\\\"'"):
        raise InputError(f"{out}: a path with blanks, quotes or % cannot stand in a script for sbatch")
    folder = next(parent for parent in (out, *out.parents) if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} cannot be written")
    kind = _file_system(folder)
    if kind in ("tmpfs", "ramfs", "devtmpfs") and not _single_machine():
        raise InputError(f"{out} lies in this machine's memory ({kind}), where compute nodes cannot write")


def _file_system(folder: Path) -> str:
    """The kind of file system that a folder lies on, or "" where /proc does not tell."""
    found, kind = "", ""
    try:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, name, *_ = line.split()
            if Path(place) in (folder, *folder.parents) and len(place) >= len(found):
                found, kind = place, name
    except OSError:
        pass
    return kind


def _single_machine() -> bool:
    """Whether this machine is the whole cluster."""
    here = {socket.gethostname(), socket.gethostname().partition(".")[0], "127.0.0.1", "localhost"}
    nodes = cluster.client("sinfo", "--noheader", "--Node", "--format=%o").split()
    return set(nodes) <= here


def preview(manifest: Manifest, site: Site, out: Path, report: Path) -> str:
    """What `send` would submit, for a reader; writes nothing."""
    todo = plan(manifest, site, out)
    if not todo.arrays:
        return todo.told()
    first = new_submission(manifest, site, todo.arrays[0], out)
    table: dict[tuple[str, str], list[float]] = {}
    for array in todo.arrays:
        for task in array:
            for index, seeds in task:
                cell = manifest.planned[index].cell
                row = table.setdefault((cell.suite, cell.system), [0, 0, 0.0])
                hours = estimate.core_hours(cell, len(seeds), manifest.replay[cell.digest] > 0, out)
                row[0], row[1], row[2] = row[0] + len(seeds), row[1] + 1, row[2] + hours
    lines = [
        scripts.job(manifest, site, todo.mem, first),
        scripts.report(manifest, site, f"{first.name}-report", out, report),
        f"{'suite':12}{'algorithm':14}{'runs':>8}{'packs':>8}{'core-hours':>12}",
        *(f"{a:12}{b:14}{n:8,}{packs:8,}{hours:12,.1f}" for (a, b), (n, packs, hours) in table.items()),
        todo.told(),
    ]
    return "\n".join(lines)


def send(manifest: Manifest, site: Site, out: Path, report: Path) -> str:
    """Submit what is missing and not in the queue, and the job of the report: all of it, or, with InputError,
    none. Returns what was done, in a line.
    """
    plan(manifest, site, out)  # what is wrong with it shows before anything is written
    with _alone(out) as lock:
        todo = plan(manifest, site, out)
        told = todo.told()
        if todo.arrays or (todo.others and not cluster.queue(reports(out, manifest.path.parent.name))):
            _send(manifest, site, todo, out, report, lock)
            told += "" if todo.arrays else "; a job will make the report"
    return told


def _send(manifest: Manifest, site: Site, todo: Plan, out: Path, report: Path, lock: Ownership) -> None:
    folder, new = manifest.path.parent, not manifest.path.exists()
    sent = [new_submission(manifest, site, array, out) for array in todo.arrays]
    name = f"{sent[0].name if sent else _name(manifest)}-report"
    jobs: list[str] = []
    try:
        if new:
            write(manifest)
        for place in ("jobs", "logs"):  # SLURM fails a task that has no folder to log to
            (folder / place).mkdir(exist_ok=True)
        for submission in sent:
            submission.write()
            text = scripts.job(manifest, site, todo.mem, submission)
            lock.check()
            jobs.append(_sbatch(submission.path.with_suffix(".sh"), text))
            submission.write(job=jobs[-1])
        lock.check()
        text = scripts.report(manifest, site, name, out, report)
        after = f"--dependency=afterany:{':'.join([*jobs, *sorted(todo.others)])}"
        _sbatch(folder / "jobs" / f"{name}.sh", text, after)
    except BaseException as error:
        names = [*(submission.name for submission in sent), name]
        try:  # by name: the number of one that was just submitted may never have come back
            cluster.client("scancel", f"--name={','.join(names)}")
        except InputError:
            raise error from None  # the files stay: with them the jobs are found in the queue
        for file in [file for name in names for file in (folder / "jobs").glob(f"{name}.*")]:
            file.unlink()
        if new:
            manifest.path.unlink(missing_ok=True)
        with suppress(OSError):  # what has other submissions stays
            for place in (folder / "jobs", folder / "logs", folder):
                place.rmdir()
        raise


def _sbatch(file: Path, text: str, *options: str) -> str:
    """Submit a script from its file; returns the job's number."""
    files.write(file, text.encode())
    return cluster.client("sbatch", "--parsable", *options, str(file)).strip().partition(";")[0]


def _name(manifest: Manifest) -> str:
    """A new name for a job."""
    return f"{manifest.path.parent.name}-{os.urandom(3).hex()}"


def new_submission(manifest: Manifest, site: Site, array: Sequence, out: Path) -> Submission:
    """A submission under a name of its own."""
    return Submission(
        name=_name(manifest),
        manifest=manifest.path.name,
        out=str(out),
        device=site.device,
        workers=site.packs,
        cores=site.cpus,
        checkpoint_seconds=site.checkpoint_seconds,
        tell_seconds=site.tell_seconds,
        tasks=list(array),
        submitted=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@contextmanager
def _alone(out: Path) -> Iterator[Ownership]:
    """One submission at a time below `out`: what one puts into the queue, the next one finds there."""
    folder = out / "slurm" / "lock"
    folder.mkdir(parents=True, exist_ok=True)
    lock, start = Ownership(folder, beat_seconds=5.0), time.monotonic()
    while True:
        try:
            lock.acquire()
            break
        except RunHeld as error:
            if time.monotonic() - start > PATIENCE:
                raise InputError(f"another submission has not ended for {PATIENCE:.0f} s: {error}") from error
            time.sleep(0.5)
    try:
        with beating([lock]):
            yield lock
    finally:
        lock.remove()

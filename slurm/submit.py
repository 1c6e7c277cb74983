"""Submit the missing runs of a manifest as array tasks of packs, followed by a job that makes the report."""

import os
import re
import socket
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from ascent.records import files
from ascent.records.errors import InputError, RunHeld, unknown
from ascent.records.ledger import declare
from ascent.records.ownership import Ownership, beating
from ascent.runners import estimate
from ascent.slurm import cluster, history, manifest, nodes, planning, scripts, submission
from ascent.slurm.cluster import Needs
from ascent.slurm.manifest import Manifest
from ascent.slurm.planning import EVERYTHING, Array, Chosen, Plan
from ascent.slurm.sites import Site, memory_bytes, seconds
from ascent.slurm.submission import RunKey, Submission

NO_NODE = "node configuration is not available"  # what SLURM says of sizes that no node in service has
FEED_SECONDS = 10.0  # between looks at a queue that is full
LOCK_SECONDS = 60.0  # time to wait for another submission to end


def check(site: Site, runs: Path) -> None:
    """Check a submission for what the cluster would reject, or accept but never run. Writes nothing.

    Raises:
        InputError: the template, the set-up, a partition, a time limit or the folder of runs cannot be used.
            Where there is no SLURM, nothing is known of partitions.
    """
    scripts.check(site)
    limits = cluster.partitions() if cluster.available() else {}
    for key, partition, time_limit in (
        ("time", site.partition, site.time),
        ("report_time", site.report_partition, site.report_time),
    ):
        for name in partition.split(",") if limits and partition else ():
            if name not in limits:
                raise unknown("partition", name, limits)
            if limits[name] != "infinite" and seconds(time_limit) > seconds(limits[name]):
                raise InputError(f"{key}: {time_limit} exceeds the limit of partition {name}, {limits[name]}")
    if set(str(runs)) & set(" \t\n%\\\"'"):
        raise InputError(f"{runs}: the path must not contain spaces, quotes, backslashes or %")
    folder = next(parent for parent in (runs, *runs.parents) if parent.exists())
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{folder} is not writable")
    kind = _file_system(folder)
    if limits and kind in ("tmpfs", "ramfs", "devtmpfs") and not _single_machine():
        raise InputError(f"{runs} is on a {kind}, which compute nodes cannot access")


def _file_system(folder: Path) -> str:
    """Return the type of the file system of a folder, or "" if /proc does not tell."""
    mount, kind = "", ""
    try:
        for line in Path("/proc/self/mounts").read_text().splitlines():
            _, place, name, *_ = line.split()
            if Path(place) in (folder, *folder.parents) and len(place) >= len(mount):
                mount, kind = place, name
    except OSError:
        pass
    return kind


def _single_machine() -> bool:
    """Return whether this machine is the whole cluster."""
    names = {socket.gethostname(), socket.gethostname().partition(".")[0], "127.0.0.1", "localhost"}
    nodes = cluster.client("sinfo", "--noheader", "--Node", "--format=%o").split()
    return set(nodes) <= names


def preview(planned: Manifest, site: Site, runs: Path, report: Path, chosen: Chosen = EVERYTHING) -> str:
    """Return the scripts and a table of what `send` would submit. Writes nothing."""
    todo = planning.plan(planned, site, runs, chosen=chosen)
    if not todo.arrays:
        return todo.summary()
    first = new_submission(planned, site, todo, todo.arrays[0], runs)
    lines = [
        scripts.job(planned, site, first),
        scripts.report(planned, site, f"{first.name}-report", runs, report),
        *_table(planned, todo, runs),
        *todo.notes(),
        todo.summary(),
    ]
    return "\n".join(lines)


def _table(planned: Manifest, todo: Plan, runs: Path) -> Iterator[str]:
    """Yield the lines of a table of runs, packs and core-hours by suite and algorithm."""
    rows: dict[tuple[str, str], tuple[int, int, float]] = {}
    for index, seeds in todo.packs():
        cell = planned.planned[index].cell
        hours = estimate.core_hours(cell, len(seeds), planned.replay[cell.digest] > 0, runs)
        count, packs, total = rows.get((cell.suite, cell.system), (0, 0, 0.0))
        rows[cell.suite, cell.system] = (count + len(seeds), packs + 1, total + hours)
    yield f"{'suite':12}{'algorithm':14}{'runs':>8}{'packs':>8}{'core-hours':>12}"
    for (suite, system), (count, packs, hours) in rows.items():
        yield f"{suite:12}{system:14}{count:8,}{packs:8,}{hours:12,.1f}"


def send(
    planned: Manifest,
    site: Site,
    runs: Path,
    report: Path | None,
    tried: Collection[RunKey] = (),
    chosen: Chosen = EVERYTHING,
) -> Plan:
    """Submit the missing runs that are not in the queue, and a job that makes the report in folder `report`.

    Without `report` there is no such job.

    Runs that were `tried` are left out. Returns what was submitted.

    Raises:
        InputError: nothing was submitted.
    """
    todo = planning.plan(planned, site, runs, tried, chosen)  # an error shows before anything is written
    if todo.arrays:
        test(planned, site, todo, runs, report)
    with _lock(runs) as lock:
        todo = planning.plan(planned, site, runs, tried, chosen)
        reports = submission.report_names(runs, planned.path.parent.name)
        if todo.arrays or (report and todo.queued_jobs and not todo.later and not cluster.queue(reports)):
            _send(planned, site, todo, runs, report, lock)
            todo.only_report = not todo.arrays
        history.prune(planned, runs)
    return todo


def feed(
    planned: Manifest,
    site: Site,
    runs: Path,
    report: Path | None,
    tell: Callable[[Plan], None],
    chosen: Chosen = EVERYTHING,
) -> None:
    """Submit until every missing run is in the queue or has been there, as `site.max_queued` allows.

    Of a sweep with a design, each stage is submitted when the one before has ended, until all is decided or
    nothing but failed runs is missing. `tell` is told each time what was submitted. Raises InputError as
    `send`.
    """
    tried: set[RunKey] = set()
    while True:
        sent = send(planned, site, runs, report, tried, chosen)
        tell(sent)
        for index, seeds in sent.packs():
            tried |= {(planned.planned[index].cell.digest, seed) for seed in seeds}
        if not sent.later:
            if planned.plan.design is None or not (sent.runs or sent.queued):
                return
            cells = {plan.cell.digest for plan in planned.planned}
            while any(digest in cells for digest, _ in submission.runs_in_queue(runs)):
                time.sleep(FEED_SECONDS)
            continue
        while planning.in_queue(runs) + site.chain >= site.max_queued - 1:
            time.sleep(FEED_SECONDS)


def test(planned: Manifest, site: Site, todo: Plan, runs: Path, report: Path | None) -> None:
    """Raise InputError if SLURM would refuse the jobs of a plan, or let them pend for ever."""
    where = Needs(site.partition, site.cores, 0, site.gpus, site.gpu_type, site.constraint, site.exclude)
    jobs = []
    for array in {array.mem: array for array in todo.arrays}.values():
        text = scripts.job(planned, site, new_submission(planned, site, todo, array, runs))
        jobs.append((text, replace(where, memory=memory_bytes(array.mem))))
    if report:
        text = scripts.report(planned, site, f"{_new_name(planned)}-report", runs, report)
        of_report = replace(where, cores=1, memory=memory_bytes(site.report_mem), gpus=0, gpu_type=None)
        jobs.append((text, replace(of_report, partitions=site.report_partition or site.partition)))
    with tempfile.TemporaryDirectory(prefix="ascent-test-") as folder:
        for text, needs in jobs:
            path = Path(folder) / "job.sh"
            path.write_text(text)
            try:
                cluster.client("sbatch", "--test-only", str(path))
            except InputError as error:
                if NO_NODE in str(error) and cluster.has_node(needs):
                    continue  # but it is out of service for now
                asked = re.findall(
                    r"#SBATCH (--(?:partition|account|qos|constraint|exclude|time|cpus|mem|gres)\S*)", text
                )
                raise InputError(f"{error} ({' '.join(asked)})") from error


def _send(
    planned: Manifest, site: Site, todo: Plan, runs: Path, report: Path | None, lock: Ownership
) -> None:
    """Submit all jobs of a plan, or, if one fails, take them all back and raise its error."""
    folder = planned.path.parent
    new = not planned.path.exists()
    sent = [
        new_submission(planned, site, todo, array, runs, goes_on=link < site.chain)
        for array in todo.arrays
        for link in range(site.chain + 1)
    ]
    name = f"{sent[0].name if sent else _new_name(planned)}-report"
    jobs: list[str] = []
    try:
        if new:
            manifest.write(planned)
        declare(planned.plan, runs)
        for place in ("jobs", "logs"):  # SLURM fails a task whose log folder does not exist
            (folder / place).mkdir(exist_ok=True)
        for sub in sent:
            sub.write()
            text = scripts.job(planned, site, sub)
            lock.check()
            before: Sequence[str] = []
            if site.max_parallel:
                # Each array has its own limit of tasks at once: for one limit they come one after another.
                before = jobs[-1:] or sorted(todo.queued_jobs)
            elif len(jobs) % (site.chain + 1):
                before = jobs[-1:]  # the job of the chain that this one goes on from
            jobs.append(_sbatch(sub.path.with_suffix(".sh"), text, *_after(before)))
            sub.write(job=jobs[-1])
        if todo.later or report is None:
            return  # the last submission makes the report
        lock.check()
        text = scripts.report(planned, site, name, runs, report)
        _sbatch(folder / "jobs" / f"{name}.sh", text, *_after([*jobs, *sorted(todo.queued_jobs)]))
    except BaseException as error:
        names = [*(sub.name for sub in sent), name]
        try:  # by name: a job may be in the queue although its number never came back
            cluster.client("scancel", f"--name={','.join(names)}")
        except InputError:
            raise error from None  # keep the files: they name the jobs in the queue
        for file in [file for name in names for file in (folder / "jobs").glob(f"{name}.*")]:
            file.unlink()
        if new:
            planned.path.unlink(missing_ok=True)
        with suppress(OSError):  # folders with other submissions stay
            for empty in (folder / "jobs", folder / "logs", folder):
                empty.rmdir()
        raise


def _after(jobs: Sequence[str]) -> list[str]:
    """Return the option that has a job wait until others have ended, however they end."""
    return [f"--dependency=afterany:{':'.join(jobs)}"] if jobs else []


def _sbatch(file: Path, text: str, *options: str) -> str:
    """Submit a script from a file, and return the job's number."""
    files.write(file, text.encode())
    return cluster.client("sbatch", "--parsable", *options, str(file)).strip().partition(";")[0]


def _new_name(planned: Manifest) -> str:
    """Return a job name that was never used."""
    return f"{planned.path.parent.name}-{os.urandom(3).hex()}"


def new_submission(
    planned: Manifest, site: Site, todo: Plan, array: Array, runs: Path, goes_on: bool = False
) -> Submission:
    """Return the record of a submission of one job array, under a new name."""
    return Submission(
        name=_new_name(planned),
        manifest=planned.path.name,
        out=str(runs),
        device=site.device,
        workers=site.packs,
        cores=site.cores,
        checkpoint_seconds=site.checkpoint_seconds,
        tell_seconds=site.tell_seconds,
        tasks=array.tasks,
        submitted=datetime.now(UTC).isoformat(timespec="seconds"),
        mem=array.mem,
        limit=site.time,
        exclude=nodes.joined(site.exclude, todo.faulty),
        steps=site.steps,
        keep_checkpoint=site.keep_checkpoint,
        goes_on=goes_on,
    )


@contextmanager
def _lock(runs: Path) -> Iterator[Ownership]:
    """Allow one submission at a time below `runs`, so that each sees the queued runs of the one before."""
    folder = runs / "slurm" / "lock"
    folder.mkdir(parents=True, exist_ok=True)
    lock, start = Ownership(folder, beat_seconds=5.0), time.monotonic()
    while True:
        try:
            lock.acquire()
            break
        except RunHeld as error:
            if time.monotonic() - start > LOCK_SECONDS:
                raise InputError(
                    f"another `ascent submit` is still running after {LOCK_SECONDS:.0f} s: {error}"
                ) from error
            time.sleep(0.5)
    try:
        with beating([lock]):
            yield lock
    finally:
        lock.remove()

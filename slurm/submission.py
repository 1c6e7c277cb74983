"""Records of submissions: one file per job array, written before the array is submitted.

    runs/slurm/<sweep>/jobs/<name>.json           the runs of each array task
    runs/slurm/<sweep>/jobs/<name>.sh             the script as submitted
    runs/slurm/<sweep>/logs/<name>-<i>.log        output of task i
    runs/slurm/<sweep>/failures/<name>-<i>.json   what failed in the last attempt of task i
    runs/slurm/<sweep>/jobs/ended.jsonl           a line for each array that is over: see `prune`

Job names are unique. A job is found in the queue by its name, even if its number was never recorded because
the submitting process was killed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from ascent.records import files
from ascent.records.errors import DamagedFile
from ascent.slurm import cluster
from ascent.slurm.manifest import Manifest
from ascent.slurm.manifest import read as read_manifest

Pack = tuple[int, tuple[int, ...]]  # index of a cell in the manifest, seeds
RunKey = tuple[str, int]  # digest of a cell, seed


@dataclass(frozen=True)
class Submission:
    """One job array."""

    name: str  # of the job
    manifest: str  # file name in the sweep's folder
    out: str  # folder of run records
    device: str
    workers: int  # packs that a task trains at a time
    cores: int  # of a task
    checkpoint_seconds: float
    tell_seconds: float
    tasks: list[list[Pack]]
    submitted: str  # time in ISO format
    mem: str = ""  # memory of a task; "" in records of early versions
    limit: str = ""  # time limit of a task
    goes_on: bool = False  # whether another job trains what this one leaves at the time limit
    exclude: str = ""  # nodes to stay away from
    steps: bool = False  # whether each pack is a step of SLURM's
    keep_checkpoint: bool = False  # at the end of each run
    job: str | None = None  # job number, once SLURM has assigned it

    @property
    def folder(self) -> Path:
        """Return the sweep's folder."""
        return Path(self.out) / "slurm" / self.name.rpartition("-")[0]

    @property
    def path(self) -> Path:
        """Return the file of this record."""
        return self.folder / "jobs" / f"{self.name}.json"

    def log(self, index: int | str) -> Path:
        """Return the log file of an array task."""
        return self.folder / "logs" / f"{self.name}-{index}.log"

    def failure(self, index: int) -> Path:
        """Return the file that lists the failures of an array task."""
        return self.folder / "failures" / f"{self.name}-{index}.json"

    def write(self, job: str | None = None) -> None:
        """Write this record, with the job number if SLURM has assigned it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, asdict(replace(self, job=job)))

    def planned(self) -> Manifest:
        """Return the manifest that the cells of the tasks are in."""
        return _read_manifest(self.folder / self.manifest)


_read_manifest = cache(read_manifest)  # shared by many arrays; manifests of one name have the same plan


def task_of(facts: Mapping[str, object]) -> tuple[object, object]:
    """Return what identifies an array task across restarts, from the environment or an attempt's record."""
    return facts.get("SLURM_ARRAY_JOB_ID"), facts.get("SLURM_ARRAY_TASK_ID")


def read(path: Path) -> Submission:
    """Read the record of a submission.

    Raises:
        DamagedFile, OSError: the file is damaged or cannot be read.
    """
    try:
        return Submission(**files.read_json(path))
    except TypeError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def names(runs: Path, sweep: str = "*") -> dict[str, Path]:
    """Return the files of the submissions of a sweep, or of all sweeps, below `runs`, by job name."""
    return {path.stem: path for path in sorted((runs / "slurm").glob(f"{sweep}/jobs/*.json"))}


def report_names(runs: Path, sweep: str) -> list[str]:
    """Return the names of the jobs that make a sweep's report."""
    return [path.stem for path in (runs / "slurm").glob(f"{sweep}/jobs/*-report.sh")]


def read_failures(path: Path) -> list[dict[str, Any]]:
    """Return the failures that an array task has recorded in its last attempt."""
    try:
        return files.read_json(path)["failures"]
    except FileNotFoundError:
        return []


def runs_in_queue(runs: Path) -> dict[RunKey, cluster.Task]:
    """Return the array task that trains, or will train, each run of any sweep below `runs`.

    Runs that have failed in a task that is still running are left out.
    """
    paths = names(runs)
    task_of_run: dict[RunKey, cluster.Task] = {}
    queued: dict[str, list[cluster.Task]] = {}
    for task in cluster.queue(paths):
        queued.setdefault(task.name, []).append(task)
    for name, tasks in queued.items():
        submission = read(paths[name])
        digests = [plan.cell.digest for plan in submission.planned().planned]
        for task in tasks:
            failures = [] if task.waits else read_failures(submission.failure(task.index))
            failed = {(failure["cell"], seed) for failure in failures for seed in failure["seeds"]}
            for cell, seeds in submission.tasks[task.index]:
                for run in {(digests[cell], seed) for seed in seeds} - failed:
                    if run not in task_of_run or not task.waits:  # of a chain, the job that runs counts
                        task_of_run[run] = task
    return task_of_run

"""What was sent to the cluster: a file for every job array, written before the array is submitted.

    runs/slurm/<sweep>/jobs/<name>.json     which runs each array task trains
    runs/slurm/<sweep>/jobs/<name>.sh       the script, as it was submitted
    runs/slurm/<sweep>/logs/<name>-<i>.log  what task i said
    runs/slurm/<sweep>/failures/<name>-<i>.json   what of task i failed at its last attempt

The job's name is its own: a job is found in the queue by it, also where its number was never recorded because
the submitting process was killed.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from ascent.records import files
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile
from ascent.slurm import cluster, manifest

Pack = tuple[int, tuple[int, ...]]  # index of a cell in the manifest, seeds


@dataclass(frozen=True)
class Submission:
    """One job array."""

    name: str  # of the job
    manifest: str  # file name, in the sweep's folder
    out: str  # the folder of run records
    device: str
    workers: int  # packs at a time in a task
    cores: int  # of a task
    checkpoint_seconds: float
    tell_seconds: float
    tasks: list[list[Pack]]
    submitted: str  # when
    job: str | None = None  # its number, once SLURM has given it

    @property
    def folder(self) -> Path:
        """The sweep's."""
        return Path(self.out) / "slurm" / self.name.rpartition("-")[0]

    @property
    def path(self) -> Path:
        return self.folder / "jobs" / f"{self.name}.json"

    def log(self, index: int | str) -> Path:
        return self.folder / "logs" / f"{self.name}-{index}.log"

    def failure(self, index: int) -> Path:
        return self.folder / "failures" / f"{self.name}-{index}.json"

    def write(self, **changes: object) -> "Submission":
        """Write it, changed."""
        changed = replace(self, **changes)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(self.path, asdict(changed))
        return changed

    def planned(self) -> manifest.Manifest:
        """The manifest that the tasks' cells are in."""
        return _read_manifest(self.folder / self.manifest)


_read_manifest = cache(manifest.read)  # of many arrays; one of the same name has the same plan


def task_of(facts: Mapping[str, object]) -> tuple[object, object]:
    """What names an array task, whatever its restarts: from the environment, or from an attempt's record."""
    return facts.get("SLURM_ARRAY_JOB_ID"), facts.get("SLURM_ARRAY_TASK_ID")


def read(path: Path) -> Submission:
    """The submission in a file. Raises DamagedFile or OSError."""
    try:
        return Submission(**files.read_json(path))
    except TypeError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error


def names(out: Path, sweep: str = "*") -> dict[str, Path]:
    """The submissions of a sweep, or of all, below `out`: file by name."""
    return {path.stem: path for path in sorted((out / "slurm").glob(f"{sweep}/jobs/*.json"))}


def reports(out: Path, sweep: str) -> list[str]:
    """The names of the jobs that make a sweep's report."""
    return [path.stem for path in (out / "slurm").glob(f"{sweep}/jobs/*-report.sh")]


def told(path: Path) -> list[dict]:
    """What a task that runs has told of its failures."""
    try:
        return files.read_json(path)["failures"]
    except FileNotFoundError:
        return []


def runs_in_queue(out: Path) -> dict[tuple[str, int], cluster.Task]:
    """The runs, (digest of the cell, seed), that an array task of any sweep below `out` trains or will: not
    those that have failed in it, though the task goes on with others.
    """
    files_of = names(out)
    found: dict[tuple[str, int], cluster.Task] = {}
    tasks: dict[str, list[cluster.Task]] = {}
    for task in cluster.queue(files_of):
        tasks.setdefault(task.name, []).append(task)
    for name, queued in tasks.items():
        submission = read(files_of[name])
        cells: list[Cell] = [plan.cell for plan in submission.planned().planned]
        for task in queued:
            failures = [] if task.waits else told(submission.failure(task.index))
            failed = {(failure["cell"], seed) for failure in failures for seed in failure["seeds"]}
            for cell, seeds in submission.tasks[task.index]:
                runs = {(cells[cell].digest, seed) for seed in seeds}
                found |= dict.fromkeys(runs - failed, task)
    return found

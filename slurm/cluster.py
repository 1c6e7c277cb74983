"""What the cluster says: SLURM's own commands, read in the forms that stay the same between its versions."""

import os
import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from ascent.records.errors import InputError

TIMEOUT = 60  # seconds; a controller that is down makes its clients wait
NAMES = 500  # of jobs that squeue is asked for in one go
# What a user has set for SLURM's commands by hand, or a job by being one, is not meant for ours.
FOREIGN = re.compile(r"(SLURM|SBATCH|SQUEUE|SINFO|SACCT|SCANCEL|SCONTROL)_(?!CONF$)")


@dataclass(frozen=True)
class Task:
    """An array task, or a job that is none (index -1), in the queue."""

    name: str  # of the job
    index: int
    job: str  # 1234 or 1234_5, as scancel takes it
    state: str  # PENDING, RUNNING, ...
    reason: str

    @property
    def waits(self) -> bool:
        """Whether none of its processes is at work."""
        return self.state in (
            "PENDING",
            "REQUEUED",
            "REQUEUE_HOLD",
            "REQUEUE_FED",
            "SPECIAL_EXIT",
            "SUSPENDED",
        )


def client(*words: str) -> str:
    """What one of SLURM's commands prints. Raises InputError with its reason in one line."""
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {words[0]} on the path: a login node of a SLURM cluster has it"
        ) from error
    except subprocess.TimeoutExpired as error:
        said = (error.stderr or b"").decode(errors="replace")  # bytes, whatever was asked for
        why = reason(said) if said else "SLURM's controller has not answered"
        raise InputError(f"{words[0]}: {why}, for {TIMEOUT} s") from error
    if done.returncode:
        raise InputError(f"{words[0]}: {reason(done.stderr or done.stdout)}")
    return done.stdout


def reason(said: str) -> str:
    """Why a command of SLURM refused, from its several lines."""
    lines = [re.sub(r"^\w+: (error: )?", "", line.strip()) for line in said.splitlines() if line.strip()]
    return "; ".join(line.rstrip(".") for line in dict.fromkeys(lines)) or "it gave no reason"


def queue(names: Iterable[str]) -> list[Task]:
    """The array tasks, and jobs that are none, that are pending or running under these names."""
    words = ["squeue", "--noheader", "--array", "--all", "--format=%j|%F|%K|%T|%r"]
    if not (names := set(names)):
        return []
    if len(names) <= NAMES:
        words.append(f"--name={','.join(sorted(names))}")
    tasks = []
    for line in client(*words).splitlines():
        name, job, index, state, why = line.strip().split("|", 4)
        if name not in names:
            continue
        number = int(index) if index.isdecimal() else -1
        tasks.append(Task(name, number, job if number < 0 else f"{job}_{index}", state, why))
    return tasks


def max_array_size() -> int:
    """An array's indices must be below this."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", client("scontrol", "show", "config"), re.M)
    size = int(found[1]) if found else 1001  # SLURM's default
    if size == 0:
        raise InputError("this cluster has no job arrays: its MaxArraySize is 0")
    return size


def partitions() -> dict[str, str]:
    """The partitions, and the time limit of each: SLURM's notation, or "infinite"."""
    lines = client("sinfo", "--noheader", "--all", "--format=%R|%l").split()
    return dict(line.split("|") for line in lines)


def ended(jobs: Iterable[str]) -> dict[str, str]:
    """How array tasks ended, by job id (1234_5): as accounting has it, else as the controller still knows it;
    those that neither knows are left out.
    """
    jobs = set(jobs)
    found = {}
    for array in sorted({job.partition("_")[0] for job in jobs}):
        try:
            rows = client("sacct", "-nPX", "-o", "JobID,State,ExitCode", "-j", array).splitlines()
            found |= {
                job: f"{state}, exit code {code}" for job, state, code in (row.split("|") for row in rows)
            }
        except InputError:  # no accounting here
            found |= _remembered(array)
    return {job: how for job, how in found.items() if job in jobs}


def _remembered(array: str) -> dict[str, str]:
    """The same for one array, as the controller has it until MinJobAge is over."""
    try:
        lines = client("scontrol", "--oneliner", "show", "job", array).splitlines()
    except InputError:
        return {}
    found = {}
    for line in lines:
        facts = dict(re.findall(r"(\w+)=(\S+)", line))
        if facts.get("ArrayTaskId", "").isdecimal():
            how = f"{facts['JobState']}, exit code {facts['ExitCode']}"
            found[f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}"] = how
    return found

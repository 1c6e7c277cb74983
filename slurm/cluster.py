"""What the cluster says: SLURM's own commands, read in the forms that stay the same between its versions."""

import re
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass

from runners.errors import InputError

TIMEOUT = 60  # seconds; a controller that is down makes its clients wait


@dataclass(frozen=True)
class Task:
    """An array task, or a job that is none (index -1), in the queue."""

    name: str  # of the job
    index: int
    job: str  # 1234 or 1234_5, as scancel takes it
    state: str  # PENDING, RUNNING, ...
    reason: str
    node: str
    user: str

    @property
    def waits(self) -> bool:
        """Whether it holds no node."""
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
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT)
    except FileNotFoundError as error:
        raise InputError(
            f"there is no {words[0]} on the path: a login node of a SLURM cluster has it"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{words[0]}: SLURM's controller has not answered for {TIMEOUT} s") from error
    if done.returncode:
        raise InputError(f"{words[0]}: {reason(done.stderr or done.stdout)}")
    return done.stdout


def reason(said: str) -> str:
    """Why a command of SLURM refused, from its several lines."""
    lines = [re.sub(r"^\w+: (error: )?", "", line.strip()) for line in said.splitlines() if line.strip()]
    return "; ".join(line.rstrip(".") for line in dict.fromkeys(lines)) or "it gave no reason"


def queue(names: Iterable[str] | None = None) -> list[Task]:
    """The array tasks that are pending or running, of the jobs of these names or of all."""
    words = ["squeue", "--noheader", "--array", "--format=%j|%F|%K|%T|%r|%N|%u"]
    if names is not None:
        if not (names := list(names)):
            return []
        words.append(f"--name={','.join(names)}")
    tasks = []
    for line in client(*words).splitlines():
        name, job, index, state, why, node, user = line.strip().split("|")
        number = int(index) if index.isdecimal() else -1
        tasks.append(Task(name, number, job if number < 0 else f"{job}_{index}", state, why, node, user))
    return tasks


def max_array_size() -> int:
    """An array's indices must be below this."""
    found = re.search(r"^MaxArraySize\s*=\s*(\d+)", client("scontrol", "show", "config"), re.M)
    return int(found[1]) if found else 1001  # SLURM's default


def partitions() -> dict[str, bool]:
    """The partitions' names, and whether each is the default."""
    lines = client("sinfo", "--noheader", "--format=%P").split()
    return {line.rstrip("*"): line.endswith("*") for line in lines}


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

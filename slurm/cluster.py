"""Run SLURM's commands with output formats that are the same in all of its versions."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from ascent.records.errors import InputError

TIMEOUT = 60  # seconds; clients of a controller that is down wait
MAX_JOBS = 200  # jobs in one call of sacct
MAX_NAMES = 500  # job names in one call of squeue
# Settings that a user made for interactive SLURM commands, or that we inherit from a job that we run in.
FOREIGN = re.compile(r"(SLURM|SBATCH|SQUEUE|SINFO|SACCT|SCANCEL|SCONTROL)_(?!CONF$)")
WAITING = ("PENDING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT", "SUSPENDED")


@dataclass(frozen=True)
class Task:
    """An array task in the queue, or a job that is not an array (index -1)."""

    name: str  # of the job
    index: int
    job: str  # 1234 or 1234_5, as scancel takes it
    state: str  # PENDING, RUNNING, ...
    reason: str

    @property
    def waits(self) -> bool:
        """Return whether no process of the task is running."""
        return self.state in WAITING


def absent(command: str) -> InputError:
    """Return the error for a machine without one of SLURM's commands."""
    return InputError(f"{command} is not on the PATH: run this on a login node of a SLURM cluster")


def available() -> bool:
    """Return whether this machine has SLURM's commands."""
    return shutil.which("sbatch") is not None


def ignored() -> list[str]:
    """Return the variables with the user's own options for sbatch, which have no effect."""
    return sorted(name for name in os.environ if name.startswith("SBATCH_"))


def client(*words: str) -> str:
    """Run one of SLURM's commands and return its output.

    Raises:
        InputError: the command is missing, fails or times out; the message is its reason in one line.
    """
    environment = {name: value for name, value in os.environ.items() if not FOREIGN.match(name)}
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT, env=environment)
    except FileNotFoundError as error:
        raise absent(words[0]) from error
    except subprocess.TimeoutExpired as error:
        output = (error.stderr or b"").decode(errors="replace")  # bytes in spite of text=True
        why = f": {reason(output)}" if output else ""
        raise InputError(f"{words[0]}: SLURM did not answer within {TIMEOUT} s{why}") from error
    if done.returncode:
        raise InputError(f"{words[0]}: {reason(done.stderr or done.stdout)}")
    return done.stdout


def reason(output: str) -> str:
    """Return, in one line, why a SLURM command failed."""
    lines = [
        re.sub(r"^(\w+: (error: )?|allocation failure: )", "", line.strip())
        for line in output.splitlines()
        if line.strip()
    ]
    return "; ".join(line.rstrip(".") for line in dict.fromkeys(lines)) or "no error message"


def queue(names: Iterable[str]) -> list[Task]:
    """Return the pending and running array tasks, and jobs that are not arrays, with these job names."""
    names = set(names)
    if not names:
        return []
    words = ["squeue", "--noheader", "--array", "--all", "--format=%j|%F|%K|%T|%r"]
    if len(names) <= MAX_NAMES:
        words.append(f"--name={','.join(sorted(names))}")
    tasks = []
    for line in client(*words).splitlines():
        name, job, index, state, why = line.strip().split("|", 4)
        if name not in names:
            continue
        number = int(index) if index.isdecimal() else -1
        tasks.append(Task(name, number, job if number < 0 else f"{job}_{index}", state, why))
    return tasks


def stay_away(job: str, nodes: str) -> None:
    """Have the waiting tasks of a job stay away from some nodes.

    Raises:
        InputError: SLURM does not do this for all of the job's tasks: it cannot for those that run.
    """
    client("scontrol", "update", f"JobId={job}", f"ExcNodeList={nodes}")


def max_array_size() -> int:
    """Return the cluster's MaxArraySize; array indices must be below it."""
    match = re.search(r"^MaxArraySize\s*=\s*(\d+)", client("scontrol", "show", "config"), re.M)
    size = int(match[1]) if match else 1001  # SLURM's default
    if size == 0:
        raise InputError("job arrays are disabled (MaxArraySize is 0)")
    return size


def partitions() -> dict[str, str]:
    """Return the time limit of each partition, in SLURM's notation or "infinite"."""
    lines = client("sinfo", "--noheader", "--all", "--format=%R|%l").split()
    return dict(line.split("|") for line in lines)


@dataclass(frozen=True)
class Needs:
    """What a job needs of a node. `partitions`, `feature` and `excluded` are as sbatch takes them."""

    partitions: str | None
    cores: int
    memory: int  # in bytes
    gpus: int = 0
    gpu_type: str | None = None
    feature: str | None = None
    excluded: str | None = None


def has_node(needs: Needs) -> bool:
    """Return whether the cluster has such a node, in service or not.

    An expression of several features is not looked at.
    """
    asked = set(needs.partitions.split(",")) if needs.partitions else set()
    barred = set(client("scontrol", "show", "hostnames", needs.excluded).split()) if needs.excluded else set()
    feature = needs.feature if needs.feature and re.fullmatch(r"\w+", needs.feature) else None
    kind = rf"gpu:{re.escape(needs.gpu_type)}:(\d+)" if needs.gpu_type else r"gpu:(?:[^:,()]+:)?(\d+)"
    for line in client("sinfo", "--noheader", "--all", "--Node", "--format=%R|%c|%m|%G|%f|%N").splitlines():
        partition, cores, megabytes, resources, features, name = line.strip().split("|")
        gpus = sum(map(int, re.findall(kind, resources)))
        large = int(cores) >= needs.cores and int(megabytes) << 20 >= needs.memory and gpus >= needs.gpus
        fits = feature is None or feature in features.split(",")
        if large and fits and name not in barred and (not asked or partition in asked):
            return True
    return False


def ended(jobs: Iterable[str]) -> dict[str, str]:
    """Return how array tasks ended, by job id (1234_5).

    Accounting is asked first, then the controller. Tasks that neither knows are left out.
    """
    jobs = set(jobs)
    outcomes: dict[str, str] = {}
    arrays = sorted({job.partition("_")[0] for job in jobs})
    try:
        for job, state, code in accounts(arrays, "JobID,State,ExitCode", "-X"):
            outcomes[job] = f"{state}, exit code {code}"
    except InputError:  # this cluster has no accounting
        for array in arrays:
            outcomes |= _remembered(array)
    return {job: outcome for job, outcome in outcomes.items() if job in jobs}


def accounts(jobs: Sequence[str], fields: str, *options: str) -> Iterator[list[str]]:
    """Yield what SLURM's accounting has of jobs: the values of some comma-separated fields, a list per job.

    Raises:
        InputError: there is no accounting, or it does not answer.
    """
    for start in range(0, len(jobs), MAX_JOBS):
        chosen = ",".join(jobs[start : start + MAX_JOBS])
        for row in client("sacct", "-nP", *options, "-o", fields, "-j", chosen).splitlines():
            yield row.split("|")


def _remembered(array: str) -> dict[str, str]:
    """Return how the tasks of an array ended according to the controller, which forgets after MinJobAge."""
    try:
        lines = client("scontrol", "--oneliner", "show", "job", array).splitlines()
    except InputError:
        return {}
    outcomes = {}
    for line in lines:
        facts = dict(re.findall(r"(\w+)=(\S+)", line))
        if facts.get("ArrayTaskId", "").isdecimal():
            job = f"{facts['ArrayJobId']}_{facts['ArrayTaskId']}"
            outcomes[job] = f"{facts['JobState']}, exit code {facts['ExitCode']}"
    return outcomes

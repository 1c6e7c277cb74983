"""The settings of a site: one TOML file, which keeps the command line short.

    partition = "cpu"         # or a list, "cpu,long"; every key is optional; the same option of `ascent
                              # submit` overrides it
    account = "rl"
    qos = "normal"
    constraint = "zen4"       # nodes of one processor class; results are identical only within one class
    exclude = "node[3-4]"     # nodes to stay away from, besides those on which two tasks in a row failed
    time = "04:00:00"         # time limit per array task; tasks that reach it are requeued
    gpus = 0                  # GPUs per array task
    packs_per_gpu = 1         # packs of seeds that a GPU trains at a time
    gpu_type = "h100"         # if a partition has GPUs of several types
    cpus = 1                  # cores per array task; without GPUs, each trains one pack of seeds; with GPUs,
                              # default: one per pack, and more of them step environments
    mem = "8G"                # memory per array task; default: estimated from its packs
    max_mem = "64G"           # what is killed for its memory gets twice as much the next time, up to this;
                              # default: four times the first request
    pack = 10                 # seeds per process; 0: chosen by algorithm and device
    max_parallel = 100        # maximum number of array tasks of a sweep that run at once; 0: no limit
    max_queued = 500          # jobs in the queue, of all sweeps in a folder of runs, as MaxSubmitJobs allows;
                              # 0: no limit; `ascent submit --feed` submits the rest as there is room
    chain = 0                 # further jobs behind each array that go on at its time limit, for nodes from
                              # which no job can be requeued (without scontrol)
    steps = false             # make each pack a step (srun): SLURM accounts for it and binds it to its cores
    setup = "setup.sh"        # shell lines after which `python` has this package; default: this Python
    container = "ascent.sif"  # Apptainer image whose `python` has this package; the set-up runs outside of it
    template = "job.sh.jinja" # job script template; default: slurm/job.sh.jinja
    extra = ["--licenses=x"]  # more options for sbatch, for the report's job, too; values may have blanks
    warn_seconds = 120        # time before the limit at which checkpoints are written and a task is requeued
    checkpoint_seconds = 300  # time between checkpoints
    keep_checkpoint = false   # keep a checkpoint at the end of each run, for `ascent train --extend`
    tell_seconds = 20         # time between heartbeats; after four missed ones another job may take over
    report_partition = "cpu"  # partition of the report job; default: partition
    report_time = "01:00:00"
    report_mem = "4G"

Paths are relative to the file.
"""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ascent.records.errors import InputError, unknown

EARLY_SECONDS = 30  # SLURM's warning may come this much too early
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Options of sbatch that are not for `extra`: the key that sets them; "" for those that carry a sweep's jobs.
SETTINGS = {
    "partition": "partition", "account": "account", "qos": "qos", "constraint": "constraint", "time": "time",
    "mem": "mem", "mem-per-cpu": "mem", "mem-per-gpu": "mem", "cpus-per-task": "cpus", "gpus": "gpus",
    "gpus-per-node": "gpus", "gpus-per-task": "gpus", "exclude": "exclude",
    "array": "", "job-name": "", "output": "", "open-mode": "", "requeue": "", "no-requeue": "", "signal": "",
    "dependency": "", "wrap": "", "wait": "", "parsable": "", "test-only": "", "nodes": "", "ntasks": "",
}  # fmt: skip
SHORT = {
    "p": "partition", "A": "account", "q": "qos", "C": "constraint", "t": "time", "c": "cpus-per-task",
    "G": "gpus", "a": "array", "J": "job-name", "o": "output", "d": "dependency", "W": "wait", "N": "nodes",
    "n": "ntasks", "x": "exclude",
}  # fmt: skip
PLACES = (Path("slurm.toml"), Path("~/.config/ascent/slurm.toml"))  # the first that exists is used


def seconds(text: str) -> int:
    """Parse SLURM's notations of time: M, M:S, H:M:S, D-H, D-H:M, D-H:M:S.

    Raises:
        ValueError: not such a time.
    """
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise ValueError(f"{text!r} is not a time such as 04:00:00 or 1-12:00:00")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:  # hours come first
        parts += [0] * (3 - len(parts))
    elif len(parts) == 1:  # minutes
        parts = [0, *parts, 0]
    elif len(parts) == 2:  # minutes and seconds
        parts = [0, *parts]
    return int(days or 0) * 86400 + parts[0] * 3600 + parts[1] * 60 + parts[2]


def memory_bytes(text: str) -> int:
    """Parse SLURM's notation of memory: a whole number of megabytes, or one with K, M, G or T.

    Raises:
        ValueError: not such an amount, or 0.
    """
    match = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if not match or not int(match[1]):
        raise ValueError(f"{text!r} is not an amount of memory such as 8G or 512M")
    return int(match[1]) * UNITS[match[2] or "M"]


def _time(text: str) -> str:
    seconds(text)
    return text


def _memory(text: str) -> str:
    memory_bytes(text)
    return text


def _word(text: str) -> str:
    if not re.fullmatch(r"\S+", text):
        raise ValueError(f"{text!r} must be one word")
    return text


def _extra(text: str) -> str:
    """Refuse an option that this project sets, or whose value is a setting; sbatch takes any beginning."""
    match = re.fullmatch(r"--([a-z][a-z-]*)(=[^\n]+)?|-([A-Za-z])(.*)", text)
    if not match:
        raise ValueError(f"{text!r} is not an option such as --licenses=x")
    name = match[1] or SHORT.get(match[3], "")
    for setting, key in SETTINGS.items():
        if name and setting.startswith(name):
            raise ValueError(f"{text!r} is set by " + (f"the key {key}" if key else "`ascent submit` itself"))
    return text


Word = Annotated[str, AfterValidator(_word)]
Time = Annotated[str, AfterValidator(_time)]
Extra = Annotated[str, AfterValidator(_extra)]
Memory = Annotated[str, AfterValidator(_memory)]


class Site(BaseModel):
    """The settings of a submission, described at the top of this file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    exclude: Word | None = None
    time: Time = "04:00:00"
    gpus: int = Field(0, ge=0)
    packs_per_gpu: int = Field(1, ge=1)
    gpu_type: Word | None = None
    cpus: int | None = Field(None, ge=1)
    mem: Memory | None = None
    max_mem: Memory | None = None
    pack: int = Field(0, ge=0)
    max_parallel: int = Field(0, ge=0)
    max_queued: int = Field(0, ge=0)
    chain: int = Field(0, ge=0, le=100)
    steps: bool = False
    setup: str | None = None
    container: str | None = None
    template: str | None = None
    extra: list[Extra] = []
    warn_seconds: int = Field(120, ge=1)
    checkpoint_seconds: float = Field(300.0, ge=0, lt=float("inf"))
    keep_checkpoint: bool = False
    tell_seconds: float = Field(20.0, gt=0, lt=float("inf"))
    report_partition: Word | None = None
    report_time: Time = "01:00:00"
    report_mem: Memory = "4G"

    @property
    def device(self) -> str:
        """Return the device that trains the runs, "cpu" or "cuda"."""
        return "cuda" if self.gpus else "cpu"

    @property
    def packs(self) -> int:
        """Return how many packs of seeds an array task trains at a time."""
        return self.gpus * self.packs_per_gpu or self.cpus or 1

    @property
    def cores(self) -> int:
        """Return the number of cores of an array task."""
        return self.cpus or self.packs


def load(file: Path | None, options: Mapping[str, object]) -> Site:
    """Load a site's file, by default the first of `PLACES` that exists. Options that are not None win.

    Raises:
        InputError: an invalid setting; the message names the file and the key, or the option.
    """
    path = file or next((place.expanduser() for place in PLACES if place.expanduser().exists()), None)
    values: dict[str, object] = {}
    if path:
        try:
            values = tomllib.loads(path.read_text("utf-8-sig"))
        except OSError as error:
            raise InputError(f"{path}: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}: {error}") from error
        _checked(values, f"{path}: ")
        for key in ("setup", "container", "template"):
            if key in values:
                values[key] = str(path.parent / Path(str(values[key])).expanduser())
    site = _checked(values | {key: value for key, value in options.items() if value is not None}, "")
    if site.gpus and site.cores < site.packs:
        raise InputError(f"cpus: {site.cores} cores are too few for {site.packs} packs on {site.gpus} GPUs")
    if 0 < site.max_queued < site.chain + 2:
        raise InputError(
            f"max_queued: {site.max_queued} has no room for a task{' with its chain' if site.chain else ''} "
            f"beside the report's job: use at least {site.chain + 2}"
        )
    if site.mem and site.max_mem and memory_bytes(site.max_mem) < memory_bytes(site.mem):
        raise InputError(f"max_mem: {site.max_mem} is less than mem, {site.mem}")
    if site.steps and site.container:
        raise InputError("steps: a pack in a container cannot be a step; leave one of them out")
    least = site.warn_seconds + EARLY_SECONDS
    if seconds(site.time) <= least:
        raise InputError(f"time must exceed {least} s (warn_seconds + {EARLY_SECONDS}), not {site.time!r}")
    return site


def _checked(values: dict[str, object], where: str) -> Site:
    """Validate settings; errors begin with `where`."""
    for key in values:
        if key not in Site.model_fields:
            error = unknown("key", key, Site.model_fields)
            raise InputError(f"{where}{error}")
    try:
        return Site.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        value = repr(first["input"])
        hint = "" if value in message else f", not {value}"
        raise InputError(f"{where}{key}: {message}{hint}") from error

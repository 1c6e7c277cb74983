"""What a site asks of its jobs: one TOML file, so that the command line stays short.

partition = "cpu"         # every key is optional, and an option of `ascent submit` of that name goes first
account = "rl"
qos = "normal"
constraint = "zen4"       # nodes of one processor class: only they promise the same bytes
time = "04:00:00"         # of an array task, which is requeued when it is up
gpus = 0                  # per array task: one pack of seeds on each
gpu_type = "h100"         # which, where a partition has several kinds
cpus = 1                  # per array task: one pack of seeds on each, unless there are GPUs
mem = "8G"                # per array task; what its packs will need if left out
pack = 10                 # seeds in one process; 0: what suits the algorithm and the device
max_parallel = 100        # array tasks that may run at once; 0: no limit
setup = "setup.sh"        # shell lines that make `python` one that has this project; this Python if left out
template = "job.sh.jinja" # in place of slurm/job.sh.jinja
math = "auto"             # "portable": AVX2 on every processor, at half the speed of products; see README.md
extra = ["--licenses=x"]  # more options of sbatch
warn_seconds = 120        # before the time is up: checkpoints are written and the task is requeued
checkpoint_seconds = 300  # between checkpoints
tell_seconds = 20         # between a run's signs of life; after four without one another job may take it over
report_partition = "cpu"  # where the report is made, if not in `partition`
report_time = "01:00:00"
report_mem = "4G"

Paths are relative to the file.
"""

import re
import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from ascent.records.errors import InputError, unknown

EARLY = 30  # seconds by which SLURM's warning may come before its time
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
PLACES = (Path("slurm.toml"), Path("~/.config/ascent/slurm.toml"))  # where a site's file is looked for


def seconds(text: str) -> int:
    """SLURM's notations of time: minutes, M:S, H:M:S, D-H, D-H:M, D-H:M:S. Raises ValueError."""
    if not re.fullmatch(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}", text):
        raise ValueError(f"{text!r} is no time such as 04:00:00 or 1-12:00:00")
    days, dash, rest = text.rpartition("-")
    parts = [int(part) for part in rest.split(":")]
    if dash:
        hours, minutes, left = (*parts, 0, 0)[:3]
    else:
        hours, minutes, left = {1: (0, *parts, 0), 2: (0, *parts), 3: parts}[len(parts)]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + left


def memory_bytes(text: str) -> int:
    """SLURM's notation of memory: a whole number of megabytes, or with K, M, G or T. Raises ValueError."""
    found = re.fullmatch(r"(\d+)([KMGT]?)", text.upper())
    if not found or not int(found[1]):
        raise ValueError(f"{text!r} is no amount of memory such as 8G or 512M")
    return int(found[1]) * UNITS[found[2] or "M"]


def _time(text: str) -> str:
    seconds(text)
    return text


def _memory(text: str) -> str:
    memory_bytes(text)
    return text


def _one_line(text: str) -> str:
    if not re.fullmatch(r"\S+", text):
        raise ValueError(f"{text!r} must be one word")
    return text


Word = Annotated[str, AfterValidator(_one_line)]
Time = Annotated[str, AfterValidator(_time)]
Memory = Annotated[str, AfterValidator(_memory)]


class Site(BaseModel):
    """The settings of a submission; see the top of this file."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    time: Time = "04:00:00"
    gpus: int = Field(0, ge=0)
    gpu_type: Word | None = None
    cpus: int = Field(1, ge=1)
    mem: Memory | None = None
    pack: int = Field(0, ge=0)
    max_parallel: int = Field(0, ge=0)
    setup: str | None = None
    template: str | None = None
    math: Literal["auto", "portable"] = "auto"
    extra: list[Word] = []
    warn_seconds: int = Field(120, ge=1)
    checkpoint_seconds: float = Field(300.0, ge=0, lt=float("inf"))
    tell_seconds: float = Field(20.0, gt=0, lt=float("inf"))
    report_partition: Word | None = None
    report_time: Time = "01:00:00"
    report_mem: Memory = "4G"

    @property
    def device(self) -> str:
        """The device that the runs train on."""
        return "cuda" if self.gpus else "cpu"

    @property
    def packs(self) -> int:
        """Packs of seeds that an array task trains at a time."""
        return self.gpus or self.cpus


def load(file: Path | None, options: dict[str, object]) -> Site:
    """The site's file, or the first of `PLACES` that exists, changed by the `options` that are not None.

    Raises InputError that names the file and the key, or the option.
    """
    path = file or next((place.expanduser() for place in PLACES if place.expanduser().exists()), None)
    values: dict[str, object] = {}
    if path:
        try:
            values = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}") from error
        _checked(values, f"{path}: ")
        values |= {
            key: str(path.parent / Path(values[key]).expanduser())
            for key in ("setup", "template")
            if key in values
        }
    site = _checked(values | {key: value for key, value in options.items() if value is not None}, "")
    if seconds(site.time) <= site.warn_seconds + EARLY:
        least = f"warn_seconds, {site.warn_seconds}, and {EARLY} s"
        raise InputError(f"time: {site.time} must be longer than {least}")
    return site


def _checked(values: dict[str, object], where: str) -> Site:
    for key in values:
        if key not in Site.model_fields:
            error = unknown("key", key, Site.model_fields)
            raise InputError(f"{where}{error}")
    try:
        return Site(**values)
    except ValidationError as error:
        first = error.errors()[0]
        key, message = ".".join(str(part) for part in first["loc"]), first["msg"]
        message = message.removeprefix("Value error, ")
        raise InputError(
            f"{where}{key}: {message}"
            + ("" if repr(first["input"]) in message else f", not {first['input']!r}")
        ) from error

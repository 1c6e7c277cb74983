"""What is wanted, and what is missing of it: cells with their seeds, and jobs of some seeds each."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ascent.records.cell import Cell
from ascent.records.errors import InputError


@dataclass(frozen=True)
class Planned:
    """A cell and the seeds that are wanted of it."""

    cell: Cell
    seeds: tuple[int, ...]


@dataclass(frozen=True)
class Job:
    """What one process is to train."""

    cell: Cell
    seeds: tuple[int, ...]
    out: Path
    device: str = "cpu"
    checkpoint_seconds: float = 60.0
    threads: int = 1  # that step the environments
    tell_seconds: float = 1.0  # between the signs of life of a run
    keep_policies: int = 0  # the policy of every so many evaluations; 0: the final one alone

    def to_json(self) -> str:
        # What is as ever is left out: sources of an older commit, which `ascent verify` runs, know less.
        told = {x.name: getattr(self, x.name) for x in fields(self) if getattr(self, x.name) != x.default}
        return json.dumps({**told, "cell": asdict(self.cell), "out": str(self.out)})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        values = json.loads(text)
        cell, out = Cell.from_json(values.pop("cell")), Path(values.pop("out"))
        return cls(cell, tuple(values.pop("seeds")), out, **values)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds from "0-9" or "0,2,5-7". Raises InputError for what is no such list, and for duplicates."""
    seeds: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise InputError(
                f"seeds: {piece.strip()!r} is no seed (a whole number from 0 up) and no range like 0-9"
            )
        low, high = int(first), int(last or first)
        if high < low:
            raise InputError(f"seeds: the range {piece.strip()!r} is empty")
        if high - low >= 100_000:
            raise InputError(f"seeds: the range {piece.strip()!r} has more than 100,000 seeds")
        seeds += range(low, high + 1)
    check_seeds(seeds)
    return tuple(seeds)


def check_seeds(seeds: Sequence[object]) -> None:
    """Raises InputError unless these are different whole numbers from 0 to 2**32 - 1, and at least one."""
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise InputError(f"seeds: {seed!r} must be a whole number from 0 to {2**32 - 1}")
    duplicates = [seed for seed, times in Counter(seeds).items() if times > 1]
    if duplicates:
        raise InputError(f"seeds: {duplicates[0]} is there twice")
    if not seeds:
        raise InputError("seeds: there are none")


def jobs_of(
    planned: Sequence[Planned],
    out: Path,
    pack: int,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    keep_policies: int = 0,
) -> list[Job]:
    """The missing runs as jobs of at most `pack` seeds."""
    if pack < 1:
        raise InputError(f"pack: {pack} must be at least 1")
    jobs = []
    for plan in planned:
        missing = [seed for seed in plan.seeds if not plan.cell.is_finished(seed, out)]
        for start in range(0, len(missing), pack):
            seeds = tuple(missing[start : start + pack])
            job = Job(plan.cell, seeds, out, device, checkpoint_seconds, keep_policies=keep_policies)
            jobs.append(job)
    return jobs

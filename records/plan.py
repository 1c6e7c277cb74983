"""Plans: cells with the seeds to train, and the jobs that train what is missing of them."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from ascent.records.cell import FIRST_TUNING_SEED, Cell
from ascent.records.declared import Declared, Design
from ascent.records.errors import InputError

MOST_SEEDS = 100_000  # in one range
MOST_DIGITS = 40  # of a range with its blanks


@dataclass(frozen=True)
class Planned:
    """A cell and the seeds to train.

    `name` is what the sweep calls the system; the same name on several tasks is the same system. `grid` is
    the name of the system of whose grid it is one setting. Both are "" where the sweep has none.
    """

    cell: Cell
    seeds: tuple[int, ...]
    name: str = ""
    grid: str = ""

    def label(self) -> str:
        """Return task and name of the system and of the cell, for messages and tables."""
        return f"{self.cell.task} {self.name} ({self.cell.name})" if self.name else self.cell.label()


@dataclass(frozen=True)
class Plan:
    """All that is declared before the first run: cells and seeds, and what the report will say.

    `tables` are further tables of a sweep's file, which later versions may read. `name` is that of the sweep,
    "" without one; it declares nothing.
    """

    planned: tuple[Planned, ...]
    declared: Declared = field(default_factory=Declared)
    tables: dict[str, Any] = field(default_factory=dict)
    name: str = field(default="", compare=False)

    @property
    def design(self) -> Design | None:
        """The stages in which the seeds are trained; None: all at once."""
        return Design.of(self.tables)


@dataclass(frozen=True)
class Job:
    """The work of one training process: some seeds of one cell."""

    cell: Cell
    seeds: tuple[int, ...]
    out: Path  # the folder of run records
    device: str = "cpu"
    checkpoint_seconds: float = 60.0
    threads: int = 1  # threads that step the environments
    tell_seconds: float = 1.0  # interval between a run's heartbeats
    keep_policies: int = 0  # keep the policy of every n-th evaluation; 0: the final policy only
    plan: str = ""  # digest of the plan that the runs belong to; see ledger.py
    keep_checkpoint: bool = False  # keep a checkpoint at the end of the budget

    def to_json(self) -> str:
        """Return the job as JSON. Defaults are left out: the recorded sources of an older version, which
        `ascent verify` runs, know fewer fields.
        """
        values = {x.name: getattr(self, x.name) for x in fields(self) if getattr(self, x.name) != x.default}
        if self.cell.algorithm_file:
            values["algorithm_file"] = str(self.cell.algorithm_file)
        return json.dumps({**values, "cell": self.cell.to_json(), "out": str(self.out)})

    @classmethod
    def from_json(cls, text: str) -> "Job":
        """Return the job that `to_json` wrote."""
        values = json.loads(text)
        cell, out = Cell.from_json(values.pop("cell")), Path(values.pop("out"))
        if "algorithm_file" in values:
            cell = replace(cell, algorithm_file=Path(values.pop("algorithm_file")))
        return cls(cell, tuple(values.pop("seeds")), out, **values)


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds in a list such as "0-9" or "0,2,5-7".

    Raises:
        InputError: the text is no such list, or as `check_seeds`.
    """
    seeds: list[int] = []
    for piece in text.split(","):
        first, dash, last = piece.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(piece) > MOST_DIGITS:
            raise InputError(
                f"seeds: {piece.strip()[:MOST_DIGITS]!r} is neither a whole number nor a range such as 0-9"
            )
        low, high = int(first), int(last or first)
        if high < low:
            raise InputError(f"seeds: the range {piece.strip()!r} runs backwards")
        if high - low >= MOST_SEEDS:
            raise InputError(f"seeds: the range {piece.strip()!r} has more than {MOST_SEEDS:,} seeds")
        seeds += range(low, high + 1)
    check_seeds(seeds)
    return tuple(seeds)


def check_seeds(seeds: Sequence[object]) -> None:
    """Raise InputError unless there is at least one seed, all are different whole numbers below 2**32, and
    tuning seeds are not mixed with reporting seeds.
    """
    kinds: dict[bool, int] = {}  # the first tuning seed and the first reporting seed
    for seed in seeds:
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 2**32:
            raise InputError(f"seeds must be whole numbers from 0 to {2**32 - 1}, not {seed!r}")
        kinds.setdefault(seed >= FIRST_TUNING_SEED, seed)
    if len(kinds) == 2:
        raise InputError(
            f"seeds: {kinds[False]} and {kinds[True]} must be in separate commands or sweeps: "
            f"seeds from {FIRST_TUNING_SEED} up are for tuning"
        )
    duplicates = [seed for seed, count in Counter(seeds).items() if count > 1]
    if duplicates:
        raise InputError(f"seeds: {duplicates[0]} is listed twice")
    if not seeds:
        raise InputError("no seeds given")


def seed_ranges(seeds: Sequence[int]) -> str:
    """Return seeds in the form of the command line: (0, 1, 2, 5) -> "0-2,5"."""
    parts: list[list[int]] = []
    for seed in sorted(seeds):
        if parts and seed == parts[-1][-1] + 1:
            parts[-1].append(seed)
        else:
            parts.append([seed])
    return ",".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def jobs_of(
    planned: Sequence[Planned],
    runs: Path,
    pack: int,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    keep_policies: int = 0,
    declared: str = "",
    keep_checkpoint: bool = False,
) -> list[Job]:
    """Return the missing runs as jobs of at most `pack` seeds; `declared` is the digest of their plan."""
    if pack < 1:
        raise InputError(f"pack must be at least 1, not {pack}")
    jobs = []
    for plan in planned:
        missing = plan.cell.missing(plan.seeds, runs)
        for start in range(0, len(missing), pack):
            seeds = tuple(missing[start : start + pack])
            jobs.append(
                Job(
                    plan.cell,
                    seeds,
                    runs,
                    device,
                    checkpoint_seconds,
                    keep_policies=keep_policies,
                    plan=declared,
                    keep_checkpoint=keep_checkpoint,
                )
            )
    return jobs

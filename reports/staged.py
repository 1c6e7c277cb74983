"""Sweeps with a design: which runs come next, and the loop that trains stage by stage.

Nothing is kept beside the run records: the same records give the same decisions, however often training was
stopped and started.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ascent.records.declared import Design
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.records.plan import Plan, Planned
from ascent.records.read import load
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.stages import Staged, stage


@dataclass(frozen=True)
class Standing:
    """How far a sweep with a design is.

    Attributes:
        stage: the stage to train or to finish, from 1; the last one if nothing is left to decide.
        planned: the cells with the seeds that they need up to that stage.
        staged: the decisions; None before the first stage is complete.
        stuck: runs that are finished and cannot be read, so that the stage cannot be decided, in words.
    """

    stage: int
    planned: tuple[Planned, ...]
    staged: Staged | None
    stuck: tuple[str, ...] = ()

    def text(self, design: Design) -> str:
        """Return the standing in a line."""
        runs = sum(len(plan.seeds) for plan in self.planned)
        total = len(self.planned) * design.ends[-1]
        if self.staged is None:
            return f"stage 1 of {len(design.stages)}: {runs} of {total} runs"
        if self.stuck:
            return f"stage {self.stage} of {len(design.stages)} cannot be decided: {self.stuck[0]}"
        pairs, left = len(self.staged.pairs), self.staged.open
        if not left:
            return f"{pairs} of {pairs} comparisons are decided, with {runs} of {total} runs"
        cells = sum(seeds == design.ends[self.stage - 1] for seeds in self.staged.seeds.values())
        return (
            f"stage {self.stage} of {len(design.stages)}: {pairs - left} of {pairs} comparisons are decided, "
            f"{cells} of {len(self.planned)} cells go on"
        )


def standing(plan: Plan, design: Design, runs: Path) -> Standing:
    """Return how far a plan with a design is, from its run records.

    Raises:
        InputError: the records cannot be compared.
    """
    first = _first(plan.planned, dict.fromkeys((_folder(each) for each in plan.planned), design.ends[0]))
    if any(each.cell.missing(each.seeds, runs) for each in first):
        return Standing(1, first, None)
    try:
        cells = load(runs, [Expected.of(each.cell, each.seeds) for each in plan.planned])
        staged = stage(aggregate(cells, plan.declared), plan.declared, design)
    except ValueError as error:
        raise InputError(str(error)) from error
    now = _first(plan.planned, staged.seeds)
    stuck: list[str] = []
    if staged.open and not any(each.cell.missing(each.seeds, runs) for each in now):
        needed = {_folder(each): set(each.seeds) for each in now}
        stuck = [
            f"{run.folder}: {run.note}"
            for cell in cells
            for run in cell.runs
            if run.seed in needed[cell.name.folder] and not run.finished
        ]
    return Standing(min(staged.complete + 1, len(design.stages)), now, staged, tuple(stuck))


def planned_now(plan: Plan, runs: Path) -> tuple[Planned, ...]:
    """Return the cells of a plan with the seeds that they need: of a design those up to its stage."""
    return standing(plan, plan.design, runs).planned if plan.design else plan.planned


def train(
    plan: Plan,
    runs: Path,
    pack: int = 10,
    jobs: int = 0,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    keep_policies: int = 0,
    keep_checkpoint: bool = False,
) -> int:
    """Train what is missing of a plan, with a design stage by stage, and return how many runs that were.

    Arguments and errors are those of `train_locally`. Each stage is told on standard error.

    Raises:
        InputError: also if a stage cannot be decided because runs are damaged.
    """
    from ascent.runners.local import train_locally

    options = (pack, jobs, device, checkpoint_seconds, keep_policies)
    if plan.design is None:
        return train_locally(plan, runs, *options, keep_checkpoint=keep_checkpoint)
    trained = 0
    while True:
        now = standing(plan, plan.design, runs)
        if now.stuck:
            raise InputError(now.text(plan.design))
        print(now.text(plan.design), file=sys.stderr, flush=True)
        new = train_locally(plan, runs, *options, now.planned, keep_checkpoint=keep_checkpoint)
        trained += new
        if not new:
            return trained


def _folder(planned: Planned) -> str:
    return planned.cell.folder(Path()).as_posix()


def _first(planned: Sequence[Planned], counts: dict[str, int]) -> tuple[Planned, ...]:
    """Return the cells with their first seeds, as many as `counts` says of each folder."""
    return tuple(Planned(each.cell, tuple(sorted(each.seeds)[: counts[_folder(each)]])) for each in planned)

"""Extend finished runs to a longer budget: their first part is taken over from a shorter cell.

The budget is part of a cell, so that an extended run is a run of another cell. Its record begins as a copy of
the shorter run's: the tables without what only the end of a budget has (the evaluation of the sampled
policy), and a checkpoint with the state at that end, which a run keeps with `--keep-checkpoint`. From there
it trains as any interrupted run does. Its result has the same bytes as if all of its steps had been planned
from the start, or it is refused: where a schedule depends on the budget, or evaluations would come at other
steps.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from ascent import suites
from ascent.records import files, layout, ledger
from ascent.records.cell import Cell, read_cell
from ascent.records.checkpoints import FORMAT, Checkpoints
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ownership import Ownership
from ascent.records.plan import seed_ranges
from ascent.records.seal import alone
from ascent.records.store import Store
from ascent.runners import why

# Hyperparameters by which something falls over the budget.
SCHEDULES = {
    "anneal": "the learning rate falls to zero at the end of the budget",
    "exploration": "exploration falls over this share of the budget",
}
BUDGET = ("steps", "evaluation.points")  # in which the two cells differ
TOTALS = ("restarts", "lost_steps", "lost_wall_s", "mixed_platforms")  # of run.json, written at the end


@dataclass(frozen=True)
class Extension:
    """Runs of a cell whose first part comes from the runs of a shorter one."""

    cell: Cell
    source: Cell
    seeds: tuple[int, ...]  # that take over anything
    runs: Path

    def take_over(self, plan: str, device: str) -> None:
        """Begin the records of the runs, which then count as interrupted at the end of the shorter budget.

        Args:
            plan: digest of the plan, which is in the ledger.
            device: "cpu" or "cuda", on which the runs go on.

        Raises:
            InputError: a checkpoint is damaged, or was written on another device or by other versions.
        """
        from ascent.runners.platform import provenance
        from ascent.runners.trainer import Trainer

        if not self.seeds:
            return
        capacity = Trainer(self.cell, [0], device).capacity
        header = {"format": FORMAT, "made_with": provenance(self.cell, device).made_with}
        folder = self.cell.folder(self.runs)
        folder.mkdir(parents=True, exist_ok=True)
        with alone(folder) as work:
            for seed in self.seeds:
                place = folder / layout.seed_folder(seed)
                if place.exists():
                    continue  # another process was faster
                begun = work / f"begun-{seed}"
                begun.mkdir()
                self._begin(begun, seed, plan, header, capacity)
                ledger.start(self.cell, [seed], plan, self.runs)
                begun.rename(place)
            files.sync_folder(folder)

    def _begin(self, begun: Path, seed: int, plan: str, header: dict[str, Any], capacity: int) -> None:
        """Write the record of a run up to the end of the shorter one into an empty folder."""
        folder = self.source.run_folder(seed, self.runs)
        about, result = files.read_json(folder / layout.RUN), files.read_json(folder / layout.RESULT)
        old, new = Ownership(folder), Ownership(begun)
        new.acquire()
        checkpoint, vouched = Checkpoints(folder, old, header, capacity).load(result["steps"])
        tables = {}
        for name, (size, digest) in vouched.items():
            content = files.read(folder / name)[:size]
            if sha256(content).hexdigest() != digest:
                raise DamagedFile(f"{folder / name} is damaged: its checkpoint has another sha256")
            content = _without_sampled(content) if name == layout.EVAL else content
            files.write(begun / name, content)
            tables[name] = len(content), sha256(content).hexdigest()
        own = {**header, "cell": self.cell.digest, "seed": seed}
        Checkpoints(begun, new, own, capacity).save(checkpoint, tables)
        for path in folder.iterdir():
            if layout.KEPT_POLICY.fullmatch(path.name):
                files.write(begun / path.name, files.read(path))
        for path in folder.parent.glob(layout.sources("*")):
            if not (target := self.cell.folder(self.runs) / path.name).exists():
                files.write(target, files.read(path))
        record = {name: value for name, value in about.items() if name not in (*TOTALS, "plan")}
        record |= {"cell": self.cell.digest} | ({"plan": plan} if plan else {})
        record["extended"] = {"cell": self.source.name, "steps": result["steps"], "result": result["digest"]}
        files.write_json(begun / layout.RUN, record)
        new.remove()


def _without_sampled(table: bytes) -> bytes:
    """Return eval.csv without the evaluation of the sampled policy, which comes at the end of a budget."""
    lines = table.splitlines(keepends=True)
    return b"".join(line for line in lines if line.split(b",")[1] != b"sampled")


def extension(cell: Cell, seeds: Sequence[int], runs: Path) -> Extension:
    """Return what runs of a cell take over from finished runs with fewer steps.

    Seeds that are begun or finished go on as they are. A run that has diverged has no state to go on from,
    and is trained again from the start.

    Raises:
        InputError: there are none, they are not finished or kept no checkpoint, or the result would not be
            that of a run with all steps from the start.
    """
    refuse_schedules(cell)
    source = source_of(cell, runs)
    _check_grid(cell, source)
    store = Store(source.folder(runs))
    new = [seed for seed in seeds if not Store(cell.folder(runs)).has(seed)]
    if unfinished := [seed for seed in new if not store.has(seed, layout.RESULT)]:
        raise InputError(
            f"{source.label()}: seeds {seed_ranges(unfinished)} are not finished: train them first"
        )
    diverged = [seed for seed in new if store.json(seed, layout.RESULT)["status"] != "done"]
    taken = [seed for seed in new if seed not in diverged]
    for seed in taken:
        if store.json(seed, layout.RUN).get("measures", []) != list(cell.measures):
            raise InputError(f"{source.label()}: seed {seed} was trained with other measures")
    without = [seed for seed in taken if not _has_checkpoint(store, seed)]
    if without:
        raise InputError(
            f"{source.label()}: seeds {seed_ranges(without)} kept no checkpoint at their end "
            f"(--keep-checkpoint): without --extend, all {cell.steps:,} steps are trained from the start"
        )
    if diverged:
        print(f"seeds {seed_ranges(diverged)} diverged: they are trained from the start", file=sys.stderr)
    return Extension(cell, source, tuple(taken), runs)


def _has_checkpoint(store: Store, seed: int) -> bool:
    step = store.json(seed, layout.RESULT)["steps"]
    return (store.cell / layout.seed_folder(seed) / layout.checkpoint(step)).exists()


def points(cell: Cell, runs: Path) -> int:
    """Return the number of evaluations with which a longer cell is evaluated as often as the shorter one.

    Raises:
        InputError: there is no shorter one, or the budgets have no such number.
    """
    refuse_schedules(cell)
    source = source_of(cell, runs)
    number, rest = divmod(source.evaluation.points * cell.steps, source.steps)
    if rest:
        whole = max(1, round(number)) * source.steps // source.evaluation.points
        raise InputError(
            f"steps: {source.label()} is evaluated {source.evaluation.points} times in {source.steps:,} "
            f"steps; {cell.steps:,} hold no whole number of these intervals, {whole:,} do"
        )
    return number


def source_of(cell: Cell, runs: Path) -> Cell:
    """Return the recorded cell with the most steps that differs from a cell in its shorter budget alone.

    Raises:
        InputError: there is none; the message says what is nearest.
    """
    found: list[Cell] = []
    others: list[str] = []
    for path in sorted(runs.glob(f"{cell.suite}/{cell.task}/{cell.system}-*/{layout.CELL}")):
        other = read_cell(path.parent)
        evaluation = replace(cell.evaluation, points=other.evaluation.points)
        longer = replace(other, steps=cell.steps)
        if longer.digest == replace(cell, evaluation=evaluation).digest and other.steps < cell.steps:
            found.append(other)
        elif other.digest != cell.digest:
            unlike = why.unlike(cell.to_json(), other.to_json())
            names = [one.name for one in unlike if one.counts and one.name not in BUDGET]
            others.append(f"{path.parent.name} has other {', '.join(names)}")
    if found:
        return max(found, key=lambda other: other.steps)
    hint = f": {min(others, key=len)}" if others else ""
    raise InputError(f"no run of {cell.label()} with fewer than {cell.steps:,} steps is in {runs}{hint}")


def refuse_schedules(cell: Cell) -> None:
    """Raise InputError with the setting by which the first steps depend on the budget, if there is one."""
    if cell.algorithm_sha256:
        raise InputError(
            f"{cell.system} cannot be extended: its file may use the share of the budget that is over"
        )
    if suites.guarantee(cell.task) == suites.foreign.LOOSE:
        raise InputError(f"{cell.task} cannot be extended: its runs are not resumed exactly")
    for name, reason in SCHEDULES.items():
        value = cell.config.get(name)
        by_steps = name == "anneal" and cell.config.get("anneal_steps") is not None
        if value and not by_steps:
            raise InputError(f"{cell.system} cannot be extended with {name} = {_shown(value)}: {reason}")


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_grid(cell: Cell, source: Cell) -> None:
    """Raise InputError unless the shorter cell was evaluated at the first evaluations of the longer one."""
    if source.evaluation.points * cell.steps != cell.evaluation.points * source.steps:
        number = source.evaluation.points * cell.steps / source.steps
        hint = f": say --evaluations {number:.0f}" if number == int(number) else ""
        raise InputError(
            f"evaluations: {source.label()} has {source.evaluation.points} in {source.steps:,} steps, and "
            f"{cell.evaluation.points} in {cell.steps:,} would come at other steps{hint}"
        )

"""The campaign: train the cells of a shelf, by the code of its commit, in jobs of a limited length.

Packing changes no result, so that a cell may be trained by any split of its seeds. The code of the commit is
a clone of this repository with an environment of its own; only what is trained next is decided here.
"""

import shutil
import subprocess
from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path

from ascent.algorithms import SYSTEMS
from ascent.records import provenance
from ascent.records.cell import setting
from ascent.records.errors import InputError
from ascent.records.ledger import declare
from ascent.records.plan import Job, Planned
from ascent.records.shelf import Shelf, ShelfCell
from ascent.runners import estimate
from ascent.runners.memory import replay_bytes
from ascent.runners.pool import Failure, run_pool
from ascent.runners.resolve import describe
from ascent.runners.sweep import Sweep, load

SWEEPS = ("shelf_1", "shelf_2", "shelf_3")  # the tiers, in the order in which they are trained


def planned(sweeps: Sequence[Sweep]) -> list[ShelfCell]:
    """Return the cells of a new shelf, given its tiers."""
    return [
        _shelf_cell(plan, tier, sweep.tables.get("policies", {}).get("all_seeds", ()))
        for tier, sweep in enumerate(sweeps, 1)
        for plan in sweep.planned
    ]


def _shelf_cell(plan: Planned, tier: int, with_policies: Sequence[str]) -> ShelfCell:
    cell = plan.cell
    changed = describe(cell).get("changed") or {}
    return ShelfCell(
        folder=cell.folder(Path()).as_posix(),
        system=cell.system,
        preset=cell.preset,
        setting=setting(cell.preset, changed),
        task=cell.task,
        steps=cell.steps,
        seeds=len(plan.seeds),
        tier=tier,
        default=not changed and cell.preset == SYSTEMS[cell.system].default_preset(cell.suite),
        policies=len(plan.seeds) if f"{cell.task} {cell.system}" in with_policies else 1,
        replays=replay_bytes(cell, 1) > 0,
    )


def plans(shelf: Shelf, runs: Path) -> dict[str, tuple[Planned, str]]:
    """Declare the sweeps of a shelf in a folder of records. Returns cells and digests of plans.

    Raises:
        InputError: this code resolves a sweep to other cells than the shelf's.
    """
    found: dict[str, tuple[Planned, str]] = {}
    for name in SWEEPS:
        plan = load(name).plan
        digest = declare(plan, runs)
        found |= {one.cell.folder(Path()).as_posix(): (one, digest) for one in plan.planned}
    if unlike := sorted(found.keys() ^ {cell.folder for cell in shelf.planned}):
        raise InputError(f"{unlike[0]}: the sweeps and the shelf {shelf.name} have other cells")
    return found


def jobs(shelf: Shelf, runs: Path, most: int, minutes: float = 60.0) -> list[Job]:
    """Return what is to be trained next, in the order of the shelf, as jobs of a limited length.

    Args:
        shelf: the shelf.
        runs: folder of run records, where cells of the shelf count as finished.
        most: how many jobs are listed.
        minutes: longest job, by the estimate; of a single seed that takes longer, a job is the seed.
    """
    declared = plans(shelf, runs)
    listed: list[Job] = []
    for cell in shelf.missing:
        plan, digest = declared[cell.folder]
        missing = plan.cell.missing(plan.seeds, runs)
        if not missing:
            continue  # a complete cell that was refused
        one = estimate.core_hours(plan.cell, 1, cell.replays, runs)
        size = max(1, min(len(missing), int(minutes / 60 / one)))
        size = ceil(len(missing) / ceil(len(missing) / size))  # equal parts
        for first in range(0, len(missing), size):
            listed.append(Job(plan.cell, tuple(missing[first : first + size]), runs, plan=digest))
            if len(listed) == most:
                return listed
    return listed


def train(batch: Sequence[Job], python: Path, workers: int, tick: Callable[[], None]) -> list[Failure]:
    """Train jobs by the code to which a Python belongs, and return those that failed."""
    return run_pool(batch, workers, tick, cores=workers, python=str(python))


def code_of(commit: str, home: Path) -> Path:
    """Return the Python of a clone of this repository at a commit, with its own environment, made if needed.

    Raises:
        InputError: this is no git checkout, or the environment cannot be made.
    """
    clone = home / f"code-{commit[:12]}"
    if not (clone / ".venv" / "installed").exists():
        if not (provenance.HOME / ".git").exists():
            raise InputError("the campaign needs a git checkout of this project")
        if not (clone / ".git").exists():
            if clone.exists():
                raise InputError(f"{clone} is no clone of this project: remove it")
            begun = home / f".{clone.name}"
            shutil.rmtree(begun, ignore_errors=True)
            _run("git", "clone", "--quiet", "--no-checkout", provenance.HOME, begun)
            _run(
                "git",
                f"--git-dir={begun / '.git'}",
                f"--work-tree={begun}",
                "checkout",
                "--quiet",
                commit,
                "--",
                ".",
            )
            _run("git", "-C", begun, "checkout", "--quiet", commit)
            begun.rename(clone)
        _run("make", "--silent", "-C", clone, "install")
    return (clone / ".venv" / "bin" / "python").absolute()


def _run(*words: object) -> None:
    """Run a command. Raises InputError with its last line if it fails."""
    command = list(map(str, words))
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise InputError(f"{' '.join(command)}: {(done.stderr.splitlines() or ['failed'])[-1]}")

"""Train the runs of a cell, resuming each from its newest usable checkpoint."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ascent import suites
from ascent.records import ledger
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.records.ownership import beating
from ascent.records.run import Run, open_all
from ascent.records.store import Store
from ascent.runners import environments
from ascent.runners.attempt import Attempt
from ascent.runners.memory import check_memory
from ascent.runners.platform import provenance
from ascent.runners.resolve import check_versions
from ascent.runners.trainer import Trainer

DEVICES = ("cpu", "cuda")


def check_device(device: str) -> None:
    """Raise InputError unless torch can use the device on this machine."""
    if device not in DEVICES:
        raise unknown("device", device, DEVICES)
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("device 'cuda': torch finds no GPU on this machine")


def train(
    cell: Cell,
    seeds: Sequence[int],
    out: Path,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    stop: Callable[[], bool] = lambda: False,
    threads: int = 1,
    tell_seconds: float = 1.0,
    keep_policies: int = 0,
    plan: str = "",
    keep_checkpoint: bool = False,
) -> bool:
    """Train the seeds of a cell that are not finished, from where they stand.

    Args:
        cell: what to train.
        seeds: they train together in this process; results do not depend on it (on the CPU).
        out: the folder of run records.
        device: "cpu" or "cuda".
        checkpoint_seconds: interval between checkpoints.
        stop: asked after every step; if it returns True, a checkpoint is written and training stops.
        threads: threads that step the environments; results do not depend on it.
        tell_seconds: interval between heartbeats. A run without four heartbeats may be taken over.
        keep_policies: also keep the policy of every n-th evaluation; 0: the final policy only.
        plan: digest of the plan under which the runs start.
        keep_checkpoint: keep a checkpoint at the end of the budget, from which `--extend` goes on.

    Returns:
        Whether all of the runs are finished.

    Raises:
        InputError: a run is in use by another process (RunHeld) or was taken over by one (Superseded), all of
            its checkpoints are damaged (DamagedFile), or they were written by other versions.
        OSError: nothing can be written. What was recorded stays, and the same call continues from there.
    """
    store = Store(cell.folder(out))
    seeds = [seed for seed in seeds if not store.in_seal(seed)]
    if not seeds:
        return True
    check_device(device)
    environments.admit(cell)
    check_versions(cell)
    check_memory([(cell, len(seeds))], device)
    torch.set_num_threads(1)
    torch.set_float32_matmul_precision("highest")  # no TF32 on a GPU
    first = _trainer(cell, seeds, device, threads)
    origin = provenance(cell, device)
    runs = [Run(cell, seed, out, origin, first.capacity, tell_seconds, plan) for seed in seeds]
    trainer: Trainer | None = first
    del first
    open_all(runs)
    try:
        if new := [run.seed for run in runs if run.is_new()]:
            ledger.start(cell, new, plan, out)
        with beating([run.owner for run in runs]):
            for step, group in groups([run for run in runs if not run.is_finished()]):
                pack = [run.seed for run in group]
                if trainer is None or pack != trainer.seeds:
                    trainer = None  # free its replay first: the next one is as large
                    trainer = _trainer(cell, pack, device, threads)
                options = (checkpoint_seconds, keep_policies, keep_checkpoint)
                if not Attempt(trainer, group, *options).run(step, stop):
                    return False
                trainer = None  # its state has moved on
            return True
    except (OSError, DamagedFile):
        for run in runs:
            run.owner.check()  # if another process has taken over, that is the reason
        raise
    finally:
        for run in runs:
            run.close()


def _trainer(cell: Cell, seeds: Sequence[int], device: str, threads: int) -> Trainer:
    """Return a trainer. Raises InputError if a foreign environment fails."""
    try:
        return Trainer(cell, seeds, device, threads)
    except suites.EnvironmentFailed as error:
        raise InputError(f"{cell.label()}: {error}") from error


def groups(runs: list[Run]) -> list[tuple[int | None, list[Run]]]:
    """Return the runs that can continue together, in groups, each with the newest step at which all of its
    runs have a usable checkpoint.

    Runs without a checkpoint (step None) start from the beginning. Runs that were last in different packs may
    have no step in common: they form groups of their own, so that nothing that was saved is trained again.
    """
    usable = {run.seed: run.usable_steps() for run in runs}
    result: list[tuple[int | None, list[Run]]] = []
    fresh = [run for run in runs if not usable[run.seed]]
    if fresh:
        result.append((None, fresh))
    left = [run for run in runs if usable[run.seed]]
    while left:
        step = min(usable[run.seed][0] for run in left)
        group = [run for run in left if step in usable[run.seed]]
        result.append((step, group))
        left = [run for run in left if run not in group]
    return result

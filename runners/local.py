"""Train the missing runs of some cells on this machine, with a progress display."""

import os
from collections.abc import Sequence
from pathlib import Path

from ascent.records.errors import InputError
from ascent.records.ledger import declare, digest
from ascent.records.plan import Plan, Planned, jobs_of
from ascent.records.progress import Display
from ascent.runners.extend import Extension
from ascent.runners.memory import check_memory
from ascent.runners.pool import run_pool
from ascent.runners.train import check_device


def train_locally(
    plan: Plan,
    runs: Path,
    pack: int = 10,
    jobs: int = 0,
    device: str = "cpu",
    checkpoint_seconds: float = 60.0,
    keep_policies: int = 0,
    now: Sequence[Planned] | None = None,
    keep_checkpoint: bool = False,
    extended: Sequence[Extension] = (),
) -> int:
    """Train what is missing of the planned runs, and return how many runs that were.

    Args:
        plan: cells with their seeds, and what is declared about them.
        runs: folder of run records.
        pack: seeds per process; on the CPU, results do not depend on it.
        jobs: number of parallel processes; 0 means one per core, or one on a GPU.
        device: "cpu" or "cuda".
        checkpoint_seconds: time between checkpoints.
        keep_policies: keep the policy of every n-th evaluation; 0 keeps only the final one.
        now: what of the plan to train; default: all of it.
        keep_checkpoint: keep a checkpoint at the end of the budget.
        extended: whose first part is taken over from shorter runs.

    Raises:
        InputError: an argument is out of range, the machine has too little memory, or some runs failed; then
            all other runs are trained first.
    """
    if jobs < 0:
        raise InputError(f"jobs must be at least 0, not {jobs}")
    if not 0 <= checkpoint_seconds < float("inf"):
        raise InputError(f"checkpoint-seconds must be finite and not negative, not {checkpoint_seconds}")
    if keep_policies < 0:
        raise InputError(f"keep-policies must be at least 0, not {keep_policies}")
    check_device(device)
    planned = plan.planned if now is None else now
    missing = jobs_of(
        planned, runs, pack, device, checkpoint_seconds, keep_policies, digest(plan), keep_checkpoint
    )
    if not missing:
        return 0
    workers = jobs or (1 if device == "cuda" else len(os.sched_getaffinity(0)))
    check_memory([(job.cell, len(job.seeds)) for job in missing], device, workers)
    name = declare(plan, runs)
    for extension in extended:
        extension.take_over(name, device)
    with Display(planned, runs) as display:
        failures = run_pool(missing, workers, display.tick)
    if failures:
        raise InputError("\nerror: ".join(failure.reason for failure in failures))
    return sum(len(job.seeds) for job in missing)

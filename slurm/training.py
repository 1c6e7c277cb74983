"""Train a plan in array tasks and wait for it: what `train_locally` is on one machine, for `ascent tune`.

There is no report job, and nothing waits in the queue for what comes next: who calls this decides that. After
a kill, the same call finds the runs that are in the queue, or finished, and goes on.
"""

import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from ascent.records.errors import InputError
from ascent.records.ledger import digest
from ascent.records.plan import Plan
from ascent.slurm import history, planning, submission, submit
from ascent.slurm.manifest import Manifest
from ascent.slurm.sites import Site

LOOK_SECONDS = 5.0  # between looks at the queue


def train(plan: Plan, name: str, site: Site, runs: Path) -> int:
    """Train what is missing of a plan, and return how many runs that were.

    Args:
        plan: cells with their seeds.
        name: of the jobs, and of their folder below `runs`/slurm.
        site: where and how the tasks run.
        runs: folder of run records, as an absolute path that the nodes see.

    Raises:
        InputError: SLURM refuses the jobs, or a run failed.
    """
    missing = _missing(plan, runs)
    if not missing:
        return 0
    submit.feed(manifest(plan, name, runs), site, runs, None, _tell)
    while submission.runs_in_queue(runs).keys() & _missing(plan, runs):
        time.sleep(LOOK_SECONDS)
    if left := _missing(plan, runs):
        failures = history.failed(left, runs)
        why = next((f"{one.reason} (see {one.log})" for one in failures.values()), "their jobs have ended")
        raise InputError(f"{len(left)} of {len(missing)} runs are not finished: {why}; run the command again")
    return len(missing)


def manifest(plan: Plan, name: str, runs: Path) -> Manifest:
    """Return the manifest of a plan that is no sweep's file."""
    from ascent.runners.memory import replay_bytes  # needs torch

    return Manifest(
        path=runs / "slurm" / name / f"manifest-{digest(plan)}.json",
        origin=name,
        name=name,
        title=name,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        planned=plan.planned,
        declared=plan.declared,
        tables=plan.tables,
        replay={one.cell.digest: replay_bytes(one.cell, 1) for one in plan.planned},
    )


def _missing(plan: Plan, runs: Path) -> set[submission.RunKey]:
    return {(one.cell.digest, seed) for one in plan.planned for seed in one.cell.missing(one.seeds, runs)}


def _tell(sent: planning.Plan) -> None:
    for line in sent.notes():
        print(f"note: {line}", file=sys.stderr)
    print(sent.summary(), file=sys.stderr, flush=True)

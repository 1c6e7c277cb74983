"""Take the jobs of a sweep, or those of some of its cells, out of the queue."""

from pathlib import Path

from ascent.slurm import cluster, history, manifest, submission
from ascent.slurm.planning import EVERYTHING, Chosen


def cancel(name_or_file: str, runs: Path, chosen: Chosen = EVERYTHING) -> tuple[int, int]:
    """Cancel the array tasks of a sweep whose runs are all chosen; the report's job, too, if all runs are.

    With `chosen.failed`, a cell is chosen if one of its runs has failed for this reason.

    Returns:
        How many tasks and jobs were cancelled, and how many stay because they also train other cells.

    Raises:
        InputError: unknown sweep or cell, its folder belongs to another sweep, or SLURM does not answer.
    """
    last = manifest.latest(name_or_file, runs)  # refuses the folder of another sweep
    sweep = manifest.folder(name_or_file, runs).name
    names = submission.names(runs, sweep)
    if chosen == EVERYTHING or last is None:
        tasks = cluster.queue([*names, *submission.report_names(runs, sweep)])
        jobs = sorted({task.job.partition("_")[0] for task in tasks})
        if jobs:
            cluster.client("scancel", *jobs)
        return len({task.job for task in tasks}), 0
    digests = chosen.of(last.planned)
    if chosen.failed is not None:
        missing = {
            (cell.digest, seed) for cell, seeds in manifest.missing(last.planned, runs) for seed in seeds
        }
        failures = history.failed(missing - submission.runs_in_queue(runs).keys(), runs)
        digests &= {run[0] for run, failure in failures.items() if chosen.failed in failure.reason}
    whole: list[str] = []
    mixed = 0
    for task in cluster.queue(names):
        sent = submission.read(names[task.name])
        planned = sent.planned().planned
        cells = {planned[number].cell.digest for number, _ in sent.tasks[task.index]}
        if cells <= digests:
            whole.append(task.job)
        elif cells & digests:
            mixed += 1
    for start in range(0, len(whole), cluster.MAX_JOBS):
        cluster.client("scancel", *whole[start : start + cluster.MAX_JOBS])
    return len(whole), mixed

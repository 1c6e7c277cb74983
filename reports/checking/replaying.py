"""Play the final policies of recorded runs again, and compare: the depth `policy` of `verify`.

The policies are played by the installed code, never by recorded code.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ascent.records import layout
from ascent.records.read import DONE
from ascent.reports.checking.differences import first_difference
from ascent.reports.checking.folder import CellFiles, RunFiles
from ascent.reports.checking.grades import RECORDED, REPLAYED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.retraining import compare_scores, evaluation_rows, mean_returns, platform_key
from ascent.reports.checking.setting import Allowed, CannotVerify, environment, last_line, refuse_foreign

REPLAY = "ascent.runners.replay"
MAX_EPISODES = 1000  # of a seed: a hostile record may demand any number


def replay(cells: Sequence[CellFiles], allowed: Allowed) -> list[Outcome]:
    """Play the final policies of the finished runs of cells on all cores, with a progress bar."""
    outcomes: list[Outcome] = []
    cores = len(os.sched_getaffinity(0))
    groups = [group for cell in cells for group in _groups(cell)]
    share = max(1, cores // max(1, len(groups)))  # processes per group
    parts = [(cell, part) for cell, runs in groups for part in _parts(runs, share)]
    console = Console(stderr=True)
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(cores) as pool,
    ):
        bar = progress.add_task("playing the final policies again", total=len(parts))
        outputs: dict[Path, dict[str, Any] | CannotVerify] = {}  # by the folder of a run
        for (_, part), result in zip(parts, pool.map(partial(_play_part, allowed), parts), strict=True):
            outputs |= {run.path: result for run in part}
            progress.advance(bar)
    for cell, runs in groups:
        results = [outputs[run.path] for run in runs]
        if refused := next((result for result in results if isinstance(result, CannotVerify)), None):
            outcomes.append(Outcome(cell.name, CANNOT, str(refused)))
        else:
            outcomes += _compare(cell, runs, [result for result in results if isinstance(result, dict)])
    for cell in cells:
        if cell.imported:
            outcomes.append(Outcome(cell.name, CANNOT, "imported curves have no policies"))
        diverged = [run for run in cell.finished if run.result["status"] != DONE]
        outcomes += [Outcome(run.name, CANNOT, "diverged: it has no policy to play") for run in diverged]
        others = [] if cell.imported else [run for run in cell.finished if run not in diverged]
        bare = [run for run in others if layout.POLICY not in run.contents]
        # Of a compact record, one policy is played; the others stay what `check` found them to be.
        verdict = RECORDED if len(bare) < len(others) else CANNOT
        outcomes += [Outcome(run.name, verdict, "its policy was left out of the record") for run in bare]
    return outcomes


def _groups(cell: CellFiles) -> list[tuple[CellFiles, list[RunFiles]]]:
    """Return the runs of a cell that have a policy, with and without the kernels."""
    done = [] if cell.imported else [run for run in cell.finished if run.result["status"] == DONE]
    runs = [run for run in done if layout.POLICY in run.contents]
    halves = ([run for run in runs if compiled(run) == half] for half in (True, False))
    return [(cell, half) for half in halves if half]


def compiled(run: RunFiles) -> bool:
    """Return whether the kernels trained a run."""
    packages = run.about.get("packages")
    return isinstance(packages, dict) and "kernels" in packages


def _parts(runs: Sequence[RunFiles], number: int) -> Iterator[Sequence[RunFiles]]:
    size = -(-len(runs) // number)
    yield from (runs[start : start + size] for start in range(0, len(runs), size))


def _play_part(allowed: Allowed, part: tuple[CellFiles, Sequence[RunFiles]]) -> dict[str, Any] | CannotVerify:
    try:
        return _play(*part, allowed)
    except CannotVerify as error:
        return error


def refuse_many(episodes: int) -> None:
    """Raise CannotVerify for a number of episodes that nobody would play again."""
    if episodes > MAX_EPISODES:
        raise CannotVerify(f"{episodes:,} episodes per seed: at most {MAX_EPISODES:,} are played again")


def _play(cell: CellFiles, runs: Sequence[RunFiles], allowed: Allowed) -> dict[str, Any]:
    """Return what runners/replay.py prints: the platform, and rows by seed. Raises CannotVerify."""
    refuse_foreign(cell, allowed)
    refuse_many(cell.described().evaluation.episodes)
    job = {
        "cell": cell.described().to_json(),
        "folder": str(cell.path),
        "seeds": [run.seed for run in runs],
        "step": cell.evaluation_steps()[-1],
        "foreign": cell.described().environment is not None,
    }
    return played(job, runs[0])


def played(job: dict[str, Any], run: RunFiles) -> dict[str, Any]:
    """Return what runners/replay.py prints for a job, with the kernels if a run has them.

    Raises:
        CannotVerify: the policies cannot be played.
    """
    with tempfile.TemporaryDirectory(prefix="ascent-replay-") as home:
        done = subprocess.run(
            [sys.executable, "-P", "-m", REPLAY],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=home,
            env=environment(run, compiled(run)),
        )
    if done.returncode:
        raise CannotVerify(last_line(done.stderr).removeprefix("error: "))
    output: dict[str, Any] = json.loads(done.stdout)
    return output


def _compare(cell: CellFiles, runs: Sequence[RunFiles], played: Sequence[dict[str, Any]]) -> list[Outcome]:
    """Compare the last evaluations with the recorded ones, row by row.

    On another platform, where rounding may differ, returns are compared by an equivalence test instead, if
    any row is unlike.

    Args:
        cell: the cell.
        runs: its runs.
        played: what the process printed that played each of them.
    """
    outcomes: list[Outcome] = []
    step = cell.evaluation_steps()[-1]
    differences: list[tuple[RunFiles, str]] = []
    recorded: list[list[str]] = []
    again: list[list[str]] = []
    for run, output in zip(runs, played, strict=True):
        if fault := output["faults"].get(str(run.seed)):
            outcomes.append(Outcome(run.name, DIFFERS, fault))
            continue
        recorded.append(evaluation_rows(run, step))
        again.append(output["rows"][str(run.seed)])
        old, new = (["", *rows] for rows in (recorded[-1], again[-1]))  # with a header
        differences.append((run, first_difference(layout.EVAL, old, new, REPLAYED)))
    keys, here = {platform_key(run) for run in runs}, played[0]["platform"]
    if any(difference for _, difference in differences) and keys != {here}:
        platforms = f"recorded on {', '.join(sorted(keys))}, this machine is {here}"
        samples = [mean_returns(recorded), mean_returns(again)]
        return [*outcomes, compare_scores(cell, REPLAYED, samples, "final evaluation", platforms)]
    for (run, difference), rows in zip(differences, recorded, strict=True):
        same = f"the final policy gives all {len(rows)} recorded final evaluations again"
        outcomes.append(Outcome(run.name, DIFFERS if difference else REPLAYED, difference or same))
    return outcomes

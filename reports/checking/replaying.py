"""Play the final policies of recorded runs again, and compare: the depth `policy` of `verify`.

The policies are played by the installed code, never by recorded code.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

from ascent.records import layout
from ascent.records.read import DONE
from ascent.reports.checking.differences import first_difference
from ascent.reports.checking.folder import CellFiles, RunFiles
from ascent.reports.checking.grades import REPLAYED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.retraining import compare_scores, platform_key
from ascent.reports.checking.setting import CannotVerify, environment, last_line

REPLAY = "ascent.runners.replay"


def replay(cells: Sequence[CellFiles]) -> list[Outcome]:
    """Play the final policies of the finished runs of cells, one process per core, with a progress bar."""
    outcomes: list[Outcome] = []
    console = Console(stderr=True)
    cores = len(os.sched_getaffinity(0))
    with (
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
        ThreadPoolExecutor(cores) as pool,
    ):
        bar = progress.add_task("playing the final policies again", total=len(cells))
        for found in pool.map(_replay_cell, cells):
            outcomes += found
            progress.advance(bar)
    return outcomes


def _replay_cell(cell: CellFiles) -> list[Outcome]:
    runs = [run for run in cell.finished if run.result["status"] == DONE]
    without = [run for run in cell.finished if run not in runs]
    outcomes = [Outcome(run.name, CANNOT, "diverged: it has no policy to play") for run in without]
    try:
        if cell.imported:
            raise CannotVerify("imported curves have no policies")
        for compiled in (True, False):
            if group := [run for run in runs if ("kernels" in (run.about.get("packages") or {})) == compiled]:
                outcomes += _compare(cell, group, _play(cell, group, compiled))
    except CannotVerify as error:
        outcomes.append(Outcome(cell.name, CANNOT, str(error)))
    return outcomes


def _play(cell: CellFiles, runs: Sequence[RunFiles], compiled: bool) -> dict[str, Any]:
    """Return what runners/replay.py prints: the platform, and rows by seed. Raises CannotVerify."""
    job = {
        "cell": cell.described().to_json(),
        "folder": str(cell.path),
        "seeds": [run.seed for run in runs],
        "step": cell.evaluation_steps()[-1],
    }
    with tempfile.TemporaryDirectory(prefix="ascent-replay-") as home:
        done = subprocess.run(
            [sys.executable, "-P", "-m", REPLAY],
            input=json.dumps(job),
            capture_output=True,
            text=True,
            cwd=home,
            env=environment(runs[0], compiled),
        )
    if done.returncode:
        raise CannotVerify(last_line(done.stderr).removeprefix("error: "))
    played: dict[str, Any] = json.loads(done.stdout)
    return played


def _compare(cell: CellFiles, runs: Sequence[RunFiles], played: dict[str, Any]) -> list[Outcome]:
    """Compare the last evaluations with the recorded ones, row by row.

    On another platform, where rounding may differ, returns are compared by an equivalence test instead, if
    any row is unlike.
    """
    faults = [run for run in runs if str(run.seed) in played["faults"]]
    outcomes = [Outcome(run.name, DIFFERS, played["faults"][str(run.seed)]) for run in faults]
    runs = [run for run in runs if run not in faults]
    step = cell.evaluation_steps()[-1]
    recorded = {run.seed: _last_rows(run, step) for run in runs}
    differences: dict[int, str] = {}
    for run in runs:
        old, new = (["", *rows] for rows in (recorded[run.seed], played["rows"][str(run.seed)]))  # a header
        differences[run.seed] = first_difference(layout.EVAL, old, new, REPLAYED)
    keys = {platform_key(run) for run in runs}
    if any(differences.values()) and keys != {played["platform"]}:
        difference = f"recorded on {', '.join(sorted(keys))}, this machine is {played['platform']}"
        samples = [_means(recorded.values()), _means(played["rows"].values())]
        return [*outcomes, compare_scores(cell, REPLAYED, samples, "final evaluation", difference)]
    for run in runs:
        same = f"the final policy gives all {len(recorded[run.seed])} recorded final evaluations again"
        verdict = DIFFERS if differences[run.seed] else REPLAYED
        outcomes.append(Outcome(run.name, verdict, differences[run.seed] or same))
    return outcomes


def _last_rows(run: RunFiles, step: int) -> list[str]:
    """Return the rows of the last evaluation in a run's eval.csv."""
    lines = (run.read(layout.EVAL) or b"").decode(errors="replace").splitlines()
    return [line for line in lines if line.startswith(f"{step},")]


def _means(runs: Iterable[Sequence[str]]) -> np.ndarray:
    """Return the mean return of the greedy episodes of each run."""
    columns = ([row.split(",") for row in rows] for rows in runs)
    return np.array([np.mean([float(row[3]) for row in rows if row[1] == "greedy"]) for rows in columns])

"""Play the final policies of recorded runs again, in a process of its own.

    python -P -m ascent.runners.replay < job.json

A job has one of these forms. The output is a JSON object with the `platform` of this process and

    {"cell": {...}, "folder": "runs/classic/.../ppo-zoo-...", "seeds": [...], "step": 100000}
        by seed, the `rows` of the last evaluation as eval.csv has them, greedy and sampled policy, or the
        `faults` of policies that cannot be played. With "foreign": true, the cell's environment may be code
        from outside this project.
    {"folder": "runs/classic/.../ppo-zoo-...", "level": ["drop", 0.5], "episodes": 100}
        the `table` of `ascent robustness`
    {"runs": "runs", "task": "simple_tag_v3", "cells": ["1b2c", ...], "seeds": [...], "episodes": 100}
        the `table` of `ascent crossplay` between cells, which are named by their digests
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile, InputError
from ascent.records.tables import row_text
from ascent.runners import crossplay, environments, robustness
from ascent.runners.platform import platform_key
from ascent.runners.play import evaluate
from ascent.runners.policies import load
from ascent.suites import EnvironmentFailed
from ascent.suites.perturb import Perturbation

POLICIES = {"greedy": False, "sampled": True}  # of the last evaluation: whether they explore


def faults(cell: Cell, folder: Path, seeds: list[int]) -> dict[int, str]:
    """Return why policies cannot be played, by seed."""
    found = {}
    for seed in seeds:
        try:
            load(cell, folder, [seed])
        except DamagedFile as error:
            found[seed] = str(error)
    return found


def replay(cell: Cell, folder: Path, seeds: list[int], step: int) -> dict[int, list[str]]:
    """Return the rows of the evaluation at `step`, by seed, played with the final policies in `folder`.

    Raises:
        InputError: as `policies.load`.
    """
    agent = load(cell, folder, seeds)
    rows: dict[int, list[str]] = {seed: [] for seed in seeds}
    for policy, explore in POLICIES.items():
        episodes = evaluate(agent, cell, seeds, step, explore)
        for seed, of_seed in zip(seeds, episodes, strict=True):
            rows[seed] += [row_text(step, policy, n, *episode) for n, episode in enumerate(of_seed)]
    return rows


def main() -> int:
    """Play the job on standard input and return the exit code."""
    job = json.load(sys.stdin)
    torch.set_num_threads(1)
    try:
        output = _output(job)
    except (InputError, OSError, EnvironmentFailed) as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        return 2
    print(json.dumps({"platform": platform_key()} | output))
    return 0


def _output(job: dict[str, Any]) -> dict[str, Any]:
    if "level" in job:
        level = Perturbation(*job["level"])
        return {"table": robustness.again(Path(job["folder"]), level, job["episodes"])}
    if "cells" in job:
        trained = crossplay.find(job["task"], Path(job["runs"]), job["cells"])
        return {"table": crossplay.record(trained, job["episodes"], job["seeds"]).decode()}
    cell, folder = Cell.from_json(job["cell"]), Path(job["folder"])
    if job.get("foreign"):
        environments.admit(cell)
    faulty = faults(cell, folder, job["seeds"])
    sound = [seed for seed in job["seeds"] if seed not in faulty]
    return {"rows": replay(cell, folder, sound, job["step"]) if sound else {}, "faults": faulty}


if __name__ == "__main__":
    sys.exit(main())

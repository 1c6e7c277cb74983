"""A sweep of 100,000 runs: how long the commands of a login node take, and how much memory."""

import subprocess
import sys
from pathlib import Path

import pytest

from ascent.records import files, layout
from ascent.records.plan import Planned
from ascent.records.seal import archive
from ascent.runners.sweep import load
from ascent.slurm import manifest, planning, sites, submit
from tests.slurm.cluster import Cluster

CELLS = """
[[cells]]
algorithms = ["ppo", "a2c"]
tasks = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", "Pendulum-v1", "MountainCarContinuous-v0"]
set = {{ gamma = 0.{gamma} }}
"""
SWEEP = 'seeds = "0-49"\n' + "".join(CELLS.format(gamma=9000 + number) for number in range(200))
MOST_SECONDS = 10.0  # of the processor
MOST_MEMORY = 600  # MB


# A small process between: a child begins with the memory of the process that it was forked from.
MEASURE = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(f"\\n{usage.ru_utime + usage.ru_stime} {usage.ru_maxrss / 1024}")
"""


def measured(line: list[str], folder: Path, environment: dict[str, str]) -> tuple[float, float, str]:
    """Run a command. Returns processor seconds, the most memory in MB, and what it said."""
    line = [sys.executable, "-c", MEASURE, *line]
    done = subprocess.run(line, capture_output=True, text=True, cwd=folder, env=environment)
    said, _, usage = done.stdout.rstrip().rpartition("\n")
    seconds, memory = map(float, usage.split())
    return seconds, memory, said + done.stderr


def fill(planned: tuple[Planned, ...], runs: Path) -> None:
    """In each cell 25 seeds are finished, 5 interrupted and 20 missing; each tenth cell is sealed."""
    for number, plan in enumerate(planned):
        cell = plan.cell.folder(runs)
        result = files.json_bytes({"status": "done", "steps": plan.cell.steps, "score": 1.0})
        about = files.json_bytes({"seed": 0, "attempts": [{"device": "cpu", "cpu_s": 100.0}]})
        finished = {seed: {layout.RESULT: result, layout.RUN: about} for seed in range(25)}
        begun = files.json_bytes({"owner": "x", "beat": 1, "time": 0.0, "step": 10, "steps_per_second": 1.0})
        contents = {seed: {layout.RUN: about, layout.PROGRESS: begun} for seed in range(25, 30)}
        if number % 10:
            contents |= finished
        else:
            cell.mkdir(parents=True)
            name, data = archive(finished)
            (cell / name).write_bytes(data)
        for seed, record in contents.items():
            folder = cell / layout.seed_folder(seed)
            folder.mkdir(parents=True)
            for name, data in record.items():
                (folder / name).write_bytes(data)


@pytest.mark.slow
def test_a_hundred_thousand_runs(real_slurm: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`submit --dry-run` and `status`, before the first run and in the middle, after a submission that ended.

    Neither needs 10 s of a processor, or 600 MB.
    """
    sweep, runs = tmp_path / "large.toml", tmp_path / "runs"
    sweep.write_text(SWEEP)
    with Cluster(nodes=1, cpus=4, max_array_size=10_001) as cluster:
        environment = cluster.environment()

        def ascent(command: str, *words: str) -> str:
            line = [sys.executable, "-m", "ascent", command, str(sweep), "--runs", str(runs), *words]
            seconds, memory, said = measured(line, tmp_path, environment)
            print(f"{command} {' '.join(words)}: {seconds:.1f} s, {memory:.0f} MB")
            if command != "plan":
                assert seconds < MOST_SECONDS and memory < MOST_MEMORY, said[-500:]
            return said

        ascent("plan")
        assert "100,000 runs in 10,000 array tasks" in ascent("submit", "--dry-run")
        assert "100000 runs: 100000 planned" in ascent("status")
        fill(load(str(sweep)).planned, runs)
        monkeypatch.setenv("SLURM_CONF", environment["SLURM_CONF"])
        planned, site = manifest.find(str(sweep), runs), sites.Site()
        assert planned
        todo = planning.plan(planned, site, runs)
        for array in todo.arrays:
            submit.new_submission(planned, site, todo, array, runs).write()
        said = ascent("submit", "--dry-run")
        assert "50,000 runs in " in said and "50,000 runs are finished, 0 in the queue" in said
        said = ascent("status")
        assert "100000 runs: 50000 done, 10000 interrupted, 40000 planned" in said

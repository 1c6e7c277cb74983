"""Tuning on a real cluster: trials are array tasks, and the record has the bytes of one on one machine."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ascent.records import files
from tests.slurm.cluster import Cluster
from tests.slurm.user import SITE

WORDS = ["ppo", "CartPole-v1", "--preset", "small", "--set", "steps=256", "--steps", "1000"]
WORDS += ["--trials", "2", "--round", "1", "--seeds", "1000-1001", "--evaluations", "2", "--episodes", "1"]
WORDS += ["--pruner", "none"]


def tune(folder: Path, *words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess:
    line = [sys.executable, "-m", "ascent", "tune", *WORDS, "--out", str(folder), *words]
    return subprocess.run(line, capture_output=True, text=True, env=environment, cwd=folder.parent)


@pytest.mark.slow
def test_rounds_are_array_tasks(cluster: Cluster, tmp_path: Path) -> None:
    """In two rounds; no report is made. Again, there is nothing to submit."""
    site = tmp_path / "slurm.toml"
    site.write_text(SITE)
    options = ("--slurm", "--site", str(site))
    done = tune(tmp_path / "slurm", *options, environment=cluster.environment())
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("2 runs in 1 array tasks") == 2 and "2 of 2 trials" in done.stderr
    assert tune(tmp_path / "local").returncode == 0
    record = (tmp_path / "slurm" / "tuning.json").read_bytes()
    assert record == (tmp_path / "local" / "tuning.json").read_bytes()
    assert all(trial["seeds"] == 2 for trial in json.loads(record)["trials"])
    runs = tmp_path / "slurm" / "runs"
    attempts = [files.read_json(path)["attempts"][0] for path in runs.glob("classic/*/*/seed-*/run.json")]
    assert len(attempts) == 4 and all(attempt["SLURM_ARRAY_JOB_ID"] for attempt in attempts)
    assert not list(runs.glob("slurm/*/jobs/*-report.sh"))
    again = tune(tmp_path / "slurm", *options, environment=cluster.environment())
    assert again.returncode == 0 and "array tasks" not in again.stderr

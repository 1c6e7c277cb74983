"""What real sites do to a sweep: nodes that fail, jobs that nothing can requeue, packs as steps."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ascent.slurm import efficiency
from tests.slurm.cluster import Cluster
from tests.slurm.user import A_MINUTE, LONG, SITE, THIRTY, User, reach_the_time_limit, wait

# On node1, every training process ends at once.
BROKEN = """
import os, sys
if "ascent.runners.pack" in sys.orig_argv and os.environ.get("SLURMD_NODENAME") == "node1":
    print("error: this node has no GPU", file=sys.stderr)
    os._exit(2)
"""
TWELVE = LONG.replace('"0-1"', '"0-11"').replace("40_000", "20_000")


@pytest.fixture(scope="module")
def cluster(real_slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes of two CPUs."""
    User.local = tmp_path_factory.mktemp("local")
    with Cluster(nodes=2, cpus=2) as cluster:
        yield cluster


@pytest.mark.slow
def test_a_faulty_node(cluster: Cluster, tmp_path: Path) -> None:
    """Tasks that wait leave a node where tasks fail in a row, and so does the next submission."""
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "sitecustomize.py").write_text(BROKEN)
    user = User(cluster, tmp_path, TWELVE)
    user.settings = {"PYTHONPATH": f"{tmp_path / 'broken'}:{os.environ.get('PYTHONPATH', '')}"}
    user.submit("--pack", "1")
    wait(lambda: not user.queue(), 200, cluster.describe)
    said = user.ascent("status", expect=1)
    failed = int(re.search(r"(\d+) failed", said)[1])
    # Two tasks on the node's two CPUs, and at most two that start there before the rest stays away.
    assert "this node has no GPU" in said and 2 <= failed <= 4, said
    log = "".join(path.read_text() for path in user.out.rglob("logs/*.log"))
    assert "tasks that wait stay away from it" in log
    told = user.submit("--pack", "1", "--cell", "a2c", "--failed", "no GPU")
    assert "note: not on node1, where 2 tasks in a row failed: this node has no GPU" in told
    assert f"{failed} runs in {failed} array tasks" in told
    user.wait_done()
    on = {user.record(seed)["attempts"][-1]["SLURMD_NODENAME"] for seed in range(12)}
    assert on == {"node2"}
    user.check_bytes()


@pytest.mark.slow
def test_a_chain(cluster: Cluster, tmp_path: Path) -> None:
    """Where no job can be requeued, the next job of the chain goes on at the time limit."""
    user = User(cluster, tmp_path, LONG, f"{A_MINUTE}chain = 2\n")
    told = user.submit()
    assert "2 runs in 1 array tasks, " in told, "jobs of a chain are no further tasks"
    assert len(user.sent()) == 3
    user.wait_step(0)
    assert "2 running" in user.ascent("status", expect=1), "although a job of the chain waits"
    assert "2 in the queue" in user.submit()
    reach_the_time_limit(user, restart=None)
    first, second, *_ = (attempt["SLURM_ARRAY_JOB_ID"] for attempt in user.record(0)["attempts"])
    assert first != second and "the next job of the chain goes on" in user.sent_first().log(0).read_text()
    user.check_bytes()


@pytest.mark.slow
def test_packs_as_steps(cluster: Cluster, tmp_path: Path) -> None:
    """Each pack is a step that is bound to its cores; stopped and resumed, the bytes are the same."""
    user = User(cluster, tmp_path, LONG, f"{SITE}steps = true\n")
    user.submit("--pack", "1", "--cpus", "2")
    step = user.wait_step(0)
    user.wait_step(1)
    job = f"{user.sent()[0].job}_0"
    shown = cluster.run("squeue", "--steps", "-h", f"--jobs={job}", "-o", "%j").stdout.split()
    assert sum(name.startswith(f"a2c-{user.cell().digest}") for name in shown) == 2, shown
    cluster.run("scontrol", "requeue", job)
    user.wait_done()
    first, second = user.record(0)["attempts"]
    assert second["from_step"] >= step and first["to_step"] == second["from_step"]
    user.check_bytes()


def test_cancelled_by_cell(cluster: Cluster, tmp_path: Path) -> None:
    """Only tasks all of whose runs are of the chosen cells leave the queue; the rest is told."""
    user = User(cluster, tmp_path, THIRTY)
    assert "6 array tasks" in user.submit("--pack", "5", "--max-parallel", "1")
    assert "cancelled 2 jobs" in user.ascent("cancel", "--cell", "ppo")
    wait(lambda: len({line.split()[0] for line in user.queue() if "_N/A" not in line}) <= 4, 30)
    said = user.ascent("cancel", "--cell", "pppo", expect=2)
    assert re.fullmatch(r"error: unknown cell 'pppo'; did you mean 'ppo'\?\n", said)
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)
    told = user.submit("--pack", "4", "--cpus", "2", "--cell", "ppo", "--cell", "dqn")
    assert "20 runs in 3 array tasks" in told and "were not chosen" in told
    assert "note: 1 array tasks stay: they train other cells, too" in user.ascent("cancel", "--cell", "ppo")
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)


@pytest.mark.slow
def test_efficiency_by_the_records(cluster: Cluster, tmp_path: Path) -> None:
    """Without accounting, core-hours are those of the records."""
    user = User(cluster, tmp_path, LONG)
    assert user.ascent("status", "--efficiency", expect=2).startswith("error: nothing of sweep ")
    user.submit()
    user.wait_done()
    said = user.ascent("status", "--efficiency")
    assert "core-hours and GiB, from the run records (sacct: " in said and "lost: 0.00 core-hours, 0%" in said
    ((use,), lost, _) = efficiency.measure(user.planned(), user.out, user.sweep.stem)
    records = [user.record(seed)["attempts"] for seed in (0, 1)]
    assert use.used == pytest.approx(sum(attempt["cpu_s"] for some in records for attempt in some))
    assert (use.tasks, use.starts, lost) == (2, 2, 0)

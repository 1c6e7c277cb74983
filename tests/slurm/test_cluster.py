"""The throw-away cluster does what the tests of `slurm/` lean on."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.small import rest_slow

pytestmark = pytest.mark.usefixtures("real_slurm")


def wait(true: Callable[[], object], timeout: float = 60) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def submit(cluster: Cluster, *options: str, wrap: str) -> Path:
    """Submit a line of shell. Returns the file of its output, named by the job's id."""
    keep = ("--requeue", "--open-mode=append", f"--output={cluster.folder}/%j.out")
    done = cluster.run("sbatch", "--parsable", *keep, *options, "--wrap", wrap)
    assert done.returncode == 0, done.stderr
    return cluster.folder / f"{done.stdout.strip()}.out"


def lines(output: Path) -> list[str]:
    """What a job wrote so far, without SLURM's own remarks."""
    text = output.read_text() if output.exists() else ""
    return [line for line in text.splitlines() if not line.startswith("slurmstepd")]


def queue(cluster: Cluster, state: str = "all") -> set[str]:
    """The ids of the jobs in the queue."""
    return set(cluster.run("squeue", "--noheader", "--format=%i", f"--states={state}").stdout.split())


def processes_naming(folder: Path) -> list[str]:
    """The living processes that have the folder in their command line."""
    listing = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listing.splitlines() if str(folder) in line]


@pytest.fixture
def quiet(cluster: Cluster) -> Cluster:
    """The module's cluster, with all nodes ready and no jobs."""
    cluster.run("scancel", "--user", str(os.geteuid()))
    cluster.wait_ready()
    wait(lambda: not queue(cluster, "PENDING,RUNNING,COMPLETING"))
    return cluster


def test_each_node_runs_a_job_that_sees_the_gpu_it_asked_for(quiet: Cluster) -> None:
    tell = "echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES"
    outputs = {node: submit(quiet, "--gres=gpu:1", f"--nodelist={node}", wrap=tell) for node in quiet.nodes}
    for node, output in outputs.items():
        wait(lambda output=output: lines(output))
        assert lines(output) == [f"{node} 0"]


def test_both_gpus_of_a_node_are_given_out_once(quiet: Cluster) -> None:
    hold = "echo $CUDA_VISIBLE_DEVICES; sleep 600"
    outputs = [submit(quiet, "--gres=gpu:1", "--nodelist=node1", wrap=hold) for _ in range(3)]
    wait(lambda: sum(bool(lines(output)) for output in outputs) == 2)
    assert sorted(line for output in outputs for line in lines(output)) == ["0", "1"]


def test_array_indices_are_below_the_maximum(quiet: Cluster) -> None:
    assert quiet.run("sbatch", "--hold", "--array=1000", "--wrap", "true").returncode == 0
    assert "Invalid job array" in quiet.run("sbatch", "--hold", "--array=1001", "--wrap", "true").stderr


def test_an_urgent_job_has_others_requeued(quiet: Cluster) -> None:
    patient = submit(quiet, "--nodes=2", "--exclusive", wrap="echo $SLURM_RESTART_COUNT.; sleep 600")
    wait(lambda: lines(patient) == ["."])
    urgent = submit(quiet, "--nodes=2", "--exclusive", "--partition=urgent", wrap="echo now")
    wait(lambda: lines(urgent) == ["now"])
    wait(lambda: lines(patient) == [".", "1."])


@pytest.mark.parametrize("isolate", rest_slow([True, False]))
def test_a_power_cut_kills_all_and_the_job_runs_again_elsewhere(isolate: bool) -> None:
    """Also what the job left behind in a session of its own, with parents that are gone."""
    with Cluster(isolate=isolate) as cluster:
        mark = f"{cluster.folder}/mark"
        stray = f"(setsid sh -c 'sleep 600; : {mark}' &)"
        output = submit(cluster, wrap=f"{stray}; echo $SLURMD_NODENAME; sh -c 'sleep 600; : {mark}'")
        wait(lambda: lines(output) and len(processes_naming(Path(mark))) == 2)
        first = lines(output)[0]
        cluster.kill_node(first)
        assert not processes_naming(Path(mark))
        cluster.set_down(first)
        wait(lambda: len(lines(output)) == 2)
        assert {first, lines(output)[1]} == set(cluster.nodes)
        cluster.start_node(first)
        cluster.set_up(first)
        cluster.wait_ready()


def test_without_slurmd_tasks_live_on(quiet: Cluster) -> None:
    until_told = f"until [ -e {quiet.folder}/go ]; do sleep 0.1; done"
    output = submit(quiet, wrap=f"echo $SLURMD_NODENAME; {until_told}; echo end")
    wait(lambda: lines(output))
    node = lines(output)[0]
    quiet.lose_slurmd(node)
    (quiet.folder / "go").touch()
    wait(lambda: lines(output) == [node, "end"])
    quiet.start_node(node)
    wait(lambda: output.stem in queue(quiet, "COMPLETED"))


def test_a_node_set_down_gives_up_its_job_and_stays_down(quiet: Cluster) -> None:
    output = submit(quiet, wrap="echo $SLURMD_NODENAME; sleep 600")
    wait(lambda: lines(output))
    node = lines(output)[0]
    quiet.set_down(node)
    wait(lambda: len(lines(output)) == 2)
    assert lines(output)[1] != node
    quiet.set_up(node)
    quiet.wait_ready()


def test_the_queue_survives_the_controller(quiet: Cluster) -> None:
    since = time.time()
    waiting = submit(quiet, "--hold", wrap="echo ran")
    saved = quiet.folder / "state" / "job_state"  # written every five seconds at most
    wait(lambda: saved.exists() and saved.stat().st_mtime > since)
    quiet.kill_controller()
    assert quiet.run("scontrol", "ping").returncode != 0
    quiet.start_controller()
    assert waiting.stem in queue(quiet, "PENDING")
    quiet.run("scontrol", "release", waiting.stem)
    wait(lambda: lines(waiting) == ["ran"])


def test_two_clusters_at_once_and_nothing_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "of another cluster")
    with Cluster(nodes=1) as one, Cluster(nodes=3, cpus=1, extra=["MaxArraySize=5"]) as other:
        for cluster in (one, other):
            output = submit(cluster, wrap="echo $SLURM_CONF; sleep 600")
            wait(lambda output=output: lines(output))
            assert lines(output) == [str(cluster.conf)]
        assert other.run("sbatch", "--array=5", "--wrap", "true").returncode != 0
    for cluster in (one, other):
        assert not processes_naming(cluster.folder)
        assert not cluster.folder.exists()


def test_a_failing_start_shows_the_log_and_leaves_nothing() -> None:
    cluster = Cluster(extra=["SelectType=select/nonsense"])
    with pytest.raises(RuntimeError, match=r"slurmctld ended(.|\n)*nonsense"):
        cluster.up()
    assert not cluster.folder.exists() and not processes_naming(cluster.folder)


def test_the_command_line() -> None:
    folder = Path(tempfile.mkdtemp(dir="/tmp"))  # tmp_path may be too long
    command = f"{sys.executable} -m tests.slurm.cluster"
    show = "sinfo --noheader --partition=main --format=%N.%c"
    shell = f'{command} up {folder} --nodes 1 --cpus 3 && eval "$({command} env {folder})" && {show}'
    try:
        done = subprocess.run(shell, shell=True, capture_output=True, text=True)
    finally:
        subprocess.run([*command.split(), "down", folder], check=True)
    assert done.stdout.splitlines()[1:] == ["node1.3"], done.stderr
    assert not folder.exists() and not processes_naming(folder)

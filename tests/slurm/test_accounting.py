"""Sweeps on a cluster with accounting: accounts, QOS and their limits, and what sacct tells of tasks."""

import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import ascent.slurm.cluster as slurm
from ascent.records import files
from ascent.records.errors import InputError
from ascent.slurm import history
from tests.slurm.accounting import MAX_JOBS
from tests.slurm.cluster import Cluster
from tests.slurm.user import LONG, SITE, User, wait
from tests.small import rest_slow

FEW = SITE + 'qos = "few"\n'
SHORT = LONG.replace("40_000", "2_000")


@pytest.fixture(scope="module")
def cluster(real_accounting: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, where SLURM kills what exceeds its memory. Nothing of them remains."""
    User.local = tmp_path_factory.mktemp("local")
    with Cluster(nodes=2, cpus=4, accounting=True, extra=["JobAcctGatherParams=OverMemoryKill"]) as cluster:
        started = {file.name: file.read_text().split()[0] for file in (cluster.folder / "pids").iterdir()}
        yield cluster
    assert started.keys() >= {"mariadbd", "slurmdbd", "slurmctld", "munged", "node1", "node2"}
    assert not [name for name, pid in started.items() if Path("/proc", pid).exists()]
    assert not cluster.folder.exists()


@pytest.mark.slow
def test_account_and_qos(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All jobs of a sweep are charged to its account and QOS; SLURM's accounting has what they used."""
    user = User(cluster, tmp_path, SHORT, f'{SITE}account = "lab"\nqos = "small"\n')
    user.submit("--pack", "1")
    user.wait_done()
    user.check_bytes()
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    (sent,) = user.sent()
    tasks = [f"{sent.job}_{index}" for index in (0, 1)]
    wait(lambda: set(slurm.ended(tasks).values()) == {"COMPLETED, exit code 0:0"}, 20)
    assert list(slurm.ended(tasks)) == tasks
    charged = cluster.run("sacct", "-nPX", "-o", "JobName,Account,QOS").stdout.split()
    assert sorted(charged) == sorted([*[f"{sent.name}|lab|small"] * 2, f"{sent.name}-report|lab|small"])
    said = user.ascent("status", "--efficiency")
    assert "from SLURM's accounting" in said
    row = re.search(rf"(?m)^{sent.name} +2 +2 .*% +\d\.\d\d +\d\.\d\d +\d+%$", said)
    assert row, said  # the last three are memory, asked and used


INVALID_QOS = r"Invalid qos specification \(.*--qos="
REFUSED = {
    "unknown account": (["--account", "nobody"], r"Invalid account .* specified \(.*--account=nobody"),
    "account of others": (["--account", "other"], r"Invalid account .* specified \(.*--account=other"),
    "unknown QOS": (["--qos", "nothing"], INVALID_QOS + "nothing"),
    "QOS for others": (["--qos", "closed"], INVALID_QOS + "closed"),
    "QOS of another account": (["--account", "thesis", "--qos", "few"], INVALID_QOS + "few"),
    "too many tasks": (["--qos", "few", "--pack", "1"], "QOSMaxSubmitJobPerUserLimit; .*--qos=few"),
}


@pytest.mark.parametrize("name", rest_slow(REFUSED))
def test_refused(name: str, cluster: Cluster, tmp_path: Path) -> None:
    """One line in SLURM's words, exit code 2, nothing submitted and nothing written."""
    user, (words, message) = User(cluster, tmp_path, SHORT.replace("0-1", "0-4")), REFUSED[name]
    said = user.ascent("submit", "--site", str(user.site), *words, expect=2)
    assert re.fullmatch(rf"error: sbatch: {message}.*\n", said)
    assert not user.queue() and not list(user.out.glob("slurm/*/jobs/*"))


def test_no_room_for_the_report(cluster: Cluster, tmp_path: Path) -> None:
    """The tasks are as many as the QOS allows, the report's job is one too many: all are taken back."""
    user = User(cluster, tmp_path, SHORT.replace("0-1", f"0-{MAX_JOBS - 1}"), FEW)
    said = user.ascent("submit", "--site", str(user.site), "--pack", "1", expect=2)
    assert re.fullmatch(r"error: sbatch: QOSMaxSubmitJobPerUserLimit; .*\n", said)
    wait(lambda: not user.queue(), 60)
    assert not list(user.out.glob("slurm/*/jobs/*"))


@pytest.mark.slow
def test_fed(cluster: Cluster, tmp_path: Path) -> None:
    """With `max_queued` as the QOS allows, nothing is refused, and the whole sweep is trained."""
    user = User(cluster, tmp_path, SHORT.replace("0-1", "0-5"), f"{FEW}max_queued = {MAX_JOBS}\n")
    most = []
    with ThreadPoolExecutor() as pool:
        fed = pool.submit(user.submit, "--pack", "1", "--feed")
        while not fed.done():
            most.append(len(user.queue()))
            time.sleep(0.1)
    assert fed.result().count("runs in") > 1 and 1 < max(most) <= MAX_JOBS
    user.wait_done()
    user.check_bytes()


# A node with cgroups ends a job that used up its memory with this wait status, which no process can have.
OUT_OF_MEMORY = """
import ctypes, glob, sys
slurm = ctypes.CDLL(glob.glob("/usr/lib/*/slurm*/libslurmfull.so")[0], ctypes.RTLD_GLOBAL)
slurm.slurm_init(None)
sys.exit(slurm.slurm_complete_job(int(sys.argv[1]), 253))
"""


@pytest.mark.slow
def test_out_of_memory(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The controller and accounting agree on the state, status tells it, and the next request is larger."""
    user = User(cluster, tmp_path, LONG, f'{SITE}mem = "1500M"\n')
    user.submit()
    user.wait_step(0)
    job = f"{user.sent_first().job}_0"
    number = cluster.run("squeue", "-h", "-j", job, "-o", "%A").stdout.strip()
    done = cluster.run(sys.executable, "-c", OUT_OF_MEMORY, number)
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    outcome = {job: "OUT_OF_MEMORY, exit code 0:125"}
    wait(lambda: slurm.ended([job]) == outcome, 20)
    wait(lambda: not user.queue(), 60)
    with monkeypatch.context() as patch:
        patch.setattr(slurm, "accounts", refuse)
        assert slurm.ended([job]) == outcome, "without accounting"
    assert f"job {job} ended as OUT_OF_MEMORY" in user.ascent("status", expect=1)
    told = user.submit()
    assert "3000M" in told, told
    user.wait_done()
    user.check_bytes()


def refuse(*_: object) -> list[list[str]]:
    raise InputError("no accounting")


def test_killed_for_its_memory(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without cgroups, by OverMemoryKill: accounting has a task that failed by signal 9, its log says why."""
    eat = f"{sys.executable} -c 'import time; kept = b\"1\" * 200_000_000; time.sleep(60)'"
    words = ("sbatch", "--parsable", "--array=0", "--mem=50M", f"--output={cluster.folder}/%A.log")
    job = cluster.run(*words, "--wrap", eat).stdout.strip()
    monkeypatch.setenv("SLURM_CONF", str(cluster.conf))
    wait(lambda: "FAILED" in slurm.ended([f"{job}_0"]).get(f"{job}_0", ""), 30)
    assert slurm.ended([f"{job}_0"]) == {f"{job}_0": "FAILED, exit code 0:9"}
    assert history.EXCEEDED in "\n".join(files.last_lines(cluster.folder / f"{job}.log"))

"""Sweeps on a real cluster: whatever happens there, the bytes are those of a run that nobody disturbed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest

from ascent.records import files
from ascent.records.errors import InputError
from ascent.runners import own
from ascent.runners.train import train
from ascent.slurm import sites, submit
from tests.slurm.cluster import Cluster
from tests.slurm.user import A_MINUTE, LONG, LONGER, SITE, THIRTY, User, reach_the_time_limit, wait
from tests.small import results


@pytest.fixture(scope="module")
def cluster(real_slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Two nodes, and arrays of at most four tasks."""
    User.local = tmp_path_factory.mktemp("local")
    with Cluster(nodes=2, cpus=4, max_array_size=4) as cluster:
        yield cluster


def test_thirty_runs(cluster: Cluster, tmp_path: Path) -> None:
    """Submitted, trained on two nodes, reported by the dependent job; then there is nothing to submit."""
    user = User(cluster, tmp_path, THIRTY)
    told = user.submit("--pack", "4", "--cpus", "2")
    assert "30 runs in 5 array tasks of 2 arrays" in told, "an array is no larger than MaxArraySize"
    assert "nothing to submit: 0 runs are finished, 30 in the queue" in user.submit()
    said = user.ascent("status", expect=1)
    assert re.search(r"30 runs: .*(pending|running)", said) and "report: pending (Dependency)" in said
    user.wait_done()
    assert "30 done" in user.ascent("status")
    wait((tmp_path / "page" / "index.html").exists, 60)
    assert "Thirty runs" in (tmp_path / "page" / "index.html").read_text()
    user.check_bytes()
    attempts = [
        files.read_json(path)["attempts"] for path in (user.out / "classic").glob("*/*/seed-*/run.json")
    ]
    assert len(attempts) == 30 and all(len(some) == 1 for some in attempts)
    assert {some[0]["SLURMD_NODENAME"] for some in attempts} == {"node1", "node2"}
    assert "nothing to submit: 30 runs are finished" in user.submit()
    logs = sorted(path.name for sent in user.sent() for path in sent.log(0).parent.glob(f"{sent.name}-?.log"))
    assert len(logs) == 5 and logs[0].startswith(user.sweep.stem)


@pytest.mark.slow
def test_time_limit(cluster: Cluster, tmp_path: Path) -> None:
    """The warning comes, checkpoints are written, the task is requeued and ends with the same bytes."""
    user = User(cluster, tmp_path, LONG, A_MINUTE)
    user.submit()
    user.wait_step(0)
    reach_the_time_limit(user)
    log = user.sent()[0].log(0).read_text()
    assert "requesting a requeue" in log and "restart 1" in log
    user.check_bytes()


MINE = """
seeds = "0-1"
evaluations = 2
episodes = 1

[[environments]]
name = "corridor"
id = "gym:corridor:Corridor-v0"

[[cells]]
algorithms = ["mine.py"]
tasks = ["CartPole-v1", "corridor"]
steps = 600
set = { envs = 2, steps = 16, width = 8 }
"""


@pytest.mark.slow
def test_own_algorithm_and_environment(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file beside the sweep trains on the nodes, as planned, in the environment of the tutorial, which the
    set-up makes known there; an edit asks for another plan.
    """
    file = tmp_path / "mine.py"
    file.write_bytes((own.TEMPLATES / "torch_nn.py").read_bytes())
    page = (Path(__file__).parents[2] / "docs" / "own-algorithm.md").read_text()
    environment = re.findall(r"```python\n(.*?)```", page.partition("## Bring an environment")[2], re.DOTALL)[
        0
    ]
    (tmp_path / "corridor.py").write_text(environment)
    monkeypatch.syspath_prepend(str(tmp_path))  # the test trains the same sweep
    paths = f"export PATH={Path(sys.executable).parent}:$PATH PYTHONPATH={tmp_path}\n"
    (tmp_path / "setup.sh").write_text(paths)
    user = User(cluster, tmp_path, MINE, f'{SITE}setup = "setup.sh"\n')
    user.settings["PYTHONPATH"] = str(tmp_path)
    user.submit("--pack", "1")
    user.wait_done()
    user.check_bytes()
    assert user.record(0)["attempts"][0]["SLURMD_NODENAME"].startswith("node")
    file.write_text(file.read_text() + "# another\n")
    assert "or an algorithm's file changed since" in user.ascent("status", expect=None)


APPTAINER = """#!/bin/sh
# Stands in for Apptainer: records how it was called, and has no scontrol inside.
echo "$@" >> {folder}/calls
while [ "$1" != python ]; do
    [ "$1" != --env ] || export "$2"
    shift
done
shift
PATH=/usr/bin-without-slurm exec {python} "$@"
"""


@pytest.mark.slow
def test_in_a_container(cluster: Cluster, tmp_path: Path) -> None:
    """The image's Python trains; the job's script outside of it passes SLURM's warning on and requeues."""
    (tmp_path / "bin").mkdir()
    stand_in = tmp_path / "bin" / "apptainer"
    stand_in.write_text(APPTAINER.format(folder=tmp_path, python=sys.executable))
    stand_in.chmod(0o755)
    (tmp_path / "image.sif").touch()
    (tmp_path / "setup.sh").write_text(f"PATH={tmp_path / 'bin'}:$PATH\n")
    user = User(cluster, tmp_path, LONG, f'{A_MINUTE}setup = "setup.sh"\ncontainer = "image.sif"\n')
    user.submit()
    user.wait_step(0)
    reach_the_time_limit(user)
    calls = (tmp_path / "calls").read_text().splitlines()
    digest = f"sha256:{sha256(b'').hexdigest()}"
    assert {attempt["container"] for attempt in user.record(0)["attempts"]} == {digest}
    image = tmp_path / "image.sif"
    inside = f"exec --env ASCENT_CONTAINER={digest} --bind {user.out} {image} python -P -m ascent.slurm.task"
    # Twice, or more often: on a busy machine a minute may pass again.
    assert len(calls) >= 3 and calls[0].startswith(inside) and {*calls[:-1]} == {calls[0]}
    assert f" {image} python -P -m ascent report " in calls[-1]
    user.check_bytes()
    said = user.ascent("submit", "--site", str(user.site), "--container", "nowhere.sif", expect=2)
    assert said == "error: container: nowhere.sif: no such image\n"


def test_requeued_and_cancelled(cluster: Cluster, tmp_path: Path) -> None:
    """One task is requeued, another cancelled in the middle; submitted again, nothing is trained twice."""
    user = User(cluster, tmp_path, LONG)
    user.submit("--pack", "1")
    job = user.sent()[0].job
    steps = [user.wait_step(seed) for seed in (0, 1)]
    cluster.run("scontrol", "requeue", f"{job}_0")
    cluster.run("scancel", f"{job}_1")
    wait(lambda: not any(line.startswith(f"{job}_1 ") for line in user.queue()), 40)
    said = user.ascent("status", expect=1)
    assert "1 interrupted" in said and "failed" not in said
    told = user.submit("--pack", "1")
    assert "1 runs in 1 array tasks" in told and "1 in the queue" in told
    user.wait_done()
    user.check_bytes()
    for seed, step in enumerate(steps):
        first, second = user.record(seed)["attempts"]
        assert second["from_step"] >= step and second.get("lost_steps", 0) == 0
        assert (first["SLURM_ARRAY_JOB_ID"] == second["SLURM_ARRAY_JOB_ID"]) == (seed == 0)


@pytest.mark.slow
def test_a_node_dies(cluster: Cluster, tmp_path: Path) -> None:
    """Its tasks are killed with it; its runs finish on the other node from their last checkpoints."""
    user = User(cluster, tmp_path, LONG)
    user.submit()
    step = user.wait_step(0)
    node = user.record(0)["attempts"][0]["SLURMD_NODENAME"]
    cluster.kill_node(node)
    try:
        cluster.set_down(node)
        user.wait_done()
    finally:
        cluster.start_node(node)
        cluster.set_up(node)
    first, second = user.record(0)["attempts"]
    assert second["SLURMD_NODENAME"] != node and second["from_step"] >= step
    assert "ended" not in first and first["lost_steps"] >= 0 and user.record(0)["restarts"] == 1
    user.check_bytes()


@pytest.mark.slow
def test_two_copies_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """A node's daemon is lost, its task lives on while SLURM runs it again elsewhere: one of them writes."""
    user = User(cluster, tmp_path, LONGER)
    user.submit()
    user.wait_step(0)
    node = user.record(0)["attempts"][0]["SLURMD_NODENAME"]
    cluster.lose_slurmd(node)
    try:
        cluster.set_down(node)
        wait(lambda: len(user.record(0)["attempts"]) == 2, 60)
        user.wait_done()
    finally:
        cluster.start_node(node)
        cluster.set_up(node)
    user.check_bytes()
    assert "taken over by" in "".join(path.read_text() for path in user.out.rglob("logs/*.log"))


@pytest.mark.slow
@pytest.mark.parametrize("saved", [True, False])
def test_the_controller_restarts(cluster: Cluster, tmp_path: Path, saved: bool) -> None:
    """What it had saved goes on. A job that it forgets is killed on its node, and may be submitted again."""
    user = User(cluster, tmp_path, LONGER)
    user.submit("--pack", "1")
    user.wait_step(0)
    if saved:
        cluster.save_queue(user.sent()[0].job)
    cluster.kill_controller()
    try:
        said = user.ascent("status", expect=1)
        assert "running" in said, "the records still tell"
    finally:
        cluster.start_controller()
    if not saved:
        user.submit("--pack", "1")
    user.wait_done()
    user.check_bytes()


@pytest.mark.slow
def test_preempted(cluster: Cluster, tmp_path: Path) -> None:
    """Another job takes the node: SLURM requeues the task, which goes on there later, or elsewhere."""
    user = User(cluster, tmp_path, LONGER)
    user.submit()
    step = user.wait_step(0)
    node = user.record(0)["attempts"][0]["SLURMD_NODENAME"]
    # Not both nodes: after other tests one may be out of service for a while.
    urgent = ("--partition=urgent", f"--nodelist={node}", "--exclusive", "--output=/dev/null")
    done = cluster.run("sbatch", *urgent, "--wrap=sleep 3")
    assert not done.returncode, done.stderr
    user.wait_done()
    attempts = user.record(0)["attempts"]
    assert len(attempts) == 2 and attempts[1]["from_step"] >= step
    user.check_bytes()


@pytest.mark.slow
def test_two_users_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """Both submit the same sweep: one finds the other's runs in the queue, and each run is begun once."""
    user = User(cluster, tmp_path, LONG)
    user.ascent("plan")
    with ThreadPoolExecutor() as pool:
        told = sorted(pool.map(lambda _: user.submit("--pack", "1", "--cpus", "2"), range(2)))
    assert "2 runs in 1 array tasks" in told[0]
    assert "nothing to submit: 0 runs are finished, 2 in the queue" in told[1]
    user.wait_done()
    assert [user.started(seed) for seed in (0, 1)] == [1, 1]
    user.check_bytes()
    assert "nothing to cancel" in user.ascent("cancel")


@pytest.mark.slow
def test_fed(cluster: Cluster, tmp_path: Path) -> None:
    """A queue that takes three jobs gets no more, whatever fails meanwhile; the last submission reports."""
    user = User(cluster, tmp_path, THIRTY, SITE + "max_queued = 3\n")
    told = user.submit("--pack", "5")
    assert "10 runs in 2 array tasks" in told and "20 wait until the queue has room" in told
    assert len(user.queue()) == 2
    most: list[int] = []
    with ThreadPoolExecutor() as pool:
        fed = pool.submit(user.submit, "--pack", "5", "--feed")
        while not fed.done():
            most.append(len(user.queue()))
            time.sleep(0.1)
    assert max(most) <= 3
    assert "wait until" not in fed.result().splitlines()[-1], fed.result()
    user.wait_done()
    assert "30 done" in user.ascent("status")
    wait((tmp_path / "page" / "index.html").exists, 60)
    user.check_bytes()


IN_STAGES = """
seeds = "0-8"
tasks = ["CartPole-v1"]
steps = 25_000
evaluations = 2
episodes = 5

[report]
estimator = "final"

[design]
stages = [6, 3]

[[systems]]
name = "learns"
algorithm = "ppo"
preset = "small"

[[systems]]
name = "stays"
algorithm = "a2c"
set = { learning_rate = 1e-9 }

[[systems]]
name = "stays, too"
algorithm = "a2c"
set = { learning_rate = 2e-9 }
"""


@pytest.mark.slow
def test_a_design_in_stages(cluster: Cluster, tmp_path: Path) -> None:
    """Six seeds of each; then only the two systems that six seeds cannot tell apart go on."""
    user = User(cluster, tmp_path, IN_STAGES)
    told = user.submit("--pack", "6", "--cpus", "3")
    assert "stage 1 of 2: 18 of 27 runs" in told and "18 runs in 1 array tasks" in told
    assert "stage 1 of 2" in user.ascent("status", expect=1)
    told = user.submit("--pack", "6", "--cpus", "3", "--feed")
    assert "stage 2 of 2: 2 of 3 comparisons are decided, 2 of 3 cells go on" in told
    wait(lambda: not user.queue(), 120, cluster.describe)
    assert "3 of 3 comparisons are decided, with 24 of 27 runs" in user.ascent("status")
    for plan in user.planned():
        seeds = list(range(6 if plan.cell.system == "ppo" else 9))
        assert [seed for seed in plan.seeds if plan.cell.is_finished(seed, user.out)] == seeds
        train(plan.cell, seeds, user.local)
        assert results(plan.cell, user.out, seeds) == results(plan.cell, user.local, seeds)
    assert "3 of 27 runs were saved" in (tmp_path / "page" / "index.html").read_text()


@pytest.mark.slow
def test_no_more_at_once(cluster: Cluster, tmp_path: Path) -> None:
    """The limit of tasks at once holds over all arrays of a sweep."""
    user = User(cluster, tmp_path, THIRTY)
    assert "6 array tasks of 2 arrays" in user.submit("--pack", "5", "--max-parallel", "2")
    most = []
    while user.queue():
        most.append(sum(" RUNNING " in line for line in user.queue()))  # one that ends is none of them
        time.sleep(0.2)
    assert max(most) <= 2 and sum(number > 0 for number in most) > 3
    user.wait_done()


@pytest.mark.slow
def test_shared_runs(cluster: Cluster, tmp_path: Path) -> None:
    """A sweep whose runs are all in the queue for another still gets its report, when they have ended."""
    first, second = User(cluster, tmp_path, LONG), User(cluster, tmp_path, f'title = "Another"\n{LONG}')
    first.submit("--out", str(tmp_path / "first"), "--partition", "main,urgent")
    told = second.submit()
    assert "nothing to submit: 0 runs are finished, 2 in the queue; the report job is submitted" in told
    assert "report" not in second.submit(), "there is one already"
    assert "running" in second.ascent("status", expect=1) or "pending" in second.ascent("status", expect=1)
    second.wait_done()
    page = (tmp_path / "page" / "index.html").read_text()
    assert "Another" in page and second.cell().digest in page
    second.check_bytes()


@pytest.mark.slow
def test_settings_of_the_user_for_slurm(cluster: Cluster, tmp_path: Path) -> None:
    """Variables that change SLURM's commands, and those of a job that we may be in, change nothing."""
    user = User(cluster, tmp_path, LONG)
    user.settings = {
        "SQUEUE_STATES": "COMPLETING",
        "SQUEUE_PARTITION": "urgent",
        "SINFO_PARTITION": "urgent",
        "SBATCH_ARRAY_INX": "0-0",
        "SBATCH_PARTITION": "urgent",
        "SLURM_RESTART_COUNT": "7",
    }
    said = user.submit("--pack", "1")
    assert "note: no effect: SBATCH_ARRAY_INX, SBATCH_PARTITION; use slurm.toml or options\n" in said
    assert "2 in the queue" in user.submit()
    assert len([line for line in user.queue() if "N/A" not in line]) == 2
    user.wait_done()
    assert "SLURM_RESTART_COUNT" not in user.record(0)["attempts"][0]
    assert user.record(0)["attempts"][0]["SLURM_JOB_PARTITION"] == "main"


def test_sbatch_fails_after_it_has_submitted(cluster: Cluster, tmp_path: Path) -> None:
    """The second of two arrays is in the queue, but its number never came back: all are taken out again."""
    real = shutil.which("sbatch")
    (tmp_path / "bin").mkdir()
    wrapper = tmp_path / "bin" / "sbatch"
    wrapper.write_text(f"""#!/bin/sh
[ "$1" = --test-only ] && exec {real} "$@"
{real} "$@" > {tmp_path}/said || exit
[ -e {tmp_path}/first ] && {{ echo "sbatch: error: lost" >&2; exit 1; }}
touch {tmp_path}/first
cat {tmp_path}/said
""")
    wrapper.chmod(0o755)
    user = User(cluster, tmp_path, THIRTY)
    user.settings = {"PATH": f"{wrapper.parent}:{os.environ['PATH']}"}
    words = ("--pack", "2", "--cpus", "3", "--site", str(user.site))
    assert user.ascent("submit", *words, expect=2) == "error: sbatch: lost\n"
    user.settings = {}
    wait(lambda: not user.queue(), 60)
    # A task of the first array may have begun before it was taken out: then its log is there, and no more.
    left = [path for path in user.out.glob(f"slurm/{user.sweep.stem}*/**/*") if path.is_file()]
    assert all(path.suffix in (".log", ".out") for path in left), left
    assert "30 runs in" in user.submit("--cpus", "4")
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)


def test_a_pack_fails(cluster: Cluster, tmp_path: Path) -> None:
    """Its siblings in the same array task go on, status tells at once, and it can be submitted again."""
    user = User(cluster, tmp_path, LONG.replace("40_000", "4_000_000"))
    user.submit("--pack", "1", "--cpus", "2")
    user.wait_step(0), user.wait_step(1)
    os.kill(user.processes()[0], signal.SIGKILL)
    wait(lambda: "1 running, 1 failed" in user.ascent("status", expect=1), 30)
    assert "killed by signal 9" in user.ascent("status", expect=1)
    assert "1 runs in 1 array tasks" in user.submit("--pack", "1")
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)


@pytest.mark.slow
def test_a_run_that_is_held(cluster: Cluster, tmp_path: Path) -> None:
    """A task whose run belongs to somebody fails with one line that names them, which status tells."""
    user = User(cluster, tmp_path, LONG.replace("0-1", "0-0").replace("40_000", "4_000_000"))
    user.submit()
    user.wait_step(0)
    (task,) = (line.split()[0] for line in user.queue() if "RUNNING" in line)
    sent = user.sent()[0]
    environment = cluster.environment() | {"SLURM_ARRAY_JOB_ID": "999999"}
    line = [sys.executable, "-m", "ascent.slurm.task", str(sent.path), "0"]
    done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 1 and task.split("_")[0] in done.stdout and "in use by" in done.stdout
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)


@pytest.mark.slow
def test_no_progress_is_given_up(cluster: Cluster, tmp_path: Path) -> None:
    """A task that is killed again and again before its first checkpoint fails, and status says why."""
    site = SITE.replace("checkpoint_seconds = 0.3", "checkpoint_seconds = 600.0")
    user = User(cluster, tmp_path, LONG, site)
    user.submit()
    job = user.sent()[0].job
    for attempt in range(1, 4):
        wait(lambda n=attempt: user.started(0) == n, 60)
        for process in user.processes():
            os.kill(process, signal.SIGKILL)
        wait(lambda: not user.running(), 60)
        cluster.run("scontrol", "requeue", f"{job}_0")
    reason = "no progress beyond step 0 in 3 attempts"
    wait(lambda: reason in user.ascent("status", expect=1), 60)
    said = user.ascent("status", expect=1)
    assert "2 failed" in said and user.started(0) == 3
    assert "2 runs in 1 array tasks" in user.submit(), "a new job may try again"
    user.wait_done()
    user.check_bytes()


@pytest.mark.slow
def test_gpus(cluster: Cluster, tmp_path: Path) -> None:
    """A GPU reaches the job; asking for more than there are is told in the cluster's words."""
    user = User(cluster, tmp_path, LONG)
    user.submit("--gpus", "1")
    wait(lambda: user.sent()[0].failure(0).exists() and not user.queue(), 60)
    said = user.ascent("status", expect=1)
    assert "failed: " in said and "device 'cuda': torch finds no GPU on this machine" in said
    script = user.sent()[0].path.with_suffix(".sh").read_text()
    probe = re.sub(r"(?m)^exec .*", "echo devices=$CUDA_VISIBLE_DEVICES", script)
    (tmp_path / "probe.sh").write_text(re.sub(r"(?m)^#SBATCH --(array|output).*\n", "", probe))
    cluster.run("sbatch", "--wait", f"--output={tmp_path}/probe.log", str(tmp_path / "probe.sh"))
    assert re.search(r"devices=[01]\n", (tmp_path / "probe.log").read_text())
    before = len(user.sent())
    said = user.ascent("submit", "--gpus", "3", "--site", str(user.site), expect=2)
    assert re.fullmatch(
        r"error: sbatch: .*Requested node configuration is not available \(.*--gres=gpu:3.*\)\n", said
    )
    assert len(user.sent()) == before and not user.queue()


BAD = {
    "partition": (["--partition", "mian"], "unknown partition 'mian'; did you mean 'main'?"),
    "constraint": ([], "sbatch: Invalid feature specification (--partition=main"),
    "setup": (["--setup", "nowhere.sh"], "setup: "),
    "template": (["--template", "slurm.toml"], "the template lacks {{ array }}"),
    "memory": (["--mem", "100M"], "mem: 100M is less than the 1.0 GiB"),
    "time": (["--time", "later"], "time: 'later' is not a time"),
    "option": (["--particion", "main"], "No such option: --particion"),
    "folder": (["--runs", "/proc/runs"], "/proc"),
    "blank": (["--runs", "my runs"], "the path must not contain spaces"),
    "site": (["--site", "nowhere.toml"], "nowhere.toml: "),
    "cores": (
        ["--cpus", "64"],
        "sbatch: Requested node configuration is not available (--partition=",
    ),
    "size": (["--mem", "900G"], "Requested node configuration is not available"),
    "report": ([], "sbatch: Requested node configuration is not available (--partition=main"),
    "list": (["--partition", "main,urgnt"], "unknown partition 'urgnt'; did you mean 'urgent'?"),
    "kind of GPU": ([], "sbatch: Requested node configuration is not available (--partition=main"),
    "licence": ([], "sbatch: Invalid license specification"),
    "array": ([], "extra.0: '--array=0-3' is set by `ascent submit` itself"),
    "cell": (["--cell", "a2d"], "unknown cell 'a2d'; did you mean 'a2c'?"),
    "image": (["--container", "ascent.sif"], "container: ascent.sif: no such image"),
    "name of a node": (["--exclude", "nodeX"], "sbatch: Invalid node name specified"),
    "no node left": (["--exclude", "node[1-2]"], "sbatch: Requested node configuration is not available ("),
    "memory for two": (
        ["--cpus", "2", "--pack", "1", "--mem", "1G"],
        "mem: 1G is less than the 2.0 GiB that 2 packs may need",
    ),
}
# What a wrong site's file has instead of SITE.
BAD_FILES = {
    "constraint": SITE + 'constraint = "zen9"',
    "report": SITE.replace('"500M"', '"900G"'),
    "kind of GPU": SITE + 'gpus = 1\ngpu_type = "h1000"',
    "licence": SITE + 'extra = ["--licenses=matlab"]',
    "array": SITE + 'extra = ["--array=0-3"]',
}


# The default tests try three that the controller refuses, and two that `ascent submit` refuses itself.
OFTEN = ("partition", "constraint", "cores", "licence", "memory")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in OFTEN else pytest.mark.slow) for name in BAD]
)
def test_bad_input(name: str, cluster: Cluster, tmp_path: Path) -> None:
    """One clear line, exit code 2, nothing submitted and nothing written."""
    user, (words, message) = User(cluster, tmp_path, LONG, BAD_FILES.get(name, SITE)), BAD[name]
    said = user.ascent("submit", "--site", str(user.site), *words, expect=2)
    assert message in said and said.startswith("error: ") and said.count("\n") == 1, said
    assert not user.queue() and not list(user.out.glob("slurm/*/jobs/*"))


def test_check(cluster: Cluster, tmp_path: Path) -> None:
    """A probe tells what a task would meet on a node; a site that passed is not mentioned again."""
    user = User(cluster, tmp_path, LONG)
    said = user.ascent("submit", "--site", str(user.site), "--check")
    for what in ("jobs", "node", "folder of runs", "commit", "torch", "mujoco", "scontrol", "warning"):
        assert re.search(rf"(?m)^{what} +ok ", said), said
    assert "ready: " in said and not user.queue() and not list(user.out.glob("slurm/*/jobs"))
    (tmp_path / "setup.sh").write_text("grep -q nothing /dev/null\nPATH=/usr/bin:/bin\n")
    words = ("--site", str(user.site), "--setup", str(tmp_path / "setup.sh"))
    said = " ".join(user.ascent("submit", *words, "--check", expect=1).split())
    assert re.search(r"probe FAIL it ended without an answer .*no python on the PATH", said), said
    assert said.endswith("not ready: probe") and not user.queue()
    words_64 = ("--site", str(user.site), "--cpus", "64", "--check")
    said = " ".join(user.ascent("submit", *words_64, expect=1).split())
    assert re.search(r"jobs FAIL .*node configuration is not available .*--cpus-per-task=64", said), said
    assert "no check of this site has passed" not in user.submit(), "it has"
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)
    assert "note: no check of this site has passed" in user.ascent("submit", *words)
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)


def test_a_folder_in_memory(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused where compute nodes are other machines than this one."""
    monkeypatch.setenv("SLURM_CONF", cluster.environment()["SLURM_CONF"])
    submit.check(sites.Site(), Path("/dev/shm/runs"))
    monkeypatch.setattr(submit, "_single_machine", lambda: False)
    submit.check(sites.Site(), Path("/usr/runs"))
    with pytest.raises(InputError, match=r"/dev/shm/runs is on a tmpfs"):
        submit.check(sites.Site(), Path("/dev/shm/runs"))


def test_an_edited_sweep(cluster: Cluster, tmp_path: Path) -> None:
    user = User(cluster, tmp_path, LONG)
    user.submit()
    user.sweep.write_text(LONG.replace("40_000", "50_000"))
    said = user.ascent("submit", "--site", str(user.site), expect=2)
    assert re.fullmatch(rf"error: {user.sweep} changed since sweep \S+ was planned .*\n", said)
    assert "showing the sweep as it was planned" in user.ascent("status", expect=1)
    user.ascent("cancel")
    wait(lambda: not user.queue(), 60)


def test_without_slurm(tmp_path: Path) -> None:
    """One line without sbatch; status tells what the records say."""
    sweep = tmp_path / "tiny.toml"
    sweep.write_text(LONG)
    for command, code, message in (
        ("submit", 2, "sbatch is not on the PATH: run this on a login node"),
        ("submit --dry-run", 0, "2 runs in 1 array tasks"),
        ("status", 1, "2 planned"),
    ):
        words = [*command.split(), str(sweep), "--runs", str(tmp_path / "runs")]
        line = [sys.executable, "-m", "ascent", *words]
        environment = os.environ | {"PATH": str(tmp_path)}
        done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, env=environment)
        assert done.returncode == code and message in done.stdout + done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.toml"]


@pytest.mark.slow
def test_without_torch(cluster: Cluster, tmp_path: Path) -> None:
    """A login node has neither torch nor numpy: it can submit what was planned elsewhere, and watch it."""
    user = User(cluster, tmp_path, LONG)
    without = "import sys\nfor name in ('torch', 'numpy', 'gymnasium', 'mujoco'): sys.modules[name] = None\n"
    code = without + "import ascent.cli\nascent.cli.main()"

    def ascent(command: str, expect: int) -> str:
        line = [sys.executable, "-c", code, command, str(user.sweep), "--runs", str(user.out)]
        environment = cluster.environment()
        done = subprocess.run(line, capture_output=True, text=True, env=environment, cwd=tmp_path)
        assert done.returncode == expect, done.stderr
        return done.stdout + done.stderr

    for command in ("submit", "status"):
        said = ascent(command, 2)
        assert (
            said.startswith("error: ") and "run `ascent plan` where it is" in said and said.count("\n") == 1
        )
    assert not user.out.exists()
    user.ascent("plan")
    assert "2 planned" in ascent("status", 1)
    assert "2 runs in 1 array tasks" in ascent("submit", 0)
    assert re.search("2 (pending|running)", ascent("status", 1))
    user.wait_done()
    user.check_bytes()


@pytest.mark.slow
def test_ten_thousand_runs(cluster: Cluster, tmp_path: Path) -> None:
    """A plan is shown in under 3 s, their state in under 5 s; nothing is submitted."""
    cells = "\n".join(
        '[[cells]]\nalgorithms = ["ppo", "a2c"]\ntasks = ["CartPole-v1", "Acrobot-v1", "MountainCar-v0", '
        f'"Pendulum-v1", "MountainCarContinuous-v0"]\nset = {{ gamma = 0.{9000 + i} }}'
        for i in range(100)
    )
    user = User(cluster, tmp_path, f'seeds = "0-9"\n{cells}')
    user.ascent("plan")
    start = os.times()
    told = user.ascent("submit", "--dry-run", "--site", str(user.site))
    assert "10,000 runs in 1,000 array tasks" in told and "core-hours" in told and "#SBATCH --array" in told
    assert used(start) < 3.0
    for plan in user.planned()[::2]:
        for seed in plan.seeds:
            folder = plan.cell.folder(user.out) / f"seed-{seed}"
            folder.mkdir(parents=True)
            (folder / "result.json").write_text(json.dumps({"status": "done", "score": 1.0}))
    start = os.times()
    said = user.ascent("status", expect=1)
    assert "10000 runs: 5000 done, 5000 planned" in said
    assert used(start) < 5.0
    assert not user.queue()


def used(start: os.times_result) -> float:
    """Processor seconds of finished child processes since: the machine may be busy with other tests."""
    now = os.times()
    return now.children_user + now.children_system - start.children_user - start.children_system

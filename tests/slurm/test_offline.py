"""What needs no cluster: a site's settings, manifests, and that nothing of this imports torch."""

import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from ascent.records import provenance
from ascent.records.errors import DamagedFile, InputError
from ascent.records.plan import Job, Planned
from ascent.slurm import (
    cluster,
    efficiency,
    history,
    manifest,
    nodes,
    planning,
    scripts,
    sites,
    submission,
    submit,
    task,
)  # fmt: skip
from ascent.slurm.planning import Array, Chosen, Plan
from ascent.slurm.submission import Submission

SWEEP = """
seeds = "0-2"
evaluations = 2
episodes = 1

[[cells]]
algorithms = ["a2c"]
tasks = ["CartPole-v1"]
steps = 64
set = { envs = 2, steps = 8 }

[[cells]]
algorithms = ["dqn"]
tasks = ["CartPole-v1"]
steps = 64
set = { learning_starts = 32 }
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("5", 300),
        ("5:30", 330),
        ("1:00:00", 3600),
        ("1-0", 86400),
        ("1-02:03", 93780),
        ("2-00:00:01", 172801),
    ],
)
def test_times(text: str, expected: int) -> None:
    """The forms that sbatch's manual lists."""
    assert sites.seconds(text) == expected


def test_memory() -> None:
    assert [sites.memory_bytes(text) for text in ("100", "2G", "1t")] == [100 * 2**20, 2**31, 2**40]


BAD_SITES = {
    'partion = "cpu"': "unknown key 'partion'; did you mean 'partition'?",
    'time = "soon"': "time: 'soon' is not a time such as",
    'time = "1"': "time must exceed 150 s (warn_seconds + 30), not '1'",
    'mem = "8 GB"': "mem: '8 GB' is not an amount of memory",
    "mem = 8": "mem: ",
    "cpus = 0": "cpus: ",
    "gpus = true": "gpus: ",
    'partition = "a b"': "partition: 'a b' must be one word",
    "cpus =": "Invalid value",
    "gpus = 2\npacks_per_gpu = 2\ncpus = 3": "cpus: 3 cores are too few for 4 packs on 2 GPUs",
    "max_queued = 1": "max_queued: 1 has no room for a task beside the report's job",
    'extra = ["licenses=x"]': "extra.0: 'licenses=x' is not an option such as --licenses=x",
    'extra = ["--comment=a\\nb"]': "is not an option such as",
    'extra = ["--array=0-3"]': "extra.0: '--array=0-3' is set by `ascent submit` itself",
    'extra = ["--arr=0-3"]': "is set by `ascent submit` itself",
    'extra = ["-a0-3"]': "is set by `ascent submit` itself",
    'extra = ["--no-requeue"]': "is set by `ascent submit` itself",
    'extra = ["--wrap=hostname"]': "is set by `ascent submit` itself",
    'extra = ["-o", "log"]': "extra.0: '-o' is set by `ascent submit` itself",
    'mem = "8G"\nmax_mem = "4G"': "max_mem: 4G is less than mem, 8G",
    "max_queued = 3\nchain = 2": "max_queued: 3 has no room for a task with its chain beside the ",
    'steps = true\ncontainer = "a.sif"': "steps: a pack in a container cannot be a step",
    'extra = ["-xnode1"]': "extra.0: '-xnode1' is set by the key exclude",
    'extra = ["--mem=4G"]': "extra.0: '--mem=4G' is set by the key mem",
    'extra = ["-p", "gpu"]': "is set by the key partition",
}


@pytest.mark.parametrize("text", BAD_SITES)
def test_bad_site(text: str, tmp_path: Path) -> None:
    """One line that names the file or the option, the culprit, and the nearest valid choice."""
    path = written(tmp_path / "site.toml", text)
    with pytest.raises(InputError) as error:
        sites.load(path, {})
    assert BAD_SITES[text] in str(error.value) and "\n" not in str(error.value)
    of_several = any(
        words in str(error.value)
        for words in ("warn_seconds", "too few for", "has no room", "less than mem", "cannot be a step")
    )
    assert str(error.value).startswith(str(path)) or of_several


def test_options_go_before_the_file(tmp_path: Path) -> None:
    path = written(tmp_path / "site.toml", 'partition = "cpu"\ncpus = 4\nsetup = "env.sh"')
    site = sites.load(path, {"cpus": 2, "partition": None})
    assert (site.partition, site.cpus, site.packs, site.device) == ("cpu", 2, 2, "cpu")
    assert site.setup == str(tmp_path / "env.sh"), "relative to the file that says so"
    assert sites.load(path, {"gpus": 2}).packs == 2


BAD_TEMPLATES = {
    "no setup": ("{{ name }}{{ array }}{{ options }}{{ command }}", "the template lacks {{ setup }}"),
    "misspelt": (
        "{{ name }}{{ array }}{{ options }}{{ command }}{{ setup }}{{ aray }}",
        "unknown placeholder 'aray'; did you mean 'array'?",
    ),
    "broken": ("{% for x in %}", "Expected an expression"),
}


@pytest.mark.parametrize("name", BAD_TEMPLATES)
def test_bad_template(name: str, tmp_path: Path) -> None:
    text, message = BAD_TEMPLATES[name]
    path = written(tmp_path / "job.jinja", text)
    with pytest.raises(InputError) as error:
        scripts.check(sites.Site(template=str(path)))
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)
    with pytest.raises(InputError, match=r"setup: .*nowhere\.sh"):
        scripts.check(sites.Site(setup=str(tmp_path / "nowhere.sh")))


def planned(tmp_path: Path, text: str = SWEEP) -> tuple[Path, Path, manifest.Manifest]:
    """A sweep's file, a folder for runs, and the sweep's manifest there."""
    path, out = written(tmp_path / "tiny.toml", text), tmp_path / "runs"
    made = manifest.resolve(str(path), out)
    manifest.write(made)
    return path, out, made


def test_manifest(tmp_path: Path) -> None:
    """It reads back as it was; an edit of the sweep is noticed; so is damage."""
    path, out, made = planned(tmp_path)
    found = manifest.find(str(path), out)
    assert found == made and found.runs == 6
    dqn, a2c = (next(p.cell.digest for p in found.planned if p.cell.system == s) for s in ("dqn", "a2c"))
    assert found.replay[dqn] > 0 and found.replay[a2c] == 0
    path.write_text(SWEEP.replace("64", "128"))
    with pytest.raises(InputError, match=rf"{path} changed since sweep tiny was planned .*ascent plan"):
        manifest.find(str(path), out)
    assert manifest.latest(str(path), out) == made
    content = json.loads(made.path.read_text())
    content["cells"][0]["steps"] = 65
    made.path.write_text(json.dumps(content))
    with pytest.raises(DamagedFile, match="digest mismatch"):
        manifest.read(made.path)


def test_script(tmp_path: Path) -> None:
    """Every resource explicit, the environment in one place, and a script that the shell can read."""
    _, out, made = planned(tmp_path)
    setup = written(tmp_path / "env.sh", "module load python\nsource ~/venv/bin/activate\n")
    site = sites.Site(
        partition="cpu",
        account="rl",
        gpus=2,
        gpu_type="h100",
        cpus=4,
        max_parallel=7,
        setup=str(setup),
    )
    tasks = [[(0, (0, 1))], [(0, (2,)), (1, (0, 1, 2))]]
    sent = submit.new_submission(made, site, Plan(), Array(tasks, "8G"), out)
    text = scripts.job(made, site, sent)
    for option in (
        f"--job-name={sent.name}", "--array=0-1%7", "--partition=cpu", "--account=rl", "--time=04:00:00",
        "--nodes=1", "--ntasks=1", "--cpus-per-task=4", "--mem=8G", "--gres=gpu:h100:2",
        f"--output={sent.log('%a')}", "--open-mode=append", "--requeue", "--signal=B:USR1@120",
    ):  # fmt: skip
        assert text.count(f"#SBATCH {option}\n") == 1, option
    assert text.count("set +euo pipefail") == 1 and text.count("source ~/venv/bin/activate") == 1
    assert text.splitlines()[-1] == f'exec python -P -m ascent.slurm.task {sent.path} "$SLURM_ARRAY_TASK_ID"'
    assert text.splitlines()[0] == "#!/usr/bin/env bash" and "6 runs in 2 array tasks" in text
    report = scripts.report(made, site, "tiny-report", out, tmp_path / "page")
    assert (
        "#SBATCH --gres" not in report
        and f"report {made.path} --runs {out} --out {tmp_path / 'page'}" in report
    )
    for script in (text, report):
        done = subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True)
        assert done.returncode == 0, done.stderr


def test_cores(tmp_path: Path) -> None:
    """A core per pack, unless the user says more; several packs share a GPU."""
    for options, packs, cores in (
        ({}, 1, 1),
        ({"cpus": 4}, 4, 4),
        ({"gpus": 4}, 4, 4),
        ({"gpus": 2, "packs_per_gpu": 3}, 6, 6),
        ({"gpus": 2, "packs_per_gpu": 3, "cpus": 24}, 6, 24),
    ):
        site = sites.load(written(tmp_path / "site.toml", ""), options)
        assert (site.packs, site.cores) == (packs, cores), options


def test_further_options(tmp_path: Path) -> None:
    """As sbatch reads them in a script; the report's job gets them, too."""
    _, out, made = planned(tmp_path)
    path = written(
        tmp_path / "site.toml", """extra = ["--comment=two words", "--exclusive", "--mail-user=a'b"]"""
    )
    site = sites.load(path, {})
    sent = submit.new_submission(made, site, Plan(), Array([[(0, (0,))]], "8G"), out)
    for text in (scripts.job(made, site, sent), scripts.report(made, site, "r", out, tmp_path)):
        lines = [shlex.split(line)[1] for line in text.splitlines() if line.startswith("#SBATCH --")]
        assert {"--comment=two words", "--exclusive", "--mail-user=a'b"} <= set(lines)


@pytest.mark.parametrize(
    ("setup", "code", "said"),
    [
        ("grep -q nothing /dev/null\n[ $UNSET = x ]\nfalse | true", 0, "ran"),
        (". ./rc", 0, "ran"),
        ("PATH=/nowhere", 2, "error: after the set-up, there is no python on the PATH\n"),
        ("python() { false; }", 2, "has no package ascent\n"),
    ],
)
def test_setup(setup: str, code: int, said: str, tmp_path: Path) -> None:
    """Commands in it may fail. What it must bring is tested, and told in one line."""
    written(tmp_path / "rc", "return\nexport NEVER=1\n")
    site = sites.Site(setup=str(written(tmp_path / "env.sh", setup)))
    script = f"set -euo pipefail\n{scripts._setup(site)}\necho ran\n"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    environment = {
        "PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin",
        "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
    }
    words = ["bash", "-c", script]
    if not setup.startswith(("PATH", "python")):
        script = script.replace("python -P", f"{sys.executable} -P")
        words = ["bash", "-c", script]
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code and done.stdout.endswith(f"{said}\n" if code == 0 else said), done


def test_submission_reads_back(tmp_path: Path) -> None:
    _, out, made = planned(tmp_path)
    sent = submit.new_submission(made, sites.Site(), Plan(), Array([[(0, (0, 1))]], "1G"), out)
    assert sent.folder == made.path.parent and sent.planned() == made
    sent.write(job="12")
    text = json.loads(sent.path.read_text())
    assert text["job"] == "12" and Submission(**text).tasks == [[[0, [0, 1]]]]


@pytest.mark.parametrize("keep", [False, True])
def test_tasks_keep_checkpoints(keep: bool, tmp_path: Path) -> None:
    """Where the site's file or the option says so; submissions of before, which say nothing, keep none."""
    _, out, made = planned(tmp_path)
    written(tmp_path / "slurm.toml", f"keep_checkpoint = {str(keep).lower()}")
    site = sites.load(tmp_path / "slurm.toml", {"keep_checkpoint": None})
    sent = submit.new_submission(made, site, Plan(), Array([[(0, (0, 1))]], "1G"), out)
    sent.write()
    assert [job.keep_checkpoint for job in task.jobs_of(submission.read(sent.path), 0)] == [keep]
    text = json.loads(sent.path.read_text())
    del text["keep_checkpoint"]
    sent.path.write_text(json.dumps(text))
    assert not submission.read(sent.path).keep_checkpoint
    assert sites.load(tmp_path / "slurm.toml", {"keep_checkpoint": True}).keep_checkpoint


def test_sweeps_of_one_name(tmp_path: Path) -> None:
    """A folder below `out`/slurm belongs to one sweep; none is made outside of it."""
    _, out, _ = planned(tmp_path)
    (tmp_path / "other").mkdir()
    other = written(tmp_path / "other" / "tiny.toml", SWEEP)
    for action in (manifest.find, manifest.latest, manifest.resolve):
        with pytest.raises(InputError, match=rf"slurm/tiny belongs to {tmp_path}/tiny\.toml: rename "):
            action(str(other), out)
    assert manifest.folder(str(tmp_path / "...toml"), out) == out / "slurm" / "sweep"
    assert manifest.folder(str(tmp_path / "a b\nc.toml"), out) == out / "slurm" / "a-b-c"


def attempted(job: Job, *starts: tuple[str, int], checkpoint: int = 0) -> None:
    """As if a run had been started by array tasks of these numbers, at these steps."""
    folder = job.cell.folder(job.out) / "seed-0"
    folder.mkdir(parents=True, exist_ok=True)
    made = [
        {"SLURM_ARRAY_JOB_ID": array, "SLURM_ARRAY_TASK_ID": "3", "from_step": step} for array, step in starts
    ]
    (folder / "run.json").write_text(json.dumps({"attempts": made}))
    if checkpoint:
        (folder / f"checkpoint-{checkpoint}.bin").write_bytes(b"")


def test_stalled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three starts in this very job at one step, and no checkpoint beyond it: more would not help."""
    _, out, made = planned(tmp_path)
    job = Job(made.planned[0].cell, (0, 1), out)
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    assert task.stalled(job) is None
    for starts in ([("7", 0)] * 2, [("6", 0), *[("7", 0)] * 2], [("7", 0), ("7", 0), ("7", 16)]):
        attempted(job, *starts)
        assert task.stalled(job) is None, starts
    attempted(job, *[("7", 0)] * 3)
    assert task.stalled(job).endswith("seed 0: no progress beyond step 0 in 3 attempts")
    attempted(job, *[("7", 0)] * 3, checkpoint=32)
    assert task.stalled(job) is None, "the third one came to step 32"
    attempted(job, *[("7", 32)] * 3, checkpoint=32)
    assert "no progress beyond step 32" in task.stalled(job)


def test_odd_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bar in a reason, a job of another name, a cluster without arrays, an answer that never comes."""
    said = {
        "squeue": "a-1|12|3|RUNNING|odd | reason\nb|13|N/A|PENDING|x\n",
        "scontrol": "MaxArraySize = 0",
    }
    with monkeypatch.context() as patch:
        patch.setattr(cluster, "client", lambda name, *words: said[name])
        (found,) = cluster.queue(["a-1"])
        assert (found.job, found.index, found.reason, found.waits) == ("12_3", 3, "odd | reason", False)
        with pytest.raises(InputError, match="job arrays are disabled"):
            cluster.max_array_size()
    slow = written(tmp_path / "sbatch", "#!/bin/sh\necho sbatch: try again >&2; exec sleep 9\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(cluster, "TIMEOUT", 1)
    with pytest.raises(InputError, match="sbatch: SLURM did not answer within 1 s: try again"):
        cluster.client("sbatch")


def test_nothing_of_it_imports_torch() -> None:
    """Login nodes may have no torch, no simulators and no numpy."""
    code = (
        "import sys\n"
        "for name in ('torch', 'numpy', 'gymnasium', 'mujoco', 'pandas'): sys.modules[name] = None\n"
        "import ascent, ascent.cli\n"
        "from ascent.runners import estimate\n"
        "from ascent.slurm import cancelling, cluster, efficiency, manifest, scripts, sites, status, submit\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_plan_without_torch(tmp_path: Path) -> None:
    """A current manifest needs no torch; a new one does, and says so in one line."""
    path, out, made = planned(tmp_path)
    code = "import sys\nfor name in ('torch', 'numpy', 'gymnasium'): sys.modules[name] = None\n"
    code += "import ascent.cli\nascent.cli.main()"
    line = [sys.executable, "-c", code, "plan", str(path), "--runs"]
    written_at = made.path.stat().st_mtime_ns
    done = subprocess.run([*line, str(out)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"{made.path}\n"), done.stderr
    assert "up to date: 6 runs of 2 cells" in done.stderr and made.path.stat().st_mtime_ns == written_at
    done = subprocess.run([*line, str(tmp_path / "new")], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert re.search(r"its cells cannot be resolved without \w+: run `ascent plan`", done.stderr)
    assert not (tmp_path / "new").exists()
    path.write_text(SWEEP.replace("64", "128"))
    assert manifest.current(str(path), out) is None and manifest.as_planned(str(path), out)[0] == made.plan


def test_manifests_notice_edited_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also an edit in records/ and in a folder inside algorithms/; an edit of the reports does not matter."""
    for name in ("algorithms/deep/a.py", "records/b.py", "runners/c.py", "suites/d.py", "reports/e.py"):
        (tmp_path / name).parent.mkdir(parents=True)
        written(tmp_path / name, "1")
    monkeypatch.setattr(manifest, "HOME", tmp_path)
    before = manifest.sources_digest()
    written(tmp_path / "reports/e.py", "2")
    assert manifest.sources_digest() == before
    digests = {before}
    for name in ("algorithms/deep/a.py", "records/b.py", "runners/c.py", "suites/d.py"):
        written(tmp_path / name, "2")
        digests.add(manifest.sources_digest())
    assert len(digests) == 5


def met(folder: Path, *events: str) -> None:
    """Journals of nodes: each event is "<node> <task> <what>"; a second start of a task is a restart."""
    restarts: dict[str, int] = {}
    for text in events:
        node, name, what = text.split()
        if what == "started":
            restarts[name] = restarts.get(name, -1) + 1
        nodes.note(
            folder, nodes.Event(node, name, restarts[name], what, "no GPU" if what == "failed" else "")
        )


FAULTS = {
    "two failures in a row": (["a 1 started", "a 1 failed", "a 2 started", "a 2 failed"], ["a"]),
    "one is not enough": (["a 1 started", "a 1 failed"], []),
    "one task twice": (["a 1 started", "a 1 failed", "a 1 started", "a 1 failed"], []),
    "not in a row": (
        ["a 1 started", "a 1 failed", "a 2 started", "a 2 ended", "a 3 started", "a 3 failed"],
        [],
    ),
    "after progress": (
        ["a 1 started", "a 1 trained", "a 1 failed", "a 2 started", "a 2 trained", "a 2 failed"],
        [],
    ),
    "killed with the node": (
        ["a 1 started", "a 1 trained", "a 2 started", "b 1 started", "b 2 started"],
        ["a"],
    ),
    "still running": (["a 7 started", "a 8 started"], []),
    "stopped": (["a 1 started", "a 1 stopped", "a 2 started", "a 2 requeued"], []),
    "forgiven": (["a 1 started", "a 9 started"], []),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faulty_nodes(name: str, tmp_path: Path) -> None:
    """Two tasks in a row that failed before they trained, or were killed; but not where nothing works."""
    events, expected = FAULTS[name]
    met(tmp_path, *events)
    running = {"1", "2", "7", "8"} if name in ("killed with the node", "still running") else set()
    assert nodes.faulty(nodes.read(tmp_path), running, {"9"}) == {}, "no other node works"
    met(tmp_path, "works 5 started", "works 5 trained", "works 5 ended")
    assert list(nodes.faulty(nodes.read(tmp_path), running, {"9"})) == expected
    with (tmp_path / "nodes" / "a.jsonl").open("a") as journal:
        journal.write('{"task": "1", "rest')
    assert list(nodes.faulty(nodes.read(tmp_path), running, {"9"})) == expected, "half a line is left out"


def test_no_progress_within_the_time_limit(tmp_path: Path) -> None:
    """Three time limits at the same step end it; one that came further does not."""
    _, out, made = planned(tmp_path)
    sent = submit.new_submission(made, sites.Site(), Plan(), Array([[(0, (0,))]], "1G"), out)
    job = Job(made.planned[0].cell, (0,), out)
    for restart in range(3):
        journal = task.Journal(sent, 0, restart, [job])
        assert journal.stalled() is None
        journal.note("requeued")
    assert "3 time limits came without progress beyond step 0" in task.Journal(sent, 0, 3, [job]).stalled()
    attempted(job, ("7", 0), checkpoint=32)
    assert task.Journal(sent, 0, 3, [job]).stalled() is None


def killed_for_memory(made: manifest.Manifest, out: Path, mem: str) -> dict:
    """As if all runs of the first cell had been killed for their memory in one task of one submission."""
    site = sites.Site()
    sent = submit.new_submission(made, site, Plan(), Array([[(0, (0, 1, 2))]], mem), out)
    cell = made.planned[0].cell
    last = history.LastTask(sent, 0, cell.label(), cell.folder(out), 0)
    return {(cell.digest, seed): history.Failed(last, "x", out, [], True) for seed in (0, 1, 2)}


def test_memory_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twice what they had for the runs that were killed, up to a cap; then they are left out and named."""
    _, out, made = planned(tmp_path)
    monkeypatch.setattr(planning.cluster, "available", lambda: True)
    monkeypatch.setattr(planning.cluster, "queue", lambda names: [])
    monkeypatch.setattr(planning.cluster, "max_array_size", lambda: 1000)
    tried = {(plan.cell.digest, seed) for plan in made.planned for seed in plan.seeds}
    for before, max_mem, expected in (
        ("1G", None, {"1280M": 3, "2048M": 3}),
        ("3G", None, {"1280M": 3, "4096M": 3}),
        ("4G", None, {"1280M": 3}),
        ("4G", "6G", {"1280M": 3, "6144M": 3}),
        ("", None, {"1280M": 6}),
    ):
        monkeypatch.setattr(
            planning.history, "failed", lambda missing, runs, mem=before: killed_for_memory(made, out, mem)
        )
        todo = planning.plan(made, sites.Site(max_mem=max_mem), out)
        got = {
            array.mem: sum(len(seeds) for task in array.tasks for _, seeds in task) for array in todo.arrays
        }
        assert got == expected, before
        assert todo.too_large == 6 - sum(expected.values())
        again = planning.plan(made, sites.Site(max_mem=max_mem), out, tried)
        assert again.runs == sum(todo.more_memory.values()), "only these are tried again"


def test_memory_of_fewer_packs_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill, `mem` that is enough for the packs of a task is no error, as it was none before."""
    _, out, made = planned(tmp_path)
    monkeypatch.setattr(planning.cluster, "available", lambda: True)
    monkeypatch.setattr(planning.cluster, "queue", lambda names: [])
    monkeypatch.setattr(planning.cluster, "max_array_size", lambda: 1000)
    failures = killed_for_memory(made, out, "2G")
    monkeypatch.setattr(planning.history, "failed", lambda missing, runs: failures)
    todo = planning.plan(made, sites.Site(mem="2G", cpus=4), out, chosen=Chosen(("a2c",)))
    assert [array.mem for array in todo.arrays] == ["4096M"]


def test_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole words of labels, or the beginning of a digest; a word that names no cell is refused."""
    _, out, made = planned(tmp_path)
    monkeypatch.setattr(planning.cluster, "available", lambda: False)
    a2c, dqn = sorted((plan.cell for plan in made.planned), key=lambda cell: cell.system)
    for words, expected in (
        (("a2c",), (True, False)),
        (("CartPole-v1",), (True, True)),
        (("CartPole-v1 dqn",), (False, True)),
        ((dqn.digest[:6],), (False, True)),
        (("a2c", "dqn"), (True, True)),
        ((), (True, True)),
    ):
        found = Chosen(words).of(made.planned)
        assert (a2c.digest in found, dqn.digest in found) == expected, words
    # The whole name of a system is that system alone, even if it is a word of others.
    named = [replace(plan, name=name) for plan, name in zip(made.planned, ("dqn", "dqn (new)"), strict=True)]
    for word, chosen in (
        ("dqn", named[:1]),
        ("CartPole-v1 dqn", named[:1]),
        ("dqn (new)", named[1:]),
        ("CartPole-v1 dqn (new)", named[1:]),
        ("new", named[1:]),
        ("CartPole-v1", named),
    ):
        assert Chosen((word,)).of(named) == {plan.cell.digest for plan in chosen}, word
    todo = planning.plan(made, sites.Site(), out, chosen=Chosen(("a2c",)))
    assert (todo.runs, todo.others) == (3, 3) and "3 were not chosen" in todo.summary()
    assert planning.plan(made, sites.Site(), out, chosen=Chosen(failed="")).runs == 0, "none has failed"
    for word in ("qn", "a2d"):
        with pytest.raises(InputError, match=rf"unknown cell '{word}'"):
            planning.plan(made, sites.Site(), out, chosen=Chosen((word,)))


def test_pruned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old submissions become a line each; the last ones, and those that explain a missing run, stay."""
    _, out, made = planned(tmp_path)
    monkeypatch.setattr(history.cluster, "queue", lambda names: [])
    names = []
    for number in range(history.MOST_KEPT + 5):
        packs = [[(0, (0,))]] if number else [[(1, (0,))]]  # only the first one has the second cell
        sent = submit.new_submission(made, sites.Site(), Plan(), Array(packs, "1G"), out)
        sent = replace(sent, submitted=f"2026-01-01T00:00:{number:02}+00:00")
        sent.write(job=str(number))
        sent.path.with_suffix(".sh").touch()
        names.append(sent.name)
    history.prune(made, out)
    left = submission.names(out, "tiny")
    assert len(left) == history.MOST_KEPT and names[0] in left and not {*names[1:6]} & left.keys()
    lines = (made.path.parent / "jobs" / history.ENDED).read_text().splitlines()
    assert [json.loads(line)["name"] for line in lines] == names[1:6]
    assert efficiency._arrays(made.path.parent).keys() == {str(number) for number in range(len(names))}
    assert len(list((made.path.parent / "jobs").glob("*.sh"))) == history.MOST_KEPT


def test_accounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What sacct prints, summed per array: restarts count, steps have the memory."""
    said = """77_0|3600|4|02:00:00|||04:00:00
77_0.batch|3600|4|02:00:00|512000K||
77_0|1800|4|30:00.500||2G|04:00:00
77_0.batch|1800|4|30:00.500|1G||
77_1|0|0|00:00:00||2G|04:00:00
78_[0-3]|0|0|00:00:00||2G|UNLIMITED
79_0|60|1|1-00:00:00||1536M|UNLIMITED
"""
    monkeypatch.setattr(cluster, "client", lambda *words: said)
    first, second = efficiency._accounted({"77": "one", "78": "none", "79": "two"})
    assert (first.name, first.tasks, first.starts, first.held) == ("one", 1, 2, 5400 * 4)
    assert (first.used, first.asked) == (7200 + 1800.5, 2 * 4 * 4 * 3600)
    assert (first.memory_asked, first.memory_used) == (2 << 30, 1 << 30)
    assert (second.used, second.asked, second.memory_asked) == (86400, None, 3 << 29)


def test_container(tmp_path: Path) -> None:
    """Its digest goes into the records of runs; a job whose image has changed since says so and ends."""
    _, out, made = planned(tmp_path)
    image = written(tmp_path / "image.sif", "1")
    site = sites.Site(container=str(image))
    sent = submit.new_submission(made, site, Plan(), Array([[(0, (0,))]], "1G"), out)
    text = scripts.job(made, site, sent)
    assert f"--env ASCENT_CONTAINER=sha256:{sha256(b'1').hexdigest()} " in text
    check = "\n".join(scripts._unchanged(image))
    run = ["bash", "-c", f"{check}\necho same"]
    assert subprocess.run(run, capture_output=True, text=True).stdout == "same\n"
    written(image, "12")
    done = subprocess.run(run, capture_output=True, text=True)
    assert (
        done.returncode == 2 and done.stdout == f"error: {image} changed since the submission: submit again\n"
    )


def test_definition_of_the_image() -> None:
    """It copies the lock, and the wheel that the command in its head makes, and installs exactly these."""
    text = (scripts.FOLDER / "ascent.def").read_text()
    copied = re.findall(r"(?m)^    (\S+) /opt/ascent/", text)
    assert copied == ["requirements.lock", "dist/*.whl"] and (provenance.HOME / copied[0]).is_file()
    assert "pip wheel --no-deps --no-build-isolation -w dist ." in text
    assert re.findall(r"pip install .* (\S+)", text) == ["/opt/ascent/requirements.lock", "/opt/ascent/*.whl"]


DESIGN = """
seeds = "0-3"
evaluations = 2
episodes = 1
[design]
stages = [3, 1]
[[cells]]
algorithms = ["a2c", "ppo"]
tasks = ["CartPole-v1"]
steps = 1024
"""


def test_stages_of_a_design(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of the first stage, then those of the second; a feed stays for it."""
    from ascent.runners import local

    path, out = written(tmp_path / "staged.toml", DESIGN), tmp_path / "runs"
    made = manifest.resolve(str(path), out)
    manifest.write(made)
    assert manifest.read(made.path).plan.design == made.plan.design
    monkeypatch.setattr(cluster, "available", lambda: False)
    told: list[str] = []

    def send(planned: manifest.Manifest, *_: object, **__: object) -> Plan:
        """Train what would be submitted."""
        todo = planning.plan(planned, sites.Site(), out)
        packs = [(planned.planned[index].cell, seeds) for index, seeds in todo.packs()]
        local.train_locally(planned.plan, out, jobs=1, now=[Planned(*pack) for pack in packs])
        return todo

    monkeypatch.setattr(submit, "send", send)
    monkeypatch.setattr(submission, "runs_in_queue", lambda runs: {})
    submit.feed(
        made, sites.Site(), out, tmp_path / "page", lambda sent: told.append(f"{sent.notes()} {sent.runs}")
    )
    assert [line.rpartition(" ")[2] for line in told] == ["6", "2", "0"]
    assert "stage 1 of 2: 6 of 8 runs" in told[0] and "stage 2 of 2: 0 of 1 comparisons" in told[1]
    assert "1 of 1 comparisons are decided, with 8 of 8 runs" in told[2]
    now, stage = planning.at_stage(made.plan, out)
    assert [each.seeds for each in now] == [(0, 1, 2, 3)] * 2 and "decided" in stage

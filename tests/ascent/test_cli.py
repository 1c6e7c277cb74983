"""The command line as its user meets it: one line and exit code 2 for bad input; from sweep to report."""

import os
import re
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import ascent
from ascent.algorithms import ppo
from ascent.cli import options
from ascent.records.cell import Cell
from ascent.runners import sweep
from ascent.runners.resolve import resolve
from ascent.suites.mujoco import Hopper
from tests.command import call
from tests.small import run_of, small_cell

SWEEP = """
title = "Two tiny cells"
seeds = "0-2"
evaluations = 2
episodes = 1

[[cells]]
algorithms = ["a2c"]
tasks = ["CartPole-v1"]
steps = 64
set = { steps = 16, envs = 2 }

[[cells]]
algorithms = ["ppo"]
tasks = ["CartPole-v1"]
steps = 64
set = { steps = 16, envs = 2, minibatch = 16 }
"""


TRAIN = ["train", "ppo", "CartPole-v1"]
A2C = ["train", "a2c", "CartPole-v1"]
BAD = {
    "algorithm": (["train", "pppo", "CartPole-v1"], "unknown algorithm 'pppo'; did you mean 'ppo'?"),
    "task": (["train", "ppo", "cartpole"], "unknown task 'cartpole'; did you mean 'CartPole-v1'?"),
    "far task": (["train", "ppo", "xyzzy"], "unknown task 'xyzzy'; valid: "),
    "preset": ([*TRAIN, "--preset", "cleanlr"], "unknown preset of ppo 'cleanlr'; did you mean 'cleanrl'?"),
    "hyperparameter": (
        [*TRAIN, "--set", "gama=0.9"],
        "unknown hyperparameter of ppo 'gama'; did you mean 'gamma'?",
    ),
    "no value": ([*TRAIN, "--set", "gamma"], "--set 'gamma': write KEY=VALUE"),
    "ill-typed": ([*TRAIN, "--set", "gamma=high"], "ppo: gamma = 'high': "),
    "quoted number": ([*TRAIN, "--set", "gamma='0.9'"], "ppo: gamma = '0.9': "),
    "Python's False": ([*TRAIN, "--set", "anneal=False"], "ppo: anneal = 'False': "),
    "fraction": ([*TRAIN, "--set", "epochs=2.5"], "ppo: epochs = 2.5: "),
    "nan": ([*TRAIN, "--set", "clip=nan"], "ppo: clip = nan: "),
    "infinite": ([*TRAIN, "--set", "learning_rate=inf"], "ppo: learning_rate = inf: "),
    "out of range": ([*TRAIN, "--set", "gamma=1.01"], "ppo: gamma = 1.01: "),
    "negative": ([*TRAIN, "--set", "learning_rate=-1"], "ppo: learning_rate = -1: "),
    "nested": ([*TRAIN, "--set", "hidden=[64, 0]"], "ppo: hidden.1 = 0: "),
    "together": ([*TRAIN, "--set", "minibatch=60"], "ppo: minibatch: 60 must be at least 2 and divide"),
    "steps": ([*TRAIN, "--steps", "0"], "steps must be a whole number of at least 1, not 0"),
    "steps word": ([*TRAIN, "--steps", "many"], "Invalid value for '--steps'"),
    "evaluations": (
        [*TRAIN, "--evaluations", "0"],
        "evaluations must be a whole number of at least 1, not 0",
    ),
    "duplicate seeds": ([*TRAIN, "--seeds", "0-3,2"], "seeds: 2 is listed twice"),
    "negative seed": ([*TRAIN, "--seeds=-1"], "seeds: '-1' is neither a whole number nor a range"),
    "empty range": ([*TRAIN, "--seeds", "5-2"], "seeds: the range '5-2' runs backwards"),
    "tuning and reporting seeds": (
        [*TRAIN, "--seeds", "0-9,1000"],
        "seeds: 0 and 1000 must be in separate commands or sweeps: seeds from 1000 up are for tuning",
    ),
    "no update": (
        [*A2C, "--set", "steps=16", "--set", "envs=4", "--steps", "60"],
        "steps: 60 are too few for a2c to learn: a window has 16 in each of 4 environments: "
        "choose at least 64",
    ),
    "learning starts late": (
        ["train", "dqn", "CartPole-v1", "--set", "learning_starts=500", "--set", "envs=8", "--steps", "500"],
        "steps: 500 are too few for dqn to learn: learning starts after 500: choose at least 504",
    ),
    "too many evaluations": (
        [*A2C, "--set", "steps=16", "--set", "envs=4", "--steps", "160", "--evaluations", "41"],
        "evaluations: 41 are more than 160 steps of 4 environments can hold: choose at most 40",
    ),
    "no seed": ([*TRAIN, "--seeds", ""], "seeds: '' is neither a whole number nor a range"),
    "pack": ([*TRAIN, "--pack", "0"], "pack must be at least 1, not 0"),
    "jobs": ([*TRAIN, "--jobs", "-2"], "jobs must be at least 0, not -2"),
    "device": ([*TRAIN, "--device", "tpu"], "unknown device 'tpu'"),
    "no GPU": ([*TRAIN, "--device", "cuda"], "device 'cuda': torch finds no GPU on this machine"),
    "checkpoints": (
        [*TRAIN, "--checkpoint-seconds", "nan"],
        "checkpoint-seconds must be finite and not negative, not nan",
    ),
    "option": ([*TRAIN, "--sed", "3"], "No such option: --sed"),
    "command": (["trian"], "No such command 'trian'"),
    "kind of action": (["train", "dqn", "Pendulum-v1"], "Pendulum-v1: dqn needs a discrete action space"),
    "sweep": (["sweep", "dem"], "unknown sweep 'dem'; did you mean 'demo'?"),
    "sweep file": (["sweep", "nowhere.toml"], "No such file or directory"),
    "list": (["list", "task"], "unknown list 'task'; did you mean 'tasks'?"),
    "show": (["show", "ppoo"], "unknown algorithm 'ppoo'; did you mean 'ppo'?"),
    "show task": (["show", "ppo", "--task", "CartPole"], "unknown task 'CartPole'; did you mean"),
    "show preset": (
        ["show", "dqn", "--preset", "cleanlr"],
        "unknown preset of dqn 'cleanlr'; did you mean 'cleanrl'?",
    ),
    "show against": (
        ["show", "dqn", "--against", "cleanlr"],
        "unknown preset of dqn 'cleanlr'; did you mean",
    ),
    "show other task": (
        ["show", "dqn", "--task", "Hopper-v5"],
        "Hopper-v5: dqn needs a discrete action space",
    ),
    "report": (["report", "dem"], "unknown sweep or folder 'dem'; did you mean 'demo'?"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that names the culprit and the nearest valid choice, exit code 2, nothing written."""
    if name == "no GPU" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    monkeypatch.chdir(tmp_path)
    words, message = BAD[name]
    code, out, err = call(capsys, *words)
    assert code == 2
    assert err.startswith("error: ") and message in err
    assert err.count("\n") == 1 and out == ""
    assert not list(tmp_path.iterdir())


ONE = '[[cells]]\nalgorithms = ["ppo"]\n'
BAD_SWEEPS = {
    'sedes = "0-9"': "unknown key 'sedes'; did you mean 'seeds'?",
    "seeds = [0, 0]": "seeds: 0 is listed twice",
    "seeds = [-1]": "seeds must be whole numbers from 0 to 4294967295, not -1",
    'seeds = "998-1001"': "seeds: 998 and 1000 must be in separate commands or sweeps",
    "seeds = 3": "seeds must be a string or an array, not 3",
    "episodes = 0": "episodes must be a whole number of at least 1, not 0",
    "title =": "Invalid value",
    'report = { estimator = "mean_of_last" }': "did you mean 'mean_of_last_ten'?",
    'report = { baseline = "sac" }': "unknown baseline 'sac'",
    'report = { baseline = "a2c (code with envs=3)" }': "'a2c (code with envs=3)'; did you mean 'a2c (",
    "report = { threshold = inf }": "threshold must be finite, not inf",
    'report = { reference = "x" }': "unknown key 'reference'",
    ONE: "missing key 'tasks'",
    f'{ONE}tasks = ["CartPole-v1"]\nstep = 3': "unknown key 'step'; did you mean 'steps'?",
    f'{ONE}tasks = ["CartPole-v1", "CartPole-v1"]': "is listed twice",
    f'{ONE}tasks = ["CartPole-v1"]\nset = {{ clip = "x" }}': "ppo: clip = 'x'",
}


@pytest.mark.parametrize("change", BAD_SWEEPS)
def test_bad_sweep(change: str, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = tmp_path / "mine.toml"
    key = change.split(" ")[0]
    kept = [line for line in SWEEP.splitlines() if not line.startswith(f"{key} =")]
    path.write_text("\n".join([*kept, change] if "[[" in change else [change, *kept]))
    code, _, err = call(capsys, "sweep", str(path), "--runs", str(tmp_path / "runs"))
    assert code == 2
    assert err.startswith(f"error: {path}: ") and BAD_SWEEPS[change] in err and err.count("\n") == 1
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("content", [None, "<mujoco><worldbody>"], ids=["missing", "damaged"])
def test_a_bad_model_file(
    content: str | None, capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "hopper.xml"
    if content:
        model.write_text(content)
    monkeypatch.setattr(Hopper, "spec", replace(Hopper.spec, model=model))
    code, _, err = call(capsys, "train", "ppo", "Hopper-v5", "--runs", str(tmp_path / "runs"))
    assert code == 2
    assert re.fullmatch(rf"error: Hopper-v5: [^\n]* model file {model}; reinstall gymnasium[^\n]*\n", err)
    assert not (tmp_path / "runs").exists()


def test_from_sweep_to_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Sweep, status, report; then the same again, which trains nothing and gives the same page."""
    path, runs, out = tmp_path / "tiny.toml", str(tmp_path / "runs"), tmp_path / "page"
    path.write_text(SWEEP)
    code, said, _ = call(capsys, "status", str(path), "--runs", runs)
    assert code == 1 and "0/3" in said and "3 planned" in said
    code, _, err = call(capsys, "sweep", str(path), "--runs", runs, "--pack", "2", "--jobs", "2")
    assert code == 0 and re.search(r"CartPole-v1 ppo-\w+-[0-9a-f]{10}, runs 3/3, steps 100%", err)
    code, said, _ = call(capsys, "status", str(path), "--runs", runs)
    assert code == 0 and said.count("3/3") == 2
    code, said, _ = call(capsys, "report", str(path), "--runs", runs, "--out", str(out))
    assert code == 0 and said.strip() == str(out / "index.html")
    page = (out / "index.html").read_bytes()
    assert b"Two tiny cells" in page
    code, _, err = call(capsys, "sweep", str(path), "--runs", runs)
    assert code == 0 and err == "nothing to do: every run is finished\n"
    call(capsys, "report", str(path), "--runs", runs, "--out", str(out))
    assert (out / "index.html").read_bytes() == page
    code, said, _ = call(capsys, "report", runs, "--out", str(tmp_path / "folder"))
    assert code == 0 and (tmp_path / "folder" / "index.html").exists()


@pytest.mark.parametrize("words", [TRAIN, ["sweep", "demo"]], ids=["train", "sweep"])
def test_unknown_commit(
    words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both commands that train here warn if the records cannot name the commit."""
    monkeypatch.setattr("ascent.records.provenance.commit_problem", lambda: "the commit is not known")
    monkeypatch.setattr("ascent.runners.local.train_locally", lambda *_, **__: True)
    code, _, err = call(capsys, *words, "--runs", str(tmp_path))
    assert code == 0 and err == "warning: the commit is not known\n"


def test_a_failing_cell_takes_no_other_down(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """One run is in use by another process: its pack fails with one line, the other cell is trained."""
    path, runs = tmp_path / "tiny.toml", tmp_path / "runs"
    path.write_text(SWEEP)
    held = run_of(small_sweep_cell("ppo", minibatch=16), 1, runs)
    held.open()
    code, _, err = call(capsys, "sweep", str(path), "--runs", str(runs), "--jobs", "1")
    assert code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert "seed-1 is in use by process " in line
    assert all(run_of(small_sweep_cell("a2c"), seed, runs).is_finished() for seed in range(3))
    held.close()
    assert call(capsys, "sweep", str(path), "--runs", str(runs))[0] == 0


def small_sweep_cell(system: str, **overrides: int) -> Cell:
    protocol = small_cell(system, "CartPole-v1", points=2, episodes=1).evaluation
    return resolve(
        system, "CartPole-v1", overrides={"steps": 16, "envs": 2, **overrides}, steps=64, evaluation=protocol
    )


def test_folder_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """Neither under a file nor in a read-only file system: one line with the path."""
    (tmp_path / "file").write_text("")
    small = [*A2C, "--steps", "64", "--set", "steps=16", "--set", "envs=2", "--evaluations", "2"]
    for folder, reason in ((tmp_path / "file" / "runs", "Not a directory"), (Path("/proc/runs"), "")):
        code, _, err = call(capsys, *small, "--runs", str(folder))
        assert code == 2 and err.startswith("error: ") and err.count("\n") == 1
        assert str(folder) in err and reason in err


def test_nothing_to_report(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    code, _, err = call(capsys, "report", str(tmp_path), "--out", str(tmp_path / "out"))
    assert code == 2 and str(tmp_path) in err and err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_list(capsys: pytest.CaptureFixture) -> None:
    code, out, _ = call(capsys, "list")
    assert code == 0
    for name in ("ppo", "dqn", "cleanrl", "Acrobot-v1", "demo", "classic"):
        assert name in out


LEARNERS = {"torch", "ascent.runners.resolve"}
FIGURES = {"matplotlib", "seaborn"}
SIMULATORS = {"gymnasium", "mujoco"}
ALL = LEARNERS | FIGURES | SIMULATORS | {"numpy", "pandas", "rich", "scipy"}
RECORDS = Path(__file__).parents[1] / "data" / "version_0_1"


@pytest.mark.parametrize(
    ("command", "code", "expected", "unneeded"),
    [
        ("--help", 0, "report", ALL),
        ("--version", 0, f"ascent {ascent.__version__}", ALL),
        ("train --help", 0, "--seeds", ALL),
        ("report --help", 0, "--out", ALL),
        ("list", 0, "CartPole-v1", LEARNERS | FIGURES | {"pandas", "scipy"}),
        (f"check {RECORDS}", 1, "result-digests", LEARNERS | FIGURES | SIMULATORS | {"scipy"}),
        (f"bundle out --runs {RECORDS}", 2, "out", LEARNERS | FIGURES | SIMULATORS | {"scipy"}),
        (f"cite none --runs {RECORDS}", 2, "none", LEARNERS | FIGURES | SIMULATORS),
    ],
)
def test_start_without_what_is_not_needed(
    command: str, code: int, expected: str, unneeded: set[str], tmp_path: Path
) -> None:
    """Importing torch takes seconds, as do the packages that draw figures."""
    script = f"import sys, ascent.cli; sys.argv = {['ascent', *command.split()]}\n"
    script += "try: ascent.cli.main()\n"
    script += f"finally: print('imported:', *sorted({unneeded} & set(sys.modules)), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path)
    *errors, imported = done.stderr.splitlines()
    assert imported == "imported:"
    assert done.returncode == code and expected in done.stdout + "".join(errors), errors


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("ascent tr", "train"),
        ("ascent train re", "reinforce"),
        ("ascent train ppo CartP", "CartPole-v1"),
        ("ascent sweep de", "demo"),
        ("ascent show dqn --preset cl", "cleanrl"),
        ("ascent train dqn CartPole-v1 --preset cl", "cleanrl"),
        ("ascent show dqn --against cl", "cleanrl"),
        ("ascent list al", "algorithms"),
    ],
)
def test_completion(words: str, expected: str) -> None:
    """The shell completes commands, algorithms, tasks, presets and sweeps, without importing torch."""
    environment = {"_ASCENT_COMPLETE": "complete_bash", "COMP_WORDS": words}
    environment["COMP_CWORD"] = str(len(words.split()) - 1)
    script = "import sys, ascent.cli; sys.argv = ['ascent']\ntry: ascent.cli.main()\n"
    script += "finally: assert 'torch' not in sys.modules"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
    assert done.returncode == 0 and done.stdout.split() == [expected], done.stderr


def test_runs_and_out(capsys: pytest.CaptureFixture) -> None:
    """--runs means the folder of run records in every command that has it; --out is never that folder."""
    commands = "train sweep plan submit status cancel report verify bundle import cite robustness crossplay"
    for command in (*commands.split(), "wandb push"):
        code, out, _ = call(capsys, *command.split(), "--help")
        text = " ".join(out.split())
        assert code == 0 and "--runs <path> Folder of run records. [default: runs]" in text, command
        assert not re.search(r"--out <path> Folder of run records", text), command


def shown(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, *words: str) -> str:
    """What `ascent show` prints on a terminal of 80 columns without colours, without line breaks."""
    monkeypatch.setattr("ascent.cli.train.terminal", lambda: Console(width=80, no_color=True))
    code, out, err = call(capsys, "show", *words)
    assert code == 0 and err == "" and "\x1b" not in out
    assert max(map(len, out.splitlines())) <= 80
    return out


def test_show(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every hyperparameter with its value, its default where it differs, and its meaning; for each suite."""
    monkeypatch.setattr(ppo, "DEFAULTS", {"classic": "one", "mujoco": "many"}, raising=False)
    base = ppo.Config(epochs=4)
    by_task = {"Hopper-v5": replace(base, gamma=0.95), "default": replace(base, gamma=0.97)}
    monkeypatch.setattr(ppo, "PRESETS", {"one": base, "many": by_task, "third": ppo.Config()})
    entry = {
        "title": "A library",
        "repository": "who/what",
        "commit": "0123456789abcdef",
        "files": ["a/b.py"],
    }
    found = {"many": entry | {"differs": ["our own thing"]}, "third": {"searched": "three rates [1, 2]"}}
    monkeypatch.setattr("ascent.runners.presets.sources", lambda algorithm: found)
    out = shown(capsys, monkeypatch, "ppo")
    one, many = out.split("ppo, preset many, for suite mujoco")
    assert one.startswith("ppo, preset one, for suite classic\n") and "source:" not in one
    assert re.search(r"\nepochs +4 +10 +passes over a rollout", one) and re.search(
        r"\nsteps +2048 +time", one
    )
    for field in fields(ppo.Config):
        assert re.search(rf"\n{field.name} ", one) and re.search(rf"\n{field.name} ", many)
    assert re.search(r"\ngamma +by task +0\.99 +discount", many)
    assert re.search(r"\nHopper-v5 +gamma=0\.95", many)
    assert "source: A library, who/what at 0123456789ab\n  a/b.py\n" in many
    assert "what differs from the source:\n  - our own thing\n" in many
    assert "other presets of ppo: third" in many
    out = shown(capsys, monkeypatch, "ppo", "--preset", "third")
    assert "searched: three rates [1, 2]" in out and not re.search(r"\nepochs +10 +\d", out)
    out = shown(capsys, monkeypatch, "ppo", "--task", "Hopper-v5")
    assert "ppo, preset many, for Hopper-v5\n" in out and re.search(r"\ngamma +0\.95 +0\.99 +discount", out)


def test_show_against(capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where two presets differ and nowhere else, for the tasks of both."""
    both = {"Hopper-v5": ppo.Config(gamma=0.95), "Walker2d-v5": ppo.Config(epochs=4)}
    few = {"Hopper-v5": ppo.Config(gamma=0.97), "Walker2d-v5": ppo.Config(epochs=4), "discrete": ppo.Config()}
    monkeypatch.setattr(ppo, "PRESETS", {"a": both, "b": few})
    out = shown(capsys, monkeypatch, "ppo", "--preset", "a", "--against", "b")
    first, second = out.split("ppo, a against b, for Walker2d-v5\n")
    assert first.startswith("ppo, a against b, for Hopper-v5\nhyperparameter  a     b     meaning")
    assert re.search(r"\ngamma +0\.95 +0\.97 +discount", first) and first.count("\n") == 4
    assert second.strip() == "the same hyperparameters"
    out = shown(capsys, monkeypatch, "ppo", "--preset", "a", "--against", "b", "--task", "Walker2d-v5")
    assert out.strip().endswith("the same hyperparameters") and "Hopper" not in out
    code, _, err = call(capsys, "show", "ppo", "--preset", "a", "--against", "b", "--task", "CartPole-v1")
    assert code == 2 and "preset 'a' of ppo has no settings for CartPole-v1" in err and err.count("\n") == 1


def test_show_names_what_a_system_sets(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(capsys, monkeypatch, "sac-fixed", "--task", "Hopper-v5")
    assert (
        re.search(r"\ntune_alpha +false +true", out)
        and "sac-fixed sets in every preset: tune_alpha=false" in out
    )


def test_the_readme_cites_a_cell_of_the_demo() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (digest,) = re.findall(r"^ascent cite (\w+)$", readme, re.MULTILINE)
    assert digest in {plan.cell.digest for plan in sweep.load("demo").planned}


def test_no_name_acts_on_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Escape sequences in what the user typed, or in the names of files, are shown and not sent."""
    strange = "a\x1b[2J\x9b1A\u202eb"
    for words in (("check", strange), ("runs", "list", "--runs", strange), ("show", strange), (strange,)):
        code, _, err = call(capsys, *words)
        assert code == 2 and "\\x1b[2J" in err and err[:-1].isprintable(), words
    damaged = tmp_path / "classic" / strange / "a2c-classic-0123456789"
    damaged.mkdir(parents=True)
    (damaged / "cell.json").write_text("{}")
    code, out, _ = call(capsys, "runs", "list", "--runs", str(tmp_path))
    assert code == 0 and "\\x1b[2J" in out and out.replace("\n", "").isprintable()
    options.note(strange)
    err = capsys.readouterr().err
    assert err.startswith("note: a\\x1b[2J") and err[:-1].isprintable()

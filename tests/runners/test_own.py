"""Algorithms from outside the suite: found, refused, recorded, and never run because a record names them."""

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from ascent.algorithms import SYSTEMS, seedwise
from ascent.records import files, layout
from ascent.records.cell import Cell, Evaluation, read_cell
from ascent.records.errors import DamagedFile, InputError
from ascent.records.plan import Job
from ascent.reports.checking import setting
from ascent.reports.checking.check import check
from ascent.reports.checking.outcome import CANNOT
from ascent.reports.checking.verify import verify
from ascent.runners import own, policies, sweep
from ascent.runners.platform import training_sources
from ascent.runners.resolve import resolve
from ascent.runners.train import train
from ascent.slurm import manifest
from tests.command import call
from tests.small import results

TEMPLATE = Path(seedwise.__file__).parents[1] / "templates" / "seed_axis.py"
SMALL = {"envs": 2, "steps": 8, "hidden": [8]}


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Forget the algorithms from outside the suite, as a new process would."""
    yield
    forgotten()


def forgotten() -> None:
    for name in set(SYSTEMS) - own.SUITE:
        del SYSTEMS[name]


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    path = tmp_path / "hers" / "mine.py"
    path.parent.mkdir()
    path.write_bytes(TEMPLATE.read_bytes())
    return path


def small(word: object, steps: int = 120, task: str = "CartPole-v1") -> Cell:
    return resolve(str(word), task, overrides=SMALL, steps=steps, evaluation=Evaluation(2, 2))


def test_a_file_is_a_system(mine: Path, tmp_path: Path) -> None:
    """Its record names it by name and digest, holds its text, and says nothing of where it was."""
    cell, out = small(mine), tmp_path / "runs"
    assert (cell.system, cell.algorithm, cell.preset) == ("mine", "mine", "default")
    assert train(cell, [0, 1], out)
    text = (cell.folder(out) / layout.CELL).read_text()
    assert json.loads(text)["algorithm_sha256"] == sha256(mine.read_bytes()).hexdigest()
    assert str(mine.parent) not in text + (cell.run_folder(0, out) / layout.RUN).read_text()
    assert read_cell(cell.folder(out)) == cell
    assert training_sources("mine")["own/mine.py"] == mine.read_bytes()
    assert "ascent/algorithms/heads.py" in training_sources("mine")


def test_every_edit_is_another_cell(mine: Path) -> None:
    before = small(mine)
    mine.write_text(mine.read_text() + "\n# a comment\n")
    assert small(mine).digest != before.digest
    assert small(mine).versions == before.versions


def test_cells_of_the_suite_are_as_before() -> None:
    cell = resolve("a2c", "CartPole-v1")
    assert not {"algorithm_sha256", "algorithm_file"} & cell.to_json().keys()
    assert "algorithm_file" not in json.loads(Job(cell, (0,), Path("runs")).to_json())


def test_several_agents_in_a_file(mine: Path) -> None:
    """Each is a system of its own; one may have its own Config and presets."""
    text = """
class Ours(Agent):
    PRESETS = {"bold": Config(learning_rate=0.01)}
"""
    mine.write_text(mine.read_text() + text)
    assert small(f"{mine}:Ours").config["learning_rate"] == 0.01
    assert (small(f"{mine}:Ours").system, small(mine).system) == ("mine-Ours", "mine")
    with pytest.raises(InputError, match=r"unknown agent in mine.py 'Our'; did you mean 'Ours'"):
        small(f"{mine}:Our")


AGENT = TEMPLATE.read_text()
BAD = {
    "no agent": ("x = 1\n", r"mine.py: it defines no class Agent$"),
    "another name": (AGENT.replace("class Agent", "class Ours"), r"no class Agent; choose mine.py:Ours$"),
    "no config": (
        AGENT.replace("class Config", "class Settings").replace("config: Config", "config"),
        r"mine.py: it defines no dataclass Config",
    ),
    "shape": (
        AGENT.replace("rng, explore), None", "rng, explore).unsqueeze(-1), None"),
        r"CartPole-v1: act must return \(2, 2\) torch.int64 for observations \(2, 2, 4\), not \(2, 2, 1\)",
    ),
    "missing package": (
        "import no_such_package\n" + AGENT,
        r"mine.py, line 1: it needs the package 'no_such_package', which is not installed here",
    ),
    "raises": ("1 / 0\n", r"mine.py, line 1: ZeroDivisionError: division by zero"),
    "exits": ("import sys\nsys.exit(0)\n", r"mine.py, line 2: SystemExit: 0"),
    "syntax": ("def f(:\n", r"mine.py, line 1: SyntaxError: invalid syntax"),
    "null byte": ("\0", r"mine.py.*SyntaxError"),
    "raises later": (
        AGENT.replace("self.config = config", "self.config = nothing"),
        r"mine.py, line \d+: NameError: name 'nothing' is not defined",
    ),
    "no default": (AGENT.replace("steps: Count = 16", "steps: Count"), r"line \d+: TypeError: non-default"),
    "version": (AGENT.replace("VERSION = 1", "VERSION = 'a'"), r"VERSION must be a whole number, not 'a'"),
    "environments": (
        AGENT.replace("Rollout(config.steps, config.envs)", "Rollout(config.steps, 3)"),
        r"its experience has envs = 3: Config needs this field 'envs'",
    ),
    "nothing learned": (
        AGENT.replace("self.learned.state_dict()", "{}"),
        r"state_dict has no parameters",
    ),
    "seed axis": (
        AGENT.replace("self.learned.state_dict()", "{'params/a': torch.zeros(7)}"),
        r"state_dict: params/a must have the seed axis first",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_one_line(
    case: str, mine: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is trained or written."""
    content, message = BAD[case]
    mine.write_text(content)
    monkeypatch.chdir(mine.parent)
    sets = [word for name, value in SMALL.items() for word in ("--set", f"{name}={json.dumps(value)}")]
    code, out, err = call(capsys, "train", "mine.py", "CartPole-v1", "--steps", "120", *sets)
    assert (code, out) == (2, "")
    error = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert len(error) == 1
    with pytest.raises(InputError, match=message):
        raise InputError(error[0])
    assert [path.name for path in mine.parent.iterdir() if path.name != "__pycache__"] == ["mine.py"]


def test_names_that_are_taken(mine: Path, tmp_path: Path) -> None:
    taken = mine.rename(mine.with_name("ppo.py"))
    with pytest.raises(InputError, match=r"ppo.py: the suite has an algorithm 'ppo'"):
        small(taken)
    other = tmp_path / "mine.py"
    mine.write_text(AGENT)
    other.write_text(AGENT + "#")
    small(mine)
    with pytest.raises(InputError, match=rf"{other}: 'mine' is also in {mine}"):
        small(other)
    with pytest.raises(
        InputError, match=r"it imports 'helper', which is beside it and would not be recorded"
    ):
        (mine.parent / "helper.py").touch()
        mine.write_text("import helper\n" + AGENT)
        small(mine)
    with pytest.raises(InputError, match=r"none.py: No such file"):
        small(mine.with_name("none.py"))
    with pytest.raises(InputError, match=r"Pendulum-v1: .*hers/mine.py, line \d+: "):
        mine.write_text(AGENT.replace("self.config = config", "self.config = config; action_space.n"))
        small(mine, task="Pendulum-v1")


def test_a_job_carries_the_file(mine: Path, tmp_path: Path) -> None:
    """To a process that has never heard of it; that process refuses a file that was changed in between."""
    cell = small(mine)
    job = Job.from_json(Job(cell, (0,), tmp_path / "runs").to_json())
    forgotten()
    assert train(job.cell, job.seeds, job.out)
    forgotten()
    mine.write_text(mine.read_text() + "#")
    with pytest.raises(
        InputError, match=r"hers/mine.py has changed since CartPole-v1 mine-default-\w+ was planned"
    ):
        train(job.cell, (1,), job.out)


def test_sweeps_and_manifests(mine: Path, tmp_path: Path) -> None:
    """A sweep names the file as seen from its own folder. An edit of the file asks for a new plan."""
    path = mine.parent / "compare.toml"
    systems = (
        '[[systems]]\nname = "ours"\nalgorithm = "mine.py"\n[[systems]]\nname = "A2C"\nalgorithm = "a2c"\n'
    )
    path.write_text(f'seeds = "0-1"\ntasks = ["CartPole-v1"]\n{systems}')
    assert [plan.cell.system for plan in sweep.load(str(path)).planned] == ["mine", "a2c"]
    assert sweep.algorithm_files(str(path)) == [mine]
    path.write_text('seeds = "0-1"\n[[cells]]\nalgorithms = ["mine.py", "a2c"]\ntasks = ["CartPole-v1"]\n')
    assert [plan.cell.system for plan in sweep.load(str(path)).planned] == ["mine", "a2c"]
    manifest.write(manifest.resolve(str(path), tmp_path))
    found = manifest.find(str(path), tmp_path)
    assert found is not None
    assert [plan.cell.algorithm_file for plan in found.planned] == [mine, None]
    content = files.read_json(found.path)
    content["cells"][0]["algorithm_file"] = str(tmp_path / "mine.py")
    files.write_json(found.path, content)
    with pytest.raises(DamagedFile, match=r"names .*mine.py, which the sweep does not"):
        manifest.find(str(path), tmp_path)
    mine.write_text(mine.read_text() + "#")
    with pytest.raises(
        InputError, match=r"the source code or an algorithm's file changed since sweep compare"
    ):
        manifest.find(str(path), tmp_path)


def test_installed_packages(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point names a module of an installed package."""
    (mine.parent / "her_package").mkdir()
    mine.rename(mine.parent / "her_package" / "method.py")
    monkeypatch.syspath_prepend(mine.parent)
    monkeypatch.setattr(own, "_entries", lambda: {"hers": "her_package.method", "gone": "her_package.gone"})
    assert small("hers").system == "hers"
    assert small("hers").algorithm_sha256 == sha256(TEMPLATE.read_bytes()).hexdigest()
    with pytest.raises(InputError, match=r"entry point gone = 'her_package.gone'.* names no Python module"):
        small("gone")
    with pytest.raises(InputError, match=r"unknown algorithm 'her'; did you mean 'hers'"):
        small("her")


def test_packages_are_recorded(mine: Path) -> None:
    assert own.packages(b"import os, torch, numpy\nfrom ascent import suites\n") == {}
    assert own.packages(b"def f():\n    import scipy.stats\n").keys() == {"scipy"}


# ---- records of strangers


@pytest.fixture
def stranger(mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """A stranger's record, and the mark that its file makes when it runs. The file lies close to it."""
    mark = tmp_path / "mark"
    mine.write_text(f"{AGENT}\nopen({str(mark)!r}, 'a').write('ran')\n")
    runs = mine.parent / "runs"
    cell = small(mine)
    assert train(cell, [0, 1], runs)
    for place in (runs, cell.folder(runs)):
        (place / "mine.py").write_bytes(mine.read_bytes())
    (cell.folder(runs) / "mine.py").unlink()  # `check` would name it
    description = cell.folder(runs) / layout.CELL
    content = files.read_json(description)
    files.write_json(description, content | {"algorithm_file": str(mine), "file": str(mine)})
    own._import.cache_clear()
    forgotten()
    mark.unlink()
    monkeypatch.chdir(mine.parent)
    monkeypatch.syspath_prepend(mine.parent)
    return cell.folder(runs), mark


def test_no_record_has_its_algorithm_run(stranger: tuple[Path, Path], capsys: pytest.CaptureFixture) -> None:
    """Whatever is read from it, and wherever its file lies."""
    folder, mark = stranger
    run = folder / "seed-0"
    check(folder)
    outcomes = [*verify(folder), *verify(folder, "start"), *verify(run, "whole")]
    assert {outcome.verdict for outcome in outcomes} == {CANNOT}
    assert any("name it by ASCENT_ALGORITHMS=mine.py if you trust it" in x.reason for x in outcomes)
    assert any("--run-recorded-code" in x.reason for x in outcomes)
    for words in (["robustness", str(folder)], ["watch", str(run)]):
        code, _, err = call(capsys, *words)
        assert code == 2
        assert "its algorithm is a file of its author's" in err
    assert call(capsys, "report", "runs", "--out", str(mark.parent / "out"))[0] == 0
    call(capsys, "cite", folder.name[-10:])
    assert not mark.exists()


def test_a_file_that_the_user_names_plays(
    stranger: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the very file of the record."""
    folder, mark = stranger
    cell = read_cell(folder)
    monkeypatch.setenv(own.KNOWN, "mine.py")
    policies.load(cell, folder, [0, 1])
    assert mark.exists()
    forgotten()
    Path("mine.py").write_text(AGENT)
    with pytest.raises(InputError, match=r"hers/mine.py is another$"):
        policies.load(cell, folder, [0])


def test_a_forged_name_is_found(mine: Path, tmp_path: Path) -> None:
    """A record cannot pass its own file off as another one, or as an algorithm of the suite."""
    cell = small(mine)
    assert train(cell, [0, 1], tmp_path / "runs")
    for forged in (replace(cell, algorithm_sha256="0" * 64), replace(cell, system="ppo")):
        folder = forged.folder(tmp_path / "runs")
        if not folder.exists():
            cell.folder(tmp_path / "runs").rename(folder)
        content = files.read_json(folder / layout.CELL) | forged.to_json() | {"digest": forged.digest}
        files.write_json(folder / layout.CELL, content)
        cell = forged
        found = next(outcome for outcome in check(folder).outcomes if outcome.rule == "own-algorithm")
        assert found.findings
    assert [x.what for x in found.findings] == ["own/mine.py has the name of an algorithm of the suite: ppo"]


def test_recorded_code_runs_when_allowed(stranger: tuple[Path, Path]) -> None:
    folder, _ = stranger
    allowed = setting.Allowed(run_recorded_code=True)
    (outcome,) = verify(folder / "seed-0", "whole", allowed=allowed)
    assert outcome.verdict == "retrained", outcome.reason


def test_results_do_not_depend_on_the_place(mine: Path, tmp_path: Path) -> None:
    """The same file elsewhere gives the same cell and the same bytes."""
    cell = small(mine)
    assert train(cell, [0], tmp_path / "a")
    forgotten()
    moved = mine.rename(tmp_path / "mine.py")
    assert small(moved) == cell
    assert train(small(moved), [0], tmp_path / "b")
    assert results(cell, tmp_path / "a", [0]) == results(cell, tmp_path / "b", [0])
    assert "mine" not in sys.modules

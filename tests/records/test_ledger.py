"""The ledger: plans and starts are recorded before anything else, whole, whoever writes beside."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from ascent.records import files, layout, ledger
from ascent.records.declared import Declared
from ascent.records.errors import DamagedFile
from ascent.records.plan import Plan, Planned
from ascent.records.read import load
from ascent.runners.train import train
from tests.small import small_cell

CELL = small_cell("a2c", "CartPole-v1")
PLAN = Plan((Planned(CELL, (0, 1)),))


def test_a_plans_digest_covers_what_it_declares() -> None:
    """Not the order of cells and seeds; everything else."""
    other = small_cell("ppo", "CartPole-v1")
    both = Plan((Planned(CELL, (0, 1)), Planned(other, (0,))))
    assert ledger.digest(both) == ledger.digest(Plan((Planned(other, (0,)), Planned(CELL, (1, 0)))))
    plans = [
        PLAN, both,
        Plan((Planned(CELL, (0, 1, 2)),)),
        Plan((Planned(replace(CELL, steps=CELL.steps + 1), (0, 1)),)),
        replace(PLAN, declared=Declared("final")),
        replace(PLAN, declared=Declared(baseline="a2c")),
        replace(PLAN, tables={"claims": [{"better": "a2c"}]}),
    ]  # fmt: skip
    assert len({ledger.digest(plan) for plan in plans}) == len(plans)


def test_a_run_names_its_plan_and_stands_in_the_ledger(tmp_path: Path) -> None:
    """Also a run that was stopped, and one that is deleted afterwards; going on adds nothing."""
    name = ledger.declare(PLAN, tmp_path)
    calls = iter(range(1000))
    assert not train(CELL, [0, 1], tmp_path, stop=lambda: next(calls) == 3, plan=name)
    before = {path.name: path.read_bytes() for path in (tmp_path / layout.LEDGER).iterdir()}
    assert train(CELL, [0, 1], tmp_path, plan="another")
    assert {path.name: path.read_bytes() for path in (tmp_path / layout.LEDGER).iterdir()} == before
    run = CELL.run_folder(1, tmp_path)
    assert files.read_json(run / layout.RUN)["plan"] == name == ledger.digest(PLAN)
    folder = CELL.folder(Path()).as_posix()
    assert list(ledger.started(tmp_path)[folder]) == [0, 1]
    assert train(CELL, [4], tmp_path)
    for path in CELL.run_folder(4, tmp_path).iterdir():
        path.unlink()
    CELL.run_folder(4, tmp_path).rmdir()
    (cell,) = load(tmp_path)
    assert cell.started == (0, 1, 4) and cell.selection == "of 3 started"


WRITER = """
import json, sys
from pathlib import Path
from ascent.records import ledger
from ascent.records.cell import Cell
from ascent.records.plan import Plan, Planned
cell, runs = Cell.from_json(json.load(sys.stdin)), Path(sys.argv[1])
for seed in range(int(sys.argv[2]), int(sys.argv[2]) + 10):
    ledger.declare(Plan((Planned(cell, (0, 1)),)), runs)
    ledger.start(cell, [seed], "0123456789ab", runs)
"""


def test_many_writers(tmp_path: Path) -> None:
    """Processes that declare the same plan and start other seeds at the same time lose nothing."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [subprocess.Popen([*command, str(first)], stdin=subprocess.PIPE) for first in (0, 10, 20, 30)]
    for writer in writers:
        writer.communicate(json.dumps(CELL.to_json()).encode())
    assert not any(writer.returncode for writer in writers)
    (seeds,) = ledger.started(tmp_path).values()
    assert sorted(seeds) == list(range(40))
    assert len(list((tmp_path / layout.LEDGER).glob("plan-*"))) == 1


def test_damage(tmp_path: Path) -> None:
    """A changed plan is none; a file of starts that cannot be read is named."""
    name = ledger.declare(PLAN, tmp_path)
    path = tmp_path / layout.LEDGER / layout.plan(name)
    content = files.read_json(path)
    assert ledger.plan(name, tmp_path) == content
    content["report"]["estimator"] = "final"
    files.write_json(path, content)
    assert ledger.plan(name, tmp_path) is None
    with pytest.raises(DamagedFile, match="holds another plan"):
        ledger.declare(PLAN, tmp_path)
    broken = tmp_path / layout.LEDGER / layout.started("x", "y")
    for text in ("{", "{}", '{"runs": [{"cell": "a", "seeds": ["x"], "plan": "", "started": ""}]}'):
        broken.write_text(text)
        with pytest.raises(DamagedFile, match="started-x-y"):
            ledger.started(tmp_path)


def test_the_name_of_a_sweep_stands_beside_its_plan(tmp_path: Path) -> None:
    """It changes no digest; a plan may have several names; a strange one is left out."""
    name = ledger.declare(PLAN, tmp_path)
    content = (tmp_path / layout.LEDGER / layout.plan(name)).read_bytes()
    assert ledger.sweeps(tmp_path) == {}
    for called in ("classic", "mine", "mine", "../../up", "a b", "", "x" * 99):
        assert ledger.declare(replace(PLAN, name=called), tmp_path) == name
    assert ledger.sweeps(tmp_path) == {name: ["classic", "mine"]}
    assert (tmp_path / layout.LEDGER / layout.plan(name)).read_bytes() == content
    assert len(list(tmp_path.rglob("*.json"))) == 3
    assert ledger.plans_by_cell(tmp_path) == {CELL.folder(Path()).as_posix(): {name}}

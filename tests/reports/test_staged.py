"""Sweeps with a design: training stage by stage, and the report."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ascent.records import ledger
from ascent.records.cell import Cell
from ascent.records.declared import Declared, Design
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.records.plan import Plan, Planned
from ascent.reports import staged
from ascent.reports.report import build, rebuild
from ascent.runners import local
from tests.command import call
from tests.reports.conftest import Records, damage

DESIGN = {"stages": [5, 5, 5], "futility": 0.0}
LEVELS = {"ppo": 400.0, "sac": 300.0, "td3": 290.0}  # sac and td3 cannot be told apart


class Trainer:
    """In the place of `train_locally`: writes synthetic runs whose score depends on system and seed."""

    def __init__(self, store: Records) -> None:
        self.store, self.calls = store, list[int]()
        self.folders = {system: store.cell(system=system, points=10) for system in LEVELS}
        cells = [
            Cell.from_json(json.loads((self.folders[system] / "cell.json").read_text())) for system in LEVELS
        ]
        self.plan = Plan(
            tuple(Planned(cell, tuple(range(15))) for cell in cells), Declared(), {"design": DESIGN}
        )

    def __call__(self, plan: Plan, runs: Path, *options: Any, **further: Any) -> int:
        declared, new = ledger.declare(plan, runs), 0
        for planned in options[-1]:
            for seed in planned.cell.missing(planned.seeds, runs):
                noise = np.random.default_rng([seed, len(planned.cell.system), ord(planned.cell.system[0])])
                score = LEVELS[planned.cell.system] + 40 * noise.normal()
                self.store.run(self.folders[planned.cell.system], seed, [20.0] + [score] * 10, plan=declared)
                new += 1
        self.calls.append(new)
        return new


@pytest.fixture
def trainer(store: Records, monkeypatch: pytest.MonkeyPatch) -> Trainer:
    found = Trainer(store)
    monkeypatch.setattr(local, "train_locally", found)
    return found


def make_report(trainer: Trainer) -> Path:
    """Build the report as the command does."""
    cells = [
        Expected.of(each.cell, each.seeds) for each in staged.planned_now(trainer.plan, trainer.store.runs)
    ]
    return build(trainer.store.runs, trainer.store.out, cells, design=trainer.plan.design)


def test_decided_cells_stop(trainer: Trainer, capsys: pytest.CaptureFixture) -> None:
    """The best system is decided after ten seeds, the other two go on; the report says so."""
    runs = trainer.store.runs
    assert staged.train(trainer.plan, runs) == 40
    assert trainer.calls == [15, 15, 10, 0]
    told = capsys.readouterr().err
    assert (
        "stage 2 of 3: 0 of 3" in told
        and "stage 3 of 3: 2 of 3 comparisons are decided, 2 of 3 cells" in told
    )
    assert "3 of 3 comparisons are decided, with 40 of 45 runs" in told
    page = make_report(trainer).read_text()
    assert "5 + 5 + 5 seeds per cell. 2 of 3 stages can decide anything in a family\nof 3" in page
    assert "5 of 45 runs were saved" in page and "before the first run" in page
    assert "Not declared" not in page and "Seeds were added" not in page
    rows = trainer.store.out / "tables" / "comparisons.csv"
    table = [line.split(",") for line in rows.read_text().splitlines()]
    head, pairs = table[0], table[1:]
    columns = {
        name: [row[head.index(name)] for row in pairs]
        for name in ("x", "y", "x_n", "y_n", "stage", "differs")
    }
    assert columns["stage"] == ["2", "2", "3"] and columns["differs"] == ["True", "True", "False"]
    assert columns["x_n"] == columns["y_n"] == ["10", "10", "15"]


def test_the_same_report_again(trainer: Trainer, tmp_path: Path) -> None:
    """From provenance.json, byte for byte."""
    staged.train(trainer.plan, trainer.store.runs)
    page = make_report(trainer)
    about = json.loads((page.parent / "provenance.json").read_text())
    assert about["report"]["design"] == DESIGN and about["report"]["family"] == 3
    again = rebuild(about, trainer.store.runs, tmp_path / "again")
    for path in page.parent.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (again.parent / path.relative_to(page.parent)).read_bytes(), path


@pytest.mark.parametrize("kept", [0, 7, 15, 22, 30, 36])
def test_stopped_and_started_again(kept: int, trainer: Trainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after some runs, training goes on to the same runs and decisions."""
    left = kept
    write = trainer.store.run

    def killed(*arguments: Any, **words: Any) -> Path:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return write(*arguments, **words)

    monkeypatch.setattr(trainer.store, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        staged.train(trainer.plan, trainer.store.runs)
    monkeypatch.setattr(trainer.store, "run", write)
    assert staged.train(trainer.plan, trainer.store.runs) == 40 - kept
    assert [len(each.seeds) for each in staged.planned_now(trainer.plan, trainer.store.runs)] == [10, 15, 15]


def test_a_stage_with_a_damaged_run_is_not_decided(trainer: Trainer) -> None:
    runs = trainer.store.runs
    staged.train(trainer.plan, runs)
    damage(trainer.folders["sac"] / "seed-7" / "eval.csv")
    with pytest.raises(
        InputError, match=r"stage 2 of 3 cannot be decided: classic/CartPole-v1/sac-.*/seed-7: eval"
    ):
        staged.train(trainer.plan, runs)


def test_a_report_in_between(trainer: Trainer) -> None:
    """Pairs are open, and what is decided stands."""
    design = trainer.plan.design
    assert design
    now = staged.standing(trainer.plan, design, trainer.store.runs)
    for _ in range(2):
        trainer(trainer.plan, trainer.store.runs, now.planned)
        now = staged.standing(trainer.plan, design, trainer.store.runs)
    assert now.stage == 3 and now.text(design).startswith("stage 3 of 3: 2 of 3")
    page = make_report(trainer).read_text()
    assert "1 pair is open" in page and "incomplete 10/15" in page


def test_a_report_without_the_design_says_so(trainer: Trainer) -> None:
    """And one with a design that was not declared."""
    staged.train(trainer.plan, trainer.store.runs)
    page = build(trainer.store.runs, trainer.store.out).read_text()
    assert "Not declared before the first run:" in page and "a design was declared" in page
    cells = [
        Expected.of(each.cell, each.seeds) for each in staged.planned_now(trainer.plan, trainer.store.runs)
    ]
    page = build(trainer.store.runs, trainer.store.out, cells, design=Design((5, 10))).read_text()
    assert "another design was declared" in page


def test_looks_without_a_design(store: Records) -> None:
    """Plans that grew: the page gives the false-alarm rate of so many looks."""
    folder = store.cell()
    cell = Cell.from_json(json.loads((folder / "cell.json").read_text()))
    done = 0
    for size in (5, 10, 15, 20):
        declared = ledger.declare(Plan((Planned(cell, tuple(range(size))),)), store.runs)
        for seed in range(done, size):
            store.run(folder, seed, [0.0] + [float(seed)] * 50, plan=declared)
        done = size
    page = store.build()
    assert "Seeds were added without a design:" in page and "5, 10, 15, 20 seeds, 12.6%" in page
    assert "5, 10 seeds, 8.3%" in store.build(store.expected(range(10)))
    assert "Seeds were added" not in store.build(store.expected(range(5)))


SWEEP = """
seeds = "0-4"
evaluations = 2
episodes = 1
[design]
stages = [3, 2]
[[cells]]
algorithms = ["ppo", "a2c"]
tasks = ["CartPole-v1"]
steps = 1024
"""


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """A real sweep in two stages, its report, its check, and what is refused."""
    path, runs, out = tmp_path / "two.toml", tmp_path / "runs", tmp_path / "out"
    path.write_text(SWEEP)
    code, _, err = call(capsys, "sweep", str(path), "--runs", str(runs), "--jobs", "1")
    assert (
        code == 0
        and "stage 1 of 2: 6 of 10 runs" in err
        and "1 of 1 comparisons are decided, with 10 of 10" in err
    )
    assert len(list(runs.glob("*/*/*/seed-*/result.json"))) == 10
    code, _, err = call(capsys, "sweep", str(path), "--runs", str(runs))
    assert code == 0 and "nothing to do" in err
    code, page, err = call(capsys, "report", str(path), "--runs", str(runs), "--out", str(out))
    assert code == 0 and "3 + 2 seeds per cell" in Path(page.strip()).read_text()
    code, _, err = call(capsys, "report", str(path), "--runs", str(runs), "--with-results", "ppo")
    assert code == 2 and "a design compares its own cells only" in err

"""Names of systems: the identity that a sweep gives is the one in statistics, tables, citations and W&B."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ascent.records import files, ledger, shapes
from ascent.records.cell import read_cell
from ascent.records.declared import Declared
from ascent.records.errors import DamagedFile, InputError
from ascent.records.expected import Expected
from ascent.records.plan import Plan, Planned
from ascent.records.read import find, load
from ascent.reports import frames
from ascent.reports.cite import cite
from ascent.reports.mirror.payload import run_payload
from ascent.reports.report import build, rebuild
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.comparisons import Comparisons, compare
from ascent.reports.statistics.declaration import undeclared
from tests.reports.conftest import Records
from tests.reports.perturbed import text_of

TASKS = ("CartPole-v1", "Pendulum-v1")
SEEDS = tuple(range(5))


@pytest.fixture
def planned(store: Records) -> list[Planned]:
    """On two tasks, ppo and an ablated ppo, each with another preset on Pendulum; ten runs each."""
    rng = np.random.default_rng(1)
    found = []
    for name, clip in (("ppo", 0.2), ("ppo without clipping", 1e9)):
        for task, preset in zip(TASKS, ("cleanrl", "zoo"), strict=True):
            folder = store.cell(task, "ppo", preset, config={"clip": clip}, changed={"clip": clip})
            store.flat_runs(folder, list(-500 + 20 * rng.normal(size=len(SEEDS))))
            found.append(Planned(read_cell(folder), SEEDS, name))
    return found


def compared(runs: Path, expected: Sequence[Expected], **declared: object) -> Comparisons:
    what = Declared(**declared)
    return compare(aggregate(load(runs, expected), what), what)


def labels(runs: Path, expected: Sequence[Expected] | None = None) -> list[str]:
    return sorted(cell.label for task in aggregate(load(runs, expected), Declared()) for cell in task.cells)


def test_a_system_is_whole_across_tasks(store: Records, planned: list[Planned]) -> None:
    """Without names, four systems that share no task; the baseline is one of two systems of one algorithm."""
    both = ("ppo", "ppo without clipping")
    found = compared(store.runs, [Expected.planned(plan) for plan in planned], baseline="ppo")
    (group,) = found.groups
    assert group.systems == both and len(group.tasks) == 2 and not group.left_out
    assert [(pair.x.label, pair.y.label) for pair in found.pairs] == [both, both] and found.family == 2
    with pytest.raises(ValueError, match="the declared baseline ppo without is not in this report"):
        compared(store.runs, [Expected.planned(plan) for plan in planned], baseline="ppo without")
    unnamed = compared(store.runs, [Expected.of(plan.cell, plan.seeds) for plan in planned])
    assert not unnamed.groups


def test_others_never_take_the_name(store: Records, planned: list[Planned]) -> None:
    """Such as the shelf's ppo: it is no baseline, and no part of the named system."""
    shelf = store.cell("CartPole-v1", "ppo", "classic")
    store.flat_runs(shelf, [480.0, 490.0, 500.0, 470.0, 460.0])
    expected = [*map(Expected.planned, planned), Expected.of(read_cell(shelf), SEEDS)]
    assert labels(store.runs, expected) == ["ppo", "ppo", "ppo (classic)", *["ppo without clipping"] * 2]
    found = compared(store.runs, expected, baseline="ppo")
    assert {frozenset((pair.x.label, pair.y.label)) for pair in found.pairs} == {
        frozenset(("ppo", "ppo without clipping")), frozenset(("ppo", "ppo (classic)")),
    }  # fmt: skip
    double = [replace(cell, name="ppo") for cell in expected]
    with pytest.raises(InputError, match="3 cells on CartPole-v1 have the name 'ppo'"):
        labels(store.runs, double)


def test_a_folder_has_the_names_of_its_plans(store: Records, planned: list[Planned]) -> None:
    names = ["ppo", "ppo", "ppo without clipping", "ppo without clipping"]
    unnamed = [replace(plan, name="") for plan in planned]
    ledger.declare(Plan(tuple(unnamed)), store.runs)
    assert sorted(cell.name for cell in find(store.runs)[0]) == [""] * 4
    ledger.declare(Plan(tuple(planned)), store.runs)
    assert labels(store.runs) == names
    # A cell with two names has none.
    ledger.declare(Plan((replace(planned[0], name="proximal"), *planned[1:])), store.runs)
    assert sorted(cell.name for cell in find(store.runs)[0]) == ["", *names[1:]]
    # Nor has one whose name another cell of the task has, as after an edit of the sweep.
    edited = store.cell("Pendulum-v1", "ppo", "zoo", config={"clip": 1e8})
    store.flat_runs(edited, [0.0] * 5)
    ledger.declare(Plan((Planned(read_cell(edited), SEEDS, "ppo without clipping"),)), store.runs)
    assert sorted(cell.name for cell in find(store.runs)[0]) == ["", "", "", "", "ppo"]


@pytest.mark.parametrize("name", ["<b>ppo</b>", "", "p" * 65, 1, ["ppo"], "ppo\n", "=ppo"])
def test_a_strangers_name_is_none(name: object, store: Records, planned: list[Planned]) -> None:
    content = ledger.describe(Plan(tuple(planned)))
    for cell in content["cells"]:
        cell["name"] = name
    folder = store.runs / "ledger"
    folder.mkdir()
    (folder / f"plan-{ledger._digest(content)}.json").write_bytes(files.json_bytes(content))
    assert {cell.name for cell in find(store.runs)[0]} == {""}


def test_another_name_was_not_declared(store: Records, planned: list[Planned]) -> None:
    declared = ledger.declare(Plan(tuple(planned)), store.runs)
    for path in store.runs.glob("*/*/*/seed-*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"plan": declared}))
    for name, said in (("ppo", []), ("mine", ["the system was 'ppo', not 'mine'"])):
        (cell,) = load(store.runs, [Expected.planned(replace(planned[0], name=name))])
        found = undeclared(cell, Declared(), store.runs)
        assert [line.partition(", ")[2] for line in found] == said


@pytest.mark.slow
def test_the_name_is_everywhere(
    store: Records, planned: list[Planned], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the tables and the data of a report, which can be built again; in frames, a citation and W&B."""
    ledger.declare(Plan(tuple(planned)), store.runs)
    expected = [Expected.planned(plan) for plan in planned]
    build(store.runs, store.out, expected, declared=Declared(baseline="ppo"))
    before = store.bytes()
    about = json.loads((store.out / "provenance.json").read_text())
    rebuild(about, store.runs, store.out)
    assert store.bytes() == before
    for table in ("scores", "spread", "compute", "completeness"):
        assert set(pd.read_csv(store.out / "tables" / f"{table}.csv")["name"]) == {
            plan.name for plan in planned
        }
    data = pd.read_parquet(store.out / "data.parquet")
    assert data.groupby("name")["task"].nunique().to_dict() == {"ppo": 2, "ppo without clipping": 2}
    read = frames.read(store.runs)
    assert all("name" in frame for frame in (read.cells, read.runs, read.curves, read.episodes))
    monkeypatch.setattr("ascent.reports.cite.refuse", lambda *_: None)  # these records are synthetic
    ablated = planned[2].cell.folder(store.runs)
    for report in (None, store.out):
        text = cite(ablated, report=report)
        assert "ppo without clipping: ppo (preset cleanrl with clip=1000000000.0) on CartPole-v1" in text
    (cell,) = load(store.runs, expected[2:3])
    payload = run_payload(cell, cell.runs[0], store.runs)
    assert payload.name == "CartPole-v1 ppo without clipping seed 0"
    assert "ppo without clipping" in payload.tags and payload.config["name"] == "ppo without clipping"
    about["report"]["expected"][0]["name"] = "<script>"  # a stranger's report
    with pytest.raises(DamagedFile, match="name"):
        shapes.check("provenance.json", about)


def test_reports_without_names_have_no_such_column(sweep: Records) -> None:
    for path in sweep.out.glob("tables/*.csv"):
        assert "name" not in path.read_text().partition("\n")[0].split(",")
    assert "name" not in pd.read_parquet(sweep.out / "data.parquet")
    about = json.loads((sweep.out / "provenance.json").read_text())
    assert not {"name", "grid"} & {key for cell in about["report"]["expected"] for key in cell}


@pytest.mark.parametrize("same", [False, True])
def test_environments_have_the_names_that_their_users_give(store: Records, same: bool) -> None:
    """On the page; CSV files keep the name of the task, and so do two environments of one name."""
    for task, given in (("CartPole-v1", "corridor"), ("Pendulum-v1", "corridor" if same else "<b>maze")):
        environment = {"id": f"gym:corridor:{task}", "name": given}
        for system, level in (("ppo", 100.0), ("sac", 300.0)):
            store.flat_runs(store.cell(task, system, environment=environment), [level + k for k in range(10)])
    page = text_of(store.build())
    heading = "CartPole-v1 <small>classic" if same else "corridor <small>classic: CartPole-v1"
    assert f'<h2 id="classic/CartPole-v1">{heading}</small></h2>' in page
    assert ("<li>corridor: " in page) != same and ("&lt;b&gt;maze" in page) != same and "<b>maze" not in page
    tables = store.out / "tables"
    assert ("| corridor |" in (tables / "scores.md").read_text()) != same
    for name in ("scores", "comparisons", "main"):
        assert set(pd.read_csv(tables / f"{name}.csv")["task"]) == {"CartPole-v1", "Pendulum-v1"}

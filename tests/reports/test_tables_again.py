"""Tables of `ascent robustness` and `ascent crossplay`, true and forged, played again."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ascent.records import layout
from ascent.records.errors import InputError
from ascent.records.seal import seal
from ascent.reports.checking import check
from ascent.reports.checking.grades import REPLAYED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.verify import verify
from ascent.reports.page import crossplay as pages
from ascent.runners import crossplay, robustness
from tests.reports import trained
from tests.reports.trained import rows
from tests.small import small_cell

TASK = "simple_tag_v3"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two cells of a competitive task with their matrices, and one with robustness tables."""
    home = tmp_path_factory.mktemp("tables")
    for system in ("ippo", "maddpg"):
        trained.record(small_cell(system, TASK, steps=120), home / "runs", [0, 1])
    pages.write(crossplay.record(crossplay.find(TASK, home / "runs"), 2), home / "matrices")
    cell = trained.record(trained.cells()[0], home / "runs")
    robustness.record(cell, robustness.parse_levels("CartPole-v1", ["drop"]), 2)
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home"))


def cell_of(home: Path) -> Path:
    (cell,) = home.glob("runs/classic/CartPole-v1/*")
    return cell


def of_tables(cell: Path) -> Outcome:
    (outcome,) = (o for o in verify(cell) if o.where.endswith(layout.ROBUSTNESS))
    return outcome


def higher(lines: list[str]) -> None:
    """A better episode in the last row."""
    *first, score, length, unstable = lines[-1].split(",")
    lines[-1] = ",".join([*first, repr(float(score) + 50), length, unstable])


def test_true_tables_come_out_again(home: Path) -> None:
    """Robustness tables of sealed runs, too."""
    (outcome,) = verify(home / "matrices", runs=home / "runs")
    assert (outcome.verdict, outcome.reason) == (REPLAYED, "all 8 rows come out again")
    seal(cell_of(home))
    outcome = of_tables(cell_of(home))
    assert outcome.verdict == REPLAYED and outcome.reason.startswith("nominal-0.csv and drop-")


@pytest.mark.slow
def test_forged_robustness(home: Path) -> None:
    """`check` has nothing to compare the numbers with; the policies have. A run alone says nothing of it."""
    cell = cell_of(home)
    for path in (cell / layout.ROBUSTNESS).glob("*.csv"):
        rows(path, higher)
    assert all(outcome.passed for outcome in check.check(cell).outcomes)
    outcome = of_tables(cell)
    assert outcome.verdict == DIFFERS and outcome.reason.count("recorded '1,") == 2
    assert {o.verdict for o in verify(cell / "seed-0")} == {REPLAYED}


def set_field(place: int, value: str) -> Callable[[list[str]], object]:
    def change(lines: list[str]) -> None:
        words = lines[-1].split(",")
        words[place] = value
        lines[-1] = ",".join(words)

    return change


def test_forged_crossplay(home: Path) -> None:
    table = home / "matrices" / "crossplay.csv"
    rows(table, set_field(-1, "99.0"))
    (outcome,) = verify(home / "matrices", runs=home / "runs")
    assert outcome.verdict == DIFFERS and "99.0" in outcome.reason


def test_what_cannot_be_played_says_why(home: Path) -> None:
    matrices = home / "matrices"
    (outcome,) = verify(matrices, runs=home)
    assert (
        outcome.verdict == CANNOT
        and "lacks runs of its cells; give their folder with --runs" in outcome.reason
    )
    with pytest.raises(InputError, match="are verified at --depth policy"):
        verify(matrices, "whole", runs=home / "runs")
    rows(matrices / "crossplay.csv", lambda lines: lines.sort(key=lambda line: line.split(",")[7] == "0"))
    (outcome,) = verify(matrices, runs=home / "runs")
    assert outcome.verdict == DIFFERS, "rows in another order"
    (matrices / "crossplay.csv").write_text("task,seed\nx,0\n")
    with pytest.raises(InputError, match="is not a table of `ascent crossplay`: no entry 'episodes'"):
        verify(matrices, runs=home / "runs")

"""The tables of the chapter on what the results show, counted again from the tables of the shelf."""

from pathlib import Path

import pandas as pd
import pytest

from ascent.records import shelf
from ascent.records.expected import Expected
from ascent.records.plan import parse_seeds
from ascent.records.read import load
from ascent.reports.shelf.tables import DECLARED
from ascent.reports.statistics.aggregate import Task, aggregate
from docs.generators import findings, pages, results

ROOT = Path(__file__).parents[2]
TASK = "MountainCarContinuous-v0"


@pytest.fixture(scope="module")
def studied() -> tuple[Task, ...]:
    current = shelf.current()
    cells = [Expected.on_shelf(cell, current.name) for cell in current.present if cell.task == TASK]
    return tuple(aggregate(load(current.folder, cells), DECLARED))


@pytest.fixture
def alone(studied: tuple[Task, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the shelf had no other task."""
    monkeypatch.setattr(results, "studied", lambda: studied)


def rows_of(text: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in text.splitlines()[2:]]


def test_page_has_every_part() -> None:
    assert sorted(pages.PART.findall((ROOT / "docs" / "results.md").read_text())) == sorted(findings.PARTS)


def test_every_planned_cell_is_counted() -> None:
    rows = rows_of(findings.missing())
    current = shelf.current()
    assert sum(int(row[1]) for row in rows) == len(current.present)
    assert sum(int(row[2]) for row in rows) == len(current.planned)


def test_claims_agree_with_the_ranks_of_the_leaderboard(alone: None) -> None:
    """The best rank of a system is 1 + how many are better, and as many have it in their list."""
    board = pd.read_csv(shelf.current().folder / shelf.SCORES)
    board = board[board["task"] == TASK]
    text = findings.claims()
    for row in board.itertuples():
        better = [line for line in rows_of(text) if f"{row.system} ({row.setting})" in line[2]]
        assert len(better) == row.rank_from - 1


def test_seeds_fall_apart_at_the_gap(alone: None) -> None:
    """PPO has one failed run, TRPO three; the other four systems have none, or nothing else."""
    found = {row[1]: row[2].split(" **/** ") for row in rows_of(findings.split())}
    sizes = {system: [len(group.split(", ")) for group in groups] for system, groups in found.items()}
    assert sizes == {"ppo (cleanrl)": [1, 9], "trpo (zoo)": [3, 7]}


def test_failed_runs_never_reached_the_goal() -> None:
    """A run that learned has been there."""
    data = pd.read_parquet(shelf.current().folder / shelf.CURVES)
    data = data[(data["task"] == TASK) & (data["policy"] == "greedy") & (data["return"] > 50)]
    learned = data.groupby(["system", "setting"])["seed"].agg(set)
    never = {row[1]: row[3] for row in rows_of(findings.reached() + " ") if row[0] == TASK and len(row) > 3}
    assert never["ppo (cleanrl)"] == "6" and never["trpo (zoo)"] == "1-3"
    for (system, setting), seeds in learned.items():
        assert not seeds & set(parse_seeds(never.get(f"{system} ({setting})") or "99"))


def test_protocols_and_costs_come_from_the_tables(alone: None) -> None:
    assert {row[1] for row in rows_of(findings.protocols())} == {"vpg (spinningup)", "reinforce (default)"}
    board = pd.read_csv(shelf.current().folder / shelf.SCORES)
    total = rows_of(findings.costs())[-1]
    assert total[:2] == ["all", str(len(board))]
    assert float(total[3]) == pytest.approx(board["core_hours"].sum(), abs=0.03)
    assert float(total[2].replace(",", "")) == pytest.approx(
        (board["budget"] * board["n"]).sum() / 1e6, abs=0.1
    )

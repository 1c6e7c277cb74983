"""The main table and the findings of a report as CSV, against its other tables and its page."""

import csv
from typing import TYPE_CHECKING

import pytest

from ascent.records.declared import Declared
from ascent.reports.page.overview import main_table
from ascent.reports.page.table import csv as csv_text
from ascent.reports.report import analysed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.reports.conftest import Records


def rows(path: "Path") -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def number(text: str) -> float:
    return float(text.replace(",", "").replace("\N{MINUS SIGN}", "-"))


def test_the_main_table_has_the_scores_and_ties_of_the_report(spoilt: "Records") -> None:
    """Systems that do not differ from the best by comparisons.csv have a star, and no others."""
    tables = spoilt.out / "tables"
    scores = {(row["task"], row["system"]): row for row in rows(tables / "scores.csv")}
    pairs = rows(tables / "comparisons.csv")
    found = rows(tables / "main.csv")
    assert [row["task"] for row in found] == sorted({task for task, _ in scores})
    stars = 0
    for row in found:
        systems = {name: scores[row["task"], name] for name in list(row)[3:]}
        assert sorted(systems) == sorted(system for task, system in scores if task == row["task"])
        means = {name: float(score["mean"]) for name, score in systems.items() if score["mean"]}
        best = max(means, key=means.__getitem__)
        tied = {best} | {
            ({pair["x"], pair["y"]} - {best}).pop()
            for pair in pairs
            if pair["task"] == row["task"] and best in (pair["x"], pair["y"]) and pair["differs"] == "False"
        }
        for name, score in systems.items():
            if not score["mean"]:
                assert row[name] == ""
                continue
            mean, half = row[name].removesuffix(" *").split(" ± ")
            assert number(mean) == pytest.approx(means[name], abs=0.51)  # rounded
            assert number(half) == pytest.approx(means[name] - float(score["low"]), abs=0.51)
            assert row[name].endswith(" *") == (name in tied)
        stars += len(tied)
    assert len(found) < stars < len(scores)  # there are ties, and others


def test_signs_against_a_baseline(store: "Records") -> None:
    for system, level in (("ppo", 300.0), ("sac", 400.0), ("td3", 301.0), ("a2c", -200.0)):
        store.flat_runs(store.cell(system=system), [level + k for k in range(10)])
    (row,) = main_table(analysed(store.runs, declared=Declared(baseline="ppo"))).to_dict("records")
    marks = {name: row[name].split()[-1] for name in ("sac", "a2c")}
    assert marks == {"sac": "+", "a2c": "\N{MINUS SIGN}"}
    assert row["a2c"].startswith("\N{MINUS SIGN}195.5 ± ") and row["td3"].split()[1] == "±"
    assert len(row["td3"].split()) == len(row["ppo"].split()) == 3


def test_no_name_of_a_system_is_a_formula(store: "Records") -> None:
    """Systems are columns of the main table: a spreadsheet must not run their names."""
    store.flat_runs(store.cell(system="=cmd"), [1.0, 2.0])
    table = main_table(analysed(store.runs))
    assert table.columns[-1] == "=cmd"
    assert csv_text(table).partition("\n")[0] == "suite,task,score,'=cmd"


def test_the_findings_are_those_of_the_page(spoilt: "Records") -> None:
    found = rows(spoilt.out / "tables" / "findings.csv")
    page = (spoilt.out / "index.html").read_text(encoding="utf-8")
    assert {row["kind"] for row in found} == {"result", "caution"}
    for row in found:
        assert row["finding"].replace("-", "\N{MINUS SIGN}") in page or row["finding"] in page

"""Robustness on the page: the section, its files and the figure."""

import re
import shutil
from typing import TYPE_CHECKING

import pytest
from rich.console import Console

from ascent.reports.page import figures
from ascent.reports.page import robustness as pages
from ascent.suites.perturb import KINDS
from tests.reports.page.test_report_page import Elements, plots_of
from tests.reports.perturbed import (
    NOISE,
    NOMINAL,
    T_1,
    cell_of,
    found,
    play,
    policy,
    read,
    table,
    text_of,
    usual,
)

if TYPE_CHECKING:
    from tests.reports.conftest import Records

TABLES = ("robustness", "robustness_areas", "robustness_comparisons")


def test_runs_that_were_trained_again_have_no_curve(store: "Records") -> None:
    """All tables are of the policies before: the page names each, and has no numbers of them."""
    cell = usual(store)
    path = cell / "seed-1" / "result.json"
    path.write_text(path.read_text().replace(policy(1), policy(7)))
    page = store.build()
    for name in ("nominal-0", *(f"action_noise-{level}" for level in NOISE)):
        place = f"{cell.relative_to(store.runs)}/robustness/{name}.csv"
        assert f"Not used: <code>{place}: was not played by the final policies of these runs</code>" in page
    assert page.count("Not used:") == 4 and 'id="robustness"' in page and "All levels" not in page
    assert not [name for name in store.bytes() if "robustness" in name]
    Elements(page)


def test_the_section_is_only_where_there_are_tables(store: "Records") -> None:
    cell = cell_of(store)
    page = text_of(store.build())
    assert "obustness" not in page and not [name for name in store.bytes() if "robustness" in name]
    play(cell, "action_noise", NOISE, NOMINAL)
    cell_of(store, task="Pendulum-v1")
    page = store.build()
    files = {name for name in store.bytes() if "robustness" in name}
    assert files == {
        *(f"tables/{name}.{form}" for name in TABLES for form in ("csv", "md", "tex")),
        *(f"figures/robustness-CartPole-v1.{form}" for form in ("png", "pdf")),
    }
    section = page.partition('<h2 id="robustness">')[2].partition("</section>")[0]
    assert re.findall(r'data-plot="([^"]+)"', section) == ["robustness-CartPole-v1"]
    assert "robustness-CartPole-v1" in plots_of(page)["plots"]
    assert "<h3>CartPole-v1" in section and "<h3>Pendulum-v1" not in section
    assert '<a href="#robustness">Robustness</a>' in page
    assert "22.2 (at 0.4)" in section and "0.29 [\N{MINUS SIGN}3.41, 4.00]" in section
    elements = Elements(page)
    ids = elements.attributes("id")
    assert {target.removeprefix("#") for target in elements.attributes("href")} <= set(ids)
    assert len(ids) == len(set(ids))


def test_same_records_same_bytes(store: "Records") -> None:
    """Built again, and from tables that were written in another order."""
    cells = [usual(store), usual(store, system="sac")]
    table(cells[0], "action_noise", 0.2, (50.0, 60.0))
    store.build()
    before = store.bytes()
    assert b"of 1 comparisons" in before["index.html"]
    for cell in cells:
        folder = cell / "robustness"
        contents = {path.name: path.read_bytes() for path in sorted(folder.iterdir(), reverse=True)}
        shutil.rmtree(folder)
        folder.mkdir()
        for name, content in contents.items():
            (folder / name).write_bytes(content)
    store.build()
    assert store.bytes() == before


def test_the_figure_shows_the_means(store: "Records") -> None:
    """Levels in their order, the nominal task among them, in its place and marked; a line for each system."""
    cell = usual(store)
    table(cell, "mass", 0.5, (30.0, 40.0))
    table(cell, "mass", 2.0, (70.0, 90.0))
    for level in (300, 10):
        table(cell, "open_loop", level, (level, level + 1))
    other = cell_of(store, system="sac")
    play(
        other,
        "action_noise",
        {level: means for level, means in NOISE.items() if level != 0.2},
        (400.0, 402.0),
    )
    curves = list(found(store).curves)
    with figures.drawing():
        drawn = pages.figure(curves, figures.styles(["ppo", "sac"]))
    panels = {axes.get_title(loc="left"): axes for axes in drawn.axes}
    assert list(panels) == [KINDS[kind].title for kind in ("open_loop", "action_noise", "mass")]
    for kind, ticks, neutral, lines in (
        ("open_loop", ["never", "300", "10"], 0, [([0, 1, 2], [172.2, 300.5, 10.5])]),
        ("mass", ["0.5", "1", "2"], 1, [([0, 1, 2], [35.0, 172.2, 80.0])]),
        (
            "action_noise", ["0", "0.1", "0.2", "0.4"], 0,
            [([0, 1, 2, 3], [172.2, 147.2, 72.2, 22.2]), ([0, 1, 3], [401.0, 147.2, 22.2])],
        ),
    ):  # fmt: skip
        axes = panels[KINDS[kind].title]
        assert [label.get_text() for label in axes.get_xticklabels()] == ticks
        own = [line for line in axes.get_lines() if line.get_marker() == "."]
        dotted = [line for line in axes.get_lines() if line.get_linestyle() == ":"]
        assert [line.get_xdata()[0] for line in dotted] == [neutral]
        for line, (x, y) in zip(own, lines, strict=True):
            assert line.get_xdata().tolist() == x and line.get_ydata() == pytest.approx(y)
        assert axes.get_ylim() == next(iter(panels.values())).get_ylim()
        low, high = axes.get_ylim()
        assert low < 10.5 and high > 401.0
    band = panels[KINDS["mass"].title].collections[0].get_paths()[0].vertices
    assert sorted(set(band[band[:, 0] == 0, 1])) == pytest.approx([35 - T_1 * 5, 35 + T_1 * 5])


def test_equal_runs_have_no_limits(store: "Records", capsys: pytest.CaptureFixture) -> None:
    """At the ceiling of a task there is no spread: the table says so in the words of the main table."""
    path = table(usual(store), "action_noise", 0.1, (500.0, 500.0))
    page = store.build()
    reason = "2 of 2 runs equal; up to 84% of all runs may differ"
    assert f"500.0 no interval ({reason})" in page and "500.0 [500.0" not in page
    rows = read(store, "robustness")
    equal = rows["level"] == 0.1
    assert rows[equal]["no_limits"].tolist() == [reason]
    assert rows[equal][["low", "high"]].isna().all(axis=None)
    assert rows[~equal]["no_limits"].isna().all() and rows[~equal]["low"].notna().all()
    assert "no_limits" not in read(store, "robustness_areas")
    Console(width=200).print(pages.terminal([path], "one level"))
    assert f"no interval ({reason})" in " ".join(capsys.readouterr().out.split())


def test_unstable_simulations_are_told(store: "Records") -> None:
    path = usual(store) / "robustness" / "action_noise-0.2.csv"
    head, first, *rest = path.read_text().splitlines()
    path.write_text("\n".join([head, first.rpartition(",")[0] + ",3", *rest]) + "\n")
    assert found(store).curves[0].unstable == 3
    assert "the simulation was unstable in 3 steps" in text_of(store.build())

"""The page: it stands alone, escapes what it shows, and every number on it can be traced."""

import json
import re
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ascent.records.declared import Declared
from ascent.records.read import load
from ascent.reports.page import figures, render
from ascent.reports.page.panels import Panel
from ascent.reports.statistics.aggregate import aggregate

if TYPE_CHECKING:
    from tests.reports.conftest import Records


LIBRARY = render.LIBRARY.read_text(encoding="utf-8")  # plotly.js


class Elements(HTMLParser):
    """Collects every element with its attributes, and checks that they are closed in order."""

    VOID = ("meta", "img", "br", "link")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def attributes(self, name: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.found if name in attrs]


@pytest.fixture(scope="module")
def page(spoilt: "Records") -> str:
    return (spoilt.out / "index.html").read_text(encoding="utf-8")


def test_the_page_stands_alone(page: str) -> None:
    elements = Elements(page)
    assert not {tag for tag, _ in elements.found} & {"link", "iframe", "object", "base"}
    scripts = [attrs for tag, attrs in elements.found if tag == "script"]
    assert scripts == [{"type": "application/json", "id": "plots"}, {}, {}], "all text is on the page"
    assert not elements.attributes("src")
    ids = elements.attributes("id")
    assert len(ids) == len(set(ids))
    assert {target.removeprefix("#") for target in elements.attributes("href")} <= set(ids)
    assert page.count(LIBRARY) == 1
    assert not re.search(r"https?:|url\(|@import", page.replace(LIBRARY, ""))


def plots_of(page: str) -> dict[str, Any]:
    """Return the data of the page's figures, and the grids of their x."""
    text = page.partition('<script type="application/json" id="plots">')[2].partition("</script>")[0]
    data: dict[str, Any] = json.loads(text)
    return data


def test_the_figures_on_the_page_show_the_records(spoilt: "Records", page: str) -> None:
    data = plots_of(page)
    drawn = set(re.findall(r'data-plot="([^"]+)"', page))
    assert drawn == set(data["plots"])
    files = {name.removeprefix("figures/").removesuffix(".pdf") for name in spoilt.bytes() if ".pdf" in name}
    assert {name for name in drawn if not name.startswith("diagnostics-")} == files - {"improvement"}
    curves = pd.read_parquet(spoilt.out / "data.parquet")
    (panel,) = data["plots"]["CartPole-v1"]["panels"]
    assert [one["label"] for one in panel["series"]] == ["ppo", "reinforce", "sac", "td3"]
    for one in panel["series"]:
        of_system = curves[(curves.task == "CartPole-v1") & (curves.system == one["label"])]
        table = of_system[of_system.policy == "greedy"].pivot(index="step", columns="seed", values="return")
        assert data["grids"][one["x"]] == table.index.tolist()
        for seed, values in one["seeds"].items():
            assert values == pytest.approx(table[int(seed)].tolist(), rel=1e-4)
        assert one["mean"] == pytest.approx(table.mean(axis=1).tolist(), rel=1e-4)


def test_every_score_has_its_digest_beside_it(spoilt: "Records", page: str) -> None:
    body = page.partition('<table class="summary">')[2].partition("</table>")[0]
    cells = re.findall(r"<td>(.*?)</td>", body, re.DOTALL)
    digests = [re.search(r"title=\"([^\"]+)\">(\w+)</a>", cell).groups() for cell in cells]
    assert len(digests) == 8
    for folder, digest in digests:
        assert (spoilt.runs / folder / "cell.json").exists()
        assert folder.endswith(digest)


def test_how_to_reproduce(page: str) -> None:
    command = "ascent train td3 Pendulum-v1 --seeds 0-9 --preset classic --steps 100000 "
    command += "--evaluations 50 --episodes 10"
    assert f"<code>{command}</code>" in page


def test_provenance_is_complete_and_a_dirty_tree_is_marked(spoilt: "Records", page: str) -> None:
    assert "Dirty tree." in page
    assert page.count(">dirty</span>") == 2  # the environment and the run
    content = json.loads((spoilt.out / "provenance.json").read_text())
    assert len(content["cells"]) == 8
    assert len(content["runs"]) == 80
    for run in content["runs"]:
        result = spoilt.runs / run["folder"] / "result.json"
        if run["state"] in ("done", "diverged"):
            assert run["result_digest"] == json.loads(result.read_text())["digest"]
            assert run["platform"] == "torch-2.13.0+cpu/x86_64/AuthenticAMD-25-17/AVX512"
            assert (run["attempts"], run["packs"]) == (1, [[run["seed"]]])
            assert run["scores"]["final"] is not None
        else:
            assert set(run["scores"].values()) == {None}


def test_a_clean_complete_sweep_has_no_warnings(sweep: "Records") -> None:
    page = (sweep.out / "index.html").read_text(encoding="utf-8")
    body = page.partition("<body>")[2]
    assert 'class="banner' not in body
    assert 'class="mark' not in body
    assert "80 runs in 8 cells" in page


def test_text_from_records_is_escaped(store: "Records") -> None:
    spec = {"random_score": 1.0, "reference_score": 2.0, "reference_source": "<script>alert(1)</script>"}
    cell = store.cell(spec=spec)
    store.run(cell, 0, [0.0] + [9.0] * 50, commit="<b>no commit</b>", packages={"torch": "<i>"})
    page = store.build()
    Elements(page)
    assert "&lt;script&gt;alert(1)" in page
    assert page.count("<script>alert") == 0 and not re.search(r"<script>alert|<b>no commit|<i>", page)


def test_a_task_without_anchors_and_an_old_record_without_provenance(store: "Records") -> None:
    cell = store.cell(spec={})
    store.run(cell, 0, [0.0] + [9.0] * 50, commit=None, dirty=None, platform=None, packages=None)
    page = store.build()
    assert page.count("not recorded") >= 3
    assert "None" not in page.replace(LIBRARY, "")


def test_unstable_steps_are_marked(store: "Records") -> None:
    cell = store.cell()
    for seed in (0, 1):
        store.run(cell, seed, [0.0] + [9.0] * 50)
    path = cell / "seed-1" / "result.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"unstable_steps": {"train": 17, "eval": 0}}))
    page = store.build()
    assert page.count("unstable</span>") == 1
    assert "train: 17 unstable" in page
    runs = json.loads((store.out / "provenance.json").read_text())["runs"]
    assert [run["unstable_steps"]["train"] for run in runs] == [0, 17]


def test_use_of_the_cores(store: "Records") -> None:
    """Processor time over the time of all cores that the runs had: of one run one, of the other three."""
    cell = store.cell(points=1, steps=100)
    used = {"from_step": 0, "to_step": 100, "wall_s": 1800.0, "cpu_s": 900.0}
    store.run(cell, 0, [0.0, 1.0], attempts=[used | {"pack": [0]}])
    store.run(cell, 1, [0.0, 1.0], attempts=[used | {"pack": [1], "env_threads": 3}])
    page = store.build()
    (row,) = pd.read_csv(store.out / "tables" / "compute.csv").to_dict("records")
    assert (row["wall_hours"], row["cpu_hours"], row["core_hours"], row["cpu_use"]) == (1.0, 0.5, 2.0, 0.25)
    assert "and unfinished runs: 25% of the cores' time. " in page


def test_one_system_on_one_task_is_compared_with_nothing(store: "Records") -> None:
    """Its figure stands once, without a ranking of one, and no section is there to say that it is empty."""
    store.flat_runs(store.cell(system="mine"), [450.0, 480.0, 500.0])
    page = store.build().replace(LIBRARY, "")
    assert page.count('data-plot="CartPole-v1"') == 1
    for absent in ('class="ranking"', 'id="comparisons"', 'id="verdicts"', "restarts lost"):
        assert absent not in page
    assert {target for target in Elements(page).attributes("href") if target.startswith("#comp")} == {
        "#completeness", "#compute"
    }  # fmt: skip


def test_runs_on_mixed_platforms_are_marked(store: "Records") -> None:
    """In the summary, in the task's table and beside the run; the other cell of the task has no mark."""
    plain, moved = store.cell(), store.cell(system="sac")
    platforms = ["torch-2.13.0+cpu/x86_64/AuthenticAMD-25-17/AVX512", "torch-2.13.0+cpu/x86_64/<i>"]
    for seed in range(10):
        store.run(plain, seed, [0.0] + [9.0] * 50)
        store.run(moved, seed, [0.0] + [9.0] * 50, mixed_platforms=platforms if seed == 4 else None)
    page = store.build()
    Elements(page)
    assert page.count(">mixed platforms</span>") == 3
    assert "<b>Mixed platforms</b>" in page and f'title="{platforms[0]}, torch' in page and "<i>" not in page
    runs = json.loads((store.out / "provenance.json").read_text())["runs"]
    found = {(run["folder"].split("/")[2][:3], run["seed"]) for run in runs if run["mixed_platforms"]}
    assert found == {("sac", 4)}
    assert store.scores()["n"].tolist() == [10, 10]


def test_small_panels_show_every_seed(store: "Records") -> None:
    """At their places in the panel of their system; a run that diverged ends with a cross."""
    cell = store.cell("CartPole-v1", "ppo", points=2)
    curves = [[10.0, 20.0, 400.0], [10.0, 30.0, 500.0], [10.0, 40.0, 300.0]]
    for seed, curve in enumerate(curves):
        store.run(cell, seed, curve, "diverged" if seed == 2 else "done")
    (task,) = aggregate(load(store.runs), Declared())
    with figures.drawing():
        drawn = figures.learning_curves(task, figures.styles(["ppo"]))
    assert drawn is not None
    lines = [
        segment
        for each in drawn.artists
        if isinstance(each, LineCollection)
        for segment in each.get_segments()
    ]
    steps = task.cells[0].seeds.index.to_numpy(float)
    for curve in curves:
        assert any(np.array_equal(line, np.column_stack([steps, curve])) for line in lines)
    (cross,) = (each for each in drawn.findobj(Line2D) if each.get_marker() == "x")
    assert cross.get_xydata().tolist() == [[steps[-1], 300.0]]


def test_a_tick_of_a_small_panel_names_its_whole_value() -> None:
    """Axes write a common exponent beside the ticks; a panel has no place for it."""
    figure = Figure()
    Panel(figure, (0.1, 0.1, 0.8, 0.8), ((0.0, 1000.0), (0.0, 5e-6))).frame(label_x=False, label_y=True)
    assert {"2e-06", "4e-06"} <= {text.get_text() for text in figure.texts}


def test_a_system_keeps_its_colour() -> None:
    names = [f"system-{k}" for k in range(20)]
    style = figures.styles(reversed(names))
    assert style == figures.styles(names)
    assert len(set(map(str, style.values()))) == 20

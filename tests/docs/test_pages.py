"""What is generated for the documentation site: everything has its entry, and links lead somewhere."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest

import ascent
from ascent.algorithms import SYSTEMS
from ascent.records import shelf
from ascent.records.declared import Declared, Design
from ascent.runners import entries, sweep
from ascent.slurm.sites import Site
from ascent.suites import FOREIGN, SUITES, TASKS, Foreign
from docs.generators import algorithms, equations, links, navigation, pages, reference, results, tasks
from docs.generators.tables import table

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def no_verdicts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading all records takes long; the slow test of the site shows the verdicts."""
    monkeypatch.setattr(results, "studied", tuple)
    monkeypatch.setattr(results, "judged", tuple)


def test_every_command_and_option_is_on_its_page() -> None:
    """Counted in the source: a command per decorator, an option per literal."""
    page = reference.commands()
    commands, options = 0, set()
    for path in (ROOT / "ascent" / "cli").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                calls = [each.func for each in node.decorator_list if isinstance(each, ast.Call)]
                commands += sum(isinstance(each, ast.Attribute) and each.attr == "command" for each in calls)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option":
                literals = [each.value for each in node.args if isinstance(each, ast.Constant)]
                options |= {str(each) for each in literals if str(each).startswith("--")}
    assert commands > 20
    assert len(re.findall(r"^## ascent ", page, re.MULTILINE)) == commands
    missing = {each for option in options for each in option.split("/") if each not in page}
    assert missing == {"--version"}  # an option of `ascent` itself


def test_every_key_of_sweeps_and_sites_has_a_meaning() -> None:
    page = reference.sweeps()
    assert {field.name for field in fields(Declared)} == set(sweep.REPORT_KEYS)
    design = [field.name for field in fields(Design)]
    keys = [*sweep.KEYS, *sweep.REPORT_KEYS, *design, *entries.CELL_KEYS, *entries.SYSTEM_KEYS]
    for key in keys:
        assert re.search(rf"^\| `{key}` \| an? .+ \| .* \| \w[^|]+\|$", page, re.MULTILINE), key
    foreign = {"steps", *(field.name for field in fields(Foreign))} - {"budget"}
    for key in (*Site.model_fields, *foreign):
        assert re.search(rf"^\| `{key}` \| ", page, re.MULTILINE), key


def test_every_function_of_the_api_has_its_parameters() -> None:
    page = reference.python()
    for name in set(ascent.__all__) - {"__version__"}:
        section = page.partition(f"## ascent.{name}\n")[2].partition("\n## ")[0]
        assert section, name
        for parameter in reference.inspect.signature(getattr(ascent, name)).parameters:
            assert section.count(parameter) > 1 or name == "read", (name, parameter)
    assert (
        "### `Policy.__call__`" in page
        and "runs: str | os.PathLike[str] = 'runs'" in page
        and "- `episodes`: " in page
    )


@pytest.mark.parametrize("algorithm", sorted({system.algorithm for system in SYSTEMS.values()}))
def test_every_algorithm_has_a_page(algorithm: str) -> None:
    """It is written, with all generated parts, and shows every hyperparameter of every preset's source."""
    text = (ROOT / "docs" / "algorithms" / f"{algorithm}.md").read_text()
    assert set(pages.PART.findall(text)) == set(algorithms.PARTS)
    page = pages.filled(text, f"algorithms/{algorithm}.md")
    for system in (name for name, system in SYSTEMS.items() if system.algorithm == algorithm):
        assert f"`{system}`" in page
        assert f"`{system}`" in algorithms.index()
    module = SYSTEMS[algorithm].module()
    for field in fields(module.Config):
        assert f"| `{field.name}` |" in page
    for preset in module.PRESETS:
        assert f"Where `{preset}` comes from" in page


@pytest.mark.parametrize("suite", sorted(SUITES.keys() - FOREIGN))
def test_every_suite_has_a_page_with_its_tasks(suite: str) -> None:
    text = (ROOT / "docs" / "suites" / f"{suite}.md").read_text()
    page = pages.filled(text, f"suites/{suite}.md")
    for spec in TASKS.values():
        assert (f"| `{spec.id}` |" in page) == (spec.suite == suite)
    assert f"[{suite}]({suite}.md)" in tasks.index()


def test_every_score_of_the_shelf_is_on_the_page_of_its_algorithm() -> None:
    rows = pd.read_csv(shelf.current().folder / shelf.SCORES)
    assert sum(map(len, results.boards().values())) == len(rows) > 50
    for row in rows.itertuples():
        assert f"`{row.digest}`" in algorithms.scores(SYSTEMS[row.system].algorithm)
        assert f"`{row.digest}`" in tasks.scores(row.suite)


def test_figures_have_the_same_bytes_each_time() -> None:
    first = results.figure(["ppo"])
    assert first and first == results.figure(["ppo"])
    assert first.count(b"CartPole-v1") == 1 and b"ppo (cleanrl)" in first
    assert results.figure(["no such system"]) is None


def test_links_lead_to_pages_of_the_site() -> None:
    present = {"guides/slurm.md", "platforms.md", "reference/records.md", "faq.md"}
    text = "[a\nb](../docs/platforms.md) [c](../records/README.md#commit) [d](sites.py) [e](https://a.org)\n"
    code = "```\n[c](../records/README.md)\n```"
    got = links.rewritten(text + code, "slurm/README.md", "guides/slurm.md", present)
    expected = "[a\nb](../platforms.md) [c](../reference/records.md#commit) d [e](https://a.org)\n"
    assert got == expected + code
    gone = "[f](no-such-file.md) ![g](no-such-picture.png)"
    assert links.rewritten(gone, "slurm/README.md", "guides/slurm.md", present) == gone


def test_links_out_of_the_site_lead_to_the_repository(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(links, "repository", lambda: "https://example.org/ascent")
    got = links.rewritten("[d](sites.py)", "slurm/README.md", "guides/slurm.md", set())
    assert got == "[d](https://example.org/ascent/blob/HEAD/slurm/sites.py)"


def test_pages_that_nothing_names_join_the_guides() -> None:
    start = {"Start": ["index.md", {"First steps": "start.md"}]}
    nav = navigation.expanded([start, {"Guides": ["*"]}, "suites/*"])
    assert nav[0] == start
    others = nav[1]["Guides"]
    assert "start.md" not in others and "statistics.md" in others
    assert nav[2:] == [f"suites/{name}.md" for name in SUITES if name not in FOREIGN]


def test_equations_need_no_script() -> None:
    inline = '<p>a <span class="arithmatex">\\(x_1 &lt; 2\\)</span></p>'
    page = equations.as_mathml(inline + '<div class="arithmatex">\\[\\frac{a}{b}\\]</div>')
    assert "arithmatex" not in page and page.count("<math") == 2
    assert "<msub>" in page and "<mfrac>" in page and 'display="block"' in page


def test_a_bar_does_not_end_a_cell() -> None:
    assert table(("a", "b"), [("x|y", "`x|y`")]).splitlines()[2] == "| x\\|y | `x|y` |"


def test_the_readme_has_the_head_of_the_leaderboard() -> None:
    """The first rows of its first table, in their order."""
    lines = [line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("| ")]
    start = lines.index(next(line for line in lines if line.startswith("| rank | system |")))
    heads, *rows = ([part.strip() for part in line.strip("| ").split(" | ")] for line in lines[start:])
    first = next(iter(results.boards().values()))
    shown = rows[:4]
    assert shown == [[row[head] for head in heads] for row in first[:4]]

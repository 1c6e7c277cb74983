"""Figures and tables for a paper: their true size, what collides, what they say, and how they are written."""

import json
import shutil
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.figure import Figure

import ascent
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.reports.page import score_tables
from ascent.reports.page import tables as page_tables
from ascent.reports.page.figures import encode
from ascent.reports.paper.choice import parse_labels, parse_systems, task_names
from ascent.reports.paper.figures import drawing
from ascent.reports.paper.layout import Entry, Grid, tabulars
from ascent.reports.paper.venues import VENUES, WIDTHS, Page, page
from ascent.reports.paper.write import Paper, make, write
from ascent.reports.report import analysed, build
from ascent.reports.statistics.marks import NOT_COMPARED, mark
from tests.command import call
from tests.reports.conftest import SPECS, Records, learning
from tests.reports.paper.printed import collisions, page_width, tabular_widths, text_sizes

if TYPE_CHECKING:
    from ascent.reports.statistics.study import Study

needs_latex = pytest.mark.skipif(not shutil.which("pdflatex"), reason="LaTeX is not installed")
NAMES = {"ppo": "PPO", "sac": "SAC (ours)", "td3": "TD3", "reinforce": "REINFORCE"}
MUJOCO = ("HalfCheetah-v5", "InvertedDoublePendulum-v5", "HumanoidStandup-v5", "Ant-v5", "Walker2d-v5",
          "Hopper-v5", "Swimmer-v5", "Reacher-v5", "Pusher-v5", "Humanoid-v5", "InvertedPendulum-v5",
          "HopperStand-v5")  # fmt: skip
SYSTEMS = ("a2c", "a3c", "ddpg", "mappo", "ppo", "reinforce", "rpc", "sac", "td3", "trpo", "vpg")


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Records:
    """Two tasks by four systems; one cell lacks runs, one run diverged."""
    found = Records(tmp_path_factory.mktemp("four"))
    found.sweep()
    found.spoil()
    return found


@pytest.fixture(scope="module")
def two_by_four(records: Records) -> "Study":
    return analysed(records.runs, records.expected())


@pytest.fixture(scope="module")
def one_by_one(tmp_path_factory: pytest.TempPathFactory) -> "Study":
    """A single run."""
    records = Records(tmp_path_factory.mktemp("one"))
    records.flat_runs(records.cell(), [450.0])
    return analysed(records.runs)


def large(folder: Path, monkeypatch: pytest.MonkeyPatch, tasks: int, systems: int, seeds: int) -> "Study":
    """Many tasks by many systems, with scores of four to six digits and either sign."""
    records = Records(folder)
    for i, task in enumerate(MUJOCO[:tasks]):
        low, high = [(-280, 9500), (40_000, 150_000), (-150, -30)][i % 3]
        spec = SPECS["CartPole-v1"] | {"random_score": float(low), "reference_score": float(high)}
        monkeypatch.setitem(SPECS, task, spec)
        for j, system in enumerate(SYSTEMS[:systems]):
            cell = records.cell(task, system, steps=1_000_000)
            for seed in range(seeds):
                rng = np.random.default_rng([i, j, seed])
                level = 1 - 0.08 * ((7 * j + 3 * i) % 11)
                curve = learning(
                    rng, low, low + level * (high - low), 3 + (5 * j + i) % 7, 0.06 * (high - low)
                )
                records.run(cell, seed, curve)
    return analysed(records.runs, declared=Declared(baseline="ppo"))


def check_figures(study: "Study", page: Page) -> Paper:
    """Make a paper; assert that its figures have their true size and that none of their texts collide."""
    paper = make(study, page, seeds=True)
    for name, figure in paper.figures.items():
        with drawing(page):
            pdf = encode(figure, "pdf")
        assert page_width(pdf) == pytest.approx(page.width, abs=1e-3), name
        sizes = text_sizes(pdf)
        assert sizes and min(sizes) >= 7 and max(sizes) <= 10, (name, sizes)
        assert (b"/Type3" not in pdf and b"/CIDFontType2" in pdf) or b"/TrueType" in pdf
        assert collisions(figure) == [], name
        assert figure.get_figheight() < 9, name
    return paper


@pytest.mark.parametrize(("venue", "width"), [("icml", "column"), ("neurips", "text")])
def test_figures_have_their_true_size(two_by_four: "Study", venue: str, width: str) -> None:
    """The PDF is as wide as the column, so its text is printed as it is: from 7 to 10 points."""
    paper = check_figures(two_by_four, page(venue, width, 8))
    assert list(paper.figures) == ["curves", "aggregate_steps", "intervals", "profiles"]


def test_figures_of_a_single_run(one_by_one: "Study") -> None:
    paper = check_figures(one_by_one, page("icml", "column", 9))
    assert list(paper.figures) == ["curves"]
    assert [note.partition(":")[0] for note in paper.notes] == ["no aggregates"]


def test_collisions_are_found() -> None:
    figure = Figure(figsize=(3, 1))
    figure.text(0.1, 0.5, "one")
    figure.text(0.12, 0.5, "other")
    figure.text(0.95, 0.9, "too far")
    assert collisions(figure) == ["'too far' leaves the figure", "'one' and 'other' overlap"]


@pytest.mark.slow
@pytest.mark.parametrize("width", WIDTHS)
def test_many_tasks_and_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, width: str) -> None:
    study = large(tmp_path, monkeypatch, 12, 11, 3)
    here = page("icml", width, 8)
    paper = check_figures(study, here)
    tables = [paper.tables["main_table"], paper.tables["compute_table"]]
    widths = tabular_widths(tables, tmp_path / "latex", here.width)
    assert len(widths) > 2 and max(widths) <= here.width


def test_colours_and_dashes_are_distinct(two_by_four: "Study") -> None:
    """Eleven systems differ in colour or dash, none by the pair of colours that is hard to tell apart."""
    from ascent.reports.paper.figures import Look

    styles = list(Look(page("icml", "text", 8), {name: name for name in SYSTEMS}, {}).styles.values())
    assert len({(colour, str(dash)) for colour, dash in styles}) == len(SYSTEMS)


@needs_latex
@pytest.mark.parametrize(
    "width", sorted({getattr(venue, width) for venue in VENUES.values() for width in WIDTHS})
)
def test_tables_fit(two_by_four: "Study", one_by_one: "Study", width: float, tmp_path: Path) -> None:
    """In each width of the venues, small tables and one of 12 tasks by 11 systems; captions compile, too."""
    entry = Entry("-10,234.5", "1,234.5", bold=True, mark=r"\dagger")
    systems = [f"{name} (zoo)" for name in SYSTEMS]
    many = Grid("task", [task[:-3] for task in MUJOCO], systems, [[entry] * 11] * 12)
    here = Page(width, 8)
    named = ((two_by_four, NAMES), (one_by_one, {"ppo": "P & Q_1 (100%)"}))
    texts = [make(study, here, labels=names).tables for study, names in named]
    tables = [text[name] for text in texts for name in ("main_table", "compute_table")]
    tables.append(tabulars([many, many.turned("system")], here))
    found = tabular_widths(tables, tmp_path, width, captions=texts[0]["captions"])
    assert len(found) == sum(table.count(r"\begin{tabular}") for table in tables) > 5
    assert max(found) <= width
    assert min(found[4:]) > 0.5 * width  # the large table is not split more than it must be
    assert all(int(table.partition("fontsize{")[2][:1]) >= 7 for table in tables)


def test_a_table_that_cannot_fit_names_its_label() -> None:
    grid = Grid("task", ["Hopper"], ["x" * 200], [[Entry("1.0", "0.1")]])
    with pytest.raises(InputError, match=r"too wide for 235 points: shorten 'xxx.* with --labels"):
        tabulars([grid, grid.turned("system")], page("icml", "column", 8))


def test_bold_is_what_the_report_did_not_tell_apart(two_by_four: "Study") -> None:
    """From the report's tables: the best mean of a task, and the pairs with it that are not significant."""
    pairs = page_tables.pairs(two_by_four.comparisons).data.to_dict("records")
    scores = score_tables.scores(two_by_four.tasks, two_by_four.declared).data.dropna(subset="mean")
    scores = scores.to_dict("records")
    expected = set()
    for task in {row["task"] for row in scores}:
        best = max((row for row in scores if row["task"] == task), key=lambda row: float(row["mean"]))
        ties = {best["system"]} | {
            ({pair["x"], pair["y"]} - {best["system"]}).pop()
            for pair in pairs
            if pair["task"] == task and best["system"] in (pair["x"], pair["y"]) and not pair["differs"]
        }
        expected |= {(task, system) for system in ties}
    bold = mark(two_by_four, NAMES).bold
    assert {(folder.split("/")[1], folder.split("/")[2].split("-")[0]) for folder in bold} == expected
    assert len(expected) > 2  # there are ties
    assert len(expected) < len(scores)


def test_with_a_baseline_signs_say_what_differs_from_it(store: Records) -> None:
    """Most pairs are not tested then, so nothing is bold."""
    for system, level in (("ppo", 300.0), ("sac", 400.0), ("td3", 301.0), ("a2c", 200.0)):
        store.flat_runs(store.cell(system=system), level + np.arange(10.0))
    store.flat_runs(store.cell(system="vpg"), [480.0])
    study = analysed(store.runs, declared=Declared(baseline="ppo"))
    names = {name: name for name in ("ppo", "sac", "td3", "a2c", "vpg")}
    found = mark(study, names)
    by_system = {folder.split("/")[2].split("-")[0]: sign for folder, sign in found.signs.items()}
    assert by_system == {"ppo": "", "sac": "+", "td3": "", "a2c": "-", "vpg": NOT_COMPARED}
    assert not found.bold
    captions = make(study, page("icml", "column", 8)).tables["captions"]
    assert "worse than ppo" in captions and "10 declared" not in captions and "4 declared" in captions


def test_tasks_of_other_budgets_share_an_axis(store: Records) -> None:
    """A task of half the budget and a fifth of the evaluations; curves are straight lines from 0 to 1."""
    for task, steps, points in (("CartPole-v1", 100_000, 50), ("Pendulum-v1", 50_000, 10)):
        ends = SPECS[task]["random_score"], SPECS[task]["reference_score"]
        cell = store.cell(task, steps=steps, evaluation={"points": points, "episodes": 10})
        for seed in range(4):
            store.run(cell, seed, np.linspace(*ends, points + 1).tolist())
    study = analysed(store.runs)
    figure = make(study, page("icml", "column", 8)).figures["aggregate_steps"]
    assert figure.axes[0].get_xlabel() == "share of the step budget"
    (line,) = figure.axes[0].lines
    assert line.get_xydata() == pytest.approx(np.column_stack([np.linspace(0, 1, 11)] * 2))


def test_the_same_records_give_the_same_bytes(
    one_by_one: "Study", two_by_four: "Study", tmp_path: Path
) -> None:
    here = page("icml", "column", 8)
    for study, forms, number in ((two_by_four, ("pdf",), 7), (one_by_one, ("png", "svg"), 4)):
        contents = []
        for name in ("one", "two"):
            paper = make(study, here)
            files = [path for form in forms for path in write(paper, here, tmp_path / form / name, form)]
            assert len(files) == number * len(forms)
            contents.append([(path.name, path.read_bytes()) for path in files])
        assert contents[0] == contents[1]


def test_the_estimator_is_the_reports(store: Records, capsys: pytest.CaptureFixture) -> None:
    """Of a report's folder; records that are not the report's are refused."""
    cell = store.cell()
    for seed in range(3):
        store.run(cell, seed, [100.0] * 50 + [400.0 + seed])
    build(store.runs, store.out, title="Mine", declared=Declared(estimator="final"))
    out = store.out.parent / "paper"
    words = ("figures", str(store.out), "--runs", str(store.runs), "--out", str(out))
    code, printed, err = call(capsys, *words)
    assert (code, err.count("note: ")) == (0, 1)
    written = ("curves.pdf", "main_table.tex", "compute_table.tex", "captions.tex")
    assert printed.split() == [str(out / name) for name in written]
    assert "401.0 & 2.5" in (out / "main_table.tex").read_text()  # t(0.975, 2) / sqrt(3) = 2.48
    assert "evaluation return at the last evaluation point" in (out / "captions.tex").read_text()
    result = json.loads((cell / "seed-2" / "result.json").read_text())
    (cell / "seed-2" / "result.json").write_text(json.dumps(result | {"digest": "0" * 64}))
    code, _, err = call(capsys, *words)
    assert code == 2
    assert "has other records than" in err and "seed-2" in err and err.count("\n") == 1


def test_the_api_returns_figures(store: Records, tmp_path: Path) -> None:
    for task, system in product(("CartPole-v1", "Pendulum-v1"), ("ppo", "td3")):
        store.flat_runs(store.cell(task, system), [-100.0, -110.0, -120.0])
    names = {"ppo": "PPO"}
    found = ascent.figures(store.runs, venue="icml", systems=["td3", "ppo"], labels=names, seeds=True)
    assert list(found) == ["curves", "aggregate_steps", "intervals", "profiles"]
    (legend,) = found["curves"].legends
    assert [text.get_text() for text in legend.get_texts()] == ["td3", "PPO"]
    ascent.figures(store.runs, systems=["td3"], out=tmp_path / "paper", form="svg")
    assert (tmp_path / "paper" / "profiles.svg").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--venue", "nips"), "unknown venue 'nips'; did you mean 'neurips'?"),
        (("--width", "colum"), "unknown width 'colum'; did you mean 'column'?"),
        (("--systems", "sac,pppo"), "unknown system 'pppo'; did you mean 'ppo'?"),
        (("--systems", "sac,sac"), "two systems are named 'sac'"),
        (("--labels", "sca=SAC"), "unknown system 'sca'; did you mean 'sac'?"),
        (("--labels", "sac=ppo"), "two systems are named 'ppo'"),
        (("--labels", "sac"), "--labels: 'sac' is not SYSTEM=NAME, such as sac=SAC"),
        (
            ("--systems", "ppo", "--labels", "sac=SAC"),
            "sac has a label, but is not among the chosen: ppo",
        ),
        (("--font-size", "6"), "the font size must be from 7 to 10 points, not 6"),
        (("--format", "eps"), "unknown format 'eps'; valid: pdf, png, svg"),
    ],
)
def test_wrong_words_write_nothing(
    store: Records, capsys: pytest.CaptureFixture, words: tuple[str, ...], message: str
) -> None:
    for system in ("ppo", "sac"):
        store.flat_runs(store.cell(system=system), [400.0, 410.0])
    out = store.out.parent / "paper"
    code, printed, err = call(capsys, "figures", str(store.runs), "--out", str(out), *words)
    assert (code, printed, err) == (2, "", f"error: {message}\n")
    assert not out.exists() and [path.name for path in store.out.parent.iterdir()] == ["runs"]


def test_an_authors_files_are_kept(one_by_one: "Study", tmp_path: Path) -> None:
    """An earlier call's files are replaced as a whole; a folder with anything else, or its like, is not."""
    here, out = page("icml", "column", 8), tmp_path / "paper"
    paper = make(one_by_one, here)
    out.mkdir()
    write(paper, here, out)
    assert {path.name for path in write(paper, here, out, "png")} == {path.name for path in out.iterdir()}
    (out / "paper.tex").write_text("mine")
    with pytest.raises(InputError, match="files that are not part of figures for a paper"):
        write(paper, here, out)
    author = tmp_path / "author"
    author.mkdir()
    (author / "curves.pdf").write_text("mine")
    with pytest.raises(InputError, match="files that `ascent figures` did not write"):
        write(paper, here, author)
    assert (author / "curves.pdf").read_text() == "mine"


def test_names_with_commas_and_equals_signs() -> None:
    """Labels of systems may have both in parentheses."""
    text = "rpc (code with rate=3.0, delay=2), ppo"
    assert parse_systems(text) == ["rpc (code with rate=3.0, delay=2)", "ppo"]
    assert parse_labels("rpc (code with rate=3.0, delay=2)=RPC = ours,ppo=PPO") == {
        "rpc (code with rate=3.0, delay=2)": "RPC = ours",
        "ppo": "PPO",
    }


def test_short_names_of_tasks_stay_distinct(store: Records) -> None:
    for task in ("CartPole-v1", "Pendulum-v1"):
        store.flat_runs(store.cell(task), [1.0, 2.0])
    tasks = analysed(store.runs).tasks
    assert list(task_names(tasks).values()) == ["CartPole", "Pendulum"]
    one = tasks[0]
    two = [one, replace(one, name="CartPole-v0"), replace(one, suite="other"), tasks[1]]
    assert list(task_names(two).values()) == [
        "classic/CartPole-v1",
        "CartPole-v0",
        "other/CartPole-v1",
        "Pendulum",
    ]

"""Results on the shelf: rows of the leaderboard, verdicts, and figures of learning curves."""

import io
import re
from collections.abc import Callable, Collection, Sequence
from functools import cache
from itertools import groupby
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from ascent.records.expected import Expected
from ascent.records.read import load
from ascent.records.shelf import CURVES
from ascent.reports.page.figures import DASHES, PALETTE
from ascent.reports.page.formats import decimals, number, short_steps
from ascent.reports.shelf.tables import BOARD_HTML, BOARD_MD, DECLARED
from ascent.reports.statistics.aggregate import Task, aggregate
from ascent.reports.statistics.published import sources
from ascent.reports.statistics.verdicts import DESCRIPTIVE, Verdict, counts, verdicts
from docs.generators.places import SHELF
from docs.generators.tables import code, table

BOARD_COLUMNS = ("system", "rank", "score", "Student-t limits", "median, its interval", "n", "cell")
VERDICT_COLUMNS = (
    "task, steps", "system", "estimator", "here", "published", "of", "difference", "margin", "verdict"
)  # fmt: skip
WIDTH, HEIGHT = 3.3, 2.5  # of a panel, in inches
COLUMNS = 3
STYLE = {
    "font.family": "sans-serif",
    "font.size": 8,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "ascent",  # the same names of elements each time
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8a8a8a",
    "axes.grid": True,
    "grid.color": "#ececec",
}


@cache
def boards() -> dict[str, list[dict[str, str]]]:
    """Return the rows of the leaderboard by the title of its tables, "task, steps"."""
    found: dict[str, list[dict[str, str]]] = {}
    text = (SHELF.folder / BOARD_MD).read_text(encoding="utf-8").partition("\n## Missing")[0]
    for section in text.split("\n## ")[1:]:
        title, *lines = section.strip().splitlines()
        heads, _, *rows = [[part.strip() for part in line.strip("| ").split(" | ")] for line in lines if line]
        found[title] = [dict(zip(heads, row, strict=True)) for row in rows]
    return found


def sortable() -> str:
    """Return the leaderboard with sorting, beside the pages of the site."""
    page = (SHELF.folder / BOARD_HTML).read_text(encoding="utf-8")
    return page.replace('href="datasheet.md"', 'href="datasheet.html"')


def scores(wanted: Callable[[str, str], bool]) -> str:
    """Return a table of the leaderboard's rows, given which (task, system) are wanted; "" for none."""
    rows = []
    for title, board in boards().items():
        task = title.partition(",")[0]
        for row in board:
            if wanted(task, row["system"].partition(" ")[0]):
                rows.append([title, *(row[name] for name in BOARD_COLUMNS)])
    return table(("task, steps", *BOARD_COLUMNS), rows) if rows else ""


@cache
def studied() -> tuple[Task, ...]:
    """Return the tasks of the shelf with their cells, one per task and budget."""
    cells = load(SHELF.folder, [Expected.on_shelf(cell, SHELF.name) for cell in SHELF.present])

    def key(cell: Any) -> tuple[str, str, int]:
        return cell.name.suite, cell.name.task, int(cell.facts["steps"])

    found: list[Task] = []
    for _, of_task in groupby(sorted(cells, key=key), key):
        found += aggregate(list(of_task), DECLARED)
    return tuple(found)


@cache
def judged() -> tuple[Verdict, ...]:
    """Return the verdicts on all cells of the shelf, in the order of `studied`."""
    return tuple(each for task in studied() for each in verdicts([task]))


def verdict_table(shown: Sequence[Verdict]) -> str:
    """Return a table with a row per cell and published score."""
    rows = []
    for verdict in shown:
        places, reference = decimals(verdict.task), verdict.reference
        ours = verdict.ours
        rows.append(
            (
                f"{verdict.task.name}, {short_steps(verdict.summary.cell.facts['steps'])}",
                f"{verdict.summary.cell.name.system} ({verdict.summary.cell.setting})",
                verdict.estimator.replace("_", " "),
                f"{number(ours.mean, places)} ± {number(ours.std, places)}, n={ours.n}" if ours else "none",
                published(verdict, places),
                f"{reference.environment}, {code(reference.source)}",
                difference(verdict, places),
                number(verdict.margin.margin, places) if verdict.margin else "none",
                verdict.words,
            )
        )
    return table(VERDICT_COLUMNS, rows)


def difference(verdict: Verdict, places: int) -> str:
    """Return ours minus the published score, with its 95% interval where there is one."""
    if verdict.difference is None:
        return ""
    limits = ""
    if verdict.test:
        limits = f" [{number(verdict.test.low, places)}, {number(verdict.test.high, places)}]"
    return number(verdict.difference, places) + limits


def published(verdict: Verdict, places: int) -> str:
    """Return the published score with its spread and number of seeds, where they are known."""
    reference = verdict.reference
    spread = f" ± {number(reference.std, places)}" if reference.std is not None else ""
    seeds = f", n={reference.n}" if reference.n else ""
    return f"{number(reference.mean, places)}{spread}{seeds}"


def _cited_sources() -> list[tuple[str, str, str]]:
    keys = sorted({each.reference.source for each in judged()})
    return [(code(key), sources()[key].citation, sources()[key].where) for key in keys]


def verdicts_of(systems: Collection[str]) -> str:
    """Return the verdicts on the cells of some systems, without those that only describe."""
    of_systems = [each for each in judged() if each.summary.cell.name.system in systems]
    tested = [each for each in of_systems if each.verdict != DESCRIPTIVE]
    others = len(of_systems) - len(tested)
    all_of_them = "[All comparisons, and their sources](../results/verdicts.md).\n"
    if not of_systems:
        return "No published score has one of these cells' task and budget.\n"
    if not tested:
        return (
            f"{others} published scores have the task and budget of a cell, but allow no test. {all_of_them}"
        )
    more = f"{others} more only describe, for the reasons that stand beside them. " if others else ""
    return f"{verdict_table(tested)}\n{more}{all_of_them}"


def verdict_counts() -> str:
    """Return a table of how many verdicts there are of each kind."""
    return table(("verdict", "number"), counts(judged()).items())


def verdict_page() -> str:
    """Return the page of all verdicts."""
    return (
        "# Against published scores\n\n"
        "Each cell of the [results that ship with the suite](leaderboard.md) against every published score of"
        " the same algorithm, task family and step budget, by the estimator of the published score. ± is the"
        " standard deviation over n seeds; the difference has its 95% interval (Welch). *Reproduced*: the 90%"
        " interval lies within the margin, which was fixed beforehand. A *failed* seed is below the published"
        " mean by more than the margin, and also below all runs that the published spread lets us expect, or"
        " hardly better than its own policy of step 0. Scores are of greedy actions where *sampled actions*"
        " does not stand beside the estimator."
        " [Comparing](../comparing.md#against-a-published-number) says how to read a verdict;"
        " `reports/references/published.csv` has the published scores, and"
        " [Why scores differ](../verdicts.md) says what was found about each verdict *different*.\n\n"
        + verdict_counts()
        + "\n## With a test\n\n"
        + verdict_table([each for each in judged() if each.verdict != DESCRIPTIVE])
        + "\n## Without a test\n\n"
        + verdict_table([each for each in judged() if each.verdict == DESCRIPTIVE])
        + "\n## Sources\n\n"
        + table(("source", "what it is", "where"), _cited_sources())
    )


def figure(systems: Sequence[str]) -> bytes | None:
    """Return the learning curves of some systems as SVG: a panel per task and budget, all seeds faint.

    None where nothing is on the shelf.
    """
    data = pd.read_parquet(SHELF.folder / CURVES)
    data = data[(data["policy"] == "greedy") & data["system"].isin(systems)]
    panels = [(title, *_task_and_steps(title)) for title in boards()]
    panels = [
        each for each in panels if not data[(data["task"] == each[1]) & (data["budget"] == each[2])].empty
    ]
    if not panels:
        return None
    labels = sorted({_label(row) for row in data[["system", "setting"]].drop_duplicates().itertuples()})
    colours = {
        label: (PALETTE[k % len(PALETTE)], DASHES[k // len(PALETTE)]) for k, label in enumerate(labels)
    }
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    with matplotlib.style.context(["default", STYLE]):
        drawing = Figure(figsize=(columns * WIDTH, rows * HEIGHT + 0.35), layout="constrained")
        all_axes = drawing.subplots(rows, columns, squeeze=False).flatten()
        for axes in all_axes[len(panels) :]:
            axes.set_visible(False)
        for axes, (title, task, steps) in zip(all_axes, panels, strict=False):
            of_panel = data[(data["task"] == task) & (data["budget"] == steps)]
            for key, cell in of_panel.groupby(["system", "setting"]):
                curves = cell.pivot_table(index="step", columns="seed", values="return")
                colour, dash = colours[f"{key[0]} ({key[1]})"]
                axes.plot(curves.index, curves, color=colour, linestyle=dash, alpha=0.25, linewidth=0.6)
                axes.plot(curves.index, curves.mean(axis=1), color=colour, linestyle=dash, linewidth=1.6)
            axes.set_title(title, fontsize=8)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: short_steps(value)))
        for label, (colour, dash) in colours.items():
            all_axes[0].plot([], [], color=colour, linestyle=dash, label=label)
        drawing.legend(loc="outside lower center", ncols=min(len(labels), 2 * columns), frameon=False)
        buffer = io.BytesIO()
        drawing.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _label(row: Any) -> str:
    return f"{row.system} ({row.setting})"


def _task_and_steps(title: str) -> tuple[str, int]:
    """Return task and steps from "CartPole-v1, 100k steps"."""
    match = re.fullmatch(r"(\S+), ([\d.]+)([kM]?) steps", title)
    assert match, title
    return match[1], round(float(match[2]) * {"": 1, "k": 1_000, "M": 1_000_000}[match[3]])


def in_brief() -> str:
    """Return the first three of each leaderboard, for the front page."""
    rows = []
    for title, board in boards().items():
        best = "; ".join(f"{row['system']} {row['score']}" for row in board[:3])
        rows.append((title, best, len(board)))
    return table(("task, steps", "highest mean scores", "systems"), rows)

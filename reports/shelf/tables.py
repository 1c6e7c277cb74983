"""Generate what is made from the records of a shelf: the same records give the same bytes.

curves.parquet                     a row per run and evaluation
scores.csv                         a row per cell
leaderboard.md, leaderboard.html   the cells of each task and budget, ranked; what is missing
datasheet.md, LICENSE.md           what the data are, and what may be done with them
croissant.json                     the same for machines (https://docs.mlcommons.org/croissant/)
SHA256SUMS                         checksums of all other files, for `sha256sum -c`
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import inf
from pathlib import Path

import jinja2
import pandas as pd

from ascent.records import files, layout, sums
from ascent.records.declared import Declared
from ascent.records.expected import Expected
from ascent.records.plan import seed_ranges
from ascent.records.read import CellRecord, load
from ascent.records.shelf import CURVES, SCORES, Shelf, ShelfCell
from ascent.records.store import Store, seals
from ascent.reports import page
from ascent.reports.page.formats import decimals, median_limits, number, short_steps, student_limits
from ascent.reports.page.table import csv
from ascent.reports.shelf import croissant
from ascent.reports.shelf.proofs import counted, grade_of, proofs
from ascent.reports.statistics.aggregate import CellSummary, Task, aggregate
from ascent.reports.statistics.comparisons import Pair, compare
from ascent.reports.statistics.curves import evaluation_means
from ascent.reports.statistics.ranking import leaders, task_ranks
from ascent.runners import estimate

BOARD_MD, BOARD_HTML = "leaderboard.md", "leaderboard.html"
DATASHEET, LICENSE, CROISSANT = "datasheet.md", "LICENSE.md", "croissant.json"
GENERATED = (CURVES, SCORES, BOARD_MD, BOARD_HTML, DATASHEET, LICENSE, CROISSANT, sums.SUMS)
DECLARED = Declared()  # of all results: what the sweeps of the shelf declare


@dataclass(frozen=True)
class Row:
    """A cell on a leaderboard."""

    planned: ShelfCell
    summary: CellSummary
    ranks: tuple[int, int] | None  # from 1 + the systems that are better to all but those that are worse
    bold: bool  # best mean of its table, or not significantly worse
    fragility: int | None  # least of the claims behind `ranks`; None without a claim
    grade: str
    policies: tuple[int, ...]  # seeds whose final policies are kept
    trained: str  # day on which its training ended
    core_hours: float
    platforms: tuple[str, ...]
    sources: tuple[str, ...]
    seal: str


@dataclass(frozen=True)
class Board:
    """The cells of one task and budget, best first."""

    task: Task
    steps: int
    rows: tuple[Row, ...]

    @property
    def title(self) -> str:
        return f"{self.task.name}, {short_steps(self.steps)} steps"


def build(shelf: Shelf) -> list[Path]:
    """Write all generated files of a shelf, and return their paths.

    Raises:
        ValueError: there are no cells, or their records cannot be read.
    """
    estimate.measured.cache_clear()
    present = shelf.present
    cells = load(shelf.folder, [Expected.on_shelf(cell, shelf.name) for cell in present]) if present else []
    for run in (run for cell in cells for run in cell.runs if not run.finished):
        raise ValueError(f"{run.folder} is {run.state}{': ' if run.note else ''}{run.note}")
    shown = boards(shelf, cells)
    contents: dict[str, bytes] = {
        SCORES: csv(scores(shown)).encode(),
        BOARD_MD: _template("leaderboard.md.jinja", shelf, shown).encode(),
        BOARD_HTML: _template("leaderboard.html.jinja", shelf, shown).encode(),
        DATASHEET: _template("datasheet.md.jinja", shelf, shown).encode(),
        LICENSE: _template("LICENSE.md.jinja", shelf, shown).encode(),
    }
    curves(cells).to_parquet(shelf.folder / CURVES, index=False)
    for name, content in contents.items():
        files.write(shelf.folder / name, content)
    described = {name: sums.of_file(shelf.folder / name) for name in (CURVES, SCORES)}
    files.write(shelf.folder / CROISSANT, croissant.describe(shelf, described))
    files.write(shelf.folder / sums.SUMS, sums.of_folder(shelf.folder).encode())
    return [shelf.folder / name for name in GENERATED]


def boards(shelf: Shelf, cells: Sequence[CellRecord]) -> list[Board]:
    """Return the leaderboards: one per task and budget, so that like is compared with like."""
    planned = {cell.folder: cell for cell in shelf.planned}
    known = proofs(shelf)
    found = []
    order = {name: k for k, name in enumerate(dict.fromkeys(cell.task for cell in shelf.planned))}

    def key(cell: CellRecord) -> tuple[int, int]:
        return order[cell.name.task], int(cell.facts["steps"])

    for (_, steps), of_task in groupby(sorted(cells, key=key), key):
        (task,) = aggregate(list(of_task), DECLARED)
        pairs = compare([task], DECLARED).pairs
        ranks, leading = task_ranks(task, pairs), leaders(task, pairs)
        rows = [
            Row(
                planned[summary.cell.name.folder],
                summary,
                ranks.get(summary.label),
                summary in leading,
                _fragility(summary, pairs),
                grade_of(shelf, planned[summary.cell.name.folder], known),
                _policies(shelf, planned[summary.cell.name.folder]),
                max(run.about["attempts"][-1]["ended"] for run in summary.cell.runs)[:10],
                sum(run.cpu_seconds for run in summary.cell.runs) / 3600,
                _distinct((run.about.get("platform") or {}).get("key") for run in summary.cell.runs),
                _distinct(run.about.get("source_digest") for run in summary.cell.runs),
                seals(shelf.folder / summary.cell.name.folder)[0].name,
            )
            for summary in task.cells
        ]
        rows.sort(key=lambda row: -task.measured.sign * row.summary.score.mean if row.summary.score else inf)
        found.append(Board(task, steps, tuple(rows)))
    return found


def curves(cells: Sequence[CellRecord]) -> pd.DataFrame:
    """Return one row per run, policy and evaluation, with means over the episodes of the evaluation."""
    table = evaluation_means(cells)
    facts = {cell.name.digest: (cell.setting, int(cell.facts["steps"])) for cell in cells}
    table.insert(4, "setting", [facts[digest][0] for digest in table["digest"]])
    table.insert(5, "budget", [facts[digest][1] for digest in table["digest"]])
    return table


def scores(shown: Sequence[Board]) -> pd.DataFrame:
    """Return one row per cell: its score with interval, cost, grade and digests."""
    rows = []
    for board in shown:
        for row in board.rows:
            score, cell = row.summary.score, row.summary.cell
            rows.append(
                {
                    "suite": board.task.suite,
                    "task": board.task.name,
                    "budget": board.steps,
                    "system": cell.name.system,
                    "setting": cell.setting,
                    "rank_from": row.ranks[0] if row.ranks else None,
                    "rank_to": row.ranks[1] if row.ranks else None,
                    "fragility": row.fragility,
                    "n": score.n if score else cell.finished,
                    "diverged": score.failures if score else None,
                    "mean": score.mean if score else None,
                    "low": score.low if score else None,
                    "high": score.high if score else None,
                    "std": score.std if score else None,
                    "iqm": score.iqm if score else None,
                    "median": score.median if score else None,
                    "median_low": score.median_interval.low if score and score.median_interval else None,
                    "median_high": score.median_interval.high if score and score.median_interval else None,
                    "core_hours": round(row.core_hours, 3),
                    "grade": row.grade,
                    "policies": seed_ranges(row.policies),
                    "trained": row.trained,
                    "digest": cell.name.digest,
                    "sources": " ".join(row.sources),
                    "platforms": " ".join(row.platforms),
                    "folder": cell.name.folder,
                    "seal": row.seal,
                }
            )
    return pd.DataFrame(rows)


def hours(shelf: Shelf, cell: ShelfCell) -> float:
    """Estimate the hours of one core that the training of a cell takes, by what is on the shelf."""
    suite = cell.folder.partition("/")[0]
    rate = estimate.rate(suite, cell.task, cell.system, cell.replays, shelf.folder)
    return cell.steps * cell.seeds / rate / 3600


def _template(name: str, shelf: Shelf, shown: Sequence[Board]) -> str:
    home = Path(__file__).parent
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([home, Path(page.__file__).parent]),
        autoescape=name.endswith(".html.jinja"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    style = (Path(page.__file__).parent / "page.css").read_text()
    script = (Path(page.__file__).parent / "tables.js").read_text()
    shown_hours = {cell: hours(shelf, cell) for cell in shelf.missing}
    return environment.get_template(name).render(
        shelf=shelf, boards=shown, rows=[row for board in shown for row in board.rows], hours=shown_hours,
        rank=_rank, fragility=_undone_by, policies=_kept, mean=_mean, limits=_limits, median=_median,
        grades=counted(row.grade for board in shown for row in board.rows), style=style, script=script,
    )  # fmt: skip


def _rank(row: Row) -> str:
    return "-".join(dict.fromkeys(map(str, row.ranks or ())))


def _undone_by(row: Row) -> str:
    return "no claim" if row.fragility is None else str(row.fragility)


def _kept(row: Row) -> str:
    if len(row.policies) == row.planned.seeds:
        return "all"
    return f"of seed {seed_ranges(row.policies)}" if row.policies else "none"


def _fragility(summary: CellSummary, pairs: Iterable[Pair]) -> int | None:
    """Return how many failed runs undo the weakest claim about a cell; None without a claim."""
    counts = [pair.fragility for pair in pairs if summary in (pair.x, pair.y) and pair.fragility is not None]
    return min(counts, default=None)


def _policies(shelf: Shelf, cell: ShelfCell) -> tuple[int, ...]:
    store = Store(shelf.folder / cell.folder)
    return tuple(seed for seed in range(cell.seeds) if store.has(seed, layout.POLICY))


def _mean(board: Board, row: Row) -> str:
    score = row.summary.score
    return number(score.mean, decimals(board.task)) if score else row.summary.refusal


def _limits(board: Board, row: Row) -> str:
    score = row.summary.score
    return student_limits(score, decimals(board.task)) if score else ""


def _median(board: Board, row: Row) -> str:
    score, places = row.summary.score, decimals(board.task)
    return f"{number(score.median, places)} {median_limits(score, places)}" if score else ""


def _distinct(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(str(value) for value in values))

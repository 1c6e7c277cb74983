"""Citations: a sentence with a cell's score for a paper, the command that verifies it, and BibTeX.

Only complete cells that pass every rule of `ascent check` may be cited, trained by Ascent on reporting seeds
from a clean commit.
"""

import csv
import io
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import isclose
from pathlib import Path

from ascent.records import files, layout, ledger, shelf
from ascent.records.cell import FIRST_TUNING_SEED, without_tuning
from ascent.records.declared import ESTIMATORS, RETURN, Declared, Design
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.records.plan import seed_ranges
from ascent.records.read import CellRecord, load, seeds_of
from ascent.reports.checking import bundle
from ascent.reports.checking.check import refuse
from ascent.reports.checking.folder import load as load_files
from ascent.reports.checking.grades import RECORDED, grade
from ascent.reports.checking.origin import origins
from ascent.reports.page import bibliography
from ascent.reports.page.formats import decimals, median_limits, number, student_limits
from ascent.reports.page.provenance import mixed_platforms
from ascent.reports.statistics.aggregate import CellSummary, Score, aggregate
from ascent.reports.statistics.declaration import undeclared
from ascent.reports.statistics.estimators import describe
from ascent.reports.statistics.intervals import FEW_SEEDS
from ascent.reports.statistics.measures import Measured

BEFORE = "estimator and seeds, before the first run"


@dataclass(frozen=True)
class Basis:
    """What a citation follows: a report, or the default settings and what was chosen instead.

    Attributes:
        declared: the settings.
        chosen: where the estimator comes from, in words.
        cell: the cell with the seeds to cite, as the report names it; None: all seeds that were run, and the
            name that the plans in the ledger give it.
        family: the family of comparisons of the report, in words; "" without a report.
        row: the row of the report's table of scores, as text by column; {} without a report.
        design: the stages of the report.
    """

    declared: Declared
    chosen: str
    cell: Expected | None = None
    family: str = ""
    row: Mapping[str, str] = field(default_factory=dict)
    design: Design | None = None


def cite(
    folder: Path, estimator: str | None = None, score: str | None = None, report: Path | None = None
) -> str:
    """Return the citation of a cell's score.

    Args:
        folder: the cell's folder.
        estimator: how a run becomes a score (default: mean_of_last_ten).
        score: what the score of an episode is: its return, or a measure of the task (default: its return).
        report: folder of a report; its estimator, score and seeds are cited.

    Raises:
        InputError: the cell must not be cited, or the report has other numbers.
    """
    basis = _of_report(report, folder) if report else _without_report(estimator, score)
    declared = basis.declared
    cell = _load(folder, basis.cell)
    _check_citable(cell)
    refuse(folder, [run.seed for run in cell.runs])
    (task,) = aggregate([cell], declared)
    summary = task.cells[0]
    if summary.score is None:
        raise InputError(f"{cell.name.folder} has no {declared.estimator} score: {summary.refusal}")
    if report:
        _check_same(summary, summary.score, basis.row, report)
    unknown = _unknown_origin(folder)
    sentence = _sentence(summary, summary.score, declared.estimator, task.measured, decimals(task))
    if basis.family:
        sentence += f" The report of these runs declares a family of {basis.family}."
    family = f"family    {basis.family}\n" if basis.family else ""
    found = undeclared(cell, declared, folder.resolve().parents[2], basis.design)
    before = "; ".join(found) or BEFORE
    keys = [
        bibliography.SUITE, *bibliography.algorithm_keys(cell.facts),
        *bibliography.task_keys(task.suite, task.name),
    ]  # fmt: skip
    return (
        f"{sentence} {_made_at(cell, unknown)}\n\n"
        f"estimator {declared.estimator}, {basis.chosen}\n"
        f"{family}"
        f"plan      {', '.join(_plans(cell)) or 'none is recorded'}\n"
        f"grade     {grade(RECORDED, unknown)}{''.join(f': {reason}' for reason in unknown)}\n"
        f"declared  {before}\n"
        f"cell      {cell.name.folder}, digest {cell.facts['digest']}\n"
        f"sources   {', '.join(_values(cell, 'source_digest'))}\n"
        f"commit    {', '.join(_values(cell, 'commit'))}\n"
        f"packages  {'; '.join(_packages(cell))}\n"
        f"verify    {shlex.join(['ascent', 'verify', _shortest(folder)])}\n\n"
        f"{bibliography.text(keys)}"
    )


def _shortest(folder: Path) -> str:
    """Return how `ascent verify` finds a cell: a digest is enough for what ships with the suite."""
    return layout.digest_of(folder) if folder.resolve().is_relative_to(shelf.HOME) else str(folder)


def _without_report(estimator: str | None, score: str | None) -> Basis:
    chosen = "chosen for this citation" if estimator else "the default: no report is given"
    return Basis(Declared(estimator or ESTIMATORS[0], score or RETURN), chosen)


def _of_report(report: Path, folder: Path) -> Basis:
    """Return what a report says of the cell in a folder. Raises InputError if it does not have the cell."""
    about = bundle.provenance(report)
    name = "/".join(folder.resolve().parts[-3:])
    expected = {cell.folder: cell for cell in bundle.expected_cells(about)}
    if name not in expected:
        raise InputError(f"{report} has no cell {name}")
    try:
        family = int(about["report"]["family"])
        rows = csv.DictReader(io.StringIO(files.read(report.resolve() / "tables" / "scores.csv").decode()))
        cells = {"/".join(_cell_of(row)): row for row in rows}
        row = cells[name]
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(f"{report} was written by another version: build the report again") from error
    declared = bundle.declared(about)
    pairs = f"every system against {declared.baseline}" if declared.baseline else "all pairs of systems"
    comparisons = "comparison" if family == 1 else "comparisons"
    return Basis(
        declared,
        f"that of the report {about['report']['title']!r}",
        expected[name],
        f"{family} {comparisons} ({pairs} on every task)",
        row,
        Design.of(about["report"]),
    )


def _cell_of(row: Mapping[str, str]) -> tuple[str, str, str]:
    return row["suite"], row["task"], f"{row['system']}-{row['preset']}-{row['digest']}"


def _check_same(summary: CellSummary, score: Score, row: Mapping[str, str], report: Path) -> None:
    """Raise InputError unless a report has the same numbers as the records."""
    for name in ("n", "mean", "low", "high", "iqm"):
        here, there = getattr(score, name), row.get(name, "")
        same = there == "" if here is None else there != "" and isclose(here, float(there), rel_tol=1e-9)
        if not same:
            raise InputError(
                f"{report} says {name} {there or 'none'} of {summary.label}, the records {here}: "
                "build the report again"
            )


def _load(folder: Path, chosen: Expected | None = None) -> CellRecord:
    """Load the cell in a folder, with every seed that has a folder; without tuning seeds beside others.

    With `chosen`, it has the seeds and the name of that instead.
    """
    place = folder.resolve()
    suite, task, name = place.parts[-3:]
    try:
        facts = files.read_json(place / layout.CELL)
        system, preset = str(facts["system"]), str(facts["preset"])
    except (KeyError, TypeError) as error:
        raise InputError(f"{folder}/cell.json is damaged") from error
    digest = name.removeprefix(f"{system}-{preset}-")
    if chosen is None:
        called = ledger.named_cells(place.parents[2]).get(f"{suite}/{task}/{name}", ("", ""))
        seeds = tuple(without_tuning(seeds_of(place)))
        chosen = Expected(suite, task, system, preset, digest, seeds, "", *called)
    if not chosen.seeds:
        raise InputError(f"{folder} has no runs")
    try:
        (cell,) = load(place.parents[2], [replace(chosen, shelf="")])
    except ValueError as error:
        raise InputError(str(error)) from error
    return cell


def _check_citable(cell: CellRecord) -> None:
    """Raise InputError unless the cell is complete, trained here, on reporting seeds, from a clean commit."""
    name = cell.name.folder
    for run in cell.runs:
        if not run.finished:
            note = f": {run.note}" if run.note else ""
            raise InputError(f"{name} is not complete: seed {run.seed} is {run.state}{note}")
    if cell.imported:
        raise InputError(f"{name} was imported: cite the library that made its curves")
    tuning = [run.seed for run in cell.runs if run.seed >= FIRST_TUNING_SEED]
    if tuning:
        raise InputError(
            f"{name} has tuning seeds ({seed_ranges(tuning)}), whose scores must not be reported"
        )
    for run in cell.runs:
        if not run.about.get("commit"):
            raise InputError(f"{name}: the commit of seed {run.seed} is not recorded")
        if run.about.get("dirty") is None:
            raise InputError(
                f"{name}: seed {run.seed} does not record whether there were uncommitted changes"
            )
        if run.about["dirty"] is not False:
            raise InputError(f"{name}: seed {run.seed} was trained with uncommitted changes")


def _unknown_origin(folder: Path) -> tuple[str, ...]:
    """Return why the sources of a cell's runs cannot be compared with the commit that they name."""
    found = origins(load_files(folder.resolve()))
    return tuple(dict.fromkeys(reason for _, origin in found for reason in origin.unknown))


def _sentence(summary: CellSummary, score: Score, estimator: str, measured: Measured, places: int) -> str:
    """Return the sentence for a paper."""
    cell = summary.cell
    evaluation = cell.facts["evaluation"]
    seeds = seed_ranges([run.seed for run in cell.runs])
    selection = f"; {summary.cell.remarks}" if summary.cell.remarks else ""
    few = f"; fewer than the recommended {FEW_SEEDS}" if score.n < FEW_SEEDS else ""
    verb = "is" if score.failures == 1 else "are"
    failed = f"; {score.failures} of {score.n} runs diverged and {verb} included" if score.failures else ""
    limits = student_limits(score, places)
    if score.low is not None:
        limits = f"Student-t limits {limits}"
    median = f"median {number(score.median, places)}"
    if score.median_interval is not None:
        median += f", distribution-free {median_limits(score, places)}"
    text = (
        f"{_system(cell)} (preset {cell.setting}) on {cell.name.task}, {cell.facts['steps']:,} "
        f"environment steps per seed: mean evaluation {measured.text} {number(score.mean, places)} "
        f"over n = {score.n} {'seed' if score.n == 1 else 'seeds'} ({seeds}{selection}{few}), {limits}; "
        f"{median}; IQM {number(score.iqm, places)}{failed}. "
        f"Score of a run: {_lower(describe(estimator, measured.name))} ({evaluation['points']} "
        f"evaluations of {evaluation['episodes']} episodes). "
    )
    mixed = [run.seed for run in cell.runs if mixed_platforms(run)]
    keys = {(run.about.get("platform") or {}).get("key") for run in cell.runs}
    if mixed:
        text += f"Seeds {seed_ranges(mixed)} were resumed on another platform. "
    if len(keys) > 1:
        text += f"The runs were trained on {len(keys)} platforms. "
    return text.rstrip()


def _system(cell: CellRecord) -> str:
    """Return the name of the system; with the algorithm's, if a sweep gives another one."""
    name, system = cell.name.name, cell.name.system
    return f"{name}: {system}" if name not in ("", system) else system


def _made_at(cell: CellRecord, unknown: tuple[str, ...]) -> str:
    """Return the sentence that names commit, cell and sources, and whether they were compared."""
    commits, sources = (
        " and ".join(value[:12] for value in _values(cell, key)) for key in ("commit", "source_digest")
    )
    doubt = ", not compared with that commit" if unknown else ""
    digests = f"cell {cell.facts['digest']}, sources {sources}{doubt}"
    return f"Trained with Ascent at commit {commits}, {digests}."


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _values(cell: CellRecord, key: str) -> list[str]:
    return sorted({str(run.about.get(key)) for run in cell.runs})


def _plans(cell: CellRecord) -> list[str]:
    return sorted({str(run.about["plan"]) for run in cell.runs if run.about.get("plan")})


def _packages(cell: CellRecord) -> list[str]:
    """Return the package versions of the runs, one text per distinct set."""
    sets = (run.about.get("packages") or {} for run in cell.runs)
    return sorted(
        {", ".join(f"{name} {version}" for name, version in sorted(packages.items())) for packages in sets}
    )

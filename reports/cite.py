"""Cite: the sentence that puts a cell's score into a paper, how to check it, and the BibTeX for it.

Only what stands up to a check may be cited: complete cells that were trained here, on reporting seeds, from a
commit with nothing changed.
"""

import json
import shlex
from pathlib import Path

from ascent.records.cell import FIRST_TUNING_SEED, find
from ascent.records.declared import Declared
from ascent.records.errors import InputError
from ascent.records.read import CellRecord, Expected, load, seeds_of
from ascent.reports.checking.check import check
from ascent.reports.page import bibliography
from ascent.reports.page.tables import decimals, interval, mixed_platforms, number, seed_ranges
from ascent.reports.statistics.aggregate import CellSummary, aggregate
from ascent.reports.statistics.estimators import describe
from ascent.reports.statistics.stats import FEW_SEEDS


def cite(target: str, runs: Path, estimator: str | None = None) -> str:
    """The text for a cell: `target` is its folder, or its digest or the start of that, below `runs`.

    `estimator` is the declared default if None. Raises InputError for a cell that must not be cited.
    """
    declared = Declared(estimator) if estimator else Declared()
    folder = find(target, runs)
    cell = _load(folder)
    _refuse(cell)
    _refuse_unchecked(folder)
    (task,) = aggregate([cell], declared)
    summary = task.cells[0]
    if summary.score is None:
        raise InputError(f"{cell.name.folder} has no score by {declared.estimator}: {summary.refusal}")
    sentence = _sentence(summary, declared.estimator, decimals(task))
    keys = [
        bibliography.SUITE, *bibliography.algorithm_keys(cell.facts),
        *bibliography.task_keys(task.suite, task.name),
    ]  # fmt: skip
    return (
        f"{sentence}\n\n"
        f"cell    {cell.name.folder}, digest {cell.facts['digest']}\n"
        f"commit  {', '.join(_values(cell, 'commit'))}\n"
        f"made by {'; '.join(_packages(cell))}\n"
        f"check   {shlex.join(['ascent', 'verify', str(folder)])}\n\n"
        f"{bibliography.text(keys)}"
    )


def _load(folder: Path) -> CellRecord:
    """The cell in a folder, with every seed that has a folder there."""
    place = folder.resolve()
    suite, task, name = place.parts[-3:]
    try:
        facts = json.loads((place / "cell.json").read_bytes())
        system, preset = str(facts["system"]), str(facts["preset"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}/cell.json is damaged") from error
    digest = name.removeprefix(f"{system}-{preset}-")
    seeds = seeds_of(place)
    if not seeds:
        raise InputError(f"{folder} has no runs")
    try:
        (cell,) = load(place.parents[2], [Expected(suite, task, system, preset, digest, seeds)])
    except ValueError as error:
        raise InputError(str(error)) from error
    return cell


def _refuse(cell: CellRecord) -> None:
    """Raises InputError for a cell whose numbers must not be cited."""
    name = cell.name.folder
    for run in cell.runs:
        if not run.finished:
            note = f": {run.note}" if run.note else ""
            raise InputError(f"{name} is not complete: seed {run.seed} is {run.state}{note}")
    if cell.imported:
        raise InputError(f"{name} was imported: cite the library and the run that made its curves")
    tuning = [run.seed for run in cell.runs if run.seed >= FIRST_TUNING_SEED]
    if tuning:
        raise InputError(f"{name} has tuning seeds ({seed_ranges(tuning)}), which enter no reported number")
    for run in cell.runs:
        if not run.about.get("commit"):
            raise InputError(f"{name}: nobody knows from which commit seed {run.seed} was made")
        if run.about.get("dirty") is not False:
            raise InputError(
                f"{name}: seed {run.seed} was made from a changed tree, which no commit gives again"
            )


def _refuse_unchecked(folder: Path) -> None:
    """Raises InputError with the first rule of `ascent check` that the cell breaks."""
    for outcome in check(folder):
        for finding in outcome.findings:
            if not finding.note:
                raise InputError(f"{finding.where}: {finding.what} (rule {outcome.rule} of `ascent check`)")


def _sentence(summary: CellSummary, estimator: str, places: int) -> str:
    cell, score = summary.cell, summary.score
    evaluation = cell.facts["evaluation"]
    seeds = seed_ranges([run.seed for run in cell.runs])
    few = f", fewer than {FEW_SEEDS}" if score.n < FEW_SEEDS else ""
    failed = f"; {score.failures} of the runs diverged and count" if score.failures else ""
    spread = "no interval"
    if score.low is not None:
        spread = f"95% Student-t interval {interval(score.low, score.high, places)}"
    text = (
        f"{cell.name.system} (preset {cell.setting}) on {cell.name.task}, {cell.facts['steps']:,} "
        f"environment steps per seed: mean return {number(score.mean, places)} over n = {score.n} "
        f"{'seed' if score.n == 1 else 'seeds'} ({seeds}{few}), {spread}, interquartile mean "
        f"{number(score.iqm, places)}{failed}. "
        f"The score of a run: {_lower(describe(estimator))} ({evaluation['points']} evaluations, "
        f"{evaluation['episodes']} episodes each). "
    )
    mixed = [run.seed for run in cell.runs if mixed_platforms(run)]
    keys = {(run.about.get("platform") or {}).get("key") for run in cell.runs}
    if mixed:
        text += f"Moved between platforms while they trained: seeds {seed_ranges(mixed)}. "
    if len(keys) > 1:
        text += f"The runs were made on {len(keys)} platforms. "
    commits = " and ".join(commit[:12] for commit in _values(cell, "commit"))
    return f"{text}Trained with Ascent at commit {commits}, cell {cell.facts['digest']}."


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:].rstrip(".")


def _values(cell: CellRecord, key: str) -> list[str]:
    return sorted({str(run.about.get(key)) for run in cell.runs})


def _packages(cell: CellRecord) -> list[str]:
    """The package versions of the runs, one text for each set of them."""
    sets = (run.about.get("packages") or {} for run in cell.runs)
    return sorted({", ".join(f"{name} {what}" for name, what in sorted(found.items())) for found in sets})

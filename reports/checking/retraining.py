"""Train recorded runs again, and compare: the depths `start` and `whole` of `verify`."""

import re
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress

from ascent.records import layout
from ascent.records.declared import RETURN, Declared
from ascent.records.expected import Expected
from ascent.records.read import load
from ascent.records.store import Store
from ascent.reports.checking import rerun
from ascent.reports.checking.differences import first_difference
from ascent.reports.checking.folder import CellFiles, RunFiles
from ascent.reports.checking.grades import RESTARTED, RETRAINED
from ascent.reports.checking.outcome import CANNOT, DIFFERS, Outcome
from ascent.reports.checking.rerun import Pack
from ascent.reports.checking.setting import Allowed, CannotVerify, device
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.equivalence import (
    DIFFERENT,
    INCONCLUSIVE,
    REPRODUCED,
    UNATTAINABLE,
    WITHIN_MARGIN,
    equivalence,
)

TOLERANCE = 1e-3  # of a number on another platform, before learning
MARGIN = 0.1  # of equivalence on another platform, as a share of reference score minus random score

# ---- depths start and whole


def retrain(
    cells: Sequence[CellFiles], whole: bool, steps: int | None, allowed: Allowed, declared: Declared
) -> list[Outcome]:
    """Train the finished runs of cells again, and compare them with their records.

    Args:
        cells: with the runs to train.
        whole: train to the end; otherwise to the step that `_target_step` returns.
        steps: how far to train instead; None: see there.
        allowed: what may be run and installed.
        declared: the estimator of the test on another platform.
    """
    outcomes: list[Outcome] = []
    packs: list[Pack] = []
    with tempfile.TemporaryDirectory(prefix="ascent-verify-") as work:
        for cell in cells:
            try:
                packs += rerun.packs(cell, cell.finished, _target_step(whole, steps), Path(work), allowed)
            except CannotVerify as error:
                outcomes.append(Outcome(cell.name, CANNOT, str(error)))
        failed = _train(packs)
        for number, reason in failed.items():
            reason = f"training failed: {reason}"
            outcomes += [Outcome(run.name, CANNOT, reason) for run in packs[number].runs]
        other_platform: dict[str, list[tuple[Pack, RunFiles]]] = {}
        for pack in (pack for number, pack in enumerate(packs) if number not in failed):
            for run in pack.runs:
                outcome = _compare_run(pack, run, whole)
                if outcome.verdict == DIFFERS and _platform_difference(pack, run):
                    other_platform.setdefault(pack.cell.name, []).append((pack, run))
                else:
                    outcomes.append(outcome)
        for pairs in other_platform.values():
            outcomes.append(_compare_retrained(pairs, declared) if whole else _compare_restarted(pairs))
    return outcomes


def _train(packs: Sequence[Pack]) -> dict[int, str]:
    """Train packs with a progress bar. Return the reasons of failures by the pack's index."""
    total = sum(pack.until * len(pack.runs) for pack in packs)
    console = Console(stderr=True)
    for note in dict.fromkeys(f"{pack.cell.name} {note}" for pack in packs for note in pack.setting.notes):
        console.print(note, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"training {sum(len(pack.runs) for pack in packs)} runs again", total=total)
        return rerun.train(packs, lambda steps: progress.update(bar, completed=min(steps, total)))


def _target_step(whole: bool, steps: int | None) -> Callable[[CellFiles], int]:
    """Return a function that tells how far to train a cell.

    By default, the depth `start` ends at the second evaluation after step 0, or at the first one after
    learning has begun, if that is later: before, the hyperparameters of learning have no effect.
    """

    def step(cell: CellFiles) -> int:
        points = cell.evaluation_steps()
        if steps is not None:
            return min(steps, points[-1])
        if whole:
            return points[-1]
        ladders = (run.read(layout.LADDER) or b"" for run in cell.finished)
        updates = [int(step) for ladder in ladders for step in re.findall(rb"\n(\d+),first update,", ladder)]
        learning = next((point for point in points if updates and point >= max(updates)), 0)
        return max(points[min(2, len(points) - 1)], learning)

    return step


def _platform_difference(pack: Pack, run: RunFiles) -> str:
    """Say how this machine differs from the recorded one, so that bytes may differ too; "" if it does not."""
    retrained = RunFiles(Store(pack.folder(run).parent), run.seed)
    if platforms := run.about.get("mixed_platforms"):
        return f"the run was trained on several platforms: {', '.join(platforms)}"
    for recorded, current in (
        (platform_key(run), platform_key(retrained)),
        (device(run), device(retrained)),
    ):
        if recorded != current:
            return f"recorded on {recorded}, this machine is {current}"
    return ""


def platform_key(run: RunFiles) -> str:
    """Return the platform key that a run records."""
    return str((run.about.get("platform") or {}).get("key"))


def _compare_run(pack: Pack, run: RunFiles, whole: bool) -> Outcome:
    """Compare a run with its retrained copy: all bytes of a `whole` one, else the rows up to a step."""
    retrained = RunFiles(Store(pack.folder(run).parent), run.seed)
    if retrained.about.get("source_digest") != run.about.get("source_digest"):
        return Outcome(run.name, CANNOT, "the sources that ran are not the recorded ones")
    step = rerun.evaluated(retrained.path, pack.until)
    if step is None:
        return Outcome(
            run.name, CANNOT, f"the retrained run has no evaluation at or after step {pack.until:,}"
        )
    ladder_rows = _rows(retrained.read(layout.LADDER), step)
    differences = []
    for file in (layout.LADDER, layout.EVAL, layout.TRAIN, layout.METRICS, layout.MEASURES):
        if file == layout.TRAIN and run.compact:
            continue  # result.json, compared below, has its digest
        recorded_rows, retrained_rows = (_rows(files.read(file), step) for files in (run, retrained))
        if difference := first_difference(file, recorded_rows, retrained_rows):
            differences.append(difference)
    names = [name for name in (*layout.RESULT_FILES, layout.RESULT) if run.read(name) is not None]
    if whole:
        described = {difference.partition(" ")[0] for difference in differences}
        unlike = [name for name in names if run.read(name) != retrained.read(name)]
        differences += [f"{name} differs" for name in unlike if name not in described]
    notes = "".join(f"; {note}" for note in pack.setting.notes)
    if not differences and whole:
        return Outcome(run.name, RETRAINED, f"all {len(names)} result files have the same bytes{notes}")
    if not differences:
        last = pack.cell.evaluation_steps()[-1]
        rows = f"all {len(ladder_rows) - 1} rows of {layout.LADDER}"
        return Outcome(run.name, RESTARTED, f"{rows} agree up to step {step:,} of {last:,}{notes}")
    return Outcome(run.name, DIFFERS, "\n".join(differences) + notes)


def _rows(data: bytes | None, step: int) -> list[str]:
    """Return the header of a table and its rows up to a step. Malformed rows are kept, so that they show."""
    head, *rows = (data or b"").decode(errors="replace").split("\n")
    numbered = ((row.partition(",")[0], row) for row in rows if row)
    kept = [row for number, row in numbered if not number.isdecimal() or int(number) <= step]
    return [head, *kept] if kept else []  # metrics.csv has its header only with the first row


def _compare_restarted(pairs: Sequence[tuple[Pack, RunFiles]]) -> Outcome:
    """Compare the first evaluations of a cell's runs with those on another platform.

    Those of the initial policies agree up to rounding, unless the task amplifies it; then, and at the last
    step that was trained again, mean returns are compared by an equivalence test.
    """
    pack, run = pairs[0]
    difference = _platform_difference(pack, run)
    again = [RunFiles(Store(pack.folder(run).parent), run.seed) for pack, run in pairs]
    reached = [rerun.evaluated(retrained.path, pack.until) for retrained in again]
    steps = [step for step in reached if step is not None]
    if len(steps) < len(pairs):
        return Outcome(pack.cell.name, CANNOT, f"a retrained run has no evaluation at step {pack.until:,}")

    def compared(step: int) -> tuple[list[list[str]], list[list[str]], Outcome]:
        recorded = [evaluation_rows(run, step) for _, run in pairs]
        here = [evaluation_rows(retrained, step) for retrained in again]
        samples = [mean_returns(recorded), mean_returns(here)]
        name = f"evaluation at step {step:,}"
        return recorded, here, compare_scores(pack.cell, RESTARTED, samples, name, difference)

    recorded, here, first = compared(0)
    rows = [pair for of_seed in zip(recorded, here, strict=True) for pair in zip(*of_seed, strict=True)]
    alike = sum(np.allclose(_numbers(old), _numbers(new), rtol=TOLERANCE) for old, new in rows)
    outcome = compared(min(steps))[2]
    if alike < len(rows) and first.verdict != RESTARTED:
        outcome = first
    words = f"{alike} of {len(rows)} episodes at step 0 agree within {TOLERANCE:.1%}; {outcome.reason}"
    return replace(outcome, reason=words)


def evaluation_rows(run: RunFiles, step: int) -> list[str]:
    """Return the rows of an evaluation in a run's eval.csv."""
    lines = (run.read(layout.EVAL) or b"").decode(errors="replace").splitlines()
    return [line for line in lines if line.startswith(f"{step},")]


def mean_returns(runs: Iterable[Sequence[str]]) -> np.ndarray:
    """Return the mean return of the greedy episodes of each run, given rows of eval.csv."""
    columns = ([row.split(",") for row in rows] for rows in runs)
    return np.array([np.mean([float(row[3]) for row in rows if row[1] == "greedy"]) for rows in columns])


def _numbers(row: str) -> list[float]:
    """Return what a row of eval.csv says of its episode: return, length and so on."""
    return [float(text) for text in row.split(",")[3:]]


def _compare_retrained(pairs: Sequence[tuple[Pack, RunFiles]], declared: Declared) -> Outcome:
    """Test whether the mean score of a cell is the same on this platform as on the recorded one."""
    pack, run = pairs[0]
    cell = pack.cell
    seeds = tuple(run.seed for _, run in pairs)
    declared = replace(declared, score=RETURN)  # the margin is a share of the span of returns
    samples = [_scores(root, cell, seeds, declared) for root in (cell.path.parents[2], pack.out)]
    difference = _platform_difference(pack, run)
    return compare_scores(cell, RETRAINED, samples, declared.estimator, difference)


def compare_scores(
    cell: CellFiles, grade: str, samples: Sequence[np.ndarray | None], score: str, difference: str
) -> Outcome:
    """Test whether recorded scores and those made here have the same mean: the outcome is the grade if so.

    With different rounding, the same seed gives a different run. The samples are therefore not paired.

    Args:
        cell: its task's random and reference score give the margin.
        grade: a grade in GRADES.
        samples: the recorded scores and those made here, a number per run; None where there are none.
        score: the name of the score.
        difference: how the two platforms differ.
    """
    basis = f"compared statistically, not byte by byte ({difference})"
    recorded, here = samples
    spec = cell.facts.get("spec") or {}
    span = abs(float(spec.get("reference_score", np.nan)) - float(spec.get("random_score", np.nan)))
    if recorded is None or here is None or not span > 0:
        return Outcome(cell.name, CANNOT, f"{basis}: there are no scores to compare, see `ascent check`")
    if len(recorded) < 2:
        return Outcome(cell.name, CANNOT, f"{basis}: a test needs at least two runs")
    margin = MARGIN * span
    test = equivalence(
        recorded.mean(), recorded.std(ddof=1), len(recorded),
        here.mean(), here.std(ddof=1), len(here), margin,
    )  # fmt: skip
    verdict, conclusion = {
        REPRODUCED: (grade, "the scores agree within the margin"),
        WITHIN_MARGIN: (grade, "the scores differ, within the margin"),
        DIFFERENT: (DIFFERS, "the scores differ"),
        INCONCLUSIVE: (CANNOT, "inconclusive: too few runs or too much variance"),
        UNATTAINABLE: (CANNOT, "unattainable: the variance is too large for any number of runs here"),
    }[test.verdict]
    means = f"{score} {recorded.mean():.4g} recorded, {here.mean():.4g} {grade}"
    tests = f"Welch p = {test.p_different:.2g}, equivalence within {margin:.4g} p = {test.p_equivalent:.2g}"
    text = f"{basis}: {conclusion}; {means}, n = {len(recorded)} each; {tests}"
    return Outcome(cell.name, verdict, text)


def _scores(root: Path, cell: CellFiles, seeds: tuple[int, ...], declared: Declared) -> np.ndarray | None:
    """Return the scores of a cell's runs in the folder of records `root`; None if there are none."""
    try:
        loaded = load(root, [Expected.of(cell.described(), seeds)])
    except ValueError:
        return None
    return aggregate(loaded, declared)[0].cells[0].sample

"""Verify results, at one of four depths. Each gives a grade (`grades.py`), or says why it gives none.

records  A report is rebuilt from its records and compared byte for byte. Runs are checked against the rules
         of `check`. The other depths begin with these rules, and go on with the runs that keep them.
policy   The final policies are played again, and compared with the recorded final evaluations; of a cell,
         two tables of `ascent robustness`, too; of a report, the tables of `ascent crossplay` on its tasks.
         Default for a cell and a run, and all that is done for the matrices of `ascent crossplay`.
start    The first steps of every run are trained again, at least until learning has begun, and the digests of
         the learner are compared.
whole    Every run is trained again to its end. On the same platform, all bytes must agree. On another, where
         rounding differs and learning amplifies it, the scores are compared by an equivalence test.
"""

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from ascent.records import layout
from ascent.records.declared import Declared
from ascent.records.errors import InputError, unknown
from ascent.records.store import Store
from ascent.reports.checking import bundle, folder
from ascent.reports.checking.check import check
from ascent.reports.checking.differences import compare_reports
from ascent.reports.checking.folder import CellFiles
from ascent.reports.checking.grades import IMPORTED, RECORDED
from ascent.reports.checking.origin import origins
from ascent.reports.checking.outcome import CANNOT, DIFFERS, REBUILT, Outcome
from ascent.reports.checking.replaying import replay
from ascent.reports.checking.retraining import retrain
from ascent.reports.checking.setting import Allowed
from ascent.reports.checking.tables import replay_crossplay, replay_robustness
from ascent.reports.report import rebuild
from ascent.reports.statistics import crossplay_table

DEPTHS = ("records", "policy", "start", "whole")
NOTHING = Allowed()


@dataclass(frozen=True)
class Target:
    """What to verify: a report with the folder of its records, or cells and runs."""

    name: str
    report: Path | None
    cells: tuple[CellFiles, ...]
    missing: tuple[str, ...]  # runs of the report that have no record
    runs: Path
    declared: Declared


def verify(
    target: Path,
    depth: str | None = None,
    steps: int | None = None,
    runs: Path = Path("runs"),
    allowed: Allowed = NOTHING,
) -> list[Outcome]:
    """Verify the folder of a run, a cell, a report or of `ascent crossplay`, or a bundle.

    Args:
        target: the folder or bundle.
        depth: one of DEPTHS (default: policy; for a report or a bundle: records).
        steps: how far the depth `start` trains (default: see `retraining.py`).
        runs: the folder of run records, for a report and for `ascent crossplay`.
        allowed: what may be run and installed (default: nothing but the installed code).

    Raises InputError for anything else.
    """
    if depth is not None and depth not in DEPTHS:
        raise unknown("depth", depth, DEPTHS)
    if steps is not None and (depth != "start" or steps < 0):
        raise InputError("--steps needs --depth start, and must not be negative")
    if (target / layout.CROSSPLAY).is_file():
        if depth not in (None, "policy"):
            raise InputError("matrices of `ascent crossplay` are verified at --depth policy")
        return [replay_crossplay(target / layout.CROSSPLAY, runs)]
    with _opened(target, runs) as opened:
        outcomes = [Outcome(run, CANNOT, f"has no record in {opened.runs}") for run in opened.missing]
        if opened.report is not None:
            outcomes.insert(0, _rebuild(opened, opened.report))
        depth = depth or ("policy" if opened.report is None else "records")
        outcomes += _verify_cells(
            [cell for cell in opened.cells if cell.runs], depth, steps, allowed, opened.declared
        )
        if opened.report is not None and depth == "policy":
            outcomes += _crossplay(opened)
    return sorted(outcomes, key=lambda outcome: outcome.where)


def _verify_cells(
    cells: Sequence[CellFiles], depth: str, steps: int | None, allowed: Allowed, declared: Declared
) -> list[Outcome]:
    """Check cells, and go on with the runs that keep all rules."""
    outcomes: list[Outcome] = []
    sound: list[CellFiles] = []
    doubts: dict[str, tuple[str, ...]] = {}  # by run and cell
    for cell in cells:
        failed, kept = _check(cell)
        outcomes += failed
        if kept.runs:
            sound.append(kept)
            doubts |= _doubts(kept)
    if depth == "records":
        graded = [_recorded(cell) for cell in sound]
    elif depth == "policy":
        graded = replay(sound, allowed)
        whole = [cell for cell in sound if [run.seed for run in cell.runs] == Store(cell.path).seeds()]
        graded += [outcome for cell in whole for outcome in replay_robustness(cell)]
    else:
        graded = retrain(sound, depth == "whole", steps, allowed, declared)
    for outcome in graded:
        of_cell = outcome.where.removesuffix(f"/{layout.ROBUSTNESS}")
        outcomes.append(replace(outcome, unknown=doubts.get(of_cell, ())))
    return outcomes


@contextmanager
def _opened(target: Path, runs: Path) -> Iterator[Target]:
    """Yield the `Target` at a path; a bundle is unpacked for the time being."""
    if target.is_file():
        with bundle.opened(target) as unpacked, _opened(unpacked / "report", unpacked / "runs") as opened:
            yield replace(opened, name=str(target))
    elif (target / "provenance.json").exists():
        yield _report_target(target, runs)
    else:
        paths = folder.find(target)
        if paths != [target.resolve()]:
            raise InputError(f"{target} is not a run, cell, report or bundle; it contains {len(paths)} cells")
        yield Target(str(target), None, tuple(map(folder.load, paths)), (), runs, Declared())


def _report_target(report: Path, runs: Path) -> Target:
    about = bundle.provenance(report)
    cells: list[CellFiles] = []
    missing: list[str] = []
    for expected in bundle.expected_cells(about):
        path = expected.home(runs.resolve()) / expected.folder
        cell = folder.load(path, expected.seeds) if path.is_dir() else CellFiles(path, {}, None)
        recorded = {run.seed for run in cell.runs}
        missing += [f"{cell.name}/{layout.seed_folder(seed)}" for seed in set(expected.seeds) - recorded]
        cells.append(cell)
    return Target(str(report), report, tuple(cells), tuple(missing), runs, bundle.declared(about))


def _crossplay(target: Target) -> list[Outcome]:
    """Play the tables of `ascent crossplay` on the tasks of a report again."""
    outcomes = []
    tasks = {(suite, task) for suite, task, _ in (cell.name.split("/") for cell in target.cells)}
    for name in crossplay_table.tables(target.runs, tasks):
        try:
            outcomes.append(replace(replay_crossplay(target.runs / name, target.runs), where=name))
        except InputError as error:
            outcomes.append(Outcome(name, CANNOT, str(error)))
    return outcomes


def _rebuild(target: Target, report: Path) -> Outcome:
    """Compare a report with one rebuilt from its records."""
    about = bundle.provenance(report)
    if not any(cell.runs for cell in target.cells):
        reason = f"{target.runs} has no records of its runs; give their folder with --runs"
        return Outcome(target.name, CANNOT, reason)
    with tempfile.TemporaryDirectory(prefix="ascent-verify-") as work:
        rebuilt = Path(work) / "report"
        try:
            rebuild(about, target.runs, rebuilt)
        except ValueError as error:
            reason = f"cannot be rebuilt from the records in {target.runs}: {error}"
            return Outcome(target.name, DIFFERS, reason)
        same, reason = compare_reports(report.resolve(), rebuilt, about["report"].get("made_with"))
    return Outcome(target.name, REBUILT if same else DIFFERS, reason)


def _check(cell: CellFiles) -> tuple[list[Outcome], CellFiles]:
    """Check a cell, or its only run. Return the outcomes of runs that fail, and the cell with the others."""
    broken: dict[str, list[str]] = {}
    # The folder of a cell may hold runs that a report does not name.
    only = {cell.name: [run.seed for run in cell.runs]}
    for outcome in check(cell.path, cells=only).outcomes:
        # The commit does not tell whether a record is intact: `named-commit` says what a changed tree means.
        for finding in () if outcome.rule == "clean-tree" else outcome.findings:
            if not finding.note:
                broken.setdefault(finding.where, []).append(
                    f"{outcome.rule}: {finding.where}: {finding.what}"
                )
    failed = []
    unfinished = [run for run in cell.runs if not run.finished]
    failed += [Outcome(run.name, CANNOT, "is not finished") for run in unfinished]
    of_cell = [line for where, lines in broken.items() if "/seed-" not in where for line in lines]
    if of_cell:
        return [*failed, Outcome(cell.name, DIFFERS, "\n".join(of_cell))], replace(cell, runs=[])
    faulty = [run for run in cell.finished if run.name in broken]
    failed += [Outcome(run.name, DIFFERS, "\n".join(broken[run.name])) for run in faulty]
    return failed, replace(cell, runs=[run for run in cell.finished if run not in faulty])


def _doubts(cell: CellFiles) -> dict[str, tuple[str, ...]]:
    """Say by run, and for the cell, why the origin of the sources is not known; nothing where it is."""
    doubts = {run.name: found.unknown for runs, found in origins(cell) for run in runs if found.unknown}
    return doubts | ({cell.name: tuple(dict.fromkeys(sum(doubts.values(), ())))} if doubts else {})


def _recorded(cell: CellFiles) -> Outcome:
    """Return the outcome of a cell that keeps all rules."""
    checked = cell.runs[0] if len(cell.runs) == 1 else cell
    grade = IMPORTED if cell.imported else RECORDED
    return Outcome(checked.name, grade, "passes the rules of `ascent check`")

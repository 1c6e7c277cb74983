"""Verify that results can be reproduced, at one of three depths.

records  A report is rebuilt from its records and compared byte for byte. A run or a cell is checked against
         the rules of `check`.
start    The first steps of every run are trained again, at least until learning has begun, and the digests of
         the learner are compared.
whole    Every run is trained again to its end. On the same platform, all bytes must agree. On another, where
         rounding differs and learning amplifies it, the scores are compared by an equivalence test.
"""

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from ascent.records import layout
from ascent.records.declared import RETURN, Declared
from ascent.records.errors import InputError, unknown
from ascent.records.read import Expected, load
from ascent.reports.checking import bundle, folder, rerun
from ascent.reports.checking.check import check
from ascent.reports.checking.differences import compare_reports, first_difference
from ascent.reports.checking.folder import CellFiles, RunFiles
from ascent.reports.checking.rerun import Pack
from ascent.reports.checking.setting import CannotVerify, device
from ascent.reports.report import rebuild
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.equivalence import equivalence

DEPTHS = ("records", "start", "whole")
VERIFIED, DIFFERS, CANNOT = "verified", "DIFFERS", "cannot be verified"
STYLES = {VERIFIED: "green", DIFFERS: "bold red", CANNOT: "yellow"}
MARGIN = 0.1  # of equivalence on another platform, as a share of reference score minus random score


@dataclass(frozen=True)
class Outcome:
    """The verdict on a report, a cell or a run, with the reason."""

    where: str
    verdict: str
    reason: str


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
    depth: str = "records",
    steps: int | None = None,
    runs: Path = Path("runs"),
    install: bool = False,
) -> list[Outcome]:
    """Verify the folder of a run, a cell or a report, or a bundle.

    Args:
        target: the folder or bundle.
        depth: one of DEPTHS.
        steps: how far the depth `start` trains; default: see `_target_step`.
        runs: the folder of run records, for a report.
        install: create environments with the recorded packages where needed.

    Raises InputError for anything else.
    """
    if depth not in DEPTHS:
        raise unknown("depth", depth, DEPTHS)
    if steps is not None and (depth != "start" or steps < 0):
        raise InputError("--steps needs --depth start, and must not be negative")
    with _opened(target, runs) as opened:
        if depth != "records":
            return _retrain(opened, depth, steps, install)
        if opened.report is not None:
            return [_rebuild(opened, opened.report)]
        return [_check(cell) for cell in opened.cells]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """Return 1 if anything differs, else 2 if anything cannot be verified, else 0."""
    verdicts = {outcome.verdict for outcome in outcomes}
    if DIFFERS in verdicts:
        return 1
    return 2 if CANNOT in verdicts or not verdicts else 0


def render(outcomes: Sequence[Outcome]) -> Text:
    """Return the outcomes as text, each with its reason, followed by their counts."""
    text = Text()
    for outcome in outcomes:
        text.append(outcome.verdict, STYLES[outcome.verdict])
        text.append(f"  {outcome.where}\n")
        text.append("".join(f"    {line}\n" for line in outcome.reason.splitlines()))
    counts = Counter(outcome.verdict for outcome in outcomes)
    return text.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict]))


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
        path = runs.resolve() / expected.folder
        cell = folder.load(path) if path.is_dir() else CellFiles(path, {}, None)
        recorded = {run.seed for run in cell.runs}
        missing += [f"{cell.name}/{layout.seed_folder(seed)}" for seed in set(expected.seeds) - recorded]
        cells.append(replace(cell, runs=[run for run in cell.runs if run.seed in expected.seeds]))
    return Target(str(report), report, tuple(cells), tuple(missing), runs, bundle.declared(about))


# ---- depth records


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
        same, reason = compare_reports(report, rebuilt, about["report"].get("made_with"))
    return Outcome(target.name, VERIFIED if same else DIFFERS, reason)


def _check(cell: CellFiles) -> Outcome:
    """Check a cell, or its only run, against the rules of `check`."""
    checked = cell.runs[0] if len(cell.runs) == 1 else cell
    outcomes = {outcome.rule: outcome for outcome in check(checked.path)}
    # The commit does not tell whether a record is intact: the sources that ran are part of the record.
    clean_tree = outcomes.pop("clean-tree")
    failures = [
        f"{outcome.rule}: {finding.where}: {finding.what}"
        for outcome in outcomes.values()
        for finding in outcome.findings
        if not finding.note
    ]
    if failures:
        return Outcome(checked.name, DIFFERS, "\n".join(failures))
    note = "" if clean_tree.passed else ", but was made from uncommitted changes or an unknown commit"
    return Outcome(checked.name, VERIFIED, f"passes the rules of `ascent check`{note}")


# ---- depths start and whole


def _retrain(target: Target, depth: str, steps: int | None, install: bool) -> list[Outcome]:
    """Train the runs of a target again, and compare them with their records."""
    outcomes = [Outcome(run, CANNOT, f"has no record in {target.runs}") for run in target.missing]
    packs: list[Pack] = []
    with tempfile.TemporaryDirectory(prefix="ascent-verify-") as work:
        for cell in (cell for cell in target.cells if cell.runs):
            unfinished = [run for run in cell.runs if not run.finished]
            outcomes += [Outcome(run.name, CANNOT, "is not finished") for run in unfinished]
            try:
                packs += rerun.packs(cell, cell.finished, _target_step(depth, steps), Path(work), install)
            except CannotVerify as error:
                outcomes.append(Outcome(cell.name, CANNOT, str(error)))
        failed = _train(packs)
        for number, reason in failed.items():
            reason = f"training failed: {reason}"
            outcomes += [Outcome(run.name, CANNOT, reason) for run in packs[number].runs]
        other_platform: dict[str, list[tuple[Pack, RunFiles]]] = {}
        for pack in (pack for number, pack in enumerate(packs) if number not in failed):
            for run in pack.runs:
                if depth == "whole" and _platform_difference(pack, run):
                    other_platform.setdefault(pack.cell.name, []).append((pack, run))
                else:
                    outcomes.append(_compare_run(pack, run, depth))
        outcomes += [_compare_scores(pairs, target.declared) for pairs in other_platform.values()]
    return sorted(outcomes, key=lambda outcome: outcome.where)


def _train(packs: Sequence[Pack]) -> dict[int, str]:
    """Train packs with a progress bar. Return the reasons of failures by the pack's index."""
    total = sum(pack.until * len(pack.runs) for pack in packs)
    console = Console(stderr=True)
    for note in dict.fromkeys(f"{pack.cell.name} {note}" for pack in packs for note in pack.setting.notes):
        console.print(note, soft_wrap=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(f"training {sum(len(pack.runs) for pack in packs)} runs again", total=total)
        return rerun.train(packs, lambda steps: progress.update(bar, completed=min(steps, total)))


def _target_step(depth: str, steps: int | None) -> Callable[[CellFiles], int]:
    """Return a function that tells how far to train a cell.

    By default, the depth `start` ends at the second evaluation after step 0, or at the first one after
    learning has begun, if that is later: before, the hyperparameters of learning have no effect.
    """

    def step(cell: CellFiles) -> int:
        points = cell.evaluation_steps()
        if steps is not None:
            return min(steps, points[-1])
        if depth == "whole":
            return points[-1]
        ladders = (run.read(layout.LADDER) or b"" for run in cell.finished)
        updates = [int(step) for ladder in ladders for step in re.findall(rb"\n(\d+),first update,", ladder)]
        learning = next((point for point in points if updates and point >= max(updates)), 0)
        return max(points[min(2, len(points) - 1)], learning)

    return step


def _platform_difference(pack: Pack, run: RunFiles) -> str:
    """Say how this machine differs from the recorded one, so that bytes may differ too; "" if it does not."""
    retrained = RunFiles(pack.folder(run), run.seed)
    if platforms := run.about.get("mixed_platforms"):
        return f"the run was trained on several platforms: {', '.join(platforms)}"
    for recorded, current in (
        (_platform_key(run), _platform_key(retrained)),
        (device(run), device(retrained)),
    ):
        if recorded != current:
            return f"recorded on {recorded}, this machine is {current}"
    return ""


def _platform_key(run: RunFiles) -> str:
    return str((run.about.get("platform") or {}).get("key"))


def _compare_run(pack: Pack, run: RunFiles, depth: str) -> Outcome:
    """Compare a run with its retrained copy: all bytes at depth `whole`, else the rows up to a step."""
    retrained = RunFiles(pack.folder(run), run.seed)
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
        recorded_rows, retrained_rows = (_rows(files.read(file), step) for files in (run, retrained))
        if difference := first_difference(file, recorded_rows, retrained_rows):
            differences.append(difference)
    names = [name for name in (*layout.RESULT_FILES, layout.RESULT) if run.read(name) is not None]
    if depth == "whole":
        described = {difference.partition(" ")[0] for difference in differences}
        unlike = [name for name in names if run.read(name) != retrained.read(name)]
        differences += [f"{name} differs" for name in unlike if name not in described]
    notes = "".join(f"; {note}" for note in pack.setting.notes)
    if not differences and depth == "whole":
        return Outcome(run.name, VERIFIED, f"all {len(names)} result files have the same bytes{notes}")
    if not differences:
        last = pack.cell.evaluation_steps()[-1]
        rows = f"all {len(ladder_rows) - 1} rows of {layout.LADDER}"
        return Outcome(run.name, VERIFIED, f"{rows} agree up to step {step:,} of {last:,}{notes}")
    if platform := _platform_difference(pack, run):
        return Outcome(
            run.name,
            CANNOT,
            f"{platform}: results differ, as they may across platforms: {differences[0]}{notes}",
        )
    return Outcome(run.name, DIFFERS, "\n".join(differences) + notes)


def _rows(data: bytes | None, step: int) -> list[str]:
    """Return the header of a table and its rows up to a step. Malformed rows are kept, so that they show."""
    head, *rows = (data or b"").decode(errors="replace").split("\n")
    numbered = ((row.partition(",")[0], row) for row in rows if row)
    kept = [row for number, row in numbered if not number.isdecimal() or int(number) <= step]
    return [head, *kept] if kept else []  # metrics.csv has its header only with the first row


def _compare_scores(pairs: Sequence[tuple[Pack, RunFiles]], declared: Declared) -> Outcome:
    """Test whether the mean score of a cell is the same on this platform as on the recorded one.

    With different rounding, the same seed gives a different run. The samples are therefore not paired.
    """
    pack, run = pairs[0]
    cell = pack.cell
    basis = f"compared statistically, not byte by byte ({_platform_difference(pack, run)})"
    seeds = tuple(run.seed for _, run in pairs)
    declared = replace(declared, score=RETURN)  # the margin is a share of the span of returns
    if len(seeds) < 2:
        return Outcome(cell.name, CANNOT, f"{basis}: a test needs at least two runs")
    recorded, retrained = (_scores(root, cell, seeds, declared) for root in (cell.path.parents[2], pack.out))
    spec = cell.facts.get("spec") or {}
    span = abs(float(spec.get("reference_score", np.nan)) - float(spec.get("random_score", np.nan)))
    if recorded is None or retrained is None or not span > 0:
        return Outcome(cell.name, CANNOT, f"{basis}: there are no scores to compare, see `ascent check`")
    margin = MARGIN * span
    test = equivalence(
        recorded.mean(), recorded.std(ddof=1), len(recorded),
        retrained.mean(), retrained.std(ddof=1), len(retrained), margin,
    )  # fmt: skip
    verdict, conclusion = {
        "reproduced": (VERIFIED, "the scores agree within the margin"),
        "different": (DIFFERS, "the scores differ"),
        "inconclusive": (CANNOT, "inconclusive: too few runs or too much variance"),
    }[test.verdict]
    means = f"{declared.estimator} {recorded.mean():.4g} recorded, {retrained.mean():.4g} retrained"
    tests = f"Welch p = {test.p_different:.2g}, equivalence within {margin:.4g} p = {test.p_equivalent:.2g}"
    return Outcome(cell.name, verdict, f"{basis}: {conclusion}; {means}, n = {len(seeds)} each; {tests}")


def _scores(root: Path, cell: CellFiles, seeds: tuple[int, ...], declared: Declared) -> np.ndarray | None:
    """Return the scores of a cell's runs in the folder of records `root`; None if there are none."""
    try:
        loaded = load(root, [Expected.of(cell.described(), seeds)])
    except ValueError:
        return None
    return aggregate(loaded, declared)[0].cells[0].sample

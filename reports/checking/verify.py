"""Verify: whether a result comes out again. Three depths:

records  a report is made again from its records and compared byte for byte; a run or a cell is held to the
         rules of `check`
start    every run is trained again for some steps, at least into its learning, and the digests of the learner
         are compared
whole    every run is trained again to the end: the same bytes on the same platform, a test of the scores on
         another, where rounding differs and learning amplifies it
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

from ascent.records.declared import Declared
from ascent.records.errors import InputError, unknown
from ascent.records.read import Expected, load
from ascent.reports.checking import bundle, folder, rerun
from ascent.reports.checking.check import check
from ascent.reports.checking.differences import compare_reports, first_difference
from ascent.reports.checking.folder import RESULTS, CellFiles, RunFiles
from ascent.reports.checking.rerun import Pack
from ascent.reports.checking.setting import CannotVerify, device
from ascent.reports.report import rebuild
from ascent.reports.statistics.aggregate import aggregate
from ascent.reports.statistics.stats import equivalence

DEPTHS = ("records", "start", "whole")
VERIFIED, DIFFERS, CANNOT = "verified", "DIFFERS", "cannot be verified"
STYLES = {VERIFIED: "green", DIFFERS: "bold red", CANNOT: "yellow"}
MARGIN = 0.1  # of the span from random to reference score: what counts as the same on another platform


@dataclass(frozen=True)
class Outcome:
    """What came out for a report, a cell or a run, and why."""

    where: str
    verdict: str
    why: str


@dataclass(frozen=True)
class Target:
    """What is to be verified: a report with the folder of its records, or cells and runs."""

    name: str
    report: Path | None
    cells: tuple[CellFiles, ...]
    missing: tuple[str, ...]  # runs that the report names and that have no record
    runs: Path
    declared: Declared


def verify(
    target: Path,
    depth: str = "records",
    steps: int | None = None,
    runs: Path = Path("runs"),
    install: bool = False,
) -> list[Outcome]:
    """The outcomes for a run's folder, a cell's, a report's (whose records are below `runs`) or a bundle.

    `steps` is how far the depth `start` goes; `install` makes environments with the recorded packages. Raises
    InputError for what is none of these.
    """
    if depth not in DEPTHS:
        raise unknown("depth", depth, DEPTHS)
    if steps is not None and (depth != "start" or steps < 0):
        raise InputError("steps: belongs to the depth start, and is at least 0")
    with _found(target, runs) as found:
        if depth != "records":
            return _again(found, depth, steps, install)
        if found.report is None:
            return [_checked(cell) for cell in found.cells]
        return [_rebuilt(found)]


def exit_code(outcomes: Sequence[Outcome]) -> int:
    """1 if anything differs, else 2 if anything cannot be verified, else 0."""
    verdicts = {outcome.verdict for outcome in outcomes}
    return 1 if DIFFERS in verdicts else 2 if CANNOT in verdicts or not verdicts else 0


def render(outcomes: Sequence[Outcome]) -> Text:
    """A line for each outcome with what there is to say of it, and the counts."""
    text = Text()
    for outcome in outcomes:
        text.append(outcome.verdict, STYLES[outcome.verdict])
        text.append(f"  {outcome.where}\n")
        text.append("".join(f"    {line}\n" for line in outcome.why.splitlines()))
    counts = Counter(outcome.verdict for outcome in outcomes)
    return text.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict]))


@contextmanager
def _found(target: Path, runs: Path) -> Iterator[Target]:
    """The `Target` that a path means, unpacked if it is a bundle."""
    if target.is_file():
        with bundle.opened(target) as unpacked, _found(unpacked / "report", unpacked / "runs") as found:
            yield replace(found, name=str(target))
    elif (target / "provenance.json").exists():
        about = bundle.provenance(target)
        cells, missing = [], []
        for cell in bundle.wanted(about):
            path = runs.resolve() / cell.folder
            found = folder.load(path) if path.is_dir() else CellFiles(path, {}, None)
            missing += [f"{found.name}/seed-{s}" for s in set(cell.seeds) - {run.seed for run in found.runs}]
            cells.append(replace(found, runs=[run for run in found.runs if run.seed in cell.seeds]))
        yield Target(str(target), target, tuple(cells), tuple(missing), runs, bundle.declared(about))
    else:
        paths = folder.find(target)
        if paths != [target.resolve()]:
            raise InputError(f"{target} is no run, cell, report or bundle; it holds {len(paths)} cells")
        yield Target(str(target), None, tuple(map(folder.load, paths)), (), runs, Declared())


# ---- records


def _rebuilt(found: Target) -> Outcome:
    about = bundle.provenance(found.report)
    if not any(cell.runs for cell in found.cells):
        return Outcome(
            found.name, CANNOT, f"no record of its runs is in {found.runs}: --runs says where they are"
        )
    with tempfile.TemporaryDirectory(prefix="ascent-verify-") as work:
        again = Path(work) / "report"
        try:
            rebuild(about, found.runs, again)
        except ValueError as error:
            return Outcome(found.name, DIFFERS, f"cannot be made from the records in {found.runs}: {error}")
        same, why = compare_reports(found.report, again, about["report"].get("made_with"))
    return Outcome(found.name, VERIFIED if same else DIFFERS, why)


def _checked(cell: CellFiles) -> Outcome:
    """A cell's or a run's outcome by the rules of `check`."""
    one = cell.runs[0].path if len(cell.runs) == 1 else cell.path
    outcomes = check(one)
    where = cell.runs[0].name if one != cell.path else cell.name
    # From which commit a record was made says nothing on whether it is whole: its sources are in it.
    failed = [outcome for outcome in outcomes if not outcome.passed and outcome.rule != "clean-tree"]
    if not failed:
        dirty = next(outcome for outcome in outcomes if outcome.rule == "clean-tree")
        note = "" if dirty.passed else ", but was made from a changed tree or an unknown commit"
        return Outcome(where, VERIFIED, f"keeps the rules of `ascent check`{note}")
    findings = [(o.rule, f) for o in failed for f in o.findings if not f.note]
    return Outcome(where, DIFFERS, "\n".join(f"{rule}: {f.where}: {f.what}" for rule, f in findings))


# ---- trained again


def _again(found: Target, depth: str, steps: int | None, install: bool) -> list[Outcome]:
    outcomes = [Outcome(run, CANNOT, f"there is no record of it in {found.runs}") for run in found.missing]
    packs: list[Pack] = []
    with tempfile.TemporaryDirectory(prefix="ascent-verify-") as work:
        for cell in (cell for cell in found.cells if cell.runs):
            missing = [run for run in cell.runs if not run.finished]
            outcomes += [Outcome(run.name, CANNOT, "is not finished") for run in missing]
            try:
                packs += rerun.packs(cell, cell.finished, _until(depth, steps), Path(work), install)
            except CannotVerify as error:
                outcomes.append(Outcome(cell.name, CANNOT, str(error)))
        total = sum(pack.until * len(pack.runs) for pack in packs)
        console = Console(stderr=True)
        for note in dict.fromkeys(f"{pack.cell.name} {n}" for pack in packs for n in pack.setting.notes):
            console.print(note, soft_wrap=True)
        with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
            bar = progress.add_task(f"{sum(len(pack.runs) for pack in packs)} runs again", total=total)
            failed = rerun.train(packs, lambda done: progress.update(bar, completed=min(done, total)))
        for place, why in failed.items():
            outcomes += [Outcome(run.name, CANNOT, f"does not run: {why}") for run in packs[place].runs]
        elsewhere: dict[str, list[tuple[Pack, RunFiles]]] = {}
        for pack in (pack for place, pack in enumerate(packs) if place not in failed):
            for run in pack.runs:
                if depth == "whole" and _unlike(pack, run):
                    elsewhere.setdefault(pack.cell.name, []).append((pack, run))
                else:
                    outcomes.append(_compared(pack, run, depth))
        outcomes += [_tested(pairs, found.declared) for pairs in elsewhere.values()]
    return sorted(outcomes, key=lambda outcome: outcome.where)


def _until(depth: str, steps: int | None) -> Callable[[CellFiles], int]:
    """How far to train a cell. `start` goes to the second evaluation after step 0, or to the first one after
    learning has begun if that is later: before it no setting of the learner shows.
    """

    def step(cell: CellFiles) -> int:
        points = cell.evaluation_steps()
        if depth == "whole" or steps is not None:
            return points[-1] if steps is None else min(steps, points[-1])
        ladders = (run.read("ladder.csv") or b"" for run in cell.finished)
        updates = [int(step) for ladder in ladders for step in re.findall(rb"\n(\d+),first update,", ladder)]
        begun = next((point for point in points if updates and point >= max(updates)), 0)
        return max(points[min(2, len(points) - 1)], begun)

    return step


def _unlike(pack: Pack, run: RunFiles) -> str:
    """In what this machine is not that of the record, so that bytes need not come again; "" if it is."""
    now = RunFiles(pack.folder(run), run.seed)
    if moved := run.about.get("mixed_platforms"):
        return f"the run was moved between {', '.join(moved)}"
    for was, here in ((_key(run), _key(now)), (device(run), device(now))):
        if was != here:
            return f"recorded on {was}, this is {here}"
    return ""


def _key(run: RunFiles) -> str:
    return str((run.about.get("platform") or {}).get("key"))


def _compared(pack: Pack, run: RunFiles, depth: str) -> Outcome:
    """A run's files against those that have come again: the rows up to a step, or all bytes."""
    now = RunFiles(pack.folder(run), run.seed)
    if now.about.get("source_digest") != run.about.get("source_digest"):
        return Outcome(run.name, CANNOT, "other sources ran than those recorded")  # never seen
    step = rerun.evaluated(now.path, pack.until)
    files = ("ladder.csv", *(name for name in RESULTS[:4] if name != "ladder.csv"))
    rows, differences = 0, []
    for file in files:
        old, new = (_rows(one.read(file), step) for one in (run, now))
        rows += len(new) if file == "ladder.csv" else 0
        if found := first_difference(file, old, new):
            differences.append(found)
    if depth == "whole":
        unlike = [name for name in (*RESULTS, "result.json") if run.read(name) != now.read(name)]
        named = {found.partition(" ")[0] for found in differences}
        differences += [f"{name} has other bytes" for name in unlike if name not in named]
    notes = "".join(f"; {note}" for note in pack.setting.notes)
    if not differences and depth == "whole":
        return Outcome(run.name, VERIFIED, f"all {len(RESULTS) + 1} result files have the same bytes{notes}")
    if not differences:
        last = pack.cell.evaluation_steps()[-1]
        why = f"all {rows - 1} rows of ladder.csv agree up to step {step:,} of {last:,}{notes}"
        return Outcome(run.name, VERIFIED, why)
    if unlike := _unlike(pack, run):
        why = f"{unlike}: the learner need not come out the same, and does not; {differences[0]}{notes}"
        return Outcome(run.name, CANNOT, why)
    return Outcome(run.name, DIFFERS, "\n".join(differences) + notes)


def _rows(data: bytes | None, step: int) -> list[str]:
    """The header and the rows up to a step; what is no row is kept, and so is never overlooked."""
    head, *rows = (data or b"").decode(errors="replace").split("\n")
    numbered = ((row.partition(",")[0], row) for row in rows if row)
    kept = [row for number, row in numbered if not number.isdecimal() or int(number) <= step]
    return [head, *kept] if kept else []  # metrics.csv has its header only with the first row


def _tested(pairs: Sequence[tuple[Pack, RunFiles]], declared: Declared) -> Outcome:
    """A cell whose bytes need not come again: are the scores the same, on average over seeds?

    Rounding that differs makes another run of the same seed, so runs are not paired.
    """
    pack, run = pairs[0]
    cell, unlike = pack.cell, f"compared by a statistical test, not by bytes, as {_unlike(pack, run)}"
    seeds = tuple(run.seed for _, run in pairs)
    if len(seeds) < 2:
        return Outcome(cell.name, CANNOT, f"{unlike}; with one run nothing statistical can be said")
    was, now = (_scores(root, cell, seeds, declared) for root in (cell.path.parents[2], pack.out))
    spec = cell.facts.get("spec") or {}
    span = abs(float(spec.get("reference_score", np.nan)) - float(spec.get("random_score", np.nan)))
    if was is None or now is None or not span > 0:
        return Outcome(cell.name, CANNOT, f"{unlike}; there are no scores to compare, see `ascent check`")
    means = f"{declared.estimator} {was.mean():.4g} recorded, {now.mean():.4g} again, n = {len(seeds)} each"
    moments = [(scores.mean(), scores.std(ddof=1), len(scores)) for scores in (was, now)]
    test = equivalence(*moments[0], *moments[1], margin := MARGIN * span)
    means += (
        f"; Welch p = {test.p_different:.2g}, equivalence within {margin:.4g} p = {test.p_equivalent:.2g}"
    )
    verdict, word = {
        "reproduced": (VERIFIED, "the same within the margin"),
        "different": (DIFFERS, "the scores differ"),
        "inconclusive": (CANNOT, "too few runs or too much spread to tell"),
    }[test.verdict]
    return Outcome(cell.name, verdict, f"{unlike}: {word}; {means}")


def _scores(root: Path, cell: CellFiles, seeds: tuple[int, ...], declared: Declared) -> np.ndarray | None:
    c = cell.cell
    try:
        loaded = load(root, [Expected(c.suite, c.task, c.system, c.preset, c.digest, seeds)])
    except ValueError:
        return None
    return aggregate(loaded, declared)[0].cells[0].sample

"""Check a folder of records against named rules, before it is reported or contributed.

Each rule is a function that yields its violations. Rules read files only and train nothing: `verify` tells
whether results can be reproduced. Nothing in this module needs torch.
"""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ascent.records import files, layout, ledger, shelf, sums
from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.errors import DamagedFile, InputError, one_line
from ascent.records.plan import Planned
from ascent.records.read import DIVERGED, DONE
from ascent.records.store import Store
from ascent.reports.checking import folder, identity, origin, protocol, strangers
from ascent.reports.checking.folder import CellFiles
from ascent.reports.checking.grades import IMPORTED, NO_GRADE, RECORDED, grade
from ascent.reports.checking.protocol import Finding
from ascent.reports.statistics import crossplay_table, perturbed

MANY = 50  # cells from which on a process per core pays
CROSSPLAYS = f"*/*/{layout.CROSSPLAY}"  # pattern of the tables below a folder of records
MAX_SHOWN = 10  # findings per rule in the table
UNIQUE = (layout.LADDER, layout.POLICY, layout.METRICS)  # differ between any two seeds


@dataclass
class Outcome:
    """The findings of one rule. It passes if all of them are notes."""

    rule: str
    description: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(finding.note for finding in self.findings)


@dataclass(frozen=True)
class CellFingerprint:
    """The part of a cell that rules across cells need. `digests` maps seed -> file -> sha256."""

    name: str
    digest: str
    title: tuple[str, ...]  # suite, task, system, preset
    seeds: tuple[int, ...]
    digests: dict[int, dict[str, str]]
    configuration: str  # the same for cells that differ in the budget alone
    plans: frozenset[str] = frozenset()  # of the ledger, that have the cell


@dataclass(frozen=True)
class Checked:
    """The outcome of every rule, and the grade of every cell: NO_GRADE if it breaks a rule."""

    outcomes: list[Outcome]
    grades: dict[str, str]


def check(
    target: Path,
    declared: Sequence[Planned] | None = None,
    tell: Callable[[int, int], None] = lambda done, cells: None,
    cells: Mapping[str, Collection[int]] | None = None,
) -> Checked:
    """Apply every rule to the folder of some records, of a cell or of a run.

    Args:
        target: the folder.
        declared: the plan of a sweep, whose cells and seeds must be present. Those of other plans in the
            ledger are set aside: whatever is wrong with them is no fault of this sweep.
        tell: called after each cell with the number of cells that are done, and of all.
        cells: check only these cells and seeds, by suite/task/cell (default: all in the folder).

    Raises:
        InputError: a folder without records.
    """
    paths = folder.find(target)
    aside: list[Finding] = []
    if declared is not None and cells is None:
        cells, aside = strangers.set_aside(paths, declared)
    if cells is not None:
        paths = [path for path in paths if folder.cell_name(path) in cells]
    rules: list[Callable] = [*CELL_RULES, *ALL_RULES]
    outcomes = [Outcome(name(rule), _description(rule)) for rule in rules]
    homes = {folder.runs_of(path) for path in paths}
    started = {runs: ledger.started(runs) for runs in homes}
    declared_by = {runs: ledger.plans_by_cell(runs) for runs in homes}
    jobs = [
        (path, tuple(started[folder.runs_of(path)].get(name, ())), None if cells is None else cells[name])
        for path in paths
        for name in [folder.cell_name(path)]
    ]
    summaries = []
    grades = {}
    for number, (findings, summary, word) in enumerate(_checked(jobs), 1):
        for outcome, found in zip(outcomes, findings, strict=False):
            outcome.findings += found
        plans = declared_by[folder.runs_of(paths[number - 1])].get(summary.name, ())
        summaries.append(replace(summary, plans=frozenset(plans)))
        grades[summary.name] = word
        tell(number, len(paths))
    for rule_across, outcome in zip(ALL_RULES, outcomes[len(CELL_RULES) :], strict=True):
        outcome.findings += rule_across(summaries, declared)
        outcome.findings += aside if rule_across is as_declared else []
    if cells is None and any(target.glob(CROSSPLAYS)):
        played = Outcome(name(crossplay_tables), _description(crossplay_tables))
        played.findings += crossplay_tables(target)
        outcomes.append(played)
    if (target / shelf.FILE).exists():
        of_shelf = Outcome(name(shelf_checksums), _description(shelf_checksums))
        of_shelf.findings += shelf_checksums(target)
        outcomes.append(of_shelf)
    for finding in (finding for outcome in outcomes for finding in outcome.findings if not finding.note):
        cell_name = "/".join(finding.where.split("/")[:3])
        if cell_name in grades:
            grades[cell_name] = NO_GRADE
    return Checked(outcomes, grades)


_CellOutcome = tuple[list[list[Finding]], CellFingerprint, str]  # findings by rule, and the grade


# The folder of a cell, the seeds that were started by the ledger, and those to check (None: all).
_Job = tuple[Path, tuple[int, ...], Collection[int] | None]


def _checked(jobs: Sequence[_Job]) -> Iterator[_CellOutcome]:
    """Apply the rules of a cell to all cells: to many on all cores."""
    if len(jobs) < MANY:
        yield from map(_check_cell, jobs)
        return
    cores = len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_check_cell, jobs, chunksize=8)


def _check_cell(job: _Job) -> _CellOutcome:
    path, started, seeds = job
    cell = folder.load(path, seeds)
    cell.started = started
    folder.parse_tables(cell)
    findings = [list(apply(rule, cell)) for rule in CELL_RULES]
    return findings, _fingerprint(cell), _grade(cell)


def _grade(cell: CellFiles) -> str:
    """Return the grade of a cell that keeps all rules."""
    if cell.imported:
        return IMPORTED
    try:
        unknown = [reason for _, found in origin.origins(cell) for reason in found.unknown]
    except _HOSTILE:
        return NO_GRADE
    return grade(RECORDED, unknown)


# What reading a value of any type, or parsing any text as a module, may raise.
_HOSTILE = (
    TypeError, ValueError, LookupError, AttributeError, ArithmeticError,
    SyntaxError, RecursionError, MemoryError,
)  # fmt: skip


def apply(rule: Callable[[CellFiles], Iterator[Finding]], cell: CellFiles) -> Iterator[Finding]:
    """Yield the findings of a rule. A forged record may hold values of any type: errors are findings too."""
    try:
        yield from rule(cell)
    except DamagedFile as error:
        yield Finding(cell.name, str(error))
    except _HOSTILE as error:
        yield Finding(
            cell.name, f"a record contains a value that this rule cannot read: {folder.readable(error)}"
        )


def name(rule: Callable) -> str:
    """Return the name of a rule as users see it."""
    return rule.__name__.replace("_", "-")


def _description(rule: Callable) -> str:
    return (rule.__doc__ or "").partition("\n")[0]


def passed(outcomes: Iterable[Outcome]) -> bool:
    """Return whether every rule passes."""
    return all(outcome.passed for outcome in outcomes)


def summary(checked: Checked) -> list[str]:
    """Return the counts of the grades, and a line for every rule that is broken, for other commands."""
    lines = [f"check: {_grades(checked)}"]
    for outcome in checked.outcomes:
        faults = [finding for finding in outcome.findings if not finding.note]
        if faults:
            more = f", and {len(faults) - 1} more: see `ascent check`" if len(faults) > 1 else ""
            first = one_line(f"{faults[0].where}: {faults[0].what}")
            lines.append(f"check: FAIL {outcome.rule}: {first}{more}")
    return lines


def _grades(checked: Checked) -> str:
    counts = Counter(checked.grades.values())
    return "; ".join(f"{n} {'cell' if n == 1 else 'cells'} {grade}" for grade, n in sorted(counts.items()))


def refuse(target: Path, seeds: Collection[int] | None = None) -> None:
    """Raise InputError with the first rule that a cell breaks, or the runs of its `seeds` (default: all)."""
    cells = None if seeds is None else {folder.cell_name(target.resolve()): seeds}
    for outcome in check(target, cells=cells).outcomes:
        for finding in outcome.findings:
            if not finding.note:
                raise InputError(f"{finding.where}: {finding.what} (rule {outcome.rule} of `ascent check`)")


def render(checked: Checked) -> Group:
    """Return a table of the rules (pass or FAIL, description, findings) and the counts of the grades."""
    table = Table("rule", "", "description and findings", box=None, pad_edge=False)
    for outcome in checked.outcomes:
        lines = [outcome.description]
        for finding in outcome.findings[:MAX_SHOWN]:
            lines.append(one_line(f"  {'note: ' if finding.note else ''}{finding.where}: {finding.what}"))
        if len(outcome.findings) > MAX_SHOWN:
            lines.append(f"  and {len(outcome.findings) - MAX_SHOWN} more")
        word = Text("pass", "green") if outcome.passed else Text("FAIL", "bold red")
        table.add_row(outcome.rule, word, Text("\n".join(lines)))
    return Group(table, Text(f"\ngrades: {_grades(checked)}"))


def _fingerprint(cell: CellFiles) -> CellFingerprint:
    digests = {}
    for run in cell.runs:
        names: tuple[str, ...] = UNIQUE
        if cell.imported:
            names = (layout.EVAL,)
        elif run.result.get("status") == DIVERGED:
            names = (layout.LADDER,)  # the other files may hold nothing but NaN
        files = ((file, run.contents.get(file, b"")) for file in names)
        digests[run.seed] = {file: sha256(data).hexdigest() for file, data in files if data.count(b"\n") > 1}
    title = tuple(str(cell.facts.get(key)) for key in ("suite", "task", "system", "preset"))
    seeds = tuple(run.seed for run in cell.runs)
    digest = str(cell.facts.get("digest"))
    return CellFingerprint(cell.name, digest, title, seeds, digests, cell.configuration)


def unique_seeds(cells: Sequence[CellFingerprint], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """No run appears twice under different seeds."""
    owners: dict[tuple[str, str], tuple[str, int]] = {}
    for cell in cells:
        for seed, digests in cell.digests.items():
            first_owners = {owners.setdefault(item, (cell.name, seed)) for item in digests.items()}
            for other_cell, other_seed in sorted(first_owners):
                if other_seed != seed:
                    where = f"{cell.name}/{layout.seed_folder(seed)}"
                    yield Finding(where, f"is a copy of {other_cell}/{layout.seed_folder(other_seed)}")


def one_configuration(
    cells: Sequence[CellFingerprint], declared: Sequence[Planned] | None
) -> Iterator[Finding]:
    """Cells of a task with one system and preset differ in the budget alone, or one plan has all.

    Tuning runs may differ in more. A report compares cells of one budget only.
    """
    names: dict[tuple[str, ...], list[CellFingerprint]] = {}
    for cell in _reported(cells):
        names.setdefault(cell.title, []).append(cell)
    planned = {plan.cell.digest for plan in declared or ()}
    for title, alike in names.items():
        if len(alike) > 1:
            digests = [cell.digest for cell in alike]
            one = len({cell.configuration for cell in alike}) == 1
            kind = "budgets of one configuration" if one else "configurations"
            what = f"{len(alike)} {kind} share this name: {', '.join(digests)}"
            note = planned >= set(digests) or bool(frozenset.intersection(*(cell.plans for cell in alike)))
            note |= one or all(cell.seeds and min(cell.seeds) >= FIRST_TUNING_SEED for cell in alike)
            yield Finding("/".join(title[:2]) + f" {title[2]}-{title[3]}", what, note)


def shelf_checksums(folder: Path) -> Iterator[Finding]:
    """The files of a shelf are those in its SHA256SUMS, and have these checksums."""
    expected = sums.of_folder(folder)
    try:
        recorded = files.read(folder / sums.SUMS).decode()
    except (OSError, ValueError, DamagedFile) as error:
        yield Finding(folder.name, f"{sums.SUMS} cannot be read: {error}")
        return
    if recorded == expected:
        return
    before, now = ({line[66:]: line for line in text.splitlines()} for text in (recorded, expected))
    differ = sorted(file for file in before.keys() | now.keys() if before.get(file) != now.get(file))
    for file in differ or [sums.SUMS]:
        what = f"is not what {sums.SUMS} says" if file in before else f"is not listed in {sums.SUMS}"
        yield Finding(f"{folder.name}/{file}", what if file in now else "is missing")


def crossplay_tables(runs: Path) -> Iterator[Finding]:
    """The tables of `ascent crossplay` were made with the final policies of these runs."""
    for path in sorted(runs.glob(CROSSPLAYS)):
        where = path.relative_to(runs).as_posix()
        cells = [file.parent for file in path.parent.glob(f"*/{layout.CELL}")]
        policies = {layout.digest_of(cell): _policies(cell) for cell in cells}
        try:
            crossplay_table.checked(files.read(path, crossplay_table.MOST_BYTES), path.parent.name, policies)
        except (OSError, ValueError, DamagedFile) as error:
            yield Finding(where, str(error))


def _policies(cell: Path) -> dict[int, str]:
    """Return the names of a cell's final policies in tables, by seed; none where a result is damaged."""
    store = Store(cell)
    try:
        results = {seed: store.json(seed, layout.RESULT) for seed in store.finished()}
    except (OSError, DamagedFile):  # other rules say so
        return {}
    return {seed: perturbed.policy(result) for seed, result in results.items() if result["status"] == DONE}


def _reported(cells: Sequence[CellFingerprint]) -> list[CellFingerprint]:
    """Return the cells that a report of the folder has: not those with tuning seeds only beside others."""
    reported = [cell for cell in cells if not cell.seeds or min(cell.seeds) < FIRST_TUNING_SEED]
    return reported or list(cells)


def tuning_seeds(cells: Sequence[CellFingerprint], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """Tuning seeds are named; reports leave them out."""
    tuning = {cell.name: [seed for seed in cell.seeds if seed >= FIRST_TUNING_SEED] for cell in cells}
    mixed = any(seed < FIRST_TUNING_SEED for cell in cells for seed in cell.seeds)
    for where, seeds in tuning.items():
        if seeds:
            more = "reports leave them out" if mixed else "these are tuning runs only: do not report them"
            yield Finding(where, f"tuning seeds {', '.join(map(str, seeds))}; {more}", note=True)


def as_declared(cells: Sequence[CellFingerprint], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """The cells and seeds are exactly those of the sweep, or of other sweeps (checked with --sweep)."""
    if declared is None:
        return
    planned = {plan.cell.folder(Path()).as_posix(): set(plan.seeds) for plan in declared}
    present = {
        cell.name: {
            seed for seed in cell.seeds if seed < FIRST_TUNING_SEED or seed in planned.get(cell.name, ())
        }
        for cell in cells
    }
    for where in sorted(planned.keys() | present.keys()):
        for what, seeds in (
            ("missing", planned.get(where, set()) - present.get(where, set())),
            ("not declared", present.get(where, set()) - planned.get(where, set())),
        ):
            if seeds:
                yield Finding(where, f"{what}: seeds {', '.join(map(str, sorted(seeds)))}")


CELL_RULES: tuple[Callable[[CellFiles], Iterator[Finding]], ...] = (
    identity.folder_names,
    identity.cell_digest,
    identity.all_finished,
    identity.result_digests,
    identity.run_records,
    identity.platform_claims,
    identity.pack_mates,
    identity.started_seeds,
    identity.sealed_runs,
    identity.recorded_sources,
    identity.own_algorithm,
    origin.named_commit,
    identity.task_facts,
    identity.one_version,
    identity.clean_tree,
    protocol.whole_tables,
    protocol.evaluation_protocol,
    protocol.team_returns,
    protocol.training_episodes,
    protocol.episode_bins,
    protocol.digest_ladder,
    protocol.measures,
    protocol.finite_numbers,
    protocol.results_agree,
    identity.robustness_tables,
)
ALL_RULES = (unique_seeds, one_configuration, tuning_seeds, as_declared)

"""Check: the named rules that a folder of records must pass before it is reported or contributed.

Each rule is a function that yields what breaks it. They look at the files alone and train nothing: whether
the numbers come out again is for `verify` to say. Nothing here needs torch.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from rich.table import Table
from rich.text import Text

from ascent.records.cell import FIRST_TUNING_SEED
from ascent.records.plan import Planned
from ascent.records.read import DIVERGED
from ascent.reports.checking import folder, identity, protocol
from ascent.reports.checking.folder import CellFiles
from ascent.reports.checking.protocol import Finding

SHOWN = 10  # findings of a rule in the table; how many more there are is said
UNIQUE = ("ladder.csv", "policy.npz", "metrics.csv")  # no two seeds have one of them in common


@dataclass
class Outcome:
    """A rule, its description and what was found."""

    rule: str
    about: str
    findings: list[Finding] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return all(finding.note for finding in self.findings)


@dataclass(frozen=True)
class Seen:
    """What is kept of a cell for the rules over all cells. `marks`: seed -> file -> its sha256."""

    name: str
    digest: str
    title: tuple[str, ...]  # suite, task, system, preset
    seeds: tuple[int, ...]
    marks: dict[int, dict[str, str]]


def check(target: Path, declared: Sequence[Planned] | None = None) -> list[Outcome]:
    """What every rule finds in a folder of records, a cell's folder or a run's; `declared` is a sweep's plan.

    Raises InputError for a folder without records.
    """
    paths = folder.find(target)
    outcomes = [Outcome(name(rule), rule.__doc__.splitlines()[0]) for rule in (*CELL_RULES, *ALL_RULES)]
    seen = []
    for path in paths:
        cell = folder.load(path)
        for rule, outcome in zip(CELL_RULES, outcomes, strict=False):
            outcome.findings += _found(rule, cell)
        seen.append(_seen(cell))
    for rule, outcome in zip(ALL_RULES, outcomes[len(CELL_RULES) :], strict=True):
        outcome.findings += rule(seen, declared)
    return outcomes


def _found(rule: Callable[[CellFiles], Iterator[Finding]], cell: CellFiles) -> Iterator[Finding]:
    """What a rule finds. A forged record may hold any type anywhere: what a rule stumbles over is found."""
    try:
        yield from rule(cell)
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        yield Finding(cell.name, f"a record holds what this rule cannot read: {error!r}")


def name(rule: Callable) -> str:
    """The rule's name as users see it."""
    return rule.__name__.replace("_", "-")


def passed(outcomes: Iterable[Outcome]) -> bool:
    """Whether every rule is kept."""
    return all(outcome.passed for outcome in outcomes)


def render(outcomes: Iterable[Outcome]) -> Table:
    """A table of the rules: pass or FAIL, and what was found where."""
    table = Table("rule", "", "what it asks, and what was found", box=None, pad_edge=False)
    for outcome in outcomes:
        lines = [outcome.about]
        for finding in outcome.findings[:SHOWN]:
            lines.append(f"  {'note: ' if finding.note else ''}{finding.where}: {finding.what}")
        if len(outcome.findings) > SHOWN:
            lines.append(f"  and {len(outcome.findings) - SHOWN} more")
        word = Text("pass", "green") if outcome.passed else Text("FAIL", "bold red")
        table.add_row(outcome.rule, word, Text("\n".join(lines)))
    return table


def _seen(cell: CellFiles) -> Seen:
    marks = {}
    for run in cell.runs:
        names = UNIQUE[:1] if run.result.get("status") == DIVERGED else UNIQUE  # all NaN are alike
        names = ("eval.csv",) if cell.imported else names
        files = ((file, run.contents.get(file, b"")) for file in names)
        marks[run.seed] = {file: sha256(data).hexdigest() for file, data in files if data.count(b"\n") > 1}
    title = tuple(str(cell.facts.get(key)) for key in ("suite", "task", "system", "preset"))
    seeds = tuple(run.seed for run in cell.runs)
    return Seen(cell.name, str(cell.facts.get("digest")), title, seeds, marks)


def unique_seeds(seen: Sequence[Seen], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """No run is there twice, under another seed."""
    owners: dict[tuple[str, str], tuple[str, int]] = {}
    for cell in seen:
        for seed, marks in cell.marks.items():
            found = {owners.setdefault((file, mark), (cell.name, seed)) for file, mark in marks.items()}
            for other, twin in sorted(found):
                if twin != seed:
                    yield Finding(f"{cell.name}/seed-{seed}", f"is a copy of {other}/seed-{twin}")


def one_configuration(seen: Sequence[Seen], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """A system and preset mean one configuration in a task."""
    names: dict[tuple[str, ...], list[str]] = {}
    for cell in seen:
        names.setdefault(cell.title, []).append(cell.digest)
    planned = {plan.cell.digest for plan in declared or ()}
    for title, digests in names.items():
        if len(digests) > 1:
            what = f"{len(digests)} configurations under one name: {', '.join(digests)}"
            yield Finding("/".join(title[:2]) + f" {title[2]}-{title[3]}", what, note=planned >= set(digests))


def no_tuning_seeds(seen: Sequence[Seen], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """Seeds that chose hyper-parameters are not among those that are reported."""
    tuning = {cell.name: [seed for seed in cell.seeds if seed >= FIRST_TUNING_SEED] for cell in seen}
    mixed = any(seed < FIRST_TUNING_SEED for cell in seen for seed in cell.seeds)
    for where, seeds in tuning.items():
        if seeds:
            more = "" if mixed else "; nothing else is here: these are not to be reported"
            yield Finding(where, f"tuning seeds {', '.join(map(str, seeds))}{more}", note=not mixed)


def as_declared(seen: Sequence[Seen], declared: Sequence[Planned] | None) -> Iterator[Finding]:
    """The cells and seeds are those of the sweep (asked with --sweep)."""
    if declared is None:
        return
    wanted = {plan.cell.folder(Path()).as_posix(): set(plan.seeds) for plan in declared}
    present = {cell.name: set(cell.seeds) for cell in seen}
    for where in sorted(wanted.keys() | present.keys()):
        for what, seeds in (
            ("missing", wanted.get(where, set()) - present.get(where, set())),
            ("not declared", present.get(where, set()) - wanted.get(where, set())),
        ):
            if seeds:
                yield Finding(where, f"{what}: seeds {', '.join(map(str, sorted(seeds)))}")


CELL_RULES: tuple[Callable[[CellFiles], Iterator[Finding]], ...] = (
    identity.folder_names, identity.cell_digest, identity.all_finished, identity.result_digests,
    identity.run_records, identity.seal_agrees, identity.recorded_sources, identity.task_facts,
    identity.one_version, identity.clean_tree, protocol.whole_tables, protocol.evaluation_protocol,
    protocol.team_returns, protocol.training_episodes, protocol.digest_ladder, protocol.finite_numbers,
    protocol.results_agree, identity.robustness_tables,
)  # fmt: skip
ALL_RULES = (unique_seeds, one_configuration, no_tuning_seeds, as_declared)

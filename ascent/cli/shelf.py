"""`ascent results`: the results that ship with the suite."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascent.cli.options import group, note, progress_bar, terminal

if TYPE_CHECKING:
    from ascent.records.shelf import Shelf, ShelfCell

app = group()
commands = typer.Typer(
    help="Results that ship with the suite: list them, add to them.",
    invoke_without_command=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.add_typer(commands, name="results")

CAMPAIGN = Path("build") / "campaign"
Records = Annotated[Path, typer.Option("--runs", help="Folder of run records.")]
RunCode = Annotated[
    bool,
    typer.Option(
        "--run-recorded-code",
        help="For --depth start and whole: run recorded sources that differ from these.",
    ),
]


@commands.callback()
def results(context: typer.Context) -> None:
    """List the results that ship with the suite, and what is still missing."""
    if context.invoked_subcommand:
        return
    import csv

    from rich.table import Table

    from ascent.records.errors import DamagedFile
    from ascent.records.shelf import SCORES, current

    shelf = current()
    missing = shelf.missing
    table = Table("task", "budget", "system", "score", "95% interval", "n", "grade", "cell", box=None)
    try:
        for row in csv.DictReader((shelf.folder / SCORES).read_text().splitlines()):
            table.add_row(
                row["task"], f"{int(row['budget']):,}", f"{row['system']} ({row['setting']})",
                _short(row["mean"]), f"[{_short(row['low'])}, {_short(row['high'])}]" if row["low"] else "",
                row["n"], row["grade"], row["digest"],
            )  # fmt: skip
    except (OSError, ValueError, LookupError, TypeError) as error:
        path = shelf.folder / SCORES
        raise DamagedFile(f"{path} cannot be read: run `ascent results build` ({error})") from error
    terminal().print(table)
    print(f"{shelf.name}: {len(shelf.present)} of {len(shelf.planned)} cells, {len(missing)} missing", end="")
    tiers = sorted({cell.tier for cell in missing})
    counts = ", ".join(f"{sum(cell.tier == tier for cell in missing)} of tier {tier}" for tier in tiers)
    print(f" ({counts})" if missing else "")
    print(shelf.folder)


def _short(value: str) -> str:
    return (
        f"{float(value):,.4g}"
        if value and abs(float(value)) < 1000
        else f"{float(value):,.0f}"
        if value
        else ""
    )


@commands.command()
def add(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            help="Cells (folder, digest or digest prefix). Default: all in --runs.", metavar="[CELL]..."
        ),
    ] = None,
    runs: Records = Path("runs"),
    bundle: Annotated[
        Path | None, typer.Option(help="Take the records of a bundle, such as one that somebody contributes.")
    ] = None,
    depth: Annotated[
        str, typer.Option(help="How cells are verified first: policy, start or whole.")
    ] = "policy",
    run_recorded_code: RunCode = False,
) -> None:
    """Put finished cells on the shelf: checked, verified, compact.

    Nothing is changed if one of them fails. Without CELL, the finished runs of other planned cells are kept
    beside the shelf, in `partial`.
    """
    from ascent.records.errors import InputError, unknown
    from ascent.records.shelf import draft
    from ascent.reports.checking import bundle as bundles
    from ascent.reports.checking.setting import Allowed
    from ascent.reports.shelf import add as adding
    from ascent.reports.shelf.proofs import DEPTHS

    if depth not in DEPTHS:
        raise unknown("depth", depth, list(DEPTHS))
    shelf = draft()
    if not (bundle or runs).exists():
        raise InputError(f"{bundle or runs}: no such {'file' if bundle else 'folder'}")
    with bundles.records(bundle or runs) as records:
        complete, begun = adding.ready(shelf, records)
        if cells:
            complete, begun = _named(cells, shelf, records), []
        allowed = Allowed(False, run_recorded_code)
        with progress_bar("checking and verifying cells") as tell:
            added = adding.add(shelf, records, complete, begun, depth, allowed, tell)
    _build(shelf)
    for proof in added.proofs:
        print(f"{proof.cell}: {proof.grade}, seeds {proof.seeds}")
    for cell in added.kept:
        print(f"{cell.folder}: kept in partial")
    print(f"{len(added.proofs)} cells added to {shelf.folder}")


@commands.command()
def prove(
    cells: Annotated[
        list[str] | None,
        typer.Argument(
            help="Cells (digest or digest prefix). Default: all on the shelf.", metavar="[CELL]..."
        ),
    ] = None,
    depth: Annotated[str, typer.Option(help="How cells are verified: policy, start or whole.")] = "policy",
    cheapest: Annotated[
        bool, typer.Option("--cheapest", help="Of each system, the cell whose training took least time.")
    ] = False,
    run_recorded_code: RunCode = False,
) -> None:
    """Verify cells on the shelf again, and write down what that proves.

    Goes on where it was stopped: a cell that was trained again on this platform is not trained once more.
    """
    from ascent.records.errors import InputError, unknown
    from ascent.records.shelf import draft
    from ascent.reports.checking.setting import Allowed
    from ascent.reports.shelf import proofs

    if depth not in proofs.DEPTHS:
        raise unknown("depth", depth, list(proofs.DEPTHS))
    if cells and cheapest:
        raise InputError("give cells or --cheapest, not both")
    shelf = draft()
    chosen = proofs.cheapest(shelf) if cheapest else shelf.present
    if cells:
        chosen = _named(cells, shelf, shelf.folder)
    made = 0
    with progress_bar("verifying cells") as tell:
        for number, (proof, new) in enumerate(
            proofs.again(shelf, chosen, depth, Allowed(False, run_recorded_code)), 1
        ):
            print(f"{proof.cell}: {proof.grade}, seeds {proof.seeds}{'' if new else f', on {proof.date}'}")
            made += new
            tell(number, len(chosen))
    _build(shelf)
    print(f"{len(chosen)} cells at depth {depth}: {made} verified now, {len(chosen) - made} before")


def _named(cells: list[str], shelf: "Shelf", records: Path) -> "list[ShelfCell]":
    """Return the cells of a shelf's plan that a user names by folder or digest in a folder of records."""
    from ascent.records.cell import find
    from ascent.records.errors import InputError

    planned = {cell.folder: cell for cell in shelf.planned}
    named = []
    for cell in cells:
        folder = find(cell, records).resolve()
        name = "/".join(folder.parts[-3:])
        if folder.parents[2] != records.resolve():
            raise InputError(f"{cell} is not in {records}: name its folder of records with --runs")
        if name not in planned:
            raise InputError(f"{name} is not a planned cell of {shelf.name}")
        named.append(planned[name])
    return list(dict.fromkeys(named))


@commands.command()
def build() -> None:
    """Generate tables, leaderboard, datasheet, metadata and checksums of the shelf from its records."""
    from ascent.records.shelf import draft

    shelf = draft()
    _build(shelf)
    print(shelf.folder)


def _build(shelf: "Shelf") -> None:
    from ascent.records.errors import InputError
    from ascent.reports.shelf import tables

    try:
        tables.build(shelf)
    except ValueError as error:
        raise InputError(str(error)) from error


@commands.command()
def release() -> None:
    """Release the draft: it loses -draft in its name, and no command writes to it any more."""
    from ascent.records.errors import InputError
    from ascent.records.shelf import draft
    from ascent.reports.shelf import proofs
    from ascent.reports.shelf.release import release as freeze

    try:
        shelf = freeze(draft())
    except ValueError as error:
        raise InputError(str(error)) from error
    known = proofs.proofs(shelf)
    note(proofs.counted(proofs.grade_of(shelf, cell, known) for cell in shelf.present))
    print(shelf.folder)


@commands.command()
def new(
    name: Annotated[str, typer.Argument(help="Name of the shelf, such as 2026.12-draft.")],
    commit: Annotated[str, typer.Option(help="Commit of which the code makes all results, in full.")],
) -> None:
    """Start a shelf, whose cells are those of the sweeps shelf_1, shelf_2 and shelf_3.

    It begins with the results of the newest release that the same commit made.
    """
    import re

    from ascent.records.errors import InputError
    from ascent.records.shelf import DRAFT, HOME, NAME, carry_over, write
    from ascent.runners.campaign import SWEEPS, planned
    from ascent.runners.sweep import load

    if not NAME.fullmatch(name) or not name.endswith(DRAFT):
        raise InputError(f"{name!r} is no name of a new shelf: they are called such as 2026.12{DRAFT}")
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise InputError(f"{commit!r} is no commit: give all 40 hexadecimal digits")
    shelf = write(HOME / name, commit, planned([load(sweep) for sweep in SWEEPS]))
    earlier = carry_over(shelf)
    _build(shelf)
    note(f"it begins with the results of {earlier.name}" if earlier else "it begins without results")
    print(shelf.folder)


@commands.command()
def campaign(
    jobs: Annotated[int, typer.Option(help="Processes at a time.")] = 1,
    minutes: Annotated[float, typer.Option(help="Longest job, by the estimate.")] = 60.0,
    home: Annotated[
        Path, typer.Option(help="Folder for the code of the shelf's commit, and for runs.")
    ] = CAMPAIGN,
) -> None:
    """Train what is missing on the shelf, and put it there as cells finish. Stop it at any time."""
    from ascent.records.errors import InputError
    from ascent.records.plan import Planned
    from ascent.records.progress import Display
    from ascent.records.shelf import draft
    from ascent.reports.shelf import add as adding
    from ascent.runners import campaign as training

    if jobs < 1:
        raise InputError(f"jobs must be at least 1, not {jobs}")
    if not 0 < minutes < float("inf"):
        raise InputError(f"minutes must be positive and finite, not {minutes}")
    shelf, runs = draft(), home / "runs"
    python = training.code_of(shelf.commit, home)
    adding.restore(shelf, runs)
    refused: set[str] = set()
    while True:
        complete, begun = adding.ready(shelf, runs)
        changed = False
        for cell in [*complete, *begun]:
            if cell.folder in refused:
                continue
            whole, part = ([cell], []) if cell in complete else ([], [cell])
            try:
                added = adding.add(shelf, runs, whole, part)
                changed |= bool(added.proofs or added.kept)
            except InputError as error:
                refused.add(cell.folder)
                note(str(error), "refused")
        if changed:
            _build(shelf)
        batch = training.jobs(shelf, runs, jobs, minutes)
        if not batch:
            break
        with Display([Planned(job.cell, job.seeds) for job in batch], runs) as display:
            failures = training.train(batch, python, jobs, display.tick)
        if failures:
            raise InputError("\nerror: ".join(failure.reason for failure in failures))
    print(f"{shelf.name}: {len(shelf.present)} of {len(shelf.planned)} cells are there")

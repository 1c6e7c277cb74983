"""`ascent runs seal`, `unseal`, `merge`, `move` and `remove`: what changes a folder of run records."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import RUNS, Runs, group, progress_bar

app = group()
commands = group("Look after run records.")
app.add_typer(commands, name="runs")

Cells = Annotated[
    list[str] | None,
    typer.Argument(help="Folders or digests of cells. Default: all in --runs.", metavar="[CELL]..."),
]


@commands.command()
def seal(
    cells: Cells = None,
    runs: Runs = RUNS,
    compact: Annotated[
        bool,
        typer.Option(
            "--compact",
            help="Keep the last 1,000 training episodes and 200 bins of all, instead of train.csv.",
        ),
    ] = False,
) -> None:
    """Move finished runs into one file per cell, sealed-<digest>.zip.

    All commands read sealed runs as they read folders. `unseal` undoes it, except for --compact.
    """
    from ascent.records import seal as sealing

    _each(cells, runs, "sealed", lambda cell: sealing.seal(cell, compact))


@commands.command()
def unseal(cells: Cells = None, runs: Runs = RUNS) -> None:
    """Give sealed runs their folders back."""
    from ascent.records import seal as sealing

    _each(cells, runs, "unsealed", sealing.unseal)


@commands.command()
def merge(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of run records, such as a copy from another cluster.", metavar="SOURCE..."
        ),
    ],
    runs: Runs = RUNS,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be done; write nothing.")
    ] = False,
) -> None:
    """Copy the runs of other folders into --runs.

    A run that is finished in several folders must have the same result in all. Of unfinished runs, the one
    with the furthest checkpoint counts. If runs differ, are damaged or in use, nothing is copied.
    """
    from ascent.records import merge as merging

    choices = merging.plan(sources, runs)
    for line in merging.summary(choices):
        print(line)
    taken = [choice for choice in choices if choice.source]
    kept = f"{counted(len(choices) - len(taken), 'run')} kept"
    if dry_run:
        print(f"would take: {counted(len(taken), 'run')}; {kept}")
        return
    with progress_bar("merged") as tell:
        merging.merge(choices, sources, runs, tell)
    print(f"taken: {counted(len(taken), 'run')}; {kept}")


@commands.command()
def move(
    cells: Annotated[
        list[str], typer.Argument(help="Folders or digests of cells, or a sweep.", metavar="CELL...")
    ],
    to: Annotated[Path, typer.Option(help="The other folder of run records, on any disk.")],
    runs: Runs = RUNS,
) -> None:
    """Move cells to another folder of run records, with their logs, sources and part of the ledger.

    A cell is moved as a whole, whenever the command is stopped. Running cells are refused.
    """
    from ascent.cli.inventory import chosen
    from ascent.records import removal

    for folder in chosen(cells, runs):
        print(removal.move(folder, to))


@commands.command()
def remove(
    cells: Annotated[
        list[str], typer.Argument(help="Folders or digests of cells, or a sweep.", metavar="CELL...")
    ],
    seeds: Annotated[
        str | None, typer.Option(help="Only these seeds, such as 0-9 or 0,2. Default: the whole cell.")
    ] = None,
    finished: Annotated[
        bool,
        typer.Option("--finished", help="Also finished and sealed runs, on which reports may rest."),
    ] = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove. Without it, print what would be removed.")
    ] = False,
    runs: Runs = RUNS,
) -> None:
    """Remove cells, or some of their runs. Running ones are refused.

    The ledger keeps that the runs were started: reports go on to count them.
    """
    from ascent.cli.inventory import chosen, size
    from ascent.records import removal
    from ascent.records.errors import InputError
    from ascent.records.inventory import inventory
    from ascent.records.plan import parse_seeds, seed_ranges

    only = None if seeds is None else parse_seeds(seeds)
    listed = inventory(runs, chosen(cells, runs))
    for cell in listed:
        if only is not None and (absent := [seed for seed in only if seed not in cell.states]):
            raise InputError(f"{cell.name} has no seeds {seed_ranges(absent)}")
        if cell.fault and not finished:
            raise InputError(f"{cell.fault}: if it may go all the same, say --finished")
        if (done := cell.finished(only)) and not finished:
            which = f"seeds {seed_ranges(done)} are finished"
            raise InputError(f"{cell.name}: {which}: to remove them, too, say --finished")
        if running := [seed for seed in only or cell.states if cell.states.get(seed) == "running"]:
            raise InputError(f"{cell.name}: seeds {seed_ranges(running)} are running: stop them first")
    for cell in listed:
        which = f"{cell.name} ({cell.words()}, {size(cell.size)})"
        if only is not None:
            which = f"{cell.name}: seeds {seed_ranges(only)} ({cell.words(only)})"
        if yes:
            removal.remove(cell.folder, only)
        print(f"{'removed' if yes else 'would remove'}: {which}")
    if not yes:
        print("nothing was removed: to remove this, say --yes")


def _each(cells: Sequence[str] | None, runs: Path, done: str, act: Callable[[Path], list[int]]) -> None:
    """Act on cells, and print what was done."""
    from ascent.records import layout
    from ascent.records.cell import find
    from ascent.records.errors import InputError

    if cells:
        folders = [find(cell, runs) for cell in cells]
    else:
        folders = sorted(path.parent for path in runs.glob(layout.CELLS))
        if not folders:
            raise InputError(f"there are no cells in {runs}")
    seeds = 0
    refused: list[InputError] = []
    with progress_bar(done) as tell:
        for number, folder in enumerate(folders, 1):
            try:
                seeds += len(act(folder))
            except InputError as error:
                refused.append(error)
            tell(number, len(folders))
    print(f"{done}: {counted(seeds, 'run')} of {counted(len(folders) - len(refused), 'cell')}")
    if refused:
        more = f" (and {counted(len(refused) - 1, 'cell')} more)" if len(refused) > 1 else ""
        raise InputError(f"{refused[0]}{more}")


def counted(number: int, what: str) -> str:
    """Return a number of things: "1 run", "2,000 runs"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"

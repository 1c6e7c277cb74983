"""`ascent runs`: seal finished runs, give them their folders back, and merge folders of runs."""

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
    kept = f"{_counted(len(choices) - len(taken), 'run')} kept"
    if dry_run:
        print(f"would take: {_counted(len(taken), 'run')}; {kept}")
        return
    with progress_bar("merged") as tell:
        merging.merge(choices, sources, runs, tell)
    print(f"taken: {_counted(len(taken), 'run')}; {kept}")


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
    print(f"{done}: {_counted(seeds, 'run')} of {_counted(len(folders) - len(refused), 'cell')}")
    if refused:
        more = f" (and {_counted(len(refused) - 1, 'cell')} more)" if len(refused) > 1 else ""
        raise InputError(f"{refused[0]}{more}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"

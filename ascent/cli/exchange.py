"""Commands that exchange results with other machines and services."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascent.cli.options import RUNS, Runs, expected, group, note

if TYPE_CHECKING:
    from ascent.records.expected import Expected

app = group()
wandb = group("Mirror results in Weights & Biases.")
app.add_typer(wandb, name="wandb")


@app.command()
def bundle(
    report: Annotated[Path, typer.Argument(help="Folder of a report.")],
    runs: Runs = RUNS,
    out: Annotated[
        Path | None, typer.Option(help="Archive to write. Default: REPORT.zip beside the report.")
    ] = None,
    anonymous: Annotated[
        bool,
        typer.Option("--anonymous", help="Replace names of hosts, users' paths and jobs, for blind review."),
    ] = False,
    sign: Annotated[
        Path | None, typer.Option(metavar="KEY", help="Sign it with this SSH key, by ssh-keygen.")
    ] = None,
) -> None:
    """Pack a report and its run records into one archive.

    `ascent check`, `ascent verify` and `ascent report` read it on any machine.
    """
    from ascent.reports.checking import bundle as bundles

    archive = out or report.resolve().with_name(f"{report.resolve().name}.zip")
    names = bundles.pack(report, runs, archive, anonymous, sign)
    if others := bundles.other_files(report):
        note(f"left out, not part of the report: {', '.join(others)}")
    print(f"{len(names)} files, {archive.stat().st_size:,} bytes", file=sys.stderr)
    print(archive)


@wandb.callback()
def wandb_group() -> None:
    """Mirror results in Weights & Biases."""


@wandb.command("push")
def wandb_push(
    source: Annotated[
        str,
        typer.Argument(
            help="A sweep, its manifest, a folder of run records, a cell (folder, digest or digest prefix), "
            "or a set of results that ships with the suite (its name or folder)."
        ),
    ],
    report: Annotated[Path | None, typer.Option(help="Folder of a report to upload as well.")] = None,
    project: Annotated[str | None, typer.Option(help="W&B project. Default: WANDB_PROJECT.")] = None,
    entity: Annotated[
        str | None, typer.Option(help="W&B entity. Default: WANDB_ENTITY, or that of the API key.")
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Write offline runs; make no network connection.")
    ] = False,
    runs: Runs = RUNS,
    out: Annotated[Path, typer.Option(help="Folder for the files that wandb writes.")] = Path("out/wandb"),
    timeout: Annotated[
        float,
        typer.Option(help="Time limit for the start of a run, and for its upload after that, in seconds."),
    ] = 60.0,
) -> None:
    """Upload finished runs, and a report, to W&B. Already uploaded runs are skipped.

    With runs of the results that ship with the suite goes their leaderboard, with grades.
    """
    from ascent.records.errors import InputError
    from ascent.records.read import load
    from ascent.reports.mirror import push

    try:
        runs, names, left_out = _named(source, runs)
        cells = load(runs, names)
    except ValueError as error:
        raise InputError(str(error)) from error
    print(push.command(cells, runs, report, left_out, project, entity, offline, out, timeout))


def _named(source: str, runs: Path) -> "tuple[Path, list[Expected], int]":
    """Return the folder of records that a source names, its cells, and how many tuning seeds they lack."""
    from ascent.records import layout, shelf
    from ascent.records.read import find
    from ascent.reports.staged import planned_now
    from ascent.slurm import manifest

    place = next((found.folder for found in shelf.shelves() if found.name == source), Path(source))
    if re.fullmatch("[0-9a-f]{4,}", source) and not place.exists():
        place = shelf.find(source, runs)
    if not place.is_dir():
        return runs, expected(planned_now(manifest.open_sweep(source, runs).plan, runs)), 0
    of_cell = (place / layout.CELL).is_file()
    home = place.resolve().parents[2] if of_cell else place
    cells, left_out = find(home)
    chosen = [cell for cell in cells if not of_cell or (home / cell.folder) == place.resolve()]
    omitted = [seeds for folder, seeds in left_out.items() if not of_cell or home / folder == place.resolve()]
    return home, chosen, sum(map(len, omitted))

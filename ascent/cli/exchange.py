"""Commands that exchange results with other machines and services."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import RUNS, Runs, expected, group

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
    from ascent.records.errors import one_line
    from ascent.reports.checking import bundle as bundles

    archive = out or report.resolve().with_name(f"{report.resolve().name}.zip")
    names = bundles.pack(report, runs, archive, anonymous, sign)
    if others := bundles.other_files(report):
        print(one_line(f"note: left out, not part of the report: {', '.join(others)}"), file=sys.stderr)
    print(f"{len(names)} files, {archive.stat().st_size:,} bytes", file=sys.stderr)
    print(archive)


@wandb.callback()
def wandb_group() -> None:
    """Mirror results in Weights & Biases."""


@wandb.command("push")
def wandb_push(
    source: Annotated[str, typer.Argument(help="A sweep, its manifest, or a folder of run records.")],
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
    timeout: Annotated[float, typer.Option(help="Upload time limit per run, in seconds.")] = 60.0,
) -> None:
    """Upload finished runs, and a report, to W&B. Already uploaded runs are skipped."""
    from ascent.records.errors import InputError
    from ascent.records.read import load
    from ascent.reports.mirror import push
    from ascent.reports.staged import planned_now
    from ascent.slurm import manifest

    try:
        if Path(source).is_dir():
            runs, cells = Path(source), load(Path(source))
        else:
            cells = load(runs, expected(planned_now(manifest.open_sweep(source, runs).plan, runs)))
    except ValueError as error:
        raise InputError(str(error)) from error
    print(push.command(cells, runs, report, project, entity, offline, out, timeout))

"""Commands that report, check, verify and exchange results."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascent.cli.options import RUNS, Runs, TaskOption, default_folder, group, terminal

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ascent.records.plan import Planned
    from ascent.records.read import Expected

app = group()
wandb = group("Mirror results in Weights & Biases.")
app.add_typer(wandb, name="wandb")


@app.command()
def report(
    source: Annotated[
        str, typer.Argument(help="A sweep, its manifest, a folder of run records, or a bundle.")
    ],
    runs: Runs = RUNS,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the report. Default: out/NAME of the source.")
    ] = None,
) -> None:
    """Make the report of a sweep, or of all runs in a folder.

    The report is one stand-alone HTML page, with its figures, tables and data as files beside it.
    """
    from ascent import reports
    from ascent.records.errors import InputError
    from ascent.reports.checking import bundle as bundles
    from ascent.slurm import manifest

    try:
        if source.endswith(".zip"):
            with bundles.opened(Path(source)) as unpacked:
                about = bundles.provenance(unpacked / "report")
                page = reports.rebuild(about, unpacked / "runs", out or default_folder(Path(source).stem))
        elif Path(source).is_dir():
            folder = out or default_folder(Path(source).resolve().name)
            page = reports.build(Path(source), folder, title=f"Runs in {Path(source).name}")
        else:
            sweep = manifest.open_sweep(source, runs)
            folder = out or default_folder(sweep.name)
            page = reports.build(runs, folder, _expected(sweep.planned), sweep.title, sweep.declared)
    except ValueError as error:
        raise InputError(str(error)) from error
    print(page)


@app.command()
def check(
    folder: Annotated[
        Path, typer.Argument(help="A folder of run records, the folder of a cell or a run, or a bundle.")
    ],
    sweep: Annotated[
        str | None, typer.Option(help="Also require exactly the cells and seeds of this sweep or manifest.")
    ] = None,
) -> None:
    """Check run records against the rules for reporting them. Exit code 0 if they pass, else 1."""
    from ascent.reports.checking import bundle as bundles
    from ascent.reports.checking import check as checks
    from ascent.slurm import manifest

    with bundles.records(folder) as records:
        planned = manifest.open_sweep(sweep, records).planned if sweep else None
        outcomes = checks.check(records, planned)
    terminal().print(checks.render(outcomes))
    raise typer.Exit(0 if checks.passed(outcomes) else 1)


@app.command()
def verify(
    target: Annotated[Path, typer.Argument(help="The folder of a report, a cell or a run, or a bundle.")],
    depth: Annotated[
        str,
        typer.Option(
            help="records: read the records; start: also train the first steps again; whole: train all again."
        ),
    ] = "records",
    steps: Annotated[
        int | None,
        typer.Option(help="Environment steps that `--depth start` trains. Default: two evaluations."),
    ] = None,
    runs: Runs = RUNS,
    install: Annotated[
        bool,
        typer.Option("--install", help="If needed, make an environment with the recorded package versions."),
    ] = False,
) -> None:
    """Verify that a result can be reproduced.

    Training again executes the sources in the records: use it only on records that you trust.

    Exit code 0 if the result is reproduced, 1 if something differs, 2 if it cannot be verified here.
    """
    from ascent.reports.checking import verify as verification

    outcomes = verification.verify(target, depth, steps, runs, install)
    terminal().print(verification.render(outcomes), soft_wrap=True)
    raise typer.Exit(verification.exit_code(outcomes))


@app.command()
def bundle(
    report: Annotated[Path, typer.Argument(help="Folder of a report.")],
    runs: Runs = RUNS,
    out: Annotated[
        Path | None, typer.Option(help="The archive. Default: REPORT.zip beside the report.")
    ] = None,
) -> None:
    """Pack a report and its run records into one archive.

    `ascent check`, `ascent verify` and `ascent report` read it on any machine.
    """
    from ascent.reports.checking import bundle as bundles

    archive = out or report.resolve().with_name(f"{report.resolve().name}.zip")
    names = bundles.pack(report, runs, archive)
    print(f"{len(names)} files, {archive.stat().st_size:,} bytes", file=sys.stderr)
    print(archive)


@app.command("import")
def import_command(
    files: Annotated[
        list[Path], typer.Argument(help="One CSV file, or one evaluations.npz of Stable-Baselines3 per seed.")
    ],
    name: Annotated[str, typer.Option(help='Name for the system, such as "SB3 PPO".')],
    task: TaskOption,
    steps: Annotated[
        int | None, typer.Option(help="Training budget per seed. Default: the step of the last evaluation.")
    ] = None,
    step_column: Annotated[
        str, typer.Option(help="Column of the environment steps of the seed so far.")
    ] = "step",
    seed_column: Annotated[str, typer.Option(help="Column of the seeds, which must be below 1000.")] = "seed",
    return_column: Annotated[
        str, typer.Option(help="Column of undiscounted returns of evaluations or of their episodes.")
    ] = "return",
    runs: Runs = RUNS,
) -> None:
    """Import evaluation curves from another library.

    They become records that reports show beside those made with Ascent.

    The CSV file has one row per seed and evaluation step, or, with a column `episode`, one per episode of it.
    All seeds must have the same steps. From pandas:

    \b
    tables = [pd.read_csv(log).assign(seed=k) for k, log in enumerate(logs)]
    pd.concat(tables).to_csv("curves.csv")

    Episodes in a training log (Monitor's monitor.csv, CleanRL's charts/episodic_return as exported by
    TensorBoard) end at arbitrary steps. Average them over windows first, from columns seed, step and return:

    \b
    t = log.assign(step=(log.step // 10_000 + 1) * 10_000)
    t = t.groupby(["seed", "step"])["return"].mean()
    t.reset_index().to_csv("curves.csv")
    """
    from ascent.reports.importing import import_curves

    columns = {"step_column": step_column, "seed_column": seed_column, "return_column": return_column}
    print(import_curves(files, name, task, runs, steps, **columns))


@app.command()
def cite(
    cell: Annotated[str, typer.Argument(help="Folder of a cell, or its digest or the start of it.")],
    estimator: Annotated[
        str | None, typer.Option(help="How a run becomes a score. Default: mean_of_last_ten.")
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Print a citation of a cell's score.

    It consists of a sentence for a paper, the command that verifies the score, and BibTeX entries.
    """
    from ascent.reports.cite import cite as citation

    print(citation(cell, runs, estimator), end="")


@wandb.callback()
def wandb_group() -> None:
    """Mirror results in Weights & Biases."""


@wandb.command("push")
def wandb_push(
    source: Annotated[str, typer.Argument(help="A sweep, its manifest, or a folder of run records.")],
    report: Annotated[Path | None, typer.Option(help="Folder of a report to mirror as well.")] = None,
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
        float, typer.Option(help="Time limit until W&B has acknowledged a run, in seconds.")
    ] = 60.0,
) -> None:
    """Send finished runs, and a report, to W&B. What W&B already has is not sent again."""
    from ascent.records.errors import InputError
    from ascent.records.read import load
    from ascent.reports.mirror import push
    from ascent.slurm import manifest

    try:
        if Path(source).is_dir():
            runs, cells = Path(source), load(Path(source))
        else:
            cells = load(runs, _expected(manifest.open_sweep(source, runs).planned))
    except ValueError as error:
        raise InputError(str(error)) from error
    print(push.command(cells, runs, report, project, entity, offline, out, timeout))


def _expected(planned: "Iterable[Planned]") -> "list[Expected]":
    """Return the cells and seeds that a report of these plans must contain."""
    from ascent.records.read import Expected

    cells = [(plan.cell, plan.seeds) for plan in planned]
    return [Expected(c.suite, c.task, c.system, c.preset, c.digest, seeds) for c, seeds in cells]

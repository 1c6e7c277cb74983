"""Commands that exchange results with other machines, libraries and services."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import RUNS, Runs, TaskOption, expected, group

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
        str, typer.Option(help="Column with the environment steps of the seed so far.")
    ] = "step",
    seed_column: Annotated[str, typer.Option(help="Column with the seeds (below 1000).")] = "seed",
    return_column: Annotated[
        str, typer.Option(help="Column with the undiscounted returns of evaluations or of their episodes.")
    ] = "return",
    algorithm: Annotated[
        str | None,
        typer.Option(help="Algorithm, such as td3, whose published scores the curves are compared with."),
    ] = None,
    environment: Annotated[
        str | None,
        typer.Option(help="Environment of the curves with its version, such as Hopper-v3. Default: unknown."),
    ] = None,
    convention: Annotated[
        str | None,
        typer.Option(
            help="What the returns are of: greedy (evaluations of the deterministic policy), sampled "
            "(evaluations with sampled actions), training (episodes of training). Default: unknown."
        ),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Import evaluation curves from another library.

    Imported curves appear in reports next to Ascent's. They are tested against other cells only if they are
    greedy evaluations in the task's own version of the environment.

    The CSV file has one row per seed and evaluation step, or, with a column `episode`, one per episode of it.
    All seeds must have the same steps. With pandas:

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
    from ascent.reports.imports.importing import Stated, import_curves

    columns = {"step_column": step_column, "seed_column": seed_column, "return_column": return_column}
    stated = Stated(algorithm, environment, convention)
    print(import_curves(files, name, task, runs, steps, **columns, stated=stated))


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

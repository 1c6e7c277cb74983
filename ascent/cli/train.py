"""Commands that train on this machine, and the list of what can be trained."""

import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ascent.cli.options import (
    RUNS,
    Against,
    Algorithm,
    CheckpointSeconds,
    Device,
    EnvOptions,
    Jobs,
    KeepCheckpoint,
    KeepPolicies,
    Pack,
    Preset,
    Runs,
    Sweep,
    Task,
    TaskFilter,
    Tensorboard,
    Wrappers,
    default_folder,
    environment,
    group,
    parse_values,
    terminal,
    warn_of_missing_kernels,
    warn_of_unknown_commit,
)

if TYPE_CHECKING:
    from ascent.records.plan import Planned

app = group()
NOTHING = "nothing to do: every run is finished"
LISTS = ("algorithms", "tasks", "sweeps")


@app.command("list")
def list_command(
    what: Annotated[
        str,
        typer.Argument(
            metavar="algorithms|tasks|sweeps",
            help="What to list. Default: everything.",
            show_default=False,
            autocompletion=lambda: LISTS,
        ),
    ] = "",
) -> None:
    """List the available algorithms, tasks and sweeps."""
    from ascent.cli import listing
    from ascent.records.errors import unknown

    if what not in ("", *LISTS):
        raise unknown("list", what, LISTS)
    console = terminal()
    if what in ("", "algorithms"):
        console.print(listing.algorithms(), "")
    if what in ("", "tasks"):
        console.print(listing.tasks())
        print("", listing.LEGEND, *listing.versions(), "", sep="\n")
    if what in ("", "sweeps"):
        console.print(listing.sweeps())


@app.command()
def show(
    algorithm: Algorithm,
    preset: Preset = None,
    task: TaskFilter = None,
    against: Against = None,
) -> None:
    """Show the hyperparameters of an algorithm: values, meanings, and the source of the preset."""
    from ascent.cli import showing

    if against is None:
        parts = showing.show(algorithm, preset, task)
    else:
        parts = showing.compare(algorithm, preset, against, task)
    terminal().print(*parts, sep="\n")


@app.command()
def train(
    algorithm: Algorithm,
    task: Task,
    seeds: Annotated[
        str, typer.Option(help="Seeds, such as 0-9 or 0,2,5-7. Seeds from 1000 up are for tuning.")
    ] = "0-9",
    steps: Annotated[
        int | None, typer.Option(help="Environment steps per seed. Default: the task's budget.")
    ] = None,
    preset: Preset = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a hyperparameter. Can be repeated."),
    ] = None,
    env: EnvOptions = None,
    wrapper: Wrappers = None,
    evaluations: Annotated[
        int | None,
        typer.Option(
            help="Number of evaluations, not counting the one at step 0. Default: 50; with --extend, as "
            "often as before."
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes per evaluation.")] = 10,
    measures: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Also measure this at evaluations: gradient_variance. Can be repeated."
        ),
    ] = None,
    pack: Pack = 10,
    jobs: Jobs = 0,
    device: Device = "cpu",
    runs: Runs = RUNS,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    keep_policies: KeepPolicies = 0,
    keep_checkpoint: KeepCheckpoint = False,
    extend: Annotated[
        bool,
        typer.Option(
            "--extend",
            help="Go on from finished runs with fewer --steps that were trained with --keep-checkpoint. "
            "The result is that of a run with all steps from the start; else it is refused.",
        ),
    ] = False,
    stream: Annotated[
        str | None,
        typer.Option("--wandb", metavar="live", help="'live' streams metrics to W&B during training."),
    ] = None,
    wandb_project: Annotated[
        str | None, typer.Option(help="W&B project for --wandb live. Default: WANDB_PROJECT.")
    ] = None,
    tensorboard: Tensorboard = False,
) -> None:
    """Train one algorithm on one task. Finished runs are skipped, interrupted ones are resumed exactly."""
    from ascent.records.cell import Evaluation
    from ascent.records.errors import unknown
    from ascent.records.plan import Plan, Planned, parse_seeds
    from ascent.runners import extend as extending
    from ascent.runners.local import train_locally
    from ascent.runners.resolve import resolve

    if stream not in (None, "live"):
        raise unknown("value of --wandb", stream, ("live",))
    options: dict[str, Any] = {
        "preset": preset,
        "overrides": parse_values("--set", settings),
        "steps": steps,
        "measures": tuple(measures or ()),
        "environment": environment(task, env, wrapper),
    }
    default = Evaluation().points if evaluations is None else evaluations
    cell = resolve(algorithm, task, evaluation=Evaluation(default, episodes), **options)
    extended: list[extending.Extension] = []
    if extend:
        points = extending.points(cell, runs) if evaluations is None else evaluations
        cell = resolve(algorithm, task, evaluation=Evaluation(points, episodes), **options)
        extended = [extending.extension(cell, parse_seeds(seeds), runs)]
    planned = Planned(cell, parse_seeds(seeds))
    warn_of_unknown_commit()
    warn_of_missing_kernels()
    with (
        _stream(planned, runs, wandb_project) if stream else nullcontext(),
        _events([planned], runs) if tensorboard else nullcontext(),
    ):
        trained = train_locally(
            Plan((planned,)),
            runs,
            pack,
            jobs,
            device,
            checkpoint_seconds,
            keep_policies,
            keep_checkpoint=keep_checkpoint,
            extended=extended,
        )
    if not trained:
        print(NOTHING, file=sys.stderr)
    print(cell.folder(runs))


@app.command()
def sweep(
    name_or_file: Sweep,
    pack: Pack = 10,
    jobs: Jobs = 0,
    device: Device = "cpu",
    runs: Runs = RUNS,
    checkpoint_seconds: CheckpointSeconds = 60.0,
    keep_policies: KeepPolicies = 0,
    keep_checkpoint: KeepCheckpoint = False,
    tensorboard: Tensorboard = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show the cells and runs, and what they would cost.")
    ] = False,
) -> None:
    """Train the missing runs of a sweep, with a design stage by stage. Run the command again to resume it."""
    from ascent.reports import staged
    from ascent.runners import sweep as sweeps

    plan = sweeps.load(name_or_file).plan
    if dry_run:
        from ascent.cli import listing

        terminal().print(*listing.planned(plan.planned, runs), sep="\n")
        return
    warn_of_unknown_commit()
    warn_of_missing_kernels()
    options = (pack, jobs, device, checkpoint_seconds, keep_policies, keep_checkpoint)
    with _events(plan.planned, runs) if tensorboard else nullcontext():
        trained = staged.train(plan, runs, *options)
    if not trained:
        print(NOTHING, file=sys.stderr)


def _events(planned: Sequence["Planned"], runs: Path) -> AbstractContextManager[object]:
    """Return a context in which a thread writes the event files of TensorBoard."""
    from ascent.reports.mirror.tensorboard import following

    return following([plan.cell.folder(runs) for plan in planned], default_folder("tensorboard"))


def _stream(planned: "Planned", runs: Path, project: str | None) -> AbstractContextManager[object]:
    """Return a context in which a separate process streams the unfinished runs to W&B."""
    from ascent.reports.mirror.live import Stream

    missing = planned.cell.missing(planned.seeds, runs)
    return Stream(planned.cell, missing, runs, project) if missing else nullcontext()

"""The command that tunes hyperparameters."""

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascent.cli.options import (
    Algorithm,
    CheckpointSeconds,
    Device,
    Jobs,
    Pack,
    Preset,
    group,
    note,
    parse_values,
    terminal,
    warn_of_missing_kernels,
    warn_of_unknown_commit,
)

if TYPE_CHECKING:
    from ascent.slurm.sites import Site

app = group()


@app.command()
def tune(
    algorithm: Algorithm,
    tasks: Annotated[
        list[str],
        typer.Argument(metavar="TASK...", help="Names from `ascent list tasks`: a trial is trained on all."),
    ],
    trials: Annotated[int, typer.Option(help="Number of trials.")] = 20,
    seeds: Annotated[
        str, typer.Option(help="Seeds of every trial, from 1000 up: results are reported on other seeds.")
    ] = "1000-1002",
    steps: Annotated[
        int | None, typer.Option(help="Environment steps per seed. Default: each task's budget.")
    ] = None,
    preset: Preset = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Fix a hyperparameter in all trials. Repeatable."),
    ] = None,
    space: Annotated[
        Path | None,
        typer.Option(help="What is searched (TOML, docs/tuning.md). Default: the algorithm's own space."),
    ] = None,
    sampler: Annotated[str, typer.Option(help="What proposes trials: tpe or random.")] = "tpe",
    sampler_seed: Annotated[int, typer.Option(help="Seed of the sampler.")] = 0,
    pruner: Annotated[str, typer.Option(help="median: bad trials do not get all seeds; or none.")] = "median",
    batch: Annotated[
        int, typer.Option("--round", help="Trials that are proposed together and trained in parallel.")
    ] = 4,
    estimator: Annotated[
        str, typer.Option(help="How a run becomes a score, as in the [report] table of a sweep.")
    ] = "mean_of_last_ten",
    evaluations: Annotated[
        int, typer.Option(help="Number of evaluations, not counting the one at step 0.")
    ] = 50,
    episodes: Annotated[int, typer.Option(help="Episodes per evaluation.")] = 10,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the tuning. Default: tuning/ALGORITHM-TASK.")
    ] = None,
    pack: Pack = 10,
    jobs: Jobs = 0,
    device: Device = "cpu",
    checkpoint_seconds: CheckpointSeconds = 60.0,
    slurm: Annotated[
        bool,
        typer.Option(
            "--slurm", help="Train the trials of a round as array tasks, and stay to send the next round."
        ),
    ] = False,
    site: Annotated[
        Path | None,
        typer.Option(
            help="Site configuration for --slurm. Default: slurm.toml in this folder or in ~/.config/ascent."
        ),
    ] = None,
) -> None:
    """Search hyperparameters with Optuna, on seeds that no report takes. Run the command again to resume it.

    The best trial becomes OUT/preset.toml, which --preset and a sweep's `preset` take. All trials are in
    OUT/tuning.json, and their runs in OUT/runs.
    """
    from ascent.records.cell import Evaluation
    from ascent.records.plan import Plan, parse_seeds
    from ascent.reports.tuning import declaration, figure, record, search
    from ascent.reports.tuning.summary import progress, summary
    from ascent.runners import own, spaces
    from ascent.runners.local import train_locally
    from ascent.slurm import training

    system = own.name_of(algorithm)
    tuning = declaration.declare(
        system,
        tasks,
        space=spaces.load(space, system) if space else None,
        fixed=parse_values("--set", settings),
        preset=preset,
        steps=steps,
        evaluation=Evaluation(evaluations, episodes),
        seeds=parse_seeds(seeds),
        trials=trials,
        round=batch,
        sampler=sampler,
        sampler_seed=sampler_seed,
        pruner=pruner,
        estimator=estimator,
    )
    folder = out or Path("tuning") / declaration.default_name(tuning)
    search.quiet()
    log = record.Record(tuning, folder)
    if tuning.start() is None:
        note("the preset is no point of the space, and so none of the trials")
    warn_of_unknown_commit()
    warn_of_missing_kernels()
    settings_of_site = _site(site, folder / "runs") if slurm else None
    log.write([])
    runs, begun, trained = (folder / "runs").resolve(), time.monotonic(), [0]

    def train(plan: Plan) -> None:
        if settings_of_site:
            trained[0] += training.train(plan, folder.resolve().name, settings_of_site, runs)
        else:
            trained[0] += train_locally(plan, runs, pack, jobs, device, checkpoint_seconds)

    before, done = 0, []
    for done in search.search(tuning, runs, train):
        log.write(done)
        if not trained[0]:  # by an earlier call
            before = len(done)
            continue
        seconds = (time.monotonic() - begun) / (len(done) - before) * (tuning.trials - len(done))
        print(progress(tuning, done, seconds), file=sys.stderr, flush=True)
    path = log.finish(done)
    figure.write(tuning, done, folder)
    terminal().print(*summary(tuning, done), sep="\n")
    print(path)


def _site(file: Path | None, runs: Path) -> "Site":
    """Return the settings of a site, checked for a folder of runs."""
    from ascent.slurm import cluster, sites, submit

    if not cluster.available():
        raise cluster.absent("sbatch")
    found, runs = sites.load(file, {}), runs.resolve()
    submit.check(found, runs)
    return found

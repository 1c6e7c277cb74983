"""The command that imports the curves of other libraries."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import RUNS, Runs, TaskOption, group, note, progress_bar

app = group()
UNKNOWN = "unknown"


def _formats() -> Iterable[str]:
    from ascent.reports.imports.recognise import FORMATS

    return FORMATS


@app.command("import")
def import_command(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Files of one format, or folders with them.", metavar="PATH..."),
    ],
    system: Annotated[
        str, typer.Option("--system", "--name", help='Name for the system, such as "SB3 PPO".')
    ],
    task: TaskOption,
    format: Annotated[
        str | None,
        typer.Option("--format", help="Format of the files. Default: recognised.", autocompletion=_formats),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column", "--tag", help="What the returns are: a column, the tag of a scalar, or a key of JSON."
        ),
    ] = None,
    step_column: Annotated[
        str | None, typer.Option(help="Column with the environment steps of the seed so far.")
    ] = None,
    seed_column: Annotated[
        str | None,
        typer.Option(help="Column of a table with the seeds (below 1000). Default: seed, if it has one."),
    ] = None,
    seed_from: Annotated[
        str,
        typer.Option(
            metavar="order|REGEX",
            help="Where a run's seed is from: the order of the files, or the group of a regular "
            "expression that is searched in the name of the run, such as 'seed_(\\d+)'.",
        ),
    ] = "order",
    points: Annotated[
        str | None,
        typer.Option(
            metavar="FIRST:EVERY", help="Steps of the points of an array without steps, such as 0:5000."
        ),
    ] = None,
    interpolate: Annotated[
        tuple[str, int] | None,
        typer.Option(
            metavar="step|linear|mean GRID",
            help="Give seeds with different steps a grid, with a point every GRID steps: the last point "
            "before it, the line between two points, or the mean of the points since the previous one.",
        ),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Training budget per seed. Default: the step of the last evaluation.")
    ] = None,
    environment_version: Annotated[
        str, typer.Option(help="Environment of the curves with its version, such as Hopper-v3.")
    ] = UNKNOWN,
    policy: Annotated[
        str,
        typer.Option(
            metavar="greedy|sampled|training|unknown",
            help="What the returns are of: evaluations of the deterministic policy, evaluations with sampled "
            "actions, or episodes of training.",
        ),
    ] = UNKNOWN,
    episodes: Annotated[
        str, typer.Option(metavar="N|unknown", help="Episodes per point, where the files do not say it.")
    ] = UNKNOWN,
    convention: Annotated[
        str | None,
        typer.Option(
            metavar="mean|sum|unknown",
            help="What the return of a team is: the mean over the agents that the task scores, or the sum "
            "over the agents. Needed for teams.",
        ),
    ] = None,
    algorithm: Annotated[
        str | None,
        typer.Option(help="Algorithm, such as td3, whose published scores the curves are compared with."),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Import the learning curves of another library.

    Reads files of Stable-Baselines3, TensorBoard, CleanRL, W&B, Open RL Benchmark, Spinning Up, Tianshou and
    RLlib, numpy arrays, and CSV tables with the columns seed, step, return.

    Imported curves appear in reports next to Ascent's. They are tested against other cells only if they are
    greedy evaluations, of a known number of episodes, in the task's own version of the environment.
    """
    from ascent.records.errors import InputError
    from ascent.reports.imports.curve import Asked
    from ascent.reports.imports.grid import Interpolation
    from ascent.reports.imports.importing import Stated, import_curves

    if episodes != UNKNOWN and not episodes.isdecimal():
        raise InputError(f"--episodes: {episodes!r} is neither a number nor {UNKNOWN}")
    number = episodes if episodes == UNKNOWN else int(episodes[:9])
    stated = Stated(algorithm, environment_version, policy, number, convention)
    asked = Asked(column, step_column, seed_column, _points(points))
    grid = Interpolation(*interpolate) if interpolate else None
    with progress_bar("reading runs") as tell:
        done = import_curves(paths, system, task, runs, steps, asked, stated, format, seed_from, grid, tell)
    for line in done.notes:
        note(line)
    print(done.folder)


def _points(text: str | None) -> tuple[int, int] | None:
    """Return first and every of FIRST:EVERY."""
    from ascent.records.errors import InputError

    if text is None:
        return None
    first, _, every = text.partition(":")
    if not (first.isdecimal() and every.isdecimal() and len(text) < 30 and int(every) > 0):
        raise InputError(f"--points: {text!r} is not FIRST:EVERY, such as 0:5000")
    return int(first), int(every)

"""Commands that play with the final policies of runs."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import RUNS, Runs, default_folder, group, terminal

app = group()


@app.command()
def robustness(
    cells: Annotated[list[str], typer.Argument(help="Cells (folder, digest or digest prefix) or sweeps.")],
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KIND[=LEVELS]",
            help="Perturbation, such as drop or drop=0.5,0.9. Can be repeated. Default: the full grid.",
        ),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes per seed and level.")] = 10,
    runs: Runs = RUNS,
) -> None:
    """Evaluate final policies under perturbations.

    Already recorded levels are skipped. A cell of the results that ship with the suite is copied to
    --runs first.
    """
    from ascent.records import layout, shelf
    from ascent.records.cell import read_cell
    from ascent.reports.page import robustness as pages
    from ascent.runners import robustness as recorder
    from ascent.runners.sweep import cell_folders

    planned = [
        (shelf.take(folder, runs), recorder.parse_levels(read_cell(folder).task, grid or []))
        for folder in cell_folders(cells, runs)
    ]
    threads = len(os.sched_getaffinity(0))
    with _progress("levels", sum(len(levels) for _, levels in planned)) as advance:
        for folder, levels in planned:
            recorder.record(folder, levels, episodes, threads, advance)
    for folder, levels in planned:
        tables = folder / layout.ROBUSTNESS
        terminal().print(pages.terminal([tables / f"{level.name}.csv" for level in levels], folder.name))
        print(tables)


@app.command()
def export(
    target: Annotated[str, typer.Argument(help="Run or cell (folder, digest or digest prefix).")],
    seed: Annotated[int, typer.Option(help="Seed of a cell.")] = 0,
    onnx: Annotated[Path | None, typer.Option(help="Write an ONNX model to this file.")] = None,
    safetensors: Annotated[Path | None, typer.Option(help="Write the arrays to this file.")] = None,
    runs: Runs = RUNS,
) -> None:
    """Write the final policy of a run for other programs. It acts without exploring."""
    from ascent.records import export as exporting
    from ascent.records import policy
    from ascent.records.errors import InputError

    if onnx is None and safetensors is None:
        raise InputError("name a file: --onnx FILE or --safetensors FILE")
    loaded = policy.load(target, seed, runs)
    for path, write in ((onnx, exporting.onnx), (safetensors, exporting.safetensors)):
        if path is not None:
            write(loaded, path)
            print(path)


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(help="Folder of a run: .../seed-0.")],
    perturb: Annotated[
        str | None, typer.Option(metavar="KIND=LEVEL", help="Perturbation, such as drop=0.5.")
    ] = None,
    episode: Annotated[int, typer.Option(help="Episode index, as in the robustness tables.")] = 0,
    step: Annotated[
        int | None, typer.Option(help="Step of a kept policy. Default: the final policy.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="A .gif or .mp4 file. Default: out/watch/TASK-SYSTEM-SEED.gif.")
    ] = None,
) -> None:
    """Record a video of one episode of a run's greedy policy."""
    from rich.console import Console

    from ascent.records.cell import read_cell
    from ascent.records.errors import InputError
    from ascent.runners import policies
    from ascent.runners.robustness import levels_of
    from ascent.runners.watch import film

    seed, cell = policies.seed_of(run), read_cell(run.resolve().parent)
    levels = levels_of(cell.task, perturb) if perturb else []
    if len(levels) > 1:
        example = f"{levels[0].kind}={levels[0].level:g}"
        raise InputError(f"--perturb {perturb}: give one level, such as {example}")
    level = levels[0] if levels else None
    name = f"{cell.task}-{cell.system}-seed-{seed}" + (f"-{level.name}" if level else "")
    target = out or default_folder("watch") / f"{name}.gif"
    with Console(stderr=True).status("filming"):
        score, length = film(run.resolve(), target, level, episode, step)
    print(f"return {score:,.1f} in {length} steps")
    print(target)


@app.command()
def crossplay(
    task: Annotated[str, typer.Argument(help="A competitive task, such as simple_tag_v3.")],
    runs: Runs = RUNS,
    systems: Annotated[
        str | None,
        typer.Option(help="Systems or digests of cells, such as maddpg,ippo. Default: all that have runs."),
    ] = None,
    seeds: Annotated[
        str | None,
        typer.Option(help="Seeds, such as 0-9. Default: all; then every cell must have the same ones."),
    ] = None,
    episodes: Annotated[int, typer.Option(help="Episodes per pair of cells and seed.")] = 100,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the tables and figures. Default: out/crossplay-TASK.")
    ] = None,
) -> None:
    """Evaluate the adversaries of every system against the agents of every system, seed by seed.

    A report of --runs shows the latest table of a task.
    """
    from rich.console import Console

    from ascent.records.errors import InputError
    from ascent.records.plan import parse_seeds
    from ascent.reports.page import crossplay as pages
    from ascent.runners import crossplay as recorder

    trained = recorder.find(task, runs, systems.split(",") if systems is not None else ())
    chosen = parse_seeds(seeds) if seeds is not None else None
    with _progress("pairs", len(trained) ** 2) as advance:
        content = recorder.record(trained, episodes, chosen, advance)
    folder = out or default_folder(f"crossplay-{task}")
    try:
        records, matrices = pages.write(content, folder)
    except ValueError as error:
        raise InputError(str(error)) from error
    kept = recorder.keep(content, task, runs)
    console = Console(width=200, markup=False, emoji=False)
    for table in map(pages.terminal, matrices):
        width = max(200, console.measure(table).maximum)  # never cut a column; a terminal may wrap it
        console.print(table, "", width=width, crop=False)
    print(pages.caption(records))
    if kept:
        print(kept)
    print(folder)


@contextmanager
def _progress(name: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a progress bar on standard error if it is a terminal; yield the function that advances it."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(name, total=total)
        yield lambda: progress.advance(bar)

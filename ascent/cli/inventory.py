"""`ascent runs list`, `show`, `why`, `tensorboard`, and `ascent serve`: what a folder of records holds."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ascent.cli.options import RUNS, Runs, default_folder, group, terminal
from ascent.cli.runs import commands, counted

if TYPE_CHECKING:
    from ascent.records.inventory import Listed

app = group()

Cells = Annotated[
    list[str] | None,
    typer.Argument(
        help="Folders or digests of cells, or a sweep. Default: all in --runs.", metavar="[CELL]..."
    ),
]


@commands.command("list")
def list_command(
    cells: Cells = None,
    runs: Runs = RUNS,
) -> None:
    """List cells: states of their runs, progress, size, last change, and the plans that have them."""
    from rich.table import Table

    from ascent.records.errors import one_line
    from ascent.records.inventory import inventory
    from ascent.records.plan import seed_ranges

    listed = inventory(runs, chosen(cells, runs) if cells else None)
    table = Table(box=None, pad_edge=False)
    for column in ("cell", "seeds", "runs", "steps", "size", "changed", "plans"):
        side: Literal["left", "right"] = "right" if column in ("steps", "size") else "left"
        table.add_column(column, justify=side, no_wrap=column != "runs", overflow="fold")  # a fault is long
    for cell in listed:
        sealed = f", {len(cell.sealed)} sealed" if cell.sealed else ""
        table.add_row(
            one_line(cell.name),
            seed_ranges(list(cell.states)),
            one_line(cell.fault) or f"{cell.words()}{sealed}",
            "" if cell.fault else f"{100 * cell.share:.0f}%",
            size(cell.size),
            _time(cell.changed),
            _plans(cell),
        )
    terminal().print(table)
    total = sum(cell.size for cell in listed)
    number = sum(len(cell.states) for cell in listed)
    print(f"\n{counted(len(listed), 'cell')}, {counted(number, 'run')}, {size(total)}")


@commands.command()
def show(
    cell: Annotated[str, typer.Argument(help="Folder or digest of a cell.")],
    runs: Runs = RUNS,
) -> None:
    """Show a cell: what was trained, every run with its state, and what failed."""
    from rich.table import Table

    from ascent.records import layout
    from ascent.records.cell import find, read_cell, setting
    from ascent.records.inventory import inventory
    from ascent.records.store import Store
    from ascent.runners.why import recorded

    folder = find(cell, runs)
    described, facts = read_cell(folder), recorded(folder)
    (listed,) = inventory(runs, [folder])
    evaluation = described.evaluation
    print(folder)
    print(f"{described.system}, {setting(described.preset, facts.get('changed') or {})}, on {described.task}")
    print(f"{described.steps:,} steps, {evaluation.points} evaluations of {evaluation.episodes} episodes")
    print("versions: " + ", ".join(f"{name} {number}" for name, number in described.versions.items()))
    print(
        f"{listed.words()}; {size(listed.size)}; plans: {', '.join(listed.plans) or 'none in the ledger'}\n"
    )
    table = Table(box=None, pad_edge=False)
    for column in ("seed", "state", "step", "score", "attempts", "began", "commit", "last failure"):
        table.add_column(column, justify="right" if column in ("seed", "step", "score") else "left")
    store = Store(folder)
    for seed, state in listed.states.items():
        about = store.json(seed, layout.RUN) if store.has(seed, layout.RUN) else {}
        attempts = about.get("attempts") or [{}]
        last = _last(store, seed)
        table.add_row(
            str(seed),
            state + (", sealed" if seed in listed.sealed else ""),
            f"{last['step']:,}" if "step" in last else "",
            f"{last['score']:.4g}" if last.get("score") is not None else "",
            str(len(attempts)),
            str(attempts[0].get("started", "")),
            str(about.get("commit") or "")[:7] + (" + changes" if about.get("dirty") else ""),
            str(attempts[-1].get("failure", "")),
        )
    terminal().print(table)


@commands.command()
def why(
    cell: Annotated[str, typer.Argument(help="Folder or digest of a cell.")],
    other: Annotated[
        str | None,
        typer.Argument(
            help="Another cell, or a sweep, of which the most similar cell counts. Default: what this "
            "version trains with the cell's settings."
        ),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Say why two cells are not one, or why a cell is not resumed: every setting in which they differ."""
    from rich.table import Table

    from ascent.records.cell import find, read_cell
    from ascent.records.errors import differences
    from ascent.runners import sweep
    from ascent.runners import why as reasons

    folder = find(cell, runs)
    before, name = reasons.recorded(folder), folder.name
    made: list[dict[str, Any]] = []
    if other is None:
        after, second = reasons.now(folder), "this version"
    elif _is_sweep(other):
        after = reasons.nearest(folder, [planned.cell for planned in sweep.load(other).planned])
        second = f"{other}: {after['system']}-{after['preset']}-{after['digest']}"
    else:
        place = _other(other, runs)
        after, second = reasons.recorded(place), place.name
        made = [reasons.made_by(folder), reasons.made_by(place)]
    found = reasons.unlike(before, after)
    if found:
        table = Table("setting", name, second, "", box=None, pad_edge=False)
        for one in found:
            table.add_row(one.name, str(one.one), str(one.other), "" if one.counts else "makes no other cell")
        terminal().print(table, "")
    print(reasons.explain(found))
    if made and (provenance := differences(*made)):
        print(f"made differently, which makes no other cell: {provenance}")
    if other is None and not any(one.counts for one in found):
        for line in reasons.obstacles(folder, read_cell(folder)):
            print(f"not resumed: {line}")


@commands.command()
def tensorboard(
    cells: Cells = None,
    runs: Runs = RUNS,
    out: Annotated[
        Path | None, typer.Option(help="Folder for TensorBoard's --logdir. Default: out/tensorboard.")
    ] = None,
) -> None:
    """Write the curves of runs as event files of TensorBoard, as far as they are recorded."""
    from ascent.records.errors import InputError
    from ascent.records.store import cell_names
    from ascent.reports.mirror import tensorboard as mirror

    mirror.check_installed()
    folders = chosen(cells, runs) if cells else [runs / name for name in cell_names(runs)]
    place = out or default_folder("tensorboard")
    if not (number := mirror.write(folders, place)):
        raise InputError(f"there are no runs with evaluations in {runs}")
    print(f"{place}: {counted(number, 'run')}")


@app.command()
def serve(
    source: Annotated[
        str | None, typer.Argument(help="A sweep or its manifest. Default: all cells in --runs.")
    ] = None,
    runs: Runs = RUNS,
    port: Annotated[int, typer.Option(help="Port on 127.0.0.1. 0: any that is free.")] = 8000,
) -> None:
    """Show the progress of training in a browser on this machine: a page that refreshes itself.

    It has progress, time left, evaluations so far and problems. It is read-only, bound to 127.0.0.1, and
    loads nothing from anywhere. Stop it with Ctrl-C.
    """
    from ascent.reports.live import page
    from ascent.reports.live.serve import ADDRESS, server
    from ascent.reports.staged import planned_now
    from ascent.slurm import manifest

    if source is None:
        page.in_folder(runs)  # else an error would be shown to nobody

        def make() -> str:
            planned, problems = page.in_folder(runs)
            return page.render(f"Runs in {runs}", planned, runs, problems)
    else:
        sweep = manifest.open_sweep(source, runs)

        def make() -> str:
            return page.render(sweep.title, planned_now(sweep.plan, runs), runs)

    with server(make, page.STYLE, port) as served:
        print(f"http://{ADDRESS}:{served.server_port}/", flush=True)
        served.serve_forever()


def _other(other: str, runs: Path) -> Path:
    """Return the folder of the second cell. Raises InputError that names sweeps, too."""
    from ascent.records.cell import find
    from ascent.records.errors import InputError, unknown
    from ascent.runners import sweep

    try:
        return find(other, runs)
    except InputError as error:
        near = unknown("cell or sweep", other, sweep.names())
        raise near if "did you mean" in str(near) else error from error


def chosen(cells: Sequence[str], runs: Path) -> list[Path]:
    """Return the folders of cells, given their folders or digests, or sweeps whose cells are there."""
    from ascent.records.cell import find
    from ascent.records.errors import InputError
    from ascent.runners import sweep

    folders: list[Path] = []
    for name in cells:
        if _is_sweep(name):
            found = [planned.cell.folder(runs) for planned in sweep.load(name).planned]
            if not (there := [folder for folder in found if folder.is_dir()]):
                raise InputError(f"{name}: {runs} has none of its cells")
            folders += there
        else:
            folders.append(find(name, runs))
    return list(dict.fromkeys(folders))


def _is_sweep(name: str) -> bool:
    """Return whether a name is that of a sweep, or of a sweep's file."""
    from ascent.runners import sweep

    return name.endswith(".toml") or name in sweep.names()


def size(number: int) -> str:
    """Return a number of bytes for readers."""
    units = ("B", "kB", "MB", "GB")
    power = next((k for k in range(len(units)) if number < 1000 ** (k + 1)), len(units) - 1)
    return f"{number / 1000**power:,.{1 if power else 0}f} {units[power]}"


def _last(store: Any, seed: int) -> dict[str, Any]:
    """Return what the last record of a run says of its step and its score."""
    from ascent.records.errors import InputError
    from ascent.records.progress import run_progress

    try:
        _, record = run_progress(store, seed)
    except InputError:
        return {}
    step, score = record.get("step", record.get("steps")), record.get("score")
    return {
        "step": step if isinstance(step, int) else 0,
        "score": score if isinstance(score, int | float) else None,
    }


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _plans(cell: "Listed") -> str:
    return ", ".join(cell.plans[:2]) + (f" and {len(cell.plans) - 2} more" if len(cell.plans) > 2 else "")

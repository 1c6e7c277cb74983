"""Commands that run a sweep on a SLURM cluster."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import (
    RUNS,
    KeepCheckpoint,
    Runs,
    Sweep,
    default_folder,
    group,
    note,
    terminal,
    warn_of_unknown_commit,
)

app = group()
Cells = Annotated[
    list[str] | None,
    typer.Option(
        "--cell",
        help="Only these cells: a system's name, a digest, or words of labels such as ppo or 'Hopper-v5 ppo'."
        " Repeatable.",
    ),
]


@app.command()
def plan(name_or_file: Sweep, runs: Runs = RUNS) -> None:
    """Resolve a sweep into a manifest, so that a login node without torch can submit it. This needs torch."""
    from ascent.records.errors import one_line
    from ascent.slurm import manifest

    planned = manifest.current(name_or_file, runs)
    if planned:
        print(one_line(f"the manifest is up to date: {planned.summary()}"), file=sys.stderr)
    else:
        warn_of_unknown_commit()
        planned = manifest.resolve(name_or_file, runs)
        manifest.write(planned)
        print(one_line(f"planned {planned.summary()}"), file=sys.stderr)
    print(planned.path)


@app.command()
def submit(
    name_or_file: Sweep,
    partition: Annotated[str | None, typer.Option(help="Partition for the training jobs.")] = None,
    account: Annotated[str | None, typer.Option(help="Account to charge.")] = None,
    qos: Annotated[str | None, typer.Option(help="Quality of service.")] = None,
    limit: Annotated[
        str | None,
        typer.Option(
            "--time", help="Time limit per array task, such as 04:00:00. Tasks that reach it are requeued."
        ),
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="GPUs per array task.")] = None,
    packs_per_gpu: Annotated[
        int | None, typer.Option(help="Packs that a GPU trains at a time. Default: 1.")
    ] = None,
    cpus: Annotated[
        int | None,
        typer.Option(help="Cores per array task. Without GPUs, each trains one pack. Default: one per pack."),
    ] = None,
    mem: Annotated[
        str | None, typer.Option(help="Memory per array task, such as 8G. Default: estimated.")
    ] = None,
    pack: Annotated[
        int | None, typer.Option(help="Seeds per process. 0: chosen by algorithm and device.")
    ] = None,
    exclude: Annotated[str | None, typer.Option(help="Nodes to stay away from, such as node[3-4].")] = None,
    chain: Annotated[
        int | None,
        typer.Option(help="Further jobs that go on at the time limit, where nothing can be requeued."),
    ] = None,
    max_parallel: Annotated[
        int | None, typer.Option(help="Maximum number of array tasks that run at once. 0: no limit.")
    ] = None,
    setup: Annotated[
        str | None,
        typer.Option(help="Shell script run at the start of a job, to activate the Python environment."),
    ] = None,
    container: Annotated[
        str | None, typer.Option(help="Apptainer image in which jobs run: its `python` has this package.")
    ] = None,
    template: Annotated[str | None, typer.Option(help="Job script template.")] = None,
    site: Annotated[
        Path | None,
        typer.Option(
            help="Site configuration (TOML). Default: slurm.toml in this folder or in ~/.config/ascent."
        ),
    ] = None,
    keep_checkpoint: KeepCheckpoint = False,
    out: Annotated[Path | None, typer.Option(help="Folder for the report. Default: out/NAME.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the scripts and the plan; submit nothing.")
    ] = False,
    cells: Cells = None,
    failed: Annotated[
        str | None,
        typer.Option(help="Only runs that have failed for a reason with these words. '': for any reason."),
    ] = None,
    feed: Annotated[
        bool,
        typer.Option("--feed", help="Stay, and submit the rest as the queue has room (max_queued)."),
    ] = False,
    check: Annotated[
        bool,
        typer.Option(
            "--check", help="Submit no run: ask SLURM about the jobs, and try a node with a job of a minute."
        ),
    ] = False,
    runs: Runs = RUNS,
) -> None:
    """Submit the missing runs of a sweep and its report to SLURM.

    Queued runs are skipped. A final job builds the report when all runs have ended. Of a sweep with a design,
    the runs of its stage are submitted; --feed stays for the next stage, and otherwise the next call submits
    it. With --check, exit code 0 if everything is ready, else 1.
    """
    from ascent.slurm import checking, cluster, manifest, sites
    from ascent.slurm import submit as submission
    from ascent.slurm.planning import Chosen, Plan

    options = {
        "partition": partition,
        "account": account,
        "qos": qos,
        "time": limit,
        "gpus": gpus,
        "packs_per_gpu": packs_per_gpu,
        "cpus": cpus,
        "mem": mem,
        "pack": pack,
        "exclude": exclude,
        "chain": chain,
        "max_parallel": max_parallel,
        "setup": setup,
        "container": container,
        "template": template,
        "keep_checkpoint": keep_checkpoint or None,  # else as slurm.toml says
    }
    settings, runs = sites.load(site, options), runs.resolve()
    if not cluster.available():
        if not dry_run:
            raise cluster.absent("sbatch")
        note("sbatch is not on the PATH: the queue and the partitions are unknown")
    if names := cluster.ignored():
        note(f"no effect: {', '.join(names)}; use slurm.toml or options")
    submission.check(settings, runs)
    planned = manifest.find(name_or_file, runs) or manifest.resolve(name_or_file, runs)
    warn_of_unknown_commit()
    chosen = Chosen(tuple(cells or ()), failed)
    page = (out or default_folder(planned.path.parent.name)).resolve()
    if check:
        from rich.console import Console

        console = Console(stderr=True)
        with console.status("asking SLURM") as line:
            rows = checking.check(planned, settings, runs, page, line.update)
        terminal().print(checking.render(rows))
        raise typer.Exit(0 if all(row.good for row in rows) else 1)
    if dry_run:
        print(submission.preview(planned, settings, runs, page, chosen))
        return

    def tell(sent: Plan) -> None:
        for line in sent.notes():
            note(line)
        print(sent.summary(), flush=True)

    if feed:
        submission.feed(planned, settings, runs, page, tell, chosen)
    else:
        tell(submission.send(planned, settings, runs, page, chosen=chosen))
    if not checking.has_passed(settings, runs):
        note("no check of this site has passed: try `ascent submit ... --check`")


@app.command()
def status(
    name_or_file: Sweep,
    runs: Runs = RUNS,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh until no run is pending or running.")
    ] = False,
    efficiency: Annotated[
        bool,
        typer.Option(
            "--efficiency", help="Show instead what the jobs asked, used and lost: core-hours and memory."
        ),
    ] = False,
) -> None:
    """Show the progress of a sweep. Exit code 0 if it is complete, else 1."""
    from rich.live import Live

    from ascent.slurm import efficiency as used
    from ascent.slurm import manifest
    from ascent.slurm.planning import at_stage
    from ascent.slurm.status import look

    runs = runs.resolve()
    plan, changed = manifest.as_planned(name_or_file, runs)
    planned, stage = at_stage(plan, runs)
    name, console = manifest.folder(name_or_file, runs).name, terminal()
    if efficiency:
        console.print(used.render(*used.measure(planned, runs, name)))
        return
    state = look(planned, runs, name)
    if watch:
        with Live(state.render(), console=console, auto_refresh=False) as live:
            while state.active:
                time.sleep(5)
                state = look(planned, runs, name)
                live.update(state.render(), refresh=True)
    else:
        console.print(state.render())
    if stage:
        print(stage, file=sys.stderr)
    if changed:
        note(changed)
    raise typer.Exit(0 if state.finished else 1)


@app.command()
def cancel(
    name_or_file: Sweep,
    cells: Cells = None,
    failed: Annotated[
        str | None,
        typer.Option(help="Only cells of which a run has failed for a reason with these words."),
    ] = None,
    runs: Runs = RUNS,
) -> None:
    """Cancel the jobs of a sweep. `ascent submit` resumes their runs from the last checkpoints."""
    from ascent.slurm import cancelling
    from ascent.slurm.planning import Chosen

    jobs, mixed = cancelling.cancel(name_or_file, runs.resolve(), Chosen(tuple(cells or ()), failed))
    print(f"cancelled {jobs} jobs" if jobs else "nothing to cancel")
    if mixed:
        note(f"{mixed} array tasks stay: they train other cells, too")

"""The front door: the command line, and nothing else."""

import os
import signal
import sys
import time
import tomllib
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=__doc__,
)

STOPPED = 130  # exit code of a command that was interrupted

Out = Annotated[Path, typer.Option("--out", help="folder of run records")]
Pack = Annotated[
    int, typer.Option("--pack", help="seeds trained in one process; on the CPU results do not depend on it")
]
Jobs = Annotated[int, typer.Option("--jobs", help="processes at a time; 0: one per core, one for a GPU")]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda")]
Save = Annotated[float, typer.Option("--checkpoint-seconds", help="time between checkpoints")]
Keep = Annotated[
    int, typer.Option("--keep-policies", help="policies of every so many evaluations; 0: the final one alone")
]


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="algorithms, tasks or sweeps; everything if left out")] = "",
) -> None:
    """What there is: algorithms with their presets, tasks, sweeps."""
    from importlib.metadata import version

    from gymnasium.spaces.utils import flatdim
    from rich.console import Console
    from rich.table import Table

    from ascent import suites
    from ascent.algorithms import SYSTEMS
    from ascent.records.errors import unknown
    from ascent.runners import sweep

    if what not in ("", "algorithms", "tasks", "sweeps"):
        raise unknown("list", what, ("algorithms", "tasks", "sweeps"))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    if what in ("", "algorithms"):
        table = Table("algorithm", "presets", "about", box=None, pad_edge=False)
        for name, system in SYSTEMS.items():
            module = system.module()
            table.add_row(name, ", ".join(module.PRESETS), system.about)
        console.print(table, "")
    if what in ("", "tasks"):
        table = Table(box=None, pad_edge=False)
        table.add_column("task", no_wrap=True)
        for column in ("observations", "actions", "horizon", "steps", "random", "reference"):
            table.add_column(column, justify="right")
        for name, spec in suites.TASKS.items():
            seen = spec.observation_space if spec.team else [spec.observation_space]
            own = spec.action_space if spec.team else [spec.action_space]
            actions = "+".join(str(space.n if spec.bounds is None else flatdim(space)) for space in own)
            low, high = spec.bounds or (None, None)
            actions += " choices" if low is None else f" in [{low.min():g}, {high.max():g}]"
            observed = "+".join(str(space.shape[0]) for space in seen)
            sizes = (observed, actions, f"{spec.horizon:,}", f"{spec.budget:,}")
            scores = (f"{spec.random_score:,.2f}", f"{spec.reference_score:,.2f}")
            table.add_row(name, *sizes, *scores)
        console.print(table)
        print(
            "+: of the agents of a team; steps: default budget; random: score of the uniform random policy; "
            "reference: normalised score 1"
        )
        for suite in suites.SUITES:
            packages = {
                name for spec in suites.TASKS.values() if spec.suite == suite for name in spec.packages
            }
            versions = [f"{package} {version(package)}" for package in sorted(packages)]
            print(f"suite {suite}: version {suites.version(suite)}, {', '.join(versions)}")
        print()
    if what in ("", "sweeps"):
        table = Table("sweep", "runs", "about", box=None, pad_edge=False)
        for name in sweep.names():
            loaded = sweep.load(name)
            table.add_row(name, str(sum(len(plan.seeds) for plan in loaded.planned)), loaded.title)
        console.print(table)


@app.command()
def train(
    algorithm: Annotated[str, typer.Argument(help="a name from `ascent list algorithms`")],
    task: Annotated[str, typer.Argument(help="a name from `ascent list tasks`")],
    seeds: Annotated[
        str, typer.Option(help="such as 0-9 or 0,2,5-7; from 1000 up they are for tuning")
    ] = "0-9",
    steps: Annotated[
        int | None, typer.Option(help="environment steps per seed; the task's budget if left out")
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="settings; those for the task's suite if left out")
    ] = None,
    changes: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="a hyper-parameter")
    ] = None,
    evaluations: Annotated[int, typer.Option(help="evaluations over the budget")] = 50,
    episodes: Annotated[int, typer.Option(help="episodes at each evaluation")] = 10,
    pack: Pack = 10,
    jobs: Jobs = 0,
    device: Device = "cpu",
    out: Out = Path("runs"),
    checkpoint_seconds: Save = 60.0,
    keep_policies: Keep = 0,
    stream: Annotated[
        str | None, typer.Option("--wandb", metavar="live", help="live: stream the records to W&B meanwhile")
    ] = None,
    wandb_project: Annotated[str | None, typer.Option(help="for that; WANDB_PROJECT if left out")] = None,
) -> None:
    """Train one algorithm on one task. Finished runs stay, interrupted ones go on exactly where they were."""
    from ascent.records.cell import Evaluation
    from ascent.records.errors import unknown
    from ascent.records.plan import Planned, parse_seeds
    from ascent.runners.resolve import resolve

    if stream not in (None, "live"):
        raise unknown("value of --wandb", stream, ("live",))
    overrides = dict(_assignment(text) for text in changes or [])
    wanted = parse_seeds(seeds)
    evaluation = Evaluation(evaluations, episodes)
    cell = resolve(algorithm, task, preset=preset, overrides=overrides, steps=steps, evaluation=evaluation)
    with _streamed(cell, wanted, out, wandb_project) if stream else nullcontext():
        _run([Planned(cell, wanted)], out, pack, jobs, device, checkpoint_seconds, keep_policies)
    print(cell.folder(out))


@app.command()
def sweep(
    name_or_file: Annotated[str, typer.Argument(help="a name from `ascent list sweeps`, or a TOML file")],
    pack: Pack = 10,
    jobs: Jobs = 0,
    device: Device = "cpu",
    out: Out = Path("runs"),
    checkpoint_seconds: Save = 60.0,
    keep_policies: Keep = 0,
) -> None:
    """Train what is missing of a sweep. The same command again goes on where it was stopped."""
    from ascent.runners import sweep as sweeps

    loaded = sweeps.load(name_or_file)
    _run(loaded.planned, out, pack, jobs, device, checkpoint_seconds, keep_policies)


@app.command()
def plan(
    name_or_file: Annotated[str, typer.Argument(help="a sweep")],
    out: Out = Path("runs"),
) -> None:
    """Write the manifest of a sweep, where torch is, so that it can be submitted where torch is not."""
    from ascent.slurm import manifest

    made = manifest.resolve(name_or_file, out)
    manifest.write(made)
    print(f"{made.runs} runs of {len(made.planned)} cells are planned", file=sys.stderr)
    print(made.path)


@app.command()
def submit(
    name_or_file: Annotated[str, typer.Argument(help="a sweep")],
    partition: Annotated[str | None, typer.Option(help="where the runs train")] = None,
    account: Annotated[str | None, typer.Option(help="whom the cluster charges")] = None,
    qos: Annotated[str | None, typer.Option(help="quality of service")] = None,
    limit: Annotated[
        str | None, typer.Option("--time", help="of an array task, which is requeued when it is up")
    ] = None,
    gpus: Annotated[int | None, typer.Option(help="per array task: a pack on each")] = None,
    cpus: Annotated[int | None, typer.Option(help="per array task: a pack on each, without GPUs")] = None,
    mem: Annotated[str | None, typer.Option(help="per array task; what it may need if left out")] = None,
    pack: Annotated[
        int | None, typer.Option(help="seeds in one process; 0: as suits algorithm and device")
    ] = None,
    max_parallel: Annotated[int | None, typer.Option(help="array tasks at a time; 0: no limit")] = None,
    setup: Annotated[
        str | None, typer.Option(help="file of shell lines that activate the environment")
    ] = None,
    template: Annotated[str | None, typer.Option(help="job script in place of slurm/job.sh.jinja")] = None,
    site: Annotated[
        Path | None, typer.Option(help="TOML file of such settings; slurm.toml here or in ~/.config/ascent")
    ] = None,
    report: Annotated[Path | None, typer.Option(help="where the report goes; out/NAME if left out")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="print the scripts and the plan only")] = False,
    out: Out = Path("runs"),
) -> None:
    """Send what is missing of a sweep to a SLURM cluster, with a job that makes the report in the end."""
    from ascent.slurm import manifest, sites
    from ascent.slurm import submit as submission

    options = {"partition": partition, "account": account, "qos": qos, "time": limit, "gpus": gpus}
    options |= {"cpus": cpus, "mem": mem, "pack": pack, "max_parallel": max_parallel, "setup": setup}
    settings, out = sites.load(site, options | {"template": template}), out.resolve()
    submission.check(settings, out)
    planned = manifest.find(name_or_file, out) or manifest.resolve(name_or_file, out)
    page = (report or Path("out") / planned.path.parent.name).resolve()
    act = submission.preview if dry_run else submission.send
    print(act(planned, settings, out, page))


@app.command()
def status(
    name_or_file: Annotated[str, typer.Argument(help="a sweep")],
    out: Out = Path("runs"),
    watch: Annotated[bool, typer.Option("--watch", help="until nothing is pending or running")] = False,
) -> None:
    """How far a sweep is, here and on a cluster. The exit code is 0 when all of it is done, else 1."""
    from rich.console import Console
    from rich.live import Live

    from ascent.slurm import manifest
    from ascent.slurm.status import look

    out = out.resolve()
    planned, note = _planned(name_or_file, out)
    console = Console() if sys.stdout.isatty() else Console(width=200)
    now = look(planned, out, manifest.folder(name_or_file, out).name)
    if watch:
        with Live(now.render(), console=console, auto_refresh=False) as live:
            while now.moves:
                time.sleep(5)
                now = look(planned, out, manifest.folder(name_or_file, out).name)
                live.update(now.render(), refresh=True)
    else:
        console.print(now.render())
    if note:
        print(note, file=sys.stderr)
    raise typer.Exit(0 if now.finished else 1)


@app.command()
def cancel(
    name_or_file: Annotated[str, typer.Argument(help="a sweep")],
    out: Out = Path("runs"),
) -> None:
    """Take a sweep's jobs out of the cluster's queue; `ascent submit` goes on from their checkpoints."""
    from ascent.slurm import cluster, manifest, submission

    out = out.resolve()
    manifest.latest(name_or_file, out)  # refuses the folder of another sweep
    sweep = manifest.folder(name_or_file, out).name
    names = [*submission.names(out, sweep), *submission.reports(out, sweep)]
    jobs = {task.job for task in cluster.queue(names)}
    if jobs:
        cluster.client("scancel", *sorted({job.partition("_")[0] for job in jobs}))
    print(f"{len(jobs)} array tasks and jobs are cancelled" if jobs else "nothing is in the queue")


@app.command()
def report(
    source: Annotated[
        str, typer.Argument(help="a sweep, its manifest, a folder of run records, or a bundle")
    ],
    runs: Annotated[Path, typer.Option(help="folder of run records, for a sweep")] = Path("runs"),
    out: Annotated[Path | None, typer.Option(help="where the report goes; out/NAME if left out")] = None,
) -> None:
    """Make the report of a sweep, or of all the runs in a folder: an HTML page, figures, tables."""
    from ascent import reports
    from ascent.records.errors import InputError

    try:
        if source.endswith(".zip"):
            from ascent.reports.checking import bundle

            with bundle.opened(Path(source)) as unpacked:
                about = bundle.provenance(unpacked / "report")
                page = reports.rebuild(about, unpacked / "runs", out or Path("out") / Path(source).stem)
        elif Path(source).is_dir():
            folder = out or Path("out") / Path(source).resolve().name
            page = reports.build(Path(source), folder, title=f"Runs in {Path(source).name}")
        else:
            found, expected = _sweep_of(source, runs)
            folder = out or Path("out") / found.name
            page = reports.build(runs, folder, expected, found.title, found.declared)
    except ValueError as error:
        raise InputError(str(error)) from error
    print(page)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="a folder of run records, a cell's, a run's, or a bundle")],
    sweep: Annotated[
        str | None, typer.Option(help="a sweep or its manifest: exactly its cells and seeds must be there")
    ] = None,
) -> None:
    """Whether run records may be reported or contributed, rule by rule. The exit code is 0 if so, else 1."""
    from rich.console import Console

    from ascent.reports.checking import bundle
    from ascent.reports.checking import check as checks

    console = Console() if sys.stdout.isatty() else Console(width=200)
    with bundle.records(folder) as records:
        planned = _sweep_of(sweep, records)[0].planned if sweep else None
        outcomes = checks.check(records, planned)
    console.print(checks.render(outcomes))
    raise typer.Exit(0 if checks.passed(outcomes) else 1)


@app.command()
def verify(
    target: Annotated[Path, typer.Argument(help="the folder of a report, a cell or a run, or a bundle")],
    depth: Annotated[
        str, typer.Option(help="records: look; start: train the first steps again; whole: train all again")
    ] = "records",
    steps: Annotated[
        int | None, typer.Option(help="how far `start` trains; two evaluations if left out")
    ] = None,
    runs: Annotated[Path, typer.Option(help="folder of run records, for a report")] = Path("runs"),
    install: Annotated[
        bool, typer.Option("--install", help="make an environment with the recorded packages where needed")
    ] = False,
) -> None:
    """Whether a result comes out again. Training runs the recorded sources: it runs their code.

    The exit code is 0 if it does, 1 if something differs, 2 if it cannot be verified here.
    """
    from rich.console import Console

    from ascent.reports.checking import verify as verification

    console = Console() if sys.stdout.isatty() else Console(width=200)
    outcomes = verification.verify(target, depth, steps, runs, install)
    console.print(verification.render(outcomes), soft_wrap=True)
    raise typer.Exit(verification.exit_code(outcomes))


@app.command()
def bundle(
    report: Annotated[Path, typer.Argument(help="the folder of a report")],
    runs: Annotated[Path, typer.Option(help="folder of its run records")] = Path("runs"),
    to: Annotated[Path | None, typer.Option(help="the archive; REPORT.zip if left out")] = None,
) -> None:
    """Pack a report with its records into one file that another machine can check, verify and report from."""
    from ascent.reports.checking import bundle as bundles

    target = to or report.resolve().with_name(f"{report.resolve().name}.zip")
    names = bundles.pack(report, runs, target)
    print(f"{len(names)} files, {target.stat().st_size:,} bytes", file=sys.stderr)
    print(target)


@app.command("import")
def import_command(
    files: Annotated[
        list[Path], typer.Argument(help="one CSV, or one evaluations.npz of Stable-Baselines3 per seed")
    ],
    name: Annotated[str, typer.Option(help='what the system shall be called, such as "SB3 PPO"')],
    task: Annotated[str, typer.Option(help="a name from `ascent list tasks`")],
    steps: Annotated[
        int | None, typer.Option(help="the budget per seed; the last evaluation's step if left out")
    ] = None,
    step_column: Annotated[str, typer.Option(help="environment steps of the seed so far")] = "step",
    seed_column: Annotated[str, typer.Option(help="numbers below 1000")] = "seed",
    return_column: Annotated[str, typer.Option(help="undiscounted, of an evaluation or an episode of it")] = (
        "return"
    ),
    out: Out = Path("runs"),
) -> None:
    """Evaluation curves from another library, as records that a report shows beside those made here.

    The CSV has a row for each seed and evaluation step; with a column `episode`, one for each episode of it.
    All seeds have the same steps. From pandas:

    pd.concat(pd.read_csv(f).assign(seed=k) for k, f in enumerate(logs)).to_csv("curves.csv")

    Episodes of a training log (Monitor's monitor.csv, CleanRL's charts/episodic_return as TensorBoard exports
    it) end at any step. With columns seed, step and return they are first averaged over windows:

    t = log.assign(step=(log.step // 10_000 + 1) * 10_000).groupby(["seed", "step"])["return"].mean()

    and then t.reset_index().to_csv("curves.csv").
    """
    from ascent.reports.importing import import_curves

    columns = {"step_column": step_column, "seed_column": seed_column, "return_column": return_column}
    print(import_curves(files, name, task, out, steps, **columns))


@app.command()
def cite(
    cell: Annotated[str, typer.Argument(help="a cell's folder, or its digest or the start of that")],
    estimator: Annotated[
        str | None, typer.Option(help="how a run becomes a score; mean_of_last_ten if left out")
    ] = None,
    runs: Annotated[Path, typer.Option(help="folder of run records, for a digest")] = Path("runs"),
) -> None:
    """The sentence that puts a cell's score into a paper, how to check it, and BibTeX."""
    from ascent.reports.cite import cite as citation

    print(citation(cell, runs, estimator), end="")


@app.command()
def robustness(
    cells: Annotated[list[str], typer.Argument(help="cells, by folder or start of the digest, or a sweep")],
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="KIND[=LEVELS]", help="such as drop or drop=0.5,0.9; all there is if left out"),
    ] = None,
    episodes: Annotated[int, typer.Option(help="of each seed at each level")] = 10,
    runs: Annotated[Path, typer.Option(help="folder of run records")] = Path("runs"),
) -> None:
    """Final policies under conditions that they were not trained in: plays what is missing of the grid."""
    from rich.console import Console
    from rich.progress import Progress

    from ascent.records.cell import find, read_cell
    from ascent.reports.statistics import robustness as pages
    from ascent.runners import robustness as recorder
    from ascent.runners import sweep as sweeps

    folders = []
    for name in cells:
        if name.endswith(".toml") or name in sweeps.names():
            folders += [plan.cell.folder(runs) for plan in sweeps.load(name).planned]
        else:
            folders.append(find(name, runs))
    planned = [(folder, recorder.parse_levels(read_cell(folder).task, grid or [])) for folder in folders]
    shown, threads = Console(stderr=True), len(os.sched_getaffinity(0))
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as progress:
        bar = progress.add_task("levels", total=sum(len(wanted) for _, wanted in planned))
        for folder, wanted in planned:
            recorder.record(folder, wanted, episodes, threads, lambda: progress.advance(bar))
    console = Console() if sys.stdout.isatty() else Console(width=200)
    for folder, wanted in planned:
        tables = folder / layout.ROBUSTNESS
        console.print(pages.terminal([tables / f"{one.name}.csv" for one in wanted], folder.name))
        print(tables)


@app.command()
def watch(
    run: Annotated[Path, typer.Argument(help="a run's folder: .../seed-0")],
    perturb: Annotated[str | None, typer.Option(metavar="KIND=LEVEL", help="such as drop=0.5")] = None,
    episode: Annotated[int, typer.Option(help="which of the environments of `ascent robustness`")] = 0,
    step: Annotated[int | None, typer.Option(help="of a kept policy; the final one if left out")] = None,
    out: Annotated[
        Path | None, typer.Option(help="a .gif or .mp4; out/watch/TASK-SYSTEM-SEED.gif if left out")
    ] = None,
) -> None:
    """Film an episode of a run's policy, greedy, perturbed if asked."""
    from rich.console import Console

    from ascent.records.cell import read_cell
    from ascent.records.errors import InputError
    from ascent.runners import policies
    from ascent.runners.robustness import parse_levels
    from ascent.runners.watch import film

    seed, cell = policies.seed_of(run), read_cell(run.resolve().parent)
    asked = (parse_levels(cell.task, [perturb])[1:] if perturb else []) or [None]
    if len(asked) != 1:
        raise InputError(f"--perturb {perturb}: give one level, such as {asked[0].kind}={asked[0].level:g}")
    name = f"{cell.task}-{cell.system}-seed-{seed}" + (f"-{asked[0].name}" if asked[0] else "")
    target = out or Path("out") / "watch" / f"{name}.gif"
    with Console(stderr=True).status("filming"):
        score, length = film(run.resolve(), target, asked[0], episode, step)
    print(f"return {score:,.1f} in {length} steps")
    print(target)


@app.command()
def crossplay(
    task: Annotated[str, typer.Argument(help="a competitive task, such as simple_tag_v3")],
    runs: Annotated[Path, typer.Option(help="folder of run records")] = Path("runs"),
    systems: Annotated[
        str | None, typer.Option(help="such as maddpg,ippo, or digests of cells; all that are there")
    ] = None,
    seeds: Annotated[
        str | None, typer.Option(help="such as 0-9; all, which must be the same in all cells, if left out")
    ] = None,
    episodes: Annotated[int, typer.Option(help="of every pair and seed")] = 100,
    out: Annotated[Path | None, typer.Option(help="where it goes; out/crossplay-TASK if left out")] = None,
) -> None:
    """The adversaries that each system trained against the agents that each trained, seed by seed."""
    from rich.console import Console
    from rich.progress import Progress

    from ascent.records import files
    from ascent.records.errors import InputError
    from ascent.records.plan import parse_seeds
    from ascent.reports.page import crossplay as pages
    from ascent.runners import crossplay as recorder

    trained = recorder.find(task, runs, systems.split(",") if systems is not None else ())
    chosen = parse_seeds(seeds) if seeds is not None else None
    shown = Console(stderr=True)
    with Progress(console=shown, transient=True, disable=not shown.is_terminal) as progress:
        bar = progress.add_task("pairs", total=len(trained) ** 2)
        content = recorder.record(trained, episodes, chosen, lambda: progress.advance(bar))
    try:
        records = pages.read(content)
        matrices = pages.matrices(records)
    except ValueError as error:
        raise InputError(str(error)) from error
    made = {**pages.images(matrices), "crossplay.csv": content}  # last: where it is, the others are its own
    folder = out or Path("out") / f"crossplay-{task}"
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in made.items():
        files.write(folder / name, data)
    console = Console(width=200)
    for table in map(pages.table, matrices):
        width = max(200, console.measure(table).maximum)  # a terminal wraps what is wider; nothing is cut
        console.print(table, "", width=width, crop=False)
    print(pages.caption(records))
    print(folder)


wandb_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Mirror results in Weights & Biases."
)
app.add_typer(wandb_app, name="wandb")


@wandb_app.callback()
def wandb_group() -> None:
    """Mirror results in Weights & Biases."""


@wandb_app.command("push")
def wandb_push(
    source: Annotated[str, typer.Argument(help="a sweep, its manifest, or a folder of run records")],
    report: Annotated[Path | None, typer.Option(help="folder of a report, to be mirrored with it")] = None,
    project: Annotated[str | None, typer.Option(help="WANDB_PROJECT if left out")] = None,
    entity: Annotated[str | None, typer.Option(help="WANDB_ENTITY, or the key's own, if left out")] = None,
    offline: Annotated[bool, typer.Option("--offline", help="write offline runs, contact nobody")] = False,
    runs: Annotated[Path, typer.Option(help="folder of run records, for a sweep")] = Path("runs"),
    out: Annotated[Path, typer.Option(help="folder for all that wandb writes")] = Path("out/wandb"),
    timeout: Annotated[float, typer.Option(help="seconds that a run may take until it is there")] = 60.0,
) -> None:
    """Mirror finished runs, and a report, in W&B; what is there already is not sent again."""
    from ascent.records import read as records
    from ascent.records.errors import InputError
    from ascent.reports.mirror import push

    try:
        if Path(source).is_dir():
            folder, cells = Path(source), records.load(Path(source))
        else:
            folder, cells = runs, records.load(runs, _sweep_of(source, runs)[1])
    except ValueError as error:
        raise InputError(str(error)) from error
    print(push.command(cells, folder, report, project, entity, offline, out, timeout))


def _sweep_of(source: str, runs: Path) -> tuple[Any, list]:
    """The sweep meant by a name, a file or a manifest, and the cells and seeds that are expected of it."""
    from ascent.records.errors import InputError, unknown
    from ascent.reports import Expected
    from ascent.runners import sweep as sweeps
    from ascent.slurm import manifest

    found = None
    if source.endswith(".json"):
        found = manifest.read(Path(source))
    elif not source.endswith(".toml") and source not in sweeps.names():
        raise unknown("sweep or folder", source, sweeps.names())
    else:
        with suppress(InputError):  # edited since it was planned: as it is now
            found = manifest.find(source, runs)
        found = found or sweeps.load(source)
    cells = [(plan.cell, plan.seeds) for plan in found.planned]
    return found, [Expected(c.suite, c.task, c.system, c.preset, c.digest, seeds) for c, seeds in cells]


def _planned(name_or_file: str, out: Path) -> tuple[tuple, str]:
    """What a sweep plans, from its manifest where there is one, and what is to be said about that."""
    from ascent.records.errors import InputError
    from ascent.runners import sweep as sweeps
    from ascent.slurm import manifest

    try:
        found, note = manifest.find(name_or_file, out), ""
    except InputError as edited:
        found, note = manifest.latest(name_or_file, out), f"this is the sweep as it was planned: {edited}"
    return (found or sweeps.load(name_or_file)).planned, note


def _streamed(cell: Any, seeds: tuple[int, ...], out: Path, project: str | None) -> AbstractContextManager:
    """Meanwhile a process of its own streams the runs that are not finished to W&B."""
    from ascent.reports.mirror.live import Stream

    missing = [seed for seed in seeds if not cell.is_finished(seed, out)]
    return Stream(cell, missing, out, project) if missing else nullcontext()


def _assignment(text: str) -> tuple[str, object]:
    """A hyper-parameter and its value, written as in TOML; what is no TOML is a string."""
    from ascent.records.errors import InputError

    name, equals, value = text.partition("=")
    if not equals:
        raise InputError(f"--set {text!r}: write KEY=VALUE")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value.strip()


def _run(
    planned: list,
    out: Path,
    pack: int,
    jobs: int,
    device: str,
    checkpoint_seconds: float,
    keep_policies: int,
) -> None:
    """Train what is missing, with a display. Raises InputError with what failed."""
    from ascent.records.errors import InputError
    from ascent.records.plan import jobs_of
    from ascent.records.progress import Display
    from ascent.runners.memory import check_memory
    from ascent.runners.pool import run_pool
    from ascent.runners.train import check_device

    if jobs < 0:
        raise InputError(f"jobs: {jobs} must be at least 0")
    if not 0 <= checkpoint_seconds < float("inf"):
        raise InputError(f"checkpoint-seconds: {checkpoint_seconds} must be at least 0")
    if keep_policies < 0:
        raise InputError(f"keep-policies: {keep_policies} must be at least 0")
    check_device(device)
    missing = jobs_of(planned, out, pack, device, checkpoint_seconds, keep_policies)
    if not missing:
        print("nothing to do: every run is finished", file=sys.stderr)
        return
    workers = jobs or (1 if device == "cuda" else len(os.sched_getaffinity(0)))
    check_memory([(job.cell, len(job.seeds)) for job in missing], device, workers)
    out.mkdir(parents=True, exist_ok=True)
    with Display(planned, out) as display:
        failures = run_pool(missing, workers, display.tick)
    if failures:
        raise InputError("\nerror: ".join(failure.reason for failure in failures))


def main() -> None:
    """Run the command line: one line and exit code 2 for whatever is wrong with the input or the disk."""
    from typer.exceptions import Abort, TyperException

    from ascent.records.errors import InputError

    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # also where the shell started us with it ignored
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except ModuleNotFoundError as error:
        print(f"error: this needs {error.name}, which is not installed here", file=sys.stderr)
        code = 2
    except (TyperException, InputError, OSError) as error:
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        print(f"error: {message}", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, Abort):
        code = STOPPED
    if code == STOPPED:  # typer makes it of an interrupt that it sees itself
        print("stopped; what was recorded stays", file=sys.stderr)
    sys.exit(code)

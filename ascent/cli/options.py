"""What the command files share: options with their completion, and small helpers."""

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from ascent.records.expected import Expected
    from ascent.records.plan import Planned
    from ascent.suites import Foreign

RUNS = Path("runs")  # the default of --runs


def group(about: str | None = None) -> typer.Typer:
    """Return an empty group of commands, with the settings that all groups share."""
    return typer.Typer(
        help=about, no_args_is_help=True, rich_markup_mode=None, pretty_exceptions_enable=False
    )


def terminal() -> "Console":
    """Return a console for standard output; a pipe or a file gets lines of up to 200 characters.

    It takes nothing in a text for markup.
    """
    from rich.console import Console

    width = None if sys.stdout.isatty() else 200
    return Console(width=width, markup=False, emoji=False)


@contextmanager
def progress_bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal. Yields a function that tells how much is done, and of how much."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(bar, completed=done, total=total)


def default_folder(name: str) -> Path:
    """Return the folder for a product whose command was given no --out."""
    return Path("out") / name


def expected(planned: Iterable["Planned"]) -> "list[Expected]":
    """Return the cells and seeds that a report of these plans must contain."""
    from ascent.records.expected import Expected

    return [Expected.planned(plan) for plan in planned]


def note(text: str, kind: str = "note") -> None:
    """Print a line to standard error: "note: ...", with nothing in it that a terminal would act on."""
    from ascent.records.errors import one_line

    print(one_line(f"{kind}: {text}"), file=sys.stderr)


def warn_of_unknown_commit() -> None:
    """Print one line if the records cannot name the commit of this code."""
    from ascent.records import provenance

    if problem := provenance.commit_problem():
        note(problem, "warning")


def warn_of_missing_kernels() -> None:
    """Print one line if torch computes what the kernels would compute faster."""
    from ascent import kernels

    if problem := kernels.missing():
        note(problem, "warning")


def parse_values(option: str, settings: Sequence[str] | None) -> dict[str, object]:
    """Parse an option's KEY=VALUE settings. A value is read as TOML; what is not TOML is a string."""
    import tomllib

    from ascent.records.errors import InputError

    values: dict[str, object] = {}
    for setting in settings or ():
        name, equals, value = setting.partition("=")
        if not equals:
            raise InputError(f"{option} {setting!r}: write KEY=VALUE")
        try:
            values[name.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            values[name.strip()] = value.strip()
    return values


def environment(task: str, env: Sequence[str] | None, wrappers: Sequence[str] | None) -> "Foreign | None":
    """Return what declares the task with these options of a command; None for a task of this project.

    Raises:
        InputError: options that the task does not take, or an invalid value.
    """
    from dataclasses import replace

    from ascent.records.errors import InputError
    from ascent.runners import environments

    declared = environments.declaration(task)
    if declared is None:
        if env or wrappers:
            raise InputError(
                f"{task} takes neither --env nor --wrapper: they are for gym:... and pettingzoo:..."
            )
        return None
    kwargs = {**declared.kwargs, **parse_values("--env", env)}
    try:
        return replace(declared, kwargs=kwargs, wrappers=(*declared.wrappers, *(wrappers or ())))
    except ValueError as error:
        raise InputError(str(error)) from error


def _algorithms() -> Iterable[str]:
    from ascent.algorithms import SYSTEMS

    return SYSTEMS


def _tasks() -> Iterable[str]:
    from ascent.runners import environments

    return environments.valid_names()


def _presets(context: typer.Context) -> Iterable[str]:
    """Return the presets of the algorithm that the command line names."""
    from ascent.algorithms import SYSTEMS
    from ascent.runners import presets

    # While the shell completes an option, Typer leaves the arguments unassigned.
    systems = (SYSTEMS[word] for word in context.args if word in SYSTEMS)
    return next((presets.sources(system.algorithm) for system in systems), ())


def _sweeps() -> Iterable[str]:
    from ascent.runners import sweep

    return sweep.names()


Algorithm = Annotated[
    str,
    typer.Argument(
        help="Name from `ascent list algorithms`, or a file of your own: mine.py or mine.py:Agent.",
        autocompletion=_algorithms,
    ),
]
Task = Annotated[
    str,
    typer.Argument(
        help="Name from `ascent list tasks`, or gym:ID (docs/own-environment.md).", autocompletion=_tasks
    ),
]
EnvOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--env",
        metavar="KEY=VALUE",
        help="A keyword argument of a gym:... or pettingzoo:... environment. Can be repeated.",
    ),
]
Wrappers = Annotated[
    list[str] | None,
    typer.Option(
        "--wrapper",
        metavar="MODULE:NAME",
        help="Wrap a gym:... or pettingzoo:... environment. Can be repeated, the innermost first.",
    ),
]
TaskOption = Annotated[
    str,
    typer.Option("--task", help="Name from `ascent list tasks`.", autocompletion=_tasks),
]
TaskFilter = Annotated[
    str | None,
    typer.Option("--task", help="Only the settings for this task.", autocompletion=_tasks),
]
Preset = Annotated[
    str | None,
    typer.Option(
        "--preset",
        help="Settings of one source. Default: the algorithm's default for the suite.",
        autocompletion=_presets,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        "--against",
        metavar="PRESET",
        help="Show only where the preset differs from this one.",
        autocompletion=_presets,
    ),
]
Sweep = Annotated[
    str,
    typer.Argument(
        metavar="SWEEP",
        help="Name from `ascent list sweeps`, or a TOML file.",
        autocompletion=_sweeps,
    ),
]
Runs = Annotated[Path, typer.Option("--runs", help="Folder of run records.")]
Pack = Annotated[
    int,
    typer.Option("--pack", help="Seeds per process (does not affect results on the CPU)."),
]
Jobs = Annotated[
    int,
    typer.Option("--jobs", help="Processes at a time. 0: one per core (CPU) or one (GPU)."),
]
Device = Annotated[str, typer.Option("--device", help="cpu or cuda.")]
CheckpointSeconds = Annotated[
    float, typer.Option("--checkpoint-seconds", help="Interval between checkpoints, in seconds.")
]
KeepPolicies = Annotated[
    int,
    typer.Option(
        "--keep-policies", help="Also save the policy at every N-th evaluation. 0: the final policy only."
    ),
]
Tensorboard = Annotated[
    bool,
    typer.Option("--tensorboard", help="Write event files to out/tensorboard while training, every 15 s."),
]
KeepCheckpoint = Annotated[
    bool,
    typer.Option("--keep-checkpoint", help="Keep a checkpoint at the end, for `ascent train --extend`."),
]

"""Commands for an algorithm or an environment of one's own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ascent.cli.options import EnvOptions, Wrappers, environment, group, terminal

if TYPE_CHECKING:
    from ascent.suites import Foreign

app = group()
KINDS = ("algorithm",)
PROMISES = {
    "replayable": "the same seed gives the same bytes, in any packing and after any interruption",
    "loose": "it trains, but the same seed need not give the same result, and the record says so",
}


@app.command()
def new(
    kind: Annotated[str, typer.Argument(metavar="algorithm", help="What to begin.")],
    file: Annotated[Path, typer.Argument(help="The file to write, such as mine.py.")],
    nn: Annotated[
        bool, typer.Option("--nn", help="One seed with ordinary torch modules, instead of a seed axis.")
    ] = False,
) -> None:
    """Write the file of a new algorithm, which trains at once."""
    from ascent.records.errors import unknown
    from ascent.runners import own

    if kind not in KINDS:
        raise unknown("kind", kind, KINDS)
    own.begin(file, "torch_nn" if nn else "seed_axis")
    print(file)


@app.command()
def conform(
    target: Annotated[
        str,
        typer.Argument(
            help="An algorithm: a file such as mine.py or mine.py:Agent, or a name; or an environment: "
            "gym:ID, pettingzoo:MODULE, or a task of a package."
        ),
    ],
    env: EnvOptions = None,
    wrapper: Wrappers = None,
    episodes: Annotated[
        int,
        typer.Option(
            help="Of an environment: episodes of the uniform random policy, for its score. 0: none."
        ),
    ] = 0,
) -> None:
    """Test an algorithm as those of the suite are tested, or find out what an environment's results promise.

    The exit code is 1 if the algorithm fails a test, or results with the environment cannot be repeated.
    """
    from ascent import suites
    from ascent.records.errors import InputError

    declared = environment(target, env, wrapper)
    if declared is not None:
        _conform_environment(declared, episodes)
    elif target in suites.TASKS:
        raise InputError(f"{target} is no environment from outside: name one as gym:LunarLander-v3")
    elif env or wrapper or episodes:
        raise InputError(f"--env, --wrapper and --episodes are for environments, which {target} is not")
    else:
        _conform_algorithm(target)


def _conform_environment(declared: "Foreign", episodes: int) -> None:
    from ascent.runners import conform_task as tests

    checks = list(tests.conform(declared))
    _print([(check.name, "", check.grade, check.reason) for check in checks])
    if episodes:
        mean, error = tests.random_score(declared, episodes)
        print(f"random_score = {mean:.6g}  # mean of {episodes:,} episodes, standard error {error:.2g}")
    kind = tests.found(declared, checks)
    print(f"{declared.id} is {kind}: {PROMISES[kind]}")
    if kind == "loose":
        raise typer.Exit(1)


def _conform_algorithm(name: str) -> None:
    from rich.console import Console

    from ascent.runners import conform_algorithm as tests

    with Console(stderr=True).status("") as status:
        checks = list(tests.conform(name, status.update))
    _print([(check.name, check.task, check.grade, check.reason) for check in checks])
    failed = sum(check.grade == tests.FAIL for check in checks)
    passed = sum(check.grade == tests.PASS for check in checks)
    print(f"{passed} passed, {failed} failed, {len(checks) - passed - failed} skipped")
    if failed:
        raise typer.Exit(1)


def _print(rows: list[tuple[str, str, str, str]]) -> None:
    """Print what tests found: name, task, grade, reason."""
    from rich.table import Table
    from rich.text import Text

    styles = {"pass": "green", "FAIL": "bold red"}
    table = Table("test", "task", "", "why", box=None, pad_edge=False)
    for test, task, grade, reason in rows:
        table.add_row(test, task, Text(grade, styles.get(grade, "yellow")), Text(reason))
    terminal().print(table)

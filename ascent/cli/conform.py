"""The command that tests what comes from outside this project."""

from typing import Annotated

import typer

from ascent.cli.options import EnvOptions, Wrappers, environment, group, terminal

app = group()


@app.command()
def conform(
    target: Annotated[
        str, typer.Argument(help="An environment: gym:ID, pettingzoo:MODULE, or a task of a package.")
    ],
    env: EnvOptions = None,
    wrapper: Wrappers = None,
    episodes: Annotated[
        int, typer.Option(help="Episodes of the uniform random policy, for its score. 0: none.")
    ] = 0,
) -> None:
    """Test an environment from outside the suite: whether its results can be repeated and resumed exactly.

    The exit code is 1 if they cannot.
    """
    from ascent.records.errors import InputError
    from ascent.runners import conform_task as tests

    declared = environment(target, env, wrapper)
    if declared is None:
        raise InputError(
            f"{target} is no environment from outside this suite: name one as gym:LunarLander-v3"
        )
    checks = list(tests.conform(declared))
    print_checks([(check.name, check.grade, check.reason) for check in checks])
    if episodes:
        mean, error = tests.random_score(declared, episodes)
        print(f"random_score = {mean:.6g}  # mean of {episodes:,} episodes, standard error {error:.2g}")
    kind = tests.found(declared, checks)
    print(f"{declared.id} is {kind}: {PROMISES[kind]}")
    if kind == "loose":
        raise typer.Exit(1)


PROMISES = {
    "replayable": "the same seed gives the same bytes, in any packing and after any interruption",
    "loose": "it trains, but the same seed need not give the same result, and the record says so",
}


def print_checks(rows: list[tuple[str, str, str]]) -> None:
    """Print what tests found: name, grade, reason."""
    from rich.table import Table
    from rich.text import Text

    styles = {"pass": "green", "FAIL": "bold red"}
    table = Table("test", "", "why", box=None, pad_edge=False)
    for name, grade, reason in rows:
        table.add_row(name, Text(grade, styles.get(grade, "yellow")), Text(reason))
    terminal().print(table)

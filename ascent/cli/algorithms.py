"""Commands for an algorithm of one's own."""

from pathlib import Path
from typing import Annotated

import typer

from ascent.cli.options import group, terminal

app = group()
KINDS = ("algorithm",)


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
    algorithm: Annotated[str, typer.Argument(help="A file, such as mine.py or mine.py:Agent, or a name.")],
) -> None:
    """Run the tests that every algorithm of the suite passes. The exit code is 1 if one fails."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from ascent.runners import conform as tests

    with Console(stderr=True).status("") as status:
        checks = list(tests.conform(algorithm, status.update))
    styles = {tests.PASS: "green", tests.FAIL: "bold red", tests.SKIPPED: "yellow"}
    table = Table("test", "task", "", "why", box=None, pad_edge=False)
    for check in checks:
        table.add_row(check.name, check.task, Text(check.grade, styles[check.grade]), Text(check.reason))
    terminal().print(table)
    failed = sum(check.grade == tests.FAIL for check in checks)
    passed = sum(check.grade == tests.PASS for check in checks)
    print(f"{passed} passed, {failed} failed, {len(checks) - passed - failed} skipped")
    if failed:
        raise typer.Exit(1)

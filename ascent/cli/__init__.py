"""The command line `ascent`."""

import signal
import sys
from io import TextIOWrapper
from typing import Annotated

import typer

from ascent.cli import (
    cluster,
    exchange,
    imports,
    inventory,
    own,
    paper,
    policies,
    results,
    runs,
    shelf,
    train,
    tune,
)
from ascent.cli.options import group

STOPPED = 130  # exit code of an interrupted command

app = group("Train, report and verify reproducible policy-gradient reinforcement learning benchmarks.")
COMMANDS = (train, tune, own, cluster, results, paper, exchange, imports, policies, runs, inventory, shelf)
for commands in COMMANDS:
    app.add_typer(commands.app)


def _print_version(requested: bool) -> None:
    if not requested:
        return
    import ascent
    from ascent.records import provenance

    code = provenance.commit()
    commit = f", commit {str(code['commit'])[:7]}" if code["commit"] else ""
    changes = " + changes" if code["dirty"] else ""
    print(f"ascent {ascent.__version__}{commit}{changes}")
    raise typer.Exit


@app.callback()
def ascent_command(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit."),
    ] = False,
) -> None:
    """Handle the options of `ascent` itself."""


def main() -> None:
    """Run the command line. Anything wrong with the input or the disk gives one line and exit code 2."""
    from typer.exceptions import Abort, TyperException

    from ascent.records.errors import InputError, one_line

    for stream in (sys.stdout, sys.stderr):  # a name that the terminal's encoding lacks is no error
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(
                errors="surrogateescape" if "utf" in stream.encoding.lower() else "backslashreplace"
            )
    # SIGINT also where a shell started this process in the background, with SIGINT ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:  # as under nohup
        signal.signal(signal.SIGHUP, signal.default_int_handler)
    try:
        code = app(standalone_mode=False)
    except ModuleNotFoundError as error:
        message = f"this command needs {error.name}, which is not installed"
        print(f"error: {one_line(message)}", file=sys.stderr)
        code = 2
    except (TyperException, InputError) as error:
        message = error.format_message() if isinstance(error, TyperException) else str(error)
        print(f"error: {one_line(message)}", file=sys.stderr)
        code = 2
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error)
        print(f"error: {one_line(message)}", file=sys.stderr)
        code = 2
    except MemoryError:
        print("error: there is not enough memory", file=sys.stderr)
        code = 2
    except (KeyboardInterrupt, Abort):
        code = STOPPED
    if code == STOPPED:  # Typer returns this code for an interrupt that it caught itself
        print("stopped; recorded progress is kept", file=sys.stderr)
    sys.exit(code)

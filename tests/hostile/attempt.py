"""Run commands in forks of one process that has imported everything, under limits, and judge what they did.

As a script it is that process: a line of JSON in for each command, one out.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple, Self

SECRET = "the-secret-of-this-machine"
MOST_MEMORY = 1 << 30  # bytes, with about half of that for the imports
MOST_SECONDS = 30  # of a processor
MOST_WAIT = 300  # seconds: the machine may be busy
MOST_LINE = 2_500  # characters of an error
MODULES = (
    "ascent.cli", "ascent.reports.checking.bundle", "ascent.reports.checking.verify", "ascent.reports.cite",
    "ascent.reports.imports.importing", "ascent.reports.mirror.push", "ascent.reports.report",
    "ascent.reports.shelf.add", "ascent.runners.crossplay", "ascent.runners.robustness",
    "ascent.runners.sweep", "ascent.runners.watch", "ascent.slurm.status", "ascent.slurm.submit",
)  # fmt: skip


class Tried(NamedTuple):
    """What a command did."""

    code: int
    out: str
    err: str
    seconds: float  # of a processor
    memory: int  # bytes, at its peak


class Commands:
    """The process whose forks run commands."""

    def __enter__(self) -> Self:
        line = [sys.executable, "-m", "tests.hostile.attempt"]
        root = Path(__file__).parents[2]
        self.process = subprocess.Popen(
            line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=root, start_new_session=True
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.communicate()

    def run(self, words: Sequence[str], folder: Path) -> Tried:
        """Run `ascent` with these words in a folder; its output goes to files beside the folder."""
        assert self.process.stdin and self.process.stdout
        print(json.dumps([list(words), str(folder)]), file=self.process.stdin, flush=True)
        return Tried(*json.loads(self.process.stdout.readline()))


def fault(tried: Tried, folder: Path) -> str:
    """What is wrong with how a command met a stranger's files; "" if nothing is.

    Beside `folder` there must be nothing but a secret.txt and the command's output.
    """
    said = tried.out + tried.err
    last = ([""] + [line for line in tried.err.splitlines() if line])[-1]
    if "Traceback" in said or tried.code not in (0, 1, 2):
        return f"exit code {tried.code}: {said[-2000:]}"
    if "not enough memory" in said or tried.memory > MOST_MEMORY:
        return f"{tried.memory >> 20} MiB: {said[-300:]}"
    if SECRET in said:
        return "shows a file from outside"
    if strange := {c for c in said if not c.isprintable() and c != "\n"}:
        return f"control characters {strange}: {said[-500:]!r}"
    if tried.code == 2 and not tried.out and not last.startswith("error: "):
        return f"exit code 2 without a line that says why: {said[-500:]}"
    if len(last) > MOST_LINE:
        return f"a line of {len(last)} characters"
    outside = {path.name for path in folder.parent.iterdir()} - {
        "secret.txt",
        folder.name,
        "stdout",
        "stderr",
    }
    return f"wrote outside of its folder: {outside}" if outside else ""


def _fork(words: list[str], folder: Path) -> Tried:
    out, err = folder.parent / "stdout", folder.parent / "stderr"
    process = os.fork()
    if not process:
        code = 97
        try:
            for stream, path in ((1, out), (2, err)):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644), stream)
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            os.chdir(folder)
            resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS))
            size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (size + 2 * MOST_MEMORY, size + 2 * MOST_MEMORY))
            signal.alarm(MOST_WAIT)
            sys.argv = ["ascent", *words]
            from ascent.cli import main

            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)
    _, status, usage = os.wait4(process, 0)
    told = [path.read_bytes().decode("utf-8", "backslashreplace") for path in (out, err)]
    code = os.waitstatus_to_exitcode(status)
    return Tried(code, *told, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)


def _serve() -> None:
    import importlib

    from ascent import algorithms  # noqa: F401  (before torch: it chooses its mathematical functions)

    for module in MODULES:
        importlib.import_module(module)
    for line in sys.stdin:
        words, folder = json.loads(line)
        print(json.dumps(_fork(words, Path(folder))), flush=True)


if __name__ == "__main__":
    _serve()

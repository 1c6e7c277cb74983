"""Push: mirror finished runs, and a report, in W&B.

Processes (`reports.wandb_client`) do what needs wandb; this one keeps time, and believes none of them. Before
it sends a run it asks the service what it has of it, and sends nothing where that is all. Afterwards it asks
again, and only rows that the service says it has are counted. `pushed.json` remembers what was there then.
"""

import json
import os
import queue
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from reports.mirrored import Mirrored, of_report, of_run, table_cells
from reports.records import Cell
from reports.service import Service, ServiceError, Stored, environment_of, find, ignored
from runners import files
from runners.errors import InputError

LEDGER = "pushed.json"
CLIENT = Path(__file__).with_name("wandb_client.py")
WORKERS = 4  # processes at a time: most of the time of each goes by in waiting
START_SECONDS = 30.0  # that wandb may take to be imported, beside the time-out


def check_installed() -> None:
    """Raises InputError where wandb is not installed."""
    if find_spec("wandb") is None:
        raise InputError("this needs wandb, which is not installed here: pip install 'ascent[wandb]'")


@dataclass
class Outcome:
    """What a push came to. `present` are rows that were there before."""

    rows: int  # in all
    runs: int
    acknowledged: int = 0
    present: int = 0
    finished: int = 0
    failures: list[str] = field(default_factory=list)

    def told(self) -> str:
        return f"{self.acknowledged} of {self.rows} rows, {self.finished} of {self.runs} runs"


def push(
    mirrored: Sequence[Mirrored],
    service: Service | None,
    project: str,
    folder: Path,
    timeout: float,
    tell: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Send what the service does not have yet; with no service, write offline runs to `folder`/wandb.

    `service` has its entity (`Service.known`). All of wandb's files stay below `folder`. `timeout`, in
    seconds, is what a run may take until all of it is acknowledged. `tell` is called ten times a second.

    Raises InputError, with what was acknowledged and what not, at the first run that fails or takes too long;
    the same call again goes on.
    """
    if not 0 < timeout < float("inf"):
        raise InputError(f"timeout: {timeout} must be a number of seconds above 0")
    check_installed()
    folder.mkdir(parents=True, exist_ok=True)
    ledger = _Ledger(folder / LEDGER, f"{service.page} {service.url}" if service else f"offline {project}")
    outcome = Outcome(sum(run.lines for run in mirrored), len(mirrored))
    missing = _missing(mirrored, service, ledger, timeout, outcome)
    waiting: queue.SimpleQueue[Mirrored] = queue.SimpleQueue()
    for run in missing:
        waiting.put(run)
    stop = threading.Event()
    clients = [
        _Client(number, service, project, folder, timeout) for number in range(min(WORKERS, len(missing)))
    ]
    lock = threading.Lock()

    def work(client: _Client) -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                run = waiting.get_nowait()
                try:
                    client.send(run)
                except InputError as error:
                    stop.set()
                    with lock:
                        outcome.failures.append(f"{run.name} ({run.id}): {error}")
                else:
                    with lock:
                        outcome.acknowledged += run.lines
                        outcome.finished += 1
                        ledger.add(run)

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in clients]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
            tell(outcome)
    finally:
        stop.set()
        for client in clients:
            client.kill()
        ledger.write()
    if outcome.failures:
        verb = "acknowledged" if service else "written"
        raise InputError(f"{outcome.failures[0]}; {verb}: {outcome.told()}")
    return outcome


def _missing(
    mirrored: Sequence[Mirrored], service: Service | None, ledger: "_Ledger", timeout: float, outcome: Outcome
) -> list[Mirrored]:
    """Those that are not there, or not wholly. Raises InputError where something else is in their place."""
    stored = service.runs([run.id for run in mirrored], time.monotonic() + timeout) if service else {}
    missing = []
    for run in mirrored:
        remembered, there = ledger.known.get(run.id), stored.get(run.id)
        if there is not None:
            _refuse_other(run, there)
        if service and there is None and remembered:
            raise InputError(
                f"{run.name} ({run.id}) was pushed and is not in {service.page} any more. W&B takes no run "
                f"again that was deleted: push to another project, or, if it lost it, remove {ledger.path}"
            )
        if _complete(run, there) if service else remembered == run.digest:
            outcome.acknowledged += run.lines
            outcome.present += run.lines
            outcome.finished += 1
            ledger.add(run)
        else:
            missing.append(run)
    return missing


def _refuse_other(run: Mirrored, there: Stored) -> None:
    other = there.summary.get("digest")
    if other not in (None, run.digest):
        raise InputError(
            f"{run.name} ({run.id}): W&B has another result in its place, with digest {other}, not "
            f"{run.digest}: push to another project"
        )
    if run.rows and there.rows > run.lines:
        raise InputError(f"{run.name} ({run.id}): W&B has {there.rows} rows of it, the record {run.lines}")


def _complete(run: Mirrored, there: Stored | None) -> bool:
    """Whether the service has a run wholly. The digest comes into its summary once all was handed over."""
    if there is None or there.state != "finished":
        return False
    # The one row of a report is there twice after a second try.
    lines = there.rows == run.lines if run.rows else there.rows > 0
    return lines and all(there.summary.get(key) == value for key, value in run.summary.items())


class _Ledger:
    """What has been pushed to where: the digests of runs by their ids."""

    def __init__(self, path: Path, where: str) -> None:
        self.path, self.where = path, where
        self.content: dict[str, dict[str, str]] = files.read_json(path) if path.exists() else {}
        self.known = self.content.setdefault(where, {})

    def add(self, run: Mirrored) -> None:
        self.known[run.id] = run.digest

    def write(self) -> None:
        if self.known:
            files.write_json(self.path, self.content)


class _Client:
    """A process that runs wandb, started when there is something to send."""

    def __init__(
        self, number: int, service: Service | None, project: str, folder: Path, timeout: float
    ) -> None:
        self.service, self.project, self.folder, self.timeout = service, project, folder, timeout
        self.log = folder / f"client-{number}.log"
        self.process: subprocess.Popen | None = None

    def send(self, run: Mirrored) -> None:
        """Send a run and see that it has arrived. Raises InputError where it has not in time."""
        if self.process is None:
            self._start()
        deadline = time.monotonic() + self.timeout
        job = asdict(run) | {"tables": {name: table_cells(Path(path)) for name, path in run.tables.items()}}
        line = self._exchange(json.dumps(job).encode() + b"\n", deadline)
        if line is None:
            self.kill()
            raise InputError(self._why(run, f"not taken within {self.timeout:g} s"))
        if not line:
            raise InputError(self._why(run, f"wandb's process ended: {_last(self.log)}"))
        answer = json.loads(line)
        if answer["error"]:
            raise InputError(self._why(run, answer["error"]))
        if self.service:
            self._await(run, dict(answer["files"]), deadline)

    def _start(self) -> None:
        entity = (self.service.entity if self.service else None) or ""
        # As a script, which starts in a third of the time: it needs nothing of this package.
        command = [sys.executable, "-P", str(CLIENT), self.project, entity]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, bufsize=0,
                env=environment_of(self.service, self.folder), cwd=self.folder, start_new_session=True,
            )  # fmt: skip
        if self._read(time.monotonic() + START_SECONDS) is None:
            self.kill()
            raise InputError(f"wandb has not started within {START_SECONDS:g} s")

    def _exchange(self, data: bytes, deadline: float) -> bytes | None:
        try:
            self.process.stdin.write(data)
        except BrokenPipeError:
            return b""
        return self._read(deadline)

    def _read(self, deadline: float) -> bytes | None:
        """A line of the process; empty if it has ended, None after `deadline`."""
        line = b""
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                return None
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                return b""
            line += piece
        return line

    def _await(self, run: Mirrored, sent: dict[str, int], deadline: float) -> None:
        """Ask until the service has all of it: it may store with a delay."""
        pause = 0.1
        while True:
            there = self.service.runs([run.id], deadline).get(run.id)
            stored = self.service.files(run.id, deadline) if sent else {}
            lacking = [name for name, size in sent.items() if stored.get(name) != size]
            if _complete(run, there) and not lacking:
                for copy in self.folder.glob(f"wandb/run-*-{run.id}"):  # wandb's own, which nobody needs now
                    shutil.rmtree(copy, ignore_errors=True)
                return
            refused = _refusal(self._run_log(run))
            if refused or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
        had = f"{there.rows if there else 0} of its {run.lines} rows are there"
        if lacking:
            had += f", and {len(sent) - len(lacking)} of its {len(sent)} files"
        raise ServiceError(f"{had}{f', for {refused}' if refused else ''}")

    def _why(self, run: Mirrored, reason: str) -> str:
        refused = _refusal(self._run_log(run))
        return f"{reason} ({refused})" if refused else reason

    def _run_log(self, run: Mirrored) -> Path | None:
        """The log of the newest attempt at a run."""
        found = sorted(self.folder.glob(f"wandb/*run-*-{run.id}/logs/debug-internal.log"))
        return found[-1] if found else None

    def kill(self) -> None:
        """End the process; wandb's service ends with it."""
        if self.process is not None and self.process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def _refusal(log: Path | None) -> str | None:
    """The last failure of an upload that wandb wrote down, if there is one: "HTTP 500 from /files/..."."""
    if log is None:
        return None
    found = None
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            entry: dict[str, Any] = json.loads(line)
            if isinstance(entry.get("status"), int) and entry["status"] >= 400:
                path = "/" + entry.get("url", "").partition("://")[2].partition("/")[2]
                found = f"HTTP {entry['status']} from {path}"
            elif "unexpected HTTP status" in entry.get("msg", ""):
                found = "HTTP" + entry["msg"].partition("unexpected HTTP status")[2].splitlines()[0]
    return found


def _last(log: Path) -> str:
    lines = files.last_lines(log, 1)
    return lines[0] if lines else "it said nothing"


def command(
    cells: Sequence[Cell],
    runs: Path,
    report: Path | None,
    project: str | None,
    entity: str | None,
    offline: bool,
    out: Path,
    timeout: float,
) -> str:
    """`ascent wandb push`: what it prints. `cells` are those of the records below `runs`."""
    check_installed()
    if offline:
        project = project or os.environ.get("WANDB_PROJECT")
        if not project:
            raise InputError("W&B needs a project: give --project NAME, or set WANDB_PROJECT")
        service = None
    else:
        service = find(project, entity, os.environ)
        project = service.project
    finished = [(cell, run) for cell in cells for run in cell.runs if run.finished]
    left_out = Counter(run.state for cell in cells for run in cell.runs if not run.finished)
    if left_out:
        names = ", ".join(f"{count} {state}" for state, count in sorted(left_out.items()))
        print(f"left out: {names}", file=sys.stderr)
    if unused := ignored(os.environ):
        print(f"not used: {', '.join(unused)}", file=sys.stderr)
    mirrored = [of_run(cell, run, runs) for cell, run in finished]
    if report is not None:
        mirrored.append(of_report(report))
    if service is not None:
        service = service.known(time.monotonic() + timeout)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as display:
        bar = display.add_task("W&B", total=len(mirrored))
        outcome = push(
            mirrored,
            service,
            project,
            out,
            timeout,
            lambda outcome: display.update(bar, completed=outcome.finished),
        )
    verb = "written" if service is None else "acknowledged"
    print(f"{verb}: {outcome.told()}; {outcome.present} rows were there before", file=sys.stderr)
    return service.page if service else str(out / "wandb")

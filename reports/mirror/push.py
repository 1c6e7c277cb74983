"""Push: mirror finished runs, and a report, in W&B.

Processes (`wandb_client.py`) do what needs wandb; this one keeps time, and believes none of them. Before
it sends a run it asks the service what it has of it, and sends nothing where that is all. Afterwards it asks
again, and only rows that the service says it has are counted. `pushed.json` remembers what was there then.
"""

import os
import queue
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from ascent.records import files
from ascent.records.errors import InputError
from ascent.records.read import CellRecord
from ascent.reports.mirror.mirrored import Mirrored, of_report, of_run
from ascent.reports.mirror.service import Service, Stored, find, ignored
from ascent.reports.mirror.wandb_process import Client, complete

LEDGER = "pushed.json"
WORKERS = 4  # processes at a time: most of the time of each goes by in waiting


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
    folder.mkdir(parents=True, exist_ok=True)
    ledger = _Ledger(folder / LEDGER, f"{service.page} {service.url}" if service else f"offline {project}")
    outcome = Outcome(sum(run.lines for run in mirrored), len(mirrored))
    missing = _missing(mirrored, service, ledger, timeout, outcome)
    waiting: queue.SimpleQueue[Mirrored] = queue.SimpleQueue()
    for run in missing:
        waiting.put(run)
    stop = threading.Event()
    clients = [
        Client(number, service, project, folder, timeout) for number in range(min(WORKERS, len(missing)))
    ]
    lock = threading.Lock()

    def work(client: Client) -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                run = waiting.get_nowait()
                try:
                    client.send(run)
                except Exception as error:  # also of this code: what nobody acknowledged has failed
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
        for client in clients if outcome.finished == outcome.runs else []:
            client.close()
        for client in clients:
            client.kill()
        ledger.write()
    if outcome.finished < outcome.runs:
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
        if complete(run, there) if service else remembered == run.digest:
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


def command(
    cells: Sequence[CellRecord],
    runs: Path,
    report: Path | None,
    project: str | None,
    entity: str | None,
    offline: bool,
    out: Path,
    timeout: float,
) -> str:
    """`ascent wandb push`: what it prints. `cells` are those of the records below `runs`."""
    if not 0 < timeout < float("inf"):
        raise InputError(f"timeout: {timeout} must be a number of seconds above 0")
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
    if not finished and report is None:
        raise InputError(f"{runs}: no run is finished")
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

        def tell(outcome: Outcome) -> None:
            display.update(bar, completed=outcome.finished)

        outcome = push(mirrored, service, project, out, timeout, tell)
    verb = "written" if service is None else "acknowledged"
    print(f"{verb}: {outcome.told()}; {outcome.present} rows were there before", file=sys.stderr)
    return service.page if service else str(out / "wandb")

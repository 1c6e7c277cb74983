"""Push finished runs, and a report, to W&B.

Child processes (`wandb_client.py`) do the work that needs wandb. This process enforces the time limits, and
relies on the W&B service alone: before it sends a run it asks the service what is stored, and sends nothing
if the run is complete. Afterwards it asks again, and counts only the rows that the service reports as stored.
`pushed.json` lists the runs that were stored completely.
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
from ascent.records.shelf import FILE as SHELF
from ascent.records.shelf import Shelf
from ascent.reports.mirror.folders import report_payload, shelf_payload
from ascent.reports.mirror.payload import Payload, run_payload
from ascent.reports.mirror.service import Service, Stored, find_service, ignored_variables
from ascent.reports.mirror.wandb_process import Client, is_complete

LEDGER = "pushed.json"
WORKERS = 4  # concurrent processes; each of them mostly waits


def check_installed() -> None:
    """Raise InputError if wandb is not installed."""
    if find_spec("wandb") is None:
        raise InputError("wandb is not installed: pip install 'ascent-rl[wandb]'")


@dataclass
class Outcome:
    """The progress and result of a push. `present` counts the rows that were stored before it."""

    rows: int  # in total
    runs: int  # in total
    acknowledged: int = 0
    present: int = 0
    finished: int = 0
    failures: list[str] = field(default_factory=list)

    def counts(self) -> str:
        """Return the counts of rows and runs as text."""
        return f"{self.acknowledged} of {self.rows} rows, {self.finished} of {self.runs} runs"


def push(
    payloads: Sequence[Payload],
    service: Service | None,
    project: str,
    folder: Path,
    timeout: float,
    on_progress: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Send what the service does not have yet; without a service, write offline runs to `folder`/wandb.

    Args:
        payloads: the runs and reports to send.
        service: with its entity resolved (`Service.with_entity`).
        folder: holds every file that wandb writes.
        timeout: seconds that one run may take until the service has all of it.
        on_progress: called ten times a second.

    Raises InputError, with the counts so far, at the first run that fails or times out. Repeating the call
    resumes the push.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ledger = _Ledger(folder / LEDGER, f"{service.page} {service.url}" if service else f"offline {project}")
    outcome = Outcome(sum(payload.row_count for payload in payloads), len(payloads))
    missing = _missing(payloads, service, ledger, timeout, outcome)
    waiting: queue.SimpleQueue[Payload] = queue.SimpleQueue()
    for payload in missing:
        waiting.put(payload)
    stop = threading.Event()
    clients = [
        Client(number, service, project, folder, timeout) for number in range(min(WORKERS, len(missing)))
    ]
    lock = threading.Lock()

    def work(client: Client) -> None:
        with suppress(queue.Empty):
            while not stop.is_set():
                payload = waiting.get_nowait()
                try:
                    client.send(payload)
                except Exception as error:  # of any kind: a run that is not acknowledged has failed
                    stop.set()
                    with lock:
                        outcome.failures.append(f"{payload.name} ({payload.id}): {error}")
                else:
                    with lock:
                        outcome.acknowledged += payload.row_count
                        outcome.finished += 1
                        ledger.add(payload)

    threads = [threading.Thread(target=work, args=(client,), daemon=True) for client in clients]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.1)
            on_progress(outcome)
    finally:
        stop.set()
        for client in clients if outcome.finished == outcome.runs else []:
            client.close()
        for client in clients:
            client.kill()
        ledger.write()
    if outcome.finished < outcome.runs:
        verb = "acknowledged" if service else "written"
        raise InputError(f"{outcome.failures[0]}; {verb}: {outcome.counts()}")
    return outcome


def _missing(
    payloads: Sequence[Payload],
    service: Service | None,
    ledger: "_Ledger",
    timeout: float,
    outcome: Outcome,
) -> list[Payload]:
    """Return the payloads that are not stored completely, and count the others in `outcome`.

    Raises InputError if another result is stored under the id of one of them, or if one was deleted.
    """
    ids = [payload.id for payload in payloads]
    stored_runs = service.runs(ids, time.monotonic() + timeout) if service else {}
    missing = []
    for payload in payloads:
        pushed_digest = ledger.known.get(payload.id)
        stored = stored_runs.get(payload.id)
        if stored is not None:
            _refuse_other(payload, stored)
        if service and stored is None and pushed_digest:
            raise InputError(
                f"{payload.name} ({payload.id}) was pushed before but is no longer in {service.page}. "
                "W&B does not accept a deleted run again: push to another project. If W&B has lost the run, "
                f"delete {ledger.path}"
            )
        if is_complete(payload, stored) if service else pushed_digest == payload.digest:
            outcome.acknowledged += payload.row_count
            outcome.present += payload.row_count
            outcome.finished += 1
            ledger.add(payload)
        else:
            missing.append(payload)
    return missing


def _refuse_other(payload: Payload, stored: Stored) -> None:
    stored_digest = stored.summary.get("digest")
    if stored_digest not in (None, payload.digest):
        raise InputError(
            f"{payload.name} ({payload.id}): W&B has another result under this id, with digest "
            f"{stored_digest}, not {payload.digest}: push to another project"
        )
    if payload.rows and stored.rows > payload.row_count:
        raise InputError(
            f"{payload.name} ({payload.id}): W&B has {stored.rows} rows, the record only {payload.row_count}"
        )


class _Ledger:
    """The digests of pushed runs, by destination and run id."""

    def __init__(self, path: Path, destination: str) -> None:
        self.path = path
        self.content: dict[str, dict[str, str]] = files.read_json(path) if path.exists() else {}
        self.known = self.content.setdefault(destination, {})

    def add(self, payload: Payload) -> None:
        self.known[payload.id] = payload.digest

    def write(self) -> None:
        if self.known:
            files.write_json(self.path, self.content)


def command(
    cells: Sequence[CellRecord],
    runs: Path,
    report: Path | None,
    left_out: int,
    project: str | None,
    entity: str | None,
    offline: bool,
    out: Path,
    timeout: float,
) -> str:
    """Run `ascent wandb push`, and return the address or folder that it prints.

    `cells` are the cells of the records below `runs`, without `left_out` tuning seeds. If these are the
    records of a shelf, its leaderboard is pushed as well. Raises InputError if nothing can be pushed.
    """
    if not 0 < timeout < float("inf"):
        raise InputError(f"timeout: {timeout} must be a positive number of seconds")
    check_installed()
    service = None if offline else find_service(project, entity, os.environ)
    project = service.project if service else project or os.environ.get("WANDB_PROJECT")
    if not project:
        raise InputError("W&B needs a project: give --project NAME, or set WANDB_PROJECT")
    finished = [(cell, run) for cell in cells for run in cell.runs if run.finished]
    skipped = Counter(run.state for cell in cells for run in cell.runs if not run.finished)
    if not finished and report is None:
        raise InputError(f"{runs}: there are no finished runs")
    if skipped:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(skipped.items()))
        print(f"skipped runs: {counts}", file=sys.stderr)
    if left_out:
        print(f"left out runs: {left_out} of tuning seeds", file=sys.stderr)
    if unused := ignored_variables(os.environ):
        print(f"variables without effect here: {', '.join(unused)}", file=sys.stderr)
    payloads = [run_payload(cell, run, runs) for cell, run in finished]
    if (runs / SHELF).is_file():
        payloads.append(shelf_payload(Shelf(runs)))
    if report is not None:
        payloads.append(report_payload(report))
    if service is not None:
        service = service.with_entity(time.monotonic() + timeout)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as display:
        bar = display.add_task("W&B", total=len(payloads))

        def on_progress(outcome: Outcome) -> None:
            display.update(bar, completed=outcome.finished)

        outcome = push(payloads, service, project, out, timeout, on_progress)
    verb = "written" if service is None else "acknowledged"
    print(f"{verb}: {outcome.counts()}; {outcome.present} rows were already present", file=sys.stderr)
    return service.page if service else str(out / "wandb")

"""Push finished runs, reports and shelves to W&B.

A child process (`client.py`) does the work: it asks the service what is stored, sends what is missing, and
asks again. This process derives the content from the records, and counts only what the child saw stored.
"""

import json
import select
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from ascent.records import files
from ascent.records.errors import InputError
from ascent.records.read import CellRecord
from ascent.records.shelf import FILE as SHELF
from ascent.records.shelf import Shelf
from ascent.reports.mirror.folders import report_payload, shelf_payload
from ascent.reports.mirror.payload import Payload, run_payload
from ascent.reports.mirror.service import Destination, end, find, ignored_variables, start

LEDGER = "pushed.json"  # the digests of the runs that were pushed, by destination and id
LOG = "client.log"
SCRIPT = Path(__file__).with_name("client.py")
END_SECONDS = 5.0  # for the process to remove its temporary files
SPARE_SECONDS = 30.0  # for the start of the process; it keeps to the timeout of a run by itself


@dataclass
class Outcome:
    """The progress and result of a push. `present` counts the rows that were stored before it."""

    rows: int  # in total
    runs: int  # in total
    acknowledged: int = 0
    present: int = 0
    finished: int = 0

    def counts(self) -> str:
        """Return the counts of rows and runs as text."""
        return f"{self.acknowledged} of {self.rows} rows, {self.finished} of {self.runs} runs"


def push(
    payloads: Sequence[Payload],
    place: Destination,
    folder: Path,
    timeout: float,
    on_progress: Callable[[Outcome], None],
) -> tuple[Outcome, str]:
    """Send what the service does not have yet; without a server, write offline runs to `folder`/wandb.

    Args:
        payloads: the runs, reports and shelves to send.
        place: where to.
        folder: holds every file that wandb writes.
        timeout: seconds that a run may take to start, and then until the service has all of it.
        on_progress: called for each run.

    Returns what was sent, and the address of the project; "" without a server.

    Raises InputError, with the counts so far, at the first run that fails or times out. Repeating the call
    resumes the push.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LEDGER
    ledger: dict[str, dict[str, str]] = files.read_json(path) if path.exists() else {}
    named = f"{place.url} {place.entity or ''}/{place.project}" if place.url else f"offline {place.project}"
    known = ledger.setdefault(named, {})
    content = [asdict(payload) | {"row_count": payload.row_count} for payload in payloads]
    job = {"timeout": timeout, "known": known, "payloads": content}
    by_id = {payload.id: payload for payload in payloads}
    outcome, page = Outcome(sum(payload.row_count for payload in payloads), len(payloads)), ""
    with closing(_answers(place, folder, job, 2 * timeout + SPARE_SECONDS)) as answers:
        while outcome.finished < outcome.runs:
            answer = next(answers)
            if "error" in answer:
                raise InputError(f"{answer['error']}; {_verb(place)}: {outcome.counts()}")
            payload, page = by_id[answer["id"]], answer["page"]
            known[payload.id] = payload.digest
            files.write_json(path, ledger, durable=False)
            outcome.acknowledged += payload.row_count
            outcome.present += payload.row_count if answer["present"] else 0
            outcome.finished += 1
            on_progress(outcome)
    return outcome, page


def _verb(place: Destination) -> str:
    return "acknowledged" if place.url else "written"


def _answers(
    place: Destination, folder: Path, job: dict[str, Any], patience: float
) -> Generator[dict[str, Any], None, None]:
    """Run the process that runs wandb, and yield its answers; the last may be an error.

    `patience` is the longest time in seconds to wait for one.
    """
    with tempfile.TemporaryFile() as stdin:
        stdin.write(json.dumps(job).encode())
        stdin.seek(0)
        process = start([str(SCRIPT)], place, folder, folder / LOG, stdin, subprocess.PIPE)
    assert process.stdout is not None  # opened as a pipe
    try:
        while select.select([process.stdout], [], [], patience)[0]:
            if not (line := process.stdout.readline()):
                (said,) = files.last_lines(folder / LOG, 1) or ["no output"]
                yield {"error": f"the wandb process exited: {said}"}
                return
            yield json.loads(line)
        yield {"error": f"wandb did not answer within {patience:g} s"}
    finally:
        end(process, END_SECONDS)
        process.stdout.close()


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
    place = find(project, entity, offline)
    finished = [(cell, run) for cell in cells for run in cell.runs if run.finished]
    skipped = Counter(run.state for cell in cells for run in cell.runs if not run.finished)
    if not finished and report is None:
        raise InputError(f"{runs}: there are no finished runs")
    if skipped:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(skipped.items()))
        print(f"skipped runs: {counts}", file=sys.stderr)
    if left_out:
        print(f"left out runs: {left_out} of tuning seeds", file=sys.stderr)
    if unused := ignored_variables():
        print(f"variables without effect here: {', '.join(unused)}", file=sys.stderr)
    payloads = [run_payload(cell, run, runs) for cell, run in finished]
    if (runs / SHELF).is_file():
        payloads.append(shelf_payload(Shelf(runs)))
    if report is not None:
        payloads.append(report_payload(report))
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as display:
        bar = display.add_task("W&B", total=len(payloads))

        def on_progress(outcome: Outcome) -> None:
            display.update(bar, completed=outcome.finished)

        outcome, page = push(payloads, place, out, timeout, on_progress)
    print(f"{_verb(place)}: {outcome.counts()}; {outcome.present} rows were already present", file=sys.stderr)
    return page or str(out / "wandb")

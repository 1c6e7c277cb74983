"""A process that runs wandb, from the side of the one that keeps time and believes nothing it says."""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ascent.records import files
from ascent.records.errors import InputError
from ascent.reports.mirror.mirrored import Mirrored, table_cells
from ascent.reports.mirror.service import Service, ServiceError, Stored, environment_of

SCRIPT = Path(__file__).with_name("wandb_client.py")
START_SECONDS = 30.0  # that wandb may take to be imported, beside the time-out
END_SECONDS = 5.0  # that it may take to end when all is done


def complete(run: Mirrored, there: Stored | None) -> bool:
    """Whether the service has a run wholly. The digest comes into its summary once all was handed over."""
    if there is None or there.state != "finished":
        return False
    # The one row of a report is there twice after a second try.
    lines = there.rows == run.lines if run.rows else there.rows > 0
    return lines and all(there.summary.get(key) == value for key, value in run.summary.items())


class Client:
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
        command = [sys.executable, "-P", str(SCRIPT), self.project, entity]
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
            if complete(run, there) and not lacking:
                for copy in self.folder.glob(f"wandb/run-*-{run.id}"):  # wandb's own, which nobody needs now
                    shutil.rmtree(copy, ignore_errors=True)
                return
            refused, final = _refusal(self._run_log(run))
            if final or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
        had = f"{there.rows if there else 0} of its {run.lines} rows are there"
        if lacking:
            had += f", and {len(sent) - len(lacking)} of its {len(sent)} files"
        raise ServiceError(f"{had}{f', for {refused}' if refused else ''}")

    def _why(self, run: Mirrored, reason: str) -> str:
        refused, _ = _refusal(self._run_log(run))
        return f"{reason} ({refused})" if refused else reason

    def _run_log(self, run: Mirrored) -> Path | None:
        """The log of the newest attempt at a run."""
        found = sorted(self.folder.glob(f"wandb/*run-*-{run.id}/logs/debug-internal.log"))
        return found[-1] if found else None

    def close(self) -> None:
        """Let the process end by itself, which clears away what is temporary."""
        if self.process is not None:
            self.process.stdin.close()

    def kill(self) -> None:
        """End the process, unless it does so by itself now; wandb's own service ends with it."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS if self.process.stdin.closed else 0)
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process.stdout.close()


def _refusal(log: Path | None) -> tuple[str | None, bool]:
    """The last failure of an upload that wandb wrote down, such as "HTTP 500 from /files/...", and whether it
    gave something up.
    """
    found, final = None, False
    if log is None:
        return found, final
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            entry: dict[str, Any] = json.loads(line)
            final |= entry.get("level", "").startswith("ERROR")
            if isinstance(entry.get("status"), int) and entry["status"] >= 400:
                path = "/" + entry.get("url", "").partition("://")[2].partition("/")[2]
                found = f"HTTP {entry['status']} from {path}"
            elif "unexpected HTTP status" in entry.get("msg", ""):
                found = "HTTP" + entry["msg"].partition("unexpected HTTP status")[2].splitlines()[0]
    return found, final


def _last(log: Path) -> str:
    lines = files.last_lines(log, 1)
    return lines[0] if lines else "it said nothing"

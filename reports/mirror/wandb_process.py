"""Control a process that runs wandb: enforce time limits, and verify with the service what has arrived."""

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
from typing import IO, Any

from ascent.records import files
from ascent.records.errors import InputError
from ascent.reports.mirror.payload import Payload
from ascent.reports.mirror.service import Service, ServiceError, Stored, client_environment

SCRIPT = Path(__file__).with_name("wandb_client.py")
START_SECONDS = 30.0  # limit for importing wandb, besides the timeout of a run
END_SECONDS = 5.0  # limit for a regular exit


def is_complete(payload: Payload, stored: Stored | None) -> bool:
    """Return whether the service stores the whole run; the digest reaches the summary last."""
    if stored is None or stored.state != "finished":
        return False
    # A second attempt at a report stores its single row twice.
    rows = stored.rows == payload.row_count if payload.rows else stored.rows > 0
    return rows and all(stored.summary.get(key) == value for key, value in payload.summary.items())


class Client:
    """A process that runs wandb, started when there is something to send."""

    def __init__(
        self, number: int, service: Service | None, project: str, folder: Path, timeout: float
    ) -> None:
        self.service = service
        self.project = project
        self.folder = folder
        self.timeout = timeout
        self.log = folder / f"client-{number}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def send(self, payload: Payload) -> None:
        """Send a run and wait until the service has it. Raises InputError if it fails or times out."""
        process = self.process or self._start()
        deadline = time.monotonic() + self.timeout
        job = json.dumps(asdict(payload)).encode() + b"\n"
        line = _exchange(process, job, deadline)
        if line is None:
            self.kill()
            raise InputError(
                self._with_refusal(payload, f"the upload did not finish within {self.timeout:g} s")
            )
        if not line:
            raise InputError(self._with_refusal(payload, f"the wandb process exited: {_last_line(self.log)}"))
        answer = json.loads(line)
        if answer["error"]:
            raise InputError(self._with_refusal(payload, answer["error"]))
        if self.service:
            self._wait_until_stored(self.service, payload, dict(answer["files"]), deadline)

    def _start(self) -> subprocess.Popen[bytes]:
        entity = (self.service.entity if self.service else None) or ""
        # As a script, which starts three times as fast as a module: it needs nothing of this package.
        command = [sys.executable, "-P", str(SCRIPT), self.project, entity]
        with self.log.open("wb") as log:
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                env=client_environment(self.service, self.folder),
                cwd=self.folder,
                start_new_session=True,
            )
        self.process = process
        if _read_line(process, time.monotonic() + START_SECONDS) is None:
            self.kill()
            raise InputError(f"wandb did not start within {START_SECONDS:g} s")
        return process

    def _wait_until_stored(
        self, service: Service, payload: Payload, sent: dict[str, int], deadline: float
    ) -> None:
        """Poll until the service, which may store with a delay, has all rows and files.

        Raises ServiceError after `deadline`, or once wandb has given up.
        """
        pause = 0.1
        while True:
            stored = service.runs([payload.id], deadline).get(payload.id)
            sizes = service.files(payload.id, deadline) if sent else {}
            missing = [name for name, size in sent.items() if sizes.get(name) != size]
            if is_complete(payload, stored) and not missing:
                for copy in self.folder.glob(f"wandb/run-*-{payload.id}"):  # local copies, no longer needed
                    shutil.rmtree(copy, ignore_errors=True)
                return
            refusal, given_up = _refusal(self._run_log(payload))
            if given_up or time.monotonic() + pause > deadline:
                break
            time.sleep(pause)
            pause = min(pause * 2, 5.0)
        text = f"W&B has {stored.rows if stored else 0} of {payload.row_count} rows"
        if missing:
            text += f" and {len(sent) - len(missing)} of {len(sent)} files"
        raise ServiceError(f"{text} ({refusal})" if refusal else text)

    def _with_refusal(self, payload: Payload, reason: str) -> str:
        refusal, _ = _refusal(self._run_log(payload))
        return f"{reason} ({refusal})" if refusal else reason

    def _run_log(self, payload: Payload) -> Path | None:
        """Return wandb's log of the newest attempt at a run."""
        logs = sorted(self.folder.glob(f"wandb/*run-*-{payload.id}/logs/debug-internal.log"))
        return logs[-1] if logs else None

    def close(self) -> None:
        """Let the process exit by itself, so that it removes its temporary files."""
        if self.process is not None:
            _stdin(self.process).close()

    def kill(self) -> None:
        """End the process, and the service process that wandb started; after `close`, first let it exit."""
        if self.process is not None:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(END_SECONDS if _stdin(self.process).closed else 0)
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            _stdout(self.process).close()


def _stdin(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdin is not None  # opened as a pipe
    return process.stdin


def _stdout(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # opened as a pipe
    return process.stdout


def _exchange(process: subprocess.Popen[bytes], job: bytes, deadline: float) -> bytes | None:
    """Write a job to the process, and return the line that answers it, as `_read_line` does."""
    try:
        _stdin(process).write(job)
    except BrokenPipeError:
        return b""
    return _read_line(process, deadline)


def _read_line(process: subprocess.Popen[bytes], deadline: float) -> bytes | None:
    """Return a line of the process's output; empty if the process has exited, None after `deadline`."""
    output = _stdout(process)
    line = b""
    while not line.endswith(b"\n"):
        ready, _, _ = select.select([output], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return None
        piece = os.read(output.fileno(), 65536)
        if not piece:
            return b""
        line += piece
    return line


def _refusal(log: Path | None) -> tuple[str | None, bool]:
    """Return the last failed upload in a log of wandb, and whether wandb has given up on any.

    A failure reads like "HTTP 500 from /files/..."; None if there was none.
    """
    failure = None
    given_up = False
    if log is None:
        return failure, given_up
    for line in log.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            entry: dict[str, Any] = json.loads(line)
            given_up |= entry.get("level", "").startswith("ERROR")
            if isinstance(entry.get("status"), int) and entry["status"] >= 400:
                path = "/" + entry.get("url", "").partition("://")[2].partition("/")[2]
                failure = f"HTTP {entry['status']} from {path}"
            elif "unexpected HTTP status" in entry.get("msg", ""):
                failure = "HTTP" + entry["msg"].partition("unexpected HTTP status")[2].splitlines()[0]
    return failure, given_up


def _last_line(log: Path) -> str:
    lines = files.last_lines(log, 1)
    return lines[0] if lines else "no output"

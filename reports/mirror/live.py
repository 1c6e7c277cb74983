"""Stream the records of runs to W&B while they train, from a separate process.

Training sees only a process with a pipe. It writes nothing extra and waits for the process only once: at the
end of training, for at most `FLUSH_SECONDS`. `ascent wandb push` sends whatever this process could not send,
under the same run ids.

Each evaluation is written to the ladder last. A row is therefore sent once its evaluation is in the ladder:
all of its data is then on disk.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ascent.records import layout
from ascent.records import read as records
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.records.expected import Expected
from ascent.reports.mirror.payload import TABLES, history_rows, run_payload, started_payload
from ascent.reports.mirror.service import end, find, ignored_variables, start

FLUSH_SECONDS = 30.0  # longest wait, after training, for rows that are not sent yet
POLL_SECONDS = 1.0  # interval between reads of the records
FOLDER = "wandb"  # below the folder of run records


class Stream:
    """The streaming process as `ascent train` uses it: `with Stream(...)` around the training.

    Failures of the process never reach the training: each is reported as one line on standard error.
    """

    def __init__(self, cell: Cell, seeds: Sequence[int], out: Path, project: str | None) -> None:
        job = {"cell": cell.to_json(), "seeds": list(seeds), "out": str(out.resolve())}
        self.job = json.dumps(job).encode() + b"\n"
        self.project = project
        self.folder = out / FOLDER
        self.log = self.folder / "live.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Stream":
        try:
            self._start()
        except (InputError, OSError) as error:
            _warn(f"streaming is disabled: {error}")
        return self

    def _start(self) -> None:
        place = find(self.project, option="--wandb-project")
        if unused := ignored_variables():
            _warn(f"variables without effect here: {', '.join(unused)}")
        self.folder.mkdir(parents=True, exist_ok=True)
        words = ["-m", "ascent.reports.mirror.live"]
        self.process = start(words, place, self.folder, self.log, subprocess.PIPE)
        assert self.process.stdin is not None  # opened as a pipe
        self.process.stdin.write(self.job)
        self.process.stdin.flush()

    def __exit__(self, *_: object) -> None:
        """Signal the end of training, and wait at most `FLUSH_SECONDS` for the remaining rows."""
        if self.process is None:
            return
        assert self.process.stdin is not None  # opened as a pipe
        with suppress(OSError):
            self.process.stdin.close()
        code = end(self.process, FLUSH_SECONDS)
        if code != 0:
            fault = "did not finish in time" if code is None else "failed"
            _warn(f"streaming {fault} (see {self.log}); `ascent wandb push` sends the missing rows")


def _warn(text: str) -> None:
    print(f"W&B: {text}", file=sys.stderr, flush=True)


class _Follower:
    """Follows the record of one run. Its W&B run is created with the first row."""

    def __init__(self, cell: Cell, seed: int, out: Path) -> None:
        self.cell = cell
        self.seed = seed
        self.out = out
        self.folder = cell.run_folder(seed, out)
        self.run: Any = None  # of wandb, which this process imports late

    def poll(self) -> bool:
        """Send the rows that were recorded since the last call. Return whether the run is finished."""
        if finished := self.cell.is_finished(self.seed, self.out):
            self._finish()
            return finished
        with suppress(FileNotFoundError):  # the run has not started, or is being started afresh
            recorded = self._recorded_step()
            if recorded >= (self.run.step if self.run else 0):
                tables = {name: (self.folder / name).read_bytes() for name in TABLES}
                self._send(history_rows(tables, recorded))
        return finished

    def mark_failed(self) -> None:
        """Mark an unfinished run as failed in W&B when training has stopped. It may be resumed later."""
        if self.run is not None:
            self.run.finish(exit_code=1)

    def _recorded_step(self) -> int:
        """Return the last evaluation step whose data is completely on disk; -1 if there is none."""
        lines = (self.folder / layout.LADDER).read_bytes().split(b"\n")[1:-1]
        steps = [int(line.split(b",")[0]) for line in lines if line.split(b",")[1] == b"evaluation"]
        return max(steps, default=-1)

    def _send(self, rows: list[dict[str, Any]]) -> None:
        from ascent.reports.mirror.client import begin, log

        if self.run is None:
            facts = json.loads((self.folder.parent / layout.CELL).read_bytes())
            about = json.loads((self.folder / layout.RUN).read_bytes())
            started = started_payload(facts, about, self.folder.parent.name, self.seed)
            self.run = begin(asdict(started))
        log(self.run, rows)

    def _finish(self) -> None:
        """Send the rest from the verified record, exactly as `ascent wandb push` would."""
        (loaded,) = records.load(self.out, [Expected.of(self.cell, [self.seed])])
        (run,) = loaded.runs
        if not run.finished:
            raise InputError(f"{run.folder}: {run.note}")
        payload = run_payload(loaded, run, self.out)
        self._send(payload.rows)
        self.run.tags = tuple(payload.tags)
        self.run.config.update(payload.config, allow_val_change=True)
        self.run.summary.update(payload.summary)
        self.run.finish()


def _exit_after_training(ended: threading.Event) -> None:
    """Wait for the end of training, then end this process even if its parent cannot."""
    sys.stdin.read()
    ended.set()
    time.sleep(FLUSH_SECONDS + 5)
    os._exit(1)


def main() -> None:
    """Read a job from standard input, and follow its runs until they or the training end."""
    job = json.loads(sys.stdin.readline())
    cell, out = Cell.from_json(job["cell"]), Path(job["out"])
    open_runs = [_Follower(cell, seed, out) for seed in job["seeds"]]
    ended = threading.Event()
    threading.Thread(target=_exit_after_training, args=(ended,), daemon=True).start()
    while open_runs:
        last = ended.is_set()  # read before polling: the last poll must see everything training wrote
        open_runs = [follower for follower in open_runs if not follower.poll()]
        if last:
            break
        ended.wait(POLL_SECONDS)
    for follower in open_runs:
        follower.mark_failed()


if __name__ == "__main__":
    main()

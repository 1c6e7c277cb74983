"""Live: a process that follows the records of runs while they train, and streams them to W&B.

Training knows it only as a process with a pipe, writes nothing for it and never waits for it but once, at the
end, for at most `LAST_SECONDS`. What this process cannot send, `ascent wandb push` sends under the same ids.

A row is sent when the run's ladder, which is written last, has the evaluation: then all of it is on disk.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ascent.records import read as records
from ascent.records.cell import Cell
from ascent.records.errors import InputError
from ascent.records.read import Expected
from ascent.reports.mirror.mirrored import TABLES, begun, of_run, rows
from ascent.reports.mirror.push import check_installed
from ascent.reports.mirror.service import Service, environment_of, find, ignored

LAST_SECONDS = 30.0  # that the end of training waits for what is not sent yet
LOOK_SECONDS = 1.0  # between looks at the records
FOLDER = "wandb"  # below the folder of run records


class Stream:
    """The process from the side of `ascent train`: `with Stream(...)` around the training.

    Nothing that happens to it reaches the training: what goes wrong is one line on standard error.
    """

    def __init__(self, cell: Cell, seeds: Sequence[int], out: Path, project: str | None) -> None:
        self.cell, self.seeds, self.out, self.project = cell, list(seeds), out, project
        self.log = out / FOLDER / "live.log"
        self.process: subprocess.Popen | None = None

    def __enter__(self) -> "Stream":
        try:
            check_installed()
            service = find(self.project, None, os.environ, option="--wandb-project")
            if unused := ignored(os.environ):
                _say(f"not used: {', '.join(unused)}")
            environment = environment_of(service, self.out / FOLDER)
            job = {"cell": asdict(self.cell), "seeds": self.seeds, "out": str(self.out.resolve())}
            job |= {"project": service.project, "entity": service.entity}
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "ascent.reports.mirror.live"], stdin=subprocess.PIPE, stdout=log,
                    stderr=log,
                    env=environment, cwd=self.out / FOLDER, start_new_session=True,
                )  # fmt: skip
            self.process.stdin.write(json.dumps(job).encode() + b"\n")
            self.process.stdin.flush()
        except (InputError, OSError) as error:
            _say(f"nothing is streamed: {error}")
        return self

    def __exit__(self, *_: object) -> None:
        """Say that training is over, and wait for the rest; longer than `LAST_SECONDS` nobody waits."""
        if self.process is None:
            return
        with suppress(OSError):
            self.process.stdin.close()
        try:
            code = self.process.wait(LAST_SECONDS)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        if code:
            _say(f"the stream broke off (see {self.log}); `ascent wandb push` sends what is missing")
        elif code is None:
            _say(f"not all was sent within {LAST_SECONDS:g} s; `ascent wandb push` sends what is missing")


def _say(text: str) -> None:
    print(f"W&B: {text}", file=sys.stderr, flush=True)


class _Follower:
    """One run: what of its record is sent, and its run of W&B once there is something to send."""

    def __init__(self, cell: Cell, seed: int, out: Path, service: Service) -> None:
        self.cell, self.seed, self.out, self.service = cell, seed, out, service
        self.folder = cell.folder(out) / f"seed-{seed}"
        self.run: Any = None
        self.sent = -1  # the last step that was
        self.over = False

    def look(self) -> None:
        """Send what is new."""
        if (self.folder / "result.json").exists():
            self._finish()
            return
        with suppress(FileNotFoundError):  # it has not begun, or starts anew just now
            until = self._recorded()
            if until > self.sent:
                self._send(rows(self._tables(), until))

    def leave(self) -> None:
        """Training is over and this run is not: for W&B it has failed. Another day it may go on."""
        if self.run is not None and not self.over:
            self.run.finish(exit_code=1)

    def _recorded(self) -> int:
        """The last step of which all is on disk."""
        lines = (self.folder / "ladder.csv").read_bytes().split(b"\n")[1:-1]
        steps = [int(line.split(b",")[0]) for line in lines if line.split(b",")[1] == b"evaluation"]
        return max(steps, default=-1)

    def _tables(self) -> dict[str, bytes]:
        return {name: (self.folder / name).read_bytes() for name in TABLES}

    def _begin(self) -> None:
        from ascent.reports.mirror.wandb_client import begin

        facts = json.loads((self.folder.parent / "cell.json").read_bytes())
        about = json.loads((self.folder / "run.json").read_bytes())
        mirrored = begun(facts, about, self.folder.parent.name, self.seed)
        self.run = begin(asdict(mirrored), self.service.project, self.service.entity, patient=True)

    def _send(self, found: list[dict[str, Any]]) -> None:
        from ascent.reports.mirror.wandb_client import log

        if self.run is None:
            self._begin()
        new = [row for row in found if row["global_step"] > self.sent]
        log(self.run, new)
        self.sent = max([self.sent, *(row["global_step"] for row in new)])

    def _finish(self) -> None:
        """The rest, as `ascent wandb push` would send it: from the verified record."""
        self.over = True
        cell = self.cell
        name = Expected(cell.suite, cell.task, cell.system, cell.preset, cell.digest, (self.seed,))
        (loaded,) = records.load(self.out, [name])
        (run,) = loaded.runs
        if not run.finished:
            raise InputError(f"{run.folder}: {run.note}")
        mirrored = of_run(loaded, run, self.out)
        self._send(mirrored.rows)
        self.run.tags = tuple(mirrored.tags)
        self.run.config.update(mirrored.config, allow_val_change=True)
        self.run.summary.update(mirrored.summary)
        self.run.finish()


def _wait(ended: threading.Event) -> None:
    """For the end of training, and then a little longer: nobody may be there to end this process."""
    sys.stdin.read()
    ended.set()
    time.sleep(LAST_SECONDS + 5)
    os._exit(1)


def main() -> None:
    job = json.loads(sys.stdin.readline())
    cell, out = Cell.from_json(job["cell"]), Path(job["out"])
    service = find(job["project"], job["entity"], os.environ)
    followed = [_Follower(cell, seed, out, service) for seed in job["seeds"]]
    ended = threading.Event()
    threading.Thread(target=_wait, args=(ended,), daemon=True).start()
    while True:
        last = ended.is_set()  # before the look: it must see all that training has written
        for run in followed:
            if not run.over:
                run.look()
        if last or all(run.over for run in followed):
            break
        ended.wait(LOOK_SECONDS)
    for run in followed:
        run.leave()


if __name__ == "__main__":
    main()

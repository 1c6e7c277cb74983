"""One run's folder: what is recorded, checkpoints, and how a run ends.

    cell.json                 the cell, once for all its seeds
    sources-<digest>.zip      the sources as they ran
    sealed.zip                what reports read of the cell's finished runs, in one file
    seed-<k>/run.json         provenance: attempts, versions, platform
    seed-<k>/eval.csv         step,policy,episode,return,length,unstable
    seed-<k>/train.csv        step,env,return,length,unstable
    seed-<k>/metrics.csv      step,<means of the update's metrics since the evaluation before>
    seed-<k>/ladder.csv       step,event,digest of the learner's whole state
    seed-<k>/policy.npz       the final policy
    seed-<k>/result.json      status and digests of the result files, written last
    seed-<k>/progress.json, checkpoint-*.bin, replay-*.bin, lock: only until the run is done

`unstable` counts the steps of an episode in which the simulator met a bad state and reset itself.

The result files, of which the guarantees speak, are the four tables and the policy: no times are in them.
Tables grow by appending. Only what a checkpoint (or, at the end, result.json) vouches for counts: it names
each file's length and sha256, and a resumed run cuts off the rest.
"""

import io
import json
import os
import re
import sys
import time
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from runners import files, provenance
from runners.cell import Cell
from runners.errors import DamagedFile, InputError, RunHeld
from runners.resolve import describe

FORMAT = 2  # of the files in a run's folder
TABLES = {
    "eval.csv": "step,policy,episode,return,length,unstable",
    "train.csv": "step,env,return,length,unstable",
    "metrics.csv": "",  # the header depends on the algorithm: it comes with the first row
    "ladder.csv": "step,event,digest",
}
State = dict[str, np.ndarray]  # every array of one seed has its seed axis, of length 1, first


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """Named arrays as an uncompressed .npz: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def unpack_arrays(data: bytes) -> dict[str, np.ndarray]:
    """What `pack_arrays` packed."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def zip_files(contents: dict[str, bytes]) -> bytes:
    """A zip archive: the same names and contents give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(contents.items()):
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # ZipInfo is dated 1980
    return buffer.getvalue()


class Table:
    """A CSV file that grows; `size` and `digest` speak of all rows flushed so far."""

    def __init__(self, path: Path, header: str):
        self.path, self.size, self.hash = path, 0, sha256()
        self.pending = [header] if header else []

    def head(self, *names: str) -> None:
        """The header, unless there is one: for columns that are known only with the first row."""
        if not self.size and not self.pending:
            self.pending.append(",".join(names))

    def add(self, *row: object) -> None:
        """One row; floats are written so that they read back as the same number."""
        self.pending.append(",".join(repr(float(x)) if isinstance(x, float) else str(x) for x in row))

    def flush(self, durable: bool) -> None:
        data = "".join(line + "\n" for line in self.pending).encode()
        if data or durable:
            files.append(self.path, data, durable)
        self.size += len(data)
        self.hash.update(data)
        self.pending = []

    def verify(self, size: int, digest: str) -> bytes:
        """The first `size` bytes. Raises DamagedFile if they are not what was written."""
        data = self.path.read_bytes()[:size] if self.path.exists() else b""
        if len(data) != size or sha256(data).hexdigest() != digest:
            raise DamagedFile(f"{self.path} is damaged: its first {size} bytes are not what was recorded")
        return data

    def rewind(self, size: int, digest: str) -> None:
        """Cut off what came after the first `size` bytes."""
        data = self.verify(size, digest)
        os.truncate(self.path, size)
        self.size, self.hash, self.pending = size, sha256(data), []


@dataclass
class Checkpoint:
    """One seed's whole state at a step boundary."""

    step: int
    state: State
    # Transitions, oldest first: (number of the first, rows (n, W) float32). To write: those since the
    # checkpoint before; read: all that replay holds, and perhaps older ones. None without replay.
    replay: Iterable[tuple[int, np.ndarray]] | None
    notes: dict[str, object]  # small facts: compute used so far, names of the metrics


class Run:
    """The folder of one run. `open` before anything is written, `close` in the end."""

    def __init__(self, cell: Cell, seed: int, out: Path, device: str = "cpu", capacity: int = 0):
        self.cell, self.seed, self.device = cell, seed, device
        self.capacity = capacity  # transitions that replay holds; 0 for algorithms without
        self.folder = cell.folder(out) / f"seed-{seed}"
        self.tables = {name: Table(self.folder / name, header) for name, header in TABLES.items()}
        self.record: dict = {}
        self.whole_segments: set[tuple[int, int]] = set()  # replay files that have been read and checked
        self.lock = FileLock(self.folder / "lock")

    # ---- where it stands

    def is_finished(self) -> bool:
        """True for a run that is done or has diverged: there is nothing left to train."""
        return (self.folder / "result.json").exists()

    def checkpoint_steps(self) -> list[int]:
        """Steps of the checkpoints in the folder, the newest first, whole or not."""
        names = [re.fullmatch(r"checkpoint-(\d+)\.bin", p.name) for p in self.folder.glob("checkpoint-*.bin")]
        return sorted((int(name[1]) for name in names if name), reverse=True)

    # ---- taking hold of it

    def open(self) -> None:
        """Take the run, or raise RunHeld. Clears what a killed attempt left behind."""
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self.lock.acquire(timeout=0)
        except Timeout:
            raise RunHeld(f"{self.folder} is held by {self._holder()}") from None
        for leftover in self.folder.glob(".*.tmp"):
            leftover.unlink()
        if self.is_finished():
            self._clean_up()

    def close(self) -> None:
        """Let go of the run."""
        if self.is_finished():
            (self.folder / "lock").unlink(missing_ok=True)
        self.lock.release()

    def _holder(self) -> str:
        try:
            attempt = files.read_json(self.folder / "run.json")["attempts"][-1]
            return f"process {attempt['pid']} on {attempt['host']}, since {attempt['started']}"
        except (OSError, DamagedFile, LookupError):
            return "another process that is just starting"

    def begin(self, step: int, pack: list[int], threads: int = 1) -> None:
        """Record a new attempt that starts from `step`; `threads` step its environments."""
        path = self.folder / "run.json"
        record = {"format": FORMAT, "seed": self.seed, "cell": self.cell.digest, "attempts": []}
        if path.exists():
            record = files.read_json(path)
            if record.get("format") != FORMAT:
                raise InputError(f"{path} has record format {record.get('format')}, this is format {FORMAT}")
        attempts = record["attempts"]
        if attempts and "ended" not in attempts[-1]:
            attempts[-1]["lost_steps"] = max(0, self.last_progress().get("step", 0) - step)
        attempt = {
            "started": _now(),
            "from_step": step,
            "pack": pack,
            "device": provenance.device_name(self.device),
        }
        attempts.append(provenance.attempt_identity() | attempt | {"env_threads": threads})
        source_files = provenance.sources(self.cell.system, self.cell.suite)
        record |= provenance.commit()
        record["source_digest"] = provenance.source_digest(source_files)
        record["packages"] = provenance.packages(self.cell.task)
        record["platform"] = provenance.describe_platform()
        record["lock_digest"] = provenance.lock_digest()
        self.record = record
        self._write_cell(source_files)
        files.write_json(path, record)

    def _write_cell(self, source_files: dict[str, bytes]) -> None:
        path = self.folder.parent / "cell.json"
        cell = describe(self.cell)
        if path.exists():
            if files.read_json(path) != json.loads(json.dumps(cell)):
                raise InputError(
                    f"{path} describes another cell than this version of the project: move it away"
                )
        else:
            files.write_json(path, cell)
        path = self.folder.parent / f"sources-{self.record['source_digest']}.zip"
        if not path.exists():
            files.write(path, zip_files(source_files))

    # ---- while it trains

    def flush(self, durable: bool = False) -> None:
        """Put all rows added so far into the CSV files."""
        for table in self.tables.values():
            table.flush(durable)

    def progress(self, step: int, steps_per_second: float, score: float | None) -> None:
        """Tell whoever looks how far the run is."""
        value = {"step": step, "steps_per_second": steps_per_second, "score": score, "time": time.time()}
        files.write_json(self.folder / "progress.json", value, durable=False)

    def last_progress(self) -> dict:
        """What `progress` last told; empty if nothing."""
        try:
            return files.read_json(self.folder / "progress.json")
        except (OSError, DamagedFile):
            return {}

    def save(self, checkpoint: Checkpoint) -> None:
        """Write a checkpoint and drop all but the last two."""
        self.flush(durable=True)
        step = checkpoint.step
        for first, rows in checkpoint.replay or ():
            if len(rows):
                path = self.folder / f"replay-{first}-{first + len(rows)}.bin"
                files.write_sealed(path, pack_arrays({"rows": rows}))
        manifest = {
            "format": FORMAT,
            "cell": self.cell.digest,
            "seed": self.seed,
            "notes": checkpoint.notes,
            "tables": {name: [table.size, table.hash.hexdigest()] for name, table in self.tables.items()},
            "made_with": self._made_with(),
        }
        arrays = {"manifest": np.frombuffer(json.dumps(manifest).encode(), np.uint8), **checkpoint.state}
        files.write_sealed(self.folder / f"checkpoint-{step}.bin", pack_arrays(arrays))
        for old in self.checkpoint_steps()[2:]:
            (self.folder / f"checkpoint-{old}.bin").unlink()
        oldest = self.checkpoint_steps()[-1]
        for first, last in self._segments():
            if last <= oldest - self.capacity:
                (self.folder / f"replay-{first}-{last}.bin").unlink()

    def _made_with(self) -> dict[str, object]:
        return {
            "packages": provenance.packages(self.cell.task),
            "device": provenance.device_name(self.device),
        }

    def _segments(self) -> list[tuple[int, int]]:
        """The replay files: (first, last) counts transitions of the run, which are its steps."""
        names = [re.fullmatch(r"replay-(\d+)-(\d+)\.bin", p.name) for p in self.folder.glob("replay-*.bin")]
        return sorted((int(name[1]), int(name[2])) for name in names if name)

    def load(self, step: int) -> Checkpoint:
        """The checkpoint of `step`, with all of its replay.

        Raises DamagedFile, or InputError if other versions wrote it than are running now.
        """
        path = self.folder / f"checkpoint-{step}.bin"
        arrays = unpack_arrays(files.read_sealed(path))
        manifest = json.loads(arrays.pop("manifest").tobytes())
        if manifest["format"] != FORMAT:
            raise InputError(f"{path} has record format {manifest['format']}, this is format {FORMAT}")
        if manifest["made_with"] != self._made_with():
            was, now = manifest["made_with"], self._made_with()
            raise InputError(f"{path} was written with {was}; it cannot be resumed exactly with {now}")
        for name, (size, digest) in manifest["tables"].items():
            self.tables[name].verify(size, digest)
        self.vouched = manifest["tables"]
        replay = None
        if self.capacity:
            wanted = [
                (first, last) for first, last in self._segments() if step - self.capacity < last <= step
            ]
            ends = [max(0, step - self.capacity), *(last for _, last in wanted)]
            if ends[-1] != step or any(first > end for (first, _), end in zip(wanted, ends, strict=False)):
                raise DamagedFile(f"{path} is damaged: transitions before step {step} are missing")
            for segment in set(wanted) - self.whole_segments:
                self._segment(*segment)
                self.whole_segments.add(segment)
            replay = ((first, self._segment(first, last)) for first, last in wanted)
        return Checkpoint(step, arrays, replay, manifest["notes"])

    def _segment(self, first: int, last: int) -> np.ndarray:
        """The rows of one replay file. Raises DamagedFile."""
        return unpack_arrays(files.read_sealed(self.folder / f"replay-{first}-{last}.bin"))["rows"]

    def usable_steps(self) -> list[int]:
        """Steps of the whole checkpoints, newest first. Raises DamagedFile if there are some and none is
        whole.
        """
        usable, damage = [], None
        for step in self.checkpoint_steps():
            try:
                self.load(step)
                usable.append(step)
            except DamagedFile as error:
                damage = damage or error
        if damage and not usable:
            raise DamagedFile(f"{damage}; no older checkpoint is whole. To start again, remove {self.folder}")
        if damage:
            print(f"warning: {damage}; going on from step {usable[0]}", file=sys.stderr, flush=True)
        return usable

    def rewind(self, step: int | None) -> Checkpoint | None:
        """Make the folder what it was at the checkpoint of `step`, and return that; None empties it."""
        checkpoint = None if step is None else self.load(step)
        for later in self.checkpoint_steps():
            if step is None or later > step:
                (self.folder / f"checkpoint-{later}.bin").unlink()
        for first, last in self._segments():
            if step is None or last > step:
                (self.folder / f"replay-{first}-{last}.bin").unlink()
        for name, table in self.tables.items():
            if step is None:  # the table is new and has its header pending
                table.path.unlink(missing_ok=True)
            else:
                table.rewind(*self.vouched[name])
        return checkpoint

    # ---- the end

    def end_attempt(self, step: int, usage: dict[str, float]) -> None:
        """Close the record of this attempt: where it came to and what it used."""
        self.record["attempts"][-1] |= {"ended": _now(), "to_step": step} | usage
        files.write_json(self.folder / "run.json", self.record)

    def finish(
        self,
        status: str,
        step: int,
        score: float | None,
        policy: dict[str, np.ndarray],
        usage: dict[str, float],
        unstable: int,
    ) -> None:
        """Record that the run is over: `status` is "done" or "diverged". What was only for resuming goes.

        `score` is the mean return of the last greedy evaluation, for those who only look; `unstable` counts
        such steps of the episodes that are not over.
        """
        self.flush(durable=True)
        files.write(self.folder / "policy.npz", pack_arrays(policy))
        self.end_attempt(step, usage)
        digests = {
            name: sha256((self.folder / name).read_bytes()).hexdigest() for name in [*TABLES, "policy.npz"]
        }
        result = {"format": FORMAT, "status": status, "steps": step, "score": score, "digests": digests}
        result["unstable_steps"] = {
            name: sum(int(row.rpartition(",")[2]) for row in table.splitlines()[1:])
            for name in ("train", "eval")
            for table in [(self.folder / f"{name}.csv").read_text()]
        }
        result["unstable_steps"]["train"] += unstable
        result["digest"] = sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
        files.write_json(self.folder / "result.json", result)
        self._clean_up()

    def _clean_up(self) -> None:
        for pattern in ("checkpoint-*.bin", "replay-*.bin", "progress.json"):
            for path in self.folder.glob(pattern):
                path.unlink()


SEAL = "sealed.zip"
SEALED = ("run.json", "result.json", "eval.csv")


def seal(cell_folder: Path) -> None:
    """Copy what reports read of a cell's finished runs into one file, if there are new ones."""
    finished = sorted(path.parent for path in cell_folder.glob("seed-*/result.json"))
    path = cell_folder / SEAL
    names = {f"{run.name}/{name}" for run in finished for name in SEALED}
    if names == _sealed_names(path):
        return
    files.write(path, zip_files({name: (cell_folder / name).read_bytes() for name in names}))


def _sealed_names(path: Path) -> set[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return set()


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

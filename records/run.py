"""One run's folder: what is recorded, checkpoints, and how a run ends.

    cell.json                 the cell, once for all its seeds
    sources-<digest>.zip      the sources as they ran
    sealed.zip                what reports read of the cell's finished runs, in one file
    robustness/               what `ascent robustness` played with the final policies (`robustness.py`)
    seed-<k>/run.json         provenance: attempts, versions, platform
    seed-<k>/eval.csv         step,policy,episode,return,length,unstable,<of a team: its agents, its measures>
    seed-<k>/train.csv        step,env,return,length,unstable,<the same>
    seed-<k>/metrics.csv      step,<means of the update's metrics since the evaluation before>
    seed-<k>/ladder.csv       step,event,digest of the learner's whole state
    seed-<k>/policy.npz       the final policy
    seed-<k>/policy-<step>.npz    earlier ones, if they were asked for
    seed-<k>/result.json      status and digests of the result files, written last
    seed-<k>/progress.json, checkpoint-*.bin, replay-*.bin, owner-*.json: only until the run is done

`unstable` counts the steps of an episode in which the simulator met a bad state and reset itself. A team has
a column for each agent's return, under its name, and for each of the task's own measures of the episode.

The result files, of which the guarantees speak, are the four tables and the policy: no times are in them.
Tables grow by appending. Only what a checkpoint (or, at the end, result.json) vouches for counts: it names
each file's length and sha256, and a resumed run leaves out the rest. It goes on in new files, so that a copy
of the run that was taken over (`ownership.py`) appends to files that nobody sees any more.
"""

import io
import json
import os
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import numpy as np

from ascent import suites
from ascent.records import files, provenance
from ascent.records.cell import Cell
from ascent.records.errors import DamagedFile, InputError
from ascent.records.ownership import Ownership, acquire_all
from ascent.runners.resolve import describe

FORMAT = 2  # of the files in a run's folder
EPISODE = "return,length,unstable"
TABLES = {
    "eval.csv": f"step,policy,episode,{EPISODE}",
    "train.csv": f"step,env,{EPISODE}",
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


def headers(task: str) -> dict[str, str]:
    """The header of each table of a run of the task."""
    team = suites.TASKS[task].team
    own = [*team.agents, *(name for name, _ in team.measures)] if team else []
    return {name: ",".join([head, *own]) if EPISODE in head else head for name, head in TABLES.items()}


class Table:
    """A CSV file that grows; `size` and `digest` speak of all rows flushed so far."""

    def __init__(self, path: Path, header: str):
        self.path, self.header, self.handle = path, header, -1
        self.size, self.hash = 0, sha256()
        self.pending: list[str] = []

    def begin(self, rows: bytes = b"", check: Callable[[], None] = lambda: None) -> None:
        """Grow from these rows, in a new file that replaces the one before."""
        self.close()
        self.handle = files.start(self.path, rows, check=check)
        self.size, self.hash = len(rows), sha256(rows)
        self.pending = [self.header] if self.header and not rows else []

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
            files.append(self.handle, data, durable)
        self.size += len(data)
        self.hash.update(data)
        self.pending = []

    def content(self) -> bytes:
        """All that was flushed, read back. Raises DamagedFile if it is not what was written."""
        data = os.pread(self.handle, self.size, 0)
        if sha256(data).digest() != self.hash.digest():
            raise DamagedFile(f"{self.path} is damaged: it is not what was written")
        return data

    def verify(self, size: int, digest: str) -> bytes:
        """The first `size` bytes of the file that is there. Raises DamagedFile if they are not `digest`'s."""
        data = self.path.read_bytes()[:size] if self.path.exists() else b""
        if len(data) != size or sha256(data).hexdigest() != digest:
            raise DamagedFile(f"{self.path} is damaged: its first {size} bytes are not what was recorded")
        return data

    def close(self) -> None:
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1


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
    """The folder of one run. `open` before anything is written, `close` in the end.

    Whatever writes into the folder raises Superseded if it has been taken over.
    """

    def __init__(
        self,
        cell: Cell,
        seed: int,
        out: Path,
        device: str = "cpu",
        capacity: int = 0,
        tell_seconds: float = 1.0,
    ):
        self.cell, self.seed, self.device = cell, seed, device
        self.capacity = capacity  # transitions that replay holds; 0 for algorithms without
        self.folder = cell.folder(out) / f"seed-{seed}"
        self.owner = Ownership(self.folder, tell_seconds)
        self.tables = {name: Table(self.folder / name, header) for name, header in headers(cell.task).items()}
        self.record: dict = {}
        self.steps: list[int] = []  # of the checkpoints that count
        self.pieces: dict[tuple[int, ...], str | None] = {}  # replay files that count -> sha256, if known
        self.whole: set[tuple] = set()  # replay files that have been read and checked

    # ---- where it stands

    def is_finished(self) -> bool:
        """True for a run that is done or has diverged: there is nothing left to train."""
        return (self.folder / "result.json").exists()

    def checkpoint_steps(self) -> list[int]:
        """Steps of the checkpoints in the folder, the newest first, whole or not."""
        return sorted((step for (step,) in self._files("checkpoint", 1)), reverse=True)

    def _files(self, kind: str, n: int) -> list[tuple[int, ...]]:
        """The `n` numbers in the names of files: checkpoint-<step>.bin, replay-<first>-<last>.bin (they count
        transitions of the run, which are its steps).
        """
        pattern = kind + n * r"-(\d+)" + r"\.bin"
        found = (re.fullmatch(pattern, path.name) for path in self.folder.glob("*.bin"))
        return [tuple(map(int, name.groups())) for name in found if name]

    # ---- taking hold of it

    def open(self) -> None:
        """Take the run, or raise RunHeld. Clears what a killed attempt left behind."""
        open_all([self])

    def close(self) -> None:
        """Let go of the run."""
        for table in self.tables.values():
            table.close()
        if self.is_finished():
            self.owner.remove()
        else:
            self.owner.release()

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files, listed before this call: what a later owner makes is not among them."""
        self.owner.check()
        for name in names:
            (self.folder / name).unlink(missing_ok=True)

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
            told = self.last_progress()
            lost = max(0, told.get("step", 0) - step)
            wall = lost / told["steps_per_second"] if told.get("steps_per_second") else 0.0
            attempts[-1] |= {"lost_steps": lost, "lost_wall_s": round(wall / len(attempts[-1]["pack"]), 3)}
        attempt = {
            "started": _now(),
            "from_step": step,
            "pack": pack,
            "device": provenance.device_name(self.device),
            "platform": provenance.platform_key(),
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
        self._write_record()
        self.progress(step, 0.0, None)
        self.owner.tell()  # at once: what the attempt before told would be lost twice

    def _write_record(self) -> None:
        files.write_json(self.folder / "run.json", self.record, check=self.owner.check)

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
            files.write(path, files.zip_files(source_files))

    # ---- while it trains

    def flush(self, durable: bool = False) -> None:
        """Put all rows added so far into the CSV files."""
        for table in self.tables.values():
            table.flush(durable)

    def progress(self, step: int, steps_per_second: float, score: float | None) -> None:
        """What the next beats tell whoever looks: how far the run is."""
        self.owner.told = {"step": step, "steps_per_second": steps_per_second, "score": score}

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
                seal = files.write_sealed(path, pack_arrays({"rows": rows}), self.owner.check)
                self.pieces[first, first + len(rows)] = seal
        manifest = {
            "format": FORMAT,
            "cell": self.cell.digest,
            "seed": self.seed,
            "notes": checkpoint.notes,
            "tables": {name: [table.size, table.hash.hexdigest()] for name, table in self.tables.items()},
            "replay": [[*piece, seal] for piece, seal in self.pieces.items()],
            "made_with": self._made_with(),
        }
        arrays = {"manifest": np.frombuffer(json.dumps(manifest).encode(), np.uint8), **checkpoint.state}
        files.write_sealed(self.folder / f"checkpoint-{step}.bin", pack_arrays(arrays), self.owner.check)
        self.steps = [*self.steps, step][-2:]
        oldest = self.steps[0] - self.capacity
        self.pieces = {piece: seal for piece, seal in self.pieces.items() if piece[1] > oldest}
        # What else is there is older, or from a copy of this run that was taken over.
        self._drop(lambda step: step in self.steps, lambda piece: piece in self.pieces)

    def _drop(self, keep: Callable[[int], bool], keep_piece: Callable[[tuple[int, ...]], bool]) -> None:
        """Remove checkpoints, by their steps, and replay files, by their transitions."""
        steps = [step for step in self.checkpoint_steps() if not keep(step)]
        pieces = [piece for piece in self._files("replay", 2) if not keep_piece(piece)]
        self._remove(f"checkpoint-{step}.bin" for step in steps)
        self._remove(f"replay-{first}-{last}.bin" for first, last in pieces)

    def _made_with(self) -> dict[str, object]:
        return {
            "packages": provenance.packages(self.cell.task),
            "device": provenance.device_name(self.device),
        }

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
        self.vouched, self.pieces = manifest["tables"], {}
        replay = None
        if self.capacity:
            found = [[*piece, None] for piece in sorted(self._files("replay", 2))]
            # Checkpoints once did not say which files they mean.
            wanted = [
                piece for piece in manifest.get("replay", found) if step - self.capacity < piece[1] <= step
            ]
            ends = [max(0, step - self.capacity), *(last for _, last, _ in wanted)]
            if ends[-1] != step or any(first > end for (first, _, _), end in zip(wanted, ends, strict=False)):
                raise DamagedFile(f"{path} is damaged: transitions before step {step} are missing")
            for first, last, seal in wanted:
                if (first, last, seal) not in self.whole:
                    self._piece(first, last, seal)
                    self.whole.add((first, last, seal))
                self.pieces[first, last] = seal
            replay = ((first, self._piece(first, last, seal)) for first, last, seal in wanted)
        return Checkpoint(step, arrays, replay, manifest["notes"])

    def _piece(self, first: int, last: int, seal: str | None) -> np.ndarray:
        """The rows of one replay file. Raises DamagedFile."""
        path = self.folder / f"replay-{first}-{last}.bin"
        if not path.exists():
            raise DamagedFile(f"{path} is missing")
        return unpack_arrays(files.read_sealed(path, seal))["rows"]

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
        start = -1 if step is None else step
        self._drop(lambda step: step <= start, lambda piece: piece[1] <= start)
        self.steps = self.checkpoint_steps()[::-1]
        for name, table in self.tables.items():
            table.begin(b"" if step is None else table.verify(*self.vouched[name]), self.owner.check)
        return checkpoint

    def keep_policy(self, step: int, policy: dict[str, np.ndarray]) -> None:
        """Write the policy of an evaluation."""
        files.write(self.folder / f"policy-{step}.npz", pack_arrays(policy), check=self.owner.check)

    # ---- the end

    def end_attempt(self, step: int, usage: dict[str, float]) -> None:
        """Close the record of this attempt: where it came to and what it used."""
        self.record["attempts"][-1] |= {"ended": _now(), "to_step": step} | usage
        self._write_record()

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
        content = {
            name: table.content() for name, table in self.tables.items()
        }  # of this attempt's own files
        content["policy.npz"] = pack_arrays(policy)
        files.write(self.folder / "policy.npz", content["policy.npz"], check=self.owner.check)
        self.record |= _totals(self.record["attempts"])
        self.end_attempt(step, usage)
        digests = {name: sha256(data).hexdigest() for name, data in content.items()}
        result = {"format": FORMAT, "status": status, "steps": step, "score": score, "digests": digests}
        result["unstable_steps"] = {
            name: _sum(content[f"{name}.csv"], "unstable") for name in ("train", "eval")
        }
        result["unstable_steps"]["train"] += unstable
        result["digest"] = sha256(json.dumps(result, sort_keys=True).encode()).hexdigest()
        files.write_json(self.folder / "result.json", result, check=self.owner.check)
        self.clean_up()

    def clean_up(self) -> None:
        """Remove what only an unfinished run needs."""
        self.owner.hush()
        patterns = ("checkpoint-*.bin", "replay-*.bin", "progress.json")
        self._remove([path.name for pattern in patterns for path in self.folder.glob(pattern)])


def open_all(runs: Sequence[Run]) -> None:
    """Take all of the runs, or none and raise RunHeld. Clears what killed attempts left behind."""
    for run in runs:
        run.folder.mkdir(parents=True, exist_ok=True)
    acquire_all([run.owner for run in runs])
    try:
        for run in runs:
            run.owner.told = run.last_progress()
            if run.is_finished():
                run.clean_up()
    except BaseException:
        for run in runs:
            run.close()
        raise


def _sum(table: bytes, name: str) -> int:
    """Sum of a column of whole numbers."""
    header, *rows = (line.split(",") for line in table.decode().splitlines())
    return sum(int(row[header.index(name)]) for row in rows)


def _totals(attempts: list[dict]) -> dict[str, object]:
    """What all attempts together say of a run that is over."""
    totals: dict[str, object] = {"restarts": len(attempts) - 1}
    for name in ("lost_steps", "lost_wall_s"):
        totals[name] = round(sum(attempt.get(name, 0) for attempt in attempts), 3)
    # Something of an attempt is in the result if all later ones began after the step it began at.
    starts = [attempt["from_step"] for attempt in attempts]
    counts = [a for i, a in enumerate(attempts) if all(start > starts[i] for start in starts[i + 1 :])]
    platforms = sorted({attempt.get("platform", "not recorded") for attempt in counts})
    return totals | ({"mixed_platforms": platforms} if len(platforms) > 1 else {})


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")

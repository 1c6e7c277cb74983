"""Checkpoints: the whole state of a run at a step, in files that a kill or a full disk cannot damage.

    checkpoint-<step>.bin           the state; the last two are kept
    replay-<first>-<last>.bin       the transitions that were stored since the previous checkpoint

A checkpoint names the replay files that belong to it. Both kinds begin with the sha256 of the rest.
"""

import io
import json
import math
import tokenize
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from ascent.records import files, layout
from ascent.records.errors import DamagedFile, InputError, differences
from ascent.records.ownership import Ownership

FORMAT = 2  # of the files in a run's folder
KEPT = 2  # checkpoints
# What numpy may raise for a header that is none.
BAD_HEADER = (MemoryError, LookupError, TypeError, SyntaxError, tokenize.TokenError)
MOST_POLICY = 1 << 27  # bytes of a policy's arrays
MOST_HEADER = 10_000  # characters of an array's header
State = dict[str, np.ndarray]  # each array of one seed has its seed axis, of length 1, first
Vouched = dict[str, tuple[int, str]]  # name of a table -> its length in bytes and its sha256 at a checkpoint


def pack_arrays(arrays: dict[str, np.ndarray]) -> bytes:
    """Return named arrays as an uncompressed .npz: the same arrays give the same bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes names for its own parameters
    return buffer.getvalue()


def unpack_arrays(data: bytes | memoryview, most: int = files.MOST_BYTES) -> dict[str, np.ndarray]:
    """Return the arrays of an .npz, such as `pack_arrays` packs: at most `most` bytes in all.

    Raises:
        ValueError: it is damaged, holds anything but arrays of numbers or text, or claims more than it has.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if (size := sum(entry.file_size for entry in archive.infolist())) > most:
                raise ValueError(f"its arrays have {size:,} bytes: at most {most:,}")
            for entry in archive.infolist():
                _check_array(archive, entry)
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (*files.UNREADABLE_ZIP, *BAD_HEADER) as error:
        raise ValueError(str(error) or type(error).__name__) from error


def _check_array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise ValueError unless an entry of an archive is an array of the size that its header gives."""
    if not entry.filename.endswith(".npy") or entry.file_size > files.MOST_RATIO * (entry.compress_size + 1):
        raise ValueError(f"{entry.filename!r}, of {entry.file_size:,} bytes, is no array")
    with archive.open(entry) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{entry.filename!r} has an array of another version")
        shape, _, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=MOST_HEADER)
        size = dtype.itemsize * math.prod(shape)
        if dtype.kind not in "biufcUS" or min(shape, default=0) < 0 or size != entry.file_size - file.tell():
            raise ValueError(f"{entry.filename!r} claims to be an array {shape} of {dtype}")


def furthest(folder: Path) -> int:
    """Return the step of the furthest undamaged checkpoint in a run's folder; -1 without checkpoints.

    Raises:
        DamagedFile: there are checkpoints, and all of them are damaged.
    """
    damage = None
    for (step,) in sorted(layout.numbers(folder, "checkpoint", 1), reverse=True):
        try:
            _check(folder, step)
            return step
        except (ValueError, LookupError, TypeError, FileNotFoundError) as error:
            damage = damage or DamagedFile(f"{folder / layout.checkpoint(step)} is damaged: {error}")
        except DamagedFile as error:
            damage = damage or error
    if damage:
        raise DamagedFile(f"{damage}; no older checkpoint is usable")
    return -1


def _check(folder: Path, step: int) -> None:
    """Raise DamagedFile unless a checkpoint, the rows that it vouches for and its replay files are whole."""
    path = folder / layout.checkpoint(step)
    manifest = json.loads(unpack_arrays(files.read_sealed(path))["manifest"].tobytes())
    for name, (size, digest) in manifest["tables"].items():
        if sha256(files.read(folder / name)[:size]).hexdigest() != digest:
            raise DamagedFile(f"{folder / name} is damaged: its first {size} bytes do not match {path.name}")
    pieces = sorted(manifest.get("replay", ()))
    there = [piece for piece in pieces if (folder / layout.replay(*piece[:2])).exists()]
    # The oldest of them may have gone: replay forgets. The others must be there without a gap.
    if pieces and (not there or there != pieces[-len(there) :]):
        raise DamagedFile(f"{path} is damaged: files of its replay are missing")
    for first, last, seal in there:
        files.read_sealed(folder / layout.replay(first, last), seal)


@dataclass
class Checkpoint:
    """The whole state of one seed at a step boundary."""

    step: int
    state: State
    # Transitions, oldest first: (number of the first, rows (n, W) float32). When written: those since the
    # previous checkpoint; when read: all that replay holds, and perhaps older ones. None without replay.
    replay: Iterable[tuple[int, np.ndarray]] | None
    notes: dict[str, Any]  # compute used so far, names of the metrics


class Checkpoints:
    """The checkpoints in a run's folder. Every write first checks the ownership."""

    def __init__(self, folder: Path, owner: Ownership, header: dict[str, Any], capacity: int):
        self.folder = folder
        self.owner = owner
        self.header = header  # goes into every checkpoint; `made_with` must agree when it is read
        self.capacity = capacity  # transitions that replay holds; 0 without replay
        self.valid_steps: list[int] = []  # the checkpoints that count, oldest first
        self.pieces: dict[tuple[int, ...], str | None] = {}  # the replay files that count -> sha256, if known
        self.checked: set[tuple[int, int, str | None]] = set()  # replay files that were read and are whole

    def steps(self) -> list[int]:
        """Return the steps of all checkpoints in the folder, the newest first, damaged ones included."""
        return sorted((step for (step,) in layout.numbers(self.folder, "checkpoint", 1)), reverse=True)

    def save(self, checkpoint: Checkpoint, tables: Vouched) -> None:
        """Write a checkpoint and remove all but the last two."""
        step = checkpoint.step
        for first, rows in checkpoint.replay or ():
            if len(rows):
                last = first + len(rows)
                path = self.folder / layout.replay(first, last)
                self.pieces[first, last] = files.write_sealed(
                    path, pack_arrays({"rows": rows}), self.owner.check
                )
        manifest = {
            **self.header,
            "notes": checkpoint.notes,
            "tables": {name: list(vouched) for name, vouched in tables.items()},
            "replay": [[*piece, seal] for piece, seal in self.pieces.items()],
        }
        arrays = {"manifest": np.frombuffer(json.dumps(manifest).encode(), np.uint8), **checkpoint.state}
        files.write_sealed(self.folder / layout.checkpoint(step), pack_arrays(arrays), self.owner.check)
        self.valid_steps = [*self.valid_steps, step][-KEPT:]
        oldest = self.valid_steps[0] - self.capacity
        self.pieces = {piece: seal for piece, seal in self.pieces.items() if piece[1] > oldest}
        # Whatever else lies there is older, or from a process that lost the run.
        self.drop(lambda step: step in self.valid_steps, lambda piece: piece in self.pieces)

    def load(self, step: int) -> tuple[Checkpoint, Vouched]:
        """Return the checkpoint of a step with all of its replay, and what it vouches for.

        Raises:
            DamagedFile: the checkpoint or a part of its replay is missing or damaged.
            InputError: it was written with other versions than are running now.
        """
        path = self.folder / layout.checkpoint(step)
        arrays = unpack_arrays(files.read_sealed(path))
        manifest = json.loads(arrays.pop("manifest").tobytes())
        if manifest["format"] != self.header["format"]:
            raise InputError(
                f"{path} has record format {manifest['format']}; this version needs format "
                f"{self.header['format']}"
            )
        if manifest["made_with"] != self.header["made_with"]:
            changed = differences(manifest["made_with"], self.header["made_with"])
            raise InputError(f"{path} cannot be resumed exactly: {changed}")
        self.pieces = {}
        replay = None
        if self.capacity:
            pieces = self._pieces_of(path, step, manifest)
            for first, last, seal in pieces:
                if (first, last, seal) not in self.checked:
                    self._rows(first, last, seal)
                    self.checked.add((first, last, seal))
                self.pieces[first, last] = seal
            replay = ((first, self._rows(first, last, seal)) for first, last, seal in pieces)
        vouched = {name: (size, digest) for name, (size, digest) in manifest["tables"].items()}
        return Checkpoint(step, arrays, replay, manifest["notes"]), vouched

    def _pieces_of(
        self, path: Path, step: int, manifest: dict[str, Any]
    ) -> list[tuple[int, int, str | None]]:
        """Return the replay files that a checkpoint needs: first, last, sha256. Raises DamagedFile."""
        present = [[*piece, None] for piece in sorted(layout.numbers(self.folder, "replay", 2))]
        listed = manifest.get("replay", present)  # early checkpoints do not name their files
        pieces = [(first, last, seal) for first, last, seal in listed if step - self.capacity < last <= step]
        ends = [max(0, step - self.capacity), *(last for _, last, _ in pieces)]
        if ends[-1] != step or any(first > end for (first, _, _), end in zip(pieces, ends, strict=False)):
            raise DamagedFile(f"{path} is damaged: transitions before step {step} are missing")
        return pieces

    def _rows(self, first: int, last: int, seal: str | None) -> np.ndarray:
        """Return the rows of one replay file. Raises DamagedFile."""
        path = self.folder / layout.replay(first, last)
        if not path.exists():
            raise DamagedFile(f"{path} is missing")
        return unpack_arrays(files.read_sealed(path, seal))["rows"]

    def cut(self, step: int) -> None:
        """Remove everything after a step; -1 removes all."""
        self.drop(lambda other: other <= step, lambda piece: piece[1] <= step)
        self.valid_steps = self.steps()[::-1]

    def drop(self, keep: Callable[[int], bool], keep_piece: Callable[[tuple[int, ...]], bool]) -> None:
        """Remove checkpoints, selected by their steps, and replay files, selected by their transitions."""
        steps = [step for step in self.steps() if not keep(step)]
        pieces = [piece for piece in layout.numbers(self.folder, "replay", 2) if not keep_piece(piece)]
        self.owner.remove_files(layout.checkpoint(step) for step in steps)
        self.owner.remove_files(layout.replay(first, last) for first, last in pieces)

"""The tables of a run: CSV files that grow while it trains."""

import os
from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path

from ascent.records import files, layout
from ascent.records.errors import DamagedFile

EPISODE = ("return", "length", "unstable")  # columns of an episode, before the task's own
VALUES = ("value_estimate", "value_return", "value_bias", "value_rmse")
GRADIENTS = ("gradient_variance", "gradient_square")
HEADERS: dict[str, tuple[str, ...]] = {
    layout.EVAL: ("step", "policy", "episode", *EPISODE),
    layout.TRAIN: ("step", "env", *EPISODE),
    layout.METRICS: (),  # depends on the algorithm: it is written with the first row
    layout.LADDER: ("step", "event", "digest"),
    layout.MEASURES: ("step", "measure", "value"),
}
MEASURED = ("value_states", *VALUES, "gradient_windows", *GRADIENTS)  # names of measures
EARLY_MEASURES = ("step", *MEASURED)  # header of measures.csv while it had a column per measure
EPISODE_TABLES = (layout.EVAL, layout.TRAIN)  # those with the task's own columns


def row_text(*row: object) -> str:
    """Return the line of a row. Floats are written so that they read back as the same number."""
    return ",".join(repr(float(x)) if isinstance(x, float) else str(x) for x in row)


class Table:
    """A CSV file that grows. `size` and `hash` cover all rows flushed so far.

    Only what a checkpoint (or, at the end, result.json) vouches for counts: it names the length and the
    sha256 of each file, and a resumed run leaves out the rest. It continues in a new file, so that a process
    that lost the run (`ownership.py`) appends to an unlinked file.
    """

    def __init__(self, path: Path, header: Sequence[str]):
        self.path = path
        self.header = ",".join(header)
        self.handle = -1
        self.size = 0
        self.hash = sha256()
        self.pending: list[str] = []

    def begin(self, rows: bytes = b"", check: Callable[[], None] = lambda: None) -> None:
        """Start a new file with these rows; it replaces the previous one."""
        self.close()
        self.handle = files.start(self.path, rows, check=check)
        self.size = len(rows)
        self.hash = sha256(rows)
        self.pending = [self.header] if self.header and not rows else []

    def head(self, *names: str) -> None:
        """Write the header, unless there is one: for columns that are known only with the first row."""
        if not self.size and not self.pending:
            self.pending.append(",".join(names))

    def add(self, *row: object) -> None:
        """Add a row."""
        self.pending.append(row_text(*row))

    def flush(self, durable: bool) -> None:
        """Append the added rows to the file."""
        data = "".join(line + "\n" for line in self.pending).encode()
        if data or durable:
            files.append(self.handle, data, durable)
        self.size += len(data)
        self.hash.update(data)
        self.pending = []

    def content(self) -> bytes:
        """Return all flushed rows, read back. Raises DamagedFile if they are not what was written."""
        data = os.pread(self.handle, self.size, 0)
        if sha256(data).digest() != self.hash.digest():
            raise DamagedFile(f"{self.path} is damaged: its content changed after it was written")
        return data

    def verify(self, size: int, digest: str) -> bytes:
        """Return the first `size` bytes of the file. Raises DamagedFile if their sha256 is not `digest`."""
        data = self.path.read_bytes()[:size] if self.path.exists() else b""
        if len(data) != size or sha256(data).hexdigest() != digest:
            raise DamagedFile(f"{self.path} is damaged: its first {size} bytes do not match the checkpoint")
        return data

    def close(self) -> None:
        """Close the file."""
        if self.handle >= 0:
            os.close(self.handle)
        self.handle = -1


def tables_of(folder: Path, columns: Sequence[str]) -> dict[str, Table]:
    """Return the tables of a run by name. Tables of episodes also have the task's own `columns`."""
    return {
        name: Table(folder / name, (*header, *columns) if name in EPISODE_TABLES else header)
        for name, header in HEADERS.items()
    }

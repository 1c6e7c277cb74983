"""Writes that a kill or a full disk cannot damage, and the checks that notice what else can.

A file is replaced whole: written under a temporary name in the same folder, fsynced, renamed, the folder
fsynced. A file is appended to only up to lengths that a later, whole write vouches for (the checkpoint, the
result).
"""

import json
import os
import socket
from hashlib import sha256
from pathlib import Path

from runners.errors import DamagedFile


def write(path: Path, data: bytes, durable: bool = True) -> None:
    """Replace `path` by `data`, all or nothing. Not `durable`: a power cut may lose it, a kill does not."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        try:
            _write_all(handle, data)
            if durable:
                os.fsync(handle)
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    if durable:
        sync_folder(path.parent)


def append(path: Path, data: bytes, durable: bool) -> None:
    """Add `data` to the end of `path`. A failure may leave a part: the caller knows what counts."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        _write_all(handle, data)
        if durable:
            os.fsync(handle)
    finally:
        os.close(handle)


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(handle, view) :]


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_json(path: Path, value: object, durable: bool = True) -> None:
    """Replace `path` by `value` as readable JSON with sorted keys."""
    write(path, (json.dumps(value, indent=1, sort_keys=True) + "\n").encode(), durable)


def read_json(path: Path) -> dict:
    """The object in `path`. Raises DamagedFile if it is no JSON object, OSError if it cannot be read."""
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} is damaged: not a JSON object")
    return value


def write_sealed(path: Path, data: bytes) -> None:
    """Replace `path` by the sha256 of `data` (32 bytes) and `data`."""
    write(path, sha256(data).digest() + data)


def read_sealed(path: Path) -> memoryview:
    """What `write_sealed` wrote. Raises DamagedFile if any bit of the file has changed since."""
    content = memoryview(path.read_bytes())  # slices of it are no copies
    if len(content) < 32 or sha256(content[32:]).digest() != content[:32]:
        raise DamagedFile(f"{path} is damaged: its sha256 does not match")
    return content[32:]

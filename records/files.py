"""Writes that neither a kill nor a full disk can damage, and checks that detect damage from other causes.

A file is replaced as a whole: written under a temporary name in the same folder, fsynced and renamed; then
the folder is fsynced. Rows appended to a file count only up to the length that a later whole write vouches
for (a checkpoint, or the result).
"""

import errno
import io
import json
import lzma
import os
import socket
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

from ascent.records.errors import DamagedFile, InputError


def _most_bytes() -> int:
    """Return the limit that ASCENT_MOST_BYTES sets (default: 2 GiB)."""
    text = os.environ.get("ASCENT_MOST_BYTES", str(1 << 31))
    if not text.isdecimal():
        raise InputError(f"ASCENT_MOST_BYTES is {text!r}: it must be a number of bytes, such as {1 << 33}")
    return int(text)


# Of a file of a record, and of an archive unpacked: more than most, less than a zip bomb claims.
MOST_BYTES = _most_bytes()
MOST_RATIO = 1100  # of compression; deflate reaches 1032 at most
PROCESS = uuid4().hex[:12]  # forks share it: together with the pid it is unique
# What reading a damaged or hostile zip archive may raise.
UNREADABLE_ZIP = (
    OSError, EOFError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError,
    ValueError, OverflowError, struct.error,
)  # fmt: skip
NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)  # a file system without hard links


def write(path: Path, data: bytes, durable: bool = True, check: Callable[[], None] = lambda: None) -> None:
    """Replace the content of `path` by `data`, all or nothing.

    Args:
        durable: survive a power cut, too; a kill never loses the file.
        check: called when everything is written but nothing is replaced yet; may raise.
    """
    os.close(start(path, data, durable, check))


def start(path: Path, data: bytes, durable: bool = True, check: Callable[[], None] = lambda: None) -> int:
    """Replace the content of `path` as `write` does, and return the open file for appending and reading."""
    temporary, handle = _written(path, data, durable)
    try:
        check()
        os.replace(temporary, path)
        if durable:
            sync_folder(path.parent)
    except BaseException:
        os.close(handle)
        temporary.unlink(missing_ok=True)
        raise
    return handle


def create(path: Path, data: bytes) -> bool:
    """Create `path`, all or nothing, and return whether it was created: False if it exists already.

    Of several processes that try, exactly one gets True.
    """
    temporary, handle = _written(path, data, durable=True)
    os.close(handle)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return path.exists() and path.read_bytes() == data  # ours if only the file server's answer was lost
    except FileNotFoundError:
        return False  # another process was faster and removed our temporary file
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        return _create_slowly(path, data)
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _create_slowly(path: Path, data: bytes) -> bool:
    """Do the same as `create` without hard links: other processes may see an incomplete file."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        return False
    try:
        append(handle, data, durable=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)
    return True


def _written(path: Path, data: bytes, durable: bool) -> tuple[Path, int]:
    """Return a new temporary file beside `path` that contains `data`, and its open descriptor."""
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}-{PROCESS}.tmp")
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o666)
    try:
        append(handle, data, durable)
    except BaseException:
        os.close(handle)
        temporary.unlink(missing_ok=True)
        raise
    return temporary, handle


def append(handle: int, data: bytes, durable: bool) -> None:
    """Append `data` to an open file. A failure may leave a part of it: the caller must know the
    valid length.
    """
    _write_all(handle, data)
    if durable:
        os.fsync(handle)


def line_ends(data: bytes, digest: object) -> str:
    """Return what to add to "sha256 differs" where nothing but the line ends were changed; else ""."""
    changed = sha256(data.replace(b"\r\n", b"\n")).hexdigest() == digest
    return ": its line ends were changed to CRLF, as git or an editor does" if changed else ""


def _write_all(handle: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(handle, view) :]
    except OSError as error:  # such as a full disk: it does not say which file
        raise OSError(error.errno, error.strerror, _name_of(handle)) from error


def _name_of(handle: int) -> str | None:
    """Return the path of an open file, where the system says it."""
    try:
        return os.readlink(f"/proc/self/fd/{handle}")
    except OSError:
        return None


def sync_folder(folder: Path) -> None:
    """Make renames and new names in `folder` durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def read(path: str | Path, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file of a record: a regular one, not a link, of at most `most` bytes.

    Raises as `opened`.
    """
    with opened(path, most) as file:
        return file.read()


@contextmanager
def opened(path: str | Path, most: int = MOST_BYTES) -> Iterator[IO[bytes]]:
    """Yield a file of a record, open for reading: a regular one of at most `most` bytes, not a link, nor in a
    folder that is a link.

    Records may come from strangers: a link could lead to a secret, and reading a pipe would never end. For a
    file that the user named, which may be a link, give `path.resolve()`.

    Raises:
        DamagedFile: it is anything else.
        OSError: it is missing, or cannot be read.
    """
    refuse_link(Path(path).parent)
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except ValueError as error:
        raise DamagedFile(f"{path} is no name of a file: {error}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise DamagedFile(f"{path} is a link: records have regular files only") from error
        raise
    with open(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise DamagedFile(f"{path} is no regular file")
        if about.st_size > most:
            raise DamagedFile(f"{path} has {about.st_size:,} bytes: at most {most:,} are read")
        yield file


def refuse_link(folder: Path) -> None:
    """Raise DamagedFile if a folder of a record is a link: what is done in it would be done elsewhere."""
    if os.path.islink(folder):
        raise DamagedFile(f"{folder} is a link: records have regular folders only")


def json_bytes(value: object) -> bytes:
    """Return `value` as readable JSON with sorted keys."""
    return (json.dumps(value, indent=1, sort_keys=True) + "\n").encode()


def write_json(
    path: Path, value: object, durable: bool = True, check: Callable[[], None] = lambda: None
) -> None:
    """Replace `path` by `value` as readable JSON with sorted keys."""
    write(path, json_bytes(value), durable, check)


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in `path`. Raises DamagedFile if there is none, OSError if it cannot be read."""
    return parse_json(read(path), path)


def parse_json(data: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object that was read from `path`. Raises DamagedFile if there is none."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: {error}") from error
    if not isinstance(value, dict):
        raise DamagedFile(f"{path} is damaged: not a JSON object")
    return value


def write_sealed(path: Path, data: bytes, check: Callable[[], None] = lambda: None) -> str:
    """Replace the content of `path` by the sha256 of `data` (32 bytes) and `data`; return that sha256."""
    seal = sha256(data)
    write(path, seal.digest() + data, check=check)
    return seal.hexdigest()


def read_sealed(path: Path, seal: str | None = None) -> memoryview:
    """Return what `write_sealed` wrote. Raises DamagedFile if any bit of the file has changed since, or if
    its sha256 is not `seal`.
    """
    content = memoryview(read(path))  # slices of it are no copies
    if len(content) < 32 or sha256(content[32:]).digest() != content[:32]:
        raise DamagedFile(f"{path} is damaged: its sha256 does not match")
    if seal not in (None, content[:32].hex()):
        raise DamagedFile(f"{path} is damaged: it differs from the recorded file")
    return content[32:]


def last_lines(log: Path, n: int = 5) -> list[str]:
    """Return the last lines of a log that are not empty; none if there is no such file."""
    if not log.exists():
        return []
    return [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-n:]


def zip_files(contents: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive: the same names and contents give the same bytes.

    `compression` is one of the constants of `zipfile`.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(contents.items()):
            archive.writestr(zipfile.ZipInfo(name), content, compression)  # ZipInfo is dated 1980
    return buffer.getvalue()

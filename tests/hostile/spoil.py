"""Ways to spoil a valid file: values, tables, archives, arrays, and what stands in a file's place."""

import io
import json
import os
import pickle
import random
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

# Terminal escapes, a carriage return, a change of direction, mathtext, a formula, HTML, Markdown and LaTeX.
ESCAPES = (
    "\x1b[2J\x1b[32mPASS\x1b[0m\r\x9b1A\u202e$\\frac{$ =HYPERLINK(1) <script>alert(1)</script> "
    "|a| & % _ # [b](https://example.org) \n# c"
)


# ---- JSON

DEEP = "[" * 5_000 + "]" * 5_000
LITERALS = {  # by a name that no record holds
    "@deep": DEEP,
    "@digits": "9" * 5_000,
    "@infinity": "1e999",
    "@nan": "NaN",
    "@surrogate": '"\\ud800"',
}
VALUES = [
    None, True, -1, 0, 1.5, 10**30, "", ESCAPES, "../../../secret.txt", "/etc/passwd", "x" * 100_000, [], {},
    [1], [None] * 100_000, {"a": {"b": [1]}}, *LITERALS,
]  # fmt: skip
Place = tuple[str | int, ...]


def places(value: Any, path: Place = ()) -> Iterator[Place]:
    """Yield the place of each value in a JSON value, the value itself first."""
    yield path
    items: Any = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    )
    for key, item in items:
        yield from places(item, (*path, key))


def json_with(content: Any, path: Place, new: Any) -> bytes:
    """Return JSON with another value in one place."""
    content = json.loads(json.dumps(content))
    if not path:
        content = new
    else:
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        parent[path[-1]] = new
    text = json.dumps(content)
    for name, literal in LITERALS.items():
        text = text.replace(json.dumps(name), literal)
    return text.encode()


def spoil_json(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return a JSON file with one value replaced, removed or added, and what was done."""
    content = json.loads(data)
    path = chance.choice(list(places(content)))
    kind = chance.randrange(8)
    if kind == 0 and path:
        parent = content
        for key in path[:-1]:
            parent = parent[key]
        del parent[path[-1]]
        return f"without {path}", json.dumps(content).encode()
    if kind == 1:
        parent = content
        for key in path:
            parent = parent[key]
        if isinstance(parent, dict):
            parent[ESCAPES] = ESCAPES
            return f"more in {path}", json.dumps(content).encode()
    number = chance.randrange(len(VALUES))
    return f"{path} = VALUES[{number}]", json_with(content, path, VALUES[number])


# ---- tables

CELLS = [
    "",
    "nan",
    "inf",
    "-1",
    "1e999",
    "9" * 400,
    "1" + "0" * 30,
    "=1+1",
    ESCAPES.replace("\n", " "),
    '"',
    "x" * 100_000,
]


def spoil_csv(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return a table with one fault, and what was done."""
    lines = [line.split(",") for line in data.decode().splitlines()]
    row, kind = chance.randrange(len(lines)), chance.randrange(12)
    column = chance.randrange(len(lines[row]))
    match kind:
        case 0:
            lines[row].append("1")
        case 1:
            del lines[row][column]
        case 2:
            lines = lines[:1]
        case 3:
            lines = [[*line, "1"] for line in lines]
        case 4:
            lines[0] = ["step"] * len(lines[0])
        case 5:
            lines = [lines[0], *lines[1:], *lines[1:]]
        case 6:
            return "NUL bytes", data + b"\0" * 1000
        case 7:
            return "CRLF", data.replace(b"\n", b"\r\n")
        case 8:
            return "commas", data + b"," * 1_000_000
        case _:
            new = chance.randrange(len(CELLS))
            lines[row][column] = CELLS[new]
            return f"{row},{column} = CELLS[{new}]", "".join(",".join(line) + "\n" for line in lines).encode()
    return f"kind {kind} at {row},{column}", "".join(",".join(line) + "\n" for line in lines).encode()


# ---- archives


def spoil_zip(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return an archive with one fault, and what was done."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name = chance.choice(sorted(entries))
    kind = chance.randrange(12)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            info, method = zipfile.ZipInfo(entry), zipfile.ZIP_DEFLATED
            if entry == name:
                match kind:
                    case 0:
                        info.filename = "../../outside"
                    case 1:
                        info.filename = "/tmp/outside-ascent"
                    case 2:
                        info.external_attr = 0o120777 << 16
                        content = b"../../../secret.txt"
                    case 3:
                        content = bytes(200 << 20)
                    case 4:
                        continue
                    case 5:
                        content = b""
                    case 6:
                        info.filename = f"{entry}{ESCAPES}"
                    case 7:
                        content = content[: len(content) // 2]
                    case 8:
                        content = DEEP.encode()
                    case 9:
                        method = zipfile.ZIP_LZMA
                    case 10:
                        content = b"\xff\xfe" + content
                    case 11:
                        content = planted(entry)
            archive.writestr(info, content, method)
    packed = bytearray(buffer.getvalue())
    if kind == 5:  # sizes that are not true
        place = packed.find(b"PK\1\2")
        packed[place + 24 : place + 28] = (4_000_000_000).to_bytes(4, "little")
    return f"kind {kind} of {name}", bytes(packed)


def planted(name: str) -> bytes:
    """Return content that would leave a trace where it is run or unpickled."""
    if name.endswith(".npy"):
        buffer = io.BytesIO()
        np.lib.format.write_array_header_1_0(buffer, {"descr": "|O", "fortran_order": False, "shape": (1,)})
        return buffer.getvalue() + pickle.dumps(_Planted())
    return b"import pathlib\npathlib.Path('../planted').touch()\ndef (:\n"


class _Planted:
    def __reduce__(self) -> Any:
        return os.system, ("touch ../planted",)


HEADERS = [
    "{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,), }",
    "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': [('a', '<f4'), ('b', '|O')], 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<U1000000', 'fortran_order': False, 'shape': (10,), }",
    "{'descr': '<c16', 'fortran_order': False, 'shape': (), }",
    "{'descr': '<f4', 'fortran_order': True, 'shape': (0, 5), }",
    "(" * 3_000,
    "__import__('os').system('touch ../planted')",
    "{'descr': '<M8[s]', 'fortran_order': False, 'shape': (3,), }",
]


def spoil_npz(data: bytes, chance: random.Random) -> tuple[str, bytes]:
    """Return arrays with one fault, and what was done."""
    if chance.randrange(3) == 0:
        return spoil_zip(data, chance)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    name, number = chance.choice(sorted(entries)), chance.randrange(len(HEADERS))
    header = HEADERS[number].encode() + b"\n"
    entries[name] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(160)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for entry, content in entries.items():
            archive.writestr(zipfile.ZipInfo(entry), content)
    return f"header {number} of {name}", buffer.getvalue()


# ---- any file


PLACED = (
    "link to a file outside", "link to a device", "pipe", "folder", "half", "bits", "huge", "binary", "deep",
    "missing",
)  # fmt: skip


def spoil_file(path: Path, chance: random.Random) -> str:
    """Replace a file by something else, or damage it. Returns what was done."""
    data = path.read_bytes()
    kind = chance.randrange(len(PLACED))
    path.unlink()
    match kind:
        case 0:
            secrets = (folder / "secret.txt" for folder in path.parents)
            path.symlink_to(next(secret for secret in secrets if secret.exists()))
        case 1:
            path.symlink_to("/dev/zero")
        case 2:
            os.mkfifo(path)
        case 3:
            path.mkdir()
        case 4:
            path.write_bytes(data[: len(data) // 2])
        case 5:
            spoiled = bytearray(data)
            for _ in range(5):
                spoiled[chance.randrange(len(spoiled))] ^= 1 << chance.randrange(8)
            path.write_bytes(spoiled)
        case 6:
            with path.open("wb") as file:
                file.truncate(3 << 30)
        case 7:
            path.write_bytes(b"\xff\xfe\x00\x1b[2J" * 1000)
        case 8:
            path.write_bytes(DEEP.encode() * 20)
    return PLACED[kind]


SPOILERS: dict[str, Callable[[bytes, random.Random], tuple[str, bytes]]] = {
    ".json": spoil_json,
    ".csv": spoil_csv,
    ".zip": spoil_zip,
    ".npz": spoil_npz,
}


def spoil(path: Path, chance: random.Random) -> str:
    """Spoil a file in a way that fits its kind. Returns what was done."""
    spoiler = SPOILERS.get(path.suffix)
    if spoiler is None or chance.randrange(4) == 0:
        return spoil_file(path, chance)
    done, data = spoiler(path.read_bytes(), chance)
    path.write_bytes(data)
    return done

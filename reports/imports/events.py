"""TensorBoard's event files, as torch's SummaryWriter, Stable-Baselines3, CleanRL and Tianshou write them.

A file is a sequence of TFRecords: the length of the data (8 bytes, little-endian), its checksum (4 bytes),
the data, its checksum. Checksums are CRC-32C, masked. The data are an `Event` of protocol buffers
(tensorflow/core/util/event.proto): wall_time = 1, step = 2, summary = 5; a `Summary` has values = 1; a
`Value` has tag = 1, simple_value = 2 or tensor = 8. Nothing else is read.

All event files in a folder are one run. Where a run was resumed, a later file begins at an earlier step than
the previous one ended: what the previous one has from that step on is left out, as TensorBoard does. Values
of a tag at the same step are episodes of that step, as CleanRL logs them from parallel environments.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from ascent.records.errors import DamagedFile, InputError, unknown
from ascent.reports.imports.curve import (
    RETURN_WORDS,
    Absent,
    Asked,
    Curve,
    File,
    Format,
    choose,
    likely,
    points,
)

MOST_TAGS = 10_000
MOST_TAG = 1_000  # bytes
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers
EVENT_STEP, EVENT_SUMMARY = 2, 5
SUMMARY_VALUE = 1
VALUE_TAG, VALUE_SIMPLE, VALUE_TENSOR = 1, 2, 8
TENSOR_TYPE, TENSOR_CONTENT = 1, 4
# A tensor's type -> its numpy type, and the field that has its value where there is no content.
TENSORS = {1: ("<f4", 5), 2: ("<f8", 6), 3: ("<i4", 7), 9: ("<i8", 10), 19: ("<f2", 13)}


@dataclass
class _Scalars:
    """The values of one tag in one file, and the tags that the file has."""

    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    tags: dict[str, None] = field(default_factory=dict)
    first: int | None = None  # step of the first summary


def _crc_table() -> list[int]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_TABLE = _crc_table()


def masked_crc(data: bytes) -> int:
    """Return the checksum of a TFRecord: the CRC-32C (Castagnoli), rotated and shifted by a constant."""
    crc = 0xFFFFFFFF
    table = _TABLE
    for byte in data:
        crc = table[(crc ^ byte) & 0xFF] ^ crc >> 8
    crc ^= 0xFFFFFFFF
    return (crc >> 15 | crc << 17) + 0xA282EAD8 & 0xFFFFFFFF


def records(content: bytes, name: str) -> Iterator[bytes]:
    """Yield the data of the records. A last one that is cut off, as in a killed run, is left out.

    Raises:
        DamagedFile: a checksum does not match.
    """
    place = 0
    while place + 12 <= len(content):
        header = content[place : place + 8]
        (length,) = struct.unpack("<Q", header)
        (check,) = struct.unpack_from("<I", content, place + 8)
        if masked_crc(header) != check:
            raise DamagedFile(f"{name} is damaged at byte {place:,}: it is no event file, or was changed")
        end = place + 12 + length
        if end + 4 > len(content):
            return
        data = content[place + 12 : end]
        if masked_crc(data) != struct.unpack_from("<I", content, end)[0]:
            raise DamagedFile(f"{name} is damaged at byte {place:,}: a checksum does not match")
        yield data
        place = end + 4


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Return a number and the place after it. Raises IndexError at the end, ValueError if it has no end."""
    number = shift = 0
    while True:
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, place
        shift += 7
        if shift > 63:
            raise ValueError("a number has more than 64 bits")


def fields(data: bytes) -> Iterator[tuple[int, int, int | bytes]]:
    """Yield number, wire type and content of the fields of a message. Raises ValueError or IndexError."""
    place = 0
    while place < len(data):
        key, place = _varint(data, place)
        number, kind = key >> 3, key & 7
        if kind == VARINT:
            value, place = _varint(data, place)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, place = _varint(data, place)
        elif kind in (FIXED32, FIXED64):
            size = 4 if kind == FIXED32 else 8
        else:
            raise ValueError(f"field {number} has wire type {kind}")
        if place + size > len(data):
            raise ValueError(f"field {number} is cut off")
        yield number, kind, data[place : place + size]
        place += size


def _tensor(data: bytes) -> float | None:
    """Return the number in a tensor of one number; None for any other tensor."""
    found = {number: value for number, _, value in fields(data)}
    kind = found.get(TENSOR_TYPE)
    if kind not in TENSORS:
        return None
    dtype, place = TENSORS[kind]
    content = found.get(TENSOR_CONTENT) or found.get(place)
    if isinstance(content, int):  # one number that is not packed
        return float(content - (1 << 64) if content >= 1 << 63 else content)
    if not isinstance(content, bytes):
        return None
    if place in (7, 10, 13) and TENSOR_CONTENT not in found:  # packed numbers of variable length
        number, end = _varint(content, 0)
        if end != len(content):
            return None
        if place == 13:
            return float(np.uint16(number & 0xFFFF).view(np.float16))
        return float(number - (1 << 64) if number >= 1 << 63 else number)
    size = np.dtype(dtype).itemsize
    return float(np.frombuffer(content, dtype)[0]) if len(content) == size else None


def _scalar(data: bytes) -> tuple[str, float | None]:
    """Return the tag of a value of a summary, and the number; None if it is none."""
    tag, number = "", None
    for place, kind, content in fields(data):
        if place == VALUE_TAG and isinstance(content, bytes):
            tag = content[:MOST_TAG].decode(errors="replace")
        elif place == VALUE_SIMPLE and kind == FIXED32 and isinstance(content, bytes):
            number = struct.unpack("<f", content)[0]
        elif place == VALUE_TENSOR and isinstance(content, bytes):
            number = _tensor(content)
    return tag, number


def _scalars(file: File, tag: str | None) -> _Scalars:
    found = _Scalars()
    for data in records(file.read(), file.name):
        try:
            step, summaries = 0, []
            for number, kind, content in fields(data):
                if number == EVENT_STEP and isinstance(content, int):
                    step = content - (1 << 64) if content >= 1 << 63 else content
                elif number == EVENT_SUMMARY and kind == BYTES:
                    summaries.append(content)
            for summary in summaries:
                assert isinstance(summary, bytes)
                values = [content for number, _, content in fields(summary) if number == SUMMARY_VALUE]
                for value in values:
                    if isinstance(value, bytes):
                        _add(found, *_scalar(value), step, tag)
        except (ValueError, IndexError, struct.error) as error:
            raise DamagedFile(f"{file.name} is damaged: {error}") from error
    return found


def _add(found: _Scalars, name: str, number: float | None, step: int, tag: str | None) -> None:
    if number is None:
        return
    found.first = step if found.first is None else found.first
    if len(found.tags) < MOST_TAGS:
        found.tags[name] = None
    if name == tag:
        found.steps.append(step)
        found.values.append(number)


def _read(sources: Sequence[File], asked: Asked) -> list[Curve]:
    """Read the scalars of one run: the event files of a folder, the oldest first."""
    run = sources[0].folder
    if asked.step is not None:
        raise InputError(f"{run}: --step-column: event files have one step only, that of the event")
    parts = [_scalars(file, asked.column) for file in sorted(sources, key=lambda file: file.path.name)]
    tags = list(dict.fromkeys(tag for part in parts for tag in part.tags))
    if asked.column is None:
        if not tags:
            raise Absent(f"{run}: its event files have no scalars")
        raise choose("--tag", run, [tag for tag in tags if RETURN_WORDS.search(tag)] or tags)
    if not any(part.steps for part in parts):
        raise Absent(str(unknown(f"tag of {run}", asked.column, likely(tags))))
    steps: list[int] = []
    values: list[float] = []
    for part in parts:
        if part.first is not None:
            kept = [k for k, step in enumerate(steps) if step < part.first]
            steps, values = [steps[k] for k in kept], [values[k] for k in kept]
        steps += part.steps
        values += part.values
    if min(steps) < 0 or max(steps) > 2**53:
        raise InputError(f"{run}: a step of {asked.column} is not a number from 0 to 2^53")
    return [Curve(run, points(np.array(steps), np.array(values), run))]


EVENTS = Format(
    "tensorboard",
    "TensorBoard: event files (torch, Stable-Baselines3, CleanRL, Tianshou)",
    lambda file, _: "tfevents" in file.path.name,
    _read,
    lambda file: str(file.path.parent),
)

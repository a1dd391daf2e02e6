"""One record batch as one message of an Arrow IPC stream, with what is needed to find and to check it.

Arrow's streams carry no checksum. Each message therefore has one more entry in its metadata, which every Arrow reader
hands over or ignores:

    nearline = "rows=… position=… durable=… bytes=… crc32=…"

The schema has a checksum of its own in its metadata. rows and position (of the first row) place it in the log, bytes is
the length of the body, crc32 is that of the whole message with its own eight digits as zeros, and durable is the
durable end when it was written. All have a fixed width.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

_KEY = "nearline"
_ENTRY = "rows={:012d} position={:020d} durable={:020d} bytes={:016d} crc32=00000000"
_HEADER = re.compile(rb"schema crc32=([0-9a-f]{8})")
_PATTERN = re.compile(rb"rows=(\d{12}) position=(\d{20}) durable=(\d{20}) bytes=(\d{16}) crc32=([0-9a-f]{8})")
_BEGIN = b"\xff\xff\xff\xff"
DIGITS = 8
"""Hexadecimal digits of the checksum, which end an entry."""
PREFIX = 8
"""Bytes before a message's metadata: 0xFFFFFFFF, then its length as int32."""


@dataclass(frozen=True, slots=True)
class Message:
    """Where a message lies: its first byte, its length in bytes, its first position and its rows."""

    at: int
    length: int
    position: int
    rows: int


@dataclass(frozen=True, slots=True)
class Fault:
    """The first byte of what is not a message, and why not."""

    at: int
    problem: str


def header(schema: Any) -> bytes:
    """The first message of a stream: its schema, with a checksum among its metadata."""
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, schema.with_metadata({_KEY: "schema crc32=00000000"})).close()
    data = bytearray(sink.getvalue())[:-PREFIX]  # without the end-of-stream mark
    match = _HEADER.search(data)
    assert match is not None
    data[match.start(1) : match.end(1)] = b"%08x" % zlib.crc32(data)
    return bytes(data)


def read_header(data: memoryview) -> Any:
    """The schema of a stream from its first message.

    Raises
    ------
    ValueError
        The message is not what was written.
    """
    blanked = bytearray(data)
    match = _HEADER.search(blanked)
    if match is None:
        raise ValueError("it has no checksum")
    found = int(match[1], 16)
    blanked[match.start(1) : match.end(1)] = b"00000000"
    if zlib.crc32(blanked) != found:
        raise ValueError("its checksum does not match")
    return pa.ipc.read_schema(pa.py_buffer(data)).remove_metadata()


def header_length(data: memoryview) -> int | None:
    """Bytes of the schema message at the start of a stream; None when it is not whole."""
    if len(data) < PREFIX or bytes(data[:4]) != _BEGIN:
        return None
    length = PREFIX + int.from_bytes(data[4:8], "little")
    return length if length <= len(data) else None


def encode(batch: Any, position: int, durable: int) -> tuple[bytearray, memoryview]:
    """Head and body of the message of a batch."""
    sink = pa.BufferOutputStream()
    writer = pa.ipc.new_stream(sink, batch.schema)
    # The body's length is known only afterwards; it has its place.
    writer.write_batch(batch, custom_metadata={_KEY: _ENTRY.format(batch.num_rows, position, durable, 0)})
    stream = memoryview(sink.getvalue())
    whole = stream[header_length(stream) :]
    cut = PREFIX + int.from_bytes(whole[4:8], "little")
    head, body = bytearray(whole[:cut]), whole[cut:]
    enter(head, body, batch.num_rows, position, durable)
    return head, body


def enter(head: Any, body: Any, rows: int, position: int, durable: int) -> None:
    """Write the entry of a message, in its place in the head."""
    begin, text = entry_place(head), entry(rows, position, durable, len(body))
    end = begin + len(text)
    head[begin:end] = text
    head[end - DIGITS : end] = b"%08x" % zlib.crc32(body, zlib.crc32(head))


def entry(rows: int, position: int, durable: int, size: int) -> bytes:
    """The entry of a message whose body has so many bytes, with zeros for its checksum."""
    return _ENTRY.format(rows, position, durable, size).encode()


def entry_place(head: Any) -> int:
    """First byte of a head's entry."""
    match = _PATTERN.search(head)
    assert match is not None
    return match.start()


def locate(data: memoryview, at: int, position: int) -> Message | Fault:
    """The message that begins at a byte and should begin at a position, its checksum verified."""
    if bytes(data[at : at + 4]) != _BEGIN:
        return Fault(at, "no message begins here")
    cut = at + PREFIX + int.from_bytes(data[at + 4 : at + 8], "little")
    head = bytearray(data[at:cut])
    match = _PATTERN.search(head)
    if cut > len(data) or match is None:
        return Fault(at, "the message has no whole head")
    rows, first, _, size = (int(match[i]) for i in range(1, 5))
    found = match[5]
    head[match.start(5) : match.end(5)] = b"00000000"
    if cut + size > len(data):
        return Fault(at, f"the message has {len(data) - cut} of {size} bytes")
    if b"%08x" % zlib.crc32(data[cut : cut + size], zlib.crc32(head)) != found:
        return Fault(at, "the checksum does not match")
    if first != position:
        return Fault(at, f"the message begins at position {first}, not {position}")
    return Message(at, cut - at + size, position, rows)


def scan(data: memoryview, at: int, position: int) -> tuple[list[Message], Fault | None]:
    """All messages from a byte on, up to the end or to the first fault."""
    found: list[Message] = []
    while at < len(data):
        message = locate(data, at, position)
        if isinstance(message, Fault):
            return found, message
        found.append(message)
        at, position = at + message.length, position + message.rows
    return found, None


def claimed(data: memoryview, at: int) -> int:
    """The largest durable end that any message after a byte, whole or not, says there was."""
    return max((int(match[3]) for match in _PATTERN.finditer(data[at:])), default=0)


def decode(data: Any, schema: Any) -> Any:
    """The batch of one message."""
    return pa.ipc.read_record_batch(pa.ipc.read_message(pa.py_buffer(data)), schema)

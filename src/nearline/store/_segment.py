"""A segment that is still an Arrow IPC stream: reading it, repairing its torn tail, appending to it.

The file is an ordinary stream: `pyarrow.ipc.open_stream(path)` reads it. Reads go through `pread` rather than a memory
map, so that a failing disk is an error and not a signal.
"""

from __future__ import annotations

import os
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from nearline._errors import StateError
from nearline.store._faults import damaged, refused
from nearline.store._fields import check_readable, fitted
from nearline.store._folder import segment_path, written_aside
from nearline.store._message import (
    Fault,
    Message,
    claimed,
    decode,
    encode,
    header,
    header_length,
    locate,
    read_header,
    scan,
)
from nearline.store._packed import Packed
from nearline.store._recent import Positions


class ArrowSegment:
    """Rows [first, end) of a stream file; its lists only grow, so that a reader who stays below an end is safe."""

    def __init__(self, path: Path, first: int, written: Any, schema: Any, begin: int) -> None:
        check_readable(path, written, schema)
        self.path, self.first, self.written, self.schema = path, first, written, schema
        self.offsets = [begin]
        self.bounds = [first]

    @property
    def end(self) -> int:
        """Position after the last row."""
        return self.bounds[-1]

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self.offsets[-1]

    def grown(self, messages: Sequence[Message]) -> None:
        """Take in messages that are in the file."""
        for message in messages:
            self.offsets.append(message.at + message.length)
            self.bounds.append(message.position + message.rows)

    def table(self, lo: int, hi: int) -> Any:
        """Rows [lo, hi), which must be here."""
        parts = [
            batch.slice(max(lo - start, 0), min(hi, start + batch.num_rows) - max(lo, start))
            for start, batch in self._batches(range(bisect_right(self.bounds, lo) - 1, bisect_left(self.bounds, hi)))
        ]
        return pa.Table.from_batches(parts, self.schema)

    def take(self, positions: Positions) -> list[Any]:
        """Batches of the rows at ascending positions, which must be here."""
        bounds = np.array(self.bounds, np.int64)
        edges = np.searchsorted(positions, bounds)
        touched = np.flatnonzero(np.diff(edges))
        return [
            batch.take(pa.array(positions[edges[i] : edges[i + 1]] - start))
            for i, (start, batch) in zip(touched, self._batches(touched))
        ]

    def all_batches(self) -> Iterator[tuple[int, Any]]:
        """(first position, batch) of every append."""
        return self._batches(range(len(self.bounds) - 1))

    def _batches(self, wanted: Any) -> Iterator[tuple[int, Any]]:
        """(first position, batch) of messages by number; each is checked again as it is read."""
        with self.path.open("rb", buffering=0) as file:
            for i in wanted:
                at, stop, position = self.offsets[i], self.offsets[i + 1], self.bounds[i]
                try:
                    data = os.pread(file.fileno(), stop - at, at)
                except OSError as error:
                    raise refused(self.path, f"read at byte {at}", error) from error
                found = locate(memoryview(data), 0, position)
                if isinstance(found, Fault):
                    raise damaged(self.path, f"byte {at} (position {position})", found.problem)
                yield position, fitted(decode(data, self.written), self.schema)


def open_segment(path: Path, first: int, schema: Any, durable: int | None) -> tuple[ArrowSegment | None, str]:
    """A stream file as a segment, and what is torn at its tail in words ("" for nothing).

    Parameters
    ----------
    durable
        Durable end as far as known: a fault before it is damage, one after it is a write that an interruption tore and
        that nobody was told about. None for a segment that others follow: every fault is damage.

    Returns
    -------
    ArrowSegment or None
        None when not even the schema had been written.

    Raises
    ------
    StateError
        Damage, with file and byte; or a column of another type than the schema's.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refused(path, "read", error) from error
    data = memoryview(content)
    begin = header_length(data)
    if begin is None:
        if durable is None or durable > first:
            raise damaged(path, "byte 0", "the schema is not whole")
        return None, f"{path.name}: nothing but a torn schema"
    segment = ArrowSegment(path, first, _schema(path, data[:begin]), schema, begin)
    messages, fault = scan(data, begin, first)
    segment.grown(messages)
    return segment, _torn(segment, data, fault, durable)


def _torn(segment: ArrowSegment, data: memoryview, fault: Fault | None, durable: int | None) -> str:
    if fault is None:
        return ""
    known = None if durable is None else max(durable, claimed(data, fault.at))
    if known is None or known > segment.end:
        raise damaged(
            segment.path,
            f"byte {fault.at}",
            f"{fault.problem}, where position {segment.end} should be" + (f" of {known} durable ones" if known else ""),
        )
    return f"{segment.path.name}: cut at byte {fault.at} (position {segment.end}) of {len(data)}: {fault.problem}"


def _schema(path: Path, data: memoryview) -> Any:
    try:
        return read_header(data)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise damaged(path, "byte 0", f"the schema cannot be read ({error})") from error


def new_segment(folder: Path, first: int, schema: Any, parts: Sequence[Any] = ()) -> ArrowSegment:
    """Write a stream file with some batches aside, sync it, put it in place."""
    path = segment_path(folder, first, "arrow")
    start = header(schema)
    segment = ArrowSegment(path, first, schema, schema, len(start))
    with written_aside(path) as aside, aside.open("wb") as file:
        file.write(start)
        for batch in parts:
            head, body = encode(batch, segment.end, first)
            file.write(head)
            file.write(body)
            segment.grown([Message(segment.size, len(head) + len(body), segment.end, batch.num_rows)])
    return segment


class Appender:
    """The one writer of the active segment: whole messages or nothing.

    Raises
    ------
    StateError
        The system refused to write or to sync. The file is cut back to what it was; when even that fails, or a sync
        failed on the device, every later call is refused until the log is opened again.
    """

    def __init__(self, segment: ArrowSegment) -> None:
        self.segment = segment
        self._broken = ""
        try:
            self._file = os.open(segment.path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise refused(segment.path, "open for writing", error) from error

    def append(self, rows: Any, durable: int) -> int:
        """Write a batch, or a `Packed` one, to the operating system; its first position."""
        self._check()
        segment = self.segment
        position, at = segment.end, segment.size
        parts = (rows.at(position, durable),) if isinstance(rows, Packed) else encode(rows, position, durable)
        size = sum(map(len, parts))
        try:
            _write_all(self._file, at, *parts)
        except OSError as error:
            self._cut(at)
            raise refused(segment.path, f"write {size} bytes", error) from error
        segment.grown([Message(at, size, position, rows.num_rows)])
        return position

    def put(self, rows: Packed, durable: int) -> int:
        """`append` and `sync` at once."""
        self._check()
        segment = self.segment
        position, at = segment.end, segment.size
        written, number = rows.store(self._file, at, position, durable)
        if written == rows.size and not number:
            segment.grown([Message(at, rows.size, position, rows.num_rows)])
            return position
        error = OSError(number, os.strerror(number))
        if written == rows.size:
            self._lost(error)
        self._cut(at)
        raise refused(segment.path, f"write {rows.size} bytes and make them durable", error)

    def sync(self) -> None:
        """Make what was appended durable."""
        self._check()
        try:
            os.fdatasync(self._file)
        except OSError as error:
            self._lost(error)
            raise refused(self.segment.path, "make the file durable", error) from error

    def drop(self, end: int) -> None:
        """Cut off the messages from a position on; it must be the first one of a message, or the end."""
        segment = self.segment
        keep = bisect_left(segment.bounds, end)
        assert segment.bounds[keep] == end
        self._cut(segment.offsets[keep])
        del segment.bounds[keep + 1 :], segment.offsets[keep + 1 :]

    def close(self) -> None:
        """Give the file back."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _lost(self, error: OSError) -> None:
        """After a failed sync the kernel may have dropped the pages and call the next sync a success."""
        self._broken = f"a sync failed ({error.strerror})"

    def _cut(self, size: int) -> None:
        try:
            os.ftruncate(self._file, size)
        except OSError as error:
            self._broken = f"a partial write could not be cut off ({error.strerror})"

    def _check(self) -> None:
        if self._broken:
            raise StateError(f"{self.segment.path}: {self._broken}; open the log again")


def _write_all(file: int, at: int, *parts: Any) -> None:
    """Write all bytes at an offset; the system may take fewer at a time."""
    rest = [memoryview(part) for part in parts if len(part)]
    while rest:
        count = os.pwritev(file, rest, at)
        at += count
        while rest and count >= len(rest[0]):
            count -= len(rest.pop(0))
        if rest:
            rest[0] = rest[0][count:]

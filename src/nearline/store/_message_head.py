"""The head of a message without Arrow's writer: of one schema, only numbers at known places differ.

A message's metadata is a flatbuffer (https://flatbuffers.dev/internals): a table points to its list of fields, which
holds every field's distance from the table. What is needed of it here (Arrow's Message.fbs): a Message has its header
(a RecordBatch) as field 2 and the body's length as field 3; a RecordBatch has its length as field 0, its nodes (length,
nulls) as field 1 and its buffers (offset, length) as field 2.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.store._message import PREFIX, encode

_HEADER, _BODY_LENGTH = 2, 3
_LENGTH, _NODES, _BUFFERS = 0, 1, 2


class HeadTemplate:
    """Heads of the messages of one schema.

    Attributes
    ----------
    size
        Bytes of every head.
    columns, buffers
        How many nodes and buffers a head has.
    """

    def __init__(self, schema: Any) -> None:
        one = pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)
        self._head = bytes(encode(one, 0, 0)[0])
        self.size = len(self._head)
        message = PREFIX + _int(self._head, PREFIX)
        record = _follow(self._head, _field(self._head, message, _HEADER))
        self._length, self._body = _field(self._head, record, _LENGTH), _field(self._head, message, _BODY_LENGTH)
        self._nodes = _follow(self._head, _field(self._head, record, _NODES))
        self._buffers = _follow(self._head, _field(self._head, record, _BUFFERS))
        self.columns, self.buffers = _int(self._head, self._nodes), _int(self._head, self._buffers)

    def write(self, out: NDArray[np.uint8], rows: int, nulls: list[int], buffers: list[int]) -> None:
        """Write a head at the start of `out`, all but what `nearline.store._message` enters when it is appended.

        Parameters
        ----------
        nulls
            Per column.
        buffers
            Offset in the body and length, per buffer, one after the other; the body ends at a multiple of 8.
        """
        out[: self.size].data[:] = self._head
        nodes = _numbers(out, self._nodes + 4, 2 * self.columns)
        nodes[::2], nodes[1::2] = rows, nulls
        _numbers(out, self._buffers + 4, 2 * self.buffers)[:] = buffers
        _numbers(out, self._length, 1)[0] = rows
        _numbers(out, self._body, 1)[0] = len(out) - self.size


def _numbers(out: NDArray[np.uint8], at: int, count: int) -> NDArray[np.int64]:
    return out[at : at + 8 * count].view(np.int64)


def _int(data: bytes, at: int, form: str = "<i") -> int:
    return int(struct.unpack_from(form, data, at)[0])


def _follow(data: bytes, at: int) -> int:
    """What the offset at a place points to."""
    return at + _int(data, at, "<I")


def _field(data: bytes, table: int, number: int) -> int:
    """Place of a field of a table."""
    fields = table - _int(data, table)
    distance = _int(data, fields + 4 + 2 * number, "<H")
    assert 4 + 2 * number < _int(data, fields, "<H")
    assert distance
    return table + distance

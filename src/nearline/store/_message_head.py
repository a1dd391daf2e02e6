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

from nearline.store._message import PREFIX, encode, entry_place

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
    entry
        First byte of a head's entry (see `nearline.store._message`).
    places
        First bytes of what differs, all int64: nodes (rows, nulls) and buffers (offset, length), one after the other,
        the rows, the body's length.
    bytes
        A head (uint8), and eight bytes behind it.
    """

    def __init__(self, schema: Any) -> None:
        one = pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in schema], schema=schema)
        head = bytes(encode(one, 0, 0)[0])
        self.size, self.entry = len(head), entry_place(head)
        message = PREFIX + _int(head, PREFIX)
        record = _follow(head, _field(head, message, _HEADER))
        nodes, buffers = (_follow(head, _field(head, record, field)) for field in (_NODES, _BUFFERS))
        self.columns, self.buffers = _int(head, nodes), _int(head, buffers)
        self.places = nodes + 4, buffers + 4, _field(head, record, _LENGTH), _field(head, message, _BODY_LENGTH)
        self.bytes = np.frombuffer(head + bytes(8), np.uint8)


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

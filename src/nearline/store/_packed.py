"""Rows as one message from the start: what requests hand over is copied once, to where it stands in the file.

`Packer` takes blocks of rows as they were read (`RowBlock`); for submissions in any other form it gives None, and
`_columns.to_batch` and Arrow's writer do the work. Both write the same bytes (a tested property).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain, islice
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from nearline.features import BlockShape, RowBlock
from nearline.store._columns import Columns, Made
from nearline.store._message import decode, enter
from nearline.store._message_head import HeadTemplate
from nearline.store._plain_columns import Bytes, PlainColumn, made_column, plain_column, put

_Sized: TypeAlias = tuple[int, tuple[int, ...]]
NUMBER, STRING = 0, 2
_DTYPES = {NUMBER: np.dtype(np.float64), 1: np.dtype(np.int64), STRING: None}
_NUMBERS = {pa.float64(): np.dtype(np.float64), pa.int64(): np.dtype(np.int64)}
_SPARE = 8  # bytes behind a message: strings are copied by eight
_MOST_BYTES = 1 << 30


class Packed:
    """A batch as the message that is written.

    Attributes
    ----------
    num_rows
        Rows of the batch.
    """

    def __init__(self, schema: Any, message: Bytes, cut: int, rows: int) -> None:
        self.schema, self.num_rows = schema, rows
        self._message, self._cut, self._batch = message, cut, None

    @property
    def batch(self) -> Any:
        """`pyarrow.RecordBatch` in the memory of the message."""
        if self._batch is None:
            self._batch = decode(self._message, self.schema)
        return self._batch

    def at(self, position: int, durable: int) -> memoryview:
        """The whole message, for a position; see `nearline.store._message.encode`."""
        data = self._message.data
        enter(data[: self._cut], data[self._cut :], self.num_rows, position, durable)
        return data


def arrow_of(batch: Any) -> Any:
    """The `pyarrow.RecordBatch` of a batch, `Packed` or not."""
    return batch.batch if isinstance(batch, Packed) else batch


class Packer:
    """Packs submissions for one schema.

    Parameters
    ----------
    schema
        Of the log.
    made
        Columns that follow from the positions.
    """

    def __init__(self, schema: Any, made: Made) -> None:
        self._schema, self._made = schema, made
        self._dtypes = {field.name: _NUMBERS.get(field.type) for field in schema}
        plain = all(field.type in _NUMBERS or field.type == pa.string() for field in schema)
        self._head = HeadTemplate(schema) if plain else None
        self._shape: BlockShape | None = None
        self._fields, self._ours = np.zeros((0, 2), np.int64), list[int]()

    def pack(self, first: int, parts: Sequence[tuple[int, Columns]]) -> Packed | None:
        """The rows of submissions, the first at a position; None where one is no block, or has no plain form."""
        blocks = [columns for _, columns in parts if isinstance(columns, RowBlock)]
        if self._head is None or len(blocks) < len(parts) or not self._follow(blocks):
            return None
        total, others = sum(block.n for block in blocks), self._others(first, blocks)
        columns = None if others is None else self._sized(blocks, others, total)
        if others is None or columns is None:
            return None
        return self._written(self._head, blocks, others, columns, total)

    def _follow(self, blocks: list[RowBlock]) -> bool:
        """Whether all blocks have one shape, whose columns are of the schema's types; it is the packer's then."""
        shape = blocks[0].shape
        if any(block.shape is not shape for block in blocks):
            return False
        if shape is not self._shape:
            kinds = {name: shape.places[name][0] for name in self._dtypes if name in shape.places}
            if any(_DTYPES[kind] != self._dtypes[name] for name, kind in kinds.items()):
                return False
            self._shape = shape
            self._fields = np.array([shape.places[name] for name in kinds], np.int64).reshape(-1, 2)
        return True

    def _others(self, first: int, blocks: list[RowBlock]) -> dict[str, PlainColumn] | None:
        """The columns that are in no block's arrays."""
        counts, shape, found = [block.n for block in blocks], blocks[0].shape, dict[str, PlainColumn]()
        total = sum(counts)
        for name, dtype in self._dtypes.items():
            if name in self._made:
                column = made_column(self._made[name](first, total), total)
            elif name in shape.names:
                continue
            else:
                column = plain_column([block.more.get(name) for block in blocks], counts, total, dtype)
            if column is None:
                return None
            found[name] = column
        return found

    def _sized(self, blocks: list[RowBlock], others: dict[str, PlainColumn], total: int) -> list[_Sized] | None:
        """Nulls and bytes of every column's buffers; None where strings are too long for one batch."""
        totals, strings = np.add.reduce([block.totals for block in blocks]).tolist(), len(blocks[0].spans)
        bits, found = -(-total // 8), list[_Sized]()
        for name in self._dtypes:
            if name in others:
                found.append((others[name].nulls, others[name].sizes))
                continue
            kind, k = blocks[0].shape.places[name]
            nulls = 0 if kind == NUMBER else total - totals[k if kind == STRING else strings + k][1]
            values = (4 * (total + 1), totals[k][0]) if kind == STRING else (8 * total,)
            found.append((nulls, (bits if nulls else 0, *values)))
        return found if all(sum(sizes) < _MOST_BYTES for _, sizes in found) else None

    def _written(
        self, head: HeadTemplate, blocks: list[RowBlock], others: dict[str, PlainColumn], columns: list[_Sized],
        total: int,
    ) -> Packed:  # fmt: skip
        from nearline.features._block_copy import copy_blocks, locate

        layout, end = list[tuple[int, int]](), 0
        for _, sizes in columns:
            for size in sizes:
                layout.append((end, size))
                end += -(-size // 8) * 8
        room = np.empty(head.size + end + _SPARE, np.uint8)
        message, body = room[: head.size + end], room[head.size : head.size + end]
        head.write(message, total, [nulls for nulls, _ in columns], list(chain.from_iterable(layout)))
        body.view(np.int64)[[(at + size - 1) >> 3 for at, size in layout if size]] = 0  # what pads a buffer is zero
        places, buffers = list[tuple[int, int, int, int]](), iter(layout)
        for name, (nulls, sizes) in zip(self._dtypes, columns):
            own = list(islice(buffers, len(sizes)))
            if name in others:
                others[name].write([body[at : at + size] for at, size in own])
                continue
            valid, values = own[0][0], own[1][0]
            if nulls:
                put(body[valid : valid + sizes[0]], bytes(sizes[0]))
            if len(own) == 3:
                body[values : values + 4] = 0
            places.append((head.size + valid if nulls else -1, head.size + values, head.size + own[-1][0], 0))
        found, row = np.empty((len(blocks), 8), np.int64), 0
        for i, block in enumerate(blocks):
            locate(
                block.text, block.numbers, block.integers, block.given, block.spans, block.n, row, found, i,
            )  # fmt: skip
            row += block.n
        at = np.array(places, np.int64).reshape(-1, 4)
        copy_blocks(self._fields, found, at, room, room.view(np.int32), room.view(np.int64))
        return Packed(self._schema, message, head.size, total)

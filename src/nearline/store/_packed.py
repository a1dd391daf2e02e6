"""Rows as one message from the start: what requests hand over is copied once, to where it stands in the file.

`Packer` takes blocks of rows as they were read (`RowBlock`); for submissions in any other form it gives None, and
`_columns.to_batch` and Arrow's writer do the work. Both write the same bytes (a tested property).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from nearline.features import BlockShape, RowBlock
from nearline.store._columns import Columns, Made
from nearline.store._message import decode, enter, entry
from nearline.store._message_head import HeadTemplate
from nearline.store._runs import Run

_Bytes: TypeAlias = NDArray[np.uint8]
_DTYPES = {0: np.dtype(np.float64), 1: np.dtype(np.int64), 2: None}
_NUMBERS = {pa.float64(): np.dtype(np.float64), pa.int64(): np.dtype(np.int64)}
_SPARE = 8  # bytes behind a message: strings are copied by eight
_EMPTY = np.zeros(_SPARE, np.uint8)
_FILLED = (*(np.zeros(shape, np.int64) for shape in ((0, 2), (0, 8), 0, (0, 3), 0)), _EMPTY)
"""The arguments of `fill`, after the first two, for a message that has been filled."""


class Packed:
    """A batch as the message that is written; its memory is filled when it is written or read.

    Parameters
    ----------
    arguments
        Of `fill`, all but the message itself.
    kept
        Whatever has its address among them.

    Attributes
    ----------
    num_rows
        Rows of the batch.
    size
        Bytes of the message.
    """

    def __init__(
        self, schema: Any, head: HeadTemplate, size: int, rows: int, arguments: Sequence[Any], kept: Any
    ) -> None:  # fmt: skip
        self.schema, self.num_rows, self.size = schema, rows, size
        self._head, self._arguments, self._kept = head, arguments, kept
        self._room, self._batch = np.empty(size + _SPARE, np.uint8), None

    @property
    def batch(self) -> Any:
        """`pyarrow.RecordBatch` in the memory of the message."""
        if self._batch is None:
            self._fill()
            self._batch = decode(self._room[: self.size], self.schema)
        return self._batch

    def at(self, position: int, durable: int) -> memoryview:
        """The whole message, for a position; see `nearline.store._message.encode`."""
        self._fill()
        data, cut = self._room[: self.size].data, self._head.size
        enter(data[:cut], data[cut:], self.num_rows, position, durable)
        return data

    def store(self, file: int, at: int, position: int, durable: int) -> tuple[int, int]:
        """Write the message to a file's byte and sync it: bytes written, and the number of the error that ended it."""
        from nearline.store._crc32 import TABLES
        from nearline.store._write_message import write_message

        text = np.frombuffer(entry(self.num_rows, position, durable, self.size - self._head.size), np.uint8)
        written, error = write_message(*self._arguments, *self._views(), TABLES, text, self._head.entry, file, at)
        self._filled()
        return int(written), int(error)

    def _fill(self) -> None:
        from nearline.store._write_message import fill_message

        if self._kept is not None:
            fill_message(*self._arguments, *self._views())
            self._filled()

    def _filled(self) -> None:
        self._arguments, self._kept = (*self._arguments[:2], *_FILLED), None

    def _views(self) -> tuple[Any, ...]:
        return self._room, self._room.view(np.int32), self._room.view(np.int64)


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
        self._schema, self._dtypes = schema, {field.name: _NUMBERS.get(field.type) for field in schema}
        ids = [run for run in made.values() if isinstance(run, Run)]
        self._ids = made.keys() & self._dtypes.keys()
        self._tag = ids[0].prefix if ids else _EMPTY
        plain = all(field.type in _NUMBERS or field.type == pa.string() for field in schema)
        self._head = HeadTemplate(schema) if plain and len(ids) == len(made) <= 1 else None
        self._shape: BlockShape | None = None
        self._fields, self._forms = np.zeros((0, 2), np.int64), dict[str, type]()

    def pack(self, first: int, parts: Sequence[tuple[int, Columns]]) -> Packed | None:
        """The rows of submissions, the first at a position; None where one is no block, or has no plain form."""
        blocks = [columns for _, columns in parts if isinstance(columns, RowBlock)]
        if self._head is None or len(blocks) < len(parts) or not self._follow(blocks):
            return None
        found, kept = self._located(blocks)
        return None if found is None else self._laid_out(self._head, first, blocks, found, kept)

    def _follow(self, blocks: list[RowBlock]) -> bool:
        """Whether all blocks have one shape, whose columns are of the schema's types; it is the packer's then."""
        shape = blocks[0].shape
        forms = {name: type(value) for name, value in blocks[0].more.items()}
        for block in blocks[1:]:
            if block.shape is not shape or {name: type(value) for name, value in block.more.items()} != forms:
                return False
        if shape is not self._shape or forms != self._forms:
            fields = self._fields_of(shape, forms)
            if fields is None:
                return False
            self._shape, self._forms, self._fields = shape, forms, np.array(fields, np.int64).reshape(-1, 2)
        return True

    def _fields_of(self, shape: BlockShape, forms: dict[str, type]) -> list[tuple[int, int]] | None:
        """Kind and place of every column of the schema; None where one has no plain form."""
        from nearline.store._fill_message import ABSENT, ABSENT_TEXT, FURTHER, NAMED, OWN, REPEATED

        fields, own = list[tuple[int, int]](), OWN
        for name, dtype in self._dtypes.items():
            form = forms.get(name, type(None))
            if name in self._ids:
                fields.append((NAMED, 0))
            elif name in shape.names:
                if _DTYPES[shape.places[name][0]] != dtype:
                    return None
                fields.append(shape.places[name])
            elif form is type(None):
                fields.append((ABSENT_TEXT if dtype is None else ABSENT, 0))
            elif form is (str if dtype is None else np.ndarray):
                fields.append((REPEATED if dtype is None else FURTHER, own))
                own += 1 + (dtype is None)
            else:
                return None
        return fields

    def _located(self, blocks: list[RowBlock]) -> tuple[Any, list[Any]]:
        """Where the arrays of blocks are, and those that do not belong to one; None where one is of another type."""
        from nearline.features._block_copy import locate, locate_one
        from nearline.store._fill_message import OWN

        found, row, kept = np.empty((len(blocks), OWN + 2 * len(self._dtypes)), np.int64), 0, list[Any](blocks)
        for i, block in enumerate(blocks):
            locate(
                block.text, block.numbers, block.integers, block.given, block.spans, block.n, row, found, i,
            )  # fmt: skip
            row, own = row + block.n, OWN
            for name, dtype in self._dtypes.items():
                value = block.more.get(name)
                if value is None or name in block.shape.names:
                    continue
                if dtype is None:
                    text, size = _text(value)
                    kept.append(text)
                    locate_one(text, found, i, own)
                    found[i, own + 1] = size
                    own += 2
                elif value.dtype == dtype and value.ndim == 1 and value.flags.c_contiguous:
                    locate_one(value, found, i, own)
                    own += 1
                else:
                    return None, kept
        return found, kept

    def _laid_out(
        self, head: HeadTemplate, first: int, blocks: list[RowBlock], found: Any, kept: list[Any]
    ) -> Packed | None:
        from nearline.store._fill_message import lay_out

        total = sum(block.n for block in blocks)
        totals = blocks[0].totals if len(blocks) == 1 else np.add.reduce([block.totals for block in blocks])
        nulls, places = np.empty(head.columns, np.int64), np.empty((head.columns, 3), np.int64)
        buffers = np.empty(2 * head.buffers, np.int64)
        body = lay_out(
            self._fields, found, totals, len(blocks[0].spans), self._tag, first, total, head.size, nulls, places,
            buffers,
        )  # fmt: skip
        if body < 0:
            return None
        numbers = np.array([*head.places, first, total, head.size + body], np.int64)
        arguments = (head.bytes, numbers, self._fields, found, nulls, places, buffers, self._tag)
        return Packed(self._schema, head, head.size + body, total, arguments, kept)


@lru_cache(maxsize=64)
def _text(value: str) -> tuple[_Bytes, int]:
    """The bytes of a text, with more behind them that may be read, and how many it has."""
    data = value.encode()
    return np.frombuffer(data + bytes(_SPARE), np.uint8), len(data)

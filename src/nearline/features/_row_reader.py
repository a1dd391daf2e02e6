"""From the bytes of requests to one `Design` and recorded columns, with no Python object per row.

`RowReader.read` answers for the usual form of a request; any other it leaves out, and that body is decoded and encoded
by `RowEncoder.encode`, to which it is equal in all it answers. Many small requests are read at once: what is compiled
costs as much to call as thirty rows cost to read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nearline.features._encoder import Design
from nearline.features._entities import strangers
from nearline.features._row_block import INTEGER, NUMBER, STRING, BlockShape, RowBlock
from nearline.features._vocabulary import MISSING, Column
from nearline.schema import Categorical, Multi, Numeric

if TYPE_CHECKING:
    from nearline.features._row_encoder import RowEncoder

_MOST_FIELDS = 64
_ROOM = 128
"""Rows of a body that there is room for at first; in larger ones they are counted."""
MOST_ROWS = 1 << 62
_PAD, _NONE = bytes(8), dict[str, Any]()
_HEAD, _NULL = np.frombuffer(b'"rows"' + _PAD, np.uint8), np.frombuffer(b"null" + _PAD, np.uint8)
PLAIN, SCALED, SPLIT, COUNTED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class ReadRows:
    """Rows of several bodies, one behind the other.

    Attributes
    ----------
    ends
        Where the rows of each body end; −1 for a body that is not among them.
    design, block
        Of all rows: what scores them, and what is recorded.
    """

    ends: list[int]
    design: Design
    block: RowBlock


class RowReader:
    """Reads requests for one `RowEncoder`; `usable` is False where a column is of a kind that this does not read."""

    def __init__(self, rows: RowEncoder) -> None:
        from nearline.features import _json_design, _json_rows
        from nearline.features._decimal import powers
        from nearline.features._str_index import StrIndex

        self._reading: Any = _json_rows
        self._laying: Any = _json_design
        self._rows, self._encoder, schema = rows, rows.encoder, rows.schema
        self._families = rows.families
        self._kinds = {name: self._kind(name) for name in rows.names}
        keys = self._encoder.keys
        self.usable = (
            all(kind is not None for kind in self._kinds.values())
            and all(isinstance(key, str) for key in keys)
            and 0 < len(rows.names) <= _MOST_FIELDS
        )
        if not self.usable:
            return
        self._out: dict[str, int] = {}
        totals = [0, 0, 0]
        for name, kind in self._kinds.items():
            assert kind is not None
            self._out[name], totals[kind] = totals[kind], totals[kind] + 1
        self._totals = totals
        self._shape = BlockShape({name: (self._kinds[name] or NUMBER, self._out[name]) for name in rows.arrow.names})
        self._fields, self._names = self._described(schema)
        self._wide, self._exact = powers()
        self._value, self._whole = np.zeros(2), np.zeros(1, np.int64)
        self._index, self._known = StrIndex(), dict[int, int]()
        self._integer_slots: dict[str, Any] = {}
        self._described_columns: tuple[Any, Any, Any] = (None, None, None)
        self._warm()

    def _warm(self) -> None:
        """Run everything that is compiled on no rows."""
        self.read([b'{"rows":[{'], 0.0)
        self._follow()
        text, (numbers, integers, strings) = np.frombuffer(_PAD, np.uint8), self._totals  # read-only, as bodies are
        x, whole = np.empty((numbers, 1)), np.empty((integers, 1), np.int64)
        given, spans = np.empty((integers, 1), np.uint8), np.empty((strings, 1, 2), np.int32)
        if (features := self._features()) is not None:
            self._laid_out(features, text, np.zeros(1, np.int64), 0, x, whole, given, spans)
        for key in self._encoder.keys:
            self._codes(key, text, 0, whole, spans)

    def _kind(self, name: str) -> int | None:
        """How a field is read; None where this cannot."""
        schema = self._rows.schema
        if name in self._families:
            kind = {"int": INTEGER, "str": STRING}.get(self._families[name])
            column = self._column(name)
            plain = column is None or isinstance(column.kind, Categorical)
            return kind if plain else None
        column = self._column(name)
        if column is None:
            return NUMBER
        if name in (schema.time, schema.offset, schema.weight):
            return None
        match column.kind:
            case Numeric():
                return NUMBER
            case Categorical():
                return {"int": INTEGER, "str": STRING, None: STRING}.get(column.family)
            case Multi(sep) if sep is not None and len(sep.encode()) == 1 and column.family in (None, "str"):
                return STRING
        return None

    def _column(self, name: str) -> Column | None:
        return next((column for column in self._encoder._columns if column.name == name), None)

    def _described(self, schema: Any) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Fields as `_json_rows` takes them, and the bytes of their names, none of which JSON has to escape (`Row`)."""
        lines, names = [], b""
        for name, kind in self._kinds.items():
            data = name.encode()
            required = name in self._families or name == schema.offset
            nullable = not required and name != schema.weight
            lines.append((kind, required, nullable, self._out[name], len(names) + 1, len(data)))
            names += b'"' + data + b'":'
        return np.array(lines, np.int64), np.frombuffer(names + _PAD, np.uint8)

    def read(self, bodies: Sequence[bytes], now: float, most: int = MOST_ROWS) -> ReadRows | None:
        """Design and recorded columns of the rows of requests; None where no body is of the usual form.

        Parameters
        ----------
        most
            Rows that a body may have; one that has more is left out.
        """
        if not self.usable:
            return None
        text = np.frombuffer(_PAD.join([*bodies, b""]), np.uint8)
        sizes = np.array([len(body) for body in bodies], np.int64)
        ends = np.array([0 if body.isascii() or _is_utf8(body) else -1 for body in bodies], np.int64)
        bounds = np.empty((len(bodies), 2), np.int64)
        np.cumsum(sizes + len(_PAD), out=bounds[:, 1])
        bounds[:, 1] -= len(_PAD)
        bounds[:, 0] = bounds[:, 1] - sizes
        self._follow()
        features, rows = self._features(), None
        while rows is None:  # a body that has no design is left out the next time
            n, x, whole, given, spans, totals = self._parsed(text, bounds, ends, most)
            if n < 1 or features is None:
                return None
            rows = self._laid_out(features, text, ends, n, x, whole, given, spans)
        roles = self._roles(n, x, now)
        if roles is None:
            return None
        codes = {key: self._codes(key, text, n, whole, spans) for key in self._encoder.keys}
        indptr, indices, values = rows
        block = RowBlock(self._shape, n, text, x, whole, given, spans, totals, _NONE)
        return ReadRows(ends.tolist(), Design(indptr, indices, values, codes, *roles), block)

    def _parsed(self, text: Any, bounds: Any, ends: Any, most: int) -> tuple[Any, ...]:
        """How many rows there are; numbers, integers, whether given, spans of strings and their totals."""
        room = _ROOM * len(bounds)
        n, *arrays = self._parsed_into(room, text, bounds, ends, most)
        if n == self._reading.CROWDED:
            ends[ends == n] = 0
            n, *arrays = self._parsed_into(text.tobytes().count(b"{"), text, bounds, ends, most)
        return n, *arrays

    def _parsed_into(self, room: int, text: Any, bounds: Any, ends: Any, most: int) -> tuple[Any, ...]:
        numbers, integers, strings = self._totals
        x, whole = np.empty((numbers, room)), np.empty((integers, room), np.int64)
        given, spans = np.empty((integers, room), np.uint8), np.empty((strings, room, 2), np.int32)
        totals, kept = np.zeros((2, strings + integers, 2), np.int64)
        n = self._reading.read_all(
            text, bounds, ends, most, _HEAD, _NULL, self._fields, self._names, self._wide, self._exact, x, whole, given,
            spans, totals, kept, self._value, self._whole,
        )  # fmt: skip
        return n, x, whole, given, spans, totals

    def _follow(self) -> None:
        """Enter what the vocabulary has learned since the last request."""
        for number, column in enumerate(self._encoder._columns):
            known = self._known.get(number, 0)
            if len(column.slots) > known and self._kinds[column.name] != NUMBER:
                new = list(islice(column.slots.items(), known, None))
                if self._kinds[column.name] == STRING:
                    named = [(MISSING if level is None else level, slot) for level, slot in new]
                    self._index.put(number, [(level, slot) for level, slot in named if isinstance(level, str)])
                else:
                    self._enter(column.name, new)
                self._known[number] = known + len(new)
        for number, key in enumerate(self._encoder.keys, len(self._encoder._columns)):
            values, known = self._encoder._entities[key].values, self._known.get(number, 0)
            if len(values) > known and self._kinds[str(key)] == STRING:
                new_values = values[known:]
                self._index.put(number, [(str(value), code) for code, value in enumerate(new_values, known)])
                self._known[number] = known + len(new_values)

    def _enter(self, name: str, new: list[tuple[Any, int]]) -> None:
        from nearline.features._int_index import IntIndex

        index = self._integer_slots.setdefault(name, IntIndex())
        found = [(level, slot) for level, slot in new if isinstance(level, int) and -(2**63) <= level < 2**63]
        levels, slots = np.array(found, np.int64).reshape(-1, 2).T
        index.put(np.ascontiguousarray(levels), np.ascontiguousarray(slots))

    def _laid_out(
        self, described: Any, text: Any, ends: Any, n: int, x: Any, whole: Any, given: Any, spans: Any
    ) -> tuple[Any, Any, Any] | None:
        """Rows of the design; None where a body has none, and then `ends` says which."""
        features, center, scale, counted, split = described
        slots = np.empty((max(len(counted), 1), n), np.int32)
        for place, (column, out) in enumerate(counted):
            found = self._integer_slots[column.name].find(whole[out, :n]) if column.name in self._integer_slots else -1
            slots[place] = np.where(given[out, :n] == 1, found, column.slots.get(None, -1))
        room = n * (1 + len(features)) + (len(text) if split else 0)
        indptr, indices, values = np.empty(n + 1, np.int64), np.empty(room, np.int32), np.empty(room)
        index = self._index
        end = self._laying.lay_out_all(
            features, center, scale, x, slots, text, spans, index.table, index.entries, index.arena, ends, indptr,
            indices, values,
        )  # fmt: skip
        return None if end < 0 else (indptr, indices[:end], values[:end])

    def _features(self) -> Any:
        """Feature columns as `_json_design` takes them, and those looked up here; None where not all are known."""
        columns = self._encoder._columns
        sizes = [len(column.slots) for column in columns]
        if columns is self._described_columns[0] and sizes == self._described_columns[1]:
            return self._described_columns[2]
        lines = np.zeros((len(columns), 6), np.int64)
        center, scale = np.zeros(len(columns)), np.ones(len(columns))
        counted: list[tuple[Column, int]] = []
        for number, column in enumerate(columns):
            kind, out, missing = self._kinds[column.name], self._out[column.name], column.slots.get(None, -1)
            match column.kind:
                case Numeric():
                    if column.center is None or column.scale is None or 0 not in column.slots:
                        return None
                    center[number], scale[number] = column.center, column.scale
                    lines[number] = SCALED, out, number, column.slots[0], missing, 0
                case Multi(sep) if sep is not None:
                    lines[number] = SPLIT, out, number, -1, missing, sep.encode()[0]
                case _ if kind == INTEGER:
                    lines[number] = COUNTED, len(counted), number, -1, missing, 0
                    counted.append((column, out))
                case _:
                    lines[number] = PLAIN, out, number, -1, missing, 0
        split = bool((lines[:, 0] == SPLIT).any())
        self._described_columns = columns, sizes, (lines, center, scale, counted, split)
        return self._described_columns[2]

    def _roles(self, n: int, x: Any, now: float) -> Any:
        """Label, weight, offset and time; None where one is wrong, which is said by who decodes in full."""
        schema = self._rows.schema
        label, weight, offset, time = roles = np.empty((4, n))
        label.fill(np.nan)
        weight.fill(1.0)
        offset.fill(0.0)
        time.fill(now)
        for role, name in ((weight, schema.weight), (offset, schema.offset), (time, schema.time)):
            if name is not None:
                given = x[self._out[name], :n]
                np.copyto(role, given, where=given == given)
        return None if schema.weight is not None and weight.min() < 0.0 else roles

    def _codes(self, key: Any, text: Any, n: int, whole: Any, spans: Any) -> NDArray[np.int32]:
        known, out = self._encoder._entities[key], self._out[key]
        codes: NDArray[np.int32]
        if self._kinds[key] == INTEGER:
            values = whole[out, :n]
            codes, unseen = known.integers().look_up(values)
            return strangers(codes, values) if unseen else codes
        codes, index = np.empty(n, np.int32), self._index
        number = len(self._encoder._columns) + self._encoder.keys.index(key)
        if self._laying.codes_of(text, spans[out], n, index.table, index.entries, index.arena, number, codes):
            new = np.flatnonzero(codes < 0).tolist()
            named = {
                row: text[start : start + size].tobytes() for row, (start, size) in zip(new, spans[out, new].tolist())
            }
            strangers(codes, named)
        return codes


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return True

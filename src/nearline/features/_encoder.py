"""Which numbers a row becomes: columns in, sparse rows out, in one slot space that only grows.

Slot 0 is the intercept. A number has one slot, and one for "missing"; every level of a categorical, multi-valued or
hashed column has one; a vector has one per position. Slots and entity codes are given in order of first appearance: by
row, within a row by declared feature. So cutting a stream into tables anywhere gives the same slots, codes and values
(the center and scale of a number come from the first table that has any).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearline._errors import ConfigError, DataError, StateError
from nearline.features import _growth
from nearline.features._assemble import Rows, encode_columns, encode_rows
from nearline.features._encoder_state import (
    FORMAT,
    column_arrays,
    column_state,
    columns_from,
    entities_from,
    entity_arrays,
    schema_from,
    schema_state,
    slots_from,
)
from nearline.features._entities import Codes, Entities, Entity, row_values, unique_values
from nearline.features._growth import Extent, Growth
from nearline.features._unseen import Entry, Unseen
from nearline.features._vocabulary import Column, Slots
from nearline.schema import Checked, ColumnKind, Key, Schema, check, key_columns
from nearline.schema._columns import Floats, Ints

_FEW = 16
"""Up to this many rows, one row at a time is quicker than whole columns (measured; both give the same Design)."""


@dataclass(frozen=True, slots=True)
class Design:
    """Rows as arrays, in compressed sparse row form; row i holds entries indptr[i] to indptr[i + 1].

    Attributes
    ----------
    indptr
        int64 (n + 1), row pointers.
    indices
        int32 (nnz), slots, the intercept (slot 0, value 1) first on each row.
    values
        float64 (nnz), feature values; zeros are not stored.
    entities
        int32 (n) by key: dense code of the row's entity; −1, −2, ... for the distinct ones unseen when growth is off.
    label, weight, offset, time
        float64 (n); label is NaN where there is none, time is in seconds since the epoch.
    unseen
        Feature values that had no slot when the table was encoded without growth; 0 for a part of a design.
    without_slot
        Those values, row by row; None where there are none.
    """

    indptr: Ints
    indices: NDArray[np.int32]
    values: Floats
    entities: Mapping[Key, NDArray[np.int32]]
    label: Floats
    weight: Floats
    offset: Floats
    time: Floats
    unseen: int = 0
    without_slot: Unseen | None = None

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return len(self.indptr) - 1

    def take(self, start: int, stop: int) -> Design:
        """Rows start to stop − 1 (as a slice does) without a copy of their entries."""
        start, stop, _ = slice(start, stop).indices(self.rows)
        stop = max(start, stop)
        low, high = self.indptr[start], self.indptr[stop]
        indptr = self.indptr[start : stop + 1] - low
        return self._part(indptr, self.indices[low:high], self.values[low:high], slice(start, stop))

    def select(self, rows: NDArray[np.bool_] | NDArray[np.integer[Any]] | Sequence[int]) -> Design:
        """Copy of the rows that a mask or row numbers name, in the order given."""
        chosen = np.arange(self.rows)[np.asarray(rows, None if len(rows) else np.int64)]
        counts = np.diff(self.indptr)[chosen]
        indptr = np.concatenate([[0], np.cumsum(counts)])
        places = np.repeat(self.indptr[chosen] - indptr[:-1], counts) + np.arange(indptr[-1])
        return self._part(indptr, self.indices[places], self.values[places], chosen)

    def before(self, n_slots: int, encoder: Encoder) -> Design:
        """The same rows as they were when the encoder had so many slots: entries of later ones have no slot."""
        late = np.flatnonzero(self.indices >= n_slots)
        if not len(late):
            return self
        slots, levels = np.unique(self.indices[late], return_inverse=True)
        columns, names = ([of[slot] for slot in slots.tolist()] for of in (encoder.slot_columns, encoder.slot_names))
        rows = np.searchsorted(self.indptr, late, side="right") - 1
        found = Unseen(rows, levels, self.values[late], tuple(columns), tuple(names)).and_also(self.without_slot)
        kept = np.concatenate([[0], np.cumsum(self.indices < n_slots)])[self.indptr]
        early = self.indices < n_slots
        return replace(
            self, indptr=kept, indices=self.indices[early], values=self.values[early], unseen=self.unseen + len(late),
            without_slot=found,
        )  # fmt: skip

    def _part(self, indptr: Ints, indices: NDArray[np.int32], values: Floats, rows: slice | Ints) -> Design:
        return Design(
            indptr,
            indices,
            values,
            {key: codes[rows] for key, codes in self.entities.items()},
            label=self.label[rows],
            weight=self.weight[rows],
            offset=self.offset[rows],
            time=self.time[rows],
            without_slot=None if self.without_slot is None else self.without_slot.part(rows, self.rows),
        )


class Encoder:
    """Vocabulary of slots and entities, and the map from tables to designs.

    Parameters
    ----------
    schema
        Roles and declared kinds of columns.
    features
        Feature columns, in the order in which a row's entries stand.
    keys
        Key columns of entities; a tuple of columns is one entity per combination.

    Examples
    --------
    >>> encoder = Encoder(Schema("liked"), ("gender", "year"), ("user_id",))
    >>> design = encoder.encode({"user_id": [7, 8], "gender": ["F", "M"], "year": [1990, 2000]}, grow=True)
    >>> encoder.slot_names
    ['(intercept)', 'gender=F', 'year', 'gender=M']
    >>> design.indices.tolist(), design.values.tolist()
    ([0, 1, 2, 0, 3, 2], [1.0, 1.0, -1.0, 1.0, 1.0, 1.0])
    >>> design.entities["user_id"].tolist(), encoder.entity_name("user_id", 1)
    ([0, 1], 8)
    """

    def __init__(self, schema: Schema, features: Sequence[str], keys: Sequence[Key]) -> None:
        for what, names in (("feature", features), ("key", keys)):
            if isinstance(names, str):
                raise ConfigError(f"{what}s must be a sequence of names; write ({names!r},)")
            twice = [name for number, name in enumerate(names) if name in names[:number]]
            if twice:
                raise ConfigError(f"{what} {twice[0]!r} is named twice; name it once")
        self.schema, self.features, self.keys = schema, tuple(features), tuple(keys)
        self._learned = schema
        self._slots = Slots()
        self._columns = [Column(name) for name in self.features]
        self._entities = {key: Entities(key, [None] * len(key_columns([key]))) for key in self.keys}

    @property
    def slot_names(self) -> list[str]:
        """Readable name by slot: "(intercept)", "year", "year (missing)", "gender=F", "vec[3]", "text#1234"."""
        return self._slots.names

    @property
    def slot_columns(self) -> list[str]:
        """Column by slot; "(intercept)" for slot 0."""
        return self._slots.columns

    @property
    def n_slots(self) -> int:
        """Number of slots, the intercept included."""
        return len(self._slots.names)

    def kind(self, column: str) -> ColumnKind | None:
        """Kind of a feature column; None while no table has told it."""
        return next(known.kind for known in self._columns if known.name == column)

    def n_entities(self, key: Key) -> int:
        """Number of entities of a key."""
        return len(self._of(key).values)

    def entity_codes(self, key: Key) -> Mapping[Entity, int]:
        """Code by key value (a tuple of values for a composite key); a read-only view that grows with the encoder."""
        return Codes(self._of(key))

    def entity_name(self, key: Key, code: int) -> Entity:
        """Key value of a code."""
        return self._of(key).values[code]

    def _of(self, key: Key) -> Entities:
        if key not in self._entities:
            raise ConfigError(f"{key!r} is no key of this encoder; it has {list(self.keys)}")
        return self._entities[key]

    def encode(self, table: Any, *, grow: bool) -> Design:
        """Turn a table into a design; with `grow`, give new levels slots and new entities codes.

        Parameters
        ----------
        table
            What `schema.check` returned, or any table (it is then checked as one to be scored).
        grow
            False leaves the encoder as it is: a value without a slot is counted in `Design.unseen` and kept
            in `Design.without_slot`.

        Raises
        ------
        DataError
            A column changed its kind, type or vector length. The encoder is then as it was before.
        """
        checked = table if isinstance(table, Checked) else self.check(table, link="identity", need_label=False)
        n = checked.rows
        if n == 0:
            return _design(checked, _no_rows(), {key: np.zeros(0, np.int32) for key in self.keys}, [])
        data = self._data(checked)
        columns = [self._expect(column, values.type) for column, values in zip(self._columns, data)]
        families = {key: known.expect(checked.columns) for key, known in self._entities.items()}
        named = {key: (row_values if n <= _FEW else unique_values)(key, checked.columns) for key in self.keys}
        rows, unseen = (encode_rows if n <= _FEW else encode_columns)(columns, data, n, self._slots, grow)
        if grow:
            self._remember(columns)
            for key, known in self._entities.items():
                known.grow(named[key][1], families[key])
        codes = {key: self._entities[key].lookup(values)[which] for key, (which, values) in named.items()}
        return _design(checked, rows, codes, unseen)

    def check(self, table: Any, **options: Any) -> Checked:
        """`schema.check` of a table for this encoder, with the kinds that it has learned; options as there."""
        return check(table, self._learned, features=self.features, keys=self.keys, **options)

    def only(self, features: Sequence[str]) -> Encoder:
        """The part that reads some of the features and nothing else, with the slots that they have; not to be grown."""
        part = copy(self)
        part.features = tuple(name for name in self.features if name in features)
        part.keys, part._entities = (), {}
        part._learned = Schema(self.schema.label, columns=self._learned.columns)
        part._columns = [column for column in self._columns if column.name in features]
        return part

    def _data(self, checked: Checked) -> list[Any]:
        unchecked = [name for name in (*self.features, *key_columns(self.keys)) if name not in checked.columns]
        if unchecked:
            raise DataError("the table was not checked for it", column=unchecked[0], fix="check it with Encoder.check")
        return [checked.columns[name] for name in self.features]

    def _remember(self, columns: list[Column]) -> None:
        self._columns = columns
        if self._learned is not self.schema:  # kinds are all known after the first table, and never change
            return
        kinds = {column.name: column.kind for column in columns if column.kind is not None}
        if kinds:
            self._learned = replace(self.schema, columns={**self.schema.columns, **kinds})

    def _expect(self, column: Column, dtype: Any) -> Column:
        return column.expect(self.schema.kind(column.name, dtype), dtype)

    def extent(self) -> Extent:
        """How much the vocabulary knows now: what `growth` counts from."""
        return _growth.extent(self)

    def growth(self, since: Extent) -> Growth:
        """Slots, entities and column heads learned since an extent."""
        return _growth.growth(self, since)

    def extend(self, new: Growth) -> None:
        """Learn what another vocabulary learned since it was as this one; StateError if it does not continue it."""
        _growth.extend(self, new)

    def copy(self) -> Encoder:
        """An independent encoder that knows the same."""
        return _growth.copy(self)

    def to_state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The whole vocabulary as a dict of JSON values and a dict of Arrow arrays (levels, slots, entity values)."""
        state = {
            "format": FORMAT,
            "schema": schema_state(self.schema),
            "columns": [column_state(column) for column in self._columns],
            "keys": [
                {"key": key, "families": known.families, "entities": len(known.values)}
                for key, known in self._entities.items()
            ],
        }
        arrays = {}
        for number, column in enumerate(self._columns):
            arrays[f"levels.{number}"], arrays[f"slots.{number}"] = column_arrays(column)
        for number, known in enumerate(self._entities.values()):
            arrays |= {f"entities.{number}.{place}": array for place, array in enumerate(entity_arrays(known))}
        return state, arrays

    @classmethod
    def from_state(cls, state: Mapping[str, Any], arrays: Mapping[str, Any]) -> Encoder:
        """Inverse of `to_state`.

        Raises
        ------
        StateError
            Another format, or an array is absent, cut or at odds with the rest.
        """
        if state.get("format") != FORMAT:
            raise StateError(f"the encoder's state has format {state.get('format')!r}; this version reads {FORMAT}")
        keys = [key["key"] if isinstance(key["key"], str) else tuple(key["key"]) for key in state["keys"]]
        encoder = cls(schema_from(state["schema"]), [column["name"] for column in state["columns"]], keys)
        encoder._remember(columns_from(state["columns"], arrays))
        encoder._slots = slots_from(encoder._columns)
        encoder._entities = entities_from(state["keys"], keys, arrays)
        return encoder


def _no_rows() -> Rows:
    return np.zeros(1, np.int64), np.zeros(0, np.int32), np.zeros(0)


def _design(checked: Checked, rows: Rows, entities: Mapping[Key, NDArray[np.int32]], unseen: Sequence[Entry]) -> Design:
    roles = (checked.label, checked.weight, checked.offset, checked.time)
    return Design(*rows, entities, *roles, len(unseen), Unseen.of(unseen) if unseen else None)

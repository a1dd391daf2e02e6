"""From a design to what a network reads: dense numbers, bags of embedding rows by slot, entity codes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from nearline._errors import ConfigError, DataError
from nearline.deep._architecture import InputShape
from nearline.features import Design, Encoder
from nearline.schema import Key, Numeric, Vector

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
MISSING = "(missing)"


class Inputs(NamedTuple):
    """What a network's ``forward`` is given, as tensors on its device.

    Attributes
    ----------
    dense
        (n, D) dense numbers, standardised by the encoder; a missing one is 0 and its indicator 1.
    embedded
        (n, F, k) one embedding per field: the mean over its values, 0 where it has none that is known.
    slots, offsets, weights
        The bags behind `embedded`, for modules with tables of their own: values `slots[offsets[b]:offsets[b + 1]]` of
        bag b = row · F + field, each with its weight in the mean.
    entities
        Entity codes (n) by key; negative for entities never seen.
    """

    dense: torch.Tensor
    embedded: torch.Tensor
    slots: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor
    entities: Mapping[Key, torch.Tensor]

    @property
    def flat(self) -> torch.Tensor:
        """(n, D + F k) everything side by side."""
        return torch.cat([self.dense, self.embedded.flatten(1)], dim=1)


@dataclass(frozen=True, slots=True)
class Bags:
    """A design as tensors, before the embedding: fields as in `Inputs`."""

    dense: torch.Tensor
    slots: torch.Tensor
    offsets: torch.Tensor
    weights: torch.Tensor
    entities: Mapping[Key, torch.Tensor]
    fields: int

    @property
    def rows(self) -> int:
        """Number of rows n."""
        return len(self.dense)

    def take(self, start: int, stop: int) -> Bags:
        """Rows start to stop − 1, without a copy of their entries."""
        offsets = self.offsets[start * self.fields : stop * self.fields + 1]
        low, high = int(offsets[0]), int(offsets[-1])
        return Bags(
            self.dense[start:stop], self.slots[low:high], offsets - low, self.weights[low:high],
            {key: codes[start:stop] for key, codes in self.entities.items()}, self.fields,
        )  # fmt: skip

    def to(self, device: torch.device) -> Bags:
        """The same on another device."""
        dense, slots, offsets, weights = (x.to(device) for x in (self.dense, self.slots, self.offsets, self.weights))
        entities = {key: codes.to(device) for key, codes in self.entities.items()}
        return Bags(dense, slots, offsets, weights, entities, self.fields)


class Values(NamedTuple):
    """Embedded values of n rows of F fields; x is the weight that a value has in its bag's mean.

    Attributes
    ----------
    bag, slot, square
        Bag row · F + field, slot and x² of every value that has a slot.
    new
        Σ x² (n, F) over the values of each bag that have no slot yet.
    """

    bag: Ints
    slot: Ints
    square: Floats
    new: Floats


class InputMap:
    """Which slot is which input of a network; grows with its encoder.

    Parameters
    ----------
    encoder
        It has seen a table: the kinds of columns are known.
    columns
        The network's columns, among the encoder's.
    n_slots
        So many of the encoder's slots are mapped at first; by default all of them.
    """

    def __init__(
        self, encoder: Encoder, columns: Sequence[str], keys: Sequence[Key] = (), n_slots: int | None = None
    ) -> None:
        self.encoder, self.keys = encoder, tuple(keys)
        self.dense = [pair for column in columns for pair in _dense_names(encoder, column)]
        self.fields = [column for column in columns if not isinstance(encoder.kind(column), Numeric | Vector)]
        self._place_of = {pair: place for place, pair in enumerate(self.dense)}
        self._field_of = {column: number for number, column in enumerate(self.fields)}
        self._place = np.zeros(0, np.int32)
        self._field = np.zeros(0, np.int32)
        self.grow(encoder.n_slots if n_slots is None else n_slots)

    @property
    def n_slots(self) -> int:
        """Slots that are mapped; later ones are unknown to the network."""
        return len(self._place)

    def shape(self, embedding: int) -> InputShape:
        """What the network is given."""
        return InputShape(tuple(name for _, name in self.dense), tuple(self.fields), embedding, self.keys)

    def grow(self, n_slots: int) -> None:
        """Map the encoder's slots up to `n_slots`."""
        new = range(self.n_slots, n_slots)
        names, columns = self.encoder.slot_names, self.encoder.slot_columns
        places = [self._place_of.get((columns[slot], names[slot]), -1) for slot in new]
        fields = [self._field_of.get(columns[slot], -1) for slot in new]
        self._place = np.concatenate([self._place, np.array(places, np.int32)])
        self._field = np.concatenate([self._field, np.array(fields, np.int32)])

    def bags(self, design: Design, dtype: Any) -> Bags:
        """Rows of a design as tensors of `dtype`; slots that are not mapped are left out."""
        n, F = design.rows, len(self.fields)
        rows, slots = _entries(design, self.n_slots)
        place = np.append(self._place, -1)[slots]
        dense = np.zeros((n, len(self.dense)), dtype)
        given = place >= 0
        dense[rows[given], place[given]] = design.values[given]
        bag, chosen = self._bagged(rows, slots)
        sizes = np.bincount(bag, minlength=n * F)
        return Bags(
            torch.from_numpy(dense), torch.from_numpy(chosen),
            torch.from_numpy(np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])),
            torch.from_numpy(np.repeat(1.0 / np.maximum(sizes, 1), sizes).astype(dtype)),
            {key: torch.from_numpy(design.entities[key].astype(np.int64)) for key in self.keys}, F,
        )  # fmt: skip

    def values(self, design: Design, encoder: Encoder) -> Values:
        """Embedded values of a design, which may be of some of the columns only."""
        mapped = design.before(self.n_slots, encoder)
        n, F = design.rows, len(self.fields)
        bag, slot = self._bagged(*_entries(mapped, self.n_slots))
        new = np.zeros(n * F, np.int64)
        if (unseen := mapped.without_slot) is not None:
            field = np.array([self._field_of.get(column, -1) for column in unseen.columns])[unseen.levels]
            kept = field >= 0
            new += np.bincount(unseen.rows[kept] * F + field[kept], minlength=n * F)
        square = np.maximum(np.bincount(bag, minlength=n * F) + new, 1) ** -2.0
        return Values(bag, slot, square[bag], (new * square).reshape(n, F))

    def _bagged(self, rows: Ints, slots: Ints) -> tuple[Ints, Ints]:
        """Bag row · F + field and slot of the entries that are embedded, by bag; the rows' order need not be ours."""
        field = np.append(self._field, -1)[slots]
        kept = field >= 0
        bag, chosen = rows[kept] * len(self.fields) + field[kept], slots[kept]
        order = slice(None) if (bag[1:] >= bag[:-1]).all() else np.argsort(bag, kind="stable")
        return bag[order], chosen[order]


def _entries(design: Design, n_slots: int) -> tuple[Ints, Ints]:
    """Row and slot of every entry; `n_slots`, which is no input, for later slots."""
    rows = np.repeat(np.arange(design.rows), np.diff(design.indptr))
    return rows, np.minimum(design.indices, n_slots).astype(np.int64)


def _dense_names(encoder: Encoder, column: str) -> list[tuple[str, str]]:
    """(column, slot name) of each dense input of a column: the number or positions, then whether it is missing."""
    kind = encoder.kind(column)
    if kind is None:
        raise ConfigError(f"column {column!r} is of no known kind yet; fit a table in which it has values")
    missing = f"{column} {MISSING}"
    if isinstance(kind, Numeric):
        return [(column, column), (column, missing)]
    if not isinstance(kind, Vector):
        return []
    found = zip(encoder.slot_columns, encoder.slot_names)
    positions = [name for owner, name in found if owner == column and name != missing]
    if not positions:
        fix = "begin with a table in which a row has it"
        raise DataError("the vector is missing on every row so far, so its length is unknown", column=column, fix=fix)
    return [(column, name) for name in (*positions, missing)]

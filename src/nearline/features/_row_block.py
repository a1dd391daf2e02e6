"""The columns of a request as `RowReader` leaves them, with no object per column unless somebody asks for one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

NUMBER, INTEGER, STRING = 0, 1, 2
"""Kinds of fields."""


class BlockShape:
    """Which columns the blocks of one reader have.

    Attributes
    ----------
    fields
        int64 (columns, 2): kind, and row among the block's arrays of that kind.
    places
        The same by name, in order.
    """

    def __init__(self, places: Mapping[str, tuple[int, int]]) -> None:
        self.places = dict(places)
        self.names = frozenset(places)
        self.fields = np.array(list(places.values()), np.int64).reshape(-1, 2)


@dataclass(slots=True, eq=False)
class RowBlock(Mapping[str, Any]):
    """Columns of n rows: numbers and integers as NumPy arrays, strings as Arrow arrays, made when asked for.

    Attributes
    ----------
    text
        UTF-8 bytes of the request (uint8), with eight more behind that may be read.
    numbers, integers, given, spans
        float64 (·, ≥ n), NaN where missing; int64 (·, ≥ n), and whether they are there (uint8); start and size of
        strings in the text, int32 (·, ≥ n, 2), the size being −1 for null.
    totals
        int64 (strings + integers, 2): bytes of all strings of a row of `spans`, and how many strings or integers are
        there.
    more
        Further columns, in any form.
    """

    shape: BlockShape
    n: int
    text: NDArray[np.uint8]
    numbers: NDArray[np.float64]
    integers: NDArray[np.int64]
    given: NDArray[np.uint8]
    spans: NDArray[np.int32]
    totals: NDArray[np.int64]
    more: Mapping[str, Any]

    def __or__(self, more: Mapping[str, Any]) -> RowBlock:
        """The block with further columns."""
        return RowBlock(
            self.shape, self.n, self.text, self.numbers, self.integers, self.given, self.spans, self.totals,
            {**self.more, **more},
        )  # fmt: skip

    def __getitem__(self, name: str) -> Any:
        if name in self.more:
            return self.more[name]
        kind, k = self.shape.places[name]
        if kind == NUMBER:
            return self.numbers[k, : self.n]
        if kind == STRING:
            return self._strings(self.spans[k, : self.n])
        values, given = self.integers[k, : self.n], self.given[k, : self.n]
        return values if given.all() else pa.array(values, mask=given == 0)

    def __iter__(self) -> Iterator[str]:
        yield from self.shape.places
        yield from self.more

    def __len__(self) -> int:
        return len(self.shape.places) + len(self.more)

    def _strings(self, spans: NDArray[np.int32]) -> Any:
        data = self.text.tobytes()
        return pa.array(
            [None if size < 0 else data[at : at + size].decode() for at, size in spans.tolist()], pa.string()
        )
